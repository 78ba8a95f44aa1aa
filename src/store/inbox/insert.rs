//! Keeping a message, once for each recipient, sender and id.

use rusqlite::params;

use super::{Body, Inserted, NewInbound, receipts, recipient_sql, remove};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, RowId, Seq, count};
use crate::wire::json;
use crate::wire::receipt::Stage;

pub(super) fn insert(db: &Db<'_>, messages: Vec<NewInbound>) -> Result<Vec<Inserted>, Error> {
    db.check_room()?;
    let start = last_seq(db)?;
    let mut seq = start;
    let mut answers = Vec::with_capacity(messages.len());
    for message in messages {
        let id = sender_id(db, &message)?;
        if id == SenderId::ForAll || remove::was_deleted(db, &message)? || !write(db, seq + 1, &message, id)? {
            answers.push(Inserted::Duplicate);
            continue;
        }
        seq += 1;
        if message.receipts {
            receipts::arrived(db, seq, &message)?;
        }
        answers.push(Inserted::New(Seq::from_sql(seq)));
    }
    if start < seq {
        db.execute("UPDATE inbox_counter SET last_seq = ?1", [seq])?;
    }
    Ok(answers)
}

pub(super) fn last_seq(db: &Db<'_>) -> Result<i64, Error> {
    Ok(db.first("SELECT last_seq FROM inbox_counter", [], |row| row.get(0))?.unwrap_or(0))
}

/// The row that has a message's id of its sender in the reference's column, which must be unique over all meshes and recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SenderId {
    Free,
    /// Another message's, or another recipient's.
    Taken,
    /// This message's, from before recipients were kept: it is shown to every session of its mesh.
    ForAll,
}

fn sender_id(db: &Db<'_>, message: &NewInbound) -> Result<SenderId, Error> {
    let found = db.first(
        "SELECT recipient_pubkey IS NULL AND mesh = ?1 AND sender_pubkey = ?2 FROM inbox WHERE client_message_id = ?3",
        params![message.mesh.as_str(), message.sender_pubkey, message.client_id.as_str()],
        |row| row.get(0),
    )?;
    Ok(match found {
        None => SenderId::Free,
        Some(false) => SenderId::Taken,
        Some(true) => SenderId::ForAll,
    })
}

/// `false` if its recipient has it.
fn write(db: &Db<'_>, seq: i64, message: &NewInbound, id: SenderId) -> Result<bool, Error> {
    let (recipient, kind) = recipient_sql(message.recipient);
    let (body, sealed, plain) = match &message.body {
        Body::Opened(text) => (Some(text), None, false),
        Body::Plain(text) => (Some(text), None, true),
        Body::Unreadable { reason, nonce, ciphertext } => (None, Some((reason, nonce, ciphertext)), false),
    };
    let written = db.execute(
        "INSERT INTO inbox (id, client_id, broker_message_id, mesh, topic, sender_pubkey, sender_name, body, meta,
                            received_at, reply_to_id, recipient_pubkey, recipient_kind, seq, sender_member_pubkey,
                            priority, subtype, created_at, nonce, ciphertext, unreadable, plain, receipts, seal, mentions,
                            mentioned, sent_to, client_message_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
                 ?24, ?25, ?26, ?27, ?28)
         ON CONFLICT (mesh, recipient_pubkey, sender_pubkey, client_id) DO NOTHING",
        params![
            message.id.as_str(),
            message.client_id.as_str(),
            message.broker_id.as_ref().map(|id| id.as_str()),
            message.mesh.as_str(),
            message.topic,
            message.sender_pubkey,
            message.sender_name,
            body,
            message.created_at.as_ref().map(|at| json::encode(&json::json!({ "created_at": at }))),
            message.received_at,
            message.reply_to,
            recipient,
            kind,
            seq,
            message.sender_member.map(|key| key.to_string()),
            message.priority.as_str(),
            message.subtype,
            message.created_at,
            sealed.map(|(_, nonce, _)| nonce),
            sealed.map(|(_, _, ciphertext)| ciphertext),
            sealed.map(|(reason, _, _)| reason),
            plain,
            message.receipts.then_some(1),
            sealed.and(message.seal.as_ref()).map(json::encode),
            Some(&message.mentions).filter(|names| !names.is_empty()).map(json::encode),
            message.mentioned,
            message.sent_to,
            if id == SenderId::Free { message.client_id.as_str() } else { message.id.as_str() },
        ],
    )?;
    Ok(written == 1)
}

/// To a reader it comes in now: at the end, neither seen nor offered. What followers and models were told of it before was that
/// it can not be opened.
pub(super) fn opened(db: &Db<'_>, messages: Vec<(RowId, String)>, now: Millis) -> Result<usize, Error> {
    let start = last_seq(db)?;
    let mut seq = start;
    for (id, body) in messages {
        // Rowids grow with `seq`, and every index gives its rows in the order of both. Times do so too.
        let changed = db.execute(
            "UPDATE inbox SET body = ?2, unreadable = NULL, nonce = NULL, ciphertext = NULL, seal = NULL, seen_at = NULL, offered_at = NULL,
                    offered_by = NULL, claimed_by = NULL, claimed_until = NULL, seq = ?3, received_at = max(received_at, ?4),
                    rowid = (SELECT max(rowid) FROM inbox) + 1
              WHERE id = ?1 AND unreadable IS NOT NULL",
            params![id.as_str(), body, seq + 1, now],
        )?;
        if 0 < changed {
            seq += 1;
            receipts::note(db, &id, Stage::Arrived, "", now)?;
        }
    }
    if start < seq {
        db.execute("UPDATE inbox_counter SET last_seq = ?1", [seq])?;
    }
    Ok(count(seq - start))
}
