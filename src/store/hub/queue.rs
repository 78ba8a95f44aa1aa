//! Messages on their way: kept once, with one copy for each recipient that does not have it yet.

use rusqlite::{Row as SqlRow, params};

use super::audit::{Actor, Chain, Entry, Event};
use super::members::key;
use super::room::{self, Full, Policy};
use super::sessions::owner_of;
use super::{Ack, Enqueued, Stored, Submission, Urgency, keys, topics};
use crate::base::ids::{ClientId, MemberId, MemberKey, MeshId, MessageId, PublicKey};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, Seq, limit_sql};
use crate::wire::json::{self, json};
use crate::wire::key::Seal;
use crate::wire::priority::Priority;

pub(super) fn exchange(db: &Db<'_>, acks: Vec<Ack>, submissions: Vec<Submission>) -> Result<Vec<Enqueued>, Error> {
    db.check_room()?;
    acked(db, acks)?;
    enqueue(db, submissions)
}

pub(super) fn enqueue(db: &Db<'_>, submissions: Vec<Submission>) -> Result<Vec<Enqueued>, Error> {
    db.check_room()?;
    let policy = room::policy(db)?;
    let mut chain = Chain::new(db);
    let mesh = submissions.first().map(|submission| submission.mesh.clone());
    let one = |submission| enqueue_one(db, &policy, &mut chain, submission);
    let answers = submissions.into_iter().map(one).collect();
    // What one connection says at once is for one mesh.
    mesh.map_or(Ok(()), |mesh| room::forget_settled(db, &policy, &mesh))?;
    answers
}

fn enqueue_one(db: &Db<'_>, policy: &Policy, chain: &mut Chain<'_, '_>, mut submission: Submission) -> Result<Enqueued, Error> {
    if let Some(before) = sent_before(db, &submission)? {
        return Ok(before);
    }
    if submission.direct && !all_known(db, &submission)? {
        return Ok(Enqueued::UnknownRecipient);
    }
    if let Some(sealing) = &submission.sealing
        && !sealing.earlier
        && let Some(wrong) = keys::check(db, &submission.mesh, sealing)?
    {
        return Ok(Enqueued::WrongKey(wrong));
    }
    // Its mesh may have been closed since it was taken.
    if !topics::stands(db, &submission)? {
        return Ok(Enqueued::NoTopic);
    }
    let weight = room::weight(&submission.nonce, &submission.ciphertext);
    if let Some(full) = make_fit(db, policy, &mut submission, weight)? {
        return Ok(Enqueued::Full(full));
    }
    if !topics::make_room(db, &submission)? {
        return Ok(Enqueued::Full(Full::Mesh));
    }
    let seq = write(db, &submission)?;
    topics::append(db, &submission)?;
    let urgent = submission.priority == Priority::Now;
    let mut written: i64 = 0;
    for recipient in &submission.recipients {
        let rows = db.execute(
            "INSERT INTO delivery (mesh_id, recipient, seq, urgent, weight) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            params![submission.mesh.as_str(), recipient.to_string(), seq, urgent, weight],
        )?;
        if rows == 1 {
            room::came(db, &submission.mesh, *recipient, weight);
            written += 1;
        }
    }
    // The row was written for as many copies as were asked for; the same recipient twice is one.
    if usize::try_from(written) != Ok(submission.recipients.len()) {
        db.execute("UPDATE message SET recipients = ?2, waiting = ?2 WHERE seq = ?1", params![seq, written])?;
    }
    if policy.audit_messages {
        let payload = json!({
            "messageId": submission.id, "priority": submission.priority.as_str(), "targetSpec": submission.target_spec,
        });
        let (mesh, actor) = (submission.mesh, Actor::Member(submission.sender_member));
        chain.add(&Entry { mesh, event: Event::MessageSent, actor, payload, now: submission.now })?;
    }
    Ok(Enqueued::New(submission.id))
}

/// Where there is no room for it. What is for many leaves out those for whom too much waits already: one who never comes
/// back must not silence a whole group.
fn make_fit(db: &Db<'_>, policy: &Policy, submission: &mut Submission, weight: i64) -> Result<Option<Full>, Error> {
    if policy.mesh_bytes == 0 && policy.recipient_bytes == 0 {
        return Ok(None);
    }
    let mesh = &submission.mesh;
    let all = weight.saturating_mul(limit_sql(submission.recipients.len()));
    if !room::fits(db, &(mesh.clone(), None), all, policy.mesh_bytes)? {
        return Ok(Some(Full::Mesh));
    }
    let mut fitting = Vec::with_capacity(submission.recipients.len());
    for recipient in &submission.recipients {
        if room::fits(db, &(mesh.clone(), Some(*recipient)), weight, policy.recipient_bytes)? {
            fitting.push(*recipient);
        } else if submission.direct {
            return Ok(Some(Full::Recipient));
        }
    }
    submission.recipients = fitting;
    Ok(None)
}

/// The answer for a client id that the member has used already.
fn sent_before(db: &Db<'_>, submission: &Submission) -> Result<Option<Enqueued>, Error> {
    let Some(client_id) = &submission.client_id else { return Ok(None) };
    db.first(
        "SELECT id, fingerprint, sender_pubkey, target_spec, nonce, ciphertext FROM message INDEXED BY message_client
          WHERE mesh_id = ?1 AND client_id = ?2 AND sender_member_id = ?3",
        params![submission.mesh.as_str(), client_id.as_str(), submission.sender_member.as_str()],
        |row| {
            let text = |column| row.get::<_, String>(column);
            let fingerprint = row.get::<_, Option<String>>(1)?;
            let same_content = match (&fingerprint, &submission.fingerprint) {
                (Some(one), Some(other)) => one == other,
                // Without a fingerprint the sealed text itself decides; when it is gone, so is every reason to send it again.
                (None, None) => text(5)?.is_empty() || (text(4)? == submission.nonce && text(5)? == submission.ciphertext),
                _ => false,
            };
            let same_ends = text(2)? == submission.sender_pubkey.to_string() && text(3)? == submission.target_spec;
            Ok(if same_content && same_ends {
                Enqueued::Same(MessageId::new(row.get::<_, String>(0)?))
            } else {
                Enqueued::Conflict
            })
        },
    )
}

fn all_known(db: &Db<'_>, submission: &Submission) -> Result<bool, Error> {
    for recipient in &submission.recipients {
        if owner_of(db, submission.mesh.clone(), *recipient)?.is_none() {
            return Ok(false);
        }
    }
    Ok(!submission.recipients.is_empty())
}

fn write(db: &Db<'_>, submission: &Submission) -> Result<i64, Error> {
    let nobody = submission.recipients.is_empty();
    let mut statement = db.prepare(
        "INSERT OR FAIL INTO message (id, mesh_id, sender_member_id, sender_pubkey, sender_name, target_spec, priority, reply_to_id,
                              created_at, expires_at, client_id, fingerprint, recipients, waiting, delivered_at,
                              nonce, ciphertext, subtype, seal)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?14, ?15, ?16, ?17, ?18)",
    )?;
    Ok(statement.insert(params![
        submission.id.as_str(),
        submission.mesh.as_str(),
        submission.sender_member.as_str(),
        submission.sender_pubkey.to_string(),
        submission.sender_name,
        submission.target_spec,
        submission.priority.as_str(),
        submission.reply_to,
        submission.now,
        submission.expires_at,
        submission.client_id.as_ref().map(|id| id.as_str()),
        submission.fingerprint,
        limit_sql(submission.recipients.len()),
        nobody.then_some(submission.now),
        if nobody { "" } else { &submission.nonce },
        if nobody { "" } else { &submission.ciphertext },
        submission.subtype,
        seal_sql(submission),
    ])?)
}

/// The columns `seal`: how the body is sealed, as JSON.
pub(super) fn seal_sql(submission: &Submission) -> Option<String> {
    submission.sealing.as_ref().map(|sealing| json::encode(&sealing.seal))
}

/// What [`seal_sql`] wrote.
pub(super) fn read_seal(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Option<Seal>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| json::decode(text.as_bytes()).ok()))
}

/// A column with a JSON list of names.
pub(super) fn read_names(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| json::decode(text.as_bytes()).ok()).unwrap_or_default())
}

pub(super) fn fetch(
    db: &Db<'_>,
    mesh: MeshId,
    recipient: PublicKey,
    after: Seq,
    urgency: Urgency,
    now: Millis,
    limit: usize,
) -> Result<Vec<Stored>, Error> {
    db.all(
        "SELECT message.seq, message.id, sender_pubkey, member.pubkey, sender_member_id, sender_name, target_spec, priority,
                nonce, ciphertext, reply_to_id, created_at, client_id, fingerprint, subtype,
                CASE WHEN target_spec LIKE '#%' THEN (SELECT name FROM topic WHERE topic.id = substr(target_spec, 2)) END,
                seal, CASE WHEN target_spec LIKE '#%' THEN (SELECT mentions FROM topic_message WHERE topic_message.id = message.id) END
           FROM delivery CROSS JOIN message ON message.seq = delivery.seq CROSS JOIN member ON member.id = sender_member_id
          WHERE delivery.mesh_id = ?1 AND delivery.recipient = ?2 AND delivery.seq > ?3 AND delivery.urgent >= ?4
            AND expires_at > ?5
          ORDER BY delivery.seq LIMIT ?6",
        params![mesh.as_str(), recipient.to_string(), after.to_sql(), urgency == Urgency::NowOnly, now, limit_sql(limit)],
        read,
    )
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        seq: Seq::from_sql(row.get(0)?),
        id: MessageId::new(row.get::<_, String>(1)?),
        sender_pubkey: key(row, 2)?,
        sender_member: MemberKey(key(row, 3)?),
        sender_member_id: MemberId::new(row.get::<_, String>(4)?),
        sender_name: row.get(5)?,
        target_spec: row.get(6)?,
        priority: Priority::parse(row.get_ref(7)?.as_str()?).unwrap_or_default(),
        nonce: row.get(8)?,
        ciphertext: row.get(9)?,
        reply_to: row.get(10)?,
        created_at: row.get(11)?,
        client_id: row.get::<_, Option<String>>(12)?.map(ClientId::new),
        fingerprint: row.get(13)?,
        subtype: row.get(14)?,
        topic: row.get(15)?,
        seal: read_seal(row, 16)?,
        mentions: read_names(row, 17)?,
    })
}

pub(super) fn acked(db: &Db<'_>, acks: Vec<Ack>) -> Result<usize, Error> {
    let mut gone = 0;
    for ack in acks {
        gone += usize::from(has(db, &ack)?);
    }
    Ok(gone)
}

/// Takes one recipient's copy away, and with the last copy the text. False if there is none.
fn has(db: &Db<'_>, ack: &Ack) -> Result<bool, Error> {
    let (mesh, recipient) = (ack.mesh.as_str(), ack.recipient.to_string());
    let copy = db.first(
        "SELECT message.seq, weight, target_spec GLOB '[*@#]*'
           FROM message CROSS JOIN delivery ON delivery.mesh_id = ?2 AND recipient = ?3 AND delivery.seq = message.seq
          WHERE message.id = ?1",
        params![ack.message.as_str(), mesh, recipient],
        |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, bool>(2)?)),
    )?;
    let Some((seq, weight, is_for_many)) = copy else { return Ok(false) };
    let copy = "DELETE FROM delivery WHERE mesh_id = ?1 AND recipient = ?2 AND seq = ?3";
    db.execute(copy, params![mesh, recipient, seq])?;
    room::went(db, &ack.mesh, ack.recipient, weight);
    db.execute(
        "UPDATE OR FAIL message SET waiting = waiting - 1, delivered_at = iif(waiting = 1, ?2, delivered_at),
                nonce = iif(waiting = 1, '', nonce), ciphertext = iif(waiting = 1, '', ciphertext)
          WHERE seq = ?1",
        params![seq, ack.now],
    )?;
    if is_for_many {
        let had = "INSERT OR IGNORE INTO had (seq, recipient, at) VALUES (?1, ?2, ?3)";
        db.execute(had, params![seq, recipient, ack.now])?;
    }
    Ok(true)
}
