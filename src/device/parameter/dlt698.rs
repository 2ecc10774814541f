//! Settings of terminals of DL/T 698.45: attributes, and where in their structures a value stands. A whole attribute is written
//! as it was read, but for that value; its type stays what it was.

use super::{Bits, Parameter, Place as AnyPlace, PlaceError, choice_code, choice_named, spec};
use crate::domain::parameter::{Kind, MOMENT, Numbered, ParameterGroup, ParameterSpec, ParameterValue, TIME_OF_DAY};
use crate::protocol::dlt698::{CLOCK, Data, Oad, Octets, Text, Time};
use chrono::{NaiveTime, Timelike};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::net::Ipv4Addr;

/// One step into a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The element of an array or structure, from 0.
    At(usize),
    /// The structure of an array that begins with the number asked for.
    Numbered,
}

/// Where a setting stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The attribute.
    pub oad: Oad,
    /// The way to the value; none: all of it.
    pub path: &'static [Step],
    /// Some bits of it alone.
    pub bits: Option<Bits>,
}

/// Bytes of an IPv4 address.
const ADDRESS_LEN: usize = 4;

const fn row(spec: ParameterSpec, oad: u32, path: &'static [Step], bits: Option<Bits>) -> Parameter {
    Parameter {
        spec,
        place: AnyPlace::Dlt698(Place {
            oad: Oad::from_number(oad),
            path,
            bits,
        }),
    }
}

const fn whole(min: i64, max: i64) -> Kind {
    Kind::Whole { min, max }
}

/// A task is told; what a terminal's methods would change of it is not written here.
const fn of_task(spec: ParameterSpec) -> ParameterSpec {
    ParameterSpec {
        numbered: Numbered::Task,
        writable: false,
        ..spec
    }
}

const C4500: (&str, &str) = ("45000200", "DL/T 698.45-2017, class 25 attribute 2");
const M4500: (&str, &str) = ("45000300", "DL/T 698.45-2017, class 25 attribute 3");
const C4510: (&str, &str) = ("45100200", "DL/T 698.45-2017, class 26 attribute 2");
const M4510: (&str, &str) = ("45100300", "DL/T 698.45-2017, class 26 attribute 3");
const O4000: (&str, &str) = ("40000200", "DL/T 698.45-2017, object 4000");
const O4204: (&str, &str) = ("42040200", "DL/T 698.45-2017, object 4204");
const O4300_7: (&str, &str) = ("43000700", "DL/T 698.45-2017, class 19 attribute 7");
const O4300_8: (&str, &str) = ("43000800", "DL/T 698.45-2017, class 19 attribute 8");
const O4300_9: (&str, &str) = ("43000900", "DL/T 698.45-2017, class 19 attribute 9");
const R3105: (&str, &str) = ("31050800", "DL/T 698.45-2017, class 7 attribute 8");
const R3106: (&str, &str) = ("31060800", "DL/T 698.45-2017, class 7 attribute 8");
const R310F: (&str, &str) = ("310F0800", "DL/T 698.45-2017, class 7 attribute 8");
const T3105: (&str, &str) = ("31050600", "DL/T 698.45-2017, object 3105");
const T3106: (&str, &str) = ("31060600", "DL/T 698.45-2017, object 3106");
const T310F: (&str, &str) = ("310F0600", "DL/T 698.45-2017, object 310F");
const T3110: (&str, &str) = ("31100600", "DL/T 698.45-2017, object 3110");
const O6012: (&str, &str) = ("60120200", "DL/T 698.45-2017, object 6012");

const MODES: Kind = Kind::Choice(&[("mixed", 0), ("client", 1), ("server", 2)]);
const TRANSPORT: Kind = Kind::Choice(&[("tcp", 0), ("udp", 1)]);
const REPORTS: Kind = Kind::Choice(&[("never", 0), ("beginning", 1), ("end", 2), ("both", 3)]);
const ATTEMPTS: Option<Bits> = Some(Bits { first: 0, count: 2 });
const WAIT: Option<Bits> = Some(Bits { first: 2, count: 6 });

use ParameterGroup::{Communication as COMM, Events, Tasks, Thresholds, Time as Clocks};
use Step::{At, Numbered as Task};

/// The settings.
#[rustfmt::skip]
pub const CATALOGUE: &[Parameter] = &[
    row(spec("work_mode",      MODES,            "", COMM, C4500), 0x4500_0200, &[At(0)], None),
    row(spec("online_mode",    Kind::Choice(&[("always", 0), ("when_called", 1)]), "", COMM, C4500), 0x4500_0200, &[At(1)], None),
    row(spec("transport",      TRANSPORT,        "", COMM, C4500), 0x4500_0200, &[At(2)], None),
    row(spec("apn",            Kind::Text { max: 32 }, "", COMM, C4500), 0x4500_0200, &[At(5)], None),
    row(spec("attempts",       whole(0, 3),      "", COMM, C4500), 0x4500_0200, &[At(10)], ATTEMPTS),
    row(spec("answer_within",  whole(1, 63),     "s", COMM, C4500), 0x4500_0200, &[At(10)], WAIT),
    row(spec("heartbeat",      whole(1, 65_535), "s", COMM, C4500), 0x4500_0200, &[At(11)], None),
    row(spec("master_address", Kind::Address,    "", COMM, M4500), 0x4500_0300, &[At(0), At(0)], None),
    row(spec("master_port",    whole(1, 65_535), "", COMM, M4500), 0x4500_0300, &[At(0), At(1)], None),
    row(spec("spare_address",  Kind::Address,    "", COMM, M4500), 0x4500_0300, &[At(1), At(0)], None),
    row(spec("spare_port",     whole(0, 65_535), "", COMM, M4500), 0x4500_0300, &[At(1), At(1)], None),
    row(spec("ethernet_work_mode",      MODES,            "", COMM, C4510), 0x4510_0200, &[At(0)], None),
    row(spec("ethernet_transport",      TRANSPORT,        "", COMM, C4510), 0x4510_0200, &[At(1)], None),
    row(spec("ethernet_attempts",       whole(0, 3),      "", COMM, C4510), 0x4510_0200, &[At(6)], ATTEMPTS),
    row(spec("ethernet_answer_within",  whole(1, 63),     "s", COMM, C4510), 0x4510_0200, &[At(6)], WAIT),
    row(spec("ethernet_heartbeat",      whole(1, 65_535), "s", COMM, C4510), 0x4510_0200, &[At(7)], None),
    row(spec("ethernet_master_address", Kind::Address,    "", COMM, M4510), 0x4510_0300, &[At(0), At(0)], None),
    row(spec("ethernet_master_port",    whole(1, 65_535), "", COMM, M4510), 0x4510_0300, &[At(0), At(1)], None),
    row(spec("talks_to_master", Kind::Flag,      "", COMM, O4300_9), 0x4300_0900, &[], None),
    row(spec("clock",          Kind::Clock,      "", Clocks, O4000), 0x4000_0200, &[], None),
    row(spec("meters_clocks_at", Kind::TimeOfDay, "", Clocks, O4204), 0x4204_0200, &[At(0)], None),
    row(spec("meters_clocks_set", Kind::Flag,    "", Clocks, O4204), 0x4204_0200, &[At(1)], None),
    row(spec("follow_reports", Kind::Flag,       "", Events, O4300_7), 0x4300_0700, &[], None),
    row(spec("active_reports", Kind::Flag,       "", Events, O4300_8), 0x4300_0800, &[], None),
    row(spec("meter_clock_off_reported", REPORTS, "", Events, R3105), 0x3105_0800, &[], None),
    row(spec("power_failure_reported", REPORTS,  "", Events, R3106), 0x3106_0800, &[], None),
    row(spec("read_failure_reported", REPORTS,   "", Events, R310F), 0x310F_0800, &[], None),
    row(spec("meter_clock_off", whole(0, 65_535), "s", Thresholds, T3105), 0x3105_0600, &[At(0)], None),
    row(spec("power_failure_shortest", whole(0, 65_535), "min", Thresholds, T3106), 0x3106_0600, &[At(1), At(0)], None),
    row(spec("power_failure_longest", whole(0, 65_535), "min", Thresholds, T3106), 0x3106_0600, &[At(1), At(1)], None),
    row(spec("power_failure_below", Kind::Decimal { min: 0, max: 65_535, decimals: 1 }, "V", Thresholds, T3106), 0x3106_0600, &[At(1), At(4)], None),
    row(spec("power_restored_above", Kind::Decimal { min: 0, max: 65_535, decimals: 1 }, "V", Thresholds, T3106), 0x3106_0600, &[At(1), At(5)], None),
    row(spec("read_failure_rounds", whole(0, 255), "", Thresholds, T310F), 0x310F_0600, &[At(0)], None),
    row(spec("monthly_traffic", whole(0, 4_294_967_295), "B", Thresholds, T3110), 0x3110_0600, &[At(0)], None),
    row(of_task(spec("task_scheme", Kind::Choice(&[("ordinary", 1), ("event", 2), ("transparent", 3), ("report", 4), ("script", 5)]), "", Tasks, O6012)), 0x6012_0200, &[Task, At(2)], None),
    row(of_task(spec("task_scheme_number", whole(0, 255), "", Tasks, O6012)), 0x6012_0200, &[Task, At(3)], None),
    row(of_task(spec("task_begins_at", Kind::Moment, "", Tasks, O6012)), 0x6012_0200, &[Task, At(4)], None),
    row(of_task(spec("task_ends_at", Kind::Moment, "", Tasks, O6012)), 0x6012_0200, &[Task, At(5)], None),
    row(of_task(spec("task", Kind::Choice(&[("runs", 1), ("stopped", 2)]), "", Tasks, O6012)), 0x6012_0200, &[Task, At(8)], None),
];

/// Whether it is the clock, which is set to the present moment.
pub fn is_clock(place: &Place) -> bool {
    place.oad == CLOCK
}

fn begins_with(data: &Data, number: u16) -> bool {
    let Data::Structure(fields) = data else { return false };
    let first = fields.first().and_then(Data::number);
    first == Some(Decimal::from(number))
}

fn stepped<'a>(data: &'a Data, path: &[Step], number: u16) -> Option<&'a Data> {
    path.iter().try_fold(data, |data, step| match (data, step) {
        (Data::Array(list) | Data::Structure(list), Step::At(at)) => list.get(*at),
        (Data::Array(list), Step::Numbered) => list.iter().find(|element| begins_with(element, number)),
        _ => None,
    })
}

fn stepped_mut<'a>(data: &'a mut Data, path: &[Step], number: u16) -> Option<&'a mut Data> {
    path.iter().try_fold(data, |data, step| match (data, step) {
        (Data::Array(list) | Data::Structure(list), Step::At(at)) => list.get_mut(*at),
        (Data::Array(list), Step::Numbered) => list.iter_mut().find(|element| begins_with(element, number)),
        _ => None,
    })
}

/// The value of a setting in its attribute.
///
/// # Errors
/// [`PlaceError`].
pub fn read(parameter: &Parameter, place: &Place, data: &Data, number: u16) -> Result<ParameterValue, PlaceError> {
    let name = parameter.spec.name;
    let found = stepped(data, place.path, number).ok_or(PlaceError::Missing(name))?;
    value_of(&parameter.spec.kind, found, place.bits).ok_or(PlaceError::NoValue(name))
}

fn code_of(data: &Data, bits: Option<Bits>) -> Option<u64> {
    let whole = data.number()?.to_u64()?;
    Some(bits.map_or(whole, |bits| bits.of(whole)))
}

fn value_of(kind: &Kind, data: &Data, bits: Option<Bits>) -> Option<ParameterValue> {
    let text = |text: String| Some(ParameterValue::Text(text));
    match (kind, data) {
        (Kind::Flag, Data::Bool(flag)) => Some(ParameterValue::Flag(*flag)),
        (Kind::Whole { .. }, data) => Some(ParameterValue::Whole(i64::try_from(code_of(data, bits)?).ok()?)),
        (Kind::Decimal { decimals, .. }, data) => {
            let mut number = data.number()?;
            number.set_scale(*decimals).ok()?;
            text(number.to_string())
        }
        (Kind::Choice(choices), data) => Some(choice_named(code_of(data, bits)?, choices)),
        (Kind::Address, Data::Octets(octets)) => {
            let bytes: [u8; ADDRESS_LEN] = octets.0.as_slice().try_into().ok()?;
            text(Ipv4Addr::from(bytes).to_string())
        }
        (Kind::Text { .. }, Data::Visible(said)) => {
            let printable = |byte: &u8| matches!(byte, 0x20..=0x7E);
            let end = said
                .0
                .iter()
                .rposition(|byte| !matches!(byte, 0 | b' '))
                .map_or(0, |last| last + 1);
            let kept = said.0.get(..end)?;
            // what is no printable ASCII must not reach a log or a console
            let shown = kept
                .iter()
                .map(|byte| if printable(byte) { char::from(*byte) } else { '\u{FFFD}' });
            text(shown.collect())
        }
        (Kind::TimeOfDay, Data::Time(at)) => {
            let time = NaiveTime::from_hms_opt(at.hour.into(), at.minute.into(), at.second.into())?;
            text(time.format(TIME_OF_DAY).to_string())
        }
        (Kind::Moment | Kind::Clock, data) => text(data.moment()?.format(MOMENT).to_string()),
        _ => None,
    }
}

/// Puts a value into its attribute; the rest stays as it is, and so does its type.
///
/// # Errors
/// [`PlaceError`]; nothing is changed then.
pub fn write(
    parameter: &Parameter,
    place: &Place,
    data: &mut Data,
    number: u16,
    wanted: &ParameterValue,
) -> Result<(), PlaceError> {
    let name = parameter.spec.name;
    if !parameter.spec.writable {
        return Err(PlaceError::ReadOnly(name));
    }
    let found = stepped_mut(data, place.path, number).ok_or(PlaceError::Missing(name))?;
    *found = wire_value(&parameter.spec.kind, wanted, place.bits, found).ok_or(PlaceError::Unfit(name))?;
    Ok(())
}

/// A number in the type that stands there.
fn of_type(present: &Data, number: u64) -> Option<Data> {
    Some(match present {
        Data::UInt8(_) => Data::UInt8(number.try_into().ok()?),
        Data::UInt16(_) => Data::UInt16(number.try_into().ok()?),
        Data::UInt32(_) => Data::UInt32(number.try_into().ok()?),
        Data::UInt64(_) => Data::UInt64(number),
        Data::Int8(_) => Data::Int8(number.try_into().ok()?),
        Data::Int16(_) => Data::Int16(number.try_into().ok()?),
        Data::Int32(_) => Data::Int32(number.try_into().ok()?),
        Data::Enum(_) => Data::Enum(number.try_into().ok()?),
        _ => return None,
    })
}

fn wire_value(kind: &Kind, wanted: &ParameterValue, bits: Option<Bits>, present: &Data) -> Option<Data> {
    let coded = |code: u64| match bits {
        Some(bits) => of_type(present, bits.put(present.number()?.to_u64()?, code)?),
        None => of_type(present, code),
    };
    match (kind, wanted, present) {
        (Kind::Flag, ParameterValue::Flag(flag), Data::Bool(_)) => Some(Data::Bool(*flag)),
        (Kind::Whole { .. }, ParameterValue::Whole(number), _) => coded(u64::try_from(*number).ok()?),
        (Kind::Decimal { decimals, .. }, ParameterValue::Text(text), _) => {
            let mut number: Decimal = text.parse().ok()?;
            number.rescale(*decimals);
            coded(u64::try_from(number.mantissa()).ok()?)
        }
        (Kind::Choice(choices), ParameterValue::Text(text), _) => coded(choice_code(text, choices)?),
        (Kind::Address, ParameterValue::Text(text), Data::Octets(_)) => {
            let address: Ipv4Addr = text.parse().ok()?;
            Some(Data::Octets(Octets(address.octets().to_vec())))
        }
        (Kind::Text { .. }, ParameterValue::Text(text), Data::Visible(_)) => Some(Data::Visible(Text::new(text))),
        (Kind::TimeOfDay, ParameterValue::Text(text), Data::Time(_)) => {
            let at = NaiveTime::parse_from_str(text, TIME_OF_DAY).ok()?;
            Some(Data::Time(Time {
                hour: at.hour().try_into().ok()?,
                minute: at.minute().try_into().ok()?,
                second: at.second().try_into().ok()?,
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "dlt698_tests.rs"]
mod tests;
