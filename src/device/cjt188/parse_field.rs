//! Reading one field of a CJ/T 188 record: a number, the clock, the status word, or bytes to pass over.

use super::{Field, Given, Part};
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields};
use crate::device::modbus::parse_point::measurand;
use crate::device::units;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::cjt188::Unit;
use crate::protocol::cjt188::record::{Form, UnitPlace};
use crate::protocol::cjt188::value::{StatusBits, TimeOrder};
use rust_decimal::Decimal;

/// The vendor quantity of a low battery.
pub(super) const BATTERY_LOW: &str = "battery_low";

pub(super) fn field(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Field> {
    let found = if table.has("clock") {
        clock(faults, &mut table)
    } else if table.has("status") {
        status(faults, &mut table)
    } else if table.has("skip") {
        let bytes = table.integer(faults, "skip", 1..=250);
        bytes
            .and_then(|at| u8::try_from(at.value).ok())
            .map(|bytes| plain(Form::Raw(bytes)))
    } else {
        number(faults, &mut table)
    };
    let poll = table.flag(faults, "poll").is_none_or(|at| at.value);
    table.finish(faults);
    found.map(|field| Field { poll, ..field })
}

/// A field that gives nothing by itself.
fn plain(form: Form) -> Field {
    Field {
        form,
        unit: String::new(),
        gives: Vec::new(),
        status: None,
        poll: true,
    }
}

fn clock(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<Field> {
    let text = table.text(faults, "clock")?;
    let order = match text.value {
        "seconds_first" => TimeOrder::SecondsFirst,
        "year_first" => TimeOrder::YearFirst,
        "no_century" => TimeOrder::NoCentury,
        other => {
            let help = "use \"seconds_first\" (the standard), \"year_first\" or \"no_century\"";
            faults.add(&text.span, format!("unknown clock `{other}`"), help);
            return None;
        }
    };
    Some(plain(Form::Time(order)))
}

fn status(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<Field> {
    let text = table.text(faults, "status");
    let valve = table.flag(faults, "valve").is_some_and(|at| at.value);
    let battery = table.flag(faults, "battery").is_some_and(|at| at.value);
    let text = text?;
    let bits = match text.value {
        "low" => StatusBits::Low,
        "high" => StatusBits::High,
        other => {
            let help = "use \"low\" (valve in bits 1 and 0, the standard) or \"high\" (bits 7 and 6)";
            faults.add(&text.span, format!("unknown status bits `{other}`"), help);
            return None;
        }
    };
    let mut gives = vec![Given {
        measurand: Measurand::Standard(Quantity::StatusWord),
        part: Part::Word,
    }];
    if valve {
        let measurand = Measurand::Standard(Quantity::ValveState);
        gives.push(Given {
            measurand,
            part: Part::Valve,
        });
    }
    if battery {
        gives.push(Given {
            measurand: Measurand::Vendor(BATTERY_LOW.into()),
            part: Part::BatteryLow,
        });
    }
    Some(Field {
        gives,
        status: Some(bits),
        ..plain(Form::Status)
    })
}

fn number(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<Field> {
    let measurand = measurand(faults, table);
    let signed = table.flag(faults, "signed_byte").is_some_and(|at| at.value);
    let bytes = table.integer(faults, "bytes", 1..=9);
    let bytes = if signed {
        bytes
    } else {
        table.need(faults, "bytes", bytes)
    };
    let decimals = table.integer(faults, "decimals", 0..=9).map_or(0, |at| at.value);
    let unit = table.text(faults, "unit");
    let unit = table.need(faults, "unit", unit);
    let place = match table.text(faults, "unit_code") {
        None => UnitPlace::Fixed,
        Some(At { value: "after", .. }) => UnitPlace::After,
        Some(At { value: "before", .. }) => UnitPlace::Before,
        Some(At { value, span }) => {
            let help = "use \"after\" or \"before\" the digits, or leave it out where the frame says no unit";
            faults.add(&span, format!("unknown place `{value}`"), help);
            return None;
        }
    };
    let (measurand, unit) = (measurand?.value, unit?);
    if let Measurand::Standard(quantity) = measurand
        && units::convert(Decimal::ONE, unit.value, quantity.unit()).is_none()
    {
        let canonical = quantity.unit();
        let what = format!(
            "`{}` does not convert to {}, the unit of {quantity}",
            unit.value,
            canonical.symbol()
        );
        let known: Vec<&str> = units::spellings(canonical).collect();
        faults.add(&unit.span, what, format!("use {}", known.join(", ")));
        return None;
    }
    if place != UnitPlace::Fixed && Unit::by_symbol(unit.value).is_none() {
        let known: Vec<&str> = Unit::ALL
            .iter()
            .filter(|unit| unit.times == 1)
            .map(|unit| unit.symbol)
            .collect();
        let what = format!("`{}` has no code in the standard", unit.value);
        faults.add(
            &unit.span,
            what,
            format!("use {}, or leave out `unit_code`", known.join(", ")),
        );
        return None;
    }
    let form = if signed {
        if bytes.is_some() || decimals != 0 || place != UnitPlace::Fixed {
            let help = "leave out `bytes`, `decimals` and `unit_code`";
            faults.add(&table.span, "a signed byte has no digits and no unit beside it", help);
        }
        Form::Byte
    } else {
        Form::Number {
            bytes: u8::try_from(bytes?.value).ok()?,
            decimals: u8::try_from(decimals).ok()?,
            unit: place,
        }
    };
    let gives = vec![Given {
        measurand,
        part: Part::Number,
    }];
    Some(Field {
        unit: unit.value.to_owned(),
        gives,
        ..plain(form)
    })
}
