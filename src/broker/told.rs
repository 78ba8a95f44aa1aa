//! What strangers cause, in the log: told, and not told so often that the log becomes the damage.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one kind in one stretch of time; the rest is counted.
const LINES: u32 = 10;
const STRETCH: Duration = Duration::from_secs(60);

/// One kind of line. Guards only itself.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    lines: u32,
    held_back: u64,
}

impl Told {
    /// Whether to write this line, and how many like it were left out before.
    pub(super) fn may(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| STRETCH <= now.saturating_duration_since(since)) {
            (state.since, state.lines) = (Some(now), 0);
        }
        if LINES <= state.lines {
            state.held_back += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.held_back))
    }

    /// Logs `line`, if it may.
    pub(super) fn info(&self, line: impl FnOnce() -> String) {
        match self.may(Instant::now()) {
            Some(0) => log::info!("{}", line()),
            Some(more) => log::info!("{} ({more} more like this before)", line()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_later() {
        let (told, start) = (Told::default(), Instant::now());
        assert_eq!((0..100).filter_map(|_| told.may(start)).collect::<Vec<_>>(), [0; 10]);
        assert_eq!(told.may(start + STRETCH), Some(90));
        assert_eq!(told.may(start + STRETCH), Some(0));
    }
}
