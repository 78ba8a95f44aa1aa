//! The daemon as a service, with a stand-in for systemctl on the PATH that does what the test says.
#![cfg(target_os = "linux")]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::support::home::CLAUDEMESH;

/// A home whose `systemctl` is this script; it notes how it was called.
fn home_with(systemctl: &str) -> Home {
    let home = Home::new();
    std::fs::create_dir(home.join("bin")).unwrap();
    let text = format!("#!/bin/sh\necho \"$*\" >>'{}'\n{systemctl}\n", home.join("calls").display());
    // Written by another process: a fork of this one can then never hold it open, which would make it busy.
    let write = "cat >\"$1\" && chmod 700 \"$1\"";
    let mut child = Command::new("sh")
        .args(["-c", write, "sh"])
        .arg(home.join("bin/systemctl"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    home
}

fn command(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(args);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("XDG_CONFIG_HOME", home.join("xdg")).env("PATH", format!("{}:{path}", home.join("bin").display()));
    for name in ["CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "JENKINS_URL"] {
        command.env_remove(name);
    }
    command
}

#[track_caller]
fn ok(home: &Home, args: &[&str]) -> Ended {
    let ended = Process::run(command(home, args));
    assert!(ended.status.success(), "{args:?}: {ended:?}");
    ended
}

fn calls(home: &Home) -> String {
    std::fs::read_to_string(home.join("calls")).unwrap_or_default()
}

fn unit(home: &Home) -> std::path::PathBuf {
    home.join("xdg/systemd/user/claudemesh-daemon.service")
}

const UNIT: &str = "claudemesh-daemon.service";

#[test]
fn a_service_is_shown_installed_and_removed() {
    let home = home_with("");
    let shown = ok(&home, &["daemon", "install-service", "--dry-run"]);
    let log = home.join("daemon/daemon.log");
    for line in [
        "Type=notify".to_owned(),
        format!("ExecStart={CLAUDEMESH} daemon up --foreground"),
        format!("StandardOutput=append:{}", log.display()),
        format!("Environment=CLAUDEMESH_HOME={}", home.path().display()),
    ] {
        assert!(shown.out.lines().any(|found| found == line), "{line} in:\n{}", shown.out);
    }
    assert!(!unit(&home).exists());

    let installed = ok(&home, &["daemon", "install-service", "--json"]);
    let answer: Value = serde_json::from_str(&installed.out).unwrap();
    let boot = format!("systemctl --user daemon-reload && systemctl --user enable --now {UNIT}");
    let path = unit(&home).display().to_string();
    assert_eq!(answer, serde_json::json!({"ok": true, "platform": "linux", "unitPath": path, "bootCommand": boot}));
    assert_eq!(std::fs::read_to_string(unit(&home)).unwrap(), shown.out);
    assert_eq!((mode(&unit(&home)), calls(&home)), (0o600, String::new()), "nothing was run");

    let removed = ok(&home, &["daemon", "uninstall-service"]);
    assert!(removed.out.contains(&format!("removed: {path}\n")) && removed.out.contains("daemon-reload"), "{removed:?}");
    assert_eq!(calls(&home), format!("--user disable --now {UNIT}\n"));
    assert!(!unit(&home).exists());
    let again = ok(&home, &["daemon", "uninstall-service", "--json"]);
    assert_eq!(again.out, "{\"platform\":\"linux\",\"removed\":[]}\n");
}

#[test]
fn nothing_is_installed_where_programs_are_built_unless_asked_for() {
    let home = home_with("");
    let in_ci = |args: &[&str]| {
        let mut command = command(&home, args);
        command.env("GITLAB_CI", "true");
        Process::run(command)
    };
    let refused = in_ci(&["daemon", "install-service"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.err.contains("Refusing to install persistent service in CI; pass --allow-ci-persistent"), "{refused:?}");
    assert!(!unit(&home).exists());
    assert!(in_ci(&["daemon", "install-service", "--allow-ci-persistent"]).status.success());
    assert!(unit(&home).exists());
}

#[test]
fn bringing_it_up_stops_only_what_holds_the_lock() {
    let home = home_with("");
    let _quiet = Quiet(&home);
    let pid = up(&home, &[]);
    let done = ok(&home, &["daemon", "install-service", "--now"]);
    assert!(done.out.contains("brought up with: systemctl"), "{done:?}");
    assert_eq!(calls(&home), format!("--user daemon-reload\n--user enable --now {UNIT}\n"));
    assert!(!claudemesh::sys::process::alive(pid));

    // A pid file that nobody holds says nothing about the process whose number it has.
    let mut bystander = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::fs::write(home.join("daemon/daemon.pid"), bystander.id().to_string()).unwrap();
    ok(&home, &["daemon", "install-service", "--now"]);
    assert!(bystander.try_wait().unwrap().is_none());
    drop(bystander.stdin.take());
    assert!(bystander.wait().unwrap().success());

    let home = home_with("echo 'Failed to connect to bus: No medium found' >&2; exit 1");
    let refused = Process::run(command(&home, &["daemon", "install-service", "--now"]));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.err.contains("Failed to connect to bus") && unit(&home).exists(), "{refused:?}");
}

#[test]
fn a_command_that_needs_the_daemon_asks_the_manager_for_it() {
    // Starts it as the unit says, with a log of its own.
    let home = home_with(&format!(
        "case \"$*\" in *start*) cd \"$HOME\"; '{CLAUDEMESH}' daemon up --foreground >>daemon/daemon.log 2>&1 </dev/null & echo $! >by-manager;; esac"
    ));
    let _quiet = Quiet(&home);
    ok(&home, &["daemon", "install-service"]);
    let answer: Value = serde_json::from_str(&ok(&home, &["up", "--json"]).out).unwrap();
    let by_manager = std::fs::read_to_string(home.join("by-manager")).unwrap();
    assert_eq!(answer["pid"].to_string(), by_manager.trim());
    assert_eq!(calls(&home), format!("--user --no-block restart {UNIT}\n"));

    let stopped = ok(&home, &["down"]);
    assert!(stopped.err.contains(&format!("systemctl --user stop {UNIT}")), "{stopped:?}");
    // Files that the unit is not for are no business of the manager's.
    let mut other = command(&home, &["up", "--json"]);
    other.env("CLAUDEMESH_DAEMON_DIR", home.join("other"));
    assert!(Process::run(other).status.success());
    assert_eq!(calls(&home).lines().count(), 1);
    let mut other = command(&home, &["down"]);
    other.env("CLAUDEMESH_DAEMON_DIR", home.join("other"));
    assert!(Process::run(other).status.success());
}

#[test]
fn where_no_manager_runs_the_daemon_is_started_all_the_same() {
    let home = home_with("echo 'Failed to connect to bus: No medium found' >&2; exit 1");
    let _quiet = Quiet(&home);
    ok(&home, &["daemon", "install-service"]);
    let started = ok(&home, &["up"]);
    assert!(started.out.contains("daemon started"), "{started:?}");
    for word in ["was not started as a service", "Failed to connect to bus", "systemctl --user status claudemesh-daemon.service"]
    {
        assert!(started.err.contains(word), "{word}: {started:?}");
    }
    ok(&home, &["down"]);
    std::fs::set_permissions(home.join("bin/systemctl"), PermissionsExt::from_mode(0o600)).unwrap();
    let mut absent = command(&home, &["up"]);
    absent.env("PATH", home.join("bin"));
    let started = Process::run(absent);
    assert!(started.status.success() && started.err.contains("can not be run"), "{started:?}");
}

/// With the real systemd, as a user's manager in namespaces of its own, where this machine has one and lets us.
#[test]
fn the_real_manager_takes_the_unit_and_watches_it() {
    const SYSTEMD: &str = "/lib/systemd/systemd";
    let own = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let prepare = "mount -t tmpfs tmpfs /run && mkdir -p -m 700 /run/systemd/system /run/user";
    let may = Command::new("unshare").args(own).args(["sh", "-c", prepare]).output();
    if !Path::new(SYSTEMD).exists() || !may.is_ok_and(|output| output.status.success()) {
        return;
    }
    let home = Home::new();
    let dropin = home.join(&format!("xdg/systemd/user/{UNIT}.d"));
    std::fs::create_dir_all(&dropin).unwrap();
    std::fs::write(dropin.join("quick.conf"), "[Service]\nWatchdogSec=1\nRestartSec=0\n").unwrap();
    // Each word on a line of its own is one that the test waits for or compares.
    let script = format!(
        r#"{prepare} || exit 9
export XDG_RUNTIME_DIR=/run/user
{SYSTEMD} --user --log-target=null &
manager=$!
until systemctl --user is-system-running >/dev/null 2>&1; do kill -0 $manager || exit 8; done
main() {{ systemctl --user show -P MainPID {UNIT}; }}
'{CLAUDEMESH}' daemon install-service --now >/dev/null || exit 7
systemctl --user is-active {UNIT}
systemctl --user reload {UNIT} && echo reloaded
first=$(main)
kill -STOP $first
until [ "$(main)" != $first ] && systemctl --user is-active {UNIT} >/dev/null; do :; done
systemctl --user show -P NRestarts {UNIT}
systemctl --user stop {UNIT}
echo '{{' >daemon/settings.json
systemctl --user start --no-block {UNIT}
until systemctl --user show -P StatusText {UNIT} | grep -q 'next attempt is in 3 s'; do :; done
rm daemon/settings.json
'{CLAUDEMESH}' up --json
main
'{CLAUDEMESH}' daemon uninstall-service >/dev/null
systemctl --user is-active {UNIT}
kill $manager; wait $manager
"#
    );
    let mut command = Command::new("unshare");
    command.args(own).args(["sh", "-c", &script]);
    for (name, value) in self::command(&home, &[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let ended = Process::run({
        command.current_dir(home.path());
        command
    });
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!((lines.len(), &lines[..3]), (6, &["active", "reloaded", "1"][..]), "{ended:?}\n{}", log(&home));
    let answer: Value = serde_json::from_str(lines[3]).unwrap();
    assert_eq!((answer["pid"].to_string().as_str(), lines[5]), (lines[4], "inactive"), "{ended:?}");
    assert!(log(&home).contains("are read again"), "{}", log(&home));
}

#[test]
fn a_service_that_does_not_come_up_is_named() {
    let home =
        home_with("echo '{\"level\":\"error\",\"msg\":\"db open failed: no room\",\"ts\":\"\"}' >>\"$HOME/daemon/daemon.log\"");
    let _quiet = Quiet(&home);
    ok(&home, &["daemon", "install-service"]);
    let late = Process::run(command(&home, &["peers"]));
    assert_eq!(late.status.code(), Some(4), "{late:?}");
    for word in ["did not answer within 8 s: db open failed: no room", "systemctl --user status claudemesh-daemon.service"] {
        assert!(late.err.contains(word), "{word}: {late:?}");
    }
    assert!(!home.socket().exists(), "none was started beside it");
}

#[test]
fn a_service_that_came_with_an_installation_goes_with_it() {
    let home = home_with("");
    let installed = ok(&home, &["install", "--service"]);
    assert!(installed.out.contains("the daemon's service") && unit(&home).exists(), "{installed:?}");
    assert!(calls(&home).contains(&format!("--user enable --now {UNIT}")));
    let again = ok(&home, &["install"]);
    assert!(again.out.contains("nothing to change"), "{again:?}");
    let dry = ok(&home, &["uninstall", "--dry-run"]);
    assert!(dry.out.contains("the daemon's service") && unit(&home).exists(), "{dry:?}");
    ok(&home, &["uninstall"]);
    assert!(!unit(&home).exists() && calls(&home).contains(&format!("--user disable --now {UNIT}")));
    let mut in_ci = command(&home, &["install", "--service"]);
    in_ci.env("CI", "true");
    let refused = Process::run(in_ci);
    assert!(!refused.status.success() && !home.join(".claude.json").exists(), "nothing is changed: {refused:?}");
}
