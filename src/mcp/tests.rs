use std::io::{BufRead, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Mutex;

use crossbeam_channel::unbounded;

use super::*;
use crate::base::thread::{self, Joined, Running};
use crate::client::fake::{Answer, Asked, FakeDaemon, Scratch};
use crate::wire::json::{Value, decode, encode, json};

/// What the real client writes first.
const DISCOVER: &str = r#"{"jsonrpc":"2.0","id":"d1","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
pub(super) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{},"elicitation":{}},"clientInfo":{"name":"claude-code","version":"2"}}}"#;
pub(super) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
pub(super) const PING: &str = r#"{"jsonrpc":"2.0","id":99,"method":"ping"}"#;

pub(super) struct Shim {
    pub(super) far: Option<Far>,
    pub(super) running: Running<Exit>,
}

impl Shim {
    pub(super) fn start(scratch: &Scratch, token: Option<Token>) -> Shim {
        Shim::with(options(scratch, token))
    }

    pub(super) fn with(options: Options) -> Shim {
        let (near, far) = Connection::memory().unwrap();
        let running = thread::spawn("shim", 512 * 1024, move || run(near, options)).unwrap();
        Shim { far: Some(far), running }
    }

    pub(super) fn write(&mut self, line: &str) {
        self.far.as_mut().unwrap().to_server.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(super) fn read(&mut self) -> Value {
        let mut line = String::new();
        self.far.as_mut().unwrap().from_server.read_line(&mut line).unwrap();
        decode(line.as_bytes()).unwrap_or_else(|err| panic!("{err}: {line}"))
    }

    pub(super) fn ask(&mut self, line: &str) -> Value {
        self.write(line);
        self.read()
    }

    pub(super) fn shake_hands(&mut self) {
        self.ask(INITIALIZE);
        self.write(INITIALIZED);
    }

    /// The text of the next notification.
    pub(super) fn content(&mut self) -> String {
        self.read()["params"]["content"].as_str().expect("a notification").to_owned()
    }

    pub(super) fn end(mut self) {
        drop(self.far.take());
        let deadline = Instant::now() + Duration::from_secs(10);
        assert_eq!(self.running.join_by(deadline), Joined::Ended(Exit::Success));
    }
}

pub(super) fn options(scratch: &Scratch, token: Option<Token>) -> Options {
    Options { paths: scratch.paths(), token, own: None, mesh: None, start: Start::Wait, channels: true }
}

pub(super) fn token() -> Option<Token> {
    Some(Token::from_bytes([7; 32]))
}

fn item(id: &str, seq: u64) -> Value {
    json!({
        "id": id, "client_message_id": format!("c-{id}"), "broker_message_id": null, "mesh": "home", "topic": null,
        "sender_pubkey": "ab", "sender_name": "Bob", "body": format!("body {id}"), "received_at": "2025-10-09T08:53:20.000Z",
        "reply_to_id": null, "seen_at": null, "recipient_pubkey": null, "recipient_kind": null, "seq": seq,
    })
}

fn event(id: &str, seq: u64) -> String {
    let data = json!({
        "ts": "x", "id": id, "mesh": "home", "client_message_id": format!("c-{id}"), "broker_message_id": null, "sender_pubkey": "ab",
        "sender_member_pubkey": null, "sender_name": "Bob", "topic": null, "reply_to_id": null, "priority": "next",
        "body": format!("body {id}"), "created_at": null, "recipient_pubkey": null, "recipient_kind": null,
    });
    format!("id: {seq}\nevent: message\ndata: {}\n\n", encode(&data))
}

/// What a fake daemon holds: rows that are unread until they are marked, and its streams.
#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    rows: Vec<Value>,
    streams: Vec<Sender<String>>,
}

impl Mailbox {
    fn put(&self, id: &str, seq: u64) {
        // The newest first, as the reference lists.
        self.0.lock().unwrap().rows.insert(0, item(id, seq));
    }

    fn publish(&self, block: &str) {
        let streams = self.0.lock().unwrap().streams.clone();
        streams.last().expect("a stream").send(block.to_owned()).unwrap();
    }

    fn unread(&self) -> usize {
        self.0.lock().unwrap().rows.len()
    }

    fn serve(&self, scratch: &Scratch) -> FakeDaemon {
        let this = self.clone();
        FakeDaemon::start(&scratch.paths(), move |asked| this.answer(asked))
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let mut held = self.0.lock().unwrap();
        match asked.path.split('?').next() {
            Some("/v1/events") => {
                let (blocks, stream) = unbounded();
                held.streams.push(blocks);
                Answer::Stream(stream)
            }
            Some("/v1/inbox") => Answer::Json(200, encode(&json!({ "items": held.rows, "marked_seen": 0 }))),
            Some("/v1/inbox/seen") => {
                let ids = decode::<Value>(asked.body.as_bytes()).unwrap()["ids"].clone();
                held.rows.retain(|item| !ids.as_array().unwrap().contains(&item["id"]));
                Answer::Json(200, r#"{"marked_seen":1}"#.into())
            }
            _ => Answer::Json(404, r#"{"error":"not found"}"#.into()),
        }
    }
}

/// Ids of the next request that marks rows as seen.
fn seen(daemon: &FakeDaemon) -> Vec<String> {
    let body = daemon.asked_for("/v1/inbox/seen").body;
    decode::<crate::wire::ipc::Seen>(body.as_bytes()).unwrap().ids
}

#[test]
fn the_handshake_of_the_real_client() {
    let scratch = Scratch::new();
    let mut shim = Shim::start(&scratch, None);
    let refused = shim.ask(DISCOVER);
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("d1"), &json!(-32601)));
    let initialized = shim.ask(INITIALIZE);
    assert_eq!(initialized["id"], 0);
    let result = &initialized["result"];
    assert_eq!(result["protocolVersion"], "2025-11-25");
    let listed = json!({ "listChanged": true });
    let capabilities = json!({ "tools": {}, "prompts": &listed, "resources": &listed, "experimental": { "claude/channel": {} } });
    assert_eq!(result["capabilities"], capabilities);
    assert_eq!(result["serverInfo"]["name"], "claudemesh");
    assert!(result["instructions"].as_str().unwrap().contains("claudemesh send <name>"));
    shim.write(INITIALIZED);
    for (method, key) in [("tools/list", "tools"), ("prompts/list", "prompts"), ("resources/list", "resources")] {
        let listed = shim.ask(&encode(&json!({ "jsonrpc": "2.0", "id": 5, "method": method })));
        assert_eq!(listed["result"], json!({ key: [] }));
    }
    shim.end();
}

#[test]
fn lines_that_are_no_requests_are_answered_and_survived() {
    let scratch = Scratch::new();
    let mut shim = Shim::start(&scratch, None);
    let long = "x".repeat(4 * 1024 * 1024 + 1);
    for (line, code) in [("{", -32700), ("\u{0}", -32700), ("7", -32600), ("[]", -32600), (long.as_str(), -32600)] {
        let refused = shim.ask(line);
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&Value::Null, &json!(code)));
    }
    shim.far.as_mut().unwrap().to_server.write_all(b"\xff\xfe\n\r\n\n").unwrap();
    assert_eq!(shim.read()["error"]["code"], -32700);
    assert_eq!(shim.ask(&("[".repeat(200_000) + "\n"))["error"]["code"], -32700, "too deep");
    assert_eq!(shim.ask(PING)["result"], json!({}));
    assert_eq!(shim.ask(&format!("[{PING}]"))["error"]["code"], -32600, "no revision was agreed on that has batches");
    shim.end();
}

#[test]
fn unread_mail_then_events_each_once_and_marked_after_it_was_written() {
    let scratch = Scratch::new();
    let mailbox = Mailbox::default();
    mailbox.put("a", 1);
    mailbox.put("b", 2);
    let daemon = mailbox.serve(&scratch);
    let mut shim = Shim::start(&scratch, token());
    shim.ask(INITIALIZE);
    assert_eq!(shim.ask(PING)["id"], 99);
    assert!(daemon.rest().is_empty(), "nothing is asked before the client is ready");
    shim.write(INITIALIZED);
    assert_eq!(shim.content(), "Bob: body a");
    assert_eq!(shim.content(), "Bob: body b");
    let subscribed = daemon.asked();
    assert_eq!(subscribed.path, "/v1/events");
    assert_eq!(subscribed.header("authorization"), Some(format!("ClaudeMesh-Session {}", "07".repeat(32)).as_str()));
    assert_eq!(daemon.asked().path, "/v1/inbox/claim");
    assert_eq!(daemon.asked().path, "/v1/inbox?limit=500&unread_only=true&mark_seen=false", "it knows no claims");
    let mut marked = seen(&daemon);
    while marked.len() < 2 {
        marked.extend(seen(&daemon));
    }
    assert_eq!(marked, ["a", "b"]);
    mailbox.publish(&event("b", 2));
    mailbox.publish(&event("c", 3));
    mailbox.publish("event: broker_status\ndata: {\"ts\":\"x\",\"mesh\":\"home\",\"status\":\"open\"}\n\n");
    mailbox.publish(
        "event: peer_join\ndata: {\"mesh\":\"home\",\"event\":\"peer_joined\",\"name\":\"Eve\",\"pubkey\":\"0123456789\"}\n\n",
    );
    assert_eq!(shim.content(), "Bob: body c", "b is not offered twice");
    assert_eq!(shim.content(), "[system] Peer \"Eve\" (01234567) joined the mesh");
    assert_eq!(seen(&daemon), ["c"]);
    assert_eq!(mailbox.unread(), 0);
    shim.end();
}

#[test]
fn what_the_client_did_not_take_stays_unread() {
    let scratch = Scratch::new();
    let mailbox = Mailbox::default();
    let daemon = mailbox.serve(&scratch);
    let mut shim = Shim::start(&scratch, token());
    shim.shake_hands();
    assert_eq!(daemon.asked_for("/v1/inbox?").method, "GET");
    // The client's reading end is gone, its writing end still there.
    let Far { to_server, from_server } = shim.far.take().unwrap();
    drop(from_server);
    mailbox.put("a", 1);
    mailbox.publish(&event("a", 1));
    mailbox.publish(&event("b", 2));
    assert_eq!(shim.running.join_by(Instant::now() + Duration::from_secs(5)), Joined::Ended(Exit::Success));
    drop(to_server);
    assert!(daemon.rest().iter().all(|asked| asked.path != "/v1/inbox/seen"));
    assert_eq!(mailbox.unread(), 1);
}

#[test]
fn mail_survives_a_restart_of_the_daemon() {
    let scratch = Scratch::new();
    let mailbox = Mailbox::default();
    let daemon = mailbox.serve(&scratch);
    let mut shim = Shim::start(&scratch, token());
    shim.shake_hands();
    daemon.asked_for("/v1/inbox");
    mailbox.publish(&event("a", 7));
    assert_eq!(shim.content(), "Bob: body a");
    assert_eq!(seen(&daemon), ["a"]);
    drop(daemon);
    assert_eq!(shim.ask(PING)["id"], 99, "requests are answered meanwhile");
    // One came while nobody looked; the other was offered, and its receipt is lost.
    mailbox.put("b", 8);
    mailbox.put("a", 7);
    let daemon = mailbox.serve(&scratch);
    assert_eq!(shim.content(), "Bob: body b");
    assert_eq!(daemon.asked_for("/v1/events").header("last-event-id"), Some("7"));
    mailbox.publish(&event("b", 8));
    mailbox.publish(&event("c", 9));
    assert_eq!(shim.content(), "Bob: body c");
    // What was offered before the restart is marked, perhaps twice, and not offered again.
    let mut marked = std::collections::BTreeSet::new();
    while marked.len() < 3 {
        marked.extend(seen(&daemon));
    }
    assert_eq!(marked.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    shim.end();
}

#[test]
fn a_daemon_that_cannot_be_started_is_waited_for() {
    let scratch = Scratch::new();
    let mailbox = Mailbox::default();
    mailbox.put("a", 1);
    let (executable, deadline) = ("/bin/false".into(), Duration::from_secs(10));
    let start = Start::With(crate::client::spawn::Launcher { executable, flags: Vec::new(), deadline, disabled: false });
    let mut shim = Shim::with(Options { start, ..options(&scratch, token()) });
    shim.shake_hands();
    assert_eq!(shim.ask(PING)["id"], 99);
    let until = Instant::now() + deadline;
    while !scratch.paths().spawn_failure().exists() {
        assert!(Instant::now() < until);
        assert_eq!(shim.ask(PING)["id"], 99);
    }
    let _daemon = mailbox.serve(&scratch);
    assert_eq!(shim.content(), "Bob: body a");
    shim.end();
}

#[test]
fn without_a_session_nobodys_mail_is_touched() {
    let scratch = Scratch::new();
    let mailbox = Mailbox::default();
    mailbox.put("a", 1);
    let daemon = mailbox.serve(&scratch);
    let mut shim = Shim::start(&scratch, None);
    let initialized = shim.ask(INITIALIZE);
    assert!(initialized["result"]["instructions"].as_str().unwrap().contains("no messages will arrive"));
    shim.write(INITIALIZED);
    assert_eq!(shim.ask(PING)["id"], 99);
    shim.end();
    assert!(daemon.rest().is_empty());
}

#[test]
fn where_channels_are_off_mail_is_left_to_other_paths() {
    let scratch = Scratch::new();
    let mailbox = Mailbox::default();
    mailbox.put("a", 1);
    let daemon = mailbox.serve(&scratch);
    let mut shim = Shim::with(Options { channels: false, ..options(&scratch, token()) });
    let initialized = shim.ask(INITIALIZE);
    assert!(initialized["result"]["instructions"].as_str().unwrap().contains("begins with `[claudemesh]`"));
    shim.write(INITIALIZED);
    assert_eq!(shim.ask(PING)["id"], 99);
    shim.end();
    assert!(daemon.rest().is_empty());
}

#[test]
fn what_another_path_has_claimed_is_not_shown_and_what_was_shown_is_confirmed() {
    let scratch = Scratch::new();
    let (blocks, stream) = unbounded();
    let waiting = Arc::new(Mutex::new(vec![json!([item("a", 1)]), json!([]), json!([]), json!([item("c", 3)]), json!([])]));
    let daemon = FakeDaemon::start(&scratch.paths(), move |asked| match asked.path.as_str() {
        "/v1/events" => Answer::Stream(stream.clone()),
        "/v1/inbox/claim" => {
            let mut waiting = waiting.lock().unwrap();
            let items = if waiting.is_empty() { json!([]) } else { waiting.remove(0) };
            Answer::Json(200, encode(&json!({ "items": items })))
        }
        _ => Answer::Json(200, r#"{"changed":1}"#.into()),
    });
    let mut shim = Shim::start(&scratch, token());
    shim.shake_hands();
    assert_eq!(shim.content(), "Bob: body a");
    let confirmed = daemon.asked_for("/v1/inbox/offered").body;
    assert_eq!(confirmed, r#"{"ids":["a"],"path":"channel"}"#);
    // A hook was quicker with b.
    blocks.send(event("b", 2)).unwrap();
    blocks.send(event("c", 3)).unwrap();
    assert_eq!(shim.content(), "Bob: body c");
    assert_eq!(daemon.asked_for("/v1/inbox/offered").body, r#"{"ids":["c"],"path":"channel"}"#);
    shim.end();
}

#[test]
fn what_was_claimed_and_could_not_be_written_is_given_back() {
    /// Takes so many lines, and breaks.
    struct Breaks(usize);
    impl Write for Breaks {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(())
        }
    }
    let scratch = Scratch::new();
    let (_blocks, stream) = unbounded();
    let waiting = Arc::new(Mutex::new(vec![json!(["a", "b", "c", "d"].map(|id| item(id, 1)))]));
    let daemon = FakeDaemon::start(&scratch.paths(), move |asked| match asked.path.as_str() {
        "/v1/events" => Answer::Stream(stream.clone()),
        "/v1/inbox/claim" => {
            Answer::Json(200, encode(&json!({ "items": waiting.lock().unwrap().pop().unwrap_or_else(|| json!([])) })))
        }
        _ => Answer::Json(200, r#"{"changed":1}"#.into()),
    });
    let (near, Far { mut to_server, .. }) = Connection::memory().unwrap();
    // The answer to the first request, and one message.
    let near = Connection { output: Box::new(Breaks(2)), ..near };
    let options = options(&scratch, token());
    let running = thread::spawn("shim", 512 * 1024, move || run(near, options)).unwrap();
    to_server.write_all(format!("{INITIALIZE}\n{INITIALIZED}\n").as_bytes()).unwrap();
    assert_eq!(running.join_by(Instant::now() + Duration::from_secs(10)), Joined::Ended(Exit::Success));
    let mut given_back: Vec<String> = Vec::new();
    while given_back.len() < 3 {
        let asked = daemon.asked();
        match asked.path.as_str() {
            "/v1/inbox/offered" => assert_eq!(asked.body, r#"{"ids":["a"],"path":"channel"}"#),
            "/v1/inbox/unclaim" => {
                let body: Value = decode(asked.body.as_bytes()).unwrap();
                assert_eq!(body["path"], "channel");
                given_back.extend(body["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
            }
            _ => {}
        }
    }
    given_back.sort();
    assert_eq!(given_back, ["b", "c", "d"]);
}

#[test]
fn a_session_that_ended_still_gets_answers() {
    let scratch = Scratch::new();
    let daemon = FakeDaemon::start(&scratch.paths(), |_| Answer::Json(401, r#"{"error":"unknown session"}"#.into()));
    let mut shim = Shim::start(&scratch, token());
    shim.shake_hands();
    assert_eq!(daemon.asked().path, "/v1/events");
    assert_eq!(shim.ask(PING)["id"], 99);
    shim.end();
}

#[test]
fn the_end_of_input_ends_everything_whatever_the_daemon_does() {
    // Absent, mute, and one whose mail nobody reads.
    for kind in 0..3 {
        let scratch = Scratch::new();
        let mailbox = Mailbox::default();
        for seq in 0..2000 {
            mailbox.put(&format!("row-{seq}"), seq);
        }
        let daemon = match kind {
            0 => None,
            1 => Some(FakeDaemon::start(&scratch.paths(), |_| Answer::Silence)),
            _ => Some(mailbox.serve(&scratch)),
        };
        let mut shim = Shim::start(&scratch, token());
        shim.shake_hands();
        if let Some(daemon) = &daemon {
            daemon.asked();
        }
        if kind == 2 {
            // The pipe fills up: its first bytes are here, and it is not read on.
            assert_eq!(shim.content(), "Bob: body row-0");
        }
        let Far { to_server, from_server } = shim.far.take().unwrap();
        drop(to_server);
        let deadline = Instant::now() + Duration::from_secs(10);
        assert_eq!(shim.running.join_by(deadline), Joined::Ended(Exit::Success), "kind {kind}");
        drop(from_server);
    }
}

#[test]
fn replies_are_written_before_the_end() {
    let scratch = Scratch::new();
    let mut shim = Shim::start(&scratch, None);
    let many = format!("{PING}\n").repeat(300);
    let Far { mut to_server, from_server } = shim.far.take().unwrap();
    to_server.write_all(many.as_bytes()).unwrap();
    drop(to_server);
    assert_eq!(from_server.lines().count(), 300);
    assert_eq!(shim.running.join_by(Instant::now() + Duration::from_secs(10)), Joined::Ended(Exit::Success));
}

#[test]
fn a_real_socket_serves_as_well_as_a_pipe() {
    let scratch = Scratch::new();
    let (near, mut far) = UnixStream::pair().unwrap();
    let connection = Connection { input: Box::new(near.try_clone().unwrap()), output: Box::new(near) };
    let options = options(&scratch, None);
    let running = thread::spawn("shim", 512 * 1024, move || run(connection, options)).unwrap();
    writeln!(far, "{PING}").unwrap();
    far.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut far, &mut text).unwrap();
    assert_eq!(text, "{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{}}\n");
    assert_eq!(running.join_by(Instant::now() + Duration::from_secs(10)), Joined::Ended(Exit::Success));
}
