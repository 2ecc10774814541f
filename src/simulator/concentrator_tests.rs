//! A virtual concentrator's data against its loads.

use super::*;
use crate::protocol::gdw376::{Ask, Fn, Pn, Request, Said};
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::prelude::FromPrimitive;
use rust_decimal::{Decimal, dec};

#[derive(Debug)]
struct Still(DateTime<Utc>);

impl Clock for Still {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }

    fn monotonic(&self) -> std::time::Instant {
        std::time::Instant::now()
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn sim(habits: Habits) -> (SimConcentrator, Points) {
    let plan = TerminalPlan {
        terminals: 1,
        points: 500,
        region: 0x4403,
        seed: 7,
        heartbeat: Duration::from_secs(60),
        habits,
    };
    let sim = plan.terminal(0);
    let points = Points::new(&sim, Arc::new(Still(at("2026-11-21T14:08:30Z"))));
    (sim, points)
}

fn answered(sim: &SimConcentrator, points: &mut Points, request: &Request) -> crate::protocol::gdw376::Answer {
    let frames = sim.terminal().answer(&request.message(), points);
    let messages: Vec<Message> = frames.iter().map(|frame| Message::of(frame).unwrap()).collect();
    request.answer(&messages, Edition::E2013).unwrap()
}

#[test]
fn points_show_their_loads_as_of_the_quarter_hour() {
    let (sim, mut points) = sim(Habits::default());
    let ids = |item: u8| {
        (1..=9).map(move |pn| Id {
            pn: Pn::new(pn).unwrap(),
            item: Fn::new(item).unwrap(),
        })
    };
    let asks = ids(129).chain(ids(25)).map(Ask::plain);
    let asked = Request::new(sim.address.with_msa(1), Afn::REALTIME, asks).unwrap();
    let answer = answered(&sim, &mut points, &asked);
    assert_eq!(answer.missing, []);
    let Said::Data(units) = answer.said else { panic!() };
    let quarter = at("2026-11-21T14:00:00Z");
    for unit in &units {
        let reading = unit.reading.as_ref().unwrap();
        assert_eq!(reading.time("terminal read at"), Some(quarter.naive_utc()));
        let point = unit.id.pn.number().unwrap();
        let shown = points.load(point).at(quarter);
        if unit.id.item.number() == 129 {
            let register = |rate| reading.number("import active energy", Some(rate)).unwrap();
            assert_eq!(register(0), shown.import_kwh);
            assert_eq!((1..=4).map(register).sum::<Decimal>(), shown.import_kwh);
        } else {
            let power = reading.number("active power", None).unwrap() * dec!(1000);
            assert!((power - Decimal::from_f64(shown.power_w).unwrap()).abs() < dec!(0.1));
        }
    }
}

#[test]
fn a_day_that_has_not_ended_is_not_frozen() {
    let (sim, mut points) = sim(Habits::default());
    let id = Id {
        pn: Pn::new(3).unwrap(),
        item: Fn::new(161).unwrap(),
    };
    for (day, frozen) in [("2026-11-20", true), ("2026-11-21", false)] {
        let asked = Ask::of_day(id, day.parse().unwrap()).unwrap();
        let request = Request::new(sim.address.with_msa(1), Afn::HISTORY, [asked]).unwrap();
        let answer = answered(&sim, &mut points, &request);
        assert_eq!(matches!(answer.said, Said::Data(_)), frozen, "{day}");
        if let Said::Data(units) = answer.said {
            let shown = points.load(3).import_kwh(at("2026-11-21T00:00:00Z"));
            let reading = units[0].reading.as_ref().unwrap();
            assert_eq!(reading.number("import active energy", Some(0)), Some(shown));
        }
    }
}

#[test]
fn routes_that_fail_show_older_values_and_a_clock_that_was_never_set_says_so() {
    let (_, points) = sim(Habits {
        mesh_failure: 0.3,
        ..Habits::default()
    });
    let now = at("2026-11-21T14:08:30Z");
    let old = (1..=500).filter(|point| points.read_at(*point, now) < now - TimeDelta::minutes(20));
    let old = old.count();
    assert!((100..200).contains(&old), "{old}");
    let (_, points) = sim(Habits {
        clock_unset: true,
        ..Habits::default()
    });
    assert_eq!(points.local().to_string(), "2000-01-01 00:00:00");
}

#[test]
fn the_way_to_a_point_is_told() {
    let (sim, mut points) = sim(Habits::default());
    let id = Id {
        pn: Pn::new(250).unwrap(),
        item: Fn::new(170).unwrap(),
    };
    let request = Request::new(sim.address.with_msa(1), Afn::REALTIME, [Ask::plain(id)]).unwrap();
    let Said::Data(units) = answered(&sim, &mut points, &request).said else {
        panic!()
    };
    let reading = units[0].reading.as_ref().unwrap();
    assert_eq!(
        (reading.count("port"), reading.count("relay levels")),
        (Some(31), Some(2))
    );
    assert_eq!(
        reading.time("last success"),
        Some(at("2026-11-21T14:00:00Z").naive_utc())
    );
}

#[test]
fn the_archive_has_every_point_with_its_address() {
    let (sim, _) = sim(Habits::default());
    let archive: Vec<ArchiveMeter> = sim.terminal().archive().cloned().collect();
    assert_eq!(archive.len(), 500);
    assert_eq!(
        (archive[41].point, archive[41].address_text()),
        (42, sim.meter_address(42))
    );
}

#[test]
fn a_relay_is_moved_and_read_through_the_concentrator_by_its_own_address_alone() {
    use crate::protocol::dlt645::{self, Address as Meter, Di, Operator, Password, Reply, Security};
    use crate::protocol::gdw376::forward::{Passage, Question};
    use crate::protocol::gdw376::{Password as Outer, relay};

    let (sim, mut points) = sim(Habits::default());
    let security = |password: &str| Security {
        password: Password::new(2, password).unwrap(),
        operator: Operator::new("00000001").unwrap(),
    };
    let question = |port: u8, inner: &dlt645::Request| Question {
        passage: Passage {
            port,
            ..Passage::CARRIER
        },
        frame: inner.frame(),
    };
    let to = sim.address.with_msa(1);
    let status = |points: &mut Points, address: &str, port: u8| {
        let inner = dlt645::Request::read(Meter::parse(address).unwrap(), Di::E2007(0x0400_0503));
        let request = Request::forward(to, &question(port, &inner)).unwrap();
        let answer = answered(&sim, points, &request);
        let forwarded = answer.forwarded().unwrap()?;
        match inner.reply(&forwarded.frame).unwrap() {
            Reply::Data(word) => Some(u16::from_le_bytes([word[0], word[1]])),
            other => panic!("{other:?}"),
        }
    };
    let trip = |points: &mut Points, address: &str, password: &str| {
        let address = Meter::parse(address).unwrap();
        let inner = dlt645::relay::trip(dlt645::Edition::E2007, address, security(password), None).unwrap();
        let request = relay::forward(to, &question(31, &inner), Outer::ZERO).unwrap();
        let answer = answered(&sim, points, &request);
        let forwarded = answer.forwarded().unwrap();
        forwarded.map(|forwarded| inner.reply(&forwarded.frame))
    };
    let (one, other) = (sim.meter_address(42), sim.meter_address(43));
    assert_eq!(status(&mut points, &one, 31), Some(0));
    assert!(trip(&mut points, &one, "123456").unwrap().is_err(), "a wrong password");
    assert_eq!(trip(&mut points, &one, "000000"), Some(Ok(Reply::Done)));
    assert_eq!(status(&mut points, &one, 31), Some(0x50));
    assert_eq!(status(&mut points, &other, 31), Some(0), "its neighbour stands");
    // nobody hangs on another port, has another terminal's address, or one behind the last
    assert_eq!(status(&mut points, &one, 2), None);
    for nobody in ["000020000042", "000010000501"] {
        assert_eq!(status(&mut points, nobody, 31), None);
        assert_eq!(trip(&mut points, nobody, "000000"), None);
    }
    // what the concentrator shows of it from then on
    let id = Id {
        pn: Pn::new(42).unwrap(),
        item: Fn::new(25).unwrap(),
    };
    let request = Request::new(to, Afn::REALTIME, [Ask::plain(id)]).unwrap();
    let answer = answered(&sim, &mut points, &request);
    let unit = answer.units().next().unwrap().clone();
    assert_eq!(unit.reading.unwrap().number("active power", None), Some(Decimal::ZERO));
}

#[test]
fn what_it_reports_is_its_newest_event_or_the_registers_of_a_point() {
    let (sim, mut points) = sim(Habits::default());
    let (mut terminal, mut dice) = (sim.terminal(), Dice::new(3));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        terminal.happen(true, record(points.local()));
        let message = sim.report(&mut terminal, &mut points, &mut dice).unwrap();
        assert!(message.seq.wants_confirmation() && message.control.is_from_terminal());
        let units = message.units(Edition::E2013).unwrap();
        seen.insert(message.afn.0);
        if message.afn == Afn::EVENTS {
            let events = event::read(&units[0].data).unwrap();
            assert_eq!(events.records, [record(points.local())]);
            assert_eq!((events.counters.0, events.to), (events.to, events.from + 1));
        } else {
            let reading = units[0].reading.as_ref().unwrap();
            assert!(reading.time("terminal read at").is_some());
            assert!((1..=500).contains(&units[0].id.pn.number().unwrap()));
        }
    }
    assert_eq!(seen, [Afn::REALTIME.0, Afn::EVENTS.0].into());
}
