//! One daemon after another: who needs one while the last one stops, dies, starts anew or is cut short.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use super::stopping::{Busy, asking, foreground};
use super::*;
use crate::support::http;

/// What keeps commands from trying to start a daemon.
fn marker(home: &Home) -> std::path::PathBuf {
    home.join("daemon/.spawn-failure")
}

#[test]
fn a_command_waits_for_the_daemon_that_stops() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let (daemon, _) = foreground(&home, &[]);
    let busy = Busy::of(&home);
    let held = asking(&home);
    daemon.signal(Signal::TERM);
    until("it accepts no more", || (!home.socket().exists()).then_some(()));
    let commands =
        [&["peers", "--json"][..], &["inbox", "--json"], &["up", "--json"]].map(|args| Process::spawn(home.command(args)));
    // It goes on without whoever is being answered, and can not close its databases yet.
    until("it is late", || daemon.errors().contains("left behind").then_some(()));
    drop(busy);
    for command in commands {
        let ended = command.finish();
        assert!(ended.status.success(), "{ended:?}");
        assert!(!marker(&home).exists());
    }
    assert!(daemon.finish().status.success());
    drop(held);
}

#[test]
fn right_after_a_crash_there_is_a_daemon_again() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    for round in 0..4 {
        for args in [&["up"][..], &["daemon", "restart"], &["peers"], &["state", "set", "a", "1"]] {
            let pid = up(&home, &[]);
            // What it has open is put away one by one, and meanwhile it seems to be there.
            let open: Vec<_> = (0..300).map(|_| UnixStream::connect(home.socket()).unwrap()).collect();
            signal(pid, Signal::KILL);
            let ended = run(&home, args);
            drop(open);
            assert!(ended.status.success(), "round {round}, {args:?}: {ended:?}");
            assert!(!marker(&home).exists());
            assert_ne!(up(&home, &[]), pid);
        }
    }
}

#[test]
fn a_restart_keeps_the_flags_whoever_asks_meanwhile() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let mut pid = up(&home, &["--tcp=0"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = |args: &'static [&'static str]| {
            while !over.load(Ordering::Relaxed) {
                let ended = run(&home, args);
                assert!(ended.status.success(), "{args:?}: {ended:?}");
            }
        };
        let asking = [scope.spawn(move || ask(&["inbox"])), scope.spawn(move || ask(&["peers"]))];
        for _ in 0..4 {
            let restarted = run(&home, &["daemon", "restart", "--json"]);
            let health = http::request(&home.socket(), "GET", "/v1/health", &[], None).unwrap().json();
            if !restarted.status.success() || health["started_with"] != serde_json::json!(["--tcp=0"]) {
                over.store(true, Ordering::Relaxed);
            }
            assert!(restarted.status.success(), "{restarted:?}");
            assert_eq!(health["started_with"], serde_json::json!(["--tcp=0"]), "{restarted:?}");
            let answer: Value = serde_json::from_str(&restarted.out).unwrap();
            let next = u32::try_from(answer["pid"].as_u64().unwrap()).unwrap();
            assert!(next != pid && answer["already_running"] == false, "{answer}");
            pid = next;
        }
        over.store(true, Ordering::Relaxed);
        asking.into_iter().for_each(|asking| asking.join().unwrap());
    });
}

#[test]
fn a_start_that_was_stopped_has_not_failed() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    // Whoever reads its settings waits for somebody to write them.
    std::fs::create_dir(home.join("daemon")).unwrap();
    let pipe = home.join("daemon/settings.json");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
    let starting = Process::spawn(home.command(&["up"]));
    // Its pid is written once the file is locked.
    let has_begun = || std::fs::read_to_string(home.join("daemon/daemon.pid")).is_ok_and(|pid| pid.parse::<u32>().is_ok());
    until("it has begun", || has_begun().then_some(()));
    let stopped = run(&home, &["down"]);
    assert!(stopped.out.contains("stopped (was pid"), "{stopped:?}");
    // Whoever looks why it ended reads them, too.
    let mut settings = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    std::fs::remove_file(&pipe).unwrap();
    settings.write_all(b"{}").unwrap();
    drop(settings);
    let cut_short = starting.finish();
    assert_eq!(cut_short.status.code(), Some(1), "{cut_short:?}");
    assert!(!marker(&home).exists());
    let ended = run(&home, &["peers"]);
    assert!(ended.status.success(), "{ended:?}");
}
