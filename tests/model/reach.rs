//! What peers are told of a session by its hooks: what it is doing, and whether mail gets in by itself.

use serde_json::{Value, json};

use super::hooks::hook;
use crate::support::mesh::World;
use crate::support::process::Process;
use crate::support::session::Session;
use crate::support::wait::until;

#[test]
fn peers_see_from_the_hooks_what_a_session_does_and_how_it_is_reached() {
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let seen = || {
        let page = bob.call("GET", "/v1/peers", None).unwrap().json();
        let mut rows = page["peers"].as_array().unwrap().iter();
        rows.find(|row| row["pubkey"] == alice.key.as_str()).cloned().unwrap_or_default()
    };
    let sees = |key: &str, value: Value| {
        until(&format!("{key} to be {value}"), || (seen()[key] == value).then_some(()));
    };
    sees("status", json!("idle"));
    assert_eq!(seen()["reach"], Value::Null, "nobody knows yet");

    hook(&world.homes[0], Some(&alice), "UserPromptSubmit", "{}");
    sees("status", json!("working"));
    sees("reach", json!(["turn"]));
    let of_alice = |session: &Session| {
        let page = session.call("GET", "/v1/sessions", None).unwrap().json();
        page["sessions"].as_array().unwrap()[0]["delivery"].clone()
    };
    let delivery = of_alice(&alice);
    assert_eq!(
        (&delivery["lastHook"], &delivery["hooksFire"], &delivery["waiting"]),
        (&json!("prompt"), &json!(true), &json!(false))
    );
    assert!(delivery["lastHookAt"].as_i64().is_some_and(|at| 0 < at));

    hook(&world.homes[0], Some(&alice), "Stop", "{}");
    sees("status", json!("idle"));
    let mut command = world.homes[0].command(&["hook", "Wait"]);
    command.env("CLAUDEMESH_IPC_TOKEN", &alice.token).env("CLAUDEMESH_SESSION_ID", &alice.id);
    let mut waiter = Process::spawn(command);
    waiter.say("{}");
    waiter.close_input();
    sees("reach", json!(["wake", "turn"]));
    let delivery = of_alice(&alice);
    assert_eq!((&delivery["lastHook"], &delivery["waiting"]), (&json!("wake"), &json!(true)));
    let mut list = world.homes[1].command(&["peer", "list"]);
    list.env("CLAUDEMESH_IPC_TOKEN", &bob.token);
    let list = Process::run(list).out;
    assert!(list.contains("can be woken (wake, turn)"), "{list}");
    waiter.kill();
}
