use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::*;
use crate::client::fake::Scratch;

/// Starting a script just written fails with "text file busy" while another thread forks with it open for writing.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn script(scratch: &Scratch, text: &str) -> Launcher {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let path = scratch.0.path().join("fake-claudemesh");
    // Written by another process: a fork of this one can then never hold it open.
    let mut child = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 700 \"$1\"", "sh"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    Launcher { executable: path, flags: Vec::new(), deadline: Duration::from_secs(20), disabled: false }
}

/// A program that listens and says so, until its socket is taken away. Without Python there is nothing to run it with, and nothing to test.
fn daemon_script(scratch: &Scratch) -> Option<Launcher> {
    Command::new("python3").arg("-V").output().ok()?;
    let root = scratch.0.path().display();
    Some(script(
        scratch,
        &format!(
            "echo started >> {root}/starts; env > {root}/env; echo \"$@\" > {root}/args
exec python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(64)
print(\"{{\\\"msg\\\":\\\"daemon_started\\\"}}\", flush=True)
held = []
while os.path.exists(sys.argv[1]):
    s.settimeout(0.05)
    try:
        held.append(s.accept())
    except socket.timeout:
        pass
' {root}/daemon/daemon.sock"
        ),
    ))
}

#[test]
fn any_number_of_callers_start_one_daemon() {
    let scratch = Scratch::new();
    let Some(launcher) = daemon_script(&scratch) else { return };
    let paths = scratch.paths();
    let started = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| ensure_with(&paths, &launcher).unwrap().started_in())).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).filter(Option::is_some).count()
    });
    assert_eq!(started, 1);
    assert!(ensure_with(&paths, &launcher).unwrap().started_in().is_none());
    let read = |name: &str| std::fs::read_to_string(scratch.0.path().join(name)).unwrap();
    assert_eq!(read("starts"), "started\n");
    assert_eq!(read("args"), "daemon up --foreground\n");
    assert!(read("env").contains("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN=1\n"));
    assert!(!paths.spawn_failure().exists());
}

#[test]
fn a_failed_start_is_reported_and_not_repeated_at_once() {
    let scratch = Scratch::new();
    let paths = scratch.paths();
    std::fs::write(paths.log_file(), "an older line\n").unwrap();
    let launcher =
        script(&scratch, "echo x >>\"$(dirname \"$0\")/starts\"; echo '{\"level\":\"error\",\"msg\":\"no disk\"}' >&2; exit 8");
    let failed = ensure_with(&paths, &launcher).unwrap_err();
    assert_eq!(failed.to_string(), "the daemon did not start: no disk");
    assert_eq!(std::fs::metadata(paths.log_file()).unwrap().permissions().mode() & 0o777, 0o600);
    let suppressed = ensure_with(&paths, &launcher).unwrap_err();
    assert_eq!(suppressed.to_string(), "the daemon failed to start a moment ago: no disk");
    assert_eq!(std::fs::read_to_string(scratch.0.path().join("starts")).unwrap(), "x\n");
    let old = std::time::SystemTime::now() - SUPPRESSED_FOR;
    File::options().write(true).open(paths.spawn_failure()).unwrap().set_modified(old).unwrap();
    assert!(matches!(ensure_with(&paths, &launcher), Err(SpawnError::Failed { .. })), "tried again");
    assert_eq!(std::fs::read_to_string(scratch.0.path().join("starts")).unwrap(), "x\nx\n");
}

#[test]
fn a_start_that_says_nothing_is_bounded() {
    let scratch = Scratch::new();
    let paths = scratch.paths();
    let mute = script(&scratch, "exit 0");
    assert_eq!(ensure_with(&paths, &mute).unwrap_err().to_string(), "the daemon did not start: it ended without a word");
    std::fs::remove_file(paths.spawn_failure()).unwrap();
    let fifo = scratch.0.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Blocks until the fifo is opened by the test.
    let mut stuck = script(&scratch, &format!("read line < {}", fifo.display()));
    stuck.deadline = Duration::from_millis(100);
    assert!(matches!(ensure_with(&paths, &stuck), Err(SpawnError::Late(_))));
    std::fs::write(&fifo, "go\n").unwrap();
}

#[test]
fn nothing_is_started_where_that_is_forbidden() {
    let scratch = Scratch::new();
    let mut launcher = script(&scratch, "echo x >\"$(dirname \"$0\")/starts\"");
    launcher.disabled = true;
    assert!(matches!(ensure_with(&scratch.paths(), &launcher), Err(SpawnError::Disabled)));
    assert!(!scratch.0.path().join("starts").exists());
}
