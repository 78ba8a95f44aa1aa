//! A home as the reference's daemon leaves it: its files, its tables in each shape they have had, and its own statements on
//! them. Everything here is written from the description of its formats and uses nothing of ours but SHA-256 and the box.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use claudemesh::base::ids::PublicKey;
use claudemesh::base::time::{iso, now_millis};
use claudemesh::crypto::fingerprint::sha256;
use claudemesh::crypto::keys::{KeyPair, SecretKey};
use claudemesh::crypto::{random, sealed};
use rusqlite::{Connection, params};
use serde_json::{Value, json};

/// The columns that `outbox.db` had at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OutboxShape {
    Base,
    Routed,
    Attributed,
}

impl OutboxShape {
    pub(crate) const ALL: [OutboxShape; 3] = [OutboxShape::Base, OutboxShape::Routed, OutboxShape::Attributed];

    fn added(self) -> &'static [&'static str] {
        const ADDED: [&str; 6] = ["mesh", "target_spec", "nonce", "ciphertext", "priority", "sender_session_pubkey"];
        match self {
            OutboxShape::Base => &[],
            OutboxShape::Routed => &ADDED[..5],
            OutboxShape::Attributed => &ADDED,
        }
    }
}

/// The columns that `inbox.db` had at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InboxShape {
    Base,
    Seen,
    Recipients,
}

impl InboxShape {
    pub(crate) const ALL: [InboxShape; 3] = [InboxShape::Base, InboxShape::Seen, InboxShape::Recipients];
}

fn open(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;",
    )
    .unwrap();
    conn
}

pub(crate) fn outbox(path: &Path, shape: OutboxShape) -> Connection {
    let conn = open(path);
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS outbox (
           id TEXT PRIMARY KEY,
           client_message_id TEXT NOT NULL UNIQUE,
           request_fingerprint BLOB NOT NULL,
           payload BLOB NOT NULL,
           enqueued_at INTEGER NOT NULL,
           attempts INTEGER NOT NULL DEFAULT 0,
           next_attempt_at INTEGER NOT NULL,
           status TEXT NOT NULL CHECK (status IN ('pending', 'inflight', 'done', 'dead', 'aborted')),
           last_error TEXT,
           delivered_at INTEGER,
           broker_message_id TEXT,
           aborted_at INTEGER,
           aborted_by TEXT,
           superseded_by TEXT);
         CREATE INDEX IF NOT EXISTS outbox_pending ON outbox (status, next_attempt_at);
         CREATE INDEX IF NOT EXISTS outbox_aborted ON outbox (status, aborted_at) WHERE status = 'aborted';",
    )
    .unwrap();
    for column in shape.added() {
        conn.execute_batch(&format!("ALTER TABLE outbox ADD COLUMN {column} TEXT")).unwrap();
    }
    conn
}

pub(crate) fn inbox(path: &Path, shape: InboxShape) -> Connection {
    let conn = open(path);
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS inbox (
           id TEXT PRIMARY KEY,
           client_message_id TEXT NOT NULL UNIQUE,
           broker_message_id TEXT,
           mesh TEXT NOT NULL,
           topic TEXT,
           sender_pubkey TEXT NOT NULL,
           sender_name TEXT NOT NULL,
           body TEXT,
           meta TEXT,
           received_at INTEGER NOT NULL,
           reply_to_id TEXT);
         CREATE INDEX IF NOT EXISTS inbox_received_at ON inbox (received_at);
         CREATE INDEX IF NOT EXISTS inbox_topic ON inbox (topic);
         CREATE INDEX IF NOT EXISTS inbox_sender ON inbox (sender_pubkey);",
    )
    .unwrap();
    if InboxShape::Seen <= shape {
        let seen = "ALTER TABLE inbox ADD COLUMN seen_at INTEGER; CREATE INDEX inbox_seen_at ON inbox (seen_at);";
        conn.execute_batch(seen).unwrap();
    }
    if InboxShape::Recipients <= shape {
        let recipients = "ALTER TABLE inbox ADD COLUMN recipient_pubkey TEXT; ALTER TABLE inbox ADD COLUMN recipient_kind TEXT;
            CREATE INDEX inbox_recipient ON inbox (recipient_pubkey);";
        conn.execute_batch(recipients).unwrap();
    }
    conn
}

/// Where a row of the outbox goes.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    mesh: String,
    target: String,
    nonce: String,
    ciphertext: String,
    session: Option<String>,
}

/// A row of the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    pub(crate) client_id: String,
    pub(crate) status: &'static str,
    message: String,
    fingerprint: Vec<u8>,
    route: Option<Route>,
    enqueued_at: i64,
    attempts: u32,
}

impl Out {
    /// A row without a route, as its first tables had them.
    pub(crate) fn plain(client_id: &str, status: &'static str, to: &str, message: &str) -> Out {
        let fingerprint = fingerprint(to, message).to_vec();
        let (client_id, message) = (client_id.to_owned(), message.to_owned());
        Out { client_id, status, message, fingerprint, route: None, enqueued_at: now_millis() - 60_000, attempts: 2 }
    }

    /// A direct message by a member or, with `session`, by a session, whose `secret` seals it.
    pub(crate) fn sealed(
        client_id: &str,
        status: &'static str,
        to: &PublicKey,
        message: &str,
        secret: &SecretKey,
        session: bool,
    ) -> Out {
        let sealed = sealed::seal(message.as_bytes(), to, secret).unwrap();
        let route = Route {
            mesh: "acme".to_owned(),
            target: to.to_hex(),
            nonce: sealed.nonce_b64,
            ciphertext: sealed.ciphertext_b64,
            session: session.then(|| secret.public().to_hex()),
        };
        Out { route: Some(route), ..Out::plain(client_id, status, &to.to_hex(), message) }
    }

    /// The id of its row.
    pub(crate) fn row_id(&self) -> String {
        format!("row-{}", self.client_id)
    }

    pub(crate) fn accepted_at(self, enqueued_at: i64) -> Out {
        Out { enqueued_at, ..self }
    }

    pub(crate) fn with_fingerprint(self, hex: &str) -> Out {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        Out { fingerprint: (0..hex.len()).step_by(2).map(byte).collect(), ..self }
    }

    /// Writes the row as the reference would have by the time it is in this status.
    pub(crate) fn insert(&self, conn: &Connection) {
        let only = |status: &str, value: i64| (self.status == status).then_some(value);
        let text = |status: &str, value: &'static str| (self.status == status).then_some(value);
        let later = if self.status == "inflight" { 30_000 } else { 0 };
        conn.execute(
            "INSERT INTO outbox (id, client_message_id, request_fingerprint, payload, enqueued_at, attempts, next_attempt_at, status,
               last_error, delivered_at, broker_message_id, aborted_at, aborted_by, superseded_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            params![
                self.row_id(),
                self.client_id,
                self.fingerprint,
                self.message.as_bytes(),
                self.enqueued_at,
                self.attempts,
                self.enqueued_at + later,
                self.status,
                text("dead", "max_attempts: ack_timeout"),
                only("done", self.enqueued_at + 500),
                text("done", "broker-1"),
                only("aborted", self.enqueued_at + 900),
                text("aborted", "operator"),
                text("aborted", "row-successor"),
            ],
        )
        .unwrap();
        if let Some(route) = &self.route {
            let set = "UPDATE outbox SET mesh = ?2, target_spec = ?3, nonce = ?4, ciphertext = ?5 WHERE id = ?1";
            conn.execute(set, params![self.row_id(), route.mesh, route.target, route.nonce, route.ciphertext]).unwrap();
            if let Some(session) = &route.session {
                let set = "UPDATE outbox SET sender_session_pubkey = ?2 WHERE id = ?1";
                conn.execute(set, params![self.row_id(), session]).unwrap();
            }
        }
    }
}

/// The request fingerprint of a message without reply or meta, of priority `next`.
fn fingerprint(to: &str, message: &str) -> [u8; 32] {
    let (kind, reference) = match to {
        "*" => ("topic", "*"),
        _ => to.strip_prefix('@').map_or(("dm", to), |name| ("topic", name)),
    };
    let mut bytes = format!("1\0{kind}\0{reference}\0\0next\0\0").into_bytes();
    bytes.extend(sha256(message.as_bytes()));
    sha256(&bytes)
}

/// A row of the inbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct In<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) mesh: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) body: Option<&'a str>,
    pub(crate) topic: Option<&'a str>,
    pub(crate) received_at: i64,
    pub(crate) seen_at: Option<i64>,
    /// Key and kind.
    pub(crate) recipient: Option<(&'a str, &'a str)>,
}

impl In<'_> {
    pub(crate) fn insert(&self, conn: &Connection, shape: InboxShape) {
        conn.execute(
            "INSERT INTO inbox (id, client_message_id, broker_message_id, mesh, topic, sender_pubkey, sender_name, body, meta,
               received_at, reply_to_id)
             VALUES ('in-' || ?1, ?1, 'broker-' || ?1, ?2, ?3, ?4, 'carol', ?5, ?6, ?7, 'parent')",
            params![
                self.client_id,
                self.mesh,
                self.topic,
                self.sender,
                self.body,
                json!({"created_at": iso(self.received_at)}).to_string(),
                self.received_at
            ],
        )
        .unwrap();
        if InboxShape::Seen <= shape {
            let set = "UPDATE inbox SET seen_at = ?2 WHERE client_message_id = ?1";
            conn.execute(set, params![self.client_id, self.seen_at]).unwrap();
        }
        if let Some((key, kind)) = self.recipient.filter(|_| InboxShape::Recipients <= shape) {
            let set = "UPDATE inbox SET recipient_pubkey = ?2, recipient_kind = ?3 WHERE client_message_id = ?1";
            conn.execute(set, params![self.client_id, key, kind]).unwrap();
        }
    }
}

/// Copies a file, and lets everybody read the copy.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, Permissions::from_mode(0o644)).unwrap();
}

/// Writes a file that everybody may read.
pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

/// The daemon's directory with the small files of a daemon that was killed, each as open as a careless umask leaves it.
pub(crate) fn daemon_dir(home: &Path) {
    let dir = home.join("daemon");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    write(&dir.join("local-token"), "Zm9ydHktdGhyZWUgY2hhcmFjdGVycyBvZiBiYXNlNjQ\n");
    write(&dir.join("daemon.log"), "{\"msg\":\"daemon_started\",\"version\":\"1.34.13\"}\n");
    // More than any system numbers its processes.
    write(&dir.join("daemon.pid"), "99999999");
    drop(UnixListener::bind(dir.join("daemon.sock")).unwrap());
}

/// This machine's id, as both daemons build it.
pub(crate) fn host_id() -> String {
    let read = |path: &str| fs::read_to_string(path).ok().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(read);
    id.filter(|_| cfg!(target_os = "linux")).map(|id| format!("linux:{id}")).unwrap_or_default()
}

/// A network address, as the reference found one.
const MAC: &str = "00:e0:4c:68:00:c0";

/// The hash of a host in one of the two forms.
pub(crate) fn host_hash(schema: u32, host_id: &str, mac: &str) -> String {
    let prefix = if schema == 1 { "" } else { "v2\0" };
    hex(&sha256(format!("{prefix}{host_id}\0{mac}").as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn host_fingerprint(home: &Path, schema: u32, host_id: &str) {
    let text = format!(
        "{{\n  \"schema_version\": {schema},\n  \"fingerprint\": \"{}\",\n  \"host_id\": \"{host_id}\",\n  \"stable_mac\": \"{MAC}\",\n  \
         \"written_at\": \"2026-02-03T04:05:06.789Z\"\n}}",
        host_hash(schema, host_id, MAC)
    );
    write(&home.join("daemon/host_fingerprint.json"), &text);
}

/// Whether the reference's daemon would start on the record that is there now. `version` 1 knows only the first form.
pub(crate) fn reference_accepts_host(home: &Path, version: u32) -> bool {
    let Ok(text) = fs::read_to_string(home.join("daemon/host_fingerprint.json")) else { return true };
    let stored: Value = serde_json::from_str(&text).unwrap();
    let host_id = host_id();
    match (version, stored["schema_version"].as_u64()) {
        (1, _) => stored["fingerprint"] == host_hash(1, &host_id, MAC).as_str(),
        (_, Some(2)) => {
            let same_id = !host_id.is_empty() && stored["host_id"] == host_id.as_str();
            same_id || stored["fingerprint"] == host_hash(2, &host_id, MAC).as_str()
        }
        (_, Some(1)) => stored["fingerprint"] == host_hash(1, &host_id, MAC).as_str(),
        _ => true,
    }
}

/// A session in `sessions.json`, with the key that may stand in its file.
#[derive(Debug)]
pub(crate) struct SessionRow {
    pub(crate) name: &'static str,
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) keys: KeyPair,
    pub(crate) pid: u32,
    pub(crate) registered_at: i64,
}

impl SessionRow {
    pub(crate) fn new(name: &'static str, pid: u32) -> SessionRow {
        let (id, token, keys) = (random::uuid_v4(), random::token().reveal(), KeyPair::generate());
        SessionRow { name, id, token, keys, pid, registered_at: now_millis() }
    }

    pub(crate) fn key(&self) -> String {
        self.keys.public.to_hex()
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "token": self.token, "sessionId": self.id, "mesh": "acme", "displayName": self.name, "pid": self.pid, "cwd": "/work",
            "role": "dev", "groups": ["@eng:lead"], "registeredAt": self.registered_at, "startTime": "Mon Feb  2 03:04:05 2026",
        })
    }

    /// Writes `sessions/acme/<id>.json`.
    pub(crate) fn keep_key(&self, home: &Path) {
        let dir = home.join("sessions/acme");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(home.join("sessions"), Permissions::from_mode(0o755)).unwrap();
        let file = json!({
            "version": 1, "meshSlug": "acme", "sessionId": self.id, "publicKey": self.key(),
            "secretKey": self.keys.secret.to_secret_text().reveal(), "createdAt": "2026-02-03T04:05:06.789Z",
        });
        write(&dir.join(format!("{}.json", self.id)), &file.to_string());
    }
}
