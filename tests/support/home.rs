//! A scratch home: everything of one user under one directory, which goes when the test ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The program under test.
pub(crate) const CLAUDEMESH: &str = env!("CARGO_BIN_EXE_claudemesh");

/// A directory that is removed when this is dropped; kept with `CLAUDEMESH_KEEP` set.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        let mut dir = tempfile::tempdir().unwrap();
        if std::env::var_os("CLAUDEMESH_KEEP").is_some() {
            eprintln!("kept: {}", dir.path().display());
            dir.disable_cleanup(true);
        }
        Home(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("daemon/daemon.sock")
    }

    /// `claudemesh` with these arguments, in this home and with nothing of the surrounding environment's settings.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command_in(self.path(), args)
    }
}

/// As [`Home::command`], for a home that somebody else owns.
pub(crate) fn command_in(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(CLAUDEMESH);
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_str().is_none_or(|name| name.starts_with("CLAUDE"))) {
        command.env_remove(name);
    }
    command
        .args(args)
        .env("HOME", home)
        .env("CLAUDEMESH_HOME", home)
        .env_remove("NOTIFY_SOCKET")
        .env_remove("INVOCATION_ID")
        .current_dir(home);
    command
}
