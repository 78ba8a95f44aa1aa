//! What the members of a mesh share, and what each shows of itself, over the local API of real daemons and a real broker.

use serde_json::{Value, json};

use crate::support::http::Reply;
use crate::support::mesh::World;
use crate::support::session::Session;
use crate::support::wait::until;

#[track_caller]
fn post(session: &Session, path: &str, body: &Value) -> Value {
    let reply = session.call("POST", path, Some(body)).expect("the daemon answers");
    assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
    reply.json()
}

#[track_caller]
fn get(session: &Session, path: &str) -> Reply {
    session.call("GET", path, None).expect("the daemon answers")
}

#[test]
fn a_value_that_one_session_sets_is_read_by_another_and_announced() {
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let events = bob.follow(None);
    let set = post(&alice, "/v1/state", &json!({"key": "build", "value": {"ok": true, "n": [1, 2]}}));
    assert_eq!((&set["mesh"], &set["confirmed"]), (&json!("acme"), &json!(true)));
    let state = get(&bob, "/v1/state?key=build").json()["state"].clone();
    assert_eq!(state["value"], json!({"ok": true, "n": [1, 2]}));
    assert_eq!((&state["updatedBy"], &state["mesh"]), (&json!("alice"), &json!("acme")));
    let change = events.until("the change", |events| {
        events.iter().find(|event| event.name == "system" && event.data["event"] == "state_change").cloned()
    });
    let change = &change.data["eventData"];
    assert_eq!((&change["key"], &change["updatedBy"]), (&json!("build"), &json!("alice")));

    post(&bob, "/v1/state", &json!({"key": "alpha", "value": 1}));
    let entries = get(&alice, "/v1/state").json()["entries"].clone();
    let keys: Vec<&str> = entries.as_array().unwrap().iter().filter_map(|entry| entry["key"].as_str()).collect();
    assert_eq!(keys, ["alpha", "build"]);

    let missing = get(&alice, "/v1/state?key=nothing");
    assert_eq!((missing.status, missing.json()["error"].clone()), (404, json!("state_not_found")));
    for (body, error) in [
        (json!({"value": 1}), "missing 'key' (string)"),
        (json!({"key": "k"}), "missing 'value' (anything but null)"),
        (json!({"key": "k", "value": null}), "missing 'value' (anything but null)"),
    ] {
        let refused = alice.call("POST", "/v1/state", Some(&body)).unwrap();
        assert_eq!((refused.status, refused.json()["error"].clone()), (400, json!(error)), "{body}");
    }
    let big = alice.call("POST", "/v1/state", Some(&json!({"key": "k", "value": "x".repeat(70_000)}))).unwrap();
    assert_eq!(big.status, 413, "{big:?}");
    let elsewhere = alice.call("POST", "/v1/state", Some(&json!({"key": "k", "value": 1, "mesh": "nowhere"}))).unwrap();
    assert_eq!((elsewhere.status, elsewhere.json()["error"].clone()), (404, json!("mesh_not_attached")));
}

#[test]
fn a_text_is_remembered_found_by_its_words_and_forgotten_by_its_author_alone() {
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let stored = post(&alice, "/v1/memory", &json!({"content": "Deploys run on Fridays", "tags": ["ops", 7]}));
    post(&bob, "/v1/memory", &json!({"content": "The parser is in src/parse"}));
    let found = |session: &Session, query: &str| {
        let page = get(session, &format!("/v1/memory?q={query}")).json();
        page["matches"].as_array().unwrap().iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(&bob, "deploy"), ["Deploys run on Fridays"], "words are found in other forms");
    assert_eq!(found(&bob, "ops"), ["Deploys run on Fridays"], "tags are found");
    assert_eq!(found(&bob, "%22%29%20OR%20x*"), [""; 0], "nothing is taken for an operator");
    assert_eq!(found(&bob, "").len(), 2, "without words, the latest");
    let id = stored["id"].as_str().unwrap();
    let gone = alice.call("DELETE", &format!("/v1/memory/{id}"), None).unwrap();
    assert_eq!((gone.status, gone.json()["mesh"].clone()), (200, json!("acme")));
    assert_eq!(found(&alice, "deploy"), [""; 0]);
    let again = alice.call("DELETE", &format!("/v1/memory/{id}"), None).unwrap();
    assert_eq!(again.status, 404);
    assert_eq!(get(&alice, "/v1/skills").json(), json!({"skills": []}));
    assert_eq!(get(&alice, "/v1/skills/none").json()["error"], "skill_not_found");
}

#[test]
fn what_a_session_shows_is_its_own_and_outlives_broker_and_daemon() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let other = Session::open(&world.alice, "acme", "other");
    let bob = Session::open(&world.bob, "acme", "bob");
    // A roster that is known, and believed for a while.
    get(&alice, "/v1/peers");
    let shown = post(
        &alice,
        "/v1/profile",
        &json!({"status": "dnd", "summary": "fixing\nthe parser", "title": "Parser", "capabilities": ["rust"], "join_groups": ["@eng:lead", "ops"], "unknown": 1}),
    );
    assert_eq!(shown["ok"], true, "{shown}");
    assert_eq!(shown["meshes"], json!(["acme"]));
    assert!(!shown["applied"].as_array().unwrap().contains(&json!("unknown")));
    let row_for = |session: &Session, key: &str| {
        let peers = get(session, "/v1/peers").json()["peers"].clone();
        peers.as_array().unwrap().iter().find(|peer| peer["pubkey"] == key).cloned()
    };
    let row = |key: &str| row_for(&bob, key);
    let is_shown = |peer: &Value| {
        peer["status"] == "dnd"
            && peer["summary"] == "fixing the parser"
            && peer["profile"]["title"] == "Parser"
            && peer["groups"] == json!([{"name": "eng", "role": "lead"}, {"name": "ops"}])
            && peer["online"] == true
    };
    let own = row_for(&alice, &alice.key);
    assert!(own.as_ref().is_some_and(is_shown), "who has changed it sees it at once: {own:?}");
    until("the roster to show it", || row(&alice.key).filter(is_shown));
    assert_eq!(row(&other.key).map(|peer| peer["status"].clone()), Some(json!("idle")), "nobody else's presence changed");
    assert_eq!(get(&alice, "/v1/sessions/me").json()["session"]["groups"], json!(["@eng:lead", "@ops"]));

    world.broker.kill();
    world.broker.restart();
    until("the roster to show it again", || row(&alice.key).filter(is_shown));
    world.alice.kill();
    world.alice.restart();
    for session in [&alice, &other] {
        session.await_link();
    }
    until("the roster to show it once more", || row(&alice.key).filter(is_shown));

    post(&alice, "/v1/profile", &json!({"leave_groups": ["ops"], "visible": false}));
    until("it to hide from the other member", || row(&alice.key).is_none().then_some(()));
    let own = get(&other, "/v1/peers").json();
    assert!(
        own["peers"].as_array().unwrap().iter().any(|peer| peer["pubkey"] == alice.key.as_str()),
        "its own member sees it: {own}"
    );
    for (body, part) in [
        (json!({"status": "away"}), "status must be"),
        (json!({"join_groups": ["o'neil"]}), "o'neil"),
        (json!({"visible": "yes"}), "visible"),
        (json!(["status"]), "expected JSON object"),
    ] {
        let refused = alice.call("POST", "/v1/profile", Some(&body)).unwrap();
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.json()["error"].as_str().unwrap().contains(part), "{refused:?}");
    }
}

#[test]
fn a_mesh_that_does_not_answer_is_named() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    world.broker.kill();
    for path in ["/v1/state", "/v1/memory?q=x", "/v1/skills", "/v1/peers"] {
        let answer = until("the link to be seen down", || {
            Some(get(&alice, path).json()).filter(|page| page["unanswered"]["acme"].is_string())
        });
        assert!(answer.is_object(), "{path}: {answer}");
    }
    let refused = alice.call("POST", "/v1/memory", Some(&json!({"content": "x"}))).unwrap();
    assert_eq!((refused.status, refused.json()["error"].clone()), (502, json!("remember_timeout")));
    let kept = alice.call("POST", "/v1/profile", Some(&json!({"summary": "later"}))).unwrap().json();
    assert_eq!((&kept["ok"], kept["unanswered"]["acme"].is_string()), (&json!(false), true), "{kept}");
    world.broker.restart();
    until("what was set meanwhile to be shown", || {
        let peers = get(&alice, "/v1/peers").json();
        peers["peers"].as_array()?.iter().any(|peer| peer["summary"] == "later").then_some(())
    });
}
