//! The main thread while the daemon runs: sessions that come and go, meshes that are joined and left, signals. It starts
//! and stops links and waits for nothing but its own queue.

mod links;
mod renamed;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use crate::base::config::Config;
use crate::base::exit::Exit;
use crate::base::ids::MeshId;
use crate::base::settings::Settings;
use crate::base::thread::Running;
use crate::base::time::now_millis;
use crate::store;
use crate::store::outbox::Route;
use crate::sys::lock::Lock;
use crate::sys::notify;
use crate::sys::signals::Signal;

use super::ctx::Ctx;
use super::hold_off;
use super::ipc;
use super::link::{Cmd, Farewell, Identity};
use super::log_file;
use super::reaper::{self, Reaper};
use super::registry;
use super::sessions::{Serial, Session, TokenHash};
use super::sightings;
use super::upkeep::Clock;

/// Events that wait for the supervisor. When full, whoever has one more waits; the supervisor itself waits for nobody.
pub(super) const QUEUE: usize = 64;

/// How often the configuration file and the socket file are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often old rows are cleared out of the databases.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// What the supervisor is told.
#[derive(Debug)]
pub(super) enum Event {
    Signal(Signal),
    /// A session to enter in the table; `done` is answered once that is on disk and its link is on its way.
    Register {
        session: Box<Session>,
        done: Sender<()>,
    },
    Deregister {
        token: TokenHash,
        done: Sender<()>,
    },
    /// A session shows something else of itself, and a restart should know.
    Shown,
    /// The process of one registration has ended.
    Gone(Serial),
    /// Something without which the daemon is of no use has failed: a database, or a thread.
    Failed(String),
    /// Both databases have just answered; the service manager's watchdog wants to hear that.
    StoresAnswer,
}

/// Why the supervisor returned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Asked,
    Failed(String),
}

/// Tells the supervisor of a database that is beyond use; anything else passes.
pub(super) fn store_failed(supervisor: &Sender<Event>, err: &store::Error) {
    if err.is_fatal() {
        match supervisor.try_send(Event::Failed(format!("a database is beyond use: {err}"))) {
            // Whoever filled the queue meets the same error; a supervisor that is gone is stopping already.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Stop {
    /// What the process ends with.
    pub(super) fn exit(self) -> Exit {
        match self {
            Stop::Asked => Exit::Success,
            Stop::Failed(why) => {
                log::error!("the daemon can not go on: {why}");
                Exit::Internal
            }
        }
    }
}

/// Held by a thread that the daemon can not do without: tells the supervisor if it panics.
#[derive(Debug)]
pub(super) struct Alarm {
    pub(super) thread: &'static str,
    pub(super) supervisor: Sender<Event>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A queue that stays full means the supervisor is gone as well.
            let _ = self.supervisor.send_timeout(Event::Failed(format!("thread {} panicked", self.thread)), LOOK_EVERY);
        }
    }
}

/// A link that should be running.
struct Linked {
    serial: u64,
    identity: Identity,
    running: Running,
}

/// The supervisor's own state.
pub(super) struct Supervisor {
    ctx: Arc<Ctx>,
    reaper: Reaper,
    links: HashMap<Route, Linked>,
    /// Links that have been told to stop, and those whose queue was full when they should have been.
    leaving: Vec<Running>,
    farewells: Vec<(Route, Farewell)>,
    /// What was stopped since the last look around: a link of the same key that starts now follows it.
    stopped: Vec<Route>,
    /// The sessions of the last daemon are being brought back.
    beginning: bool,
    unwatched: Vec<reaper::Cmd>,
    next_serial: u64,
    config_seen: Option<(SystemTime, u64, u64)>,
    next_look: Instant,
    next_prune: Instant,
    trial: hold_off::Trial,
    clock: Clock,
    /// Device and inode of the outbox and the inbox.
    databases: [Option<(u64, u64)>; 2],
}

impl Supervisor {
    pub(super) fn new(ctx: Arc<Ctx>, reaper: Reaper) -> Supervisor {
        let now = Instant::now();
        let databases = [ctx.paths.outbox_db(), ctx.paths.inbox_db()].map(file_of);
        Supervisor {
            databases,
            ctx,
            reaper,
            links: HashMap::new(),
            leaving: Vec::new(),
            farewells: Vec::new(),
            stopped: Vec::new(),
            beginning: true,
            unwatched: Vec::new(),
            next_serial: 0,
            config_seen: None,
            next_look: now,
            next_prune: now + Duration::from_secs(60),
            trial: hold_off::Trial::begin(now),
            clock: Clock::new(now_millis(), now),
        }
    }

    /// Attaches the meshes of the configuration and brings back the sessions that outlived the last daemon.
    pub(super) fn begin(&mut self, sessions: Vec<(Session, Option<MeshId>)>) {
        self.read_config();
        for (mut session, mesh) in sessions {
            self.follow(&mut session, mesh.as_ref());
            let (session, replaced) = self.ctx.sessions.insert(session);
            self.registered(&session, &replaced);
        }
        registry::save(&self.ctx);
        self.beginning = false;
    }

    /// Runs until it is told to stop, and keeps the socket in its place.
    pub(super) fn run(&mut self, events: &Receiver<Event>, listener: &ipc::Listener, lock: &mut Lock) -> Stop {
        loop {
            let mut saved = Vec::new();
            let mut changed = false;
            let first = match events.recv_deadline(self.next_look) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Stop::Asked,
            };
            for event in first.into_iter().chain(events.try_iter().take(QUEUE)) {
                match event {
                    Event::Signal(Signal::Hangup) => self.reload(listener),
                    Event::Signal(Signal::Terminate | Signal::Interrupt) => return Stop::Asked,
                    Event::Failed(why) => return Stop::Failed(why),
                    Event::StoresAnswer => super::say(notify::State::Watchdog),
                    Event::Register { session, done } => {
                        let (session, replaced) = self.ctx.sessions.insert(*session);
                        self.registered(&session, &replaced);
                        saved.push(done);
                    }
                    Event::Deregister { token, done } => {
                        if let Some(session) = self.ctx.sessions.remove(&token) {
                            self.ctx.waiters.end(&session.id);
                            self.ctx.turns.end(&session.id);
                            self.ended(&session);
                        }
                        saved.push(done);
                    }
                    Event::Shown => changed = true,
                    Event::Gone(serial) => {
                        if let Some(session) = self.ctx.sessions.remove_serial(serial) {
                            self.ctx.waiters.end(&session.id);
                            self.ctx.turns.end(&session.id);
                            log::info!("session {} ({}) has ended", session.id, session.name);
                            self.ended(&session);
                            changed = true;
                        }
                    }
                }
            }
            if changed || !saved.is_empty() {
                registry::save(&self.ctx);
            }
            for done in saved {
                // A caller that has given up does not need the answer.
                let _ = done.send(());
            }
            if let Err(why) = self.look_around(listener, lock) {
                return Stop::Failed(why);
            }
            if let Some(database) = self.damaged() {
                return Stop::Failed(format!("{database} is damaged"));
            }
        }
    }

    /// A database whose damage some command has met. Most of those who use one pass its errors on to whoever asked.
    fn damaged(&self) -> Option<&'static str> {
        if self.ctx.outbox.is_damaged() {
            return Some("outbox.db");
        }
        self.ctx.inbox.is_damaged().then_some("inbox.db")
    }

    fn registered(&mut self, session: &Arc<Session>, replaced: &[Arc<Session>]) {
        for old in replaced {
            self.forget(old);
            let comes_back = old.public_key().is_some() && old.public_key() == session.public_key() && old.mesh == session.mesh;
            self.stop_session_link(old, if comes_back { Farewell::BackSoon } else { Farewell::Ended });
            registry::remove_token_file(&self.ctx, old, Some(session));
        }
        self.watch(reaper::Cmd::watch(session));
        match self.ctx.meshes.get(&session.mesh) {
            Some(membership) => self.start_session_link(&membership, session),
            None => log::warn!("session {} is on mesh {}, which is not joined", session.id, session.mesh),
        }
    }

    fn ended(&mut self, session: &Arc<Session>) {
        self.forget(session);
        self.stop_session_link(session, Farewell::Ended);
        registry::remove_token_file(&self.ctx, session, None);
    }

    fn watch(&mut self, cmd: reaper::Cmd) {
        if let Err(cmd) = self.reaper.tell(cmd) {
            self.unwatched.push(cmd);
        }
    }

    fn forget(&mut self, session: &Session) {
        self.watch(reaper::Cmd::Forget(session.serial));
    }

    /// Whether this daemon is still the one of its files: an answer given on databases that nobody finds again is a lie.
    fn check_files(&self, lock: &mut Lock) -> Result<(), String> {
        let databases = [self.ctx.paths.outbox_db(), self.ctx.paths.inbox_db()];
        let found = databases.map(file_of);
        if found != self.databases {
            return Err(format!("the databases in {} were taken away or replaced", self.ctx.paths.daemon_dir().display()));
        }
        match lock.keep_name() {
            Ok(true) => Ok(()),
            Ok(false) => Err("another daemon has taken these files".to_owned()),
            Err(err) => {
                log::error!("daemon.pid can not be kept: {err}");
                Ok(())
            }
        }
    }

    /// Forgets the failures that came before this daemon, once it is known to be well.
    pub(super) fn try_out(&mut self, now: Instant) {
        if self.trial.is_passed(now) {
            hold_off::reset(&self.ctx.paths);
        }
    }

    /// What is done whether or not anything happened.
    fn look_around(&mut self, listener: &ipc::Listener, lock: &mut Lock) -> Result<(), String> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK_EVERY;
        self.check_files(lock)?;
        self.read_config();
        listener.check();
        log_file::keep_small(&self.ctx.paths.log_file(), self.ctx.settings().log_limit());
        self.leaving.retain(|running| !running.is_finished());
        self.stopped.clear();
        self.try_out(now);
        self.replace_dead_links();
        sightings::announce(&self.ctx, now_millis(), now);
        for cmd in std::mem::take(&mut self.unwatched) {
            self.watch(cmd);
        }
        for (route, farewell) in std::mem::take(&mut self.farewells) {
            if let Some(handle) = self.ctx.links.get(&route).filter(|_| !self.links.contains_key(&route))
                && handle.try_send(Cmd::Stop(farewell)).is_err()
            {
                self.farewells.push((route, farewell));
            }
        }
        if self.next_prune <= now {
            self.next_prune = now + PRUNE_EVERY;
            if self.clock.is_steady(now_millis(), now) {
                super::upkeep::prune(&self.ctx, now_millis());
            } else {
                log::warn!("the clock was set: nothing is cleared by its age this time");
            }
        }
        Ok(())
    }

    /// Reads the settings and the configuration again, as SIGHUP asks for.
    fn reload(&mut self, listener: &ipc::Listener) {
        super::say(notify::State::Reloading);
        match Settings::load(&self.ctx.paths.settings_file()) {
            Ok(settings) => {
                self.ctx.set_settings(self.ctx.flags.over(settings));
                listener.follow_settings();
                log::info!("settings.json and config.json are read again");
            }
            // Whoever mistyped something did not ask for the defaults.
            Err(err) => log::warn!("{err}; the settings stay as they were"),
        }
        self.config_seen = None;
        self.read_config();
        super::say(notify::State::Ready);
    }

    /// Attaches and drops meshes when `config.json` has changed.
    fn read_config(&mut self) {
        let path = self.ctx.paths.config_file();
        let seen = fs::metadata(&path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len(), meta.ino())));
        if seen.is_some() && seen == self.config_seen {
            return;
        }
        match Config::load(&path) {
            Ok(config) => {
                let change = self.ctx.meshes.apply(&config);
                self.meshes_changed(&change);
            }
            // Half a configuration is no reason to drop meshes that work.
            Err(err) => log::warn!("{err}; the meshes stay as they were"),
        }
        self.config_seen = seen;
    }
}

/// Device and inode of what is at `path`.
fn file_of(path: PathBuf) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
