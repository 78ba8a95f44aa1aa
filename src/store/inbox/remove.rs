//! Deleting messages, in steps of a few milliseconds.

use rusqlite::params;

use super::Scope;
use super::scope::{self, Values};
use crate::base::ids::Slug;
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, RowId, limit_sql};

/// Rows deleted by one command at most.
pub(super) const STEP: usize = 500;

pub(super) fn flush_some(db: &Db<'_>, scope: Scope, mesh: Option<Slug>, before: Option<Millis>) -> Result<usize, Error> {
    let mut values = Values::default();
    let mut conditions = String::new();
    if let Some(mesh) = mesh {
        conditions.push_str(" AND mesh = :mesh");
        values.set(":mesh", mesh.to_string());
    }
    if let Some(before) = before {
        conditions.push_str(" AND received_at < :before");
        values.set(":before", before);
    }
    values.set(":limit", limit_sql(STEP));
    let legs = scope::legs(&scope, &mut values);
    let index = if matches!(scope, Scope::Everything) { "NOT INDEXED" } else { "INDEXED BY inbox_recipient" };
    let select = |leg: &str| format!("SELECT rowid AS place FROM inbox {index} WHERE {leg}{conditions}");
    let all: Vec<String> = legs.into_iter().map(select).collect();
    let sql =
        format!("DELETE FROM inbox WHERE rowid IN (SELECT place FROM ({} ORDER BY place LIMIT :limit))", all.join(" UNION ALL "));
    db.execute(&sql, values.bind().as_slice())
}

pub(super) fn delete(db: &Db<'_>, id: RowId, scope: Scope) -> Result<bool, Error> {
    let mut values = Values::default();
    let allowed = scope::condition(&scope, &mut values);
    values.set(":id", id.to_string());
    let deleted = db.execute(&format!("DELETE FROM inbox WHERE id = :id AND {allowed}"), values.bind().as_slice())?;
    Ok(0 < deleted)
}

pub(super) fn prune(db: &Db<'_>, before: Millis) -> Result<usize, Error> {
    db.execute(
        "DELETE FROM inbox WHERE rowid IN (
           SELECT rowid FROM inbox INDEXED BY inbox_received_at WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)",
        params![before, limit_sql(STEP)],
    )
}
