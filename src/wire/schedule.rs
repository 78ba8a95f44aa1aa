//! Messages that are sent later, and where a message stands. Frames of the reference's `schedule` family.

use serde::{Deserialize, Serialize};

use crate::base::ids::{ClientId, PublicKey};

use super::key::Seal;

/// The subtype of what somebody asked to be reminded of.
pub const REMINDER: &str = "reminder";

/// Has the broker send something later. A message for one key is sealed by whoever schedules it: `nonce` and `ciphertext`
/// then stand in place of `message`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    pub to: String,
    #[serde(default)]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext: Option<String>,
    /// How it is sealed, if it is for many and sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// What is sealed for many goes out under this id, with a number behind it if it repeats.
    #[serde(rename = "client_message_id", default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientId>,
    /// Milliseconds since the epoch; with `cron` it is not looked at.
    #[serde(default)]
    pub deliver_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtype: Option<String>,
    /// Five fields, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`Schedule`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledAck {
    pub scheduled_id: String,
    pub deliver_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListScheduled {
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Something that will be sent. Times are milliseconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledMessage {
    pub id: String,
    pub to: String,
    /// Empty where it is sealed.
    #[serde(default)]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext: Option<String>,
    /// How it is sealed, if it is for many and sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// What is sealed for many goes out under this id, with a number behind it if it repeats.
    #[serde(rename = "client_message_id", default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientId>,
    pub deliver_at: i64,
    pub created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(default)]
    pub fired_count: u32,
    /// Why it could not be sent the last time; without `cron`, it is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Answers [`ListScheduled`], what comes first first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduledList {
    pub messages: Vec<ScheduledMessage>,
    /// There were more than fit into one frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelScheduled {
    pub scheduled_id: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelScheduledAck {
    pub scheduled_id: String,
    pub ok: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Asks where a message stands, by its id or the first eight or more characters of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatus {
    pub message_id: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// One that a message was for: `delivered`, `held` for one who is connected, or `disconnected`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecipientStatus {
    pub name: String,
    pub pubkey: String,
    pub status: String,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<String>,
}

/// Answers [`MessageStatus`]: first those who do not have it yet, then those who do; 1,000 of each at most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatusResult {
    pub message_id: String,
    pub target_spec: String,
    pub delivered: bool,
    /// ISO 8601.
    pub delivered_at: Option<String>,
    pub recipients: Vec<RecipientStatus>,
    #[serde(default)]
    pub recipient_count: usize,
    /// The key that it was sent as. The reference's broker does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pubkey: Option<PublicKey>,
    /// Of a message to many that reached nobody: how many do not let through what its sender says to many.
    #[serde(default, skip_serializing_if = "is_none")]
    pub blocked: usize,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_none(count: &usize) -> bool {
    *count == 0
}
