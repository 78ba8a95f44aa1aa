//! What members grant each other, and who is kept out.

use rusqlite::params;

use super::audit::{self, Actor, Entry, Event};
use super::members::key;
use crate::base::ids::{MemberKey, MeshId, PublicKey};
use crate::base::time::Millis;
use crate::store::Error;
use crate::store::db::Db;
use crate::wire::grant::Capability;
use crate::wire::json::{self, json};

/// Peers about whom one member may say something.
const MAX_GRANTS: i64 = 1_000;

/// What a member allows a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    pub mesh: MeshId,
    pub member: MemberKey,
    pub peer: MemberKey,
    pub capabilities: Vec<Capability>,
}

/// A key that is kept out for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KickRow {
    pub mesh: MeshId,
    pub key: PublicKey,
    pub until: Millis,
}

/// A member that is shut out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BanRow {
    pub key: MemberKey,
    pub display_name: String,
    pub revoked_at: Millis,
}

pub(super) fn grants(db: &Db<'_>) -> Result<Vec<GrantRow>, Error> {
    db.all("SELECT mesh_id, member_key, peer_key, capabilities FROM peer_grant", [], |row| {
        Ok(GrantRow {
            mesh: MeshId::new(row.get::<_, String>(0)?),
            member: MemberKey(key(row, 1)?),
            peer: MemberKey(key(row, 2)?),
            // Written by this program; what a newer one wrote and this can not read allows nothing.
            capabilities: json::decode(row.get_ref(3)?.as_str()?.as_bytes()).unwrap_or_default(),
        })
    })
}

/// False if the member has said something of as many others as it may.
pub(super) fn set_grant(db: &Db<'_>, row: GrantRow, reset: bool, now: Millis) -> Result<bool, Error> {
    let (mesh, member, peer) = (row.mesh.as_str(), row.member.to_string(), row.peer.to_string());
    if reset {
        db.execute(
            "DELETE FROM peer_grant WHERE mesh_id = ?1 AND member_key = ?2 AND peer_key = ?3",
            params![mesh, member, peer],
        )?;
        note_grant(db, &row, now)?;
        return Ok(true);
    }
    let others = "SELECT count(*) FROM peer_grant WHERE mesh_id = ?1 AND member_key = ?2 AND peer_key <> ?3";
    if MAX_GRANTS <= db.first(others, params![mesh, member, peer], |row| row.get::<_, i64>(0))?.unwrap_or(0) {
        return Ok(false);
    }
    db.execute(
        "INSERT INTO peer_grant (mesh_id, member_key, peer_key, capabilities) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (mesh_id, member_key, peer_key) DO UPDATE SET capabilities = excluded.capabilities",
        params![mesh, member, peer, json::encode(&row.capabilities)],
    )?;
    note_grant(db, &row, now)?;
    Ok(true)
}

fn note_grant(db: &Db<'_>, row: &GrantRow, now: Millis) -> Result<(), Error> {
    let payload = json!({"peer": row.peer, "capabilities": row.capabilities});
    let actor = Actor::Key(row.member);
    audit::append(db, vec![Entry { mesh: row.mesh.clone(), event: Event::GrantsSet, actor, payload, now }])
}

pub(super) fn kicks(db: &Db<'_>, now: Millis) -> Result<Vec<KickRow>, Error> {
    db.all("SELECT mesh_id, key, until FROM kick WHERE until > ?1", [now], |row| {
        Ok(KickRow { mesh: MeshId::new(row.get::<_, String>(0)?), key: key(row, 1)?, until: row.get(2)? })
    })
}

/// Keeps keys out, and forgets those whose time is over.
pub(super) fn kick(db: &Db<'_>, kicks: Vec<KickRow>, by: Actor, now: Millis) -> Result<(), Error> {
    db.execute("DELETE FROM kick WHERE until <= ?1", [now])?;
    for kick in &kicks {
        db.execute(
            "INSERT INTO kick (mesh_id, key, until) VALUES (?1, ?2, ?3)
             ON CONFLICT (mesh_id, key) DO UPDATE SET until = excluded.until",
            params![kick.mesh.as_str(), kick.key.to_string(), kick.until],
        )?;
    }
    let note = |kick: KickRow| {
        let payload = json!({"pubkey": kick.key, "until": kick.until});
        Entry { mesh: kick.mesh, event: Event::Kicked, actor: by.clone(), payload, now }
    };
    audit::append(db, kicks.into_iter().map(note).collect())
}

/// Lets a member in again. False if it was not shut out.
pub(super) fn unrevoke(db: &Db<'_>, mesh: MeshId, key: MemberKey, by: Actor, now: Millis) -> Result<bool, Error> {
    let sql =
        "UPDATE member SET revoked_at = NULL, revoked_as = NULL WHERE mesh_id = ?1 AND pubkey = ?2 AND revoked_as = 'banned'";
    let changed = db.execute(sql, params![mesh.as_str(), key.to_string()])?;
    if 0 < changed {
        let payload = json!({"pubkey": key});
        audit::append(db, vec![Entry { mesh, event: Event::MemberUnbanned, actor: by, payload, now }])?;
    }
    Ok(0 < changed)
}

pub(super) fn bans(db: &Db<'_>, mesh: MeshId) -> Result<Vec<BanRow>, Error> {
    db.all(
        "SELECT pubkey, display_name, revoked_at FROM member WHERE mesh_id = ?1 AND revoked_as = 'banned' ORDER BY revoked_at, id",
        [mesh.as_str()],
        |row| Ok(BanRow { key: MemberKey(key(row, 0)?), display_name: row.get(1)?, revoked_at: row.get(2)? }),
    )
}
