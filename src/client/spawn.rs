//! A daemon whenever one is needed: connects, and starts one where none answers. Any number of callers at once start one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::base::names::neutralise_line;
use crate::base::paths::Paths;
use crate::base::service::{self, Manager};
use crate::base::{atomic_file, thread};
use crate::sys::dirs::{self, DirError};
use crate::sys::lock::{self, Beside, Holder};
use crate::sys::peer::effective_uid;
use crate::sys::poll;
use crate::wire::json;

use super::{Client, Error, manager, token};

/// Set to 1, it forbids starting a daemon; the daemon itself runs with it, so that nothing it starts can start another.
pub const NO_AUTOSPAWN: &str = "CLAUDEMESH_INTERNAL_NO_AUTOSPAWN";

/// From here to a socket that answers. A start takes milliseconds; a database to migrate or a slow disk may take longer.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// After a failed start nobody tries again for this long: its reason is reported instead.
const SUPPRESSED_FOR: Duration = Duration::from_secs(10);

/// How long a service manager may take until its daemon answers.
const SERVICE_DEADLINE: Duration = Duration::from_secs(8);

/// How often the socket of a daemon that somebody else starts is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// By what a service manager speaks to the one process it started. What that process starts is another matter.
const MANAGERS_OWN: [&str; 7] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "JOURNAL_STREAM", "XPC_SERVICE_NAME"];

/// Longest line that a starting daemon writes.
const MAX_READY: usize = 64 * 1024;

/// How much of a log's end is searched for its last line.
const LOG_TAIL: u64 = 8 * 1024;

/// How to start a daemon.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// Run with the arguments `daemon up --foreground`.
    pub executable: PathBuf,
    /// Further arguments.
    pub flags: Vec<String>,
    pub deadline: Duration,
    /// Starting is forbidden.
    pub disabled: bool,
}

impl Launcher {
    /// This program itself, unless the environment forbids it.
    pub fn from_env() -> io::Result<Launcher> {
        Ok(Launcher {
            executable: std::env::current_exe()?,
            flags: Vec::new(),
            deadline: START_DEADLINE,
            disabled: std::env::var_os(NO_AUTOSPAWN).is_some_and(|value| value == "1"),
        })
    }

    /// With further arguments for `daemon up --foreground`.
    #[must_use]
    pub fn with_flags(mut self, flags: Vec<String>) -> Launcher {
        self.flags = flags;
        self
    }
}

/// Why there is no daemon. `Display` says what happened, [`SpawnError::hint`] what to do.
#[derive(Debug)]
pub enum SpawnError {
    /// None runs, and starting one is forbidden here.
    Disabled,
    /// One failed to start a moment ago, for this reason.
    Suppressed(String),
    /// It ended before it answered; the last line of its log, or what the system said.
    Failed {
        reason: String,
        log: PathBuf,
    },
    /// It neither answered nor ended in time.
    Late(Duration),
    /// The service manager was told to start it, and it does not answer; the last line of its log, if it wrote any.
    Service {
        manager: Manager,
        reason: Option<String>,
    },
    /// Its directory is a link, or another user's.
    Directory(DirError),
    /// Something is wrong with the socket, other than that nobody listens.
    Connect(Error),
    Io(io::Error),
}

impl SpawnError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            SpawnError::Disabled => Some("start it with: claudemesh up".to_owned()),
            SpawnError::Suppressed(_) => Some("watch it start with: claudemesh daemon up --foreground".to_owned()),
            SpawnError::Failed { log, .. } => {
                Some(format!("see {}, or watch it: claudemesh daemon up --foreground", log.display()))
            }
            SpawnError::Service { manager, .. } => Some(format!("see: {}", manager.status_text())),
            SpawnError::Late(_) => Some("see: claudemesh status".to_owned()),
            SpawnError::Connect(err) => err.hint(),
            SpawnError::Directory(_) => Some("CLAUDEMESH_DAEMON_DIR names another directory for the daemon's files".to_owned()),
            SpawnError::Io(_) => None,
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Disabled => f.write_str("no daemon runs, and starting one is turned off here"),
            SpawnError::Suppressed(reason) => write!(f, "the daemon failed to start a moment ago: {reason}"),
            SpawnError::Failed { reason, .. } => write!(f, "the daemon did not start: {reason}"),
            SpawnError::Late(after) => write!(f, "the daemon did not start within {} s", after.as_secs()),
            SpawnError::Service { reason, .. } => {
                write!(
                    f,
                    "the service manager was told to start the daemon, which did not answer within {} s",
                    SERVICE_DEADLINE.as_secs()
                )?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            SpawnError::Connect(err) => err.fmt(f),
            SpawnError::Directory(err) => write!(f, "the daemon's files can not be kept safe: {err}"),
            SpawnError::Io(err) => write!(f, "cannot start the daemon: {err}"),
        }
    }
}

impl std::error::Error for SpawnError {}

impl From<io::Error> for SpawnError {
    fn from(err: io::Error) -> SpawnError {
        SpawnError::Io(err)
    }
}

/// A client of the daemon that runs, or of one started for it. With a daemon running the cost is one connect, and the
/// client's first call uses that connection.
pub fn ensure(paths: &Paths) -> Result<Client, SpawnError> {
    let client = Client::new(paths);
    if connect(&client)? {
        return Ok(client);
    }
    start(client, paths, &Launcher::from_env()?)
}

/// As [`ensure`], starting the daemon in the given way.
pub fn ensure_with(paths: &Paths, launcher: &Launcher) -> Result<Client, SpawnError> {
    let client = Client::new(paths);
    if connect(&client)? { Ok(client) } else { start(client, paths, launcher) }
}

/// Whether a daemon answers.
fn connect(client: &Client) -> Result<bool, SpawnError> {
    match client.connect() {
        Ok(()) => Ok(true),
        Err(Error::NoDaemon(_)) => Ok(false),
        Err(err) => Err(SpawnError::Connect(err)),
    }
}

fn start(mut client: Client, paths: &Paths, launcher: &Launcher) -> Result<Client, SpawnError> {
    if launcher.disabled {
        return Err(SpawnError::Disabled);
    }
    let began = Instant::now();
    let deadline = began + launcher.deadline;
    dirs::private_dir_checked(paths.daemon_dir()).map_err(SpawnError::Directory)?;
    let _lock =
        lock::acquire_by(&paths.spawn_lock(), &Beside::For(launcher.deadline), deadline).map_err(|refused| match refused {
            lock::Refused::Held { .. } => SpawnError::Late(launcher.deadline),
            lock::Refused::Io(err) => SpawnError::Io(err),
        })?;
    // Whoever had the lock before may have started it, or failed to.
    if connect(&client)? {
        return Ok(client);
    }
    if let Some(reason) = recent_failure(&paths.spawn_failure()) {
        return Err(SpawnError::Suppressed(reason));
    }
    let started = match by_manager(&client, paths, launcher) {
        Asked::Answers => Ok(()),
        Asked::Silent(err) => Err(err),
        Asked::Not(why) => {
            client.beside_service = why;
            launch(paths, launcher, Instant::now() + launcher.deadline)
        }
    };
    // A service manager may have been quicker; then ours ended because it is the second.
    if connect(&client)? {
        client.started_in = started.is_ok().then(|| began.elapsed());
        let _ = fs::remove_file(paths.spawn_failure());
        return Ok(client);
    }
    let err = match started {
        Ok(()) => SpawnError::Failed { reason: "it ended right after its start".to_owned(), log: paths.log_file() },
        Err(err) => err,
    };
    let reason = match &err {
        SpawnError::Failed { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    // The marker only spares others the attempt; this caller has the reason already.
    let _ = atomic_file::write(&paths.spawn_failure(), reason.as_bytes());
    Err(err)
}

/// What came of asking the service manager for the daemon.
enum Asked {
    Answers,
    Silent(SpawnError),
    /// It keeps none for these files, or it can not be asked, for this reason.
    Not(Option<String>),
}

/// Has the service manager start its unit, where one is installed for these files, and waits for the socket. A unit where no
/// manager runs, as in a container that shares the home directory, is no reason to go without a daemon.
fn by_manager(client: &Client, paths: &Paths, launcher: &Launcher) -> Asked {
    // Its daemon would not have the flags that this one is asked to have.
    let managed = launcher.flags.is_empty().then(|| service::manager_of(paths, |name| std::env::var_os(name))).flatten();
    let Some(kept_by) = managed else { return Asked::Not(None) };
    let deadline = Instant::now() + SERVICE_DEADLINE;
    let log_began = fs::metadata(paths.log_file()).map_or(0, |log| log.len());
    // Whoever holds the lock is on its way. Without one there may be a process that failed and holds off the next attempt: what
    // was wrong may have been put right since.
    let anew = matches!(lock::holder(&paths.pid_file()), Ok(Holder::Nobody));
    if let Err(refused) = manager::tell(&kept_by.start(effective_uid(), anew), deadline) {
        return Asked::Not(Some(format!("{refused}; see: {}", kept_by.status_text())));
    }
    loop {
        match connect(client) {
            Ok(true) => return Asked::Answers,
            Ok(false) if Instant::now() < deadline => {}
            Ok(false) => {
                let reason = last_line(&paths.log_file(), log_began);
                return Asked::Silent(SpawnError::Service { manager: kept_by, reason });
            }
            Err(err) => return Asked::Silent(err),
        }
        if let Err(err) = poll::wait(&[], None, Some(LOOK_AGAIN)) {
            return Asked::Silent(SpawnError::Io(err));
        }
    }
}

/// The reason in the marker, when it is fresh.
fn recent_failure(marker: &Path) -> Option<String> {
    // An age below zero is a clock that was set back: the marker counts as old.
    let age = fs::metadata(marker).ok()?.modified().ok()?.elapsed().ok()?;
    if SUPPRESSED_FOR <= age {
        return None;
    }
    let mut reason = String::new();
    File::open(marker).ok()?.take(1024).read_to_string(&mut reason).ok()?;
    Some(neutralise_line(reason.trim()))
}

/// Starts the process and waits until it says that it answers.
fn launch(paths: &Paths, launcher: &Launcher, deadline: Instant) -> Result<(), SpawnError> {
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
    reap(child);
    match wait_ready(ready, deadline) {
        Ready::Yes => Ok(()),
        Ready::Late => Err(SpawnError::Late(launcher.deadline)),
        Ready::Ended => {
            let reason = last_line(&log_path, log_began).unwrap_or_else(|| "it ended without a word".to_owned());
            Err(SpawnError::Failed { reason, log: log_path })
        }
    }
}

/// Collects the daemon's exit status whenever it ends, for callers that live longer than it does.
fn reap(mut child: Child) {
    // Without the thread a dead daemon stays in the process table until this process ends: harmless.
    let _ = thread::spawn("reap", 16 * 1024, move || child.wait());
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
fn last_line(log: &Path, from: u64) -> Option<String> {
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

#[cfg(test)]
mod tests;
