//! Whom a frame goes to: the server address (SA) of the frame, and the same as a value inside (TSA). DL/T 698.45-2017,
//! 6.2.3.3 and 7.3.1.
//!
//! The SA stands in the frame low byte first; the TSA inside an APDU as it is printed.

use super::wire::{CodecError, Input, Octets, Wire};
use std::fmt;

/// Nibble that stands for any digit.
const WILD: u8 = 0x0A;
/// The most bytes of an address.
pub(super) const LEN_MAX: usize = 16;

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One device's.
    Single,
    /// With nibbles A that stand for any digit; who fits answers.
    Wildcard,
    /// A group's; nobody answers.
    Group,
    /// Everybody's; nobody answers.
    Broadcast,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Single => 0,
            Self::Wildcard => 1,
            Self::Group => 2,
            Self::Broadcast => 3,
        }
    }

    fn of_flags(flags: u8) -> Self {
        match flags >> 6 {
            0 => Self::Single,
            1 => Self::Wildcard,
            2 => Self::Group,
            _ => Self::Broadcast,
        }
    }
}

/// An address: its kind, the logical device behind it, and 1 to 16 bytes of digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    kind: Kind,
    /// 0 to 3.
    logical: u8,
    len: usize,
    /// As printed, high digits first; behind `len` zeros.
    bytes: [u8; LEN_MAX],
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Too long, or nothing at all.
    #[error("{0:?} has {count} characters; an address has 1 to 32 digits", count = .0.chars().count())]
    Length(String),
    /// A character that is no digit.
    #[error("{0:?} is not made of digits (A for any digit)")]
    Digits(String),
    /// The logical device.
    #[error("{0:?} is no logical device; there are 0 to 3")]
    Logical(String),
}

impl Address {
    /// Whoever is there, and he answers: for a line with one device.
    pub const ANYONE: Self = Self {
        kind: Kind::Wildcard,
        logical: 0,
        len: 6,
        bytes: [0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    /// Everybody, and nobody answers.
    pub const BROADCAST: Self = Self {
        kind: Kind::Broadcast,
        logical: 0,
        len: 1,
        bytes: [0xAA, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// Of bytes as printed, high digits first; none for no bytes and for more than 16.
    pub fn of(kind: Kind, logical: u8, printed: &[u8]) -> Option<Self> {
        let mut bytes = [0; LEN_MAX];
        bytes.get_mut(..printed.len())?.copy_from_slice(printed);
        (!printed.is_empty()).then_some(Self {
            kind,
            logical: logical & 3,
            len: printed.len(),
            bytes,
        })
    }

    /// An address as it is printed on the device. Fewer than twelve digits get zeros before them, an odd number of more
    /// gets one. A digit `A` is any digit; `AA` alone is the broadcast; `/1` behind it is a logical device.
    ///
    /// # Errors
    /// [`AddressError`] when it is empty, longer than 32 digits, or not made of digits.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let (digits, logical) = match text.split_once('/') {
            Some((digits, logical)) => (digits, logical),
            None => (text, "0"),
        };
        let logical = match logical.parse::<u8>() {
            Ok(number @ 0..=3) => number,
            _ => return Err(AddressError::Logical(logical.to_owned())),
        };
        if digits.is_empty() || digits.chars().count() > 2 * LEN_MAX {
            return Err(AddressError::Length(digits.to_owned()));
        }
        if digits.eq_ignore_ascii_case("AA") {
            return Ok(Self {
                logical,
                ..Self::BROADCAST
            });
        }
        let wrong = || AddressError::Digits(digits.to_owned());
        let width = digits.len().max(12).next_multiple_of(2);
        let padded = format!("{digits:0>width$}");
        let mut bytes = Vec::with_capacity(LEN_MAX);
        let mut kind = Kind::Single;
        let mut nibbles = padded.bytes().map(|digit| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'A' | b'a' => Ok(WILD),
            _ => Err(wrong()),
        });
        while let (Some(high), Some(low)) = (nibbles.next(), nibbles.next()) {
            let (high, low) = (high?, low?);
            if high == WILD || low == WILD {
                kind = Kind::Wildcard;
            }
            bytes.push(high << 4 | low);
        }
        Self::of(kind, logical, &bytes).ok_or_else(wrong)
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The logical device, 0 to 3.
    pub fn logical(&self) -> u8 {
        self.logical
    }

    /// Its bytes as printed, high digits first.
    pub fn printed(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Whether somebody may answer.
    pub fn is_answered(&self) -> bool {
        matches!(self.kind, Kind::Single | Kind::Wildcard)
    }

    /// Whether it is one device's: of that kind, and of decimal digits only.
    pub fn is_device(&self) -> bool {
        let decimal = |byte: &u8| byte >> 4 <= 9 && byte & 0x0F <= 9;
        self.kind == Kind::Single && self.printed().iter().all(decimal)
    }

    /// Whether an answer of `other` may answer a question to this address. A wildcard is answered by the device's own
    /// digits, by some devices with the wildcard itself.
    pub fn covers(&self, other: &Self) -> bool {
        if self == other {
            return self.is_answered();
        }
        let covers = |(asked, found): (&u8, &u8)| {
            let nibble = |asked: u8, found: u8| asked == found || (asked == WILD && found <= 9);
            nibble(asked >> 4, found >> 4) && nibble(asked & 0x0F, found & 0x0F)
        };
        self.kind == Kind::Wildcard
            && other.kind == Kind::Single
            && self.logical == other.logical
            && self.len == other.len
            && self.printed().iter().zip(other.printed()).all(covers)
    }

    /// The byte before the digits: kind, logical device, number of bytes less one.
    pub(super) fn flags(&self) -> u8 {
        // 1 to 16
        let len = u8::try_from(self.len.saturating_sub(1)).unwrap_or_default();
        self.kind.code() << 6 | self.logical << 4 | (len & 0x0F)
    }

    /// How many bytes the address has that begins with these flags.
    pub(super) fn len_of(flags: u8) -> usize {
        usize::from(flags & 0x0F) + 1
    }

    /// Of the flags and the digits as they stand in a frame, low byte first.
    pub(super) fn of_wire(flags: u8, wire: &[u8]) -> Option<Self> {
        let printed: Vec<u8> = wire.iter().rev().copied().collect();
        Self::of(Kind::of_flags(flags), flags >> 4 & 3, &printed)
    }

    /// Flags and digits for a frame.
    pub(super) fn push_to(&self, frame: &mut Vec<u8>) {
        frame.push(self.flags());
        frame.extend(self.printed().iter().rev());
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Group {
            f.write_str("group ")?;
        }
        self.printed().iter().try_for_each(|byte| write!(f, "{byte:02X}"))?;
        match self.logical {
            0 => Ok(()),
            logical => write!(f, "/{logical}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {self}", self.kind)
    }
}

/// A server address as a value: the flags, then the digits as printed. Kept as it came, for terminals also write empty
/// ones where there is no device.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tsa(Octets);

impl Tsa {
    /// Of an address.
    pub fn of(address: &Address) -> Self {
        let mut bytes = vec![address.flags()];
        bytes.extend_from_slice(address.printed());
        Self(Octets(bytes))
    }

    /// Its bytes: flags and digits.
    pub fn bytes(&self) -> &[u8] {
        &self.0.0
    }

    /// The address; none where it is not well formed.
    pub fn address(&self) -> Option<Address> {
        let (flags, printed) = self.0.0.split_first()?;
        let fits = printed.len() == Address::len_of(*flags);
        let (kind, logical) = (Kind::of_flags(*flags), flags >> 4 & 3);
        fits.then(|| Address::of(kind, logical, printed)).flatten()
    }
}

impl fmt::Display for Tsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => fmt::Display::fmt(&address, f),
            None => write!(f, "no address ({})", self.0),
        }
    }
}

impl fmt::Debug for Tsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Wire for Tsa {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let offset = input.offset();
        let octets = Octets::read(input)?;
        if octets.0.len() > LEN_MAX + 1 {
            let what = "an address of more than 16 bytes";
            return Err(CodecError::Invalid { offset, what });
        }
        Ok(Self(octets))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_digits_go_low_byte_first_in_a_frame_and_as_printed_in_a_value() {
        let address = Address::parse("123456789012").unwrap();
        let mut wire = Vec::new();
        address.push_to(&mut wire);
        assert_eq!(wire, [0x05, 0x12, 0x90, 0x78, 0x56, 0x34, 0x12]);
        assert_eq!(Address::of_wire(wire[0], &wire[1..]), Some(address));
        let mut value = Vec::new();
        Tsa::of(&address).write(&mut value);
        assert_eq!(value, [0x07, 0x05, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12]);
        assert_eq!(Tsa::of(&address).address(), Some(address));
        assert_eq!(address.to_string(), "123456789012");
        assert_eq!(Address::parse("5").unwrap().to_string(), "000000000005");
        assert_eq!(
            Address::parse("12345678901234/1").unwrap().to_string(),
            "12345678901234/1"
        );
        assert!(address.is_device() && address.is_answered());
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(Address::parse("AA").unwrap(), Address::BROADCAST);
        assert_eq!(Address::BROADCAST.flags(), 0xC0);
        assert_eq!(Address::ANYONE.flags(), 0x45);
        assert_eq!(Address::ANYONE.to_string(), "AAAAAAAAAAAA");
        assert_eq!(Address::parse("AAAAAAAAAAAA").unwrap(), Address::ANYONE);
        let group = Address::of(Kind::Group, 0, &[0x12, 0x34]).unwrap();
        assert_eq!((group.flags(), group.to_string()), (0x81, "group 1234".to_owned()));
        assert!(!group.is_answered() && !Address::BROADCAST.is_answered());
        assert!(!group.covers(&group) && !Address::BROADCAST.covers(&Address::BROADCAST));
    }

    #[test]
    fn wildcards_cover_digits_and_themselves() {
        let meter = Address::parse("123456789012").unwrap();
        let short = Address::parse("AAAAAAA89012").unwrap();
        assert!(short.covers(&meter) && short.covers(&short) && Address::ANYONE.covers(&meter));
        assert!(!short.covers(&Address::parse("123456789013").unwrap()) && !meter.covers(&short));
        let logical = Address::parse("123456789012/1").unwrap();
        assert!(!Address::ANYONE.covers(&logical) && !meter.covers(&logical));
    }

    #[test]
    fn what_is_no_address_is_named() {
        assert_eq!(Address::parse(" "), Err(AddressError::Length(String::new())));
        assert!(matches!(Address::parse(&"1".repeat(33)), Err(AddressError::Length(_))));
        assert!(matches!(Address::parse("1/4"), Err(AddressError::Logical(_))));
        for wrong in ["12345678901B", "-1", "１２"] {
            assert!(matches!(Address::parse(wrong), Err(AddressError::Digits(_))), "{wrong}");
        }
        assert!(Address::of(Kind::Single, 0, &[]).is_none() && Address::of(Kind::Single, 0, &[0; 17]).is_none());
    }
}
