//! Skills: instructions that a mesh's members share under a name. Frames of the reference's `share_skill` family.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rest::Rest;

/// Publishes a skill, or its new version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareSkill {
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub instructions: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Value>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Lists skills; with `query`, those whose name, description or a tag has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListSkills {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Asks for one skill whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetSkill {
    pub name: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Removes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveSkill {
    pub name: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// A skill as it is listed; `instructions` and `manifest` only where one was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skill {
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub author: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Value>,
    /// ISO 8601.
    #[serde(default)]
    pub created_at: String,
    #[serde(flatten)]
    pub rest: Rest,
}

/// Answers [`ListSkills`], by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SkillList {
    pub skills: Vec<Skill>,
    /// There were more than fit into one frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`GetSkill`]: null where there is none of this name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SkillData {
    pub skill: Option<Skill>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// What became of a [`ShareSkill`] or [`RemoveSkill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkillAction {
    Shared,
    Removed,
    NotFound,
}

/// Told to everyone on the mesh when a skill was published or removed. The reference's broker never says so, and its clients
/// ignore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillChange {
    pub name: String,
    pub action: SkillAction,
    /// The display name of whoever did it.
    #[serde(default)]
    pub by: String,
}

/// What a daemon calls a [`SkillChange`] among its events.
pub const SKILL_CHANGE: &str = "skill_change";

/// Answers [`ShareSkill`] and [`RemoveSkill`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillAck {
    pub name: String,
    pub action: SkillAction,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}
