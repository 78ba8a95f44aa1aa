//! `status`: is everything connected, and if not, why not.

use serde::Serialize;

use crate::base::exit::Exit;
use crate::base::names::neutralise_line;
use crate::cli::context::{VERSION, cold, paths, say_skew, skew};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::{Line, Out, Style};
use crate::cli::spec::{Effect, Example, Group, Verb};
use crate::client::{self, OutboxStatus};
use crate::wire::ipc::{Health, LinkStatus, MeshHealth};

/// A clock this far from the broker's, in milliseconds, is worth a word; at a minute the broker refuses.
const WORTH_A_WORD: u64 = 5_000;

pub(in crate::cli) const VERB: Verb = Verb {
    name: "status",
    aliases: &["profile status"],
    group: Group::Sessions,
    about: "Show whether everything is connected.",
    long: "The status is 0 only if the daemon runs and the link of every joined mesh is open. Starts nothing.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh status", about: "what is connected, and what waits" }],
    run,
};

#[derive(Serialize)]
struct Status<'a> {
    ok: bool,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<&'a Health>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_version: Option<&'a str>,
}

fn run(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let client = cold(None)?;
    let health = match client.health() {
        Ok(health) => health,
        Err(client::Error::NoDaemon(_)) => return not_running(out),
        Err(err) => return Err(err.into()),
    };
    let open = !health.brokers.is_empty() && health.brokers.values().all(|status| *status == LinkStatus::Open);
    if out.is_json() {
        out.json(&Status {
            ok: open,
            running: true,
            health: Some(&health),
            version: client.daemon_version().map(|_| VERSION),
            daemon_version: client.daemon_version(),
        })?;
    } else {
        show(&health, client.daemon_version(), out)?;
    }
    skew(&client).map_or(Ok(()), |version| say_skew(version, out))?;
    Ok(match (open, health.brokers.is_empty()) {
        (true, _) => Exit::Success,
        (false, true) => Exit::Unavailable,
        (false, false) => Exit::Network,
    })
}

fn not_running(out: &mut Out) -> Result<Exit, CliError> {
    if out.is_json() {
        out.json(&Status { ok: false, running: false, health: None, version: None, daemon_version: None })?;
    } else {
        out.section(&format!("status (v{VERSION})"))?;
        out.bad("the daemon is not running")?;
        out.hint("start it with: claudemesh up")?;
    }
    Ok(Exit::Network)
}

fn show(health: &Health, version: Option<&str>, out: &mut Out) -> Result<(), CliError> {
    let paths = paths()?;
    out.section(&format!("status (v{VERSION})"))?;
    out.pairs(&[
        ("daemon", format!("running (pid {}{})", health.pid, version.map(|version| format!(", v{version}")).unwrap_or_default())),
        ("config", paths.config_file().display().to_string()),
        ("socket", paths.socket().display().to_string()),
    ])?;
    out.blank()?;
    for (slug, status) in &health.brokers {
        show_mesh(slug, *status, health.meshes.get(slug), out)?;
    }
    if health.brokers.is_empty() {
        out.warn("no mesh is joined", Some("make one on this machine with: claudemesh daemon restart"))?;
    }
    out.blank()?;
    let counts: Vec<String> = OutboxStatus::ALL
        .into_iter()
        .map(|status| (status, status.count(&health.outbox)))
        .filter(|(status, count)| *count != 0 || *status == OutboxStatus::Pending)
        .map(|(status, count)| format!("{count} {}", status.as_str()))
        .collect();
    out.pairs(&[("outbox", counts.join(", "))])?;
    if health.guard.held_pairs != 0 {
        let pairs = format!("mail of {} waits for a person: it woke a session too often", health.guard.held_pairs);
        out.warn(&pairs, Some("it comes with the next prompt, or with: claudemesh inbox"))?;
        for pair in &health.guard.pairs {
            let sender: String = pair.sender.chars().take(16).collect();
            out.info(&format!("  from {} for {}", neutralise_line(&sender), neutralise_line(&pair.session)))?;
        }
    }
    if health.outbox.dead != 0 {
        out.hint("see what could not be delivered with: claudemesh daemon outbox list --failed")?;
    }
    Ok(())
}

fn show_mesh(slug: &str, status: LinkStatus, mesh: Option<&MeshHealth>, out: &mut Out) -> Result<(), CliError> {
    let (style, mark, word) = match status {
        LinkStatus::Open => (Style::Green, "✔", "open"),
        LinkStatus::Connecting => (Style::Yellow, "⚠", "connecting"),
        LinkStatus::Reconnecting => (Style::Yellow, "⚠", "reconnecting"),
        LinkStatus::Closed => (Style::Red, "✘", "closed"),
    };
    let url = mesh.map(|mesh| format!(" → {}", mesh.broker_url));
    out.line(
        &Line::new()
            .and(style, mark)
            .and(Style::Bold, format!(" {slug}"))
            .and(Style::Plain, format!("  {word}"))
            .maybe(Style::Dim, url),
    )?;
    let Some(mesh) = mesh else { return Ok(()) };
    if let Some(why) = &mesh.last_error {
        out.line(&Line::new().and(Style::Dim, format!("  {why}")))?;
    }
    if mesh.sessions != 0 {
        out.line(&Line::new().and(Style::Dim, format!("  sessions: {} of {} connected", mesh.sessions_open, mesh.sessions)))?;
    }
    if mesh.queued != 0 {
        out.line(&Line::new().and(Style::Dim, format!("  waiting to be sent: {}", mesh.queued)))?;
    }
    match mesh.clock_skew_ms.filter(|skew| WORTH_A_WORD <= skew.unsigned_abs()) {
        Some(skew) => out.line(&Line::new().and(Style::Yellow, format!("  the broker's clock differs by {skew} ms"))),
        None => Ok(()),
    }
}
