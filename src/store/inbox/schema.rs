//! Every shape that `inbox.db` has had, brought to today's.

use rusqlite::Connection;

use crate::store::Error;
use crate::store::migrate::{Step, add_columns};

pub(super) const STEPS: &[Step] = &[
    complete,
    |conn| Ok(conn.execute_batch(include_str!("../schema/inbox_deleted.sql"))?),
    offered,
    receipts,
    sealed_for_many,
    sent_to,
];

fn offered(conn: &Connection) -> Result<(), Error> {
    let columns = [("offered_at", "INTEGER"), ("offered_by", "TEXT"), ("claimed_by", "TEXT"), ("claimed_until", "INTEGER")];
    add_columns(conn, "inbox", &columns)
}

/// `receipts`: 1 where the sender is to be told, 2 once it was told that the message is held.
fn receipts(conn: &Connection) -> Result<(), Error> {
    add_columns(conn, "inbox", &[("receipts", "INTEGER")])?;
    Ok(conn.execute_batch(include_str!("../schema/inbox_receipt.sql"))?)
}

/// How what is for many was sealed, and whom it calls out to.
fn sealed_for_many(conn: &Connection) -> Result<(), Error> {
    add_columns(conn, "inbox", &[("seal", "TEXT"), ("mentions", "TEXT"), ("mentioned", "INTEGER")])
}

/// To which group it was sent, or that it was for everybody.
fn sent_to(conn: &Connection) -> Result<(), Error> {
    add_columns(conn, "inbox", &[("sent_to", "TEXT")])
}

fn complete(conn: &Connection) -> Result<(), Error> {
    conn.execute_batch(include_str!("../schema/inbox.sql"))?;
    add_columns(
        conn,
        "inbox",
        &[
            ("seen_at", "INTEGER"),
            ("recipient_pubkey", "TEXT"),
            ("recipient_kind", "TEXT"),
            ("seq", "INTEGER"),
            ("client_id", "TEXT"),
            ("sender_member_pubkey", "TEXT"),
            ("priority", "TEXT"),
            ("subtype", "TEXT"),
            ("created_at", "TEXT"),
            ("nonce", "TEXT"),
            ("ciphertext", "TEXT"),
            ("unreadable", "TEXT"),
            ("plain", "INTEGER"),
        ],
    )?;
    Ok(conn.execute_batch(include_str!("../schema/inbox_indexes.sql"))?)
}

/// Gives the rows that the reference's daemon wrote their place, in the order in which it wrote them, and their dedupe key.
pub(super) fn recover(conn: &Connection) -> Result<(), Error> {
    let unplaced: bool = conn.query_row("SELECT EXISTS (SELECT 1 FROM inbox WHERE seq IS NULL)", [], |row| row.get(0))?;
    if !unplaced {
        return Ok(());
    }
    // Rowids grow in the order of insertion, so last_seq + rowid is new, unique and in that order. The gaps are harmless.
    Ok(conn.execute_batch(
        "BEGIN IMMEDIATE;
         UPDATE OR IGNORE inbox SET client_id = client_message_id WHERE seq IS NULL AND client_id IS NULL;
         UPDATE inbox SET seq = (SELECT last_seq FROM inbox_counter) + rowid WHERE seq IS NULL;
         UPDATE inbox_counter SET last_seq = max(last_seq, (SELECT max(seq) FROM inbox));
         COMMIT",
    )?)
}
