//! What is sent later, and where messages stand, over the port of a real broker.

use super::*;

#[test]
fn what_is_to_be_sent_later_is_sent_once_whatever_happens_meanwhile() {
    let mut world = World::new();
    let (alice, alice_key) = world.session(0, 11, "alice");
    let (bob, bob_key) = world.session(1, 21, "bob");
    let later = |to: &str, at: i64| json!({"type": "schedule", "to": to, "nonce": "n", "ciphertext": "c", "deliverAt": at, "subtype": "reminder"});
    alice.refused(later("bob", 5), "invalid");
    alice.refused(later("*", 0), "invalid");
    for cron in ["", "* * * *", "0 0 31 2 *"] {
        alice.refused(json!({"type": "schedule", "to": "*", "message": "x", "cron": cron}), "invalid_cron");
    }
    let bob_hex = bob_key.to_hex();
    let soon = alice.ask(later(&bob_hex, now_millis() + 50), "scheduled_ack");
    assert!(soon["scheduledId"].is_string());
    let push = bob.next("push");
    assert_eq!(
        (&push["subtype"], &push["senderPubkey"], &push["ciphertext"]),
        (&json!("reminder"), &json!(alice_key), &json!("c"))
    );
    bob.ack(&push);
    // What a 32-bit timer could not hold is not sent at once; what comes again waits for its time.
    let far = alice.ask(later(&bob_hex, now_millis() + 40 * 86_400_000), "scheduled_ack")["scheduledId"].clone();
    let again = alice.ask(json!({"type": "schedule", "to": "@all", "message": "tick", "cron": "* * * * *"}), "scheduled_ack");
    assert!(0 <= again["deliverAt"].as_i64().unwrap() - now_millis() + 1000);
    bob.is_quiet();
    alice.ask(later(&bob_hex, now_millis() + 500), "scheduled_ack");
    let listed = alice.ask(json!({"type": "list_scheduled"}), "scheduled_list")["messages"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    assert_eq!(bob.ask(json!({"type": "list_scheduled"}), "scheduled_list")["messages"], json!([]));
    let cancel = |client: &Client, id: &Value| {
        client.ask(json!({"type": "cancel_scheduled", "scheduledId": id}), "cancel_scheduled_ack")["ok"].clone()
    };
    assert_eq!((cancel(&bob, &far), cancel(&alice, &far), cancel(&alice, &far)), (json!(false), json!(true), json!(false)));
    assert_eq!(cancel(&alice, &again["scheduledId"]), true);

    world.broker.take().unwrap().stop();
    world.broker = Some(start(options(world.dir.path())).unwrap());
    let (bob, _) = world.session(1, 21, "bob");
    let push = bob.next("push");
    bob.ack(&push);
    bob.is_quiet();
    let (alice, _) = world.session(0, 11, "alice");
    assert_eq!(alice.ask(json!({"type": "list_scheduled"}), "scheduled_list")["messages"], json!([]));
}

#[test]
fn only_the_sender_learns_where_a_message_stands() {
    let world = World::new();
    let (alice, alice_key) = world.session(0, 11, "alice");
    let (bob, bob_key) = world.session(1, 21, "bob");
    let id = alice.sent("a", &bob_key.to_hex(), "c")["messageId"].as_str().unwrap().to_owned();
    let push = bob.next("push");
    let ask = |id: &str| json!({"type": "message_status", "messageId": id});
    let held = alice.ask(ask(&id[..10]), "message_status_result");
    assert_eq!(
        (&held["delivered"], &held["recipients"][0]["name"], &held["recipients"][0]["status"]),
        (&json!(false), &json!("bob"), &json!("held"))
    );
    bob.ack(&push);
    bob.is_quiet();
    let has = alice.ask(ask(&id), "message_status_result");
    assert!(has["delivered"] == true && has["deliveredAt"].is_string(), "{has}");
    assert_eq!(has["recipients"][0]["status"], "delivered");
    bob.refused(ask(&id), "not_found");
    // What one session sent is nothing to another of its member's; the member itself has them all.
    let (twin, _) = world.session(0, 12, "twin");
    twin.refused(ask(&id), "not_found");
    let member = world.connect();
    member.say(&world.hello(0));
    member.next("hello_ack");
    assert_eq!(member.ask(ask(&id), "message_status_result")["senderPubkey"], json!(alice_key));
    alice.refused(ask("short"), "invalid_argument");
    alice.refused(ask(&"x".repeat(32)), "not_found");
}

#[test]
fn of_a_message_to_many_each_recipient_is_shown_as_it_stands() {
    let mut world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, bob_key) = world.session(1, 21, "bob");
    let (carol, carol_key) = world.session(1, 22, "carol");
    let (gone, gone_key) = world.session(1, 23, "gone");
    gone.say_text("close:");
    assert!(gone.ended.recv_timeout(PATIENCE).is_ok());
    let id = alice.sent("a", "*", "eA==")["messageId"].clone();
    let push = bob.next("push");
    bob.ack(&push);
    bob.is_quiet();
    carol.next("push");
    let standing = |alice: &Client, of: PublicKey| {
        let answer = alice.ask(json!({"type": "message_status", "messageId": id}), "message_status_result");
        assert_eq!((&answer["delivered"], &answer["recipientCount"]), (&json!(false), &json!(3)));
        let rows = answer["recipients"].as_array().unwrap().clone();
        assert_eq!(rows.len(), 3, "{answer}");
        let row = rows.into_iter().find(|row| row["pubkey"] == json!(of)).unwrap();
        assert_eq!(row["status"] == "delivered", row["deliveredAt"].is_string(), "{row}");
        (row["name"].clone(), row["status"].clone())
    };
    assert_eq!(standing(&alice, bob_key), (json!("bob"), json!("delivered")));
    assert_eq!(standing(&alice, carol_key), (json!("carol"), json!("held")));
    assert_eq!(standing(&alice, gone_key), (json!("gone"), json!("disconnected")));
    world.broker.take().unwrap().stop();
    world.broker = Some(start(options(world.dir.path())).unwrap());
    let (alice, _) = world.session(0, 11, "alice");
    assert_eq!(standing(&alice, bob_key).1, "delivered", "known until the message's time is over");
    assert_eq!(world.running().hub().expire(Millis::MAX, 10).unwrap().count, 1);
    alice.refused(json!({"type": "message_status", "messageId": id}), "not_found");
}

#[test]
fn what_one_reminds_oneself_of_may_be_in_clear_and_nothing_else_to_one_key() {
    let world = World::new();
    let (alice, alice_key) = world.session(0, 11, "alice");
    let (_bob, bob_key) = world.session(1, 21, "bob");
    let at = now_millis() + 20;
    let clear =
        |to: &PublicKey| json!({"type": "schedule", "to": to, "message": "stand up", "deliverAt": at, "subtype": "reminder"});
    alice.refused(clear(&bob_key), "invalid");
    let mut bare = clear(&alice_key);
    bare["subtype"] = Value::Null;
    alice.refused(bare, "invalid");
    alice.ask(clear(&alice_key), "scheduled_ack");
    let push = alice.next("push");
    assert_eq!((&push["subtype"], &push["senderMemberPubkey"]), (&json!("reminder"), &json!(world.members[0].1.public)));
    assert_eq!(crate::crypto::base64::decode(push["ciphertext"].as_str().unwrap()).unwrap(), b"stand up");

    // The reference's command reminds a key that it throws away; its member's daemon gets it.
    let daemon = world.connect();
    daemon.say(&world.hello(0));
    daemon.next("hello_ack");
    let (command, mut hello) = (world.connect(), world.hello(0));
    let label = KeyPair::generate().public;
    hello["sessionPubkey"] = json!(label);
    command.say(&hello);
    command.next("hello_ack");
    command.ask(clear(&label), "scheduled_ack");
    let push = daemon.next("push");
    assert_eq!((&push["subtype"], &push["targetSpec"]), (&json!("reminder"), &json!(world.members[0].1.public)));
}
