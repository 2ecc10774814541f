//! Reading schedules: cron expressions in a named zone, mapped to instants by our own rule.
//!
//! The `cron` crate expands the fields; everything around it is ours, because in a zone with daylight saving time the
//! crate loses or doubles jobs. An expression is evaluated on wall-clock time without a zone and mapped to instants so:
//! where hour and minute are fixed (plain values or lists of them), a wall time that does not exist runs at the first
//! instant after the gap and one that exists twice runs once, the first time; where one of them is a wildcard, a step
//! or a range, every real instant whose wall time matches runs (the repeated hour twice, the skipped one not).
//! Instants that collapse are one.
//!
//! Intervals and settlement days ([`Timing`]) follow the same two rules. A [`Recurrence`] narrows any of them to the days
//! of a [`Calendar`].

mod calendar;
mod cron_text;
mod recurrence;
mod rule;
mod timing;
mod wall;
mod zone;

pub use calendar::{CALENDAR_DAYS_MAX, Calendar, CalendarFault, DayRule, HOLIDAY_NAME_MAX, Holiday, Weekdays};
pub use cron_text::{CRON_TEXT_MAX, CronField};
pub use recurrence::{CalendarVersion, Recurrence, over_versions};
pub use rule::{
    ATTEMPTS_MAX, BACKOFF_S_MAX, BUDGET_MAX, RuleFault, RuleFaults, WINDOW_S_MAX, check_retry_policy, check_rule,
    check_timing,
};
pub use timing::{SETTLEMENT_DAY_MAX, SettlementDay, SettlementTime, Timing};
pub use zone::{ZONE_TEXT_MAX, parse_zone};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// Why a schedule's text is not a schedule. Says where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Nothing there.
    #[error("the cron expression is empty; write 5 fields such as \"*/15 * * * *\" (every 15 minutes)")]
    Empty,
    /// Over [`CRON_TEXT_MAX`].
    #[error("the cron expression has {found} characters; at most {CRON_TEXT_MAX} are taken")]
    TooLong {
        /// How many it has.
        found: usize,
    },
    /// Neither 5 nor 6 fields.
    #[error(
        "a cron expression has 5 fields (minute hour day-of-month month day-of-week) or 6 with the second in front; this has {found}{hint}"
    )]
    FieldCount {
        /// How many it has.
        found: usize,
        /// What to write instead, or empty.
        hint: &'static str,
    },
    /// An `@word` that is not known.
    #[error("\"{found}\" is not known; write @hourly, @daily, @weekly, @monthly, @yearly or 5 fields")]
    Shorthand {
        /// The word.
        found: String,
    },
    /// A fault within one field.
    #[error("cron field {field}: \"{item}\" {problem}")]
    Field {
        /// Which field.
        field: CronField,
        /// The part of it that is at fault.
        item: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// Not a zone of the IANA database.
    #[error("\"{found}\" is not a time zone of the IANA database; {}", zone::advice(.near))]
    Zone {
        /// The text, shortened to [`ZONE_TEXT_MAX`] characters.
        found: String,
        /// Zones with a similar name, the best first.
        near: Vec<&'static str>,
    },
    /// An interval that does not divide the day.
    #[error("every {found} minutes does not divide the day; write {near} minutes, or a cron expression")]
    Interval {
        /// The minutes.
        found: u16,
        /// The nearest that do.
        near: String,
    },
    /// A settlement day that some month lacks.
    #[error("settlement day {found} is not in every month; write 1 to 28, or \"last\"")]
    SettlementDay {
        /// The day.
        found: u8,
    },
    /// Not a time of day.
    #[error("{hour:02}:{minute:02} is not a time of day; write hour 0 to 23 and minute 0 to 59")]
    SettlementTime {
        /// The hour.
        hour: u8,
        /// The minute.
        minute: u8,
    },
    /// Days are asked for that only a calendar knows.
    #[error("{rule} needs a calendar; name one, or write every_day")]
    Calendar {
        /// The rule's name.
        rule: &'static str,
    },
    /// The `cron` crate refused what we made of the expression: a fault of ours.
    #[error("the cron expression could not be compiled: {0}")]
    Compile(String),
}

/// How many years ahead a next due time is looked for; 29 February on a given weekday can be 40 years away.
const HORIZON_YEARS: i32 = 50;

/// A parsed schedule: sets of matching seconds, minutes … and the zone. 40 bytes and `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompiledSchedule {
    seconds: u64,
    minutes: u64,
    hours: u32,
    /// Bits 1 to 31.
    days: u32,
    /// Bits 1 to 12.
    months: u16,
    /// Bits 0 (Sunday) to 6.
    weekdays: u8,
    /// `L`: the last day of the month as well.
    last_day: bool,
    /// Day of month and day of week are both restricted: one of them is enough (POSIX crontab).
    either_day: bool,
    /// Each matching wall time runs exactly once a day.
    fixed: bool,
    /// Every so many minutes of the day, instead of seconds, minutes and hours; 0: by those.
    every_min: u16,
    zone: Tz,
}

impl CompiledSchedule {
    /// Parses a cron expression of 5 fields (minute, hour, day of month, month, day of week) or 6 (second in front), or
    /// `@hourly @daily @weekly @monthly @yearly`, in the IANA zone `zone`.
    ///
    /// Names (`JAN`, `mon`), lists, ranges, steps, Sunday as 0 or 7, `L` as last day of the month, `?` as `*` in the
    /// day fields. Where both day fields are restricted, a day matches if one of them does, as in POSIX crontab.
    ///
    /// # Errors
    /// [`ScheduleError`] names the field, the fault and the remedy.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, ScheduleError> {
        let zone = parse_zone(zone)?;
        cron_text::compile(cron, zone)
    }

    /// The zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Whether each matching wall time runs exactly once a day, gaps and repeated hours or not.
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// The first due time strictly after `after`, a whole second. None when there is none within fifty years, as for 30
    /// February.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = DateTime::from_timestamp(after.timestamp(), 0)?;
        if self.fixed {
            self.next_fixed(after)
        } else {
            self.next_matching(after)
        }
    }

    /// The first due time at or after `from`.
    pub fn next_from(&self, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // due times are whole seconds: the nanosecond before `from` excludes none of them
        self.next_after(from.checked_sub_signed(TimeDelta::nanoseconds(1))?)
    }

    /// The due times in `[from, to)`, ascending, without duplicates. Lazy: as much work as is taken.
    pub fn due_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> DueTimes {
        DueTimes {
            schedule: *self,
            next: self.next_from(from).filter(|due| *due < to),
            to,
        }
    }

    /// Fixed hour and minute: wall times in their order, each mapped to one instant. The mapping is monotone.
    fn next_fixed(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut wall = wall::first_wall_after(self.zone, after)?;
        let last = self.horizon(wall.date())?;
        loop {
            let (date, second) = self.next_wall(wall, last)?;
            wall = wall::at(date, second)?;
            let due = wall::instant_once(self.zone, wall)?;
            if due > after {
                return Some(due);
            }
            wall = wall.checked_add_signed(TimeDelta::seconds(1))?;
        }
    }

    /// The first matching wall time at or after `from`, up to the date `last`.
    fn next_wall(&self, from: NaiveDateTime, last: NaiveDate) -> Option<(NaiveDate, u32)> {
        let date = self.next_date(from.date(), last)?;
        if date == from.date()
            && let Some(second) = self.next_second_of_day(wall::second_of_day(from))
        {
            return Some((date, second));
        }
        let date = if date == from.date() {
            self.next_date(date.succ_opt()?, last)?
        } else {
            date
        };
        Some((date, self.next_second_of_day(0)?))
    }

    /// Wildcards: every real instant whose wall time matches.
    fn next_matching(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // a clock set back over midnight makes the previous date return
        let mut date = after.with_timezone(&self.zone).date_naive().pred_opt()?;
        let last = self.horizon(date)?;
        loop {
            date = self.next_date(date, last)?;
            let tomorrow = date.succ_opt()?;
            if let Some((due, plain)) = self.first_on(date, after) {
                if plain || !self.day_matches(tomorrow) {
                    return Some(due);
                }
                let other = self.first_on(tomorrow, after).map_or(due, |(other, _)| other);
                return Some(due.min(other));
            }
            date = tomorrow;
        }
    }

    /// The first matching instant of a wall-clock date after `after`, and whether the date has one offset throughout.
    fn first_on(&self, date: NaiveDate, after: DateTime<Utc>) -> Option<(DateTime<Utc>, bool)> {
        let spans = wall::Spans::of(self.zone, date)?;
        let plain = spans.is_plain();
        spans
            .iter()
            .find_map(|span| {
                let from = span.second_of_day_after(after)?;
                let second = self.next_second_of_day(from)?;
                span.instant(second)
            })
            .map(|due| (due, plain))
    }

    fn horizon(&self, from: NaiveDate) -> Option<NaiveDate> {
        NaiveDate::from_ymd_opt(from.year().checked_add(HORIZON_YEARS)?, 12, 31)
    }

    /// The first matching date at or after `date`, up to `last`.
    fn next_date(&self, mut date: NaiveDate, last: NaiveDate) -> Option<NaiveDate> {
        while date <= last {
            if self.months & (1 << date.month()) == 0 {
                date = first_of_next_month(date)?;
            } else if self.day_matches(date) {
                return Some(date);
            } else {
                date = date.succ_opt()?;
            }
        }
        None
    }

    fn day_matches(&self, date: NaiveDate) -> bool {
        let month = self.months & (1 << date.month()) != 0;
        let of_month = self.days & (1 << date.day()) != 0 || (self.last_day && is_last_of_month(date));
        let of_week = self.weekdays & (1 << date.weekday().num_days_from_sunday()) != 0;
        month
            && if self.either_day {
                of_month || of_week
            } else {
                of_month && of_week
            }
    }

    /// The first matching second of a day at or after `from`.
    fn next_second_of_day(&self, from: u32) -> Option<u32> {
        if self.every_min > 0 {
            let step = u32::from(self.every_min) * 60;
            return Some(from.div_ceil(step) * step).filter(|second| *second < wall::DAY_SECONDS);
        }
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        let first_second = next_bit(self.seconds, 0)?;
        let first_minute = next_bit(self.minutes, 0)?;
        let in_hour = self.hours.checked_shr(hour).is_some_and(|bits| bits & 1 == 1);
        if in_hour {
            if self.minutes & (1 << minute) != 0
                && let Some(second) = next_bit(self.seconds, second)
            {
                return Some(hour * 3600 + minute * 60 + second);
            }
            if let Some(minute) = next_bit(self.minutes, minute + 1) {
                return Some(hour * 3600 + minute * 60 + first_second);
            }
        }
        let hour = next_bit(u64::from(self.hours), hour + 1)?;
        Some(hour * 3600 + first_minute * 60 + first_second)
    }
}

/// The due times of a schedule in a half-open span; made by [`CompiledSchedule::due_between`].
#[derive(Clone, Debug)]
pub struct DueTimes {
    schedule: CompiledSchedule,
    next: Option<DateTime<Utc>>,
    to: DateTime<Utc>,
}

impl Iterator for DueTimes {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<Self::Item> {
        let due = self.next.take()?;
        self.next = self.schedule.next_after(due).filter(|next| *next < self.to);
        Some(due)
    }
}

/// The lowest set bit at or above `from`.
fn next_bit(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from)?.checked_shl(from)?;
    (rest != 0).then(|| rest.trailing_zeros())
}

fn first_of_next_month(date: NaiveDate) -> Option<NaiveDate> {
    if date.month() == 12 {
        NaiveDate::from_ymd_opt(date.year().checked_add(1)?, 1, 1)
    } else {
        NaiveDate::from_ymd_opt(date.year(), date.month() + 1, 1)
    }
}

fn is_last_of_month(date: NaiveDate) -> bool {
    date.succ_opt().is_none_or(|next| next.day() == 1)
}

#[cfg(test)]
mod tests;
