//! One connection: first it must say hello, then it is somebody. Frames are handled in order; what a burst brings is
//! stored in one transaction; mail is fetched from the database in order and never waits in a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::base::ids::{MeshId, PresenceId, PublicKey};
use crate::base::time::now_millis;
use crate::crypto::random;
use crate::net::ws::{self, Flow, Handle, Outbox};
use crate::store::hub::{Member, SeenSession};
use crate::wire::client::{ClientFrame, Undecodable};
use crate::wire::code::Code;
use crate::wire::limits::{HELLO_DEADLINE, PING_EVERY, STALE_AFTER};
use crate::wire::server::{ErrorFrame, Feature, HelloAck, ServerFrame};

use super::handle::events::Arrival;
use super::handle::mailbox::Mailbox;
use super::handle::receipts::Receipts;
use super::handle::send::Sends;
use super::handle::{caps, events, families, keys, presence};
use super::hello::{self, Admitted, Refusal};
use super::presence::{Ended, Kind, Line, Newcomer};
pub(super) use super::seat::Seat;
use super::{Matter, Shared};

/// What a connection is told.
#[derive(Debug, Clone)]
pub(super) enum Cmd {
    /// Mail or receipts wait in the database, or the connection has no place any more.
    Mail,
    /// An event, already written out.
    Event(Arc<str>),
    /// The broker stops.
    Stop,
}

/// One connection's state.
pub(super) struct State {
    shared: Arc<Shared>,
    line: Line,
    mail: Arc<AtomicBool>,
    seat: Option<Seat>,
    /// Until a hello must have come.
    hello_by: Instant,
    heard: Instant,
    next_ping: Instant,
    sends: Sends,
    mailbox: Mailbox,
    receipts: Receipts,
}

impl State {
    pub(super) fn new(shared: Arc<Shared>, handle: Handle<Cmd>, now: Instant) -> State {
        let mail = Arc::new(AtomicBool::new(false));
        let receipts = Receipts::default();
        State {
            shared,
            line: Line::new(handle, mail.clone(), receipts.flag()),
            mail,
            seat: None,
            hello_by: now + HELLO_DEADLINE,
            heard: now,
            next_ping: now + PING_EVERY,
            sends: Sends::default(),
            mailbox: Mailbox::default(),
            receipts,
        }
    }

    /// The connection has ended; `over` when the peer said that it will not be back.
    pub(super) fn end(self, over: bool) {
        let Some(seat) = self.seat else { return };
        let now = (Instant::now(), now_millis());
        self.shared.metrics.of(seat.kind).down();
        // One whose place was taken away is not here any more, and one whose place another connection has says nothing of it:
        // that one may have written down something newer.
        if self.shared.router.is_held_by(&seat.mesh, &seat.presence, seat.generation) {
            seat.note(&self.shared);
        }
        if let Some(gone) = self.shared.router.leave(&seat.mesh, &seat.presence, seat.generation, over, now) {
            events::left(&self.shared, &seat.mesh, &gone);
        }
        self.shared.janitor.ring();
    }

    /// Closes a connection that has no place any more.
    fn over(&self, why: Ended, out: &mut Outbox) -> Flow {
        match why {
            Ended::Replaced => Flow::close(ws::code::NORMAL, "session_replaced"),
            Ended::Evicted(code, reason) => {
                if code == hello::KICKED {
                    self.say_until(out);
                }
                Flow::close(code, reason)
            }
        }
    }

    fn frame(&mut self, frame: ClientFrame, text: &str, now: Instant, out: &mut Outbox) -> Flow {
        let Some(seat) = &mut self.seat else {
            return match frame {
                ClientFrame::Hello(hello) => {
                    let admitted = hello::member(&self.shared.hub, &self.shared.replay, hello, now_millis());
                    self.greet(admitted, out)
                }
                ClientFrame::SessionHello(hello) => {
                    let admitted = hello::session(&self.shared.hub, &self.shared.replay, hello, now_millis());
                    self.greet(admitted, out)
                }
                _ => {
                    error(out, Code::NoHello, "must send hello first", None, None);
                    Flow::Go
                }
            };
        };
        if let ClientFrame::Send(send) = frame {
            self.sends.take(&self.shared, seat, send, now);
            return if self.sends.is_full() { self.store_sends(out) } else { Flow::Go };
        }
        if let ClientFrame::ClientAck(ack) = frame {
            self.mailbox.take_ack(seat, ack);
            return Flow::Go;
        }
        if let ClientFrame::TakeReceipts(ask) = frame {
            self.receipts.take(&self.shared, seat, &ask);
            return Flow::Go;
        }
        // Whatever else was asked is answered after what was asked before it.
        let flow = self.store_sends(out);
        let Some(seat) = &mut self.seat else { return flow };
        if let Err(wait) = self.shared.limits.ask(&seat.member.id, &frame, now) {
            too_many(text, wait, out);
            return flow;
        }
        if let Err(why) = caps::may_ask(seat, &frame) {
            error(out, Code::Forbidden, &why, None, ClientFrame::ids(text).1);
            return flow;
        }
        match frame {
            ClientFrame::ListPeers(ask) => presence::list_peers(&self.shared, seat, ask, out),
            ClientFrame::SetSummary(ask) => presence::set_summary(&self.shared, seat, ask, out),
            ClientFrame::SetStatus(ask) => {
                if presence::set_status(&self.shared, seat, ask, out) {
                    // Mail that was held back may go now.
                    self.mailbox.start_over();
                    self.mail.store(true, Ordering::Release);
                }
            }
            ClientFrame::SetVisible(ask) => presence::set_visible(&self.shared, seat, ask.visible, ask.req_id, out),
            ClientFrame::SetProfile(ask) => presence::set_profile(&self.shared, seat, ask, out),
            ClientFrame::SetReach(ask) => presence::set_reach(&self.shared, seat, ask, out),
            ClientFrame::SetStats(ask) => presence::set_stats(&self.shared, seat, ask, out),
            ClientFrame::JoinGroup(ask) => presence::join_group(&self.shared, seat, ask, out),
            ClientFrame::LeaveGroup(ask) => presence::leave_group(&self.shared, seat, ask, out),
            ClientFrame::Hello(_) | ClientFrame::SessionHello(_) => {
                error(out, Code::Invalid, "this connection has said hello already", None, None);
            }
            frame => families::serve(&self.shared, seat, frame, out),
        }
        flow
    }

    fn greet(&mut self, admitted: Result<Admitted, Refusal>, out: &mut Outbox) -> Flow {
        match admitted.and_then(|admitted| self.sit(admitted)) {
            Ok((ack, arrival)) => {
                out.text(ServerFrame::HelloAck(ack).encode());
                self.announce(&arrival, out);
                self.mail.store(true, Ordering::Release);
                Flow::Pause
            }
            Err(refusal) => {
                self.shared.refused(&refusal);
                refuse(out, refusal.code, refusal.message, refusal.retry_after_ms);
                Flow::close(refusal.close, refusal.reason)
            }
        }
    }

    fn sit(&mut self, admitted: Admitted) -> Result<(HelloAck, Arrival), Refusal> {
        let Admitted { mesh, kind, member, name, about } = admitted;
        let keys = [if let Kind::Session(key) = kind { key.0 } else { member.key.0 }, member.key.0];
        self.check_place(&mesh, keys)?;
        let before = self.before(&mesh, kind, &member);
        let caps = about.allowed_caps.as_deref().map(caps::read);
        let visible = !before.as_ref().is_some_and(|before| before.hidden);
        let away_since = before.filter(|before| !before.ended).map(|before| before.last_seen_at);
        let newcomer = Newcomer { kind, member: member.key, name: name.clone(), about, visible, line: self.line.clone() };
        let fresh = PresenceId::new(random::id32());
        let entered = self.shared.router.enter(&mesh, newcomer, fresh, now_millis());
        let entered = entered.map_err(|_| Refusal::new(Code::Capacity, "mesh at connection capacity"))?;
        for evicted in &entered.evicted {
            events::left(&self.shared, &mesh, evicted);
        }
        if let Some(displaced) = entered.displaced {
            displaced.end(Ended::Replaced);
        }
        // Whoever was kept out this moment was looked for before it had a place.
        if let Err(refusal) = self.check_place(&mesh, keys) {
            self.shared.router.evict(&mesh, &[entered.presence]);
            return Err(refusal);
        }
        let seat = Seat {
            mesh,
            presence: entered.presence.clone(),
            generation: entered.generation,
            kind,
            member,
            name: name.clone(),
            status: entered.status,
            caps,
        };
        seat.note(&self.shared);
        self.shared.metrics.hellos.add(1);
        self.shared.metrics.of(kind).up();
        self.seat = Some(seat);
        let ack = HelloAck {
            presence_id: entered.presence,
            member_display_name: name,
            features: vec![
                Feature::OrderedSend,
                Feature::StoreAndForward,
                Feature::AwayPeers,
                Feature::AnswersAll,
                Feature::ScopeKeys,
                Feature::Receipts,
            ],
            server_time: Some(now_millis()),
        };
        Ok((ack, Arrival { how: entered.how, away_since, visible }))
    }

    /// What is known of a session of this member's from when it was last here.
    fn before(&self, mesh: &MeshId, kind: Kind, member: &Member) -> Option<SeenSession> {
        let Kind::Session(key) = kind else { return None };
        let known = self.shared.hub.session(mesh.clone(), key).unwrap_or_else(|err| {
            log::error!("hub: {err}");
            None
        });
        known.filter(|known| known.member == member.id)
    }

    /// Whether these keys may have a place in the mesh now.
    fn check_place(&self, mesh: &MeshId, keys: [PublicKey; 2]) -> Result<(), Refusal> {
        let now = now_millis();
        self.shared.allowed.kept_out(mesh, keys, now).map_or(Ok(()), |until| Err(Refusal::kept_out(until, now)))
    }

    /// Tells who is kicked until when. A one-shot command would take it for its answer.
    fn say_until(&self, out: &mut Outbox) {
        let Some(seat) = &self.seat else { return };
        let Some(key) = seat.mail_key() else { return };
        if let Err(refusal) = self.check_place(&seat.mesh, [key, seat.member.key.0])
            && refusal.code == Code::Kicked
        {
            refuse(out, refusal.code, refusal.message, refusal.retry_after_ms);
        }
    }

    fn announce(&self, arrival: &Arrival, out: &mut Outbox) {
        if let Some(seat) = &self.seat {
            events::entered(&self.shared, seat, arrival);
            keys::needed(&self.shared, seat, out);
        }
    }

    /// Stores the sends of this burst and acknowledges them; in the same step writes down what this connection has.
    fn store_sends(&mut self, out: &mut Outbox) -> Flow {
        let Some(seat) = &self.seat else { return Flow::Go };
        if self.sends.is_empty() {
            return Flow::Go;
        }
        let has = seat.mail_key().map(|key| self.mailbox.has(&seat.mesh, key)).unwrap_or_default();
        if !self.sends.store(&self.shared, seat, has, out) {
            return Flow::close(ws::code::TRY_LATER, "storage");
        }
        self.mailbox.written(&self.shared);
        Flow::Go
    }

    fn is_passing(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| matches!(seat.kind, Kind::Passing(_)))
    }

    fn deliver(&mut self, out: &mut Outbox) {
        let Some(seat) = &self.seat else { return };
        let Some(key) = seat.mail_key() else { return };
        self.mailbox.acknowledge(&self.shared, &seat.mesh, key);
        let announced = self.mail.swap(false, Ordering::AcqRel);
        if announced || self.mailbox.has_more() {
            // Of a member's several daemons one takes the mail; the others stand by.
            if matches!(seat.kind, Kind::Session(_)) || self.shared.router.is_taker(&seat.mesh, &seat.presence) {
                self.mailbox.fetch(&self.shared, seat, key, out);
            }
        }
        self.receipts.fetch(&self.shared, seat, out);
    }
}

/// Answers a frame that can not be served.
pub(super) fn error(out: &mut Outbox, code: Code, message: &str, id: Option<String>, req_id: Option<String>) {
    let retry_after_ms = None;
    out.text(ServerFrame::Error(ErrorFrame { code, message: message.to_owned(), id, req_id, retry_after_ms }).encode());
}

/// Says that the connection itself is refused.
fn refuse(out: &mut Outbox, code: Code, message: String, retry_after_ms: Option<u64>) {
    out.text(ServerFrame::Error(ErrorFrame { code, message, id: None, req_id: None, retry_after_ms }).encode());
}

/// Answers a question too many; the frame is read again for the ids that it carries.
fn too_many(text: &str, wait: Duration, out: &mut Outbox) {
    let (id, req_id) = ClientFrame::ids(text);
    let retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
    let message = "rate_limit: too many questions at once".to_owned();
    out.text(ServerFrame::Error(ErrorFrame { code: Code::RateLimited, message, id, req_id, retry_after_ms }).encode());
}

impl ws::Peer for State {
    type Cmd = Cmd;

    fn on_alive(&mut self, now: Instant) {
        self.heard = now;
    }

    fn on_text(&mut self, text: &str, now: Instant, out: &mut Outbox) -> Flow {
        if let Some(why) = self.line.ended() {
            return self.over(why, out);
        }
        self.shared.metrics.bytes_in.add(text.len());
        match ClientFrame::decode(text) {
            Ok(frame) => self.frame(frame, text, now, out),
            Err(Undecodable { kind, .. })
                if self.seat.is_none() && !matches!(kind.as_deref(), Some("hello" | "session_hello")) =>
            {
                error(out, Code::NoHello, "must send hello first", None, None);
                Flow::Go
            }
            // A one-shot command of the reference takes an error without an id for the answer to its first question.
            Err(Undecodable { code: Code::UnknownType, id: None, req_id: None, .. }) if self.is_passing() => {
                self.store_sends(out)
            }
            Err(wrong) => {
                let flow = self.store_sends(out);
                error(out, wrong.code, &wrong.message, wrong.id, wrong.req_id);
                flow
            }
        }
    }

    fn on_cmd(&mut self, cmd: Cmd, _now: Instant, out: &mut Outbox) -> Flow {
        if let Some(why) = self.line.ended() {
            return self.over(why, out);
        }
        match cmd {
            Cmd::Mail => {}
            Cmd::Event(text) => out.shared(text),
            Cmd::Stop => return Flow::close(ws::code::GOING_AWAY, "shutting down"),
        }
        Flow::Go
    }

    fn on_burst_end(&mut self, _now: Instant, out: &mut Outbox) -> Flow {
        let flow = self.store_sends(out);
        if let Some(why) = self.line.ended() {
            return self.over(why, out);
        }
        self.deliver(out);
        flow
    }

    fn deadline(&self) -> Option<Instant> {
        let first = if self.seat.is_some() { self.next_ping } else { self.hello_by };
        Some(first.min(self.heard + STALE_AFTER))
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Flow {
        if let Some(why) = self.line.ended() {
            return self.over(why, out);
        }
        if self.seat.is_none() && self.hello_by <= now {
            self.shared.metrics.no_hello.add(1);
            self.shared.told(Matter::Silent).info(|| "a connection was closed: it said no hello".to_owned());
            return Flow::close(ws::code::POLICY, "no hello");
        }
        if self.heard + STALE_AFTER <= now {
            return Flow::close(ws::code::GOING_AWAY, "stale");
        }
        if self.next_ping <= now {
            self.next_ping = now + PING_EVERY;
            out.ping();
        }
        Flow::Go
    }
}
