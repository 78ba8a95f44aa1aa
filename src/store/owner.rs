//! The thread that owns one database: it takes what has queued up, runs it as one transaction, commits, and only then
//! answers. Many callers share one wait for the disk; none hears of a row that is not on it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::Connection;

use super::damage;
use super::db::{self, Db};
use super::error::Error;
use super::migrate::{Step, migrate};
use crate::base::thread::{self, Running};

mod reply;
pub(super) use self::reply::{Held, Reply};

/// Commands that wait for the thread. Full means that the caller waits: back-pressure, on to whoever asked.
const QUEUE: usize = 256;

/// Commands in one transaction at most.
const BATCH: usize = 64;

/// SQLite's deepest statements here use under 100 KiB.
const STACK: usize = 512 * 1024;

/// After this long without a command, what the log holds is copied into the database.
const IDLE: Duration = Duration::from_secs(1);

/// What an answer promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Durability {
    /// Nothing was written. Reads are answered before the writes they came in with: what they see is committed, and
    /// they wait for no disk.
    Read,
    /// As `Lazy`, and answered before the commit: for what is merely repeated if the commit fails.
    Early,
    /// Survives this process, but perhaps not a power cut: for what would only be done again.
    Lazy,
    /// Survives a power cut.
    Sync,
}

/// What is undone with a command that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undoing {
    /// It alone. SQLite then keeps aside each page that it changes, which costs as much as the change itself.
    Alone,
    /// Where it has written something already, the transaction with all that is in it. For what comes often, and fails after its
    /// first write only when the disk or the file does.
    WithAll,
}

/// The closed set of things one database can be asked for.
pub(super) trait Command: Send + 'static {
    fn durability(&self) -> Durability;

    fn undoing(&self) -> Undoing;

    /// Runs it, or takes the reason why it cannot run; the answer is held back either way.
    fn run(self, db: Result<&Db<'_>, Error>) -> Held;
}

/// A handle's way to the thread. The thread ends when the last one is dropped.
pub(super) struct Caller<C> {
    /// The standard library's: should the thread be lost, the commands in it are dropped at once, which ends their callers'
    /// waits. Crossbeam's would keep them for as long as there is a handle. Boxed: a slot of the queue is as large as the
    /// largest command, and all slots are there from the start.
    queue: SyncSender<Box<C>>,
    damaged: Arc<AtomicBool>,
}

impl<C> Clone for Caller<C> {
    fn clone(&self) -> Caller<C> {
        Caller { queue: self.queue.clone(), damaged: self.damaged.clone() }
    }
}

impl<C> std::fmt::Debug for Caller<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caller")
    }
}

impl<C: Command> Caller<C> {
    /// Has the command run and waits for its answer. The wait ends with the batch it is part of, or with the thread.
    pub(super) fn call<T>(&self, command: impl FnOnce(Reply<T>) -> C) -> Result<T, Error> {
        let (reply, answer) = reply::reply();
        self.queue.send(Box::new(command(reply))).map_err(|_| Error::Closed)?;
        answer.wait()
    }

    /// Whether any command has met damage in the file.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }
}

/// What distinguishes one database file from another.
pub(super) struct Kind {
    pub(super) thread: &'static str,
    pub(super) cache_kib: u32,
    pub(super) steps: &'static [Step],
    /// Runs at every opening, after the steps: what a crash or the reference's daemon may have left behind.
    pub(super) recover: fn(&Connection) -> Result<(), Error>,
    /// Runs at the end of every transaction, as part of it: writes down what its commands have summed up.
    pub(super) sum_up: fn(&Db<'_>) -> Result<(), Error>,
}

/// Opens the database, brings it up to date and starts its thread.
pub(super) fn start<C: Command>(path: &Path, kind: &Kind) -> Result<(Caller<C>, Running), Error> {
    let conn = db::open(path, kind.cache_kib)?;
    damage::check(path, &conn)?;
    migrate(&conn, kind.steps)?;
    (kind.recover)(&conn)?;
    // The pages of a schema that was just made or changed; what follows needs few of them.
    conn.execute_batch("PRAGMA shrink_memory")?;
    let (sender, queue) = sync_channel(QUEUE);
    let name = kind.thread;
    let file = File { path: path.to_owned(), damaged: Arc::default(), sum_up: kind.sum_up };
    let damaged = file.damaged.clone();
    let running = thread::spawn(name, STACK, move || {
        // On this thread, so that starting waits for no disk. Without the room it only takes longer.
        if let Err(err) = db::fill_log(&file.path) {
            log::warn!("{name}: the log could not be given its size: {err}");
        }
        serve::<C>(name, &file, conn, &queue);
    })?;
    Ok((Caller { queue: sender, damaged }, running))
}

/// The file, and what was found out about it.
struct File {
    path: PathBuf,
    damaged: Arc<AtomicBool>,
    sum_up: fn(&Db<'_>) -> Result<(), Error>,
}

impl File {
    /// Notes an answer that met damage: whoever opens the file next looks at all of it.
    fn look_at(&self, damaged: bool) {
        if damaged && !self.damaged.swap(true, Ordering::AcqRel) {
            log::error!("{} is damaged", self.path.display());
            damage::mark(&self.path);
        }
    }
}

fn serve<C: Command>(name: &str, file: &File, conn: Connection, queue: &Receiver<Box<C>>) {
    let db = Db::new(&conn, &file.path);
    let mut owner = Owner { db: &db, file, full_sync: true, wrote: false };
    let mut batch = VecDeque::with_capacity(BATCH);
    loop {
        let first = if owner.wrote { queue.recv_timeout(IDLE) } else { queue.recv().map_err(RecvTimeoutError::from) };
        match first {
            Ok(first) => batch.push_back(first),
            Err(RecvTimeoutError::Timeout) => {
                owner.checkpoint(name, "PASSIVE");
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
        batch.extend(queue.try_iter().take(BATCH - 1));
        // Callers wait for their answers one at a time, so that commands in one batch are of different callers, and no
        // order between them was promised.
        batch.make_contiguous().sort_by_key(|command| match command.durability() {
            Durability::Read => 0,
            Durability::Early => 1,
            Durability::Lazy | Durability::Sync => 2,
        });
        owner.run(&mut batch);
    }
    owner.checkpoint(name, "TRUNCATE");
    drop(db);
    if let Err((_, err)) = conn.close() {
        log::warn!("{name}: closing failed: {}", Error::from(err));
    }
}

struct Owner<'a, 'c> {
    db: &'a Db<'c>,
    file: &'a File,
    /// The value of `PRAGMA synchronous`: FULL or NORMAL.
    full_sync: bool,
    /// Whether the log may hold something.
    wrote: bool,
}

impl Owner<'_, '_> {
    fn run<C: Command>(&mut self, batch: &mut VecDeque<Box<C>>) {
        self.read(batch);
        while let Some(strongest) = batch.iter().map(|command| command.durability()).max() {
            self.wrote = true;
            match self.begin(strongest) {
                Ok(()) => self.transaction(batch),
                Err(err) => {
                    self.file.look_at(matches!(err, Error::Corrupt(_)));
                    refuse(batch, &err);
                }
            }
        }
    }

    /// Answers the reads at the front of the batch.
    fn read<C: Command>(&self, batch: &mut VecDeque<Box<C>>) {
        let reads = batch.iter().take_while(|command| command.durability() == Durability::Read).count();
        // Together, where there are several: each by itself would lock the log, look whether it has grown, and unlock it.
        // Without a transaction each of them says by itself what is wrong.
        let together = 1 < reads && self.db.execute("BEGIN", []).is_ok();
        for read in batch.drain(..reads) {
            let held = read.run(Ok(self.db));
            self.file.look_at(held.damaged);
            (held.release)(Ok(()));
        }
        if together
            && self.db.in_transaction()
            && let Err(err) = self.db.execute("COMMIT", [])
        {
            log::error!("ending a transaction that only read failed: {err}");
        }
    }

    fn begin(&mut self, durability: Durability) -> Result<(), Error> {
        let full = durability == Durability::Sync;
        if full != self.full_sync {
            self.db.pragma(if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })?;
            self.full_sync = full;
        }
        self.db.look_for_room_again();
        self.db.execute("BEGIN IMMEDIATE", [])?;
        Ok(())
    }

    /// Runs the batch and answers it. When SQLite gives the transaction up midway (no space, no memory), the commands so
    /// far fail with that reason and the rest stay in the batch.
    fn transaction<C: Command>(&self, batch: &mut VecDeque<Box<C>>) {
        let mut held = Vec::with_capacity(batch.len());
        let mut outcome = Ok(());
        while let Some(command) = batch.pop_front() {
            let early = command.durability() == Durability::Early;
            let release = self.step(*command, &mut outcome);
            if early && outcome.is_ok() {
                release(Ok(()));
                continue;
            }
            held.push(release);
            if outcome.is_err() {
                break;
            }
        }
        if outcome.is_ok() {
            outcome = (self.file.sum_up)(self.db).and_then(|()| self.db.execute("COMMIT", []).map(drop));
        }
        // Nothing is left of a transaction that is lost.
        drop(self.db.sums().take());
        self.file.look_at(matches!(outcome, Err(Error::Corrupt(_))));
        if outcome.is_err()
            && self.db.in_transaction()
            && let Err(err) = self.db.execute("ROLLBACK", [])
        {
            log::error!("rolling back failed: {err}");
        }
        held.into_iter().for_each(|release| release(outcome.clone()));
    }

    /// Runs one command so that its failure undoes what it says. `lost` says why the whole transaction is gone, if it is.
    fn step<C: Command>(&self, command: C, lost: &mut Result<(), Error>) -> Box<dyn FnOnce(Result<(), Error>)> {
        let alone = command.undoing() == Undoing::Alone;
        if alone && let Err(err) = self.db.execute("SAVEPOINT command", []) {
            *lost = Err(err.clone());
            return command.run(Err(err)).release;
        }
        self.db.sums().next_command();
        let before = self.db.changes();
        let ran = command.run(Ok(self.db));
        self.file.look_at(ran.damaged);
        if ran.failed {
            self.db.sums().undo_command();
        }
        *lost = if !self.db.in_transaction() {
            Err(Error::Full)
        } else if alone {
            let undone = if ran.failed { self.db.execute("ROLLBACK TO command", []) } else { Ok(0) };
            undone.and_then(|_| self.db.execute("RELEASE command", [])).map(drop)
        } else if ran.failed && self.db.changes() != before {
            Err(Error::Undone)
        } else {
            Ok(())
        };
        ran.release
    }

    fn checkpoint(&mut self, name: &str, mode: &str) {
        self.wrote = false;
        // It answers with a row; a reader in the way shows there and is no error.
        if let Err(err) = self.db.first(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())) {
            log::warn!("{name}: the log could not be copied back: {err}");
        }
    }
}

/// No transaction could begin.
fn refuse<C: Command>(batch: &mut VecDeque<Box<C>>, err: &Error) {
    for command in batch.drain(..) {
        (command.run(Err(err.clone())).release)(Ok(()));
    }
}

/// Declares a database's handle from a table with one row per command: what it promises, its method, and the function that
/// does it on the owner's thread.
macro_rules! commands {
    (
        $(#[$handle_doc:meta])*
        $handle_vis:vis struct $handle:ident;
        $(
            $(#[$doc:meta])*
            $durability:ident $([$undoing:ident])? $command:ident => $run:path:
            $vis:vis fn $method:ident($($arg:ident: $kind:ty),* $(,)?) -> $answer:ty;
        )*
    ) => {
        enum Cmd {
            $($command { $($arg: $kind,)* reply: $crate::store::owner::Reply<$answer> },)*
        }

        impl $crate::store::owner::Command for Cmd {
            fn durability(&self) -> $crate::store::owner::Durability {
                match self {
                    $(Cmd::$command { .. } => $crate::store::owner::Durability::$durability,)*
                }
            }

            // The first of what is written there and what holds otherwise.
            fn undoing(&self) -> $crate::store::owner::Undoing {
                match self {
                    $(Cmd::$command { .. } => {
                        [$($crate::store::owner::Undoing::$undoing,)? $crate::store::owner::Undoing::Alone][0]
                    })*
                }
            }

            fn run(
                self,
                db: Result<&$crate::store::db::Db<'_>, $crate::store::error::Error>,
            ) -> $crate::store::owner::Held {
                match self {
                    $(Cmd::$command { $($arg,)* reply } => reply.hold(db.and_then(|db| $run(db, $($arg),*))),)*
                }
            }
        }

        $(#[$handle_doc])*
        #[derive(Clone, Debug)]
        $handle_vis struct $handle($crate::store::owner::Caller<Cmd>);

        impl $handle {
            /// Whether the file turned out to be damaged: nothing more can be expected of it, and whoever opens it next
            /// looks at all of it.
            $handle_vis fn is_damaged(&self) -> bool {
                self.0.is_damaged()
            }

            $(
                $(#[$doc])*
                $vis fn $method(&self, $($arg: $kind),*) -> Result<$answer, $crate::store::error::Error> {
                    self.0.call(|reply| Cmd::$command { $($arg,)* reply })
                }
            )*
        }
    };
}

pub(super) use commands;

#[cfg(test)]
mod tests;
