//! The broker's HTTP API for scripts, `/api/v1`: what is asked and answered. The names are the reference's.

use serde::{Deserialize, Serialize};

use crate::base::ids::{MemberId, MemberKey, PublicKey};

use super::peer::{Group, Status};
use super::priority::Priority;
use super::topic::{TopicMessage, Visibility};

/// A refusal. `code` is `error.` and the same word, as the reference's clients look for it.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal<'a> {
    pub error: &'a str,
    pub code: String,
    pub message: &'a str,
}

/// `POST /messages`. Either `message`, in clear, or the reference's `ciphertext` and `nonce`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PostMessage {
    /// A topic's name, with `#` or without.
    pub topic: Option<String>,
    /// `@group`, or `*` for everybody, instead of a topic.
    pub to: Option<String>,
    pub message: Option<String>,
    pub ciphertext: Option<String>,
    pub nonce: Option<String>,
    pub priority: Priority,
    pub body_version: Option<u32>,
    pub mentions: Vec<String>,
    pub reply_to_id: Option<String>,
}

/// Answers [`PostMessage`]. The three ids are one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Posted {
    pub message_id: String,
    pub history_id: String,
    pub queue_id: String,
    pub topic: Option<String>,
    pub topic_id: Option<String>,
    /// How many of the topic's members it calls out to.
    pub notifications: usize,
    pub body_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to_id: Option<String>,
}

/// `GET /topics`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Topics {
    pub topics: Vec<ListedTopic>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedTopic {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub visibility: Visibility,
    /// ISO 8601.
    pub created_at: String,
    /// What others have said since it was last read, up to 100.
    pub unread: usize,
}

/// `GET /topics/<name>/messages`, the latest first.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    pub topic: String,
    pub topic_id: String,
    pub messages: Vec<Message>,
}

/// One message of a topic.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub id: String,
    pub sender_member_id: MemberId,
    pub sender_pubkey: PublicKey,
    pub sender_name: String,
    pub nonce: String,
    pub ciphertext: String,
    pub body_version: u32,
    pub reply_to_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// ISO 8601.
    pub created_at: String,
    /// What it says, if that was said in clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Message {
    pub fn new(said: TopicMessage, text: Option<String>) -> Message {
        Message {
            id: said.id,
            sender_member_id: said.sender_member_id,
            sender_pubkey: said.sender_pubkey,
            sender_name: said.sender_name,
            nonce: said.nonce,
            ciphertext: said.ciphertext,
            body_version: said.body_version,
            reply_to_id: said.reply_to_id,
            mentions: said.mentions,
            created_at: said.created_at,
            text,
        }
    }
}

/// `PATCH /topics/<name>/read`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadMark {
    pub topic: String,
    pub topic_id: String,
    /// ISO 8601.
    pub read_at: String,
}

/// The first event of `GET /topics/<name>/stream`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReady<'a> {
    pub topic: &'a str,
    pub topic_id: &'a str,
    /// ISO 8601.
    pub connected_at: String,
}

/// `GET /members`.
#[derive(Debug, Clone, Serialize)]
pub struct Members {
    pub members: Vec<ListedMember>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedMember {
    pub member_id: MemberId,
    pub pubkey: MemberKey,
    pub display_name: String,
    pub role: &'static str,
    pub is_human: bool,
    /// ISO 8601.
    pub joined_at: String,
    pub online: bool,
    pub status: Status,
    pub summary: Option<String>,
}

/// `GET /peers`.
#[derive(Debug, Clone, Serialize)]
pub struct Peers {
    pub peers: Vec<ListedPeer>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedPeer {
    pub pubkey: PublicKey,
    pub display_name: String,
    pub status: Status,
    pub summary: Option<String>,
    pub groups: Vec<Group>,
    /// `ws`, or `rest` for a script that asked something of late.
    pub via: &'static str,
}
