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

    /// Sends couriers where something is due, and ends those that have nothing to do. With `all`, whoever left something is
    /// looked at; else those alone who have a courier.
    pub(super) fn see_to_couriers(&mut self, now: Instant, mut all: bool) {
        let mut forgotten = false;
        let waiting = if all { self.waiting() } else { HashMap::new() };
        // Those who have one first: where one ends, another may begin.
        let mut departed = self.ctx.sessions.departed();
        departed.sort_by_key(|session| self.courier_of(session).is_none());
        for session in departed {
            let Some(key) = session.public_key() else { continue };
            let route = route_of(&session, key);
            let since = self.couriers.get(&route).copied();
            if since.is_none() && !all {
                break;
            }
            let work = match waiting.get(&route) {
                Some(due) if since.is_none() && *due <= now_millis() => Work::Now,
                Some(_) if since.is_none() => Work::Later,
                _ => self.work_of(&route),
            };
            match (work, since) {
                (Work::Nothing, _) => {
                    self.ctx.sessions.forget_departed(&key);
                    self.end_courier(&route, Farewell::Ended);
                    (forgotten, all) = (true, true);
                }
                (work, Some(since)) if since + LINGER <= now && (work == Work::Later || self.only_waits(&route)) => {
                    self.end_courier(&route, Farewell::Ended);
                    all = true;
                }
                (Work::Now, None) if self.couriers.len() < MAX_COURIERS => self.send_courier(&session, route),
                (Work::Now | Work::Later, _) => {}
            }
        }
        if forgotten {
            registry::save(&self.ctx);
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
    fn waiting(&self) -> HashMap<Route, Millis> {
        self.ctx.outbox.routes_with_work().map(|routes| routes.into_iter().collect()).unwrap_or_else(|err| {
            log::error!("outbox: {err}; what sessions left to be sent waits");
            self.ctx.store_failed(&err);
            HashMap::new()
        })
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

    fn courier_of(&self, session: &Session) -> Option<Instant> {
        session.public_key().and_then(|key| self.couriers.get(&route_of(session, key)).copied())
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
