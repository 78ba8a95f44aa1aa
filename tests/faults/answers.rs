//! What was answered with silence, by whomever it should not have been, or with the database's own words.

use std::collections::BTreeSet;

use claudemesh::crypto::keys::KeyPair;
use serde_json::{Value, json};

use super::Scene;
use crate::support::http;

/// For each type of frame, fields that make no sense. What has no fields is answered, with a frame of this type.
fn nonsense() -> Vec<(&'static str, Value, &'static str)> {
    let wrong = |kind, fields| (kind, fields, "error");
    vec![
        wrong("hello", json!({})),
        wrong("session_hello", json!({"meshId": 7})),
        wrong("send", json!({"priority": "urgent", "targetSpec": "*", "nonce": "", "ciphertext": ""})),
        wrong("send", json!({"nonce": "", "ciphertext": ""})),
        wrong("client_ack", json!({"brokerMessageId": 7})),
        wrong("list_peers", json!({"away": "yes"})),
        wrong("set_status", json!({"status": "asleep"})),
        wrong("set_summary", json!({"summary": 7})),
        wrong("set_visible", json!({})),
        wrong("set_profile", json!({"avatar": 7})),
        wrong("set_stats", json!({"stats": 7})),
        wrong("set_reach", json!({"reach": 7})),
        wrong("join_group", json!({})),
        wrong("join_group", json!({"name": 7})),
        wrong("leave_group", json!({"name": []})),
        wrong("set_state", json!({"key": "k"})),
        wrong("set_state", json!({"key": "k", "value": null})),
        wrong("get_state", json!({})),
        ("list_state", json!({}), "state_list"),
        wrong("remember", json!({"tags": []})),
        wrong("recall", json!({})),
        wrong("forget", json!({"memoryId": 7})),
        wrong("share_skill", json!({"description": "d"})),
        wrong("list_skills", json!({"query": 7})),
        wrong("get_skill", json!({})),
        wrong("remove_skill", json!({})),
        wrong("topic_create", json!({"name": "x", "visibility": "loud"})),
        ("topic_list", json!({}), "topic_list_response"),
        wrong("topic_join", json!({"topic": "x", "role": "king"})),
        wrong("topic_leave", json!({})),
        wrong("topic_members", json!({})),
        wrong("topic_history", json!({"topic": "x", "limit": "all"})),
        wrong("topic_mark_read", json!({"topic": 7})),
        wrong("set_grants", json!({"peer": "bob"})),
        ("list_grants", json!({}), "grants_list"),
        wrong("kick", json!({"stale": "old"})),
        wrong("disconnect", json!({"all": "yes"})),
        wrong("ban", json!({"target": 7})),
        wrong("unban", json!({"target": 7})),
        ("list_bans", json!({}), "list_bans_result"),
        wrong("schedule", json!({"message": "x"})),
        ("list_scheduled", json!({}), "scheduled_list"),
        wrong("cancel_scheduled", json!({"scheduledId": 7})),
        wrong("message_status", json!({})),
        wrong("create_task", json!({"title": 7})),
        wrong("claim_task", json!({"taskId": 7})),
        wrong("complete_task", json!({"taskId": 7})),
        wrong("list_tasks", json!({"status": 7})),
        wrong("key_get", json!({})),
        wrong("key_publish", json!({})),
        wrong("key_seal", json!({})),
        wrong("key_check", json!({})),
        wrong("receipts", json!({})),
        wrong("take_receipts", json!({"taken": "all"})),
        wrong("apikey_create", json!({"label": "x", "capabilities": ["fly"]})),
        ("apikey_list", json!({}), "apikey_list_response"),
        wrong("apikey_revoke", json!({"id": 7})),
    ]
}

/// Every type that the broker reads, as its frames are written down.
fn known() -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire/client.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("pub enum ClientFrame {").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let names = body.lines().filter_map(|line| line.trim().split_once('(').map(|(name, _)| name));
    let snake = |name: &str| {
        let mut out = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    };
    names.map(snake).collect()
}

#[test]
fn f_13_f_25_every_frame_that_makes_no_sense_is_answered_under_its_id() {
    let rows = nonsense();
    assert_eq!(rows.iter().map(|(kind, ..)| (*kind).to_owned()).collect::<BTreeSet<_>>(), known());
    let scene = Scene::new();
    let mut peer = scene.session(0, &KeyPair::generate());
    for (n, (kind, mut frame, answer)) in rows.into_iter().enumerate() {
        let id = format!("r-{n}");
        frame["type"] = json!(kind);
        frame["_reqId"] = json!(id);
        peer.say(&frame);
        let said = peer.next(answer);
        assert_eq!(said["_reqId"], json!(id), "{frame}: {said}");
        if answer == "error" {
            assert!(
                said["code"] == "invalid" && said["message"].as_str().is_some_and(|text| !text.is_empty()),
                "{frame}: {said}"
            );
        }
    }
    // Clients of the reference look for the id of these in either place.
    let missing = peer.refused(json!({"type": "topic_history", "topic": "nowhere"}), "topic_not_found");
    assert_eq!(missing["id"], missing["_reqId"]);
    peer.is_quiet();
}

#[test]
fn f_02_f_03_what_is_left_out_is_refused_by_name() {
    let scene = Scene::new();
    let mut peer = scene.session(0, &KeyPair::generate());
    for kind in ["mesh_query", "mesh_execute", "graph_query", "vector_search", "vault_get", "watch", "set_clock", "mcp_call"] {
        peer.refused(json!({"type": kind, "sql": "SELECT 1"}), "unknown_type");
    }
    let body = json!({"user_id": "u", "requester_id": "u", "permissions": {}}).to_string();
    for (method, path) in [
        ("POST", "/cli/token"),
        ("POST", "/cli/device-code/x/approve"),
        ("PATCH", "/mesh/m/member/x"),
        ("PATCH", "/mesh/m/settings"),
        ("GET", "/mesh/m/members"),
        ("GET", "/cli/sessions"),
        ("POST", "/cli/mesh/m/permissions"),
        ("POST", "/tg/token"),
        ("POST", "/upload"),
        ("POST", "/hook/m/secret"),
    ] {
        let text = (method != "GET").then_some(body.as_bytes());
        let reply = http::request_tcp(&scene.broker.address, method, path, &[("X-Member-Id", "x")], text).unwrap();
        assert!([401, 403, 404, 405].contains(&reply.status), "{method} {path}: {reply:?}");
    }
}

#[test]
fn f_19_nobody_sets_a_status_over_http() {
    let scene = Scene::new();
    let mut peer = scene.session(0, &KeyPair::generate());
    peer.ask(json!({"type": "set_status", "status": "working"}), "ack");
    let body = json!({"cwd": "/", "pid": 1, "status": "idle"}).to_string();
    let reply = http::request_tcp(&scene.broker.address, "POST", "/hook/set-status", &[], Some(body.as_bytes())).unwrap();
    assert_eq!(reply.status, 404, "{reply:?}");
    assert_eq!(peer.peers()[0]["status"], "working");
}

/// Requests with this text wherever one may stand.
fn with(text: &str) -> Vec<Value> {
    let key = KeyPair::generate().public;
    vec![
        json!({"type": "recall", "query": text}),
        json!({"type": "remember", "content": text, "tags": [text]}),
        json!({"type": "forget", "memoryId": text}),
        json!({"type": "share_skill", "name": text, "description": text, "instructions": text, "tags": [text]}),
        json!({"type": "list_skills", "query": text}),
        json!({"type": "get_skill", "name": text}),
        json!({"type": "remove_skill", "name": text}),
        json!({"type": "set_state", "key": text, "value": text}),
        json!({"type": "get_state", "key": text}),
        json!({"type": "topic_create", "name": text, "description": text}),
        json!({"type": "topic_join", "topic": text}),
        json!({"type": "topic_history", "topic": text, "beforeId": text}),
        json!({"type": "topic_history", "topic": "here", "beforeId": text}),
        json!({"type": "message_status", "messageId": text}),
        json!({"type": "create_task", "title": text, "assignee": text, "priority": text, "tags": [text]}),
        json!({"type": "claim_task", "taskId": text}),
        json!({"type": "complete_task", "taskId": text, "result": text}),
        json!({"type": "list_tasks", "status": text, "assignee": text}),
        json!({"type": "schedule", "to": text, "message": text, "deliverAt": i64::MAX}),
        json!({"type": "schedule", "to": "*", "message": text, "cron": text}),
        json!({"type": "cancel_scheduled", "scheduledId": text}),
        json!({"type": "set_grants", "peer": key, "grant": ["dm"]}),
        json!({"type": "kick", "target": text}),
        json!({"type": "ban", "target": text, "reason": text}),
        json!({"type": "unban", "target": text}),
        json!({"type": "join_group", "name": text, "role": text}),
        json!({"type": "set_profile", "title": text, "capabilities": [text]}),
        json!({"type": "key_check", "to": text}),
        json!({"type": "apikey_create", "label": text, "capabilities": ["read"], "topicScopes": [text], "expiresAt": text}),
        json!({"type": "apikey_revoke", "id": text}),
        json!({"type": "send", "id": text, "client_message_id": text, "request_fingerprint": text, "targetSpec": "#here",
               "nonce": "", "ciphertext": "eA==", "replyToId": text, "mentions": [text]}),
    ]
}

#[test]
fn f_34_no_answer_speaks_of_the_database() {
    let scene = Scene::new();
    let mut peer = scene.session(0, &KeyPair::generate());
    peer.ask(json!({"type": "topic_create", "name": "here"}), "topic_created");
    for text in ["\" OR *: NEAR(", "'; DROP TABLE memory; --", "%_\\", "\u{0}", "a\u{0}b", "AND", "(((", "-", "NOT x:y", ""] {
        for mut frame in with(text) {
            frame["_reqId"] = json!("r");
            peer.say(&frame);
            peer.say(&json!({"type": "list_grants", "_reqId": "last"}));
            let mut answers = 0;
            loop {
                let said = peer.hear();
                if said["_reqId"] == "last" {
                    break;
                }
                answers += usize::from(said["type"] != "push");
                let words = format!("{} {}", said["message"], said["error"]).to_lowercase();
                for word in ["sql", "constraint", "column", "syntax", "fts5", "unavailable", "can not use its database"] {
                    assert!(said["code"] != "unavailable" && !words.contains(word), "{frame}: {said}");
                }
            }
            assert!(0 < answers, "{frame} was answered with silence");
        }
    }
}
