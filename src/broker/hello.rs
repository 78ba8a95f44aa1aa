//! Who may come in: the checks of the two hellos, in the reference's order and with its refusals.

use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, SessionKey};
use crate::base::names::{is_display_name, neutralise_line};
use crate::base::time::{Millis, iso};
use crate::crypto::hello::{self, ClaimedAttestation};
use crate::crypto::sign::Signature;
use crate::net::ws;
use crate::store::hub::{Hub, Member, Mesh};
use crate::wire::client::{About, Hello, SessionHello};
use crate::wire::code::Code;
use crate::wire::grant::Capability;
use crate::wire::key::SCOPE_KEYS;

use super::presence::{Kind, MAX_ROLE, valid_groups};
use super::replay::{Replay, Stale};

/// Close code of a member that was shut out.
pub(super) const BANNED: u16 = 4002;

/// Close code of one that is kept out for a while.
pub(super) const KICKED: u16 = 4001;

/// Longest text of a hello's field, in bytes.
const MAX_FIELD: usize = 1024;

/// A hello that holds.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) mesh: MeshId,
    pub(super) kind: Kind,
    pub(super) member: Member,
    pub(super) name: String,
    pub(super) about: About,
}

/// A hello that does not: what is said, and how the connection is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) close: u16,
    pub(super) reason: String,
    /// How long it is to stay away, where that ends.
    pub(super) retry_after_ms: Option<u64>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { reason: code.as_str().to_owned(), code, message: message.into(), close: ws::code::POLICY, retry_after_ms: None }
    }

    /// It is kept out until then.
    pub(super) fn kept_out(until: Millis, now: Millis) -> Refusal {
        if until == Millis::MAX {
            let refusal = Refusal::new(Code::Revoked, "You've been removed from this mesh. Contact the mesh owner to rejoin.");
            return Refusal { close: BANNED, reason: "banned".to_owned(), ..refusal };
        }
        let refusal = Refusal::new(Code::Kicked, format!("kicked from this mesh until {}", iso(until)));
        let retry_after_ms = u64::try_from(until.saturating_sub(now)).ok();
        Refusal { close: KICKED, reason: "kicked".to_owned(), retry_after_ms, ..refusal }
    }

    fn of(what: &str, refused: hello::Refusal) -> Refusal {
        let code = Code::parse(refused.code());
        Refusal::new(code.clone(), format!("{what} rejected: {code}"))
    }

    fn store(err: &crate::store::Error) -> Refusal {
        log::error!("hub: {err}");
        Refusal { close: ws::code::TRY_LATER, ..Refusal::new(Code::Unavailable, "the broker can not read its database now") }
    }
}

/// Checks a member's hello.
pub(super) fn member(hub: &Hub, replay: &Replay, frame: Hello, now: Millis) -> Result<Admitted, Refusal> {
    let label = match frame.session_pubkey.as_deref().filter(|key| !key.is_empty()) {
        None => None,
        Some(text) => Some(PublicKey::parse(text).ok_or_else(bad_session_key)?),
    };
    let (mesh_id, member_id) = (MeshId::new(frame.mesh_id), MemberId::new(frame.member_id));
    let signed = hello::Hello { mesh_id: &mesh_id, member_id: &member_id, pubkey: &frame.pubkey, timestamp: frame.timestamp };
    signed.check(&frame.signature, now).map_err(|refused| Refusal::of("hello", refused))?;
    let unauthorized = || Refusal::new(Code::Unauthorized, "pubkey not found in mesh");
    // Keys are compared as they are stored, in lower case.
    let key = PublicKey::parse(&frame.pubkey).map(MemberKey).ok_or_else(unauthorized)?;
    let member = standing(hub, &mesh_id, key, unauthorized)?;
    if member.id != member_id {
        return Err(Refusal::new(Code::Unauthorized, "memberId does not belong to pubkey"));
    }
    // A label is not proven: it may not be a key that somebody has proven, here or before.
    if let Some(label) = label
        && hub.owner_of(mesh_id.clone(), label).map_err(|err| Refusal::store(&err))?.is_some()
    {
        return Err(Refusal::new(Code::Unauthorized, "sessionPubkey belongs to a member or to a session"));
    }
    once(replay, key, ("hello", &frame.signature, frame.timestamp), now)?;
    let kind = if label.is_some() { Kind::Passing(label) } else { Kind::Member };
    admit(mesh_id, kind, member, frame.about)
}

/// Checks a session's hello.
pub(super) fn session(hub: &Hub, replay: &Replay, frame: SessionHello, now: Millis) -> Result<Admitted, Refusal> {
    let session = PublicKey::parse(&frame.session_pubkey).map(SessionKey).ok_or_else(bad_session_key)?;
    let parent = PublicKey::parse(&frame.parent_member_pubkey)
        .map(MemberKey)
        .ok_or_else(|| Refusal::new(Code::BadParentPubkey, "parentMemberPubkey must be 64 lowercase hex chars"))?;
    let attestation = ClaimedAttestation {
        session_pubkey: &frame.parent_attestation.session_pubkey,
        parent_member_pubkey: &frame.parent_attestation.parent_member_pubkey,
        expires_at: frame.parent_attestation.expires_at,
        signature: &frame.parent_attestation.signature,
    };
    attestation.binds(session, parent).map_err(|_| {
        Refusal::new(Code::AttestationMismatch, "parentAttestation does not bind the claimed session+parent pubkeys")
    })?;
    attestation.check(now).map_err(|refused| Refusal::of("attestation", refused))?;
    let mesh_id = MeshId::new(frame.mesh_id);
    let signed = hello::SessionHello { mesh_id: &mesh_id, member: parent, session, timestamp: frame.timestamp };
    signed.check(&frame.signature, now).map_err(|refused| Refusal::of("session_hello", refused))?;
    let member = standing(hub, &mesh_id, parent, || Refusal::new(Code::Unauthorized, "parent pubkey not found in mesh"))?;
    if frame.parent_member_id.is_some_and(|id| !id.is_empty() && id != member.id.as_str()) {
        return Err(Refusal::new(Code::ParentMemberIdMismatch, "parentMemberId does not match parentMemberPubkey"));
    }
    once(replay, parent, ("session_hello", &frame.signature, frame.timestamp), now)?;
    admit(mesh_id, Kind::Session(session), member, frame.about)
}

/// Lets a hello that holds count, if it has not counted before. Whoever is refused honestly says another.
fn once(replay: &Replay, member: MemberKey, (what, signature, at): (&str, &str, Millis), now: Millis) -> Result<(), Refusal> {
    let signature = Signature::parse(signature).ok_or_else(|| Refusal::of(what, hello::Refusal::Malformed))?;
    replay.once(member, signature, at, now).map_err(|stale| {
        let why = match stale {
            Stale::Repeated => "it has been used",
            Stale::Unknown => "it may have been used: it is from before this broker's start, or too many came at once",
        };
        Refusal::new(Code::Replayed, format!("{what} rejected: replayed: {why}"))
    })
}

fn bad_session_key() -> Refusal {
    Refusal::new(Code::BadSessionPubkey, "sessionPubkey must be 64 lowercase hex chars")
}

/// The member behind a key, in a mesh that is not closed, and not shut out of it.
fn standing(hub: &Hub, mesh_id: &MeshId, key: MemberKey, unauthorized: impl Fn() -> Refusal) -> Result<Member, Refusal> {
    let mesh = hub.mesh(mesh_id.clone()).map_err(|err| Refusal::store(&err))?;
    let mesh = mesh.filter(|mesh| mesh.archived_at.is_none()).ok_or_else(&unauthorized)?;
    let member = hub.member(mesh_id.clone(), key).map_err(|err| Refusal::store(&err))?.ok_or_else(unauthorized)?;
    if member.revoked {
        return Err(revoked(&mesh));
    }
    Ok(member)
}

fn revoked(mesh: &Mesh) -> Refusal {
    let message = format!("You've been removed from \"{}\". Contact the mesh owner to rejoin.", mesh.name);
    Refusal { close: BANNED, reason: "banned".to_owned(), ..Refusal::new(Code::Revoked, message) }
}

fn admit(mesh: MeshId, kind: Kind, member: Member, mut about: About) -> Result<Admitted, Refusal> {
    let texts = [
        Some(&about.session_id),
        Some(&about.cwd),
        about.hostname.as_ref(),
        about.channel.as_ref(),
        about.model.as_ref(),
        about.role.as_ref(),
    ];
    if texts.into_iter().flatten().any(|text| MAX_FIELD < text.len()) {
        return Err(Refusal::new(Code::Malformed, "a field of the hello is too long"));
    }
    about.groups = valid_groups(about.groups.take());
    if let Some(words) = &mut about.allowed_caps {
        // One that is not known here allows nothing.
        words.retain(|word| Capability::parse(word).is_some());
        words.truncate(Capability::ALL.len());
    }
    // Only what this broker makes something of.
    about.capabilities.retain(|capability| capability == SCOPE_KEYS);
    about.capabilities.truncate(1);
    about.role = about.role.take().map(|role| neutralise_line(&role).chars().take(MAX_ROLE).collect());
    // A name that could pass for something else is made harmless rather than refused: the reference's clients send any.
    let name = about.display_name.take().map(|name| neutralise_line(name.trim()).chars().take(64).collect::<String>());
    let name = name.filter(|name| is_display_name(name)).unwrap_or_else(|| member.display_name.clone());
    Ok(Admitted { mesh, kind, member, name, about })
}
