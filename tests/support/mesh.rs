//! A mesh made by hand: its rows in the broker's database, its entry in each member's configuration.

use std::path::Path;

use std::time::Instant;

use claudemesh::base::ids::{MemberId, MemberKey, MeshId, Slug};
use claudemesh::base::thread::Joined;
use claudemesh::base::time::now_millis;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use claudemesh::store::hub::{Hub, NewMember, NewMesh, Role};
use serde_json::json;

use super::home::Home;
use super::servers::{Broker, Daemon};
use super::wait::PATIENCE;

/// The database's name in a broker's data directory.
const HUB: &str = "hub.db";

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
    name: String,
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
#[track_caller]
fn create(data: &Path) -> (String, [Member; 2]) {
    let (hub, thread) = Hub::open(&data.join(HUB)).unwrap();
    let id = MeshId::new(random::id32());
    let member = |name: &str| Member { id: random::id32(), name: name.to_owned(), keys: KeyPair::generate() };
    let members = [member("alice"), member("bob")];
    let rows = members.each_ref().map(|member| NewMember {
        id: MemberId::new(member.id.as_str()),
        mesh: id.clone(),
        key: MemberKey(member.keys.public),
        display_name: member.name.clone(),
        role: Role::Admin,
        now: now_millis(),
    });
    let mesh = NewMesh { id: id.clone(), slug: Slug::new("acme"), name: "Acme".into(), owner: rows[0].key, now: now_millis() };
    let [owner, other] = rows;
    hub.create_mesh(mesh, owner).unwrap();
    hub.add_member(other).unwrap();
    drop(hub);
    assert_eq!(thread.join_by(Instant::now() + PATIENCE), Joined::Ended(()));
    (id.to_string(), members)
}
