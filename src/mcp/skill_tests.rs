use std::sync::{Arc, Mutex};

use crossbeam_channel::unbounded;

use super::tests::{INITIALIZED, PING, Shim, options, token};
use super::*;
use crate::client::fake::{Answer, Asked, FakeDaemon, Scratch};
use crate::wire::json::{Value, encode, json};

fn initialize(revision: &str) -> String {
    let params = json!({ "protocolVersion": revision, "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
    request(0, "initialize", &params)
}

fn request(id: u32, method: &str, params: &Value) -> String {
    encode(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}

fn list(id: u32, what: &str) -> String {
    request(id, &format!("{what}/list"), &json!({}))
}

fn skill(name: &str) -> Value {
    json!({ "name": name, "description": format!("about {name}"), "mesh": "home" })
}

/// What a fake daemon has, and the streams that follow it.
#[derive(Clone, Default)]
struct Shelf {
    names: Arc<Mutex<Vec<&'static str>>>,
    streams: Arc<Mutex<Vec<Sender<String>>>>,
}

impl Shelf {
    fn of(names: &[&'static str]) -> Shelf {
        let shelf = Shelf::default();
        shelf.put(names);
        shelf
    }

    fn put(&self, names: &[&'static str]) {
        *self.names.lock().unwrap() = names.to_vec();
    }

    /// Tells whoever follows.
    fn announce(&self) {
        let block = "event: system\ndata: {\"mesh\":\"home\",\"event\":\"skill_change\",\"eventData\":{\"name\":\"x\"}}\n\n";
        self.streams.lock().unwrap().last().expect("a stream").send(block.to_owned()).unwrap();
    }

    fn serve(&self, scratch: &Scratch) -> FakeDaemon {
        let this = self.clone();
        FakeDaemon::start(&scratch.paths(), move |asked| this.answer(asked))
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let names = self.names.lock().unwrap().clone();
        match asked.path.split('?').next() {
            Some("/v1/events") => {
                let (blocks, stream) = unbounded();
                self.streams.lock().unwrap().push(blocks);
                Answer::Stream(stream)
            }
            Some("/v1/skills") => {
                Answer::Json(200, encode(&json!({ "skills": names.iter().map(|name| skill(name)).collect::<Vec<_>>() })))
            }
            Some("/v1/skills/a%2Fb") => {
                let mut skill = skill("a/b");
                skill["instructions"] = json!("Do it.");
                skill["manifest"] = json!({ "model": "opus" });
                Answer::Json(200, encode(&json!({ "skill": skill })))
            }
            Some("/v1/skills/away") => {
                Answer::Json(404, r#"{"error":"skill_not_found","unanswered":{"home":"unavailable"}}"#.into())
            }
            _ => Answer::Json(404, r#"{"error":"skill_not_found"}"#.into()),
        }
    }
}

fn names(listed: &Value) -> Vec<&str> {
    let result = &listed["result"];
    let rows = result["prompts"].as_array().or_else(|| result["resources"].as_array()).expect("a list");
    rows.iter().filter_map(|row| row["name"].as_str()).collect()
}

#[test]
fn skills_are_prompts_and_resources_of_the_sessions_own_mesh() {
    let scratch = Scratch::new();
    let daemon = Shelf::of(&["a/b", "c"]).serve(&scratch);
    let mut shim = Shim::with(Options { channels: false, ..options(&scratch, token()) });
    shim.shake_hands();
    let prompts = shim.ask(&list(1, "prompts"));
    assert_eq!((names(&prompts), &prompts["id"]), (vec!["a/b", "c"], &json!(1)));
    let asked = daemon.asked_for("/v1/skills");
    assert_eq!(asked.header("authorization"), Some(format!("ClaudeMesh-Session {}", "07".repeat(32)).as_str()));
    let resources = shim.ask(&list(2, "resources"));
    assert_eq!(resources["result"]["resources"][0]["uri"], "skill://claudemesh/a%2Fb");
    let prompt = shim.ask(&request(3, "prompts/get", &json!({ "name": "a/b" })));
    assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "---\nmodel: \"opus\"\n---\nDo it.");
    let uri = json!({ "uri": "skill://claudemesh/a%2Fb" });
    let read = shim.ask(&request(4, "resources/read", &uri));
    assert_eq!((&read["result"]["contents"][0]["uri"], &read["id"]), (&uri["uri"], &json!(4)));
    for (method, params, code, text) in [
        ("prompts/get", json!({ "name": "no" }), -32602, "Skill \"no\" not found in the mesh"),
        ("prompts/get", json!({ "name": "away" }), -32603, "the broker does not answer now"),
        ("resources/read", json!({ "uri": "skill://claudemesh/no" }), -32002, "Skill \"no\" not found"),
        ("resources/read", json!({ "uri": "file:///etc/passwd" }), -32002, "Unknown resource URI: file:///etc/passwd"),
    ] {
        let refused = shim.ask(&request(5, method, &params))["error"].clone();
        assert_eq!((&refused["code"], &refused["message"]), (&json!(code), &json!(text)));
        assert_eq!(refused["data"], if code == -32002 { params } else { Value::Null });
    }
    shim.end();
}

#[test]
fn a_client_is_told_when_what_it_has_listed_has_changed_and_only_then() {
    let scratch = Scratch::new();
    let shelf = Shelf::of(&["a"]);
    let daemon = shelf.serve(&scratch);
    let mut shim = Shim::with(Options { channels: false, ..options(&scratch, token()) });
    shim.shake_hands();
    assert_eq!(names(&shim.ask(&list(1, "prompts"))), ["a"]);
    // Once for the list, once when the stream is open.
    let mut asked = [daemon.asked().path, daemon.asked().path, daemon.asked().path];
    asked.sort();
    assert_eq!(asked, ["/v1/events", "/v1/skills", "/v1/skills"]);
    shelf.announce();
    daemon.asked_for("/v1/skills");
    assert_eq!(shim.ask(PING)["id"], 99, "nothing has changed");
    shelf.put(&["a", "b"]);
    shelf.announce();
    assert_eq!(shim.read()["method"], "notifications/prompts/list_changed");
    assert_eq!(shim.read()["method"], "notifications/resources/list_changed");
    // The two lists are asked for apart: what changed in between is news for the first.
    shelf.put(&["b"]);
    assert_eq!(names(&shim.ask(&list(2, "resources"))), ["b"]);
    assert_eq!(shim.read()["method"], "notifications/prompts/list_changed");
    assert_eq!(shim.read()["method"], "notifications/resources/list_changed");
    assert!(daemon.rest().iter().all(|asked| !asked.path.starts_with("/v1/inbox")), "mail is left to other paths");
    shim.end();
}

#[test]
fn the_stream_that_brings_mail_tells_of_skills_and_they_are_no_message() {
    let scratch = Scratch::new();
    let shelf = Shelf::of(&["a"]);
    let daemon = shelf.serve(&scratch);
    let mut shim = Shim::with(options(&scratch, token()));
    shim.shake_hands();
    daemon.asked_for("/v1/events");
    daemon.asked_for("/v1/inbox?");
    assert_eq!(names(&shim.ask(&list(1, "prompts"))), ["a"]);
    shelf.put(&[]);
    shelf.announce();
    assert_eq!(shim.read()["method"], "notifications/prompts/list_changed");
    assert_eq!(shim.read()["method"], "notifications/resources/list_changed");
    assert_eq!(names(&shim.ask(&list(2, "prompts"))), [""; 0]);
    assert!(daemon.rest().iter().all(|asked| asked.path != "/v1/events"), "one stream is enough");
    shim.end();
}

#[test]
fn a_daemon_that_is_away_or_mute_keeps_nobody_waiting_and_its_skills_come_later() {
    let scratch = Scratch::new();
    let mut shim = Shim::with(Options { channels: false, ..options(&scratch, token()) });
    shim.shake_hands();
    assert_eq!(names(&shim.ask(&list(1, "prompts"))), [""; 0]);
    let refused = shim.ask(&request(2, "prompts/get", &json!({ "name": "a" })))["error"].clone();
    assert_eq!(refused["code"], -32603);
    assert_eq!(refused["data"]["hint"], "start it with: claudemesh up");
    let shelf = Shelf::of(&["a"]);
    let daemon = shelf.serve(&scratch);
    assert_eq!(shim.read()["method"], "notifications/prompts/list_changed");
    assert_eq!(shim.read()["method"], "notifications/resources/list_changed");
    drop(daemon);
    let _mute = FakeDaemon::start(&scratch.paths(), |_| Answer::Silence);
    shim.write(&list(3, "prompts"));
    assert_eq!(shim.ask(PING)["id"], 99, "requests are answered meanwhile");
    // What was cancelled is never answered; one too many is refused at once.
    shim.write(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#);
    for id in 100..200 {
        shim.write(&list(id, "prompts"));
    }
    let refused = shim.read();
    assert_eq!(refused["error"]["message"], "too many requests at once");
    drop(shim.far.take());
    assert_eq!(shim.running.join_by(Instant::now() + Duration::from_secs(5)), crate::base::thread::Joined::Ended(Exit::Success));
}

#[test]
fn without_a_token_the_session_that_registers_later_is_found_or_the_one_mesh() {
    let scratch = Scratch::new();
    let daemon = Shelf::of(&["a"]).serve(&scratch);
    let config = |slugs: &[&str]| {
        let mesh = |slug: &&str| {
            json!({ "meshId": slug, "memberId": "m", "slug": slug, "name": slug, "pubkey": "ab".repeat(32),
                    "secretKey": "cd".repeat(64), "brokerUrl": "ws://127.0.0.1:1/ws", "joinedAt": "2025-10-09T08:53:20.000Z" })
        };
        let meshes: Vec<Value> = slugs.iter().map(mesh).collect();
        std::fs::write(scratch.paths().config_file(), encode(&json!({ "version": 1, "meshes": meshes }))).unwrap();
    };
    // None of several is the right one.
    config(&["home", "work"]);
    let mut shim = Shim::start(&scratch, None);
    shim.shake_hands();
    assert_eq!(names(&shim.ask(&list(1, "prompts"))), [""; 0]);
    let refused = shim.ask(&request(2, "prompts/get", &json!({ "name": "a" })))["error"].clone();
    assert!(refused["message"].as_str().unwrap().contains("several meshes"), "{refused}");
    assert!(daemon.rest().is_empty());
    config(&["home"]);
    assert_eq!(names(&shim.ask(&list(3, "prompts"))), ["a"]);
    assert_eq!(daemon.asked().path, "/v1/skills?mesh=home");
    assert_eq!(shim.read()["method"], "notifications/prompts/list_changed", "it was shown none before");
    shim.end();

    let own = scratch.paths().session_token("01234567-89ab-4def-8123-456789abcdef");
    let mut shim = Shim::with(Options { own: Some(own.clone()), ..options(&scratch, None) });
    let initialized = shim.ask(&initialize("2025-11-25"));
    let instructions = initialized["result"]["instructions"].as_str().unwrap();
    assert!(instructions.contains("begins with `[claudemesh]`") && !instructions.contains("no messages will arrive"));
    shim.write(INITIALIZED);
    assert_eq!(names(&shim.ask(&list(4, "prompts"))), ["a"]);
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "ab".repeat(32)).unwrap();
    let stream = daemon.asked_for("/v1/events");
    let authorization = format!("ClaudeMesh-Session {}", "ab".repeat(32));
    assert_eq!(stream.header("authorization"), Some(authorization.as_str()), "it is followed without being asked");
    let asked = daemon.asked_for("/v1/skills");
    assert_eq!((asked.path.as_str(), asked.header("authorization")), ("/v1/skills", Some(authorization.as_str())));
    shim.end();
}

#[test]
fn only_the_revision_that_has_batches_takes_them() {
    let scratch = Scratch::new();
    let _daemon = Shelf::of(&["a"]).serve(&scratch);
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut shim = Shim::start(&scratch, None);
        assert_eq!(shim.ask(&initialize(revision))["result"]["protocolVersion"], revision);
        shim.write(INITIALIZED);
        let batch = format!("[{PING},{INITIALIZED},{},{{\"id\":\"b\",\"method\":\"nope\"}}]", list(7, "resources"));
        let replies = shim.ask(&batch);
        if revision == "2025-03-26" {
            let mut ids: Vec<String> = replies.as_array().unwrap().iter().map(|reply| reply["id"].to_string()).collect();
            ids.sort();
            assert_eq!(ids, ["\"b\"", "7", "99"]);
            assert_eq!(shim.ask("[]")["error"]["code"], -32600);
        } else {
            assert_eq!(replies["error"]["code"], -32600, "{revision}");
        }
        shim.end();
    }
}
