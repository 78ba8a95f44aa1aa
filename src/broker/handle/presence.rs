//! `list_peers`, and what a peer shows of itself: status, summary, visibility, profile, groups.

use std::collections::{HashMap, HashSet};

use crate::base::ids::{MemberId, MemberKey, MessageId, PublicKey};
use crate::base::names::{is_group_name, neutralise_line};
use crate::base::time::{Millis, iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::limits::{AWAY_LIFE, MAX_SUMMARY};
use crate::broker::presence::MAX_ROLE;

use super::{events, fitting};
use crate::net::ws::Outbox;
use crate::store;
use crate::wire::client::ListPeers;
use crate::wire::code::Code;
use crate::wire::peer::{Group, Peer, PeerRole, Reach, Status};
use crate::wire::profile::{JoinGroup, LeaveGroup, Profile, SetProfile, SetReach, SetStats, SetStatus, SetSummary};
use crate::wire::rest::Rest;
use crate::wire::server::{Ack, PeersList, ServerFrame};

/// Most capabilities in a profile.
const MAX_CAPABILITIES: usize = 64;

/// Peers that are away are listed up to this many, the latest first.
const MAX_AWAY: usize = 500;

pub(in crate::broker) fn list_peers(shared: &Shared, seat: &Seat, ask: ListPeers, out: &mut Outbox) {
    let mut peers = shared.router.roster(&seat.mesh);
    if ask.away {
        match away(shared, seat, &peers) {
            Ok(away) => peers.extend(away),
            Err(err) => {
                log::error!("hub: {err}");
                return error(out, Code::Unavailable, "the broker can not read its database now", None, ask.req_id);
            }
        }
    } else {
        // Clients that do not know of `online` take whoever is listed for present.
        peers.retain(|peer| peer.online);
    }
    // After those who are away were looked for: who hides is not away.
    peers.retain(|peer| peer.visible != Some(false) || peer.member_pubkey == seat.member.key);
    let (peers, truncated) = fitting(peers);
    out.text(ServerFrame::PeersList(PeersList { peers, truncated, req_id: ask.req_id }).encode());
}

fn away(shared: &Shared, seat: &Seat, here: &[Peer]) -> Result<Vec<Peer>, store::Error> {
    let since = now_millis() - Millis::try_from(AWAY_LIFE.as_millis()).unwrap_or(Millis::MAX);
    let here: HashSet<PublicKey> = here.iter().map(|peer| peer.pubkey).collect();
    let seen = shared.hub.away_sessions(seat.mesh.clone(), since, MAX_AWAY + here.len())?;
    let standing = shared.hub.members(seat.mesh.clone())?.into_iter().filter(|member| !member.revoked);
    let members: HashMap<MemberId, MemberKey> = standing.map(|member| (member.id, member.key)).collect();
    // Who hides is hidden while it is away, too.
    let seen = seen.into_iter().filter(|session| !session.hidden || session.member == seat.member.id);
    let away = seen.filter(|session| !here.contains(&session.key.0)).filter_map(|session| {
        Some(Peer {
            pubkey: session.key.0,
            member_pubkey: *members.get(&session.member)?,
            display_name: session.display_name,
            status: Status::Idle,
            summary: None,
            groups: Vec::new(),
            session_id: String::new(),
            connected_at: iso(session.last_seen_at),
            cwd: String::new(),
            peer_role: PeerRole::Session,
            online: false,
            hostname: None,
            peer_type: None,
            channel: None,
            model: None,
            visible: None,
            profile: None,
            allowed_caps: None,
            reach: None,
            role: None,
            stats: None,
            rest: Rest::default(),
        })
    });
    Ok(away.take(MAX_AWAY).collect())
}

/// Returns whether the new status lets more mail through than the old one.
pub(in crate::broker) fn set_status(shared: &Shared, seat: &mut Seat, ask: SetStatus, out: &mut Outbox) -> bool {
    let opens = seat.status != Status::Idle && ask.status == Status::Idle;
    seat.status = ask.status;
    shared.router.set_status(&seat.mesh, &seat.presence, ask.status);
    done(out, ask.req_id);
    opens
}

pub(in crate::broker) fn set_summary(shared: &Shared, seat: &Seat, ask: SetSummary, out: &mut Outbox) {
    let summary: String = neutralise_line(&ask.summary).chars().take(MAX_SUMMARY).collect();
    shared.router.set_summary(&seat.mesh, &seat.presence, summary);
    done(out, ask.req_id);
}

pub(in crate::broker) fn set_visible(shared: &Shared, seat: &Seat, visible: bool, req_id: Option<String>, out: &mut Outbox) {
    if shared.router.set_visible(&seat.mesh, &seat.presence, visible) {
        seat.note(shared);
        events::seen(shared, seat, visible);
    }
    done(out, req_id);
}

pub(in crate::broker) fn set_profile(shared: &Shared, seat: &Seat, ask: SetProfile, out: &mut Outbox) {
    let clean = |text: String| -> String { neutralise_line(&text).chars().take(MAX_SUMMARY).collect() };
    let Profile { avatar, title, bio, capabilities } = ask.profile;
    let profile = Profile {
        avatar: avatar.map(clean),
        title: title.map(clean),
        bio: bio.map(clean),
        capabilities: capabilities.map(|all| all.into_iter().take(MAX_CAPABILITIES).map(clean).collect()),
    };
    shared.router.set_profile(&seat.mesh, &seat.presence, profile);
    done(out, ask.req_id);
}

pub(in crate::broker) fn set_reach(shared: &Shared, seat: &Seat, ask: SetReach, out: &mut Outbox) {
    let known = [Reach::Wake, Reach::Turn, Reach::Channel];
    let reach = known.into_iter().filter(|way| ask.reach.contains(way)).collect();
    shared.router.set_reach(&seat.mesh, &seat.presence, reach);
    done(out, ask.req_id);
}

pub(in crate::broker) fn set_stats(shared: &Shared, seat: &Seat, ask: SetStats, out: &mut Outbox) {
    shared.router.set_stats(&seat.mesh, &seat.presence, ask.stats);
    done(out, ask.req_id);
}

pub(in crate::broker) fn join_group(shared: &Shared, seat: &Seat, ask: JoinGroup, out: &mut Outbox) {
    if !is_group_name(&ask.name) {
        return error(out, Code::Invalid, "a group's name is [A-Za-z0-9][A-Za-z0-9._/-]{0,63}", None, ask.req_id);
    }
    let role = ask.role.map(|role| neutralise_line(&role).chars().take(MAX_ROLE).collect());
    if shared.router.join_group(&seat.mesh, &seat.presence, Group { name: ask.name, role }) {
        seat.note(shared);
        return done(out, ask.req_id);
    }
    error(out, Code::Capacity, "a peer can be in 64 groups", None, ask.req_id);
}

pub(in crate::broker) fn leave_group(shared: &Shared, seat: &Seat, ask: LeaveGroup, out: &mut Outbox) {
    shared.router.leave_group(&seat.mesh, &seat.presence, &ask.name);
    seat.note(shared);
    done(out, ask.req_id);
}

/// Whoever gave the request an id hears that it was carried out, in the form the reference uses for such replies.
pub(super) fn done(out: &mut Outbox, req_id: Option<String>) {
    if let Some(id) = req_id {
        let ack = Ack {
            id: id.clone(),
            message_id: MessageId::new(""),
            queued: false,
            error: None,
            retry_after_ms: None,
            req_id: Some(id),
        };
        out.text(ServerFrame::Ack(ack).encode());
    }
}
