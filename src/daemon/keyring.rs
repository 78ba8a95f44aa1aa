//! The shared keys that this daemon has: which is in use where, and those before it; and who waits for one to be given. In
//! memory alone: a sealed copy of each is with the broker.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::MeshId;
use crate::crypto::scope_key::ScopeKey;
use crate::wire::key::Scope;

/// Keys kept at once; when full, all are wiped and asked for again as needed.
const CAPACITY: usize = 4096;

/// How long it is believed who can open what is sent somewhere.
const FRESH: Duration = Duration::from_secs(3);

/// Targets about which that is kept, and scopes whose key is hoped for.
const CHECKED: usize = 1024;

/// How long it is hoped that somebody gives the key in use, before the next is made.
const HOPE: Duration = Duration::from_secs(2);

/// One key: whose, and which.
type Place = (MeshId, Scope, u32);

/// The table. Guards only its maps; brokers are asked outside. Beside it stands how often a copy was given.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    table: Mutex<Table>,
    given: Mutex<u64>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<Place, Arc<ScopeKey>>,
    in_use: HashMap<(MeshId, Scope), u32>,
    /// The key in use that was asked for, and since when.
    hoped: HashMap<(MeshId, Scope), Instant>,
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
        table.hoped.remove(&(mesh.clone(), scope.clone()));
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

    /// Whether it may be hoped that somebody gives this key: for a while from the first time on.
    pub(super) fn may_hope(&self, mesh: &MeshId, scope: &Scope, now: Instant) -> bool {
        let mut table = self.lock();
        if CHECKED <= table.hoped.len() {
            table.hoped.clear();
        }
        now < *table.hoped.entry((mesh.clone(), scope.clone())).or_insert(now) + HOPE
    }

    /// Whether the key of this scope was hoped for, which is over.
    pub(super) fn was_hoped(&self, mesh: &MeshId, scope: &Scope) -> bool {
        self.lock().hoped.remove(&(mesh.clone(), scope.clone())).is_some()
    }

    /// A copy of some key was given: whoever waits looks whether it was the one.
    pub(super) fn note_given(&self) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.more.notify_all();
    }

    /// How often a copy was given.
    pub(super) fn given(&self) -> u64 {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one was given since there were `before`. False if none was by then.
    pub(super) fn await_given(&self, before: u64, until: Instant) -> bool {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = until.saturating_duration_since(Instant::now());
        let waited = self.more.wait_timeout_while(given, wait, |given| *given == before);
        let (given, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *given != before
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

    #[test]
    fn a_key_is_hoped_for_only_so_long_and_whoever_waits_hears_that_one_was_given() {
        let (ring, mesh, scope, now) = (Keyring::default(), MeshId::new("m"), Scope::Mesh, Instant::now());
        assert!(ring.may_hope(&mesh, &scope, now) && ring.may_hope(&mesh, &scope, now + HOPE / 2));
        assert!(!ring.may_hope(&mesh, &scope, now + HOPE));
        assert!(ring.was_hoped(&mesh, &scope) && !ring.was_hoped(&mesh, &scope));
        assert!(ring.may_hope(&mesh, &scope, now + HOPE));
        let before = ring.given();
        assert!(!ring.await_given(before, now));
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| ring.await_given(before, now + Duration::from_secs(60)));
            ring.note_given();
            assert!(waits.join().unwrap());
        });
        assert!(ring.await_given(before, now), "it was given before anybody waited");
    }
}
