//! Token buckets: the metered accept and the flood limit of a session. "Now" is an argument.

use std::time::{Duration, Instant};

/// A bucket that fills at a steady rate up to its size.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    size: f64,
    level: f64,
    filled_at: Instant,
}

impl Bucket {
    /// Starts full. Rates of 0 are taken for 1.
    pub(crate) fn new(per_second: u32, size: u32, now: Instant) -> Self {
        let size = f64::from(size.max(1));
        Self {
            per_second: f64::from(per_second.max(1)),
            size,
            level: size,
            filled_at: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let gone = now.saturating_duration_since(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        self.level = self.per_second.mul_add(gone.as_secs_f64(), self.level).min(self.size);
    }

    /// Takes `tokens`; whether they were there. A refusal takes nothing.
    pub(crate) fn take(&mut self, now: Instant, tokens: usize) -> bool {
        self.fill(now);
        let tokens = u32::try_from(tokens).map_or(f64::INFINITY, f64::from);
        let enough = self.level >= tokens;
        if enough {
            self.level -= tokens;
        }
        enough
    }

    /// How long until one token is there.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        if self.level >= 1.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(((1.0 - self.level) / self.per_second).clamp(0.0, 3600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_at_its_rate_and_never_over_its_size() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 5, start);
        assert!(bucket.take(start, 5));
        assert!(!bucket.take(start, 1));
        assert_eq!(bucket.wait(start), Duration::from_millis(100));
        assert!(bucket.take(start + Duration::from_millis(100), 1));
        assert!(
            !bucket.take(start + Duration::from_secs(60), 6),
            "never more than its size"
        );
        assert!(bucket.take(start + Duration::from_secs(60), 5));
    }

    #[test]
    fn time_that_stands_still_or_goes_back_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::new(1_000, 1, start);
        assert!(bucket.take(start, 1));
        assert!(!bucket.take(start - Duration::from_secs(5), 1));
    }
}
