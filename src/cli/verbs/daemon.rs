//! What else can be asked of the daemon: `daemon status`, `daemon version`, `daemon accept-host`.

use serde::Serialize;

use crate::base::exit::Exit;
use crate::cli::context::{self, cold, paths, say_skew, skew};
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Group, Verb};
use crate::client::host::{self};
use crate::daemon;
use crate::wire::ipc::Health;

pub(in crate::cli) const STATUS: Verb = Verb {
    name: "daemon status",
    aliases: &[],
    group: Group::Daemon,
    about: "Show whether the daemon runs.",
    long: "The status is 0 if it runs and answers, else 1. `claudemesh status` says more.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh daemon status --json", about: "for a script" }],
    run: status,
};

pub(in crate::cli) const VERSION: Verb = Verb {
    name: "daemon version",
    aliases: &[],
    group: Group::Daemon,
    about: "Show the version of the daemon that runs.",
    long: "",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Read,
    examples: &[Example { command: "claudemesh daemon version", about: "of the daemon, not of this command" }],
    run: version,
};

pub(in crate::cli) const ACCEPT_HOST: Verb = Verb {
    name: "daemon accept-host",
    aliases: &[],
    group: Group::Daemon,
    about: "Let the daemon's files belong to this machine.",
    long: "The daemon refuses to run on files that another machine wrote, because two machines would then speak with the same keys. \
           After a move that was meant, this accepts the new one.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh daemon accept-host", about: "after moving the files on purpose" }],
    run: accept_host,
};

#[derive(Serialize)]
struct Status {
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipc_error: Option<String>,
    /// Of this program, to compare the daemon's with.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_version: Option<String>,
}

fn status(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let paths = paths()?;
    let holder = host::daemon_pid(&paths).map_err(|err| CliError::io("the daemon's lock can not be looked at", err))?;
    let client = cold(None)?;
    let health = client.health();
    let daemon_version = client.daemon_version().map(str::to_owned);
    let answer = |running, pid, health, ipc_error| Status {
        running,
        pid,
        health,
        ipc_error,
        version: daemon_version.as_ref().map(|_| context::VERSION),
        daemon_version,
    };
    let (answer, texts) = match (holder, health) {
        (_, Ok(health)) => {
            let mut texts =
                vec![format!("daemon: running (pid {})", health.pid), format!("socket: {}", paths.socket().display())];
            texts.extend(
                client.daemon_version().map(|version| format!("version: {version} (this command: {})", context::VERSION)),
            );
            texts.extend(health.tcp.as_ref().map(|tcp| match (&tcp.address, &tcp.error) {
                (Some(address), _) => format!("tcp: {address}"),
                (None, why) => format!("tcp: {}", no_listener(tcp.port, why.as_deref())),
            }));
            (answer(true, Some(health.pid), Some(health), None), texts)
        }
        (Some(pid), Err(err)) => {
            let texts = vec![format!("daemon: pid {pid} alive but IPC unreachable ({err})")];
            (answer(true, Some(pid), None, Some(err.to_string())), texts)
        }
        (None, Err(_)) => (answer(false, None, None, None), vec!["daemon: not running".to_owned()]),
    };
    if out.is_json() {
        out.json(&answer)?;
    } else {
        texts.iter().try_for_each(|text| out.bare(text))?;
    }
    skew(&client).map_or(Ok(()), |version| say_skew(version, out))?;
    Ok(if answer.health.is_some() { Exit::Success } else { Exit::Failure })
}

/// What is said where a listener on TCP was asked for and is not there.
pub(in crate::cli) fn no_listener(port: u16, why: Option<&str>) -> String {
    format!("no TCP listener on 127.0.0.1:{port}: {}", why.unwrap_or("it is not known why"))
}

fn version(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let version = cold(None)?.version().map_err(|err| {
        CliError::refused(Exit::Failure, format!("daemon unreachable: {err}")).with_hint("start it with: claudemesh up")
    })?;
    if out.is_json() {
        out.json(&version)?;
    } else {
        let text = format!("daemon {} (ipc {}, schema {})", version.daemon_version, version.ipc_api, version.schema_version);
        out.bare(&text)?;
    }
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Accepted {
    ok: bool,
    fingerprint_prefix: String,
}

fn accept_host(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let prefix = daemon::accept_host(&paths()?).map_err(|err| CliError::io("host_fingerprint.json can not be written", err))?;
    if out.is_json() {
        out.json(&Accepted { ok: true, fingerprint_prefix: prefix })?;
    } else {
        out.bare(&format!("host fingerprint accepted: {prefix}…"))?;
    }
    Ok(Exit::Success)
}
