//! Making, renaming, deleting and leaving meshes. The owner's secret key is made and stays on the owner's machine.

use super::answer::{Answer, Ask};
use super::auth;
use super::join::clean_name;
use crate::base::ids::{MemberId, MemberKey, MeshId, Slug};
use crate::base::names::{is_display_name, is_slug};
use crate::base::time::{Millis, now_millis};
use crate::broker::Shared;
use crate::broker::access::Policy;
use crate::broker::handle::events;
use crate::broker::hello::BANNED;
use crate::crypto::{fingerprint, random};
use crate::store::hub::{KickRow, NewMember, NewMesh, Removed, Role};
use crate::wire::json;
use crate::wire::mesh_api::{CreateMesh, CreatedMesh, MESH_DELETED, RenameMesh};

fn check_names(slug: &str, name: &str) -> Result<(), Answer> {
    if !is_slug(slug) {
        return Err(Answer::explained(400, "bad_slug", "a slug is [a-z0-9][a-z0-9._-]*, 64 characters at most"));
    }
    if !is_display_name(name) {
        return Err(Answer::explained(400, "bad_name", "a name has 1 to 64 visible characters"));
    }
    Ok(())
}

/// `POST /mesh`. The id follows from the owner's key, so that a request that is made again finds the mesh it made.
pub(super) fn create(shared: &Shared, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let admin = auth::is_admin(shared, ask)?;
    let allowed = match shared.gate.policy {
        Policy::Closed => return Err(Answer::explained(403, "closed", "no meshes can be made on this broker")),
        Policy::Open => true,
        Policy::Local => admin || ask.is_local(),
        Policy::Token => admin,
    };
    if !allowed {
        return Err(Answer::explained(401, "admin_token_required", "making a mesh on this broker takes its admin token"));
    }
    let signer = auth::signed(shared, ask)?;
    let body: CreateMesh = json::decode(ask.body).map_err(|err| Answer::explained(400, "malformed", &err.to_string()))?;
    check_names(&body.slug, &body.name)?;
    let owner = MemberKey(signer.key);
    let seed = format!("claudemesh-mesh|{owner}");
    let id: String = crate::base::hex::encode(&fingerprint::sha256(seed.as_bytes())).chars().take(32).collect();
    let id = MeshId::new(id);
    signer.once(shared)?;
    let now = now_millis();
    let member = NewMember {
        id: MemberId::new(random::id32()),
        mesh: id.clone(),
        key: owner,
        display_name: clean_name(&body.display_name),
        role: Role::Admin,
        now,
    };
    let new = NewMesh { id, slug: Slug::new(body.slug), name: body.name, owner, now };
    let mesh = shared.hub.create_mesh(new, member)?;
    if mesh.archived_at.is_some() {
        return Err(Answer::refused(409, "mesh_deleted"));
    }
    let member = auth::member(shared, &mesh.id, owner.0)?;
    log::info!("mesh {} was made", mesh.id);
    let made =
        CreatedMesh { ok: true, mesh_id: mesh.id.to_string(), member_id: member.id.to_string(), slug: mesh.slug.to_string() };
    Ok(Answer::json(201, &made))
}

/// `PATCH /mesh/ID`.
pub(super) fn rename(shared: &Shared, ask: &Ask<'_>, id: &str) -> Result<Answer, Answer> {
    let mesh = auth::mesh(shared, &MeshId::new(id))?;
    let body: RenameMesh = json::decode(ask.body).map_err(|err| Answer::explained(400, "malformed", &err.to_string()))?;
    check_names(&body.slug, &body.name)?;
    auth::manage(shared, ask, &mesh, false)?;
    shared.hub.rename_mesh(mesh.id, Slug::new(body.slug), body.name)?;
    Ok(Answer::ok())
}

/// `DELETE /mesh/ID`. Whoever is there is sent away.
pub(super) fn delete(shared: &Shared, ask: &Ask<'_>, id: &str) -> Result<Answer, Answer> {
    let mesh = auth::mesh(shared, &MeshId::new(id))?;
    auth::manage(shared, ask, &mesh, true)?;
    shared.hub.archive_mesh(mesh.id.clone(), now_millis())?;
    log::info!("mesh {} was deleted", mesh.id);
    let members: Vec<MemberKey> = shared.hub.members(mesh.id.clone())?.into_iter().map(|member| member.key).collect();
    send_away(shared, &mesh.id, &members, MESH_DELETED);
    shared.janitor.ring();
    Ok(Answer::ok())
}

/// `POST /mesh/ID/leave`. The owner cannot: a mesh without one could not be managed by anybody.
pub(super) fn leave(shared: &Shared, ask: &Ask<'_>, id: &str) -> Result<Answer, Answer> {
    let mesh = auth::mesh(shared, &MeshId::new(id))?;
    let signer = auth::signed(shared, ask)?;
    let member = shared.hub.member(mesh.id.clone(), MemberKey(signer.key))?.filter(|member| !member.revoked);
    let member = member.ok_or_else(|| Answer::explained(404, "not_a_member", "that key is no member's"))?;
    if member.key == mesh.owner {
        return Err(Answer::explained(409, "is_owner", "the owner of a mesh can delete it, not leave it"));
    }
    signer.once(shared)?;
    shared.hub.revoke(mesh.id.clone(), member.key, Removed::Left, now_millis())?;
    send_away(shared, &mesh.id, &[member.key], "banned");
    Ok(Answer::ok())
}

/// Closes the connections of members that have no part in the mesh any more. Whoever is just coming in was let through
/// before; the table stops it.
fn send_away(shared: &Shared, mesh: &MeshId, members: &[MemberKey], reason: &'static str) {
    let out = |key: &MemberKey| KickRow { mesh: mesh.clone(), key: key.0, until: Millis::MAX };
    shared.allowed.keep_out(&members.iter().map(out).collect::<Vec<_>>(), now_millis());
    events::expel(shared, mesh, |member| members.contains(&member), BANNED, reason);
}
