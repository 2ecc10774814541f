//! What is read of a frame, and what a model file may say.

use crate::device::catalogue::Catalogue;
use crate::device::check::check_folder;
use crate::device::decode::{DecodedPoll, ProblemKind, decode, name};
use crate::device::model::MeterModel;
use crate::device::plan::{PlanError, check_address, plan};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Quality, Value};
use crate::protocol::cjt188::{Address, Control, Frame, MeterType};
use crate::protocol::{Protocol, Request};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::builtin().unwrap());

fn model(name: &str) -> Arc<MeterModel> {
    Arc::clone(CATALOGUE.get(Protocol::Cjt188, name).unwrap())
}

/// The answer of meter 77 to the first question of a poll, with these data.
fn poll(model: &MeterModel, data: &[u8]) -> DecodedPoll {
    let requests = plan(model, "77", &[]).unwrap();
    let Request::Cjt188(request) = &requests[0] else {
        panic!("not CJ/T 188")
    };
    let target = request.target();
    let mut body = request.di().wire(target.order).to_vec();
    body.push(target.ser);
    body.extend_from_slice(data);
    let frame = Frame::new(target.meter_type, target.address, Control(0x81), body)
        .unwrap()
        .wire(2);
    decode(model, &requests, &[Some(&frame)])
}

fn said(poll: &DecodedPoll) -> Vec<(String, String)> {
    let items = poll.items.iter().map(|item| {
        let Value::Decimal(value) = item.value else {
            panic!("a float of digits")
        };
        (name(&item.measurand).to_owned(), value.to_string())
    });
    let problems = poll
        .problems
        .iter()
        .map(|problem| (name(&problem.measurand).to_owned(), problem.kind.to_string()));
    items.chain(problems).collect()
}

const TAIL: [u8; 9] = [0x30, 0x20, 0x10, 0x21, 0x11, 0x26, 0x20, 0x04, 0x00];

#[test]
fn the_unit_in_the_frame_counts() {
    let model = model("standard_cold_water_2004");
    for (code, expected) in [
        (0x2C, "1234.56"),
        (0x29, "1.23456"),
        (0x05, "its unit kWh does not convert to m³ (0x5634120005)"),
        (0x77, "unit code 77 is not in the table of the standard (0x5634120077)"),
    ] {
        let poll = poll(
            &model,
            &[&[0x56, 0x34, 0x12, 0x00, code, 0, 0, 0, 0, 0x2C][..], &TAIL].concat(),
        );
        let volume = said(&poll)
            .into_iter()
            .find(|(name, _)| name == "volume_total")
            .unwrap();
        assert_eq!(volume.1, expected);
        assert_eq!(poll.meter_local.unwrap().to_string(), "2026-11-21 10:20:30");
    }
    let heat = self::model("standard_heat_2004");
    for (code, kwh) in [
        (0x0A, "123400000"),
        (0x13, "34277777.777777778"),
        (0x0B, "0.342777778"),
        (0x02, "1.234"),
    ] {
        // 1234.00 of each
        let mut data = [0x00, 0x34, 0x12, 0x00, code].repeat(5);
        data.extend([0; 9]);
        data.extend(TAIL);
        let poll = poll(&heat, &data);
        let energy = said(&poll).into_iter().find(|(name, _)| name == "heat_energy").unwrap();
        assert_eq!(energy.1, kwh, "code {code:02X}");
    }
}

#[test]
fn digits_that_are_none_are_problems_with_their_bytes() {
    let model = model("standard_valve_water_2004");
    let data = [
        &[0x56, 0x3A, 0x12, 0x00, 0x2C, 0xFF, 0xFF, 0xFF, 0xFF, 0x2C][..],
        &[0; 7],
        &[0x06, 0x80],
    ]
    .concat();
    let poll = poll(&model, &data);
    let expected = [
        ("status_word", "32774"),
        ("valve_state", "2"),
        ("battery_low", "1"),
        (
            "volume_total",
            "byte 3A at offset 1 is not two decimal digits (0x563A12002C)",
        ),
        ("volume_settlement", "the meter says that it has no value"),
    ];
    let said = said(&poll);
    let said: Vec<(&str, &str)> = said
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(said, expected);
    assert_eq!(poll.meter_local, None);
    assert!(poll.problems[1].kind.is_no_value());
}

#[test]
fn another_layout_is_not_read_at_all() {
    let model = model("standard_cold_water_2004");
    for len in [0, 18, 20, 43] {
        let poll = poll(&model, &vec![0x11; len]);
        assert_eq!(poll.items, []);
        assert_eq!(poll.problems.len(), 4);
        let why = format!("the answer to 901F has {len} data bytes, the model says 19");
        assert!(
            poll.problems
                .iter()
                .all(|problem| problem.kind == ProblemKind::Undecodable(why.clone()))
        );
    }
}

#[test]
fn a_refusal_silence_and_an_implausible_value_are_named() {
    let model = model("jy_heat");
    let requests = plan(&model, "77", &[Quantity::HeatEnergy]).unwrap();
    assert_eq!(requests.len(), 1);
    let refusal = Frame::new(
        MeterType::HEAT,
        Address::parse("77").unwrap(),
        Control(0xC1),
        vec![1, 4, 0],
    )
    .unwrap();
    let heard = decode(&model, &requests, &[Some(&refusal.wire(0))]).only(&[Quantity::HeatEnergy]);
    assert_eq!(
        heard.problems[0].kind,
        ProblemKind::Undecodable("the meter refuses with status 04".into())
    );
    let silent = decode(&model, &requests, &[None]);
    assert!(
        silent
            .problems
            .iter()
            .all(|problem| problem.kind == ProblemKind::NotAnswered)
    );
    let mut data: Vec<u8> = [
        [0x08, 0, 0, 0, 0],
        [0x05, 0, 0, 0, 0],
        [0x17, 0, 0, 0, 0],
        [0x35, 0, 0, 0, 0],
    ]
    .concat();
    data.extend([0x2C, 0, 0, 0, 0]);
    // 9999.99 °C
    data.extend([0x99, 0x99, 0x99, 0, 0, 0, 0, 0, 0]);
    data.extend(TAIL);
    let poll = poll(&model, &data);
    let hot = poll
        .items
        .iter()
        .find(|item| name(&item.measurand) == "temperature_flow")
        .unwrap();
    assert_eq!(hot.quality, Quality::Suspect);
}

#[test]
fn addresses_are_digits_of_the_name_plate() {
    let model = model("standard_cold_water_2004");
    for good in [
        "1",
        "78330011223344",
        "0000 1".replace(' ', "").as_str(),
        "00000000EE0001",
    ] {
        assert_eq!(check_address(&model, good), Ok(()));
    }
    for wrong in ["", "123456789012345", "12-4", "AA000011223344"] {
        let Err(PlanError::Address { kind, .. }) = check_address(&model, wrong) else {
            panic!("{wrong} is taken")
        };
        assert_eq!(kind, "a CJ/T 188 address");
    }
}

#[test]
fn only_what_is_wanted_is_asked_for() {
    let model = model("kingda_bc95");
    let asked = |wanted: &[Quantity]| -> Vec<String> {
        let requests = plan(&model, "1", wanted).unwrap();
        let di = |request: &Request| match request {
            Request::Cjt188(request) => request.di().to_string(),
            other => panic!("{other:?}"),
        };
        requests.iter().map(di).collect()
    };
    assert_eq!(asked(&[]), ["901F", "8108", "820B"]);
    assert_eq!(asked(&[Quantity::VolumeTotal]), ["901F"]);
    assert_eq!(
        asked(&[Quantity::BatteryVoltage, Quantity::Temperature]),
        ["8108", "820B"]
    );
    assert!(matches!(
        plan(&model, "1", &[Quantity::VoltageL1]),
        Err(PlanError::NothingToRead { .. })
    ));
}

const HEAD: &str = "vendor = \"V\"\nmodel = \"M\"\nphases = 1\n[serial]\nbaud = 2400\nparity = \"even\"\n";

/// The faults of a file with this in place of a record, which starts at line 12.
fn faults(ask: &str, record: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("cjt188");
    std::fs::create_dir(&own).unwrap();
    let text = format!("{HEAD}[ask]\n{ask}\n[[record]]\n{record}\n");
    std::fs::write(own.join("my_meter.toml"), text).unwrap();
    check_folder(folder.path())
        .iter()
        .map(|fault| format!("{}: {}; {}", fault.line, fault.what, fault.help))
        .collect()
}

const ASK: &str = "meter_type = 0x10\ndi_order = \"high_first\"";

#[test]
fn each_fault_of_a_model_is_named_with_its_line() {
    let field = |text: &str| faults(ASK, &format!("di = 0x901F\nfield = [{{ {text} }}]"));
    let volume = "quantity = \"volume_total\", bytes = 4, decimals = 2, unit = \"m3\", unit_code = \"after\"";
    assert_eq!(field(volume), Vec::<String>::new());
    for (text, expected) in [
        (
            volume.replace("\"m3\"", "\"kWh\""),
            "12: `kWh` does not convert to m³, the unit of volume_total; use ",
        ),
        (
            volume.replace("\"m3\"", "\"l\""),
            "12: `l` has no code in the standard; use ",
        ),
        (
            volume.replace("after", "behind"),
            "12: unknown place `behind`; use \"after\" or \"before\"",
        ),
        (volume.replace("bytes = 4, ", ""), "12: `bytes` is missing; add"),
        (
            volume.replace("bytes = 4", "bytes = 10"),
            "12: `bytes` is out of range; use 1 to 9",
        ),
        ("clock = \"backwards\"".into(), "12: unknown clock `backwards`; use"),
        ("status = \"middle\"".into(), "12: unknown status bits `middle`; use"),
        ("skip = 0".into(), "12: `skip` is out of range; use 1 to 250"),
        (
            format!("{volume}, signed_byte = true"),
            "12: a signed byte has no digits and no unit beside it;",
        ),
        (
            format!("{volume} }}, {{ {volume}"),
            "10: volume_total is given twice; keep one of them",
        ),
    ] {
        let found = field(&text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(expected), "{found:?} for {text}");
    }
    let wrong = faults(
        "meter_type = 0x10\ndi_order = \"1F90\"\nlenient = \"sir\"",
        "di = 0x901F\nfield = []",
    );
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].contains("unknown order `1F90`") && wrong[1].contains("did you mean `ser`?"));
}

proptest! {
    #[test]
    fn random_data_never_panic_and_never_make_floats(data in prop::collection::vec(any::<u8>(), 0..60)) {
        for model in ["standard_heat_2004", "jy_heat", "standard_gas_2004", "jicheng_heat"] {
            let poll = poll(&self::model(model), &data);
            let _decimals = said(&poll);
        }
    }
}
