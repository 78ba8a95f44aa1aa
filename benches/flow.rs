//! Requests and messages through a running daemon.

use std::time::{Duration, Instant};

use claudemesh::base::time::now_millis;
use claudemesh::crypto::random;

use crate::support::home::Home;
use crate::support::http;
use crate::support::mesh::World;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::table::{Measured, Scale, median};

const MS: Duration = Duration::from_millis(1);
const CALLERS: usize = 16;

/// Rounds of what is measured as a rate; their median counts.
const ROUNDS: usize = 5;

pub(crate) fn requests(scale: Scale) -> Vec<Measured> {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let socket = daemon.socket();
    let once = || {
        let start = Instant::now();
        let reply = http::request(&socket, "GET", "/v1/version", &[], None).unwrap();
        assert_eq!(reply.status, 200);
        start.elapsed()
    };
    for _ in 0..100 {
        once();
    }
    let times = (0..scale.rounds(10_000)).map(|_| once()).collect();
    vec![Measured::times("GET /v1/version, a connection each", times, Duration::from_micros(150), Some(MS / 2))]
}

/// Sends `count` messages from each of [`CALLERS`] threads; how long until all were answered. They are named as a daemon names
/// what nobody has named.
fn send_at_once(from: &Session, to: &str, count: usize) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let send = move |n| from.send(to, &format!("{caller}:{n}"), &random::uuid_v7(now_millis()));
            scope.spawn(move || (0..count).for_each(send));
        }
    });
    start.elapsed()
}

pub(crate) fn sends(scale: Scale) -> Vec<Measured> {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let bob = Session::open(&daemon, "home", "bob");
    let heard = bob.follow(Some(0));
    let alone = scale.rounds(2000);
    let times = (0..alone)
        .map(|n| {
            let start = Instant::now();
            alice.send(&bob.key, "hello", &format!("one-{n}"));
            start.elapsed()
        })
        .collect();
    heard.count(alone);
    let each = scale.rounds(1000);
    let delivered = (1..=ROUNDS).map(|round| {
        let time = send_at_once(&alice, &bob.key, each);
        // The next begins when all of it has come.
        heard.count(alone + round * CALLERS * each);
        time
    });
    let rate = |times: Vec<Duration>| ((CALLERS * each) as f64 / median(times).as_secs_f64()).round();
    let delivered = rate(delivered.collect());
    let accepted = rate((0..ROUNDS).map(|_| accept_at_once(each)).collect());
    vec![
        Measured::times("POST /v1/send, on disk when answered, 1 caller", times, MS, None),
        Measured::at_least("the same, 16 callers", "/s", accepted, 8000.0),
        Measured::at_least("the same, 16 callers, while all of it is delivered here", "/s", delivered, 8000.0),
    ]
}

/// As [`send_at_once`], while nothing of it can go out yet: the promise is about the answer alone.
fn accept_at_once(each: usize) -> Duration {
    let mut world = World::pair();
    let (alice, bob) = (Session::open(&world.alice, "acme", "alice"), Session::open(&world.bob, "acme", "bob"));
    // Whom a message is for is known from now on, whether or not the broker can be asked.
    alice.send(&bob.key, "hello", "first");
    world.broker.kill();
    send_at_once(&alice, &bob.key, each)
}

/// One message at a time, from the request to the event at the other session.
fn one_by_one(promise: &str, alice: &Session, bob: &Session, rounds: usize) -> Measured {
    let heard = bob.follow(Some(0));
    let times = (0..rounds)
        .map(|n| {
            let start = Instant::now();
            alice.send(&bob.key, "hello", &format!("m-{n}"));
            heard.count(n + 1).duration_since(start)
        })
        .collect();
    Measured::times(promise, times, 2 * MS, Some(10 * MS))
}

pub(crate) fn end_to_end(scale: Scale) -> Vec<Measured> {
    let rounds = scale.rounds(1000);
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    let one = one_by_one("a message, session to session, one daemon and its broker", &alice, &bob, rounds);
    let world = World::pair();
    let (alice, bob) = (Session::open(&world.alice, "acme", "alice"), Session::open(&world.bob, "acme", "bob"));
    let two = one_by_one("the same, two daemons and a broker between them", &alice, &bob, rounds);
    vec![one, two]
}

pub(crate) fn burst(scale: Scale) -> Vec<Measured> {
    const MESSAGES: usize = 2000;
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    let heard = bob.follow(Some(0));
    let rounds = scale.rounds(10);
    let mut wrong = 0;
    let times = (1..=rounds)
        .map(|round| {
            let start = Instant::now();
            send_at_once(&alice, &bob.key, MESSAGES / CALLERS);
            let time = heard.count(round * MESSAGES).duration_since(start);
            let rows = bob.unread();
            let mut next = [0; CALLERS];
            for row in &rows {
                let (caller, number) = row["body"].as_str().and_then(|body| body.split_once(':')).unwrap();
                let next = &mut next[caller.parse::<usize>().unwrap()];
                wrong += usize::from(number.parse() != Ok(*next));
                *next += 1;
            }
            wrong += rows.len().abs_diff(MESSAGES);
            time
        })
        .collect();
    vec![
        Measured::times("2,000 messages at once, until all are in the inbox", times, 700 * MS, None),
        Measured::at_most("of these lost, doubled or out of order", "", wrong, 0),
    ]
}
