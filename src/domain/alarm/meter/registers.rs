//! Registers: one that goes back, and one that stands still though power flows.

use super::{Ground, MeterWatch, Seen, Shown, Values, raise};
use crate::domain::alarm::latch::Sign;
use crate::domain::alarm::rule::{BackwardCheck, Rule, StuckCheck};
use crate::domain::alarm::{Change, Detail};
use crate::domain::quantity::Quantity;
use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive, ToPrimitive};

/// Registers that only grow.
pub(super) const GROWING: [Quantity; 6] = [
    Quantity::ActiveEnergyImport,
    Quantity::ActiveEnergyTotal,
    Quantity::ActiveEnergyExport,
    Quantity::VolumeTotal,
    Quantity::HeatEnergy,
    Quantity::GasVolume,
];
/// What consumption without a power reading is judged by.
const STANDING: [Quantity; 2] = [Quantity::ActiveEnergyImport, Quantity::ActiveEnergyTotal];

/// Keeps what the registers show, forwards in time.
pub(super) fn remember(values: &Values<'_>, watch: &mut MeterWatch) {
    let at = values.reading.read_at;
    for quantity in GROWING {
        let Some(value) = values.register(quantity) else {
            continue;
        };
        let newer = watch.registers.get(&quantity).is_none_or(|shown| shown.at < at);
        if newer {
            watch.registers.insert(quantity, Shown { at, value });
        }
    }
}

/// Whether a register of four to nine digits rolled over: it stood near its end and stands near its beginning now.
fn rolled_over(before: Decimal, now: Decimal) -> bool {
    (4..=9).any(|digits| {
        let Some(end) = 10_i64.checked_pow(digits).map(Decimal::from) else {
            return false;
        };
        let near = end / Decimal::from(50);
        before < end && before > end - near && now < near
    })
}

pub(super) fn backward(
    check: &BackwardCheck,
    rule: &Rule,
    ground: Ground<'_>,
    values: &Values<'_>,
    watch: &MeterWatch,
) -> Vec<Change> {
    let at = values.reading.read_at;
    let tolerance = Decimal::from_f64(check.tolerance).unwrap_or_default();
    GROWING
        .into_iter()
        .filter_map(|quantity| {
            let value = values.register(quantity)?;
            let before = watch.registers.get(&quantity).filter(|shown| shown.at < at)?;
            let back = before.value.checked_sub(value)?;
            if back <= tolerance || rolled_over(before.value, value) {
                return None;
            }
            let detail = Detail {
                quantity: Some(quantity.name().to_owned()),
                value: Some(value.normalize().to_string()),
                expected: Some(before.value.normalize().to_string()),
                unit: Some(quantity.unit().symbol().to_owned()),
                since: Some(before.at),
                ..values.detail()
            };
            Some(raise(rule, ground, quantity.name(), at, detail))
        })
        .collect()
}

pub(super) fn stuck(check: &StuckCheck, values: &Values<'_>, watch: &MeterWatch) -> Vec<Seen> {
    let power = values.number(Quantity::ActivePowerTotal).map(f64::abs);
    let flows = match power {
        Some(power) => power >= check.power_w,
        // nobody knows whether anything flows: only a rule that does not ask can judge
        None => check.power_w <= 0.0,
    };
    STANDING
        .into_iter()
        .filter_map(|quantity| {
            let value = values.register(quantity)?;
            let before = watch
                .registers
                .get(&quantity)
                .filter(|shown| shown.at < values.reading.read_at)?;
            let stands = value == before.value;
            let sign = match (stands, flows) {
                (true, true) => Sign::Bad,
                (false, _) => Sign::Good,
                // nothing flows and nothing is counted: as it should be, and no proof that it counts again
                (true, false) => Sign::Between,
            };
            Seen::of(
                values,
                || quantity.name().to_owned(),
                sign,
                (check.for_s, 0),
                || Detail {
                    quantity: Some(quantity.name().to_owned()),
                    value: Some(value.normalize().to_string()),
                    unit: Some(quantity.unit().symbol().to_owned()),
                    note: power
                        .and_then(|power| power.round().to_i64())
                        .map(|power| format!("{power} W flow")),
                    ..values.detail()
                },
            )
        })
        .collect()
}
