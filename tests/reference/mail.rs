//! Messages through the reference's broker: paced, in order, once, and kept at home while their recipient is away.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{World, ids, join, open_in_groups, outbox_row, outbox_until};
use crate::support::home::Home;
use crate::support::http;
use crate::support::reference_broker::Rules;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::{until, until_within};

const NO_PEER: &str = "no connected peer for target (not online, or targetSpec is your own key without another session)";
const TOO_MANY: &str = "rate_limit: max 60 msg/min (burst 10) — slow down";

/// A bucket that refills twenty times as fast, for tests that are about something else.
fn quick() -> Rules {
    Rules { per_second: 20.0, ..Rules::default() }
}

#[test]
fn mail_goes_both_ways_in_order_whatever_the_rate_limit() {
    let world = World::start(quick());
    let ann = Session::open(&world.alice, "acme", "ann");
    let amy = Session::open(&world.alice, "acme", "amy");
    let ben = Session::open(&world.bob, "acme", "ben");
    let (to_ann, to_ben) = (ann.follow(Some(0)), ben.follow(Some(0)));
    // The senders of one member share a bucket.
    for n in 0..15 {
        for (session, sender) in [(&ann, "ann"), (&amy, "amy")] {
            let reply = session.try_send("ben", &format!("{sender} {n}"), &format!("{sender}-{n}")).unwrap();
            assert_eq!(reply.status, 202, "{reply:?}");
        }
        let reply = ben.try_send(&ann.key, &format!("ben {n}"), &format!("ben-{n}")).unwrap();
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    to_ben.count(30);
    to_ann.count(15);
    let got = ids(&to_ben.messages());
    for sender in ["ann", "amy"] {
        let from: Vec<&String> = got.iter().filter(|id| id.starts_with(sender)).collect();
        assert_eq!(from, (0..15).map(|n| format!("{sender}-{n}")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    }
    assert_eq!(ids(&to_ann.messages()), (0..15).map(|n| format!("ben-{n}")).collect::<Vec<_>>());
    let refused = world.broker.seen().refused;
    assert!(refused.contains_key(TOO_MANY), "the limit was never met: {refused:?}");
    for daemon in [&world.alice, &world.bob] {
        let outbox = daemon.get("/v1/health").json()["outbox"].clone();
        assert_eq!((&outbox["dead"], &outbox["aborted"]), (&json!(0), &json!(0)), "{outbox}");
    }
    world.assert_civil();
}

#[test]
fn the_reference_s_own_rate_is_borne() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    for n in 0..14 {
        assert_eq!(ann.try_send(&ben.key, "x", &format!("m-{n}")).unwrap().status, 202);
    }
    heard.count(14);
    assert_eq!(ids(&heard.messages()), (0..14).map(|n| format!("m-{n}")).collect::<Vec<_>>());
    // Ten at once, then one a second; each of the others is refused a few times at most, not once per try of a busy loop.
    let refused = world.broker.seen().refused;
    let times = refused.get(TOO_MANY).copied().unwrap_or_default();
    assert!((1..=12).contains(&times), "{refused:?}");
    world.assert_civil();
}

#[test]
fn mail_for_somebody_away_waits_at_home_and_goes_when_they_return() {
    let world = World::start(Rules { grace: Duration::ZERO, ..quick() });
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let bea = Session::open(&world.bob, "acme", "bea");
    let gone = ben.call("DELETE", &format!("/v1/sessions/{}", ben.token), None).unwrap();
    assert_eq!(gone.status, 200, "{gone:?}");
    world.broker.until("ben to be gone", |state| (!state.is_here("ben")).then_some(()));
    for n in 0..3 {
        assert_eq!(ann.try_send(&ben.key, "are you there?", &format!("m-{n}")).unwrap().status, 202);
    }
    let row = outbox_until(&world.alice, "m-0", "the refusal", |row| row["last_error"] == NO_PEER);
    assert_eq!(row["status"], "pending", "{row:#}");
    // Who is there is not held up.
    ann.send(&bea.key, "and you?", "m-bea");
    bea.follow(Some(0)).message("m-bea");

    ben.register(std::process::id());
    let heard = ben.follow(Some(0));
    heard.count(3);
    assert_eq!(ids(&heard.messages()), ["m-0", "m-1", "m-2"]);
    outbox_until(&world.alice, "m-2", "the last to be done", |row| row["status"] == "done");
    world.assert_civil();
}

#[test]
fn mail_for_a_member_goes_when_its_daemon_returns() {
    let mut world = World::start(Rules { grace: Duration::ZERO, ..quick() });
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let config: Value = serde_json::from_str(&std::fs::read_to_string(world.bob_home().join("config.json")).unwrap()).unwrap();
    let member = config["meshes"][0]["pubkey"].as_str().unwrap().to_owned();
    world.bob.terminate();
    world.broker.until("bob to be gone", |state| (!state.is_here("ben") && !state.is_here("bob")).then_some(()));
    ann.send(&member, "to whoever is there", "m-1");
    outbox_until(&world.alice, "m-1", "the refusal", |row| row["last_error"] == NO_PEER);
    world.bob.restart();
    let heard = ben.follow(Some(0));
    assert_eq!(heard.message("m-1").data["body"], "to whoever is there");
    assert_eq!(heard.messages().len(), 1);
    world.assert_civil();
}

#[test]
fn mail_for_a_machine_that_is_off_waits_too() {
    let mut world = World::start(Rules { grace: Duration::ZERO, ..quick() });
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    world.bob.terminate();
    world.broker.until("ben to be gone", |state| (!state.is_here("ben")).then_some(()));
    ann.send(&ben.key, "kept", "m-1");
    outbox_until(&world.alice, "m-1", "the refusal", |row| row["last_error"] == NO_PEER);
    world.bob.restart();
    ben.follow(Some(0)).message("m-1");
    world.assert_civil();
}

#[test]
fn what_its_frame_can_not_hold_is_refused_before_it_is_stored() {
    let world = World::start(Rules { burst: 100.0, ..quick() });
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    // Everything a caller can make long is as long as it may be, and escapes into more.
    let id = |size: usize| format!("{size:\"<128}");
    let send = |size: usize, reply_to: &str| {
        let body = json!({
            "to": ben.key, "message": "x".repeat(size), "client_message_id": id(size), "reply_to_id": reply_to, "priority": "next",
        });
        ann.call("POST", "/v1/send", Some(&body)).unwrap()
    };
    let (mut fits, mut over) = (1_usize, 70_000_usize);
    while 1 < over - fits {
        let size = fits.midpoint(over);
        match send(size, "earlier").status {
            202 => fits = size,
            413 => over = size,
            status => panic!("{size} bytes: {status}"),
        }
    }
    assert!(45_000 < fits, "{fits} bytes at most");
    let page = world.alice.get("/v1/outbox?limit=500").json().to_string();
    let encoded = |size| json!(id(size)).to_string();
    assert!(page.contains(&encoded(fits)) && !page.contains(&encoded(over)), "a message that was refused is in the outbox");
    heard.message(&id(fits));
    // A reply's id travels too.
    assert_eq!(send(1, &"r".repeat(66_000)).status, 413);
    assert_eq!(send(40_000, &"\"".repeat(8_000)).status, 413);
    world.assert_civil();
}

#[test]
fn a_message_to_many_lands_once_in_each_session_it_is_for() {
    let world = World::start(quick());
    let ann = Session::open(&world.alice, "acme", "ann");
    let amy = Session::open(&world.alice, "acme", "amy");
    let ben = open_in_groups(&world.bob, "ben", &json!(["eng", "@all-hands:lead"]));
    let bea = open_in_groups(&world.bob, "bea", &json!(["ops"]));
    let (to_ben, to_bea, to_amy) = (ben.follow(Some(0)), bea.follow(Some(0)), amy.follow(Some(0)));

    // What comes in the moment in which a session opens may come twice.
    let opened = Instant::now();
    until("the sessions to have settled", || (Duration::from_millis(2100) < opened.elapsed()).then_some(()));
    ann.send_clear("*", "to everyone", "all-1");
    let id = outbox_until(&world.alice, "all-1", "the broadcast to leave", |row| row["status"] == "done");
    let id = id["broker_message_id"].as_str().unwrap().to_owned();
    // Both sessions, and the daemon's own connection.
    world.broker.until("three acknowledgements", |state| {
        let acks = state.seen.of("client_ack").into_iter().filter(|ack| ack["brokerMessageId"] == id.as_str()).count();
        (3 <= acks).then_some(())
    });
    ann.send_clear("@eng", "to the engineers", "eng-1");
    for (to, mark) in [(&ben, "mark-ben"), (&bea, "mark-bea"), (&amy, "mark-amy")] {
        ann.send(&to.key, "the end", mark);
    }
    let bodies = |heard: &crate::support::follow::Follower, mark: &str| {
        heard.message(mark);
        let messages = heard.messages();
        messages.iter().map(|event| event.data["body"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(bodies(&to_ben, "mark-ben"), ["to everyone", "to the engineers", "the end"]);
    assert_eq!(bodies(&to_bea, "mark-bea"), ["to everyone", "the end"]);
    assert_eq!(bodies(&to_amy, "mark-amy"), ["the end"], "one's own sessions are not among everyone");
    // It has no id of its sender's there, so the broker's serves.
    let event = &to_ben.messages()[0];
    assert_eq!((&event.data["client_message_id"], &event.data["sender_name"]), (&json!(id), &json!("ann")));
    for (session, count) in [(&ben, 3), (&bea, 2)] {
        assert_eq!(session.unread().len(), count);
    }
    world.assert_civil();
}

#[test]
fn a_member_without_sessions_keeps_what_was_for_everyone() {
    let world = World::start(quick());
    let ann = Session::open(&world.alice, "acme", "ann");
    world.broker.until("bob's daemon to be there", |state| state.is_here("bob").then_some(()));
    ann.send_clear("*", "to everyone", "all-1");
    outbox_until(&world.alice, "all-1", "the broadcast to leave", |row| row["status"] == "done");
    // A session that opens at this very moment finds it too.
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    heard.count(1);
    assert_eq!(heard.messages()[0].data["body"], "to everyone");
}

#[test]
fn a_session_without_a_key_hears_what_is_for_everyone_beside_one_that_has_a_key() {
    let world = World::start(quick());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let kim = Session::prepare(&world.bob, "acme", "kim");
    let body =
        json!({"token": kim.token, "session_id": kim.id, "mesh": "acme", "display_name": "kim", "pid": std::process::id()});
    assert_eq!(kim.call("POST", "/v1/sessions/register", Some(&body)).unwrap().status, 200);
    let (to_ben, to_kim) = (ben.follow(Some(0)), kim.follow(Some(0)));
    let opened = Instant::now();
    until("ben's link to have been open for a while", || (Duration::from_millis(2500) < opened.elapsed()).then_some(()));
    ann.send_clear("*", "to everyone", "all-1");
    ann.send(&ben.key, "the end", "m-1");
    to_ben.message("m-1");
    let texts = |events: &[crate::support::follow::Event]| -> Vec<Value> {
        events.iter().map(|event| event.data["body"].clone()).collect()
    };
    assert_eq!(texts(&to_ben.messages()), ["to everyone", "the end"], "once");
    to_kim.count(1);
    assert_eq!(texts(&to_kim.messages()), ["to everyone"]);
    for session in [&ben, &kim] {
        assert_eq!(session.unread().iter().filter(|row| row["body"] == "to everyone").count(), 1);
    }
    world.assert_civil();
}

#[test]
fn mail_for_ones_own_member_goes_when_it_has_a_session_elsewhere() {
    let world = World::start(Rules { grace: Duration::ZERO, ..quick() });
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(world.homes[0].path().join("config.json")).unwrap()).unwrap();
    let own = config["meshes"][0]["pubkey"].as_str().unwrap();
    let message = json!({"to": own, "message": "to my other machine", "client_message_id": "m-1"}).to_string();
    let reply = until("the message to be taken", || {
        let reply = http::request(&world.alice.socket(), "POST", "/v1/send", &[], Some(message.as_bytes())).ok()?;
        (reply.status != 502).then_some(reply)
    });
    assert_eq!(reply.status, 202, "{reply:?}");
    outbox_until(&world.alice, "m-1", "the refusal", |row| row["last_error"] == NO_PEER);
    let elsewhere = Home::new();
    std::fs::copy(world.homes[0].path().join("config.json"), elsewhere.path().join("config.json")).unwrap();
    let other = Daemon::start(elsewhere.path());
    let amy = Session::open(&other, "acme", "amy");
    outbox_until(&world.alice, "m-1", "the message to go", |row| row["status"] == "done");
    assert_eq!(amy.follow(Some(0)).message("m-1").data["body"], "to my other machine");
    world.assert_civil();
}

#[test]
fn what_is_delivered_again_lands_once_and_is_acknowledged_again() {
    let world = World::start(Rules { claim: Duration::ZERO, ..quick() });
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    world.broker.with(|state| state.silent.insert("client_ack".to_owned()));
    ann.send(&ben.key, "once", "m-1");
    heard.message("m-1");
    for round in 2..5 {
        world.broker.with(|state| state.trigger(Instant::now()));
        world.broker.until("another acknowledgement", |state| (round <= state.seen.of("client_ack").len()).then_some(()));
    }
    world.broker.with(|state| {
        state.silent.clear();
        state.trigger(Instant::now());
    });
    world.broker.until("the queue to be empty", |state| (state.undelivered() == 0).then_some(()));
    ann.send(&ben.key, "the end", "m-2");
    heard.message("m-2");
    assert_eq!(ids(&heard.messages()), ["m-1", "m-2"]);
    assert_eq!(ben.unread().len(), 2);
    let row = &heard.messages()[0];
    // A drained push names nobody; the key must do.
    assert_eq!(row.data["sender_pubkey"], ann.key.as_str());
    assert_eq!(row.data["sender_name"], ann.key[..8]);
}

#[test]
fn what_was_claimed_for_a_connection_that_had_gone_is_asked_for_again() {
    let mut world = World::start(quick());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    // A machine without sessions, whose connection breaks while it is not looking.
    let carol = world.broker.add_member("carol");
    let home = Home::new();
    join(home.path(), &[("acme", &world.broker, &carol)]);
    let alone = Daemon::start(home.path());
    world.broker.until("carol to be there", |state| state.is_here("carol").then_some(()));
    let pid = Pid::from_raw(i32::try_from(alone.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    world.broker.with(|state| state.lose("carol"));
    world.broker.until("the end of carol's connection", |state| state.is_away("carol").then_some(()));
    ann.send(&carol.keys.public.to_hex(), "to the member, into the gap", "m-2");
    outbox_until(&world.alice, "m-2", "the broker to take it", |row| row["status"] == "done");
    kill_process(pid, Signal::CONT).unwrap();

    world.bob.terminate();
    ann.send(&ben.key, "into the gap", "m-1");
    outbox_until(&world.alice, "m-1", "the broker to take it", |row| row["status"] == "done");
    world.bob.restart();
    ben.await_link();
    let heard = ben.follow(Some(0));
    assert_eq!(world.broker.with(|state| state.undelivered()), 2, "the claims held both back");
    // Nobody else writes to them: only a second hello makes the broker look again, once the claim has run out.
    until_within(Duration::from_secs(60), "the message", || (!heard.messages().is_empty()).then_some(()));
    until_within(Duration::from_secs(60), "the member's message", || {
        let page = alone.get("/v1/inbox?mark_seen=false").json();
        (page["items"][0]["body"] == "to the member, into the gap").then_some(())
    });
    // Once was enough.
    let hellos = world.broker.seen().hellos.iter().filter(|hello| hello["pubkey"] == carol.keys.public.to_hex()).count();
    assert_eq!(hellos, 3);
    world.broker.until("the queue to be empty", |state| (state.undelivered() == 0).then_some(()));
    world.assert_civil();
}

#[test]
fn a_connection_that_is_made_anew_to_look_for_more_has_its_answers_first() {
    let world = World::start(quick());
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    // A machine without sessions, whose connection was another before.
    let carol = world.broker.add_member("carol");
    let home = Home::new();
    join(home.path(), &[("acme", &world.broker, &carol)]);
    let alone = Daemon::start(home.path());
    let key = carol.keys.public.to_hex();
    let hellos = |n: usize| {
        let of_carol = || world.broker.seen().hellos.iter().filter(|hello| hello["pubkey"] == key).count();
        until("carol's machine to be there again", || (n <= of_carol()).then_some(()));
        world.broker.until("carol to be there", |state| state.is_here("carol").then_some(()));
    };
    hellos(1);
    world.broker.with(|state| state.lose("carol"));
    hellos(2);
    world.broker.with(|state| state.rules.ack_delay = Duration::from_secs(1));
    // What has it looked for is due before the broker answers.
    let post = |path: &str, body: Value| {
        let body = body.to_string();
        let reply = http::request(&alone.socket(), "POST", path, &[], Some(body.as_bytes())).unwrap();
        assert!(reply.status < 300, "{reply:?}");
    };
    until("carol's link to be open", || {
        let meshes = alone.get("/v1/health").json()["meshes"].clone();
        meshes.to_string().contains("\"open\"").then_some(())
    });
    post("/v1/profile", json!({"status": "idle"}));
    post("/v1/send", json!({"to": "*", "message": "to everyone", "plaintext": true, "client_message_id": "all-1"}));
    outbox_until(&alone, "all-1", "the broker to take it", |row| row["status"] == "done");
    hellos(3);
    heard.count(1);
    let sends = world.broker.seen().frames.iter().filter(|(_, frame)| frame["type"] == "send").count();
    assert_eq!((sends, outbox_row(&alone, "all-1")["attempts"].clone()), (1, json!(1)));
    world.assert_civil();
}

#[test]
fn a_push_before_the_hello_ack_is_kept_and_acknowledged_after_it() {
    let mut world = World::start(Rules { claim: Duration::ZERO, hello_delay: Duration::from_millis(300), ..quick() });
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    world.bob.terminate();
    // Within the grace the broker takes it, and writes it to nobody.
    ann.send(&ben.key, "while you were out", "m-1");
    outbox_until(&world.alice, "m-1", "the broker to take it", |row| row["status"] == "done");
    world.bob.restart();
    ben.follow(Some(0)).message("m-1");
    world.broker.until("the queue to be empty", |state| (state.undelivered() == 0).then_some(()));
    assert_eq!(outbox_row(&world.alice, "m-1")["attempts"], 1);
    world.assert_civil();
}
