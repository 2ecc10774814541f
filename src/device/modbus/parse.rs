//! Reading the Modbus part of a model file: limits and points.

use super::parse_point::{defaults, function, point};
use super::relay;
use super::{Forbidden, Limits, Point, RegisterProfile};
use crate::device::decode::name;
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields};
use crate::protocol::modbus::{BITS_READ_MAX, REGISTERS_READ_MAX};
use std::ops::Range;

/// The most points of a model.
const POINTS_MAX: usize = 2000;

pub(in crate::device) fn profile<'t, 'i>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'t, 'i>,
    limits: Option<Fields<'t, 'i>>,
) -> Option<RegisterProfile> {
    let limits = self::limits(faults, limits);
    let defaults = fields
        .table(faults, "defaults")
        .map(|table| self::defaults(faults, table));
    let defaults = defaults.unwrap_or_default();
    let tables = fields.tables(faults, "point");
    if tables.is_empty() && !fields.has("point") {
        faults.add(&fields.span, "there is no point", "add at least one [[point]]");
    }
    if tables.len() > POINTS_MAX {
        let what = format!("{} points are too many", tables.len());
        faults.add(&fields.span, what, format!("split the model; {POINTS_MAX} are allowed"));
        return None;
    }
    let mut points: Vec<(Point, Range<usize>)> = Vec::new();
    for table in tables {
        let span = table.span.clone();
        if let Some(point) = point(faults, table, &defaults) {
            against_limits(faults, &limits, &point, &span);
            against_others(faults, &points, &point, &span);
            points.push((point, span));
        }
    }
    let relay = fields
        .table(faults, "relay")
        .and_then(|table| relay::relay(faults, table));
    let tables = fields.tables(faults, "parameter");
    let parameters = relay::parameters(faults, tables, &defaults, relay.as_ref());
    Some(RegisterProfile {
        limits,
        points: points.into_iter().map(|(point, _)| point).collect(),
        relay,
        parameters,
    })
}

fn limits(faults: &mut Faults<'_>, table: Option<Fields<'_, '_>>) -> Limits {
    let mut limits = Limits {
        max_registers: 50,
        max_bits: BITS_READ_MAX,
        max_gap: 0,
        forbidden: Vec::new(),
    };
    let Some(mut table) = table else { return limits };
    let mut number = |key, range, default| {
        let found = table.integer(faults, key, range);
        found
            .and_then(|at: At<i64>| u16::try_from(at.value).ok())
            .unwrap_or(default)
    };
    limits.max_registers = number("max_registers", 1..=i64::from(REGISTERS_READ_MAX), limits.max_registers);
    limits.max_bits = number("max_bits", 1..=i64::from(BITS_READ_MAX), limits.max_bits);
    limits.max_gap = number("max_gap", 0..=i64::from(REGISTERS_READ_MAX), limits.max_gap);
    for mut range in table.tables(faults, "forbidden") {
        let function = function(faults, &mut range);
        let function = range.need(faults, "function", function);
        let first = range.integer(faults, "first", 0..=0xFFFF);
        let first = range.need(faults, "first", first);
        let last = range.integer(faults, "last", 0..=0xFFFF);
        let last = range.need(faults, "last", last);
        if let (Some(function), Some(first), Some(last)) = (function, first, last) {
            if first.value > last.value {
                faults.add(&range.span, "`first` is behind `last`", "exchange them");
            }
            limits.forbidden.push(Forbidden {
                function,
                first: u16::try_from(first.value).unwrap_or(u16::MAX),
                last: u16::try_from(last.value).unwrap_or(u16::MAX),
            });
        }
        range.finish(faults);
    }
    table.finish(faults);
    limits
}

fn against_limits(faults: &mut Faults<'_>, limits: &Limits, point: &Point, span: &Range<usize>) {
    if !point.function.is_bits() && point.data.count() > limits.max_registers {
        let what = format!(
            "{} does not fit into {} registers",
            point.data.name(),
            limits.max_registers
        );
        faults.add(span, what, "raise `max_registers`");
    }
    let barred = limits
        .forbidden
        .iter()
        .find(|range| range.function == point.function && range.first <= point.last() && range.last >= point.address);
    if let Some(range) = barred {
        let what = format!(
            "{} stands in the forbidden range {} to {}",
            name(&point.measurand),
            range.first,
            range.last
        );
        faults.add(span, what, "correct the address or the range");
    }
}

/// The same measurand twice, or registers shared otherwise than by disjoint bit fields of the same number.
fn against_others(faults: &mut Faults<'_>, others: &[(Point, Range<usize>)], point: &Point, span: &Range<usize>) {
    for (other, _) in others {
        if other.measurand == point.measurand {
            let what = format!("{} is given twice", name(&point.measurand));
            faults.add(span, what, "keep one of the points");
        }
        let apart = other.function != point.function || other.last() < point.address || other.address > point.last();
        if apart {
            continue;
        }
        let same = other.address == point.address
            && (other.data, other.word_order, other.byte_order) == (point.data, point.word_order, point.byte_order);
        let disjoint = match (other.bits, point.bits) {
            (Some(a), Some(b)) => a.offset + a.width <= b.offset || b.offset + b.width <= a.offset,
            _ => false,
        };
        if !(same && disjoint) {
            let what = format!("{} overlaps {}", name(&point.measurand), name(&other.measurand));
            faults.add(
                span,
                what,
                "correct `address` or `type`; only bit fields of one number share registers",
            );
        }
    }
}
