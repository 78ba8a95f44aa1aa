//! What a member allows others: `set_grants`, `list_grants`, and the checks of what is sent.

use std::collections::{BTreeMap, HashSet};

use crate::base::ids::{MemberKey, MeshId, PublicKey};
use crate::base::time::now_millis;
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::net::ws::Outbox;
use crate::store;
use crate::store::hub::{GrantRow, Known, Member};
use crate::wire::code::Code;
use crate::wire::grant::{Capability, GrantsList, GrantsSet, ListGrants, SetGrants};
use crate::wire::server::ServerFrame;

use super::{admin, found};

/// The member behind a key, its own or a session's.
pub(super) fn member_of(shared: &Shared, mesh: &MeshId, key: PublicKey) -> Result<Option<MemberKey>, store::Error> {
    let id = match shared.hub.owner_of(mesh.clone(), key)? {
        None => return Ok(None),
        Some(Known::Member(_)) => return Ok(Some(MemberKey(key))),
        Some(Known::Session(id)) => id,
    };
    let members = shared.hub.members(mesh.clone())?;
    Ok(members.into_iter().find(|member| member.id == id).map(|member| member.key))
}

pub(in crate::broker) fn set(shared: &Shared, seat: &Seat, ask: SetGrants, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let peer = match (ask.peer, ask.name.as_deref()) {
        (Some(key), _) => {
            let Some(peer) = found(shared, member_of(shared, &seat.mesh, key), req_id, out) else { return };
            peer.ok_or((Code::NotFound, "this key is nobody's in this mesh".to_owned()))
        }
        (None, Some(name)) => {
            let Some(members) = found(shared, shared.hub.members(seat.mesh.clone()), req_id, out) else { return };
            by_name(&members, name)
        }
        (None, None) => Err((Code::Invalid, "peer or name required".to_owned())),
    };
    let peer = match peer {
        Ok(peer) => peer,
        Err((code, why)) => return error(out, code, &why, None, ask.req_id),
    };
    if peer == seat.member.key {
        return error(out, Code::Invalid, "a member allows itself everything", None, ask.req_id);
    }
    let before = shared.allowed.of(&seat.mesh, seat.member.key, peer).filter(|_| !ask.reset);
    let mut now: Vec<Capability> = before.unwrap_or_else(|| Capability::DEFAULT.to_vec());
    now.extend(&ask.grant);
    now.retain(|capability| !ask.revoke.contains(capability));
    now.sort_unstable();
    now.dedup();
    let reset = ask.reset && ask.grant.is_empty() && ask.revoke.is_empty();
    let row = GrantRow { mesh: seat.mesh.clone(), member: seat.member.key, peer, capabilities: now.clone() };
    match found(shared, shared.hub.set_grant(row.clone(), reset, now_millis()), req_id, out) {
        None => {}
        Some(false) => error(out, Code::Capacity, "there are grants for 1000 members already", None, ask.req_id),
        Some(true) => {
            shared.allowed.set(row, reset);
            out.text(ServerFrame::GrantsSet(GrantsSet { peer, capabilities: now, req_id: ask.req_id }).encode());
        }
    }
}

/// The one member of this name. One that was shut out may be meant, too.
fn by_name(members: &[Member], name: &str) -> Result<MemberKey, (Code, String)> {
    let named = |member: &&Member| member.display_name == name;
    match admin::meant(members, name, |member| member.display_name.clone(), |member| vec![member.key.0]) {
        Err(candidates) => Err((Code::AmbiguousPrefix, admin::could_be(name, &candidates))),
        Ok(_) => members
            .iter()
            .find(named)
            .map(|member| member.key)
            .ok_or_else(|| (Code::NotFound, "no member by this name".to_owned())),
    }
}

pub(in crate::broker) fn list(shared: &Shared, seat: &Seat, ask: ListGrants, out: &mut Outbox) {
    let said = shared.allowed.by(&seat.mesh, seat.member.key).into_iter();
    let grants: BTreeMap<String, Vec<Capability>> = said.map(|(peer, allowed)| (peer.to_string(), allowed)).collect();
    let Some(members) = found(shared, shared.hub.members(seat.mesh.clone()), ask.req_id.as_ref(), out) else { return };
    let named = members.into_iter().map(|member| (member.key.to_string(), member.display_name));
    let names = named.filter(|(key, _)| grants.contains_key(key)).collect();
    out.text(ServerFrame::GrantsList(GrantsList { grants, names, req_id: ask.req_id }).encode());
}

/// Whether this key's member refuses direct messages of the sender's.
pub(super) fn blocks(shared: &Shared, mesh: &MeshId, sender: MemberKey, key: PublicKey) -> Result<bool, store::Error> {
    let deniers = shared.allowed.deniers(mesh, sender, Capability::Dm);
    if deniers.is_empty() {
        return Ok(false);
    }
    Ok(member_of(shared, mesh, key)?.is_some_and(|member| deniers.contains(&member)))
}

/// Those who do not want to hear what this member says to many.
pub(super) fn deaf(shared: &Shared, mesh: &MeshId, sender: MemberKey, capability: Capability) -> HashSet<MemberKey> {
    shared.allowed.deniers(mesh, sender, capability)
}
