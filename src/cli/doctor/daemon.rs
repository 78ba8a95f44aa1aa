//! The daemon, its service and its links.

use std::io;

use super::{Finding, Scene};
use crate::base::config::Config;
use crate::base::service::{self, Manager};
use crate::cli::context::VERSION;
use crate::cli::verbs::daemon::no_listener;
use crate::client::Error;
use crate::daemon::{self, StartError};

/// A clock this far from a broker's, in milliseconds, is wrong; at a minute the broker refuses.
const WRONG_CLOCK: u64 = 5_000;

pub(super) fn runs(scene: &Scene) -> Vec<Finding> {
    vec![match &scene.health {
        Ok(health) => Finding::ok(format!("running, pid {}", health.pid)),
        Err(err @ (Error::NoDaemon(_) | Error::Io(_))) => unreached(scene, err),
        Err(err) => Finding::failed(err.to_string(), "claudemesh daemon restart"),
    }]
}

/// What keeps a daemon from being there. To start one is no advice where it would refuse.
fn unreached(scene: &Scene, err: &Error) -> Finding {
    let what = match err {
        Error::NoDaemon(_) => "it does not run".to_owned(),
        err => err.to_string(),
    };
    match (daemon::obstacle(&scene.paths, None), err) {
        (Some(StartError::OtherHost(_)), _) => {
            let advice = "see that they were moved here, and not copied: two machines would speak with the same keys";
            let what = format!("{what}, and its files belong to another host");
            Finding::failed(what, "claudemesh daemon accept-host").after(advice)
        }
        (Some(why), _) => {
            let advice = "first see to what is said of settings and permissions below";
            Finding::failed(format!("{what}, and would not start: {why}"), "claudemesh up").after(advice)
        }
        (None, Error::Io(err)) if err.kind() == io::ErrorKind::InvalidFilename => {
            let advice = format!("the system takes no socket with a path as long as {}", scene.paths.socket().display());
            Finding::failed(what, "export CLAUDEMESH_DAEMON_DIR=<a directory with a shorter path>").after(advice)
        }
        (None, Error::NoDaemon(_)) => match Config::load(&scene.paths.config_file()) {
            Ok(_) => Finding::failed(what, "claudemesh up"),
            Err(_) => Finding::failed(what, "claudemesh up").after("first see to what is said of config below"),
        },
        (None, _) => Finding::failed(what, "claudemesh daemon restart"),
    }
}

pub(super) fn version(scene: &Scene) -> Vec<Finding> {
    match (&scene.health, &scene.other_version) {
        (Err(_), _) => Vec::new(),
        (Ok(_), None) => vec![Finding::ok(format!("{VERSION}, as this command"))],
        (Ok(_), Some(other)) => {
            vec![Finding::failed(format!("the daemon is {other}, this command is {VERSION}"), "claudemesh daemon restart")]
        }
    }
}

pub(super) fn service(scene: &Scene) -> Vec<Finding> {
    let var = |name: &str| std::env::var_os(name);
    let Some(manager) = service::manager_of(&scene.paths, var) else {
        return vec![Finding::ok("not installed; commands start the daemon when they need it")];
    };
    let Some(file) = manager.unit_file(var) else { return Vec::new() };
    let missing = std::fs::read_to_string(&file).ok().and_then(|unit| program(manager, &unit)).filter(|program| {
        // A name without a path is the manager's to find.
        program.starts_with('/') && !std::path::Path::new(program).exists()
    });
    vec![match missing {
        None => Finding::ok(format!("installed: {}", file.display())),
        Some(program) => Finding::failed(
            format!("{} runs {program}, which is not there", file.display()),
            "claudemesh daemon install-service --now",
        ),
    }]
}

/// The listener on TCP, where one was asked for.
pub(super) fn tcp(scene: &Scene) -> Vec<Finding> {
    let Some(tcp) = scene.health.as_ref().ok().and_then(|health| health.tcp.as_ref()) else { return Vec::new() };
    vec![match &tcp.address {
        Some(address) => Finding::ok(address.clone()),
        None => {
            let advice = "end the program that has the port, or name another; it is tried again every few seconds";
            Finding::failed(no_listener(tcp.port, tcp.error.as_deref()), "claudemesh doctor").after(advice)
        }
    }]
}

/// What a unit runs, where that is written plainly.
fn program(manager: Manager, unit: &str) -> Option<String> {
    match manager {
        Manager::Systemd => {
            let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
            match line.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next().filter(|path| !path.contains(['\\', '%', '$'])),
                None => line.split(' ').next(),
            }
        }
        Manager::Launchd => unit.split_once("<key>ProgramArguments</key>")?.1.split_once("<string>")?.1.split("</string>").next(),
    }
    .map(str::to_owned)
}

pub(super) fn clocks(scene: &Scene) -> Vec<Finding> {
    let Ok(health) = &scene.health else { return Vec::new() };
    let skews = health.meshes.iter().filter_map(|(slug, mesh)| Some((slug, mesh.clock_skew_ms?)));
    let found = skews.map(|(slug, skew)| match skew.unsigned_abs() {
        0..WRONG_CLOCK => Finding::ok(format!("{slug}: within {} ms of the broker's", skew.abs())),
        _ => Finding::failed(
            format!("{slug}: the broker's differs by {} s; at 60 s it lets nobody in", skew / 1000),
            if cfg!(target_os = "macos") { "sudo sntp -sS time.apple.com" } else { "sudo timedatectl set-ntp true" },
        ),
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    #[test]
    fn the_program_of_a_unit_is_found_where_it_is_written_plainly() {
        for (manager, unit, expected) in [
            (Manager::Systemd, "[Service]\nExecStart=/a/claudemesh daemon up\n", Some("/a/claudemesh")),
            (Manager::Systemd, "ExecStart=\"/a b/claudemesh\" daemon up\n", Some("/a b/claudemesh")),
            (Manager::Systemd, "ExecStart=\"/a$$b/claudemesh\" daemon up\n", None),
            (Manager::Systemd, "", None),
            (
                Manager::Launchd,
                "<string>x</string><key>ProgramArguments</key>\n<array><string>/a/claudemesh</string></array>",
                Some("/a/claudemesh"),
            ),
        ] {
            assert_eq!(program(manager, unit).as_deref(), expected, "{unit}");
        }
    }

    #[test]
    fn clocks_are_judged_for_each_mesh() {
        let mesh = |skew: i64| json::json!({ "status": "open", "broker_url": "wss://b/ws", "sessions": 2, "sessions_open": 2, "clock_skew_ms": skew });
        let meshes = json::json!({ "far": mesh(-70_000), "half": mesh(4_999), "well": mesh(0) });
        let scene = Scene::of_meshes(&meshes);
        let clocks: Vec<String> = super::clocks(&scene).into_iter().map(Finding::said).collect();
        assert!(clocks[0].starts_with("far: the broker's differs by -70 s") && clocks[0].contains("-> sudo "), "{clocks:?}");
        assert!(clocks[1..].iter().all(|line| line.ends_with("-> ")), "{clocks:?}");
    }
}
