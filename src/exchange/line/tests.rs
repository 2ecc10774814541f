//! The line against hand-written cases and against a simulated line that loses, delays, repeats, splits and invents.

use super::*;
use crate::base::ids::PollId;
use crate::exchange::job::TransactionError;
use crate::exchange::job::{Priority, TransactionReport};
use crate::exchange::visit::VisitOutcome;
use crate::protocol::modbus::{self, Function, Reply};
use crate::protocol::{Finding, Request, Verdict};
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashMap};

pub(super) const T: Duration = Duration::from_millis(1_000);

/// Virtual time.
#[derive(Clone, Copy)]
pub(super) struct Time {
    pub(super) start: Instant,
    pub(super) now: Duration,
}

impl Time {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            now: Duration::ZERO,
        }
    }

    pub(super) fn at(&self, since: Duration) -> Moment {
        Moment {
            at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::from_std(since).unwrap(),
            on: self.start + since,
        }
    }

    pub(super) fn moment(&self) -> Moment {
        self.at(self.now)
    }

    pub(super) fn pass(&mut self, ms: u64) -> Moment {
        self.now += Duration::from_millis(ms);
        self.moment()
    }
}

pub(super) fn read(unit: u8, address: u16) -> Request {
    Request::Modbus(modbus::Request::read(unit, Function::ReadHoldingRegisters, address, 2).unwrap())
}

pub(super) fn reply(request: &Request, registers: &[u16]) -> Vec<u8> {
    let Request::Modbus(request) = request else {
        panic!("not Modbus: {request:?}")
    };
    request.reply_frame(&Reply::Registers(registers.to_vec())).unwrap()
}

pub(super) fn refusal(request: &Request, code: u8) -> Vec<u8> {
    let Request::Modbus(request) = request else {
        panic!("not Modbus: {request:?}")
    };
    request.reply_frame(&Reply::Exception(code)).unwrap()
}

pub(super) fn job(time: &Time, poll: i64, meter: i32, priority: Priority, requests: Vec<Request>) -> PollJob {
    PollJob {
        poll: PollId(poll),
        meter: MeterId(meter),
        priority,
        requests,
        attempts: 3,
        timeout: T,
        byte_time: Duration::ZERO,
        evidence: false,
        instead: Vec::new(),
        pause: Duration::ZERO,
        deadline: time.moment().on + Duration::from_secs(600),
        effect: None,
    }
}

pub(super) fn line(time: &Time) -> Line {
    Line::new(LineSettings::default(), time.moment())
}

pub(super) fn done(line: &mut Line) -> Vec<(Ticket, VisitOutcome)> {
    std::iter::from_fn(|| line.event())
        .filter_map(|event| match event {
            LineEvent::Done { ticket, outcome } => Some((ticket, outcome)),
            _ => None,
        })
        .collect()
}

/// Asks what is due; panics when nothing is.
pub(super) fn ask(line: &mut Line, time: &Time) -> Vec<u8> {
    let wire = line.ask(time.moment()).expect("a request");
    line.written(time.moment());
    wire
}

pub(super) fn only(outcomes: Vec<(Ticket, VisitOutcome)>) -> VisitOutcome {
    assert_eq!(outcomes.len(), 1);
    outcomes.into_iter().next().unwrap().1
}

pub(super) fn kinds(outcome: &VisitOutcome) -> Vec<LineFrameKind> {
    outcome.frames.iter().map(|frame| frame.kind).collect()
}

#[test]
fn an_answer_in_pieces_with_noise_and_a_heartbeat_inside() {
    let mut time = Time::new();
    let mut line = line(&time);
    let question = read(1, 0);
    line.submit(
        time.moment(),
        job(&time, 1, 1, Priority::Scheduled, vec![question.clone()]),
    )
    .unwrap();
    assert_eq!(ask(&mut line, &time), question.wire());
    let answer = reply(&question, &[7, 9]);
    let beats = vec![b"HB!".to_vec()];
    line.feed(time.pass(20), &[0x00, 0xFF], &beats);
    line.feed(time.pass(20), &answer[..4], &beats);
    line.feed(time.pass(20), b"HB!", &beats);
    assert!(done(&mut line).is_empty());
    line.feed(time.pass(20), &answer[4..], &beats);
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports[0].result, Ok(answer));
    assert_eq!(outcome.reports[0].attempts, 1);
    assert_eq!(
        kinds(&outcome),
        [LineFrameKind::Request, LineFrameKind::Noise, LineFrameKind::Answer]
    );
    assert_eq!(line.next_deadline(time.moment()), None, "an idle line wants nothing");
}

/// A heartbeat inside a reply, whose bytes up to there and the heartbeat form a frame with a right check sum.
fn a_reply_that_looks_like_another(question: &Request, heartbeat: &[u8; 3]) -> (Vec<u8>, Vec<u8>) {
    let head = [1, 3, 4, 0x00, heartbeat[0], heartbeat[1], heartbeat[2]];
    let sum = modbus::crc16(&head).to_le_bytes();
    let whole = reply(question, &[u16::from(sum[0]), u16::from_be_bytes([sum[1], 0x77])]);
    let sent = [&whole[..4], heartbeat, &whole[4..]].concat();
    // the trap: these nine bytes are a valid answer with another value
    assert!(matches!(
        question.find(&sent[..9]),
        Finding::Frame {
            verdict: Verdict::Answer,
            ..
        }
    ));
    (whole, sent)
}

#[test]
fn a_heartbeat_never_becomes_a_value_even_where_the_check_sum_fits() {
    let heartbeats = vec![b"LOG".to_vec()];
    let question = read(1, 0);
    let (whole, sent) = a_reply_that_looks_like_another(&question, b"LOG");
    for cut in [sent.len(), 9, 10, 5] {
        let mut time = Time::new();
        let mut line = line(&time);
        line.submit(
            time.moment(),
            job(&time, 1, 1, Priority::Scheduled, vec![question.clone()]),
        )
        .unwrap();
        ask(&mut line, &time);
        line.feed(time.pass(30), &sent[..cut], &heartbeats);
        line.feed(time.pass(20), &sent[cut..], &heartbeats);
        let outcome = only(done(&mut line));
        assert_eq!(outcome.reports[0].result.as_ref(), Ok(&whole), "cut at {cut}");
    }
}

#[test]
fn data_that_look_like_a_heartbeat_cost_a_moment_only() {
    let heartbeats = vec![b"LOG".to_vec()];
    let mut time = Time::new();
    let mut line = line(&time);
    let question = read(1, 0);
    line.submit(
        time.moment(),
        job(&time, 1, 1, Priority::Scheduled, vec![question.clone()]),
    )
    .unwrap();
    ask(&mut line, &time);
    let whole = reply(&question, &[0x004C, 0x4F47]);
    line.feed(time.pass(30), &whole, &heartbeats);
    assert!(done(&mut line).is_empty());
    let due = line.next_deadline(time.moment()).unwrap();
    assert_eq!(due, time.moment().on + REST_OF_REPLY);
    line.tick(time.pass(60));
    assert_eq!(only(done(&mut line)).reports[0].result.as_ref(), Ok(&whole));
}

#[test]
fn a_late_answer_is_a_stray_and_its_like_waits_for_it() {
    let mut time = Time::new();
    let mut line = line(&time);
    let (first, second, other) = (read(1, 0), read(1, 2), read(2, 0));
    let mut one = job(&time, 1, 1, Priority::Scheduled, vec![first.clone()]);
    one.attempts = 1;
    line.submit(time.moment(), one).unwrap();
    ask(&mut line, &time);
    line.tick(time.pass(1_000));
    assert_eq!(only(done(&mut line)).reports[0].result, Err(TransactionError::Timeout));
    line.submit(
        time.moment(),
        job(&time, 2, 1, Priority::Scheduled, vec![second.clone()]),
    )
    .unwrap();
    line.submit(time.moment(), job(&time, 3, 2, Priority::BackFill, vec![other.clone()]))
        .unwrap();
    assert!(!line.wants_to_ask(time.pass(50)), "held until quiet");
    line.tick(time.pass(60));
    assert_eq!(
        ask(&mut line, &time),
        other.wire(),
        "another meter goes first, though of less priority"
    );
    // the late answer to the first question comes in the window of another meter's
    line.feed(time.pass(10), &reply(&first, &[100, 100]), &[]);
    line.feed(time.pass(10), &reply(&other, &[5, 5]), &[]);
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports[0].result, Ok(reply(&other, &[5, 5])));
    assert_eq!(
        kinds(&outcome),
        [LineFrameKind::Request, LineFrameKind::Stray, LineFrameKind::Answer]
    );
    // nothing is owed any more: after the quiet the second question goes out, long before the horizon
    let quiet = line.next_deadline(time.moment()).unwrap() - time.moment().on;
    assert!(quiet < T, "{quiet:?}");
    line.tick(time.pass(u64::try_from(quiet.as_millis()).unwrap() + 1));
    assert_eq!(ask(&mut line, &time), second.wire());
}

#[test]
fn an_answer_owed_bars_its_like_for_the_horizon_only() {
    let mut time = Time::new();
    let mut line = line(&time);
    let mut one = job(&time, 1, 1, Priority::Scheduled, vec![read(1, 0)]);
    one.attempts = 1;
    line.submit(time.moment(), one).unwrap();
    ask(&mut line, &time);
    line.tick(time.pass(1_000));
    line.submit(time.moment(), job(&time, 2, 1, Priority::Control, vec![read(1, 2)]))
        .unwrap();
    line.tick(time.pass(2_999));
    assert!(!line.wants_to_ask(time.moment()));
    line.tick(time.pass(1));
    assert!(line.wants_to_ask(time.moment()), "4 time-outs after it was written");
}

#[test]
fn a_repeat_of_the_last_answer_is_not_the_next_ones() {
    let mut time = Time::new();
    let mut line = line(&time);
    let (first, second) = (read(1, 0), read(1, 2));
    line.submit(
        time.moment(),
        job(&time, 1, 1, Priority::Scheduled, vec![first.clone(), second.clone()]),
    )
    .unwrap();
    ask(&mut line, &time);
    line.feed(time.pass(30), &reply(&first, &[1, 1]), &[]);
    assert_eq!(ask(&mut line, &time), second.wire());
    line.feed(time.pass(5), &reply(&first, &[1, 1]), &[]);
    line.feed(time.pass(25), &reply(&second, &[2, 2]), &[]);
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports[1].result, Ok(reply(&second, &[2, 2])));
    assert_eq!(outcome.reports[1].attempts, 1);
    assert_eq!(line.stats().strays, 1);
}

/// The repeat came within the horizon, but the host let the process wait before it read it.
#[test]
fn a_repeat_that_is_read_late_is_not_the_next_ones_answer() {
    let mut time = Time::new();
    let settings = LineSettings {
        owed_timeouts: 2,
        ..LineSettings::default()
    };
    let mut line = Line::new(settings, time.moment());
    let (first, second) = (read(1, 0), read(1, 2));
    line.submit(
        time.moment(),
        job(&time, 1, 1, Priority::Scheduled, vec![first.clone(), second.clone()]),
    )
    .unwrap();
    ask(&mut line, &time);
    line.feed(time.pass(30), &reply(&first, &[1, 1]), &[]);
    assert_eq!(ask(&mut line, &time), second.wire());
    // the second's answer is lost; it is asked again before the first answer's horizon is over
    line.tick(time.pass(1_000));
    line.tick(time.pass(500));
    assert_eq!(ask(&mut line, &time), second.wire());
    line.feed(time.pass(900), &reply(&first, &[1, 1]), &[]);
    line.feed(time.pass(5), &reply(&second, &[2, 2]), &[]);
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports[1].result, Ok(reply(&second, &[2, 2])));
}

#[test]
fn two_questions_with_the_same_bytes_for_an_answer_cost_a_wait_only() {
    let mut time = Time::new();
    let mut line = line(&time);
    let (first, second) = (read(1, 0), read(1, 2));
    line.submit(
        time.moment(),
        job(&time, 1, 1, Priority::Scheduled, vec![first.clone(), second.clone()]),
    )
    .unwrap();
    for _ in 0..20 {
        if let Some(_wire) = line.ask(time.moment()) {
            line.written(time.moment());
            line.feed(time.pass(30), &reply(&first, &[0, 0]), &[]);
        }
        if let Some(outcome) = done(&mut line).pop() {
            assert!(outcome.1.reports.iter().all(|report| report.result.is_ok()));
            assert!(time.now < T * 6, "{:?}", time.now);
            return;
        }
        let due = line.next_deadline(time.moment()).unwrap();
        time.now = due - time.start;
        line.tick(time.moment());
    }
    panic!("never answered");
}

#[test]
fn the_same_answer_to_the_same_question_costs_nothing() {
    let mut time = Time::new();
    let mut line = line(&time);
    for poll in 0..100 {
        line.submit(
            time.moment(),
            job(&time, poll, 1, Priority::Scheduled, vec![read(1, 0)]),
        )
        .unwrap();
        ask(&mut line, &time);
        line.feed(time.pass(10), &reply(&read(1, 0), &[230, 230]), &[]);
        assert_eq!(only(done(&mut line)).reports[0].attempts, 1);
    }
    assert_eq!(time.now, Duration::from_secs(1));
}

#[test]
fn a_dead_meter_ends_its_job_and_delays_its_neighbour_by_its_attempts_only() {
    let mut time = Time::new();
    let mut line = line(&time);
    line.submit(
        time.moment(),
        job(
            &time,
            1,
            1,
            Priority::Scheduled,
            vec![read(1, 0), read(1, 2), read(1, 4)],
        ),
    )
    .unwrap();
    line.submit(time.moment(), job(&time, 2, 2, Priority::Scheduled, vec![read(2, 0)]))
        .unwrap();
    let mut asked = Vec::new();
    let outcome = loop {
        if let Some(wire) = line.ask(time.moment()) {
            asked.push(wire);
            line.written(time.moment());
        }
        if asked.last() == Some(&read(2, 0).wire()) {
            break only(done(&mut line));
        }
        let due = line.next_deadline(time.moment()).unwrap();
        time.now = due - time.start;
        line.tick(time.moment());
    };
    assert_eq!(
        asked,
        [
            read(1, 0).wire(),
            read(1, 0).wire(),
            read(1, 0).wire(),
            read(2, 0).wire()
        ]
    );
    assert_eq!(outcome.reports.len(), 1, "the rest is left out");
    assert_eq!(outcome.reports[0].result, Err(TransactionError::Timeout));
    assert_eq!(outcome.reports[0].attempts, 3);
    assert!(time.now <= T * 3 + Duration::from_millis(300), "{:?}", time.now);
}

#[test]
fn an_answer_that_is_arriving_at_its_deadline_may_end_but_not_for_ever() {
    let mut time = Time::new();
    let mut line = line(&time);
    let question = read(1, 0);
    line.submit(
        time.moment(),
        job(&time, 1, 1, Priority::Scheduled, vec![question.clone()]),
    )
    .unwrap();
    ask(&mut line, &time);
    let answer = reply(&question, &[7, 9]);
    line.feed(time.pass(950), &answer[..4], &[]);
    line.tick(time.pass(50));
    assert!(
        line.is_busy() && line.ask(time.moment()).is_none(),
        "half of it is there"
    );
    line.feed(time.pass(100), &answer[4..], &[]);
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports[0].result, Ok(answer.clone()));
    assert_eq!(outcome.reports[0].attempts, 1);

    // one that stops amidst is given up a moment later, and one that drips in the end, too
    for (drip, given_up) in [(false, 950 + 250), (true, 1_000 + 500)] {
        let mut time = Time::new();
        let mut line = self::line(&time);
        line.submit(
            time.moment(),
            job(&time, 1, 1, Priority::Scheduled, vec![question.clone()]),
        )
        .unwrap();
        ask(&mut line, &time);
        line.feed(time.pass(950), &answer[..2], &[]);
        while line.stats().timeouts == 0 && line.pinned.is_some() && !matches!(line.state, State::Holding { .. }) {
            if drip {
                line.feed(time.pass(50), &answer[2..3], &[]);
                line.window.truncate(3);
            } else {
                line.tick(time.pass(50));
            }
        }
        assert_eq!(time.now.as_millis(), given_up, "drip {drip}");
    }
}

#[test]
fn the_line_time_of_question_and_answer_is_added_to_the_time_out() {
    let mut time = Time::new();
    let mut line = line(&time);
    let wide = Request::Modbus(modbus::Request::read(1, Function::ReadHoldingRegisters, 0, 125).unwrap());
    let mut slow = job(&time, 1, 1, Priority::Scheduled, vec![wide.clone()]);
    slow.byte_time = crate::exchange::job::byte_time(300, true, 1);
    slow.attempts = 1;
    line.submit(time.moment(), slow).unwrap();
    ask(&mut line, &time);
    // 8 bytes out and 255 in, 11 bits each at 300 baud
    let all = Duration::from_secs(1) * 263 * 11 / 300;
    let due = line.next_deadline(time.moment()).unwrap() - time.moment().on;
    assert!((T + all).abs_diff(due) < Duration::from_millis(1), "{due:?}");
    let answer = reply(&wide, &[3; 125]);
    for byte in &answer {
        line.feed(time.pass(37), &[*byte], &[]);
    }
    assert_eq!(only(done(&mut line)).reports[0].result, Ok(answer));
}

#[test]
fn priorities_go_first_between_transactions_never_inside() {
    let mut time = Time::new();
    let mut line = line(&time);
    line.submit(
        time.moment(),
        job(&time, 1, 1, Priority::Scheduled, vec![read(1, 0), read(1, 10)]),
    )
    .unwrap();
    assert_eq!(ask(&mut line, &time), read(1, 0).wire());
    line.submit(time.moment(), job(&time, 2, 2, Priority::Discovery, vec![read(2, 0)]))
        .unwrap();
    line.submit(time.moment(), job(&time, 3, 3, Priority::Control, vec![read(3, 0)]))
        .unwrap();
    assert!(line.ask(time.moment()).is_none(), "a question is open");
    line.tick(time.pass(1_000));
    line.tick(time.pass(100));
    assert_eq!(ask(&mut line, &time), read(1, 0).wire(), "its own second attempt first");
    line.feed(time.pass(10), &reply(&read(1, 0), &[1, 2]), &[]);
    line.tick(time.pass(100));
    assert_eq!(
        ask(&mut line, &time),
        read(3, 0).wire(),
        "then control, before the rest of the visit"
    );
    line.feed(time.pass(10), &reply(&read(3, 0), &[3, 2]), &[]);
    // the visit's next question waits for what is owed; discovery need not
    assert_eq!(ask(&mut line, &time), read(2, 0).wire());
}

#[test]
fn meters_take_turns_within_a_priority() {
    let mut time = Time::new();
    let mut line = line(&time);
    for poll in 0..5 {
        line.submit(
            time.moment(),
            job(&time, poll, 1, Priority::Scheduled, vec![read(1, 0)]),
        )
        .unwrap();
    }
    line.submit(time.moment(), job(&time, 9, 2, Priority::Scheduled, vec![read(2, 0)]))
        .unwrap();
    line.submit(time.moment(), job(&time, 10, 3, Priority::Scheduled, vec![read(3, 0)]))
        .unwrap();
    let mut order = Vec::new();
    for n in 0..7 {
        let wire = ask(&mut line, &time);
        order.push(wire[0]);
        line.feed(time.pass(10), &reply(&read(wire[0], 0), &[n, n]), &[]);
    }
    assert_eq!(order, [1, 2, 3, 1, 1, 1, 1]);
}

#[test]
fn the_queue_is_bounded_and_keeps_room_for_those_who_wait() {
    let time = Time::new();
    let settings = LineSettings {
        queue_jobs: 4,
        ..LineSettings::default()
    };
    let mut line = Line::new(settings, time.moment());
    let submit = |line: &mut Line, priority| line.submit(time.moment(), job(&time, 1, 1, priority, vec![read(1, 0)]));
    for _ in 0..4 {
        submit(&mut line, Priority::Scheduled).unwrap();
    }
    assert_eq!(submit(&mut line, Priority::Scheduled), Err(QueueFull { waiting: 4 }));
    assert!(submit(&mut line, Priority::Control).is_ok());
    assert!(submit(&mut line, Priority::Control).is_err());
}

#[test]
fn a_waiting_job_ends_at_its_deadline() {
    let mut time = Time::new();
    let mut line = line(&time);
    line.submit(time.moment(), job(&time, 1, 1, Priority::Control, vec![read(1, 0)]))
        .unwrap();
    ask(&mut line, &time);
    let mut waiting = job(&time, 2, 2, Priority::Scheduled, vec![read(2, 0), read(2, 2)]);
    waiting.deadline = time.moment().on + Duration::from_millis(500);
    line.submit(time.moment(), waiting).unwrap();
    line.tick(time.pass(500));
    let outcome = only(done(&mut line));
    assert_eq!(outcome.began_at, None);
    let results: Vec<_> = outcome.reports.iter().map(|report| report.result.clone()).collect();
    assert_eq!(
        results,
        [Err(TransactionError::Deadline), Err(TransactionError::Deadline)]
    );
}

#[test]
fn refusals_are_answers_but_not_to_another_question() {
    let mut time = Time::new();
    let mut line = line(&time);
    let wide = Request::Modbus(modbus::Request::read(1, Function::ReadHoldingRegisters, 50, 9).unwrap());
    let mut one = job(&time, 1, 1, Priority::Scheduled, vec![read(1, 0)]);
    one.attempts = 1;
    line.submit(time.moment(), one).unwrap();
    ask(&mut line, &time);
    line.tick(time.pass(1_000));
    line.tick(time.pass(100));
    drop(done(&mut line));
    // another length can be asked though an answer is owed; a refusal then may be the first question's
    line.submit(time.moment(), job(&time, 2, 1, Priority::Scheduled, vec![wide.clone()]))
        .unwrap();
    assert_eq!(ask(&mut line, &time), wide.wire());
    line.feed(time.pass(10), &refusal(&read(1, 0), 2), &[]);
    assert!(done(&mut line).is_empty());
    let registers: Vec<u16> = (0..9).collect();
    line.feed(time.pass(10), &reply(&wide, &registers), &[]);
    assert_eq!(only(done(&mut line)).reports[0].result, Ok(reply(&wide, &registers)));
    // with nothing owed a refusal counts
    line.submit(time.moment(), job(&time, 3, 2, Priority::Scheduled, vec![read(2, 0)]))
        .unwrap();
    line.tick(time.pass(5_000));
    ask(&mut line, &time);
    line.feed(time.pass(10), &refusal(&read(2, 0), 2), &[]);
    assert_eq!(
        only(done(&mut line)).reports[0].result,
        Err(TransactionError::Refused(2))
    );
}

#[test]
fn an_echo_is_skipped_and_bytes_without_a_question_are_strays() {
    let mut time = Time::new();
    let mut line = line(&time);
    line.feed(time.moment(), b"garbage", &[]);
    line.tick(time.pass(100));
    line.submit(time.moment(), job(&time, 1, 1, Priority::Scheduled, vec![read(1, 0)]))
        .unwrap();
    let wire = ask(&mut line, &time);
    line.feed(time.pass(5), &wire, &[]);
    line.feed(time.pass(5), &reply(&read(1, 0), &[1, 2]), &[]);
    line.feed(time.pass(500), &reply(&read(9, 0), &[1, 2]), &[]);
    let mut unasked = Vec::new();
    while let Some(event) = line.event() {
        match event {
            LineEvent::Unasked(frame) => unasked.push((frame.kind, frame.bytes)),
            LineEvent::Done { outcome, .. } => assert_eq!(outcome.reports[0].result, Ok(reply(&read(1, 0), &[1, 2]))),
            _ => {}
        }
    }
    assert_eq!(
        unasked,
        [
            (LineFrameKind::Noise, b"garbage".to_vec()),
            (LineFrameKind::Stray, reply(&read(9, 0), &[1, 2]))
        ]
    );
}

#[test]
fn many_time_outs_in_a_row_over_all_meters_make_a_dead_line() {
    let mut time = Time::new();
    let mut line = line(&time);
    let mut attempts = 0;
    for poll in 0..10 {
        let meter = i32::try_from(poll % 4 + 1).unwrap();
        let unit = u8::try_from(poll % 4 + 1).unwrap();
        line.submit(
            time.moment(),
            job(&time, poll, meter, Priority::Scheduled, vec![read(unit, 0)]),
        )
        .unwrap();
    }
    loop {
        if line.ask(time.moment()).is_some() {
            line.written(time.moment());
            attempts += 1;
        }
        let due = line.next_deadline(time.moment()).unwrap();
        time.now = due - time.start;
        line.tick(time.moment());
        if std::iter::from_fn(|| line.event()).any(|event| matches!(event, LineEvent::Dead)) {
            assert_eq!(attempts, 30);
            return;
        }
    }
}

#[test]
fn the_end_of_the_session_answers_everybody() {
    let mut time = Time::new();
    let mut line = line(&time);
    line.submit(
        time.moment(),
        job(&time, 1, 1, Priority::Scheduled, vec![read(1, 0), read(1, 2)]),
    )
    .unwrap();
    line.submit(time.moment(), job(&time, 2, 2, Priority::Scheduled, vec![read(2, 0)]))
        .unwrap();
    ask(&mut line, &time);
    line.end(time.pass(10));
    let outcomes = done(&mut line);
    assert_eq!(outcomes.len(), 2);
    for (_, outcome) in outcomes {
        assert_eq!(outcome.reports.len(), 1);
        assert_eq!(outcome.reports[0].result, Err(TransactionError::SessionLost));
    }
    assert_eq!(line.queued(), 0);
}

#[test]
fn a_flood_in_the_window_stays_within_its_bound() {
    let mut time = Time::new();
    let mut line = line(&time);
    line.submit(time.moment(), job(&time, 1, 1, Priority::Scheduled, vec![read(1, 0)]))
        .unwrap();
    ask(&mut line, &time);
    for _ in 0..200 {
        line.feed(time.moment(), &[0x55; 100], &[]);
        assert!(line.window.len() <= WINDOW_MAX);
    }
    line.feed(time.pass(1), &reply(&read(1, 0), &[4, 5]), &[]);
    assert_eq!(only(done(&mut line)).reports[0].result, Ok(reply(&read(1, 0), &[4, 5])));
}

// ---- the simulated line

/// How the simulated line treats answers; chances per answer, in percent.
#[derive(Clone, Copy, Debug)]
struct Faults {
    drop: u32,
    late: u32,
    repeat: u32,
    foreign: u32,
    noise: u32,
    beat: u32,
    refuse: u32,
    /// Values change with every question, else they stand still.
    changing: bool,
    /// The DTU's heartbeat is not known yet: an answer with one inside is noise, and its repeat may be whole.
    strange: bool,
    /// Steps before which the process has to wait for its host, per thousand: what came meanwhile is read behind it, at once.
    stall: u32,
}

struct Simulation {
    rng: StdRng,
    faults: Faults,
    time: Time,
    line: Line,
    /// What arrives when; the counter keeps them apart.
    arrivals: BTreeMap<(Duration, u64), Vec<u8>>,
    count: u64,
    asks: u16,
    /// Which ask numbers were written for which poll.
    asked: HashMap<i64, Vec<u16>>,
    open: HashMap<Ticket, PollJob>,
    polls: i64,
    answered: u64,
    failed: u64,
    /// Right register, but said to an earlier visit.
    stale: u64,
}

impl Simulation {
    fn new(seed: u64, faults: Faults) -> Self {
        let time = Time::new();
        Self {
            rng: StdRng::seed_from_u64(seed),
            faults,
            line: line(&time),
            time,
            arrivals: BTreeMap::new(),
            count: 0,
            asks: 0,
            asked: HashMap::new(),
            open: HashMap::new(),
            polls: 0,
            answered: 0,
            failed: 0,
            stale: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn arrive(&mut self, at: Duration, bytes: Vec<u8>) {
        self.count += 1;
        // now and then in two pieces
        if bytes.len() > 3 && self.chance(20) {
            let cut = self.rng.random_range(1..bytes.len());
            let (head, tail) = bytes.split_at(cut);
            self.arrivals.insert((at, self.count), head.to_vec());
            self.count += 1;
            self.arrivals
                .insert((at + Duration::from_millis(8), self.count), tail.to_vec());
        } else {
            self.arrivals.insert((at, self.count), bytes);
        }
    }

    /// The frame as it comes through the DTU, now and then with a heartbeat inside.
    fn beaten(&mut self, frame: &[u8], may: bool) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if self.chance(self.faults.beat) && may {
            let cut = self.rng.random_range(0..frame.len());
            frame.splice(cut..cut, b"HEART".iter().copied());
        }
        frame
    }

    /// The device's side: the value says unit, register and question.
    fn answer(&mut self, wire: &[u8]) {
        let asked = modbus::Request::parse(wire).unwrap();
        let stamp = if self.faults.changing { self.asks } else { 0xBEEF };
        let mut registers = vec![u16::from(asked.unit()) << 8 | asked.address(), stamp];
        registers.resize(usize::from(asked.count()), 0);
        let refuse = self.chance(self.faults.refuse);
        let said = if refuse {
            Reply::Exception(2)
        } else {
            Reply::Registers(registers)
        };
        let frame = asked.reply_frame(&said).unwrap();
        let quick = Duration::from_millis(self.rng.random_range(20..80));
        let slow = Duration::from_millis(self.rng.random_range(0..=3_000));
        let at = self.time.now
            + if self.chance(self.faults.late) {
                slow.max(quick)
            } else {
                quick
            };
        if !self.chance(self.faults.drop) {
            let first = self.beaten(&frame, !refuse);
            self.arrive(at, first);
            while self.chance(self.faults.repeat) {
                let again = Duration::from_millis(self.rng.random_range(0..=3_000));
                let copy = self.beaten(&frame, !refuse);
                self.arrive(at + again, copy);
            }
        }
        let soon = self.time.now + Duration::from_millis(self.rng.random_range(0..1_500));
        if self.chance(self.faults.foreign) {
            let (unit, function) = if self.rng.random_bool(0.5) {
                (asked.unit() + 100, asked.function())
            } else {
                (asked.unit(), Function::ReadInputRegisters)
            };
            let other = modbus::Request::read(unit, function, 0, asked.count()).unwrap();
            let lies = Reply::Registers(vec![0xDEAD; usize::from(asked.count())]);
            self.arrive(soon, other.reply_frame(&lies).unwrap());
        }
        if self.chance(self.faults.noise) {
            let noise = (0..self.rng.random_range(1..20)).map(|_| self.rng.random()).collect();
            self.arrive(soon, noise);
        }
    }

    fn submit(&mut self) {
        self.polls += 1;
        let meter = self.rng.random_range(1..=3u8);
        // registers of one shape, sometimes one of another length
        let questions = (0..self.rng.random_range(1..=3))
            .map(|_| {
                let count = if self.rng.random_bool(0.8) { 2 } else { 3 };
                let address = self.rng.random_range(0..4) * 3;
                Request::Modbus(modbus::Request::read(meter, Function::ReadHoldingRegisters, address, count).unwrap())
            })
            .collect();
        let mut job = job(&self.time, self.polls, meter.into(), Priority::Scheduled, questions);
        job.attempts = self.rng.random_range(1..=3);
        if self.rng.random_bool(0.2) {
            job.priority = Priority::OnDemand;
        }
        let ticket = self.line.submit(self.time.moment(), job.clone()).unwrap();
        self.open.insert(ticket, job);
    }

    fn check(&mut self, job: &PollJob, reports: &[TransactionReport]) {
        for (request, report) in job.requests.iter().zip(reports) {
            let Ok(frame) = &report.result else {
                self.failed += 1;
                continue;
            };
            self.answered += 1;
            let Request::Modbus(request) = request else {
                panic!("not Modbus: {request:?}")
            };
            let registers = request.answer_registers(frame).unwrap();
            let mine = u16::from(request.unit()) << 8 | request.address();
            assert_eq!(registers[0], mine, "a value of another register, {:?}", self.faults);
            if self.faults.changing {
                let asked = &self.asked[&job.poll.0];
                if !asked.contains(&registers[1]) {
                    self.stale += 1;
                }
            }
        }
    }

    /// The process waits for its host, and then reads what has come.
    fn stall(&mut self) {
        if self.rng.random_range(0..1_000) >= self.faults.stall {
            return;
        }
        self.time.now += Duration::from_millis(self.rng.random_range(0..4_000));
        while self
            .arrivals
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= self.time.now)
        {
            self.hear();
        }
    }

    /// One step: what is due first.
    fn step(&mut self) {
        self.stall();
        while self.open.len() < 3 {
            self.submit();
        }
        let now = self.time.moment();
        self.line.tick(now);
        if let Some(wire) = self.line.ask(now) {
            self.line.written(now);
            self.asks = self.asks.wrapping_add(1);
            let Some(Ticket(running)) = self.line.running() else {
                panic!("asking without a visit")
            };
            let poll = self.open[&Ticket(running)].poll.0;
            self.asked.entry(poll).or_default().push(self.asks);
            self.answer(&wire);
        }
        while let Some(event) = self.line.event() {
            if let LineEvent::Done { ticket, outcome } = event {
                let job = self.open.remove(&ticket).unwrap();
                self.check(&job, &outcome.reports);
                self.asked.remove(&job.poll.0);
            }
        }
        let due = self.line.next_deadline(now).map(|at| at - self.time.start);
        let next = self.arrivals.first_key_value().map(|((at, _), _)| *at);
        match (due, next) {
            (Some(due), Some(next)) if next <= due => self.hear(),
            (None, Some(_)) => self.hear(),
            (Some(due), _) => self.time.now = due.max(self.time.now),
            (None, None) => {}
        }
    }

    fn hear(&mut self) {
        let Some(((at, _), bytes)) = self.arrivals.pop_first() else {
            return;
        };
        self.time.now = at.max(self.time.now);
        let known = if self.faults.strange {
            vec![]
        } else {
            vec![b"HEART".to_vec()]
        };
        self.line.feed(self.time.moment(), &bytes, &known);
    }
}

fn simulate(seed: u64, faults: Faults, transactions: u64) -> Simulation {
    let mut simulation = Simulation::new(seed, faults);
    let mut steps = 0u64;
    while simulation.answered + simulation.failed < transactions {
        simulation.step();
        steps += 1;
        assert!(
            steps < transactions * 200,
            "the line stands still: {:?} {faults:?}",
            simulation.line
        );
    }
    simulation
}

#[test]
fn no_wrong_value_on_a_line_that_loses_delays_repeats_and_invents() {
    let harsh = Faults {
        drop: 10,
        late: 15,
        repeat: 15,
        foreign: 10,
        noise: 10,
        beat: 10,
        refuse: 3,
        changing: true,
        strange: false,
        stall: 0,
    };
    let rare = Faults {
        drop: 1,
        late: 1,
        repeat: 1,
        foreign: 1,
        noise: 1,
        beat: 2,
        refuse: 0,
        changing: true,
        strange: false,
        stall: 0,
    };
    let slow = Faults { late: 100, ..harsh };
    let (mut answered, mut all, mut stale, mut stalled) = (0, 0, 0, 0);
    for (n, faults) in [harsh, rare, slow].into_iter().enumerate() {
        for (changing, strange, stall) in [
            (true, false, 0),
            (false, false, 0),
            (true, true, 0),
            (false, true, 0),
            (true, false, 20),
            (true, true, 100),
        ] {
            let faults = Faults {
                changing,
                strange,
                stall,
                ..faults
            };
            for seed in 0..6 {
                let simulation = simulate(seed * 10 + n as u64, faults, 1_500);
                answered += simulation.answered;
                stale += simulation.stale * u64::from(stall == 0);
                stalled += simulation.stale * u64::from(stall > 0);
                all += simulation.answered + simulation.failed;
                if seed == 0 {
                    let seconds = simulation.time.now.as_secs_f64();
                    println!(
                        "{faults:?}: {} answered, {} failed, {} stale, {:.2} s a transaction",
                        simulation.answered,
                        simulation.failed,
                        simulation.stale,
                        seconds / 1_500.0
                    );
                }
            }
        }
    }
    println!("{answered} of {all} answered, {stale} stale");
    assert!(all >= 100_000);
    assert_eq!(stale, 0, "an answer to an earlier visit");
    // a line that behaved believes the same question's repeat (see the memory's limits); a process that waits makes it older
    assert!(
        stalled <= 2,
        "{stalled} answers to earlier visits behind a wait for the host"
    );
    assert!(answered * 10 > all * 6, "{answered} of {all}");
}

#[test]
fn a_clean_line_loses_no_time() {
    let clean = Faults {
        drop: 0,
        late: 0,
        repeat: 0,
        foreign: 0,
        noise: 0,
        beat: 0,
        refuse: 0,
        changing: true,
        strange: false,
        stall: 0,
    };
    let simulation = simulate(1, clean, 1_000);
    assert_eq!(simulation.failed, 0);
    assert!(
        simulation.time.now < Duration::from_secs(60),
        "{:?}",
        simulation.time.now
    );
}
