//! The values of fixed form that attributes and services are made of (DL/T 698.45-2017, 7.3.1): identifiers,
//! intervals, units, strings.

use super::wire::{CodecError, Input, Octets, Wire, sequence};
use std::fmt;

sequence! {
    /// An attribute of an object (OAD): `40010200` is attribute 2 of object 4001, whole.
    #[derive(Copy, PartialOrd, Ord)]
    pub struct Oad {
        /// The object (OI).
        pub oi: u16,
        /// The attribute in the low five bits, a feature of it (as of a freeze) in the high three.
        pub attribute: u8,
        /// Which element of it, from 1; 0 is the whole.
        pub index: u8,
    }
}

sequence! {
    /// A method of an object (OMD).
    #[derive(Copy, PartialOrd, Ord)]
    pub struct Omd {
        /// The object (OI).
        pub oi: u16,
        /// Which method.
        pub method: u8,
        /// In which mode; 0 is usual.
        pub mode: u8,
    }
}

impl Oad {
    /// Attribute `attribute` of object `oi`, whole.
    pub const fn new(oi: u16, attribute: u8) -> Self {
        Self::element(oi, attribute, 0)
    }

    /// One element of it, from 1.
    pub const fn element(oi: u16, attribute: u8, index: u8) -> Self {
        Self { oi, attribute, index }
    }

    /// From its number, `0x4001_0200`.
    pub const fn from_number(number: u32) -> Self {
        let [high, low, attribute, index] = number.to_be_bytes();
        let oi = u16::from_be_bytes([high, low]);
        Self { oi, attribute, index }
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        let [high, low] = self.oi.to_be_bytes();
        u32::from_be_bytes([high, low, self.attribute, self.index])
    }

    /// From eight hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u32::from_str_radix(text, 16).ok()).flatten();
        number.map(Self::from_number)
    }
}

impl fmt::Display for Oad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.number())
    }
}

impl Omd {
    /// Method `method` of object `oi`, in mode 0.
    pub const fn new(oi: u16, method: u8) -> Self {
        Self { oi, method, mode: 0 }
    }
}

impl fmt::Display for Omd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}{:02X}{:02X}", self.oi, self.method, self.mode)
    }
}

sequence! {
    /// A stretch of time (TI).
    #[derive(Copy)]
    pub struct Ti {
        /// 0 seconds, 1 minutes, 2 hours, 3 days, 4 months, 5 years.
        pub unit: u8,
        /// How many.
        pub value: u16,
    }
}

impl Ti {
    /// No stretch at all.
    pub const NONE: Self = Self { unit: 0, value: 0 };

    /// So many minutes.
    pub const fn minutes(value: u16) -> Self {
        Self { unit: 1, value }
    }

    /// So many days.
    pub const fn days(value: u16) -> Self {
        Self { unit: 3, value }
    }
}

impl fmt::Display for Ti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            0 => "s",
            1 => "min",
            2 => "h",
            3 => "d",
            4 => "months",
            5 => "years",
            other => return write!(f, "{} of unknown unit {other}", self.value),
        };
        write!(f, "{} {unit}", self.value)
    }
}

sequence! {
    /// A power of ten and a unit.
    #[derive(Copy)]
    pub struct ScalerUnit {
        /// The exponent of ten.
        pub scaler: i8,
        /// The unit's number (annex B).
        pub unit: u8,
    }
}

impl ScalerUnit {
    /// The unit in letters; none where the number is not among those that metering uses.
    pub fn unit_name(self) -> Option<&'static str> {
        let name = match self.unit {
            1 => "a",
            2 => "mo",
            3 => "wk",
            4 => "d",
            5 => "h",
            6 => "min",
            7 => "s",
            8 => "°",
            9 => "°C",
            10 => "CNY",
            13 => "m3",
            19 => "m3/h",
            27 => "W",
            28 => "kW",
            29 => "VA",
            30 => "kVA",
            31 => "var",
            32 => "kvar",
            33 => "kWh",
            34 => "kVAh",
            35 => "kvarh",
            36 => "A",
            38 => "V",
            47 => "Hz",
            51 => "%",
            255 => "",
            _ => return None,
        };
        Some(name)
    }
}

sequence! {
    /// How a serial port is set (COMDCB).
    #[derive(Copy)]
    pub struct Comdcb {
        /// 0 to 10: 300, 600, 1200, 2400, 4800, 7200, 9600, 19200, 38400, 57600, 115200 baud; 255 adapts itself.
        pub baud: u8,
        /// 0 none, 1 odd, 2 even.
        pub parity: u8,
        /// 5 to 8.
        pub data_bits: u8,
        /// 1 or 2.
        pub stop_bits: u8,
        /// 0 none, 1 hardware, 2 software.
        pub flow: u8,
    }
}

impl Comdcb {
    /// 2400 baud, 8 bits, even, one stop bit: the line of DL/T 645.
    pub const DLT645: Self = Self {
        baud: 3,
        parity: 2,
        data_bits: 8,
        stop_bits: 1,
        flow: 0,
    };
}

sequence! {
    /// What a key is chosen by (SID).
    pub struct Sid {
        /// Which.
        pub id: u32,
        /// What is added to it.
        pub additional: Octets,
    }
}

sequence! {
    /// A SID with its message authentication code.
    pub struct SidMac {
        /// The SID.
        pub sid: Sid,
        /// The code.
        pub mac: Octets,
    }
}

/// Bits, the first one in the highest bit of the first byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BitString {
    count: usize,
    bytes: Vec<u8>,
}

impl BitString {
    /// The bits of whole bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            count: bytes.len() * 8,
            bytes: bytes.to_vec(),
        }
    }

    /// How many bits there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bit `index`, from 0.
    pub fn bit(&self, index: usize) -> Option<bool> {
        let byte = self.bytes.get(index / 8).filter(|_| index < self.count)?;
        Some(byte >> (7 - index % 8) & 1 == 1)
    }

    /// The bytes; bits behind the last are as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for BitString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.count).try_for_each(|index| f.write_str(if self.bit(index) == Some(true) { "1" } else { "0" }))
    }
}

impl Wire for BitString {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let count = input.length()?;
        let bytes = input.take(count.div_ceil(8))?.to_vec();
        Ok(Self { count, bytes })
    }

    fn write(&self, out: &mut Vec<u8>) {
        super::wire::write_length(self.count, out);
        out.extend_from_slice(&self.bytes);
    }
}

/// A number of IEEE 754, kept as its bits: it is equal to itself whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Float32(pub u32);

/// The same with 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Float64(pub u64);

impl Wire for Float32 {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        u32::read(input).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl Wire for Float64 {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        u64::read(input).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

/// A text in the device's own characters, often padded with zeros.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// Of a text.
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.0).trim_end_matches('\0'))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Wire for Text {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        Octets::read(input).map(|octets| Self(octets.0))
    }

    fn write(&self, out: &mut Vec<u8>) {
        super::wire::write_length(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }
}
