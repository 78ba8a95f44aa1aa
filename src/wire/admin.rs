//! Keeping somebody out. Frames of the reference's `kick` family.

use serde::{Deserialize, Serialize};

use crate::base::ids::MemberKey;

/// Closes connections: one peer's, those that have been gone for `stale` milliseconds, or all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expel {
    /// A name, a key of a session or a member, or the beginning of one that is nobody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// How long a kick lasts, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`Expel`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Expelled {
    pub kicked: Vec<String>,
    pub affected: Vec<String>,
    /// Members' own connections that were not meant by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_control_plane: Vec<String>,
    /// Until when they are kept out (ISO 8601).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Shuts a member out for good, or lets it in again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ban {
    #[serde(default)]
    pub target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListBans {
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BanAck {
    /// The member's name.
    pub banned: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnbanAck {
    /// The member's name.
    pub unbanned: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// A member that is shut out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BannedMember {
    pub name: String,
    pub pubkey: MemberKey,
    /// ISO 8601.
    pub revoked_at: String,
}

/// Answers [`ListBans`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListBansResult {
    pub bans: Vec<BannedMember>,
    /// There were more than fit into one frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}
