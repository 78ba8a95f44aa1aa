//! What anybody could do to anybody.

use claudemesh::crypto::keys::KeyPair;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{Scene, lose};
use crate::support::home::Home;
use crate::support::mesh::HUB;
use crate::support::peer::Peer;
use crate::support::raw::RawMesh;
use crate::support::servers::Broker;

#[test]
fn f_21_what_a_member_wrote_no_other_removes_or_replaces() {
    let scene = Scene::new();
    let [_, (mut bob, _), (mut cleo, _)] = scene.sessions();
    let id = bob.ask(json!({"type": "remember", "content": "the lift is slow"}), "memory_stored")["id"].clone();
    let skill = |text: &str| json!({"type": "share_skill", "name": "lift", "description": "d", "instructions": text});
    bob.ask(skill("stairs"), "skill_ack");
    cleo.refused(json!({"type": "forget", "memoryId": id}), "forbidden");
    cleo.refused(skill("jump"), "forbidden");
    cleo.refused(json!({"type": "remove_skill", "name": "lift"}), "forbidden");
    let kept = cleo.ask(json!({"type": "get_skill", "name": "lift"}), "skill_data");
    assert_eq!(kept["skill"]["instructions"], "stairs", "{kept}");
    let found = cleo.ask(json!({"type": "recall", "query": "lift"}), "memory_results");
    assert_eq!(found["memories"][0]["id"], id, "{found}");
    cleo.next("memory_recall_result");
    // Its author may, from another of its sessions, too.
    let mut twin = scene.session(11, &KeyPair::generate());
    twin.ask(json!({"type": "forget", "memoryId": id}), "ack");
    assert_eq!(twin.ask(json!({"type": "remove_skill", "name": "lift"}), "skill_ack")["action"], "removed");
}

#[test]
fn f_22_a_mesh_that_was_closed_lets_nobody_in() {
    let home = Home::new();
    let (closed, open) = (RawMesh::create(home.path()), RawMesh::create(home.path()));
    closed.archive(home.path());
    let broker = Broker::start(home.path());
    for hello in [closed.hello(1, &KeyPair::generate()), closed.member_hello(0, &Value::Null)] {
        let mut peer = Peer::open(&broker.address);
        peer.say(&hello);
        assert_eq!(peer.next("error")["code"], "unauthorized");
        assert_eq!(peer.closed(), (1008, "unauthorized".to_owned()));
    }
    Peer::enter(&broker.address, &open.hello(1, &KeyPair::generate())).is_quiet();
}

#[test]
fn f_27_a_hello_is_the_members_own_comes_once_and_is_answered_first() {
    let scene = Scene::new();
    let mut peer = Peer::open(&scene.broker.address);
    peer.say(&scene.mesh.member_hello_as(1, 2, &Value::Null));
    assert_eq!(peer.next("error")["code"], "unauthorized");
    assert_eq!(peer.closed(), (1008, "unauthorized".to_owned()));

    let [(mut alice, _), (bob, bobs)] = scene.sessions();
    lose(bob, &bobs.public.to_hex(), &mut alice);
    let ids: Vec<String> = (0..5).map(|n| alice.sent(&format!("a-{n}"), &bobs.public.to_hex(), "eA==")).collect();
    // `enter` holds that nothing comes before the acceptance.
    let mut bob = scene.session(1, &bobs);
    ids.iter().for_each(|id| assert_eq!(bob.takes()["messageId"], json!(id)));
    for again in [scene.mesh.hello(1, &bobs), scene.mesh.member_hello(1, &Value::Null)] {
        bob.say(&again);
        assert_eq!(bob.next("error")["code"], "invalid");
    }
    assert_eq!(alice.peers().len(), 2, "nobody is here twice");
    alice.sent("once", "*", "eA==");
    assert_eq!(bob.takes()["client_message_id"], "once");
    bob.is_quiet();
}

#[test]
fn f_29_the_audit_log_holds_nothing_that_was_written() {
    let mut scene = Scene::new();
    let [(mut alice, _), (mut bob, bobs)] = scene.sessions();
    alice.ask(json!({"type": "set_state", "key": "door", "value": {"code": "hush-hush-value"}}), "ack");
    bob.next("state_change");
    alice.sent("a-1", &bobs.public.to_hex(), "aHVzaC1odXNo");
    bob.takes();
    alice.ask(json!({"type": "remember", "content": "hush-hush-text"}), "memory_stored");
    drop((alice, bob));
    scene.broker.terminate();
    let hub = Connection::open(scene.home.path().join(HUB)).unwrap();
    let mut rows = hub.prepare("SELECT payload FROM audit").unwrap();
    let all: Vec<String> = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(all.iter().any(|payload| payload.contains("door")), "{all:?}");
    assert!(!all.iter().any(|payload| payload.contains("hush") || payload.contains("aHVzaC1odXNo")), "{all:?}");
}

#[test]
fn f_35_a_groups_name_harms_nobody() {
    let scene = Scene::new();
    let [(mut alice, _), (bob, bobs)] = scene.sessions();
    let key = bobs.public.to_hex();
    lose(bob, &key, &mut alice);
    let id = alice.sent("a-1", &key, "eA==");
    let names =
        [json!("o'neil"), json!(7), json!(format!("g','{key}")), json!(""), Value::Null, json!({"x": 1}), json!("a\u{0}b")];
    for (n, name) in names.iter().enumerate() {
        for mut hello in [scene.mesh.hello(2, &KeyPair::generate()), scene.mesh.member_hello(3, &Value::Null)] {
            hello["groups"] = json!([{"name": name}]);
            let mut eve = Peer::open(&scene.broker.address);
            eve.say(&hello);
            let first = eve.hear();
            match first["type"].as_str() {
                Some("hello_ack") => {
                    let peers = eve.peers();
                    assert!(peers.iter().all(|peer| peer["groups"] == json!([])), "{name}: {peers:?}");
                    eve.refused(json!({"type": "join_group", "name": name}), "invalid");
                    eve.is_quiet();
                }
                Some("error") => assert_eq!(first["code"], "invalid", "{name}: {first}"),
                _ => panic!("{name}: {first}"),
            }
        }
        alice.refused(json!({"type": "join_group", "name": name, "role": "r"}), "invalid");
        let refused = alice.send(&format!("g-{n}"), &format!("@{}", name.as_str().unwrap_or("7' OR 1")), "eA==");
        assert!(refused["error"].as_str().is_some_and(|error| error.starts_with("invalid")), "{refused}");
    }
    let mut bob = scene.session(1, &bobs);
    assert_eq!(bob.takes()["messageId"], json!(id));
    bob.is_quiet();
    scene.broker.assert_healthy();
}
