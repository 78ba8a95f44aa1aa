//! A peer's message reaches the model. The real client runs on a stand-in for its model; what that was asked is what the model
//! saw. Without the client these tests say so and pass; what the daemon and the hooks do is tested without it as well.

mod client;
mod doctor;
mod hooks;
mod install;
mod reach;
mod waiting;

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::home::Home;
use crate::support::http;
use crate::support::model::{Model, Turn, claude};
use crate::support::process::Process;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

/// What a session of this name writes, as soon as its recipient is there.
fn write(from: &Session, to: &str, text: &str, priority: &str) {
    let id: String = format!("id of {text}").chars().take(60).collect();
    let body = json!({ "to": to, "message": text, "priority": priority, "client_message_id": id });
    until("the recipient to be there", || {
        let reply = from.call("POST", "/v1/send", Some(&body)).ok()?;
        matches!(reply.status, 200 | 202).then_some(())
    });
}

/// The row of the message with this text, once it has come.
fn arrived(socket: &Path, text: &str) -> Value {
    until("the message to arrive", || {
        let page = http::request(socket, "GET", "/v1/inbox?mark_seen=false&limit=1000", &[], None).unwrap().json();
        page["items"].as_array()?.iter().find(|row| row["body"] == text).cloned()
    })
}

/// By which path the message was offered, once it was.
fn offered(socket: &Path, text: &str) -> String {
    until("the message to be offered", || arrived(socket, text)["offered_by"].as_str().map(str::to_owned))
}

/// A scene: a home with a daemon, and a peer who writes.
fn scene() -> (Home, Daemon, Arc<Session>) {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Arc::new(Session::open(&daemon, "home", "alice"));
    (home, daemon, alice)
}

#[test]
fn a_busy_session_hears_of_urgent_mail_beside_a_tools_result_and_at_the_end_of_its_turn() {
    let Some(claude) = claude() else { return };
    let (home, daemon, alice) = scene();
    let script = {
        let (socket, alice) = (daemon.socket(), alice.clone());
        move |number: usize| {
            let text = match number {
                0 => "beside the tool",
                1 => "at the end",
                _ => return Turn::Say,
            };
            write(&alice, "bob", text, "now");
            arrived(&socket, text);
            if number == 0 { Turn::UseTool } else { Turn::Say }
        }
    };
    let model = Model::start(script);
    let args = ["launch", "--name", "bob", "--quiet", "--", "-p", "work on it", "--allowedTools", "Bash"];
    let ended = Process::run(model.command(&home, &claude, &args));
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(model.count(), 3, "one question each for the prompt, the tool's result, and the mail at the end");
    let first = model.saw(0);
    assert!(first.contains(r#"This session is "bob" on the mesh "home""#) && first.contains(r#"Online now: "alice""#), "{first}");
    let second = model.saw(1);
    assert!(second.contains("\n| beside the tool\n") && second.contains("from \"alice\""), "{second}");
    let third = model.saw(2);
    assert!(third.contains("\n| at the end\n"), "{third}");
    assert_eq!(third.matches("| beside the tool").count(), 1, "once");
    assert_eq!(
        (offered(&daemon.socket(), "beside the tool").as_str(), offered(&daemon.socket(), "at the end").as_str()),
        ("tool-use", "stop")
    );
}

#[test]
fn an_idle_session_is_woken_and_a_prompt_brings_what_waited() {
    let Some(claude) = claude() else { return };
    let (home, daemon, alice) = scene();
    let model = Model::start(|_| Turn::Say);
    let args = [
        "launch",
        "--name",
        "bob",
        "--quiet",
        "--",
        "-p",
        "--verbose",
        "--input-format",
        "stream-json",
        "--output-format",
        "stream-json",
    ];
    let mut command = model.command(&home, &claude, &args);
    command.env("CLAUDEMESH_WAKE", "always");
    let mut bob = Process::spawn(command);
    let prompt = |text: &str| json!({ "type": "user", "message": { "role": "user", "content": text } }).to_string();
    let turn_ends = |bob: &Process| while !bob.line().expect("the client runs").contains(r#""type":"result""#) {};
    bob.say(&prompt("hello"));
    turn_ends(&bob);
    write(&alice, "bob", "no hurry", "low");
    arrived(&daemon.socket(), "no hurry");
    write(&alice, "bob", "wake up", "next");
    assert!(model.saw(1).contains("\n| wake up\n"), "{}", model.saw(1));
    assert_eq!(offered(&daemon.socket(), "wake up"), "wake");
    assert_eq!(arrived(&daemon.socket(), "no hurry")["offered_by"], Value::Null, "low waits for a person");
    turn_ends(&bob);
    bob.say(&prompt("anything new?"));
    let third = model.saw(2);
    assert!(third.contains("\n| no hurry\n"), "{third}");
    assert_eq!(third.matches("| wake up").count(), 1, "once");
    assert_eq!(offered(&daemon.socket(), "no hurry"), "prompt");
    turn_ends(&bob);
    bob.kill();
}

#[test]
fn a_client_that_nobody_launched_is_a_session_of_its_own() {
    let Some(claude) = claude() else { return };
    let (home, daemon, _alice) = scene();
    let installed = Process::run(home.command(&["install"]));
    assert!(installed.status.success(), "{installed:?}");
    let seen = Arc::new(Mutex::new(Value::Null));
    let script = {
        let (socket, seen) = (daemon.socket(), seen.clone());
        move |_| {
            *seen.lock().unwrap() = http::request(&socket, "GET", "/v1/sessions", &[], None).unwrap().json();
            Turn::Say
        }
    };
    let model = Model::start(script);
    let mut command = model.command(&home, &claude, &[]);
    let project = home.join("payments");
    std::fs::create_dir(&project).unwrap();
    command = {
        let mut plain = std::process::Command::new(&claude);
        command.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(plain.env(name, value)),
            None => drop(plain.env_remove(name)),
        });
        plain.current_dir(&project).args(["-p", "hello"]);
        plain
    };
    let ended = Process::run(command);
    assert!(ended.status.success(), "{ended:?}");
    let first = model.saw(0);
    assert!(first.contains(r#"This session is "payments" on the mesh "home""#), "{first}");
    let sessions = seen.lock().unwrap().clone();
    let names: Vec<&str> =
        sessions["sessions"].as_array().unwrap().iter().filter_map(|session| session["displayName"].as_str()).collect();
    assert_eq!(names, ["alice", "payments"]);
    until("the session to end with its client", || {
        (daemon.get("/v1/sessions").json()["sessions"].as_array()?.len() == 1).then_some(())
    });
}
