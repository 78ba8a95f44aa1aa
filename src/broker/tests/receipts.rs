//! Receipts: who may hand them in, who is given them, and that nobody else ever sees one.

use super::*;

fn receipt(push: &Value, state: &str) -> Value {
    json!({"messageId": push["messageId"], "state": state, "at": 5, "signature": "00"})
}

fn hand_in(client: &Client, receipts: &[Value]) -> Value {
    client.say(&json!({"type": "receipts", "receipts": receipts, "_reqId": "h"}));
    client.next("receipts_ack")["kept"].clone()
}

/// A member's daemon that wants receipts.
fn daemon(world: &World, member: usize, id: &str) -> Client {
    let client = world.connect();
    let mut hello = world.hello(member);
    hello["sessionId"] = id.into();
    client.say(&hello);
    let ack = client.next("hello_ack");
    assert!(ack["features"].as_array().unwrap().contains(&json!("receipts")), "{ack}");
    client.say(&json!({"type": "take_receipts"}));
    client
}

#[test]
fn a_recipients_word_reaches_the_daemons_of_the_senders_member_until_one_has_it() {
    let world = World::new();
    let (alice, _) = world.session(0, 10, "alice");
    let (bob, key) = world.session(1, 11, "bob");
    let (carol, _) = world.session(1, 12, "carol");
    alice.sent("c1", &key.to_hex(), "text");
    let push = bob.next("push");
    assert_eq!(hand_in(&carol, &[receipt(&push, "offered")]), 0, "not hers to say");
    assert_eq!(hand_in(&alice, &[receipt(&push, "offered")]), 0, "nor the sender's");
    assert_eq!(hand_in(&bob, &[receipt(&push, "arrived"), receipt(&push, "expired")]), 1);

    let (first, second) = (daemon(&world, 0, "d1"), daemon(&world, 0, "d2"));
    for one in [&first, &second] {
        let frame = one.next("receipts");
        let said = &frame["receipts"][0];
        assert_eq!(
            (&said["clientMessageId"], &said["state"], &said["recipient"]),
            (&json!("c1"), &json!("arrived"), &json!(key))
        );
        assert_eq!((&said["messageId"], &said["signature"]), (&push["messageId"], &json!("00")));
    }
    assert_eq!(hand_in(&bob, &[receipt(&push, "offered")]), 1);
    first.say(&json!({"type": "take_receipts"}));
    let frame = first.next("receipts");
    assert_eq!(frame["receipts"].as_array().unwrap().len(), 1, "the first word was replaced: {frame}");
    let n = frame["receipts"][0]["n"].clone();
    // Another member's daemon can take nothing away, when it is its turn neither.
    let stranger = daemon(&world, 1, "d3");
    let (carols, _) = (world.session(0, 13, "carol's friend"), ());
    bob.sent("c3", &carols.1.to_hex(), "text");
    let push = carols.0.next("push");
    assert_eq!(hand_in(&carols.0, &[receipt(&push, "arrived")]), 1);
    stranger.say(&json!({"type": "take_receipts", "taken": [n]}));
    assert_eq!(stranger.next("receipts")["receipts"][0]["clientMessageId"], "c3");
    stranger.say(&json!({"type": "take_receipts", "taken": [n]}));
    stranger.is_quiet();
    second.say(&json!({"type": "take_receipts"}));
    assert_eq!(second.next("receipts")["receipts"][0]["state"], "offered");
    first.say(&json!({"type": "take_receipts", "taken": [n]}));
    first.is_quiet();
    let third = daemon(&world, 0, "d4");
    third.is_quiet();
    // Sessions, and daemons that never asked, see nothing of it.
    for one in [&alice, &bob, &carol] {
        one.is_quiet();
    }
    let silent = world.connect();
    silent.say(&world.hello(0));
    silent.next("hello_ack");
    alice.sent("c2", &key.to_hex(), "text");
    let push = bob.next("push");
    assert_eq!(hand_in(&bob, &[receipt(&push, "arrived")]), 1);
    silent.is_quiet();
    alice.say(&json!({"type": "take_receipts"}));
    alice.is_quiet();
}

#[test]
fn too_many_at_once_are_refused_and_many_come_in_turns() {
    let world = World::new();
    let (alice, _) = world.session(0, 10, "alice");
    let (bob, key) = world.session(1, 11, "bob");
    let mut said = Vec::new();
    for n in 0..70 {
        alice.sent(&format!("c{n}"), &key.to_hex(), "text");
        said.push(receipt(&bob.next("push"), "arrived"));
    }
    bob.say(&json!({"type": "receipts", "receipts": said, "_reqId": "h"}));
    assert_eq!(bob.next("error")["code"], "invalid");
    assert_eq!((hand_in(&bob, &said[..64]), hand_in(&bob, &said[64..])), (json!(64), json!(6)));
    let daemon = daemon(&world, 0, "d1");
    let numbers = |frame: Value| frame["receipts"].as_array().unwrap().iter().map(|one| one["n"].clone()).collect::<Vec<_>>();
    let first = numbers(daemon.next("receipts"));
    assert_eq!(first.len(), 64);
    daemon.is_quiet();
    daemon.say(&json!({"type": "take_receipts", "taken": first}));
    assert_eq!(numbers(daemon.next("receipts")).len(), 6);
}
