//! How cost grows with what is there already: sessions, old messages, old rows.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::support::home::Home;
use crate::support::mesh::{HUB, World};
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::table::{Measured, Scale, median};

/// The most that a cost may grow from the first step to any other.
const FLAT: f64 = 1.5;

pub(crate) fn growth(scale: Scale) -> Vec<Measured> {
    let full = matches!(scale, Scale::Full);
    let sessions: &[usize] = if full { &[2, 50, 200, 2_000] } else { &[2, 50, 200] };
    let many: &[usize] = if full { &[0, 100_000, 1_000_000] } else { &[0, 100_000] };
    let rows: &[usize] = if full { &[10, 10_000, 1_000_000] } else { &[10, 10_000, 100_000] };
    let steps = |counts: &[usize], cost: &dyn Fn(usize) -> Duration| {
        counts.iter().map(|count| (*count, cost(*count))).collect::<Vec<_>>()
    };
    vec![
        Measured::flat("a message, with so many sessions connected", &steps(sessions, &|n| beside_sessions(n, scale)), FLAT),
        Measured::flat("a message, with so many old ones at the broker", &steps(many, &|n| beside_old_messages(n, scale)), FLAT),
        Measured::flat("POST /v1/send, with so many rows in the outbox", &steps(rows, &|n| beside_sent_rows(n, scale)), FLAT),
        Measured::flat("a page of the inbox, with so many rows in it", &steps(rows, &|n| of_an_inbox(n, scale)), FLAT),
    ]
}

/// The middle of what a message takes from the request in one session to the event in another.
fn one_by_one(alice: &Session, bob: &Session, rounds: usize) -> Duration {
    let heard = bob.follow(None);
    let times = (0..rounds).map(|n| {
        let start = Instant::now();
        alice.send(&bob.key, "hello", &format!("m-{n}"));
        heard.count(n + 1).duration_since(start)
    });
    median(times.collect())
}

fn beside_sessions(count: usize, scale: Scale) -> Duration {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let all: Vec<Session> = (0..count).map(|n| Session::prepare(&daemon, "home", &format!("s-{n}"))).collect();
    all.iter().for_each(|session| session.register(std::process::id()));
    all.iter().for_each(Session::await_link);
    // The news of who came has been told once the last of them has answered.
    all[0].call("GET", "/v1/peers", None).unwrap();
    one_by_one(&all[0], &all[1], scale.rounds(500))
}

/// Runs SQL on a database that nobody has open.
fn fill(path: &Path, sql: &str) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!("PRAGMA synchronous = OFF; BEGIN; {sql}; COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")).unwrap();
}

/// `n` counts from 1 to `count` in what follows.
fn counted(count: usize) -> String {
    format!("WITH RECURSIVE counted(n) AS (SELECT 1 WHERE 0 < {count} UNION ALL SELECT n + 1 FROM counted WHERE n < {count})")
}

fn beside_old_messages(count: usize, scale: Scale) -> Duration {
    let mut world = World::pair();
    assert!(world.broker.terminate().status.success());
    let insert = format!(
        "INSERT INTO message (id, mesh_id, sender_member_id, sender_pubkey, sender_name, target_spec, priority, created_at,
                              expires_at, client_id, fingerprint, recipients, waiting, delivered_at, nonce, ciphertext)
         {} SELECT 'old-' || n, mesh.id, (SELECT id FROM member LIMIT 1), (SELECT pubkey FROM member LIMIT 1), 'a', '*', 'next', 1,
                   9000000000000, 'old-' || n, 'f', 1, 0, 1, '', '' FROM counted, mesh",
        counted(count)
    );
    fill(&world.homes[2].join(HUB), &insert);
    world.broker.restart();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    one_by_one(&alice, &bob, scale.rounds(500))
}

fn beside_sent_rows(count: usize, scale: Scale) -> Duration {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    assert!(daemon.terminate().status.success());
    let insert = format!(
        "INSERT INTO outbox (id, client_message_id, request_fingerprint, payload, enqueued_at, next_attempt_at, status, mesh,
                             target_spec, nonce, delivered_at)
         {} SELECT 'old-' || n, 'old-' || n, x'00', x'', unixepoch() * 1000, 1, 'done', 'home', '*', 'n', unixepoch() * 1000
              FROM counted",
        counted(count)
    );
    fill(&home.join("daemon/outbox.db"), &insert);
    daemon.restart();
    let alice = Session::open(&daemon, "home", "alice");
    let bob = Session::open(&daemon, "home", "bob");
    let heard = bob.follow(None);
    let rounds = scale.rounds(1000);
    let times = (0..rounds).map(|n| {
        let start = Instant::now();
        alice.send(&bob.key, "hello", &format!("m-{n}"));
        start.elapsed()
    });
    let middle = median(times.collect());
    heard.count(rounds);
    middle
}

fn of_an_inbox(count: usize, scale: Scale) -> Duration {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    let bob = Session::open(&daemon, "home", "bob");
    assert!(daemon.terminate().status.success());
    // A page has a hundred rows, whatever else is there.
    let count = count.max(200);
    let insert = format!(
        "INSERT INTO inbox (id, client_message_id, mesh, sender_pubkey, sender_name, body, received_at, seen_at, recipient_pubkey,
                            recipient_kind, seq, client_id)
         {} SELECT 'old-' || n, 'old-' || n, 'home', '{key}', 'a', 'hello', unixepoch() * 1000, 1, '{key}', 'session', n, 'old-' || n
              FROM counted;
         UPDATE inbox_counter SET last_seq = {count}",
        counted(count),
        key = bob.key
    );
    fill(&home.join("daemon/inbox.db"), &insert);
    daemon.restart();
    let times = (0..scale.rounds(500)).map(|_| {
        let start = Instant::now();
        let page = bob.call("GET", "/v1/inbox?limit=100&mark_seen=false", None).unwrap();
        assert_eq!(page.status, 200);
        start.elapsed()
    });
    median(times.collect())
}
