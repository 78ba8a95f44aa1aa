//! The socket API as the reference's clients know it: keys, statuses and texts, called without a token unless the route is
//! about one. We may add keys; what is documented must be there.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use serde_json::{Value, json};

use super::scene::{Old, assert_keys};
use crate::support::http;
use crate::support::mesh::World;
use crate::support::session::Session;
use crate::support::wait::PATIENCE;

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|row| row["client_message_id"].as_str().unwrap()).collect()
}

#[test]
fn of_the_daemon_itself() {
    let old = Old::start();
    let version = old.ok("GET", "/v1/version", None);
    assert_eq!((&version["ipc_api"], &version["schema_version"]), (&"v1".into(), &1.into()));
    let parts = version["daemon_version"].as_str().unwrap().split('.').map(str::parse::<u32>);
    assert_eq!(parts.filter(Result::is_ok).count(), 3, "{version}");
    for feature in ["version", "health", "send", "inbox", "events", "peers", "sessions"] {
        assert!(version["ipc_features"].as_array().unwrap().contains(&feature.into()), "{feature}: {version}");
    }
    let text = old.daemon.get("/v1/version").text();
    let places = ["daemon_version", "ipc_api", "ipc_features", "schema_version"].map(|key| text.find(key));
    assert!(places.is_sorted(), "{text}");

    let health = old.ok("GET", "/v1/health", None);
    assert_eq!((&health["ok"], &health["pid"]), (&true.into(), &old.daemon.pid().into()));
    let status = health["brokers"]["acme"].as_str().unwrap();
    assert!(["connecting", "closed", "reconnecting"].contains(&status), "{health}");

    for (method, path) in
        [("GET", "/v1/version/"), ("HEAD", "/v1/healthz"), ("POST", "/v1/version"), ("PUT", "/v1/send"), ("GET", "/")]
    {
        let reply = old.call(method, path, None);
        assert_eq!(reply.status, 404, "{method} {path}: {reply:?}");
    }
    old.refuses("GET", "/v2/version", None, 404, "not found");
}

#[test]
fn of_the_gates() {
    let old = Old::start();
    let with = |path: &str, name: &str, value: &str| {
        let bytes = format!("GET {path} HTTP/1.1\r\n{name}: {value}\r\nConnection: close\r\n\r\n");
        let bytes = if name == "Host" { bytes } else { bytes.replace("Connection", "Host: localhost\r\nConnection") };
        let reply = http::raw(&old.daemon.socket(), bytes.as_bytes()).unwrap();
        (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    let in_query = "token must be in Authorization header, not query string";
    assert_eq!(with("/v1/health?token=", "Accept", "*/*"), (400, in_query.to_owned()));
    assert_eq!(with("/v1/health", "Host", "example.com"), (403, "forbidden host".to_owned()));
    assert_eq!(with("/v1/health", "Host", "localhost:47823").0, 200);
    assert_eq!(with("/v1/health", "Host", "127.0.0.1").0, 200);
    assert_eq!(with("/v1/health", "Origin", "http://localhost"), (403, "forbidden origin".to_owned()));
    assert_eq!(with("/v1/health", "Authorization", "Bearer whatever").0, 200, "no token is asked for on this socket");
    assert_eq!(with("http://example.com/v1/health?x", "Accept", "*/*").0, 200, "of a whole address only the path counts");
    let chunked = "POST /v1/inbox/seen HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"ids\":\r\n\
                   3\r\n[]}\r\n0\r\n\r\n";
    let reply = http::raw(&old.daemon.socket(), chunked.as_bytes()).unwrap();
    assert_eq!((reply.status, reply.json()), (200, json!({"marked_seen": 0})));
}

#[test]
fn of_sessions() {
    let old = Old::start();
    let register = "/v1/sessions/register";
    old.refuses("POST", register, None, 400, "missing body");
    old.refuses("POST", register, Some(json!({"token": "short"})), 400, "token must be 64 hex chars");
    let pid = std::process::id();
    let whole = json!({"token": "AB".repeat(32), "session_id": "s-1", "mesh": "acme", "display_name": "ann", "pid": pid});
    for key in ["session_id", "mesh", "display_name", "pid"] {
        let mut part = whole.clone();
        part.as_object_mut().unwrap().remove(key);
        old.refuses("POST", register, Some(part), 400, "session_id, mesh, display_name, pid all required");
    }
    let mut odd = whole.clone();
    odd["presence"] = json!({"session_pubkey": "no key"});
    odd["groups"] = json!(["@eng:lead", 7, null]);
    let registered = old.ok("POST", register, Some(odd));
    assert_eq!((&registered["ok"], &registered["presence_accepted"]), (&true.into(), &false.into()));
    assert!(registered["registered_at"].is_u64());

    // As the reference's `launch` registers, with its member's word, which is minted afresh here.
    let session = Session::prepare(&old.daemon, "acme", "ben");
    let launched = old.ok(
        "POST",
        register,
        Some(json!({
            "token": session.token, "session_id": session.id, "mesh": "acme", "display_name": "ben", "pid": pid, "cwd": "/",
            "role": "dev", "groups": ["@eng", "@ops:lead"],
            "presence": {
                "session_pubkey": session.key.to_uppercase(), "session_secret_key": session.secret.to_uppercase(),
                "parent_attestation": {
                    "session_pubkey": session.key, "parent_member_pubkey": "ab".repeat(32), "expires_at": 1_760_000_000_000_u64,
                    "signature": "cd".repeat(64),
                },
            },
        })),
    );
    assert_eq!(launched["presence_accepted"], true);
    let me = session.call("GET", "/v1/sessions/me", None).unwrap().json();
    assert_keys(&me["session"], "sessionId mesh displayName pid cwd role groups presence registeredAt token_prefix");
    assert_eq!(me["session"]["presence"]["sessionPubkey"], session.key);
    assert_eq!(me["session"]["token_prefix"], session.token[..8]);
    old.refuses("GET", "/v1/sessions/me", None, 401, "no session token");
    let all = old.ok("GET", "/v1/sessions", None);
    let all = all["sessions"].as_array().unwrap();
    assert_eq!(all.iter().map(|session| &session["displayName"]).collect::<Vec<_>>(), ["ann", "ben"]);
    assert_eq!(all[0]["groups"], json!(["@eng:lead"]));

    old.refuses("DELETE", "/v1/sessions/short", None, 400, "invalid token");
    let path = format!("/v1/sessions/{}", session.token);
    assert_eq!(old.ok("DELETE", &path, None), json!({"ok": true, "token_prefix": session.token[..8]}));
    let gone = old.call("DELETE", &path, None);
    assert_eq!((gone.status, gone.json()), (404, json!({"ok": false, "token_prefix": session.token[..8]})));
    old.ok("DELETE", &format!("/v1/sessions/{}", "ab".repeat(32)), None);
}

/// Brought into a form that can be addressed and shown, or left out.
#[test]
fn what_the_reference_takes_of_a_session_is_taken() {
    let old = Old::start();
    let register = "/v1/sessions/register";
    let mut strange = json!({"token": "cd".repeat(32), "session_id": "s\n2", "mesh": "acme", "pid": std::process::id()});
    for (key, value) in [
        ("display_name", json!(format!("@a\u{200d} {}", "b".repeat(80)))),
        ("cwd", json!(7)),
        ("role", json!("dev\u{1b}[2J")),
        ("groups", Value::Null),
        ("presence", json!("none")),
    ] {
        strange[key] = value;
    }
    assert_eq!(old.ok("POST", register, Some(strange.clone()))["presence_accepted"], false);
    let all = old.ok("GET", "/v1/sessions", None);
    let shown = &all["sessions"][0];
    assert_eq!(shown["sessionId"], "s 2");
    assert_eq!(shown["displayName"], format!("a {}", "b".repeat(62)), "{shown}");
    assert_eq!((shown.get("cwd"), shown.get("groups"), &shown["role"]), (None, None, &"dev\u{fffd}[2J".into()), "{shown}");
    for (key, value) in [("token", json!(7)), ("pid", json!("1")), ("mesh", json!(["acme"])), ("session_id", json!({}))] {
        let mut wrong = strange.clone();
        wrong[key] = value;
        let error =
            if key == "token" { "token must be 64 hex chars" } else { "session_id, mesh, display_name, pid all required" };
        old.refuses("POST", register, Some(wrong), 400, error);
    }
}

#[test]
fn of_the_inbox() {
    let old = Old::start();
    let page = old.ok("GET", "/v1/inbox?mark_seen=false", None);
    assert_eq!((ids(&page), &page["marked_seen"]), (vec!["three", "two", "one"], &0.into()));
    assert_keys(
        &page["items"][0],
        "id client_message_id broker_message_id mesh topic sender_pubkey sender_name body received_at reply_to_id seen_at \
         recipient_pubkey recipient_kind",
    );
    let row = &page["items"][1];
    assert_eq!((&row["received_at"], &row["seen_at"]), (&"1970-01-01T00:00:02.000Z".into(), &Value::Null));
    assert_eq!((&row["id"], &row["topic"], &row["reply_to_id"]), (&"in-two".into(), &"deploys".into(), &"parent".into()));
    assert_eq!((&row["sender_name"], &row["broker_message_id"]), (&"carol".into(), &"broker-two".into()));
    for (query, expected) in [
        ("topic=deploys", vec!["two"]),
        ("from=nobody", vec![]),
        ("limit=1", vec!["three"]),
        ("limit=0", vec!["three"]),
        ("mesh=other", vec![]),
        ("mesh=acme", vec!["three", "two", "one"]),
        ("since=1970-01-01T00:00:02Z", vec!["three", "two"]),
        ("until=1970-01-01T00:00:02Z", vec!["two", "one"]),
        ("since=2000", vec!["three", "two", "one"]),
        ("unread_only=true", vec!["three", "two", "one"]),
    ] {
        assert_eq!(ids(&old.ok("GET", &format!("/v1/inbox?mark_seen=false&{query}"), None)), expected, "{query}");
    }

    old.refuses("POST", "/v1/inbox/seen", Some(json!({"ids": "in-one"})), 400, "missing 'ids' (string[])");
    assert_eq!(old.ok("POST", "/v1/inbox/seen", Some(json!({"ids": ["in-one", "none"]}))), json!({"marked_seen": 1}));
    assert_eq!(old.ok("POST", "/v1/inbox/seen", Some(json!({"ids": ["in-one"]}))), json!({"marked_seen": 0}));
    let session = Session::prepare(&old.daemon, "acme", "ann");
    session.register(std::process::id());
    let unread = session.call("GET", "/v1/inbox?unread_only=true", None).unwrap().json();
    assert_eq!((ids(&unread), &unread["marked_seen"]), (vec!["three", "two"], &2.into()), "a session marks what it reads");
    assert!(unread["items"].as_array().unwrap().iter().all(|row| row["seen_at"].is_null()), "as it was before");
    assert_eq!(ids(&session.call("GET", "/v1/inbox?unread_only=true", None).unwrap().json()), [""; 0]);

    old.refuses("DELETE", "/v1/inbox/", None, 400, "missing id");
    assert_eq!(old.refuses("DELETE", "/v1/inbox/none", None, 404, "not found")["id"], "none");
    assert_eq!(old.ok("DELETE", "/v1/inbox/in-two", None), json!({"removed": 1, "id": "in-two"}));
    assert_eq!(old.ok("DELETE", "/v1/inbox?mesh=other", None), json!({"removed": 0}));
    assert_eq!(old.ok("DELETE", "/v1/inbox?before=1970-01-01T00:00:02Z", None), json!({"removed": 1}));
    assert_eq!(old.ok("DELETE", "/v1/inbox", None), json!({"removed": 1}));
}

#[test]
fn of_the_outbox() {
    let old = Old::start();
    let page = old.ok("GET", "/v1/outbox", None);
    assert_eq!(ids(&page), ["aborted", "dead", "done", "pending"]);
    for row in page["items"].as_array().unwrap() {
        assert_keys(
            row,
            "id client_message_id status attempts enqueued_at next_attempt_at delivered_at broker_message_id last_error aborted_at \
             aborted_by superseded_by payload_bytes",
        );
        assert_eq!((&row["status"], &row["payload_bytes"]), (&row["client_message_id"], &4.into()));
    }
    for (query, expected) in [("status=dead", vec!["dead"]), ("status=lost", ids(&page)), ("limit=1", vec!["aborted"])] {
        assert_eq!(ids(&old.ok("GET", &format!("/v1/outbox?{query}"), None)), expected, "{query}");
    }
    let path = "/v1/outbox/requeue";
    old.refuses("POST", path, Some(json!({})), 400, "missing 'id'");
    let refusal = "row not found, already aborted, or already done";
    for row in ["row-done", "row-aborted", "none"] {
        old.refuses("POST", path, Some(json!({"id": row})), 409, refusal);
    }
    // Refused before anything is aborted, unlike in the reference.
    let taken = json!({"id": "row-dead", "new_client_message_id": "done"});
    old.refuses("POST", path, Some(taken), 409, "new_client_message_id is taken");
    let asked = json!({"id": "row-dead", "new_client_message_id": "again", "aborted_by": "me"});
    let done = old.ok("POST", path, Some(asked));
    assert_eq!((&done["aborted_row_id"], &done["new_client_message_id"]), (&"row-dead".into(), &"again".into()));
    let page = old.ok("GET", "/v1/outbox", None);
    let row = |id: &str| page["items"].as_array().unwrap().iter().find(|row| row["client_message_id"] == id).unwrap().clone();
    let (before, after) = (row("dead"), row("again"));
    assert_eq!((&before["status"], &before["aborted_by"]), (&"aborted".into(), &"me".into()));
    assert_eq!((&before["superseded_by"], &after["id"]), (&done["new_row_id"], &done["new_row_id"]));
    assert_eq!((&after["status"], &after["target"], &after["attempts"]), (&"pending".into(), &before["target"], &0.into()));
    assert!(old.ok("POST", path, Some(json!({"id": "row-pending"})))["new_client_message_id"].is_string());
}

#[test]
fn of_sending_and_of_peers() {
    let old = Old::start();
    let send = |body: Value, status, error| old.refuses("POST", "/v1/send", Some(body), status, error);
    send(json!("text"), 400, "expected JSON object");
    send(json!([]), 400, "missing 'to'");
    send(json!({"to": "  ", "message": "x"}), 400, "missing 'to'");
    send(json!({"to": "bob"}), 400, "missing 'message'");
    send(json!({"to": "bob", "message": ""}), 400, "missing 'message'");
    for priority in [Value::Null, "soon".into(), 1.into()] {
        let body = json!({"to": "bob", "message": "x", "priority": priority});
        send(body, 400, "priority must be 'now' | 'next' | 'low'");
    }
    send(json!({"to": "bob", "message": "x", "meta": [1]}), 400, "'meta' must be an object");
    let refused = send(json!({"to": "bob", "message": "x", "mesh": "other"}), 404, "mesh_not_attached");
    assert_eq!(refused["mesh"], "other");
    let refused = send(json!({"to": "bob", "message": "x"}), 502, "route_failed");
    assert!(refused["detail"].as_str().unwrap().starts_with("Error: "), "{refused}");
    let bad = http::request(&old.daemon.socket(), "POST", "/v1/send", &[], Some(b"{")).unwrap();
    assert_eq!(bad.status, 400, "where the reference says 500: {bad:?}");

    // A whole key, a group and everyone need nobody to be there.
    for to in [KeyPair::generate().public.to_hex(), "@eng".to_owned(), "*".to_owned()] {
        let body = json!({"to": to, "message": "x", "client_message_id": to, "meta": null, "mesh": " acme "});
        let reply = old.call("POST", "/v1/send", Some(body));
        let answer = reply.json();
        assert_eq!(reply.status, 202, "{reply:?}");
        assert_eq!((&answer["client_message_id"], &answer["status"]), (&to.as_str().into(), &"queued".into()));
    }
    let unnamed = old.call("POST", "/v1/send", Some(json!({"to": "*", "message": "x"}))).json();
    assert_eq!(unnamed["client_message_id"].as_str().map(str::len), Some(random::uuid_v4().len()), "{unnamed}");

    assert_eq!(old.ok("GET", "/v1/peers", None)["peers"], json!([]), "a mesh that is away has nobody");
    assert_eq!(old.refuses("GET", "/v1/peers?mesh=other", None, 404, "mesh_not_attached")["mesh"], "other");
}

#[test]
fn the_event_stream_keeps_its_form() {
    let old = Old::start();
    let mut stream = UnixStream::connect(old.daemon.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n").unwrap();
    let mut text = String::new();
    let mut piece = [0; 4096];
    while text.matches("\n\n").count() < 4 {
        let count = stream.read(&mut piece).unwrap();
        assert_ne!(count, 0, "the stream ended: {text}");
        text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(http::header(head, "content-type").map(|kind| kind.starts_with("text/event-stream")), Some(true));
    assert!(http::header(head, "cache-control").unwrap().contains("no-cache"), "{head}");
    let mut blocks = body.split("\n\n");
    assert_eq!(blocks.next(), Some(": connected"));
    for expected in ["one", "two", "three"] {
        let lines: Vec<&str> = blocks.next().unwrap().lines().collect();
        let [id, event, data] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(id.strip_prefix("id: ").is_some_and(|id| id.parse::<u64>().is_ok()), "{id}");
        assert_eq!(*event, "event: message");
        let data = data.strip_prefix("data: ").unwrap();
        assert!(data.starts_with("{\"ts\":\""), "{data}");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_keys(
            &data,
            "ts id mesh client_message_id broker_message_id sender_pubkey sender_member_pubkey sender_name topic reply_to_id priority \
             body created_at recipient_pubkey recipient_kind",
        );
        assert_eq!((&data["body"], &data["priority"]), (&expected.into(), &"next".into()));
    }
}

#[test]
fn who_comes_and_goes_is_told_in_the_references_words() {
    let world = World::pair();
    let ann = Session::open(&world.alice, "acme", "ann");
    let heard = ann.follow(None);
    let ben = Session::open(&world.bob, "acme", "ben");
    ben.call("DELETE", &format!("/v1/sessions/{}", ben.token), None).unwrap();
    for (name, event) in [("peer_join", "peer_joined"), ("peer_leave", "peer_left")] {
        let data = heard.until(name, |events| {
            events
                .iter()
                .find(|event| event.name == name && event.data["pubkey"] == ben.key.as_str())
                .map(|event| event.data.clone())
        });
        assert_keys(&data, "ts mesh event name pubkey");
        assert_eq!((&data["mesh"], &data["event"], &data["name"]), (&"acme".into(), &event.into(), &"ben".into()));
    }
    let peers = ann.call("GET", "/v1/peers", None).unwrap().json();
    let own = peers["peers"].as_array().unwrap().iter().find(|peer| peer["pubkey"] == ann.key.as_str()).unwrap().clone();
    assert_keys(&own, "pubkey memberPubkey displayName status summary groups sessionId connectedAt cwd peerRole mesh");
    assert_eq!((&own["peerRole"], &own["mesh"]), (&"session".into(), &"acme".into()));
}
