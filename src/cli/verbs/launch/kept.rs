//! What is kept of a session on this machine: its key and its name, which outlive it, and its token, which does not.

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::atomic_file;
use crate::base::config::Mesh;
use crate::base::ids::{SessionId, Token};
use crate::base::names::is_display_name;
use crate::base::paths::Paths;
use crate::cli::error::CliError;
use crate::client::Client;
use crate::crypto::keys::{KeyPair, SecretKey};
use crate::store::session_keys;
use crate::wire::session_key::SessionKeyFile;

/// What the session was called when it last ran, if that is known and still a name.
pub(in crate::cli) fn name(paths: &Paths, mesh: &Mesh, id: &SessionId) -> Option<String> {
    let kept = session_keys::load(paths, &mesh.slug, id)?.display_name?;
    Some(kept).filter(|name| is_display_name(name) && !name.contains('@'))
}

/// The session's key pair: the one it had, or a new one. Notes what it is called now.
pub(in crate::cli) fn keys(paths: &Paths, mesh: &Mesh, id: &SessionId, name: &str) -> Result<KeyPair, CliError> {
    let kept = session_keys::load(paths, &mesh.slug, id);
    let kept = kept.and_then(|file| Some((KeyPair::from(SecretKey::parse_hex(&file.secret_key)?), file)));
    let (pair, file) = match kept {
        Some((pair, file)) if file.display_name.as_deref() == Some(name) => return Ok(pair),
        Some((pair, file)) => (pair, SessionKeyFile { display_name: Some(name.to_owned()), ..file }),
        None => {
            let pair = KeyPair::generate();
            let file = session_keys::file_of(&mesh.slug, id, &pair, name);
            (pair, file)
        }
    };
    session_keys::save(paths, &mesh.slug, id, &file).map_err(|err| CliError::io("the session's key can not be kept", err))?;
    Ok(pair)
}

pub(in crate::cli) fn write_token(paths: &Paths, id: &SessionId, token: &Token) -> Result<PathBuf, CliError> {
    let file = paths.session_token(id.as_str());
    let write = || {
        if let Some(dir) = file.parent() {
            atomic_file::private_dir(dir)?;
        }
        atomic_file::write(&file, token.reveal().as_bytes())
    };
    write().map_err(|err| CliError::io("the session's token can not be written", err))?;
    Ok(file)
}

/// Takes back what was made for a session that did not start.
pub(super) fn give_back(client: &Client, token: &Token, file: &Path) {
    if let Err(err) = client.deregister(token) {
        log::warn!("the session that did not start is still registered: {err}");
    }
    remove(file);
}

pub(super) fn remove(token_file: &Path) {
    if let Err(err) = fs::remove_file(token_file)
        && err.kind() != std::io::ErrorKind::NotFound
    {
        log::warn!("{} is left behind: {err}", token_file.display());
    }
}
