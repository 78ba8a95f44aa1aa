//! The audit log: what happened in each mesh, as a chain of hashes. It holds who did what and when; never what was written.

use std::collections::HashMap;

use rusqlite::params;

use crate::base::hex;
use crate::base::ids::{MemberId, MemberKey, MeshId};
use crate::base::time::{Millis, iso};
use crate::crypto::fingerprint::sha256;
use crate::store::db::Db;
use crate::store::{Error, count, limit_sql};
use crate::wire::json::{self, Value};

/// What stands before the first entry.
const GENESIS: &str = "genesis";

/// Something that happened. The names of the first six are the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    PeerJoined,
    PeerLeft,
    MessageSent,
    StateSet,
    MemberBanned,
    MemberUnbanned,
    /// It came by an invite.
    MemberJoined,
    /// It went by itself.
    MemberLeft,
    /// Kept out for a while.
    Kicked,
    /// Its connection was ended, and it may come back.
    Disconnected,
    /// Taken out of a topic by another.
    TopicMemberRemoved,
    /// Somebody changed what it allows another.
    GrantsSet,
    ApiKeyCreated,
    ApiKeyRevoked,
    InviteCreated,
    InviteRevoked,
}

impl Event {
    pub fn as_str(self) -> &'static str {
        match self {
            Event::PeerJoined => "peer_joined",
            Event::PeerLeft => "peer_left",
            Event::MessageSent => "message_sent",
            Event::StateSet => "state_set",
            Event::MemberBanned => "member_banned",
            Event::MemberUnbanned => "member_unbanned",
            Event::MemberJoined => "member_joined",
            Event::MemberLeft => "member_left",
            Event::Kicked => "kicked",
            Event::Disconnected => "disconnected",
            Event::TopicMemberRemoved => "topic_member_removed",
            Event::GrantsSet => "grants_set",
            Event::ApiKeyCreated => "apikey_created",
            Event::ApiKeyRevoked => "apikey_revoked",
            Event::InviteCreated => "invite_created",
            Event::InviteRevoked => "invite_revoked",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    Member(MemberId),
    /// The member that has this key.
    Key(MemberKey),
    Nobody,
}

/// An entry to add.
#[derive(Debug, Clone)]
pub struct Entry {
    pub mesh: MeshId,
    pub event: Event,
    pub actor: Actor,
    /// An object; its keys are sorted before it is hashed.
    pub payload: Value,
    pub now: Millis,
}

/// What became of checking one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub mesh: MeshId,
    pub entries: usize,
    /// The hash of the last entry: whoever has noted it down can tell later that nothing before it was changed.
    pub head: String,
    /// The number of the first entry that does not fit.
    pub broken_at: Option<u64>,
}

/// The ends of the chains that one command writes to.
pub(super) struct Chain<'a, 'c> {
    db: &'a Db<'c>,
    ends: HashMap<MeshId, End>,
}

#[derive(Debug, Clone)]
struct End {
    n: i64,
    hash: String,
}

impl<'a, 'c> Chain<'a, 'c> {
    pub(super) fn new(db: &'a Db<'c>) -> Chain<'a, 'c> {
        Chain { db, ends: HashMap::new() }
    }

    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), Error> {
        let end = match self.ends.get(&entry.mesh) {
            Some(end) => end.clone(),
            None => end(self.db, &entry.mesh)?,
        };
        let actor = actor(self.db, entry)?;
        let payload = json::canonical(&entry.payload);
        let hash = link(&end.hash, &entry.mesh, entry.event.as_str(), actor.as_deref(), &payload, entry.now);
        self.db.execute(
            "INSERT INTO audit (mesh_id, n, event, actor, payload, created_at, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![entry.mesh.as_str(), end.n + 1, entry.event.as_str(), actor, payload, entry.now, hash],
        )?;
        self.ends.insert(entry.mesh.clone(), End { n: end.n + 1, hash });
        Ok(())
    }
}

fn actor(db: &Db<'_>, entry: &Entry) -> Result<Option<String>, Error> {
    match &entry.actor {
        Actor::Member(id) => Ok(Some(id.as_str().to_owned())),
        Actor::Nobody => Ok(None),
        Actor::Key(key) => {
            let sql = "SELECT id FROM member WHERE mesh_id = ?1 AND pubkey = ?2";
            db.first(sql, params![entry.mesh.as_str(), key.to_string()], |row| row.get(0))
        }
    }
}

/// The last entry, or what stands before the first.
fn end(db: &Db<'_>, mesh: &MeshId) -> Result<End, Error> {
    let sql = "SELECT n, hash FROM audit WHERE mesh_id = ?1 ORDER BY n DESC LIMIT 1";
    let last = db.first(sql, [mesh.as_str()], |row| Ok(End { n: row.get(0)?, hash: row.get(1)? }))?;
    last.map_or_else(|| beginning(db, mesh), Ok)
}

fn beginning(db: &Db<'_>, mesh: &MeshId) -> Result<End, Error> {
    let sql = "SELECT n, hash FROM audit_anchor WHERE mesh_id = ?1";
    let anchor = db.first(sql, [mesh.as_str()], |row| Ok(End { n: row.get(0)?, hash: row.get(1)? }))?;
    Ok(anchor.unwrap_or_else(|| End { n: 0, hash: GENESIS.to_owned() }))
}

fn link(before: &str, mesh: &MeshId, event: &str, actor: Option<&str>, payload: &str, at: Millis) -> String {
    let text = format!("{before}|{mesh}|{event}|{}|{payload}|{}", actor.unwrap_or("null"), iso(at));
    hex::encode(&sha256(text.as_bytes()))
}

pub(super) fn append(db: &Db<'_>, entries: Vec<Entry>) -> Result<(), Error> {
    let mut chain = Chain::new(db);
    entries.iter().try_for_each(|entry| chain.add(entry))
}

/// Removes the oldest entries of a mesh, and notes where its chain begins from then on.
pub(super) fn prune(db: &Db<'_>, mesh: MeshId, before: Millis, limit: usize) -> Result<usize, Error> {
    // By number, up to the first that stays: a clock that was set back leaves no hole.
    let keep = "SELECT n FROM audit WHERE mesh_id = ?1 AND created_at >= ?2 ORDER BY n LIMIT 1";
    let first: Option<i64> = db.first(keep, params![mesh.as_str(), before], |row| row.get(0))?;
    let sql = "SELECT n, hash FROM audit WHERE mesh_id = ?1 AND n < ?2 ORDER BY n LIMIT ?3";
    let gone = db.all(sql, params![mesh.as_str(), first.unwrap_or(i64::MAX), limit_sql(limit)], |row| {
        Ok(End { n: row.get(0)?, hash: row.get(1)? })
    })?;
    let Some(last) = gone.last() else { return Ok(0) };
    db.execute("DELETE FROM audit WHERE mesh_id = ?1 AND n <= ?2", params![mesh.as_str(), last.n])?;
    db.execute(
        "INSERT INTO audit_anchor (mesh_id, n, hash) VALUES (?1, ?2, ?3)
         ON CONFLICT (mesh_id) DO UPDATE SET n = excluded.n, hash = excluded.hash",
        params![mesh.as_str(), last.n, last.hash],
    )?;
    Ok(gone.len())
}

/// Walks along one chain, a row at a time.
pub(super) fn verify(db: &Db<'_>, mesh: MeshId) -> Result<Verdict, Error> {
    let mut end = beginning(db, &mesh)?;
    let mut verdict = Verdict { mesh: mesh.clone(), entries: 0, head: end.hash.clone(), broken_at: None };
    let mut statement =
        db.prepare("SELECT n, event, actor, payload, created_at, hash FROM audit WHERE mesh_id = ?1 ORDER BY n")?;
    let mut rows = statement.query([mesh.as_str()])?;
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(0)?;
        let (event, actor, payload): (String, Option<String>, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let hash: String = row.get(5)?;
        verdict.entries += 1;
        if n != end.n + 1 || hash != link(&end.hash, &mesh, &event, actor.as_deref(), &payload, row.get(4)?) {
            verdict.broken_at = u64::try_from(n).ok();
            break;
        }
        verdict.head.clone_from(&hash);
        end = End { n, hash };
    }
    Ok(verdict)
}

/// The meshes that have a chain, those included that are gone.
pub(super) fn chains(db: &Db<'_>) -> Result<Vec<MeshId>, Error> {
    let sql = "SELECT DISTINCT mesh_id FROM audit UNION SELECT mesh_id FROM audit_anchor ORDER BY 1";
    db.all(sql, [], |row| Ok(MeshId::new(row.get::<_, String>(0)?)))
}

/// Each event of a mesh and who did it, in order.
pub(super) fn events(db: &Db<'_>, mesh: &MeshId) -> Result<Vec<(String, Option<String>)>, Error> {
    let sql = "SELECT event, actor FROM audit WHERE mesh_id = ?1 ORDER BY n";
    db.all(sql, [mesh.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// How many entries a mesh has.
pub(super) fn length(db: &Db<'_>, mesh: &MeshId) -> Result<usize, Error> {
    let sql = "SELECT count(*) FROM audit WHERE mesh_id = ?1";
    Ok(db.first(sql, [mesh.as_str()], |row| row.get(0))?.map_or(0, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::json;

    /// The reference's own vector.
    #[test]
    fn links_as_the_reference_does() {
        let payload = json!({
            "role": "control-plane", "restored": false, "groups": [],
            "pubkey": "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
        });
        let hash = link(
            GENESIS,
            &MeshId::new("meshTEST000000000000000000000001"),
            Event::PeerJoined.as_str(),
            Some("memA0000000000000000000000000001"),
            &json::canonical(&payload),
            1_760_000_000_000,
        );
        assert_eq!(hash, "1979f07e4b000628e9d257e4fda2f194df119d08b097a3f8724bb50d19de3495");
    }
}
