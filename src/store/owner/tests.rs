use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::reply::Answer;
use super::*;
use crate::base::thread::Joined;
use tempfile::tempdir;

fn add(db: &Db<'_>, x: i64) -> Result<(), Error> {
    db.execute("INSERT INTO t VALUES (?1)", [x]).map(drop)
}

fn add_then_fail(db: &Db<'_>, x: i64) -> Result<(), Error> {
    add(db, x)?;
    add(db, x)
}

fn fail(db: &Db<'_>) -> Result<(), Error> {
    db.execute("INSERT INTO numbers VALUES (NULL, NULL, NULL)", []).map(drop)
}

fn add_much(db: &Db<'_>, from: i64) -> Result<(), Error> {
    (from..from + 100_000).try_for_each(|x| add(db, x))
}

fn give_transaction_up(db: &Db<'_>) -> Result<(), Error> {
    db.execute("ROLLBACK", [])?;
    Err(Error::Full)
}

fn all(db: &Db<'_>) -> Result<Vec<i64>, Error> {
    db.all("SELECT x FROM t ORDER BY x", [], |row| row.get(0))
}

fn synchronous(db: &Db<'_>) -> Result<i64, Error> {
    Ok(db.first("SELECT synchronous FROM pragma_synchronous", [], |row| row.get(0))?.unwrap_or(-1))
}

fn limit_pages(db: &Db<'_>, pages: i64) -> Result<(), Error> {
    db.pragma(&format!("PRAGMA max_page_count = {pages}"))
}

/// Says that it has begun, stays until it is let go, and then takes the thread with it.
fn panic(_: &Db<'_>, entered: mpsc::Sender<()>, gate: mpsc::Receiver<()>) -> Result<(), Error> {
    let _ = entered.send(());
    let _ = gate.recv();
    std::panic::resume_unwind(Box::new(()))
}

fn meet_damage(_: &Db<'_>) -> Result<(), Error> {
    Err(Error::Corrupt("a page".to_owned()))
}

commands! {
    struct Numbers;
    Sync Add => add: fn add(x: i64) -> ();
    Lazy AddLazily => add: fn add_lazily(x: i64) -> ();
    Sync AddThenFail => add_then_fail: fn add_then_fail(x: i64) -> ();
    Sync [WithAll] AddWithAll => add: fn add_with_all(x: i64) -> ();
    Sync [WithAll] AddThenFailWithAll => add_then_fail: fn add_then_fail_with_all(x: i64) -> ();
    Sync [WithAll] FailWithAll => fail: fn fail_with_all() -> ();
    Sync AddMuch => add_much: fn add_much(from: i64) -> ();
    Sync GiveUp => give_transaction_up: fn give_up() -> ();
    Read All => all: fn all() -> Vec<i64>;
    Read Panic => panic: fn panic(entered: mpsc::Sender<()>, gate: mpsc::Receiver<()>) -> ();
    Read MeetDamage => meet_damage: fn meet_damage() -> ();
    Read Synchronous => synchronous: fn synchronous() -> i64;
    Read LimitPages => limit_pages: fn limit_pages(pages: i64) -> ();
}

const STEPS: &[Step] = &[|conn| Ok(conn.execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY)")?)];

fn open(path: &Path) -> (Numbers, Running) {
    let kind = Kind { thread: "store-test", cache_kib: 64, steps: STEPS, recover: |_| Ok(()), sum_up: |_| Ok(()) };
    let (caller, running) = start(path, &kind).unwrap();
    (Numbers(caller), running)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A command, and where its answer will be.
fn ask<T>(command: impl FnOnce(Reply<T>) -> Cmd) -> (Cmd, Answer<T>) {
    let (reply, answer) = reply::reply();
    (command(reply), answer)
}

/// Runs one batch on a fresh database and returns what is in it afterwards.
fn run_batch(batch: impl IntoIterator<Item = Cmd>) -> Vec<i64> {
    let dir = tempdir().unwrap();
    let conn = db::open(&dir.path().join("db"), 64).unwrap();
    migrate(&conn, STEPS).unwrap();
    let db = Db::new(&conn, &std::env::temp_dir());
    let file = File { path: PathBuf::new(), damaged: Arc::default(), sum_up: |_| Ok(()) };
    Owner { db: &db, file: &file, full_sync: true, wrote: false }.run(&mut batch.into_iter().map(Box::new).collect());
    assert!(!db.in_transaction());
    all(&db).unwrap()
}

#[test]
fn a_bad_command_does_not_undo_its_neighbours() {
    let (first, first_answer) = ask(|reply| Cmd::Add { x: 1, reply });
    let (bad, bad_answer) = ask(|reply| Cmd::AddThenFail { x: 2, reply });
    let (read, read_answer) = ask(|reply| Cmd::All { reply });
    let (last, last_answer) = ask(|reply| Cmd::AddLazily { x: 3, reply });
    assert_eq!(run_batch([first, bad, read, last]), [1, 3]);
    assert_eq!(first_answer.now(), Some(Ok(())));
    assert!(matches!(bad_answer.now(), Some(Err(Error::Sql(_)))));
    assert_eq!(read_answer.now(), Some(Ok(vec![1])));
    assert_eq!(last_answer.now(), Some(Ok(())));
}

#[test]
fn what_is_undone_with_all_takes_those_before_it_along_if_it_had_written() {
    let (first, first_answer) = ask(|reply| Cmd::AddWithAll { x: 1, reply });
    let (bad, bad_answer) = ask(|reply| Cmd::AddThenFailWithAll { x: 2, reply });
    let (last, last_answer) = ask(|reply| Cmd::AddWithAll { x: 3, reply });
    assert_eq!(run_batch([first, bad, last]), [3]);
    assert_eq!(first_answer.now(), Some(Err(Error::Undone)));
    assert!(matches!(bad_answer.now(), Some(Err(Error::Sql(_)))));
    assert_eq!(last_answer.now(), Some(Ok(())));

    let (first, first_answer) = ask(|reply| Cmd::AddWithAll { x: 1, reply });
    let (bad, bad_answer) = ask(|reply| Cmd::FailWithAll { reply });
    assert_eq!(run_batch([first, bad]), [1]);
    assert_eq!(first_answer.now(), Some(Ok(())));
    assert!(matches!(bad_answer.now(), Some(Err(Error::Sql(_)))));
}

#[test]
fn when_sqlite_gives_the_transaction_up_those_before_fail_and_those_after_run() {
    let (first, first_answer) = ask(|reply| Cmd::Add { x: 1, reply });
    let (lost, lost_answer) = ask(|reply| Cmd::GiveUp { reply });
    let (last, last_answer) = ask(|reply| Cmd::Add { x: 3, reply });
    assert_eq!(run_batch([first, lost, last]), [3]);
    assert_eq!(first_answer.now(), Some(Err(Error::Full)));
    assert_eq!(lost_answer.now(), Some(Err(Error::Full)));
    assert_eq!(last_answer.now(), Some(Ok(())));
}

#[test]
fn nothing_is_answered_that_is_not_committed() {
    let dir = tempdir().unwrap();
    let (numbers, _running) = open(&dir.path().join("db"));
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            let numbers = numbers.clone();
            std::thread::spawn(move || {
                for n in 0..20 {
                    let x = thread * 20 + n;
                    numbers.add(x).unwrap();
                    assert!(numbers.all().unwrap().contains(&x));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // What a kill would leave behind: the file and its log as they are.
    let copy = tempdir().unwrap();
    for name in ["db", "db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let (survived, _running) = open(&copy.path().join("db"));
    assert_eq!(survived.all().unwrap(), (0..320).collect::<Vec<_>>());
}

#[test]
fn only_durable_commands_wait_for_the_disk_and_the_thread_outlives_failures() {
    let dir = tempdir().unwrap();
    let (numbers, _running) = open(&dir.path().join("db"));
    numbers.add(1).unwrap();
    assert_eq!(numbers.synchronous(), Ok(2));
    numbers.add_lazily(2).unwrap();
    assert_eq!(numbers.synchronous(), Ok(1));
    numbers.add(3).unwrap();
    assert_eq!(numbers.synchronous(), Ok(2));
    assert!(matches!(numbers.add_then_fail(4), Err(Error::Sql(_))));
    assert!(matches!(numbers.add_then_fail_with_all(4), Err(Error::Sql(_))));
    assert!(matches!(numbers.fail_with_all(), Err(Error::Sql(_))));
    assert_eq!(numbers.give_up(), Err(Error::Full));
    numbers.add_with_all(4).unwrap();
    assert_eq!(numbers.all(), Ok(vec![1, 2, 3, 4]));
}

#[test]
fn a_full_disk_is_an_error_that_passes() {
    let dir = tempdir().unwrap();
    let (numbers, _running) = open(&dir.path().join("db"));
    numbers.limit_pages(20).unwrap();
    numbers.add(-1).unwrap();
    assert_eq!(numbers.add_much(0), Err(Error::Full));
    numbers.limit_pages(100_000).unwrap();
    assert_eq!(numbers.all(), Ok(vec![-1]));
    numbers.add(-2).unwrap();
}

#[test]
fn another_writer_delays_writing_but_not_reading() {
    let dir = tempdir().unwrap();
    let (numbers, _running) = open(&dir.path().join("db"));
    numbers.add(1).unwrap();
    let other = Connection::open(dir.path().join("db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(numbers.all(), Ok(vec![1]));
    let writer = std::thread::spawn({
        let numbers = numbers.clone();
        move || numbers.add(3)
    });
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(writer.join().unwrap(), Ok(()));
    assert_eq!(numbers.all(), Ok(vec![1, 2, 3]));
}

#[test]
fn the_thread_ends_with_the_last_handle_and_leaves_one_private_file() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (numbers, running) = open(&path);
    numbers.add(1).unwrap();
    for name in ["db", "db-wal", "db-shm"] {
        assert_eq!(std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(running.name(), "store-test");
    let other = numbers.clone();
    drop(numbers);
    assert_eq!(other.all(), Ok(vec![1]));
    drop(other);
    assert_eq!(running.join_by(soon()), Joined::Ended(()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn nobody_waits_for_a_thread_that_is_gone() {
    let dir = tempdir().unwrap();
    let (numbers, running) = open(&dir.path().join("db"));
    let (entered, inside) = mpsc::channel();
    let (go, gate) = mpsc::channel();
    let lost = std::thread::spawn({
        let numbers = numbers.clone();
        move || numbers.panic(entered, gate)
    });
    inside.recv_timeout(Duration::from_secs(30)).unwrap();
    let (queued, queued_answer) = ask(|reply| Cmd::Add { x: 1, reply });
    assert!(numbers.0.queue.send(Box::new(queued)).is_ok());
    go.send(()).unwrap();
    assert_eq!(running.join_by(soon()), Joined::Panicked);
    assert_eq!((lost.join().unwrap(), queued_answer.now()), (Err(Error::Closed), Some(Err(Error::Closed))));
    assert_eq!(numbers.add(2), Err(Error::Closed));
}

#[test]
fn what_is_no_database_or_cannot_be_written_is_named() {
    let dir = tempdir().unwrap();
    let kind = Kind { thread: "store-test", cache_kib: 64, steps: STEPS, recover: |_| Ok(()), sum_up: |_| Ok(()) };
    std::fs::write(dir.path().join("text"), "this is not a database, however long it goes on".repeat(100)).unwrap();
    let err = start::<Cmd>(&dir.path().join("text"), &kind).map(drop).unwrap_err();
    assert!(matches!(err, Error::Corrupt(_)) && err.is_fatal(), "{err}");
    let err = start::<Cmd>(&dir.path().join("absent/db"), &kind).map(drop).unwrap_err();
    assert!(matches!(err, Error::Io(_)) && !err.is_fatal(), "{err}");
}

#[test]
fn damage_is_remembered_until_the_whole_file_was_looked_at() {
    let dir = tempdir().unwrap();
    let (numbers, running) = open(&dir.path().join("db"));
    numbers.add(1).unwrap();
    assert!(!numbers.is_damaged());
    assert!(matches!(numbers.meet_damage(), Err(Error::Corrupt(_))));
    assert!(numbers.is_damaged());
    drop(numbers);
    assert_eq!(running.join_by(soon()), Joined::Ended(()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "the file and its mark");
    let (numbers, _running) = open(&dir.path().join("db"));
    assert_eq!((numbers.is_damaged(), dir.path().join("db-damaged").exists()), (false, false), "all of it is well");
    assert_eq!(numbers.all(), Ok(vec![1]));
}

#[test]
fn statements_are_kept_but_not_without_end() {
    let conn = Connection::open_in_memory().unwrap();
    let db = Db::new(&conn, &std::env::temp_dir());
    for n in 0..200 {
        assert_eq!(db.first(&format!("SELECT {n} + ?1"), [1], |row| row.get::<_, i64>(0)).unwrap(), Some(n + 1));
    }
    // The same text twice at once is two statements.
    let (mut one, mut two) = (db.prepare("SELECT ?1").unwrap(), db.prepare("SELECT ?1").unwrap());
    assert_eq!(one.query_row([1], |row| row.get::<_, i64>(0)).unwrap(), 1);
    assert_eq!(two.query_row([2], |row| row.get::<_, i64>(0)).unwrap(), 2);
}
