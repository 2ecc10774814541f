//! Reports of a terminal: what is taken of them, and when they are confirmed.

use super::report::{Reported, ReportedRow};
use super::tests::{ENERGY, VOLTAGE, meter, start, terminal};
use super::*;
use crate::protocol::dlt698::terminal::Device;
use crate::protocol::dlt698::{
    ADDRESS, Control, Csd, Dar, Data, DateTimeS, FROZEN_AT, Frame, ItemResult, Many, Oad, Octets, ROW_OF, RecordResult,
    Report, ReportAck, Road, Rows, STORED_AT, TASK_ROWS, Transparent, Tsa, ValueResult, open,
};
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use proptest::prelude::*;

const FREEZE: Oad = Oad::new(0x5004, 2);
const BEGAN_AT: Oad = Oad::new(0x6040, 2);
const COLLECTED_AT: Oad = Oad::new(0x6041, 2);

fn day(day: u32) -> NaiveDateTime {
    NaiveDate::from_ymd_opt(2026, 11, day)
        .unwrap()
        .and_hms_opt(0, 0, 0)
        .unwrap()
}

fn time(at: NaiveDateTime) -> Data {
    Data::DateTimeS(DateTimeS::of(at))
}

fn of(number: u32) -> Data {
    Data::Tsa(Tsa::of(&meter(number)))
}

fn record(oad: Oad, columns: Vec<Csd>, rows: Vec<Vec<Data>>) -> RecordResult {
    let rows = Rows::Rows(rows);
    RecordResult { oad, columns, rows }
}

/// What a task of daily freezes brings: two meters, each with its freeze of a day and a register.
fn freezes() -> RecordResult {
    let frozen = Road {
        oad: FREEZE,
        columns: vec![FROZEN_AT, ENERGY],
    };
    let columns = vec![
        Csd::Oad(ROW_OF),
        Csd::Oad(COLLECTED_AT),
        Csd::Oad(STORED_AT),
        Csd::Road(frozen),
    ];
    let collected = |minutes| time(day(22) + TimeDelta::minutes(minutes));
    let row = |number, minutes| {
        let values = Data::Structure(vec![time(day(22)), Data::UInt32(number)]);
        vec![of(number), collected(minutes), time(day(21)), values]
    };
    record(TASK_ROWS, columns, vec![row(7, 31), row(8, 32)])
}

fn frame_of(from: Address, number: u8, report: Report) -> Frame {
    Device::new(from, 1024).report(Piid::new(number), report).unwrap()
}

fn records(number: u8, records: Vec<RecordResult>) -> Frame {
    frame_of(terminal(), number, Report::Records(Many::new(records).unwrap()))
}

/// What a proxy says.
#[derive(Default)]
struct Said {
    written: Vec<Vec<u8>>,
    reports: Vec<Reported>,
    frames: usize,
    replays: usize,
}

fn said(proxy: &mut Proxy) -> Said {
    let mut said = Said::default();
    while let Some(event) = proxy.event() {
        match event {
            ProxyEvent::Write(wire) => said.written.push(wire),
            ProxyEvent::Report(report) => said.reports.push(*report),
            ProxyEvent::Unasked(_) => said.frames += 1,
            ProxyEvent::Replay => said.replays += 1,
            other => panic!("{other:?}"),
        }
    }
    said
}

fn hears(proxy: &mut Proxy, frame: &Frame) -> Said {
    proxy.feed(start(), &frame.wire());
    said(proxy)
}

/// The one report that a frame makes.
fn report_of(frame: &Frame) -> Reported {
    let mut proxy = Proxy::new(ProxySettings::default(), terminal());
    let mut said = hears(&mut proxy, frame);
    assert_eq!(
        (said.reports.len(), said.written.len()),
        (1, 0),
        "and it is not confirmed"
    );
    said.reports.remove(0)
}

fn new() -> Proxy {
    Proxy::new(ProxySettings::default(), terminal())
}

#[test]
fn a_report_is_confirmed_when_it_is_kept_and_not_before() {
    let mut proxy = new();
    let frame = records(9, vec![freezes()]);
    let mut heard = hears(&mut proxy, &frame);
    assert!(heard.written.is_empty() && proxy.next_deadline().is_none());
    let report = heard.reports.remove(0);
    let row = |number| ReportedRow {
        meter: Tsa::of(&meter(number)),
        at: day(22),
        values: vec![(ENERGY, Data::UInt32(number))],
    };
    assert_eq!((report.rows, report.left), (vec![row(7), row(8)], 0));
    assert_eq!(
        (report.kind, report.frame.unwrap().bytes.to_vec()),
        ("records", frame.wire())
    );
    proxy.kept(start(), report.ticket);
    let heard = said(&mut proxy);
    let answer = open(&heard.written[0]).unwrap();
    assert_eq!(
        (
            heard.written.len(),
            heard.frames,
            answer.control,
            answer.address,
            answer.client
        ),
        (1, 1, Control::CONFIRMATION, terminal(), 0)
    );
    let Ok(Apdu::ReportAck(ack)) = Apdu::parse(answer.data()) else {
        panic!()
    };
    assert_eq!(
        (ack.piid.number(), ack.body),
        (9, ReportAck::Records(Many::one(TASK_ROWS)))
    );
    // once
    proxy.kept(start(), report.ticket);
    assert!(said(&mut proxy).written.is_empty());
}

#[test]
fn what_comes_again_is_news_only_while_it_is_not_kept() {
    let mut proxy = new();
    let frame = records(9, vec![freezes()]);
    let first = hears(&mut proxy, &frame).reports.remove(0);
    // on its way
    let again = hears(&mut proxy, &frame);
    assert_eq!((again.reports.len(), again.frames, again.written.len()), (0, 1, 0));
    proxy.left(first.ticket);
    assert!(said(&mut proxy).written.is_empty());
    let second = hears(&mut proxy, &frame).reports.remove(0);
    assert_eq!(second.rows, first.rows);
    proxy.kept(start(), second.ticket);
    let confirmed = said(&mut proxy).written;
    let replayed = hears(&mut proxy, &frame);
    assert_eq!((replayed.reports.len(), replayed.replays), (0, 1));
    assert_eq!(replayed.written, confirmed);
    // another of the same kind is none that came before
    assert_eq!(hears(&mut proxy, &records(10, vec![freezes()])).reports.len(), 1);
}

#[test]
fn too_many_at_once_push_the_oldest_out() {
    let mut proxy = new();
    let mut tickets = Vec::new();
    for number in 0..12 {
        tickets.push(hears(&mut proxy, &records(number, vec![freezes()])).reports[0].ticket);
    }
    for ticket in tickets {
        proxy.kept(start(), ticket);
    }
    let numbers: Vec<u8> = said(&mut proxy)
        .written
        .iter()
        .map(|wire| {
            Apdu::parse(open(wire).unwrap().data())
                .unwrap()
                .piid()
                .unwrap()
                .number()
        })
        .collect();
    assert_eq!(numbers, (4..12).collect::<Vec<u8>>());
}

#[test]
fn reports_of_another_terminal_are_nobodys() {
    let mut proxy = new();
    let other = Address::parse("112233445567").unwrap();
    let report = Report::Records(Many::one(freezes()));
    let heard = hears(&mut proxy, &frame_of(other, 9, report));
    assert_eq!((heard.reports.len(), heard.written.len(), heard.frames), (0, 0, 1));
    assert_eq!(proxy.stats().strays, 1);
}

#[test]
fn present_values_are_of_the_moment_at_which_they_were_collected() {
    let marks = [COLLECTED_AT, BEGAN_AT, STORED_AT];
    for from in 0..3 {
        let columns = [vec![ROW_OF, ADDRESS, VOLTAGE], marks[from..].to_vec()].concat();
        let address = Data::Octets(Octets(vec![0x20, 0x26, 0, 0, 0, 7]));
        let mut row = vec![of(7), address, Data::Array(vec![Data::UInt16(2301)])];
        row.extend((from..3).map(|place| time(day(20 + u32::try_from(place).unwrap()))));
        let columns = columns.into_iter().map(Csd::Oad).collect();
        let report = report_of(&records(1, vec![record(TASK_ROWS, columns, vec![row])]));
        assert_eq!((report.rows.len(), report.left), (1, 0));
        assert_eq!(report.rows[0].at, day(20 + u32::try_from(from).unwrap()));
        assert_eq!(
            report.rows[0].values,
            [(VOLTAGE, Data::Array(vec![Data::UInt16(2301)]))]
        );
    }
}

#[test]
fn a_row_without_its_meter_or_its_one_moment_is_left() {
    let oads = |oads: &[Oad]| oads.iter().copied().map(Csd::Oad).collect::<Vec<Csd>>();
    let frozen = |columns: &[Oad]| {
        let columns = columns.to_vec();
        Csd::Road(Road { oad: FREEZE, columns })
    };
    let (at, number) = (time(day(22)), Data::UInt32(7));
    let unclear = Data::DateTimeS(DateTimeS {
        month: 0xFF,
        ..DateTimeS::of(day(22))
    });
    let mixed = vec![
        Csd::Oad(ROW_OF),
        Csd::Oad(COLLECTED_AT),
        Csd::Oad(VOLTAGE),
        frozen(&[FROZEN_AT, ENERGY]),
    ];
    let pair = Data::Structure(vec![at.clone(), number.clone()]);
    let twice = vec![
        Csd::Oad(ROW_OF),
        frozen(&[FROZEN_AT, ENERGY]),
        frozen(&[FROZEN_AT, VOLTAGE]),
    ];
    let cases = [
        // no meter
        record(
            TASK_ROWS,
            oads(&[COLLECTED_AT, ENERGY]),
            vec![vec![at.clone(), number.clone()]],
        ),
        record(
            TASK_ROWS,
            oads(&[ROW_OF, COLLECTED_AT, ENERGY]),
            vec![vec![Data::Null, at.clone(), number.clone()]],
        ),
        // no moment
        record(TASK_ROWS, oads(&[ROW_OF, ENERGY]), vec![vec![of(7), number.clone()]]),
        record(
            TASK_ROWS,
            oads(&[ROW_OF, COLLECTED_AT, ENERGY]),
            vec![vec![of(7), unclear, number.clone()]],
        ),
        // of a freeze, and nobody says of which
        record(
            FREEZE,
            oads(&[ROW_OF, STORED_AT, ENERGY]),
            vec![vec![of(7), at.clone(), number.clone()]],
        ),
        record(
            TASK_ROWS,
            vec![Csd::Oad(ROW_OF), Csd::Oad(STORED_AT), frozen(&[ENERGY])],
            vec![vec![of(7), at.clone(), number.clone()]],
        ),
        // of several moments
        record(
            TASK_ROWS,
            mixed,
            vec![vec![of(7), at.clone(), Data::UInt16(2301), pair.clone()]],
        ),
        record(TASK_ROWS, twice, vec![vec![of(7), pair.clone(), pair]]),
        // an attribute twice
        record(
            TASK_ROWS,
            oads(&[ROW_OF, COLLECTED_AT, ENERGY, ENERGY]),
            vec![vec![of(7), at.clone(), number.clone(), Data::UInt32(8)]],
        ),
        // nothing
        record(TASK_ROWS, oads(&[ROW_OF, COLLECTED_AT]), vec![vec![of(7), at]]),
        RecordResult {
            rows: Rows::Dar(Dar(2)),
            ..freezes()
        },
    ];
    for case in cases {
        let report = report_of(&records(1, vec![case.clone()]));
        assert_eq!((report.rows.len(), report.left), (0, 1), "{case:?}");
        // and does not spoil its neighbours
        let report = report_of(&records(1, vec![case, freezes()]));
        assert_eq!((report.rows.len(), report.left), (2, 1));
    }
    let result = ValueResult::Dar(Dar(2));
    let items = Report::Items(Many::one(ItemResult { oad: VOLTAGE, result }));
    let bytes = Report::Transparent(Transparent {
        port: Oad::element(0xF201, 2, 1),
        frames: Many::one(Octets(vec![0x68, 0x16])),
    });
    for (report, kind) in [(items, "attributes"), (bytes, "bytes of a meter")] {
        let report = report_of(&frame_of(terminal(), 1, report));
        assert_eq!((report.rows.len(), report.left, report.kind), (0, 1, kind));
    }
}

proptest! {
    /// Whatever the order of the columns: each meter's values under its own address and moment.
    #[test]
    fn rows_come_out_as_they_went_in(
        meters in prop::collection::vec((1u32..1000, 1u32..28, any::<u32>(), any::<u16>()), 1..8),
        order in Just([ROW_OF, COLLECTED_AT, ENERGY, VOLTAGE]).prop_shuffle(),
    ) {
        let cell = |oad: Oad, (number, on, energy, voltage): (u32, u32, u32, u16)| match oad {
            ROW_OF => of(number),
            COLLECTED_AT => time(day(on)),
            ENERGY => Data::UInt32(energy),
            _ => Data::UInt16(voltage),
        };
        let rows = meters.iter().map(|row| order.iter().map(|oad| cell(*oad, *row)).collect()).collect();
        let columns = order.iter().copied().map(Csd::Oad).collect();
        let report = report_of(&records(1, vec![record(TASK_ROWS, columns, rows)]));
        prop_assert_eq!((report.rows.len(), report.left), (meters.len(), 0));
        for (row, (number, on, energy, voltage)) in report.rows.iter().zip(meters) {
            prop_assert_eq!((&row.meter, row.at), (&Tsa::of(&meter(number)), day(on)));
            for (oad, data) in &row.values {
                prop_assert_eq!(data, &if *oad == ENERGY { Data::UInt32(energy) } else { Data::UInt16(voltage) });
            }
            prop_assert_eq!(row.values.len(), 2);
        }
    }

    /// Whatever a report is: nothing is written before it is kept, and then the confirmation of exactly it.
    #[test]
    fn nothing_is_confirmed_that_is_not_kept(number in 0u8..64, copies in 1usize..5, kept in any::<bool>()) {
        let mut proxy = new();
        let frame = records(number, vec![freezes(); copies]);
        let report = report_of(&frame);
        prop_assert_eq!(report.rows.len(), 2 * copies);
        let ticket = hears(&mut proxy, &frame).reports[0].ticket;
        if kept { proxy.kept(start(), ticket) } else { proxy.left(ticket) }
        let written = said(&mut proxy).written;
        prop_assert_eq!(written.len(), usize::from(kept));
        for wire in written {
            let Ok(Apdu::ReportAck(ack)) = Apdu::parse(open(&wire).unwrap().data()) else { panic!() };
            prop_assert_eq!(ack.piid.number(), number);
            prop_assert_eq!(ack.body, ReportAck::Records(Many::new(vec![TASK_ROWS; copies]).unwrap()));
        }
    }
}
