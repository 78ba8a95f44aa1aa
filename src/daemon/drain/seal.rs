//! Sealing what is for many. It is done when a row goes out and not before: the key may be another by then. One thread does
//! it for all, so that nothing overtakes what waits for a key or was refused with an old one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::ids::{MeshId, Slug};
use crate::crypto::keys::SecretKey;
use crate::daemon::ctx::Ctx;
use crate::daemon::link::{Answer, Cmd};
use crate::daemon::meshes::Membership;
use crate::daemon::scoped::{self, Place, UNSEALED};
use crate::net::ws::Handle;
use crate::store::RowId;
use crate::store::outbox::{self, Route, Row};
use crate::wire::code::Code;
use crate::wire::key::{Scope, Seal};
use crate::wire::target::Target;

/// What goes out beside the sealed text.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    pub(super) seal: Option<Seal>,
    pub(super) mentions: Vec<String>,
}

/// A row on its way, and what it was sealed with.
#[derive(Debug)]
struct Flying {
    route: Route,
    target: String,
    mesh: MeshId,
    scope: Scope,
    epoch: u32,
}

#[derive(Debug)]
pub(super) struct Sealer {
    ctx: Arc<Ctx>,
    flying: HashMap<RowId, Flying>,
    /// With which key, and how many, by where they go.
    lanes: HashMap<(Route, String), (u32, usize)>,
    /// The targets of what waits for a key.
    held: HashMap<(Slug, Scope), HashSet<String>>,
}

fn refused(code: Code, why: &str) -> Answer {
    Answer::Refused { text: format!("{code}: {why}"), code, retry_after_ms: None }
}

/// Whether what follows to the same target may go.
pub(super) fn is_final(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused { code, .. } if code.retry() == crate::wire::code::Retry::Never)
}

impl Sealer {
    pub(super) fn new(ctx: Arc<Ctx>) -> Sealer {
        Sealer { ctx, flying: HashMap::new(), lanes: HashMap::new(), held: HashMap::new() }
    }

    /// Seals a row that was not sealed when it was accepted. `Err` is what becomes of one that can not go out now.
    pub(super) fn seal(&mut self, route: &Route, link: Option<&Handle<Cmd>>, row: &mut Row) -> Result<Sealing, Answer> {
        if row.ciphertext != UNSEALED {
            return Ok(Sealing::default());
        }
        let target = Target::parse(&row.target);
        let scope = target.as_ref().and_then(Scope::of);
        let (Some(target), Some(scope), Some(text)) = (target, scope, row.text.take()) else {
            return Err(refused(Code::Invalid, "there is nothing to seal, or nobody to seal it for"));
        };
        let membership = self.membership(route, row)?;
        if self.ctx.links.keeps_keys(route) == Some(false) {
            return Err(refused(
                Code::CannotOpen,
                "this broker passes on nothing that is sealed for many; send it with --plaintext",
            ));
        }
        let Some((epoch, key)) = self.ctx.keyring.in_use(&membership.mesh, &scope) else {
            self.need(route, link, scope, &row.target);
            return Err(refused(Code::KeyPending, "its key is asked for"));
        };
        let lane = (route.clone(), row.target.clone());
        if self.lanes.get(&lane).is_some_and(|(flying, _)| *flying != epoch) {
            // What is on its way under another key may yet be refused, and goes again first.
            return Err(refused(Code::KeyPending, "it waits for what went before it under another key"));
        }
        let session;
        let secret: &SecretKey = match route.sender {
            outbox::Sender::Member => &membership.secret,
            outbox::Sender::Session(key) => {
                session = self.ctx.sessions.signer(&key);
                let pair = session.as_ref().and_then(|session| session.key.as_ref());
                &pair.ok_or_else(|| refused(Code::Unavailable, "its session is not here"))?.secret
            }
        };
        let mentions = scoped::mentions(&target, &String::from_utf8_lossy(&text));
        let place =
            Place { mesh: &membership.mesh, target: &row.target, client_id: &row.client_id, repeats: false, mentions: &mentions };
        let (sealed, seal) = scoped::seal(place, &text, (epoch, &key), secret);
        (row.nonce, row.ciphertext) = (sealed.nonce_b64, sealed.ciphertext_b64);
        self.lanes.entry(lane).or_insert((epoch, 0)).1 += 1;
        let flying = Flying { route: route.clone(), target: row.target.clone(), mesh: membership.mesh.clone(), scope, epoch };
        self.flying.insert(row.id.clone(), flying);
        Ok(Sealing { seal: Some(seal), mentions })
    }

    /// Who sends it: it goes out as whom it was accepted for, or not at all.
    fn membership(&self, route: &Route, row: &Row) -> Result<Arc<Membership>, Answer> {
        let own = self.ctx.meshes.get(&route.mesh);
        let own = own.ok_or_else(|| refused(Code::Unavailable, "its mesh is not joined now"))?;
        match &row.membership {
            Some(accepted) if accepted.mesh == own.mesh && accepted.member == own.key => Ok(own),
            _ => Err(refused(Code::MeshChanged, "it was accepted for another mesh, or as another member")),
        }
    }

    fn need(&mut self, route: &Route, link: Option<&Handle<Cmd>>, scope: Scope, target: &str) {
        self.held.entry((route.mesh.clone(), scope.clone())).or_default().insert(target.to_owned());
        if let Some(link) = link {
            // Full: the row is tried again, and asks again.
            let _ = link.try_send(Cmd::NeedKey(scope));
        }
    }

    /// A row is not on its way any more.
    pub(super) fn answered(&mut self, row: &RowId, answer: &Answer) {
        let Some(Flying { route, target, mesh, scope, epoch }) = self.flying.remove(row) else { return };
        let lane = (route.clone(), target.clone());
        if let Some((_, count)) = self.lanes.get_mut(&lane) {
            *count -= 1;
            if *count == 0 {
                self.lanes.remove(&lane);
            }
        }
        if let Answer::Refused { code: Code::KeyClosed | Code::KeyPending, .. } = answer {
            self.ctx.keyring.retire(&mesh, &scope, epoch);
            let link = self.ctx.links.get(&route);
            self.need(&route, link.as_ref(), scope, &target);
        }
    }

    /// Nothing of this link's is on its way any more.
    pub(super) fn link_died(&mut self, route: &Route) {
        self.flying.retain(|_, flying| flying.route != *route);
        self.lanes.retain(|(of, _), _| of != route);
    }

    /// The targets of what waited for this key.
    pub(super) fn key_ready(&mut self, mesh: &Slug, scope: &Scope) -> HashSet<String> {
        self.held.remove(&(mesh.clone(), scope.clone())).unwrap_or_default()
    }
}
