//! `GET /topics/<name>/stream`: what is said in a topic, as it is said, as server-sent events.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::base::time::{iso, now_millis};
use crate::broker::Shared;
use crate::net::http1;
use crate::net::sse;
use crate::net::stream::{Stream, read_by, write_all_by};
use crate::store::hub::{NewsFrom, TopicRow};
use crate::sys::poll;
use crate::wire::apikey::KeyCapability;
use crate::wire::http_api::StreamReady;
use crate::wire::json::{self, json};

use super::super::answer::{Answer, Ask};
use super::budget::Place;
use super::{Caller, read, refused, unavailable};

/// How often a stream looks for what is new, and whether its key still counts.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How long one write may take to be taken.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// How long is looked for whether a client that has become readable has hung up.
const GLANCE: Duration = Duration::from_millis(20);

/// Messages written at a time.
const PAGE: usize = 20;

/// A stream that may begin.
#[derive(Debug)]
pub(super) struct Open<'a> {
    caller: Caller,
    topic: TopicRow,
    from: NewsFrom,
    _place: Place<'a>,
}

/// What one look has found.
enum Look {
    /// There may be more at once.
    More,
    Done,
    /// The stream is over, and why.
    Over(Answer),
}

pub(super) fn open<'a>(shared: &'a Shared, ask: &Ask<'_>, name: &str) -> Result<Open<'a>, Answer> {
    let caller = Caller::of(shared, ask)?;
    caller.may(KeyCapability::Read)?;
    let topic = caller.topic(shared, name)?;
    let place = shared.budget.stream(&caller.key.id);
    let place = place.ok_or_else(|| refused(429, "too_many_streams", "a key has at most 8 streams, and all keys 256"))?;
    let from = ask.head.header("last-event-id").map_or(NewsFrom::Now, |id| NewsFrom::Message(id.to_owned()));
    Ok(Open { caller, topic, from, _place: place })
}

fn event(out: &mut Vec<u8>, id: Option<&str>, name: &str, data: &str) -> io::Result<()> {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    sse::write_event(out, None, name, data)
}

impl Open<'_> {
    /// Writes what is said until the client leaves, the key counts no more, or the broker stops.
    pub(super) fn run(mut self, shared: &Shared, stream: &mut Stream) -> io::Result<()> {
        let mut out = Vec::new();
        http1::start_sse(&mut out)?;
        let (topic, topic_id) = (&self.topic.name, &self.topic.id);
        let ready = StreamReady { topic, topic_id, connected_at: iso(now_millis()) };
        event(&mut out, None, "ready", &json::encode(&ready))?;
        let mut alive_at = Instant::now() + HEARTBEAT;
        loop {
            // The first look finds the place before the client hears of `ready`: what is said after that is in the stream.
            let look = self.look(shared, &mut out)?;
            match &look {
                Look::Over(why) => event(&mut out, None, "error", why.body())?,
                Look::Done if out.is_empty() && alive_at <= Instant::now() => {
                    event(&mut out, None, "heartbeat", &json!({"at": iso(now_millis())}).to_string())?;
                }
                Look::Done | Look::More => {}
            }
            if !out.is_empty() {
                write_all_by(stream, &out, Instant::now() + WRITE_DEADLINE)?;
                out.clear();
                alive_at = Instant::now() + HEARTBEAT;
            }
            let ends = match look {
                Look::Over(_) => true,
                Look::More => false,
                Look::Done => has_left(stream)?,
            };
            if ends || shared.is_stopping() {
                return Ok(());
            }
        }
    }

    /// Adds what is new to `out`.
    fn look(&mut self, shared: &Shared, out: &mut Vec<u8>) -> io::Result<Look> {
        if let Err(why) = self.caller.again(shared).and_then(|()| self.caller.topic(shared, &self.topic.id)) {
            return Ok(Look::Over(why));
        }
        let (seq, rows) = match shared.hub.topic_news(self.topic.id.clone(), self.from.clone(), PAGE) {
            Ok(news) => news,
            Err(err) => return Ok(Look::Over(unavailable(shared, &err))),
        };
        self.from = NewsFrom::After(seq);
        let more = PAGE <= rows.len();
        for message in rows.into_iter().map(read::shown) {
            event(out, Some(&message.id), "message", &json::encode(&message))?;
        }
        Ok(if more { Look::More } else { Look::Done })
    }
}

/// Waits a little; whether the client has hung up meanwhile. What it says is not listened to.
fn has_left(stream: &mut Stream) -> io::Result<bool> {
    let ready = poll::wait_one(stream.as_fd(), true, false, None, Some(LOOK_EVERY))?;
    if !ready.event.any() {
        return Ok(false);
    }
    match read_by(stream, &mut [0; 256], Instant::now() + GLANCE) {
        Ok(read) => Ok(read == 0),
        Err(err) if err.kind() == io::ErrorKind::TimedOut => Ok(false),
        Err(err) => Err(err),
    }
}
