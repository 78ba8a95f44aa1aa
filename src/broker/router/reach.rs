//! Whom a message reaches that is for certain members.

use std::collections::HashMap;

use crate::base::ids::{MemberKey, MeshId, PresenceId, PublicKey};
use crate::broker::presence::Kind;

use super::Router;

impl Router {
    /// The keys under which these members are reached: their sessions, those included whose place is kept; a member without
    /// any by its own key, under which mail waits for its daemon. The sender's own connection is left out.
    pub(in crate::broker) fn reach(
        &self,
        mesh: &MeshId,
        members: impl Iterator<Item = MemberKey>,
        sender: Option<&PresenceId>,
    ) -> Vec<PublicKey> {
        let table = self.lock();
        let mesh = table.by_id.get(mesh);
        let mut sessions: HashMap<MemberKey, Vec<PublicKey>> = HashMap::new();
        let mut own = None;
        for (id, presence) in mesh.into_iter().flat_map(|mesh| &mesh.presences) {
            if Some(id) == sender {
                own = Some(presence.member);
            } else if let Kind::Session(key) = presence.kind {
                sessions.entry(presence.member).or_default().push(key.0);
            }
        }
        let mut keys: Vec<PublicKey> = members
            .flat_map(|member| match sessions.get(&member) {
                Some(keys) => keys.clone(),
                None if own == Some(member) => Vec::new(),
                None => vec![member.0],
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
