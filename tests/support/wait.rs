//! Waiting for something to become true.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Long enough for anything on a busy machine. What is waited for is normally there within milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `condition` again and again until it gives a value. For what announces itself nowhere: the state of a link as
/// another process sees it, rows that a second daemon has yet to write. Everything else is waited for by its pipe or event.
#[track_caller]
pub(crate) fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition)
}

/// As [`until`], for what has a long deadline of its own.
#[track_caller]
pub(crate) fn until_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A number that grows, and those who wait for it to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<u64>, Condvar)>);

impl Gate {
    /// How often it was opened.
    pub(crate) fn count(&self) -> u64 {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.1.notify_all();
    }

    /// Returns once it was opened more than `seen` times, or when `patience` is over; whether it was.
    pub(crate) fn wait_past(&self, seen: u64, patience: Duration) -> bool {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) =
            self.0.1.wait_timeout_while(guard, patience, |count| *count <= seen).unwrap_or_else(PoisonError::into_inner);
        seen < *guard
    }
}
