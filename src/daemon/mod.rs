//! The daemon of one machine: a private socket for local programs, an outbox and an inbox on disk, one link per joined mesh
//! and one per session. [`run`] shows the order in which it starts and stops, and nothing else.

mod acquire;
mod alert;
mod bus;
mod canaries;
mod channels;
mod ctx;
mod drain;
mod flags;
mod guard;
mod hold_off;
mod identity;
mod inbound;
mod ipc;
mod keyring;
mod link;
mod links;
mod local_token;
mod log_file;
mod meshes;
mod outward;
mod private;
mod pulse;
mod reaper;
mod receipts;
mod registry;
mod reopen;
mod resolve;
mod rosters;
mod rpc;
mod scoped;
pub mod service;
mod sessions;
mod sightings;
mod supervisor;
mod turns;
mod upkeep;
mod waiters;
mod watch;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::base::exit::Exit;
use crate::base::paths::Paths;
use crate::base::settings::{self, ClonePolicy, Settings};
use crate::base::thread::{Joined, Running};
use crate::base::time::now_millis;
use crate::store;
use crate::store::inbox::Inbox;
use crate::store::outbox::Outbox;
use crate::sys::connect;
use crate::sys::dirs;
use crate::sys::lock::{self, Beside, Lock};
use crate::sys::notify;
use crate::sys::peer;
use crate::sys::signals;

pub use self::flags::Flags;
pub use self::hold_off::hold_off;
pub use self::identity::{OtherHost, accept_host};

use self::ctx::Ctx;
use self::supervisor::{Stop, Supervisor};

/// How the daemon is started.
pub struct Options {
    pub paths: Paths,
    /// What [`admit`] gave.
    pub settings: Settings,
    /// What is wanted otherwise than they say.
    pub flags: Flags,
    /// Called once, when the socket answers.
    pub ready: Box<dyn FnOnce(&Ready) + Send>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// What is known once the daemon answers.
#[derive(Debug)]
pub struct Ready {
    pub pid: u32,
    /// Slugs of the joined meshes.
    pub meshes: Vec<String>,
    /// Where it listens on TCP, if it does.
    pub tcp: Option<std::net::SocketAddr>,
}

/// Why the daemon could not start.
#[derive(Debug)]
pub enum StartError {
    Directory(dirs::DirError),
    /// Where the keys of the meshes are, somebody else could take or replace them.
    Keys(dirs::DirError),
    /// Another daemon holds these files.
    AlreadyRunning {
        pid: Option<u32>,
        pid_file: PathBuf,
    },
    Lock(PathBuf, std::io::Error),
    Settings(settings::Error),
    OtherHost(OtherHost),
    Identity(std::io::Error),
    Store(PathBuf, store::Error),
    Listen(std::io::Error),
    Thread(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Directory(err) => err.fmt(f),
            StartError::Keys(err @ dirs::DirError::Foreign { .. }) => write!(
                f,
                "{err}, and the keys of your meshes are there: make it yours with chown, or name another directory with CLAUDEMESH_HOME"
            ),
            StartError::Keys(err) => write!(f, "the keys of your meshes can not be kept safe: {err}"),
            StartError::AlreadyRunning { pid, pid_file } => {
                f.write_str("daemon already running")?;
                pid.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))?;
                write!(f, ": it holds {}; stop it with: claudemesh down", pid_file.display())
            }
            StartError::Lock(path, err) => write!(f, "the pid file {} can not be locked: {err}", path.display()),
            StartError::Settings(err) => err.fmt(f),
            StartError::OtherHost(err) => err.fmt(f),
            StartError::Identity(err) => write!(f, "host_fingerprint.json can not be used: {err}"),
            StartError::Store(path, err) => write!(f, "{} can not be used: {err}; {}", path.display(), err.remedy()),
            StartError::Listen(err) => write!(f, "ipc listen failed: {err}"),
            StartError::Thread(err) => write!(f, "a thread can not be started: {err}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The daemon stops within this, whatever hangs.
pub const STOPS_WITHIN: Duration = Duration::from_secs(8);

/// Deadlines of the steps of stopping. What is left of the whole goes before; the databases always have their time.
const STREAMS_END: Duration = Duration::from_secs(2);
const DRAIN_ENDS: Duration = Duration::from_secs(4);
const LINKS_END: Duration = Duration::from_secs(3);
const STORES_END: Duration = Duration::from_secs(2);

/// How long to wait for a listener whose queue is full.
const KNOCK: Duration = Duration::from_millis(100);

/// Takes the daemon's directory for this process alone, until the returned lock is dropped. Whoever composes the daemon
/// with something else that writes there holds it first.
pub fn lock(paths: &Paths) -> Result<Lock, StartError> {
    dirs::private_dir_checked(paths.daemon_dir()).map_err(StartError::Directory)?;
    let already = |pid| StartError::AlreadyRunning { pid, pid_file: paths.pid_file() };
    // Somebody who only looks holds the lock for an instant.
    let until = Instant::now() + Duration::from_millis(100);
    let beside = Beside::HasOpen(paths.outbox_db());
    let lock = lock::acquire_by(&paths.pid_file(), &beside, until).map_err(|refused| match refused {
        lock::Refused::Held { pid } => already(pid),
        lock::Refused::Io(err) => StartError::Lock(paths.pid_file(), err),
    })?;
    // A daemon of ours takes its socket away before its lock. Whoever answers now is one that locks nothing.
    match connect::unix_by(&paths.socket(), Instant::now() + KNOCK) {
        Ok(stream) => Err(already(peer::pid(&stream))),
        Err(_) => Ok(lock),
    }
}

/// Whether these files may be used here at all: they belong to this host, or `clone_policy` or the settings let that pass. Closes
/// them to others, and reads the settings. The caller holds [`lock`], and has written nothing yet.
pub fn admit(paths: &Paths, clone_policy: Option<ClonePolicy>) -> Result<Settings, StartError> {
    dirs::umask_private();
    private::enforce(paths).map_err(not_safe)?;
    let settings = Settings::load(&paths.settings_file());
    // Even a daemon that will not start must not let its log grow for ever.
    log_file::keep_small(&paths.log_file(), settings.as_ref().map_or(Settings::default().log_limit(), Settings::log_limit));
    let settings = settings.map_err(StartError::Settings)?;
    check_host(paths, clone_policy.unwrap_or(settings.clone_policy))?;
    Ok(settings)
}

/// Why a daemon would not start on these files, as far as that shows by looking. Nothing is changed.
pub fn obstacle(paths: &Paths, clone_policy: Option<ClonePolicy>) -> Option<StartError> {
    let look = || {
        private::look(paths).map_err(not_safe)?;
        let settings = Settings::load(&paths.settings_file()).map_err(StartError::Settings)?;
        match (identity::look(paths).map_err(StartError::Identity)?, clone_policy.unwrap_or(settings.clone_policy)) {
            (Some(other), ClonePolicy::Refuse) => Err(StartError::OtherHost(other)),
            _ => Ok(()),
        }
    };
    look().err()
}

fn not_safe(why: private::Unsafe) -> StartError {
    match why {
        private::Unsafe::Keys(err) => StartError::Keys(err),
        private::Unsafe::Own(err) => StartError::Directory(err),
    }
}

/// Runs the daemon until a signal ends it. The caller holds [`lock`].
pub fn run(options: Options, lock: &mut Lock) -> Result<Exit, StartError> {
    let Options { paths, settings, flags, ready } = options;
    let unusable = |path: PathBuf| |err| StartError::Store(path, err);
    let (outbox, outbox_thread) = Outbox::open(&paths.outbox_db()).map_err(unusable(paths.outbox_db()))?;
    let (inbox, inbox_thread) = Inbox::open(&paths.inbox_db()).map_err(unusable(paths.inbox_db()))?;
    let (drain, drain_events) = drain::queue();
    let (supervisor, events) = bounded(supervisor::QUEUE);
    let ctx = Arc::new(Ctx::new(paths, (settings, flags), (outbox, inbox), drain, supervisor.clone()));
    let watch = watch_signals(supervisor.clone()).map_err(StartError::Thread)?;
    upkeep::give_up(&ctx, now_millis());
    let drain_thread = drain::start(drain_events, &ctx).map_err(StartError::Thread)?;
    let (reaper, reaper_thread) = reaper::start(supervisor).map_err(StartError::Thread)?;
    let pulse = pulse::start(&ctx).map_err(StartError::Thread)?;
    let mut main = Supervisor::new(ctx.clone(), reaper.clone());
    main.begin(registry::load(&ctx.paths));
    // Last: whoever gets an answer must find the meshes and the sessions there.
    let served = ipc::listen(&ctx).map(|listener| {
        main.try_out(Instant::now());
        ready(&Ready { pid: std::process::id(), meshes: ctx.meshes.slugs(), tcp: listener.tcp_address() });
        say(notify::State::Ready);
        let stop = main.run(&events, &listener, lock);
        say(notify::State::Stopping);
        log::info!("the daemon stops: {stop:?}");
        (stop, listener)
    });
    // Without a socket it never ran, and still nothing of it may be left: this process may stay a while.
    drop(pulse);
    drop(events); // nobody can be waiting for this thread any more, so it may wait for others
    drop(watch);
    let last = Instant::now() + STOPS_WITHIN;
    let within = |step: Duration| (Instant::now() + step).min(last - STORES_END);
    if let Ok((_, listener)) = &served {
        listener.stop(within(STREAMS_END));
    }
    ctx.drain.tell(drain::Event::Stop);
    join_all(vec![drain_thread], within(DRAIN_ENDS));
    // A queue that is full of commands is read to its end, and the next look finds this one.
    drop(reaper.tell(reaper::Cmd::Stop));
    let mut threads = main.stop_links();
    threads.push(reaper_thread);
    join_all(threads, within(LINKS_END));
    // Whoever holds the context keeps the databases open.
    let stop = served.map(|(stop, _)| stop);
    drop((main, ctx));
    join_all(vec![outbox_thread, inbox_thread], last);
    stop.map(Stop::exit).map_err(StartError::Listen)
}

/// A signal that finds the queue full is repeated by whoever sent it; a second one ends the process by itself.
fn watch_signals(supervisor: Sender<supervisor::Event>) -> io::Result<signals::Watch> {
    signals::watch(move |signal| drop(supervisor.send_timeout(supervisor::Event::Signal(signal), Duration::from_secs(1))))
}

fn check_host(paths: &Paths, policy: ClonePolicy) -> Result<(), StartError> {
    match (identity::check(paths).map_err(StartError::Identity)?, policy) {
        (Ok(()), _) | (Err(_), ClonePolicy::Allow) => Ok(()),
        (Err(other), ClonePolicy::Warn) => {
            log::warn!("{other} (continuing per [clone] policy=warn)");
            Ok(())
        }
        (Err(other), ClonePolicy::Refuse) => Err(StartError::OtherHost(other)),
    }
}

fn say(state: notify::State) {
    if let Err(err) = notify::notify(state) {
        log::warn!("the service manager can not be told: {err}");
    }
}

/// Waits for threads until one common deadline, and names those that are late.
fn join_all(threads: Vec<Running>, until: Instant) {
    for running in threads {
        let name = running.name().to_owned();
        match running.join_by(until) {
            Joined::Ended(()) => {}
            Joined::Panicked => log::error!("thread {name} panicked"),
            Joined::Late => log::warn!("thread {name} is late and is left behind"),
        }
    }
}
