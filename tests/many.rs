//! Two, fifty and two hundred sessions of one machine behave the same: each gets its own mail, once and in order, and nobody
//! else's; what is for all lands once with each.

use serde_json::Value;

use crate::support::home::Home;
use crate::support::http;
use crate::support::mesh::World;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

/// Every row of a session's inbox once it has so many.
#[track_caller]
fn mail(session: &Session, count: usize) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    until("all mail to come", || {
        rows.extend(session.unread());
        (count <= rows.len()).then_some(())
    });
    rows.sort_by_key(|row| row["seq"].as_u64());
    rows
}

/// Runs `count` sessions on a daemon, and one on another machine.
fn scale(count: usize) {
    let world = World::pair();
    let sessions: Vec<Session> = (0..count).map(|n| Session::prepare(&world.alice, "acme", &format!("s-{n}"))).collect();
    sessions.iter().for_each(|session| session.register(std::process::id()));
    sessions.iter().for_each(Session::await_link);
    let far = Session::open(&world.bob, "acme", "far");
    // Round the ring, three times: each writes to the next by its name.
    for round in 0..3 {
        for (n, session) in sessions.iter().enumerate() {
            session.send(&format!("s-{}", (n + 1) % count), &format!("{n}:{round}"), &format!("r{round}-{n}"));
        }
    }
    far.send("*", "to all", "all");
    for (n, session) in sessions.iter().enumerate() {
        let rows = mail(session, 4);
        let before = (n + count - 1) % count;
        let own: Vec<&str> = rows.iter().filter_map(|row| row["body"].as_str()).filter(|body| *body != "to all").collect();
        assert_eq!(own, [0, 1, 2].map(|round| format!("{before}:{round}")), "session {n} of {count}");
        assert_eq!(rows.len(), 4, "session {n} of {count}: {rows:#?}");
        assert!(rows.iter().all(|row| row["recipient_pubkey"] == session.key.as_str()), "{rows:#?}");
    }
    assert!(far.unread().is_empty(), "what one sends to all does not come back");
    // A restart brings every one of them back under its own address.
    let mut world = world;
    assert!(world.alice.terminate().status.success());
    world.alice.restart();
    sessions.iter().for_each(Session::await_link);
    for (n, session) in sessions.iter().enumerate().step_by(count.div_ceil(10)) {
        far.send(&session.key, "again", &format!("again-{n}"));
        assert_eq!(mail(session, 1)[0]["body"], "again");
    }
    // Each ends for itself.
    let (gone, rest) = sessions.split_first().unwrap();
    gone.call("DELETE", &format!("/v1/sessions/{}", gone.token), None).unwrap();
    assert_eq!(gone.call("GET", "/v1/inbox", None).unwrap().status, 401);
    assert!(rest.iter().all(|session| session.call("GET", "/v1/sessions/me", None).unwrap().status == 200));
}

#[test]
fn two_sessions() {
    scale(2);
}

#[test]
fn fifty_sessions() {
    scale(50);
}

#[test]
fn two_hundred_sessions() {
    scale(200);
}

#[test]
fn health_says_what_waits_on_each_mesh() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    world.broker.kill();
    (0..3).for_each(|n| alice.send(&bob.key, "later", &format!("m-{n}")));
    let mesh = world.alice.get("/v1/health").json()["meshes"]["acme"].clone();
    assert_eq!((&mesh["queued"], &mesh["sessions"]), (&3.into(), &1.into()), "{mesh}");
    let why = until("the reason to be told", || {
        world.alice.get("/v1/health").json()["meshes"]["acme"]["last_error"].as_str().map(str::to_owned)
    });
    assert!(!why.is_empty());
    world.broker.restart();
    until("the queue to empty", || (world.alice.get("/v1/health").json()["meshes"]["acme"]["queued"] == 0).then_some(()));
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alone = http::request(&daemon.socket(), "GET", "/v1/health", &[], None).unwrap().json();
    assert_eq!(alone["meshes"]["home"]["queued"], 0);
}
