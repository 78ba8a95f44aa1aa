//! The routes of the socket API about what meshes share and who is on them, as the reference's clients know them.

use serde_json::{Value, json};

use super::scene::{Old, assert_keys, offline};
use crate::support::home::Home;
use crate::support::http;
use crate::support::mesh::World;
use crate::support::process::Process;
use crate::support::reference_files as reference;
use crate::support::servers::Daemon;
use crate::support::session::Session;
use crate::support::wait::until;

/// A daemon on two meshes of the reference, neither of which can be reached.
fn on_two_meshes(home: &Home) -> Daemon {
    let member = offline(home.path());
    let mut second = member.entry("ws://127.0.0.1:1/ws");
    (second["meshId"], second["slug"]) = ("mesh-2".into(), "beta".into());
    let config = json!({"version": 1, "meshes": [member.entry("ws://127.0.0.1:1/ws"), second]});
    reference::write(&home.join("config.json"), &config.to_string());
    Daemon::start(home.path())
}

#[test]
fn of_what_meshes_share() {
    let old = Old::start();
    for body in [json!({}), json!({"content": ""}), json!({"content": 7}), json!({"tags": ["a"]})] {
        old.refuses("POST", "/v1/memory", Some(body), 400, "missing 'content' (string)");
    }
    for body in [json!({}), json!({"key": ""}), json!({"key": 7, "value": 1})] {
        old.refuses("POST", "/v1/state", Some(body), 400, "missing 'key' (string)");
    }
    old.refuses("DELETE", "/v1/memory/", None, 400, "missing memory id");
    old.refuses("GET", "/v1/skills/", None, 400, "missing skill name");
    old.refuses("POST", "/v1/profile", Some(json!(["status"])), 400, "expected JSON object");
    // Of a mesh that can not be reached nothing is known; changes are refused, where the reference confirms what it loses.
    old.refuses("POST", "/v1/memory", Some(json!({"content": "x"})), 502, "remember_timeout");
    old.refuses("POST", "/v1/state", Some(json!({"key": "k", "value": 1})), 502, "broker_unreachable");
    old.refuses("DELETE", "/v1/memory/m", None, 502, "broker_unreachable");
    let refused = old.refuses("GET", "/v1/state?key=k", None, 404, "state_not_found");
    assert_eq!(refused["key"], "k");
    let refused = old.refuses("GET", "/v1/skills/none", None, 404, "skill_not_found");
    assert_eq!(refused["name"], "none");
    for (path, key) in [("/v1/state", "entries"), ("/v1/memory?q=x", "matches"), ("/v1/skills", "skills")] {
        assert_eq!(old.ok("GET", path, None)[key], json!([]), "{path}");
        let other = format!("{path}{}mesh=other", if path.contains('?') { '&' } else { '?' });
        assert_eq!(old.refuses("GET", &other, None, 404, "mesh_not_attached")["mesh"], "other");
    }
    for (method, path, body) in [
        ("POST", "/v1/memory", Some(json!({"content": "x", "mesh": "other"}))),
        ("POST", "/v1/state", Some(json!({"key": "k", "value": 1, "mesh": "other"}))),
        ("DELETE", "/v1/memory/m?mesh=other", None),
        ("POST", "/v1/profile", Some(json!({"summary": "x", "mesh": "other"}))),
    ] {
        assert_eq!(old.refuses(method, path, body, 404, "mesh_not_attached")["mesh"], "other", "{path}");
    }
}

#[test]
fn of_profiles_and_of_two_meshes() {
    let old = Old::start();
    let shown = old.ok("POST", "/v1/profile", Some(json!({"summary": "x", "visible": true, "mesh": "acme", "other": 1})));
    assert_keys(&shown, "ok applied meshes");
    assert_eq!((&shown["applied"], &shown["meshes"]), (&json!(["summary", "visible"]), &json!([])), "{shown}");
    assert_eq!((&shown["ok"], shown["unanswered"]["acme"].is_string()), (&false.into(), true), "{shown}");

    let home = Home::new();
    let daemon = on_two_meshes(&home);
    for (method, path, body) in [
        ("POST", "/v1/send", Some(json!({"to": "*", "message": "x"}))),
        ("POST", "/v1/state", Some(json!({"key": "k", "value": 1}))),
        ("POST", "/v1/memory", Some(json!({"content": "x"}))),
        ("DELETE", "/v1/memory/m", None),
    ] {
        let body = body.map(|body: Value| body.to_string());
        let reply = http::request(&daemon.socket(), method, path, &[], body.as_deref().map(str::as_bytes)).unwrap();
        let refused = reply.json();
        assert_eq!((reply.status, &refused["error"]), (400, &"mesh_required".into()), "{method} {path}: {refused}");
        assert_eq!(refused["attached"], json!(["acme", "beta"]), "{method} {path}: {refused}");
    }
}

#[test]
fn whoever_is_listed_is_there() {
    let world = World::pair();
    let ann = Session::open(&world.alice, "acme", "ann");
    let ben = Session::open(&world.bob, "acme", "ben");
    let listed = |path: &str| {
        let peers = ann.call("GET", path, None).unwrap().json();
        let row = peers["peers"].as_array().unwrap().iter().find(|peer| peer["pubkey"] == ben.key.as_str()).cloned();
        row.map(|peer| peer["online"].clone())
    };
    until("ben to be listed", || (listed("/v1/peers") == Some(true.into())).then_some(()));
    ben.call("DELETE", &format!("/v1/sessions/{}", ben.token), None).unwrap();
    // Clients of the reference know no word for those who have gone; ours ask for them.
    until("ben to be listed as away", || (listed("/v1/peers?away=true") == Some(false.into())).then_some(()));
    assert_eq!(listed("/v1/peers"), None);
    assert_eq!(listed("/v1/peers?away=false"), None);
    let shown = Process::run(world.homes[0].command(&["peer", "list", "--json"]));
    assert!(shown.status.success() && shown.out.contains(&ben.key), "{shown:?}");
}
