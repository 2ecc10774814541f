//! Reading the part of a model file that is of DL/T 698.45: points and freezes.

use super::{ObjectProfile, PastProfile, Point};
use crate::device::decode::name;
use crate::device::dlt645::history::Kind;
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields, suggest};
use crate::device::modbus::parse_point::{factor, measurand};
use crate::protocol::dlt698::{Oad, objects};
use rust_decimal::Decimal;

/// The most points of a model.
const POINTS_MAX: usize = 500;
/// As many attributes in a question as meters are known to take.
const LIST_USUAL: i64 = 16;
/// The most attributes in a question; their answers go in parts where they are long.
const LIST_MAX: i64 = 64;
/// The records of daily freezes and of settlements.
const RECORDS: [(u16, Kind, &str); 2] = [(0x5004, Kind::Daily, "daily"), (0x5005, Kind::Settlement, "settlement")];

pub(in crate::device) fn profile<'t, 'i>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'t, 'i>,
    limits: Option<Fields<'t, 'i>>,
) -> Option<ObjectProfile> {
    let preambles = fields.integer(faults, "preambles", 0..=16).map_or(4, |at| at.value);
    let mut list_max = LIST_USUAL;
    if let Some(mut limits) = limits {
        list_max = limits
            .integer(faults, "list_max", 1..=LIST_MAX)
            .map_or(LIST_USUAL, |at| at.value);
        limits.finish(faults);
    }
    let tables = fields.tables(faults, "point");
    if tables.is_empty() && !fields.has("point") {
        faults.add(&fields.span, "there is no point", "add at least one [[point]]");
    }
    let past = fields.tables(faults, "history");
    let points = points(faults, tables);
    let history = past.into_iter().filter_map(|table| history(faults, table)).collect();
    Some(ObjectProfile {
        preambles: usize::try_from(preambles).ok()?,
        list_max: usize::try_from(list_max).ok()?,
        points,
        history,
    })
}

fn points(faults: &mut Faults<'_>, tables: Vec<Fields<'_, '_>>) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for table in tables {
        let span = table.span.clone();
        if points.len() >= POINTS_MAX {
            faults.add(&span, format!("more than {POINTS_MAX} points"), "split the model");
            break;
        }
        if let Some(point) = point(faults, table) {
            if points.iter().any(|other| other.measurand == point.measurand) {
                let what = format!("{} is given twice", name(&point.measurand));
                faults.add(&span, what, "keep one of the points");
            }
            points.push(point);
        }
    }
    points
}

fn history(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<PastProfile> {
    let text = table.text(faults, "what");
    let text = table.need(faults, "what", text);
    let record = text.and_then(|at| {
        let found = RECORDS.iter().find(|(_, _, name)| *name == at.value);
        if found.is_none() {
            let help = suggest(at.value, RECORDS.iter().map(|(_, _, name)| *name));
            faults.add(&at.span, format!("unknown past `{}`", at.value), help);
        }
        found
    });
    let max = table.integer(faults, "max", 1..=255);
    let max = table.need(faults, "max", max);
    let tables = table.tables(faults, "point");
    if tables.is_empty() {
        faults.add(&table.span, "nothing is kept of the past", "add `point = [ … ]`");
    }
    table.finish(faults);
    let points = points(faults, tables);
    let ((oi, kind, _), max) = (record?, u8::try_from(max?.value).ok()?);
    Some(PastProfile {
        kind: *kind,
        oad: Oad::new(*oi, 2),
        max,
        points,
    })
}

fn point(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Point> {
    let measurand = measurand(faults, &mut table);
    let text = table.text(faults, "oad");
    let text = table.need(faults, "oad", text);
    let scale = table.decimal(faults, "scale");
    let unit = table.text(faults, "unit");
    let poll = table.flag(faults, "poll").is_none_or(|at| at.value);
    table.finish(faults);
    let (measurand, at) = (measurand?, text?);
    let Some(oad) = Oad::parse(at.value) else {
        let what = format!("{:?} is not an attribute", at.value);
        faults.add(&at.span, what, "write eight hexadecimal digits, like \"00100201\"");
        return None;
    };
    // what the standard's table says, unless the file says otherwise
    let item = objects::item(oad, oad.index);
    if item.object.is_none() && scale.is_none() {
        let what = format!("object {:04X} is not in the standard's table", oad.oi);
        faults.add(&at.span, what, "say its `scale` and `unit`, or correct `oad`");
        return None;
    }
    let scale = scale.or_else(|| {
        ten_to(item.scaler).map(|value| At {
            value,
            span: at.span.clone(),
        })
    });
    let unit = unit.unwrap_or(At {
        value: if item.unit.is_empty() { "1" } else { item.unit },
        span: at.span.clone(),
    });
    let factor = factor(faults, &measurand.value, scale, &unit)?;
    Some(Point {
        measurand: measurand.value,
        oad,
        factor,
        poll,
    })
}

/// A power of ten of the table.
fn ten_to(scaler: i8) -> Option<Decimal> {
    crate::protocol::dlt698::Data::UInt8(1).scaled(scaler)
}
