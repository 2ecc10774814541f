//! Records of events: whatever is lost on the way to a terminal or to the disk, each is kept in the end, and a report is confirmed
//! only behind that.

use super::*;
use crate::protocol::gdw376::event::{self, Events, Record};
use std::cell::Cell;

/// A terminal, a trunk to it, and what was kept.
struct Field {
    trunk: Trunk,
    terminal: Terminal,
    now: Moment,
    kept: BTreeSet<(bool, Vec<u8>)>,
    told: usize,
    confirmed: usize,
    asked: usize,
    unread: usize,
    /// How many records the terminal says at once.
    at_once: u8,
    /// What it says instead of a list.
    instead: Option<Vec<u8>>,
}

fn record(number: u8) -> Record {
    Record {
        code: 14,
        data: vec![number, 0, 1, 2, 3, 4],
    }
}

impl Field {
    fn new() -> Self {
        let mut trunk = trunk();
        trunk.keep_events();
        Self {
            trunk,
            terminal: terminal(1..=5),
            now: start(),
            kept: BTreeSet::new(),
            told: 0,
            confirmed: 0,
            asked: 0,
            unread: 0,
            at_once: u8::MAX,
            instead: None,
        }
    }

    /// Runs until nothing is left to do, or so long.
    fn run(&mut self, longest: Duration, arrives: impl std::ops::Fn() -> bool, durable: impl std::ops::Fn() -> bool) {
        let end = self.now.on + longest;
        while self.now.on < end {
            self.trunk.tick(self.now);
            let mut idle = true;
            while let Some(event) = self.trunk.event() {
                match event {
                    TrunkEvent::Write(wire) => {
                        idle = false;
                        self.hear(&wire, &arrives);
                    }
                    TrunkEvent::Recorded(recorded) => {
                        idle = false;
                        self.told += 1;
                        if durable() {
                            let records = recorded.records.iter();
                            self.kept
                                .extend(records.map(|(important, record)| (*important, record.data.clone())));
                            self.trunk.kept(self.now, &recorded);
                        } else {
                            self.trunk.not_kept(self.now, &recorded);
                        }
                    }
                    TrunkEvent::Unread(_) => self.unread += 1,
                    _ => {}
                }
            }
            if idle {
                match self.trunk.next_deadline() {
                    Some(at) => self.now = later(self.now, at.saturating_duration_since(self.now.on)),
                    None => return,
                }
            }
        }
    }

    fn hear(&mut self, wire: &[u8], arrives: &impl std::ops::Fn() -> bool) {
        let mut message = Message::of(&Frame::parse(wire).unwrap()).unwrap();
        if message.afn == Afn::CONFIRM {
            self.confirmed += 1;
            return;
        }
        self.asked += usize::from(message.afn == Afn::EVENTS);
        if !arrives() {
            return;
        }
        if message.afn == Afn::EVENTS {
            let [.., from, to] = message.body.as_mut_slice() else {
                panic!()
            };
            *to = from.wrapping_add(to.wrapping_sub(*from).min(self.at_once));
        }
        for mut frame in self.terminal.answer(&message, &mut Mute) {
            if let Some(instead) = self.instead.as_ref().filter(|_| message.afn == Afn::EVENTS) {
                let mut answer = Message::of(&frame).unwrap();
                answer.body.truncate(4);
                answer.body.extend_from_slice(instead);
                frame = answer.frame().unwrap();
            }
            self.now = later(self.now, Duration::from_millis(50));
            self.trunk.feed(self.now, &frame.wire());
        }
    }

    /// A visit, in whose answer the counters are seen.
    fn visit(&mut self) {
        let job = job(self.now, 1, vec![ask(1, 129)], Priority::OnDemand);
        self.trunk.submit(self.now, job).unwrap();
    }

    fn report(&mut self, important: bool, from: u8, records: Vec<Record>) -> Vec<u8> {
        let mut report = self.terminal.say(gdw376::Link::Heartbeat);
        report.control = gdw376::Control::REPORT;
        report.afn = Afn::EVENTS;
        let to = from + u8::try_from(records.len()).unwrap();
        let counters = if important { (to, 0) } else { (0, to) };
        let events = Events {
            counters,
            from,
            to,
            records,
        };
        let item = if important { Fn::F1 } else { Fn::F2 };
        let unit = gdw376::UnitId::of(Id::terminal(item));
        report.body = [&unit.wire()[..], &event::write(&events).unwrap()].concat();
        report.frame().unwrap().wire()
    }
}

#[test]
fn events_that_the_counters_tell_of_are_asked_for_once() {
    let mut field = Field::new();
    (0..40).for_each(|number| field.terminal.happen(true, record(number)));
    field.terminal.happen(false, record(200));
    field.visit();
    field.run(Duration::from_secs(600), || true, || true);
    // of one that nobody knows the latest 32, in one question, and one for the ordinary ones
    let expected = (8..40)
        .map(|number| (true, record(number).data))
        .chain([(false, record(200).data)]);
    assert_eq!(field.kept, expected.collect());
    assert_eq!((field.asked, field.told), (2, 2));
    // nothing new: nothing is asked
    field.visit();
    field.run(Duration::from_secs(600), || true, || true);
    assert_eq!(field.asked, 2);
    // a terminal of nobody is not asked at all
    let mut stranger = Field::new();
    stranger.trunk = trunk();
    stranger.terminal.happen(true, record(1));
    stranger.visit();
    stranger.run(Duration::from_secs(600), || true, || true);
    assert_eq!((stranger.asked, stranger.told), (0, 0));
    // a jump within the range: every one of them
    (40..110).for_each(|number| field.terminal.happen(true, record(number)));
    field.visit();
    field.run(Duration::from_secs(600), || true, || true);
    assert!((8..110).all(|number| field.kept.contains(&(true, record(number).data))));
    assert_eq!(field.asked, 5);
}

#[test]
fn what_an_answer_leaves_out_of_the_span_is_asked_for() {
    let mut field = Field::new();
    field.at_once = 5;
    (0..23).for_each(|number| field.terminal.happen(true, record(number)));
    field.visit();
    field.run(Duration::from_secs(600), || true, || true);
    assert_eq!(field.kept, (0..23).map(|number| (true, record(number).data)).collect());
    assert_eq!((field.asked, field.unread), (5, 0));
    // one that says nothing of the span ends it: it is not asked for ever
    field.at_once = 0;
    (23..30).for_each(|number| field.terminal.happen(true, record(number)));
    field.visit();
    field.run(Duration::from_secs(600), || true, || true);
    assert_eq!((field.asked, field.kept.len()), (6, 23));
}

#[test]
fn an_answer_that_cannot_be_read_is_told_and_not_asked_for_again() {
    let mut field = Field::new();
    (0..3).for_each(|number| field.terminal.happen(true, record(number)));
    // counters, pointers that promise three, and one
    field.instead = Some(vec![3, 0, 0, 3, 14, 2, 0, 0]);
    field.visit();
    field.run(Duration::from_secs(600), || true, || true);
    assert_eq!((field.asked, field.unread, field.kept.len()), (1, 1, 0));
    // from elsewhere
    field.terminal.happen(true, record(3));
    field.instead = Some(vec![4, 0, 9, 10, 14, 2, 0, 0]);
    field.visit();
    field.run(Duration::from_secs(600), || true, || true);
    assert_eq!((field.asked, field.unread, field.kept.len()), (2, 2, 0));
    // what comes behind is asked for
    field.terminal.happen(true, record(4));
    field.instead = None;
    field.visit();
    field.run(Duration::from_secs(600), || true, || true);
    assert_eq!(field.kept, BTreeSet::from([(true, record(4).data)]));
}

#[test]
fn a_report_is_confirmed_when_its_records_are_kept_and_not_before() {
    let mut field = Field::new();
    let wire = field.report(true, 0, vec![record(1), record(2)]);
    field.trunk.feed(field.now, &wire);
    field.run(Duration::from_secs(30), || true, || false);
    assert_eq!((field.told, field.confirmed, field.kept.len()), (1, 0, 0));
    // the terminal repeats it: told anew, kept, confirmed
    field.trunk.feed(field.now, &wire);
    field.run(Duration::from_secs(30), || true, || true);
    assert_eq!((field.told, field.confirmed, field.kept.len()), (2, 1, 2));
    // once more, because the confirmation was lost: confirmed again and not told again
    field.trunk.feed(field.now, &wire);
    field.run(Duration::from_secs(30), || true, || true);
    assert_eq!((field.told, field.confirmed, field.kept.len()), (2, 2, 2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Questions and answers are lost, the disk is away, events come in storms: in the end every record is kept, and no other.
    #[test]
    fn every_event_is_kept_in_the_end(
        storms in prop::collection::vec((0u8..12, any::<bool>(), 0u8..4), 1..8),
        arrivals in prop::collection::vec(any::<bool>(), 1..20),
        disks in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let mut field = Field::new();
        field.terminal.happen(true, record(0));
        let (arrival, disk) = (Cell::new(0), Cell::new(0));
        let next = |moods: &[bool], at: &Cell<usize>| {
            at.set(at.get() + 1);
            moods[at.get() % moods.len()]
        };
        let mut happened = BTreeSet::from([(true, record(0).data)]);
        let mut number = 0;
        for (events, important, visits) in storms {
            for _ in 0..events {
                number += 1;
                field.terminal.happen(important, record(number));
                happened.insert((important, record(number).data));
            }
            for _ in 0..visits {
                field.visit();
                field.run(Duration::from_secs(200), || next(&arrivals, &arrival), || next(&disks, &disk));
            }
            prop_assert!(field.kept.is_subset(&happened));
            // what nobody has seen is no more than what is read back of an unknown terminal
            if number > 20 { break; }
        }
        for _ in 0..3 {
            field.visit();
            field.run(Duration::from_secs(2000), || true, || true);
        }
        prop_assert_eq!(field.kept, happened);
    }
}
