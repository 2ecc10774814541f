//! The injected clock: wall time for what people see, monotonic time for durations.
//!
//! The only place in the product that asks the operating system for the time.

use chrono::{DateTime, Utc};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Tells the time. Instants are UTC; durations are measured on [`Clock::monotonic`] only.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall time, UTC. May step.
    fn now(&self) -> DateTime<Utc>;
    /// Monotonic time. Never steps.
    fn monotonic(&self) -> Instant;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that is moved by hand, for tests and simulation.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(DateTime<Utc>, Instant)>,
}

impl ManualClock {
    /// Starts at `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            state: Mutex::new((now, Instant::now())),
        }
    }

    /// Moves both clocks forward by `by`.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.0 += chrono::TimeDelta::from_std(by).unwrap_or(chrono::TimeDelta::MAX);
        state.1 += by;
    }

    /// Steps the wall clock alone, as an operator or NTP would.
    pub fn step_to(&self, now: DateTime<Utc>) {
        self.lock().0 = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (DateTime<Utc>, Instant)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.lock().0
    }

    fn monotonic(&self) -> Instant {
        self.lock().1
    }
}
