//! Bytes that no honest program would send, to the socket, to the broker and from a broker: each is answered or cut off,
//! and everybody else is served as before.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use claudemesh::wire::limits::{MAX_FRAME, MAX_SEND_BODY, MAX_SMALL_BODY, MAX_TCP_CONNECTIONS};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::support::home::Home;
use crate::support::http;
use crate::support::mesh::World;
use crate::support::random::{Random, seed};
use crate::support::servers::{Broker, Daemon};
use crate::support::session::Session;
use crate::support::wait::{PATIENCE, until};

#[test]
fn requests_that_are_no_requests() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let long_head = format!("GET /v1/version HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many_fields = format!("GET /v1/version HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(2000));
    let cases: &[(&str, &[u8], &[u16])] = &[
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", &[400]),
        ("no path", b"GET\r\n\r\n", &[400]),
        ("a version from the future", b"GET /v1/version HTTP/9.9\r\nHost: localhost\r\n\r\n", &[400, 505]),
        ("a name with a space", b"GET /v1/version HTTP/1.1\r\nHost: localhost\r\nA b: c\r\n\r\n", &[400]),
        ("a zero byte", b"GET /v1/ver\0sion HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400, 404]),
        ("a head without end", long_head.as_bytes(), &[431]),
        ("too many fields", many_fields.as_bytes(), &[400, 431]),
        ("a length that is none", b"POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n", &[400]),
        ("a negative length", b"POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", &[400]),
        ("two lengths", b"POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", &[400]),
        (
            "a length and chunks",
            b"POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            &[400],
        ),
        (
            "chunks that are none",
            b"POST /v1/send HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
            &[400],
        ),
        (
            "a length past any memory",
            b"POST /v1/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551615\r\n\r\n",
            &[400, 413],
        ),
        ("another host", b"GET /v1/version HTTP/1.1\r\nHost: example.org\r\n\r\n", &[403]),
        ("a web page", b"GET /v1/version HTTP/1.1\r\nHost: localhost\r\nOrigin: https://example.org\r\n\r\n", &[403]),
        (
            "a web page behind an origin that is none",
            b"GET /v1/version HTTP/1.1\r\nHost: localhost\r\nOrigin:\r\nOrigin: https://example.org\r\n\r\n",
            &[400, 403],
        ),
    ];
    for (what, bytes, statuses) in cases {
        let reply = http::raw(&daemon.socket(), bytes).unwrap_or_else(|err| panic!("{what}: {err}"));
        assert!(statuses.contains(&reply.status), "{what}: {reply:?}");
    }
    daemon.assert_healthy();
}

#[test]
fn routes_that_are_none_and_bodies_that_do_not_fit() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let session = Session::open(&daemon, "home", "alice");
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/version/"),
        ("HEAD", "/v1/version"),
        ("OPTIONS", "/v1/send"),
        ("PUT", "/v1/send"),
        ("GET", "/v1/send"),
        ("POST", "/v1/version"),
        ("DELETE", "/v1/sessions/a/b"),
        ("GET", "/v1/../v1/version"),
        ("GET", "/%00"),
    ] {
        assert_eq!(session.call(method, path, None).unwrap().status, 404, "{method} {path}");
    }
    let fat = vec![b'x'; MAX_SEND_BODY + 1];
    assert_eq!(session.call_bytes("POST", "/v1/send", Some(&fat)).unwrap().status, 413);
    let fat = vec![b'x'; MAX_SMALL_BODY + 1];
    for path in ["/v1/sessions/register", "/v1/inbox/seen", "/v1/outbox/requeue"] {
        assert_eq!(session.call_bytes("POST", path, Some(&fat)).unwrap().status, 413, "{path}");
    }
    let sealed_too_large = json!({"to": session.key, "message": "x".repeat(MAX_FRAME)});
    assert_eq!(session.call("POST", "/v1/send", Some(&sealed_too_large)).unwrap().status, 413);
    let deep = "[".repeat(30_000);
    for body in ["{", "\u{0}", "nul", "{\"to\":}", "\"\\ud800\"", "{\"to\":\"a\",\"to\":", &deep] {
        for path in ["/v1/send", "/v1/sessions/register", "/v1/inbox/seen", "/v1/outbox/requeue"] {
            let reply = session.call_bytes("POST", path, Some(body.as_bytes())).unwrap();
            assert_eq!(reply.status, 400, "{path} with {body:.20}: {reply:?}");
            assert!(reply.json()["error"].is_string(), "{reply:?}");
        }
    }
    daemon.assert_healthy();
}

#[test]
fn sends_that_make_no_sense_are_refused_with_words() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let session = Session::open(&daemon, "home", "alice");
    let cases: &[(Value, &[u16])] = &[
        (json!({}), &[400]),
        (json!([]), &[400]),
        (json!(null), &[400]),
        (json!({"to": "alice"}), &[400]),
        (json!({"to": "", "message": "x"}), &[400]),
        (json!({"to": 7, "message": "x"}), &[400]),
        (json!({"to": "alice", "message": ""}), &[400]),
        (json!({"to": "alice", "message": "x", "priority": "urgent"}), &[400]),
        (json!({"to": "alice", "message": "x", "meta": []}), &[400]),
        (json!({"to": "alice", "message": "x", "mesh": "nowhere"}), &[404]),
        (json!({"to": "al\u{202e}ice", "message": "x"}), &[400, 404, 502]),
        (json!({"to": "@o'neil", "message": "x"}), &[400, 404, 502]),
        (json!({"to": "nobody-of-this-name", "message": "x"}), &[404, 502]),
        (json!({"to": "0123456789abcdef", "message": "x"}), &[404, 502]),
    ];
    for (body, statuses) in cases {
        let reply = session.call("POST", "/v1/send", Some(body)).unwrap();
        assert!(statuses.contains(&reply.status), "{body}: {reply:?}");
        assert!(reply.json()["error"].is_string(), "{body}: {reply:?}");
    }
    let registrations = [
        json!({}),
        json!({"token": "00", "session_id": "s", "mesh": "home", "display_name": "x", "pid": 1}),
        json!({"token": "00".repeat(32), "session_id": "s", "mesh": "../..", "display_name": "x", "pid": 1}),
        json!({"token": "00".repeat(32), "session_id": "s", "mesh": "home", "display_name": "x", "pid": -1}),
        json!({"token": "00".repeat(32), "session_id": "s", "mesh": "home", "display_name": "x", "pid": 1e300}),
    ];
    for body in registrations {
        let reply = session.call("POST", "/v1/sessions/register", Some(&body)).unwrap();
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
    }
    assert_eq!(daemon.get("/v1/sessions").json()["sessions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn clients_that_stall_or_vanish_hold_nobody_up() {
    let home = Home::new();
    let daemon = Daemon::start(home.path());
    let alice = Session::open(&daemon, "home", "alice");
    let bob = Session::open(&daemon, "home", "bob");
    let stalled: Vec<UnixStream> = (0..50)
        .map(|n| {
            let mut stream = UnixStream::connect(daemon.socket()).unwrap();
            let whole = http::compose("POST", "/v1/send", &[], Some(b"{}"));
            stream.write_all(&whole[..n.min(whole.len() - 1)]).unwrap();
            stream
        })
        .collect();
    // Subscribers that never read.
    let deaf: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(daemon.socket()).unwrap();
            stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let heard = bob.follow(Some(0));
    let body = "x".repeat(20_000);
    for n in 0..200 {
        alice.send(&bob.key, &body, &format!("m-{n}"));
    }
    heard.message("m-199");
    assert_eq!(heard.messages().len(), 200);
    drop((stalled, deaf));
    daemon.assert_healthy();
}

/// What a daemon answers to this, as far as it has come when something has; the connection stays open.
#[track_caller]
fn ask(daemon: &Daemon, bytes: &[u8]) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut piece = [0; 1024];
    let read = stream.read(&mut piece).unwrap();
    (stream, String::from_utf8_lossy(&piece[..read]).into_owned())
}

const EVENTS: &[u8] = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A hook that waits for mail of this session.
fn wait_for_mail(daemon: &Daemon, session: &Session) -> UnixStream {
    let authorization = format!("ClaudeMesh-Session {}", session.token);
    let body = br#"{"path":"wake","wait_ms":300000}"#;
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.write_all(&http::compose("POST", "/v1/inbox/claim", &[("Authorization", &authorization)], Some(body))).unwrap();
    stream
}

#[test]
fn a_hook_that_was_killed_while_it_waited_takes_no_message_with_it() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().join("daemon")).unwrap();
    std::fs::write(home.path().join("daemon/settings.json"), r#"{"maxStreams":1}"#).unwrap();
    let daemon = Daemon::start(home.path());
    let (alice, bob) = (Session::open(&daemon, "home", "alice"), Session::open(&daemon, "home", "bob"));
    let waiting = wait_for_mail(&daemon, &bob);
    // There is one place: whether somebody waits is seen by whether it is free.
    let is_free = || ask(&daemon, EVENTS).1.starts_with("HTTP/1.1 200 ");
    until("the hook to wait", || (!is_free()).then_some(()));
    drop(waiting);
    alice.send(&bob.key, "for whoever lives", "m-1");
    until("the daemon to see that the hook is gone", || is_free().then_some(()));
    let claimed = bob.call("POST", "/v1/inbox/claim", Some(&json!({"path": "prompt"}))).unwrap().json();
    assert_eq!(claimed["items"][0]["body"], "for whoever lives", "{claimed}");
}

#[test]
fn streams_and_waiting_hooks_have_a_limit_of_their_own_and_take_no_request_s_place() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().join("daemon")).unwrap();
    // More than there may be requests at once.
    std::fs::write(home.path().join("daemon/settings.json"), r#"{"maxStreams":1100}"#).unwrap();
    let daemon = Daemon::start(home.path());
    let session = Session::open(&daemon, "home", "alice");
    let mut streams: Vec<UnixStream> = (0..1099)
        .map(|n| {
            let (stream, head) = ask(&daemon, EVENTS);
            assert!(head.starts_with("HTTP/1.1 200 "), "stream {n}: {head}");
            stream
        })
        .collect();
    let waiting = wait_for_mail(&daemon, &session);
    until("the waiting claim to be counted", || {
        let (_stream, head) = ask(&daemon, EVENTS);
        head.starts_with("HTTP/1.1 429 ").then(|| assert!(head.contains("too_many_streams"), "{head}"))
    });
    assert_eq!(daemon.get("/v1/version").status, 200);
    drop(waiting);
    streams.truncate(1000);
    until("a place to be free again", || ask(&daemon, EVENTS).1.starts_with("HTTP/1.1 200 ").then_some(()));
}

#[test]
fn others_of_this_machine_can_not_fill_the_private_socket_over_tcp() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().join("daemon")).unwrap();
    std::fs::write(home.path().join("daemon/settings.json"), r#"{"tcpPort":0}"#).unwrap();
    let daemon = Daemon::start(home.path());
    let address = daemon.ready["tcp"].as_str().unwrap_or_else(|| panic!("{}", daemon.ready)).to_owned();
    let idle: Vec<TcpStream> = (0..MAX_TCP_CONNECTIONS).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let reply = until("the port to be full", || http::get_tcp(&address, "/v1/version").ok().filter(|reply| reply.status == 503));
    assert_eq!(reply.json()["error"], "too many connections; try again");
    assert_eq!(daemon.get("/v1/version").status, 200);
    drop(idle);
    until("the port to be free again", || (http::get_tcp(&address, "/v1/version").ok()?.status == 401).then_some(()));
}

fn connect(broker: &Broker) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(&broker.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(broker.url(), stream).unwrap().0
}

/// Frames for a broker: what is almost right is worse than what is wrong.
fn frames(random: &mut Random) -> Vec<Message> {
    let noise: Vec<u8> = (0..2000).map(|_| random.next().to_le_bytes()[0]).collect();
    let texts = [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "\u{0}",
        r#"{"type":7}"#,
        r#"{"type":"hello"}"#,
        r#"{"type":"send","id":"x"}"#,
        r#"{"type":"hello","meshId":"'; DROP TABLE mesh; --","memberId":"x","pubkey":"zz","sessionId":"s","pid":-1,"cwd":"/","timestamp":1,"signature":"00"}"#,
        r#"{"type":"session_hello","meshId":{},"timestamp":1e999}"#,
        r#"{"type":"list_peers","_reqId":"r"}"#,
    ];
    let mut all: Vec<Message> = texts.iter().map(|text| Message::text(*text)).collect();
    all.push(Message::text("[".repeat(10_000)));
    all.push(Message::text("x".repeat(MAX_FRAME + 1)));
    all.push(Message::binary(noise));
    all.push(Message::Ping(vec![1; 100].into()));
    all
}

#[test]
fn a_broker_survives_its_clients() {
    let world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));
    let mut random = Random::new(seed());
    for frame in frames(&mut random) {
        let mut socket = connect(&world.broker);
        let what = format!("{frame:.60?}");
        if socket.send(frame).is_err() {
            continue; // cut off while it was still sending
        }
        // An answer, a close, or nothing until the deadline for a hello: never an opened door.
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        if let Ok(Message::Text(answer)) = socket.read() {
            assert!(!answer.contains("hello_ack"), "{what} was let in: {answer}");
        }
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\xff\xfe\xfd", b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"] {
        let mut stream = TcpStream::connect(&world.broker.address).unwrap();
        stream.write_all(bytes).unwrap();
    }
    // Half a WebSocket frame, and gone.
    connect(&world.broker).get_mut().write_all(&[0x81, 0xfe, 0x10]).unwrap();
    world.broker.assert_healthy();
    alice.send(&bob.key, "still here", "m-1");
    heard.message("m-1");
}

/// Serves `answers` as broker frames to the next client, whatever it says.
fn false_broker(listener: &TcpListener, answers: &[Message]) {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    // It may hang up at any of these.
    let _ = socket.read();
    for answer in answers {
        let _ = socket.send(answer.clone());
    }
    let _ = socket.close(None);
    let _ = socket.get_mut().read(&mut [0; 64]);
}

#[test]
fn a_daemon_survives_its_broker() {
    let mut world = World::pair();
    let alice = Session::open(&world.alice, "acme", "alice");
    let bob = Session::open(&world.bob, "acme", "bob");
    let heard = bob.follow(Some(0));

    world.broker.kill();
    alice.send(&bob.key, "through all this", "m-1");
    let listener = TcpListener::bind(&world.broker.address).unwrap();
    let mut answers = frames(&mut Random::new(seed()));
    for text in [
        r#"{"type":"hello_ack"}"#,
        r#"{"type":"hello_ack","presenceId":7,"memberDisplayName":[]}"#,
        r#"{"type":"push"}"#,
        r#"{"type":"push","messageId":"m","meshId":"x","senderPubkey":"zz","nonce":"!","ciphertext":"!","createdAt":"?"}"#,
        r#"{"type":"ack","id":"nothing","messageId":"m"}"#,
        r#"{"type":"error","code":"made_up","message":"\u0000"}"#,
    ] {
        answers.insert(0, Message::text(text));
    }
    // Some of them end the connection, so each visit begins with another.
    for _ in 0..4 {
        false_broker(&listener, &answers);
        answers.rotate_left(5);
    }
    drop(listener);
    world.alice.assert_healthy();
    world.bob.assert_healthy();

    world.broker.restart();
    assert_eq!(heard.message("m-1").data["body"], "through all this");
    assert_eq!(heard.messages().len(), 1, "nothing that a false broker said became mail");
}
