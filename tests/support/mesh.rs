//! A mesh made by hand: its rows in the broker's database, its entry in each member's configuration.

use std::path::Path;

use std::time::Instant;

use claudemesh::base::ids::{MemberId, MemberKey, MeshId, Slug};
use claudemesh::base::thread::Joined;
use claudemesh::base::time::now_millis;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use claudemesh::store::hub::{Hub, NewMember, NewMesh, Role};
use serde_json::{Value, json};

use super::home::Home;
use super::proxy::Proxy;
use super::servers::{Broker, Daemon};
use super::wait::PATIENCE;

/// The database's name in a broker's data directory.
pub(crate) const HUB: &str = "hub.db";

/// The mesh `acme` of two people: a broker and two daemons, each in a home of its own.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) alice: Daemon,
    pub(crate) bob: Daemon,
    pub(crate) broker: Broker,
    /// Between each daemon and the broker, where there are any: alice's and bob's.
    pub(crate) proxies: Vec<Proxy>,
    /// Last, so that they go when nobody writes to them any more: alice's, bob's, the broker's.
    pub(crate) homes: [Home; 3],
}

/// A mesh and two of its members.
#[derive(Debug)]
pub(crate) struct Mesh {
    slug: String,
    id: String,
    members: [Member; 2],
}

/// One member as its configuration needs it.
#[derive(Debug)]
struct Member {
    id: String,
    keys: KeyPair,
}

impl World {
    #[track_caller]
    pub(crate) fn pair() -> World {
        World::new(false)
    }

    /// As [`World::pair`], with a proxy before each daemon.
    #[track_caller]
    pub(crate) fn through_proxies() -> World {
        World::new(true)
    }

    #[track_caller]
    fn new(relayed: bool) -> World {
        let homes = [Home::new(), Home::new(), Home::new()];
        let mesh = Mesh::create(homes[2].path(), "acme");
        let broker = Broker::start(homes[2].path());
        let proxies: Vec<Proxy> = (0..if relayed { 2 } else { 0 }).map(|_| Proxy::start(&broker.address)).collect();
        for (n, home) in homes[..2].iter().enumerate() {
            let url = proxies.get(n).map_or_else(|| broker.url(), Proxy::url);
            configure(home.path(), &[mesh.entry(n, &url)]);
        }
        World { alice: Daemon::start(homes[0].path()), bob: Daemon::start(homes[1].path()), broker, proxies, homes }
    }
}

/// Makes these the meshes of a home, in one step.
pub(crate) fn configure(home: &Path, entries: &[Value]) {
    let config = json!({"version": 1, "meshes": entries});
    let beside = home.join("config.json.new");
    std::fs::write(&beside, config.to_string()).unwrap();
    std::fs::rename(beside, home.join("config.json")).unwrap();
}

impl Mesh {
    /// Creates the mesh and two members in the database of a broker that does not run.
    #[track_caller]
    pub(crate) fn create(data: &Path, slug: &str) -> Mesh {
        let (hub, thread) = Hub::open(&data.join(HUB)).unwrap();
        let id = MeshId::new(random::id32());
        let members = [(); 2].map(|()| Member { id: random::id32(), keys: KeyPair::generate() });
        let [owner, other] = [("alice", &members[0]), ("bob", &members[1])].map(|(name, member)| NewMember {
            id: MemberId::new(member.id.as_str()),
            mesh: id.clone(),
            key: MemberKey(member.keys.public),
            display_name: name.to_owned(),
            role: Role::Admin,
            now: now_millis(),
        });
        let mesh = NewMesh { id: id.clone(), slug: Slug::new(slug), name: slug.into(), owner: owner.key, now: now_millis() };
        hub.create_mesh(mesh, owner).unwrap();
        hub.add_member(other).unwrap();
        drop(hub);
        assert_eq!(thread.join_by(Instant::now() + PATIENCE), Joined::Ended(()));
        Mesh { slug: slug.to_owned(), id: id.to_string(), members }
    }

    /// What the configuration of one of the two members holds, for a broker that is reached at `url`.
    pub(crate) fn entry(&self, member: usize, url: &str) -> Value {
        let member = &self.members[member];
        json!({
            "meshId": self.id, "memberId": member.id, "slug": self.slug, "name": self.slug,
            "pubkey": member.keys.public.to_hex(), "secretKey": member.keys.secret.to_secret_text().reveal(),
            "brokerUrl": url, "joinedAt": "2025-10-09T08:53:20.000Z",
        })
    }
}
