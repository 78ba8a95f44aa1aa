//! As `crash.rs`, for what is said to many and for what is due later: all of it is sealed by daemons, goes by keys that they
//! share, and is kept for each recipient on its own.

use std::collections::BTreeMap;

use claudemesh::base::time::now_millis;
use serde_json::{Value, json};

use crate::crash::{Senders, Victim, exactly_once, kill, rounds, run};
use crate::support::home::Home;
use crate::support::mesh::World;
use crate::support::process::Process;
use crate::support::session::Session;

/// Rounds of kills, and what each thread sends in one.
const ROUNDS: u64 = 8;
const BURST: u64 = 5;

/// Messages that are due while things are killed, and the time between two of them, in milliseconds.
const LATER: i64 = 12;
const APART: i64 = 150;

fn join_topic(home: &Home, session: &Session) {
    let mut command = home.command(&["topic", "create", "plans"]);
    command.env("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN", "1").env("CLAUDEMESH_IPC_TOKEN", &session.token);
    let ended = Process::run(command);
    assert!(ended.status.success(), "{ended:?}");
}

/// Has the broker keep messages for a group and for a session in turn.
fn schedule(from: &Session, to: &str) {
    let start = now_millis();
    for n in 0..LATER {
        let to = if n % 2 == 0 { "@eng" } else { to };
        let ask = json!({"to": to, "message": format!("later:{n}"), "deliverAt": start + (n + 1) * APART});
        let reply = from.call("POST", "/v1/schedule", Some(&ask)).unwrap();
        assert!((200..300).contains(&reply.status), "{reply:?}");
    }
}

#[test]
fn what_is_for_many_and_what_is_due_arrive_once_whoever_is_killed() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::prepare(&world.bob, "acme", "bob").in_groups(&["eng"]);
    bob.register(std::process::id());
    bob.await_link();
    let heard = bob.follow(Some(0));
    join_topic(&world.homes[0], &alice);
    join_topic(&world.homes[1], &bob);
    schedule(&alice, &bob.key);
    let senders = Senders::to_each(alice, &["@eng", "#plans", "*", &bob.key], BURST);
    let sent = run("killing what carries mail to many", rounds(ROUNDS), senders, |random| {
        kill(&mut world, &[random.choose(&[Victim::Sender, Victim::Recipient, Victim::Broker])]);
    });
    let all = usize::try_from(sent).unwrap() + usize::try_from(LATER).unwrap();
    heard.count(all);
    let streamed: Vec<Value> = heard.messages().into_iter().map(|event| event.data).collect();
    let is_later = |row: &&Value| row["body"].as_str().is_some_and(|body| body.starts_with("later:"));
    for (place, rows) in [("the event stream", streamed), ("the inbox", bob.unread())] {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        rows.iter().filter(is_later).for_each(|row| *times.entry(row["body"].as_str().unwrap_or_default()).or_default() += 1);
        assert!(
            times.len() == all - usize::try_from(sent).unwrap() && times.values().all(|times| *times == 1),
            "{place}: {times:?}"
        );
        let others: Vec<Value> = rows.iter().filter(|row| !is_later(row)).cloned().collect();
        exactly_once(place, sent / crate::crash::SENDERS as u64, &others);
    }
}
