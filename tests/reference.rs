//! Our daemon on the reference's broker as it is: a fake of exactly its behaviour, and real daemons of two members.

mod links;
mod mail;
mod names;
mod receipts;
mod refusals;
mod shared;
mod slow;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::home::Home;
use crate::support::reference_broker::{Member, ReferenceBroker, Rules};
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

/// Two members of the mesh `acme`, each with a daemon. Their sessions have names of their own.
struct World {
    alice: Daemon,
    bob: Daemon,
    broker: ReferenceBroker,
    homes: [Home; 2],
}

impl World {
    #[track_caller]
    fn start(rules: Rules) -> World {
        let homes = [Home::new(), Home::new()];
        let broker = ReferenceBroker::start(rules);
        let daemons = ["alice", "bob"].map(|name| broker.add_member(name));
        for (home, member) in homes.iter().zip(&daemons) {
            join(home.path(), &[("acme", &broker, member)]);
        }
        let [alice, bob] = homes.each_ref().map(|home| Daemon::start(home.path()));
        World { alice, bob, broker, homes }
    }

    fn bob_home(&self) -> &Path {
        self.homes[1].path()
    }

    /// What must hold however a test went: the broker was not brought down, nothing was said before its time, and it never
    /// had two messages of one socket to put into order.
    #[track_caller]
    fn assert_civil(&self) {
        let seen = self.broker.seen();
        assert_eq!(seen.crash, None);
        assert_eq!(seen.too_early, Vec::<Value>::new());
        assert_eq!(seen.overlaps, 0, "messages in flight at once");
        assert!(seen.largest_frame <= 65_536, "a frame of {} bytes", seen.largest_frame);
    }
}

/// Writes a configuration with these meshes.
fn join(home: &Path, meshes: &[(&str, &ReferenceBroker, &Member)]) {
    let entry = |(slug, broker, member): &(&str, &ReferenceBroker, &Member)| {
        json!({
            "meshId": broker.mesh, "memberId": member.id, "slug": slug, "name": slug, "pubkey": member.keys.public.to_hex(),
            "secretKey": member.keys.secret.to_secret_text().reveal(), "brokerUrl": broker.url(),
            "joinedAt": "2025-10-09T08:53:20.000Z",
        })
    };
    let config = json!({"version": 1, "meshes": meshes.iter().map(entry).collect::<Vec<_>>()});
    std::fs::write(home.join("config.json"), config.to_string()).unwrap();
}

/// The daemon's outbox row of this client id.
#[track_caller]
fn outbox_row(daemon: &Daemon, id: &str) -> Value {
    let page = daemon.get("/v1/outbox?limit=500").json();
    let rows = page["items"].as_array().expect("items");
    rows.iter().find(|row| row["client_message_id"] == id).cloned().unwrap_or_else(|| panic!("no {id} in {page:#}"))
}

/// Waits until the outbox row of this client id is as wanted.
#[track_caller]
fn outbox_until(daemon: &Daemon, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, || Some(outbox_row(daemon, id)).filter(|row| wanted(row)))
}

/// `/v1/health` of one mesh.
#[track_caller]
fn mesh_health(daemon: &Daemon, slug: &str) -> Value {
    daemon.get("/v1/health").json()["meshes"][slug].clone()
}

/// Registers a session with groups, and waits until the broker knows it.
#[track_caller]
fn open_in_groups(daemon: &Daemon, name: &str, groups: &Value) -> Session {
    let session = Session::prepare(daemon, "acme", name);
    let body = json!({
        "token": session.token, "session_id": session.id, "mesh": "acme", "display_name": name, "pid": std::process::id(),
        "cwd": "/", "groups": groups, "presence": {"session_pubkey": session.key, "session_secret_key": session.secret},
    });
    let reply = session.call("POST", "/v1/sessions/register", Some(&body)).unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    session.await_link();
    session
}

/// Client ids of a session's messages, in the order of their arrival.
fn ids(messages: &[crate::support::follow::Event]) -> Vec<String> {
    messages.iter().map(|event| event.data["client_message_id"].as_str().unwrap_or_default().to_owned()).collect()
}
