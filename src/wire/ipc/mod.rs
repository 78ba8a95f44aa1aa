//! Bodies of the daemon's local API (HTTP over `daemon.sock`). Paths, keys and statuses are the reference's; the routes
//! themselves are listed in `daemon::ipc::routes`.

mod delivery;
mod lenient;
mod mailboxes;
mod shared;
mod standing;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::ids::{ClientId, MessageId, SessionKey, Slug};

use super::peer::{Peer, Status};
use super::priority::Priority;

pub use self::delivery::*;
pub use self::mailboxes::*;
pub use self::shared::*;
pub use self::standing::*;

/// Header in which the daemon names its version, so that a client notices a skew.
pub const VERSION_HEADER: &str = "x-claudemesh-version";

/// Scheme of the `Authorization` header that carries a session's token.
pub const SESSION_SCHEME: &str = "ClaudeMesh-Session";

/// `GET /v1/version`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Version {
    pub daemon_version: String,
    pub ipc_api: String,
    pub ipc_features: Vec<String>,
    pub schema_version: u32,
}

/// State of one link to a broker, as `/v1/health` and `broker_status` spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkStatus {
    Connecting,
    Open,
    Closed,
    Reconnecting,
}

/// What keeps a link from being open, as far as it takes different things to put it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkFault {
    /// `brokerUrl` is no address.
    NoAddress,
    /// The host's name leads nowhere.
    UnknownHost,
    /// Nobody answers there.
    Unreachable,
    /// Whoever answers there is no broker.
    NoBroker,
    /// The two do not come to terms about TLS: a certificate, mostly.
    Tls,
    /// Shut out for a while.
    Kicked,
    /// Shut out until somebody takes it back.
    Banned,
    /// The mesh is no more.
    Deleted,
    /// The broker does not take the member for one of the mesh.
    Refused,
    /// There was a connection, and it ended.
    Ended,
    /// What a later version has a word for.
    #[serde(other)]
    Unknown,
}

/// `GET /v1/health`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    pub ok: bool,
    pub pid: u32,
    /// By slug, the member link's state; the reference has this and nothing more.
    pub brokers: BTreeMap<String, LinkStatus>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meshes: BTreeMap<String, MeshHealth>,
    #[serde(default)]
    pub outbox: OutboxCounts,
    #[serde(default)]
    pub guard: GuardReport,
    /// The flags of `up` with which it was started, for whoever restarts it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub started_with: Vec<String>,
    /// The listener on TCP, if one is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpHealth>,
}

/// What became of the wish to be reached over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpHealth {
    /// As it was asked for: 0 lets the system choose.
    pub port: u16,
    /// Where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why it does not. It is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether `/v1/health` answers there without the token.
    #[serde(default)]
    pub public_health: bool,
}

/// One mesh, for a person who asks what is wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MeshHealth {
    pub status: LinkStatus,
    pub broker_url: String,
    /// Sessions whose own link is open, of all that are registered on this mesh.
    pub sessions_open: usize,
    pub sessions: usize,
    /// Messages that wait to be sent on this mesh; counted up to 10,000.
    #[serde(default)]
    pub queued: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Of what kind that is, where the member's own link is not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<LinkFault>,
    /// The broker's clock minus ours, as of the last hello. The reference's broker tells no time unless it refuses one's own,
    /// which `last_error` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_ms: Option<i64>,
}

/// How many rows the outbox holds in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxCounts {
    pub pending: u64,
    pub inflight: u64,
    pub done: u64,
    pub dead: u64,
    pub aborted: u64,
}

/// `POST /v1/sessions/register`. The secret travels over the 0600 socket and is never sent back.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Register {
    /// 64 hex characters.
    #[serde(deserialize_with = "lenient::text_or_empty")]
    pub token: String,
    #[serde(deserialize_with = "lenient::text_or_empty")]
    pub session_id: String,
    #[serde(deserialize_with = "lenient::text_or_empty")]
    pub mesh: String,
    #[serde(deserialize_with = "lenient::text_or_empty")]
    pub display_name: String,
    #[serde(deserialize_with = "lenient::number")]
    pub pid: i64,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub cwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub role: Option<String>,
    /// `@name` or `@name:role`. Entries that are no strings are dropped.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::list")]
    pub groups: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<Value>,
    /// The only rights it is to have, by the names of what members allow each other; all of them where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<String>>,
    /// Its client was started with this program's hooks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hooks: bool,
}

impl std::fmt::Debug for Register {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Register({} on {}, pid {})", self.session_id, self.mesh, self.pid)
    }
}

/// `presence` of [`Register`]: the session's key pair, and the member's word for it (which the daemon can give itself).
#[derive(Clone, Serialize, Deserialize)]
pub struct Presence {
    pub session_pubkey: String,
    pub session_secret_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_attestation: Option<Value>,
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presence({:.8}…)", self.session_pubkey)
    }
}

/// Reply to [`Register`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registered {
    pub ok: bool,
    /// Milliseconds since the epoch.
    pub registered_at: i64,
    pub presence_accepted: bool,
}

/// A session as `GET /v1/sessions` and `/v1/sessions/me` show it: no secret in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    pub session_id: String,
    pub mesh: Slug,
    pub display_name: String,
    pub pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The only rights it was launched with; absent with all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceView>,
    pub registered_at: i64,
    /// State of the session's own link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkStatus>,
    /// What it does, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// By which ways its mail gets in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Why that link is not open, or was not when it last tried.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "last_error")]
    pub last_error: Option<String>,
    #[serde(rename = "token_prefix")]
    pub token_prefix: String,
}

/// The public half of a session's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceView {
    pub session_pubkey: SessionKey,
}

/// `GET /v1/sessions/me`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Me {
    pub session: SessionView,
}

/// `GET /v1/sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sessions {
    pub sessions: Vec<SessionView>,
}

/// `DELETE /v1/sessions/<token>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deregistered {
    pub ok: bool,
    pub token_prefix: String,
}

/// `POST /v1/send`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SendRequest {
    pub to: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to_id: Option<String>,
    /// Named by the caller, so that a retry is the same message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    /// What is for many goes out in clear, so that clients without shared keys can read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plaintext: bool,
}

/// What became of a send that was accepted now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendStatus {
    Queued,
    Inflight,
}

/// Reply to [`SendRequest`]: 202 with `status`, or 200 with `duplicate` when it is done already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendReceipt {
    pub client_message_id: ClientId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SendStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_message_id: Option<MessageId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// Whom the address meant: the peer's name where one is known, and its mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Recipient>,
}

/// Whom a send was resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub mesh: Slug,
    pub target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it was connected when last heard of; unknown for groups and keys outside the roster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
}

/// Any refusal of the local API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The reference's word or sentence for it.
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whatever else the route says: `attached`, `conflict`, `mesh`, …
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A roster row, and the mesh it is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerOnMesh {
    #[serde(flatten)]
    pub peer: Peer,
    pub mesh: Slug,
}

/// `GET /v1/peers`. A mesh that did not answer is named, never passed off as empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Peers {
    pub peers: Vec<PeerOnMesh>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unanswered: BTreeMap<String, String>,
}
