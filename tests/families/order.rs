//! Grants, and being kept out, as somebody types them.

use serde_json::json;

use super::Typist;
use crate::support::mesh::World;
use crate::support::session::Session;
use crate::support::wait::until;

#[test]
fn who_is_kicked_stays_away_although_it_tries_and_who_is_unbanned_comes_back_when_told() {
    let world = World::pair();
    let owner = Session::open(&world.alice, "acme", "owner");
    let guest = Session::open(&world.bob, "acme", "guest");
    let alice = Typist { home: &world.homes[0], session: Some(&owner) };
    let bob = Typist { home: &world.homes[1], session: Some(&guest) };
    let link = |status: &str| {
        let me = guest.call("GET", "/v1/sessions/me", None).ok()?.json();
        (me["session"]["link"] == status).then_some(())
    };
    bob.fails(&["kick", "owner"], 7, "the owner of the mesh");
    alice.fails(&["kick"], 3, "whom?");
    alice.fails(&["kick", "--stale", "soon"], 3, "no length of time");
    alice.says(&["disconnect", "guest"]);
    until("it to be back", || {
        let peers = alice.json(&["peers"]);
        peers.as_array()?.iter().any(|peer| peer["displayName"] == "guest" && peer["online"] == true).then_some(())
    });
    assert_eq!(alice.json(&["kick", "guest", "--for", "1h"])["affected"], json!(["guest"]));
    until("its link to be closed for good", || link("closed"));
    bob.says(&["mesh", "reconnect"]);
    until("it to be refused", || world.bob.log().contains("kicked from this mesh until").then_some(()));
    until("its link to be closed again", || link("closed"));
    assert_eq!(alice.run(&["kick", "guest"]).status.code(), Some(5), "nobody of this name is there");

    assert_eq!(alice.json(&["ban", "bob"])["banned"], "bob");
    alice.fails(&["ban", "alice"], 3, "cannot ban yourself");
    assert_eq!(alice.json(&["bans"])[0]["name"], "bob");
    alice.says(&["unban", "bob"]);
    assert!(alice.says(&["bans"]).contains("No banned members"));
    bob.says(&["mesh", "reconnect", "acme"]);
    until("bob's daemon to be back", || (world.bob.get("/v1/health").json()["brokers"]["acme"] == "open").then_some(()));
}

#[test]
fn a_kick_ends_by_itself_and_says_until_when() {
    let world = World::pair();
    let owner = Session::open(&world.alice, "acme", "owner");
    let guest = Session::open(&world.bob, "acme", "guest");
    let alice = Typist { home: &world.homes[0], session: Some(&owner) };
    let bob = Typist { home: &world.homes[1], session: Some(&guest) };
    alice.says(&["kick", "guest", "--for", "6s"]);
    let me = until("its link to say until when", || {
        let me = guest.call("GET", "/v1/sessions/me", None).ok()?.json()["session"].clone();
        (me["link"] == "closed").then_some(me)
    });
    assert!(me["last_error"].as_str().unwrap().contains("kicked from this mesh until 20"), "{me}");
    bob.fails(&["state", "set", "a", "b"], 4, "kicked from this mesh until 20");
    let sent = bob.json(&["send", &owner.key, "later", "--id", "later"]);
    assert!(sent.is_object(), "{sent}");
    assert!(bob.says(&["message", "status", "later"]).contains("queued: kicked from this mesh until 20"));
    guest.await_link();
    until("what waited to arrive", || owner.unread().iter().any(|row| row["body"] == "later").then_some(()));
}

#[test]
fn who_is_blocked_is_not_heard_until_unblocked() {
    let world = World::pair();
    let own = Session::open(&world.alice, "acme", "alice");
    let other = Session::open(&world.bob, "acme", "bob");
    let alice = Typist { home: &world.homes[0], session: Some(&own) };
    let bob = Typist { home: &world.homes[1], session: Some(&other) };
    assert_eq!(alice.json(&["block", "bob"])["capabilities"], json!([]));
    bob.says(&["send", "alice", "hello", "--id", "first"]);
    let given_up = until("it to be refused", || {
        let failed = bob.json(&["outbox", "--failed"])["items"].clone();
        failed.as_array().filter(|items| !items.is_empty())?.first().cloned()
    });
    assert!(given_up["last_error"].as_str().unwrap().contains("blocked by recipient grants"), "{given_up}");
    assert!(alice.says(&["grants"]).contains("bob · "), "by name, not only by key");
    let everybody = bob.says(&["send", "*", "hello all", "--id", "many"]);
    assert!(everybody.contains("queued"), "{everybody}");
    until("it to be said who did not let it through", || {
        let standing = bob.says(&["message", "status", "many"]);
        standing.contains("it reached nobody: 1 do not let through what you say to many").then_some(())
    });
    assert_eq!(alice.json(&["grant", "bob", "dm"])["capabilities"], json!(["dm"]));
    alice.says(&["unblock", "bob"]);
    assert_eq!(alice.json(&["grants"])["grants"], json!({}));
    bob.says(&["send", "alice", "hello again", "--id", "second"]);
    until("it to arrive", || own.unread().iter().any(|row| row["body"] == "hello again").then_some(()));
    alice.fails(&["grant", "bob", "money"], 3, "nothing that can be granted");
    alice.fails(&["block", "nobody"], 5, "not found");
}

#[test]
fn what_is_said_of_a_member_can_be_said_by_its_name_and_by_any_of_its_sessions() {
    let world = World::pair();
    let own = Session::open(&world.alice, "acme", "alice");
    let alice = Typist { home: &world.homes[0], session: Some(&own) };
    let member = |key: &str| alice.json(&["grants"])["names"][key].clone();
    let blocked = alice.json(&["block", "bob"]);
    assert_eq!(member(blocked["peer"].as_str().unwrap()), "bob", "no session is called so, and the member is");
    alice.says(&["unblock", "bob"]);
    let _twins = [(); 2].map(|()| Session::open(&world.bob, "acme", "twin"));
    assert_eq!(alice.json(&["block", "twin"])["peer"], blocked["peer"], "both are bob's");
}

#[test]
fn a_name_that_could_be_several_is_answered_with_what_to_type_for_each() {
    let world = World::pair();
    let own = Session::open(&world.alice, "acme", "alice");
    let alice = Typist { home: &world.homes[0], session: Some(&own) };
    let twins = [(); 2].map(|()| Session::open(&world.bob, "acme", "twin"));
    for twin in &twins {
        let short = &twin.key[..16];
        alice.fails(&["send", "twin", "hello"], 5, &format!("\n      {short}  here, in /"));
        alice.fails(&["kick", "twin"], 3, &format!("{short} (twin)"));
        alice.says(&["send", short, "hello"]);
    }
    alice.fails(&["send", "#none", "hello"], 5, "claudemesh topic list");
    let bob = alice.json(&["peers", "--all"]).as_array().unwrap().iter().find(|peer| peer["displayName"] == "bob").cloned();
    let key = bob.expect("bob's daemon")["memberPubkey"].as_str().unwrap().to_owned();
    alice.fails(&["send", "bob", "hello"], 5, &format!("send it to the key {key}"));
    alice.says(&["send", &key, "for bob's machine"]);
    until("it to arrive", || {
        let page = world.bob.get("/v1/inbox?mark_seen=false").json();
        page["items"].as_array()?.iter().any(|row| row["body"] == "for bob's machine").then_some(())
    });
    alice.fails(&["send", "alice", "hello"], 5, &format!("to yourself by your key: {}", own.key));
    alice.says(&["send", &own.key, "hello"]);
    until("it to arrive", || own.unread().iter().any(|row| row["body"] == "hello").then_some(()));
    assert_eq!(alice.json(&["kick", &twins[0].key[..16]])["affected"], json!(["twin"]));
}
