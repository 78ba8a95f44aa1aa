//! One link to one broker: a thread that dials, says hello as a member or as a session, talks until the connection ends,
//! and does it again.

mod ending;
mod identity;
mod peer;
mod receipts;
mod state;
mod unanswered;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::base::backoff::Backoff;
use crate::base::thread::{self, Running};
use crate::crypto::random;
use crate::net::{dial, ws};
use crate::store::RowId;
use crate::store::outbox::Route;
use crate::wire::client::ClientFrame;
use crate::wire::code::Code;
use crate::wire::ipc::{LinkFault, LinkStatus};
use crate::wire::key::Scope;
use crate::wire::mesh_api::MESH_DELETED;
use crate::wire::server::ServerFrame;

use self::ending::Ending;
pub(super) use self::identity::Identity;
use self::peer::Talk;
pub(super) use self::state::{Answer, Outgoing};
use super::ctx::Ctx;
use super::drain;
use super::links::Why;
use super::reopen;

/// Commands that wait for a link. When full, a row stays in the outbox and a request is refused; both try again.
const QUEUE: usize = 300;

/// From the first packet of a dial to the end of the WebSocket handshake.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Delays between attempts to connect, doubled from the first to the last.
const RECONNECT_FROM: Duration = Duration::from_millis(200);
const RECONNECT_TO: Duration = Duration::from_secs(30);

/// From the end of one connection of a key to the dialling of the next. The reference's broker takes a while to note an end, and
/// one that returns meanwhile is forgotten later, with its socket open.
const SETTLE: Duration = Duration::from_millis(150);

/// Delay after a broker refused who we are: only somebody's action can change its answer.
const REFUSED_RETRY: Duration = Duration::from_secs(60);

/// Connections that one message alone must have ended before it is given up as too large for its broker.
const SUSPECTED: u32 = 5;

/// How long a link that has stopped still answers what was put into its queue meanwhile.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A broker's frames are larger than ours only where it lists many peers.
const SOCKET: ws::Limits = ws::Limits { max_message: 4 * 1024 * 1024, read_buffer: 4096 };

/// What a link is told.
#[derive(Debug)]
pub(super) enum Cmd {
    Send(Box<Outgoing>),
    Call(Box<Call>),
    /// There may be something to tell senders: its flag in the table of links says so, too.
    Receipts,
    /// The key that a mesh or a topic uses is wanted: the drain hears of it once it is there.
    NeedKey(Scope),
    /// Dial now, whatever the reason was not to; where there is a connection it means nothing.
    Reconnect,
    Stop(Farewell),
}

/// A broker's answer; `None` from one that carries such a request out in silence.
pub(super) type Reply = Result<Option<ServerFrame>, Code>;

/// A request to the broker, and where its answer goes.
pub(super) struct Call {
    /// Makes the frame from the id under which the answer will come.
    pub(super) frame: Box<dyn FnOnce(String) -> ClientFrame + Send>,
    pub(super) reply: Sender<Reply>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

/// Why a link is stopped: the broker keeps the place of a peer that will be back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The daemon stops, or this link is replaced by another.
    BackSoon,
    /// The session is over, or the mesh was left.
    Ended,
}

impl Farewell {
    /// Close code and reason on the wire.
    fn close(self) -> (u16, &'static str) {
        match self {
            Farewell::BackSoon => (1001, "daemon stopping"),
            Farewell::Ended => (1000, "session_ended"),
        }
    }
}

/// Starts a link and enters it in the table of links under `serial`.
/// `follows`: there was a connection of the same key a moment ago.
pub(super) fn start(ctx: &Arc<Ctx>, identity: Identity, serial: u64, follows: bool) -> io::Result<Running> {
    let (handle, inbox) = ws::channel(QUEUE)?;
    let route = identity.route();
    let owes = ctx.links.insert(route.clone(), serial, handle);
    let short = identity.session_key().map_or_else(|| "member".to_owned(), |key| key.0.short());
    let mut link = Link {
        ctx: ctx.clone(),
        identity,
        route,
        serial,
        owes,
        one_at_a_time: false,
        suspect: None,
        not_before: follows.then(|| Instant::now() + SETTLE),
        resumes: false,
        first: true,
    };
    thread::spawn(&format!("link-{short}"), thread::CONNECTION_STACK, move || link.run(&inbox))
}

/// The thread's own state.
#[derive(Debug)]
struct Link {
    ctx: Arc<Ctx>,
    identity: Identity,
    route: Route,
    serial: u64,
    /// There may be something to tell senders.
    owes: Arc<AtomicBool>,
    /// The broker closed the last connection on a frame that was too large for it. One message at a time shows which.
    one_at_a_time: bool,
    /// The message that was alone on its way when that happened, and how often.
    suspect: Option<(RowId, u32)>,
    /// When the next connection may be dialled, whoever wants one sooner.
    not_before: Option<Instant>,
    /// The next connection takes up one that the broker still knows, and was not closed for that alone.
    resumes: bool,
    /// No connection has been tried yet: who asks for something waits for it, and is not told that there is none.
    first: bool,
}

/// What follows a connection's end.
enum Next {
    Stop,
    /// Dial again, from the first delay if the connection was of use.
    Again {
        useful: bool,
        why: Why,
    },
    /// Dial again, but not soon.
    Refused(Why),
    /// Dial again when the time is over for which the broker lets nobody in; where that is not known, never on our own.
    KeptOut(Why, Option<Duration>),
}

impl Link {
    fn run(&mut self, inbox: &ws::Inbox<Cmd>) {
        // A link begins when a key appears: with the mesh, or with the session.
        reopen::retry(&self.ctx, &self.identity);
        let mut backoff = Backoff::new(RECONNECT_FROM, RECONNECT_TO);
        loop {
            if self.settle(inbox).is_break() {
                break;
            }
            self.report(LinkStatus::Connecting, None);
            let next = self.connect(inbox);
            let wait = match next {
                Next::Stop => break,
                Next::Again { useful, why } => {
                    if useful {
                        backoff.reset();
                    }
                    self.report(LinkStatus::Reconnecting, Some(why));
                    Some(backoff.next(random::unit_f64()))
                }
                Next::Refused(why) => {
                    self.report(LinkStatus::Reconnecting, Some(why));
                    Some(REFUSED_RETRY.mul_f64(0.8 + random::unit_f64() / 5.0))
                }
                Next::KeptOut(why, wait) => {
                    self.report(LinkStatus::Closed, Some(why));
                    wait.map(|wait| wait + SETTLE)
                }
            };
            if self.pause(inbox, wait).is_break() {
                break;
            }
        }
        self.report(LinkStatus::Closed, None);
        self.ctx.links.remove(&self.route, self.serial);
        // Whoever still holds a handle lets go of it soon; what it put into the queue must not be left unanswered.
        let until = Instant::now() + LAST_WORDS;
        while let Ok(cmd) = inbox.recv_deadline(Some(until)) {
            self.decline(cmd);
        }
    }

    /// Answers what can not be done without a connection.
    fn decline(&self, cmd: Cmd) {
        match cmd {
            Cmd::Send(outgoing) => {
                self.ctx.drain.tell(drain::Event::Answered(self.route.clone(), vec![(outgoing.row, Answer::Lost)]));
            }
            // Whoever asked is told, or has stopped waiting.
            Cmd::Call(call) => drop(call.reply.send(Err(Code::ConnectionLost))),
            Cmd::NeedKey(_) | Cmd::Reconnect | Cmd::Receipts | Cmd::Stop(_) => {}
        }
    }

    /// One connection from dial to end.
    fn connect(&mut self, inbox: &ws::Inbox<Cmd>) -> Next {
        let url = match dial::Url::parse(&self.identity.membership.broker_url) {
            Ok(url) => url,
            Err(err) => {
                let text = format!("brokerUrl in config.json is no address: {err}");
                return Next::KeptOut(Why::new(LinkFault::NoAddress, text), None);
            }
        };
        let first = std::mem::take(&mut self.first);
        let mut socket = match dial::connect(&url, SOCKET, Instant::now() + DIAL_DEADLINE) {
            Ok(socket) => socket,
            Err(err) => return Next::Again { useful: false, why: Why::new(fault_of(&err), err.to_string()) },
        };
        let epoch = self.ctx.next_epoch();
        let now = Instant::now();
        let manner = (self.one_at_a_time, self.resumes, first);
        let mut talk = Talk::new(&self.ctx, &self.identity, (&self.route, self.serial, &self.owes), epoch, manner, now);
        let end = ws::run(&mut socket, &mut talk, inbox);
        let was_open = talk.is_open();
        let too_big = matches!(end, ws::End::ClosedByPeer { code: ws::code::TOO_BIG, .. });
        let refused = too_big && suspects(&mut self.suspect, talk.lone_send());
        let done = talk.finish(refused);
        self.one_at_a_time = too_big;
        self.not_before = Some(Instant::now() + SETTLE);
        // Whether or not it answered the hello, it may have taken it.
        self.resumes = done.ending != Some(Ending::LookAgain);
        if was_open {
            self.ctx.drain.tell(drain::Event::LinkDown(self.route.clone(), epoch));
            self.ctx.rosters.forget(&self.route.mesh);
        }
        if done.stopped {
            return Next::Stop;
        }
        let text = done.ending.as_ref().map_or_else(|| end.to_string(), ending_text);
        let why = |fault| Why { fault, text: text.clone() };
        match (done.ending, end) {
            (Some(Ending::Refused(Code::Kicked, _, wait)), _) => {
                Next::KeptOut(why(LinkFault::Kicked), wait.map(Duration::from_millis))
            }
            (Some(Ending::Refused(Code::Revoked, ..)), _) => Next::KeptOut(why(LinkFault::Banned), None),
            (Some(Ending::Refused(code, ..)), _) if code.retry() == crate::wire::code::Retry::Never => {
                Next::Refused(why(LinkFault::Refused))
            }
            (_, ws::End::ClosedByPeer { code: 4001, .. }) => {
                Next::KeptOut(Why::new(LinkFault::Kicked, "kicked from this mesh"), None)
            }
            (_, ws::End::ClosedByPeer { code: 4002, reason }) if reason == MESH_DELETED => {
                Next::KeptOut(Why::new(LinkFault::Deleted, "the mesh was deleted"), None)
            }
            (_, ws::End::ClosedByPeer { code: 4002, .. }) => {
                Next::KeptOut(Why::new(LinkFault::Banned, "banned from this mesh"), None)
            }
            _ => Next::Again { useful: done.useful, why: why(LinkFault::Ended) },
        }
    }

    /// Waits until the next connection may be dialled.
    fn settle(&mut self, inbox: &ws::Inbox<Cmd>) -> std::ops::ControlFlow<()> {
        while let Some(until) = self.not_before.filter(|at| Instant::now() < *at) {
            self.pause(inbox, Some(until.saturating_duration_since(Instant::now())))?;
        }
        std::ops::ControlFlow::Continue(())
    }

    /// Waits before the next attempt, and answers what comes meanwhile.
    fn pause(&self, inbox: &ws::Inbox<Cmd>, wait: Option<Duration>) -> std::ops::ControlFlow<()> {
        let until = wait.map(|wait| Instant::now() + wait);
        loop {
            match inbox.recv_deadline(until) {
                Ok(Cmd::Stop(_)) | Err(ws::NoCmd::Orphaned) => return std::ops::ControlFlow::Break(()),
                Ok(Cmd::Reconnect) => return std::ops::ControlFlow::Continue(()),
                Ok(cmd) => self.decline(cmd),
                Err(ws::NoCmd::Timeout) => return std::ops::ControlFlow::Continue(()),
            }
        }
    }

    fn report(&self, status: LinkStatus, why: Option<Why>) {
        self.ctx.report_link(&self.route, self.serial, status, why);
    }
}

/// Whether the message that was alone on its way has ended connections often enough to be given up. A stream that was
/// garbled on its way looks the same to a broker, and may by chance end with any message.
fn suspects(suspect: &mut Option<(RowId, u32)>, alone: Option<RowId>) -> bool {
    let Some(row) = alone else { return false };
    let times = suspect.take().filter(|(last, _)| *last == row).map_or(0, |(_, times)| times) + 1;
    *suspect = Some((row, times));
    SUSPECTED <= times
}

/// What is to be put right before a dial succeeds.
fn fault_of(err: &dial::Error) -> LinkFault {
    match err {
        dial::Error::Resolve(_) => LinkFault::UnknownHost,
        dial::Error::Tls(_) => LinkFault::Tls,
        // A proxy whose broker is away says so by itself, and one that is asked too often lets it be asked later.
        dial::Error::Rejected(ws::Rejected::Status(head)) if matches!(head.status, 408 | 429 | 500..600) => {
            LinkFault::Unreachable
        }
        dial::Error::Rejected(ws::Rejected::Status(_) | ws::Rejected::Malformed(_)) => LinkFault::NoBroker,
        dial::Error::Connect(_) | dial::Error::Rejected(_) | dial::Error::Timeout => LinkFault::Unreachable,
    }
}

fn ending_text(ending: &Ending) -> String {
    match ending {
        Ending::HelloTimeout => "the broker did not answer the hello".to_owned(),
        Ending::Refused(Code::TimestampSkew, ..) => {
            "the broker refused the hello: this machine's clock and the broker's differ by more than a minute".to_owned()
        }
        Ending::Refused(Code::Kicked, text, _) => crate::base::names::neutralise_line(text),
        Ending::Refused(code, text, _) => {
            format!("the broker refused the hello: {code}: {}", crate::base::names::neutralise_line(text))
        }
        Ending::Stale => "nothing was heard from the broker for too long".to_owned(),
        Ending::Unanswered => "the broker left a message or a request unanswered".to_owned(),
        Ending::Garbled => "what came from the broker is not of its protocol".to_owned(),
        Ending::Store => "the inbox can not be written".to_owned(),
        Ending::LookAgain => "closed for a moment: the broker shows only then what it held back".to_owned(),
    }
}
