//! The hooks as the client's settings name them: for one session, for an installation, and for the plugin.

use crate::wire::json::{Value, json};

/// A row of [`HOOKS`].
type Row = (&'static str, Option<&'static str>, &'static [(&'static str, Wait)]);

/// Each event, which of its kinds are meant, the hooks it runs (the word behind `hook`), and whether the client waits for them.
/// Beside each turn there is a waiter, too: it alone can notice that a person has interrupted it.
const HOOKS: [Row; 7] = [
    ("SessionStart", None, &[("SessionStart", Wait::Seconds(5)), ("Wait", Wait::Rewake)]),
    ("UserPromptSubmit", None, &[("UserPromptSubmit", Wait::Seconds(5)), ("Wait", Wait::Rewake)]),
    ("PostToolUse", None, &[("PostToolUse", Wait::Seconds(5))]),
    ("Stop", None, &[("Stop", Wait::Seconds(5)), ("Wait", Wait::Rewake)]),
    ("StopFailure", None, &[("StopFailure", Wait::Seconds(5)), ("Wait", Wait::Rewake)]),
    ("Notification", Some("idle_prompt"), &[("Notification", Wait::Seconds(5)), ("Wait", Wait::Rewake)]),
    ("SessionEnd", None, &[("SessionEnd", Wait::Seconds(1))]),
];

/// How the client treats a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Waits for it, so long at most.
    Seconds(u32),
    /// Goes on without it, and wakes the session when it has something.
    Rewake,
}

/// The longest that a waiting hook may wait: the client counts in milliseconds of 31 bits, almost 25 days.
const REWAKE_SECONDS: u32 = 2_147_483;

/// `hooks` of a settings file, with this program.
pub(in crate::cli) fn hooks(program: &str) -> Value {
    let events = HOOKS.iter().map(|(event, kinds, hooks)| {
        let handlers: Vec<Value> = hooks.iter().map(|(word, wait)| handler(program, word, *wait)).collect();
        let group = match kinds {
            Some(kinds) => json!({ "matcher": kinds, "hooks": handlers }),
            None => json!({ "hooks": handlers }),
        };
        ((*event).to_owned(), json!([group]))
    });
    Value::Object(events.collect())
}

fn handler(program: &str, word: &str, wait: Wait) -> Value {
    match wait {
        Wait::Seconds(seconds) => json!({ "type": "command", "command": program, "args": ["hook", word], "timeout": seconds }),
        Wait::Rewake => {
            json!({ "type": "command", "command": program, "args": ["hook", word], "asyncRewake": true, "timeout": REWAKE_SECONDS })
        }
    }
}

/// Whether a settings file has hooks of ours.
pub(in crate::cli) fn has_ours(file: &Value) -> bool {
    let Some(Value::Object(events)) = file.get("hooks") else { return false };
    let groups = events.values().filter_map(Value::as_array).flatten();
    let mut handlers = groups.filter_map(|group| group.get("hooks")).filter_map(Value::as_array).flatten();
    handlers.any(is_ours)
}

/// Whether a handler of a settings file is one of ours, written by this program or by the reference's.
pub(in crate::cli) fn is_ours(handler: &Value) -> bool {
    let command = handler.get("command").and_then(Value::as_str).unwrap_or_default();
    let mut words = command.split_whitespace();
    let program = if handler.get("args").is_some() { command } else { words.next().unwrap_or_default() };
    let verb = match handler.get("args").and_then(|args| args.get(0)).and_then(Value::as_str) {
        Some(first) => first,
        None => words.next().unwrap_or_default(),
    };
    program.rsplit('/').next() == Some("claudemesh") && verb == "hook"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_told_from_others() {
        for (handler, expected) in [
            (json!({ "type": "command", "command": "claudemesh", "args": ["hook", "Stop"] }), true),
            (json!({ "type": "command", "command": "/opt/a b/claudemesh", "args": ["hook", "Stop"] }), true),
            (json!({ "type": "command", "command": "claudemesh hook idle" }), true),
            (json!({ "type": "command", "command": "claudemesh inbox" }), false),
            (json!({ "type": "command", "command": "notify-claudemesh hook" }), false),
            (json!({ "type": "command", "command": "echo", "args": ["claudemesh", "hook"] }), false),
            (json!({ "type": "prompt" }), false),
        ] {
            assert_eq!(is_ours(&handler), expected, "{handler}");
        }
        let plugin: Value = crate::wire::json::decode(include_bytes!("../../../contrib/plugin/hooks/hooks.json")).unwrap();
        assert_eq!(plugin["hooks"], hooks("claudemesh"), "the plugin says the same");
        assert!(has_ours(&plugin) && !has_ours(&json!({ "hooks": { "Stop": [{ "hooks": [{ "command": "x" }] }, 7] } })));
        let ours = hooks("/usr/bin/claudemesh");
        let handlers = ours.as_object().unwrap().values().flat_map(|groups| groups[0]["hooks"].as_array().unwrap());
        assert!(handlers.clone().all(is_ours) && handlers.count() == 12);
    }
}
