//! Tasks of a mesh.

use rusqlite::{Row as SqlRow, params};

use super::{Author, room};
use crate::base::ids::{MemberId, MeshId};
use crate::base::time::{Millis, iso};
use crate::store::Error;
use crate::store::db::Db;
use crate::wire::json;
use crate::wire::task::Task;

/// Tasks that a mesh keeps.
const MAX_TASKS: i64 = 10_000;

/// Tasks listed at most.
const LISTED: i64 = 100;

/// What became of a change to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskChanged {
    Done(Box<Task>),
    NotFound,
    Ambiguous,
    /// Somebody has it, or it is done.
    NotClaimable,
    /// It is somebody else's.
    Forbidden,
}

/// False if the mesh has as many as it may.
pub(super) fn create(db: &Db<'_>, mesh: MeshId, task: Task, by: Author, now: Millis) -> Result<bool, Error> {
    let tasks = db.first("SELECT count(*) FROM task WHERE mesh_id = ?1", [mesh.as_str()], |row| row.get::<_, i64>(0))?;
    let tags = json::encode(&task.tags);
    if MAX_TASKS <= tasks.unwrap_or(0) || !room::may_keep(db, &mesh, task.title.len() + tags.len())? {
        return Ok(false);
    }
    db.execute(
        "INSERT INTO task (id, mesh_id, title, assignee, status, priority, created_by, created_member, tags, created_at)
         VALUES (?1, ?2, ?3, ?4, 'open', ?5, ?6, ?7, ?8, ?9)",
        params![task.id, mesh.as_str(), task.title, task.assignee, task.priority, by.name, by.member.as_str(), tags, now],
    )?;
    Ok(true)
}

const TASK: &str = "SELECT id, title, assignee, claimed_by, status, priority, created_by, tags, created_at, result,
       claimed_member, created_member FROM task WHERE mesh_id = ?1";

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
        id: row.get(0)?,
        title: row.get(1)?,
        assignee: row.get(2)?,
        claimed_by: row.get(3)?,
        status: row.get(4)?,
        priority: row.get(5)?,
        created_by: row.get(6)?,
        tags: json::decode(row.get_ref(7)?.as_str()?.as_bytes()).unwrap_or_default(),
        created_at: iso(row.get(8)?),
        result: row.get(9)?,
    })
}

/// A task, and the members who claimed and who made it.
type Owned = (Task, Option<String>, String);

fn find(db: &Db<'_>, mesh: &MeshId, id: &str) -> Result<Result<Owned, TaskChanged>, Error> {
    let sql = format!("{TASK} AND id BETWEEN ?2 AND ?2 || char(1114111) ORDER BY id LIMIT 2");
    let mut found = db.all(&sql, params![mesh.as_str(), id], |row| Ok((read(row)?, row.get(10)?, row.get(11)?)))?;
    let exact = found.len() == 1 || found.first().is_some_and(|(task, ..): &Owned| task.id == id);
    Ok(match exact {
        true => Ok(found.swap_remove(0)),
        false if found.is_empty() => Err(TaskChanged::NotFound),
        false => Err(TaskChanged::Ambiguous),
    })
}

fn again(db: &Db<'_>, mesh: &MeshId, id: &str) -> Result<TaskChanged, Error> {
    Ok(find(db, mesh, id)?.map_or_else(|why| why, |(task, ..)| TaskChanged::Done(Box::new(task))))
}

pub(super) fn claim(db: &Db<'_>, mesh: MeshId, id: String, by: Author) -> Result<TaskChanged, Error> {
    let task = match find(db, &mesh, &id)? {
        Err(why) => return Ok(why),
        Ok((task, ..)) if task.status != "open" => return Ok(TaskChanged::NotClaimable),
        Ok((task, ..)) => task,
    };
    db.execute(
        "UPDATE task SET status = 'claimed', claimed_by = ?2, claimed_member = ?3 WHERE id = ?1",
        params![task.id, by.name, by.member.as_str()],
    )?;
    again(db, &mesh, &task.id)
}

/// Whoever has it says that it is done; whoever made it, and an admin, may say so too.
pub(super) fn complete(db: &Db<'_>, mesh: MeshId, id: String, result: Option<String>, by: Author) -> Result<TaskChanged, Error> {
    let (task, claimed, created) = match find(db, &mesh, &id)? {
        Err(why) => return Ok(why),
        Ok(owned) => owned,
    };
    let is = |member: &str| by.member == MemberId::new(member);
    if task.status == "done" {
        return Ok(TaskChanged::NotClaimable);
    }
    if !claimed.as_deref().is_some_and(is) && !is(&created) && !by.admin {
        return Ok(TaskChanged::Forbidden);
    }
    db.execute("UPDATE task SET status = 'done', result = ?2 WHERE id = ?1", params![task.id, result])?;
    again(db, &mesh, &task.id)
}

pub(super) fn list(db: &Db<'_>, mesh: MeshId, status: Option<String>, assignee: Option<String>) -> Result<Vec<Task>, Error> {
    let sql = format!("{TASK} AND (?2 IS NULL OR status = ?2) AND (?3 IS NULL OR assignee = ?3) ORDER BY n DESC LIMIT ?4");
    db.all(&sql, params![mesh.as_str(), status, assignee, LISTED], read)
}
