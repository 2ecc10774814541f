//! The three ways to say when a schedule comes due: a cron expression, an interval, a settlement day.

use super::{CompiledSchedule, ScheduleError, cron_text, parse_zone};
use serde::{Deserialize, Serialize};

/// Minutes of a day of 24 hours.
const DAY_MIN: u16 = 1440;

/// The latest settlement day that every month has.
pub const SETTLEMENT_DAY_MAX: u8 = 28;

/// When a schedule comes due, as its user wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// A cron expression of 5 or 6 fields.
    Cron(String),
    /// Every so many minutes, aligned to midnight of the zone; a divisor of 1440. Up to an hour every real instant
    /// whose wall time is a multiple runs (a repeated hour twice, a skipped one not), so that no hole is longer than
    /// the interval. Over an hour each mark of the wall clock runs once: one that does not exist at the first instant
    /// after the gap, one that exists twice the first time.
    EveryMinutes(u16),
    /// Once a month, at a wall time of the zone; slots of kind settlement.
    Settlement(SettlementTime),
}

/// The time of a monthly settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SettlementTime {
    /// Which day.
    pub day: SettlementDay,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
}

/// A day that every month has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettlementDay {
    /// Day 1 to 28.
    Day(u8),
    /// The last day of the month.
    Last,
}

impl Timing {
    /// Compiles it for the IANA zone `zone`.
    ///
    /// # Errors
    /// [`ScheduleError`] names the fault and the remedy.
    pub fn compile(&self, zone: &str) -> Result<CompiledSchedule, ScheduleError> {
        match self {
            Self::Cron(text) => CompiledSchedule::parse(text, zone),
            Self::EveryMinutes(minutes) => every(*minutes, zone),
            Self::Settlement(at) => settlement(*at, zone),
        }
    }

    /// Whether its slots are settlement slots.
    pub fn is_settlement(&self) -> bool {
        matches!(self, Self::Settlement(_))
    }
}

fn every(minutes: u16, zone: &str) -> Result<CompiledSchedule, ScheduleError> {
    let zone = parse_zone(zone)?;
    if !(1..=DAY_MIN).contains(&minutes) || !DAY_MIN.is_multiple_of(minutes) {
        let below = (1..minutes.min(DAY_MIN))
            .rev()
            .find(|near| DAY_MIN.is_multiple_of(*near));
        let above = (minutes.saturating_add(1)..=DAY_MIN).find(|near| DAY_MIN.is_multiple_of(*near));
        return Err(ScheduleError::Interval {
            found: minutes,
            near: [below, above]
                .into_iter()
                .flatten()
                .map(|near| near.to_string())
                .collect::<Vec<_>>()
                .join(" or "),
        });
    }
    let mut every = cron_text::compile("* * * * *", zone)?;
    every.every_min = minutes;
    every.fixed = minutes > 60;
    Ok(every)
}

fn settlement(at: SettlementTime, zone: &str) -> Result<CompiledSchedule, ScheduleError> {
    let day = match at.day {
        SettlementDay::Day(day) if (1..=SETTLEMENT_DAY_MAX).contains(&day) => day.to_string(),
        SettlementDay::Day(found) => return Err(ScheduleError::SettlementDay { found }),
        SettlementDay::Last => "L".to_owned(),
    };
    if at.hour > 23 || at.minute > 59 {
        return Err(ScheduleError::SettlementTime {
            hour: at.hour,
            minute: at.minute,
        });
    }
    CompiledSchedule::parse(&format!("{} {} {day} * *", at.minute, at.hour), zone)
}
