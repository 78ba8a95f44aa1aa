//! `GET /v1/peers`: who is on the meshes. All are asked at once; one that does not answer is named.

use std::sync::Arc;
use std::thread;

use crate::base::ids::Slug;
use crate::daemon::ctx::Ctx;
use crate::daemon::meshes::Membership;
use crate::daemon::rosters::Roster;
use crate::wire::code::Code;
use crate::wire::ipc::{PeerOnMesh, Peers};

use super::reply::Reply;
use super::routes::Call;

pub(super) fn list(call: &Call<'_>) -> Reply {
    let wanted = call.query("mesh").map(Slug::new).or_else(|| call.caller.session().map(|session| session.mesh.clone()));
    let memberships = match wanted {
        // The reference answers a mesh that is not joined with an empty list.
        Some(slug) => call.ctx.meshes.get(&slug).into_iter().collect(),
        None => call.ctx.meshes.all(),
    };
    let mut answer = Peers::default();
    for (membership, roster) in ask_all(call.ctx, memberships) {
        match roster {
            Ok(roster) => {
                answer.peers.extend(roster.iter().map(|peer| PeerOnMesh { peer: peer.clone(), mesh: membership.slug.clone() }))
            }
            Err(code) => drop(answer.unanswered.insert(membership.slug.to_string(), code.to_string())),
        }
    }
    Reply::ok(&answer)
}

fn ask_all(ctx: &Ctx, memberships: Vec<Arc<Membership>>) -> Vec<(Arc<Membership>, Result<Roster, Code>)> {
    let ask = |membership: &Membership| ctx.rosters.of(&membership.slug, &ctx.links);
    if let [only] = memberships.as_slice() {
        return vec![(only.clone(), ask(only))];
    }
    thread::scope(|scope| {
        let asked: Vec<_> =
            memberships.into_iter().map(|membership| (membership.clone(), scope.spawn(move || ask(&membership)))).collect();
        asked.into_iter().map(|(membership, answer)| (membership, answer.join().unwrap_or(Err(Code::Unavailable)))).collect()
    })
}
