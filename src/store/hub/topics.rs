//! Topics: who is in them, what was said in them, and how far each has read.

use rusqlite::{Row as SqlRow, params};

use super::members::key;
use super::{Author, Submission, queue, room};
use crate::base::ids::{ClientId, MemberId, MemberKey, MeshId, PublicKey};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, Seq, count, limit_sql};
use crate::wire::json;
use crate::wire::key::Seal;
use crate::wire::topic::{TopicRole, Visibility};

/// Topics that a mesh may have.
const MAX_TOPICS: i64 = 1_000;

/// Messages kept of each topic; the oldest go first.
const MAX_HISTORY: i64 = 10_000;

/// How far back unread messages are counted.
const UNREAD: i64 = 100;

/// A topic, and how many are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRow {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub visibility: Visibility,
    pub created_at: Millis,
    pub members: usize,
    /// What the one who asks is in it.
    pub role: Option<TopicRole>,
}

/// What became of a topic that was to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicMade {
    New(TopicRow),
    /// There is one of this name already.
    Known(TopicRow),
    /// There is one of this name, and it is not for everyone.
    Forbidden,
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMemberRow {
    pub id: MemberId,
    pub key: MemberKey,
    pub display_name: String,
    pub role: TopicRole,
    pub joined_at: Millis,
    pub last_read_at: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMessageRow {
    pub id: String,
    pub sender_pubkey: PublicKey,
    pub sender_member: MemberId,
    pub sender_name: String,
    pub nonce: String,
    pub ciphertext: String,
    pub reply_to: Option<String>,
    pub mentions: Vec<String>,
    pub created_at: Millis,
    pub body_version: u32,
    pub seal: Option<Seal>,
    /// The sender's own id for it.
    pub client_id: Option<ClientId>,
}

/// Where somebody begins to listen to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewsFrom {
    Now,
    /// After this message, if it is still there.
    Message(String),
    After(Seq),
}

/// The topics of a mesh that a member may know of; `?2` is the member.
const TOPIC: &str = "SELECT topic.id, name, description, visibility, created_at,
       (SELECT count(*) FROM topic_member AS all_of CROSS JOIN member ON member.id = all_of.member_id
         WHERE all_of.topic_id = topic.id AND revoked_at IS NULL), own.role
  FROM topic LEFT JOIN topic_member AS own ON own.topic_id = topic.id AND own.member_id = ?2
 WHERE mesh_id = ?1 AND (visibility = 'public' OR own.role IS NOT NULL)";

fn read_topic(row: &SqlRow<'_>) -> rusqlite::Result<TopicRow> {
    Ok(TopicRow {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        visibility: Visibility::parse(row.get_ref(3)?.as_str()?).unwrap_or(Visibility::Private),
        created_at: row.get(4)?,
        members: count(row.get(5)?),
        role: row.get::<_, Option<String>>(6)?.as_deref().and_then(TopicRole::parse),
    })
}

pub(super) fn create(db: &Db<'_>, mesh: MeshId, new: TopicRow, by: Author) -> Result<TopicMade, Error> {
    let taken = "SELECT 1 FROM topic WHERE mesh_id = ?1 AND name = ?2";
    if db.first(taken, params![mesh.as_str(), new.name], |_| Ok(()))?.is_some() {
        let known =
            db.first(&format!("{TOPIC} AND name = ?3"), params![mesh.as_str(), by.member.as_str(), new.name], read_topic)?;
        let Some(known) = known else { return Ok(TopicMade::Forbidden) };
        join(db, known.id.clone(), by.member.clone(), TopicRole::Member, new.created_at)?;
        return Ok(TopicMade::Known(known));
    }
    let topics = db.first("SELECT count(*) FROM topic WHERE mesh_id = ?1", [mesh.as_str()], |row| row.get::<_, i64>(0))?;
    if MAX_TOPICS <= topics.unwrap_or(0) {
        return Ok(TopicMade::Full);
    }
    db.execute(
        "INSERT INTO topic (id, mesh_id, name, description, visibility, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![new.id, mesh.as_str(), new.name, new.description, new.visibility.as_str(), new.created_at],
    )?;
    join(db, new.id.clone(), by.member, TopicRole::Lead, new.created_at)?;
    Ok(TopicMade::New(TopicRow { members: 1, role: Some(TopicRole::Lead), ..new }))
}

/// The topic with this id, or this name.
pub(super) fn find(db: &Db<'_>, mesh: MeshId, topic: String, member: MemberId) -> Result<Option<TopicRow>, Error> {
    let sql = format!("{TOPIC} AND (topic.id = ?3 OR name = ?3) ORDER BY topic.id <> ?3 LIMIT 1");
    db.first(&sql, params![mesh.as_str(), member.as_str(), topic], read_topic)
}

pub(super) fn list(db: &Db<'_>, mesh: MeshId, member: MemberId) -> Result<Vec<TopicRow>, Error> {
    db.all(&format!("{TOPIC} ORDER BY name"), params![mesh.as_str(), member.as_str()], read_topic)
}

pub(super) fn join(db: &Db<'_>, topic: String, member: MemberId, role: TopicRole, now: Millis) -> Result<(), Error> {
    db.execute(
        "INSERT INTO topic_member (topic_id, member_id, role, joined_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![topic, member.as_str(), role.as_str(), now],
    )?;
    Ok(())
}

pub(super) fn leave(db: &Db<'_>, topic: String, member: MemberId) -> Result<bool, Error> {
    let gone = db.execute("DELETE FROM topic_member WHERE topic_id = ?1 AND member_id = ?2", params![topic, member.as_str()])?;
    Ok(0 < gone)
}

pub(super) fn mark_read(db: &Db<'_>, topic: String, member: MemberId, now: Millis) -> Result<bool, Error> {
    let sql = "UPDATE topic_member SET last_read_at = ?3 WHERE topic_id = ?1 AND member_id = ?2";
    Ok(0 < db.execute(sql, params![topic, member.as_str(), now])?)
}

/// Those who are not shut out of the mesh, the longest-standing first.
pub(super) fn members(db: &Db<'_>, topic: String) -> Result<Vec<TopicMemberRow>, Error> {
    db.all(
        "SELECT member.id, member.pubkey, display_name, topic_member.role, topic_member.joined_at, last_read_at
           FROM topic_member CROSS JOIN member ON member.id = topic_member.member_id
          WHERE topic_id = ?1 AND revoked_at IS NULL ORDER BY topic_member.joined_at, member.id",
        [topic],
        |row| {
            Ok(TopicMemberRow {
                id: MemberId::new(row.get::<_, String>(0)?),
                key: MemberKey(key(row, 1)?),
                display_name: row.get(2)?,
                role: TopicRole::parse(row.get_ref(3)?.as_str()?).unwrap_or(TopicRole::Observer),
                joined_at: row.get(4)?,
                last_read_at: row.get(5)?,
            })
        },
    )
}

const MESSAGE: &str =
    "SELECT id, sender_pubkey, sender_member_id, sender_name, nonce, ciphertext, reply_to_id, mentions, created_at,
            body_version, seal, client_id, seq FROM topic_message";

fn read_message(row: &SqlRow<'_>) -> rusqlite::Result<TopicMessageRow> {
    Ok(TopicMessageRow {
        id: row.get(0)?,
        sender_pubkey: key(row, 1)?,
        sender_member: MemberId::new(row.get::<_, String>(2)?),
        sender_name: row.get(3)?,
        nonce: row.get(4)?,
        ciphertext: row.get(5)?,
        reply_to: row.get(6)?,
        mentions: queue::read_names(row, 7)?,
        created_at: row.get(8)?,
        body_version: row.get(9)?,
        seal: queue::read_seal(row, 10)?,
        client_id: row.get::<_, Option<String>>(11)?.map(ClientId::new),
    })
}

/// What was said after a place in a topic, the oldest first, and the place of the last of it.
pub(super) fn news(db: &Db<'_>, topic: String, from: NewsFrom, limit: usize) -> Result<(Seq, Vec<TopicMessageRow>), Error> {
    let last = || db.first("SELECT coalesce(max(seq), 0) FROM topic_message WHERE topic_id = ?1", [&topic], |row| row.get(0));
    let known = |id: &str| {
        let sql = "SELECT seq FROM topic_message WHERE topic_id = ?1 AND id = ?2";
        db.first(sql, params![topic, id], |row| row.get::<_, i64>(0))
    };
    let after = match from {
        NewsFrom::After(seq) => Some(seq.to_sql()),
        NewsFrom::Message(id) => known(&id)?.map_or_else(last, |seq| Ok(Some(seq)))?,
        NewsFrom::Now => last()?,
    };
    let after = after.unwrap_or(0);
    let sql = format!("{MESSAGE} WHERE topic_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
    let read = |row: &SqlRow<'_>| Ok((row.get::<_, i64>(12)?, read_message(row)?));
    let rows = db.all(&sql, params![topic, after, limit_sql(limit)], read)?;
    let last = rows.last().map_or(after, |(seq, _)| *seq);
    Ok((Seq::from_sql(last), rows.into_iter().map(|(_, row)| row).collect()))
}

pub(super) fn history(db: &Db<'_>, topic: String, before: Option<String>, limit: usize) -> Result<Vec<TopicMessageRow>, Error> {
    let before = match before {
        None => i64::MAX,
        Some(id) => {
            let sql = "SELECT seq FROM topic_message WHERE topic_id = ?1 AND id = ?2";
            db.first(sql, params![topic, id], |row| row.get(0))?.unwrap_or(0)
        }
    };
    db.all(
        &format!("{MESSAGE} WHERE topic_id = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3"),
        params![topic, before, limit_sql(limit)],
        read_message,
    )
}

/// What others have said since a member last read a topic, for each topic that it is in.
pub(super) fn unread(db: &Db<'_>, mesh: MeshId, member: MemberId) -> Result<Vec<(String, usize)>, Error> {
    db.all(
        "SELECT own.topic_id, (
           SELECT count(*) FROM (
             SELECT sender_member_id AS sender, created_at AS at FROM topic_message
              WHERE topic_id = own.topic_id ORDER BY seq DESC LIMIT ?3)
            WHERE at > coalesce(own.last_read_at, 0) AND sender <> ?2)
           FROM topic_member AS own JOIN topic ON topic.id = own.topic_id WHERE topic.mesh_id = ?1 AND own.member_id = ?2",
        params![mesh.as_str(), member.as_str(), UNREAD],
        |row| Ok((row.get(0)?, count(row.get(1)?))),
    )
}

/// The id of a message of this topic, by it or by its sender's own id.
pub(super) fn message(db: &Db<'_>, topic: String, id: String) -> Result<Option<String>, Error> {
    db.first(
        "SELECT id FROM topic_message WHERE topic_id = ?1 AND (id = ?2 OR client_id = ?2) ORDER BY id <> ?2 LIMIT 1",
        params![topic, id],
        |row| row.get(0),
    )
}

/// Old messages of a topic that go at once where a new one has no room, and how often.
const STEP: i64 = 16;
const STEPS: usize = 16;

/// Whether the topic of a message is there still.
pub(super) fn stands(db: &Db<'_>, submission: &Submission) -> Result<bool, Error> {
    let Some(topic) = &submission.topic else { return Ok(true) };
    let sql = "SELECT 1 FROM topic WHERE id = ?1 AND mesh_id = ?2";
    Ok(db.first(sql, params![topic.id, submission.mesh.as_str()], |_| Ok(()))?.is_some())
}

/// Sees to it that the mesh may keep a message of a topic: the topic's oldest go for it. False if that is not enough.
pub(super) fn make_room(db: &Db<'_>, submission: &Submission) -> Result<bool, Error> {
    let Some(topic) = &submission.topic else { return Ok(true) };
    let bytes = submission.nonce.len() + submission.ciphertext.len();
    for _ in 0..STEPS {
        if room::may_keep(db, &submission.mesh, bytes)? {
            return Ok(true);
        }
        db.execute(
            "DELETE FROM topic_message WHERE seq IN (SELECT seq FROM topic_message WHERE topic_id = ?1 ORDER BY seq LIMIT ?2)",
            params![topic.id, STEP],
        )?;
    }
    room::may_keep(db, &submission.mesh, bytes)
}

/// Puts a message of a topic into its history, in the step in which it is queued for those who are in it.
pub(super) fn append(db: &Db<'_>, submission: &Submission) -> Result<(), Error> {
    let Some(topic) = &submission.topic else { return Ok(()) };
    db.execute(
        "INSERT INTO topic_message (topic_id, id, client_id, sender_member_id, sender_pubkey, sender_name, nonce, ciphertext,
                                    reply_to_id, mentions, created_at, body_version, seal)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            topic.id,
            submission.id.as_str(),
            submission.client_id.as_ref().map(|id| id.as_str()),
            submission.sender_member.as_str(),
            submission.sender_pubkey.to_string(),
            submission.sender_name,
            submission.nonce,
            submission.ciphertext,
            submission.reply_to,
            json::encode(&topic.mentions),
            submission.now,
            topic.body_version,
            queue::seal_sql(submission),
        ],
    )?;
    db.execute(
        "DELETE FROM topic_message WHERE topic_id = ?1 AND seq <= (
           SELECT seq FROM topic_message WHERE topic_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
        params![topic.id, MAX_HISTORY],
    )?;
    Ok(())
}
