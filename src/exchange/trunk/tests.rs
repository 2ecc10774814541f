//! The trunk against a scripted terminal, in virtual time.

use super::*;
use crate::base::ids::{MeterId, PollId};
use crate::exchange::job::Effect;
use crate::exchange::visit::VisitOutcome;
use crate::protocol::gdw376::{ABSENT, Afn, Ask, Edition, Fn, Frame, Id, NO_TERMINAL, Pn, Request, Spoken, Terminal};
use crate::protocol::{self, gdw376};
use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

mod event_tests;
mod relay_tests;
mod value_tests;

struct Mute;

impl Spoken for Mute {
    fn forward(&mut self, _: u8, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn control(&mut self, _: Id, _: &[u8]) -> bool {
        true
    }
}

fn id(pn: u16, item: u8) -> Id {
    Id {
        pn: Pn::new(pn).unwrap(),
        item: Fn::new(item).unwrap(),
    }
}

/// F129 of a point: its number is its register.
fn energy(pn: u16) -> Vec<u8> {
    let digits = format!("{pn:010}");
    let mut bcd: Vec<u8> = (0..5)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    bcd.reverse();
    [&[0x15, 0x08, 0x21, 0x11, 0x26, 0x00][..], &bcd].concat()
}

fn address() -> Address {
    Address::new(0x4403, 4)
}

/// A terminal with F129 and F161 of these points.
fn terminal(points: impl IntoIterator<Item = u16>) -> Terminal {
    let mut terminal = Terminal::new(address(), Edition::E2013);
    for pn in points {
        terminal.put(Afn::REALTIME, id(pn, 129), &[], energy(pn));
    }
    terminal
}

fn start() -> Moment {
    Moment {
        at: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
        on: Instant::now(),
    }
}

fn later(now: Moment, by: Duration) -> Moment {
    Moment {
        at: now.at + TimeDelta::from_std(by).unwrap(),
        on: now.on + by,
    }
}

fn ask(pn: u16, item: u8) -> protocol::Request {
    protocol::Request::Gdw376(Request::new(NO_TERMINAL, Afn::REALTIME, [Ask::plain(id(pn, item))]).unwrap())
}

fn job(now: Moment, meter: i32, requests: Vec<protocol::Request>, priority: Priority) -> PollJob {
    PollJob {
        poll: PollId(1),
        meter: MeterId(meter),
        priority,
        instead: vec![Vec::new(); requests.len()],
        requests,
        attempts: 2,
        timeout: Duration::from_secs(10),
        byte_time: Duration::ZERO,
        pause: Duration::ZERO,
        evidence: false,
        deadline: now.on + Duration::from_secs(300),
        effect: None,
    }
}

fn trunk() -> Trunk {
    Trunk::new(TrunkSettings::default(), address())
}

/// What a trunk said.
#[derive(Default)]
struct Heard {
    written: Vec<Vec<u8>>,
    done: BTreeMap<Ticket, VisitOutcome>,
    strays: Vec<Stray>,
    reports: Vec<Vec<Message>>,
    dead: usize,
    frames: usize,
}

fn take(trunk: &mut Trunk, heard: &mut Heard) -> Vec<Vec<u8>> {
    let mut fresh = Vec::new();
    while let Some(event) = trunk.event() {
        match event {
            TrunkEvent::Write(wire) => fresh.push(wire),
            TrunkEvent::Done(settled) => {
                heard.frames += settled.frames.len();
                for (ticket, outcome) in settled.outcomes {
                    assert!(heard.done.insert(ticket, outcome).is_none(), "ended twice");
                }
            }
            TrunkEvent::Strayed(stray) => heard.strays.push(stray),
            TrunkEvent::Report(report) => heard.reports.push(report),
            TrunkEvent::Dead => heard.dead += 1,
            _ => {}
        }
    }
    heard.written.extend(fresh.iter().cloned());
    fresh
}

/// Runs until nothing is left, with a terminal that `answers` give the frames of.
fn play(trunk: &mut Trunk, mut now: Moment, mut answers: impl FnMut(&Message) -> Vec<Frame>) -> (Heard, Moment) {
    let mut heard = Heard::default();
    for _ in 0..10_000 {
        trunk.tick(now);
        let fresh = take(trunk, &mut heard);
        if fresh.is_empty() {
            match trunk.next_deadline() {
                Some(at) => now = later(now, at.saturating_duration_since(now.on)),
                None => return (heard, now),
            }
        }
        for wire in fresh {
            let message = Message::of(&Frame::parse(&wire).unwrap()).unwrap();
            for frame in answers(&message) {
                now = later(now, Duration::from_millis(200));
                trunk.feed(now, &frame.wire());
                assert!(take(trunk, &mut heard).is_empty());
            }
        }
    }
    panic!("it does not end");
}

/// The register that a report brings.
fn value(outcome: &VisitOutcome, place: usize, pn: u16) -> Result<u8, TransactionError> {
    let bytes = outcome.reports[place].result.clone()?;
    let message = Message::of(&Frame::parse(&bytes).unwrap()).unwrap();
    let protocol::Request::Gdw376(own) = ask(pn, 129) else {
        panic!()
    };
    let answer = own.answer(&[message], Edition::E2013).unwrap();
    let unit = answer.units().next().unwrap().clone();
    assert_eq!((unit.id, unit.data), (id(pn, 129), energy(pn)));
    Ok(1)
}

#[test]
fn points_that_are_due_together_share_frames() {
    let (mut trunk, now) = (trunk(), start());
    let mut terminal = terminal(1..=100);
    let tickets: Vec<Ticket> = (1..=100)
        .map(|pn| {
            let job = job(now, pn.into(), vec![ask(pn, 129)], Priority::Scheduled);
            trunk.submit(later(now, Duration::from_millis(pn.into())), job).unwrap()
        })
        .collect();
    let (heard, _) = play(&mut trunk, now, |message| terminal.answer(message, &mut Mute));
    for (pn, ticket) in (1..=100).zip(&tickets) {
        assert_eq!(value(&heard.done[ticket], 0, pn), Ok(1));
    }
    // 39 bytes a point by the standard's layout with four tariffs, 4 KiB an answer: all in one
    assert_eq!(heard.written.len(), 1);
    assert!(heard.strays.is_empty());
    assert_eq!(trunk.queued(), 0);
}

#[test]
fn who_waits_is_asked_at_once_and_before_others() {
    let (mut trunk, now) = (trunk(), start());
    let mut heard = Heard::default();
    for pn in 1..=3 {
        trunk
            .submit(now, job(now, pn.into(), vec![ask(pn, 129)], Priority::Scheduled))
            .unwrap();
    }
    trunk.tick(now);
    assert!(
        take(&mut trunk, &mut heard).is_empty(),
        "others of this instant may come"
    );
    trunk
        .submit(now, job(now, 9, vec![ask(9, 129)], Priority::OnDemand))
        .unwrap();
    trunk.tick(now);
    let fresh = take(&mut trunk, &mut heard);
    assert_eq!(fresh.len(), 1);
    let message = Message::of(&Frame::parse(&fresh[0]).unwrap()).unwrap();
    assert_eq!(message.first_id(), Some(id(9, 129)));
}

#[test]
fn the_denied_stand_alone_in_the_end() {
    let (mut trunk, now) = (trunk(), start());
    // a terminal that denies all for the sake of two
    let mut terminal = terminal((1..=40).filter(|pn| ![7, 33].contains(pn)));
    let tickets: Vec<Ticket> = (1..=40)
        .map(|pn| {
            trunk
                .submit(now, job(now, pn.into(), vec![ask(pn, 129)], Priority::Scheduled))
                .unwrap()
        })
        .collect();
    let (heard, _) = play(&mut trunk, now, |message| {
        let units = message.units(Edition::E2013).unwrap();
        let mut message = message.clone();
        if units.iter().any(|unit| [id(7, 129), id(33, 129)].contains(&unit.id)) {
            message.afn = Afn::REALTIME;
            message.body = gdw376_body(2000);
        }
        terminal.answer(&message, &mut Mute)
    });
    for (pn, ticket) in (1..=40).zip(&tickets) {
        let expected = match pn {
            7 | 33 => Err(TransactionError::Refused(DENIED)),
            _ => Ok(1),
        };
        assert_eq!(value(&heard.done[ticket], 0, pn), expected, "{pn}");
    }
    assert!(
        heard.written.len() <= 22,
        "halving finds two of forty: {}",
        heard.written.len()
    );
}

/// A question for a point that nobody has.
fn gdw376_body(pn: u16) -> Vec<u8> {
    gdw376::UnitId::of(id(pn, 129)).wire().to_vec()
}

#[test]
fn what_an_answer_lacks_is_named_and_the_rest_kept() {
    let (mut trunk, now) = (trunk(), start());
    let mut terminal = terminal([1, 2]);
    let requests = vec![ask(1, 129), ask(1, 25)];
    let one = trunk.submit(now, job(now, 1, requests, Priority::Scheduled)).unwrap();
    let absent = trunk
        .submit(now, job(now, 3, vec![ask(3, 129)], Priority::Scheduled))
        .unwrap();
    let (heard, _) = play(&mut trunk, now, |message| terminal.answer(message, &mut Mute));
    assert_eq!(value(&heard.done[&one], 0, 1), Ok(1));
    let refused = Err(TransactionError::Refused(ABSENT));
    assert_eq!(heard.done[&one].reports[1].result, refused);
    assert_eq!(heard.done[&absent].reports[0].result, refused);
    assert_eq!(heard.written.len(), 1);
}

#[test]
fn other_points_than_asked_are_never_values_and_spoil_nobody_else() {
    let (mut trunk, now) = (trunk(), start());
    let mut terminal = terminal(1..=20);
    let tickets: Vec<Ticket> = (1..=8)
        .map(|pn| {
            trunk
                .submit(now, job(now, pn.into(), vec![ask(pn, 129)], Priority::Scheduled))
                .unwrap()
        })
        .collect();
    // whenever it is asked for point 5 it speaks of point 15
    let (heard, _) = play(&mut trunk, now, |message| {
        let mut message = message.clone();
        let units = message.units(Edition::E2013).unwrap();
        let ids = units
            .iter()
            .map(|unit| if unit.id == id(5, 129) { id(15, 129) } else { unit.id });
        message.body = gdw376::UnitId::covering(ids)
            .into_iter()
            .flat_map(gdw376::UnitId::wire)
            .collect();
        terminal.answer(&message, &mut Mute)
    });
    for (pn, ticket) in (1..=8).zip(&tickets) {
        let expected = if pn == 5 { Err(TransactionError::Unfit) } else { Ok(1) };
        assert_eq!(value(&heard.done[ticket], 0, pn), expected, "{pn}");
    }
    assert!(!heard.strays.is_empty(), "named");
}

#[test]
fn an_answer_of_another_dialogue_is_a_stray() {
    let (mut trunk, now) = (trunk(), start());
    let mut terminal = terminal([1]);
    let ticket = trunk
        .submit(now, job(now, 1, vec![ask(1, 129)], Priority::OnDemand))
        .unwrap();
    let mut asked = 0;
    let (heard, _) = play(&mut trunk, now, |message| {
        asked += 1;
        let mut message = message.clone();
        if asked == 1 {
            message.seq = gdw376::Seq::single(message.seq.number() + 3);
        }
        terminal.answer(&message, &mut Mute)
    });
    assert_eq!(value(&heard.done[&ticket], 0, 1), Ok(1));
    assert_eq!(heard.done[&ticket].reports[0].attempts, 2);
    assert_eq!(heard.strays.len(), 1);
    assert_eq!(trunk.stats().strays, 1);
}

#[test]
fn silence_ends_every_visit_and_makes_questions_shorter() {
    let (mut trunk, now) = (trunk(), start());
    let tickets: Vec<Ticket> = (1..=300)
        .map(|pn| {
            trunk
                .submit(now, job(now, pn.into(), vec![ask(pn, 129)], Priority::Scheduled))
                .unwrap()
        })
        .collect();
    let (heard, _) = play(&mut trunk, now, |_| Vec::new());
    for ticket in &tickets {
        let result = &heard.done[ticket].reports[0].result;
        assert!(
            matches!(result, Err(TransactionError::Timeout | TransactionError::Deadline)),
            "{result:?}"
        );
    }
    assert!(trunk.answer_max < TrunkSettings::default().answer_max);
    let lengths: Vec<usize> = heard.written.iter().map(Vec::len).collect();
    assert!(lengths.last() < lengths.first());
    assert!(heard.dead <= 1);
}

#[test]
fn two_days_of_one_point_are_two_frames() {
    let (mut trunk, now) = (trunk(), start());
    let mut terminal = terminal([]);
    let days: Vec<chrono::NaiveDate> = (19..=20)
        .map(|day| chrono::NaiveDate::from_ymd_opt(2026, 11, day).unwrap())
        .collect();
    let tickets: Vec<Ticket> = days
        .iter()
        .map(|day| {
            let asked = Ask::of_day(id(3, 161), *day).unwrap();
            terminal.put(
                Afn::HISTORY,
                id(3, 161),
                &asked.data,
                [&asked.data[..], &energy(3)].concat(),
            );
            let request = Request::new(NO_TERMINAL, Afn::HISTORY, [asked]).unwrap();
            let requests = vec![protocol::Request::Gdw376(request)];
            trunk.submit(now, job(now, 3, requests, Priority::BackFill)).unwrap()
        })
        .collect();
    let (heard, _) = play(&mut trunk, now, |message| terminal.answer(message, &mut Mute));
    for (ticket, day) in tickets.iter().zip(&days) {
        let bytes = heard.done[ticket].reports[0].result.clone().unwrap();
        let stamp = Ask::of_day(id(3, 161), *day).unwrap().data;
        assert!(bytes.windows(3).any(|window| window == stamp));
    }
    assert_eq!(heard.written.len(), 2);
}

#[test]
fn the_end_of_the_session_ends_everything_once() {
    let (mut trunk, now) = (trunk(), start());
    let tickets: Vec<Ticket> = (1..=3)
        .map(|pn| {
            let priority = if pn == 1 {
                Priority::OnDemand
            } else {
                Priority::Scheduled
            };
            let requests = vec![ask(pn, 129), ask(pn, 25)];
            trunk.submit(now, job(now, pn.into(), requests, priority)).unwrap()
        })
        .collect();
    trunk.tick(now);
    trunk.end(now);
    let mut heard = Heard::default();
    take(&mut trunk, &mut heard);
    assert_eq!(heard.done.len(), tickets.len());
    for ticket in &tickets {
        let reports = &heard.done[ticket].reports;
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].result, Err(TransactionError::SessionLost));
    }
    assert!(heard.done[&tickets[0]].began_at.is_some());
    assert!(heard.done[&tickets[1]].began_at.is_none());
}

#[test]
fn what_changes_something_is_alone_and_written_once() {
    let (mut trunk, now) = (trunk(), start());
    let clock = Request::set_clock(NO_TERMINAL, now.at.naive_utc()).unwrap();
    let mut change = job(now, 1, vec![protocol::Request::Gdw376(clock)], Priority::Control);
    change.effect = Some(Effect::default());
    let silent = trunk.submit(now, change.clone()).unwrap();
    let (heard, now) = play(&mut trunk, now, |_| Vec::new());
    assert_eq!(heard.written.len(), 1);
    assert_eq!(heard.done[&silent].reports[0].result, Err(TransactionError::Timeout));
    change.deadline = now.on + Duration::from_secs(60);
    let done = trunk.submit(now, change.clone()).unwrap();
    let mut terminal = terminal([]);
    let (heard, now) = play(&mut trunk, now, |message| terminal.answer(message, &mut Mute));
    assert!(heard.done[&done].reports[0].result.is_ok());
    // revoked before it began: nothing is written
    change.effect.as_ref().unwrap().revoke();
    let revoked = trunk.submit(now, change).unwrap();
    let (heard, _) = play(&mut trunk, now, |_| Vec::new());
    assert!(heard.written.is_empty());
    assert_eq!(heard.done[&revoked].reports[0].result, Err(TransactionError::Deadline));
}

#[test]
fn a_report_is_told_once_and_confirmed_when_it_is_durable() {
    let (mut trunk, now) = (trunk(), start());
    let mut reporting = terminal([]);
    let mut report = reporting.say(gdw376::Link::Heartbeat);
    report.control = gdw376::Control::REPORT;
    report.afn = Afn::TASK;
    report.body = [gdw376_body(3), energy(3)].concat();
    let wire = report.frame().unwrap().wire();
    let mut heard = Heard::default();
    trunk.feed(now, &wire);
    trunk.feed(now, &wire);
    assert!(
        take(&mut trunk, &mut heard).is_empty(),
        "not confirmed before it is durable"
    );
    assert_eq!(heard.reports.len(), 1);
    trunk.confirm(now, &heard.reports[0].clone());
    assert_eq!(take(&mut trunk, &mut heard).len(), 1);
    // replayed: confirmed again, not told again
    trunk.feed(now, &wire);
    assert_eq!(take(&mut trunk, &mut heard).len(), 1);
    assert_eq!(heard.reports.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Whatever a terminal denies, leaves out, answers wrongly or not at all: every visit ends once, with one report a
    /// question or fewer, and no register but its own.
    #[test]
    fn every_visit_ends_with_its_own_values(
        points in prop::collection::btree_set(1u16..=300, 1..60),
        had in prop::collection::btree_set(1u16..=300, 0..200),
        moods in prop::collection::vec(0u8..8, 1..40),
    ) {
        let (mut trunk, now) = (trunk(), start());
        let mut terminal = terminal(had.iter().copied()).with_frames_of(200);
        let tickets: BTreeMap<u16, Ticket> = points
            .iter()
            .map(|pn| {
                let requests = vec![ask(*pn, 129), ask(*pn, 25)];
                (*pn, trunk.submit(now, job(now, (*pn).into(), requests, Priority::Scheduled)).unwrap())
            })
            .collect();
        let mut mood = moods.into_iter().cycle();
        let (heard, _) = play(&mut trunk, now, |message| {
            let mut frames = terminal.answer(message, &mut Mute);
            match mood.next().unwrap() {
                0 => frames.clear(),
                1 => frames.reverse(),
                2 => { frames.pop(); }
                3 => {
                    let mut other = message.clone();
                    other.body = gdw376_body(had.iter().next().copied().unwrap_or(1));
                    frames = terminal.answer(&other, &mut Mute);
                }
                _ => {}
            }
            frames
        });
        prop_assert_eq!(heard.done.len(), points.len());
        for (pn, ticket) in tickets {
            let outcome = &heard.done[&ticket];
            prop_assert!(outcome.reports.len() <= 2);
            if let Some(Ok(_)) = outcome.reports.first().map(|report| &report.result) {
                // asserts that it is this point's
                prop_assert_eq!(value(outcome, 0, pn), Ok(1));
                prop_assert!(had.contains(&pn));
            }
            let absent = outcome.reports.iter().filter(|report| report.result.is_ok()).count();
            prop_assert!(absent <= 1, "nobody has F25");
        }
        let unique: BTreeSet<_> = points.iter().collect();
        prop_assert_eq!(unique.len(), points.len());
        prop_assert_eq!(trunk.queued(), 0);
    }
}
