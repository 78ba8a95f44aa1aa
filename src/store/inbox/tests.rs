use rusqlite::Connection;

use super::*;
use crate::base::ids::PublicKey;
use crate::base::thread::Joined;
use tempfile::{TempDir, tempdir};

pub(super) fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 32])
}

pub(super) fn session(byte: u8) -> Recipient {
    Recipient::Session(SessionKey(key(byte)))
}

pub(super) const MEMBER: u8 = 9;

pub(super) fn scope(mesh: &str, session: Option<u8>) -> Scope {
    Scope::Session { mesh: Slug::new(mesh), session: session.map(|byte| SessionKey(key(byte))), member: MemberKey(key(MEMBER)) }
}

/// A message with the client id `id` for the session 1.
pub(super) fn message(id: &str, at: Millis) -> NewInbound {
    NewInbound {
        id: RowId::new(format!("row-{id}")),
        mesh: Slug::new("home"),
        recipient: session(1),
        sender_pubkey: key(7).to_string(),
        sender_member: Some(MemberKey(key(8))),
        sender_name: "Mou".to_owned(),
        client_id: ClientId::new(id),
        broker_id: Some(MessageId::new("m")),
        body: Body::Opened(format!("Body of {id}")),
        seal: None,
        mentions: vec!["bob".into()],
        mentioned: true,
        topic: None,
        sent_to: None,
        reply_to: Some("r".to_owned()),
        priority: Priority::Low,
        subtype: Some("reminder".to_owned()),
        created_at: Some("2025-10-09T08:53:20.000Z".to_owned()),
        received_at: at,
        receipts: false,
    }
}

pub(super) fn open() -> (TempDir, Inbox) {
    let dir = tempdir().unwrap();
    let inbox = Inbox::open(&dir.path().join("inbox.db")).unwrap().0;
    (dir, inbox)
}

pub(super) fn ids(rows: &[Inbound]) -> Vec<&str> {
    rows.iter().map(|row| row.client_id.as_str()).collect()
}

fn listed(inbox: &Inbox, filter: Filter) -> Vec<String> {
    ids(&inbox.list(filter, None).unwrap().rows).into_iter().map(str::to_owned).collect()
}

#[test]
fn what_was_kept_comes_back_whole() {
    let (_dir, inbox) = open();
    let sealed = Body::Unreadable { reason: "no key".into(), nonce: "n".into(), ciphertext: "c".into() };
    let bare = NewInbound {
        body: sealed.clone(),
        sender_member: None,
        broker_id: None,
        reply_to: None,
        subtype: None,
        created_at: None,
        recipient: Recipient::Member(MemberKey(key(MEMBER))),
        ..message("b", 2)
    };
    let plain =
        NewInbound { body: Body::Plain("hi".into()), topic: Some("t".into()), sent_to: Some("@eng".into()), ..message("c", 3) };
    let answers = inbox.insert(vec![message("a", 1), bare, plain]).unwrap();
    assert_eq!(answers, [1, 2, 3].map(|seq| Inserted::New(Seq(seq))));
    let rows = inbox.since(Seq(0), Scope::Everything, 10).unwrap();
    let expected = Inbound {
        seq: Seq(1),
        id: RowId::new("row-a"),
        mesh: Slug::new("home"),
        recipient: Some(session(1)),
        sender_pubkey: key(7).to_string(),
        sender_member: Some(MemberKey(key(8))),
        sender_name: "Mou".to_owned(),
        client_id: ClientId::new("a"),
        broker_id: Some(MessageId::new("m")),
        body: Body::Opened("Body of a".to_owned()),
        seal: None,
        mentions: vec!["bob".into()],
        mentioned: true,
        topic: None,
        sent_to: None,
        reply_to: Some("r".to_owned()),
        priority: Priority::Low,
        subtype: Some("reminder".to_owned()),
        created_at: Some("2025-10-09T08:53:20.000Z".to_owned()),
        received_at: 1,
        seen_at: None,
        offered_at: None,
        offered_by: None,
    };
    assert_eq!(rows[0], expected);
    assert_eq!((&rows[1].body, rows[1].recipient), (&sealed, Some(Recipient::Member(MemberKey(key(MEMBER))))));
    assert_eq!((&rows[1].broker_id, &rows[1].created_at, rows[1].sender_member), (&None, &None, None));
    assert_eq!((&rows[2].body, rows[2].topic.as_deref()), (&Body::Plain("hi".into()), Some("t")));
    assert_eq!(rows[2].sent_to.as_deref(), Some("@eng"));
}

#[test]
fn what_is_opened_later_comes_in_anew_and_what_is_not_holds_nothing_up() {
    let (_dir, inbox) = open();
    let sealed = |id: &str, received_at| NewInbound {
        body: Body::Unreadable { reason: "no key".into(), nonce: "n".into(), ciphertext: "c".into() },
        ..message(id, received_at)
    };
    inbox.insert(vec![sealed("a", 1), sealed("b", 2), message("c", 3), sealed("d", 4)]).unwrap();
    let waiting = |after, limit| {
        let rows = inbox.unreadable(Slug::new("home"), session(1), Seq(after), limit).unwrap();
        ids(&rows).concat()
    };
    assert_eq!([waiting(0, 2), waiting(2, 2), waiting(3, 2), waiting(4, 2)], ["ab", "d", "d", ""]);

    let all = Scope::Everything;
    let row = |id: &str| RowId::new(format!("row-{id}"));
    inbox.offered(vec![row("b")], "prompt".into(), all.clone(), 5).unwrap();
    inbox.mark_seen(vec![row("b")], all.clone(), 5).unwrap();
    let texts = ["b", "c", "b", "gone"].map(|id| (row(id), format!("{id} at last")));
    assert_eq!(inbox.opened(texts.to_vec(), 9), Ok(1));
    assert_eq!(waiting(0, 9), "ad");

    // A follower that has seen everything hears of it, and of nothing else.
    let news = inbox.since(Seq(4), all.clone(), 9).unwrap();
    assert_eq!((news.len(), news[0].seq, &news[0].body), (1, Seq(5), &Body::Opened("b at last".into())));
    assert_eq!((news[0].seen_at, news[0].offered_at, &news[0].offered_by, news[0].received_at), (None, None, &None, 9));
    assert_eq!(ids(&inbox.since(Seq(0), all.clone(), 9).unwrap()), ["a", "c", "d", "b"]);
    assert_eq!(inbox.last_seq(), Ok(Seq(5)));
    assert_eq!(inbox.insert(vec![message("b", 10), message("e", 10)]), Ok(vec![Inserted::Duplicate, Inserted::New(Seq(6))]));
    let since = Filter { since: Some(9), ..Filter::newest(all, 9) };
    assert_eq!(ids(&inbox.list(since, None).unwrap().rows), ["e", "b"]);
}

#[test]
fn a_message_is_one_per_mesh_recipient_sender_and_id() {
    let (_dir, inbox) = open();
    let other = |id: &str| NewInbound { id: RowId::new(id), ..message("a", 1) };
    let batch = vec![
        message("a", 1),
        other("same"),
        NewInbound { recipient: session(2), ..other("sibling") },
        NewInbound { sender_pubkey: key(6).to_string(), ..other("another sender") },
        NewInbound { mesh: Slug::new("work"), ..other("another mesh") },
        NewInbound { id: RowId::new("another id"), ..message("b", 1) },
    ];
    let new = |seq| Inserted::New(Seq(seq));
    assert_eq!(inbox.insert(batch), Ok(vec![new(1), Inserted::Duplicate, new(2), new(3), new(4), new(5)]));
    assert_eq!(inbox.insert(vec![other("later")]), Ok(vec![Inserted::Duplicate]));
    assert_eq!(ids(&inbox.since(Seq(0), Scope::Everything, 9).unwrap()), ["a", "a", "a", "a", "b"]);
}

#[test]
fn a_place_is_never_given_twice() {
    let dir = tempdir().unwrap();
    let (inbox, running) = Inbox::open(&dir.path().join("inbox.db")).unwrap();
    inbox.insert(vec![message("a", 1), message("b", 2)]).unwrap();
    assert_eq!(inbox.flush(&Scope::Everything, None, None), Ok(2));
    assert_eq!(inbox.last_seq(), Ok(Seq(2)));
    drop(inbox);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    assert_eq!(running.join_by(deadline), Joined::Ended(()));
    let (inbox, _running) = Inbox::open(&dir.path().join("inbox.db")).unwrap();
    assert_eq!(inbox.insert(vec![message("c", 3)]), Ok(vec![Inserted::New(Seq(3))]));
    assert_eq!(ids(&inbox.since(Seq(1), scope("home", Some(1)), 9).unwrap()), ["c"]);
}

/// One message for each kind of recipient, on two meshes.
fn mixed() -> (TempDir, Inbox) {
    let (dir, inbox) = open();
    let to = |id: &str, at, recipient| NewInbound { recipient, ..message(id, at) };
    let member = Recipient::Member(MemberKey(key(MEMBER)));
    inbox
        .insert(vec![
            to("mine", 1, session(1)),
            to("sibling", 2, session(2)),
            to("member", 3, member),
            NewInbound { mesh: Slug::new("work"), ..to("elsewhere", 4, member) },
            to("mine too", 5, session(1)),
        ])
        .unwrap();
    (dir, inbox)
}

#[test]
fn a_session_sees_and_touches_its_own_its_members_and_old_rows() {
    let (dir, inbox) = mixed();
    let old = "INSERT INTO inbox (id, client_message_id, mesh, sender_pubkey, sender_name, received_at, seq)
               VALUES ('row-old', 'old', 'home', '', '', 6, 99)";
    Connection::open(dir.path().join("inbox.db")).unwrap().execute_batch(old).unwrap();
    for (scope, expected) in [
        (scope("home", Some(1)), &["mine", "member", "mine too", "old"][..]),
        (scope("home", Some(2)), &["sibling", "member", "old"]),
        (scope("home", None), &["member", "old"]),
        // Its session goes by the member's own key.
        (scope("home", Some(MEMBER)), &["member", "old"]),
        (scope("work", Some(1)), &["elsewhere"]),
        (scope("other", Some(1)), &[]),
        (Scope::Everything, &["mine", "sibling", "member", "elsewhere", "mine too", "old"]),
    ] {
        assert_eq!(ids(&inbox.since(Seq(0), scope.clone(), 9).unwrap()), expected);
        let mut newest_first = listed(&inbox, Filter::newest(scope.clone(), 9));
        newest_first.reverse();
        assert_eq!(newest_first, expected);
        let unread = Filter { unread_only: true, ..Filter::newest(scope.clone(), 2) };
        assert_eq!(listed(&inbox, unread).len(), expected.len().min(2));
        assert_eq!(inbox.unread(scope), Ok(expected.len()));
    }
    let row = |id: &str| RowId::new(format!("row-{id}"));
    let mine = scope("home", Some(1));
    assert_eq!(inbox.mark_seen(vec![row("mine"), row("sibling"), row("elsewhere"), row("mine")], mine.clone(), 9), Ok(1));
    assert_eq!(inbox.unread(Scope::Everything), Ok(5));
    assert_eq!(inbox.delete(row("sibling"), mine.clone()), Ok(false));
    assert_eq!(inbox.delete(row("mine"), mine.clone()), Ok(true));
    assert_eq!(inbox.flush(&mine, Some(&Slug::new("work")), None), Ok(0));
    assert_eq!(inbox.flush(&mine, None, Some(5)), Ok(1));
    assert_eq!(inbox.flush(&mine, None, None), Ok(2));
    assert_eq!(ids(&inbox.since(Seq(0), Scope::Everything, 9).unwrap()), ["sibling", "elsewhere"]);
}

#[test]
fn listing_marks_exactly_what_it_returns() {
    let (_dir, inbox) = mixed();
    let mine = scope("home", Some(1));
    let Listing { rows, marked, .. } = inbox.list(Filter::newest(mine.clone(), 2), Some(50)).unwrap();
    assert_eq!((ids(&rows), marked), (vec!["mine too", "member"], 2));
    assert!(rows.iter().all(|row| row.seen_at.is_none()));
    let Listing { rows, marked, .. } = inbox.list(Filter::newest(mine.clone(), 9), Some(60)).unwrap();
    assert_eq!(rows.iter().map(|row| row.seen_at).collect::<Vec<_>>(), [Some(50), Some(50), None]);
    assert_eq!((marked, inbox.unread(mine)), (1, Ok(0)));
}

#[test]
fn every_filter_narrows() {
    let (_dir, inbox) = mixed();
    let day = 86_400_000;
    inbox
        .insert(vec![
            NewInbound { topic: Some("ops".into()), ..message("topical", day) },
            NewInbound { sender_pubkey: key(6).to_string(), ..message("stranger", 2 * day) },
        ])
        .unwrap();
    let base = Filter::newest(scope("home", Some(1)), 9);
    let all = Filter::newest(Scope::Everything, 9);
    let stranger = Some(key(6).to_string());
    for (filter, expected) in [
        (Filter { topic: Some("ops".into()), ..base.clone() }, &["topical"][..]),
        (Filter { sender: stranger.clone(), ..base.clone() }, &["stranger"]),
        (Filter { sender: stranger.clone(), topic: Some("ops".into()), ..base.clone() }, &[]),
        (Filter { sender: stranger, ..Filter::newest(scope("home", Some(2)), 9) }, &[]),
        (Filter { since: Some(day), ..base.clone() }, &["stranger", "topical"]),
        (Filter { since: Some(3 * day), ..base.clone() }, &[]),
        (Filter { since: Some(day), until: Some(day), ..base.clone() }, &["topical"]),
        (Filter { until: Some(day - 1), ..base.clone() }, &["mine too", "member", "mine"]),
        (Filter { until: Some(0), ..base.clone() }, &[]),
        (Filter { since: Some(5), unread_only: true, limit: 1, ..base.clone() }, &["stranger"]),
        (Filter { text: Some("body of MINE".into()), ..base.clone() }, &["mine too", "mine"]),
        (Filter { text: Some("100%".into()), ..base.clone() }, &[]),
        (Filter { mesh: Some(Slug::new("work")), ..base.clone() }, &[]),
        (Filter { mesh: Some(Slug::new("work")), ..all.clone() }, &["elsewhere"]),
        (Filter { mesh: Some(Slug::new("work")), unread_only: true, ..all.clone() }, &["elsewhere"]),
        (Filter { limit: 0, ..all }, &["stranger"]),
    ] {
        assert_eq!(listed(&inbox, filter.clone()), expected, "{filter:?}");
    }
}

#[test]
fn pruning_goes_by_age() {
    let (_dir, inbox) = mixed();
    assert_eq!(inbox.prune(3), Ok(2));
    assert_eq!(inbox.prune(3), Ok(0));
    assert_eq!(ids(&inbox.since(Seq(0), Scope::Everything, 9).unwrap()), ["member", "elsewhere", "mine too"]);
}

/// The reference's table, as old as `added` says, with two rows.
fn legacy(path: &Path, added: &[&str]) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "CREATE TABLE inbox (id TEXT PRIMARY KEY, client_message_id TEXT NOT NULL UNIQUE, broker_message_id TEXT,
           mesh TEXT NOT NULL, topic TEXT, sender_pubkey TEXT NOT NULL, sender_name TEXT NOT NULL, body TEXT, meta TEXT,
           received_at INTEGER NOT NULL, reply_to_id TEXT);
         CREATE INDEX inbox_received_at ON inbox(received_at);
         CREATE INDEX inbox_topic ON inbox(topic);
         CREATE INDEX inbox_sender ON inbox(sender_pubkey);",
    )
    .unwrap();
    for column in added {
        conn.execute_batch(&format!("ALTER TABLE inbox ADD COLUMN {column}")).unwrap();
    }
    reference_writes(&conn, "a", &format!("'{}'", key(7)));
    reference_writes(&conn, "b", "''");
}

fn reference_writes(conn: &Connection, id: &str, sender: &str) {
    conn.execute_batch(&format!(
        "INSERT INTO inbox (id, client_message_id, mesh, sender_pubkey, sender_name, meta, received_at)
         VALUES ('ref-{id}', '{id}', 'home', {sender}, 'Mou', '{{\"created_at\":\"2025-10-09T08:53:20.000Z\"}}', 1)"
    ))
    .unwrap();
}

#[test]
fn every_shape_of_the_references_table_opens() {
    const SEEN: &str = "seen_at INTEGER";
    for added in [&[][..], &[SEEN], &[SEEN, "recipient_pubkey TEXT", "recipient_kind TEXT"]] {
        let dir = tempdir().unwrap();
        let path = dir.path().join("inbox.db");
        legacy(&path, added);
        if let [_, _, _] = added {
            let sql = format!("UPDATE inbox SET recipient_pubkey = '{}', recipient_kind = 'session'", key(1));
            Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
        }
        let inbox = Inbox::open(&path).unwrap().0;
        let rows = inbox.since(Seq(0), scope("home", Some(1)), 9).unwrap();
        assert_eq!(ids(&rows), ["a", "b"], "{added:?}");
        assert_eq!(rows.iter().map(|row| row.seq.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows[0].recipient, (added.len() == 3).then_some(session(1)));
        assert_eq!(rows[0].created_at.as_deref(), Some("2025-10-09T08:53:20.000Z"));
        assert!(matches!(&rows[0].body, Body::Unreadable { reason, .. } if reason == "not_opened"));
        let again = inbox.insert(vec![message("a", 2)]).unwrap();
        assert_eq!(again[0], Inserted::Duplicate, "{added:?}");
        let others = NewInbound { sender_pubkey: key(9).to_string(), ..message("a", 2) };
        assert!(matches!(inbox.insert(vec![others]).unwrap()[0], Inserted::New(_)), "one sender can not suppress another's id");
    }
}

#[test]
fn the_reference_may_write_in_between() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("inbox.db");
    let (inbox, running) = Inbox::open(&path).unwrap();
    inbox.insert(vec![message("a", 1), NewInbound { id: RowId::new("x"), recipient: session(2), ..message("a", 1) }]).unwrap();
    drop(inbox);
    running.join_by(std::time::Instant::now() + std::time::Duration::from_secs(10));
    reference_writes(&Connection::open(&path).unwrap(), "z", "''");
    reference_writes(&Connection::open(&path).unwrap(), "y", "''");
    let inbox = Inbox::open(&path).unwrap().0;
    inbox.insert(vec![message("b", 3)]).unwrap();
    let rows = inbox.since(Seq(0), Scope::Everything, 9).unwrap();
    assert_eq!(ids(&rows), ["a", "a", "z", "y", "b"]);
    assert!(rows.is_sorted_by(|one, two| one.seq < two.seq));
    assert_eq!(inbox.last_seq().unwrap(), rows[4].seq);
}

#[test]
fn no_listing_sorts() {
    let (dir, inbox) = mixed();
    let base = [Filter::newest(Scope::Everything, 9), Filter::newest(scope("home", Some(1)), 9)];
    let conn = Connection::open(dir.path().join("inbox.db")).unwrap();
    for filter in base {
        for variant in 0..16 {
            let set = |bit: usize| variant & (1 << bit) != 0;
            let filter = Filter {
                mesh: set(0).then(|| Slug::new("home")),
                topic: set(1).then(|| "t".to_owned()),
                sender: set(2).then(|| "s".to_owned()),
                unread_only: set(3),
                since: Some(1),
                ..filter.clone()
            };
            let (sql, values) = read::listing(&filter, &read::Range::of(1, 9));
            let plan: Vec<String> = conn
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap()
                .query_map(values.bind().as_slice(), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{filter:?}: {plan:?}");
            inbox.list(filter, None).unwrap();
        }
    }
}

#[test]
fn what_was_deleted_does_not_come_back_until_that_is_forgotten() {
    let (_dir, inbox) = open();
    inbox.insert(vec![message("a", 1), message("b", 2), message("c", 3)]).unwrap();
    assert_eq!(inbox.delete(RowId::new("row-a"), scope("home", Some(2))), Ok(false), "another session's delete does nothing");
    assert_eq!(inbox.delete(RowId::new("row-a"), scope("home", Some(1))), Ok(true));
    assert_eq!(inbox.flush(&scope("home", Some(1)), None, Some(3)), Ok(1));
    let again = |id: &str| NewInbound { id: RowId::new(format!("again-{id}")), ..message(id, 9) };
    assert_eq!(inbox.insert(vec![again("a"), again("b"), again("c")]), Ok(vec![Inserted::Duplicate; 3]));
    let other = NewInbound { recipient: session(2), ..message("a", 9) };
    assert!(matches!(inbox.insert(vec![other]).unwrap()[0], Inserted::New(_)), "another recipient has its own copy");
    assert_eq!(inbox.forget_deleted(2), Ok(1));
    assert!(matches!(inbox.insert(vec![again("a"), again("b")]).unwrap()[..], [Inserted::New(_), Inserted::Duplicate]));
}

#[test]
fn senders_are_found_by_name_and_by_the_beginning_of_their_key() {
    let (_dir, inbox) = open();
    let named = |id: &str, name: &str, byte: u8| NewInbound {
        sender_name: name.into(),
        sender_pubkey: key(byte).to_string(),
        ..message(id, 1)
    };
    inbox.insert(vec![named("a", "Mou", 7), named("b", "mouse", 8), named("c", "Mou", 9)]).unwrap();
    let like = |text: &str| listed(&inbox, Filter { sender_like: Some(text.into()), ..Filter::newest(Scope::Everything, 9) });
    assert_eq!(like("mou"), ["c", "a"]);
    assert_eq!(like("0808"), ["b"]);
    assert_eq!(like("%"), [""; 0]);
}

#[test]
fn letters_are_found_in_either_case() {
    let (_dir, inbox) = open();
    let said = |id: &str, text: &str| NewInbound { body: Body::Opened(text.into()), sender_name: text.into(), ..message(id, 1) };
    inbox.insert(vec![said("small", "où est l'école"), said("large", "ÉCOLE"), said("title", "École, Привет")]).unwrap();
    let base = Filter::newest(Scope::Everything, 9);
    for text in ["école", "ÉCOLE", "École"] {
        assert_eq!(listed(&inbox, Filter { text: Some(text.into()), ..base.clone() }), ["title", "large", "small"], "{text}");
        assert_eq!(listed(&inbox, Filter { sender_like: Some(text.into()), ..base.clone() }), ["large"], "{text}");
    }
    assert_eq!(listed(&inbox, Filter { text: Some("ПРИВЕТ".into()), ..base }), ["title"]);
}

#[test]
fn a_search_that_ends_early_says_where_and_goes_on_from_there() {
    let (dir, inbox) = open();
    let hour = 3_600_000;
    let rows = [("a", 10, 140_500), ("b", 40, 150_000), ("c", 43, 240_000), ("d", 60, 245_000)];
    inbox.insert(rows.iter().map(|(id, hours, _)| message(id, hours * hour)).collect()).unwrap();
    // As if there were that many between them.
    let conn = Connection::open(dir.path().join("inbox.db")).unwrap();
    for (id, _, place) in rows.iter().rev() {
        conn.execute("UPDATE inbox SET rowid = ?1 WHERE id = 'row-' || ?2", rusqlite::params![place, id]).unwrap();
    }
    let search = Filter { text: Some("body".into()), ..Filter::newest(Scope::Everything, 9) };
    let first = inbox.list(search.clone(), None).unwrap();
    assert_eq!((ids(&first.rows), first.searched_back_to), (vec!["d", "c", "b"], Some(40 * hour)));
    let rest = inbox.list(Filter { until: first.searched_back_to, ..search.clone() }, None).unwrap();
    assert_eq!((ids(&rest.rows), rest.searched_back_to), (vec!["b", "a"], None));
    let full = inbox.list(Filter { limit: 1, ..search.clone() }, None).unwrap();
    assert_eq!((ids(&full.rows), full.searched_back_to), (vec!["d"], None), "whoever wants more asks for more first");
    let recent = inbox.list(Filter { since: Some(42 * hour), ..search }, None).unwrap();
    assert_eq!((ids(&recent.rows), recent.searched_back_to), (vec!["d", "c"], None), "all that was asked for");
}

#[test]
fn a_page_of_large_texts_ends_early_and_says_so() {
    let (_dir, inbox) = open();
    let large = |n: i64| NewInbound { body: Body::Opened("x".repeat(60_000)), ..message(&format!("{n:03}"), n) };
    inbox.insert((0..100).map(large).collect()).unwrap();
    let page = inbox.list(Filter::newest(Scope::Everything, 1000), Some(1)).unwrap();
    assert!(page.more && page.rows.len() < 100 && page.rows.len() == page.marked, "{} of 100", page.rows.len());
    assert_eq!(page.rows[0].client_id.as_str(), "099", "the newest");
    let rest = inbox.list(Filter { unread_only: true, ..Filter::newest(Scope::Everything, 1000) }, None).unwrap();
    assert_eq!((rest.rows.len() + page.rows.len(), rest.more), (100, false));
}
