//! A mesh, its members, and the configuration by which each knows it.

use std::path::Path;
use std::time::Instant;

use claudemesh::base::ids::{MemberId, MemberKey, MeshId, Slug};
use claudemesh::base::thread::Joined;
use claudemesh::base::time::now_millis;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use claudemesh::store::hub::{Hub, NewMember, NewMesh, Role};
use serde_json::{Value, json};

use crate::support::home::Home;
use crate::support::http::{self, Reply};
use crate::support::reference_files::{self as reference, In, InboxShape, Out, OutboxShape, SessionRow};
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::PATIENCE;

/// One member as its configuration needs it.
pub(super) struct Member {
    mesh: String,
    id: String,
    pub(super) keys: KeyPair,
}

impl Member {
    fn of(mesh: &str) -> Member {
        Member { mesh: mesh.to_owned(), id: random::id32(), keys: KeyPair::generate() }
    }

    /// Its entry in `config.json`.
    pub(super) fn entry(&self, url: &str) -> Value {
        json!({
            "meshId": self.mesh, "memberId": self.id, "slug": "acme", "name": "Acme", "pubkey": self.keys.public.to_hex(),
            "secretKey": self.keys.secret.to_secret_text().reveal(), "brokerUrl": url, "joinedAt": "2025-10-09T08:53:20.000Z",
        })
    }

    /// Makes this the only entry of a home.
    pub(super) fn join(&self, home: &Path, url: &str) {
        let config = json!({"version": 1, "meshes": [self.entry(url)]});
        reference::write(&home.join("config.json"), &config.to_string());
    }
}

/// Creates the mesh `acme` with two members in the data of a broker that does not run yet.
#[track_caller]
pub(super) fn mesh(data: &Path) -> [Member; 2] {
    let (hub, thread) = Hub::open(&data.join("hub.db")).unwrap();
    let id = MeshId::new(random::id32());
    let members = [Member::of(id.as_str()), Member::of(id.as_str())];
    let row = |member: &Member, name: &str| NewMember {
        id: MemberId::new(member.id.as_str()),
        mesh: id.clone(),
        key: MemberKey(member.keys.public),
        display_name: name.to_owned(),
        role: Role::Admin,
        now: now_millis(),
    };
    let (owner, other) = (row(&members[0], "alice"), row(&members[1], "bob"));
    let mesh = NewMesh { id: id.clone(), slug: Slug::new("acme"), name: "Acme".into(), owner: owner.key, now: now_millis() };
    hub.create_mesh(mesh, owner).unwrap();
    hub.add_member(other).unwrap();
    drop(hub);
    assert_eq!(thread.join_by(Instant::now() + PATIENCE), Joined::Ended(()));
    members
}

/// A home of the reference on the mesh `acme`, whose broker can not be reached, so that what waits goes on waiting.
pub(super) fn offline(home: &Path) -> Member {
    let member = Member::of("mesh-1");
    reference::daemon_dir(home);
    member.join(home, "ws://127.0.0.1:1/ws");
    member
}

/// A session that the reference registered.
pub(super) fn session(daemon: &Daemon, row: &SessionRow) -> Session {
    let mut session = Session::prepare(daemon, "acme", row.name);
    session.token.clone_from(&row.token);
    session.id.clone_from(&row.id);
    session.key = row.key();
    row.keys.secret.to_secret_text().reveal().clone_into(&mut session.secret);
    session
}

/// A daemon on files of the reference, whose broker can not be reached.
pub(super) struct Old {
    pub(super) daemon: Daemon,
    _home: Home,
}

impl Old {
    pub(super) fn start() -> Old {
        let home = Home::new();
        let member = offline(home.path());
        let conn = reference::outbox(&home.join("daemon/outbox.db"), OutboxShape::Attributed);
        let peer = KeyPair::generate().public;
        for status in ["pending", "done", "dead", "aborted"] {
            Out::sealed(status, status, &peer, "text", &member.keys.secret, false).insert(&conn);
        }
        let conn = reference::inbox(&home.join("daemon/inbox.db"), InboxShape::Recipients);
        let carol = "ca".repeat(32);
        for (n, id) in (1..).zip(["one", "two", "three"]) {
            let row = In { client_id: id, mesh: "acme", sender: &carol, body: Some(id), received_at: n * 1000, ..In::default() };
            let topic = (id == "two").then_some("deploys");
            In { topic, ..row }.insert(&conn, InboxShape::Recipients);
        }
        Old { daemon: Daemon::start(home.path()), _home: home }
    }

    pub(super) fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let body = body.map(|body| body.to_string());
        http::request(&self.daemon.socket(), method, path, &[], body.as_deref().map(str::as_bytes)).unwrap()
    }

    #[track_caller]
    pub(super) fn refuses(&self, method: &str, path: &str, body: Option<Value>, status: u16, error: &str) -> Value {
        let shown = format!("{method} {path} {body:?}");
        let reply = self.call(method, path, body);
        let answer = reply.json();
        assert_eq!((reply.status, &answer["error"]), (status, &error.into()), "{shown}: {reply:?}");
        answer
    }

    #[track_caller]
    pub(super) fn ok(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let shown = format!("{method} {path} {body:?}");
        let reply = self.call(method, path, body);
        assert_eq!(reply.status, 200, "{shown}: {reply:?}");
        assert_eq!(http::header(&reply.head, "content-type"), Some("application/json"));
        assert_eq!(http::header(&reply.head, "content-length"), Some(reply.body.len().to_string().as_str()));
        reply.json()
    }
}

#[track_caller]
pub(super) fn assert_keys(value: &Value, keys: &str) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let missing: Vec<&str> = keys.split(' ').filter(|key| !object.contains_key(*key)).collect();
    assert!(missing.is_empty(), "{missing:?} missing in {value}");
}
