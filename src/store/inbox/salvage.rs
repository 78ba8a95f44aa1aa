//! What can still be read of a damaged inbox is carried over into a new one.

use std::path::Path;

use rusqlite::{Connection, params};

use super::schema;
use crate::store::migrate::migrate;
use crate::store::{Error, db};

/// Rows copied in one step where nothing is damaged.
const STEP: i64 = 256;

/// Where looking for readable rows behind unreadable ones ends.
const FARTHEST: i64 = 1 << 40;

/// Copies every row of `damaged` that can be read into the new inbox at `path`, in its place. Returns how many.
pub(super) fn salvage(damaged: &Path, path: &Path, cache_kib: u32) -> Result<usize, Error> {
    let conn = db::open(path, cache_kib)?;
    migrate(&conn, schema::STEPS)?;
    let Some(columns) = attach(&conn, damaged) else { return Ok(0) };
    let mut copied = 0;
    let (mut after, mut step, mut skip) = (0, STEP, 1);
    while after < FARTHEST {
        match copy(&conn, &columns, after, step) {
            Ok(None) => break,
            Ok(Some((last, count))) => {
                copied += count;
                (after, step, skip) = (last, (step * 2).min(STEP), 1);
            }
            Err(Error::Corrupt(_)) if 1 < step => step /= 2,
            Err(Error::Corrupt(_)) => {
                after += skip;
                skip *= 2;
            }
            Err(err) => return Err(err),
        }
    }
    conn.execute_batch("UPDATE inbox_counter SET last_seq = max(last_seq, (SELECT coalesce(max(seq), 0) FROM inbox))")?;
    Ok(copied)
}

/// The columns that both have, if the damaged file can be opened at all.
fn attach(conn: &Connection, damaged: &Path) -> Option<String> {
    conn.execute("ATTACH ?1 AS damaged", [damaged.to_str()?]).ok()?;
    let sql = "SELECT group_concat(name) FROM (SELECT name FROM pragma_table_info('inbox', 'damaged')
                INTERSECT SELECT name FROM pragma_table_info('inbox', 'main'))";
    conn.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).ok().flatten()
}

/// Copies up to `step` rows behind the row `after`: the last of them, and how many were new. `None` if there are none.
fn copy(conn: &Connection, columns: &str, after: i64, step: i64) -> Result<Option<(i64, usize)>, Error> {
    let last: Option<i64> = conn.query_row(
        "SELECT max(rowid) FROM (SELECT rowid FROM damaged.inbox NOT INDEXED WHERE rowid > ?1 ORDER BY rowid LIMIT ?2)",
        params![after, step],
        |row| row.get(0),
    )?;
    let Some(last) = last else { return Ok(None) };
    let sql = format!(
        "INSERT OR IGNORE INTO main.inbox (rowid, {columns})
         SELECT rowid, {columns} FROM damaged.inbox NOT INDEXED WHERE rowid > ?1 AND rowid <= ?2"
    );
    Ok(Some((last, conn.execute(&sql, params![after, last])?)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::tests::message;
    use super::super::{Filter, Inbox, Inserted, Scope};
    use super::*;
    use crate::base::thread::{Joined, Running};
    use crate::store::Seq;
    use tempfile::{TempDir, tempdir};

    const MESSAGES: u64 = 2000;

    fn close(inbox: Inbox, running: Running) {
        drop(inbox);
        assert_eq!(running.join_by(Instant::now() + Duration::from_secs(10)), Joined::Ended(()));
    }

    /// Everything in the inbox: each row's place and its client id.
    fn all(inbox: &Inbox) -> Result<Vec<(u64, String)>, Error> {
        let mut found = Vec::new();
        loop {
            let after = Seq(found.last().map_or(0, |(seq, _)| *seq));
            let page = inbox.since(after, Scope::Everything, 500)?;
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page.into_iter().map(|row| (row.seq.0, row.client_id.to_string())));
        }
    }

    fn asides(dir: &TempDir) -> usize {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("inbox.db.corrupt-") && !name.contains("-wal") && !name.contains("-shm")).count()
    }

    #[test]
    fn what_can_be_read_of_a_damaged_inbox_is_kept() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("inbox.db");
        let (inbox, running) = Inbox::open(&path).unwrap();
        let messages = (0..MESSAGES).map(|n| message(&format!("m-{n}"), 1)).collect();
        assert!(inbox.insert(messages).unwrap().iter().all(|inserted| matches!(inserted, Inserted::New(_))));
        close(inbox, running);
        let good = std::fs::read(&path).unwrap();

        // Eight pages of noise where the rows are.
        let mut bad = good.clone();
        let middle = good.len() / 2 / 4096 * 4096;
        bad[middle..middle + 8 * 4096].iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 31 % 251).to_le_bytes()[0]);
        std::fs::write(&path, &bad).unwrap();
        let (inbox, running) = Inbox::open(&path).unwrap();
        let everything = Filter { text: Some("no such text".to_owned()), ..Filter::newest(Scope::Everything, 1000) };
        let (looked, listed) = (inbox.list(everything, None), all(&inbox));
        assert!(matches!(looked, Err(Error::Corrupt(_))) || matches!(listed, Err(Error::Corrupt(_))), "{looked:?}");
        assert!(inbox.is_damaged());
        close(inbox, running);

        // A copy that is well is put back.
        std::fs::write(&path, &good).unwrap();
        let (inbox, running) = Inbox::open(&path).unwrap();
        assert_eq!(all(&inbox).unwrap().len() as u64, MESSAGES);
        assert!(!inbox.is_damaged());
        close(inbox, running);
        assert_eq!(asides(&dir), 0);

        // Nobody does anything.
        std::fs::write(&path, &bad).unwrap();
        let (inbox, running) = Inbox::open(&path).unwrap();
        assert!(all(&inbox).is_err() || inbox.list(Filter::newest(Scope::Everything, 1000), None).is_err());
        close(inbox, running);
        let (inbox, running) = Inbox::open(&path).unwrap();
        let kept = all(&inbox).unwrap();
        let count = kept.len() as u64;
        assert!(MESSAGES / 2 < count && count < MESSAGES, "{count}");
        assert!(kept.iter().all(|(seq, id)| *id == format!("m-{}", seq - 1)), "each in its place");
        assert_eq!(asides(&dir), 1);
        let last = kept.last().unwrap().0;
        assert!(matches!(inbox.insert(vec![message("new", 1)]).unwrap()[0], Inserted::New(Seq(seq)) if last < seq));
        close(inbox, running);

        // Beyond any reading.
        std::fs::write(&path, "no database at all".repeat(1000)).unwrap();
        let (inbox, running) = Inbox::open(&path).unwrap();
        assert_eq!(all(&inbox).unwrap(), []);
        close(inbox, running);
        assert_eq!(asides(&dir), 2);
    }
}
