//! What verbs begin with: where the files are, which session this is, and a daemon to speak to.

use crate::base::config::{Config, Mesh};
use crate::base::exit::Exit;
use crate::base::ids::{Slug, Token};
use crate::base::logging;
use crate::base::paths::{Paths, View};
use crate::client::{Client, spawn, token};

use super::error::CliError;
use super::render::Out;

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where this user's files are, as a command sees them.
pub(super) fn paths() -> Result<Paths, CliError> {
    logging::init(log::LevelFilter::Warn);
    Paths::from_env(View::CommandLine, |name| std::env::var_os(name)).ok_or(CliError::NoHome)
}

/// Where they are for the daemon, which serves every session and so belongs to none.
pub(super) fn daemon_paths() -> Result<Paths, CliError> {
    Paths::from_env(View::Daemon, |name| std::env::var_os(name)).ok_or(CliError::NoHome)
}

/// The token of the session this command runs in.
pub(super) fn session_token() -> Result<Option<Token>, CliError> {
    Ok(token::from_env()?)
}

/// A client that acts for this session, of a daemon that is started if none runs.
pub(super) fn warm(out: &mut Out) -> Result<Client, CliError> {
    let token = session_token()?;
    let client = spawn::ensure(&paths()?)?;
    if let Some(took) = client.started_in() {
        out.remark(&format!("info daemon started automatically (took {} ms)", took.as_millis()))?;
        note_service(&client, out)?;
    }
    Ok(client.with_token(token))
}

/// Says so when the daemon is installed as a service and had to be started without it.
pub(super) fn note_service(client: &Client, out: &mut Out) -> Result<(), CliError> {
    client.beside_service().map_or(Ok(()), |why| out.remark(&format!("warn the daemon was not started as a service: {why}")))
}

/// A client of the daemon that runs; nothing is started.
pub(super) fn cold(token: Option<Token>) -> Result<Client, CliError> {
    Ok(Client::new(&paths()?).with_token(token))
}

/// The version of the daemon that answered, if it is another than this program's.
pub(super) fn skew(client: &Client) -> Option<&str> {
    client.daemon_version().filter(|version| *version != VERSION)
}

/// Says so to a person when the daemon that answered is of another version. It said its version in the answer that the
/// command needed anyway.
pub(super) fn note_skew(client: &Client, out: &mut Out) -> Result<(), CliError> {
    match skew(client) {
        Some(version) if out.is_watched() => say_skew(version, out),
        _ => Ok(()),
    }
}

/// Says so to whoever reads, person or not.
pub(super) fn say_skew(version: &str, out: &mut Out) -> Result<(), CliError> {
    out.remark(&format!("warn the daemon is {version}, this command is {VERSION}: run `claudemesh daemon restart` when it suits"))
}

/// The mesh of this slug, or the only one.
pub(super) fn one_mesh<'a>(config: &'a Config, wanted: Option<&str>) -> Result<&'a Mesh, CliError> {
    let joined = || config.meshes.iter().map(|mesh| mesh.slug.as_str()).collect::<Vec<_>>().join(", ");
    if config.meshes.is_empty() {
        return Err(
            CliError::refused(Exit::Unavailable, "no mesh is joined").with_hint("make one on this machine with: claudemesh up")
        );
    }
    match (wanted, config.meshes.as_slice()) {
        (Some(slug), _) => config.mesh(&Slug::new(slug)).ok_or_else(|| {
            CliError::refused(Exit::NotFound, format!("mesh \"{slug}\" not found")).with_hint(format!("joined: {}", joined()))
        }),
        (None, [only]) => Ok(only),
        (None, _) => {
            Err(CliError::usage("several meshes are joined; name one with --mesh").with_hint(format!("joined: {}", joined())))
        }
    }
}
