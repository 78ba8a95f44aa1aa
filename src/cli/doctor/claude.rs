//! The client: whether it is there, and whether it knows of this program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Finding, Scene};
use crate::base::names::neutralise_line;
use crate::base::thread::{self, Joined};
use crate::cli::hook::settings;
use crate::cli::verbs::launch;
use crate::wire::json::Value;

/// The client starts an interpreter to say its version.
const PATIENCE: Duration = Duration::from_secs(15);

/// Reads what a short command says.
const STACK: usize = 128 * 1024;

/// The version that every way into a session was tried with.
const TRIED: [u32; 3] = [2, 1, 197];

/// What gives a machine the client.
const GET: &str = "npm install -g @anthropic-ai/claude-code";

const INSTALL: &str = "claudemesh install";

pub(super) fn version(_: &Scene) -> Vec<Finding> {
    let Some(path) = launch::claude() else {
        return vec![Finding::failed("claude is not installed, or not on PATH", GET)];
    };
    let said = match say_version(&path) {
        Ok(said) => said,
        Err(why) => return vec![Finding::failed(format!("{} does not run: {why}", path.display()), GET)],
    };
    let shown = neutralise_line(said.trim());
    vec![match number(&said) {
        Some(version) if TRIED <= version => {
            Finding::ok(format!("{shown}: mail gets in at prompts, beside tools, at the end of a turn, and by waking"))
        }
        Some(_) => {
            let tried = TRIED.map(|part| part.to_string()).join(".");
            let text = format!("{shown} is older than {tried}: it may not wake an idle session");
            Finding { fix: Some("claude update".to_owned()), ..Finding::unknown(text) }
        }
        None => Finding::unknown(format!("{} says \"{shown}\", which is no version", path.display())),
    }]
}

fn say_version(path: &Path) -> Result<String, String> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().map_err(|err| err.to_string())?;
    let running = thread::spawn("claude", STACK, move || child.wait_with_output()).map_err(|err| err.to_string())?;
    match running.join_by(Instant::now() + PATIENCE) {
        Joined::Ended(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).chars().take(200).collect())
        }
        Joined::Ended(Ok(output)) => Err(output.status.to_string()),
        Joined::Ended(Err(err)) => Err(err.to_string()),
        Joined::Panicked | Joined::Late => Err("it does not answer".to_owned()),
    }
}

/// The three numbers that a version begins with.
fn number(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split_whitespace().next()?.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

pub(super) fn hooks(scene: &Scene) -> Vec<Finding> {
    let found = match &scene.claude_settings {
        Ok(found) => found,
        Err(why) => return vec![unreadable(why)],
    };
    if has_plugin(found) {
        return vec![Finding::ok("by the plugin")];
    }
    let Value::Object(wanted) = settings::hooks("claudemesh") else { return Vec::new() };
    let handlers = |event: &str| -> Vec<&Value> {
        let groups = found.get("hooks").and_then(|hooks| hooks.get(event)).and_then(Value::as_array);
        groups.into_iter().flatten().filter_map(|group| group.get("hooks")?.as_array()).flatten().collect()
    };
    let missing: Vec<&str> =
        wanted.keys().filter(|event| !handlers(event).into_iter().any(settings::is_ours)).map(String::as_str).collect();
    if missing.len() == wanted.len() {
        let text = "claude's settings have none; only sessions of `claudemesh launch` hear their mail";
        // `launch` brings them for its session; where an installation has put them, they have gone since.
        let is_installed = !scene.installed.is_null();
        return vec![if is_installed { Finding::failed(text, INSTALL) } else { Finding::note(text, INSTALL) }];
    }
    if !missing.is_empty() {
        return vec![Finding::failed(format!("claude's settings have none at {}", missing.join(", ")), INSTALL)];
    }
    let programs = wanted.keys().flat_map(|event| handlers(event)).filter(|handler| settings::is_ours(handler));
    let lost = programs.filter_map(|handler| handler.get("command")?.as_str()).find(|program| !is_there(program));
    vec![match lost {
        Some(program) => Finding::failed(format!("they run {program}, which is not there"), INSTALL),
        None => Finding::ok(format!("at {} events", wanted.len())),
    }]
}

pub(super) fn hooks_allowed(scene: &Scene) -> Vec<Finding> {
    let Ok(found) = &scene.claude_settings else { return Vec::new() };
    match found.get("disableAllHooks") {
        Some(Value::Bool(true)) => {
            vec![Finding::failed("claude's settings say disableAllHooks: no hook fires", "claudemesh install --enable-hooks")]
        }
        _ => vec![Finding::ok("no setting forbids them")],
    }
}

pub(super) fn server(scene: &Scene) -> Vec<Finding> {
    let found = match (&scene.claude_state, &scene.claude_settings) {
        (Err(why), _) => return vec![unreadable(why)],
        (Ok(_), Ok(settings)) if has_plugin(settings) => return vec![Finding::ok("by the plugin")],
        (Ok(found), _) => found,
    };
    let Some(entry) = found.get("mcpServers").and_then(|servers| servers.get("claudemesh")) else {
        let was_put = scene.installed.get("server").is_some();
        return vec![match was_put {
            true => Finding::failed("claude does not know it any more", INSTALL),
            false => Finding::note("claude knows it in sessions of `claudemesh launch` only", INSTALL),
        }];
    };
    let program = entry.get("command").and_then(Value::as_str).unwrap_or_default();
    vec![if is_there(program) {
        Finding::ok(format!("runs {program}"))
    } else {
        Finding::failed(format!("it is to run \"{program}\", which is not there"), INSTALL)
    }]
}

fn unreadable(why: &str) -> Finding {
    Finding::failed(why, "claude doctor")
}

/// Whether this program's plugin is on.
fn has_plugin(settings: &Value) -> bool {
    let plugins = settings.get("enabledPlugins").and_then(Value::as_object);
    plugins.into_iter().flatten().any(|(name, on)| name.split('@').next() == Some("claudemesh") && *on == Value::Bool(true))
}

/// Whether a command of the client's files leads to a program. The reference's has its words in one string.
fn is_there(command: &str) -> bool {
    let whole = PathBuf::from(command);
    whole.is_file() || command.split(' ').next().is_some_and(|first| launch::find(&OsString::from(first)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::json;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(number("2.1.197 (Claude Code)\n"), Some(TRIED));
        assert!(number("2.1.99").is_some_and(|version| version < TRIED));
        for odd in ["", "claude", "2.1", "2.x.3"] {
            assert_eq!(number(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_plugin_counts_if_it_is_on() {
        for (settings, expected) in [
            (json!({ "enabledPlugins": { "claudemesh@market": true } }), true),
            (json!({ "enabledPlugins": { "claudemesh@market": false, "other@market": true } }), false),
            (json!({}), false),
        ] {
            assert_eq!(has_plugin(&settings), expected, "{settings}");
        }
    }
}
