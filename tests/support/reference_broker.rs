//! A fake of the reference's (TypeScript) broker, in this process: its checks, its texts, its reply names and its faults.
//! It shares nothing with our broker but the WebSocket codec; what it signs and checks is spelled out here once more.

mod hello;
mod messages;
mod requests;
mod state;

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use claudemesh::crypto::keys::KeyPair;
use claudemesh::crypto::random;
use claudemesh::net::http1;
use claudemesh::net::stream::Stream;
use claudemesh::net::ws::{self, Flow, Outbox};
use serde_json::Value;

use self::state::Cmd;
pub(crate) use self::state::{Rules, Seen, State};
use super::wait::PATIENCE;

/// Its `MAX_MESSAGE_BYTES`; a longer frame is closed with 1009.
const SOCKET: ws::Limits = ws::Limits { max_message: 65_536, read_buffer: 4096 };

/// Frames that wait for one client. The tests send fewer.
const QUEUE: usize = 4096;

/// Longest wait for a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// A member of the fake's mesh.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) keys: KeyPair,
}

/// One broker with one mesh.
#[derive(Debug)]
pub(crate) struct ReferenceBroker {
    pub(crate) mesh: String,
    address: String,
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReferenceBroker {
    pub(crate) fn start(rules: Rules) -> ReferenceBroker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mesh = random::id32();
        let shared = Arc::new(Shared { state: Mutex::new(State::new(mesh.clone(), rules)), changed: Condvar::new() });
        let stopping = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let (shared, stopping) = (shared.clone(), stopping.clone());
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = shared.clone();
                    std::thread::spawn(move || serve(&shared, stream));
                }
            }
        });
        ReferenceBroker { mesh, address, shared, stopping }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    pub(crate) fn add_member(&self, name: &str) -> Member {
        let member = Member { id: random::id32(), name: name.to_owned(), keys: KeyPair::generate() };
        self.shared.lock().add_member(&member);
        member
    }

    /// Changes how it behaves, or does something to it.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.shared.lock());
        self.shared.changed.notify_all();
        value
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.lock().seen.clone()
    }

    /// Waits until its state satisfies `condition`.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut condition: impl FnMut(&mut State) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            if let Some(value) = condition(&mut state) {
                return value;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {what}; it saw {:#?}", state.seen);
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for ReferenceBroker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; if nobody listens any more it has ended already.
        let _ = TcpStream::connect(&self.address);
        self.shared.lock().drop_sockets();
    }
}

/// One connection to its end.
fn serve(shared: &Arc<Shared>, stream: TcpStream) {
    let deadline = Instant::now() + HEAD_DEADLINE;
    let Ok(copy) = stream.try_clone() else { return };
    let mut stream = Stream::Tcp(stream);
    let Ok(mut head) = http1::read_head(&mut stream, deadline) else { return };
    // It compares the whole target, and hangs up on any other without a word.
    if head.target.path != "/ws" || head.target.query.iter().next().is_some() {
        return;
    }
    let Ok(mut socket) = ws::accept(stream, &mut head, SOCKET, deadline) else { return };
    let Ok((handle, inbox)) = ws::channel(QUEUE) else { return };
    let id = shared.lock().open_socket(handle, copy);
    let mut peer = Peer { id, shared: shared.clone() };
    let end = ws::run(&mut socket, &mut peer, &inbox);
    let mut state = shared.lock();
    state.closed(id, &end);
    drop(state);
    shared.changed.notify_all();
}

/// One client's socket: everything it says is handled under the one lock, in no particular hurry.
struct Peer {
    id: u64,
    shared: Arc<Shared>,
}

impl ws::Peer for Peer {
    type Cmd = Cmd;

    fn on_text(&mut self, text: &str, now: Instant, _out: &mut Outbox) -> Flow {
        let mut state = self.shared.lock();
        state.sweep(now);
        state.seen.largest_frame = state.seen.largest_frame.max(text.len());
        // Malformed JSON is swallowed.
        if let Ok(frame) = serde_json::from_str::<Value>(text) {
            state.on_frame(self.id, frame, now);
        }
        drop(state);
        self.shared.changed.notify_all();
        Flow::Go
    }

    fn on_cmd(&mut self, cmd: Cmd, _now: Instant, out: &mut Outbox) -> Flow {
        match cmd {
            Cmd::Text(text) => out.text(text),
            Cmd::Close(code, reason) => return Flow::close(code, reason),
        }
        Flow::Go
    }

    fn deadline(&self) -> Option<Instant> {
        self.shared.lock().next_delayed(self.id)
    }

    fn on_deadline(&mut self, now: Instant, _out: &mut Outbox) -> Flow {
        self.shared.lock().release_delayed(self.id, now);
        self.shared.changed.notify_all();
        Flow::Go
    }
}
