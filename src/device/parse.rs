//! Reading a model file: what all models have in common. Finds every fault in one go.

use super::exchange::{Exchange, exchange, replay};
use super::fault::{Fault, Faults};
use super::fields::{At, Fields, decimal, suggest};
use super::model::{Folder, MeterModel, Profile, Recognise, Serial};
use super::plan::check_address;
use super::{cjt188, dlt645, dlt698, gdw376, mbus, modbus};
use crate::domain::device::Parity;
use crate::domain::quantity::Quantity;
use std::ops::Range;
use std::path::Path;
use toml::de::DeTable;

/// The most bytes of a model file.
pub(super) const FILE_MAX: u64 = 1 << 20;

/// Reads and checks one model. `file` is for the faults; its stem is the model's name.
pub(super) fn parse(file: &Path, folder: Folder, text: &str) -> Result<MeterModel, Vec<Fault>> {
    let mut faults = Faults::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(20) {
        let span = error.span().unwrap_or(0..0);
        faults.add(&span, format!("not TOML: {}", error.message()), "correct the syntax");
    }
    // the parser goes on in the same line and trips again over the same fault
    faults.one_a_line();
    if !errors.is_empty() {
        return Err(faults.into_sorted());
    }
    let mut fields = Fields::new(document.get_ref(), 0..0);
    let model = head(&mut faults, &mut fields, file, folder);
    fields.finish(&mut faults);
    match model {
        Some(model) if faults.len() == 0 => Ok(model),
        _ => Err(faults.into_sorted()),
    }
}

fn head(faults: &mut Faults<'_>, fields: &mut Fields<'_, '_>, file: &Path, folder: Folder) -> Option<MeterModel> {
    let name = stem(faults, file);
    let vendor = fields.text(faults, "vendor");
    let vendor = fields.need(faults, "vendor", vendor);
    let model = fields.text(faults, "model");
    let model = fields.need(faults, "model", model);
    let phases = fields.integer(faults, "phases", 1..=3);
    let phases = fields.need(faults, "phases", phases);
    if let Some(At { value: 2, span }) = &phases {
        faults.add(span, "`phases` is 2", "use 1 or 3");
    }
    let notes = fields.text(faults, "notes").map_or("", |at| at.value).trim().to_owned();
    let sources = fields
        .texts(faults, "sources")
        .iter()
        .map(|at| at.value.to_owned())
        .collect();
    let serial = fields.table(faults, "serial");
    let serial = fields
        .need(faults, "serial", serial)
        .and_then(|table| self::serial(faults, table, folder));
    let recognise = fields
        .table(faults, "recognise")
        .map(|table| self::recognise(faults, &table));
    let mut limits = fields.table(faults, "limits");
    let mut millis = |key, default| {
        let found = limits
            .as_mut()
            .and_then(|limits| limits.integer(faults, key, 0..=60_000));
        found.and_then(|at| u32::try_from(at.value).ok()).unwrap_or(default)
    };
    let (pause_ms, timeout_ms) = (millis("pause_ms", 20), millis("timeout_ms", 1000));
    let profile = match folder {
        Folder::Modbus => modbus::parse::profile(faults, fields, limits).map(Profile::Modbus),
        Folder::Dlt645 => dlt645::parse::profile(faults, fields, limits).map(Profile::Dlt645),
        Folder::Cjt188 => cjt188::parse::profile(faults, fields, limits).map(Profile::Cjt188),
        Folder::Mbus => mbus::parse::profile(faults, fields, limits).map(Profile::Mbus),
        Folder::Gdw376 => gdw376::parse::profile(faults, fields, limits).map(Profile::Gdw376),
        Folder::Dlt698 => dlt698::parse::profile(faults, fields, limits).map(Profile::Dlt698),
    };
    let exchanges = exchanges(faults, fields);
    let mut model = MeterModel {
        // what is missing is named; the recordings are held against the rest all the same
        name: name.unwrap_or_default().into(),
        folder,
        vendor: vendor.map_or_else(String::new, |at| at.value.to_owned()),
        model: model.map_or_else(String::new, |at| at.value.to_owned()),
        phases: phases.and_then(|at| u8::try_from(at.value).ok()).unwrap_or(1),
        serial: serial.unwrap_or_default(),
        pause_ms,
        timeout_ms,
        recognise: recognise.unwrap_or_default(),
        sources,
        notes,
        profile: profile?,
        exchanges: Vec::new(),
    };
    if !model.serial.address.is_empty()
        && let Err(error) = check_address(&model, &model.serial.address)
    {
        faults.add(
            &fields.span_of("serial"),
            format!("`address`: {error}"),
            "correct `address`",
        );
    }
    for (exchange, span) in exchanges {
        for mismatch in replay(&model, &exchange) {
            faults.add(&span, mismatch, "correct the point or the exchange");
        }
        model.exchanges.push(exchange);
    }
    for hint in model.recognise.iter().filter(|hint| !model.has(hint.quantity)) {
        faults.add(
            &fields.span_of("recognise"),
            format!("`recognise` names {}, which no point brings", hint.quantity),
            "add the point or leave it out of `recognise`",
        );
    }
    Some(model)
}

fn exchanges(faults: &mut Faults<'_>, fields: &mut Fields<'_, '_>) -> Vec<(Exchange, Range<usize>)> {
    let tables = fields.tables(faults, "exchange");
    let read = tables.into_iter().filter_map(|table| {
        let span = table.span.clone();
        exchange(faults, table).map(|exchange| (exchange, span))
    });
    read.collect()
}

fn stem<'a>(faults: &mut Faults<'_>, file: &'a Path) -> Option<&'a str> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let fits = stem.len() <= 64
        && stem.starts_with(|c: char| c.is_ascii_lowercase())
        && stem
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits {
        faults.add(
            &(0..0),
            format!("{stem:?} cannot be a model's name"),
            "name the file <vendor>_<model>.toml, of a-z, 0-9 and _, at most 64 characters",
        );
        return None;
    }
    Some(stem)
}

fn serial(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, folder: Folder) -> Option<Serial> {
    let baud = table.integer(faults, "baud", 300..=921_600);
    let baud = table.need(faults, "baud", baud);
    let parity = table.text(faults, "parity");
    let parity = table.need(faults, "parity", parity).and_then(|text| match text.value {
        "none" => Some(Parity::None),
        "even" => Some(Parity::Even),
        "odd" => Some(Parity::Odd),
        other => {
            let help = suggest(other, ["none", "even", "odd"].into_iter());
            faults.add(&text.span, format!("unknown parity `{other}`"), help);
            None
        }
    });
    let stop_bits = table.integer(faults, "stop_bits", 1..=2).map_or(1, |at| at.value);
    let address = table
        .text_or_integer(faults, "address")
        .unwrap_or_else(|| folder.usual_address().to_owned());
    table.finish(faults);
    Some(Serial {
        baud: u32::try_from(baud?.value).ok()?,
        parity: parity?,
        stop_bits: u8::try_from(stop_bits).ok()?,
        address,
    })
}

fn recognise(faults: &mut Faults<'_>, table: &Fields<'_, '_>) -> Vec<Recognise> {
    let mut out = Vec::new();
    for (key, value) in table.entries() {
        let Some(quantity) = Quantity::by_name(key.value) else {
            let help = suggest(key.value, Quantity::ALL.iter().map(|q| q.name()));
            faults.add(&key.span, format!("unknown quantity `{}`", key.value), help);
            continue;
        };
        let bounds: Vec<_> = value
            .get_ref()
            .as_array()
            .into_iter()
            .flat_map(|array| array.iter())
            .filter_map(|bound| decimal(faults, key.value, bound))
            .collect();
        match bounds.as_slice() {
            [min, max] if min.value <= max.value => out.push(Recognise {
                quantity,
                min: min.value,
                max: max.value,
            }),
            _ => faults.add(
                &value.span(),
                format!("`{}` needs the least and the most", key.value),
                "write [least, most], for example voltage_l1 = [80, 300]",
            ),
        }
    }
    out
}
