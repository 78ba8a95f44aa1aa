//! What reaches those who are away, and who is told when they come and go.

use super::handle::events;
use super::*;
use crate::wire::limits::LEASE;

impl World {
    /// A session in these groups.
    fn in_groups(&self, member: usize, seed: u8, name: &str, groups: &[&str]) -> (Client, PublicKey) {
        let (client, key) = (self.connect(), KeyPair::from_seed([seed; 32]));
        let mut hello = self.session_hello(member, &key, name);
        hello["groups"] = groups.iter().map(|name| json!({"name": name})).collect();
        client.say(&hello);
        client.next("hello_ack");
        (client, key.public)
    }

    /// The connection is cut, and its place is not kept any longer.
    fn lose(&self, client: Client, key: PublicKey) {
        client.say_text("close:");
        drop(client);
        let shared = &self.running().shared;
        let end = Instant::now() + PATIENCE;
        while shared.router.roster(&self.mesh).iter().any(|peer| peer.pubkey == key && peer.online) {
            assert!(Instant::now() < end, "it is still here");
            std::thread::yield_now();
        }
        for (mesh, gone) in shared.router.expire(Instant::now() + LEASE) {
            events::left(shared, &mesh, &gone);
        }
    }

    fn daemon(&self, member: usize) -> Client {
        let client = self.connect();
        client.say(&self.hello(member));
        client.next("hello_ack");
        client
    }

    fn restart(&mut self) {
        self.broker.take().unwrap().stop();
        self.broker = Some(start(options(self.dir.path())).unwrap());
    }
}

#[track_caller]
fn takes(client: &Client, ids: &[&str]) {
    for id in ids {
        let push = client.next("push");
        assert_eq!(push["client_message_id"], *id);
        client.ack(&push);
    }
    client.is_quiet();
}

#[test]
fn what_is_for_many_waits_for_those_who_have_been_away_for_longer_than_a_lease() {
    let mut world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, key) = world.in_groups(1, 21, "bob", &["eng/api"]);
    let (over, _) = world.in_groups(1, 22, "over", &["eng/api"]);
    over.say_text("close:session_ended");
    assert_eq!(alice.event("peer_left")["name"], "over");
    world.lose(bob, key);
    assert_eq!(alice.event("peer_left")["name"], "bob");
    for (id, to) in [("a", "*"), ("b", "@eng/api"), ("c", "@eng"), ("d", "@en"), ("e", "@ops")] {
        assert_eq!(alice.sent(id, to, "eA==")["queued"], true);
    }
    let (bob, _) = world.in_groups(1, 21, "bob", &["eng/api"]);
    assert!(alice.event("peer_returned")["lastSeenAt"].is_string(), "it was gone, and said so");
    takes(&bob, &[]);
    takes(&world.daemon(1), &["a", "b", "c"]);
    let (over, over_key) = world.in_groups(1, 22, "over", &["eng/api"]);
    takes(&over, &[]);
    world.lose(over, over_key);

    // The same when the broker was started anew since.
    world.lose(bob, key);
    world.restart();
    let (alice, _) = world.session(0, 11, "alice");
    for (id, to) in [("f", "*"), ("g", "@eng")] {
        alice.sent(id, to, "eA==");
    }
    world.restart();
    takes(&world.in_groups(1, 21, "bob", &[]).0, &[]);
    takes(&world.daemon(1), &["f", "g"]);
}

#[test]
fn what_is_for_a_group_waits_for_a_member_whose_sessions_of_it_are_over_or_away() {
    let mut world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let daemon = world.daemon(1);
    let (bob, key) = world.in_groups(1, 21, "bob", &["eng"]);
    let (other, _) = world.in_groups(1, 22, "other", &["ops"]);
    alice.event("peer_joined");
    // Where the member has others here it is for the one that was in the group, if that may come back.
    world.lose(bob, key);
    alice.sent("a", "@eng", "eA==");
    takes(&other, &[]);
    takes(&daemon, &[]);
    let (bob, _) = world.in_groups(1, 21, "bob", &["eng"]);
    takes(&bob, &["a"]);
    bob.say_text("close:session_ended");
    assert_eq!(alice.event("peer_left")["name"], "bob");
    alice.sent("b", "@eng", "eA==");
    takes(&other, &[]);
    takes(&daemon, &[]);
    // Without any it is for the member, once, and whichever broker it is.
    other.say_text("close:session_ended");
    assert_eq!(alice.event("peer_left")["name"], "other");
    alice.sent("c", "@eng", "eA==");
    takes(&daemon, &["c"]);
    drop(daemon);
    world.restart();
    let (alice, _) = world.session(0, 11, "alice");
    alice.sent("d", "@eng", "eA==");
    alice.sent("e", "@nowhere", "eA==");
    takes(&world.daemon(1), &["d"]);
    // Nobody writes to itself by that.
    world.daemon(1).sent("f", "@eng", "eA==");
    takes(&world.daemon(1), &[]);
    alice.is_quiet();
}

#[test]
fn a_session_that_came_back_at_once_is_not_written_down_as_gone_after_that() {
    let world = World::new();
    let (bob, key) = world.in_groups(1, 21, "bob", &["eng"]);
    let shared = &world.running().shared;
    let session = crate::base::ids::SessionKey(key);
    let state = || shared.hub.session(world.mesh.clone(), session).unwrap().map(|seen| (seen.here, seen.ended));
    bob.say_text("close:session_ended");
    let end = Instant::now() + PATIENCE;
    while state() != Some((false, true)) {
        assert!(Instant::now() < end, "it has said that it is over");
        std::thread::yield_now();
    }
    let gone = |ended| {
        let (name, member) = ("bob".to_owned(), MemberKey(world.members[1].1.public));
        crate::broker::presence::Gone { name, key, member, announced: false, visible: true, session: Some(session), ended }
    };
    let (_bob, _) = world.in_groups(1, 21, "bob", &["eng"]);
    for ended in [true, false] {
        // What the connection before it still has to say.
        events::left(shared, &world.mesh, &gone(ended));
        assert_eq!(state(), Some((true, false)), "a broker that starts on this keeps its place");
    }
}

#[test]
fn a_member_that_never_was_here_gets_what_is_for_everybody_and_one_that_is_shut_out_does_not() {
    let mut world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    alice.sent("a", "*", "eA==");
    let later = json!({"type": "schedule", "to": "*", "message": "tick", "deliverAt": now_millis() + 20});
    alice.ask(later, "scheduled_ack");
    takes_scheduled(&alice);
    alice.is_quiet();
    world.restart();
    let daemon = world.daemon(1);
    let first = daemon.next("push");
    assert_eq!(first["client_message_id"], "a");
    daemon.ack(&first);
    takes_scheduled(&daemon);
    let (alice, _) = world.session(0, 11, "alice");
    alice.ask(json!({"type": "ban", "target": "m2"}), "ban_ack");
    let id = alice.sent("b", "*", "eA==")["messageId"].clone();
    let answer = alice.ask(json!({"type": "message_status", "messageId": id}), "message_status_result");
    assert_eq!(answer["recipientCount"], 0, "{answer}");
}

#[track_caller]
fn takes_scheduled(client: &Client) {
    let push = client.next("push");
    assert!(push["client_message_id"].as_str().unwrap().starts_with("scheduled-"), "{push}");
    client.ack(&push);
}

#[test]
fn who_hides_is_not_reached_by_what_is_for_many_and_nobody_hears_of_it() {
    let mut world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, key) = world.in_groups(1, 21, "bob", &["eng"]);
    let (sibling, _) = world.session(1, 22, "sibling");
    alice.event("peer_joined");
    alice.event("peer_joined");
    bob.done(json!({"type": "set_visible", "visible": false}));
    assert_eq!(alice.event("peer_hidden")["name"], "bob");
    for (id, to) in [("a", "*"), ("b", "@eng")] {
        alice.sent(id, to, "eA==");
    }
    bob.is_quiet();
    takes(&sibling, &["a"]);
    sibling.sent("c", "@eng", "eA==");
    takes(&bob, &["c"]);

    // Away and back, with and without the broker having been started anew: it stays hidden, and no event tells of it.
    world.lose(bob, key);
    alice.sent("d", "@eng", "eA==");
    let listed = |client: &Client| {
        let peers = client.ask(json!({"type": "list_peers", "away": true}), "peers_list")["peers"].clone();
        peers.as_array().unwrap().iter().any(|peer| peer["pubkey"] == json!(key))
    };
    assert!(!listed(&alice) && listed(&sibling));
    let (bob, _) = world.in_groups(1, 21, "bob", &["eng"]);
    bob.is_quiet();
    assert!(!listed(&alice) && listed(&sibling));
    assert!(alice.heard.try_iter().all(|frame| frame["event"].is_null()), "somebody told of it");
    world.restart();
    let (alice, _) = world.session(0, 11, "alice");
    assert!(!listed(&alice));
    let (bob, _) = world.in_groups(1, 21, "bob", &["eng"]);
    bob.done(json!({"type": "set_visible", "visible": true}));
    assert_eq!(alice.event("peer_visible")["name"], "bob");
    assert!(listed(&alice));
}

#[test]
fn a_peer_shows_its_role_and_what_it_has_counted() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, key) = (world.connect(), KeyPair::from_seed([21; 32]));
    let mut hello = world.session_hello(1, &key, "bob");
    hello["role"] = json!("reviewer\n");
    bob.say(&hello);
    bob.next("hello_ack");
    let stats = json!({"messagesIn": 3, "messagesOut": 0, "toolCalls": 7, "uptime": 61.5, "errors": 1});
    bob.say(&json!({"type": "set_stats", "stats": stats}));
    bob.done(json!({"type": "set_stats", "stats": stats}));
    let peers = alice.ask(json!({"type": "list_peers"}), "peers_list")["peers"].clone();
    let row = |key: PublicKey| peers.as_array().unwrap().iter().find(|peer| peer["pubkey"] == json!(key)).unwrap().clone();
    assert_eq!((&row(key.public)["role"], &row(key.public)["stats"]), (&json!("reviewer "), &stats));
    let own = row(KeyPair::from_seed([11; 32]).public);
    assert_eq!((&own["role"], &own["stats"]), (&json!("session"), &Value::Null), "{own}");
}

#[test]
fn a_one_shot_command_is_told_of_no_error_that_answers_nothing() {
    let world = World::new();
    let command = world.connect();
    let mut hello = world.hello(0);
    hello["sessionPubkey"] = json!(KeyPair::generate().public);
    command.say(&hello);
    command.next("hello_ack");
    command.say(&json!({"type": "stream_beat", "n": 1}));
    command.is_quiet();
    command.refused(json!({"type": "stream_beat"}), "unknown_type");
    let (session, _) = world.session(0, 11, "alice");
    session.say(&json!({"type": "stream_beat"}));
    assert_eq!(session.next("error")["code"], "unknown_type");
}
