//! A broker under clients that mean it harm, or might as well: each costs a bounded amount, is told of in the log, but not
//! for ever, and nobody else notices.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use claudemesh::broker::access::Access;
use claudemesh::broker::{self, Caps};
use claudemesh::crypto::keys::KeyPair;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::support::home::Home;
use crate::support::http;
use crate::support::process::resident;
use crate::support::raw::{Raw, RawMesh, UPGRADE};
use crate::support::servers::Broker;
use crate::support::wait::{PATIENCE, until};

/// A broker, and two who only want to write to each other.
struct Town {
    broker: Broker,
    mesh: RawMesh,
    alice: Raw,
    bob: Raw,
    bobs: KeyPair,
    sent: usize,
    _home: Home,
}

impl Town {
    fn new() -> Town {
        let home = Home::new();
        let mesh = RawMesh::create(home.path());
        let broker = Broker::start(home.path());
        let (alices, bobs) = (KeyPair::generate(), KeyPair::generate());
        let alice = Raw::connect(&broker.address, &mesh.hello(0, &alices));
        let bob = Raw::connect(&broker.address, &mesh.hello(1, &bobs));
        Town { broker, mesh, alice, bob, bobs, sent: 0, _home: home }
    }

    /// The two are served as ever.
    #[track_caller]
    fn assert_lives(&mut self) {
        self.sent += 1;
        let text = format!("text-{}-of-alice", self.sent);
        self.alice.send(&self.bobs, &text, &text);
        self.bob.read_until(format!("\"ciphertext\":\"{text}\"").as_bytes());
    }

    fn threads(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.broker.pid())).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok()).unwrap_or(0)
    }

    fn memory(&self) -> u64 {
        resident(self.broker.pid()).unwrap_or(0)
    }

    /// How often the broker's log has said this, now that it has ended.
    fn logged(mut self, what: &str) -> usize {
        self.broker.terminate().err.lines().filter(|line| line.contains(what)).count()
    }
}

fn metric(broker: &Broker, name: &str) -> usize {
    let page = http::get_tcp(&broker.address, "/metrics").unwrap().text();
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap_or_default()
}

#[test]
fn those_who_never_get_to_the_point_are_closed_and_cost_little() {
    const EACH: usize = 150;
    let mut town = Town::new();
    let (memory, threads) = (town.memory(), town.threads());
    let slow: Vec<Raw> = (0..EACH)
        .map(|n| {
            let mut stream = TcpStream::connect(&town.broker.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&UPGRADE.as_bytes()[..n % (UPGRADE.len() - 1)]).unwrap();
            Raw(stream)
        })
        .collect();
    let mute: Vec<Raw> = (0..EACH).map(|_| Raw::open(&town.broker.address)).collect();
    let silent = 2 * EACH as u64;
    assert!(town.threads() <= threads + silent, "{} threads", town.threads());
    assert!(town.memory() <= memory + silent * 128 * 1024, "{} bytes for {silent}", town.memory() - memory);
    town.assert_lives();
    slow.into_iter().for_each(|mut stream| drop(stream.read_to_end()));
    for mut socket in mute {
        assert!(socket.read_to_end().windows(8).any(|words| words == b"no hello"));
    }
    town.assert_lives();
    assert_eq!(metric(&town.broker, "broker_connections_rejected_total{reason=\"no_hello\"}"), EACH);
    until("their threads to end", || (town.threads() <= threads + 16).then_some(()));
    let lines = town.logged("it said no hello");
    assert!((1..=10).contains(&lines), "{lines} lines about {EACH}");
}

#[test]
fn frames_without_measure_are_cut_off() {
    let mut town = Town::new();
    let memory = town.memory();
    let begun: Vec<Raw> = (0..50)
        .map(|n| {
            let mut socket = Raw::open(&town.broker.address);
            // A text of 2^62 bytes, of which some come; or one in endless pieces.
            let (first, next) = if n % 2 == 0 { ([0x81, 0xff], false) } else { ([0x01, 0xff], true) };
            let length = if next { 8192_u64 } else { 1 << 62 };
            let head = |bytes: [u8; 2]| [&bytes[..], &length.to_be_bytes(), &[0; 4]].concat();
            let mut sent = socket.0.write_all(&head(first));
            for _ in 0..64 {
                sent = sent.and_then(|()| socket.0.write_all(&[b'x'; 8192]));
                if next {
                    sent = sent.and_then(|()| socket.0.write_all(&head([0x00, 0xff])));
                }
            }
            socket
        })
        .collect();
    for mut socket in begun {
        let end = socket.read_to_end();
        // Where the reset has not swallowed it: a Close, 1009.
        assert!(end.is_empty() || end.windows(2).any(|code| code == 1009_u16.to_be_bytes()), "{end:?}");
    }
    town.assert_lives();
    assert!(town.memory() <= memory + 50 * 256 * 1024, "{} bytes more", town.memory() - memory);
    let lines = town.logged("broke the protocol");
    assert!((1..=10).contains(&lines), "{lines} lines about 50");
}

#[test]
fn floods_and_readers_that_stop_are_held_back() {
    let mut town = Town::new();
    let memory = town.memory();
    // Each asks on and on and reads nothing of what it is told, until the broker does not read either.
    let deaf: Vec<Raw> = (2..22)
        .map(|n| {
            let mut socket = Raw::connect(&town.broker.address, &town.mesh.hello(n, &KeyPair::generate()));
            socket.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let end = Instant::now() + PATIENCE;
            while socket.say(r#"{"type":"list_peers","_reqId":"flood"}"#).is_ok() {
                assert!(Instant::now() < end, "the broker takes without end");
            }
            socket
        })
        .collect();
    town.assert_lives();
    // What its outbox holds, and the kernel's buffers are not counted as its own.
    assert!(town.memory() <= memory + 20 * 2 * 1024 * 1024, "{} bytes more", town.memory() - memory);
    drop(deaf);
    town.assert_lives();

    // Refused hellos, one connection after the other.
    for _ in 0..100 {
        let mut socket = Raw::open(&town.broker.address);
        let mut hello = town.mesh.hello(3, &KeyPair::generate());
        hello["signature"] = "00".repeat(64).into();
        socket.say(&hello.to_string()).unwrap();
        socket.read_until(b"bad_signature");
    }
    town.assert_lives();
    assert_eq!(metric(&town.broker, "broker_connections_rejected_total{reason=\"bad_signature\"}"), 100);
    let lines = town.logged("a hello was refused");
    assert!((1..=20).contains(&lines), "{lines} lines about 100");
}

#[test]
fn a_member_that_writes_and_searches_without_end_holds_up_nobody() {
    let mut town = Town::new();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // One member, by several connections: each asks on and on, and reads what it is told.
    let floods: Vec<_> = (0..4)
        .map(|n| {
            let mut socket = Raw::connect(&town.broker.address, &town.mesh.hello(2, &KeyPair::generate()));
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut refused = 0;
                for round in 0.. {
                    for ask in 0..50 {
                        let text = format!(r#"{{"type":"remember","content":"word{ask} and {round} of {n}"}}"#);
                        socket.say(&text).unwrap();
                        socket.say(r#"{"type":"recall","query":"word and of","_reqId":"q"}"#).unwrap();
                        socket.say(r#"{"type":"list_skills","_reqId":"q"}"#).unwrap();
                    }
                    socket.say(r#"{"type":"get_skill","name":"end","_reqId":"end"}"#).unwrap();
                    let heard = socket.take_until(br#""_reqId":"end""#);
                    refused += heard.windows(12).filter(|words| words == b"rate_limited").count();
                    if stop.load(std::sync::atomic::Ordering::Acquire) {
                        return refused;
                    }
                }
                refused
            })
        })
        .collect();
    for _ in 0..100 {
        town.assert_lives();
    }
    stop.store(true, std::sync::atomic::Ordering::Release);
    let refused: usize = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    assert!(0 < refused, "nobody was told to wait");
    town.assert_lives();
}

/// A connection from this address of the machine's own.
fn connect_from(from: Ipv4Addr, to: SocketAddrV4) -> TcpStream {
    let descriptor = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&descriptor, &SocketAddrV4::new(from, 0)).unwrap();
    connect(&descriptor, &to).unwrap();
    TcpStream::from(descriptor)
}

#[test]
fn one_address_can_not_take_every_place() {
    const EACH: usize = 40;
    let home = Home::new();
    let mesh = RawMesh::create(home.path());
    let options = broker::Options {
        data_dir: home.path().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        access: Access::closed(),
        public_status: false,
    };
    let caps = Caps { connections: 100, per_address: EACH, loopback_exempt: false };
    let running = broker::start_capped(options, caps).unwrap();
    let address: SocketAddrV4 = running.local_addr().to_string().parse().unwrap();
    let crowd = Ipv4Addr::new(127, 0, 0, 2);
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..1000 {
        let mut raw = Raw(connect_from(crowd, address));
        raw.0.set_read_timeout(Some(PATIENCE)).unwrap();
        if kept.len() < EACH {
            kept.push(Raw::over(raw.0));
        } else {
            let reply = String::from_utf8_lossy(&raw.read_to_end()).into_owned();
            assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 503"), "{reply}");
            refused += 1;
        }
    }
    assert_eq!(refused, 1000 - EACH);
    // Somebody from elsewhere finds a place.
    let other = Raw::over(connect_from(Ipv4Addr::LOCALHOST, address)).greet(&mesh.hello(0, &KeyPair::generate()));
    drop((kept, other));
    until("a place to be free again", || {
        let mut stream = connect_from(crowd, address);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(UPGRADE.as_bytes()).ok()?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).ok()?;
        (status == *b"HTTP/1.1 101").then_some(())
    });
    running.stop();
}
