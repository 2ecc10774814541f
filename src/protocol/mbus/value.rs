//! The data field of a record (EN 13757-3, 6.3 and Annex A): numbers as exact decimals, dates as far as they are said.
//!
//! Read here and not by the record crate, which makes floats of all numbers.

use super::vif::Class;
use crate::base::bcd as packed;
use chrono::{NaiveDate, NaiveDateTime};
use rust_decimal::Decimal;
use std::str::FromStr;

/// What a record carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: the record has no data field.
    Empty,
    /// A number in the record's unit, exact.
    Number(Decimal),
    /// A date, or a day that comes again.
    Date(Date),
    /// A date with its time, by the meter's own clock.
    DateTime(DateTime),
    /// Characters, in reading order.
    Text(String),
    /// Bits that are no number, the most significant byte first.
    Bytes(Vec<u8>),
    /// There is a data field, and no value in it.
    Invalid(ValueFault),
}

/// Why a data field holds no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ValueFault {
    /// Digits above 9.
    #[error("the digits are not decimal")]
    NotDecimal,
    /// The bit pattern that the standard keeps for it.
    #[error("the meter has no value")]
    NoValue,
    /// A float that is no number.
    #[error("the float is not a number")]
    NotANumber,
    /// Not a day of any calendar, or the pattern that says so.
    #[error("there is no such date")]
    NotADate,
    /// More digits than a decimal has.
    #[error("the number is beyond the range of a decimal")]
    Range,
    /// The meter reports an error in place of the value, by its code in the VIFE chain.
    #[error("the meter reports an error of this record")]
    Reported,
}

/// A date; what is none stands for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Date {
    /// With its century.
    pub year: Option<u16>,
    /// 1 to 12.
    pub month: Option<u8>,
    /// 1 to 31.
    pub day: Option<u8>,
}

/// A time of the meter's own clock; what is none stands for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DateTime {
    /// Its date.
    pub date: Date,
    /// 0 to 23.
    pub hour: Option<u8>,
    /// 0 to 59.
    pub minute: Option<u8>,
    /// 0 to 59; 0 where the meter does not tell.
    pub second: u8,
    /// The meter says that its time is in summer time.
    pub summer: bool,
    /// The meter says that its time is not valid.
    pub invalid: bool,
}

impl Date {
    /// The date, if it is one day.
    pub fn single(&self) -> Option<NaiveDate> {
        NaiveDate::from_ymd_opt(i32::from(self.year?), self.month?.into(), self.day?.into())
    }

    fn of(low: u8, high: u8, century: u8) -> Result<Self, ValueFault> {
        let (day, month) = (low & 0x1F, high & 0x0F);
        let year = (low & 0xE0) >> 5 | (high & 0xF0) >> 1;
        if (low, high) == (0xFF, 0xFF) || (day, month) == (0, 0) {
            return Err(ValueFault::NotADate);
        }
        let year = match (year, century) {
            (127, _) => None,
            (100.., _) => return Err(ValueFault::NotADate),
            // without a century, 81 to 99 are of the last one (EN 13757-3, Annex A, types F and G)
            (81.., 0) => Some(1900 + u16::from(year)),
            (_, 0) => Some(2000 + u16::from(year)),
            (_, century) => Some(1900 + 100 * u16::from(century) + u16::from(year)),
        };
        let month = match month {
            15 => None,
            1..=12 => Some(month),
            _ => return Err(ValueFault::NotADate),
        };
        let date = Self {
            year,
            month,
            day: (day != 0).then_some(day),
        };
        let whole = date.year.is_some() && date.month.is_some() && date.day.is_some();
        if whole && date.single().is_none() {
            return Err(ValueFault::NotADate);
        }
        Ok(date)
    }
}

impl DateTime {
    /// The instant by the meter's clock, if it is one and the meter holds it for valid.
    pub fn single(&self) -> Option<NaiveDateTime> {
        if self.invalid {
            return None;
        }
        let date = self.date.single()?;
        date.and_hms_opt(self.hour?.into(), self.minute?.into(), self.second.into())
    }

    fn clock(minute: u8, hour: u8) -> Result<(Option<u8>, Option<u8>), ValueFault> {
        let minute = match minute & 0x3F {
            63 => None,
            minute @ 0..=59 => Some(minute),
            _ => return Err(ValueFault::NotADate),
        };
        let hour = match hour & 0x1F {
            31 => None,
            hour @ 0..=23 => Some(hour),
            _ => return Err(ValueFault::NotADate),
        };
        Ok((minute, hour))
    }

    /// Type F, four bytes.
    fn type_f([minute, hour, low, high]: [u8; 4]) -> Result<Self, ValueFault> {
        let date = Date::of(low, high, (hour & 0x60) >> 5)?;
        let (minutes, hours) = Self::clock(minute, hour)?;
        Ok(Self {
            date,
            hour: hours,
            minute: minutes,
            second: 0,
            summer: hour & 0x80 != 0,
            invalid: minute & 0x80 != 0,
        })
    }

    /// Type I, six bytes; the last one tells the week.
    fn type_i([second, minute, hour, low, high, _]: [u8; 6]) -> Result<Self, ValueFault> {
        let date = Date::of(low, high, 0)?;
        let (minutes, hours) = Self::clock(minute, hour)?;
        let seconds = second & 0x3F;
        if seconds > 59 {
            return Err(ValueFault::NotADate);
        }
        Ok(Self {
            date,
            hour: hours,
            minute: minutes,
            second: seconds,
            summer: second & 0x40 != 0,
            invalid: minute & 0x80 != 0,
        })
    }
}

/// How long a data field is and how it is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// No bytes.
    Empty,
    /// Two's complement, so many bytes.
    Integer(usize),
    /// IEEE 754, four bytes.
    Real,
    /// Two digits a byte.
    Bcd(usize),
    /// Its length stands in front of it.
    Variable,
}

impl Coding {
    /// By the low nibble of a DIF; none for the special functions.
    pub(super) fn of(dif: u8) -> Option<Self> {
        Some(match dif & 0x0F {
            0 | 8 => Self::Empty,
            n @ 1..=4 => Self::Integer(n.into()),
            5 => Self::Real,
            6 => Self::Integer(6),
            7 => Self::Integer(8),
            n @ 9..=0xC => Self::Bcd((n - 8).into()),
            0xD => Self::Variable,
            0xE => Self::Bcd(6),
            _ => return None,
        })
    }
}

/// Reads a number or date from its bytes, low byte first, which are as many as the coding says.
pub(super) fn fixed(coding: Coding, class: Class, exponent: i32, bytes: &[u8]) -> Value {
    let result = match (class, bytes.len()) {
        (Class::Date | Class::DateTime, 0) => Ok(Value::Empty),
        (Class::Date, 2) | (Class::DateTime, 2) => date(bytes),
        (Class::Date | Class::DateTime, 4) => date_time(bytes),
        (Class::DateTime, 6) => date_time(bytes),
        (Class::Date | Class::DateTime, _) => Ok(Value::Bytes(bytes.iter().rev().copied().collect())),
        _ => match coding {
            Coding::Empty | Coding::Variable => Ok(Value::Empty),
            Coding::Integer(_) => integer(bytes, unsigned(class)).and_then(|number| scaled(number, exponent)),
            Coding::Real => real(bytes).and_then(|number| scaled(number, exponent)),
            Coding::Bcd(_) => bcd(bytes).and_then(|number| scaled(number, exponent)),
        },
    };
    result.unwrap_or_else(Value::Invalid)
}

/// Bit fields and codes count from zero (type D), measured values have a sign (type B).
fn unsigned(class: Class) -> bool {
    matches!(
        class,
        Class::ErrorFlags | Class::DigitalInput | Class::DigitalOutput | Class::Other | Class::Maker
    )
}

fn date(bytes: &[u8]) -> Result<Value, ValueFault> {
    match bytes {
        [low, high] => Date::of(*low, *high, 0).map(Value::Date),
        _ => Err(ValueFault::NotADate),
    }
}

fn date_time(bytes: &[u8]) -> Result<Value, ValueFault> {
    let time = match (<[u8; 4]>::try_from(bytes), <[u8; 6]>::try_from(bytes)) {
        (Ok(four), _) => DateTime::type_f(four)?,
        (_, Ok(six)) => DateTime::type_i(six)?,
        _ => return Err(ValueFault::NotADate),
    };
    Ok(Value::DateTime(time))
}

/// Two's complement or unsigned, low byte first, at most 12 bytes.
fn integer(bytes: &[u8], unsigned: bool) -> Result<Decimal, ValueFault> {
    let mut number: i128 = 0;
    for byte in bytes.iter().rev() {
        number = number << 8 | i128::from(*byte);
    }
    let bits = u32::try_from(bytes.len() * 8).map_err(|_| ValueFault::Range)?;
    if !unsigned && bits > 0 && bits < 127 && number >> (bits - 1) & 1 == 1 {
        number -= 1 << bits;
        // the lowest number of its length says "invalid" (EN 13757-3, Annex A, type B)
        if number == -(1 << (bits - 1)) {
            return Err(ValueFault::NoValue);
        }
    }
    Decimal::try_from_i128_with_scale(number, 0).map_err(|_| ValueFault::Range)
}

/// Two digits a byte, low byte first; an F in front is a minus.
fn bcd(bytes: &[u8]) -> Result<Decimal, ValueFault> {
    let mut number: i128 = 0;
    let mut negative = false;
    for (index, byte) in bytes.iter().rev().enumerate() {
        let signed = index == 0 && byte >> 4 == 0x0F;
        negative |= signed;
        let digits = packed::byte(if signed { byte & 0x0F } else { *byte });
        number = number * 100 + i128::from(digits.ok_or(ValueFault::NotDecimal)?);
    }
    let number = if negative { -number } else { number };
    Decimal::try_from_i128_with_scale(number, 0).map_err(|_| ValueFault::Range)
}

/// The shortest decimal that reads back as the same float.
fn real(bytes: &[u8]) -> Result<Decimal, ValueFault> {
    let bytes: [u8; 4] = bytes.try_into().map_err(|_| ValueFault::NotANumber)?;
    let float = f32::from_le_bytes(bytes);
    if !float.is_finite() {
        return Err(ValueFault::NotANumber);
    }
    let text = float.to_string();
    let number = Decimal::from_str(&text).map_err(|_| ValueFault::Range)?;
    // a decimal has 28 places: what lies below them would come out as another number, the smallest as zero
    if number.to_string().parse() == Ok(float) {
        Ok(number)
    } else {
        Err(ValueFault::Range)
    }
}

/// A number times ten to a power, exactly: the digits stay, the point moves.
pub(super) fn scaled(number: Decimal, exponent: i32) -> Result<Value, ValueFault> {
    let mut out = number;
    let scale = i64::from(number.scale()) - i64::from(exponent);
    if number.is_zero() {
        return Ok(Value::Number(number));
    }
    if let Ok(scale) = u32::try_from(scale) {
        out.set_scale(scale).map_err(|_| ValueFault::Range)?;
    } else {
        let places = u32::try_from(scale.unsigned_abs()).map_err(|_| ValueFault::Range)?;
        let power = 10i128.checked_pow(places).ok_or(ValueFault::Range)?;
        let digits = number.mantissa().checked_mul(power).ok_or(ValueFault::Range)?;
        out = Decimal::try_from_i128_with_scale(digits, 0).map_err(|_| ValueFault::Range)?;
    }
    Ok(Value::Number(out))
}

/// What the length byte of a variable field says (EN 13757-3, table 5): how many bytes follow and how to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Text(usize),
    Bcd { bytes: usize, negative: bool },
    Binary(usize),
}

impl Variable {
    /// None for what is reserved.
    pub(super) fn of(length: u8) -> Option<Self> {
        Some(match length {
            0..=0xBF => Self::Text(length.into()),
            0xC0..=0xC9 => Self::Bcd {
                bytes: (length - 0xC0).into(),
                negative: false,
            },
            0xD0..=0xD9 => Self::Bcd {
                bytes: (length - 0xD0).into(),
                negative: true,
            },
            0xE0..=0xEF => Self::Binary((length - 0xE0).into()),
            0xF0..=0xF4 => Self::Binary(usize::from(length - 0xEC) * 4),
            0xF5 => Self::Binary(48),
            0xF6 => Self::Binary(64),
            _ => return None,
        })
    }

    pub(super) fn len(self) -> usize {
        match self {
            Self::Text(len) | Self::Binary(len) => len,
            Self::Bcd { bytes, .. } => bytes,
        }
    }

    /// Reads the bytes, low byte first.
    pub(super) fn read(self, class: Class, exponent: i32, bytes: &[u8]) -> Value {
        let result = match self {
            // ISO 8859-1, the last character first
            Self::Text(_) => Ok(Value::Text(bytes.iter().rev().copied().map(char::from).collect())),
            Self::Bcd { bytes: 0, .. } | Self::Binary(0) => Ok(Value::Empty),
            Self::Bcd { negative, .. } => bcd(bytes)
                .map(|number| if negative { -number } else { number })
                .and_then(|number| scaled(number, exponent)),
            Self::Binary(13..) => Ok(Value::Bytes(bytes.iter().rev().copied().collect())),
            Self::Binary(_) if matches!(class, Class::Date | Class::DateTime) => {
                Ok(Value::Bytes(bytes.iter().rev().copied().collect()))
            }
            Self::Binary(_) => integer(bytes, unsigned(class)).and_then(|number| scaled(number, exponent)),
        };
        result.unwrap_or_else(Value::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal::dec;

    fn number(coding: Coding, exponent: i32, bytes: &[u8]) -> Value {
        fixed(coding, Class::Energy, exponent, bytes)
    }

    #[test]
    fn numbers_are_exact() {
        let n = |value| Value::Number(value);
        assert_eq!(number(Coding::Integer(3), -3, &[0x15, 0x31, 0x00]), n(dec!(12.565)));
        assert_eq!(number(Coding::Integer(2), 0, &[0xFE, 0xFF]), n(dec!(-2)));
        assert_eq!(number(Coding::Integer(8), 0, &[0xFF; 8]), n(dec!(-1)));
        assert_eq!(
            number(
                Coding::Integer(8),
                -3,
                &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]
            ),
            n(dec!(9223372036854775.807))
        );
        assert_eq!(number(Coding::Bcd(2), 1, &[0x34, 0x12]), n(dec!(12340)));
        assert_eq!(number(Coding::Bcd(2), -1, &[0x34, 0xF2]), n(dec!(-23.4)));
        assert_eq!(number(Coding::Real, 0, &0.1f32.to_le_bytes()), n(dec!(0.1)));
    }

    #[test]
    fn what_is_no_number_is_no_number() {
        let invalid = Value::Invalid;
        assert_eq!(
            number(Coding::Bcd(2), 0, &[0x1A, 0x12]),
            invalid(ValueFault::NotDecimal)
        );
        assert_eq!(number(Coding::Bcd(4), 0, &[0xFF; 4]), invalid(ValueFault::NotDecimal));
        assert_eq!(
            number(Coding::Integer(2), 0, &[0x00, 0x80]),
            invalid(ValueFault::NoValue)
        );
        assert_eq!(
            number(Coding::Real, 0, &f32::NAN.to_le_bytes()),
            invalid(ValueFault::NotANumber)
        );
        assert_eq!(
            number(Coding::Real, 0, &3e38f32.to_le_bytes()),
            invalid(ValueFault::Range)
        );
        assert_eq!(
            fixed(Coding::Integer(2), Class::ErrorFlags, 0, &[0x00, 0x80]),
            Value::Number(dec!(32768))
        );
    }

    #[test]
    fn what_a_decimal_cannot_hold_is_not_rounded() {
        let range = Value::Invalid(ValueFault::Range);
        // found by fuzzing: 7.28e-32 came out as zero
        assert_eq!(number(Coding::Real, 0, &[0x00, 0x00, 0xBD, 0x0B]), range);
        assert_eq!(number(Coding::Real, 0, &1.234_567e-25f32.to_le_bytes()), range);
        assert_eq!(number(Coding::Real, -12, &1.234_567e-20f32.to_le_bytes()), range);
        assert_eq!(
            number(Coding::Real, -6, &1.25e-20f32.to_le_bytes()),
            Value::Number(dec!(0.0000000000000000000000000125))
        );
        assert_eq!(number(Coding::Real, 0, &[0; 4]), Value::Number(dec!(0)));
        // the point moves right, past the end too
        assert_eq!(
            number(Coding::Real, 2, &12.5f32.to_le_bytes()),
            Value::Number(dec!(1250))
        );
        assert_eq!(number(Coding::Integer(8), 12, &i64::MAX.to_le_bytes()), range);
    }

    #[test]
    fn dates_have_their_century_and_may_come_again() {
        let date = |low, high| Date::of(low, high, 0).map(|date| date.single().map(|d| d.to_string()));
        // 2007-12-31, 1996-01-01, 31 December of every year
        assert_eq!(date(0xFF, 0x0C), Ok(Some("2007-12-31".to_owned())));
        assert_eq!(date(0x01, 0xC1), Ok(Some("1996-01-01".to_owned())));
        assert_eq!(date(0xFF, 0xFC), Ok(None));
        assert_eq!(
            Date::of(0xFF, 0xFC, 0).map(|d| (d.month, d.day)),
            Ok((Some(12), Some(31)))
        );
        // no date at all, 30 February, month 13, year 115
        for (low, high) in [(0, 0), (0xFF, 0xFF), (0x1E, 0x02), (0x01, 0x0D), (0x61, 0xE1)] {
            assert_eq!(date(low, high), Err(ValueFault::NotADate), "{low:02X} {high:02X}");
        }
    }

    #[test]
    fn times_say_when_they_are_not_valid() {
        let read = |bytes: &[u8]| match fixed(Coding::Integer(bytes.len()), Class::DateTime, 0, bytes) {
            Value::DateTime(time) => (time.single().map(|t| t.to_string()), time.summer, time.invalid),
            other => panic!("{other:?}"),
        };
        let valid = Some("2011-09-06 14:42:00".to_owned());
        assert_eq!(read(&[0x2A, 0x0E, 0x66, 0x19]), (valid.clone(), false, false));
        assert_eq!(read(&[0x2A, 0x8E, 0x66, 0x19]), (valid, true, false));
        assert_eq!(read(&[0xAA, 0x0E, 0x66, 0x19]), (None, false, true));
        assert_eq!(
            read(&[0x1E, 0x2A, 0x0E, 0x66, 0x19, 0]).0,
            Some("2011-09-06 14:42:30".to_owned())
        );
        // the century in the hour byte: 1900 + 2 × 100 + 99
        assert_eq!(read(&[0, 0x40, 0x61, 0xC1]).0, Some("2199-01-01 00:00:00".to_owned()));
        let every_hour = fixed(Coding::Integer(4), Class::DateTime, 0, &[0x3F, 0x1F, 0x66, 0x19]);
        assert!(matches!(
            every_hour,
            Value::DateTime(DateTime {
                hour: None,
                minute: None,
                ..
            })
        ));
    }
}
