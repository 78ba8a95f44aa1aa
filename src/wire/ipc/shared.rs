//! Bodies of the routes about what the members of a mesh share: state, memory, skills, and how each shows itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::Slug;
use crate::wire::memory::Memory;
use crate::wire::skill::Skill;
use crate::wire::state::StateEntry;

use super::lenient;

/// A broker's row, and the mesh it is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnMesh<T> {
    #[serde(flatten)]
    pub row: T,
    pub mesh: Slug,
}

/// Who said nothing where the answer is of the first mesh that has one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Meshes that did not answer, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unanswered: BTreeMap<String, String>,
    /// Those of them that come before the mesh of the answer: what they have would be the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered_before: Vec<Slug>,
}

/// `GET /v1/state`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StateEntries {
    pub entries: Vec<OnMesh<StateEntry>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unanswered: BTreeMap<String, String>,
}

/// `GET /v1/state?key=`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateFound {
    pub state: OnMesh<StateEntry>,
    #[serde(flatten)]
    pub silence: Silence,
}

/// `POST /v1/state`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateWrite {
    #[serde(deserialize_with = "lenient::text")]
    pub key: Option<String>,
    pub value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub mesh: Option<String>,
}

/// Reply to [`StateWrite`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateSet {
    pub ok: bool,
    pub key: String,
    pub mesh: Slug,
    /// The broker said that it has the value. The reference's says nothing.
    #[serde(default)]
    pub confirmed: bool,
}

/// `POST /v1/memory`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RememberRequest {
    #[serde(deserialize_with = "lenient::text")]
    pub content: Option<String>,
    /// Entries that are no strings are dropped.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient::list")]
    pub tags: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub mesh: Option<String>,
}

/// Reply to [`RememberRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    pub id: String,
    pub mesh: Slug,
}

/// `GET /v1/memory`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memories {
    pub matches: Vec<OnMesh<Memory>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unanswered: BTreeMap<String, String>,
}

/// `DELETE /v1/memory/<id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forgotten {
    pub ok: bool,
    pub id: String,
    pub mesh: Slug,
}

/// `GET /v1/skills`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Skills {
    pub skills: Vec<OnMesh<Skill>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unanswered: BTreeMap<String, String>,
}

/// `GET /v1/skills/<name>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillFound {
    pub skill: OnMesh<Skill>,
    #[serde(flatten)]
    pub silence: Silence,
}

/// Reply to `POST /v1/profile`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileSet {
    pub ok: bool,
    /// Keys of the body that were understood.
    pub applied: Vec<String>,
    /// Where they were shown.
    pub meshes: Vec<Slug>,
    /// Where they could not be; a session's are shown as soon as its link opens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unanswered: BTreeMap<String, String>,
}

/// Reply to a request that a broker carries out without saying more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub mesh: Slug,
    /// The broker said that it did so. The reference's says nothing.
    #[serde(default)]
    pub confirmed: bool,
}
