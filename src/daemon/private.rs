//! What others of this machine may do with the daemon's files: nothing, whoever wrote them and under which mask.

use std::fs;
use std::path::Path;

use crate::base::paths::Paths;
use crate::sys::dirs::{self, DirError};

/// Closes the files that are there to others. The daemon's own directory has been looked at with its lock; a directory of
/// session keys that is somebody else's is refused.
pub(super) fn enforce(paths: &Paths) -> Result<(), DirError> {
    if fs::symlink_metadata(paths.sessions_dir()).is_ok() {
        dirs::private_dir_checked(paths.sessions_dir())?;
    }
    close(&paths.config_file());
    for entry in fs::read_dir(paths.daemon_dir()).into_iter().flatten().filter_map(Result::ok) {
        close(&entry.path());
    }
    Ok(())
}

fn close(path: &Path) {
    match dirs::make_private(path) {
        Ok(true) => log::warn!("others could read {}; now they can not", path.display()),
        Ok(false) => {}
        // Removed meanwhile, or not there at all.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => log::warn!("others may be able to read {}: {err}", path.display()),
    }
}
