//! Deleting messages, in steps of a few milliseconds.

use rusqlite::params;

use super::scope::{self, Values};
use super::{NewInbound, Scope, recipient_sql};
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
    let some = format!("rowid IN (SELECT place FROM ({} ORDER BY place LIMIT :limit))", all.join(" UNION ALL "));
    delete_where(db, &some, &values)
}

/// Deletes rows and notes that they were there, so that a message whose acknowledgement was lost does not come back.
fn delete_where(db: &Db<'_>, condition: &str, values: &Values) -> Result<usize, Error> {
    db.execute(
        &format!(
            "INSERT OR IGNORE INTO inbox_deleted (mesh, recipient_pubkey, sender_pubkey, client_id, received_at)
             SELECT mesh, recipient_pubkey, sender_pubkey, client_id, received_at FROM inbox
              WHERE {condition} AND recipient_pubkey IS NOT NULL AND client_id IS NOT NULL"
        ),
        values.bind().as_slice(),
    )?;
    db.execute(&format!("DELETE FROM inbox WHERE {condition}"), values.bind().as_slice())
}

/// Whether this message was here and somebody deleted it.
pub(super) fn was_deleted(db: &Db<'_>, message: &NewInbound) -> Result<bool, Error> {
    let found = db.first(
        "SELECT 1 FROM inbox_deleted
          WHERE mesh = ?1 AND recipient_pubkey = ?2 AND sender_pubkey = ?3 AND client_id = ?4",
        params![message.mesh.as_str(), recipient_sql(message.recipient).0, message.sender_pubkey, message.client_id.as_str()],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

pub(super) fn forget_deleted(db: &Db<'_>, before: Millis) -> Result<usize, Error> {
    db.execute("DELETE FROM inbox_deleted WHERE received_at < ?1", [before])
}

/// What the new name had of the same messages before stays, and the row under the old one as well.
pub(super) fn rename(db: &Db<'_>, old: Slug, new: Slug) -> Result<usize, Error> {
    let names = params![old.as_str(), new.as_str()];
    db.execute("UPDATE OR IGNORE inbox_deleted SET mesh = ?2 WHERE mesh = ?1", names)?;
    db.execute("UPDATE receipt SET mesh = ?2 WHERE mesh = ?1", names)?;
    db.execute(
        "UPDATE OR IGNORE inbox SET mesh = ?2 WHERE rowid IN (
           SELECT rowid FROM inbox INDEXED BY inbox_mesh WHERE mesh = ?1 LIMIT ?3)",
        params![old.as_str(), new.as_str(), limit_sql(STEP)],
    )
}

pub(super) fn delete(db: &Db<'_>, id: RowId, scope: Scope) -> Result<bool, Error> {
    let mut values = Values::default();
    let allowed = scope::condition(&scope, &mut values);
    values.set(":id", id.to_string());
    Ok(0 < delete_where(db, &format!("id = :id AND {allowed}"), &values)?)
}

pub(super) fn prune(db: &Db<'_>, before: Millis) -> Result<usize, Error> {
    db.execute(
        "DELETE FROM inbox WHERE rowid IN (
           SELECT rowid FROM inbox INDEXED BY inbox_received_at WHERE received_at < ?1 ORDER BY received_at LIMIT ?2)",
        params![before, limit_sql(STEP)],
    )
}
