//! What one session is kept from: what it has no right to.

use serde_json::{Value, json};

use crate::support::mesh::World;
use crate::support::session::Session;

#[track_caller]
fn ask(session: &Session, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let reply = session.call(method, path, body).expect("the daemon answers");
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
