//! What members allow each other and who is kept out, in memory: every message and every hello asks.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::ids::{MemberKey, MeshId, PublicKey};
use crate::base::time::Millis;
use crate::store;
use crate::store::hub::{GrantRow, Hub, KickRow};
use crate::wire::grant::Capability;

/// For each mesh and peer: who has said what of it.
type ByPeer = HashMap<(MeshId, MemberKey), HashMap<MemberKey, Vec<Capability>>>;

/// The tables. Each lock guards only its map.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    grants: Mutex<ByPeer>,
    kept_out: Mutex<HashMap<(MeshId, PublicKey), Millis>>,
}

impl Allowed {
    /// As it stands in the database.
    pub(super) fn load(hub: &Hub, now: Millis) -> Result<Allowed, store::Error> {
        let allowed = Allowed::default();
        for row in hub.grants()? {
            allowed.set(row, false);
        }
        allowed.keep_out(&hub.kicks(now)?, now);
        Ok(allowed)
    }

    /// What a member allows a peer from now on.
    pub(super) fn set(&self, row: GrantRow, reset: bool) {
        let mut grants = lock(&self.grants);
        let of_peer = grants.entry((row.mesh, row.peer)).or_default();
        match reset {
            true => drop(of_peer.remove(&row.member)),
            false => drop(of_peer.insert(row.member, row.capabilities)),
        }
        grants.retain(|_, of_peer| !of_peer.is_empty());
    }

    /// What a member has said of a peer, if anything.
    pub(super) fn of(&self, mesh: &MeshId, member: MemberKey, peer: MemberKey) -> Option<Vec<Capability>> {
        lock(&self.grants).get(&(mesh.clone(), peer))?.get(&member).cloned()
    }

    /// Everything that a member has said of others.
    pub(super) fn by(&self, mesh: &MeshId, member: MemberKey) -> Vec<(MemberKey, Vec<Capability>)> {
        let grants = lock(&self.grants);
        let of_mesh = grants.iter().filter(|((of, _), _)| of == mesh);
        of_mesh.filter_map(|((_, peer), of_peer)| Some((*peer, of_peer.get(&member)?.clone()))).collect()
    }

    /// The members that do not allow this to a peer. As a rule there are none.
    pub(super) fn deniers(&self, mesh: &MeshId, peer: MemberKey, capability: Capability) -> HashSet<MemberKey> {
        let grants = lock(&self.grants);
        let said = grants.get(&(mesh.clone(), peer)).into_iter().flatten();
        said.filter(|(_, allowed)| !allowed.contains(&capability)).map(|(member, _)| *member).collect()
    }

    /// Whether a member allows this to a peer.
    pub(super) fn allows(&self, mesh: &MeshId, member: MemberKey, peer: MemberKey, capability: Capability) -> bool {
        let grants = lock(&self.grants);
        // As a rule nobody has said anything, and this is asked of each message.
        if grants.is_empty() {
            return true;
        }
        let said = grants.get(&(mesh.clone(), peer)).and_then(|of_peer| of_peer.get(&member));
        said.is_none_or(|allowed| allowed.contains(&capability))
    }

    /// The peers to which a member does not allow this.
    pub(super) fn denied_by(&self, mesh: &MeshId, member: MemberKey, capability: Capability) -> HashSet<MemberKey> {
        let said = self.by(mesh, member).into_iter();
        said.filter(|(_, allowed)| !allowed.contains(&capability)).map(|(peer, _)| peer).collect()
    }

    /// Keeps keys out until their time is over.
    pub(super) fn keep_out(&self, kicks: &[KickRow], now: Millis) {
        let mut kept_out = lock(&self.kept_out);
        kept_out.retain(|_, until| now < *until);
        kept_out.extend(kicks.iter().map(|kick| ((kick.mesh.clone(), kick.key), kick.until)));
    }

    pub(super) fn let_in(&self, mesh: &MeshId, key: PublicKey) {
        lock(&self.kept_out).remove(&(mesh.clone(), key));
    }

    /// Until when one of these keys is kept out.
    pub(super) fn kept_out(&self, mesh: &MeshId, keys: [PublicKey; 2], now: Millis) -> Option<Millis> {
        let kept_out = lock(&self.kept_out);
        if kept_out.is_empty() {
            return None;
        }
        keys.into_iter().filter_map(|key| kept_out.get(&(mesh.clone(), key))).copied().filter(|until| now < *until).max()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
