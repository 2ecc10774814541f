//! Wall-clock time and instants of a zone: where clocks jump, which wall times exist never, once or twice.

use chrono::{
    DateTime, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Timelike, Utc,
};
use chrono_tz::{GapInfo, Tz};

/// Seconds of a day of 24 hours, by the wall clock.
const DAY_S: i64 = 86_400;

/// The same, as a second of the day is counted.
pub(super) const DAY_SECONDS: u32 = 86_400;

/// Further than any zone was ever from UTC (Manila before 1845: 15:56), seconds.
const OFFSET_MAX_S: i64 = 16 * 3600;

/// How densely offsets are probed on a day on which clocks jump, seconds.
const PROBE_S: i64 = 1800;

/// The second of the day of a wall time.
pub(super) fn second_of_day(wall: NaiveDateTime) -> u32 {
    wall.num_seconds_from_midnight()
}

/// The wall time at a second of a date.
pub(super) fn at(date: NaiveDate, second: u32) -> Option<NaiveDateTime> {
    Some(date.and_time(NaiveTime::from_num_seconds_from_midnight_opt(second, 0)?))
}

/// The one instant of a wall time: itself; the first of two; the first instant after the gap that swallowed it.
pub(super) fn instant_once(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&wall) {
        MappedLocalTime::Single(instant) | MappedLocalTime::Ambiguous(instant, _) => Some(instant.with_timezone(&Utc)),
        MappedLocalTime::None => Some(GapInfo::new(&wall, &zone)?.end?.with_timezone(&Utc)),
    }
}

/// The first wall time whose [`instant_once`] lies after `after` (a whole second).
pub(super) fn first_wall_after(zone: Tz, after: DateTime<Utc>) -> Option<NaiveDateTime> {
    let wall = after.with_timezone(&zone).naive_local();
    if instant_once(zone, wall)? == after {
        return wall.checked_add_signed(TimeDelta::seconds(1));
    }
    // second pass through repeated wall times: all of them ran in the first pass; find their end
    let (mut ran, mut later) = (0_i64, DAY_S + 3600);
    while later - ran > 1 {
        let middle = ran + (later - ran) / 2;
        if instant_once(zone, wall.checked_add_signed(TimeDelta::seconds(middle))?)? > after {
            later = middle;
        } else {
            ran = middle;
        }
    }
    wall.checked_add_signed(TimeDelta::seconds(later))
}

fn offset_s(zone: Tz, instant_s: i64) -> Option<i64> {
    let utc = DateTime::from_timestamp(instant_s, 0)?.naive_utc();
    Some(i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()))
}

/// A stretch of instants of one wall-clock date under one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// First instant, Unix seconds.
    start: i64,
    /// Behind the last instant.
    end: i64,
    /// What the instant of wall-clock midnight would be under this offset.
    midnight: i64,
}

impl Span {
    /// The first second of the day in this span that lies after `after`; none when the span is over by then.
    pub(super) fn second_of_day_after(&self, after: DateTime<Utc>) -> Option<u32> {
        let from = self.start.max(after.timestamp().checked_add(1)?);
        if from >= self.end {
            return None;
        }
        u32::try_from(from - self.midnight).ok()
    }

    /// The instant of a second of the day, if it lies in the span.
    pub(super) fn instant(&self, second: u32) -> Option<DateTime<Utc>> {
        let instant = self.midnight.checked_add(i64::from(second))?;
        if instant < self.start || instant >= self.end {
            return None;
        }
        DateTime::from_timestamp(instant, 0)
    }
}

/// All instants of one wall-clock date, in their order.
#[derive(Debug)]
pub(super) enum Spans {
    /// One offset throughout.
    Plain(Span),
    /// Clocks jump on this date or at its edges.
    Jumps(Vec<Span>),
}

impl Spans {
    /// The instants of `date` in `zone`.
    pub(super) fn of(zone: Tz, date: NaiveDate) -> Option<Self> {
        let midnight = date.and_time(NaiveTime::MIN);
        let tomorrow = date.succ_opt()?.and_time(NaiveTime::MIN);
        if let (MappedLocalTime::Single(start), MappedLocalTime::Single(end)) =
            (zone.from_local_datetime(&midnight), zone.from_local_datetime(&tomorrow))
        {
            let (start, end) = (start.timestamp(), end.timestamp());
            if end - start == DAY_S {
                let midnight = start;
                return Some(Self::Plain(Span { start, end, midnight }));
            }
        }
        Self::of_jumping(zone, midnight.and_utc().timestamp()).map(Self::Jumps)
    }

    /// `wall_midnight` is the date's midnight as if it were UTC, Unix seconds.
    fn of_jumping(zone: Tz, wall_midnight: i64) -> Option<Vec<Span>> {
        let (first, last) = (wall_midnight - OFFSET_MAX_S, wall_midnight + DAY_S + OFFSET_MAX_S);
        let mut spans = Vec::new();
        let (mut start, mut offset) = (first, offset_s(zone, first)?);
        let mut probe = first;
        while probe < last {
            let next = probe + PROBE_S;
            let next_offset = offset_s(zone, next)?;
            if next_offset != offset {
                let jump = first_with_other_offset(zone, probe, next, offset)?;
                push_clipped(&mut spans, start, jump, wall_midnight - offset);
                (start, offset) = (jump, next_offset);
            }
            probe = next;
        }
        push_clipped(&mut spans, start, last, wall_midnight - offset);
        Some(spans)
    }

    /// Whether one offset holds throughout.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// The spans, earliest first.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Span> {
        match self {
            Self::Plain(span) => std::slice::from_ref(span).iter(),
            Self::Jumps(spans) => spans.iter(),
        }
    }
}

/// The first instant in `(before, until]` whose offset is not `offset`.
fn first_with_other_offset(zone: Tz, mut before: i64, mut until: i64, offset: i64) -> Option<i64> {
    while until - before > 1 {
        let middle = before + (until - before) / 2;
        if offset_s(zone, middle)? == offset {
            before = middle;
        } else {
            until = middle;
        }
    }
    Some(until)
}

/// Keeps what of `[start, end)` belongs to the date that begins at `midnight` under the span's offset.
fn push_clipped(spans: &mut Vec<Span>, start: i64, end: i64, midnight: i64) {
    let (start, end) = (start.max(midnight), end.min(midnight + DAY_S));
    if start < end {
        spans.push(Span { start, end, midnight });
    }
}
