//! The command line of claude: for this run alone it names the session, this program's MCP server and its hooks.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::base::names::is_uuid;
use crate::cli::error::CliError;
use crate::cli::hook;
use crate::cli::install;
use crate::cli::parse::Parsed;
use crate::cli::verbs::mcp::CHANNELS;
use crate::wire::json::{self, Value, json};

use super::{CONTINUE, RESUME, Session, missing};

/// With this claude shows what an MCP server notifies it of.
const CHANNELS_FLAG: &str = "--dangerously-load-development-channels";

/// By these the user says which session it is to be.
const WHICH: [&str; 6] = ["--resume", "-r", "--continue", "-c", "--session-id", "--from-pr"];

/// Says that the user's own settings file is not read.
const SOURCES: &str = "--setting-sources";

const SETTINGS: &str = "--settings";

pub(super) fn command(parsed: &Parsed, session: &Session) -> Result<Command, CliError> {
    let claude = super::claude().ok_or_else(|| {
        missing("claude").with_hint("install Claude Code, or name another command: claudemesh launch -- <command>")
    })?;
    let mut command = Command::new(claude);
    match (parsed.value(&RESUME), parsed.is_set(&CONTINUE)) {
        (Some(id), _) => drop(command.args(["--resume", id])),
        (None, true) => drop(command.arg("--continue")),
        (None, false) if WHICH.iter().any(|flag| has(&parsed.tail, flag)) => {}
        (None, false) => drop(command.args(["--session-id", session.id.as_str()])),
    }
    command.arg("--mcp-config").arg(mcp_config()?);
    let (given, rest) = take_out(&parsed.tail, SETTINGS);
    if let Some(settings) = settings(given.as_deref(), has(&parsed.tail, SOURCES))? {
        command.arg(SETTINGS).arg(settings);
    }
    command.env(CHANNELS, if has(&parsed.tail, CHANNELS_FLAG) { "on" } else { "off" }).args(rest);
    Ok(command)
}

/// The session that flags for claude name, where they name one that can be known.
pub(super) fn session_of(tail: &[OsString]) -> Option<String> {
    let named = ["--resume", "-r", "--session-id"].iter().find_map(|flag| take_out(tail, flag).0);
    match named {
        Some(id) => id.into_string().ok().filter(|id| is_uuid(id)),
        None if has(tail, "--continue") || has(tail, "-c") => last_session(),
        None => None,
    }
}

/// The id of the session that claude would continue here: its newest transcript of this directory.
pub(super) fn last_session() -> Option<String> {
    let dir = std::env::current_dir().ok()?.to_str()?.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let files = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = files("CLAUDE_CONFIG_DIR").or_else(|| Some(files("HOME")?.join(".claude")))?;
    let transcripts = config.join("projects").join(dir);
    let newest = fs::read_dir(transcripts)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.strip_suffix(".jsonl")?.to_owned();
            Some((entry.metadata().ok()?.modified().ok()?, id))
        })
        .filter(|(_, id)| is_uuid(id))
        .max()?;
    Some(newest.1)
}

/// Whether a flag is among what goes to claude.
fn has(tail: &[OsString], flag: &str) -> bool {
    tail.iter().any(|word| word.to_string_lossy().split('=').next() == Some(flag))
}

/// The value of a flag, and everything else.
fn take_out(tail: &[OsString], flag: &str) -> (Option<OsString>, Vec<OsString>) {
    let mut rest = Vec::new();
    let mut value = None;
    let mut words = tail.iter();
    while let Some(word) = words.next() {
        match word.to_str().and_then(|word| word.strip_prefix(flag)) {
            Some("") => value = words.next().cloned(),
            Some(behind) if behind.starts_with('=') => value = Some(behind[1..].into()),
            _ => rest.push(word.clone()),
        }
    }
    (value, rest)
}

/// What claude is to be given as settings: the user's, and with them this program's hooks, unless an installation has put those
/// into the user's own file already: then each would run twice.
fn settings(given: Option<&OsStr>, other_sources: bool) -> Result<Option<OsString>, CliError> {
    if install::Client::from_env().is_ok_and(|client| client.has_hooks()) && !other_sources {
        return Ok(given.map(OsStr::to_owned));
    }
    let me = std::env::current_exe().map_err(|err| CliError::io("this program's own path is not known", err))?;
    let hooks = hook::settings::hooks(&me.to_string_lossy());
    let Some(given) = given else { return Ok(Some(json::encode(&json!({ "hooks": hooks })).into())) };
    match read(given).and_then(|settings| with_hooks(settings, &hooks)) {
        Some(merged) => Ok(Some(json::encode(&merged).into())),
        None => {
            let text = format!("{SETTINGS}: neither JSON nor a file of JSON: {}", given.to_string_lossy());
            Err(CliError::usage(text).with_hint("claude takes an object, as its settings.json has it"))
        }
    }
}

/// The settings that were given as JSON, or in a file.
fn read(given: &OsStr) -> Option<Value> {
    let text = given.to_str().filter(|text| text.trim_start().starts_with('{')).map(str::to_owned);
    let text = text.or_else(|| fs::read_to_string(given).ok())?;
    json::decode(text.as_bytes()).ok()
}

/// Adds hooks behind those that are there. `None` if it is not what settings look like.
fn with_hooks(mut settings: Value, hooks: &Value) -> Option<Value> {
    let all = settings.as_object_mut()?;
    let events = all.entry("hooks".to_owned()).or_insert_with(|| json!({})).as_object_mut()?;
    for (event, groups) in hooks.as_object()? {
        let present = events.entry(event.clone()).or_insert_with(|| json!([])).as_array_mut()?;
        present.extend(groups.as_array()?.iter().cloned());
    }
    Some(settings)
}

/// This program's MCP server, as claude's `--mcp-config` takes it.
fn mcp_config() -> Result<String, CliError> {
    let me = std::env::current_exe().map_err(|err| CliError::io("this program's own path is not known", err))?;
    Ok(json::encode(&json!({ "mcpServers": { "claudemesh": { "command": me.to_string_lossy(), "args": ["mcp"] } } })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn flags_for_claude_name_the_session() {
        let id = "01234567-89ab-cdef-0123-456789abcdef";
        for (line, expected) in [
            (format!("--resume {id}"), Some(id)),
            (format!("-p hello -r {id}"), Some(id)),
            (format!("--session-id={id}"), Some(id)),
            ("--resume".to_owned(), None),
            ("--resume name-of-a-session".to_owned(), None),
            ("--model opus".to_owned(), None),
        ] {
            assert_eq!(session_of(&words(&line)).as_deref(), expected, "{line}");
        }
        assert!(WHICH.iter().any(|flag| has(&words("-p x --resume"), flag)));
        assert_eq!(take_out(&words("-p x --settings {} --model y"), SETTINGS), (Some("{}".into()), words("-p x --model y")));
    }

    #[test]
    fn the_users_settings_are_kept_and_hooks_come_on_top() {
        let theirs = json!({ "model": "x", "hooks": { "Stop": [{ "hooks": [1] }] } });
        let merged = with_hooks(theirs, &json!({ "Stop": [{ "hooks": [2] }], "SessionEnd": [3] })).unwrap();
        let expected = json!({ "model": "x", "hooks": { "Stop": [{ "hooks": [1] }, { "hooks": [2] }], "SessionEnd": [3] } });
        assert_eq!(merged, expected);
        for odd in [json!([]), json!({ "hooks": [] }), json!({ "hooks": { "Stop": 7 } })] {
            assert_eq!(with_hooks(odd, &json!({ "Stop": [] })), None);
        }
        assert_eq!(read(OsStr::new(" {\"a\":1}")), Some(json!({ "a": 1 })));
        assert_eq!(read(OsStr::new("/nowhere")), None);
    }
}
