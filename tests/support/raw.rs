//! A broker's clients without a daemon: a mesh made by hand, and connections that cost one descriptor and do as they are told.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use claudemesh::base::ids::{MemberId, MemberKey, MeshId, SessionKey, Slug};
use claudemesh::base::thread::Joined;
use claudemesh::base::time::now_millis;
use claudemesh::crypto::hello as signed;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use claudemesh::store::hub::{Hub, NewMember, NewMesh, Role};
use serde_json::{Value, json};

use super::mesh::HUB;
use super::wait::PATIENCE;

/// Members of the mesh: enough that no limit of one member's decides.
const MEMBERS: usize = 10;

/// A mesh in the database of a broker that does not run yet.
#[derive(Debug)]
pub(crate) struct RawMesh {
    id: MeshId,
    members: Vec<(MemberId, KeyPair)>,
}

/// The time, later than it ever was before: two hellos of one key in one millisecond are one hello.
fn moment() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = now_millis();
    LAST.fetch_max(now - 1, Ordering::Relaxed);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl RawMesh {
    pub(crate) fn create(data: &Path) -> RawMesh {
        let (hub, thread) = Hub::open(&data.join(HUB)).unwrap();
        let id = MeshId::new(random::id32());
        let members: Vec<_> = (0..MEMBERS).map(|_| (MemberId::new(random::id32()), KeyPair::generate())).collect();
        let row = |(member, keys): &(MemberId, KeyPair)| NewMember {
            id: member.clone(),
            mesh: id.clone(),
            key: MemberKey(keys.public),
            display_name: "raw".to_owned(),
            role: Role::Member,
            now: now_millis(),
        };
        let owner = MemberKey(members[0].1.public);
        let mesh = NewMesh { id: id.clone(), slug: Slug::new("raw"), name: "raw".into(), owner, now: now_millis() };
        hub.create_mesh(mesh, row(&members[0])).unwrap();
        members[1..].iter().for_each(|member| drop(hub.add_member(row(member)).unwrap()));
        drop(hub);
        assert_eq!(thread.join_by(Instant::now() + PATIENCE), Joined::Ended(()));
        RawMesh { id, members }
    }

    /// Nobody may come into it any more.
    pub(crate) fn archive(&self, data: &Path) {
        let (hub, thread) = Hub::open(&data.join(HUB)).unwrap();
        assert!(hub.archive_mesh(self.id.clone(), now_millis()).unwrap());
        drop(hub);
        assert_eq!(thread.join_by(Instant::now() + PATIENCE), Joined::Ended(()));
    }

    /// A member's key; the first is the owner's, and none is an admin's.
    pub(crate) fn member_key(&self, n: usize) -> String {
        self.members[n].1.public.to_hex()
    }

    /// What a member's daemon says first, or, with fields of its own, a one-shot command.
    pub(crate) fn member_hello(&self, n: usize, more: &Value) -> Value {
        self.member_hello_as(n, n, more)
    }

    /// As [`RawMesh::member_hello`], by one who says that it is another member.
    pub(crate) fn member_hello_as(&self, n: usize, claimed: usize, more: &Value) -> Value {
        let (id, key) = (&self.members[claimed].0, &self.members[n].1);
        let (now, public) = (moment(), key.public.to_hex());
        let hello = signed::Hello { mesh_id: &self.id, member_id: id, pubkey: &public, timestamp: now };
        let mut frame = json!({"type": "hello", "meshId": self.id, "memberId": id, "pubkey": public, "sessionId": "daemon",
                               "pid": 1, "cwd": "/", "timestamp": now, "signature": hello.sign(&key.secret).to_string()});
        frame.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        frame
    }

    /// Its id, and its owner's key.
    pub(crate) fn owner(&self) -> (&str, &KeyPair) {
        (self.id.as_str(), &self.members[0].1)
    }

    /// What the `n`th session says first.
    pub(crate) fn hello(&self, n: usize, session: &KeyPair) -> Value {
        let (id, key) = &self.members[n % MEMBERS];
        session_hello(&self.id, (id, key), n, session)
    }
}

/// What a session of this member's says first. As the reference's clients, it says nothing of what it can.
pub(crate) fn session_hello(mesh: &MeshId, (id, key): (&MemberId, &KeyPair), n: usize, session: &KeyPair) -> Value {
    let (member, public, now) = (MemberKey(key.public), SessionKey(session.public), moment());
    let word = signed::Attestation::mint(&key.secret, public, now);
    let hello = signed::SessionHello { mesh_id: mesh, member, session: public, timestamp: now };
    json!({"type": "session_hello", "meshId": mesh, "parentMemberId": id, "parentMemberPubkey": member,
               "sessionPubkey": public,
               "parentAttestation": {"sessionPubkey": public, "parentMemberPubkey": member, "expiresAt": word.expires_at,
                                     "signature": word.signature.to_string()},
               "displayName": format!("peer-{n}"), "sessionId": format!("session-{n}"), "pid": 1, "cwd": "/", "timestamp": now,
               "signature": hello.sign(&session.secret).to_string()})
}

/// The request for a WebSocket.
pub(crate) const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

/// A WebSocket of which only the frames are made here, and only when a test says so.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// A WebSocket that has said nothing.
    pub(crate) fn open(address: &str) -> Raw {
        Raw::over(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Raw {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Raw(stream);
        raw.0.write_all(UPGRADE.as_bytes()).unwrap();
        raw.read_until(b"\r\n\r\n");
        raw
    }

    /// One that has been let in.
    pub(crate) fn connect(address: &str, hello: &Value) -> Raw {
        Raw::open(address).greet(hello)
    }

    pub(crate) fn greet(mut self, hello: &Value) -> Raw {
        self.say(&hello.to_string()).unwrap();
        self.read_until(b"hello_ack");
        self
    }

    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(&masked(text))
    }

    /// A message to this key, and its acknowledgement.
    pub(crate) fn send(&mut self, to: &KeyPair, id: &str, text: &str) {
        let send = json!({"type": "send", "id": id, "client_message_id": id, "targetSpec": to.public.to_hex(), "priority": "next",
                          "nonce": "n", "ciphertext": text});
        self.say(&send.to_string()).unwrap();
        self.read_until(b"\"queued\":true");
    }

    /// Reads up to and past the next occurrence of `what`.
    #[track_caller]
    pub(crate) fn read_until(&mut self, what: &[u8]) {
        self.take_until(what);
    }

    /// As [`Raw::read_until`], and says what was read.
    #[track_caller]
    pub(crate) fn take_until(&mut self, what: &[u8]) -> Vec<u8> {
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        while !seen.windows(what.len()).any(|window| window == what) {
            let count = self.0.read(&mut piece).unwrap();
            assert!(0 < count, "hung up on after: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..count]);
        }
        seen
    }

    /// Everything until the other end hangs up.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut seen = Vec::new();
        match self.0.read_to_end(&mut seen) {
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("still open after {PATIENCE:?}")
            }
            // A reset is an end, too.
            _ => seen,
        }
    }
}

/// A client's text frame, under a mask of zeros.
fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}
