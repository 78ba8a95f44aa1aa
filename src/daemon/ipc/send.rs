//! `POST /v1/send`: from a request to a row on disk. The answer comes after the commit.

use std::sync::Arc;
use std::time::Instant;

use crate::base::ids::{ClientId, PublicKey, Slug};
use crate::base::time::now_millis;
use crate::crypto::fingerprint::{self, Request};
use crate::crypto::keys::SecretKey;
use crate::crypto::random;
use crate::crypto::sealed::{self, Sealed};
use crate::daemon::drain;
use crate::daemon::meshes::Membership;
use crate::daemon::resolve::{self, Resolved};
use crate::daemon::scoped::{self, UNSEALED};
use crate::daemon::supervisor;
use crate::daemon::upkeep;
use crate::store::RowId;
use crate::store::outbox::{self, Accepted, Existing, NewRow, Route, Sender, Status};
use crate::wire::address::Address;
use crate::wire::client::{ClientFrame, Send};
use crate::wire::code::Code;
use crate::wire::grant::Capability;
use crate::wire::ipc::{Recipient, SendReceipt, SendStatus};
use crate::wire::json::{self, Map, Value};
use crate::wire::key::{SEALED_BODY, Seal};
use crate::wire::limits::{MAX_FRAME, MAX_SEALED, REPLY_DEADLINE};
use crate::wire::priority::Priority;
use crate::wire::target::Target;

use super::keys;
use super::mesh;
use super::reply::{Refusal, Reply};
use super::routes::Call;
use super::topics;

/// Longest client message id, in bytes.
const MAX_CLIENT_ID: usize = 128;

/// Length of the ids that are made here.
const UUID: usize = 36;

/// What an envelope adds to the text: the box's 16 bytes, the nonce and the target beside it.
const ENVELOPE: usize = BOX + NONCE_TEXT + 64;

/// A box's authenticator, in bytes.
const BOX: usize = 16;

/// A nonce, in characters.
const NONCE_TEXT: usize = 32;

pub(super) fn post(call: &Call<'_>) -> Reply {
    accept(call).unwrap_or_else(|refused| refused)
}

/// A request whose fields have been checked.
struct Wanted {
    to: String,
    message: String,
    priority: Priority,
    reply_to: Option<String>,
    /// Canonical JSON.
    meta: Option<String>,
    mesh: Option<String>,
    /// What is for many goes out in clear.
    plaintext: bool,
    /// Named by the caller; else made here, and then it can not be there already.
    client_id: Option<ClientId>,
}

fn accept(call: &Call<'_>) -> Result<Reply, Reply> {
    let wanted = read(call)?;
    let fingerprint = fingerprint_of(&wanted);
    let addressed = match address(call, &wanted) {
        Ok(addressed) => addressed,
        // A retry must not depend on the recipient being there still: what is known under this id is answered first. Where
        // the recipient is there, the outbox itself looks, in the step in which it would add the row.
        Err(refused) => return known(call, &wanted, &fingerprint)?.ok_or(refused),
    };
    let Addressed { membership, resolved, sender, sealed } = addressed;
    let route = Route { mesh: membership.slug.clone(), sender };
    let client_id = wanted.client_id.clone().unwrap_or_else(|| ClientId::new(random::uuid_v7(now_millis())));
    let row = NewRow {
        id: RowId::new(random::uuid_v7(now_millis())),
        client_id: client_id.clone(),
        fingerprint,
        payload: wanted.message.into_bytes(),
        route: route.clone(),
        membership: outbox::Membership { mesh: membership.mesh.clone(), member: membership.key },
        target: resolved.target.to_string(),
        nonce: sealed.nonce_b64,
        ciphertext: sealed.ciphertext_b64,
        priority: wanted.priority,
        reply_to: wanted.reply_to,
        meta: wanted.meta,
        now: now_millis(),
    };
    match call.ctx.outbox.accept(row) {
        Err(err) => {
            call.ctx.store_failed(&err);
            Err(Reply::store(&err))
        }
        Ok(Accepted::Existing(existing)) => Ok(existing_reply(call, &client_id, &existing, &fingerprint, Some(&route))),
        Ok(Accepted::New) => {
            let mesh = upkeep::follow(call.ctx, &membership);
            call.ctx.drain.tell(drain::Event::Wake(Route { mesh, ..route }));
            if let (Sender::Session(key), Some(session)) = (sender, call.caller.session())
                && call.ctx.sessions.signer(&key).is_none()
            {
                // Whether it was accepted before or after that was looked at, it goes out.
                let left = supervisor::Event::Left(session.clone());
                let _ = call.ctx.supervisor.send_deadline(left, Instant::now() + REPLY_DEADLINE);
            }
            let status = Some(SendStatus::Queued);
            let recipient = Some(recipient(&membership.slug, &resolved));
            Ok(Reply::with(
                202,
                &SendReceipt { client_message_id: client_id, status, broker_message_id: None, duplicate: false, recipient },
            ))
        }
    }
}

/// A message whose recipient is known, sealed.
struct Addressed {
    membership: Arc<Membership>,
    resolved: Resolved,
    sender: Sender,
    sealed: Sealed,
}

fn address(call: &Call<'_>, wanted: &Wanted) -> Result<Addressed, Reply> {
    let address = Address::parse(&wanted.to).map_err(|err| Reply::error(400, "invalid 'to'").detail(&err.to_string()))?;
    // The mesh: named in the body, in the address, the session's, or the only one.
    let placed = mesh::place(call, wanted.mesh.as_deref().map(Slug::new), address)?;
    let membership = placed.membership.clone();
    let speaker = Speaker::of(call, &membership);
    let (rosters, links) = (&call.ctx.rosters, &call.ctx.links);
    let at_hand = || rosters.at_hand(&membership.slug, links);
    let resolved = match &placed.address {
        Address::TopicName(name) => topics::by_name(call, &membership.slug, name),
        address => resolve::resolve(address, speaker.key, at_hand, || rosters.of(&membership.slug, links)),
    };
    let resolved = resolved.map_err(|err| placed.unroutable(call, &err))?;
    permitted(call, &resolved.target)?;
    let sealed = seal(call, wanted, &membership, &resolved.target, speaker.secret)?;
    check_frame(wanted, &resolved.target, &sealed)?;
    let sender = speaker.sender;
    Ok(Addressed { membership, resolved, sender, sealed })
}

/// What its broker would refuse a session that has some rights only is refused here, while whoever sends still listens.
fn permitted(call: &Call<'_>, target: &Target) -> Result<(), Reply> {
    let need = if target.is_direct() { Capability::Dm } else { Capability::Broadcast };
    let caps = call.caller.session().and_then(|session| session.caps.as_ref());
    if caps.is_none_or(|caps| caps.iter().any(|cap| cap == need.as_str())) {
        return Ok(());
    }
    let detail = format!("this session was launched without the right to {}", need.as_str());
    Err(Reply::error(403, "forbidden").detail(&detail).into())
}

/// The reference's word for every failure to find the recipient is `route_failed`; `code` tells them apart.
pub(super) fn unroutable(call: &Call<'_>, mesh: &Slug, err: &resolve::Error) -> Reply {
    let text = match err {
        resolve::Error::RosterUnavailable(Code::ConnectionLost) => {
            let route = Route { mesh: mesh.clone(), sender: Sender::Member };
            let why = mesh::why(call, &route, &Code::ConnectionLost);
            format!("who is on the mesh can not be asked now ({why}); a full key can be sent to")
        }
        resolve::Error::TopicsUnavailable(code @ Code::ConnectionLost) => {
            format!("which topics there are can not be asked now ({})", mesh::why(call, &mesh::own_route(call, mesh), code))
        }
        err => err.to_string(),
    };
    let code = match err {
        resolve::Error::NotFound { .. } | resolve::Error::NoSession { .. } | resolve::Error::TopicByName(_) => "not_found",
        resolve::Error::Itself { .. } => "itself",
        resolve::Error::Ambiguous { .. } => "ambiguous",
        resolve::Error::RosterUnavailable(_) | resolve::Error::TopicsUnavailable(_) => "roster_unavailable",
    };
    let refused =
        Reply::error(502, "route_failed").detail(&format!("Error: {text}")).and("code", code).and("mesh", mesh.as_str());
    err.hint().map_or(refused.clone(), |hint| refused.hint(&hint)).into()
}

/// The answer to a message that was accepted before under the caller's own id.
fn known(call: &Call<'_>, wanted: &Wanted, fingerprint: &[u8; 32]) -> Result<Option<Reply>, Reply> {
    let Some(id) = &wanted.client_id else { return Ok(None) };
    let existing = call.ctx.outbox.find(id.clone()).map_err(|err| Reply::store(&err))?;
    Ok(existing.map(|existing| existing_reply(call, id, &existing, fingerprint, None)))
}

fn recipient(mesh: &Slug, resolved: &Resolved) -> Recipient {
    Recipient { mesh: mesh.clone(), target: resolved.target.to_string(), name: resolved.name.clone(), online: resolved.online }
}

fn read(call: &Call<'_>) -> Result<Wanted, Reply> {
    let bad = |error: &str| -> Reply { Reply::error(400, error).into() };
    let body: Value = if call.body.is_empty() {
        Value::Null
    } else {
        json::decode(call.body).map_err(|err| Reply::from(Reply::error(400, "invalid_json").detail(&err.to_string())))?
    };
    let fields = match body {
        Value::Object(fields) => fields,
        // The reference reads an array as an object without keys.
        Value::Array(_) => Map::new(),
        _ => return Err(bad("expected JSON object")),
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let to = text("to").map(str::trim).filter(|to| !to.is_empty()).ok_or_else(|| bad("missing 'to'"))?;
    let message = text("message").ok_or_else(|| bad("missing 'message'"))?;
    let priority = match fields.get("priority") {
        None => Priority::default(),
        Some(priority) => {
            priority.as_str().and_then(Priority::parse).ok_or_else(|| bad("priority must be 'now' | 'next' | 'low'"))?
        }
    };
    let meta = match fields.get("meta") {
        None | Some(Value::Null) => None,
        Some(meta @ Value::Object(_)) => Some(json::canonical(meta)),
        Some(_) => return Err(bad("'meta' must be an object")),
    };
    let named = text("client_message_id").or(call.idempotency_key).map(str::trim).filter(|id| !id.is_empty());
    if named.is_some_and(|id| !is_client_id(id)) {
        return Err(bad("client_message_id must be printable and at most 128 bytes"));
    }
    Ok(Wanted {
        to: to.to_owned(),
        message: message.to_owned(),
        priority,
        reply_to: text("reply_to_id").map(str::to_owned),
        meta,
        mesh: text("mesh").map(str::trim).filter(|mesh| !mesh.is_empty()).map(str::to_owned),
        plaintext: fields.get("plaintext") == Some(&Value::Bool(true)),
        client_id: named.map(ClientId::new),
    })
}

pub(super) fn is_client_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_CLIENT_ID && !text.contains(char::is_control)
}

fn fingerprint_of(wanted: &Wanted) -> [u8; 32] {
    let (kind, reference) = fingerprint::destination(&wanted.to);
    Request {
        kind,
        reference,
        reply_to: wanted.reply_to.as_deref(),
        priority: wanted.priority.as_str(),
        canonical_meta: wanted.meta.as_deref(),
        body: wanted.message.as_bytes(),
    }
    .fingerprint()
}

/// As whom the message leaves. A session speaks for itself on its own mesh, and for its member on any other.
pub(super) struct Speaker<'a> {
    sender: Sender,
    pub(super) key: Option<PublicKey>,
    pub(super) secret: &'a SecretKey,
}

impl<'a> Speaker<'a> {
    pub(super) fn of(call: &'a Call<'_>, membership: &'a Membership) -> Speaker<'a> {
        let session = call.caller.session().filter(|session| session.mesh == membership.slug);
        match session.and_then(|session| Some((session.public_key()?, session.key.as_ref()?))) {
            Some((key, pair)) => Speaker { sender: Sender::Session(key), key: Some(key.0), secret: &pair.secret },
            None => Speaker { sender: Sender::Member, key: None, secret: &membership.secret },
        }
    }
}

/// What is for many is sealed when it is sent: the key may be another by then.
fn seal(call: &Call<'_>, wanted: &Wanted, membership: &Membership, target: &Target, secret: &SecretKey) -> Result<Sealed, Reply> {
    let body = wanted.message.as_bytes();
    let weight = (body.len() + ENVELOPE).div_ceil(3) * 4;
    if MAX_SEALED < weight {
        let most = MAX_SEALED / 4 * 3 - ENVELOPE;
        return Err(too_large(body.len(), most).into());
    }
    match target {
        Target::Key(key) => {
            let channel = call.ctx.channels.between(secret, key);
            let channel = channel.map_err(|err| {
                Reply::from(Reply::error(400, "invalid 'to'").detail(&format!("this key can not be sealed to: {err}")))
            })?;
            Ok(channel.seal(body))
        }
        Target::Group(_) | Target::Topic(_) | Target::Everyone if wanted.plaintext => Ok(sealed::plain(body)),
        Target::Group(_) | Target::Topic(_) | Target::Everyone => {
            keys::check(call, membership, target)?;
            Ok(Sealed { nonce_b64: UNSEALED.to_owned(), ciphertext_b64: UNSEALED.to_owned() })
        }
    }
}

/// Refuses what the frame around the envelope would make too large: ids may be long, and grow when they are written as JSON.
fn check_frame(wanted: &Wanted, target: &Target, sealed: &Sealed) -> Result<(), Reply> {
    let id = wanted.client_id.as_ref().map_or_else(|| "0".repeat(UUID), ToString::to_string);
    let is_sealed_later = sealed.ciphertext_b64 == UNSEALED;
    let empty = ClientFrame::Send(Send {
        client_message_id: Some(ClientId::new(id.as_str())),
        id,
        request_fingerprint: Some("0".repeat(64)),
        target_spec: target.to_string(),
        priority: wanted.priority,
        nonce: String::new(),
        ciphertext: String::new(),
        reply_to_id: wanted.reply_to.clone(),
        mentions: if is_sealed_later { scoped::mentions(target, &wanted.message) } else { Vec::new() },
        body_version: is_sealed_later.then_some(SEALED_BODY),
        seal: is_sealed_later.then(|| Seal { epoch: u32::MAX, repeats: false, signature: "0".repeat(128) }),
    });
    // Base64 is written as it is.
    let later = NONCE_TEXT + (wanted.message.len() + BOX).div_ceil(3) * 4;
    let sealed = if is_sealed_later { later } else { sealed.nonce_b64.len() + sealed.ciphertext_b64.len() };
    let frame = empty.encode().len() + sealed;
    if frame <= MAX_FRAME {
        return Ok(());
    }
    let bytes = wanted.message.len();
    Err(too_large(bytes, bytes.saturating_sub((frame - MAX_FRAME).div_ceil(4) * 3)).into())
}

fn too_large(bytes: usize, most: usize) -> Refusal {
    Reply::error(413, "payload_too_large")
        .detail(&format!("the message has {bytes} bytes; a broker takes at most {most}"))
        .hint("send it in parts, or send where to find it")
}

/// Whether the caller sent it. The user is everybody here; a session is nobody but itself.
fn is_callers(call: &Call<'_>, existing: &Existing) -> bool {
    let sent_it = |mesh: &Slug| mesh::own_route(call, mesh).sender == existing.sender;
    call.caller.session().is_none() || existing.mesh.as_ref().is_some_and(sent_it)
}

/// The reference's table of what a known id answers. The same text under the same id is another message still when another
/// session sends it, or on another mesh; without a `route` the mesh is not known. Whoever did not send what is there is not
/// told what the broker calls it.
fn existing_reply(call: &Call<'_>, id: &ClientId, existing: &Existing, fingerprint: &[u8; 32], route: Option<&Route>) -> Reply {
    let is_callers = is_callers(call, existing);
    let same_route = match (route, &existing.mesh) {
        (Some(route), Some(mesh)) => route.mesh == *mesh && route.sender == existing.sender,
        _ => is_callers,
    };
    let same = same_route && fingerprint::equal(&existing.fingerprint, fingerprint);
    let receipt = |status, broker_message_id, duplicate| SendReceipt {
        client_message_id: id.clone(),
        status,
        broker_message_id,
        duplicate,
        recipient: None,
    };
    match (existing.status, same) {
        (Status::Pending, true) => Reply::with(202, &receipt(Some(SendStatus::Queued), None, false)),
        (Status::Inflight, true) => Reply::with(202, &receipt(Some(SendStatus::Inflight), None, false)),
        (Status::Done, true) => Reply::ok(&receipt(None, existing.broker_id.clone(), true)),
        (status, same) => {
            let conflict = format!("outbox_{}_fingerprint_{}", status.as_str(), if same { "match" } else { "mismatch" });
            let is_shown = is_callers && matches!((status, same), (Status::Done, _) | (Status::Dead, true));
            let broker_id = existing.broker_id.as_ref().filter(|_| is_shown);
            Reply::error(409, "idempotency_key_reused")
                .and("conflict", conflict)
                .and("daemon_fingerprint_prefix", crate::base::hex::encode(&fingerprint[..8]))
                .and("broker_message_id", broker_id.map_or(Value::Null, |id| Value::String(id.to_string())))
                .into()
        }
    }
}
