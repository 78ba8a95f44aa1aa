//! Handing rows to the links and recording how they ended. Every look at waiting rows goes through the index
//! `outbox_waiting`, one recipient at a time, so that a long queue for someone away costs the others nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rusqlite::{Row as SqlRow, params};

use super::accept::fingerprint;
use super::schema::NO_ROUTE;
use super::{Claimed, LEASE_MILLIS, Membership, Outcome, Route, Row, Sender, Work, sender_sql};
use crate::base::ids::{ClientId, MemberKey, MeshId, PublicKey, SessionKey, Slug};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, RowId};
use crate::wire::priority::Priority;

/// The oldest waiting row of one recipient.
struct Head {
    target: String,
    rowid: i64,
    due: Millis,
}

pub(super) fn claim(db: &Db<'_>, route: Route, now: Millis, limit: usize) -> Result<Claimed, Error> {
    let sender = sender_sql(route.sender);
    return_expired(db, &route.mesh, sender.as_deref(), now)?;
    let mut ready = BinaryHeap::new();
    let mut claimed = Claimed::default();
    let mut last = String::new();
    while let Some(head) = next_head(db, &route.mesh, sender.as_deref(), &last)? {
        last.clone_from(&head.target);
        if head.due <= now {
            ready.push(Reverse((head.rowid, head.target)));
        } else {
            sooner(&mut claimed.next_due, head.due);
        }
    }
    while claimed.rows.len() < limit
        && let Some(Reverse((rowid, target))) = ready.pop()
    {
        claimed.rows.extend(take(db, rowid, now)?);
        let next = db.first(
            "SELECT rowid, next_attempt_at FROM outbox INDEXED BY outbox_waiting
              WHERE status = 'pending' AND mesh = ?1 AND sender_session_pubkey IS ?2 AND target_spec = ?3 AND rowid > ?4
              ORDER BY rowid LIMIT 1",
            params![route.mesh.as_str(), sender, target, rowid],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Millis>(1)?)),
        )?;
        match next {
            Some((rowid, due)) if due <= now => ready.push(Reverse((rowid, target))),
            Some((_, due)) => sooner(&mut claimed.next_due, due),
            None => {}
        }
    }
    if !ready.is_empty() {
        sooner(&mut claimed.next_due, now);
    }
    Ok(claimed)
}

fn sooner(next_due: &mut Option<Millis>, due: Millis) {
    *next_due = Some(next_due.map_or(due, |next| next.min(due)));
}

/// Rows whose claimer was never heard of again are pending again.
fn return_expired(db: &Db<'_>, mesh: &Slug, sender: Option<&str>, now: Millis) -> Result<(), Error> {
    db.execute(
        "UPDATE outbox INDEXED BY outbox_flying SET status = 'pending'
          WHERE status = 'inflight' AND mesh = ?1 AND sender_session_pubkey IS ?2 AND next_attempt_at <= ?3",
        params![mesh.as_str(), sender, now],
    )?;
    Ok(())
}

/// The oldest waiting row of the recipient that follows `after` in the index.
fn next_head(db: &Db<'_>, mesh: &Slug, sender: Option<&str>, after: &str) -> Result<Option<Head>, Error> {
    db.first(
        "SELECT target_spec, rowid, next_attempt_at FROM outbox INDEXED BY outbox_waiting
          WHERE status = 'pending' AND mesh = ?1 AND sender_session_pubkey IS ?2 AND target_spec > ?3
          ORDER BY target_spec, rowid LIMIT 1",
        params![mesh.as_str(), sender, after],
        |row| Ok(Head { target: row.get(0)?, rowid: row.get(1)?, due: row.get(2)? }),
    )
}

/// Marks one row as in flight. `None` if there is nothing in it that could be sent: then it is dead, and holds nobody up.
fn take(db: &Db<'_>, rowid: i64, now: Millis) -> Result<Option<Row>, Error> {
    // Not by RETURNING, for which SQLite builds a table in memory each time.
    let row = db.first(
        "SELECT id, client_message_id, request_fingerprint, target_spec, nonce, ciphertext, priority, reply_to_id, meta,
                attempts + 1, enqueued_at, mesh_id, member_pubkey, CASE WHEN ciphertext LIKE '-%' THEN payload END
           FROM outbox WHERE rowid = ?1",
        [rowid],
        |row| Ok(read(row)),
    )?;
    db.execute(
        "UPDATE OR FAIL outbox SET status = 'inflight', attempts = attempts + 1, next_attempt_at = ?2 WHERE rowid = ?1",
        params![rowid, now + LEASE_MILLIS],
    )?;
    let why = match row {
        None => return Ok(None),
        Some(Ok(Some(row))) => return Ok(Some(row)),
        Some(Ok(None)) => NO_ROUTE.to_owned(),
        Some(Err(err)) => format!("unreadable: {err}"),
    };
    db.execute("UPDATE outbox SET status = 'dead', last_error = ?2 WHERE rowid = ?1", params![rowid, why])?;
    Ok(None)
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Option<Row>> {
    let (Some(nonce), Some(ciphertext)) = (row.get::<_, Option<String>>(4)?, row.get::<_, Option<String>>(5)?) else {
        return Ok(None);
    };
    let priority: Option<String> = row.get(6)?;
    Ok(Some(Row {
        id: RowId::new(row.get::<_, String>(0)?),
        client_id: ClientId::new(row.get::<_, String>(1)?),
        fingerprint: fingerprint(row, 2)?,
        membership: membership(row, 11)?,
        target: row.get(3)?,
        nonce,
        ciphertext,
        text: row.get(13)?,
        priority: priority.and_then(|text| Priority::parse(&text)).unwrap_or_default(),
        reply_to: row.get(7)?,
        meta: row.get(8)?,
        attempts: row.get(9)?,
        enqueued_at: row.get(10)?,
    }))
}

/// The columns `mesh_id` and `member_pubkey`, from `column` on.
pub(super) fn membership(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Option<Membership>> {
    let mesh = row.get::<_, Option<String>>(column)?.map(MeshId::new);
    let member = row.get::<_, Option<String>>(column + 1)?.and_then(|key| PublicKey::parse(&key)).map(MemberKey);
    Ok(mesh.zip(member).map(|(mesh, member)| Membership { mesh, member }))
}

pub(super) fn settle(db: &Db<'_>, outcomes: Vec<(RowId, Outcome)>) -> Result<(), Error> {
    for (id, outcome) in outcomes {
        let id = id.as_str();
        match outcome {
            Outcome::Done { broker_id, at, told } => db.execute(
                // The broker has it, whoever gave it up meanwhile, and whether or not the claim could be written. What was sent
                // again in its stead goes its own way.
                "UPDATE OR FAIL outbox SET status = 'done', delivered_at = ?2, broker_message_id = ?3, told = ?4, last_error = NULL,
                        payload = x'', ciphertext = NULL, aborted_at = NULL, aborted_by = NULL
                  WHERE id = ?1 AND (status IN ('inflight', 'pending') OR (status = 'aborted' AND superseded_by IS NULL))",
                params![id, at, broker_id.as_str(), told],
            ),
            Outcome::Later { at, error } => db.execute(
                "UPDATE outbox SET status = 'pending', next_attempt_at = ?2, last_error = ?3
                  WHERE id = ?1 AND status = 'inflight'",
                params![id, at, error],
            ),
            Outcome::Returned => db.execute(
                "UPDATE outbox SET status = 'pending', next_attempt_at = enqueued_at, attempts = max(attempts - 1, 0)
                  WHERE id = ?1 AND status = 'inflight'",
                [id],
            ),
            Outcome::Dead { error, at } => db.execute(
                "UPDATE outbox SET status = 'dead', next_attempt_at = ?2, last_error = ?3
                  WHERE id = ?1 AND status = 'inflight'",
                params![id, at, error],
            ),
        }?;
    }
    Ok(())
}

pub(super) fn routes_with_work(db: &Db<'_>) -> Result<Vec<(Route, Millis)>, Error> {
    let mut found = Vec::new();
    for (mesh, sender) in waiting_senders(db, "")? {
        let Some(route) = route(&mesh, sender.as_deref()) else { continue };
        let mut due = None;
        let mut last = String::new();
        while let Some(head) = next_head(db, &mesh, sender.as_deref(), &last)? {
            sooner(&mut due, head.due);
            last = head.target;
        }
        found.extend(due.map(|due| (route, due)));
    }
    Ok(found)
}

pub(super) fn work_of(db: &Db<'_>, route: Route, now: Millis) -> Result<Work, Error> {
    let sender = sender_sql(route.sender);
    let flying = db.first(
        "SELECT 1 FROM outbox INDEXED BY outbox_flying
          WHERE status = 'inflight' AND mesh = ?1 AND sender_session_pubkey IS ?2 LIMIT 1",
        params![route.mesh.as_str(), sender],
        |_| Ok(()),
    )?;
    if flying.is_some() {
        return Ok(Work::Now);
    }
    let mut last = String::new();
    while let Some(head) = next_head(db, &route.mesh, sender.as_deref(), &last)? {
        if head.due <= now {
            return Ok(Work::Now);
        }
        last = head.target;
    }
    Ok(if last.is_empty() { Work::Nothing } else { Work::Later })
}

/// `None` for a key that no link could have.
fn route(mesh: &Slug, sender: Option<&str>) -> Option<Route> {
    let sender = match sender {
        None => Sender::Member,
        Some(text) => Sender::Session(SessionKey(PublicKey::parse(text)?)),
    };
    Some(Route { mesh: mesh.clone(), sender })
}

/// The mesh and sender of every route with waiting rows, or of one mesh's. Hops from route to route in the index.
fn waiting_senders(db: &Db<'_>, only_mesh: &str) -> Result<Vec<(Slug, Option<String>)>, Error> {
    let read = |row: &SqlRow<'_>| Ok((Slug::new(row.get::<_, String>(0)?), row.get::<_, Option<String>>(1)?));
    let mut found: Vec<(Slug, Option<String>)> = Vec::new();
    loop {
        let next = match found.last() {
            // A mesh's member comes first: NULL sorts before every key.
            None if !only_mesh.is_empty() => db.first(
                "SELECT mesh, sender_session_pubkey FROM outbox INDEXED BY outbox_waiting
                  WHERE status = 'pending' AND mesh = ?1 ORDER BY sender_session_pubkey LIMIT 1",
                [only_mesh],
                read,
            )?,
            None => next_mesh(db, "", read)?,
            Some((mesh, sender)) => {
                let sibling = db.first(
                    "SELECT mesh, sender_session_pubkey FROM outbox INDEXED BY outbox_waiting
                      WHERE status = 'pending' AND mesh = ?1 AND sender_session_pubkey > ?2
                      ORDER BY sender_session_pubkey LIMIT 1",
                    params![mesh.as_str(), sender.as_deref().unwrap_or("")],
                    read,
                )?;
                if sibling.is_none() && only_mesh.is_empty() { next_mesh(db, mesh.as_str(), read)? } else { sibling }
            }
        };
        let Some(next) = next else { return Ok(found) };
        found.push(next);
    }
}

fn next_mesh<T>(db: &Db<'_>, after: &str, read: impl FnOnce(&SqlRow<'_>) -> rusqlite::Result<T>) -> Result<Option<T>, Error> {
    db.first(
        "SELECT mesh, sender_session_pubkey FROM outbox INDEXED BY outbox_waiting
          WHERE status = 'pending' AND mesh > ?1 ORDER BY mesh, sender_session_pubkey LIMIT 1",
        [after],
        read,
    )
}

pub(super) fn wake_target(db: &Db<'_>, mesh: Slug, target: String, now: Millis) -> Result<Vec<Route>, Error> {
    let mut woken = Vec::new();
    for (mesh, sender) in waiting_senders(db, mesh.as_str())? {
        let Some(route) = route(&mesh, sender.as_deref()) else { continue };
        let waits = db.first(
            "SELECT 1 FROM outbox INDEXED BY outbox_waiting
              WHERE status = 'pending' AND mesh = ?1 AND sender_session_pubkey IS ?2 AND target_spec = ?3 LIMIT 1",
            params![mesh.as_str(), sender, target],
            |_| Ok(()),
        )?;
        if waits.is_some() {
            db.execute(
                "UPDATE outbox INDEXED BY outbox_waiting SET next_attempt_at = ?4
                  WHERE status = 'pending' AND mesh = ?1 AND sender_session_pubkey IS ?2 AND target_spec = ?3
                    AND next_attempt_at > ?4",
                params![mesh.as_str(), sender, target, now],
            )?;
            woken.push(route);
        }
    }
    Ok(woken)
}

pub(super) fn wake_route(db: &Db<'_>, route: Route, beyond: Millis, now: Millis) -> Result<usize, Error> {
    db.execute(
        "UPDATE outbox INDEXED BY outbox_waiting SET next_attempt_at = ?4
          WHERE status = 'pending' AND mesh = ?1 AND sender_session_pubkey IS ?2 AND next_attempt_at > ?3",
        params![route.mesh.as_str(), sender_sql(route.sender), beyond, now],
    )
}
