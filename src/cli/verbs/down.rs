//! `down` and `daemon restart`.

use std::time::Duration;

use serde::Serialize;

use crate::base::exit::Exit;
use crate::base::paths::Paths;
use crate::base::service;
use crate::broker;
use crate::cli::context::{VERSION, paths, say_skew, skew};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Verb};
use crate::client::Client;
use crate::client::host::{self, Stopped};
use crate::client::spawn::{self, Turn};
use crate::daemon;

/// The daemon and the broker in it stop one after the other, whatever hangs; a busy machine gets a little more.
const PATIENCE: Duration = daemon::STOPS_WITHIN.saturating_add(broker::STOPS_WITHIN).saturating_add(Duration::from_secs(2));

/// How long a daemon that is to be stopped may take to say how it was started.
const ASK: Duration = Duration::from_secs(2);

pub(in crate::cli) const VERB: Verb = Verb {
    name: "down",
    aliases: &["daemon down", "daemon stop"],
    group: Group::Daemon,
    about: "Stop the daemon.",
    long: "Nothing is lost: what was not sent yet is sent when it runs again. Only the process that holds the daemon's lock is \
           signalled, and the command returns when the lock is free. A service manager may start the daemon again at once; then stop it \
           there.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh down", about: "stop it, if it runs" }],
    run: down,
};

pub(in crate::cli) const RESTART: Verb = Verb {
    name: "daemon restart",
    aliases: &["restart"],
    group: Group::Daemon,
    about: "Stop the daemon and start it again.",
    long: "Sessions stay registered, and it has the flags again with which it was started.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh daemon restart", about: "after an upgrade" }],
    run: restart,
};

#[derive(Serialize)]
struct Answer {
    stopped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

fn down(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let paths = paths()?;
    let (answer, text) = match stop(&paths)? {
        Stopped::NotRunning => {
            (Answer { stopped: false, pid: None, reason: Some("not_running") }, "daemon: not running".to_owned())
        }
        Stopped::Stopped { pid } => {
            spawn::forget_failure(&paths);
            (Answer { stopped: true, pid: Some(pid), reason: None }, format!("daemon: stopped (was pid {pid})"))
        }
        Stopped::Late { pid } => return late(pid, out),
    };
    if out.is_json() {
        out.json(&answer)?
    } else {
        out.bare(&text)?;
        let manager = service::manager_of(&paths, |name| std::env::var_os(name));
        if let Some(manager) = manager.filter(|_| answer.stopped) {
            out.remark(&format!("info its service may start it again; stop that with: {}", manager.stop_text()))?;
        }
    }
    Ok(Exit::Success)
}

fn late(pid: u32, out: &mut Out) -> Result<Exit, CliError> {
    if !out.is_json() {
        return Err(too_late(pid));
    }
    out.json(&Answer { stopped: false, pid: Some(pid), reason: Some("shutdown_timeout") })?;
    Ok(Exit::Failure)
}

fn too_late(pid: u32) -> CliError {
    let text = format!("daemon: signaled but did not exit within {} s (pid {pid})", PATIENCE.as_secs());
    CliError::refused(Exit::Failure, text).with_hint("its log says what it waits for")
}

fn restart(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let paths = paths()?;
    // Whoever finds no daemon meanwhile waits for the one with the flags, and does not start one without.
    let turn = spawn::turn(&paths)?;
    let flags = started_with(&Client::new(&paths).with_deadline(ASK));
    match stop(&paths)? {
        Stopped::Late { pid } => late(pid, out),
        Stopped::NotRunning | Stopped::Stopped { .. } => super::up::start(&paths, flags, Some(turn), out),
    }
}

/// The flags of a daemon that runs. One that does not answer, or is not ours, is known to have none.
fn started_with(client: &Client) -> Vec<String> {
    client.health().map(|health| health.started_with).unwrap_or_default()
}

/// Offers to restart a daemon of another version to whoever sits at the terminal, and tells everybody else of it. With flags,
/// those it had: it is stopped, and the next one is of this version. The turn to start it is the caller's.
pub(super) fn offer_restart(client: &Client, paths: &Paths, out: &mut Out) -> Result<Option<(Vec<String>, Turn)>, CliError> {
    let Some(version) = skew(client) else { return Ok(None) };
    match out.ask(&format!("the daemon is {version}, this command is {VERSION}: restart it? Sessions stay registered."))? {
        Some(true) => {}
        Some(false) => return Ok(None),
        None => return say_skew(version, out).map(|()| None),
    }
    let turn = spawn::turn(paths)?;
    let flags = started_with(client);
    match stop(paths)? {
        Stopped::Late { pid } => Err(too_late(pid)),
        Stopped::NotRunning | Stopped::Stopped { .. } => Ok(Some((flags, turn))),
    }
}

fn stop(paths: &Paths) -> Result<Stopped, CliError> {
    host::stop_daemon(paths, PATIENCE).map_err(|err| CliError::refused(Exit::Failure, err.to_string()))
}
