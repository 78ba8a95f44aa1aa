//! Meshes and their members.

use rusqlite::types::Type;
use rusqlite::{Row as SqlRow, params};

use super::api_keys;
use super::audit::{self, Actor, Entry, Event};
use super::room::policy;
use super::{Member, Mesh, NewMember, NewMesh, Removed, Role};
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, Slug};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::migrate::Step;
use crate::store::{Error, count};
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
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_delivered.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_away.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_kept.sql"))?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_api_keys.sql"))?),
    // What it counted is the sum of `waiting`.
    |conn| Ok(conn.execute_batch("DROP TABLE depth")?),
    // `waiting` is written once in each transaction, by `room::sum_up`.
    |conn| Ok(conn.execute_batch("DROP TRIGGER delivery_insert; DROP TRIGGER delivery_delete")?),
    |conn| Ok(conn.execute_batch(include_str!("../schema/hub_settled.sql"))?),
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

pub(super) const MEMBER: &str = "SELECT id, pubkey, display_name, role, joined_at, revoked_at IS NOT NULL FROM member";

pub(super) fn read_member(row: &SqlRow<'_>) -> rusqlite::Result<Member> {
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
        api_keys::revoke_all(db, &mesh, &key.to_string(), now)?;
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

/// The keys of those who are not shut out and have not left.
pub(super) fn standing(db: &Db<'_>, mesh: MeshId) -> Result<Vec<MemberKey>, Error> {
    let sql = "SELECT pubkey FROM member WHERE mesh_id = ?1 AND revoked_at IS NULL";
    db.all(sql, [mesh.as_str()], |row| Ok(MemberKey(key(row, 0)?)))
}
