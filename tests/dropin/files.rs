//! The files beside the databases: whose they are, who runs on them already, and what the verbs say.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::scene::offline;
use crate::support::home::Home;
use crate::support::http;
use crate::support::process::{Ended, Process};
use crate::support::reference_files as reference;
use crate::support::servers::Daemon;

fn up(home: &Home) -> Ended {
    Process::run(home.command(&["daemon", "up", "--foreground"]))
}

#[test]
fn the_host_is_known_by_either_record() {
    for schema in [1, 2] {
        let home = Home::new();
        offline(home.path());
        reference::host_fingerprint(home.path(), schema, &reference::host_id());
        let path = home.join("daemon/host_fingerprint.json");
        let before = fs::read_to_string(&path).unwrap();
        Daemon::start(home.path()).terminate();
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "the version that wrote it must know it again");
        assert!(reference::reference_accepts_host(home.path(), schema));
    }
}

#[test]
fn another_hosts_files_are_refused_until_they_are_accepted() {
    for schema in [1, 2] {
        let home = Home::new();
        offline(home.path());
        reference::host_fingerprint(home.path(), schema, "linux:0123456789abcdef0123456789abcdef");
        if !reference::host_id().is_empty() {
            let refused = up(&home);
            assert_eq!(refused.status.code(), Some(4), "{refused:?}");
            for text in [
                "host_fingerprint mismatch: this daemon dir was started on a different host.",
                "  stored host_id: linux:0123456789abcdef0123456789abcdef",
                &format!("  current host_id: {}", reference::host_id()),
                "claudemesh daemon accept-host",
            ] {
                assert!(refused.err.contains(text), "{text}: {}", refused.err);
            }
        }
        let accepted = Process::run(home.command(&["daemon", "accept-host"]));
        assert_eq!(accepted.status.code(), Some(0), "{accepted:?}");
        let record: Value = serde_json::from_slice(&fs::read(home.join("daemon/host_fingerprint.json")).unwrap()).unwrap();
        let prefix = &record["fingerprint"].as_str().unwrap()[..16];
        assert!(accepted.out.contains(&format!("host fingerprint accepted: {prefix}…")), "{accepted:?}");
        let hash = reference::host_hash(2, record["host_id"].as_str().unwrap(), record["stable_mac"].as_str().unwrap());
        assert_eq!((&record["schema_version"], &record["fingerprint"]), (&2.into(), &hash.into()));
        Daemon::start(home.path()).assert_healthy();
        assert!(reference::host_id().is_empty() || reference::reference_accepts_host(home.path(), 2));
    }
}

#[test]
fn the_first_record_here_is_one_that_the_reference_takes() {
    let home = Home::new();
    offline(home.path());
    Daemon::start(home.path()).terminate();
    assert!(reference::reference_accepts_host(home.path(), 2));
}

#[test]
fn what_a_killed_daemon_left_is_taken_over() {
    let home = Home::new();
    offline(home.path());
    // A process of the same number that began after the file was written is another one.
    let other = Process::spawn(std::process::Command::new("cat"));
    let pid_file = home.join("daemon/daemon.pid");
    fs::write(&pid_file, other.pid().to_string()).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(86_400);
    File::options().write(true).open(&pid_file).unwrap().set_modified(long_ago).unwrap();
    let daemon = Daemon::start(home.path());
    daemon.assert_healthy();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), daemon.pid().to_string(), "decimal, without a newline");
}

/// As after the end of a container that shared these files: the number in each is that of another process here, which ran before.
#[test]
fn what_a_daemon_left_whose_number_is_somebody_elses_is_taken_over() {
    let home = Home::new();
    Daemon::start(home.path()).terminate();
    let other = Process::spawn(std::process::Command::new("cat"));
    for name in ["daemon/daemon.pid", "daemon/broker/broker.pid"] {
        let path = home.join(name);
        fs::write(&path, other.pid().to_string()).unwrap();
        // Not as a daemon that has only just begun.
        let written = SystemTime::now() + Duration::from_secs(3600);
        File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
    }
    Daemon::start(home.path()).assert_healthy();
    assert!(other.finish().status.success(), "it ended by itself, when its input did");
}

/// Puts a pid file in place of the locked one, as the reference writes it: by the running daemon, and locked by nobody.
fn as_if_unlocked(home: &Path, pid: u32) {
    let pid_file = home.join("daemon/daemon.pid");
    fs::remove_file(&pid_file).unwrap();
    fs::write(&pid_file, pid.to_string()).unwrap();
}

#[test]
fn a_daemon_that_locks_nothing_is_not_doubled_and_can_be_stopped() {
    let home = Home::new();
    offline(home.path());
    let mut running = Daemon::start(home.path());
    let pid = running.pid();
    as_if_unlocked(home.path(), pid);
    let second = up(&home);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let named = format!("daemon already running (pid {pid}): it holds {}", home.join("daemon/daemon.pid").display());
    assert!(second.err.contains(&named) && second.err.contains("claudemesh down"), "{second:?}");
    running.assert_healthy();
    assert_eq!(fs::read_to_string(home.join("daemon/daemon.pid")).unwrap(), pid.to_string());

    let status = Process::run(home.command(&["daemon", "status"]));
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let down = Process::run(home.command(&["daemon", "down"]));
    assert_eq!((down.status.code(), down.out.trim()), (Some(0), format!("daemon: stopped (was pid {pid})").as_str()), "{down:?}");
    running.kill();
    Daemon::start(home.path()).assert_healthy();
}

#[test]
fn a_socket_that_answers_is_nobodys_to_take() {
    let home = Home::new();
    offline(home.path());
    let socket = home.join("daemon/daemon.sock");
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let refused = up(&home);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.err.contains(&format!("daemon already running (pid {})", std::process::id())), "{refused:?}");
    drop(listener);
    Daemon::start(home.path()).assert_healthy();
}

#[test]
fn a_pid_file_gets_nobody_killed() {
    let home = Home::new();
    offline(home.path());
    let bystander = Process::spawn(std::process::Command::new("cat"));
    fs::write(home.join("daemon/daemon.pid"), bystander.pid().to_string()).unwrap();
    let down = Process::run(home.command(&["daemon", "down"]));
    assert_eq!((down.status.code(), down.out.trim()), (Some(0), "daemon: not running"), "{down:?}");
    assert!(bystander.finish().status.success(), "it ended by itself, when its input did");
}

#[test]
fn the_codes_and_texts_of_the_daemons_verbs() {
    let home = Home::new();
    offline(home.path());
    let run = |args: &[&str]| Process::run(home.command(args));
    let check = |args: &[&str], code: i32, text: &str| {
        let ended = run(args);
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {ended:?}");
        assert!(ended.out.contains(text) || ended.err.contains(text), "{args:?}: {ended:?}");
    };
    check(&["daemon", "status"], 1, "daemon: not running");
    check(&["daemon", "status", "--json"], 1, "\"running\":false");
    check(&["daemon", "version"], 1, "daemon unreachable: ");
    check(&["daemon", "down"], 0, "daemon: not running");
    check(&["daemon", "down", "--json"], 0, "\"reason\":\"not_running\"");
    let daemon = Daemon::start(home.path());
    let pid = daemon.pid();
    check(&["daemon", "status"], 0, &format!("daemon: running (pid {pid})\nsocket: "));
    check(&["daemon", "status", "--json"], 0, &format!("\"pid\":{pid}"));
    check(&["daemon", "version"], 0, "(ipc v1, schema 1)");
    check(&["daemon", "up", "--foreground", "--no-tcp"], 1, &format!("daemon already running (pid {pid})"));
    let version = run(&["--version"]).out;
    let served = http::request(&daemon.socket(), "GET", "/v1/version", &[], None).unwrap().json();
    assert!(version.contains(served["daemon_version"].as_str().unwrap()), "{version}");
}

#[test]
fn the_units_have_the_names_that_are_looked_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    for unit in ["systemd/claudemesh-daemon.service", "launchd/com.claudemesh.daemon.plist"] {
        let text = fs::read_to_string(root.join(unit)).unwrap();
        assert!(text.contains("daemon") && text.contains("--foreground"), "{unit} starts something else");
    }
}
