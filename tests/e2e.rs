//! A message from one session to another, through real processes: on one machine, across two, to somebody who is away.

use serde_json::Value;

use crate::support::home::Home;
use crate::support::http;
use crate::support::mesh::World;
use crate::support::process::Process;
use crate::support::servers::Daemon;
use crate::support::session::Session;

/// The one inbox row of this client id.
#[track_caller]
fn row(rows: &[Value], id: &str) -> Value {
    let found: Vec<&Value> = rows.iter().filter(|row| row["client_message_id"] == id).collect();
    assert_eq!(found.len(), 1, "{id} in {rows:#?}");
    found[0].clone()
}

#[test]
fn two_sessions_on_one_machine_with_nothing_set_up() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let bob = Session::open(&daemon, "home", "bob");
    let heard = bob.follow(None);
    let others = alice.follow(None);

    alice.send("bob", "héllo\n\"there\"", "m-1");

    let event = heard.message("m-1");
    assert_eq!(event.data["body"], "héllo\n\"there\"");
    assert_eq!(event.data["sender_pubkey"], alice.key.as_str());
    assert_eq!(event.data["sender_name"], "alice");
    assert_eq!((&event.data["recipient_pubkey"], &event.data["recipient_kind"]), (&bob.key.as_str().into(), &"session".into()));
    let rows = bob.unread();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(row(&rows, "m-1")["seq"].as_u64(), event.id);
    assert!(bob.unread().is_empty(), "reading the inbox marks it");
    assert!(alice.unread().is_empty() && others.messages().is_empty(), "mail for one session shows in another");

    // A retry is the same message; the same id for something else is refused.
    let again = alice.try_send("bob", "héllo\n\"there\"", "m-1").unwrap();
    assert!(matches!(again.status, 200 | 202), "{again:?}");
    let other = alice.try_send("bob", "something else", "m-1").unwrap();
    assert_eq!(other.status, 409, "{other:?}");

    alice.send("bob", "second", "m-2");
    heard.message("m-2");
    let ids: Vec<Value> = heard.messages().iter().map(|event| event.data["client_message_id"].clone()).collect();
    assert_eq!(ids, ["m-1", "m-2"]);
}

#[test]
fn across_two_machines_and_back() {
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let (to_alice, to_bob) = (alice.follow(None), bob.follow(None));

    alice.send(&bob.key, "over there", "a-1");
    assert_eq!(to_bob.message("a-1").data["body"], "over there");
    bob.send(&alice.key, "and back", "b-1");
    let event = to_alice.message("b-1");
    assert_eq!((&event.data["body"], &event.data["sender_pubkey"]), (&"and back".into(), &bob.key.as_str().into()));

    let peers = alice.call("GET", "/v1/peers", None).unwrap().json();
    let names: Vec<&str> = peers["peers"].as_array().unwrap().iter().filter_map(|peer| peer["displayName"].as_str()).collect();
    assert!(names.contains(&"bob"), "{peers:#}");
}

#[test]
fn mail_waits_for_a_machine_that_is_off() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    alice.send(&bob.key, "before", "m-0");
    heard.message("m-0");

    world.bob.terminate();
    for n in 1..=20 {
        alice.send(&bob.key, &format!("while away {n}"), &format!("m-{n}"));
    }
    world.bob.restart();

    heard.message("m-20");
    let ids: Vec<String> =
        heard.messages().iter().filter_map(|event| Some(event.data["client_message_id"].as_str()?.to_owned())).collect();
    assert_eq!(ids, (0..=20).map(|n| format!("m-{n}")).collect::<Vec<_>>());
}

#[test]
fn mail_waits_for_a_broker_that_is_off() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));

    world.broker.terminate();
    alice.send(&bob.key, "kept", "m-1");
    world.broker.restart();

    assert_eq!(heard.message("m-1").data["body"], "kept");
}

#[test]
fn a_session_that_comes_back_with_its_key_has_its_mail() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let bob = Session::prepare(&daemon, "home", "bob");
    let holder = Process::spawn(std::process::Command::new("cat"));
    bob.register(holder.pid());
    bob.await_link();

    holder.kill();
    crate::support::wait::until("the daemon to notice the end of the session's process", || {
        (bob.call("GET", "/v1/sessions/me", None).ok()?.status == 401).then_some(())
    });
    alice.send(&bob.key, "are you there?", "m-1");

    bob.register(std::process::id());
    assert_eq!(bob.follow(Some(0)).message("m-1").data["body"], "are you there?");
}

#[test]
fn a_stream_ends_with_the_token_it_was_opened_with() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let mut bob = Session::open(&daemon, "home", "bob");
    let before = bob.follow(Some(0));
    bob.token = claudemesh::crypto::random::token().reveal();
    bob.register(std::process::id());
    bob.await_link();
    alice.send(&bob.key, "for whoever is bob now", "m-1");
    bob.follow(Some(0)).message("m-1");
    before.until("the end", |events| events.iter().any(|event| event.name == "bye").then_some(()));
    assert_eq!(before.messages().len(), 0);
}

#[test]
fn a_stream_resumes_where_it_was_cut() {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let bob = Session::open(&daemon, "home", "bob");
    for n in 1..=300 {
        alice.send(&bob.key, "x", &format!("m-{n}"));
    }
    let whole = bob.follow(Some(0));
    whole.message("m-300");
    let all = whole.messages();
    assert_eq!(all.len(), 300);
    let ids: Vec<u64> = all.iter().map(|event| event.id.expect("a message has an id")).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "ids grow: {ids:?}");

    let from = 137;
    let part = bob.follow(Some(ids[from]));
    part.message("m-300");
    let rest: Vec<u64> = part.messages().iter().filter_map(|event| event.id).collect();
    assert_eq!(rest, ids[from + 1..]);

    // The cursor outlives a connection and a daemon.
    part.cut();
    alice.send(&bob.key, "x", "m-301");
    part.message("m-301");
    daemon.terminate();
    daemon.restart();
    alice.send(&bob.key, "x", "m-302");
    part.message("m-302");
    assert_eq!(part.messages().len(), rest.len() + 2);
}

#[test]
fn a_token_that_is_not_known_opens_nothing() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let stranger = Session::prepare(&daemon, "home", "stranger");
    for path in ["/v1/sessions/me", "/v1/inbox", "/v1/peers", "/v1/events", "/v1/outbox", "/v1/sessions"] {
        let reply = stranger.call("GET", path, None).unwrap();
        assert_eq!(reply.status, 401, "{path}: {reply:?}");
    }
    assert_eq!(stranger.try_send(&alice.key, "hi", "m").unwrap().status, 401);
    for header in ["ClaudeMesh-Session", "ClaudeMesh-Session xyz", "ClaudeMesh-Session 00"] {
        let reply = http::request(&daemon.socket(), "GET", "/v1/inbox", &[("Authorization", header)], None).unwrap();
        assert_eq!(reply.status, 401, "{header}: {reply:?}");
    }
    let query = format!("/v1/inbox?token={}", alice.token);
    assert_eq!(daemon.get(&query).status, 400, "tokens do not belong in addresses");
    let gone = alice.call("DELETE", &format!("/v1/sessions/{}", alice.token), None).unwrap();
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(alice.call("GET", "/v1/inbox", None).unwrap().status, 401);
}

#[test]
fn no_answer_holds_a_secret() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    alice.send(&alice.key, "to myself", "m-1");
    let config = std::fs::read_to_string(home.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let member = config["meshes"][0]["secretKey"].as_str().unwrap();
    assert_eq!(member.len(), 128);
    // The second half of a secret key is the public key, which may be shown.
    let secrets = [&alice.secret[..64], &member[..64], &alice.token];
    let paths = [
        "/v1/version",
        "/v1/health",
        "/v1/sessions",
        "/v1/sessions/me",
        "/v1/inbox",
        "/v1/outbox",
        "/v1/peers",
        "/v1/state",
        "/v1/memory",
        "/v1/skills",
    ];
    for path in paths {
        for reply in [daemon.get(path), alice.call("GET", path, None).unwrap()] {
            let text = format!("{}{}", reply.head, reply.text()).to_lowercase();
            assert!(!secrets.iter().any(|secret| text.contains(*secret)), "{path} holds a secret: {text}");
        }
    }
    let log = daemon.log();
    assert!(!secrets.iter().any(|secret| log.contains(*secret)), "the log holds a secret");
}

#[test]
fn a_daemon_stops_in_order_and_leaves_nothing_behind() {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let heard = alice.follow(None);
    let ended = daemon.terminate();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.out, "", "one line at the start and nothing more");
    heard.until("bye", |events| events.iter().find(|event| event.name == "bye").map(|_| ()));
    assert!(!daemon.socket().exists(), "the socket file is still there");
    for database in ["outbox.db-wal", "inbox.db-wal"] {
        assert!(!home.join("daemon").join(database).exists(), "{database} was not written back");
    }
}

#[test]
fn a_second_daemon_leaves_the_first_alone() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let second = Process::run(home.command(&["daemon", "up", "--foreground"]));
    assert!(!second.status.success(), "{second:?}");
    assert!(second.err.contains(&daemon.pid().to_string()), "it says who runs: {second:?}");
    daemon.assert_healthy();
}
