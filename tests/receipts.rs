//! How far a message came, as its sender is told: real daemons, a broker, and whatever of them is away or killed meanwhile.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::families::Typist;
use crate::support::home::Home;
use crate::support::mesh::{HUB, World};
use crate::support::process::Process;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

/// Exit statuses of a wait.
const TIMEOUT: i32 = 11;
const UNDELIVERED: i32 = 12;

/// Two sessions of two members' daemons, and who types for the first.
struct Scene {
    world: World,
    alice: Session,
    bob: Session,
}

impl Scene {
    #[track_caller]
    fn new() -> Scene {
        let world = World::pair();
        let alice = Session::open(&world.alice, "acme", "alice");
        let bob = Session::open(&world.bob, "acme", "bob");
        Scene { world, alice, bob }
    }

    fn typist(&self) -> Typist<'_> {
        Typist { home: &self.world.homes[0], session: Some(&self.alice) }
    }

    /// Where a message of alice's stands, once it is where it is wanted.
    #[track_caller]
    fn comes_to(&self, id: &str, state: &str) -> Value {
        comes_to(&self.world.alice, id, state)
    }
}

#[track_caller]
fn comes_to(daemon: &Daemon, id: &str, state: &str) -> Value {
    let mut last = Value::Null;
    until(&format!("{id} to be {state}"), || {
        last = daemon.try_get(&format!("/v1/messages/{id}")).ok().filter(|reply| reply.status == 200)?.json();
        (last["state"] == state).then(|| last.clone())
    })
}

/// Claims what this path may bring, and says which message ids that were; the first is put before the model if `offer`.
#[track_caller]
fn claim(session: &Session, path: &str, offer: bool) -> Vec<String> {
    let page = session.call("POST", "/v1/inbox/claim", Some(&json!({ "path": path }))).unwrap().json();
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
    if offer {
        let ids: Vec<&Value> = items.iter().map(|item| &item["id"]).collect();
        let done = session.call("POST", "/v1/inbox/offered", Some(&json!({ "ids": ids, "path": path }))).unwrap().json();
        assert_eq!(done["changed"], ids.len(), "{done}");
    }
    items.iter().map(|item| item["client_message_id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn arrived_and_offered_are_the_recipients_own_word() {
    let scene = Scene::new();
    let typist = scene.typist();
    let sent = typist.json(&["send", "bob", "hello", "--id", "first-message", "--wait=arrived"]);
    let standing = &sent["standing"];
    assert_eq!((&standing["state"], &standing["waited"]), (&json!("arrived"), &json!("reached")), "{sent}");
    let at = &standing["recipients"][0];
    assert_eq!((&at["name"], &at["pubkey"], &at["state"]), (&json!("bob"), &json!(scene.bob.key), &json!("arrived")), "{sent}");
    assert!(at["arrivedAt"].is_string() && standing["queuedAt"].is_string() && standing["relayedAt"].is_string(), "{sent}");
    let early = typist.run(&["message", "status", "first-message", "--wait", "--timeout", "0"]);
    assert_eq!(early.status.code(), Some(TIMEOUT), "{early:?}");
    assert!(early.out.contains("arrived"), "{early:?}");

    assert_eq!(claim(&scene.bob, "prompt", true), ["first-message"]);
    let waited = typist.says(&["message", "status", "first-message", "--wait", "--timeout", "60"]);
    assert!(waited.contains("offered by prompt · bob"), "{waited}");
    let standing = typist.json(&["message", "status", "first-message"]);
    assert_eq!((&standing["state"], &standing["detail"]), (&json!("offered"), &json!("prompt")));
    assert_eq!((&standing["delivered"], &standing["recipientCount"]), (&json!(true), &json!(1)));
    // By every name it has.
    let id = standing["messageId"].as_str().unwrap();
    for name in [id, &id[..8], "first-m"] {
        assert_eq!(typist.json(&["message", "status", name])["clientMessageId"], "first-message", "{name}");
    }
    typist.says(&["send", "bob", "another", "--id", "first-other"]);
    typist.fails(&["message", "status", "first-"], 3, "more than one");
    typist.fails(&["message", "status", "no-such-message"], 5, "");
    typist.fails(&["send", "bob", "x", "--timeout", "5"], 3, "--wait");
    // Another session does not see it; whoever has the machine does, when the session has ended, too.
    let other = Session::open(&scene.world.alice, "acme", "other");
    let stranger = Typist { home: &scene.world.homes[0], session: Some(&other) };
    assert!(!stranger.run(&["message", "status", "first-message"]).status.success());
    let gone = scene.alice.call("DELETE", &format!("/v1/sessions/{}", scene.alice.token), None).unwrap();
    assert_eq!(gone.status, 200, "{gone:?}");
    // The hook that a client runs at a person's prompt.
    let mut hook = scene.world.homes[1].command(&["hook", "UserPromptSubmit"]);
    hook.env("CLAUDEMESH_IPC_TOKEN", &scene.bob.token).env("CLAUDEMESH_SESSION_ID", &scene.bob.id);
    let mut hook = Process::spawn(hook);
    hook.say("{}");
    let said = hook.finish();
    assert!(said.out.contains("another"), "{said:?}");
    assert_eq!(scene.comes_to("first-other", "offered")["detail"], "prompt");
}

#[test]
fn a_recipient_that_is_away_has_nothing_until_it_is_back() {
    let mut scene = Scene::new();
    scene.world.bob.terminate();
    let early = scene.typist().run(&["send", &scene.bob.key, "hello", "--id", "m-1", "--wait=arrived", "--timeout", "1"]);
    assert_eq!(early.status.code(), Some(TIMEOUT), "{early:?}");
    let standing = scene.comes_to("m-1", "relayed");
    assert_eq!((&standing["delivered"], &standing["receipts"]), (&json!(false), &json!(true)), "{standing}");
    scene.typist().says(&["message", "status", "m-1", "--wait=relayed"]);
    scene.world.bob.restart();
    scene.comes_to("m-1", "arrived");
}

#[test]
fn what_could_not_be_kept_for_a_while_is_kept_later() {
    let scene = Scene::new();
    scene.alice.send(&scene.bob.key, "x", "m-1");
    scene.bob.follow(Some(0)).message("m-1");
    comes_to(&scene.world.alice, "m-1", "arrived");
    let outbox = Connection::open(scene.world.homes[0].join("daemon/outbox.db")).unwrap();
    outbox.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(claim(&scene.bob, "prompt", true), ["m-1"]);
    until("the daemon to find its database locked", || scene.world.alice.log().contains("waits to be kept").then_some(()));
    outbox.execute_batch("ROLLBACK").unwrap();
    comes_to(&scene.world.alice, "m-1", "offered");
    scene.alice.send(&scene.bob.key, "x", "m-2");
    comes_to(&scene.world.alice, "m-2", "arrived");
}

#[test]
fn what_a_session_had_at_its_very_end_is_told() {
    let scene = Scene::new();
    for n in 0..5 {
        let id = format!("last-{n}");
        let bob = Session::open(&scene.world.bob, "acme", "brief");
        scene.alice.send(&bob.key, "for your last turn", &id);
        scene.comes_to(&id, "arrived");
        assert_eq!(claim(&bob, "prompt", true), [id.as_str()]);
        let gone = bob.call("DELETE", &format!("/v1/sessions/{}", bob.token), None).unwrap();
        assert_eq!(gone.status, 200, "{gone:?}");
        scene.comes_to(&id, "offered");
    }
}

#[test]
fn whatever_is_killed_the_receipts_still_come() {
    let mut scene = Scene::new();
    let send = |scene: &Scene, id: &str| {
        scene.alice.send(&scene.bob.key, id, id);
        scene.comes_to(id, "arrived");
    };
    // The recipient's daemon, with its word given to nobody yet.
    send(&scene, "m-1");
    scene.world.broker.kill();
    assert_eq!(claim(&scene.bob, "prompt", true), ["m-1"]);
    scene.world.bob.kill();
    scene.world.bob.restart();
    scene.world.broker.restart();
    scene.comes_to("m-1", "offered");
    // The sender's, while the word waits with the broker; and then the broker too.
    send(&scene, "m-2");
    scene.world.alice.kill();
    assert_eq!(claim(&scene.bob, "prompt", true), ["m-2"]);
    let waiting = || {
        let hub = Connection::open(scene.world.homes[2].join(HUB)).ok()?;
        let sql = "SELECT count(*) FROM receipt WHERE state = 'offered'";
        hub.query_row(sql, [], |row| row.get::<_, i64>(0)).ok().filter(|count| *count == 1)
    };
    until("the word to be with the broker", waiting);
    scene.world.broker.kill();
    scene.world.broker.restart();
    scene.world.alice.restart();
    scene.comes_to("m-2", "offered");
    scene.comes_to("m-1", "offered");
}

#[test]
fn what_is_held_says_why_and_what_a_person_asks_for_is_held_no_longer() {
    let home = Home::new();
    std::fs::create_dir(home.join("daemon")).unwrap();
    std::fs::write(home.join("daemon/settings.json"), r#"{"wakeBudget":2,"wakeWindowSeconds":3600}"#).unwrap();
    let daemon = Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    let send = |id: &str, text: &str, priority: &str| {
        let body = json!({ "to": bob.key, "message": text, "client_message_id": id, "priority": priority });
        assert_eq!(alice.call("POST", "/v1/send", Some(&body)).unwrap().status, 202);
        comes_to(&daemon, id, "arrived");
    };
    let held = |id: &str, why: &str| assert_eq!(comes_to(&daemon, id, "held")["detail"], why);
    send("woke", "thanks!", "next");
    assert_eq!(claim(&bob, "wake", true), ["woke"]);
    comes_to(&daemon, "woke", "offered");
    send("again", "thanks!", "next");
    assert_eq!(claim(&bob, "wake", false), [""; 0]);
    held("again", "repeat");
    send("other", "something else", "next");
    assert_eq!(claim(&bob, "wake", true), ["other"]);
    send("more", "one more thing", "next");
    assert_eq!(claim(&bob, "wake", false), [""; 0]);
    held("more", "budget");
    let status = |status: &str| {
        let reply = bob.call("POST", "/v1/profile", Some(&json!({ "status": status }))).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    status("dnd");
    send("urgent", "now!", "now");
    assert_eq!(claim(&bob, "tool-use", false), [""; 0]);
    held("urgent", "dnd");
    // With the broker, which keeps what is not urgent from who is busy.
    let body = json!({ "to": bob.key, "message": "later", "client_message_id": "kept", "priority": "next" });
    assert_eq!(alice.call("POST", "/v1/send", Some(&body)).unwrap().status, 202);
    held("kept", "dnd");
    let typist = Typist { home: &home, session: Some(&alice) };
    let early = typist.run(&["message", "status", "kept", "--wait=arrived", "--timeout", "0"]);
    assert_eq!(early.status.code(), Some(TIMEOUT), "held by the broker is not arrived: {early:?}");
    assert!(early.out.contains("held: dnd · bob"), "{early:?}");
    status("idle");
    comes_to(&daemon, "kept", "arrived");
    let mut brought = claim(&bob, "prompt", true);
    brought.sort();
    assert_eq!(brought, ["kept", "more", "urgent"]);
    for id in ["more", "urgent", "kept"] {
        assert_eq!(comes_to(&daemon, id, "offered")["detail"], "prompt");
    }
    held("again", "repeat");
}

#[test]
fn what_expires_or_is_given_up_says_so_and_why() {
    let mut scene = Scene::new();
    scene.world.bob.terminate();
    scene.alice.send(&scene.bob.key, "too late", "old");
    scene.comes_to("old", "relayed");
    scene.world.broker.kill();
    let hub = Connection::open(scene.world.homes[2].join(HUB)).unwrap();
    assert_eq!(hub.execute("UPDATE message SET expires_at = 1", []).unwrap(), 1);
    drop(hub);
    scene.alice.send(&scene.bob.key, "never mind", "abandoned");
    let typist = scene.typist();
    let waits = typist.run(&["message", "status", "abandoned", "--wait", "--timeout", "0"]);
    assert_eq!((waits.status.code(), waits.out.contains("queued")), (Some(TIMEOUT), true), "{waits:?}");
    let row = typist.json(&["outbox", "show", "abandoned"])["id"].as_str().unwrap().to_owned();
    typist.says(&["outbox", "abort", &row]);
    let dead = typist.run(&["message", "status", "abandoned", "--wait"]);
    assert_eq!(dead.status.code(), Some(UNDELIVERED), "{dead:?}");
    assert!(dead.out.contains("dead: given up by operator"), "{dead:?}");

    scene.world.broker.restart();
    let standing = scene.comes_to("old", "expired");
    assert_eq!(standing["delivered"], false, "{standing}");
    let typist = scene.typist();
    let over = typist.run(&["message", "status", "old", "--wait=arrived"]);
    assert_eq!(over.status.code(), Some(UNDELIVERED), "{over:?}");
    assert!(over.out.contains("expired: nobody fetched it in time"), "{over:?}");
}

#[test]
fn who_wants_to_tell_nobody_is_not_taken_for_one_who_has_nothing() {
    let home = Home::new();
    std::fs::create_dir(home.join("daemon")).unwrap();
    std::fs::write(home.join("daemon/settings.json"), r#"{"receipts":false}"#).unwrap();
    let daemon = Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    let heard = bob.follow(Some(0));
    alice.send(&bob.key, "hello", "m-1");
    heard.message("m-1");
    assert_eq!(claim(&bob, "prompt", true), ["m-1"]);
    let typist = Typist { home: &home, session: Some(&alice) };
    let waited = typist.run(&["message", "status", "m-1", "--wait=arrived", "--timeout", "1"]);
    assert_eq!(waited.status.code(), Some(TIMEOUT), "{waited:?}");
    assert!(waited.out.contains("relayed") && waited.out.contains("the recipient has not signed for it"), "{waited:?}");
}

#[test]
fn what_a_broker_refuses_for_good_is_dead_with_its_reason() {
    let scene = Scene::new();
    let bob = Typist { home: &scene.world.homes[1], session: Some(&scene.bob) };
    until("bob's link", || bob.run(&["block", "alice"]).status.success().then_some(()));
    let refused = scene.typist().run(&["send", &scene.bob.key, "hello?", "--id", "blocked", "--wait"]);
    assert_eq!(refused.status.code(), Some(UNDELIVERED), "{refused:?}");
    assert!(refused.out.contains("queued for") && refused.out.contains("dead: blocked by recipient grants"), "{refused:?}");
}

#[test]
fn a_message_to_several_is_where_the_last_of_them_has_it() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let [bob, carol] = ["bob", "carol"].map(|name| {
        let session = Session::prepare(&daemon, "home", name).in_groups(&["eng"]);
        session.register(std::process::id());
        session.await_link();
        session
    });
    let typist = Typist { home: &home, session: Some(&alice) };
    let sent = typist.json(&["send", "@eng", "hello all", "--id", "to-all", "--wait=arrived"]);
    assert_eq!((&sent["standing"]["state"], &sent["standing"]["recipientCount"]), (&json!("arrived"), &json!(2)), "{sent}");
    assert_eq!(claim(&bob, "prompt", true), ["to-all"]);
    let offered = |key: &str| {
        until("one to have it before its model", || {
            let standing = daemon.get("/v1/messages/to-all").json();
            let all = standing["recipients"].as_array()?.clone();
            all.iter().any(|one| one["pubkey"] == key && one["state"] == "offered").then_some(standing)
        })
    };
    assert_eq!(offered(&bob.key)["state"], "arrived", "carol has not");
    let early = typist.run(&["message", "status", "to-all", "--wait", "--timeout", "0"]);
    assert_eq!(early.status.code(), Some(TIMEOUT), "{early:?}");
    assert!(early.out.contains("offered to 1 of 2") && early.out.contains("carol arrived"), "{early:?}");
    assert_eq!(claim(&carol, "prompt", true), ["to-all"]);
    typist.says(&["message", "status", "to-all", "--wait"]);
    let nobody = typist.run(&["send", "@nobody", "hello?", "--id", "to-none", "--wait=arrived"]);
    assert_eq!(nobody.status.code(), Some(UNDELIVERED), "{nobody:?}");
    assert!(nobody.out.contains("nobody was there"), "{nobody:?}");
}

#[test]
fn of_what_stays_on_one_machine_the_broker_is_told_nothing() {
    let scene = Scene::new();
    let carol = Session::open(&scene.world.alice, "acme", "carol");
    let receipts = || {
        let hub = Connection::open(scene.world.homes[2].join(HUB)).unwrap();
        let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'receipt'";
        hub.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    // More than a link takes at once.
    for n in 0..200 {
        scene.alice.send(&carol.key, "next door", &format!("near-{n}"));
    }
    scene.comes_to("near-199", "arrived");
    assert_eq!(claim(&carol, "prompt", true)[0], "near-0");
    scene.comes_to("near-0", "offered");
    scene.comes_to("near-100", "arrived");
    assert_eq!(receipts(), 0);
    // As the member, who may have other machines: a session of this one has it.
    let home = Typist { home: &scene.world.homes[0], session: None };
    home.says(&["send", &carol.key, "from the member", "--id", "by-member", "--mesh", "acme"]);
    scene.comes_to("by-member", "arrived");
    assert_eq!(receipts(), 0);
    scene.alice.send(&scene.bob.key, "elsewhere", "far");
    scene.comes_to("far", "arrived");
    assert_eq!(receipts(), 1);
}
