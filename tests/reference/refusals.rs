//! Every text with which the reference's broker refuses a message, and what becomes of the message.

use std::time::Duration;

use claudemesh::base::time::{now_millis, parse_iso};
use serde_json::Value;

use super::{World, outbox_row, outbox_until};
use crate::support::reference_broker::Rules;
use crate::support::session::Session;
use crate::support::wait::until_within;

/// A world in which the next message of ann's to ben is refused with this text; its outbox row once it has been.
#[track_caller]
fn refused(text: &str) -> (World, [Session; 2], Value) {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    world.broker.with(|state| state.refusals.push_back(text.to_owned()));
    assert_eq!(ann.try_send(&ben.key, "hello", "m-1").unwrap().status, 202);
    let row = outbox_until(&world.alice, "m-1", "the refusal", |row| row["last_error"] == text || row["status"] == "done");
    (world, [ann, ben], row)
}

#[track_caller]
fn assert_dead(text: &str) {
    let (world, [ann, ben], row) = refused(text);
    assert_eq!((&row["status"], &row["last_error"]), (&"dead".into(), &text.into()), "{row:#}");
    // What follows is not held up by it.
    ann.send(&ben.key, "and then", "m-2");
    ben.follow(Some(0)).message("m-2");
    assert_eq!(outbox_row(&world.alice, "m-1")["attempts"], 1);
    world.assert_civil();
}

#[test]
fn too_many_at_once_waits_a_moment() {
    let (world, [_, ben], _) = refused("rate_limit: max 60 msg/min (burst 10) — slow down");
    ben.follow(Some(0)).message("m-1");
    let row = outbox_until(&world.alice, "m-1", "the message to be done", |row| row["status"] == "done");
    assert_eq!((&row["attempts"], &row["last_error"]), (&2.into(), &Value::Null), "{row:#}");
    world.assert_civil();
}

#[test]
fn too_large_is_for_ever() {
    assert_dead("payload too large: 70000 bytes > MAX_MESSAGE_BYTES=65536");
}

#[test]
fn blocked_is_for_ever() {
    assert_dead("blocked by recipient grants (sender lacks dm capability)");
}

#[test]
fn a_block_as_the_broker_makes_it() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    world.broker.with(|state| state.block("alice", "bob"));
    ann.send("ben", "hello", "m-1");
    let row = outbox_until(&world.alice, "m-1", "the refusal", |row| row["status"] == "dead");
    assert_eq!(row["last_error"], "blocked by recipient grants (sender lacks dm capability)");
    ben.send("ann", "I may write to you", "m-2");
    ann.follow(Some(0)).message("m-2");
}

#[test]
fn nobody_there_waits_for_their_return() {
    let text = "no connected peer for target (not online, or targetSpec is your own key without another session)";
    let (world, [ann, ben], row) = refused(text);
    assert_eq!(row["status"], "pending", "{row:#}");
    let next = parse_iso(row["next_attempt_at"].as_str().unwrap()).unwrap();
    assert!(now_millis() + 120_000 < next, "it is tried again and again: {row:#}");
    // Their return wakes it.
    world.broker.with(|state| state.replace("ben"));
    ben.follow(Some(0)).message("m-1");
    ann.send(&ben.key, "and then", "m-2");
    ben.follow(Some(0)).message("m-2");
    world.assert_civil();
}

#[test]
fn a_text_nobody_knows_is_tried_again() {
    let (world, [ann, ben], row) = refused("the moon is in the wrong phase");
    assert_eq!(row["status"], "pending", "{row:#}");
    let next = parse_iso(row["next_attempt_at"].as_str().unwrap()).unwrap();
    assert!(next < now_millis() + 10_000, "{row:#}");
    // Somebody else's mail does not wait for it.
    let bea = Session::open(&world.bob, "acme", "bea");
    ann.send(&bea.key, "and you?", "m-bea");
    bea.follow(Some(0)).message("m-bea");
    ben.follow(Some(0)).message("m-1");
    let targets: Vec<Value> = world.broker.seen().of("send").iter().map(|send| send["targetSpec"].clone()).collect();
    assert_eq!(targets, [&ben.key, &bea.key, &ben.key].map(|key| Value::from(key.as_str())));
    world.assert_civil();
}

#[test]
fn a_message_that_is_never_answered_does_not_keep_the_others() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let [ben, bea] = ["ben", "bea"].map(|name| Session::open(&world.bob, "acme", name));
    world.broker.with(|state| state.silent_to.insert(ben.key.clone()));
    ann.send(&ben.key, "into silence", "ben-1");
    world.broker.until("the silence", |state| (!state.seen.of("send").is_empty()).then_some(()));
    ann.send(&ben.key, "after it", "ben-2");
    ann.send(&bea.key, "for somebody else", "bea-1");
    let heard = bea.follow(Some(0));
    until_within(Duration::from_secs(60), "what is for somebody else", || (!heard.messages().is_empty()).then_some(()));
    let row = outbox_row(&world.alice, "ben-1");
    assert_eq!(row["last_error"], "timeout: the broker did not answer", "{row:#}");
    // Once it is answered, all is in order.
    world.broker.with(|state| state.silent_to.clear());
    let heard = ben.follow(Some(0));
    until_within(Duration::from_secs(60), "both messages", || (1 < heard.messages().len()).then_some(()));
    assert_eq!(super::ids(&heard.messages()), ["ben-1", "ben-2"]);
}

#[test]
fn no_answer_is_tried_again_and_holds_up_nobody_else() {
    let [home, other] = [crate::support::home::Home::new(), crate::support::home::Home::new()];
    let brokers = [(), ()].map(|()| crate::support::reference_broker::ReferenceBroker::start(Rules::default()));
    let [alices, bobs] = ["alice", "bob"].map(|name| brokers.each_ref().map(|broker| broker.add_member(name)));
    let slugs = ["deaf", "fine"];
    let meshes = |members| -> Vec<_> {
        let members: &[crate::support::reference_broker::Member; 2] = members;
        slugs.iter().zip(&brokers).zip(members).map(|((slug, broker), member)| (*slug, broker, member)).collect()
    };
    super::join(home.path(), &meshes(&alices));
    super::join(other.path(), &meshes(&bobs));
    let [alice, bob] = [&home, &other].map(|home| crate::support::servers::Daemon::start(home.path()));
    let ann = slugs.map(|slug| Session::open(&alice, slug, "ann"));
    let ben = slugs.map(|slug| Session::open(&bob, slug, "ben"));

    brokers[0].with(|state| state.silent.insert("send".to_owned()));
    ann[0].send(&ben[0].key, "into silence", "m-1");
    brokers[0].until("the silence", |state| (!state.seen.of("send").is_empty()).then_some(()));
    for n in 0..3 {
        let id = format!("f-{n}");
        ann[1].send(&ben[1].key, "elsewhere", &id);
        ben[1].follow(Some(0)).message(&id);
    }
    assert_eq!(outbox_row(&alice, "m-1")["status"], "inflight");
    brokers[0].with(|state| state.silent.clear());
    // The link gives the broker its time, then comes back.
    let heard = ben[0].follow(Some(0));
    until_within(Duration::from_secs(60), "the message", || {
        heard.messages().iter().any(|event| event.data["client_message_id"] == "m-1").then_some(())
    });
    assert_eq!(heard.messages().len(), 1);
}
