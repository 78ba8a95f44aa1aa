//! One open connection with the statements prepared on it, and how a database file is opened.

use std::cell::{Cell, RefCell, RefMut};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Statement};

use super::error::Error;
use super::sums::Sums;
use crate::sys::disk;

/// Prepared statements kept at once, a few KiB each. When full, the one unused for longest goes.
const STATEMENTS: usize = 40;

/// Bytes of the disk that new messages leave free.
const RESERVE: u64 = 4 * 1024 * 1024;

/// How long to wait for another program that is writing.
const BUSY_TIMEOUT_MILLIS: i64 = 5000;

/// A connection and its prepared statements.
pub(super) struct Db<'c> {
    conn: &'c Connection,
    /// Where the file is.
    path: PathBuf,
    /// Whether there was room when this transaction first asked.
    room: Cell<Option<bool>>,
    /// What this transaction has changed that is written at its end.
    sums: RefCell<Sums>,
    /// The most recently used last.
    idle: RefCell<Vec<(Box<str>, Statement<'c>)>>,
}

impl<'c> Db<'c> {
    pub(super) fn new(conn: &'c Connection, path: &Path) -> Db<'c> {
        Db { conn, path: path.to_owned(), room: Cell::new(None), sums: RefCell::default(), idle: RefCell::new(Vec::new()) }
    }

    /// Refuses what would make the database larger when the disk has little room left: what makes it smaller, and what
    /// records that a message has arrived, must still find some. The disk is asked once in a transaction, which takes up no
    /// room before its end.
    pub(super) fn check_room(&self) -> Result<(), Error> {
        // Where the disk does not say, it will show.
        let room = self.room.get().unwrap_or_else(|| disk::free_bytes(&self.path).map_or(true, |free| RESERVE <= free));
        self.room.set(Some(room));
        if room { Ok(()) } else { Err(Error::Full) }
    }

    /// Another transaction begins.
    pub(super) fn look_for_room_again(&self) {
        self.room.set(None);
    }

    /// What this transaction has changed that is written at its end. The borrow ends before anything else is asked of this.
    pub(super) fn sums(&self) -> RefMut<'_, Sums> {
        self.sums.borrow_mut()
    }

    /// `sql`, prepared before or now.
    pub(super) fn prepare(&self, sql: &str) -> Result<Prepared<'_, 'c>, Error> {
        let mut idle = self.idle.borrow_mut();
        let (sql, statement) = match idle.iter().rposition(|(text, _)| **text == *sql) {
            Some(at) => idle.remove(at),
            None => (sql.into(), self.conn.prepare(sql)?),
        };
        Ok(Prepared { db: self, sql, statement: Some(statement) })
    }

    pub(super) fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, Error> {
        Ok(self.prepare(sql)?.execute(params)?)
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params)?;
        Ok(rows.next()?.map(read).transpose()?)
    }

    /// Every row.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        Ok(self.prepare(sql)?.query_map(params, read)?.collect::<Result<_, _>>()?)
    }

    /// The rows up to the one with which their weight exceeds `budget`, and whether there are more.
    pub(super) fn some<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        mut read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
        weigh: impl Fn(&T) -> usize,
        budget: usize,
    ) -> Result<(Vec<T>, bool), Error> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params)?;
        let mut some = Vec::new();
        let mut weight = 0;
        while let Some(row) = rows.next()? {
            if budget < weight {
                return Ok((some, true));
            }
            let row = read(row)?;
            weight += weigh(&row);
            some.push(row);
        }
        Ok((some, false))
    }

    /// Runs a pragma that SQLite obeys while it compiles it, so that a prepared one would do nothing.
    pub(super) fn pragma(&self, sql: &str) -> Result<(), Error> {
        Ok(self.conn.execute_batch(sql)?)
    }

    /// Rows changed since the database was opened.
    pub(super) fn changes(&self) -> u64 {
        self.conn.total_changes()
    }

    /// Whether a transaction is open.
    pub(super) fn in_transaction(&self) -> bool {
        !self.conn.is_autocommit()
    }
}

/// A prepared statement on loan; it goes back when dropped.
pub(super) struct Prepared<'a, 'c> {
    db: &'a Db<'c>,
    sql: Box<str>,
    statement: Option<Statement<'c>>,
}

impl<'c> Deref for Prepared<'_, 'c> {
    type Target = Statement<'c>;

    fn deref(&self) -> &Statement<'c> {
        self.statement.as_ref().expect("taken only by drop")
    }
}

impl<'c> DerefMut for Prepared<'_, 'c> {
    fn deref_mut(&mut self) -> &mut Statement<'c> {
        self.statement.as_mut().expect("taken only by drop")
    }
}

impl Drop for Prepared<'_, '_> {
    fn drop(&mut self) {
        let Some(mut statement) = self.statement.take() else { return };
        // Bound text is a copy that would otherwise live as long as the statement.
        statement.clear_bindings();
        let mut idle = self.db.idle.borrow_mut();
        if STATEMENTS <= idle.len() {
            idle.remove(0);
        }
        idle.push((std::mem::take(&mut self.sql), statement));
    }
}

/// Opens a database file for its one writer, making it if there is none; it and what SQLite keeps beside it are readable by
/// their owner only. `cache_kib` bounds SQLite's page cache.
///
/// Only the header and the schema are read, so that opening costs the same for any size: a damaged page is reported as
/// [`Error::Corrupt`] by the first command that meets it.
pub(super) fn open(path: &Path, cache_kib: u32) -> Result<Connection, Error> {
    make_private(path)?;
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // As a pragma: the method needs SQLite 3.44, which distributions do not all have.
    conn.pragma_update(None, "busy_timeout", BUSY_TIMEOUT_MILLIS)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Error::Io(format!("its directory allows no write-ahead log, only `{mode}`")));
    }
    // What a CHECK allows is an enum where it is written, and SQLite builds a table of the allowed words for each row.
    // The log is normally copied back when the thread is idle; the automatic limit is for hours without a pause.
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA ignore_check_constraints = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -{cache_kib};
         PRAGMA wal_autocheckpoint = {LOG_PAGES};
         PRAGMA journal_size_limit = {LOG_BYTES};"
    ))?;
    Ok(conn)
}

/// Bytes that the log takes up from the start: room for [`LOG_PAGES`] pages of 4 KiB with their frame headers.
const LOG_BYTES: u64 = 8 * 1024 * 1024;

/// Pages in the log at which a busy database copies it back and begins at its front again.
const LOG_PAGES: u32 = 2000;

/// Gives the log its full size in zeros, which SQLite takes for the end of what was written. A sync that need not record a
/// new file size takes half as long, and every acknowledged message waits for one.
pub(super) fn fill_log(path: &Path) -> io::Result<()> {
    let mut log = match OpenOptions::new().append(true).open(beside(path, "-wal")) {
        Ok(log) => log,
        // SQLite makes it with the first write; that database begins with a growing log.
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    let before = log.metadata()?.len();
    let filled = zero_fill(&mut log, LOG_BYTES.saturating_sub(before));
    if filled.is_err() {
        // Where there is no room for this, what there is belongs to messages.
        log.set_len(before)?;
    }
    filled
}

fn zero_fill(file: &mut File, mut missing: u64) -> io::Result<()> {
    // Of the thread's stack, which stays resident: small.
    let zeros = [0; 8 * 1024];
    while 0 < missing {
        let step = usize::try_from(missing).unwrap_or(zeros.len()).min(zeros.len());
        file.write_all(&zeros[..step])?;
        missing -= step as u64;
    }
    Ok(())
}

/// Makes the file with mode 0600, or gives what is there that mode. An existing file is never opened here: closing it again
/// would drop the locks that SQLite holds on it elsewhere in this process.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        Err(err) => return Err(err),
    }
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        match fs::set_permissions(&file, Permissions::from_mode(0o600)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    Ok(())
}

/// The file of this name with `suffix` added to it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
