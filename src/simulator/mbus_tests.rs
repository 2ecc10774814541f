//! Virtual M-Bus meters: what they tell is what a head end reads, and they are found, selected and collide as real ones.

use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::decode::{DecodedPoll, decode, decode_past};
use crate::device::dlt645::history::Past;
use crate::device::plan::{history, plan};
use crate::protocol::mbus::{Frame, Search, SearchHeard, SearchStep, Telegram};
use crate::protocol::{Finding, Protocol, Request as Any, Verdict};
use crate::simulator::dtu::collide;
use crate::simulator::physics::epoch;
use std::sync::{Arc, LazyLock};

fn model(name: &str) -> Arc<MeterModel> {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::builtin().unwrap());
    Arc::clone(CATALOGUE.get(Protocol::Mbus, name).unwrap())
}

fn meter(name: &str, primary: u8, number: u32, quirks: Quirks) -> MbusMeter {
    let model = model(name);
    MbusMeter::new(primary, identification(&model, number), &model, 7, quirks)
}

fn noon() -> DateTime<Utc> {
    epoch() + Duration::days(700) + Duration::hours(12)
}

/// What a line of meters says to a request.
fn said(meters: &[MbusMeter], request: &Request, now: DateTime<Utc>) -> Vec<u8> {
    let question = Question::Mbus(request.clone());
    let spoken = meters.iter().filter_map(|meter| meter.answer(&question, now));
    spoken
        .map(|spoken| spoken.bytes)
        .reduce(|one, other| collide(&one, &other))
        .unwrap_or_default()
}

/// Asks as a line does: follow-ups behind the question, a repeated question where `again` says so.
fn ask(meters: &[MbusMeter], request: &Any, now: DateTime<Utc>, again: bool) -> Option<Vec<u8>> {
    let mut answers = Vec::new();
    let mut asked = request.clone();
    loop {
        let Any::Mbus(question) = &asked else {
            panic!("not M-Bus")
        };
        if again {
            let _lost = said(meters, question, now);
        }
        let bytes = said(meters, question, now + Duration::seconds(3));
        match asked.find_last(&bytes) {
            Finding::Frame {
                span,
                verdict: Verdict::Answer,
            } => answers.extend_from_slice(&bytes[span]),
            _ => return None,
        }
        match request.follow_up(&answers) {
            Some(next) => asked = next,
            None => return Some(answers),
        }
    }
}

fn poll(meters: &[MbusMeter], name: &str, address: &str, again: bool) -> DecodedPoll {
    let model = model(name);
    let requests = plan(&model, address, &[]).unwrap();
    let answers: Vec<_> = requests
        .iter()
        .map(|request| ask(meters, request, noon(), again))
        .collect();
    let frames: Vec<_> = answers.iter().map(Option::as_deref).collect();
    decode(&model, &requests, &frames)
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

#[test]
fn every_model_tells_what_it_shows_at_both_addresses_and_in_any_number_of_telegrams() {
    for model in Catalogue::builtin()
        .unwrap()
        .iter()
        .filter(|model| matches!(model.profile, Profile::Mbus(_)))
    {
        for (telegram, again) in [(RECORDS_MAX, false), (40, false), (40, true)] {
            let quirks = Quirks {
                telegram,
                answers_as_253: again,
                ..Quirks::default()
            };
            let line = [meter(&model.name, 5, 17, quirks)];
            let selected = line[0].identification().to_string();
            for address in ["5", selected.as_str()] {
                let poll = poll(&line, &model.name, address, again);
                assert!(
                    poll.problems.iter().all(|p| p.kind.is_no_value()),
                    "{} {:?}",
                    model.name,
                    poll.problems
                );
                assert!(poll.meter_local.is_some(), "{}", model.name);
                for item in &poll.items {
                    let Measurand::Standard(quantity) = &item.measurand else {
                        continue;
                    };
                    if *quantity == Quantity::StatusWord {
                        continue;
                    }
                    let Value::Decimal(read) = item.value else {
                        panic!("{item:?}")
                    };
                    let shown = line[0].shows(*quantity, noon() + Duration::seconds(3)).unwrap();
                    let off = (shown - read).abs();
                    // cut to the digits of the record: at most a kilowatt-hour, a hundred watts
                    let step = match quantity.unit() {
                        crate::domain::quantity::Unit::Watt => Decimal::ONE_HUNDRED,
                        _ => Decimal::ONE,
                    };
                    assert!(off < step, "{} {quantity}: {read} of {shown}", model.name);
                }
            }
        }
    }
}

#[test]
fn heat_fits_volume_and_temperatures() {
    let line = [meter("generic_heat", 1, 1, Quirks::default())];
    let poll = poll(&line, "generic_heat", "1", false);
    let energy = value(&poll, Quantity::HeatEnergy).unwrap();
    let volume = value(&poll, Quantity::VolumeTotal).unwrap();
    let kelvin = value(&poll, Quantity::TemperatureDifference).unwrap();
    assert!((volume * kelvin * KWH_PER_M3_K - energy).abs() < Decimal::from(2));
    let settled = value(&poll, Quantity::HeatEnergySettlement).unwrap();
    assert!(settled < energy);
}

#[test]
fn states_of_past_months_are_those_that_were_shown_then() {
    for name in ["minol_minocal_c2", "ram_modularis", "generic_water"] {
        let model = model(name);
        let line = [meter(name, 1, 1, Quirks::default())];
        let past = Past::Settlement(1);
        let requests = history(&model, "1", past, Default::default(), &[]).unwrap();
        let answers: Vec<_> = requests
            .iter()
            .map(|request| ask(&line, request, noon(), false))
            .collect();
        let frames: Vec<_> = answers.iter().map(Option::as_deref).collect();
        let state = decode_past(&model, past, noon().naive_utc(), &requests, &frames);
        let at = state.at.unwrap().and_utc();
        assert_eq!(at, month_start(noon(), 0), "{name}");
        let Measurand::Standard(quantity) = &state.items[0].measurand else {
            panic!("{state:?}")
        };
        let Value::Decimal(read) = state.items[0].value else {
            panic!("{state:?}")
        };
        assert!(
            (line[0].shows(*quantity, at).unwrap() - read).abs() < Decimal::ONE,
            "{name}"
        );
    }
}

#[test]
fn the_frame_count_bit_tells_a_repeated_question_from_the_next() {
    let line = [meter(
        "generic_heat",
        1,
        1,
        Quirks {
            telegram: 60,
            ..Quirks::default()
        },
    )];
    let read = |fcb| said(&line, &Request::read(1, fcb).unwrap(), noon());
    assert_eq!(said(&line, &Request::reset(1).unwrap(), noon()), [ACK]);
    let first = read(true);
    assert_eq!(read(true), first);
    let second = read(false);
    assert_ne!(second, first);
    assert!(Telegram::parse(&first).unwrap().more_follow());
    // after a reset it begins anew
    let _acknowledged = said(&line, &Request::reset(1).unwrap(), noon());
    let anew = Telegram::parse(&read(true)).unwrap();
    assert_eq!(anew.body, Telegram::parse(&first).unwrap().body);
    assert_ne!(anew.header.access(), Telegram::parse(&first).unwrap().header.access());
}

#[test]
fn a_meter_without_end_is_read_once_round() {
    let line = [meter(
        "generic_heat",
        1,
        1,
        Quirks {
            endless: true,
            ..Quirks::default()
        },
    )];
    let request = Any::Mbus(Request::read(1, true).unwrap());
    let answers = ask(&line, &request, noon(), false).unwrap();
    assert!(Frame::split(&answers).unwrap().len() <= crate::protocol::mbus::TELEGRAMS_MAX);
    let poll = poll(&line, "generic_heat", "1", false);
    assert!(value(&poll, Quantity::HeatEnergy).is_some());
}

#[test]
fn a_search_finds_every_meter_of_a_line_through_its_collisions() {
    let numbers = [10_000_001, 10_000_002, 10_500_000, 77_777_777, 1, 99_999_999];
    let mut line: Vec<MbusMeter> = numbers
        .iter()
        .zip(1u8..)
        .map(|(number, primary)| {
            let name = if primary % 2 == 0 {
                "generic_heat"
            } else {
                "generic_water"
            };
            let quirks = Quirks {
                answers_as_253: primary % 3 == 0,
                ..Quirks::default()
            };
            meter(name, primary, *number, quirks)
        })
        .collect();
    line.push(meter(
        "generic_water",
        9,
        123,
        Quirks {
            mute: true,
            ..Quirks::default()
        },
    ));
    line.push(meter(
        "generic_water",
        10,
        124,
        Quirks {
            primary_only: true,
            ..Quirks::default()
        },
    ));
    let mut search = Search::default();
    loop {
        let (request, mask) = match search.step() {
            SearchStep::Done => break,
            SearchStep::Select(mask) => (Request::select(mask), mask),
            SearchStep::Read(mask) => (Request::read_selected(mask), mask),
        };
        let bytes = said(&line, &request, noon());
        let heard = match request.find_last(&bytes) {
            Finding::Frame {
                span,
                verdict: Verdict::Answer,
            } if request.reads() => {
                let telegram = Telegram::parse(&bytes[span]).unwrap();
                let who = telegram.header.identification().unwrap();
                assert!(mask.fits(&who));
                SearchHeard::Meter(who)
            }
            Finding::Frame {
                verdict: Verdict::Answer,
                ..
            } => SearchHeard::Ack,
            _ if bytes.is_empty() => SearchHeard::Silence,
            _ => SearchHeard::Collision,
        };
        search.hear(heard);
    }
    let mut found = search.found().to_vec();
    found.sort_unstable();
    let mut there: Vec<_> = line[..numbers.len()].iter().map(MbusMeter::identification).collect();
    there.sort_unstable();
    assert_eq!(found, there);
    assert_eq!(search.unresolved().count(), 0);
    assert!(search.probes() < 150, "{} probes", search.probes());
}

#[test]
fn meters_take_addresses_and_speeds() {
    let line = [
        meter("generic_water", 0, 5, Quirks::default()),
        meter("generic_water", 7, 6, Quirks::default()),
    ];
    let send = |address, body| said(&line, &Request::send(address, false, body).unwrap(), noon());
    let mask = Selection::exact(line[0].identification());
    assert_eq!(said(&line, &Request::select(mask), noon()), [ACK]);
    assert_eq!(send(NETWORK, Body::SetAddress(12)), [ACK]);
    assert_eq!((line[0].primary(), line[1].primary()), (12, 7));
    let fast = crate::protocol::mbus::Baud::of(9600).unwrap();
    assert_eq!(send(12, Body::SetBaud(fast)), [ACK]);
    assert_eq!((line[0].baud(), line[1].baud()), (9600, 2400));
    // a broadcast is heard by all and answered by none
    assert!(send(BROADCAST, Body::SetBaud(fast)).is_empty());
    assert_eq!(line[1].baud(), 9600);
    // another selection ends the one before
    let other = Selection::exact(line[1].identification());
    assert_eq!(said(&line, &Request::select(other), noon()), [ACK]);
    let who = Telegram::parse(&said(&line, &Request::read_selected(other), noon())).unwrap();
    assert_eq!(who.header.identification(), Some(line[1].identification()));
    assert_eq!(said(&line, &Request::reset(NETWORK).unwrap(), noon()), [ACK]);
    assert!(said(&line, &Request::read_selected(other), noon()).is_empty());
}
