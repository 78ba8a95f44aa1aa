//! What was asked of a broker and is not answered yet, with the time until which an answer is waited for.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// By the id under which the answer comes. All of one kind wait equally long, so that the oldest is always due first.
#[derive(Debug)]
pub(super) struct Unanswered<T> {
    patience: Duration,
    by_id: HashMap<String, (Instant, T)>,
    /// With some that wait no more, or again under the same id: those that are there with this very time count.
    deadlines: VecDeque<(Instant, String)>,
}

impl<T> Unanswered<T> {
    pub(super) fn new(patience: Duration) -> Unanswered<T> {
        Unanswered { patience, by_id: HashMap::new(), deadlines: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, id: String, what: T, now: Instant) {
        let until = now + self.patience;
        self.deadlines.push_back((until, id.clone()));
        self.by_id.insert(id, (until, what));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// It is answered. Nothing is woken later for the sake of what was answered in time.
    pub(super) fn take(&mut self, id: &str) -> Option<T> {
        let (_, what) = self.by_id.remove(id)?;
        while self.deadlines.front().is_some_and(|(at, id)| !self.waits(*at, id)) {
            self.deadlines.pop_front();
        }
        Some(what)
    }

    fn waits(&self, until: Instant, id: &str) -> bool {
        self.by_id.get(id).is_some_and(|(at, _)| *at == until)
    }

    /// When the first of them has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }

    /// The first that has waited too long, and until when it should have been answered.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(Instant, T)> {
        while self.deadline().is_some_and(|at| at <= now) {
            let (at, id) = self.deadlines.pop_front()?;
            if self.waits(at, &id) {
                return self.by_id.remove(&id);
            }
        }
        None
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.by_id.values().map(|(_, what)| what)
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        self.by_id.into_values().map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_is_not_waited_for_and_the_rest_is_given_up_in_order() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut waiting = Unanswered::new(5 * second);
        for (n, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            waiting.insert(id.to_owned(), n, start + second * u32::try_from(n).unwrap());
        }
        assert_eq!(waiting.take("b"), Some(1));
        assert_eq!(waiting.deadline(), Some(start + 5 * second), "the oldest still waits");
        assert_eq!((waiting.take("a"), waiting.take("a")), (Some(0), None));
        assert_eq!(waiting.deadline(), Some(start + 7 * second));
        assert_eq!(waiting.expire(start + 6 * second), None);
        assert_eq!(waiting.expire(start + 8 * second), Some((start + 7 * second, 2)));
        assert_eq!(waiting.expire(start + 9 * second), Some((start + 8 * second, 3)));
        assert_eq!((waiting.expire(start + 9 * second), waiting.deadline()), (None, None));
        assert!(!waiting.contains("d") && waiting.values().next().is_none());

        // One that is asked again under the same id, behind another, waits from then on.
        waiting.insert("a".to_owned(), 0, start);
        waiting.insert("b".to_owned(), 1, start);
        assert_eq!(waiting.take("b"), Some(1));
        waiting.insert("b".to_owned(), 2, start + 4 * second);
        assert_eq!(waiting.expire(start + 5 * second), Some((start + 5 * second, 0)));
        assert_eq!(waiting.expire(start + 5 * second), None);
        assert_eq!(waiting.expire(start + 9 * second), Some((start + 9 * second, 2)));
    }
}
