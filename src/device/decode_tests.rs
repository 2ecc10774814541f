//! Answers to items: what is missing, refused, foreign or implausible is said so; images read back as they were set.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::image::RegisterImage;
use crate::device::plan::plan;
use crate::domain::reading::{Quality, Value};
use crate::protocol::Protocol;
use crate::protocol::modbus::Reply;
use rust_decimal::{Decimal, dec};
use std::sync::Arc;

fn model(name: &str) -> Arc<MeterModel> {
    let catalogue = Catalogue::builtin().unwrap();
    Arc::clone(catalogue.get(Protocol::ModbusRtu, name).unwrap())
}

fn image(model: &MeterModel) -> RegisterImage {
    let Profile::Modbus(profile) = &model.profile else {
        panic!("not Modbus: {}", model.name)
    };
    RegisterImage::new(Arc::new(profile.clone()))
}

fn modbus(request: &Request) -> &crate::protocol::modbus::Request {
    match request {
        Request::Modbus(request) => request,
        other => panic!("not Modbus: {other:?}"),
    }
}

fn answers(image: &RegisterImage, requests: &[Request]) -> Vec<Vec<u8>> {
    requests
        .iter()
        .map(modbus)
        .map(|request| request.reply_frame(&image.reply(request)).unwrap())
        .collect()
}

fn read(model: &MeterModel, image: &RegisterImage, wanted: &[Quantity]) -> DecodedPoll {
    let requests = plan(model, "7", wanted).unwrap();
    let frames = answers(image, &requests);
    let frames: Vec<Option<&[u8]>> = frames.iter().map(|frame| Some(frame.as_slice())).collect();
    decode(model, &requests, &frames).only(wanted)
}

#[test]
fn an_image_of_every_model_reads_back_as_it_was_set() {
    let catalogue = Catalogue::builtin().unwrap();
    for model in catalogue
        .iter()
        .filter(|model| matches!(model.profile, Profile::Modbus(_)))
    {
        let mut image = image(model);
        let polled: Vec<Measurand> = model
            .measurands()
            .filter(|(_, poll)| *poll)
            .map(|(m, _)| m.clone())
            .collect();
        for (index, measurand) in polled.iter().enumerate() {
            // within what a power factor may be and every integer resolves, different for each point
            let value = Decimal::new(i64::try_from(index).unwrap() + 1, 2);
            let large = matches!(measurand, Measurand::Standard(q) if q.name().starts_with("power_factor"));
            let value = if large { value } else { value * dec!(1000) };
            image.set(measurand, Value::Decimal(value)).unwrap();
        }
        let poll = read(model, &image, &[]);
        assert_eq!(poll.problems, [], "{}", model.name);
        assert_eq!(poll.items.len(), polled.len(), "{}", model.name);
        for (index, measurand) in polled.iter().enumerate() {
            let item = poll.items.iter().find(|item| item.measurand == *measurand).unwrap();
            let value = match item.value {
                Value::Decimal(value) => value,
                Value::F32(value) => value.to_string().parse().unwrap(),
                Value::F64(value) => value.to_string().parse().unwrap(),
            };
            let set = Decimal::new(i64::try_from(index).unwrap() + 1, 2);
            let ratio = value / set;
            let factor = name(measurand).starts_with("power_factor");
            // a power factor resolves 0.001, everything else 1 of its canonical unit or better
            let exact = if factor {
                ratio == dec!(1)
            } else {
                (value - set * dec!(1000)).abs() <= dec!(5)
            };
            assert!(exact, "{}: {measurand:?} set {set}, read {value}", model.name);
        }
    }
}

#[test]
fn missing_answers_are_named_and_the_others_stand() {
    let model = model("hiking_dds238_zns");
    let mut image = image(&model);
    image
        .set(&Measurand::Standard(Quantity::VoltageL1), Value::Decimal(dec!(240.3)))
        .unwrap();
    let requests = plan(&model, "7", &[]).unwrap();
    assert_eq!(requests.len(), 2);
    let frames = answers(&image, &requests);
    let poll = decode(&model, &requests, &[None, Some(&frames[1])]);
    assert_eq!(
        poll.problems,
        [Problem {
            measurand: Measurand::Standard(Quantity::ActiveEnergyTotal),
            kind: ProblemKind::NotAnswered
        }]
    );
    let voltage = poll
        .items
        .iter()
        .find(|item| name(&item.measurand) == "voltage_l1")
        .unwrap();
    assert_eq!(
        (voltage.value, voltage.quality),
        (Value::Decimal(dec!(240.3)), Quality::Measured)
    );
    // a report list that ends early is the same
    let early = decode(&model, &requests, &[Some(&frames[0])]);
    assert_eq!(early.items.len(), 1);
    assert_eq!(early.problems.len(), 8);
    // the answers exchanged are nobody's values
    let crossed = decode(&model, &requests, &[Some(&frames[1]), Some(&frames[0])]);
    assert!(crossed.items.is_empty());
    assert!(
        crossed
            .problems
            .iter()
            .all(|p| matches!(p.kind, ProblemKind::Undecodable(_)))
    );
}

#[test]
fn a_refusal_is_a_problem_of_each_of_its_values() {
    let model = model("eastron_sdm120");
    let wanted = [Quantity::VoltageL1];
    let requests = plan(&model, "7", &wanted).unwrap();
    let request = modbus(&requests[0]);
    let frame = request.reply_frame(&Reply::Exception(2)).unwrap();
    let poll = decode(&model, &requests, &[Some(&frame)]);
    assert_eq!(poll.problems.len(), 1);
    assert_eq!(
        poll.problems[0].to_string(),
        "voltage_l1: refused with exception 2 (illegal data address)"
    );
}

#[test]
fn no_value_is_left_out_and_a_spike_is_suspect() {
    let model = model("abb_b23_b24");
    let mut image = image(&model);
    let power = Measurand::Standard(Quantity::ActivePowerTotal);
    assert_eq!(image.clear(&power), Ok(true));
    let poll = read(&model, &image, &[Quantity::ActivePowerTotal]);
    assert!(poll.items.is_empty());
    assert!(poll.problems[0].kind.is_no_value());
    let factor = Measurand::Standard(Quantity::PowerFactorTotal);
    image.set(&factor, Value::Decimal(dec!(1.5))).unwrap();
    let poll = read(&model, &image, &[Quantity::PowerFactorTotal]);
    assert_eq!(poll.items[0].quality, Quality::Suspect);
    assert_eq!(poll.items[0].value, Value::Decimal(dec!(1.5)));
}

#[test]
fn only_the_wanted_is_kept() {
    let model = model("eastron_sdm630");
    let wanted = [Quantity::VoltageL1, Quantity::CurrentL1];
    let requests = plan(&model, "7", &wanted).unwrap();
    assert_eq!(requests.len(), 1, "one read across voltage_l2 and voltage_l3");
    let poll = read(&model, &image(&model), &wanted);
    assert_eq!(poll.items.len(), 2);
}

#[test]
fn coils_bit_fields_and_vendor_quantities_are_read() {
    let text = "vendor = \"T\"\nmodel = \"T\"\nphases = 1\npoint = [
        { quantity = \"relay_state\", function = 1, address = 3, unit = \"1\" },
        { vendor = \"door\", function = 1, address = 5, unit = \"1\" },
        { vendor = \"alarm\", function = 3, address = 9, type = \"u16\", bit = 8, bits = 2, unit = \"1\" },
        { quantity = \"status_word\", function = 3, address = 9, type = \"u16\", bit = 0, bits = 8, unit = \"1\" },
        { quantity = \"volume_total\", function = 3, address = 10, type = \"bcd32\", word_order = \"little\", \
          byte_order = \"little\", unit = \"l\" }]
        [serial]\nbaud = 9600\nparity = \"odd\"\n[limits]\nmax_gap = 1\n";
    let model = crate::device::parse::parse("t.toml".as_ref(), crate::device::model::Folder::Modbus, text).unwrap();
    let requests = plan(&model, "7", &[]).unwrap();
    assert_eq!(requests.len(), 2);
    let replies = [
        Reply::Bits(vec![true, false, false]),
        // 12345678 litres, low word first and low byte first
        Reply::Registers(vec![0x02A5, 0x7856, 0x3412]),
    ];
    let frames: Vec<Vec<u8>> = requests
        .iter()
        .zip(&replies)
        .map(|(request, reply)| modbus(request).reply_frame(reply).unwrap())
        .collect();
    let frames: Vec<Option<&[u8]>> = frames.iter().map(|frame| Some(frame.as_slice())).collect();
    let poll = decode(&model, &requests, &frames);
    assert_eq!(poll.problems, []);
    let values: Vec<(&str, Value)> = poll
        .items
        .iter()
        .map(|item| (name(&item.measurand), item.value))
        .collect();
    assert_eq!(
        values,
        [
            ("relay_state", Value::Decimal(dec!(1))),
            ("door", Value::Decimal(dec!(0))),
            ("alarm", Value::Decimal(dec!(2))),
            ("status_word", Value::Decimal(dec!(165))),
            ("volume_total", Value::Decimal(dec!(12345.678))),
        ]
    );
}

#[test]
fn a_virtual_meter_refuses_as_real_ones_do() {
    use crate::protocol::modbus::{Body, Function, Request as Modbus};
    let model = model("hiking_dds238_zns");
    let image = image(&model);
    let ask = |address, count| image.reply(&Modbus::read(1, Function::ReadHoldingRegisters, address, count).unwrap());
    assert_eq!(ask(0, 2), Reply::Registers(vec![0, 0]));
    assert_eq!(ask(0, 3), Reply::Exception(2));
    assert_eq!(ask(0, 51), Reply::Exception(3));
    assert_eq!(ask(0xFFFF, 1), Reply::Exception(2));
    let write = Modbus::checked(1, Body::WriteRegister { address: 0, value: 0 }).unwrap();
    assert_eq!(image.reply(&write), Reply::Exception(1));
}
