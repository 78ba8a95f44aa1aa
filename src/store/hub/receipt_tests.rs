use super::tests::{ALICE, OWNER, SESSION, ack, direct, group, key, mesh, open};
use super::*;
use crate::base::ids::MessageId;
use crate::base::time::Millis;
use crate::wire::receipt::{Receipt, Stage};

fn receipt(message: &str, state: Stage, at: Millis) -> Receipt {
    Receipt { message_id: MessageId::new(message), state, detail: String::new(), at, signature: format!("by {at}") }
}

fn hand_in(hub: &Hub, recipient: u8, receipts: Vec<Receipt>) -> usize {
    let handed = HandedIn { mesh: mesh(), recipient: key(recipient), receipts, now: 500 };
    let kept = hub.hand_in(Box::new(handed)).unwrap();
    assert_eq!(kept.members.len(), usize::from(0 < kept.count));
    kept.count
}

/// What waits for the owner: who said what of which message.
fn waiting(hub: &Hub, after: u64) -> Vec<(u64, String, u8, Stage, Millis)> {
    let all = hub.receipts(MemberId::new("member-1"), after, 100).unwrap();
    all.into_iter()
        .map(|one| (one.n, one.client_message_id.to_string(), one.recipient.as_bytes()[0], one.receipt.state, one.receipt.at))
        .collect()
}

#[test]
fn only_a_recipient_can_speak_of_a_message() {
    let (_dir, hub) = open();
    hub.enqueue(vec![direct("M1", SESSION), group("M2", &[ALICE, SESSION])]).unwrap();
    let arrived = |message: &str| vec![receipt(message, Stage::Arrived, 300)];
    assert_eq!(hand_in(&hub, ALICE, arrived("M1")), 0, "it is another's");
    assert_eq!(hand_in(&hub, OWNER, arrived("M2")), 0, "the sender is no recipient");
    assert_eq!(hand_in(&hub, 99, arrived("M2")), 0);
    assert_eq!(hand_in(&hub, SESSION, arrived("M9")), 0, "there is no such message");
    assert_eq!(hand_in(&hub, SESSION, vec![receipt("M1", Stage::Expired, 300)]), 0, "that is the broker's word");
    let shouted = Receipt { detail: "NOT A WORD".into(), ..receipt("M1", Stage::Arrived, 1) };
    assert_eq!(hand_in(&hub, SESSION, vec![shouted]), 0);
    let elsewhere = HandedIn { mesh: MeshId::new("other"), recipient: key(SESSION), receipts: arrived("M1"), now: 1 };
    assert_eq!(hub.hand_in(Box::new(elsewhere)).unwrap(), Kept::default());
    assert_eq!(waiting(&hub, 0), []);
    assert_eq!(hand_in(&hub, SESSION, arrived("M1")), 1);
    assert_eq!(hand_in(&hub, ALICE, arrived("M2")), 1, "before its acknowledgement");
    assert_eq!(hub.acked(vec![ack(SESSION, "M2"), ack(SESSION, "M1")]), Ok(2));
    assert_eq!(hand_in(&hub, SESSION, arrived("M2")), 1, "and after it");
    let said: Vec<_> = waiting(&hub, 0).into_iter().map(|(_, id, by, ..)| (id, by)).collect();
    assert_eq!(said, [("client-M1".into(), SESSION), ("client-M2".into(), ALICE), ("client-M2".into(), SESSION)]);
}

#[test]
fn the_last_word_waits_until_it_is_taken() {
    let (_dir, hub) = open();
    hub.enqueue(vec![direct("M1", SESSION)]).unwrap();
    let say = |state, at| assert_eq!(hand_in(&hub, SESSION, vec![receipt("M1", state, at)]), 1);
    let now = || waiting(&hub, 0).into_iter().map(|(_, _, _, state, at)| (state, at)).collect::<Vec<_>>();
    say(Stage::Arrived, 300);
    let first = waiting(&hub, 0)[0].0;
    say(Stage::Held, 310);
    assert_eq!(now(), [(Stage::Held, 310)]);
    say(Stage::Arrived, 300);
    assert_eq!(now(), [(Stage::Held, 310)], "an older word said again");
    say(Stage::Offered, 305);
    say(Stage::Held, 400);
    assert_eq!(now(), [(Stage::Offered, 305)]);
    assert_eq!(hub.receipts_taken(MemberId::new("member-1"), vec![first]), Ok(0), "what was taken was another word");
    let last = waiting(&hub, 0)[0].0;
    assert_eq!(hub.receipts_taken(MemberId::new("member-2"), vec![last]), Ok(0), "somebody else's");
    assert!(first < last && waiting(&hub, last).is_empty());
    assert_eq!(hub.receipts_taken(MemberId::new("member-1"), vec![last]), Ok(1));
    assert_eq!(now(), []);
}

#[test]
fn what_nobody_fetched_in_time_is_told_and_what_was_fetched_is_not() {
    let (_dir, hub) = open();
    hub.enqueue(vec![direct("M1", SESSION), direct("M2", ALICE), group("M3", &[ALICE, SESSION])]).unwrap();
    hub.acked(vec![ack(ALICE, "M2"), ack(ALICE, "M3")]).unwrap();
    hand_in(&hub, SESSION, vec![receipt("M1", Stage::Arrived, 300)]);
    let expired = hub.expire(2000, 10).unwrap();
    assert_eq!((expired.count, expired.told.len()), (3, 2));
    assert_eq!(expired.told[0], (mesh(), MemberKey(key(OWNER))));
    let said: Vec<_> = waiting(&hub, 0).into_iter().map(|(_, id, by, state, _)| (id, by, state)).collect();
    let own_word = ("client-M1".to_owned(), SESSION, Stage::Arrived);
    assert_eq!(said, [own_word, ("client-M3".to_owned(), SESSION, Stage::Expired)], "a recipient's own word stands");
    assert_eq!((hub.forget_receipts(500, 10), hub.forget_receipts(5000, 10)), (Ok(0), Ok(2)));
}

#[test]
fn one_member_has_so_many_and_no_more() {
    let (_dir, hub) = open();
    const COUNT: usize = 10_200;
    let ids: Vec<String> = (0..COUNT).map(|n| format!("M{n}")).collect();
    for some in ids.chunks(500) {
        hub.enqueue(some.iter().map(|id| direct(id, SESSION)).collect()).unwrap();
        hand_in(&hub, SESSION, some.iter().map(|id| receipt(id, Stage::Arrived, 300)).collect());
    }
    let all = hub.receipts(MemberId::new("member-1"), 0, COUNT).unwrap();
    assert!((10_000..=10_064).contains(&all.len()), "{}", all.len());
    assert_eq!(all.last().unwrap().receipt.message_id.as_str(), ids.last().unwrap());
}
