//! The data formats A.1 to A.27 (Q/GDW 1376.1-2013, annex A) and the plain ones beside them: how bytes are a number, a
//! time, a text. All decimal digits stand lowest first. A format's bytes all EE (or FF): the terminal has no value.

use crate::base::{bcd, hex};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use rust_decimal::Decimal;

/// How the bytes of a field are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `ss mm hh DD WM YY`: seconds to year, the weekday in the top three bits of the month.
    A1,
    /// Three digits with a sign and a power of ten, 10^4 to 10^-3.
    A2,
    /// Seven digits with a sign, in kWh or MWh; read as kWh.
    A3,
    /// ±79, one byte.
    A4,
    /// ±799.9
    A5,
    /// ±79.99
    A6,
    /// 999.9
    A7,
    /// 9999
    A8,
    /// ±79.9999
    A9,
    /// 999999
    A10,
    /// 999999.99
    A11,
    /// Twelve digits that are a name: a meter's address.
    A12,
    /// 9999.9999
    A13,
    /// 999999.9999
    A14,
    /// `mm hh DD MM YY`
    A15,
    /// `ss mm hh DD`
    A16,
    /// `mm hh DD MM`
    A17,
    /// `mm hh DD`
    A18,
    /// `mm hh`
    A19,
    /// `DD MM YY`
    A20,
    /// `MM YY`
    A21,
    /// 9.9
    A22,
    /// 99.9999
    A23,
    /// `hh DD`
    A24,
    /// ±799.999
    A25,
    /// 9.999
    A26,
    /// 99999999
    A27,
    /// A binary number, low byte first, 1 to 4 bytes. It has no invalid marker: EE is 238.
    Bin(u8),
    /// Bits, low byte first, 1 to 8 bytes.
    Bits(u8),
    /// ASCII, first character first; zeros and blanks behind it do not count.
    Text(u8),
    /// Four bytes of an IPv4 address.
    Ip,
    /// Digits that are a name, two a byte, first digit first; F behind them does not count: a telephone number.
    Phone(u8),
    /// Bytes of no meaning here.
    Bytes(u8),
}

/// A day of some month, and when on it: what a time stamp without year or month says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The month, where the format has one.
    pub month: Option<u8>,
    /// Day of the month.
    pub day: u8,
    /// Hour, minute, second; what the format lacks is zero.
    pub time: NaiveTime,
}

impl Moment {
    /// The latest instant that it can be, not later than `limit`: a stamp without year or month is of the past. None
    /// where no such day was within four years.
    pub fn before(self, limit: NaiveDateTime) -> Option<NaiveDateTime> {
        let first = limit.date().with_day(1)?;
        (0..=48).find_map(|back| {
            let month = first.checked_sub_months(Months::new(back))?;
            if self.month.is_some_and(|wanted| u32::from(wanted) != month.month()) {
                return None;
            }
            let at = month.with_day(self.day.into())?.and_time(self.time);
            (at <= limit).then_some(at)
        })
    }
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The terminal has no value.
    None,
    /// A number.
    Number(Decimal),
    /// Date and time, the terminal's or the meter's own.
    Time(NaiveDateTime),
    /// A date.
    Date(NaiveDate),
    /// The first day of a month that stands for the month.
    Month(NaiveDate),
    /// A time of day.
    TimeOfDay(NaiveTime),
    /// A time that lacks its year, or more.
    Moment(Moment),
    /// A bit field.
    Bits(u64),
    /// Digits that are a name, high first.
    Digits(String),
    /// Text, an address.
    Text(String),
    /// Bytes as on the wire.
    Bytes(Vec<u8>),
}

/// Why bytes are no value of their format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Another number of bytes.
    #[error("{have} bytes; the format has {need}")]
    Length {
        /// How many there are.
        have: usize,
        /// How many there should be.
        need: usize,
    },
    /// Digits above 9.
    #[error("{0} is not decimal")]
    Digits(String),
    /// No time that exists.
    #[error("{0} is no time that exists")]
    Time(String),
}

/// A signed or unsigned decimal format: bytes, digits behind the point, whether the top bit is the sign.
const fn number(format: Format) -> Option<(usize, u32, bool)> {
    Some(match format {
        Format::A4 => (1, 0, true),
        Format::A5 => (2, 1, true),
        Format::A6 => (2, 2, true),
        Format::A7 => (2, 1, false),
        Format::A8 => (2, 0, false),
        Format::A9 => (3, 4, true),
        Format::A10 => (3, 0, false),
        Format::A11 => (4, 2, false),
        Format::A13 => (4, 4, false),
        Format::A14 => (5, 4, false),
        Format::A22 => (1, 1, false),
        Format::A23 => (3, 4, false),
        Format::A25 => (3, 3, true),
        Format::A26 => (2, 3, false),
        Format::A27 => (4, 0, false),
        _ => return None,
    })
}

impl Format {
    /// Bytes.
    pub const fn size(self) -> usize {
        if let Some((bytes, ..)) = number(self) {
            return bytes;
        }
        match self {
            Self::A1 | Self::A12 => 6,
            Self::A2 | Self::A19 | Self::A21 | Self::A24 => 2,
            Self::A15 => 5,
            Self::A18 | Self::A20 => 3,
            Self::Bin(bytes) | Self::Bits(bytes) | Self::Text(bytes) | Self::Phone(bytes) | Self::Bytes(bytes) => {
                bytes as usize
            }
            // A3, A16, A17, Ip; the numbers are done
            _ => 4,
        }
    }

    /// Whether EE or FF in every byte says that there is no value.
    fn has_marker(self) -> bool {
        !matches!(
            self,
            Self::Bin(_) | Self::Bits(_) | Self::Text(_) | Self::Ip | Self::Phone(_) | Self::Bytes(_)
        )
    }

    /// Whether it is a time, which zeros alone are not.
    fn is_time(self) -> bool {
        matches!(
            self,
            Self::A1 | Self::A15 | Self::A16 | Self::A17 | Self::A18 | Self::A20 | Self::A21 | Self::A24
        )
    }

    /// Reads a field.
    ///
    /// # Errors
    /// [`ValueError`]: another number of bytes, digits above 9, a time that does not exist.
    pub fn read(self, bytes: &[u8]) -> Result<Value, ValueError> {
        let (have, need) = (bytes.len(), self.size());
        if have != need {
            return Err(ValueError::Length { have, need });
        }
        let all = |byte: u8| bytes.iter().all(|found| *found == byte);
        if self.has_marker() && (all(0xEE) || all(0xFF)) || self.is_time() && all(0) {
            return Ok(Value::None);
        }
        if let Some((_, decimals, signed)) = number(self) {
            return signed_digits(bytes, decimals, signed);
        }
        match self {
            Self::A2 => power_of_ten(bytes),
            Self::A3 => energy(bytes),
            Self::A12 => digits(bytes).map(|number| Value::Digits(format!("{number:012}"))),
            Self::Bin(_) => Ok(Value::Number(Decimal::from(low_first(bytes)))),
            Self::Bits(_) => Ok(Value::Bits(low_first(bytes))),
            Self::Text(_) => Ok(Value::Text(text(bytes))),
            Self::Ip => Ok(Value::Text(
                bytes.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
            )),
            Self::Phone(_) => Ok(Value::Digits(hex::encode(bytes).trim_end_matches('F').to_owned())),
            Self::Bytes(_) => Ok(Value::Bytes(bytes.to_vec())),
            _ => self.time(bytes),
        }
    }

    fn time(self, bytes: &[u8]) -> Result<Value, ValueError> {
        let mut part = [0u8; 6];
        for (index, (part, byte)) in part.iter_mut().zip(bytes).enumerate() {
            // the weekday stands in the month's top three bits
            let byte = if self == Self::A1 && index == 4 {
                byte & 0x1F
            } else {
                *byte
            };
            *part = bcd::byte(byte).ok_or_else(|| ValueError::Digits(hex::encode(bytes)))?;
        }
        let [a, b, c, d, e, f] = part;
        let date =
            |year: u8, month: u8, day: u8| NaiveDate::from_ymd_opt(2000 + i32::from(year), month.into(), day.into());
        let time =
            |hour: u8, minute: u8, second: u8| NaiveTime::from_hms_opt(hour.into(), minute.into(), second.into());
        let moment = |month: Option<u8>, day: u8, time: Option<NaiveTime>| {
            let exists = (1..=31).contains(&day) && month.is_none_or(|month| (1..=12).contains(&month));
            time.filter(|_| exists)
                .map(|time| Value::Moment(Moment { month, day, time }))
        };
        let value = match self {
            Self::A1 => date(f, e, d)
                .zip(time(c, b, a))
                .map(|(date, time)| Value::Time(date.and_time(time))),
            Self::A15 => date(e, d, c)
                .zip(time(b, a, 0))
                .map(|(date, time)| Value::Time(date.and_time(time))),
            Self::A16 => moment(None, d, time(c, b, a)),
            Self::A17 => moment(Some(d), c, time(b, a, 0)),
            Self::A18 => moment(None, c, time(b, a, 0)),
            Self::A19 => time(b, a, 0).map(Value::TimeOfDay),
            Self::A20 => date(c, b, a).map(Value::Date),
            Self::A21 => date(b, a, 1).map(Value::Month),
            Self::A24 => moment(None, b, time(a, 0, 0)),
            _ => None,
        };
        value.ok_or_else(|| ValueError::Time(hex::encode(bytes)))
    }

    /// Writes a field; none where the value is of another kind, or its digits are more than the format has. Digits
    /// beyond the resolution are cut off, as a counter would.
    pub fn write(self, value: &Value) -> Option<Vec<u8>> {
        let size = self.size();
        match (self, value) {
            (_, Value::None) if self.has_marker() => Some(vec![0xEE; size]),
            (Self::A2, Value::Number(value)) => to_power_of_ten(*value),
            (Self::A3, Value::Number(value)) => to_energy(*value),
            (Self::A12, Value::Digits(text)) => {
                let number = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))?;
                bcd::to_low_first(number, size)
            }
            (Self::Bin(_), Value::Number(value)) => {
                let number = u64::try_from(*value).ok().filter(|_| value.fract().is_zero())?;
                to_low_first(number, size)
            }
            (Self::Bits(_), Value::Bits(bits)) => to_low_first(*bits, size),
            (Self::Text(_), Value::Text(text)) => {
                let mut bytes = text.as_bytes().to_vec();
                let fits = bytes.len() <= size && text.is_ascii();
                bytes.resize(size, 0);
                fits.then_some(bytes)
            }
            (Self::Ip, Value::Text(text)) => {
                let octets: Option<Vec<u8>> = text.split('.').map(|octet| octet.parse().ok()).collect();
                octets.filter(|octets| octets.len() == size)
            }
            (Self::Phone(_), Value::Digits(text)) => hex::decode(&format!("{text:F<0$}", size * 2))
                .ok()
                .filter(|bytes| bytes.len() == size),
            (Self::Bytes(_), Value::Bytes(bytes)) => (bytes.len() == size).then(|| bytes.clone()),
            (_, Value::Number(value)) => {
                let (bytes, decimals, signed) = number(self)?;
                to_signed_digits(*value, bytes, decimals, signed)
            }
            _ => self.to_time(value),
        }
    }

    fn to_time(self, value: &Value) -> Option<Vec<u8>> {
        let pack = |number: u32| bcd::pack(u8::try_from(number).ok()?);
        let year = |date: NaiveDate| pack(u32::try_from(date.year() - 2000).ok()?);
        let bytes: Option<Vec<Option<u8>>> = match (self, value) {
            (Self::A1, Value::Time(at)) => {
                let month = pack(at.month())? | at.weekday().number_from_monday().to_le_bytes()[0] << 5;
                let (ss, mm, hh) = (pack(at.second()), pack(at.minute()), pack(at.hour()));
                Some(vec![ss, mm, hh, pack(at.day()), Some(month), year(at.date())])
            }
            (Self::A15, Value::Time(at)) => {
                let (mm, hh) = (pack(at.minute()), pack(at.hour()));
                Some(vec![mm, hh, pack(at.day()), pack(at.month()), year(at.date())])
            }
            (Self::A20, Value::Date(at)) => Some(vec![pack(at.day()), pack(at.month()), year(*at)]),
            (Self::A21, Value::Month(at)) => Some(vec![pack(at.month()), year(*at)]),
            (Self::A19, Value::TimeOfDay(at)) => Some(vec![pack(at.minute()), pack(at.hour())]),
            (_, Value::Moment(at)) => {
                let (ss, mm, hh) = (pack(at.time.second()), pack(at.time.minute()), pack(at.time.hour()));
                let day = pack(at.day.into());
                match self {
                    Self::A16 => Some(vec![ss, mm, hh, day]),
                    Self::A17 => Some(vec![mm, hh, day, at.month.and_then(bcd::pack)]),
                    Self::A18 => Some(vec![mm, hh, day]),
                    Self::A24 => Some(vec![hh, day]),
                    _ => None,
                }
            }
            _ => None,
        };
        bytes?.into_iter().collect()
    }

    /// The standard's name: `A.14`, `BIN`.
    pub fn name(self) -> String {
        match self {
            Self::Bin(_) => "BIN".to_owned(),
            Self::Bits(_) => "BS".to_owned(),
            Self::Text(_) => "ASCII".to_owned(),
            Self::Ip => "IP".to_owned(),
            Self::Phone(_) => "digits".to_owned(),
            Self::Bytes(_) => "bytes".to_owned(),
            numbered => format!("{numbered:?}").replacen('A', "A.", 1),
        }
    }
}

fn low_first(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn to_low_first(number: u64, size: usize) -> Option<Vec<u8>> {
    let bytes = number.to_le_bytes();
    let (kept, cut) = bytes.split_at_checked(size)?;
    cut.iter().all(|byte| *byte == 0).then(|| kept.to_vec())
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .rposition(|byte| !matches!(byte, 0 | b' '))
        .map_or(0, |last| last + 1);
    let kept = bytes.get(..end).unwrap_or_default();
    // what is no printable ASCII must not reach a log or a console
    kept.iter()
        .map(|byte| {
            if matches!(byte, 0x20..=0x7E) {
                char::from(*byte)
            } else {
                '\u{FFFD}'
            }
        })
        .collect()
}

fn digits(bytes: &[u8]) -> Result<u64, ValueError> {
    bcd::low_first(bytes).map_err(|_| ValueError::Digits(hex::encode(bytes)))
}

fn signed_digits(bytes: &[u8], decimals: u32, signed: bool) -> Result<Value, ValueError> {
    let mut plain = bytes.to_vec();
    let mut negative = false;
    if let Some(top) = plain.last_mut().filter(|_| signed) {
        negative = *top & 0x80 != 0;
        *top &= 0x7F;
    }
    let number = bcd::low_first(&plain).map_err(|_| ValueError::Digits(hex::encode(bytes)))?;
    let number = Decimal::from_i128_with_scale(number.into(), decimals);
    Ok(Value::Number(if negative { -number } else { number }))
}

fn to_signed_digits(value: Decimal, bytes: usize, decimals: u32, signed: bool) -> Option<Vec<u8>> {
    let mut cut = value.trunc_with_scale(decimals);
    cut.rescale(decimals);
    let mut wire = bcd::to_low_first(u64::try_from(cut.mantissa().unsigned_abs()).ok()?, bytes)?;
    let top = wire.last_mut()?;
    if signed && *top & 0x80 != 0 || !signed && value.is_sign_negative() && !cut.is_zero() {
        return None;
    }
    if signed && value.is_sign_negative() && !cut.is_zero() {
        *top |= 0x80;
    }
    Some(wire)
}

/// A.2: the power of ten stands in the top three bits of the second byte, 0 for 10^4 to 7 for 10^-3; then the sign.
fn power_of_ten(bytes: &[u8]) -> Result<Value, ValueError> {
    let wrong = || ValueError::Digits(hex::encode(bytes));
    let [low, high] = *bytes else { return Err(wrong()) };
    let hundreds = Some(high & 0x0F).filter(|digit| *digit < 10).ok_or_else(wrong)?;
    let number = i64::from(hundreds) * 100 + i64::from(bcd::byte(low).ok_or_else(wrong)?);
    let power = high >> 5;
    let number = match power {
        0..=4 => Decimal::from(number * 10i64.pow(4 - u32::from(power))),
        _ => Decimal::new(number, u32::from(power) - 4),
    };
    Ok(Value::Number(if high & 0x10 != 0 { -number } else { number }))
}

/// The finest power of ten whose three digits hold the number.
fn to_power_of_ten(value: Decimal) -> Option<Vec<u8>> {
    let size = value.abs();
    (0..=7u8).rev().find_map(|power| {
        let factor = Decimal::from(10i64.pow(7 - u32::from(power))) / Decimal::ONE_THOUSAND;
        let digits = u16::try_from((size / factor).trunc())
            .ok()
            .filter(|digits| *digits < 1000)?;
        let hundreds = u8::try_from(digits / 100).ok()?;
        let low = bcd::pack(u8::try_from(digits % 100).ok()?)?;
        let sign = if value.is_sign_negative() && digits != 0 {
            0x10
        } else {
            0
        };
        Some(vec![low, power << 5 | sign | hundreds])
    })
}

/// A.3: six digits, then a byte of unit (bit 6), sign (bit 4) and the seventh digit.
fn energy(bytes: &[u8]) -> Result<Value, ValueError> {
    let wrong = || ValueError::Digits(hex::encode(bytes));
    let [low @ .., top] = bytes else { return Err(wrong()) };
    let million = Some(top & 0x0F).filter(|digit| *digit < 10).ok_or_else(wrong)?;
    let number = bcd::low_first(low).map_err(|_| wrong())? + u64::from(million) * 1_000_000;
    let number = Decimal::from(if top & 0x40 != 0 { number * 1000 } else { number });
    Ok(Value::Number(if top & 0x10 != 0 { -number } else { number }))
}

/// In kWh where seven digits hold it, else in MWh.
fn to_energy(value: Decimal) -> Option<Vec<u8>> {
    let whole = u64::try_from(value.abs().trunc()).ok()?;
    let (number, unit) = if whole < 10_000_000 {
        (whole, 0)
    } else {
        (whole / 1000, 0x40)
    };
    let million = u8::try_from(number / 1_000_000).ok().filter(|digit| *digit < 10)?;
    let mut bytes = bcd::to_low_first(number % 1_000_000, 3)?;
    let sign = if value.is_sign_negative() && number != 0 {
        0x10
    } else {
        0
    };
    bytes.push(unit | sign | million);
    Some(bytes)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
