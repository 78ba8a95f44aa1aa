use super::tests::{ids, message, open, scope, session};
use super::*;
use crate::base::ids::PublicKey;
use tempfile::TempDir;

const ALL: [Priority; 3] = [Priority::Now, Priority::Next, Priority::Low];

fn ask(path: &str, now: Millis) -> Claim {
    let scope = scope("home", Some(1));
    Claim { scope, path: path.into(), priorities: ALL.to_vec(), held: Vec::new(), only: None, limit: 50, now, until: now + 30 }
}

fn rows(names: &[&str]) -> Vec<RowId> {
    names.iter().map(|name| RowId::new(format!("row-{name}"))).collect()
}

/// Four messages of three priorities, the last of them for another session.
fn filled() -> (TempDir, Inbox) {
    let (dir, inbox) = open();
    let with = |id: &str, priority| NewInbound { priority, ..message(id, 1) };
    inbox
        .insert(vec![
            with("low", Priority::Low),
            with("next", Priority::Next),
            NewInbound { sender_pubkey: PublicKey::from_bytes([6; 32]).to_string(), ..with("now", Priority::Now) },
            NewInbound { recipient: session(2), ..with("other", Priority::Now) },
        ])
        .unwrap();
    (dir, inbox)
}

#[test]
fn a_claim_is_for_one_path_until_its_lease_is_over() {
    let (_dir, inbox) = filled();
    for (path, now, expected) in [
        ("channel", 100, &["low", "next", "now"][..]),
        ("wake", 100, &[]),
        ("channel", 129, &[]),
        ("wake", 130, &["low", "next", "now"]),
        ("channel", 159, &[]),
    ] {
        assert_eq!(ids(&inbox.claim(ask(path, now)).unwrap()), expected, "{path} at {now}");
    }
    let mine = || scope("home", Some(1));
    assert_eq!(inbox.unclaim(rows(&["low"]), "channel".into(), mine()), Ok(0), "it is another path's by now");
    assert_eq!(inbox.unclaim(rows(&["low", "other"]), "wake".into(), mine()), Ok(1));
    assert_eq!(ids(&inbox.claim(ask("prompt", 140)).unwrap()), ["low"]);
}

#[test]
fn a_claim_under_another_clock_is_over() {
    let (_dir, inbox) = filled();
    let hour = 3_600_000;
    assert_eq!(ids(&inbox.claim(ask("channel", hour)).unwrap()), ["low", "next", "now"]);
    assert_eq!(ids(&inbox.claim(ask("wake", hour - 1)).unwrap()), [""; 0], "asked for a moment before");
    assert_eq!(ids(&inbox.claim(ask("wake", 0)).unwrap()), ["low", "next", "now"]);
}

#[test]
fn what_was_offered_is_seen_and_not_offered_again() {
    let (_dir, inbox) = filled();
    let mine = || scope("home", Some(1));
    inbox.claim(ask("wake", 100)).unwrap();
    assert_eq!(inbox.offered(rows(&["next", "other", "nothing"]), "wake".into(), mine(), 110), Ok(1), "only its own");
    assert_eq!(inbox.offered(rows(&["next"]), "channel".into(), mine(), 120), Ok(0), "the first path stands");
    assert_eq!(inbox.withheld(rows(&["low"]), "repeat".into(), mine(), 121), Ok(1));
    assert_eq!(inbox.mark_seen(rows(&["now"]), mine(), 122), Ok(1));
    assert_eq!(ids(&inbox.claim(ask("channel", 9000)).unwrap()), [""; 0], "offered, withheld, and read");
    let listed = inbox.list(Filter::newest(mine(), 9), None).unwrap().rows;
    let told: Vec<_> = listed.iter().map(|row| (row.offered_at, row.offered_by.as_deref(), row.seen_at)).collect();
    assert_eq!(told, [(None, None, Some(122)), (Some(110), Some("wake"), Some(110)), (Some(121), Some("repeat"), None)]);
    assert_eq!(inbox.unclaim(rows(&["other"]), "wake".into(), Scope::Everything), Ok(0));
    let all = Claim { scope: Scope::Everything, ..ask("tool", 9000) };
    assert_eq!(ids(&inbox.claim(all).unwrap()), ["other"]);
}

#[test]
fn only_the_path_that_claimed_it_has_offered_it() {
    let (_dir, inbox) = filled();
    let offered = |path: &str, now| inbox.offered(rows(&["next"]), path.into(), scope("home", Some(1)), now);
    inbox.claim(ask("wake", 100)).unwrap();
    assert_eq!(offered("tool", 101), Ok(0));
    inbox.claim(Claim { only: Some(rows(&["next"])), ..ask("tool", 130) }).unwrap();
    assert_eq!(offered("wake", 131), Ok(0), "it was too slow");
    assert_eq!(offered("tool", 161), Ok(1), "late, and nobody else has it");
}

#[test]
fn a_claim_can_be_narrowed() {
    let sender = PublicKey::from_bytes([7; 32]).to_string();
    let stranger = PublicKey::from_bytes([6; 32]).to_string();
    for (priorities, held, limit, expected) in [
        (&[Priority::Now][..], vec![], 9, &["now"][..]),
        (&[Priority::Now, Priority::Next], vec![], 9, &["next", "now"]),
        (&ALL, vec![], 2, &["low", "next"]),
        (&ALL, vec![sender.clone()], 9, &["now"]),
        (&ALL, vec![sender, stranger], 9, &[]),
    ] {
        let (_dir, inbox) = filled();
        let claim = Claim { priorities: priorities.to_vec(), held: held.clone(), limit, ..ask("wake", 1) };
        assert_eq!(ids(&inbox.claim(claim).unwrap()), expected, "{priorities:?} {held:?} {limit}");
    }
    let (_dir, inbox) = filled();
    let claim = Claim { only: Some(rows(&["now", "other", "nothing"])), ..ask("tool", 1) };
    assert_eq!(ids(&inbox.claim(claim).unwrap()), ["now"], "named, and its own");
}
