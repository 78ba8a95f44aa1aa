//! Every shape that `outbox.db` has had, brought to today's.

use rusqlite::Connection;

use crate::store::Error;
use crate::store::migrate::{Step, add_columns};

pub(super) const STEPS: &[Step] =
    &[complete, |conn| add_columns(conn, "outbox", &[("mesh_id", "TEXT"), ("member_pubkey", "TEXT")]), receipts];

pub(super) const NO_ROUTE: &str = "no_route: written before routing was stored";

/// `told`: whether the broker that has the message passes on what recipients say.
fn receipts(conn: &Connection) -> Result<(), Error> {
    add_columns(conn, "outbox", &[("told", "INTEGER")])?;
    Ok(conn.execute_batch(include_str!("../schema/outbox_receipt.sql"))?)
}

fn complete(conn: &Connection) -> Result<(), Error> {
    conn.execute_batch(include_str!("../schema/outbox.sql"))?;
    let columns = ["mesh", "target_spec", "nonce", "ciphertext", "priority", "sender_session_pubkey", "reply_to_id", "meta"];
    add_columns(conn, "outbox", &columns.map(|name| (name, "TEXT")))?;
    // Half a route is none: the reference would broadcast such a row in clear.
    conn.execute(
        "UPDATE outbox SET status = 'dead', next_attempt_at = strftime('%s', 'now') * 1000, last_error = ?1
          WHERE status IN ('pending', 'inflight') AND mesh IS NOT NULL
            AND (coalesce(target_spec, '') = '' OR coalesce(nonce, '') = '' OR coalesce(ciphertext, '') = '')",
        [NO_ROUTE],
    )?;
    Ok(conn.execute_batch(include_str!("../schema/outbox_indexes.sql"))?)
}

/// What a crash or the reference's daemon left: rows in flight that nobody waits for, rows without a route, which the reference
/// would have broadcast in clear, and an index that only its queries use.
pub(super) fn recover(conn: &Connection) -> Result<(), Error> {
    conn.execute_batch(
        "BEGIN IMMEDIATE;
         DROP INDEX IF EXISTS outbox_pending;
         UPDATE outbox INDEXED BY outbox_flying
            SET status = 'pending', attempts = max(attempts - 1, 0), next_attempt_at = enqueued_at WHERE status = 'inflight';",
    )?;
    for no_mesh in [None, Some("")] {
        conn.execute(
            "UPDATE outbox INDEXED BY outbox_waiting
                SET status = 'dead', next_attempt_at = strftime('%s', 'now') * 1000, last_error = ?1
              WHERE status = 'pending' AND mesh IS ?2",
            (NO_ROUTE, no_mesh),
        )?;
    }
    Ok(conn.execute_batch("COMMIT")?)
}
