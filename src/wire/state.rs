//! The mesh's shared state: values by key that every member reads and writes. Frames of the reference's `set_state` family.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rest::Rest;

/// Writes one value. The reference's broker never answers this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetState {
    pub key: String,
    /// Anything but null.
    pub value: Value,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Asks for one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetState {
    pub key: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Asks for all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListState {
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// One value, and who wrote it when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateEntry {
    pub key: String,
    #[serde(default)]
    pub value: Value,
    #[serde(default)]
    pub updated_by: String,
    /// ISO 8601; empty where the key was never set.
    #[serde(default)]
    pub updated_at: String,
    #[serde(flatten)]
    pub rest: Rest,
}

/// Answers [`GetState`]; a key that was never set has the value null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateResult {
    #[serde(flatten)]
    pub entry: StateEntry,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// The same answer in the shape that the reference's daemon waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateValue {
    pub state: Option<StateEntry>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`ListState`], by key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StateList {
    pub entries: Vec<StateEntry>,
    /// There were more than fit into one frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Somebody wrote a value. Goes to every other connection of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateChange {
    pub key: String,
    #[serde(default)]
    pub value: Value,
    #[serde(default)]
    pub updated_by: String,
}
