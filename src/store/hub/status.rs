//! Where messages stand, and the end of those whose time is over.

use rusqlite::params;

use super::members::key;
use super::{MessageLookup, MessageState, receipts, room};
use crate::base::ids::{MemberId, MemberKey, MeshId, MessageId};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, count, limit_sql};
use crate::wire::priority::Priority;

/// How many copies wait, in all meshes.
pub(super) const DEPTH: &str = "SELECT coalesce(sum(copies), 0) FROM mesh JOIN waiting ON mesh_id = mesh.id AND recipient = ''";

pub(super) fn depth(db: &Db<'_>) -> Result<usize, Error> {
    Ok(db.first(DEPTH, [], |row| row.get(0))?.map_or(0, count))
}

/// What a step of clearing out did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    pub count: usize,
    /// Senders of what nobody fetched: there is a receipt for their daemons.
    pub told: Vec<(MeshId, MemberKey)>,
}

pub(super) fn expire(db: &Db<'_>, now: Millis, limit: usize) -> Result<Expired, Error> {
    let seqs = db.all(
        "SELECT seq FROM message INDEXED BY message_expires WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2",
        params![now, limit_sql(limit)],
        |row| row.get::<_, i64>(0),
    )?;
    let mut expired = Expired { count: seqs.len(), told: Vec::new() };
    for seq in &seqs {
        expired.told.extend(receipts::expired(db, *seq, now)?);
        db.execute("DELETE FROM had WHERE seq = ?1", [seq])?;
        let copies = db.all("SELECT mesh_id, recipient, weight FROM delivery WHERE seq = ?1", [seq], |row| {
            Ok((MeshId::new(row.get::<_, String>(0)?), key(row, 1)?, row.get(2)?))
        })?;
        for (mesh, recipient, weight) in copies {
            room::went(db, &mesh, recipient, weight);
        }
        db.execute("DELETE FROM delivery WHERE seq = ?1", [seq])?;
        db.execute("DELETE FROM message WHERE seq = ?1", [seq])?;
    }
    if seqs.is_empty() {
        room::forget(db)?;
        super::schedule::forget_failed(db, now)?;
    }
    Ok(expired)
}

pub(super) fn message_status(db: &Db<'_>, mesh: MeshId, id: String) -> Result<MessageLookup, Error> {
    // Ids are text in one alphabet, so those that begin with `id` lie between it and it with the last character there is.
    let found = db.all(
        "SELECT seq, id, sender_member_id, target_spec, priority, created_at, expires_at, recipients, delivered_at,
                sender_pubkey
           FROM message WHERE id BETWEEN ?1 AND ?1 || char(1114111) AND +mesh_id = ?2 ORDER BY id LIMIT 2",
        params![id, mesh.as_str()],
        |row| {
            let state = MessageState {
                id: MessageId::new(row.get::<_, String>(1)?),
                sender_member_id: MemberId::new(row.get::<_, String>(2)?),
                sender_pubkey: key(row, 9)?,
                target_spec: row.get(3)?,
                priority: Priority::parse(row.get_ref(4)?.as_str()?).unwrap_or_default(),
                created_at: row.get(5)?,
                expires_at: row.get(6)?,
                recipients: count(row.get(7)?),
                waiting: Vec::new(),
                delivered: Vec::new(),
                delivered_at: row.get(8)?,
            };
            Ok((row.get::<_, i64>(0)?, state))
        },
    )?;
    let exact = found.len() == 1 || found.first().is_some_and(|(_, state)| state.id.as_str() == id);
    match found.into_iter().next() {
        None => Ok(MessageLookup::NotFound),
        Some(_) if !exact => Ok(MessageLookup::Ambiguous),
        Some((seq, mut state)) => {
            state.waiting = db.all("SELECT recipient FROM delivery WHERE seq = ?1 LIMIT 1000", [seq], |row| key(row, 0))?;
            let delivered = "SELECT recipient, at FROM had WHERE seq = ?1 AND at IS NOT NULL LIMIT 1000";
            state.delivered = db.all(delivered, [seq], |row| Ok((key(row, 0)?, row.get(1)?)))?;
            Ok(MessageLookup::Found(state))
        }
    }
}
