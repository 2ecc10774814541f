//! Models of DL/T 698.45 against what the codec's table of attributes says, and against wrong answers.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::decode::{DecodedPoll, ProblemKind, decode, decode_past, decode_reported};
use crate::device::dlt645::history::Past;
use crate::device::model::{Folder, MeterModel, Profile};
use crate::device::parse::parse;
use crate::device::plan::{clock, history, instead, kept, plan};
use crate::domain::reading::Value;
use crate::protocol::dlt698::terminal::Device;
use crate::protocol::dlt698::{
    Apdu, Dar, Data, DateTimeS, FROZEN_AT, Frame, GetBody, Kind as AddressKind, Octets, Piid, Table, objects, open,
    terminal,
};
use crate::protocol::{Finding, Protocol, Request, Verdict};
use proptest::prelude::*;
use rust_decimal::dec;
use std::path::Path;
use std::sync::{Arc, LazyLock};

const METER: &str = "202611210042";

fn model(name: &str) -> Arc<MeterModel> {
    static CATALOGUE: LazyLock<Catalogue> =
        LazyLock::new(|| Catalogue::builtin().unwrap_or_else(|faults| panic!("{faults:?}")));
    Arc::clone(CATALOGUE.get(Protocol::Dlt698, name).unwrap())
}

fn oads(request: &Request) -> Vec<Oad> {
    let Request::Dlt698(request) = request else { panic!() };
    match request.apdu() {
        Some(Apdu::Get(asked)) => match &asked.body {
            GetBody::Normal(oad) => vec![*oad],
            GetBody::List(list) => list.iter().copied().collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// What a device with this table says.
fn said(table: &mut Table, request: &Request) -> Vec<u8> {
    let mut device = Device::new(Address::parse(METER).unwrap(), 1024);
    device.hear(&open(&request.wire()).unwrap(), table).unwrap().wire()
}

fn poll(model: &MeterModel, requests: &[Request], table: &mut Table) -> DecodedPoll {
    let answers: Vec<Vec<u8>> = requests.iter().map(|request| said(table, request)).collect();
    let frames: Vec<Option<&[u8]>> = answers.iter().map(|bytes| Some(bytes.as_slice())).collect();
    decode(model, requests, &frames)
}

fn value(poll: &DecodedPoll, quantity: Quantity) -> Option<Value> {
    let mut items = poll.items.iter();
    items
        .find(|item| item.measurand == Measurand::Standard(quantity))
        .map(|item| item.value)
}

fn table() -> Table {
    let mut table = Table::new();
    let list = |of: &[i32]| Data::Array(of.iter().map(|number| Data::Int32(*number)).collect());
    let energies = [123_456u32, 12_345, 22_222, 54_321, 34_568].map(Data::UInt32).to_vec();
    table.put(Oad::new(0x0010, 2), Data::Array(energies));
    table.put(
        Oad::new(0x2000, 2),
        Data::Array([2301u16, 2312, 2323].map(Data::UInt16).to_vec()),
    );
    table.put(Oad::new(0x2001, 2), list(&[5123, 6234, -7345]));
    table.put(Oad::new(0x2004, 2), list(&[15_000, 5000, 15_000, -5000]));
    table.put(
        Oad::new(0x200A, 2),
        Data::Array([987i16, 991, 985, -980].map(Data::Int16).to_vec()),
    );
    table.put(Oad::new(0x200F, 2), Data::UInt16(4998));
    table
}

#[test]
fn attributes_are_asked_whole_where_several_of_their_values_are_wanted() {
    use Quantity as Q;
    let model = model("dlt698_three_phase");
    let all = plan(&model, METER, &[]).unwrap();
    assert_eq!((all.len(), oads(&all[0]).len()), (1, 13));
    let asked = |wanted: &[Quantity]| -> Vec<String> {
        let requests = plan(&model, METER, wanted).unwrap();
        requests.iter().flat_map(oads).map(|oad| oad.to_string()).collect()
    };
    assert_eq!(asked(&[Q::ActiveEnergyImport]), ["00100201"]);
    assert_eq!(asked(&[Q::ActiveEnergyImport, Q::ActiveEnergyImportT4]), ["00100200"]);
    assert_eq!(asked(&[Q::Frequency, Q::VoltageL2]), ["20000202", "200F0200"]);
    assert_eq!(oads(&clock(&model, METER).unwrap()[0]), [Oad::new(0x4000, 2)]);
    assert_eq!(kept(&model), (62, 12));
    for wrong in ["AA", "", "12345678901B", "1/4"] {
        assert!(plan(&model, wrong, &[]).is_err(), "{wrong}");
    }
}

#[test]
fn values_come_in_canonical_units_and_refusals_have_their_reason() {
    use Quantity as Q;
    let model = model("dlt698_three_phase");
    let poll = poll(&model, &plan(&model, METER, &[]).unwrap(), &mut table());
    for (quantity, expected) in [
        (Q::ActiveEnergyImport, dec!(1234.56)),
        (Q::ActiveEnergyImportT4, dec!(345.68)),
        (Q::VoltageL3, dec!(232.3)),
        (Q::CurrentL3, dec!(-7.345)),
        (Q::ActivePowerTotal, dec!(1500)),
        (Q::ActivePowerL3, dec!(-500)),
        (Q::PowerFactorL3, dec!(-0.98)),
        (Q::Frequency, dec!(49.98)),
    ] {
        assert_eq!(value(&poll, quantity), Some(Value::Decimal(expected)), "{quantity}");
    }
    // what the device does not know is no fault, and no value
    assert_eq!(value(&poll, Q::ActiveEnergyExport), None);
    assert!(!poll.problems.is_empty() && poll.problems.iter().all(|problem| problem.kind == ProblemKind::NoValue));
    let mut single = Table::new();
    single.put(Oad::new(0x2000, 2), Data::Array(vec![Data::UInt16(2301)]));
    let requests = plan(&model, METER, &[Q::VoltageL1, Q::VoltageL2]).unwrap();
    let poll = self::poll(&model, &requests, &mut single);
    assert_eq!(value(&poll, Q::VoltageL1), Some(Value::Decimal(dec!(230.1))));
    assert_eq!(
        (
            value(&poll, Q::VoltageL2),
            poll.only(&[Q::VoltageL1, Q::VoltageL2]).problems.len()
        ),
        (None, 1)
    );
}

#[test]
fn what_is_reported_is_read_like_what_is_asked_for() {
    use Quantity as Q;
    let model = model("dlt698_three_phase");
    let energies = Data::Array([123_456u32, 12_345, 22_222, 54_321, 34_568].map(Data::UInt32).to_vec());
    let values = [
        (Oad::new(0x0010, 2), energies),
        (Oad::element(0x2000, 2, 2), Data::UInt16(2312)),
        (Oad::new(0x200F, 2), Data::Null),
        (Oad::new(0x2099, 2), Data::UInt16(1)),
    ];
    let poll = decode_reported(&model, &values);
    for (quantity, expected) in [
        (Q::ActiveEnergyImport, Some(dec!(1234.56))),
        (Q::ActiveEnergyImportT4, Some(dec!(345.68))),
        (Q::VoltageL2, Some(dec!(231.2))),
        (Q::VoltageL1, None),
        (Q::Frequency, None),
    ] {
        assert_eq!(value(&poll, quantity), expected.map(Value::Decimal), "{quantity}");
    }
    assert_eq!(poll.items.len(), 6);
    assert!(poll.problems.iter().all(|problem| problem.kind == ProblemKind::NoValue));
}

#[test]
fn what_is_no_number_is_no_value() {
    let model = model("dlt698_three_phase");
    let requests = plan(&model, METER, &[Quantity::Frequency]).unwrap();
    for (data, kind) in [
        (Data::Null, ProblemKind::NoValue),
        (
            Data::Octets(Octets(vec![1, 2])),
            ProblemKind::Unusable("200F0200 brings octet-string, no number".to_owned()),
        ),
    ] {
        let mut table = Table::new();
        table.put(Oad::new(0x200F, 2), data);
        let poll = poll(&model, &requests, &mut table);
        assert_eq!(poll.items, []);
        assert_eq!(poll.problems[0].kind, kind);
    }
}

#[test]
fn a_list_that_is_refused_is_asked_one_by_one() {
    let model = model("dlt698_single_phase");
    let list = &plan(&model, METER, &[]).unwrap()[0];
    let singles = instead(&model, list);
    let each: Vec<Oad> = singles.iter().flat_map(oads).collect();
    assert_eq!(each, oads(list));
    let numbers: std::collections::BTreeSet<u8> = singles
        .iter()
        .map(|request| match request {
            Request::Dlt698(request) => request.piid().unwrap().number(),
            _ => panic!(),
        })
        .collect();
    assert_eq!(numbers.len(), singles.len());
    assert!(instead(&model, &singles[0]).is_empty());
    // the device cannot read the list at all, and says so
    let Request::Dlt698(asked) = list else { panic!() };
    let error = terminal::unreadable(asked.piid().unwrap()).wire();
    let answer = Frame::new(crate::protocol::dlt698::Control::ANSWER, asked.address(), 1, error).unwrap();
    let found = list.find(&answer.wire());
    assert!(
        matches!(
            found,
            Finding::Frame {
                verdict: Verdict::Refused(0xF1),
                ..
            }
        ),
        "{found:?}"
    );
    assert_eq!(list.refusal(0xF1), "the APDU cannot be read");
    let poll = poll(&model, &singles, &mut table());
    assert_eq!(value(&poll, Quantity::VoltageL1), Some(Value::Decimal(dec!(230.1))));
}

#[test]
fn a_freeze_says_when_it_was() {
    let model = model("dlt698_single_phase");
    let now = "2026-11-21T14:05:00".parse().unwrap();
    let asked = history(&model, METER, Past::Daily(2), now, &[]).unwrap();
    assert_eq!(asked.len(), 1);
    let mut table = Table::new();
    for day in 18..=21u32 {
        let at = now_at(day);
        let energies = [1000, 100, 200, 300, 400].map(|energy| Data::UInt32(energy + day));
        table.push_row(
            0x5004,
            [
                (FROZEN_AT, Data::DateTimeS(at)),
                (Oad::new(0x0010, 2), Data::Array(energies.to_vec())),
            ]
            .into(),
        );
    }
    let answer = said(&mut table, &asked[0]);
    let past = decode_past(&model, Past::Daily(2), now, &asked, &[Some(&answer)]);
    assert_eq!(past.at, now_at(20).naive());
    let energy = past
        .items
        .iter()
        .find(|item| item.measurand == Measurand::Standard(Quantity::ActiveEnergyImport));
    assert_eq!(energy.unwrap().value, Value::Decimal(dec!(10.2)));
    // the export stands in no column
    assert_eq!(past.problems.len(), 1);
    // a meter without the record keeps nothing, and nothing is made up
    let answer = said(&mut Table::new(), &asked[0]);
    let past = decode_past(&model, Past::Daily(2), now, &asked, &[Some(&answer)]);
    assert_eq!((past.items.len(), past.at), (0, None));
}

fn now_at(day: u32) -> DateTimeS {
    DateTimeS::midnight(chrono::NaiveDate::from_ymd_opt(2026, 11, day).unwrap())
}

#[test]
fn faults_of_a_model_are_named() {
    let head = "vendor = \"v\"\nmodel = \"m\"\nphases = 1\n[serial]\nbaud = 9600\nparity = \"even\"\n";
    for (point, what) in [
        ("{ quantity = \"frequency\", oad = \"200F02\" }", "is not an attribute"),
        (
            "{ quantity = \"frequency\", oad = \"20000201\" }",
            "does not convert to Hz",
        ),
        (
            "{ vendor = \"odd\", oad = \"99990200\" }",
            "is not in the standard's table",
        ),
        (
            "{ quantity = \"frequency\", oad = \"200F0200\" }, { quantity = \"frequency\", oad = \"200F0200\" }",
            "is given twice",
        ),
    ] {
        let text = format!("point = [{point}]\n{head}");
        let faults = parse(Path::new("m_m.toml"), Folder::Dlt698, &text).unwrap_err();
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|fault| fault.contains(what)), "{point}: {told:?}");
    }
    let own = format!("point = [{{ vendor = \"odd\", oad = \"99990200\", scale = 0.5, unit = \"x\" }}]\n{head}");
    let model = parse(Path::new("m_m.toml"), Folder::Dlt698, &own).unwrap();
    let Profile::Dlt698(profile) = &model.profile else {
        panic!()
    };
    assert_eq!((profile.points[0].factor, profile.list_max), (dec!(0.5), 16));
}

/// Every subset of the model's quantities.
fn wanted() -> impl Strategy<Value = Vec<Quantity>> {
    let all: Vec<Quantity> = match &model("dlt698_three_phase").profile {
        Profile::Dlt698(profile) => profile.points.iter().filter_map(Point::quantity).collect(),
        _ => Vec::new(),
    };
    let most = all.len();
    prop::sample::subsequence(all, 1..=most)
}

proptest! {
    #[test]
    fn a_plan_brings_what_is_wanted_and_asks_nothing_twice(wanted in wanted(), list_max in 1usize..20) {
        let mut model = (*model("dlt698_three_phase")).clone();
        if let Profile::Dlt698(profile) = &mut model.profile {
            profile.list_max = list_max;
        }
        let Profile::Dlt698(profile) = &model.profile else { panic!() };
        let requests = plan(&model, METER, &wanted).unwrap();
        let asked: Vec<Oad> = requests.iter().flat_map(oads).collect();
        let unique: std::collections::BTreeSet<Oad> = asked.iter().map(|oad| whole(*oad)).collect();
        prop_assert_eq!(unique.len(), asked.len());
        let attributes: std::collections::BTreeSet<Oad> = profile
            .points
            .iter()
            .filter(|point| point.quantity().is_some_and(|quantity| wanted.contains(&quantity)))
            .map(|point| whole(point.oad))
            .collect();
        prop_assert_eq!(&attributes, &unique);
        // as few questions as hold them, each with its own number
        prop_assert_eq!(requests.len(), attributes.len().div_ceil(list_max));
        let numbers: std::collections::BTreeSet<u8> = requests
            .iter()
            .filter_map(|request| match request {
                Request::Dlt698(request) => request.piid().map(Piid::number),
                _ => None,
            })
            .collect();
        prop_assert_eq!(numbers.len(), requests.len().min(15));
    }

    #[test]
    fn what_a_device_holds_is_what_is_read(
        wanted in wanted(),
        numbers in prop::collection::vec(0u16..30_000, 40),
        missing in prop::collection::btree_set(0usize..40, 0..6),
    ) {
        let model = model("dlt698_three_phase");
        let Profile::Dlt698(profile) = &model.profile else { panic!() };
        // the device's own attributes, some of them not there
        let mut table = Table::new();
        let mut held: std::collections::BTreeMap<Oad, i64> = std::collections::BTreeMap::new();
        let attributes: std::collections::BTreeSet<Oad> = profile.points.iter().map(|point| whole(point.oad)).collect();
        for (place, oad) in attributes.into_iter().enumerate().filter(|(place, _)| !missing.contains(place)) {
            let number = |index: usize| numbers[(place * 7 + index) % numbers.len()];
            let single = profile.points.iter().all(|point| whole(point.oad) != oad || point.oad.index == 0);
            let data = if single {
                held.insert(oad, number(0).into());
                Data::UInt16(number(0))
            } else {
                (1..=5usize).for_each(|index| {
                    held.insert(Oad { index: u8::try_from(index).unwrap(), ..oad }, number(index).into());
                });
                Data::Array((1..=5).map(|index| Data::UInt16(number(index))).collect())
            };
            table.put(oad, data);
        }
        let poll = poll(&model, &plan(&model, METER, &wanted).unwrap(), &mut table).only(&wanted);
        for quantity in wanted {
            let point = profile.points.iter().find(|point| point.quantity() == Some(quantity)).unwrap();
            let scaler = objects::item(point.oad, point.oad.index).scaler;
            let expected = held.get(&point.oad).map(|raw| {
                let in_file = Data::Int64(*raw).scaled(scaler).unwrap();
                // kW of demands are the only unit that is not canonical
                let kilo = matches!(point.oad.oi, 0x1010 | 0x1020 | 0x2017);
                Value::Decimal(if kilo { in_file * dec!(1000) } else { in_file })
            });
            match (value(&poll, quantity), expected) {
                (Some(Value::Decimal(read)), Some(Value::Decimal(held))) => prop_assert_eq!(read, held),
                (read, expected) => prop_assert_eq!(read, expected),
            }
        }
    }

    /// Another device, another number, another question, bits that tipped: never a value.
    #[test]
    fn an_answer_that_is_not_ours_is_no_value(
        other in 0u8..5, bit in 0usize..800, number in 0u8..64,
    ) {
        let model = model("dlt698_three_phase");
        let requests = plan(&model, METER, &[Quantity::ActiveEnergyImport, Quantity::VoltageL1]).unwrap();
        let right = said(&mut table(), &requests[0]);
        let frame = open(&right).unwrap();
        let mut apdu = frame.data().to_vec();
        let wrong = match other {
            0 => {
                let mut bytes = right.clone();
                bytes[bit / 8 % right.len()] ^= 1 << (bit % 8);
                bytes
            }
            1 => {
                prop_assume!(number != apdu[2] & 0x3F);
                apdu[2] = number;
                Frame::new(frame.control, frame.address, frame.client, apdu).unwrap().wire()
            }
            2 => {
                let address = Address::of(AddressKind::Single, 0, &[0x20, 0x26, 0x11, 0x21, 0x00, 0x43]).unwrap();
                Frame::new(frame.control, address, frame.client, apdu).unwrap().wire()
            }
            3 => {
                let others = plan(&model, METER, &[Quantity::CurrentL1, Quantity::VoltageL1]).unwrap();
                said(&mut table(), &others[0])
            }
            // to another head end
            _ => Frame::new(frame.control, frame.address, 2, apdu).unwrap().wire(),
        };
        let poll = decode(&model, &requests, &[Some(&wrong)]);
        prop_assert_eq!(poll.items, []);
        let is_answer = matches!(
            requests[0].find_last(&wrong),
            Finding::Frame { verdict: Verdict::Answer, .. }
        );
        prop_assert!(!is_answer);
    }
}

#[test]
fn an_unknown_refusal_is_told() {
    let model = model("dlt698_three_phase");
    let requests = plan(&model, METER, &[Quantity::Frequency]).unwrap();
    assert_eq!(requests[0].refusal(Dar::DENIED.0), "reading or writing denied (3)");
}
