//! The main thread while the daemon runs: sessions that come and go, meshes that are joined and left, signals. It starts
//! and stops links and waits for nothing but its own queue.

mod couriers;
mod links;
mod look;
mod renamed;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use crate::base::exit::Exit;
use crate::base::settings::Settings;
use crate::base::thread::Running;
use crate::store;
use crate::store::outbox::Route;
use crate::sys::lock::Lock;
use crate::sys::notify;
use crate::sys::signals::Signal;

use self::look::Looks;
use super::ctx::Ctx;
use super::ipc;
use super::link::{Farewell, Identity};
use super::reaper::{self, Reaper};
use super::registry::{self, Kept};
use super::sessions::{Serial, Session, TokenHash};

/// Events that wait for the supervisor. When full, whoever has one more waits; the supervisor itself waits for nobody.
pub(super) const QUEUE: usize = 64;

/// How long a thread that has failed tries to say so.
const PATIENCE: Duration = Duration::from_millis(500);

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
    /// Something was accepted of this session as it ended.
    Left(Arc<Session>),
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
            let _ = self.supervisor.send_timeout(Event::Failed(format!("thread {} panicked", self.thread)), PATIENCE);
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
    /// Links of sessions that have ended, and since when.
    couriers: HashMap<Route, Instant>,
    /// The sessions of the last daemon are being brought back.
    beginning: bool,
    unwatched: Vec<reaper::Cmd>,
    next_serial: u64,
    looks: Looks,
}

impl Supervisor {
    pub(super) fn new(ctx: Arc<Ctx>, reaper: Reaper) -> Supervisor {
        Supervisor {
            looks: Looks::begin(&ctx.paths, Instant::now()),
            ctx,
            reaper,
            links: HashMap::new(),
            leaving: Vec::new(),
            farewells: Vec::new(),
            stopped: Vec::new(),
            couriers: HashMap::new(),
            beginning: true,
            unwatched: Vec::new(),
            next_serial: 0,
        }
    }

    /// Attaches the meshes of the configuration and brings back the sessions that outlived the last daemon.
    pub(super) fn begin(&mut self, sessions: Vec<Kept>) {
        self.read_config(true);
        let (here, ended): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|kept| kept.lives);
        ended.into_iter().for_each(|kept| self.take_over(kept));
        for Kept { mut session, mesh, .. } in here {
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
            let first = match events.recv_deadline(self.looks.next()) {
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
                    Event::Left(session) => {
                        self.left_late(session);
                        changed = true;
                    }
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
            if comes_back {
                session.change(|outward| outward.carry_over(old.outward()));
                self.stop_session_link(old, Farewell::BackSoon);
            } else {
                self.depart(old);
            }
            registry::remove_token_file(&self.ctx, old, Some(session));
        }
        self.end_couriers_of_id(&session.id);
        self.watch(reaper::Cmd::watch(session));
        match self.ctx.meshes.get(&session.mesh) {
            Some(membership) => self.start_session_link(&membership, session),
            None => log::warn!("session {} is on mesh {}, which is not joined", session.id, session.mesh),
        }
    }

    fn ended(&mut self, session: &Arc<Session>) {
        self.forget(session);
        self.depart(session);
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
        self.read_config(true);
        super::say(notify::State::Ready);
    }
}
