//! What is looked at whether or not anything happened: files that others may touch, and now and then each link and session.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Supervisor;
use crate::base::config::Config;
use crate::base::paths::Paths;
use crate::base::time::now_millis;
use crate::daemon::hold_off;
use crate::daemon::ipc;
use crate::daemon::link::Cmd;
use crate::daemon::log_file;
use crate::daemon::sightings;
use crate::daemon::upkeep::{self, Clock};
use crate::sys::lock::Lock;

/// How often the configuration is looked at, and whether a file of the daemon has come or gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often every file and session is looked at by itself.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// How often old rows are cleared out of the databases.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// What was seen, and when the next look is due.
pub(super) struct Looks {
    next: Instant,
    next_count: Instant,
    next_prune: Instant,
    config: Option<Stamp>,
    /// It changes whenever a name in it does.
    directory: Option<Stamp>,
    /// Device and inode of the outbox and the inbox.
    databases: [Option<(u64, u64)>; 2],
    trial: hold_off::Trial,
    clock: Clock,
}

/// What tells one state of a file or directory from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// Seconds and nanoseconds. Unlike the time of the last write nobody can set it back.
    changed: (i64, i64),
    len: u64,
    ino: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp { changed: (meta.ctime(), meta.ctime_nsec()), len: meta.len(), ino: meta.ino() })
    }
}

impl Looks {
    pub(super) fn begin(paths: &Paths, now: Instant) -> Looks {
        Looks {
            next: now,
            next_count: now,
            next_prune: now + Duration::from_secs(60),
            config: None,
            directory: None,
            databases: databases(paths),
            trial: hold_off::Trial::begin(now),
            clock: Clock::new(now_millis(), now),
        }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }
}

impl Supervisor {
    pub(super) fn look_around(&mut self, listener: &ipc::Listener, lock: &mut Lock) -> Result<(), String> {
        let now = Instant::now();
        if now < self.looks.next {
            return Ok(());
        }
        self.looks.next = now + LOOK_EVERY;
        let counts = self.looks.next_count <= now;
        // What changes within one tick of the file system's clock looks the same, and is found when everything is counted.
        let directory = Stamp::of(self.ctx.paths.daemon_dir());
        if counts || directory.is_none() || self.looks.directory != directory {
            self.check_files(lock)?;
            listener.check();
            self.looks.directory = directory;
        }
        self.read_config(false);
        self.leaving.retain(|running| !running.is_finished());
        self.stopped.clear();
        self.try_out(now);
        self.replace_dead_links();
        if counts || !self.couriers.is_empty() {
            self.see_to_couriers(now, counts);
        }
        if counts {
            listener.follow_settings();
            self.looks.next_count = now + COUNT_EVERY;
            log_file::keep_small(&self.ctx.paths.log_file(), self.ctx.settings().log_limit());
        }
        sightings::announce(&self.ctx, now_millis(), now, counts);
        self.say_again();
        if self.looks.next_prune <= now {
            self.looks.next_prune = now + PRUNE_EVERY;
            if self.looks.clock.is_steady(now_millis(), now) {
                upkeep::prune(&self.ctx, now_millis());
            } else {
                log::warn!("the clock was set: nothing is cleared by its age this time");
            }
        }
        Ok(())
    }

    /// Forgets the failures that came before this daemon, once it is known to be well.
    pub(in crate::daemon) fn try_out(&mut self, now: Instant) {
        if self.looks.trial.is_passed(now) {
            hold_off::reset(&self.ctx.paths);
        }
    }

    /// What a full queue has kept from being told.
    fn say_again(&mut self) {
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
    }

    /// Whether this daemon is still the one of its files: an answer given on databases that nobody finds again is a lie.
    fn check_files(&self, lock: &mut Lock) -> Result<(), String> {
        if databases(&self.ctx.paths) != self.looks.databases {
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

    /// Attaches and drops meshes when `config.json` has changed, or as if it had.
    pub(super) fn read_config(&mut self, anyway: bool) {
        let path = self.ctx.paths.config_file();
        let seen = Stamp::of(&path);
        if !anyway && seen.is_some() && seen == self.looks.config {
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
        self.looks.config = seen;
    }
}

/// Device and inode of the outbox and the inbox.
fn databases(paths: &Paths) -> [Option<(u64, u64)>; 2] {
    [paths.outbox_db(), paths.inbox_db()].map(|path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino())))
}
