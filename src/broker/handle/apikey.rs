//! Keys for scripts: `apikey_create`, `apikey_list`, `apikey_revoke`. The secret is in one answer and in nothing else.

use crate::base::names::{is_display_name, is_group_name};
use crate::base::time::{Millis, iso, now_millis, parse_iso};
use crate::broker::Shared;
use crate::broker::conn::{Seat, error};
use crate::crypto::api_key::ApiSecret;
use crate::crypto::random;
use crate::net::ws::Outbox;
use crate::store::hub::{ApiKeyRow, KeyRevoked, Role};
use crate::wire::apikey::{
    ApiKey, ApiKeyCreated, ApiKeyList, ApiKeyRevoked, CreateApiKey, KeyCapability, ListApiKeys, RevokeApiKey, RevokeStatus,
};
use crate::wire::code::Code;
use crate::wire::server::ServerFrame;

use super::found;

/// Topics that one key can be for.
const MAX_SCOPES: usize = 16;

/// Characters of an id or a secret that may stand for all of it.
const MIN_PREFIX: usize = 4;

/// Longest id that is looked for, in bytes.
const MAX_ID: usize = 64;

/// What a key is to be, or what is wrong with it.
fn check(seat: &Seat, ask: &CreateApiKey, now: Millis) -> Result<ApiKeyRow, (Code, &'static str)> {
    let wrong = |what| Err((Code::InvalidArgs, what));
    if !is_display_name(&ask.label) {
        return wrong("label has 1 to 64 characters, none of them a control character");
    }
    let mut capabilities = ask.capabilities.clone();
    capabilities.sort_unstable();
    capabilities.dedup();
    if capabilities.is_empty() {
        return wrong("capabilities has at least one of send, read, state_write, admin");
    }
    if capabilities.contains(&KeyCapability::Admin) && seat.member.role != Role::Admin {
        return Err((Code::Forbidden, "only an admin of the mesh makes a key with the capability admin"));
    }
    let topic = |name: &String| name.strip_prefix('#').unwrap_or(name).to_owned();
    let topic_scopes = ask.topic_scopes.as_ref().map(|names| names.iter().map(topic).collect::<Vec<_>>());
    if topic_scopes
        .as_ref()
        .is_some_and(|all| !(1..=MAX_SCOPES).contains(&all.len()) || !all.iter().all(|name| is_group_name(name)))
    {
        return wrong("topicScopes has 1 to 16 names of topics; left out, the key is for all");
    }
    let expires_at = ask.expires_at.as_deref().map(parse_iso);
    match expires_at {
        Some(None) => return wrong("expiresAt is a time of ISO 8601"),
        Some(Some(at)) if at <= now => return wrong("expiresAt is over already"),
        _ => {}
    }
    Ok(ApiKeyRow {
        id: random::id32(),
        mesh: seat.mesh.clone(),
        member: seat.member.id.clone(),
        label: ask.label.clone(),
        prefix: String::new(),
        capabilities,
        topic_scopes,
        created_at: now,
        last_used_at: None,
        revoked_at: None,
        expires_at: expires_at.flatten(),
    })
}

pub(in crate::broker) fn create(shared: &Shared, seat: &Seat, ask: CreateApiKey, out: &mut Outbox) {
    let secret = ApiSecret::generate();
    let row = match check(seat, &ask, now_millis()) {
        Ok(row) => ApiKeyRow { prefix: secret.prefix(), ..row },
        // The reference's clients look for the request's id in `id`.
        Err((code, text)) => return error(out, code, text, ask.req_id.clone(), ask.req_id),
    };
    for name in row.topic_scopes.iter().flatten() {
        let topic = shared.hub.topic(seat.mesh.clone(), name.clone(), seat.member.id.clone());
        match found(shared, topic, ask.req_id.as_ref(), out) {
            None => return,
            Some(None) => {
                let text = format!("there is no topic \"{name}\": make it first, or leave it out for a key to all topics");
                return error(out, Code::TopicNotFound, &text, ask.req_id.clone(), ask.req_id);
            }
            Some(Some(_)) => {}
        }
    }
    match found(shared, shared.hub.add_api_key(row.clone(), secret.hash()), ask.req_id.as_ref(), out) {
        None => {}
        Some(false) => error(out, Code::Capacity, "100 of your keys are in force: revoke some", None, ask.req_id),
        Some(true) => {
            let created = ApiKeyCreated {
                id: row.id,
                secret: secret.into_text(),
                label: row.label,
                prefix: row.prefix,
                capabilities: row.capabilities,
                topic_scopes: row.topic_scopes,
                created_at: iso(row.created_at),
                expires_at: row.expires_at.map(iso),
                req_id: ask.req_id,
            };
            out.text(ServerFrame::ApikeyCreated(created).encode());
        }
    }
}

pub(in crate::broker) fn list(shared: &Shared, seat: &Seat, ask: ListApiKeys, out: &mut Outbox) {
    let own = (seat.member.role != Role::Admin).then(|| seat.member.id.clone());
    let rows = shared.hub.api_keys(seat.mesh.clone(), own);
    let Some(rows) = found(shared, rows, ask.req_id.as_ref(), out) else { return };
    let Some(members) = found(shared, shared.hub.members(seat.mesh.clone()), ask.req_id.as_ref(), out) else { return };
    let key = |row: ApiKeyRow| ApiKey {
        issued_by: members.iter().find(|member| member.id == row.member).map(|member| member.display_name.clone()),
        id: row.id,
        label: row.label,
        prefix: row.prefix,
        capabilities: row.capabilities,
        topic_scopes: row.topic_scopes,
        created_at: iso(row.created_at),
        last_used_at: row.last_used_at.map(iso),
        revoked_at: row.revoked_at.map(iso),
        expires_at: row.expires_at.map(iso),
    };
    let keys = rows.into_iter().map(key).collect();
    out.text(ServerFrame::ApikeyListResponse(ApiKeyList { keys, req_id: ask.req_id }).encode());
}

pub(in crate::broker) fn revoke(shared: &Shared, seat: &Seat, ask: RevokeApiKey, out: &mut Outbox) {
    let id = ask.id.trim();
    if !(MIN_PREFIX..=MAX_ID).contains(&id.len()) {
        let text = "id is a key's id, or 4 or more characters that it or the secret begins with";
        return error(out, Code::InvalidArgs, text, ask.req_id.clone(), ask.req_id);
    }
    let revoked = shared.hub.revoke_api_key(seat.mesh.clone(), id.to_owned(), seat.author(), now_millis());
    let Some(revoked) = found(shared, revoked, ask.req_id.as_ref(), out) else { return };
    let (status, id, matches) = match revoked {
        KeyRevoked::Done(id) => (RevokeStatus::Revoked, Some(id), None),
        KeyRevoked::NotFound => (RevokeStatus::NotFound, None, None),
        KeyRevoked::Ambiguous(count) => (RevokeStatus::NotUnique, None, Some(count)),
    };
    out.text(ServerFrame::ApikeyRevokeResponse(ApiKeyRevoked { status, id, matches, req_id: ask.req_id }).encode());
}
