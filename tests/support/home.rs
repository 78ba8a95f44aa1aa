//! A scratch home: everything of one user under one directory, which goes when the test ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The program under test.
pub(crate) const CLAUDEMESH: &str = env!("CARGO_BIN_EXE_claudemesh");

/// A directory that is removed when this is dropped; kept with `CLAUDEMESH_KEEP` set.
#[derive(Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new() -> Home {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Short, because the path of a Unix socket has about a hundred bytes.
        let name = format!("cm{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Home(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("daemon/daemon.sock")
    }

    /// `claudemesh` with these arguments, in this home and with nothing of the surrounding environment's settings.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command_in(&self.0, args)
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

impl Drop for Home {
    fn drop(&mut self) {
        if std::env::var_os("CLAUDEMESH_KEEP").is_some() {
            eprintln!("kept: {}", self.0.display());
        } else {
            // What is left of a scratch directory is not worth failing for.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
