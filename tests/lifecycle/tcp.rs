//! The listener on TCP: there only when asked for, and closed to whoever has not read the token.

use std::net::TcpListener;

use serde_json::json;

use super::*;
use crate::support::http::{self, Reply};
use crate::support::servers::Daemon;

/// The line that a daemon in the foreground says when it is ready.
fn foreground(home: &Home, flags: &[&str]) -> (Process, Value) {
    let args: Vec<&str> = ["daemon", "up", "--foreground"].iter().chain(flags).copied().collect();
    let process = Process::spawn(home.command(&args));
    let line = process.line().unwrap_or_else(|| panic!("it ended: {}", process.errors()));
    (process, serde_json::from_str(&line).unwrap())
}

fn ask(address: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    http::over_tcp(address, &http::compose("GET", path, headers, None)).expect("it answers")
}

#[test]
fn nobody_is_answered_over_tcp_without_the_token() {
    let home = Home::new();
    let (process, ready) = foreground(&home, &["--tcp=0"]);
    let address = ready["tcp"].as_str().unwrap().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{ready}");
    let token = std::fs::read_to_string(home.join("daemon/local-token")).unwrap();
    assert_eq!((token.len(), mode(&home.join("daemon/local-token"))), (44, 0o600));
    let bearer = format!("Bearer {}", token.trim());
    let wrong = format!("Bearer {}x", &token.trim()[1..]);
    for (path, header, expected) in [
        ("/v1/version", None, (401, json!({"error": "missing bearer token"}))),
        ("/v1/health", None, (401, json!({"error": "missing bearer token"}))),
        ("/v1/version", Some(wrong.as_str()), (401, json!({"error": "invalid bearer token"}))),
        ("/v1/version", Some("ClaudeMesh-Session 00"), (401, json!({"error": "missing bearer token"}))),
        ("/v1/nothing", None, (401, json!({"error": "missing bearer token"}))),
        ("/v1/nothing", Some(bearer.as_str()), (404, json!({"error": "not found"}))),
    ] {
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("Authorization", *value)).collect();
        let reply = ask(&address, path, &headers);
        assert_eq!((reply.status, reply.json()), expected, "{path} {header:?}");
    }
    assert_eq!(ask(&address, "/v1/version", &[("Authorization", &bearer)]).status, 200);
    let origin = ask(&address, "/v1/version", &[("Authorization", &bearer), ("Origin", "http://example.com")]);
    assert_eq!((origin.status, origin.json()), (403, json!({"error": "forbidden origin"})));
    let rebound = format!("GET /v1/version HTTP/1.1\r\nHost: evil.example\r\nAuthorization: {bearer}\r\n\r\n");
    assert_eq!(http::over_tcp(&address, rebound.as_bytes()).unwrap().status, 403);
    let query = ask(&address, &format!("/v1/version?token={}", token.trim()), &[]);
    assert_eq!(query.status, 400, "a token does not belong into a log of addresses");
    // The private socket needs none.
    assert_eq!(http::request(&home.socket(), "GET", "/v1/version", &[], None).unwrap().status, 200);
    process.signal(rustix::process::Signal::TERM);
    assert!(process.finish().status.success());
    assert!(std::net::TcpStream::connect(&address).is_err(), "it went with the daemon");
}

#[test]
fn health_may_be_open_and_nothing_else_is() {
    let home = Home::new();
    let (_process, ready) = foreground(&home, &["--tcp=0", "--public-health"]);
    let address = ready["tcp"].as_str().unwrap();
    assert_eq!(ask(address, "/v1/health", &[]).status, 200);
    assert_eq!(ask(address, "/v1/sessions", &[]).status, 401);
    assert_eq!(ask(address, "/v1/health/", &[]).status, 401);
}

/// A port on which nobody listens at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn it_follows_the_settings_when_they_are_read_again() {
    let home = Home::new();
    let (process, ready) = foreground(&home, &[]);
    assert_eq!(ready["tcp"], Value::Null);
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let read_again = |text: Value| {
        settings(&home, &text.to_string());
        process.signal(rustix::process::Signal::HUP);
    };
    read_again(json!({"tcpPort": port}));
    until("the port to be listened on", || std::net::TcpStream::connect(&address).ok());
    assert_eq!(ask(&address, "/v1/health", &[]).status, 401);
    read_again(json!({"tcpPort": port, "publicHealth": true}));
    until("health to be open", || (ask(&address, "/v1/health", &[]).status == 200).then_some(()));
    read_again(json!({}));
    until("the port to be free", || std::net::TcpStream::connect(&address).err());
    process.signal(rustix::process::Signal::TERM);
    assert!(process.finish().status.success());
}

#[test]
fn a_restart_keeps_the_flags_and_so_do_settings_that_are_read_again() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let (port, other) = (free_port(), free_port());
    let address = format!("127.0.0.1:{port}");
    let flags = ["--clone-policy=warn".to_owned(), format!("--tcp={port}"), "--public-health".to_owned()];
    let before = up(&home, &flags.each_ref().map(String::as_str));
    let restarted = run(&home, &["daemon", "restart", "--json"]);
    assert!(restarted.status.success(), "{restarted:?}");
    let health = ask(&address, "/v1/health", &[]);
    assert_eq!((health.status, &health.json()["started_with"]), (200, &json!(flags)), "{health:?}");
    let pid = u32::try_from(health.json()["pid"].as_u64().unwrap()).unwrap();
    assert_ne!(pid, before);
    settings(&home, &json!({"tcpPort": other}).to_string());
    signal(pid, rustix::process::Signal::HUP);
    await_log(&home, "settings.json and config.json are read again");
    assert_eq!(ask(&address, "/v1/health", &[]).status, 200, "what was said in so many words holds");
    run(&home, &["down"]);
    up(&home, &[]);
    let plain = http::request(&home.socket(), "GET", "/v1/health", &[], None).unwrap().json();
    assert_eq!(plain.get("started_with"), None, "a new start is asked for anew: {plain}");
}

/// A listener on a port that the system hands to nobody by itself, so that it is there again once this is dropped.
fn kept_port() -> (TcpListener, u16) {
    until("a port to be free", || {
        let [high, low] = claudemesh::crypto::random::bytes::<2>();
        let port = 15_000 + u16::from_be_bytes([high, low]) % 15_000;
        Some((TcpListener::bind(("127.0.0.1", port)).ok()?, port))
    })
}

#[test]
fn there_is_none_unless_it_is_asked_for_and_a_taken_port_stops_nothing() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    assert_eq!(daemon.ready["tcp"], Value::Null);
    drop(daemon);
    let (taken, port) = kept_port();
    std::fs::write(home.join("daemon/settings.json"), json!({"tcpPort": port}).to_string()).unwrap();
    let (process, ready) = foreground(&home, &[]);
    assert_eq!(ready["tcp"], Value::Null);
    let named = || process.errors().contains(&format!("no TCP listener on 127.0.0.1:{port}"));
    until("the daemon to say why not", || named().then_some(()));
    assert_eq!(http::request(&home.socket(), "GET", "/v1/health", &[], None).unwrap().status, 200);
    drop((process, taken));
    let (process, ready) = foreground(&home, &[]);
    assert_eq!(ready["tcp"], format!("127.0.0.1:{port}"), "as the settings say");
    drop(process);
    let (_process, ready) = foreground(&home, &["--no-tcp"]);
    assert_eq!(ready["tcp"], Value::Null, "a flag wins over the settings");
}

#[test]
fn a_port_that_is_taken_is_said_and_is_listened_on_once_it_is_free() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let (taken, port) = kept_port();
    let flag = format!("--tcp={port}");
    let no_listener = format!("no TCP listener on 127.0.0.1:{port}: ");
    let health = || http::request(&home.socket(), "GET", "/v1/health", &[], None).unwrap().json();
    let doctor = || run(&home, &["doctor"]).out;
    for _already in [false, true] {
        let up = run(&home, &["up", &flag]);
        assert!(up.status.success() && up.out.contains(&no_listener) && !up.out.contains("without"), "{up:?}");
    }
    assert!(health()["tcp"]["error"].is_string() && health()["tcp"]["address"].is_null(), "{}", health());
    for said in [run(&home, &["daemon", "status"]).out, doctor()] {
        assert!(said.contains(&no_listener), "{said}");
    }
    drop(taken);
    let address = format!("127.0.0.1:{port}");
    until("the port to be listened on", || std::net::TcpStream::connect(&address).ok());
    until("it to be said", || {
        (health()["tcp"] == json!({"port": port, "address": address, "public_health": false})).then_some(())
    });
    for said in [run(&home, &["daemon", "status"]).out, doctor()] {
        assert!(said.contains(&address) && !said.contains(&no_listener), "{said}");
    }
    assert_eq!(log(&home).matches(&no_listener).count(), 1, "it is not said again each time");
}

#[test]
fn flags_that_a_daemon_runs_without_are_named() {
    let home = Home::new();
    let _quiet = Quiet(&home);
    let port = free_port();
    let flag = format!("--tcp={port}");
    up(&home, &[]);
    let said = run(&home, &["up", &flag, "--no-tcp"]);
    assert!(said.status.success() && said.out.contains(&format!("it runs without {flag}\n")), "{said:?}");
    assert!(said.out.contains(&format!("claudemesh down && claudemesh up {flag} --no-tcp")), "{said:?}");
    let json: Value = serde_json::from_str(&run(&home, &["up", "--json", "--public-health"]).out).unwrap();
    assert_eq!(json["not_applied"], json!(["--public-health"]), "{json}");
    assert!(run(&home, &["down"]).status.success());
    let pid = up(&home, &[&flag]);
    settings(&home, r#"{"publicHealth":true}"#);
    signal(pid, rustix::process::Signal::HUP);
    await_log(&home, "settings.json and config.json are read again");
    let said = run(&home, &["up", &flag, "--public-health"]);
    assert!(said.out.contains("already running") && !said.out.contains("without"), "{said:?}");
}
