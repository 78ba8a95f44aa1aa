//! What people do with the outbox: look, requeue, abort; and what time does: give up, prune.

use rusqlite::{Row as SqlRow, params};

use super::accept::status;
use super::{Filter, Listed, Requeued, Route, Sender, Shown, Status, sender_sql};
use crate::base::ids::{ClientId, MeshId, MessageId, PublicKey, SessionKey, Slug};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, RowId, count, limit_sql};
use crate::wire::ipc::OutboxCounts;
use crate::wire::priority::Priority;

/// Rows that one call of [`give_up`] or [`prune`] changes at most: a few milliseconds' work.
const STEP: usize = 500;

const DAY: Millis = 86_400_000;

/// Rows that a list of one sender's looks at. The newest are what somebody asks for.
pub(super) const LOOKED_AT: usize = 10_000;

pub(super) const COLUMNS: &str =
    "id, client_message_id, status, attempts, enqueued_at, next_attempt_at, delivered_at, broker_message_id,
    last_error, aborted_at, aborted_by, superseded_by, length(payload), mesh, target_spec, sender_session_pubkey, priority";

/// Whether a row is a sender's: parameter 1 says whether it matters, parameter 2 is the key.
pub(super) const IS_SENDERS: &str = "(?1 = 0 OR sender_session_pubkey IS ?2)";

pub(super) fn sender_params(sender: Option<Sender>) -> (bool, Option<String>) {
    (sender.is_some(), sender.and_then(sender_sql))
}

pub(super) fn list(db: &Db<'_>, filter: Filter) -> Result<Vec<Listed>, Error> {
    let (matters, key) = sender_params(filter.sender);
    let limit = limit_sql(filter.limit.clamp(1, 500));
    // Rows are inserted in the order of their times.
    let latest = match filter.status {
        None => "SELECT rowid AS n, enqueued_at AS at FROM outbox ORDER BY rowid DESC LIMIT ?3",
        Some(_) => {
            "SELECT rowid AS n, enqueued_at AS at FROM outbox INDEXED BY outbox_age WHERE status = ?5
              ORDER BY enqueued_at DESC, rowid DESC LIMIT ?3"
        }
    };
    let looked_at = limit_sql(if matters { LOOKED_AT } else { filter.limit.clamp(1, 500) });
    let sql = format!(
        "SELECT {COLUMNS} FROM ({latest}) AS latest CROSS JOIN outbox ON outbox.rowid = latest.n
          WHERE {IS_SENDERS} ORDER BY latest.at DESC, latest.n DESC LIMIT ?4"
    );
    match filter.status {
        None => db.all(&sql.replace("latest.at DESC, ", ""), params![matters, key, looked_at, limit], read),
        Some(status) => db.all(&sql, params![matters, key, looked_at, limit, status.as_str()], read),
    }
}

pub(super) fn show(db: &Db<'_>, id: String, sender: Option<Sender>) -> Result<Option<Shown>, Error> {
    let (matters, key) = sender_params(sender);
    db.first(
        &format!(
            "SELECT {COLUMNS}, payload, reply_to_id, meta FROM outbox WHERE {IS_SENDERS} AND (id = ?3 OR client_message_id = ?3)"
        ),
        params![matters, key, id],
        |row| {
            let payload = row.get_ref(17)?.as_bytes()?;
            Ok(Shown {
                text: (!payload.is_empty()).then(|| String::from_utf8_lossy(payload).into_owned()),
                reply_to: row.get(18)?,
                meta: row.get(19)?,
                listed: read(row)?,
            })
        },
    )
}

pub(super) fn clear(db: &Db<'_>, status: Status, sender: Option<Sender>, before: Millis) -> Result<usize, Error> {
    // Whatever may still be sent is aborted first, by whoever wants it gone.
    if matches!(status, Status::Pending | Status::Inflight) {
        return Ok(0);
    }
    let (matters, key) = sender_params(sender);
    db.execute(
        &format!(
            "DELETE FROM outbox WHERE rowid IN (
               SELECT rowid FROM outbox INDEXED BY outbox_age
                WHERE status = ?3 AND enqueued_at < ?4 AND {IS_SENDERS} ORDER BY enqueued_at LIMIT ?5)"
        ),
        params![matters, key, status.as_str(), before, limit_sql(STEP)],
    )
}

pub(super) fn read(row: &SqlRow<'_>) -> rusqlite::Result<Listed> {
    let text = |column| row.get::<_, Option<String>>(column);
    Ok(Listed {
        id: RowId::new(row.get::<_, String>(0)?),
        client_id: ClientId::new(row.get::<_, String>(1)?),
        status: status(row, 2)?,
        attempts: row.get(3)?,
        enqueued_at: row.get(4)?,
        next_attempt_at: row.get(5)?,
        delivered_at: row.get(6)?,
        broker_id: text(7)?.map(MessageId::new),
        last_error: text(8)?,
        aborted_at: row.get(9)?,
        aborted_by: text(10)?,
        superseded_by: text(11)?.map(RowId::new),
        payload_bytes: u64::try_from(row.get::<_, i64>(12)?).unwrap_or(0),
        mesh: text(13)?.map(Slug::new),
        target: text(14)?,
        sender_session: text(15)?.and_then(|key| PublicKey::parse(&key)).map(SessionKey),
        priority: text(16)?.and_then(|text| Priority::parse(&text)).unwrap_or_default(),
    })
}

pub(super) fn counts(db: &Db<'_>) -> Result<OutboxCounts, Error> {
    let mut counts = OutboxCounts::default();
    let rows = db.all("SELECT status, n FROM outbox_counts", [], |row| Ok((status(row, 0)?, row.get::<_, i64>(1)?)))?;
    for (status, n) in rows {
        let slot = match status {
            Status::Pending => &mut counts.pending,
            Status::Inflight => &mut counts.inflight,
            Status::Done => &mut counts.done,
            Status::Dead => &mut counts.dead,
            Status::Aborted => &mut counts.aborted,
        };
        *slot = u64::try_from(n).unwrap_or(0);
    }
    Ok(counts)
}

/// Where counting what waits ends.
const COUNTED: usize = 10_000;

pub(super) fn waiting(db: &Db<'_>, mesh: Slug) -> Result<usize, Error> {
    let count_of = |index: &str, status: &str| {
        let some = format!("SELECT 1 FROM outbox INDEXED BY {index} WHERE status = '{status}' AND mesh = ?1 LIMIT ?2");
        let sql = format!("SELECT count(*) FROM ({some})");
        Ok::<_, Error>(db.first(&sql, params![mesh.as_str(), limit_sql(COUNTED)], |row| row.get::<_, i64>(0))?.map_or(0, count))
    };
    Ok((count_of("outbox_waiting", "pending")? + count_of("outbox_flying", "inflight")?).min(COUNTED))
}

pub(super) fn requeue(
    db: &Db<'_>,
    row: RowId,
    only: Option<Sender>,
    new_client_id: ClientId,
    aborted_by: String,
    now: Millis,
    new_row: RowId,
) -> Result<Requeued, Error> {
    let (matters, key) = sender_params(only);
    let found = db.first(
        &format!(
            "SELECT mesh, sender_session_pubkey, status = 'inflight' FROM outbox
              WHERE {IS_SENDERS} AND id = ?3 AND status IN ('pending', 'inflight', 'dead')
                AND mesh IS NOT NULL AND target_spec IS NOT NULL AND nonce IS NOT NULL AND ciphertext IS NOT NULL"
        ),
        params![matters, key, row.as_str()],
        |found| Ok((found.get::<_, String>(0)?, found.get::<_, Option<String>>(1)?, found.get::<_, bool>(2)?)),
    )?;
    if let Some((_, _, true)) = found {
        return Ok(Requeued::OnItsWay);
    }
    let sender = |key: Option<String>| match key {
        None => Some(Sender::Member),
        Some(text) => PublicKey::parse(&text).map(|key| Sender::Session(SessionKey(key))),
    };
    let Some((mesh, Some(sender))) = found.map(|(mesh, key, _)| (mesh, sender(key))) else {
        return Ok(Requeued::NotRequeueable);
    };
    let written = db.execute(
        "INSERT INTO outbox (id, client_message_id, request_fingerprint, payload, enqueued_at, next_attempt_at, status,
                             mesh, target_spec, nonce, ciphertext, priority, sender_session_pubkey, reply_to_id, meta,
                             mesh_id, member_pubkey)
         SELECT ?2, ?3, request_fingerprint, payload, ?4, ?4, 'pending',
                mesh, target_spec, nonce, ciphertext, priority, sender_session_pubkey, reply_to_id, meta,
                mesh_id, member_pubkey
           FROM outbox WHERE id = ?1
         ON CONFLICT (client_message_id) DO NOTHING",
        params![row.as_str(), new_row.as_str(), new_client_id.as_str(), now],
    )?;
    if written == 0 {
        return Ok(Requeued::IdTaken);
    }
    db.execute(
        "UPDATE outbox SET status = 'aborted', aborted_at = ?2, aborted_by = ?3, superseded_by = ?4 WHERE id = ?1",
        params![row.as_str(), now, aborted_by, new_row.as_str()],
    )?;
    Ok(Requeued::Requeued(Route { mesh: Slug::new(mesh), sender }))
}

pub(super) fn abort(db: &Db<'_>, row: RowId, only: Option<Sender>, aborted_by: String, now: Millis) -> Result<bool, Error> {
    let (matters, key) = sender_params(only);
    let changed = db.execute(
        &format!(
            "UPDATE outbox SET status = 'aborted', aborted_at = ?4, aborted_by = ?5
              WHERE {IS_SENDERS} AND id = ?3 AND status IN ('pending', 'inflight', 'dead')"
        ),
        params![matters, key, row.as_str(), now, aborted_by],
    )?;
    Ok(0 < changed)
}

pub(super) fn give_up(db: &Db<'_>, max_age: Millis, now: Millis) -> Result<usize, Error> {
    let error = format!("expired: not delivered within {} days", ((max_age + DAY / 2) / DAY).max(1));
    db.execute(
        "UPDATE outbox SET status = 'dead', next_attempt_at = ?4, last_error = ?1 WHERE rowid IN (
           SELECT rowid FROM outbox INDEXED BY outbox_age
            WHERE status = 'pending' AND enqueued_at < ?2 ORDER BY enqueued_at LIMIT ?3)",
        params![error, now - max_age, limit_sql(STEP), now],
    )
}

/// A name may have meant another mesh before: those rows stay.
pub(super) fn rename(db: &Db<'_>, old: Slug, new: Slug, mesh: MeshId) -> Result<usize, Error> {
    db.execute(
        "UPDATE outbox SET mesh = ?2 WHERE rowid IN (
           SELECT rowid FROM outbox WHERE mesh = ?1 AND mesh_id = ?3 LIMIT ?4)",
        params![old.as_str(), new.as_str(), mesh.as_str(), limit_sql(STEP)],
    )
}

pub(super) fn prune(db: &Db<'_>, before: Millis) -> Result<usize, Error> {
    let mut deleted = 0;
    // Whatever ended before then was accepted before then.
    for status in [Status::Done, Status::Aborted] {
        deleted += db.execute(
            "DELETE FROM outbox WHERE rowid IN (
               SELECT rowid FROM outbox INDEXED BY outbox_age
                WHERE status = ?1 AND enqueued_at < ?2 AND coalesce(delivered_at, aborted_at, enqueued_at) < ?2
                ORDER BY enqueued_at LIMIT ?3)",
            params![status.as_str(), before, limit_sql(STEP)],
        )?;
    }
    Ok(deleted)
}

/// A dead row's `next_attempt_at` is when it died.
pub(super) fn prune_dead(db: &Db<'_>, before: Millis) -> Result<usize, Error> {
    db.execute(
        "DELETE FROM outbox WHERE rowid IN (
           SELECT rowid FROM outbox INDEXED BY outbox_age
            WHERE status = 'dead' AND enqueued_at < ?1 AND next_attempt_at < ?1 ORDER BY enqueued_at LIMIT ?2)",
        params![before, limit_sql(STEP)],
    )
}
