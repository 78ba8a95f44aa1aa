//! Whom a message reaches that is for certain members.

use std::collections::{HashMap, HashSet};

use crate::base::ids::{MemberKey, MeshId, PresenceId, PublicKey, SessionKey};
use crate::base::time::Millis;
use crate::broker::presence::{Gone, Kind, Line, Place, Presence};
use crate::store::hub::AwayRow;

use super::{Mesh, Router};

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

impl Mesh {
    /// Those of these presences that a message for many goes to: sessions, and a daemon for want of one. Who hides is hidden
    /// from other members; its own member's sessions reach it.
    fn many(&self, sender: &PresenceId, named: impl Fn(&Presence) -> bool) -> Vec<PublicKey> {
        let own = self.presences.get(sender).map(|presence| presence.member);
        let with_session = self.with_session();
        let others = self
            .presences
            .iter()
            .filter(|(id, presence)| *id != sender && (presence.visible || Some(presence.member) == own) && named(presence));
        let reached = others.filter(|(_, presence)| match presence.kind {
            Kind::Session(_) => true,
            Kind::Member => Some(presence.member) != own && !with_session.contains(&presence.member),
            Kind::Passing(_) => false,
        });
        reached.map(|(_, presence)| presence.key()).collect()
    }

    /// The members that what is for many does not reach by their own key: those with a session here, and the sender's.
    fn not_by_own_key(&self, sender: &PresenceId) -> HashSet<MemberKey> {
        let mut known = self.with_session();
        known.extend(self.presences.get(sender).map(|presence| presence.member));
        // A daemon that hides is not reached, here or away; another of the same member is.
        let daemons = |visible| {
            let daemons = self.presences.values().filter(move |one| one.kind == Kind::Member && one.visible == visible);
            daemons.map(|daemon| daemon.member)
        };
        let shown: HashSet<MemberKey> = daemons(true).collect();
        known.extend(daemons(false).filter(|member| !shown.contains(member)));
        known
    }

    fn with_session(&self) -> HashSet<MemberKey> {
        let sessions = self.presences.values().filter(|presence| matches!(presence.kind, Kind::Session(_)));
        sessions.map(|presence| presence.member).collect()
    }
}

impl Router {
    /// The keys of all who are here, but for the sender, and of those of these members who have no session: mail waits for
    /// their daemons.
    pub(in crate::broker) fn everyone(
        &self,
        mesh: &MeshId,
        members: impl Iterator<Item = MemberKey>,
        sender: &PresenceId,
    ) -> Vec<PublicKey> {
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return members.map(|member| member.0).collect() };
        let known = mesh.not_by_own_key(sender);
        let mut keys = mesh.many(sender, |_| true);
        keys.extend(members.filter(|member| !known.contains(member)).map(|member| member.0));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The keys of those who are in a group or a part of it and have a place here, but for the sender; and the members that
    /// it does not reach by their own key. Of `known` those stay who have no place here: as of the same moment, so that one
    /// that comes or goes meanwhile is in the one or the other.
    pub(in crate::broker) fn in_group(
        &self,
        mesh: &MeshId,
        group: &str,
        sender: &PresenceId,
        known: &mut Vec<AwayRow>,
    ) -> (Vec<PublicKey>, HashSet<MemberKey>) {
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return (Vec::new(), HashSet::new()) };
        known.retain(|one| !mesh.sessions.contains_key(&SessionKey(one.key)));
        (mesh.many(sender, |presence| presence.is_in(group)), mesh.not_by_own_key(sender))
    }
}

/// One presence, as somebody who keeps order sees it.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Seen {
    pub(in crate::broker) id: PresenceId,
    pub(in crate::broker) key: PublicKey,
    pub(in crate::broker) member: MemberKey,
    pub(in crate::broker) name: String,
    pub(in crate::broker) kind: Kind,
    /// Since when its connection is gone.
    pub(in crate::broker) gone_since: Option<Millis>,
}

impl Seen {
    pub(in crate::broker) fn is_session(&self) -> bool {
        matches!(self.kind, Kind::Session(_))
    }

    pub(in crate::broker) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Passing(_))
    }
}

impl Router {
    /// Everybody on a mesh, those included who are only passing through.
    pub(in crate::broker) fn seen(&self, mesh: &MeshId) -> Vec<Seen> {
        let table = self.lock();
        let presences = table.by_id.get(mesh).into_iter().flat_map(|mesh| &mesh.presences);
        let mut seen: Vec<Seen> = presences
            .map(|(id, presence)| Seen {
                id: id.clone(),
                key: presence.key(),
                member: presence.member,
                name: presence.name.clone(),
                kind: presence.kind,
                gone_since: if let Place::Kept { since, .. } = presence.place { Some(since) } else { None },
            })
            .collect();
        seen.sort_by(|a, b| (&a.name, a.key).cmp(&(&b.name, b.key)));
        seen
    }

    /// Takes places away at once. Whoever sat there is to be told.
    pub(in crate::broker) fn evict(&self, mesh: &MeshId, ids: &[PresenceId]) -> Vec<(Gone, Option<Line>)> {
        let mut table = self.lock();
        let Some(of_mesh) = table.by_id.get_mut(mesh) else { return Vec::new() };
        let out: Vec<_> = ids.iter().filter_map(|id| of_mesh.remove(id)).collect();
        drop(table);
        // A member's mail may have a new taker.
        let members: Vec<PublicKey> = out.iter().map(|presence| presence.member.0).collect();
        self.notify(mesh, members.iter());
        out.into_iter().map(|presence| (presence.gone(), presence.line().cloned())).collect()
    }

    /// Every connection of a mesh that is of one of these members' or passes through in its name.
    pub(in crate::broker) fn lines_of(&self, mesh: &MeshId, wanted: impl Fn(MemberKey) -> bool) -> Vec<(PresenceId, Line)> {
        let table = self.lock();
        let presences = table.by_id.get(mesh).into_iter().flat_map(|mesh| &mesh.presences);
        presences
            .filter(|(_, presence)| wanted(presence.member))
            .filter_map(|(id, presence)| Some((id.clone(), presence.line()?.clone())))
            .collect()
    }

    /// Those of these keys that are not of one of these members.
    pub(in crate::broker) fn without(&self, mesh: &MeshId, keys: Vec<PublicKey>, members: &HashSet<MemberKey>) -> Vec<PublicKey> {
        if members.is_empty() {
            return keys;
        }
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return keys };
        let member = |key: PublicKey| {
            let session = mesh.sessions.get(&SessionKey(key)).and_then(|id| mesh.presences.get(id));
            session.map_or(MemberKey(key), |presence| presence.member)
        };
        keys.into_iter().filter(|key| !members.contains(&member(*key))).collect()
    }
}
