//! Files that are damaged: the error names the file and what to do, what can be kept is kept, and once the file is well all
//! goes on by itself.

use std::fs::{self, File};
use std::path::Path;

use serde_json::{Value, json};

use crate::disk::ids;
use crate::support::home::Home;
use crate::support::mesh::{HUB, World};
use crate::support::process::Process;
use crate::support::random::{Random, seed};
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

/// Damages a part of a file with noise.
fn scribble(path: &Path, from: usize, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    let mut random = Random::new(seed());
    let end = (from + length).min(bytes.len());
    bytes[from..end].iter_mut().for_each(|byte| *byte = random.next().to_le_bytes()[0]);
    fs::write(path, bytes).unwrap();
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
        until("the daemon to say what it did", || {
            let log = world.bob.log();
            (log.contains(path.to_str().unwrap()) && log.contains("put aside as")).then_some(())
        });
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
        // Whose files these are is looked at before what the configuration says.
        assert!(ended.err.contains("host_fingerprint.json could not be read"), "{ended:?}");
        let named = || world.alice.log().contains("sessions.json could not be read");
        until("the daemon to say that it knows no sessions", || named().then_some(()));
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
