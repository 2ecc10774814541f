//! Searches against model lines: meters that answer what fits them, garbage where several do.

use super::*;
use crate::protocol::{cjt188, dlt645, mbus};
use proptest::prelude::*;

/// What a line says to a request.
#[derive(Debug)]
enum Said {
    Nothing,
    One(Vec<u8>),
    Refusal,
    Garbage,
}

/// Runs a survey over a line; how many questions it took.
fn run(survey: &mut Survey, mut line: impl FnMut(&Request) -> Said) -> u32 {
    let mut asked = 0;
    while let Some(probe) = survey.probe() {
        assert_eq!(survey.probe(), Some(probe.clone()), "asked twice it says the same");
        let said = line(&probe.request);
        survey.hear(match &said {
            Said::Nothing => Heard::Silence,
            Said::One(answer) => Heard::Answer(answer),
            Said::Refusal => Heard::Refused,
            Said::Garbage => Heard::Garbage,
        });
        asked += 1;
        assert!(asked < 10_000, "no end");
    }
    asked
}

fn only(protocol: Protocol, thorough: bool) -> Survey {
    Survey::new(&ScanPlan {
        protocols: vec![protocol],
        thorough,
        ..ScanPlan::default()
    })
}

fn addresses(survey: &Survey) -> Vec<&str> {
    let mut found: Vec<&str> = survey.found().iter().map(|found| found.address.as_str()).collect();
    found.sort_unstable();
    found
}

/// Meters of one edition of DL/T 645 on a line; several answers at once are garbage.
fn line645(meters: &[dlt645::Address]) -> impl FnMut(&Request) -> Said {
    move |request| {
        let Request::Dlt645(request) = request else {
            return Said::Nothing;
        };
        let called: Vec<_> = meters
            .iter()
            .filter(|meter| request.address().covers(**meter))
            .collect();
        match called.as_slice() {
            [] => Said::Nothing,
            [meter] => {
                let code = request.function().code(request.edition()).unwrap();
                let control = dlt645::Control(code | dlt645::Control::FROM_METER);
                let mut data = Vec::new();
                match request.di() {
                    Some(di) => {
                        di.push_to(&mut data);
                        data.extend([0x56, 0x34, 0x12, 0x00]);
                    }
                    None => data.extend(meter.wire()),
                }
                Said::One(dlt645::seal(**meter, control, &data))
            }
            _ => Said::Garbage,
        }
    }
}

#[test]
fn units_that_answer_or_refuse_are_alive() {
    let mut survey = only(Protocol::ModbusRtu, false);
    let asked = run(&mut survey, |request| {
        let Request::Modbus(request) = request else { panic!() };
        match request.unit() {
            3 => Said::One(vec![3, 3, 2, 0, 0, 0, 0]),
            17 => Said::Refusal,
            40 => Said::Garbage,
            _ => Said::Nothing,
        }
    });
    assert_eq!((asked, addresses(&survey)), (247, vec!["17", "3"]));
    assert!(survey.notes()[0].text.contains("units 40"), "{:?}", survey.notes());
}

#[test]
fn one_meter_is_found_by_one_question() {
    for (protocol, meter) in [
        (Protocol::Dlt645_2007, "123456789012"),
        (Protocol::Dlt645_1997, "000000000001"),
    ] {
        let meters = [dlt645::Address::parse(meter).unwrap()];
        let mut survey = only(protocol, false);
        assert_eq!(run(&mut survey, line645(&meters)), 1);
        assert_eq!(addresses(&survey), [meter]);
    }
}

#[test]
fn a_line_on_which_everything_is_garbage_is_given_up_and_says_so() {
    let mut survey = only(Protocol::Cjt188, false);
    assert!(run(&mut survey, |_| Said::Garbage) <= 2_000);
    assert!(survey.found().is_empty());
    assert!(
        survey.notes()[0].text.contains("speed and parity"),
        "{:?}",
        survey.notes()
    );
}

#[test]
fn nobody_there_takes_few_questions_but_for_modbus() {
    let mut survey = Survey::new(&ScanPlan::default());
    assert_eq!(run(&mut survey, |_| Said::Nothing), 247 + 4 + 2);
    assert!(survey.notes().is_empty());
}

#[test]
fn an_mbus_line_that_knows_no_secondary_addresses_is_swept() {
    let mut survey = only(Protocol::Mbus, false);
    run(&mut survey, |request| {
        let Request::Mbus(request) = request else { panic!() };
        match (request.address(), request.reads()) {
            (7 | 254, false) => Said::One(vec![mbus::ACK]),
            (7, true) => Said::One(vec![0x68, 0x03, 0x03, 0x68, 0x08, 0x07, 0x78, 0x87, 0x16]),
            _ => Said::Nothing,
        }
    });
    assert_eq!(addresses(&survey), ["7"]);
}

#[test]
fn a_188_meter_tells_its_type_with_its_address() {
    let meter = cjt188::Address::parse("44013000123456").unwrap();
    let mut survey = only(Protocol::Cjt188, false);
    run(&mut survey, |request| {
        let Request::Cjt188(request) = request else { panic!() };
        let [first, second] = request.di().wire(request.target().order);
        let control = cjt188::Control(request.function().code() | 0x80);
        let data = vec![first, second, request.target().ser];
        let answer = cjt188::Frame::new(cjt188::MeterType::COLD_WATER, meter, control, data).unwrap();
        Said::One(answer.wire(0))
    });
    assert_eq!(addresses(&survey), ["44013000123456"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any meters on a line where several answers at once are garbage are all found.
    #[test]
    fn all_meters_of_a_line_are_found(
        numbers in prop::collection::btree_set(prop_oneof![0u64..1000, 0u64..999_999_999_999], 1..6),
        edition in prop_oneof![Just(Protocol::Dlt645_2007), Just(Protocol::Dlt645_1997)],
    ) {
        let texts: Vec<String> = numbers.iter().map(|number| format!("{number:012}")).collect();
        let meters: Vec<_> = texts.iter().map(|text| dlt645::Address::parse(text).unwrap()).collect();
        let mut survey = only(edition, false);
        run(&mut survey, line645(&meters));
        prop_assert_eq!(addresses(&survey), texts);
    }
}
