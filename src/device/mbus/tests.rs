//! What M-Bus models read, on models of the catalogue and on telegrams made for a purpose.

use super::*;
use crate::base::hex;
use crate::device::catalogue::Catalogue;
use crate::device::decode::{DecodedPoll, ProblemKind, decode_past};
use crate::device::dlt645::history::DecodedPast;
use crate::device::model::{MeterModel, Profile};
use crate::device::plan::{PlanError, check_address, plan as plan_of};
use crate::domain::reading::Value;
use crate::protocol::Protocol;
use crate::protocol::mbus::write::{self, Data};
use crate::protocol::mbus::{self, Readout, Request, Selection, Status};
use rust_decimal::{Decimal, dec};
use std::sync::{Arc, LazyLock};

fn model(name: &str) -> Arc<MeterModel> {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::builtin().unwrap());
    Arc::clone(CATALOGUE.get(Protocol::Mbus, name).unwrap())
}

fn profile(model: &MeterModel) -> &ReadoutProfile {
    match &model.profile {
        Profile::Mbus(profile) => profile,
        other => panic!("{other:?}"),
    }
}

fn identification(letters: &str, version: u8, medium: u8) -> Identification {
    Identification {
        id: 0x1234_5678,
        manufacturer: Manufacturer::of(letters).unwrap(),
        version,
        medium,
    }
}

fn now(storage: u64) -> write::Place {
    write::Place {
        storage,
        ..write::Place::NOW
    }
}

/// Reads one telegram with these records as a meter of a model.
fn read(model: &MeterModel, who: Identification, records: &[Vec<u8>]) -> DecodedPoll {
    let frame = write::telegram(1, who, 7, Status(0), &records.concat()).unwrap();
    let request = Request::read(1, true).unwrap();
    decode::decode(profile(model), std::iter::once((&request, Some(frame.as_slice()))))
}

fn value(poll: &DecodedPoll, quantity: Quantity) -> Option<Decimal> {
    let item = poll
        .items
        .iter()
        .find(|item| item.measurand == Measurand::Standard(quantity))?;
    match item.value {
        Value::Decimal(value) => Some(value),
        _ => None,
    }
}

fn problem(poll: &DecodedPoll, quantity: Quantity) -> Option<ProblemKind> {
    let found = poll
        .problems
        .iter()
        .find(|p| p.measurand == Measurand::Standard(quantity))?;
    Some(found.kind.clone())
}

#[test]
fn one_readout_brings_everything_however_little_is_wanted() {
    let heat = model("generic_heat");
    let wires = |address: &str, wanted: &[Quantity]| -> Vec<String> {
        let requests = plan_of(&heat, address, wanted).unwrap();
        requests.iter().map(|request| hex::encode(&request.wire())).collect()
    };
    let primary = ["1040074716", "107B078216"];
    assert_eq!(wires("7", &[]), primary);
    assert_eq!(wires("007", &[Quantity::HeatEnergy]), primary);
    assert_eq!(
        wires("12345678.KAM", &[]),
        ["680B0B6853FD52785634122D2CFFFF0D16".to_owned(), "107BFD7816".to_owned()]
    );
    assert!(matches!(
        plan_of(&heat, "7", &[Quantity::VoltageL1]),
        Err(PlanError::NothingToRead { .. })
    ));
}

#[test]
fn addresses_are_primary_or_secondary() {
    let heat = model("generic_heat");
    for good in ["1", " 250 ", "01", "12345678", "12345678.kam.01.04", "3E00000A"] {
        assert_eq!(check_address(&heat, good), Ok(()), "{good}");
    }
    for wrong in [
        "0",
        "251",
        "253",
        "254",
        "",
        "+1",
        "1234567",
        "1234567F",
        "12345678.KAM.FF.04",
        "*",
    ] {
        let error = check_address(&heat, wrong).unwrap_err();
        assert!(error.to_string().contains("12345678.KAM.01.04"), "{error}");
    }
    assert_eq!(
        Address::parse("12345678.kam.0a").unwrap().to_string(),
        "12345678.KAM.0A"
    );
    assert_eq!(Address::parse("007").unwrap().to_string(), "7");
}

#[test]
fn energy_is_kilowatt_hours_from_any_unit() {
    let heat = model("generic_heat");
    let who = identification("PPH", 1, 4);
    let energy = |vib: &[u8], data: Data| {
        let poll = read(&heat, who, &[write::record(now(0), vib, &data).unwrap()]);
        value(&poll, Quantity::HeatEnergy)
    };
    assert_eq!(energy(&[0x03], Data::Bcd(4, 1500)), Some(dec!(1.5)));
    assert_eq!(energy(&[0x07], Data::Integer(4, 123)), Some(dec!(1230)));
    assert_eq!(energy(&[0xFB, 0x01], Data::Bcd(4, 12)), Some(dec!(12000)));
    // GJ have no finite decimal in kWh: 1.234 GJ
    assert_eq!(energy(&[0x0E], Data::Bcd(4, 1234)), Some(dec!(342.777777778)));
    assert_eq!(energy(&[0x0F], Data::Integer(4, 36)), Some(dec!(100)));
    assert_eq!(energy(&[0xFB, 0x09], Data::Bcd(4, 36)), Some(dec!(10000)));
    // a volume in a record of energy's place is no energy
    assert_eq!(energy(&[0x13], Data::Bcd(4, 1500)), None);
    // nor is energy that something narrows
    assert_eq!(energy(&[0x86, 0x3C], Data::Bcd(4, 1500)), None);
}

#[test]
fn what_is_no_value_has_its_reason() {
    let heat = model("generic_heat");
    let who = identification("PPH", 1, 4);
    let mut records = vec![write::record(now(0), &[0x06], &Data::Bcd(4, 7)).unwrap()];
    records.push(hex::decode("0C13FFFFFFFF").unwrap());
    let error = write::Place {
        function: Function::Error,
        ..write::Place::NOW
    };
    records.push(write::record(error, &[0x5A], &Data::Bcd(2, 9999)).unwrap());
    records.push(hex::decode("0A5EBDEB").unwrap());
    records.push(hex::decode("023B0080").unwrap());
    let poll = read(&heat, who, &records);
    assert_eq!(value(&poll, Quantity::HeatEnergy), Some(dec!(7)));
    assert_eq!(problem(&poll, Quantity::VolumeTotal), Some(ProblemKind::NoValue));
    assert_eq!(problem(&poll, Quantity::TemperatureFlow), Some(ProblemKind::NoValue));
    assert_eq!(problem(&poll, Quantity::FlowRate), Some(ProblemKind::NoValue));
    let bad = problem(&poll, Quantity::TemperatureReturn).unwrap().to_string();
    assert!(bad.contains("not decimal") && bad.contains("0A5EBDEB"), "{bad}");
    // what a meter may lack is neither a value nor a problem
    assert_eq!(problem(&poll, Quantity::ThermalPower), None);
    // but what every meter has is missed
    let poll = read(&heat, who, &records[1..]);
    assert!(matches!(
        problem(&poll, Quantity::HeatEnergy),
        Some(ProblemKind::Unusable(_))
    ));
}

#[test]
fn a_readout_that_breaks_off_says_so() {
    let heat = model("generic_heat");
    let who = identification("PPH", 1, 4);
    let poll = read(&heat, who, &[hex::decode("0C130100000004060102").unwrap()]);
    assert_eq!(value(&poll, Quantity::VolumeTotal), Some(dec!(0.001)));
    let why = problem(&poll, Quantity::HeatEnergy).unwrap();
    assert!(
        matches!(&why, ProblemKind::Undecodable(text) if text.contains("breaks off")),
        "{why}"
    );
}

#[test]
fn another_makers_meter_is_not_read_as_this_one() {
    let kamstrup = model("kamstrup_382");
    let record = write::record(now(0), &[0x06], &Data::Bcd(4, 7)).unwrap();
    let poll = read(&kamstrup, identification("KAM", 9, 2), std::slice::from_ref(&record));
    assert_eq!(value(&poll, Quantity::ActiveEnergyImport), Some(dec!(7)));
    for other in [identification("LUG", 1, 2), identification("KAM", 1, 7)] {
        let poll = read(&kamstrup, other, std::slice::from_ref(&record));
        assert!(poll.items.is_empty());
        let why = problem(&poll, Quantity::ActiveEnergyImport).unwrap().to_string();
        assert!(why.contains("not a meter of this model"), "{why}");
    }
    assert!(profile(&kamstrup).identify.weight() > profile(&model("generic_electricity")).identify.weight());
}

#[test]
fn spikes_are_suspect_and_the_clock_is_local() {
    let water = model("generic_water");
    let who = identification("PPW", 1, 7);
    let at = "2026-11-21T14:05:00".parse().unwrap();
    let poll = read(
        &water,
        who,
        &[
            write::record(now(0), &[0x13], &Data::Integer(4, -1)).unwrap(),
            write::record(now(1), &[0x6D], &Data::DateTime(at + chrono::Days::new(1))).unwrap(),
            write::record(now(0), &[0x6D], &Data::DateTime(at)).unwrap(),
        ],
    );
    assert_eq!(poll.items[0].quality, crate::domain::reading::Quality::Suspect);
    assert_eq!(poll.meter_local, Some(at));
    assert_eq!(poll.meter_time, None);
}

fn past(name: &str, back: u8) -> DecodedPast {
    let model = model(name);
    let answer = &model.exchanges[0].frames[1].1;
    let past = Past::Settlement(back);
    let requests = crate::device::plan::history(&model, "1", past, Default::default(), &[]).unwrap();
    let now = "2026-11-21T14:05:00".parse().unwrap();
    decode_past(&model, past, now, &requests, &[Some(&[0xE5]), Some(answer)])
}

#[test]
fn past_states_come_in_the_order_of_their_dates() {
    let state = |name, back| {
        let past = past(name, back);
        assert_eq!(past.problems, []);
        let values: Vec<_> = past.items.iter().map(|item| item.value).collect();
        (past.at.map(|at| at.to_string()), values)
    };
    let d = |value| vec![Value::Decimal(value)];
    let midnight = |date: &str| Some(format!("{date} 00:00:00"));
    // the first of the month is the midnight that begins it
    assert_eq!(state("minol_minocal_c2", 1), (midnight("2026-11-01"), d(dec!(9000))));
    assert_eq!(state("minol_minocal_c2", 8), (midnight("2026-04-01"), d(dec!(5500))));
    assert_eq!(state("minol_minocal_c2", 9), (None, vec![]));
    // a ring: 31 October, 30 September, 31 August …, each the midnight that ends it
    assert_eq!(state("ram_modularis", 1), (midnight("2026-11-01"), d(dec!(90))));
    assert_eq!(state("ram_modularis", 2), (midnight("2026-10-01"), d(dec!(85))));
    assert_eq!(state("ram_modularis", 6), (midnight("2026-06-01"), d(dec!(50))));
    assert_eq!(state("ram_modularis", 7), (None, vec![]));
    assert_eq!(state("ram_modularis", 0), (None, vec![]));
    // a date that comes again every year dates nothing
    let values = vec![Value::Decimal(dec!(10000)), Value::Decimal(dec!(7000))];
    assert_eq!(state("landisgyr_ultraheat_t230", 1), (None, values));
}

#[test]
fn several_telegrams_are_one_readout() {
    let model = model("sensus_pollucom_e");
    let (asked, answers) = &model.exchanges[0].frames[1];
    let request = Request::parse(asked).unwrap();
    let readout: Readout = request.readout(answers).unwrap();
    assert_eq!(readout.telegrams.len(), 2);
    assert!(!readout.is_cut());
    let first = usize::from(answers[1]) + 6;
    let next = request.follow_up(&answers[..first]).unwrap();
    assert_eq!(hex::encode(&next.wire()), "105B015C16");
    assert_eq!(request.follow_up(answers), None);
    // half of it says that it is half
    let poll = decode::decode(profile(&model), std::iter::once((&request, Some(&answers[..first]))));
    assert_eq!(value(&poll, Quantity::HeatEnergy), Some(dec!(19019)));
    assert!(request.readout(&answers[..first]).unwrap().is_cut());
    assert!(request.readout(&answers[..first - 1]).is_err());
    // a meter that repeats itself is not asked for ever
    let twice = [&answers[..first], &answers[..first]].concat();
    assert_eq!(request.follow_up(&twice), None);
    assert_eq!(request.readout(&twice).unwrap().telegrams.len(), 1);
}

#[test]
fn what_reads_nothing_misses_nothing_and_silence_misses_all() {
    let heat = model("generic_heat");
    let reset = Request::reset(1).unwrap();
    let poll = decode::decode(profile(&heat), std::iter::once((&reset, Some(&[0xE5][..]))));
    assert_eq!(poll, DecodedPoll::default());
    let read = Request::read(1, true).unwrap();
    let poll = decode::decode(profile(&heat), [(&reset, None), (&read, None)].into_iter());
    assert_eq!(poll.problems.len(), profile(&heat).points.len());
    assert!(
        poll.problems
            .iter()
            .all(|problem| problem.kind == ProblemKind::NotAnswered)
    );
    // an E5 in place of the telegram: the meter has nothing to tell
    let poll = decode::decode(profile(&heat), std::iter::once((&read, Some(&[0xE5][..]))));
    assert!(poll.items.is_empty());
    let why = problem(&poll, Quantity::HeatEnergy).unwrap().to_string();
    assert!(why.contains("nothing to tell"), "{why}");
}

#[test]
fn a_selected_meter_that_is_another_is_not_read() {
    let heat = model("generic_heat");
    let record = write::record(now(0), &[0x06], &Data::Bcd(4, 7)).unwrap();
    let frame = write::telegram(253, identification("KAM", 1, 4), 7, Status(0), &record).unwrap();
    let poll = |mask: &str| {
        let request = Request::read_selected(Selection::parse(mask).unwrap());
        decode::decode(profile(&heat), std::iter::once((&request, Some(frame.as_slice()))))
    };
    assert_eq!(value(&poll("12345678.KAM"), Quantity::HeatEnergy), Some(dec!(7)));
    let other = poll("12345679");
    assert!(matches!(
        problem(&other, Quantity::HeatEnergy),
        Some(ProblemKind::Undecodable(_))
    ));
}

#[test]
fn an_image_of_every_model_reads_back_as_it_was_set() {
    for model in Catalogue::builtin().unwrap().iter() {
        let Profile::Mbus(profile) = &model.profile else {
            continue;
        };
        for point in &profile.points {
            let Place::Record(key) = &point.place else { continue };
            // a second record of a kind stands behind the first
            if key.nth > 0 {
                continue;
            }
            let bytes = image::record(point, None, Some(dec!(12))).unwrap();
            let none = image::record(point, None, None).unwrap();
            let who = Identification {
                id: 1,
                manufacturer: profile
                    .identify
                    .manufacturers
                    .first()
                    .copied()
                    .unwrap_or(Manufacturer(0x2C2D)),
                version: profile.identify.versions.first().copied().unwrap_or(1),
                medium: profile.identify.media.first().copied().unwrap_or(7),
            };
            let poll = read(model, who, &[bytes]);
            let item = poll.items.iter().find(|item| item.measurand == point.measurand);
            let item = item.unwrap_or_else(|| panic!("{} {point:?}: {:?}", model.name, poll.problems));
            // an energy in steps of a kilowatt-hour or a volume in litres holds a 12
            assert_eq!(item.value, Value::Decimal(dec!(12)), "{} {:?}", model.name, point);
            let poll = read(model, who, &[none]);
            let problem = poll.problems.iter().find(|p| p.measurand == point.measurand).unwrap();
            assert!(problem.kind.is_no_value(), "{} {:?}", model.name, point);
        }
    }
}

#[test]
fn records_are_laid_into_telegrams_without_loss() {
    let records: Vec<Vec<u8>> = (0..60u8).map(|n| vec![0x04, 0x13, n, 0, 0, 0]).collect();
    for most in [16, 100, 240, 10_000] {
        let telegrams = image::telegrams(&records, most);
        let mut all = Vec::new();
        let last = telegrams.len() - 1;
        for (index, data) in telegrams.iter().enumerate() {
            assert!(data.len() <= most.min(write::RECORDS_MAX));
            let parsed = mbus::Records::parse(data, false);
            assert_eq!(parsed.more, index < last);
            all.extend(parsed.list.into_iter().map(|record| record.raw));
        }
        assert_eq!(all, records);
    }
    assert_eq!(image::telegrams(&[], 240), [Vec::<u8>::new()]);
}
