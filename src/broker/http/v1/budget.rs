//! How much one key may ask for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::rate::Bucket;

/// Requests of one key at once, and per second after that: a script that runs wild costs little.
const BURST: u32 = 60;
const PER_SECOND: f64 = 10.0;

/// Keys whose rate is known; all are forgotten when there are more.
const MAX_KEYS: usize = 10_000;

/// Streams of one key, and of all. One more is answered 429.
const STREAMS_OF_KEY: usize = 8;
const STREAMS: usize = 256;

/// What keys have asked for of late. Each lock guards only its map.
#[derive(Debug, Default)]
pub(in crate::broker) struct Budget {
    rates: Mutex<HashMap<String, Bucket>>,
    streams: Mutex<HashMap<String, usize>>,
}

/// One stream's place, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place<'a> {
    budget: &'a Budget,
    key: String,
}

impl Budget {
    /// Whether this key may ask once more now.
    pub(super) fn admit(&self, key: &str, now: Instant) -> bool {
        let mut rates = lock(&self.rates);
        if MAX_KEYS <= rates.len() && !rates.contains_key(key) {
            rates.clear();
        }
        rates.entry(key.to_owned()).or_insert_with(|| Bucket::new(BURST, PER_SECOND, now)).take(1, now).is_ok()
    }

    /// A place for one more stream.
    pub(super) fn stream(&self, key: &str) -> Option<Place<'_>> {
        let mut streams = lock(&self.streams);
        let own = streams.get(key).copied().unwrap_or(0);
        if STREAMS_OF_KEY <= own || STREAMS <= streams.values().sum() {
            return None;
        }
        streams.insert(key.to_owned(), own + 1);
        Some(Place { budget: self, key: key.to_owned() })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut streams = lock(&self.budget.streams);
        if let Some(own) = streams.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                streams.remove(&self.key);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_key_does_not_spend_what_is_anothers() {
        let (budget, now) = (Budget::default(), Instant::now());
        assert!((0..BURST).all(|_| budget.admit("a", now)) && !budget.admit("a", now) && budget.admit("b", now));
        assert!(budget.admit("a", now + Duration::from_millis(100)));
        let held: Vec<_> = (0..STREAMS_OF_KEY).map(|_| budget.stream("a").unwrap()).collect();
        assert!(budget.stream("a").is_none() && budget.stream("b").is_some());
        drop(held);
        assert!(budget.stream("a").is_some() && lock(&budget.streams).is_empty());
    }

    #[test]
    fn all_keys_together_have_so_many_streams() {
        let budget = Budget::default();
        let held: Vec<_> = (0..STREAMS).map(|n| budget.stream(&n.to_string()).unwrap()).collect();
        assert!(budget.stream("one more").is_none());
        drop(held);
    }
}
