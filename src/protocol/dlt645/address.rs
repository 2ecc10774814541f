//! A meter's address: twelve decimal digits, on the wire as six BCD bytes, low byte first (DL/T 645-2007, 5.2.2).

use std::fmt;

/// A wildcard byte: any two digits.
const WILD: u8 = 0xAA;

/// An address as it stands on the wire, low byte first. A byte AA in a question stands for any two digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u8; 6]);

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Too long, or nothing at all.
    #[error("{0:?} has {count} characters; an address has 1 to 12 digits", count = .0.chars().count())]
    Length(String),
    /// A character that is no digit.
    #[error("{0:?} is not made of digits (AA for a byte of any two digits)")]
    Digits(String),
}

impl Address {
    /// Everybody, and nobody answers: broadcast time and freeze.
    pub const BROADCAST: Self = Self([0x99; 6]);
    /// Whoever is there, and he answers: for a line with one meter.
    pub const ANYONE: Self = Self([WILD; 6]);

    /// An address as it is printed on the meter, high digits first; zeros in front may be left out. `AA` in place of two
    /// digits is a wildcard byte.
    ///
    /// # Errors
    /// [`AddressError`] when it is longer than twelve digits, empty, or not made of digits.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > 12 {
            return Err(AddressError::Length(text.to_owned()));
        }
        let digits = || AddressError::Digits(text.to_owned());
        let mut wire = [0u8; 6];
        let mut from_low = text.bytes().rev();
        for byte in &mut wire {
            let low = from_low.next().unwrap_or(b'0');
            let high = from_low.next().unwrap_or(b'0');
            *byte = match (high, low) {
                (b'A' | b'a', b'A' | b'a') => WILD,
                (b'0'..=b'9', b'0'..=b'9') => (high - b'0') << 4 | (low - b'0'),
                _ => return Err(digits()),
            };
        }
        Ok(Self(wire))
    }

    /// The address of a number; digits beyond twelve are cut off.
    pub fn from_number(number: u64) -> Self {
        let mut wire = [0; 6];
        for (byte, digits) in wire.iter_mut().zip(super::bcd::bytes(number, 6)) {
            *byte = digits;
        }
        Self(wire)
    }

    /// The six bytes as they came, low byte first; whatever they are.
    pub fn from_wire(wire: [u8; 6]) -> Self {
        Self(wire)
    }

    /// The six bytes for the wire, low byte first.
    pub fn wire(self) -> [u8; 6] {
        self.0
    }

    /// Whether it is one meter's: decimal digits only, and not the broadcast.
    pub fn is_meter(self) -> bool {
        self != Self::BROADCAST && self.0.iter().all(|byte| is_bcd(*byte))
    }

    /// Whether some of its bytes stand for any two digits.
    pub fn is_wild(self) -> bool {
        self.0.contains(&WILD)
    }

    /// Whether an answer of `other` may answer a question to this address. A wildcard byte is answered by the meter's
    /// own digits, by some meters with the wildcard itself.
    pub fn covers(self, other: Self) -> bool {
        let covers = |(asked, found): (&u8, &u8)| asked == found || (*asked == WILD && is_bcd(*found));
        self.0.iter().zip(&other.0).all(covers)
    }

    /// As a number, for hashing and ordering; the low byte of the address is the low byte.
    pub(super) fn number(self) -> u64 {
        self.0.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

fn is_bcd(byte: u8) -> bool {
    byte >> 4 <= 9 && byte & 0x0F <= 9
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_digits_go_low_byte_first() {
        let address = Address::parse("123456789012").unwrap();
        assert_eq!(address.wire(), [0x12, 0x90, 0x78, 0x56, 0x34, 0x12]);
        assert_eq!(address.to_string(), "123456789012");
        assert_eq!(Address::parse("161").unwrap().to_string(), "000000000161");
        assert!(address.is_meter() && !address.is_wild());
        assert_eq!(Address::from_number(123_456_789_012), address);
        assert!(!Address::BROADCAST.is_meter() && !Address::ANYONE.is_meter());
    }

    #[test]
    fn what_is_no_address_is_named() {
        assert_eq!(Address::parse(" "), Err(AddressError::Length(String::new())));
        assert!(matches!(Address::parse("1234567890123"), Err(AddressError::Length(_))));
        for wrong in ["12345678901B", "A1", "1A", "-1", "１２"] {
            assert!(matches!(Address::parse(wrong), Err(AddressError::Digits(_))), "{wrong}");
        }
    }

    #[test]
    fn wildcards_cover_digits_and_themselves() {
        let short = Address::parse("AAAAAAAA9012").unwrap();
        let meter = Address::parse("123456789012").unwrap();
        assert!(short.is_wild() && short.covers(meter) && short.covers(short));
        assert!(!short.covers(Address::parse("123456789013").unwrap()));
        assert!(!meter.covers(short) && Address::ANYONE.covers(meter));
        // an answer whose address is not decimal answers nothing
        assert!(!Address::ANYONE.covers(Address::from_wire([0xBB, 0, 0, 0, 0, 0])));
    }
}
