//! What a store can answer instead of a result.

use std::fmt;
use std::io;

use rusqlite::ErrorCode;

/// Why a command on a database failed. Nothing of the command is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Another program holds the database's write lock and did not let go in time.
    Busy,
    /// The disk is full.
    Full,
    /// The file is damaged or is no database.
    Corrupt(String),
    /// The file or its directory cannot be written.
    ReadOnly,
    /// A newer program has changed the file's schema.
    TooNew { found: i64, known: i64 },
    /// The file system failed.
    Io(String),
    /// SQLite refused the statement.
    Sql(String),
    /// Another command of the same transaction failed and took this one along. Asked again, it stands by itself.
    Undone,
    /// The database's thread has ended.
    Closed,
    /// Something is at the limit that whoever operates this has set.
    Limit(&'static str),
}

impl Error {
    /// Whether going on with this database makes no sense: its owner should stop and say why. The rest can pass.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::Corrupt(_) | Error::TooNew { .. } | Error::Closed)
    }
}

impl Error {
    /// What whoever starts the program can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Error::Busy => "end the program that uses it, then start again",
            Error::Full => "make room on the disk, then start again",
            Error::Corrupt(_) => "put back a good copy of the file, or move it away to begin with an empty one",
            Error::ReadOnly => "make the file and its directory writable, then start again",
            Error::TooNew { .. } => "start the newer claudemesh that wrote it",
            Error::Limit(_) => "raise the limit, or remove what is not needed",
            Error::Io(_) | Error::Sql(_) | Error::Undone | Error::Closed => "see whether the disk is well, then start again",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Busy => f.write_str("the database is locked by another program"),
            Error::Full => f.write_str("the disk is full"),
            Error::Corrupt(text) => write!(f, "the database is damaged: {text}"),
            Error::ReadOnly => f.write_str("the database cannot be written"),
            Error::TooNew { found, known } => {
                write!(f, "the database has schema version {found}; this program knows versions up to {known}")
            }
            Error::Io(text) => write!(f, "the database's file failed: {text}"),
            Error::Sql(text) => write!(f, "the database refused: {text}"),
            Error::Undone => f.write_str("what was to be written together with this failed"),
            Error::Closed => f.write_str("the database is closed"),
            Error::Limit(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(err: rusqlite::Error) -> Error {
        match err.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy,
            Some(ErrorCode::DiskFull) => Error::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt(err.to_string()),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Error::ReadOnly,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Error::Io(err.to_string()),
            _ => Error::Sql(err.to_string()),
        }
    }
}

impl From<io::Error> for Error {
    fn from(err: io::Error) -> Error {
        match err.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full,
            _ => Error::Io(err.to_string()),
        }
    }
}
