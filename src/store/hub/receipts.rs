//! What recipients say of messages, kept until the sender's daemon has it.

use rusqlite::types::Type;
use rusqlite::{Row as SqlRow, params};

use super::members::key;
use crate::base::ids::{ClientId, MemberId, MemberKey, MeshId, MessageId, PublicKey};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, limit_sql};
use crate::wire::receipt::{Forwarded, Receipt, Stage, is_detail};

/// Receipts that wait for one member. With more, the oldest go: a daemon that has not fetched them for so long can still ask
/// where a message stands.
const MAX_WAITING: i64 = 10_000;

/// How many more there may be before that is looked at.
const SLACK: i64 = 64;

/// What a recipient hands in.
#[derive(Debug, Clone)]
pub struct HandedIn {
    pub mesh: MeshId,
    /// Who hands it in: this key has been proven.
    pub recipient: PublicKey,
    pub receipts: Vec<Receipt>,
    pub now: Millis,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    pub count: usize,
    /// Whose daemons may want to know.
    pub members: Vec<MemberKey>,
}

/// A message that a receipt is about.
struct About {
    seq: i64,
    member_id: String,
    member: MemberKey,
    client_id: String,
}

pub(super) fn hand_in(db: &Db<'_>, handed: Box<HandedIn>) -> Result<Kept, Error> {
    db.check_room()?;
    let mut kept = Kept::default();
    for receipt in &handed.receipts {
        if !receipt.state.is_signed() || !is_detail(&receipt.detail) {
            continue;
        }
        let Some(about) = about(db, &handed, &receipt.message_id)? else { continue };
        let row = Row {
            mesh: handed.mesh.as_str(),
            member_id: &about.member_id,
            seq: about.seq,
            recipient: &handed.recipient.to_string(),
            client_id: &about.client_id,
            receipt,
            now: handed.now,
        };
        keep(db, &row)?;
        kept.count += 1;
        kept.members.push(about.member);
    }
    kept.members.sort_unstable();
    kept.members.dedup();
    Ok(kept)
}

/// The message, if whoever hands in a receipt for it is one that it was for, and its sender can know it again.
fn about(db: &Db<'_>, handed: &HandedIn, message: &MessageId) -> Result<Option<About>, Error> {
    db.first(
        "SELECT seq, sender_member_id, member.pubkey, client_id
           FROM message CROSS JOIN member ON member.id = sender_member_id
          WHERE message.id = ?1 AND message.mesh_id = ?2 AND client_id IS NOT NULL
            AND (target_spec = ?3
              OR EXISTS (SELECT 1 FROM had WHERE had.seq = message.seq AND had.recipient = ?3)
              OR EXISTS (SELECT 1 FROM delivery
                          WHERE delivery.mesh_id = ?2 AND delivery.recipient = ?3 AND delivery.seq = message.seq))",
        params![message.as_str(), handed.mesh.as_str(), handed.recipient.to_string()],
        |row| Ok(About { seq: row.get(0)?, member_id: row.get(1)?, member: MemberKey(key(row, 2)?), client_id: row.get(3)? }),
    )
}

struct Row<'a> {
    mesh: &'a str,
    member_id: &'a str,
    seq: i64,
    recipient: &'a str,
    client_id: &'a str,
    receipt: &'a Receipt,
    now: Millis,
}

/// Keeps one, in the place of what the same recipient said of the message before: the sender needs the last word alone. It
/// gets a number of its own, so that the earlier one's being taken does not take it along.
fn keep(db: &Db<'_>, row: &Row<'_>) -> Result<(), Error> {
    let receipt = row.receipt;
    let over = "SELECT 1 FROM receipt
                 WHERE seq = ?1 AND recipient = ?2 AND (state = 'offered' OR ?4 = 'expired' OR (at > ?3 AND ?4 <> 'offered'))";
    let state = receipt.state.as_str();
    if db.first(over, params![row.seq, row.recipient, receipt.at, state], |_| Ok(()))?.is_some() {
        return Ok(());
    }
    let mut statement = db.prepare(
        "INSERT OR REPLACE INTO receipt
           (mesh_id, member_id, seq, recipient, message_id, client_id, state, detail, at, signature, stored_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let n = statement.insert(params![
        row.mesh,
        row.member_id,
        row.seq,
        row.recipient,
        receipt.message_id.as_str(),
        row.client_id,
        state,
        receipt.detail,
        receipt.at,
        receipt.signature,
        row.now,
    ])?;
    if n % SLACK == 0 {
        db.execute(
            "DELETE FROM receipt WHERE n IN (
               SELECT n FROM receipt INDEXED BY receipt_member WHERE member_id = ?1 ORDER BY n DESC LIMIT -1 OFFSET ?2)",
            params![row.member_id, MAX_WAITING],
        )?;
    }
    Ok(())
}

/// Notes for the sender of a message that these recipients never fetched it. Returns the sender's member, if it can be told.
pub(super) fn expired(db: &Db<'_>, seq: i64, now: Millis) -> Result<Option<(MeshId, MemberKey)>, Error> {
    let found = db.first(
        "SELECT message.mesh_id, sender_member_id, member.pubkey, client_id, message.id
           FROM message CROSS JOIN member ON member.id = sender_member_id
          WHERE seq = ?1 AND waiting > 0 AND client_id IS NOT NULL
            AND EXISTS (SELECT 1 FROM mesh WHERE mesh.id = message.mesh_id AND archived_at IS NULL)",
        [seq],
        |row| {
            let text = |column| row.get::<_, String>(column);
            Ok((text(0)?, text(1)?, MemberKey(key(row, 2)?), text(3)?, MessageId::new(text(4)?)))
        },
    )?;
    let Some((mesh, member_id, member, client_id, message_id)) = found else { return Ok(None) };
    let recipients = db.all("SELECT recipient FROM delivery WHERE seq = ?1", [seq], |row| row.get::<_, String>(0))?;
    let receipt = Receipt { message_id, state: Stage::Expired, detail: String::new(), at: now, signature: String::new() };
    for recipient in &recipients {
        let row = Row { mesh: &mesh, member_id: &member_id, seq, recipient, client_id: &client_id, receipt: &receipt, now };
        keep(db, &row)?;
    }
    Ok((!recipients.is_empty()).then(|| (MeshId::new(mesh), member)))
}

pub(super) fn receipts(db: &Db<'_>, member: MemberId, after: u64, limit: usize) -> Result<Vec<Forwarded>, Error> {
    db.all(
        "SELECT n, client_id, recipient, message_id, state, detail, at, signature
           FROM receipt INDEXED BY receipt_member WHERE member_id = ?1 AND n > ?2 ORDER BY n LIMIT ?3",
        params![member.as_str(), number(after), limit_sql(limit)],
        read,
    )
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Forwarded> {
    let state = row.get_ref(4)?.as_str()?;
    Ok(Forwarded {
        n: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
        client_message_id: ClientId::new(row.get::<_, String>(1)?),
        recipient: key(row, 2)?,
        receipt: Receipt {
            message_id: MessageId::new(row.get::<_, String>(3)?),
            state: Stage::parse(state).ok_or_else(|| rusqlite::Error::InvalidColumnType(4, state.to_owned(), Type::Text))?,
            detail: row.get(5)?,
            at: row.get(6)?,
            signature: row.get(7)?,
        },
    })
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn taken(db: &Db<'_>, member: MemberId, numbers: Vec<u64>) -> Result<usize, Error> {
    let mut gone = 0;
    for n in numbers {
        gone += db.execute("DELETE FROM receipt WHERE n = ?1 AND member_id = ?2", params![number(n), member.as_str()])?;
    }
    Ok(gone)
}

pub(super) fn forget(db: &Db<'_>, before: Millis, limit: usize) -> Result<usize, Error> {
    // Numbers grow with time.
    db.execute(
        "DELETE FROM receipt WHERE n IN (SELECT n FROM receipt ORDER BY n LIMIT ?2) AND stored_at < ?1",
        params![before, limit_sql(limit)],
    )
}
