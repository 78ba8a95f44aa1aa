//! Notices that the clock was set back. Rows say by the clock when they are due; one that then shows an earlier time would
//! keep them, and all behind them, for as long as it was set back.

use std::time::{Duration, Instant};

use crate::base::time::Millis;

/// Less than this is a clock being adjusted: no row waits longer for it than for an ordinary retry.
const SLACK: Duration = Duration::from_secs(2);

/// The last look at the clock on the wall, and at the one that only runs forward.
#[derive(Debug)]
pub(super) struct Clock {
    at: Instant,
    wall: Millis,
}

impl Clock {
    pub(super) fn new(at: Instant, wall: Millis) -> Clock {
        Clock { at, wall }
    }

    /// Whether the clock shows less than it should since the last look.
    pub(super) fn was_set_back(&mut self, at: Instant, wall: Millis) -> bool {
        let passed = at.saturating_duration_since(self.at).saturating_sub(SLACK);
        let least = self.wall.saturating_add(Millis::try_from(passed.as_millis()).unwrap_or(Millis::MAX));
        let slack = Millis::try_from(SLACK.as_millis()).unwrap_or(0);
        *self = Clock::new(at, wall);
        wall.saturating_add(slack) < least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_was_set_back_is_noticed_and_once() {
        let start = Instant::now();
        let seconds = |n: u64| start + Duration::from_secs(n);
        let mut clock = Clock::new(start, 10_000_000);
        assert!(!clock.was_set_back(seconds(0), 10_000_000));
        assert!(!clock.was_set_back(seconds(10), 10_010_000));
        assert!(!clock.was_set_back(seconds(11), 10_010_500), "adjusted");
        assert!(!clock.was_set_back(seconds(12), 17_210_000), "set forward");
        assert!(clock.was_set_back(seconds(13), 10_012_000), "an hour back");
        assert!(!clock.was_set_back(seconds(14), 10_013_000), "noticed before");
        assert!(clock.was_set_back(seconds(3614), 10_013_000), "it showed the same time for an hour");
    }
}
