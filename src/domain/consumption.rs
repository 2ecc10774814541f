//! Consumption of a metering point: from register readings over its dated installations to hours, days and months.
//!
//! All readings of a point become one curve of what was consumed since its first reading, exact at every reading and
//! linear between two. An interval's consumption is the difference of the curve at its two boundaries, so the parts of a
//! span add up to the whole exactly, in decimals, across meter exchanges and ratio changes. What the value rests on is
//! flagged, never guessed in silence: [`Flags`]. For registers that only grow (import, export, volume, heat); a net
//! register that also falls has no consumption in this sense.

mod curve;

use crate::base::ids::MeterId;
use crate::domain::reading::Quality;
use crate::domain::schedule::{CompiledSchedule, ScheduleError};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use curve::Curve;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// Interpolated values are rounded to so many decimals (a millionth of a kWh or m³); readings keep all of theirs.
pub const INTERPOLATED_SCALE: u32 = 6;

/// At most so many boundaries are made: eleven years of hours.
pub const BOUNDARIES_MAX: usize = 100_000;

/// What a register showed at an instant: the meter's own time if it has one, else when we read it; never the due time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisterReading {
    /// Which meter.
    pub meter: MeterId,
    /// `meter_time`, else `read_at`.
    pub at: DateTime<Utc>,
    /// The register as the meter says it, before ratios, in its canonical unit.
    pub value: Decimal,
    /// Suspect readings are left out and flag what they would have measured.
    pub quality: Quality,
}

/// How a register rolls over, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollOver {
    /// The first value that it cannot show, e.g. 1000000 for six digits of kWh.
    pub modulus: Decimal,
    /// The most that can plausibly pass in an hour, in the register's unit; a roll-over that would mean more is none.
    pub per_hour_max: Decimal,
}

/// A meter at the point over `[from, to)` under one ratio. A ratio change ends one installation and begins the next, of
/// the same meter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Installation {
    /// The meter.
    pub meter: MeterId,
    /// From when it stands there.
    pub from: DateTime<Utc>,
    /// Until when; none: still.
    pub to: Option<DateTime<Utc>>,
    /// The register at `from`, if it was read then.
    pub opening: Option<Decimal>,
    /// The register at `to`, if it was read then.
    pub closing: Option<Decimal>,
    /// Current times voltage transformer ratio: consumption = register difference × ratio.
    pub ratio: Decimal,
    /// How the register rolls over.
    pub roll_over: Option<RollOver>,
}

/// What a value rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// A boundary lies between two readings that are close enough: interpolated.
    pub interpolated: bool,
    /// A boundary lies in a gap longer than the limit, or next to an estimated reading.
    pub estimated: bool,
    /// Part of the interval is not covered by readings; the value is that of the covered part.
    pub incomplete: bool,
    /// The register went back, jumped or a suspect reading was left out.
    pub suspect: bool,
}

/// The consumption of one interval `[from, to)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntervalReading {
    /// Its start.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
    /// Consumption in the register's unit, ratio included, never negative; none where nothing of it is covered.
    pub value: Option<Decimal>,
    /// What it rests on.
    pub flags: Flags,
}

impl IntervalReading {
    /// The flags as a reading's quality. An interpolated boundary alone leaves it measured.
    pub fn quality(&self) -> Quality {
        if self.flags.suspect {
            Quality::Suspect
        } else if self.flags.estimated || self.flags.incomplete {
            Quality::Estimated
        } else {
            Quality::Measured
        }
    }
}

/// Length of the intervals, by the wall clock of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Full hours of the wall clock; where it jumps by half an hour, the hour at the jump lasts an hour and a half.
    Hour,
    /// Midnight to midnight: 23, 24 or 25 hours. Where midnight does not exist, the day begins behind the gap.
    Day,
    /// From the first day's midnight to the next month's.
    Month,
}

impl Per {
    /// How far before an instant the boundary of its interval can lie.
    fn longest(self) -> TimeDelta {
        match self {
            Self::Hour => TimeDelta::hours(3),
            Self::Day => TimeDelta::hours(50),
            Self::Month => TimeDelta::days(33),
        }
    }

    fn cron(self) -> &'static str {
        match self {
            Self::Hour => "0 * * * *",
            Self::Day => "0 0 * * *",
            Self::Month => "0 0 1 * *",
        }
    }
}

/// The boundaries of all intervals that touch `[from, to)`, ascending: the first at or before `from`, the last at or
/// after `to`; at most [`BOUNDARIES_MAX`]. Empty when `to` is not after `from`.
///
/// # Errors
/// [`ScheduleError`] cannot happen for the built-in expressions; it is passed on rather than hidden.
pub fn boundaries(
    zone: Tz,
    per: Per,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>, ScheduleError> {
    if to <= from {
        return Ok(Vec::new());
    }
    let calendar = calendar(zone, per)?;
    let begin = from.checked_sub_signed(per.longest()).unwrap_or(from);
    let mut found: Vec<DateTime<Utc>> = Vec::new();
    for boundary in calendar.due_between(begin, DateTime::<Utc>::MAX_UTC) {
        if boundary <= from {
            found.clear();
        }
        found.push(boundary);
        if boundary >= to || found.len() >= BOUNDARIES_MAX {
            break;
        }
    }
    Ok(found)
}

/// The calendar of a zone's slices. Roll-ups ask for it once per register and zones are few, so each is compiled once.
fn calendar(zone: Tz, per: Per) -> Result<Arc<CompiledSchedule>, ScheduleError> {
    type Calendars = HashMap<(Tz, Per), Arc<CompiledSchedule>>;
    static COMPILED: LazyLock<RwLock<Calendars>> = LazyLock::new(RwLock::default);
    let known = COMPILED
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&(zone, per))
        .cloned();
    if let Some(known) = known {
        return Ok(known);
    }
    let compiled = Arc::new(CompiledSchedule::parse(per.cron(), zone.name())?);
    let mut all = COMPILED.write().unwrap_or_else(PoisonError::into_inner);
    Ok(Arc::clone(all.entry((zone, per)).or_insert(compiled)))
}

/// Consumption between each two neighbouring `boundaries` (ascending). `readings` in any order, also of meters that are
/// not among the `installations` (ascending, not overlapping) or at times when they did not stand there: those do not count.
/// For exact edges pass the readings just outside the first and last boundary too. `gap_max`: interpolation over a longer
/// gap is flagged `estimated`.
pub fn consumption(
    readings: &[RegisterReading],
    installations: &[Installation],
    boundaries: &[DateTime<Utc>],
    gap_max: TimeDelta,
) -> Vec<IntervalReading> {
    let curve = Curve::new(readings, installations, gap_max);
    boundaries
        .windows(2)
        .filter_map(|pair| match pair {
            [from, to] => Some(curve.interval(*from, *to)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
