//! A terminal that a person sits before, as tmux makes one.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A running terminal; it goes with everything in it when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    server: String,
}

impl Terminal {
    /// Runs a command in it, with the command's environment. `None` where there is no tmux.
    pub(crate) fn start(command: &Command) -> Option<Terminal> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = format!("cm{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &server, "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", "--"]);
        tmux.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => tmux.env(name, value),
                None => tmux.env_remove(name),
            };
        }
        tmux.env("TERM", "xterm-256color").env_remove("TMUX");
        if let Some(dir) = command.get_current_dir() {
            tmux.current_dir(dir);
        }
        let started = tmux.status().is_ok_and(|status| status.success());
        started.then_some(Terminal { server })
    }

    fn tmux(&self, args: &[&str]) -> Option<String> {
        let done = Command::new("tmux").args(["-L", &self.server]).args(args).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Presses a key, by tmux's name for it.
    pub(crate) fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]).expect("the terminal is there");
    }

    /// What stands on it now.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).unwrap_or_default()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the terminal of {}:\n{}", self.server, self.screen());
        }
        // It may have ended by itself.
        let _ = self.tmux(&["kill-server"]);
    }
}
