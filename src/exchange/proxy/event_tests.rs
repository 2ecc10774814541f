//! Events that a terminal tells, reports in parts, and what is reported beside an answer.

use super::report::Reported;
use super::tests::{ENERGY, Heard, get, job, meter, play, start, station, terminal};
use super::*;
use crate::protocol::dlt698::event::{BEGAN_AT, ENDED_AT, NUMBER, REPORTED, SOURCE};
use crate::protocol::dlt698::terminal::Device;
use crate::protocol::dlt698::{
    Answered, Asked, Control, Csd, Data, DateTimeS, FollowReport, Frame, GetBody, Many, Oad, Octets, Part,
    RecordResult, Report, ReportAck, Rows, Segment, Transparent, Tsa, open, split,
};
use chrono::{NaiveDate, NaiveDateTime};
use proptest::prelude::*;

const CLOCK_OFF: Oad = Oad::new(0x3105, 2);

fn at(minute: u32) -> NaiveDateTime {
    NaiveDate::from_ymd_opt(2026, 11, 22)
        .unwrap()
        .and_hms_opt(10, minute, 0)
        .unwrap()
}

/// Records of a meter's clock that is off.
fn events(numbers: std::ops::Range<u32>) -> RecordResult {
    let row = |number: u32| {
        let channels = Data::Array(vec![Data::Structure(vec![
            Data::Oad(Oad::new(0x4500, 2)),
            Data::UInt8(0),
        ])]);
        vec![
            Data::UInt32(number),
            Data::DateTimeS(DateTimeS::of(at(number % 60))),
            Data::Null,
            Data::Tsa(Tsa::of(&meter(7))),
            channels,
        ]
    };
    RecordResult {
        oad: CLOCK_OFF,
        columns: [NUMBER, BEGAN_AT, ENDED_AT, SOURCE, REPORTED].map(Csd::Oad).to_vec(),
        rows: Rows::Rows(numbers.map(row).collect()),
    }
}

fn report(number: u8, numbers: std::ops::Range<u32>) -> Apdu {
    let body = Report::Records(Many::one(events(numbers)));
    Apdu::Report(Answered::new(Piid::new(number), body))
}

fn whole(apdu: &Apdu) -> Frame {
    Frame::new(Control::REPORT, terminal(), 0, apdu.wire()).unwrap()
}

/// The same in frames of so many bytes.
fn in_parts(apdu: &Apdu, size: usize) -> Vec<Frame> {
    let wire = apdu.wire();
    let parts = split(&wire, size);
    let frame = |part: &Segment<'_>| Frame::new(Control::REPORT.segmented(), terminal(), 0, part.wire()).unwrap();
    parts.iter().map(frame).collect()
}

fn new() -> Proxy {
    Proxy::new(ProxySettings::default(), terminal())
}

/// What is written, what is reported, and how many reports are replays.
fn hears(proxy: &mut Proxy, frame: &Frame) -> (Vec<Frame>, Vec<Reported>, usize) {
    proxy.feed(start(), &frame.wire());
    said(proxy)
}

fn said(proxy: &mut Proxy) -> (Vec<Frame>, Vec<Reported>, usize) {
    let (mut written, mut reports, mut replays) = (Vec::new(), Vec::new(), 0);
    while let Some(event) = proxy.event() {
        match event {
            ProxyEvent::Write(wire) => written.push(open(&wire).unwrap()),
            ProxyEvent::Report(report) => reports.push(*report),
            ProxyEvent::Replay => replays += 1,
            ProxyEvent::Unasked(_) => {}
            other => panic!("{other:?}"),
        }
    }
    (written, reports, replays)
}

fn acknowledged(frame: &Frame) -> (u8, ReportAck) {
    assert_eq!((frame.control, frame.address), (Control::CONFIRMATION, terminal()));
    match Apdu::parse(frame.data()) {
        Ok(Apdu::ReportAck(ack)) => (ack.piid.number(), ack.body),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_report_of_events_is_confirmed_when_they_are_kept_and_not_before() {
    let mut proxy = new();
    let frame = whole(&report(9, 3..5));
    let (written, mut reports, _) = hears(&mut proxy, &frame);
    assert_eq!((written.len(), reports.len()), (0, 1));
    let told = reports.remove(0);
    assert_eq!((told.rows.len(), told.left, told.kind), (0, 0, "records"));
    let numbers: Vec<_> = told.events.iter().map(|event| event.number()).collect();
    assert_eq!(numbers, [Some(3), Some(4)]);
    let first = &told.events[0];
    assert_eq!((first.oad, first.began_at()), (CLOCK_OFF, Some(at(3))));
    assert_eq!(first.device(), Some(meter(7).to_string()));
    // it comes again: told anew while it is not kept, confirmed again and not told when it was
    proxy.left(told.ticket);
    let (written, reports, _) = hears(&mut proxy, &frame);
    assert_eq!((written.len(), reports.len()), (0, 1));
    assert_eq!(reports[0].events, told.events);
    proxy.kept(start(), reports[0].ticket);
    let (written, ..) = said(&mut proxy);
    let ack = (9, ReportAck::Records(Many::one(CLOCK_OFF)));
    assert_eq!((written.len(), acknowledged(&written[0])), (1, ack.clone()));
    let (written, reports, replays) = hears(&mut proxy, &frame);
    assert_eq!((reports.len(), replays, acknowledged(&written[0])), (0, 1, ack));
}

#[test]
fn values_and_events_of_one_report_are_told_together() {
    let strange = Report::Transparent(Transparent {
        port: Oad::element(0xF201, 2, 1),
        frames: Many::one(Octets(vec![0x68, 0x16])),
    });
    let mut apdu = Answered::new(Piid::new(1), strange);
    apdu.follow = Some(FollowReport::Records(Many::one(events(1..2))));
    let (_, reports, _) = hears(&mut new(), &whole(&Apdu::Report(apdu)));
    assert_eq!((reports[0].events.len(), reports[0].left), (1, 1));
}

#[test]
fn a_report_in_parts_is_joined_and_each_part_but_the_last_confirmed_at_once() {
    let mut proxy = new();
    let apdu = report(5, 0..40);
    let parts = in_parts(&apdu, 200);
    let (last, before) = parts.split_last().unwrap();
    assert!(before.len() > 3);
    for (number, part) in (0u16..).zip(before) {
        // once more, because the confirmation was lost: confirmed once more
        for _ in 0..2 {
            let (written, reports, _) = hears(&mut proxy, part);
            assert_eq!((written.len(), reports.len()), (1, 0));
            assert_eq!(written[0].control, Control::CONFIRMATION.segmented());
            let confirmed = Segment::parse(written[0].data()).unwrap();
            assert_eq!((confirmed.part, confirmed.number), (Part::Confirmation, number));
        }
    }
    let (written, reports, _) = hears(&mut proxy, last);
    assert_eq!((written.len(), reports.len()), (0, 1), "the report is not durable yet");
    assert_eq!((reports[0].events.len(), reports[0].left), (40, 0));
    assert_eq!(reports[0].frame.as_ref().unwrap().bytes.to_vec(), last.wire());
    proxy.kept(start(), reports[0].ticket);
    let (written, ..) = said(&mut proxy);
    assert_eq!(acknowledged(&written[0]), (5, ReportAck::Records(Many::one(CLOCK_OFF))));
    // all of it again: one replay, confirmed again
    let again: Vec<_> = parts.iter().map(|part| hears(&mut proxy, part)).collect();
    let (written, reports, replays) = again.last().unwrap();
    assert_eq!((reports.len(), *replays), (0, 1));
    assert_eq!(acknowledged(&written[0]).0, 5);
    assert!(
        again
            .iter()
            .rev()
            .skip(1)
            .all(|(_, reports, replays)| reports.is_empty() && *replays == 0)
    );
}

#[test]
fn parts_of_nobody_are_strays() {
    let parts = in_parts(&report(5, 0..9), 100);
    let mut proxy = new();
    // the first is missing
    assert!(hears(&mut proxy, &parts[1]).0.is_empty());
    // of another terminal
    let other = Address::parse("112233445567").unwrap();
    let foreign = Frame::new(Control::REPORT.segmented(), other, 0, parts[0].data().to_vec()).unwrap();
    assert!(hears(&mut proxy, &foreign).0.is_empty());
    // parts that make no report
    let question = Apdu::Get(Asked::new(Piid::new(1), GetBody::Normal(ENERGY)));
    for part in in_parts(&question, 4) {
        assert!(hears(&mut proxy, &part).1.is_empty());
    }
    assert_eq!(proxy.stats().strays, 3);
}

#[test]
fn what_is_reported_beside_an_answer_is_told_once_the_answer_is_whole() {
    let mut proxy = new();
    let (now, mut heard) = (start(), Heard::default());
    proxy
        .submit(now, job(now, 0, vec![get(terminal(), &[ENERGY])], Priority::OnDemand))
        .unwrap();
    let (mut device, mut table) = (Device::new(terminal(), 1024), station(1..=2));
    play(&mut proxy, now, &mut heard, |wire| {
        let asked = open(wire).unwrap();
        let Some(answer) = device.hear(&asked, &mut table) else {
            return Vec::new();
        };
        let apdu = match Apdu::parse(answer.data()).unwrap() {
            Apdu::GetAnswer(mut answered) => {
                answered.follow = Some(FollowReport::Records(Many::one(events(7..9))));
                Apdu::GetAnswer(answered)
            }
            other => other,
        };
        vec![
            Frame::new(answer.control, answer.address, answer.client, apdu.wire())
                .unwrap()
                .wire(),
        ]
    });
    assert_eq!((heard.done.len(), heard.events, heard.reports), (1, 2, 1));
    let outcome = heard.done.values().next().unwrap();
    assert!(outcome.reports[0].result.is_ok(), "{outcome:?}");
}

proptest! {
    /// Confirmations are lost and parts come again, in any size: what is told is the report, once.
    #[test]
    fn a_report_in_parts_is_told_as_it_was(
        size in 20usize..400,
        many in 2u32..60,
        times in prop::collection::vec(1usize..4, 1..8),
    ) {
        let mut proxy = new();
        let parts = in_parts(&report(3, 0..many), size);
        prop_assume!(parts.len() > 1);
        let mut told = Vec::new();
        let (last, before) = parts.split_last().unwrap();
        for (part, times) in before.iter().zip(times.iter().cycle()) {
            for _ in 0..*times {
                let (written, reports, _) = hears(&mut proxy, part);
                prop_assert_eq!((written.len(), reports.len()), (1, 0));
            }
        }
        told.extend(hears(&mut proxy, last).1);
        prop_assert_eq!(told.len(), 1);
        let numbers: Vec<u32> = told[0].events.iter().filter_map(|event| event.number()).collect();
        prop_assert_eq!(numbers, (0..many).collect::<Vec<u32>>());
    }
}
