//! The sessions that have been seen: what they said of themselves, and who of them is away.

use rusqlite::{Row as SqlRow, params};

use super::members::key;
use super::{AwayRow, Known, SeenSession};
use crate::base::ids::{MemberId, MemberKey, MeshId, PublicKey, SessionKey};
use crate::base::time::Millis;
use crate::store::db::Db;
use crate::store::{Error, limit_sql};

pub(super) fn session_seen(db: &Db<'_>, sessions: Vec<SeenSession>) -> Result<(), Error> {
    for seen in sessions {
        let (mesh, key) = (seen.mesh.as_str(), seen.key.to_string());
        db.execute(
            "INSERT INTO session (mesh_id, pubkey, member_id, display_name, last_seen_at, about, here, hidden, opens)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (mesh_id, pubkey) DO UPDATE SET member_id = excluded.member_id,
                 display_name = excluded.display_name, last_seen_at = max(last_seen_at, excluded.last_seen_at),
                 about = coalesce(excluded.about, about), here = excluded.here, ended = 0, hidden = excluded.hidden,
                 opens = coalesce(excluded.opens, opens)",
            params![
                mesh,
                key,
                seen.member.as_str(),
                seen.display_name,
                seen.last_seen_at,
                seen.about,
                seen.here,
                seen.hidden,
                seen.opens
            ],
        )?;
        if seen.about.is_some() {
            db.execute("DELETE FROM session_group WHERE mesh_id = ?1 AND pubkey = ?2", params![mesh, key])?;
            for name in seen.groups {
                db.execute(
                    "INSERT OR IGNORE INTO session_group (mesh_id, name, pubkey) VALUES (?1, ?2, ?3)",
                    params![mesh, name, key],
                )?;
            }
        }
    }
    Ok(())
}

const SESSION: &str =
    "SELECT mesh_id, pubkey, member_id, display_name, last_seen_at, about, here, hidden, ended, opens FROM session";

fn read_session(row: &SqlRow<'_>) -> rusqlite::Result<SeenSession> {
    Ok(SeenSession {
        mesh: MeshId::new(row.get::<_, String>(0)?),
        key: SessionKey(key(row, 1)?),
        member: MemberId::new(row.get::<_, String>(2)?),
        display_name: row.get(3)?,
        last_seen_at: row.get(4)?,
        about: row.get(5)?,
        groups: Vec::new(),
        here: row.get(6)?,
        hidden: row.get(7)?,
        ended: row.get(8)?,
        opens: row.get(9)?,
    })
}

pub(super) fn session(db: &Db<'_>, mesh: MeshId, key: SessionKey) -> Result<Option<SeenSession>, Error> {
    let sql = format!("{SESSION} WHERE mesh_id = ?1 AND pubkey = ?2");
    db.first(&sql, params![mesh.as_str(), key.to_string()], read_session)
}

pub(super) fn away_sessions(db: &Db<'_>, mesh: MeshId, since: Millis, limit: usize) -> Result<Vec<SeenSession>, Error> {
    let sql = format!(
        "{SESSION} INDEXED BY session_last_seen
          WHERE mesh_id = ?1 AND last_seen_at >= ?2 ORDER BY last_seen_at DESC, pubkey LIMIT ?3"
    );
    db.all(&sql, params![mesh.as_str(), since, limit_sql(limit)], read_session)
}

/// The sessions of a group and its parts: first those that are away and may come back, of them the latest. A name has no
/// character between `/` and `0`, so that those of the parts stand together.
pub(super) fn away_in_group(
    db: &Db<'_>,
    mesh: MeshId,
    group: String,
    since: Millis,
    limit: usize,
) -> Result<Vec<AwayRow>, Error> {
    db.all(
        "SELECT DISTINCT session.pubkey, member.pubkey, hidden, ended, here
           FROM session_group
           CROSS JOIN session ON session.mesh_id = session_group.mesh_id AND session.pubkey = session_group.pubkey
           CROSS JOIN member ON member.id = session.member_id
          WHERE session_group.mesh_id = ?1 AND session_group.name BETWEEN ?2 AND ?2 || '0'
            AND (session_group.name = ?2 OR substr(session_group.name, 1, length(?2) + 1) = ?2 || '/')
            AND last_seen_at >= ?3 AND revoked_at IS NULL
          ORDER BY here, ended, last_seen_at DESC LIMIT ?4",
        params![mesh.as_str(), group, since, limit_sql(limit)],
        |row| {
            let (key, member) = (key(row, 0)?, MemberKey(key(row, 1)?));
            Ok(AwayRow { key, member, hidden: row.get(2)?, ended: row.get(3)?, here: row.get(4)? })
        },
    )
}

pub(super) fn sessions_here(db: &Db<'_>) -> Result<Vec<SeenSession>, Error> {
    db.all(&format!("{SESSION} INDEXED BY session_here WHERE here = 1"), [], read_session)
}

pub(super) fn sessions_gone(db: &Db<'_>, gone: Vec<(MeshId, SessionKey)>, ended: bool) -> Result<(), Error> {
    for (mesh, key) in gone {
        let sql = "UPDATE session SET here = 0, ended = ?3 WHERE mesh_id = ?1 AND pubkey = ?2";
        db.execute(sql, params![mesh.as_str(), key.to_string(), ended])?;
        if ended {
            forget_groups_before(db, &mesh, key)?;
        }
    }
    Ok(())
}

/// Of the sessions of a member that are over, the last tells in which groups the member was: a group is not to grow with
/// each that was ever in it.
fn forget_groups_before(db: &Db<'_>, mesh: &MeshId, last: SessionKey) -> Result<(), Error> {
    db.execute(
        "DELETE FROM session_group
          WHERE mesh_id = ?1 AND pubkey <> ?2
            AND name IN (SELECT name FROM session_group WHERE mesh_id = ?1 AND pubkey = ?2)
            AND EXISTS (SELECT 1 FROM session AS old JOIN session AS last ON last.member_id = old.member_id AND last.hidden = old.hidden
                         WHERE old.mesh_id = ?1 AND old.pubkey = session_group.pubkey AND old.here = 0 AND old.ended = 1
                           AND last.mesh_id = ?1 AND last.pubkey = ?2)",
        params![mesh.as_str(), last.to_string()],
    )?;
    Ok(())
}

/// Says that a session is here after all.
pub(super) fn session_back(db: &Db<'_>, mesh: MeshId, key: SessionKey) -> Result<(), Error> {
    let sql = "UPDATE session SET here = 1, ended = 0 WHERE mesh_id = ?1 AND pubkey = ?2";
    db.execute(sql, params![mesh.as_str(), key.to_string()])?;
    Ok(())
}

/// Sessions forgotten in one step, so that nobody waits long behind it.
const STEP: usize = 500;

pub(super) fn forget_sessions(db: &Db<'_>, mesh: MeshId, before: Millis) -> Result<usize, Error> {
    let old = db.all(
        "SELECT pubkey FROM session INDEXED BY session_last_seen WHERE mesh_id = ?1 AND last_seen_at < ?2 AND here = 0 LIMIT ?3",
        params![mesh.as_str(), before, limit_sql(STEP)],
        |row| row.get::<_, String>(0),
    )?;
    for key in &old {
        for table in ["session", "session_group"] {
            db.execute(&format!("DELETE FROM {table} WHERE mesh_id = ?1 AND pubkey = ?2"), params![mesh.as_str(), key])?;
        }
    }
    Ok(old.len())
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
