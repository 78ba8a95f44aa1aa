//! Who can open what is sealed for many.

use std::collections::{HashMap, HashSet};

use super::Router;
use crate::base::ids::{MemberKey, MeshId, PublicKey, SessionKey};

impl Router {
    /// Those of these keys whose clients can not, by name, and those who are not here to tell. A session has its key of its
    /// own; for a member's key its daemons are asked.
    pub(in crate::broker) fn unable(
        &self,
        mesh: &MeshId,
        keys: &[PublicKey],
    ) -> (HashMap<PublicKey, String>, HashSet<PublicKey>) {
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return (HashMap::new(), keys.iter().copied().collect()) };
        let (mut unable, mut away) = (HashMap::new(), HashSet::new());
        for key in keys {
            let session = mesh.sessions.get(&SessionKey(*key)).and_then(|id| mesh.presences.get(id));
            let daemons = mesh.daemons.get(&MemberKey(*key)).into_iter().flatten().filter_map(|id| mesh.presences.get(id));
            let mut there = session.into_iter().chain(daemons).peekable();
            if there.peek().is_none() {
                away.insert(*key);
            }
            if let Some(presence) = there.find(|presence| !presence.about.opens_sealed()) {
                unable.insert(*key, presence.name.clone());
            }
        }
        (unable, away)
    }
}
