use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::events::{Item, Lost, subscribe};
use super::fake::{Answer, Asked, FakeDaemon, Scratch};
use super::*;
use crate::wire::event::Event;

fn token() -> Token {
    Token::from_bytes([0xab; 32])
}

/// Answers every request with this, and shows what came.
fn answering(status: u16, body: &str) -> (Scratch, FakeDaemon, Client) {
    let scratch = Scratch::new();
    let body = body.to_owned();
    let daemon = FakeDaemon::start(&scratch.paths(), move |_| Answer::Json(status, body.clone()));
    let client = Client::new(&scratch.paths());
    (scratch, daemon, client)
}

type Call = Box<dyn Fn(&Client) -> bool>;

fn session_calls() -> Vec<(&'static str, &'static str, Call)> {
    vec![
        (
            "GET /v1/version",
            r#"{"daemon_version":"1","ipc_api":"v1","ipc_features":[],"schema_version":1}"#,
            Box::new(|client| client.version().unwrap().daemon_version == "1"),
        ),
        (
            "GET /v1/health",
            r#"{"ok":true,"pid":7,"brokers":{"home":"open"}}"#,
            Box::new(|client| client.health().unwrap().pid == 7),
        ),
        (
            "POST /v1/sessions/register",
            r#"{"ok":true,"registered_at":5,"presence_accepted":false}"#,
            Box::new(|client| client.register(&Register::default()).unwrap().registered_at == 5),
        ),
        (
            "DELETE /v1/sessions/abababababababababababababababababababababababababababababababab",
            r#"{"ok":true,"token_prefix":"abababab"}"#,
            Box::new(|client| client.deregister(&token()).unwrap().ok),
        ),
        ("GET /v1/sessions", r#"{"sessions":[]}"#, Box::new(|client| client.sessions().unwrap().sessions.is_empty())),
        (
            "GET /v1/sessions/me",
            r#"{"session":{"sessionId":"s","mesh":"home","displayName":"A","pid":1,"registeredAt":1,"token_prefix":"ab"}}"#,
            Box::new(|client| client.me().unwrap().session.display_name == "A"),
        ),
        ("GET /v1/peers?away=true", r#"{"peers":[]}"#, Box::new(|client| client.peers(None).unwrap().peers.is_empty())),
    ]
}

fn mail_calls() -> Vec<(&'static str, &'static str, Call)> {
    vec![
        (
            "GET /v1/inbox?mesh=a%20b&from=%C3%A9&limit=5&unread_only=true&mark_seen=false",
            r#"{"items":[],"marked_seen":0}"#,
            Box::new(|client| {
                let (mesh, from) = (Some("a b".to_owned()), Some("é".to_owned()));
                let query = InboxQuery { mesh, from, limit: Some(5), unread_only: true, ..InboxQuery::default() };
                client.inbox(&query).unwrap().items.is_empty()
            }),
        ),
        (
            "GET /v1/inbox",
            r#"{"items":[]}"#,
            Box::new(|client| client.inbox(&InboxQuery { mark_seen: true, ..InboxQuery::default() }).is_ok()),
        ),
        (
            "POST /v1/inbox/seen",
            r#"{"marked_seen":2}"#,
            Box::new(|client| client.mark_seen(&["a".into(), "b".into()]).unwrap().marked_seen == 2),
        ),
        (
            "DELETE /v1/inbox?mesh=home",
            r#"{"removed":3}"#,
            Box::new(|client| client.flush(Some("home"), None).unwrap().removed == 3),
        ),
        ("DELETE /v1/inbox/a%2Fb", r#"{"removed":1,"id":"a/b"}"#, Box::new(|client| client.delete("a/b").unwrap().removed == 1)),
        (
            "GET /v1/outbox?status=dead&limit=2",
            r#"{"items":[]}"#,
            Box::new(|client| client.outbox(Some(OutboxStatus::Dead), Some(2)).unwrap().items.is_empty()),
        ),
        (
            "POST /v1/outbox/requeue",
            r#"{"aborted_row_id":"a","new_row_id":"b","new_client_message_id":"c"}"#,
            Box::new(|client| client.requeue(&Requeue::default()).unwrap().new_row_id == "b"),
        ),
        (
            "POST /v1/send",
            r#"{"client_message_id":"c","status":"queued"}"#,
            Box::new(|client| {
                let named = SendRequest { client_message_id: Some("mine".into()), ..SendRequest::default() };
                client.send(&named).unwrap().client_message_id.as_str() == "c"
            }),
        ),
    ]
}

#[test]
fn each_route_asks_what_the_reference_answers() {
    for (line, body, call) in session_calls().into_iter().chain(mail_calls()) {
        let (_scratch, daemon, client) = answering(200, body);
        let client = client.with_token(Some(token()));
        assert!(call(&client), "{line}");
        let asked = daemon.asked();
        assert_eq!(format!("{} {}", asked.method, asked.path), line);
        assert_eq!(asked.header("host"), Some("localhost"));
        assert_eq!(asked.header("authorization"), Some(format!("ClaudeMesh-Session {}", token().reveal()).as_str()));
        assert_eq!(client.daemon_version(), Some("9.9.9"));
    }
}

#[test]
fn a_message_has_an_id_before_it_leaves() {
    let (_scratch, daemon, client) = answering(202, r#"{"client_message_id":"c","status":"queued"}"#);
    let request = SendRequest { to: "bob".into(), message: "hi".into(), ..SendRequest::default() };
    client.send(&request).unwrap();
    let sent: SendRequest = json::decode(daemon.asked().body.as_bytes()).unwrap();
    assert!(crate::base::names::is_uuid(&sent.client_message_id.unwrap()));
    assert_eq!((sent.to.as_str(), sent.message.as_str()), ("bob", "hi"));
}

#[test]
fn failures_say_what_happened_and_what_to_do() {
    let scratch = Scratch::new();
    let client = Client::new(&scratch.paths());
    let none = client.version().unwrap_err();
    assert!(matches!(none, Error::NoDaemon(_)) && none.hint().is_some());
    drop(std::os::unix::net::UnixListener::bind(scratch.paths().socket()).unwrap());
    assert!(matches!(client.version(), Err(Error::NoDaemon(_))), "a socket file that nobody listens on");

    let (_scratch, _daemon, client) = answering(404, r#"{"error":"not found","hint":"look elsewhere","mesh":"x"}"#);
    let refused = client.version().unwrap_err();
    assert_eq!((refused.to_string().as_str(), refused.hint().as_deref()), ("not found", Some("look elsewhere")));
    let (_scratch, _daemon, client) = answering(404, r#"{"ok":false}"#);
    assert_eq!(client.deregister(&token()).unwrap_err().to_string(), "status 404");
    let (_scratch, _daemon, client) = answering(200, "[]");
    assert!(matches!(client.version(), Err(Error::Protocol(_))));

    for (bytes, what) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "cut short"),
        ("220 smtp ready\r\n", "another protocol"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no length"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no chunk"),
        ("", "nothing"),
    ] {
        let scratch = Scratch::new();
        let _daemon = FakeDaemon::start(&scratch.paths(), move |_| Answer::Raw(bytes.into()));
        let failed = Client::new(&scratch.paths()).with_deadline(Duration::from_millis(500)).version();
        assert!(matches!(failed, Err(Error::Protocol(_) | Error::Gone { .. })), "{what}: {failed:?}");
    }
}

#[test]
fn a_call_ends_at_its_deadline() {
    let scratch = Scratch::new();
    let _daemon = FakeDaemon::start(&scratch.paths(), |_| Answer::Silence);
    let client = Client::new(&scratch.paths()).with_deadline(Duration::from_millis(40));
    assert!(matches!(client.version(), Err(Error::Timeout)));
}

#[test]
fn the_first_call_uses_the_connection_that_was_opened_ahead() {
    let (scratch, daemon, client) = answering(200, r#"{"sessions":[]}"#);
    client.connect().unwrap();
    // Out of sight, so that another connection could not be made.
    let socket = scratch.paths().socket();
    let aside = socket.with_extension("aside");
    std::fs::rename(&socket, &aside).unwrap();
    client.sessions().unwrap();
    assert!(matches!(client.sessions(), Err(Error::NoDaemon(_))), "the connection served once");
    std::fs::rename(&aside, &socket).unwrap();
    drop(daemon);
}

/// A daemon whose next streams come from a queue.
fn streaming(scratch: &Scratch, chunked: bool) -> (FakeDaemon, Sender<Receiver<String>>) {
    let (streams, next) = unbounded::<Receiver<String>>();
    let daemon = FakeDaemon::start(&scratch.paths(), move |asked: &Asked| {
        assert_eq!(asked.path, "/v1/events");
        match next.recv() {
            Ok(blocks) if chunked => Answer::Chunked(blocks),
            Ok(blocks) => Answer::Stream(blocks),
            Err(_) => Answer::Json(503, r#"{"error":"no more"}"#.into()),
        }
    });
    (daemon, streams)
}

fn system(id: u64) -> String {
    format!("id: {id}\nevent: system\ndata: {{\"ts\":\"x\",\"mesh\":\"home\",\"event\":\"tick\",\"eventData\":{id}}}\n\n")
}

fn expect_id(item: Option<Item>, expected: u64) {
    match item {
        Some(Item::Event { id, event }) if matches!(*event, Event::System(_)) => assert_eq!(id, Some(expected)),
        other => panic!("event {expected} expected, not {other:?}"),
    }
}

#[test]
fn a_subscription_resumes_where_it_was_cut() {
    for chunked in [false, true] {
        let scratch = Scratch::new();
        let (daemon, streams) = streaming(&scratch, chunked);
        let client = Client::new(&scratch.paths()).with_token(Some(token()));
        let (mut events, _stop) = subscribe(&client, Some(4));
        let lagged = "event: lagged\ndata: {\"lagged\":true}\n\n".to_owned();
        let bye = "event: bye\ndata: {\"bye\":\"stopping\"}\n\n".to_owned();
        for (ids, last, from) in [(vec![5, 6], Some(lagged), "4"), (vec![7], Some(bye), "6"), (vec![9], None, "7")] {
            let (blocks, stream) = unbounded();
            streams.send(stream).unwrap();
            assert!(matches!(events.next(), Some(Item::Connected)));
            let asked = daemon.asked();
            assert_eq!(asked.header("last-event-id"), Some(from));
            assert_eq!(asked.header("authorization"), Some(format!("ClaudeMesh-Session {}", token().reveal()).as_str()));
            for id in ids {
                blocks.send(system(id)).unwrap();
                expect_id(events.next(), id);
            }
            let is_lagged = from == "4";
            if let Some(last) = last {
                blocks.send(last).unwrap();
            }
            drop(blocks);
            match events.next() {
                Some(Item::Lost(Lost::Lagged)) => assert!(is_lagged),
                Some(Item::Lost(Lost::Ended)) => assert!(!is_lagged),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(events.cursor(), Some(9));
    }
}

#[test]
fn a_subscription_outlives_the_daemon() {
    let scratch = Scratch::new();
    let (daemon, streams) = streaming(&scratch, false);
    let (mut events, _stop) = subscribe(&Client::new(&scratch.paths()), None);
    let (blocks, stream) = unbounded();
    streams.send(stream).unwrap();
    assert!(matches!(events.next(), Some(Item::Connected)));
    assert_eq!(daemon.asked().header("last-event-id"), None);
    blocks.send(system(3)).unwrap();
    expect_id(events.next(), 3);
    drop(daemon);
    assert!(matches!(events.next(), Some(Item::Lost(Lost::Ended))));
    assert!(matches!(events.next(), Some(Item::Lost(Lost::Failed(Error::NoDaemon(_))))));
    let (daemon, streams) = streaming(&scratch, false);
    streams.send(unbounded().1).unwrap();
    while !matches!(events.next(), Some(Item::Connected)) {}
    assert_eq!(daemon.asked().header("last-event-id"), Some("3"));
}

#[test]
fn an_unknown_token_is_final_and_a_busy_daemon_is_not() {
    let scratch = Scratch::new();
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let _daemon = FakeDaemon::start(&scratch.paths(), move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Json(503, r#"{"error":"busy"}"#.into()),
        _ => Answer::Json(401, r#"{"error":"unknown session"}"#.into()),
    });
    let (mut events, _stop) = subscribe(&Client::new(&scratch.paths()), None);
    for expected in [503, 401] {
        match events.next() {
            Some(Item::Lost(Lost::Failed(Error::Refused { status, .. }))) => assert_eq!(status, expected),
            other => panic!("{other:?}"),
        }
    }
    assert!(events.next().is_none());
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

#[test]
fn stop_ends_a_wait_of_any_kind() {
    // While a stream is silent, while the head is awaited, and between attempts.
    let scratch = Scratch::new();
    for kind in 0..3 {
        let keep = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&keep);
        let daemon = (kind < 2).then(|| {
            FakeDaemon::start(&scratch.paths(), move |_| {
                let (blocks, stream) = unbounded();
                kept.lock().unwrap().push(blocks);
                if kind == 0 { Answer::Stream(stream) } else { Answer::Silence }
            })
        });
        let (events, stop) = subscribe(&Client::new(&scratch.paths()), None);
        let (ended, wait) = unbounded::<()>();
        let reader = thread::spawn(move || {
            let _ended = ended;
            events.count()
        });
        if let Some(daemon) = &daemon {
            daemon.asked();
        }
        stop.stop();
        assert_eq!(
            wait.recv_timeout(Duration::from_secs(10)),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected),
            "kind {kind}"
        );
        reader.join().unwrap();
    }
}

/// A daemon that hangs up on its first request once it has read it, and answers those that follow.
fn ending(body: &'static str) -> (Scratch, FakeDaemon, Client) {
    let scratch = Scratch::new();
    let ended = std::sync::atomic::AtomicBool::new(false);
    let daemon = FakeDaemon::start(&scratch.paths(), move |_| match ended.swap(true, std::sync::atomic::Ordering::SeqCst) {
        false => Answer::Raw(Vec::new()),
        true => Answer::Json(200, body.into()),
    });
    let client = Client::new(&scratch.paths());
    (scratch, daemon, client)
}

#[test]
fn what_may_have_been_done_is_asked_again_only_where_that_does_nothing_twice() {
    let asked = |daemon: &FakeDaemon| daemon.rest().len();
    let (_scratch, daemon, client) = ending(r#"{"sessions":[]}"#);
    client.sessions().unwrap();
    assert_eq!(asked(&daemon), 2);

    let (_scratch, daemon, client) = ending(r#"{"client_message_id":"c","status":"queued"}"#);
    client.send(&SendRequest { to: "bob".into(), message: "hi".into(), ..SendRequest::default() }).unwrap();
    let [first, second] = &daemon.rest()[..] else { panic!("asked once, and once more") };
    assert_eq!(first.body, second.body, "one message, by its id");

    let gone = |failed: Error| {
        assert!(matches!(failed, Error::Gone { unread: false }), "{failed:?}");
        assert_eq!(failed.exit(), crate::base::exit::Exit::Network);
    };
    let (_scratch, daemon, client) = ending(r#"{"marked_seen":1}"#);
    gone(client.mark_seen(&["x".into()]).unwrap_err());
    assert_eq!(asked(&daemon), 1);
    let (_scratch, daemon, client) = ending(r#"{"removed":1}"#);
    gone(client.delete("x").unwrap_err());
    assert_eq!(asked(&daemon), 1);
    // What was listed counts as read by then.
    let (_scratch, daemon, client) = ending(r#"{"items":[],"marked_seen":0}"#);
    gone(client.inbox(&InboxQuery { mark_seen: true, ..InboxQuery::default() }).unwrap_err());
    assert_eq!(asked(&daemon), 1);
}

#[test]
fn what_was_never_read_is_asked_again_whatever_it_is() {
    let scratch = Scratch::new();
    let socket = scratch.paths().socket();
    let dying = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let client = Client::new(&scratch.paths());
    client.connect().unwrap();
    // Taken by the system and by nobody else, as with a process that was killed.
    std::fs::remove_file(&socket).unwrap();
    let daemon = FakeDaemon::start(&scratch.paths(), |_| Answer::Json(200, r#"{"marked_seen":1}"#.into()));
    drop(dying);
    assert_eq!(client.mark_seen(&["x".into()]).unwrap().marked_seen, 1);
    assert_eq!(daemon.rest().len(), 1);
}
