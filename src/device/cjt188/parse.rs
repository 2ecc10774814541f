//! Reading the CJ/T 188 part of a model file: how the meter is asked, and its records.

use super::history::History;
use super::parse_field::field;
use super::{Ask, Field, Part, Record, RecordProfile};
use crate::device::decode::name;
use crate::device::fault::Faults;
use crate::device::fields::{At, Fields, suggest};
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::cjt188::{DataId, DiOrder, FRAME_MAX, Leniency, MeterType, PREAMBLE_MAX};

/// The most records of a model.
const RECORDS_MAX: usize = 32;
/// The most data bytes of a record: what fits into a frame besides identifier and serial number.
const DATA_MAX: usize = u8::MAX as usize - 3;

pub(in crate::device) fn profile<'t, 'i>(
    faults: &mut Faults<'_>,
    fields: &mut Fields<'t, 'i>,
    limits: Option<Fields<'t, 'i>>,
) -> Option<RecordProfile> {
    if let Some(limits) = limits {
        limits.finish(faults);
    }
    let table = fields.table(faults, "ask");
    let ask = fields.need(faults, "ask", table).and_then(|table| ask(faults, table));
    let tables = fields.tables(faults, "record");
    if tables.is_empty() && !fields.has("record") {
        faults.add(&fields.span, "there is no record", "add at least one [[record]]");
    }
    if tables.len() > RECORDS_MAX {
        let what = format!("{} records are too many", tables.len());
        faults.add(&fields.span, what, format!("{RECORDS_MAX} are allowed"));
        return None;
    }
    let mut records: Vec<Record> = Vec::new();
    for table in tables {
        let span = table.span.clone();
        let Some(record) = record(faults, table) else { continue };
        if records.iter().any(|other| other.di == record.di) {
            faults.add(
                &span,
                format!("{} is given twice", record.di),
                "keep one of the records",
            );
        }
        for (measurand, _) in record.measurands() {
            let known = records
                .iter()
                .flat_map(Record::measurands)
                .any(|(other, _)| other == measurand);
            let twice = record.measurands().filter(|(other, _)| *other == measurand).count() > 1;
            if known || twice {
                faults.add(&span, format!("{} is given twice", name(measurand)), "keep one of them");
                break;
            }
        }
        records.push(record);
    }
    let table = fields.table(faults, "history");
    let history = table.map(|table| history(faults, table, &records));
    Some(RecordProfile {
        ask: ask?,
        records,
        history: history.flatten(),
    })
}

fn ask(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Ask> {
    let meter_type = table.integer(faults, "meter_type", 0..=0xFF);
    let meter_type = table.need(faults, "meter_type", meter_type);
    let di_order = table.text(faults, "di_order");
    let di_order = table
        .need(faults, "di_order", di_order)
        .and_then(|text| match text.value {
            "high_first" => Some(DiOrder::HighFirst),
            "low_first" => Some(DiOrder::LowFirst),
            other => {
                let help = "use \"high_first\" (90 1F) or \"low_first\" (1F 90)";
                faults.add(&text.span, format!("unknown order `{other}`"), help);
                None
            }
        });
    let byte = |at: Option<At<i64>>, default| at.and_then(|at| u8::try_from(at.value).ok()).unwrap_or(default);
    let ser = byte(table.integer(faults, "ser", 0..=0xFF), 0);
    let most = i64::try_from(PREAMBLE_MAX).unwrap_or(i64::MAX);
    let preamble = byte(table.integer(faults, "preamble", 0..=most), 4);
    let mut lenient = Leniency::default();
    for text in table.texts(faults, "lenient") {
        match text.value {
            "ser" => lenient.ser = true,
            "di_order" => lenient.di_order = true,
            "meter_type" => lenient.meter_type = true,
            other => {
                let help = suggest(other, ["ser", "di_order", "meter_type"].into_iter());
                faults.add(&text.span, format!("an answer cannot be lenient in `{other}`"), help);
            }
        }
    }
    table.finish(faults);
    let meter_type = MeterType(u8::try_from(meter_type?.value).ok()?);
    Some(Ask {
        meter_type,
        di_order: di_order?,
        ser,
        preamble,
        lenient,
    })
}

fn record(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Record> {
    let di = table.integer(faults, "di", 0..=0xFFFF);
    let di = table.need(faults, "di", di);
    let tables = table.tables(faults, "field");
    if tables.is_empty() && !table.has("field") {
        faults.add(&table.span, "the record has no field", "add `field = [ … ]`");
    }
    let fields: Vec<Option<Field>> = tables.into_iter().map(|table| field(faults, table)).collect();
    let span = table.span.clone();
    table.finish(faults);
    let fields: Vec<Field> = fields.into_iter().collect::<Option<_>>()?;
    let record = Record {
        di: DataId(u16::try_from(di?.value).ok()?),
        fields,
    };
    if record.len() > DATA_MAX {
        let what = format!("{} bytes do not fit into a frame of at most {FRAME_MAX}", record.len());
        faults.add(&span, what, "correct `bytes` and `skip`");
    }
    Some(record)
}

/// Reads what the meter keeps of past months.
fn history(faults: &mut Faults<'_>, mut table: Fields<'_, '_>, records: &[Record]) -> Option<History> {
    let max = table.integer(faults, "max", 1..=12);
    let max = table.need(faults, "max", max);
    let day = table.integer(faults, "day", 1..=28);
    let proof = table.text(faults, "proof").and_then(|text| {
        let known: Vec<&Measurand> = records
            .iter()
            .flat_map(Record::measurands)
            .map(|(measurand, _)| measurand)
            .collect();
        let found = Quantity::by_name(text.value).filter(|q| known.contains(&&Measurand::Standard(*q)));
        if found.is_none() {
            let help = suggest(text.value, known.iter().map(|known| name(known)));
            faults.add(&text.span, format!("no record brings `{}`", text.value), help);
        }
        found
    });
    let value = table.table(faults, "field");
    let value = table.need(faults, "field", value).and_then(|table| {
        let span = table.span.clone();
        let value = field(faults, table)?;
        if value.gives.first().is_none_or(|given| given.part != Part::Number) {
            faults.add(
                &span,
                "a month is a number",
                "give `quantity`, `bytes`, `decimals` and `unit`",
            );
            return None;
        }
        Some(value)
    });
    table.finish(faults);
    Some(History {
        max: u8::try_from(max?.value).ok()?,
        day: day.and_then(|at| u8::try_from(at.value).ok()),
        field: value?,
        proof,
    })
}
