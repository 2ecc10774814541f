//! Conversations with a virtual concentrator over a link that loses, doubles and reorders, on a virtual clock.

use super::*;
use crate::base::hex::decode;
use crate::protocol::gdw376::{Address, Ask, Control, Fn, Id, Pn, Said, Seq, Spoken, Terminal, relay};
use crate::protocol::gdw376::{Dialect, Password};
use proptest::prelude::*;
use std::collections::BTreeMap;

struct Silent;

impl Spoken for Silent {
    fn forward(&mut self, _: u8, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn control(&mut self, _: Id, _: &[u8]) -> bool {
        true
    }
}

fn address() -> Address {
    Address::new(0x4403, 4).with_msa(2)
}

fn id(pn: u16) -> Id {
    Id {
        pn: Pn::new(pn).unwrap(),
        item: Fn::new(129).unwrap(),
    }
}

/// A register whose total is the point's number.
fn register(pn: u16) -> Vec<u8> {
    let low = u8::try_from(pn % 100).unwrap();
    let total = [0, 0, ((low / 10) << 4) | (low % 10), 0, 0];
    [&[0x15, 0x07, 0x09, 0x03, 0x26, 0][..], &total].concat()
}

fn terminal(frame_max: usize) -> Terminal {
    let mut terminal = Terminal::new(Address::new(0x4403, 4), Edition::E2013).with_frames_of(frame_max);
    for pn in 1..100 {
        terminal.put(Afn::REALTIME, id(pn), &[], register(pn));
    }
    terminal
}

fn read(pns: &[u16]) -> Request {
    Request::new(address(), Afn::REALTIME, pns.iter().map(|pn| Ask::plain(id(*pn)))).unwrap()
}

fn sent(events: &[DialogueEvent]) -> Vec<Vec<u8>> {
    let wires = events.iter().filter_map(|event| match event {
        DialogueEvent::Send(wire) => Some(wire.clone()),
        _ => None,
    });
    wires.collect()
}

/// What the terminal says to what was written.
fn replies(terminal: &mut Terminal, wire: &[u8]) -> Vec<Vec<u8>> {
    let message = Message::of(&Frame::parse(wire).unwrap()).unwrap();
    terminal.answer(&message, &mut Silent).iter().map(Frame::wire).collect()
}

fn only(events: Vec<DialogueEvent>) -> DialogueEvent {
    assert_eq!(events.len(), 1, "{events:?}");
    events.into_iter().next().unwrap()
}

fn settings() -> DialogueSettings {
    DialogueSettings {
        under_way: 4,
        ..DialogueSettings::default()
    }
}

#[test]
fn several_questions_are_under_way_and_answers_may_cross() {
    let now = Instant::now();
    let (mut dialogue, mut terminal) = (Dialogue::new(settings()), terminal(1000));
    let mut asked = BTreeMap::new();
    let mut wires = Vec::new();
    for pn in 1..=6u16 {
        let (ticket, events) = dialogue.ask(now, read(&[pn])).unwrap();
        asked.insert(ticket, pn);
        wires.extend(sent(&events));
    }
    // two wait
    assert_eq!((wires.len(), dialogue.load()), (4, 6));
    let mut done = BTreeMap::new();
    while let Some(wire) = wires.pop() {
        for frame in replies(&mut terminal, &wire) {
            for event in dialogue.feed(now, &frame) {
                match event {
                    DialogueEvent::Answered { ticket, answer } => {
                        done.insert(ticket, answer.units().next().unwrap().id);
                    }
                    DialogueEvent::Send(wire) => wires.push(wire),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(done, asked.into_iter().map(|(ticket, pn)| (ticket, id(pn))).collect());
    assert_eq!((dialogue.load(), dialogue.next_deadline()), (0, None));
}

#[test]
fn what_reads_is_asked_again_and_what_changes_something_is_not() {
    let now = Instant::now();
    let mut dialogue = Dialogue::new(settings());
    let (_, events) = dialogue.ask(now, read(&[1])).unwrap();
    let first = sent(&events);
    let trip = relay::trip(address(), Pn::new(1).unwrap(), 0, 0, Password::ZERO).unwrap();
    let (relay, _) = dialogue.ask(now, trip).unwrap();
    assert!(dialogue.tick(now + Duration::from_secs(29)).is_empty());
    let events = dialogue.tick(now + Duration::from_secs(30));
    assert_eq!(sent(&events), first);
    let unknown = DialogueEvent::Failed {
        ticket: relay,
        error: DialogueError::Unknown,
    };
    assert!(events.contains(&unknown), "{events:?}");
    assert_eq!(sent(&dialogue.tick(now + Duration::from_secs(60))), first);
    let events = dialogue.tick(now + Duration::from_secs(90));
    assert!(matches!(
        only(events),
        DialogueEvent::Failed {
            error: DialogueError::Silence { attempts: 3 },
            ..
        }
    ));
    // its answer comes too late: nobody's
    let late = replies(&mut terminal(1000), &first[0]);
    assert!(matches!(
        only(dialogue.feed(now, &late[0])),
        DialogueEvent::Stray(Stray::Nobody(1))
    ));
}

#[test]
fn an_answer_of_other_points_is_a_stray_and_the_right_one_still_counts() {
    let now = Instant::now();
    let mut dialogue = Dialogue::new(settings());
    let (ticket, events) = dialogue.ask(now, read(&[1])).unwrap();
    let number = Message::of(&Frame::parse(&sent(&events)[0]).unwrap())
        .unwrap()
        .seq
        .number();
    let other = replies(&mut terminal(1000), &read(&[2]).numbered(number).wire());
    let stray = only(dialogue.feed(now, &other[0]));
    assert_eq!(
        stray,
        DialogueEvent::Stray(Stray::Mismatch(Mismatch::Unasked(vec![id(2)])))
    );
    let right = replies(&mut terminal(1000), &sent(&events)[0]);
    assert!(
        matches!(only(dialogue.feed(now, &right[0])), DialogueEvent::Answered { ticket: its, .. } if its == ticket)
    );
    // and again: nobody's
    assert!(matches!(
        only(dialogue.feed(now, &right[0])),
        DialogueEvent::Stray(Stray::Nobody(_))
    ));
    assert!(matches!(
        only(dialogue.feed(now, &right[0][..9])),
        DialogueEvent::Stray(Stray::Frame(_))
    ));
    // when nothing else comes, the reason is told
    let (_, events) = dialogue.ask(now, read(&[1])).unwrap();
    let number = Message::of(&Frame::parse(&sent(&events)[0]).unwrap())
        .unwrap()
        .seq
        .number();
    dialogue.feed(
        now,
        &replies(&mut terminal(1000), &read(&[2]).numbered(number).wire())[0],
    );
    let mut last = Vec::new();
    for attempt in 1..=3 {
        last = dialogue.tick(now + Duration::from_secs(30 * attempt));
    }
    let error = DialogueError::Unfit {
        attempts: 3,
        last: Mismatch::Unasked(vec![id(2)]),
    };
    assert!(matches!(only(last), DialogueEvent::Failed { error: why, .. } if why == error));
}

fn report(number: u8) -> Message {
    Message {
        dialect: Dialect::Gdw376,
        control: Control::REPORT,
        address: Address::new(0x4403, 4),
        afn: Afn::REALTIME,
        seq: Seq::single(number).to_confirm(),
        body: [&[1, 1, 1, 0x10][..], &register(1)].concat(),
        password: None,
        events: None,
        tag: None,
    }
}

#[test]
fn a_report_is_told_once_and_confirmed_when_it_is_durable() {
    let now = Instant::now();
    let mut dialogue = Dialogue::new(settings());
    let wire = report(3).frame().unwrap().wire();
    let DialogueEvent::Report(told) = only(dialogue.feed(now, &wire)) else {
        panic!()
    };
    // repeated before it is durable: neither told nor confirmed
    assert!(dialogue.feed(now, &wire).is_empty());
    let confirmed = dialogue.confirm(&told).unwrap();
    assert_eq!(confirmed, decode("683200320068000344040000006300000100AF16").unwrap());
    // the confirmation was lost: again, and not told again
    assert_eq!(
        dialogue.feed(now, &wire),
        [DialogueEvent::Replay, DialogueEvent::Send(confirmed)]
    );
    // another number is another report; one that could not be kept is told again
    let next = report(4).frame().unwrap().wire();
    let DialogueEvent::Report(told) = only(dialogue.feed(now, &next)) else {
        panic!()
    };
    dialogue.lost(&told);
    assert!(matches!(only(dialogue.feed(now, &next)), DialogueEvent::Report(_)));
}

#[test]
fn counters_of_events_tell_what_is_new_and_what_is_a_jump() {
    let now = Instant::now();
    let mut dialogue = Dialogue::new(settings());
    let mut heard = |number: u8, important: u8| {
        let mut message = report(number);
        message.control = message.control.with_events();
        message.events = Some(EventCounters { important, ordinary: 0 });
        let events = dialogue.feed(now, &message.frame().unwrap().wire());
        events.into_iter().find_map(|event| match event {
            DialogueEvent::Events { important, .. } => Some(important),
            _ => None,
        })
    };
    assert_eq!(heard(1, 7), None);
    assert_eq!(heard(2, 9), Some(Advance::By(2)));
    assert_eq!(heard(3, 9), None);
    assert_eq!(heard(4, 1), Some(Advance::Jump { before: 9, after: 1 }));
}

#[test]
fn bounds_and_the_end() {
    let now = Instant::now();
    let settings = DialogueSettings {
        under_way: 1,
        waiting: 2,
        ..DialogueSettings::default()
    };
    let mut dialogue = Dialogue::new(settings);
    for pn in 1..=3 {
        dialogue.ask(now, read(&[pn])).unwrap();
    }
    assert_eq!(dialogue.ask(now, read(&[4])), Err(Full(2)));
    let ended = dialogue.end();
    assert_eq!(ended.len(), 3);
    assert!(ended.iter().all(|event| matches!(
        event,
        DialogueEvent::Failed {
            error: DialogueError::Silence { .. },
            ..
        }
    )));
    assert_eq!(dialogue.load(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Every question ends once, and what is answered is what was asked, whatever the link does.
    #[test]
    fn every_question_ends_once_and_with_its_own_points(
        asks in prop::collection::vec(prop::collection::btree_set(1..100u16, 1..12), 1..20),
        frame_max in 40usize..400,
        chances in prop::collection::vec(0..10u8, 64),
    ) {
        let mut now = Instant::now();
        let (mut dialogue, mut terminal) = (Dialogue::new(settings()), terminal(frame_max));
        let mut chance = chances.iter().copied().cycle();
        let mut asked = BTreeMap::new();
        let mut ended = BTreeMap::new();
        let mut wires: VecDeque<Vec<u8>> = VecDeque::new();
        let mut air: VecDeque<Vec<u8>> = VecDeque::new();
        let mut todo: VecDeque<_> = asks.into_iter().collect();
        for _ in 0..4000 {
            let mut events = Vec::new();
            if let Some(points) = todo.pop_front() {
                let request = read(&points.iter().copied().collect::<Vec<_>>());
                let (ticket, more) = dialogue.ask(now, request).unwrap();
                asked.insert(ticket, points);
                events.extend(more);
            }
            if let Some(wire) = wires.pop_front() {
                // one in ten is lost on its way
                if chance.next() != Some(0) {
                    air.extend(replies(&mut terminal, &wire));
                }
            } else if let Some(frame) = air.pop_front() {
                match chance.next() {
                    Some(0) => {}
                    Some(1) => {
                        events.extend(dialogue.feed(now, &frame));
                        events.extend(dialogue.feed(now, &frame));
                    }
                    Some(2) => air.push_back(frame),
                    _ => events.extend(dialogue.feed(now, &frame)),
                }
            } else if let Some(deadline) = dialogue.next_deadline() {
                now = now.max(deadline);
                events.extend(dialogue.tick(now));
            } else if todo.is_empty() {
                break;
            }
            for event in events {
                match event {
                    DialogueEvent::Send(wire) => wires.push_back(wire),
                    DialogueEvent::Answered { ticket, answer } => {
                        let points = &asked[&ticket];
                        prop_assert!(answer.missing.is_empty());
                        let Said::Data(units) = answer.said else { panic!() };
                        for unit in &units {
                            let pn = unit.id.pn.number().unwrap();
                            prop_assert!(points.contains(&pn));
                            prop_assert_eq!(&unit.data, &register(pn));
                        }
                        prop_assert_eq!(units.len(), points.len());
                        prop_assert!(ended.insert(ticket, true).is_none());
                    }
                    DialogueEvent::Failed { ticket, .. } => prop_assert!(ended.insert(ticket, false).is_none()),
                    DialogueEvent::Stray(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        prop_assert_eq!(ended.len(), asked.len());
        prop_assert_eq!(dialogue.load(), 0);
    }

    #[test]
    fn random_frames_are_survived(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..30)) {
        let now = Instant::now();
        let mut dialogue = Dialogue::new(settings());
        dialogue.ask(now, read(&[1, 2])).unwrap();
        for data in frames {
            let control = Control(data.first().copied().unwrap_or_default());
            if let Some(frame) = Frame::new(control, Address::new(0x4403, 4).with_msa(2), data) {
                dialogue.feed(now, &frame.wire());
            }
        }
        prop_assert!(dialogue.load() <= 1);
    }
}
