//! The line against hand-written cases.

use super::*;
use crate::base::ids::PollId;
use crate::exchange::job::{Priority, TransactionError};
use crate::exchange::visit::VisitOutcome;
use crate::protocol::modbus::{self, Function, Reply};
use crate::protocol::{Finding, Request, Verdict};
use chrono::{DateTime, TimeDelta, Utc};

pub(super) const T: Duration = Duration::from_millis(1_000);

#[path = "late_tests.rs"]
mod late;
#[path = "queue_tests.rs"]
mod queue;
#[path = "simulated_tests.rs"]
mod simulated;

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
    line.feed(time.pass(10), refusal(&read(1, 0), 2), &[]);
    assert!(done(&mut line).is_empty());
    let registers: Vec<u16> = (0..9).collect();
    line.feed(time.pass(10), reply(&wide, &registers), &[]);
    assert_eq!(only(done(&mut line)).reports[0].result, Ok(reply(&wide, &registers)));
    // with nothing owed a refusal counts
    line.submit(time.moment(), job(&time, 3, 2, Priority::Scheduled, vec![read(2, 0)]))
        .unwrap();
    line.tick(time.pass(5_000));
    ask(&mut line, &time);
    line.feed(time.pass(10), refusal(&read(2, 0), 2), &[]);
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
    line.feed(time.pass(5), reply(&read(1, 0), &[1, 2]), &[]);
    line.feed(time.pass(500), reply(&read(9, 0), &[1, 2]), &[]);
    let mut unasked = Vec::new();
    while let Some(event) = line.event() {
        match event {
            LineEvent::Unasked(frame) => unasked.push((frame.kind, frame.bytes.to_vec())),
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
    line.feed(time.pass(1), reply(&read(1, 0), &[4, 5]), &[]);
    assert_eq!(only(done(&mut line)).reports[0].result, Ok(reply(&read(1, 0), &[4, 5])));
}
