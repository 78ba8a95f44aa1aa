//! The daemon's events, for as long as anybody wants them: reconnects by itself and asks for what it missed.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::backoff::Backoff;
use crate::base::ids::Token;
use crate::net::http_client::{ClientError, Streaming};
use crate::net::sse::{self, Parser};
use crate::net::stream::Shutter;
use crate::wire::event::Event;
use crate::wire::limits::STREAM_KEEPALIVE;

use super::http::{Ask, Connection, Repeat};
use super::{Client, Error, id, refusal};

/// For connecting and for the head of the reply.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// Silence after which the stream counts as dead: three keepalives missed.
const SILENCE: Duration = STREAM_KEEPALIVE.saturating_mul(3);

/// A connection that lived this long was a good one, so the next wait begins at the floor again.
const GOOD_AFTER: Duration = Duration::from_secs(2);

const FLOOR: Duration = Duration::from_millis(50);
const CEILING: Duration = Duration::from_secs(2);

/// Largest refusal that is read, in bytes.
const MAX_REFUSAL: usize = 16 * 1024;

/// Largest event, in bytes: the largest message with every character escaped, twice over.
const MAX_EVENT: usize = 1024 * 1024;

/// What happens on a subscription.
#[derive(Debug)]
pub enum Item {
    /// The stream is open: what happens from now on, and what was missed since the last id, will come.
    Connected,
    Event {
        /// Its place in the stream, for events that have one.
        id: Option<u64>,
        event: Box<Event>,
    },
    /// The stream ended; it is opened again, unless the reason is a 401: then nothing follows.
    Lost(Lost),
}

/// Why a stream ended.
#[derive(Debug)]
pub enum Lost {
    /// We read too slowly.
    Lagged,
    /// The daemon stops, or closed the stream.
    Ended,
    /// It could not be opened, or broke.
    Failed(Error),
}

/// A subscription: blocks in `next` until something happens or [`Stop::stop`] is called.
#[derive(Debug)]
pub struct Events {
    socket: PathBuf,
    token: Option<Token>,
    cursor: Option<u64>,
    backoff: Backoff,
    state: State,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum State {
    /// Connects as soon as asked.
    Idle,
    /// Waits before it connects.
    Waiting,
    Open(Box<Open>),
    Over,
}

#[derive(Debug)]
struct Open {
    stream: Streaming,
    parser: Parser,
    /// Parsed and not handed out yet.
    ready: VecDeque<sse::Event>,
    since: Instant,
}

/// Ends a subscription from any thread.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Guards whether to stop, and the handle of the connection that a stop must cut.
    control: Mutex<Control>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct Control {
    stop: bool,
    stream: Option<Shutter>,
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over the connection to be cut. False when it is too late.
    fn attach(&self, stream: Option<Shutter>) -> bool {
        let mut control = self.control();
        control.stream = stream;
        !control.stop
    }

    /// Waits, unless stopped before. False when stopped.
    fn wait(&self, span: Duration) -> bool {
        let waited = self.stopped.wait_timeout_while(self.control(), span, |control| !control.stop);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }
}

impl Stop {
    /// The iterator returns `None` from now on, at once even when it is waiting.
    pub fn stop(&self) {
        let stream = {
            let mut control = self.0.control();
            control.stop = true;
            control.stream.take()
        };
        self.0.stopped.notify_all();
        if let Some(stream) = stream {
            stream.shut();
        }
    }
}

/// Subscribes for the client's session. With `after`, begins with what followed that event.
pub fn subscribe(client: &Client, after: Option<u64>) -> (Events, Stop) {
    let shared = Arc::new(Shared::default());
    let events = Events {
        socket: client.socket().to_owned(),
        token: client.token().cloned(),
        cursor: after,
        backoff: Backoff::new(FLOOR, CEILING),
        state: State::Idle,
        shared: Arc::clone(&shared),
    };
    (events, Stop(shared))
}

impl Events {
    /// The last event seen, or what the subscription began after.
    pub fn cursor(&self) -> Option<u64> {
        self.cursor
    }

    fn open(&mut self) -> Result<Open, Error> {
        let deadline = Instant::now() + OPEN_DEADLINE;
        let connection = Connection::open(&self.socket, deadline)?;
        if !self.shared.attach(Some(connection.shutter()?)) {
            return Err(Error::Io(io::ErrorKind::Interrupted.into()));
        }
        let ask = Ask { method: "GET", path: "/v1/events", token: self.token.as_ref(), body: None, repeat: Repeat::Never };
        let mut stream = connection.follow(&ask, self.cursor, deadline)?;
        if stream.head.status != 200 {
            let mut text = Vec::new();
            // Its status says enough when the text does not arrive.
            while let Ok(Some(part)) = stream.read_by(deadline)
                && text.len() < MAX_REFUSAL
            {
                text.extend(part);
            }
            return Err(refusal(stream.head.status, &text));
        }
        Ok(Open { stream, parser: Parser::new(MAX_EVENT), ready: VecDeque::new(), since: Instant::now() })
    }

    /// The stream is over: how long it lived decides how soon the next one is tried.
    fn lose(&mut self, lost: Lost) -> Item {
        self.shared.attach(None);
        if let State::Open(open) = &self.state
            && GOOD_AFTER <= open.since.elapsed()
        {
            self.backoff.reset();
        }
        self.state = match &lost {
            Lost::Failed(Error::Refused { status: 401, .. }) => State::Over,
            Lost::Lagged => State::Idle,
            Lost::Ended | Lost::Failed(_) => State::Waiting,
        };
        Item::Lost(lost)
    }

    fn is_stopped(&self) -> bool {
        self.shared.control().stop
    }

    fn advance(&mut self) -> Option<Item> {
        match &mut self.state {
            State::Over => None,
            State::Waiting => {
                let delay = self.backoff.next(id::jitter());
                self.state = if self.shared.wait(delay) { State::Idle } else { State::Over };
                self.advance()
            }
            State::Idle => match self.open() {
                Ok(open) => {
                    self.state = State::Open(Box::new(open));
                    Some(Item::Connected)
                }
                Err(err) => Some(self.lose(Lost::Failed(err))),
            },
            State::Open(open) => match read_event(open) {
                Ok((_, Event::Lagged(_))) => Some(self.lose(Lost::Lagged)),
                Ok((_, Event::Bye(_))) => Some(self.lose(Lost::Ended)),
                Ok((id, event)) => {
                    self.cursor = id.or(self.cursor);
                    self.backoff.reset();
                    Some(Item::Event { id, event: Box::new(event) })
                }
                Err(lost) => Some(self.lose(lost)),
            },
        }
    }
}

impl Iterator for Events {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.is_stopped() {
            self.state = State::Over;
        }
        let item = self.advance();
        // What a stop cut off is not worth a word.
        item.filter(|_| !self.is_stopped())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.attach(None);
    }
}

/// The next event that this program knows.
fn read_event(open: &mut Open) -> Result<(Option<u64>, Event), Lost> {
    let mut items = Vec::new();
    loop {
        while let Some(block) = open.ready.pop_front() {
            if let Some(event) = Event::read(&block.event, &block.data) {
                return Ok((block.id.and_then(|id| id.parse().ok()), event));
            }
        }
        let bytes = match open.stream.read_by(Instant::now() + SILENCE) {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(ClientError::Closed | ClientError::Reset) => return Err(Lost::Ended),
            Err(err) => return Err(Lost::Failed(err.into())),
        };
        if open.parser.push(&bytes, &mut items).is_err() {
            return Err(Lost::Failed(Error::Protocol("an event larger than any".to_owned())));
        }
        open.ready.extend(items.drain(..).filter_map(|item| match item {
            sse::Item::Event(event) => Some(event),
            sse::Item::Retry(_) => None,
        }));
    }
}
