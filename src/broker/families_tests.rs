//! Topics, grants, being kept out, what is sent later, and tasks, over the port of a real broker.

use super::*;

impl Client {
    /// Asks, and takes the answer, which must be of this type and carry the question's id.
    #[track_caller]
    fn ask(&self, mut frame: Value, kind: &str) -> Value {
        frame["_reqId"] = json!("q");
        self.say(&frame);
        let answer = self.next(kind);
        assert_eq!(answer["_reqId"], "q", "{answer}");
        answer
    }

    /// Asks, and is refused with this code.
    #[track_caller]
    fn refused(&self, frame: Value, code: &str) -> Value {
        let answer = self.ask(frame, "error");
        assert_eq!(answer["code"], code, "{answer}");
        answer
    }

    /// Asks for something that is only acknowledged.
    #[track_caller]
    fn done(&self, frame: Value) {
        self.ask(frame, "ack");
    }

    /// Sends, and is refused with an error that begins so.
    #[track_caller]
    fn not_sent(&self, id: &str, to: &str, start: &str) {
        let ack = self.sent(id, to, "dGV4dA==");
        assert!(ack["queued"] == false && ack["error"].as_str().is_some_and(|error| error.starts_with(start)), "{ack}");
    }
}

#[test]
fn what_is_said_in_a_topic_reaches_every_session_of_its_members_and_stays() {
    let mut world = World::new("topics");
    let (alice, alice_key) = world.session(0, 11, "alice");
    let (other, _) = world.session(0, 12, "other");
    let (bob, _) = world.session(1, 21, "bob");
    let made = alice.ask(json!({"type": "topic_create", "name": "deploys", "description": "what\ngoes out"}), "topic_created");
    assert_eq!((&made["created"], &made["topic"]["visibility"]), (&json!(true), &json!("public")));
    let id = made["topic"]["id"].as_str().unwrap().to_owned();
    bob.not_sent("early", &format!("#{id}"), "forbidden: you are not in #deploys");
    bob.not_sent("nowhere", "#nowhere", "topic_not_found");
    bob.done(json!({"type": "topic_join", "topic": "deploys"}));

    let text = crate::crypto::base64::encode("@Bob it is out".as_bytes());
    let first = alice.sent("one", &format!("#{id}"), &text);
    for client in [&other, &bob] {
        let push = client.next("push");
        assert_eq!((&push["messageId"], &push["topic"]), (&first["messageId"], &json!("deploys")));
        assert_eq!((&push["senderName"], &push["targetSpec"]), (&json!("alice"), &json!(format!("#{id}"))));
        assert_eq!(push["senderPubkey"], json!(alice_key));
        client.ack(&push);
    }
    alice.is_quiet();
    assert_eq!(alice.sent("one", "#deploys", &text)["messageId"], first["messageId"], "said once, by name or by id");

    // A reply is to something that was said here.
    let reply = |client: &Client, id: &str, to: &Value| {
        client.say(
            &json!({"type": "send", "id": id, "client_message_id": id, "targetSpec": "#deploys", "nonce": "n", "ciphertext": "",
                           "replyToId": to, "mentions": ["@Ann"]}),
        );
        client.next("ack")
    };
    assert_eq!(reply(&bob, "two", &json!("one"))["queued"], true, "by its sender's own id");
    assert!(reply(&bob, "three", &json!("nothing"))["error"].as_str().unwrap().starts_with("invalid"));
    let answer = alice.next("push");
    assert_eq!(answer["replyToId"], first["messageId"]);
    alice.ack(&answer);

    let history = |client: &Client, more: Value| {
        let mut ask = json!({"type": "topic_history", "topic": "deploys"});
        ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.ask(ask, "topic_history_response")["messages"].clone()
    };
    let all = history(&bob, json!({}));
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    assert_eq!((&all[0]["mentions"], &all[0]["replyToId"]), (&json!(["ann"]), &first["messageId"]));
    assert_eq!((&all[1]["mentions"], &all[1]["ciphertext"]), (&json!(["bob"]), &json!(text)));
    assert_eq!(history(&bob, json!({"limit": 1}))[0]["id"], all[0]["id"]);
    assert_eq!(history(&bob, json!({"beforeId": all[0]["id"]})), json!([all[1]]));

    bob.done(json!({"type": "topic_mark_read", "topic": id}));
    let members = alice.ask(json!({"type": "topic_members", "topic": "deploys"}), "topic_members_response")["members"].clone();
    assert_eq!((&members[0]["role"], &members[0]["lastReadAt"]), (&json!("lead"), &Value::Null));
    assert!(members[1]["role"] == "member" && members[1]["lastReadAt"].is_string(), "{members}");

    // It outlives the broker, and who leaves hears no more.
    bob.done(json!({"type": "topic_leave", "topic": "deploys"}));
    world.broker.take().unwrap().stop();
    world.broker = Some(start(Options { data_dir: world.dir.clone(), listen: "127.0.0.1:0".parse().unwrap() }).unwrap());
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    assert_eq!(history(&alice, json!({})), all);
    alice.sent("four", "#deploys", "eA==");
    bob.is_quiet();
    let listed = bob.ask(json!({"type": "topic_list"}), "topic_list_response")["topics"].clone();
    assert_eq!((&listed[0]["memberCount"], &listed[0]["description"]), (&json!(1), &json!("what goes out")));
}

#[test]
fn a_private_topic_is_known_to_its_members_alone_and_a_member_who_is_away_gets_what_was_said() {
    let world = World::new("private");
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    alice.ask(json!({"type": "topic_create", "name": "plans", "visibility": "private"}), "topic_created");
    assert_eq!(bob.ask(json!({"type": "topic_list"}), "topic_list_response")["topics"], json!([]));
    for kind in ["topic_join", "topic_leave", "topic_members", "topic_history", "topic_mark_read"] {
        let refused = bob.refused(json!({"type": kind, "topic": "plans"}), "topic_not_found");
        assert_eq!(refused["id"], "q", "the reference's clients look there");
    }
    bob.refused(json!({"type": "topic_create", "name": "plans"}), "forbidden");
    bob.not_sent("a", "#plans", "topic_not_found");
    let key = world.members[1].1.public;
    alice.done(json!({"type": "topic_join", "topic": "plans", "member": key, "role": "observer"}));
    alice.refused(json!({"type": "topic_join", "topic": "plans", "member": KeyPair::from_seed([77; 32]).public}), "not_found");
    bob.not_sent("b", "#plans", "forbidden: you only observe");
    bob.refused(json!({"type": "topic_join", "topic": "plans", "role": "lead"}), "forbidden");
    for name in ["", "a b", "o'neil"] {
        bob.refused(json!({"type": "topic_create", "name": name}), "invalid");
    }

    bob.handle.try_send("close:session_ended".to_owned()).unwrap();
    alice.event("peer_left");
    alice.sent("c", "#plans", "eA==");
    let daemon = world.connect();
    daemon.say(&world.hello(1));
    daemon.next("hello_ack");
    assert_eq!(daemon.next("push")["topic"], "plans");

    // Another mesh has topics of its own.
    let hub = world.running().hub();
    let stranger = KeyPair::from_seed([5; 32]);
    let member = NewMember {
        id: MemberId::new("s1"),
        mesh: MeshId::new("other"),
        key: MemberKey(stranger.public),
        display_name: "s".into(),
        role: Role::Admin,
        now: 1,
    };
    let mesh = NewMesh { id: MeshId::new("other"), slug: Slug::new("o"), name: "O".into(), owner: member.key, now: 1 };
    hub.create_mesh(mesh, member.clone()).unwrap();
    let id = alice.ask(json!({"type": "topic_list"}), "topic_list_response")["topics"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(hub.topic(MeshId::new("other"), id, member.id), Ok(None));
}
