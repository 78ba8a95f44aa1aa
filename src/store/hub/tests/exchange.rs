//! What a connection has, written down with what it sends.

use super::*;

#[test]
fn an_exchange_does_both_or_neither() {
    let (_dir, hub) = open();
    let waits = |hub: &Hub| {
        let rows = hub.fetch(mesh(), key(ALICE), Seq::default(), Urgency::All, 200, 10).unwrap();
        rows.into_iter().map(|row| row.id.as_str().to_owned()).collect::<Vec<_>>()
    };
    hub.enqueue(vec![direct("first", ALICE)]).unwrap();
    let has = || vec![Ack { mesh: mesh(), recipient: key(ALICE), message: MessageId::new("first"), now: 150 }];
    let twice = Submission { client_id: Some(ClientId::new("another")), ..direct("first", ALICE) };
    assert!(matches!(hub.exchange(has(), vec![twice]), Err(Error::Sql(_))));
    assert_eq!(waits(&hub), ["first"], "what is not stored takes nothing with it");
    assert_eq!(hub.totals().unwrap().queued, 1, "nor does it count");
    let answers = hub.exchange(has(), vec![direct("second", ALICE)]).unwrap();
    assert_eq!(answers, [Enqueued::New(MessageId::new("second"))]);
    assert_eq!((waits(&hub), hub.totals().unwrap().queued), (vec!["second".to_owned()], 1));
}

#[test]
fn what_is_for_a_topic_that_is_gone_is_refused_and_disturbs_nobody() {
    let (_dir, hub) = open();
    let topic = Some(Topical { id: "gone".into(), mentions: Vec::new(), body_version: 1 });
    let post = Submission { topic, direct: false, target_spec: "#gone".into(), ..direct("post", ALICE) };
    let answers = hub.enqueue(vec![direct("first", ALICE), post, direct("last", ALICE)]).unwrap();
    let new = |id| Enqueued::New(MessageId::new(id));
    assert_eq!(answers, [new("first"), Enqueued::NoTopic, new("last")]);
    assert_eq!(hub.totals().unwrap().queued, 2);
}

#[test]
fn what_waits_is_counted_on_in_a_database_from_before() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("hub.db");
    let conn = crate::store::db::open(&path, 64).unwrap();
    // Triggers counted until then.
    let before = members::STEPS.len() - 2;
    crate::store::migrate::migrate(&conn, &members::STEPS[..before]).unwrap();
    let alice = key(ALICE).to_hex();
    conn.execute_batch(&format!(
        "INSERT INTO mesh (id, slug, name, owner_pubkey, created_at) VALUES ('mesh', 'home', 'Home', '', 1);
         INSERT INTO member (id, mesh_id, pubkey, display_name, role, joined_at) VALUES
           ('member-1', 'mesh', '{}', 'Owner', 'admin', 1), ('member-2', 'mesh', '{alice}', 'Alice', 'member', 1);
         INSERT INTO message (id, mesh_id, sender_member_id, sender_pubkey, sender_name, target_spec, priority, created_at,
                              expires_at, recipients, waiting, nonce, ciphertext)
           VALUES ('old', 'mesh', 'member-1', '', 'Owner', '{alice}', 'next', 1, 1000, 1, 1, 'n', 'text');
         INSERT INTO delivery (mesh_id, recipient, seq, urgent, weight) VALUES ('mesh', '{alice}', 1, 0, 261);",
        key(OWNER)
    ))
    .unwrap();
    drop(conn);
    let (hub, _running) = Hub::open(&path).unwrap();
    let counted = |hub: &Hub| hub.totals().map(|totals| (totals.queued, totals.queued_bytes)).unwrap();
    assert_eq!(counted(&hub), (1, 261));
    let has = |id: &str| vec![Ack { mesh: mesh(), recipient: key(ALICE), message: MessageId::new(id), now: 150 }];
    hub.exchange(has("old"), vec![direct("new", ALICE)]).unwrap();
    let weight = room::weight("n", "sealed new").unsigned_abs();
    assert_eq!(counted(&hub), (1, weight));
    hub.enqueue(vec![direct("newer", ALICE), direct("newest", ALICE)]).unwrap();
    assert_eq!(hub.acked(has("new")), Ok(1));
    assert_eq!(counted(&hub).0, 2);
    let settled =
        || rusqlite::Connection::open(&path).unwrap().query_row("SELECT settled FROM kept", [], |row| row.get::<_, i64>(0));
    assert_eq!(settled(), Ok(2), "of a mesh that had no row there");
    assert_eq!(hub.expire(1000, 10).unwrap().count, 4);
    assert_eq!(counted(&hub), (0, 0));
    assert_eq!(settled(), Ok(0));
}

/// What `waiting` says, and what it should.
fn counted(dir: &TempDir) -> [Vec<(String, i64, i64)>; 2] {
    let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    [
        "SELECT recipient, copies, bytes FROM waiting WHERE copies <> 0 OR bytes <> 0 ORDER BY recipient",
        "SELECT recipient, count(*), sum(weight) FROM delivery GROUP BY recipient
      UNION ALL SELECT '', count(*), sum(weight) FROM delivery HAVING 0 < count(*) ORDER BY recipient",
    ]
    .map(|sql| {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    })
}

/// Asks again as long as another's failure is what undoes it.
fn unless_undone<T>(ask: impl Fn() -> Result<T, Error>) -> T {
    std::iter::repeat_with(ask).find(|answer| !matches!(answer, Err(Error::Undone))).unwrap().unwrap()
}

#[test]
fn what_waits_is_counted_right_whatever_fails_and_whoever_shares_a_transaction() {
    let (dir, hub) = open();
    let policy = Policy { mesh_bytes: 20_000, recipient_bytes: 4_000, kept_bytes: 0, meshes: 1, audit_messages: false };
    hub.set_policy(policy).unwrap();
    // An id that is taken undoes the whole of what it comes with.
    hub.enqueue(vec![Submission { client_id: None, ..direct("taken", SESSION) }]).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6_u8 {
            let hub = hub.clone();
            scope.spawn(move || {
                let name = |n: u8| format!("{thread}-{n}");
                for n in 0..40_u8 {
                    let mut sends =
                        vec![direct(&name(n), ALICE), group(&format!("g{}", name(n)), &[ALICE, SESSION, 40 + thread])];
                    if n % 5 == 4 {
                        sends.push(direct("taken", ALICE));
                    }
                    let before = name(n.saturating_sub(1));
                    let has = vec![ack(ALICE, &before), ack(ALICE, &format!("g{before}")), ack(SESSION, &format!("g{before}"))];
                    let _ = hub.exchange(has.clone(), sends);
                    if n % 7 == 0 {
                        unless_undone(|| hub.acked(has.clone()));
                        unless_undone(|| hub.expire(0, 10));
                    }
                }
            });
        }
    });
    let [says, is] = counted(&dir);
    assert_eq!(says, is);
    assert!(3 < is.len(), "{is:?}");
    drop(hub);
    let (hub, _running) = Hub::open(&dir.path().join("hub.db")).unwrap();
    assert!(0 < hub.expire(1000, 10_000).unwrap().count);
    assert_eq!(counted(&dir), [vec![], vec![]]);
}
