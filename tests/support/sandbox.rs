//! A namespace of its own for file systems: a disk that is full or a directory that nobody can write, without being root
//! and without touching the machine's own mounts.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Process;

/// A user and mount namespace. It ends with the process that holds it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Sandbox {
    holder: Process,
}

impl Sandbox {
    /// `None` where the kernel forbids it, with the reason on standard error.
    #[track_caller]
    pub(crate) fn new() -> Option<Sandbox> {
        if !cfg!(target_os = "linux") {
            eprintln!("skipped: namespaces are Linux's");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", "echo ready && exec cat"]);
        let holder = Process::spawn(command);
        if holder.line().is_none() {
            eprintln!("skipped: no namespace can be made here: {}", holder.errors().trim());
            return None;
        }
        Some(Sandbox { holder })
    }

    /// What makes a command run within.
    pub(crate) fn prefix(&self) -> Vec<String> {
        let pid = self.holder.pid().to_string();
        ["nsenter", "--target", &pid, "--user", "--mount", "--preserve-credentials"].map(str::to_owned).into()
    }

    /// Runs a shell command within; it must succeed.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) {
        let prefix = self.prefix();
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).args(["sh", "-c", script]);
        let ended = Process::run(command);
        assert!(ended.status.success(), "{script}: {ended:?}");
    }

    /// A path within, as it is reached from outside.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.pid(), path.display()))
    }
}
