//! Reading the part of a model file that is of Q/GDW 1376.1: edition, points, history.

use super::{PastProfile, Point, PointProfile, Source};
use crate::device::decode::name;
use crate::device::dlt645::history::Kind;
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields, suggest};
use crate::device::modbus::parse_point::{factor, measurand};
use crate::protocol::gdw376::format::Format;
use crate::protocol::gdw376::layout::{Field, Part, Stamp};
use crate::protocol::gdw376::{Afn, Edition, Fn, Way, item_layout};

/// The most points of a model.
const POINTS_MAX: usize = 500;

pub(in crate::device) fn profile<'t, 'i>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'t, 'i>,
    limits: Option<Fields<'t, 'i>>,
) -> Option<PointProfile> {
    let at = fields.integer(faults, "edition", 2009..=2013);
    let edition = fields.need(faults, "edition", at).and_then(|at| match at.value {
        2009 => Some(Edition::E2009),
        2013 => Some(Edition::E2013),
        other => {
            faults.add(&at.span, format!("there is no edition {other}"), "use 2009 or 2013");
            None
        }
    });
    if let Some(limits) = limits {
        limits.finish(faults);
    }
    let tables = fields.tables(faults, "point");
    if tables.is_empty() && !fields.has("point") {
        faults.add(&fields.span, "there is no point", "add at least one [[point]]");
    }
    let past = fields.tables(faults, "history");
    let edition = edition?;
    let points = points(faults, tables, Stamp::None, edition);
    let history = past.into_iter().filter_map(|table| history(faults, table, edition));
    let history = history.collect();
    Some(PointProfile {
        edition,
        points,
        history,
    })
}

fn points(faults: &mut Faults<'_>, tables: Vec<Fields<'_, '_>>, stamp: Stamp, edition: Edition) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for table in tables {
        let span = table.span.clone();
        if points.len() >= POINTS_MAX {
            faults.add(&span, format!("more than {POINTS_MAX} points"), "split the model");
            break;
        }
        if let Some(point) = point(faults, table, stamp, edition) {
            if points.iter().any(|other| other.measurand == point.measurand) {
                let what = format!("{} is given twice", name(&point.measurand));
                faults.add(&span, what, "keep one of the points");
            }
            points.push(point);
        }
    }
    points
}

fn history(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, edition: Edition) -> Option<PastProfile> {
    let text = table.text(faults, "what");
    let text = table.need(faults, "what", text);
    let kind = text.and_then(|at| match at.value {
        "daily" => Some((Kind::Daily, Stamp::Day)),
        "settlement" => Some((Kind::Settlement, Stamp::Month)),
        other => {
            let help = suggest(other, ["daily", "settlement"].into_iter());
            faults.add(&at.span, format!("unknown past `{other}`"), help);
            None
        }
    });
    let max = table.integer(faults, "max", 1..=62);
    let max = table.need(faults, "max", max);
    let tables = table.tables(faults, "point");
    if tables.is_empty() {
        faults.add(&table.span, "nothing is kept of the past", "add `point = [ … ]`");
    }
    table.finish(faults);
    let ((kind, stamp), max) = (kind?, u8::try_from(max?.value).ok()?);
    let points = points(faults, tables, stamp, edition);
    Some(PastProfile { kind, max, points })
}

fn point(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, stamp: Stamp, edition: Edition) -> Option<Point> {
    let measurand = measurand(faults, &mut table);
    let text = table.text(faults, "item");
    let text = table.need(faults, "item", text);
    let field = table.text(faults, "field");
    let rate = table.integer(faults, "rate", 0..=63);
    let scale = table.decimal(faults, "scale");
    let unit = table.text(faults, "unit");
    let poll = table.flag(faults, "poll").is_none_or(|at| at.value);
    table.finish(faults);
    let (measurand, at) = (measurand?, text?);
    let (afn, item) = item(faults, &at, stamp)?;
    let (found, has_rates) = field_of(faults, &at, (afn, item), stamp, field, edition)?;
    let rate = match (has_rates, rate) {
        (true, rate) => Some(rate.map_or(0, |at| u8::try_from(at.value).unwrap_or_default())),
        (false, None) => None,
        (false, Some(at)) => {
            let what = format!("`{}` has no tariffs", found.name);
            faults.add(&at.span, what, "leave `rate` out");
            return None;
        }
    };
    let unit = unit.unwrap_or(At {
        value: if found.unit.is_empty() { "1" } else { found.unit },
        span: at.span.clone(),
    });
    let factor = factor(faults, &measurand.value, scale, &unit)?;
    Some(Point {
        measurand: measurand.value,
        source: Source {
            afn,
            item,
            field: found.name,
            rate,
        },
        factor,
        poll,
    })
}

/// `"0C F129"`: function and item.
fn item(faults: &mut Faults<'_>, at: &At<&str>, stamp: Stamp) -> Option<(Afn, Fn)> {
    let parsed = at.value.split_once(" F").and_then(|(afn, item)| {
        let afn = u8::from_str_radix(afn, 16).ok().map(Afn)?;
        Some((afn, Fn::new(item.parse().ok()?)?))
    });
    let wanted = match stamp {
        Stamp::None => Afn::REALTIME,
        _ => Afn::HISTORY,
    };
    let found = parsed.filter(|(afn, _)| *afn == wanted);
    if found.is_none() {
        let like = if stamp == Stamp::None { "0C F129" } else { "0D F161" };
        let what = format!("{:?} is not an item that is read here", at.value);
        faults.add(&at.span, what, format!("write function and item, like \"{like}\""));
    }
    found
}

/// The field of an item's layout, and whether it has tariffs.
fn field_of(
    faults: &mut Faults<'_>,
    at: &At<&str>,
    (afn, item): (Afn, Fn),
    stamp: Stamp,
    wanted: Option<At<&str>>,
    edition: Edition,
) -> Option<(&'static Field, bool)> {
    let layout = item_layout(afn, item, Way::Up, edition);
    let parts = layout
        .filter(|layout| layout.stamp == stamp)
        .and_then(|layout| layout.parts);
    let Some(parts) = parts else {
        let what = format!("the data of {} are not known, or of another time", at.value);
        faults.add(&at.span, what, "name an item of docs/protocols/gdw376.md");
        return None;
    };
    let mut fields: Vec<(&'static Field, bool)> = Vec::new();
    for part in parts {
        match part {
            Part::One(group) => fields.extend(group.iter().map(|field| (field, false))),
            Part::Rates(groups) => {
                let of_groups = groups.iter().flat_map(|group| group.iter());
                fields.extend(of_groups.map(|field| (field, true)));
            }
            Part::Points(_) | Part::Hour(_) | Part::List(..) => {}
        }
    }
    fields.retain(|(field, _)| is_number(field.format));
    let found = match &wanted {
        Some(name) => fields.iter().find(|(field, _)| field.name == name.value),
        None if fields.len() == 1 => fields.first(),
        None => None,
    };
    if found.is_none() {
        let span = wanted.as_ref().map_or(&at.span, |name| &name.span);
        let what = match &wanted {
            Some(name) => format!("{} has no number called {:?}", at.value, name.value),
            None => format!("{} has {} numbers", at.value, fields.len()),
        };
        let names: Vec<&str> = fields.iter().map(|(field, _)| field.name).collect();
        let help = suggest(wanted.as_ref().map_or("", |name| name.value), names.into_iter());
        faults.add(span, what, format!("say which `field`; {help}"));
    }
    found.copied()
}

/// Whether a format brings a number.
fn is_number(format: Format) -> bool {
    use Format::{A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A13, A14, A22, A23, A25, A26, A27, Bin, Bits};
    matches!(
        format,
        A2 | A3 | A4 | A5 | A6 | A7 | A8 | A9 | A10 | A11 | A13 | A14 | A22 | A23 | A25 | A26 | A27 | Bin(_) | Bits(_)
    )
}
