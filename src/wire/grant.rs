//! What one member allows another. The reference keeps this behind an account; these frames are ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::ids::{MemberKey, PublicKey};

/// One thing that can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// To see the member. Kept, as the reference keeps it, and enforced by nobody.
    Read,
    /// To write to the member, and to be heard by it in topics.
    Dm,
    /// To be heard by it when writing to everyone or to a group.
    Broadcast,
    /// To read the values that it has set.
    StateRead,
    /// To replace the values that it has set.
    StateWrite,
    /// To fetch its files.
    FileRead,
}

impl Capability {
    pub const ALL: [Capability; 6] = [
        Capability::Read,
        Capability::Dm,
        Capability::Broadcast,
        Capability::StateRead,
        Capability::StateWrite,
        Capability::FileRead,
    ];

    /// What is allowed to a member about whom nothing was said.
    pub const DEFAULT: [Capability; 5] =
        [Capability::Read, Capability::Dm, Capability::Broadcast, Capability::StateRead, Capability::StateWrite];

    pub fn as_str(self) -> &'static str {
        match self {
            Capability::Read => "read",
            Capability::Dm => "dm",
            Capability::Broadcast => "broadcast",
            Capability::StateRead => "state-read",
            Capability::StateWrite => "state-write",
            Capability::FileRead => "file-read",
        }
    }

    pub fn parse(text: &str) -> Option<Capability> {
        Capability::ALL.into_iter().find(|capability| capability.as_str() == text)
    }
}

/// Changes what the asker allows a peer, which is named by its member's key or by a session's, or by the member's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetGrants {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PublicKey>,
    /// Where there is no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grant: Vec<Capability>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoke: Vec<Capability>,
    /// Back to the default, before the two above.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Asks for everything that the asker has said of others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListGrants {
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`SetGrants`]: what the peer's member is allowed now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrantsSet {
    pub peer: MemberKey,
    pub capabilities: Vec<Capability>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`ListGrants`], by the member's key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GrantsList {
    pub grants: BTreeMap<String, Vec<Capability>>,
    /// The members' names, by the same keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}
