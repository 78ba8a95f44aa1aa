//! Schema versions, in `PRAGMA user_version`. The reference's daemon leaves it at 0 whatever the shape of its tables, so the
//! first step of each database accepts every shape there has been.

use rusqlite::Connection;

use super::error::Error;

/// Takes the schema from one version to the next, inside a transaction.
pub(super) type Step = fn(&Connection) -> Result<(), Error>;

/// Brings the schema up to date: step `n` leads to version `n + 1`. All of it happens or none of it. A file from a newer
/// program is left alone.
pub(super) fn migrate(conn: &Connection, steps: &[Step]) -> Result<(), Error> {
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if known < found {
        return Err(Error::TooNew { found, known });
    }
    if found == known {
        return Ok(());
    }
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let done = usize::try_from(found).unwrap_or(0);
    let outcome = steps.iter().skip(done).try_for_each(|step| step(conn)).and_then(|()| {
        conn.pragma_update(None, "user_version", known)?;
        Ok(conn.execute_batch("COMMIT")?)
    });
    if outcome.is_err() && !conn.is_autocommit() {
        // The first error is the one worth reporting.
        let _ = conn.execute_batch("ROLLBACK");
    }
    outcome
}

/// Adds to `table` those of `columns` (name and type) that it lacks.
pub(super) fn add_columns(conn: &Connection, table: &str, columns: &[(&str, &str)]) -> Result<(), Error> {
    let present: Vec<String> = conn
        .prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for (name, kind) in columns {
        if !present.iter().any(|column| column == name) {
            conn.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {name} {kind}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_run_once_all_or_none_and_never_backwards() {
        let first: Step = |conn| Ok(conn.execute_batch("CREATE TABLE one (x)")?);
        let broken: Step = |conn| Ok(conn.execute_batch("CREATE TABLE two (x); CREATE TABLE one (x)")?);
        let second: Step = |conn| Ok(conn.execute_batch("CREATE TABLE two (x)")?);
        let conn = Connection::open_in_memory().unwrap();
        let tables = || conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).unwrap();

        migrate(&conn, &[first]).unwrap();
        migrate(&conn, &[first]).unwrap();
        assert!(matches!(migrate(&conn, &[first, broken]), Err(Error::Sql(_))));
        assert_eq!(tables(), 1);
        migrate(&conn, &[first, second]).unwrap();
        assert_eq!(tables(), 2);
        assert_eq!(migrate(&conn, &[first]), Err(Error::TooNew { found: 2, known: 1 }));
        add_columns(&conn, "one", &[("x", "TEXT"), ("y", "TEXT")]).unwrap();
        assert_eq!(conn.query_row("SELECT count(*) FROM pragma_table_info('one')", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    }
}
