//! What one session is kept from: what others of the same member sent, who else is on the machine, and what it has no right to.

use serde_json::{Value, json};

use crate::support::home::Home;
use crate::support::http;
use crate::support::mesh::World;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

#[track_caller]
fn ask(session: &Session, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let reply = session.call(method, path, body).expect("the daemon answers");
    (reply.status, reply.json())
}

/// As whoever has no token.
#[track_caller]
fn ask_as_user(daemon: &Daemon, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let body = body.map(Value::to_string);
    let reply = http::request(&daemon.socket(), method, path, &[], body.as_deref().map(str::as_bytes)).unwrap();
    (reply.status, reply.json())
}

/// Registers a session with these rights, with a key of its own or without.
#[track_caller]
fn register(session: &Session, caps: &Value, has_key: bool) {
    let mut body = json!({
        "token": session.token, "session_id": session.id, "mesh": "acme", "display_name": "al", "pid": std::process::id(),
        "caps": caps,
    });
    if has_key {
        body["presence"] = json!({"session_pubkey": session.key, "session_secret_key": session.secret});
    }
    let (status, answer) = ask(session, "POST", "/v1/sessions/register", Some(&body));
    assert_eq!((status, &answer["presence_accepted"]), (200, &json!(has_key)), "{answer}");
}

#[test]
fn a_session_with_some_rights_makes_no_key_that_has_more() {
    let world = World::pair();
    let whole = Session::open(&world.alice, "acme", "whole");
    assert_eq!(ask(&whole, "POST", "/v1/topics", Some(&json!({"name": "t"}))).0, 200);
    let (limited, keyless) = (Session::prepare(&world.alice, "acme", "al"), Session::prepare(&world.alice, "acme", "old"));
    register(&limited, &json!([]), true);
    limited.await_link();
    register(&keyless, &json!([]), false);
    for (method, path, body) in [
        ("POST", "/v1/apikeys", Some(json!({"label": "x", "capabilities": ["send", "read"]}))),
        ("GET", "/v1/apikeys", None),
        ("POST", "/v1/topics/leave", Some(json!({"topic": "t"}))),
        ("GET", "/v1/topics/history?topic=t", None),
        ("GET", "/v1/tasks", None),
    ] {
        for session in [&limited, &keyless] {
            let (status, refused) = ask(session, method, path, body.as_ref());
            assert_eq!((status, &refused["error"]), (403, &json!("forbidden")), "{method} {path}: {refused}");
        }
    }
    let members = ask(&whole, "GET", "/v1/topics/members?topic=t", None).1["members"].clone();
    assert_eq!(members.as_array().map(Vec::len), Some(1), "its member has not left: {members}");
    assert_eq!(ask(&whole, "GET", "/v1/apikeys", None).1["keys"], json!([]));
}

#[test]
fn one_session_learns_nothing_of_what_another_sent() {
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let other = Session::open(&world.alice, "acme", "other");
    let bob = Session::open(&world.bob, "acme", "bob");
    alice.send(&bob.key, "for bob alone", "m-1");
    let id = until("the broker to have it", || {
        let row = ask(&alice, "GET", "/v1/outbox/m-1", None).1;
        row["broker_message_id"].as_str().map(str::to_owned)
    });
    for text in ["for bob alone", "something else"] {
        let body = json!({"to": bob.key, "message": text, "client_message_id": "m-1"});
        let (status, conflict) = ask(&other, "POST", "/v1/send", Some(&body));
        assert_eq!((status, &conflict["conflict"]), (409, &json!("outbox_done_fingerprint_mismatch")), "{conflict}");
        assert_eq!(conflict["broker_message_id"], Value::Null, "it is told that the id is taken, and no more");
    }
    let another = json!({"to": bob.key, "message": "something else", "client_message_id": "m-1"});
    assert_eq!(ask(&alice, "POST", "/v1/send", Some(&another)).1["broker_message_id"], id.as_str());
    assert_eq!(ask_as_user(&world.alice, "POST", "/v1/send", Some(&another)).1["broker_message_id"], id.as_str());

    for name in [id.as_str(), &id[..8], "m-1"] {
        let path = format!("/v1/messages/{name}");
        let (status, refused) = ask(&other, "GET", &path, None);
        assert_eq!((status, refused.get("targetSpec")), (404, None), "{name}: {refused}");
        for (status, standing) in [ask(&alice, "GET", &path, None), ask_as_user(&world.alice, "GET", &path, None)] {
            assert_eq!((status, &standing["targetSpec"]), (200, &json!(bob.key)), "{name}: {standing}");
        }
    }
}

#[test]
fn a_session_tries_its_own_ways_in_alone() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let [alice, bob] = ["alice", "bob"].map(|name| Session::open(&daemon, "home", name));
    let tried = |(status, answer): (u16, Value)| {
        assert_eq!(status, 200, "{answer}");
        let mut names: Vec<String> =
            answer["canaries"].as_array().unwrap().iter().map(|one| one["displayName"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    };
    let body = json!({"wait_ms": 0});
    assert_eq!(tried(ask(&alice, "POST", "/v1/canary", Some(&body))), ["alice"]);
    assert_eq!(tried(ask(&bob, "POST", "/v1/canary", Some(&body))), ["bob"]);
    assert_eq!(tried(ask_as_user(&daemon, "POST", "/v1/canary", Some(&body))), ["alice", "bob"]);
}
