//! Who enters a topic or comes back to a group reads what was said there, whether or not anybody says anything more; who is taken
//! out of a topic does not.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::families::Typist;
use crate::support::mesh::{HUB, World};
use crate::support::session::Session;
use crate::support::wait::until;

/// What the typist reads in a topic, the oldest first; `?` for what it can not.
#[track_caller]
fn texts(typist: Typist<'_>, topic: &str) -> Vec<String> {
    let history = typist.json(&["topic", "history", topic]);
    let rows = history.as_array().unwrap().iter().rev();
    rows.map(|row| row["text"].as_str().unwrap_or("?").to_owned()).collect()
}

fn hub(world: &World) -> Connection {
    let hub = Connection::open(world.homes[2].path().join(HUB)).unwrap();
    hub.busy_timeout(Duration::from_secs(10)).unwrap();
    hub
}

/// How many copies of the keys of a topic there are for a member.
fn copies(world: &World, topic: &str, member: &str) -> i64 {
    let sql = "SELECT count(*) FROM sealed_key JOIN topic ON scope = '#' || topic.id JOIN member ON member.id = member_id
                WHERE topic.name = ?1 AND display_name = ?2";
    hub(world).query_row(sql, (topic, member), |row| row.get(0)).unwrap()
}

#[test]
fn a_newcomer_reads_what_was_said_while_everybody_else_is_silent() {
    let world = World::pair();
    let (ann, ben) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.bob, "acme", "ben"));
    let alice = Typist { home: &world.homes[0], session: Some(&ann) };
    let bob = Typist { home: &world.homes[1], session: Some(&ben) };
    for topic in ["plans", "deploys"] {
        alice.says(&["topic", "create", topic]);
        alice.says(&["topic", "post", topic, "before he came"]);
        until("it to be there", || (texts(alice, topic) == ["before he came"]).then_some(()));
    }
    bob.says(&["topic", "join", "plans"]);
    assert_eq!(texts(bob, "plans"), ["before he came"]);
    // The first thing he does is to speak: he is given the key first, and makes no other, which would leave him without.
    bob.says(&["topic", "create", "deploys"]);
    bob.says(&["topic", "post", "deploys", "here I am"]);
    let all = ["before he came", "here I am"];
    until("both to read both", || (texts(alice, "deploys") == all && texts(bob, "deploys") == all).then_some(()));
    let epochs: i64 = hub(&world).query_row("SELECT max(epoch) FROM scope_epoch", [], |row| row.get(0)).unwrap();
    assert_eq!(epochs, 1);
}

#[test]
fn a_newcomer_is_given_the_key_when_one_who_has_it_comes_and_one_who_is_gone_again_is_not() {
    let mut world = World::pair();
    let (ann, ben) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.bob, "acme", "ben"));
    for topic in ["plans", "secrets", "deploys"] {
        let alice = Typist { home: &world.homes[0], session: Some(&ann) };
        alice.says(&["topic", "create", topic]);
        alice.says(&["topic", "post", topic, "before he came"]);
        until("it to be there", || (texts(alice, topic) == ["before he came"]).then_some(()));
    }
    world.alice.kill();
    {
        let bob = Typist { home: &world.homes[1], session: Some(&ben) };
        for topic in ["plans", "secrets", "deploys"] {
            bob.says(&["topic", "join", topic]);
        }
        let shown = bob.says(&["topic", "history", "plans"]);
        assert!(shown.contains("not yet given to you; it comes when a member who has it is online"), "{shown}");
        bob.says(&["topic", "leave", "secrets"]);
    }
    world.alice.restart();
    let bob = Typist { home: &world.homes[1], session: Some(&ben) };
    for topic in ["plans", "deploys"] {
        until("him to be given it", || (texts(bob, topic) == ["before he came"]).then_some(()));
    }
    // Ann's daemon has asked for all that she could give.
    assert_eq!(["plans", "secrets", "deploys"].map(|topic| copies(&world, topic, "bob")), [1, 0, 1]);
    bob.says(&["topic", "join", "secrets"]);
    assert_eq!(texts(bob, "secrets"), ["?"], "it was closed when he left");
}

#[test]
fn what_is_in_the_inbox_without_its_key_opens_as_soon_as_the_key_is_given() {
    let mut world = World::pair();
    let (ann, ben) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.bob, "acme", "ben"));
    {
        let alice = Typist { home: &world.homes[0], session: Some(&ann) };
        let bob = Typist { home: &world.homes[1], session: Some(&ben) };
        alice.says(&["topic", "create", "plans"]);
        bob.says(&["topic", "join", "plans"]);
    }
    let heard = ben.follow(Some(0));
    ann.send("#plans", "with its key", "m-1");
    heard.message("m-1");
    world.bob.kill();
    ann.send("#plans", "without it", "m-2");
    until("it to be with the broker", || {
        let page = ann.call("GET", "/v1/outbox?status=done", None).ok()?.json();
        page["items"].as_array()?.iter().any(|row: &Value| row["client_message_id"] == "m-2").then_some(())
    });
    // As if he had never been given one, and nobody who could give it were here.
    world.alice.kill();
    let hub = hub(&world);
    hub.execute("DELETE FROM sealed_key WHERE member_id = (SELECT id FROM member WHERE display_name = 'bob')", []).unwrap();
    hub.execute("UPDATE scope_epoch SET state = 'pending'", []).unwrap();
    drop(hub);
    world.bob.restart();
    ben.await_link();
    let heard = ben.follow(Some(0));
    heard.until("it to have come", |events| events.iter().any(|event| !event.data["unreadable"].is_null()).then_some(()));
    world.alice.restart();
    heard.until("it to open", |events| events.iter().any(|event| event.data["body"] == "without it").then_some(()));
}

#[test]
fn who_is_taken_out_of_a_topic_reads_nothing_that_is_said_after_it() {
    let world = World::pair();
    let (ann, amy) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.alice, "acme", "amy"));
    let ben = Session::open(&world.bob, "acme", "ben");
    let alice = Typist { home: &world.homes[0], session: Some(&ann) };
    let bob = Typist { home: &world.homes[1], session: Some(&ben) };
    alice.says(&["topic", "create", "plans"]);
    bob.says(&["topic", "join", "plans"]);
    let (to_amy, to_ben) = (amy.follow(Some(0)), ben.follow(Some(0)));
    ann.send("#plans", "while he is in it", "m-1");
    to_ben.message("m-1");
    alice.fails(&["topic", "remove", "plans", "nobody"], 5, "\"nobody\" is not in #plans");
    alice.fails(&["topic", "remove", "nowhere", "bob"], 5, "there is no topic");
    assert_eq!(alice.json(&["topic", "remove", "#plans", "bob"])["removed"], "bob");
    alice.fails(&["topic", "remove", "plans", "bob"], 5, "who is in it: claudemesh topic members plans");
    ann.send("#plans", "now that he is out of it", "m-2");
    to_amy.message("m-2");
    assert_eq!(texts(bob, "plans"), ["while he is in it", "?"]);
    assert_eq!(to_ben.messages().len(), 1);
    assert_eq!(copies(&world, "plans", "bob"), 1);
    // By the beginning of a key, which does not let him in again by itself.
    bob.says(&["topic", "join", "plans"]);
    assert_eq!(alice.json(&["topic", "remove", "plans", "ben"])["removed"], "bob", "by what its session is called");
    bob.says(&["topic", "join", "plans"]);
    let key = alice.json(&["topic", "members", "plans"])[1]["pubkey"].as_str().unwrap().to_owned();
    assert!(alice.says(&["topic", "remove", "plans", &key[..10]]).contains("took bob out of #plans"));
}

#[test]
fn what_is_for_a_group_reaches_a_member_whose_session_of_it_is_over() {
    let world = World::pair();
    let ann = Session::open(&world.alice, "acme", "ann");
    let alice = Typist { home: &world.homes[0], session: Some(&ann) };
    let ben = Session::prepare(&world.bob, "acme", "ben").in_groups(&["eng"]);
    ben.register(std::process::id());
    ben.await_link();
    let is_here = || {
        let peers = alice.json(&["peers"]);
        peers.as_array().unwrap().iter().any(|peer| peer["displayName"] == "ben" && peer["online"] == true)
    };
    until("him to be here", || is_here().then_some(()));
    assert_eq!(ben.call("DELETE", &format!("/v1/sessions/{}", ben.token), None).unwrap().status, 200);
    until("him to be gone", || (!is_here()).then_some(()));
    ann.send("@eng", "while he was out", "m-1");
    ann.send("@ops", "to others", "m-2");
    // Where he has a session again it is for that alone, if it is in the group.
    until("both to be with the broker", || {
        let page = ann.call("GET", "/v1/outbox?status=done", None).ok()?.json();
        (page["items"].as_array()?.len() == 2).then_some(())
    });
    let back = Session::open(&world.bob, "acme", "ben-again");
    until("it to come", || back.unread().iter().any(|row| row["body"] == "while he was out").then_some(()));
    ann.send("*", "to all", "m-3");
    let rest = until("the last to come", || Some(back.unread()).filter(|rows| !rows.is_empty()));
    assert!(rest.iter().all(|row| row["body"] == "to all"), "{rest:?}");
}
