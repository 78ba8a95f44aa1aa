//! One WebSocket, one thread. The thread is the only owner of the socket and of the protocol's state; other threads post
//! commands through a [`Handle`]. The socket is non-blocking, the thread sleeps in poll(2) for the socket, the bell and
//! the clock, and the same loop serves plain and TLS connections.

mod channel;
mod conn;
mod outbox;
#[cfg(test)]
pub(crate) mod tests;
mod upgrade;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use tungstenite::protocol::{Role, WebSocketConfig};

pub use self::channel::{Handle, Inbox, NoCmd, TrySendError, channel};
pub use self::outbox::Outbox;
pub(crate) use self::upgrade::request;
pub use self::upgrade::{Rejected, UpgradeError, accept};

use self::conn::Conn;

/// Small frames are gathered up to this size before they are written to the socket; a turn always ends with a flush.
const WRITE_BATCH: usize = 16 * 1024;

/// Close codes of RFC 6455, 7.4.1, that this module sends or reports itself.
pub mod code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL: u16 = 1002;
    /// Never on the wire: the peer's Close carried no code.
    pub const NONE: u16 = 1005;
    pub const NOT_UTF8: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
    pub const TRY_LATER: u16 = 1013;
}

/// What the state wants to happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    Go,
    /// Leave the loop, and the connection as it is: [`run`] returns [`End::Paused`], and may be called again on another thread.
    Pause,
    /// Send what is queued, then Close. The reason is cut to 123 bytes.
    Close {
        code: u16,
        reason: Cow<'static, str>,
    },
}

impl Flow {
    pub fn close(code: u16, reason: impl Into<Cow<'static, str>>) -> Flow {
        Flow::Close { code, reason: reason.into() }
    }
}

/// What a connection means: a state that does no socket I/O and takes the time as an argument. All calls come from the
/// connection's own thread. After `Flow::Close` none of them is called again.
pub trait Peer {
    /// Keep it small: a full queue holds as many as its capacity.
    type Cmd: Send + 'static;

    /// Called before anything else, at the beginning of each [`run`]: what the peer should say first.
    fn on_start(&mut self, _now: Instant, _out: &mut Outbox) -> Flow {
        Flow::Go
    }

    fn on_text(&mut self, text: &str, now: Instant, out: &mut Outbox) -> Flow;

    fn on_cmd(&mut self, cmd: Self::Cmd, now: Instant, out: &mut Outbox) -> Flow;

    /// Called once after each burst of texts, commands and deadlines: the place to write to storage what they brought. Also
    /// when the outbox was full and has room again, and when a run begins.
    fn on_burst_end(&mut self, _now: Instant, _out: &mut Outbox) -> Flow {
        Flow::Go
    }

    /// Any frame came in, pings and pongs too: the peer lives. Called before `on_text`.
    fn on_alive(&mut self, _now: Instant) {}

    /// The next moment at which `on_deadline` wants to be called.
    fn deadline(&self) -> Option<Instant>;

    /// Called at or after `deadline`. It must move the deadline, or it is called again at once.
    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Flow;

    /// False: leave the peer's frames in the socket for now. Asked before every read.
    fn wants_read(&self) -> bool {
        true
    }

    /// False: leave commands in the queue for now. Asked before every command.
    fn wants_cmd(&self) -> bool {
        true
    }
}

/// How a connection ended. An end is not an error.
#[derive(Debug)]
pub enum End {
    ClosedByPeer {
        /// [`code::NONE`] if the peer gave none.
        code: u16,
        reason: String,
    },
    ClosedByUs {
        code: u16,
    },
    /// Not at all: the state asked for a pause. What was queued goes out when it runs again.
    Paused,
    /// Gone without a Close.
    Lost(io::Error),
    /// The peer broke the protocol, and was told so with this close code.
    Protocol {
        code: u16,
        what: String,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::ClosedByPeer { code, reason } if reason.is_empty() => write!(f, "closed by the peer ({code})"),
            End::ClosedByPeer { code, reason } => write!(f, "closed by the peer ({code}: {reason})"),
            End::ClosedByUs { code } => write!(f, "closed by us ({code})"),
            End::Paused => f.write_str("paused"),
            End::Lost(err) => write!(f, "connection lost: {err}"),
            End::Protocol { code, what } => write!(f, "protocol error ({code}): {what}"),
        }
    }
}

/// What one connection may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one incoming message, reassembled. A longer one closes the connection with 1009.
    pub max_message: usize,
    /// Bytes read from the socket at once, held for the life of the connection.
    pub read_buffer: usize,
}

/// A WebSocket past its handshake. Its stream must be non-blocking before [`run`].
#[derive(Debug)]
pub struct WebSocket<S>(tungstenite::WebSocket<S>);

impl<S: Read + Write> WebSocket<S> {
    /// The accepting end; `read` is what was read past the handshake.
    pub fn server(stream: S, read: Vec<u8>, limits: Limits) -> WebSocket<S> {
        WebSocket::new(stream, read, Role::Server, limits)
    }

    /// The dialling end; `read` is what was read past the handshake.
    pub fn client(stream: S, read: Vec<u8>, limits: Limits) -> WebSocket<S> {
        WebSocket::new(stream, read, Role::Client, limits)
    }

    fn new(stream: S, read: Vec<u8>, role: Role, limits: Limits) -> WebSocket<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(limits.read_buffer)
            .write_buffer_size(WRITE_BATCH)
            // Never reached: nothing is written while blocked, and one turn writes no more than a full outbox.
            .max_write_buffer_size(2 * (WRITE_BATCH + outbox::FULL))
            .max_message_size(Some(limits.max_message))
            .max_frame_size(Some(limits.max_message));
        WebSocket(tungstenite::WebSocket::from_partially_read(stream, read, role, Some(config)))
    }

    pub fn get_ref(&self) -> &S {
        self.0.get_ref()
    }
}

/// Runs until the peer closes, `peer` says so, or every `Handle` is gone (Close 1001). After a pause it is called again, with
/// the same three.
pub fn run<S, P>(ws: &mut WebSocket<S>, peer: &mut P, inbox: &Inbox<P::Cmd>) -> End
where
    S: Read + Write + AsFd,
    P: Peer,
{
    Conn::new(&mut ws.0, peer, inbox).run()
}
