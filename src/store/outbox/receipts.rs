//! What is known of messages that were sent: where their rows stand, and what their recipients said.

use rusqlite::{Row as SqlRow, params};

use super::drain::membership;
use super::manage::{self, IS_SENDERS, sender_params};
use super::{Listed, Membership, Sender};
use crate::base::ids::{ClientId, MessageId, PublicKey, SessionKey, Slug};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, RowId, limit_sql};
use crate::wire::receipt::Stage;
use crate::wire::standing::Known;

/// Recipients of one message whose words are kept. A mesh has fewer.
const MAX_RECIPIENTS: i64 = 10_000;

/// Fewest characters by which a message is found that are only the beginning of its id.
const SHORTEST: usize = 6;

/// Rows that are looked through for a broker's id, the latest first: nothing else is found by it.
const LOOKED_THROUGH: usize = 10_000;

/// A row that a receipt may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    pub row: RowId,
    pub target: String,
    pub sender: Sender,
    pub membership: Option<Membership>,
    pub broker_id: Option<MessageId>,
}

/// A recipient's word (or the broker's, of expiry) that was found to be genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub row: RowId,
    pub recipient: PublicKey,
    pub stage: Stage,
    pub detail: String,
    pub at: Millis,
}

/// Everything that is known here of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub listed: Listed,
    /// Whether the broker that has it passes on what recipients say; not known of rows from before that was noted.
    pub told: Option<bool>,
    pub said: Vec<(PublicKey, Known)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Found(Box<Standing>),
    NotFound,
    /// More than one message's id begins so.
    Ambiguous,
}

/// The rows of a mesh with these client ids.
pub(super) fn addressed(db: &Db<'_>, mesh: Slug, ids: Vec<ClientId>) -> Result<Vec<Option<Addressed>>, Error> {
    let one = |id: ClientId| {
        db.first(
            "SELECT id, target_spec, sender_session_pubkey, broker_message_id, mesh_id, member_pubkey FROM outbox
              WHERE client_message_id = ?1 AND mesh = ?2 AND target_spec IS NOT NULL",
            params![id.as_str(), mesh.as_str()],
            read_addressed,
        )
    };
    ids.into_iter().map(one).collect()
}

fn read_addressed(row: &SqlRow<'_>) -> rusqlite::Result<Addressed> {
    let session = row.get::<_, Option<String>>(2)?.and_then(|key| PublicKey::parse(&key));
    Ok(Addressed {
        row: RowId::new(row.get::<_, String>(0)?),
        target: row.get(1)?,
        sender: session.map_or(Sender::Member, |key| Sender::Session(SessionKey(key))),
        broker_id: row.get::<_, Option<String>>(3)?.map(MessageId::new),
        membership: membership(row, 4)?,
    })
}

/// Notes what recipients said. Returns which of it was news, in the same order.
pub(super) fn learn(db: &Db<'_>, words: Vec<Word>) -> Result<Vec<bool>, Error> {
    db.check_room()?;
    words.into_iter().map(|word| learn_one(db, &word)).collect()
}

fn learn_one(db: &Db<'_>, word: &Word) -> Result<bool, Error> {
    let recipient = word.recipient.to_string();
    let sql = format!("SELECT {KNOWN} FROM receipt WHERE row_id = ?1 AND recipient = ?2");
    let known = db.first(&sql, params![word.row.as_str(), recipient], |row| read_known(row, 0))?;
    let is_new = known.is_none();
    let mut known = known.unwrap_or_default();
    if !known.learn(word.stage, &word.detail, word.at) {
        return Ok(false);
    }
    let count = "SELECT count(*) FROM receipt WHERE row_id = ?1";
    if is_new && MAX_RECIPIENTS <= db.first(count, [word.row.as_str()], |row| row.get::<_, i64>(0))?.unwrap_or(0) {
        return Ok(false);
    }
    // The row may have been pruned meanwhile: what is said of it is not kept then.
    let written = db.execute(
        "INSERT OR REPLACE INTO receipt
           (row_id, recipient, arrived_at, offered_at, offered_by, held_at, held_why, expired_at)
         SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM outbox WHERE id = ?1",
        params![
            word.row.as_str(),
            recipient,
            known.arrived_at,
            known.offered.as_ref().map(|(at, _)| at),
            known.offered.as_ref().map(|(_, path)| path),
            known.held.as_ref().map(|(at, _)| at),
            known.held.as_ref().map(|(_, why)| why),
            known.expired_at,
        ],
    )?;
    Ok(0 < written)
}

const KNOWN: &str = "arrived_at, offered_at, offered_by, held_at, held_why, expired_at";

fn read_known(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Known> {
    let pair = |column: usize| {
        Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.zip(row.get::<_, Option<String>>(column + 1)?))
    };
    Ok(Known {
        arrived_at: row.get(column)?,
        offered: pair(column + 1)?,
        held: pair(column + 3)?,
        expired_at: row.get(column + 5)?,
    })
}

/// The message of this sender's with this id, client id or broker's id, or the only one that has one that begins so.
pub(super) fn lookup(db: &Db<'_>, id: String, sender: Option<Sender>) -> Result<Lookup, Error> {
    let rows = rows(db, &id, sender)?;
    match rows.as_slice() {
        [] => Ok(Lookup::NotFound),
        [row] => Ok(standing(db, row)?.map_or(Lookup::NotFound, |standing| Lookup::Found(Box::new(standing)))),
        _ => Ok(Lookup::Ambiguous),
    }
}

fn rows(db: &Db<'_>, id: &str, sender: Option<Sender>) -> Result<Vec<RowId>, Error> {
    let (matters, key) = sender_params(sender);
    let look = |condition: &str| {
        let sql = format!("SELECT DISTINCT id FROM outbox WHERE {IS_SENDERS} AND ({condition}) LIMIT 2");
        let row = |row: &SqlRow<'_>| Ok(RowId::new(row.get::<_, String>(0)?));
        db.all(&sql, params![matters, key, id, limit_sql(LOOKED_THROUGH)], row)
    };
    // Every statement names all four parameters.
    let exact = look("id = ?3 OR client_message_id = ?3 AND ?4 > 0")?;
    if !exact.is_empty() {
        return Ok(exact);
    }
    if id.chars().count() < SHORTEST {
        return Ok(Vec::new());
    }
    let begins = |column: &str| format!("{column} BETWEEN ?3 AND ?3 || char(1114111)");
    let own = look(&format!("({} OR {}) AND ?4 > 0", begins("id"), begins("client_message_id")))?;
    if !own.is_empty() {
        return Ok(own);
    }
    look(&format!("rowid IN (SELECT rowid FROM outbox ORDER BY rowid DESC LIMIT ?4) AND {}", begins("broker_message_id")))
}

fn standing(db: &Db<'_>, row: &RowId) -> Result<Option<Standing>, Error> {
    let found = db.first(&format!("SELECT {}, told FROM outbox WHERE id = ?1", manage::COLUMNS), [row.as_str()], |row| {
        Ok((manage::read(row)?, row.get::<_, Option<bool>>(17)?))
    })?;
    let Some((listed, told)) = found else { return Ok(None) };
    let sql = format!("SELECT recipient, {KNOWN} FROM receipt WHERE row_id = ?1 ORDER BY recipient LIMIT ?2");
    let said = db.all(&sql, params![row.as_str(), MAX_RECIPIENTS], |row| {
        Ok((PublicKey::parse(row.get_ref(0)?.as_str()?), read_known(row, 1)?))
    })?;
    let said = said.into_iter().filter_map(|(key, known)| Some((key?, known))).collect();
    Ok(Some(Standing { listed, told, said }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claim, open, route, row, settle};
    use super::super::{Outbox, Outcome};
    use super::*;
    use crate::wire::standing::State;

    fn found(outbox: &Outbox, id: &str) -> Option<Standing> {
        match outbox.lookup(id.to_owned(), None).unwrap() {
            Lookup::Found(standing) => Some(*standing),
            Lookup::NotFound => None,
            Lookup::Ambiguous => panic!("{id} is ambiguous"),
        }
    }

    fn word(id: &str, byte: u8, stage: Stage, at: Millis) -> Word {
        let row = RowId::new(format!("row-{id}"));
        Word { row, recipient: PublicKey::from_bytes([byte; 32]), stage, detail: "prompt".into(), at }
    }

    #[test]
    fn a_message_is_found_by_each_of_its_names_and_by_what_only_one_begins_with() {
        let (_dir, outbox) = open();
        outbox.accept(row("message-one", "t", 1)).unwrap();
        outbox.accept(row("message-two", "t", 2)).unwrap();
        claim(&outbox, &route(None), 5, 10);
        settle(&outbox, "message-one", Outcome::Done { broker_id: MessageId::new("Broker1xyz"), at: 9, told: true });
        for id in ["message-one", "row-message-one", "Broker1xyz", "message-o", "Broker", "row-message-o"] {
            let standing = found(&outbox, id).unwrap_or_else(|| panic!("{id}"));
            assert_eq!((standing.listed.client_id.as_str(), standing.told), ("message-one", Some(true)), "{id}");
        }
        for id in ["Broke", "messa", "other-message", "broker1xyz", ""] {
            assert_eq!(found(&outbox, id), None, "{id}");
        }
        assert_eq!(outbox.lookup("message-".into(), None), Ok(Lookup::Ambiguous));
        let stranger = route(Some(3)).sender;
        assert_eq!(outbox.lookup("message-one".into(), Some(stranger)), Ok(Lookup::NotFound));
        assert_eq!(found(&outbox, "message-two").unwrap().told, None, "no broker has it");
    }

    #[test]
    fn what_recipients_said_is_kept_beside_the_message_and_goes_with_it() {
        let (_dir, outbox) = open();
        outbox.accept(row("a", "@eng", 1)).unwrap();
        let ids = ["a", "b"].map(ClientId::new).to_vec();
        let rows = outbox.addressed(Slug::new("home"), ids.clone()).unwrap();
        assert_eq!(rows.iter().map(|row| row.as_ref().map(|row| row.target.as_str())).collect::<Vec<_>>(), [Some("@eng"), None]);
        assert_eq!(outbox.addressed(Slug::new("other"), ids).unwrap(), [None, None]);
        let words = vec![
            word("a", 1, Stage::Arrived, 5),
            word("a", 1, Stage::Offered, 6),
            word("a", 1, Stage::Arrived, 5),
            word("a", 2, Stage::Held, 7),
            word("gone", 1, Stage::Arrived, 5),
        ];
        assert_eq!(outbox.learn(words), Ok(vec![true, true, false, true, false]));
        let said = found(&outbox, "row-a").unwrap().said;
        let states: Vec<_> = said.iter().map(|(key, known)| (key.as_bytes()[0], known.state().0, known.arrived_at)).collect();
        assert_eq!(states, [(1, State::Offered, Some(5)), (2, State::Held, None)]);
        claim(&outbox, &route(None), 5, 10);
        settle(&outbox, "a", Outcome::Done { broker_id: MessageId::new("M"), at: 9, told: true });
        assert_eq!(outbox.prune(10), Ok(1));
        outbox.accept(row("a", "@eng", 20)).unwrap();
        assert_eq!(found(&outbox, "row-a").unwrap().said, [], "another message of that name");
    }
}
