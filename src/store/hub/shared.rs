//! What the members of a mesh share: values, remembered texts, skills. Each is scoped by its mesh, and each kind has a
//! size after which nothing more is taken.

use rusqlite::{Row as SqlRow, params};

use super::{Author, MemoryRow, Outcome, SkillRow, StateRow, room};
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey};
use crate::store::Error;
use crate::store::db::Db;

/// Things of one kind that a mesh may keep.
const MAX_VALUES: i64 = 10_000;
const MAX_MEMORIES: i64 = 100_000;
const MAX_SKILLS: i64 = 1_000;

/// Texts that one search finds at most.
const FOUND: i64 = 20;

fn is_full(db: &Db<'_>, table: &str, mesh: &MeshId, most: i64) -> Result<bool, Error> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE mesh_id = ?1 LIMIT ?2)");
    Ok(db.first(&sql, params![mesh.as_str(), most], |row| row.get::<_, i64>(0))?.unwrap_or(0) == most)
}

pub(super) fn set_state(db: &Db<'_>, mesh: MeshId, row: StateRow) -> Result<Outcome, Error> {
    let there = get_state(db, mesh.clone(), row.key.clone())?.is_some();
    let full = !there && is_full(db, "state", &mesh, MAX_VALUES)?;
    if full || !room::may_keep(db, &mesh, row.key.len() + row.value.len())? {
        return Ok(Outcome::Full);
    }
    db.execute(
        "INSERT INTO state (mesh_id, key, value, updated_by, updated_at, member_key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (mesh_id, key) DO UPDATE SET value = excluded.value, updated_by = excluded.updated_by,
             updated_at = excluded.updated_at, member_key = excluded.member_key",
        params![mesh.as_str(), row.key, row.value, row.updated_by, row.updated_at, row.member.map(|key| key.to_string())],
    )?;
    Ok(Outcome::Done)
}

fn read_state(row: &SqlRow<'_>) -> rusqlite::Result<StateRow> {
    let member = row.get::<_, Option<String>>(4)?.and_then(|key| PublicKey::parse(&key)).map(MemberKey);
    Ok(StateRow { key: row.get(0)?, value: row.get(1)?, updated_by: row.get(2)?, updated_at: row.get(3)?, member })
}

const STATE: &str = "SELECT key, value, updated_by, updated_at, member_key FROM state WHERE mesh_id = ?1";

pub(super) fn get_state(db: &Db<'_>, mesh: MeshId, key: String) -> Result<Option<StateRow>, Error> {
    db.first(&format!("{STATE} AND key = ?2"), params![mesh.as_str(), key], read_state)
}

pub(super) fn list_state(db: &Db<'_>, mesh: MeshId, limit: usize) -> Result<Vec<StateRow>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.all(&format!("{STATE} ORDER BY key LIMIT ?2"), params![mesh.as_str(), limit], read_state)
}

pub(super) fn remember(db: &Db<'_>, mesh: MeshId, author: Author, row: MemoryRow) -> Result<Outcome, Error> {
    if is_full(db, "memory", &mesh, MAX_MEMORIES)? || !room::may_keep(db, &mesh, row.content.len() + row.tags.len())? {
        return Ok(Outcome::Full);
    }
    db.execute(
        "INSERT INTO memory (id, mesh_id, content, tags, member_id, remembered_by, remembered_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![row.id, mesh.as_str(), row.content, row.tags, author.member.as_str(), author.name, row.at],
    )?;
    Ok(Outcome::Done)
}

const MEMORY: &str = "SELECT memory.id, memory.content, memory.tags, memory.remembered_by, memory.remembered_at FROM memory";

fn read_memory(row: &SqlRow<'_>) -> rusqlite::Result<MemoryRow> {
    Ok(MemoryRow { id: row.get(0)?, content: row.get(1)?, tags: row.get(2)?, by: row.get(3)?, at: row.get(4)? })
}

pub(super) fn recall(db: &Db<'_>, mesh: MeshId, query: String) -> Result<Vec<MemoryRow>, Error> {
    // Each word is quoted, so that none is taken for an operator of the query language, which ends at a NUL.
    let words = query.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    if words.is_empty() {
        return db.all(
            &format!("{MEMORY} WHERE mesh_id = ?1 ORDER BY n DESC LIMIT ?2"),
            params![mesh.as_str(), FOUND],
            read_memory,
        );
    }
    db.all(
        &format!(
            "{MEMORY} JOIN memory_text ON memory_text.rowid = memory.n
              WHERE memory_text MATCH ?2 AND memory.mesh_id = ?1 ORDER BY rank LIMIT ?3"
        ),
        params![mesh.as_str(), words.join(" "), FOUND],
        read_memory,
    )
}

/// Whose a row is; `None` if there is none.
fn owner(db: &Db<'_>, sql: &str, mesh: &MeshId, name: &str) -> Result<Option<MemberId>, Error> {
    db.first(sql, params![mesh.as_str(), name], |row| Ok(MemberId::new(row.get::<_, String>(0)?)))
}

pub(super) fn forget(db: &Db<'_>, mesh: MeshId, id: String, by: Author) -> Result<Outcome, Error> {
    match owner(db, "SELECT member_id FROM memory WHERE mesh_id = ?1 AND id = ?2", &mesh, &id)? {
        None => Ok(Outcome::NotFound),
        Some(owner) if owner != by.member && !by.admin => Ok(Outcome::Forbidden),
        Some(_) => {
            db.execute("DELETE FROM memory WHERE mesh_id = ?1 AND id = ?2", params![mesh.as_str(), id])?;
            Ok(Outcome::Done)
        }
    }
}

const SKILL_OWNER: &str = "SELECT member_id FROM skill WHERE mesh_id = ?1 AND name = ?2";

pub(super) fn share_skill(db: &Db<'_>, mesh: MeshId, author: Author, row: SkillRow) -> Result<Outcome, Error> {
    match owner(db, SKILL_OWNER, &mesh, &row.name)? {
        Some(owner) if owner != author.member && !author.admin => return Ok(Outcome::Forbidden),
        None if is_full(db, "skill", &mesh, MAX_SKILLS)? => return Ok(Outcome::Full),
        Some(_) | None => {}
    }
    let texts = [&row.description, &row.instructions, &row.tags];
    let bytes = texts.iter().map(|text| text.len()).sum::<usize>() + row.manifest.as_ref().map_or(0, String::len);
    if !room::may_keep(db, &mesh, bytes)? {
        return Ok(Outcome::Full);
    }
    db.execute(
        "INSERT INTO skill (mesh_id, name, description, instructions, tags, manifest, member_id, author, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (mesh_id, name) DO UPDATE SET description = excluded.description, instructions = excluded.instructions,
             tags = excluded.tags, manifest = excluded.manifest, author = excluded.author",
        params![
            mesh.as_str(),
            row.name,
            row.description,
            row.instructions,
            row.tags,
            row.manifest,
            author.member.as_str(),
            author.name,
            row.created_at
        ],
    )?;
    Ok(Outcome::Done)
}

const SKILL: &str = "SELECT name, description, instructions, tags, manifest, author, created_at FROM skill WHERE mesh_id = ?1";

fn read_skill(row: &SqlRow<'_>) -> rusqlite::Result<SkillRow> {
    Ok(SkillRow {
        name: row.get(0)?,
        description: row.get(1)?,
        instructions: row.get(2)?,
        tags: row.get(3)?,
        manifest: row.get(4)?,
        author: row.get(5)?,
        created_at: row.get(6)?,
    })
}

pub(super) fn skills(db: &Db<'_>, mesh: MeshId, query: Option<String>) -> Result<Vec<SkillRow>, Error> {
    let query = query.unwrap_or_default();
    let sql = format!(
        "{SKILL} AND (?2 = '' OR instr(lower(name), lower(?2)) OR instr(lower(description), lower(?2)) OR instr(lower(tags), lower(?2)))
          ORDER BY name"
    );
    db.all(&sql, params![mesh.as_str(), query], read_skill)
}

pub(super) fn skill(db: &Db<'_>, mesh: MeshId, name: String) -> Result<Option<SkillRow>, Error> {
    db.first(&format!("{SKILL} AND name = ?2"), params![mesh.as_str(), name], read_skill)
}

pub(super) fn remove_skill(db: &Db<'_>, mesh: MeshId, name: String, by: Author) -> Result<Outcome, Error> {
    match owner(db, SKILL_OWNER, &mesh, &name)? {
        None => Ok(Outcome::NotFound),
        Some(owner) if owner != by.member && !by.admin => Ok(Outcome::Forbidden),
        Some(_) => {
            db.execute("DELETE FROM skill WHERE mesh_id = ?1 AND name = ?2", params![mesh.as_str(), name])?;
            Ok(Outcome::Done)
        }
    }
}
