//! What a peer says of itself while it is connected: status, summary, visibility, profile, groups.

use serde::{Deserialize, Serialize};

use super::peer::{Reach, Stats, Status};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetStatus {
    pub status: Status,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetSummary {
    #[serde(default)]
    pub summary: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Whether other members see this peer in their lists and reach it by broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetVisible {
    pub visible: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// By which ways mail gets into this peer's model. The reference's broker does not know it and says nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetReach {
    #[serde(default)]
    pub reach: Vec<Reach>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Changes the named parts of a profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SetProfile {
    #[serde(flatten)]
    pub profile: Profile,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// How a peer presents itself. Absent parts are not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bio: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
}

impl Profile {
    pub fn is_empty(&self) -> bool {
        *self == Profile::default()
    }

    /// Takes over the parts that `newer` sets.
    pub fn update(&mut self, newer: Profile) {
        let Profile { avatar, title, bio, capabilities } = newer;
        self.avatar = avatar.or(self.avatar.take());
        self.title = title.or(self.title.take());
        self.bio = bio.or(self.bio.take());
        self.capabilities = capabilities.or(self.capabilities.take());
    }
}

/// What this client has counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SetStats {
    #[serde(default)]
    pub stats: Stats,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Enters a group, or changes the role in it. The name has been checked: the reference's broker fails on a quote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinGroup {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaveGroup {
    pub name: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}
