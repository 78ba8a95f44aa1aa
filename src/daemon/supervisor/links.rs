//! The links that should be running: one for each joined mesh, and one for each session that has a key.

use std::sync::Arc;

use crate::base::ids::SessionKey;
use crate::base::thread::Running;
use crate::store::outbox::Route;

use super::{Linked, Supervisor};
use crate::daemon::drain;
use crate::daemon::link::{self, Cmd, Farewell, Identity};
use crate::daemon::meshes::{Change, Membership};
use crate::daemon::sessions::Session;

impl Supervisor {
    /// Tells every link to close, and hands over the threads to be joined.
    pub(in crate::daemon) fn stop_links(&mut self) -> Vec<Running> {
        for (route, handle) in self.ctx.links.all() {
            // A link too busy to hear this ends when its process does; its rows are safe on both sides.
            if handle.try_send(Cmd::Stop(Farewell::BackSoon)).is_err() {
                log::warn!("a link of {} is too busy to be told to stop", route.mesh);
            }
        }
        self.leaving.extend(self.links.drain().map(|(_, linked)| linked.running));
        std::mem::take(&mut self.leaving)
    }

    pub(in crate::daemon) fn start_session_link(&mut self, membership: &Arc<Membership>, session: &Arc<Session>) {
        if session.key.is_some() {
            self.start_link(Identity { membership: membership.clone(), session: Some(session.clone()) });
        }
    }

    pub(super) fn start_link(&mut self, identity: Identity) {
        self.next_serial += 1;
        let route = identity.route();
        let serial = self.next_serial;
        // The last daemon may have had the keys of those that were brought back open until a moment ago. As the member each
        // daemon is somebody new.
        let follows = self.stopped.contains(&route) || (self.beginning && identity.session.is_some());
        match link::start(&self.ctx, identity.clone(), serial, follows) {
            Ok(running) => {
                if self.couriers.contains_key(&route) {
                    self.ctx.links.becomes_courier(&route);
                }
                if let Some(old) = self.links.insert(route, Linked { serial, identity, running }) {
                    self.leaving.push(old.running);
                }
            }
            Err(err) => {
                log::error!("a link of {} could not be started: {err}", route.mesh);
                self.couriers.remove(&route);
            }
        }
    }

    pub(in crate::daemon) fn stop_session_link(&mut self, session: &Session, farewell: Farewell) {
        if let Some(SessionKey(_)) = session.public_key() {
            let sender = session.public_key().map_or(crate::store::outbox::Sender::Member, crate::store::outbox::Sender::Session);
            self.stop_link(Route { mesh: session.mesh.clone(), sender }, farewell);
        }
    }

    pub(super) fn stop_link(&mut self, route: Route, farewell: Farewell) {
        self.couriers.remove(&route);
        let Some(linked) = self.links.remove(&route) else { return };
        self.leaving.push(linked.running);
        self.stopped.push(route.clone());
        if let Some(handle) = self.ctx.links.get(&route)
            && handle.try_send(Cmd::Stop(farewell)).is_err()
        {
            self.farewells.push((route, farewell));
        }
    }

    /// A link ends only when it is told to. One that ended otherwise has panicked, with everything that it had in hand.
    pub(in crate::daemon) fn replace_dead_links(&mut self) {
        let dead: Vec<Route> =
            self.links.iter().filter(|(_, linked)| linked.running.is_finished()).map(|(route, _)| route.clone()).collect();
        for route in dead {
            let Some(linked) = self.links.remove(&route) else { continue };
            log::error!("a link of {} has failed and is started anew", route.mesh);
            self.ctx.links.remove(&route, linked.serial);
            self.leaving.push(linked.running);
            // Its queue is short of room only for as long as the drain writes to its database.
            self.ctx.drain.tell(drain::Event::LinkDied(route));
            self.start_link(linked.identity);
        }
    }

    pub(in crate::daemon) fn meshes_changed(&mut self, change: &Change) {
        for (old, new) in change.renamed() {
            self.renamed(&old, &new);
        }
        let sessions = self.ctx.sessions.all();
        for old in &change.dropped {
            log::info!("mesh {} is dropped", old.slug);
            for session in sessions.iter().filter(|session| session.mesh == old.slug) {
                self.stop_session_link(session, Farewell::Ended);
            }
            self.end_couriers(|route| route.mesh == old.slug, Farewell::Ended);
            self.stop_link(Route { mesh: old.slug.clone(), sender: crate::store::outbox::Sender::Member }, Farewell::Ended);
            self.ctx.rosters.forget(&old.slug);
        }
        for new in &change.attached {
            log::info!("mesh {} is attached ({})", new.slug, new.broker_url);
            self.start_link(Identity { membership: new.clone(), session: None });
            for session in sessions.iter().filter(|session| session.mesh == new.slug) {
                self.start_session_link(new, session);
            }
        }
    }
}
