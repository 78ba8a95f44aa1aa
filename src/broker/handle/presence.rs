//! `list_peers`, `set_status`, `set_summary`.

use std::collections::{HashMap, HashSet};

use crate::base::ids::{MemberId, MemberKey, MessageId, PublicKey};
use crate::base::names::neutralise_line;
use crate::base::time::{Millis, iso, now_millis};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::broker::limits::{AWAY_LIFE, MAX_SUMMARY};
use crate::net::ws::Outbox;
use crate::store;
use crate::wire::client::{ListPeers, SetStatus, SetSummary};
use crate::wire::code::Code;
use crate::wire::peer::{Peer, PeerRole, Status};
use crate::wire::server::{Ack, PeersList, ServerFrame};

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
    out.text(ServerFrame::PeersList(PeersList { peers, req_id: ask.req_id }).encode());
}

fn away(shared: &Shared, seat: &Seat, here: &[Peer]) -> Result<Vec<Peer>, store::Error> {
    let since = now_millis() - Millis::try_from(AWAY_LIFE.as_millis()).unwrap_or(Millis::MAX);
    let here: HashSet<PublicKey> = here.iter().map(|peer| peer.pubkey).collect();
    let seen = shared.hub.away_sessions(seat.mesh.clone(), since)?;
    let members: HashMap<MemberId, MemberKey> =
        shared.hub.members(seat.mesh.clone())?.into_iter().map(|member| (member.id, member.key)).collect();
    let away = seen.into_iter().filter(|session| !here.contains(&session.key.0)).filter_map(|session| {
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

/// Whoever gave the request an id hears that it was carried out, in the form the reference uses for such replies.
fn done(out: &mut Outbox, req_id: Option<String>) {
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
