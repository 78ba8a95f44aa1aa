//! Keeps two sessions from waking each other for ever. For each sender and session there is a budget of automatic wake-ups
//! within a window; beyond it mail waits for a person. What repeats an earlier message word for word wakes nobody. Kept in
//! memory alone: a restart of the daemon is a person's doing.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::SessionId;
use crate::wire::ipc::GuardReport;

/// Pairs remembered at once. When full, those that were quiet for longest are forgotten.
const MAX_PAIRS: usize = 4096;

/// Texts of one pair that are recognised.
const MAX_TEXTS: usize = 32;

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
    texts: VecDeque<(Instant, u64)>,
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

    /// Notes a message that is about to be offered; false if it repeats an earlier one and must not be.
    pub(super) fn admit(&self, session: &SessionId, sender: &str, text: &str, budget: Budget, now: Instant) -> bool {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let print = hasher.finish();
        let mut known = self.lock();
        known.forget(budget, now);
        let pair = known.pairs.entry((session.clone(), sender.to_owned())).or_default();
        if pair.texts.iter().any(|(_, text)| *text == print) {
            known.repeats += 1;
            return false;
        }
        pair.texts.push_back((now, print));
        if MAX_TEXTS < pair.texts.len() {
            pair.texts.pop_front();
        }
        true
    }

    /// Notes that this session was woken for this sender.
    pub(super) fn woke(&self, session: &SessionId, sender: &str, now: Instant) {
        self.lock().pairs.entry((session.clone(), sender.to_owned())).or_default().wakes.push_back(now);
    }

    /// A person is there: whatever was spent is given again, and who writes the same again means it.
    pub(super) fn reset(&self, session: &SessionId) {
        self.lock().pairs.retain(|(of, _), _| of != session);
    }

    pub(super) fn report(&self, budget: Budget, now: Instant) -> GuardReport {
        let mut known = self.lock();
        known.forget(budget, now);
        let held_pairs = known.pairs.values().filter(|pair| budget.wakes <= pair.wakes.len()).count();
        GuardReport { held_pairs, repeats: known.repeats }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, budget: Budget, now: Instant) {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < budget.window;
        self.pairs.retain(|_, pair| {
            pair.wakes.retain(recent);
            pair.texts.retain(|(at, _)| recent(at));
            !pair.wakes.is_empty() || !pair.texts.is_empty()
        });
        while MAX_PAIRS < self.pairs.len() {
            let last = |pair: &Pair| pair.texts.back().map(|(at, _)| *at).max(pair.wakes.back().copied());
            let Some(quiet) = self.pairs.iter().min_by_key(|(_, pair)| last(pair)).map(|(key, _)| key.clone()) else { return };
            self.pairs.remove(&quiet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { window: Duration::from_secs(60), wakes: 2 };

    #[test]
    fn a_pair_has_a_budget_within_a_window_and_a_person_gives_it_again() {
        let guard = Guard::default();
        let (one, two) = (SessionId::new("one"), SessionId::new("two"));
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        guard.woke(&one, "alice", at(0));
        guard.woke(&one, "bob", at(1));
        assert_eq!(guard.held(&one, BUDGET, at(1)), [""; 0]);
        guard.woke(&one, "alice", at(30));
        assert_eq!(guard.held(&one, BUDGET, at(31)), ["alice"]);
        assert_eq!(guard.held(&two, BUDGET, at(31)), [""; 0]);
        assert_eq!(guard.report(BUDGET, at(31)), GuardReport { held_pairs: 1, repeats: 0 });
        assert_eq!(guard.held(&one, BUDGET, at(60)), [""; 0], "the first is out of the window");
        guard.woke(&one, "alice", at(61));
        assert_eq!(guard.held(&one, BUDGET, at(62)), ["alice"]);
        guard.reset(&one);
        assert_eq!(guard.held(&one, BUDGET, at(62)), [""; 0]);
    }

    #[test]
    fn what_is_said_again_word_for_word_is_recognised_within_the_window() {
        let guard = Guard::default();
        let session = SessionId::new("one");
        let start = Instant::now();
        for (sender, text, seconds, expected) in [
            ("alice", "thanks!", 0, true),
            ("alice", "thanks!", 1, false),
            ("alice", "thanks.", 1, true),
            ("bob", "thanks!", 2, true),
            ("alice", "thanks!", 60, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(guard.admit(&session, sender, text, BUDGET, now), expected, "{sender} {text} {seconds}");
        }
        assert_eq!(guard.report(BUDGET, start).repeats, 1);
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let guard = Guard::default();
        let now = Instant::now();
        (0..MAX_PAIRS + 10).for_each(|n| guard.woke(&SessionId::new(n.to_string()), "alice", now));
        guard.report(BUDGET, now);
        assert_eq!(guard.lock().pairs.len(), MAX_PAIRS);
    }
}
