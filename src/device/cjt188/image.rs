//! The data that a virtual meter sends: the reverse of decoding.

use super::{Field, Part, Record};
use crate::device::units;
use crate::domain::reading::Measurand;
use crate::protocol::cjt188::Unit;
use crate::protocol::cjt188::record::{Form, UnitPlace};
use crate::protocol::cjt188::value::{self, Status, StatusBits, TimeOrder, Valve};
use chrono::NaiveDateTime;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// What a virtual meter shows besides its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its clock.
    pub clock: NaiveDateTime,
    /// Its valve.
    pub valve: Valve,
    /// Whether its battery is low.
    pub battery_low: bool,
}

impl Shown {
    /// The status word, with its bits where a model has them.
    pub fn status(&self, bits: StatusBits) -> Status {
        let valve = match self.valve {
            Valve::Open => 0b00,
            Valve::Closed => 0b01,
            Valve::Undefined => 0b10,
            Valve::Abnormal => 0b11,
        };
        let battery = u8::from(self.battery_low);
        Status(match bits {
            StatusBits::Low => [valve | battery << 2, 0],
            StatusBits::High => [valve << 6 | battery << 5, 0],
        })
    }
}

/// The data of a record: numbers by what `number` says in the canonical unit (a vendor's in its own), FF in every digit
/// where it says nothing or the digits cannot hold it.
pub fn data(record: &Record, shown: Shown, number: impl Fn(&Measurand) -> Option<Decimal>) -> Vec<u8> {
    let mut data = Vec::with_capacity(record.len());
    for field in &record.fields {
        match field.form {
            Form::Number { bytes, decimals, unit } => {
                let digits = digits(field, bytes, decimals, &number);
                let code = Unit::by_symbol(&field.unit).map_or(0, |unit| unit.code);
                match unit {
                    UnitPlace::After => data.extend(digits.into_iter().chain([code])),
                    UnitPlace::Before => data.extend([code].into_iter().chain(digits)),
                    UnitPlace::Fixed => data.extend(digits),
                }
            }
            Form::Byte => {
                let given = field.gives.first().and_then(|given| number(&given.measurand));
                let byte = given.and_then(|number| number.round().to_i8()).unwrap_or_default();
                data.extend(byte.to_le_bytes());
            }
            Form::Time(order) => data.extend(clock(shown.clock, order)),
            Form::Status => data.extend(shown.status(field.status.unwrap_or(StatusBits::Low)).0),
            Form::Raw(bytes) => data.extend(std::iter::repeat_n(0, bytes.into())),
        }
    }
    data
}

fn digits(field: &Field, bytes: u8, decimals: u8, number: &impl Fn(&Measurand) -> Option<Decimal>) -> Vec<u8> {
    let given = field.gives.iter().find(|given| given.part == Part::Number);
    let shown = given.and_then(|given| {
        let number = number(&given.measurand)?;
        let number = match &given.measurand {
            Measurand::Standard(quantity) => units::convert_back(number, &field.unit, quantity.unit())?,
            Measurand::Vendor(_) => number,
        };
        value::to_number(number, decimals, bytes.into())
    });
    shown.unwrap_or_else(|| vec![0xFF; bytes.into()])
}

fn clock(at: NaiveDateTime, order: TimeOrder) -> Vec<u8> {
    let mut bytes = value::to_time(at).map_or_else(|_| vec![0xFF; 7], |bytes| bytes.to_vec());
    match order {
        TimeOrder::SecondsFirst => {}
        TimeOrder::YearFirst => bytes.reverse(),
        TimeOrder::NoCentury => bytes.truncate(6),
    }
    bytes
}
