//! A subscriber of `GET /v1/events` that comes back with its cursor whenever its connection ends, as a client should.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::wait::{Gate, PATIENCE};

/// One event as it came.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: Value,
    pub(crate) at: Instant,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    /// How many of them are messages.
    messages: usize,
    cursor: Option<u64>,
    /// Streams that were accepted so far.
    streams: u64,
    stream: Option<UnixStream>,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscriber, with everything it has heard.
#[derive(Debug)]
pub(crate) struct Follower {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Returns once the daemon has accepted the stream, so that nothing published later is missed.
    #[track_caller]
    pub(crate) fn start(socket: PathBuf, token: Option<String>, cursor: Option<u64>, up: Gate) -> Follower {
        let shared = Arc::new(Shared::default());
        shared.lock().cursor = cursor;
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                while !shared.lock().stopped {
                    let seen = up.count();
                    if listen(&shared, &socket, token.as_deref()).is_err() {
                        up.wait_past(seen, Duration::from_millis(20));
                    }
                }
            }
        });
        let follower = Follower { shared, thread: Some(thread) };
        follower.wait("the event stream to be accepted", |state| (0 < state.streams).then_some(()));
        follower
    }

    /// Waits until what was heard satisfies `condition`.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut condition: impl FnMut(&[Event]) -> Option<T>) -> T {
        self.wait(what, |state| condition(&state.events))
    }

    /// Waits for the message of this client id.
    #[track_caller]
    pub(crate) fn message(&self, id: &str) -> Event {
        self.until(&format!("the message {id}"), |events| {
            events.iter().find(|event| event.name == "message" && event.data["client_message_id"] == id).cloned()
        })
    }

    /// Waits until this many messages have come; when the last of them did.
    #[track_caller]
    pub(crate) fn count(&self, messages: usize) -> Instant {
        let last = |state: &State| state.events.iter().rev().find(|event| event.name == "message").map(|event| event.at);
        self.wait("all messages", |state| if messages <= state.messages { last(state) } else { None })
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }

    pub(crate) fn messages(&self) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.name == "message").collect()
    }

    /// Cuts the connection; the subscriber comes back with its cursor.
    pub(crate) fn cut(&self) {
        if let Some(stream) = &self.shared.lock().stream {
            // Gone already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, mut condition: impl FnMut(&State) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            if let Some(value) = condition(&state) {
                return value;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {what}; {} events came", state.events.len());
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.cut();
        if let Some(thread) = self.thread.take() {
            // It panics only where this test has failed already.
            let _ = thread.join();
        }
    }
}

/// One connection, to its end.
fn listen(shared: &Shared, socket: &Path, token: Option<&str>) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let mut head = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n".to_owned();
    if let Some(token) = token {
        head.push_str(&format!("Authorization: ClaudeMesh-Session {token}\r\n"));
    }
    if let Some(cursor) = shared.lock().cursor {
        head.push_str(&format!("Last-Event-ID: {cursor}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    {
        let mut state = shared.lock();
        if state.stopped {
            return Ok(());
        }
        state.stream = Some(stream.try_clone()?);
    }
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next().transpose()?.unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(status));
    }
    let (mut id, mut name, mut data) = (None, String::new(), String::new());
    for line in lines {
        let line = line?;
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.parse().ok();
        } else if let Some(text) = line.strip_prefix("event: ") {
            text.clone_into(&mut name);
        } else if let Some(text) = line.strip_prefix("data: ") {
            text.clone_into(&mut data);
        } else if line == ": connected" {
            shared.lock().streams += 1;
            shared.changed.notify_all();
        } else if line.is_empty() && !data.is_empty() {
            let data = serde_json::from_str(&std::mem::take(&mut data)).map_err(io::Error::other)?;
            let mut state = shared.lock();
            state.cursor = id.or(state.cursor);
            state.messages += usize::from(name == "message");
            state.events.push(Event { id: id.take(), name: std::mem::take(&mut name), data, at: Instant::now() });
            drop(state);
            shared.changed.notify_all();
        }
    }
    Ok(())
}
