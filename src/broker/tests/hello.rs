//! Who comes in, and that everybody is answered.

use super::*;
use crate::store::hub::{Actor, Removed};

#[test]
fn a_hello_that_does_not_hold_is_refused_in_the_references_words() {
    let world = World::new();
    let session = KeyPair::from_seed([9; 32]);
    let other = KeyPair::from_seed([8; 32]);
    let change = |mut hello: Value, key: &str, value: Value| {
        hello[key] = value;
        hello
    };
    let upper = world.members[0].1.public.to_hex().to_uppercase();
    let mut foreign = world.session_hello(0, &session, "s");
    foreign["parentAttestation"]["sessionPubkey"] = json!(other.public);
    let mut expired = world.session_hello(0, &session, "s");
    expired["parentAttestation"]["expiresAt"] = json!(1000);
    let cases = [
        (change(world.hello(0), "timestamp", json!(now_millis() - 61_000)), "timestamp_skew", "hello rejected: timestamp_skew"),
        (change(world.hello(0), "signature", json!("00".repeat(64))), "bad_signature", "hello rejected: bad_signature"),
        (change(world.hello(0), "signature", json!("zz")), "malformed", "hello rejected: malformed"),
        (change(world.hello(0), "meshId", json!("other")), "bad_signature", "hello rejected: bad_signature"),
        (change(world.hello(0), "pubkey", json!(upper)), "bad_signature", "hello rejected: bad_signature"),
        (
            change(world.hello(0), "sessionPubkey", json!("AB")),
            "bad_session_pubkey",
            "sessionPubkey must be 64 lowercase hex chars",
        ),
        (
            change(world.session_hello(0, &session, "s"), "sessionPubkey", json!("x")),
            "bad_session_pubkey",
            "sessionPubkey must be 64 lowercase hex chars",
        ),
        (
            change(world.session_hello(0, &session, "s"), "parentMemberPubkey", json!("x")),
            "bad_parent_pubkey",
            "parentMemberPubkey must be 64 lowercase hex chars",
        ),
        (foreign, "attestation_mismatch", "parentAttestation does not bind the claimed session+parent pubkeys"),
        (expired, "expired", "attestation rejected: expired"),
        (
            change(world.session_hello(0, &session, "s"), "parentMemberId", json!("nobody")),
            "parent_member_id_mismatch",
            "parentMemberId does not match parentMemberPubkey",
        ),
    ];
    for (hello, code, message) in cases {
        let client = world.connect();
        client.say(&hello);
        let error = client.next("error");
        assert_eq!((error["code"].as_str(), error["message"].as_str()), (Some(code), Some(message)), "{hello}");
        assert_eq!(client.closed(), (1008, code.to_owned()));
    }
    let key = MemberKey(world.members[1].1.public);
    assert!(world.running().hub().revoke(world.mesh.clone(), key, Removed::Banned(Actor::Nobody), now_millis()).unwrap());
    let client = world.connect();
    client.say(&world.hello(1));
    assert_eq!(client.next("error")["code"], "revoked");
    assert_eq!(client.closed(), (4002, "banned".to_owned()));
}

#[test]
fn a_hello_that_somebody_took_down_lets_nobody_in() {
    let world = World::new();
    let session = KeyPair::from_seed([9; 32]);
    for hello in [world.session_hello(0, &session, "alice"), world.hello(0)] {
        let own = world.connect();
        own.say(&hello);
        own.next("hello_ack");
        // What is not signed can be changed, and changes nothing.
        let mut bent = hello.clone();
        bent["hostname"] = json!("elsewhere");
        bent["signature"] = json!(hello["signature"].as_str().unwrap().to_uppercase());
        for again in [&hello, &bent] {
            let eve = world.connect();
            eve.say(again);
            let error = eve.next("error");
            assert_eq!(error["code"], "replayed", "{error}");
            assert_eq!(eve.closed(), (1008, "replayed".to_owned()));
        }
        own.is_quiet();
    }
    // One that a broker could have forgotten, because it was started since.
    let mut world = world;
    let hello = world.session_hello(0, &session, "alice");
    world.broker.take().unwrap().stop();
    world.broker = Some(start(options(world.dir.path())).unwrap());
    let eve = world.connect();
    eve.say(&hello);
    assert_eq!(eve.next("error")["code"], "replayed");
}

#[test]
fn a_session_key_of_another_member_is_another_presence() {
    let world = World::new();
    let (owner, _) = world.session(0, 11, "owner");
    let (first, _) = world.session(0, 30, "first");
    let (second, key) = world.session(1, 30, "second");
    assert_eq!(first.closed(), (1000, "session_replaced".to_owned()));
    assert_eq!(owner.event("peer_left")["name"], "first");
    assert_eq!(owner.event("peer_joined")["name"], "second");
    let peers = owner.ask(json!({"type": "list_peers"}), "peers_list")["peers"].clone();
    let row = peers.as_array().unwrap().iter().find(|peer| peer["pubkey"] == json!(key)).unwrap();
    assert_eq!(row["memberPubkey"], json!(world.members[1].1.public));
    owner.ask(json!({"type": "ban", "target": "m2"}), "ban_ack");
    assert_eq!(second.closed(), (4002, "banned".to_owned()));
}

#[test]
fn everything_that_is_said_is_answered() {
    let world = World::new();
    let client = world.connect();
    for early in [r#"{"type":"list_peers","_reqId":"r"}"#, "garbage", r#"{"type":"send"}"#] {
        client.say_text(early);
        assert_eq!(client.next("error")["code"], "no_hello", "{early}");
    }
    client.say(&world.hello(0));
    let ack = client.next("hello_ack");
    let promised = ["ordered-send", "store-and-forward", "away-peers", "answers-all", "scope-keys", "receipts"];
    assert_eq!(ack["features"], json!(promised));
    for (said, code, id, req_id) in [
        ("{", "malformed", Value::Null, Value::Null),
        (r#"{"type":"vector_store","_reqId":"r1"}"#, "unknown_type", Value::Null, json!("r1")),
        (r#"{"type":"send","id":"a"}"#, "invalid", json!("a"), Value::Null),
        (r#"{"type":"set_status","status":"asleep","_reqId":"r2"}"#, "invalid", Value::Null, json!("r2")),
        (&world.hello(0).to_string(), "invalid", Value::Null, Value::Null),
    ] {
        client.say_text(said);
        let error = client.next("error");
        assert_eq!((&error["code"], &error["id"], &error["_reqId"]), (&json!(code), &id, &req_id), "{said}");
    }
    for (to, start) in [("bob", "invalid: "), ("#topic", "topic_not_found: "), (&"99".repeat(32), "target_not_found: ")] {
        let refused = client.sent("x", to, "t");
        assert_eq!((&refused["queued"], &refused["messageId"]), (&json!(false), &json!("")), "{to}");
        assert!(refused["error"].as_str().unwrap().starts_with(start), "{refused}");
    }
    for bare in ["two words", "é", "\u{1}"] {
        let refused = client.sent("y", &"99".repeat(32), bare);
        assert_eq!(refused["error"], "invalid: nonce and ciphertext are base64");
    }
    client.say(
        &json!({"type": "send", "id": "large", "targetSpec": "99".repeat(32), "nonce": "", "ciphertext": "x".repeat(65_536)}),
    );
    let large = client.next("ack");
    assert!(large["error"].as_str().unwrap().starts_with("payload_too_large: "), "{large}");
}

#[test]
fn how_a_peer_is_reached_is_listed_once_it_was_said_and_not_taken_over_by_its_next_connection() {
    let world = World::new();
    let (alice, key) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    let listed = || {
        bob.say(&json!({"type": "list_peers"}));
        let list = bob.next("peers_list");
        list["peers"].as_array().unwrap().iter().find(|peer| peer["pubkey"] == json!(key)).unwrap()["reach"].clone()
    };
    assert_eq!(listed(), Value::Null);
    let tell = |client: &Client, reach: Value| {
        client.say(&json!({"type": "set_reach", "reach": reach, "_reqId": "r"}));
        assert_eq!(client.next("ack")["_reqId"], "r");
    };
    tell(&alice, json!(["turn", "telepathy", "wake", "turn"]));
    assert_eq!(listed(), json!(["wake", "turn"]), "each once, and those that are known");
    tell(&alice, json!([]));
    assert_eq!(listed(), json!([]), "nothing is not the same as not known");
    let _again = world.session(0, 11, "alice");
    assert_eq!(listed(), Value::Null);
}
