//! The records that a virtual meter tells: the reverse of decoding.

use super::{Key, Place, Point};
use crate::device::units;
use crate::domain::quantity::Kind;
use crate::domain::reading::Measurand;
use crate::protocol::mbus::write::{self, Data, RECORDS_MAX, WriteError};
use crate::protocol::mbus::{Records, Unit, Value};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// DIF 1F: more records follow in another telegram.
const MORE: u8 = 0x1F;

/// The record of a point, or of its counterpart at a storage number, for a value in the canonical unit (a vendor's in
/// its own), cut to what the record resolves. None: the record says that there is no value. Nothing for what stands in
/// no record.
///
/// # Errors
/// [`WriteError`] when the record cannot hold it.
pub fn record(point: &Point, storage: Option<u64>, value: Option<Decimal>) -> Result<Vec<u8>, WriteError> {
    let Place::Record(key) = &point.place else {
        return Ok(Vec::new());
    };
    let place = write::Place {
        function: key.function,
        storage: storage.unwrap_or(key.storage),
        tariff: key.tariff,
        subunit: key.subunit,
    };
    let vib = match (&key.vib, &key.unit_text) {
        (Some(vib), _) => vib.clone(),
        (None, Some(text)) => plain_text(text),
        (None, None) => write::vib(key.class, &key.marks)?.0,
    };
    let Some(value) = value else {
        // digits that are none say so, whatever the kind
        let mut bytes = write::record(place, &vib, &Data::Bcd(4, 0))?;
        bytes.iter_mut().rev().take(4).for_each(|byte| *byte = 0xFF);
        return Ok(bytes);
    };
    let number = mantissa(point, key, &vib, value).ok_or(WriteError::Class(key.class))?;
    let data = if super::is_register(point) {
        Data::Bcd(4, number)
    } else if i16::try_from(number).is_ok_and(|number| number != i16::MIN) {
        Data::Integer(2, number)
    } else {
        Data::Integer(4, number)
    };
    write::record(place, &vib, &data)
}

/// VIF 7C and a unit that the meter spells, its last character first.
fn plain_text(text: &str) -> Vec<u8> {
    let spelt: Vec<u8> = text.bytes().rev().collect();
    let len = u8::try_from(spelt.len()).unwrap_or_default();
    [vec![0x7C, len], spelt].concat()
}

/// The number in the field, by what the record's own reading of a 1 is.
fn mantissa(point: &Point, key: &Key, vib: &[u8], value: Decimal) -> Option<i64> {
    let one = write::record(write::Place::NOW, vib, &Data::Integer(4, 1)).ok()?;
    let records = Records::parse(&one, false);
    let record = records.list.first()?;
    let Value::Number(step) = record.value else {
        return None;
    };
    let unit = match record.unit {
        Unit::None | Unit::Other => point.unit.as_str(),
        unit => unit.name(),
    };
    let in_unit = match &point.measurand {
        Measurand::Standard(quantity) if unit.is_empty() => {
            (quantity.unit() == crate::domain::quantity::Unit::One).then_some(value)?
        }
        Measurand::Standard(quantity) => units::convert_back(value, unit, quantity.unit())?,
        Measurand::Vendor(_) if point.unit.is_empty() || point.unit == unit => value,
        Measurand::Vendor(_) => super::decode::between(value, &point.unit, unit)?,
    };
    debug_assert_eq!(record.class, key.class);
    in_unit.checked_div(point.scale)?.checked_div(step)?.trunc().to_i64()
}

/// Records distributed over telegrams, each but the last with the sign that more follow.
pub fn telegrams(records: &[Vec<u8>], most: usize) -> Vec<Vec<u8>> {
    let room = most.clamp(16, RECORDS_MAX) - 1;
    let mut out: Vec<Vec<u8>> = vec![Vec::new()];
    for record in records {
        if let Some(last) = out.last_mut()
            && (last.is_empty() || last.len() + record.len() <= room)
        {
            last.extend_from_slice(record);
        } else {
            out.push(record.clone());
        }
    }
    let last = out.len() - 1;
    for data in out.iter_mut().take(last) {
        data.push(MORE);
    }
    out
}

/// Whether a point counts what a meter keeps states of.
pub(super) fn counts(point: &Point) -> bool {
    let now = match &point.place {
        Place::Record(key) => key.storage == 0 && key.function == crate::protocol::mbus::Function::Instant,
        Place::Status => false,
    };
    now && point
        .quantity()
        .is_some_and(|quantity| quantity.kind() == Kind::Register)
}
