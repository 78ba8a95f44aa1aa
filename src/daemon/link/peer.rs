//! The link's conversation put to work: what [`State`] decides is done to the socket, the stores and the other threads.

mod early;
mod events;
mod keys;
mod told;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::base::time::now_millis;
use crate::crypto::keys::SecretKey;
use crate::net::ws::{self, Flow, Outbox};
use crate::store::RowId;
use crate::store::inbox::{Inserted, NewInbound, Recipient};
use crate::store::outbox::Route;
use crate::wire::client::{ClientFrame, ListPeers};
use crate::wire::code::Code;
use crate::wire::ipc::LinkStatus;
use crate::wire::json;
use crate::wire::limits::SEND_WINDOW;
use crate::wire::receipt::Forwarded;
use crate::wire::server::{Feature, HelloAck, Push};
use crate::wire::skill::SKILL_CHANGE;

use self::early::Awaited;
use self::keys::Keys;
use super::ending::Ending;
use super::receipts::Outlet;
use super::state::{Answer, Effect, Outgoing, State};
use super::{Cmd, Identity, Reply};
use crate::daemon::alert;
use crate::daemon::ctx::Ctx;
use crate::daemon::drain::{self, Epoch};
use crate::daemon::{inbound, upkeep};

/// Messages of one burst that are stored in one transaction.
const BATCH: usize = 64;

/// How long a session's link must have been open for it to have had its own copy of what arrives at the member's now. A
/// message may be on its way while the session opens: twice is better than not at all.
const SETTLED: Duration = Duration::from_secs(2);

/// Acknowledgements that are kept until the hello is accepted.
const MAX_EARLY: usize = 1024;

/// One connection's conversation and what it has gathered in the current burst.
pub(super) struct Talk<'a> {
    ctx: &'a Arc<Ctx>,
    identity: &'a Identity,
    route: &'a Route,
    serial: u64,
    /// Set when there may be something to tell senders.
    owes: &'a AtomicBool,
    epoch: Epoch,
    /// Whatever the broker promises.
    one_at_a_time: bool,
    /// An earlier connection of this link was open, and may have been given messages after its end.
    resumed: bool,
    state: State,
    /// The hello, until it is sent.
    hello: Option<ClientFrame>,
    effects: Vec<Effect>,
    arrived: Vec<Push>,
    answered: Vec<(RowId, Answer)>,
    waiting: HashMap<u64, Sender<Reply>>,
    next_ticket: u64,
    done: Done,
    /// Acknowledgements of what came before the hello was accepted: the reference's broker would not hear them yet.
    early: Vec<String>,
    /// What is told to senders here.
    outlet: Outlet,
    /// What recipients said of messages that were sent from here.
    said: Vec<Forwarded>,
    /// It could not be kept, and is tried again then.
    said_again: Option<Instant>,
    keys: Keys,
    /// Requests that came before the hello was accepted.
    awaited: Awaited,
}

/// How a conversation ended, for the thread that decides what follows.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// We were told to stop.
    pub(super) stopped: bool,
    pub(super) ending: Option<Ending>,
    /// A message went through in either direction.
    pub(super) useful: bool,
}

impl<'a> Talk<'a> {
    pub(super) fn new(
        ctx: &'a Arc<Ctx>,
        identity: &'a Identity,
        (route, serial, owes): (&'a Route, u64, &'a AtomicBool),
        epoch: Epoch,
        (one_at_a_time, resumed, first): (bool, bool, bool),
        now: Instant,
    ) -> Talk<'a> {
        Talk {
            ctx,
            identity,
            route,
            serial,
            owes,
            epoch,
            one_at_a_time,
            resumed,
            state: State::new(epoch, now),
            hello: Some(identity.hello()),
            effects: Vec::new(),
            arrived: Vec::new(),
            answered: Vec::new(),
            waiting: HashMap::new(),
            next_ticket: 0,
            done: Done::default(),
            early: Vec::new(),
            outlet: Outlet::default(),
            said: Vec::new(),
            said_again: None,
            keys: Keys::default(),
            awaited: Awaited::new(first),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// The message on its way, if it is alone.
    pub(super) fn lone_send(&self) -> Option<RowId> {
        self.state.lone_send()
    }

    /// After the connection's end: everything that waits is answered. `too_big`: what is on its way is the reason.
    pub(super) fn finish(mut self, too_big: bool) -> Done {
        let mut effects = std::mem::take(&mut self.effects);
        std::mem::replace(&mut self.state, State::new(self.epoch, Instant::now())).end(too_big, &mut effects);
        for effect in effects {
            match effect {
                Effect::Answered(row, answer) => self.answered.push((row, answer)),
                Effect::Replied(ticket, reply) => self.reply(ticket, reply),
                _ => {}
            }
        }
        self.awaited.lose();
        self.pass_answers();
        self.done
    }

    fn perform(&mut self, out: &mut Outbox) -> Flow {
        let mut effects = std::mem::take(&mut self.effects).into_iter();
        while let Some(effect) = effects.next() {
            match effect {
                Effect::Frame(frame) => out.text(frame.encode()),
                Effect::Ping => out.ping(),
                Effect::Opened(ack) => {
                    self.early.drain(..).for_each(|ack| out.text(ack));
                    self.opened(&ack, out);
                }
                Effect::Receipts(said) => self.said.extend(said),
                Effect::Changed(change) => self.changed("state_change", json::value(&change)),
                Effect::SkillChanged(change) => self.changed(SKILL_CHANGE, json::value(&change)),
                Effect::KeysNeeded(scopes) => self.keys_needed(scopes, out),
                Effect::KeyGiven(scope, epoch) => self.key_given(scope, epoch, out),
                Effect::Answered(row, answer) => {
                    self.done.useful |= matches!(answer, Answer::Accepted { .. });
                    self.answered.push((row, answer));
                }
                Effect::Replied(ticket, reply) => match self.keys.take(ticket) {
                    Some(answered) => self.key_answered(answered, reply, out),
                    None => self.reply(ticket, reply),
                },
                // A second hello of a member would be a second connection to the reference's broker. What that held back while
                // the member was gone its sessions are given; where there are none, only a new connection is.
                Effect::Greet if self.identity.session.is_some() => out.text(self.identity.hello().encode()),
                Effect::Greet if self.resumed && !self.ctx.links.has_session_open_for(&self.route.mesh, Duration::ZERO) => {
                    return self.close(Ending::LookAgain, (1001, "back at once"), effects);
                }
                Effect::Greet => {}
                Effect::Ask => self.ask(out),
                Effect::Pushed(push) if push.is_system() => self.system(&push),
                Effect::Pushed(push) => self.arrived.push(*push),
                Effect::Close(ending) => return self.close(ending, (1000, ""), effects),
            }
        }
        if BATCH <= self.arrived.len() { self.keep(out) } else { Flow::Go }
    }

    /// Answers that came together with the reason for the end are given with it.
    fn close(&mut self, ending: Ending, (code, reason): (u16, &'static str), rest: impl Iterator<Item = Effect>) -> Flow {
        self.done.ending = Some(ending);
        self.effects.extend(rest);
        Flow::close(code, reason)
    }

    fn opened(&mut self, ack: &HelloAck, out: &mut Outbox) {
        let ordered = ack.features.contains(&Feature::OrderedSend);
        self.ctx.links.report(self.route, self.serial, |report| {
            report.clock_skew_ms = ack.server_time.map(|time| time - now_millis());
            report.keeps_keys = Some(ack.features.contains(&Feature::ScopeKeys));
        });
        if ack.features.contains(&Feature::Receipts) {
            self.receipts_pass(out);
        }
        self.keys.kept = ack.features.contains(&Feature::ScopeKeys);
        // A new connection begins blank; what the session said of itself is said again.
        for frame in self.identity.session.iter().flat_map(|session| session.outward().frames()) {
            out.text(frame.encode());
        }
        self.ctx.report_link(self.route, self.serial, LinkStatus::Open, None);
        // A broker that answers out of order gets one message at a time, or the order of a conversation would be lost.
        let window = if ordered && !self.one_at_a_time { SEND_WINDOW } else { 1 };
        self.ctx.drain.tell(drain::Event::LinkUp(self.route.clone(), window, self.epoch));
        self.want_late_keys(out);
        self.ask_awaited(Instant::now(), out);
    }

    /// Nobody waits for this answer; if there is none, the state ends the connection.
    fn ask(&mut self, out: &mut Outbox) {
        let frame = |id| ClientFrame::ListPeers(ListPeers { req_id: Some(id), away: false });
        self.put(Box::new(frame), out);
    }

    /// Whether a message was accepted for this link's mesh, by its member. Its name may have come to mean another.
    fn is_for(&self, outgoing: &Outgoing) -> bool {
        let own = &self.identity.membership;
        outgoing.membership.as_ref().is_none_or(|accepted| accepted.mesh == own.mesh && accepted.member == own.key)
    }

    fn reply(&mut self, ticket: u64, reply: Reply) {
        self.handed_in(ticket, &reply);
        if let Some(waiting) = self.waiting.remove(&ticket) {
            // Whoever asked may have stopped waiting; then nobody needs it.
            let _ = waiting.send(reply);
        }
    }

    /// Stores what has arrived, in one transaction, and only then acknowledges it.
    fn keep(&mut self, out: &mut Outbox) -> Flow {
        if self.arrived.is_empty() || self.awaits_keys(out) {
            return Flow::Go;
        }
        let missing = self.missing();
        let pushes = std::mem::take(&mut self.arrived);
        let membership = &self.identity.membership;
        let session_secret = self.identity.session.as_ref().and_then(|session| session.key.as_ref()).map(|key| &key.secret);
        let receiver = inbound::Receiver {
            mesh: &membership.slug,
            mesh_id: &membership.mesh,
            name: self.identity.session.as_ref().map(|session| session.name.as_str()),
            recipient: inbound::recipient(membership.key, self.identity.session_key()),
            member: membership.key,
            secrets: session_secret.into_iter().chain([&membership.secret as &SecretKey]).collect(),
            receipts: self.outlet.is_on() && self.ctx.settings().receipts,
        };
        // Sessions see their member's mail too: what each of them was given itself must not be there a second time.
        let is_member = self.identity.session.is_none();
        let own_copies = is_member && self.ctx.links.has_session_open_for(&membership.slug, SETTLED);
        let keyless = own_copies && self.ctx.sessions.has_keyless(&membership.slug);
        let row = |push| {
            let has_copies = own_copies && inbound::is_for_every_connection(push);
            let row = (!has_copies || keyless).then(|| receiver.accept(push, &self.ctx.channels, &self.ctx.keyring))?;
            Some(if has_copies { NewInbound { recipient: Recipient::Keyless(membership.key), ..row } } else { row })
        };
        let rows: Vec<NewInbound> = pushes.iter().filter_map(row).collect();
        let sender = alert::sender(self.ctx, self.identity.session.as_ref(), &rows);
        let inserted = match self.ctx.inbox.insert(rows) {
            Ok(inserted) => inserted,
            Err(err) => {
                log::error!("inbox: {err}; {} messages are left with the broker", pushes.len());
                self.ctx.store_failed(&err);
                self.done.ending = Some(Ending::Store);
                return Flow::close(1000, "");
            }
        };
        upkeep::follow(self.ctx, membership);
        self.stored_without(&missing);
        for push in &pushes {
            let ack = State::ack(push).encode();
            match self.state.is_open() {
                true => out.text(ack),
                false if self.early.len() < MAX_EARLY => self.early.push(ack),
                // The broker repeats it, and it is acknowledged then.
                false => {}
            }
        }
        self.done.useful = true;
        if inserted.iter().any(|outcome| matches!(outcome, Inserted::New(_))) {
            self.ctx.bus.mail(receiver.mesh, &receiver.recipient);
            self.outlet.more(Instant::now());
            if let Some(sender) = sender {
                alert::give(self.ctx, sender, receiver.mesh.to_string());
            }
        }
        Flow::Go
    }

    fn pass_answers(&mut self) {
        if !self.answered.is_empty() {
            let answers = std::mem::take(&mut self.answered);
            self.ctx.drain.tell(drain::Event::Answered(self.route.clone(), answers));
        }
    }
}

impl ws::Peer for Talk<'_> {
    type Cmd = Cmd;

    fn on_start(&mut self, _now: Instant, out: &mut Outbox) -> Flow {
        if let Some(hello) = self.hello.take() {
            out.text(hello.encode());
        }
        Flow::Go
    }

    fn on_alive(&mut self, now: Instant) {
        self.state.alive(now);
    }

    fn on_text(&mut self, text: &str, now: Instant, out: &mut Outbox) -> Flow {
        self.state.on_text(text, now, &mut self.effects);
        self.perform(out)
    }

    fn on_cmd(&mut self, cmd: Cmd, now: Instant, out: &mut Outbox) -> Flow {
        match cmd {
            Cmd::Send(outgoing) if !self.is_for(&outgoing) => {
                let text = format!(
                    "{}: \"{}\" was another mesh, or another member's, when it was accepted",
                    Code::MeshChanged,
                    self.route.mesh
                );
                let answer = Answer::Refused { code: Code::MeshChanged, text, retry_after_ms: None };
                self.effects.push(Effect::Answered(outgoing.row, answer));
            }
            Cmd::Send(outgoing) => self.state.send(*outgoing, now, &mut self.effects),
            Cmd::Call(call) => self.called(*call, now),
            Cmd::NeedKey(scope) => self.need_key(scope, out),
            Cmd::Receipts | Cmd::Reconnect => {}
            Cmd::Stop(farewell) => return self.stop(farewell, out),
        }
        self.perform(out)
    }

    fn on_burst_end(&mut self, now: Instant, out: &mut Outbox) -> Flow {
        if self.owes.swap(false, Ordering::AcqRel) {
            self.outlet.more(now);
        }
        self.pass_answers();
        self.take_receipts(now, out);
        self.keep(out)
    }

    fn deadline(&self) -> Option<Instant> {
        [self.outlet.deadline(), self.said_again].into_iter().flatten().chain([self.state.deadline()]).min()
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Flow {
        self.state.on_deadline(now, &mut self.effects);
        if self.outlet.begin(now) {
            self.tell_senders(now);
        }
        self.perform(out)
    }
}
