//! How a peer appears in a roster: the rows of the broker's `peers_list` and of `GET /v1/peers`.

use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::base::ids::{MemberKey, PublicKey};

use super::profile::Profile;
use super::rest::Rest;

/// What a connection is for. A member's control-plane connection is never a recipient of session mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerRole {
    ControlPlane,
    #[default]
    Session,
    Service,
}

/// What a peer is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Idle,
    Working,
    Dnd,
}

/// A way by which mail gets into a session's model by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// It is woken when it is idle.
    Wake,
    /// Beside its work: with a tool's result, at the end of a turn, at a prompt.
    Turn,
    /// A notification of its MCP server.
    Channel,
    /// One that a later version may know.
    #[serde(other)]
    Other,
}

impl Reach {
    pub fn as_str(self) -> &'static str {
        match self {
            Reach::Wake => "wake",
            Reach::Turn => "turn",
            Reach::Channel => "channel",
            Reach::Other => "other",
        }
    }
}

impl PeerRole {
    pub fn as_str(self) -> &'static str {
        match self {
            PeerRole::ControlPlane => "control-plane",
            PeerRole::Session => "session",
            PeerRole::Service => "service",
        }
    }
}

/// What a client has counted since it started. The reference's one-shot commands say so every minute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_in: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_out: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Number>,
}

/// A group a session is in, with its role there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// One row of a roster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The key to address: the session's, else the member's.
    pub pubkey: PublicKey,
    pub member_pubkey: MemberKey,
    pub display_name: String,
    #[serde(default)]
    pub status: Status,
    #[serde(default)]
    pub summary: Option<String>,
    #[serde(default)]
    pub groups: Vec<Group>,
    #[serde(default)]
    pub session_id: String,
    /// ISO 8601; for a peer that is away, when it was last seen.
    #[serde(default)]
    pub connected_at: String,
    #[serde(default)]
    pub cwd: String,
    #[serde(default)]
    pub peer_role: PeerRole,
    /// Absent from the reference's broker, which lists only who is connected or expected back within the lease.
    #[serde(default = "yes")]
    pub online: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// By which ways its mail gets in: absent where nobody said, empty if it reads only when it looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Vec<Reach>>,
    /// The only rights it was launched with; absent with all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_caps: Option<Vec<String>>,
    /// What it says it is there for; of the reference's daemon's rows, the same as `peerRole`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
    #[serde(flatten)]
    pub rest: Rest,
}

fn yes() -> bool {
    true
}
