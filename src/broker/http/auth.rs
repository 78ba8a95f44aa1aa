//! Whose word a request is: a key's that signed it, or whoever's has the admin token. Nothing else counts.

use super::answer::{Answer, Ask};
use crate::base::ids::{MemberKey, MeshId, PublicKey};
use crate::base::time::now_millis;
use crate::broker::Shared;
use crate::crypto::request::Request;
use crate::crypto::sign::Signature;
use crate::store::hub::{Actor, Member, Mesh, Role};
use crate::wire::mesh_api::{SIGNATURE_HEADER, SignedBy};

/// A key that signed this request, not long ago. Whether the request was made before is asked last, by [`Signer::once`]:
/// only what is taken is remembered.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) key: PublicKey,
    nonce: String,
}

impl Signer {
    /// Lets the request count once.
    pub(super) fn once(self, shared: &Shared) -> Result<(), Answer> {
        if shared.gate.use_once(self.key, self.nonce, now_millis()) {
            return Ok(());
        }
        Err(Answer::refused(409, "replayed"))
    }
}

/// Who signed the request; `None` if nobody did.
pub(super) fn signer(shared: &Shared, ask: &Ask<'_>) -> Result<Option<Signer>, Answer> {
    let Some(text) = ask.head.header(SIGNATURE_HEADER) else { return Ok(None) };
    let malformed = || Answer::explained(401, "bad_signature", "the signature's header is not what it should be");
    let signed = SignedBy::parse(text).ok_or_else(malformed)?;
    let key = PublicKey::parse(&signed.key).ok_or_else(malformed)?;
    let signature = Signature::parse(&signed.signature).ok_or_else(malformed)?;
    if !shared.gate.is_timely(signed.timestamp, now_millis()) {
        return Err(Answer::skewed());
    }
    let (timestamp, nonce) = (signed.timestamp, signed.nonce.as_str());
    let request = Request { method: ask.method(), path: &ask.head.target.path, body: ask.body, key, timestamp, nonce };
    if ask.head.target.query.iter().next().is_some() || !request.is_signed(&signature) {
        return Err(Answer::refused(401, "bad_signature"));
    }
    Ok(Some(Signer { key, nonce: signed.nonce }))
}

/// As [`signer`], where somebody must have signed.
pub(super) fn signed(shared: &Shared, ask: &Ask<'_>) -> Result<Signer, Answer> {
    signer(shared, ask)?.ok_or_else(|| Answer::explained(401, "unauthorized", "the request is not signed"))
}

/// Whether the request carries the admin token; a wrong one is an error and not nothing.
pub(super) fn is_admin(shared: &Shared, ask: &Ask<'_>) -> Result<bool, Answer> {
    let Some(value) = ask.head.header("authorization") else { return Ok(false) };
    let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    if token.is_some_and(|token| shared.gate.is_admin(token)) {
        return Ok(true);
    }
    log::warn!("a wrong admin token came from {}", ask.origin);
    Err(Answer::refused(401, "admin_token_wrong"))
}

/// A mesh that stands.
pub(super) fn mesh(shared: &Shared, id: &MeshId) -> Result<Mesh, Answer> {
    let found = shared.hub.mesh(id.clone())?.filter(|mesh| mesh.archived_at.is_none());
    found.ok_or_else(|| Answer::refused(404, "mesh_not_found"))
}

/// The member of a mesh that a key belongs to, if it stands.
pub(super) fn member(shared: &Shared, mesh: &MeshId, key: PublicKey) -> Result<Member, Answer> {
    let found = shared.hub.member(mesh.clone(), MemberKey(key))?.filter(|member| !member.revoked);
    found.ok_or_else(|| Answer::explained(403, "forbidden", "that key is no member's"))
}

/// As [`member`], if it may invite.
pub(super) fn inviter(shared: &Shared, mesh: &MeshId, key: PublicKey) -> Result<Member, Answer> {
    let found = member(shared, mesh, key)?;
    if found.role == Role::Admin {
        return Ok(found);
    }
    Err(Answer::explained(403, "forbidden", "only admins of the mesh may do this"))
}

/// Lets a request pass that an admin of the mesh signed, its owner alone if `owner`, or that carries the admin token.
pub(super) fn manage(shared: &Shared, ask: &Ask<'_>, mesh: &Mesh, owner: bool) -> Result<Actor, Answer> {
    if is_admin(shared, ask)? {
        return Ok(Actor::Nobody);
    }
    let signer = signed(shared, ask)?;
    inviter(shared, &mesh.id, signer.key)?;
    if owner && mesh.owner.0 != signer.key {
        return Err(Answer::explained(403, "forbidden", "only the owner of the mesh may do this"));
    }
    let by = Actor::Key(MemberKey(signer.key));
    signer.once(shared).map(|()| by)
}
