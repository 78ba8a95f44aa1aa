//! The hook that waits, the ends of turns, and what a hook does when all goes wrong: without the client.

use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{arrived, scene, write};
use crate::support::home::Home;
use crate::support::process::{Ended, Process};
use crate::support::session::Session;
use crate::support::wait::until;

/// A hook of this session, with this on its standard input.
fn start(home: &Home, session: Option<&Session>, event: &str, input: &Value, also: &[(&str, &str)]) -> Process {
    let mut process = Process::spawn(command(home, session, event, also));
    process.say(&input.to_string());
    process.close_input();
    process
}

fn command(home: &Home, session: Option<&Session>, event: &str, also: &[(&str, &str)]) -> Command {
    let mut command = home.command(&["hook", event]);
    command.env("CLAUDEMESH_HOOK_MS", "5000");
    if let Some(session) = session {
        command.env("CLAUDEMESH_IPC_TOKEN", &session.token).env("CLAUDEMESH_SESSION_ID", &session.id);
    }
    command.envs(also.iter().copied());
    command
}

fn hook(home: &Home, session: &Session, event: &str, input: &Value) -> Ended {
    start(home, Some(session), event, input, &[]).finish()
}

/// What a hook that is no error has said.
fn said(ended: &Ended) -> &str {
    assert_eq!((ended.status.code(), ended.err.as_str()), (Some(0), ""), "{ended:?}");
    &ended.out
}

fn status(session: &Session, status: &str) {
    let reply = session.call("POST", "/v1/profile", Some(&json!({ "status": status }))).unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn a_waiter_outlives_the_daemon_and_starts_none() {
    let (home, mut daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    let waiter = start(&home, Some(&bob), "Wait", &json!({ "hook_event_name": "Stop" }), &[]);
    daemon.terminate();
    // Whoever comes to the socket now is the waiter, and it has not started a daemon in the place of the one that was stopped.
    let listener = UnixListener::bind(home.socket()).unwrap();
    listener.set_nonblocking(true).unwrap();
    until("the waiter to come back", || listener.accept().ok());
    drop(listener);
    std::fs::remove_file(home.socket()).unwrap();
    daemon.restart();
    write(&alice, "bob", "back again", "next");
    let woken = waiter.finish();
    assert_eq!(woken.status.code(), Some(2), "{woken:?}");
    assert!(woken.err.contains("\n| back again\n"), "{woken:?}");
}

#[test]
fn the_end_of_a_turn_is_held_up_as_often_as_the_client_allows_and_the_rest_wakes() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    let mut paths = Vec::new();
    for number in 0..10 {
        let text = format!("urgent {number}");
        write(&alice, "bob", &text, "now");
        arrived(&daemon.socket(), &text);
        let stop = hook(&home, &bob, "Stop", &json!({ "stop_hook_active": number != 0 }));
        let shown = match said(&stop) {
            "" => hook(&home, &bob, "Wait", &json!({})).err,
            answer => answer.to_owned(),
        };
        assert!(shown.contains(&format!("| {text}")), "{number}: {shown}");
        paths.push(arrived(&daemon.socket(), &text)["offered_by"].as_str().unwrap().to_owned());
    }
    assert_eq!(paths, ["stop", "stop", "stop", "stop", "stop", "stop", "stop", "stop", "wake", "wake"]);
}

#[test]
fn a_start_is_greeted_once_and_hears_how_much_waits() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    (0..25).for_each(|n| write(&alice, "bob", &format!("message {n}"), "low"));
    arrived(&daemon.socket(), "message 24");
    let input = json!({ "session_id": bob.id, "source": "startup", "hook_event_name": "SessionStart" });
    let first = hook(&home, &bob, "SessionStart", &input);
    let second = hook(&home, &bob, "SessionStart", &input);
    assert!(said(&first).contains("This session is") && first.out.contains("| message 0\\n"), "{first:?}");
    assert!(first.out.contains("(5 more wait: "), "{first:?}");
    assert!(!said(&second).contains("This session is") && second.out.contains("| message 24\\n"), "{second:?}");
    assert_eq!(said(&hook(&home, &bob, "SessionStart", &input)), "");
}

#[test]
fn mail_is_for_the_session_and_not_for_its_helpers() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    write(&alice, "bob", "for bob", "now");
    arrived(&daemon.socket(), "for bob");
    for event in ["PostToolUse", "Stop", "UserPromptSubmit"] {
        assert_eq!(said(&hook(&home, &bob, event, &json!({ "agent_id": "a1" }))), "", "{event}");
    }
    assert!(said(&hook(&home, &bob, "PostToolUse", &json!({}))).contains("| for bob\\n"));
}

#[test]
fn a_client_within_a_sessions_shell_is_a_session_of_its_own() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    write(&alice, "bob", "for bob alone", "next");
    arrived(&daemon.socket(), "for bob alone");
    let inner = "01234567-89ab-cdef-0123-456789abcdef";
    let input = json!({ "session_id": inner, "source": "resume", "hook_event_name": "SessionStart", "cwd": "/srv/inner" });
    let me = std::process::id().to_string();
    let also = [("CLAUDEMESH_SESSION_PID", "1"), ("CLAUDE_PID", me.as_str())];
    let started = start(&home, Some(&bob), "SessionStart", &input, &also).finish();
    assert!(said(&started).contains(r#"This session is \"inner\""#) && !started.out.contains("for bob alone"), "{started:?}");
    let names = daemon.get("/v1/sessions").text();
    assert!(names.contains(inner) && names.contains(&bob.id), "{names}");
    // The same session under another id, as after /clear: the process is the one that was launched.
    let also = [("CLAUDEMESH_SESSION_PID", me.as_str()), ("CLAUDE_PID", me.as_str())];
    let input = json!({ "session_id": "11234567-89ab-cdef-0123-456789abcdef", "source": "clear" });
    assert!(said(&start(&home, Some(&bob), "SessionStart", &input, &also).finish()).contains("| for bob alone\\n"));
}

#[test]
fn after_a_failed_or_an_interrupted_turn_a_session_is_woken() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    let transcript = home.join("transcript.jsonl");
    std::fs::write(&transcript, "{\"type\":\"assistant\"}\n").unwrap();
    for (text, event) in [("after a failure", "StopFailure"), ("after a while", "Notification"), ("after Esc", "")] {
        // The broker keeps what does not hurry for those who work.
        write(&alice, "bob", text, "next");
        arrived(&daemon.socket(), text);
        status(&bob, "working");
        let waiter = start(&home, Some(&bob), "Wait", &json!({ "transcript_path": transcript }), &[]);
        if event.is_empty() {
            let said = json!({ "type": "user", "message": { "content": [{ "type": "text", "text": "[Request interrupted by user]" }] } });
            std::fs::write(&transcript, format!("{said}\n")).unwrap();
        } else {
            assert_eq!(said(&hook(&home, &bob, event, &json!({}))), "");
        }
        let woken = waiter.finish();
        assert!(woken.status.code() == Some(2) && woken.err.contains(&format!("| {text}\n")), "{text}: {woken:?}");
        status(&bob, "idle");
    }
}

#[test]
fn a_daemon_that_hangs_costs_a_turn_its_deadline_and_no_mail() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    write(&alice, "bob", "wait for it", "now");
    arrived(&daemon.socket(), "wait for it");
    let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    let quick = |event: &str, input: &str| {
        let mut process = Process::spawn({
            let mut command = command(&home, Some(&bob), event, &[]);
            command.env_remove("CLAUDEMESH_HOOK_MS");
            command
        });
        process.say(input);
        process.finish()
    };
    let large = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(1024 * 1024));
    for event in ["UserPromptSubmit", "PostToolUse", "Stop", "StopFailure", "SessionStart", "SessionEnd"] {
        assert_eq!(said(&quick(event, "{}")), "", "{event}");
    }
    assert_eq!(said(&quick("UserPromptSubmit", &large)), "");
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    // What was claimed for hooks that had left comes back.
    let text = until("the message to be offered", || {
        let out = hook(&home, &bob, "PostToolUse", &json!({})).out;
        (!out.is_empty()).then_some(out)
    });
    assert!(text.contains("| wait for it\\n"), "{text}");
}

#[test]
fn a_socket_that_nobody_serves_costs_a_turn_its_deadline() {
    let (home, mut daemon, _alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    daemon.terminate();
    let _listener = UnixListener::bind(home.socket()).unwrap();
    for event in ["UserPromptSubmit", "PostToolUse", "Stop"] {
        let mut process = Process::spawn({
            let mut command = command(&home, Some(&bob), event, &[]);
            command.env_remove("CLAUDEMESH_HOOK_MS");
            command
        });
        process.say("{}");
        assert_eq!(said(&process.finish()), "", "{event}");
    }
    std::fs::remove_file(home.socket()).unwrap();
    daemon.restart();
}

#[test]
fn where_several_meshes_are_joined_a_session_says_so_until_one_is_chosen() {
    let (home, daemon, _alice) = scene();
    let file = home.join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let mut second = config["meshes"][0].clone();
    second["slug"] = json!("second");
    config["meshes"].as_array_mut().unwrap().push(second);
    std::fs::write(&file, config.to_string()).unwrap();
    let me = std::process::id().to_string();
    let input = json!({ "session_id": "01234567-89ab-cdef-0123-456789abcdef", "source": "startup", "cwd": "/srv/payments" });
    let begin = || start(&home, None, "SessionStart", &input, &[("CLAUDE_PID", me.as_str())]).finish();
    let unsure = begin();
    assert!(said(&unsure).contains("on no mesh") && unsure.out.contains(r#"\"home\", \"second\""#), "{unsure:?}");
    std::fs::write(home.join("daemon/settings.json"), r#"{"defaultMesh":"home"}"#).unwrap();
    let sure = begin();
    assert!(said(&sure).contains(r#"This session is \"payments\" on the mesh \"home\""#), "{sure:?}");
    assert!(daemon.get("/v1/sessions").text().contains("payments"));
}

#[test]
fn a_session_that_starts_has_a_daemon_started() {
    let home = Home::new();
    let me = std::process::id().to_string();
    let input = json!({ "session_id": "01234567-89ab-cdef-0123-456789abcdef", "source": "startup", "cwd": "/srv/payments" });
    let started = start(&home, None, "SessionStart", &input, &[("CLAUDE_PID", me.as_str())]).finish();
    let stopped = Process::run(home.command(&["down"]));
    assert!(said(&started).contains(r#"This session is \"payments\""#), "{started:?}");
    assert!(stopped.status.success(), "{stopped:?}");
}

#[test]
fn what_a_command_shows_no_hook_shows_as_well() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    write(&alice, "bob", "read by hand", "now");
    arrived(&daemon.socket(), "read by hand");
    let mut inbox = home.command(&["inbox"]);
    inbox.env("CLAUDEMESH_IPC_TOKEN", &bob.token);
    assert!(Process::run(inbox).out.contains("read by hand"));
    assert_eq!(arrived(&daemon.socket(), "read by hand")["offered_by"], "tool");
    assert_eq!(said(&hook(&home, &bob, "PostToolUse", &json!({}))), "");
    let shown = Process::run(home.command(&["inbox"])).out;
    assert!(shown.contains("offered by tool "), "{shown}");
}

#[test]
fn a_channel_brings_nothing_where_hooks_do() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    let channel = || {
        let reply = bob.call("POST", "/v1/inbox/claim", Some(&json!({ "path": "channel" }))).unwrap().json();
        reply["items"].as_array().unwrap().len()
    };
    write(&alice, "bob", "by the channel", "next");
    arrived(&daemon.socket(), "by the channel");
    assert_eq!(channel(), 1, "no hook was ever heard");
    assert_eq!(said(&hook(&home, &bob, "PostToolUse", &json!({}))), "");
    write(&alice, "bob", "by a hook", "next");
    arrived(&daemon.socket(), "by a hook");
    assert_eq!(channel(), 0);
    assert!(hook(&home, &bob, "Wait", &json!({})).err.contains("| by a hook\n"));
}
