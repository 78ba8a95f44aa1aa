//! What others of this machine may do with the daemon's files: nothing, whoever wrote them and under which mask.

use std::fs;
use std::path::Path;

use crate::base::paths::Paths;
use crate::sys::dirs::{self, DirError};

/// Whoever may write in a directory may put another file in place of any in it.
const WRITE_OF_OTHERS: u32 = 0o022;

/// Rights of others, group and all.
const OTHERS: u32 = 0o077;

/// Why these files are not safe here.
#[derive(Debug)]
pub(super) enum Unsafe {
    /// The directory of `config.json`, or that file: they hold the keys of the meshes.
    Keys(DirError),
    /// What is the daemon's alone.
    Own(DirError),
}

/// Closes the files that are there to others, and refuses what is somebody else's. The daemon's own directory has been looked
/// at with its lock.
pub(super) fn enforce(paths: &Paths) -> Result<(), Unsafe> {
    look(paths)?;
    // The user may have more in there than this program's files, as where it is the home directory: who may read there stays
    // as it was, and every file that nobody else is to read is closed by itself.
    tell(dirs::take_away(paths.config_dir(), WRITE_OF_OTHERS).map_err(Unsafe::Keys)?, "write in", paths.config_dir());
    // It may be a link of the user's own, to where such files are kept in order.
    tell(dirs::take_away(&paths.config_file(), OTHERS).map_err(Unsafe::Keys)?, "read", &paths.config_file());
    if paths.sessions_dir().exists() {
        dirs::private_dir_checked(paths.sessions_dir()).map_err(Unsafe::Own)?;
    }
    for entry in fs::read_dir(paths.daemon_dir()).into_iter().flatten().filter_map(Result::ok) {
        close(&entry.path());
    }
    Ok(())
}

/// Looks for what [`enforce`] would refuse, and changes nothing.
pub(super) fn look(paths: &Paths) -> Result<(), Unsafe> {
    dirs::own_through_links(paths.config_dir()).map_err(Unsafe::Keys)?;
    dirs::own_through_links(&paths.config_file()).map_err(Unsafe::Keys)?;
    dirs::own_dir(paths.daemon_dir()).map_err(Unsafe::Own)?;
    dirs::own_dir(paths.sessions_dir()).map_err(Unsafe::Own)?;
    Ok(())
}

fn close(path: &Path) {
    match dirs::make_private(path) {
        Ok(could) => tell(could, "read", path),
        // Removed meanwhile, or not there at all.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => log::warn!("others may be able to read {}: {err}", path.display()),
    }
}

fn tell(could: bool, what: &str, path: &Path) {
    if could {
        log::warn!("others could {what} {}; now they can not", path.display());
    }
}
