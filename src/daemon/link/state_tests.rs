use std::time::Duration;

use super::*;
use crate::wire::client::ListPeers;
use crate::wire::priority::Priority;
use crate::wire::state::{GetState, SetState};

fn outgoing(id: &str) -> Outgoing {
    let frame = Send {
        id: id.into(),
        client_message_id: Some(ClientId::new(id)),
        request_fingerprint: None,
        target_spec: "*".into(),
        priority: Priority::Next,
        nonce: "n".into(),
        ciphertext: "c".into(),
        reply_to_id: None,
        mentions: Vec::new(),
        body_version: None,
        seal: None,
    };
    Outgoing { row: RowId::new(format!("row-{id}")), epoch: Epoch(1), membership: None, frame }
}

fn list_peers(id: String) -> ClientFrame {
    ClientFrame::ListPeers(ListPeers { req_id: Some(id), away: false })
}

fn texts(effects: Vec<Effect>) -> Vec<String> {
    effects
        .into_iter()
        .map(|effect| match effect {
            Effect::Frame(frame) => match *frame {
                ClientFrame::Send(send) => format!("send {}", send.id),
                ClientFrame::ListPeers(list) => format!("list {}", list.req_id.unwrap()),
                _ => "frame".into(),
            },
            Effect::Ping => "ping".into(),
            Effect::Greet => "greet".into(),
            Effect::Ask => "ask".into(),
            Effect::Opened(_) => "opened".into(),
            Effect::Answered(row, Answer::Accepted { id, .. }) => format!("{row} accepted {id}"),
            Effect::Answered(row, Answer::Refused { code, .. }) => format!("{row} refused {code}"),
            Effect::Answered(row, Answer::Lost) => format!("{row} lost"),
            Effect::Pushed(_) => "pushed".into(),
            Effect::Receipts(said) => format!("{} receipts", said.len()),
            Effect::Changed(change) => format!("changed {}", change.key),
            Effect::SkillChanged(change) => format!("skill changed {}", change.name),
            Effect::KeysNeeded(scopes) => format!("keys needed of {} scopes", scopes.len()),
            Effect::KeyGiven(scope, epoch) => format!("key {epoch} of {scope} given"),
            Effect::Replied(ticket, Ok(None)) => format!("{ticket} hoped for"),
            Effect::Replied(ticket, Ok(Some(ServerFrame::Error(error)))) => format!("{ticket} failed {}", error.code),
            Effect::Replied(ticket, Ok(Some(_))) => format!("{ticket} replied"),
            Effect::Replied(ticket, Err(code)) => format!("{ticket} failed {code}"),
            Effect::Close(ending) => format!("close {ending:?}"),
        })
        .collect()
}

struct Talk {
    state: State,
    now: Instant,
}

impl Talk {
    fn new() -> Talk {
        let now = Instant::now();
        Talk { state: State::new(Epoch(1), now), now }
    }

    fn open() -> Talk {
        let mut talk = Talk::new();
        let ack = r#"{"type":"hello_ack","presenceId":"p","features":["ordered-send","store-and-forward","away-peers"]}"#;
        assert_eq!(talk.hears(ack), ["opened"]);
        talk
    }

    /// A broker that promises nothing, as the reference's.
    fn open_plain() -> Talk {
        let mut talk = Talk::new();
        assert_eq!(talk.hears(r#"{"type":"hello_ack","presenceId":"p"}"#), ["opened"]);
        talk
    }

    fn hears(&mut self, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        self.state.alive(self.now);
        self.state.on_text(text, self.now, &mut out);
        texts(out)
    }

    fn sends(&mut self, id: &str) -> Vec<String> {
        let mut out = Vec::new();
        self.state.send(outgoing(id), self.now, &mut out);
        texts(out)
    }

    fn calls(&mut self, ticket: u64) -> Vec<String> {
        let mut out = Vec::new();
        self.state.call(ticket, list_peers, self.now, &mut out);
        texts(out)
    }

    fn after(&mut self, seconds: u64) -> Vec<String> {
        let mut out = Vec::new();
        self.now += Duration::from_secs(seconds);
        self.state.on_deadline(self.now, &mut out);
        texts(out)
    }

    fn ends(self) -> Vec<String> {
        let mut out = Vec::new();
        self.state.end(false, &mut out);
        let mut texts = texts(out);
        texts.sort();
        texts
    }
}

#[test]
fn nothing_is_sent_before_the_hello_is_accepted() {
    let mut talk = Talk::new();
    assert_eq!(talk.sends("a"), ["row-a lost"]);
    assert_eq!(talk.calls(1), ["1 failed connection_lost"]);
    assert_eq!(talk.hears(r#"{"type":"push","messageId":"m"}"#), ["pushed"], "a push may come before the hello_ack");
    for keys in [r##"{"type":"key_given","scope":"#t","epoch":1}"##, r#"{"type":"key_needed","scopes":["*"]}"#] {
        assert!(talk.hears(keys).is_empty(), "what it would be asked could not be asked yet: {keys}");
        assert_eq!(Talk::open().hears(keys).len(), 1);
    }
    let needed = r##"{"type":"key_needed","scopes":["*","#t"]}"##;
    assert_eq!(Talk::open().hears(needed), ["keys needed of 1 scopes"], "and never the mesh's own");
    assert_eq!(talk.after(5), ["close HelloTimeout"]);
}

#[test]
fn a_refused_hello_ends_the_connection() {
    let mut talk = Talk::new();
    assert!(talk.hears(r#"{"type":"error","code":"no_hello","message":"must send hello first"}"#).is_empty());
    let refused = talk.hears(r#"{"type":"error","code":"revoked","message":"gone"}"#);
    assert_eq!(refused, [r#"close Refused(Revoked, "gone", None)"#]);
    let kicked = r#"{"type":"error","code":"kicked","message":"until","retry_after_ms":5}"#;
    assert_eq!(Talk::open().hears(kicked), [r#"close Refused(Kicked, "until", Some(5))"#], "also once it was accepted");
}

#[test]
fn every_send_and_call_gets_exactly_one_answer() {
    let mut talk = Talk::open();
    for id in ["a", "b", "c", "d"] {
        assert_eq!(talk.sends(id), [format!("send {id}")]);
    }
    assert_eq!(talk.calls(7), ["list r-1"]);
    assert_eq!(talk.calls(8), ["list r-2"]);
    assert_eq!(talk.hears(r#"{"type":"ack","id":"a","messageId":"M","queued":true}"#), ["row-a accepted M"]);
    assert!(talk.hears(r#"{"type":"ack","id":"a","messageId":"M","queued":true}"#).is_empty());
    assert_eq!(
        talk.hears(
            r#"{"type":"ack","id":"b","messageId":"","queued":false,"error":"no connected peer for target (not online)"}"#
        ),
        ["row-b refused no_connected_peer"]
    );
    assert_eq!(talk.hears(r#"{"type":"error","code":"invalid","message":"x","id":"c"}"#), ["row-c refused invalid"]);
    assert_eq!(talk.hears(r#"{"type":"peers_list","peers":[],"_reqId":"r-1"}"#), ["7 replied"]);
    assert_eq!(talk.hears(r#"{"type":"error","code":"forbidden","id":"r-2"}"#), ["8 failed forbidden"]);
    assert_eq!(talk.ends(), ["row-d lost"]);
}

#[test]
fn silence_is_noticed() {
    let mut talk = Talk::open();
    assert_eq!(talk.calls(1), ["list r-1"]);
    talk.now += Duration::from_secs(1);
    talk.hears(r#"{"type":"push","subtype":"system","event":"tick"}"#);
    assert_eq!(talk.after(4), ["1 failed timeout"]);
    assert!(talk.hears(r#"{"type":"peers_list","peers":[],"_reqId":"r-1"}"#).is_empty(), "too late");
    assert_eq!(talk.after(34), Vec::<String>::new());
    assert_eq!(talk.after(1), ["ping"], "nothing was heard for 35 seconds");
    assert_eq!(talk.after(35), ["ping"]);
    assert_eq!(talk.after(5), ["close Stale"]);
}

#[test]
fn a_question_without_an_answer_or_any_other_word_ends_the_connection() {
    let mut talk = Talk::open();
    talk.now += Duration::from_secs(1);
    talk.calls(1);
    assert_eq!(talk.after(4), Vec::<String>::new());
    assert_eq!(talk.after(1), ["1 failed timeout", "close Unanswered"]);
}

#[test]
fn what_is_no_json_ends_the_connection() {
    for garbage in ["", "{", "x", "{\"type\":\"push\",\"ciphert", "{} {}"] {
        assert_eq!(Talk::open().hears(garbage), ["close Garbled"], "{garbage}");
    }
}

#[test]
fn a_send_without_an_answer_ends_the_connection() {
    let mut talk = Talk::open();
    talk.sends("a");
    assert_eq!(talk.after(14), Vec::<String>::new());
    talk.sends("b");
    assert_eq!(talk.after(1), ["row-a refused timeout", "close Unanswered"]);
    assert_eq!(talk.ends(), ["row-b lost"]);
}

#[test]
fn a_request_without_an_answer_ends_a_connection_that_says_nothing_else() {
    let mut talk = Talk::open();
    talk.calls(1);
    assert_eq!(talk.after(5), ["1 failed timeout", "close Unanswered"]);
    let mut talk = Talk::open();
    talk.calls(1);
    talk.now += Duration::from_secs(2);
    talk.hears(r#"{"type":"push","subtype":"system","event":"tick"}"#);
    assert_eq!(talk.after(3), ["1 failed timeout"], "it speaks of other things");
}

#[test]
fn a_broker_that_promises_nothing_is_greeted_again_and_asked_now_and_then() {
    let mut talk = Talk::open_plain();
    assert_eq!(talk.after(35), ["ping", "greet"]);
    assert!(talk.hears(r#"{"type":"hello_ack","presenceId":"p"}"#).is_empty(), "one hello_ack opens");
    let mut heard = Vec::new();
    for _ in 0..30 {
        talk.state.alive(talk.now);
        heard.extend(talk.after(10).into_iter().filter(|text| text != "ping"));
    }
    assert_eq!(heard, ["ask"], "five minutes after it last said something");
    talk.calls(0);
    assert_eq!(talk.after(5), ["0 failed timeout", "close Unanswered"]);

    let mut talk = Talk::open();
    for _ in 0..100 {
        talk.state.alive(talk.now);
        assert!(!talk.after(10).iter().any(|text| text == "greet" || text == "ask"));
    }
}

#[test]
fn a_broker_that_may_have_forgotten_a_connection_is_asked_soon_after_it_would_have() {
    let mut talk = Talk::open_plain();
    let mut asked = Vec::new();
    for second in 1..=500 {
        // It answers pings, and says nothing.
        talk.state.alive(talk.now);
        asked.extend(talk.after(1).into_iter().filter(|text| text == "ask").map(|_| second));
    }
    assert_eq!(asked, [95, 395]);
    // Something that it said before it could have forgotten proves nothing for long.
    let mut talk = Talk::open_plain();
    let mut asked = Vec::new();
    for second in 1..=300 {
        talk.state.alive(talk.now);
        if second == 60 {
            talk.hears(r#"{"type":"push","subtype":"system","event":"tick"}"#);
        }
        asked.extend(talk.after(1).into_iter().filter(|text| text == "ask").map(|_| second));
    }
    assert_eq!(asked, [154]);
}

#[test]
fn a_session_that_is_ready_again_has_what_was_held_back_looked_for() {
    use crate::wire::peer::Status;
    use crate::wire::profile::SetStatus;
    let set = |status| move |id| ClientFrame::SetStatus(SetStatus { status, req_id: Some(id) });
    let mut out = Vec::new();
    let mut talk = Talk::open_plain();
    assert_eq!(talk.after(35), ["ping", "greet"]);
    talk.state.call(1, set(Status::Dnd), talk.now, &mut out);
    assert!(talk.after(1).is_empty());
    talk.state.call(2, set(Status::Idle), talk.now, &mut out);
    assert_eq!(talk.after(1), ["greet"]);
    assert_eq!(texts(out), ["frame", "1 hoped for", "frame", "2 hoped for"]);
}

#[test]
fn a_second_hello_waits_until_nothing_is_on_its_way() {
    let mut talk = Talk::open_plain();
    assert_eq!(talk.after(30), Vec::<String>::new());
    talk.sends("a");
    talk.calls(1);
    talk.state.alive(talk.now);
    assert!(talk.after(4).is_empty());
    assert_eq!(talk.hears(r#"{"type":"peers_list","peers":[],"_reqId":"r-1"}"#), ["1 replied"]);
    assert!(talk.after(4).is_empty() && talk.now < talk.state.deadline(), "nor is it asked for again and again");
    assert_eq!(talk.hears(r#"{"type":"ack","id":"a","messageId":"M","queued":true}"#), ["row-a accepted M"]);
    assert!(talk.state.deadline() < talk.now);
    assert_eq!(talk.after(0), ["greet"]);
    // All that is late at once: nothing comes after what ends the connection.
    let mut talk = Talk::open_plain();
    assert_eq!(talk.after(21), Vec::<String>::new());
    talk.sends("a");
    assert_eq!(talk.after(15), ["ping", "row-a refused timeout", "greet", "close Unanswered"]);
}

#[test]
fn a_message_under_the_id_of_a_request_is_not_answered_by_its_answer() {
    let mut talk = Talk::open_plain();
    talk.sends("r-1");
    talk.calls(7);
    assert_eq!(talk.hears(r#"{"type":"ack","id":"r-1","messageId":"","queued":false,"_reqId":"r-1"}"#), ["7 replied"]);
    assert_eq!(talk.hears(r#"{"type":"ack","id":"r-1","messageId":"M","queued":true}"#), ["row-r-1 accepted M"]);
}

#[test]
fn a_request_that_some_brokers_do_not_answer_is_followed_by_one_that_all_do() {
    use crate::wire::skill::ListSkills;
    let mut talk = Talk::open_plain();
    let mut out = Vec::new();
    let frame = |id| ClientFrame::ListSkills(ListSkills { query: None, req_id: Some(id) });
    talk.state.call(1, frame, talk.now, &mut out);
    assert_eq!(talk.after(5), ["1 failed timeout", "ask"]);
}

#[test]
fn a_frame_that_no_broker_reads_is_not_sent() {
    let mut talk = Talk::open();
    let mut out = Vec::new();
    let mut large = outgoing("a");
    large.frame.ciphertext = "x".repeat(65_536);
    talk.state.send(large, talk.now, &mut out);
    assert_eq!(texts(out), ["row-a refused payload_too_large"]);
    assert_eq!(talk.sends("b"), ["send b"]);
}

#[test]
fn the_next_deadline_is_always_the_earliest() {
    let mut talk = Talk::open();
    assert_eq!(talk.state.deadline(), talk.now + PING_AFTER);
    talk.sends("a");
    assert_eq!(talk.state.deadline(), talk.now + ACK_DEADLINE);
    talk.calls(1);
    assert_eq!(talk.state.deadline(), talk.now + RPC_DEADLINE);
    talk.hears(r#"{"type":"peers_list","peers":[],"_reqId":"r-1"}"#);
    assert_eq!(talk.state.deadline(), talk.now + ACK_DEADLINE, "what is answered is not waited for");
    talk.sends("b");
    talk.hears(r#"{"type":"ack","id":"b","messageId":"M"}"#);
    talk.hears(r#"{"type":"ack","id":"a","messageId":"N"}"#);
    assert_eq!(talk.state.deadline(), talk.now + PING_AFTER);
}

#[test]
fn what_was_meant_for_another_connection_is_not_sent() {
    let mut talk = Talk::open();
    let mut out = Vec::new();
    talk.state.send(Outgoing { epoch: Epoch(0), ..outgoing("a") }, talk.now, &mut out);
    assert_eq!(texts(out), ["row-a lost"]);
}

#[test]
fn junk_is_ignored() {
    let mut talk = Talk::open();
    for junk in ["null", "{}", "[]", r#"{"type":7}"#, r#"{"type":"later","x":1}"#, r#"{"type":"hello_ack","presenceId":"q"}"#] {
        assert!(talk.hears(junk).is_empty(), "{junk}");
    }
}

#[test]
fn a_request_that_the_reference_never_answers_is_waited_for_where_an_answer_is_promised() {
    let set = |id| ClientFrame::SetState(SetState { key: "k".into(), value: true.into(), req_id: Some(id) });
    let mut silent = Talk::open();
    let mut out = Vec::new();
    silent.state.call(1, set, silent.now, &mut out);
    assert_eq!(texts(out), ["frame", "1 hoped for"]);
    let mut ours = Talk::new();
    ours.hears(r#"{"type":"hello_ack","presenceId":"p","features":["answers-all"]}"#);
    let mut out = Vec::new();
    ours.state.call(1, set, ours.now, &mut out);
    assert_eq!(texts(out), ["frame"]);
    assert_eq!(ours.hears(r#"{"type":"ack","id":"r-1","messageId":"","queued":false,"_reqId":"r-1"}"#), ["1 replied"]);
}

#[test]
fn the_second_shape_of_an_answer_is_nobodys() {
    let mut talk = Talk::open();
    let mut out = Vec::new();
    let get = |id| ClientFrame::GetState(GetState { key: "k".into(), req_id: Some(id) });
    talk.state.call(4, get, talk.now, &mut out);
    assert_eq!(
        talk.hears(r#"{"type":"state_result","key":"k","value":1,"updatedBy":"a","updatedAt":"t","_reqId":"r-1"}"#),
        ["4 replied"]
    );
    assert_eq!(talk.hears(r#"{"type":"state_value","state":null,"_reqId":"r-1"}"#), [""; 0]);
    assert_eq!(talk.hears(r#"{"type":"state_change","key":"k","value":2,"updatedBy":"b"}"#), ["changed k"]);
    assert_eq!(talk.hears(r#"{"type":"skill_change","name":"k","action":"shared"}"#), ["skill changed k"]);
}

#[test]
fn a_message_is_suspected_only_when_it_is_alone() {
    let mut talk = Talk::open();
    assert_eq!(talk.state.lone_send(), None);
    let mut out = Vec::new();
    talk.state.send(outgoing("0"), talk.now, &mut out);
    assert_eq!(talk.state.lone_send(), Some(RowId::new("row-0")));
    talk.state.send(outgoing("1"), talk.now, &mut out);
    assert_eq!(talk.state.lone_send(), None);
    let mut told = Vec::new();
    talk.state.end(false, &mut told);
    let mut told = texts(told);
    told.sort();
    assert_eq!(told, ["row-0 lost", "row-1 lost"]);
    let mut talk = Talk::open();
    talk.state.send(outgoing("0"), talk.now, &mut out);
    let mut told = Vec::new();
    talk.state.end(true, &mut told);
    assert_eq!(texts(told), ["row-0 refused payload_too_large"]);
}
