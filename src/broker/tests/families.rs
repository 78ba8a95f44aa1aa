//! Topics, grants, being kept out, lists, and tasks, over the port of a real broker.

use super::*;

#[test]
fn what_is_said_in_a_topic_reaches_every_session_of_its_members_and_stays() {
    let mut world = World::new();
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
    world.broker = Some(start(options(world.dir.path())).unwrap());
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
    let world = World::new();
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

#[test]
fn what_a_member_does_not_allow_does_not_reach_it() {
    let mut world = World::new();
    let (alice, alice_key) = world.session(0, 11, "alice");
    let (bob, bob_key) = world.session(1, 21, "bob");
    let member = |n: usize| json!(world.members[n].1.public);
    alice.done(json!({"type": "set_state", "key": "mine", "value": 1}));
    assert_eq!(bob.next("state_change")["key"], "mine");
    let set = alice.ask(json!({"type": "set_grants", "peer": bob_key, "revoke": ["dm", "state-write"]}), "grants_set");
    assert_eq!((&set["peer"], &set["capabilities"]), (&member(1), &json!(["read", "broadcast", "state-read"])));
    bob.not_sent("a", &alice_key.to_hex(), "blocked by recipient grants (sender lacks dm capability)");
    bob.not_sent("b", &world.members[0].1.public.to_hex(), "blocked by recipient grants");
    bob.refused(json!({"type": "set_state", "key": "mine", "value": 2}), "forbidden");
    assert_eq!(bob.ask(json!({"type": "get_state", "key": "mine"}), "state_result")["value"], 1);
    bob.next("state_value");
    bob.sent("c", "*", "eA==");
    assert_eq!(alice.next("push")["messageId"].as_str().map(str::len), Some(32));

    alice.ask(json!({"type": "set_grants", "peer": member(1), "revoke": ["broadcast", "state-read"]}), "grants_set");
    bob.sent("d", "*", "eA==");
    alice.is_quiet();
    assert_eq!(bob.ask(json!({"type": "list_state"}), "state_list")["entries"], json!([]));
    alice.done(json!({"type": "set_state", "key": "mine", "value": 3}));
    bob.is_quiet();
    assert_eq!(alice.sent("e", &bob_key.to_hex(), "eA==")["queued"], true, "it is one member's word about the other");
    alice.refused(json!({"type": "set_grants", "peer": alice_key, "grant": ["dm"]}), "invalid");
    alice.refused(json!({"type": "set_grants", "peer": "99".repeat(32), "grant": ["dm"]}), "not_found");
    alice.refused(json!({"type": "set_grants", "peer": bob_key, "grant": ["everything"]}), "invalid");

    world.broker.take().unwrap().stop();
    world.broker = Some(start(options(world.dir.path())).unwrap());
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    bob.next("push");
    bob.not_sent("f", &alice_key.to_hex(), "blocked by recipient grants");
    alice.is_quiet();
    assert_eq!(
        alice.ask(json!({"type": "list_grants"}), "grants_list")["grants"],
        json!({world.members[1].1.public.to_hex(): ["read"]})
    );
    alice.ask(json!({"type": "set_grants", "peer": bob_key, "reset": true}), "grants_set");
    assert_eq!(bob.sent("g", &alice_key.to_hex(), "eA==")["queued"], true);
    assert_eq!(alice.next("push")["client_message_id"], "g");
}

#[test]
fn who_is_kicked_stays_out_and_the_owner_can_not_be() {
    let mut world = World::new();
    let (owner, _) = world.session(0, 11, "owner");
    let (bob, bob_key) = world.session(1, 21, "bob");
    let (twin, _) = world.session(1, 22, "twin");
    bob.refused(json!({"type": "kick", "target": "owner"}), "forbidden");
    bob.refused(json!({"type": "ban", "target": "m1"}), "forbidden");
    bob.refused(json!({"type": "disconnect", "all": true}), "forbidden");
    for nobody in ["", "a", &bob_key.to_hex()[..4], "nobody"] {
        assert_eq!(owner.ask(json!({"type": "kick", "target": nobody}), "kick_ack")["affected"], json!([]), "{nobody}");
    }
    let gone = owner.ask(json!({"type": "disconnect", "target": &bob_key.to_hex()[..8]}), "disconnect_ack");
    assert_eq!(gone["affected"], json!(["bob"]));
    assert_eq!(bob.closed(), (1000, "disconnected".to_owned()));
    assert_eq!(owner.event("peer_left")["name"], "bob");
    let (bob, _) = world.session(1, 21, "bob");
    let kicked = owner.ask(json!({"type": "kick", "target": "bob", "forMs": 3_600_000}), "kick_ack");
    assert!(kicked["affected"] == json!(["bob"]) && kicked["until"].is_string(), "{kicked}");
    assert_eq!(bob.closed(), (4001, "kicked".to_owned()));
    let again = |world: &World| {
        let client = world.connect();
        client.say(&world.session_hello(1, &KeyPair::from_seed([21; 32]), "bob"));
        assert_eq!(client.next("error")["code"], "kicked");
        assert_eq!(client.closed(), (4001, "kicked".to_owned()));
    };
    again(&world);
    twin.is_quiet();
    assert_eq!(owner.sent("mail", &bob_key.to_hex(), "eA==")["queued"], true, "its mail is kept");

    // A restart lets nobody in; the end of the time does. A member's key means all of its connections.
    world.broker.take().unwrap().stop();
    world.broker = Some(start(options(world.dir.path())).unwrap());
    again(&world);
    let (owner, _) = world.session(0, 11, "owner");
    let (twin, _) = world.session(1, 22, "twin");
    owner.ask(json!({"type": "kick", "target": world.members[1].1.public, "forMs": 1}), "kick_ack");
    assert_eq!(twin.closed(), (4001, "kicked".to_owned()));
    let (twin, _) = world.session(1, 23, "twin");

    assert_eq!(owner.ask(json!({"type": "ban", "target": "m2"}), "ban_ack")["banned"], "m2");
    assert_eq!(twin.closed(), (4002, "banned".to_owned()));
    let shut = world.connect();
    shut.say(&world.hello(1));
    assert_eq!(shut.next("error")["code"], "revoked");
    assert_eq!(shut.closed().0, 4002);
    assert_eq!(owner.ask(json!({"type": "list_bans"}), "list_bans_result")["bans"][0]["name"], "m2");
    owner.refused(json!({"type": "ban", "target": "m1"}), "invalid");
    owner.refused(json!({"type": "ban", "target": "nobody"}), "not_found");
    assert_eq!(owner.ask(json!({"type": "unban", "target": "m2"}), "unban_ack")["unbanned"], "m2");
    world.session(1, 24, "back");
    assert_eq!(owner.ask(json!({"type": "kick", "all": true}), "kick_ack")["affected"], json!(["back"]));
}

#[test]
fn a_lead_takes_somebody_out_and_who_is_shut_out_does_not_count() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    let key = json!(world.members[1].1.public);
    alice.ask(json!({"type": "topic_create", "name": "plans", "visibility": "private"}), "topic_created");
    let count = |client: &Client| {
        client.ask(json!({"type": "topic_list"}), "topic_list_response")["topics"]
            .as_array()
            .unwrap()
            .iter()
            .find(|topic| topic["name"] == "plans")
            .unwrap()["memberCount"]
            .clone()
    };
    alice.done(json!({"type": "topic_join", "topic": "plans", "member": key}));
    assert_eq!(count(&alice), 2);
    bob.refused(json!({"type": "topic_leave", "topic": "plans", "member": world.members[0].1.public}), "forbidden");
    alice.refused(json!({"type": "topic_leave", "topic": "plans", "member": KeyPair::from_seed([77; 32]).public}), "not_found");
    alice.done(json!({"type": "topic_leave", "topic": "plans", "member": key}));
    bob.not_sent("a", "#plans", "topic_not_found");
    assert_eq!(count(&alice), 1);
    let out = |topic: &str| json!({"type": "topic_leave", "topic": topic, "member": key});
    alice.refused(out("plans"), "not_found");
    // An admin of the mesh keeps order where she does not lead, and it is written down.
    bob.ask(json!({"type": "topic_create", "name": "his-own"}), "topic_created");
    alice.done(out("his-own"));
    bob.not_sent("b", "#his-own", "forbidden");
    assert_eq!(
        world.audit().iter().filter(|(name, by)| name == "topic_member_removed" && by.as_deref() == Some("m1")).count(),
        2
    );
    alice.done(json!({"type": "topic_join", "topic": "plans", "member": key}));
    alice.ask(json!({"type": "ban", "target": "m2"}), "ban_ack");
    assert_eq!(count(&alice), 1);
}

#[test]
fn a_list_is_cut_where_a_frame_ends() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    alice.ask(json!({"type": "topic_create", "name": "long"}), "topic_created");
    for n in 0..60 {
        assert_eq!(alice.sent(&format!("m{n}"), "#long", &"x".repeat(60_000))["queued"], true);
    }
    let page = alice.ask(json!({"type": "topic_history", "topic": "long", "limit": 200}), "topic_history_response");
    let shown = page["messages"].as_array().unwrap();
    assert!(page["truncated"] == true && (50..60).contains(&shown.len()), "{} shown", shown.len());
    let rest = json!({"type": "topic_history", "topic": "long", "limit": 200, "beforeId": shown.last().unwrap()["id"]});
    let rest = alice.ask(rest, "topic_history_response");
    assert_eq!((rest["messages"].as_array().unwrap().len() + shown.len(), &rest["truncated"]), (60, &Value::Null));
}

#[test]
fn a_task_is_taken_by_one_and_done_by_whoever_has_it() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    let id = bob.ask(json!({"type": "create_task", "title": "fix\nit", "tags": ["bug"]}), "task_created")["id"].clone();
    let on = |kind: &str, id: &Value| json!({"type": kind, "taskId": id, "result": "merged"});
    let other = alice.ask(json!({"type": "create_task", "title": "hers", "assignee": "alice"}), "task_created")["id"].clone();
    bob.refused(on("complete_task", &other), "forbidden");
    let claimed = alice.ask(on("claim_task", &json!(id.as_str().unwrap()[..8])), "task_list")["tasks"][0].clone();
    assert_eq!(
        (&claimed["status"], &claimed["claimedBy"], &claimed["title"]),
        (&json!("claimed"), &json!("alice"), &json!("fix it"))
    );
    bob.refused(on("claim_task", &id), "task_not_claimable");
    let done = alice.ask(on("complete_task", &id), "task_list")["tasks"][0].clone();
    assert_eq!((&done["status"], &done["result"]), (&json!("done"), &json!("merged")));
    alice.refused(on("complete_task", &id), "task_not_claimable");
    let missing = alice.refused(on("claim_task", &json!("nothing0")), "task_not_found");
    assert_eq!(missing["id"], "q");
    alice.refused(json!({"type": "create_task", "title": ""}), "invalid");
    let open = bob.ask(json!({"type": "list_tasks", "status": "open", "assignee": "alice"}), "task_list")["tasks"].clone();
    assert_eq!((open.as_array().unwrap().len(), &open[0]["id"]), (1, &other));
}

#[test]
fn everyone_hears_when_a_skill_is_published_or_removed() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    alice.ask(json!({"type": "share_skill", "name": "review", "description": "d", "instructions": "i"}), "skill_ack");
    let heard = bob.next("skill_change");
    assert_eq!(heard, json!({"type": "skill_change", "name": "review", "action": "shared", "by": "alice"}));
    bob.refused(json!({"type": "share_skill", "name": "o'neil", "instructions": "i"}), "invalid");
    alice.ask(json!({"type": "remove_skill", "name": "review"}), "skill_ack");
    assert_eq!(bob.next("skill_change")["action"], "removed", "what was refused is no news");
}
