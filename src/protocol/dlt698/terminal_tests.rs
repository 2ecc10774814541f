//! Questions and a device that answers them from a table: what goes out comes back, whole, in parts, through a concentrator.

use super::property_tests::any_data;
use super::relay::{Action, FIRST};
use super::terminal::{Device, Objects};
use super::*;
use crate::protocol::{Finding, Verdict};
use chrono::NaiveDate;
use proptest::prelude::*;
use std::num::NonZeroU16;

fn meter() -> Address {
    Address::parse("202611210001").unwrap()
}

const ENERGY: Oad = Oad::new(0x0010, 2);

/// Asks until the answer is whole, as a line does.
fn ask(device: &mut Device, table: &mut Table, request: &Request) -> Result<Apdu, AnswerError> {
    let (mut asked, mut answers) = (request.clone(), Vec::new());
    for _ in 0..BLOCKS_MAX {
        let frame = open(&asked.wire()).unwrap();
        let Some(answer) = device.hear(&frame, table) else {
            break;
        };
        let wire = answer.wire();
        let span = 0..wire.len();
        match asked.find(&wire) {
            Finding::Frame {
                span: found,
                verdict: Verdict::Answer | Verdict::Refused(_),
            } => assert_eq!(found, span),
            other => panic!("{other:?} to {asked:?}"),
        }
        answers.extend(wire);
        match request.follow_up(&answers) {
            Some(follow) => asked = follow,
            None => break,
        }
    }
    request.reply(&answers)
}

fn table() -> Table {
    let mut table = Table::new();
    table.put(
        ENERGY,
        Data::Array([100_000u32, 60_000, 40_000].into_iter().map(Data::UInt32).collect()),
    );
    table.put(CLOCK, Data::DateTimeS(DateTimeS::midnight(day(1))));
    table.allow_set(CLOCK);
    table.put(ADDRESS, Data::Octets(Octets(meter().printed().to_vec())));
    table.give_relay();
    for number in 1..=20u32 {
        let row = [
            (FROZEN_AT, Data::DateTimeS(DateTimeS::midnight(day(number)))),
            (ENERGY, Data::Array(vec![Data::UInt32(number * 100); 5])),
        ];
        table.push_row(0x5004, row.into_iter().collect());
    }
    table
}

fn day(number: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, number).unwrap()
}

fn value(answer: Result<Apdu, AnswerError>) -> Data {
    match answer {
        Ok(Apdu::GetAnswer(Answered {
            body: GetResult::Normal(item),
            ..
        })) => match item.result {
            ValueResult::Data(data) => data,
            ValueResult::Dar(dar) => panic!("{dar}"),
        },
        other => panic!("{other:?}"),
    }
}

fn rows(answer: Result<Apdu, AnswerError>) -> Vec<Vec<Data>> {
    match answer {
        Ok(Apdu::GetAnswer(Answered {
            body: GetResult::Record(RecordResult {
                rows: Rows::Rows(rows), ..
            }),
            ..
        })) => rows,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_answers_from_its_table() {
    let (mut device, mut table) = (Device::new(meter(), 1024), table());
    let get = |oad| Request::get(meter(), Piid::new(1), &[oad]).unwrap();
    let second = Oad { index: 2, ..ENERGY };
    assert_eq!(value(ask(&mut device, &mut table, &get(second))), Data::UInt32(60_000));
    let refused = ask(&mut device, &mut table, &get(Oad::new(0x2099, 2)));
    assert_eq!(refused, Err(AnswerError::Refused(Refusal::Dar(Dar::UNDEFINED))));
    let anyone = Request::get(Address::ANYONE, Piid::new(1), &[ADDRESS]).unwrap();
    let digits = Octets(meter().printed().to_vec());
    assert_eq!(value(ask(&mut device, &mut table, &anyone)), Data::Octets(digits));

    let noon = day(5).and_hms_opt(12, 0, 0).unwrap();
    let set = Request::set_clock(meter(), Piid::new(2), noon).unwrap();
    assert!(ask(&mut device, &mut table, &set).is_ok());
    assert_eq!(table.get(CLOCK), Ok(Data::DateTimeS(DateTimeS::of(noon))));
    let wrong = Request::set(meter(), Piid::new(2), CLOCK, Data::UInt8(1)).unwrap();
    assert_eq!(
        ask(&mut device, &mut table, &wrong),
        Err(AnswerError::Refused(Refusal::Dar(Dar::TYPE)))
    );

    let trip = Action::Trip {
        alarm_min: 0,
        limit_min: 0,
        auto_close: false,
    };
    let command = relay::command(meter(), Piid::new(3), trip, FIRST).unwrap();
    assert!(ask(&mut device, &mut table, &command).is_ok() && table.is_open());
    let close = relay::command(meter(), Piid::new(3), Action::Close, FIRST).unwrap();
    assert!(ask(&mut device, &mut table, &close).is_ok() && !table.is_open());
    assert_eq!(table.done().len(), 2);
    // others' questions are not its own, and nobody answers a broadcast that everybody does
    let other = Request::get(Address::parse("1").unwrap(), Piid::new(1), &[ADDRESS]).unwrap();
    assert_eq!(device.hear(&open(&other.wire()).unwrap(), &mut table), None);
    table.allow_method(Omd::new(0x4000, 127));
    let all = Request::broadcast_clock(Piid::new(1), noon).unwrap();
    assert_eq!(device.hear(&open(&all.wire()).unwrap(), &mut table), None);
    assert_eq!(table.done().len(), 3);
}

#[test]
fn records_are_selected_and_long_answers_come_in_parts() {
    let mut table = table();
    for size in [1024, 64] {
        let mut device = Device::new(meter(), size);
        let freeze = Oad::new(0x5004, 2);
        let one = Request::frozen(meter(), Piid::new(1), freeze, day(7), &[ENERGY]).unwrap();
        let found = rows(ask(&mut device, &mut table, &one));
        assert_eq!(found[0][0], Data::DateTimeS(DateTimeS::midnight(day(7))));
        assert_eq!((found.len(), found[0][1].elements()[0].clone()), (1, Data::UInt32(700)));
        let none = Request::frozen(meter(), Piid::new(1), freeze, day(30), &[ENERGY]).unwrap();
        assert_eq!(rows(ask(&mut device, &mut table, &none)), Vec::<Vec<Data>>::new());
        let last = Request::frozen_back(meter(), Piid::new(1), freeze, 2, &[ENERGY]).unwrap();
        assert_eq!(
            rows(ask(&mut device, &mut table, &last))[0][1].elements()[0],
            Data::UInt32(1900)
        );
        let columns = vec![Csd::Oad(FROZEN_AT), Csd::Oad(ENERGY)];
        let between = Between {
            oad: FROZEN_AT,
            begin: Data::DateTimeS(DateTimeS::midnight(day(3))),
            end: Data::DateTimeS(DateTimeS::midnight(day(18))),
            step: Data::Null,
        };
        let many = Request::get_record(meter(), Piid::new(1), freeze, Rsd::Between(between), columns.clone()).unwrap();
        assert_eq!(rows(ask(&mut device, &mut table, &many)).len(), 15);
        let newest = Rsd::Last(Last {
            count: 5,
            meters: Ms::All,
        });
        let newest = Request::get_record(meter(), Piid::new(1), freeze, newest, columns).unwrap();
        assert_eq!(rows(ask(&mut device, &mut table, &newest)).len(), 5);
        let unknown = Request::frozen(meter(), Piid::new(1), Oad::new(0x5006, 2), day(7), &[ENERGY]).unwrap();
        let undefined = AnswerError::Refused(Refusal::Dar(Dar::UNDEFINED));
        assert_eq!(ask(&mut device, &mut table, &unknown), Err(undefined));
    }
}

#[test]
fn a_part_whose_confirmation_was_lost_is_sent_again() {
    let (mut device, mut table) = (Device::new(meter(), 32), table());
    let request = Request::get(meter(), Piid::new(1), &[ENERGY, ENERGY, ENERGY]).unwrap();
    let hear = |device: &mut Device, table: &mut Table, request: &Request| {
        device.hear(&open(&request.wire()).unwrap(), table).unwrap().wire()
    };
    let first = hear(&mut device, &mut table, &request);
    let follow = request.follow_up(&first).unwrap();
    let second = hear(&mut device, &mut table, &follow);
    // we did not hear it and confirm the first once more
    assert_eq!(hear(&mut device, &mut table, &follow), second);
    let so_far = [first, second].concat();
    let follow = request.follow_up(&so_far).unwrap();
    let third = hear(&mut device, &mut table, &follow);
    let all = [so_far, third].concat();
    assert_eq!(request.follow_up(&all), None);
    assert!(request.reply(&all).is_ok());
}

#[test]
fn a_concentrator_answers_for_its_meters() {
    let terminal = Address::parse("5").unwrap();
    let (near, far) = (meter(), Address::parse("202611210002").unwrap());
    let mut table = Table::new();
    table.put_meter(&Tsa::of(&near), self::table());
    let stored = day(2).and_hms_opt(0, 5, 0).unwrap();
    let row = [
        (ROW_OF, Data::Tsa(Tsa::of(&near))),
        (STORED_AT, Data::DateTimeS(DateTimeS::of(stored))),
        (ENERGY, Data::UInt32(7)),
    ];
    table.push_row(0x6012, row.into_iter().collect());
    let mut device = Device::new(terminal, 256);
    let within = NonZeroU16::new(60).unwrap();

    let list = [(near, vec![ENERGY, CLOCK]), (far, vec![ENERGY])];
    let request = Request::proxy_get(terminal, Piid::new(9), within, &list).unwrap();
    let Ok(Apdu::ProxyAnswer(answered)) = ask(&mut device, &mut table, &request) else {
        panic!()
    };
    let ProxyResult::Get(targets) = answered.body else {
        panic!()
    };
    assert_eq!(targets[0].server.address(), Some(near));
    assert!(matches!(targets[0].items[0].result, ValueResult::Data(Data::Array(_))));
    assert_eq!(targets[1].items[0].result, ValueResult::Dar(Dar(33)));

    let close = relay::proxied(terminal, Piid::new(1), within, &near, Action::AllowClose, FIRST).unwrap();
    assert!(ask(&mut device, &mut table, &close).is_ok());
    assert_eq!(table.meter(&Tsa::of(&near)).unwrap().done().len(), 1);
    let meters = Ms::Addresses(vec![Tsa::of(&near)]);
    let rows_of = |meters| Request::stored(terminal, Piid::new(2), stored, meters, Oad::new(0x5004, 2), &[ENERGY]);
    let found = rows(ask(&mut device, &mut table, &rows_of(meters).unwrap()));
    assert_eq!(found[0][2], Data::UInt32(7));
    let nobody = Ms::Addresses(vec![Tsa::of(&far)]);
    assert!(rows(ask(&mut device, &mut table, &rows_of(nobody).unwrap())).is_empty());
    let freeze = GetRecord {
        oad: Oad::new(0x5004, 2),
        rows: Rsd::Back(1),
        columns: vec![Csd::Oad(ENERGY)],
    };
    let through = Request::proxy_record(terminal, Piid::new(3), within, &near, freeze).unwrap();
    assert!(matches!(
        ask(&mut device, &mut table, &through),
        Ok(Apdu::ProxyAnswer(_))
    ));
}

#[test]
fn guarded_questions_and_unreadable_ones_are_answered() {
    let (mut device, mut table) = (Device::new(meter(), 1024), table());
    let provider = Clear::new([3; 16]);
    let inner = Request::get(meter(), Piid::new(1), &[CLOCK]).unwrap();
    let question = provider.guard(&meter(), inner.apdu().unwrap()).unwrap();
    let request = Request::secured(meter(), question.clone()).unwrap();
    let Ok(Apdu::SecurityAnswer(answer)) = ask(&mut device, &mut table, &request) else {
        panic!()
    };
    let revealed = provider.reveal(&meter(), &question, &answer).unwrap();
    assert_eq!(inner.apdu().unwrap().piid(), revealed.apdu.piid());
    let junk = Frame::new(Control::QUESTION, meter(), CLIENT, vec![5, 9, 7, 1]).unwrap();
    let Ok(Apdu::Error(error)) = Apdu::parse(device.hear(&junk, &mut table).unwrap().data()) else {
        panic!()
    };
    assert_eq!((error.piid.number(), error.name()), (7, "the APDU cannot be read"));
    let connect = Apdu::ConnectRequest(Box::new(ConnectRequest {
        piid: Piid::new(4),
        parameters: Parameters::ALL,
        auth: Auth::None,
        time_tag: None,
    }));
    let connect = Request::new(meter(), connect).unwrap();
    assert!(matches!(
        ask(&mut device, &mut table, &connect),
        Ok(Apdu::ConnectResponse(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_whatever_the_size_of_frames(data in any_data(), size in 16usize..200, scrambled: bool) {
        // more parts than are taken is another matter
        let mut wire = Vec::new();
        super::wire::Wire::write(&data, &mut wire);
        prop_assume!(wire.len() < 4000);
        let (mut device, mut table) = (Device::new(meter(), size), Table::new());
        let oad = Oad::new(0x4500, 2);
        table.put(oad, data.clone());
        let request = Request::get(meter(), Piid::new(5), &[oad]).unwrap().with_scrambling(scrambled);
        prop_assert_eq!(value(ask(&mut device, &mut table, &request)), data);
    }
}
