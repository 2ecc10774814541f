//! A time that never goes back: the wall clock, held up by the monotonic one while the process lives and by a stored
//! high-water mark over restarts. Deadlines of commands are judged by it alone.

use chrono::{DateTime, TimeDelta, Utc};
use std::time::Instant;

/// While the process lives, a wall clock so far behind counts as set back; less is how clocks are disciplined.
const STEP: TimeDelta = TimeDelta::seconds(5);

/// Now, for commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Never before any earlier moment, restarts included.
    pub at: DateTime<Utc>,
    /// The wall clock was found set back just now: every pending command expires.
    pub stepped_back: bool,
}

/// Makes moments.
#[derive(Clone, Debug)]
pub struct TimeGuard {
    latest: DateTime<Utc>,
    measured: Instant,
    behind: bool,
    untold_step: bool,
}

impl TimeGuard {
    /// Takes up from the stored mark. A clock that stands before it has been set back while nobody looked.
    pub fn resume(mark: Option<DateTime<Utc>>, now: DateTime<Utc>, monotonic: Instant) -> Self {
        let latest = mark.map_or(now, |mark| mark.max(now));
        let behind = now < latest;
        Self {
            latest,
            measured: monotonic,
            behind,
            untold_step: behind,
        }
    }

    /// The moment of two clock readings. A step back is told once.
    pub fn moment(&mut self, now: DateTime<Utc>, monotonic: Instant) -> Moment {
        let elapsed = TimeDelta::from_std(monotonic.saturating_duration_since(self.measured)).unwrap_or(TimeDelta::MAX);
        let ran_on = self.latest.checked_add_signed(elapsed).unwrap_or(self.latest);
        self.latest = ran_on.max(now);
        self.measured = monotonic.max(self.measured);
        let behind = self.latest - now > STEP;
        if behind && !self.behind {
            self.untold_step = true;
        }
        self.behind = behind;
        Moment {
            at: self.latest,
            stepped_back: std::mem::take(&mut self.untold_step),
        }
    }

    /// The high-water mark, to be stored.
    pub fn mark(&self) -> DateTime<Utc> {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_clock_set_back_an_hour_is_told_once_and_time_goes_on() {
        let start = Instant::now();
        let mut guard = TimeGuard::resume(None, at(0), start);
        assert!(!guard.moment(at(10), start + Duration::from_secs(10)).stepped_back);
        let after = guard.moment(at(11 - 3600), start + Duration::from_secs(11));
        assert_eq!((after.at, after.stepped_back), (at(11), true));
        let later = guard.moment(at(71 - 3600), start + Duration::from_secs(71));
        assert_eq!((later.at, later.stepped_back), (at(71), false));
    }

    #[test]
    fn a_clock_set_back_while_the_process_was_down_is_told_too() {
        let start = Instant::now();
        let mut guard = TimeGuard::resume(Some(at(100)), at(100 - 3600), start);
        let first = guard.moment(at(100 - 3600), start);
        assert_eq!((first.at, first.stepped_back), (at(100), true));
        let second = guard.moment(at(101 - 3600), start + Duration::from_secs(1));
        assert_eq!((second.at, second.stepped_back), (at(101), false));
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_never_lags_the_monotonic_clock(
            steps in proptest::collection::vec((-7200i64..7200, 0u64..120), 1..40),
        ) {
            let start = Instant::now();
            let mut guard = TimeGuard::resume(Some(at(0)), at(0), start);
            let (mut monotonic, mut wall, mut last) = (start, at(0), at(0));
            for (step, elapsed) in steps {
                monotonic += Duration::from_secs(elapsed);
                wall += TimeDelta::seconds(step + i64::try_from(elapsed).unwrap());
                let moment = guard.moment(wall, monotonic);
                prop_assert!(moment.at >= last + TimeDelta::seconds(i64::try_from(elapsed).unwrap()));
                prop_assert!(moment.at >= wall);
                last = moment.at;
                // whatever is stored now, a restart begins no earlier
                let mut resumed = TimeGuard::resume(Some(guard.mark()), wall, monotonic);
                prop_assert_eq!(resumed.moment(wall, monotonic).at, last);
            }
        }
    }
}
