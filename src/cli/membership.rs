//! Entries of `config.json` as commands make, find and remove them, and keys that wait for a broker's word.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::base::atomic_file;
use crate::base::config::{Config, Mesh};
use crate::base::exit::Exit;
use crate::base::hex;
use crate::base::ids::Slug;
use crate::base::names::is_display_name;
use crate::base::paths::Paths;
use crate::client::config_edit::{self, EditError};
use crate::crypto::fingerprint;
use crate::crypto::keys::{KeyPair, SecretKey};

use super::context;
use super::error::CliError;

/// Where the daemon looks: what a session's overlay holds would be gone with the session.
pub(super) fn files() -> Result<Paths, CliError> {
    context::paths()?;
    context::daemon_paths()
}

/// The key of an entry.
pub(super) fn secret(mesh: &Mesh) -> Result<SecretKey, CliError> {
    SecretKey::parse_hex(mesh.secret_key.reveal())
        .ok_or_else(|| CliError::refused(Exit::Io, format!("config.json: the key of \"{}\" is no key", mesh.slug)))
}

/// The joined mesh of this slug.
pub(super) fn joined(paths: &Paths, slug: &str) -> Result<Mesh, CliError> {
    let config = Config::load(&paths.config_file())?;
    context::one_mesh(&config, Some(slug)).cloned()
}

/// A slug for this machine that is not taken: the wanted one, or that with a number.
pub(super) fn free_slug(config: &Config, wanted: &str) -> String {
    let is_free = |slug: &str| config.mesh(&Slug::new(slug)).is_none();
    let numbered = (2..).map(|n| format!("{}-{n}", wanted.get(..60).unwrap_or(wanted)));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|slug| is_free(slug)).unwrap_or_default()
}

/// The words for a slug that is taken, with one that is not.
pub(super) fn taken(slug: &str, free: &str) -> CliError {
    CliError::refused(Exit::AlreadyExists, format!("another mesh is called \"{slug}\" on this machine"))
        .with_hint(format!("call this one something else here: --as {free}"))
}

/// As [`taken`], for a mesh that is there and is to be called so.
pub(super) fn taken_by_another(old: &str, slug: &str, free: &str) -> CliError {
    taken(slug, free).with_hint(format!("try: claudemesh mesh rename {old} {free}"))
}

/// A slug made of a name: what cannot be in one becomes a hyphen.
pub(super) fn slug_of(name: &str) -> String {
    let mut slug = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() || (matches!(c, '.' | '_') && !slug.ends_with('.')) {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches(['-', '.', '_']).chars().take(64).collect()
}

/// The name a member begins with, unless one is given.
pub(super) fn member_name(given: Option<&str>) -> Result<String, CliError> {
    match given {
        Some(name) if is_display_name(name) => Ok(name.to_owned()),
        Some(name) => Err(CliError::usage(format!("--name: \"{name}\" is no name"))
            .with_hint("1 to 64 visible characters, the first of them none of @ # * -")),
        None => Ok(user_name().unwrap_or_else(|| "member".to_owned())),
    }
}

/// What the system calls whoever runs this, if others can be shown that and type it.
pub(super) fn user_name() -> Option<String> {
    std::env::var("USER").ok().filter(|name| is_display_name(name) && !name.contains('@'))
}

fn failed(err: EditError) -> CliError {
    match err {
        EditError::Config(err) => CliError::Config(err),
        EditError::Directory(err) => CliError::io("the directory of config.json", err),
        EditError::Lock(err) => CliError::refused(Exit::Io, format!("config.json can not be changed now: {err}")),
    }
}

/// Adds an entry. Nothing is ever written over: an entry of this slug is an error.
pub(super) fn add(paths: &Paths, mesh: Mesh) -> Result<(), CliError> {
    let added = config_edit::edit(paths, |config| {
        if config.mesh(&mesh.slug).is_some() {
            return Err(taken(mesh.slug.as_str(), &free_slug(config, mesh.slug.as_str())));
        }
        config.meshes.push(mesh);
        Ok(())
    });
    added.map_err(failed)?
}

/// Removes the entries of a mesh under this slug; how many meshes are left.
pub(super) fn remove(paths: &Paths, mesh: &Mesh) -> Result<usize, CliError> {
    let removed = config_edit::edit(paths, |config| {
        config.meshes.retain(|entry| entry.slug != mesh.slug || entry.mesh_id != mesh.mesh_id);
        Ok::<_, CliError>(config.meshes.len())
    });
    removed.map_err(failed)?
}

/// Gives an entry another slug and name.
pub(super) fn rename(paths: &Paths, old: &Slug, slug: &str, name: &str) -> Result<(), CliError> {
    let renamed = config_edit::edit(paths, |config| {
        if *old != Slug::new(slug) && config.mesh(&Slug::new(slug)).is_some() {
            return Err(taken_by_another(old.as_str(), slug, &free_slug(config, slug)));
        }
        if let Some(entry) = config.meshes.iter_mut().rfind(|entry| entry.slug == *old) {
            entry.slug = Slug::new(slug);
            entry.name = name.to_owned();
        }
        Ok(())
    });
    renamed.map_err(failed)?
}

/// A key that a broker may have heard of while nobody knows what it said: the same purpose finds the same key again, so
/// that trying again is the same request.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) pair: KeyPair,
    file: PathBuf,
}

impl Pending {
    /// The key kept for this purpose, or a new one that is kept now.
    pub(super) fn open(paths: &Paths, purpose: &str) -> Result<Pending, CliError> {
        let wrong = |err| CliError::io("the key can not be kept", err);
        let dir = paths.config_dir().join("pending");
        atomic_file::private_dir(paths.config_dir()).and_then(|()| atomic_file::private_dir(&dir)).map_err(wrong)?;
        let name: String = hex::encode(&fingerprint::sha256(purpose.as_bytes())).chars().take(32).collect();
        let file = dir.join(format!("{name}.key"));
        let kept = match fs::read_to_string(&file) {
            Ok(text) => SecretKey::parse_hex(text.trim()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => return Err(wrong(err)),
        };
        if let Some(secret) = kept {
            return Ok(Pending { pair: secret.into(), file });
        }
        let pair = KeyPair::generate();
        atomic_file::write(&file, pair.secret.to_secret_text().reveal().as_bytes()).map_err(wrong)?;
        Ok(Pending { pair, file })
    }

    /// The broker's word is known: the key is in the configuration, or of no use.
    pub(super) fn settle(self) {
        // A leftover is found by the same purpose only, and is as good as a new key there.
        let _ = fs::remove_file(self.file);
    }

    /// As [`Pending::settle`], if `outcome` is the broker's word and not a silence.
    pub(super) fn settle_if_refused<T>(self, outcome: Result<T, CliError>) -> Result<(T, Pending), CliError> {
        match outcome {
            Ok(value) => Ok((value, self)),
            Err(err) => {
                if err.exit() != Exit::Network {
                    self.settle();
                }
                Err(err)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;
    use crate::base::names::is_slug;

    #[test]
    fn slugs_of_names() {
        for (name, slug) in [("team", "team"), ("My Team!", "my-team"), ("  a  b ", "a-b"), ("..x..y", "x.-y"), ("Ünï", "n")] {
            assert_eq!(slug_of(name), slug, "{name}");
            assert!(is_slug(slug));
        }
        assert!(!is_slug(&slug_of("漢字")));
        assert!(is_slug(&slug_of(&"a ".repeat(60))));
    }

    #[test]
    fn a_key_is_kept_until_it_is_settled() {
        let root = tempdir().unwrap();
        let paths = Paths::under(root.path());
        let first = Pending::open(&paths, "a").unwrap();
        let (again, other) = (Pending::open(&paths, "a").unwrap(), Pending::open(&paths, "b").unwrap());
        assert!(first.pair.public == again.pair.public && again.pair.public != other.pair.public);
        let silent: Result<(), CliError> = Err(CliError::refused(Exit::Network, "nobody there"));
        assert!(again.settle_if_refused(silent).is_err());
        let kept = Pending::open(&paths, "a").unwrap();
        assert_eq!(kept.pair.public, first.pair.public, "silence settles nothing");
        assert!(kept.settle_if_refused::<()>(Err(CliError::refused(Exit::Denied, "no"))).is_err());
        assert_ne!(Pending::open(&paths, "a").unwrap().pair.public, first.pair.public);
    }
}
