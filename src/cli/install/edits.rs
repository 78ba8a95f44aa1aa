//! What an installation changes in the client's files, and what taking it away again leaves as it was.

use super::allowed;
use crate::cli::hook::settings;
use crate::wire::json::{Value, json};
use crate::wire::tree::Tree;

const NAME: &str = "claudemesh";

/// The file has a shape that is not the client's; it is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Odd(pub(super) &'static str);

/// Names this program as an MCP server in `~/.claude.json`.
pub(super) fn add_server(file: &mut Tree, program: &str) -> Result<(), Odd> {
    let servers = file.entry("mcpServers", Tree::object).ok_or(Odd("the file"))?;
    let entry = servers.entry(NAME, Tree::object).ok_or(Odd("mcpServers"))?;
    let is_ours = |entry: &Tree| {
        let entry = entry.value();
        entry.get("command").and_then(Value::as_str) == Some(program) && entry.get("args") == Some(&json!(["mcp"]))
    };
    // Whoever added something to it, an environment say, keeps it.
    if !is_ours(entry) {
        *entry = Tree::from(json!({ "command": program, "args": ["mcp"], "env": { "CLAUDEMESH_CHANNELS": "off" } }));
    }
    Ok(())
}

pub(super) fn remove_server(file: &mut Tree) -> Result<(), Odd> {
    take_out(file, "mcpServers", |servers| {
        servers.remove(NAME);
    });
    Ok(())
}

/// Adds the hooks and permissions to `settings.json`.
pub(super) fn add_settings(file: &mut Tree, program: &str) -> Result<(), Odd> {
    let hooks = file.entry("hooks", Tree::object).ok_or(Odd("the file"))?;
    if !matches!(hooks, Tree::Object(_)) {
        return Err(Odd("hooks"));
    }
    strip(hooks);
    let Value::Object(ours) = settings::hooks(program) else { return Ok(()) };
    for (event, groups) in ours {
        let Some(Tree::Array(present)) = hooks.entry(&event, || Tree::Array(Vec::new())) else { return Err(Odd("hooks")) };
        if let Tree::Array(groups) = Tree::from(groups) {
            present.extend(groups);
        }
    }
    let permissions = file.entry("permissions", Tree::object).ok_or(Odd("the file"))?;
    let allow = permissions.entry("allow", || Tree::Array(Vec::new())).ok_or(Odd("permissions"))?;
    let Tree::Array(allow) = allow else { return Err(Odd("permissions.allow")) };
    allow.retain(|rule| !allowed::FORMER.iter().any(|former| *rule == Tree::Leaf((*former).into())));
    for rule in allowed::rules().into_iter().map(|rule| Tree::Leaf(rule.into())) {
        if !allow.contains(&rule) {
            allow.push(rule);
        }
    }
    Ok(())
}

pub(super) fn remove_settings(file: &mut Tree) -> Result<(), Odd> {
    take_out(file, "hooks", |hooks| {
        strip(hooks);
        if let Tree::Object(events) = hooks {
            events.retain(|(_, groups)| !groups.is_empty());
        }
    });
    take_out(file, "permissions", |permissions| {
        take_out(permissions, "allow", |allow| {
            if let Tree::Array(rules) = allow {
                let ours = allowed::rules().into_iter().chain(allowed::FORMER.map(str::to_owned));
                let ours: Vec<Tree> = ours.map(|rule| Tree::Leaf(rule.into())).collect();
                rules.retain(|rule| !ours.contains(rule));
            }
        });
    });
    Ok(())
}

/// Changes the value of a key, and takes the key along if that leaves nothing of it.
fn take_out(tree: &mut Tree, key: &str, change: impl FnOnce(&mut Tree)) {
    let Some(value) = tree.get_mut(key) else { return };
    let was_empty = value.is_empty();
    change(value);
    if value.is_empty() && !was_empty {
        tree.remove(key);
    }
}

/// Takes our handlers out of every event, and groups that hold nothing else.
fn strip(hooks: &mut Tree) {
    let Tree::Object(events) = hooks else { return };
    for (_, groups) in events {
        let Tree::Array(groups) = groups else { continue };
        groups.retain_mut(|group| {
            let Some(Tree::Array(handlers)) = group.get_mut("hooks") else { return true };
            let before = handlers.len();
            handlers.retain(|handler| !settings::is_ours(&handler.value()));
            before == handlers.len() || !handlers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{decode, encode};

    const FOREIGN: &str = r#"{"zeta":1,"hooks":{"Stop":[{"matcher":"x","hooks":[{"type":"command","command":"say done"}]}],"PreToolUse":[]},"permissions":{"deny":["Read(.env)"],"allow":["Bash(ls:*)"]},"alpha":{"b":1,"a":2}}"#;

    fn tree(text: &str) -> Tree {
        decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_was_there_stays_and_comes_back() {
        for text in ["{}", FOREIGN, r#"{"permissions":{},"hooks":{}}"#] {
            let mut file = tree(text);
            add_settings(&mut file, "/bin/claudemesh").unwrap();
            let once = encode(&file);
            assert!(once.contains("asyncRewake") && once.contains("Bash(claudemesh peer list:*)"));
            add_settings(&mut file, "/bin/claudemesh").unwrap();
            assert_eq!(encode(&file), once, "twice is once");
            add_settings(&mut file, "/opt/claudemesh").unwrap();
            assert!(!encode(&file).contains("/bin/"), "a program that moved is named where it is");
            remove_settings(&mut file).unwrap();
            let left = encode(&file);
            if text == FOREIGN {
                assert_eq!(left, text.replace(r#","PreToolUse":[]"#, ""));
            } else {
                assert_eq!(left, "{}");
            }
        }
    }

    #[test]
    fn rules_that_allowed_too_much_are_taken_away() {
        let mut file = tree(r#"{"permissions":{"allow":["Bash(claudemesh inbox:*)","Bash(claudemesh send:*)"]}}"#);
        add_settings(&mut file, "claudemesh").unwrap();
        let text = encode(&file);
        assert!(!text.contains("inbox:*") && text.contains("send:*") && text.contains("Bash(claudemesh inbox)"), "{text}");
    }

    #[test]
    fn the_references_hooks_are_replaced() {
        let mut file = tree(r#"{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"claudemesh hook idle"}]}]}}"#);
        add_settings(&mut file, "claudemesh").unwrap();
        assert!(!encode(&file).contains("hook idle"));
    }

    #[test]
    fn a_server_entry_keeps_what_its_user_added() {
        let mut file = tree(r#"{"numStartups":3,"mcpServers":{"other":{"command":"x"}},"projects":{}}"#);
        add_server(&mut file, "claudemesh").unwrap();
        let entry = file.get_mut("mcpServers").unwrap().get_mut(NAME).unwrap();
        *entry.entry("env", Tree::object).unwrap() = Tree::from(json!({ "A": "b" }));
        let changed = file.clone();
        add_server(&mut file, "claudemesh").unwrap();
        assert_eq!(file, changed);
        remove_server(&mut file).unwrap();
        assert_eq!(encode(&file), r#"{"numStartups":3,"mcpServers":{"other":{"command":"x"}},"projects":{}}"#);
    }

    #[test]
    fn what_is_not_the_clients_shape_is_refused() {
        for (text, odd) in [
            ("[]", "the file"),
            (r#"{"hooks":[]}"#, "hooks"),
            (r#"{"hooks":{"Stop":1}}"#, "hooks"),
            (r#"{"permissions":{"allow":{}}}"#, "permissions.allow"),
        ] {
            assert_eq!(add_settings(&mut tree(text), "claudemesh"), Err(Odd(odd)), "{text}");
        }
        assert_eq!(add_server(&mut tree(r#"{"mcpServers":7}"#), "claudemesh"), Err(Odd("mcpServers")));
    }
}
