//! What the client tells a hook on its standard input.

use std::path::PathBuf;

use crate::base::names::is_uuid;

use super::json::{self, Value};

/// What begins the prompt that a client submits by itself, when a hook has woken it.
const WOKEN: &str = "<task-notification>";

/// What of it is of use. Every part may be missing: a client says what it likes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HookInput {
    /// A UUID: it becomes the name of a file.
    pub session_id: Option<String>,
    pub cwd: Option<String>,
    /// Why a session starts.
    pub source: Option<String>,
    /// What was asked, if it was a person who asked: a client that was woken submits a prompt of its own.
    pub is_prompted: bool,
    /// Where the client writes down what is said.
    pub transcript: Option<PathBuf>,
    /// The client's name of the event.
    pub event: Option<String>,
    /// It is the event of a helper that the model started, not of the session itself.
    pub is_helpers: bool,
    /// The end of a turn, after another end that a hook held up.
    pub is_held: bool,
}

impl HookInput {
    /// Makes of it what can be made: what is no JSON says nothing.
    pub fn parse(bytes: &[u8]) -> HookInput {
        let value: Value = json::decode(bytes).unwrap_or_default();
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        HookInput {
            session_id: text("session_id").filter(|id| is_uuid(id)),
            cwd: text("cwd"),
            source: text("source"),
            is_prompted: text("prompt").is_none_or(|prompt| !prompt.starts_with(WOKEN)),
            transcript: text("transcript_path").map(PathBuf::from),
            event: text("hook_event_name"),
            is_helpers: text("agent_id").is_some(),
            is_held: value.get("stop_hook_active") == Some(&Value::Bool(true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_taken_as_it_comes() {
        let id = "01234567-89ab-cdef-0123-456789abcdef";
        let read = |text: &str| HookInput::parse(text.as_bytes());
        let whole = read(&format!(r#"{{"session_id":"{id}","cwd":"/x","source":"startup","hook_event_name":"SessionStart"}}"#));
        assert_eq!(
            whole,
            HookInput {
                session_id: Some(id.into()),
                cwd: Some("/x".into()),
                source: Some("startup".into()),
                is_prompted: true,
                event: Some("SessionStart".into()),
                ..HookInput::default()
            }
        );
        let stop = read(r#"{"agent_id":"a1","stop_hook_active":true}"#);
        assert!(stop.is_helpers && stop.is_held);
        assert!(!read(r#"{"prompt":"<task-notification>\nStop hook feedback"}"#).is_prompted);
        for odd in ["", "{", "[]", "7", r#"{"session_id":7}"#, r#"{"session_id":"../../etc"}"#] {
            assert_eq!((read(odd).cwd, read(odd).session_id), (None, None), "{odd}");
        }
    }
}
