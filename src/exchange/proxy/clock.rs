//! What a terminal's login says of its clock. The terminal shows local time and names no zone; zones lie half hours apart, so
//! what is less than a quarter of an hour is the clock's own fault.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

/// Zones lie within so many half hours of UTC.
const HALF_HOURS_MAX: i64 = 28;
const HALF_HOUR_S: i64 = 1800;

/// A terminal's clock against ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSaid {
    /// By how much it is ahead of the time of its zone, less than a quarter of an hour either way; and that time.
    Near {
        /// Seconds.
        ahead_s: i64,
        /// The time of its zone.
        local: NaiveDateTime,
    },
    /// No zone shows this time now: it was never set, or is days off.
    Wrong,
    /// It shows no time.
    None,
}

impl ClockSaid {
    /// Judges what a clock shows.
    pub fn of(shown: Option<NaiveDateTime>, now: DateTime<Utc>) -> Self {
        let Some(shown) = shown else { return Self::None };
        let utc = now.naive_utc();
        let off = (shown - utc).num_seconds();
        let half_hours = (off + HALF_HOUR_S / 2).div_euclid(HALF_HOUR_S);
        if half_hours.abs() > HALF_HOURS_MAX {
            return Self::Wrong;
        }
        match utc.checked_add_signed(TimeDelta::seconds(half_hours * HALF_HOUR_S)) {
            Some(local) => Self::Near {
                ahead_s: off - half_hours * HALF_HOUR_S,
                local,
            },
            None => Self::Wrong,
        }
    }

    /// The time of its zone; UTC where nobody knows which that is.
    pub fn local(self, now: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Near { local, .. } => local,
            Self::Wrong | Self::None => now.naive_utc(),
        }
    }

    /// In one word, for metrics: `right` within a minute, `off`, `wrong`, `none`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Near { ahead_s, .. } if ahead_s.abs() <= 60 => "right",
            Self::Near { .. } => "off",
            Self::Wrong => "wrong",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_is_judged_by_the_zone_that_it_must_be_in() {
        let now = at("2026-11-21T22:30:10Z");
        let said = |text: &str| ClockSaid::of(Some(text.parse().unwrap()), now);
        let local: NaiveDateTime = "2026-11-22T06:30:10".parse().unwrap();
        assert_eq!(said("2026-11-22T06:32:15"), ClockSaid::Near { ahead_s: 125, local });
        assert_eq!(said("2026-11-22T06:30:00").word(), "right");
        assert_eq!(said("2026-11-22T06:20:10").word(), "off");
        assert_eq!(said("2000-01-01T00:00:00"), ClockSaid::Wrong);
        assert_eq!(said("2000-01-01T00:00:00").local(now), now.naive_utc());
        assert_eq!(ClockSaid::of(None, now).word(), "none");
    }

    proptest! {
        #[test]
        fn a_drift_below_a_quarter_hour_is_told_in_every_zone(half in -24i64..=28, drift in -899i64..900) {
            let now = at("2026-11-21T22:30:10Z");
            let local = now.naive_utc() + TimeDelta::seconds(half * 1800);
            let said = ClockSaid::of(Some(local + TimeDelta::seconds(drift)), now);
            prop_assert_eq!(said, ClockSaid::Near { ahead_s: drift, local });
        }
    }
}
