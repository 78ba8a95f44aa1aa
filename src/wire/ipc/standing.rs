//! Body of `GET /v1/messages/<id>`: where a message stands.

use serde::{Deserialize, Serialize};

use crate::base::ids::{ClientId, Slug};
use crate::wire::standing::State;

/// What a wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waited {
    Reached,
    /// The time was over first.
    Timeout,
    /// The message is dead or has expired: it will not come.
    Over,
    /// Nobody will say whether it comes: the broker passes on nothing of what recipients say.
    NotKnown,
}

/// Where a message stands, as far as anybody has said. Keys up to `recipientCount` are the broker's answer; the rest is this
/// daemon's. Times are ISO 8601.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Standing {
    /// The broker's id, once there is one.
    pub message_id: String,
    pub target_spec: String,
    /// The broker's word that the recipients' daemons have it: theirs is with each recipient.
    pub delivered: bool,
    pub delivered_at: Option<String>,
    pub recipients: Vec<AtRecipient>,
    /// How many it was for, where that is known.
    pub recipient_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// By which path it was offered; why it is held or dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether recipients' words reach this daemon: where they do not, what comes after `relayed` is not known.
    pub receipts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relayed_at: Option<String>,
    /// The outbox row's status, until a broker has the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbox: Option<String>,
    /// What a wait came to, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<Waited>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Slug>,
}

/// Where it stands with one recipient. Of a message to many, those who said something, and those who the broker says do not
/// have it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AtRecipient {
    pub name: String,
    pub pubkey: String,
    /// The broker's word: `delivered`, `held` for one who is connected, `disconnected`.
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// By which path it was offered, or why it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrived_at: Option<String>,
}
