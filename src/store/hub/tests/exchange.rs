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
    let answers = hub.exchange(has(), vec![direct("second", ALICE)]).unwrap();
    assert_eq!(answers, [Enqueued::New(MessageId::new("second"))]);
    assert_eq!(waits(&hub), ["second"]);
}
