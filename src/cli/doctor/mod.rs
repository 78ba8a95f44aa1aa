//! Whether everything that a message needs on its way is as it should be: a table of checks, each of which looks and changes
//! nothing. What is wrong is said with the one command that puts it right.

mod brokers;
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
use crate::wire::json::{self, Value};

/// One thing that is looked at.
pub(super) struct Check {
    pub(super) name: &'static str,
    run: fn(&Scene) -> Vec<Finding>,
}

/// Every check, in the order of a message's way.
const CHECKS: [Check; 17] = [
    Check { name: "daemon", run: daemon::runs },
    Check { name: "version", run: daemon::version },
    Check { name: "service", run: daemon::service },
    Check { name: "socket", run: files::socket },
    Check { name: "TCP", run: daemon::tcp },
    Check { name: "config", run: files::config },
    Check { name: "settings", run: files::settings },
    Check { name: "permissions", run: files::permissions },
    Check { name: "broker", run: brokers::brokers },
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
    /// It is not so here, and need not be.
    Note,
    /// It can not be told from here, or nothing has happened yet.
    Unknown,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    verdict: Verdict,
    text: String,
    /// What a person has to see to first, where no command does.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// The command that puts it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Ok, text: text.into(), advice: None, fix: None }
    }

    fn failed(text: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Failed, text: text.into(), advice: None, fix: Some(fix.into()) }
    }

    /// With what a person has to see to before the command helps.
    fn after(self, advice: impl Into<String>) -> Finding {
        Finding { advice: Some(advice.into()), ..self }
    }

    fn note(text: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Note, ..Finding::failed(text, fix) }
    }

    fn unknown(text: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Unknown, text: text.into(), advice: None, fix: None }
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
    /// What an installation has noted of itself; null where there was none.
    installed: Value,
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
        let installed = std::fs::read(paths.installed_file()).ok().and_then(|text| json::decode(&text).ok()).unwrap_or_default();
        Ok(Scene {
            other_version: crate::cli::context::skew(client).map(str::to_owned),
            paths,
            health,
            sessions,
            claude_state: files.state(),
            claude_settings: files.settings(),
            installed,
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
            Verdict::Note | Verdict::Unknown => out.info(&format!("· {text}"))?,
        }
        if let Some(advice) = &finding.advice {
            out.hint(advice)?;
        }
        if let Some(fix) = &finding.fix {
            let lead = match (finding.verdict, &finding.advice) {
                (Verdict::Note, _) => "if it should be, run",
                (_, Some(_)) => "then run",
                (_, None) => "run",
            };
            out.hint(&format!("{lead}: {fix}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
impl Scene {
    /// A machine with these meshes and nothing else.
    fn of_meshes(meshes: &Value) -> Scene {
        use crate::wire::json::{Map, json};
        let rows = meshes.as_object().expect("an object");
        let brokers: Map<String, Value> = rows.iter().map(|(slug, mesh)| (slug.clone(), mesh["status"].clone())).collect();
        let health = json!({ "ok": true, "pid": 1, "brokers": brokers, "meshes": meshes });
        Scene {
            paths: Paths::under(std::path::Path::new("/no/such")),
            health: Ok(json::from_value(health).expect("what a daemon says")),
            other_version: None,
            sessions: Vec::new(),
            claude_state: Ok(Value::Null),
            claude_settings: Ok(Value::Null),
            installed: Value::Null,
        }
    }
}

#[cfg(test)]
impl Finding {
    /// All of it on one line.
    fn said(self) -> String {
        let advice = self.advice.map(|advice| format!(" ({advice})")).unwrap_or_default();
        format!("{}{advice} -> {}", self.text, self.fix.unwrap_or_default())
    }
}
