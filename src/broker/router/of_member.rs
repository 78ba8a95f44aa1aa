//! The connections of those who are to go.

use super::{Line, Router};
use crate::base::ids::{MemberKey, MeshId};

impl Router {
    /// The connections of one member on a mesh, sessions included.
    pub(in crate::broker) fn of_member(&self, mesh: &MeshId, member: MemberKey) -> Vec<Line> {
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return Vec::new() };
        let of_member = mesh.presences.values().filter(|presence| presence.member == member);
        of_member.filter_map(|presence| presence.line().cloned()).collect()
    }
}
