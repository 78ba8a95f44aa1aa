//! Shared keys: which is in use, each member's sealed copy, and who can open what is sealed with them. No key is ever here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::ids::{MeshId, PublicKey};
use crate::broker::Shared;
use crate::broker::conn::{Cmd, Seat, error};
use crate::broker::limits::MAX_LISTING;
use crate::broker::presence::{Kind, Line};
use crate::net::ws::Outbox;
use crate::store;
use crate::store::hub::{KeyInUse, KeyRow, NewKey, WrongKey};
use crate::wire::code::Code;
use crate::wire::key::{
    KeyCheck, KeyCheckResult, KeyCopy, KeyGet, KeyGiven, KeyMember, KeyNeeded, KeyPublish, KeySeal, KeyState, KeyTaken,
    MAX_COPIES, MAX_NEEDED, Scope,
};
use crate::wire::server::ServerFrame;
use crate::wire::target::Target;

use super::{found, send};

/// Names given of those who can not open something.
const NAMED: usize = 5;

/// Daemons that are asked to give a key, at most: one would do, and the others are there if it sleeps.
const CALLED: usize = 3;

/// A signature, in hex characters.
const SIGNATURE: usize = 128;

/// The bytes of one member in a list.
const ROW: usize = 160;

pub(in crate::broker) fn get(shared: &Shared, seat: &Seat, ask: KeyGet, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let row = shared.hub.key_state(seat.mesh.clone(), ask.scope.clone(), seat.member.id.clone(), ask.epoch, ask.renew);
    let Some(row) = found(shared, row, req_id, out) else { return };
    let Some(KeyRow { epoch, closed, publisher, proof, copy, members }) = row else {
        return error(out, Code::Forbidden, "you do not share this key", None, ask.req_id);
    };
    let (encrypted_key, nonce) = copy.unzip();
    let asked = encrypted_key.is_none() && !closed && !ask.renew && call_for(shared, &seat.mesh, &ask.scope);
    let member = |(member_id, pubkey)| KeyMember { member_id, pubkey };
    let members = members.into_iter().take(MAX_LISTING / ROW).map(member).collect();
    let (scope, req_id) = (ask.scope, ask.req_id);
    let state = KeyState { scope, epoch, closed, publisher, proof, encrypted_key, nonce, members, asked, req_id };
    out.text(ServerFrame::KeyState(state).encode());
}

/// Whether these copies can be kept; if not, the peer is told.
fn are_copies(copies: &[KeyCopy], req_id: Option<&String>, out: &mut Outbox) -> bool {
    let fine = copies.len() <= MAX_COPIES && copies.iter().all(KeyCopy::fits);
    if !fine {
        error(out, Code::Invalid, "sealed has at most 200 copies of a key's length", None, req_id.cloned());
    }
    fine
}

pub(in crate::broker) fn publish(shared: &Shared, seat: &Seat, ask: KeyPublish, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    if !are_copies(&ask.sealed, req_id, out) {
        return;
    }
    if ask.proof.len() != SIGNATURE || !ask.proof.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return error(out, Code::Invalid, "proof must be 128 hex chars", None, ask.req_id);
    }
    let own = shared.hub.key_state(seat.mesh.clone(), ask.scope.clone(), seat.member.id.clone(), None, false);
    match found(shared, own, req_id, out) {
        None => return,
        Some(None) => return error(out, Code::Forbidden, "you do not share this key", None, ask.req_id),
        Some(Some(_)) => {}
    }
    let new = NewKey {
        mesh: seat.mesh.clone(),
        scope: ask.scope.clone(),
        epoch: ask.epoch,
        publisher: seat.member.key,
        proof: ask.proof,
        copies: ask.sealed,
    };
    let Some(in_use) = found(shared, shared.hub.publish_key(new), req_id, out) else { return };
    taken(ask.scope, &in_use, ask.req_id, out);
}

pub(in crate::broker) fn seal(shared: &Shared, seat: &Seat, ask: KeySeal, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    if !are_copies(&ask.sealed, req_id, out) {
        return;
    }
    let added = shared.hub.add_copies(seat.mesh.clone(), ask.scope.clone(), ask.epoch, seat.member.id.clone(), ask.sealed);
    let Some(in_use) = found(shared, added, req_id, out) else { return };
    if !in_use.given.is_empty() {
        let given = KeyGiven { scope: ask.scope.clone(), epoch: in_use.epoch };
        tell(&shared.router.able_daemons(&seat.mesh, &in_use.given), &ServerFrame::KeyGiven(given));
    }
    taken(ask.scope, &in_use, ask.req_id, out);
}

fn tell(lines: &[Line], frame: &ServerFrame) {
    let text: Arc<str> = frame.encode().into();
    lines.iter().for_each(|line| line.tell(Cmd::Event(text.clone())));
}

/// Asks some who are here and have a topic's key to give it to those who have none. Whether anybody was asked. It is done
/// for what somebody asked, and costs no more than that; those who are asked look whether it is so.
pub(super) fn call_for(shared: &Shared, mesh: &MeshId, scope: &Scope) -> bool {
    // What is for the mesh waits for those alone who had its key when it was said.
    if *scope == Scope::Mesh {
        return false;
    }
    let holders = shared.hub.key_holders(mesh.clone(), scope.clone()).unwrap_or_else(|err| {
        log::error!("hub: {err}");
        Vec::new()
    });
    let lines = shared.router.latest_able(mesh, &holders, CALLED);
    if !lines.is_empty() {
        tell(&lines, &ServerFrame::KeyNeeded(KeyNeeded { scopes: vec![scope.clone()] }));
    }
    !lines.is_empty()
}

/// Tells a daemon that has just come what it can give to those who came while nobody was here who had it.
pub(in crate::broker) fn needed(shared: &Shared, seat: &Seat, out: &mut Outbox) {
    let is_able = || shared.router.about(&seat.mesh, &seat.presence).is_some_and(|(about, _)| about.opens_sealed());
    if seat.kind != Kind::Member || !is_able() {
        return;
    }
    match shared.hub.keys_needed(seat.mesh.clone(), seat.member.id.clone(), MAX_NEEDED) {
        Ok(scopes) if scopes.is_empty() => {}
        Ok(scopes) => out.text(ServerFrame::KeyNeeded(KeyNeeded { scopes }).encode()),
        Err(err) => log::error!("hub: {err}"),
    }
}

fn taken(scope: Scope, in_use: &KeyInUse, req_id: Option<String>, out: &mut Outbox) {
    let KeyInUse { epoch, accepted, .. } = *in_use;
    out.text(ServerFrame::KeyTaken(KeyTaken { scope, epoch, accepted, req_id }).encode());
}

/// Tells in advance what a message to many would be refused for.
pub(in crate::broker) fn check(shared: &Shared, seat: &Seat, ask: KeyCheck, out: &mut Outbox) {
    let Some(target) = Target::parse(&ask.to).filter(|target| !target.is_direct()) else {
        return error(out, Code::Invalid, "to is no @group, #topic or *", None, ask.req_id);
    };
    let recipients = match send::reached(shared, seat, &target) {
        Ok(recipients) => recipients,
        Err((code, why)) => return error(out, code, &why, None, ask.req_id),
    };
    let Some(unable) = found(shared, unable(shared, &seat.mesh, &recipients), ask.req_id.as_ref(), out) else { return };
    out.text(ServerFrame::KeyCheckResult(KeyCheckResult { to: ask.to, unable, req_id: ask.req_id }).encode());
}

/// The names of some of these who can not open what is sealed for many: of those who are here, by what they said in their
/// hello; of those who are away, by what they said in their last.
pub(super) fn unable(shared: &Shared, mesh: &MeshId, keys: &[PublicKey]) -> Result<Vec<String>, store::Error> {
    let named: Vec<String> = unable_keys(shared, mesh, keys)?.into_values().collect();
    let mut named: Vec<String> = named.into_iter().collect::<HashSet<_>>().into_iter().collect();
    named.sort_unstable();
    named.truncate(NAMED);
    Ok(named)
}

/// Those of these keys, and their names.
pub(super) fn unable_keys(
    shared: &Shared,
    mesh: &MeshId,
    keys: &[PublicKey],
) -> Result<HashMap<PublicKey, String>, store::Error> {
    let (mut unable, away) = shared.router.unable(mesh, keys);
    if !away.is_empty() {
        unable.extend(shared.hub.unable(mesh.clone())?.into_iter().filter(|(key, _)| away.contains(key)));
    }
    Ok(unable)
}

/// Why a body is not taken as it is sealed.
pub(super) fn wrong(wrong: WrongKey) -> (Code, &'static str) {
    match wrong {
        WrongKey::Closed => (Code::KeyClosed, "it is sealed with a key that is not in use"),
        WrongKey::Pending => (Code::KeyPending, "a member has no copy of its key yet"),
    }
}

/// The refusal of what somebody could not open.
pub(super) fn can_not_open(unable: &[String]) -> String {
    format!("{} cannot read sealed mail to many; send it with --plaintext", unable.join(", "))
}
