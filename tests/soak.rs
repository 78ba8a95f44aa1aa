//! Everything at once, for as long as one likes: many sessions on two machines and three meshes write to each other, to
//! groups and to everyone, while daemons and brokers are killed, connections misbehave, meshes are left and joined, and sessions end
//! and come back.
//! Every message is counted. `CLAUDEMESH_SOAK_SECONDS=600` for the real thing; without it, a few seconds with few sessions.

mod bodies;
mod ledger;
mod worker;

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::support::home::Home;
use crate::support::mesh::{Mesh, configure};
use crate::support::proxy::{Cut, Proxy};
use crate::support::random::{Random, seed};
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

use self::bodies::Body;
use self::ledger::{Ledger, ToMany};
use self::worker::Worker;

const MESHES: [&str; 3] = ["acme", "beta", "gamma"];
const GROUPS: [&str; 2] = ["red", "blue"];

/// Threads that send, each for its own share of the sessions.
const SENDERS: usize = 6;

/// Messages of one thread in one round.
const BURST: u64 = 40;

/// Rounds between two calm ones, in which everybody is there and what is sent to many must reach all.
const CALM_EVERY: u64 = 5;

/// One session in so many has a process of its own.
const BODY_EVERY: usize = 4;

/// Longest text beside the id, in bytes, and of one message in thirty.
const TEXT: u64 = 2000;
const LONG_TEXT: u64 = 45_000;

/// Where a session is. The session of number `n` is always in the same place.
#[derive(Debug, Clone, Copy)]
struct Place(usize);

impl Place {
    fn daemon(self) -> usize {
        self.0 % 2
    }

    fn mesh(self) -> usize {
        self.0 / 2 % MESHES.len()
    }

    fn group(self) -> usize {
        self.0 / 6 % GROUPS.len()
    }
}

/// What the senders share.
struct Field {
    sessions: Vec<Session>,
    ledger: Mutex<Ledger>,
}

impl Field {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The others of a session's mesh, or of a group of it.
    fn others(&self, from: usize, group: Option<usize>) -> Vec<usize> {
        let same = |other: &usize| {
            *other != from
                && Place(*other).mesh() == Place(from).mesh()
                && group.is_none_or(|group| Place(*other).group() == group)
        };
        (0..self.sessions.len()).filter(same).collect()
    }

    /// Sends under one id until the daemon has said that it has it. False where the session's mesh is left at the moment.
    fn send(&self, from: usize, to: &str, text: &str, id: &str) -> bool {
        let end = Instant::now() + Duration::from_secs(60);
        let session = &self.sessions[from];
        loop {
            let seen = session.up.count();
            match session.try_send(to, text, id) {
                Ok(reply) if matches!(reply.status, 200 | 202) => return true,
                Ok(reply) if reply.status == 404 && reply.json()["error"] == "mesh_not_attached" => return false,
                // It has ended, and comes back.
                Ok(reply) if reply.status == 401 => {}
                Ok(reply) if matches!(reply.status, 502 | 503) => {}
                Ok(reply) => panic!("{id} was refused: {} {}", reply.status, reply.text()),
                Err(_) => {}
            }
            assert!(Instant::now() < end, "{id} was not accepted for a minute");
            session.up.wait_past(seen, Duration::from_millis(20));
        }
    }

    /// To everyone of the mesh, or to a group of it; those who `must` have it are all or none.
    fn send_to_many(&self, from: usize, id: String, group: Option<usize>, calm: bool) {
        let to = group.map_or_else(|| "*".to_owned(), |group| format!("@{}", GROUPS[group]));
        let may: BTreeSet<usize> = self.others(from, group).into_iter().collect();
        let must = if calm { may.clone() } else { BTreeSet::new() };
        // Noted before: an answer that is lost does not mean that it was not sent.
        self.ledger().accepted_for_many(ToMany { id: id.clone(), must, may });
        let accepted = self.send(from, &to, &format!("{id} to many"), &id);
        assert!(accepted || !calm, "{id}: every mesh is joined");
    }
}

#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    kills: u64,
    cuts: u64,
    /// Meshes left and joined again.
    joins: u64,
    /// Sessions that ended and came back.
    rebirths: u64,
    /// Processes of sessions that were stopped for a while.
    stops: u64,
}

/// The machines and what is between them.
struct World {
    daemons: [Daemon; 2],
    brokers: Vec<Broker>,
    /// By daemon, then by mesh.
    proxies: [Vec<Proxy>; 2],
    meshes: Vec<Mesh>,
    left: [Option<usize>; 2],
    bodies: Vec<Body>,
    counts: Counts,
    homes: Vec<Home>,
}

impl World {
    fn new() -> World {
        let homes: Vec<Home> = (0..2 + MESHES.len()).map(|_| Home::new()).collect();
        let meshes: Vec<Mesh> = MESHES.iter().zip(&homes[2..]).map(|(slug, home)| Mesh::create(home.path(), slug)).collect();
        let brokers: Vec<Broker> = homes[2..].iter().map(|home| Broker::start(home.path())).collect();
        let proxies = [(); 2].map(|()| brokers.iter().map(|broker| Proxy::start(&broker.address)).collect::<Vec<_>>());
        for daemon in 0..2 {
            configure(homes[daemon].path(), &entries(&meshes, &proxies[daemon], daemon, None));
        }
        let daemons = [0, 1].map(|n| Daemon::start(homes[n].path()));
        World { daemons, brokers, proxies, meshes, left: [None; 2], bodies: Vec::new(), counts: Counts::default(), homes }
    }

    /// One thing that goes wrong, and is put right where nobody else would.
    fn strike(&mut self, field: &Field, random: &mut Random) {
        let daemon = random.choose(&[0, 1]);
        let mesh = random.choose(&[0, 1, 2]);
        match random.below(13) {
            0 => {
                self.counts.kills += 1;
                self.daemons[daemon].kill();
                self.daemons[daemon].restart();
            }
            1 => {
                self.counts.kills += 1;
                self.brokers[mesh].kill();
                self.brokers[mesh].restart();
            }
            2 => {
                self.counts.kills += 2;
                self.brokers[mesh].kill();
                self.daemons[daemon].kill();
                self.brokers[mesh].restart();
                self.daemons[daemon].restart();
            }
            // In good order, for once.
            5 => {
                self.daemons[daemon].terminate();
                self.daemons[daemon].restart();
            }
            3 | 4 => match self.left[daemon] {
                None => self.join_all_but(daemon, Some(mesh)),
                Some(_) => self.join_all_but(daemon, None),
            },
            10..13 => self.strike_session(field, random),
            _ => {
                self.counts.cuts += 1;
                self.proxies[daemon][mesh].misbehave(random);
            }
        }
    }

    /// A session ends and comes back, or its process does nothing for a while.
    fn strike_session(&mut self, field: &Field, random: &mut Random) {
        let all: Vec<usize> = (0..self.bodies.len()).collect();
        let body = &mut self.bodies[random.choose(&all)];
        let session = &field.sessions[body.session];
        match random.below(3) {
            0 => {
                self.counts.rebirths += 1;
                body.leave(session);
            }
            1 => {
                self.counts.rebirths += 1;
                body.close(session);
            }
            _ => {
                self.counts.stops += u64::from(!body.is_stopped());
                body.stop(!body.is_stopped());
            }
        }
    }

    fn join_all_but(&mut self, daemon: usize, left: Option<usize>) {
        self.counts.joins += u64::from(left.is_none() && self.left[daemon].is_some());
        self.left[daemon] = left;
        configure(self.homes[daemon].path(), &entries(&self.meshes, &self.proxies[daemon], daemon, left));
        let joined = MESHES.len() - usize::from(left.is_some());
        until("the daemon to follow its configuration", || {
            let health = self.daemons[daemon].get("/v1/health").json();
            (health["meshes"].as_object().map(serde_json::Map::len) == Some(joined)).then_some(())
        });
    }

    /// Every mesh is joined, every session known to its broker, and nothing on its way to one.
    fn calm(&mut self, field: &Field) {
        for daemon in 0..2 {
            self.join_all_but(daemon, None);
        }
        self.bodies.iter_mut().for_each(|body| body.stop(false));
        // What the last faults left behind would be found dead after a minute, and it was their turn.
        self.proxies.iter().flatten().for_each(|proxy| proxy.cut(Cut::Fin));
        for (number, session) in field.sessions.iter().enumerate() {
            until(&format!("session {number} to be linked"), || {
                let reply = session.call("GET", "/v1/sessions/me", None).ok()?;
                (reply.status == 200 && reply.json()["session"]["link"] == "open").then_some(())
            });
        }
        for (mesh, slug) in MESHES.iter().enumerate() {
            let keys =
                field.sessions.iter().enumerate().filter(|(n, _)| Place(*n).mesh() == mesh).map(|(_, session)| &session.key);
            let keys: BTreeSet<&str> = keys.map(String::as_str).collect();
            until(&format!("everybody to be on {slug}"), || {
                let peers = self.daemons[0].get(&format!("/v1/peers?mesh={slug}")).json();
                let here = peers["peers"].as_array()?.iter().filter(|peer| peer["online"] == true);
                let here: BTreeSet<&str> = here.filter_map(|peer| peer["pubkey"].as_str()).collect();
                keys.is_subset(&here).then_some(())
            });
        }
        self.settle();
    }

    /// Waits until the outboxes are empty.
    fn settle(&self) {
        for daemon in &self.daemons {
            until("the outbox to be empty", || {
                let outbox = &daemon.get("/v1/health").json()["outbox"];
                assert_eq!(outbox["dead"], 0, "{}", daemon.get("/v1/outbox?status=dead").text());
                (outbox["pending"] == 0 && outbox["inflight"] == 0).then_some(())
            });
        }
    }
}

fn entries(meshes: &[Mesh], proxies: &[Proxy], daemon: usize, left: Option<usize>) -> Vec<serde_json::Value> {
    let joined = (0..meshes.len()).filter(|mesh| left != Some(*mesh));
    joined.map(|mesh| meshes[mesh].entry(daemon, &proxies[mesh].url())).collect()
}

/// Sends to many while everybody is there, and reads all inboxes until they have what they must have.
fn take_stock(world: &World, field: &Field, random: &mut Random, round: u64) {
    for mesh in 0..MESHES.len() {
        let there: Vec<usize> = (0..field.sessions.len()).filter(|n| Place(*n).mesh() == mesh).collect();
        let group = usize::try_from(random.below(2)).expect("a group");
        field.send_to_many(random.choose(&there), format!("b-calm-{round}-{mesh}"), None, true);
        field.send_to_many(random.choose(&there), format!("g-calm-{round}-{mesh}"), Some(group), true);
    }
    world.settle();
    for (number, session) in field.sessions.iter().enumerate() {
        // What never comes is told by the ledger, with all the others.
        let end = Instant::now() + Duration::from_secs(20);
        while {
            let rows = session.unread();
            field.ledger().arrived(number, &rows);
            !field.ledger().is_complete(number) && Instant::now() < end
        } {
            session.up.wait_past(session.up.count(), Duration::from_millis(20));
        }
    }
}

fn open(world: &mut World, count: usize) -> Vec<Session> {
    let sessions: Vec<Session> = (0..count)
        .map(|n| {
            let place = Place(n);
            let session = Session::prepare(&world.daemons[place.daemon()], MESHES[place.mesh()], &format!("s{n}"));
            let session = session.in_groups(&[GROUPS[place.group()]]);
            match n % BODY_EVERY {
                0 => world.bodies.push(Body::give(n, &session)),
                _ => session.register(std::process::id()),
            }
            session
        })
        .collect();
    sessions.iter().for_each(Session::await_link);
    sessions
}

/// Waits for some of a burst, then for all of it.
fn await_progress(progress: &Receiver<bool>, done: &mut usize, count: Option<u64>) {
    let mut left = count.unwrap_or(u64::MAX);
    while 0 < left && *done < SENDERS {
        *done += usize::from(progress.recv_timeout(Duration::from_secs(90)).expect("a sender ended: the reason stands above"));
        left -= 1;
    }
}

#[test]
fn a_long_run_of_everything_at_once() {
    let seconds = std::env::var("CLAUDEMESH_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let (count, time) = (if seconds.is_some() { 200 } else { 24 }, Duration::from_secs(seconds.unwrap_or(5)));
    let mut world = World::new();
    let field = Arc::new(Field { sessions: open(&mut world, count), ledger: Mutex::default() });
    let (report, progress) = channel();
    let workers: Vec<Worker> = (0..SENDERS).map(|n| Worker::start(field.clone(), n, report.clone())).collect();
    drop(report);
    let mut random = Random::new(seed());
    let started = Instant::now();
    while started.elapsed() < time {
        workers.iter().for_each(|worker| worker.turn.send(()).expect("a sender ended: the reason stands above"));
        let mut done = 0;
        for _ in 0..=random.below(4) {
            await_progress(&progress, &mut done, Some(random.below(SENDERS as u64 * BURST / 4)));
            world.strike(&field, &mut random);
        }
        await_progress(&progress, &mut done, None);
        world.counts.rounds += 1;
        if world.counts.rounds.is_multiple_of(CALM_EVERY) {
            world.calm(&field);
            take_stock(&world, &field, &mut random, world.counts.rounds);
        }
    }
    world.calm(&field);
    take_stock(&world, &field, &mut random, u64::MAX);
    for worker in workers {
        drop(worker.turn);
        worker.thread.join().expect("a sender ended: the reason stands above");
    }
    let (ledger, counts) = (field.ledger(), &world.counts);
    let wrong = ledger.check();
    eprintln!(
        "soak of {} s, {count} sessions, seed {}: {} rounds, {} messages ({} to many), {} kills, {} cuts, {} joins, {} rebirths, {} stops; {} lost, {} doubled, {} misordered, {} misplaced, {} unreadable",
        started.elapsed().as_secs(),
        seed(),
        counts.rounds,
        ledger.direct_count() + ledger.many_count() as u64,
        ledger.many_count(),
        counts.kills,
        counts.cuts,
        counts.joins,
        counts.rebirths,
        counts.stops,
        wrong.lost,
        wrong.doubled,
        wrong.misordered,
        wrong.misplaced,
        wrong.unreadable
    );
    assert!(wrong.is_nothing(), "{:#?}", wrong.examples);
    assert!(0 < ledger.direct_count());
}
