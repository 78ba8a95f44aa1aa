//! `GET /v1/peers`: who is on the meshes; with `away=true` also who is known and not connected, which the reference's clients
//! would take for present. All meshes are asked at once; one that does not answer is named.

use std::time::Instant;

use crate::store::outbox::{Route, Sender};
use crate::wire::ipc::{PeerOnMesh, Peers};
use crate::wire::limits::AGGREGATE_DEADLINE;

use super::mesh;
use super::reply::Reply;
use super::routes::Call;

pub(super) fn list(call: &Call<'_>) -> Reply {
    let deadline = Instant::now() + AGGREGATE_DEADLINE;
    let rosters = &call.ctx.rosters;
    let asked = match mesh::asked(call) {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let wanted: Vec<_> =
        asked.into_iter().map(|membership| (membership.slug.clone(), rosters.want(&membership.slug, &call.ctx.links))).collect();
    let with_away = call.query("away") == Some("true");
    let mut answer = Peers::default();
    for (slug, wanted) in wanted {
        match rosters.take(wanted, deadline) {
            Ok(roster) => {
                let listed = roster.iter().filter(|peer| with_away || peer.online);
                answer.peers.extend(listed.map(|peer| PeerOnMesh { peer: peer.clone(), mesh: slug.clone() }));
            }
            Err(code) => {
                let route = Route { mesh: slug.clone(), sender: Sender::Member };
                answer.unanswered.insert(slug.to_string(), mesh::why(call, &route, &code));
            }
        }
    }
    Reply::ok(&answer)
}
