use rusqlite::Connection;

use super::*;
use crate::base::ids::PublicKey;
use tempfile::{TempDir, tempdir};

pub(super) fn route(sender: Option<u8>) -> Route {
    let sender = sender.map_or(Sender::Member, |byte| Sender::Session(SessionKey(PublicKey::from_bytes([byte; 32]))));
    Route { mesh: Slug::new("home"), sender }
}

pub(super) fn row(id: &str, target: &str, now: Millis) -> NewRow {
    NewRow {
        id: RowId::new(format!("row-{id}")),
        client_id: ClientId::new(id),
        fingerprint: [1; 32],
        payload: b"hello".to_vec(),
        route: route(None),
        membership: Membership { mesh: MeshId::new("m"), member: MemberKey(PublicKey::from_bytes([9; 32])) },
        target: target.to_owned(),
        nonce: "n".to_owned(),
        ciphertext: format!("sealed {id}"),
        priority: Priority::Now,
        reply_to: Some("r".to_owned()),
        meta: Some("{}".to_owned()),
        now,
    }
}

pub(super) fn open() -> (TempDir, Outbox) {
    let dir = tempdir().unwrap();
    let outbox = Outbox::open(&dir.path().join("outbox.db")).unwrap().0;
    (dir, outbox)
}

/// The client ids that a claim takes.
pub(super) fn claim(outbox: &Outbox, route: &Route, now: Millis, limit: usize) -> Vec<String> {
    outbox.claim(route.clone(), now, limit).unwrap().rows.into_iter().map(|row| row.client_id.to_string()).collect()
}

pub(super) fn settle(outbox: &Outbox, id: &str, outcome: Outcome) {
    outbox.settle(vec![(RowId::new(format!("row-{id}")), outcome)]).unwrap();
}

fn later(at: Millis) -> Outcome {
    Outcome::Later { at, error: "busy".to_owned() }
}

fn listing(status: Option<Status>, limit: usize) -> Filter {
    Filter { status, sender: None, limit }
}

fn statuses(outbox: &Outbox) -> Vec<(String, Status)> {
    outbox.list(listing(None, 500)).unwrap().into_iter().rev().map(|row| (row.client_id.to_string(), row.status)).collect()
}

#[test]
fn one_row_per_client_id() {
    let (_dir, outbox) = open();
    assert_eq!(outbox.accept(row("a", "t", 5)), Ok(Accepted::New));
    let again = NewRow { id: RowId::new("other"), fingerprint: [2; 32], ..row("a", "u", 6) };
    let mesh = Some(Slug::new("home"));
    let existing = Existing { status: Status::Pending, fingerprint: [1; 32], broker_id: None, mesh, sender: Sender::Member };
    assert_eq!(outbox.accept(again), Ok(Accepted::Existing(existing.clone())));
    assert_eq!(outbox.find(ClientId::new("a")), Ok(Some(existing)));
    assert_eq!(outbox.find(ClientId::new("b")), Ok(None));
    // Another message under a row id that is taken is the caller's mistake, and hurts nobody else.
    assert!(matches!(outbox.accept(NewRow { client_id: ClientId::new("b"), ..row("a", "t", 5) }), Err(Error::Sql(_))));

    let claimed = outbox.claim(route(None), 5, 10).unwrap().rows;
    let expected = Row {
        membership: Some(row("a", "t", 5).membership),
        id: RowId::new("row-a"),
        client_id: ClientId::new("a"),
        fingerprint: [1; 32],
        target: "t".to_owned(),
        nonce: "n".to_owned(),
        ciphertext: "sealed a".to_owned(),
        text: None,
        priority: Priority::Now,
        reply_to: Some("r".to_owned()),
        meta: Some("{}".to_owned()),
        attempts: 1,
        enqueued_at: 5,
    };
    assert_eq!(claimed, [expected]);
    settle(&outbox, "a", Outcome::Done { broker_id: MessageId::new("m"), at: 9, told: true });
    let mesh = Some(Slug::new("home"));
    let broker_id = Some(MessageId::new("m"));
    let done = Existing { status: Status::Done, fingerprint: [1; 32], broker_id, mesh, sender: Sender::Member };
    assert_eq!(outbox.accept(row("a", "t", 10)), Ok(Accepted::Existing(done)));
    let listed = outbox.list(listing(Some(Status::Done), 0)).unwrap().remove(0);
    assert_eq!((listed.payload_bytes, listed.delivered_at, listed.last_error), (0, Some(9), None));
}

#[test]
fn what_a_broker_has_is_done_although_its_claim_was_lost() {
    let (_dir, outbox) = open();
    outbox.accept(row("a", "t", 5)).unwrap();
    settle(&outbox, "a", Outcome::Done { broker_id: MessageId::new("m"), at: 9, told: true });
    assert_eq!(outbox.list(listing(Some(Status::Done), 9)).unwrap().len(), 1);
    assert_eq!(claim(&outbox, &route(None), 10, 10), [""; 0]);
}

#[test]
fn rows_of_one_recipient_stay_in_order_and_others_pass() {
    let (_dir, outbox) = open();
    for (id, target) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("a3", "a")] {
        outbox.accept(row(id, target, 10)).unwrap();
    }
    assert_eq!(claim(&outbox, &route(None), 9, 10), [""; 0]);
    let first = outbox.claim(route(None), 10, 3).unwrap();
    assert_eq!(first.rows.iter().map(|row| row.client_id.as_str()).collect::<Vec<_>>(), ["a1", "b1", "a2"]);
    assert_eq!(first.next_due, Some(10));
    // a1 must wait: everything for `a` waits with it, due or not.
    settle(&outbox, "a1", later(50));
    settle(&outbox, "a2", Outcome::Returned);
    let second = outbox.claim(route(None), 20, 10).unwrap();
    assert_eq!(second.rows.iter().map(|row| row.client_id.as_str()).collect::<Vec<_>>(), ["b2"]);
    assert_eq!(second.next_due, Some(50));
    let third = outbox.claim(route(None), 50, 10).unwrap();
    let attempts: Vec<_> = third.rows.iter().map(|row| (row.client_id.as_str(), row.attempts)).collect();
    assert_eq!(attempts, [("a1", 2), ("a2", 1), ("a3", 1)]);
    assert_eq!(third.next_due, None);
}

#[test]
fn a_claim_takes_its_own_route_only() {
    let (_dir, outbox) = open();
    let elsewhere = Route { mesh: Slug::new("work"), sender: Sender::Member };
    for (id, route) in [("m", route(None)), ("s", route(Some(1))), ("z", route(Some(2))), ("w", elsewhere.clone())] {
        outbox.accept(NewRow { route, ..row(id, "t", 1) }).unwrap();
    }
    settle(&outbox, "m", Outcome::Dead { error: "not in flight".to_owned(), at: 1 });
    let all = [(route(None), 1), (route(Some(1)), 1), (route(Some(2)), 1), (elsewhere.clone(), 1)];
    assert_eq!(outbox.routes_with_work(), Ok(all.to_vec()));
    assert_eq!(claim(&outbox, &route(Some(1)), 1, 10), ["s"]);
    assert_eq!(claim(&outbox, &elsewhere, 1, 10), ["w"]);
    assert_eq!(outbox.routes_with_work(), Ok(vec![(route(None), 1), (route(Some(2)), 1)]));
    assert_eq!(claim(&outbox, &route(None), 1, 10), ["m"]);
}

#[test]
fn what_waits_can_be_woken() {
    let (_dir, outbox) = open();
    outbox.accept(NewRow { route: route(Some(1)), ..row("a", "a", 1) }).unwrap();
    outbox.accept(NewRow { route: route(Some(1)), ..row("b", "b", 1) }).unwrap();
    outbox.accept(row("c", "b", 1)).unwrap();
    assert_eq!(claim(&outbox, &route(Some(1)), 1, 10), ["a", "b"]);
    settle(&outbox, "a", later(1000));
    settle(&outbox, "b", later(1000));
    assert_eq!(outbox.wake_target(Slug::new("home"), "b".to_owned(), 7), Ok(vec![route(None), route(Some(1))]));
    assert_eq!(outbox.wake_target(Slug::new("work"), "b".to_owned(), 7), Ok(vec![]));
    assert_eq!(claim(&outbox, &route(Some(1)), 7, 10), ["b"]);
    assert_eq!(outbox.wake_route(route(Some(1)), 1000, 8), Ok(0));
    assert_eq!(outbox.wake_route(route(Some(1)), 999, 8), Ok(1));
    assert_eq!(claim(&outbox, &route(Some(1)), 8, 10), ["a"]);
}

#[test]
fn a_row_whose_claimer_vanished_is_taken_again() {
    let (dir, outbox) = open();
    outbox.accept(row("a", "t", 1)).unwrap();
    assert_eq!(claim(&outbox, &route(None), 1, 10), ["a"]);
    assert_eq!(claim(&outbox, &route(None), LEASE_MILLIS, 10), [""; 0]);
    assert_eq!(claim(&outbox, &route(None), LEASE_MILLIS + 1, 10), ["a"]);
    // A claim is answered before its commit, and what is asked next after it.
    outbox.routes_with_work().unwrap();
    // As after a kill.
    let copy = tempdir().unwrap();
    for name in ["outbox.db", "outbox.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let (outbox, _running) = Outbox::open(&copy.path().join("outbox.db")).unwrap();
    let claimed = outbox.claim(route(None), 2, 10).unwrap().rows;
    assert_eq!((claimed.len(), claimed[0].attempts), (1, 2));
}

#[test]
fn requeue_keeps_everything_but_the_ids() {
    let (_dir, outbox) = open();
    outbox.accept(NewRow { route: route(Some(3)), ..row("a", "t", 1) }).unwrap();
    outbox.accept(row("taken", "t", 1)).unwrap();
    let requeue = |row: &str, id: &str| {
        outbox.requeue(RowId::new(row), None, ClientId::new(id), "operator".to_owned(), 40, RowId::new(format!("row-{id}")))
    };
    assert_eq!(requeue("row-a", "taken"), Ok(Requeued::IdTaken));
    assert_eq!(requeue("row-x", "b"), Ok(Requeued::NotRequeueable));
    assert_eq!(claim(&outbox, &route(Some(3)), 1, 1), ["a"]);
    assert_eq!(requeue("row-a", "b"), Ok(Requeued::OnItsWay), "the broker may have it, and would have two");
    settle(&outbox, "a", later(2));
    assert_eq!(requeue("row-a", "b"), Ok(Requeued::Requeued(route(Some(3)))));
    assert_eq!(requeue("row-a", "c"), Ok(Requeued::NotRequeueable));
    // What was sent again in its stead is what counts: an ack comes too late to bring it back.
    settle(&outbox, "a", Outcome::Done { broker_id: MessageId::new("m"), at: 41, told: false });
    let old = outbox.list(listing(Some(Status::Aborted), 50)).unwrap().remove(0);
    assert_eq!(old.superseded_by, Some(RowId::new("row-b")));
    assert_eq!((old.aborted_at, old.aborted_by.as_deref()), (Some(40), Some("operator")));
    let claimed = outbox.claim(route(Some(3)), 40, 10).unwrap().rows.remove(0);
    let expected = row("a", "t", 1);
    assert_eq!((claimed.ciphertext, claimed.reply_to, claimed.meta), (expected.ciphertext, expected.reply_to, expected.meta));
    assert_eq!((claimed.priority, claimed.attempts, claimed.enqueued_at), (Priority::Now, 1, 40));
    assert_eq!(outbox.abort(RowId::new("row-b"), None, "me".to_owned(), 42), Ok(true));
    assert_eq!(outbox.abort(RowId::new("row-b"), None, "me".to_owned(), 42), Ok(false));
    assert_eq!(outbox.counts(), Ok(OutboxCounts { pending: 1, aborted: 2, ..OutboxCounts::default() }));
}

#[test]
fn what_was_given_up_on_its_way_is_done_if_the_broker_has_it() {
    let (_dir, outbox) = open();
    for id in ["a", "b", "c"] {
        outbox.accept(row(id, id, 1)).unwrap();
    }
    assert_eq!(claim(&outbox, &route(None), 1, 2), ["a", "b"]);
    for id in ["row-a", "row-b", "row-c"] {
        assert_eq!(outbox.abort(RowId::new(id), None, "me".to_owned(), 2), Ok(true));
    }
    settle(&outbox, "a", Outcome::Done { broker_id: MessageId::new("m"), at: 3, told: true });
    settle(&outbox, "b", Outcome::Returned);
    assert_eq!(outbox.counts(), Ok(OutboxCounts { done: 1, aborted: 2, ..OutboxCounts::default() }), "nothing goes out again");
    let done = outbox.show("a".into(), None).unwrap().unwrap();
    assert_eq!((done.text, done.listed.broker_id), (None, Some(MessageId::new("m"))), "its text is dropped");
    assert_eq!((done.listed.aborted_at, done.listed.aborted_by), (None, None));
}

#[test]
fn each_sender_sees_and_touches_its_own_rows() {
    let (_dir, outbox) = open();
    let session = route(Some(1)).sender;
    outbox.accept(NewRow { route: route(Some(1)), ..row("a", "t", 1) }).unwrap();
    outbox.accept(row("b", "t", 2)).unwrap();
    let ids = |sender, status| {
        let filter = Filter { status, sender, limit: 50 };
        outbox.list(filter).unwrap().into_iter().map(|row| row.client_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (ids(None, None), ids(Some(session), None), ids(Some(Sender::Member), None)),
        (vec!["b".into(), "a".into()], vec!["a".into()], vec!["b".into()])
    );
    assert_eq!(ids(Some(session), Some(Status::Pending)), ["a"]);
    assert_eq!(outbox.show("b".into(), Some(session)), Ok(None));
    let shown = outbox.show("row-a".into(), Some(session)).unwrap().unwrap();
    assert_eq!(
        (shown.text.as_deref(), shown.reply_to.as_deref(), shown.listed.target.as_deref()),
        (Some("hello"), Some("r"), Some("t"))
    );
    assert_eq!(
        outbox.show("a".into(), None).unwrap().map(|row| row.listed.id),
        Some(RowId::new("row-a")),
        "by its client id too"
    );
    let requeue = |sender| outbox.requeue(RowId::new("row-b"), sender, ClientId::new("c"), "me".into(), 3, RowId::new("row-c"));
    assert_eq!(requeue(Some(session)), Ok(Requeued::NotRequeueable));
    assert_eq!(outbox.abort(RowId::new("row-b"), Some(session), "me".into(), 3), Ok(false));
    assert_eq!(outbox.abort(RowId::new("row-b"), Some(Sender::Member), "me".into(), 3), Ok(true));
    assert_eq!(outbox.clear(Status::Aborted, Some(session), 10), Ok(0));
    assert_eq!(outbox.clear(Status::Pending, None, 10), Ok(0), "what may still be sent stays");
    assert_eq!(outbox.clear(Status::Aborted, None, 10), Ok(1));
    assert_eq!(ids(None, None), ["a"]);
}

#[test]
fn old_rows_are_given_up_and_pruned() {
    let (_dir, outbox) = open();
    let day = 86_400_000;
    for n in 0..5 {
        outbox.accept(row(&n.to_string(), "t", n * day)).unwrap();
    }
    assert_eq!(claim(&outbox, &route(None), 5 * day, 1), ["0"]);
    settle(&outbox, "0", Outcome::Done { broker_id: MessageId::new("m"), at: 2 * day, told: false });
    assert_eq!(outbox.give_up(7 * day, 10 * day), Ok(2));
    assert_eq!(outbox.give_up(7 * day, 10 * day), Ok(0));
    let dead = outbox.list(listing(Some(Status::Dead), 50)).unwrap();
    assert_eq!(dead[0].last_error.as_deref(), Some("expired: not delivered within 7 days"));
    assert_eq!(outbox.prune(2 * day), Ok(0));
    assert_eq!(outbox.prune(2 * day + 1), Ok(1));
    let (dead, pending) = (Status::Dead, Status::Pending);
    let left = [("1", dead), ("2", dead), ("3", pending), ("4", pending)].map(|(id, status)| (id.to_owned(), status));
    assert_eq!(statuses(&outbox), left);
    assert_eq!(outbox.counts(), Ok(OutboxCounts { pending: 2, dead: 2, ..OutboxCounts::default() }));
    // Whoever was away for long still finds out what became of it: the days count from when it was given up.
    assert_eq!(outbox.prune_dead(10 * day), Ok(0));
    assert_eq!(outbox.prune_dead(10 * day + 1), Ok(2));
    assert_eq!(statuses(&outbox), [("3", pending), ("4", pending)].map(|(id, status)| (id.to_owned(), status)));
}

/// The reference's table with all or some of the columns that it added over time, and one row in each status.
fn legacy(path: &Path, added: &[&str]) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "CREATE TABLE outbox (id TEXT PRIMARY KEY, client_message_id TEXT NOT NULL UNIQUE, request_fingerprint BLOB NOT NULL,
           payload BLOB NOT NULL, enqueued_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
           next_attempt_at INTEGER NOT NULL, status TEXT NOT NULL CHECK(status IN ('pending','inflight','done','dead','aborted')),
           last_error TEXT, delivered_at INTEGER, broker_message_id TEXT, aborted_at INTEGER, aborted_by TEXT,
           superseded_by TEXT);",
    )
    .unwrap();
    for column in added {
        conn.execute_batch(&format!("ALTER TABLE outbox ADD COLUMN {column} TEXT")).unwrap();
    }
    for (n, status) in Status::ALL.into_iter().enumerate() {
        let insert = "INSERT INTO outbox (id, client_message_id, request_fingerprint, payload, enqueued_at, attempts,
            next_attempt_at, status) VALUES ('row-' || ?1, ?1, zeroblob(32), 'x', ?2, 1, 5, ?1)";
        conn.execute(insert, rusqlite::params![status.as_str(), i64::try_from(n).unwrap()]).unwrap();
    }
    if added.contains(&"mesh") {
        conn.execute_batch("UPDATE outbox SET mesh = 'home', target_spec = 't', nonce = 'n', ciphertext = 'c'").unwrap();
    }
}

#[test]
fn every_shape_of_the_references_table_opens() {
    const ROUTING: &[&str] = &["mesh", "target_spec", "nonce", "ciphertext", "priority"];
    let complete = [ROUTING, &["sender_session_pubkey"]].concat();
    for added in [&[], ROUTING, complete.as_slice()] {
        let dir = tempdir().unwrap();
        let path = dir.path().join("outbox.db");
        legacy(&path, added);
        let (outbox, _running) = Outbox::open(&path).unwrap();
        let waiting = if added.is_empty() { Status::Dead } else { Status::Pending };
        let expected = [waiting, waiting, Status::Done, Status::Dead, Status::Aborted];
        assert_eq!(statuses(&outbox).into_iter().map(|(_, status)| status).collect::<Vec<_>>(), expected, "{added:?}");
        assert_eq!(outbox.counts().unwrap().pending, if added.is_empty() { 0 } else { 2 });
        let claimed = outbox.claim(route(None), 5, 10).unwrap().rows;
        if added.is_empty() {
            assert_eq!(claimed, []);
            let dead = outbox.list(listing(Some(Status::Dead), 50)).unwrap();
            assert!(dead.iter().any(|row| row.last_error.as_deref() == Some(schema::NO_ROUTE)));
            let retry = outbox.requeue(RowId::new("row-pending"), None, ClientId::new("n"), "x".into(), 1, RowId::new("n"));
            assert_eq!(retry, Ok(Requeued::NotRequeueable));
        } else {
            // The crash's attempt does not count; the one before it does.
            assert_eq!(claimed.iter().map(|row| row.attempts).collect::<Vec<_>>(), [2, 1]);
            assert_eq!(claimed[0].priority, Priority::Next);
        }
        // What the reference inserts into the file afterwards.
        let reference = Connection::open(&path).unwrap();
        let insert = "INSERT INTO outbox (id, client_message_id, request_fingerprint, payload, enqueued_at, next_attempt_at,
            status, mesh, target_spec, nonce) VALUES ('new', 'new', zeroblob(32), 'x', 0, 0, 'pending', 'home', 't', 'n')";
        reference.execute_batch(insert).unwrap();
        assert_eq!(claim(&outbox, &route(None), 5, 10), [""; 0]);
        assert_eq!(outbox.find(ClientId::new("new")).unwrap().unwrap().status, Status::Dead);
    }
}

#[test]
fn half_a_route_is_none() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("outbox.db");
    legacy(&path, &["mesh", "target_spec", "nonce", "ciphertext", "priority"]);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("UPDATE outbox SET target_spec = NULL WHERE status = 'pending'").unwrap();
    conn.execute_batch("UPDATE outbox SET ciphertext = '' WHERE status = 'inflight'").unwrap();
    drop(conn);
    let (outbox, _running) = Outbox::open(&path).unwrap();
    let dead = [Status::Dead, Status::Dead, Status::Done, Status::Dead, Status::Aborted];
    assert_eq!(statuses(&outbox).into_iter().map(|(_, status)| status).collect::<Vec<_>>(), dead);
    assert_eq!(outbox.counts().unwrap().dead, 3);
    assert_eq!(claim(&outbox, &route(None), 5, 10), [""; 0]);
}

#[test]
fn a_row_that_can_not_be_read_holds_nobody_up() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("outbox.db");
    legacy(&path, &["mesh", "target_spec", "nonce", "ciphertext", "priority", "sender_session_pubkey"]);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "UPDATE outbox SET nonce = x'ff' WHERE status = 'inflight';
         UPDATE outbox SET request_fingerprint = 'text' WHERE status = 'pending';
         INSERT INTO outbox (id, client_message_id, request_fingerprint, payload, enqueued_at, next_attempt_at, status, mesh)
           VALUES ('nowhere', 'nowhere', zeroblob(32), 'x', 9, 9, 'pending', '')",
    )
    .unwrap();
    drop(conn);
    let (outbox, _running) = Outbox::open(&path).unwrap();
    assert_eq!(claim(&outbox, &route(None), 5, 10), ["pending"]);
    assert_eq!(outbox.find(ClientId::new("pending")).unwrap().unwrap().fingerprint, [0; 32]);
    let why = |id: &str| outbox.show(id.to_owned(), None).unwrap().unwrap().listed.last_error.unwrap();
    assert!(why("inflight").starts_with("unreadable: "), "{}", why("inflight"));
    assert_eq!(why("nowhere"), schema::NO_ROUTE);
    assert_eq!(outbox.counts().unwrap().dead, 3);
}

#[test]
fn a_newer_schema_is_left_alone() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("outbox.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(Outbox::open(&path).map(drop), Err(Error::TooNew { found: 99, known: 3 }));
}
