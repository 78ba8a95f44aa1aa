//! Meshes, members and the sessions that have been seen.

use rusqlite::types::Type;
use rusqlite::{Row as SqlRow, params};

use super::audit::{self, Actor, Entry, Event};
use super::room::policy;
use super::{Known, Member, Mesh, NewMember, NewMesh, Removed, Role, SeenSession};
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, SessionKey, Slug};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::migrate::Step;
use crate::store::{Error, count, limit_sql};
use crate::wire::json::json;

pub(super) const STEPS: &[Step] = &[
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_shared.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_presence.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_invites.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_operate.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_families.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_removed.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_keys.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_receipts.sql"))?),
];

/// A column that only this program writes, and only with keys.
pub(super) fn key(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<PublicKey> {
    let text = row.get_ref(column)?.as_str()?;
    PublicKey::parse(text).ok_or_else(|| rusqlite::Error::InvalidColumnType(column, text.to_owned(), Type::Text))
}

pub(super) fn create_mesh(db: &Db<'_>, mesh: NewMesh, owner: NewMember) -> Result<Mesh, Error> {
    let most = policy(db)?.meshes;
    let there = || Ok::<_, Error>(db.first("SELECT count(*) FROM mesh", [], |row| row.get(0))?.map_or(0, count));
    if most != 0 && self::mesh(db, mesh.id.clone())?.is_none() && most <= there()? {
        return Err(Error::Limit("this broker has as many meshes as its configuration allows"));
    }
    let written = db.execute(
        "INSERT INTO mesh (id, slug, name, owner_pubkey, created_at) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING",
        params![mesh.id.as_str(), mesh.slug.as_str(), mesh.name, mesh.owner.to_string(), mesh.now],
    )?;
    if written == 1 {
        add_member(db, NewMember { mesh: mesh.id.clone(), ..owner })?;
    }
    self::mesh(db, mesh.id)?.ok_or_else(|| Error::Sql("a mesh that was just made is not there".to_owned()))
}

const MESH: &str = "SELECT id, slug, name, owner_pubkey, created_at, archived_at FROM mesh";

fn read_mesh(row: &SqlRow<'_>) -> rusqlite::Result<Mesh> {
    Ok(Mesh {
        id: MeshId::new(row.get::<_, String>(0)?),
        slug: Slug::new(row.get::<_, String>(1)?),
        name: row.get(2)?,
        owner: MemberKey(key(row, 3)?),
        created_at: row.get(4)?,
        archived_at: row.get(5)?,
    })
}

pub(super) fn mesh(db: &Db<'_>, id: MeshId) -> Result<Option<Mesh>, Error> {
    db.first(&format!("{MESH} WHERE id = ?1"), [id.as_str()], read_mesh)
}

pub(super) fn meshes(db: &Db<'_>) -> Result<Vec<Mesh>, Error> {
    db.all(&format!("{MESH} ORDER BY created_at, id"), [], read_mesh)
}

pub(super) fn add_member(db: &Db<'_>, new: NewMember) -> Result<Member, Error> {
    db.execute(
        "INSERT INTO member (id, mesh_id, pubkey, display_name, role, joined_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (mesh_id, pubkey) DO NOTHING",
        params![new.id.as_str(), new.mesh.as_str(), new.key.to_string(), new.display_name, new.role.as_str(), new.now],
    )?;
    member(db, new.mesh, new.key)?.ok_or_else(|| Error::Sql("a member that was just added is not there".to_owned()))
}

const MEMBER: &str = "SELECT id, pubkey, display_name, role, joined_at, revoked_at IS NOT NULL FROM member";

fn read_member(row: &SqlRow<'_>) -> rusqlite::Result<Member> {
    let role = row.get_ref(3)?.as_str()?;
    Ok(Member {
        id: MemberId::new(row.get::<_, String>(0)?),
        key: MemberKey(key(row, 1)?),
        display_name: row.get(2)?,
        role: Role::parse(role).ok_or_else(|| rusqlite::Error::InvalidColumnType(3, role.to_owned(), Type::Text))?,
        joined_at: row.get(4)?,
        revoked: row.get(5)?,
    })
}

pub(super) fn member(db: &Db<'_>, mesh: MeshId, key: MemberKey) -> Result<Option<Member>, Error> {
    let sql = format!("{MEMBER} WHERE mesh_id = ?1 AND pubkey = ?2");
    db.first(&sql, params![mesh.as_str(), key.to_string()], read_member)
}

pub(super) fn members(db: &Db<'_>, mesh: MeshId) -> Result<Vec<Member>, Error> {
    db.all(&format!("{MEMBER} WHERE mesh_id = ?1 ORDER BY joined_at, id"), [mesh.as_str()], read_member)
}

pub(super) fn revoke(db: &Db<'_>, mesh: MeshId, key: MemberKey, removed: Removed, now: Millis) -> Result<bool, Error> {
    let (event, actor, word) = match removed {
        Removed::Banned(by) => (Event::MemberBanned, by, "banned"),
        Removed::Left => (Event::MemberLeft, Actor::Key(key), "left"),
    };
    let changed = db.execute(
        "UPDATE member SET revoked_at = ?3, revoked_as = ?4 WHERE mesh_id = ?1 AND pubkey = ?2 AND revoked_at IS NULL",
        params![mesh.as_str(), key.to_string(), now, word],
    )?;
    if 0 < changed {
        let payload = json!({"pubkey": key});
        audit::append(db, vec![Entry { mesh, event, actor, payload, now }])?;
    }
    Ok(0 < changed)
}

/// Whether it went by itself.
pub(super) fn has_left(db: &Db<'_>, member: &Member) -> Result<bool, Error> {
    Ok(db.first("SELECT 1 FROM member WHERE id = ?1 AND revoked_as = 'left'", [member.id.as_str()], |_| Ok(()))?.is_some())
}

/// Lets one in again that had left, under its old id.
pub(super) fn readmit(db: &Db<'_>, old: &Member, new: &NewMember) -> Result<(), Error> {
    db.execute(
        "UPDATE member SET revoked_at = NULL, revoked_as = NULL, role = ?2, display_name = ?3 WHERE id = ?1",
        params![old.id.as_str(), new.role.as_str(), new.display_name],
    )?;
    Ok(())
}

pub(super) fn session_seen(db: &Db<'_>, sessions: Vec<SeenSession>) -> Result<(), Error> {
    for seen in sessions {
        db.execute(
            "INSERT INTO session (mesh_id, pubkey, member_id, display_name, last_seen_at, about, here, opens)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (mesh_id, pubkey) DO UPDATE SET member_id = excluded.member_id,
                 display_name = excluded.display_name, last_seen_at = max(last_seen_at, excluded.last_seen_at),
                 about = coalesce(excluded.about, about), here = excluded.here,
                 opens = coalesce(excluded.opens, opens)",
            params![
                seen.mesh.as_str(),
                seen.key.to_string(),
                seen.member.as_str(),
                seen.display_name,
                seen.last_seen_at,
                seen.about,
                seen.here,
                seen.opens
            ],
        )?;
    }
    Ok(())
}

const SESSION: &str = "SELECT mesh_id, pubkey, member_id, display_name, last_seen_at, about, here, opens FROM session";

fn read_session(row: &SqlRow<'_>) -> rusqlite::Result<SeenSession> {
    Ok(SeenSession {
        mesh: MeshId::new(row.get::<_, String>(0)?),
        key: SessionKey(key(row, 1)?),
        member: MemberId::new(row.get::<_, String>(2)?),
        display_name: row.get(3)?,
        last_seen_at: row.get(4)?,
        about: row.get(5)?,
        here: row.get(6)?,
        opens: row.get(7)?,
    })
}

pub(super) fn away_sessions(db: &Db<'_>, mesh: MeshId, since: Millis, limit: usize) -> Result<Vec<SeenSession>, Error> {
    let sql = format!(
        "{SESSION} INDEXED BY session_last_seen
          WHERE mesh_id = ?1 AND last_seen_at >= ?2 ORDER BY last_seen_at DESC, pubkey LIMIT ?3"
    );
    db.all(&sql, params![mesh.as_str(), since, limit_sql(limit)], read_session)
}

pub(super) fn sessions_here(db: &Db<'_>) -> Result<Vec<SeenSession>, Error> {
    db.all(&format!("{SESSION} INDEXED BY session_here WHERE here = 1"), [], read_session)
}

pub(super) fn sessions_gone(db: &Db<'_>, gone: Vec<(MeshId, SessionKey)>) -> Result<(), Error> {
    for (mesh, key) in gone {
        db.execute("UPDATE session SET here = 0 WHERE mesh_id = ?1 AND pubkey = ?2", params![mesh.as_str(), key.to_string()])?;
    }
    Ok(())
}

pub(super) fn forget_sessions(db: &Db<'_>, mesh: MeshId, before: Millis) -> Result<usize, Error> {
    db.execute(
        "DELETE FROM session WHERE mesh_id = ?1 AND pubkey IN (
           SELECT pubkey FROM session INDEXED BY session_last_seen WHERE mesh_id = ?1 AND last_seen_at < ?2 AND here = 0 LIMIT 500)",
        params![mesh.as_str(), before],
    )
}

pub(super) fn owner_of(db: &Db<'_>, mesh: MeshId, key: PublicKey) -> Result<Option<Known>, Error> {
    let key = key.to_string();
    let id = |row: &SqlRow<'_>| Ok(MemberId::new(row.get::<_, String>(0)?));
    let member = db.first(
        "SELECT id FROM member WHERE mesh_id = ?1 AND pubkey = ?2 AND revoked_at IS NULL",
        params![mesh.as_str(), key],
        id,
    )?;
    if let Some(member) = member {
        return Ok(Some(Known::Member(member)));
    }
    let session = db.first(
        "SELECT member.id FROM session JOIN member ON member.id = session.member_id
          WHERE session.mesh_id = ?1 AND session.pubkey = ?2 AND member.revoked_at IS NULL",
        params![mesh.as_str(), key],
        id,
    )?;
    Ok(session.map(Known::Session))
}
