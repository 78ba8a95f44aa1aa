//! Whose place is whose: taken by others, lost, counted twice, mixed up.

use claudemesh::crypto::keys::KeyPair;
use serde_json::{Value, json};

use super::{Scene, lose};
use crate::support::http;
use crate::support::peer::Peer;
use crate::support::wait::until;

fn row(peers: &[Value], key: &str) -> Value {
    let mut rows = peers.iter().filter(|peer| peer["pubkey"] == key);
    let row = rows.next().unwrap_or_else(|| panic!("no {key} in {peers:?}")).clone();
    assert_eq!(rows.next(), None);
    row
}

#[test]
fn f_04_nobody_takes_a_place_or_mail_by_naming_another_members_session() {
    let scene = Scene::new();
    let [(mut alice, _), (mut bob, bobs)] = scene.sessions();
    let key = bobs.public.to_hex();
    let name_it = || {
        let mut eve = Peer::open(&scene.broker.address);
        eve.say(&scene.mesh.member_hello(2, &json!({"sessionPubkey": key, "sessionId": "session-1"})));
        let error = eve.next("error");
        assert_eq!(error["code"], "unauthorized", "{error}");
        assert_eq!(eve.closed().0, 1008);
    };
    name_it();
    bob.is_quiet();
    lose(bob, &key, &mut alice);
    let id = alice.sent("a-1", &key, "eA==");
    name_it();
    let mut bob = scene.session(1, &bobs);
    assert_eq!(bob.takes()["messageId"], json!(id));
    assert_eq!(row(&alice.peers(), &key)["memberPubkey"], json!(scene.mesh.member_key(1)));
}

#[test]
fn f_05_whoever_returns_at_once_stays() {
    let scene = Scene::new();
    let keys = KeyPair::generate();
    let mut last = scene.session(0, &keys);
    for _ in 0..24 {
        drop(last);
        last = scene.session(0, &keys);
    }
    // The ends of all those before have been seen by now or come while it is asked.
    until("one connection to be left", || (active(&scene) == 1).then_some(()));
    row(&last.peers(), &keys.public.to_hex());
    let mut other = scene.session(1, &KeyPair::generate());
    let id = other.sent("o-1", &keys.public.to_hex(), "eA==");
    assert_eq!(last.takes()["messageId"], json!(id));
}

fn active(scene: &Scene) -> usize {
    let page = http::get_tcp(&scene.broker.address, "/metrics").unwrap().text();
    let value = page.lines().find_map(|line| line.strip_prefix("broker_connections_active ")?.parse().ok());
    value.unwrap_or_else(|| panic!("no such metric in {page}"))
}

#[test]
fn f_06_f_34_places_that_were_taken_over_are_not_counted() {
    let scene = Scene::new();
    let mut owner = scene.session(0, &KeyPair::generate());
    let bobs = KeyPair::generate();
    let (key, mut bob) = (bobs.public.to_hex(), scene.session(1, &bobs));
    for _ in 0..100 {
        let next = scene.session(1, &bobs);
        assert_eq!(bob.closed(), (1000, "session_replaced".to_owned()));
        bob = next;
    }
    for _ in 0..50 {
        let gone = owner.ask(json!({"type": "disconnect", "target": key}), "disconnect_ack");
        assert_eq!(gone["affected"], json!(["peer-1"]), "{gone}");
        assert_eq!(bob.closed(), (1000, "disconnected".to_owned()));
        bob = scene.session(1, &bobs);
    }
    for _ in 0..50 {
        let label = KeyPair::generate().public.to_hex();
        Peer::enter(&scene.broker.address, &scene.mesh.member_hello(2, &json!({"sessionPubkey": label})));
    }
    until("only those to be counted who are here", || (active(&scene) == 2).then_some(()));
    assert_eq!(owner.peers().len(), 2, "a command that has gone is not listed");
    scene.session(3, &KeyPair::generate()).is_quiet();
    bob.is_quiet();
}

#[test]
fn f_17_each_row_of_a_list_is_its_own_connections() {
    let scene = Scene::new();
    let about = |at: &str| {
        json!({"cwd": format!("/{at}"), "hostname": format!("{at}-host"), "channel": format!("{at}-channel"),
               "model": format!("{at}-model"), "displayName": at, "sessionId": format!("{at}-id")})
    };
    let mut daemon = Peer::enter(&scene.broker.address, &scene.mesh.member_hello(1, &about("daemon")));
    let keys = KeyPair::generate();
    let session = |at: &str| {
        let mut hello = scene.mesh.hello(1, &keys);
        hello.as_object_mut().unwrap().extend(about(at).as_object().unwrap().clone());
        Peer::enter(&scene.broker.address, &hello)
    };
    let mut first = session("first");
    first.ask(json!({"type": "set_visible", "visible": false}), "ack");
    let check = |peers: &[Value], at: &str| {
        for (key, at) in [(scene.mesh.member_key(1), "daemon"), (keys.public.to_hex(), at)] {
            let row = row(peers, &key);
            for (field, expected) in about(at).as_object().unwrap() {
                assert_eq!(&row[field], expected, "{field} of {at}: {row}");
            }
        }
        assert_eq!(row(peers, &scene.mesh.member_key(1))["visible"], true);
        assert_eq!(row(peers, &keys.public.to_hex())["visible"], false, "it stays hidden");
    };
    check(&daemon.peers(), "first");
    lose(first, &keys.public.to_hex(), &mut daemon);
    let _second = session("second");
    check(&daemon.peers(), "second");
}

#[test]
fn f_18_a_command_with_a_sessions_id_sends_nobody_away() {
    let scene = Scene::new();
    let [(mut alice, _), (mut bob, bobs)] = scene.sessions();
    let label = KeyPair::generate().public.to_hex();
    let hello = scene.mesh.member_hello(1, &json!({"sessionPubkey": label, "sessionId": "session-1"}));
    let mut command = Peer::enter(&scene.broker.address, &hello);
    bob.is_quiet();
    // Nor does the session, when it comes again.
    let mut again = scene.session(1, &bobs);
    assert_eq!(bob.closed(), (1000, "session_replaced".to_owned()));
    command.is_quiet();
    again.is_quiet();
    drop(command);
    let id = alice.sent("a-1", &bobs.public.to_hex(), "eA==");
    assert_eq!(again.takes()["messageId"], json!(id));
}

#[test]
fn f_30_what_a_session_says_of_itself_is_not_its_members_and_a_blip_is_no_event() {
    let scene = Scene::new();
    let mut watcher = scene.session(0, &KeyPair::generate());
    let mut daemon = Peer::enter(&scene.broker.address, &scene.mesh.member_hello(1, &Value::Null));
    daemon.ask(json!({"type": "set_profile", "title": "Daemon"}), "ack");
    daemon.ask(json!({"type": "join_group", "name": "daemons"}), "ack");
    let bobs = KeyPair::generate();
    let mut bob = scene.session(1, &bobs);
    bob.ask(json!({"type": "set_profile", "title": "Session"}), "ack");
    bob.ask(json!({"type": "set_visible", "visible": false}), "ack");
    bob.ask(json!({"type": "set_visible", "visible": true}), "ack");
    bob.ask(json!({"type": "join_group", "name": "sessions"}), "ack");
    for (event, name) in
        [("peer_joined", "raw"), ("peer_joined", "peer-1"), ("peer_hidden", "peer-1"), ("peer_visible", "peer-1")]
    {
        assert_eq!(watcher.event(event)["name"], name);
    }
    lose(bob, &bobs.public.to_hex(), &mut watcher);
    let mut bob = scene.session(1, &bobs);
    let own = row(&watcher.peers(), &scene.mesh.member_key(1));
    assert_eq!((&own["profile"]["title"], &own["groups"]), (&json!("Daemon"), &json!([{"name": "daemons"}])), "{own}");
    assert_eq!((&own["visible"], &own["displayName"]), (&json!(true), &json!("raw")), "{own}");
    // Whoever watches is told nothing of it: what it hears next is what happens next.
    bob.ask(json!({"type": "set_visible", "visible": false}), "ack");
    let next = loop {
        let frame = watcher.hear();
        if frame["subtype"] == "system" {
            break frame;
        }
    };
    assert_eq!(next["event"], "peer_hidden", "{next}");
}

#[test]
fn f_20_whoever_is_kicked_or_banned_is_said_to_be_gone() {
    let scene = Scene::new();
    let [(mut owner, _), (mut bob, bobs), (mut cleo, _)] = scene.sessions();
    let mut sibling = scene.session(11, &KeyPair::generate());
    let daemon = scene.mesh.member_hello(2, &json!({"displayName": "cleo's daemon"}));
    let mut daemon = Peer::enter(&scene.broker.address, &daemon);
    owner.ask(json!({"type": "kick", "target": bobs.public.to_hex()}), "kick_ack");
    assert_eq!(bob.closed(), (4001, "kicked".to_owned()));
    for peer in [&mut owner, &mut sibling, &mut cleo, &mut daemon] {
        assert_eq!(peer.event("peer_left")["name"], "peer-1");
    }
    owner.ask(json!({"type": "ban", "target": scene.mesh.member_key(2)}), "ban_ack");
    for gone in [&mut cleo, &mut daemon] {
        assert_eq!(gone.closed(), (4002, "banned".to_owned()));
    }
    for peer in [&mut owner, &mut sibling] {
        let mut names = [peer.event("peer_left"), peer.event("peer_left")].map(|left| left["name"].as_str().unwrap().to_owned());
        names.sort();
        assert_eq!(names, ["cleo's daemon", "peer-2"]);
    }
    // A member's own connections are no refuge, and neither is the wish to keep order among others.
    sibling.refused(json!({"type": "kick", "target": "peer-0"}), "forbidden");
    for hello in [scene.mesh.hello(2, &KeyPair::generate()), scene.mesh.member_hello(2, &Value::Null)] {
        let mut back = Peer::open(&scene.broker.address);
        back.say(&hello);
        assert_eq!(back.next("error")["code"], "revoked");
        assert_eq!(back.closed().0, 4002);
    }
}
