//! A real broker on a loopback port, spoken to by hand: what it says, in which order, and how it closes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::*;
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, SessionKey, Slug};
use crate::base::time::now_millis;
use crate::crypto::hello as signed;
use crate::crypto::keys::KeyPair;
use crate::net::dial;
use crate::net::ws::{self, End, Flow, Handle, Outbox};
use crate::store::hub::{NewMember, NewMesh, Role};
use crate::wire::json::{self, Value, json};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    broker: Option<Running>,
    dir: PathBuf,
    mesh: MeshId,
    members: Vec<(MemberId, KeyPair)>,
}

impl World {
    /// A mesh with two members.
    fn new(name: &str) -> World {
        let dir = std::env::temp_dir().join(format!("claudemesh-broker-{}-{name}", std::process::id()));
        let broker = start(Options {
            data_dir: dir.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            access: Access::closed(),
            public_status: false,
        })
        .unwrap();
        let mesh = MeshId::new("mesh");
        let members: Vec<_> = (1..=2).map(|n| (MemberId::new(format!("m{n}")), KeyPair::from_seed([n; 32]))).collect();
        let row = |(id, key): &(MemberId, KeyPair), role| NewMember {
            id: id.clone(),
            mesh: mesh.clone(),
            key: MemberKey(key.public),
            display_name: id.to_string(),
            role,
            now: now_millis(),
        };
        let new =
            NewMesh { id: mesh.clone(), slug: Slug::new("m"), name: "M".into(), owner: MemberKey(members[0].1.public), now: 0 };
        broker.hub().create_mesh(new, row(&members[0], Role::Admin)).unwrap();
        broker.hub().add_member(row(&members[1], Role::Member)).unwrap();
        World { broker: Some(broker), dir, mesh, members }
    }

    fn running(&self) -> &Running {
        self.broker.as_ref().unwrap()
    }

    fn connect(&self) -> Client {
        Client::dial(self.running().local_addr())
    }

    fn hello(&self, member: usize) -> Value {
        let (id, key) = &self.members[member];
        let (timestamp, pubkey) = (now_millis(), key.public.to_hex());
        let hello = signed::Hello { mesh_id: &self.mesh, member_id: id, pubkey: &pubkey, timestamp };
        json!({"type": "hello", "meshId": self.mesh, "memberId": id, "pubkey": pubkey, "sessionId": "daemon-1", "pid": 1, "cwd": "/",
               "timestamp": timestamp, "signature": hello.sign(&key.secret).to_string()})
    }

    fn session_hello(&self, member: usize, session: &KeyPair, name: &str) -> Value {
        let (id, key) = &self.members[member];
        let (member, public, now) = (MemberKey(key.public), SessionKey(session.public), now_millis());
        let word = signed::Attestation::mint(&key.secret, public, now);
        let hello = signed::SessionHello { mesh_id: &self.mesh, member, session: public, timestamp: now };
        json!({"type": "session_hello", "meshId": self.mesh, "parentMemberId": id, "parentMemberPubkey": member, "sessionPubkey": public,
               "parentAttestation": {"sessionPubkey": public, "parentMemberPubkey": member, "expiresAt": word.expires_at,
                                     "signature": word.signature.to_string()},
               "displayName": name, "sessionId": format!("id-{name}"), "pid": 1, "cwd": "/", "timestamp": now,
               "signature": hello.sign(&session.secret).to_string()})
    }

    /// A session that has been let in.
    fn session(&self, member: usize, seed: u8, name: &str) -> (Client, PublicKey) {
        let key = KeyPair::from_seed([seed; 32]);
        let client = self.connect();
        client.say(&self.session_hello(member, &key, name));
        assert_eq!(client.next("hello_ack")["memberDisplayName"], name);
        (client, key.public)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// One connection, on a thread of its own.
struct Client {
    handle: Handle<String>,
    heard: Receiver<Value>,
    ended: Receiver<End>,
}

struct Talk {
    heard: Sender<Value>,
    deaf: bool,
}

impl ws::Peer for Talk {
    type Cmd = String;

    fn on_text(&mut self, text: &str, _: Instant, _: &mut Outbox) -> Flow {
        self.heard.send(json::decode(text.as_bytes()).unwrap()).map_or(Flow::close(1000, ""), |()| Flow::Go)
    }

    fn on_cmd(&mut self, text: String, _: Instant, out: &mut Outbox) -> Flow {
        match text.as_str() {
            "deaf" => self.deaf = true,
            _ => match text.strip_prefix("close:") {
                Some(reason) => return Flow::close(1000, reason.to_owned()),
                None => out.text(text),
            },
        }
        Flow::Go
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn on_deadline(&mut self, _: Instant, _: &mut Outbox) -> Flow {
        Flow::Go
    }

    fn wants_read(&self) -> bool {
        !self.deaf
    }
}

impl Client {
    fn dial(address: SocketAddr) -> Client {
        let url = dial::Url::parse(&format!("ws://{address}/ws")).unwrap();
        let limits = ws::Limits { max_message: 1 << 22, read_buffer: 4096 };
        let mut socket = dial::connect(&url, limits, Instant::now() + PATIENCE).unwrap();
        let (handle, inbox) = ws::channel(4096).unwrap();
        let (sender, heard) = unbounded();
        let (done, ended) = unbounded();
        std::thread::spawn(move || {
            let end = ws::run(&mut socket, &mut Talk { heard: sender, deaf: false }, &inbox);
            let _ = done.send(end);
        });
        Client { handle, heard, ended }
    }

    fn say(&self, frame: &Value) {
        self.say_text(&frame.to_string());
    }

    fn say_text(&self, text: &str) {
        self.handle.try_send(text.to_owned()).unwrap();
    }

    /// The next frame that is no event; it must be of this type.
    #[track_caller]
    fn next(&self, kind: &str) -> Value {
        loop {
            let frame = self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {kind} came"));
            if frame["subtype"] != "system" || kind == "event" {
                assert_eq!(frame["type"], if kind == "event" { "push" } else { kind }, "{frame}");
                return frame;
            }
        }
    }

    /// The next event of this name.
    #[track_caller]
    fn event(&self, name: &str) -> Value {
        loop {
            let frame = self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {name} came"));
            if frame["event"] == name {
                return frame["eventData"].clone();
            }
        }
    }

    fn send(&self, id: &str, to: &str, text: &str, priority: &str) {
        let fingerprint = crate::base::hex::encode(&crate::crypto::fingerprint::sha256(text.as_bytes()));
        self.say(
            &json!({"type": "send", "id": id, "client_message_id": id, "request_fingerprint": fingerprint, "targetSpec": to,
                         "priority": priority, "nonce": "n", "ciphertext": text}),
        );
    }

    #[track_caller]
    fn sent(&self, id: &str, to: &str, text: &str) -> Value {
        self.send(id, to, text, "next");
        let ack = self.next("ack");
        assert_eq!(ack["id"], id);
        ack
    }

    fn ack(&self, push: &Value) {
        self.say(
            &json!({"type": "client_ack", "clientMessageId": push["client_message_id"], "brokerMessageId": push["messageId"]}),
        );
    }

    /// The code and the reason with which the broker closed.
    #[track_caller]
    fn closed(&self) -> (u16, String) {
        match self.ended.recv_timeout(PATIENCE).unwrap() {
            End::ClosedByPeer { code, reason } => (code, reason),
            end => panic!("{end}"),
        }
    }

    /// Nothing more has been said: an answer to a question asked now comes next.
    #[track_caller]
    fn is_quiet(&self) {
        self.say(&json!({"type": "set_summary", "summary": "s", "_reqId": "quiet"}));
        assert_eq!(self.next("ack")["_reqId"], "quiet");
    }
}

#[test]
fn a_hello_that_does_not_hold_is_refused_in_the_references_words() {
    let world = World::new("refusals");
    let session = KeyPair::from_seed([9; 32]);
    let other = KeyPair::from_seed([8; 32]);
    let change = |mut hello: Value, key: &str, value: Value| {
        hello[key] = value;
        hello
    };
    let upper = world.members[0].1.public.to_hex().to_uppercase();
    let mut foreign = world.session_hello(0, &session, "s");
    foreign["parentAttestation"]["sessionPubkey"] = json!(other.public);
    let mut expired = world.session_hello(0, &session, "s");
    expired["parentAttestation"]["expiresAt"] = json!(1000);
    let cases = [
        (change(world.hello(0), "timestamp", json!(now_millis() - 61_000)), "timestamp_skew", "hello rejected: timestamp_skew"),
        (change(world.hello(0), "signature", json!("00".repeat(64))), "bad_signature", "hello rejected: bad_signature"),
        (change(world.hello(0), "signature", json!("zz")), "malformed", "hello rejected: malformed"),
        (change(world.hello(0), "meshId", json!("other")), "bad_signature", "hello rejected: bad_signature"),
        (change(world.hello(0), "pubkey", json!(upper)), "bad_signature", "hello rejected: bad_signature"),
        (
            change(world.hello(0), "sessionPubkey", json!("AB")),
            "bad_session_pubkey",
            "sessionPubkey must be 64 lowercase hex chars",
        ),
        (
            change(world.session_hello(0, &session, "s"), "sessionPubkey", json!("x")),
            "bad_session_pubkey",
            "sessionPubkey must be 64 lowercase hex chars",
        ),
        (
            change(world.session_hello(0, &session, "s"), "parentMemberPubkey", json!("x")),
            "bad_parent_pubkey",
            "parentMemberPubkey must be 64 lowercase hex chars",
        ),
        (foreign, "attestation_mismatch", "parentAttestation does not bind the claimed session+parent pubkeys"),
        (expired, "expired", "attestation rejected: expired"),
        (
            change(world.session_hello(0, &session, "s"), "parentMemberId", json!("nobody")),
            "parent_member_id_mismatch",
            "parentMemberId does not match parentMemberPubkey",
        ),
    ];
    for (hello, code, message) in cases {
        let client = world.connect();
        client.say(&hello);
        let error = client.next("error");
        assert_eq!((error["code"].as_str(), error["message"].as_str()), (Some(code), Some(message)), "{hello}");
        assert_eq!(client.closed(), (1008, code.to_owned()));
    }
    let key = MemberKey(world.members[1].1.public);
    assert!(world.running().hub().revoke(world.mesh.clone(), key, now_millis()).unwrap());
    let client = world.connect();
    client.say(&world.hello(1));
    assert_eq!(client.next("error")["code"], "revoked");
    assert_eq!(client.closed(), (4002, "banned".to_owned()));
}

#[test]
fn everything_that_is_said_is_answered() {
    let world = World::new("answers");
    let client = world.connect();
    for early in [r#"{"type":"list_peers","_reqId":"r"}"#, "garbage", r#"{"type":"send"}"#] {
        client.say_text(early);
        assert_eq!(client.next("error")["code"], "no_hello", "{early}");
    }
    client.say(&world.hello(0));
    let ack = client.next("hello_ack");
    assert_eq!(ack["features"], json!(["ordered-send", "store-and-forward", "away-peers", "answers-all"]));
    for (said, code, id, req_id) in [
        ("{", "malformed", Value::Null, Value::Null),
        (r#"{"type":"vector_store","_reqId":"r1"}"#, "unknown_type", Value::Null, json!("r1")),
        (r#"{"type":"send","id":"a"}"#, "invalid", json!("a"), Value::Null),
        (r#"{"type":"set_status","status":"asleep","_reqId":"r2"}"#, "invalid", Value::Null, json!("r2")),
        (&world.hello(0).to_string(), "invalid", Value::Null, Value::Null),
    ] {
        client.say_text(said);
        let error = client.next("error");
        assert_eq!((&error["code"], &error["id"], &error["_reqId"]), (&json!(code), &id, &req_id), "{said}");
    }
    for (to, start) in [("bob", "invalid: "), ("#topic", "topic_not_found: "), (&"99".repeat(32), "target_not_found: ")] {
        let refused = client.sent("x", to, "t");
        assert_eq!((&refused["queued"], &refused["messageId"]), (&json!(false), &json!("")), "{to}");
        assert!(refused["error"].as_str().unwrap().starts_with(start), "{refused}");
    }
    client.say(
        &json!({"type": "send", "id": "large", "targetSpec": "99".repeat(32), "nonce": "", "ciphertext": "x".repeat(65_536)}),
    );
    let large = client.next("ack");
    assert!(large["error"].as_str().unwrap().starts_with("payload_too_large: "), "{large}");
}

#[test]
fn mail_waits_comes_in_order_and_is_repeated_until_it_is_acknowledged() {
    const COUNT: usize = 2000;
    let world = World::new("queue");
    let (alice, _) = world.session(0, 10, "alice");
    let (bob, key) = world.session(1, 11, "bob");
    drop(bob);
    let to = key.to_hex();
    for n in 0..COUNT {
        alice.send(&format!("c{n}"), &to, &n.to_string(), "next");
    }
    for n in 0..COUNT {
        let ack = alice.next("ack");
        assert_eq!((&ack["id"], &ack["queued"]), (&json!(format!("c{n}")), &json!(true)));
    }
    let same = alice.sent("c0", &to, "0");
    assert_eq!(same["queued"], true, "sent again, it is the same message");
    let other = alice.sent("c0", &to, "something else");
    assert!(other["error"].as_str().unwrap().starts_with("idempotency_conflict: "), "{other}");

    let (bob, _) = world.session(1, 11, "bob");
    for n in 0..10 {
        let push = bob.next("push");
        assert_eq!(push["ciphertext"], n.to_string());
        if n < 5 {
            bob.ack(&push);
        }
    }
    bob.is_quiet_after_acks();
    drop(bob);
    let (bob, _) = world.session(1, 11, "bob");
    for n in 5..COUNT {
        let push = bob.next("push");
        assert_eq!(push["ciphertext"], n.to_string(), "in order, from the first that was not acknowledged");
        assert_eq!((&push["senderName"], &push["targetSpec"]), (&json!("alice"), &json!(to)));
        bob.ack(&push);
    }
    bob.is_quiet();
}

impl Client {
    /// The acks before this have been taken; pushes may be on their way.
    #[track_caller]
    fn is_quiet_after_acks(&self) {
        self.say(&json!({"type": "set_summary", "summary": "s", "_reqId": "taken"}));
        let until = Instant::now() + PATIENCE;
        while self.heard.recv_deadline(until).unwrap()["_reqId"] != "taken" {}
    }
}

#[test]
fn what_is_for_many_reaches_siblings_and_not_the_sender() {
    let world = World::new("many");
    let (alice, _) = world.session(0, 20, "alice");
    let (sibling, _) = world.session(0, 21, "sibling");
    let (bob, _) = world.session(1, 22, "bob");
    assert_eq!(alice.sent("all", "*", "hello")["queued"], true);
    for one in [&sibling, &bob] {
        assert_eq!(one.next("push")["ciphertext"], "hello");
        one.is_quiet();
    }
    alice.is_quiet();
}

#[test]
fn who_is_busy_gets_what_is_urgent_and_the_rest_when_it_is_idle() {
    let world = World::new("gate");
    let (alice, _) = world.session(0, 30, "alice");
    let (bob, key) = world.session(1, 31, "bob");
    bob.say(&json!({"type": "set_status", "status": "dnd", "_reqId": "r"}));
    assert_eq!(bob.next("ack")["_reqId"], "r");
    for (id, priority) in [("a", "next"), ("b", "now"), ("c", "low")] {
        alice.send(id, &key.to_hex(), id, priority);
        alice.next("ack");
    }
    assert_eq!(bob.next("push")["ciphertext"], "b");
    bob.is_quiet();
    bob.say(&json!({"type": "set_status", "status": "idle"}));
    assert_eq!(bob.next("push")["ciphertext"], "a");
    assert_eq!(bob.next("push")["ciphertext"], "c");
    bob.is_quiet();
}

#[test]
fn a_place_is_kept_given_back_or_taken() {
    let world = World::new("places");
    let (watcher, _) = world.session(0, 40, "watcher");
    let key = KeyPair::from_seed([41; 32]);
    let enter = || {
        let client = world.connect();
        client.say(&world.session_hello(1, &key, "bob"));
        let ack = client.next("hello_ack");
        (client, ack["presenceId"].clone())
    };
    let (first, place) = enter();
    assert_eq!(watcher.event("peer_joined")["name"], "bob");
    let (second, same) = enter();
    assert_eq!(same, place);
    assert_eq!(first.closed(), (1000, "session_replaced".to_owned()));
    second.say_text("close:");
    drop(second);
    let (third, same) = enter();
    assert_eq!(same, place);
    if let Ok(event) = watcher.heard.recv_timeout(PATIENCE) {
        assert_eq!(event["event"], "peer_returned", "{event}");
    }
    third.say_text("close:session_ended");
    assert_eq!(watcher.event("peer_left")["name"], "bob");
    let (_, fresh) = enter();
    assert_ne!(fresh, place, "a session that ended has given its place up");
}

#[test]
fn one_session_id_under_two_keys_is_two_sessions() {
    let world = World::new("ids");
    let (one, _) = world.session(0, 50, "twin");
    let (two, _) = world.session(1, 51, "twin");
    one.is_quiet();
    two.is_quiet();
}

#[test]
fn mail_for_a_member_goes_to_one_daemon_and_to_the_next_when_that_is_gone() {
    let world = World::new("daemons");
    let (alice, _) = world.session(0, 60, "alice");
    let daemon = |host: &str| {
        let client = world.connect();
        let mut hello = world.hello(1);
        hello["hostname"] = json!(host);
        client.say(&hello);
        client.next("hello_ack");
        client
    };
    let (first, second) = (daemon("one"), daemon("two"));
    let to = world.members[1].1.public.to_hex();
    alice.sent("a", &to, "a");
    assert_eq!(first.next("push")["ciphertext"], "a");
    second.is_quiet();
    drop(first);
    assert_eq!(second.next("push")["ciphertext"], "a", "not acknowledged, so it is the next one's");
}

#[test]
fn a_frame_too_large_and_a_reader_that_stops_harm_nobody_else() {
    let world = World::new("limits");
    let (alice, _) = world.session(0, 70, "alice");
    let (deaf, key) = world.session(1, 71, "deaf");
    deaf.say_text("deaf");
    for n in 0..500 {
        alice.send(&format!("{n}"), &key.to_hex(), &"x".repeat(30_000), "next");
        assert_eq!(alice.next("ack")["queued"], true);
    }
    alice.is_quiet();
    let (loud, _) = world.session(1, 72, "loud");
    loud.say_text(&"y".repeat(200_000));
    assert_eq!(loud.closed().0, 1009);
    alice.is_quiet();
}

#[test]
fn more_mail_than_a_socket_should_be_given_at_once_arrives_in_portions() {
    let world = World::new("heavy");
    let (alice, _) = world.session(0, 10, "alice");
    let (bob, key) = world.session(1, 20, "bob");
    drop(bob);
    let text = "x".repeat(60_000);
    for n in 0..200 {
        let id = format!("h-{n}");
        alice.say(
            &json!({"type": "send", "id": id, "client_message_id": id, "targetSpec": key, "nonce": "n", "ciphertext": text}),
        );
        assert_eq!(alice.next("ack")["queued"], true);
    }
    let (bob, _) = world.session(1, 20, "bob");
    for n in 0..200 {
        let push = bob.next("push");
        assert_eq!(push["client_message_id"], format!("h-{n}"));
        bob.ack(&push);
    }
}

#[test]
fn what_is_for_many_reaches_those_who_have_not_come_back_since_the_broker_was_started_again() {
    let mut world = World::new("again");
    let bob = KeyPair::from_seed([20; 32]);
    let client = world.connect();
    let mut hello = world.session_hello(1, &bob, "bob");
    hello["groups"] = json!([{"name": "eng"}]);
    client.say(&hello);
    client.next("hello_ack");
    world.broker.take().unwrap().stop();
    let options = Options {
        data_dir: world.dir.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        access: Access::closed(),
        public_status: false,
    };
    world.broker = Some(start(options).unwrap());
    let (alice, _) = world.session(0, 10, "alice");
    for (id, target) in [("a", "*"), ("b", "@eng")] {
        assert_eq!(alice.sent(id, target, id)["queued"], true);
    }
    let (bob, _) = world.session(1, 20, "bob");
    let got: Vec<Value> = (0..2).map(|_| bob.next("push")["client_message_id"].clone()).collect();
    assert_eq!(got, ["a", "b"]);
}

#[test]
fn nobody_borrows_a_key_that_somebody_has_proven() {
    let world = World::new("labels");
    let (bob, key) = world.session(1, 20, "bob");
    bob.handle.try_send("close:session_ended".to_owned()).unwrap();
    for label in [key, world.members[1].1.public, world.members[0].1.public] {
        let client = world.connect();
        let mut hello = world.hello(0);
        hello["sessionPubkey"] = json!(label.to_string());
        client.say(&hello);
        assert_eq!(client.next("error")["code"], "unauthorized");
    }
}

#[test]
fn acks_that_come_with_the_goodbye_count() {
    let world = World::new("goodbye");
    let (alice, _) = world.session(0, 10, "alice");
    let (bob, key) = world.session(1, 20, "bob");
    alice.sent("a", &key.to_string(), "x");
    let push = bob.next("push");
    bob.ack(&push);
    bob.handle.try_send("close:session_ended".to_owned()).unwrap();
    let _ = bob.ended.recv_timeout(PATIENCE);
    let end = Instant::now() + PATIENCE;
    while world.running().hub().depth() != Ok(0) {
        assert!(Instant::now() < end, "the ack was lost");
        std::thread::yield_now();
    }
}

#[test]
fn an_ack_by_the_senders_id_is_for_what_was_pushed_here() {
    let world = World::new("ids");
    let (alice, _) = world.session(0, 10, "alice");
    let (eve, _) = world.session(1, 30, "eve");
    let (bob, key) = world.session(1, 20, "bob");
    eve.sent("job-1", &key.to_string(), "from eve");
    let push = bob.next("push");
    bob.say(&json!({"type": "client_ack", "clientMessageId": "job-1"}));
    bob.say(&json!({"type": "client_ack", "clientMessageId": "job-1", "brokerMessageId": push["messageId"]}));
    alice.sent("job-1", &key.to_string(), "from alice");
    assert_eq!(bob.next("push")["ciphertext"], "from alice");
    bob.say(&json!({"type": "client_ack", "clientMessageId": "job-1", "brokerMessageId": push["messageId"]}));
    bob.say(&json!({"type": "list_peers", "_reqId": "r"}));
    bob.next("peers_list");
    assert_eq!(world.running().hub().depth(), Ok(1), "alice's message is not acknowledged by eve's");
}

#[path = "families_tests.rs"]
mod families;
