//! Reading the DL/T 645 part of a model file: edition, points, blocks, clock, history.

use super::parameter::parameters;
use super::parse_history::history;
use super::{ItemProfile, Point, block_items};
use crate::device::decode::name;
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields, suggest};
use crate::device::modbus::parse_point::{factor, measurand};
use crate::protocol::dlt645::items::{self, Format};
use crate::protocol::dlt645::{Di, Edition, PREAMBLES_MAX};

/// The most points of a model.
const POINTS_MAX: usize = 2000;

pub(in crate::device) fn profile<'t, 'i>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'t, 'i>,
    limits: Option<Fields<'t, 'i>>,
) -> Option<ItemProfile> {
    let edition = edition(faults, fields);
    let mut preambles = 4;
    if let Some(mut limits) = limits {
        // at most 16
        let most = i64::try_from(PREAMBLES_MAX).unwrap_or(16);
        if let Some(at) = limits.integer(faults, "preambles", 0..=most) {
            preambles = usize::try_from(at.value).unwrap_or(preambles);
        }
        limits.finish(faults);
    }
    let tables = fields.tables(faults, "point");
    if tables.is_empty() && !fields.has("point") {
        faults.add(&fields.span, "there is no point", "add at least one [[point]]");
    }
    if tables.len() > POINTS_MAX {
        let what = format!("{} points are too many", tables.len());
        faults.add(&fields.span, what, format!("split the model; {POINTS_MAX} are allowed"));
        return None;
    }
    let blocks = fields.texts(faults, "blocks");
    let clock = fields.texts(faults, "clock");
    let past = fields.tables(faults, "history");
    let named = fields.tables(faults, "parameter");
    let edition = edition?;
    let mut points: Vec<Point> = Vec::new();
    for table in tables {
        let span = table.span.clone();
        if let Some(point) = point(faults, table, edition) {
            if points.iter().any(|other| other.measurand == point.measurand) {
                let what = format!("{} is given twice", name(&point.measurand));
                faults.add(&span, what, "keep one of the points");
            }
            points.push(point);
        }
    }
    let blocks = blocks
        .iter()
        .filter_map(|at| block(faults, at, edition, &points))
        .collect();
    let clock = self::clock(faults, &clock, edition);
    let history = past
        .into_iter()
        .filter_map(|table| history(faults, table, edition))
        .collect();
    let parameters = parameters(faults, named, edition, &clock);
    Some(ItemProfile {
        edition,
        preambles,
        points,
        blocks,
        clock,
        history,
        parameters,
    })
}

fn edition(faults: &mut Faults<'_>, fields: &mut Fields<'_, '_>) -> Option<Edition> {
    let at = fields.integer(faults, "edition", 1997..=2007);
    let at = fields.need(faults, "edition", at)?;
    match at.value {
        1997 => Some(Edition::E1997),
        2007 => Some(Edition::E2007),
        other => {
            faults.add(&at.span, format!("there is no edition {other}"), "use 1997 or 2007");
            None
        }
    }
}

/// An identifier of the model's edition.
pub(super) fn identifier(faults: &mut Faults<'_>, at: &At<&str>, edition: Edition) -> Option<Di> {
    let found = Di::parse(at.value).filter(|di| di.edition() == edition);
    if found.is_none() {
        let (digits, like) = match edition {
            Edition::E1997 => (4, "9010"),
            Edition::E2007 => (8, "00010000"),
        };
        let what = format!("{:?} is not an identifier of this edition", at.value);
        faults.add(
            &at.span,
            what,
            format!("write {digits} hex digits, DI high byte first, like \"{like}\""),
        );
    }
    found
}

pub(super) fn point(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, edition: Edition) -> Option<Point> {
    let measurand = measurand(faults, &mut table);
    let text = table.text(faults, "di");
    let text = table.need(faults, "di", text);
    let di = text.as_ref().and_then(|at| identifier(faults, at, edition));
    let own = own_format(faults, &mut table);
    let scale = table.decimal(faults, "scale");
    let unit = table.text(faults, "unit");
    let bit = table.integer(faults, "bit", 0..=31);
    let width = table.integer(faults, "bits", 1..=32);
    let invert = table.flag(faults, "invert").is_some_and(|at| at.value);
    let poll = table.flag(faults, "poll").is_none_or(|at| at.value);
    let span = table.span.clone();
    table.finish(faults);
    let (measurand, di, at) = (measurand?, di?, text?);
    if items::is_block(di) {
        let help = "name the single item here, and the block in `blocks`";
        faults.add(&at.span, format!("{di} is a block"), help);
        return None;
    }
    let known = items::definition(di, 0);
    let Some(format) = own.or(known.map(|item| item.format)) else {
        let help = "correct `di`, or say `bytes`, `decimals` and `unit`";
        faults.add(&at.span, format!("{di} is not in the table of the standard"), help);
        return None;
    };
    let bits = match (format, bit) {
        (Format::Bits(bytes), Some(bit)) => {
            let width = width.map_or(1, |at| at.value);
            if bit.value + width > i64::from(bytes) * 8 {
                let what = format!(
                    "bits {} to {} are not within {bytes} bytes",
                    bit.value,
                    bit.value + width - 1
                );
                faults.add(&bit.span, what, "correct `bit` or `bits`");
                return None;
            }
            Some((u8::try_from(bit.value).ok()?, u8::try_from(width).ok()?))
        }
        (Format::Bits(_), None) => None,
        (Format::Number { .. } | Format::Demand { .. }, None) => None,
        (Format::Number { .. } | Format::Demand { .. }, Some(bit)) => {
            faults.add(
                &bit.span,
                format!("{di} is a number, not a bit field"),
                "leave `bit` out",
            );
            return None;
        }
        _ => {
            faults.add(
                &at.span,
                format!("{di} is not a number"),
                "name an identifier that brings a number",
            );
            return None;
        }
    };
    let usual = known.map_or("1", |item| if item.unit.is_empty() { "1" } else { item.unit });
    let unit = unit.unwrap_or(At {
        value: usual,
        span: at.span.clone(),
    });
    let factor = factor(faults, &measurand.value, scale, &unit)?;
    if invert && !matches!(bits, Some((_, 1))) {
        faults.add(&span, "`invert` without a single bit", "say which `bit`");
    }
    Some(Point {
        measurand: measurand.value,
        di,
        format,
        bits,
        invert,
        unit: unit.value.to_owned(),
        factor,
        poll,
    })
}

/// The form that a point says itself: for identifiers of the maker's own, and where a maker departs from the standard.
fn own_format(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<Format> {
    let bytes = table.integer(faults, "bytes", 1..=8);
    let decimals = table.integer(faults, "decimals", 0..=8);
    let signed = table.flag(faults, "signed");
    let binary = table.flag(faults, "bit_field").is_some_and(|at| at.value);
    let Some(at) = bytes else {
        for span in [decimals.map(|at| at.span), signed.map(|at| at.span)]
            .into_iter()
            .flatten()
        {
            faults.add(&span, "`decimals` or `signed` without `bytes`", "add `bytes = …`");
        }
        return None;
    };
    let bytes = u8::try_from(at.value).ok()?;
    if binary {
        return Some(Format::Bits(bytes));
    }
    Some(Format::Number {
        bytes,
        decimals: decimals.and_then(|at| u8::try_from(at.value).ok()).unwrap_or(0),
        signed: signed.is_some_and(|at| at.value),
    })
}

fn block(faults: &mut Faults<'_>, at: &At<&str>, edition: Edition, points: &[Point]) -> Option<Di> {
    let di = identifier(faults, at, edition)?;
    let covered = block_items(di)
        .filter(|item| points.iter().any(|point| point.di == *item))
        .count();
    if covered < 2 {
        let what = format!("{di} brings {covered} of the points");
        faults.add(
            &at.span,
            what,
            "name blocks that bring at least two points, or leave it out",
        );
        return None;
    }
    Some(di)
}

/// One identifier with date and time, or one of each.
fn clock(faults: &mut Faults<'_>, texts: &[At<&str>], edition: Edition) -> Vec<Di> {
    use items::Form;
    let mut found = Vec::new();
    let mut forms = Vec::new();
    for at in texts {
        let Some(di) = identifier(faults, at, edition) else {
            continue;
        };
        match items::definition(di, 0).map(|item| item.format) {
            Some(Format::Time(form)) => forms.push(form),
            _ => faults.add(&at.span, format!("{di} is not a time"), "name the clock's identifiers"),
        }
        found.push(di);
    }
    let complete = matches!(
        forms.as_slice(),
        [] | [Form::ToSecond | Form::ToSecondWithWeekday] | [Form::Date, Form::TimeOfDay]
    );
    if let (false, Some(first)) = (complete, texts.first()) {
        let known = ["04000101 and 04000102", "0400010C", "C010 and C011"];
        let help = format!("use {}", known.join(", or "));
        faults.add(&first.span, "`clock` is not a date and a time", help);
    }
    if complete { found } else { Vec::new() }
}

/// The list of what may stand where, for advice.
pub(super) fn advise(word: &str, known: &[&str]) -> String {
    suggest(word, known.iter().copied())
}
