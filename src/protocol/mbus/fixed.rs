//! The fixed structure, CI 73 and 77 (EN 1434-3, 6.2): two counters with a unit code each, shown as records.

use super::record::{Function, Record, RecordFault, RecordFaultKind, Records};
use super::value::{Coding, Value, fixed};
use super::vif::{Class, Unit};

/// Bits of the status byte.
const BINARY: u8 = 0x01;
const STORED: u8 = 0x02;
/// The unit code "the same as the other counter, but of the last reading day".
const HISTORIC: u8 = 0x3E;

/// The two counters.
pub(super) fn records(status: u8, units: [u8; 2], data: &[u8], high: bool) -> Records {
    let mut out = Records::default();
    let [first, second] = units;
    // the second counter may be the first one's value of the reading day
    let codes = if second & 0x3F == HISTORIC {
        [first, first]
    } else {
        units
    };
    for (index, code) in codes.into_iter().enumerate() {
        let offset = index * 4;
        let Some(raw) = data.get(offset..offset + 4) else {
            out.fault = Some(RecordFault {
                offset,
                kind: RecordFaultKind::BreaksOff,
            });
            return out;
        };
        let (class, unit, exponent) = meaning(code & 0x3F);
        let mut bytes = raw.to_vec();
        if high {
            bytes.reverse();
        }
        let coding = if status & BINARY != 0 {
            Coding::Integer(4)
        } else {
            Coding::Bcd(4)
        };
        let historic = index == 1 && second & 0x3F == HISTORIC;
        let value = match unit {
            Unit::Other => Value::Bytes(bytes.iter().rev().copied().collect()),
            _ => fixed(coding, class, exponent, &bytes),
        };
        out.list.push(Record {
            function: Function::Instant,
            storage: u64::from(historic || status & STORED != 0),
            tariff: 0,
            subunit: 0,
            class,
            unit,
            marks: Vec::new(),
            unit_text: None,
            value,
            offset,
            raw: raw.to_vec(),
            head: 0,
        });
    }
    out
}

/// The medium in the top bits of both unit bytes, as the code of the variable structure.
pub(super) fn medium(units: [u8; 2]) -> u8 {
    let [first, second] = units;
    match first >> 6 | (second >> 6) << 2 {
        // the same numbers up to 9, then A is gas of another mode and the rest is reserved
        medium @ 0..=9 => medium,
        _ => 0x00,
    }
}

/// The table of physical units: three powers of ten each.
fn meaning(code: u8) -> (Class, Unit, i32) {
    let step = |first: u8, power: i32| power + i32::from(code - first);
    match code {
        0x02..=0x0A => (Class::Energy, Unit::WattHour, step(0x02, 0)),
        0x0B..=0x13 => (Class::Energy, Unit::Joule, step(0x0B, 3)),
        0x14..=0x1C => (Class::Power, Unit::Watt, step(0x14, 0)),
        0x1D..=0x25 => (Class::Power, Unit::JoulePerHour, step(0x1D, 3)),
        0x26..=0x2E => (Class::Volume, Unit::CubicMetre, step(0x26, -6)),
        0x2F..=0x37 => (Class::VolumeFlow, Unit::CubicMetrePerHour, step(0x2F, -6)),
        0x38 => (Class::ExternalTemperature, Unit::Celsius, -3),
        0x39 => (Class::CostAllocation, Unit::None, 0),
        0x3F => (Class::Other, Unit::None, 0),
        // times in hours, minutes, seconds and days, months, years, and what is reserved
        _ => (Class::Other, Unit::Other, 0),
    }
}
