//! A master and a terminal that speak with each other: reads of many points, archives in pieces, controls, events.

use super::super::format::{Format, Value};
use super::super::items::{Way, layout};
use super::super::plan::{self, Limits};
use super::super::request::tests::{id, terminal as address};
use super::super::{Advance, relay};
use super::super::{Answer, Ask, Assembly, AssemblyError, Mismatch, Password, Replays, Request, Said, advance};
use super::*;
use crate::base::hex;
use chrono::NaiveDate;
use rust_decimal::Decimal;

#[derive(Default)]
struct Meters {
    controls: Vec<(Id, Vec<u8>)>,
    refuses: bool,
}

impl Spoken for Meters {
    fn forward(&mut self, port: u8, frame: &[u8]) -> Option<Vec<u8>> {
        (port == 31).then(|| frame.iter().rev().copied().collect())
    }

    fn control(&mut self, id: Id, data: &[u8]) -> bool {
        self.controls.push((id, data.to_vec()));
        !self.refuses
    }
}

fn ask_it(terminal: &mut Terminal, request: &Request) -> Answer {
    answer_of(terminal, request, &mut Meters::default()).unwrap()
}

fn answer_of(terminal: &mut Terminal, request: &Request, meters: &mut Meters) -> Result<Answer, Mismatch> {
    let heard = Message::of(&Frame::parse(&request.wire()).unwrap()).unwrap();
    let mut assembly = Assembly::new(64 * 1024);
    let mut whole = None;
    for frame in terminal.answer(&heard, meters) {
        assert!(whole.is_none(), "frames behind the last");
        let frame = Frame::parse(&frame.wire()).unwrap();
        whole = assembly.push(Message::of(&frame).unwrap()).unwrap();
    }
    request.answer(&whole.expect("an answer that ends"), Edition::E2013)
}

/// A terminal with 40 points that have import registers now and at the end of a day, and powers.
fn populated() -> Terminal {
    let mut terminal = Terminal::new(Address::new(0x4403, 4), Edition::E2013);
    let day = Format::A20
        .write(&Value::Date(NaiveDate::from_ymd_opt(2026, 3, 9).unwrap()))
        .unwrap();
    for pn in 1..=40u16 {
        for (afn, item, stamp) in [
            (Afn::REALTIME, 129, &[][..]),
            (Afn::REALTIME, 25, &[]),
            (Afn::HISTORY, 161, &day),
        ] {
            let layout = layout(afn, Fn::of(item), Way::Up, Edition::E2013).unwrap();
            let data = layout.write(stamp, 4, 0, |field, rate, _| match field.format {
                Format::A15 => Value::None,
                _ => Value::Number(Decimal::from(u32::from(pn) + u32::from(rate.unwrap_or_default()))),
            });
            terminal.put(afn, id(pn, item), stamp, data.unwrap());
        }
    }
    terminal
}

#[test]
fn many_points_come_back_under_their_own_numbers() {
    let mut terminal = populated().with_frames_of(700);
    let day = NaiveDate::from_ymd_opt(2026, 3, 9).unwrap();
    let now = (1..=40)
        .flat_map(|pn| [id(pn, 129), id(pn, 25)])
        .map(Ask::plain)
        .collect::<Vec<_>>();
    let then = (1..=40)
        .map(|pn| Ask::of_day(id(pn, 161), day).unwrap())
        .collect::<Vec<_>>();
    let mut read = 0;
    for (afn, asks) in [(Afn::REALTIME, now), (Afn::HISTORY, then)] {
        for question in plan::questions(address(), afn, asks, Limits::default()).unwrap() {
            let answer = ask_it(&mut terminal, &question.numbered(14));
            assert!(answer.missing.is_empty());
            for unit in answer.units() {
                let pn = unit.id.pn.number().unwrap();
                let reading = unit.reading.as_ref().unwrap();
                let total = reading
                    .number("import active energy", Some(0))
                    .or_else(|| reading.number("voltage phase B", None));
                assert_eq!(total, Some(Decimal::from(pn)), "{}", unit.id);
                read += 1;
            }
        }
    }
    assert_eq!(read, 120);
}

#[test]
fn what_a_terminal_does_not_have_is_missing_or_denied() {
    let mut terminal = populated();
    let asks = [39, 40, 41, 42].map(|pn| Ask::plain(id(pn, 129)));
    let answer = ask_it(&mut terminal, &Request::new(address(), Afn::REALTIME, asks).unwrap());
    assert_eq!(answer.missing, [id(41, 129), id(42, 129)]);
    assert_eq!(answer.units().count(), 2);
    let nobody = Request::new(address(), Afn::REALTIME, [Ask::plain(id(99, 129))]).unwrap();
    assert_eq!(ask_it(&mut terminal, &nobody).said, Said::Denied);
    // another terminal, or everybody: silence
    let elsewhere = Request::new(Address::new(1, 1), Afn::REALTIME, [Ask::plain(id(1, 129))]).unwrap();
    assert!(terminal.answer(&elsewhere.message(), &mut Meters::default()).is_empty());
}

#[test]
fn an_archive_comes_in_pieces_and_is_written_whole() {
    let mut terminal = Terminal::new(Address::new(0x4403, 4), Edition::E2013).with_frames_of(300);
    let meters: Vec<ArchiveMeter> = (1..=100u16)
        .map(|place| ArchiveMeter::new(place, place, [u8::try_from(place % 90).unwrap(), 1, 2, 3, 4, 5]))
        .collect();
    for meters in meters.chunks(30) {
        let said = ask_it(&mut terminal, &Request::write_archive(address(), meters).unwrap());
        assert_eq!(said.said, Said::Confirmed);
    }
    let places: Vec<u16> = (1..=120).collect();
    let answer = ask_it(&mut terminal, &Request::read_archive(address(), &places).unwrap());
    assert_eq!(answer.archive().unwrap(), meters);
    // point 0 takes a meter out
    let gone = ArchiveMeter {
        point: 0,
        ..meters[49].clone()
    };
    ask_it(&mut terminal, &Request::write_archive(address(), &[gone]).unwrap());
    assert_eq!(terminal.archive().count(), 99);
}

#[test]
fn controls_are_confirmed_or_denied() {
    let mut terminal = Terminal::new(Address::new(0x4403, 4), Edition::E2013);
    let mut meters = Meters::default();
    let at = NaiveDate::from_ymd_opt(2026, 3, 9)
        .unwrap()
        .and_hms_opt(7, 15, 30)
        .unwrap();
    let clock = Request::set_clock(address(), at).unwrap();
    assert_eq!(
        answer_of(&mut terminal, &clock, &mut meters).unwrap().said,
        Said::Confirmed
    );
    assert_eq!(meters.controls, [(id(0, 31), hex::decode("301507092326").unwrap())]);
    meters.refuses = true;
    let trip = relay::trip(address(), Pn::new(1).unwrap(), 0, 0, Password::ZERO).unwrap();
    assert_eq!(answer_of(&mut terminal, &trip, &mut meters).unwrap().said, Said::Denied);
    assert_eq!(meters.controls.len(), 2);
    // a parameter that is set can be queried
    let set = Request::new(
        address(),
        Afn::SET,
        [Ask {
            id: id(3, 25),
            data: vec![1; 11],
        }],
    )
    .unwrap();
    assert_eq!(ask_it(&mut terminal, &set).said, Said::Confirmed);
    let query = Request::new(address(), Afn::QUERY, [Ask::plain(id(3, 25))]).unwrap();
    assert_eq!(ask_it(&mut terminal, &query).units().next().unwrap().data, [1; 11]);
}

#[test]
fn a_meters_frame_goes_there_and_back() {
    let mut terminal = Terminal::new(Address::new(0x4403, 4), Edition::E2013);
    let frame = hex::decode("68611001301215681104333334337B16").unwrap();
    let mut question = forward::Question {
        passage: forward::Passage::CARRIER,
        frame: frame.clone(),
    };
    let there = Request::forward(address(), &question).unwrap();
    let back = ask_it(&mut terminal, &there).forwarded().unwrap().unwrap();
    assert_eq!((back.port, back.frame), (31, frame.into_iter().rev().collect()));
    question.passage.port = 2;
    let silent = Request::forward(address(), &question).unwrap();
    assert_eq!(ask_it(&mut terminal, &silent).said, Said::Denied);
}

#[test]
fn events_are_counted_and_read_by_their_pointers() {
    let mut terminal = populated();
    let record = |code| Record {
        code,
        data: vec![0x15, 0x07, 0x09, 0x03, 0x26, code],
    };
    for code in [1, 14, 35] {
        terminal.happen(true, record(code));
    }
    let request = Request::events(address(), true, 1, 3).unwrap();
    let answer = ask_it(&mut terminal, &request);
    // the answer itself says that events wait
    assert_eq!(
        answer.events,
        Some(EventCounters {
            important: 3,
            ordinary: 0
        })
    );
    let events = answer.event_records().unwrap().remove(0);
    assert_eq!((events.counters, events.from, events.to), ((3, 0), 1, 3));
    let named: Vec<(&str, String)> = events
        .records
        .iter()
        .map(|record| (record.name(), super::super::explain_text(&record.at().unwrap())))
        .collect();
    assert_eq!(
        named[0],
        ("terminal lost or regained supply", "2026-03-09 07:15:00".to_owned())
    );
    assert_eq!(named[1].0, "unknown meter found");
    let broken = Events {
        to: 4,
        ..events.clone()
    };
    assert!(matches!(
        event::read(&event::write(&broken).unwrap()),
        Err(event::EventError::Count {
            promised: 3,
            found: 2,
            ..
        })
    ));
    let cut = event::write(&events).unwrap();
    assert!(event::read(&cut[..cut.len() - 1]).is_err());
    assert_eq!(advance(3, 5), Advance::By(2));
    assert_eq!(advance(254, 1), Advance::By(3));
    assert_eq!(advance(9, 9), Advance::None);
    assert_eq!(advance(9, 3), Advance::Jump { before: 9, after: 3 });
}

#[test]
fn frames_of_one_message_join_in_order_or_not_at_all() {
    let mut terminal = populated().with_frames_of(200);
    let asks = (1..=20).map(|pn| Ask::plain(id(pn, 129)));
    let request = Request::new(address(), Afn::REALTIME, asks).unwrap().numbered(15);
    let frames: Vec<Message> = terminal
        .answer(&request.message(), &mut Meters::default())
        .iter()
        .map(|frame| Message::of(frame).unwrap())
        .collect();
    assert!(frames.len() > 3, "{}", frames.len());
    assert_eq!((frames[0].seq.number(), frames[1].seq.number()), (15, 0));
    let mut assembly = Assembly::new(10_000);
    assert_eq!(assembly.push(frames[1].clone()), Err(AssemblyError::Orphan(0)));
    assert_eq!(assembly.push(frames[0].clone()), Ok(None));
    assert_eq!(assembly.push(frames[0].clone()), Err(AssemblyError::Repeated(15)));
    assert_eq!(assembly.push(frames[1].clone()), Ok(None));
    assert_eq!(assembly.push(frames[1].clone()), Err(AssemblyError::Repeated(0)));
    let foreign = Message {
        address: Address::new(1, 1),
        ..frames[2].clone()
    };
    assert_eq!(assembly.push(foreign), Err(AssemblyError::Foreign));
    assert_eq!(
        assembly.push(frames[3].clone()),
        Err(AssemblyError::Gap { expected: 1, found: 2 })
    );
    assert!(!assembly.is_open());
    let mut small = Assembly::new(300);
    small.push(frames[0].clone()).unwrap();
    assert_eq!(small.push(frames[1].clone()), Err(AssemblyError::Long(300)));
    assert!(!small.is_open());
    // a message that begins anew is whole
    let mut assembly = Assembly::new(10_000);
    assembly.push(frames[0].clone()).unwrap();
    assembly.push(frames[1].clone()).unwrap();
    let mut whole = None;
    for frame in &frames {
        whole = assembly.push(frame.clone()).unwrap();
    }
    assert_eq!(whole.unwrap(), frames);
}

#[test]
fn logins_are_confirmed_and_reports_are_known_again() {
    let mut terminal = Terminal::new(Address::new(0x0200, 0x1234), Edition::E2013);
    let login = terminal.say(Link::Login);
    assert_eq!(login.link(), Some(Link::Login));
    assert_eq!(
        hex::encode(&login.frame().unwrap().wire()),
        "683200320068C900023412000271000001008516"
    );
    let confirmed = Confirmation::All.to(&login).frame().unwrap();
    assert_eq!(
        hex::encode(&confirmed.wire()),
        "6832003200680B0002341200006100000100B516"
    );
    // a master's confirmation is not answered
    let heard = Message::of(&confirmed).unwrap();
    assert!(terminal.answer(&heard, &mut Meters::default()).is_empty());
    let mut replays = Replays::default();
    assert!(!replays.is_replay(&login) && !replays.is_replay(&login));
    let report = |number: u8| Message {
        control: Control::REPORT,
        afn: Afn::REALTIME,
        seq: Seq::single(number).to_confirm(),
        body: vec![0, 0, 2, 0, 1, 1, 1, 1, 1, 1],
        ..login.clone()
    };
    assert!(!replays.is_replay(&report(1)));
    assert!(replays.is_replay(&report(1)));
    assert!(!replays.is_replay(&report(2)));
    let answered = Confirmation::All.to(&report(7));
    assert_eq!((answered.control, answered.seq), (Control::CONFIRM, Seq(0x67)));
}
