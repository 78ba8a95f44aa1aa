//! The connection to the broker is cut, stalled, or carries garbage at random moments: everything that was acknowledged
//! arrives exactly once and in order all the same. More rounds by `CLAUDEMESH_ROUNDS`, another course by `CLAUDEMESH_SEED`.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::crash::{Senders, check, rounds, run};
use crate::support::home::Home;
use crate::support::mesh::{Mesh, World, configure};
use crate::support::proxy::{Cut, Mangle, Proxy, Way};
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

/// Rounds of each test, unless told otherwise.
const ROUNDS: u64 = 50;

/// Messages of each thread in one round: there are many rounds, and a fault lasts longer than its round.
const BURST: u64 = 10;

fn misbehaving(what: &str, choose: fn(u64) -> Vec<usize>) {
    let world = World::through_proxies();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    let senders = Senders::in_bursts(alice, &bob.key, BURST);
    let before: Vec<u64> = world.proxies.iter().map(Proxy::made).collect();
    let sent = run(what, rounds(ROUNDS), senders, |random| {
        for side in choose(random.next()) {
            world.proxies[side].misbehave(random);
        }
    });
    // The last fault may have left a connection that would be found dead only after a minute.
    world.proxies.iter().for_each(|proxy| proxy.cut(Cut::Fin));
    check(sent, &heard, &bob);
    let made: u64 = world.proxies.iter().zip(before).map(|(proxy, before)| proxy.made() - before).sum();
    assert!(0 < made, "no fault was ever felt");
}

#[test]
fn the_senders_connection_misbehaves() {
    misbehaving("the sender's connection", |_| vec![0]);
}

#[test]
fn the_recipients_connection_misbehaves() {
    misbehaving("the recipient's connection", |_| vec![1]);
}

#[test]
fn both_connections_misbehave() {
    misbehaving("both connections", |random| if random % 3 == 0 { vec![0, 1] } else { vec![usize::from(random % 2 == 0)] });
}

/// Nothing comes back and nothing fails: only the missing answer tells.
#[test]
fn a_stalled_link_is_noticed_and_delays_no_other_mesh() {
    let homes = [(); 4].map(|()| Home::new());
    let meshes = [Mesh::create(homes[2].path(), "acme"), Mesh::create(homes[3].path(), "beta")];
    let brokers = [Broker::start(homes[2].path()), Broker::start(homes[3].path())];
    let proxy = Proxy::start(&brokers[0].address);
    configure(homes[0].path(), &[meshes[0].entry(0, &proxy.url()), meshes[1].entry(0, &brokers[1].url())]);
    configure(homes[1].path(), &[meshes[0].entry(1, &brokers[0].url()), meshes[1].entry(1, &brokers[1].url())]);
    let [near, far] = [Daemon::start(homes[0].path()), Daemon::start(homes[1].path())];
    let [from_acme, from_beta] = ["acme", "beta"].map(|mesh| Session::open(&near, mesh, "alice"));
    let [to_acme, to_beta] = ["acme", "beta"].map(|mesh| Session::open(&far, mesh, "bob"));
    let (heard_acme, heard_beta) = (to_acme.follow(Some(0)), to_beta.follow(Some(0)));
    from_acme.send(&to_acme.key, "before", "a-0");
    heard_acme.message("a-0");

    [Way::ToBroker, Way::ToDaemon].into_iter().for_each(|way| proxy.stall(way));
    let connections = proxy.made();
    from_acme.send(&to_acme.key, "into the void", "a-1");
    for n in 0..20 {
        from_beta.send(&to_beta.key, "on another mesh", &format!("b-{n}"));
    }
    heard_beta.message("b-19");
    assert!(!heard_acme.messages().iter().any(|event| event.data["client_message_id"] == "a-1"), "the stall does not stall");

    // The stalled connections stay as they are: the daemon gives them up by itself.
    from_acme.send(&to_acme.key, "after", "a-2");
    heard_acme.message("a-2");
    let ids: Vec<_> = heard_acme.messages().iter().map(|event| event.data["client_message_id"].clone()).collect();
    assert_eq!(ids, ["a-0", "a-1", "a-2"]);
    assert!(connections < proxy.made(), "it came over another connection");
}

/// Leaving a mesh takes nothing back that was accepted: it waits, and goes when the mesh is joined again.
#[test]
fn what_waits_on_a_mesh_that_is_left_goes_when_it_is_joined_again() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    let home = world.homes[0].path();
    let config: Value = serde_json::from_slice(&std::fs::read(home.join("config.json")).unwrap()).unwrap();
    let entries = config["meshes"].as_array().unwrap();
    let joined = |world: &World, count: usize| {
        until("the daemon to follow its configuration", || {
            let health = world.alice.get("/v1/health").json();
            (health["meshes"].as_object().map_or(0, Map::len) == count).then_some(())
        });
    };
    world.broker.terminate();
    for n in 0..10 {
        alice.send(&bob.key, "before it is left", &format!("m-{n}"));
    }
    configure(home, &[]);
    joined(&world, 0);
    let refused = alice.try_send(&bob.key, "too late", "m-10").unwrap();
    assert_eq!((refused.status, &refused.json()["error"]), (404, &"mesh_not_attached".into()), "{refused:?}");
    // A retry of what was accepted is still known.
    assert_eq!(alice.try_send(&bob.key, "before it is left", "m-9").unwrap().status, 202);
    world.broker.restart();
    assert_eq!(world.alice.get("/v1/health").json()["outbox"]["pending"], 10);

    configure(home, entries);
    joined(&world, 1);
    alice.send(&bob.key, "after", "m-10");
    heard.message("m-10");
    let ids: Vec<_> = heard.messages().iter().map(|event| event.data["client_message_id"].clone()).collect();
    assert_eq!(ids, (0..=10).map(|n| format!("m-{n}")).collect::<Vec<_>>());
}

/// Half a frame, or noise where a frame should begin: each ends the connection and nothing else.
#[test]
fn every_kind_of_damage_ends_the_connection_alone() {
    let world = World::through_proxies();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    let mut n = 0;
    for proxy in &world.proxies {
        for way in [Way::ToBroker, Way::ToDaemon] {
            for mangle in [Mangle::Truncate(Cut::Fin), Mangle::Truncate(Cut::Reset), Mangle::Delay(Duration::from_millis(30))] {
                proxy.mangle(way, mangle);
                for _ in 0..3 {
                    alice.send(&bob.key, "x", &format!("m-{n}"));
                    n += 1;
                }
                heard.message(&format!("m-{}", n - 1));
            }
        }
    }
    let ids: Vec<_> = heard.messages().iter().map(|event| event.data["client_message_id"].clone()).collect();
    assert_eq!(ids, (0..n).map(|n| format!("m-{n}")).collect::<Vec<_>>());
    world.alice.assert_healthy();
    world.bob.assert_healthy();
    world.broker.assert_healthy();
}
