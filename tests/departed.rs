//! What a session sent before it ended: it arrives, its sender's outbox knows it, and nothing of the session stays behind.

use std::process::Command;

use serde_json::Value;

use crate::support::home::Home;
use crate::support::mesh::World;
use crate::support::process::Process;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

fn holder() -> Process {
    Process::spawn(Command::new("cat"))
}

/// Registers a session with a process of its own, sends, and ends the process at once.
fn sends_and_ends(daemon: &Daemon, mesh: &str, to: &str, id: &str) -> Session {
    let session = Session::prepare(daemon, mesh, id);
    let process = holder();
    session.register(process.pid());
    session.send(to, &format!("{id}: the last word"), id);
    process.kill();
    session
}

fn standing(daemon: &Daemon) -> Vec<(String, String)> {
    let items = daemon.get("/v1/outbox?limit=500").json()["items"].clone();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    items.as_array().unwrap().iter().map(|row| (text(row, "client_message_id"), text(row, "status"))).collect()
}

#[track_caller]
fn all_done(daemon: &Daemon, count: usize) {
    until("all rows to be done", || {
        let rows = standing(daemon);
        (rows.len() == count && rows.iter().all(|(_, status)| status == "done")).then_some(())
    });
}

/// Nobody but the watcher and the daemon is shown.
#[track_caller]
fn is_alone(watcher: &Session) {
    until("the others to be gone", || {
        let peers = watcher.call("GET", "/v1/peers", None).ok()?.json()["peers"].clone();
        let here = peers.as_array()?.iter().filter(|peer| peer["online"] == true && peer["role"] == "session").count();
        (here == 1).then_some(())
    });
}

#[test]
fn what_a_session_sends_last_arrives_once_and_is_known_to_have() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let bob = Session::open(&daemon, "home", "bob");
    let heard = bob.follow(Some(0));
    for n in 0..20 {
        let to = if n % 4 == 3 { "*" } else { &bob.key };
        sends_and_ends(&daemon, "home", to, &format!("m-{n}"));
    }
    heard.count(20);
    all_done(&daemon, 20);
    assert_eq!(heard.messages().len(), 20);
    is_alone(&bob);
    assert_eq!(daemon.get("/v1/sessions").json()["sessions"].as_array().unwrap().len(), 1);
    daemon.assert_healthy();
}

#[test]
fn it_waits_for_a_broker_that_is_off_and_outlives_the_daemon() {
    let mut world = World::pair();
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    world.broker.kill();
    for n in 0..40 {
        // More than go out at once.
        sends_and_ends(&world.alice, "acme", &bob.key, &format!("m-{n}"));
    }
    let back = Session::prepare(&world.alice, "acme", "back");
    let process = holder();
    back.register(process.pid());
    back.send(&bob.key, "before it ended", "back-1");
    process.kill();
    world.alice.kill();
    world.alice.restart();
    world.broker.restart();
    heard.count(41);
    all_done(&world.alice, 41);
    assert_eq!(heard.messages().len(), 41);
    // The same session, under the same key, sends on.
    back.register(std::process::id());
    back.send(&bob.key, "after it came back", "back-2");
    let sender = |id: &str| heard.message(id).data["sender_pubkey"].clone();
    assert_eq!(sender("back-1"), sender("back-2"));
    all_done(&world.alice, 42);
}

#[test]
fn a_session_that_ended_before_its_process_is_over_after_a_restart_too() {
    let mut world = World::pair();
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    world.broker.kill();
    let over = Session::prepare(&world.alice, "acme", "over");
    over.register(std::process::id());
    over.send(&bob.key, "before it ended", "m-1");
    let gone = over.call("DELETE", &format!("/v1/sessions/{}", over.token), None).unwrap();
    assert_eq!(gone.status, 200, "{gone:?}");
    for _ in 0..2 {
        world.alice.kill();
        world.alice.restart();
        assert_eq!(over.call("GET", "/v1/sessions/me", None).unwrap().status, 401);
        assert_eq!(world.alice.get("/v1/sessions").json()["sessions"], serde_json::json!([]));
    }
    world.broker.restart();
    heard.message("m-1");
    all_done(&world.alice, 1);
    is_alone(&bob);
}
