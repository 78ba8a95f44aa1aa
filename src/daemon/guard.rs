//! Keeps two sessions from waking each other for ever. For each sender and session there is a budget of automatic wake-ups
//! within a window; beyond it mail waits for a person. What repeats an earlier message word for word wakes nobody. Kept in
//! memory alone: a restart of the daemon is a person's doing.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::SessionId;
use crate::wire::ipc::{GuardReport, HeldPair};

/// Pairs remembered at once. When full, those that were quiet for longest are forgotten.
const MAX_PAIRS: usize = 2048;

/// Messages of one pair that are remembered: as many as one claim takes at most.
const MAX_TEXTS: usize = 200;

/// Pairs that a report names.
const NAMED: usize = 20;

/// How much is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) window: Duration,
    pub(super) wakes: usize,
}

/// The table. Guards nothing else.
#[derive(Debug, Default)]
pub(super) struct Guard(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    pairs: HashMap<(SessionId, String), Pair>,
    repeats: u64,
}

#[derive(Debug, Default)]
struct Pair {
    wakes: VecDeque<Instant>,
    texts: VecDeque<Text>,
}

/// What was on its way to the model.
#[derive(Debug)]
struct Text {
    at: Instant,
    print: u64,
    /// Of the message's row: what falls back and is claimed anew is no repeat of itself.
    id: u64,
}

/// A message, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    /// Of its row.
    pub(super) id: &'a str,
    /// The key as stored.
    pub(super) sender: &'a str,
    pub(super) text: &'a str,
}

impl Guard {
    /// Senders (their keys as stored) whose mail must not wake this session now.
    pub(super) fn held(&self, session: &SessionId, budget: Budget, now: Instant) -> Vec<String> {
        let mut known = self.lock();
        known.forget(budget, now);
        let spent = |(key, pair): (&(SessionId, String), &Pair)| {
            (key.0 == *session && budget.wakes <= pair.wakes.len()).then(|| key.1.clone())
        };
        known.pairs.iter().filter_map(spent).collect()
    }

    /// Notes a message that is about to be offered; false if it repeats another one and must not be.
    pub(super) fn admit(&self, session: &SessionId, message: &Message<'_>, budget: Budget, now: Instant) -> bool {
        let text = Text { at: now, print: print(message.text), id: print(message.id) };
        let mut known = self.lock();
        known.forget(budget, now);
        let pair = known.pairs.entry((session.clone(), message.sender.to_owned())).or_default();
        if let Some(earlier) = pair.texts.iter().find(|earlier| earlier.print == text.print || earlier.id == text.id) {
            let repeats = earlier.id != text.id;
            known.repeats += u64::from(repeats);
            return !repeats;
        }
        pair.texts.push_back(text);
        if MAX_TEXTS < pair.texts.len() {
            pair.texts.pop_front();
        }
        true
    }

    /// Notes that these messages woke this session: each of their senders has spent one wake-up.
    pub(super) fn woke<'a>(&self, session: &SessionId, ids: impl IntoIterator<Item = &'a str>, now: Instant) {
        let ids: Vec<u64> = ids.into_iter().map(print).collect();
        let mut known = self.lock();
        for (_, pair) in known.pairs.iter_mut().filter(|((of, _), _)| of == session) {
            if pair.texts.iter().any(|text| ids.contains(&text.id)) {
                pair.wakes.push_back(now);
            }
        }
    }

    /// Whether this session was woken less than `ago` before now.
    pub(super) fn woken_within(&self, session: &SessionId, ago: Duration, now: Instant) -> bool {
        let known = self.lock();
        let mut last = known.pairs.iter().filter(|((of, _), _)| of == session).filter_map(|(_, pair)| pair.wakes.back());
        last.any(|at| now.saturating_duration_since(*at) < ago)
    }

    /// A person is there: whatever was spent is given again, and who writes the same again means it.
    pub(super) fn reset(&self, session: &SessionId) {
        self.lock().pairs.retain(|(of, _), _| of != session);
    }

    pub(super) fn report(&self, budget: Budget, now: Instant) -> GuardReport {
        let mut known = self.lock();
        known.forget(budget, now);
        let held = || known.pairs.iter().filter(|(_, pair)| budget.wakes <= pair.wakes.len()).map(|(key, _)| key);
        let named = |(session, sender): &(SessionId, String)| HeldPair { session: session.to_string(), sender: sender.clone() };
        GuardReport { held_pairs: held().count(), repeats: known.repeats, pairs: held().take(NAMED).map(named).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Known {
    fn forget(&mut self, budget: Budget, now: Instant) {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < budget.window;
        self.pairs.retain(|_, pair| {
            pair.wakes.retain(recent);
            pair.texts.retain(|text| recent(&text.at));
            !pair.wakes.is_empty() || !pair.texts.is_empty()
        });
        while MAX_PAIRS < self.pairs.len() {
            let last = |pair: &Pair| pair.texts.back().map(|text| text.at).max(pair.wakes.back().copied());
            let Some(quiet) = self.pairs.iter().min_by_key(|(_, pair)| last(pair)).map(|(key, _)| key.clone()) else { return };
            self.pairs.remove(&quiet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { window: Duration::from_secs(60), wakes: 2 };

    /// A message of this sender wakes the session.
    fn wake(guard: &Guard, session: &SessionId, sender: &str, now: Instant) {
        let id = format!("{sender} {now:?}");
        let message = Message { id: &id, sender, text: &id };
        assert!(guard.admit(session, &message, BUDGET, now));
        guard.woke(session, [id.as_str()], now);
    }

    #[test]
    fn a_pair_has_a_budget_within_a_window_and_a_person_gives_it_again() {
        let guard = Guard::default();
        let (one, two) = (SessionId::new("one"), SessionId::new("two"));
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        wake(&guard, &one, "alice", at(0));
        wake(&guard, &one, "bob", at(1));
        assert_eq!(guard.held(&one, BUDGET, at(1)), [""; 0]);
        wake(&guard, &one, "alice", at(30));
        assert_eq!(guard.held(&one, BUDGET, at(31)), ["alice"]);
        assert_eq!(guard.held(&two, BUDGET, at(31)), [""; 0]);
        let pairs = vec![HeldPair { session: "one".into(), sender: "alice".into() }];
        assert_eq!(guard.report(BUDGET, at(31)), GuardReport { held_pairs: 1, repeats: 0, pairs });
        assert_eq!(guard.held(&one, BUDGET, at(60)), [""; 0], "the first is out of the window");
        wake(&guard, &one, "alice", at(61));
        assert_eq!(guard.held(&one, BUDGET, at(62)), ["alice"]);
        guard.reset(&one);
        assert_eq!(guard.held(&one, BUDGET, at(62)), [""; 0]);
    }

    #[test]
    fn what_is_said_again_word_for_word_is_recognised_within_the_window() {
        let guard = Guard::default();
        let session = SessionId::new("one");
        let start = Instant::now();
        for (id, sender, text, seconds, expected) in [
            ("1", "alice", "thanks!", 0, true),
            ("2", "alice", "thanks!", 1, false),
            ("1", "alice", "thanks!", 1, true),
            ("3", "alice", "thanks.", 1, true),
            ("4", "bob", "thanks!", 2, true),
            ("2", "alice", "thanks!", 60, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            let message = Message { id, sender, text };
            assert_eq!(guard.admit(&session, &message, BUDGET, now), expected, "{id} {sender} {text} {seconds}");
        }
        assert_eq!(guard.report(BUDGET, start).repeats, 1);
    }

    #[test]
    fn what_never_got_through_has_woken_nobody() {
        let guard = Guard::default();
        let (session, now) = (SessionId::new("one"), Instant::now());
        for _ in 0..5 {
            assert!(guard.admit(&session, &Message { id: "1", sender: "alice", text: "hello" }, BUDGET, now));
        }
        assert_eq!(guard.held(&session, BUDGET, now), [""; 0]);
        assert!(!guard.woken_within(&session, BUDGET.window, now));
        guard.woke(&session, ["another", "1"], now);
        assert!(guard.woken_within(&session, Duration::from_secs(1), now));
        assert!(!guard.woken_within(&session, Duration::from_secs(1), now + Duration::from_secs(1)));
        assert!(!guard.woken_within(&SessionId::new("two"), BUDGET.window, now));
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let guard = Guard::default();
        let now = Instant::now();
        (0..MAX_PAIRS + 10).for_each(|n| wake(&guard, &SessionId::new(n.to_string()), "alice", now));
        guard.report(BUDGET, now);
        assert_eq!(guard.lock().pairs.len(), MAX_PAIRS);
    }
}
