//! A script with a key that somebody typed for it: it posts, a session hears it, it reads what was said.

use serde_json::{Value, json};

use super::Typist;
use crate::support::http::request_tcp;
use crate::support::mesh::World;
use crate::support::session::Session;

/// One request of a script: its status and its body.
#[track_caller]
fn ask(world: &World, key: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let bearer = format!("Bearer {key}");
    let bytes = body.map(Value::to_string);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let path = format!("/api/v1/{path}");
    let reply = request_tcp(&world.broker.address, method, &path, &headers, bytes.as_deref().map(str::as_bytes)).unwrap();
    (reply.status, reply.json())
}

#[test]
fn a_key_that_was_typed_lets_a_script_post_and_read_until_it_is_revoked() {
    let world = World::pair();
    let own = Session::open(&world.alice, "acme", "alice");
    let other = Session::open(&world.bob, "acme", "bob");
    let alice = Typist { home: &world.homes[0], session: Some(&own) };
    let bob = Typist { home: &world.homes[1], session: Some(&other) };
    alice.says(&["topic", "create", "deploys"]);
    bob.says(&["topic", "join", "deploys"]);

    let shown = alice.says(&["apikey", "create", "for looking", "--cap", "read"]);
    assert!(shown.contains("cm_") && shown.contains("it is not shown again"), "{shown}");
    let made = alice.json(&["apikey", "create", "ci", "--topic", "deploys", "--expires", "90d"]);
    let (id, key) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!((&made["capabilities"], &made["topicScopes"]), (&json!(["send", "read"]), &json!(["deploys"])));

    let events = other.follow(None);
    let (status, posted) = ask(&world, key, "POST", "messages", Some(&json!({"topic": "deploys", "message": "build 7 is out"})));
    assert_eq!(status, 200, "{posted}");
    let event = events.until("what the script said", |events| events.iter().find(|event| event.name == "message").cloned());
    assert_eq!((&event.data["body"], &event.data["topic"]), (&json!("build 7 is out"), &json!("deploys")));
    assert_eq!((&event.data["sender_name"], &event.data["plain"]), (&json!("alice via ci"), &json!(true)));

    let (_, page) = ask(&world, key, "GET", "topics/deploys/messages", None);
    assert_eq!((&page["messages"][0]["id"], &page["messages"][0]["text"]), (&posted["messageId"], &json!("build 7 is out")));
    let (_, topics) = ask(&world, key, "GET", "topics", None);
    assert_eq!(topics["topics"][0]["name"], "deploys");

    let listed = alice.json(&["apikey", "list"]);
    assert_eq!((&listed[0]["label"], &listed[1]["lastUsedAt"]), (&json!("ci"), &Value::Null));
    assert!(listed[0]["lastUsedAt"].is_string() && !listed.to_string().contains(key), "{listed}");
    assert!(alice.says(&["apikeys"]).contains("never used"));

    alice.fails(&["apikey", "revoke", "cm_"], 3, "4 or more characters");
    alice.fails(&["apikey", "revoke", "nothing"], 5, "no key of yours");
    assert_eq!(alice.json(&["apikey", "revoke", &key[..11]])["revoked"], id);
    assert_eq!(ask(&world, key, "GET", "topics", None).0, 401);
    assert!(alice.says(&["apikey", "list"]).contains("revoked"));

    let missing = ["apikey", "create", "x", "--topic", "deploys,nowhere"];
    alice.fails(&missing, 5, "there is no topic \"nowhere\": make it first");
    alice.fails(&missing, 5, "claudemesh topic create nowhere");
    alice.fails(&["apikey", "create", "x", "--cap", "money"], 3, "nothing that a key can be for");
    alice.fails(&["apikey", "create", "x", "--expires", "soon"], 3, "no time");
    alice.fails(&["apikey", "create", "x", "--expires", "2020-01-01T00:00:00Z"], 3, "over already");
    // No log has the secret.
    for log in [world.broker.log(), world.alice.log(), world.bob.log()] {
        assert!(!log.contains(&key[11..]), "{log}");
    }
}
