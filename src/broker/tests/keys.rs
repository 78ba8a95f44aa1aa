//! Shared keys over the port of a real broker: who may ask for what, and what is refused.

use super::*;

const ABLE: &str = "scope-keys";

impl World {
    /// A session whose client opens what is sealed for many.
    fn able(&self, member: usize, seed: u8, name: &str) -> (Client, PublicKey) {
        let key = KeyPair::from_seed([seed; 32]);
        let client = self.connect();
        let mut hello = self.session_hello(member, &key, name);
        hello["capabilities"] = json!(["something-else", ABLE]);
        client.say(&hello);
        client.next("hello_ack");
        (client, key.public)
    }
}

impl Client {
    #[track_caller]
    fn answer(&self, frame: Value, kind: &str) -> Value {
        self.say(&frame);
        self.next(kind)
    }

    #[track_caller]
    fn no(&self, frame: Value, code: &str) {
        let answer = self.answer(frame, "error");
        assert_eq!(answer["code"], code, "{answer}");
    }

    /// Sends something sealed, and takes the answer.
    #[track_caller]
    fn sealed(&self, id: &str, to: &str, epoch: u32) -> Value {
        let seal = json!({"epoch": epoch, "signature": "5".repeat(128)});
        let mut frame = json!({"type": "send", "id": id, "client_message_id": id, "targetSpec": to, "priority": "next", "nonce": "n",
                               "ciphertext": "c", "bodyVersion": 2, "mentions": ["bob"], "seal": seal});
        if id.is_empty() {
            frame.as_object_mut().unwrap().remove("client_message_id");
        }
        self.answer(frame, "ack")
    }

    #[track_caller]
    fn not_sealed(&self, id: &str, to: &str, epoch: u32, start: &str) {
        let ack = self.sealed(id, to, epoch);
        assert!(ack["error"].as_str().is_some_and(|error| error.starts_with(start)), "{ack}");
    }
}

fn copies(members: &[&str]) -> Value {
    members.iter().map(|id| json!({"memberId": id, "encryptedKey": "k".repeat(108), "nonce": "n".repeat(32)})).collect()
}

fn publish(scope: &str, epoch: u32, members: &[&str]) -> Value {
    json!({"type": "key_publish", "scope": scope, "epoch": epoch, "proof": "a".repeat(128), "sealed": copies(members)})
}

#[test]
fn a_key_is_kept_for_those_who_share_it_and_what_is_sealed_with_it_goes_to_those_who_can_open_it() {
    let world = World::new();
    let (alice, _) = world.able(0, 11, "alice");
    let (bob, _) = world.able(1, 21, "bob");
    let get = |scope: &str| json!({"type": "key_get", "scope": scope});
    let none = alice.answer(get("*"), "key_state");
    assert_eq!((&none["epoch"], none["members"].as_array().unwrap().len()), (&json!(0), 2));
    alice.not_sealed("a", "*", 1, "key_closed");
    alice.no(json!({"type": "key_get", "scope": "@eng"}), "invalid");
    let mut wrong = publish("*", 1, &["m1"]);
    wrong["proof"] = json!("word");
    alice.no(wrong, "invalid");
    let mut wrong = publish("*", 1, &["m1"]);
    wrong["sealed"][0]["nonce"] = json!("");
    alice.no(wrong, "invalid");
    assert_eq!(alice.answer(publish("*", 1, &["m1"]), "key_taken")["accepted"], true);
    assert_eq!(bob.answer(publish("*", 1, &["m1", "m2"]), "key_taken")["accepted"], false);
    alice.not_sealed("a", "@eng", 1, "key_pending");
    let lacking = alice.answer(get("*"), "key_state");
    assert_eq!((&lacking["members"][0]["memberId"], lacking["members"].as_array().unwrap().len()), (&json!("m2"), 1));
    let seal = json!({"type": "key_seal", "scope": "*", "epoch": 1, "sealed": copies(&["m2"])});
    assert_eq!(bob.answer(seal.clone(), "key_taken")["accepted"], false, "he has none to give");
    assert_eq!(alice.answer(seal, "key_taken")["accepted"], true);
    let own = bob.answer(get("*"), "key_state");
    assert_eq!((&own["encryptedKey"], &own["publisher"]), (&json!("k".repeat(108)), &json!(world.members[0].1.public)));
    assert_eq!(alice.sealed("a", "*", 1)["queued"], true);
    let push = bob.next("push");
    assert_eq!((&push["bodyVersion"], &push["seal"]["epoch"], &push["client_message_id"]), (&json!(2), &json!(1), &json!("a")));
    bob.ack(&push);
    alice.not_sealed("", "*", 1, "invalid");
    alice.not_sealed("b", &world.members[1].1.public.to_hex(), 1, "invalid");

    // A topic is its members' own.
    let made = alice.answer(json!({"type": "topic_create", "name": "plans"}), "topic_created");
    let topic = format!("#{}", made["topic"]["id"].as_str().unwrap());
    bob.no(get(&topic), "forbidden");
    bob.no(publish(&topic, 1, &["m2"]), "forbidden");
    assert_eq!(alice.answer(publish(&topic, 1, &["m1"]), "key_taken")["accepted"], true);
    assert_eq!(alice.sealed("c", &topic, 1)["queued"], true);
    let history = alice.answer(json!({"type": "topic_history", "topic": "plans"}), "topic_history_response");
    let said = &history["messages"][0];
    assert_eq!((&said["bodyVersion"], &said["seal"]["epoch"], &said["mentions"]), (&json!(2), &json!(1), &json!(["bob"])));
    assert_eq!((&said["client_message_id"], format!("#{}", history["topicId"].as_str().unwrap())), (&json!("c"), topic));

    // One who can not open it: it is said before, and again when it is sent all the same.
    let check = |to: &str| alice.answer(json!({"type": "key_check", "to": to}), "key_check_result")["unable"].clone();
    assert_eq!(check("*"), json!([]));
    let (old, _) = world.session(1, 31, "old");
    assert_eq!((check("*"), check("@eng")), (json!(["old"]), json!([])));
    alice.not_sealed("d", "*", 1, "recipient_cannot_open: old cannot read");
    alice.no(json!({"type": "key_check", "to": "bob"}), "invalid");
    let later = json!({"type": "schedule", "to": "*", "nonce": "n", "ciphertext": "c", "deliverAt": 9_999_999_999_999_i64,
                       "client_message_id": "e", "seal": {"epoch": 1, "signature": "s"}});
    alice.no(later.clone(), "recipient_cannot_open");
    old.handle.try_send("close:session_ended".to_owned()).unwrap();
    alice.event("peer_left");
    alice.answer(later.clone(), "scheduled_ack");
    for (key, value) in [("cron", json!("0 9 * * 1")), ("client_message_id", json!("")), ("to", json!("5".repeat(64)))] {
        let mut strange = later.clone();
        strange[key] = value;
        alice.no(strange, "invalid");
    }
    let mut stale = later;
    stale["seal"]["epoch"] = json!(7);
    alice.no(stale, "key_closed");
}

impl World {
    /// A member's daemon, which opens what is sealed for many or does not.
    fn keeper(&self, member: usize, able: bool) -> Client {
        let mut hello = self.hello(member);
        hello["sessionId"] = json!(format!("daemon-{member}-{able}"));
        if able {
            hello["capabilities"] = json!([ABLE]);
        }
        let client = self.connect();
        client.say(&hello);
        client.next("hello_ack");
        client
    }
}

#[test]
fn those_who_have_a_topics_key_are_asked_to_give_it_to_whoever_enters_and_nobody_else_is() {
    let world = World::new();
    let (alice, bob) = (world.keeper(0, true), world.keeper(1, true));
    let blind = world.keeper(1, false);
    let made = alice.answer(json!({"type": "topic_create", "name": "plans"}), "topic_created");
    let topic = format!("#{}", made["topic"]["id"].as_str().unwrap());
    let reads = json!({"type": "key_get", "scope": topic, "epoch": 1});
    let seal = json!({"type": "key_seal", "scope": topic, "epoch": 1, "sealed": copies(&["m2"])});
    let enter = json!({"type": "topic_join", "topic": "plans", "_reqId": "r"});
    alice.answer(publish(&topic, 1, &["m1"]), "key_taken");
    bob.answer(enter.clone(), "ack");
    assert_eq!(alice.next("key_needed")["scopes"], json!([topic]));
    // One who reads has them asked again, and is told so.
    let state = bob.answer(reads.clone(), "key_state");
    assert_eq!((&state["asked"], &state["encryptedKey"]), (&json!(true), &Value::Null));
    alice.next("key_needed");
    alice.answer(seal.clone(), "key_taken");
    let given = bob.next("key_given");
    assert_eq!((&given["scope"], &given["epoch"]), (&json!(topic), &json!(1)));
    // Who has it, or enters once more, makes no work.
    assert_eq!(bob.answer(reads.clone(), "key_state")["asked"], Value::Null);
    bob.answer(enter.clone(), "ack");
    alice.answer(seal, "key_taken");
    // Nor does one who goes and comes again and again: the key was closed when it went.
    for _ in 0..3 {
        bob.answer(json!({"type": "topic_leave", "topic": "plans", "_reqId": "r"}), "ack");
        bob.answer(enter.clone(), "ack");
    }
    assert_eq!(bob.answer(json!({"type": "key_get", "scope": topic}), "key_state")["asked"], Value::Null);
    let strange = |client: &Client| client.heard.try_iter().find(|frame| frame["type"].as_str().unwrap().starts_with("key_"));
    for client in [&alice, &bob, &blind] {
        client.answer(json!({"type": "topic_list"}), "topic_list_response");
        assert_eq!(strange(client), None);
    }
    // Where nobody is here who has it, whoever comes first is told.
    alice.answer(publish(&topic, 2, &["m1"]), "key_taken");
    drop(alice);
    let reads = json!({"type": "key_get", "scope": topic, "epoch": 2});
    let end = Instant::now() + PATIENCE;
    while bob.answer(reads.clone(), "key_state")["asked"] == json!(true) {
        assert!(Instant::now() < end, "she is still asked");
    }
    let alice = world.keeper(0, true);
    assert_eq!(alice.next("key_needed")["scopes"], json!([topic]));
    drop(alice);
    let (admin, _) = world.able(0, 11, "admin");
    admin.answer(json!({"type": "ban", "target": "m2"}), "ban_ack");
    let alice = world.keeper(0, true);
    alice.answer(json!({"type": "topic_list"}), "topic_list_response");
    assert_eq!(strange(&alice), None, "it was for one who is shut out");
}

#[test]
fn what_the_client_of_a_member_who_is_away_could_is_remembered() {
    let mut world = World::new();
    let (alice, _) = world.able(0, 11, "alice");
    let daemon = |world: &World, able: bool| {
        let mut hello = world.hello(1);
        if able {
            hello["capabilities"] = json!([ABLE]);
        }
        let client = world.connect();
        client.say(&hello);
        client.next("hello_ack");
        client
    };
    let check = |client: &Client| client.answer(json!({"type": "key_check", "to": "*"}), "key_check_result")["unable"].clone();
    assert_eq!(check(&alice), json!([]), "nothing is known of one who was never here");
    let old = daemon(&world, false);
    assert_eq!(check(&alice), json!(["m2"]));
    drop((old, alice));
    world.broker.take().unwrap().stop();
    world.broker = Some(start(options(world.dir.path())).unwrap());
    let (alice, _) = world.able(0, 11, "alice");
    assert_eq!(check(&alice), json!(["m2"]), "mail for it waits, and it could not open it");
    let _new = daemon(&world, true);
    assert_eq!(check(&alice), json!([]));
}
