//! From the telegrams of a readout to reading items.

use super::{DayEdge, Kept, Key, Place, Point, ReadoutProfile};
use crate::base::hex;
use crate::device::decode::{DecodedPoll, Problem, ProblemKind};
use crate::device::dlt645::history::{DecodedPast, Past};
use crate::device::plausible::plausible;
use crate::device::units;
use crate::domain::reading::{Item, Measurand, Quality, Value as ItemValue};
use crate::protocol::mbus::{AnswerBody, Class, Function, Readout, Record, Request, Unit, Value, ValueFault};
use chrono::NaiveDateTime;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Decodes every point of the profile.
pub(in crate::device) fn decode<'a>(
    profile: &ReadoutProfile,
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> DecodedPoll {
    let mut poll = DecodedPoll::default();
    // a selection alone asks for no value
    let Some(readout) = read(profile, answers) else {
        return poll;
    };
    for point in &profile.points {
        let value = match &readout {
            Ok(readout) => value(point, readout, None),
            Err(kind) => Err(kind.clone()),
        };
        match value {
            Ok(Some(value)) => poll.items.push(item(point, value)),
            Ok(None) => {}
            Err(kind) => poll.problems.push(Problem {
                measurand: point.measurand.clone(),
                kind,
            }),
        }
    }
    poll.meter_local = readout.ok().and_then(|readout| clock(&readout));
    poll
}

/// The n-th last state that the meter keeps: all registers that the model has. Meters that keep states in a
/// ring say the date of each, so the dates give the order; without any, that of the storage numbers does.
pub(in crate::device) fn decode_past<'a>(
    profile: &ReadoutProfile,
    wanted: Past,
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> DecodedPast {
    let mut past = DecodedPast::default();
    let Some(kept) = profile.kept(wanted) else {
        return past;
    };
    let Some(readout) = read(profile, answers) else {
        return past;
    };
    let storage = match &readout {
        Ok(readout) => {
            let found = nth_last(readout, kept, wanted.back().into());
            past.at = found.and_then(|(_, at)| at);
            // not kept yet: nothing, and nothing is missing
            let Some((storage, _)) = found else { return past };
            Some(storage)
        }
        Err(_) => None,
    };
    for point in profile.registers() {
        let value = match &readout {
            Ok(readout) => value(point, readout, storage),
            Err(kind) => Err(kind.clone()),
        };
        match value {
            Ok(Some(value)) => past.items.push(item(point, value)),
            // what a meter does not keep is not missing
            Ok(None) => {}
            Err(kind) => past.problems.push(Problem {
                measurand: point.measurand.clone(),
                kind,
            }),
        }
    }
    past
}

/// The storage number of the `back`th last state, and when it was kept.
fn nth_last(readout: &Readout, kept: &Kept, back: usize) -> Option<(u64, Option<NaiveDateTime>)> {
    let index = back.checked_sub(1)?;
    let mut dated: Vec<(NaiveDateTime, u64)> = kept
        .storages
        .iter()
        .filter_map(|storage| Some((stored_at(readout, *storage, kept.day)?, *storage)))
        .collect();
    if dated.is_empty() {
        return kept.storages.get(index).map(|storage| (*storage, None));
    }
    dated.sort_unstable();
    let (at, storage) = dated.into_iter().rev().nth(index)?;
    Some((storage, Some(at)))
}

/// The readout among the answers; none when nothing was read.
fn read<'a>(
    profile: &ReadoutProfile,
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> Option<Result<Readout, ProblemKind>> {
    let (request, frames) = answers.filter(|(request, _)| request.reads()).last()?;
    let Some(frames) = frames else {
        return Some(Err(ProblemKind::NotAnswered));
    };
    let readout = request
        .readout(frames)
        .map_err(|error| ProblemKind::Undecodable(error.to_string()));
    Some(readout.and_then(|readout| of_model(profile, readout)))
}

/// The readout, if its header is that of a meter of the model.
fn of_model(profile: &ReadoutProfile, readout: Readout) -> Result<Readout, ProblemKind> {
    if let Some(identification) = readout.identification() {
        if !profile.identify.fits(&identification) {
            return Err(ProblemKind::Undecodable(format!(
                "{identification} is not a meter of this model"
            )));
        }
    } else if let Some(medium) = readout.telegrams.first().and_then(|telegram| telegram.medium())
        && !profile.identify.fits_medium(medium)
    {
        return Err(ProblemKind::Undecodable(format!(
            "medium {medium:02X} is not that of this model"
        )));
    }
    Ok(readout)
}

/// The value of a point, or of its counterpart at a storage number; none where a meter may lack it.
fn value(point: &Point, readout: &Readout, storage: Option<u64>) -> Result<Option<Decimal>, ProblemKind> {
    let key = match &point.place {
        Place::Status => {
            return match readout.status() {
                Some(status) => Ok(Some(Decimal::from(status.0))),
                None if point.optional => Ok(None),
                None => Err(ProblemKind::NoValue),
            };
        }
        Place::Record(key) => storage.map_or_else(|| key.clone(), |storage| key.at_storage(storage)),
    };
    let of_kind = || readout.records().filter(|record| key.fits_but_function(record));
    match of_kind().filter(|record| record.function == key.function).nth(key.nth) {
        Some(record) => number(point, record).map(Some),
        // told as "value during error state" alone: the meter has none
        None if of_kind().any(|record| record.function == Function::Error) => Err(ProblemKind::NoValue),
        None if point.optional || storage.is_some() => Ok(None),
        None => Err(absent(&key, readout)),
    }
}

/// Why a record is not there.
fn absent(key: &Key, readout: &Readout) -> ProblemKind {
    let broken = readout.telegrams.iter().find_map(|telegram| match &telegram.body {
        AnswerBody::Records(records) => records.fault,
        _ => None,
    });
    match broken {
        Some(fault) => ProblemKind::Undecodable(fault.to_string()),
        None if readout.is_cut() => {
            ProblemKind::Undecodable("the readout has more telegrams than were read".to_owned())
        }
        None => ProblemKind::Unusable(format!(
            "the readout has no {} of {} at storage {}, tariff {}, subunit {}",
            key.function.name(),
            key.class.name(),
            key.storage,
            key.tariff,
            key.subunit
        )),
    }
}

/// A record's number in the unit of the point.
fn number(point: &Point, record: &Record) -> Result<Decimal, ProblemKind> {
    let unusable = |why: &str| ProblemKind::Unusable(format!("{why}: {}", hex::encode(&record.raw)));
    let number = match &record.value {
        Value::Number(number) => number
            .checked_mul(point.scale)
            .ok_or_else(|| unusable("out of range"))?,
        Value::Empty => return Err(ProblemKind::NoValue),
        Value::Invalid(fault) => match fault {
            ValueFault::NoValue | ValueFault::NotANumber | ValueFault::Reported => return Err(ProblemKind::NoValue),
            // all digits F: the field is there and empty
            ValueFault::NotDecimal if record.raw.iter().skip(record.head).all(|byte| *byte == 0xFF) => {
                return Err(ProblemKind::NoValue);
            }
            other => return Err(unusable(&other.to_string())),
        },
        Value::Date(_) | Value::DateTime(_) | Value::Text(_) | Value::Bytes(_) => {
            return Err(unusable("the record holds no number"));
        }
    };
    let unit = match (record.unit, point.unit.as_str()) {
        (Unit::None | Unit::Other, given) => given,
        (unit, _) => unit.name(),
    };
    match &point.measurand {
        Measurand::Standard(quantity) => {
            let converted = if unit.is_empty() && quantity.unit() == crate::domain::quantity::Unit::One {
                Some(number)
            } else {
                units::convert(number, unit, quantity.unit())
            };
            converted.ok_or_else(|| unusable(&format!("{unit:?} is no unit of {quantity}")))
        }
        Measurand::Vendor(_) if point.unit.is_empty() || point.unit == unit || unit.is_empty() => Ok(number),
        Measurand::Vendor(_) => between(number, unit, &point.unit)
            .ok_or_else(|| unusable(&format!("{unit:?} does not convert to {:?}", point.unit))),
    }
}

/// A number in another spelling of its unit's family.
pub(super) fn between(number: Decimal, from: &str, to: &str) -> Option<Decimal> {
    crate::domain::quantity::Unit::ALL.iter().find_map(|canonical| {
        let middle = units::convert(number, from, *canonical)?;
        units::convert_back(middle, to, *canonical).map(|number| number.normalize())
    })
}

fn item(point: &Point, value: Decimal) -> Item {
    let approximate = value.to_f64().unwrap_or(f64::MAX);
    let suspect = point
        .quantity()
        .is_some_and(|quantity| !plausible(quantity, approximate));
    Item {
        measurand: point.measurand.clone(),
        value: ItemValue::Decimal(value.normalize()),
        quality: if suspect { Quality::Suspect } else { Quality::Measured },
    }
}

/// The meter's own clock: its first date with time that is of now.
fn clock(readout: &Readout) -> Option<NaiveDateTime> {
    readout.records().find_map(|record| match &record.value {
        Value::DateTime(time) if is_clock(record) => time.single(),
        _ => None,
    })
}

fn is_clock(record: &Record) -> bool {
    record.class == Class::DateTime
        && (record.storage, record.tariff, record.subunit) == (0, 0, 0)
        && record.function == Function::Instant
        && record.marks.is_empty()
}

/// When the state at a storage number was kept: its date with time, else a midnight of its date.
fn stored_at(readout: &Readout, storage: u64, day: DayEdge) -> Option<NaiveDateTime> {
    let plain = |record: &&Record| {
        record.storage == storage
            && (record.tariff, record.subunit) == (0, 0)
            && record.function == Function::Instant
            && record.marks.is_empty()
    };
    readout.records().filter(plain).find_map(|record| match &record.value {
        Value::DateTime(time) => time.single(),
        Value::Date(date) => {
            let date = date.single()?;
            let midnight = match day {
                DayEdge::End => date.succ_opt()?,
                DayEdge::Begin => date,
            };
            midnight.and_hms_opt(0, 0, 0)
        }
        _ => None,
    })
}
