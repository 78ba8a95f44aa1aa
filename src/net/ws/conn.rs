//! The loop of one connection.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, Utf8Bytes};

use super::channel::Popped;
use super::{End, Flow, Inbox, Outbox, Peer, code};
use crate::sys::poll;

/// Frames read, and commands taken, before the other side of the loop gets its turn.
const BURST: usize = 64;

/// How long the peer may take to answer our Close, or to hang up after its own.
const CLOSING: Duration = Duration::from_secs(2);

/// How long we read on past a broken frame. Dropping the socket with unread input would reset it, and the reset could
/// overtake the Close that says what was wrong.
const LINGER: Duration = Duration::from_secs(1);

/// RFC 6455, 5.5: a control frame holds 125 bytes, two of them the code.
const MAX_REASON: usize = 123;

pub(super) struct Conn<'a, S, P: Peer> {
    ws: &'a mut tungstenite::WebSocket<S>,
    peer: &'a mut P,
    inbox: &'a Inbox<P::Cmd>,
    out: Outbox,
    closing: Option<Closing>,
    /// The socket takes no more: nothing is written and no command is taken until poll says it does.
    blocked: bool,
    /// The last read found nothing in the kernel, in TLS or in the codec. Until one has, there may be more to read
    /// although poll shows nothing.
    drained: bool,
    /// The state was called since its last `on_burst_end`, or there is room again for what it has to say.
    touched: bool,
}

struct Closing {
    until: Instant,
    end: End,
}

/// What breaks out of the loop.
enum Stop {
    Socket(Error),
    /// The close handshake took too long.
    Late,
    Wait(io::Error),
    NotUtf8,
    Paused,
}

impl From<Error> for Stop {
    fn from(err: Error) -> Stop {
        Stop::Socket(err)
    }
}

impl<'a, S: Read + Write + AsFd, P: Peer> Conn<'a, S, P> {
    pub(super) fn new(ws: &'a mut tungstenite::WebSocket<S>, peer: &'a mut P, inbox: &'a Inbox<P::Cmd>) -> Conn<'a, S, P> {
        Conn { ws, peer, inbox, out: Outbox::new(), closing: None, blocked: false, drained: false, touched: true }
    }

    pub(super) fn run(mut self) -> End {
        let now = Instant::now();
        let flow = self.peer.on_start(now, &mut self.out);
        if let Err(stop) = self.follow(flow, now) {
            return self.end(stop);
        }
        loop {
            if let Err(stop) = self.turn() {
                return self.end(stop);
            }
        }
    }

    fn turn(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        self.flush()?;
        self.take_commands(now)?;
        self.flush()?;
        self.read_burst(now)?;
        let now = Instant::now();
        if self.closing.is_none() && self.peer.deadline().is_some_and(|at| at <= now) {
            self.touched = true;
            let flow = self.peer.on_deadline(now, &mut self.out);
            self.follow(flow, now)?;
        }
        if self.closing.is_none() && std::mem::take(&mut self.touched) {
            let flow = self.peer.on_burst_end(now, &mut self.out);
            self.follow(flow, now)?;
        }
        self.pump()?;
        // A pong queued by a read is flushed here too; one that does not fit makes us wait for room.
        self.flush()?;
        self.sleep()
    }

    /// Commands, each followed by the frames it made, for as long as the socket takes them: the bounded queue is the
    /// limit that callers see, so nothing leaves it while the socket is full.
    fn take_commands(&mut self, now: Instant) -> Result<(), Stop> {
        self.pump()?;
        for _ in 0..BURST {
            if self.blocked || self.closing.is_some() || !self.peer.wants_cmd() {
                break;
            }
            let flow = match self.inbox.pop() {
                Popped::Cmd(cmd) => {
                    self.touched = true;
                    self.peer.on_cmd(cmd, now, &mut self.out)
                }
                Popped::Empty => break,
                Popped::Orphaned => Flow::close(code::GOING_AWAY, ""),
            };
            self.follow(flow, now)?;
            self.pump()?;
        }
        Ok(())
    }

    fn read_burst(&mut self, now: Instant) -> Result<(), Stop> {
        for _ in 0..BURST {
            if !self.may_read() {
                return Ok(());
            }
            let message = match self.ws.read() {
                Ok(message) => message,
                Err(err) if would_block(&err) => {
                    self.drained = true;
                    return Ok(());
                }
                Err(err) => return Err(err.into()),
            };
            self.drained = false;
            if self.closing.is_some() {
                continue;
            }
            self.peer.on_alive(now);
            match message {
                Message::Text(text) => self.on_text(&text, now)?,
                // Some senders do not mark their text as such.
                Message::Binary(bytes) => self.on_text(std::str::from_utf8(&bytes).map_err(|_| Stop::NotUtf8)?, now)?,
                Message::Close(frame) => {
                    let (code, reason) =
                        frame.map_or((code::NONE, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    self.out.clear();
                    if std::mem::take(&mut self.touched) {
                        // What came in the same burst was complete, and its sender will not send it again.
                        let _ = self.peer.on_burst_end(now, &mut Outbox::new());
                    }
                    self.closing = Some(Closing { until: now + CLOSING, end: End::ClosedByPeer { code, reason } });
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(())
    }

    fn on_text(&mut self, text: &str, now: Instant) -> Result<(), Stop> {
        self.touched = true;
        let flow = self.peer.on_text(text, now, &mut self.out);
        self.follow(flow, now)
    }

    fn may_read(&self) -> bool {
        self.closing.is_some() || (self.out.has_room() && self.peer.wants_read())
    }

    /// Moves frames from the outbox towards the socket until it takes no more.
    fn pump(&mut self) -> Result<(), Stop> {
        let had_room = self.out.has_room();
        while !self.blocked {
            let Some(message) = self.out.pop() else { break };
            self.blocked = !settle(self.ws.write(message))?;
        }
        // A state that held back for want of room may go on.
        self.touched |= !had_room && self.out.has_room();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        self.blocked = !settle(self.ws.flush())?;
        Ok(())
    }

    fn follow(&mut self, flow: Flow, now: Instant) -> Result<(), Stop> {
        let (code, reason) = match flow {
            _ if self.out.overflowed() => (code::TRY_LATER, Cow::Borrowed("too much to send")),
            Flow::Go => return Ok(()),
            Flow::Pause => {
                // The codec has them from here on, and writes them first when the connection runs again.
                while let Some(message) = self.out.pop() {
                    settle(self.ws.write(message))?;
                }
                return Err(Stop::Paused);
            }
            Flow::Close { code, reason } => (code, reason),
        };
        // What was said before the Close goes out before it; a full socket is no obstacle, the codec keeps the rest.
        while let Some(message) = self.out.pop() {
            settle(self.ws.write(message))?;
        }
        if std::mem::take(&mut self.touched) {
            // What the burst brought must still reach storage; what this says, and whether it agrees, no longer matters.
            let _ = self.peer.on_burst_end(now, &mut Outbox::new());
        }
        self.closing = Some(Closing { until: now + CLOSING, end: End::ClosedByUs { code } });
        self.blocked = !settle(self.ws.close(Some(close_frame(code, &reason))))?;
        Ok(())
    }

    fn sleep(&mut self) -> Result<(), Stop> {
        let reading = self.may_read();
        let commands = self.closing.is_none() && !self.blocked && self.peer.wants_cmd() && self.inbox.is_ready();
        let until = match &self.closing {
            Some(closing) => Some(closing.until),
            None => self.peer.deadline(),
        };
        let now = Instant::now();
        if self.closing.is_some() && until.is_some_and(|at| at <= now) {
            return Err(Stop::Late);
        }
        let touched = self.touched && self.closing.is_none();
        let timeout = match touched || commands || (reading && !self.drained) {
            true => Some(Duration::ZERO),
            false => until.map(|at| at.saturating_duration_since(now)),
        };
        poll::wait_one(self.ws.get_ref().as_fd(), reading, self.blocked, Some(self.inbox.bell()), timeout).map_err(Stop::Wait)?;
        Ok(())
    }

    fn end(mut self, stop: Stop) -> End {
        if self.closing.is_none() && !matches!(stop, Stop::Paused) && std::mem::take(&mut self.touched) {
            // What came before the break was complete, and its sender will not send it again.
            let _ = self.peer.on_burst_end(Instant::now(), &mut Outbox::new());
        }
        let closing = self.closing.take();
        let fault = match stop {
            Stop::Paused => return End::Paused,
            Stop::NotUtf8 => (code::NOT_UTF8, "binary frame that is not UTF-8".to_owned()),
            Stop::Wait(err) => return End::Lost(err),
            Stop::Late => return closing.map_or_else(lost, |closing| closing.end),
            Stop::Socket(err) => match (err, closing) {
                // After a Close, however the socket goes, it is closed.
                (Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) | Error::Protocol(_), Some(closing)) => {
                    return closing.end;
                }
                (Error::Io(err), None) => return End::Lost(err),
                (Error::Protocol(ProtocolError::ResetWithoutClosingHandshake), None) => return lost(),
                (Error::ConnectionClosed | Error::AlreadyClosed, None) => return lost(),
                (Error::Capacity(err), _) => (code::TOO_BIG, err.to_string()),
                (err @ Error::Utf8(_), _) => (code::NOT_UTF8, err.to_string()),
                (err, _) => (code::PROTOCOL, err.to_string()),
            },
        };
        let (code, what) = fault;
        self.linger(code, &what);
        End::Protocol { code, what }
    }

    /// Says what was wrong, and reads past it. The codec has lost its place in the stream, so bytes are thrown away as
    /// they come.
    // Its buffer would else be part of every connection's stack.
    #[inline(never)]
    fn linger(&mut self, code: u16, what: &str) {
        let until = Instant::now() + LINGER;
        let mut blocked = match settle(self.ws.close(Some(close_frame(code, what)))) {
            Ok(done) => !done,
            Err(_) => return,
        };
        let mut sink = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self.ws.get_mut().read(&mut sink) {
                Ok(0) => return,
                Ok(_) => continue,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if poll::wait_one(self.ws.get_ref().as_fd(), true, blocked, None, Some(left)).is_err() {
                return;
            }
            if blocked {
                match settle(self.ws.flush()) {
                    Ok(done) => blocked = !done,
                    Err(_) => return,
                }
            }
        }
    }
}

fn lost() -> End {
    End::Lost(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer hung up"))
}

/// `Ok(false)`: the bytes are in the codec's buffer, the socket is full.
fn settle(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(err) if would_block(&err) => Ok(false),
        Err(err) => Err(err),
    }
}

fn would_block(err: &Error) -> bool {
    matches!(err, Error::Io(err) if err.kind() == io::ErrorKind::WouldBlock || err.kind() == io::ErrorKind::Interrupted)
}

fn close_frame(code: u16, reason: &str) -> CloseFrame {
    let cut = (0..=reason.len().min(MAX_REASON)).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    CloseFrame { code: code.into(), reason: Utf8Bytes::from(&reason[..cut]) }
}
