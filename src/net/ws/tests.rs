use std::cell::Cell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

pub(crate) const LIMITS: Limits = Limits { max_message: 1 << 20, read_buffer: 4096 };

/// A state that answers, counts and obeys.
#[derive(Default)]
pub(crate) struct Drill {
    pub(crate) texts: Vec<String>,
    pub(crate) received: usize,
    pub(crate) keep: bool,
    echo: bool,
    close_after: Option<usize>,
    pause_after: Option<usize>,
    bursts: Arc<AtomicUsize>,
    alive: usize,
    deadline: Option<Instant>,
    deadlines: usize,
    deaf: bool,
    busy: bool,
    flood: usize,
    asked: Cell<usize>,
}

pub(crate) enum Cmd {
    Say(String),
    Close(u16),
    Rest,
}

impl Peer for Drill {
    type Cmd = Cmd;

    fn on_text(&mut self, text: &str, _now: Instant, out: &mut Outbox) -> Flow {
        self.received += 1;
        if self.keep {
            self.texts.push(text.to_owned());
        }
        if self.echo {
            out.text(text);
        }
        for _ in 0..self.flood {
            out.text("x".repeat(1 << 20));
        }
        if self.pause_after == Some(self.received) {
            return Flow::Pause;
        }
        match self.close_after == Some(self.received) {
            true => Flow::close(code::NORMAL, "done"),
            false => Flow::Go,
        }
    }

    fn on_cmd(&mut self, cmd: Cmd, _now: Instant, out: &mut Outbox) -> Flow {
        match cmd {
            Cmd::Say(text) => out.text(text),
            Cmd::Rest => self.busy = true,
            Cmd::Close(code) => return Flow::close(code, "é".repeat(100)),
        }
        Flow::Go
    }

    fn on_burst_end(&mut self, _now: Instant, _out: &mut Outbox) -> Flow {
        self.bursts.fetch_add(1, Ordering::SeqCst);
        Flow::Go
    }

    fn on_alive(&mut self, now: Instant) {
        self.alive += 1;
        // What a ping waited for; then nothing comes until the next.
        if 0 < self.deadlines {
            self.deadline = Some(now + Duration::from_millis(5));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Flow {
        if self.deaf || self.busy {
            (self.deaf, self.busy, self.deadline) = (false, false, None);
            return Flow::Go;
        }
        self.deadlines += 1;
        if self.deadlines == 3 {
            return Flow::close(code::POLICY, "silent");
        }
        out.ping();
        self.deadline = Some(now + Duration::from_secs(10));
        Flow::Go
    }

    fn wants_read(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        !self.deaf
    }

    fn wants_cmd(&self) -> bool {
        !self.busy
    }
}

type Pair = (WebSocket<UnixStream>, WebSocket<UnixStream>);

fn pair() -> Pair {
    let (server, client) = streams();
    (WebSocket::server(server, Vec::new(), LIMITS), WebSocket::client(client, Vec::new(), LIMITS))
}

fn streams() -> (UnixStream, UnixStream) {
    let (server, client) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    (server, client)
}

/// One frame as a client sends it, masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
        len => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Both ends post `count` texts of `size` bytes at once; each closes the moment it has them all.
pub(crate) fn drill<A, B>(mut server: WebSocket<A>, mut client: WebSocket<B>, count: usize, size: usize)
where
    A: Read + Write + AsFd + Send,
    B: Read + Write + AsFd + Send,
{
    fn feed(handle: Handle<Cmd>, count: usize, size: usize, release: &std::sync::mpsc::Receiver<()>) {
        let text = "m".repeat(size);
        for _ in 0..count {
            let mut cmd = Cmd::Say(text.clone());
            while let Err(TrySendError::Full(back)) = handle.try_send(cmd) {
                cmd = back;
                thread::yield_now();
            }
        }
        // Both ends must have received everything before either handle goes, since that closes.
        let _ = release.recv();
    }
    struct Counting(Drill, usize, std::sync::mpsc::Sender<()>);
    impl Peer for Counting {
        type Cmd = Cmd;
        fn on_text(&mut self, text: &str, now: Instant, out: &mut Outbox) -> Flow {
            let flow = self.0.on_text(text, now, out);
            if self.0.received == self.1 {
                let _ = self.2.send(());
            }
            flow
        }
        fn on_cmd(&mut self, cmd: Cmd, now: Instant, out: &mut Outbox) -> Flow {
            self.0.on_cmd(cmd, now, out)
        }
        fn deadline(&self) -> Option<Instant> {
            None
        }
        fn on_deadline(&mut self, _now: Instant, _out: &mut Outbox) -> Flow {
            Flow::Go
        }
    }
    thread::scope(|scope| {
        let (done, both) = std::sync::mpsc::channel();
        let mut releases = Vec::new();
        let mut ends = Vec::new();
        let (one, other) = (channel(64).unwrap(), channel(64).unwrap());
        for handle in [one.0, other.0] {
            let (release, wait) = std::sync::mpsc::channel();
            releases.push(release);
            scope.spawn(move || feed(handle, count, size, &wait));
        }
        let (inbox, mut peer) = (one.1, Counting(Drill::default(), count, done.clone()));
        ends.push(scope.spawn(move || (run(&mut server, &mut peer, &inbox), peer.0.received)));
        let (inbox, mut peer) = (other.1, Counting(Drill::default(), count, done));
        ends.push(scope.spawn(move || (run(&mut client, &mut peer, &inbox), peer.0.received)));
        for _ in 0..2 {
            both.recv_timeout(Duration::from_secs(60)).expect("an end never received everything");
        }
        drop(releases);
        for end in ends {
            let (end, received) = end.join().unwrap();
            assert_eq!(received, count, "{end}");
            assert!(matches!(end, End::ClosedByUs { .. } | End::ClosedByPeer { .. }), "{end}");
        }
    });
}

#[test]
fn two_busy_ends_finish() {
    let (server, client) = pair();
    drill(server, client, 400, 60_000);
    let (server, client) = pair();
    drill(server, client, 40, 900_000);
    let (server, client) = pair();
    drill(server, client, 20_000, 100);
}

#[test]
fn answers_closes_and_tells_the_other_end_why() {
    let (mut server, mut client) = pair();
    thread::scope(|scope| {
        let served = scope.spawn(move || {
            let (_handle, inbox) = channel(4).unwrap();
            run(&mut server, &mut Drill { echo: true, ..Drill::default() }, &inbox)
        });
        let (handle, inbox) = channel(4).unwrap();
        handle.try_send(Cmd::Say("hello".into())).unwrap();
        let mut peer = Drill { keep: true, close_after: Some(1), ..Drill::default() };
        let end = run(&mut client, &mut peer, &inbox);
        assert!(matches!(end, End::ClosedByUs { code: code::NORMAL }) || matches!(end, End::Lost(_)), "{end}");
        drop(client);
        assert_eq!(peer.texts, ["hello"]);
        let end = served.join().unwrap();
        assert!(matches!(&end, End::ClosedByPeer { code: code::NORMAL, reason } if reason == "done"), "{end}");
    });
}

#[test]
fn closes_when_the_last_handle_goes_and_cuts_long_reasons() {
    let (mut server, mut client) = pair();
    thread::scope(|scope| {
        let (handle, inbox) = channel(4).unwrap();
        let served = scope.spawn(move || run(&mut server, &mut Drill::default(), &inbox));
        drop(handle);
        let (_handle, inbox) = channel(4).unwrap();
        let end = run(&mut client, &mut Drill::default(), &inbox);
        assert!(matches!(end, End::ClosedByPeer { code: code::GOING_AWAY, .. }), "{end}");
        assert!(matches!(served.join().unwrap(), End::ClosedByUs { code: code::GOING_AWAY }));
    });
    let (mut server, mut client) = pair();
    thread::scope(|scope| {
        let (handle, inbox) = channel(4).unwrap();
        handle.try_send(Cmd::Say("before".into())).unwrap();
        handle.try_send(Cmd::Close(4008)).unwrap();
        handle.try_send(Cmd::Say("after".into())).unwrap();
        scope.spawn(move || run(&mut server, &mut Drill::default(), &inbox));
        let (_handle, inbox) = channel(4).unwrap();
        let mut peer = Drill { keep: true, ..Drill::default() };
        let end = run(&mut client, &mut peer, &inbox);
        assert_eq!(peer.texts, ["before"]);
        assert!(matches!(&end, End::ClosedByPeer { code: 4008, reason } if *reason == "é".repeat(61)), "{end}");
    });
}

#[test]
fn deadlines_are_kept_without_traffic() {
    let (mut server, mut client) = pair();
    thread::scope(|scope| {
        let pinged = scope.spawn(move || {
            let (_handle, inbox) = channel(4).unwrap();
            let mut peer = Drill::default();
            (run(&mut client, &mut peer, &inbox), peer.alive)
        });
        let (_handle, inbox) = channel(4).unwrap();
        let mut peer = Drill { deadline: Some(Instant::now()), ..Drill::default() };
        let end = run(&mut server, &mut peer, &inbox);
        assert!(matches!(end, End::ClosedByUs { code: code::POLICY }), "{end}");
        assert_eq!(peer.alive, 2, "two pings were answered");
        drop(server);
        let (end, alive) = pinged.join().unwrap();
        assert!(matches!(end, End::ClosedByPeer { code: code::POLICY, .. }), "{end}");
        assert_eq!(alive, 3, "two pings and the close");
    });
}

/// Runs a server over what a client sends in one piece, and gives the end, the state, and the client's socket.
fn serve_bytes(bytes: &[u8], mut peer: Drill, hang_up: bool) -> (End, Drill, UnixStream) {
    let (server, mut client) = streams();
    client.set_nonblocking(false).unwrap();
    client.write_all(bytes).unwrap();
    if hang_up {
        client.shutdown(Shutdown::Write).unwrap();
    }
    let (_handle, inbox) = channel(4).unwrap();
    let mut ws = WebSocket::server(server, Vec::new(), LIMITS);
    let end = run(&mut ws, &mut peer, &inbox);
    (end, peer, client)
}

fn close_code(client: &mut UnixStream) -> u16 {
    let mut all = Vec::new();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.read_to_end(&mut all).unwrap();
    let at = all.iter().position(|byte| *byte == 0x88).expect("no close frame");
    u16::from_be_bytes([all[at + 2], all[at + 3]])
}

#[test]
fn broken_frames_are_answered_with_their_code() {
    let mut huge = vec![0x81, 0x80 | 127];
    huge.extend((u64::MAX >> 1).to_be_bytes());
    huge.extend([0; 4]);
    let mut long = vec![0x81, 0x80 | 127];
    long.extend((LIMITS.max_message as u64 + 1).to_be_bytes());
    long.extend([0; 200]);
    for (name, bytes, expect) in [
        ("oversized", long, code::TOO_BIG),
        ("absurd length", huge, code::TOO_BIG),
        ("unmasked", vec![0x81, 1, b'x'], code::PROTOCOL),
        ("reserved bits", vec![0xf1, 0x80, 0, 0, 0, 0], code::PROTOCOL),
        ("text that is not UTF-8", frame(1, b"\xff\xfe"), code::NOT_UTF8),
        ("binary that is not UTF-8", frame(2, b"\xff\xfe"), code::NOT_UTF8),
        ("continuation of nothing", frame(0, b"x"), code::PROTOCOL),
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), code::PROTOCOL),
    ] {
        let (end, _, mut client) = serve_bytes(&bytes, Drill::default(), true);
        assert!(matches!(&end, End::Protocol { code, .. } if *code == expect), "{name}: {end}");
        assert_eq!(close_code(&mut client), expect, "{name}");
    }
}

#[test]
fn a_burst_is_one_burst_and_binary_text_is_text() {
    let mut bytes = Vec::new();
    for _ in 0..20 {
        bytes.extend(frame(1, b"{}"));
    }
    bytes.extend(frame(2, b"{}"));
    bytes.extend(frame(9, b"ping"));
    let bursts = Arc::new(AtomicUsize::new(0));
    let (end, peer, _client) = serve_bytes(&bytes, Drill { bursts: bursts.clone(), ..Drill::default() }, true);
    assert!(matches!(&end, End::Lost(err) if err.kind() == io::ErrorKind::UnexpectedEof), "{end}");
    assert_eq!((peer.received, peer.alive), (21, 22));
    assert_eq!(bursts.load(Ordering::SeqCst), 1, "what came in one piece is stored in one piece, even if the peer left");
}

/// Counts what reaches the socket.
#[derive(Debug)]
struct Counted(UnixStream, Arc<AtomicUsize>);

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Counted {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[test]
fn queued_frames_leave_in_one_write() {
    let (server, mut client) = streams();
    let writes = Arc::new(AtomicUsize::new(0));
    let (handle, inbox) = channel(64).unwrap();
    for n in 0..50 {
        handle.try_send(Cmd::Say(format!("message {n}"))).unwrap();
    }
    handle.try_send(Cmd::Close(1000)).unwrap();
    client.write_all(&frame(8, &1000_u16.to_be_bytes())).unwrap();
    let mut ws = WebSocket::server(Counted(server, writes.clone()), Vec::new(), LIMITS);
    run(&mut ws, &mut Drill::default(), &inbox);
    assert_eq!(writes.load(Ordering::SeqCst), 1);
}

#[test]
fn a_stalled_reader_stops_the_queue_and_nothing_else() {
    let (mut server, mut client) = pair();
    thread::scope(|scope| {
        let (handle, inbox) = channel(8).unwrap();
        let mut peer = Drill { deadline: Some(Instant::now() + Duration::from_millis(200)), deadlines: 2, ..Drill::default() };
        let served = scope.spawn(move || {
            let end = run(&mut server, &mut peer, &inbox);
            (end, server)
        });
        // The client reads nothing: the socket fills, then the queue, and there it ends.
        let mut posted = 0;
        let full = Instant::now() + Duration::from_secs(10);
        let mut full_in_a_row = 0;
        while full_in_a_row < 2000 {
            match handle.try_send(Cmd::Say("x".repeat(60_000))) {
                Ok(()) => (posted, full_in_a_row) = (posted + 1, 0),
                Err(TrySendError::Full(_)) => full_in_a_row += 1,
                Err(TrySendError::Disconnected(_)) => break,
            }
            assert!(Instant::now() < full);
            thread::yield_now();
        }
        assert!(posted < 100, "{posted} messages were taken for a reader that does not read");
        // The deadline still fires, and the close handshake of a dead peer is bounded.
        let (end, server) = served.join().unwrap();
        assert!(matches!(end, End::ClosedByUs { code: code::POLICY }), "{end}");
        drop(server);
        let (_handle, inbox) = channel(1).unwrap();
        run(&mut client, &mut Drill::default(), &inbox);
    });
}

#[test]
fn a_state_can_refuse_to_read_and_to_take_commands() {
    let (server, client) = streams();
    client.set_nonblocking(false).unwrap();
    let mut ws = WebSocket::server(server, Vec::new(), LIMITS);
    let (handle, inbox) = channel(8).unwrap();
    (&client).write_all(&frame(1, b"waits")).unwrap();
    handle.try_send(Cmd::Rest).unwrap();
    handle.try_send(Cmd::Say("held back".into())).unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        let lifted = start + Duration::from_millis(100);
        let mut peer = Drill { deaf: true, echo: true, deadline: Some(lifted), ..Drill::default() };
        let served = scope.spawn(move || (run(&mut ws, &mut peer, &inbox), peer));
        // Moved in here, so that a failed assertion hangs up.
        let mut client = client;
        let mut buf = [0; 64];
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut said = Vec::new();
        while said.len() < 7 + 11 {
            let read = client.read(&mut buf).unwrap();
            assert!(lifted <= Instant::now(), "deaf and busy, it still spoke");
            said.extend_from_slice(&buf[..read]);
        }
        assert_eq!(said, b"\x81\x09held back\x81\x05waits"[..].to_vec(), "both were only held back");
        client.write_all(&frame(8, &1000_u16.to_be_bytes())).unwrap();
        let (end, peer) = served.join().unwrap();
        assert!(matches!(end, End::ClosedByPeer { code: 1000, .. }), "{end}");
        assert!(peer.asked.get() < 100, "it spun: asked {} times", peer.asked.get());
    });
}

#[test]
fn a_state_that_says_too_much_is_cut_off() {
    let (end, _, mut client) = serve_bytes(&frame(1, b"go"), Drill { flood: 9, ..Drill::default() }, true);
    assert!(matches!(end, End::ClosedByUs { code: code::TRY_LATER }), "{end}");
    assert_eq!(close_code(&mut client), code::TRY_LATER);
}

#[test]
fn a_paused_connection_goes_on_elsewhere_and_loses_nothing() {
    let (server, client) = streams();
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut ws = WebSocket::server(server, Vec::new(), LIMITS);
    let (handle, inbox) = channel(8).unwrap();
    (&client).write_all(&[frame(1, b"first"), frame(1, b"second")].concat()).unwrap();
    thread::scope(|scope| {
        // Moved in here, so that a failed assertion hangs up.
        let mut client = client;
        // More than the socket holds is still to be said when it pauses, and more to be heard.
        let mut peer = Drill { flood: 1, pause_after: Some(1), ..Drill::default() };
        assert!(matches!(run(&mut ws, &mut peer, &inbox), End::Paused));
        assert_eq!(peer.received, 1);
        handle.try_send(Cmd::Say("posted meanwhile".into())).unwrap();
        let served = scope.spawn(move || run(&mut ws, &mut peer, &inbox));
        let (long, posted) = (10 + (1 << 20), 2 + "posted meanwhile".len());
        let mut heard = vec![0; 2 * long + posted];
        client.read_exact(&mut heard).unwrap();
        assert!(heard[10..long].iter().all(|byte| *byte == b'x'), "what was queued comes first, and whole");
        assert_eq!(heard[long..].iter().filter(|byte| **byte == b'x').count(), 1 << 20);
        assert!(heard.windows(posted - 2).any(|window| window == b"posted meanwhile"));
        client.write_all(&frame(8, &1000_u16.to_be_bytes())).unwrap();
        let end = served.join().unwrap();
        assert!(matches!(end, End::ClosedByPeer { code: 1000, .. }), "{end}");
    });
}
