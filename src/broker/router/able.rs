//! Who can open what is sealed for many.

use std::collections::{HashMap, HashSet};

use super::{Mesh, Router};
use crate::base::ids::{MemberKey, MeshId, PublicKey, SessionKey};
use crate::broker::presence::{Line, Presence};

impl Mesh {
    /// A member's daemons that are here and open what is sealed for many.
    fn able_daemons(&self, member: &MemberKey) -> impl Iterator<Item = (&Presence, &Line)> {
        let daemons = self.daemons.get(member).into_iter().flatten().filter_map(|id| self.presences.get(id));
        daemons.filter(|daemon| daemon.about.opens_sealed()).filter_map(|daemon| Some((daemon, daemon.line()?)))
    }
}

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

    /// The daemons of these members, of those that can.
    pub(in crate::broker) fn able_daemons(&self, mesh: &MeshId, members: &[MemberKey]) -> Vec<Line> {
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return Vec::new() };
        members.iter().flat_map(|member| mesh.able_daemons(member)).map(|(_, line)| line.clone()).collect()
    }

    /// One daemon of each of these members, of those that can; as many as that, the latest to have come first: of one that
    /// came long ago nobody may have noticed yet that it is gone.
    pub(in crate::broker) fn latest_able(&self, mesh: &MeshId, members: &[MemberKey], most: usize) -> Vec<Line> {
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return Vec::new() };
        let latest = |member| mesh.able_daemons(member).max_by_key(|(daemon, _)| daemon.connected_at);
        let mut daemons: Vec<_> = members.iter().filter_map(latest).collect();
        daemons.sort_by_key(|(daemon, _)| std::cmp::Reverse(daemon.connected_at));
        daemons.into_iter().take(most).map(|(_, line)| line.clone()).collect()
    }
}
