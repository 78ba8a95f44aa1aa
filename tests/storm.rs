//! Storms of almost honest requests from those who have been let in: mutated frames on an admitted connection, and mutated
//! bodies to every route that takes one, signed as they should be. Each is answered, and afterwards the broker is as it was.
//! `CLAUDEMESH_FUZZ_ROUNDS` makes it long, and `CLAUDEMESH_SEED` is another course.

use std::collections::HashSet;
use std::net::TcpStream;

use claudemesh::base::time::now_millis;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random::id32;
use claudemesh::crypto::request::Request;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::support::home::Home;
use crate::support::http;
use crate::support::mutate;
use crate::support::process::resident;
use crate::support::random::{Random, seed};
use crate::support::raw::{Raw, RawMesh};
use crate::support::servers::Broker;
use crate::support::wait::PATIENCE;

/// Frames of one connection, and bodies of all routes.
const FRAMES: usize = 800;
const BODIES: usize = 300;

/// Frames on their way at once: few enough that the answers fit between the two ends.
const AT_ONCE: usize = 8;

/// How much more memory a broker may have in use after a storm than before, in bytes.
const GROWTH: u64 = 64 * 1024 * 1024;

fn rounds(otherwise: usize) -> usize {
    std::env::var("CLAUDEMESH_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What peers say to a broker, as cargo-fuzz begins with it.
fn seeds() -> Vec<Value> {
    let entries = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/frames")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("client-")));
    files.sort();
    files.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

/// A broker with two meshes: one for those who misbehave, and one of two people who only want to write to each other.
struct Town {
    broker: Broker,
    stormy: RawMesh,
    alice: Raw,
    bob: Raw,
    bobs: KeyPair,
    memory: u64,
    _home: Home,
}

impl Town {
    fn new() -> Town {
        let home = Home::new();
        let (quiet, stormy) = (RawMesh::create(home.path()), RawMesh::create(home.path()));
        let broker = Broker::start(home.path());
        let bobs = KeyPair::generate();
        let alice = Raw::connect(&broker.address, &quiet.hello(0, &KeyPair::generate()));
        let bob = Raw::connect(&broker.address, &quiet.hello(1, &bobs));
        let memory = resident(broker.pid()).unwrap_or(0);
        Town { broker, stormy, alice, bob, bobs, memory, _home: home }
    }

    /// The quiet ones are served as ever, nothing has broken, and what it cost is bounded.
    fn assert_unharmed(mut self) {
        self.alice.send(&self.bobs, "still-here", "still-here");
        self.bob.read_until(b"\"ciphertext\":\"still-here\"");
        self.broker.assert_healthy();
        let memory = resident(self.broker.pid()).unwrap_or(0);
        assert!(memory < self.memory + GROWTH, "{} KiB became {} KiB", self.memory / 1024, memory / 1024);
        let log = self.broker.terminate().err;
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Somebody who has been let in and says what comes to mind.
struct Intruder {
    socket: WebSocket<TcpStream>,
    said: usize,
}

impl Intruder {
    fn enter(town: &Town, member: usize) -> Intruder {
        let stream = TcpStream::connect(&town.broker.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let socket = tungstenite::client(town.broker.url(), stream).unwrap().0;
        let mut intruder = Intruder { socket, said: 0 };
        intruder.say(&town.stormy.hello(member, &KeyPair::generate()).to_string());
        assert_eq!(intruder.hear()["type"], "hello_ack");
        intruder
    }

    fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    fn hear(&mut self) -> Value {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(text.as_str()).unwrap(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Says all of these, and reads until what was asked last is answered; then each that has an id has been answered, too.
    fn say_all(&mut self, frames: &[(Option<String>, String)]) {
        self.said += 1;
        let last = format!("last-{}", self.said);
        frames.iter().for_each(|(_, text)| self.say(text));
        self.say(&json!({"type": "is_that_all", "_reqId": last}).to_string());
        let mut answered = HashSet::new();
        while !answered.contains(&last) {
            let frame = self.hear();
            answered.extend(["_reqId", "id"].iter().filter_map(|name| frame[*name].as_str()).map(str::to_owned));
        }
        for (id, text) in frames {
            assert!(id.as_ref().is_none_or(|id| answered.contains(id)), "not answered: {text:.400}");
        }
    }

    fn ask(&mut self, question: &Value) -> Value {
        self.say(&question.to_string());
        loop {
            let frame = self.hear();
            if frame["_reqId"] == question["_reqId"] {
                return frame;
            }
        }
    }
}

/// A frame that was almost honest, with the id that its answer must have, where it must have one.
fn frame(seed: &Value, n: usize, random: &mut Random) -> (Option<String>, String) {
    if random.index(4) == 0 {
        let bytes = mutate::bytes(seed.to_string().as_bytes(), random);
        return (None, String::from_utf8_lossy(&bytes).into_owned());
    }
    let mut frame = seed.clone();
    for _ in 0..=random.index(2) {
        mutate::bend(&mut frame, random);
    }
    let kind = seed["type"].as_str().unwrap_or_default();
    if frame["type"] != *kind || !frame.is_object() {
        return (None, frame.to_string());
    }
    let id = format!("q{n}");
    let name = if kind == "send" { "id" } else { "_reqId" };
    frame[name] = json!(id);
    let silent = ["client_ack", "take_receipts", "hello", "session_hello"].contains(&kind);
    (Some(id).filter(|_| !silent), frame.to_string())
}

fn storm(intruder: &mut Intruder, course: u64) {
    let (seeds, mut random) = (seeds(), Random::new(seed().wrapping_add(course)));
    let all: Vec<_> = (0..rounds(FRAMES)).map(|n| frame(&seeds[random.index(seeds.len())], n, &mut random)).collect();
    all.chunks(AT_ONCE).for_each(|some| intruder.say_all(some));
}

#[test]
fn frames_of_those_who_have_been_let_in_are_all_answered_and_harm_nobody() {
    let town = Town::new();
    for seed in seeds() {
        // As it is: each is one that the broker knows.
        Intruder::enter(&town, 2).say_all(&[(None, seed.to_string())]);
    }
    // The owner may do everything, to everybody but itself; a member may not.
    for (member, course) in [(0, 0), (3, 1)] {
        let other = Intruder::enter(&town, 4);
        storm(&mut Intruder::enter(&town, member), course);
        drop(other);
    }
    town.assert_unharmed();
}

/// Methods and routes, with what they take.
fn routes(mesh: &str, key: &str) -> Vec<(&'static str, String, Value)> {
    let token = "A".repeat(100);
    let payload = json!({"v": 1, "mesh_id": mesh, "mesh_slug": "raw", "broker_url": "wss://b/ws", "expires_at": 4_000_000_000_i64,
                         "mesh_root_key": "CQk", "role": "member", "owner_pubkey": key, "signature": "00".repeat(64)});
    let join = json!({"invite_token": token, "invite_payload": payload, "peer_pubkey": key, "display_name": "n"});
    vec![
        ("POST", "/join".to_owned(), join),
        ("POST", "/mesh".to_owned(), json!({"name": "N", "slug": "s", "display_name": "d"})),
        ("PATCH", format!("/mesh/{mesh}"), json!({"slug": "s", "name": "N"})),
        ("POST", format!("/mesh/{mesh}/leave"), json!({})),
        ("POST", "/invite".to_owned(), json!({"invite_token": token, "uses": 3})),
        ("DELETE", "/invite/x".to_owned(), json!({})),
        ("POST", "/invites/x/claim".to_owned(), json!({"code": "x"})),
        ("POST", "/api/v1/messages".to_owned(), json!({"topic": "#t", "message": "m", "priority": "now", "mentions": ["bob"]})),
        ("POST", "/api/v1/messages".to_owned(), json!({"to": "*", "ciphertext": "aGk=", "nonce": "bg==", "bodyVersion": 1})),
    ]
}

/// A request that carries a good signature, and a good key for scripts.
fn signed(key: &KeyPair, secret: &str, (method, path, body): (&str, &str, &[u8]), address: &str) -> http::Reply {
    let (timestamp, nonce) = (now_millis(), id32());
    let request = Request { method, path, body, key: key.public, timestamp, nonce: &nonce };
    let signature = format!("key={},ts={timestamp},nonce={nonce},sig={}", key.public, request.sign(&key.secret));
    let bearer = format!("Bearer {secret}");
    let proof = if path.starts_with("/api/") { ("Authorization", &*bearer) } else { ("X-ClaudeMesh-Signature", &*signature) };
    http::request_tcp(address, method, path, &[proof], Some(body)).unwrap()
}

#[test]
fn bodies_of_every_route_are_answered_and_harm_nobody() {
    let town = Town::new();
    let (mesh, key) = town.stormy.owner();
    let routes = routes(mesh, &key.public.to_hex());
    let mut intruder = Intruder::enter(&town, 0);
    intruder.ask(&json!({"type": "topic_create", "name": "t", "_reqId": "topic"}));
    let mut random = Random::new(seed());
    let mut secret = String::new();
    for n in 0..rounds(BODIES) {
        if n % 200 == 0 {
            // One key may ask only so often.
            let all = ["send", "read", "state_write"];
            let made =
                intruder.ask(&json!({"type": "apikey_create", "label": "ci", "capabilities": all, "_reqId": format!("k{n}")}));
            secret = made["secret"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        }
        let (method, path, seed) = &routes[random.index(routes.len())];
        let body = if random.index(3) == 0 {
            mutate::bytes(seed.to_string().as_bytes(), &mut random)
        } else {
            let mut body = seed.clone();
            mutate::bend(&mut body, &mut random);
            body.to_string().into_bytes()
        };
        let reply = signed(key, &secret, (method, path, &body), &town.broker.address);
        let shown = String::from_utf8_lossy(&body);
        assert!((200..500).contains(&reply.status) || reply.status == 501, "{method} {path} with {shown:.400}: {reply:?}");
    }
    town.assert_unharmed();
}
