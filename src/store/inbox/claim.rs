//! The delivery ladder: one message is offered to the model once. A path claims what nobody has offered yet, puts it before
//! the model and confirms; what it does not confirm falls back when the lease is over.

use super::scope::{self, Values};
use super::{Inbound, Scope, read, receipts};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, RowId, limit_sql};
use crate::wire::limits::CLAIM_LEASE;
use crate::wire::priority::Priority;
use crate::wire::receipt::Stage;

/// What a path asks for.
#[derive(Debug, Clone)]
pub struct Claim {
    pub scope: Scope,
    /// The path's name.
    pub path: String,
    /// Only messages of these priorities.
    pub priorities: Vec<Priority>,
    /// Only messages of other senders than these (keys as they are stored).
    pub held: Vec<String>,
    /// Only these, if any are named.
    pub only: Option<Vec<RowId>>,
    pub limit: usize,
    pub now: Millis,
    /// Until when the messages are this path's alone.
    pub until: Millis,
}

/// Nobody has claimed it, or the lease is over. One that ends later than any can was given under another clock.
pub(super) const UNCLAIMED: &str = "(+claimed_until IS NULL OR +claimed_until <= :now OR :beyond < +claimed_until)";

/// The value of `:beyond`. Of two claims the one that was asked for first may be made last.
pub(super) fn beyond_any_lease(now: Millis) -> Millis {
    now.saturating_add(2 * Millis::try_from(CLAIM_LEASE.as_millis()).unwrap_or(Millis::MAX / 2))
}

/// Gives what is neither read nor offered nor claimed to one path, oldest first.
pub(super) fn claim(db: &Db<'_>, claim: Claim) -> Result<Vec<Inbound>, Error> {
    let mut values = Values::default();
    let legs = scope::legs(&claim.scope, &mut values);
    let conditions = conditions(&claim, &mut values);
    let index = match claim.scope {
        Scope::Everything => "INDEXED BY inbox_seen_at",
        Scope::Session { .. } => "INDEXED BY inbox_unread",
    };
    let sql = read::union(&legs, index, &conditions, "ASC");
    let rows = db.all(&sql, values.bind().as_slice(), read::read)?;
    for row in &rows {
        db.execute(
            "UPDATE inbox SET claimed_by = ?2, claimed_until = ?3 WHERE id = ?1",
            rusqlite::params![row.id.as_str(), claim.path, claim.until],
        )?;
    }
    Ok(rows)
}

fn conditions(claim: &Claim, values: &mut Values) -> String {
    let mut text = format!(" AND seen_at IS NULL AND +offered_at IS NULL AND {UNCLAIMED}");
    values.set(":now", claim.now);
    values.set(":beyond", beyond_any_lease(claim.now));
    values.set(":limit", limit_sql(claim.limit.clamp(1, 1000)));
    // Rows of the reference have no priority, which reads as the usual one.
    text.push_str(&format!(" AND coalesce(priority, '{}') IN ({})", Priority::default().as_str(), names(&claim.priorities)));
    if !claim.held.is_empty() {
        // Keys are of one length and alphabet, so that one is found in a list only where it stands.
        text.push_str(" AND instr(:held, ' ' || sender_pubkey || ' ') = 0");
        values.set(":held", format!(" {} ", claim.held.join(" ")));
    }
    if let Some(only) = &claim.only {
        text.push_str(" AND instr(:only, ' ' || id || ' ') != 0");
        let ids: Vec<&str> = only.iter().map(RowId::as_str).collect();
        values.set(":only", format!(" {} ", ids.join(" ")));
    }
    text
}

/// Priorities as a list in SQL.
pub(super) fn names(priorities: &[Priority]) -> String {
    priorities.iter().map(|priority| format!("'{}'", priority.as_str())).collect::<Vec<_>>().join(",")
}

/// Notes that `path` put these before the model: they count as seen, and nobody offers them again. What another path has claimed
/// is that one's to offer. Returns how many it was news for.
pub(super) fn offered(db: &Db<'_>, ids: Vec<RowId>, path: String, scope: Scope, now: Millis) -> Result<usize, Error> {
    let set = "offered_at = :now, offered_by = :path, seen_at = coalesce(seen_at, :now), claimed_by = NULL, claimed_until = NULL";
    change(db, ids, path, &scope, set, ("+offered_at IS NULL AND coalesce(claimed_by, :path) = :path", Some(Stage::Offered)), now)
}

/// Notes that these are not to be offered, although the model has not seen them: a person finds them in the inbox.
pub(super) fn withheld(db: &Db<'_>, ids: Vec<RowId>, why: String, scope: Scope, now: Millis) -> Result<usize, Error> {
    let set = "offered_at = :now, offered_by = :path, claimed_by = NULL, claimed_until = NULL";
    change(db, ids, why, &scope, set, ("+offered_at IS NULL", Some(Stage::Held)), now)
}

/// Gives back what `path` claimed and did not offer. Another path's claim stays.
pub(super) fn unclaim(db: &Db<'_>, ids: Vec<RowId>, path: String, scope: Scope) -> Result<usize, Error> {
    change(db, ids, path, &scope, "claimed_by = NULL, claimed_until = NULL", ("+claimed_by = :path", None), 0)
}

/// Changes those of these rows that are in the scope and meet `only`; their senders are to be told the stage beside it.
fn change(
    db: &Db<'_>,
    ids: Vec<RowId>,
    path: String,
    scope: &Scope,
    set: &str,
    (only, stage): (&str, Option<Stage>),
    now: Millis,
) -> Result<usize, Error> {
    let mut changed = 0;
    for id in ids {
        let mut values = Values::default();
        let allowed = scope::condition(scope, &mut values);
        values.set(":id", id.to_string());
        values.set(":path", path.clone());
        if set.contains(":now") {
            values.set(":now", now);
        }
        let sql = format!("UPDATE inbox SET {set} WHERE id = :id AND {only} AND {allowed}");
        let done = db.execute(&sql, values.bind().as_slice())?;
        if let Some(stage) = stage.filter(|_| 0 < done) {
            receipts::note(db, &id, stage, &path, now)?;
        }
        changed += done;
    }
    Ok(changed)
}
