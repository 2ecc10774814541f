//! Calendars: which dates of a zone are working days, and the rule by which a schedule heeds them.
//!
//! A date is a working day if it is an extra working day, else if its weekday is a working one and it is no holiday.
//! A due time belongs to the date that it has in the calendar's zone, whatever the schedule's zone is. How a calendar
//! changed over time is not known here: each version is a [`Calendar`] of its own, in force over the rule it stands in.

use super::ScheduleError;
use super::wall::{self, Spans};
use super::zone::parse_zone;
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most dated days of a calendar, holidays and extra working days together: some eighty years of holidays.
pub const CALENDAR_DAYS_MAX: usize = 2_000;

/// The longest name of a holiday, characters.
pub const HOLIDAY_NAME_MAX: usize = 100;

/// On which days of its calendar a schedule comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum DayRule {
    /// On every day; the calendar is not asked.
    #[default]
    EveryDay,
    /// On working days.
    WorkingDays,
    /// On all other days: weekends and holidays.
    NonWorkingDays,
    /// On dated holidays, also those on a weekend.
    Holidays,
}

impl DayRule {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::EveryDay, Self::WorkingDays, Self::NonWorkingDays, Self::Holidays];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EveryDay => "every_day",
            Self::WorkingDays => "working_days",
            Self::NonWorkingDays => "non_working_days",
            Self::Holidays => "holidays",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }
}

/// A set of weekdays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weekdays(u8);

impl Weekdays {
    /// Monday to Friday.
    pub const MONDAY_TO_FRIDAY: Self = Self(0b001_1111);

    /// Whether the weekday is in it.
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << day.num_days_from_monday()) != 0
    }

    /// The weekdays in it, Monday first.
    pub fn iter(self) -> impl Iterator<Item = Weekday> {
        (0..7_u8)
            .filter_map(|day| Weekday::try_from(day).ok())
            .filter(move |day| self.contains(*day))
    }
}

impl FromIterator<Weekday> for Weekdays {
    fn from_iter<I: IntoIterator<Item = Weekday>>(days: I) -> Self {
        Self(
            days.into_iter()
                .fold(0, |bits, day| bits | (1 << day.num_days_from_monday())),
        )
    }
}

/// A dated holiday.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holiday {
    /// When.
    pub date: NaiveDate,
    /// Its name, for people; may be empty.
    pub name: String,
}

/// What is wrong with a calendar; the field as the API names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct CalendarFault {
    /// The field, e.g. `holidays[3]`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// One version of a calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    zone: Tz,
    weekdays: Weekdays,
    /// By date, no date twice.
    holidays: Vec<Holiday>,
    /// By date, no date twice, none a holiday as well.
    working_days: Vec<NaiveDate>,
}

impl Calendar {
    /// Checks and sorts.
    ///
    /// # Errors
    /// Every [`CalendarFault`]: an unknown zone, a date that stands twice, too many of them.
    pub fn new(
        zone: &str,
        weekdays: Weekdays,
        mut holidays: Vec<Holiday>,
        mut working_days: Vec<NaiveDate>,
    ) -> Result<Self, Vec<CalendarFault>> {
        let mut faults = Vec::new();
        let mut fault = |field: String, message: String| faults.push(CalendarFault { field, message });
        let zone = parse_zone(zone)
            .map_err(|error| fault("time_zone".to_owned(), error.to_string()))
            .ok();
        let dated = holidays.len().saturating_add(working_days.len());
        if dated > CALENDAR_DAYS_MAX {
            let message =
                format!("{dated} dated days; at most {CALENDAR_DAYS_MAX}, holidays and working days together");
            fault("holidays".to_owned(), message);
        }
        let mut seen = std::collections::HashMap::new();
        for (index, holiday) in holidays.iter().enumerate() {
            let place = format!("holidays[{index}]");
            let length = holiday.name.chars().count();
            if length > HOLIDAY_NAME_MAX || holiday.name.chars().any(char::is_control) {
                let message = format!("a name has at most {HOLIDAY_NAME_MAX} printable characters, this has {length}");
                fault(format!("{place}.name"), message);
            }
            check_date(holiday.date, place, &mut seen, &mut fault);
        }
        for (index, date) in working_days.iter().enumerate() {
            check_date(*date, format!("working_days[{index}]"), &mut seen, &mut fault);
        }
        match zone {
            Some(zone) if faults.is_empty() => {
                holidays.sort_unstable();
                working_days.sort_unstable();
                Ok(Self {
                    zone,
                    weekdays,
                    holidays,
                    working_days,
                })
            }
            _ => Err(faults),
        }
    }

    /// The zone whose dates are meant.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The working weekdays.
    pub fn weekdays(&self) -> Weekdays {
        self.weekdays
    }

    /// The holidays, by date.
    pub fn holidays(&self) -> &[Holiday] {
        &self.holidays
    }

    /// The extra working days, by date.
    pub fn working_days(&self) -> &[NaiveDate] {
        &self.working_days
    }

    /// Whether a date is a dated holiday.
    pub fn is_holiday(&self, date: NaiveDate) -> bool {
        self.holidays
            .binary_search_by_key(&date, |holiday| holiday.date)
            .is_ok()
    }

    /// Whether a date is a working day.
    pub fn is_working_day(&self, date: NaiveDate) -> bool {
        self.working_days.binary_search(&date).is_ok()
            || (self.weekdays.contains(date.weekday()) && !self.is_holiday(date))
    }

    /// Whether a date is one of the rule's.
    pub fn matches(&self, rule: DayRule, date: NaiveDate) -> bool {
        match rule {
            DayRule::EveryDay => true,
            DayRule::WorkingDays => self.is_working_day(date),
            DayRule::NonWorkingDays => !self.is_working_day(date),
            DayRule::Holidays => self.is_holiday(date),
        }
    }

    /// The date of an instant.
    pub fn date_of(&self, instant: DateTime<Utc>) -> NaiveDate {
        instant.with_timezone(&self.zone).date_naive()
    }

    /// The first instant at which a date of the rule's can come, for an instant whose date is none: the beginning of
    /// the next such date up to `last`. On a date on which clocks jump the instant itself, since a clock set back over
    /// midnight brings the date before once more. None: there is no such date.
    pub(super) fn skip_to(&self, rule: DayRule, instant: DateTime<Utc>, last: NaiveDate) -> Option<DateTime<Utc>> {
        let date = self.date_of(instant);
        if !Spans::of(self.zone, date)?.is_plain() {
            return Some(instant);
        }
        let next = self.next_date(rule, date, last)?;
        wall::instant_once(self.zone, next.and_time(NaiveTime::MIN))
    }

    /// The first of the rule's dates behind `date`, up to `last`.
    fn next_date(&self, rule: DayRule, date: NaiveDate, last: NaiveDate) -> Option<NaiveDate> {
        if rule == DayRule::Holidays {
            let place = self.holidays.partition_point(|holiday| holiday.date <= date);
            return self
                .holidays
                .get(place)
                .map(|holiday| holiday.date)
                .filter(|next| *next <= last);
        }
        let mut next = date.succ_opt()?;
        while next <= last {
            if self.matches(rule, next) {
                return Some(next);
            }
            next = next.succ_opt()?;
        }
        None
    }
}

fn check_date(
    date: NaiveDate,
    place: String,
    seen: &mut std::collections::HashMap<NaiveDate, String>,
    fault: &mut impl FnMut(String, String),
) {
    if !(1970..=2999).contains(&date.year()) {
        fault(
            place,
            format!("{date} is out of range; write a date of the years 1970 to 2999"),
        );
    } else if let Some(other) = seen.get(&date) {
        fault(place, format!("{date} stands in {other} already; each date once"));
    } else {
        seen.insert(date, place);
    }
}

/// A reference to a calendar that a rule needs and does not have.
pub(super) fn missing(rule: DayRule) -> ScheduleError {
    ScheduleError::Calendar { rule: rule.as_str() }
}

impl fmt::Display for DayRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn holiday(text: &str) -> Holiday {
        Holiday {
            date: day(text),
            name: String::new(),
        }
    }

    #[test]
    fn holidays_and_extra_working_days_outrank_weekdays() {
        // China 2026: National Day Thursday 1 October; Saturday 10 October is worked in its stead
        let calendar = Calendar::new(
            "Asia/Shanghai",
            Weekdays::MONDAY_TO_FRIDAY,
            vec![holiday("2026-10-04"), holiday("2026-10-01")],
            vec![day("2026-10-10")],
        )
        .unwrap();
        let kinds = |text: &str| DayRule::ALL.map(|rule| calendar.matches(rule, day(text)));
        assert_eq!(kinds("2026-10-01"), [true, false, true, true]);
        assert_eq!(kinds("2026-10-04"), [true, false, true, true], "a holiday on a Sunday");
        assert_eq!(kinds("2026-10-09"), [true, true, false, false]);
        assert_eq!(
            kinds("2026-10-10"),
            [true, true, false, false],
            "an extra working Saturday"
        );
        assert_eq!(kinds("2026-10-11"), [true, false, true, false]);
        // 16:30 UTC is the next morning in Shanghai
        assert_eq!(
            calendar.date_of("2026-09-30T16:30:00Z".parse().unwrap()),
            day("2026-10-01")
        );
    }

    #[test]
    fn every_fault_has_its_place() {
        let long = Holiday {
            name: "x".repeat(HOLIDAY_NAME_MAX + 1),
            ..holiday("2026-12-26")
        };
        let faults = Calendar::new(
            "Europe/Berln",
            Weekdays::default(),
            vec![holiday("2026-12-25"), holiday("2026-12-25"), long],
            vec![day("2026-12-25"), day("0001-01-01")],
        )
        .unwrap_err();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "time_zone",
                "holidays[1]",
                "holidays[2].name",
                "working_days[0]",
                "working_days[1]"
            ]
        );
        let many = (0..2_001)
            .map(|n| day("2000-01-01") + chrono::TimeDelta::days(n))
            .collect();
        let faults = Calendar::new("UTC", Weekdays::default(), Vec::new(), many).unwrap_err();
        assert!(
            faults[0].message.contains("2001 dated days; at most 2000"),
            "{faults:?}"
        );
    }

    #[test]
    fn weekdays_are_listed_from_monday() {
        let days: Weekdays = [Weekday::Sun, Weekday::Mon, Weekday::Sun].into_iter().collect();
        assert_eq!(days.iter().collect::<Vec<_>>(), [Weekday::Mon, Weekday::Sun]);
        assert!(Weekdays::MONDAY_TO_FRIDAY.iter().eq([
            Weekday::Mon,
            Weekday::Tue,
            Weekday::Wed,
            Weekday::Thu,
            Weekday::Fri
        ]));
    }
}
