//! Unit codes (CJ/T 188-2004, table A.1): one byte beside each number.

/// What a unit measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Heat or cooling energy.
    Energy,
    /// Heat power.
    Power,
    /// Volume.
    Volume,
    /// Volume in a time.
    Flow,
}

/// A unit of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// The byte.
    pub code: u8,
    /// The symbol, without the factor.
    pub symbol: &'static str,
    /// Each count is so many of the symbol: 1, or 100 for `MWh × 100` and `GJ × 100`.
    pub times: u8,
    /// What it measures.
    pub dimension: Dimension,
}

const fn unit(code: u8, symbol: &'static str, times: u8, dimension: Dimension) -> Unit {
    Unit {
        code,
        symbol,
        times,
        dimension,
    }
}

const UNITS: &[Unit] = &[
    unit(0x01, "J", 1, Dimension::Energy),
    unit(0x02, "Wh", 1, Dimension::Energy),
    unit(0x05, "kWh", 1, Dimension::Energy),
    unit(0x08, "MWh", 1, Dimension::Energy),
    unit(0x0A, "MWh", 100, Dimension::Energy),
    unit(0x0B, "kJ", 1, Dimension::Energy),
    unit(0x0E, "MJ", 1, Dimension::Energy),
    unit(0x11, "GJ", 1, Dimension::Energy),
    unit(0x13, "GJ", 100, Dimension::Energy),
    unit(0x14, "W", 1, Dimension::Power),
    unit(0x17, "kW", 1, Dimension::Power),
    unit(0x1A, "MW", 1, Dimension::Power),
    unit(0x29, "L", 1, Dimension::Volume),
    unit(0x2C, "m3", 1, Dimension::Volume),
    unit(0x32, "L/h", 1, Dimension::Flow),
    unit(0x35, "m3/h", 1, Dimension::Flow),
];

impl Unit {
    /// Every unit.
    pub const ALL: &'static [Self] = UNITS;

    /// Finds a unit by its byte.
    pub fn by_code(code: u8) -> Option<&'static Self> {
        UNITS.iter().find(|unit| unit.code == code)
    }

    /// Finds a unit by its symbol, those with a factor left out.
    pub fn by_symbol(symbol: &str) -> Option<&'static Self> {
        UNITS.iter().find(|unit| unit.symbol == symbol && unit.times == 1)
    }

    /// As it is written: `MWh`, `MWh × 100`.
    pub fn name(&self) -> String {
        match self.times {
            1 => self.symbol.to_owned(),
            times => format!("{} × {times}", self.symbol),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found() {
        for unit in Unit::ALL {
            assert_eq!(Unit::by_code(unit.code), Some(unit));
        }
        assert_eq!(Unit::by_code(0x2C).map(|unit| unit.symbol), Some("m3"));
        assert_eq!(Unit::by_symbol("MWh").map(|unit| unit.code), Some(0x08));
        assert_eq!(Unit::by_code(0x0A).map(Unit::name).as_deref(), Some("MWh × 100"));
        assert_eq!(Unit::by_code(0), None);
    }
}
