//! When a rule comes due: its timing, narrowed to the days of a calendar.

use super::calendar::{self, Calendar, DayRule};
use super::{CompiledSchedule, ScheduleError, Timing, wall};
use crate::domain::device::ScheduleRule;
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use std::sync::Arc;

/// How many years ahead a due time on one of the calendar's days is looked for: a leap day on a working day can be so
/// far away.
const HORIZON_YEARS: i32 = 12;

/// Due times that are looked at, at most, before one falls on the right day; a day on which clocks jump is walked
/// through time by time, and has at most 90,000 of them.
const STEPS_MAX: usize = 200_000;

/// A timing and the days on which it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    schedule: CompiledSchedule,
    /// None: every day.
    days: Option<(DayRule, Arc<Calendar>)>,
}

impl Recurrence {
    /// Compiles a timing in a zone, on the days of a calendar.
    ///
    /// # Errors
    /// [`ScheduleError`]; [`ScheduleError::Calendar`] where the rule asks for days and there is no calendar.
    pub fn compile(
        timing: &Timing,
        zone: &str,
        days: DayRule,
        calendar: Option<&Arc<Calendar>>,
    ) -> Result<Self, ScheduleError> {
        let days = match (days, calendar) {
            (DayRule::EveryDay, _) => None,
            (rule, Some(calendar)) => Some((rule, Arc::clone(calendar))),
            (rule, None) => return Err(calendar::missing(rule)),
        };
        Ok(Self {
            schedule: timing.compile(zone)?,
            days,
        })
    }

    /// The first due time strictly after `after`, a whole second. None when there is none within
    /// fifty years, twelve with a calendar.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let due = self.schedule.next_after(after)?;
        match &self.days {
            None => Some(due),
            Some((rule, calendar)) => self.on_day(*rule, calendar, due),
        }
    }

    /// The first due time at or after `from`.
    pub fn next_from(&self, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.next_after(from.checked_sub_signed(TimeDelta::nanoseconds(1))?)
    }

    /// The zone of its wall times.
    pub fn zone(&self) -> Tz {
        self.schedule.zone()
    }

    /// The date of an instant in its zone.
    pub fn date_of(&self, instant: DateTime<Utc>) -> NaiveDate {
        instant.with_timezone(&self.zone()).date_naive()
    }

    /// The first instant of the date that an instant has in its zone.
    pub fn day_begins(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        wall::instant_once(self.zone(), self.date_of(instant).and_time(NaiveTime::MIN))
    }

    /// The first due time at or after `due`, which is one, that falls on a day of the rule's.
    fn on_day(&self, rule: DayRule, calendar: &Calendar, mut due: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last = NaiveDate::from_ymd_opt(calendar.date_of(due).year().checked_add(HORIZON_YEARS)?, 12, 31)?;
        for _ in 0..STEPS_MAX {
            let date = calendar.date_of(due);
            if calendar.matches(rule, date) {
                return Some(due);
            }
            if date > last {
                return None;
            }
            due = match calendar.skip_to(rule, due, last)? {
                begin if begin > due => self.schedule.next_from(begin)?,
                _ => self.schedule.next_after(due)?,
            };
        }
        None
    }
}

/// A calendar as it stood over `[valid_from, valid_to)`.
#[derive(Clone, Debug, PartialEq)]
pub struct CalendarVersion {
    /// In force from.
    pub valid_from: DateTime<Utc>,
    /// In force until; none: still.
    pub valid_to: Option<DateTime<Utc>>,
    /// What it said.
    pub calendar: Arc<Calendar>,
}

/// A rule on a calendar's days as the rules that it was over time: one for each version of the calendar (oldest first,
/// without holes), in force where the rule and the version are. The first version counts for what lies before it, too.
pub fn over_versions(rule: ScheduleRule, versions: &[CalendarVersion]) -> Vec<ScheduleRule> {
    if rule.days == DayRule::EveryDay || versions.is_empty() {
        return vec![rule];
    }
    let ends = versions.iter().skip(1).map(|next| Some(next.valid_from)).chain([None]);
    let mut from = rule.valid_from;
    let mut rules = Vec::new();
    for (version, end) in versions.iter().zip(ends) {
        let to = match (rule.valid_to, end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if to.is_none_or(|to| to > from) {
            rules.push(ScheduleRule {
                valid_from: from,
                valid_to: to,
                calendar: Some(Arc::clone(&version.calendar)),
                ..rule.clone()
            });
        }
        from = end.map_or(from, |end| end.max(from));
    }
    rules
}
