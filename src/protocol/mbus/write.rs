//! Writing records and telegrams: what a meter does, for the simulator and for tests.

use super::address::Identification;
use super::frame::{FCB, FCV, Frame, FrameError};
use super::header::{CI_LONG, Status};
use super::record::Function;
use super::vif::{Class, Mark};
use crate::base::bcd as packed;
use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// The most bytes of records in one telegram with a long header: 255 less control, address, CI and header.
pub const RECORDS_MAX: usize = 240;

/// How a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// So many bytes of two digits each; of 1, 2, 3, 4 and 6.
    Bcd(usize, i64),
    /// Two's complement of so many bytes; of 1, 2, 3, 4, 6 and 8.
    Integer(usize, i64),
    /// Type G.
    Date(NaiveDate),
    /// Type F.
    DateTime(NaiveDateTime),
    /// Characters of ISO 8859-1, at most 191; others become question marks.
    Text(String),
}

/// Where a record stands among its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which value.
    pub function: Function,
    /// Storage number.
    pub storage: u64,
    /// Tariff.
    pub tariff: u32,
    /// Subunit.
    pub subunit: u16,
}

impl Place {
    /// The value of now, all tariffs, the meter itself.
    pub const NOW: Self = Self {
        function: Function::Instant,
        storage: 0,
        tariff: 0,
        subunit: 0,
    };
}

/// Why something cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A length that no record has.
    #[error("no record has a field of {0} bytes")]
    Length(usize),
    /// The number needs more than its field.
    #[error("{0} does not fit its field")]
    TooLarge(i64),
    /// A year that the field cannot say.
    #[error("the year {0} is not one that a meter can say")]
    Year(i32),
    /// More than ten DIFE.
    #[error("the storage number, tariff or subunit is too large")]
    Place,
    /// Not a kind that is written here.
    #[error("no vif for {0:?}")]
    Class(Class),
    /// The telegram.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// One record.
///
/// # Errors
/// [`WriteError`] when it cannot be written.
pub fn record(place: Place, vib: &[u8], data: &Data) -> Result<Vec<u8>, WriteError> {
    let (code, bytes) = data_field(data)?;
    let mut out = dib(place, code)?;
    out.extend_from_slice(vib);
    out.extend(bytes);
    Ok(out)
}

/// DIF and DIFE.
fn dib(place: Place, code: u8) -> Result<Vec<u8>, WriteError> {
    let function = match place.function {
        Function::Instant => 0x00,
        Function::Maximum => 0x10,
        Function::Minimum => 0x20,
        Function::Error => 0x30,
    };
    let low = u8::from(place.storage & 1 == 1) << 6;
    let mut out = vec![code | function | low];
    let (mut storage, mut tariff, mut subunit) = (place.storage >> 1, place.tariff, place.subunit);
    while storage != 0 || tariff != 0 || subunit != 0 {
        if let Some(before) = out.last_mut() {
            *before |= 0x80;
        }
        let nibble = u8::try_from(storage & 0x0F).unwrap_or_default();
        let tariffs = u8::try_from(tariff & 0x03).unwrap_or_default();
        let units = u8::try_from(subunit & 0x01).unwrap_or_default();
        out.push(nibble | tariffs << 4 | units << 6);
        (storage, tariff, subunit) = (storage >> 4, tariff >> 2, subunit >> 1);
    }
    if out.len() > 11 {
        Err(WriteError::Place)
    } else {
        Ok(out)
    }
}

/// The low nibble of the DIF and the bytes of the field.
fn data_field(data: &Data) -> Result<(u8, Vec<u8>), WriteError> {
    match data {
        Data::Bcd(len, number) => {
            let code = match len {
                1 => 0x09,
                2 => 0x0A,
                3 => 0x0B,
                4 => 0x0C,
                6 => 0x0E,
                other => return Err(WriteError::Length(*other)),
            };
            Ok((code, bcd(*len, *number)?))
        }
        Data::Integer(len, number) => {
            let code = match len {
                1..=4 => u8::try_from(*len).unwrap_or_default(),
                6 => 0x06,
                8 => 0x07,
                other => return Err(WriteError::Length(*other)),
            };
            let bits = u32::try_from(*len * 8).unwrap_or(64);
            let fits = bits >= 64 || (-(1i128 << (bits - 1))..1i128 << (bits - 1)).contains(&i128::from(*number));
            if !fits {
                return Err(WriteError::TooLarge(*number));
            }
            let bytes = number.to_le_bytes().into_iter().take(*len).collect();
            Ok((code, bytes))
        }
        Data::Date(date) => Ok((0x02, date_bytes(*date)?.to_vec())),
        Data::DateTime(at) => {
            let [low, high] = date_bytes(at.date())?;
            let minute = u8::try_from(at.minute()).unwrap_or_default();
            let hour = u8::try_from(at.hour()).unwrap_or_default();
            Ok((0x04, vec![minute, hour, low, high]))
        }
        Data::Text(text) => {
            let latin = |c: char| u8::try_from(u32::from(c)).unwrap_or(b'?');
            let bytes: Vec<u8> = text.chars().rev().map(latin).collect();
            let len = u8::try_from(bytes.len()).ok().filter(|len| *len <= 0xBF);
            let len = len.ok_or(WriteError::Length(bytes.len()))?;
            Ok((0x0D, [vec![len], bytes].concat()))
        }
    }
}

fn bcd(len: usize, number: i64) -> Result<Vec<u8>, WriteError> {
    let mut rest = number.unsigned_abs();
    let mut out = Vec::with_capacity(len);
    for _ in 0..len {
        let pair = u8::try_from(rest % 100).unwrap_or_default();
        out.push(packed::pack(pair).unwrap_or_default());
        rest /= 100;
    }
    if rest != 0 {
        return Err(WriteError::TooLarge(number));
    }
    if number < 0 {
        match out.last_mut() {
            // the first digit gives way to the sign
            Some(last) if *last >> 4 == 0 => *last |= 0xF0,
            _ => return Err(WriteError::TooLarge(number)),
        }
    }
    Ok(out)
}

fn date_bytes(date: NaiveDate) -> Result<[u8; 2], WriteError> {
    let year = u8::try_from(date.year() - 2000).ok().filter(|year| *year <= 80);
    let year = year.ok_or(WriteError::Year(date.year()))?;
    let day = u8::try_from(date.day()).unwrap_or_default();
    let month = u8::try_from(date.month()).unwrap_or_default();
    Ok([day | (year & 0x07) << 5, month | (year & 0x78) << 1])
}

/// A value information block for a kind of value and what narrows it, and the power of ten of its unit.
///
/// # Errors
/// [`WriteError::Class`] for kinds that are not written here.
pub fn vib(class: Class, marks: &[Mark]) -> Result<(Vec<u8>, i32), WriteError> {
    let (mut bytes, exponent) = match class {
        Class::Energy => (vec![0x06], 3),
        Class::ReactiveEnergy => (vec![0xFB, 0x02], 3),
        Class::Volume => (vec![0x13], -3),
        Class::Power => (vec![0x2B], 0),
        Class::ReactivePower => (vec![0xFB, 0x14], 0),
        Class::VolumeFlow => (vec![0x3B], -3),
        Class::FlowTemperature => (vec![0x5A], -1),
        Class::ReturnTemperature => (vec![0x5E], -1),
        Class::TemperatureDifference => (vec![0x61], -2),
        Class::ExternalTemperature => (vec![0x66], -1),
        Class::Pressure => (vec![0x69], -2),
        Class::OnTime => (vec![0x22], 0),
        Class::OperatingTime => (vec![0x26], 0),
        Class::Date => (vec![0x6C], 0),
        Class::DateTime => (vec![0x6D], 0),
        Class::FabricationNumber => (vec![0x78], 0),
        Class::ErrorFlags => (vec![0xFD, 0x17], 0),
        Class::Voltage => (vec![0xFD, 0x48], -1),
        Class::Current => (vec![0xFD, 0x59], -3),
        Class::Frequency => (vec![0xFB, 0x2D], -2),
        other => return Err(WriteError::Class(other)),
    };
    for mark in marks {
        let code: &[u8] = match mark {
            Mark::L1 => &[0xFC, 0x01],
            Mark::L2 => &[0xFC, 0x02],
            Mark::L3 => &[0xFC, 0x03],
            Mark::N => &[0xFC, 0x04],
            Mark::L1L2 => &[0xFC, 0x05],
            Mark::L2L3 => &[0xFC, 0x06],
            Mark::L3L1 => &[0xFC, 0x07],
            Mark::Positive => &[0x3B],
            Mark::Negative => &[0x3C],
            Mark::Average => &[0x12],
            Mark::BaseConditions => &[0x3E],
            Mark::Uncorrected => &[0x3A],
            Mark::Maker => &[0x7F],
            _ => return Err(WriteError::Class(class)),
        };
        if let Some(last) = bytes.last_mut() {
            *last |= 0x80;
        }
        bytes.extend_from_slice(code);
    }
    Ok((bytes, exponent))
}

/// A value as the number of a field whose unit has this power of ten, rounded towards zero as a counter shows it.
pub fn mantissa(value: Decimal, exponent: i32) -> Option<i64> {
    let places = exponent.unsigned_abs();
    if places > 12 {
        return None;
    }
    let power = Decimal::try_from_i128_with_scale(10i128.checked_pow(places)?, 0).ok()?;
    let number = if exponent < 0 {
        value.checked_mul(power)?
    } else {
        value.checked_div(power)?
    };
    number.trunc().to_i64()
}

/// A telegram with a long header.
///
/// # Errors
/// [`WriteError::Frame`] for more than [`RECORDS_MAX`] bytes of records.
pub fn telegram(
    address: u8,
    identification: Identification,
    access: u8,
    status: Status,
    records: &[u8],
) -> Result<Vec<u8>, WriteError> {
    let mut data = super::Selection::exact(identification).bytes().to_vec();
    data.extend([access, status.0, 0, 0]);
    data.extend_from_slice(records);
    Ok(answer(address, CI_LONG, data)?)
}

/// Any answer with data.
///
/// # Errors
/// [`FrameError::TooLong`] for more than 252 bytes.
pub fn answer(address: u8, ci: u8, data: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    Frame::Long {
        // no alarms, and it can take more
        control: 0x08 & !(FCB | FCV),
        address,
        ci,
        data,
    }
    .wire()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mbus::{Records, Unit, Value};
    use proptest::prelude::*;

    fn any_place() -> impl Strategy<Value = Place> {
        let function = prop_oneof![
            Just(Function::Instant),
            Just(Function::Maximum),
            Just(Function::Minimum),
            Just(Function::Error)
        ];
        (function, 0u64..1 << 20, 0u32..1 << 8, 0u16..1 << 5).prop_map(|(function, storage, tariff, subunit)| Place {
            function,
            storage,
            tariff,
            subunit,
        })
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(place in any_place(), number in -99_999_999i64..=99_999_999, bcd in any::<bool>()) {
            let data = if bcd { Data::Bcd(6, number) } else { Data::Integer(4, number) };
            let (vib, exponent) = vib(Class::Volume, &[Mark::Negative]).unwrap();
            let bytes = record(place, &vib, &data).unwrap();
            let records = Records::parse(&[bytes.clone(), bytes.clone()].concat(), false);
            prop_assert_eq!(records.fault, None);
            prop_assert_eq!(records.list.len(), 2);
            let record = &records.list[1];
            prop_assert_eq!(
                (record.function, record.storage, record.tariff, record.subunit),
                (place.function, place.storage, place.tariff, place.subunit)
            );
            prop_assert_eq!((record.class, record.unit), (Class::Volume, Unit::CubicMetre));
            prop_assert_eq!(&record.marks, &[Mark::Negative]);
            let value = Decimal::new(number, 3);
            prop_assert_eq!(&record.value, &Value::Number(value));
            prop_assert_eq!(mantissa(value, exponent), Some(number));
            prop_assert_eq!(&record.raw, &bytes);
            prop_assert_eq!(record.vib(), &vib[..]);
        }

        #[test]
        fn dates_and_texts_read_back(seconds in 946_684_800i64..3_500_000_000, text in "[ -~]{0,40}") {
            let at = chrono::DateTime::from_timestamp(seconds, 0).unwrap().naive_utc();
            let at = at.with_second(0).unwrap();
            let bytes = [
                record(Place::NOW, &[0x6D], &Data::DateTime(at)).unwrap(),
                record(Place::NOW, &[0x6C], &Data::Date(at.date())).unwrap(),
                record(Place::NOW, &[0xFD, 0x10], &Data::Text(text.clone())).unwrap(),
            ]
            .concat();
            let records = Records::parse(&bytes, false);
            match records.list.as_slice() {
                [first, second, third] => {
                    let Value::DateTime(time) = &first.value else { return Err(TestCaseError::fail("no time")) };
                    prop_assert_eq!(time.single(), Some(at));
                    let Value::Date(date) = &second.value else { return Err(TestCaseError::fail("no date")) };
                    prop_assert_eq!(date.single(), Some(at.date()));
                    prop_assert_eq!(&third.value, &Value::Text(text));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_written_has_the_kind_that_was_meant() {
        for class in Class::ALL {
            let Ok((vib, _)) = vib(*class, &[Mark::L2]) else {
                continue;
            };
            let bytes = record(Place::NOW, &vib, &Data::Integer(4, 7)).unwrap();
            let records = Records::parse(&bytes, false);
            assert_eq!(records.list[0].class, *class);
            assert_eq!(records.list[0].marks, [Mark::L2], "{class:?}");
        }
        assert_eq!(
            record(Place::NOW, &[0x13], &Data::Bcd(2, 10_000)),
            Err(WriteError::TooLarge(10_000))
        );
        assert_eq!(
            record(Place::NOW, &[0x13], &Data::Bcd(2, -1234)),
            Err(WriteError::TooLarge(-1234))
        );
        assert_eq!(
            record(Place::NOW, &[0x13], &Data::Integer(1, 128)),
            Err(WriteError::TooLarge(128))
        );
        assert_eq!(
            record(Place::NOW, &[0x13], &Data::Integer(5, 1)),
            Err(WriteError::Length(5))
        );
    }

    #[test]
    fn the_worked_example_is_written_byte_for_byte() {
        let identification = Identification {
            id: 0x1234_5678,
            manufacturer: crate::protocol::mbus::Manufacturer::of("PAD").unwrap(),
            version: 1,
            medium: 7,
        };
        let max = Place {
            function: Function::Maximum,
            storage: 5,
            ..Place::NOW
        };
        let second = Place {
            tariff: 2,
            subunit: 1,
            ..Place::NOW
        };
        let records = [
            record(Place::NOW, &[0x13], &Data::Integer(3, 12_565)).unwrap(),
            record(max, &[0x3B], &Data::Bcd(2, 113)).unwrap(),
            record(second, &[0x04], &Data::Bcd(3, 21_837)).unwrap(),
        ]
        .concat();
        let frame = telegram(2, identification, 0x55, Status(0), &records).unwrap();
        assert_eq!(
            crate::base::hex::encode(&frame),
            "681F1F6808027278563412244001075500000003131531 00DA023B13018B60043718021816".replace(' ', "")
        );
    }
}
