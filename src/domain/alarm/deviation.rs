//! Consumption against the meter's own profile: an hour is compared with the same hour of the week (and its two
//! neighbours) in the weeks before, by median and median absolute deviation, which a few odd weeks do not move.
//!
//! A single odd hour is life; so many in a row as the rule says are an alarm. Holidays of a calendar are compared with
//! Sundays and earlier holidays, and nothing else is compared with them. Pure: hours come in as a map, so the actor, the
//! trial of a rule on the past and the tests use the same judgement.

use super::rule::DeviationCheck;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use std::collections::{BTreeSet, HashMap};

/// Fewer comparable hours than this, and there is no judgement: two weeks of an hour and its neighbours.
pub const SAMPLES_MIN: usize = 6;
/// The spread is taken for at least this share of what is expected: no meter is as steady as its median.
const SPREAD_SHARE_MIN: f64 = 0.15;
/// Makes the median absolute deviation of normal values their standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;
/// What is not so far above what comparable hours showed has been seen before.
const NEW_FROM: f64 = 1.25;

/// What comparable hours let expect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// Their median.
    pub expected: f64,
    /// Their robust standard deviation.
    pub spread: f64,
    /// All but an eighth are at or below it: of eight weeks one may have been odd.
    pub high: f64,
    /// All but an eighth are at or above it.
    pub low: f64,
    /// How many they are.
    pub samples: usize,
}

/// What an hour is, beside what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too much.
    High,
    /// Too little.
    Low,
    /// Neither.
    Usual,
}

/// What the last hours come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judgement {
    /// All of them are out of the ordinary, the same way.
    Raise {
        /// The last hour's consumption.
        value: f64,
        /// What was to be expected of it.
        expected: f64,
        /// When the first of them began.
        since: DateTime<Utc>,
    },
    /// All of them are usual.
    Clear,
    /// Neither, or nothing can be said yet.
    Open,
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get((sorted.len() / 2).checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// The expectation of comparable hours; none when there are too few.
pub fn expect(values: impl IntoIterator<Item = f64>) -> Option<Expectation> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    if values.len() < SAMPLES_MIN {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let expected = middle(&values)?;
    let odd = values.len() / 8;
    let high = *values.get(values.len().saturating_sub(1).saturating_sub(odd))?;
    let low = *values.get(odd)?;
    let samples = values.len();
    for value in &mut values {
        *value = (*value - expected).abs();
    }
    values.sort_unstable_by(f64::total_cmp);
    let spread = (MAD_TO_SIGMA * middle(&values)?).max(SPREAD_SHARE_MIN * expected.abs());
    Some(Expectation {
        expected,
        spread,
        high,
        low,
        samples,
    })
}

/// What an hour is by a rule.
pub fn verdict(check: &DeviationCheck, value: f64, expectation: &Expectation) -> Verdict {
    let Expectation {
        expected,
        spread,
        high,
        low,
        ..
    } = *expectation;
    let off = (value - expected).abs();
    if off < check.volume_min || off < check.score * spread {
        return Verdict::Usual;
    }
    if value > check.factor * expected && value > NEW_FROM * high {
        return Verdict::High;
    }
    if check.below && value * check.factor < expected && value * NEW_FROM < low {
        return Verdict::Low;
    }
    Verdict::Usual
}

/// The instant of a wall time; the earlier one where it comes twice, none where it does not exist.
fn instant(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    let local = zone.from_local_datetime(&wall).earliest()?;
    Some(local.with_timezone(&Utc))
}

/// The days that a day is compared with, the newest first.
fn days(check: &DeviationCheck, holidays: &BTreeSet<NaiveDate>, day: NaiveDate) -> Vec<NaiveDate> {
    let back = i64::from(check.weeks) * 7;
    if !holidays.contains(&day) {
        let weeks = (1..=i64::from(check.weeks)).filter_map(|week| day.checked_sub_signed(TimeDelta::days(7 * week)));
        return weeks.filter(|day| !holidays.contains(day)).collect();
    }
    let before = (1..=back).filter_map(|days| day.checked_sub_signed(TimeDelta::days(days)));
    before
        .filter(|day| day.weekday() == Weekday::Sun || holidays.contains(day))
        .collect()
}

/// When the hours begin that the hour beginning at `start` is compared with.
pub fn comparable(
    check: &DeviationCheck,
    zone: Tz,
    holidays: &BTreeSet<NaiveDate>,
    start: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let wall = start.with_timezone(&zone).naive_local();
    let mut found = Vec::new();
    for day in days(check, holidays, wall.date()) {
        let Some(same) = day.and_hms_opt(wall.hour(), 0, 0) else {
            continue;
        };
        for hours in -1..=1 {
            let neighbour = same.checked_add_signed(TimeDelta::hours(hours));
            found.extend(neighbour.and_then(|wall| instant(zone, wall)));
        }
    }
    found
}

/// What the last hours are compared with: the same for every meter of a zone under one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Each hour, the newest first, with those comparable to it.
    hours: Vec<(DateTime<Utc>, Vec<DateTime<Utc>>)>,
}

impl Comparison {
    /// Of the hours up to the one that begins at `last`.
    pub fn new(check: &DeviationCheck, zone: Tz, holidays: &BTreeSet<NaiveDate>, last: DateTime<Utc>) -> Self {
        let hours = (0..i64::from(check.hours.max(1))).map(|back| {
            let start = last - TimeDelta::hours(back);
            (start, comparable(check, zone, holidays, start))
        });
        Self { hours: hours.collect() }
    }

    /// Every hour that is looked at.
    pub fn starts(&self) -> BTreeSet<DateTime<Utc>> {
        let all = self.hours.iter();
        all.flat_map(|(start, past)| std::iter::once(start).chain(past))
            .copied()
            .collect()
    }

    /// Judges a meter by its hours. `open`: an alarm is, so that it is worth knowing whether it is over.
    pub fn judge(&self, check: &DeviationCheck, open: bool, hour: impl Fn(DateTime<Utc>) -> Option<f64>) -> Judgement {
        let mut all: Option<Verdict> = None;
        let mut newest = None;
        let mut since = None;
        for (start, past) in &self.hours {
            let Some(value) = hour(*start) else {
                return Judgement::Open;
            };
            let Some(expectation) = expect(past.iter().filter_map(|start| hour(*start))) else {
                return Judgement::Open;
            };
            newest = newest.or(Some((value, expectation.expected)));
            let this = verdict(check, value, &expectation);
            let idle = this == Verdict::Usual && !open;
            if idle || all.is_some_and(|other| other != this) {
                return Judgement::Open;
            }
            all = Some(this);
            since = Some(*start);
        }
        match (all, newest, since) {
            (Some(Verdict::High | Verdict::Low), Some((value, expected)), Some(since)) => {
                Judgement::Raise { value, expected, since }
            }
            (Some(Verdict::Usual), _, _) => Judgement::Clear,
            _ => Judgement::Open,
        }
    }
}

/// Judges the last hours of one meter up to the one that begins at `last`.
pub fn judge(
    check: &DeviationCheck,
    zone: Tz,
    holidays: &BTreeSet<NaiveDate>,
    hours: &HashMap<DateTime<Utc>, f64>,
    last: DateTime<Utc>,
) -> Judgement {
    Comparison::new(check, zone, holidays, last).judge(check, true, |start| hours.get(&start).copied())
}

/// One hour of the week of a profile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProfileHour {
    /// The weekday, 1 Monday to 7 Sunday.
    pub weekday: u8,
    /// The hour of the wall clock.
    pub hour: u8,
    /// What is usual; none: too little is known.
    pub usual: Option<Expectation>,
}

/// The profile of a meter as an hour beginning at `now` and later would be compared with, by hour of the week.
pub fn profile(
    check: &DeviationCheck,
    zone: Tz,
    holidays: &BTreeSet<NaiveDate>,
    hours: &HashMap<DateTime<Utc>, f64>,
    now: DateTime<Utc>,
) -> Vec<ProfileHour> {
    let today = now.with_timezone(&zone).date_naive();
    let mut found = Vec::new();
    for weekday in 1..=7_u8 {
        // the next such day that is no holiday stands for all of them
        let day = (0..400).filter_map(|days| today.checked_add_signed(TimeDelta::days(days)));
        let Some(day) = day
            .filter(|day| day.weekday().number_from_monday() == u32::from(weekday))
            .find(|day| !holidays.contains(day))
        else {
            continue;
        };
        for hour in 0..24_u8 {
            let start = day
                .and_hms_opt(u32::from(hour), 0, 0)
                .and_then(|wall| instant(zone, wall));
            let usual = start.and_then(|start| {
                let past = comparable(check, zone, holidays, start);
                expect(past.iter().filter_map(|start| hours.get(start).copied()))
            });
            found.push(ProfileHour { weekday, hour, usual });
        }
    }
    found
}

#[cfg(test)]
#[path = "deviation_tests.rs"]
mod tests;
