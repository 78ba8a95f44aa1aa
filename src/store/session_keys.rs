//! Session key files: what lets a resumed session keep its address.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::base::atomic_file;
use crate::base::ids::{SessionId, Slug};
use crate::base::names::{is_slug_any_case, is_uuid};
use crate::base::paths::Paths;
use crate::base::time::{iso, now_millis};
use crate::crypto::keys::KeyPair;
use crate::sys::dirs;
use crate::wire::json;
use crate::wire::session_key::SessionKeyFile;

/// Such a file has under 500 bytes.
const MAX_FILE: u64 = 4096;

/// Names the place where a session's file would be.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// The file for this session, or `None` when either name is unfit to be a file's.
fn path(paths: &Paths, mesh: &Slug, session: &SessionId) -> Option<PathBuf> {
    (is_slug_any_case(mesh.as_str()) && is_uuid(session.as_str())).then(|| paths.session_key(mesh.as_str(), session.as_str()))
}

/// The key kept for this session. `None` if there is none, or if what is there is not for this session; the caller checks
/// the keys themselves.
pub fn load(paths: &Paths, mesh: &Slug, session: &SessionId) -> Option<SessionKeyFile> {
    let path = path(paths, mesh, session)?;
    if let Err(err) = dirs::make_private(&path)
        && err.kind() != io::ErrorKind::NotFound
    {
        log::warn!("others may be able to read {}: {err}", path.display());
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    let file: SessionKeyFile = json::decode(&bytes).ok()?;
    (file.version == 1 && file.mesh_slug == mesh.as_str() && file.session_id.eq_ignore_ascii_case(session.as_str()))
        .then_some(file)
}

/// What is kept of a session that is called `name`.
pub fn file_of(mesh: &Slug, session: &SessionId, pair: &KeyPair, name: &str) -> SessionKeyFile {
    SessionKeyFile {
        version: 1,
        mesh_slug: mesh.to_string(),
        session_id: session.to_string(),
        public_key: pair.public.to_hex(),
        secret_key: pair.secret.to_secret_text().reveal().to_owned(),
        created_at: iso(now_millis()),
        display_name: Some(name.to_owned()),
    }
}

/// Keeps a key for this session. `Ok(false)` when the session's id is no UUID: then nothing is kept.
pub fn save(paths: &Paths, mesh: &Slug, session: &SessionId, file: &SessionKeyFile) -> io::Result<bool> {
    let Some(path) = path(paths, mesh, session) else { return Ok(false) };
    if let Some(dir) = path.parent() {
        atomic_file::private_dir(dir)?;
    }
    atomic_file::write(&path, json::encode(file).as_bytes())?;
    Ok(true)
}

/// Brings the keys of a mesh's sessions, those that may be resumed included, under its new name.
pub fn rename(paths: &Paths, old: &Slug, new: &Slug) -> io::Result<()> {
    let Some(dir) = path(paths, old, &SessionId::new(NOBODY)).and_then(|path| path.parent().map(Path::to_owned)) else {
        return Ok(());
    };
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let was = entry?.path();
        let id = was.file_stem().and_then(|stem| stem.to_str()).map(SessionId::new);
        let Some((id, file)) = id.and_then(|id| Some((id.clone(), load(paths, old, &id)?))) else { continue };
        // The old one goes when the new one is there.
        if save(paths, new, &id, &SessionKeyFile { mesh_slug: new.to_string(), ..file })? {
            fs::remove_file(was)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_key_is_kept_for_its_own_session_only() {
        let dir = tempdir().unwrap();
        let root = dir.path();
        let paths = Paths::under(root);
        let (mesh, id) = (Slug::new("home"), SessionId::new("01234567-89ab-cdef-0123-456789abcdef"));
        let file = SessionKeyFile {
            version: 1,
            mesh_slug: "home".into(),
            session_id: id.to_string(),
            public_key: "ab".repeat(32),
            secret_key: "cd".repeat(64),
            created_at: "2025-10-09T08:53:20.000Z".into(),
            display_name: Some("alice".into()),
        };
        assert!(save(&paths, &mesh, &id, &file).unwrap());
        assert_eq!(load(&paths, &mesh, &id).unwrap().public_key, file.public_key);
        assert!(load(&paths, &Slug::new("other"), &id).is_none());
        let new = Slug::new("field");
        rename(&paths, &mesh, &new).unwrap();
        assert!(load(&paths, &mesh, &id).is_none());
        let renamed = load(&paths, &new, &id).unwrap();
        assert_eq!((renamed.secret_key, renamed.display_name), (file.secret_key.clone(), file.display_name.clone()));
        rename(&paths, &Slug::new("none"), &new).unwrap();
        assert!(!save(&paths, &mesh, &SessionId::new("../x"), &file).unwrap());
        assert!(!format!("{file:?}").contains("cdcd"));
        let theirs = json::decode::<SessionKeyFile>(
            br#"{"version":1,"meshSlug":"m","sessionId":"s","publicKey":"","secretKey":"","createdAt":""}"#,
        );
        assert_eq!(theirs.unwrap().display_name, None, "the reference's have none");
    }
}
