//! Where things live. No I/O: only environment variables and joined paths. The names are the reference's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directories of one user, after the environment's overrides.
#[derive(Debug, Clone)]
pub struct Paths {
    config_dir: PathBuf,
    daemon_dir: PathBuf,
    sessions_dir: PathBuf,
}

/// Whose view of the configuration is wanted: a session's overlay (`CLAUDEMESH_CONFIG_DIR`) narrows the command line to
/// one mesh, and the daemon, which serves them all, ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    CommandLine,
    Daemon,
}

impl Paths {
    /// Reads `CLAUDEMESH_HOME`, `CLAUDEMESH_CONFIG_DIR`, `CLAUDEMESH_DAEMON_DIR`, `CLAUDEMESH_SESSIONS_DIR` and `HOME`
    /// through `var`. `None` without any home to put files in.
    pub fn from_env(view: View, var: impl Fn(&str) -> Option<OsString>) -> Option<Paths> {
        let dir = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = dir("CLAUDEMESH_HOME").or_else(|| dir("HOME").map(|home| home.join(".claudemesh")))?;
        let overlay = match view {
            // A session's directory is removed when it ends, and shells that inherited its name outlive it.
            View::CommandLine => dir("CLAUDEMESH_CONFIG_DIR").filter(|dir| dir.is_dir()),
            View::Daemon => None,
        };
        Some(Paths {
            config_dir: overlay.unwrap_or_else(|| root.clone()),
            daemon_dir: dir("CLAUDEMESH_DAEMON_DIR").unwrap_or_else(|| root.join("daemon")),
            sessions_dir: dir("CLAUDEMESH_SESSIONS_DIR").unwrap_or_else(|| root.join("sessions")),
        })
    }

    /// Everything under one directory, as a scratch home has it.
    pub fn under(root: &Path) -> Paths {
        Paths { config_dir: root.to_owned(), daemon_dir: root.join("daemon"), sessions_dir: root.join("sessions") }
    }

    pub fn config_dir(&self) -> &Path {
        &self.config_dir
    }

    pub fn sessions_dir(&self) -> &Path {
        &self.sessions_dir
    }

    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join("config.json")
    }

    pub fn daemon_dir(&self) -> &Path {
        &self.daemon_dir
    }

    pub fn pid_file(&self) -> PathBuf {
        self.daemon_dir.join("daemon.pid")
    }

    pub fn socket(&self) -> PathBuf {
        self.daemon_dir.join("daemon.sock")
    }

    pub fn log_file(&self) -> PathBuf {
        self.daemon_dir.join("daemon.log")
    }

    pub fn local_token(&self) -> PathBuf {
        self.daemon_dir.join("local-token")
    }

    pub fn outbox_db(&self) -> PathBuf {
        self.daemon_dir.join("outbox.db")
    }

    pub fn inbox_db(&self) -> PathBuf {
        self.daemon_dir.join("inbox.db")
    }

    pub fn sessions_file(&self) -> PathBuf {
        self.daemon_dir.join("sessions.json")
    }

    pub fn host_fingerprint(&self) -> PathBuf {
        self.daemon_dir.join("host_fingerprint.json")
    }

    /// What the user wants otherwise, see [`super::settings`].
    pub fn settings_file(&self) -> PathBuf {
        self.daemon_dir.join("settings.json")
    }

    /// What was put into the client's files, and what it replaced.
    pub fn installed_file(&self) -> PathBuf {
        self.config_dir.join("installed.json")
    }

    pub fn spawn_lock(&self) -> PathBuf {
        self.daemon_dir.join(".spawn.lock")
    }

    pub fn spawn_failure(&self) -> PathBuf {
        self.daemon_dir.join(".spawn-failure")
    }

    /// How often in a row the daemon failed to start under a service manager.
    pub fn start_failures(&self) -> PathBuf {
        self.daemon_dir.join(".start-failures")
    }

    /// Data of the broker that the daemon carries for a machine of its own.
    pub fn home_broker_dir(&self) -> PathBuf {
        self.daemon_dir.join("broker")
    }

    /// A launched session's token, for the command line and the shim that run inside it; removed when the session ends.
    /// The id must have been checked.
    pub fn session_token(&self, session_id: &str) -> PathBuf {
        self.daemon_dir.join("run").join(format!("{session_id}.token"))
    }

    /// The key file of a session (the reference's `sessions/<slug>/<uuid>.json`). Both names must have been checked.
    pub fn session_key(&self, slug: &str, session_id: &str) -> PathBuf {
        self.sessions_dir.join(slug).join(format!("{session_id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_and_defaults() {
        let env = |pairs: &'static [(&'static str, &'static str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        let plain = Paths::from_env(View::CommandLine, env(&[("HOME", "/h")])).unwrap();
        assert_eq!(plain.config_file(), Path::new("/h/.claudemesh/config.json"));
        assert_eq!(plain.socket(), Path::new("/h/.claudemesh/daemon/daemon.sock"));
        let moved =
            Paths::from_env(View::Daemon, env(&[("HOME", "/h"), ("CLAUDEMESH_HOME", "/c"), ("CLAUDEMESH_DAEMON_DIR", "/d")]))
                .unwrap();
        assert_eq!(moved.config_file(), Path::new("/c/config.json"));
        assert_eq!(moved.pid_file(), Path::new("/d/daemon.pid"));
        let overlay = env(&[("HOME", "/h"), ("CLAUDEMESH_CONFIG_DIR", "/")]);
        assert_eq!(Paths::from_env(View::CommandLine, overlay).unwrap().config_dir(), Path::new("/"));
        assert_eq!(Paths::from_env(View::Daemon, overlay).unwrap().config_dir(), Path::new("/h/.claudemesh"));
        let stale = env(&[("HOME", "/h"), ("CLAUDEMESH_CONFIG_DIR", "/no/such/dir")]);
        assert_eq!(Paths::from_env(View::CommandLine, stale).unwrap().config_dir(), Path::new("/h/.claudemesh"));
        assert!(Paths::from_env(View::Daemon, env(&[])).is_none());
    }
}
