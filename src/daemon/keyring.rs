//! The shared keys that this daemon has: which is in use where, and those before it. In memory alone: a sealed copy of each
//! is with the broker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::MeshId;
use crate::crypto::scope_key::ScopeKey;
use crate::wire::key::Scope;

/// Keys kept at once; when full, all are wiped and asked for again as needed.
const CAPACITY: usize = 4096;

/// How long it is believed who can open what is sent somewhere.
const FRESH: Duration = Duration::from_secs(3);

/// Targets about which that is kept.
const CHECKED: usize = 1024;

/// One key: whose, and which.
type Place = (MeshId, Scope, u32);

/// The table. Guards only its maps; brokers are asked outside.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<Place, Arc<ScopeKey>>,
    in_use: HashMap<(MeshId, Scope), u32>,
    /// The names of those who can not open what is sent to a target.
    checked: HashMap<(MeshId, String), (Instant, Vec<String>)>,
}

impl Keyring {
    /// The key to seal with, if it is known.
    pub(super) fn in_use(&self, mesh: &MeshId, scope: &Scope) -> Option<(u32, Arc<ScopeKey>)> {
        let table = self.lock();
        let epoch = *table.in_use.get(&(mesh.clone(), scope.clone()))?;
        Some((epoch, table.keys.get(&(mesh.clone(), scope.clone(), epoch))?.clone()))
    }

    pub(super) fn get(&self, mesh: &MeshId, scope: &Scope, epoch: u32) -> Option<Arc<ScopeKey>> {
        self.lock().keys.get(&(mesh.clone(), scope.clone(), epoch)).cloned()
    }

    /// Whether it was not known. Only [`Ctx::learn_key`] and [`Ctx::use_key`] do this: what waits for a key is tried there.
    ///
    /// [`Ctx::learn_key`]: super::ctx::Ctx::learn_key
    /// [`Ctx::use_key`]: super::ctx::Ctx::use_key
    pub(super) fn learn(&self, mesh: &MeshId, scope: &Scope, epoch: u32, key: Arc<ScopeKey>) -> bool {
        let mut table = self.lock();
        if CAPACITY <= table.keys.len() {
            table.keys.clear();
        }
        table.keys.insert((mesh.clone(), scope.clone(), epoch), key).is_none()
    }

    /// As [`Keyring::learn`], of the one that is in use.
    pub(super) fn use_from_now(&self, mesh: &MeshId, scope: &Scope, epoch: u32, key: Arc<ScopeKey>) -> bool {
        let new = self.learn(mesh, scope, epoch, key);
        let mut table = self.lock();
        let in_use = table.in_use.entry((mesh.clone(), scope.clone())).or_insert(epoch);
        *in_use = epoch.max(*in_use);
        new
    }

    /// A broker refused what was sealed with this one: it is to be asked before anything more is sealed.
    pub(super) fn retire(&self, mesh: &MeshId, scope: &Scope, epoch: u32) {
        let mut table = self.lock();
        let place = (mesh.clone(), scope.clone());
        if table.in_use.get(&place) == Some(&epoch) {
            table.in_use.remove(&place);
        }
    }

    /// Who can not open what is sent there, as of a moment ago.
    pub(super) fn unable(&self, mesh: &MeshId, target: &str) -> Option<Vec<String>> {
        let table = self.lock();
        let (at, unable) = table.checked.get(&(mesh.clone(), target.to_owned()))?;
        (at.elapsed() < FRESH).then(|| unable.clone())
    }

    pub(super) fn note_unable(&self, mesh: &MeshId, target: &str, unable: Vec<String>) {
        let mut table = self.lock();
        if CHECKED <= table.checked.len() {
            table.checked.clear();
        }
        table.checked.insert((mesh.clone(), target.to_owned()), (Instant::now(), unable));
    }

    /// Somebody came to this mesh, or shows itself otherwise.
    pub(super) fn forget_unable(&self, mesh: &MeshId) {
        self.lock().checked.retain(|(of, _), _| of != mesh);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_in_use_and_those_before_it_still_open() {
        let (ring, mesh, scope) = (Keyring::default(), MeshId::new("m"), Scope::Mesh);
        let key = || Arc::new(ScopeKey::generate());
        let in_use = || ring.in_use(&mesh, &scope).map(|(epoch, _)| epoch);
        ring.learn(&mesh, &scope, 1, key());
        assert_eq!(in_use(), None, "an old one was read");
        ring.use_from_now(&mesh, &scope, 3, key());
        ring.use_from_now(&mesh, &scope, 2, key());
        assert_eq!(in_use(), Some(3), "an answer that comes late changes nothing");
        ring.retire(&mesh, &scope, 2);
        assert_eq!(in_use(), Some(3));
        ring.retire(&mesh, &scope, 3);
        assert_eq!(in_use(), None);
        assert!(ring.get(&mesh, &scope, 3).is_some() && ring.get(&mesh, &Scope::Topic("t".into()), 3).is_none());
        assert!(ring.get(&MeshId::new("n"), &scope, 3).is_none());
        ring.use_from_now(&mesh, &scope, 4, key());
        assert_eq!(in_use(), Some(4));
    }
}
