use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::base::thread::CONNECTION_STACK;
use crate::net::http_client::{self, Address, Ask};
use crate::net::{http1, stream};
use crate::sys::poll::{Ringer, bell};

const GET: Ask<'static> = Ask { method: "GET", target: "/", headers: &[], body: None };

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

struct Server {
    _dir: TempDir,
    path: PathBuf,
    ringer: Ringer,
    count: Count,
    thread: thread::JoinHandle<Result<(), ServeError>>,
}

fn start(max_connections: usize, on_accept: impl Fn(Stream, Place) + Send + Sync + 'static) -> Server {
    let dir = tempdir().unwrap();
    let path = dir.path().join("socket");
    let listeners = [Listener::unix(&path, true).unwrap(), Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap()];
    let (ringer, bell) = bell().unwrap();
    let count = Count::default();
    let thread = thread::spawn({
        let count = count.clone();
        move || {
            let options = Options { name: "test", max_connections, refusal: b"busy", stack: CONNECTION_STACK };
            serve(&listeners, &bell, &options, &count, on_accept)
        }
    });
    Server { _dir: dir, path, ringer, count, thread }
}

fn stop(server: Server) {
    server.ringer.ring();
    server.thread.join().unwrap().unwrap();
    assert!(UnixStream::connect(&server.path).is_err(), "the listener is closed");
}

fn answer(mut stream: Stream, _: Place) {
    if http1::read_request(&mut stream, soon(), 16).is_ok() {
        http1::write_response(&mut stream, 200, &[], b"ok").unwrap();
    }
}

#[test]
fn serves_short_requests_with_few_threads_beside_long_ones() {
    let names = Arc::new(Mutex::new(HashSet::new()));
    let server = start(100, {
        let names = names.clone();
        move |stream, place| {
            names.lock().unwrap().insert(thread::current().name().unwrap().to_owned());
            answer(stream, place);
        }
    });
    // Twenty that connect and say nothing hold a thread each.
    let silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&server.path).unwrap()).collect();
    let address = Address::Unix(server.path.clone());
    for _ in 0..300 {
        assert_eq!(http_client::request(&address, &GET, soon()).unwrap().body, b"ok");
    }
    assert!(20 <= server.count.get());
    let threads = names.lock().unwrap().len();
    assert!((21..200).contains(&threads), "{threads} threads for 300 short requests in turn");
    assert!(names.lock().unwrap().contains("test-1"));
    drop(silent);
    stop(server);
}

#[test]
fn a_burst_is_answered_whole() {
    let server = start(100, answer);
    let address = Address::Unix(server.path.clone());
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(http_client::request(&address, &GET, soon()).unwrap().body, b"ok");
                }
            });
        }
    });
    stop(server);
}

#[test]
fn refuses_beyond_the_cap_and_takes_the_next_when_one_leaves() {
    let server = start(2, answer);
    let held: Vec<_> = (0..2).map(|_| UnixStream::connect(&server.path).unwrap()).collect();
    let mut third = UnixStream::connect(&server.path).unwrap();
    // Sent before the refusal is read: it must not turn the refusal into a reset.
    let _ = third.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut said = String::new();
    third.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    third.read_to_string(&mut said).unwrap();
    assert_eq!(said, "busy");
    drop(held);
    let address = Address::Unix(server.path.clone());
    let until = soon();
    while http_client::request(&address, &GET, soon()).is_err() {
        assert!(Instant::now() < until, "no connection was let in after two had left");
        thread::yield_now();
    }
    stop(server);
}

#[test]
fn what_outlasts_its_request_makes_room_and_is_still_waited_for() {
    let server = start(2, |mut stream, place| {
        place.outlast();
        place.outlast();
        stream.write_all(b"on").unwrap();
        let _ = stream.read(&mut [0]);
    });
    let held: Vec<_> = (0..5)
        .map(|_| {
            let mut client = UnixStream::connect(&server.path).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut said = [0; 2];
            client.read_exact(&mut said).unwrap();
            assert_eq!(&said, b"on");
            client
        })
        .collect();
    assert_eq!((server.count.get(), server.count.wait_idle(Instant::now())), (5, 5));
    drop(held);
    assert_eq!(server.count.wait_idle(soon()), 0);
    stop(server);
}

#[test]
fn a_panicking_handler_costs_its_connection_only() {
    let server = start(2, |mut stream, _| {
        let mut byte = [0];
        stream::read_by(&mut stream, &mut byte, soon()).unwrap();
        if byte == *b"!" {
            std::panic::resume_unwind(Box::new(()));
        }
        stream.write_all(&byte).unwrap();
    });
    for byte in [b'!', b'!', b'!', b'a'] {
        let mut client = UnixStream::connect(&server.path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.write_all(&[byte]).unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).unwrap();
        assert_eq!(reply, if byte == b'!' { vec![] } else { vec![byte] });
        let until = soon();
        while server.count.get() != 0 {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
    }
    stop(server);
}

#[test]
fn replaces_a_stale_socket_and_nothing_else() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("stale");
    drop(Listener::unix(&path, true).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Listener::unix(&path, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(Listener::unix(&path, true).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(Listener::unix(&path, true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn who_was_heard_is_answered_and_the_others_hang_up_when_nobody_is_heard_any_more() {
    let (entered, inside) = std::sync::mpsc::channel();
    let server = start(100, move |mut stream, place| {
        let mut asked = [0; 2];
        entered.send(()).unwrap();
        if stream.read(&mut asked[..1]).unwrap() == 1 {
            place.heard();
            // The next byte is a matter between those two.
            stream.read_exact(&mut asked[1..]).unwrap();
            stream.write_all(&asked).unwrap();
        }
    });
    let connect = || {
        let client = UnixStream::connect(&server.path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        inside.recv_timeout(Duration::from_secs(5)).unwrap();
        client
    };
    let (mut silent, mut heard) = (connect(), connect());
    heard.write_all(b"a").unwrap();
    let until = soon();
    while 1 < server.count.unheard() {
        assert!(Instant::now() < until);
        thread::yield_now();
    }
    server.count.hear_no_more();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let mut late = connect();
    assert_eq!(late.read(&mut [0]).unwrap(), 0);
    heard.write_all(b"b").unwrap();
    let mut said = Vec::new();
    heard.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"ab");
    assert_eq!(server.count.wait_idle(soon()), 0);
    stop(server);
}
