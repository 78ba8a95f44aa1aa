//! `daemon install-service` and `daemon uninstall-service`: the daemon as a service of its user.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::base::exit::Exit;
use crate::base::service::Manager;
use crate::cli::context::daemon_paths;
use crate::cli::error::CliError;
use crate::cli::parse::Parsed;
use crate::cli::render::Out;
use crate::cli::spec::{Effect, Example, Flag, Group, Verb};
use crate::client::{host, manager};
use crate::daemon::service::{self, Service, ServiceError};

/// A manager that starts the daemon waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each is set by some system that builds programs: what is installed there outlives what was meant.
const CI: [&str; 6] = ["CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "JENKINS_URL"];

const NOW: Flag = Flag::switch("--now", "Bring it up at once; a daemon that runs is stopped first.");
const DRY_RUN: Flag = Flag::switch("--dry-run", "Print the unit, and write nothing.");
const IN_CI: Flag = Flag::switch("--allow-ci-persistent", "Install it even where CI is set in the environment.");

pub(in crate::cli) const INSTALL: Verb = Verb {
    name: "daemon install-service",
    aliases: &[],
    group: Group::Daemon,
    about: "Install the daemon as a service of this user.",
    long: "Writes a unit for systemd or launchd that runs this program, and prints the command that brings it up. Where \
           CLAUDEMESH_HOME or CLAUDEMESH_DAEMON_DIR is set, the service has it too. On a server nobody logs in to, \
           `loginctl enable-linger` lets services run without a login.",
    operands: &[],
    tail: None,
    flags: &[NOW, DRY_RUN, IN_CI],
    effect: Effect::Local,
    examples: &[
        Example {
            command: "claudemesh daemon install-service --now",
            about: "from now on, and after every start of the machine",
        },
        Example { command: "claudemesh daemon install-service --dry-run", about: "see the unit first" },
    ],
    run: install,
};

pub(in crate::cli) const UNINSTALL: Verb = Verb {
    name: "daemon uninstall-service",
    aliases: &[],
    group: Group::Daemon,
    about: "Stop the daemon's service and remove it.",
    long: "Messages and configuration stay.",
    operands: &[],
    tail: None,
    flags: &[],
    effect: Effect::Local,
    examples: &[Example { command: "claudemesh daemon uninstall-service", about: "take the service away" }],
    run: uninstall,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Installed {
    ok: bool,
    platform: &'static str,
    unit_path: String,
    boot_command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

fn install(parsed: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let kept_by = kept_by()?;
    let dry = parsed.is_set(&DRY_RUN);
    if !dry && !parsed.is_set(&IN_CI) {
        refuse_in_ci()?;
    }
    let service = own(kept_by)?;
    let boot = kept_by.boot(service.unit_file(), host::uid());
    let shown: Vec<String> = boot.iter().map(|command| command.join(" ")).collect();
    let answer = Installed {
        ok: true,
        platform: kept_by.platform(),
        unit_path: service.unit_file().display().to_string(),
        boot_command: shown.join(" && "),
        unit: dry.then(|| service.text()),
    };
    if let Some(unit) = &answer.unit {
        if out.is_json() {
            out.json(&answer)?
        } else {
            out.document(unit)?
        }
        return Ok(Exit::Success);
    }
    service.install().map_err(refused)?;
    if parsed.is_set(&NOW) {
        bring_up(&boot)?;
    }
    if out.is_json() {
        out.json(&answer)?;
    } else {
        out.bare(&format!("installed {} service unit: {}", answer.platform, answer.unit_path))?;
        let next = if parsed.is_set(&NOW) { "brought up with: " } else { "bring it up now: " };
        out.bare(&format!("{next}{}", answer.boot_command))?;
    }
    Ok(Exit::Success)
}

fn refuse_in_ci() -> Result<(), CliError> {
    if CI.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        let text = "Refusing to install persistent service in CI; pass --allow-ci-persistent to override.";
        return Err(
            CliError::refused(Exit::Failure, text).with_hint("as in: claudemesh daemon install-service --allow-ci-persistent")
        );
    }
    Ok(())
}

/// The service that runs this program.
fn own(kept_by: Manager) -> Result<Service, CliError> {
    let executable = std::env::current_exe().map_err(|err| CliError::io("this program's own path is not known", err))?;
    Service::new(kept_by, &executable, &daemon_paths()?, |name| std::env::var_os(name)).map_err(refused)
}

/// Installs the service and brings it up, for `install`. `dry`: only says whether that can be. Returns where the unit lies.
pub(in crate::cli) fn set_up(dry: bool) -> Result<String, CliError> {
    let kept_by = kept_by()?;
    refuse_in_ci()?;
    let service = own(kept_by)?;
    if !dry {
        service.install().map_err(refused)?;
        bring_up(&kept_by.boot(service.unit_file(), host::uid()))?;
    }
    Ok(service.unit_file().display().to_string())
}

/// Stops the service and removes it, for `uninstall`. Returns where the unit was, if there was one.
pub(in crate::cli) fn take_away(dry: bool) -> Result<Option<String>, CliError> {
    let kept_by = kept_by()?;
    let file = kept_by.unit_file(|name| std::env::var_os(name)).ok_or(CliError::NoHome)?;
    if !file.exists() {
        return Ok(None);
    }
    if !dry {
        // Where no manager runs, none runs the service either.
        let _ = manager::tell(&kept_by.disable(host::uid()), Instant::now() + PATIENCE);
        service::remove(&file).map_err(refused)?;
    }
    Ok(Some(file.display().to_string()))
}

/// Stops the daemon that holds the files, whoever started it, and has the manager start its own.
fn bring_up(boot: &[Vec<String>]) -> Result<(), CliError> {
    let stopped =
        host::stop_daemon(&daemon_paths()?, PATIENCE).map_err(|err| CliError::refused(Exit::Failure, err.to_string()))?;
    if let host::Stopped::Late { pid } = stopped {
        return Err(CliError::refused(Exit::Failure, format!("a daemon runs that does not stop (pid {pid})")));
    }
    for command in boot {
        if let Err(err) = manager::tell(command, Instant::now() + PATIENCE) {
            let text = format!("the unit is installed, and could not be brought up: {err}");
            return Err(CliError::refused(Exit::Failure, text).with_hint(format!("the command was: {}", command.join(" "))));
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Removed {
    platform: &'static str,
    removed: Vec<String>,
}

fn uninstall(_: &Parsed, out: &mut Out) -> Result<Exit, CliError> {
    let kept_by = kept_by()?;
    let file = kept_by.unit_file(|name| std::env::var_os(name)).ok_or(CliError::NoHome)?;
    let mut not_told = None;
    if file.exists() {
        // Where no manager runs, none runs the service either.
        not_told = manager::tell(&kept_by.disable(host::uid()), Instant::now() + PATIENCE).err();
    }
    let removed = service::remove(&file).map_err(refused)?;
    let answer =
        Removed { platform: kept_by.platform(), removed: removed.then(|| file.display().to_string()).into_iter().collect() };
    if out.is_json() {
        out.json(&answer)?;
    } else if !removed {
        out.bare("no service unit installed")?;
    } else {
        out.bare(&format!("removed: {}", answer.removed.join(", ")))?;
        if let Some(err) = not_told {
            out.remark(&format!("warn the service could not be stopped: {err}"))?;
        }
        if let Some(command) = kept_by.forget_text() {
            out.bare(&format!("let the service manager forget it: {command}"))?;
        }
    }
    Ok(Exit::Success)
}

fn kept_by() -> Result<Manager, CliError> {
    Manager::of_this_system().ok_or_else(|| {
        CliError::refused(Exit::Unavailable, "this system has neither systemd nor launchd")
            .with_hint("run it under another supervisor as: claudemesh daemon up --foreground")
    })
}

fn refused(err: ServiceError) -> CliError {
    CliError::refused(Exit::Failure, err.to_string())
}
