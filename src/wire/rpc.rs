//! The JSON-RPC 2.0 envelope of the Model Context Protocol, one message a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request, or a notification when it has no `id`.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// A string or a number; kept as it came.
    #[serde(default)]
    pub id: Option<Value>,
    pub method: String,
    #[serde(default)]
    pub params: Value,
}

/// What the shim writes.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outgoing {
    Reply { jsonrpc: Version, id: Value, result: Value },
    Failure { jsonrpc: Version, id: Value, error: Failure },
    Notification { jsonrpc: Version, method: &'static str, params: Value },
}

/// Always `"2.0"`.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum Version {
    #[serde(rename = "2.0")]
    V2,
}

/// An error reply's content.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub code: i32,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl Failure {
    pub fn new(code: i32, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), data: None }
    }

    /// With more about it, for programs.
    pub fn with(self, data: Value) -> Failure {
        Failure { data: Some(data), ..self }
    }
}

/// JSON-RPC's own codes.
pub const PARSE_ERROR: i32 = -32_700;
pub const INVALID_REQUEST: i32 = -32_600;
pub const METHOD_NOT_FOUND: i32 = -32_601;
pub const INVALID_PARAMS: i32 = -32_602;
pub const INTERNAL_ERROR: i32 = -32_603;

/// The protocol's own code for a resource that is not there.
pub const RESOURCE_NOT_FOUND: i32 = -32_002;

impl Outgoing {
    pub fn reply(id: Value, result: Value) -> Outgoing {
        Outgoing::Reply { jsonrpc: Version::V2, id, result }
    }

    pub fn failure(id: Value, code: i32, message: impl Into<String>) -> Outgoing {
        Outgoing::failed(id, Failure::new(code, message))
    }

    pub fn failed(id: Value, error: Failure) -> Outgoing {
        Outgoing::Failure { jsonrpc: Version::V2, id, error }
    }

    pub fn notification(method: &'static str, params: Value) -> Outgoing {
        Outgoing::Notification { jsonrpc: Version::V2, method, params }
    }
}
