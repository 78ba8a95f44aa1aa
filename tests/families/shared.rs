//! State, memory, skills, and what a session shows of itself.

use serde_json::json;

use super::Typist;
use crate::support::mesh::World;
use crate::support::session::Session;
use crate::support::wait::until;

#[test]
fn values_texts_and_skills_are_typed_and_read_by_others() {
    let world = World::pair();
    let alice_session = Session::open(&world.alice, "acme", "alice");
    let alice = Typist { home: &world.homes[0], session: Some(&alice_session) };
    let bob = Typist { home: &world.homes[1], session: None };
    until("bob's link", || bob.run(&["state", "list"]).status.success().then_some(()));

    assert!(alice.says(&["state", "set", "build", "green"]).contains("build = \"green\""));
    alice.says(&["state", "set", "limit", "7"]);
    assert!(bob.says(&["state", "get", "build"]).starts_with("  green\n"));
    let limit = bob.json(&["state", "get", "limit"]);
    assert_eq!((&limit["value"], &limit["updatedBy"], &limit["mesh"]), (&json!(7), &json!("alice"), &json!("acme")));
    assert_eq!(bob.json(&["state", "list"]).as_array().unwrap().len(), 2);
    bob.fails(&["state", "get", "nothing"], 5, "\"nothing\" not found");
    bob.fails(&["state", "set", "build", "red", "--approval-mode", "plan"], 7, "changes something");
    bob.fails(&["state", "get", "build", "--mesh", "nowhere"], 5, "not found");

    let kept = alice.json(&["remember", "deploys run on Fridays", "--tags", "ops, ci"]);
    assert_eq!(kept["tags"], json!(["ops", "ci"]));
    let found = bob.json(&["recall", "deploy"]);
    assert_eq!((&found[0]["content"], &found[0]["id"]), (&json!("deploys run on Fridays"), &kept["id"]));
    assert!(bob.says(&["recall", "unheard"]).contains("no memories found"));
    bob.says(&["forget", kept["id"].as_str().unwrap()]);
    alice.fails(&["forget", kept["id"].as_str().unwrap()], 5, "not found");

    std::fs::write(world.homes[0].join("review.md"), "Read it twice.\n").unwrap();
    alice.says(&["skill", "publish", "review", "review.md", "--description", "How we review", "--tags", "code"]);
    assert_eq!(bob.json(&["skill", "list", "--query", "code"])[0]["name"], "review");
    assert!(bob.says(&["skill", "get", "review"]).contains("Read it twice."));
    alice.fails(&["skill", "publish", "o'neil", "review.md"], 3, "a skill's name is");
    alice.says(&["skill", "remove", "review"]);
    alice.fails(&["skill", "remove", "review"], 5, "not found");
    bob.fails(&["skill", "get", "review"], 5, "not found");
}

#[test]
fn what_is_typed_in_a_session_is_shown_of_that_session_and_of_no_other() {
    let world = World::pair();
    let own = Session::open(&world.alice, "acme", "alice");
    let other = Session::open(&world.alice, "acme", "other");
    let alice = Typist { home: &world.homes[0], session: Some(&own) };
    alice.says(&["status", "set", "dnd"]);
    alice.says(&["summary", "fixing", "the", "parser"]);
    assert!(alice.says(&["group", "join", "@eng", "--role", "lead"]).contains("joined @eng as lead"));
    alice.says(&["group", "join", "ops"]);
    alice.says(&["group", "leave", "@ops"]);
    alice.says(&["profile", "set", "--title", "Parser", "--capabilities", "rust,sql"]);
    assert_eq!(alice.json(&["group", "list"]), json!([{"group": "eng", "role": "lead", "mesh": "acme"}]));
    let shown = alice.json(&["profile"]);
    assert_eq!((&shown[0]["status"], &shown[0]["summary"]), (&json!("dnd"), &json!("fixing the parser")));
    assert_eq!(shown[0]["profile"], json!({"title": "Parser", "capabilities": ["rust", "sql"]}));
    let rest = Typist { session: Some(&other), ..alice }.json(&["profile"]);
    assert_eq!((&rest[0]["status"], &rest[0]["groups"]), (&json!("idle"), &json!([])));

    let bob = Typist { home: &world.homes[1], session: None };
    let sees = |wanted: bool| {
        let peers = bob.json(&["peers"]);
        (peers.as_array().unwrap().iter().any(|peer| peer["pubkey"] == own.key.as_str()) == wanted).then_some(())
    };
    until("bob to see the session", || sees(true));
    alice.says(&["visible", "off"]);
    until("it to be hidden", || sees(false));
    alice.says(&["visible", "yes"]);
    until("it to be seen again", || sees(true));
    alice.fails(&["visible", "maybe"], 3, "neither on nor off");
    alice.fails(&["status", "set", "away"], 3, "not one of");
    alice.fails(&["group", "join", "o'neil"], 3, "o'neil");

    Typist { session: None, ..alice }.says(&["summary", "of", "the", "member"]);
    assert_eq!(alice.json(&["profile"])[0]["summary"], "fixing the parser", "the member's own is another");
}
