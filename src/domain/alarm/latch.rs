//! A condition with duration and hysteresis: bad for long enough raises, good for long enough clears, what lies between
//! the two limits changes nothing. Data that are not newer than the last change nothing either, so a duplicate or a late
//! reading cannot raise or clear.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// What a value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Beyond the limit.
    Bad,
    /// Back within it by the hysteresis.
    Good,
    /// Between the two.
    Between,
}

impl Sign {
    /// Bad or good, without a band between.
    pub fn of(bad: bool) -> Self {
        if bad { Self::Bad } else { Self::Good }
    }
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Stay,
    /// It has been bad for long enough, since then.
    Raise(DateTime<Utc>),
    /// It has been good for long enough.
    Clear,
}

/// The state of one condition. Its default is what is not worth keeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latch {
    /// Raised.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raised: bool,
    /// Since when the sign is other than the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// The newest data seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<DateTime<Utc>>,
}

impl Latch {
    /// Sees the sign of data of `at`. It raises when bad for `raise_after`, clears when good for `clear_after`; with zero
    /// the first such value does.
    pub fn see(&mut self, at: DateTime<Utc>, sign: Sign, raise_after: TimeDelta, clear_after: TimeDelta) -> Turn {
        if self.last.is_some_and(|last| at <= last) {
            return Turn::Stay;
        }
        self.last = Some(at);
        let (turns, after) = match (self.raised, sign) {
            (false, Sign::Bad) => (true, raise_after),
            (true, Sign::Good) => (true, clear_after),
            // a value in the band ends a run towards raising, and keeps what is raised
            _ => (false, TimeDelta::zero()),
        };
        if !turns {
            self.since = None;
            return Turn::Stay;
        }
        let since = *self.since.get_or_insert(at);
        if at.signed_duration_since(since) < after {
            return Turn::Stay;
        }
        self.since = None;
        self.raised = !self.raised;
        if self.raised { Turn::Raise(since) } else { Turn::Clear }
    }

    /// Whether there is anything that a restart would lose.
    pub fn is_idle(&self) -> bool {
        !self.raised && self.since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
    }

    const ZERO: TimeDelta = TimeDelta::zero();

    #[test]
    fn it_takes_its_time_and_keeps_what_lies_between() {
        let mut latch = Latch::default();
        let ten = TimeDelta::minutes(10);
        let mut see = |minute, sign| latch.see(at(minute), sign, ten, ten);
        assert_eq!(see(0, Sign::Bad), Turn::Stay);
        assert_eq!(see(5, Sign::Between), Turn::Stay);
        assert_eq!(see(10, Sign::Bad), Turn::Stay, "the run began anew");
        assert_eq!(see(20, Sign::Bad), Turn::Raise(at(10)));
        assert_eq!(see(21, Sign::Between), Turn::Stay);
        assert_eq!(see(22, Sign::Good), Turn::Stay);
        assert_eq!(see(30, Sign::Bad), Turn::Stay, "it never was away");
        assert_eq!(see(31, Sign::Good), Turn::Stay);
        assert_eq!(see(41, Sign::Good), Turn::Clear);
    }

    #[test]
    fn without_duration_one_value_is_enough() {
        let mut latch = Latch::default();
        assert_eq!(latch.see(at(0), Sign::Bad, ZERO, ZERO), Turn::Raise(at(0)));
        assert_eq!(latch.see(at(1), Sign::Good, ZERO, ZERO), Turn::Clear);
        assert!(latch.is_idle());
    }

    proptest! {
        /// Duplicates and late data, mixed in anywhere, change nothing of what follows.
        #[test]
        fn late_and_duplicate_data_change_nothing(
            signs in proptest::collection::vec(0u8..3, 1..60),
            echoes in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..3), 60),
        ) {
            let sign = |code: u8| [Sign::Bad, Sign::Good, Sign::Between][usize::from(code)];
            let five = TimeDelta::minutes(5);
            let (mut plain, mut noisy) = (Latch::default(), Latch::default());
            for (minute, code) in signs.iter().enumerate() {
                let now = at(minute as i64);
                prop_assert_eq!(noisy.see(now, sign(*code), five, five), plain.see(now, sign(*code), five, five));
                let (index, echo) = &echoes[minute];
                let past = at(index.index(minute + 1) as i64);
                prop_assert_eq!(noisy.see(past, sign(*echo), five, five), Turn::Stay);
                prop_assert_eq!(noisy, plain);
            }
        }

        /// Raise and clear take turns, whatever comes.
        #[test]
        fn raises_and_clears_take_turns(signs in proptest::collection::vec((0u8..3, 1i64..30), 1..80)) {
            let mut latch = Latch::default();
            let (mut minute, mut open) = (0, false);
            for (code, step) in signs {
                minute += step;
                let sign = [Sign::Bad, Sign::Good, Sign::Between][usize::from(code)];
                match latch.see(at(minute), sign, TimeDelta::minutes(15), TimeDelta::minutes(15)) {
                    Turn::Stay => {}
                    Turn::Raise(since) => { prop_assert!(!open && since <= at(minute)); open = true; }
                    Turn::Clear => { prop_assert!(open); open = false; }
                }
            }
        }
    }
}
