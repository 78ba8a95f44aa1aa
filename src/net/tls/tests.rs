use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use super::*;
use crate::net::dial::{self, Url};
use crate::net::http_client::{Ask, exchange};
use crate::net::stream::Stream;
use crate::net::ws::tests::{LIMITS, drill};
use crate::net::ws::{self, WebSocket};
use crate::net::{http1, stream};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A certificate for `localhost` and 127.0.0.1 that signs itself; good for these tests and nothing else.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/testdata").join(name)
}

fn identity() -> Identity {
    Identity::files(&data("cert.pem"), &data("key.pem")).unwrap()
}

/// A server for one connection, and the stream of a client that trusts it.
fn connect<T: Send + 'static>(host: &str, serve: impl FnOnce(Stream) -> T + Send + 'static) -> (Stream, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://{host}:{}/", listener.local_addr().unwrap().port())).unwrap();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        serve(Stream::Tls(Box::new(Tls::accept(&identity(), socket, soon()).unwrap())))
    });
    let trust = Trust::file(&data("cert.pem")).unwrap();
    (dial::open_trusting(&url, Some(&trust), soon()).unwrap(), server)
}

#[test]
fn two_busy_ends_finish() {
    for (count, size) in [(400, 60_000), (60, 600_000), (20_000, 100)] {
        let (client, server) = connect("localhost", |stream| stream);
        let server = server.join().unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        let limits = ws::Limits { max_message: 1 << 20, ..LIMITS };
        drill(WebSocket::server(server, Vec::new(), limits), WebSocket::client(client, Vec::new(), limits), count, size);
    }
}

#[test]
fn carries_http_and_ends_on_purpose() {
    let (mut client, server) = connect("127.0.0.1", |mut stream| {
        let request = http1::read_request(&mut stream, soon(), 1 << 20).unwrap();
        http1::write_response(&mut stream, 200, &[], &request.body).unwrap();
    });
    let body = vec![b'x'; 1 << 20];
    let ask = Ask { method: "POST", target: "/", headers: &[], body: Some(&body) };
    let response = exchange(&mut client, "localhost", &ask, soon(), 1 << 20).unwrap();
    assert_eq!((response.status, response.body.len()), (200, 1 << 20));
    server.join().unwrap();
    assert_eq!(stream::read_by(&mut client, &mut [0; 8], soon()).unwrap(), 0, "a dropped connection says goodbye");
}

#[test]
fn a_cut_connection_is_told_from_an_ended_one() {
    let (mut client, server) = connect("localhost", |stream| stream.shutdown(std::net::Shutdown::Both).unwrap());
    server.join().unwrap();
    let err = stream::read_by(&mut client, &mut [0; 8], soon()).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_reader_that_does_not_read_blocks_nobody() {
    let (client, server) = connect("localhost", |stream| stream);
    let mut server = server.join().unwrap();
    server.set_nonblocking(true).unwrap();
    let chunk = vec![0; 50_000];
    let mut taken = 0_usize;
    let blocked = loop {
        match server.write(&chunk) {
            Ok(0) => panic!("zero means reset"),
            Ok(written) => taken += written,
            Err(err) => break err,
        }
        assert!(taken < 1 << 30);
    };
    assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(server.flush().unwrap_err().kind(), io::ErrorKind::WouldBlock, "what is kept back is not flushed");
    assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(server);
    drop(client);
}

#[test]
fn trusts_only_what_it_should() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        for _ in 0..2 {
            let (socket, _) = listener.accept().unwrap();
            assert!(Tls::accept(&identity(), socket, soon()).is_err(), "the client refuses the certificate");
        }
        // One that says nothing, then one that is no TLS at all.
        let (silent, _) = listener.accept().unwrap();
        let (mut plain, _) = listener.accept().unwrap();
        plain.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        (silent, plain)
    });
    let trust = Trust::file(&data("cert.pem")).unwrap();
    let to = |host: &str| Url::parse(&format!("wss://{host}:{port}/")).unwrap();
    let refused = |found: Result<Stream, dial::Error>, what: &str| {
        let text = found.expect_err(what).to_string();
        assert!(text.contains("certificate"), "{what}: {text}");
    };
    // The name in the certificate is not this one.
    let named = Tls::connect(&trust, "other.example", std::net::TcpStream::connect(("127.0.0.1", port)).unwrap(), soon());
    refused(named.map(|tls| Stream::Tls(Box::new(tls))).map_err(dial::Error::Tls), "wrong name");
    if let Ok(system) = Trust::system() {
        refused(dial::open_trusting(&to("localhost"), Some(&system), soon()), "unknown authority");
    } else {
        drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    }
    let at = Instant::now() + Duration::from_millis(100);
    assert!(matches!(dial::open_trusting(&to("localhost"), Some(&trust), at), Err(dial::Error::Timeout)));
    assert!(matches!(dial::open_trusting(&to("localhost"), Some(&trust), soon()), Err(dial::Error::Tls(_))));
    server.join().unwrap();
}

#[test]
fn says_which_file_is_wrong() {
    for path in ["key.pem", "missing.pem"] {
        let err = Trust::file(&data(path)).unwrap_err();
        assert!(matches!(&err, TlsError::Pem { .. }) && err.to_string().contains(path), "{err}");
    }
    assert!(matches!(Identity::files(&data("cert.pem"), &data("cert.pem")), Err(TlsError::Pem { .. })));
}
