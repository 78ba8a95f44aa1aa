//! Taking a message in, once per client id.

use rusqlite::types::Type;
use rusqlite::{Row as SqlRow, params};

use super::{Accepted, Existing, NewRow, Sender, Status, sender_sql};
use crate::base::ids::{ClientId, MessageId, PublicKey, SessionKey, Slug};
use crate::store::Error;
use crate::store::db::Db;

pub(super) fn find(db: &Db<'_>, client_id: ClientId) -> Result<Option<Existing>, Error> {
    db.first(
        "SELECT status, request_fingerprint, broker_message_id, mesh, sender_session_pubkey FROM outbox
          WHERE client_message_id = ?1",
        [client_id.as_str()],
        |row| {
            Ok(Existing {
                status: status(row, 0)?,
                fingerprint: fingerprint(row, 1)?,
                broker_id: row.get::<_, Option<String>>(2)?.map(MessageId::new),
                mesh: row.get::<_, Option<String>>(3)?.map(Slug::new),
                sender: row
                    .get::<_, Option<String>>(4)?
                    .and_then(|key| PublicKey::parse(&key))
                    .map_or(Sender::Member, |key| Sender::Session(SessionKey(key))),
            })
        },
    )
}

pub(super) fn accept(db: &Db<'_>, row: Box<NewRow>) -> Result<Accepted, Error> {
    db.check_room()?;
    let written = db.execute(
        "INSERT OR FAIL INTO outbox (id, client_message_id, request_fingerprint, payload, enqueued_at, next_attempt_at, status,
                             mesh, target_spec, nonce, ciphertext, priority, sender_session_pubkey, reply_to_id, meta,
                             mesh_id, member_pubkey)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, 'pending', ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (client_message_id) DO NOTHING",
        params![
            row.id.as_str(),
            row.client_id.as_str(),
            row.fingerprint,
            row.payload,
            row.now,
            row.route.mesh.as_str(),
            row.target,
            row.nonce,
            row.ciphertext,
            row.priority.as_str(),
            sender_sql(row.route.sender),
            row.reply_to,
            row.meta,
            row.membership.mesh.as_str(),
            row.membership.member.to_string(),
        ],
    )?;
    if written == 1 {
        return Ok(Accepted::New);
    }
    let existing = find(db, row.client_id)?.ok_or_else(|| Error::Sql("a client id is taken and not there".to_owned()))?;
    Ok(Accepted::Existing(existing))
}

/// A status column; its CHECK allows nothing else.
pub(super) fn status(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Status> {
    let text = row.get_ref(column)?.as_str()?;
    Status::parse(text).ok_or_else(|| rusqlite::Error::InvalidColumnType(column, text.to_owned(), Type::Text))
}

/// A fingerprint column. One of another length or type, which nobody writes, matches no request.
pub(super) fn fingerprint(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<[u8; 32]> {
    Ok(row.get_ref(column)?.as_bytes().ok().and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 32]))
}
