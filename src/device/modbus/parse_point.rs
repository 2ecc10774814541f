//! Reading one point of a Modbus model file.

use super::{BitField, DataType, Encoding, Order, Point};
use crate::base::hex;
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields, suggest};
use crate::device::units;
use crate::domain::quantity::{Kind, Quantity};
use crate::domain::reading::Measurand;
use crate::protocol::modbus::Function;
use rust_decimal::Decimal;
use std::ops::Range;

/// What a point takes over when it does not say it itself.
#[derive(Default)]
pub(super) struct Defaults {
    function: Option<Function>,
    data: Option<DataType>,
    word_order: Option<Order>,
    byte_order: Option<Order>,
    invalid: Vec<(usize, u64)>,
}

pub(super) fn defaults(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Defaults {
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

/// The keys of a point as they stand, defaults laid under.
struct Raw<'t> {
    measurand: Option<At<Measurand>>,
    function: Option<Function>,
    address: Option<At<i64>>,
    data: Option<DataType>,
    count: Option<At<i64>>,
    scale: Option<At<Decimal>>,
    unit: Option<At<&'t str>>,
    invalid: Vec<At<(usize, u64)>>,
    span: Range<usize>,
}

/// Reads one point; the parts that stand for themselves go straight into it.
pub(super) fn point(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, defaults: &Defaults) -> Option<Point> {
    let measurand = measurand(faults, &mut table);
    let function = function_or(faults, &mut table, defaults);
    let address = table.integer(faults, "address", 0..=0xFFFF);
    let address = table.need(faults, "address", address);
    let data = type_or(faults, &mut table, function, defaults);
    let unit = table.text(faults, "unit");
    let unit = table.need(faults, "unit", unit);
    let raw = Raw {
        measurand,
        function,
        address,
        data,
        count: table.integer(faults, "count", 1..=4),
        scale: table.decimal(faults, "scale"),
        unit,
        invalid: patterns(faults, &mut table),
        span: table.span.clone(),
    };
    let word_order = order(faults, &mut table, "word_order").or(defaults.word_order);
    let byte_order = order(faults, &mut table, "byte_order").or(defaults.byte_order);
    let bits = bit_field(faults, &mut table, data);
    let encoding = encoding(faults, &mut table);
    let poll = table.flag(faults, "poll").is_none_or(|at| at.value);
    table.finish(faults);
    let point = assemble(faults, raw, defaults)?;
    Some(Point {
        word_order: word_order.unwrap_or(Order::Big),
        byte_order: byte_order.unwrap_or(Order::Big),
        bits,
        encoding,
        poll,
        ..point
    })
}

/// Checks the keys against one another.
fn assemble(faults: &mut Faults<'_>, raw: Raw<'_>, defaults: &Defaults) -> Option<Point> {
    let (measurand, function, data) = (raw.measurand?, raw.function?, raw.data?);
    let (address, unit) = (raw.address?, raw.unit?);
    if let Some(count) = raw.count.filter(|count| count.value != i64::from(data.count())) {
        let what = format!("`count` is {}, but {} takes {}", count.value, data.name(), data.count());
        faults.add(&count.span, what, "correct `count` or `type`, or leave `count` out");
    }
    if function.is_bits() != (data == DataType::Bit) {
        let what = format!("function {} does not read type {}", function.code(), data.name());
        faults.add(
            &raw.span,
            what,
            "functions 1 and 2 read `bit`, functions 3 and 4 registers",
        );
        return None;
    }
    let start = u16::try_from(address.value).ok()?;
    if start.checked_add(data.count() - 1).is_none() {
        let what = format!("{} registers from {start} run past 65535", data.count());
        faults.add(&address.span, what, "correct `address` or `type`");
        return None;
    }
    let factor = factor(faults, &measurand.value, raw.scale, &unit)?;
    if let Measurand::Standard(quantity) = &measurand.value
        && quantity.kind() == Kind::State
        && data.is_float()
    {
        let what = format!("{quantity} is a code, and {} is a float", data.name());
        faults.add(&raw.span, what, "use an integer type");
    }
    Some(Point {
        measurand: measurand.value,
        function,
        address: start,
        data,
        word_order: Order::Big,
        byte_order: Order::Big,
        bits: None,
        unit: unit.value.to_owned(),
        factor,
        invalid: markers(faults, &raw.invalid, data, defaults),
        encoding: Encoding::Plain,
        poll: true,
    })
}

/// The invalid markers of a type: the point's own, which must have its length, else those defaults that do.
fn markers(faults: &mut Faults<'_>, own: &[At<(usize, u64)>], data: DataType, defaults: &Defaults) -> Vec<u64> {
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
    let own = own.iter().map(|at| at.value);
    let all: Vec<(usize, u64)> = if own.len() == 0 {
        defaults.invalid.clone()
    } else {
        own.collect()
    };
    all.into_iter()
        .filter(|(len, _)| *len == wanted)
        .map(|(_, pattern)| pattern)
        .collect()
}

fn function_or(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>, defaults: &Defaults) -> Option<Function> {
    let found = function(faults, table);
    if found.is_some() || table.has("function") {
        return found;
    }
    if defaults.function.is_none() {
        let help = "add `function = 3` or 4, or set it in [defaults]";
        faults.add(&table.span, "`function` is missing", help);
    }
    defaults.function
}

fn type_or(
    faults: &mut Faults<'_>,
    table: &mut Fields<'_, '_>,
    function: Option<Function>,
    defaults: &Defaults,
) -> Option<DataType> {
    let found = data_type(faults, table);
    if found.is_some() || table.has("type") {
        return found.map(|at| at.value);
    }
    let implied = function
        .filter(|f| f.is_bits())
        .map(|_| DataType::Bit)
        .or(defaults.data);
    if implied.is_none() {
        let help = "add `type = \"u16\"` or the like, or set it in [defaults]";
        faults.add(&table.span, "`type` is missing", help);
    }
    implied
}

/// What a point is: `quantity` of the list, or `vendor`.
pub(in crate::device) fn measurand(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<At<Measurand>> {
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
pub(in crate::device) fn factor(
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

pub(super) fn function(faults: &mut Faults<'_>, table: &mut Fields<'_, '_>) -> Option<Function> {
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
