//! A session as `launch` or a hook registers it, with the key pair that is its address.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use serde_json::{Value, json};

use super::follow::Follower;
use super::http::{self, Reply};
use super::servers::Daemon;
use super::wait::{Gate, until};

/// A registered session of one daemon.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) token: String,
    pub(crate) id: String,
    /// What others send to: 64 hex characters.
    pub(crate) key: String,
    /// 128 hex characters that must never come back from anywhere.
    pub(crate) secret: String,
    name: String,
    mesh: String,
    groups: Vec<String>,
    socket: PathBuf,
    /// Opened whenever its daemon is up again.
    pub(crate) up: Gate,
}

impl Session {
    /// Registers a session that lives as long as the test, and waits until the broker knows it.
    #[track_caller]
    pub(crate) fn open(daemon: &Daemon, mesh: &str, name: &str) -> Session {
        let session = Session::prepare(daemon, mesh, name);
        session.register(std::process::id());
        session.await_link();
        session
    }

    /// A session that nobody has heard of yet.
    pub(crate) fn prepare(daemon: &Daemon, mesh: &str, name: &str) -> Session {
        let pair = KeyPair::generate();
        Session {
            token: random::token().reveal(),
            id: random::uuid_v4(),
            key: pair.public.to_hex(),
            secret: pair.secret.to_secret_text().reveal().to_owned(),
            name: name.to_owned(),
            mesh: mesh.to_owned(),
            groups: Vec::new(),
            socket: daemon.socket(),
            up: daemon.up(),
        }
    }

    /// The same, in these groups once it is registered.
    pub(crate) fn in_groups(self, groups: &[&str]) -> Session {
        Session { groups: groups.iter().map(|group| format!("@{group}")).collect(), ..self }
    }

    #[track_caller]
    pub(crate) fn register(&self, pid: u32) {
        let body = json!({
            "token": self.token, "session_id": self.id, "mesh": self.mesh, "display_name": self.name, "pid": pid, "cwd": "/",
            "groups": self.groups,
            "presence": {"session_pubkey": self.key, "session_secret_key": self.secret},
        });
        let reply = self.call("POST", "/v1/sessions/register", Some(&body)).expect("the daemon answers");
        assert_eq!((reply.status, reply.json()["presence_accepted"].as_bool()), (200, Some(true)), "{reply:?}");
    }

    /// Waits for the session's own link. No event announces it, and a client needs it for nothing: mail waits by itself.
    #[track_caller]
    pub(crate) fn await_link(&self) {
        until("the session's link to open", || {
            let reply = self.call("GET", "/v1/sessions/me", None).ok()?;
            (reply.status == 200 && reply.json()["session"]["link"] == "open").then_some(())
        });
    }

    /// One request in this session's name.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Reply> {
        let bytes = body.map(Value::to_string);
        self.call_bytes(method, path, bytes.as_deref().map(str::as_bytes))
    }

    pub(crate) fn call_bytes(&self, method: &str, path: &str, body: Option<&[u8]>) -> io::Result<Reply> {
        let authorization = format!("ClaudeMesh-Session {}", self.token);
        http::request(&self.socket, method, path, &[("Authorization", &authorization)], body)
    }

    /// `POST /v1/send`, once.
    pub(crate) fn try_send(&self, to: &str, text: &str, id: &str) -> io::Result<Reply> {
        self.call("POST", "/v1/send", Some(&json!({"to": to, "message": text, "client_message_id": id})))
    }

    /// As [`Session::send`], once and in clear: to many on a broker or to clients without shared keys.
    #[track_caller]
    pub(crate) fn send_clear(&self, to: &str, text: &str, id: &str) {
        let body = json!({"to": to, "message": text, "client_message_id": id, "plaintext": true});
        let reply = self.call("POST", "/v1/send", Some(&body)).expect("the daemon answers");
        assert_eq!(reply.status, 202, "{reply:?}");
    }

    /// Sends until the daemon has said that it has the message, under one id throughout.
    #[track_caller]
    pub(crate) fn send(&self, to: &str, text: &str, id: &str) {
        loop {
            let seen = self.up.count();
            match self.try_send(to, text, id) {
                Ok(reply) if reply.status == 202 || reply.status == 200 => return,
                // Stopping, or without its peer list yet.
                Ok(reply) if matches!(reply.status, 502 | 503) => {}
                Ok(reply) => panic!("send was refused: {} {}", reply.status, reply.text()),
                Err(_) => {}
            }
            // The gate opens when it is back; the deadline is for a refusal of a daemon that never went.
            self.up.wait_past(seen, Duration::from_millis(20));
        }
    }

    /// Everything in this session's inbox that was not read before, in the order in which it came.
    #[track_caller]
    pub(crate) fn unread(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        loop {
            let reply = self.call("GET", "/v1/inbox?unread_only=true&limit=1000", None).expect("the daemon answers");
            assert_eq!(reply.status, 200, "{reply:?}");
            let mut page = reply.json();
            let items = page["items"].as_array_mut().expect("items");
            if items.is_empty() {
                rows.sort_by_key(|row: &Value| row["seq"].as_u64());
                return rows;
            }
            rows.append(items);
        }
    }

    /// Follows this session's events from now, or from `cursor`.
    pub(crate) fn follow(&self, cursor: Option<u64>) -> Follower {
        Follower::start(self.socket.clone(), Some(self.token.clone()), cursor, self.up.clone())
    }
}
