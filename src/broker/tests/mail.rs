//! Mail: its order, its repetition, its recipients, and the places it is kept for.

use super::*;

#[test]
fn mail_waits_comes_in_order_and_is_repeated_until_it_is_acknowledged() {
    const COUNT: usize = 2000;
    let world = World::new();
    let (alice, _) = world.session(0, 10, "alice");
    let (bob, key) = world.session(1, 11, "bob");
    drop(bob);
    let to = key.to_hex();
    for n in 0..COUNT {
        alice.send(&format!("c{n}"), &to, &n.to_string(), "next");
    }
    for n in 0..COUNT {
        let ack = alice.next("ack");
        assert_eq!((&ack["id"], &ack["queued"]), (&json!(format!("c{n}")), &json!(true)));
    }
    let same = alice.sent("c0", &to, "0");
    assert_eq!(same["queued"], true, "sent again, it is the same message");
    let other = alice.sent("c0", &to, "else");
    assert!(other["error"].as_str().unwrap().starts_with("idempotency_conflict: "), "{other}");

    let (bob, _) = world.session(1, 11, "bob");
    for n in 0..10 {
        let push = bob.next("push");
        assert_eq!(push["ciphertext"], n.to_string());
        if n < 5 {
            bob.ack(&push);
        }
    }
    bob.is_quiet_after_acks();
    drop(bob);
    let (bob, _) = world.session(1, 11, "bob");
    for n in 5..COUNT {
        let push = bob.next("push");
        assert_eq!(push["ciphertext"], n.to_string(), "in order, from the first that was not acknowledged");
        assert_eq!((&push["senderName"], &push["targetSpec"]), (&json!("alice"), &json!(to)));
        bob.ack(&push);
    }
    bob.is_quiet();
}

impl Client {
    /// The acks before this have been taken; pushes may be on their way.
    #[track_caller]
    fn is_quiet_after_acks(&self) {
        self.say(&json!({"type": "set_summary", "summary": "s", "_reqId": "taken"}));
        let until = Instant::now() + PATIENCE;
        while self.heard.recv_deadline(until).unwrap()["_reqId"] != "taken" {}
    }
}

#[test]
fn what_is_for_many_reaches_siblings_and_not_the_sender() {
    let world = World::new();
    let (alice, _) = world.session(0, 20, "alice");
    let (sibling, _) = world.session(0, 21, "sibling");
    let (bob, _) = world.session(1, 22, "bob");
    assert_eq!(alice.sent("all", "*", "hello")["queued"], true);
    for one in [&sibling, &bob] {
        assert_eq!(one.next("push")["ciphertext"], "hello");
        one.is_quiet();
    }
    alice.is_quiet();
}

#[test]
fn who_is_busy_gets_what_is_urgent_and_the_rest_when_it_is_idle() {
    let world = World::new();
    let (alice, _) = world.session(0, 30, "alice");
    let (bob, key) = world.session(1, 31, "bob");
    bob.say(&json!({"type": "set_status", "status": "dnd", "_reqId": "r"}));
    assert_eq!(bob.next("ack")["_reqId"], "r");
    for (id, priority) in [("a", "next"), ("b", "now"), ("c", "low")] {
        alice.send(id, &key.to_hex(), id, priority);
        alice.next("ack");
    }
    assert_eq!(bob.next("push")["ciphertext"], "b");
    bob.is_quiet();
    bob.say(&json!({"type": "set_status", "status": "idle"}));
    assert_eq!(bob.next("push")["ciphertext"], "a");
    assert_eq!(bob.next("push")["ciphertext"], "c");
    bob.is_quiet();
}

#[test]
fn a_place_is_kept_given_back_or_taken() {
    let world = World::new();
    let (watcher, _) = world.session(0, 40, "watcher");
    let key = KeyPair::from_seed([41; 32]);
    let enter = || {
        let client = world.connect();
        client.say(&world.session_hello(1, &key, "bob"));
        let ack = client.next("hello_ack");
        (client, ack["presenceId"].clone())
    };
    let (first, place) = enter();
    assert_eq!(watcher.event("peer_joined")["name"], "bob");
    let (second, same) = enter();
    assert_eq!(same, place);
    assert_eq!(first.closed(), (1000, "session_replaced".to_owned()));
    second.say_text("close:");
    drop(second);
    let (third, same) = enter();
    assert_eq!(same, place);
    third.say_text("close:session_ended");
    let event = watcher.heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&event["event"], &event["eventData"]["name"]), (&json!("peer_left"), &json!("bob")), "it was never gone before");
    let (_, fresh) = enter();
    assert_ne!(fresh, place, "a session that ended has given its place up");
}

#[test]
fn one_session_id_under_two_keys_is_two_sessions() {
    let world = World::new();
    let (one, _) = world.session(0, 50, "twin");
    let (two, _) = world.session(1, 51, "twin");
    one.is_quiet();
    two.is_quiet();
}

#[test]
fn mail_for_a_member_goes_to_one_daemon_and_to_the_next_when_that_is_gone() {
    let world = World::new();
    let (alice, _) = world.session(0, 60, "alice");
    let daemon = |host: &str| {
        let client = world.connect();
        let mut hello = world.hello(1);
        hello["hostname"] = json!(host);
        client.say(&hello);
        client.next("hello_ack");
        client
    };
    let (first, second) = (daemon("one"), daemon("two"));
    let to = world.members[1].1.public.to_hex();
    alice.sent("a", &to, "a");
    assert_eq!(first.next("push")["ciphertext"], "a");
    second.is_quiet();
    drop(first);
    assert_eq!(second.next("push")["ciphertext"], "a", "not acknowledged, so it is the next one's");
}

#[test]
fn who_is_banned_is_not_heard_although_it_does_not_read_that() {
    let world = World::new();
    let (alice, to_alice) = world.session(0, 70, "alice");
    let (deaf, key) = world.session(1, 71, "deaf");
    deaf.sent("early", &to_alice.to_hex(), "early+==");
    assert_eq!(alice.next("push")["ciphertext"], "early+==");
    deaf.say_text("deaf");
    // More than the buffers of a socket hold.
    for n in 0..150 {
        alice.send(&format!("{n}"), &key.to_hex(), &"x".repeat(40_000), "next");
        assert_eq!(alice.next("ack")["queued"], true);
    }
    alice.ask(json!({"type": "ban", "target": "m2"}), "ban_ack");
    deaf.send("late", &to_alice.to_hex(), "late", "next");
    // Whoever comes later is heard later, and is not banned.
    let (other, _) = world.session(0, 72, "other");
    deaf.send("later", &to_alice.to_hex(), "late", "next");
    other.sent("other", &to_alice.to_hex(), "other");
    assert_eq!(alice.next("push")["ciphertext"], "other");
    alice.is_quiet();
}

#[test]
fn a_frame_too_large_and_a_reader_that_stops_harm_nobody_else() {
    let world = World::new();
    let (alice, _) = world.session(0, 70, "alice");
    let (deaf, key) = world.session(1, 71, "deaf");
    deaf.say_text("deaf");
    for n in 0..500 {
        alice.send(&format!("{n}"), &key.to_hex(), &"x".repeat(30_000), "next");
        assert_eq!(alice.next("ack")["queued"], true);
    }
    alice.is_quiet();
    let (loud, _) = world.session(1, 72, "loud");
    loud.say_text(&"y".repeat(200_000));
    assert_eq!(loud.closed().0, 1009);
    alice.is_quiet();
}

#[test]
fn more_mail_than_a_socket_should_be_given_at_once_arrives_in_portions() {
    let world = World::new();
    let (alice, _) = world.session(0, 10, "alice");
    let (bob, key) = world.session(1, 20, "bob");
    drop(bob);
    let text = "x".repeat(60_000);
    for n in 0..200 {
        let id = format!("h-{n}");
        alice.say(
            &json!({"type": "send", "id": id, "client_message_id": id, "targetSpec": key, "nonce": "n", "ciphertext": text}),
        );
        assert_eq!(alice.next("ack")["queued"], true);
    }
    let (bob, _) = world.session(1, 20, "bob");
    for n in 0..200 {
        let push = bob.next("push");
        assert_eq!(push["client_message_id"], format!("h-{n}"));
        bob.ack(&push);
    }
}

#[test]
fn what_is_for_many_reaches_those_who_have_not_come_back_since_the_broker_was_started_again() {
    let mut world = World::new();
    let bob = KeyPair::from_seed([20; 32]);
    let client = world.connect();
    let mut hello = world.session_hello(1, &bob, "bob");
    hello["groups"] = json!([{"name": "eng"}]);
    client.say(&hello);
    client.next("hello_ack");
    world.broker.take().unwrap().stop();
    world.broker = Some(start(options(world.dir.path())).unwrap());
    let (alice, _) = world.session(0, 10, "alice");
    for (id, target) in [("a", "*"), ("b", "@eng")] {
        assert_eq!(alice.sent(id, target, id)["queued"], true);
    }
    let (bob, _) = world.session(1, 20, "bob");
    let got: Vec<Value> = (0..2).map(|_| bob.next("push")["client_message_id"].clone()).collect();
    assert_eq!(got, ["a", "b"]);
}

#[test]
fn nobody_borrows_a_key_that_somebody_has_proven() {
    let world = World::new();
    let (bob, key) = world.session(1, 20, "bob");
    bob.handle.try_send("close:session_ended".to_owned()).unwrap();
    for label in [key, world.members[1].1.public, world.members[0].1.public] {
        let client = world.connect();
        let mut hello = world.hello(0);
        hello["sessionPubkey"] = json!(label.to_string());
        client.say(&hello);
        assert_eq!(client.next("error")["code"], "unauthorized");
    }
}

#[test]
fn acks_that_come_with_the_goodbye_count() {
    let world = World::new();
    let (alice, _) = world.session(0, 10, "alice");
    let (bob, key) = world.session(1, 20, "bob");
    alice.sent("a", &key.to_string(), "x");
    let push = bob.next("push");
    bob.ack(&push);
    bob.handle.try_send("close:session_ended".to_owned()).unwrap();
    let _ = bob.ended.recv_timeout(PATIENCE);
    let end = Instant::now() + PATIENCE;
    while world.running().hub().depth() != Ok(0) {
        assert!(Instant::now() < end, "the ack was lost");
        std::thread::yield_now();
    }
}

#[test]
fn an_ack_by_the_senders_id_is_for_what_was_pushed_here() {
    let world = World::new();
    let (alice, _) = world.session(0, 10, "alice");
    let (eve, _) = world.session(1, 30, "eve");
    let (bob, key) = world.session(1, 20, "bob");
    eve.sent("job-1", &key.to_string(), "eve");
    let push = bob.next("push");
    bob.say(&json!({"type": "client_ack", "clientMessageId": "job-1"}));
    bob.say(&json!({"type": "client_ack", "clientMessageId": "job-1", "brokerMessageId": push["messageId"]}));
    alice.sent("job-1", &key.to_string(), "alice");
    assert_eq!(bob.next("push")["ciphertext"], "alice");
    bob.say(&json!({"type": "client_ack", "clientMessageId": "job-1", "brokerMessageId": push["messageId"]}));
    bob.say(&json!({"type": "list_peers", "_reqId": "r"}));
    bob.next("peers_list");
    assert_eq!(world.running().hub().depth(), Ok(1), "alice's message is not acknowledged by eve's");
}
