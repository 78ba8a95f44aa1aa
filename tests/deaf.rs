//! Who stops reading costs a bounded amount and harms nobody else: a subscriber, a peer, a broker.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use claudemesh::base::ids::{MemberKey, MeshId, SessionKey};
use claudemesh::base::time::now_millis;
use claudemesh::crypto::hello::{Attestation, SessionHello};
use claudemesh::crypto::keys::{KeyPair, SecretKey};
use claudemesh::wire::limits::PUSH_WINDOW;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::support::mesh::World;
use crate::support::process::resident;
use crate::support::proxy::Way;
use crate::support::session::Session;
use crate::support::wait::{PATIENCE, until};

/// What nobody reads in these tests, in bytes: many times what may be kept of it.
const HEAP: usize = 48 * 1024 * 1024;

/// What a process may grow by meanwhile. Its queues for one who stopped reading hold a few megabytes; the rest is what an
/// allocator keeps.
const ROOM: u64 = 28 * 1024 * 1024;

/// Texts of the largest size that many are sent in.
const TEXT: usize = 40_000;

/// Remembers how large a process is, to be asked later how much it grew.
struct Size {
    pid: u32,
    before: Option<u64>,
}

impl Size {
    fn of(pid: u32) -> Size {
        Size { pid, before: resident(pid) }
    }

    #[track_caller]
    fn has_hardly_grown(&self, what: &str) {
        let (Some(before), Some(now)) = (self.before, resident(self.pid)) else {
            eprintln!("{what}: its size can not be seen here");
            return;
        };
        assert!(now < before + ROOM, "{what} grew from {before} to {now} bytes");
    }
}

#[test]
fn subscribers_that_stop_reading_are_bounded() {
    const DEAF: usize = 16;
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let text = "x".repeat(TEXT);
    // The first ones warm the process up.
    let heard = bob.follow(Some(0));
    alice.send(&bob.key, &text, "m-0");
    heard.message("m-0");
    let size = Size::of(world.bob.pid());
    let subscribe = |cursor: &str| {
        let mut stream = UnixStream::connect(world.bob.socket()).unwrap();
        write!(stream, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{cursor}\r\n").unwrap();
        stream
    };
    let deaf: Vec<UnixStream> = (0..DEAF).map(|_| subscribe("")).collect();
    let count = HEAP / TEXT / 5;
    for n in 1..=count {
        alice.send(&bob.key, &text, &format!("m-{n}"));
    }
    heard.message(&format!("m-{count}"));
    assert_eq!(heard.messages().len(), count + 1, "who reads has all of it");
    // These ask for everything that there is, and read none of it.
    let late: Vec<UnixStream> = (0..DEAF).map(|_| subscribe("Last-Event-ID: 0\r\n")).collect();
    alice.send(&bob.key, &text, "m-last");
    heard.message("m-last");
    size.has_hardly_grown("a daemon with subscribers that do not read");
    drop((deaf, late));
    world.bob.assert_healthy();
}

/// A session that speaks to the broker by itself, under bob's membership.
fn raw_session(world: &World, key: &KeyPair) -> WebSocket<TcpStream> {
    let config: Value = serde_json::from_slice(&std::fs::read(world.homes[1].join("config.json")).unwrap()).unwrap();
    let entry = &config["meshes"][0];
    let text = |name: &str| entry[name].as_str().unwrap();
    let secret = SecretKey::parse_hex(text("secretKey")).unwrap();
    let (member, session, now) = (MemberKey(secret.public()), SessionKey(key.public), now_millis());
    let word = Attestation::mint(&secret, session, now);
    let mesh = MeshId::new(text("meshId"));
    let hello = SessionHello { mesh_id: &mesh, member, session, timestamp: now };
    let stream = TcpStream::connect(&world.broker.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut socket, _) = tungstenite::client(world.broker.url(), stream).unwrap();
    let hello = json!({
        "type": "session_hello", "meshId": text("meshId"), "parentMemberId": text("memberId"), "parentMemberPubkey": member,
        "sessionPubkey": session, "parentAttestation": {"sessionPubkey": session, "parentMemberPubkey": member,
        "expiresAt": word.expires_at, "signature": word.signature.to_string()}, "displayName": "raw", "sessionId": "raw",
        "pid": 1, "cwd": "/", "timestamp": now, "signature": hello.sign(&key.secret).to_string(),
    });
    socket.send(Message::text(hello.to_string())).unwrap();
    until_frame(&mut socket, "hello_ack");
    socket
}

fn until_frame(socket: &mut WebSocket<TcpStream>, kind: &str) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind && frame["subtype"] != "system" {
                return frame;
            }
        }
    }
}

#[test]
fn a_peer_that_stops_reading_is_bounded_and_keeps_its_mail() {
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    let key = KeyPair::generate();
    let deaf = raw_session(&world, &key);
    let text = "x".repeat(TEXT);
    alice.send(&bob.key, &text, "b-0");
    heard.message("b-0");
    let size = Size::of(world.broker.pid());
    let count = HEAP / TEXT;
    for n in 0..count {
        alice.send(&key.public.to_hex(), &text, &format!("m-{n}"));
        if n % 100 == 0 {
            alice.send(&bob.key, "meanwhile", &format!("b-{}", n / 100 + 1));
        }
    }
    heard.message(&format!("b-{}", (count - 1) / 100 + 1));
    until("the outbox to be empty", || {
        let outbox = &world.alice.get("/v1/health").json()["outbox"];
        (outbox["pending"] == 0 && outbox["inflight"] == 0).then_some(())
    });
    size.has_hardly_grown("a broker with a peer that does not read");
    world.broker.assert_healthy();

    // Back with its ears open, it has everything from the first on, and acknowledges some of it.
    let mut socket = raw_session(&world, &key);
    drop(deaf);
    for n in 0..PUSH_WINDOW + 50 {
        let push = until_frame(&mut socket, "push");
        assert_eq!(push["client_message_id"], format!("m-{n}"));
        let ack =
            json!({"type": "client_ack", "clientMessageId": push["client_message_id"], "brokerMessageId": push["messageId"]});
        socket.send(Message::text(ack.to_string())).unwrap();
    }
}

#[test]
fn a_broker_that_stops_reading_is_bounded() {
    let world = World::through_proxies();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    let text = "x".repeat(TEXT);
    alice.send(&bob.key, &text, "m-0");
    heard.message("m-0");
    let size = Size::of(world.alice.pid());
    world.proxies[0].stall(Way::ToBroker);
    let count = HEAP / TEXT / 2;
    for n in 1..=count {
        alice.send(&bob.key, &text, &format!("m-{n}"));
    }
    size.has_hardly_grown("a daemon whose broker does not read");
    world.alice.assert_healthy();
    world.proxies[0].resume();
    heard.message(&format!("m-{count}"));
    let ids: Vec<_> = heard.messages().iter().map(|event| event.data["client_message_id"].clone()).collect();
    assert_eq!(ids, (0..=count).map(|n| format!("m-{n}")).collect::<Vec<_>>());
}
