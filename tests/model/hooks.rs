//! The hooks and the delivery ladder, without the client.

use serde_json::{Value, json};

use super::{arrived, scene, write};
use crate::support::home::Home;
use crate::support::http;
use crate::support::process::{Ended, Process};
use crate::support::session::Session;
use crate::support::wait::{PATIENCE, until};

const EVENTS: [&str; 9] = [
    "SessionStart",
    "UserPromptSubmit",
    "PostToolUse",
    "PostToolBatch",
    "Stop",
    "StopFailure",
    "Notification",
    "SessionEnd",
    "Wait",
];

/// Runs a hook of this session with this on its standard input.
pub(super) fn hook(home: &Home, session: Option<&Session>, event: &str, input: &str) -> Ended {
    let mut command = home.command(&["hook", event]);
    command.env("CLAUDEMESH_HOOK_MS", "5000");
    if let Some(session) = session {
        command.env("CLAUDEMESH_IPC_TOKEN", &session.token).env("CLAUDEMESH_SESSION_ID", &session.id);
    }
    let mut process = Process::spawn(command);
    process.say(input);
    process.finish()
}

fn claim(session: &Session, body: &Value) -> Vec<String> {
    let reply = session.call("POST", "/v1/inbox/claim", Some(body)).unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let page = reply.json();
    page["items"].as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn without_a_daemon_a_session_or_sense_a_hook_says_nothing() {
    let home = Home::new();
    for event in EVENTS.iter().filter(|event| !["Wait", "SessionStart"].contains(event)) {
        for input in ["{}", "", "{", r#"{"session_id":"01234567-89ab-cdef-0123-456789abcdef"}"#] {
            let ended = hook(&home, None, event, input);
            assert_eq!((ended.status.code(), ended.out.as_str(), ended.err.as_str()), (Some(0), "", ""), "{event} {input}");
        }
    }
    assert!(!home.socket().exists(), "and starts nothing");
    let (home, _daemon, alice) = scene();
    for (session, event) in
        EVENTS.iter().filter(|event| !["Wait", "SessionStart"].contains(event)).map(|event| (Some(&*alice), event))
    {
        let ended = hook(&home, session, event, "{}");
        assert_eq!((ended.status.code(), ended.out.as_str(), ended.err.as_str()), (Some(0), "", ""), "{event}");
    }
}

#[test]
fn each_hook_brings_what_its_event_may_and_each_message_once() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    for (text, priority) in [("urgent", "now"), ("usual", "next"), ("idle talk", "low")] {
        write(&alice, "bob", text, priority);
        arrived(&daemon.socket(), text);
    }
    let said = |event: &str| {
        let ended = hook(&home, Some(&bob), event, "{}");
        assert_eq!(ended.status.code(), Some(if event == "Wait" { 2 } else { 0 }), "{ended:?}");
        ended
    };
    let tool: Value = serde_json::from_str(&said("PostToolUse").out).unwrap();
    let context = tool["hookSpecificOutput"]["additionalContext"].as_str().unwrap();
    assert_eq!(tool["hookSpecificOutput"]["hookEventName"], "PostToolUse");
    assert!(context.contains("| urgent\n") && !context.contains("usual"), "{context}");
    assert_eq!(said("Stop").out, "", "nothing urgent is left");
    let woken = said("Wait");
    assert!(woken.out.is_empty() && woken.err.contains("| usual\n") && !woken.err.contains("idle talk"), "{woken:?}");
    let prompted = said("UserPromptSubmit").out;
    assert!(prompted.contains("| idle talk\\n") && !prompted.contains("urgent\\n"), "{prompted}");
    assert_eq!(said("UserPromptSubmit").out, "");
    assert!(bob.unread().is_empty(), "what the model saw is not unread");
    write(&alice, "bob", "stop!", "now");
    arrived(&daemon.socket(), "stop!");
    let stopped: Value = serde_json::from_str(&said("Stop").out).unwrap();
    assert_eq!(stopped["decision"], "block");
    assert!(stopped["reason"].as_str().unwrap().contains("| stop!\n"));
}

#[test]
fn what_a_hook_could_not_say_is_given_back_at_once() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    for event in ["Wait", "PostToolUse", "Stop", "UserPromptSubmit"] {
        let text = format!("lost by {event}?");
        write(&alice, "bob", &text, "now");
        arrived(&daemon.socket(), &text);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.command(&["hook", event]);
        command.env("CLAUDEMESH_HOOK_MS", "5000").env("CLAUDEMESH_IPC_TOKEN", &bob.token).env("CLAUDEMESH_SESSION_ID", &bob.id);
        command.stdin(std::process::Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(0), "{event}: nobody was woken, and nothing failed");
        assert_eq!(arrived(&daemon.socket(), &text)["offered_by"], Value::Null, "{event}");
        // A claim that was kept would hold it for half a minute.
        assert_eq!(claim(&bob, &json!({ "path": "prompt" })), [text]);
    }
}

#[test]
fn what_went_to_a_group_can_be_answered_to_the_group_and_to_its_sender() {
    let (home, daemon, alice) = scene();
    let [bob, carol] = ["bob", "carol"].map(|name| {
        let session = Session::prepare(&daemon, "home", name).in_groups(&["eng/api"]);
        session.register(std::process::id());
        session.await_link();
        session
    });
    write(&alice, "@eng/api", "who deploys?", "now");
    let comes = |session: &Session, text: &str| {
        until(text, || {
            let page = session.call("GET", "/v1/inbox?mark_seen=false", None).ok()?.json();
            page["items"].as_array()?.iter().find(|row| row["body"] == text).cloned()
        })
    };
    assert_eq!(comes(&bob, "who deploys?")["sent_to"], "@eng/api");
    let prompted: Value = serde_json::from_str(&hook(&home, Some(&bob), "UserPromptSubmit", "{}").out).unwrap();
    let context = prompted["hookSpecificOutput"]["additionalContext"].as_str().unwrap();
    let answers = context.lines().find(|line| line.starts_with("(to answer @eng/api: ")).unwrap_or_else(|| panic!("{context}"));
    // Each command as it stands there, with another text.
    let typed = |command: &str, text: &str| {
        let words: Vec<String> = command.split(' ').map(|word| word.trim_matches(['\'', '"']).replace("...", text)).collect();
        let mut run = home.command(&words[1..].iter().map(String::as_str).collect::<Vec<_>>());
        let ended = Process::run({
            run.env("CLAUDEMESH_IPC_TOKEN", &bob.token);
            run
        });
        assert!(ended.status.success(), "{words:?}: {ended:?}");
    };
    let commands: Vec<&str> = answers.trim_end_matches(')').split("; ").map(|part| part.split_once(": ").unwrap().1).collect();
    assert_eq!(commands.len(), 2, "{answers}");
    typed(commands[0], "all");
    typed(commands[1], "you");
    comes(&carol, "all");
    comes(&alice, "you");
    let page = carol.call("GET", "/v1/inbox?mark_seen=false", None).unwrap().json();
    assert!(!page["items"].as_array().unwrap().iter().any(|row| row["body"] == "you"), "{page}");
}

#[test]
fn a_waiter_gives_its_place_to_the_next_and_a_busy_session_is_not_woken() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    let wait = || {
        let mut command = home.command(&["hook", "Wait"]);
        command.env("CLAUDEMESH_IPC_TOKEN", &bob.token).env("CLAUDEMESH_SESSION_ID", &bob.id);
        let mut process = Process::spawn(command);
        process.say("{}");
        process
    };
    // Whichever comes second takes the place of the other.
    let (ended, ends) = std::sync::mpsc::channel();
    for waiter in [wait(), wait()] {
        let ended = ended.clone();
        std::thread::spawn(move || ended.send(waiter.finish().status.code()));
    }
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(Some(0)), "displaced");
    let status = |status: &str| {
        let reply = bob.call("POST", "/v1/profile", Some(&json!({ "status": status }))).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    write(&alice, "bob", "the other hears this", "next");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(Some(2)));
    write(&alice, "bob", "later", "next");
    arrived(&daemon.socket(), "later");
    status("working");
    assert_eq!(claim(&bob, &json!({ "path": "wake" })), [""; 0]);
    status("dnd");
    hook(&home, Some(&bob), "idle", "{}");
    assert_eq!(claim(&bob, &json!({ "path": "wake" })), [""; 0], "a hook does not undo what the user asked for");
    status("idle");
    assert_eq!(claim(&bob, &json!({ "path": "wake" })), ["later"]);
    let none = daemon.get("/v1/health").json();
    assert_eq!(none["guard"]["held_pairs"], 0);
}

#[test]
fn what_did_not_fit_into_one_wake_up_comes_with_the_next() {
    let (home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    let texts: Vec<String> = (10..30).map(|n| format!("{n} {}", "x".repeat(600))).collect();
    texts.iter().for_each(|text| write(&alice, "bob", text, "next"));
    arrived(&daemon.socket(), texts.last().unwrap());
    let mut shown = String::new();
    let mut wakes = 0;
    while wakes < 10 && texts.iter().any(|text| !shown.contains(text)) {
        let woken = hook(&home, Some(&bob), "Wait", "{}");
        assert_eq!(woken.status.code(), Some(2), "{woken:?}");
        assert!(woken.err.chars().count() <= 10_000);
        shown.push_str(&woken.err);
        wakes += 1;
    }
    assert!(1 < wakes, "they do not fit into one");
    for text in &texts {
        assert_eq!(shown.matches(text).count(), 1, "{text}");
        assert_eq!(arrived(&daemon.socket(), text)["offered_by"], "wake");
    }
    assert_eq!(daemon.get("/v1/health").json()["guard"], json!({ "held_pairs": 0, "repeats": 0 }));
}

#[test]
fn a_wake_up_that_came_to_nothing_is_tried_again_and_costs_nothing() {
    let home = Home::new();
    std::fs::create_dir(home.join("daemon")).unwrap();
    std::fs::write(home.join("daemon/settings.json"), r#"{"wakeBudget":1,"wakeWindowSeconds":3600}"#).unwrap();
    let daemon = crate::support::servers::Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    write(&alice, "bob", "hello", "next");
    let id = arrived(&daemon.socket(), "hello")["id"].clone();
    let tell = |route: &str| {
        let body = json!({ "ids": [id], "path": "wake" });
        bob.call("POST", &format!("/v1/inbox/{route}"), Some(&body)).unwrap().json()["changed"].clone()
    };
    for _ in 0..3 {
        assert_eq!(claim(&bob, &json!({ "path": "wake" })), ["hello"]);
        assert_eq!(tell("unclaim"), 1);
    }
    assert_eq!(claim(&bob, &json!({ "path": "wake" })), ["hello"]);
    assert_eq!(tell("offered"), 1);
    let guard = daemon.get("/v1/health").json()["guard"].clone();
    assert_eq!((&guard["held_pairs"], &guard["repeats"]), (&json!(1), &json!(0)));
    assert_eq!(guard["pairs"], json!([{ "session": "bob", "sender": alice.key }]));
}

#[test]
fn two_sessions_can_not_keep_each_other_awake() {
    let home = Home::new();
    let settings = home.join("daemon/settings.json");
    std::fs::create_dir(home.join("daemon")).unwrap();
    std::fs::write(&settings, r#"{"wakeBudget":2,"wakeWindowSeconds":3600}"#).unwrap();
    let daemon = crate::support::servers::Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    let say = |text: &str, id: &str| {
        let body = json!({ "to": "bob", "message": text, "client_message_id": id });
        until("the recipient to be there", || (alice.call("POST", "/v1/send", Some(&body)).ok()?.status == 202).then_some(()));
        until("the message to arrive", || {
            let page = daemon.get("/v1/inbox?mark_seen=false").json();
            page["items"].as_array()?.iter().any(|row| row["client_message_id"] == id).then_some(())
        });
    };
    let wake = json!({ "path": "wake" });
    // Claims, and puts it before the model.
    let woken = || {
        let page = bob.call("POST", "/v1/inbox/claim", Some(&wake)).unwrap().json();
        let items = page["items"].as_array().unwrap();
        let ids: Vec<&Value> = items.iter().map(|item| &item["id"]).collect();
        bob.call("POST", "/v1/inbox/offered", Some(&json!({ "ids": ids, "path": "wake" }))).unwrap();
        items.iter().map(|item| item["body"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    say("thanks!", "1");
    assert_eq!(woken(), ["thanks!"]);
    say("thanks!", "2");
    assert_eq!(woken(), [""; 0], "the same again wakes nobody");
    say("you are welcome", "3");
    assert_eq!(woken(), ["you are welcome"]);
    say("no, you", "4");
    assert_eq!(claim(&bob, &wake), [""; 0], "the budget is spent");
    let health = daemon.get("/v1/health").json();
    assert_eq!((&health["guard"]["held_pairs"], &health["guard"]["repeats"]), (&json!(1), &json!(1)));
    let shown = Process::run(home.command(&["status"])).out;
    assert!(shown.contains("waits for a person") && shown.contains(&format!("from {} for bob", &alice.key[..16])), "{shown}");
    assert_eq!(claim(&bob, &json!({ "path": "prompt" })), ["no, you"], "a person is there");
}

#[test]
fn what_a_dead_path_claimed_is_given_back() {
    let (_home, daemon, alice) = scene();
    let bob = Session::open(&daemon, "home", "bob");
    write(&alice, "bob", "for one of you", "next");
    let id = arrived(&daemon.socket(), "for one of you")["id"].clone();
    assert_eq!(claim(&bob, &json!({ "path": "channel" })), ["for one of you"]);
    assert_eq!(claim(&bob, &json!({ "path": "prompt" })), [""; 0]);
    let call = |route: &str, path: &str| {
        let body = json!({ "ids": [id], "path": path });
        bob.call("POST", &format!("/v1/inbox/{route}"), Some(&body)).unwrap().json()["changed"].clone()
    };
    assert_eq!(call("unclaim", "prompt"), 0);
    assert_eq!(call("unclaim", "channel"), 1);
    assert_eq!(claim(&bob, &json!({ "path": "prompt" })), ["for one of you"]);
    assert_eq!(call("offered", "prompt"), 1);
    assert_eq!(call("offered", "tool"), 0);
    assert_eq!(alice.call("POST", "/v1/inbox/claim", Some(&json!({ "path": "sideways" }))).unwrap().status, 400);
    assert_eq!(
        http::request(&daemon.socket(), "POST", "/v1/inbox/claim", &[], Some(br#"{"path":"prompt"}"#)).unwrap().status,
        401,
        "only a session has a model"
    );
}
