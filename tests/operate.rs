//! Operating a broker: what it tells about itself and to whom, its database looked at and copied while it runs, its limits
//! by configuration, and its audit log.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::home::{Home, command_in};
use crate::support::http;
use crate::support::mesh::{HUB, World};
use crate::support::process::{Ended, Process};
use crate::support::servers::Broker;
use crate::support::session::Session;
use crate::support::wait::{PATIENCE, until};

/// `broker admin ...` on a data directory.
fn admin(data: &Path, args: &[&str]) -> Ended {
    let mut all = vec!["broker", "admin"];
    all.extend(args);
    all.extend(["--data", data.to_str().unwrap(), "--json"]);
    Process::run(command_in(data, &all))
}

#[track_caller]
fn told(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|err| panic!("{err}: {ended:?}"))
}

/// A `GET` with more headers than a test's own, and the reply as text.
fn get(broker: &Broker, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(&broker.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn sample(broker: &Broker, name: &str) -> u64 {
    let page = http::get_tcp(&broker.address, "/metrics").unwrap().text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
}

#[test]
fn a_broker_tells_of_itself_to_whom_it_should() {
    let world = World::pair();
    let (alice, bob) = (Session::open(&world.alice, "acme", "alice-secret-name"), Session::open(&world.bob, "acme", "bob"));
    let heard = bob.follow(Some(0));
    alice.send(&bob.key, "hello", "m-1");
    heard.message("m-1");
    let broker = &world.broker;
    until("the acknowledgement to be counted", || (sample(broker, "broker_acks_total") == 1).then_some(()));
    assert_eq!(sample(broker, "broker_messages_routed_total{priority=\"next\"}"), 1);
    assert_eq!(sample(broker, "broker_deliveries_total"), 1);
    assert_eq!(sample(broker, "broker_queue_depth"), 0);
    assert_eq!(sample(broker, "broker_connections{kind=\"session\"}"), 2);
    assert_eq!(sample(broker, "broker_connections{kind=\"member\"}"), 2);
    assert_eq!(sample(broker, "broker_store_seconds_count"), 1);
    assert_eq!(sample(broker, "broker_db_healthy"), 1);

    let ready = http::get_tcp(&broker.address, "/health/ready").unwrap();
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("ready")));
    let page = http::get_tcp(&broker.address, "/").unwrap();
    assert_eq!(page.status, 200);
    assert!(http::header(&page.head, "content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    for secret in ["alice", "bob", "acme", alice.key.as_str(), bob.key.as_str()] {
        assert!(!page.text().contains(secret), "{secret} in {page:?}");
        assert!(!http::get_tcp(&broker.address, "/metrics").unwrap().text().contains(secret), "{secret}");
    }

    for path in ["/metrics", "/"] {
        assert!(get(broker, path, "Host: 127.0.0.1:1\r\n").starts_with("HTTP/1.1 200"));
        // Through a proxy on this machine, or from a page whose name was made to lead here.
        for headers in
            ["Host: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.1\r\n", "Host: 127.0.0.1\r\nVia: 1.1 x\r\n", "Host: evil.example\r\n"]
        {
            assert!(get(broker, path, headers).starts_with("HTTP/1.1 404"), "{path} with {headers}");
        }
    }
    assert!(get(broker, "/health/ready", "Host: evil.example\r\n").starts_with("HTTP/1.1 200"), "readiness is no secret");
}

#[test]
fn a_database_is_looked_at_and_copied_while_the_broker_runs() {
    let mut world = World::pair();
    let (alice, bob) = (Session::open(&world.alice, "acme", "alice"), Session::open(&world.bob, "acme", "bob"));
    let heard = bob.follow(Some(0));
    alice.send(&bob.key, "the very words", "m-1");
    heard.message("m-1");
    let data = world.homes[2].path().to_owned();

    let meshes = told(&admin(&data, &["meshes"]));
    assert_eq!((&meshes["meshes"][0]["slug"], &meshes["meshes"][0]["members"]), (&json!("acme"), &json!(2)));
    let members = told(&admin(&data, &["members", "acme"]));
    assert_eq!(members["members"].as_array().map(Vec::len), Some(2));
    assert_eq!(admin(&data, &["members", "nowhere"]).status.code(), Some(5));
    let verdict = told(&admin(&data, &["verify"]));
    assert_eq!(verdict["valid"], true);
    // Four that came. The message is not there: nobody asked for that.
    assert_eq!(verdict["chains"][0]["entries"], 4, "{verdict}");

    let file = data.join("monday.db");
    let backup = |file: &Path| admin(&data, &["backup", file.to_str().unwrap()]);
    assert!(backup(&file).status.success());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(backup(&file).status.code(), Some(6), "what is there is not written over");
    let nowhere = backup(&data.join("no/such/monday.db"));
    assert!(nowhere.status.code() == Some(10) && nowhere.out.contains("there is no directory"), "{nowhere:?}");
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(14).any(|window| window == b"the very words"), "a direct message is sealed");

    for args in [&["restore", file.to_str().unwrap()][..], &["compact"]] {
        let refused = admin(&data, args);
        assert!(!refused.status.success() && refused.out.contains("another broker"), "{refused:?}");
    }
    world.broker.terminate();
    let sizes = told(&admin(&data, &["compact"]));
    assert!(sizes["after"].as_u64() <= sizes["before"].as_u64(), "{sizes}");
    let restored = told(&admin(&data, &["restore", file.to_str().unwrap()]));
    assert!(Path::new(restored["kept"].as_str().unwrap()).is_file(), "{restored}");
    assert!(!admin(&data, &["restore", world.homes[0].path().join("config.json").to_str().unwrap()]).status.success());
    assert_eq!(told(&admin(&data, &["verify"]))["valid"], true);
    world.broker.restart();
    alice.send(&bob.key, "after all that", "m-2");
    heard.message("m-2");
}

#[test]
fn an_audit_log_that_was_changed_is_found_out() {
    let mut world = World::pair();
    world.broker.terminate();
    std::fs::write(world.homes[2].path().join("broker.json"), r#"{"auditMessages": true}"#).unwrap();
    world.broker.restart();
    let (alice, bob) = (Session::open(&world.alice, "acme", "alice"), Session::open(&world.bob, "acme", "bob"));
    let heard = bob.follow(Some(0));
    for n in 0..3 {
        alice.send(&bob.key, "hello", &format!("m-{n}"));
    }
    heard.message("m-2");
    world.broker.terminate();
    let data = world.homes[2].path();
    assert_eq!(told(&admin(data, &["verify"]))["valid"], true);
    // One hexadecimal digit in the file: of the recipient, in the payload of the second message.
    let file = data.join(HUB);
    let mut bytes = std::fs::read(&file).unwrap();
    let what = format!("\"targetSpec\":\"{}", bob.key);
    let at: Vec<usize> = (0..bytes.len() - what.len()).filter(|at| bytes[*at..].starts_with(what.as_bytes())).collect();
    assert_eq!(at.len(), 3, "each message once");
    let digit = &mut bytes[at[1] + what.len() - 1];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    std::fs::write(&file, bytes).unwrap();
    let ended = admin(data, &["verify"]);
    let verdict = told(&ended);
    assert!(!ended.status.success() && verdict["valid"] == false, "{verdict}");
    assert!(verdict["chains"][0]["brokenAt"].is_u64(), "{verdict}");
}

#[test]
fn a_queue_that_is_full_refuses_and_takes_again() {
    let mut world = World::pair();
    let data = world.homes[2].path().to_owned();
    world.broker.terminate();
    std::fs::write(data.join("broker.json"), r#"{"recipientMib": 1}"#).unwrap();
    world.broker.restart();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    world.bob.kill();
    let body = "x".repeat(40_000);
    for n in 0..40 {
        alice.send(&bob.key, &body, &format!("m-{n}"));
    }
    until("a refusal for want of room", || {
        (0 < sample(&world.broker, "broker_messages_rejected_total{reason=\"capacity\"}")).then_some(())
    });
    let queue = told(&admin(&data, &["queue"]));
    let bytes = queue["queue"][0]["bytes"].as_u64().unwrap();
    assert!((512 * 1024..=1024 * 1024).contains(&bytes), "{queue}");
    assert_eq!(queue["queue"][0]["recipient"], bob.key.as_str());
    // Nothing is lost by it: what was refused waits with its sender.
    world.bob.restart();
    let heard = bob.follow(Some(0));
    heard.count(40);
    let order: Vec<_> = heard.messages().iter().map(|message| message.data["client_message_id"].clone()).collect();
    assert_eq!(order, (0..40).map(|n| json!(format!("m-{n}"))).collect::<Vec<_>>());
}

#[test]
fn settings_that_make_no_sense_keep_a_broker_from_starting() {
    let home = Home::new();
    std::fs::write(home.path().join("broker.json"), r#"{"recipientMib": 0}"#).unwrap();
    let data = home.path().to_str().unwrap();
    let ended = Process::run(command_in(home.path(), &["broker", "--listen", "127.0.0.1:0", "--data", data]));
    assert!(!ended.status.success() && ended.err.contains("recipientMib must be at least 1"), "{ended:?}");
    let empty = Home::new();
    let ended = admin(empty.path(), &["meshes"]);
    assert!(!ended.status.success() && ended.out.contains("no broker's database"), "{ended:?}");
    assert!(!empty.path().join(HUB).exists(), "asking makes nothing");
}
