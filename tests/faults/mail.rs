//! What was lost, doubled or out of order.

use std::collections::BTreeSet;

use claudemesh::crypto::keys::KeyPair;
use serde_json::{Value, json};

use super::{Scene, lose};
use crate::support::home::Home;
use crate::support::peer::Peer;
use crate::support::raw::RawMesh;
use crate::support::servers::Broker;

#[test]
fn f_01_a_topic_is_live_and_no_other_mesh_is_in_it() {
    let home = Home::new();
    let (mesh, other) = (RawMesh::create(home.path()), RawMesh::create(home.path()));
    let broker = Broker::start(home.path());
    let enter = |mesh: &RawMesh, n: usize| Peer::enter(&broker.address, &mesh.hello(n, &KeyPair::generate()));
    let (mut alice, mut bob, mut cleo, mut eve) = (enter(&mesh, 0), enter(&mesh, 1), enter(&mesh, 2), enter(&other, 0));
    let made = alice.ask(json!({"type": "topic_create", "name": "deploys"}), "topic_created");
    let id = made["topic"]["id"].as_str().unwrap().to_owned();
    let refused = eve.send("e-1", &format!("#{id}"), "eA==");
    assert_eq!((&refused["queued"], &refused["messageId"]), (&json!(false), &json!("")), "{refused}");
    assert!(refused["error"].as_str().unwrap().starts_with("topic_not_found"), "{refused}");
    for kind in ["topic_join", "topic_leave", "topic_members", "topic_history", "topic_mark_read"] {
        eve.refused(json!({"type": kind, "topic": id}), "topic_not_found");
    }
    assert_eq!(eve.ask(json!({"type": "topic_list"}), "topic_list_response")["topics"], json!([]));
    for peer in [&mut bob, &mut cleo] {
        peer.ask(json!({"type": "topic_join", "topic": id}), "ack");
    }
    // Each has it at once, says of what it is, and takes it from nobody by having it.
    let said = alice.sent("a-1", &format!("#{id}"), "eA==");
    for peer in [&mut bob, &mut cleo] {
        let push = peer.takes();
        let shown = (&push["messageId"], &push["topic"], &push["senderMemberPubkey"]);
        assert_eq!(shown, (&json!(said), &json!("deploys"), &json!(mesh.member_key(0))), "{push}");
    }
    for peer in [&mut alice, &mut bob, &mut cleo, &mut eve] {
        peer.is_quiet();
    }
    let kept = alice.ask(json!({"type": "topic_history", "topic": id}), "topic_history_response");
    assert_eq!(kept["messages"].as_array().unwrap().len(), 1, "{kept}");
}

#[test]
fn f_07_f_32_what_is_sent_while_a_place_is_kept_comes_on_return() {
    let scene = Scene::new();
    let [(mut alice, _), (bob, bobs)] = scene.sessions();
    let key = bobs.public.to_hex();
    lose(bob, &key, &mut alice);
    // Who asks for those who are away sees it, and it takes mail for as long as it is seen.
    let all = alice.ask(json!({"type": "list_peers", "away": true}), "peers_list")["peers"].clone();
    let row = all.as_array().unwrap().iter().find(|peer| peer["pubkey"] == key.as_str()).unwrap().clone();
    assert_eq!(row["online"], false, "{row}");
    let ids = [alice.sent("a-1", &key, "eA=="), alice.sent("a-2", &key, "eQ==")];
    let mut bob = scene.session(1, &bobs);
    for id in &ids {
        assert_eq!(bob.takes()["messageId"], json!(id));
    }
    bob.is_quiet();
}

#[test]
fn f_08_answers_and_mail_keep_their_order() {
    const MANY: usize = 60;
    let scene = Scene::new();
    let [(mut alice, _), (mut bob, bobs)] = scene.sessions();
    let key = bobs.public.to_hex();
    for n in 0..MANY {
        alice.say(&json!({"type": "send", "id": format!("m-{n}"), "client_message_id": format!("m-{n}"), "targetSpec": key,
                          "nonce": "", "ciphertext": "eA=="}));
        alice.say(&json!({"type": "list_state", "_reqId": format!("q-{n}")}));
    }
    let mut ids = BTreeSet::new();
    for n in 0..MANY {
        let ack = alice.next("ack");
        assert_eq!(ack["id"], json!(format!("m-{n}")));
        let id = ack["messageId"].as_str().unwrap().to_owned();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) && ids.insert(id), "{ack}");
        assert_eq!(alice.next("state_list")["_reqId"], json!(format!("q-{n}")));
    }
    for n in 0..MANY {
        assert_eq!(bob.takes()["client_message_id"], json!(format!("m-{n}")));
    }
}

#[test]
fn f_10_the_same_message_twice_is_one() {
    let scene = Scene::new();
    let [(mut alice, _), (mut bob, bobs)] = scene.sessions();
    let send = |fingerprint: &str| {
        json!({"type": "send", "id": "a", "client_message_id": "a", "request_fingerprint": fingerprint,
               "targetSpec": bobs.public.to_hex(), "nonce": "", "ciphertext": "eA=="})
    };
    let mut say = |fingerprint: &str| {
        alice.say(&send(fingerprint));
        alice.next("ack")
    };
    let first = say(&"ab".repeat(32));
    assert_eq!(say(&"ab".repeat(32))["messageId"], first["messageId"]);
    let other = say(&"cd".repeat(32));
    assert_eq!((&other["queued"], other["error"].is_string()), (&json!(false), true), "{other}");
    assert_eq!(bob.takes()["messageId"], first["messageId"]);
    bob.is_quiet();
}

#[test]
fn f_11_nobody_acknowledges_what_is_anothers() {
    let scene = Scene::new();
    let [(mut alice, _), (mut bob, bobs), (mut eve, _)] = scene.sessions();
    let key = bobs.public.to_hex();
    bob.ask(json!({"type": "join_group", "name": "crew"}), "ack");
    let ids = [key.as_str(), "@crew"].map(|to| alice.sent(&format!("to-{to}"), to, "eA=="));
    for id in &ids {
        let push = bob.next("push");
        assert_eq!(push["messageId"], json!(id));
        let acked = json!({"type": "client_ack", "clientMessageId": push["client_message_id"], "brokerMessageId": id});
        for peer in [&mut eve, &mut alice] {
            peer.say(&acked);
            peer.is_quiet();
        }
    }
    lose(bob, &key, &mut alice);
    let mut bob = scene.session(1, &bobs);
    for id in &ids {
        assert_eq!(bob.takes()["messageId"], json!(id), "it had not been acknowledged");
    }
    lose(bob, &key, &mut alice);
    scene.session(1, &bobs).is_quiet();
}

#[test]
fn f_28_what_is_for_many_comes_once_to_each_session_and_to_no_daemon_beside_it() {
    let scene = Scene::new();
    let [(mut alice, _), (mut one, _)] = scene.sessions();
    let mut two = scene.session(11, &KeyPair::generate());
    let mut daemons = [0, 1].map(|n| Peer::enter(&scene.broker.address, &scene.mesh.member_hello(n, &Value::Null)));
    for peer in [&mut one, &mut two] {
        peer.ask(json!({"type": "join_group", "name": "crew"}), "ack");
    }
    for to in ["*", "@crew"] {
        let id = alice.sent(to, to, "eA==");
        for peer in [&mut one, &mut two] {
            assert_eq!(peer.takes()["messageId"], json!(id));
            peer.is_quiet();
        }
    }
    daemons.iter_mut().for_each(Peer::is_quiet);
    alice.is_quiet();
}

#[test]
fn f_14_a_group_reaches_those_below_it_at_once_and_later() {
    let scene = Scene::new();
    let [(mut alice, _), (mut cleo, _)] = scene.sessions();
    let bobs = KeyPair::generate();
    let enter = || {
        let mut hello = scene.mesh.hello(2, &bobs);
        hello["groups"] = json!([{"name": "eng/api/auth", "role": "lead"}]);
        Peer::enter(&scene.broker.address, &hello)
    };
    let mut bob = enter();
    cleo.ask(json!({"type": "join_group", "name": "engineers"}), "ack");
    let (near, far) = ("@eng/api", "@eng");
    for (n, to) in [near, far].into_iter().enumerate() {
        let id = alice.sent(&format!("live-{n}"), to, "eA==");
        let push = bob.takes();
        assert_eq!((&push["messageId"], &push["targetSpec"]), (&json!(id), &json!(to)), "{push}");
    }
    lose(bob, &bobs.public.to_hex(), &mut alice);
    let ids = [near, far].map(|to| alice.sent(&format!("late-{to}"), to, "eA=="));
    let mut bob = enter();
    for id in &ids {
        assert_eq!(bob.takes()["messageId"], json!(id));
    }
    cleo.is_quiet();
}

#[test]
fn f_31_whoever_comes_while_something_is_said_to_all_hears_it_once() {
    const MANY: usize = 40;
    let scene = Scene::new();
    let [(mut alice, _), (bob, bobs)] = scene.sessions();
    lose(bob, &bobs.public.to_hex(), &mut alice);
    let mut heard: Vec<Value> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..MANY).for_each(|n| drop(alice.sent(&format!("m-{n}"), "*", "eA=="))));
        let mut bob = scene.session(1, &bobs);
        while heard.len() < MANY {
            heard.push(bob.takes()["client_message_id"].clone());
        }
        bob.is_quiet();
    });
    let expected: Vec<Value> = (0..MANY).map(|n| json!(format!("m-{n}"))).collect();
    assert_eq!(heard, expected);
}
