//! Virtual meters read with the plans of their own models, whatever their habits.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::decode::{DecodedPoll, decode, decode_past};
use crate::device::dlt645::history::Past;
use crate::device::model::{MeterModel, Profile};
use crate::device::plan::{clock, history, instead, plan};
use crate::protocol::dlt645::{Operator, Security, relay};
use crate::protocol::{Finding, Protocol, Request as Question, Verdict};
use rust_decimal::dec;

const ADDRESS: &str = "202611210042";

fn model(protocol: Protocol, name: &str) -> Arc<MeterModel> {
    Arc::clone(Catalogue::builtin().unwrap().get(protocol, name).unwrap())
}

fn meter(model: &MeterModel) -> Meter645 {
    let Profile::Dlt645(profile) = &model.profile else {
        panic!("{}", model.name)
    };
    Meter645::new(
        Address::parse(ADDRESS).unwrap(),
        Arc::new(profile.clone()),
        Password::FACTORY,
    )
}

fn now() -> DateTime<Utc> {
    "2026-11-21T14:05:30Z".parse().unwrap()
}

/// Asks as a line does: the answer found among what came, follow-ups until it is whole; none where it is refused.
fn ask(meter: &Meter645, load: &Load, question: &Question) -> Option<Vec<u8>> {
    let mut answers = Vec::new();
    let mut asked = question.clone();
    loop {
        let Question::Dlt645(request) = &asked else { panic!() };
        let bytes = meter.answer(request, load, now()).expect("an answer");
        match asked.find(&bytes) {
            Finding::Frame {
                span,
                verdict: Verdict::Answer,
            } => answers.extend_from_slice(&bytes[span]),
            Finding::Frame {
                verdict: Verdict::Refused(_),
                ..
            } => return None,
            other => panic!("{other:?} in {bytes:02X?}"),
        }
        match question.follow_up(&answers) {
            Some(next) => asked = next,
            None => return Some(answers),
        }
    }
}

/// A poll of everything; refused blocks item by item.
fn poll(model: &MeterModel, meter: &Meter645, load: &Load) -> (DecodedPoll, usize) {
    let mut questions = plan(model, ADDRESS, &[]).unwrap();
    let mut answers = Vec::new();
    let mut place = 0;
    while let Some(question) = questions.get(place).cloned() {
        let answer = ask(meter, load, &question);
        if answer.is_none() {
            questions.extend(instead(model, &question));
        }
        answers.push(answer);
        place += 1;
    }
    let frames: Vec<Option<&[u8]>> = answers.iter().map(|answer| answer.as_deref()).collect();
    (decode(model, &questions, &frames), questions.len())
}

#[test]
fn every_model_is_read_whole_whatever_the_habits_of_the_meter() {
    let habits: Vec<Quirks> = (0..8).map(Quirks::odd).chain([Quirks::default()]).collect();
    for model in Catalogue::builtin().unwrap().iter() {
        if !matches!(model.profile, Profile::Dlt645(_)) {
            continue;
        }
        let load = Load::new(7, model.phases);
        let polled = model.measurands().filter(|(_, polled)| *polled).count();
        let plain = poll(model, &meter(model), &load).0;
        assert_eq!(
            (plain.items.len(), &plain.problems),
            (polled, &vec![]),
            "{}",
            model.name
        );
        for quirks in &habits {
            let mut meter = meter(model);
            meter.quirks = quirks.clone();
            let (read, asked) = poll(model, &meter, &load);
            assert_eq!(
                read.items.len(),
                polled,
                "{} {quirks:?}: {:?}",
                model.name,
                read.problems
            );
            let sorted = |poll: &DecodedPoll| {
                let mut items: Vec<String> = poll.items.iter().map(|item| format!("{item:?}")).collect();
                items.sort();
                items
            };
            assert_eq!(sorted(&read), sorted(&plain), "{} {quirks:?}", model.name);
            assert!(!quirks.refuse_blocks || asked > polled / 2);
        }
    }
}

#[test]
fn the_values_are_those_of_the_load() {
    let model = model(Protocol::Dlt645_2007, "dlt645_2007_three_phase");
    let (meter, load) = (meter(&model), Load::new(11, 3));
    let read = poll(&model, &meter, &load).0;
    let shown = load.at(now());
    let value = |quantity: Quantity| {
        let item = read
            .items
            .iter()
            .find(|item| item.measurand == Measurand::Standard(quantity))
            .unwrap();
        match item.value {
            Value::Decimal(value) => value,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(value(Quantity::ActiveEnergyImport), shown.import_kwh.round_dp(2));
    let volts: f64 = value(Quantity::VoltageL2).to_string().parse().unwrap();
    assert!((volts - shown.voltage_v[1]).abs() <= 0.05);
    let watts: f64 = value(Quantity::ActivePowerTotal).to_string().parse().unwrap();
    assert!((watts - shown.power_w).abs() <= 0.05, "{watts} {}", shown.power_w);
}

#[test]
fn the_clock_drifts_and_a_broadcast_sets_it() {
    let model = model(Protocol::Dlt645_2007, "dlt645_2007_single_phase");
    let mut meter = meter(&model);
    meter.offset = Duration::hours(8);
    meter.set_drift(Duration::seconds(-95));
    let load = Load::new(1, 1);
    let said = |meter: &Meter645| {
        let questions = clock(&model, ADDRESS).unwrap();
        let answers: Vec<Option<Vec<u8>>> = questions.iter().map(|question| ask(meter, &load, question)).collect();
        let frames: Vec<Option<&[u8]>> = answers.iter().map(|answer| answer.as_deref()).collect();
        decode(&model, &questions, &frames)
            .clock(chrono_tz::Asia::Shanghai)
            .unwrap()
    };
    assert_eq!(said(&meter) - now(), Duration::seconds(-95));
    let broadcast = |seconds: i64| {
        let time = now().naive_utc() + Duration::hours(8) + Duration::seconds(seconds);
        Request::checked(Edition::E2007, Address::BROADCAST, Body::BroadcastTime(time)).unwrap()
    };
    // too far off for a broadcast
    assert_eq!(meter.answer(&broadcast(600), &load, now()), None);
    assert_eq!(said(&meter) - now(), Duration::seconds(-95));
    assert_eq!(meter.answer(&broadcast(0), &load, now()), None);
    assert_eq!(said(&meter), now());
}

#[test]
fn the_past_is_what_the_registers_were() {
    for (protocol, name, past, at) in [
        (
            Protocol::Dlt645_2007,
            "dlt645_2007_three_phase",
            Past::Daily(2),
            "2026-11-20T00:00:00",
        ),
        (
            Protocol::Dlt645_2007,
            "dlt645_2007_prepaid",
            Past::Settlement(1),
            "2026-11-01T00:00:00",
        ),
        (
            Protocol::Dlt645_1997,
            "dlt645_1997_single_phase",
            Past::Settlement(2),
            "2026-10-01T00:00:00",
        ),
    ] {
        let model = model(protocol, name);
        let (meter, load) = (meter(&model), Load::new(3, model.phases));
        let questions = history(&model, ADDRESS, past, Default::default(), &[]).unwrap();
        let answers: Vec<Option<Vec<u8>>> = questions.iter().map(|question| ask(&meter, &load, question)).collect();
        let frames: Vec<Option<&[u8]>> = answers.iter().map(|answer| answer.as_deref()).collect();
        let found = decode_past(&model, past, now().naive_utc(), &questions, &frames);
        let then: NaiveDateTime = at.parse().unwrap();
        assert_eq!(found.at, Some(then), "{name}");
        let energy = load.import_kwh(then.and_utc()).round_dp(2);
        assert_eq!(found.items[0].value, Value::Decimal(energy), "{name}");
        assert!(found.items.len() >= 5, "{name}: {:?}", found.problems);
    }
}

#[test]
fn a_relay_moves_by_the_right_password_in_time_and_status_word_3_says_so() {
    let model = model(Protocol::Dlt645_2007, "dlt645_2007_prepaid");
    let (meter, load) = (meter(&model), Load::new(5, 1));
    let security = |password: &str| Security {
        password: Password::new(2, password).unwrap(),
        operator: Operator::new("00000001").unwrap(),
    };
    let address = Address::parse(ADDRESS).unwrap();
    let local = now().naive_utc();
    let act = |request: Request| {
        let bytes = meter.answer(&request, &load, now()).unwrap();
        match request.find(&bytes) {
            Finding::Frame { verdict, .. } => verdict,
            other => panic!("{other:?}"),
        }
    };
    let trip = |password: &str, until| relay::trip(Edition::E2007, address, security(password), Some(until)).unwrap();
    assert_eq!(
        act(trip("123456", local + Duration::minutes(1))),
        Verdict::Refused(0x04)
    );
    assert_eq!(
        act(trip("000000", local - Duration::seconds(1))),
        Verdict::Refused(0x01)
    );
    assert!(!meter.is_open());
    assert_eq!(act(trip("000000", local + Duration::minutes(1))), Verdict::Answer);
    let read = poll(&model, &meter, &load).0;
    let value = |quantity: Quantity| {
        let found = read
            .items
            .iter()
            .find(|item| item.measurand == Measurand::Standard(quantity));
        found.unwrap().value
    };
    assert_eq!(value(Quantity::RelayState), Value::Decimal(dec!(0)));
    assert_eq!(value(Quantity::StatusWord), Value::Decimal(dec!(80)));
    assert_eq!(value(Quantity::CurrentL1), Value::Decimal(dec!(0.000)));
    let close = relay::close(Edition::E2007, address, security("000000"), None).unwrap();
    assert_eq!(act(close), Verdict::Answer);
    assert!(!meter.is_open());
}

#[test]
fn wildcards_addresses_and_writes() {
    let model = model(Protocol::Dlt645_2007, "dlt645_2007_single_phase");
    let (mut meter, load) = (meter(&model), Load::new(5, 1));
    let anyone = Request::read(Address::ANYONE, Di::E2007(0x0001_0000));
    for wildcard in [false, true] {
        meter.quirks.wildcard_address = wildcard;
        let bytes = meter.answer(&anyone, &load, now()).unwrap();
        assert!(matches!(
            anyone.find(&bytes),
            Finding::Frame {
                verdict: Verdict::Answer,
                ..
            }
        ));
        let said = crate::protocol::dlt645::open(&bytes).unwrap().address;
        assert_eq!(said.is_wild(), wildcard);
    }
    let who = Request::read_address();
    let bytes = meter.answer(&who, &load, now()).unwrap();
    assert_eq!(who.reply(&bytes), Ok(Reply::Address(meter.address())));
    // another's question, and one of the other edition
    let other = Request::read(Address::parse("1").unwrap(), Di::E2007(0x0001_0000));
    assert_eq!(meter.answer(&other, &load, now()), None);
    let old = Request::read(meter.address(), Di::E1997(0x9010));
    assert_eq!(meter.answer(&old, &load, now()), None);
    let new = Address::parse("77").unwrap();
    let rename = Request::checked(Edition::E2007, Address::ANYONE, Body::WriteAddress(new)).unwrap();
    assert!(meter.answer(&rename, &load, now()).is_some());
    assert_eq!(meter.address(), new);
    let wrong = Security {
        password: Password::new(4, "111111").unwrap(),
        operator: Operator::new("00000000").unwrap(),
    };
    let (di, value) = (Di::E2007(0x0400_0103), vec![0x15]);
    let write = Request::checked(
        Edition::E2007,
        new,
        Body::Write {
            di,
            security: wrong,
            value,
        },
    )
    .unwrap();
    let bytes = meter.answer(&write, &load, now()).unwrap();
    assert!(matches!(
        write.find(&bytes),
        Finding::Frame {
            verdict: Verdict::Refused(0x04),
            ..
        }
    ));
    let unknown = Request::read(new, Di::E2007(0x0F0F_0F0F));
    let bytes = meter.answer(&unknown, &load, now()).unwrap();
    assert!(matches!(
        unknown.find(&bytes),
        Finding::Frame {
            verdict: Verdict::Refused(0x02),
            ..
        }
    ));
}
