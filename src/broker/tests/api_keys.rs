//! Keys for scripts: what each may do over HTTP, and what ends it.

mod hostile;

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

/// What came back: the status, and the body if it is JSON.
type Answer = (u16, Value);

/// A script with this key.
struct Script<'a> {
    address: SocketAddr,
    key: &'a str,
}

impl Script<'_> {
    fn ask(&self, method: &str, path: &str, more: &str, body: &str) -> Answer {
        let auth = if self.key.is_empty() { String::new() } else { format!("Authorization: Bearer {}\r\n", self.key) };
        let head = format!("{method} /api/v1/{path} HTTP/1.1\r\nHost: x\r\n{auth}{more}Content-Length: {}\r\n\r\n", body.len());
        answer(self.address, format!("{head}{body}").as_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    fn post(&self, body: &Value) -> Answer {
        self.ask("POST", "messages", "", &body.to_string())
    }

    /// Refused with this status and this word.
    #[track_caller]
    fn refused(&self, answer: &Answer, status: u16, error: &str) {
        let (found, body) = answer;
        assert_eq!((*found, &body["error"]), (status, &json!(error)), "{body}");
        assert_eq!(body["code"], format!("error.{error}"));
        assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
}

fn answer(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), json::decode(body.as_bytes()).unwrap_or_default())
}

impl World {
    fn script<'a>(&self, key: &'a str) -> Script<'a> {
        Script { address: self.running().local_addr(), key }
    }
}

/// Makes a key; its id and its secret.
#[track_caller]
fn make(client: &Client, fields: Value) -> (String, String) {
    let mut ask = json!({"type": "apikey_create", "label": "ci", "capabilities": ["send", "read"]});
    ask.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let made = client.ask(ask, "apikey_created");
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    assert!(text("secret").starts_with(&text("prefix")) && text("prefix").len() == 11, "{made}");
    (text("id"), text("secret"))
}

#[test]
fn what_a_script_posts_is_heard_from_its_issuer_and_read_again() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    let id = alice.ask(json!({"type": "topic_create", "name": "deploys"}), "topic_created")["topic"]["id"].clone();
    let (_, secret) = make(&alice, json!({}));
    let script = world.script(&secret);
    bob.done(json!({"type": "topic_join", "topic": "deploys"}));

    let named = "Idempotency-Key: build-7\r\n";
    let body = json!({"topic": "#deploys", "message": "@m2 it is out", "priority": "now"}).to_string();
    let (status, posted) = script.ask("POST", "messages", named, &body);
    assert_eq!((status, &posted["topic"], &posted["topicId"]), (200, &json!("deploys"), &id), "{posted}");
    assert_eq!((&posted["notifications"], &posted["bodyVersion"]), (&json!(1), &json!(1)));
    assert!(posted["messageId"] == posted["historyId"] && posted["messageId"] == posted["queueId"]);
    // The issuer's own session hears it, too: the script is another.
    for client in [&alice, &bob] {
        let push = client.next("push");
        assert_eq!((&push["messageId"], &push["senderName"]), (&posted["messageId"], &json!("m1 via ci")));
        assert_eq!((&push["senderPubkey"], &push["priority"]), (&json!(world.members[0].1.public), &json!("now")));
        assert_eq!(crate::crypto::base64::decode(push["ciphertext"].as_str().unwrap()).unwrap(), b"@m2 it is out");
        client.ack(&push);
    }
    assert_eq!(script.ask("POST", "messages", named, &body).1["messageId"], posted["messageId"], "said once");
    let other = json!({"topic": "deploys", "message": "something else"}).to_string();
    script.refused(&script.ask("POST", "messages", named, &other), 409, "idempotency_conflict");
    bob.is_quiet();

    // As the reference's clients post; and a reply.
    let plain = json!({"topic": "deploys", "ciphertext": "c2Vlbg==", "nonce": "bg==", "bodyVersion": 1, "mentions": ["@M2", "m9"],
                       "replyToId": posted["messageId"]});
    let (status, reply) = script.post(&plain);
    bob.ack(&bob.next("push"));
    assert_eq!((status, &reply["notifications"], &reply["replyToId"]), (200, &json!(1), &posted["messageId"]), "{reply}");
    let (status, page) = script.get("topics/deploys/messages?limit=1");
    let last = &page["messages"][0];
    assert_eq!((status, &page["topicId"], &last["text"]), (200, &id, &json!("seen")), "{page}");
    assert_eq!((&last["senderName"], &last["nonce"], &last["bodyVersion"]), (&json!("m1 via ci"), &json!("bg=="), &json!(1)));
    let before = script.get(&format!("topics/deploys/messages?before={}", last["id"].as_str().unwrap())).1;
    assert_eq!((before["messages"].as_array().unwrap().len(), &before["messages"][0]["mentions"]), (1, &json!(["m2"])));

    // What the member has not read is what others have said.
    let (_, own) = make(&bob, json!({"capabilities": ["read"]}));
    let reader = world.script(&own);
    assert_eq!(reader.get("topics").1["topics"][0]["unread"], 2);
    assert_eq!(reader.ask("PATCH", "topics/deploys/read", "", "").1["topicId"], id);
    assert_eq!(
        (&reader.get("topics").1["topics"][0]["unread"], script.get("topics").1["topics"][0]["unread"].clone()),
        (&json!(0), json!(0))
    );

    // To many who are in no topic.
    assert_eq!(script.post(&json!({"to": "*", "message": "hello"})).1["topic"], json!(null));
    let push = bob.next("push");
    assert_eq!(push["targetSpec"], "*");
    assert_eq!(push["senderName"], "m1 via ci");

    let peers = script.get("peers").1["peers"].clone();
    let of = |via: &str| peers.as_array().unwrap().iter().filter(|peer| peer["via"] == via).count();
    assert_eq!((of("ws"), of("rest")), (2, 2), "{peers}");
    let members = script.get("members").1["members"].clone();
    assert_eq!(
        (&members[0]["displayName"], &members[0]["role"], &members[1]["online"]),
        (&json!("m1"), &json!("admin"), &json!(true))
    );
}

#[test]
fn a_key_does_what_it_is_for_and_nothing_else() {
    let world = World::new();
    // Whom no mail comes to in between.
    let alice = world.passing(0);
    for topic in ["deploys", "other", "a/b"] {
        alice.ask(json!({"type": "topic_create", "name": topic}), "topic_created");
    }
    alice.ask(json!({"type": "topic_create", "name": "secret", "visibility": "private"}), "topic_created");
    let post = json!({"topic": "deploys", "message": "x"});
    let reads = ["topics", "topics/deploys/messages", "members", "peers"];
    for (capabilities, may_send, may_read) in [
        (json!(["send"]), true, false),
        (json!(["read"]), false, true),
        (json!(["send", "read"]), true, true),
        (json!(["state_write"]), false, false),
        (json!(["admin"]), true, true),
    ] {
        let (_, secret) = make(&alice, json!({"capabilities": capabilities}));
        let script = world.script(&secret);
        match may_send {
            true => assert_eq!(script.post(&post).0, 200, "{capabilities}"),
            false => script.refused(&script.post(&post), 403, "api_key_missing_capability"),
        }
        for path in reads {
            match may_read {
                true => assert_eq!(script.get(path).0, 200, "{capabilities} {path}"),
                false => script.refused(&script.get(path), 403, "api_key_missing_capability"),
            }
        }
        if !may_read {
            script.refused(&script.get("topics/deploys/stream"), 403, "api_key_missing_capability");
            script.refused(&script.ask("PATCH", "topics/deploys/read", "", ""), 403, "api_key_missing_capability");
        }
    }

    let unknown = json!({"type": "apikey_create", "label": "x", "capabilities": ["read"], "topicScopes": ["deploys", "nowhere"]});
    assert!(alice.refused(unknown, "topic_not_found")["message"].as_str().unwrap().starts_with("there is no topic \"nowhere\""));
    let (_, scoped) = make(&alice, json!({"topicScopes": ["#deploys", "a/b"]}));
    let script = world.script(&scoped);
    assert_eq!((script.post(&post).0, script.get("topics/a%2Fb/messages").0), (200, 200));
    script.refused(&script.post(&json!({"topic": "other", "message": "x"})), 403, "api_key_topic_out_of_scope");
    script.refused(&script.post(&json!({"to": "*", "message": "x"})), 403, "api_key_topic_out_of_scope");
    for path in ["topics/other/messages", "topics/nowhere/messages", "topics/other/stream"] {
        script.refused(&script.get(path), 403, "api_key_topic_out_of_scope");
    }
    assert_eq!(script.get("topics").1["topics"].as_array().unwrap().len(), 2);

    // What its issuer may not do, it may not either.
    let (bob, _) = world.session(1, 21, "bob");
    let (_, secret) = make(&bob, json!({}));
    let script = world.script(&secret);
    script.refused(&script.post(&post), 403, "forbidden");
    script.refused(&script.get("topics/secret/messages"), 404, "topic_not_found");
    script.refused(&script.ask("PATCH", "topics/deploys/read", "", ""), 403, "forbidden");
    bob.refused(json!({"type": "apikey_create", "label": "x", "capabilities": ["admin"]}), "forbidden");
}

#[test]
fn a_key_ends_when_it_is_revoked_or_expires_and_is_its_issuers() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    alice.ask(json!({"type": "topic_create", "name": "deploys"}), "topic_created");
    for missing in ["", "Bearer", "nothing"] {
        let script = world.script(missing);
        let word = if missing.is_empty() { "api_key_missing" } else { "api_key_invalid" };
        script.refused(&script.get("topics"), 401, word);
        script.refused(&script.post(&json!({})), 401, word);
    }
    let stranger = crate::crypto::api_key::ApiSecret::generate().into_text();
    let script = world.script(stranger.reveal());
    script.refused(&script.get("topics/deploys/stream"), 401, "api_key_invalid");

    let (id, secret) = make(&bob, json!({}));
    let script = world.script(&secret);
    assert_eq!(script.get("topics").0, 200);
    let revoke = |client: &Client, id: &str| client.ask(json!({"type": "apikey_revoke", "id": id}), "apikey_revoke_response");
    assert_eq!(revoke(&bob, &id[..8]), json!({"type": "apikey_revoke_response", "status": "revoked", "id": id, "_reqId": "q"}));
    script.refused(&script.get("topics"), 401, "api_key_invalid");
    assert_eq!(revoke(&alice, "nothing")["status"], "not_found");
    let (_, secret) = make(&bob, json!({"label": "kept"}));
    bob.refused(json!({"type": "apikey_revoke", "id": "cm_"}), "invalid_args");

    let past = json!({"type": "apikey_create", "label": "x", "capabilities": ["read"], "expiresAt": "2020-01-01T00:00:00Z"});
    bob.refused(past, "invalid_args");
    let soon = crate::base::time::iso(now_millis() + 400);
    let (_, short) = make(&bob, json!({"expiresAt": soon}));
    let brief = world.script(&short);
    let until = Instant::now() + PATIENCE;
    while brief.get("topics").0 != 401 {
        assert!(Instant::now() < until, "it does not expire");
    }
    brief.refused(&brief.get("topics"), 401, "api_key_invalid");

    // An admin sees everybody's keys, others their own; nobody sees a secret.
    let listed = |client: &Client| client.ask(json!({"type": "apikey_list"}), "apikey_list_response");
    let (all, own) = (listed(&alice), listed(&bob));
    assert_eq!((all["keys"].as_array().unwrap().len(), own["keys"].as_array().unwrap().len()), (3, 3));
    let first = own["keys"].as_array().unwrap().iter().find(|key| key["id"] == id.as_str()).unwrap();
    assert!(first["revokedAt"].is_string() && first["lastUsedAt"].is_string() && first["expiresAt"].is_null(), "{first}");
    assert_eq!((&first["topicScopes"], &first["issuedBy"]), (&Value::Null, &json!("m2")));
    assert!(world.audit().contains(&("apikey_revoked".to_owned(), Some("m2".to_owned()))));
    assert!(!all.to_string().contains(&secret) && !all.to_string().contains("\"hash\""));
}

/// A stream of a topic, whose events are read as text.
struct Listening(TcpStream, String);

impl Listening {
    fn open(script: &Script<'_>, more: &str) -> Listening {
        let mut stream = TcpStream::connect(script.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let bearer = format!("Authorization: Bearer {}\r\n{more}", script.key);
        let ask = format!("GET /api/v1/topics/deploys/stream HTTP/1.1\r\nHost: x\r\n{bearer}\r\n");
        stream.write_all(ask.as_bytes()).unwrap();
        Listening(stream, String::new())
    }

    #[track_caller]
    fn until(&mut self, what: &str) -> &str {
        let mut piece = [0; 4096];
        while !self.1.contains(what) {
            let count = self.0.read(&mut piece).unwrap();
            assert!(0 < count, "{}", self.1);
            self.1.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        &self.1
    }
}

#[test]
fn a_stream_brings_what_is_said_once_and_ends_with_its_issuer() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (bob, _) = world.session(1, 21, "bob");
    alice.ask(json!({"type": "topic_create", "name": "deploys"}), "topic_created");
    let (_, secret) = make(&bob, json!({}));
    let script = world.script(&secret);
    alice.sent("early", "#deploys", "ZWFybHk=");
    let mut stream = Listening::open(&script, "");
    assert!(stream.until("event: ready\n").contains("\"topic\":\"deploys\""));
    let live = alice.sent("live", "#deploys", "bGl2ZQ==")["messageId"].as_str().unwrap().to_owned();
    let heard = stream.until("\"text\":\"live\"");
    assert!(heard.contains(&format!("id: {live}\nevent: message\n")) && !heard.contains("early"), "{heard}");
    alice.sent("later", "#deploys", "bGF0ZXI=");
    let mut resumed = Listening::open(&script, &format!("Last-Event-ID: {live}\r\n"));
    assert!(!resumed.until("\"text\":\"later\"").contains("\"text\":\"live\""));
    let held: Vec<_> = (0..6).map(|_| Listening::open(&script, "")).map(|mut one| (one.until("ready").len(), one)).collect();
    script.refused(&script.get("topics/deploys/stream"), 429, "too_many_streams");
    drop(held);

    stream.until("\"text\":\"later\"");
    alice.ask(json!({"type": "ban", "target": "m2"}), "ban_ack");
    stream.until("event: error\n");
    stream.until("api_key_invalid");
    script.refused(&script.get("topics"), 401, "api_key_invalid");
    alice.ask(json!({"type": "unban", "target": "m2"}), "unban_ack");
    script.refused(&script.get("topics"), 401, "api_key_invalid");
    let log: Vec<_> = world.audit().into_iter().filter(|(event, _)| event.contains("apikey")).collect();
    assert_eq!(log, [("apikey_created".to_owned(), Some("m2".to_owned()))], "and the ban says the rest");
}

#[test]
fn a_key_of_one_mesh_is_nothing_to_another() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    alice.ask(json!({"type": "topic_create", "name": "deploys"}), "topic_created");
    let mesh = MeshId::new("other");
    let owner = KeyPair::from_seed([9; 32]);
    let member = NewMember {
        id: MemberId::new("o1"),
        mesh: mesh.clone(),
        key: MemberKey(owner.public),
        display_name: "o1".into(),
        role: Role::Admin,
        now: 0,
    };
    let new = NewMesh { id: mesh, slug: Slug::new("o"), name: "O".into(), owner: member.key, now: 0 };
    world.running().hub().create_mesh(new, member).unwrap();
    let mut elsewhere = World { broker: None, dir: tempdir().unwrap(), mesh: MeshId::new("other"), members: Vec::new() };
    elsewhere.members.push((MemberId::new("o1"), owner));
    let client = world.connect();
    client.say(&elsewhere.hello(0));
    client.next("hello_ack");
    let (_, secret) = make(&client, json!({"capabilities": ["admin"]}));
    let script = world.script(&secret);
    assert_eq!(script.get("topics").1["topics"], json!([]));
    script.refused(&script.post(&json!({"topic": "deploys", "message": "x"})), 404, "topic_not_found");
}
