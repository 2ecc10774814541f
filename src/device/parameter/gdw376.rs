//! Settings of concentrators of Q/GDW 1376.1: items of AFN 04 and 0A, and the clock (AFN 0C F2, set by AFN 05 F31).

use super::{Bits, Parameter, Place as AnyPlace, PlaceError, choice_code, choice_named, spec};
use crate::base::bytes::Reader;
use crate::domain::parameter::{Kind, MOMENT, Numbered, ParameterGroup, ParameterSpec, ParameterValue};
use crate::protocol::gdw376::format::Value;
use crate::protocol::gdw376::layout::{Entry, Reading};
use crate::protocol::gdw376::{Afn, Edition, Fn, Id, Pn, Way, item_layout};
use chrono::NaiveDateTime;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Where a setting stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// In a field of an item.
    Field {
        /// F.
        item: u8,
        /// The field.
        field: &'static str,
        /// Some bits of it alone.
        bits: Option<Bits>,
    },
    /// The clock.
    Clock,
}

const fn row(spec: ParameterSpec, item: u8, field: &'static str, bits: Option<Bits>) -> Parameter {
    Parameter {
        spec,
        place: AnyPlace::Gdw376(Place::Field { item, field, bits }),
    }
}

const fn whole(min: i64, max: i64) -> Kind {
    Kind::Whole { min, max }
}

/// A limit of a measuring point, which may be negative where its format has a sign; a limit is not.
const fn limit(max: i64, decimals: u32) -> Kind {
    Kind::Decimal { min: 0, max, decimals }
}

const fn of_point(spec: ParameterSpec) -> ParameterSpec {
    ParameterSpec {
        numbered: Numbered::MeasuringPoint,
        ..spec
    }
}

const fn of_task(spec: ParameterSpec) -> ParameterSpec {
    ParameterSpec {
        numbered: Numbered::Task,
        ..spec
    }
}

const F1: (&str, &str) = ("F1", "Q/GDW 1376.1-2013, AFN 04 F1");
const F3: (&str, &str) = ("F3", "Q/GDW 1376.1-2013, AFN 04 F3");
const F8: (&str, &str) = ("F8", "Q/GDW 1376.1-2013, AFN 04 F8");
const F9: (&str, &str) = ("F9", "Q/GDW 1376.1-2013, AFN 04 F9");
const F26: (&str, &str) = ("F26", "Q/GDW 1376.1-2013, AFN 04 F26");
const F28: (&str, &str) = ("F28", "Q/GDW 1376.1-2013, AFN 04 F28");
const F36: (&str, &str) = ("F36", "Q/GDW 1376.1-2013, AFN 04 F36");
const F59: (&str, &str) = ("F59", "Q/GDW 1376.1-2013, AFN 04 F59");
const F65: (&str, &str) = ("F65", "Q/GDW 1376.1-2013, AFN 04 F65");
const F66: (&str, &str) = ("F66", "Q/GDW 1376.1-2013, AFN 04 F66");
const F67: (&str, &str) = ("F67", "Q/GDW 1376.1-2013, AFN 04 F67");
const F68: (&str, &str) = ("F68", "Q/GDW 1376.1-2013, AFN 04 F68");
const F31: (&str, &str) = ("F31", "Q/GDW 1376.1-2013, AFN 05 F31 and AFN 0C F2");

const WAIT: &str = "answer within and attempts";
const MODE: &str = "mode";
const PERIOD: &str = "period";
const UNITS: Kind = Kind::Choice(&[("minutes", 0), ("hours", 1), ("days", 2), ("months", 3)]);
const RUNS: Kind = Kind::Choice(&[("runs", 0x55), ("stopped", 0xAA)]);

const fn bits(first: u32, count: u32) -> Option<Bits> {
    Some(Bits { first, count })
}

use ParameterGroup::{Communication as COMM, Events, Tasks, Thresholds, Time};

/// The settings.
#[rustfmt::skip]
pub const CATALOGUE: &[Parameter] = &[
    row(spec("send_delay",      whole(0, 255),   "min", COMM, F1), 1, "transmission delay", None),
    row(spec("answer_within",   whole(1, 4_095), "s",   COMM, F1), 1, WAIT, bits(0, 12)),
    row(spec("attempts",        whole(0, 3),     "",    COMM, F1), 1, WAIT, bits(12, 2)),
    row(spec("confirmed_reports", Kind::Numbers { max: 3 }, "", COMM, F1), 1, "services to confirm", bits(0, 3)),
    row(spec("heartbeat",       whole(1, 255),   "min", COMM, F1), 1, "heartbeat", None),
    row(spec("master_address",  Kind::Address,   "",    COMM, F3), 3, "main address", None),
    row(spec("master_port",     whole(1, 65_535), "",   COMM, F3), 3, "main port", None),
    row(spec("spare_address",   Kind::Address,   "",    COMM, F3), 3, "spare address", None),
    row(spec("spare_port",      whole(0, 65_535), "",   COMM, F3), 3, "spare port", None),
    row(spec("apn",             Kind::Text { max: 16 }, "", COMM, F3), 3, "access point", None),
    row(spec("transport",       Kind::Choice(&[("tcp", 0), ("udp", 1)]), "", COMM, F8), 8, MODE, bits(7, 1)),
    row(spec("work_mode",       Kind::Choice(&[("mixed", 0), ("client", 1), ("server", 2)]), "", COMM, F8), 8, MODE, bits(4, 2)),
    row(spec("online_mode",     Kind::Choice(&[("always", 1), ("when_called", 2), ("by_hours", 3)]), "", COMM, F8), 8, MODE, bits(0, 2)),
    row(spec("redial_after",    whole(0, 65_535), "s",  COMM, F8), 8, "dial again after", None),
    row(spec("redial_at_most",  whole(0, 255),   "",    COMM, F8), 8, "dial at most", None),
    row(spec("hang_up_after",   whole(0, 255),   "min", COMM, F8), 8, "disconnect after silence of", None),
    Parameter { spec: spec("clock", Kind::Clock, "", Time, F31), place: AnyPlace::Gdw376(Place::Clock) },
    row(spec("events_kept",     Kind::Numbers { max: 64 }, "", Events, F9), 9, "kept", None),
    row(spec("events_important", Kind::Numbers { max: 64 }, "", Events, F9), 9, "important", None),
    row(spec("monthly_traffic", whole(0, 4_294_967_295), "B", Thresholds, F36), 36, "monthly limit", None),
    row(spec("meter_energy_off", limit(99, 1),   "",    Thresholds, F59), 59, "energy off by", None),
    row(spec("meter_flies",     limit(99, 1),    "",    Thresholds, F59), 59, "flies at", None),
    row(spec("meter_stands_still", whole(0, 255), "15 min", Thresholds, F59), 59, "stands still for", None),
    row(spec("meter_clock_off", whole(0, 255),   "min", Thresholds, F59), 59, "clock off by", None),
    row(of_point(spec("voltage_upper_limit", limit(9_999, 1), "V", Thresholds, F26)), 26, "voltage upper limit", None),
    row(of_point(spec("voltage_lower_limit", limit(9_999, 1), "V", Thresholds, F26)), 26, "voltage lower limit", None),
    row(of_point(spec("phase_loss_below",    limit(9_999, 1), "V", Thresholds, F26)), 26, "phase loss below", None),
    row(of_point(spec("overvoltage_limit",   limit(9_999, 1), "V", Thresholds, F26)), 26, "voltage upper upper limit", None),
    row(of_point(spec("undervoltage_limit",  limit(9_999, 1), "V", Thresholds, F26)), 26, "voltage lower lower limit", None),
    row(of_point(spec("overcurrent_limit",   limit(799_999, 3), "A", Thresholds, F26)), 26, "current upper upper limit", None),
    row(of_point(spec("current_upper_limit", limit(799_999, 3), "A", Thresholds, F26)), 26, "current upper limit", None),
    row(of_point(spec("voltage_unbalance_limit", limit(7_999, 1), "%", Thresholds, F26)), 26, "voltage unbalance limit", None),
    row(of_point(spec("current_unbalance_limit", limit(7_999, 1), "%", Thresholds, F26)), 26, "current unbalance limit", None),
    row(of_point(spec("power_factor_limit_1", limit(1_000, 1), "%", Thresholds, F28)), 28, "limit 1", None),
    row(of_point(spec("power_factor_limit_2", limit(1_000, 1), "%", Thresholds, F28)), 28, "limit 2", None),
    row(of_task(spec("class1_task_period",      whole(1, 63), "", Tasks, F65)), 65, PERIOD, bits(0, 6)),
    row(of_task(spec("class1_task_period_unit", UNITS, "", Tasks, F65)), 65, PERIOD, bits(6, 2)),
    row(of_task(spec("class1_task_first_at",    Kind::Moment, "", Tasks, F65)), 65, "first report", None),
    row(of_task(spec("class1_task_every",       whole(1, 96), "", Tasks, F65)), 65, "every how many", None),
    row(of_task(spec("class1_task",             RUNS, "", Tasks, F67)), 67, "55 runs, AA stopped", None),
    row(of_task(spec("class2_task_period",      whole(1, 63), "", Tasks, F66)), 66, PERIOD, bits(0, 6)),
    row(of_task(spec("class2_task_period_unit", UNITS, "", Tasks, F66)), 66, PERIOD, bits(6, 2)),
    row(of_task(spec("class2_task_first_at",    Kind::Moment, "", Tasks, F66)), 66, "first report", None),
    row(of_task(spec("class2_task_every",       whole(1, 96), "", Tasks, F66)), 66, "every how many", None),
    row(of_task(spec("class2_task",             RUNS, "", Tasks, F68)), 68, "55 runs, AA stopped", None),
];

/// What is asked for a setting of a measuring point or task (0: of the terminal), and by which function.
pub fn question(place: &Place, number: u16) -> Option<(Afn, Id)> {
    match place {
        Place::Clock => Some((Afn::REALTIME, Id::terminal(Fn::F2))),
        Place::Field { item, .. } => Some((
            Afn::QUERY,
            Id {
                pn: match number {
                    0 => Pn::TERMINAL,
                    number => Pn::new(number)?,
                },
                item: Fn::new(*item)?,
            },
        )),
    }
}

fn reading(afn: Afn, item: Fn, data: &[u8], name: &'static str) -> Result<Reading, PlaceError> {
    let layout = item_layout(afn, item, Way::Up, Edition::default());
    let read = layout.and_then(|layout| layout.read(&mut Reader::new(data)));
    read.and_then(Result::ok).ok_or(PlaceError::Missing(name))
}

fn entry<'a>(reading: &'a Reading, field: &str, name: &'static str) -> Result<&'a Entry, PlaceError> {
    let mut entries = reading.entries.iter();
    entries
        .find(|entry| entry.field.name == field)
        .ok_or(PlaceError::Missing(name))
}

/// The value of a setting in what its item says.
///
/// # Errors
/// [`PlaceError`].
pub fn read(parameter: &Parameter, place: &Place, data: &[u8]) -> Result<ParameterValue, PlaceError> {
    let name = parameter.spec.name;
    let (reading, field, bits) = match place {
        Place::Clock => (reading(Afn::REALTIME, Fn::F2, data, name)?, None, None),
        Place::Field { item, field, bits } => {
            let item = Fn::new(*item).ok_or(PlaceError::Missing(name))?;
            (reading(Afn::QUERY, item, data, name)?, Some(*field), *bits)
        }
    };
    let entry = match field {
        Some(field) => entry(&reading, field, name)?,
        None => reading.entries.first().ok_or(PlaceError::Missing(name))?,
    };
    let value = entry.value.as_ref().map_err(|_| PlaceError::NoValue(name))?;
    value_of(&parameter.spec.kind, value, bits).ok_or(PlaceError::NoValue(name))
}

/// A field as a number, and the bits of it that are meant.
fn code_of(value: &Value, bits: Option<Bits>) -> Option<u64> {
    let whole = match value {
        Value::Number(number) => number.to_u64()?,
        Value::Bits(bits) => *bits,
        _ => return None,
    };
    Some(bits.map_or(whole, |bits| bits.of(whole)))
}

fn value_of(kind: &Kind, value: &Value, bits: Option<Bits>) -> Option<ParameterValue> {
    let text = |text: String| Some(ParameterValue::Text(text));
    match (kind, value) {
        (Kind::Flag, _) => Some(ParameterValue::Flag(code_of(value, bits)? != 0)),
        (Kind::Whole { .. }, _) => Some(ParameterValue::Whole(i64::try_from(code_of(value, bits)?).ok()?)),
        (Kind::Decimal { decimals, .. }, Value::Number(number)) => {
            let mut number = *number;
            number.rescale(*decimals);
            text(number.to_string())
        }
        (Kind::Choice(choices), _) => Some(choice_named(code_of(value, bits)?, choices)),
        (Kind::Address | Kind::Text { .. }, Value::Text(said)) => text(said.clone()),
        (Kind::Numbers { max }, _) => {
            let code = code_of(value, bits)?;
            let numbers = (1..=*max).filter(|number| code.checked_shr(u32::from(*number) - 1).unwrap_or(0) & 1 == 1);
            Some(ParameterValue::Numbers(numbers.collect()))
        }
        (Kind::Moment | Kind::Clock, Value::Time(at)) => text(at.format(MOMENT).to_string()),
        _ => None,
    }
}

/// Puts a value into what its item says; the rest stays as it is.
///
/// # Errors
/// [`PlaceError`]; nothing is changed then.
pub fn write(parameter: &Parameter, place: &Place, data: &mut [u8], wanted: &ParameterValue) -> Result<(), PlaceError> {
    let name = parameter.spec.name;
    let Place::Field { item, field, bits } = place else {
        return Err(PlaceError::Unfit(name));
    };
    let item = Fn::new(*item).ok_or(PlaceError::Missing(name))?;
    let reading = reading(Afn::QUERY, item, data, name)?;
    let entry = entry(&reading, field, name)?;
    // what is not read here cannot be kept, but where all of it is replaced
    let present = entry.value.as_ref().ok();
    let value = wire_value(&parameter.spec.kind, wanted, *bits, present).ok_or(PlaceError::Unfit(name))?;
    let bytes = entry.field.format.write(&value).ok_or(PlaceError::Unfit(name))?;
    match data.get_mut(entry.span.clone()) {
        Some(span) if span.len() == bytes.len() => span.copy_from_slice(&bytes),
        _ => return Err(PlaceError::Missing(name)),
    }
    Ok(())
}

fn wire_value(kind: &Kind, wanted: &ParameterValue, bits: Option<Bits>, present: Option<&Value>) -> Option<Value> {
    let coded = |code: u64| {
        let is_bits = matches!(present, Some(Value::Bits(_)));
        let whole = match (bits, present) {
            (Some(bits), Some(Value::Bits(whole))) => bits.put(*whole, code)?,
            (Some(_), _) => return None,
            (None, _) => code,
        };
        Some(match is_bits {
            true => Value::Bits(whole),
            false => Value::Number(Decimal::from(whole)),
        })
    };
    match (kind, wanted) {
        (Kind::Flag, ParameterValue::Flag(flag)) => coded(u64::from(*flag)),
        (Kind::Whole { .. }, ParameterValue::Whole(number)) => coded(u64::try_from(*number).ok()?),
        (Kind::Decimal { .. }, ParameterValue::Text(text)) => Some(Value::Number(text.parse().ok()?)),
        (Kind::Choice(choices), ParameterValue::Text(text)) => coded(choice_code(text, choices)?),
        (Kind::Address | Kind::Text { .. }, ParameterValue::Text(text)) => Some(Value::Text(text.clone())),
        (Kind::Numbers { max }, ParameterValue::Numbers(numbers)) => {
            let mut code = 0u64;
            for number in numbers.iter().filter(|number| (1..=*max).contains(number)) {
                code |= 1u64.checked_shl(u32::from(*number) - 1)?;
            }
            coded(code)
        }
        (Kind::Moment, ParameterValue::Text(text)) => {
            Some(Value::Time(NaiveDateTime::parse_from_str(text, MOMENT).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "gdw376_tests.rs"]
mod tests;
