//! What the hooks of each session's client have said so far: whether there are any, which start of the session was greeted, and
//! how often in a row the end of a turn was held up.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::SessionId;
use crate::wire::ipc::{Path, TurnEnd};

/// A client that was started with hooks says so by one of them within this; after it, its channel is believed to be the way.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// A turn of which nothing was heard for so long, no tool and no end, is over.
const STILL: Duration = Duration::from_secs(15 * 60);

/// Two hooks of one event, as an installation and a plugin make them, ask this close together.
const ONE_EVENT: Duration = Duration::from_secs(5);

/// The table, a line for each session that has hooks. Guards nothing else.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<SessionId, Known>>);

#[derive(Debug, Default)]
struct Known {
    expected: Option<Instant>,
    heard: bool,
    /// When something of a turn was last heard.
    moved: Option<Instant>,
    greeted: Option<(String, Instant)>,
    held: u32,
}

impl Turns {
    /// This session's client was started with hooks.
    pub(super) fn expect(&self, session: &SessionId, now: Instant) {
        self.of(session, |known| known.expected = Some(now));
    }

    /// One of its hooks asked for mail.
    pub(super) fn heard(&self, session: &SessionId, path: Path, now: Instant) {
        self.of(session, |known| {
            known.heard = true;
            if path != Path::Wake {
                known.moved = Some(now);
            }
        });
    }

    /// Whether a session that says it works is believed: a turn can end without any event of the client.
    pub(super) fn is_busy(&self, session: &SessionId, now: Instant) -> bool {
        let moved = self.lock().get(session).and_then(|known| known.moved);
        moved.is_none_or(|at| now.saturating_duration_since(at) < STILL)
    }

    /// Whether hooks bring this session its mail.
    pub(super) fn has_hooks(&self, session: &SessionId, now: Instant) -> bool {
        let table = self.lock();
        let is_due = |at: Instant| now.saturating_duration_since(at) < FIRST_WORD;
        table.get(session).is_some_and(|known| known.heard || known.expected.is_some_and(is_due))
    }

    /// Whether this start of the session was greeted already; it is from now on.
    pub(super) fn greet(&self, session: &SessionId, source: &str, now: Instant) -> bool {
        self.of(session, |known| {
            let last = known.greeted.replace((source.to_owned(), now));
            last.is_some_and(|(last, at)| last == source && now.saturating_duration_since(at) < ONE_EVENT)
        })
    }

    /// Whether the end of this turn may be held up once more. Every end that was held up counts, by whose hook ever.
    pub(super) fn may_hold(&self, session: &SessionId, end: TurnEnd) -> bool {
        self.of(session, |known| {
            known.held = if end.held { known.held.saturating_add(1) } else { 0 };
            end.most.is_none_or(|most| known.held < most)
        })
    }

    /// The session has ended.
    pub(super) fn end(&self, session: &SessionId) {
        self.lock().remove(session);
    }

    fn of<T>(&self, session: &SessionId, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.lock().entry(session.clone()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_believed_in_once_heard_and_for_a_while_before() {
        let turns = Turns::default();
        let (one, two) = (SessionId::new("one"), SessionId::new("two"));
        let now = Instant::now();
        turns.expect(&one, now);
        turns.heard(&two, Path::Prompt, now);
        turns.heard(&two, Path::Wake, now + STILL);
        assert!(turns.is_busy(&two, now + STILL - ONE_EVENT) && !turns.is_busy(&two, now + STILL));
        assert!(turns.is_busy(&one, now + STILL), "nothing is known of it");
        for (session, seconds, expected) in [(&one, 0, true), (&one, 9, true), (&one, 10, false), (&two, 9999, true)] {
            assert_eq!(turns.has_hooks(session, now + Duration::from_secs(seconds)), expected, "{session} {seconds}");
        }
        turns.end(&two);
        assert!(!turns.has_hooks(&two, now));
    }

    #[test]
    fn a_start_is_greeted_once() {
        let turns = Turns::default();
        let session = SessionId::new("one");
        let now = Instant::now();
        for (source, seconds, greeted) in
            [("startup", 0, false), ("startup", 1, true), ("compact", 2, false), ("compact", 60, false), ("compact", 61, true)]
        {
            assert_eq!(turns.greet(&session, source, now + Duration::from_secs(seconds)), greeted, "{source} {seconds}");
        }
    }

    #[test]
    fn an_end_is_held_up_as_often_as_the_client_allows() {
        let turns = Turns::default();
        let session = SessionId::new("one");
        let end = |held, most| turns.may_hold(&session, TurnEnd { held, most });
        assert!(end(false, Some(2)));
        assert!(end(true, Some(2)));
        assert!(!end(true, Some(2)), "two were held up");
        assert!(!end(true, Some(2)));
        assert!(end(true, None), "this client counts none");
        assert!(end(false, Some(2)), "the next turn");
        assert!(!end(false, Some(0)));
    }
}
