//! What may wait, and what a mesh may keep.

use super::*;

#[test]
fn what_waits_is_counted_and_limited() {
    let (dir, hub) = open();
    let policy = Policy { mesh_bytes: 0, recipient_bytes: 10_000, kept_bytes: 0, meshes: 1, audit_messages: false };
    hub.set_policy(policy).unwrap();
    let large = |id: &str| Submission { ciphertext: "x".repeat(800), ..direct(id, ALICE) };
    let sent = |submission| hub.enqueue(vec![submission]).unwrap().remove(0);
    for n in 0..9 {
        assert!(matches!(sent(large(&format!("m{n}"))), Enqueued::New(_)), "{n}");
    }
    assert_eq!(sent(large("late")), Enqueued::Full(Full::Recipient));
    // A small one would have had room before the refusal: it does not overtake.
    assert_eq!(sent(direct("small", ALICE)), Enqueued::Full(Full::Recipient));
    assert!(matches!(sent(direct("other", SESSION)), Enqueued::New(_)), "another recipient's room is its own");
    let admin = Admin::open(&dir.path().join("hub.db")).unwrap();
    assert_eq!(admin.queue(10).unwrap().iter().map(|row| row.copies).collect::<Vec<_>>(), [9, 1]);
    assert_eq!(hub.totals().unwrap().queued, 10);
    let has = |id: &str| {
        let ack = Ack { mesh: mesh(), recipient: key(ALICE), message: MessageId::new(id), now: 9 };
        assert_eq!(hub.acked(vec![ack]).unwrap(), 1);
    };
    has("m0");
    assert_eq!(sent(large("late")), Enqueued::Full(Full::Recipient), "not before an eighth is free");
    has("m1");
    assert!(matches!(sent(large("late")), Enqueued::New(_)));
    let other =
        NewMesh { id: MeshId::new("other"), slug: Slug::new("o"), name: "O".into(), owner: MemberKey(key(OWNER)), now: 1 };
    assert!(matches!(hub.create_mesh(other, new_member(OWNER)), Err(Error::Limit(_))));
}

#[test]
fn what_is_due_waits_while_its_recipient_has_no_room() {
    let (_dir, hub) = open();
    hub.set_policy(Policy { mesh_bytes: 0, recipient_bytes: 600, kept_bytes: 0, meshes: 1, audit_messages: false }).unwrap();
    hub.enqueue(vec![Submission { ciphertext: "x".repeat(800), ..direct("first", ALICE) }]).unwrap();
    let row = ScheduledRow {
        id: "s".into(),
        mesh: mesh(),
        member: MemberId::new("member-1"),
        sender_pubkey: key(10),
        sender_name: "Owner".into(),
        target_spec: key(ALICE).to_string(),
        nonce: "n".into(),
        ciphertext: "later".into(),
        subtype: None,
        cron: None,
        deliver_at: 50,
        created_at: 1,
        fired: 0,
        seal: None,
        client_id: None,
        error: None,
    };
    assert_eq!(hub.add_scheduled(Box::new(row.clone())), Ok(Scheduling::Kept));
    let fire =
        |row: &ScheduledRow| hub.fire(Box::new(row.clone()), Firing::Send(Box::new(direct("later", ALICE))), None).unwrap();
    assert_eq!(fire(&row), Some(Enqueued::Full(Full::Recipient)));
    assert_eq!(fire(&row), None, "it has another time now");
    let (due, next) = hub.due(100, 10).unwrap();
    assert_eq!((due, next), (vec![], Some(60_100)));
    assert_eq!(hub.acked(vec![ack(ALICE, "first")]).unwrap(), 1);
    let row = hub.due(60_100, 10).unwrap().0.remove(0);
    assert!(matches!(fire(&row), Some(Enqueued::New(_))));
    assert_eq!((hub.due(i64::MAX, 10).unwrap().0, waiting(&hub, ALICE, Urgency::All)), (vec![], vec!["later".to_owned()]));
}

#[test]
fn what_a_mesh_keeps_is_bounded_in_bytes() {
    let (dir, hub) = open();
    hub.set_policy(Policy { mesh_bytes: 0, recipient_bytes: 0, kept_bytes: 8192, meshes: 1, audit_messages: false }).unwrap();
    let author = Author { member: MemberId::new("member-1"), name: "Owner".into(), admin: true };
    let state = |name: &str, bytes: usize| {
        let value = "v".repeat(bytes);
        hub.set_state(mesh(), StateRow { key: name.into(), value, updated_by: "o".into(), member: None, updated_at: 1 }).unwrap()
    };
    let text = |id: &str, bytes: usize| {
        let row = MemoryRow { id: id.into(), content: "é".repeat(bytes / 2), tags: "[]".into(), by: String::new(), at: 1 };
        hub.remember(mesh(), author.clone(), row).unwrap()
    };
    assert_eq!((state("a", 1500), text("m", 1500), state("b", 1500)), (Outcome::Done, Outcome::Done, Outcome::Full));
    // What shrinks or goes makes room again.
    assert_eq!((state("a", 10), state("b", 1000)), (Outcome::Done, Outcome::Done));
    assert_eq!(hub.forget(mesh(), "m".into(), author.clone()), Ok(Outcome::Done));
    assert_eq!(text("n", 1500), Outcome::Done);
    let task = Task { id: "t".into(), title: "x".repeat(900), ..Task::default() };
    assert_eq!(hub.create_task(mesh(), task, author.clone(), 1), Ok(false));
    let skill = SkillRow {
        name: "s".into(),
        description: String::new(),
        instructions: "i".repeat(900),
        tags: "[]".into(),
        manifest: None,
        author: String::new(),
        created_at: 1,
    };
    assert_eq!(hub.share_skill(mesh(), author.clone(), skill), Ok(Outcome::Full));
    assert_eq!(hub.forget(mesh(), "n".into(), author.clone()), Ok(Outcome::Done));

    // A topic forgets its oldest messages.
    let topic = TopicRow {
        id: "topic".into(),
        name: "t".into(),
        description: None,
        visibility: crate::wire::topic::Visibility::Public,
        created_at: 1,
        members: 0,
        role: None,
    };
    hub.create_topic(mesh(), topic, author).unwrap();
    for n in 0..40 {
        let topic = Some(Topical { id: "topic".into(), mentions: Vec::new(), body_version: 1 });
        let post = Submission { topic, ciphertext: "c".repeat(200), ..group(&format!("p{n:02}"), &[]) };
        assert!(matches!(hub.enqueue(vec![post]).unwrap()[0], Enqueued::New(_)), "{n}");
    }
    let history = hub.topic_history("topic".into(), None, 100).unwrap();
    assert!(history[0].id == "p39" && (1..20).contains(&history.len()), "{}", history.len());

    // So does the record of what has been delivered, or was for nobody.
    for n in 0..20 {
        hub.enqueue(vec![group(&format!("nobody-{n}"), &[]), group(&format!("one-{n}"), &[ALICE])]).unwrap();
        hub.acked(vec![ack(ALICE, &format!("one-{n}"))]).unwrap();
    }
    let db = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let settled = count("SELECT count(*) FROM message WHERE waiting = 0");
    assert!(settled <= 9, "{settled}");
    assert_eq!((count("SELECT settled FROM kept"), count("SELECT count(*) FROM had") <= settled), (settled, true));
    let bytes = "SELECT (SELECT sum(256 + length(nonce) + length(ciphertext)) FROM topic_message)
                      + (SELECT sum(256 + length(key) + length(value)) FROM state)";
    assert_eq!(count("SELECT bytes FROM kept"), count(bytes), "the triggers' sum is the rows'");
    assert!(matches!(hub.message_status(mesh(), "one-19".into()), Ok(MessageLookup::Found(_))), "the latest are known");
}
