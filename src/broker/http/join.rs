//! `POST /join`: the reference's, with its checks in its order and its words. Whoever has a link becomes a member.

use super::answer::{Answer, Ask};
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey};
use crate::base::names::{is_display_name, neutralise_line};
use crate::base::time::now_millis;
use crate::broker::Shared;
use crate::crypto::invite::Invite;
use crate::crypto::random;
use crate::store::hub::invites::{Redeem, Redeemed};
use crate::store::hub::{NewMember, Role};
use crate::wire::json::{self, Value};
use crate::wire::mesh_api::{InvitePayload, Joined};

/// The signed part of a payload.
pub(super) fn signed_part(payload: &InvitePayload) -> Invite<'_> {
    Invite {
        mesh_id: &payload.mesh_id,
        mesh_slug: &payload.mesh_slug,
        broker_url: &payload.broker_url,
        expires_at: payload.expires_at,
        mesh_root_key: &payload.mesh_root_key,
        role: &payload.role,
        owner_pubkey: &payload.owner_pubkey,
    }
}

/// A name as others may see it: what could pass for something else is made harmless rather than refused.
pub(super) fn clean_name(text: &str) -> String {
    let name: String = neutralise_line(text.trim()).chars().take(64).collect();
    if is_display_name(name.trim()) { name.trim().to_owned() } else { "member".to_owned() }
}

pub(super) fn join(shared: &Shared, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let body: Value = json::decode(ask.body).map_err(|_| Answer::refused(400, "malformed"))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let given = (text("invite_token"), body.get("invite_payload"), text("peer_pubkey"), text("display_name"));
    let (Some(token), Some(payload @ Value::Object(_)), Some(key), Some(name)) = given else {
        return Err(Answer::refused(400, "invite_token, invite_payload, peer_pubkey, display_name required"));
    };
    let key = PublicKey::parse_any_case(key)
        .map(MemberKey)
        .ok_or_else(|| Answer::refused(400, "peer_pubkey must be 64 hex chars (32 bytes)"))?;
    let payload: InvitePayload = json::from_value(payload.clone()).map_err(|_| Answer::refused(400, "invite_bad_signature"))?;
    if payload.v != 1 || !signed_part(&payload).is_signed(&payload.signature) {
        return Err(Answer::refused(400, "invite_bad_signature"));
    }
    let mesh = shared.hub.mesh(MeshId::new(payload.mesh_id.as_str()))?.filter(|mesh| mesh.archived_at.is_none());
    let mesh = mesh.ok_or_else(|| Answer::refused(400, "mesh_not_found"))?;
    if !may_invite(shared, &mesh.id, mesh.owner, &payload)? {
        return Err(Answer::refused(400, "invite_owner_mismatch"));
    }
    let member = NewMember {
        id: MemberId::new(random::id32()),
        mesh: mesh.id.clone(),
        key,
        display_name: clean_name(name),
        // What counts is what was written down when the invite was made.
        role: Role::Member,
        now: now_millis(),
    };
    let refused = |error| Err(Answer::refused(400, error));
    let (member, already_member) = match shared.hub.redeem(Redeem { token: token.to_owned(), member })? {
        Redeemed::Joined(member) => {
            // Whoever had left was kept out until now.
            shared.allowed.let_in(&mesh.id, member.key.0);
            (member, false)
        }
        Redeemed::Already(member) => (member, true),
        Redeemed::NotFound => return refused("invite_not_found"),
        Redeemed::OtherMesh => return refused("invite_mesh_mismatch"),
        Redeemed::Revoked => return refused("invite_revoked"),
        Redeemed::Expired => return refused("invite_expired"),
        Redeemed::UsedUp => return refused("invite_exhausted"),
        Redeemed::ShutOut => return refused("member_insert_failed"),
    };
    log::info!("a member joined mesh {}", mesh.id);
    Ok(Answer::json(200, &Joined { ok: true, member_id: member.id.to_string(), already_member }))
}

/// The owner may, and every admin that stands; what a former admin has signed is worth nothing.
fn may_invite(shared: &Shared, mesh: &MeshId, owner: MemberKey, payload: &InvitePayload) -> Result<bool, Answer> {
    let Some(signer) = PublicKey::parse_any_case(&payload.owner_pubkey).map(MemberKey) else { return Ok(false) };
    if signer == owner {
        return Ok(true);
    }
    let member = shared.hub.member(mesh.clone(), signer)?;
    Ok(member.is_some_and(|member| !member.revoked && member.role == Role::Admin))
}
