//! A real broker on a loopback port, spoken to by hand: what it says, in which order, and how it closes.

mod api_keys;
mod away;
mod families;
mod hello;
mod keys;
mod later;
mod mail;
mod order;
mod random;
mod rates;
mod receipts;
mod rights;
mod status;

use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tempfile::{TempDir, tempdir};

use super::*;

use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, SessionKey, Slug};
use crate::base::time::{Millis, now_millis};
use crate::crypto::hello as signed;
use crate::crypto::keys::KeyPair;
use crate::net::dial;
use crate::net::ws::{self, End, Flow, Handle, Outbox};
use crate::store::hub::{NewMember, NewMesh, Role};
use crate::wire::json::{self, Value, json};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A broker that nobody may make a mesh on over HTTP.
fn options(dir: &Path) -> Options {
    Options { data_dir: dir.to_owned(), listen: "127.0.0.1:0".parse().unwrap(), access: Access::closed(), public_status: false }
}

/// The time, later than it ever was before: two hellos of one key in one millisecond are one hello.
fn this_moment() -> Millis {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = now_millis();
    LAST.fetch_max(now - 1, Ordering::Relaxed);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

struct World {
    broker: Option<Running>,
    dir: TempDir,
    mesh: MeshId,
    members: Vec<(MemberId, KeyPair)>,
}

impl World {
    /// A mesh with two members.
    fn new() -> World {
        let dir = tempdir().unwrap();
        let broker = start(options(dir.path())).unwrap();
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
        let (timestamp, pubkey) = (this_moment(), key.public.to_hex());
        let hello = signed::Hello { mesh_id: &self.mesh, member_id: id, pubkey: &pubkey, timestamp };
        json!({"type": "hello", "meshId": self.mesh, "memberId": id, "pubkey": pubkey, "sessionId": "daemon-1", "pid": 1, "cwd": "/",
               "timestamp": timestamp, "signature": hello.sign(&key.secret).to_string()})
    }

    fn session_hello(&self, member: usize, session: &KeyPair, name: &str) -> Value {
        let (id, key) = &self.members[member];
        let (member, public, now) = (MemberKey(key.public), SessionKey(session.public), this_moment());
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
            let is_news = frame["subtype"] == "system" || frame["type"] == "skill_change" && kind != "skill_change";
            if !is_news || kind == "event" {
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

impl Client {
    /// Asks, and takes the answer, which must be of this type and carry the question's id.
    #[track_caller]
    fn ask(&self, mut frame: Value, kind: &str) -> Value {
        frame["_reqId"] = json!("q");
        self.say(&frame);
        let answer = self.next(kind);
        assert_eq!(answer["_reqId"], "q", "{answer}");
        answer
    }

    /// Asks, and is refused with this code.
    #[track_caller]
    fn refused(&self, frame: Value, code: &str) -> Value {
        let answer = self.ask(frame, "error");
        assert_eq!(answer["code"], code, "{answer}");
        answer
    }

    /// Asks for something that is only acknowledged.
    #[track_caller]
    fn done(&self, frame: Value) {
        self.ask(frame, "ack");
    }

    /// Sends, and is refused with an error that begins so.
    #[track_caller]
    fn not_sent(&self, id: &str, to: &str, start: &str) {
        let ack = self.sent(id, to, "dGV4dA==");
        assert!(ack["queued"] == false && ack["error"].as_str().is_some_and(|error| error.starts_with(start)), "{ack}");
    }
}
