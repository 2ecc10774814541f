//! When a meter's clock may be set: only while it is a little off, and never across a moment at which meters freeze their
//! registers. A clock set back over such a moment freezes twice, one set forward over it not at all. Pure: both times are
//! the meter's local ones.
//!
//! The quarters of a load profile are not guarded: a clock that is ten minutes off could hardly ever be set without crossing one.

use chrono::{NaiveDateTime, TimeDelta, Timelike};

/// A clock that is less off is left alone.
const LEAST: TimeDelta = TimeDelta::minutes(1);
/// One that is more off was never set, keeps another zone, or is broken: a person has to look at it.
const MOST: TimeDelta = TimeDelta::minutes(15);
/// Time left before and behind a full hour, the moment of hourly freezes and of settlements.
const HOUR_MARGIN: TimeDelta = TimeDelta::minutes(1);
/// The same for midnight, the moment of daily freezes.
const MIDNIGHT_MARGIN: TimeDelta = TimeDelta::minutes(5);

/// Why a clock is not set now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockObstacle {
    /// Nothing to set.
    #[error("the clock is {off_s} s off; less than a minute is left alone")]
    InOrder {
        /// Seconds that it is ahead.
        off_s: i64,
    },
    /// Too much to set without a person's look.
    #[error(
        "the clock is {off_s} s off; more than a quarter of an hour is no drift, look at the meter and its time zone"
    )]
    TooFar {
        /// Seconds that it is ahead.
        off_s: i64,
    },
    /// Later.
    #[error("the clock is {off_s} s off and is not set around a full hour or midnight, when meters freeze")]
    NearFreeze {
        /// Seconds that it is ahead.
        off_s: i64,
    },
    /// Nobody knows which time it should show.
    #[error("the time zone of the meter's clock is not known")]
    NoZone,
}

/// How far a clock is ahead that may be set now; `shows` is what it shows when it is `now`.
///
/// # Errors
/// [`ClockObstacle`].
pub fn may_set(shows: NaiveDateTime, now: NaiveDateTime) -> Result<TimeDelta, ClockObstacle> {
    let ahead = shows.signed_duration_since(now);
    let off_s = ahead.num_seconds();
    let same_day = |a: NaiveDateTime, b: NaiveDateTime| a.date() == b.date();
    if !around(now, now, MIDNIGHT_MARGIN, same_day) {
        // date and time, read one after the other, may belong to two days: what they say means nothing
        return Err(ClockObstacle::NearFreeze { off_s });
    }
    if ahead.abs() < LEAST {
        return Err(ClockObstacle::InOrder { off_s });
    }
    if ahead.abs() > MOST {
        return Err(ClockObstacle::TooFar { off_s });
    }
    let same_hour = |a: NaiveDateTime, b: NaiveDateTime| (a.date(), a.hour()) == (b.date(), b.hour());
    if around(shows, now, HOUR_MARGIN, same_hour) && around(shows, now, MIDNIGHT_MARGIN, same_day) {
        Ok(ahead)
    } else {
        Err(ClockObstacle::NearFreeze { off_s })
    }
}

/// Whether two times, with a margin on both sides, are of the same hour or day.
fn around(
    a: NaiveDateTime,
    b: NaiveDateTime,
    margin: TimeDelta,
    same: impl Fn(NaiveDateTime, NaiveDateTime) -> bool,
) -> bool {
    let first = a.min(b).checked_sub_signed(margin);
    let last = a.max(b).checked_add_signed(margin);
    first.zip(last).is_some_and(|(first, last)| same(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> NaiveDateTime {
        format!("2026-11-21T{text}").parse().unwrap()
    }

    #[test]
    fn only_from_a_minute_to_a_quarter_of_an_hour() {
        let now = at("10:30:00");
        for (shows, said) in [
            ("10:30:59", Err(ClockObstacle::InOrder { off_s: 59 })),
            ("10:29:01", Err(ClockObstacle::InOrder { off_s: -59 })),
            ("10:31:00", Ok(TimeDelta::minutes(1))),
            ("10:15:00", Ok(TimeDelta::minutes(-15))),
            ("10:45:01", Err(ClockObstacle::TooFar { off_s: 901 })),
            ("11:30:00", Err(ClockObstacle::TooFar { off_s: 3600 })),
        ] {
            assert_eq!(may_set(at(shows), now), said, "{shows}");
        }
    }

    #[test]
    fn never_across_or_beside_a_freeze() {
        for (shows, now, free) in [
            ("10:59:00", "10:57:00", false),
            ("10:58:59", "10:57:00", true),
            ("10:58:00", "11:02:00", false),
            ("11:01:00", "11:03:00", true),
            ("11:00:59", "11:03:00", false),
            ("00:06:00", "00:04:59", false),
            ("00:07:00", "00:05:00", true),
            ("23:56:00", "23:54:00", false),
            ("23:52:00", "23:54:59", true),
        ] {
            let set = may_set(at(shows), at(now));
            assert_eq!(set.is_ok(), free, "{shows} at {now}: {set:?}");
            assert!(free || matches!(set, Err(ClockObstacle::NearFreeze { .. })), "{set:?}");
        }
    }

    proptest! {
        /// Against a walk second by second: what may be set passes no freeze between what is shown and what is true.
        #[test]
        fn no_freeze_lies_between(now in 0i64..2 * 86_400, off in -1_000i64..1_000) {
            let begin = at("00:00:00");
            let (now, shows) = (begin + TimeDelta::seconds(now), begin + TimeDelta::seconds(now + off));
            let set = may_set(shows, now);
            let mut walk = now.min(shows) - TimeDelta::seconds(59);
            let mut passed = false;
            while walk <= now.max(shows) + TimeDelta::seconds(60) {
                passed |= walk.minute() == 0 && walk.second() == 0;
                walk += TimeDelta::seconds(1);
            }
            prop_assert!(!(passed && set.is_ok()));
            let minute = now.hour() * 60 + now.minute();
            let midnight = !(5..24 * 60 - 5).contains(&minute);
            prop_assert_eq!(matches!(set, Err(ClockObstacle::InOrder { .. })), off.abs() < 60 && !midnight);
            prop_assert_eq!(matches!(set, Err(ClockObstacle::TooFar { .. })), off.abs() > 900 && !midnight);
        }
    }
}
