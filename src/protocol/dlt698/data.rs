//! Data: every type that an attribute may have (DL/T 698.45-2017, 7.3.1, table 8 on), and the selectors of records.

use super::address::Tsa;
use super::moments::{Date, DateTime, DateTimeS, Time};
use super::values::{BitString, Comdcb, Float32, Float64, Oad, Omd, ScalerUnit, Sid, SidMac, Text, Ti};
use super::wire::{Octets, choice, sequence};
use chrono::NaiveDateTime;
use rust_decimal::Decimal;
use std::fmt;

choice! {
    /// A value with its type.
    pub enum Data as "type of data" {
        /// Nothing: the device has no value.
        0 => Null,
        /// Elements of one type.
        1 => Array(list: Vec<Data>),
        /// Fields of their own types.
        2 => Structure(list: Vec<Data>),
        /// Yes or no.
        3 => Bool(value: bool),
        /// Bits.
        4 => Bits(value: BitString),
        /// double-long.
        5 => Int32(value: i32),
        /// double-long-unsigned.
        6 => UInt32(value: u32),
        /// Bytes.
        9 => Octets(value: Octets),
        /// Letters of ASCII.
        10 => Visible(value: Text),
        /// Letters of UTF-8.
        12 => Utf8(value: Text),
        /// integer.
        15 => Int8(value: i8),
        /// long.
        16 => Int16(value: i16),
        /// unsigned.
        17 => UInt8(value: u8),
        /// long-unsigned.
        18 => UInt16(value: u16),
        /// long64.
        20 => Int64(value: i64),
        /// long64-unsigned.
        21 => UInt64(value: u64),
        /// One of several.
        22 => Enum(value: u8),
        /// float32.
        23 => Float32(value: Float32),
        /// float64.
        24 => Float64(value: Float64),
        /// A moment with milliseconds.
        25 => DateTime(value: DateTime),
        /// A day.
        26 => Date(value: Date),
        /// A time of day.
        27 => Time(value: Time),
        /// A moment.
        28 => DateTimeS(value: DateTimeS),
        /// An object.
        80 => Oi(value: u16),
        /// An attribute.
        81 => Oad(value: Oad),
        /// An attribute and what is recorded with it.
        82 => Road(value: Road),
        /// A method.
        83 => Omd(value: Omd),
        /// A stretch of time.
        84 => Ti(value: Ti),
        /// A server address.
        85 => Tsa(value: Tsa),
        /// A message authentication code.
        86 => Mac(value: Octets),
        /// A random number.
        87 => Rn(value: Octets),
        /// From where to where.
        88 => Region(value: Box<Region>),
        /// A power of ten and a unit.
        89 => ScalerUnit(value: ScalerUnit),
        /// Which rows of a record.
        90 => Rsd(value: Box<Rsd>),
        /// A column of a record.
        91 => Csd(value: Csd),
        /// Which meters.
        92 => Ms(value: Ms),
        /// What a key is chosen by.
        93 => Sid(value: Sid),
        /// The same with its code.
        94 => SidMac(value: Box<SidMac>),
        /// How a port is set.
        95 => Comdcb(value: Comdcb),
        /// The columns of a record.
        96 => Rcsd(value: Vec<Csd>),
    }
}

sequence! {
    /// An attribute of a record, and the attributes recorded with it (ROAD).
    pub struct Road {
        /// The record.
        pub oad: Oad,
        /// Its columns.
        pub columns: Vec<Oad>,
    }
}

choice! {
    /// A column of a record (CSD).
    pub enum Csd as "column" {
        /// One attribute.
        0 => Oad(oad: Oad),
        /// The columns of a record that stands in this one.
        1 => Road(road: Road),
    }
}

sequence! {
    /// From where to where (Region).
    pub struct Region {
        /// 0 [), 1 (], 2 [], 3 ().
        pub boundary: u8,
        /// The first.
        pub begin: Data,
        /// The last.
        pub end: Data,
    }
}

choice! {
    /// Which meters of a terminal (MS).
    pub enum Ms as "choice of meters" {
        /// None.
        0 => None,
        /// All.
        1 => All,
        /// Those of these kinds of user.
        2 => Kinds(list: Vec<u8>),
        /// Those of these addresses.
        3 => Addresses(list: Vec<Tsa>),
        /// Those of these numbers in the archive.
        4 => Numbers(list: Vec<u16>),
        /// Those of kinds from to.
        5 => KindRegions(list: Vec<Region>),
        /// Those of addresses from to.
        6 => AddressRegions(list: Vec<Region>),
        /// Those of numbers from to.
        7 => NumberRegions(list: Vec<Region>),
    }
}

sequence! {
    /// Rows whose `oad` lies between two values (Selector 2).
    pub struct Between {
        /// Which column.
        pub oad: Oad,
        /// From this value on,
        pub begin: Data,
        /// to before this one,
        pub end: Data,
        /// in such steps; null for every row.
        pub step: Data,
    }
}

sequence! {
    /// Rows whose `oad` is a value (Selector 1).
    pub struct Equal {
        /// Which column.
        pub oad: Oad,
        /// The value.
        pub value: Data,
    }
}

sequence! {
    /// Rows of one moment, of some meters (Selectors 4 and 5).
    pub struct AtTime {
        /// When.
        pub time: DateTimeS,
        /// Whose.
        pub meters: Ms,
    }
}

sequence! {
    /// Rows of a stretch of time, of some meters (Selectors 6 to 8).
    pub struct Span {
        /// From then on,
        pub begin: DateTimeS,
        /// to before then,
        pub end: DateTimeS,
        /// in such steps,
        pub step: Ti,
        /// of whom.
        pub meters: Ms,
    }
}

sequence! {
    /// The last rows of some meters (Selector 10).
    pub struct Last {
        /// How many.
        pub count: u8,
        /// Whose.
        pub meters: Ms,
    }
}

choice! {
    /// Which rows of a record (RSD).
    pub enum Rsd as "selector of records" {
        /// All.
        0 => All,
        /// Where a column is a value.
        1 => Equal(equal: Equal),
        /// Where a column lies between two.
        2 => Between(between: Between),
        /// Where columns lie between values, all of them.
        3 => AllBetween(list: Vec<Between>),
        /// That the terminal began to collect then.
        4 => StartedAt(at: AtTime),
        /// That the terminal stored as of then.
        5 => StoredAt(at: AtTime),
        /// That the terminal began to collect in a stretch of time.
        6 => Started(span: Span),
        /// That the terminal stored as of a stretch of time.
        7 => Stored(span: Span),
        /// That the terminal had collected in a stretch of time.
        8 => Collected(span: Span),
        /// The row so many back; 1 is the last.
        9 => Back(number: u8),
        /// The last rows.
        10 => Last(last: Last),
    }
}

impl Data {
    /// A number as it is, without scaler; none where it is no number.
    pub fn number(&self) -> Option<Decimal> {
        let number = match self {
            Self::Int8(value) => Decimal::from(*value),
            Self::Int16(value) => Decimal::from(*value),
            Self::Int32(value) => Decimal::from(*value),
            Self::Int64(value) => Decimal::from(*value),
            Self::UInt8(value) | Self::Enum(value) => Decimal::from(*value),
            Self::UInt16(value) => Decimal::from(*value),
            Self::UInt32(value) => Decimal::from(*value),
            Self::UInt64(value) => Decimal::from(*value),
            Self::Float32(value) => return Decimal::from_f32_retain(f32::from_bits(value.0)).map(|d| d.normalize()),
            Self::Float64(value) => return Decimal::from_f64_retain(f64::from_bits(value.0)).map(|d| d.normalize()),
            _ => return None,
        };
        Some(number)
    }

    /// A moment in the device's local time; none where it is none, or not all of it is specified.
    pub fn moment(&self) -> Option<NaiveDateTime> {
        match self {
            Self::DateTimeS(at) => at.naive(),
            Self::DateTime(at) => at.naive(),
            _ => None,
        }
    }

    /// A number times a power of ten; none where it is no number, and for a power that no decimal can have.
    pub fn scaled(&self, scaler: i8) -> Option<Decimal> {
        let mut number = self.number()?;
        match u32::try_from(scaler) {
            Ok(up) => number.checked_mul(Decimal::from(10u64.checked_pow(up)?)),
            Err(_) => {
                let scale = number.scale().checked_add(u32::from(scaler.unsigned_abs()))?;
                number.set_scale(scale).ok().map(|()| number)
            }
        }
    }

    /// The elements of an array or structure, or the value itself as the only one.
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(list) | Self::Structure(list) => list,
            other => std::slice::from_ref(other),
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Array(_) => "array",
            Self::Structure(_) => "structure",
            Self::Bool(_) => "bool",
            Self::Bits(_) => "bit-string",
            Self::Int32(_) => "double-long",
            Self::UInt32(_) => "double-long-unsigned",
            Self::Octets(_) => "octet-string",
            Self::Visible(_) => "visible-string",
            Self::Utf8(_) => "UTF8-string",
            Self::Int8(_) => "integer",
            Self::Int16(_) => "long",
            Self::UInt8(_) => "unsigned",
            Self::UInt16(_) => "long-unsigned",
            Self::Int64(_) => "long64",
            Self::UInt64(_) => "long64-unsigned",
            Self::Enum(_) => "enum",
            Self::Float32(_) => "float32",
            Self::Float64(_) => "float64",
            Self::DateTime(_) => "date_time",
            Self::Date(_) => "date",
            Self::Time(_) => "time",
            Self::DateTimeS(_) => "date_time_s",
            Self::Oi(_) => "OI",
            Self::Oad(_) => "OAD",
            Self::Road(_) => "ROAD",
            Self::Omd(_) => "OMD",
            Self::Ti(_) => "TI",
            Self::Tsa(_) => "TSA",
            Self::Mac(_) => "MAC",
            Self::Rn(_) => "RN",
            Self::Region(_) => "Region",
            Self::ScalerUnit(_) => "Scaler_Unit",
            Self::Rsd(_) => "RSD",
            Self::Csd(_) => "CSD",
            Self::Ms(_) => "MS",
            Self::Sid(_) => "SID",
            Self::SidMac(_) => "SID_MAC",
            Self::Comdcb(_) => "COMDCB",
            Self::Rcsd(_) => "RCSD",
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, open: &str, elements: &[impl fmt::Display], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        fmt::Display::fmt(element, f)?;
    }
    f.write_str(close)
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Array(elements) => list(f, "[", elements, "]"),
            Self::Structure(elements) => list(f, "{", elements, "}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Bits(value) => write!(f, "{value}"),
            Self::Octets(value) | Self::Mac(value) | Self::Rn(value) => write!(f, "{value}"),
            Self::Visible(value) | Self::Utf8(value) => write!(f, "{value}"),
            Self::DateTime(value) => write!(f, "{value}"),
            Self::Date(value) => write!(f, "{value}"),
            Self::Time(value) => write!(f, "{value}"),
            Self::DateTimeS(value) => write!(f, "{value}"),
            Self::Oi(value) => write!(f, "{value:04X}"),
            Self::Oad(value) => write!(f, "{value}"),
            Self::Road(value) => write!(f, "{value}"),
            Self::Omd(value) => write!(f, "{value}"),
            Self::Ti(value) => write!(f, "{value}"),
            Self::Tsa(value) => write!(f, "{value}"),
            Self::Region(value) => write!(f, "{value}"),
            Self::ScalerUnit(value) => match value.unit_name() {
                Some(unit) => write!(f, "10^{} {unit}", value.scaler),
                None => write!(f, "10^{} of unit {}", value.scaler, value.unit),
            },
            Self::Rsd(value) => write!(f, "{value}"),
            Self::Csd(value) => write!(f, "{value}"),
            Self::Ms(value) => write!(f, "{value}"),
            Self::Sid(value) => write!(f, "{:08X} {}", value.id, value.additional),
            Self::SidMac(value) => write!(f, "{:08X} {} {}", value.sid.id, value.sid.additional, value.mac),
            Self::Comdcb(value) => write!(f, "{value:?}"),
            Self::Rcsd(value) => list(f, "[", value, "]"),
            number => match number.number() {
                Some(number) => write!(f, "{number}"),
                // a float that is no number or beyond a decimal
                None => write!(f, "{number:?}"),
            },
        }
    }
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.oad)?;
        list(f, "[", &self.columns, "]")
    }
}

impl fmt::Display for Csd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oad(oad) => write!(f, "{oad}"),
            Self::Road(road) => write!(f, "{road}"),
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.begin, self.end)
    }
}

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no meters"),
            Self::All => f.write_str("all meters"),
            Self::Kinds(kinds) => list(f, "meters of kinds ", kinds, ""),
            Self::Addresses(addresses) => list(f, "meters ", addresses, ""),
            Self::Numbers(numbers) => list(f, "meters number ", numbers, ""),
            Self::KindRegions(regions) => list(f, "meters of kinds ", regions, ""),
            Self::AddressRegions(regions) => list(f, "meters ", regions, ""),
            Self::NumberRegions(regions) => list(f, "meters number ", regions, ""),
        }
    }
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to before {}", self.oad, self.begin, self.end)?;
        match &self.step {
            Data::Null => Ok(()),
            step => write!(f, " by {step}"),
        }
    }
}

impl fmt::Display for Rsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |f: &mut fmt::Formatter<'_>, what: &str, span: &Span| {
            let Span {
                begin,
                end,
                step,
                meters,
            } = span;
            write!(f, "{what} from {begin} to before {end} by {step}, {meters}")
        };
        match self {
            Self::All => f.write_str("all rows"),
            Self::Equal(equal) => write!(f, "rows with {} = {}", equal.oad, equal.value),
            Self::Between(between) => write!(f, "rows with {between}"),
            Self::AllBetween(between) => list(f, "rows with ", between, ""),
            Self::StartedAt(at) => write!(f, "rows collected from {} on, {}", at.time, at.meters),
            Self::StoredAt(at) => write!(f, "rows stored as of {}, {}", at.time, at.meters),
            Self::Started(s) => span(f, "rows whose collecting began", s),
            Self::Stored(s) => span(f, "rows stored as of times", s),
            Self::Collected(s) => span(f, "rows collected", s),
            Self::Back(number) => write!(f, "the row {number} back"),
            Self::Last(last) => write!(f, "the last {} rows, {}", last.count, last.meters),
        }
    }
}
