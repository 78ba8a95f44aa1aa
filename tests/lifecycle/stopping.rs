//! What is open when the daemon stops: who has not asked for anything holds it up no longer, who is being answered is answered.

use std::io::Read;
use std::net::TcpStream;

use rusqlite::Connection;
use rustix::process::Signal;

use super::*;
use crate::support::http;

/// A daemon in the foreground, and the line that it said when it was ready.
pub(super) fn foreground(home: &Home, flags: &[&str]) -> (Process, Value) {
    let args: Vec<&str> = ["daemon", "up", "--foreground"].iter().chain(flags).copied().collect();
    let process = Process::spawn(home.command(&args));
    let line = process.line().unwrap_or_else(|| panic!("it ended: {}", process.errors()));
    (process, serde_json::from_str(&line).unwrap())
}

/// Keeps the inbox from being written, until it is dropped.
pub(super) struct Busy(#[expect(dead_code, reason = "held, never used")] Connection);

impl Busy {
    pub(super) fn of(home: &Home) -> Busy {
        let inbox = Connection::open(home.join("daemon/inbox.db")).unwrap();
        inbox.execute_batch("BEGIN IMMEDIATE").unwrap();
        Busy(inbox)
    }
}

/// A request that the daemon has taken, and can not answer while the inbox is busy.
pub(super) fn asking(home: &Home) -> UnixStream {
    let mut client = UnixStream::connect(home.socket()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = br#"{"ids":["x"]}"#;
    let whole = http::compose("POST", "/v1/inbox/seen", &[("Expect", "100-continue")], Some(body));
    let (head, body) = whole.split_at(whole.len() - body.len());
    client.write_all(head).unwrap();
    let mut said = [0; 25];
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(body).unwrap();
    client
}

#[test]
fn who_says_nothing_holds_up_no_stop() {
    let home = Home::new();
    let (daemon, ready) = foreground(&home, &["--tcp=0"]);
    let local = ["", "GET /v1/hea", "POST /v1/send HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"to\""].map(|said| {
        let mut stream = UnixStream::connect(home.socket()).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        stream
    });
    let tcp = TcpStream::connect(ready["tcp"].as_str().unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&std::fs::read(home.join("config.json")).unwrap()).unwrap();
    let url = config["meshes"][0]["brokerUrl"].as_str().unwrap();
    let broker = url.trim_start_matches("ws://").trim_end_matches("/ws");
    let strangers: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(broker).unwrap()).collect();
    // Nobody is told when a connection has been taken; whoever comes after them is answered after they were.
    assert!(http::request(&home.socket(), "GET", "/v1/version", &[], None).is_ok());
    assert!(http::get_tcp(broker, "/health").is_ok());
    assert!(http::get_tcp(ready["tcp"].as_str().unwrap(), "/v1/version").is_ok());
    let stopped = run(&home, &["down"]);
    assert!(stopped.status.success(), "{stopped:?}");
    let ended = daemon.finish();
    assert!(ended.status.success() && !ended.err.contains("left behind"), "{ended:?}");
    drop((local, tcp, strangers));
}

#[test]
fn who_is_being_answered_is_answered() {
    let home = Home::new();
    let (daemon, _) = foreground(&home, &[]);
    let busy = Busy::of(&home);
    let mut client = asking(&home);
    daemon.signal(Signal::TERM);
    until("it accepts no more", || (!home.socket().exists()).then_some(()));
    drop(busy);
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let ended = daemon.finish();
    assert!(ended.status.success() && !ended.err.contains("left behind"), "{ended:?}");
}
