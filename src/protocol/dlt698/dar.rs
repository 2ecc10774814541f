//! DAR: why a device did not do as asked (DL/T 698.45-2017, 7.3.1.41, table 10).

use super::wire::{CodecError, Input, Wire};
use std::fmt;

/// The result of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dar(pub u8);

impl Dar {
    /// Done.
    pub const SUCCESS: Self = Self(0);
    /// Reading or writing is denied.
    pub const DENIED: Self = Self(3);
    /// The object is not defined.
    pub const UNDEFINED: Self = Self(4);
    /// The data do not fit the attribute's type.
    pub const TYPE: Self = Self(7);
    /// No block of an answer is waiting.
    pub const NO_BLOCKS: Self = Self(11);

    /// Whether it is done.
    pub fn is_success(self) -> bool {
        self == Self::SUCCESS
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "done",
            1 => "hardware failure",
            2 => "temporary failure",
            3 => "reading or writing denied",
            4 => "object undefined",
            5 => "object of another class",
            6 => "object does not exist",
            7 => "type does not match",
            8 => "out of range",
            9 => "data block not available",
            10 => "transfer in blocks cancelled",
            11 => "no transfer in blocks under way",
            12 => "writing in blocks cancelled",
            13 => "no writing in blocks under way",
            14 => "wrong number of a data block",
            15 => "wrong password or not authorised",
            16 => "baud rate cannot be changed",
            17 => "too many time zones of the year",
            18 => "too many periods of the day",
            19 => "too many tariffs",
            20 => "security authentication does not match",
            21 => "charged twice",
            22 => "security module: verification failed",
            23 => "security authentication failed",
            24 => "customer number does not match",
            25 => "wrong number of the charge",
            26 => "charge beyond what may be hoarded",
            27 => "wrong address",
            28 => "symmetric decryption failed",
            29 => "asymmetric decryption failed",
            30 => "wrong signature",
            31 => "the meter is suspended",
            32 => "invalid time tag",
            33 => "request timed out",
            34 => "security module: wrong P1 P2",
            35 => "security module: wrong LC",
            255 => "another reason",
            _ => "a reason that the standard does not have",
        }
    }
}

impl fmt::Display for Dar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl Wire for Dar {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        u8::read(input).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.0);
    }
}
