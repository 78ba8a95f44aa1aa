//! The daemon as a process: started, and waited for until it says that it answers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::base::names::neutralise_line;
use crate::base::paths::Paths;
use crate::base::thread::{self, Running};
use crate::client::token;
use crate::wire::json;

use super::{Launcher, NO_AUTOSPAWN, SpawnError};

/// By what a service manager speaks to the one process it started. What that process starts is another matter.
const MANAGERS_OWN: [&str; 7] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "JOURNAL_STREAM", "XPC_SERVICE_NAME"];

/// Longest line that a starting daemon writes.
const MAX_READY: usize = 64 * 1024;

/// How long a process may take to be gone whose output has ended.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// How much of a log's end is searched for its last line.
const LOG_TAIL: u64 = 8 * 1024;

/// Starts the process and waits until it says that it answers.
pub(super) fn launch(paths: &Paths, launcher: &Launcher, deadline: Instant) -> Result<(), SpawnError> {
    let log_path = paths.log_file();
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&log_path)?;
    log.set_permissions(fs::Permissions::from_mode(0o600))?;
    let log_began = log.metadata()?.len();
    let (ready, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&launcher.executable);
    command
        .args(["daemon", "up", "--foreground"])
        .args(&launcher.flags)
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::from(log))
        .env(NO_AUTOSPAWN, "1")
        .env("CLAUDEMESH_DAEMON_DIR", paths.daemon_dir())
        .env_remove("CLAUDEMESH_CONFIG_DIR")
        .env_remove(token::TOKEN)
        .env_remove(token::TOKEN_FILE)
        .process_group(0);
    for name in MANAGERS_OWN {
        command.env_remove(name);
    }
    if paths.daemon_dir().is_absolute() && paths.config_dir().is_absolute() {
        // It outlives whatever directory it was started from.
        command.current_dir("/");
    }
    let child = command.spawn()?;
    // Our copy of its end, so that its death is the end of the stream.
    drop(command);
    let end = reap(child);
    match wait_ready(ready, deadline) {
        Ready::Yes => Ok(()),
        Ready::Late => Err(SpawnError::Late(launcher.deadline)),
        Ready::Ended => {
            // What it held is free once it is gone, and not when its output ends.
            drop(end.map(|end| end.join_by(deadline.min(Instant::now() + GONE_WITHIN))));
            let reason = last_line(&log_path, log_began).unwrap_or_else(|| "it ended without a word".to_owned());
            Err(SpawnError::Failed { reason, log: log_path })
        }
    }
}

/// Collects the daemon's exit status whenever it ends, for callers that live longer than it does.
fn reap(mut child: Child) -> io::Result<Running<io::Result<ExitStatus>>> {
    // Without the thread a dead daemon stays in the process table until this process ends: harmless.
    thread::spawn("reap", 16 * 1024, move || child.wait())
}

enum Ready {
    Yes,
    Late,
    Ended,
}

/// The line that a daemon writes once its socket answers.
#[derive(Deserialize)]
struct Started {
    msg: String,
}

fn wait_ready(mut ready: UnixStream, deadline: Instant) -> Ready {
    let mut line = Vec::new();
    let mut buffer = [0_u8; 1024];
    while line.len() < MAX_READY {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || ready.set_read_timeout(Some(left)).is_err() {
            return Ready::Late;
        }
        match ready.read(&mut buffer) {
            Ok(0) => return Ready::Ended,
            Ok(count) => line.extend_from_slice(&buffer[..count]),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ready::Late,
            Err(_) => return Ready::Ended,
        }
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let started = json::decode::<Started>(&line[..end]);
            return if started.is_ok_and(|started| started.msg == "daemon_started") { Ready::Yes } else { Ready::Ended };
        }
    }
    Ready::Ended
}

/// A line of the daemon's log.
#[derive(Deserialize)]
struct Logged {
    msg: String,
}

/// The last line written to the log after its first `from` bytes: the message of a log record, or the line itself.
pub(super) fn last_line(log: &Path, from: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    // A log that is shorter than it was has been begun anew.
    let from = if length < from { 0 } else { from };
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(LOG_TAIL)))).ok()?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rev().find(|line| !line.trim().is_empty())?;
    let text = json::decode::<Logged>(line.as_bytes()).map_or_else(|_| line.to_owned(), |logged| logged.msg);
    Some(neutralise_line(text.trim()).chars().take(500).collect())
}
