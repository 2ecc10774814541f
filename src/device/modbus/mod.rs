//! Meter models that speak Modbus: registers and bits, and what they mean.

pub(super) mod decode;
pub(super) mod image;
pub(super) mod parse;
pub(super) mod parse_point;
pub(super) mod plan;
pub(super) mod raw;
pub mod relay;

use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::modbus::Function;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

/// The registers of a meter model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegisterProfile {
    /// What one request may span.
    pub limits: Limits,
    /// Where the values are.
    pub points: Vec<Point>,
    /// The relay, if it has one that is known.
    pub relay: Option<relay::RelayProfile>,
    /// Parameters that can be read, and perhaps written, by name.
    pub parameters: Vec<relay::Parameter>,
}

/// What one request may span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Registers in one read, 1 to 125.
    pub max_registers: u16,
    /// Coils or discrete inputs in one read, 1 to 2000.
    pub max_bits: u16,
    /// How many registers in a row that no point describes a read may run across.
    pub max_gap: u16,
    /// Ranges that no read may touch.
    pub forbidden: Vec<Forbidden>,
}

/// A range that no read may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forbidden {
    /// The function.
    #[serde(serialize_with = "code")]
    pub function: Function,
    /// The first address.
    pub first: u16,
    /// The last address.
    pub last: u16,
}

/// One value of a meter: where it stands and what it means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// What it is.
    pub measurand: Measurand,
    /// The function that reads it, 1 to 4.
    #[serde(serialize_with = "code")]
    pub function: Function,
    /// The address on the wire, from 0.
    pub address: u16,
    /// How it is written there.
    #[serde(rename = "type")]
    pub data: DataType,
    /// Which register of several comes first.
    pub word_order: Order,
    /// Which byte of a register comes first.
    pub byte_order: Order,
    /// The bits that make the value, if not all.
    pub bits: Option<BitField>,
    /// The unit in which it comes, scale applied.
    pub unit: String,
    /// Value in the canonical unit = raw × factor; scale and unit in one. Its digits fit 32 bits.
    #[serde(with = "rust_decimal::serde::str")]
    pub factor: Decimal,
    /// Bit patterns that say "no value", most significant byte first.
    pub invalid: Vec<u64>,
    /// A further rule between number and value.
    pub encoding: Encoding,
    /// Whether a poll of everything reads it. Settings of the meter are not polled.
    pub poll: bool,
}

/// How a number is written in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// One coil or discrete input.
    Bit,
    /// Unsigned, one register.
    U16,
    /// Signed, one register.
    I16,
    /// Unsigned, two registers.
    U32,
    /// Signed, two registers.
    I32,
    /// Unsigned, four registers.
    U64,
    /// Signed, four registers.
    I64,
    /// IEEE 754 single, two registers.
    F32,
    /// IEEE 754 double, four registers.
    F64,
    /// Four decimal digits in one register.
    Bcd16,
    /// Eight decimal digits in two registers.
    Bcd32,
    /// Sixteen decimal digits in four registers.
    Bcd64,
}

impl DataType {
    /// Every type.
    pub const ALL: &'static [Self] = &[
        Self::Bit,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F32,
        Self::F64,
        Self::Bcd16,
        Self::Bcd32,
        Self::Bcd64,
    ];

    /// The name in model files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bit => "bit",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Bcd16 => "bcd16",
            Self::Bcd32 => "bcd32",
            Self::Bcd64 => "bcd64",
        }
    }

    /// Finds a type by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|data| data.name() == name)
    }

    /// How many registers (for [`DataType::Bit`]: bits) it takes.
    pub fn count(self) -> u16 {
        match self {
            Self::Bit | Self::U16 | Self::I16 | Self::Bcd16 => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => 2,
            Self::U64 | Self::I64 | Self::F64 | Self::Bcd64 => 4,
        }
    }

    /// Whether it is a float.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// Which of several comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The most significant.
    Big,
    /// The least significant.
    Little,
}

/// Some bits of a register or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BitField {
    /// The lowest bit, from 0, after the orders are applied.
    pub offset: u8,
    /// How many.
    pub width: u8,
}

/// A further rule between number and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// The number is the value.
    Plain,
    /// Power factor over four quadrants (Schneider PM series): above 1 stands 2 − pf (leading), below −1 stands
    /// −2 − pf.
    FourQuadrant,
}

impl Point {
    /// The last address.
    pub fn last(&self) -> u16 {
        // checked when the model is loaded
        self.address.saturating_add(self.data.count() - 1)
    }

    /// Whether a read of `count` from `address` brings it whole.
    pub fn within(&self, function: Function, address: u16, count: u16) -> bool {
        self.function == function
            && self.address >= address
            && u32::from(self.last()) < u32::from(address) + u32::from(count)
    }

    /// The quantity of the closed list, if it is one.
    pub fn quantity(&self) -> Option<Quantity> {
        match self.measurand {
            Measurand::Standard(quantity) => Some(quantity),
            Measurand::Vendor(_) => None,
        }
    }
}

fn code<S: Serializer>(function: &Function, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(function.code())
}
