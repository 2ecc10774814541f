//! Lines on which several protocols are spoken: answers in several frames, questions without an answer, preambles against
//! heartbeats of the same byte, and frames of one protocol that come late into another's turn.

#![allow(
    unreachable_patterns,
    reason = "a protocol that is new to the line must not break these tests"
)]

use super::tests::{Time, ask, done, job, kinds, line, only, read, reply};
use super::*;
use crate::exchange::job::{Priority, TransactionError, byte_time};
use crate::protocol::Request;
use crate::protocol::dlt645::{self, Address, Body, Control, Di, Edition, Reply, answer_frame};
use crate::protocol::{cjt188, mbus, modbus};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashMap};

fn meter(number: u64) -> Address {
    Address::parse(&format!("{number:012}")).unwrap()
}

fn energy(number: u64) -> dlt645::Request {
    dlt645::Request::read(meter(number), Di::parse("00010000").unwrap())
}

fn says(request: &dlt645::Request, preambles: usize, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xFE; preambles];
    frame.extend(request.reply_frame(request.address(), &Reply::Data(data.to_vec())));
    frame
}

/// An answer that says that more follows.
fn says_more(request: &dlt645::Request, data: &[u8]) -> Vec<u8> {
    let whole = request.reply_frame(request.address(), &Reply::Data(data.to_vec()));
    let view = dlt645::open(&whole).unwrap();
    answer_frame(view.address, Control(view.control.0 | 0x20), 0, &view.data())
}

fn following(request: &dlt645::Request, seq: u8) -> dlt645::Request {
    let Some(di) = request.di() else {
        panic!("no identifier")
    };
    dlt645::Request::checked(Edition::E2007, request.address(), Body::Follow { di, seq }).unwrap()
}

#[test]
fn what_comes_in_several_frames_is_asked_for_until_it_is_whole() {
    let mut time = Time::new();
    let mut line = line(&time);
    let question = energy(7);
    let next = read(1, 0);
    let requests = vec![Request::Dlt645(question.clone()), Request::Dlt645(energy(8))];
    line.submit(time.moment(), job(&time, 1, 1, Priority::Scheduled, requests))
        .unwrap();
    assert_eq!(ask(&mut line, &time), question.wire());
    let mut answers = says_more(&question, &[1; 50]);
    line.feed(time.pass(50), &answers, &[]);
    // not even control gets in between
    line.submit(time.moment(), job(&time, 2, 2, Priority::Control, vec![next.clone()]))
        .unwrap();
    let follow = following(&question, 1);
    assert_eq!(ask(&mut line, &time), follow.wire());
    // the follow-up has its own attempts
    line.tick(time.pass(2_500));
    line.tick(time.pass(100));
    assert_eq!(ask(&mut line, &time), follow.wire());
    let rest = says(&follow, 4, &[2; 10]);
    line.feed(time.pass(50), &rest, &[]);
    answers.extend(rest);
    line.tick(time.pass(100));
    assert_eq!(
        ask(&mut line, &time),
        next.wire(),
        "control comes before the rest of the visit"
    );
    line.feed(time.pass(50), reply(&next, &[1, 2]), &[]);
    ask(&mut line, &time);
    line.feed(time.pass(50), says(&energy(8), 0, &[5; 4]), &[]);
    let outcomes = done(&mut line);
    let (_, outcome) = outcomes.iter().find(|(ticket, _)| *ticket == Ticket(1)).unwrap();
    assert_eq!(
        outcome.reports[0].result.as_ref(),
        Ok(&answers),
        "all frames, one behind the other"
    );
    assert_eq!(outcome.reports[0].attempts, 2);
    assert_eq!(
        question.reply(&answers),
        Ok(Reply::Data([vec![1; 50], vec![2; 10]].concat()))
    );
    assert_eq!(outcome.reports[1].result, Ok(says(&energy(8), 0, &[5; 4])));
}

#[test]
fn a_follow_up_that_fails_fails_the_question_and_one_without_end_is_ended() {
    let mut time = Time::new();
    let mut line = line(&time);
    let question = energy(7);
    let mut asked = job(
        &time,
        1,
        1,
        Priority::Scheduled,
        vec![Request::Dlt645(question.clone()), Request::Dlt645(energy(8))],
    );
    asked.attempts = 1;
    line.submit(time.moment(), asked).unwrap();
    ask(&mut line, &time);
    line.feed(time.pass(50), says_more(&question, &[1; 50]), &[]);
    ask(&mut line, &time);
    line.tick(time.pass(3_000));
    line.tick(time.pass(100));
    // the meter had answered: it is asked the rest
    assert_eq!(ask(&mut line, &time), energy(8).wire());
    line.feed(time.pass(50), says(&energy(8), 0, &[5; 4]), &[]);
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports[0].result, Err(TransactionError::Timeout));
    assert!(outcome.reports[1].result.is_ok());

    let mut time = Time::new();
    let settings = LineSettings {
        answer: crate::exchange::visit::AnswerBounds {
            follow_ups: 5,
            bytes: 32 * 1024,
        },
        ..LineSettings::default()
    };
    let mut line = Line::new(settings, time.moment());
    let asked = job(
        &time,
        1,
        1,
        Priority::Scheduled,
        vec![Request::Dlt645(question.clone())],
    );
    line.submit(time.moment(), asked).unwrap();
    let mut asks = 0;
    while line.queued() > 0 {
        let wire = ask(&mut line, &time);
        let present = if asks == 0 {
            question.clone()
        } else {
            following(&question, asks)
        };
        assert_eq!(wire, present.wire());
        asks += 1;
        let mut value = vec![3; 20];
        if asks > 1 {
            value.push(asks - 1);
        }
        line.feed(time.pass(50), says_more(&present, &value), &[]);
    }
    assert_eq!(asks, 6);
    assert_eq!(only(done(&mut line)).reports[0].result, Err(TransactionError::Endless));
}

#[test]
fn what_is_asked_instead_of_a_refused_block_comes_behind_the_rest_of_the_visit() {
    let mut time = Time::new();
    let mut line = line(&time);
    let read = |di: &str| dlt645::Request::read(meter(7), Di::parse(di).unwrap());
    let (block, other) = (read("0201FF00"), read("00010000"));
    let singles = [read("02010100"), read("02010200")];
    let requests = vec![Request::Dlt645(block.clone()), Request::Dlt645(other.clone())];
    let mut asked = job(&time, 1, 1, Priority::Scheduled, requests);
    asked.instead = vec![singles.iter().cloned().map(Request::Dlt645).collect(), Vec::new()];
    line.submit(time.moment(), asked).unwrap();
    assert_eq!(ask(&mut line, &time), block.wire());
    line.feed(time.pass(50), block.refusal_frame(meter(7), 2), &[]);
    for request in [&other, &singles[0], &singles[1]] {
        assert_eq!(ask(&mut line, &time), request.wire());
        line.feed(time.pass(50), says(request, 0, &[1, 2]), &[]);
    }
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports.len(), 4);
    assert_eq!(outcome.reports[0].result, Err(TransactionError::Refused(2)));
    assert!(outcome.reports[1..].iter().all(|report| report.result.is_ok()));
}

#[test]
fn a_broadcast_is_done_when_its_bytes_are_out() {
    let mut time = Time::new();
    let mut line = line(&time);
    let clock = chrono::NaiveDate::from_ymd_opt(2026, 11, 21)
        .unwrap()
        .and_hms_opt(10, 0, 0)
        .unwrap();
    let all = Address::parse("999999999999").unwrap();
    let broadcast = dlt645::Request::checked(Edition::E2007, all, Body::BroadcastTime(clock)).unwrap();
    let requests = vec![Request::Dlt645(broadcast.clone()), Request::Dlt645(energy(7))];
    let mut asked = job(&time, 1, 1, Priority::Scheduled, requests);
    asked.byte_time = byte_time(2_400, true, 1);
    line.submit(time.moment(), asked).unwrap();
    let wire = ask(&mut line, &time);
    assert_eq!(wire, broadcast.wire());
    let due = line.next_deadline(time.moment()).unwrap() - time.moment().on;
    assert_eq!(due, byte_time(2_400, true, 1) * u32::try_from(wire.len()).unwrap());
    line.tick(time.pass(60));
    assert!(!line.wants_to_ask(time.moment()), "it is still on the wire");
    line.tick(time.pass(u64::try_from(due.as_millis()).unwrap() - 59));
    assert_eq!(ask(&mut line, &time), energy(7).wire());
    line.feed(time.pass(200), says(&energy(7), 4, &[5; 4]), &[]);
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports[0].result, Ok(Vec::new()));
    assert!(outcome.reports[1].result.is_ok());
    assert_eq!(line.stats().timeouts, 0);
}

/// FE wakes a line up, and is the heartbeat of a maker's DTUs.
#[test]
fn preambles_survive_a_heartbeat_of_the_same_byte_and_the_other_way_round() {
    let question = energy(7);
    for preambles in 0..=4 {
        for beats in [Vec::new(), vec![vec![0xFE]]] {
            let whole = says(&question, preambles, &[0x33; 4]);
            // where a heartbeat falls into the answer; the last place is: nowhere
            for at in 0..=whole.len() + 1 {
                let mut sent = whole.clone();
                if at <= whole.len() && !beats.is_empty() {
                    sent.insert(at, 0xFE);
                }
                let mut time = Time::new();
                let mut line = line(&time);
                let asked = job(
                    &time,
                    1,
                    1,
                    Priority::Scheduled,
                    vec![Request::Dlt645(question.clone())],
                );
                line.submit(time.moment(), asked).unwrap();
                ask(&mut line, &time);
                line.feed(time.pass(100), &sent, &beats);
                line.tick(time.pass(60));
                let outcome = only(done(&mut line));
                let answer = outcome.reports[0].result.as_ref().unwrap();
                assert_eq!(
                    question.reply(answer),
                    Ok(Reply::Data(vec![0x33; 4])),
                    "{preambles} preambles, heartbeat at {at}"
                );
                let strays = kinds(&outcome)
                    .iter()
                    .filter(|kind| **kind == LineFrameKind::Stray)
                    .count();
                assert_eq!(strays, 0);
            }
        }
    }
}

// ---- a simulated line of several protocols

struct Mixed {
    rng: StdRng,
    time: Time,
    line: Line,
    arrivals: BTreeMap<(Duration, u64), Vec<u8>>,
    /// The wire is half duplex: nothing comes before this.
    wire_free: Duration,
    count: u64,
    open: HashMap<Ticket, PollJob>,
    polls: i64,
    sent: u64,
    answered: u64,
    failed: u64,
    stamps: HashMap<Vec<u8>, u32>,
}

impl Mixed {
    fn new(seed: u64) -> Self {
        let time = Time::new();
        Self {
            rng: StdRng::seed_from_u64(seed),
            line: line(&time),
            time,
            arrivals: BTreeMap::new(),
            wire_free: Duration::ZERO,
            count: 0,
            open: HashMap::new(),
            polls: 0,
            sent: 0,
            answered: 0,
            failed: 0,
            stamps: HashMap::new(),
        }
    }

    fn question(&mut self) -> (i32, Request) {
        let number = self.rng.random_range(1..=3u8);
        let items = ["00010000", "00020000", "02010100"];
        match self.rng.random_range(0..5) {
            4 => (40 + i32::from(number), Request::Cjt188(self.water(number))),
            3 => (
                30 + i32::from(number),
                Request::Mbus(mbus::Request::read(number, true).unwrap()),
            ),
            0 => (number.into(), read(number, self.rng.random_range(0..4) * 3)),
            1 => {
                let di = Di::parse(items[self.rng.random_range(0..items.len())]).unwrap();
                let request = dlt645::Request::read(meter(number.into()), di);
                (10 + i32::from(number), Request::Dlt645(request))
            }
            _ => {
                let di = Di::parse(["9010", "9020"][self.rng.random_range(0..2)]).unwrap();
                let request = dlt645::Request::read(meter(100 + u64::from(number)), di);
                (20 + i32::from(number), Request::Dlt645(request))
            }
        }
    }

    /// A water meter's current data or one of its months.
    fn water(&mut self, number: u8) -> cjt188::Request {
        let address = cjt188::Address::parse(&format!("{:014}", 188_000 + u64::from(number))).unwrap();
        let target = cjt188::Target::new(cjt188::MeterType::COLD_WATER, address);
        let items = [0x901F, 0xD120, 0xD121];
        cjt188::Request::read(target, cjt188::DataId(items[self.rng.random_range(0..items.len())]))
    }

    /// What the device that is asked says: its number, and how often it was asked.
    fn answer(&mut self, request: &Request) -> Vec<u8> {
        let stamp = self.stamps.entry(request.wire()).or_default();
        *stamp += 1;
        let stamp = *stamp;
        match request {
            Request::Modbus(asked) => {
                let low = u16::try_from(stamp % 60_000).unwrap();
                let registers = vec![u16::from(asked.unit()) << 8 | asked.address(), low];
                asked.reply_frame(&modbus::Reply::Registers(registers)).unwrap()
            }
            Request::Dlt645(asked) => says(asked, self.rng.random_range(0..=4), &stamp.to_le_bytes()),
            Request::Cjt188(asked) => {
                let target = asked.target();
                let mut data = asked.di().wire(target.order).to_vec();
                data.push(target.ser);
                data.extend(stamp.to_le_bytes());
                // other meters' frames are as long as theirs
                data.extend([0x2C; 15]);
                let control = cjt188::Control(0x81);
                let frame = cjt188::Frame::new(target.meter_type, target.address, control, data).unwrap();
                frame.wire(self.rng.random_range(0..=4))
            }
            Request::Mbus(asked) => {
                let mut data = vec![
                    asked.address(),
                    0,
                    0,
                    0,
                    0x24,
                    0x40,
                    1,
                    7,
                    stamp.to_le_bytes()[0],
                    0,
                    0,
                    0,
                    0x04,
                    0x13,
                ];
                data.extend(stamp.to_le_bytes());
                // a long telegram: more than a hundred bytes behind the first record
                data.extend([0x2F; 100]);
                let frame = mbus::Frame::Long {
                    control: 0x08,
                    address: asked.address(),
                    ci: 0x72,
                    data,
                };
                frame.wire().unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    fn arrive(&mut self, at: Duration, bytes: Vec<u8>) {
        self.sent += 1;
        let at = at.max(self.wire_free);
        self.wire_free = at + Duration::from_millis(5 + u64::try_from(bytes.len()).unwrap());
        self.count += 1;
        let cut = self.rng.random_range(0..bytes.len());
        let (head, tail) = bytes.split_at(cut);
        if cut > 0 {
            self.arrivals.insert((at, self.count), head.to_vec());
            self.count += 1;
        }
        self.arrivals
            .insert((at + Duration::from_millis(4), self.count), tail.to_vec());
    }

    fn step(&mut self) {
        while self.open.len() < 4 {
            self.polls += 1;
            let (id, request) = self.question();
            let mut asked = job(&self.time, self.polls, id, Priority::Scheduled, vec![request]);
            asked.attempts = self.rng.random_range(1..=2);
            let ticket = self.line.submit(self.time.moment(), asked.clone()).unwrap();
            self.open.insert(ticket, asked);
        }
        let now = self.time.moment();
        self.line.tick(now);
        if self.line.ask(now).is_some() {
            self.line.written(now);
            let running = self.line.running().unwrap();
            let request = self.open[&running].requests[0].clone();
            let frame = self.answer(&request);
            let takes = match self.rng.random_range(0..100) {
                0..80 => self.rng.random_range(20..200),
                // late, by up to three time-outs
                _ => self.rng.random_range(1_000..4_000),
            };
            let at = self.time.now + Duration::from_millis(takes);
            if self.rng.random_range(0..100) < 95 {
                self.arrive(at, frame);
            }
        }
        while let Some(event) = self.line.event() {
            let LineEvent::Done { ticket, outcome } = event else {
                continue;
            };
            let asked = self.open.remove(&ticket).unwrap();
            match &outcome.reports[0].result {
                Ok(frame) => self.check(&asked.requests[0], frame),
                Err(_) => self.failed += 1,
            }
        }
        let due = self.line.next_deadline(now).map(|at| at - self.time.start);
        let next = self.arrivals.first_key_value().map(|((at, _), _)| *at);
        match (due, next) {
            (Some(due), Some(next)) if next > due => self.time.now = due.max(self.time.now),
            (_, Some(_)) => {
                let ((at, _), bytes) = self.arrivals.pop_first().unwrap();
                self.time.now = at.max(self.time.now);
                self.line.feed(self.time.moment(), &bytes, &[]);
            }
            (Some(due), None) => self.time.now = due.max(self.time.now),
            (None, None) => {}
        }
    }

    fn check(&mut self, request: &Request, frame: &[u8]) {
        self.answered += 1;
        match request {
            Request::Modbus(asked) => {
                let registers = asked.answer_registers(frame).unwrap();
                assert_eq!(registers[0], u16::from(asked.unit()) << 8 | asked.address());
            }
            Request::Dlt645(asked) => assert!(matches!(asked.reply(frame), Ok(Reply::Data(_)))),
            Request::Cjt188(asked) => {
                let answer = asked.answer(frame).unwrap();
                assert_eq!(answer.address, asked.target().address);
                assert_eq!(answer.data[4..], [0x2C; 15]);
            }
            Request::Mbus(asked) => {
                let readout = asked.readout(frame).unwrap();
                assert_eq!(readout.identification().unwrap().id % 100, u32::from(asked.address()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn late_frames_of_every_protocol_of_the_line_are_counted_as_strays() {
    let (mut sent, mut answered, mut failed, mut strays) = (0, 0, 0, 0);
    for seed in 0..8 {
        let mut mixed = Mixed::new(seed);
        for _ in 0..20_000 {
            mixed.step();
        }
        let left: usize = mixed.arrivals.len();
        sent += mixed.sent - u64::try_from(left).unwrap();
        answered += mixed.answered;
        failed += mixed.failed;
        strays += mixed.line.stats().strays;
    }
    let nobodys = sent - answered;
    println!(
        "{sent} frames came, {answered} were answers, {failed} questions failed; {strays} of {nobodys} strays counted"
    );
    assert!(nobodys > 1_000 && answered > 4 * failed);
    assert!(strays * 100 >= nobodys * 95 && strays <= nobodys + answered / 100);
}
