//! Addresses: primary ones, and the identification by which a meter is selected as address 253 (EN 13757-3, 11.5 and
//! Annex on secondary addressing).

use std::fmt;

/// The highest primary address of a meter; 0 is that of one that has none yet.
pub const PRIMARY_MAX: u8 = 250;
/// The address of whoever is selected.
pub const NETWORK: u8 = 253;
/// The address that every meter answers, for a line with one meter.
pub const TEST: u8 = 254;
/// The address that every meter hears and none answers.
pub const BROADCAST: u8 = 255;

/// A manufacturer: three letters of five bits each (EN 13757-3, 5.5; the register of the FLAG association).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Manufacturer(pub u16);

impl Manufacturer {
    /// That of three letters A to Z.
    pub fn of(letters: &str) -> Option<Self> {
        let mut code = 0u16;
        if letters.len() != 3 {
            return None;
        }
        for letter in letters.bytes() {
            let upper = letter.to_ascii_uppercase();
            if !upper.is_ascii_uppercase() {
                return None;
            }
            code = code << 5 | u16::from(upper - b'@');
        }
        Some(Self(code))
    }

    /// Its letters; characters outside A to Z where the code has such.
    pub fn letters(self) -> String {
        [10, 5, 0]
            .iter()
            .map(|shift| {
                let five = u8::try_from(self.0 >> shift & 0x1F).unwrap_or_default();
                char::from(b'@' + five)
            })
            .collect()
    }
}

impl fmt::Display for Manufacturer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.letters())
    }
}

/// Who a meter says it is: the part of its header that is its secondary address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identification {
    /// Eight digits, the first in the highest nibble. Decimal by the standard; some meters have others.
    pub id: u32,
    /// Who made it.
    pub manufacturer: Manufacturer,
    /// Its version (generation).
    pub version: u8,
    /// What it measures, see [`medium_name`].
    pub medium: u8,
}

impl fmt::Display for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            manufacturer,
            version,
            medium,
        } = self;
        write!(f, "{id:08X}.{manufacturer}.{version:02X}.{medium:02X}")
    }
}

/// A mask of identifications. A digit F and a part that is none stand for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selection {
    /// Eight nibbles; F stands for any digit.
    pub id: u32,
    /// The manufacturer.
    pub manufacturer: Option<Manufacturer>,
    /// The version; FF cannot be asked for.
    pub version: Option<u8>,
    /// The medium; FF cannot be asked for.
    pub medium: Option<u8>,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is neither a primary address of 0 to 250 nor eight digits like 12345678 or 12345678.KAM.01.04")]
pub struct AddressError;

impl Selection {
    /// The mask of every meter.
    pub const ANY: Self = Self {
        id: 0xFFFF_FFFF,
        manufacturer: None,
        version: None,
        medium: None,
    };

    /// The mask that only this identification fits.
    pub fn exact(identification: Identification) -> Self {
        Self {
            id: identification.id,
            manufacturer: Some(identification.manufacturer),
            version: Some(identification.version),
            medium: Some(identification.medium),
        }
    }

    /// Whether an identification number fits.
    pub fn fits_id(&self, id: u32) -> bool {
        (0..8).all(|digit| {
            let (wanted, found) = (self.id >> (digit * 4) & 0xF, id >> (digit * 4) & 0xF);
            wanted == 0xF || wanted == found
        })
    }

    /// Whether an identification fits.
    pub fn fits(&self, identification: &Identification) -> bool {
        self.fits_id(identification.id)
            && self
                .manufacturer
                .is_none_or(|wanted| wanted == identification.manufacturer)
            && self.version.is_none_or(|wanted| wanted == identification.version)
            && self.medium.is_none_or(|wanted| wanted == identification.medium)
    }

    /// The eight bytes behind CI 52.
    pub fn bytes(&self) -> [u8; 8] {
        let [i3, i2, i1, i0] = self.id.to_be_bytes();
        let [m0, m1] = self.manufacturer.map_or(0xFFFF, |code| code.0).to_le_bytes();
        [
            i0,
            i1,
            i2,
            i3,
            m0,
            m1,
            self.version.unwrap_or(0xFF),
            self.medium.unwrap_or(0xFF),
        ]
    }

    /// Reads the eight bytes behind CI 52.
    pub fn of_bytes(bytes: [u8; 8]) -> Self {
        let [i0, i1, i2, i3, m0, m1, version, medium] = bytes;
        let some = |byte: u8| (byte != 0xFF).then_some(byte);
        let code = u16::from_le_bytes([m0, m1]);
        Self {
            id: u32::from_le_bytes([i0, i1, i2, i3]),
            manufacturer: (code != 0xFFFF).then_some(Manufacturer(code)),
            version: some(version),
            medium: some(medium),
        }
    }

    /// Reads `12345678`, `12345678.KAM`, `12345678.KAM.01` or `12345678.KAM.01.04`: eight digits, the manufacturer's
    /// letters, version and medium as two hexadecimal digits each. No wildcards: what is left out fits anything.
    ///
    /// # Errors
    /// [`AddressError`] when it is nothing of the kind.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut parts = text.split('.');
        let digits = parts.next().unwrap_or_default();
        // meters exist whose number is not decimal; F is the wildcard
        let known = |b: u8| b.is_ascii_hexdigit() && !b.eq_ignore_ascii_case(&b'f');
        if digits.len() != 8 || !digits.bytes().all(known) {
            return Err(AddressError);
        }
        let byte = |part: Option<&str>| match part {
            None => Ok(None),
            Some(part) if part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()) => {
                let byte = u8::from_str_radix(part, 16).map_err(|_| AddressError)?;
                (byte != 0xFF).then_some(Some(byte)).ok_or(AddressError)
            }
            Some(_) => Err(AddressError),
        };
        let manufacturer = match parts.next() {
            None => None,
            Some(letters) => Some(Manufacturer::of(letters).ok_or(AddressError)?),
        };
        let (version, medium) = (byte(parts.next())?, byte(parts.next())?);
        if parts.next().is_some() {
            return Err(AddressError);
        }
        Ok(Self {
            id: u32::from_str_radix(digits, 16).map_err(|_| AddressError)?,
            manufacturer,
            version,
            medium,
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.id)?;
        if self.manufacturer.is_none() && self.version.is_none() && self.medium.is_none() {
            return Ok(());
        }
        let any = || "*".to_owned();
        let byte = |byte: Option<u8>| byte.map_or_else(any, |byte| format!("{byte:02X}"));
        write!(f, ".{}", self.manufacturer.map_or_else(any, Manufacturer::letters))?;
        if self.version.is_some() || self.medium.is_some() {
            write!(f, ".{}", byte(self.version))?;
        }
        if self.medium.is_some() {
            write!(f, ".{}", byte(self.medium))?;
        }
        Ok(())
    }
}

/// What a meter measures (EN 13757-3, table of device types).
pub fn medium_name(medium: u8) -> &'static str {
    match medium {
        0x00 => "other",
        0x01 => "oil",
        0x02 => "electricity",
        0x03 => "gas",
        0x04 => "heat (volume at return)",
        0x05 => "steam",
        0x06 => "warm water (30 to 90 °C)",
        0x07 => "water",
        0x08 => "heat cost allocator",
        0x09 => "compressed air",
        0x0A => "cooling (volume at return)",
        0x0B => "cooling (volume at flow)",
        0x0C => "heat (volume at flow)",
        0x0D => "heat and cooling",
        0x0E => "bus or system",
        0x15 => "hot water (from 90 °C)",
        0x16 => "cold water",
        0x17 => "hot and cold water",
        0x18 => "pressure",
        0x19 => "a/d converter",
        0x1A => "smoke detector",
        0x1B => "room sensor",
        0x1C => "gas detector",
        0x20 => "breaker (electricity)",
        0x21 => "valve (gas or water)",
        0x25 => "customer unit",
        0x28 => "waste water",
        0x29 => "garbage",
        0x37 => "radio converter (meter side)",
        _ => "reserved",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::protocol::mbus) fn any_identification() -> impl Strategy<Value = Identification> {
        (0u32..100_000_000, "[A-Z]{3}", 0u8..=0xFE, 0u8..=0xFE).prop_map(|(number, letters, version, medium)| {
            Identification {
                id: u32::from_str_radix(&format!("{number:08}"), 16).unwrap(),
                manufacturer: Manufacturer::of(&letters).unwrap(),
                version,
                medium,
            }
        })
    }

    proptest! {
        #[test]
        fn an_identification_selects_itself_by_bytes_and_by_text(identification in any_identification(), wild in 0u32..8) {
            let exact = Selection::exact(identification);
            prop_assert_eq!(Selection::of_bytes(exact.bytes()), exact);
            prop_assert_eq!(Selection::parse(&identification.to_string()), Ok(exact));
            prop_assert_eq!(Selection::parse(&exact.to_string()), Ok(exact));
            let mask = Selection { id: exact.id | 0xF << (wild * 4), ..Selection::ANY };
            prop_assert!(exact.fits(&identification) && mask.fits(&identification));
            let other = Identification { version: identification.version ^ 1, ..identification };
            prop_assert!(!exact.fits(&other) && mask.fits(&other));
        }
    }

    #[test]
    fn manufacturers_are_three_letters() {
        assert_eq!(Manufacturer::of("PAD"), Some(Manufacturer(0x4024)));
        assert_eq!(Manufacturer(0x2C2D).letters(), "KAM");
        assert_eq!(Manufacturer::of("kam"), Some(Manufacturer(0x2C2D)));
        assert_eq!(Manufacturer::of("KA"), None);
        assert_eq!(Manufacturer::of("K1M"), None);
    }

    #[test]
    fn texts_of_addresses() {
        let parse = |text: &str| Selection::parse(text).map(|s| s.to_string());
        assert_eq!(parse("12345678"), Ok("12345678".to_owned()));
        assert_eq!(parse("12345678.KAM"), Ok("12345678.KAM".to_owned()));
        assert_eq!(parse("3E000001.kam.0a"), Ok("3E000001.KAM.0A".to_owned()));
        for wrong in [
            "",
            "1",
            "1234567",
            "123456789",
            "1234567F",
            "12345678.",
            "12345678.KAM.1",
            "12345678.KAM.01.04.05",
            "12345678.KAM.FF",
            "12345678.KAM.+1",
        ] {
            assert_eq!(parse(wrong), Err(AddressError), "{wrong}");
        }
    }
}
