//! The shared keys that a connection is after: those to seal with, which the drain asks for, and those that something which
//! arrived was sealed with. Nothing waits for them but what they are for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Talk;
use crate::base::ids::MeshId;
use crate::crypto::scope_key::ScopeKey;
use crate::daemon::acquire::{self, Acquire, Frame, Next, Purpose};
use crate::daemon::drain;
use crate::daemon::inbound;
use crate::daemon::link::Reply;
use crate::daemon::link::state::Effect;
use crate::daemon::reopen;
use crate::net::ws::Outbox;
use crate::wire::code::Retry;
use crate::wire::key::{MAX_NEEDED, Scope};
use crate::wire::server::ServerFrame;

/// Messages that are held back while a key is asked for, at most: more than a broker has on its way to one recipient.
const MOST_HELD: usize = 1024;

/// How long a key that could not be had is not asked for again on the same connection.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// How often one is asked for again at once, where the broker could not say.
const MOST_TRIES: u32 = 3;

/// Keys about which that is remembered.
const REMEMBERED: usize = 1024;

/// What one connection has asked for.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The broker keeps shared keys.
    pub(super) kept: bool,
    acquiring: HashMap<u64, Acquire>,
    /// Scopes whose key others lack, each once. They are given it one after the other, so that nobody who comes and goes
    /// makes more work than that.
    to_give: VecDeque<Scope>,
    /// With how often it was tried before.
    reading: HashMap<u64, ((Scope, u32), u32)>,
    asked: HashMap<(Scope, u32), Instant>,
}

/// Something asked about keys, whose answer has come.
pub(super) enum Answered {
    Acquiring(Acquire),
    Reading((Scope, u32), u32),
}

impl Keys {
    /// What was asked under this ticket, if it was about keys.
    pub(super) fn take(&mut self, ticket: u64) -> Option<Answered> {
        let acquiring = self.acquiring.remove(&ticket).map(Answered::Acquiring);
        acquiring.or_else(|| self.reading.remove(&ticket).map(|(place, tries)| Answered::Reading(place, tries)))
    }
}

impl Talk<'_> {
    fn mesh(&self) -> &MeshId {
        &self.identity.membership.mesh
    }

    /// Asks the broker something; the answer comes under the ticket that is returned.
    pub(super) fn put(&mut self, frame: Frame, out: &mut Outbox) -> u64 {
        self.next_ticket += 1;
        let mut effects = Vec::new();
        self.state.call(self.next_ticket, frame, Instant::now(), &mut effects);
        for effect in effects {
            if let Effect::Frame(frame) = effect {
                out.text(frame.encode());
            }
        }
        self.next_ticket
    }

    /// The drain has something to seal and no key for it.
    pub(super) fn need_key(&mut self, scope: Scope, out: &mut Outbox) {
        let is_asked = |one: &Acquire| !one.gives() && *one.scope() == scope;
        if !self.state.is_open() || !self.keys.kept || self.keys.acquiring.values().any(is_asked) {
            return;
        }
        if self.ctx.keyring.in_use(self.mesh(), &scope).is_some() {
            // Another link of this daemon was quicker.
            return self.key_ready(scope);
        }
        let hopes = self.ctx.keyring.may_hope(self.mesh(), &scope, Instant::now());
        self.acquire(scope, if hopes { Purpose::SealPatiently } else { Purpose::Seal }, out);
    }

    fn acquire(&mut self, scope: Scope, purpose: Purpose, out: &mut Outbox) {
        let (acquire, first) = Acquire::begin(scope, purpose);
        let ticket = self.put(first, out);
        self.keys.acquiring.insert(ticket, acquire);
    }

    /// Others lack keys that this member has. Who they are the broker says when it is asked, and it is asked for each scope
    /// again if it said so while that was being given.
    pub(super) fn keys_needed(&mut self, scopes: Vec<Scope>, out: &mut Outbox) {
        if self.identity.session.is_some() || !self.keys.kept {
            return;
        }
        for scope in scopes {
            if self.keys.to_give.len() < MAX_NEEDED && !self.keys.to_give.contains(&scope) {
                self.keys.to_give.push_back(scope);
            }
        }
        self.give_next(out);
    }

    fn give_next(&mut self, out: &mut Outbox) {
        if self.state.is_open()
            && !self.keys.acquiring.values().any(Acquire::gives)
            && let Some(scope) = self.keys.to_give.pop_front()
        {
            self.acquire(scope, Purpose::Give, out);
        }
    }

    /// This member has its copy now: what waits for it in the inbox, in the outbox or in a request goes on.
    pub(super) fn key_given(&mut self, scope: Scope, epoch: u32, out: &mut Outbox) {
        if self.identity.session.is_some() || !self.keys.kept {
            return;
        }
        self.ctx.keyring.note_given();
        if self.ctx.keyring.was_hoped(self.mesh(), &scope) {
            self.need_key(scope.clone(), out);
        }
        let place = (scope, epoch);
        self.keys.asked.remove(&place);
        if !self.knows(&place) {
            self.want(place, out);
        }
    }

    fn key_ready(&self, scope: Scope) {
        self.ctx.drain.tell(drain::Event::KeyReady(self.identity.membership.slug.clone(), scope));
    }

    pub(super) fn key_answered(&mut self, answered: Answered, reply: Reply, out: &mut Outbox) {
        match answered {
            Answered::Acquiring(acquire) => self.acquired(acquire, reply, out),
            Answered::Reading(place, tries) => self.read(place, tries, reply, out),
        }
    }

    fn acquired(&mut self, mut acquire: Acquire, reply: Reply, out: &mut Outbox) {
        let next = match reply {
            Ok(answer) => acquire.answered(answer, &self.identity.membership),
            Err(code) => Next::Failed(code),
        };
        let (scope, gives) = (acquire.scope().clone(), acquire.gives());
        match next {
            Next::Ask(frame) => {
                let ticket = self.put(frame, out);
                self.keys.acquiring.insert(ticket, acquire);
            }
            Next::InUse(epoch, key) => {
                self.ctx.use_key(self.mesh(), &scope, epoch, key);
                self.key_ready(scope);
            }
            Next::Nothing => {}
            // What waits for it is tried again, and asks again.
            Next::Failed(code) => log::info!("link {}: there is no key for {scope} now: {code}", self.route.mesh),
        }
        if gives {
            self.give_next(out);
        }
    }

    /// A key was told, or that there is none for this member. What says neither is asked again: what waits for it would be
    /// kept as if it could never be opened.
    fn read(&mut self, place: (Scope, u32), tries: u32, reply: Reply, out: &mut Outbox) {
        let refused = match reply {
            Ok(Some(ServerFrame::KeyState(state))) => {
                let key = acquire::open_copy(&state, &self.identity.membership);
                return key
                    .filter(|_| (&state.scope, state.epoch) == (&place.0, place.1))
                    .map_or((), |key| self.learn(&place, key));
            }
            Ok(Some(ServerFrame::Error(refused))) => refused.code,
            Ok(_) => return,
            Err(code) => code,
        };
        if refused.retry() != Retry::Never && tries < MOST_TRIES && self.state.is_open() {
            self.look_for(place, tries + 1, out);
        }
    }

    fn learn(&mut self, (scope, epoch): &(Scope, u32), key: ScopeKey) {
        self.ctx.learn_key(self.mesh(), scope, *epoch, Arc::new(key));
    }

    /// Asks for a key to read with, unless that was done of late.
    fn want(&mut self, place: (Scope, u32), out: &mut Outbox) {
        if self.keys.asked.get(&place).is_some_and(|at| at.elapsed() < AGAIN_AFTER) {
            return;
        }
        if REMEMBERED <= self.keys.asked.len() {
            self.keys.asked.clear();
        }
        self.keys.asked.insert(place.clone(), Instant::now());
        self.look_for(place, 0, out);
    }

    fn look_for(&mut self, place: (Scope, u32), tries: u32, out: &mut Outbox) {
        let (scope, epoch) = place.clone();
        let ticket = self.put(acquire::ask(scope, Some(epoch), false), out);
        self.keys.reading.insert(ticket, (place, tries));
    }

    /// Whether what has arrived must wait for a key. What came later waits with it, or it would overtake.
    pub(super) fn awaits_keys(&mut self, out: &mut Outbox) -> bool {
        if MOST_HELD <= self.arrived.len() {
            return false;
        }
        let missing = self.missing();
        if missing.is_empty() {
            return false;
        }
        if !self.state.is_open() {
            // It is asked for once the hello has been accepted, or everything comes again on the next connection.
            return true;
        }
        if !self.keys.kept {
            // A broker that keeps none has none to give.
            return false;
        }
        for place in &missing {
            self.want(place.clone(), out);
        }
        self.keys.reading.values().any(|(place, _)| missing.contains(place))
    }

    /// The shared keys of what has arrived that are not known here.
    pub(super) fn missing(&self) -> HashSet<(Scope, u32)> {
        let places = self.arrived.iter().filter_map(inbound::key_of);
        places.filter(|place| !self.knows(place)).collect()
    }

    fn knows(&self, (scope, epoch): &(Scope, u32)) -> bool {
        self.ctx.keyring.get(self.mesh(), scope, *epoch).is_some()
    }

    /// What was just stored without these opens now if somebody else learnt one meanwhile: that found nothing to open yet.
    pub(super) fn stored_without(&self, missing: &HashSet<(Scope, u32)>) {
        if missing.iter().any(|place| self.knows(place)) {
            reopen::retry_shared(self.ctx, self.mesh());
        }
    }

    /// Asks for the keys of what is in the inbox and could not be opened when it came.
    pub(super) fn want_late_keys(&mut self, out: &mut Outbox) {
        if !self.keys.kept {
            return;
        }
        for place in reopen::missing_keys(self.ctx, self.identity) {
            self.want(place, out);
        }
    }
}
