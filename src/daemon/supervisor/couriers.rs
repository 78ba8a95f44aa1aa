//! What a session left to be sent when it ended goes out under its key: its link stays for that long, or is made anew for it,
//! and is a courier then, that stands for nobody who is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::{SessionId, SessionKey};
use crate::base::time::{Millis, now_millis};
use crate::daemon::link::{Farewell, Identity};
use crate::daemon::registry::{self, Kept};
use crate::daemon::sessions::Session;
use crate::store;
use crate::store::outbox::{Route, Sender, Work};
use crate::wire::ipc::LinkStatus;

use super::Supervisor;

/// Couriers at once. When there are as many, what other sessions left waits in the outbox until one of these is done.
const MAX_COURIERS: usize = 32;

/// How long a courier stays whose mail all waits for something: a key that was asked for comes meanwhile.
const LINGER: Duration = Duration::from_secs(10);

impl Supervisor {
    /// The session is over. If it left something to be sent, its link stays for that.
    pub(super) fn depart(&mut self, session: &Arc<Session>) {
        let left = session.public_key().map(|key| route_of(session, key)).filter(|route| self.work_of(route) != Work::Nothing);
        let Some(route) = left else { return self.stop_session_link(session, Farewell::Ended) };
        self.ctx.sessions.depart(session.clone());
        if MAX_COURIERS <= self.couriers.len() || !self.links.contains_key(&route) {
            return self.stop_session_link(session, Farewell::Ended);
        }
        self.becomes_courier(route);
    }

    /// A session that ended while no daemon ran, or before the last one did.
    pub(super) fn take_over(&mut self, kept: Kept) {
        let mut session = kept.session;
        self.follow(&mut session, kept.mesh.as_ref());
        let left = session.public_key().is_some_and(|key| self.work_of(&route_of(&session, key)) != Work::Nothing);
        if left {
            self.ctx.sessions.depart(Arc::new(session));
        }
    }

    /// Ends couriers that have nothing to do, and sends others where something is due: with `all`, or where one has made room.
    pub(super) fn see_to_couriers(&mut self, now: Instant, all: bool) {
        let before = self.ctx.sessions.departed().len();
        if self.end_idle_couriers(now) || all {
            self.send_couriers();
        }
        if self.ctx.sessions.departed().len() != before {
            registry::save(&self.ctx);
        }
    }

    /// Whether any has ended.
    fn end_idle_couriers(&mut self, now: Instant) -> bool {
        let couriers: Vec<(Route, Instant)> = self.couriers.iter().map(|(route, since)| (route.clone(), *since)).collect();
        let mut ended = false;
        for (route, since) in couriers {
            let is_idle = match self.work_of(&route) {
                Work::Nothing => {
                    self.forget_departed(&route);
                    true
                }
                work => since + LINGER <= now && (work == Work::Later || self.only_waits(&route)),
            };
            if is_idle {
                self.end_courier(&route, Farewell::Ended);
                ended = true;
            }
        }
        ended
    }

    fn send_couriers(&mut self) {
        // Asked of all at once: there may be many who wait.
        let Some(waiting) = self.waiting() else { return };
        for session in self.ctx.sessions.departed() {
            let Some(key) = session.public_key() else { continue };
            let route = route_of(&session, key);
            match waiting.get(&route) {
                _ if self.couriers.contains_key(&route) => {}
                // What is on its way does not wait, and may come back.
                None if self.work_of(&route) == Work::Nothing => self.forget_departed(&route),
                Some(due) if *due <= now_millis() && self.couriers.len() < MAX_COURIERS => self.send_courier(&session, route),
                None | Some(_) => {}
            }
        }
    }

    fn forget_departed(&self, route: &Route) {
        if let Sender::Session(key) = &route.sender {
            self.ctx.sessions.forget_departed(key);
        }
    }

    /// Whether a courier keeps others from going, and can not go itself: its broker is away, or lets nobody in.
    fn only_waits(&self, route: &Route) -> bool {
        MAX_COURIERS <= self.couriers.len() && self.ctx.links.status(route) != Some(LinkStatus::Open)
    }

    /// A message of this session was accepted as it ended, and perhaps after what it left was looked for.
    pub(super) fn left_late(&self, session: Arc<Session>) {
        if session.public_key().is_some_and(|key| self.ctx.sessions.signer(&key).is_none()) {
            self.ctx.sessions.depart(session);
        }
    }

    /// Every route with mail that waits, and when the first of it is due.
    fn waiting(&self) -> Option<HashMap<Route, Millis>> {
        let failed = |err: &store::Error| {
            log::error!("outbox: {err}; what sessions left to be sent waits");
            self.ctx.store_failed(err);
        };
        Some(self.ctx.outbox.routes_with_work().inspect_err(failed).ok()?.into_iter().collect())
    }

    /// Those of a mesh that is not there any more, or not under this name.
    pub(super) fn end_couriers(&mut self, of: impl Fn(&Route) -> bool, farewell: Farewell) {
        let routes: Vec<Route> = self.couriers.keys().filter(|route| of(route)).cloned().collect();
        routes.iter().for_each(|route| self.end_courier(route, farewell));
    }

    /// Those of sessions that go by this id. To the reference's broker two connections with one id are one.
    pub(super) fn end_couriers_of_id(&mut self, id: &SessionId) {
        for session in self.ctx.sessions.departed().iter().filter(|session| session.id == *id) {
            if let Some(key) = session.public_key() {
                self.end_courier(&route_of(session, key), Farewell::Ended);
            }
        }
    }

    fn send_courier(&mut self, session: &Arc<Session>, route: Route) {
        let Some(membership) = self.ctx.meshes.get(&session.mesh) else { return };
        if self.ctx.sessions.all().iter().any(|here| here.id == session.id) {
            return;
        }
        self.couriers.insert(route, Instant::now());
        self.start_link(Identity { membership, session: Some(session.clone()) });
    }

    fn becomes_courier(&mut self, route: Route) {
        self.ctx.links.becomes_courier(&route);
        self.couriers.insert(route, Instant::now());
    }

    fn end_courier(&mut self, route: &Route, farewell: Farewell) {
        if self.couriers.contains_key(route) {
            self.stop_link(route.clone(), farewell);
        }
    }

    fn work_of(&self, route: &Route) -> Work {
        let now: Millis = now_millis();
        self.ctx.outbox.work_of(route.clone(), now).unwrap_or_else(|err| {
            log::error!("outbox: {err}; what a session left to be sent waits");
            self.ctx.store_failed(&err);
            Work::Later
        })
    }
}

fn route_of(session: &Session, key: SessionKey) -> Route {
    Route { mesh: session.mesh.clone(), sender: Sender::Session(key) }
}
