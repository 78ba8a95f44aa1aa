//! Changes of `config.json` by commands, one at a time: two that join at once must not lose each other's entry.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::base::atomic_file;
use crate::base::config::{Config, Error as ConfigError};
use crate::base::paths::Paths;
use crate::sys::lock::{self, Beside};

/// How long another command may take with its change.
const PATIENCE: Duration = Duration::from_secs(5);

/// Held while the file is read, changed and written.
const LOCK: &str = ".config.lock";

/// Why the file was not changed.
#[derive(Debug)]
pub enum EditError {
    Directory(io::Error),
    Lock(lock::Refused),
    Config(ConfigError),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Directory(err) => write!(f, "the directory of config.json: {err}"),
            EditError::Lock(err) => write!(f, "config.json is being changed by somebody else: {err}"),
            EditError::Config(err) => err.fmt(f),
        }
    }
}

impl std::error::Error for EditError {}

/// Reads, changes and writes the configuration. What `change` refuses leaves the file as it is.
pub fn edit<T, R>(paths: &Paths, change: impl FnOnce(&mut Config) -> Result<T, R>) -> Result<Result<T, R>, EditError> {
    atomic_file::private_dir(paths.config_dir()).map_err(EditError::Directory)?;
    let _lock =
        lock::acquire_by(&paths.config_dir().join(LOCK), &Beside::Nobody, Instant::now() + PATIENCE).map_err(EditError::Lock)?;
    let file = paths.config_file();
    let mut config = Config::load(&file).map_err(EditError::Config)?;
    let changed = change(&mut config);
    if changed.is_ok() {
        config.store(&file).map_err(EditError::Config)?;
    }
    Ok(changed)
}
