//! Numbers, times and status words in a meter's data (CJ/T 188-2004, annex A).

use crate::base::bcd::{self, BcdError};
use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use rust_decimal::Decimal;
use serde::Serialize;

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// FF in every digit; for a time zeros as well.
    #[error("the meter says that it has no value")]
    NoValue,
    /// Not decimal digits.
    #[error(transparent)]
    Bcd(#[from] BcdError),
    /// No unit of the table.
    #[error("unit code {0:02X} is not in the table of the standard")]
    Unit(u8),
    /// Digits that are no date or time.
    #[error("{} is no date and time", digits(*.0))]
    NotATime([u8; 7]),
    /// A year that four digits cannot hold.
    #[error("year {0} does not fit four digits")]
    Year(i32),
    /// The data end too early.
    #[error("{need} bytes needed at offset {offset}, {have} there")]
    Short {
        /// Where the value begins.
        offset: usize,
        /// How many it needs.
        need: usize,
        /// How many there are.
        have: usize,
    },
}

/// `YYYY-MM-DD hh:mm:ss` of bytes that stand seconds first, whatever their digits.
fn digits([ss, mm, hh, day, month, year, century]: [u8; 7]) -> String {
    format!("{century:02X}{year:02X}-{month:02X}-{day:02X} {hh:02X}:{mm:02X}:{ss:02X}")
}

/// A number, lowest digits first, with so many decimals.
///
/// # Errors
/// [`ValueError::NoValue`] where every byte is FF, [`ValueError::Bcd`] for other digits than decimal ones.
pub fn number(bytes: &[u8], decimals: u8) -> Result<Decimal, ValueError> {
    if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0xFF) {
        return Err(ValueError::NoValue);
    }
    let digits = bcd::low_first(bytes)?;
    Ok(Decimal::from_i128_with_scale(digits.into(), decimals.into()))
}

/// The reverse: digits beyond the resolution are cut off as a counter would; none where it is negative or too large.
pub fn to_number(value: Decimal, decimals: u8, bytes: usize) -> Option<Vec<u8>> {
    let mut cut = value.trunc_with_scale(decimals.into());
    cut.rescale(decimals.into());
    let digits = u64::try_from(cut.mantissa()).ok()?;
    bcd::to_low_first(digits, bytes)
}

/// In which order the bytes of a time stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeOrder {
    /// `ss mm hh DD MM YY 20`, the standard.
    SecondsFirst,
    /// `20 YY MM DD hh mm ss`.
    YearFirst,
    /// `ss mm hh DD MM YY`, a century of 20 understood.
    NoCentury,
}

impl TimeOrder {
    /// How many bytes it takes.
    pub fn len(self) -> usize {
        match self {
            Self::SecondsFirst | Self::YearFirst => 7,
            Self::NoCentury => 6,
        }
    }

    /// Never: for symmetry with [`TimeOrder::len`].
    pub fn is_empty(self) -> bool {
        false
    }

    /// The bytes seconds first and with a century.
    fn straight(self, bytes: &[u8]) -> Option<[u8; 7]> {
        let mut straight = [0x20; 7];
        let place = straight.get_mut(..self.len())?;
        place.copy_from_slice(bytes.get(..self.len())?);
        if self == Self::YearFirst {
            straight.reverse();
        }
        Some(straight)
    }
}

/// The meter's clock: its own local time.
///
/// # Errors
/// [`ValueError::NoValue`] for zeros and FF: a meter without a clock. [`ValueError::NotATime`] keeps the digits.
pub fn time(bytes: &[u8], order: TimeOrder) -> Result<NaiveDateTime, ValueError> {
    let short = ValueError::Short {
        offset: 0,
        need: order.len(),
        have: bytes.len(),
    };
    let straight = order.straight(bytes).ok_or(short)?;
    let own = bytes.get(..order.len()).unwrap_or_default();
    if own.iter().all(|byte| *byte == 0) || own.iter().all(|byte| *byte == 0xFF) {
        return Err(ValueError::NoValue);
    }
    let no_time = ValueError::NotATime(straight);
    let mut numbers = [0u8; 7];
    for (number, packed) in numbers.iter_mut().zip(straight) {
        *number = bcd::byte(packed).ok_or(no_time)?;
    }
    let [ss, mm, hh, day, month, year, century] = numbers;
    let year = i32::from(century) * 100 + i32::from(year);
    NaiveDate::from_ymd_opt(year, month.into(), day.into())
        .and_then(|date| date.and_hms_opt(hh.into(), mm.into(), ss.into()))
        .ok_or(no_time)
}

/// A time as the standard writes it; fractions of a second are cut off.
///
/// # Errors
/// [`ValueError::Year`] for a year of other than four digits.
pub fn to_time(at: NaiveDateTime) -> Result<[u8; 7], ValueError> {
    let year = ValueError::Year(at.year());
    let pack = |number: u32| u8::try_from(number).ok().and_then(bcd::pack).ok_or(year);
    let four = u32::try_from(at.year()).map_err(|_| year)?;
    Ok([
        pack(at.second())?,
        pack(at.minute())?,
        pack(at.hour())?,
        pack(at.day())?,
        pack(at.month())?,
        pack(four % 100)?,
        pack(four / 100)?,
    ])
}

/// Where the bits of a status word stand. Sources disagree, so a meter model says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusBits {
    /// The standard: valve in bits 1 and 0 of the first byte, battery in bit 2.
    Low,
    /// Some makers, counting from the other end: valve in bits 7 and 6, battery in bit 5.
    High,
}

/// A valve, by the meter's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Valve {
    /// 00
    Open,
    /// 01
    Closed,
    /// 11: neither, or stuck.
    Abnormal,
    /// 10: not in the standard.
    Undefined,
}

impl Valve {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Abnormal => "abnormal",
            Self::Undefined => "undefined",
        }
    }
}

/// A status word: the first byte is the standard's, the second the maker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub [u8; 2]);

impl Status {
    /// The valve. A meter without one says open.
    pub fn valve(self, bits: StatusBits) -> Valve {
        let [first, _] = self.0;
        let field = match bits {
            StatusBits::Low => first & 0b11,
            StatusBits::High => first >> 6,
        };
        match field {
            0b00 => Valve::Open,
            0b01 => Valve::Closed,
            0b11 => Valve::Abnormal,
            _ => Valve::Undefined,
        }
    }

    /// Whether the battery is low.
    pub fn battery_low(self, bits: StatusBits) -> bool {
        let [first, _] = self.0;
        let mask = match bits {
            StatusBits::Low => 0x04,
            StatusBits::High => 0x20,
        };
        first & mask != 0
    }

    /// The word as a number, first byte low.
    pub fn word(self) -> u16 {
        u16::from_le_bytes(self.0)
    }

    /// In words, as a field engineer writes them down.
    pub fn words(self, bits: StatusBits) -> String {
        let [_, own] = self.0;
        let battery = if self.battery_low(bits) {
            "battery low"
        } else {
            "battery good"
        };
        let mut words = format!("valve {}, {battery}", self.valve(bits).name());
        if own != 0 {
            words.push_str(&format!(", maker's byte {own:02X}"));
        }
        words
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
