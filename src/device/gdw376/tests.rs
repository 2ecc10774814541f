//! Models of measuring points against what the codec's terminal says.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::decode::{ReportedState, decode, decode_past, decode_reported_item};
use crate::device::dlt645::history::Past;
use crate::device::model::{Folder, MeterModel};
use crate::device::parse::parse;
use crate::device::plan::{clock, history, kept, plan};
use crate::domain::reading::{Item, Value};
use crate::protocol::gdw376::format::{self, Value as Said};
use crate::protocol::gdw376::{Ask, Id, NO_TERMINAL, Pn, Request, Unit, Way, item_layout};
use crate::protocol::{self, Protocol};
use chrono::NaiveDateTime;
use rust_decimal::dec;
use std::sync::Arc;

fn model(name: &str) -> Arc<MeterModel> {
    let catalogue = Catalogue::builtin().unwrap_or_else(|faults| panic!("{faults:?}"));
    Arc::clone(catalogue.get(Protocol::Gdw376, name).unwrap())
}

fn at(text: &str) -> NaiveDateTime {
    text.parse().unwrap()
}

/// A terminal's answer to a question: every number `value` and a tenth of it a tariff, every time `time`.
fn answer(request: &protocol::Request, value: Decimal, time: NaiveDateTime) -> Vec<u8> {
    let protocol::Request::Gdw376(request) = request else {
        panic!()
    };
    let units: Vec<Unit> = request
        .asks()
        .map(|(id, stamp)| {
            let layout = item_layout(request.afn(), id.item, Way::Up, Edition::E2013).unwrap();
            let supply =
                |field: &'static crate::protocol::gdw376::layout::Field, rate: Option<u8>, _| match field.format {
                    format::Format::A1 | format::Format::A15 | format::Format::A17 => Said::Time(time),
                    format::Format::Bits(_) => Said::Bits(0x11),
                    _ => Said::Number(value + Decimal::from(rate.unwrap_or_default()) / dec!(10)),
                };
            let data = layout.write(stamp, 4, 0, supply).unwrap();
            Unit {
                id,
                data,
                start: 0,
                reading: None,
            }
        })
        .collect();
    request.excerpt(request.afn(), &units).unwrap()
}

fn value(items: &[Item], quantity: Quantity) -> Option<Value> {
    let mut items = items.iter();
    items
        .find(|item| item.measurand == Measurand::Standard(quantity))
        .map(|item| item.value)
}

#[test]
fn a_point_is_read_with_its_time() {
    use Quantity as Q;
    let model = model("gdw376_three_phase");
    let asked = plan(&model, "12", &[]).unwrap();
    // four energies and the instant values
    assert_eq!(asked.len(), 5);
    let time = at("2026-11-21T14:05:00");
    let answers: Vec<Vec<u8>> = asked.iter().map(|request| answer(request, dec!(21.5), time)).collect();
    let frames: Vec<Option<&[u8]>> = answers.iter().map(|bytes| Some(bytes.as_slice())).collect();
    let poll = decode(&model, &asked, &frames);
    assert_eq!(poll.problems, []);
    assert_eq!(poll.taken_local, Some(time));
    for (quantity, expected) in [
        (Q::ActiveEnergyImport, dec!(21.5)),
        (Q::ActiveEnergyImportT4, dec!(21.9)),
        (Q::ReactiveEnergyExport, dec!(21.5)),
        // kW and per cent in canonical units
        (Q::ActivePowerTotal, dec!(21500)),
        (Q::PowerFactorL3, dec!(0.215)),
        (Q::VoltageL2, dec!(21.5)),
    ] {
        assert_eq!(
            value(&poll.items, quantity),
            Some(Value::Decimal(expected)),
            "{quantity}"
        );
    }
    // the wanted ones alone need fewer items
    assert_eq!(plan(&model, "12", &[Q::ActiveEnergyImport]).unwrap().len(), 1);
    assert_eq!(plan(&model, "12", &[Q::VoltageL1, Q::CurrentL1]).unwrap().len(), 1);
}

#[test]
fn another_points_answer_is_no_value() {
    let model = model("gdw376_single_phase");
    let own = plan(&model, "12", &[Quantity::ActiveEnergyImport]).unwrap();
    let other = plan(&model, "13", &[Quantity::ActiveEnergyImport]).unwrap();
    let wrong = answer(&other[0], dec!(1), at("2026-11-21T14:05:00"));
    let poll = decode(&model, &own, &[Some(&wrong)]);
    assert_eq!(poll.items, []);
    assert_eq!(poll.problems.len(), 5);
    assert!(
        poll.problems[0].to_string().contains("nobody asked for"),
        "{}",
        poll.problems[0]
    );
    // and no answer at all is said to be none
    let poll = decode(&model, &own, &[None]);
    assert_eq!((poll.items.len(), poll.problems.len(), poll.taken_local), (0, 5, None));
}

#[test]
fn days_and_months_end_at_their_midnights() {
    let model = model("gdw376_three_phase");
    assert_eq!(kept(&model), (31, 12));
    let now = at("2026-11-21T14:05:00");
    for (past, ended) in [
        (Past::Daily(1), "2026-11-21T00:00:00"),
        (Past::Daily(31), "2026-10-22T00:00:00"),
        (Past::Settlement(1), "2026-11-01T00:00:00"),
        (Past::Settlement(12), "2025-12-01T00:00:00"),
    ] {
        let asked = history(&model, "12", past, now, &[]).unwrap();
        assert_eq!(asked.len(), 4);
        let answers: Vec<Vec<u8>> = asked.iter().map(|request| answer(request, dec!(7), now)).collect();
        let frames: Vec<Option<&[u8]>> = answers.iter().map(|bytes| Some(bytes.as_slice())).collect();
        let decoded = decode_past(&model, past, now, &asked, &frames);
        assert_eq!((decoded.at, decoded.problems.len()), (Some(at(ended)), 0), "{past:?}");
        let import = value(&decoded.items, Quantity::ActiveEnergyImportT1);
        assert_eq!(import, Some(Value::Decimal(dec!(7.1))));
    }
    assert_eq!(history(&model, "12", Past::Daily(32), now, &[]), Ok(vec![]));
    // what nobody wants is not asked for: the item of the import and its tariffs alone
    let wanted = [Quantity::ActiveEnergyImport, Quantity::ActiveEnergyImportT2];
    assert_eq!(history(&model, "12", Past::Daily(1), now, &wanted).unwrap().len(), 1);
    assert_eq!(
        history(&model, "12", Past::Daily(1), now, &[Quantity::VoltageL1]),
        Ok(vec![])
    );
}

#[test]
fn the_clock_is_the_terminals() {
    let model = model("gdw376_single_phase");
    let asked = clock(&model, "12").unwrap();
    let protocol::Request::Gdw376(request) = &asked[0] else {
        panic!()
    };
    let ids: Vec<Id> = request.asks().map(|(id, _)| id).collect();
    assert_eq!(ids, [Id::terminal(Fn::F2)]);
    // 2000-01-01, what a terminal says whose clock was never set
    let said = at("2000-01-01T00:00:10");
    let bytes = answer(&asked[0], dec!(0), said);
    assert_eq!(decode(&model, &asked, &[Some(&bytes)]).meter_local, Some(said));
}

#[test]
fn addresses_are_measuring_points() {
    let model = model("gdw376_single_phase");
    for wrong in ["0", "2041", "x", "", "-1", "1.5", "65536"] {
        assert!(plan(&model, wrong, &[]).is_err(), "{wrong}");
    }
    let asked = plan(&model, " 2040 ", &[Quantity::ActiveEnergyImport]).unwrap();
    let pn = Pn::new(2040).unwrap();
    let item = Fn::new(129).unwrap();
    let expected = Request::new(NO_TERMINAL, Afn::REALTIME, [Ask::plain(Id { pn, item })]).unwrap();
    assert_eq!(asked, [protocol::Request::Gdw376(expected)]);
}

#[test]
fn a_model_that_names_what_is_not_there_is_told_so() {
    let text = r#"
vendor = "A"
model = "B"
phases = 1
edition = 2013
point = [
    { quantity = "active_energy_import", item = "0D F161" },
    { quantity = "voltage_l1", item = "0C F25" },
    { quantity = "current_l1", item = "0C F25", field = "current phase D" },
    { quantity = "current_l2", item = "0C F25", field = "current phase B", rate = 1 },
    { quantity = "frequency", item = "0C F25", field = "voltage phase A" },
    { quantity = "voltage_l2", item = "F25" },
]
history = [{ what = "daily", max = 3, point = [{ quantity = "active_energy_import", item = "0D F177" }] }]
[serial]
baud = 9600
parity = "none"
"#;
    let faults = parse("own.toml".as_ref(), Folder::Gdw376, text).unwrap_err();
    let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [7, 8, 9, 10, 11, 12, 14], "{faults:#?}");
}

/// What an item says that is reported of a point, with every number `value` and every time `time`.
fn reported(afn: Afn, item: u8, stamp: &[u8], value: Decimal, time: NaiveDateTime) -> Option<ReportedState> {
    let layout = item_layout(afn, Fn::new(item).unwrap(), Way::Up, Edition::E2013).unwrap();
    let supply = |field: &'static crate::protocol::gdw376::layout::Field, rate: Option<u8>, _| match field.format {
        format::Format::A1 | format::Format::A15 => Said::Time(time),
        _ => Said::Number(value + Decimal::from(rate.unwrap_or_default()) / dec!(10)),
    };
    let data = layout.write(stamp, 4, 0, supply).unwrap();
    let id = Id {
        pn: Pn::new(7).unwrap(),
        item: Fn::new(item).unwrap(),
    };
    let reading = layout
        .read(&mut crate::base::bytes::Reader::new(&data))
        .and_then(Result::ok);
    let unit = Unit {
        id,
        data,
        start: 0,
        reading,
    };
    decode_reported_item(&model("gdw376_three_phase"), afn, &unit)
}

#[test]
fn reported_items_are_of_the_moment_that_stands_in_them() {
    let read_at = at("2026-11-21T08:15:00");
    let present = reported(Afn::REALTIME, 129, &[], dec!(100), read_at).unwrap();
    assert_eq!((present.at, present.items.len()), (read_at, 5));
    let import = |items: &[Item]| value(items, Quantity::ActiveEnergyImport);
    assert_eq!(import(&present.items), Some(Value::Decimal(dec!(100))));
    // the freeze of the 20th is of its end, whenever it was read
    let frozen = reported(Afn::HISTORY, 161, &[0x20, 0x11, 0x26], dec!(90), read_at).unwrap();
    assert_eq!((frozen.at, frozen.items.len()), (at("2026-11-21T00:00:00"), 5));
    assert_eq!(import(&frozen.items), Some(Value::Decimal(dec!(90))));
    // an item that the model does not have
    assert_eq!(reported(Afn::REALTIME, 33, &[], dec!(1), read_at), None);
}
