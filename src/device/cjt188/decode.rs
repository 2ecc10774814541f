//! From answer frames to reading items.

use super::{Field, Given, Part, Record, RecordProfile};
use crate::base::hex;
use crate::device::decode::{DecodedPoll, Problem, ProblemKind};
use crate::device::plausible::plausible;
use crate::device::units;
use crate::domain::reading::{self, Item, Measurand, Quality};
use crate::protocol::cjt188::record::Value;
use crate::protocol::cjt188::value::{Status, StatusBits, ValueError, Valve};
use crate::protocol::cjt188::{Request, Unit};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Decodes the records of the answers.
pub(in crate::device) fn decode<'a>(
    profile: &RecordProfile,
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> DecodedPoll {
    let mut poll = DecodedPoll::default();
    for (request, frame) in answers {
        let Some(record) = profile.records.iter().find(|record| record.di == request.di()) else {
            continue;
        };
        let data = frame.ok_or(ProblemKind::NotAnswered).and_then(|frame| {
            let answer = request.answer(frame);
            answer.map_err(|error| ProblemKind::Undecodable(error.to_string()))
        });
        match data {
            Ok(answer) => read(record, &answer.data, &mut poll),
            Err(kind) => missing(record, &kind, &mut poll),
        }
    }
    poll
}

fn missing(record: &Record, kind: &ProblemKind, poll: &mut DecodedPoll) {
    let problems = record.measurands().map(|(measurand, _)| Problem {
        measurand: measurand.clone(),
        kind: kind.clone(),
    });
    poll.problems.extend(problems);
}

/// Reads the values of a record. A frame of another length is another layout: nothing in it can be trusted.
pub(super) fn read(record: &Record, data: &[u8], poll: &mut DecodedPoll) {
    if data.len() != record.len() {
        let kind = ProblemKind::Undecodable(format!(
            "the answer to {} has {} data bytes, the model says {}",
            record.di,
            data.len(),
            record.len()
        ));
        return missing(record, &kind, poll);
    }
    for (field, raw) in fields(record, data) {
        let value = field.form.read(raw);
        if let Ok(Value::Time(local)) = value {
            poll.meter_local = Some(local);
        }
        for given in &field.gives {
            match part(field, given, value, raw) {
                Ok(value) => poll.items.push(item(&given.measurand, value)),
                Err(kind) => poll.problems.push(Problem {
                    measurand: given.measurand.clone(),
                    kind,
                }),
            }
        }
    }
}

/// Each field with its bytes.
fn fields<'a>(record: &'a Record, data: &'a [u8]) -> impl Iterator<Item = (&'a Field, &'a [u8])> {
    let mut offset = 0;
    record.fields.iter().map(move |field| {
        let end = offset + field.form.len();
        let raw = data.get(offset..end).unwrap_or_default();
        offset = end;
        (field, raw)
    })
}

/// Every value that a record tells, in its canonical unit.
pub(super) fn numbers<'a>(
    record: &'a Record,
    data: &'a [u8],
) -> impl Iterator<Item = (&'a Given, Result<Decimal, ProblemKind>)> {
    fields(record, data).flat_map(|(field, raw)| {
        let value = field.form.read(raw);
        field
            .gives
            .iter()
            .map(move |given| (given, part(field, given, value, raw)))
    })
}

pub(super) fn item(measurand: &Measurand, value: Decimal) -> Item {
    let quality = match measurand {
        Measurand::Standard(quantity) if !plausible(*quantity, value.to_f64().unwrap_or(f64::MAX)) => Quality::Suspect,
        _ => Quality::Measured,
    };
    Item {
        measurand: measurand.clone(),
        value: reading::Value::Decimal(value),
        quality,
    }
}

/// One part of a field, in the canonical unit; what is wrong has the bytes in question behind it.
pub(super) fn part(
    field: &Field,
    given: &Given,
    value: Result<Value, ValueError>,
    raw: &[u8],
) -> Result<Decimal, ProblemKind> {
    told(field, given, value).map_err(|kind| match kind {
        ProblemKind::Unusable(why) => ProblemKind::Unusable(format!("{why} (0x{})", hex::encode(raw))),
        other => other,
    })
}

fn told(field: &Field, given: &Given, value: Result<Value, ValueError>) -> Result<Decimal, ProblemKind> {
    let value = value.map_err(|error| match error {
        ValueError::NoValue => ProblemKind::NoValue,
        other => ProblemKind::Unusable(other.to_string()),
    })?;
    let bits = field.status.unwrap_or(StatusBits::Low);
    match (given.part, value) {
        (Part::Number, Value::Number(number, unit)) => canonical(field, &given.measurand, number, unit),
        (Part::Word, Value::Status(status)) => Ok(status.word().into()),
        (Part::Valve, Value::Status(status)) => Ok(valve(status, bits).into()),
        (Part::BatteryLow, Value::Status(status)) => Ok(u8::from(status.battery_low(bits)).into()),
        // a field gives what its form holds; checked when the model is loaded
        _ => Err(ProblemKind::Unusable(
            "the model takes it for something else".to_owned(),
        )),
    }
}

/// The code of a valve's state: as with a relay, 1 is when something can flow.
fn valve(status: Status, bits: StatusBits) -> u8 {
    match status.valve(bits) {
        Valve::Open => 1,
        Valve::Closed => 0,
        Valve::Undefined => 2,
        Valve::Abnormal => 3,
    }
}

/// A number in the canonical unit. The unit in the frame counts, not what the model thinks that it is.
fn canonical(
    field: &Field,
    measurand: &Measurand,
    number: Decimal,
    unit: Option<&'static Unit>,
) -> Result<Decimal, ProblemKind> {
    let symbol = unit.map_or(field.unit.as_str(), |unit| unit.symbol);
    let times = unit.map_or(1, |unit| unit.times);
    let counted = number.checked_mul(times.into());
    let converted = counted.and_then(|counted| match measurand {
        Measurand::Standard(quantity) => units::convert(counted, symbol, quantity.unit()),
        Measurand::Vendor(_) => (symbol == field.unit).then_some(counted),
    });
    converted.ok_or_else(|| {
        let wanted = match measurand {
            Measurand::Standard(quantity) => quantity.unit().symbol(),
            Measurand::Vendor(_) => &field.unit,
        };
        ProblemKind::Unusable(format!("its unit {symbol} does not convert to {wanted}"))
    })
}
