//! A disk that is full, read-only, damaged, or under a clock that was set back: the error says what happened and what to
//! do, nothing that was acknowledged is lost, and once the cause is gone all goes on by itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use claudemesh::base::time::now_millis;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::follow::Follower;
use crate::support::home::Home;
use crate::support::mesh::{HUB, Mesh, World, configure};
use crate::support::process::Process;
use crate::support::random::{Random, seed};
use crate::support::sandbox::Sandbox;
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

/// Client ids in the order in which they came.
fn ids(heard: &Follower) -> Vec<String> {
    heard.messages().iter().map(|event| event.data["client_message_id"].as_str().unwrap().to_owned()).collect()
}

/// Fills what room there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [64 * 1024, 1024, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// Damages a part of a file with noise.
fn scribble(path: &Path, from: usize, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    let mut random = Random::new(seed());
    let end = (from + length).min(bytes.len());
    bytes[from..end].iter_mut().for_each(|byte| *byte = random.next().to_le_bytes()[0]);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let Some(sandbox) = Sandbox::new() else { return };
    let mut world = World::pair();
    let home = world.homes[0].path().to_owned();
    world.alice.terminate();
    let inside = home.join("daemon");
    sandbox.shell(&format!("mount -t tmpfs -o size=24m,mode=0700 none {}", inside.display()));
    let mut near = Daemon::start_in(&sandbox, &home);
    let alice = Session::open(&near, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    let (to_alice, answers) = (alice.follow(Some(0)), ["r-0", "r-1"]);

    let text = "x".repeat(40_000);
    let (mut accepted, mut refused) = (Vec::new(), 0);
    fill(&sandbox.path(&inside.join("filler")));
    for n in 0..2000 {
        let reply = alice.try_send(&bob.key, &text, &format!("m-{n}")).unwrap();
        match reply.status {
            202 => accepted.push(format!("m-{n}")),
            503 => {
                let problem = reply.json();
                assert_eq!(problem["error"], "store_unavailable", "{problem}");
                assert!(problem["detail"].as_str().unwrap().contains("disk is full"), "{problem}");
                assert!(problem["hint"].is_string(), "{problem}");
                refused += 1;
            }
            _ => panic!("{reply:?}"),
        }
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "the disk never was full; {} were accepted", accepted.len());
    near.assert_healthy();
    // What arrives finds no room either, and waits at the broker.
    bob.send(&alice.key, &text, answers[0]);

    // Killed in that state, and started in it: that works, or it says why not.
    near.kill();
    if let Err(ended) = near.try_restart() {
        assert!(ended.err.contains("disk is full") && ended.err.contains("make room"), "{ended:?}");
    }
    fs::remove_file(sandbox.path(&inside.join("filler"))).unwrap();
    near.ensure();
    bob.send(&alice.key, "room again", answers[1]);
    alice.send(&bob.key, "the last one", "last");
    accepted.push("last".to_owned());
    heard.message("last");
    assert_eq!(ids(&heard), accepted, "what was accepted arrives once and in order, what was refused does not");
    to_alice.message(answers[1]);
    assert_eq!(ids(&to_alice), answers);
}

#[test]
fn a_broker_on_a_full_disk_takes_nothing_and_mixes_nothing_up() {
    let Some(sandbox) = Sandbox::new() else { return };
    let homes = [(); 4].map(|()| Home::new());
    let (made, data) = (homes[2].path(), homes[3].path());
    let mesh = Mesh::create(made, "acme");
    let inside = data.display();
    sandbox.shell(&format!("mount -t tmpfs -o size=16m,mode=0700 none {inside} && cp {}/{HUB} {inside}", made.display()));
    let broker = Broker::start_in(&sandbox, data);
    homes[..2].iter().enumerate().for_each(|(n, home)| configure(home.path(), &[mesh.entry(n, &broker.url())]));
    let [near, far] = [0, 1].map(|n| Daemon::start(homes[n].path()));
    let (alice, bob) = (Session::open(&near, "acme", "alice"), Session::open(&far, "acme", "bob"));
    let heard = bob.follow(Some(0));
    // What waits for somebody who is away fills the disk, and then it is full for everybody.
    let away = Session::prepare(&far, "acme", "away");
    let holder = Process::spawn(std::process::Command::new("cat"));
    away.register(holder.pid());
    away.await_link();
    holder.kill();
    let text = "x".repeat(40_000);
    let refused = |daemon: &Daemon| daemon.get("/v1/outbox?status=pending&limit=500").text().contains("unavailable");
    let filler = sandbox.path(&data.join("filler"));
    fill(&filler);
    let mut count = 0;
    while !refused(&near) {
        assert!(count < 2000, "the disk never was full");
        alice.send(&away.key, &text, &format!("a-{count}"));
        alice.send(&bob.key, &text, &format!("m-{count}"));
        count += 1;
    }
    // Room comes and goes while many are on their way.
    for _ in 0..8 {
        for _ in 0..40 {
            alice.send(&bob.key, &text, &format!("m-{count}"));
            count += 1;
        }
        let came = heard.messages().len();
        fs::remove_file(&filler).unwrap();
        heard.count(came + 1);
        fill(&filler);
    }
    fs::remove_file(&filler).unwrap();
    heard.message(&format!("m-{}", count - 1));
    assert_eq!(ids(&heard), (0..count).map(|n| format!("m-{n}")).collect::<Vec<_>>());
    broker.assert_healthy();
    let dead = near.get("/v1/health").json();
    assert_eq!(dead["outbox"]["dead"], 0, "{dead}");
}

#[test]
fn a_directory_that_can_not_be_written_is_named() {
    let Some(sandbox) = Sandbox::new() else { return };
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    world.broker.kill();
    alice.send(&bob.key, "kept", "m-1");
    world.alice.kill();

    let home = world.homes[0].path();
    let inside = home.join("daemon");
    let dir = inside.display();
    sandbox.shell(&format!("mount --bind {dir} {dir} && mount -o remount,bind,ro {dir}"));
    let ended = Daemon::refused(home, Some(&sandbox));
    assert!(ended.err.contains(inside.to_str().unwrap()) && ended.err.contains("Read-only file system"), "{ended:?}");

    sandbox.shell(&format!("mount -o remount,bind,rw {dir}"));
    world.broker.restart();
    let _near = Daemon::start_in(&sandbox, home);
    assert_eq!(bob.follow(Some(0)).message("m-1").data["body"], "kept");
}

/// What it is, and how it is done.
type Damage = (&'static str, fn(&Path));

/// The ways in which a database file can be damaged.
const DAMAGE: [Damage; 3] = [
    ("noise in the header", |path| scribble(path, 0, 100)),
    ("noise in the first page", |path| scribble(path, 16, 2000)),
    ("cut off", |path| {
        let length = fs::metadata(path).unwrap().len();
        File::options().write(true).open(path).unwrap().set_len(length / 2 - 100).unwrap();
    }),
];

#[test]
fn a_damaged_outbox_is_named_and_goes_on_when_it_is_put_back() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    world.broker.terminate();
    for n in 0..50 {
        alice.send(&bob.key, "waits", &format!("m-{n}"));
    }
    world.alice.terminate();
    let home = world.homes[0].path();
    let path = home.join("daemon/outbox.db");
    let good = fs::read(&path).unwrap();
    for (what, damage) in DAMAGE {
        damage(&path);
        let ended = Daemon::refused(home, None);
        let told = ended.err.lines().last().unwrap_or_default();
        assert!(
            told.contains(path.to_str().unwrap()) && told.contains("damaged") && told.contains("put back"),
            "{what}: {ended:?}"
        );
        fs::write(&path, &good).unwrap();
    }
    // Damage that is met later ends the daemon, and keeps it from starting until the file is well.
    let pages = good.len() / 4096;
    scribble(&path, 4096 * (pages / 2), 4096 * (pages / 4));
    let ended = Daemon::try_start(home).map_or_else(
        |ended| ended,
        |mut daemon| {
            // Whoever asks for the rows meets it.
            let _ = daemon.try_get("/v1/outbox?limit=500");
            daemon.ended()
        },
    );
    assert!(ended.err.contains("outbox.db") && ended.err.contains("damaged"), "{ended:?}");
    let again = Daemon::refused(home, None);
    assert!(again.err.contains("damaged") && again.err.contains("put back"), "{again:?}");

    fs::write(&path, &good).unwrap();
    world.alice.restart();
    world.broker.restart();
    heard.message("m-49");
    assert_eq!(ids(&heard), (0..50).map(|n| format!("m-{n}")).collect::<Vec<_>>());
}

#[test]
fn a_damaged_inbox_is_put_aside_and_mail_goes_on() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let home = world.homes[1].path().to_owned();
    let path = home.join("daemon/inbox.db");
    let asides = || {
        let names = fs::read_dir(home.join("daemon")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("inbox.db.corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm")).count()
    };
    let mut n = 0;
    let mut more = || {
        n += 1;
        alice.send(&bob.key, "on its way", &format!("m-{n}"));
        format!("m-{n}")
    };
    for (round, (what, damage)) in DAMAGE.into_iter().enumerate() {
        let heard = bob.follow(Some(0));
        heard.message(&more());
        drop(heard);
        world.bob.terminate();
        damage(&path);
        let waiting = more();
        world.bob.restart();
        let heard = bob.follow(Some(0));
        heard.message(&waiting);
        assert_eq!(asides(), round + 1, "{what}");
        let log = world.bob.log();
        assert!(log.contains(path.to_str().unwrap()) && log.contains("put aside as"), "{what}: {log}");
    }
    // Damage that is met later: the daemon ends, and the next one keeps what can be read.
    let heard = bob.follow(Some(0));
    let many: Vec<String> = (0..400).map(|_| more()).collect();
    heard.message(many.last().unwrap());
    drop(heard);
    world.bob.terminate();
    let pages = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap() / 4096;
    scribble(&path, 4096 * (pages / 2), 4096 * 6);
    let met = match world.bob.try_restart() {
        Ok(()) => {
            // Looking at everything meets it, and each further answer is a refusal.
            let _ = bob.call("GET", "/v1/inbox?limit=1000", None);
            let _ = world.bob.try_get("/v1/inbox?limit=1000&q=nowhere");
            let ended = world.bob.ended();
            assert!(!ended.status.success(), "{ended:?}");
            world.bob.restart();
            ended.err
        }
        Err(ended) => panic!("a damaged inbox kept the daemon from starting: {ended:?}"),
    };
    assert!(met.contains("inbox.db") && met.contains("damaged"), "{met}");
    assert_eq!(asides(), DAMAGE.len() + 1);
    let kept = world.bob.get("/v1/inbox?limit=1000").json()["items"].as_array().map_or(0, Vec::len);
    assert!(100 < kept, "{kept} of {n} could be read");
    let last = more();
    bob.follow(Some(0)).message(&last);
}

#[test]
fn a_damaged_hub_is_named_and_goes_on_when_it_is_put_back() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    world.bob.terminate();
    alice.send(&bob.key, "at the broker", "m-1");
    until("the broker to have it", || (world.alice.get("/v1/health").json()["outbox"]["done"] == 1).then_some(()));
    world.broker.terminate();
    let data = world.homes[2].path();
    let path = data.join(HUB);
    let good = fs::read(&path).unwrap();
    for (what, damage) in DAMAGE {
        damage(&path);
        let args = ["broker", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
        let ended = Process::run(crate::support::home::command_in(data, &args));
        assert!(!ended.status.success(), "{what}: {ended:?}");
        assert!(ended.err.contains(path.to_str().unwrap()) && ended.err.contains("put back"), "{what}: {ended:?}");
        fs::write(&path, &good).unwrap();
    }
    world.broker.restart();
    world.bob.restart();
    assert_eq!(bob.follow(Some(0)).message("m-1").data["body"], "at the broker");
}

/// Rows that say they are due in an hour are what a clock that was set back by an hour leaves behind.
#[test]
fn a_clock_set_back_by_an_hour_holds_nothing_up() {
    const HOUR: i64 = 3_600_000;
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    alice.send(&bob.key, "x", "m-0");
    heard.message("m-0");
    world.broker.terminate();
    for n in 1..=20 {
        alice.send(&bob.key, "x", &format!("m-{n}"));
    }
    world.alice.kill();
    let shift = |file: &str, sql: &str| {
        let conn = Connection::open(world.homes[0].join("daemon").join(file)).unwrap();
        assert!(0 < conn.execute(sql, [HOUR]).unwrap(), "{sql}");
    };
    shift("outbox.db", "UPDATE outbox SET enqueued_at = enqueued_at + ?1, next_attempt_at = next_attempt_at + ?1");
    let hub = Connection::open(world.homes[2].join(HUB)).unwrap();
    hub.execute("UPDATE message SET created_at = created_at + ?1, expires_at = expires_at + ?1", [HOUR]).unwrap();
    hub.execute("UPDATE session SET last_seen_at = last_seen_at + ?1", [HOUR]).unwrap();
    drop(hub);
    world.bob.kill();
    let inbox = Connection::open(world.homes[1].join("daemon/inbox.db")).unwrap();
    assert_eq!(inbox.execute("UPDATE inbox SET received_at = received_at + ?1", [HOUR]).unwrap(), 1);
    drop(inbox);

    world.bob.restart();
    world.broker.restart();
    world.alice.restart();
    // What is sent now must not overtake what seems to be due later.
    alice.send(&bob.key, "x", "m-21");
    heard.message("m-21");
    let expected: Vec<String> = (0..=21).map(|n| format!("m-{n}")).collect();
    assert_eq!(ids(&heard), expected);
    let since = claudemesh::base::time::iso(now_millis() - 60_000);
    let listed = bob.call("GET", &format!("/v1/inbox?since={since}&limit=1000&mark_seen=false"), None).unwrap().json();
    let listed: Vec<&Value> = listed["items"].as_array().unwrap().iter().map(|item| &item["client_message_id"]).collect();
    assert!((1..=21).all(|n| listed.contains(&&json!(format!("m-{n}")))), "{listed:?}");
    assert_eq!(bob.unread().len(), 22);
}

#[test]
fn small_files_that_are_garbage_are_named_and_lose_nothing() {
    let garbage: [&[u8]; 4] = [b"", b"{\"version\":1,\"meshes\":[{", b"\x00\xff\xfe\x01 garbage", b"<html></html>"];
    for bytes in garbage {
        let mut world = World::pair();
        let alice = Session::open(&world.alice, "acme", "alice");
        let bob = Session::open(&world.bob, "acme", "bob");
        world.broker.kill();
        alice.send(&bob.key, "kept", "m-1");
        world.alice.kill();
        let home = world.homes[0].path();
        for name in ["daemon/host_fingerprint.json", "daemon/sessions.json", "daemon/local-token"] {
            fs::write(home.join(name), bytes).unwrap();
        }
        let config = home.join("config.json");
        let good = fs::read(&config).unwrap();
        fs::write(&config, bytes).unwrap();
        let ended = Daemon::refused(home, None);
        assert!(ended.err.contains(config.to_str().unwrap()), "{ended:?}");
        assert_eq!(fs::read(&config).unwrap(), bytes, "keys may be in it");

        // Without it nothing works, so a daemon that runs keeps to what it knows.
        fs::write(&config, &good).unwrap();
        world.broker.restart();
        world.alice.restart();
        let log = world.alice.log();
        assert!(
            log.contains("host_fingerprint.json could not be read") && log.contains("sessions.json could not be read"),
            "{log}"
        );
        assert_eq!(fs::read(home.join("daemon/sessions.json.corrupt")).unwrap(), bytes);
        alice.register(std::process::id());
        let heard = bob.follow(Some(0));
        assert_eq!(heard.message("m-1").data["body"], "kept");
        fs::write(&config, bytes).unwrap();
        until("the daemon to look at its configuration", || world.alice.log().contains("the meshes stay").then_some(()));
        alice.send(&bob.key, "as before", "m-2");
        heard.message("m-2");
    }
}

/// Odd but well-formed configurations name no mesh; making one must not throw away what else they hold.
#[test]
fn a_configuration_without_meshes_keeps_what_it_has() {
    let home = Home::new();
    fs::write(home.join("config.json"), json!({"displayName": "Ann", "groups": [{"name": "eng"}]}).to_string()).unwrap();
    let _daemon = Daemon::start(home.path());
    let config: Value = serde_json::from_slice(&fs::read(home.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["displayName"], &config["groups"][0]["name"]), (&"Ann".into(), &"eng".into()));
    assert_eq!(config["meshes"][0]["slug"], "home");
}
