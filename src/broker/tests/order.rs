//! Who is kept out and who is not, and what the audit log says of it.

use super::*;
use crate::store::hub::Admin;

impl World {
    /// The audit log: each event with who did it.
    pub(super) fn audit(&self) -> Vec<(String, Option<String>)> {
        // Whatever was said before is written down when this is answered.
        self.running().hub().depth().unwrap();
        Admin::open(&database(self.dir.path())).unwrap().audit_events(&self.mesh).unwrap()
    }

    fn member_key(&self, n: usize) -> String {
        self.members[n].1.public.to_hex()
    }

    /// A one-shot command, which says hello as its member and has a key that it does not prove.
    pub(super) fn passing(&self, member: usize) -> Client {
        let client = self.connect();
        let mut hello = self.hello(member);
        hello["sessionPubkey"] = json!(KeyPair::generate().public);
        client.say(&hello);
        client.next("hello_ack");
        client
    }
}

#[test]
fn a_kick_keeps_out_what_was_meant_and_nothing_else() {
    let world = World::new();
    let (owner, _) = world.session(0, 11, "owner");
    // A name that its member's key begins with, and one that is eight characters of it.
    let short = world.member_key(1)[..3].to_owned();
    let long = world.member_key(1)[..8].to_owned();
    for (seed, name) in [(21, &short), (22, &long)] {
        let (bob, _) = world.session(1, seed, name);
        let (sibling, _) = world.session(1, seed + 10, "sibling");
        assert_eq!(owner.ask(json!({"type": "kick", "target": name}), "kick_ack")["affected"], json!([name]));
        assert_eq!(bob.closed(), (4001, "kicked".to_owned()));
        sibling.is_quiet();
        world.session(1, seed + 20, "another");
    }
    // The member as a whole: its sessions, its daemon, and commands that are just running.
    let daemon = world.connect();
    daemon.say(&world.hello(1));
    daemon.next("hello_ack");
    let (passing, (session, _)) = (world.passing(1), world.session(1, 23, "carol"));
    let kicked = owner.ask(json!({"type": "kick", "target": &world.member_key(1)[..10]}), "kick_ack");
    assert!(!kicked["affected"].as_array().unwrap().contains(&json!("m3")), "{kicked}");
    for client in [&daemon, &passing, &session] {
        assert_eq!(client.closed(), (4001, "kicked".to_owned()));
    }
    let late = world.connect();
    late.say(&world.session_hello(1, &KeyPair::from_seed([24; 32]), "late"));
    assert_eq!(late.next("error")["code"], "kicked");
}

#[test]
fn nobody_kicks_itself() {
    let world = World::new();
    let (owner, key) = world.session(0, 11, "owner");
    let (sibling, _) = world.session(0, 12, "sibling");
    for target in ["owner".to_owned(), key.to_hex(), key.to_hex()[..8].to_owned(), world.member_key(0)] {
        for kind in ["kick", "disconnect"] {
            let refused = owner.refused(json!({"type": kind, "target": target}), "invalid");
            assert_eq!(refused["message"], format!("cannot {kind} yourself"));
        }
    }
    assert_eq!(owner.ask(json!({"type": "kick", "target": "sibling"}), "kick_ack")["affected"], json!(["sibling"]));
    assert_eq!(sibling.closed(), (4001, "kicked".to_owned()));
    let passing = world.passing(0);
    passing.refused(json!({"type": "kick", "target": world.member_key(0)}), "invalid");
}

#[test]
fn the_audit_log_says_who_kept_whom_out_and_who_let_them_in() {
    let world = World::new();
    let (owner, _) = world.session(0, 11, "owner");
    let (_bob, key) = world.session(1, 21, "bob");
    owner.ask(json!({"type": "set_grants", "peer": key, "revoke": ["dm"]}), "grants_set");
    owner.ask(json!({"type": "set_grants", "peer": key, "reset": true}), "grants_set");
    owner.ask(json!({"type": "disconnect", "target": "bob"}), "disconnect_ack");
    let (_bob, _) = world.session(1, 21, "bob");
    owner.ask(json!({"type": "kick", "target": "bob", "forMs": 1}), "kick_ack");
    owner.ask(json!({"type": "ban", "target": "m2"}), "ban_ack");
    owner.ask(json!({"type": "unban", "target": "m2"}), "unban_ack");
    let log = world.audit();
    let of = |event: &str| log.iter().filter(|(name, _)| name == event).map(|(_, by)| by.clone()).collect::<Vec<_>>();
    let owner = || Some("m1".to_owned());
    assert_eq!(of("grants_set"), [owner(), owner()]);
    for event in ["disconnected", "kicked", "member_banned", "member_unbanned"] {
        assert_eq!(of(event), [owner()], "{event} in {log:?}");
    }
    assert_eq!(Admin::open(&database(world.dir.path())).unwrap().verify().unwrap()[0].broken_at, None);
}

impl World {
    /// A request that a member signed, over HTTP; its status.
    fn signed(&self, member: usize, method: &str, path: &str) -> u16 {
        use std::io::{Read, Write};
        let key = &self.members[member].1;
        let (timestamp, nonce) = (now_millis(), crate::crypto::random::id32());
        let request = crate::crypto::request::Request { method, path, body: b"", key: key.public, timestamp, nonce: &nonce };
        let signature = request.sign(&key.secret);
        let mut stream = std::net::TcpStream::connect(self.running().local_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let header = format!("key={},ts={timestamp},nonce={nonce},sig={signature}", key.public);
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nX-ClaudeMesh-Signature: {header}\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn whoever_leaves_is_gone_at_once_and_was_not_shut_out() {
    let world = World::new();
    let (owner, _) = world.session(0, 11, "owner");
    let (bob, _) = world.session(1, 21, "bob");
    let (cut, cut_key) = world.session(1, 22, "cut");
    cut.say_text("close:");
    assert!(cut.ended.recv_timeout(PATIENCE).is_ok());
    assert_eq!(world.signed(1, "POST", "/mesh/mesh/leave"), 200);
    assert_eq!(bob.closed(), (4002, "banned".to_owned()));
    let peers = owner.ask(json!({"type": "list_peers", "away": true}), "peers_list")["peers"].clone();
    assert_eq!(peers.as_array().unwrap().len(), 1, "kept places are given up: {peers}");
    // One that was let through a moment before.
    let member = MemberKey(world.members[1].1.public);
    let shared = &world.running().shared;
    assert_eq!(shared.allowed.kept_out(&world.mesh, [cut_key, member.0], now_millis()), Some(Millis::MAX));
    assert_eq!(owner.ask(json!({"type": "list_bans"}), "list_bans_result")["bans"], json!([]));
    owner.refused(json!({"type": "unban", "target": "m2"}), "not_found");
    let log = world.audit();
    assert!(log.contains(&("member_left".to_owned(), Some("m2".to_owned()))), "{log:?}");
    assert!(!log.iter().any(|(event, _)| event == "member_banned"), "{log:?}");

    assert_eq!(world.signed(0, "DELETE", "/mesh/mesh"), 200);
    assert_eq!(owner.closed(), (4002, "mesh_deleted".to_owned()));
    assert!(shared.router.seen(&world.mesh).is_empty(), "nobody is left in a mesh that is not there");
}
