//! What a presence says of itself.

use super::Router;
use crate::base::ids::{MeshId, PresenceId, SessionKey};
use crate::broker::limits::MAX_GROUPS;
use crate::broker::presence::Place;
use crate::wire::peer::{Group, Reach, Stats, Status};
use crate::wire::profile::Profile;

impl Router {
    pub(in crate::broker) fn set_status(&self, mesh: &MeshId, id: &PresenceId, status: Status) {
        self.change(mesh, id, |presence| presence.status = status);
    }

    pub(in crate::broker) fn set_summary(&self, mesh: &MeshId, id: &PresenceId, summary: String) {
        self.change(mesh, id, |presence| presence.summary = Some(summary).filter(|summary| !summary.is_empty()));
    }

    /// Returns whether that changed anything.
    pub(in crate::broker) fn set_visible(&self, mesh: &MeshId, id: &PresenceId, visible: bool) -> bool {
        let mut changed = false;
        self.change(mesh, id, |presence| changed = std::mem::replace(&mut presence.visible, visible) != visible);
        changed
    }

    pub(in crate::broker) fn set_profile(&self, mesh: &MeshId, id: &PresenceId, profile: Profile) {
        self.change(mesh, id, |presence| presence.profile.update(profile));
    }

    pub(in crate::broker) fn set_reach(&self, mesh: &MeshId, id: &PresenceId, reach: Vec<Reach>) {
        self.change(mesh, id, |presence| presence.reach = Some(reach));
    }

    pub(in crate::broker) fn set_stats(&self, mesh: &MeshId, id: &PresenceId, stats: Stats) {
        self.change(mesh, id, |presence| presence.stats = Some(stats));
    }

    /// False if the peer is in as many groups as it may be.
    pub(in crate::broker) fn join_group(&self, mesh: &MeshId, id: &PresenceId, group: Group) -> bool {
        let mut joined = false;
        self.change(mesh, id, |presence| {
            let groups = presence.about.groups.get_or_insert_default();
            groups.retain(|known| known.name != group.name);
            joined = groups.len() < MAX_GROUPS;
            if joined {
                groups.push(group);
            }
        });
        joined
    }

    pub(in crate::broker) fn leave_group(&self, mesh: &MeshId, id: &PresenceId, name: &str) {
        self.change(mesh, id, |presence| {
            if let Some(groups) = &mut presence.about.groups {
                groups.retain(|group| group.name != name);
            }
        });
    }

    /// Whether a session has a place, by whatever connection.
    pub(in crate::broker) fn has_session(&self, mesh: &MeshId, key: SessionKey) -> bool {
        self.lock().by_id.get(mesh).is_some_and(|mesh| mesh.sessions.contains_key(&key))
    }

    /// Whether it is this connection that has the place.
    pub(in crate::broker) fn is_held_by(&self, mesh: &MeshId, id: &PresenceId, generation: u64) -> bool {
        let table = self.lock();
        let presence = table.by_id.get(mesh).and_then(|mesh| mesh.presences.get(id));
        presence
            .is_some_and(|presence| matches!(presence.place, Place::Here { generation: current, .. } if current == generation))
    }

    /// The groups a peer is in.
    pub(in crate::broker) fn groups(&self, mesh: &MeshId, id: &PresenceId) -> Vec<Group> {
        let table = self.lock();
        let presence = table.by_id.get(mesh).and_then(|mesh| mesh.presences.get(id));
        presence.and_then(|presence| presence.about.groups.clone()).unwrap_or_default()
    }
}
