//! How long to wait before the next attempt. Pure: the caller brings the randomness.

use std::time::Duration;

/// Doubling delays between a floor and a ceiling, with full jitter over the upper half, so that many who failed together
/// do not return together.
#[derive(Debug, Clone)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(floor: Duration, ceiling: Duration) -> Backoff {
        Backoff { floor, ceiling, failures: 0 }
    }

    /// The delay after one more failure. `random` is uniform in `0.0..1.0`.
    pub fn next(&mut self, random: f64) -> Duration {
        let delay = delay(self.floor, self.ceiling, self.failures, random);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// Success: the next failure starts from the floor again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The delay after `failures` earlier failures.
pub fn delay(floor: Duration, ceiling: Duration, failures: u32, random: f64) -> Duration {
    let whole = floor.saturating_mul(1 << failures.min(20)).min(ceiling);
    whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_ceiling_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let delays: Vec<f64> = (0..7).map(|_| backoff.next(1.0).as_secs_f64()).collect();
        assert_eq!(delays, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(500));
        assert_eq!(delay(Duration::from_secs(1), Duration::from_secs(30), u32::MAX, 0.5), Duration::from_secs_f64(22.5));
    }
}
