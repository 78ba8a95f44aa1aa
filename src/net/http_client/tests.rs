use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use super::*;
use crate::net::http1;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

const GET: Ask<'static> = Ask { method: "GET", target: "/", headers: &[], body: None };

/// What a client makes of a server that sends `reply` in pieces and hangs up.
fn exchange_with(ask: &Ask<'_>, reply: &str, piece: usize, max: usize) -> Result<Response, ClientError> {
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let reply = reply.as_bytes().to_vec();
    let server = thread::spawn(move || {
        let request = http1::read_request(&mut far, soon(), 1024).unwrap();
        for part in reply.chunks(piece) {
            if far.write_all(part).is_err() {
                break;
            }
        }
        request
    });
    let response = exchange(&mut near, "h", ask, soon(), max);
    drop(near);
    server.join().unwrap();
    response
}

#[test]
fn reads_bodies_however_they_end() {
    for (reply, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloMORE", "hello"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
    ] {
        for piece in [1, 9, 10_000] {
            let response = exchange_with(&GET, reply, piece, 64).unwrap_or_else(|err| panic!("{reply:?} by {piece}: {err}"));
            assert_eq!((response.status, response.body.as_slice()), (200, body.as_bytes()), "{reply:?}");
        }
    }
    let empty = exchange_with(&GET, "HTTP/1.1 204 No Content\r\nX-Y: z\r\n\r\n", 100, 64).unwrap();
    assert_eq!((empty.status, empty.body.len(), empty.headers[0].1.as_str()), (204, 0, "z"));
}

#[test]
fn says_what_is_wrong_with_a_reply() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(MAX_HEAD));
    for (reply, expect) in [
        ("", "hung up"),
        ("HTTP/1.1 200 O", "hung up"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "hung up"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hung up"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n", "too large"),
        ("HTTP/1.1 200 OK\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789", "too large"),
        (&long, "too large"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer coding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunked"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "Content-Length"),
        ("SSH-2.0-OpenSSH_9.2 and so on\r\n", "not HTTP"),
        (&"HTTP/1.1 100 Continue\r\n\r\n".repeat(20), "interim"),
    ] {
        let err = exchange_with(&GET, reply, 1000, 64).unwrap_err();
        assert!(err.to_string().contains(expect), "{reply:?}: {err}");
    }
}

#[test]
fn asks_over_tcp_and_tells_refused_from_late() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = http1::read_request(&mut stream, soon(), 1024).unwrap();
        http1::write_response(&mut stream, 202, &[], b"{}").unwrap();
        let (silent, _) = listener.accept().unwrap();
        (request, silent)
    });
    let ask = Ask { method: "POST", target: "/v1/send?x=1", headers: &[("X-A", "b")], body: Some(b"{1}") };
    let response = request(&address, &ask, soon()).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (202, &b"{}"[..]));
    let late = request(&address, &GET, Instant::now() + Duration::from_millis(50));
    assert!(matches!(late, Err(ClientError::Timeout)));
    let (asked, _silent) = server.join().unwrap();
    assert_eq!(asked.body, b"{1}");
    assert_eq!((asked.head.header("host"), asked.head.header("x-a")), (Some("localhost"), Some("b")));
    assert!(matches!(request(&address, &GET, soon()), Err(ClientError::Connect(_))));
    let smuggled = Ask { target: "/ HTTP/1.1\r\nX: y", ..GET };
    assert!(matches!(exchange(&mut UnixStream::pair().unwrap().0, "h", &smuggled, soon(), 1), Err(ClientError::Io(_))));
}

#[test]
fn streams_what_comes_when_it_comes() {
    for chunked in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            http1::read_request(&mut stream, soon(), 0).unwrap();
            if chunked {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n: connected\n\n\r\n").unwrap();
                wait.recv().unwrap();
                stream.write_all(b"5\r\nevent\r\n0\r\n\r\n").unwrap();
            } else {
                http1::start_sse(&mut stream).unwrap();
                wait.recv().unwrap();
                stream.write_all(b"event").unwrap();
            }
        });
        let mut streaming = open_stream(&address, &GET, soon()).unwrap();
        assert_eq!(streaming.head.status, 200);
        let mut text = Vec::new();
        while text.len() < 13 {
            text.extend(streaming.read_by(soon()).unwrap().unwrap());
        }
        assert_eq!(text, b": connected\n\n");
        assert!(matches!(streaming.read_by(Instant::now() + Duration::from_millis(20)), Err(ClientError::Timeout)));
        go.send(()).unwrap();
        assert_eq!(streaming.read_by(soon()).unwrap().as_deref(), Some(&b"event"[..]));
        assert_eq!(streaming.read_by(soon()).unwrap(), None);
        server.join().unwrap();
    }
}
