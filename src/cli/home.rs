//! The mesh `home`: what a machine that has joined nothing gets, so that its sessions can write to each other at once. Its
//! broker runs inside the daemon's process and listens on 127.0.0.1 alone. Neither knows of the other; this file puts them
//! together.

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use crate::base::config::{self, Config, Mesh};
use crate::base::exit::Exit;
use crate::base::ids::{MemberId, MemberKey, MeshId, Slug};
use crate::base::paths::Paths;
use crate::base::time::{iso, now_millis};
use crate::broker;
use crate::broker::access::Access;
use crate::client::config_edit::{self, EditError};
use crate::crypto::keys::KeyPair;
use crate::crypto::random;
use crate::store;
use crate::store::hub::{NewMember, NewMesh, Role};
use crate::wire::json::{Map, Value};

use super::membership::user_name;

/// Its name among the joined meshes.
pub(super) const SLUG: &str = "home";

/// Why the mesh can not be had.
#[derive(Debug)]
pub(super) enum HomeError {
    Config(config::Error),
    Edit(EditError),
    Broker(broker::StartError),
    Store(store::Error),
}

impl HomeError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            HomeError::Config(_) | HomeError::Edit(_) => Exit::Io,
            HomeError::Broker(_) | HomeError::Store(_) => Exit::Failure,
        }
    }
}

impl fmt::Display for HomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HomeError::Config(err) => err.fmt(f),
            HomeError::Edit(err) => err.fmt(f),
            HomeError::Broker(err) => err.fmt(f),
            HomeError::Store(err) => err.fmt(f),
        }
    }
}

impl std::error::Error for HomeError {}

/// The broker of `home`, running, if this machine has one: made now if no mesh is joined at all, started again if it was made
/// before. `None` if all meshes are elsewhere.
pub(super) fn open(paths: &Paths) -> Result<Option<broker::Running>, HomeError> {
    let config = Config::load(&paths.config_file()).map_err(HomeError::Config)?;
    if config.meshes.is_empty() {
        return create(paths).map(Some);
    }
    let is_ours = |mesh: &&mut Mesh| mesh.slug.as_str() == SLUG;
    let Some(entry) = config.mesh(&Slug::new(SLUG)) else { return Ok(None) };
    let Some(port) = local_port(&entry.broker_url).filter(|_| paths.home_broker_dir().is_dir()) else { return Ok(None) };
    let running = match start(paths, port) {
        Err(broker::StartError::AddressInUse(_)) => start(paths, 0),
        started => started,
    };
    let running = running.map_err(HomeError::Broker)?;
    let url = url(running.local_addr());
    if entry.broker_url != url {
        log::warn!("port {port} is taken: the broker of \"{SLUG}\" is at {url} now");
        change(paths, |config| {
            if let Some(entry) = config.meshes.iter_mut().rfind(is_ours) {
                entry.broker_url = url;
            }
        })?;
    }
    Ok(Some(running))
}

fn change(paths: &Paths, how: impl FnOnce(&mut Config)) -> Result<(), HomeError> {
    let changed = config_edit::edit(paths, |config| {
        how(config);
        Ok::<_, Infallible>(())
    });
    changed.map(|_| ()).map_err(HomeError::Edit)
}

fn create(paths: &Paths) -> Result<broker::Running, HomeError> {
    let running = start(paths, 0).map_err(HomeError::Broker)?;
    let pair = KeyPair::generate();
    let (mesh, member) = (MeshId::new(random::id32()), MemberId::new(random::id32()));
    let (key, now) = (MemberKey(pair.public), now_millis());
    // What is written outside of any session comes from whoever sits there.
    let display_name = user_name().unwrap_or_else(|| SLUG.to_owned());
    let owner = NewMember { id: member.clone(), mesh: mesh.clone(), key, display_name, role: Role::Admin, now };
    let new = NewMesh { id: mesh.clone(), slug: Slug::new(SLUG), name: SLUG.to_owned(), owner: key, now };
    running.hub().create_mesh(new, owner).map_err(HomeError::Store)?;
    let mut rest = Map::new();
    rest.insert("role".to_owned(), Value::from("owner"));
    let entry = Mesh {
        mesh_id: mesh,
        member_id: member,
        slug: Slug::new(SLUG),
        name: SLUG.to_owned(),
        pubkey: key,
        secret_key: pair.secret.to_secret_text(),
        broker_url: url(running.local_addr()),
        joined_at: iso(now),
        rest,
    };
    // Somebody may have joined another meanwhile: what is in the file now counts, not what was read before.
    change(paths, |config| config.meshes.push(entry))?;
    log::info!("no mesh was joined: made \"{SLUG}\" at {}", running.local_addr());
    Ok(running)
}

fn start(paths: &Paths, port: u16) -> Result<broker::Running, broker::StartError> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    broker::start(broker::Options { data_dir: paths.home_broker_dir(), listen, access: Access::closed(), public_status: false })
}

fn url(addr: SocketAddr) -> String {
    format!("ws://{addr}/ws")
}

/// The port of an address that [`url`] wrote.
fn local_port(url: &str) -> Option<u16> {
    let addr: SocketAddr = url.strip_prefix("ws://")?.strip_suffix("/ws")?.parse().ok()?;
    addr.ip().is_loopback().then_some(addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_addresses_are_taken_for_its_own() {
        assert_eq!(local_port(&url(SocketAddr::from((Ipv4Addr::LOCALHOST, 4711)))), Some(4711));
        for other in
            ["wss://127.0.0.1:1/ws", "ws://10.0.0.1:1/ws", "ws://127.0.0.1/ws", "ws://localhost:1/ws", "ws://127.0.0.1:1/x"]
        {
            assert_eq!(local_port(other), None, "{other}");
        }
    }
}
