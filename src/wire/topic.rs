//! Topics: rooms of a mesh with members and a history. Frames of the reference's `topic_create` family.

use serde::{Deserialize, Serialize};

use crate::base::ids::{ClientId, MemberId, MemberKey, PublicKey};

use super::key::Seal;

/// Who may know of a topic and enter it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Every member of the mesh.
    #[default]
    Public,
    /// Those whom a lead has let in.
    Private,
    /// As private, for few.
    Dm,
}

impl Visibility {
    pub fn as_str(self) -> &'static str {
        match self {
            Visibility::Public => "public",
            Visibility::Private => "private",
            Visibility::Dm => "dm",
        }
    }

    pub fn parse(text: &str) -> Option<Visibility> {
        [Visibility::Public, Visibility::Private, Visibility::Dm].into_iter().find(|visibility| visibility.as_str() == text)
    }
}

/// What a member is in a topic. An observer reads and does not write; a lead lets others in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopicRole {
    Lead,
    #[default]
    Member,
    Observer,
}

impl TopicRole {
    pub fn as_str(self) -> &'static str {
        match self {
            TopicRole::Lead => "lead",
            TopicRole::Member => "member",
            TopicRole::Observer => "observer",
        }
    }

    pub fn parse(text: &str) -> Option<TopicRole> {
        [TopicRole::Lead, TopicRole::Member, TopicRole::Observer].into_iter().find(|role| role.as_str() == text)
    }
}

/// Makes a topic; one of the same name that is there already is entered instead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicCreate {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub visibility: Visibility,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Asks for the topics that the asker may know of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicList {
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Leaves a topic, or takes another member out of it; the latter is for leads, and for admins of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicLeave {
    pub topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberKey>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Enters a topic, named by its id or its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicJoin {
    pub topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<TopicRole>,
    /// Lets this member in instead of entering oneself; for leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberKey>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Marks a topic as read, or asks who is in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OfTopic {
    pub topic: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Asks for what was said, the latest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicHistory {
    pub topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_id: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// A topic as it is listed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topic {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub visibility: Visibility,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_count: Option<usize>,
    /// ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// What the asker is in it. The reference's broker does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<TopicRole>,
}

/// Answers [`TopicCreate`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicCreated {
    pub topic: Topic,
    #[serde(default)]
    pub created: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`TopicList`], by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicListResponse {
    pub topics: Vec<Topic>,
    /// There were more than fit into one frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// One who is in a topic. Times are ISO 8601.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicMember {
    pub member_id: MemberId,
    pub pubkey: MemberKey,
    pub display_name: String,
    #[serde(default)]
    pub role: TopicRole,
    #[serde(default)]
    pub joined_at: String,
    #[serde(default)]
    pub last_read_at: Option<String>,
}

/// Answers the question who is in a topic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicMembersResponse {
    pub topic: String,
    pub members: Vec<TopicMember>,
    /// There were more than fit into one frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// What was said in a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicMessage {
    pub id: String,
    pub sender_pubkey: PublicKey,
    pub sender_member_id: MemberId,
    #[serde(default)]
    pub sender_name: String,
    pub nonce: String,
    pub ciphertext: String,
    #[serde(default)]
    pub body_version: u32,
    /// How it is sealed, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The sender's own id for it; our broker says it of what is sealed, because it is part of what was signed.
    #[serde(rename = "client_message_id", default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientId>,
    /// What it says, once it has been opened. A daemon adds it; a broker does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Why a daemon could not open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to_id: Option<String>,
    /// Names that it calls out to, in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// ISO 8601.
    pub created_at: String,
}

/// Answers [`TopicHistory`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicHistoryResponse {
    pub topic: String,
    /// Its id: part of what was signed. The reference's broker does not say.
    #[serde(rename = "topicId", default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    pub messages: Vec<TopicMessage>,
    /// There were more than fit into one frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Names that one message may call out to.
const MAX_MENTIONS: usize = 16;

/// Longest name that can be called out to, in characters.
const MAX_MENTION: usize = 64;

/// The names a text calls out to: `@name`, not within a word, in lower case and each once.
pub fn mentions(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut found: Vec<String> = Vec::new();
    for (at, _) in text.match_indices('@') {
        let name: String = text[at + 1..].chars().take_while(|c| is_part(*c)).collect();
        let stands_alone = !text[..at].ends_with(|c: char| is_part(c) || c == '@');
        if stands_alone && (1..=MAX_MENTION).contains(&name.len()) && found.len() < MAX_MENTIONS {
            let name = name.to_ascii_lowercase();
            found.retain(|other| *other != name);
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_calls_out_to_names_and_not_to_addresses() {
        assert_eq!(mentions("@Bob, and @ann-b: see a@b.c @@x @ @bob"), ["ann-b", "bob"]);
        let many: String = (0..40).map(|n| format!("@n{n} ")).collect();
        assert_eq!(mentions(&many).len(), MAX_MENTIONS);
        assert!(mentions(&format!("@{}", "x".repeat(65))).is_empty());
    }
}
