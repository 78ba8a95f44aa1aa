//! Damaged database files: how one is remembered until somebody has looked at all of it, and how it is put out of the way.
//!
//! Opening reads the header and the schema only, so damage further in is met by a command. The file is then marked, the
//! process ends, and whoever opens it next has every page checked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::db::beside;
use super::error::Error;
use crate::base::atomic_file;
use crate::base::time::{iso, now_millis};

/// Beside a database file: it was found damaged.
const MARK: &str = "-damaged";

/// Remembers that this file was found damaged. Where that can not be written, the next command meets the damage again.
pub(super) fn mark(path: &Path) {
    if let Err(err) = atomic_file::write(&beside(path, MARK), b"") {
        log::warn!("{} can not be marked as damaged: {err}", path.display());
    }
}

/// Looks at every page of a file that is marked, and takes the mark away if all are well: it was put right since.
pub(super) fn check(path: &Path, conn: &Connection) -> Result<(), Error> {
    let mark = beside(path, MARK);
    if !mark.exists() {
        return Ok(());
    }
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Error::Corrupt(found.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    Ok(fs::remove_file(mark)?)
}

/// Another file has taken the place of the one that was marked.
pub(super) fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(beside(path, MARK)) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Gives a damaged file, and its log, a name that says what it is and since when. Returns that name.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let when: String = iso(now_millis()).chars().filter(char::is_ascii_alphanumeric).collect();
    let aside = beside(path, &format!(".corrupt-{when}"));
    // The log first: beside a new database it would be taken for that one's.
    for suffix in ["-wal", ""] {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    for suffix in ["-shm", MARK] {
        match fs::remove_file(beside(path, suffix)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    Ok(aside)
}
