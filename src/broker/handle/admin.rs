//! Keeping somebody out: `kick`, `disconnect`, `ban`, `unban`, `list_bans`. The owner is never a target of others.

use std::time::Duration;

use crate::base::ids::{MemberKey, PresenceId, PublicKey};
use crate::base::time::{Millis, iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::hello::{BANNED, KICKED};
use crate::broker::router::Seen;
use crate::net::ws::{self, Outbox};
use crate::store::hub::{Actor, Event, KickRow, Removed, Role};
use crate::wire::admin::{Ban, BanAck, BannedMember, Expel, Expelled, ListBans, ListBansResult, UnbanAck};
use crate::wire::code::Code;
use crate::wire::json::json;
use crate::wire::server::ServerFrame;

use super::{events, fitting, found};

/// How long a kick lasts if nothing else is said, and at most.
const KICK: Duration = Duration::from_secs(15 * 60);
const MAX_KICK: Duration = Duration::from_secs(30 * 86_400);

/// Characters of a key that may stand for all of it.
const MIN_PREFIX: usize = 8;

/// Characters of a key that are shown for people to type.
const SHOWN_KEY: usize = 16;

/// Of those that could be meant, so many are listed.
const LISTED: usize = 8;

/// The mesh's owner, if the one who asks may keep order in it.
fn authority(shared: &Shared, seat: &Seat, what: &str, req_id: Option<&String>, out: &mut Outbox) -> Option<MemberKey> {
    let mesh = found(shared, shared.hub.mesh(seat.mesh.clone()), req_id, out)?;
    let owner = mesh.map(|mesh| mesh.owner);
    if owner == Some(seat.member.key) || seat.member.role == Role::Admin {
        return owner;
    }
    error(out, Code::Forbidden, &format!("only owner or admin can {what}"), None, req_id.cloned());
    None
}

fn by(seat: &Seat) -> Actor {
    Actor::Member(seat.member.id.clone())
}

/// What is meant, and by which of its keys; none of them if it was meant by name.
pub(super) struct Meant<T> {
    all: Vec<T>,
    key: Option<PublicKey>,
}

/// What could be meant: a name and a key each.
pub(super) type Candidates = Vec<(String, PublicKey)>;

/// Of several things with names and keys, the one that is meant. `Err` when that could be more than one.
pub(super) fn meant<T: Clone>(
    all: &[T],
    text: &str,
    name: impl Fn(&T) -> String,
    keys: impl Fn(&T) -> Vec<PublicKey>,
) -> Result<Meant<T>, Candidates> {
    let with =
        |key: PublicKey| Ok(Meant { all: all.iter().filter(|one| keys(one).contains(&key)).cloned().collect(), key: Some(key) });
    if let Some(key) = PublicKey::parse_any_case(text) {
        return with(key);
    }
    let named: Vec<T> = all.iter().filter(|one| name(one) == text).cloned().collect();
    match named.len() {
        0 => {}
        1 => return Ok(Meant { all: named, key: None }),
        _ => {
            let candidates = named.iter().filter_map(|one| Some((name(one), *keys(one).first()?)));
            return Err(candidates.collect());
        }
    }
    let prefix = text.to_ascii_lowercase();
    if prefix.len() < MIN_PREFIX || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Meant { all: Vec::new(), key: None });
    }
    let mut found: Vec<PublicKey> = all.iter().flat_map(&keys).filter(|key| key.to_hex().starts_with(&prefix)).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Ok(Meant { all: Vec::new(), key: None }),
        [only] => with(*only),
        several => {
            let name = |key: PublicKey| all.iter().find(|one| keys(one).contains(&key)).map(&name).unwrap_or_default();
            Err(several.iter().map(|key| (name(*key), *key)).collect())
        }
    }
}

/// What a text could mean, each by what means nothing else.
pub(super) fn could_be(text: &str, candidates: &Candidates) -> String {
    let shown: String = text.chars().take(80).collect();
    let listed = candidates.iter().take(LISTED).map(|(name, key)| match name.is_empty() {
        true => format!("{:.SHOWN_KEY$}", key.to_hex()),
        false => format!("{:.SHOWN_KEY$} ({name})", key.to_hex()),
    });
    format!("\"{shown}\" could be more than one: {}", listed.collect::<Vec<_>>().join(", "))
}

fn ambiguous(text: &str, candidates: &Candidates, req_id: Option<String>, out: &mut Outbox) {
    error(out, Code::AmbiguousPrefix, &could_be(text, candidates), None, req_id);
}

/// Who is to go, and which keys stay out; `Err` when the question has been answered.
struct Chosen {
    going: Vec<Seen>,
    skipped: Vec<String>,
    keys: Vec<PublicKey>,
}

fn choose(shared: &Shared, seat: &Seat, owner: MemberKey, (what, ask): (&str, &Expel), out: &mut Outbox) -> Option<Chosen> {
    let mut seen = shared.router.seen(&seat.mesh);
    let is_protected = |member: MemberKey| member == owner && seat.member.key != owner;
    if ask.all == Some(true) || ask.stale.is_some() {
        seen.retain(|one| one.id != seat.presence && !one.is_passing() && !is_protected(one.member));
        let stale =
            ask.stale.filter(|_| ask.all != Some(true)).map(|age| now_millis() - Millis::try_from(age).unwrap_or(Millis::MAX));
        if let Some(before) = stale {
            seen.retain(|one| one.gone_since.is_some_and(|since| since <= before));
            return Some(Chosen { going: seen, skipped: Vec::new(), keys: Vec::new() });
        }
        let (going, skipped): (Vec<Seen>, Vec<Seen>) = seen.into_iter().partition(Seen::is_session);
        let keys = going.iter().map(|one| one.key).collect();
        return Some(Chosen { going, skipped: skipped.into_iter().map(|one| one.name).collect(), keys });
    }
    let text = ask.target.as_deref().map(str::trim).unwrap_or_default();
    if text.is_empty() {
        return Some(Chosen { going: Vec::new(), skipped: Vec::new(), keys: Vec::new() });
    }
    // A daemon is meant by its member's key alone: its name is often a session's, too.
    let names: Vec<Seen> = seen.iter().filter(|one| one.is_session()).cloned().collect();
    let by_name = names.iter().any(|one| one.name == text);
    let pool = if by_name { &names } else { &seen };
    let name = |one: &Seen| if one.is_session() { one.name.clone() } else { String::new() };
    // The key that one who passes through says it has is not proven: only its member's means it.
    let keys = |one: &Seen| if one.is_passing() { vec![one.member.0] } else { vec![one.key, one.member.0] };
    let meant = meant(pool, text, name, keys).map_err(|candidates| ambiguous(text, &candidates, ask.req_id.clone(), out)).ok()?;
    let going = meant.all;
    if going.iter().any(|one| is_protected(one.member)) {
        error(out, Code::Forbidden, "the owner of the mesh can not be kept out", None, ask.req_id.clone());
        return None;
    }
    if going.iter().any(|one| one.id == seat.presence) {
        error(out, Code::Invalid, &format!("cannot {what} yourself"), None, ask.req_id.clone());
        return None;
    }
    // One session by its own key or name; everything of a member by the member's.
    let keys = meant.key.filter(|_| !going.is_empty()).or(going.first().map(|one| one.key)).into_iter().collect();
    Some(Chosen { going, skipped: Vec::new(), keys })
}

fn evict(shared: &Shared, seat: &Seat, going: &[Seen], code: u16, reason: &'static str) {
    let ids: Vec<PresenceId> = going.iter().map(|one| one.id.clone()).collect();
    events::evict(shared, &seat.mesh, &ids, code, reason);
}

/// Notes who ended whose connections, where nobody is kept out.
fn note(shared: &Shared, seat: &Seat, going: &[Seen]) {
    let ended = going.iter().filter(|one| !one.is_passing()).map(|one| json!({"pubkey": one.key})).collect();
    events::log_all(shared, seat, Event::Disconnected, ended);
}

pub(in crate::broker) fn kick(shared: &Shared, seat: &Seat, ask: Expel, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let Some(owner) = authority(shared, seat, "kick", req_id, out) else { return };
    let Some(chosen) = choose(shared, seat, owner, ("kick", &ask), out) else { return };
    let now = now_millis();
    let length = ask.for_ms.map_or(KICK, Duration::from_millis).min(MAX_KICK);
    let until = now.saturating_add(Millis::try_from(length.as_millis()).unwrap_or(Millis::MAX));
    let kicks: Vec<KickRow> = chosen.keys.iter().map(|key| KickRow { mesh: seat.mesh.clone(), key: *key, until }).collect();
    if !kicks.is_empty() && found(shared, shared.hub.kick(kicks.clone(), by(seat), now), req_id, out).is_none() {
        return;
    }
    shared.allowed.keep_out(&kicks, now);
    if kicks.is_empty() {
        note(shared, seat, &chosen.going);
    }
    evict(shared, seat, &chosen.going, KICKED, if ask.stale.is_some() { "kicked_stale" } else { "kicked" });
    let done = expelled(&chosen, (!kicks.is_empty()).then(|| iso(until)), ask.req_id);
    out.text(ServerFrame::KickAck(done).encode());
}

pub(in crate::broker) fn disconnect(shared: &Shared, seat: &Seat, ask: Expel, out: &mut Outbox) {
    let Some(owner) = authority(shared, seat, "disconnect", ask.req_id.as_ref(), out) else { return };
    let Some(chosen) = choose(shared, seat, owner, ("disconnect", &ask), out) else { return };
    let reason = if ask.stale.is_some() { "disconnected_stale" } else { "disconnected" };
    note(shared, seat, &chosen.going);
    evict(shared, seat, &chosen.going, ws::code::NORMAL, reason);
    out.text(ServerFrame::DisconnectAck(expelled(&chosen, None, ask.req_id)).encode());
}

fn expelled(chosen: &Chosen, until: Option<String>, req_id: Option<String>) -> Expelled {
    let names: Vec<String> = chosen.going.iter().filter(|one| !one.is_passing()).map(|one| one.name.clone()).collect();
    Expelled { kicked: names.clone(), affected: names, skipped_control_plane: chosen.skipped.clone(), until, req_id }
}

pub(in crate::broker) fn ban(shared: &Shared, seat: &Seat, ask: Ban, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    let Some(owner) = authority(shared, seat, "ban", req_id, out) else { return };
    let text = ask.target.trim();
    if text.is_empty() {
        return error(out, Code::Invalid, "target required", None, ask.req_id);
    }
    let Some(mut members) = found(shared, shared.hub.members(seat.mesh.clone()), req_id, out) else { return };
    members.retain(|member| !member.revoked);
    let member = match meant(&members, text, |member| member.display_name.clone(), |member| vec![member.key.0]) {
        Err(candidates) => return ambiguous(text, &candidates, ask.req_id, out),
        Ok(Meant { mut all, .. }) if all.len() == 1 => all.remove(0),
        Ok(_) => return error(out, Code::NotFound, "no member by this name or key", None, ask.req_id),
    };
    if member.key == seat.member.key {
        return error(out, Code::Invalid, "cannot ban yourself", None, ask.req_id);
    }
    if member.key == owner {
        return error(out, Code::Forbidden, "the owner of the mesh can not be kept out", None, ask.req_id);
    }
    let now = now_millis();
    let removed = Removed::Banned(by(seat));
    if found(shared, shared.hub.revoke(seat.mesh.clone(), member.key, removed, now), req_id, out).is_none() {
        return;
    }
    // Whoever is just coming in was let through before; the table stops it.
    shared.allowed.keep_out(&[KickRow { mesh: seat.mesh.clone(), key: member.key.0, until: Millis::MAX }], now);
    events::expel(shared, &seat.mesh, |of| of == member.key, BANNED, "banned");
    out.text(ServerFrame::BanAck(BanAck { banned: member.display_name, req_id: ask.req_id }).encode());
}

pub(in crate::broker) fn unban(shared: &Shared, seat: &Seat, ask: Ban, out: &mut Outbox) {
    let req_id = ask.req_id.as_ref();
    if authority(shared, seat, "unban", req_id, out).is_none() {
        return;
    }
    let text = ask.target.trim();
    let Some(bans) = found(shared, shared.hub.bans(seat.mesh.clone()), req_id, out) else { return };
    let ban = match meant(&bans, text, |ban| ban.display_name.clone(), |ban| vec![ban.key.0]) {
        Err(candidates) => return ambiguous(text, &candidates, ask.req_id, out),
        Ok(Meant { mut all, .. }) if all.len() == 1 => all.remove(0),
        Ok(_) => return error(out, Code::NotFound, "no banned member by this name or key", None, ask.req_id),
    };
    if found(shared, shared.hub.unrevoke(seat.mesh.clone(), ban.key, by(seat), now_millis()), req_id, out).is_none() {
        return;
    }
    shared.allowed.let_in(&seat.mesh, ban.key.0);
    out.text(ServerFrame::UnbanAck(UnbanAck { unbanned: ban.display_name, req_id: ask.req_id }).encode());
}

pub(in crate::broker) fn list_bans(shared: &Shared, seat: &Seat, ask: ListBans, out: &mut Outbox) {
    let Some(rows) = found(shared, shared.hub.bans(seat.mesh.clone()), ask.req_id.as_ref(), out) else { return };
    let bans =
        rows.into_iter().map(|row| BannedMember { name: row.display_name, pubkey: row.key, revoked_at: iso(row.revoked_at) });
    let (bans, truncated) = fitting(bans);
    out.text(ServerFrame::ListBansResult(ListBansResult { bans, truncated, req_id: ask.req_id }).encode());
}
