//! Starting twice, stopping what hangs, starting anew, and doing all that where little is as usual.

use std::os::unix::fs::{PermissionsExt, chown};

use rustix::process::Signal;

use super::stopping::{Busy, asking};
use super::*;
use crate::support::home::CLAUDEMESH;
use crate::support::http;
use crate::support::servers::Daemon;
use crate::support::session::Session;

#[test]
fn two_shells_at_once_start_one_daemon() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let both: Vec<Process> = (0..2).map(|_| Process::spawn(home.command(&["up", "--json"]))).collect();
    let answers: Vec<Value> = both
        .into_iter()
        .map(|process| {
            let ended = process.finish();
            assert!(ended.status.success(), "{ended:?}");
            serde_json::from_str(&ended.out).unwrap()
        })
        .collect();
    assert_eq!(answers[0]["pid"], answers[1]["pid"]);
    let started = answers.iter().filter(|answer| answer["already_running"] == false).count();
    assert_eq!(started, 1, "{answers:?}");
}

#[test]
fn the_first_question_on_a_new_machine_is_answered() {
    // Each starts the daemon, and asks while its link to the broker is on its way up.
    for question in [&["peers", "--json"][..], &["state", "list", "--json"], &["topic", "list", "--json"]] {
        let home = Home::new();
        let _quiet = Quiet(&home);
        let ended = run(&home, question);
        assert!(ended.status.success() && !ended.err.contains("connection_lost"), "{question:?}: {ended:?}");
    }
}

#[test]
fn a_daemon_that_hangs_is_not_said_to_have_stopped() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let pid = up(&home, &[]);
    signal(pid, Signal::STOP);
    // On a busy machine some of its threads answer for a while yet.
    until("it hangs", || all_stopped(pid).then_some(()));
    let status = Process::spawn(home.command(&["daemon", "status"]));
    let late = run(&home, &["down", "--json"]);
    assert_eq!(late.status.code(), Some(1), "{late:?}");
    assert_eq!(late.out, format!("{{\"stopped\":false,\"pid\":{pid},\"reason\":\"shutdown_timeout\"}}\n"));
    let status = status.finish();
    assert!(status.out.contains(&format!("pid {pid} alive but IPC unreachable")), "{status:?}");
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    assert!(home.socket().exists() && home.join("daemon/daemon.pid").exists(), "nobody took its files away");
    // It does as it was told as soon as it can.
    signal(pid, Signal::CONT);
    until("it stops", || run(&home, &["down"]).out.contains("not running").then_some(()));
}

/// Whether every thread of a process is stopped, where that can be seen.
fn all_stopped(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}

#[test]
fn sessions_keep_their_addresses_over_a_restart() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let mut daemon = Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    let restarted = run(&home, &["daemon", "restart"]);
    assert!(restarted.status.success() && restarted.out.contains("daemon started"), "{restarted:?}");
    assert!(daemon.terminate().status.success(), "the old one has ended, and properly");
    for session in [&alice, &bob] {
        let authorization = format!("ClaudeMesh-Session {}", session.token);
        let me = http::request(&home.socket(), "GET", "/v1/sessions/me", &[("Authorization", &authorization)], None).unwrap();
        assert_eq!(me.json()["session"]["presence"]["sessionPubkey"].as_str(), Some(session.key.as_str()), "{me:?}");
    }
}

#[test]
fn the_end_of_a_session_takes_no_token_that_is_not_its_own() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let file = home.join(&format!("daemon/run/{}.token", alice.id));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let end = || alice.call("DELETE", &format!("/v1/sessions/{}", alice.token), None).unwrap().status;
    // It was resumed, and has not registered again yet.
    std::fs::write(&file, "1".repeat(64)).unwrap();
    assert_eq!((end(), file.exists()), (200, true));
    alice.register(std::process::id());
    std::fs::write(&file, &alice.token).unwrap();
    assert_eq!((end(), file.exists()), (200, false));
}

/// After a restart of the machine another process may have the same number, and have begun as long after it.
#[cfg(target_os = "linux")]
#[test]
fn no_session_outlives_its_machine() {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    daemon.terminate();
    let file = home.join("daemon/sessions.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for row in kept["sessions"].as_array_mut().unwrap() {
        assert!(row["boot"].as_str().is_some_and(|boot| !boot.is_empty()), "{row}");
        match row["displayName"].as_str() {
            Some("alice") => row["boot"] = "00000000-0000-0000-0000-000000000000".into(),
            // As the last version wrote it.
            _ => drop(row.as_object_mut().unwrap().remove("boot")),
        }
    }
    std::fs::write(&file, kept.to_string()).unwrap();
    daemon.restart();
    let status = |session: &Session| session.call("GET", "/v1/sessions/me", None).unwrap().status;
    assert_eq!((status(&alice), status(&bob)), (401, 200));
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let home = Home::new();
    let daemon = Process::spawn(home.command(&["daemon", "up", "--foreground"]));
    assert!(daemon.line().is_some());
    // Somebody who is being answered, for whom a daemon that stops waits a while.
    let busy = Busy::of(&home);
    let held = asking(&home);
    daemon.signal(Signal::TERM);
    until("it stops", || daemon.errors().contains("the daemon stops").then_some(()));
    daemon.signal(Signal::TERM);
    let ended = daemon.finish();
    assert_eq!(ended.status.code(), Some(128 + 15), "{ended:?}");
    drop((held, busy));
    // What it left behind is in nobody's way.
    let daemon = Process::spawn(home.command(&["daemon", "up", "--foreground"]));
    assert!(daemon.line().is_some(), "{}", daemon.errors());
}

#[test]
fn a_home_is_enough_and_need_not_be_the_users() {
    let home = Home::new();
    let without = |args: &[&str]| {
        let mut command = home.command(args);
        command.env_remove("HOME").env_remove("XDG_CONFIG_HOME");
        Process::run(command)
    };
    for args in [&["up"][..], &["inbox"], &["daemon", "restart"], &["down"]] {
        let ended = without(args);
        assert!(ended.status.success(), "{args:?}: {ended:?}");
    }
    let mut nowhere = home.command(&["up"]);
    nowhere.env_remove("HOME").env_remove("CLAUDEMESH_HOME");
    let ended = Process::run(nowhere);
    assert!(ended.err.contains("CLAUDEMESH_HOME") && ended.status.code() == Some(10), "{ended:?}");
}

/// A command of this home, run by `program` and through another that changes what it runs as.
fn through(home: &Home, wrapper: &[&str], program: &Path, args: &[&str]) -> Process {
    let plain = home.command(args);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(program).args(args).current_dir(home.path());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Process::spawn(command)
}

#[test]
fn another_user_is_refused_even_where_files_let_them_through() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    // As on a file system that knows no modes: the daemon's own check is all that is left.
    for (path, mode) in [(home.path().to_owned(), 0o755), (home.join("daemon"), 0o755), (home.socket(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let socket = home.socket();
    // Of one thread alone: the kernel notes who connects, not whose process it is.
    let stranger = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).ok()?;
        Some(["/v1/version", "/v1/sessions", "/v1/health"].map(|path| http::request(&socket, "GET", path, &[], None).unwrap()))
    });
    let Some(replies) = stranger.join().unwrap() else {
        return eprintln!("not tested: only root can be somebody else");
    };
    for reply in replies {
        assert_eq!((reply.status, &reply.json()["error"]), (403, &"this daemon belongs to another user".into()), "{reply:?}");
    }
    let noted = || daemon.log().contains("a connection by user 65534 was refused");
    until("the daemon to note who it was", || noted().then_some(()));
    daemon.assert_healthy();
}

#[test]
fn two_users_of_one_host_do_not_meet() {
    let (mine, theirs) = (Home::new(), Home::new());
    if chown(theirs.path(), Some(65_534), Some(65_534)).is_err() {
        return; // only root can be somebody else
    }
    // The build may lie where the other user can not look.
    let copy = theirs.join("claudemesh");
    assert!(Command::new("cp").arg(CLAUDEMESH).arg(&copy).status().unwrap().success());
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let as_nobody = |args: &[&str]| through(&theirs, &nobody, &copy, args).finish();
    let _quiet = Quiet(&mine);
    let my_pid = up(&mine, &[]);
    let started = as_nobody(&["up", "--json"]);
    assert!(started.status.success(), "{started:?}");
    let answer: Value = serde_json::from_str(&started.out).unwrap();
    assert_ne!(answer["pid"].as_u64(), Some(u64::from(my_pid)));
    assert!(as_nobody(&["inbox"]).status.success());

    // Pointed at files that are not theirs, they are refused, and nobody is signalled.
    let astray = through(&mine, &nobody, &copy, &["down"]).finish();
    assert!(!astray.status.success(), "{astray:?}");
    let astray = through(&mine, &nobody, &copy, &["up"]).finish();
    assert!(!astray.status.success(), "{astray:?}");
    assert!(claudemesh::sys::process::alive(my_pid));
    assert!(as_nobody(&["down"]).status.success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_daemon_in_another_pid_namespace_is_used_and_not_signalled() {
    let home = Home::new();
    let unshare = ["unshare", "--pid", "--fork", "--kill-child"];
    if !Command::new(unshare[0]).args(&unshare[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        return; // the kernel, or whoever runs this container, does not let us
    }
    let daemon = through(&home, &unshare, Path::new(CLAUDEMESH), &["daemon", "up", "--foreground"]);
    assert!(daemon.line().is_some(), "{}", daemon.errors());
    assert_eq!(std::fs::read_to_string(home.join("daemon/daemon.pid")).unwrap(), "1");
    assert!(run(&home, &["inbox"]).status.success());
    // Process 1 of this side has nothing to do with it.
    let refused = run(&home, &["down"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.err.contains("can not be seen from here"), "{refused:?}");
    assert!(run(&home, &["daemon", "status"]).status.success());
}
