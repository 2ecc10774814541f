//! Virtual water and heat meters: what they answer is what a head end reads, and their physics hold.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::decode::{DecodedPoll, decode};
use crate::device::plan::plan;
use crate::protocol::cjt188::{Request, Target, valve};
use crate::protocol::{Finding, Protocol, Request as Any, Verdict};
use crate::simulator::physics::epoch;
use std::sync::Arc;

const ADDRESS: &str = "00000000001001";

fn model(name: &str) -> Arc<MeterModel> {
    Arc::clone(Catalogue::builtin().unwrap().get(Protocol::Cjt188, name).unwrap())
}

fn meter(name: &str, quirks: Quirks) -> FluidMeter {
    FluidMeter::new(Address::parse(ADDRESS).unwrap(), &model(name), 7, quirks)
}

fn noon() -> DateTime<Utc> {
    epoch() + Duration::days(700) + Duration::hours(12)
}

/// The question as the meter hears it.
fn heard(wire: &[u8]) -> Question {
    let crate::protocol::cjt188::Heard::Request { frame, .. } = crate::protocol::cjt188::hear(wire) else {
        panic!("not heard");
    };
    Question::Cjt188(frame)
}

/// What the meter answers to a question, as the line sees it.
fn ask(meter: &FluidMeter, request: &Request, now: DateTime<Utc>) -> Option<(Vec<u8>, Verdict)> {
    let bytes = meter.answer(&heard(&request.wire()), now)?.bytes;
    match request.find_last(&bytes) {
        Finding::Frame { span, verdict } => Some((bytes[span].to_vec(), verdict)),
        Finding::NeedMore { .. } => panic!("no frame"),
    }
}

/// A poll of everything.
fn read(meter: &FluidMeter, name: &str, now: DateTime<Utc>) -> DecodedPoll {
    let model = model(name);
    let requests = plan(&model, ADDRESS, &[]).unwrap();
    let frames: Vec<Option<Vec<u8>>> = requests
        .iter()
        .map(|request| match request {
            Any::Cjt188(request) => ask(meter, request, now).map(|(bytes, _)| bytes),
            other => panic!("not CJ/T 188: {other:?}"),
        })
        .collect();
    let frames: Vec<Option<&[u8]>> = frames.iter().map(|frame| frame.as_deref()).collect();
    decode(&model, &requests, &frames)
}

fn value(poll: &DecodedPoll, wanted: Quantity) -> Decimal {
    let item = poll
        .items
        .iter()
        .find(|item| item.measurand == Measurand::Standard(wanted));
    match item.unwrap_or_else(|| panic!("no {wanted}: {:?}", poll.problems)).value {
        Value::Decimal(value) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_model_is_read_as_its_virtual_meter_shows_it() {
    let catalogue = Catalogue::builtin().unwrap();
    let mut seen = 0;
    for model in catalogue
        .iter()
        .filter(|model| matches!(model.profile, Profile::Cjt188(_)))
    {
        let meter = FluidMeter::new(Address::parse(ADDRESS).unwrap(), model, 7, Quirks::default());
        let poll = read(&meter, &model.name, noon());
        assert_eq!(poll.problems, [], "{}", model.name);
        for item in &poll.items {
            let Measurand::Standard(quantity) = item.measurand else {
                continue;
            };
            let Value::Decimal(read) = item.value else {
                panic!("a float from digits")
            };
            if let Some(shown) = meter.shows(quantity, noon()) {
                // what the digits cut off; of 0.01 kW or MWh a thousandth more
                let most = if quantity == Quantity::ThermalPower {
                    dec!(10)
                } else {
                    dec!(1)
                };
                assert!(
                    (shown - read).abs() < most,
                    "{} {quantity}: {shown} read as {read}",
                    model.name
                );
                seen += 1;
            }
        }
        assert_eq!(poll.meter_local, Some(noon().naive_utc()), "{}", model.name);
    }
    assert!(seen > 40, "only {seen} values");
}

#[test]
fn heat_is_volume_times_temperature_difference() {
    let meter = meter("standard_heat_2004", Quirks::default());
    let (from, to) = (noon(), noon() + Duration::days(3));
    let used = |quantity| meter.shows(quantity, to).unwrap() - meter.shows(quantity, from).unwrap();
    let heat = used(Quantity::VolumeTotal) * dec!(1.163) * (SUPPLY_C - RETURN_C);
    assert!((heat - used(Quantity::HeatEnergy)).abs() < dec!(0.01));
    assert!(heat > dec!(10));
    // power is energy in time: a quarter hour of constant power
    let quarter = Duration::minutes(5);
    let energy =
        meter.shows(Quantity::HeatEnergy, from + quarter).unwrap() - meter.shows(Quantity::HeatEnergy, from).unwrap();
    let power = meter.shows(Quantity::ThermalPower, from).unwrap();
    assert!(
        (energy - power / dec!(12000)).abs() < dec!(0.05),
        "{energy} kWh of {power} W in five minutes"
    );
}

#[test]
fn a_closed_valve_stops_the_counter_and_takes_its_time() {
    let name = "standard_valve_water_2004";
    let meter = meter(name, Quirks::default());
    let Profile::Cjt188(profile) = &model(name).profile else {
        panic!()
    };
    let target = profile.ask.target(Address::parse(ADDRESS).unwrap());
    let told = noon();
    let (_, verdict) = ask(&meter, &valve::close(target), told).unwrap();
    assert_eq!(verdict, Verdict::Answer);
    let state = |at| value(&read(&meter, name, at), Quantity::ValveState);
    assert_eq!(state(told + Duration::seconds(5)), dec!(1), "it still moves");
    let closed = told + Duration::seconds(30);
    assert_eq!(state(closed), dec!(0));
    let counter = |at| value(&read(&meter, name, at), Quantity::VolumeTotal);
    let before = counter(closed);
    assert_eq!(counter(closed + Duration::days(10)), before);
    // the past stays as it was
    let month = Request::read(target, DataId(0xD120));
    let (frame, _) = ask(&meter, &month, closed + Duration::days(10)).unwrap();
    let last_month = month.answer(&frame).unwrap().data;
    assert!(value::number(&last_month[..4], 2).unwrap() <= before);
    let opened = closed + Duration::days(10);
    ask(&meter, &valve::open(target), opened).unwrap();
    assert_eq!(state(opened + Duration::seconds(30)), dec!(1));
    assert!(counter(opened + Duration::days(10)) > before + dec!(0.5));
    assert!(counter(opened + Duration::days(10)) < before + dec!(5));
}

#[test]
fn a_stuck_valve_says_that_it_is_abnormal() {
    let name = "standard_valve_water_2004";
    let meter = meter(
        name,
        Quirks {
            valve_stuck: true,
            battery_low: true,
            ..Quirks::default()
        },
    );
    let target = Target {
        ser: 1,
        ..Target::new(MeterType::COLD_WATER, Address::parse(ADDRESS).unwrap())
    };
    ask(&meter, &valve::close(target), noon()).unwrap();
    let poll = read(&meter, name, noon() + Duration::minutes(1));
    assert_eq!(value(&poll, Quantity::ValveState), dec!(3));
    assert_eq!(value(&poll, Quantity::StatusWord), dec!(7));
}

#[test]
fn quirks_are_what_the_strict_question_does_not_take() {
    let name = "standard_cold_water_2004";
    let request = |lenient: bool| {
        let mut target = Target::new(MeterType::COLD_WATER, Address::parse(ADDRESS).unwrap());
        target.lenient.ser = lenient;
        target.lenient.di_order = lenient;
        Request::read(target, DataId::CURRENT)
    };
    for quirks in [
        Quirks {
            other_ser: Some(0x55),
            ..Quirks::default()
        },
        Quirks {
            other_di_order: true,
            ..Quirks::default()
        },
    ] {
        let meter = meter(name, quirks);
        assert_eq!(ask(&meter, &request(false), noon()).unwrap().1, Verdict::Foreign);
        assert_eq!(ask(&meter, &request(true), noon()).unwrap().1, Verdict::Answer);
    }
    let bare = meter(
        name,
        Quirks {
            preamble: 0,
            ..Quirks::default()
        },
    );
    assert_eq!(ask(&bare, &request(false), noon()).unwrap().0[0], 0x68);
    let mute = meter(
        name,
        Quirks {
            mute: true,
            ..Quirks::default()
        },
    );
    assert_eq!(ask(&mute, &request(false), noon()), None);
    let unknown = Request::read(*request(false).target(), DataId(0x8102));
    let (_, verdict) = ask(&meter(name, Quirks::default()), &unknown, noon()).unwrap();
    assert_eq!(verdict, Verdict::Refused(0));
}

#[test]
fn the_address_is_found_by_wildcards_and_can_be_changed() {
    let meter = meter("standard_cold_water_2004", Quirks::default());
    let anybody = Request::read_address(Target::new(MeterType::ANY, Address::ANY));
    let found = |meter: &FluidMeter| {
        let (frame, _) = ask(meter, &anybody, noon()).unwrap();
        anybody.answer(&frame).unwrap().address.to_string()
    };
    assert_eq!(found(&meter), ADDRESS);
    let new = Address::parse("77").unwrap();
    let write = Request::write_address(
        Target::new(MeterType::COLD_WATER, Address::parse(ADDRESS).unwrap()),
        new,
    );
    assert!(meter.answer(&heard(&write.wire()), noon()).is_some());
    assert_eq!(found(&meter), "00000000000077");
}

#[test]
fn the_clock_runs_as_it_was_set() {
    let name = "standard_cold_water_2004";
    let meter = meter(
        name,
        Quirks {
            clock_ahead_s: 400,
            ..Quirks::default()
        },
    );
    let ahead = |meter: &FluidMeter| read(meter, name, noon()).meter_local.unwrap() - noon().naive_utc();
    assert_eq!(ahead(&meter).num_seconds(), 400);
    let target = Target::new(MeterType::COLD_WATER, Address::parse(ADDRESS).unwrap());
    let set = Request::write_clock(target, noon().naive_utc()).unwrap();
    assert_eq!(ask(&meter, &set, noon()).unwrap().1, Verdict::Answer);
    assert_eq!(ahead(&meter).num_seconds(), 0);
}

#[test]
fn past_months_are_read_with_their_days() {
    use crate::device::decode::decode_past;
    use crate::device::dlt645::history::Past;
    use crate::device::plan::history;
    for (name, quantity) in [
        ("standard_cold_water_2004", Quantity::VolumeTotal),
        ("standard_cold_water_2018", Quantity::VolumeTotal),
        ("standard_heat_2004", Quantity::HeatEnergy),
    ] {
        let (model, meter) = (model(name), meter(name, Quirks::default()));
        for back in [1, 2, 12] {
            let past = Past::Settlement(back);
            let requests = history(&model, ADDRESS, past, Default::default(), &[]).unwrap();
            assert_eq!(requests.len(), if back == 1 { 3 } else { 4 });
            let answers: Vec<Option<Vec<u8>>> = requests
                .iter()
                .map(|request| match request {
                    Any::Cjt188(request) => ask(&meter, request, noon()).map(|(bytes, _)| bytes),
                    other => panic!("not CJ/T 188: {other:?}"),
                })
                .collect();
            let frames: Vec<Option<&[u8]>> = answers.iter().map(|frame| frame.as_deref()).collect();
            let told = decode_past(&model, past, noon().naive_utc(), &requests, &frames);
            let at = month_start(noon(), u32::from(back) - 1);
            assert_eq!((told.at, told.problems), (Some(at.naive_utc()), vec![]));
            let Value::Decimal(read) = told.items[0].value else {
                panic!("a float")
            };
            let shown = meter.shows(quantity, at).unwrap();
            assert!(
                (shown - read).abs() < dec!(0.01),
                "{name} {back} back: {shown} read as {read}"
            );
            // without the current data nothing proves which month it is
            let unproven: Vec<Option<&[u8]>> = frames.iter().enumerate().map(|(i, f)| f.filter(|_| i != 1)).collect();
            let told = decode_past(&model, past, noon().naive_utc(), &requests, &unproven);
            assert_eq!((told.at, told.items.len()), (None, 1));
        }
        assert_eq!(
            history(&model, ADDRESS, Past::Settlement(13), Default::default(), &[]),
            Ok(vec![])
        );
        assert_eq!(
            history(&model, ADDRESS, Past::Daily(1), Default::default(), &[]),
            Ok(vec![])
        );
    }
}
