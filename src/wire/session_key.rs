//! The file that keeps a session's key pair between runs (`sessions/<slug>/<uuid>.json`, the reference's shape).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Contents of one key file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionKeyFile {
    pub version: u32,
    pub mesh_slug: String,
    pub session_id: String,
    /// 64 lower-case hex characters.
    pub public_key: String,
    /// 128 lower-case hex characters; written to this file and nowhere else.
    pub secret_key: String,
    /// ISO 8601.
    pub created_at: String,
    /// What the session was called last. The reference neither writes it nor minds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

impl fmt::Debug for SessionKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKeyFile({} on {})", self.session_id, self.mesh_slug)
    }
}
