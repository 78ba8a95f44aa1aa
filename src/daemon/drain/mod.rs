//! The thread that moves outbox rows to the links: it owns the schedule, waits for no single answer, and lets no broken
//! mesh or session hold up another.

mod clock;
mod seal;
mod state;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::ids::{PublicKey, Slug};
use crate::base::thread::{self, Running};
use crate::base::time::{Millis, now_millis};
use crate::crypto::random;
use crate::net::ws::Handle;
use crate::store;
use crate::store::RowId;
use crate::store::outbox::{self, Outbox, Outcome, Route, Row};
use crate::wire::client::Send;
use crate::wire::key::{SEALED_BODY, Scope};

use self::clock::Clock;
use self::seal::{Sealer, Sealing};
pub(super) use self::state::Epoch;
use self::state::State;
use super::ctx::Ctx;
use super::link::{Answer, Cmd, Outgoing};
use super::links::Links;
use super::supervisor::{self, Alarm};
use super::watch::Watch;

/// Events that wait for the drain. When full, whoever has one more waits: the drain itself waits only for the store.
const QUEUE: usize = 256;

/// How long the answers of what is in flight are waited for when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Pause after the outbox could not be read or written.
const STORE_PAUSE: Millis = 1000;

/// Longer than any delay after a refusal that may pass.
const LONG: Millis = 61_000;

/// What the drain is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A row was added, or made due again, for this link.
    Wake(Route),
    /// A connection of the link is open, and takes this many rows at once.
    LinkUp(Route, usize, Epoch),
    LinkDown(Route, Epoch),
    /// The link failed without having answered for what it had.
    LinkDied(Route),
    Answered(Route, Vec<(RowId, Answer)>),
    /// A peer came back: what waits for it goes at once.
    PeerBack(Slug, PublicKey),
    /// There is a key to seal with.
    KeyReady(Slug, Scope),
    Stop,
}

/// The drain's queue.
#[derive(Debug, Clone)]
pub(super) struct Drain(Sender<Event>);

impl Drain {
    /// Waits while the queue is full. An event after the drain has stopped is of no use to anybody and is dropped.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.0.send(event);
    }
}

/// Makes the drain's queue; [`start`] gives it a thread.
pub(super) fn queue() -> (Drain, Receiver<Event>) {
    let (sender, receiver) = bounded(QUEUE);
    (Drain(sender), receiver)
}

/// Starts the thread. It ends after [`Event::Stop`], with everything that was in flight back in the outbox.
pub(super) fn start(events: Receiver<Event>, ctx: &Arc<Ctx>) -> io::Result<Running> {
    let (outbox, links, watch) = (ctx.outbox.clone(), ctx.links.clone(), ctx.watch.clone());
    let sealer = Sealer::new(ctx.clone());
    let alarm = Alarm { thread: "drain", supervisor: ctx.supervisor.clone() };
    thread::spawn("drain", thread::CONNECTION_STACK, move || {
        let supervisor = alarm.supervisor.clone();
        let _alarm = alarm;
        let clock = Clock::new(Instant::now(), now_millis());
        let (state, unsettled) = (State::default(), Vec::new());
        Worker { outbox, links, supervisor, watch, clock, state, sealer, unsettled }.run(&events);
    })
}

/// Rows on their way from the outbox to one link.
struct Pass {
    link: Option<Handle<Cmd>>,
    /// The link takes no more.
    full: bool,
    /// Targets of rows that wait: what is for the same waits behind them.
    held: HashSet<String>,
}

struct Worker {
    outbox: Outbox,
    links: Links,
    supervisor: Sender<supervisor::Event>,
    watch: Watch,
    clock: Clock,
    state: State,
    sealer: Sealer,
    /// Outcomes that the store could not take yet.
    unsettled: Vec<(RowId, Outcome)>,
}

impl Worker {
    fn run(mut self, events: &Receiver<Event>) {
        while let Some(batch) = self.wait(events) {
            let mut outcomes = Vec::new();
            let mut stopping = false;
            for event in batch {
                stopping |= matches!(event, Event::Stop);
                self.on(event, &mut outcomes);
            }
            self.settle(outcomes);
            if stopping {
                break;
            }
            if self.clock.was_set_back(Instant::now(), now_millis()) {
                log::warn!("the clock was set back: everything that waits is due now");
                self.state.clock_set_back().into_iter().for_each(|route| self.wake(&route));
            }
            self.feed();
        }
        self.stop(events);
    }

    /// The events that are there, after waiting for one; none when only a deadline came. `None` when all senders are gone.
    fn wait(&self, events: &Receiver<Event>) -> Option<Vec<Event>> {
        // While answers wait to be written nothing is claimed, however long it is due.
        let until = if self.unsettled.is_empty() { self.state.deadline() } else { Some(now_millis() + STORE_PAUSE) };
        let first = match until {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => {
                let wait = u64::try_from(at.saturating_sub(now_millis())).unwrap_or(0);
                events.recv_timeout(Duration::from_millis(wait))
            }
        };
        match first {
            Ok(event) => Some(std::iter::once(event).chain(events.try_iter().take(QUEUE)).collect()),
            Err(RecvTimeoutError::Timeout) => Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn on(&mut self, event: Event, outcomes: &mut Vec<(RowId, Outcome)>) {
        match event {
            Event::Wake(route) => self.state.wake(&route),
            Event::LinkUp(route, window, epoch) => {
                self.settle_first(outcomes);
                self.wake_waiting(&route);
                self.state.link_up(route, window, epoch);
            }
            Event::LinkDown(route, epoch) => self.state.link_down(&route, epoch),
            Event::LinkDied(route) => {
                self.sealer.link_died(&route);
                outcomes.extend(self.state.link_died(&route));
            }
            Event::Answered(route, answers) => {
                let now = now_millis();
                for (row, answer) in answers {
                    self.sealer.answered(&row, &answer);
                    outcomes.extend(self.state.answered(&route, row, answer, now, random::unit_f64()));
                }
            }
            Event::PeerBack(mesh, key) => {
                self.settle_first(outcomes);
                self.state.peer_back(&mesh);
                self.wake_target(mesh, key.to_string());
            }
            Event::KeyReady(mesh, scope) => {
                self.settle_first(outcomes);
                let targets = self.sealer.key_ready(&mesh, &scope);
                targets.into_iter().for_each(|target| self.wake_target(mesh.clone(), target));
            }
            Event::Stop => {}
        }
    }

    /// What is about to be woken must stand as waiting, with all that came before. Where that can not be written now, nothing of
    /// it waits longer than that.
    fn settle_first(&mut self, outcomes: &mut Vec<(RowId, Outcome)>) {
        self.settle(std::mem::take(outcomes));
        let now = now_millis();
        for (_, outcome) in &mut self.unsettled {
            if let Outcome::Later { at, .. } = outcome {
                *at = now.min(*at);
            }
        }
    }

    fn wake_target(&mut self, mesh: Slug, target: String) {
        match self.outbox.wake_target(mesh, target, now_millis()) {
            Ok(routes) => routes.iter().for_each(|route| self.state.wake(route)),
            Err(err) => self.failed(&err, "what waits for a peer that is back waits on"),
        }
    }

    /// Makes due what waits for a peer's return: nobody has heard of returns while this link was down. The member's link
    /// hears for all. What waits for less keeps its pace, or a message that ends the connection would always be first.
    fn wake_waiting(&mut self, up: &Route) {
        let siblings = if up.sender == outbox::Sender::Member { self.state.routes_of(&up.mesh) } else { Vec::new() };
        for route in siblings.into_iter().filter(|route| route != up).chain([up.clone()]) {
            let now = now_millis();
            match self.outbox.wake_route(route.clone(), now + LONG, now) {
                Ok(_) => self.state.wake(&route),
                Err(err) => self.failed(&err, "what waits for the return of a peer waits on"),
            }
        }
    }

    /// Makes due what waits on this route: a time that was written under another clock says nothing any more.
    fn wake(&self, route: &Route) {
        let now = now_millis();
        if let Err(err) = self.outbox.wake_route(route.clone(), now, now) {
            self.failed(&err, "what waits on this link waits on");
        }
    }

    fn settle(&mut self, outcomes: Vec<(RowId, Outcome)>) {
        if outcomes.is_empty() && self.unsettled.is_empty() {
            return;
        }
        for (row, outcome) in &outcomes {
            match outcome {
                Outcome::Dead { error, .. } => log::warn!("message row {row} is dead: {error}"),
                Outcome::Later { error, .. } => log::info!("message row {row} is tried again later: {error}"),
                Outcome::Done { .. } | Outcome::Returned => {}
            }
        }
        self.unsettled.extend(outcomes);
        match self.outbox.settle(self.unsettled.clone()) {
            Ok(()) => {
                self.watch.tell(self.unsettled.iter().map(|(row, _)| row));
                self.unsettled.clear();
            }
            Err(err) => self.failed(&err, &format!("{} answers wait to be written", self.unsettled.len())),
        }
    }

    /// Nothing is claimed while answers wait to be written: a row whose connection was lost is not due again before its
    /// answer stands, and a later one would overtake it.
    fn feed(&mut self) {
        while self.unsettled.is_empty()
            && let Some((route, epoch, room)) = self.state.next_claim(now_millis())
        {
            let claimed = match self.outbox.claim(route.clone(), now_millis(), room) {
                Ok(claimed) => claimed,
                Err(err) => {
                    self.claim_failed(&route, &err);
                    continue;
                }
            };
            let more = room <= claimed.rows.len();
            let mut rows = claimed.rows;
            // A lease is over before its time where the clock was set, or the machine slept.
            rows.retain(|row| !self.state.flies(&route, &row.id));
            let ids: Vec<_> = rows.iter().map(|row| (row.id.clone(), row.attempts)).collect();
            self.state.claimed(&route, ids.into_iter(), more, claimed.next_due);
            let mut outcomes = Vec::new();
            let mut pass = Pass { link: self.links.get(&route), full: false, held: HashSet::new() };
            for row in rows {
                let id = row.id.clone();
                let Some(answer) = self.pass_on(&route, epoch, row, &mut pass) else { continue };
                outcomes.extend(self.state.answered(&route, id, answer, now_millis(), random::unit_f64()));
                if pass.full {
                    self.state.claim_failed(&route, now_millis() + STORE_PAUSE);
                }
            }
            self.settle(outcomes);
        }
    }

    /// Hands one row to its link. What is returned is what became of one that could not be: then nothing may follow that
    /// would overtake it.
    fn pass_on(&mut self, route: &Route, epoch: Epoch, mut row: Row, pass: &mut Pass) -> Option<Answer> {
        if pass.full || pass.held.contains(&row.target) {
            return Some(Answer::Lost);
        }
        let sealing = match self.sealer.seal(route, pass.link.as_ref(), &mut row) {
            Ok(sealing) => sealing,
            Err(answer) => {
                if !seal::is_final(&answer) {
                    pass.held.insert(row.target);
                }
                return Some(answer);
            }
        };
        let id = row.id.clone();
        let cmd = Cmd::Send(Box::new(outgoing(row, epoch, sealing)));
        if pass.link.as_ref().is_some_and(|link| link.try_send(cmd).is_ok()) {
            return None;
        }
        pass.full = true;
        self.sealer.answered(&id, &Answer::Lost);
        Some(Answer::Lost)
    }

    fn claim_failed(&mut self, route: &Route, err: &store::Error) {
        self.failed(err, "it is tried again");
        self.state.claim_failed(route, now_millis() + STORE_PAUSE);
    }

    fn failed(&self, err: &store::Error, consequence: &str) {
        log::warn!("outbox: {err}; {consequence}");
        supervisor::store_failed(&self.supervisor, err);
    }

    /// Waits for the answers that are on their way, a little; the rest goes back to the outbox without an attempt counted.
    fn stop(mut self, events: &Receiver<Event>) {
        let until = Instant::now() + STOP_PATIENCE;
        while !self.state.in_flight().is_empty() {
            let Ok(event) = events.recv_deadline(until) else { break };
            let mut outcomes = Vec::new();
            self.on(event, &mut outcomes);
            self.settle(outcomes);
        }
        let left = self.state.in_flight().into_iter().map(|row| (row, Outcome::Returned)).collect();
        self.settle(left);
    }
}

fn outgoing(row: Row, epoch: Epoch, sealing: Sealing) -> Outgoing {
    let frame = Send {
        // The reference's clients use one id for both, and so can any log that follows a message.
        id: row.client_id.to_string(),
        client_message_id: Some(row.client_id),
        request_fingerprint: Some(crate::base::hex::encode(&row.fingerprint)),
        target_spec: row.target,
        priority: row.priority,
        nonce: row.nonce,
        ciphertext: row.ciphertext,
        reply_to_id: row.reply_to,
        mentions: sealing.mentions,
        body_version: sealing.seal.as_ref().map(|_| SEALED_BODY),
        seal: sealing.seal,
    };
    Outgoing { row: row.id, epoch, membership: row.membership, frame }
}
