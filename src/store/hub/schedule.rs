//! Messages that are sent later.

use rusqlite::{Row as SqlRow, params};

use super::members::key;
use super::{Enqueued, Sealing, Submission, WrongKey, keys, queue};
use crate::base::ids::{ClientId, MemberId, MeshId, PublicKey};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, limit_sql};
use crate::wire::json;
use crate::wire::key::{Scope, Seal};
use crate::wire::target::Target;

/// What one member may have waiting.
const MAX_WAITING: i64 = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRow {
    pub id: String,
    pub mesh: MeshId,
    pub member: MemberId,
    pub sender_pubkey: PublicKey,
    pub sender_name: String,
    pub target_spec: String,
    pub nonce: String,
    pub ciphertext: String,
    pub subtype: Option<String>,
    pub cron: Option<String>,
    pub deliver_at: Millis,
    pub created_at: Millis,
    pub fired: u32,
    /// How it is sealed, if it is for many and sealed.
    pub seal: Option<Seal>,
    /// The sender's own id for what is sealed for many.
    pub client_id: Option<ClientId>,
    /// Why it could not be sent the last time.
    pub error: Option<String>,
}

/// What becomes of a message whose time has come.
#[derive(Debug, Clone)]
pub enum Firing {
    Send(Box<Submission>),
    /// It may not be sent, and why.
    Fail(&'static str),
    /// Its sender is gone.
    Drop,
}

/// How long what could not be sent is shown after its time, in milliseconds.
const FAILED_SHOWN: Millis = 7 * 86_400_000;

impl ScheduledRow {
    /// For whom it is sealed, and how.
    pub fn sealing(&self) -> Option<Sealing> {
        let scope = Scope::of(&Target::parse(&self.target_spec)?)?;
        Some(Sealing { scope, seal: self.seal.clone()?, earlier: true })
    }
}

/// What became of a message that is to be sent later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    Kept,
    /// The member has as much waiting as it may.
    Full,
    WrongKey(WrongKey),
}

/// How much later a message is tried again whose recipient has no room, in milliseconds.
const NO_ROOM_PAUSE: Millis = 60_000;

pub(super) fn add(db: &Db<'_>, row: Box<ScheduledRow>) -> Result<Scheduling, Error> {
    db.check_room()?;
    let waiting =
        db.first("SELECT count(*) FROM scheduled WHERE member_id = ?1", [row.member.as_str()], |row| row.get::<_, i64>(0))?;
    if MAX_WAITING <= waiting.unwrap_or(0) {
        return Ok(Scheduling::Full);
    }
    if let Some(sealing) = row.sealing()
        && let Some(wrong) = keys::check(db, &row.mesh, &sealing)?
    {
        return Ok(Scheduling::WrongKey(wrong));
    }
    db.execute(
        "INSERT INTO scheduled (id, mesh_id, member_id, sender_pubkey, sender_name, target_spec, nonce, ciphertext, subtype, cron,
                                deliver_at, created_at, seal, client_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            row.id,
            row.mesh.as_str(),
            row.member.as_str(),
            row.sender_pubkey.to_string(),
            row.sender_name,
            row.target_spec,
            row.nonce,
            row.ciphertext,
            row.subtype,
            row.cron,
            row.deliver_at,
            row.created_at,
            row.seal.as_ref().map(json::encode),
            row.client_id.as_ref().map(|id| id.as_str()),
        ],
    )?;
    Ok(Scheduling::Kept)
}

const SCHEDULED: &str =
    "SELECT id, mesh_id, member_id, sender_pubkey, sender_name, target_spec, nonce, ciphertext, subtype, cron,
       deliver_at, created_at, fired, seal, client_id, error FROM scheduled";

fn read(row: &SqlRow<'_>) -> rusqlite::Result<ScheduledRow> {
    Ok(ScheduledRow {
        id: row.get(0)?,
        mesh: MeshId::new(row.get::<_, String>(1)?),
        member: MemberId::new(row.get::<_, String>(2)?),
        sender_pubkey: key(row, 3)?,
        sender_name: row.get(4)?,
        target_spec: row.get(5)?,
        nonce: row.get(6)?,
        ciphertext: row.get(7)?,
        subtype: row.get(8)?,
        cron: row.get(9)?,
        deliver_at: row.get(10)?,
        created_at: row.get(11)?,
        fired: row.get(12)?,
        seal: queue::read_seal(row, 13)?,
        client_id: row.get::<_, Option<String>>(14)?.map(ClientId::new),
        error: row.get(15)?,
    })
}

pub(super) fn list(db: &Db<'_>, mesh: MeshId, member: MemberId) -> Result<Vec<ScheduledRow>, Error> {
    let sql = format!("{SCHEDULED} WHERE member_id = ?1 AND mesh_id = ?2 ORDER BY deliver_at, id");
    db.all(&sql, params![member.as_str(), mesh.as_str()], read)
}

pub(super) fn cancel(db: &Db<'_>, mesh: MeshId, member: MemberId, id: String) -> Result<bool, Error> {
    let sql = "DELETE FROM scheduled WHERE id = ?1 AND member_id = ?2 AND mesh_id = ?3";
    Ok(0 < db.execute(sql, params![id, member.as_str(), mesh.as_str()])?)
}

/// What is due, the oldest first, and when the next is.
pub(super) fn due(db: &Db<'_>, now: Millis, limit: usize) -> Result<(Vec<ScheduledRow>, Option<Millis>), Error> {
    let due = db.all(
        &format!("{SCHEDULED} WHERE failed = 0 AND deliver_at <= ?1 ORDER BY deliver_at LIMIT ?2"),
        params![now, limit_sql(limit)],
        read,
    )?;
    let next = "SELECT min(deliver_at) FROM scheduled WHERE failed = 0 AND deliver_at > ?1";
    let next = db.first(next, [now], |row| row.get(0))?.flatten();
    Ok((due, next))
}

/// Sends what is due and notes that in the same step, so that it is sent once; without a next time it is gone. It
/// stays, for a while later, where its recipient has no room, and to be looked at, where it can not be sent at all. Nothing
/// happens if it has been sent or cancelled meanwhile.
pub(super) fn fire(db: &Db<'_>, row: Box<ScheduledRow>, firing: Firing, next: Option<Millis>) -> Result<Option<Enqueued>, Error> {
    let due = "SELECT 1 FROM scheduled WHERE id = ?1 AND deliver_at = ?2 AND failed = 0";
    if db.first(due, params![row.id, row.deliver_at], |_| Ok(()))?.is_none() {
        return Ok(None);
    }
    let (enqueued, error) = match firing {
        Firing::Drop => (None, None),
        Firing::Fail(why) => (None, Some(why)),
        Firing::Send(submission) => {
            let again_at = submission.now.saturating_add(NO_ROOM_PAUSE);
            let mut submission = *submission;
            keys::leave_out_newcomers(db, &mut submission)?;
            let enqueued = queue::enqueue(db, vec![submission])?.pop();
            if matches!(enqueued, Some(Enqueued::Full(_))) {
                let sql = "UPDATE scheduled SET deliver_at = ?2, error = 'there is no room for it' WHERE id = ?1";
                db.execute(sql, params![row.id, again_at])?;
                return Ok(enqueued);
            }
            let error = enqueued.as_ref().and_then(refused);
            (enqueued, error)
        }
    };
    match (next, error) {
        (None, None) => db.execute("DELETE FROM scheduled WHERE id = ?1", [&row.id])?,
        (None, Some(error)) => db.execute("UPDATE scheduled SET failed = 1, error = ?2 WHERE id = ?1", params![row.id, error])?,
        (Some(next), error) => {
            let sql = "UPDATE scheduled SET deliver_at = ?2, fired = fired + 1, error = ?3 WHERE id = ?1";
            db.execute(sql, params![row.id, next, error])?
        }
    };
    Ok(enqueued)
}

/// Why it was not sent, for whoever looks at the list.
fn refused(enqueued: &Enqueued) -> Option<&'static str> {
    match enqueued {
        Enqueued::New(_) | Enqueued::Same(_) => None,
        Enqueued::Full(_) => Some("there is no room for it"),
        Enqueued::NoTopic => Some("its topic is gone"),
        Enqueued::UnknownRecipient => Some("nobody by this key was ever seen in this mesh"),
        Enqueued::Conflict => Some("its id was used for another message"),
        Enqueued::WrongKey(_) => Some("it is sealed with a key that is not in use any more"),
    }
}

/// Forgets what could not be sent long ago.
pub(super) fn forget_failed(db: &Db<'_>, now: Millis) -> Result<(), Error> {
    db.execute("DELETE FROM scheduled WHERE failed = 1 AND deliver_at <= ?1", [now.saturating_sub(FAILED_SHOWN)])?;
    Ok(())
}
