//! What whoever operates a broker asks of its database, beside the program that serves it: readings and copies on a
//! connection of their own while it runs, and the two things that need it stopped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::audit::{self, Verdict};
use super::{Member, Mesh};
use super::{members, status};
use crate::base::ids::{MeshId, Slug};
use crate::base::time::{Millis, iso, now_millis};
use crate::store::db::{self, Db, beside};
use crate::store::{Error, count, damage, limit_sql};
use crate::sys::dirs;

/// How much there is of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub meshes: usize,
    pub members: usize,
    /// Copies that wait, and their bytes.
    pub queued: usize,
    pub queued_bytes: u64,
}

/// How much there is in one mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshTotals {
    pub mesh: Mesh,
    pub members: usize,
    pub queued: usize,
    pub queued_bytes: u64,
    pub audit_entries: usize,
}

/// What waits for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRow {
    pub mesh: MeshId,
    pub slug: Slug,
    /// Its key, in hex.
    pub recipient: String,
    /// The name under which the key was last seen.
    pub name: Option<String>,
    pub copies: usize,
    pub bytes: u64,
    /// When the oldest was sent.
    pub oldest: Option<Millis>,
}

fn size(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn totals(db: &Db<'_>) -> Result<Totals, Error> {
    let one = |sql| Ok::<i64, Error>(db.first(sql, [], |row| row.get(0))?.unwrap_or(0));
    Ok(Totals {
        meshes: count(one("SELECT count(*) FROM mesh")?),
        members: count(one("SELECT count(*) FROM member WHERE revoked_at IS NULL")?),
        queued: count(one(status::DEPTH)?),
        queued_bytes: size(one("SELECT coalesce(sum(bytes), 0) FROM waiting WHERE recipient = ''")?),
    })
}

/// A connection beside the broker's own.
#[derive(Debug)]
pub struct Admin {
    conn: Connection,
    path: PathBuf,
}

impl Admin {
    /// Opens what is there; nothing is made, and no schema is changed.
    pub fn open(path: &Path) -> Result<Admin, Error> {
        // What SQLite makes beside the file is private, whoever runs this.
        dirs::umask_private();
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        conn.pragma_update(None, "busy_timeout", 5000)?;
        current(&conn)?;
        Ok(Admin { conn, path: path.to_owned() })
    }

    fn db(&self) -> Db<'_> {
        Db::new(&self.conn, &self.path)
    }

    /// Every mesh, the oldest first.
    pub fn meshes(&self) -> Result<Vec<MeshTotals>, Error> {
        let db = self.db();
        let number = |sql: &str, mesh: &Mesh| Ok::<i64, Error>(db.first(sql, [mesh.id.as_str()], |row| row.get(0))?.unwrap_or(0));
        let with_totals = |mesh: Mesh| {
            Ok(MeshTotals {
                members: count(number("SELECT count(*) FROM member WHERE mesh_id = ?1 AND revoked_at IS NULL", &mesh)?),
                queued: count(number("SELECT copies FROM waiting WHERE mesh_id = ?1 AND recipient = ''", &mesh)?),
                queued_bytes: size(number("SELECT bytes FROM waiting WHERE mesh_id = ?1 AND recipient = ''", &mesh)?),
                audit_entries: audit::length(&db, &mesh.id)?,
                mesh,
            })
        };
        members::meshes(&db)?.into_iter().map(with_totals).collect()
    }

    /// What a mesh's audit log holds, in order: each event, and the member that caused it.
    pub fn audit_events(&self, mesh: &MeshId) -> Result<Vec<(String, Option<String>)>, Error> {
        audit::events(&self.db(), mesh)
    }

    /// Every member of a mesh, the longest-standing first.
    pub fn members(&self, mesh: &MeshId) -> Result<Vec<Member>, Error> {
        members::members(&self.db(), mesh.clone())
    }

    /// For whom most waits, at most so many.
    pub fn queue(&self, limit: usize) -> Result<Vec<WaitingRow>, Error> {
        self.db().all(
            "SELECT waiting.mesh_id, mesh.slug, recipient, coalesce(session.display_name, member.display_name), copies, bytes,
                    (SELECT created_at FROM delivery JOIN message ON message.seq = delivery.seq
                      WHERE delivery.mesh_id = waiting.mesh_id AND delivery.recipient = waiting.recipient
                      ORDER BY delivery.seq LIMIT 1)
               FROM waiting JOIN mesh ON mesh.id = waiting.mesh_id
               LEFT JOIN session ON session.mesh_id = waiting.mesh_id AND session.pubkey = recipient
               LEFT JOIN member ON member.mesh_id = waiting.mesh_id AND member.pubkey = recipient
              WHERE recipient <> '' AND 0 < copies ORDER BY bytes DESC, recipient LIMIT ?1",
            [limit_sql(limit)],
            |row| {
                Ok(WaitingRow {
                    mesh: MeshId::new(row.get::<_, String>(0)?),
                    slug: Slug::new(row.get::<_, String>(1)?),
                    recipient: row.get(2)?,
                    name: row.get(3)?,
                    copies: count(row.get(4)?),
                    bytes: size(row.get(5)?),
                    oldest: row.get(6)?,
                })
            },
        )
    }

    /// Whether the file is whole and every audit chain fits, all as of one moment.
    pub fn verify(&self) -> Result<Vec<Verdict>, Error> {
        self.conn.execute_batch("BEGIN")?;
        let checked = whole(&self.conn).and_then(|()| {
            let db = self.db();
            audit::chains(&db)?.into_iter().map(|mesh| audit::verify(&db, mesh)).collect()
        });
        self.conn.execute_batch("ROLLBACK")?;
        checked
    }

    /// Writes a copy of this moment to `file`, which must not be there yet. It is on the disk when this returns.
    pub fn backup(&self, file: &Path) -> Result<u64, Error> {
        let part = beside(file, ".part");
        copy(&self.conn, &part)?;
        // Fails where the name is taken, which a rename would not.
        let named = fs::hard_link(&part, file).map_err(Error::from);
        fs::remove_file(&part)?;
        named?;
        sync_directory(file)?;
        Ok(fs::metadata(file)?.len())
    }
}

/// The schema must be this program's own.
fn current(conn: &Connection) -> Result<(), Error> {
    let known = limit_sql(members::STEPS.len());
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match found {
        found if found == known => Ok(()),
        found if known < found => Err(Error::TooNew { found, known }),
        _ => Err(Error::Limit("it was written by an older program: start the broker on it once")),
    }
}

/// Looks at every page.
fn whole(conn: &Connection) -> Result<(), Error> {
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Error::Corrupt(found.split_whitespace().collect::<Vec<_>>().join(" "))) }
}

/// Writes a compact copy and syncs it.
fn copy(conn: &Connection, to: &Path) -> Result<(), Error> {
    match fs::remove_file(to) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err.into()),
        _ => {}
    }
    let name = to.to_str().ok_or(Error::Limit("the file's name is not UTF-8"))?;
    // It may be empty, so that it is private from its first byte on.
    db::make_private(to)?;
    let copied = conn.execute("VACUUM INTO ?1", [name]).map_err(Error::from).and_then(|_| Ok(fs::File::open(to)?.sync_all()?));
    if copied.is_err() {
        // The first error is the one worth reporting.
        let _ = fs::remove_file(to);
    }
    copied
}

fn sync_directory(file: &Path) -> Result<(), Error> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(fs::File::open(dir)?.sync_all()?)
}

/// Puts a backup in the place of a database that nobody has open. What was there is kept under the name that is returned.
pub fn restore(from: &Path, path: &Path) -> Result<Option<PathBuf>, Error> {
    dirs::umask_private();
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    current(&source)?;
    whole(&source)?;
    let part = beside(path, ".restored");
    copy(&source, &part)?;
    drop(source);
    let aside = match path.exists() {
        true => Some(keep(path)?),
        false => None,
    };
    for suffix in ["-wal", "-shm"] {
        match fs::remove_file(beside(path, suffix)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err.into()),
            _ => {}
        }
    }
    fs::rename(&part, path)?;
    sync_directory(path)?;
    damage::forget(path)?;
    Ok(aside)
}

/// A second name for what is there, its log copied back into it or beside it.
fn keep(path: &Path) -> Result<PathBuf, Error> {
    // One that is damaged keeps its log as it is.
    let folded = db::open(path, 2048).is_ok_and(|conn| {
        let busy = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        busy == Ok(0) && conn.close().is_ok()
    });
    let when: String = iso(now_millis()).chars().filter(char::is_ascii_alphanumeric).collect();
    let aside = beside(path, &format!(".before-{when}"));
    fs::hard_link(path, &aside)?;
    if !folded && beside(path, "-wal").exists() {
        fs::hard_link(beside(path, "-wal"), beside(&aside, "-wal"))?;
    }
    Ok(aside)
}

/// Gives back to the file system what deleted rows took up. Nobody else may have it open. Returns its size before and after.
pub fn compact(path: &Path) -> Result<(u64, u64), Error> {
    dirs::umask_private();
    let before = fs::metadata(path)?.len();
    let conn = db::open(path, 2048)?;
    current(&conn)?;
    conn.execute_batch("VACUUM")?;
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    conn.close().map_err(|(_, err)| Error::from(err))?;
    Ok((before, fs::metadata(path)?.len()))
}
