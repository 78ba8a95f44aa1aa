//! A broker: passes sealed messages on, and keeps them while their recipients are away. One process or one part of the
//! daemon's, one port, one database, a thread per connection.

pub mod access;
mod allowed;
mod conn;
mod handle;
mod hello;
mod http;
mod janitor;
mod limits;
mod metrics;
mod presence;
mod replay;
mod restore;
mod router;
mod seat;
mod settings;
#[cfg(test)]
mod tests;
mod told;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::exit::Exit;
use crate::base::ids::Token;
use crate::base::thread::{self, Joined, Running as Thread};
use crate::base::time::now_millis;
use crate::net::listen::{self, Count, Listener};
use crate::net::tls::TlsError;
use crate::store;
use crate::store::hub::Hub;
use crate::sys::dirs;
use crate::sys::files;
use crate::sys::lock::{self, Beside, Lock};
use crate::sys::notify;
use crate::sys::poll::{self, Ringer};
use crate::sys::signals::{self, Signal};

use self::access::{Access, Gate};
use self::allowed::Allowed;
use self::conn::Cmd;
use self::hello::Refusal;
use self::http::{Budget, Past, Pulse};
pub use self::limits::Caps;
use self::limits::Limits;
use self::metrics::Metrics;
use self::replay::Replay;
use self::router::Router;
use self::settings::Settings;
pub use self::settings::SettingsError;
use self::told::Told;

/// The database in a broker's data directory.
const HUB: &str = "hub.db";

/// What is wanted otherwise, in the same place.
const SETTINGS: &str = "broker.json";

/// Held by the one process that serves a data directory.
const LOCK: &str = "broker.pid";

/// The answer to a connection too many.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n";

/// How long the connections may take to close when the broker stops.
const CONNECTIONS_END: Duration = Duration::from_secs(3);
const THREADS_END: Duration = Duration::from_secs(2);

/// A broker stops within this, whatever hangs.
pub const STOPS_WITHIN: Duration = CONNECTIONS_END.saturating_add(THREADS_END);

/// How a broker is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its database; made if it is not there.
    pub data_dir: PathBuf,
    /// Port 0 lets the system choose.
    pub listen: SocketAddr,
    pub access: Access,
    /// Whether everybody may see `/metrics` and the status page; else only programs of this machine.
    pub public_status: bool,
}

/// Why a broker could not start.
#[derive(Debug)]
pub enum StartError {
    Directory(dirs::DirError),
    /// Another process serves this data directory: it holds the file at `path`.
    Held {
        pid: Option<u32>,
        path: PathBuf,
    },
    Lock(io::Error),
    Store(PathBuf, store::Error),
    Settings(SettingsError),
    AddressInUse(SocketAddr),
    Listen(SocketAddr, io::Error),
    /// The admin token can be neither read nor made.
    AdminToken(io::Error),
    Tls(TlsError),
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Directory(err) => err.fmt(f),
            StartError::Held { pid: Some(pid), path } => {
                write!(f, "another broker (pid {pid}) serves this data directory: it holds {}", path.display())
            }
            StartError::Held { pid: None, path } => {
                write!(f, "another broker serves this data directory: it holds {}", path.display())
            }
            StartError::Lock(err) => write!(f, "the data directory can not be locked: {err}"),
            StartError::Store(path, err) => {
                write!(f, "the broker's database {} can not be used: {err}; {}", path.display(), err.remedy())
            }
            StartError::Settings(err) => err.fmt(f),
            StartError::AddressInUse(address) => write!(f, "{address} is in use by another program"),
            StartError::Listen(address, err) => write!(f, "can not listen on {address}: {err}"),
            StartError::AdminToken(err) => write!(f, "the admin token: {err}"),
            StartError::Tls(err) => write!(f, "the certificate can not be used: {err}"),
            StartError::Thread(err) => write!(f, "a thread can not be started: {err}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What every connection shares.
#[derive(Debug)]
struct Shared {
    hub: Hub,
    router: Router,
    allowed: Allowed,
    limits: Limits,
    gate: Gate,
    replay: Replay,
    janitor: Ringer,
    stopping: AtomicBool,
    started: Instant,
    connections: Count,
    failed: Sender<String>,
    metrics: Metrics,
    past: Past,
    pulse: Pulse,
    budget: Budget,
    settings: Settings,
    public_status: bool,
    /// Lines about strangers: hellos refused, connections that never spoke, that broke the protocol, that were too many.
    told: [Told; 4],
}

/// What strangers are told of for; see [`Shared::told`].
#[derive(Debug, Clone, Copy)]
enum Matter {
    Refused,
    Silent,
    Broken,
    Crowded,
}

impl Shared {
    fn told(&self, what: Matter) -> &Told {
        &self.told[what as usize]
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// A database that is beyond use ends a broker that stands alone; within a daemon, the daemon goes on without it.
    fn store_failed(&self, err: &store::Error) {
        if err.is_fatal() {
            // One word is enough.
            let _ = self.failed.try_send(err.to_string());
        }
    }

    fn refused(&self, refusal: &Refusal) {
        self.metrics.hellos_refused.add(refusal.code.as_str());
        self.told(Matter::Refused).info(|| format!("a hello was refused: {}", refusal.code));
    }
}

/// A broker that runs.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop_accepting: Ringer,
    accept: Thread,
    janitor: Thread,
    store: Thread,
    failed: Receiver<String>,
    new_token: Option<Token>,
    _lock: Lock,
}

/// Starts a broker; it runs until it is stopped.
pub fn start(options: Options) -> Result<Running, StartError> {
    start_capped(options, Caps::default())
}

/// As [`start`], with other caps on connections than the product has: tests meet them sooner.
pub fn start_capped(options: Options, caps: Caps) -> Result<Running, StartError> {
    let lock = hold(&options.data_dir)?;
    let begun = now_millis();
    let settings = Settings::load(&options.data_dir.join(SETTINGS)).map_err(StartError::Settings)?;
    let admin =
        options.access.admin.then(|| access::admin_token(&options.data_dir)).transpose().map_err(StartError::AdminToken)?;
    let new_token = admin.clone().filter(|(_, made)| *made).map(|(token, _)| token);
    let gate = Gate::new(options.access, admin.map(|(token, _)| token)).map_err(StartError::Tls)?;
    // Before the database: a port that is taken is the likelier failure, and nothing has been touched then.
    let listener = Listener::tcp(options.listen).map_err(|err| match err.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse(options.listen),
        _ => StartError::Listen(options.listen, err),
    })?;
    let address = listener.tcp_address().unwrap_or(options.listen);
    let database = options.data_dir.join(HUB);
    let (hub, store) = Hub::open(&database).map_err(|err| StartError::Store(database, err))?;
    files::raise_limit();
    hub.set_policy(settings.policy()).map_err(|err| StartError::Store(options.data_dir.join(HUB), err))?;
    let router = Router::default();
    restore::places(&hub, &router).map_err(|err| StartError::Store(options.data_dir.join(HUB), err))?;
    let allowed = Allowed::load(&hub, now_millis()).map_err(|err| StartError::Store(options.data_dir.join(HUB), err))?;
    let (janitor_ringer, janitor_bell) = poll::bell().map_err(StartError::Thread)?;
    let (stop_accepting, stop) = poll::bell().map_err(StartError::Thread)?;
    let (failed_sender, failed) = bounded(1);
    let shared = Arc::new(Shared {
        hub,
        router,
        allowed,
        limits: Limits::new(caps),
        gate,
        replay: Replay::new(begun),
        janitor: janitor_ringer,
        stopping: AtomicBool::new(false),
        started: Instant::now(),
        connections: Count::default(),
        failed: failed_sender,
        metrics: Metrics::default(),
        past: Past::default(),
        pulse: Pulse::default(),
        budget: Budget::default(),
        settings,
        public_status: options.public_status,
        told: Default::default(),
    });
    let janitor = janitor::start(shared.clone(), janitor_bell).map_err(StartError::Thread)?;
    let accept = thread::spawn("accept", thread::CONNECTION_STACK, {
        let shared = shared.clone();
        move || accept(&shared, listener, &stop)
    })
    .map_err(StartError::Thread)?;
    Ok(Running { address, shared, stop_accepting, accept, janitor, store, failed, new_token, _lock: lock })
}

/// Keeps everybody else from a data directory, for as long as the lock lives. Made if it is not there.
pub fn keep_out(data_dir: &Path) -> Result<Held, StartError> {
    hold(data_dir).map(Held)
}

/// A data directory that no broker serves while this lives.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "held, never read")] Lock);

fn hold(data_dir: &Path) -> Result<Lock, StartError> {
    dirs::private_dir_checked(data_dir).map_err(StartError::Directory)?;
    // Nobody else's broker writes this file: the kernel's lock is all there is to know.
    let path = data_dir.join(LOCK);
    let until = Instant::now() + Duration::from_millis(100);
    lock::acquire_by(&path, &Beside::Nobody, until).map_err(|refused| match refused {
        lock::Refused::Held { pid } => StartError::Held { pid, path },
        lock::Refused::Io(err) => StartError::Lock(err),
    })
}

/// Where the database of a data directory is.
pub fn database(data_dir: &Path) -> PathBuf {
    data_dir.join(HUB)
}

fn accept(shared: &Arc<Shared>, listener: Listener, stop: &poll::Bell) {
    let max_connections = shared.limits.caps().connections;
    let options = listen::Options { name: "conn", max_connections, refusal: BUSY, stack: thread::CONNECTION_STACK };
    let served = shared.clone();
    let on_accept = move |stream, place| http::serve(&served, stream, place);
    if let Err(err) = listen::serve(&[listener], stop, &options, &shared.connections, on_accept) {
        log::error!("the broker's port: {err}");
    }
}

impl Running {
    /// Where it listens, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The admin token, if it was made now: the only time that it is shown.
    pub fn new_admin_token(&self) -> Option<&Token> {
        self.new_token.as_ref()
    }

    /// Its database.
    pub fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// Closes every connection, then the database. Whatever was acknowledged is on disk already.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.stop_accepting.ring();
        self.shared.janitor.ring();
        let until = Instant::now() + CONNECTIONS_END;
        join(self.accept, until);
        // First: whoever is let in after this is not told below, and is not listened to.
        self.shared.connections.hear_no_more();
        for line in self.shared.router.all() {
            line.tell(Cmd::Stop);
        }
        let left = self.shared.connections.wait_idle(until);
        if 0 < left {
            log::warn!("{left} connections are left behind");
        }
        join(self.janitor, until);
        drop(self.shared);
        join(self.store, Instant::now() + THREADS_END);
    }
}

fn join(running: Thread, until: Instant) {
    let name = running.name().to_owned();
    match running.join_by(until) {
        Joined::Ended(()) => {}
        Joined::Panicked => log::error!("thread {name} panicked"),
        Joined::Late => log::warn!("thread {name} is late and is left behind"),
    }
}

/// Runs a broker alone until a signal ends it. `ready` is called once it listens.
pub fn run(options: Options, ready: impl FnOnce(&Running)) -> Result<Exit, StartError> {
    dirs::umask_private();
    let (sender, signal) = bounded(4);
    // A signal that finds no room is one of many of its kind.
    let _watch = signals::watch(move |signal| {
        let _ = sender.try_send(signal);
    })
    .map_err(StartError::Thread)?;
    let running = start(options)?;
    log::info!("the broker listens on {}", running.local_addr());
    ready(&running);
    say(notify::State::Ready);
    let exit = loop {
        crossbeam_channel::select! {
            recv(signal) -> signal => match signal {
                Ok(Signal::Hangup) => {
                    if let Err(err) = running.shared.gate.reload() {
                        log::error!("the certificate stays as it is: {err}");
                    }
                }
                Ok(Signal::Terminate | Signal::Interrupt) | Err(_) => break Exit::Success,
            },
            recv(running.failed) -> why => {
                log::error!("the broker can not go on: {}", why.unwrap_or_default());
                break Exit::Internal;
            }
        }
    };
    say(notify::State::Stopping);
    running.stop();
    Ok(exit)
}

fn say(state: notify::State) {
    if let Err(err) = notify::notify(state) {
        log::warn!("the service manager can not be told: {err}");
    }
}
