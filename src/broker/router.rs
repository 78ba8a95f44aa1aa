//! Who is here: the presences of every mesh, how to reach their connections, and whose place is kept for a while after a
//! connection ended.

mod able;
mod about;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::ids::{MemberKey, MeshId, PresenceId, PublicKey, SessionKey};
use crate::base::time::Millis;
use crate::wire::client::About;
use crate::wire::limits::LEASE;
use crate::wire::peer::{Peer, Status};
use crate::wire::profile::Profile;

use super::limits::{MAX_PER_MEMBER, MAX_PER_MESH};
use super::presence::{Gone, Kind, Line, Newcomer, Place, Presence};

mod reach;
pub(super) use self::reach::Seen;

#[derive(Debug, Default)]
struct Mesh {
    presences: HashMap<PresenceId, Presence>,
    /// The presence of each session key.
    sessions: HashMap<SessionKey, PresenceId>,
    /// The members' daemons, in the order in which they came: the first takes the member's mail.
    daemons: HashMap<MemberKey, Vec<PresenceId>>,
}

/// How somebody came in.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) presence: PresenceId,
    /// Which of the presence's connections this is.
    pub(super) generation: u64,
    pub(super) how: How,
    pub(super) status: Status,
    /// Whose places were given up for this one.
    pub(super) evicted: Vec<Gone>,
    /// The connection whose place this one took.
    pub(super) displaced: Option<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    Joined,
    /// Its place was kept; it was away since then.
    Returned(Millis),
    /// It was still here by another connection.
    Replaced,
}

/// The mesh has no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// The table. Guards only itself: lines are copied out, and used when the guard is gone.
#[derive(Debug, Default)]
pub(super) struct Router {
    meshes: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<MeshId, Mesh>,
    generations: u64,
}

impl Mesh {
    /// The presence that this newcomer continues: the same session key of the same member, or the same daemon.
    fn continued(&self, new: &Newcomer) -> Option<PresenceId> {
        match new.kind {
            Kind::Session(key) => self.sessions.get(&key).filter(|id| self.is_of(id, new.member)).cloned(),
            Kind::Passing(_) => None,
            Kind::Member => self.daemons.get(&new.member)?.iter().find(|id| self.same_daemon(id, new)).cloned(),
        }
    }

    fn is_of(&self, id: &PresenceId, member: MemberKey) -> bool {
        self.presences.get(id).is_some_and(|presence| presence.member == member)
    }

    /// Takes away the place of a session whose key another member now vouches for: what the one member may do has nothing to
    /// do with what the other may.
    fn disown(&mut self, new: &Newcomer) -> Option<Presence> {
        let Kind::Session(key) = new.kind else { return None };
        let id = self.sessions.get(&key).filter(|id| !self.is_of(id, new.member))?.clone();
        self.remove(&id)
    }

    fn same_daemon(&self, id: &PresenceId, new: &Newcomer) -> bool {
        self.presences.get(id).is_some_and(|old| {
            let same_host = old.about.hostname == new.about.hostname;
            same_host && (old.about.session_id == new.about.session_id || old.line().is_none())
        })
    }

    /// Sees to it that one more fits. Places that are only kept go first: the newcomer's member's own, then those of whoever
    /// has most. A member's daemon always fits.
    fn make_room(&mut self, new: &Newcomer) -> Result<Option<Gone>, NoRoom> {
        let of_member = |member: &MemberKey| self.presences.values().filter(|presence| presence.member == *member).count();
        let crowded = MAX_PER_MEMBER <= of_member(&new.member);
        if !crowded && self.presences.len() < MAX_PER_MESH {
            return Ok(None);
        }
        let oldest = |member: Option<MemberKey>| {
            let kept = self.presences.iter().filter_map(|(id, presence)| match presence.place {
                Place::Kept { since, .. } if member.is_none_or(|member| presence.member == member) => Some((since, id)),
                _ => None,
            });
            kept.min().map(|(_, id)| id.clone())
        };
        let victim = oldest(Some(new.member)).or_else(|| {
            let mut counts: HashMap<MemberKey, usize> = HashMap::new();
            for presence in self.presences.values().filter(|presence| presence.line().is_none()) {
                *counts.entry(presence.member).or_default() += 1;
            }
            let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(member, _)| member);
            most.filter(|_| !crowded).and_then(|member| oldest(Some(member)))
        });
        match victim.and_then(|id| self.remove(&id)) {
            Some(presence) => Ok(Some(presence.gone())),
            None if new.kind == Kind::Member => Ok(None),
            None => Err(NoRoom),
        }
    }

    fn remove(&mut self, id: &PresenceId) -> Option<Presence> {
        let presence = self.presences.remove(id)?;
        if let Kind::Session(key) = presence.kind
            && self.sessions.get(&key) == Some(id)
        {
            self.sessions.remove(&key);
        }
        if let Some(daemons) = self.daemons.get_mut(&presence.member) {
            daemons.retain(|other| other != id);
            if daemons.is_empty() {
                self.daemons.remove(&presence.member);
            }
        }
        Some(presence)
    }

    /// The connection that takes what is sent to this key: the session's, or the member's first daemon.
    fn taker(&self, key: &PublicKey) -> Option<&Line> {
        if let Some(presence) = self.sessions.get(&SessionKey(*key)).and_then(|id| self.presences.get(id)) {
            return presence.line();
        }
        self.daemons.get(&MemberKey(*key))?.iter().filter_map(|id| self.presences.get(id)).find_map(Presence::line)
    }

    fn is_taker(&self, id: &PresenceId) -> bool {
        let Some(presence) = self.presences.get(id) else { return false };
        match presence.kind {
            Kind::Session(_) => true,
            Kind::Passing(_) => false,
            Kind::Member => {
                let mut daemons = self.daemons.get(&presence.member).into_iter().flatten();
                daemons.find(|other| self.presences.get(other).is_some_and(|other| other.line().is_some())) == Some(id)
            }
        }
    }
}

impl Router {
    /// Lets a newcomer in, in the place that was kept for it if there is one.
    pub(super) fn enter(&self, mesh: &MeshId, new: Newcomer, fresh: PresenceId, now: Millis) -> Result<Entered, NoRoom> {
        let mut table = self.lock();
        table.generations += 1;
        let generation = table.generations;
        let mesh = table.by_id.entry(mesh.clone()).or_default();
        let place = Place::Here { line: new.line.clone(), generation };
        if let Some(id) = mesh.continued(&new)
            && let Some(old) = mesh.presences.get_mut(&id)
        {
            let (how, displaced) = match std::mem::replace(&mut old.place, place) {
                Place::Here { line, .. } => (How::Replaced, Some(line)),
                Place::Kept { since, .. } => (How::Returned(since), None),
            };
            old.kind = new.kind;
            old.name = new.name;
            old.about = new.about;
            // Whoever comes back may be another daemon: it says again what it knows.
            old.reach = None;
            old.connected_at = now;
            return Ok(Entered { presence: id, generation, how, status: old.status, evicted: Vec::new(), displaced });
        }
        let made = mesh.make_room(&new)?;
        let former = mesh.disown(&new);
        let displaced = former.as_ref().and_then(|former| former.line().cloned());
        let evicted = former.iter().map(Presence::gone).chain(made).collect();
        match new.kind {
            Kind::Session(key) => drop(mesh.sessions.insert(key, fresh.clone())),
            Kind::Member => mesh.daemons.entry(new.member).or_default().push(fresh.clone()),
            Kind::Passing(_) => {}
        }
        let presence = Presence {
            kind: new.kind,
            member: new.member,
            name: new.name,
            about: new.about,
            status: Status::Idle,
            summary: None,
            visible: new.visible,
            profile: Profile::default(),
            reach: None,
            stats: None,
            connected_at: now,
            place,
        };
        mesh.presences.insert(fresh.clone(), presence);
        Ok(Entered { presence: fresh, generation, how: How::Joined, status: Status::Idle, evicted, displaced })
    }

    /// Keeps a place for a session that was here when the broker ended, as if its connection had just been cut.
    pub(super) fn restore(&self, mesh: &MeshId, id: PresenceId, mut presence: Presence, key: SessionKey) {
        let mut table = self.lock();
        let mesh = table.by_id.entry(mesh.clone()).or_default();
        if mesh.presences.len() < MAX_PER_MESH && !mesh.sessions.contains_key(&key) {
            presence.kind = Kind::Session(key);
            mesh.sessions.insert(key, id.clone());
            mesh.presences.insert(id, presence);
        }
    }

    /// What a peer says of itself now, and whether others see it.
    pub(super) fn about(&self, mesh: &MeshId, id: &PresenceId) -> Option<(About, bool)> {
        self.lock().by_id.get(mesh)?.presences.get(id).map(|presence| (presence.about.clone(), presence.visible))
    }

    /// A connection ended. Its place is kept for the lease, unless it said that it is over. Nothing happens if another
    /// connection has taken the place already. Returns who is gone for good.
    pub(super) fn leave(
        &self,
        mesh: &MeshId,
        id: &PresenceId,
        generation: u64,
        over: bool,
        now: (Instant, Millis),
    ) -> Option<Gone> {
        let mut table = self.lock();
        let mesh = table.by_id.get_mut(mesh)?;
        let presence = mesh.presences.get_mut(id)?;
        if !matches!(&presence.place, Place::Here { generation: current, .. } if *current == generation) {
            return None;
        }
        let member = presence.member;
        let keeps = !over && !matches!(presence.kind, Kind::Passing(_));
        presence.place = Place::Kept { until: now.0 + LEASE, since: now.1 };
        let gone = if keeps { None } else { mesh.remove(id).map(|presence| Gone { ended: over, ..presence.gone() }) };
        // The member's mail has a new taker, who must look for it.
        let next = mesh.taker(&member.0).cloned();
        drop(table);
        if let Some(line) = next {
            line.mail();
        }
        gone
    }

    /// Removes the places whose lease has run out.
    pub(super) fn expire(&self, now: Instant) -> Vec<(MeshId, Gone)> {
        let mut table = self.lock();
        let mut gone = Vec::new();
        for (mesh_id, mesh) in &mut table.by_id {
            let over: Vec<PresenceId> = mesh
                .presences
                .iter()
                .filter(|(_, presence)| matches!(presence.place, Place::Kept { until, .. } if until <= now))
                .map(|(id, _)| id.clone())
                .collect();
            gone.extend(over.iter().filter_map(|id| mesh.remove(id)).map(|presence| (mesh_id.clone(), presence.gone())));
        }
        table.by_id.retain(|_, mesh| !mesh.presences.is_empty());
        gone
    }

    /// When [`Router::expire`] has something to do next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let table = self.lock();
        let presences = table.by_id.values().flat_map(|mesh| mesh.presences.values());
        presences.filter_map(|presence| if let Place::Kept { until, .. } = presence.place { Some(until) } else { None }).min()
    }

    /// Tells whoever takes the mail of these keys that there is some.
    pub(super) fn notify<'k>(&self, mesh: &MeshId, keys: impl Iterator<Item = &'k PublicKey>) {
        let lines: Vec<Line> = {
            let table = self.lock();
            let Some(mesh) = table.by_id.get(mesh) else { return };
            keys.filter_map(|key| mesh.taker(key)).cloned().collect()
        };
        for line in lines {
            line.mail();
        }
    }

    /// Tells a member's daemons that there are receipts: each takes those of the messages that it sent.
    pub(super) fn receipts(&self, mesh: &MeshId, member: MemberKey) {
        let lines: Vec<Line> = {
            let table = self.lock();
            let Some(mesh) = table.by_id.get(mesh) else { return };
            let daemons = mesh.daemons.get(&member).into_iter().flatten();
            daemons.filter_map(|id| mesh.presences.get(id)?.line().cloned()).collect()
        };
        lines.iter().for_each(Line::receipts);
    }

    /// Whether this presence takes its key's mail now.
    pub(super) fn is_taker(&self, mesh: &MeshId, id: &PresenceId) -> bool {
        self.lock().by_id.get(mesh).is_some_and(|mesh| mesh.is_taker(id))
    }

    /// The connections of a mesh, but for one presence's.
    pub(super) fn others(&self, mesh: &MeshId, but: Option<&PresenceId>) -> Vec<Line> {
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return Vec::new() };
        mesh.presences.iter().filter(|(id, _)| Some(*id) != but).filter_map(|(_, presence)| presence.line().cloned()).collect()
    }

    /// Every connection.
    pub(super) fn all(&self) -> Vec<Line> {
        self.lock()
            .by_id
            .values()
            .flat_map(|mesh| mesh.presences.values())
            .filter_map(|presence| presence.line().cloned())
            .collect()
    }

    /// Who is here, those included who hide.
    pub(super) fn roster(&self, mesh: &MeshId) -> Vec<Peer> {
        let table = self.lock();
        let Some(mesh) = table.by_id.get(mesh) else { return Vec::new() };
        let mut presences: Vec<&Presence> = mesh.presences.values().collect();
        presences.sort_by_key(|presence| (presence.connected_at, presence.key()));
        presences.into_iter().map(Presence::peer).collect()
    }

    fn change(&self, mesh: &MeshId, id: &PresenceId, change: impl FnOnce(&mut Presence)) {
        if let Some(presence) = self.lock().by_id.get_mut(mesh).and_then(|mesh| mesh.presences.get_mut(id)) {
            change(presence);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.meshes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
