//! What a peer's status holds back, and what lets it go again.

use super::*;
use crate::broker::handle::schedule;

impl Client {
    #[track_caller]
    fn status(&self, status: &str) {
        self.done(json!({"type": "set_status", "status": status}));
    }

    #[track_caller]
    fn gets(&self, ids: &[&str]) {
        for id in ids {
            let push = self.next("push");
            assert_eq!(push["client_message_id"], *id);
            self.ack(&push);
        }
        self.is_quiet();
    }
}

#[test]
fn only_idle_lets_go_of_what_is_held() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, key) = world.session(1, 21, "bob");
    let send = |id: &str, priority: &str| {
        alice.send(id, &key.to_hex(), "eA==", priority);
        assert_eq!(alice.next("ack")["queued"], true);
    };
    bob.status("working");
    send("a", "next");
    send("b", "now");
    bob.gets(&["b"]);
    for held in ["dnd", "working", "dnd", "dnd"] {
        bob.status(held);
        bob.gets(&[]);
    }
    send("c", "low");
    bob.gets(&[]);
    bob.status("idle");
    bob.gets(&["a", "c"]);
    bob.status("idle");
    send("d", "low");
    bob.gets(&["d"]);
}

#[test]
fn whoever_comes_back_is_as_busy_as_before() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, key) = world.session(1, 21, "bob");
    bob.status("dnd");
    alice.sent("a", &key.to_hex(), "eA==");
    // Over another connection, and after one was cut.
    let (again, _) = world.session(1, 21, "bob");
    again.gets(&[]);
    again.say_text("close:");
    assert!(again.ended.recv_timeout(PATIENCE).is_ok());
    let (bob, _) = world.session(1, 21, "bob");
    bob.gets(&[]);
    let peers = alice.ask(json!({"type": "list_peers"}), "peers_list")["peers"].clone();
    let row = peers.as_array().unwrap().iter().find(|peer| peer["pubkey"] == json!(key)).unwrap().clone();
    assert_eq!(row["status"], "dnd");
    bob.status("idle");
    bob.gets(&["a"]);
}

#[test]
fn what_is_for_many_is_held_like_anything_else_and_what_is_due_is_not() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, key) = (world.connect(), KeyPair::from_seed([21; 32]));
    let mut hello = world.session_hello(1, &key, "bob");
    hello["groups"] = json!([{"name": "eng"}]);
    bob.say(&hello);
    bob.next("hello_ack");
    alice.ask(json!({"type": "topic_create", "name": "t"}), "topic_created");
    bob.done(json!({"type": "topic_join", "topic": "t"}));
    bob.status("working");
    for (id, to) in [("a", "*"), ("b", "@eng"), ("c", "#t")] {
        assert_eq!(alice.sent(id, to, "eA==")["queued"], true);
    }
    bob.gets(&[]);
    let due = json!({"type": "schedule", "to": "@eng", "message": "now", "deliverAt": now_millis() + 10});
    alice.ask(due, "scheduled_ack");
    let push = bob.next("push");
    assert_eq!((&push["priority"], &push["targetSpec"]), (&json!("now"), &json!("@eng")), "what has a time is urgent then");
    bob.ack(&push);
    bob.status("idle");
    bob.gets(&["a", "b", "c"]);
}

#[test]
fn a_daemons_status_holds_its_members_mail_and_no_sessions() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, key) = world.session(1, 21, "bob");
    let daemon = world.connect();
    daemon.say(&world.hello(1));
    daemon.next("hello_ack");
    daemon.status("dnd");
    alice.sent("a", &world.members[1].1.public.to_hex(), "eA==");
    alice.sent("b", &key.to_hex(), "eA==");
    daemon.gets(&[]);
    bob.gets(&["b"]);
    daemon.status("idle");
    daemon.gets(&["a"]);
}

#[test]
fn what_was_sent_before_its_sender_was_blocked_is_not_delivered_after() {
    let world = World::new();
    let (alice, alice_key) = world.session(0, 11, "alice");
    let (bob, bob_key) = world.session(1, 21, "bob");
    alice.status("dnd");
    for (id, to) in [("a", alice_key.to_hex()), ("b", "*".to_owned())] {
        assert_eq!(bob.sent(id, &to, "eA==")["queued"], true);
    }
    alice.ask(json!({"type": "set_grants", "peer": bob_key, "revoke": ["dm"]}), "grants_set");
    alice.status("idle");
    alice.gets(&["b"]);
    // Taken back, it comes with the next look.
    alice.ask(json!({"type": "set_grants", "peer": bob_key, "reset": true}), "grants_set");
    alice.status("dnd");
    alice.status("idle");
    alice.gets(&["a"]);
}

#[test]
fn what_comes_again_goes_on_after_a_restart_and_what_can_not_be_sent_says_why() {
    let mut world = World::new();
    let (alice, alice_key) = world.session(0, 11, "alice");
    let (bob, bob_key) = world.session(1, 21, "bob");
    let (nonce, text) = ("n", crate::crypto::base64::encode(b"tick"));
    let cron = json!({"type": "schedule", "to": bob_key, "nonce": nonce, "ciphertext": text, "cron": "* * * * *"});
    let first = alice.ask(cron, "scheduled_ack")["deliverAt"].as_i64().unwrap();
    let minute = |n: i64| first + n * 60_000;
    let ticks = |client: &Client| {
        let push = client.next("push");
        assert_eq!(crate::crypto::base64::decode(push["ciphertext"].as_str().unwrap()).unwrap(), b"tick");
        client.ack(&push);
        push["messageId"].clone()
    };
    let mut seen = Vec::new();
    for n in 0..2 {
        schedule::fire_due(&world.running().shared, minute(n));
        seen.push(ticks(&bob));
        bob.is_quiet();
    }
    world.broker.take().unwrap().stop();
    world.broker = Some(start(options(world.dir.path())).unwrap());
    let (bob, _) = world.session(1, 21, "bob");
    schedule::fire_due(&world.running().shared, minute(2));
    seen.push(ticks(&bob));
    bob.is_quiet();
    assert!(seen[0] != seen[1] && seen[1] != seen[2]);

    let (alice, _) = world.session(0, 11, "alice");
    let seal = json!({"type": "schedule", "to": bob_key, "nonce": "n", "ciphertext": "c", "deliverAt": minute(5)});
    let once = alice.ask(seal, "scheduled_ack")["scheduledId"].clone();
    bob.ask(json!({"type": "set_grants", "peer": alice_key, "revoke": ["dm"]}), "grants_set");
    schedule::fire_due(&world.running().shared, minute(5));
    let listed = |client: &Client| {
        let rows = client.ask(json!({"type": "list_scheduled"}), "scheduled_list")["messages"].clone();
        rows.as_array().unwrap().clone()
    };
    let rows = listed(&alice);
    let row = rows.iter().find(|row| row["id"] == once).expect("it is still there");
    assert!(row["error"].as_str().unwrap().starts_with("blocked by recipient grants"), "{row}");
    assert_eq!(rows.iter().find(|row| row["id"] != once).unwrap()["firedCount"], 4);
    bob.ask(json!({"type": "set_grants", "peer": alice_key, "reset": true}), "grants_set");
    schedule::fire_due(&world.running().shared, minute(9));
    assert_eq!(listed(&alice).len(), 2, "it is not tried again");
    let gone = alice.ask(json!({"type": "cancel_scheduled", "scheduledId": once}), "cancel_scheduled_ack");
    assert_eq!((&gone["ok"], listed(&alice).len()), (&json!(true), 1));
}
