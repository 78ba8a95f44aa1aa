//! The daemon's local API as typed methods: what the command line, the hooks and the MCP shim call. Paths, keys and statuses
//! are the reference's; the bodies are in [`crate::wire::ipc`].

pub mod config_edit;
pub mod error;
pub mod events;
mod families;
pub mod host;
pub mod id;
pub mod manager;
pub mod spawn;
pub mod token;

mod call;
mod http;
mod tool;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::Token;
use crate::base::paths::Paths;
use crate::net::target::percent_encode;
use crate::wire::ipc::{
    Abort, Aborted, Canaries, CanaryRequest, Changed, Claim, Claimed, Deregistered, Handled, Health, InboxPage, Line, Marked, Me,
    OutboxCounts, OutboxPage, OutboxRow, Path as DeliveryPath, Peers, ProfileSet, Prune, Register, Registered, Removed, Requeue,
    Requeued, Seen, SendReceipt, SendRequest, Sessions, Version,
};
use crate::wire::json;
use crate::wire::limits::{MAX_CANARY_WAIT, RPC_DEADLINE};
use crate::wire::peer::Status;

use self::call::refusal;
pub use self::error::Error;
pub use self::families::{GrantChange, Later};
use self::http::{Connection, Repeat};
use self::spawn::Starter;

/// For a whole call, connecting included, unless [`Client::with_deadline`] says otherwise. The daemon answers before that
/// whatever happens: it waits for brokers, and for itself, no longer than `wire::limits::RPC_DEADLINE`.
const CALL_DEADLINE: Duration = Duration::from_secs(8);

const _: () = assert!(RPC_DEADLINE.as_millis() + 2000 <= CALL_DEADLINE.as_millis(), "the daemon must be the first to give up");

/// A connection that was opened ahead is used only this soon after: the daemon drops those that say nothing for long.
const PARKED_FOR: Duration = Duration::from_secs(1);

/// Speaks to one daemon, for one session or for the member. Each call is a connection of its own.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    token: Option<Token>,
    deadline: Option<Duration>,
    end: Option<Instant>,
    /// Guards the connection that showed the daemon to be there, until the first request takes it.
    parked: Mutex<Option<(Connection, Instant)>>,
    daemon_version: OnceLock<String>,
    starter: Option<Box<Starter>>,
    started_in: OnceLock<Duration>,
    beside_service: OnceLock<String>,
}

/// Which rows `GET /v1/inbox` lists.
#[derive(Debug, Clone, Default)]
pub struct InboxQuery {
    pub mesh: Option<String>,
    /// ISO 8601.
    pub since: Option<String>,
    /// ISO 8601.
    pub until: Option<String>,
    pub topic: Option<String>,
    /// A key, the beginning of one, or a name.
    pub from: Option<String>,
    /// Part of the text.
    pub text: Option<String>,
    pub limit: Option<u32>,
    pub unread_only: bool,
    /// Whether listing counts as reading.
    pub mark_seen: bool,
}

/// States of an outbox row that `GET /v1/outbox` filters by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxStatus {
    Pending,
    Inflight,
    Done,
    Dead,
    Aborted,
}

impl OutboxStatus {
    pub const ALL: [OutboxStatus; 5] =
        [OutboxStatus::Pending, OutboxStatus::Inflight, OutboxStatus::Done, OutboxStatus::Dead, OutboxStatus::Aborted];

    pub fn as_str(self) -> &'static str {
        match self {
            OutboxStatus::Pending => "pending",
            OutboxStatus::Inflight => "inflight",
            OutboxStatus::Done => "done",
            OutboxStatus::Dead => "dead",
            OutboxStatus::Aborted => "aborted",
        }
    }

    pub fn parse(text: &str) -> Option<OutboxStatus> {
        OutboxStatus::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// How many rows of `counts` are in this state.
    pub fn count(self, counts: &OutboxCounts) -> u64 {
        match self {
            OutboxStatus::Pending => counts.pending,
            OutboxStatus::Inflight => counts.inflight,
            OutboxStatus::Done => counts.done,
            OutboxStatus::Dead => counts.dead,
            OutboxStatus::Aborted => counts.aborted,
        }
    }
}

impl Client {
    /// Speaks to the daemon whose socket is at `paths.socket()`. Nothing is opened yet.
    pub fn new(paths: &Paths) -> Client {
        Client::at(paths.socket())
    }

    /// As [`Client::new`], for a socket anywhere.
    pub fn at(socket: PathBuf) -> Client {
        Client {
            socket,
            token: None,
            deadline: None,
            end: None,
            parked: Mutex::new(None),
            daemon_version: OnceLock::new(),
            starter: None,
            started_in: OnceLock::new(),
            beside_service: OnceLock::new(),
        }
    }

    /// Acts for the session that this token belongs to.
    pub fn with_token(mut self, token: Option<Token>) -> Client {
        self.token = token;
        self
    }

    /// Every call may take this long instead of its own default.
    pub fn with_deadline(mut self, deadline: Duration) -> Client {
        self.deadline = Some(deadline);
        self
    }

    /// All calls together are over by then, however many they are.
    pub fn with_end(mut self, end: Instant) -> Client {
        self.end = Some(end);
        self
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The version that the daemon named in its first reply; `None` before any, and for the reference's daemon.
    pub fn daemon_version(&self) -> Option<&str> {
        self.daemon_version.get().map(String::as_str)
    }

    /// How long the daemon took to start, when [`spawn::ensure`] had to start it.
    pub fn started_in(&self) -> Option<Duration> {
        self.started_in.get().copied()
    }

    /// Why the daemon was started here although it is installed as a service, when [`spawn::ensure`] had to do so.
    pub fn beside_service(&self) -> Option<&str> {
        self.beside_service.get().map(String::as_str)
    }

    /// Opens the connection that the next call will use: the cheapest proof that a daemon is there.
    pub fn connect(&self) -> Result<(), Error> {
        let connection = Connection::open(&self.socket, self.due(CALL_DEADLINE))?;
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = Some((connection, Instant::now()));
        Ok(())
    }

    /// `GET /v1/version`.
    pub fn version(&self) -> Result<Version, Error> {
        self.get("/v1/version")
    }

    /// `GET /v1/health`.
    pub fn health(&self) -> Result<Health, Error> {
        self.get("/v1/health")
    }

    /// `POST /v1/sessions/register`.
    pub fn register(&self, registration: &Register) -> Result<Registered, Error> {
        self.post("/v1/sessions/register", registration)
    }

    /// `DELETE /v1/sessions/<token>`.
    pub fn deregister(&self, token: &Token) -> Result<Deregistered, Error> {
        self.remove(&format!("/v1/sessions/{}", token.reveal()))
    }

    /// `GET /v1/sessions/me`: the session that the client's own token belongs to.
    pub fn me(&self) -> Result<Me, Error> {
        self.get("/v1/sessions/me")
    }

    /// `GET /v1/sessions`.
    pub fn sessions(&self) -> Result<Sessions, Error> {
        self.get("/v1/sessions")
    }

    /// `POST /v1/send`. A request without a client message id gets one; a caller that means to retry names it itself.
    pub fn send(&self, request: &SendRequest) -> Result<SendReceipt, Error> {
        let named = match &request.client_message_id {
            Some(_) => json::encode(request),
            None => {
                let id = id::uuid().map_err(Error::Io)?;
                json::encode(&SendRequest { client_message_id: Some(id), ..request.clone() })
            }
        };
        // By its id, the daemon knows a message that it has.
        self.call_as("POST", "/v1/send", Some(named), CALL_DEADLINE, Repeat::Safe)
    }

    /// `GET /v1/inbox`.
    pub fn inbox(&self, query: &InboxQuery) -> Result<InboxPage, Error> {
        let path = Route::new("/v1/inbox")
            .with("mesh", query.mesh.as_deref())
            .with("since", query.since.as_deref())
            .with("until", query.until.as_deref())
            .with("topic", query.topic.as_deref())
            .with("from", query.from.as_deref())
            .with("q", query.text.as_deref())
            .with("limit", query.limit.map(|limit| limit.to_string()).as_deref())
            .with("unread_only", query.unread_only.then_some("true"))
            .with("mark_seen", (!query.mark_seen).then_some("false"));
        // What counts as read is not unread when it is listed again.
        let repeat = if query.mark_seen { Repeat::Never } else { Repeat::Safe };
        self.call_as("GET", &path.0, None, CALL_DEADLINE, repeat)
    }

    /// `POST /v1/inbox/seen`.
    pub fn mark_seen(&self, ids: &[String]) -> Result<Marked, Error> {
        self.post("/v1/inbox/seen", &Seen { ids: ids.to_vec() })
    }

    /// `POST /v1/inbox/claim`; it takes as long as it waits for mail, and the usual deadline.
    pub fn claim(&self, claim: &Claim) -> Result<Claimed, Error> {
        let within = CALL_DEADLINE + Duration::from_millis(claim.wait_ms.unwrap_or(0));
        self.call("POST", "/v1/inbox/claim", Some(json::encode(claim)), within)
    }

    /// `POST /v1/inbox/offered`: these stand before the model now.
    pub fn offered(&self, path: DeliveryPath, ids: &[String]) -> Result<Changed, Error> {
        self.post("/v1/inbox/offered", &Handled { ids: ids.to_vec(), path })
    }

    /// `POST /v1/inbox/unclaim`: these could not be put before the model.
    pub fn unclaim(&self, path: DeliveryPath, ids: &[String]) -> Result<Changed, Error> {
        self.post("/v1/inbox/unclaim", &Handled { ids: ids.to_vec(), path })
    }

    /// `POST /v1/canary`; it takes as long as it waits, and the usual deadline.
    pub fn fly_canaries(&self, wait: Duration) -> Result<Canaries, Error> {
        let request = CanaryRequest { wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) };
        self.call("POST", "/v1/canary", Some(json::encode(&request)), CALL_DEADLINE + wait.min(MAX_CANARY_WAIT))
    }

    /// `GET /v1/line`.
    pub fn line(&self) -> Result<Line, Error> {
        self.get("/v1/line")
    }

    /// `POST /v1/profile`, as a hook says what its session does. The daemon answers when the broker has; what it was told
    /// holds from the start.
    pub fn set_status(&self, status: Status) -> Result<ProfileSet, Error> {
        self.post("/v1/profile", &json::json!({ "status": status, "auto": true }))
    }

    /// `DELETE /v1/inbox`: everything of `mesh`, or what is older than `before` (ISO 8601).
    pub fn flush(&self, mesh: Option<&str>, before: Option<&str>) -> Result<Removed, Error> {
        self.remove(&Route::new("/v1/inbox").with("mesh", mesh).with("before", before).0)
    }

    /// `DELETE /v1/inbox/<id>`.
    pub fn delete(&self, id: &str) -> Result<Removed, Error> {
        self.remove(&format!("/v1/inbox/{}", percent_encode(id)))
    }

    /// `GET /v1/outbox`.
    pub fn outbox(&self, status: Option<OutboxStatus>, limit: Option<u32>) -> Result<OutboxPage, Error> {
        let path = Route::new("/v1/outbox")
            .with("status", status.map(OutboxStatus::as_str))
            .with("limit", limit.map(|limit| limit.to_string()).as_deref());
        self.get(&path.0)
    }

    /// `POST /v1/outbox/requeue`.
    pub fn requeue(&self, requeue: &Requeue) -> Result<Requeued, Error> {
        self.post("/v1/outbox/requeue", requeue)
    }

    /// `GET /v1/outbox/<id>`, by the row's id or the message's.
    pub fn outbox_row(&self, id: &str) -> Result<OutboxRow, Error> {
        self.get(&format!("/v1/outbox/{}", percent_encode(id)))
    }

    /// `POST /v1/outbox/abort`.
    pub fn abort(&self, abort: &Abort) -> Result<Aborted, Error> {
        self.post("/v1/outbox/abort", abort)
    }

    /// `POST /v1/outbox/prune`.
    pub fn prune(&self, prune: &Prune) -> Result<Removed, Error> {
        self.post("/v1/outbox/prune", prune)
    }

    /// `GET /v1/peers`, those included who are away.
    pub fn peers(&self, mesh: Option<&str>) -> Result<Peers, Error> {
        self.call("GET", &Route::new("/v1/peers").with("mesh", mesh).with("away", Some("true")).0, None, CALL_DEADLINE)
    }
}

/// A path with its query. Parameters without a value are left out.
struct Route(String);

impl Route {
    fn new(path: &str) -> Route {
        Route(path.to_owned())
    }

    fn with(mut self, name: &str, value: Option<&str>) -> Route {
        if let Some(value) = value {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&percent_encode(value));
        }
        self
    }
}
