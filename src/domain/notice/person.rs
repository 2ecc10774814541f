//! A person, and when it suits them: language, zone, quiet hours, digest.

use super::{ChannelKind, Language, Severity};
use crate::base::ids::{ChannelId, RecipientId};
use chrono::{DateTime, Days, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// One way to reach a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// How.
    pub kind: ChannelKind,
}

/// Hours of a day on the person's wall clock in which only what matters more than others comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// From this time of day …
    #[serde(with = "minutes")]
    #[schema(value_type = String, example = "22:00")]
    pub from: NaiveTime,
    /// … to before this one, the next day if it is not later.
    #[serde(with = "minutes")]
    #[schema(value_type = String, example = "07:00")]
    pub to: NaiveTime,
    /// What is at least as severe comes through all the same.
    #[serde(default = "critical")]
    pub unless: Severity,
}

fn critical() -> Severity {
    Severity::Critical
}

/// Happenings are gathered and told together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Every so many minutes, counted from `at` of each day; 1440: once a day.
    #[schema(minimum = 5, maximum = 1440, example = 60)]
    pub every_min: u32,
    /// A time of day at which a digest goes out.
    #[serde(with = "minutes", default = "morning")]
    #[schema(value_type = String, example = "08:00")]
    pub at: NaiveTime,
    /// What is more severe does not wait.
    #[serde(default = "warning")]
    pub up_to: Severity,
}

fn morning() -> NaiveTime {
    NaiveTime::from_hms_opt(8, 0, 0).unwrap_or(NaiveTime::MIN)
}

fn warning() -> Severity {
    Severity::Warning
}

/// The shortest and the longest time between digests, minutes.
pub const DIGEST_MIN: std::ops::RangeInclusive<u32> = 5..=1440;

/// Times of day as `HH:MM`.
mod minutes {
    use chrono::NaiveTime;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &NaiveTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&time.format("%H:%M"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        NaiveTime::parse_from_str(&text, "%H:%M")
            .map_err(|_| D::Error::custom(format!("{text:?} is no time of day; write it as 22:00")))
    }
}

/// A person or place that is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// Their id.
    pub id: RecipientId,
    /// What they read.
    pub language: Language,
    /// Where their wall clock hangs.
    pub zone: Tz,
    /// When they rest.
    pub quiet: Option<Quiet>,
    /// How their happenings are gathered.
    pub digest: Option<Digest>,
    /// Their channels that are switched on.
    pub channels: Vec<Channel>,
}

impl Recipient {
    /// When something that may be told from `from` on is told: at once, with the next digest, after the quiet hours.
    pub fn due(&self, from: DateTime<Utc>, severity: Severity) -> DateTime<Utc> {
        let gathered = match &self.digest {
            Some(digest) if severity <= digest.up_to => digest.next(from, self.zone),
            _ => from,
        };
        match &self.quiet {
            Some(quiet) if severity < quiet.unless => quiet.end(gathered, self.zone).unwrap_or(gathered),
            _ => gathered,
        }
    }
}

/// The first instant from which on a wall clock shows at least this time: behind a gap if it falls into one, the first
/// of two if it comes twice.
fn instant(zone: Tz, wall: NaiveDateTime) -> DateTime<Utc> {
    // gaps are at most a day (a change of the date line); a quarter of an hour is the finest step of any zone
    for quarter in 0..=96 {
        let shifted = wall + TimeDelta::minutes(15 * quarter);
        if let Some(found) = zone.from_local_datetime(&shifted).earliest() {
            // the end of the gap, not the same minutes behind it
            let found = found.with_timezone(&Utc);
            return if quarter == 0 {
                found
            } else {
                gap_end(zone, wall, found)
            };
        }
    }
    wall.and_utc()
}

/// The first instant after a gap: between the last that shows less than `wall` and `after`, to the second.
fn gap_end(zone: Tz, wall: NaiveDateTime, after: DateTime<Utc>) -> DateTime<Utc> {
    let (mut before, mut after) = (after - TimeDelta::days(1), after);
    while after - before > TimeDelta::seconds(1) {
        let middle = before + (after - before) / 2;
        if middle.with_timezone(&zone).naive_local() < wall {
            before = middle;
        } else {
            after = middle;
        }
    }
    after.with_nanosecond(0).unwrap_or(after)
}

impl Quiet {
    /// Whether a wall clock shows a quiet time.
    fn covers(&self, time: NaiveTime) -> bool {
        if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            time >= self.from || time < self.to
        }
    }

    /// When the quiet hours end that hold at `now`; none when they do not hold.
    pub fn end(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let mut at = now;
        // twice at most: where clocks go back over the end, the wall clock can be quiet again right there
        for _ in 0..4 {
            let wall = at.with_timezone(&zone).naive_local();
            if !self.covers(wall.time()) {
                return (at > now).then_some(at);
            }
            let today = wall.date().and_time(self.to);
            let end = if today > wall {
                today
            } else {
                today.checked_add_days(Days::new(1)).unwrap_or(today)
            };
            let next = instant(zone, end);
            // the earlier of two equal wall times can lie before `at`; then it is the later one
            at = if next > at {
                next
            } else {
                zone.from_local_datetime(&end)
                    .latest()
                    .map_or(at + TimeDelta::hours(1), |late| late.with_timezone(&Utc))
            };
        }
        Some(at)
    }
}

impl Digest {
    /// The next instant at which a digest goes out, from `now` on.
    pub fn next(&self, now: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
        let date = now.with_timezone(&zone).date_naive();
        let of = |date: Option<chrono::NaiveDate>| date.map_or(now, |date| instant(zone, date.and_time(self.at)));
        let (yesterday, today, tomorrow) = (of(date.pred_opt()), of(Some(date)), of(date.succ_opt()));
        let (begin, end) = if now < today {
            (yesterday, today)
        } else {
            (today, tomorrow)
        };
        let every_s = i64::from(self.every_min.max(1)) * 60;
        let passed = (now - begin).num_milliseconds().max(0);
        let rounds = passed.div_euclid(every_s * 1000) + i64::from(passed.rem_euclid(every_s * 1000) > 0);
        let next = begin + TimeDelta::seconds(rounds.saturating_mul(every_s));
        // the grid begins anew each day; a round that would end close before it is left to it
        if next < end { next } else { end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(h: u32, m: u32) -> NaiveTime {
        NaiveTime::from_hms_opt(h, m, 0).unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn night() -> Quiet {
        Quiet {
            from: time(22, 0),
            to: time(7, 0),
            unless: Severity::Critical,
        }
    }

    #[test]
    fn a_night_ends_in_the_persons_morning() {
        let zone = chrono_tz::Asia::Tokyo;
        // 23:30 in Tokyo
        assert_eq!(
            night().end(utc("2026-03-01T14:30:00Z"), zone),
            Some(utc("2026-03-01T22:00:00Z"))
        );
        assert_eq!(night().end(utc("2026-03-01T03:00:00Z"), zone), None);
        // 07:00 itself is not quiet
        assert_eq!(night().end(utc("2026-03-01T22:00:00Z"), zone), None);
    }

    #[test]
    fn an_end_in_a_gap_is_the_gaps_end() {
        let quiet = Quiet {
            to: time(2, 30),
            ..night()
        };
        // 2026-03-29 in Berlin: 02:00 to 03:00 is left out
        assert_eq!(
            quiet.end(utc("2026-03-29T00:30:00Z"), chrono_tz::Europe::Berlin),
            Some(utc("2026-03-29T01:00:00Z"))
        );
    }

    #[test]
    fn a_digest_keeps_its_grid() {
        let zone = chrono_tz::Asia::Shanghai;
        let hourly = Digest {
            every_min: 60,
            at: time(8, 0),
            up_to: Severity::Warning,
        };
        assert_eq!(
            hourly.next(utc("2026-03-01T03:20:00Z"), zone),
            utc("2026-03-01T04:00:00Z")
        );
        assert_eq!(
            hourly.next(utc("2026-03-01T04:00:00Z"), zone),
            utc("2026-03-01T04:00:00Z")
        );
        let daily = Digest {
            every_min: 1440,
            ..hourly
        };
        assert_eq!(
            daily.next(utc("2026-03-01T03:20:00Z"), zone),
            utc("2026-03-02T00:00:00Z")
        );
    }

    #[test]
    fn the_severe_does_not_wait() {
        let person = Recipient {
            id: RecipientId(1),
            language: Language::En,
            zone: chrono_tz::UTC,
            quiet: Some(night()),
            digest: Some(Digest {
                every_min: 1440,
                at: time(6, 0),
                up_to: Severity::Warning,
            }),
            channels: Vec::new(),
        };
        let now = utc("2026-03-01T23:00:00Z");
        assert_eq!(person.due(now, Severity::Critical), now);
        // the digest of 06:00 falls into the quiet hours
        assert_eq!(person.due(now, Severity::Warning), utc("2026-03-02T07:00:00Z"));
    }

    #[test]
    fn times_of_day_are_written_with_minutes() {
        let text = serde_json::to_string(&night()).unwrap();
        assert_eq!(text, r#"{"from":"22:00","to":"07:00","unless":"critical"}"#);
        assert_eq!(serde_json::from_str::<Quiet>(&text).unwrap(), night());
        assert!(serde_json::from_str::<Quiet>(r#"{"from":"25:00","to":"07:00"}"#).is_err());
    }

    const ZONES: [Tz; 6] = [
        chrono_tz::Europe::Berlin,
        chrono_tz::America::St_Johns,
        chrono_tz::Asia::Shanghai,
        chrono_tz::Australia::Lord_Howe,
        chrono_tz::Pacific::Apia,
        chrono_tz::America::Sao_Paulo,
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// Against a brute force walk over the minutes: the end is the first minute whose wall time is not quiet.
        #[test]
        fn the_end_is_the_first_minute_that_is_not_quiet(
            zone in 0..ZONES.len(), from in 0u32..96, to in 0u32..96, minute in 0i64..(600 * 1440),
        ) {
            prop_assume!(from != to);
            let zone = ZONES[zone];
            let quiet = Quiet { from: time(from / 4, from % 4 * 15), to: time(to / 4, to % 4 * 15), unless: Severity::Critical };
            let now = utc("2025-01-01T00:00:00Z") + TimeDelta::minutes(minute);
            let quiet_at = |at: DateTime<Utc>| quiet.covers(at.with_timezone(&zone).time());
            let mut walk = now;
            while quiet_at(walk) {
                walk += TimeDelta::minutes(1);
            }
            prop_assert_eq!(quiet.end(now, zone).unwrap_or(now), walk);
        }

        /// Whatever the settings: never before `from`, never in quiet hours, and soon.
        #[test]
        fn due_is_never_early_nor_quiet_nor_far(
            zone in 0..ZONES.len(), from in 0u32..24, to in 0u32..24, every in 5u32..=1440, at in 0u32..24,
            minute in 0i64..(600 * 1440), severity in 0usize..3,
        ) {
            prop_assume!(from != to);
            let quiet = Quiet { from: time(from, 0), to: time(to, 0), unless: Severity::Critical };
            let person = Recipient {
                id: RecipientId(1), language: Language::Ru, zone: ZONES[zone], quiet: Some(quiet),
                digest: Some(Digest { every_min: every, at: time(at, 0), up_to: Severity::Warning }), channels: Vec::new(),
            };
            let now = utc("2025-01-01T00:00:00Z") + TimeDelta::minutes(minute);
            let severity = Severity::ALL[severity];
            let due = person.due(now, severity);
            prop_assert!(due >= now);
            if severity == Severity::Critical {
                prop_assert_eq!(due, now);
            } else {
                prop_assert!(!quiet.covers(due.with_timezone(&person.zone).time()), "{}", due);
                prop_assert!(due - now <= TimeDelta::hours(51));
            }
        }
    }
}
