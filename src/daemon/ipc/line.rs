//! `GET /v1/line`: what a status line shows, at once. No broker is waited for longer than a moment.

use crate::base::ids::{PublicKey, Slug};
use crate::store::outbox::{Route, Sender};
use crate::wire::ipc::{Line, LinkStatus};
use crate::wire::peer::PeerRole;

use super::reply::Reply;
use super::routes::Call;

pub(super) fn show(call: &Call<'_>) -> Reply {
    let session = call.caller.session();
    let meshes: Vec<Slug> = match session {
        Some(session) => vec![session.mesh.clone()],
        None => call.ctx.meshes.all().iter().map(|membership| membership.slug.clone()).collect(),
    };
    let unread = match call.ctx.inbox.unread(call.caller.scope(call.ctx)) {
        Ok(unread) => unread,
        Err(err) => return Reply::store(&err),
    };
    let own = session.and_then(|session| session.public_key()).map(|key| key.0);
    let sender = session.and_then(|session| session.public_key()).map_or(Sender::Member, Sender::Session);
    let is_open = |mesh: &Slug| {
        let route = Route { mesh: mesh.clone(), sender };
        call.ctx.links.status(&route) == Some(LinkStatus::Open)
    };
    Reply::ok(&Line {
        connected: !meshes.is_empty() && meshes.iter().all(is_open),
        online: meshes.iter().map(|mesh| online(call, mesh, own)).sum(),
        meshes: meshes.len(),
        mesh: Some(meshes).filter(|meshes| meshes.len() == 1).and_then(|meshes| meshes.into_iter().next()),
        unread,
    })
}

/// Sessions of others that are there now, as far as is known.
fn online(call: &Call<'_>, mesh: &Slug, own: Option<PublicKey>) -> Option<usize> {
    let roster = call.ctx.rosters.glance(mesh, &call.ctx.links)?;
    let is_other =
        |peer: &&crate::wire::peer::Peer| peer.online && peer.peer_role != PeerRole::ControlPlane && Some(peer.pubkey) != own;
    Some(roster.iter().filter(is_other).count())
}
