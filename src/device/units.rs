//! Units as meters send them, and the exact factor that makes the canonical unit of them.

use crate::domain::quantity::Unit;
use rust_decimal::Decimal;
use rust_decimal::dec;

/// The units that convert exactly, with what they make.
const UNITS: &[(&str, Unit, Decimal)] = &[
    ("mV", Unit::Volt, dec!(0.001)),
    ("V", Unit::Volt, dec!(1)),
    ("kV", Unit::Volt, dec!(1000)),
    ("mA", Unit::Ampere, dec!(0.001)),
    ("A", Unit::Ampere, dec!(1)),
    ("kA", Unit::Ampere, dec!(1000)),
    ("mHz", Unit::Hertz, dec!(0.001)),
    ("Hz", Unit::Hertz, dec!(1)),
    ("mW", Unit::Watt, dec!(0.001)),
    ("W", Unit::Watt, dec!(1)),
    ("kW", Unit::Watt, dec!(1000)),
    ("MW", Unit::Watt, dec!(1000000)),
    ("var", Unit::Var, dec!(1)),
    ("kvar", Unit::Var, dec!(1000)),
    ("Mvar", Unit::Var, dec!(1000000)),
    ("VA", Unit::VoltAmpere, dec!(1)),
    ("kVA", Unit::VoltAmpere, dec!(1000)),
    ("MVA", Unit::VoltAmpere, dec!(1000000)),
    ("Wh", Unit::KilowattHour, dec!(0.001)),
    ("kWh", Unit::KilowattHour, dec!(1)),
    ("MWh", Unit::KilowattHour, dec!(1000)),
    ("GWh", Unit::KilowattHour, dec!(1000000)),
    ("varh", Unit::KilovarHour, dec!(0.001)),
    ("kvarh", Unit::KilovarHour, dec!(1)),
    ("Mvarh", Unit::KilovarHour, dec!(1000)),
    ("VAh", Unit::KilovoltAmpereHour, dec!(0.001)),
    ("kVAh", Unit::KilovoltAmpereHour, dec!(1)),
    ("MVAh", Unit::KilovoltAmpereHour, dec!(1000)),
    ("l", Unit::CubicMetre, dec!(0.001)),
    ("L", Unit::CubicMetre, dec!(0.001)),
    ("m³", Unit::CubicMetre, dec!(1)),
    ("m3", Unit::CubicMetre, dec!(1)),
    ("l/h", Unit::CubicMetrePerHour, dec!(0.001)),
    ("l/min", Unit::CubicMetrePerHour, dec!(0.06)),
    ("l/s", Unit::CubicMetrePerHour, dec!(3.6)),
    ("m³/h", Unit::CubicMetrePerHour, dec!(1)),
    ("m³/min", Unit::CubicMetrePerHour, dec!(60)),
    ("m³/s", Unit::CubicMetrePerHour, dec!(3600)),
    ("m3/h", Unit::CubicMetrePerHour, dec!(1)),
    ("°C", Unit::Celsius, dec!(1)),
    ("K", Unit::Kelvin, dec!(1)),
    ("%", Unit::Percent, dec!(1)),
    ("1", Unit::One, dec!(1)),
    ("deg", Unit::Degree, dec!(1)),
    ("°", Unit::Degree, dec!(1)),
    ("mbar", Unit::Bar, dec!(0.001)),
    ("kPa", Unit::Bar, dec!(0.01)),
    ("MPa", Unit::Bar, dec!(10)),
    ("bar", Unit::Bar, dec!(1)),
    ("h", Unit::Hour, dec!(1)),
    ("d", Unit::Hour, dec!(24)),
    ("currency", Unit::Currency, dec!(1)),
    ("yuan", Unit::Currency, dec!(1)),
];

/// Units that make no finite decimal of the canonical one: so many of what makes one of it.
const PARTS: &[(&str, Unit, Decimal, Decimal)] = &[
    ("J", Unit::KilowattHour, dec!(1), dec!(3600000)),
    ("kJ", Unit::KilowattHour, dec!(1000), dec!(3600000)),
    ("MJ", Unit::KilowattHour, dec!(1000000), dec!(3600000)),
    ("GJ", Unit::KilowattHour, dec!(1000000000), dec!(3600000)),
    ("J/h", Unit::Watt, dec!(1), dec!(3600)),
    ("s", Unit::Hour, dec!(1), dec!(3600)),
    ("min", Unit::Hour, dec!(1), dec!(60)),
];
/// Decimals that are kept of them: of kilowatt-hours made of joules 3.6 mJ, far below what a meter counts.
const PART_DECIMALS: u32 = 9;

/// A value in the canonical unit; none when the unit is no such unit, or the value too large. Exact, but for what makes
/// no finite decimal (joules, seconds and minutes): that is rounded to nine decimals.
pub fn convert(value: Decimal, text: &str, canonical: Unit) -> Option<Decimal> {
    match (factor(text, canonical), parts(text, canonical)) {
        (Some(factor), _) => value.checked_mul(factor).map(|value| value.normalize()),
        (None, Some((of, in_one))) => {
            let converted = value.checked_mul(of)?.checked_div(in_one)?;
            Some(converted.round_dp(PART_DECIMALS).normalize())
        }
        (None, None) => None,
    }
}

/// The reverse of [`convert`].
pub fn convert_back(value: Decimal, text: &str, canonical: Unit) -> Option<Decimal> {
    match (factor(text, canonical), parts(text, canonical)) {
        (Some(factor), _) => value.checked_div(factor),
        (None, Some((of, in_one))) => value.checked_mul(in_one)?.checked_div(of),
        (None, None) => None,
    }
}

fn parts(text: &str, canonical: Unit) -> Option<(Decimal, Decimal)> {
    let found = PARTS
        .iter()
        .find(|(name, unit, ..)| *name == text && *unit == canonical)?;
    Some((found.2, found.3))
}

/// The factor that makes the canonical unit of a unit; none when it is no such unit.
pub fn factor(text: &str, canonical: Unit) -> Option<Decimal> {
    UNITS
        .iter()
        .find(|(name, unit, _)| *name == text && *unit == canonical)
        .map(|(_, _, factor)| *factor)
}

/// Every spelling that converts exactly to a canonical unit.
pub fn spellings(canonical: Unit) -> impl Iterator<Item = &'static str> {
    UNITS
        .iter()
        .filter(move |(_, unit, _)| *unit == canonical)
        .map(|(name, _, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canonical_unit_converts_to_itself() {
        for unit in Unit::ALL {
            assert_eq!(factor(unit.symbol(), *unit), Some(dec!(1)), "{}", unit.symbol());
        }
    }

    #[test]
    fn what_meters_send_converts_exactly() {
        assert_eq!(factor("Wh", Unit::KilowattHour), Some(dec!(0.001)));
        assert_eq!(factor("l/min", Unit::CubicMetrePerHour), Some(dec!(0.06)));
        assert_eq!(factor("kW", Unit::KilowattHour), None);
    }

    #[test]
    fn joules_become_kilowatt_hours_to_nine_decimals_and_back() {
        let kwh = |value, unit| convert(value, unit, Unit::KilowattHour);
        assert_eq!(kwh(dec!(12.34), "GJ"), Some(dec!(3427.777777778)));
        assert_eq!(kwh(dec!(3.6), "MJ"), Some(dec!(1)));
        assert_eq!(kwh(dec!(12.34), "MWh"), Some(dec!(12340)));
        assert_eq!(convert(dec!(1), "GJ", Unit::Watt), None);
        assert_eq!(kwh(Decimal::MAX, "GJ"), None);
        let back = convert_back(dec!(3427.777777778), "GJ", Unit::KilowattHour);
        assert_eq!(back.map(|value| value.round_dp(6)), Some(dec!(12.34)));
        assert_eq!(convert_back(dec!(12340), "MWh", Unit::KilowattHour), Some(dec!(12.34)));
        assert_eq!(convert(dec!(3600), "J/h", Unit::Watt), Some(dec!(1)));
        assert_eq!(convert(dec!(90), "min", Unit::Hour), Some(dec!(1.5)));
        assert_eq!(convert(dec!(100), "s", Unit::Hour), Some(dec!(0.027777778)));
    }
}
