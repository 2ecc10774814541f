//! Our own supervision: a fresh child from a factory after any death, with back-off, generations and limits.
//!
//! `actix::Supervisor` does not restart after a panic and restarts without back-off after a stop, so a child here holds
//! an [`ExitGuard`] whose `Drop` tells the parent, and the parent keeps a [`Restarts`] per child. Messages of a child
//! carry its [`Generation`]; a parent ignores what an older generation says.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Which incarnation of a child speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u32);

impl Generation {
    /// The next incarnation.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// Tells the parent that a child is gone, however it went. Runs while a panic unwinds, so `tell` must not panic.
pub struct ExitGuard {
    tell: Option<Box<dyn FnOnce() + Send>>,
}

impl ExitGuard {
    /// `tell` is called once on drop.
    pub fn new(tell: impl FnOnce() + Send + 'static) -> Self {
        Self {
            tell: Some(Box::new(tell)),
        }
    }

    /// The child ends in an orderly way: nobody is told.
    pub fn disarm(&mut self) {
        self.tell = None;
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take() {
            tell();
        }
    }
}

/// Limits of restarting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Wait before the first restart; doubled with each further one inside the window.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// Restarts are counted over this window.
    pub window: Duration,
    /// More restarts than this inside the window: the child rests for the longest wait each time and an error is logged.
    pub intensity: usize,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(60),
            window: Duration::from_secs(300),
            intensity: 5,
        }
    }
}

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Build a fresh child after this wait.
    After(Duration),
    /// The same, but it died more often than the policy bears: worth an error.
    Intense(Duration),
}

impl Restart {
    /// The wait.
    pub fn wait(self) -> Duration {
        match self {
            Self::After(wait) | Self::Intense(wait) => wait,
        }
    }
}

/// The deaths of one child inside the window. Bounded by the policy's intensity.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    deaths: VecDeque<Instant>,
}

impl Restarts {
    /// A child died at `now`.
    pub fn died(&mut self, now: Instant, policy: &RestartPolicy) -> Restart {
        while self
            .deaths
            .front()
            .is_some_and(|death| now.duration_since(*death) > policy.window)
        {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        let recent = self.deaths.len();
        if recent > policy.intensity {
            self.deaths.pop_front();
            return Restart::Intense(policy.longest);
        }
        let doubled = u32::try_from(recent.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        Restart::After(policy.first.saturating_mul(1 << doubled).min(policy.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn back_off_doubles_and_then_rests() {
        let policy = RestartPolicy::default();
        let mut restarts = Restarts::default();
        let start = Instant::now();
        let waits: Vec<_> = (0..6)
            .map(|i| restarts.died(start + Duration::from_secs(i), &policy))
            .collect();
        assert_eq!(waits[0], Restart::After(Duration::from_millis(200)));
        assert_eq!(waits[2], Restart::After(Duration::from_millis(800)));
        assert_eq!(waits[5], Restart::Intense(Duration::from_secs(60)));
        // after a quiet window it starts over
        assert_eq!(
            restarts.died(start + Duration::from_secs(1000), &policy),
            Restart::After(policy.first)
        );
    }

    #[test]
    fn the_guard_tells_on_panic_and_only_then() {
        let told = Arc::new(AtomicUsize::new(0));
        let teller = |told: &Arc<AtomicUsize>| {
            let told = Arc::clone(told);
            ExitGuard::new(move || {
                told.fetch_add(1, Ordering::SeqCst);
            })
        };
        let guard = teller(&told);
        let joined = std::thread::spawn(move || {
            let _guard = guard;
            panic!("the child dies");
        })
        .join();
        assert!(joined.is_err());
        assert_eq!(told.load(Ordering::SeqCst), 1);
        teller(&told).disarm();
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }
}
