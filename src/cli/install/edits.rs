//! What an installation changes in the client's files, and what taking it away again leaves as it was.

use super::allowed;
use super::record::{Put, Record};
use crate::cli::hook::settings;
use crate::wire::json::{Value, json};
use crate::wire::tree::Tree;

const NAME: &str = "claudemesh";

/// The file has a shape that is not the client's; it is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Odd(pub(super) &'static str);

fn list() -> Tree {
    Tree::Array(Vec::new())
}

/// Names this program as an MCP server in `~/.claude.json`.
pub(super) fn add_server(file: &mut Tree, program: &str, record: &mut Record) -> Result<(), Odd> {
    let servers = record.open(file, "", "mcpServers", Tree::object).ok_or(Odd("the file"))?;
    if !matches!(servers, Tree::Object(_)) {
        return Err(Odd("mcpServers"));
    }
    let before = servers.get(NAME).cloned();
    // Whoever added something to it, an environment say, keeps it.
    if before.as_ref().is_some_and(|entry| runs(entry, |command| command == program)) {
        return Ok(());
    }
    let entry = servers.entry(NAME, Tree::object).ok_or(Odd("mcpServers"))?;
    *entry = Tree::from(json!({ "command": program, "args": ["mcp"], "env": { "CLAUDEMESH_CHANNELS": "off" } }));
    // One of an earlier installation is ours already, wherever the program was then.
    record.server.get_or_insert(Put { replaced: before });
    Ok(())
}

pub(super) fn remove_server(file: &mut Tree, record: &Record) {
    let (Some(put), Some(servers)) = (&record.server, file.get_mut("mcpServers")) else { return };
    put_back(servers, NAME, put, |entry| runs(entry, |command| command.rsplit('/').next() == Some(NAME)));
    record.close(file, "", "mcpServers");
}

/// Whether an entry of `mcpServers` runs such a program as this.
fn runs(entry: &Tree, is_it: impl Fn(&str) -> bool) -> bool {
    let entry = entry.value();
    entry.get("command").and_then(Value::as_str).is_some_and(is_it) && entry.get("args") == Some(&json!(["mcp"]))
}

/// What is ours still gives its place to what it took it from.
fn put_back(tree: &mut Tree, key: &str, put: &Put, is_ours: impl Fn(&Tree) -> bool) {
    match (tree.get_mut(key).filter(|value| is_ours(value)), &put.replaced) {
        (Some(value), Some(replaced)) => *value = replaced.clone(),
        (Some(_), None) => drop(tree.remove(key)),
        (None, _) => {}
    }
}

/// Adds the hooks to `settings.json`, in place of those of earlier installations and of the reference's.
pub(super) fn add_hooks(file: &mut Tree, program: &str, record: &mut Record) -> Result<(), Odd> {
    let hooks = record.open(file, "", "hooks", Tree::object).ok_or(Odd("the file"))?;
    if !matches!(hooks, Tree::Object(_)) {
        return Err(Odd("hooks"));
    }
    if record.hooks.is_empty() {
        record.hooks = references(hooks);
    }
    strip(hooks);
    let Value::Object(ours) = settings::hooks(program) else { return Ok(()) };
    for (event, groups) in ours {
        let Some(Tree::Array(present)) = record.open(hooks, "hooks", &event, list) else { return Err(Odd("hooks")) };
        if let Tree::Array(groups) = Tree::from(groups) {
            present.extend(groups);
        }
    }
    Ok(())
}

pub(super) fn remove_hooks(file: &mut Tree, record: &Record) {
    let Some(hooks) = file.get_mut("hooks") else { return };
    strip(hooks);
    for (event, group) in &record.hooks {
        if let Some(Tree::Array(groups)) = hooks.entry(event, list) {
            groups.push(group.clone());
        }
    }
    let Value::Object(ours) = settings::hooks(NAME) else { return };
    ours.keys().for_each(|event| record.close(hooks, "hooks", event));
    record.close(file, "", "hooks");
}

/// The groups that hold the reference's hooks, in which the words stand in one string.
fn references(hooks: &Tree) -> Vec<(String, Tree)> {
    let Tree::Object(events) = hooks else { return Vec::new() };
    let mut found = Vec::new();
    for (event, groups) in events {
        let Tree::Array(groups) = groups else { continue };
        let is_one = |group: &&Tree| match group.get("hooks") {
            Some(Tree::Array(handlers)) => {
                !handlers.is_empty()
                    && handlers.iter().all(|handler| handler.get("args").is_none() && settings::is_ours(&handler.value()))
            }
            _ => false,
        };
        found.extend(groups.iter().filter(is_one).map(|group| (event.clone(), group.clone())));
    }
    found
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

/// Takes out what forbids every hook.
pub(super) fn enable_hooks(file: &mut Tree, record: &mut Record) {
    const KEY: &str = "disableAllHooks";
    if let Some(before) = file.get(KEY).cloned() {
        file.remove(KEY);
        record.hooks_disabled.get_or_insert(before);
    }
}

pub(super) fn forbid_hooks_again(file: &mut Tree, record: &Record) {
    if let Some(before) = &record.hooks_disabled {
        file.entry("disableAllHooks", || before.clone());
    }
}

/// Allows the commands that only look.
pub(super) fn add_rules(file: &mut Tree, record: &mut Record) -> Result<(), Odd> {
    let permissions = record.open(file, "", "permissions", Tree::object).ok_or(Odd("the file"))?;
    let allow = record.open(permissions, "permissions", "allow", list).ok_or(Odd("permissions"))?;
    let Tree::Array(allow) = allow else { return Err(Odd("permissions.allow")) };
    allow.retain(|rule| !allowed::FORMER.iter().any(|former| *rule == Tree::Leaf((*former).into())));
    for rule in allowed::rules() {
        let leaf = Tree::Leaf(rule.clone().into());
        if !allow.contains(&leaf) {
            allow.push(leaf);
            record.rules.push(rule);
        }
    }
    record.rules.sort_unstable();
    record.rules.dedup();
    Ok(())
}

pub(super) fn remove_rules(file: &mut Tree, record: &Record) {
    let Some(permissions) = file.get_mut("permissions") else { return };
    if let Some(Tree::Array(allow)) = permissions.get_mut("allow") {
        let ours: Vec<Tree> = record.rules.iter().map(|rule| Tree::Leaf(rule.clone().into())).collect();
        allow.retain(|rule| !ours.contains(rule));
    }
    record.close(permissions, "permissions", "allow");
    record.close(file, "", "permissions");
}

/// Shows the mesh in the client's status line, unless the user shows something else there.
pub(super) fn add_status_line(file: &mut Tree, program: &str, record: &mut Record) -> Result<(), Odd> {
    if file.get("statusLine").is_some_and(|line| !is_status_line(line)) {
        return Ok(());
    }
    let before = file.get("statusLine").cloned();
    let quoted = if program.contains([' ', '\'']) { format!("'{}'", program.replace('\'', r"'\''")) } else { program.to_owned() };
    let line = file.entry("statusLine", Tree::object).ok_or(Odd("the file"))?;
    *line = Tree::from(json!({ "type": "command", "command": format!("{quoted} status-line") }));
    if before.as_ref() != Some(line) {
        record.status_line.get_or_insert(Put { replaced: before });
    }
    Ok(())
}

pub(super) fn remove_status_line(file: &mut Tree, record: &Record) {
    if let Some(put) = &record.status_line {
        put_back(file, "statusLine", put, is_status_line);
    }
}

/// Whether a status line is ours, or the reference's.
fn is_status_line(line: &Tree) -> bool {
    let line = line.value();
    let command = line.get("command").and_then(Value::as_str).unwrap_or_default();
    let program = command.strip_suffix(" status-line").unwrap_or_default().trim_matches('\'');
    program.rsplit('/').next() == Some(NAME)
}

/// What an installation that left no record has put there.
pub(super) fn assumed() -> Record {
    let Value::Object(events) = settings::hooks(NAME) else { return Record::default() };
    let keys = ["mcpServers", "hooks", "permissions", "permissions/allow"].map(str::to_owned);
    Record {
        keys: keys.into_iter().chain(events.keys().map(|event| format!("hooks/{event}"))).collect(),
        rules: allowed::rules().into_iter().chain(allowed::FORMER.map(str::to_owned)).collect(),
        server: Some(Put::default()),
        skill: Some(Put::default()),
        status_line: Some(Put::default()),
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{decode, encode};

    const FOREIGN: &str = r#"{"zeta":1,"hooks":{"Stop":[{"matcher":"x","hooks":[{"type":"command","command":"say done"}]}],"PreToolUse":[],"SessionEnd":[]},"permissions":{"deny":["Read(.env)"],"allow":["Bash(ls:*)","Bash(claudemesh whoami:*)"]},"alpha":{"b":1,"a":2}}"#;
    const REFERENCE: &str = r#"{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"claudemesh hook idle"}]}]},"statusLine":{"type":"command","command":"claudemesh status-line"}}"#;

    fn tree(text: &str) -> Tree {
        decode(text.as_bytes()).unwrap()
    }

    fn add(file: &mut Tree, program: &str, record: &mut Record) {
        add_hooks(file, program, record).unwrap();
        add_rules(file, record).unwrap();
        add_status_line(file, program, record).unwrap();
        enable_hooks(file, record);
    }

    fn remove(file: &mut Tree, record: &Record) {
        remove_hooks(file, record);
        remove_rules(file, record);
        remove_status_line(file, record);
        forbid_hooks_again(file, record);
    }

    #[test]
    fn what_was_there_stays_and_comes_back() {
        let own_line = r#"{"statusLine":{"type":"command","command":"my-line"},"disableAllHooks":true}"#;
        for text in ["{}", FOREIGN, r#"{"permissions":{},"hooks":{}}"#, r#"{"permissions":{"allow":[]}}"#, REFERENCE, own_line] {
            let (mut file, mut record) = (tree(text), Record::default());
            add(&mut file, "/bin/claudemesh", &mut record);
            let once = encode(&file);
            assert!(once.contains("asyncRewake") && once.contains("Bash(claudemesh peer list:*)") && !once.contains("hook idle"));
            assert!(!once.contains("disableAllHooks"));
            add(&mut file, "/bin/claudemesh", &mut record);
            assert_eq!(encode(&file), once, "twice is once");
            add(&mut file, "/opt/claudemesh", &mut record);
            assert!(!encode(&file).contains("/bin/"), "a program that moved is named where it is");
            // As it is kept between the two.
            let record: Record = decode(encode(&record).as_bytes()).unwrap();
            remove(&mut file, &record);
            assert_eq!(encode(&file), encode(&tree(text)));
        }
    }

    #[test]
    fn what_the_user_did_meanwhile_stays() {
        let (mut file, mut record) = (tree("{}"), Record::default());
        add(&mut file, "claudemesh", &mut record);
        *file.entry("statusLine", Tree::object).unwrap() = Tree::from(json!({ "type": "command", "command": "mine" }));
        let Some(Tree::Array(allow)) = file.get_mut("permissions").unwrap().get_mut("allow") else { panic!() };
        allow.push(Tree::Leaf("Bash(ls:*)".into()));
        remove(&mut file, &record);
        let expected = r#"{"permissions":{"allow":["Bash(ls:*)"]},"statusLine":{"command":"mine","type":"command"}}"#;
        assert_eq!(encode(&file), expected);
    }

    #[test]
    fn without_a_record_everything_of_ours_is_taken_for_added() {
        let mut file = tree("{}");
        add(&mut file, "claudemesh", &mut Record::default());
        add_server(&mut file, "claudemesh", &mut Record::default()).unwrap();
        remove(&mut file, &assumed());
        remove_server(&mut file, &assumed());
        assert_eq!(encode(&file), "{}");
    }

    #[test]
    fn rules_that_allowed_too_much_are_taken_away() {
        let mut file = tree(r#"{"permissions":{"allow":["Bash(claudemesh inbox:*)","Bash(claudemesh send:*)"]}}"#);
        add_rules(&mut file, &mut Record::default()).unwrap();
        let text = encode(&file);
        assert!(!text.contains("inbox:*") && text.contains("send:*") && text.contains("Bash(claudemesh inbox)"), "{text}");
    }

    #[test]
    fn a_server_entry_keeps_what_its_user_added_and_the_one_before_comes_back() {
        let bare = r#"{"numStartups":3,"mcpServers":{"other":{"command":"x"}},"projects":{}}"#;
        let (mut file, mut record) = (tree(bare), Record::default());
        add_server(&mut file, "claudemesh", &mut record).unwrap();
        let entry = file.get_mut("mcpServers").unwrap().get_mut(NAME).unwrap();
        *entry.entry("env", Tree::object).unwrap() = Tree::from(json!({ "A": "b" }));
        let changed = file.clone();
        add_server(&mut file, "claudemesh", &mut record).unwrap();
        assert_eq!(file, changed);
        remove_server(&mut file, &record);
        assert_eq!(encode(&file), bare);

        for own in [
            r#"{"mcpServers":{"claudemesh":{"command":"node","args":["/x/cli.js","mcp"],"env":{"A":"b"}}}}"#,
            r#"{"mcpServers":{"claudemesh":{"command":"claudemesh","args":["mcp"]}}}"#,
            r#"{"mcpServers":{}}"#,
        ] {
            let (mut file, mut record) = (tree(own), Record::default());
            add_server(&mut file, "claudemesh", &mut record).unwrap();
            assert!(encode(&file).contains(r#""command":"claudemesh""#));
            remove_server(&mut file, &record);
            assert_eq!(encode(&file), own);
        }
    }

    #[test]
    fn what_is_not_the_clients_shape_is_refused() {
        for (text, odd) in [("[]", "the file"), (r#"{"hooks":[]}"#, "hooks"), (r#"{"hooks":{"Stop":1}}"#, "hooks")] {
            assert_eq!(add_hooks(&mut tree(text), "claudemesh", &mut Record::default()), Err(Odd(odd)), "{text}");
        }
        let odd = add_rules(&mut tree(r#"{"permissions":{"allow":{}}}"#), &mut Record::default());
        assert_eq!(odd, Err(Odd("permissions.allow")));
        let odd = add_server(&mut tree(r#"{"mcpServers":7}"#), "claudemesh", &mut Record::default());
        assert_eq!(odd, Err(Odd("mcpServers")));
    }
}
