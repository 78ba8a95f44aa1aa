//! The main thread while the daemon runs: sessions that come and go, meshes that are joined and left, signals. It starts
//! and stops links and waits for nothing but its own queue.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use crate::base::config::Config;
use crate::base::exit::Exit;
use crate::base::ids::SessionKey;
use crate::base::settings::Settings;
use crate::base::thread::Running;
use crate::base::time::now_millis;
use crate::store;
use crate::store::outbox::Route;
use crate::sys::notify;
use crate::sys::signals::Signal;

use super::ctx::Ctx;
use super::ipc;
use super::link::{self, Cmd, Farewell, Identity};
use super::log_file;
use super::meshes::{Change, Membership};
use super::reaper::{self, Reaper};
use super::registry;
use super::sessions::{Session, TokenHash};
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
    /// A session is in the table; `done` is answered once that is on disk and its link is on its way.
    Registered {
        session: Arc<Session>,
        replaced: Vec<Arc<Session>>,
        done: Sender<()>,
    },
    Deregistered {
        session: Arc<Session>,
        done: Sender<()>,
    },
    /// A session shows something else of itself, and a restart should know.
    Shown,
    /// A session's process has ended.
    Gone(TokenHash),
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

/// The supervisor's own state.
pub(super) struct Supervisor {
    ctx: Arc<Ctx>,
    reaper: Reaper,
    links: HashMap<Route, (u64, Running)>,
    /// Links that have been told to stop, and those whose queue was full when they should have been.
    leaving: Vec<Running>,
    farewells: Vec<(Route, Farewell)>,
    unwatched: Vec<reaper::Cmd>,
    next_serial: u64,
    config_seen: Option<(SystemTime, u64, u64)>,
    next_look: Instant,
    next_prune: Instant,
    clock: Clock,
}

impl Supervisor {
    pub(super) fn new(ctx: Arc<Ctx>, reaper: Reaper) -> Supervisor {
        let now = Instant::now();
        Supervisor {
            ctx,
            reaper,
            links: HashMap::new(),
            leaving: Vec::new(),
            farewells: Vec::new(),
            unwatched: Vec::new(),
            next_serial: 0,
            config_seen: None,
            next_look: now,
            next_prune: now + Duration::from_secs(60),
            clock: Clock::new(now_millis(), now),
        }
    }

    /// Attaches the meshes of the configuration and brings back the sessions that outlived the last daemon.
    pub(super) fn begin(&mut self, sessions: Vec<Session>) {
        self.read_config();
        for session in sessions {
            let (session, replaced) = self.ctx.sessions.insert(session);
            self.registered(&session, &replaced);
        }
        registry::save(&self.ctx);
    }

    /// Runs until it is told to stop, and keeps the socket in its place.
    pub(super) fn run(&mut self, events: &Receiver<Event>, listener: &ipc::Listener) -> Stop {
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
                    Event::Signal(Signal::Hangup) => self.reload(),
                    Event::Signal(Signal::Terminate | Signal::Interrupt) => return Stop::Asked,
                    Event::Failed(why) => return Stop::Failed(why),
                    Event::StoresAnswer => super::say(notify::State::Watchdog),
                    Event::Registered { session, replaced, done } => {
                        self.registered(&session, &replaced);
                        saved.push(done);
                    }
                    Event::Deregistered { session, done } => {
                        self.ended(&session);
                        saved.push(done);
                    }
                    Event::Shown => changed = true,
                    Event::Gone(token) => {
                        if let Some(session) = self.ctx.sessions.remove(&token) {
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
            self.look_around(listener);
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

    /// Tells every link to close, and hands over the threads to be joined.
    pub(super) fn stop_links(&mut self) -> Vec<Running> {
        for (route, handle) in self.ctx.links.all() {
            // A link too busy to hear this ends when its process does; its rows are safe on both sides.
            if handle.try_send(Cmd::Stop(Farewell::BackSoon)).is_err() {
                log::warn!("a link of {} is too busy to be told to stop", route.mesh);
            }
        }
        self.leaving.extend(self.links.drain().map(|(_, (_, running))| running));
        std::mem::take(&mut self.leaving)
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
        self.watch(reaper::Cmd::Forget(session.token));
    }

    fn start_session_link(&mut self, membership: &Arc<Membership>, session: &Arc<Session>) {
        if session.key.is_some() {
            self.start_link(Identity { membership: membership.clone(), session: Some(session.clone()) });
        }
    }

    fn start_link(&mut self, identity: Identity) {
        self.next_serial += 1;
        let route = identity.route();
        match link::start(&self.ctx, identity, self.next_serial) {
            Ok(running) => {
                if let Some((_, old)) = self.links.insert(route, (self.next_serial, running)) {
                    self.leaving.push(old);
                }
            }
            Err(err) => log::error!("a link of {} could not be started: {err}", route.mesh),
        }
    }

    fn stop_session_link(&mut self, session: &Session, farewell: Farewell) {
        if let Some(SessionKey(_)) = session.public_key() {
            let sender = session.public_key().map_or(crate::store::outbox::Sender::Member, crate::store::outbox::Sender::Session);
            self.stop_link(Route { mesh: session.mesh.clone(), sender }, farewell);
        }
    }

    fn stop_link(&mut self, route: Route, farewell: Farewell) {
        let Some((_, running)) = self.links.remove(&route) else { return };
        self.leaving.push(running);
        if let Some(handle) = self.ctx.links.get(&route)
            && handle.try_send(Cmd::Stop(farewell)).is_err()
        {
            self.farewells.push((route, farewell));
        }
    }

    /// What is done whether or not anything happened.
    fn look_around(&mut self, listener: &ipc::Listener) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        self.read_config();
        listener.check();
        log_file::keep_small(&self.ctx.paths.log_file(), self.ctx.settings().log_limit());
        self.leaving.retain(|running| !running.is_finished());
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
    }

    /// Reads the settings and the configuration again, as SIGHUP asks for.
    fn reload(&mut self) {
        super::say(notify::State::Reloading);
        match Settings::load(&self.ctx.paths.settings_file()) {
            Ok(settings) => {
                self.ctx.set_settings(settings);
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

    fn meshes_changed(&mut self, change: &Change) {
        let sessions = self.ctx.sessions.all();
        for old in &change.dropped {
            log::info!("mesh {} is dropped", old.slug);
            for session in sessions.iter().filter(|session| session.mesh == old.slug) {
                self.stop_session_link(session, Farewell::Ended);
            }
            self.stop_link(Route { mesh: old.slug.clone(), sender: crate::store::outbox::Sender::Member }, Farewell::Ended);
            self.ctx.rosters.forget(&old.slug);
        }
        for new in &change.attached {
            log::info!("mesh {} is attached ({})", new.slug, new.broker_url);
            self.start_link(Identity { membership: new.clone(), session: None });
            for session in sessions.iter().filter(|session| session.mesh == new.slug) {
                self.start_session_link(new, session);
            }
        }
    }
}
