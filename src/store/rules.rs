//! Rows of `schedule_rule` and `calendar_version` as the dated rules that the plan of slots is compiled from. The front
//! end and the lists of slots load them here both, so they cannot disagree about what was due.

use crate::base::ids::{CalendarId, ScheduleId};
use crate::domain::device::{MissedRun, Overlap, RetryPolicy, ScheduleRule, SlotPriority};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::{
    Calendar, CalendarVersion, DayRule, Holiday, SettlementDay, SettlementTime, Timing, Weekdays, over_versions,
};
use chrono::{DateTime, NaiveDate, Utc, Weekday};
use sqlx::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;

/// The dated rules by schedule, oldest first.
pub(super) type Rules = HashMap<ScheduleId, Arc<Vec<ScheduleRule>>>;

/// The rules of these schedules (none: of all) that were in force at or after `since` (none: ever). What does not fit
/// the program is left out with an error in the log: it must not stop the others.
pub(super) async fn rules(
    connection: &mut PgConnection,
    ids: Option<&[i32]>,
    since: Option<DateTime<Utc>>,
) -> Result<Rules, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT schedule_id, valid_from, valid_to, cron, every_min, settlement_day, settlement_hour, settlement_minute,
                time_zone, calendar_id, days, quantities, spread_s, window_s, attempts, backoff_s, deadline_s, budget,
                missed_run, overlap, priority
         FROM schedule_rule
         WHERE ($1::int[] IS NULL OR schedule_id = ANY($1))
           AND (valid_to IS NULL OR valid_to >= coalesce($2::timestamptz, '-infinity'))
         ORDER BY schedule_id, valid_from",
        ids as Option<&[i32]>,
        since
    )
    .fetch_all(&mut *connection)
    .await?;
    let calendars: Vec<i32> = rows.iter().filter_map(|row| row.calendar_id).collect();
    let calendars = versions(connection, calendars, since).await?;
    let mut rules: HashMap<ScheduleId, Vec<ScheduleRule>> = HashMap::new();
    for row in rows {
        let schedule = ScheduleId(row.schedule_id);
        let timing = timing_of(
            row.cron,
            row.every_min,
            row.settlement_day,
            row.settlement_hour,
            row.settlement_minute,
        );
        let Some(timing) = timing else {
            tracing::error!(schedule.id = schedule.0, "rule without a timing left out of a schedule");
            continue;
        };
        let rule = ScheduleRule {
            valid_from: row.valid_from,
            valid_to: row.valid_to,
            timing,
            time_zone: row.time_zone,
            days: days_of(&row.days),
            calendar: None,
            quantities: quantities_of(schedule, &row.quantities),
            spread_s: row.spread_s.unsigned_abs(),
            window_s: row.window_s.unsigned_abs(),
            retry: RetryPolicy {
                attempts: u8::try_from(row.attempts).unwrap_or(1),
                backoff_s: row.backoff_s.unsigned_abs(),
                deadline_s: row.deadline_s.unsigned_abs(),
                budget: row.budget.map(i16::unsigned_abs),
            },
            missed_run: missed_run_of(&row.missed_run),
            overlap: overlap_of(&row.overlap),
            priority: priority_of(&row.priority),
        };
        let calendar = row.calendar_id.and_then(|id| calendars.get(&CalendarId(id)));
        let over_time = over_versions(rule, calendar.map_or(&[][..], Vec::as_slice));
        rules.entry(schedule).or_default().extend(over_time);
    }
    Ok(rules.into_iter().map(|(id, rules)| (id, Arc::new(rules))).collect())
}

/// The versions of calendars that were in force at or after `since` (none: ever), oldest first.
pub(super) async fn versions(
    connection: &mut PgConnection,
    mut ids: Vec<i32>,
    since: Option<DateTime<Utc>>,
) -> Result<HashMap<CalendarId, Vec<CalendarVersion>>, sqlx::Error> {
    ids.sort_unstable();
    ids.dedup();
    let mut found: HashMap<CalendarId, Vec<CalendarVersion>> = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let rows = sqlx::query!(
        "SELECT calendar_id, valid_from, valid_to, time_zone, weekdays, holidays, holiday_names, working_days
         FROM calendar_version
         WHERE calendar_id = ANY($1) AND (valid_to IS NULL OR valid_to >= coalesce($2::timestamptz, '-infinity'))
         ORDER BY calendar_id, valid_from",
        &ids,
        since
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let id = CalendarId(row.calendar_id);
        let calendar = calendar_of(
            &row.time_zone,
            &row.weekdays,
            &row.holidays,
            row.holiday_names,
            row.working_days,
        );
        match calendar {
            Ok(calendar) => found.entry(id).or_default().push(CalendarVersion {
                valid_from: row.valid_from,
                valid_to: row.valid_to,
                calendar: Arc::new(calendar),
            }),
            Err(fault) => tracing::error!(calendar.id = id.0, %fault, "version of a calendar left out"),
        }
    }
    Ok(found)
}

/// A calendar of its columns; else its first fault in words.
pub(super) fn calendar_of(
    zone: &str,
    weekdays: &[i16],
    holidays: &[NaiveDate],
    names: Vec<String>,
    working_days: Vec<NaiveDate>,
) -> Result<Calendar, String> {
    let weekdays = weekdays
        .iter()
        .filter_map(|day| Weekday::try_from(u8::try_from(day.checked_sub(1)?).ok()?).ok())
        .collect::<Weekdays>();
    let holidays = holidays.iter().copied().zip(names);
    let holidays = holidays.map(|(date, name)| Holiday { date, name }).collect();
    Calendar::new(zone, weekdays, holidays, working_days)
        .map_err(|faults| faults.first().map_or_else(String::new, ToString::to_string))
}

/// The one timing that the columns hold.
pub(super) fn timing_of(
    cron: Option<String>,
    every_min: Option<i16>,
    day: Option<i16>,
    hour: Option<i16>,
    minute: Option<i16>,
) -> Option<Timing> {
    let part = |value: i16| u8::try_from(value).ok();
    match (cron, every_min, day) {
        (Some(text), None, None) => Some(Timing::Cron(text)),
        (None, Some(minutes), None) => u16::try_from(minutes).ok().map(Timing::EveryMinutes),
        (None, None, Some(day)) => Some(Timing::Settlement(SettlementTime {
            day: match part(day)? {
                0 => SettlementDay::Last,
                day => SettlementDay::Day(day),
            },
            hour: part(hour?)?,
            minute: part(minute?)?,
        })),
        _ => None,
    }
}

fn quantities_of(schedule: ScheduleId, names: &[String]) -> Vec<Quantity> {
    let known = names.iter().filter_map(|name| {
        let quantity = Quantity::by_name(name);
        if quantity.is_none() {
            tracing::error!(
                schedule.id = schedule.0,
                quantity = name,
                "unknown quantity left out of a schedule"
            );
        }
        quantity
    });
    known.collect()
}

// the columns have a CHECK each: what is not in the list cannot be there

pub(super) fn days_of(name: &str) -> DayRule {
    DayRule::by_name(name).unwrap_or_default()
}

pub(super) fn missed_run_of(name: &str) -> MissedRun {
    match name {
        "skip" => MissedRun::Skip,
        "all" => MissedRun::All,
        _ => MissedRun::Once,
    }
}

pub(super) fn overlap_of(name: &str) -> Overlap {
    match name {
        "skip" => Overlap::Skip,
        _ => Overlap::QueueOne,
    }
}

pub(super) fn priority_of(name: &str) -> SlotPriority {
    match name {
        "settlement" => SlotPriority::Settlement,
        "back_fill" => SlotPriority::BackFill,
        _ => SlotPriority::Scheduled,
    }
}
