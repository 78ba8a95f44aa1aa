//! Killed at random moments, nothing that was acknowledged is lost, doubled or out of order.
//!
//! One world per test lives through all its rounds; a round kills and restarts while senders keep sending. More rounds by
//! `CLAUDEMESH_ROUNDS`, another course of events by `CLAUDEMESH_SEED`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::follow::Follower;
use crate::support::home::Home;
use crate::support::mesh::World;
use crate::support::random::{Random, seed};
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::PATIENCE;

/// Threads that send at once, each in order for itself.
pub(crate) const SENDERS: usize = 4;

/// Rounds of each test, unless told otherwise.
const ROUNDS: u64 = 50;

/// Messages that each thread sends before it waits for the next round.
const BURST: u64 = 25;

/// As many as this, or as `CLAUDEMESH_ROUNDS` says.
pub(crate) fn rounds(default: u64) -> u64 {
    std::env::var("CLAUDEMESH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Threads that send one burst each time they are told to.
pub(crate) struct Senders {
    turns: Vec<Sender<()>>,
    acknowledged: Receiver<()>,
    threads: Vec<JoinHandle<()>>,
    /// Messages of one thread in one round.
    burst: u64,
    sent: u64,
    /// How many of the sent ones have been acknowledged.
    done: u64,
}

impl Senders {
    pub(crate) fn start(session: Session, to: &str) -> Senders {
        Senders::in_bursts(session, to, BURST)
    }

    /// As [`Senders::start`], with other bursts.
    pub(crate) fn in_bursts(session: Session, to: &str, burst: u64) -> Senders {
        Senders::to_each(session, &[to], burst)
    }

    /// Threads that send to these, each to one of them.
    pub(crate) fn to_each(session: Session, to: &[&str], burst: u64) -> Senders {
        let session = Arc::new(session);
        let (report, acknowledged) = channel();
        let mut senders = Senders { turns: Vec::new(), acknowledged, threads: Vec::new(), burst, sent: 0, done: 0 };
        for thread in 0..SENDERS {
            let (turn, turns) = channel::<()>();
            let (session, to, report) = (session.clone(), to[thread % to.len()].to_owned(), report.clone());
            senders.turns.push(turn);
            senders.threads.push(std::thread::spawn(move || {
                let mut next = 0;
                for () in turns {
                    for _ in 0..burst {
                        session.send(&to, &format!("{thread}:{next}"), &format!("s{thread}-{next}"));
                        next += 1;
                        if report.send(()).is_err() {
                            return; // the test has failed elsewhere
                        }
                    }
                }
            }));
        }
        senders
    }

    fn burst(&mut self) {
        self.turns.iter().for_each(|turn| turn.send(()).expect("a sender ended: the reason stands above"));
        self.sent += SENDERS as u64 * self.burst;
    }

    /// Waits until `count` messages of all have been acknowledged.
    #[track_caller]
    fn await_acknowledged(&mut self, count: u64) {
        while self.done < count {
            self.acknowledged.recv_timeout(PATIENCE).expect("acknowledged in time");
            self.done += 1;
        }
    }

    /// Waits for a moment between now and two milliseconds from now; any moment will do, and it should be a random one.
    fn drift(&mut self, random: &mut Random) {
        let end = Instant::now() + Duration::from_micros(random.below(2000));
        loop {
            match self.acknowledged.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(()) => self.done += 1,
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("the senders ended: the reason stands above"),
            }
        }
    }

    fn finish(self) -> u64 {
        drop(self.turns);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a sender ended: the reason stands above"));
        self.sent
    }
}

/// Runs the rounds: `strike` does some harm, while messages flow. Returns how many were sent.
pub(crate) fn run(what: &str, rounds: u64, mut senders: Senders, mut strike: impl FnMut(&mut Random)) -> u64 {
    let seed = seed();
    let mut random = Random::new(seed);
    for round in 0..rounds {
        let _context = Context { what, seed, round };
        let before = senders.sent;
        senders.burst();
        senders.await_acknowledged(before + random.below(SENDERS as u64 * senders.burst));
        senders.drift(&mut random);
        strike(&mut random);
        senders.await_acknowledged(before);
    }
    let _context = Context { what, seed, round: rounds };
    senders.finish()
}

/// Says where it happened, should anything fail while it lives.
struct Context<'a> {
    what: &'a str,
    seed: u64,
    round: u64,
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed in round {} of CLAUDEMESH_SEED={}", self.what, self.round, self.seed);
        }
    }
}

/// Every message exactly once, each sender's in order: in the event stream and in the inbox.
#[track_caller]
pub(crate) fn check(sent: u64, heard: &Follower, recipient: &Session) {
    let each = sent / SENDERS as u64;
    let last: Vec<String> = (0..SENDERS).map(|thread| format!("s{thread}-{}", each - 1)).collect();
    for id in &last {
        heard.message(id);
    }
    let streamed: Vec<Value> = heard.messages().into_iter().map(|event| event.data).collect();
    exactly_once("the event stream", each, &streamed);
    exactly_once("the inbox", each, &recipient.unread());
}

#[track_caller]
pub(crate) fn exactly_once(place: &str, each: u64, rows: &[Value]) {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        let body = row["body"].as_str().unwrap_or_else(|| panic!("{place} has an unreadable message: {row}"));
        let (sender, number) = body.split_once(':').unwrap();
        let expected = next.entry(sender.to_owned()).or_default();
        let number: u64 = number.parse().unwrap();
        let wrong = if number < *expected { "doubled, or late" } else { "lost, or early: what came instead" };
        assert_eq!(number, *expected, "{place}: sender {sender}: {wrong}");
        assert_eq!(row["client_message_id"], format!("s{sender}-{number}").as_str());
        *expected += 1;
    }
    for thread in 0..SENDERS {
        assert_eq!(next.get(&thread.to_string()), Some(&each), "{place}: sender {thread}");
    }
}

#[test]
fn a_daemon_with_its_own_broker_is_killed() {
    let home = Home::new();
    let mut daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let bob = Session::open(&daemon, "home", "bob");
    let heard = bob.follow(Some(0));
    let senders = Senders::start(alice, &bob.key);
    let sent = run("killing the daemon with its broker", rounds(ROUNDS), senders, |_| {
        daemon.kill();
        daemon.restart();
    });
    check(sent, &heard, &bob);
}

/// What of a world of two daemons and a broker is killed in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Victim {
    Sender,
    Recipient,
    Broker,
}

pub(crate) fn kill(world: &mut World, victims: &[Victim]) {
    for victim in victims {
        match victim {
            Victim::Sender => world.alice.kill(),
            Victim::Recipient => world.bob.kill(),
            Victim::Broker => world.broker.kill(),
        }
    }
    for victim in victims {
        match victim {
            Victim::Sender => world.alice.restart(),
            Victim::Recipient => world.bob.restart(),
            Victim::Broker => world.broker.restart(),
        }
    }
}

fn two_machines(what: &str, mut choose: impl FnMut(&mut Random) -> Vec<Victim>) {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    let senders = Senders::start(alice, &bob.key);
    let sent = run(what, rounds(ROUNDS), senders, |random| {
        let victims = choose(random);
        kill(&mut world, &victims);
    });
    check(sent, &heard, &bob);
}

#[test]
fn one_of_two_daemons_is_killed() {
    two_machines("killing a daemon", |random| vec![random.choose(&[Victim::Sender, Victim::Recipient])]);
}

#[test]
fn the_broker_is_killed() {
    two_machines("killing the broker", |_| vec![Victim::Broker]);
}

#[test]
fn the_broker_and_a_daemon_are_killed_at_once() {
    two_machines("killing the broker and daemons", |random| {
        let mut victims = vec![Victim::Broker, Victim::Sender, Victim::Recipient];
        // Two of them or all, the first to die any of them.
        victims.rotate_left(random.choose(&[0, 1, 2]));
        victims.truncate(random.choose(&[2, 3]));
        victims
    });
}
