//! What a connection wants to say and the socket has not taken yet.

use std::collections::VecDeque;
use std::sync::Arc;

use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Bytes, Message};

/// Above this a connection is not read from until the socket has taken enough: who does not drain its replies gets to
/// ask for no more.
const ENOUGH: usize = 256 * 1024;

/// Full: above this the connection closes with 1013 ("try again later"), and what was queued is lost with it. Only a
/// state that answers one message with very much can get here.
pub(super) const FULL: usize = 8 * 1024 * 1024;

/// Counted for each frame beside its payload, so that empty frames are not free.
const FRAME: usize = 64;

/// A burst leaves at most this much room behind in an empty queue.
const KEPT: usize = 16;

/// Frames on their way out, in order. Queueing never fails for the caller: see [`FULL`] for what a full one costs.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<Message>,
    bytes: usize,
    overflowed: bool,
}

impl Outbox {
    /// An empty one. Connections have their own; this is for testing a state without a socket.
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// Queues a text frame.
    pub fn text(&mut self, text: impl Into<String>) {
        self.push(Message::text(text.into()));
    }

    /// Queues a text frame that other connections send too, without copying it for each.
    pub fn shared(&mut self, text: Arc<str>) {
        struct Owner(Arc<str>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }
        self.push(Message::Frame(Frame::message(Bytes::from_owner(Owner(text)), OpCode::Data(Data::Text), true)));
    }

    /// Queues a ping.
    pub fn ping(&mut self) {
        self.push(Message::Ping(Bytes::new()));
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes out all texts, in order, and forgets the pings: for testing a state without a socket.
    pub fn take_texts(&mut self) -> Vec<String> {
        self.bytes = 0;
        let text = |message| match message {
            Message::Text(text) => Some(text.to_string()),
            Message::Frame(frame) => String::from_utf8(frame.payload().to_vec()).ok(),
            _ => None,
        };
        self.frames.drain(..).filter_map(text).collect()
    }

    fn push(&mut self, message: Message) {
        self.bytes += message.len() + FRAME;
        if FULL < self.bytes {
            self.overflowed = true;
            self.clear();
        }
        if !self.overflowed {
            self.frames.push_back(message);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len() + FRAME);
        if self.frames.is_empty() && KEPT < self.frames.capacity() {
            self.frames = VecDeque::new();
        }
        Some(message)
    }

    pub(super) fn clear(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }

    /// Whether the socket has taken enough for more to be queued. A state that has much to say asks before each piece; its
    /// `on_burst_end` is called when there is room again.
    pub fn has_room(&self) -> bool {
        self.bytes < ENOUGH
    }

    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_holds_and_gives_up_when_full() {
        let mut out = Outbox::new();
        out.text("a");
        out.ping();
        out.shared(Arc::from("b"));
        assert!(2 + 3 * FRAME <= out.bytes);
        assert!(out.pop().is_some());
        assert_eq!(out.take_texts(), ["b"]);
        out.text("x".repeat(ENOUGH));
        assert!(!out.has_room() && !out.overflowed());
        while out.pop().is_some() {}
        assert_eq!((out.bytes, out.has_room()), (0, true));
        for _ in 0..9 {
            out.text("x".repeat(FULL / 9));
        }
        assert!(out.overflowed() && out.is_empty());
        out.text("too late");
        assert!(out.is_empty());
    }
}
