//! From a concentrator's answers to reading items.

use super::{Point, PointProfile, Source};
use crate::device::decode::{DecodedPoll, Problem, ProblemKind, ReportedState};
use crate::device::dlt645::history::{DecodedPast, Past};
use crate::device::dlt645::item;
use crate::domain::reading::Item;
use crate::protocol::gdw376::format::Value;
use crate::protocol::gdw376::layout::Stamped;
use crate::protocol::gdw376::{Afn, Answer, Edition, Fn, Found, Id, Message, Request, Said, Unit, find};
use chrono::{Days, Months, NaiveDateTime};
use rust_decimal::Decimal;

/// How the time is called at which the terminal read the meter.
const READ_AT: &str = "terminal read at";
/// The terminal's clock, AFN 0C F2.
const CLOCK: &str = "clock";

type Answered<'a> = (&'a Request, Option<&'a [u8]>);

/// Decodes every point that the requests bring, the times of the values, and the terminal's clock.
pub(in crate::device) fn decode<'a>(
    profile: &PointProfile,
    answers: impl Iterator<Item = Answered<'a>>,
) -> DecodedPoll {
    let mut poll = DecodedPoll::default();
    for (request, bytes) in answers {
        let answer = bytes.map(|bytes| read(request, bytes, profile.edition));
        let units: &[Unit] = match &answer {
            Some(Ok(answer)) => units(answer),
            _ => &[],
        };
        if let Some(said) = time(units, Id::terminal(Fn::F2), CLOCK) {
            poll.meter_local = Some(said);
        }
        for (id, _) in request.asks().filter(|(id, _)| *id != Id::terminal(Fn::F2)) {
            let of_item = |source: &Source| source.afn == request.afn() && source.item == id.item;
            let points = profile.points.iter().filter(|point| of_item(&point.source));
            take(points, id, &answer, units, &mut poll.items, &mut poll.problems);
            // of several the oldest: no value is older than what is said
            let read_at = time(units, id, READ_AT);
            poll.taken_local = [poll.taken_local, read_at].into_iter().flatten().min();
        }
    }
    poll
}

/// The same of a past state. Its moment is the end of the day or month that the answers name, which is the one that was
/// asked for.
pub(in crate::device) fn decode_past<'a>(
    profile: &PointProfile,
    past: Past,
    answers: impl Iterator<Item = Answered<'a>>,
) -> DecodedPast {
    let mut out = DecodedPast::default();
    let Some(kept) = profile.history.iter().find(|kept| kept.kind == past.kind()) else {
        return out;
    };
    for (request, bytes) in answers {
        let answer = bytes.map(|bytes| read(request, bytes, profile.edition));
        let units: &[Unit] = match &answer {
            Some(Ok(answer)) => units(answer),
            _ => &[],
        };
        for (id, _) in request.asks() {
            let of_item = |source: &Source| source.afn == request.afn() && source.item == id.item;
            let points = kept.points.iter().filter(|point| of_item(&point.source));
            take(points, id, &answer, units, &mut out.items, &mut out.problems);
            out.at = out
                .at
                .or_else(|| units.iter().find(|unit| unit.id == id).and_then(end_of));
        }
    }
    out
}

/// What an item says that a concentrator reported of its own accord: present values with the time at which it read the meter,
/// or frozen ones with the end of their day or month; none of an item that the model does not have. An item without its own
/// moment says nothing: it may come again, and nobody would know that it is the same.
pub(in crate::device) fn decode_reported(profile: &PointProfile, afn: Afn, unit: &Unit) -> Option<ReportedState> {
    let units = std::slice::from_ref(unit);
    let of_item = |point: &&Point| point.source.afn == afn && point.source.item == unit.id.item;
    let history = profile.history.iter().flat_map(|kept| &kept.points);
    let (points, at): (Vec<&Point>, _) = match afn {
        Afn::HISTORY => (history.filter(of_item).collect(), end_of(unit)),
        _ => (
            profile.points.iter().filter(of_item).collect(),
            time(units, unit.id, READ_AT),
        ),
    };
    if points.is_empty() {
        return None;
    }
    let mut items: Vec<Item> = Vec::new();
    for point in points {
        let number = number(&point.source, unit.id, units).ok();
        // days and months of one item may bring the same quantity
        let fresh = !items.iter().any(|known| known.measurand == point.measurand);
        items.extend(
            number
                .filter(|_| fresh)
                .map(|number| item(&point.measurand, number, point.factor)),
        );
    }
    Some(ReportedState { at: at?, items })
}

/// All frames of an answer, judged once more against the question; else what is wrong with them.
pub(in crate::device) fn read(request: &Request, bytes: &[u8], edition: Edition) -> Result<Answer, String> {
    let (mut rest, mut frames) = (bytes, Vec::new());
    while let Found::Frame { span, frame } = find(rest) {
        frames.push(Message::of(&frame).map_err(|error| error.to_string())?);
        rest = rest.get(span.end..).unwrap_or_default();
    }
    request
        .answer(&frames, edition)
        .map_err(|mismatch| mismatch.to_string())
}

fn units(answer: &Answer) -> &[Unit] {
    match &answer.said {
        Said::Data(units) => units,
        _ => &[],
    }
}

fn take<'a>(
    points: impl Iterator<Item = &'a Point>,
    id: Id,
    answer: &Option<Result<Answer, String>>,
    units: &[Unit],
    items: &mut Vec<Item>,
    problems: &mut Vec<Problem>,
) {
    for point in points {
        let value = match answer {
            None => Err(ProblemKind::NotAnswered),
            Some(Err(why)) => Err(ProblemKind::Undecodable(why.clone())),
            Some(Ok(_)) => number(&point.source, id, units),
        };
        match value {
            Ok(number) => items.push(item(&point.measurand, number, point.factor)),
            Err(kind) => problems.push(Problem {
                measurand: point.measurand.clone(),
                kind,
            }),
        }
    }
}

fn number(source: &Source, id: Id, units: &[Unit]) -> Result<Decimal, ProblemKind> {
    let unit = units
        .iter()
        .find(|unit| unit.id == id)
        .ok_or(ProblemKind::NotAnswered)?;
    let reading = unit.reading.as_ref().ok_or(ProblemKind::NoValue)?;
    let mut entries = reading.entries.iter();
    // fewer tariffs than the model has: there is no such register
    let entry = entries
        .find(|entry| entry.field.name == source.field && entry.rate == source.rate && entry.index.is_none())
        .ok_or(ProblemKind::NoValue)?;
    match &entry.value {
        Ok(Value::Number(number)) => Ok(*number),
        Ok(Value::Bits(bits)) => Ok(Decimal::from(*bits)),
        Ok(Value::None) => Err(ProblemKind::NoValue),
        Ok(_) => Err(ProblemKind::Unusable(format!("{id}: {} is no number", source.field))),
        Err(error) => Err(ProblemKind::Unusable(format!("{id}: {}: {error}", source.field))),
    }
}

fn time(units: &[Unit], id: Id, name: &str) -> Option<NaiveDateTime> {
    units.iter().find(|unit| unit.id == id)?.reading.as_ref()?.time(name)
}

/// The end of the day or month that a unit is of.
fn end_of(unit: &Unit) -> Option<NaiveDateTime> {
    let day = match &unit.reading.as_ref()?.stamped {
        Stamped::Period(Ok(Value::Date(day))) => day.checked_add_days(Days::new(1)),
        Stamped::Period(Ok(Value::Month(month))) => month.checked_add_months(Months::new(1)),
        _ => None,
    };
    day?.and_hms_opt(0, 0, 0)
}
