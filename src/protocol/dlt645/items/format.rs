//! How bytes of a data item mean a value (DL/T 645-2007, annex A; DL/T 645-1997, annex A). All numbers are decimals.

use super::super::bcd::{self, BcdError};
use crate::base::hex;
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use rust_decimal::Decimal;
use std::fmt;

/// The form of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// BCD, low byte first.
    Number {
        /// How many bytes, 1 to 8.
        bytes: u8,
        /// How many of the digits stand behind the point.
        decimals: u8,
        /// Whether the top bit of the highest byte is the sign.
        signed: bool,
    },
    /// A number and when it was, `mm hh DD MM YY`.
    Demand {
        /// Bytes of the number.
        bytes: u8,
        /// Digits behind the point.
        decimals: u8,
    },
    /// A time.
    Time(Form),
    /// A bit field, low byte first.
    Bits(u8),
    /// Digits that are a name, not a number; low byte first.
    Digits(u8),
    /// ASCII, last character first.
    Text(u8),
    /// Bytes of no meaning here.
    Bytes(u8),
}

/// Forms of times, in wire order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `mm hh DD MM YY`
    ToMinute,
    /// `ss mm hh DD MM YY`
    ToSecond,
    /// `ss mm hh WW DD MM YY`
    ToSecondWithWeekday,
    /// `WW DD MM YY`
    Date,
    /// `ss mm hh`
    TimeOfDay,
    /// `mm hh`
    HourMinute,
    /// `hh DD`
    DayHour,
    /// `mm hh DD MM`, no year
    MonthToMinute,
}

/// What an item says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The meter has no value: all bytes FF.
    None,
    /// A number.
    Number(Decimal),
    /// A demand and when it was; none where the meter gives no time.
    Demand {
        /// How much.
        value: Decimal,
        /// When, the meter's own time.
        at: Option<NaiveDateTime>,
    },
    /// Date and time, the meter's own.
    Time(NaiveDateTime),
    /// A date.
    Date(NaiveDate),
    /// A time of day.
    TimeOfDay(NaiveTime),
    /// Digits of a time that needs more to be one, high first, with their form.
    PartOfTime(Form, String),
    /// A bit field.
    Bits(u64),
    /// Digits, high first.
    Digits(String),
    /// Text.
    Text(String),
    /// Bytes as on the wire.
    Bytes(Vec<u8>),
}

/// Why bytes are no value of their form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Another number of bytes.
    #[error("{have} bytes; the item has {need}")]
    Length {
        /// How many there are.
        have: usize,
        /// How many there should be.
        need: usize,
    },
    /// Digits above 9.
    #[error("{raw} is not decimal: {error}")]
    Digits {
        /// The bytes.
        raw: String,
        /// Which of them.
        error: BcdError,
    },
    /// No time that exists.
    #[error("{raw} is not a time that exists")]
    Time {
        /// The bytes.
        raw: String,
    },
}

impl Form {
    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            Self::ToMinute => 5,
            Self::ToSecond => 6,
            Self::ToSecondWithWeekday => 7,
            Self::Date | Self::MonthToMinute => 4,
            Self::TimeOfDay => 3,
            Self::HourMinute | Self::DayHour => 2,
        }
    }

    fn read(self, bytes: &[u8]) -> Result<Value, ValueError> {
        let raw = || hex::encode(bytes);
        let mut parts = [0u32; 7];
        for (index, (part, byte)) in parts.iter_mut().zip(bytes).enumerate() {
            let digits = bcd::byte(*byte).map_err(|error| ValueError::Digits {
                raw: raw(),
                error: BcdError { index, ..error },
            })?;
            *part = digits.into();
        }
        let wrong = || ValueError::Time { raw: raw() };
        let date = |year: u32, month, day| {
            let year = i32::try_from(year).ok()?;
            NaiveDate::from_ymd_opt(2000 + year, month, day)
        };
        let [a, b, c, d, e, f, g] = parts;
        let value = match self {
            Self::ToMinute => date(e, d, c)
                .and_then(|date| date.and_hms_opt(b, a, 0))
                .map(Value::Time),
            Self::ToSecond => date(f, e, d)
                .and_then(|date| date.and_hms_opt(c, b, a))
                .map(Value::Time),
            Self::ToSecondWithWeekday => date(g, f, e)
                .and_then(|date| date.and_hms_opt(c, b, a))
                .map(Value::Time),
            Self::Date => date(d, c, b).map(Value::Date),
            Self::TimeOfDay => NaiveTime::from_hms_opt(c, b, a).map(Value::TimeOfDay),
            Self::HourMinute => NaiveTime::from_hms_opt(b, a, 0).map(Value::TimeOfDay),
            Self::DayHour | Self::MonthToMinute => {
                let high_first: Vec<u8> = bytes.iter().rev().copied().collect();
                Some(Value::PartOfTime(self, hex::encode(&high_first)))
            }
        };
        value.ok_or_else(wrong)
    }

    fn write(self, time: NaiveDateTime) -> Vec<u8> {
        let two = |number: u32| bcd::two(u8::try_from(number % 100).unwrap_or_default());
        let (second, minute, hour) = (two(time.second()), two(time.minute()), two(time.hour()));
        let (day, month) = (two(time.day()), two(time.month()));
        let year = two(u32::try_from(time.year().rem_euclid(100)).unwrap_or_default());
        // Sunday is 0
        let weekday = two(time.weekday().num_days_from_sunday());
        match self {
            Self::ToMinute => vec![minute, hour, day, month, year],
            Self::ToSecond => vec![second, minute, hour, day, month, year],
            Self::ToSecondWithWeekday => vec![second, minute, hour, weekday, day, month, year],
            Self::Date => vec![weekday, day, month, year],
            Self::TimeOfDay => vec![second, minute, hour],
            Self::HourMinute => vec![minute, hour],
            Self::DayHour => vec![hour, day],
            Self::MonthToMinute => vec![minute, hour, day, month],
        }
    }
}

impl Format {
    /// Bytes of the item.
    pub fn size(self) -> usize {
        match self {
            Self::Number { bytes, .. }
            | Self::Bits(bytes)
            | Self::Digits(bytes)
            | Self::Text(bytes)
            | Self::Bytes(bytes) => bytes.into(),
            Self::Demand { bytes, .. } => usize::from(bytes) + Form::ToMinute.size(),
            Self::Time(form) => form.size(),
        }
    }

    /// Whether every byte of a value is decimal, so that AA can only be a separator.
    pub(super) fn is_decimal(self) -> bool {
        matches!(
            self,
            Self::Number { .. } | Self::Demand { .. } | Self::Time(_) | Self::Digits(_)
        )
    }

    /// The value of bytes as on the wire, 33 taken off.
    ///
    /// # Errors
    /// [`ValueError`] with the bytes, when they are too few or too many, not decimal, or no time that exists.
    pub fn read(self, bytes: &[u8]) -> Result<Value, ValueError> {
        let (have, need) = (bytes.len(), self.size());
        if have != need {
            return Err(ValueError::Length { have, need });
        }
        if !matches!(self, Self::Bits(_)) && bytes.iter().all(|byte| *byte == 0xFF) {
            return Ok(Value::None);
        }
        match self {
            Self::Number { decimals, signed, .. } => number(bytes, decimals, signed).map(Value::Number),
            Self::Demand {
                bytes: digits,
                decimals,
            } => {
                let (digits, time) = bytes.split_at_checked(digits.into()).unwrap_or((bytes, &[]));
                if digits.iter().all(|byte| *byte == 0xFF) {
                    return Ok(Value::None);
                }
                let value = number(digits, decimals, true)?;
                let never = time.iter().all(|byte| *byte == 0) || time.iter().all(|byte| *byte == 0xFF);
                let at = match Form::ToMinute.read(time) {
                    Ok(Value::Time(at)) => Some(at),
                    _ if never => None,
                    Ok(_) => None,
                    Err(error) => return Err(error),
                };
                Ok(Value::Demand { value, at })
            }
            Self::Time(form) => form.read(bytes),
            Self::Bits(_) => Ok(Value::Bits(
                bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            )),
            Self::Digits(_) => {
                let high_first: Vec<u8> = bytes.iter().rev().copied().collect();
                Ok(Value::Digits(hex::encode(&high_first)))
            }
            Self::Text(_) => {
                let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
                let text: String = bytes
                    .iter()
                    .rev()
                    .filter(|byte| printable(byte))
                    .map(|b| char::from(*b))
                    .collect();
                Ok(Value::Text(text.trim().to_owned()))
            }
            Self::Bytes(_) => Ok(Value::Bytes(bytes.to_vec())),
        }
    }

    /// The bytes of a value, for a meter that shows it; none where the value is not of this form. Digits that do not fit
    /// are cut off, as a counter rolls over.
    pub fn write(self, value: &Value) -> Option<Vec<u8>> {
        let len = self.size();
        Some(match (self, value) {
            (_, Value::None) => vec![0xFF; len],
            (Self::Number { decimals, signed, .. }, Value::Number(value)) => {
                write_number(*value, decimals, signed, len)?
            }
            (Self::Demand { bytes, decimals }, Value::Demand { value, at }) => {
                let mut out = write_number(*value, decimals, true, bytes.into())?;
                out.extend(at.map_or_else(|| vec![0; 5], |at| Form::ToMinute.write(at)));
                out
            }
            (Self::Time(form), Value::Time(time)) => form.write(*time),
            (Self::Bits(bytes), Value::Bits(bits)) => bits.to_le_bytes().get(..bytes.into())?.to_vec(),
            (Self::Digits(_), Value::Digits(digits)) => {
                let padded = format!("{digits:0>width$}", width = len * 2);
                let mut bytes = hex::decode(&padded).ok().filter(|bytes| bytes.len() == len)?;
                bytes.reverse();
                bytes
            }
            (Self::Bytes(_), Value::Bytes(bytes)) if bytes.len() == len => bytes.clone(),
            _ => return None,
        })
    }
}

fn number(bytes: &[u8], decimals: u8, signed: bool) -> Result<Decimal, ValueError> {
    let mut digits = [0u8; 8];
    let used = digits.get_mut(..bytes.len()).ok_or(ValueError::Length {
        have: bytes.len(),
        need: 8,
    })?;
    used.copy_from_slice(bytes);
    let mut negative = false;
    if let Some(top) = used.last_mut().filter(|_| signed) {
        negative = *top & 0x80 != 0;
        *top &= 0x7F;
    }
    let digits = bcd::number(used).map_err(|error| ValueError::Digits {
        raw: hex::encode(bytes),
        error: BcdError {
            byte: bytes.get(error.index).copied().unwrap_or(error.byte),
            ..error
        },
    })?;
    // at most 16 digits
    let magnitude = i64::try_from(digits).unwrap_or(i64::MAX);
    Ok(Decimal::new(
        if negative { -magnitude } else { magnitude },
        decimals.into(),
    ))
}

fn write_number(value: Decimal, decimals: u8, signed: bool, len: usize) -> Option<Vec<u8>> {
    use rust_decimal::prelude::ToPrimitive;
    let negative = value.is_sign_negative() && !value.is_zero();
    if negative && !signed {
        return None;
    }
    let mut scaled = value.abs().round_dp(decimals.into());
    scaled.rescale(decimals.into());
    let magnitude = scaled.mantissa().to_u64()?;
    let mut bytes = bcd::bytes(magnitude, len);
    if let Some(top) = bytes.last_mut().filter(|_| signed) {
        *top = (*top & 0x7F) | if negative { 0x80 } else { 0 };
    }
    Some(bytes)
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no value"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Demand { value, at: Some(at) } => write!(f, "{value} at {}", at.format("%Y-%m-%d %H:%M")),
            Self::Demand { value, at: None } => write!(f, "{value}, no time"),
            Self::Time(time) => write!(f, "{}", time.format("%Y-%m-%d %H:%M:%S")),
            Self::Date(date) => write!(f, "{date}"),
            Self::TimeOfDay(time) => write!(f, "{}", time.format("%H:%M:%S")),
            Self::PartOfTime(Form::DayHour, digits) => {
                let (day, hour) = digits.split_at_checked(2).unwrap_or((digits, ""));
                write!(f, "day {day}, hour {hour}")
            }
            Self::PartOfTime(_, digits) | Self::Digits(digits) => f.write_str(digits),
            Self::Bits(bits) => write!(f, "{bits:04X}"),
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => f.write_str(&hex::encode(bytes)),
        }
    }
}
