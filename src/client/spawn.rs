//! A daemon whenever one is needed: connects, and starts one where none answers. Any number of callers at once start one.

mod launch;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::atomic_file;
use crate::base::exit::Exit;
use crate::base::names::neutralise_line;
use crate::base::paths::Paths;
use crate::base::service::{self, Manager};
use crate::sys::dirs::{self, DirError};
use crate::sys::lock::{self, Beside, Holder, Lock};
use crate::sys::peer::effective_uid;
use crate::sys::poll;

use self::launch::{last_line, launch};
use super::{Client, Error, manager};

/// Set to 1, it forbids starting a daemon; the daemon itself runs with it, so that nothing it starts can start another.
pub const NO_AUTOSPAWN: &str = "CLAUDEMESH_INTERNAL_NO_AUTOSPAWN";

/// From here to a socket that answers. A start takes milliseconds; a database to migrate or a slow disk may take longer.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// After a failed start nobody tries again for this long: its reason is reported instead.
const SUPPRESSED_FOR: Duration = Duration::from_secs(10);

/// How long a service manager may take until its daemon answers.
const SERVICE_DEADLINE: Duration = Duration::from_secs(8);

/// How long somebody may take to note that a daemon ended which it was starting.
const CUT_SHORT: Duration = Duration::from_secs(1);

/// How often the socket of a daemon that somebody else starts is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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
    /// This process keeps its files all this time, and does not answer.
    Held {
        pid: Option<u32>,
        patience: Duration,
    },
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
            SpawnError::Held { .. } => {
                Some("if it stays so: claudemesh daemon restart; its log says what it waits for".to_owned())
            }
            SpawnError::Connect(err) => err.hint(),
            SpawnError::Directory(_) => Some("CLAUDEMESH_DAEMON_DIR names another directory for the daemon's files".to_owned()),
            SpawnError::Io(_) => None,
        }
    }

    /// The status a command ends with that needs the daemon.
    pub fn exit(&self) -> Exit {
        match self {
            SpawnError::Connect(err) => err.exit(),
            SpawnError::Io(_) | SpawnError::Directory(_) => Exit::Io,
            SpawnError::Disabled
            | SpawnError::Suppressed(_)
            | SpawnError::Failed { .. }
            | SpawnError::Late(_)
            | SpawnError::Held { .. }
            | SpawnError::Service { .. } => Exit::Network,
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
            SpawnError::Held { pid, patience } => {
                let which = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                write!(f, "a process{which} holds the daemon's lock, and did not answer within {} s", patience.as_secs())
            }
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

/// How a client came by its daemon, and comes by the next one if that ended just then.
#[derive(Debug)]
pub(super) struct Starter {
    paths: Paths,
    launcher: Launcher,
}

impl Starter {
    pub(super) fn ensure(&self) -> Result<Client, SpawnError> {
        ensure_with(&self.paths, &self.launcher)
    }
}

/// While this lives nobody else starts a daemon for these files: whoever needs one waits.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held, never read")] Lock);

/// Waits for others who start a daemon, and then keeps them waiting.
pub fn turn(paths: &Paths) -> Result<Turn, SpawnError> {
    turn_within(paths, START_DEADLINE)
}

fn turn_within(paths: &Paths, patience: Duration) -> Result<Turn, SpawnError> {
    dirs::private_dir_checked(paths.daemon_dir()).map_err(SpawnError::Directory)?;
    let taken = lock::acquire_by(&paths.spawn_lock(), &Beside::For(START_DEADLINE), Instant::now() + patience);
    taken.map(Turn).map_err(|refused| match refused {
        lock::Refused::Held { .. } => SpawnError::Late(patience),
        lock::Refused::Io(err) => SpawnError::Io(err),
    })
}

/// Why a daemon did not start a moment ago is no reason any more not to try again: somebody has stopped it since.
pub fn forget_failure(paths: &Paths) {
    // Whoever waits for a start that was just cut short is about to write it down.
    let _turn = turn_within(paths, CUT_SHORT);
    let _ = fs::remove_file(paths.spawn_failure());
}

/// A client of the daemon that runs, or of one started for it. With a daemon running the cost is one connect, and the
/// client's first call uses that connection. What is there may be about to end: then that call finds the next one.
pub fn ensure(paths: &Paths) -> Result<Client, SpawnError> {
    match Launcher::from_env() {
        Ok(launcher) => ensure_with(paths, &launcher),
        // A daemon that runs is used without knowing how to start one.
        Err(err) => {
            let client = Client::new(paths);
            if connect(&client)? { Ok(client) } else { Err(SpawnError::Io(err)) }
        }
    }
}

/// As [`ensure`], starting the daemon in the given way.
pub fn ensure_with(paths: &Paths, launcher: &Launcher) -> Result<Client, SpawnError> {
    let (client, began) = (client(paths, launcher), Instant::now());
    if connect(&client)? {
        return Ok(client);
    }
    if launcher.disabled {
        return Err(SpawnError::Disabled);
    }
    let _turn = turn_within(paths, launcher.deadline)?;
    start(client, paths, launcher, began)
}

/// As [`ensure_with`], for whoever has its turn already.
pub fn ensure_in(_turn: &Turn, paths: &Paths, launcher: &Launcher) -> Result<Client, SpawnError> {
    if launcher.disabled {
        return Err(SpawnError::Disabled);
    }
    start(client(paths, launcher), paths, launcher, Instant::now())
}

fn client(paths: &Paths, launcher: &Launcher) -> Client {
    let starter = Starter { paths: paths.clone(), launcher: launcher.clone() };
    Client { starter: Some(Box::new(starter)), ..Client::new(paths) }
}

/// Whether a daemon answers.
fn connect(client: &Client) -> Result<bool, SpawnError> {
    match client.connect() {
        Ok(()) => Ok(true),
        Err(Error::NoDaemon(_)) => Ok(false),
        Err(err) => Err(SpawnError::Connect(err)),
    }
}

/// Nobody else starts one meanwhile, and it may have been started, or have failed to, before.
fn start(client: Client, paths: &Paths, launcher: &Launcher, began: Instant) -> Result<Client, SpawnError> {
    if connect(&client)? {
        return Ok(client);
    }
    if let Some(reason) = recent_failure(&paths.spawn_failure()) {
        return Err(SpawnError::Suppressed(reason));
    }
    let brought = bring(&client, paths, launcher, began + launcher.deadline);
    if let Ok(Came::ByItself) = brought {
        return Ok(client);
    }
    // A service manager may have been quicker; then ours ended because it is the second.
    if connect(&client)? {
        if brought.is_ok() {
            client.started_in.get_or_init(|| began.elapsed());
        }
        let _ = fs::remove_file(paths.spawn_failure());
        return Ok(client);
    }
    let err = match brought {
        Ok(_) => SpawnError::Failed { reason: "it ended right after its start".to_owned(), log: paths.log_file() },
        Err(err) => err,
    };
    // The marker only spares others the attempt; this caller has the reason already. Whoever is in the way may be gone by then.
    match &err {
        SpawnError::Held { .. } => {}
        SpawnError::Failed { reason, .. } => drop(atomic_file::write(&paths.spawn_failure(), reason.as_bytes())),
        other => drop(atomic_file::write(&paths.spawn_failure(), other.to_string().as_bytes())),
    }
    Err(err)
}

/// How a daemon came to be there.
enum Came {
    Started,
    /// Without our doing.
    ByItself,
}

/// Has a daemon started, once nobody is in the way of one; who is has until `deadline`.
fn bring(client: &Client, paths: &Paths, launcher: &Launcher, deadline: Instant) -> Result<Came, SpawnError> {
    loop {
        if let Found::Daemon = make_way(client, paths, (deadline, launcher.deadline))? {
            return Ok(Came::ByItself);
        }
        let started = match by_manager(client, paths, launcher) {
            Asked::Answers => Ok(()),
            Asked::Silent(err) => Err(err),
            Asked::Not(why) => {
                why.map(|why| client.beside_service.set(why));
                launch(paths, launcher, Instant::now() + launcher.deadline)
            }
        };
        match started {
            Ok(()) => return Ok(Came::Started),
            // Another one was quicker, and is about to answer.
            Err(SpawnError::Failed { .. }) if in_the_way(paths)? != Holder::Nobody => {}
            Err(err) => return Err(err),
        }
    }
}

enum Found {
    Daemon,
    Nobody,
}

/// Waits while somebody holds the daemon's files who does not answer: one that stops, that dies, or that answers soon.
fn make_way(client: &Client, paths: &Paths, (deadline, patience): (Instant, Duration)) -> Result<Found, SpawnError> {
    loop {
        if connect(client)? {
            return Ok(Found::Daemon);
        }
        match in_the_way(paths)? {
            Holder::Nobody => return Ok(Found::Nobody),
            Holder::Process(pid) if deadline <= Instant::now() => return Err(SpawnError::Held { pid, patience }),
            Holder::Process(_) => drop(poll::wait(&[], None, Some(LOOK_AGAIN))?),
        }
    }
}

fn in_the_way(paths: &Paths) -> io::Result<Holder> {
    lock::in_the_way(&paths.pid_file(), &Beside::HasOpen(paths.outbox_db()))
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

#[cfg(test)]
mod tests;
