//! What is said to many: no broker can read it, nobody who is gone can, and nobody gets what it could not open.

use std::path::Path;

use claudemesh::base::ids::{MemberId, MeshId};
use claudemesh::crypto::base64;
use claudemesh::crypto::keys::{KeyPair, SecretKey};
use claudemesh::crypto::scope_key::{ScopeKey, SealedKey};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::follow::Follower;
use crate::support::home::Home;
use crate::support::mesh::{HUB, World};
use crate::support::process::{Ended, Process};
use crate::support::raw::{Raw, session_hello};
use crate::support::session::Session;
use crate::support::wait::until;

/// A member as the configuration of its home has it.
struct Member {
    mesh: MeshId,
    id: MemberId,
    keys: KeyPair,
}

fn member(home: &Home) -> Member {
    let config: Value = serde_json::from_slice(&std::fs::read(home.join("config.json")).unwrap()).unwrap();
    let text = |key: &str| config["meshes"][0][key].as_str().unwrap().to_owned();
    let keys = KeyPair::from(SecretKey::parse_hex(&text("secretKey")).unwrap());
    Member { mesh: MeshId::new(text("meshId")), id: MemberId::new(text("memberId")), keys }
}

fn run(home: &Home, session: &Session, args: &[&str]) -> Ended {
    let mut command = home.command(args);
    command.env("CLAUDEMESH_INTERNAL_NO_AUTOSPAWN", "1").env("CLAUDEMESH_IPC_TOKEN", &session.token);
    Process::run(command)
}

#[track_caller]
fn says(home: &Home, session: &Session, args: &[&str]) -> String {
    let ended = run(home, session, args);
    assert!(ended.status.success(), "{args:?}: {ended:?}");
    ended.out
}

/// Waits for a message of this text, and checks that its sender is vouched for.
#[track_caller]
fn sealed(heard: &Follower, text: &str) -> Value {
    let event =
        heard.until(text, |events| events.iter().find(|event| event.name == "message" && event.data["body"] == text).cloned());
    assert!(event.data["plain"].is_null() && event.data["unreadable"].is_null(), "{}", event.data);
    event.data
}

/// Nothing arrived that could not be opened.
#[track_caller]
fn all_opened(heard: &Follower) {
    for message in heard.messages() {
        assert!(message.data["unreadable"].is_null(), "{}", message.data);
    }
}

/// Whether a text, or the form in which it would stand there in clear, is in one of the broker's files.
fn is_kept(data: &Path, text: &str) -> bool {
    let encoded = base64::encode(text.as_bytes());
    let within = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    std::fs::read_dir(data)
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.unwrap().path()).ok())
        .any(|bytes| within(&bytes, text.as_bytes()) || within(&bytes, encoded.as_bytes()))
}

#[test]
fn the_broker_keeps_no_word_of_what_is_said_to_many() {
    let mut world = World::pair();
    let data = world.homes[2].path().to_owned();
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::prepare(&world.bob, "acme", "ben").in_groups(&["eng"]);
    ben.register(std::process::id());
    ben.await_link();
    let heard = ben.follow(Some(0));
    let alice = |args: &[&str]| says(&world.homes[0], &ann, args);
    alice(&["topic", "create", "deploys"]);
    says(&world.homes[1], &ben, &["topic", "create", "deploys"]);
    alice(&["send", "*", "the very words to all"]);
    alice(&["send", "@eng", "the very words to a group"]);
    alice(&["topic", "post", "deploys", "@Ben the very words in a topic"]);
    alice(&["remind", "the very words soon", "--in", "1s", "--to", "@eng"]);
    alice(&["remind", "the very words again", "--cron", "0 9 * * 1-5", "--to", "*"]);
    alice(&["send", "*", "the very words in clear", "--plaintext"]);
    let all = [
        "the very words to all",
        "the very words to a group",
        "@Ben the very words in a topic",
        "the very words soon",
        "the very words again",
    ];
    let topical = sealed(&heard, all[2]);
    assert_eq!((&topical["mentions"], &topical["mentioned"]), (&json!(["ben"]), &json!(true)));
    for text in [all[0], all[1], all[3]] {
        let message = sealed(&heard, text);
        assert!(message["mentioned"].is_null(), "{message}");
    }
    let clear = heard.until("what was in clear", |events| {
        events.iter().find(|event| event.data["body"] == "the very words in clear").cloned()
    });
    assert_eq!(clear.data["plain"], true, "the receiver sees which it was");
    let listed = alice(&["remind", "list", "--json"]);
    assert!(listed.contains("the very words again"), "{listed}");
    let history: Value = serde_json::from_str(&says(&world.homes[1], &ben, &["topic", "history", "deploys", "--json"])).unwrap();
    assert_eq!((&history[0]["text"], &history[0]["bodyVersion"]), (&json!(all[2]), &json!(2)));
    world.bob.kill();
    alice(&["send", "*", "the very words to one who is away", "--id", "away"]);
    alice(&["send", "*", "the very words in clear to one who is away", "--plaintext", "--id", "away-clear"]);
    until("both to be with the broker", || {
        let page = ann.call("GET", "/v1/outbox?status=done", None).ok()?.json();
        page["items"].as_array()?.iter().any(|row| row["client_message_id"] == "away-clear").then_some(())
    });
    for text in all.iter().chain(&["the very words to one who is away"]) {
        assert!(!is_kept(&data, text), "{text}");
    }
    assert!(is_kept(&data, "the very words in clear to one who is away"), "it is looked for where it would be");
    world.bob.restart();
    sealed(&ben.follow(Some(0)), "the very words to one who is away");
}

/// Bob's copies of keys in the broker's database, by scope and number, opened with what he has.
fn copies(data: &Path, bob: &Member) -> Vec<(String, u32)> {
    let hub = Connection::open(data.join(HUB)).unwrap();
    let mut rows = hub.prepare("SELECT scope, epoch, encrypted_key, nonce FROM sealed_key").unwrap();
    let rows = rows.query_map([], |row| {
        let copy = SealedKey { encrypted_key: row.get(2)?, nonce: row.get(3)? };
        Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?, ScopeKey::open(&copy, &bob.keys.secret).is_ok()))
    });
    rows.unwrap().map(Result::unwrap).filter(|(_, _, opens)| *opens).map(|(scope, epoch, _)| (scope, epoch)).collect()
}

#[test]
fn who_was_banned_has_no_key_to_what_came_after_although_it_has_the_brokers_files() {
    let mut world = World::pair();
    let (ann, amy) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.alice, "acme", "amy"));
    let ben = Session::open(&world.bob, "acme", "ben");
    let (to_amy, to_ben) = (amy.follow(Some(0)), ben.follow(Some(0)));
    ann.send("*", "while he is here", "m-1");
    sealed(&to_ben, "while he is here");
    says(&world.homes[0], &ann, &["ban", "bob"]);
    ann.send("*", "now that he is gone", "m-2");
    sealed(&to_amy, "now that he is gone");
    says(&world.homes[0], &ann, &["unban", "bob"]);
    ann.send("*", "here again", "m-3");
    sealed(&to_amy, "here again");
    world.broker.terminate();
    let (data, bob) = (world.homes[2].path(), member(&world.homes[1]));
    let in_use: u32 = {
        let hub = Connection::open(data.join(HUB)).unwrap();
        hub.query_row("SELECT max(epoch) FROM scope_epoch WHERE state = 'open'", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(in_use, 3);
    // He has the first, and the third since he was let in again; none of the second, whatever he can read.
    assert_eq!(copies(data, &bob), [("*".to_owned(), 1), ("*".to_owned(), 3)]);
    all_opened(&to_amy);
}

#[test]
fn a_member_that_left_a_topic_or_was_not_in_it_yet_can_not_read_what_is_said_there() {
    let mut world = World::pair();
    let (ann, amy) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.alice, "acme", "amy"));
    let ben = Session::open(&world.bob, "acme", "ben");
    let (to_amy, to_ben) = (amy.follow(Some(0)), ben.follow(Some(0)));
    let alice = |args: &[&str]| says(&world.homes[0], &ann, args);
    let bob = |args: &[&str]| says(&world.homes[1], &ben, args);
    let texts = || {
        let history: Value = serde_json::from_str(&bob(&["topic", "history", "plans", "--json"])).unwrap();
        let rows = history.as_array().unwrap().iter().rev();
        rows.map(|row| row["text"].as_str().unwrap_or("?").to_owned()).collect::<Vec<_>>()
    };
    alice(&["topic", "create", "plans"]);
    alice(&["topic", "post", "plans", "before he came"]);
    sealed(&to_amy, "before he came");
    bob(&["topic", "join", "plans"]);
    alice(&["topic", "post", "plans", "while he is in it"]);
    sealed(&to_ben, "while he is in it");
    // He is given the key that is in use, and with it what was said under it.
    assert_eq!(texts(), ["before he came", "while he is in it"]);
    bob(&["topic", "leave", "plans"]);
    alice(&["topic", "post", "plans", "after he left"]);
    sealed(&to_amy, "after he left");
    // What he leaves behind does not show him more when his daemon has forgotten what it had.
    world.bob.terminate();
    world.bob.restart();
    ben.await_link();
    assert_eq!(texts(), ["?", "?", "?"]);
    let shown = bob(&["topic", "history", "plans"]);
    assert!(shown.contains("(sealed: it was sealed with a key that this session was not given"), "{shown}");
    let scopes = copies(world.homes[2].path(), &member(&world.homes[1]));
    assert_eq!(scopes.iter().filter(|(scope, _)| scope.starts_with('#')).map(|(_, epoch)| *epoch).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_somebody_could_not_open_is_refused_unless_it_may_be_in_clear() {
    let world = World::pair();
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    ann.send("*", "all can", "m-1");
    sealed(&heard, "all can");
    // A client of the reference says nothing of what it can.
    let (bob, old) = (member(&world.homes[1]), KeyPair::generate());
    let mut raw = Raw::connect(&world.broker.address, &session_hello(&bob.mesh, (&bob.id, &bob.keys), 7, &old));
    let mut tries = 0;
    let refused = until("it to be noticed", || {
        tries += 1;
        let reply = ann.try_send("*", "sealed", &format!("try-{tries}")).unwrap();
        (reply.status == 409).then_some(reply)
    });
    let said = refused.json();
    assert_eq!(said["error"], "recipient_cannot_open");
    assert!(said["detail"].as_str().unwrap().contains("peer-7 cannot read"), "{said}");
    for args in [&["send", "*", "sealed"][..], &["remind", "sealed", "--in", "1h", "--to", "*"]] {
        let ended = run(&world.homes[0], &ann, args);
        assert!(!ended.status.success(), "{ended:?}");
        assert!(ended.err.contains("peer-7 cannot read") && ended.err.contains("--plaintext"), "{ended:?}");
    }
    says(&world.homes[0], &ann, &["send", "*", "for everybody's eyes", "--plaintext"]);
    raw.read_until(base64::encode(b"for everybody's eyes").as_bytes());
    let clear =
        heard.until("it in clear", |events| events.iter().find(|event| event.data["body"] == "for everybody's eyes").cloned());
    assert_eq!(clear.data["plain"], true);
    // A client that seals without asking first is refused by the broker itself.
    let seal = json!({"epoch": 9, "signature": "00"});
    raw.say(
        &json!({"type": "send", "id": "raw-1", "client_message_id": "raw-1", "targetSpec": "*", "nonce": "n", "ciphertext": "c",
                    "bodyVersion": 2, "seal": seal})
        .to_string(),
    )
    .unwrap();
    raw.read_until(b"key_closed");
    let body = json!({"to": "@nobody-is-in-it", "message": "to the others"});
    assert_eq!(ann.call("POST", "/v1/send", Some(&body)).unwrap().status, 202, "it reaches nobody who could not");
}

#[test]
fn two_who_want_the_first_key_at_once_agree_on_one() {
    let world = World::pair();
    let (ann, ben) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.bob, "acme", "ben"));
    let (to_ann, to_ben) = (ann.follow(Some(0)), ben.follow(Some(0)));
    for round in 0..3 {
        std::thread::scope(|scope| {
            for session in [&ann, &ben] {
                scope.spawn(move || {
                    for n in 0..5 {
                        session.send("*", &format!("{round}-{n}"), &format!("{round}-{n}-{}", session.key));
                    }
                });
            }
        });
        to_ann.count(5 * (round + 1));
        to_ben.count(5 * (round + 1));
        // A member that comes and goes ends the key; both find out with what they say next.
        says(&world.homes[0], &ann, &["ban", "bob"]);
        says(&world.homes[0], &ann, &["unban", "bob"]);
        says(&world.homes[1], &ben, &["mesh", "reconnect", "acme"]);
        ben.await_link();
    }
    for heard in [&to_ann, &to_ben] {
        all_opened(heard);
        let bodies: Vec<String> =
            heard.messages().iter().map(|message| message.data["body"].as_str().unwrap().to_owned()).collect();
        let expected: Vec<String> = (0..3).flat_map(|round| (0..5).map(move |n| format!("{round}-{n}"))).collect();
        assert_eq!(bodies, expected, "once, and in order");
    }
}

#[test]
fn a_daemon_that_is_killed_while_it_makes_a_key_loses_nothing() {
    let mut world = World::pair();
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let heard = ben.follow(Some(0));
    for round in 0..3 {
        // Whoever leaves a topic ends its key.
        says(&world.homes[1], &ben, &["topic", if round == 0 { "create" } else { "leave" }, "plans"]);
        says(&world.homes[1], &ben, &["topic", "join", "plans"]);
        until("ann's link", || run(&world.homes[0], &ann, &["topic", "join", "plans"]).status.success().then_some(()));
        for n in 0..3 {
            ann.send("#plans", &format!("{round}-{n}"), &format!("{round}-{n}"));
        }
        world.alice.kill();
        world.alice.restart();
        heard.message(&format!("{round}-2"));
    }
    all_opened(&heard);
    let bodies: Vec<Value> = heard.messages().iter().map(|message| message.data["body"].clone()).collect();
    let expected: Vec<Value> = (0..3).flat_map(|round| (0..3).map(move |n| json!(format!("{round}-{n}")))).collect();
    assert_eq!(bodies, expected, "once, and in order");
}

#[test]
fn what_came_without_its_key_opens_when_the_key_comes_whoever_asked_for_it() {
    let mut world = World::pair();
    let (ann, ben) = (Session::open(&world.alice, "acme", "ann"), Session::open(&world.bob, "acme", "ben"));
    let heard = ben.follow(Some(0));
    says(&world.homes[0], &ann, &["topic", "create", "plans"]);
    says(&world.homes[1], &ben, &["topic", "join", "plans"]);
    ann.send("#plans", "with its key", "m-1");
    sealed(&heard, "with its key");
    world.bob.kill();
    ann.send("#plans", "without it", "m-2");
    // The broker gives him no copy for a while.
    let hub = Connection::open(world.homes[2].path().join(HUB)).unwrap();
    hub.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let (own, bob) = (member(&world.homes[1]).id, "UPDATE sealed_key SET member_id = ?2 WHERE member_id = ?1");
    hub.execute(bob, (own.as_str(), "elsewhere")).unwrap();
    world.bob.restart();
    ben.await_link();
    let heard = ben.follow(Some(0));
    heard.until("it to have come", |events| events.iter().any(|event| !event.data["unreadable"].is_null()).then_some(()));
    let known = |state: &str| {
        until(&format!("ann to hear that it is {state}"), || {
            let standing = world.alice.get("/v1/messages/m-2").json();
            (standing["state"] == state).then_some(standing)
        })
    };
    known("held");
    hub.execute(bob, ("elsewhere", own.as_str())).unwrap();
    let history = says(&world.homes[1], &ben, &["topic", "history", "plans", "--json"]);
    assert!(history.contains("without it"), "{history}");
    heard.until("it to open", |events| events.iter().any(|event| event.data["body"] == "without it").then_some(()));
    known("arrived");
}
