//! Sockets, the registry of connections, members, and what the fake has seen.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use claudemesh::net::ws::{End, Handle};
use serde_json::{Value, json};

use super::messages::Row;

/// How strict and how slow it is; the reference's own figures unless a test has no time for them.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Tokens of a member's bucket, and how many come back each second.
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
    /// How long a claimed row is not claimed again.
    pub(crate) claim: Duration,
    /// How long a closed connection's entry is kept.
    pub(crate) grace: Duration,
    /// From a hello to its `hello_ack`, and from a `send` to its `ack`.
    pub(crate) hello_delay: Duration,
    pub(crate) ack_delay: Duration,
    /// From a `list_peers` to its answer.
    pub(crate) peers_delay: Duration,
    /// Its clock minus ours.
    pub(crate) clock_ms: i64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            burst: 10.0,
            per_second: 1.0,
            claim: Duration::from_secs(30),
            grace: Duration::from_secs(90),
            hello_delay: Duration::from_millis(5),
            ack_delay: Duration::from_millis(1),
            peers_delay: Duration::ZERO,
            clock_ms: 0,
        }
    }
}

/// What has happened, for the tests to judge.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Every frame after a hello, with the name of who sent it.
    pub(crate) frames: Vec<(String, Value)>,
    /// Every hello as it came, refused ones too.
    pub(crate) hellos: Vec<Value>,
    /// Frames that came before the `hello_ack` and were lost.
    pub(crate) too_early: Vec<Value>,
    /// `send`s that came while another of the same socket was unanswered.
    pub(crate) overlaps: usize,
    /// What ended the process, if anything did.
    pub(crate) crash: Option<String>,
    /// Refusals by text.
    pub(crate) refused: BTreeMap<String, usize>,
    pub(crate) largest_frame: usize,
    /// Connections that came back before the end of their last socket was noted for good: the reference forgets them later.
    pub(crate) races: usize,
    /// Why sockets ended.
    pub(crate) ends: Vec<String>,
}

impl Seen {
    /// Frames of one type.
    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.frames.iter().map(|(_, frame)| frame).filter(|frame| frame["type"] == kind).collect()
    }
}

/// What a socket's thread is told.
#[derive(Debug)]
pub(crate) enum Cmd {
    Text(String),
    Close(u16, String),
}

#[derive(Debug)]
pub(super) struct Socket {
    handle: Handle<Cmd>,
    stream: TcpStream,
    /// The connection behind it, once its hello has been answered.
    pub(super) presence: Option<u64>,
    /// Frames that are sent later, in order.
    delayed: VecDeque<(Instant, Delayed)>,
    pub(super) unanswered: usize,
}

#[derive(Debug)]
pub(super) enum Delayed {
    HelloAck(u64, Value),
    Ack(Value),
    Answer(Value),
}

#[derive(Debug)]
pub(super) struct MemberRow {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) name: String,
    pub(super) revoked: bool,
    /// Member keys that may not write to this one.
    pub(super) blocked: HashSet<String>,
    /// One of its sockets has closed before: its next hello is a return.
    pub(super) left_before: bool,
}

/// How long the reference takes at least to note that a socket has ended.
const NOTED_AFTER: Duration = Duration::from_millis(100);

/// A connection in the registry, which outlives its socket by the grace.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) presence: u64,
    pub(super) socket: u64,
    pub(super) member: String,
    pub(super) session: Option<String>,
    pub(super) name: String,
    pub(super) groups: Value,
    pub(super) hello: Value,
    pub(super) status: String,
    pub(super) summary: Value,
    pub(super) offline_until: Option<Instant>,
    /// When its last socket was seen to end.
    pub(super) ended: Option<Instant>,
}

impl Conn {
    /// The key it is addressed by.
    pub(super) fn key(&self) -> &str {
        self.session.as_deref().unwrap_or(&self.member)
    }

    /// Whether the end of its last socket was noted; it is not any more then.
    pub(super) fn end_is_noted(&mut self, now: Instant) -> bool {
        self.ended.take().is_some_and(|at| NOTED_AFTER <= now.saturating_duration_since(at))
    }

    pub(super) fn is_control_plane(&self) -> bool {
        self.hello["type"] == "hello"
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rules: Rules,
    pub(crate) seen: Seen,
    /// Types of frames whose handler throws: they are never answered.
    pub(crate) silent: HashSet<String>,
    /// Targets of messages on which the handler throws.
    pub(crate) silent_to: HashSet<String>,
    /// Texts with which the next sends are refused.
    pub(crate) refusals: VecDeque<String>,
    pub(super) mesh: String,
    pub(super) members: Vec<MemberRow>,
    pub(super) conns: Vec<Conn>,
    pub(super) rows: Vec<Row>,
    pub(super) buckets: HashMap<String, (f64, Instant)>,
    pub(super) kept: BTreeMap<String, Value>,
    sockets: HashMap<u64, Socket>,
    next: u64,
}

impl State {
    pub(super) fn new(mesh: String, rules: Rules) -> State {
        State {
            rules,
            seen: Seen::default(),
            silent: HashSet::new(),
            silent_to: HashSet::new(),
            refusals: VecDeque::new(),
            mesh,
            members: Vec::new(),
            conns: Vec::new(),
            rows: Vec::new(),
            buckets: HashMap::new(),
            kept: BTreeMap::new(),
            sockets: HashMap::new(),
            next: 0,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn add_member(&mut self, member: &super::Member) {
        self.members.push(MemberRow {
            id: member.id.clone(),
            key: member.keys.public.to_hex(),
            name: member.name.clone(),
            revoked: false,
            blocked: HashSet::new(),
            left_before: false,
        });
    }

    pub(super) fn open_socket(&mut self, handle: Handle<Cmd>, stream: TcpStream) -> u64 {
        let id = self.number();
        self.sockets.insert(id, Socket { handle, stream, presence: None, delayed: VecDeque::new(), unanswered: 0 });
        id
    }

    pub(super) fn socket(&mut self, id: u64) -> Option<&mut Socket> {
        self.sockets.get_mut(&id)
    }

    /// The process ends: every connection with it.
    pub(super) fn crash(&mut self, why: String) {
        self.seen.crash = Some(why);
        self.drop_sockets();
    }

    pub(crate) fn drop_sockets(&mut self) {
        for socket in self.sockets.values() {
            // One that is gone already is as good.
            let _ = socket.stream.shutdown(Shutdown::Both);
        }
    }

    /// The connection of this name breaks.
    pub(crate) fn lose(&mut self, name: &str) {
        for conn in self.conns.iter().filter(|conn| conn.name == name) {
            if let Some(socket) = self.sockets.get(&conn.socket) {
                let _ = socket.stream.shutdown(Shutdown::Both);
            }
        }
    }

    pub(super) fn say(&self, socket: u64, frame: &Value) {
        if let Some(socket) = self.sockets.get(&socket) {
            // To a socket that is not open a write is dropped without a word.
            let _ = socket.handle.try_send(Cmd::Text(frame.to_string()));
        }
    }

    pub(super) fn close(&self, socket: u64, code: u16, reason: &str) {
        if let Some(socket) = self.sockets.get(&socket) {
            let _ = socket.handle.try_send(Cmd::Close(code, reason.to_owned()));
        }
    }

    pub(super) fn later(&mut self, socket: u64, at: Instant, what: Delayed) {
        if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.delayed.push_back((at, what));
        }
    }

    pub(super) fn next_delayed(&self, socket: u64) -> Option<Instant> {
        self.sockets.get(&socket).and_then(|socket| socket.delayed.front()).map(|(at, _)| *at)
    }

    pub(super) fn release_delayed(&mut self, id: u64, now: Instant) {
        while let Some(socket) = self.sockets.get_mut(&id)
            && socket.delayed.front().is_some_and(|(at, _)| *at <= now)
        {
            let frame = match socket.delayed.pop_front() {
                Some((_, Delayed::HelloAck(presence, frame))) => {
                    socket.presence = Some(presence);
                    frame
                }
                Some((_, Delayed::Ack(frame))) => {
                    socket.unanswered = socket.unanswered.saturating_sub(1);
                    frame
                }
                Some((_, Delayed::Answer(frame))) => frame,
                None => return,
            };
            let greeted = frame["type"] == "hello_ack";
            self.say(id, &frame);
            if greeted {
                self.chatter(id);
            }
        }
    }

    /// What nobody asked for and every client must live with.
    fn chatter(&self, socket: u64) {
        self.say(socket, &json!({"type": "ack", "id": "00000000-0000-4000-8000-000000000000", "messageId": "x", "queued": true}));
        self.say(socket, &json!({"type": "ack", "id": "", "messageId": "", "queued": false}));
        self.say(socket, &json!({"type": "state_change", "key": "k", "value": {"a": [1]}, "updatedBy": "somebody"}));
        self.say(socket, &json!({"type": "mcp_deploy_status", "name": "x", "status": "running"}));
        self.say(socket, &json!({"type": "of_a_later_release", "id": 7, "_reqId": []}));
        self.say(socket, &json!({"type": "error", "code": "topic_not_found", "message": "nobody asked", "id": "r-999"}));
    }

    /// A socket has ended; its connection stays for the grace.
    pub(super) fn closed(&mut self, id: u64, end: &End) {
        self.seen.ends.push(end.to_string());
        self.sockets.remove(&id);
        let until = Instant::now() + self.rules.grace;
        let mut left = None;
        if let Some(conn) = self.conns.iter_mut().find(|conn| conn.socket == id) {
            conn.offline_until = Some(until);
            conn.ended = Some(Instant::now());
            left = Some(conn.member.clone());
        }
        if let Some(member) = self.members.iter_mut().find(|member| Some(&member.key) == left.as_ref()) {
            member.left_before = true;
        }
        self.sweep(Instant::now());
    }

    /// Evicts connections whose grace is over, and tells other members.
    pub(super) fn sweep(&mut self, now: Instant) {
        while let Some(at) = self.conns.iter().position(|conn| conn.offline_until.is_some_and(|until| until <= now)) {
            let gone = self.conns.remove(at);
            let data = json!({"name": gone.name, "pubkey": gone.key()});
            self.event("peer_left", &data, |conn| conn.member != gone.member);
        }
    }

    /// A system push to some of the connections.
    pub(super) fn event(&self, event: &str, data: &Value, to: impl Fn(&Conn) -> bool) {
        for conn in self.conns.iter().filter(|conn| to(conn)) {
            let frame = json!({
                "type": "push", "messageId": claudemesh::crypto::random::uuid_v4(), "meshId": self.mesh, "senderPubkey": "system",
                "priority": "low", "nonce": "", "ciphertext": "", "createdAt": self.now_iso(), "subtype": "system",
                "event": event, "eventData": data,
            });
            self.say(conn.socket, &frame);
        }
    }

    pub(super) fn now_millis(&self) -> i64 {
        claudemesh::base::time::now_millis() + self.rules.clock_ms
    }

    pub(super) fn now_iso(&self) -> String {
        claudemesh::base::time::iso(self.now_millis())
    }

    /// The connection behind a socket.
    pub(super) fn conn_of(&self, socket: u64) -> Option<usize> {
        let presence = self.sockets.get(&socket)?.presence?;
        self.conns.iter().position(|conn| conn.presence == presence)
    }

    /// One frame, whatever it is.
    pub(super) fn on_frame(&mut self, socket: u64, frame: Value, now: Instant) {
        let kind = frame["type"].as_str().unwrap_or_default().to_owned();
        if kind == "hello" || kind == "session_hello" {
            self.seen.hellos.push(frame.clone());
            self.hello(socket, &frame, now);
            return;
        }
        if self.sockets.get(&socket).is_none_or(|socket| socket.presence.is_none()) {
            self.seen.too_early.push(frame);
            self.say(socket, &json!({"type": "error", "code": "no_hello", "message": "must send hello first"}));
            return;
        }
        // A socket whose entry is gone is a zombie: nothing it says is answered.
        let Some(conn) = self.conn_of(socket) else { return };
        self.seen.frames.push((self.conns[conn].name.clone(), frame.clone()));
        if self.silent.contains(&kind) {
            return;
        }
        match kind.as_str() {
            "send" => self.send(socket, conn, &frame, now),
            "client_ack" => self.client_ack(conn, &frame),
            _ => self.request(socket, conn, &kind, &frame),
        }
    }
}
