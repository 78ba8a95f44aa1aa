//! Sessions that were launched with some rights only, and what they are held to.

use super::*;

/// A session of the first member's that was launched with these rights.
fn limited(world: &World, seed: u8, caps: Value) -> Client {
    let mut hello = world.session_hello(0, &KeyPair::from_seed([seed; 32]), "al");
    hello["allowedCaps"] = caps;
    let client = world.connect();
    client.say(&hello);
    client.next("hello_ack");
    client
}

#[test]
fn a_session_that_was_launched_with_some_rights_is_held_to_them() {
    let world = World::new();
    let (bob, bob_key) = world.session(1, 21, "bob");
    let limited = |seed: u8, caps: Value| limited(&world, seed, caps);
    let reader = limited(31, json!(["state-read", "from-later"]));
    let row = bob.ask(json!({"type": "list_peers"}), "peers_list")["peers"].clone();
    let row = row.as_array().unwrap().iter().find(|row| row["displayName"] == "al").cloned().unwrap();
    assert_eq!(row["allowedCaps"], json!(["state-read"]));
    reader.not_sent("a", &bob_key.to_hex(), "forbidden: this session was launched without the right to dm");
    reader.not_sent("b", "*", "forbidden: this session was launched without the right to broadcast");
    for frame in [
        json!({"type": "set_state", "key": "k", "value": 1}),
        json!({"type": "remember", "content": "c"}),
        json!({"type": "share_skill", "name": "n", "instructions": "i"}),
        json!({"type": "create_task", "title": "t"}),
        json!({"type": "topic_create", "name": "t"}),
        json!({"type": "set_grants", "peer": bob_key, "revoke": ["dm"]}),
        json!({"type": "kick", "target": "bob"}),
    ] {
        reader.refused(frame, "forbidden");
    }
    reader.ask(json!({"type": "list_state"}), "state_list");
    let writer = limited(32, json!(["dm", "state-write"]));
    writer.sent("c", &bob_key.to_hex(), "eA==");
    writer.done(json!({"type": "set_state", "key": "k", "value": 1}));
    writer.refused(json!({"type": "get_state", "key": "k"}), "forbidden");
    limited(33, json!([])).not_sent("d", &bob_key.to_hex(), "forbidden");
}

#[test]
fn no_frame_is_a_way_around_the_rights_of_a_session() {
    let world = World::new();
    let (whole, _) = world.session(0, 11, "whole");
    whole.ask(json!({"type": "topic_create", "name": "t"}), "topic_created");
    let key = whole.ask(json!({"type": "apikey_create", "label": "ci", "capabilities": ["send"]}), "apikey_created");
    let reads = [
        json!({"type": "topic_members", "topic": "t"}),
        json!({"type": "topic_history", "topic": "t"}),
        json!({"type": "list_tasks"}),
        json!({"type": "list_skills"}),
        json!({"type": "get_skill", "name": "n"}),
        json!({"type": "list_scheduled"}),
        json!({"type": "list_grants"}),
        json!({"type": "list_bans"}),
    ];
    let writes = [
        json!({"type": "topic_join", "topic": "t"}),
        json!({"type": "topic_mark_read", "topic": "t"}),
        json!({"type": "topic_leave", "topic": "t"}),
    ];
    // What no list of rights has.
    let others = [
        json!({"type": "topic_join", "topic": "t", "member": world.members[1].1.public}),
        json!({"type": "apikey_create", "label": "x", "capabilities": ["send", "read"]}),
        json!({"type": "apikey_list"}),
        json!({"type": "apikey_revoke", "id": key["id"]}),
    ];
    let topics = json!({"type": "topic_list"});
    let none = limited(&world, 31, json!([]));
    for frame in reads.iter().chain(&writes).chain(&others).chain([&topics]) {
        none.refused(frame.clone(), "forbidden");
    }
    none.ask(json!({"type": "list_peers"}), "peers_list");
    none.done(json!({"type": "set_summary", "summary": "here"}));
    let members = whole.ask(reads[0].clone(), "topic_members_response")["members"].clone();
    assert_eq!(members.as_array().map(Vec::len), Some(1), "its member is in the topic still");
    assert_eq!(whole.ask(json!({"type": "apikey_list"}), "apikey_list_response")["keys"][0]["revokedAt"], json!(null));

    let reader = limited(&world, 32, json!(["state-read"]));
    let answers = ["topic_members_response", "topic_history_response", "task_list", "skill_list", "skill_data"];
    for (frame, answer) in reads.iter().zip(answers) {
        reader.ask(frame.clone(), answer);
    }
    for frame in writes.iter().chain(&others) {
        reader.refused(frame.clone(), "forbidden");
    }
    let writer = limited(&world, 33, json!(["state-write"]));
    writes.iter().for_each(|frame| writer.done(frame.clone()));
    for frame in reads.iter().chain(&others).chain([&topics]) {
        writer.refused(frame.clone(), "forbidden");
    }
    // Who writes to a topic looks for it by its name.
    let speaker = limited(&world, 34, json!(["broadcast"]));
    speaker.ask(topics, "topic_list_response");
    speaker.refused(reads[1].clone(), "forbidden");
}
