//! SQLite, and the few small files beside it. Each database has one thread that owns it; callers hold cheap handles whose
//! methods return once what they ask for is as durable as they say.

mod damage;
mod db;
mod error;
pub mod hub;
pub mod inbox;
mod migrate;
pub mod outbox;
mod owner;
pub mod session_keys;
mod sums;

use std::fmt;

pub use error::Error;

/// A row's own id in the outbox or the inbox: a UUID, given by whoever writes the row.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId(String);

impl RowId {
    pub fn new(text: impl Into<String>) -> RowId {
        RowId(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowId({})", self.0)
    }
}

/// A place in an ever-growing sequence: the inbox's event ids, the broker's order of messages. 0 is before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl Seq {
    fn to_sql(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    fn from_sql(value: i64) -> Seq {
        Seq(u64::try_from(value).unwrap_or(0))
    }
}

/// A `LIMIT` for SQL.
fn limit_sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A count from SQL.
fn count(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}
