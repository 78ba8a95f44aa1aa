//! A disk that is full, read-only, or under a clock that was set back: the error says what happened and what to
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
use crate::support::sandbox::Sandbox;
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;

/// Client ids in the order in which they came.
pub(crate) fn ids(heard: &Follower) -> Vec<String> {
    heard.messages().iter().map(|event| event.data["client_message_id"].as_str().unwrap().to_owned()).collect()
}

/// Fills what room there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [64 * 1024, 1024, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
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
    sandbox.shell(&format!("mount -t tmpfs -o size=24m,mode=0700 none {inside} && cp {}/{HUB} {inside}", made.display()));
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
