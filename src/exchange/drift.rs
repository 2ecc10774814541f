//! The clock of a meter: when it is looked at, and how far it is off. Looked at once a day, behind a read that succeeds
//! anyway, and not near midnight, where date and time, read one after the other, may belong to two days. Setting clocks is
//! not done here.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

/// A clock is looked at again after so many hours; less than a day, so that a daily read meets it each time.
const AGAIN_H: i64 = 20;
/// So many minutes around midnight it is left alone.
const MIDNIGHT_MIN: u32 = 5;
/// More than this is no drift but a clock that was never set.
const DRIFT_MAX_DAYS: i64 = 366_000;

/// What is known of a meter's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockWatch {
    looked_at: Option<DateTime<Utc>>,
    drift: Option<TimeDelta>,
}

impl ClockWatch {
    /// Whether to look at it with a read that begins now; `zone` is that of the meter's place.
    pub fn is_due(&self, now: DateTime<Utc>, zone: Tz) -> bool {
        let local = now.with_timezone(&zone);
        let minute = local.hour() * 60 + local.minute();
        let quiet = (MIDNIGHT_MIN..24 * 60 - MIDNIGHT_MIN).contains(&minute);
        // a wall clock set back must not put it off
        let waited = self.looked_at.is_none_or(|at| {
            let since = now - at;
            since >= TimeDelta::hours(AGAIN_H) || since < TimeDelta::zero()
        });
        quiet && waited
    }

    /// It said `said` when our clock said `now`. Gives how far it is ahead (negative: behind).
    pub fn saw(&mut self, now: DateTime<Utc>, said: DateTime<Utc>) -> Option<TimeDelta> {
        self.looked_at = Some(now);
        let drift = said.signed_duration_since(now);
        self.drift = (drift.num_days().abs() <= DRIFT_MAX_DAYS).then_some(drift);
        self.drift
    }

    /// It was asked and gave no usable time: not asked again before the next day.
    pub fn saw_nothing(&mut self, now: DateTime<Utc>) {
        self.looked_at = Some(now);
    }

    /// How far it was ahead of ours when it was looked at last (negative: behind), and when that was.
    pub fn drift(&self) -> Option<(TimeDelta, DateTime<Utc>)> {
        self.drift.zip(self.looked_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_looked_at_once_a_day_and_never_around_midnight_of_its_place() {
        let zone = chrono_tz::Asia::Kolkata;
        let mut watch = ClockWatch::default();
        // midnight there is half past six in the evening
        assert!(!watch.is_due(at("2026-11-21T18:28:00Z"), zone));
        assert!(!watch.is_due(at("2026-11-21T18:34:59Z"), zone));
        assert!(watch.is_due(at("2026-11-21T18:35:00Z"), zone));
        let now = at("2026-11-21T19:00:00Z");
        assert_eq!(
            watch.saw(now, now + TimeDelta::seconds(-74)),
            Some(TimeDelta::seconds(-74))
        );
        assert!(!watch.is_due(now + TimeDelta::hours(19), zone));
        assert!(watch.is_due(now + TimeDelta::hours(20), zone));
        assert!(watch.is_due(now - TimeDelta::hours(2), zone), "our clock was set back");
        watch.saw_nothing(now + TimeDelta::hours(20));
        assert!(!watch.is_due(now + TimeDelta::hours(21), zone));
        assert_eq!(
            watch.drift().map(|(drift, _)| drift),
            Some(TimeDelta::seconds(-74)),
            "the last that is known"
        );
    }
}
