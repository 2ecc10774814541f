//! The bodies of `/schedules`, and a schedule in place where a meter or DTU takes one.

use super::body::nullable;
use super::problem::{ApiError, Faults};
use crate::base::ids::{CalendarId, ScheduleId};
use crate::domain::device::{MissedRun, Overlap, RetryPolicy, SlotPriority};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::{Calendar, DayRule, SettlementDay, SettlementTime, Timing, Weekdays, check_rule};
use crate::port::meters::ScheduleChoice;
use crate::port::schedules::ScheduleSpec;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::sync::Arc;
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

const NAME_MAX: usize = 200;
/// Defaults, as far as the timing leaves room for them, seconds.
const WINDOW_S: u32 = 300;
const SPREAD_S: u32 = 30;
/// The default window of a settlement: it is worth trying for long.
const SETTLEMENT_WINDOW_S: u32 = 4 * 3600;

/// Retries within the window. What is left out has its default.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {
    /// Attempts on the line per transaction, 1 to 10; default 3.
    pub(super) attempts: Option<u8>,
    /// Wait before the poll is tried again, doubled each time, seconds, 1 to 3600; default 5.
    pub(super) backoff_s: Option<u32>,
    /// No attempt begins later than this after the due time, seconds; default the window.
    pub(super) deadline_s: Option<u32>,
    /// No new poll begins for a slot that has cost so many attempts on the line, 1 to 1000; default null: the deadline
    /// alone ends it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u16>)]
    pub(super) budget: Option<Option<u16>>,
}

/// A monthly settlement: a day and a wall time of the schedule's zone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettlementBody {
    /// 1 to 28, or `last`.
    #[schema(value_type = String, example = "last")]
    pub(super) day: DayBody,
    /// Hour, 0 to 23; default 0.
    #[serde(default)]
    pub(super) hour: u8,
    /// Minute, 0 to 59; default 0.
    #[serde(default)]
    pub(super) minute: u8,
}

/// A settlement day: a number or `last`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "a day is a number, 1 to 28, or \"last\"")]
pub enum DayBody {
    /// Day 1 to 28.
    Number(u8),
    /// The last day.
    Last(LastDay),
}

/// The word.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastDay {
    /// The last day of the month.
    Last,
}

impl From<SettlementBody> for SettlementTime {
    fn from(body: SettlementBody) -> Self {
        Self {
            day: match body.day {
                DayBody::Number(day) => SettlementDay::Day(day),
                DayBody::Last(LastDay::Last) => SettlementDay::Last,
            },
            hour: body.hour,
            minute: body.minute,
        }
    }
}

impl From<SettlementTime> for SettlementBody {
    fn from(at: SettlementTime) -> Self {
        Self {
            day: match at.day {
                SettlementDay::Day(day) => DayBody::Number(day),
                SettlementDay::Last => DayBody::Last(LastDay::Last),
            },
            hour: at.hour,
            minute: at.minute,
        }
    }
}

/// The one timing that a body gives; none where it gives none.
fn timing_of(
    prefix: &str,
    cron: Option<String>,
    every_min: Option<u16>,
    settlement: Option<SettlementBody>,
    faults: &mut Faults,
) -> Option<Timing> {
    let given = [cron.is_some(), every_min.is_some(), settlement.is_some()];
    let one = given.into_iter().filter(|given| *given).count() <= 1;
    let field = if given == [false, true, true] {
        "every_min"
    } else {
        "cron"
    };
    faults.check(
        one,
        &format!("{prefix}{field}"),
        "give one of `cron`, `every_min` and `settlement`",
    );
    cron.map(Timing::Cron)
        .or(every_min.map(Timing::EveryMinutes))
        .or(settlement.map(|at| Timing::Settlement(at.into())))
}

/// A schedule to be made.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleBody {
    /// Its name; in place (in a meter or DTU) it may be left out.
    #[schema(example = "quarter hours")]
    pub(super) name: Option<String>,
    /// Cron expression of 5 fields, or 6 with seconds in front. One of `cron`, `every_min` and `settlement` is needed.
    #[schema(example = "*/15 * * * *")]
    pub(super) cron: Option<String>,
    /// Every so many minutes, aligned to midnight; a divisor of 1440.
    pub(super) every_min: Option<u16>,
    /// Once a month; its slots are settlement slots and go before ordinary ones.
    pub(super) settlement: Option<SettlementBody>,
    /// IANA zone; default the account's.
    #[schema(example = "Europe/Berlin")]
    pub(super) time_zone: Option<String>,
    /// The id of a calendar to heed.
    #[schema(value_type = Option<i32>)]
    pub(super) calendar: Option<CalendarId>,
    /// On which of the calendar's days: `every_day`, `working_days`, `non_working_days` or `holidays`; default
    /// `working_days` with a calendar, else `every_day`.
    #[schema(value_type = Option<String>, example = "working_days")]
    pub(super) days: Option<DayRule>,
    /// Wanted quantities; none: all of the meter's model.
    #[serde(default)]
    pub(super) quantities: Vec<String>,
    /// Polls are spread over this many seconds after the due time; default 30, or a quarter of a shorter interval.
    pub(super) spread_s: Option<u32>,
    /// A read that begins within this many seconds after the due time is `actual`; default 300, or a shorter interval;
    /// 14400 for a settlement.
    pub(super) window_s: Option<u32>,
    /// Retries.
    #[serde(default)]
    pub(super) retry: RetryBody,
    /// What happens with slots that became due while nobody could read; default `once`.
    #[serde(default)]
    #[schema(value_type = String, example = "once")]
    pub(super) missed_run: MissedRun,
    /// What happens with a slot that comes due while an earlier one of the schedule is being read: `skip` or
    /// `queue_one`; default `queue_one`.
    #[serde(default)]
    #[schema(value_type = String, example = "queue_one")]
    pub(super) overlap: Overlap,
    /// The place in the line's queue: `settlement`, `scheduled` or `back_fill`; default `settlement` for a settlement,
    /// else `scheduled`.
    #[schema(value_type = Option<String>)]
    pub(super) priority: Option<SlotPriority>,
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleEditBody {
    /// Another name.
    pub(super) name: Option<String>,
    /// Another timing: an expression.
    pub(super) cron: Option<String>,
    /// Another timing: an interval.
    pub(super) every_min: Option<u16>,
    /// Another timing: a settlement day.
    pub(super) settlement: Option<SettlementBody>,
    /// Another zone.
    pub(super) time_zone: Option<String>,
    /// Another calendar; null: none, and every day.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    pub(super) calendar: Option<Option<CalendarId>>,
    /// Other days of the calendar.
    #[schema(value_type = Option<String>)]
    pub(super) days: Option<DayRule>,
    /// Other quantities; null or none: all of the meter's model.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) quantities: Option<Option<Vec<String>>>,
    /// Another spread, seconds.
    pub(super) spread_s: Option<u32>,
    /// Another window, seconds.
    pub(super) window_s: Option<u32>,
    /// Other retries; what is left out stays.
    #[serde(default)]
    pub(super) retry: RetryBody,
    /// Another policy for missed slots.
    #[schema(value_type = Option<String>)]
    pub(super) missed_run: Option<MissedRun>,
    /// Another policy for slots that run into each other.
    #[schema(value_type = Option<String>)]
    pub(super) overlap: Option<Overlap>,
    /// Another place in the line's queue.
    #[schema(value_type = Option<String>)]
    pub(super) priority: Option<SlotPriority>,
}

/// A schedule where a meter or DTU takes one: the id of one, or one in place.
#[derive(Clone, Debug)]
pub enum ScheduleRef {
    /// One that exists.
    Id(ScheduleId),
    /// One to be made with it.
    InPlace(Box<ScheduleBody>),
}

impl PartialSchema for ScheduleRef {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(<i32 as PartialSchema>::schema())
            .item(Ref::from_schema_name(ScheduleBody::name()))
            .description(Some("The id of a schedule, or a schedule to be made in place."))
            .into()
    }
}

impl ToSchema for ScheduleRef {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ScheduleBody::name().into_owned(), ScheduleBody::schema()));
        ScheduleBody::schemas(schemas);
    }
}

impl<'de> Deserialize<'de> for ScheduleRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ScheduleRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the id of a schedule, or a schedule as an object")
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<ScheduleRef, E> {
                i32::try_from(id)
                    .map(|id| ScheduleRef::Id(ScheduleId(id)))
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(id), &self))
            }

            // the members are read by the object's own rules, so that a fault in one of them is named
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ScheduleRef, A::Error> {
                ScheduleBody::deserialize(MapAccessDeserializer::new(map))
                    .map(|body| ScheduleRef::InPlace(Box::new(body)))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl ScheduleRef {
    /// Checks it; `field` is where it stands in the body, `owner` names one that has no name.
    pub(super) fn choice(
        &self,
        field: &str,
        owner: &str,
        zone: Tz,
        now: DateTime<Utc>,
        faults: &mut Faults,
    ) -> Option<ScheduleChoice> {
        match self {
            Self::Id(id) => Some(ScheduleChoice::Existing(*id)),
            Self::InPlace(body) => {
                let named = ScheduleBody {
                    name: Some(
                        body.name
                            .clone()
                            .unwrap_or_else(|| owner.chars().take(NAME_MAX).collect()),
                    ),
                    ..(**body).clone()
                };
                named
                    .spec(&format!("{field}."), zone, now, faults)
                    .map(ScheduleChoice::InPlace)
            }
        }
    }
}

/// Quantities by name; faults name the place in the list.
pub(super) fn quantities(prefix: &str, names: &[String], faults: &mut Faults) -> Vec<Quantity> {
    let mut found = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match Quantity::by_name(name) {
            Some(quantity) => found.push(quantity),
            None => faults.check(
                false,
                &format!("{prefix}quantities[{index}]"),
                format!("{name:?} is not in the list of quantities"),
            ),
        }
    }
    found
}

/// Window and spread that fit between two due times.
fn defaults(timing: &Timing, time_zone: &str, now: DateTime<Utc>) -> (u32, u32) {
    if timing.is_settlement() {
        return (SETTLEMENT_WINDOW_S, SPREAD_S);
    }
    let interval = timing.compile(time_zone).ok().and_then(|schedule| {
        let first = schedule.next_after(now)?;
        let second = schedule.next_after(first)?;
        u32::try_from((second - first).num_seconds()).ok()
    });
    let interval = interval.unwrap_or(u32::MAX).max(1);
    (WINDOW_S.min(interval), SPREAD_S.min(interval / 4))
}

impl ScheduleBody {
    pub(super) fn spec(&self, prefix: &str, zone: Tz, now: DateTime<Utc>, faults: &mut Faults) -> Option<ScheduleSpec> {
        let time_zone = self.time_zone.clone().unwrap_or_else(|| zone.name().to_owned());
        let timing = timing_of(prefix, self.cron.clone(), self.every_min, self.settlement, faults);
        let quantities = quantities(prefix, &self.quantities, faults);
        let Some(timing) = timing else {
            let message = "missing field `cron`: give one of `cron`, `every_min` and `settlement`";
            faults.check(false, &format!("{prefix}cron"), message);
            return None;
        };
        let (window_s, spread_s) = defaults(&timing, &time_zone, now);
        let window_s = self.window_s.unwrap_or(window_s);
        let default = RetryPolicy::default();
        let days = match self.calendar {
            Some(_) => DayRule::WorkingDays,
            None => DayRule::EveryDay,
        };
        let spec = ScheduleSpec {
            name: self.name.clone().unwrap_or_default(),
            priority: self.priority.unwrap_or(SlotPriority::of(&timing)),
            timing,
            time_zone,
            calendar: self.calendar,
            days: self.days.unwrap_or(days),
            quantities,
            spread_s: self.spread_s.unwrap_or(spread_s.min(window_s)),
            window_s,
            retry: RetryPolicy {
                attempts: self.retry.attempts.unwrap_or(default.attempts),
                backoff_s: self.retry.backoff_s.unwrap_or(default.backoff_s),
                deadline_s: self.retry.deadline_s.unwrap_or(window_s),
                budget: self.retry.budget.flatten(),
            },
            missed_run: self.missed_run,
            overlap: self.overlap,
        };
        check(&spec, prefix, now, faults).then_some(spec)
    }
}

/// Notes every fault of a schedule; false when there is one. Whether its calendar is there, the store says; any
/// calendar stands for it here.
fn check(spec: &ScheduleSpec, prefix: &str, now: DateTime<Utc>, faults: &mut Faults) -> bool {
    faults.text(&format!("{prefix}name"), &spec.name, NAME_MAX);
    let named = spec
        .calendar
        .and_then(|_| Calendar::new("UTC", Weekdays::MONDAY_TO_FRIDAY, Vec::new(), Vec::new()).ok())
        .map(Arc::new);
    match check_rule(&spec.rule(now, named.as_ref())) {
        Ok(_) => true,
        Err(found) => {
            for fault in found.0 {
                faults.check(false, &format!("{prefix}{}", fault.field), fault.message);
            }
            false
        }
    }
}

impl ScheduleEditBody {
    pub(super) fn apply(self, mut spec: ScheduleSpec, now: DateTime<Utc>) -> Result<ScheduleSpec, ApiError> {
        let mut faults = Faults::new();
        if let Some(names) = self.quantities {
            spec.quantities = quantities("", &names.unwrap_or_default(), &mut faults);
        }
        if let Some(timing) = timing_of("", self.cron, self.every_min, self.settlement, &mut faults) {
            // a priority that was the timing's own goes with it
            if spec.priority == SlotPriority::of(&spec.timing) {
                spec.priority = SlotPriority::of(&timing);
            }
            spec.timing = timing;
        }
        match self.calendar {
            Some(None) => (spec.calendar, spec.days) = (None, DayRule::EveryDay),
            Some(Some(calendar)) => {
                let first = spec.calendar.replace(calendar).is_none();
                spec.days = if first { DayRule::WorkingDays } else { spec.days };
            }
            None => {}
        }
        spec.days = self.days.unwrap_or(spec.days);
        spec.name = self.name.unwrap_or(spec.name);
        spec.time_zone = self.time_zone.unwrap_or(spec.time_zone);
        spec.spread_s = self.spread_s.unwrap_or(spec.spread_s);
        spec.window_s = self.window_s.unwrap_or(spec.window_s);
        spec.retry.attempts = self.retry.attempts.unwrap_or(spec.retry.attempts);
        spec.retry.backoff_s = self.retry.backoff_s.unwrap_or(spec.retry.backoff_s);
        spec.retry.deadline_s = self.retry.deadline_s.unwrap_or(spec.retry.deadline_s);
        spec.retry.budget = self.retry.budget.unwrap_or(spec.retry.budget);
        spec.missed_run = self.missed_run.unwrap_or(spec.missed_run);
        spec.overlap = self.overlap.unwrap_or(spec.overlap);
        spec.priority = self.priority.unwrap_or(spec.priority);
        check(&spec, "", now, &mut faults);
        faults.done()?;
        Ok(spec)
    }
}
