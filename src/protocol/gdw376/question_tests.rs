//! Questions of one point among those of many.

use super::*;
use crate::protocol::gdw376::{Assembly, Fn, Pn, Terminal};
use crate::protocol::gdw376::{Said, Spoken};
use proptest::prelude::*;

struct Mute;

impl Spoken for Mute {
    fn forward(&mut self, _: u8, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn control(&mut self, _: Id, _: &[u8]) -> bool {
        false
    }
}

fn id(pn: u16, item: u8) -> Id {
    Id {
        pn: Pn::new(pn).unwrap(),
        item: Fn::new(item).unwrap(),
    }
}

/// F129 with no tariffs: when, M = 0, one register of `value` units of 0.0001 kWh below 100.
fn energy(value: u8) -> Vec<u8> {
    vec![0x15, 0x08, 0x21, 0x11, 0x26, 0x00, value, 0, 0, 0, 0]
}

#[test]
fn the_answer_to_many_points_is_cut_into_answers_to_one() {
    let address = Address::new(0x4403, 4);
    let mut terminal = Terminal::new(address, Edition::E2013).with_frames_of(40);
    let points: Vec<u16> = vec![1, 2, 9, 2040];
    for pn in &points {
        let bcd = u8::try_from(pn % 10).unwrap();
        terminal.put(Afn::REALTIME, id(*pn, 129), &[], energy(bcd));
    }
    let asks = points.iter().chain(&[77]).map(|pn| Ask::plain(id(*pn, 129)));
    let all = Request::new(address.with_msa(1), Afn::REALTIME, asks)
        .unwrap()
        .numbered(5);
    let frames = terminal.answer(&all.message(), &mut Mute);
    assert!(frames.len() > 1, "split by the terminal");
    let mut assembly = Assembly::new(4096);
    let joined = frames
        .iter()
        .find_map(|frame| assembly.push(Message::of(frame).unwrap()).unwrap());
    let answer = all.answer(&joined.unwrap(), Edition::E2013).unwrap();
    let Said::Data(units) = answer.said else { panic!() };
    for pn in points {
        let own = Request::new(NO_TERMINAL, Afn::REALTIME, [Ask::plain(id(pn, 129))]).unwrap();
        let excerpt = own.excerpt(Afn::REALTIME, &units).unwrap();
        let end = excerpt.len();
        assert_eq!(
            own.find(&excerpt),
            Finding::Frame {
                span: 0..end,
                verdict: Verdict::Answer
            }
        );
        let message = Message::of(&Frame::parse(&excerpt).unwrap()).unwrap();
        let read = own.answer(&[message], Edition::E2013).unwrap();
        let unit = read.units().next().unwrap();
        assert_eq!((unit.id, unit.data[6]), (id(pn, 129), u8::try_from(pn % 10).unwrap()));
        // nobody else's
        let other = Request::new(NO_TERMINAL, Afn::REALTIME, [Ask::plain(id(pn - 1, 129))]).unwrap();
        let message = Message::of(&Frame::parse(&excerpt).unwrap()).unwrap();
        assert!(other.answer(&[message], Edition::E2013).is_err());
    }
    let absent = Request::new(NO_TERMINAL, Afn::REALTIME, [Ask::plain(id(77, 129))]).unwrap();
    assert_eq!(absent.excerpt(Afn::REALTIME, &units), None);
    assert_eq!(answer.missing, [id(77, 129)]);
}

#[test]
fn a_question_reads_back_from_its_bytes() {
    let day = chrono::NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
    let asks = [
        Ask::of_day(id(3, 161), day).unwrap(),
        Ask::of_day(id(4, 161), day).unwrap(),
    ];
    let asked = Request::new(Address::new(0x4403, 4), Afn::HISTORY, asks)
        .unwrap()
        .numbered(7);
    assert_eq!(Request::parse(&asked.wire(), Edition::E2013), Ok(asked.clone()));
    let mut answered = Terminal::new(Address::new(0x4403, 4), Edition::E2013);
    let denied = answered.answer(&asked.message(), &mut Mute).remove(0).wire();
    let end = denied.len();
    assert_eq!(
        asked.find(&denied),
        Finding::Frame {
            span: 0..end,
            verdict: Verdict::Refused(DENIED)
        }
    );
    assert_eq!(Request::parse(&denied, Edition::E2013), Err(ParseError::Direction));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _read = Request::parse(&bytes, Edition::E2013);
        let asked = Request::new(NO_TERMINAL, Afn::REALTIME, [Ask::plain(id(1, 25))]).unwrap();
        let _found = asked.find(&bytes);
        let _last = asked.find_last(&bytes);
    }
}
