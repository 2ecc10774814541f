//! Reading the M-Bus part of a model file: how the meter is asked, who it says it is, and its points.

use super::{Ask, DayEdge, Identify, Kept, Key, Place, Point, ReadoutProfile};
use crate::base::hex;
use crate::device::decode::name;
use crate::device::dlt645::history::Kind;
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields, suggest};
use crate::device::modbus::parse_point::measurand;
use crate::device::units;
use crate::domain::reading::Measurand;
use crate::protocol::mbus::{Class, Function, Manufacturer, Mark};
use rust_decimal::Decimal;
use toml::de::DeValue;

/// The most points of a model.
const POINTS_MAX: usize = 500;
/// The most characters of a unit that a meter spells.
const UNIT_TEXT_MAX: usize = 9;
/// The highest storage number that a point can have.
const STORAGE_MAX: i64 = 1 << 20;

pub(in crate::device) fn profile<'t, 'i>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'t, 'i>,
    limits: Option<Fields<'t, 'i>>,
) -> Option<ReadoutProfile> {
    if let Some(limits) = limits {
        limits.finish(faults);
    }
    let ask = fields.table(faults, "ask").map(|table| ask(faults, table));
    let identify = fields.table(faults, "identify").map(|table| identify(faults, table));
    let tables = fields.tables(faults, "point");
    if tables.is_empty() && !fields.has("point") {
        faults.add(&fields.span, "there is no point", "add at least one [[point]]");
    }
    if tables.len() > POINTS_MAX {
        let what = format!("{} points are too many", tables.len());
        faults.add(&fields.span, what, format!("{POINTS_MAX} are allowed"));
        return None;
    }
    let mut points: Vec<Point> = Vec::new();
    for table in tables {
        let span = table.span.clone();
        let Some(point) = point(faults, table) else { continue };
        if points.iter().any(|other| other.measurand == point.measurand) {
            let what = format!("{} is given twice", name(&point.measurand));
            faults.add(&span, what, "keep one of the points");
        }
        if points.iter().any(|other| other.place == point.place) {
            let what = format!("{} is where another point is", name(&point.measurand));
            faults.add(&span, what, "add what tells the records apart, or `nth`");
        }
        points.push(point);
    }
    let history = fields
        .tables(faults, "history")
        .into_iter()
        .filter_map(|table| kept(faults, table))
        .collect();
    Some(ReadoutProfile {
        ask: ask.unwrap_or_default(),
        identify: identify.unwrap_or_default(),
        points,
        history,
    })
}

fn ask(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Ask {
    let reset = table.flag(faults, "reset").is_none_or(|at| at.value);
    let application_reset = byte(table.integer(faults, "application_reset", 0..=0xFF));
    table.finish(faults);
    Ask {
        reset,
        application_reset,
    }
}

fn byte(at: Option<At<i64>>) -> Option<u8> {
    at.and_then(|at| u8::try_from(at.value).ok())
}

fn identify(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Identify {
    let mut manufacturers = Vec::new();
    for text in table.texts(faults, "manufacturer") {
        match Manufacturer::of(text.value) {
            Some(code) => manufacturers.push(code),
            None => faults.add(
                &text.span,
                format!("`{}` is no manufacturer", text.value),
                "write its three letters",
            ),
        }
    }
    let versions = bytes(faults, &mut table, "version");
    let media = bytes(faults, &mut table, "medium");
    table.finish(faults);
    Identify {
        manufacturers,
        versions,
        media,
    }
}

/// One byte or a list of bytes.
fn bytes(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>, key: &'static str) -> Vec<u8> {
    numbers(faults, table, key, 0xFF)
        .into_iter()
        .filter_map(|number| u8::try_from(number).ok())
        .collect()
}

/// A list of whole numbers up to `max`.
fn numbers(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>, key: &'static str, max: i64) -> Vec<i64> {
    let Some(list) = table.array(faults, key) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for value in list.value.iter() {
        let number = match value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match number.filter(|number| (0..=max).contains(number)) {
            Some(number) => out.push(number),
            None => faults.add(
                &value.span(),
                format!("`{key}` holds something else than a number of 0 to {max}"),
                format!("write {key} = [ … ]"),
            ),
        }
    }
    out
}

fn point(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Point> {
    let measurand = measurand(faults, &mut table);
    let status = table.flag(faults, "status").is_some_and(|at| at.value);
    let place = if status {
        Some(Place::Status)
    } else {
        key(faults, &mut table).map(Place::Record)
    };
    let unit = table.text(faults, "unit");
    let scale = table.decimal(faults, "scale").map_or(Decimal::ONE, |at| at.value);
    let poll = table.flag(faults, "poll").is_none_or(|at| at.value);
    let optional = table.flag(faults, "optional").is_some_and(|at| at.value);
    table.finish(faults);
    let measurand = measurand?.value;
    if let (Some(unit), Measurand::Standard(quantity)) = (&unit, &measurand)
        && units::convert(Decimal::ONE, unit.value, quantity.unit()).is_none()
    {
        let known = units::spellings(quantity.unit());
        let help = suggest(unit.value, known);
        faults.add(&unit.span, format!("`{}` is no unit of {quantity}", unit.value), help);
    }
    Some(Point {
        measurand,
        place: place?,
        unit: unit.map_or_else(String::new, |at| at.value.to_owned()),
        scale,
        poll,
        optional,
    })
}

fn key(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<Key> {
    let class = table.text(faults, "class");
    let class = table.need(faults, "class", class).and_then(|text| {
        let found = Class::by_name(text.value);
        if found.is_none() {
            let help = suggest(text.value, Class::ALL.iter().map(|class| class.name()));
            faults.add(&text.span, format!("unknown class `{}`", text.value), help);
        }
        found
    });
    let function = match table.text(faults, "function") {
        None => Some(Function::Instant),
        Some(text) => {
            let found = Function::by_name(text.value).filter(|function| *function != Function::Error);
            if found.is_none() {
                let help = suggest(text.value, ["instant", "maximum", "minimum"].into_iter());
                faults.add(&text.span, format!("unknown function `{}`", text.value), help);
            }
            found
        }
    };
    let mut number = |key, max| table.integer(faults, key, 0..=max).map_or(0, |at| at.value);
    let storage = number("storage", STORAGE_MAX);
    let tariff = number("tariff", 0xF_FFFF);
    let subunit = number("subunit", 0x3FF);
    let nth = number("nth", 99);
    let mut marks = Vec::new();
    for text in table.texts(faults, "marks") {
        match Mark::by_name(text.value) {
            Some(mark) => marks.push(mark),
            None => {
                let help = suggest(text.value, Mark::ALL.iter().map(|mark| mark.name()));
                faults.add(&text.span, format!("unknown mark `{}`", text.value), help);
            }
        }
    }
    let unit_text = table.text(faults, "unit_text").map(|at| {
        if at.value.len() > UNIT_TEXT_MAX || !at.value.is_ascii() {
            faults.add(
                &at.span,
                "no meter spells such a unit",
                format!("write at most {UNIT_TEXT_MAX} ASCII characters"),
            );
        }
        at.value.to_owned()
    });
    let vib = table
        .text(faults, "vib")
        .and_then(|text| match hex::decode(text.value) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                faults.add(&text.span, error.to_string(), "write VIF and VIFE as hex digits");
                None
            }
        });
    Some(Key {
        class: class?,
        function: function?,
        storage: u64::try_from(storage).ok()?,
        tariff: u32::try_from(tariff).ok()?,
        subunit: u16::try_from(subunit).ok()?,
        marks,
        unit_text,
        vib,
        nth: usize::try_from(nth).ok()?,
    })
}

fn kept(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Kept> {
    let kind = table.text(faults, "kind");
    let kind = table.need(faults, "kind", kind).and_then(|text| match text.value {
        "daily" => Some(Kind::Daily),
        "settlement" => Some(Kind::Settlement),
        other => {
            let help = suggest(other, ["daily", "settlement"].into_iter());
            faults.add(&text.span, format!("unknown kind `{other}`"), help);
            None
        }
    });
    let day = match table.text(faults, "day") {
        None => DayEdge::default(),
        Some(text) if text.value == "end" => DayEdge::End,
        Some(text) if text.value == "begin" => DayEdge::Begin,
        Some(text) => {
            faults.add(
                &text.span,
                format!("`day` is `{}`", text.value),
                "use \"end\" or \"begin\"",
            );
            DayEdge::default()
        }
    };
    let storages = numbers(faults, &mut table, "storages", STORAGE_MAX);
    if storages.is_empty() || storages.contains(&0) {
        faults.add(
            &table.span,
            "`storages` names no storage number, or 0",
            "write storages = [1, 2], the last state first",
        );
    }
    table.finish(faults);
    Some(Kept {
        kind: kind?,
        storages: storages.into_iter().filter_map(|n| u64::try_from(n).ok()).collect(),
        day,
    })
}
