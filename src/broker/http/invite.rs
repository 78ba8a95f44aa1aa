//! Invites: kept, listed, revoked, and given out under a short link.

use super::answer::{Answer, Ask};
use super::join::signed_part;
use super::{auth, page};
use crate::base::ids::{MeshId, PublicKey};
use crate::base::time::{Millis, iso, now_millis};
use crate::broker::Shared;
use crate::crypto::{base64, random};
use crate::store::hub::Role;
use crate::store::hub::invites::{AddedInvite, Invite, NewInvite, Standing};
use crate::wire::json;
use crate::wire::mesh_api::{CreateInvite, CreatedInvite, InviteList, InvitePayload, InviteRow, MAX_TOKEN, ShortLink};

/// Most uses of one invite.
const MAX_USES: u32 = 10_000;

/// How far ahead an invite may expire.
const MAX_LIFE: Millis = 366 * 86_400_000;

/// Characters of a short link's code: 60 bits, none that are mistaken for another.
const CODE_ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_LENGTH: usize = 12;

fn code() -> String {
    // 32 divides 256, so that each character is equally likely.
    random::bytes::<CODE_LENGTH>().iter().map(|byte| char::from(CODE_ALPHABET[usize::from(byte % 32)])).collect()
}

fn row(invite: &Invite, now: Millis) -> InviteRow {
    let state = match invite.standing(now) {
        Standing::Open => "open",
        Standing::Revoked => "revoked",
        Standing::Expired => "expired",
        Standing::UsedUp => "used_up",
    };
    InviteRow {
        id: invite.id.clone(),
        code: invite.code.clone(),
        role: invite.role.as_str().to_owned(),
        created_at: iso(invite.created_at),
        expires_at: iso(invite.expires_at),
        uses: invite.uses,
        used: invite.used,
        state: state.to_owned(),
    }
}

/// What a token says.
fn payload(token: &str) -> Option<InvitePayload> {
    let bytes = base64::decode_url(token).filter(|_| token.len() <= MAX_TOKEN)?;
    json::decode(&bytes).ok()
}

/// `POST /invite`. The token was made and signed where the key is; here it is checked, kept and given a short name.
pub(super) fn create(shared: &Shared, ask: &Ask<'_>) -> Result<Answer, Answer> {
    let signer = auth::signed(shared, ask)?;
    let body: CreateInvite = json::decode(ask.body).map_err(|err| Answer::explained(400, "malformed", &err.to_string()))?;
    let malformed = |why: &str| Answer::explained(400, "malformed", why);
    let payload = payload(&body.invite_token).ok_or_else(|| malformed("the token is no invite"))?;
    if payload.v != 1 || !signed_part(&payload).is_signed(&payload.signature) {
        return Err(Answer::refused(400, "invite_bad_signature"));
    }
    if PublicKey::parse(&payload.owner_pubkey) != Some(signer.key) {
        return Err(Answer::refused(400, "invite_owner_mismatch"));
    }
    let mesh = auth::mesh(shared, &MeshId::new(payload.mesh_id.as_str()))?;
    let member = auth::inviter(shared, &mesh.id, signer.key)?;
    let role = Role::parse(&payload.role).ok_or_else(|| malformed("the role is neither admin nor member"))?;
    if !(1..=MAX_USES).contains(&body.uses) {
        return Err(malformed("uses are from 1 to 10000"));
    }
    let now = now_millis();
    let expires_at = payload.expires_at.saturating_mul(1000);
    if expires_at <= now || now + MAX_LIFE < expires_at {
        return Err(malformed("it expires in the past or more than a year from now"));
    }
    signer.once(shared)?;
    let new = NewInvite {
        id: random::id32(),
        mesh: mesh.id,
        code: code(),
        token: body.invite_token,
        role,
        by: member.id,
        now,
        expires_at,
        uses: body.uses,
    };
    match shared.hub.add_invite(new)? {
        AddedInvite::Kept(invite) => Ok(Answer::json(201, &CreatedInvite { ok: true, invite: row(&invite, now) })),
        AddedInvite::Taken => Err(Answer::refused(409, "invite_exists")),
        AddedInvite::Full => Err(Answer::explained(409, "full", "the mesh has 1000 open invites; revoke some")),
    }
}

/// `GET /mesh/ID/invites`.
pub(super) fn list(shared: &Shared, ask: &Ask<'_>, mesh: &str) -> Result<Answer, Answer> {
    let mesh = auth::mesh(shared, &MeshId::new(mesh))?;
    auth::manage(shared, ask, &mesh, false)?;
    let now = now_millis();
    let invites = shared.hub.invites(mesh.id)?.iter().map(|invite| row(invite, now)).collect();
    Ok(Answer::json(200, &InviteList { ok: true, invites }))
}

/// `DELETE /invite/ID`. To revoke what is revoked changes nothing.
pub(super) fn revoke(shared: &Shared, ask: &Ask<'_>, id: &str) -> Result<Answer, Answer> {
    let not_found = || Answer::refused(404, "invite_not_found");
    let invite = shared.hub.invite(id.to_owned())?.ok_or_else(not_found)?;
    let mesh = auth::mesh(shared, &invite.mesh)?;
    let by = auth::manage(shared, ask, &mesh, false)?;
    shared.hub.revoke_invite(invite.id, by, now_millis())?;
    Ok(Answer::ok())
}

/// `GET /i/CODE`: the token for a program, a page for a person. Looking at it uses nothing up.
pub(super) fn short_link(shared: &Shared, ask: &Ask<'_>, code: &str) -> Result<Answer, Answer> {
    let for_program = ask.head.header("accept").is_some_and(|accept| accept.contains("application/json"));
    let refused = |status, error: &str, text: &str| {
        if for_program { Answer::refused(status, error) } else { Answer::html(status, page::sorry(text)) }
    };
    let gone = |error, text| Err(refused(410, error, text));
    let found = shared.hub.invite_by_code(code.to_ascii_uppercase())?;
    let Some((invite, payload)) = found.and_then(|invite| payload(&invite.token).map(|payload| (invite, payload))) else {
        return Err(refused(404, "invite_not_found", "There is no invitation under this link."));
    };
    let mesh = shared.hub.mesh(invite.mesh.clone())?.filter(|mesh| mesh.archived_at.is_none());
    let Some(mesh) = mesh else { return gone("mesh_not_found", "The mesh of this invitation is not there any more.") };
    match invite.standing(now_millis()) {
        Standing::Revoked => return gone("invite_revoked", "This invitation was taken back."),
        Standing::Expired => return gone("invite_expired", "This invitation has expired."),
        // Whoever has used it up may come again and be recognised.
        Standing::UsedUp if !for_program => return gone("invite_exhausted", "This invitation is used up."),
        Standing::UsedUp | Standing::Open => {}
    }
    if for_program {
        return Ok(Answer::json(200, &ShortLink { ok: true, token: invite.token }));
    }
    Ok(Answer::html(200, page::invitation(&mesh, &invite, &payload.broker_url)))
}
