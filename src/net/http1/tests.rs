use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// What a server makes of `bytes`, sent in pieces of `piece` bytes, with a body of at most 16.
fn read(bytes: &[u8], piece: usize) -> Result<Request, ReadError> {
    let (mut server, mut client) = UnixStream::pair().unwrap();
    let bytes = bytes.to_vec();
    let sender = thread::spawn(move || {
        for part in bytes.chunks(piece) {
            if client.write_all(part).is_err() {
                break;
            }
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        client
    });
    let found = read_request(&mut server, soon(), 16);
    drop(server);
    sender.join().unwrap();
    found
}

#[test]
fn reads_requests_in_pieces_of_any_size() {
    for (text, method, path, body) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Method::Get, "/", ""),
        ("GET /a HTTP/1.0\r\n\r\n", Method::Get, "/a", ""),
        ("HEAD /a HTTP/1.1\r\nHost:\r\n\r\n", Method::Other, "/a", ""),
        ("GET http://h/abs?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", Method::Get, "/abs", ""),
        ("POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhelloNEXT", Method::Post, "/b", "hello"),
        ("POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 16\r\n\r\n0123456789abcdef", Method::Post, "/b", "0123456789abcdef"),
        (
            "POST /c HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            Method::Post,
            "/c",
            "hello world",
        ),
        ("DELETE /d HTTP/1.1\nHost: x\n\n", Method::Delete, "/d", ""),
    ] {
        for piece in [1, 7, 10_000] {
            let request = read(text.as_bytes(), piece).unwrap_or_else(|err| panic!("{text:?} by {piece}: {err}"));
            assert_eq!((request.head.method, request.head.target.path.as_str()), (method, path), "{text:?}");
            assert_eq!(request.body, body.as_bytes(), "{text:?}");
        }
    }
}

#[test]
fn refuses_with_the_right_status() {
    let post = |headers: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}").into_bytes();
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(64)).into_bytes();
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(MAX_HEAD)).into_bytes();
    for (name, bytes, expect) in [
        ("nothing", vec![], None),
        ("half a head", b"GET / HTTP/1.1\r\nHost".to_vec(), None),
        ("half a body", post("Content-Length: 9\r\n", "half"), None),
        ("half a chunk", post("Transfer-Encoding: chunked\r\n", "9\r\nhalf"), None),
        ("no Host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Some(400)),
        ("two Hosts", post("Host: y\r\n", ""), Some(400)),
        ("two Origins", post("Origin:\r\nOrigin: y\r\n", ""), Some(400)),
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), Some(400)),
        ("garbage without an end", vec![0x16; 100], Some(400)),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Some(400)),
        ("bad target", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Some(400)),
        ("bad escape", b"GET /?a=%zz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Some(400)),
        ("header not UTF-8", b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n".to_vec(), Some(400)),
        ("length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Some(400)),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), Some(400)),
        ("list of lengths", post("Content-Length: 5, 5\r\n", "hello"), Some(400)),
        ("signed length", post("Content-Length: +5\r\n", "hello"), Some(400)),
        ("space before the colon", post("Content-Length : 5\r\n", "hello"), Some(400)),
        ("folded header", post("A: b\r\n c\r\n", ""), Some(400)),
        ("broken chunks", post("Transfer-Encoding: chunked\r\n", "zz\r\n"), Some(400)),
        ("body too long", post("Content-Length: 17\r\n", ""), Some(413)),
        ("absurd length", post("Content-Length: 99999999999999999999999\r\n", ""), Some(413)),
        ("chunks too long", post("Transfer-Encoding: chunked\r\n", "11\r\n0123456789abcdefg\r\n0\r\n\r\n"), Some(413)),
        ("expects more", post("Expect: a-miracle\r\n", ""), Some(417)),
        ("too many headers", many, Some(431)),
        ("too long a header", long, Some(431)),
        ("no end", [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'y'; 2 * MAX_HEAD]].concat(), Some(431)),
        ("unknown coding", post("Transfer-Encoding: gzip, chunked\r\n", ""), Some(501)),
    ] {
        for piece in [5, 100_000] {
            match read(&bytes, piece) {
                Ok(request) => panic!("{name}: {request:?}"),
                Err(err) => assert_eq!(err.status(), expect, "{name}: {err}"),
            }
        }
    }
}

#[test]
fn a_slow_client_is_answered_at_its_deadline() {
    let (mut server, mut client) = UnixStream::pair().unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let at = Instant::now() + Duration::from_millis(30);
    let err = read_head(&mut server, at).unwrap_err();
    assert_eq!(err.status(), Some(408));
    assert!(at <= Instant::now());
}

#[test]
fn asks_for_the_body_if_the_client_waits_for_that() {
    let (mut server, mut client) = UnixStream::pair().unwrap();
    let served = thread::spawn(move || read_request(&mut server, soon(), 16));
    client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    let mut reply = [0; 25];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"ok").unwrap();
    assert_eq!(served.join().unwrap().unwrap().body, b"ok");

    let (mut server, mut client) = UnixStream::pair().unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n").unwrap();
    assert_eq!(read_request(&mut server, soon(), 16).unwrap_err().status(), Some(413), "refused before it is sent");
}

#[test]
fn headers_are_found_in_any_case_and_leftovers_are_kept() {
    let (mut server, mut client) = UnixStream::pair().unwrap();
    let text =
        "GET /ws HTTP/1.1\r\nhost: x\r\nCONNECTION: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nX-A:  padded \r\n\r\nframes";
    client.write_all(text.as_bytes()).unwrap();
    let mut head = read_head(&mut server, soon()).unwrap();
    assert!(head.wants_websocket());
    assert_eq!((head.header("Host"), head.header("x-a"), head.header("x-b")), (Some("x"), Some("padded"), None));
    assert_eq!(head.take_rest(), b"frames");
}

#[test]
fn writes_replies() {
    let mut out = Vec::new();
    write_response(&mut out, 404, &[("Content-Type", "application/json")], b"{}").unwrap();
    let text = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    assert_eq!(String::from_utf8(out).unwrap(), text);
    assert_eq!(response(204, &[], b"").unwrap(), b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    assert!(write_response(&mut Vec::new(), 200, &[("A", "b\r\nSet-Cookie: c")], b"").is_err());
}
