//! Sessions: `POST /v1/sessions/register`, `DELETE /v1/sessions/<token>`, `GET /v1/sessions/me`, `GET /v1/sessions`. No
//! answer holds a secret.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::base::ids::{PublicKey, SessionId, SessionKey, Slug, Token};
use crate::base::names::{is_slug_any_case, neutralise_line, to_display_name};
use crate::base::time::now_millis;
use crate::crypto::keys::{KeyPair, SecretKey};
use crate::daemon::outward::{Outward, parse_group};
use crate::daemon::registry;
use crate::daemon::sessions::{Serial, Session, TokenHash};
use crate::daemon::supervisor::Event;
use crate::store::outbox::{Route, Sender};
use crate::sys::process::{self, StartTime};
use crate::wire::grant::Capability;
use crate::wire::ipc::{Deregistered, Me, Presence, PresenceView, Register, Registered, SessionView, Sessions};
use crate::wire::json;

use super::reply::Reply;
use super::routes::Call;

/// How long a registration waits for the supervisor, from first to last.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest session id, working directory and role that are kept, in characters.
const MAX_TEXT: usize = 1024;

/// What a session is called whose name has nothing in it that can be seen.
const UNNAMED: &str = "session";

pub(super) fn register(call: &Call<'_>) -> Reply {
    let (session, has_hooks) = match read(call.body) {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    if let Err(err) = registry::keep_key(&call.ctx.paths, &session) {
        return Reply::error(503, "store_unavailable").detail(&format!("the session's key can not be kept: {err}")).into();
    }
    if has_hooks {
        call.ctx.turns.expect(&session.id, Instant::now());
    }
    let answer = Registered { ok: true, registered_at: session.registered_at, presence_accepted: session.key.is_some() };
    log::info!("session {} ({}) registers on {}, pid {}", session.id, session.name, session.mesh, session.pid);
    let (done, settled) = bounded(1);
    let deadline = Instant::now() + PATIENCE;
    let told = call.ctx.supervisor.send_deadline(Event::Register { session: Box::new(session), done }, deadline).is_ok();
    if !told || settled.recv_deadline(deadline).is_err() {
        return Reply::error(503, "stopping").detail("the daemon is stopping, or too busy to take a session").into();
    }
    Reply::ok(&answer)
}

/// The session, and whether its client has hooks.
fn read(body: &[u8]) -> Result<(Session, bool), Reply> {
    if body.is_empty() {
        return Err(Reply::error(400, "missing body").into());
    }
    let request: Register = json::decode(body).map_err(|err| Reply::error(400, "invalid_json").detail(&err.to_string()))?;
    let bad = |error: &str| -> Reply { Reply::error(400, error).into() };
    let token = Token::parse(&request.token).ok_or_else(|| bad("token must be 64 hex chars"))?;
    let pid = u32::try_from(request.pid).ok().filter(|pid| *pid != 0);
    let Some(pid) =
        pid.filter(|_| ![&request.session_id, &request.mesh, &request.display_name].iter().any(|text| text.is_empty()))
    else {
        return Err(bad("session_id, mesh, display_name, pid all required"));
    };
    if !is_slug_any_case(&request.mesh) {
        return Err(bad("mesh must be a slug ([a-z0-9._-])"));
    }
    if !process::alive(pid) {
        return Err(bad("no process has this pid"));
    }
    let groups = request.groups.iter().filter_map(|group| group.as_str()).filter_map(parse_group).collect();
    let session = Session {
        serial: Serial::default(),
        token: TokenHash::of(&token),
        token_prefix: token.prefix(),
        id: SessionId::new(short_line(&request.session_id)),
        key: request.presence.and_then(|presence| key_pair(presence, &request.mesh)),
        mesh: Slug::new(request.mesh),
        name: to_display_name(&request.display_name, UNNAMED),
        pid,
        started: StartTime::of(pid),
        cwd: request.cwd.as_deref().map(short_line),
        role: request.role.as_deref().map(short_line),
        caps: request.caps.map(known_caps),
        outward: Mutex::new(Outward { groups, ..Outward::default() }),
        registered_at: now_millis(),
    };
    Ok((session, request.hooks))
}

/// The rights that there are, of those that were named.
fn known_caps(words: Vec<String>) -> Vec<String> {
    Capability::ALL.iter().map(|known| known.as_str().to_owned()).filter(|known| words.contains(known)).collect()
}

/// A text as it may be kept and shown. The reference takes any; refusing one would cost a session its mail.
fn short_line(text: &str) -> String {
    neutralise_line(text).chars().take(MAX_TEXT).collect()
}

/// The session's key pair. A malformed one is no error in the reference: the session is registered without an address.
fn key_pair(presence: json::Value, mesh: &str) -> Option<KeyPair> {
    let pair = json::from_value::<Presence>(presence).ok().and_then(|presence| {
        let secret = SecretKey::parse_hex(&presence.session_secret_key)?;
        (PublicKey::parse_any_case(&presence.session_pubkey) == Some(secret.public())).then(|| KeyPair::from(secret))
    });
    if pair.is_none() {
        log::warn!("a session on {mesh} was registered with a malformed presence");
    }
    pair
}

pub(super) fn deregister(call: &Call<'_>) -> Reply {
    let Some(token) = Token::parse(&call.item) else { return Reply::error(400, "invalid token").into() };
    let token_prefix = token.prefix();
    let token = TokenHash::of(&token);
    if call.ctx.sessions.get(&token).is_none() {
        return Reply::with(404, &Deregistered { ok: false, token_prefix });
    }
    let (done, settled) = bounded(1);
    // A supervisor that is stopping ends the session's link anyway.
    let deadline = Instant::now() + PATIENCE;
    if call.ctx.supervisor.send_deadline(Event::Deregister { token, done }, deadline).is_ok() {
        let _ = settled.recv_deadline(deadline);
    }
    Reply::ok(&Deregistered { ok: true, token_prefix })
}

pub(super) fn me(call: &Call<'_>) -> Reply {
    match call.caller.session() {
        None => Reply::error(401, "no session token").into(),
        Some(session) => Reply::ok(&Me { session: view(call, session) }),
    }
}

pub(super) fn list(call: &Call<'_>) -> Reply {
    let sessions = call.ctx.sessions.all();
    Reply::ok(&Sessions { sessions: sessions.iter().map(|session| view(call, session)).collect() })
}

fn view(call: &Call<'_>, session: &Arc<Session>) -> SessionView {
    let report = |key: SessionKey| call.ctx.links.of(&Route { mesh: session.mesh.clone(), sender: Sender::Session(key) });
    let report = session.public_key().and_then(report);
    SessionView {
        session_id: session.id.to_string(),
        mesh: session.mesh.clone(),
        display_name: session.name.clone(),
        pid: session.pid,
        cwd: session.cwd.clone(),
        role: session.role.clone(),
        caps: session.caps.clone(),
        groups: session.group_texts(),
        presence: session.public_key().map(|session_pubkey| PresenceView { session_pubkey }),
        registered_at: session.registered_at,
        link: report.as_ref().map(|report| report.status),
        last_error: report.and_then(|report| report.last_error),
        status: session.outward().status,
        delivery: Some(call.ctx.sightings.of(session)),
        token_prefix: session.token_prefix.clone(),
    }
}
