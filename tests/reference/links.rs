//! Connections as the reference's broker ends them, refuses them or forgets them.

use std::time::Duration;

use serde_json::Value;

use super::{World, mesh_health};
use crate::support::reference_broker::Rules;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::{until, until_within};

#[test]
fn a_kicked_session_stays_away_and_health_says_why() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    world.broker.with(|state| state.kick("ben"));
    let health =
        until("the kick to show", || Some(mesh_health(&world.bob, "acme")).filter(|mesh| mesh["last_error"].is_string()));
    assert!(health["last_error"].as_str().unwrap().contains("kicked"), "{health}");
    assert_eq!(health["status"], "open", "the member was not kicked: {health}");
    let me = ben.call("GET", "/v1/sessions/me", None).unwrap().json();
    assert_eq!(me["session"]["link"], "closed", "{me}");
    assert!(me["session"]["last_error"].as_str().is_some_and(|why| why.contains("kicked")), "{me}");
    let all = world.bob.get("/v1/sessions").json();
    assert_eq!(all["sessions"][0]["last_error"], me["session"]["last_error"], "{all}");
    let other = ann.call("GET", "/v1/sessions/me", None).unwrap().json();
    assert_eq!((&other["session"]["link"], other["session"].get("last_error")), (&"open".into(), None), "{other}");
    let hellos = |name: &str| world.broker.seen().hellos.iter().filter(|hello| hello["displayName"] == name).count();
    // Others come and go meanwhile; it does not.
    world.broker.with(|state| state.replace("ann"));
    world.broker.until("ann to return", |state| {
        (1 < state.seen.hellos.iter().filter(|hello| hello["displayName"] == "ann").count()).then_some(())
    });
    ann.await_link();
    assert_eq!(hellos("ben"), 1);
    // Until somebody says so.
    ben.register(std::process::id());
    ben.await_link();
    ann.send(&ben.key, "welcome back", "m-1");
    ben.follow(Some(0)).message("m-1");
    world.assert_civil();
}

/// Health of the mesh once its link has been given up.
#[track_caller]
fn closed(daemon: &Daemon) -> Value {
    until("the link to be given up", || Some(mesh_health(daemon, "acme")).filter(|mesh| mesh["status"] == "closed"))
}

#[test]
fn a_banned_member_stays_away_and_health_says_why() {
    let mut world = World::start(Rules::default());
    let _ben = Session::open(&world.bob, "acme", "ben");
    world.broker.with(|state| state.ban("bob"));
    let health = closed(&world.bob);
    assert!(health["last_error"].as_str().unwrap().contains("banned"), "{health}");
    // A new daemon asks once, is told, and asks no more.
    world.bob.terminate();
    world.bob.restart();
    let health = closed(&world.bob);
    let why = health["last_error"].as_str().unwrap();
    assert!(why.contains("revoked") && why.contains("You've been removed"), "{why}");
    world.assert_civil();
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    let world = World::start(Rules { clock_ms: 120_000, ..Rules::default() });
    let health =
        until("the refusal to show", || Some(mesh_health(&world.alice, "acme")).filter(|mesh| mesh["last_error"].is_string()));
    assert!(health["last_error"].as_str().unwrap().contains("clock"), "{health}");
    assert_ne!(health["status"], "open");
    // Once it is set right, nothing more is needed.
    world.broker.with(|state| state.rules.clock_ms = 0);
    until("the link to open", || (mesh_health(&world.alice, "acme")["status"] == "open").then_some(()));
}

#[test]
fn a_replaced_connection_comes_back() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    world.broker.with(|state| state.replace("ben"));
    world.broker.until("ben to return", |state| {
        (1 < state.seen.hellos.iter().filter(|hello| hello["displayName"] == "ben").count()).then_some(())
    });
    ann.send(&ben.key, "still there?", "m-1");
    ben.follow(Some(0)).message("m-1");
    world.assert_civil();
}

#[test]
fn a_key_that_returns_leaves_the_broker_time_to_note_that_it_had_gone() {
    let mut world = World::start(Rules::default());
    let ben = Session::open(&world.bob, "acme", "ben");
    let returns = |state: &mut crate::support::reference_broker::State, count| {
        let hellos = state.seen.hellos.iter().filter(|hello| hello["displayName"] == "ben").count();
        (count <= hellos).then_some(())
    };
    // The same session again, as a client does that was resumed.
    for round in 2..6 {
        ben.register(std::process::id());
        world.broker.until("ben to return", |state| returns(state, round));
        ben.await_link();
    }
    world.bob.terminate();
    world.bob.restart();
    world.broker.until("ben to be brought back", |state| returns(state, 6));
    ben.await_link();
    // On a busy machine this broker itself may be late in seeing an end.
    let races = world.broker.seen().races;
    assert!(races <= 1, "{races} of 5 returns were too soon");
    world.assert_civil();
}

#[test]
fn a_connection_that_answers_nothing_is_made_anew() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let _ben = Session::open(&world.bob, "acme", "ben");
    ann.await_link();
    let hellos = |state: &mut crate::support::reference_broker::State| {
        state.seen.hellos.iter().filter(|hello| hello["type"] == "hello").count()
    };
    let before = world.broker.with(|state| {
        // Its socket stays open, and pings are answered.
        state.forget("alice");
        hellos(state)
    });
    let asked = until_within(Duration::from_secs(60), "the roster to be asked for", || {
        let peers = ann.call("GET", "/v1/peers", None).unwrap().json();
        (before < world.broker.with(hellos)).then_some(peers)
    });
    assert!(asked.is_object());
    until("the roster", || {
        let peers = ann.call("GET", "/v1/peers", None).unwrap().json();
        peers["peers"].as_array()?.iter().any(|peer| peer["displayName"] == "ben").then_some(())
    });
    world.assert_civil();
}
