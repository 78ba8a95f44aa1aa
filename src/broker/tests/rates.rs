//! How much one member may ask.

use super::*;

#[test]
fn whoever_asks_without_end_is_told_to_wait_and_others_are_not() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    let ask = json!({"type": "recall", "query": "", "_reqId": "flood"}).to_string();
    let mut refused = None;
    // More at once than there is room for, whatever is earned meanwhile.
    for _ in 0..20 {
        (0..200).for_each(|_| bob.say_text(&ask));
        bob.say(&json!({"type": "get_skill", "name": "end", "_reqId": "end"}));
        let until = Instant::now() + PATIENCE;
        loop {
            let frame = bob.heard.recv_deadline(until).expect("every question is answered");
            if frame["type"] == "error" {
                refused = Some(frame.clone());
            }
            if frame["_reqId"] == "end" {
                break;
            }
        }
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("nothing was refused");
    assert_eq!(refused["code"], "rate_limited", "{refused}");
    assert!(refused["retry_after_ms"].as_u64().is_some_and(|pause| 0 < pause), "{refused}");
    for n in 0..100 {
        let id = format!("r{n}");
        alice.say(&json!({"type": "recall", "query": "", "_reqId": id}));
        assert_eq!(alice.next("memory_results")["_reqId"], id);
        alice.next("memory_recall_result");
    }
    // Mail is paced apart.
    assert_eq!(bob.sent("m", "*", "eA==")["queued"], true);
    assert_eq!(alice.next("push")["client_message_id"], "m");
}
