//! Whom a message for many reaches: those who are here, and those who are away and will come back.

use std::collections::HashSet;

use crate::base::ids::{MemberKey, MeshId, PresenceId, PublicKey};
use crate::base::time::{Millis, now_millis};
use crate::broker::Shared;
use crate::broker::limits::{AWAY_LIFE, MAX_AWAY_COPIES};
use crate::store;
use crate::wire::grant::Capability;
use crate::wire::target::Target;

use super::grant;

/// Who says it: a connection, if it is here, and its member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) presence: &'a PresenceId,
    pub(super) member: MemberKey,
}

/// The keys under which copies are kept. For everybody: each session, and each member without one by its own key, under
/// which its daemon finds it. For a group: the sessions that are in it; a member without any session here by its own key, if
/// one of its sessions was in the group when it went; where it has others here, those that went without saying that they are
/// over.
pub(super) fn recipients(
    shared: &Shared,
    mesh: &MeshId,
    target: &Target,
    from: Sender<'_>,
) -> Result<Vec<PublicKey>, store::Error> {
    reached(shared, mesh, target, from, &grant::deaf(shared, mesh, from.member, Capability::Broadcast))
}

/// How many keys it does not reach because their members do not let it through.
pub(super) fn blocked(shared: &Shared, mesh: &MeshId, target: &Target, from: Sender<'_>) -> Result<usize, store::Error> {
    let deaf = grant::deaf(shared, mesh, from.member, Capability::Broadcast);
    if deaf.is_empty() {
        return Ok(0);
    }
    let all = reached(shared, mesh, target, from, &HashSet::new())?.len();
    Ok(all.saturating_sub(reached(shared, mesh, target, from, &deaf)?.len()))
}

fn reached(
    shared: &Shared,
    mesh: &MeshId,
    target: &Target,
    from: Sender<'_>,
    deaf: &HashSet<MemberKey>,
) -> Result<Vec<PublicKey>, store::Error> {
    let (keys, away, by_session) = match target {
        Target::Everyone => {
            let standing = shared.hub.standing(mesh.clone())?.into_iter().filter(|member| !deaf.contains(member));
            (shared.router.everyone(mesh, standing, from.presence), Vec::new(), HashSet::new())
        }
        Target::Group(group) => {
            let since = now_millis() - Millis::try_from(AWAY_LIFE.as_millis()).unwrap_or(Millis::MAX);
            let mut away = shared.hub.away_in_group(mesh.clone(), group.clone(), since, MAX_AWAY_COPIES)?;
            let (keys, by_session) = shared.router.in_group(mesh, group, from.presence, &mut away);
            (keys, away, by_session)
        }
        Target::Key(_) | Target::Topic(_) => (Vec::new(), Vec::new(), HashSet::new()),
    };
    let mut keys = shared.router.without(mesh, keys, deaf);
    let reached = away.iter().filter(|one| !deaf.contains(&one.member) && (!one.hidden || one.member == from.member));
    keys.extend(reached.filter_map(|one| match by_session.contains(&one.member) {
        false => Some(one.member.0),
        true => Some(one.key).filter(|_| !one.ended),
    }));
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}
