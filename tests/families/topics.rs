//! Topics, as somebody types them.

use serde_json::{Value, json};

use super::Typist;
use crate::support::mesh::World;
use crate::support::process::Process;
use crate::support::session::Session;

#[test]
fn a_topic_is_made_entered_written_to_by_name_and_read_later() {
    let world = World::pair();
    let alice_session = Session::open(&world.alice, "acme", "alice");
    let bob_session = Session::open(&world.bob, "acme", "bob");
    let alice = Typist { home: &world.homes[0], session: Some(&alice_session) };
    let bob = Typist { home: &world.homes[1], session: Some(&bob_session) };
    assert_eq!(alice.json(&["topic", "create", "#deploys", "--description", "What goes out"])["created"], true);
    assert_eq!(bob.json(&["topic", "create", "deploys"])["created"], false);
    let listed = bob.json(&["topic", "list"]);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["memberCount"], &listed[0]["role"]),
        (&json!("deploys"), &json!(2), &json!("member"))
    );

    let events = bob_session.follow(None);
    let sent = alice.json(&["send", "#deploys", "@bob", "it", "is", "out"]);
    let first = sent["clientMessageId"].as_str().unwrap();
    let event = events.until("what was said", |events| events.iter().find(|event| event.name == "message").cloned());
    assert_eq!((&event.data["topic"], &event.data["body"]), (&json!("deploys"), &json!("@bob it is out")));
    let replies = alice_session.follow(None);
    bob.says(&["topic", "post", "deploys", "seen", "--reply-to", first]);
    replies.until("the answer", |events| events.iter().find(|event| event.name == "message").cloned());
    let history = bob.json(&["topic", "history", "#deploys"]);
    assert_eq!((&history[0]["text"], &history[1]["text"]), (&json!("seen"), &json!("@bob it is out")));
    assert_eq!((&history[0]["replyToId"], &history[1]["mentions"]), (&history[1]["id"], &json!(["bob"])));
    bob.says(&["topic", "read", "deploys"]);
    let members = alice.json(&["topic", "members", "deploys"]);
    assert!(members[1]["lastReadAt"].is_string() && members[0]["lastReadAt"].is_null(), "{members}");
    assert_eq!(bob.json(&["inbox", "--topic", "deploys"]).as_array().unwrap().len(), 1);

    bob.says(&["topic", "leave", "deploys"]);
    alice.fails(&["send", "#nowhere", "hello"], 5, "#nowhere");
    alice.fails(&["topic", "history", "nowhere"], 5, "there is no topic \"nowhere\"");
    alice.fails(&["topic", "create", "a b"], 3, "a topic's name is");
}

#[test]
fn what_is_said_in_a_topic_is_shown_as_it_comes_and_nothing_else_is() {
    let world = World::pair();
    let (ann, ben) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.bob, "acme", "ben"));
    let alice = Typist { home: &world.homes[0], session: Some(&ann) };
    let bob = Typist { home: &world.homes[1], session: Some(&ben) };
    assert!(bob.says(&["inbox"]).contains("No messages for this session."));
    for topic in ["deploys", "plans"] {
        alice.says(&["topic", "create", topic]);
        bob.says(&["topic", "join", topic]);
    }
    let heard = ben.follow(Some(0));
    for (n, text) in ["one", "two"].iter().enumerate() {
        ann.send("#deploys", text, &format!("m-{n}"));
        heard.message(&format!("m-{n}"));
    }
    let spawn = |args: &[&str]| {
        let mut command = world.homes[1].command(args);
        command.env("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN", "1").env("CLAUDEMESH_IPC_TOKEN", &ben.token);
        Process::spawn(command)
    };
    let next = |process: &Process, key: &str| -> Value {
        serde_json::from_str::<Value>(&process.line().expect("a message")).unwrap()[key].clone()
    };
    bob.fails(&["topic", "tail", "nowhere"], 5, "there is no topic");
    let tail = spawn(&["topic", "tail", "#deploys", "--limit", "1", "--json"]);
    assert_eq!(next(&tail, "text"), "two");
    let inbox = spawn(&["inbox", "--follow", "--topic", "#plans", "--json"]);
    for (topic, text) in [("#plans", "elsewhere"), ("#deploys", "three"), ("#plans", "elsewhere again"), ("#deploys", "four")] {
        ann.send(topic, text, text);
    }
    assert_eq!([next(&tail, "text"), next(&tail, "text")], ["three", "four"]);
    assert_eq!([next(&inbox, "body"), next(&inbox, "body")], ["elsewhere", "elsewhere again"]);
    for process in [tail, inbox] {
        process.signal(rustix::process::Signal::TERM);
        let ended = process.finish();
        assert_eq!((ended.status.code(), ended.out.as_str()), (Some(0), ""), "{}", ended.err);
    }
    // What was only looked at is unread still, and what was read from the inbox is not.
    let unread: Vec<Value> = ben.unread().into_iter().map(|row| row["body"].clone()).collect();
    assert_eq!(unread, ["one", "two", "three", "four"]);
}

#[test]
fn whoever_reads_slowly_is_shown_all_that_was_said_meanwhile() {
    /// More than one page of the history has.
    const MANY: usize = 130;
    let world = World::pair();
    let (ann, ben) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.bob, "acme", "ben"));
    let alice = Typist { home: &world.homes[0], session: Some(&ann) };
    let bob = Typist { home: &world.homes[1], session: Some(&ben) };
    alice.says(&["topic", "create", "deploys"]);
    bob.says(&["topic", "join", "deploys"]);
    let mut command = world.homes[1].command(&["topic", "tail", "deploys", "--json"]);
    command.env("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN", "1").env("CLAUDEMESH_IPC_TOKEN", &ben.token);
    let tail = Process::spawn(command);
    let next = || serde_json::from_str::<Value>(&tail.line().expect("a message")).unwrap()["text"].clone();
    ann.send("#deploys", "0", "m-0");
    assert_eq!(next(), "0");
    tail.signal(rustix::process::Signal::STOP);
    let heard = ben.follow(Some(0));
    for n in 1..=MANY {
        ann.send("#deploys", &n.to_string(), &format!("m-{n}"));
    }
    heard.message(&format!("m-{MANY}"));
    tail.signal(rustix::process::Signal::CONT);
    for n in 1..=MANY {
        assert_eq!(next(), n.to_string());
    }
    tail.signal(rustix::process::Signal::TERM);
    assert_eq!(tail.finish().out, "");
}
