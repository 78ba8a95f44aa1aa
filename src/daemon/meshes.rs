//! The meshes this machine has joined, with the member's key on each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::config::{Config, Mesh};
use crate::base::ids::{MemberId, MemberKey, MeshId, Slug};
use crate::crypto::keys::SecretKey;

/// Membership of one mesh: an entry of `config.json` whose keys have been checked.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) slug: Slug,
    pub(super) mesh: MeshId,
    pub(super) member: MemberId,
    pub(super) key: MemberKey,
    pub(super) secret: SecretKey,
    pub(super) broker_url: String,
}

impl Membership {
    /// `Err` says what is wrong with the entry.
    fn from_config(entry: &Mesh) -> Result<Membership, &'static str> {
        let secret = SecretKey::parse_hex(entry.secret_key.reveal()).ok_or("its secretKey is not a key")?;
        if secret.public() != entry.pubkey.0 {
            return Err("its secretKey does not belong to its pubkey");
        }
        Ok(Membership {
            slug: entry.slug.clone(),
            mesh: entry.mesh_id.clone(),
            member: entry.member_id.clone(),
            key: entry.pubkey,
            secret,
            broker_url: entry.broker_url.clone(),
        })
    }

    fn same_as(&self, other: &Membership) -> bool {
        (&self.mesh, &self.member, self.key, &self.broker_url) == (&other.mesh, &other.member, other.key, &other.broker_url)
    }
}

/// What a new reading of `config.json` changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Joined, or joined again under other terms.
    pub(super) attached: Vec<Arc<Membership>>,
    /// Left, or replaced.
    pub(super) dropped: Vec<Arc<Membership>>,
}

impl Change {
    /// What was called otherwise before: the old name and the membership as it is now.
    pub(super) fn renamed(&self) -> Vec<(Slug, Arc<Membership>)> {
        let now = |old: &Membership| {
            let is_it = |new: &&Arc<Membership>| new.slug != old.slug && new.mesh == old.mesh && new.member == old.member;
            Some((old.slug.clone(), self.attached.iter().find(is_it)?.clone()))
        };
        self.dropped.iter().filter_map(|old| now(old)).collect()
    }
}

/// The table of memberships, by slug.
#[derive(Debug, Default)]
pub(super) struct Meshes {
    by_slug: Mutex<BTreeMap<Slug, Arc<Membership>>>,
}

impl Meshes {
    pub(super) fn get(&self, slug: &Slug) -> Option<Arc<Membership>> {
        self.lock().get(slug).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Membership>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn slugs(&self) -> Vec<String> {
        self.lock().keys().map(ToString::to_string).collect()
    }

    /// The membership of the mesh with this id, whatever it is called.
    pub(super) fn by_id(&self, mesh: &MeshId) -> Option<Arc<Membership>> {
        self.lock().values().find(|membership| membership.mesh == *mesh).cloned()
    }

    /// The one mesh there is, if there is one.
    pub(super) fn only(&self) -> Option<Arc<Membership>> {
        let table = self.lock();
        if table.len() == 1 { table.values().next().cloned() } else { None }
    }

    /// Takes over a configuration. The last of two entries with one slug counts, as in the reference: it is the one that was
    /// joined later. A faulty entry is logged and left out.
    pub(super) fn apply(&self, config: &Config) -> Change {
        let mut wanted: BTreeMap<Slug, Arc<Membership>> = BTreeMap::new();
        for entry in &config.meshes {
            match Membership::from_config(entry) {
                Ok(membership) => {
                    if wanted.insert(entry.slug.clone(), Arc::new(membership)).is_some() {
                        log::warn!("config.json names mesh {} twice; the last entry counts", entry.slug);
                    }
                }
                Err(why) => log::warn!("config.json: mesh {} is left out: {why}", entry.slug),
            }
        }
        let mut table = self.lock();
        let mut change = Change::default();
        for (slug, membership) in &mut wanted {
            match table.get(slug) {
                Some(old) if old.same_as(membership) => *membership = old.clone(),
                _ => change.attached.push(membership.clone()),
            }
        }
        for (slug, old) in table.iter() {
            if !wanted.get(slug).is_some_and(|new| Arc::ptr_eq(new, old)) {
                change.dropped.push(old.clone());
            }
        }
        *table = wanted;
        change
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Slug, Arc<Membership>>> {
        self.by_slug.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::KeyPair;

    fn entry(slug: &str, seed: u8, url: &str) -> Mesh {
        let pair = KeyPair::from_seed([seed; 32]);
        Mesh {
            mesh_id: MeshId::new(format!("m{seed}")),
            member_id: MemberId::new("i"),
            slug: Slug::new(slug),
            name: slug.into(),
            pubkey: MemberKey(pair.public),
            secret_key: pair.secret.to_secret_text(),
            broker_url: url.into(),
            joined_at: String::new(),
            rest: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_new_configuration_attaches_and_drops_only_what_changed() {
        let meshes = Meshes::default();
        let config = |meshes| {
            let mut config = Config::default();
            config.meshes = meshes;
            config
        };
        let slugs = |list: &[Arc<Membership>]| list.iter().map(|m| m.slug.to_string()).collect::<Vec<_>>();
        let first =
            meshes.apply(&config(vec![entry("a", 1, "ws://x/ws"), entry("b", 2, "ws://x/ws"), entry("a", 3, "ws://y/ws")]));
        assert_eq!((slugs(&first.attached), slugs(&first.dropped)), (vec!["a".into(), "b".into()], vec![]));
        assert_eq!(meshes.get(&Slug::new("a")).unwrap().broker_url, "ws://y/ws", "the last entry of a slug counts");
        let moved = meshes.apply(&config(vec![entry("a", 3, "ws://y/ws"), entry("b", 2, "ws://z/ws")]));
        assert_eq!((slugs(&moved.attached), slugs(&moved.dropped)), (vec!["b".into()], vec!["b".into()]));
        assert!(moved.renamed().is_empty());
        let renamed = meshes.apply(&config(vec![entry("c", 3, "ws://y/ws"), entry("b", 2, "ws://z/ws")]));
        let names: Vec<_> = renamed.renamed().iter().map(|(old, new)| format!("{old} {}", new.slug)).collect();
        assert_eq!(names, ["a c"]);
        meshes.apply(&config(vec![entry("a", 3, "ws://y/ws"), entry("b", 2, "ws://z/ws")]));
        let left = meshes.apply(&config(vec![entry("a", 3, "ws://y/ws")]));
        assert_eq!((slugs(&left.attached), slugs(&left.dropped)), (vec![], vec!["b".into()]));
        assert_eq!(meshes.only().map(|m| m.slug.to_string()).as_deref(), Some("a"));
        let mut forged = entry("c", 4, "ws://x/ws");
        forged.pubkey = MemberKey(KeyPair::from_seed([5; 32]).public);
        assert!(meshes.apply(&config(vec![forged])).attached.is_empty());
    }
}
