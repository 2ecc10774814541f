//! Data identifiers (CJ/T 188-2004, tables 5 to 9): what is read or written.

use serde::Serialize;
use std::fmt;

/// Which byte of the identifier comes first. Meters of 2004 mostly send 90 1F, those of 2018 and many others 1F 90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiOrder {
    /// 90 1F.
    HighFirst,
    /// 1F 90.
    LowFirst,
}

impl DiOrder {
    /// The other.
    pub fn other(self) -> Self {
        match self {
            Self::HighFirst => Self::LowFirst,
            Self::LowFirst => Self::HighFirst,
        }
    }
}

/// A data identifier, written as the standard writes it: 901F.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct DataId(pub u16);

impl DataId {
    /// What the meter counts and shows now.
    pub const CURRENT: Self = Self(0x901F);
    /// Price table.
    pub const PRICES: Self = Self(0x8102);
    /// Settlement day.
    pub const SETTLEMENT_DAY: Self = Self(0x8103);
    /// Reading day.
    pub const READING_DAY: Self = Self(0x8104);
    /// Purchased amount.
    pub const PURCHASE: Self = Self(0x8105);
    /// Version of the key.
    pub const KEY_VERSION: Self = Self(0x8106);
    /// Address.
    pub const READ_ADDRESS: Self = Self(0x810A);
    /// Writes the price table.
    pub const WRITE_PRICES: Self = Self(0xA010);
    /// Writes the settlement day.
    pub const WRITE_SETTLEMENT_DAY: Self = Self(0xA011);
    /// Writes the reading day.
    pub const WRITE_READING_DAY: Self = Self(0xA012);
    /// Writes the purchased amount.
    pub const WRITE_PURCHASE: Self = Self(0xA013);
    /// Writes a new key.
    pub const WRITE_KEY: Self = Self(0xA014);
    /// Writes date and time.
    pub const WRITE_CLOCK: Self = Self(0xA015);
    /// Writes the counter's start.
    pub const WRITE_COUNTER: Self = Self(0xA016);
    /// Moves the valve; some meters show its state under it.
    pub const VALVE: Self = Self(0xA017);
    /// Writes the address.
    pub const WRITE_ADDRESS: Self = Self(0xA018);
    /// Puts the meter into service.
    pub const COMMISSION: Self = Self(0xA019);

    /// What stood at the end of the `n`th month before this one, 1 to 12: D120 to D12B.
    pub fn settlement_month(n: u8) -> Option<Self> {
        (1..=12).contains(&n).then(|| Self(0xD11F + u16::from(n)))
    }

    /// The reverse of [`DataId::settlement_month`].
    pub fn months_back(self) -> Option<u8> {
        let n = self.0.checked_sub(0xD11F)?;
        u8::try_from(n).ok().filter(|n| (1..=12).contains(n))
    }

    /// What it is; none where the standard does not say.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::CURRENT => "current data",
            Self::PRICES => "price table",
            Self::SETTLEMENT_DAY => "settlement day",
            Self::READING_DAY => "reading day",
            Self::PURCHASE => "purchased amount",
            Self::KEY_VERSION => "key version",
            Self::READ_ADDRESS => "address",
            Self::WRITE_PRICES => "write price table",
            Self::WRITE_SETTLEMENT_DAY => "write settlement day",
            Self::WRITE_READING_DAY => "write reading day",
            Self::WRITE_PURCHASE => "write purchased amount",
            Self::WRITE_KEY => "write key",
            Self::WRITE_CLOCK => "write date and time",
            Self::WRITE_COUNTER => "write counter start",
            Self::VALVE => "valve",
            Self::WRITE_ADDRESS => "write address",
            Self::COMMISSION => "commission",
            _ if self.months_back().is_some() => "settlement month",
            _ => return None,
        })
    }

    /// Its bytes on the wire.
    pub fn wire(self, order: DiOrder) -> [u8; 2] {
        match order {
            DiOrder::HighFirst => self.0.to_be_bytes(),
            DiOrder::LowFirst => self.0.to_le_bytes(),
        }
    }

    /// Reads two bytes.
    pub fn read(bytes: [u8; 2], order: DiOrder) -> Self {
        Self(match order {
            DiOrder::HighFirst => u16::from_be_bytes(bytes),
            DiOrder::LowFirst => u16::from_le_bytes(bytes),
        })
    }

    /// Reads two bytes in the order in which the standard knows them; high first where it knows neither.
    pub fn guess(bytes: [u8; 2]) -> (Self, DiOrder) {
        let [high, low] = [DiOrder::HighFirst, DiOrder::LowFirst].map(|order| (Self::read(bytes, order), order));
        if high.0.name().is_none() && low.0.name().is_some() {
            low
        } else {
            high
        }
    }
}

impl fmt::Display for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settlement_months_are_twelve_and_count_backwards() {
        assert_eq!(DataId::settlement_month(1), Some(DataId(0xD120)));
        assert_eq!(DataId::settlement_month(12), Some(DataId(0xD12B)));
        assert_eq!(
            (DataId::settlement_month(0), DataId::settlement_month(13)),
            (None, None)
        );
        for n in 1..=12 {
            assert_eq!(DataId::settlement_month(n).and_then(DataId::months_back), Some(n));
        }
        assert_eq!(
            (DataId(0xD11F).months_back(), DataId(0xD12C).months_back()),
            (None, None)
        );
    }

    #[test]
    fn both_orders_are_recognised() {
        assert_eq!(DataId::guess([0x90, 0x1F]), (DataId::CURRENT, DiOrder::HighFirst));
        assert_eq!(DataId::guess([0x1F, 0x90]), (DataId::CURRENT, DiOrder::LowFirst));
        assert_eq!(DataId::guess([0x17, 0xA0]), (DataId::VALVE, DiOrder::LowFirst));
        assert_eq!(DataId::guess([0x12, 0x34]), (DataId(0x1234), DiOrder::HighFirst));
        assert_eq!(DataId::CURRENT.wire(DiOrder::LowFirst), [0x1F, 0x90]);
    }
}
