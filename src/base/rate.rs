//! Token buckets. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Holds up to `burst` tokens and gains `per_second`.
#[derive(Debug, Clone)]
pub struct Bucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(burst: u32, per_second: f64, now: Instant) -> Bucket {
        Bucket { burst: f64::from(burst), per_second, tokens: f64::from(burst), at: now }
    }

    /// Whether it is as full as a new one: then nothing is lost when it is forgotten.
    pub fn is_full(&self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.burst <= self.tokens + gained
    }

    /// Takes so many tokens, or says how long until there are. More than the burst are as many as the burst.
    pub fn take(&mut self, tokens: u32, now: Instant) -> Result<(), Duration> {
        let wanted = f64::from(tokens).min(self.burst);
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.at = self.at.max(now);
        if wanted <= self.tokens {
            self.tokens -= wanted;
            return Ok(());
        }
        Err(Duration::from_secs_f64((wanted - self.tokens) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_then_paces() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, 10.0, start);
        assert_eq!(bucket.take(1, start), Ok(()));
        assert_eq!(bucket.take(1, start), Ok(()));
        assert_eq!(bucket.take(1, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(1, start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(1, start).is_err(), "time that runs backwards earns nothing");
        assert!(!bucket.is_full(start + Duration::from_millis(100)) && bucket.is_full(start + Duration::from_secs(1)));
    }
}
