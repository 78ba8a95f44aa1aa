//! The harness itself: a subscriber that forgot its cursor, or a check that lets a lost message pass, would hide what the
//! other tests are for.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::{Value, json};

use crate::crash::{SENDERS, exactly_once};
use crate::support::follow::Follower;
use crate::support::home::Home;
use crate::support::http;
use crate::support::proxy::{Cut, Mangle, Proxy, Way};
use crate::support::wait::Gate;

/// Answers one connection with these bytes; the request's head comes back.
fn answer(listener: &UnixListener, bytes: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    stream.write_all(bytes.as_bytes()).unwrap();
    head.join("\n")
}

fn message(id: u64) -> String {
    format!("id: {id}\nevent: message\ndata: {{\"client_message_id\":\"m-{id}\"}}\n\n")
}

#[test]
fn a_subscriber_comes_back_with_its_cursor() {
    const START: &str = "HTTP/1.1 200 OK\r\n\r\n: connected\n\n";
    let home = Home::new();
    let listener = UnixListener::bind(home.join("s")).unwrap();
    let server = std::thread::spawn(move || {
        // The second event is cut off in the middle and must not count.
        let half = message(6);
        let first = answer(&listener, &format!("{START}{}{}", message(5), &half[..half.len() - 1]));
        let second = answer(&listener, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        let third = answer(&listener, &format!("{START}{}event: peer_join\ndata: {{}}\n\n{}", message(6), message(9)));
        [first, second, third]
    });
    let follower = Follower::start(home.join("s"), Some("t".to_owned()), None, Gate::default());
    follower.message("m-9");
    let ids: Vec<Option<u64>> = follower.events().iter().map(|event| event.id).collect();
    assert_eq!(ids, [Some(5), Some(6), None, Some(9)]);
    let heads = server.join().unwrap();
    let cursors = heads.each_ref().map(|head| http::header(head, "last-event-id"));
    assert_eq!(cursors, [None, Some("5"), Some("5")]);
    assert!(heads[0].contains("Authorization: ClaudeMesh-Session t"));
}

#[test]
fn a_reply_is_whole_or_an_error() {
    let home = Home::new();
    let listener = UnixListener::bind(home.join("s")).unwrap();
    let replies =
        ["HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "HTTP/1.1 2"];
    let server = std::thread::spawn(move || replies.map(|bytes| answer(&listener, bytes)));
    let ask = || http::request(&home.join("s"), "GET", "/", &[], None);
    let first = ask().unwrap();
    assert_eq!((first.status, first.json()), (202, json!({})));
    assert!(ask().is_err(), "cut off in its body");
    assert!(ask().is_err(), "cut off in its head");
    server.join().unwrap();
}

/// What comes out of a proxy while `fault` is done to it before the second of two messages; `None` once it is cut.
fn relayed(fault: impl FnOnce(&Proxy)) -> (Vec<u8>, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string());
    let mut client = TcpStream::connect(&proxy.address).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    }
    client.write_all(b"first ").unwrap();
    let mut first = [0; 6];
    server.read_exact(&mut first).unwrap();
    fault(&proxy);
    // It may be cut already.
    let _ = client.write_all(b"second, and long enough to be cut in two");
    let mut rest = Vec::new();
    let ended = server.read_to_end(&mut rest);
    let cut = !matches!(&ended, Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    (rest, cut)
}

#[test]
fn a_proxy_does_what_it_is_told_to() {
    const SECOND: &[u8] = b"second, and long enough to be cut in two";
    assert_eq!(relayed(|_| {}), (SECOND.to_vec(), false));
    assert_eq!(relayed(|proxy| proxy.stall(Way::ToBroker)), (Vec::new(), false));
    assert_eq!(relayed(|proxy| proxy.stall(Way::ToDaemon)), (SECOND.to_vec(), false), "the other way is open");
    assert_eq!(relayed(|proxy| proxy.mangle(Way::ToBroker, Mangle::Delay(Duration::from_millis(20)))), (SECOND.to_vec(), false));
    for how in [Cut::Fin, Cut::Reset] {
        assert_eq!(relayed(|proxy| proxy.cut(how)), (Vec::new(), true), "{how:?}");
        let (part, cut) = relayed(|proxy| proxy.mangle(Way::ToBroker, Mangle::Truncate(how)));
        assert!(cut && SECOND.starts_with(&part), "{how:?}: {part:?}");
    }
    let (garbled, cut) = relayed(|proxy| proxy.mangle(Way::ToBroker, Mangle::Garbage(7)));
    assert!(!cut && SECOND.len() < garbled.len(), "{garbled:?}");
}

#[test]
fn the_check_of_the_kill_tests_can_fail() {
    let row = |sender: usize, number: u64| json!({"client_message_id": format!("s{sender}-{number}"), "body": format!("{sender}:{number}")});
    let good: Vec<Value> = (0..3).flat_map(|number| (0..SENDERS).map(move |sender| row(sender, number))).collect();
    let changed = |change: fn(&mut Vec<Value>)| {
        let mut rows = good.clone();
        change(&mut rows);
        rows
    };
    exactly_once("good rows", 3, &good);
    let bad = [
        ("lost", changed(|rows| drop(rows.remove(5)))),
        ("the last one lost", changed(|rows| drop(rows.pop()))),
        ("doubled", changed(|rows| rows.push(rows[11].clone()))),
        ("out of order", changed(|rows| rows.swap(0, 4))),
        ("unreadable", changed(|rows| rows[3]["body"] = Value::Null)),
        ("under another's id", changed(|rows| rows[3]["client_message_id"] = "s9-9".into())),
    ];
    for (what, rows) in bad {
        assert!(catch_unwind(AssertUnwindSafe(|| exactly_once(what, 3, &rows))).is_err(), "{what} passed");
    }
}
