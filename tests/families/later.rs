//! What is sent later, where messages stand, and tasks, as somebody types them.

use serde_json::json;

use super::Typist;
use crate::support::mesh::World;
use crate::support::session::Session;
use crate::support::wait::until;

#[test]
fn a_reminder_comes_once_although_the_broker_was_killed_and_a_task_goes_its_way() {
    let mut world = World::pair();
    let own = Session::open(&world.alice, "acme", "alice");
    let other = Session::open(&world.bob, "acme", "bob");
    let (alice_home, bob_home) = (&world.homes[0], &world.homes[1]);
    let alice = Typist { home: alice_home, session: Some(&own) };
    let bob = Typist { home: bob_home, session: Some(&other) };
    alice.says(&["remind", "look at the build", "--in", "1s"]);
    alice.says(&["remind", "tell", "bob", "--in", "1s", "--to", "bob"]);
    let far = alice.json(&["remind", "later", "--cron", "0 9 * * 1-5", "--to", "*"])["scheduledId"].clone();
    let listed = alice.json(&["remind", "list"]);
    assert!(listed.as_array().unwrap().iter().any(|one| one["message"] == "later"), "{listed}");
    world.broker.kill();
    world.broker.restart();
    let arrived = |session: &Session, text: &str| {
        let row = until("what was to be sent", || session.unread().into_iter().find(|row| row["body"] == text));
        assert_eq!((&row["priority"], &row["sender_name"]), (&json!("now"), &json!("alice")));
    };
    arrived(&own, "look at the build");
    arrived(&other, "tell bob");
    until("alice's link", || alice.run(&["remind", "list"]).status.success().then_some(()));
    assert_eq!(alice.json(&["remind", "list"]).as_array().unwrap().len(), 1, "once is once");
    alice.says(&["remind", "cancel", far.as_str().unwrap()]);
    alice.fails(&["remind", "cancel", far.as_str().unwrap()], 5, "waits");
    alice.fails(&["remind", "x"], 3, "when?");
    alice.fails(&["remind", "x", "--cron", "soon"], 3, "no five fields");
    alice.fails(&["remind", "x", "--in", "1h", "--to", "nobody"], 5, "not found");

    until("bob's link", || bob.run(&["task", "list"]).status.success().then_some(()));
    let id = alice.json(&["task", "create", "fix", "the", "parser", "--tags", "bug"])["id"].as_str().unwrap().to_owned();
    assert_eq!(bob.json(&["task", "claim", &id[..8]])[0]["claimedBy"], "bob");
    alice.fails(&["task", "claim", &id], 1, "somebody has this task");
    assert_eq!(bob.json(&["task", "complete", &id, "merged"])[0]["result"], "merged");
    assert_eq!(alice.json(&["task", "list", "--status", "done"])[0]["title"], "fix the parser");
    alice.fails(&["task", "claim", "nothing0"], 5, "no such task");
    // Nor can there be one of this id.
    alice.fails(&["task", "claim", "nope"], 5, "6 may stand for all");
    alice.fails(&["task", "complete", "nope"], 5, "claudemesh task list");

    alice.says(&["send", "bob", "hello", "--id", "named"]);
    let standing = until("it to be delivered", || {
        let state = alice.run(&["message", "status", "named", "--json"]);
        let is_told = |state: &serde_json::Value| state["delivered"] == true && state["recipients"][0]["status"] == "delivered";
        serde_json::from_str::<serde_json::Value>(&state.out).ok().filter(is_told)
    });
    let at = &standing["recipients"][0];
    assert_eq!((&at["name"], &at["pubkey"]), (&json!("bob"), &json!(other.key)));
    bob.fails(&["message", "status", standing["messageId"].as_str().unwrap()], 5, "you sent no message");
}
