use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::ids::{MemberKey, SessionKey};
use crate::net::ws;
use crate::wire::client::About;
use crate::wire::peer::Group;

fn mesh() -> MeshId {
    MeshId::new("m")
}

fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 32])
}

fn newcomer(member: u8, kind: Kind, groups: &[&str]) -> Newcomer {
    let (handle, inbox) = ws::channel(8).unwrap();
    // The connection's end is not looked at here.
    std::mem::forget(inbox);
    let groups = groups.iter().map(|name| Group { name: (*name).to_owned(), role: None }).collect();
    Newcomer {
        kind,
        member: MemberKey(key(member)),
        name: format!("{kind:?}"),
        about: About { groups: Some(groups), hostname: Some("h".into()), ..About::default() },
        visible: true,
        line: Line::new(handle, Arc::default(), Arc::default()),
    }
}

fn enter(router: &Router, id: &str, new: Newcomer) -> Entered {
    router.enter(&mesh(), new, PresenceId::new(id), 1000).unwrap()
}

fn session(byte: u8) -> Kind {
    Kind::Session(SessionKey(key(byte)))
}

#[test]
fn a_late_close_of_an_old_connection_changes_nothing() {
    let router = Router::default();
    let now = Instant::now();
    let first = enter(&router, "a", newcomer(1, session(10), &[]));
    let second = enter(&router, "b", newcomer(1, session(10), &[]));
    assert_eq!((&second.presence, &second.how), (&first.presence, &How::Replaced));
    assert!(second.displaced.is_some());
    let holds = |one: &Entered| router.is_held_by(&mesh(), &one.presence, one.generation);
    assert!(!holds(&first) && holds(&second), "what the first has to say of the place is old");
    assert_eq!(router.leave(&mesh(), &first.presence, first.generation, true, (now, 1)), None);
    assert!(router.roster(&mesh())[0].online, "the second connection is still there");
    assert_eq!(router.leave(&mesh(), &second.presence, second.generation, false, (now, 2000)), None);
    assert!(!router.roster(&mesh())[0].online);
    let third = enter(&router, "c", newcomer(1, session(10), &[]));
    assert_eq!((third.presence, third.how), (first.presence, How::Returned(2000)));
}

#[test]
fn a_session_that_another_member_vouches_for_is_another_presence() {
    let router = Router::default();
    let first = enter(&router, "a", newcomer(1, session(10), &["eng"]));
    let second = enter(&router, "b", newcomer(2, session(10), &[]));
    assert_eq!((second.presence.as_str(), &second.how), ("b", &How::Joined));
    assert!(second.displaced.is_some(), "the first connection is to close");
    assert_eq!(second.evicted.iter().map(|gone| gone.member).collect::<Vec<_>>(), [MemberKey(key(1))]);
    assert_eq!(router.leave(&mesh(), &first.presence, first.generation, true, (Instant::now(), 1)), None);
    let roster = router.roster(&mesh());
    assert_eq!(roster.iter().map(|peer| (peer.member_pubkey, peer.online)).collect::<Vec<_>>(), [(MemberKey(key(2)), true)]);
    assert!(router.lines_of(&mesh(), |member| member == MemberKey(key(1))).is_empty());
}

#[test]
fn a_lease_runs_out_once_and_a_session_that_is_over_has_none() {
    let router = Router::default();
    let now = Instant::now();
    let kept = enter(&router, "a", newcomer(1, session(10), &[]));
    let over = enter(&router, "b", newcomer(1, session(11), &[]));
    let passing = enter(&router, "c", newcomer(1, Kind::Passing(None), &[]));
    assert_eq!(router.leave(&mesh(), &kept.presence, kept.generation, false, (now, 1)), None);
    let gone = router.leave(&mesh(), &over.presence, over.generation, true, (now, 1)).unwrap();
    assert_eq!((gone.key, gone.announced), (key(11), true));
    assert!(!router.leave(&mesh(), &passing.presence, passing.generation, false, (now, 1)).unwrap().announced);
    assert_eq!(router.next_expiry(), Some(now + LEASE));
    assert!(router.expire(now + LEASE - Duration::from_millis(1)).is_empty());
    assert_eq!(router.expire(now + LEASE).len(), 1);
    assert!(router.expire(now + LEASE).is_empty());
    assert!(router.roster(&mesh()).is_empty());
}

#[test]
fn what_is_for_many_names_sessions_and_a_daemon_only_for_want_of_one() {
    let router = Router::default();
    let sender = enter(&router, "a", newcomer(1, session(10), &["eng"]));
    enter(&router, "b", newcomer(1, session(11), &["eng/api"]));
    enter(&router, "c", newcomer(2, session(20), &["ops"]));
    enter(&router, "d", newcomer(2, Kind::Member, &[]));
    enter(&router, "e", newcomer(3, Kind::Member, &[]));
    enter(&router, "f", newcomer(1, Kind::Member, &[]));
    enter(&router, "g", newcomer(2, Kind::Passing(Some(key(90))), &[]));
    let members = || (1..=4).map(|n| MemberKey(key(n)));
    let everyone = || router.everyone(&mesh(), members(), &sender.presence);
    assert_eq!(everyone(), [key(3), key(4), key(11), key(20)], "4 has nobody here");
    let to = |group: &str| router.in_group(&mesh(), group, &sender.presence, &mut Vec::new()).0;
    assert_eq!(to("eng"), [key(11)], "a part of a group belongs to it");
    assert_eq!(to("eng/api"), [key(11)]);
    assert!(to("en").is_empty());
    assert_eq!(to("ops"), [key(20)]);
    for hides in ["c", "e", "b"] {
        router.set_visible(&mesh(), &PresenceId::new(hides), false);
    }
    assert_eq!(everyone(), [key(4), key(11)], "who hides is hidden from others, and from its own member's sessions not");
    assert_eq!((to("ops"), to("eng")), (vec![], vec![key(11)]));
    assert_eq!(router.everyone(&MeshId::new("other"), members(), &sender.presence).len(), 4);
}

#[test]
fn a_members_mail_has_one_taker_at_a_time() {
    let router = Router::default();
    let on = |host: &str| {
        let mut new = newcomer(1, Kind::Member, &[]);
        new.about.hostname = Some(host.to_owned());
        new
    };
    let first = enter(&router, "a", on("one"));
    let second = enter(&router, "b", on("two"));
    let passing = enter(&router, "c", newcomer(1, Kind::Passing(None), &[]));
    let takers = || [&first, &second, &passing].map(|who| router.is_taker(&mesh(), &who.presence));
    assert_eq!(takers(), [true, false, false]);
    router.leave(&mesh(), &first.presence, first.generation, false, (Instant::now(), 1));
    assert_eq!(takers(), [false, true, false]);
    let again = enter(&router, "d", on("one"));
    assert_eq!(again.presence, first.presence, "the same daemon has its place back");
    assert_eq!(takers(), [true, false, false]);
}

#[test]
fn kept_places_make_room_and_a_daemon_always_has_one() {
    let router = Router::default();
    let now = Instant::now();
    let crowd = |n: usize| {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Kind::Session(SessionKey(PublicKey::from_bytes(bytes)))
    };
    for n in 0..MAX_PER_MEMBER {
        let one = enter(&router, &format!("p{n}"), newcomer(1, crowd(n), &[]));
        router.leave(&mesh(), &one.presence, one.generation, false, (now, i64::try_from(n).unwrap()));
    }
    let first = enter(&router, "p0", newcomer(1, crowd(0), &[]));
    assert_eq!((first.how, first.evicted), (How::Returned(0), Vec::new()), "who comes back takes nobody's place");
    let more = enter(&router, "more", newcomer(1, crowd(MAX_PER_MEMBER), &[]));
    assert!(!more.evicted.is_empty(), "the member's own oldest kept place goes");
    for n in 0..MAX_PER_MESH - MAX_PER_MEMBER {
        enter(&router, &format!("q{n}"), newcomer(2, crowd(10_000 + n), &[]));
    }
    let guest = enter(&router, "guest", newcomer(3, session(30), &[]));
    assert!(guest.evicted[0].announced, "another member's kept place goes when the mesh is full");
    assert!(!enter(&router, "daemon", newcomer(3, Kind::Member, &[])).evicted.is_empty());
}
