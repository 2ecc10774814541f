//! The bounds of the physically possible, wide enough for transformer-connected meters: what lies outside is kept as it
//! came and marked suspect.

use crate::domain::quantity::{Kind, Quantity, Unit};
use crate::domain::reading::Value;
use rust_decimal::prelude::ToPrimitive;

/// Whether a value in the canonical unit can be true of a meter.
pub(super) fn plausible(quantity: Quantity, value: f64) -> bool {
    let (low, high) = bounds(quantity);
    (low..=high).contains(&value)
}

/// A value as a float, for comparing with bounds only.
pub(super) fn approximate(value: Value) -> f64 {
    match value {
        Value::Decimal(value) => value.to_f64().unwrap_or(f64::MAX),
        Value::F32(value) => value.into(),
        Value::F64(value) => value,
    }
}

fn bounds(quantity: Quantity) -> (f64, f64) {
    match quantity.unit() {
        Unit::Volt => (0.0, 1e6),
        Unit::Ampere => (-1e5, 1e5),
        Unit::Hertz => (0.0, 1e3),
        Unit::Watt | Unit::Var | Unit::VoltAmpere => (-1e10, 1e10),
        // balances of import and export run below zero; a register that only counts does not
        Unit::KilowattHour | Unit::KilovarHour | Unit::KilovoltAmpereHour => match quantity {
            Quantity::ActiveEnergyNet
            | Quantity::ActiveEnergyTotal
            | Quantity::ActiveEnergyTotalL1
            | Quantity::ActiveEnergyTotalL2
            | Quantity::ActiveEnergyTotalL3
            | Quantity::ReactiveEnergyTotal
            | Quantity::CreditEnergy => (-1e13, 1e13),
            _ => (0.0, 1e13),
        },
        Unit::CubicMetre => (0.0, 1e10),
        Unit::CubicMetrePerHour => (-1e6, 1e6),
        Unit::Celsius => (-100.0, 1000.0),
        Unit::Kelvin => (-1000.0, 1000.0),
        Unit::Percent => (0.0, 1000.0),
        Unit::One => match quantity {
            Quantity::PowerFactorTotal
            | Quantity::PowerFactorL1
            | Quantity::PowerFactorL2
            | Quantity::PowerFactorL3 => (-1.01, 1.01),
            _ if quantity.kind() == Kind::State => (f64::MIN, f64::MAX),
            _ => (0.0, 1e9),
        },
        Unit::Degree => (-360.0, 360.0),
        Unit::Bar => (-1.0, 1e3),
        Unit::Hour => (0.0, 1e7),
        Unit::Currency => (-1e12, 1e12),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_are_suspect_and_large_plants_are_not() {
        assert!(plausible(Quantity::VoltageL1, 230.0));
        assert!(plausible(Quantity::VoltageL1L2, 110_000.0));
        assert!(!plausible(Quantity::VoltageL1, -1.0));
        assert!(!plausible(Quantity::PowerFactorTotal, 1.5));
        assert!(!plausible(Quantity::ActiveEnergyImport, -0.01));
        assert!(plausible(Quantity::ActiveEnergyNet, -0.01));
        assert!(!plausible(Quantity::ActivePowerTotal, 3e38));
    }
}
