//! Paces: how many may begin a second after a burst (the generic cell rate algorithm). One instant of state each.

use std::time::{Duration, Instant};

/// Hands out starts at a steady rate after a burst; who comes too early is told how long to wait. Everybody gets a
/// start, in the order of asking.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    gap: Duration,
    ahead: Duration,
    /// When the next start would be due at the steady rate.
    due: Option<Instant>,
}

impl Pace {
    /// `per_s` starts a second after a burst of `burst`. Zeros are taken for ones.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let gap = Duration::from_secs(1) / per_s.max(1);
        Self {
            gap,
            ahead: gap * burst.saturating_sub(1),
            due: None,
        }
    }

    /// Takes the next start; how long it has to wait.
    pub fn start(&mut self, now: Instant) -> Duration {
        let due = self.due.map_or(now, |due| due.max(now));
        self.due = due.checked_add(self.gap);
        due.saturating_duration_since(now).saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let (mut pace, now) = (Pace::new(10, 3), Instant::now());
        let waits: Vec<u128> = (0..6).map(|_| pace.start(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        assert_eq!(
            pace.start(now + Duration::from_secs(60)),
            Duration::ZERO,
            "rest refills"
        );
    }

    proptest! {
        /// In no second more begin than the burst and the rate allow, and nobody waits longer than that needs.
        #[test]
        fn never_faster_than_the_rate(per_s in 1_u32..200, burst in 1_u32..50, gaps in prop::collection::vec(0_u64..300, 1..300)) {
            let (mut pace, begin) = (Pace::new(per_s, burst), Instant::now());
            let mut now = begin;
            let mut starts = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                starts.push(now + pace.start(now));
            }
            prop_assert!(starts.is_sorted());
            for (index, from) in starts.iter().enumerate() {
                let within = starts.iter().skip(index).filter(|at| **at < *from + Duration::from_secs(1)).count();
                prop_assert!(within <= usize::try_from(per_s + burst).unwrap(), "{within} in a second");
            }
        }
    }
}
