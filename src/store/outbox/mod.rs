//! `outbox.db`: every message that this machine has promised to send, until well after it was sent.

mod accept;
mod drain;
mod manage;
mod receipts;
mod schema;

use std::path::Path;

use super::owner::{self, Kind, commands};
use super::{Error, RowId};
use crate::base::ids::{ClientId, MemberKey, MeshId, MessageId, SessionKey, Slug};
use crate::base::thread::Running;
use crate::base::time::Millis;
use crate::wire::ipc::OutboxCounts;
use crate::wire::priority::Priority;

/// How long a claimed row may go unsettled before another claim takes it again.
pub const LEASE_MILLIS: Millis = 60_000;

/// Which of a mesh's keys a message is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sender {
    Member,
    Session(SessionKey),
}

/// The one link that may send a row: never another, which would change who the sender is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    pub mesh: Slug,
    pub sender: Sender,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Pending,
    Inflight,
    Done,
    Dead,
    Aborted,
}

impl Status {
    pub const ALL: [Status; 5] = [Status::Pending, Status::Inflight, Status::Done, Status::Dead, Status::Aborted];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Inflight => "inflight",
            Status::Done => "done",
            Status::Dead => "dead",
            Status::Aborted => "aborted",
        }
    }

    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A message to keep and send.
#[derive(Debug, Clone)]
pub struct NewRow {
    pub id: RowId,
    pub client_id: ClientId,
    pub fingerprint: [u8; 32],
    /// The text as the sender gave it. Dropped once the row is done.
    pub payload: Vec<u8>,
    pub route: Route,
    pub membership: Membership,
    /// The wire's `targetSpec`.
    pub target: String,
    pub nonce: String,
    pub ciphertext: String,
    pub priority: Priority,
    pub reply_to: Option<String>,
    /// JSON.
    pub meta: Option<String>,
    pub now: Millis,
}

/// On which mesh, and as which of its members, a message was accepted. A slug may come to mean another mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub mesh: MeshId,
    pub member: MemberKey,
}

/// The row that already has a client id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    pub status: Status,
    pub fingerprint: [u8; 32],
    pub broker_id: Option<MessageId>,
    /// `None` in rows from before routing was stored.
    pub mesh: Option<Slug>,
    pub sender: Sender,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    New,
    /// Nothing was written.
    Existing(Existing),
}

/// A row to send now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: RowId,
    pub client_id: ClientId,
    pub fingerprint: [u8; 32],
    /// `None` in rows from before it was kept.
    pub membership: Option<Membership>,
    pub target: String,
    pub nonce: String,
    pub ciphertext: String,
    /// The text as the sender gave it, where it begins with a hyphen what stands for its sealed form: that is still to be made.
    pub text: Option<Vec<u8>>,
    pub priority: Priority,
    pub reply_to: Option<String>,
    pub meta: Option<String>,
    /// How often it was claimed, this time included.
    pub attempts: u32,
    pub enqueued_at: Millis,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// In the order in which they were accepted.
    pub rows: Vec<Row>,
    /// When this route next has something to send; not later than the `now` of the claim if its limit left rows over.
    pub next_due: Option<Millis>,
}

/// What one route has to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Nothing,
    /// All of it waits for a time that has not come.
    Later,
    /// Some of it is due, or on its way.
    Now,
}

/// How a claimed row ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done {
        broker_id: MessageId,
        at: Millis,
        /// The broker passes on what recipients say.
        told: bool,
    },
    /// Refused or unanswered; due again at `at`.
    Later {
        at: Millis,
        error: String,
    },
    /// It was not tried: due at once, and the attempt does not count.
    Returned,
    Dead {
        error: String,
        at: Millis,
    },
}

impl Outcome {
    /// When the row is tried again, if it is.
    pub fn due(&self) -> Option<Millis> {
        match self {
            Outcome::Later { at, .. } => Some(*at),
            Outcome::Done { .. } | Outcome::Returned | Outcome::Dead { .. } => None,
        }
    }
}

/// A row as people see it: never the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: RowId,
    pub client_id: ClientId,
    pub status: Status,
    pub attempts: u32,
    pub enqueued_at: Millis,
    pub next_attempt_at: Millis,
    pub delivered_at: Option<Millis>,
    pub broker_id: Option<MessageId>,
    pub last_error: Option<String>,
    pub aborted_at: Option<Millis>,
    pub aborted_by: Option<String>,
    pub superseded_by: Option<RowId>,
    pub payload_bytes: u64,
    pub mesh: Option<Slug>,
    pub target: Option<String>,
    pub sender_session: Option<SessionKey>,
    pub priority: Priority,
}

/// A row with what the list leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub listed: Listed,
    /// The text as the sender gave it; `None` once the row is done.
    pub text: Option<String>,
    pub reply_to: Option<String>,
    /// JSON.
    pub meta: Option<String>,
}

/// Which rows are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub status: Option<Status>,
    /// Only what is sent as this key.
    pub sender: Option<Sender>,
    /// Brought into 1..=500.
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requeued {
    /// The new row waits on this route.
    Requeued(Route),
    /// There is no such row, it is done or aborted, or it was written before routing was stored.
    NotRequeueable,
    /// The row is in flight: the broker may have it, and would have two.
    OnItsWay,
    /// Another row has the new client id.
    IdTaken,
}

pub use self::receipts::{Addressed, Lookup, Standing, Word};

commands! {
    /// The outbox. Cheap to clone; the database closes when the last clone is dropped.
    pub struct Outbox;

    /// The row that has this client id.
    Read Find => accept::find: pub fn find(client_id: ClientId) -> Option<Existing>;

    Sync [WithAll] Accept => accept::accept: fn accept_boxed(row: Box<NewRow>) -> Accepted;

    /// Takes up to `limit` due rows of one route, oldest first, passing over recipients that have an older row which is
    /// not due yet. Each must be settled within [`LEASE_MILLIS`].
    Early [WithAll] Claim => drain::claim: pub fn claim(route: Route, now: Millis, limit: usize) -> Claimed;

    /// Records how claimed rows ended; a row that is no longer in flight is left as it is, but for one that was given up
    /// and that the broker has nevertheless. A settlement lost to a power cut only has the broker told again what it
    /// already has.
    Lazy [WithAll] Settle => drain::settle: pub fn settle(outcomes: Vec<(RowId, Outcome)>) -> ();

    /// Every route with waiting rows, and when the first of them is due.
    Read RoutesWithWork => drain::routes_with_work: pub fn routes_with_work() -> Vec<(Route, Millis)>;

    /// What one route has to send.
    Read WorkOf => drain::work_of: pub fn work_of(route: Route, now: Millis) -> Work;

    /// Makes what waits for one recipient due, since it has come back. Returns the routes that have rows for it.
    Lazy WakeTarget => drain::wake_target: pub fn wake_target(mesh: Slug, target: String, now: Millis) -> Vec<Route>;

    /// Makes what would wait on one route until after `beyond` due at `now`, since its link has opened or the clock was set
    /// back. Returns how many rows that were.
    Lazy WakeRoute => drain::wake_route: pub fn wake_route(route: Route, beyond: Millis, now: Millis) -> usize;

    /// Newest first. Of one sender's, those among the latest [`manage::LOOKED_AT`] rows.
    Read List => manage::list: pub fn list(filter: Filter) -> Vec<Listed>;

    /// The row with this id or client id, if it is this sender's.
    Read Show => manage::show: pub fn show(id: String, sender: Option<Sender>) -> Option<Shown>;

    /// The rows of a mesh with these client ids, in the same order.
    Read AddressedAs => receipts::addressed: pub fn addressed(mesh: Slug, ids: Vec<ClientId>) -> Vec<Option<Addressed>>;

    /// Notes what recipients said. Returns which of it was news, in the same order. On return it survives a power cut.
    Sync [WithAll] Learn => receipts::learn: pub fn learn(words: Vec<Word>) -> Vec<bool>;

    /// What is known of the message with this id, client id or broker's id, or a beginning of one that is its own.
    Read LookUp => receipts::lookup: pub fn lookup(id: String, sender: Option<Sender>) -> Lookup;

    Read Counts => manage::counts: pub fn counts() -> OutboxCounts;

    /// How many rows of a mesh wait to be sent. Counting ends at 10,000.
    Read Waiting => manage::waiting: pub fn waiting(mesh: Slug) -> usize;

    /// Aborts a row that is not done or in flight and queues its message again under a new client id, in one step. With
    /// `sender`, only that sender's.
    Sync Requeue => manage::requeue: pub fn requeue(
        row: RowId,
        sender: Option<Sender>,
        new_client_id: ClientId,
        aborted_by: String,
        now: Millis,
        new_row: RowId,
    ) -> Requeued;

    /// Gives up a row on someone's order; one in flight is done all the same once the broker says that it has it. False
    /// when it is done, aborted, unknown, or not this sender's.
    Sync Abort => manage::abort: pub fn abort(row: RowId, sender: Option<Sender>, aborted_by: String, now: Millis) -> bool;

    /// Declares pending rows dead that were accepted more than `max_age` milliseconds ago. Bounded: call again while it
    /// returns more than 0.
    Lazy GiveUp => manage::give_up: pub fn give_up(max_age: Millis, now: Millis) -> usize;

    /// Brings the rows of a mesh under its new name. Bounded: call again while it returns more than 0.
    Lazy Rename => manage::rename: pub fn rename(old: Slug, new: Slug, mesh: MeshId) -> usize;

    /// Deletes rows of a final state that were accepted before `before`. Bounded: call again while it returns more than 0.
    Lazy Clear => manage::clear: pub fn clear(status: Status, sender: Option<Sender>, before: Millis) -> usize;

    /// Deletes rows that were done or aborted before `before`. Bounded: call again while it returns more than 0.
    Lazy Prune => manage::prune: pub fn prune(before: Millis) -> usize;

    /// Deletes rows that died before `before`. Bounded: call again while it returns more than 0.
    Lazy PruneDead => manage::prune_dead: pub fn prune_dead(before: Millis) -> usize;
}

impl Outbox {
    /// Keeps a message, unless its client id is taken. On return it survives a power cut.
    pub fn accept(&self, row: NewRow) -> Result<Accepted, Error> {
        // The queue has room for many commands, and most are small.
        self.accept_boxed(Box::new(row))
    }

    /// Opens the database and starts its thread. Rows that were in flight are pending again.
    pub fn open(path: &Path) -> Result<(Outbox, Running), Error> {
        let kind =
            Kind { thread: "store-outbox", cache_kib: 512, steps: schema::STEPS, recover: schema::recover, sum_up: |_| Ok(()) };
        let (caller, running) = owner::start(path, &kind)?;
        Ok((Outbox(caller), running))
    }
}

/// The column `sender_session_pubkey`.
fn sender_sql(sender: Sender) -> Option<String> {
    match sender {
        Sender::Member => None,
        Sender::Session(key) => Some(key.to_string()),
    }
}

#[cfg(test)]
mod tests;
