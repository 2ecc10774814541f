//! Reading the Modbus part of a model file: limits, points, recorded exchanges.

use super::{BitField, DataType, Encoding, Exchange, Forbidden, Limits, Order, Point, RegisterProfile, replay};
use crate::base::hex;
use crate::device::decode::name;
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields, decimal, suggest, wrong_type};
use crate::device::units;
use crate::domain::quantity::{Kind, Quantity};
use crate::domain::reading::Measurand;
use crate::protocol::modbus::{BITS_READ_MAX, Function, REGISTERS_READ_MAX};
use rust_decimal::Decimal;
use std::ops::Range;
use toml::Spanned;
use toml::de::DeValue;

/// The most points of a model.
const POINTS_MAX: usize = 2000;

/// What a point takes over when it does not say it itself.
#[derive(Default)]
struct Defaults {
    function: Option<Function>,
    data: Option<DataType>,
    word_order: Option<Order>,
    byte_order: Option<Order>,
    invalid: Vec<(usize, u64)>,
}

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
    let mut profile = RegisterProfile {
        limits,
        points: points.into_iter().map(|(point, _)| point).collect(),
        exchanges: Vec::new(),
    };
    for table in fields.tables(faults, "exchange") {
        let span = table.span.clone();
        let Some(exchange) = exchange(faults, table) else {
            continue;
        };
        for mismatch in replay::replay(&profile, &exchange) {
            faults.add(&span, mismatch, "correct the point or the exchange");
        }
        profile.exchanges.push(exchange);
    }
    Some(profile)
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

fn defaults(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Defaults {
    let defaults = Defaults {
        function: function(faults, &mut table),
        data: data_type(faults, &mut table).map(|at| at.value),
        word_order: order(faults, &mut table, "word_order"),
        byte_order: order(faults, &mut table, "byte_order"),
        invalid: patterns(faults, &mut table).into_iter().map(|at| at.value).collect(),
    };
    table.finish(faults);
    defaults
}

fn point(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, defaults: &Defaults) -> Option<Point> {
    let measurand = measurand(faults, &mut table);
    let function = match function(faults, &mut table) {
        None if !table.has("function") => {
            if defaults.function.is_none() {
                faults.add(
                    &table.span,
                    "`function` is missing",
                    "add `function = 3` or 4, or set it in [defaults]",
                );
            }
            defaults.function
        }
        found => found,
    };
    let address = table.integer(faults, "address", 0..=0xFFFF);
    let address = table.need(faults, "address", address);
    let data = match data_type(faults, &mut table) {
        None if !table.has("type") => {
            let implied = function
                .filter(|f| f.is_bits())
                .map(|_| DataType::Bit)
                .or(defaults.data);
            if implied.is_none() {
                faults.add(
                    &table.span,
                    "`type` is missing",
                    "add `type = \"u16\"` or the like, or set it in [defaults]",
                );
            }
            implied
        }
        found => found.map(|at| at.value),
    };
    let count = table.integer(faults, "count", 1..=4);
    let word_order = order(faults, &mut table, "word_order").or(defaults.word_order);
    let byte_order = order(faults, &mut table, "byte_order").or(defaults.byte_order);
    let scale = table.decimal(faults, "scale");
    let unit = table.text(faults, "unit");
    let unit = table.need(faults, "unit", unit);
    let bits = bit_field(faults, &mut table, data);
    let own = patterns(faults, &mut table);
    let encoding = encoding(faults, &mut table);
    let poll = table.flag(faults, "poll").is_none_or(|at| at.value);
    let span = table.span.clone();
    table.finish(faults);
    let (measurand, function, address, data, unit) = (measurand?, function?, address?, data?, unit?);
    if let Some(count) = count.filter(|count| count.value != i64::from(data.count())) {
        let what = format!("`count` is {}, but {} takes {}", count.value, data.name(), data.count());
        faults.add(&count.span, what, "correct `count` or `type`, or leave `count` out");
    }
    if function.is_bits() != (data == DataType::Bit) {
        let what = format!("function {} does not read type {}", function.code(), data.name());
        faults.add(&span, what, "functions 1 and 2 read `bit`, functions 3 and 4 registers");
        return None;
    }
    let start = u16::try_from(address.value).ok()?;
    if start.checked_add(data.count() - 1).is_none() {
        let what = format!("{} registers from {start} run past 65535", data.count());
        faults.add(&address.span, what, "correct `address` or `type`");
        return None;
    }
    let factor = factor(faults, &measurand.value, scale, &unit)?;
    if let Measurand::Standard(quantity) = &measurand.value
        && quantity.kind() == Kind::State
        && data.is_float()
    {
        let what = format!("{quantity} is a code, and {} is a float", data.name());
        faults.add(&span, what, "use an integer type");
    }
    let invalid = if own.is_empty() {
        &defaults.invalid
    } else {
        &own.iter().map(|at| at.value).collect::<Vec<_>>()
    };
    let wanted = usize::from(data.count()) * 2;
    for pattern in own.iter().filter(|at| at.value.0 != wanted) {
        let what = format!(
            "the invalid marker has {} bytes, {} has {wanted}",
            pattern.value.0,
            data.name()
        );
        faults.add(
            &pattern.span,
            what,
            "write all bytes of the value, most significant first",
        );
    }
    Some(Point {
        measurand: measurand.value,
        function,
        address: start,
        data,
        word_order: word_order.unwrap_or(Order::Big),
        byte_order: byte_order.unwrap_or(Order::Big),
        bits,
        unit: unit.value.to_owned(),
        factor,
        // a default marker serves the types that have its length
        invalid: invalid
            .iter()
            .filter(|(len, _)| *len == wanted)
            .map(|(_, pattern)| *pattern)
            .collect(),
        encoding,
        poll,
    })
}

fn measurand(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<At<Measurand>> {
    let quantity = table.text(faults, "quantity");
    let vendor = table.text(faults, "vendor");
    match (quantity, vendor) {
        (Some(text), None) => match Quantity::by_name(text.value) {
            Some(quantity) => Some(At {
                value: Measurand::Standard(quantity),
                span: text.span,
            }),
            None => {
                let help = suggest(text.value, Quantity::ALL.iter().map(|q| q.name()));
                let what = format!("unknown quantity `{}`", text.value);
                faults.add(
                    &text.span,
                    what,
                    format!("{help} what has no name in the list is `vendor = \"…\"`"),
                );
                None
            }
        },
        (None, Some(text)) => {
            let fits = (1..=64).contains(&text.value.len())
                && text
                    .value
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !fits {
                let what = format!("{:?} cannot name a vendor quantity", text.value);
                faults.add(&text.span, what, "use a-z, 0-9 and _, at most 64 characters");
                return None;
            }
            if Quantity::by_name(text.value).is_some() {
                let what = format!("`{}` is a quantity of the list", text.value);
                faults.add(&text.span, what, "write `quantity` instead of `vendor`");
                return None;
            }
            Some(At {
                value: Measurand::Vendor(text.value.into()),
                span: text.span,
            })
        }
        (Some(_), Some(text)) => {
            faults.add(&text.span, "both `quantity` and `vendor`", "keep one of them");
            None
        }
        (None, None) => {
            if !table.has("quantity") && !table.has("vendor") {
                let help = "add `quantity = …` of the list, or `vendor = …`";
                faults.add(&table.span, "the point does not say what it is", help);
            }
            None
        }
    }
}

/// Scale and unit as one exact factor.
fn factor(
    faults: &mut Faults<'_>,
    measurand: &Measurand,
    scale: Option<At<Decimal>>,
    unit: &At<&str>,
) -> Option<Decimal> {
    let conversion = match measurand {
        Measurand::Standard(quantity) => {
            let canonical = quantity.unit();
            let Some(conversion) = units::factor(unit.value, canonical) else {
                let what = format!(
                    "`{}` does not convert to {}, the unit of {quantity}",
                    unit.value,
                    canonical.symbol()
                );
                let known: Vec<&str> = units::spellings(canonical).collect();
                faults.add(&unit.span, what, format!("use {}", known.join(", ")));
                return None;
            };
            conversion
        }
        Measurand::Vendor(_) => Decimal::ONE,
    };
    let (scale, span) = scale.map_or((Decimal::ONE, unit.span.clone()), |at| (at.value, at.span));
    let factor = scale.checked_mul(conversion).map(|factor| factor.normalize());
    // 64-bit registers times 32-bit digits fit the 96 bits of a decimal exactly
    let fits = |factor: &Decimal| *factor > Decimal::ZERO && factor.mantissa() < 1 << 32 && factor.scale() <= 18;
    let found = factor.filter(fits);
    if found.is_none() {
        faults.add(
            &span,
            format!("the scale {scale} cannot be used"),
            "use a positive number of at most 9 digits",
        );
    }
    found
}

fn function(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<Function> {
    let code = table.integer(faults, "function", 1..=4)?;
    Function::by_code(u8::try_from(code.value).ok()?)
}

fn data_type(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<At<DataType>> {
    let text = table.text(faults, "type")?;
    let found = DataType::by_name(text.value);
    if found.is_none() {
        let help = suggest(text.value, DataType::ALL.iter().map(|data| data.name()));
        faults.add(&text.span, format!("unknown type `{}`", text.value), help);
    }
    found.map(|value| At { value, span: text.span })
}

fn order(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>, key: &'static str) -> Option<Order> {
    let text = table.text(faults, key)?;
    match text.value {
        "big" => Some(Order::Big),
        "little" => Some(Order::Little),
        other => {
            let help = "use \"big\" (most significant first) or \"little\"";
            faults.add(&text.span, format!("unknown order `{other}`"), help);
            None
        }
    }
}

fn encoding(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Encoding {
    match table.text(faults, "encoding") {
        None => Encoding::Plain,
        Some(At { value: "plain", .. }) => Encoding::Plain,
        Some(At {
            value: "four_quadrant", ..
        }) => Encoding::FourQuadrant,
        Some(At { value, span }) => {
            let help = suggest(value, ["plain", "four_quadrant"].into_iter());
            faults.add(&span, format!("unknown encoding `{value}`"), help);
            Encoding::Plain
        }
    }
}

fn bit_field(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>, data: Option<DataType>) -> Option<BitField> {
    let offset = table.integer(faults, "bit", 0..=63)?;
    let width = table.integer(faults, "bits", 1..=64).map_or(1, |at| at.value);
    let data = data?;
    let unsigned = matches!(data, DataType::U16 | DataType::U32 | DataType::U64);
    if !unsigned || offset.value + width > i64::from(data.count()) * 16 {
        let what = format!(
            "bits {} to {} are not within {}",
            offset.value,
            offset.value + width - 1,
            data.name()
        );
        faults.add(&offset.span, what, "bit fields stand in u16, u32 or u64");
        return None;
    }
    Some(BitField {
        offset: u8::try_from(offset.value).ok()?,
        width: u8::try_from(width).ok()?,
    })
}

/// Invalid markers with their length in bytes; one text or a list.
fn patterns(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Vec<At<(usize, u64)>> {
    let mut out = Vec::new();
    for text in table.texts(faults, "invalid") {
        let bytes = hex::decode(text.value)
            .ok()
            .filter(|bytes| matches!(bytes.len(), 2 | 4 | 8));
        match bytes {
            Some(bytes) => out.push(At {
                value: (
                    bytes.len(),
                    bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
                ),
                span: text.span,
            }),
            None => faults.add(
                &text.span,
                format!("{:?} is not an invalid marker", text.value),
                "write 2, 4 or 8 bytes as hex digits, most significant first, for example \"FFFFFFFF\"",
            ),
        }
    }
    out
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

fn exchange(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Exchange> {
    let before = faults.len();
    let note = table.text(faults, "note").map_or("", |at| at.value).to_owned();
    let pairs = table.array(faults, "frames");
    let pairs = table.need(faults, "frames", pairs);
    let mut frames = Vec::new();
    for pair in pairs.iter().flat_map(|at| at.value.iter()) {
        let texts: Vec<_> = pair
            .get_ref()
            .as_array()
            .into_iter()
            .flat_map(|pair| pair.iter())
            .collect();
        match texts.as_slice() {
            [request, answer] => {
                if let (Some(request), Some(answer)) = (frame(faults, request), frame(faults, answer)) {
                    frames.push((request, answer));
                }
            }
            _ => faults.add(
                &pair.span(),
                "not a pair of frames",
                "write [\"request as hex\", \"answer as hex\"]",
            ),
        }
    }
    let expected = table.table(faults, "expect");
    let expected = table.need(faults, "expect", expected);
    let mut expect = Vec::new();
    for (key, value) in expected.iter().flat_map(Fields::entries) {
        let measurand =
            Quantity::by_name(key.value).map_or_else(|| Measurand::Vendor(key.value.into()), Measurand::Standard);
        if value.get_ref().as_str() == Some("none") {
            expect.push((measurand, None));
        } else if let Some(number) = decimal(faults, key.value, value) {
            expect.push((measurand, Some(number.value)));
        }
    }
    table.finish(faults);
    (faults.len() == before).then_some(Exchange { note, frames, expect })
}

fn frame(faults: &mut Faults<'_>, value: &Spanned<DeValue<'_>>) -> Option<Vec<u8>> {
    let Some(text) = value.get_ref().as_str() else {
        wrong_type(faults, "frames", value, "hex digits in quotes");
        return None;
    };
    match hex::decode(text) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            faults.add(&value.span(), error.to_string(), "write the frame as hex digits");
            None
        }
    }
}
