//! Keys under which scripts post and read over HTTP. Frames of the reference's `apikey_create` family.

use serde::{Deserialize, Serialize};

use crate::base::config::SecretText;

/// What a script may do with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyCapability {
    Send,
    Read,
    StateWrite,
    /// All of the others.
    Admin,
}

impl KeyCapability {
    pub const ALL: [KeyCapability; 4] =
        [KeyCapability::Send, KeyCapability::Read, KeyCapability::StateWrite, KeyCapability::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            KeyCapability::Send => "send",
            KeyCapability::Read => "read",
            KeyCapability::StateWrite => "state_write",
            KeyCapability::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<KeyCapability> {
        KeyCapability::ALL.into_iter().find(|capability| capability.as_str() == text)
    }
}

/// Makes a key in the asker's name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateApiKey {
    pub label: String,
    pub capabilities: Vec<KeyCapability>,
    /// Names of the topics it is for; without them, all that its member may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_scopes: Option<Vec<String>>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Answers [`CreateApiKey`]: the only time that the secret is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyCreated {
    pub id: String,
    pub secret: SecretText,
    pub label: String,
    pub prefix: String,
    pub capabilities: Vec<KeyCapability>,
    #[serde(default)]
    pub topic_scopes: Option<Vec<String>>,
    /// ISO 8601.
    pub created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Asks for the asker's keys; for an admin, everybody's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListApiKeys {
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// A key as it is listed. Times are ISO 8601.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiKey {
    pub id: String,
    pub label: String,
    pub prefix: String,
    pub capabilities: Vec<KeyCapability>,
    pub topic_scopes: Option<Vec<String>>,
    pub created_at: String,
    pub last_used_at: Option<String>,
    pub revoked_at: Option<String>,
    pub expires_at: Option<String>,
    /// The member in whose name it posts. The reference's broker does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_by: Option<String>,
}

/// Answers [`ListApiKeys`], the latest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiKeyList {
    pub keys: Vec<ApiKey>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// Ends a key: by its id, or by the beginning of that or of its secret, if it is no other's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RevokeApiKey {
    #[serde(default)]
    pub id: String,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

/// What became of a [`RevokeApiKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeStatus {
    Revoked,
    NotFound,
    NotUnique,
}

/// Answers [`RevokeApiKey`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKeyRevoked {
    pub status: RevokeStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How many keys begin so, where it is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<usize>,
    #[serde(rename = "_reqId", default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_goes_over_the_wire_and_into_no_log() {
        let created = ApiKeyCreated {
            id: "i".into(),
            secret: SecretText::new("cm_secret".into()),
            label: "ci".into(),
            prefix: "cm_secre".into(),
            capabilities: vec![KeyCapability::StateWrite],
            topic_scopes: None,
            created_at: String::new(),
            expires_at: None,
            req_id: None,
        };
        let text = serde_json::to_string(&created).unwrap();
        assert!(text.contains(r#""secret":"cm_secret""#) && text.contains(r#""capabilities":["state_write"]"#), "{text}");
        assert!(text.contains(r#""topicScopes":null"#) && !format!("{created:?}").contains("cm_secret\""), "{text}");
    }

    #[test]
    fn capabilities_are_the_references_words() {
        for capability in KeyCapability::ALL {
            assert_eq!(KeyCapability::parse(capability.as_str()), Some(capability));
            assert_eq!(serde_json::to_string(&capability).unwrap(), format!("\"{}\"", capability.as_str()));
        }
        assert_eq!(KeyCapability::parse("root"), None);
    }
}
