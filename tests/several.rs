//! One daemon on two meshes at once: whom a session speaks for on which, and what one mesh costs another.

use std::path::Path;
use std::time::{Duration, Instant};

use claudemesh::wire::limits::RPC_DEADLINE;
use serde_json::{Value, json};

use crate::families::Typist;
use crate::support::home::Home;
use crate::support::http::{self, Reply};
use crate::support::mesh::{Mesh, configure};
use crate::support::proxy::{Proxy, Way};
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::until;

/// Alice and bob, each with one daemon on the meshes `acme` and `beta`, which have a broker each. Alice reaches that of `acme`
/// through a proxy.
struct Both {
    alice: Daemon,
    bob: Daemon,
    proxy: Proxy,
    /// What alice is called on `beta`.
    alice_on_beta: String,
    _brokers: [Broker; 2],
    homes: [Home; 4],
}

impl Both {
    #[track_caller]
    fn start() -> Both {
        let homes = [(); 4].map(|()| Home::new());
        let meshes = [Mesh::create(homes[2].path(), "acme"), Mesh::create(homes[3].path(), "beta")];
        let brokers = [Broker::start(homes[2].path()), Broker::start(homes[3].path())];
        let proxy = Proxy::start(&brokers[0].address);
        let on_beta = meshes[1].entry(0, &brokers[1].url());
        let alice_on_beta = on_beta["pubkey"].as_str().unwrap().to_owned();
        configure(homes[0].path(), &[meshes[0].entry(0, &proxy.url()), on_beta]);
        configure(homes[1].path(), &[meshes[0].entry(1, &brokers[0].url()), meshes[1].entry(1, &brokers[1].url())]);
        let [alice, bob] = [&homes[0], &homes[1]].map(|home| Daemon::start(home.path()));
        for daemon in [&alice, &bob] {
            until("both meshes to be reached", || {
                let brokers = daemon.get("/v1/health").json()["brokers"].clone();
                (brokers["acme"] == "open" && brokers["beta"] == "open").then_some(())
            });
        }
        Both { alice, bob, proxy, alice_on_beta, _brokers: brokers, homes }
    }

    /// One request to alice's daemon without a token.
    fn as_user(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        as_user(&self.alice.socket(), method, path, body)
    }
}

fn as_user(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Reply {
    let body = body.map(Value::to_string);
    http::request(socket, method, path, &[], body.as_deref().map(str::as_bytes)).unwrap()
}

#[track_caller]
fn post(session: &Session, path: &str, body: &Value) {
    let reply = session.call("POST", path, Some(body)).unwrap();
    assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
}

#[test]
fn a_mesh_that_answers_nothing_hides_no_other() {
    let both = Both::start();
    let ben = Session::open(&both.bob, "beta", "ben");
    post(&ben, "/v1/state", &json!({"key": "color", "value": "blue"}));
    post(&ben, "/v1/memory", &json!({"content": "the door is blue"}));
    post(&ben, "/v1/skills", &json!({"name": "paint", "description": "d", "instructions": "i"}));
    // From here on `acme` takes everything and says nothing.
    both.proxy.stall(Way::ToDaemon);
    let socket = both.alice.socket();
    let asked = |method: &'static str, path: &'static str, body: Option<Value>| {
        let socket = socket.clone();
        move || {
            let began = Instant::now();
            (path, as_user(&socket, method, path, body.as_ref()).json(), began.elapsed())
        }
    };
    std::thread::scope(|scope| {
        let lists =
            ["/v1/peers", "/v1/state", "/v1/memory?q=door", "/v1/skills"].map(|path| scope.spawn(asked("GET", path, None)));
        let shown = scope.spawn(asked("POST", "/v1/profile", Some(json!({"summary": "on both"}))));
        for (list, (key, field, row)) in lists.into_iter().zip([
            ("peers", "displayName", "ben"),
            ("entries", "key", "color"),
            ("matches", "content", "the door is blue"),
            ("skills", "name", "paint"),
        ]) {
            let (path, answer, took) = list.join().unwrap();
            assert_eq!(answer["unanswered"], json!({"acme": "timeout"}), "{path}: {answer}");
            let rows = answer[key].as_array().unwrap();
            assert!(rows.iter().any(|found| found[field] == row), "{path}: {answer}");
            assert!(rows.iter().all(|found| found["mesh"] == "beta"), "{path}: {answer}");
            assert_soon(took, path);
        }
        let (path, answer, took) = shown.join().unwrap();
        assert_eq!((&answer["meshes"], &answer["unanswered"]), (&json!(["beta"]), &json!({"acme": "timeout"})), "{answer}");
        assert_soon(took, path);
    });
    until("the profile to be shown", || {
        let peers = ben.call("GET", "/v1/peers", None).unwrap().json();
        let own = peers["peers"].as_array()?.iter().find(|peer| peer["pubkey"] == both.alice_on_beta.as_str())?.clone();
        (own["summary"] == "on both").then_some(())
    });
}

#[test]
fn what_a_mesh_that_is_silent_may_have_is_not_answered_from_another() {
    let both = Both::start();
    let alice = Typist { home: &both.homes[0], session: None };
    alice.says(&["state", "set", "k", "v", "--mesh", "acme"]);
    alice.says(&["state", "set", "k", "v2", "--mesh", "beta"]);
    std::fs::write(both.homes[0].join("paint.md"), "Twice.\n").unwrap();
    alice.says(&["skill", "publish", "paint", "paint.md", "--mesh", "beta"]);
    assert!(alice.says(&["state", "get", "k"]).starts_with("  v\n"));
    both.proxy.stall(Way::ToDaemon);

    // The first that is asked says nothing: what the second has is not the answer.
    let ended = alice.run(&["state", "get", "k"]);
    assert_eq!((ended.status.code(), ended.out.as_str()), (Some(4), ""), "{ended:?}");
    for part in ["the broker of acme did not answer (timeout)", "on beta \"k\" is \"v2\"", "state get k --mesh beta"] {
        assert!(ended.err.contains(part), "{part}: {ended:?}");
    }
    let ended = alice.run(&["state", "get", "k", "--json"]);
    let refused: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.status.code(), &refused["ok"]), (Some(4), &json!(false)), "{ended:?}");
    assert!(refused["error"].as_str().unwrap().contains("acme did not answer"), "{refused}");
    alice.fails(&["skill", "get", "paint"], 4, "skill \"paint\" is on beta");
    let answer = both.as_user("GET", "/v1/state?key=k", None).json();
    assert_eq!((&answer["state"]["value"], &answer["unanswered"]), (&json!("v2"), &json!({"acme": "timeout"})), "{answer}");
    assert_eq!(answer["unanswered_before"], json!(["acme"]), "{answer}");
    assert!(alice.says(&["state", "get", "k", "--mesh", "beta"]).starts_with("  v2\n"));

    // What nobody has who answers may be where nobody answers.
    alice.fails(&["state", "get", "none"], 4, "the broker of acme did not answer");
    alice.fails(&["skill", "get", "none"], 4, "the broker of acme did not answer");
    alice.fails(&["state", "get", "k", "--mesh", "acme"], 4, "the broker of acme did not answer");
}

#[test]
fn a_list_that_has_gaps_says_so_to_programs_too() {
    let both = Both::start();
    let alice = Typist { home: &both.homes[0], session: None };
    alice.says(&["state", "set", "k", "v2", "--mesh", "beta"]);
    alice.says(&["remember", "the door is blue", "--mesh", "beta"]);
    both.proxy.stall(Way::ToDaemon);
    for list in [&["state", "list", "--json"], &["recall", "door", "--json"]] {
        let ended = alice.run(list);
        let rows: Vec<Value> = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((ended.status.code(), rows.len()), (Some(0), 1), "{ended:?}");
        assert!(ended.err.contains("the broker of acme did not answer"), "{list:?}: {ended:?}");
    }
    let ended = alice.run(&["recall", "--json", "--mesh", "acme"]);
    assert_eq!((ended.status.code(), ended.out.trim()), (Some(4), "[]"), "{ended:?}");
    assert!(ended.err.contains("the broker of acme did not answer"), "{ended:?}");
}

#[test]
fn what_a_member_shows_is_not_said_to_be_set_where_nobody_heard_it() {
    let both = Both::start();
    let alice = Typist { home: &both.homes[0], session: None };
    both.proxy.stall(Way::ToDaemon);
    alice.fails(&["summary", "x"], 4, "set on beta, and not told to the broker of acme (timeout)");
    let ended = alice.run(&["profile", "set", "--title", "T"]);
    assert!(ended.out.is_empty() && ended.err.contains("say it again with --mesh acme"), "{ended:?}");
    alice.says(&["summary", "x", "--mesh", "beta"]);
}

#[test]
fn what_is_remembered_is_shown_with_its_mesh() {
    let both = Both::start();
    let alice = Typist { home: &both.homes[0], session: None };
    alice.says(&["remember", "the door is blue", "--mesh", "beta"]);
    assert!(alice.says(&["recall"]).lines().any(|line| line.ends_with(" · beta")), "forget asks for it");
}

#[test]
fn a_mesh_that_comes_later_and_is_silent_changes_no_answer() {
    let both = Both::start();
    let alice = Typist { home: &both.homes[0], session: None };
    alice.says(&["state", "set", "k", "v2", "--mesh", "beta"]);
    // They are asked in the order of what they are called here.
    let text = std::fs::read_to_string(both.homes[0].join("config.json")).unwrap();
    let mut entries: Vec<Value> =
        serde_json::from_value(serde_json::from_str::<Value>(&text).unwrap()["meshes"].clone()).unwrap();
    entries[0]["slug"] = json!("zeta");
    configure(both.homes[0].path(), &entries);
    until("the new name", || (both.alice.get("/v1/health").json()["brokers"]["zeta"] == "open").then_some(()));
    both.proxy.stall(Way::ToDaemon);
    let ended = alice.run(&["state", "get", "k"]);
    assert!(ended.status.success() && ended.out.starts_with("  v2\n"), "{ended:?}");
    assert!(ended.err.contains("the broker of zeta did not answer"), "{ended:?}");
}

/// The deadline of what asks several is less than that of the mesh that does not answer: it was not waited for to the end.
#[track_caller]
fn assert_soon(took: Duration, path: &str) {
    assert!(took < RPC_DEADLINE, "{path} took {took:?}");
}

#[test]
fn on_another_mesh_a_session_speaks_for_its_member() {
    let both = Both::start();
    let ann = Session::open(&both.alice, "acme", "ann");
    let carl = Session::open(&both.bob, "acme", "carl");
    let ben = Session::open(&both.bob, "beta", "ben");
    let (at_ben, at_carl) = (ben.follow(None), carl.follow(None));
    let accepted = |body: &Value| {
        until("the recipient to be found", || ann.call("POST", "/v1/send", Some(body)).ok().filter(|reply| reply.status == 202))
    };
    // Named in the body, and in the address.
    accepted(&json!({"to": ben.key, "message": "over there", "mesh": "beta", "client_message_id": "m-1"}));
    accepted(&json!({"to": "ben@beta", "message": "again", "client_message_id": "m-2"}));
    for id in ["m-1", "m-2"] {
        let event = at_ben.message(id).data;
        let member = both.alice_on_beta.as_str();
        assert_eq!((&event["sender_pubkey"], &event["sender_member_pubkey"]), (&member.into(), &member.into()), "{event}");
        assert_eq!(event["mesh"], "beta");
    }
    // On its own mesh, which needs no naming, it speaks for itself.
    accepted(&json!({"to": carl.key, "message": "here", "client_message_id": "m-3"}));
    let event = at_carl.message("m-3").data;
    assert_eq!((&event["sender_pubkey"], &event["mesh"]), (&ann.key.as_str().into(), &"acme".into()), "{event}");
    // What answers the member reaches the member on that mesh, and no session of another.
    ben.send(&both.alice_on_beta, "thanks", "m-4");
    let row = until("the answer", || {
        let page = both.as_user("GET", "/v1/inbox?mesh=beta", None).json();
        page["items"].as_array()?.iter().find(|row| row["client_message_id"] == "m-4").cloned()
    });
    assert_eq!((&row["recipient_kind"], &row["recipient_pubkey"]), (&"member".into(), &both.alice_on_beta.as_str().into()));
    assert!(ann.unread().is_empty(), "it is on another mesh");
}

#[test]
fn on_another_mesh_a_session_shows_nothing_and_learns_nothing_of_other_sessions() {
    let both = Both::start();
    let ann = Session::open(&both.alice, "acme", "ann");
    let abe = Session::open(&both.alice, "beta", "abe");
    let ben = Session::open(&both.bob, "beta", "ben");
    // What it shows of itself is shown on its own mesh.
    let summary = |pubkey: &str| {
        let peers = ben.call("GET", "/v1/peers", None).unwrap().json();
        let peers = peers["peers"].as_array().unwrap().clone();
        peers.iter().find(|peer| peer["pubkey"] == pubkey).map(|peer| peer["summary"].clone())
    };
    let before = until("the member", || summary(&both.alice_on_beta));
    let keyless = json!({"token": "d".repeat(64), "session_id": "old", "mesh": "beta", "display_name": "old",
                         "pid": std::process::id()});
    assert_eq!(both.as_user("POST", "/v1/sessions/register", Some(&keyless)).status, 200);
    let keyless = [("Authorization", format!("ClaudeMesh-Session {}", "d".repeat(64)))];
    let keyless = keyless.each_ref().map(|(name, value)| (*name, value.as_str()));
    let body = json!({"summary": "not there", "mesh": "beta"});
    let refused = [
        ann.call("POST", "/v1/profile", Some(&body)).unwrap(),
        http::request(&both.alice.socket(), "POST", "/v1/profile", &keyless, Some(body.to_string().as_bytes())).unwrap(),
    ];
    for refused in refused {
        let error = refused.json();
        assert_eq!((refused.status, &error["error"]), (409, &json!("this session has no presence there")), "{error}");
        assert_eq!(error["mesh"], "beta");
    }
    post(&abe, "/v1/profile", &json!({"summary": "here"}));
    until("its own summary", || summary(&abe.key).filter(|summary| summary == "here"));
    assert_eq!(summary(&both.alice_on_beta), Some(before), "the member shows what it showed");

    // The broker of the other mesh is asked in the member's name, and knows of all its sessions.
    abe.send(&ben.key, "for ben alone", "m-1");
    let id = until("the broker to have it", || {
        let row = both.as_user("GET", "/v1/outbox/m-1", None).json();
        row["broker_message_id"].as_str().map(str::to_owned)
    });
    let path = format!("/v1/messages/{id}?mesh=beta");
    assert_eq!(both.as_user("GET", &path, None).json()["targetSpec"], ben.key.as_str());
    let refused = ann.call("GET", &path, None).unwrap();
    assert_eq!((refused.status, &refused.json()["error"]), (404, &json!("message_not_found")), "{refused:?}");
}

#[test]
fn of_two_meshes_a_caller_without_a_session_names_one() {
    let both = Both::start();
    for (method, path, body) in [
        ("POST", "/v1/send", Some(json!({"to": "*", "message": "x"}))),
        ("POST", "/v1/state", Some(json!({"key": "k", "value": 1}))),
        ("POST", "/v1/memory", Some(json!({"content": "x"}))),
        ("DELETE", "/v1/memory/m", None),
        ("POST", "/v1/topics", Some(json!({"name": "deploys"}))),
    ] {
        let reply = both.as_user(method, path, body.as_ref());
        let refused = reply.json();
        assert_eq!((reply.status, &refused["error"]), (400, &"mesh_required".into()), "{method} {path}: {refused}");
        assert_eq!(refused["attached"], json!(["acme", "beta"]), "{method} {path}");
        assert_eq!(refused["detail"], "daemon attached to 2 meshes; pass 'mesh' in request body", "{method} {path}");
    }
    assert_eq!(both.alice.get("/v1/outbox").json()["items"], json!([]), "nothing is guessed");
    let named = both.as_user("POST", "/v1/state", Some(&json!({"key": "k", "value": 1, "mesh": "beta"}))).json();
    assert_eq!((&named["mesh"], &named["confirmed"]), (&"beta".into(), &true.into()), "{named}");
    let shown = both.as_user("POST", "/v1/profile", Some(&json!({"summary": "everywhere"}))).json();
    assert_eq!((&shown["ok"], &shown["meshes"]), (&true.into(), &json!(["acme", "beta"])), "a profile is shown on all");
}

#[test]
fn an_address_says_one_mesh_that_is_joined() {
    let both = Both::start();
    let send = |body: Value| {
        let reply = http::request(&both.alice.socket(), "POST", "/v1/send", &[], Some(body.to_string().as_bytes())).unwrap();
        (reply.status, reply.json())
    };
    let _bob = Session::open(&both.bob, "acme", "bob");
    let (status, refused) = send(json!({"to": "bob@nope", "message": "x"}));
    assert_eq!((status, &refused["error"], &refused["mesh"]), (404, &json!("mesh_not_attached"), &json!("nope")), "{refused}");
    until("it is refused where a mesh is named, too", || {
        let (status, refused) = send(json!({"to": "bob@nope", "message": "x", "mesh": "acme"}));
        assert_ne!(status, 202, "{refused}");
        (refused["error"] == "mesh_not_attached" && refused["mesh"] == "nope").then_some(())
    });
    let (status, refused) = send(json!({"to": "bob@beta", "message": "x", "mesh": "acme"}));
    assert_eq!((status, &refused["error"]), (400, &json!("invalid 'to'")), "{refused}");
    // A name with an @ in it, as other programs give them.
    let _odd = Session::open(&both.bob, "acme", "bob@nope");
    until("the odd name", || (send(json!({"to": "bob@nope", "message": "x", "mesh": "acme"})).0 == 202).then_some(()));
}
