//! Bodies of the routes by which a message reaches a model once: claim, confirm, give back.

use serde::{Deserialize, Serialize};

use super::InboxItem;
use crate::base::ids::Slug;
use crate::wire::peer::Reach;
use crate::wire::priority::Priority;

/// A way into a model's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// A notification of the MCP server.
    Channel,
    /// The session read its inbox with a command.
    Tool,
    /// The hook at the start of a session.
    SessionStart,
    /// The hook at a person's prompt.
    Prompt,
    /// The hook behind a tool's use.
    ToolUse,
    /// The hook at the end of a turn.
    Stop,
    /// The hook that waits and wakes an idle session.
    Wake,
}

impl Path {
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Channel => "channel",
            Path::Tool => "tool",
            Path::SessionStart => "session-start",
            Path::Prompt => "prompt",
            Path::ToolUse => "tool-use",
            Path::Stop => "stop",
            Path::Wake => "wake",
        }
    }

    /// Whether it is a hook of the client.
    pub fn is_hook(self) -> bool {
        matches!(self, Path::SessionStart | Path::Prompt | Path::ToolUse | Path::Stop | Path::Wake)
    }

    /// Whether this path makes a model work that nobody asked to: what two sessions could keep each other busy with.
    pub fn is_automatic(self) -> bool {
        matches!(self, Path::Stop | Path::Wake | Path::Channel)
    }
}

/// `offered_by` of a message that is kept from the model, because it repeats an earlier one word for word.
pub const REPEAT: &str = "repeat";

/// `POST /v1/inbox/claim`: the session's messages that nobody has read or offered, for one path alone until its lease ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    pub path: Path,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// How long to wait for the first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Only these; without it, those that the path may bring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priorities: Option<Vec<Priority>>,
    /// Only these rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// At the start of a session: why it starts, in the client's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// At the end of a turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnEnd>,
    /// Somebody sits before the terminal on which the messages are shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub watched: bool,
}

/// The end of a turn, which a hook can hold up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnEnd {
    /// A hook held up the end before this one.
    pub held: bool,
    /// How often in a row the client lets its hooks do that: what is said beyond it is lost. `None`: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
}

impl Claim {
    /// Everything that this path may bring now.
    pub fn of(path: Path) -> Claim {
        Claim { path, limit: None, wait_ms: None, priorities: None, ids: None, source: None, turn: None, watched: false }
    }

    /// Whether a person is there: what was held back from automatic paths may come now.
    pub fn has_a_person(&self) -> bool {
        self.path == Path::Prompt || self.path == Path::Tool && self.watched
    }
}

/// Reply to [`Claim`], oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claimed {
    pub items: Vec<InboxItem>,
    /// Another waiter of the same session took this one's place: do not come back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub displaced: bool,
    /// Unread messages beside these; counted only where there is something to say, and not for ever.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
    /// Another hook of this start has said who the session is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub welcomed: bool,
    /// To a waiter: the session works, as far as is known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub working: bool,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// `POST /v1/inbox/offered` and `POST /v1/inbox/unclaim`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handled {
    pub ids: Vec<String>,
    pub path: Path,
}

/// Reply to [`Handled`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    pub changed: usize,
}

/// What is held back so that two sessions do not keep each other awake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardReport {
    /// Pairs of sender and session whose mail waits for a person.
    pub held_pairs: usize,
    /// Messages that repeated an earlier one word for word and were left in the inbox.
    pub repeats: u64,
    /// Some of those pairs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<HeldPair>,
}

/// A sender whose mail does not wake a session any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPair {
    /// The session's name; its id if it has ended.
    pub session: String,
    /// The key.
    pub sender: String,
}

/// What the daemon has seen of a session's ways into its model, as `GET /v1/sessions` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delivery {
    /// The hook that fired last, and when, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_hook: Option<Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_hook_at: Option<i64>,
    /// Whether any hook of the client fired since the session was registered.
    pub hooks_fire: bool,
    /// Whether a hook waits for mail now.
    pub waiting: bool,
    /// Whether a server that offers mail by notifications is connected.
    pub channel: bool,
    /// What the peers are told; absent while nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Vec<Reach>>,
    /// Each path that has asked for mail, and when it did last; the latest is the last.
    pub seen: Vec<Sighting>,
}

/// A path that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    pub path: Path,
    /// Milliseconds since the epoch.
    pub at: i64,
}

/// What the id of every message begins with that the daemon itself sends to try a way into a session.
pub const CANARY: &str = "canary-";

/// `POST /v1/canary`: a message down each way into each session of this machine; of a session, into that one alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanaryRequest {
    /// How long those may take that need nobody's doing.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Reply to [`CanaryRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Canaries {
    pub canaries: Vec<CanaryView>,
}

/// What became of one of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryView {
    pub session_id: String,
    pub display_name: String,
    pub mesh: Slug,
    pub path: Path,
    /// Whether it should have arrived: its way was open, and needs nobody's doing.
    pub due: bool,
    pub state: CanaryState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CanaryState {
    /// Nobody came for it.
    Waiting,
    /// A path has it, and has not said that it stands before the model.
    Claimed,
    Arrived,
}

/// `GET /v1/line`: what a status line shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The caller's mesh, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Slug>,
    pub meshes: usize,
    pub connected: bool,
    /// Other sessions that are there; absent where the broker has not said yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<usize>,
    pub unread: usize,
}
