//! When a message that could not be sent is tried again: exponential waits with jitter, bounded in number and in age.

use chrono::{DateTime, TimeDelta, Utc};

/// How often and how long it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRule {
    /// The first wait, seconds; doubled each time.
    pub first_s: u32,
    /// The longest wait, seconds.
    pub longest_s: u32,
    /// Attempts in all.
    pub attempts: u16,
    /// A message that is older is not worth sending, hours.
    pub age_h: u32,
}

impl Default for RetryRule {
    fn default() -> Self {
        Self {
            first_s: 30,
            longest_s: 1800,
            attempts: 12,
            age_h: 24,
        }
    }
}

impl RetryRule {
    /// When to try again after attempt number `attempts` (from 1) failed; none: it is dead. `chance` is uniform in 0 to
    /// 1 and takes off up to half of the wait; `at_least` is what the far side asked for.
    pub fn next(
        &self,
        attempts: u16,
        created: DateTime<Utc>,
        now: DateTime<Utc>,
        at_least: Option<TimeDelta>,
        chance: f64,
    ) -> Option<DateTime<Utc>> {
        if attempts >= self.attempts {
            return None;
        }
        let doublings = u32::from(attempts.saturating_sub(1)).min(31);
        let full = u64::from(self.first_s)
            .saturating_mul(1 << doublings)
            .min(self.longest_s.into())
            .max(1);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "a wait of at most an u32 of seconds; jitter needs no exactness"
        )]
        let wait_ms = (full as f64 * 1000.0 * (1.0 - 0.5 * chance.clamp(0.0, 1.0))) as i64;
        // what the far side may ask for is bounded by the age of a message
        let age = TimeDelta::hours(self.age_h.into());
        let wait = TimeDelta::milliseconds(wait_ms).max(at_least.unwrap_or_default().min(age));
        let next = now + wait;
        (next <= created + age).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Waits grow, stay within their bounds, and end.
        #[test]
        fn every_message_ends(first in 1u32..600, longest in 600u32..7200, attempts in 1u16..40, chance in 0.0f64..=1.0) {
            let rule = RetryRule { first_s: first, longest_s: longest, attempts, age_h: 48 };
            let created: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
            let (mut now, mut tries, mut last) = (created, 0u16, TimeDelta::zero());
            loop {
                tries += 1;
                let Some(next) = rule.next(tries, created, now, None, chance) else { break };
                let wait = next - now;
                prop_assert!(wait >= last, "waits do not shrink");
                prop_assert!(wait <= TimeDelta::seconds(longest.into()));
                prop_assert!(wait * 2 >= TimeDelta::seconds(first.min(longest).into()) - TimeDelta::milliseconds(2));
                last = wait;
                now = next;
            }
            prop_assert!(tries <= attempts);
            prop_assert!(now - created <= TimeDelta::hours(48));
        }
    }

    #[test]
    fn the_far_side_is_heeded_within_reason() {
        let rule = RetryRule::default();
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let asked = rule.next(1, now, now, Some(TimeDelta::minutes(10)), 0.3);
        assert_eq!(asked, Some(now + TimeDelta::minutes(10)));
        // a year is as long as it lives
        assert_eq!(
            rule.next(1, now, now, Some(TimeDelta::days(365)), 0.0),
            Some(now + TimeDelta::hours(24))
        );
        assert_eq!(rule.next(12, now, now, None, 0.0), None);
        assert_eq!(rule.next(2, now - TimeDelta::hours(24), now, None, 0.0), None);
    }
}
