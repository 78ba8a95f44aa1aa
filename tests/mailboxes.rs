//! The outbox and the inbox as people and sessions use them: looked at, searched, given up, sent again, cleared.

use std::time::Instant;

use claudemesh::base::ids::{ClientId, PublicKey, SessionKey, Slug};
use claudemesh::base::thread::Joined;
use claudemesh::base::time::now_millis;
use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::{random, sealed};
use claudemesh::store::RowId;
use claudemesh::store::inbox::{Body, Claim, Inbox, NewInbound, Recipient, Scope};
use claudemesh::wire::priority::Priority;
use serde_json::{Value, json};

use crate::support::home::{Home, command_in};
use crate::support::mesh::World;
use crate::support::process::Process;
use crate::support::proxy::Way;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::{PATIENCE, until};

/// A key that nobody ever had on the mesh.
fn nobody() -> String {
    KeyPair::generate().public.to_hex()
}

#[track_caller]
fn ask(session: &Session, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let reply = session.call(method, path, body).expect("the daemon answers");
    (reply.status, reply.json())
}

#[track_caller]
fn only(session: &Session, status: &str) -> Value {
    until(&format!("a row that is {status}"), || {
        let (_, page) = ask(session, "GET", &format!("/v1/outbox?status={status}"), None);
        page["items"].as_array()?.first().cloned()
    })
}

#[test]
fn what_can_not_be_delivered_is_shown_sent_again_given_up_and_cleared_by_its_sender_alone() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let other = Session::open(&daemon, "home", "other");
    let nobody = nobody();
    alice.send(&nobody, "is anybody there?", "m-1");
    let dead = only(&alice, "dead");
    let id = dead["id"].as_str().unwrap().to_owned();
    assert!(dead["last_error"].as_str().unwrap().starts_with("target_not_found"), "{dead}");
    assert_eq!(dead.get("message"), None, "a list shows no text");

    let (status, row) = ask(&alice, "GET", &format!("/v1/outbox/{id}"), None);
    assert_eq!((status, &row["message"], &row["target"]), (200, &json!("is anybody there?"), &json!(nobody)));
    assert_eq!(ask(&alice, "GET", "/v1/outbox/m-1", None).1["id"], id.as_str(), "by the message's id too");
    // The rows of one session are nothing to another.
    assert_eq!(ask(&other, "GET", &format!("/v1/outbox/{id}"), None).0, 404);
    assert_eq!(ask(&other, "GET", "/v1/outbox", None).1["items"], json!([]));
    assert_eq!(ask(&other, "POST", "/v1/outbox/requeue", Some(&json!({"id": id}))).0, 409);
    assert_eq!(ask(&other, "POST", "/v1/outbox/abort", Some(&json!({"id": id}))).0, 409);
    assert_eq!(ask(&other, "POST", "/v1/outbox/prune", Some(&json!({"statuses": ["dead"]}))).1["removed"], 0);

    let (status, again) = ask(&alice, "POST", "/v1/outbox/requeue", Some(&json!({"id": id, "new_client_message_id": "m-2"})));
    assert_eq!((status, &again["new_client_message_id"]), (200, &json!("m-2")));
    let second = only(&alice, "dead");
    assert_eq!((&second["client_message_id"], &second["target"]), (&json!("m-2"), &json!(nobody)), "it went to the same peer");
    let (status, aborted) = ask(&alice, "POST", "/v1/outbox/abort", Some(&json!({"id": second["id"]})));
    assert_eq!((status, &aborted["aborted_row_id"]), (200, &second["id"]));
    for body in [json!({}), json!({"id": ""}), json!([])] {
        assert_eq!(ask(&alice, "POST", "/v1/outbox/abort", Some(&body)).0, 400, "{body}");
    }
    assert_eq!(ask(&alice, "POST", "/v1/outbox/prune", Some(&json!({"statuses": ["pending"]}))).0, 400);
    assert_eq!(ask(&alice, "POST", "/v1/outbox/prune", Some(&json!({"before": "yesterday"}))).0, 400);
    assert_eq!(ask(&alice, "POST", "/v1/outbox/prune", Some(&json!({"before": "2020-01-01"}))).1["removed"], 0);
    assert_eq!(ask(&alice, "POST", "/v1/outbox/prune", None).1["removed"], 2);
    assert_eq!(ask(&alice, "GET", "/v1/outbox", None).1["items"], json!([]));
}

#[test]
fn what_was_given_up_on_its_way_is_done_once_the_broker_says_that_it_has_it() {
    let world = World::through_proxies();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let at_bob = bob.follow(None);
    alice.send(&bob.key, "first", "m-1");
    at_bob.message("m-1");
    // The broker takes it and passes it on, and its word is late.
    world.proxies[0].stall(Way::ToDaemon);
    alice.send(&bob.key, "never mind", "m-2");
    at_bob.message("m-2");
    let row = ask(&alice, "GET", "/v1/outbox/m-2", None).1;
    assert_eq!((&row["status"], &row["message"]), (&json!("inflight"), &json!("never mind")));
    let body = json!({"id": row["id"]});
    let (status, refused) = ask(&alice, "POST", "/v1/outbox/requeue", Some(&body));
    assert_eq!((status, &refused["error"]), (409, &json!("row is on its way to the broker")), "{refused}");
    assert_eq!(ask(&alice, "POST", "/v1/outbox/abort", Some(&body)).0, 200);
    assert_eq!(ask(&alice, "GET", "/v1/outbox/m-2", None).1["status"], "aborted");
    world.proxies[0].resume();
    let done = until("the row to be done", || {
        let row = ask(&alice, "GET", "/v1/outbox/m-2", None).1;
        (row["status"] == "done").then_some(row)
    });
    assert!(done["broker_message_id"].is_string() && done["message"].is_null(), "its text is dropped: {done}");
    assert_eq!(done["aborted_at"], Value::Null);
    assert_eq!(ask(&alice, "GET", "/v1/outbox", None).1["items"].as_array().map(Vec::len), Some(2), "it went once");
}

#[test]
fn the_commands_do_the_same() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let nobody = nobody();
    alice.send(&nobody, "is anybody there?", "m-1");
    let id = only(&alice, "dead")["id"].as_str().unwrap().to_owned();
    let run = |args: &[&str]| {
        let ended = Process::run(command_in(home.path(), args));
        (ended.status.code(), ended.out + &ended.err)
    };
    let (code, text) = run(&["outbox", "show", &id]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("is anybody there?") && text.contains("error: target_not_found") && text.contains(&nobody), "{text}");
    let (code, text) = run(&["outbox", "show", "nothing"]);
    assert_ne!(code, Some(0));
    assert!(text.contains("no outbox row with id \"nothing\""), "{text}");
    let (code, text) = run(&["outbox", "abort", &id]);
    assert_eq!((code, text.trim()), (Some(0), format!("aborted: {id}").as_str()));
    let (code, text) = run(&["outbox", "prune"]);
    assert_eq!((code, text.trim()), (Some(0), "removed 1 rows"));
}

#[test]
fn the_inbox_is_searched_by_sender_text_and_time() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let [alice, carol, bob] = ["alice", "carol", "bob"].map(|name| Session::open(&daemon, "home", name));
    let heard = bob.follow(None);
    for (session, text, id) in [(&alice, "deploy is GREEN", "a"), (&carol, "deploy is red", "b"), (&alice, "lunch?", "c")] {
        session.send("bob", text, id);
        heard.message(id);
    }
    let found = |query: &str| {
        let (status, page) = ask(&bob, "GET", &format!("/v1/inbox?mark_seen=false&{query}"), None);
        assert_eq!(status, 200, "{page}");
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["client_message_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("from=Alice"), ["c", "a"]);
    assert_eq!(found(&format!("from={}", &carol.key[..12])), ["b"]);
    assert_eq!(found(&format!("from={}", carol.key)), ["b"]);
    assert_eq!(found("q=green"), ["a"]);
    assert_eq!(found("q=DEPLOY&from=carol"), ["b"]);
    assert_eq!(found("q=%25"), [""; 0], "no wildcards");
    assert_eq!(found("since=2100-01-01T00:00:00Z"), [""; 0]);
    assert_eq!(found("since=2020-01-01T00:00:00Z").len(), 3);
    let mut command = command_in(home.path(), &["inbox", "--from", "carol", "--search", "deploy"]);
    command.env_remove("CLAUDEMESH_IPC_TOKEN_FILE");
    let ended = Process::run(command);
    assert!(ended.out.contains("deploy is red") && !ended.out.contains("GREEN"), "{ended:?}");
}

/// Everything, for this path alone.
fn claimed(path: &str) -> Claim {
    let now = now_millis();
    let priorities = vec![Priority::Now, Priority::Next, Priority::Low];
    Claim {
        scope: Scope::Everything,
        path: path.into(),
        priorities,
        held: Vec::new(),
        only: None,
        limit: 1000,
        now,
        until: now + 30_000,
    }
}

#[test]
fn a_message_that_could_not_be_opened_is_read_when_its_key_appears() {
    let mut world = World::pair();
    let bob = Session::open(&world.bob, "acme", "bob");
    let seal = |text: &str| {
        let alice = KeyPair::generate();
        let sealed = sealed::seal(text.as_bytes(), &PublicKey::parse(&bob.key).unwrap(), &alice.secret).unwrap();
        (alice.public.to_hex(), sealed)
    };
    // As if the daemon had received it before it had the session's key.
    world.bob.kill();
    let kept = |id: &str, (sender, sealed): (String, sealed::Sealed)| NewInbound {
        id: RowId::new(random::uuid_v4()),
        mesh: Slug::new("acme"),
        recipient: Recipient::Session(SessionKey(PublicKey::parse(&bob.key).unwrap())),
        sender_pubkey: sender,
        sender_member: None,
        sender_name: "alice".into(),
        client_id: ClientId::new(id),
        broker_id: None,
        body: Body::Unreadable { reason: "no key".into(), nonce: sealed.nonce_b64, ciphertext: sealed.ciphertext_b64 },
        seal: None,
        mentions: Vec::new(),
        mentioned: false,
        topic: None,
        sent_to: None,
        reply_to: None,
        priority: Priority::Next,
        subtype: None,
        created_at: None,
        received_at: now_millis(),
        receipts: false,
    };
    let (_, mut forged) = seal("never");
    forged.ciphertext_b64.replace_range(..8, "AAAAAAAA");
    let path = world.bob.socket().with_file_name("inbox.db");
    let (inbox, thread) = Inbox::open(&path).unwrap();
    // Many that no key opens, and the one that does behind them all; it stood before the model as one that can not be opened.
    let mut rows: Vec<NewInbound> = (0..150).map(|n| kept(&format!("junk-{n}"), (bob.key.clone(), forged.clone()))).collect();
    rows.extend([kept("m-2", (bob.key.clone(), forged)), kept("m-1", seal("for later"))]);
    let id = rows[151].id.clone();
    let all: Vec<RowId> = rows.iter().map(|row| row.id.clone()).collect();
    inbox.insert(rows).unwrap();
    inbox.claim(claimed("prompt")).unwrap();
    inbox.offered(all, "prompt".into(), Scope::Everything, now_millis()).unwrap();
    let last = inbox.last_seq().unwrap();
    drop(inbox);
    assert_eq!(thread.join_by(Instant::now() + PATIENCE), Joined::Ended(()));
    world.bob.restart();
    let heard = bob.follow(Some(last.0));
    let event = heard.message("m-1");
    assert_eq!((&event.data["body"], event.data["id"].as_str()), (&json!("for later"), Some(id.as_str())));
    assert_eq!(heard.messages().len(), 1, "what does not open is no news");
    let (_, claimed) = ask(&bob, "POST", "/v1/inbox/claim", Some(&json!({"path": "prompt"})));
    assert_eq!((&claimed["items"][0]["body"], claimed["items"].as_array().map(Vec::len)), (&json!("for later"), Some(1)));
    let rows = until("the row to be readable", || {
        let (_, page) = ask(&bob, "GET", "/v1/inbox?mark_seen=false", None);
        let rows = page["items"].as_array()?.clone();
        rows.iter().any(|row| row["body"] == "for later").then_some(rows)
    });
    let left = rows.iter().find(|row| row["client_message_id"] == "m-2").unwrap();
    assert_eq!((&left["body"], &left["unreadable"]), (&Value::Null, &json!("no key")), "what does not open stays as it was");
}
