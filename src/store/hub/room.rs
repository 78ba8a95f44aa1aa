//! How much may wait, and where a limit is met.

use rusqlite::params;

use crate::base::ids::{MeshId, PublicKey};
use crate::store::db::Db;
use crate::store::sums::{Change, Whose};
use crate::store::{Error, limit_sql};

/// What whoever operates the broker allows; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Bytes that may wait in one mesh.
    pub mesh_bytes: u64,
    /// Bytes that may wait for one recipient.
    pub recipient_bytes: u64,
    /// Bytes that one mesh may keep beside that: half for what its members share, half for what is known of messages that
    /// every recipient has.
    pub kept_bytes: u64,
    pub meshes: usize,
    /// Whether each message gets an entry in the audit log.
    pub audit_messages: bool,
}

/// Where there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Mesh,
    Recipient,
}

/// What a copy costs beside its text.
const ROW: usize = 256;

/// What one copy of a message counts.
pub(super) fn weight(nonce: &str, ciphertext: &str) -> i64 {
    limit_sql(nonce.len() + ciphertext.len() + ROW)
}

pub(super) fn set(db: &Db<'_>, policy: Policy) -> Result<(), Error> {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    db.execute(
        "UPDATE policy SET mesh_bytes = ?1, recipient_bytes = ?2, meshes = ?3, audit_messages = ?4, kept_bytes = ?5",
        params![
            bytes(policy.mesh_bytes),
            bytes(policy.recipient_bytes),
            limit_sql(policy.meshes),
            policy.audit_messages,
            bytes(policy.kept_bytes)
        ],
    )?;
    Ok(())
}

pub(super) fn policy(db: &Db<'_>) -> Result<Policy, Error> {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let found = db.first("SELECT mesh_bytes, recipient_bytes, meshes, audit_messages, kept_bytes FROM policy", [], |row| {
        Ok(Policy {
            mesh_bytes: number(row.get(0)?),
            recipient_bytes: number(row.get(1)?),
            meshes: usize::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            audit_messages: row.get(3)?,
            kept_bytes: number(row.get(4)?),
        })
    })?;
    found.ok_or_else(|| Error::Sql("the policy is gone".to_owned()))
}

/// Counts a copy that waits for a recipient from now on. Whoever adds a row to `delivery` says so here.
pub(super) fn came(db: &Db<'_>, mesh: &MeshId, recipient: PublicKey, weight: i64) {
    db.sums().note(mesh, recipient, Change { copies: 1, bytes: weight });
}

/// Counts a copy that waits no more. Whoever takes a row out of `delivery` says so here.
pub(super) fn went(db: &Db<'_>, mesh: &MeshId, recipient: PublicKey, weight: i64) {
    db.sums().note(mesh, recipient, Change { copies: -1, bytes: -weight });
}

/// How the table `waiting` names whose row it is; the mesh's own has no name.
fn name(recipient: Option<PublicKey>) -> String {
    recipient.map_or_else(String::new, |key| key.to_hex())
}

/// Writes down what a transaction has changed of what waits.
pub(super) fn sum_up(db: &Db<'_>) -> Result<(), Error> {
    // Whoever still looked at them would find the loan taken.
    let changes = db.sums().take();
    for ((mesh, recipient), change) in changes {
        db.execute(
            "INSERT INTO waiting (mesh_id, recipient, copies, bytes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (mesh_id, recipient) DO UPDATE SET copies = copies + excluded.copies, bytes = bytes + excluded.bytes",
            params![mesh.as_str(), name(recipient), change.copies, change.bytes],
        )?;
    }
    Ok(())
}

/// Whether a copy of this weight still fits for a recipient, or into the mesh as a whole. Where it does not, nothing fits
/// until an eighth is free again: else a small message would slip past a large one that was refused before it.
pub(super) fn fits(db: &Db<'_>, whose: &Whose, weight: i64, limit: u64) -> Result<bool, Error> {
    if limit == 0 {
        return Ok(true);
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (mesh, recipient) = (whose.0.as_str(), name(whose.1));
    let sql = "SELECT bytes, full FROM waiting WHERE mesh_id = ?1 AND recipient = ?2";
    let found = db.first(sql, params![mesh, recipient], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)))?;
    let (written, was_full) = found.unwrap_or_default();
    let bytes = written + db.sums().of(whose).bytes;
    // Who has nothing waiting may get anything that a frame can carry.
    if bytes <= 0 {
        return Ok(true);
    }
    let line = if was_full { limit - limit / 8 } else { limit };
    let full = line < bytes.saturating_add(weight);
    if full != was_full {
        db.execute(
            "INSERT INTO waiting (mesh_id, recipient, copies, bytes, full) VALUES (?1, ?2, 0, 0, ?3)
             ON CONFLICT (mesh_id, recipient) DO UPDATE SET full = excluded.full",
            params![mesh, recipient, full],
        )?;
    }
    Ok(!full)
}

/// Whether what its members share in a mesh may grow by so much.
pub(super) fn may_keep(db: &Db<'_>, mesh: &MeshId, bytes: usize) -> Result<bool, Error> {
    let limit = policy(db)?.kept_bytes / 2;
    if limit == 0 {
        return Ok(true);
    }
    let kept = db.first("SELECT bytes FROM kept WHERE mesh_id = ?1", [mesh.as_str()], |row| row.get(0))?.unwrap_or(0);
    Ok(i64::saturating_add(kept, limit_sql(bytes + ROW)) <= i64::try_from(limit).unwrap_or(i64::MAX))
}

/// What is known of a message that every recipient has: who sent it when to whom and under which id, so that a retry is
/// recognised. In bytes, indexes included.
const SETTLED: u64 = 512;

/// How many of those are forgotten in one step.
const STEP: i64 = 256;

/// Forgets the oldest messages of a mesh that every recipient has, where there are too many.
pub(super) fn forget_settled(db: &Db<'_>, policy: &Policy, mesh: &MeshId) -> Result<(), Error> {
    let most = i64::try_from(policy.kept_bytes / 2 / SETTLED).unwrap_or(i64::MAX);
    let there = db.first("SELECT settled FROM kept WHERE mesh_id = ?1", [mesh.as_str()], |row| row.get(0))?.unwrap_or(0);
    if policy.kept_bytes == 0 || there <= most {
        return Ok(());
    }
    let oldest = db.all(
        "SELECT seq FROM message INDEXED BY message_settled WHERE mesh_id = ?1 AND waiting = 0 ORDER BY seq LIMIT ?2",
        params![mesh.as_str(), STEP.min(there - most)],
        |row| row.get::<_, i64>(0),
    )?;
    for seq in oldest {
        db.execute("DELETE FROM had WHERE seq = ?1", [seq])?;
        db.execute("DELETE FROM message WHERE seq = ?1", [seq])?;
    }
    Ok(())
}

/// Forgets the counts of recipients for whom nothing waits.
pub(super) fn forget(db: &Db<'_>) -> Result<(), Error> {
    db.execute("DELETE FROM waiting WHERE copies <= 0 AND recipient <> ''", [])?;
    Ok(())
}
