//! What a meter keeps of past months: what it counted at its settlement days (D120 to D12B), for filling what was missed.
//!
//! A frame of history says neither its day nor its month. The day is the meter's settlement day (8103). That D120 is the
//! latest settlement, and not the last month's, is proven by the settlement value in the current data, which is
//! the same number then; where it is not, the past has no time and nobody may date it.

use super::decode::{numbers, part};
use super::plan::with_length;
use super::{Field, Record, RecordProfile};
use crate::base::bcd;
use crate::device::decode::{Problem, ProblemKind};
use crate::device::dlt645::history::{DecodedPast, Past};
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::cjt188::{Address, DataId, Request};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime};
use rust_decimal::Decimal;
use serde::Serialize;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct History {
    /// How many months, 1 to 12.
    pub max: u8,
    /// The settlement day, 1 to 28; none: the meter is asked.
    pub day: Option<u8>,
    /// The value of each month.
    pub field: Field,
    /// The quantity of the current data that is the latest settlement's.
    pub proof: Option<Quantity>,
}

/// The reads that bring a past state; nothing where the meter does not keep it.
pub(in crate::device) fn requests(profile: &RecordProfile, address: Address, past: Past) -> Vec<Request> {
    let Some((history, wanted)) = kept(profile, past) else {
        return Vec::new();
    };
    let target = profile.ask.target(address);
    let mut reads = Vec::new();
    if history.day.is_none() {
        reads.push(Request::read(target, DataId::SETTLEMENT_DAY));
    }
    if let Some(record) = history.proof.and_then(|proof| proving(profile, proof)) {
        reads.push(with_length(Request::read(target, record.di), record));
        if let Some(newest) = DataId::settlement_month(1).filter(|newest| *newest != wanted) {
            reads.push(Request::read(target, newest));
        }
    }
    reads.push(Request::read(target, wanted));
    reads
}

fn kept(profile: &RecordProfile, past: Past) -> Option<(&History, DataId)> {
    let Past::Settlement(back) = past else { return None };
    let history = profile.history.as_ref().filter(|history| back <= history.max)?;
    Some((history, DataId::settlement_month(back)?))
}

/// The record that has the settlement value of the current data.
fn proving(profile: &RecordProfile, proof: Quantity) -> Option<&Record> {
    let has = |record: &&Record| record.measurands().any(|(m, _)| *m == Measurand::Standard(proof));
    profile.records.iter().find(has)
}

/// What the answers say of a past state. `now`: the meter's local time of today.
pub(in crate::device) fn decode<'a>(
    profile: &RecordProfile,
    past: Past,
    now: NaiveDateTime,
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> DecodedPast {
    let mut out = DecodedPast::default();
    let Some((history, wanted)) = kept(profile, past) else {
        return out;
    };
    let answers: Vec<(DataId, Result<Vec<u8>, ProblemKind>)> = answers
        .map(|(request, frame)| (request.di(), data(request, frame)))
        .collect();
    let found = |di: DataId| match answers.iter().find(|(asked, _)| *asked == di) {
        Some((_, data)) => data.as_deref().map_err(Clone::clone),
        None => Err(ProblemKind::NotAnswered),
    };
    let number = |di: DataId| found(di).and_then(|data| value(&history.field, data));
    let day = history.day.or_else(|| day_of(found(DataId::SETTLEMENT_DAY).ok()?));
    let newest = DataId::settlement_month(1).and_then(|newest| number(newest).ok());
    let proven = history.proof.is_none_or(|proof| {
        let record = proving(profile, proof);
        let latest = record.and_then(|record| settlement(record, found(record.di).ok()?, proof));
        latest.is_some() && latest == newest
    });
    out.at = day.filter(|_| proven).and_then(|day| settled_at(day, now, past.back()));
    for given in &history.field.gives {
        match number(wanted) {
            Ok(number) => out.items.push(super::decode::item(&given.measurand, number)),
            Err(kind) => out.problems.push(Problem {
                measurand: given.measurand.clone(),
                kind,
            }),
        }
    }
    out
}

fn data(request: &Request, frame: Option<&[u8]>) -> Result<Vec<u8>, ProblemKind> {
    let answer = request.answer(frame.ok_or(ProblemKind::NotAnswered)?);
    answer
        .map(|answer| answer.data)
        .map_err(|error| ProblemKind::Undecodable(error.to_string()))
}

/// The one value of a frame of history, in its canonical unit.
fn value(field: &Field, data: &[u8]) -> Result<Decimal, ProblemKind> {
    let (have, need) = (data.len(), field.form.len());
    if have != need {
        let why = format!("a month has {have} data bytes, the model says {need}");
        return Err(ProblemKind::Undecodable(why));
    }
    let given = field.gives.first().ok_or(ProblemKind::NoValue)?;
    part(field, given, field.form.read(data), data)
}

/// A number of a record, in its canonical unit.
fn settlement(record: &Record, data: &[u8], quantity: Quantity) -> Option<Decimal> {
    let wanted = Measurand::Standard(quantity);
    let found = numbers(record, data).find(|(given, _)| given.measurand == wanted)?;
    found.1.ok()
}

/// The settlement day: one byte of digits. After the 28th not every month has it, and makers differ in what then is.
fn day_of(data: &[u8]) -> Option<u8> {
    let day = data.first().copied().filter(|_| data.len() == 1).and_then(bcd::byte)?;
    (1..=28).contains(&day).then_some(day)
}

/// Midnight of the `back`-th last settlement day, today's counted.
fn settled_at(day: u8, now: NaiveDateTime, back: u8) -> Option<NaiveDateTime> {
    let this_month = NaiveDate::from_ymd_opt(now.year(), now.month(), day.into())?;
    let latest = if this_month <= now.date() { 0 } else { 1 };
    let months = Months::new(latest + u32::from(back).checked_sub(1)?);
    Some(this_month.checked_sub_months(months)?.and_time(NaiveTime::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settlements_are_counted_back_from_now() {
        let at = |text: &str| text.parse::<NaiveDateTime>().unwrap();
        let now = at("2026-03-15T10:00:00");
        assert_eq!(settled_at(1, now, 1), Some(at("2026-03-01T00:00:00")));
        assert_eq!(settled_at(15, now, 1), Some(at("2026-03-15T00:00:00")));
        assert_eq!(settled_at(16, now, 1), Some(at("2026-02-16T00:00:00")));
        assert_eq!(settled_at(28, now, 12), Some(at("2025-03-28T00:00:00")));
        assert_eq!(settled_at(1, now, 0), None);
        assert_eq!(
            (day_of(&[0x28]), day_of(&[0x29]), day_of(&[0x0A]), day_of(&[])),
            (Some(28), None, None, None)
        );
    }
}
