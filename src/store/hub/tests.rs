use super::*;
use crate::base::ids::{ClientId, MessageId};
use crate::wire::json::json;
use crate::wire::priority::Priority;
use tempfile::{TempDir, tempdir};

mod exchange;
mod limits;

pub(super) fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 32])
}

pub(super) fn mesh() -> MeshId {
    MeshId::new("mesh")
}

pub(super) const OWNER: u8 = 1;
pub(super) const ALICE: u8 = 2;
pub(super) const SESSION: u8 = 20;

pub(super) fn new_member(byte: u8) -> NewMember {
    NewMember {
        id: MemberId::new(format!("member-{byte}")),
        mesh: mesh(),
        key: MemberKey(key(byte)),
        display_name: format!("Name {byte}"),
        role: Role::Member,
        now: 1,
    }
}

pub(super) fn seen(byte: u8, at: Millis) -> SeenSession {
    SeenSession {
        mesh: mesh(),
        key: SessionKey(key(byte)),
        member: MemberId::new("member-2"),
        display_name: "Alice".to_owned(),
        last_seen_at: at,
        about: None,
        groups: Vec::new(),
        here: false,
        opens: None,
        hidden: false,
        ended: false,
    }
}

/// A mesh with its owner, Alice, and a session of Alice's.
pub(super) fn open() -> (TempDir, Hub) {
    let dir = tempdir().unwrap();
    let hub = Hub::open(&dir.path().join("hub.db")).unwrap().0;
    let new = NewMesh { id: mesh(), slug: Slug::new("home"), name: "Home".into(), owner: MemberKey(key(OWNER)), now: 1 };
    hub.create_mesh(new, NewMember { role: Role::Admin, ..new_member(OWNER) }).unwrap();
    hub.add_member(new_member(ALICE)).unwrap();
    hub.session_seen(vec![seen(SESSION, 5)]).unwrap();
    (dir, hub)
}

/// A direct message from the owner.
pub(super) fn direct(id: &str, to: u8) -> Submission {
    Submission {
        id: MessageId::new(id),
        mesh: mesh(),
        sender_member: MemberId::new("member-1"),
        sender_pubkey: key(10),
        sender_name: "Owner".to_owned(),
        target_spec: key(to).to_string(),
        recipients: vec![key(to)],
        direct: true,
        priority: Priority::Next,
        nonce: "n".to_owned(),
        ciphertext: format!("sealed {id}"),
        reply_to: Some("r".to_owned()),
        client_id: Some(ClientId::new(format!("client-{id}"))),
        fingerprint: Some("f".to_owned()),
        now: 100,
        expires_at: 1000,
        subtype: None,
        topic: None,
        sealing: None,
    }
}

pub(super) fn group(id: &str, to: &[u8]) -> Submission {
    Submission { recipients: to.iter().copied().map(key).collect(), direct: false, target_spec: "@eng".into(), ..direct(id, 0) }
}

fn waiting(hub: &Hub, recipient: u8, urgency: Urgency) -> Vec<String> {
    let rows = hub.fetch(mesh(), key(recipient), Seq(0), urgency, 200, 100).unwrap();
    rows.into_iter().map(|row| row.id.to_string()).collect()
}

pub(super) fn ack(recipient: u8, message: &str) -> Ack {
    Ack { mesh: mesh(), recipient: key(recipient), message: MessageId::new(message), now: 300 }
}

fn status(hub: &Hub, id: &str) -> MessageState {
    match hub.message_status(mesh(), id.to_owned()).unwrap() {
        MessageLookup::Found(state) => state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn meshes_and_members_are_made_once() {
    let (_dir, hub) = open();
    let again = NewMesh { id: mesh(), slug: Slug::new("x"), name: "x".into(), owner: MemberKey(key(9)), now: 9 };
    let made = hub.create_mesh(again, new_member(9)).unwrap();
    assert_eq!((made.slug.as_str(), made.owner, made.created_at), ("home", MemberKey(key(OWNER)), 1));
    assert_eq!(hub.member(mesh(), MemberKey(key(9))), Ok(None));
    assert_eq!((hub.mesh(mesh()), hub.meshes()), (Ok(Some(made.clone())), Ok(vec![made])));
    assert_eq!(hub.mesh(MeshId::new("other")), Ok(None));
    assert_eq!(hub.member(mesh(), MemberKey(key(OWNER))).unwrap().unwrap().role, Role::Admin);

    let same = hub.add_member(NewMember { id: MemberId::new("other id"), ..new_member(ALICE) }).unwrap();
    assert_eq!((same.id.as_str(), same.revoked), ("member-2", false));
    assert_eq!(hub.revoke(mesh(), MemberKey(key(ALICE)), Removed::Left, 7), Ok(true));
    assert_eq!(hub.revoke(mesh(), MemberKey(key(ALICE)), Removed::Left, 8), Ok(false));
    assert!(hub.add_member(new_member(ALICE)).unwrap().revoked);
    assert_eq!(hub.members(mesh()).unwrap().len(), 2);
    let nowhere = NewMember { mesh: MeshId::new("none"), ..new_member(5) };
    assert!(matches!(hub.add_member(nowhere), Err(Error::Sql(_))));
}

#[test]
fn keys_are_known_while_their_member_stands() {
    let (_dir, hub) = open();
    let alice = MemberId::new("member-2");
    assert_eq!(hub.owner_of(mesh(), key(ALICE)), Ok(Some(Known::Member(alice.clone()))));
    assert_eq!(hub.owner_of(mesh(), key(SESSION)), Ok(Some(Known::Session(alice))));
    assert_eq!(hub.owner_of(mesh(), key(99)), Ok(None));
    assert_eq!(hub.owner_of(MeshId::new("other"), key(ALICE)), Ok(None));
    hub.session_seen(vec![seen(21, 9), seen(SESSION, 4)]).unwrap();
    assert_eq!(hub.away_sessions(mesh(), 5, 9), Ok(vec![seen(21, 9), seen(SESSION, 5)]));
    assert_eq!(hub.away_sessions(mesh(), 6, 9), Ok(vec![seen(21, 9)]));
    assert_eq!(hub.forget_sessions(mesh(), 9), Ok(1));
    assert_eq!(hub.owner_of(mesh(), key(SESSION)), Ok(None));
    hub.revoke(mesh(), MemberKey(key(ALICE)), Removed::Left, 7).unwrap();
    assert_eq!((hub.owner_of(mesh(), key(ALICE)), hub.owner_of(mesh(), key(21))), (Ok(None), Ok(None)));
}

#[test]
fn a_retry_is_the_same_message_and_another_is_a_conflict() {
    let (_dir, hub) = open();
    let id = |id: &str| MessageId::new(id);
    let batch = vec![
        direct("a", ALICE),
        Submission { id: id("retry"), ..direct("a", ALICE) },
        Submission { id: id("forged"), fingerprint: Some("g".into()), ..direct("a", ALICE) },
        Submission { id: id("bare"), fingerprint: None, ..direct("a", ALICE) },
        direct("b", 99),
        direct("c", SESSION),
        Submission { id: id("d"), sender_member: MemberId::new("member-2"), ..direct("a", OWNER) },
        Submission { id: id("e"), client_id: None, ..direct("a", ALICE) },
        Submission { recipients: vec![], ..direct("f", ALICE) },
        group("g", &[99, 98]),
    ];
    let expected = vec![
        Enqueued::New(id("a")),
        Enqueued::Same(id("a")),
        Enqueued::Conflict,
        Enqueued::Conflict,
        Enqueued::UnknownRecipient,
        Enqueued::New(id("c")),
        Enqueued::New(id("d")),
        Enqueued::New(id("e")),
        Enqueued::UnknownRecipient,
        Enqueued::New(id("g")),
    ];
    assert_eq!(hub.enqueue(batch), Ok(expected));
    assert_eq!(waiting(&hub, ALICE, Urgency::All), ["a", "e"]);
    assert_eq!(waiting(&hub, 98, Urgency::All), ["g"]);
    assert_eq!(hub.depth(), Ok(6));
    // Delivered, it is still the same message.
    assert_eq!(hub.acked(vec![ack(ALICE, "a")]), Ok(1));
    assert_eq!(hub.enqueue(vec![Submission { id: id("late"), ..direct("a", ALICE) }]), Ok(vec![Enqueued::Same(id("a"))]));
}

#[test]
fn a_recipient_gets_its_messages_whole_and_in_order() {
    let (_dir, hub) = open();
    let urgent = |id: &str| Submission { priority: Priority::Now, ..direct(id, ALICE) };
    let brief = Submission { expires_at: 200, ..direct("brief", ALICE) };
    hub.enqueue(vec![direct("z", ALICE), urgent("y"), brief, direct("other", OWNER), direct("x", ALICE), urgent("w")]).unwrap();
    assert_eq!(waiting(&hub, ALICE, Urgency::All), ["z", "y", "x", "w"]);
    assert_eq!(waiting(&hub, ALICE, Urgency::NowOnly), ["y", "w"]);
    let rows = hub.fetch(mesh(), key(ALICE), Seq(0), Urgency::All, 200, 2).unwrap();
    let expected = Stored {
        seq: Seq(1),
        id: MessageId::new("z"),
        sender_pubkey: key(10),
        sender_member: MemberKey(key(OWNER)),
        sender_member_id: MemberId::new("member-1"),
        sender_name: "Owner".to_owned(),
        target_spec: key(ALICE).to_string(),
        priority: Priority::Next,
        nonce: "n".to_owned(),
        ciphertext: "sealed z".to_owned(),
        reply_to: Some("r".to_owned()),
        created_at: 100,
        client_id: Some(ClientId::new("client-z")),
        fingerprint: Some("f".to_owned()),
        subtype: None,
        topic: None,
        seal: None,
        mentions: Vec::new(),
    };
    assert_eq!((rows.len(), &rows[0]), (2, &expected));
    let rest = hub.fetch(mesh(), key(ALICE), rows[1].seq, Urgency::All, 200, 9).unwrap();
    assert_eq!(rest.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["x", "w"]);
    assert_eq!(hub.fetch(MeshId::new("other"), key(ALICE), Seq(0), Urgency::All, 200, 9), Ok(vec![]));
}

#[test]
fn the_same_id_is_the_same_message_only_from_the_same_key_to_the_same_target() {
    let (_dir, hub) = open();
    let bare = |id: &str| Submission { client_id: Some(ClientId::new("job-1")), fingerprint: None, ..direct(id, ALICE) };
    assert_eq!(hub.enqueue(vec![bare("a")]), Ok(vec![Enqueued::New(MessageId::new("a"))]));
    assert_eq!(hub.enqueue(vec![bare("b")]), Ok(vec![Enqueued::Conflict]), "other text, and no fingerprint to tell");
    assert_eq!(
        hub.enqueue(vec![Submission { ciphertext: "sealed a".into(), ..bare("c") }]),
        Ok(vec![Enqueued::Same(MessageId::new("a"))])
    );
    let marked = |id: &str| Submission { client_id: Some(ClientId::new("job-2")), ..direct(id, ALICE) };
    assert_eq!(hub.enqueue(vec![marked("d")]), Ok(vec![Enqueued::New(MessageId::new("d"))]));
    for other in [
        Submission { sender_pubkey: key(77), ..marked("e") },
        Submission { target_spec: key(OWNER).to_string(), recipients: vec![key(OWNER)], ..marked("e") },
    ] {
        assert_eq!(hub.enqueue(vec![other]), Ok(vec![Enqueued::Conflict]));
    }
    assert_eq!(hub.enqueue(vec![marked("f")]), Ok(vec![Enqueued::Same(MessageId::new("d"))]));
}

#[test]
fn who_was_here_is_known_until_the_place_is_given_up() {
    let (_dir, hub) = open();
    let here = |byte, at| SeenSession { about: Some("{}".into()), here: true, ..seen(byte, at) };
    hub.session_seen(vec![here(21, 5), seen(22, 6)]).unwrap();
    assert_eq!(hub.sessions_here(), Ok(vec![here(21, 5)]));
    assert_eq!(hub.forget_sessions(mesh(), 100), Ok(2), "whoever is here is not forgotten");
    hub.sessions_gone(vec![(mesh(), SessionKey(key(21)))], true).unwrap();
    assert_eq!(hub.sessions_here(), Ok(vec![]));
}

#[test]
fn a_groups_sessions_are_found_while_they_may_come_back() {
    let (_dir, hub) = open();
    let in_groups = |byte, at, groups: &[&str]| SeenSession {
        about: Some("{}".into()),
        groups: groups.iter().map(|name| (*name).to_owned()).collect(),
        here: true,
        ..seen(byte, at)
    };
    let hidden = SeenSession { hidden: true, ..in_groups(24, 9, &["eng"]) };
    let all = vec![
        in_groups(21, 6, &["eng", "eng/api"]),
        in_groups(22, 7, &["eng/api"]),
        in_groups(23, 8, &["eng-ops", "eng.x", "engine", "en", "eng0", "Eng"]),
        hidden,
        in_groups(25, 10, &["eng"]),
    ];
    hub.session_seen(all).unwrap();
    let found = |group: &str, since| {
        let rows = hub.away_in_group(mesh(), group.into(), since, 9).unwrap();
        assert!(rows.is_sorted_by_key(|row| (row.here, row.ended)), "{rows:?}");
        rows.into_iter().filter(|row| !row.here).map(|row| row.key).collect::<Vec<_>>()
    };
    assert!(found("eng", 0).is_empty(), "whoever is here is known otherwise");
    let gone = |byte: u8, ended| hub.sessions_gone(vec![(mesh(), SessionKey(key(byte)))], ended).unwrap();
    [21, 22, 23, 24].into_iter().for_each(|byte| gone(byte, false));
    gone(25, true);
    assert_eq!(found("eng", 0), [key(24), key(22), key(21), key(25)], "first those that may come back");
    // Of those that are over the last stands for all.
    hub.session_seen(vec![in_groups(27, 11, &["eng"])]).unwrap();
    gone(27, true);
    assert_eq!(found("eng", 0), [key(24), key(22), key(21), key(27)]);
    hub.session_seen(vec![in_groups(27, 11, &["eng"])]).unwrap();
    assert_eq!(found("eng", 0), [key(24), key(22), key(21)], "it is here again");
    hub.session_seen(vec![SeenSession { about: Some("{}".into()), ..in_groups(27, 11, &[]) }]).unwrap();
    gone(27, true);
    assert_eq!((found("eng/api", 0), found("eng", 7)), (vec![key(22), key(21)], vec![key(24), key(22)]));
    assert!(hub.away_in_group(mesh(), "eng".into(), 0, 1).unwrap()[0].hidden);
    assert!(hub.session(mesh(), SessionKey(key(25))).unwrap().unwrap().ended);
    hub.session_seen(vec![in_groups(25, 11, &["ops"])]).unwrap();
    gone(25, false);
    assert_eq!((found("eng", 9), found("ops", 0)), (vec![key(24)], vec![key(25)]), "only what it said last counts");
    assert_eq!(hub.forget_sessions(mesh(), 12), Ok(7));
    assert!(found("eng", 0).is_empty() && found("engine", 0).is_empty());
    hub.session_seen(vec![SeenSession { about: None, ..in_groups(24, 12, &[]) }]).unwrap();
    gone(24, false);
    assert!(found("eng", 0).is_empty(), "forgotten is forgotten");
    hub.session_seen(vec![in_groups(26, 12, &["eng"])]).unwrap();
    gone(26, false);
    assert_eq!(found("eng", 0), [key(26)]);
    hub.revoke(mesh(), MemberKey(key(ALICE)), Removed::Left, 13).unwrap();
    assert!(found("eng", 0).is_empty());
    assert_eq!(hub.standing(mesh()), Ok(vec![MemberKey(key(OWNER))]));
}

#[test]
fn an_ack_takes_the_recipients_own_copy_only() {
    let (_dir, hub) = open();
    hub.enqueue(vec![group("a", &[ALICE, OWNER, ALICE, 99]), group("b", &[ALICE]), group("none", &[])]).unwrap();
    assert_eq!(hub.depth(), Ok(4));
    let elsewhere = Ack { mesh: MeshId::new("other"), ..ack(ALICE, "a") };
    let wrong = vec![elsewhere, ack(50, "a"), ack(OWNER, "client-b"), ack(ALICE, "client-a")];
    assert_eq!(hub.acked(wrong), Ok(0));
    assert_eq!(hub.acked(vec![ack(ALICE, "a"), ack(ALICE, "a"), ack(OWNER, "a")]), Ok(2));
    let state = status(&hub, "a");
    assert_eq!((state.recipients, state.waiting, state.delivered_at), (3, vec![key(99)], None));
    assert_eq!(hub.fetch(mesh(), key(99), Seq(0), Urgency::All, 200, 9).unwrap()[0].ciphertext, "sealed a");
    assert_eq!(hub.acked(vec![ack(99, "a")]), Ok(1));
    let state = status(&hub, "a");
    assert_eq!((state.recipients, state.waiting, state.delivered_at), (3, vec![], Some(300)));
    assert_eq!(status(&hub, "none").delivered_at, Some(100));
    assert_eq!((hub.depth(), waiting(&hub, ALICE, Urgency::All)), (Ok(1), vec!["b".to_owned()]));
}

#[test]
fn text_goes_with_the_last_copy_and_rows_with_their_time() {
    let (dir, hub) = open();
    hub.enqueue(vec![group("a", &[ALICE]), Submission { expires_at: 2000, ..group("b", &[ALICE, OWNER]) }]).unwrap();
    hub.acked(vec![ack(ALICE, "a"), ack(ALICE, "b")]).unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    let texts = || {
        let mut statement = conn.prepare("SELECT nonce || ciphertext FROM message ORDER BY seq").unwrap();
        statement.query_map([], |row| row.get::<_, String>(0)).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(texts(), ["", "nsealed b"]);
    let expire = |now, limit| hub.expire(now, limit).unwrap().count;
    assert_eq!((expire(999, 10), expire(2000, 1), hub.depth()), (0, 1, Ok(1)));
    assert_eq!((expire(2000, 10), expire(2000, 10), hub.depth()), (1, 0, Ok(0)));
    assert_eq!(texts(), [""; 0]);
    // Its id is free again, its place is not.
    hub.enqueue(vec![group("a", &[ALICE])]).unwrap();
    assert_eq!(hub.fetch(mesh(), key(ALICE), Seq(0), Urgency::All, 200, 9).unwrap()[0].seq, Seq(3));
}

#[test]
fn a_message_is_found_by_its_id_or_a_beginning_that_is_its_own() {
    let (_dir, hub) = open();
    hub.enqueue(vec![group("abc1", &[ALICE]), group("abc12", &[]), group("abd", &[])]).unwrap();
    assert_eq!(status(&hub, "abc1").id.as_str(), "abc1");
    assert_eq!(status(&hub, "abd").id.as_str(), "abd");
    assert_eq!(status(&hub, "abc12").id.as_str(), "abc12");
    for (id, expected) in [
        ("abc", MessageLookup::Ambiguous),
        ("abe", MessageLookup::NotFound),
        ("abc13", MessageLookup::NotFound),
        ("%", MessageLookup::NotFound),
    ] {
        assert_eq!(hub.message_status(mesh(), id.to_owned()), Ok(expected), "{id}");
    }
    assert_eq!(hub.message_status(MeshId::new("other"), "abd".to_owned()), Ok(MessageLookup::NotFound));
}

#[test]
fn what_was_enqueued_survives_a_kill() {
    let (dir, hub) = open();
    hub.enqueue(vec![direct("a", ALICE), direct("b", ALICE)]).unwrap();
    hub.acked(vec![ack(ALICE, "a")]).unwrap();
    let copy = tempdir().unwrap();
    for name in ["hub.db", "hub.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let hub = Hub::open(&copy.path().join("hub.db")).unwrap().0;
    assert_eq!((waiting(&hub, ALICE, Urgency::All), hub.depth()), (vec!["b".to_owned()], Ok(1)));
}

#[test]
fn a_chain_that_was_cut_at_its_beginning_still_fits() {
    let (dir, hub) = open();
    let entry = |now| Entry { mesh: mesh(), event: Event::StateSet, actor: Actor::Nobody, payload: json!({"key": "k"}), now };
    hub.audit((1..=5).map(entry).collect()).unwrap();
    hub.audit(vec![Entry { actor: Actor::Key(MemberKey(key(ALICE))), ..entry(6) }]).unwrap();
    let admin = Admin::open(&dir.path().join("hub.db")).unwrap();
    let verdict = || admin.verify().unwrap().remove(0);
    assert_eq!((verdict().entries, verdict().broken_at), (6, None));
    let head = verdict().head;
    assert_eq!(hub.prune_audit(mesh(), 4, 2).unwrap(), 2);
    assert_eq!(hub.prune_audit(mesh(), 4, 2).unwrap(), 1);
    assert_eq!(hub.prune_audit(mesh(), 4, 2).unwrap(), 0);
    assert_eq!((verdict().entries, verdict().broken_at, verdict().head), (3, None, head));
    hub.prune_audit(mesh(), 100, 100).unwrap();
    hub.audit(vec![entry(7)]).unwrap();
    assert_eq!((verdict().entries, verdict().broken_at), (1, None), "the chain goes on from where it was cut");
}
