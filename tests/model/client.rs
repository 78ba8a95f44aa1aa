//! The real client, beyond one turn: a terminal, a daemon that dies, many urgent messages, an installation and `launch` at once.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{arrived, offered, scene, write};
use crate::support::home::CLAUDEMESH;
use crate::support::model::{Model, Turn, claude};
use crate::support::process::Process;
use crate::support::terminal::Terminal;
use crate::support::wait::{PATIENCE, until};

#[test]
fn a_session_in_a_terminal_is_woken_when_idle_and_after_it_was_interrupted() {
    let Some(claude) = claude() else { return };
    let (home, daemon, alice) = scene();
    let known = json!({
        "hasCompletedOnboarding": true, "customApiKeyResponses": { "approved": ["sk-ant-test"], "rejected": [] },
        "projects": { (home.path().to_str().unwrap()): { "hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true } },
    });
    std::fs::write(home.join(".claude.json"), known.to_string()).unwrap();
    // The third question is answered when the test says so: a person interrupts it before.
    let (answer, answered) = channel::<()>();
    let answered: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(answered));
    let (reached, reaches) = channel::<()>();
    let model = Model::start(move |number| {
        if number == 2 {
            let _ = reached.send(());
            // Nothing is sent: it ends with the test, or when the sender goes.
            let _ = answered.lock().unwrap().recv_timeout(PATIENCE);
        }
        Turn::Say
    });
    let Some(bob) = Terminal::start(&model.command(&home, &claude, &["launch", "--name", "bob", "--quiet"])) else {
        eprintln!("there is no tmux: the client is not tested in a terminal");
        return;
    };
    // What is there before it starts comes with the start, and wakes nobody.
    until("a hook to wait beside the session", || {
        let sessions = daemon.get("/v1/sessions").json();
        let of_bob = sessions["sessions"].as_array()?.iter().find(|session| session["displayName"] == "bob")?.clone();
        (of_bob["status"] == "idle" && of_bob["delivery"]["waiting"] == true).then_some(())
    });
    write(&alice, "bob", "before any prompt", "next");
    assert!(model.saw(0).contains("\n| before any prompt\n"));
    // A digest: what comes while it works waits for the end of the turn.
    ["one of two", "two of two"].iter().for_each(|text| write(&alice, "bob", text, "next"));
    model.hears("\n| two of two\n");
    for text in ["before any prompt", "one of two", "two of two"] {
        assert_eq!(offered(&daemon.socket(), text), "wake");
    }
    if model.count() == 2 {
        write(&alice, "bob", "work on this", "next");
    }
    reaches.recv_timeout(PATIENCE).expect("the third question is asked");
    bob.press("Escape");
    until("the turn to be interrupted", || bob.screen().contains("Interrupted").then_some(()));
    drop(answer);
    write(&alice, "bob", "after the interruption", "next");
    model.hears("\n| after the interruption\n");
}

#[test]
fn urgent_mail_at_every_end_of_a_turn_reaches_the_model() {
    const MESSAGES: usize = 10;
    let Some(claude) = claude() else { return };
    let (home, daemon, alice) = scene();
    let script = {
        let (socket, alice) = (daemon.socket(), alice.clone());
        move |number: usize| {
            if number < MESSAGES {
                let text = format!("urgent {number}");
                write(&alice, "bob", &text, "now");
                arrived(&socket, &text);
            }
            Turn::Say
        }
    };
    let model = Model::start(script);
    let args =
        ["launch", "--name", "bob", "--quiet", "--", "-p", "--verbose", "--input-format", "stream-json", "--output-format"];
    let mut command = model.command(&home, &claude, &[&args[..], &["stream-json"]].concat());
    command.env("CLAUDEMESH_WAKE", "always");
    let mut bob = Process::spawn(command);
    bob.say(&json!({ "type": "user", "message": { "role": "user", "content": "hello" } }).to_string());
    let last = model.hears(&format!("\n| urgent {}\n", MESSAGES - 1));
    for number in 0..MESSAGES {
        // The client itself repeats what held up a turn: once to its model, and once beside its own words.
        assert!(last.contains(&format!("\n| urgent {number}\n")), "{number}: {last}");
        let path = offered(&daemon.socket(), &format!("urgent {number}"));
        assert!(["stop", "wake"].contains(&path.as_str()), "{number}: {path}");
    }
    bob.kill();
}

#[test]
fn an_installation_and_a_launch_make_one_set_of_hooks_and_the_inbox_is_read_once() {
    let Some(claude) = claude() else { return };
    let (home, daemon, alice) = scene();
    assert!(Process::run(home.command(&["install"])).status.success());
    let script = {
        let (socket, alice) = (daemon.socket(), alice.clone());
        move |number: usize| {
            if number == 0 {
                write(&alice, "bob", "read by hand", "now");
                arrived(&socket, "read by hand");
                return Turn::Run(format!("{CLAUDEMESH} inbox --unread"));
            }
            Turn::Say
        }
    };
    let model = Model::start(script);
    let args = ["launch", "--name", "bob", "--quiet", "--", "-p", "hello", "--allowedTools", "Bash"];
    let ended = Process::run(model.command(&home, &claude, &args));
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(model.saw(0).matches("This session is").count(), 1, "{}", model.saw(0));
    let second = model.saw(1);
    assert_eq!(second.matches("read by hand").count(), 1, "{second}");
    assert_eq!(offered(&daemon.socket(), "read by hand"), "tool");
}

#[test]
fn a_daemon_that_dies_within_a_turn_does_not_break_it() {
    let Some(claude) = claude() else { return };
    let (home, daemon, _alice) = scene();
    let daemon = Arc::new(Mutex::new(daemon));
    let script = {
        let daemon = daemon.clone();
        move |number: usize| {
            if number == 0 {
                daemon.lock().unwrap().kill();
                return Turn::UseTool;
            }
            Turn::Say
        }
    };
    let model = Model::start(script);
    let args = ["launch", "--name", "bob", "--quiet", "--", "-p", "hello", "--allowedTools", "Bash"];
    let ended = Process::run(model.command(&home, &claude, &args));
    assert!(ended.status.success() && ended.out.contains("ok"), "{ended:?}");
    assert_eq!(model.count(), 2);
}
