//! What is taken for an answer and what is not; forms of questions; batches.

use super::*;
use crate::protocol::gdw376::confirm::Confirmation;
use crate::protocol::gdw376::items::Edition;
use crate::protocol::gdw376::message::UnitError;
use crate::protocol::gdw376::plan::{self, Limits};
use crate::protocol::gdw376::{Dialect, MessageError, relay};
use crate::protocol::gdw376::{Mismatch, Said};
use proptest::prelude::*;

pub(crate) fn id(pn: u16, item: u8) -> Id {
    Id {
        pn: Pn::new(pn).unwrap(),
        item: Fn::new(item).unwrap(),
    }
}

pub(crate) fn terminal() -> Address {
    Address::new(0x4403, 4).with_msa(2)
}

fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 9).unwrap()
}

/// The answer of a terminal to a question: these units in one frame.
fn answer(request: &Request, units: &[(Id, Vec<u8>)]) -> Message {
    let mut body = Vec::new();
    for (id, data) in units {
        body.extend_from_slice(&UnitId::of(*id).wire());
        body.extend_from_slice(data);
    }
    Message {
        dialect: Dialect::Gdw376,
        control: Control::ANSWER,
        address: request.address(),
        afn: request.afn(),
        seq: Seq::single(request.number()),
        body,
        password: None,
        events: None,
        tag: None,
    }
}

fn confirmation(request: &Request, confirmation: &Confirmation) -> Message {
    confirmation.to(&request.message())
}

fn clock() -> Vec<u8> {
    crate::base::hex::decode("494811155215").unwrap()
}

/// A register of F129 with one tariff.
fn register(value: u8) -> Vec<u8> {
    vec![0x15, 0x07, 0x09, 0x03, 0x26, 1, 0, 0, value, 0, 0, 0, 0, value, 0, 0]
}

fn ask(pns: &[u16], item: u8) -> Request {
    let asks = pns.iter().map(|pn| Ask::plain(id(*pn, item)));
    Request::new(terminal(), Afn::REALTIME, asks).unwrap().numbered(3)
}

#[test]
fn an_answer_is_ours_by_its_head() {
    let request = Request::new(terminal(), Afn::REALTIME, [Ask::plain(id(0, 2))])
        .unwrap()
        .numbered(3);
    let good = answer(&request, &[(id(0, 2), clock())]);
    let said = request.answer(std::slice::from_ref(&good), Edition::E2013).unwrap();
    assert!(said.missing.is_empty() && said.units().count() == 1);
    let with = |change: &dyn std::ops::Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        request.answer(&[message], Edition::E2013).unwrap_err()
    };
    let other = Address::new(0x4403, 5).with_msa(2);
    assert_eq!(with(&|m| m.address = other), Mismatch::Terminal(other));
    assert_eq!(with(&|m| m.address = m.address.with_msa(9)), Mismatch::Master(9));
    assert_eq!(
        with(&|m| m.seq = Seq::single(4)),
        Mismatch::Sequence { asked: 3, found: 4 }
    );
    assert_eq!(with(&|m| m.control = Control::REPORT), Mismatch::Report);
    assert_eq!(with(&|m| m.control = Control::ASK_2), Mismatch::Direction);
    let function = Mismatch::Function {
        asked: Afn::REALTIME,
        found: Afn::HISTORY,
    };
    assert_eq!(with(&|m| m.afn = Afn::HISTORY), function);
    assert_eq!(request.answer(&[], Edition::E2013), Err(Mismatch::Nothing));
}

#[test]
fn other_points_than_asked_are_named_and_nothing_is_read() {
    let request = ask(&[1, 2, 3], 129);
    let foreign = answer(&request, &[(id(1, 129), register(1)), (id(4, 129), register(4))]);
    let error = request.answer(&[foreign], Edition::E2013).unwrap_err();
    assert_eq!(error, Mismatch::Unasked(vec![id(4, 129)]));
    assert_eq!(error.to_string(), "the answer is of F129 of p4 that nobody asked for");
    // the same item of the terminal itself, or another item of the same point
    for (wrong, data) in [(id(0, 129), register(1)), (id(1, 130), register(1)[..14].to_vec())] {
        let foreign = answer(&request, &[(wrong, data)]);
        assert_eq!(
            request.answer(&[foreign], Edition::E2013),
            Err(Mismatch::Unasked(vec![wrong]))
        );
    }
    let twice = answer(&request, &[(id(1, 129), register(1)), (id(1, 129), register(2))]);
    assert_eq!(
        request.answer(&[twice], Edition::E2013),
        Err(Mismatch::Twice(id(1, 129)))
    );
    // fewer points are an answer, and what is missing is said
    let fewer = answer(&request, &[(id(2, 129), register(1))]);
    let said = request.answer(&[fewer], Edition::E2013).unwrap();
    assert_eq!(said.missing, [id(1, 129), id(3, 129)]);
    // all points take every one, but not the terminal itself
    let everyone = Request::new(
        terminal(),
        Afn::REALTIME,
        [Ask::plain(Id {
            pn: Pn::ALL,
            item: Fn::of(129),
        })],
    )
    .unwrap();
    let said = answer(&everyone, &[(id(1, 129), register(1)), (id(77, 129), register(2))]);
    assert_eq!(everyone.answer(&[said], Edition::E2013).unwrap().units().count(), 2);
    let own = answer(&everyone, &[(id(0, 129), register(1))]);
    assert_eq!(
        everyone.answer(&[own], Edition::E2013),
        Err(Mismatch::Unasked(vec![id(0, 129)]))
    );
}

#[test]
fn another_day_than_asked_is_named() {
    let ask = Ask::of_day(id(7, 161), day()).unwrap();
    let request = Request::new(terminal(), Afn::HISTORY, [ask.clone()]).unwrap();
    let with_day = |day: &[u8]| [day, &register(1)].concat();
    let good = answer(&request, &[(id(7, 161), with_day(&ask.data))]);
    assert!(request.answer(&[good], Edition::E2013).is_ok());
    let other = answer(&request, &[(id(7, 161), with_day(&[0x08, 0x03, 0x26]))]);
    assert_eq!(
        request.answer(&[other], Edition::E2013),
        Err(Mismatch::Time(id(7, 161)))
    );
    // a curve may have fewer points, not more, and no other start
    let curve = [0x00, 0x00, 0x09, 0x03, 0x26, 0x01, 2];
    let request = Request::new(
        terminal(),
        Afn::HISTORY,
        [Ask {
            id: id(7, 89),
            data: curve.to_vec(),
        }],
    )
    .unwrap();
    for (points, start, fits) in [(2u8, 0x00, true), (1, 0x00, true), (3, 0x00, false), (2, 0x15, false)] {
        let mut data = curve.to_vec();
        (data[0], data[6]) = (start, points);
        data.extend_from_slice(&vec![0x22; usize::from(points) * 2]);
        let said = request.answer(&[answer(&request, &[(id(7, 89), data)])], Edition::E2013);
        assert_eq!(said.is_ok(), fits, "{points} points from minute {start:X}: {said:?}");
    }
}

#[test]
fn confirmations_are_told_apart() {
    let set = Request::new(
        terminal(),
        Afn::SET,
        [
            Ask {
                id: id(1, 25),
                data: vec![1; 11],
            },
            Ask {
                id: id(2, 25),
                data: vec![1; 11],
            },
        ],
    )
    .unwrap()
    .numbered(9);
    let judged = |said: &Confirmation| set.answer(&[confirmation(&set, said)], Edition::E2013);
    assert_eq!(judged(&Confirmation::All).unwrap().said, Said::Confirmed);
    assert_eq!(judged(&Confirmation::None).unwrap().said, Said::Denied);
    let each = |items: Vec<(Id, u8)>| Confirmation::Each { afn: Afn::SET, items };
    let both = judged(&each(vec![(id(1, 25), 0), (id(2, 25), 0)])).unwrap();
    assert_eq!(both.said, Said::Confirmed);
    let partly = judged(&each(vec![(id(1, 25), 0), (id(2, 25), 1)])).unwrap();
    let denied = Said::Partly {
        confirmed: vec![id(1, 25)],
        denied: vec![(id(2, 25), 1)],
    };
    assert_eq!((partly.said, partly.missing), (denied, vec![]));
    // an item that is not named was not confirmed
    let silent = judged(&each(vec![(id(1, 25), 0)])).unwrap();
    let kept = Said::Partly {
        confirmed: vec![id(1, 25)],
        denied: vec![],
    };
    assert_eq!((silent.said, silent.missing), (kept, vec![id(2, 25)]));
    assert_eq!(
        judged(&each(vec![(id(3, 25), 0)])),
        Err(Mismatch::Unasked(vec![id(3, 25)]))
    );
    assert_eq!(
        judged(&each(vec![(id(1, 25), 0), (id(1, 25), 1)])),
        Err(Mismatch::Twice(id(1, 25)))
    );
    let of_control = Confirmation::Each {
        afn: Afn::CONTROL,
        items: vec![(id(1, 25), 0)],
    };
    let function = Mismatch::Function {
        asked: Afn::SET,
        found: Afn::CONTROL,
    };
    assert_eq!(judged(&of_control), Err(function));
    // data are no answer to a command
    let mut data = answer(&set, &[(id(1, 25), vec![1; 11])]);
    data.afn = Afn::SET;
    assert!(matches!(
        set.answer(&[data], Edition::E2013),
        Err(Mismatch::Function { .. })
    ));
    // a denial of a read says that there are no data
    let read = ask(&[1], 129);
    let denied = read
        .answer(&[confirmation(&read, &Confirmation::None)], Edition::E2013)
        .unwrap();
    assert_eq!(denied.said, Said::Denied);
}

#[test]
fn what_stands_behind_an_unknown_item_is_not_read() {
    let asks = [Ask::plain(id(1, 5)), Ask::plain(id(1, 25))];
    let request = Request::new(terminal(), Afn::REALTIME, asks).unwrap();
    let mut message = answer(&request, &[(id(1, 5), vec![1, 2, 3])]);
    // alone it is bytes
    let said = request.answer(std::slice::from_ref(&message), Edition::E2013).unwrap();
    let unit = said.units().next().unwrap();
    assert_eq!((unit.data.as_slice(), &unit.reading), (&[1u8, 2, 3][..], &None));
    // with another one of its group it cannot be told where it ends
    message.body = [&[0x01, 0x01, 0x30, 0x00], &[1; 40][..]].concat();
    let error = request.answer(&[message], Edition::E2013).unwrap_err();
    assert_eq!(error, Mismatch::Units(UnitError::Unknown(id(1, 5))));
}

#[test]
fn bodies_that_lie_are_named() {
    let request = ask(&[1, 2], 129);
    let mut message = answer(&request, &[(id(1, 129), register(1))]);
    let whole = message.body.clone();
    for cut in 5..whole.len() {
        message.body = whole[..cut].to_vec();
        let error = request.answer(&[message.clone()], Edition::E2013).unwrap_err();
        assert!(
            matches!(error, Mismatch::Units(UnitError::Layout { .. })),
            "{cut}: {error}"
        );
    }
    message.body = [whole.as_slice(), &[1, 1]].concat();
    let error = request.answer(&[message.clone()], Edition::E2013).unwrap_err();
    assert!(matches!(error, Mismatch::Units(UnitError::Short(_))), "{error}");
    message.body = [whole.as_slice(), &[0, 1, 1, 0]].concat();
    let error = request.answer(&[message], Edition::E2013).unwrap_err();
    assert!(matches!(error, Mismatch::Units(UnitError::Id(_))), "{error}");
}

#[test]
fn a_relay_moves_by_the_relay_room_alone() {
    let commands = [(id(1, 1), vec![0]), (id(1, 2), vec![])];
    for (id, data) in commands {
        let refused = Request::new(terminal(), Afn::CONTROL, [Ask { id, data }]);
        assert_eq!(refused, Err(RequestError::Relay(id)));
    }
    let trip = relay::trip(terminal(), Pn::new(1).unwrap(), 2, 15, Password([7; 16]))
        .unwrap()
        .numbered(5);
    assert_eq!(
        crate::base::hex::encode(&trip.wire()),
        "687600760068 4A 0344040004 05 65 01010100 2F 07070707070707070707070707070707 A516".replace(' ', "")
    );
    let close = relay::allow_close(terminal(), Pn::new(1).unwrap(), Password::ZERO).unwrap();
    assert_eq!(close.message().body, [1, 1, 2, 0]);
    assert!(relay::trip(terminal(), Pn::TERMINAL, 16, 0, Password::ZERO).is_err());
    // frames that are nobody's, and a valve
    let passage = forward::Passage::CARRIER;
    let nonsense = forward::Question {
        passage,
        frame: vec![0x68, 0x16],
    };
    assert_eq!(Request::forward(terminal(), &nonsense), Err(RequestError::Unknown));
    assert_eq!(
        relay::forward(terminal(), &nonsense, Password::ZERO),
        Err(RequestError::Unknown)
    );
    let valve = crate::base::hex::decode("FEFEFEFE6810690590051533780404A01701555016").unwrap();
    let valve = forward::Question { passage, frame: valve };
    assert_eq!(
        Request::forward(terminal(), &valve),
        Err(RequestError::Relay(Id::terminal(Fn::F1)))
    );
    assert!(relay::forward(terminal(), &valve, Password::ZERO).is_ok());
    for item in [9, 10, 11] {
        let asks = [Ask {
            id: id(0, item),
            data: vec![0; 20],
        }];
        assert!(Request::new(terminal(), Afn::FORWARD, asks).is_err(), "F{item}");
    }
}

#[test]
fn questions_have_the_standards_form() {
    let wire = |request: Request| crate::base::hex::encode(&request.wire());
    let at = day().and_hms_opt(7, 15, 30).unwrap();
    // Monday, 9 March 2026
    let clock = Request::set_clock(terminal(), at).unwrap();
    assert_eq!(
        clock.message().body,
        [0, 0, 0x40, 3, 0x30, 0x15, 0x07, 0x09, 0x23, 0x26]
    );
    assert_eq!(clock.message().password, Some(Password::ZERO));
    let read = ask(&[2], 129).with_tag(TimeTag::new(7, at, 5).unwrap());
    assert_eq!(wire(read), "684A004A00684B03440400040CE302010110073015070905FE16");
    let events = Request::events(terminal(), true, 3, 9).unwrap();
    assert_eq!(events.message().body, [0, 0, 1, 0, 3, 9]);
    let archive = Request::read_archive(terminal(), &[1, 600]).unwrap();
    assert_eq!(archive.message().body, [0, 0, 2, 1, 2, 0, 1, 0, 0x58, 2]);
    assert_eq!(Request::new(terminal(), Afn::REALTIME, []), Err(RequestError::Empty));
    let twice = [
        Ask::of_day(id(1, 1), day()).unwrap(),
        Ask {
            id: id(1, 1),
            data: vec![1, 1, 1],
        },
    ];
    assert_eq!(
        Request::new(terminal(), Afn::HISTORY, twice),
        Err(RequestError::Twice(id(1, 1)))
    );
    let mixed = [
        Ask::plain(id(1, 129)),
        Ask::plain(Id {
            pn: Pn::ALL,
            item: Fn::of(129),
        }),
    ];
    assert_eq!(
        Request::new(terminal(), Afn::REALTIME, mixed),
        Err(RequestError::AllAndOne)
    );
    let long = Ask {
        id: id(0, 7),
        data: vec![0; DATA_MAX],
    };
    assert!(matches!(
        Request::new(terminal(), Afn::SET, [long]),
        Err(RequestError::Long(_))
    ));
    assert_eq!(format!("{:?}", Password([9; 16])), "Password(..)");
}

#[test]
fn the_archive_reads_and_writes() {
    let meter = ArchiveMeter {
        place: 7,
        point: 9,
        speed: 3,
        port: 31,
        protocol: archive::MeterProtocol::DLT645_2007,
        address: [0x61, 0x10, 0x01, 0x30, 0x12, 0x15],
        password: [1, 2, 3, 4, 5, 6],
        tariffs: 4,
        whole_digits: 6,
        decimals: 2,
        collector: [0; 6],
        class: (5, 2),
    };
    let data = archive::write(std::slice::from_ref(&meter)).unwrap();
    assert_eq!(
        crate::base::hex::encode(&data),
        "0100 0700 0900 7F 1E 611001301215 010203040506 04 09 000000000000 52".replace(' ', "")
    );
    assert_eq!(archive::read(&data), Ok(vec![meter.clone()]));
    assert_eq!(meter.address_text(), "151230011061");
    assert!(!format!("{meter:?}").contains("password"));
    assert!(archive::read(&data[..20]).is_err());
    assert_eq!(
        archive::read(&[data.as_slice(), &[0]].concat()),
        Err(archive::ArchiveError::Trailing(1))
    );
    let wrong = ArchiveMeter { port: 32, ..meter };
    let range = archive::ArchiveError::Range {
        place: 7,
        field: "port",
    };
    assert_eq!(archive::write(&[wrong]), Err(range));
    // a count that lies costs nothing
    assert!(archive::read(&[0xFF, 0xFF, 1]).is_err());
}

#[test]
fn auxiliary_fields_that_are_announced_and_missing_are_named() {
    let frame = Frame::new(Control(0xA8), terminal(), vec![0x0C, 0xE0, 1, 2, 3]).unwrap();
    assert_eq!(Message::of(&frame), Err(MessageError::Auxiliary { have: 3, need: 8 }));
}

/// Many points and items, of the present.
fn batch(points: u16, items: &[u8]) -> Vec<Ask> {
    let ids = (1..=points).flat_map(|pn| items.iter().map(move |item| id(pn, *item)));
    ids.map(Ask::plain).collect()
}

#[test]
fn five_hundred_meters_are_asked_with_the_fewest_questions() {
    // 31 bytes a register with four tariffs, an identifier for eight: 128 to 4096 bytes
    let questions = plan::questions(terminal(), Afn::REALTIME, batch(500, &[129]), Limits::default()).unwrap();
    assert_eq!(questions.len(), 4);
    // the least: each answer holds (4096 - 4 an eighth) / 31 of them
    let least = (500 * 31 + 63 * 4usize).div_ceil(4096);
    assert_eq!(questions.len(), least);
    let asked: Vec<Id> = questions
        .iter()
        .flat_map(|question| question.asks().map(|(id, _)| id))
        .collect();
    assert_eq!(asked.len(), 500);
    // registers and demands of one group of points share frames
    let two = plan::questions(
        terminal(),
        Afn::REALTIME,
        batch(16, &[129, 131, 145]),
        Limits::default(),
    )
    .unwrap();
    assert_eq!(two.len(), 1);
    assert_eq!(two[0].message().body.len(), 2 * 2 * 4);
}

proptest! {
    #[test]
    fn a_plan_asks_everything_once_and_within_its_limits(points in 1..200u16, items in prop::collection::btree_set(prop::sample::select(vec![2u8, 25, 33, 129, 130, 131, 145, 161, 170, 5]), 1..5), answer_max in 200usize..8000) {
        let items: Vec<u8> = items.into_iter().collect();
        let limits = Limits { answer_max, ..Limits::default() };
        let asks = batch(points, &items);
        let questions = plan::questions(terminal(), Afn::REALTIME, asks.clone(), limits).unwrap();
        let mut asked: Vec<Id> = questions.iter().flat_map(|question| question.asks().map(|(id, _)| id)).collect();
        asked.sort();
        let mut wanted: Vec<Id> = asks.into_iter().map(|ask| ask.id).collect();
        wanted.sort();
        prop_assert_eq!(asked, wanted);
        let len = |item: u8| super::super::items::layout(Afn::REALTIME, Fn::of(item), super::super::Way::Up, Edition::E2013).map_or(64, |layout| if layout.parts.is_some() { layout.size(4, 0) } else { 64 });
        let total: usize = items.iter().map(|item| len(*item)).sum::<usize>() * usize::from(points);
        let biggest = items.iter().map(|item| len(*item)).max().unwrap() + 4;
        // no two neighbours would have fitted into one: at most twice the least, and close to it where much fits into one
        let room = answer_max.saturating_sub(biggest).max(1);
        let most = (total + 4 * usize::from(points) * items.len()).div_ceil(room) + 1;
        prop_assert!(questions.len() <= most.max(usize::from(points) * items.len() / (answer_max / biggest).max(1) + 1), "{} questions, at most {most}", questions.len());
        for question in &questions {
            let size: usize = question.asks().map(|(id, _)| len(id.item.number())).sum();
            let single = question.asks().count() == 1;
            prop_assert!(single || size <= answer_max);
        }
    }

    #[test]
    fn an_answer_with_any_other_head_is_not_ours(seq in any::<u8>(), control in any::<u8>(), afn in 0..0x12u8, wire in any::<[u8; 5]>()) {
        let request = ask(&[1], 129);
        let mut message = answer(&request, &[(id(1, 129), register(1))]);
        (message.seq, message.control, message.afn) = (Seq(seq), Control(control), Afn(afn));
        message.address = Address::from_wire(wire);
        let ours = message.address.is_terminal_of(terminal());
        prop_assert!(ours || request.answer(&[message], Edition::E2013).is_err());
    }

    #[test]
    fn random_bodies_never_panic_and_never_answer_beside_the_question(body in prop::collection::vec(any::<u8>(), 0..300), afn in 0..0x12u8) {
        let request = ask(&[1, 2], 129);
        let mut message = answer(&request, &[]);
        (message.body, message.afn) = (body, Afn(afn));
        if let Ok(answer) = request.answer(&[message], Edition::E2013) {
            for unit in answer.units() {
                prop_assert!([id(1, 129), id(2, 129)].contains(&unit.id));
            }
        }
    }
}
