//! The two databases in every shape they have had: nothing is lost on the way to us, and the reference's own statements work
//! on the way back.

use std::collections::BTreeMap;
use std::path::Path;

use claudemesh::base::ids::PublicKey;
use claudemesh::base::time::now_millis;
use claudemesh::crypto::keys::KeyPair;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

use super::scene::{Member, offline};
use crate::support::home::Home;
use crate::support::http;
use crate::support::reference_files::{self as reference, In, InboxShape, Out, OutboxShape};
use crate::support::servers::Daemon;

const STATUSES: [&str; 5] = ["pending", "inflight", "done", "dead", "aborted"];

/// `2025-10-09T08:53:20.123Z`.
const THEN: i64 = 1_760_000_000_123;

fn waits(row: &Out) -> bool {
    matches!(row.status, "pending" | "inflight")
}

fn outbox_rows(member: &Member, shape: OutboxShape) -> Vec<Out> {
    let peer = PublicKey::from_bytes(*KeyPair::from_seed([7; 32]).public.as_bytes());
    let mut rows: Vec<Out> =
        STATUSES.iter().map(|status| Out::plain(&format!("plain-{status}"), status, "bob", "plain text")).collect();
    if OutboxShape::Routed <= shape {
        let sealed = |status: &&'static str| {
            Out::sealed(&format!("sealed-{status}"), status, &peer, "sealed text", &member.keys.secret, false)
        };
        rows.extend(STATUSES.iter().map(sealed));
    }
    if OutboxShape::Attributed <= shape {
        let session = KeyPair::generate();
        let own = |status: &&'static str| Out::sealed(&format!("own-{status}"), status, &peer, "own text", &session.secret, true);
        rows.extend(STATUSES.iter().map(own));
    }
    // In the order of their times: what ended did so long ago, and what waits has not waited long.
    rows.sort_by_key(waits);
    let recently = now_millis() - 60_000;
    let in_time = |(n, row): (i64, Out)| {
        let base = if waits(&row) { recently } else { THEN };
        row.accepted_at(base + n)
    };
    (0..).zip(rows).map(in_time).collect()
}

fn fill_inbox(path: &Path, shape: InboxShape) {
    let conn = reference::inbox(path, shape);
    let key = "ab".repeat(32);
    let row = |client_id, at| In { client_id, mesh: "acme", sender: "", body: Some("text"), received_at: at, ..In::default() };
    let rows = [
        In { seen_at: Some(THEN + 5), ..row("seen", THEN) },
        In { recipient: Some((&key, "session")), topic: Some("deploys"), ..row("addressed", THEN + 1) },
        In { body: None, mesh: "left", ..row("unopened", THEN + 2) },
    ];
    rows.iter().for_each(|row| row.insert(&conn, shape));
}

fn by_client_id(page: &Value) -> BTreeMap<String, Value> {
    let rows = page["items"].as_array().unwrap().iter();
    rows.map(|row| (row["client_message_id"].as_str().unwrap().to_owned(), row.clone())).collect()
}

#[test]
fn every_shape_opens_with_every_row() {
    for (outbox, inbox) in OutboxShape::ALL.into_iter().zip(InboxShape::ALL) {
        let home = Home::new();
        let member = offline(home.path());
        let rows = outbox_rows(&member, outbox);
        let conn = reference::outbox(&home.join("daemon/outbox.db"), outbox);
        rows.iter().for_each(|row| row.insert(&conn));
        fill_inbox(&home.join("daemon/inbox.db"), inbox);

        let daemon = Daemon::start(home.path());
        let page = daemon.get("/v1/outbox?limit=500").json();
        let newest_first: Vec<&Value> = page["items"].as_array().unwrap().iter().map(|row| &row["client_message_id"]).collect();
        assert_eq!(newest_first, rows.iter().rev().map(|row| row.client_id.as_str()).collect::<Vec<_>>());
        let found = by_client_id(&page);
        for row in &rows {
            let (found, routed) = (&found[&row.client_id], !row.client_id.starts_with("plain"));
            let expected = match row.status {
                "pending" | "inflight" if routed => "pending",
                "pending" | "inflight" => "dead",
                ended => ended,
            };
            assert_eq!((&found["id"], &found["status"]), (&row.row_id().into(), &expected.into()), "{outbox:?}: {found}");
            let sent = |value: &str| if row.status == "done" { Value::from(value) } else { Value::Null };
            assert_eq!(found["broker_message_id"], sent("broker-1"));
            assert_eq!(found["superseded_by"], if row.status == "aborted" { "row-successor".into() } else { Value::Null });
            let at = found["enqueued_at"].as_str().unwrap();
            assert!(waits(row) || at.starts_with("2025-10-09T08:53:20.1"), "{at}");
        }
        assert_eq!(found["plain-done"]["delivered_at"], "2025-10-09T08:53:20.623Z");
        assert_eq!(
            (&found["plain-aborted"]["aborted_by"], &found["plain-dead"]["last_error"]),
            (&"operator".into(), &"max_attempts: ack_timeout".into())
        );
        assert_eq!(found["plain-done"]["payload_bytes"], 10);

        let rows = by_client_id(&daemon.get("/v1/inbox?mark_seen=false").json());
        assert_eq!(rows.len(), 3);
        assert_eq!((&rows["seen"]["id"], &rows["seen"]["received_at"]), (&"in-seen".into(), &"2025-10-09T08:53:20.123Z".into()));
        let seen = if InboxShape::Seen <= inbox { "2025-10-09T08:53:20.128Z".into() } else { Value::Null };
        assert_eq!((&rows["seen"]["seen_at"], &rows["unopened"]["body"]), (&seen, &Value::Null));
        let kind = if InboxShape::Recipients <= inbox { "session".into() } else { Value::Null };
        assert_eq!((&rows["addressed"]["recipient_kind"], &rows["addressed"]["topic"]), (&kind, &"deploys".into()));
        let order: Vec<u64> = ["seen", "addressed", "unopened"].map(|id| rows[id]["seq"].as_u64().unwrap()).to_vec();
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    }
}

/// The documented vectors: what is sent, and the bytes that the reference keeps for it.
fn vectors() -> [(Value, &'static str); 5] {
    [
        (json!({"to": "alice", "message": "hello"}), "dc13f9d139b04e9886a09444fa269f46468843858070b13afee7889305c2aa09"),
        (json!({"to": "*", "message": "hi"}), "cdcdbd44fb611daebc4ca7d5802fde64dc74aa7486a5e9c5d51e3d26212868ed"),
        (
            json!({"to": " alice ", "message": "hello", "meta": {"z": 1, "a": 2}}),
            "b47e1e332d6d9438e9feabd8c96130971d4a7e9ac8c72f56b3302ebb41b20a00",
        ),
        (
            json!({"to": "alice", "message": "hello", "meta": {}, "priority": "next"}),
            "5f814667973c50b85127bfa4f955d94fbb6683602c097c643bed05401cddbe1b",
        ),
        (
            json!({"to": "alice", "message": "hello", "reply_to_id": "r-1", "priority": "now"}),
            "3610bca84aaf432fc482e5e5e5a86043fcb89ca73ffecbb6683473148f07a4e7",
        ),
    ]
}

#[test]
fn a_retry_of_what_the_reference_accepted_is_known() {
    let home = Home::new();
    let member = offline(home.path());
    let conn = reference::outbox(&home.join("daemon/outbox.db"), OutboxShape::Attributed);
    let peer = KeyPair::generate().public;
    for (n, (_, fingerprint)) in vectors().iter().enumerate() {
        for status in STATUSES {
            let row = Out::sealed(&format!("{status}-{n}"), status, &peer, "hello", &member.keys.secret, false);
            row.with_fingerprint(fingerprint).insert(&conn);
        }
    }
    drop(conn);
    let daemon = Daemon::start(home.path());
    let send = |body: &Value, header: &[(&str, &str)]| {
        http::request(&daemon.socket(), "POST", "/v1/send", header, Some(body.to_string().as_bytes())).unwrap()
    };
    for (n, (body, fingerprint)) in vectors().into_iter().enumerate() {
        for (status, same, other) in [
            ("pending", (202, "queued"), "outbox_pending_fingerprint_mismatch"),
            // Nothing is in flight when a daemon starts: what was, is pending.
            ("inflight", (202, "queued"), "outbox_pending_fingerprint_mismatch"),
            ("done", (200, ""), "outbox_done_fingerprint_mismatch"),
            ("dead", (409, "outbox_dead_fingerprint_match"), "outbox_dead_fingerprint_mismatch"),
            ("aborted", (409, "outbox_aborted_fingerprint_match"), "outbox_aborted_fingerprint_mismatch"),
        ] {
            let id = format!("{status}-{n}");
            let mut named = body.clone();
            named["client_message_id"] = format!(" {id} ").into();
            let by_header = [("Idempotency-Key", id.as_str())];
            for reply in [send(&named, &[]), send(&body, &by_header)] {
                let answer = reply.json();
                assert_eq!(reply.status, same.0, "{id}: {reply:?}");
                match reply.status {
                    202 => assert_eq!(answer, json!({"client_message_id": id, "status": same.1})),
                    200 => {
                        assert_eq!(answer, json!({"client_message_id": id, "broker_message_id": "broker-1", "duplicate": true}))
                    }
                    _ => assert_eq!(
                        answer,
                        json!({"error": "idempotency_key_reused", "conflict": same.1,
                               "daemon_fingerprint_prefix": fingerprint[..16], "broker_message_id": null})
                    ),
                }
            }
            named["message"] = "something else".into();
            let reply = send(&named, &[]);
            let broker_id = if status == "done" { "broker-1".into() } else { Value::Null };
            assert_eq!((reply.status, &reply.json()["error"]), (409, &"idempotency_key_reused".into()), "{id}");
            assert_eq!((&reply.json()["conflict"], &reply.json()["broker_message_id"]), (&other.into(), &broker_id));
            assert_ne!(reply.json()["daemon_fingerprint_prefix"], fingerprint[..16]);
        }
    }
}

#[test]
fn the_reference_can_return_to_every_shape() {
    for (outbox, inbox) in OutboxShape::ALL.into_iter().zip(InboxShape::ALL) {
        let home = Home::new();
        let member = offline(home.path());
        let (outbox_db, inbox_db) = (home.join("daemon/outbox.db"), home.join("daemon/inbox.db"));
        let conn = reference::outbox(&outbox_db, outbox);
        outbox_rows(&member, outbox).iter().for_each(|row| row.insert(&conn));
        drop(conn);
        fill_inbox(&inbox_db, inbox);
        let mut daemon = Daemon::start(home.path());
        let to = KeyPair::generate().public.to_hex();
        let body = json!({"to": to, "message": "ours", "client_message_id": "ours"}).to_string();
        let queued = http::request(&daemon.socket(), "POST", "/v1/send", &[], Some(body.as_bytes())).unwrap();
        assert_eq!(queued.status, 202, "{queued:?}");
        assert_eq!(daemon.terminate().status.code(), Some(0));

        drains(&reference::outbox(&outbox_db, OutboxShape::Base));
        receives(&reference::inbox(&inbox_db, InboxShape::Base));

        daemon.restart();
        let rows = by_client_id(&daemon.get("/v1/outbox?limit=500").json());
        assert_eq!((&rows["ours"]["status"], &rows["theirs"]["status"]), (&"done".into(), &"dead".into()));
        let mut counted: BTreeMap<String, u64> = STATUSES.iter().map(|status| ((*status).to_owned(), 0)).collect();
        rows.values().for_each(|row| *counted.get_mut(row["status"].as_str().unwrap()).unwrap() += 1);
        assert_eq!(daemon.get("/v1/health").json()["outbox"], json!(counted));
        let rows = by_client_id(&daemon.get("/v1/inbox?mark_seen=false").json());
        assert!(["seen", "addressed", "unopened"].iter().all(|id| rows["theirs"]["seq"].as_u64() > rows[*id]["seq"].as_u64()));
    }
}

fn names(conn: &Connection, sql: &str) -> Vec<String> {
    conn.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[track_caller]
fn assert_has(conn: &Connection, table: &str, columns: &[&str], indexes: &[&str]) {
    let found = names(conn, &format!("SELECT name FROM pragma_table_info('{table}')"));
    assert!(columns.iter().all(|column| found.iter().any(|name| name == column)), "{table}: {found:?}");
    let found = names(conn, &format!("SELECT name FROM pragma_index_list('{table}')"));
    assert!(indexes.iter().all(|index| found.iter().any(|name| name == index)), "{table}: {found:?}");
    assert_eq!(names(conn, "PRAGMA integrity_check"), ["ok"]);
}

/// What the reference's daemon does to an outbox, statement by statement.
fn drains(conn: &Connection) {
    const COLUMNS: &str =
        "id, client_message_id, request_fingerprint, payload, enqueued_at, attempts, next_attempt_at, status, last_error,
        delivered_at, broker_message_id, aborted_at, aborted_by, superseded_by, mesh, target_spec, nonce, ciphertext, priority,
        sender_session_pubkey";
    let columns: Vec<&str> = COLUMNS.split(',').map(str::trim).collect();
    assert_has(conn, "outbox", &columns, &["outbox_aborted"]);
    let statuses = names(conn, "SELECT DISTINCT status FROM outbox");
    assert!(statuses.iter().all(|status| STATUSES.contains(&status.as_str())), "{statuses:?}");

    let select =
        format!("SELECT {COLUMNS} FROM outbox WHERE status = 'pending' AND next_attempt_at <= ?1 ORDER BY enqueued_at LIMIT 32");
    let due: Vec<(String, Vec<u8>, Option<String>)> = conn
        .prepare(&select)
        .unwrap()
        .query_map([i64::MAX], |row| Ok((row.get(1)?, row.get(2)?, row.get(17)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(due.iter().any(|(id, _, _)| id == "ours"), "{due:?}");
    for (id, fingerprint, ciphertext) in &due {
        assert_eq!(fingerprint.len(), 32, "{id}");
        // Without one, it would broadcast the text.
        assert!(ciphertext.as_ref().is_some_and(|text| !text.is_empty()), "{id}");
    }
    let one = |sql: &str, values: &[&dyn rusqlite::ToSql]| assert_eq!(conn.execute(sql, values).unwrap(), 1, "{sql}");
    one(
        "UPDATE outbox SET status = 'inflight', attempts = attempts + 1, next_attempt_at = ?1
          WHERE client_message_id = 'ours' AND status = 'pending'",
        &[&30_000],
    );
    let retry = "UPDATE outbox SET status = 'pending', attempts = ?1, next_attempt_at = ?2, last_error = ?3 WHERE client_message_id = 'ours'";
    one(retry, &[&2, &5, &"ack_timeout"]);
    one(
        "UPDATE outbox SET status = 'done', delivered_at = ?1, broker_message_id = ?2, last_error = NULL WHERE client_message_id = 'ours'",
        &[&6, &"broker-2"],
    );

    // Requeue: two statements, and the new row has no route.
    one(
        "UPDATE outbox SET status = 'aborted', aborted_at = ?1, aborted_by = ?2, superseded_by = ?3
          WHERE client_message_id = 'plain-dead' AND status IN ('pending', 'inflight', 'dead')",
        &[&7, &"operator", &"row-theirs"],
    );
    let insert =
        "INSERT INTO outbox (id, client_message_id, request_fingerprint, payload, enqueued_at, attempts, next_attempt_at, status)
        SELECT ?1, ?2, request_fingerprint, payload, ?3, 0, ?3, 'pending' FROM outbox WHERE client_message_id = 'plain-dead'";
    one(insert, &[&"row-theirs", &"theirs", &8]);
    assert!(conn.execute(insert, params!["row-again", "theirs", 8]).unwrap_err().to_string().contains("UNIQUE"));
    let bogus = conn.execute("UPDATE outbox SET status = 'lost' WHERE client_message_id = 'theirs'", []);
    assert!(bogus.unwrap_err().to_string().contains("CHECK"));
    let listed = names(conn, "SELECT client_message_id FROM outbox WHERE status = 'aborted' ORDER BY enqueued_at DESC LIMIT 50");
    assert!(listed.iter().any(|id| id == "plain-dead"), "{listed:?}");
}

/// What the reference's daemon does to an inbox.
fn receives(conn: &Connection) {
    let columns =
        "id, client_message_id, broker_message_id, mesh, topic, sender_pubkey, sender_name, body, meta, received_at, reply_to_id,
        seen_at, recipient_pubkey, recipient_kind";
    let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
    let indexes = ["inbox_received_at", "inbox_topic", "inbox_sender", "inbox_seen_at", "inbox_recipient"];
    assert_has(conn, "inbox", &columns, &indexes);

    let lookup = |id: &str| -> Option<String> {
        let sql = "SELECT id FROM inbox WHERE client_message_id = ?1";
        conn.query_row(sql, [id], |row| row.get(0)).optional().unwrap()
    };
    let insert =
        "INSERT INTO inbox (id, client_message_id, broker_message_id, mesh, topic, sender_pubkey, sender_name, body, meta,
          received_at, reply_to_id, recipient_pubkey, recipient_kind)
        VALUES (?1, ?2, NULL, 'acme', NULL, 'ff', 'dora', 'text', NULL, ?3, NULL, 'ab', 'member')
        ON CONFLICT (client_message_id) DO NOTHING";
    assert_eq!(lookup("theirs"), None);
    assert_eq!(conn.execute(insert, params!["in-theirs", "theirs", i64::MAX]).unwrap(), 1);
    assert_eq!(conn.execute(insert, params!["in-other", "theirs", 1]).unwrap(), 0);
    assert_eq!(lookup("theirs").as_deref(), Some("in-theirs"));

    let list = "SELECT client_message_id FROM inbox WHERE mesh = 'acme' AND seen_at IS NULL AND received_at >= 0
        AND (recipient_pubkey IS NULL OR recipient_pubkey = 'ab' OR recipient_pubkey = 'cd') ORDER BY received_at DESC LIMIT 100";
    assert_eq!(names(conn, list).first().map(String::as_str), Some("theirs"));
    let seen = "UPDATE inbox SET seen_at = ?1 WHERE seen_at IS NULL AND id IN ('in-theirs')";
    assert_eq!((conn.execute(seen, [9]).unwrap(), conn.execute(seen, [10]).unwrap()), (1, 0));
    assert_eq!(conn.execute("DELETE FROM inbox WHERE received_at < ?1", [1000]).unwrap(), 0);
}
