//! The curve of a point's consumption: readings cleaned, installations joined, values between readings interpolated.

use super::{Flags, INTERPOLATED_SCALE, Installation, IntervalReading, RegisterReading, RollOver};
use crate::domain::reading::Quality;
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

/// So many readings in a row can be taken for a spike or a dip; a longer run is the register's new truth.
const RUN_MAX: usize = 2;

/// A register value at an instant that the curve goes through.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Anchor {
    at: DateTime<Utc>,
    value: Decimal,
    estimated: bool,
    /// An opening or closing register: never taken for a spike.
    pinned: bool,
    /// What was left out between the last anchor and this one makes the way here suspect.
    suspect: bool,
}

/// A straight piece of the curve.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// Consumed up to `from`.
    start: Decimal,
    /// Consumed within it, ratio included; never negative.
    delta: Decimal,
    from_estimated: bool,
    to_estimated: bool,
    suspect: bool,
    /// Nothing is known of it.
    hole: bool,
}

/// Consumption since the first reading, over time.
#[derive(Debug)]
pub(super) struct Curve {
    /// Ascending, without gaps between them.
    segments: Vec<Segment>,
    gap_max: TimeDelta,
}

/// How a boundary meets the curve.
struct Met {
    consumed: Decimal,
    flags: Flags,
}

impl Curve {
    pub(super) fn new(readings: &[RegisterReading], installations: &[Installation], gap_max: TimeDelta) -> Self {
        let mut curve = Self {
            segments: Vec::new(),
            gap_max,
        };
        let mut at_exchange = None;
        for (place, installation) in installations.iter().enumerate() {
            let opening = installation.opening.or(at_exchange.take());
            let next = installations.get(place + 1);
            let closing = installation
                .closing
                .or_else(|| passing_value(readings, installation, next));
            at_exchange = if continues(installation, next) { closing } else { None };
            let anchors = clean(
                anchors(readings, installation, opening, closing),
                installation.roll_over,
            );
            curve.append(&anchors, installation);
        }
        curve
    }

    /// Adds an installation's anchors; what lies between the last one before and the first is a hole.
    fn append(&mut self, anchors: &[Anchor], installation: &Installation) {
        let Some(first) = anchors.first() else { return };
        if let Some(last) = self.segments.last().copied()
            && last.to < first.at
        {
            self.segments.push(Segment {
                from: last.to,
                to: first.at,
                start: last.start.saturating_add(last.delta),
                delta: Decimal::ZERO,
                from_estimated: last.to_estimated,
                to_estimated: first.estimated,
                suspect: false,
                hole: true,
            });
        }
        for pair in anchors.windows(2) {
            let [before, after] = pair else { continue };
            let passed = difference(*before, *after, installation.roll_over)
                .and_then(|difference| difference.checked_mul(installation.ratio))
                .filter(|passed| !passed.is_sign_negative() || passed.is_zero());
            let start = self
                .segments
                .last()
                .map_or(Decimal::ZERO, |last| last.start.saturating_add(last.delta));
            self.segments.push(Segment {
                from: before.at,
                to: after.at,
                start,
                delta: passed.unwrap_or_default(),
                from_estimated: before.estimated,
                to_estimated: after.estimated,
                suspect: passed.is_none() || after.suspect,
                hole: false,
            });
        }
    }

    /// The consumption of `[from, to)`.
    pub(super) fn interval(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> IntervalReading {
        let first = self.segments.partition_point(|segment| segment.to <= from);
        let touched = self.segments.iter().skip(first).take_while(|segment| segment.from < to);
        let mut flags = Flags::default();
        let (mut covered, mut known_to) = (false, from);
        for segment in touched {
            flags.suspect |= segment.suspect;
            if segment.from <= known_to && !segment.hole {
                known_to = segment.to;
            }
            covered |= !segment.hole;
        }
        flags.incomplete = known_to < to;
        let (begin, end) = (self.meet(from), self.meet(to));
        for met in [&begin, &end] {
            flags.interpolated |= met.flags.interpolated;
            flags.estimated |= met.flags.estimated;
        }
        IntervalReading {
            from,
            to,
            value: covered.then(|| end.consumed.saturating_sub(begin.consumed)),
            flags,
        }
    }

    /// The curve at an instant; flat before its begin, behind its end and in holes.
    fn meet(&self, at: DateTime<Utc>) -> Met {
        let mut flags = Flags::default();
        let place = self.segments.partition_point(|segment| segment.to <= at);
        let Some(segment) = self.segments.get(place) else {
            let last = self.segments.last();
            flags.estimated = last.is_some_and(|last| last.to == at && last.to_estimated);
            let consumed = last.map_or(Decimal::ZERO, |last| last.start.saturating_add(last.delta));
            return Met { consumed, flags };
        };
        if at <= segment.from || segment.hole {
            flags.estimated = at == segment.from && segment.from_estimated;
            let consumed = segment.start;
            return Met { consumed, flags };
        }
        flags.interpolated = true;
        flags.estimated = segment.from_estimated
            || segment.to_estimated
            || segment.to.signed_duration_since(segment.from) > self.gap_max;
        let part = share(segment.delta, segment.from, segment.to, at).unwrap_or_default();
        // the reading's own decimals can be finer than the rounding: never leave the segment
        let consumed = segment.start.saturating_add(part.clamp(Decimal::ZERO, segment.delta));
        let consumed = consumed
            .round_dp(INTERPOLATED_SCALE)
            .clamp(segment.start, segment.start.saturating_add(segment.delta));
        Met { consumed, flags }
    }
}

/// The part of `delta` that falls before `at`, in proportion to time.
fn share(delta: Decimal, from: DateTime<Utc>, to: DateTime<Utc>, at: DateTime<Utc>) -> Option<Decimal> {
    let whole = Decimal::from(to.signed_duration_since(from).num_milliseconds());
    let part = Decimal::from(at.signed_duration_since(from).num_milliseconds());
    delta.checked_mul(part.checked_div(whole)?)
}

/// Whether the next installation is the same meter going on, under another ratio.
fn continues(installation: &Installation, next: Option<&Installation>) -> bool {
    next.is_some_and(|next| next.meter == installation.meter && installation.to == Some(next.from))
}

/// The register when the ratio of a meter that stays was changed, from the readings around it.
fn passing_value(
    readings: &[RegisterReading],
    installation: &Installation,
    next: Option<&Installation>,
) -> Option<Decimal> {
    if !continues(installation, next) {
        return None;
    }
    if let Some(opening) = next.and_then(|next| next.opening) {
        return Some(opening);
    }
    let at = installation.to?;
    let good = || {
        readings
            .iter()
            .filter(|reading| reading.meter == installation.meter && reading.quality != Quality::Suspect)
    };
    let before = good()
        .filter(|reading| reading.at <= at)
        .max_by_key(|reading| reading.at)?;
    let after = good()
        .filter(|reading| reading.at >= at)
        .min_by_key(|reading| reading.at)?;
    if before.at == after.at {
        return Some(before.value);
    }
    let delta = after
        .value
        .checked_sub(before.value)
        .filter(|delta| !delta.is_sign_negative())?;
    let part = share(delta, before.at, after.at, at)?.round_dp(INTERPOLATED_SCALE);
    Some(before.value.saturating_add(part.clamp(Decimal::ZERO, delta)))
}

/// The readings of an installation in their order, with its opening and closing registers.
fn anchors(
    readings: &[RegisterReading],
    installation: &Installation,
    opening: Option<Decimal>,
    closing: Option<Decimal>,
) -> Vec<Anchor> {
    let (from, to) = (installation.from, installation.to.unwrap_or(DateTime::<Utc>::MAX_UTC));
    let pin = |at, value| Anchor {
        at,
        value,
        estimated: false,
        pinned: true,
        suspect: false,
    };
    let mut own: Vec<&RegisterReading> = readings
        .iter()
        .filter(|reading| reading.meter == installation.meter && reading.at >= from && reading.at <= to)
        .filter(|reading| reading.at > from || opening.is_none())
        .filter(|reading| reading.at < to || closing.is_none())
        .collect();
    own.sort_by_key(|reading| (reading.at, reading.quality));
    own.dedup_by_key(|reading| reading.at);
    let mut list: Vec<Anchor> = opening.map(|value| pin(from, value)).into_iter().collect();
    let mut left_out = false;
    for reading in own {
        if reading.quality == Quality::Suspect {
            left_out = true;
            continue;
        }
        list.push(Anchor {
            at: reading.at,
            value: reading.value,
            estimated: reading.quality != Quality::Measured,
            pinned: false,
            suspect: std::mem::take(&mut left_out),
        });
    }
    if let (Some(value), Some(to)) = (closing, installation.to) {
        let mut last = pin(to, value);
        last.suspect = left_out;
        list.push(last);
    }
    list
}

/// What passed between two anchors; none when the register went back and did not roll over.
fn difference(before: Anchor, after: Anchor, roll_over: Option<RollOver>) -> Option<Decimal> {
    if after.value >= before.value {
        return after.value.checked_sub(before.value);
    }
    let roll_over = roll_over?;
    if before.value >= roll_over.modulus || after.value.is_sign_negative() {
        return None;
    }
    let passed = after.value.checked_add(roll_over.modulus)?.checked_sub(before.value)?;
    let milliseconds = Decimal::from(after.at.signed_duration_since(before.at).num_milliseconds());
    let most = roll_over
        .per_hour_max
        .checked_mul(milliseconds)?
        .checked_div(Decimal::from(3_600_000))?;
    (passed <= most).then_some(passed)
}

/// Leaves out spikes and dips of up to [`RUN_MAX`] readings, and marks the way over them as suspect. A register that
/// stays lower is followed from there on; the step down counts nothing and is suspect too.
fn clean(list: Vec<Anchor>, roll_over: Option<RollOver>) -> Vec<Anchor> {
    let mut kept: Vec<Anchor> = Vec::with_capacity(list.len());
    let mut dip = 0;
    for (place, anchor) in list.iter().enumerate() {
        let mut anchor = *anchor;
        let Some(last) = kept.last().copied() else {
            kept.push(anchor);
            continue;
        };
        if difference(last, anchor, roll_over).is_some() {
            anchor.suspect |= dip > 0;
            dip = 0;
            kept.push(anchor);
            continue;
        }
        let comes_back = list
            .iter()
            .skip(place + 1)
            .take(RUN_MAX - dip.min(RUN_MAX))
            .any(|later| later.value >= last.value);
        if comes_back && !anchor.pinned {
            dip += 1;
            continue;
        }
        anchor.suspect = true;
        dip = 0;
        drop_spike(&mut kept, anchor, roll_over);
        kept.push(anchor);
    }
    kept
}

/// If without the last one or two anchors the register never went back, they were a spike.
fn drop_spike(kept: &mut Vec<Anchor>, anchor: Anchor, roll_over: Option<RollOver>) {
    for run in 1..=RUN_MAX {
        let Some(base) = kept.len().checked_sub(run + 1) else {
            return;
        };
        if kept.iter().skip(base + 1).any(|spike| spike.pinned) {
            return;
        }
        if kept
            .get(base)
            .is_some_and(|base| difference(*base, anchor, roll_over).is_some())
        {
            kept.truncate(base + 1);
            return;
        }
    }
}
