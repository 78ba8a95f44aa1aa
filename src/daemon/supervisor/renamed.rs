//! A mesh that is called otherwise from now on: what is on this machine under its old name follows.

use std::sync::{Arc, Mutex};

use crate::base::ids::{MeshId, Slug};
use crate::crypto::keys::{KeyPair, SecretKey};
use crate::daemon::link::Farewell;
use crate::daemon::meshes::Membership;
use crate::daemon::registry;
use crate::daemon::sessions::Session;
use crate::daemon::upkeep;
use crate::store::outbox::{Route, Sender};
use crate::store::session_keys;

use super::Supervisor;

impl Supervisor {
    /// The sessions, their links, their key files and the mail of a mesh follow it.
    pub(super) fn renamed(&mut self, old: &Slug, new: &Membership) {
        log::info!("mesh {old} is called {} now", new.slug);
        let mut sessions = self.ctx.sessions.all();
        sessions.retain(|session| session.mesh == *old);
        // Nobody is gone: the broker keeps their places.
        for session in &sessions {
            self.stop_session_link(session, Farewell::BackSoon);
        }
        self.end_couriers(|route| route.mesh == *old, Farewell::BackSoon);
        self.stop_link(Route { mesh: old.clone(), sender: Sender::Member }, Farewell::BackSoon);
        self.files_follow(old, new);
        for session in self.ctx.sessions.departed().iter().filter(|session| session.mesh == *old) {
            self.ctx.sessions.depart(Arc::new(moved(session, &new.slug)));
        }
        for session in sessions {
            let moved = moved(&session, &new.slug);
            if let Some(key) = moved.public_key() {
                self.stopped.push(Route { mesh: new.slug.clone(), sender: Sender::Session(key) });
            }
            // Its link starts with those of the mesh; whoever follows its news comes back for them under the new name.
            self.ctx.sessions.rename(moved);
        }
        self.ctx.bus.cut(old);
        registry::save(&self.ctx);
    }

    /// A session of the last daemon, on a mesh that may have another name by now.
    pub(super) fn follow(&self, session: &mut Session, mesh: Option<&MeshId>) {
        if self.ctx.meshes.get(&session.mesh).is_some() {
            return;
        }
        let Some(new) = mesh.and_then(|mesh| self.ctx.meshes.by_id(mesh)) else { return };
        self.files_follow(&session.mesh, &new);
        session.mesh = new.slug.clone();
    }

    fn files_follow(&self, old: &Slug, new: &Membership) {
        if let Err(err) = session_keys::rename(&self.ctx.paths, old, &new.slug) {
            log::error!("the keys of the sessions on {old} can not be kept under its new name: {err}");
        }
        upkeep::rename(&self.ctx, old, &new.slug, &new.mesh);
    }
}

/// The same session on a mesh that is called `slug` now.
fn moved(session: &Session, slug: &Slug) -> Session {
    Session {
        serial: session.serial,
        token: session.token,
        token_prefix: session.token_prefix.clone(),
        id: session.id.clone(),
        mesh: slug.clone(),
        name: session.name.clone(),
        pid: session.pid,
        started: session.started,
        cwd: session.cwd.clone(),
        role: session.role.clone(),
        caps: session.caps.clone(),
        outward: Mutex::new(session.outward()),
        key: session.key.as_ref().and_then(copy),
        registered_at: session.registered_at,
    }
}

fn copy(key: &KeyPair) -> Option<KeyPair> {
    SecretKey::parse_hex(key.secret.to_secret_text().reveal()).map(KeyPair::from)
}
