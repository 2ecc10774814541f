//! The address field: region, terminal, master station and group flag (Q/GDW 1376.1-2013, 5.1.4).

use std::fmt;

/// The terminal number that means all terminals, with the group flag.
const EVERYBODY: u16 = 0xFFFF;
/// The highest master station number.
const MSA_MAX: u8 = 0x7F;

/// Whose frame it is: A1 region, A2 terminal, A3 master station and group flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A1: the four digits of the administrative region, `4403` as 0x4403. Some terminals have digits above 9.
    pub region: u16,
    /// A2: the terminal, 1 to 65535, binary. 0 is nobody; 65535 with the group flag is everybody.
    pub terminal: u16,
    /// MSA, 0 to 127: which master station asked; 0 where the terminal speaks of its own accord.
    pub(super) msa: u8,
    /// The terminal number is that of a group.
    pub group: bool,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no terminal address: four digits of the region, a dash, the terminal as a number from 1 to 65535")]
pub struct AddressError(String);

impl Address {
    /// A single terminal, no master station.
    pub fn new(region: u16, terminal: u16) -> Self {
        Self {
            region,
            terminal,
            msa: 0,
            group: false,
        }
    }

    /// The same terminal as a master station addresses it; the number is cut to seven bits.
    #[must_use]
    pub fn with_msa(self, msa: u8) -> Self {
        Self {
            msa: msa & MSA_MAX,
            ..self
        }
    }

    /// The master station.
    pub fn msa(self) -> u8 {
        self.msa
    }

    /// Whether every terminal is meant.
    pub fn is_broadcast(self) -> bool {
        self.group && self.terminal == EVERYBODY
    }

    /// Whether the two name the same terminal, whichever master station they name.
    pub fn is_terminal_of(self, other: Self) -> bool {
        self.region == other.region && self.terminal == other.terminal
    }

    /// Whether the region is made of decimal digits, as the standard wants it.
    pub fn is_decimal(self) -> bool {
        self.region
            .to_le_bytes()
            .iter()
            .all(|byte| crate::base::bcd::byte(*byte).is_some())
    }

    /// From the wire: A1 low digits first, A2 low byte first, A3.
    pub(super) fn from_wire([a10, a11, a20, a21, a3]: [u8; 5]) -> Self {
        Self {
            region: u16::from_le_bytes([a10, a11]),
            terminal: u16::from_le_bytes([a20, a21]),
            msa: a3 >> 1,
            group: a3 & 1 != 0,
        }
    }

    /// To the wire.
    pub(super) fn wire(self) -> [u8; 5] {
        let [a10, a11] = self.region.to_le_bytes();
        let [a20, a21] = self.terminal.to_le_bytes();
        [a10, a11, a20, a21, self.msa << 1 | u8::from(self.group)]
    }

    /// Reads `4403-00004`; zeros in front of the terminal may be left out.
    ///
    /// # Errors
    /// [`AddressError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.chars().take(20).collect());
        let (region, terminal) = text.trim().split_once('-').ok_or_else(error)?;
        let digits = |text: &str| text.chars().all(|digit| digit.is_ascii_hexdigit());
        if region.len() != 4 || !digits(region) || terminal.is_empty() || terminal.len() > 5 || !digits(terminal) {
            return Err(error());
        }
        let region = u16::from_str_radix(region, 16).map_err(|_| error())?;
        let terminal: u16 = terminal.parse().map_err(|_| error())?;
        if terminal == 0 {
            return Err(error());
        }
        Ok(Self::new(region, terminal))
    }
}

/// The terminal, without master station and group flag: region and number, `4403-00004`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}-{:05}", self.region, self.terminal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_worked_address_reads_and_writes() {
        let address = Address::from_wire([0x03, 0x44, 0x04, 0x00, 0x00]);
        assert_eq!(
            (address.region, address.terminal, address.msa(), address.group),
            (0x4403, 4, 0, false)
        );
        assert_eq!(address.to_string(), "4403-00004");
        assert_eq!(Address::parse("4403-4"), Ok(address));
        let group = Address::from_wire([0x00, 0x00, 0xFF, 0xFF, 0x21]);
        assert!(group.is_broadcast() && group.msa() == 16);
        for wrong in [
            "",
            "4403",
            "4403-",
            "4403-0",
            "4403-65536",
            "44034",
            "403-00004",
            "4403-+0004",
            "44O3-1",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!Address::new(0x44A3, 1).is_decimal() && address.is_decimal());
    }

    proptest! {
        #[test]
        fn addresses_read_back(wire in any::<[u8; 5]>()) {
            let address = Address::from_wire(wire);
            prop_assert_eq!(address.wire(), wire);
            if address.terminal != 0 {
                let read = Address::parse(&address.to_string()).unwrap();
                prop_assert!(read.is_terminal_of(address));
            }
        }
    }
}
