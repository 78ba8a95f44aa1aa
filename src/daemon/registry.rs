//! Sessions on disk: which were registered, so that a restart of the daemon brings back those that still run. Tokens are
//! kept as hashes, keys in their own 0600 files.

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::base::hex;
use crate::base::ids::{MeshId, PublicKey, SessionId, Slug, Token};
use crate::base::names::is_uuid;
use crate::base::time::Millis;
use crate::base::{atomic_file, paths::Paths};
use crate::crypto::fingerprint::sha256;
use crate::crypto::keys::{KeyPair, SecretKey};
use crate::store::session_keys;
use crate::sys::process::{self, StartTime};
use crate::wire::json;

use super::ctx::Ctx;
use super::outward::{Outward, parse_group};
use super::sessions::{Serial, Session, TokenHash};

/// How much later than its registration the process of a session may seem to have begun: more than a clock jumps that is set
/// right after boot, less than process numbers take to come round again.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// `sessions.json`, as it is written.
#[derive(Debug, Serialize)]
struct Written {
    version: u32,
    sessions: Vec<Row>,
}

/// `sessions.json`, as it is read: a row that makes no sense does not take the others with it.
#[derive(Debug, Deserialize)]
struct File {
    sessions: Vec<json::Value>,
}

/// One session. The reference's rows carry `token` in clear, and `startTime` as a text that depends on the locale.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(default, skip_serializing)]
    token: Option<String>,
    #[serde(default)]
    token_hash: Option<String>,
    #[serde(default)]
    token_prefix: Option<String>,
    session_id: SessionId,
    mesh: Slug,
    /// The mesh itself, whatever it is called when this is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mesh_id: Option<MeshId>,
    display_name: String,
    pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    caps: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(default)]
    shows: Outward,
    #[serde(default)]
    registered_at: Millis,
    /// Our notation of when the process began: a number in the platform's own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<u64>,
    /// In which life of the machine: numbers and times of processes begin anew with each. Rows of before have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_key: bool,
    /// It is over, whether or not its process runs on, and has left something to be sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

/// A session of the last daemon.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) session: Session,
    /// The id of its mesh, where it was written.
    pub(super) mesh: Option<MeshId>,
    /// Its process still runs, and it had not ended before.
    pub(super) lives: bool,
}

/// Writes the table, with those that have ended and left something to be sent. A failure is logged: sessions work on, and only a restart would miss them.
pub(super) fn save(ctx: &Ctx) {
    let (here, departed) = (ctx.sessions.all(), ctx.sessions.departed());
    let here = here.iter().map(|session| row(ctx, session, false));
    let rows = here.chain(departed.iter().map(|session| row(ctx, session, true))).collect();
    let text = json::encode(&Written { version: 1, sessions: rows });
    if let Err(err) = atomic_file::write(&ctx.paths.sessions_file(), text.as_bytes()) {
        log::error!("sessions.json could not be written: {err}");
    }
}

fn row(ctx: &Ctx, session: &Session, ended: bool) -> Row {
    Row {
        token: None,
        token_hash: Some(hex::encode(&session.token.0)),
        token_prefix: Some(session.token_prefix.clone()),
        session_id: session.id.clone(),
        mesh: session.mesh.clone(),
        mesh_id: ctx.meshes.get(&session.mesh).map(|membership| membership.mesh.clone()),
        display_name: session.name.clone(),
        pid: session.pid,
        cwd: session.cwd.clone(),
        role: session.role.clone(),
        caps: session.caps.clone(),
        groups: session.group_texts(),
        shows: session.outward(),
        registered_at: session.registered_at,
        started: session.started.map(StartTime::ticks),
        boot: process::boot_id().map(str::to_owned),
        has_key: session.key.is_some(),
        ended,
    }
}

/// The sessions of the last daemon. One whose key is lost is left out: under another key it would be somebody else.
pub(super) fn load(paths: &Paths) -> Vec<Kept> {
    let Ok(bytes) = fs::read(paths.sessions_file()) else { return Vec::new() };
    let file: File = match json::decode(&bytes) {
        Ok(file) => file,
        Err(err) => {
            let (path, aside) = (paths.sessions_file(), paths.sessions_file().with_extension("json.corrupt"));
            // It is written anew in a moment.
            let kept = fs::rename(&path, &aside);
            let where_it_is =
                kept.map_or_else(|err| format!("can not be put aside: {err}"), |()| format!("is {} now", aside.display()));
            log::error!("{} could not be read ({err}) and {where_it_is}; sessions must register again", path.display());
            return Vec::new();
        }
    };
    let rows = file.sessions.into_iter().map(json::from_value::<Row>);
    let readable = rows.filter_map(|row| row.inspect_err(|err| log::warn!("sessions.json: a row is left out: {err}")).ok());
    readable
        .filter_map(|mut row| {
            let mesh = row.mesh_id.take();
            let (session, lives) = revive(paths, row)?;
            Some(Kept { session, mesh, lives })
        })
        .collect()
}

/// Whether the process of this number began after the session was registered: then it is another one. A row that does not say
/// when that was has the benefit of the doubt.
fn began_after(pid: u32, registered_at: Millis) -> bool {
    let Some(registered) = u64::try_from(registered_at).ok().filter(|at| *at != 0) else { return false };
    let latest = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(registered) + CLOCK_STEP);
    process::began(pid).is_some_and(|began| latest.is_some_and(|latest| latest < began))
}

/// The session, and whether it is there still.
fn revive(paths: &Paths, row: Row) -> Option<(Session, bool)> {
    let now_started = StartTime::of(row.pid);
    let another_boot = row.boot.as_deref().zip(process::boot_id()).is_some_and(|(then, now)| then != now);
    let has_process = match (row.started, now_started) {
        (Some(then), Some(now)) => then == now.ticks(),
        _ => process::alive(row.pid) && !began_after(row.pid, row.registered_at),
    };
    let lives = has_process && !another_boot && !row.ended;
    let written_by_reference = row.token_hash.is_none();
    let (token, prefix) = match (row.token_hash, row.token) {
        (Some(hash), _) => (TokenHash(hex::decode(&hash)?), row.token_prefix.unwrap_or_default()),
        (None, Some(plain)) => Token::parse(&plain).map(|token| (TokenHash::of(&token), token.prefix()))?,
        (None, None) => return None,
    };
    let mut key = load_key(paths, &row.mesh, &row.session_id);
    if key.is_none() && !lives {
        return None;
    }
    if key.is_none() && written_by_reference {
        // It keeps only the keys of sessions whose id is a UUID, and gives the others new ones.
        key = Some(KeyPair::generate());
    }
    if row.has_key && key.is_none() {
        log::warn!("session {} is not brought back: its key file is gone", row.session_id);
        return None;
    }
    let groups = row.groups.iter().filter_map(|text| parse_group(text)).collect();
    let session = Session {
        serial: Serial::default(),
        token,
        token_prefix: prefix,
        id: row.session_id,
        mesh: row.mesh,
        name: row.display_name,
        pid: row.pid,
        started: now_started,
        cwd: row.cwd,
        role: row.role,
        caps: row.caps,
        outward: Mutex::new(Outward { groups, ..row.shows }),
        key,
        registered_at: row.registered_at,
    };
    if let Err(err) = keep_key(paths, &session) {
        log::error!("the key of session {} can not be kept: {err}", session.id);
    }
    Some((session, lives))
}

/// The name of a session's key file. An id that is no UUID is represented by one made from its hash.
fn file_id(id: &SessionId) -> SessionId {
    if is_uuid(id.as_str()) {
        return id.clone();
    }
    let hash = hex::encode(&sha256(id.as_str().as_bytes()));
    SessionId::new(format!("{}-{}-{}-{}-{}", &hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..32]))
}

fn load_key(paths: &Paths, mesh: &Slug, id: &SessionId) -> Option<KeyPair> {
    let file = session_keys::load(paths, mesh, &file_id(id))?;
    let secret = SecretKey::parse_hex(&file.secret_key)?;
    (PublicKey::parse(&file.public_key) == Some(secret.public())).then(|| KeyPair::from(secret))
}

/// Keeps a session's key, unless the same one is kept already.
pub(super) fn keep_key(paths: &Paths, session: &Session) -> std::io::Result<()> {
    let Some(key) = &session.key else { return Ok(()) };
    if load_key(paths, &session.mesh, &session.id).is_some_and(|kept| kept.public == key.public) {
        return Ok(());
    }
    let id = file_id(&session.id);
    let file = session_keys::file_of(&session.mesh, &id, key, &session.name);
    session_keys::save(paths, &session.mesh, &id, &file).map(drop)
}

/// Removes a launched session's token file, unless `successor` uses the same one. One that was resumed may have put its token
/// there already, and not have registered with it yet.
pub(super) fn remove_token_file(ctx: &Ctx, session: &Session, successor: Option<&Session>) {
    if is_uuid(session.id.as_str()) && successor.is_none_or(|new| new.id != session.id) {
        let file = ctx.paths.session_token(session.id.as_str());
        // There is one only for sessions that `launch` started.
        let kept = fs::read_to_string(&file).ok().and_then(|text| Token::parse(text.trim()));
        if kept.is_some_and(|token| TokenHash::of(&token) == session.token) {
            let _ = fs::remove_file(file);
        }
    }
}
