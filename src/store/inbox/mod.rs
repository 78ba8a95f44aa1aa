//! `inbox.db`: every message that reached this machine, for each of its recipients here.

mod claim;
mod insert;
mod read;
mod receipts;
mod remove;
mod salvage;
mod schema;
mod scope;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::owner::{self, Kind, commands};
use super::{Error, RowId, Seq, damage};
use crate::base::ids::{ClientId, MemberKey, MessageId, SessionKey, Slug};
use crate::base::thread::Running;
use crate::base::time::Millis;
use crate::wire::key::Seal;
use crate::wire::priority::Priority;
use crate::wire::receipt::Stage;

pub use self::claim::Claim;
pub use self::receipts::{Due, Hold};

/// Whose connection a message came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recipient {
    Member(MemberKey),
    Session(SessionKey),
    /// The member's, of something that each session with a key of its own was given as well: for those without one.
    Keyless(MemberKey),
}

/// What a message says, as far as it could be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Sealed to this recipient by the key that is named as the sender.
    Opened(String),
    /// It came in clear: nobody vouches for who wrote it.
    Plain(String),
    /// Kept as it came, to be opened later.
    Unreadable { reason: String, nonce: String, ciphertext: String },
}

/// How a message to many was sealed that could not be opened: what another try needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSeal {
    /// As the wire writes it.
    pub target: String,
    pub seal: Seal,
    #[serde(default)]
    pub mentions: Vec<String>,
}

/// A message to keep.
#[derive(Debug, Clone)]
pub struct NewInbound {
    pub id: RowId,
    pub mesh: Slug,
    pub recipient: Recipient,
    /// As it came: a key, or what the broker puts there for messages that no peer wrote.
    pub sender_pubkey: String,
    pub sender_member: Option<MemberKey>,
    pub sender_name: String,
    pub client_id: ClientId,
    pub broker_id: Option<MessageId>,
    pub body: Body,
    /// Kept while it can not be opened.
    pub seal: Option<KeptSeal>,
    pub topic: Option<String>,
    /// `@group` or `*`, if it was for many and not for a topic.
    pub sent_to: Option<String>,
    /// Names that it calls out to, and whether the recipient's is one of them.
    pub mentions: Vec<String>,
    pub mentioned: bool,
    pub reply_to: Option<String>,
    pub priority: Priority,
    pub subtype: Option<String>,
    /// The broker's time, as it came.
    pub created_at: Option<String>,
    pub received_at: Millis,
    /// Its sender is to be told what becomes of it.
    pub receipts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    New(Seq),
    /// This recipient has this sender's message already.
    Duplicate,
}

/// A message that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    pub seq: Seq,
    pub id: RowId,
    pub mesh: Slug,
    /// `None` in rows from before recipients were kept: those are for every session of the mesh.
    pub recipient: Option<Recipient>,
    pub sender_pubkey: String,
    pub sender_member: Option<MemberKey>,
    pub sender_name: String,
    pub client_id: ClientId,
    pub broker_id: Option<MessageId>,
    pub body: Body,
    pub seal: Option<KeptSeal>,
    pub topic: Option<String>,
    pub sent_to: Option<String>,
    pub mentions: Vec<String>,
    pub mentioned: bool,
    pub reply_to: Option<String>,
    pub priority: Priority,
    pub subtype: Option<String>,
    pub created_at: Option<String>,
    pub received_at: Millis,
    pub seen_at: Option<Millis>,
    /// When it was put before the model, and by which path.
    pub offered_at: Option<Millis>,
    pub offered_by: Option<String>,
}

/// What a caller may see and touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// One mesh: what is for this session, for its member, or from before recipients were kept.
    Session {
        mesh: Slug,
        session: Option<SessionKey>,
        member: MemberKey,
    },
}

/// Which messages to list. `None` leaves a condition out.
#[derive(Debug, Clone)]
pub struct Filter {
    pub scope: Scope,
    pub mesh: Option<Slug>,
    /// Received at this time or later.
    pub since: Option<Millis>,
    /// Received at this time or earlier.
    pub until: Option<Millis>,
    pub topic: Option<String>,
    /// The sender's public key as it is stored.
    pub sender: Option<String>,
    /// The sender's name, letters in either case, or the beginning of its key. Only the newest 100,000 messages up to `until`
    /// are searched.
    pub sender_like: Option<String>,
    pub unread_only: bool,
    /// Part of the body, letters in either case. Only the newest 100,000 messages up to `until` are searched.
    pub text: Option<String>,
    /// Brought into 1..=1000.
    pub limit: usize,
}

/// One page of messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub rows: Vec<Inbound>,
    /// How many of them were noted as seen.
    pub marked: usize,
    /// Their texts were too large together for all that match and the limit allows.
    pub more: bool,
    /// The search ended before the inbox did, and before the page was full: when the oldest message was received that was
    /// looked at.
    pub searched_back_to: Option<Millis>,
}

impl Filter {
    /// The newest `limit` messages of a scope.
    pub fn newest(scope: Scope, limit: usize) -> Filter {
        Filter {
            scope,
            mesh: None,
            since: None,
            until: None,
            topic: None,
            sender: None,
            sender_like: None,
            unread_only: false,
            text: None,
            limit,
        }
    }
}

commands! {
    /// The inbox. Cheap to clone; the database closes when the last clone is dropped.
    pub struct Inbox;

    /// Keeps messages; the answers are in the same order. On return they survive a power cut: now they may be acked.
    Sync [WithAll] Insert => insert::insert: pub fn insert(messages: Vec<NewInbound>) -> Vec<Inserted>;

    /// What came after `after`, oldest first.
    Read Since => read::since: pub fn since(after: Seq, scope: Scope, limit: usize) -> Vec<Inbound>;

    /// The last place given out, whether or not its row is still there.
    Read LastSeq => read::last_seq: pub fn last_seq() -> Seq;

    Read List => read::list: fn list_only(filter: Filter) -> Listing;

    Lazy ListMarking => read::list_marking: fn list_marking(filter: Filter, now: Millis) -> Listing;

    /// Notes that these were seen, where that was not known and where `scope` allows it. Returns how many.
    Lazy MarkSeen => read::mark_seen: pub fn mark_seen(ids: Vec<RowId>, scope: Scope, now: Millis) -> usize;

    /// Gives messages that nobody has offered to the model yet to one path, oldest first.
    Lazy ClaimSome => claim::claim: pub fn claim(claim: Claim) -> Vec<Inbound>;

    /// Notes that a path put these before the model: nobody offers them again. Returns for how many that was news.
    Lazy Offered => claim::offered: pub fn offered(ids: Vec<RowId>, path: String, scope: Scope, now: Millis) -> usize;

    /// Notes that these are not to be offered, and leaves them unread.
    Lazy Withheld => claim::withheld: pub fn withheld(ids: Vec<RowId>, why: String, scope: Scope, now: Millis) -> usize;

    /// Gives back what a path claimed and did not offer.
    Lazy Unclaim => claim::unclaim: pub fn unclaim(ids: Vec<RowId>, path: String, scope: Scope) -> usize;

    /// How many messages nobody has seen. Counting ends at 10,000 for each kind of recipient.
    Read Unread => read::unread: pub fn unread(scope: Scope) -> usize;

    Sync FlushSome => remove::flush_some:
        fn flush_some(scope: Scope, mesh: Option<Slug>, before: Option<Millis>) -> usize;

    /// Forgets which messages were deleted before `before`.
    Lazy ForgetDeleted => remove::forget_deleted: pub fn forget_deleted(before: Millis) -> usize;

    /// Deletes one message. False if there is none, or none that `scope` allows.
    Sync Delete => remove::delete: pub fn delete(id: RowId, scope: Scope) -> bool;

    /// Deletes messages received before `before`. Bounded: call again while it returns more than 0.
    Lazy Prune => remove::prune: pub fn prune(before: Millis) -> usize;

    /// Up to `limit` messages of one recipient that could not be opened and came after `after`, oldest first.
    Read Unreadable => read::unreadable:
        pub fn unreadable(mesh: Slug, recipient: Recipient, after: Seq, limit: usize) -> Vec<Inbound>;

    /// Gives messages that could not be opened their text, as if they came in now. Returns for how many: others are gone, or
    /// were opened before.
    Sync Opened => insert::opened: pub fn opened(messages: Vec<(RowId, String)>, now: Millis) -> usize;

    /// Brings the rows of a mesh under its new name. Bounded: call again while it returns more than 0.
    Lazy Rename => remove::rename: pub fn rename(old: Slug, new: Slug) -> usize;

    /// Notes for their senders that messages are kept from the model now. Returns of how many that was news.
    Lazy HoldSome => receipts::hold: pub fn hold(hold: Hold) -> usize;

    /// What senders of one recipient's messages are to be told, oldest messages first.
    Read ReceiptsDue => receipts::due: pub fn receipts_due(mesh: Slug, recipient: Recipient, limit: usize) -> Vec<Due>;

    /// A broker has these. One lost to a power cut is told again.
    Lazy [WithAll] ReceiptsTold => receipts::told: pub fn receipts_told(told: Vec<(Seq, Stage, Millis)>) -> usize;

    /// Forgets what could not be told since `before`. Bounded: call again while it returns more than 0.
    Lazy ForgetReceipts => receipts::forget: pub fn forget_receipts(before: Millis) -> usize;
}

impl Inbox {
    /// Opens the database and starts its thread. A damaged file is put aside, and what can be read of it is kept: what is
    /// lost here was read or can be sent again, while a daemon that does not start receives nothing at all.
    pub fn open(path: &Path) -> Result<(Inbox, Running), Error> {
        let kind =
            Kind { thread: "store-inbox", cache_kib: 512, steps: schema::STEPS, recover: schema::recover, sum_up: |_| Ok(()) };
        let (caller, running) = match owner::start(path, &kind) {
            Err(Error::Corrupt(why)) => {
                let aside = damage::set_aside(path)?;
                let kept = salvage::salvage(&aside, path, kind.cache_kib)?;
                log::error!(
                    "{} is damaged ({why}) and was put aside as {}; {kept} messages could be read and were kept",
                    path.display(),
                    aside.display()
                );
                owner::start(path, &kind)?
            }
            started => started?,
        };
        Ok((Inbox(caller), running))
    }

    /// The messages that match, newest first, with `seen_at` as it was before. With `mark_seen_at`, those that were unseen
    /// are noted as seen then, in the same step.
    pub fn list(&self, filter: Filter, mark_seen_at: Option<Millis>) -> Result<Listing, Error> {
        match mark_seen_at {
            Some(now) => self.list_marking(filter, now),
            None => self.list_only(filter),
        }
    }

    /// Deletes the messages of a scope, of one of its meshes if given, received before `before` if given. Done in steps, so
    /// that others are served meanwhile; returns how many went.
    pub fn flush(&self, scope: &Scope, mesh: Option<&Slug>, before: Option<Millis>) -> Result<usize, Error> {
        let mut removed = 0;
        loop {
            let step = self.flush_some(scope.clone(), mesh.cloned(), before)?;
            removed += step;
            // A short step has met the end; going on would only chase what arrives meanwhile.
            if step < remove::STEP {
                return Ok(removed);
            }
        }
    }
}

/// The kind of recipient of [`Recipient::Keyless`].
const KEYLESS: &str = "keyless";

/// The columns `recipient_pubkey` and `recipient_kind`.
fn recipient_sql(recipient: Recipient) -> (String, &'static str) {
    match recipient {
        Recipient::Member(key) => (key.to_string(), "member"),
        Recipient::Session(key) => (key.to_string(), "session"),
        Recipient::Keyless(key) => (key.to_string(), KEYLESS),
    }
}

#[cfg(test)]
mod claim_tests;
#[cfg(test)]
mod tests;
