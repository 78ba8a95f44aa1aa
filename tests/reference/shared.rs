//! What members share and say of themselves, with the names that the reference's broker has for its answers.

use std::time::Instant;

use serde_json::{Value, json};

use super::{World, open_in_groups, outbox_until};
use crate::support::reference_broker::Rules;
use crate::support::session::Session;

#[track_caller]
fn call(session: &Session, method: &str, path: &str, body: Option<&Value>) -> Value {
    let reply = session.call(method, path, body).unwrap();
    assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
    reply.json()
}

#[test]
fn values_and_texts_and_skills_are_read_under_its_names() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    // It never answers this one, so there is nothing to wait for.
    let asked = Instant::now();
    let set = call(&ann, "POST", "/v1/state", Some(&json!({"key": "color", "value": {"rgb": [1, 2, 3]}})));
    assert_eq!((&set["ok"], &set["confirmed"]), (&json!(true), &json!(false)), "{set}");
    assert!(asked.elapsed() < claudemesh::wire::limits::RPC_DEADLINE, "it was waited for");
    world.broker.until("the value", |state| (!state.seen.of("set_state").is_empty()).then_some(()));
    assert_eq!(call(&ben, "GET", "/v1/state?key=color", None)["state"]["value"], json!({"rgb": [1, 2, 3]}));
    assert_eq!(ben.call("GET", "/v1/state?key=none", None).unwrap().status, 404);
    assert_eq!(call(&ben, "GET", "/v1/state", None)["entries"][0]["key"], "color");

    let id = call(&ann, "POST", "/v1/memory", Some(&json!({"content": "the door is blue", "tags": ["door"]})))["id"].clone();
    assert_eq!(id.as_str().map(str::len), Some(32), "{id}");
    let found = call(&ben, "GET", "/v1/memory?q=door", None);
    assert_eq!((&found["matches"][0]["id"], &found["matches"][0]["content"]), (&id, &json!("the door is blue")), "{found}");
    call(&ben, "DELETE", &format!("/v1/memory/{}", id.as_str().unwrap()), None);
    assert_eq!(call(&ann, "GET", "/v1/memory?q=door", None)["matches"], json!([]));

    world.broker.with(|state| state.keep_skill("deploy", "how to"));
    assert_eq!(call(&ann, "GET", "/v1/skills", None)["skills"][0]["name"], "deploy");
    assert_eq!(call(&ann, "GET", "/v1/skills/deploy", None)["skill"]["instructions"], "how to");
    assert_eq!(ann.call("GET", "/v1/skills/none", None).unwrap().status, 404);

    // A row's keys that are none of ours are passed on.
    let peers = call(&ann, "GET", "/v1/peers", None);
    let row = peers["peers"].as_array().unwrap().iter().find(|peer| peer["pubkey"] == ben.key.as_str()).unwrap().clone();
    assert_eq!((&row["stats"], &row["mesh"]), (&json!({"messagesIn": 0}), &json!("acme")), "{row}");
    world.assert_civil();
}

#[test]
fn a_request_that_it_fails_on_does_not_cost_the_connection() {
    let world = World::start(Rules::default());
    // News of others would be a sign of life.
    world.broker.until("everybody to be there", |state| (state.is_here("alice") && state.is_here("bob")).then_some(()));
    let ann = Session::open(&world.alice, "acme", "ann");
    world.broker.with(|state| state.silent.insert("list_skills".to_owned()));
    let skills = call(&ann, "GET", "/v1/skills", None);
    assert_eq!(skills["unanswered"]["acme"], "timeout", "{skills}");
    // It was asked something else, and answered.
    world.broker.until("the other question", |state| (!state.seen.of("list_peers").is_empty()).then_some(()));
    let hellos = world.broker.seen().hellos.len();
    world.broker.with(|state| state.silent.clear());
    assert_eq!(call(&ann, "GET", "/v1/skills", None)["skills"], json!([]));
    assert_eq!(world.broker.seen().hellos.len(), hellos, "it was connected to again");
}

#[test]
fn what_was_held_back_comes_when_the_session_is_ready() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    call(&ben, "POST", "/v1/profile", Some(&json!({"status": "dnd", "summary": "deep in it"})));
    world.broker.until("the status", |state| (!state.seen.of("set_status").is_empty()).then_some(()));
    ann.send(&ben.key, "when you have time", "m-1");
    outbox_until(&world.alice, "m-1", "the broker to take it", |row| row["status"] == "done");
    assert_eq!(world.broker.with(|state| state.undelivered()), 1);
    assert_eq!(heard.messages().len(), 0);
    call(&ben, "POST", "/v1/profile", Some(&json!({"status": "idle"})));
    heard.message("m-1");
    world.assert_civil();
}

#[test]
fn a_group_that_would_end_the_broker_can_not_be_joined() {
    let world = World::start(Rules::default());
    let ann = open_in_groups(&world.alice, "ann", &json!(["eng"]));
    for groups in [json!(["o'neil"]), json!(["ok", "@it's:lead"]), json!([7]), json!("x'y"), json!(["a\"b"])] {
        for key in ["join_groups", "leave_groups"] {
            let reply = ann.call("POST", "/v1/profile", Some(&json!({key: groups}))).unwrap();
            assert_eq!(reply.status, 400, "{key} {groups}: {reply:?}");
        }
    }
    call(&ann, "POST", "/v1/profile", Some(&json!({"join_groups": ["ops:o'neil"]})));
    world.broker.until("the group", |state| (!state.seen.of("join_group").is_empty()).then_some(()));
    let seen = world.broker.seen();
    let names: Vec<&Value> = seen.of("join_group").iter().map(|frame| &frame["name"]).collect();
    assert_eq!(names, ["ops"]);
    assert!(seen.of("leave_group").is_empty());
    world.assert_civil();
}
