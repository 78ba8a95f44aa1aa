//! Bodies of the routes about the inbox and the outbox.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::{ClientId, MessageId, Slug};
use crate::wire::priority::Priority;

/// One row of `GET /v1/inbox`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboxItem {
    pub id: String,
    pub client_message_id: ClientId,
    pub broker_message_id: Option<MessageId>,
    pub mesh: Slug,
    pub topic: Option<String>,
    /// `@group` or `*`, if it was for many and not for a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_to: Option<String>,
    pub sender_pubkey: String,
    pub sender_name: String,
    /// Absent when the message could not be opened; `unreadable` then says why.
    pub body: Option<String>,
    /// ISO 8601.
    pub received_at: String,
    pub reply_to_id: Option<String>,
    /// ISO 8601, as it was before this listing.
    pub seen_at: Option<String>,
    pub recipient_pubkey: Option<String>,
    pub recipient_kind: Option<String>,
    #[serde(default)]
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_member_pubkey: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// The body came in clear: nobody vouches for who wrote it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// Names that it calls out to, in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// It calls out to the session that it is for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mentioned: bool,
    /// Its place in the event stream.
    #[serde(default)]
    pub seq: u64,
    /// ISO 8601: when it was put before the model, and by which path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_by: Option<String>,
}

/// `GET /v1/inbox`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InboxPage {
    pub items: Vec<InboxItem>,
    #[serde(default)]
    pub marked_seen: usize,
    /// The texts were too large together: there are more than these within the limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// A search goes back only so far: nothing older than this was looked at, and asked again with this as `until` it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched_back_to: Option<String>,
}

/// `POST /v1/inbox/seen`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    pub ids: Vec<String>,
}

/// Reply to [`Seen`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Marked {
    pub marked_seen: usize,
}

/// Reply to the two `DELETE`s of the inbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removed {
    pub removed: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// One row of `GET /v1/outbox`. Times are ISO 8601. The text is never shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxItem {
    pub id: String,
    pub client_message_id: ClientId,
    pub status: String,
    pub attempts: u32,
    pub enqueued_at: String,
    pub next_attempt_at: String,
    pub delivered_at: Option<String>,
    pub broker_message_id: Option<MessageId>,
    pub last_error: Option<String>,
    pub aborted_at: Option<String>,
    pub aborted_by: Option<String>,
    pub superseded_by: Option<String>,
    pub payload_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_session_pubkey: Option<String>,
}

/// `GET /v1/outbox`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboxPage {
    pub items: Vec<OutboxItem>,
}

/// `GET /v1/outbox/<id>`: a row, and what the list leaves out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    #[serde(flatten)]
    pub item: OutboxItem,
    /// The text, until a broker has the message.
    pub message: Option<String>,
    pub reply_to_id: Option<String>,
    pub meta: Option<Value>,
}

/// `POST /v1/outbox/abort`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Abort {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted_by: Option<String>,
}

/// Reply to [`Abort`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Aborted {
    pub aborted_row_id: String,
}

/// `POST /v1/outbox/prune`: deletes finished rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Prune {
    /// Of `done`, `dead`, `aborted`; without it, `done` and `aborted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<String>>,
    /// ISO 8601: only what was accepted before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// `POST /v1/outbox/requeue`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Requeue {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_client_message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted_by: Option<String>,
}

/// Reply to [`Requeue`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Requeued {
    pub aborted_row_id: String,
    pub new_row_id: String,
    pub new_client_message_id: ClientId,
}
