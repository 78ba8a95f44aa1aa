//! What this machine has to tell senders about their messages: written down in the step in which it became true, told when
//! there is a connection, and forgotten once a broker has it.

use rusqlite::types::Type;
use rusqlite::{Row as SqlRow, params};

use super::claim::{UNCLAIMED, beyond_any_lease, names};
use super::scope::{self, Values};
use super::{Body, NewInbound, Recipient, Scope, read, recipient_sql};
use crate::base::ids::{ClientId, MessageId, PublicKey, Slug};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, RowId, Seq, limit_sql};
use crate::wire::priority::Priority;
use crate::wire::receipt::{Stage, is_detail};

/// Messages that one step notes as held.
const HELD_STEP: usize = 500;

/// Receipts that one step forgets.
const FORGET_STEP: usize = 500;

/// What a sender is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The message's place in the inbox.
    pub seq: Seq,
    pub sender: PublicKey,
    pub message: MessageId,
    pub client: ClientId,
    pub stage: Stage,
    pub detail: String,
    pub at: Millis,
}

/// Which messages are kept from the model now.
#[derive(Debug, Clone)]
pub struct Hold {
    pub scope: Scope,
    /// Only those of these senders (keys as they are stored); without it, everybody's.
    pub senders: Option<Vec<String>>,
    pub priorities: Vec<Priority>,
    pub why: String,
    pub now: Millis,
}

/// Notes that a message that was just kept has arrived.
pub(super) fn arrived(db: &Db<'_>, seq: i64, message: &NewInbound) -> Result<(), Error> {
    let (stage, detail) = match message.body {
        Body::Opened(_) | Body::Plain(_) => (Stage::Arrived, ""),
        Body::Unreadable { .. } => (Stage::Held, "unreadable"),
    };
    // Nothing is there under a number that was just given out. For REPLACE, SQLite would keep aside each page it changes.
    db.execute(
        "INSERT OR IGNORE INTO receipt (seq, mesh, recipient, sender, message_id, client_id, state, detail, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            seq,
            message.mesh.as_str(),
            recipient_sql(message.recipient).0,
            message.sender_pubkey,
            message.broker_id.as_ref().map(|id| id.as_str()),
            message.client_id.as_str(),
            stage.as_str(),
            detail,
            message.received_at,
        ],
    )?;
    Ok(())
}

/// Notes what became of a message, in the place of what was noted before and is not told yet. What could not be opened is
/// never said to stand before a model.
pub(super) fn note(db: &Db<'_>, id: &RowId, stage: Stage, detail: &str, now: Millis) -> Result<(), Error> {
    let detail = if is_detail(detail) { detail } else { "other" };
    db.execute(
        "INSERT OR REPLACE INTO receipt (seq, mesh, recipient, sender, message_id, client_id, state, detail, at)
         SELECT seq, mesh, recipient_pubkey, sender_pubkey, broker_message_id, client_id, ?2, ?3, ?4 FROM inbox
          WHERE id = ?1 AND receipts IS NOT NULL AND unreadable IS NULL",
        params![id.as_str(), stage.as_str(), detail, now],
    )?;
    Ok(())
}

/// Notes that messages are held; each once.
pub(super) fn hold(db: &Db<'_>, hold: Hold) -> Result<usize, Error> {
    let mut values = Values::default();
    let legs = scope::legs(&hold.scope, &mut values);
    let mut conditions = format!(
        " AND seen_at IS NULL AND +offered_at IS NULL AND {UNCLAIMED} AND +receipts = 1 AND coalesce(priority, '{}') IN ({})",
        Priority::default().as_str(),
        names(&hold.priorities),
    );
    if let Some(senders) = &hold.senders {
        conditions.push_str(" AND instr(:held, ' ' || sender_pubkey || ' ') > 0");
        values.set(":held", format!(" {} ", senders.join(" ")));
    }
    values.set(":now", hold.now);
    values.set(":beyond", beyond_any_lease(hold.now));
    values.set(":limit", limit_sql(HELD_STEP));
    let index = match hold.scope {
        Scope::Everything => "INDEXED BY inbox_seen_at",
        Scope::Session { .. } => "INDEXED BY inbox_unread",
    };
    let rows = db.all(&read::union(&legs, index, &conditions, "ASC"), values.bind().as_slice(), read::read)?;
    for row in &rows {
        db.execute("UPDATE inbox SET receipts = 2 WHERE id = ?1", [row.id.as_str()])?;
        note(db, &row.id, Stage::Held, &hold.why, hold.now)?;
    }
    Ok(rows.len())
}

pub(super) fn due(db: &Db<'_>, mesh: Slug, recipient: Recipient, limit: usize) -> Result<Vec<Due>, Error> {
    let found = db.all(
        "SELECT seq, sender, message_id, client_id, state, detail, at FROM receipt INDEXED BY receipt_recipient
          WHERE mesh = ?1 AND recipient = ?2 ORDER BY seq LIMIT ?3",
        params![mesh.as_str(), recipient_sql(recipient).0, limit_sql(limit)],
        read_due,
    )?;
    Ok(found)
}

fn read_due(row: &SqlRow<'_>) -> rusqlite::Result<Due> {
    let bad = |column, text: &str| rusqlite::Error::InvalidColumnType(column, text.to_owned(), Type::Text);
    let (sender, state) = (row.get_ref(1)?.as_str()?, row.get_ref(4)?.as_str()?);
    Ok(Due {
        seq: Seq::from_sql(row.get(0)?),
        sender: PublicKey::parse(sender).ok_or_else(|| bad(1, sender))?,
        message: MessageId::new(row.get::<_, String>(2)?),
        client: ClientId::new(row.get::<_, String>(3)?),
        stage: Stage::parse(state).ok_or_else(|| bad(4, state))?,
        detail: row.get(5)?,
        at: row.get(6)?,
    })
}

/// A broker has these. What was noted meanwhile in the place of one is still to be told.
pub(super) fn told(db: &Db<'_>, told: Vec<(Seq, Stage, Millis)>) -> Result<usize, Error> {
    let mut gone = 0;
    for (seq, stage, at) in told {
        gone += db.execute(
            "DELETE FROM receipt WHERE seq = ?1 AND state = ?2 AND at = ?3",
            params![seq.to_sql(), stage.as_str(), at],
        )?;
    }
    Ok(gone)
}

pub(super) fn forget(db: &Db<'_>, before: Millis) -> Result<usize, Error> {
    db.execute(
        "DELETE FROM receipt WHERE seq IN (SELECT seq FROM receipt WHERE at < ?1 LIMIT ?2)",
        params![before, limit_sql(FORGET_STEP)],
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, open, scope, session};
    use super::*;
    use crate::store::inbox::Inbox;

    fn told_of(inbox: &Inbox) -> Vec<(String, Stage, String, Millis)> {
        let due = inbox.receipts_due(Slug::new("home"), session(1), 50).unwrap();
        due.into_iter().map(|due| (due.client.to_string(), due.stage, due.detail, due.at)).collect()
    }

    fn row(id: &str) -> Vec<RowId> {
        vec![RowId::new(format!("row-{id}"))]
    }

    #[test]
    fn the_last_word_of_each_waits_until_a_broker_has_exactly_that() {
        let (_dir, inbox) = open();
        let wanted = |id: &str, at| NewInbound { receipts: true, ..message(id, at) };
        inbox.insert(vec![wanted("a", 1), message("b", 2), wanted("c", 3)]).unwrap();
        let arrived = |id: &str, at| (id.to_owned(), Stage::Arrived, String::new(), at);
        assert_eq!(told_of(&inbox), [arrived("a", 1), arrived("c", 3)], "of b nobody is to be told");
        let all = || scope("home", Some(1));
        inbox.offered(row("a"), "prompt".into(), all(), 10).unwrap();
        inbox.offered(row("b"), "prompt".into(), all(), 10).unwrap();
        inbox.withheld(row("c"), "repeat".into(), all(), 11).unwrap();
        let offered = ("a".to_owned(), Stage::Offered, "prompt".to_owned(), 10);
        assert_eq!(told_of(&inbox), [offered.clone(), ("c".to_owned(), Stage::Held, "repeat".to_owned(), 11)]);
        assert_eq!(inbox.receipts_told(vec![(Seq(1), Stage::Arrived, 1)]), Ok(0), "an earlier word");
        assert_eq!(inbox.receipts_told(vec![(Seq(3), Stage::Held, 11)]), Ok(1));
        // It is deleted, and what it was before is to be told still.
        assert_eq!(inbox.delete(RowId::new("row-a"), Scope::Everything), Ok(true));
        assert_eq!(told_of(&inbox), [offered]);
        assert_eq!((inbox.forget_receipts(10), inbox.forget_receipts(11), told_of(&inbox)), (Ok(0), Ok(1), vec![]));
    }

    #[test]
    fn what_can_not_be_opened_is_held_and_never_said_to_stand_before_a_model() {
        let (_dir, inbox) = open();
        let body = Body::Unreadable { reason: "no key".into(), nonce: "n".into(), ciphertext: "c".into() };
        inbox.insert(vec![NewInbound { receipts: true, body, ..message("a", 1) }]).unwrap();
        let held = ("a".to_owned(), Stage::Held, "unreadable".to_owned(), 1);
        inbox.offered(row("a"), "prompt".into(), Scope::Everything, 5).unwrap();
        assert_eq!(told_of(&inbox), std::slice::from_ref(&held));
        assert_eq!(inbox.opened(vec![(RowId::new("row-a"), "at last".into())], 9), Ok(1));
        assert_eq!(told_of(&inbox), [held, ("a".to_owned(), Stage::Arrived, String::new(), 9)]);
        inbox.offered(row("a"), "prompt".into(), Scope::Everything, 12).unwrap();
        assert_eq!(told_of(&inbox)[1].1, Stage::Offered);
    }

    #[test]
    fn who_is_held_is_told_so_once_and_only_of_what_waits() {
        let (_dir, inbox) = open();
        let from = |id: &str, byte: u8, priority| NewInbound {
            receipts: true,
            sender_pubkey: PublicKey::from_bytes([byte; 32]).to_string(),
            priority,
            ..message(id, 1)
        };
        let (now, low) = (Priority::Now, Priority::Low);
        inbox.insert(vec![from("a", 6, now), from("b", 7, now), from("c", 6, low), from("d", 6, now)]).unwrap();
        inbox.offered(row("d"), "wake".into(), Scope::Everything, 2).unwrap();
        let hold = |senders: Option<u8>, now| Hold {
            scope: scope("home", Some(1)),
            senders: senders.map(|byte| vec![PublicKey::from_bytes([byte; 32]).to_string()]),
            priorities: vec![Priority::Now],
            why: "budget".into(),
            now,
        };
        assert_eq!((inbox.hold(hold(Some(6), 5)), inbox.hold(hold(Some(6), 6))), (Ok(1), Ok(0)));
        let held = |id: &str, at| (id.to_owned(), Stage::Held, "budget".to_owned(), at);
        assert_eq!(told_of(&inbox)[0], held("a", 5));
        assert_eq!(inbox.hold(hold(None, 7)), Ok(1));
        assert_eq!(told_of(&inbox)[1], held("b", 7));
        assert_eq!(told_of(&inbox).iter().filter(|(_, stage, ..)| *stage == Stage::Held).count(), 2);
    }
}
