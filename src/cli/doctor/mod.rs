//! Whether everything that a message needs on its way is as it should be: a table of checks, each of which looks and changes
//! nothing. What is wrong is said with the one command that puts it right.

mod claude;
mod daemon;
mod files;
pub(super) mod live;
mod sessions;

use serde::Serialize;

use crate::base::paths::Paths;
use crate::cli::error::CliError;
use crate::cli::install;
use crate::cli::render::Out;
use crate::client::{Client, Error};
use crate::wire::ipc::{Health, SessionView};
use crate::wire::json::Value;

/// One thing that is looked at.
pub(super) struct Check {
    pub(super) name: &'static str,
    run: fn(&Scene) -> Vec<Finding>,
}

/// Every check, in the order of a message's way.
const CHECKS: [Check; 16] = [
    Check { name: "daemon", run: daemon::runs },
    Check { name: "version", run: daemon::version },
    Check { name: "service", run: daemon::service },
    Check { name: "socket", run: files::socket },
    Check { name: "config", run: files::config },
    Check { name: "settings", run: files::settings },
    Check { name: "permissions", run: files::permissions },
    Check { name: "broker", run: daemon::brokers },
    Check { name: "clock", run: daemon::clocks },
    Check { name: "claude", run: claude::version },
    Check { name: "hooks", run: claude::hooks },
    Check { name: "hooks allowed", run: claude::hooks_allowed },
    Check { name: "MCP server", run: claude::server },
    Check { name: "hooks fire", run: sessions::hooks_fire },
    Check { name: "waking", run: sessions::waking },
    Check { name: "channel", run: sessions::channel },
];

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    Ok,
    Failed,
    /// It can not be told from here, or nothing has happened yet.
    Unknown,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    verdict: Verdict,
    text: String,
    /// The command that puts it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Ok, text: text.into(), fix: None }
    }

    fn failed(text: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Failed, text: text.into(), fix: Some(fix.into()) }
    }

    fn unknown(text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Unknown, text: text.into(), fix: None }
    }
}

/// A finding and the check it belongs to.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) check: &'static str,
    #[serde(flatten)]
    pub(super) finding: Finding,
}

impl Entry {
    pub(super) fn has_failed(&self) -> bool {
        self.finding.verdict == Verdict::Failed
    }
}

/// Everything that the checks look at more than once, looked up once.
struct Scene {
    paths: Paths,
    health: Result<Health, Error>,
    /// The daemon's version, if it is another than this program's.
    other_version: Option<String>,
    sessions: Vec<SessionView>,
    /// The client's own files, as far as they are there and can be read.
    claude_state: Result<Value, String>,
    claude_settings: Result<Value, String>,
}

impl Scene {
    fn look(paths: Paths, client: &Client) -> Result<Scene, CliError> {
        let health = client.health();
        let sessions = match &health {
            // A daemon that says how it is says who is there; if not, there is nobody to speak of.
            Ok(_) => client.sessions().map(|page| page.sessions).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let files = install::Client::from_env()?;
        Ok(Scene {
            other_version: crate::cli::context::skew(client).map(str::to_owned),
            paths,
            health,
            sessions,
            claude_state: files.state(),
            claude_settings: files.settings(),
        })
    }
}

/// Runs every check.
pub(super) fn examine(paths: Paths, client: &Client) -> Result<Vec<Entry>, CliError> {
    let scene = Scene::look(paths, client)?;
    let entries = CHECKS.iter().flat_map(|check| {
        let findings = (check.run)(&scene);
        findings.into_iter().map(|finding| Entry { check: check.name, finding })
    });
    Ok(entries.collect())
}

pub(super) fn show(entries: &[Entry], out: &mut Out) -> Result<(), CliError> {
    for Entry { check, finding } in entries {
        let text = format!("{check}: {}", finding.text);
        match finding.verdict {
            Verdict::Ok => out.ok(&text, None)?,
            Verdict::Failed => out.bad(&text)?,
            Verdict::Unknown => out.info(&format!("· {text}"))?,
        }
        if let Some(fix) = &finding.fix {
            out.hint(&format!("run: {fix}"))?;
        }
    }
    Ok(())
}
