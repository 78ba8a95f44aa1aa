//! An idle session is woken: from the request to send, to the end of the hook that waits, and to the model's being asked.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::home::Home;
use crate::support::model::{Model, Turn, claude};
use crate::support::process::Process;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;
use crate::table::{Measured, Scale};

const MS: Duration = Duration::from_millis(1);

/// A home whose sessions may be woken as often as is measured.
fn home() -> Home {
    let home = Home::new();
    std::fs::create_dir(home.join("daemon")).unwrap();
    std::fs::write(home.join("daemon/settings.json"), r#"{"wakeBudget":100000}"#).unwrap();
    home
}

pub(crate) fn wake(scale: Scale) -> Vec<Measured> {
    let mut measured = vec![ours(scale)];
    measured.extend(claude().map(|claude| whole(scale, &claude)));
    measured
}

fn ours(scale: Scale) -> Measured {
    let home = home();
    let daemon = Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    let times = (0..scale.rounds(50))
        .map(|n| {
            let mut command = home.command(&["hook", "Wait"]);
            command.env("CLAUDEMESH_IPC_TOKEN", &bob.token).env("CLAUDEMESH_SESSION_ID", &bob.id);
            let mut waiter = Process::spawn(command);
            waiter.say("{}");
            waiter.close_input();
            // A session that was just woken is in the midst of a burst, and is woken later on purpose.
            let idle = Instant::now() + Duration::from_millis(1100);
            until("the session to be idle, with a waiter", || {
                let waits = daemon.get("/v1/sessions").text().contains(r#""wake""#);
                (waits && idle <= Instant::now()).then_some(())
            });
            let start = Instant::now();
            alice.send(&bob.key, &format!("wake up {n}"), &format!("w-{n}"));
            let woken = waiter.finish();
            assert_eq!(woken.status.code(), Some(2), "{woken:?}");
            start.elapsed()
        })
        .collect();
    Measured::times("a message wakes: from `send` to the end of `hook Wait`", times, 10 * MS, None)
}

fn whole(scale: Scale, claude: &std::path::Path) -> Measured {
    let home = home();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let model = Model::start(|_| Turn::Say);
    let args =
        ["launch", "--name", "bob", "--quiet", "--", "-p", "--verbose", "--input-format", "stream-json", "--output-format"];
    let mut command = model.command(&home, claude, &[&args[..], &["stream-json"]].concat());
    command.env("CLAUDEMESH_WAKE", "always");
    let mut bob = Process::spawn(command);
    let turn_ends = |bob: &Process| while !bob.line().unwrap().contains(r#""type":"result""#) {};
    bob.say(&json!({ "type": "user", "message": { "role": "user", "content": "hello" } }).to_string());
    turn_ends(&bob);
    let times = (1..=scale.rounds(20))
        .map(|n| {
            let idle = Instant::now() + Duration::from_millis(1500);
            until("the session to be idle", || (idle <= Instant::now()).then_some(()));
            let start = Instant::now();
            alice.send("bob", &format!("wake up {n}"), &format!("w-{n}"));
            model.saw(n);
            let time = start.elapsed();
            turn_ends(&bob);
            time
        })
        .collect();
    bob.kill();
    Measured::times("the same, to the request of the real client to its model", times, 300 * MS, None)
}
