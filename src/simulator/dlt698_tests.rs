//! A virtual meter read by our own plans: every value is what its load shows, in one frame or in parts.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::decode::{decode, decode_past};
use crate::device::dlt645::history::Past;
use crate::device::model::{MeterModel, Profile};
use crate::device::plan::{clock, history, plan};
use crate::domain::quantity::Quantity;
use crate::protocol::{Finding, Protocol, Request, Verdict};
use crate::simulator::line::next_question;
use rust_decimal::prelude::ToPrimitive;

const NUMBER: &str = "202611210007";

fn model() -> Arc<MeterModel> {
    let catalogue = Catalogue::builtin().unwrap_or_else(|faults| panic!("{faults:?}"));
    Arc::clone(catalogue.get(Protocol::Dlt698, "dlt698_three_phase").unwrap())
}

fn meter(model: &MeterModel, frame: usize) -> ObjectMeter {
    let Profile::Dlt698(profile) = &model.profile else {
        panic!()
    };
    let address = Address::parse(NUMBER).unwrap();
    let meter = ObjectMeter::new(address, Arc::new(profile.clone()), Load::new(5, 3), false);
    *meter.device.lock().unwrap() = Device::new(address, frame);
    meter
}

/// All frames of the answer, as a line gathers them.
fn ask(meter: &ObjectMeter, request: &Request, now: DateTime<Utc>) -> Vec<u8> {
    let (mut asked, mut answers) = (request.clone(), Vec::new());
    loop {
        let mut wire = asked.wire();
        let (question, _) = next_question(&mut wire, &[Tongue::Dlt698]).unwrap();
        let said = meter.answer(&question, now).unwrap().bytes;
        let Finding::Frame {
            span,
            verdict: Verdict::Answer,
        } = asked.find(&said)
        else {
            panic!("{asked:?}: {said:02X?}")
        };
        answers.extend_from_slice(&said[span]);
        match request.follow_up(&answers) {
            Some(next) => asked = next,
            None => return answers,
        }
    }
}

#[test]
fn every_value_is_what_the_load_shows() {
    let model = model();
    let now: DateTime<Utc> = "2026-11-21T14:07:31Z".parse().unwrap();
    for frame in [1024, 100, 16] {
        let meter = meter(&model, frame);
        let asked = plan(&model, NUMBER, &[]).unwrap();
        assert_eq!(asked.len(), 1);
        let answers: Vec<Vec<u8>> = asked.iter().map(|request| ask(&meter, request, now)).collect();
        let frames: Vec<Option<&[u8]>> = answers.iter().map(|answer| Some(answer.as_slice())).collect();
        let poll = decode(&model, &asked, &frames);
        assert_eq!(poll.problems, [], "{frame}");
        let shown = meter.load.at(now);
        for (quantity, step) in [
            (Quantity::ActiveEnergyImport, 0.01),
            (Quantity::ActiveEnergyImportT1, 0.01),
            (Quantity::VoltageL2, 0.1),
            (Quantity::CurrentL3, 0.001),
            (Quantity::ActivePowerTotal, 0.1),
            (Quantity::PowerFactorTotal, 0.001),
            (Quantity::Frequency, 0.01),
        ] {
            let item = poll
                .items
                .iter()
                .find(|item| item.measurand == Measurand::Standard(quantity));
            let Some(Value::Decimal(read)) = item.map(|item| item.value) else {
                panic!("{quantity}: {item:?}")
            };
            let truth = match value_of(quantity, &shown).unwrap() {
                Value::Decimal(value) => value.to_f64().unwrap(),
                Value::F32(value) => value.into(),
                Value::F64(value) => value,
            };
            assert!(
                (read.to_f64().unwrap() - truth).abs() <= step,
                "{quantity}: {read} for {truth}"
            );
        }
        let asked = clock(&model, NUMBER).unwrap();
        let answer = ask(&meter, &asked[0], now);
        assert_eq!(
            decode(&model, &asked, &[Some(&answer)]).meter_local,
            Some(now.naive_utc())
        );
    }
}

#[test]
fn freezes_say_when_they_were() {
    let model = model();
    let now: DateTime<Utc> = "2026-11-21T14:07:31Z".parse().unwrap();
    let meter = meter(&model, 64);
    for (past, at) in [
        (Past::Daily(1), "2026-11-21T00:00:00"),
        (Past::Daily(62), "2026-09-21T00:00:00"),
        (Past::Settlement(2), "2026-10-01T00:00:00"),
    ] {
        let asked = history(&model, NUMBER, past, now.naive_utc(), &[]).unwrap();
        let answer = ask(&meter, &asked[0], now);
        let decoded = decode_past(&model, past, now.naive_utc(), &asked, &[Some(&answer)]);
        assert_eq!(decoded.problems, []);
        assert_eq!(decoded.at, Some(at.parse().unwrap()));
        let energy = meter.load.import_kwh(decoded.at.unwrap().and_utc());
        let item = &decoded.items[0];
        assert_eq!(item.measurand, Measurand::Standard(Quantity::ActiveEnergyImport));
        assert_eq!(item.value, Value::Decimal(energy.round_dp(2).normalize()));
    }
    let none = history(&model, NUMBER, Past::Daily(63), now.naive_utc(), &[]).unwrap();
    assert_eq!(none, []);
}

#[test]
fn another_meters_question_is_not_answered() {
    let model = model();
    let now: DateTime<Utc> = "2026-11-21T14:07:31Z".parse().unwrap();
    let meter = meter(&model, 1024);
    let asked = &plan(&model, "202611210008", &[]).unwrap()[0];
    let (question, _) = next_question(&mut asked.wire(), &[Tongue::Dlt698]).unwrap();
    assert_eq!(meter.answer(&question, now), None);
    // the fault that answers all the same does so under its own address
    let said = meter.answer_as_if_meant(&question, now).unwrap();
    assert!(matches!(
        asked.find(&said),
        Finding::Frame {
            verdict: Verdict::Foreign,
            ..
        }
    ));
}
