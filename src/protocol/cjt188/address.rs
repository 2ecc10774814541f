//! How a meter is called: its type and seven bytes of digits (CJ/T 188-2004, 5.2.2 and table 3).

use crate::base::hex;
use serde::Serialize;
use std::fmt;

/// Stands for any digits in a question's address, and for any type.
const WILDCARD: u8 = 0xAA;

/// The meter type T.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct MeterType(pub u8);

impl MeterType {
    /// Cold water.
    pub const COLD_WATER: Self = Self(0x10);
    /// Hot water for the household.
    pub const HOT_WATER: Self = Self(0x11);
    /// Drinking water.
    pub const DRINKING_WATER: Self = Self(0x12);
    /// Reclaimed water.
    pub const RECLAIMED_WATER: Self = Self(0x13);
    /// Heat.
    pub const HEAT: Self = Self(0x20);
    /// Cooling.
    pub const COOLING: Self = Self(0x21);
    /// Heat and cooling (2018).
    pub const HEAT_AND_COOLING: Self = Self(0x22);
    /// Gas.
    pub const GAS: Self = Self(0x30);
    /// Of the maker's own; electricity with some.
    pub const CUSTOM: Self = Self(0x40);
    /// Any type, in a question.
    pub const ANY: Self = Self(WILDCARD);

    /// What it measures, in words.
    pub fn name(self) -> &'static str {
        match self.0 {
            0x10 => "cold water",
            0x11 => "hot water",
            0x12 => "drinking water",
            0x13 => "reclaimed water",
            0x14..=0x19 => "water",
            0x20 => "heat",
            0x21 => "cooling",
            0x22 => "heat and cooling",
            0x23..=0x29 => "heat or cooling",
            0x30..=0x39 => "gas",
            0x40..=0x49 => "custom",
            WILDCARD => "any type",
            _ => "no type of the standard",
        }
    }

    /// Whether the standard knows it, or it is the wildcard.
    pub fn is_known(self) -> bool {
        matches!(self.0, 0x10..=0x19 | 0x20..=0x29 | 0x30..=0x39 | 0x40..=0x49 | WILDCARD)
    }

    /// Water of any kind.
    pub fn is_water(self) -> bool {
        self.0 >> 4 == 1
    }

    /// Heat, cooling or both.
    pub fn is_heat(self) -> bool {
        self.0 >> 4 == 2
    }

    /// Gas.
    pub fn is_gas(self) -> bool {
        self.0 >> 4 == 3
    }
}

impl fmt::Display for MeterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}, {}", self.0, self.name())
    }
}

/// A meter's address as it is on the wire: A0 to A6, the lowest digits first. A5 and A6 are the maker's code. Written as
/// 14 digits, the highest first. Digits by the standard; some meters have A to F in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub [u8; 7]);

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Empty, or more than 14 digits.
    #[error("{0} digits; an address has 1 to 14")]
    Length(usize),
    /// Not a digit.
    #[error("{0:?} is neither a digit nor A to F")]
    Digit(char),
}

impl Address {
    /// Any meter; for a line with a single one.
    pub const ANY: Self = Self([WILDCARD; 7]);

    /// Reads 1 to 14 digits, the highest first, as they stand on a name plate; missing high ones are zeros. `AA` in a
    /// byte is the wildcard.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let digits: Vec<char> = text.trim().chars().collect();
        if digits.is_empty() || digits.len() > 14 {
            return Err(AddressError::Length(digits.len()));
        }
        let mut address = [0; 7];
        for (place, digit) in digits.iter().rev().enumerate() {
            let value = digit.to_digit(16).and_then(|value| u8::try_from(value).ok());
            let value = value.ok_or(AddressError::Digit(*digit))?;
            if let Some(byte) = address.get_mut(place / 2) {
                *byte |= if place % 2 == 0 { value } else { value << 4 };
            }
        }
        Ok(Self(address))
    }

    /// Whether a byte stands for any.
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(&WILDCARD)
    }

    /// Whether it is digits only, as the standard wants it.
    pub fn is_decimal(&self) -> bool {
        self.0.iter().all(|byte| byte >> 4 < 10 && byte & 0x0F < 10)
    }

    /// Whether a meter of address `other` answers to this one.
    pub fn calls(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .all(|(mine, theirs)| *mine == WILDCARD || *mine == theirs)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        bytes.reverse();
        f.write_str(&hex::encode(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_high_digits_first() {
        let address = Address::parse("78330011223344").unwrap();
        assert_eq!(address.0, [0x44, 0x33, 0x22, 0x11, 0x00, 0x33, 0x78]);
        assert_eq!(address.to_string(), "78330011223344");
        assert_eq!(Address::parse(" 805000001 ").unwrap().to_string(), "00000805000001");
        assert_eq!(Address::parse(""), Err(AddressError::Length(0)));
        assert_eq!(Address::parse("123456789012345"), Err(AddressError::Length(15)));
        assert_eq!(Address::parse("12 4"), Err(AddressError::Digit(' ')));
        assert!(!Address::parse("00000000EE0001").unwrap().is_decimal());
    }

    #[test]
    fn wildcards_call_everybody() {
        let meter = Address::parse("78330011223344").unwrap();
        assert!(Address::ANY.calls(&meter));
        assert!(Address::parse("AAAA0011223344").unwrap().calls(&meter));
        assert!(!Address::parse("AAAA0011223345").unwrap().calls(&meter));
        assert!(!meter.calls(&Address::ANY));
    }
}
