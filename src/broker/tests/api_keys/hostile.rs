//! Scripts that ask for what there is not, and for too much of it.

use super::*;

#[test]
fn hostile_requests_are_refused_and_change_nothing() {
    let world = World::new();
    let (alice, alice_key) = world.session(0, 11, "alice");
    alice.ask(json!({"type": "topic_create", "name": "deploys"}), "topic_created");
    let (_, secret) = make(&alice, json!({}));
    let script = world.script(&secret);
    let large = "x".repeat(70_000);
    for (body, status, error) in [
        (json!({"topic": "deploys"}), 400, "invalid"),
        (json!({"message": "x"}), 400, "invalid"),
        (json!({"topic": "deploys", "to": "*", "message": "x"}), 400, "invalid"),
        (json!({"topic": "deploys", "message": ""}), 400, "invalid"),
        (json!({"topic": "deploys", "message": "x", "ciphertext": "eA=="}), 400, "invalid"),
        (json!({"topic": "deploys", "ciphertext": "not base64!", "nonce": ""}), 400, "invalid"),
        (json!({"topic": "deploys", "ciphertext": "/w==", "nonce": ""}), 400, "invalid"),
        (json!({"topic": "deploys", "message": 7}), 400, "invalid"),
        (json!({"topic": "deploys", "message": "x", "priority": "urgent"}), 400, "invalid"),
        (json!({"topic": "deploys", "message": "x", "bodyVersion": 2}), 400, "body_version_unsupported"),
        (json!({"topic": "deploys", "message": "x", "mentions": vec!["a"; 17]}), 400, "invalid"),
        (json!({"topic": "deploys", "message": "x", "replyToId": "nothing"}), 400, "invalid"),
        (json!({"topic": "nowhere", "message": "x"}), 404, "topic_not_found"),
        (json!({"to": alice_key, "message": "x"}), 422, "direct_not_possible"),
        (json!({"to": "#deploys", "message": "x"}), 422, "direct_not_possible"),
        (json!({"topic": "deploys", "message": large}), 413, "payload_too_large"),
        (json!([]), 400, "invalid"),
    ] {
        let answer = script.post(&body);
        script.refused(&answer, status, error);
    }
    for body in ["", "{", "null", "\u{0}", "{\"topic\":\"deploys\",\"message\":\"\\ud800\"}"] {
        script.refused(&script.ask("POST", "messages", "", body), 400, "invalid");
    }
    for (method, path, status, error) in [
        ("DELETE", "messages", 405, "method_not_allowed"),
        ("POST", "topics", 405, "method_not_allowed"),
        ("GET", "nothing", 404, "not_found"),
        ("GET", "", 404, "not_found"),
        ("GET", "topics/%ff/messages", 404, "not_found"),
        ("GET", "topics/deploys/messages?limit=0", 400, "invalid"),
        ("GET", "topics/deploys/messages?limit=many", 400, "invalid"),
        ("GET", "topics/de'ploys/messages", 404, "topic_not_found"),
    ] {
        script.refused(&script.ask(method, path, "", ""), status, error);
    }
    let huge = format!("POST /api/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 1 << 30);
    assert_eq!(answer(script.address, huge.as_bytes()).0, 413);
    assert_eq!(script.get("topics/deploys/messages?before=nothing").1["messages"], json!([]));
    assert_eq!(script.get("topics/deploys/messages").1["messages"], json!([]), "nothing was said");
}

#[test]
fn keys_are_made_well_or_not_at_all_and_each_has_its_rate() {
    let world = World::new();
    let (alice, _) = world.session(0, 11, "alice");
    let (_, secret) = make(&alice, json!({}));
    let script = world.script(&secret);
    let (_, other) = make(&alice, json!({}));
    let until = Instant::now() + PATIENCE;
    while script.get("topics").0 != 429 {
        assert!(Instant::now() < until, "it is never too much");
    }
    assert_eq!(world.script(&other).get("topics").0, 200);
    for wrong in [
        json!({"type": "apikey_create", "capabilities": ["read"]}),
        json!({"type": "apikey_create", "label": "x", "capabilities": ["root"]}),
    ] {
        alice.refused(wrong, "invalid");
    }
    for wrong in [
        json!({"label": "", "capabilities": ["read"]}),
        json!({"label": "a\u{202e}b", "capabilities": ["read"]}),
        json!({"label": "x", "capabilities": []}),
        json!({"label": "x", "capabilities": ["read"], "topicScopes": []}),
        json!({"label": "x", "capabilities": ["read"], "topicScopes": ["o'neil"]}),
        json!({"label": "x", "capabilities": ["read"], "expiresAt": "soon"}),
    ] {
        let mut ask = wrong;
        ask["type"] = json!("apikey_create");
        let refused = alice.refused(ask, "invalid_args");
        assert_eq!(refused["id"], "q", "the reference's clients look there");
    }
    alice.refused(json!({"type": "apikey_revoke"}), "invalid_args");
    let metrics = answer_text(script.address, "/metrics");
    let sample = |word: &str| metrics.contains(&format!("broker_api_requests_total{{result=\"{word}\"}} "));
    assert!(["served", "denied", "limited", "refused", "failed"].iter().all(|word| sample(word)), "{metrics}");
    assert!(!metrics.contains("broker_api_requests_total{result=\"limited\"} 0\n"));
}

fn answer_text(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
