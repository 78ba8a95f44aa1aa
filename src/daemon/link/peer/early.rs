//! What a link is asked while it is on its way up for the first time: kept until it is open, as long as somebody waits.

use std::time::Instant;

use crate::net::ws::Outbox;
use crate::wire::code::Code;
use crate::wire::limits::AGGREGATE_DEADLINE;

use super::super::Call;
use super::Talk;

/// Requests that are kept until the hello is accepted; those beyond are told that there is no connection.
const MAX_AWAITED: usize = 256;

/// Requests that wait for the link to open.
#[derive(Debug)]
pub(super) struct Awaited {
    /// This is the link's first connection.
    first: bool,
    /// With the time from which on nobody waits any more.
    calls: Vec<(Instant, Call)>,
}

impl Awaited {
    pub(super) fn new(first: bool) -> Awaited {
        Awaited { first, calls: Vec::new() }
    }

    /// The connection has ended: whoever waits still is told so.
    pub(super) fn lose(&mut self) {
        for (_, call) in self.calls.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = call.reply.send(Err(Code::ConnectionLost));
        }
    }
}

impl Talk<'_> {
    /// Somebody asks the broker something.
    pub(super) fn called(&mut self, call: Call, now: Instant) {
        if self.awaited.first && !self.state.is_open() && self.awaited.calls.len() < MAX_AWAITED {
            self.awaited.calls.push((now + AGGREGATE_DEADLINE, call));
            return;
        }
        self.next_ticket += 1;
        self.waiting.insert(self.next_ticket, call.reply);
        self.state.call(self.next_ticket, call.frame, now, &mut self.effects);
    }

    /// The link is open: what came too early is asked now, unless nobody waits for it any more.
    pub(super) fn ask_awaited(&mut self, now: Instant, out: &mut Outbox) {
        for (until, call) in std::mem::take(&mut self.awaited.calls) {
            if now < until {
                self.called(call, now);
            }
        }
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                super::Effect::Frame(frame) => out.text(frame.encode()),
                super::Effect::Replied(ticket, reply) => self.reply(ticket, reply),
                // A request brings about nothing else.
                _ => {}
            }
        }
    }
}
