//! Names that would end the reference's broker never reach it, and the fake that says so can be ended by them.

use std::net::TcpStream;
use std::time::Duration;

use claudemesh::base::time::now_millis;
use claudemesh::crypto::sign::sign;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::{World, open_in_groups};
use crate::support::reference_broker::{Member, ReferenceBroker, Rules};
use crate::support::session::Session;
use crate::support::wait::PATIENCE;

#[test]
fn a_group_that_would_end_the_broker_is_refused_here() {
    let world = World::start(Rules::default());
    let groups = json!(["eng", "o'neil", "@it's:lead", "say \"hi\"", 7, null, {"name": "x'y"}, ["a'b"], "", "@", "a b", "-- x", "ops:o'neil"]);
    let ann = open_in_groups(&world.alice, "ann", &groups);
    let ben = Session::open(&world.bob, "acme", "ben");
    for to in ["@o'neil", "@it's", "@say \"hi\"", "@eng'", "@", "@a b", "#o'neil", "@x','y", "@eng\u{0}", "@é"] {
        let reply = ann.try_send(to, "x", &format!("m-{}", to.len())).unwrap();
        assert_eq!(reply.status, 400, "{to}: {reply:?}");
    }
    assert_eq!(world.alice.get("/v1/outbox").json()["items"], json!([]));
    // A person may be called so: that is looked up here.
    let oneil = Session::open(&world.bob, "acme", "o'neil");
    ann.send("o'neil", "hello", "m-1");
    oneil.follow(Some(0)).message("m-1");
    // And everybody's queue is looked at again.
    ben.send("ann", "and you", "m-2");
    ann.follow(Some(0)).message("m-2");
    let seen = world.broker.seen();
    let hello = seen.hellos.iter().find(|hello| hello["displayName"] == "ann").unwrap();
    let names: Vec<&Value> = hello["groups"].as_array().unwrap().iter().map(|group| &group["name"]).collect();
    assert_eq!(names, ["eng", "ops"]);
    assert!(seen.of("send").iter().all(|send| !send["targetSpec"].as_str().unwrap().contains(['\'', '"'])));
    world.assert_civil();
}

#[test]
fn a_hello_is_never_too_large_to_be_read() {
    let world = World::start(Rules::default());
    let groups: Vec<String> = (0..6000).map(|n| format!("g{n}")).collect();
    let ann = open_in_groups(&world.alice, "ann", &json!(groups));
    let ben = Session::open(&world.bob, "acme", "ben");
    ben.send_clear("@g0", "first", "m-1");
    ann.follow(Some(0)).count(1);
    world.assert_civil();
}

#[test]
fn a_peer_that_says_nonsense_of_itself_hides_nobody() {
    let world = World::start(Rules::default());
    let ann = Session::open(&world.alice, "acme", "ann");
    let _ben = Session::open(&world.bob, "acme", "ben");
    let carol = world.broker.add_member("carol");
    let mut raw = Raw::connect(&world.broker);
    raw.hello(&world.broker, &carol, |hello| {
        for (key, value) in [("hostname", json!(5)), ("channel", json!(["x"])), ("groups", json!([{"name": "x", "role": {}}]))] {
            hello[key] = value;
        }
    });
    raw.hear(&["hello_ack"]);
    ann.send("ben", "found", "m-1");
    let peers = ann.call("GET", "/v1/peers", None).unwrap().json();
    let names: Vec<&Value> = peers["peers"].as_array().unwrap().iter().map(|peer| &peer["displayName"]).collect();
    assert!(names.contains(&&json!("ben")) && !names.contains(&&json!("carol")), "{names:?}");
    world.assert_civil();
}

/// A client of the fake that says what it is told to.
struct Raw(WebSocket<TcpStream>);

impl Raw {
    fn connect(broker: &ReferenceBroker) -> Raw {
        let url = broker.url();
        let stream = TcpStream::connect(url.trim_start_matches("ws://").trim_end_matches("/ws")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw(tungstenite::client(url.as_str(), stream).unwrap().0)
    }

    fn say(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).unwrap();
    }

    /// The next frame of one of these types; a close is `{"type":"close","code":…}`, an end without one `{"type":"end"}`.
    fn hear(&mut self, kinds: &[&str]) -> Value {
        loop {
            let frame = match self.0.read() {
                Ok(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
                Ok(Message::Close(close)) => json!({"type": "close", "code": close.map(|close| u16::from(close.code))}),
                Ok(_) => continue,
                Err(_) => json!({"type": "end"}),
            };
            if kinds.contains(&frame["type"].as_str().unwrap_or_default()) || frame["type"] == "end" {
                return frame;
            }
        }
    }

    fn hello(&mut self, broker: &ReferenceBroker, member: &Member, change: impl FnOnce(&mut Value)) {
        let (key, now) = (member.keys.public.to_hex(), now_millis());
        let signed = format!("{}|{}|{key}|{now}", broker.mesh, member.id);
        let mut frame = json!({
            "type": "hello", "meshId": broker.mesh, "memberId": member.id, "pubkey": key, "sessionId": member.name, "pid": 1,
            "cwd": "/", "timestamp": now, "signature": sign(signed.as_bytes(), &member.keys.secret).to_string(),
        });
        change(&mut frame);
        self.say(&frame);
    }
}

/// What is done to a hello.
type Change = fn(&mut Value);

#[test]
fn the_fake_is_as_strict_as_the_reference() {
    let broker = ReferenceBroker::start(Rules { hello_delay: Duration::from_millis(100), ..Rules::default() });
    let [alice, bob] = ["alice", "bob"].map(|name| broker.add_member(name));
    let refused = |change: Change| {
        let mut raw = Raw::connect(&broker);
        raw.hello(&broker, &alice, change);
        let error = raw.hear(&["error", "hello_ack"]);
        (error["code"].as_str().unwrap_or_default().to_owned(), raw.hear(&["close"])["code"].clone())
    };
    let cases: [(Change, &str); 4] = [
        (|hello| hello["timestamp"] = json!(1), "timestamp_skew"),
        (|hello| hello["signature"] = json!("00".repeat(64)), "bad_signature"),
        (|hello| hello["signature"] = json!("xyz"), "malformed"),
        (|hello| hello["sessionPubkey"] = json!("AB"), "bad_session_pubkey"),
    ];
    for (change, code) in cases {
        assert_eq!(refused(change), (code.to_owned(), json!(1008)), "{code}");
    }

    let mut raw = Raw::connect(&broker);
    raw.hello(&broker, &alice, |_| {});
    raw.say(&json!({"type": "list_peers", "_reqId": "early"}));
    assert_eq!(raw.hear(&["error", "peers_list"])["code"], "no_hello");
    assert!(raw.hear(&["hello_ack"]).get("features").is_none());
    let send = |id: &str, to: &str, priority: &str, size: usize| json!({"type": "send", "id": id, "targetSpec": to, "priority": priority, "nonce": "", "ciphertext": "x".repeat(size)});
    raw.say(&send("urgent", "*", "urgent", 1));
    raw.say(&send("away", &bob.keys.public.to_hex(), "next", 1));
    raw.say(&send("again", "*", "next", 1));
    let mut acks = Vec::new();
    while acks.len() < 2 {
        let ack = raw.hear(&["ack"]);
        acks.extend(["urgent", "away", "again"].iter().find(|id| ack["id"] == **id).map(|id| (*id, ack["queued"].clone())));
    }
    assert_eq!(acks, [("away", json!(false)), ("again", json!(true))], "an unknown priority is met with silence");
    assert_eq!(broker.seen().overlaps, 2);
    raw.say(&send("big", "*", "next", 65_536));
    assert_eq!(raw.hear(&["close"])["code"], 1009);

    let mut raw = Raw::connect(&broker);
    raw.hello(&broker, &bob, |hello| hello["groups"] = json!([{"name": "o'neil"}]));
    assert_eq!(raw.hear(&["hello_ack", "close"])["type"], "end");
    assert!(broker.seen().crash.is_some());
}
