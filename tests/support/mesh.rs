//! A mesh made by hand: its rows in the broker's database, its entry in each member's configuration.

use std::path::Path;

use claudemesh::crypto::keys::KeyPair;
use serde_json::json;

use super::home::Home;
use super::servers::{Broker, Daemon};

/// The mesh `acme` of two people: a broker and two daemons, each in a home of its own.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) alice: Daemon,
    pub(crate) bob: Daemon,
    pub(crate) broker: Broker,
    /// Last, so that they go when nobody writes to them any more.
    _homes: [Home; 3],
}

/// One member as its configuration needs it.
struct Member {
    id: String,
    keys: KeyPair,
}

impl World {
    #[track_caller]
    pub(crate) fn pair() -> World {
        let homes = [Home::new(), Home::new(), Home::new()];
        let (mesh, [alice, bob]) = create(homes[2].path());
        let broker = Broker::start(homes[2].path());
        join(homes[0].path(), &broker, &mesh, &alice);
        join(homes[1].path(), &broker, &mesh, &bob);
        World { alice: Daemon::start(homes[0].path()), bob: Daemon::start(homes[1].path()), broker, _homes: homes }
    }
}

fn join(home: &Path, broker: &Broker, mesh: &str, member: &Member) {
    let config = json!({"version": 1, "meshes": [{
        "meshId": mesh, "memberId": member.id, "slug": "acme", "name": "Acme", "pubkey": member.keys.public.to_hex(),
        "secretKey": member.keys.secret.to_secret_text().reveal(), "brokerUrl": broker.url(), "joinedAt": "2025-10-09T08:53:20.000Z",
    }]});
    std::fs::write(home.join("config.json"), config.to_string()).unwrap();
}

/// Creates the mesh and two members in the database of a broker that does not run yet.
fn create(data: &Path) -> (String, [Member; 2]) {
    panic!("{}: the broker's database can not be written yet, and so there is no {}", data.display(), KeyPair::generate().public)
}
