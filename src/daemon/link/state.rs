//! The protocol of one link to a broker, without the socket: frames and time go in, frames and effects come out.

use std::time::{Duration, Instant};

use crate::base::ids::{ClientId, MessageId};
use crate::daemon::drain::Epoch;
use crate::store::RowId;
use crate::store::outbox::Membership;
use crate::wire::client::{ClientAck, ClientFrame, Send};
use crate::wire::code::Code;
use crate::wire::json;
use crate::wire::key::Scope;
use crate::wire::limits::{ACK_DEADLINE, HELLO_DEADLINE, PING_AFTER, RPC_DEADLINE, STALE_AFTER};
use crate::wire::peer::Status;
use crate::wire::receipt::Forwarded;
use crate::wire::server::{Ack, ErrorFrame, Feature, HelloAck, Push, ServerFrame};
use crate::wire::skill::SkillChange;
use crate::wire::state::StateChange;

use super::Reply;
use super::ending::Ending;
use super::unanswered::Unanswered;

/// When a session says hello a second time to a broker that promises nothing. The reference's claims a message for 30 s
/// even where the connection has just gone, and looks at its queue again only when somebody gives it a reason.
const GREET_AGAIN: Duration = Duration::from_secs(35);

/// From a session's being ready again to that hello: such a broker gives out what it held back only then, and takes the
/// frames of one connection in any order.
const FLUSH_AFTER: Duration = Duration::from_millis(500);

/// Silence after which such a broker is asked something for the first time. One that had not noticed the end of the connection
/// before this one forgets both, 90 s after that end, and answers pings still.
const ASK_FIRST: Duration = Duration::from_secs(95);

/// The same from then on.
const ASK_AFTER: Duration = Duration::from_secs(300);

/// A message on its way to the broker.
#[derive(Debug)]
pub(in crate::daemon) struct Outgoing {
    pub(in crate::daemon) row: RowId,
    /// The connection it was meant for: on a later one it would overtake what was meant for the earlier.
    pub(in crate::daemon) epoch: Epoch,
    /// On which mesh and as whom it was accepted.
    pub(in crate::daemon) membership: Option<Membership>,
    pub(in crate::daemon) frame: Send,
}

/// How one send ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Answer {
    /// The broker has it on disk.
    Accepted {
        id: MessageId,
        /// It passes on what recipients say.
        told: bool,
    },
    Refused {
        code: Code,
        text: String,
        retry_after_ms: Option<u64>,
    },
    /// The connection ended first; nothing is known, and sending it again is harmless.
    Lost,
}

/// What the link's thread does on behalf of the state.
#[derive(Debug)]
pub(super) enum Effect {
    /// Put this frame on the socket.
    Frame(Box<ClientFrame>),
    Ping,
    /// The hello was accepted.
    Opened(HelloAck),
    Answered(RowId, Answer),
    /// Say hello again, on this connection.
    Greet,
    /// Ask the broker something, to hear whether it still knows this connection.
    Ask,
    /// A message or an event arrived.
    Pushed(Box<Push>),
    /// What recipients said of messages that were sent from here.
    Receipts(Vec<Forwarded>),
    /// Somebody wrote a shared value.
    Changed(StateChange),
    /// Somebody published a skill, or removed one.
    SkillChanged(SkillChange),
    /// Others have no copy of keys that this member has.
    KeysNeeded(Vec<Scope>),
    /// This member was given its copy of a key.
    KeyGiven(Scope, u32),
    /// A request's answer.
    Replied(u64, Reply),
    /// The link is of no use any more: close it.
    Close(Ending),
}

/// Where the conversation stands.
#[derive(Debug)]
enum Phase {
    /// The hello went out.
    Greeting {
        until: Instant,
    },
    Open,
}

/// A request that has not been answered.
#[derive(Debug)]
struct Pending {
    ticket: u64,
    /// A broker that knows this connection answers it. Others the reference's leaves without an answer when its handler
    /// fails, or when it has no table for them.
    sure: bool,
}

/// One conversation: made anew for each connection.
#[derive(Debug)]
pub(super) struct State {
    epoch: Epoch,
    phase: Phase,
    /// The broker answers every request.
    answers_all: bool,
    /// The broker passes on what recipients say.
    receipts: bool,
    heard: Instant,
    /// When a frame last came: a broker that has forgotten a connection still answers its pings.
    said: Instant,
    pinged: Instant,
    greet_again: Option<Instant>,
    /// `None`: this broker need not be asked.
    next_ask: Option<Instant>,
    ask_after: Duration,
    sends: Unanswered<RowId>,
    calls: Unanswered<Pending>,
    next_call: u64,
}

impl State {
    /// A conversation whose hello has just been sent.
    pub(super) fn new(epoch: Epoch, now: Instant) -> State {
        State {
            epoch,
            answers_all: false,
            receipts: false,
            phase: Phase::Greeting { until: now + HELLO_DEADLINE },
            heard: now,
            said: now,
            pinged: now,
            greet_again: None,
            next_ask: None,
            ask_after: ASK_FIRST,
            sends: Unanswered::new(ACK_DEADLINE),
            calls: Unanswered::new(RPC_DEADLINE),
            next_call: 0,
        }
    }

    /// Anything at all was heard: a frame, a ping, a pong.
    pub(super) fn alive(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(super) fn send(&mut self, outgoing: Outgoing, now: Instant, out: &mut Vec<Effect>) {
        if !self.is_open() || outgoing.epoch != self.epoch {
            out.push(Effect::Answered(outgoing.row, Answer::Lost));
            return;
        }
        if !outgoing.frame.fits() {
            // Rows that were not accepted by this daemon. A broker would close the connection, and again on the next.
            let text = format!("{}: no broker reads a frame as large as this", Code::TooLarge);
            out.push(Effect::Answered(outgoing.row, Answer::Refused { code: Code::TooLarge, text, retry_after_ms: None }));
            return;
        }
        self.sends.insert(outgoing.frame.id.clone(), outgoing.row, now);
        out.push(Effect::Frame(Box::new(ClientFrame::Send(outgoing.frame))));
    }

    /// Asks the broker something; `frame` is given the id under which its answer will come.
    pub(super) fn call(&mut self, ticket: u64, frame: impl FnOnce(String) -> ClientFrame, now: Instant, out: &mut Vec<Effect>) {
        if !self.is_open() {
            out.push(Effect::Replied(ticket, Err(Code::ConnectionLost)));
            return;
        }
        self.next_call += 1;
        let id = format!("r-{}", self.next_call);
        let frame = frame(id.clone());
        if let (ClientFrame::SetStatus(set), Some(_)) = (&frame, self.next_ask)
            && set.status == Status::Idle
        {
            self.greet_again = Some(now + FLUSH_AFTER);
        }
        if !self.answers_all && !frame.is_answered_by_all() {
            out.extend([Effect::Frame(Box::new(frame)), Effect::Replied(ticket, Ok(None))]);
            return;
        }
        self.calls.insert(id, Pending { ticket, sure: matches!(frame, ClientFrame::ListPeers(_)) }, now);
        out.push(Effect::Frame(Box::new(frame)));
    }

    /// The recipient's disk has it. Also for duplicates, or the broker would repeat them for ever.
    pub(super) fn ack(push: &Push) -> ClientFrame {
        let client = push.client_message_id.clone().filter(|id| !id.as_str().is_empty());
        let client = client.or_else(|| push.message_id.as_ref().map(|id| ClientId::new(id.as_str())));
        ClientFrame::ClientAck(ClientAck { client_message_id: client, broker_message_id: push.message_id.clone() })
    }

    pub(super) fn on_text(&mut self, text: &str, now: Instant, out: &mut Vec<Effect>) {
        self.said = now;
        match ServerFrame::decode(text) {
            Some(ServerFrame::HelloAck(ack)) if !self.is_open() => {
                self.phase = Phase::Open;
                self.answers_all = ack.features.contains(&Feature::AnswersAll);
                self.receipts = ack.features.contains(&Feature::Receipts);
                if !ack.features.contains(&Feature::StoreAndForward) {
                    self.greet_again = Some(now + GREET_AGAIN);
                    self.next_ask = Some(now + self.ask_after);
                }
                out.push(Effect::Opened(ack));
            }
            Some(ServerFrame::Ack(ack)) => self.on_ack(ack, out),
            Some(ServerFrame::Error(error)) => self.on_error(error, out),
            Some(ServerFrame::Push(push)) => out.push(Effect::Pushed(push)),
            Some(ServerFrame::Receipts(frame)) => out.push(Effect::Receipts(frame.receipts)),
            Some(ServerFrame::StateChange(change)) => out.push(Effect::Changed(change)),
            Some(ServerFrame::SkillChange(change)) => out.push(Effect::SkillChanged(change)),
            Some(ServerFrame::KeyNeeded(mut needed)) if self.is_open() => {
                // The mesh's own key is given when somebody speaks, and not because a broker wants it to be.
                needed.scopes.retain(Scope::is_topic);
                out.push(Effect::KeysNeeded(needed.scopes));
            }
            Some(ServerFrame::KeyGiven(given)) if self.is_open() => out.push(Effect::KeyGiven(given.scope, given.epoch)),
            // Before the hello was accepted nothing can be asked about keys.
            Some(ServerFrame::KeyNeeded(_) | ServerFrame::KeyGiven(_)) => {}
            Some(ServerFrame::HelloAck(_) | ServerFrame::Unknown) => {}
            Some(answer) => {
                let id = answer.req_id().map(str::to_owned);
                self.reply(id.as_deref(), Ok(Some(answer)), out);
            }
            None => match json::decode::<json::Value>(text.as_bytes()) {
                Err(json::DecodeError::Syntax(_)) => out.push(Effect::Close(Ending::Garbled)),
                Ok(_) | Err(json::DecodeError::Shape(_)) => log::debug!("a frame of {} bytes could not be read", text.len()),
            },
        }
    }

    fn on_ack(&mut self, ack: Ack, out: &mut Vec<Effect>) {
        // The reference's answers some requests with an `ack` under the request's id, which a message may have too.
        if ack.req_id.as_ref().is_some_and(|id| self.calls.contains(id)) {
            self.reply(ack.req_id.clone().as_deref(), Ok(Some(ServerFrame::Ack(ack))), out);
            return;
        }
        let Some(row) = self.sends.take(&ack.id) else { return };
        let answer = match ack.error.filter(|text| !text.is_empty()) {
            Some(text) => Answer::Refused { code: Code::of_ack_error(&text), text, retry_after_ms: ack.retry_after_ms },
            None => Answer::Accepted { id: ack.message_id, told: self.receipts },
        };
        out.push(Effect::Answered(row, answer));
    }

    fn on_error(&mut self, error: ErrorFrame, out: &mut Vec<Effect>) {
        let is_sent_away = error.code == Code::Kicked && error.id.is_none() && error.req_id.is_none();
        if !self.is_open() || is_sent_away {
            // Before the hello_ack an error is about the hello, except for frames that came too early.
            if error.code != Code::NoHello {
                out.push(Effect::Close(Ending::Refused(error.code, error.message, error.retry_after_ms)));
            }
            return;
        }
        // Some brokers put a request's id into `id`, and ours into both; a message may have the same.
        let asked = error.req_id.as_ref().is_some_and(|id| self.calls.contains(id));
        if let Some(row) = error.id.as_ref().filter(|_| !asked).and_then(|id| self.sends.take(id)) {
            out.push(Effect::Answered(row, Answer::Refused { code: error.code, text: error.message, retry_after_ms: None }));
            return;
        }
        let id = error.req_id.clone().or_else(|| error.id.clone());
        self.reply(id.as_deref(), Ok(Some(ServerFrame::Error(error))), out);
    }

    fn reply(&mut self, id: Option<&str>, reply: Reply, out: &mut Vec<Effect>) {
        if let Some(Pending { ticket, .. }) = id.and_then(|id| self.calls.take(id)) {
            out.push(Effect::Replied(ticket, reply));
        }
    }

    /// A broker that pings, as each does, is known to live by that.
    fn next_ping(&self) -> Instant {
        self.heard.max(self.pinged) + PING_AFTER
    }

    /// When [`State::on_deadline`] wants to be called next.
    pub(super) fn deadline(&self) -> Instant {
        let phase = match self.phase {
            Phase::Greeting { until } => until,
            Phase::Open => self.next_ping(),
        };
        [self.sends.deadline(), self.calls.deadline(), self.greet_again.filter(|_| self.is_quiet()), self.next_ask]
            .into_iter()
            .flatten()
            .chain([phase, self.heard + STALE_AFTER])
            .min()
            .unwrap_or(phase)
    }

    pub(super) fn on_deadline(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.heard + STALE_AFTER <= now {
            out.push(Effect::Close(Ending::Stale));
            return;
        }
        if let Phase::Greeting { until } = self.phase
            && until <= now
        {
            out.push(Effect::Close(Ending::HelloTimeout));
            return;
        }
        if self.is_open() && self.next_ping() <= now {
            self.pinged = now;
            out.push(Effect::Ping);
        }
        if let Some(at) = self.next_ask.as_mut().filter(|at| **at <= now) {
            // Whatever it said meanwhile was an answer too.
            let silent = self.said + self.ask_after <= now;
            let from = if silent { now } else { self.said };
            self.ask_after = if silent { ASK_AFTER } else { self.ask_after };
            *at = from + self.ask_after;
            out.extend(silent.then_some(Effect::Ask));
        }
        let mut unanswered = false;
        while let Some((at, Pending { ticket, sure })) = self.calls.expire(now) {
            out.push(Effect::Replied(ticket, Err(Code::Timeout)));
            // One that speaks of other things is only slow.
            if self.said + RPC_DEADLINE <= at {
                unanswered |= sure;
                out.extend((!sure).then_some(Effect::Ask));
            }
        }
        while let Some((_, row)) = self.sends.expire(now) {
            unanswered = true;
            // It waits longer each time: the reference's broker is silent where its handler fails, and a message on which it
            // always does must not keep all others back.
            let text = format!("{}: the broker did not answer", Code::Timeout);
            out.push(Effect::Answered(row, Answer::Refused { code: Code::Timeout, text, retry_after_ms: None }));
        }
        if self.is_quiet() && self.greet_again.take_if(|at| *at <= now).is_some() {
            out.push(Effect::Greet);
        }
        // One send without an answer puts all later ones of this connection in doubt; a new connection keeps their order for
        // each recipient.
        if unanswered {
            out.push(Effect::Close(Ending::Unanswered));
        }
    }

    /// Nothing is on its way. A hello that may cost the connection waits for that: an answer that comes too late would have the
    /// message sent again, to a broker that does not know it from the first.
    fn is_quiet(&self) -> bool {
        self.sends.is_empty() && self.calls.is_empty()
    }

    /// The message on its way, if it is alone.
    pub(super) fn lone_send(&self) -> Option<RowId> {
        let mut all = self.sends.values();
        all.next().filter(|_| all.next().is_none()).cloned()
    }

    /// The connection has ended: everything that still waits is told so. `too_big`: the broker will not take what is on its way.
    pub(super) fn end(self, too_big: bool, out: &mut Vec<Effect>) {
        let answer = |row| match too_big {
            false => Effect::Answered(row, Answer::Lost),
            true => {
                let text = format!("{}: the broker closed the connection on it again and again", Code::TooLarge);
                Effect::Answered(row, Answer::Refused { code: Code::TooLarge, text, retry_after_ms: None })
            }
        };
        out.extend(self.sends.into_values().map(answer));
        out.extend(self.calls.into_values().map(|call| Effect::Replied(call.ticket, Err(Code::ConnectionLost))));
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
