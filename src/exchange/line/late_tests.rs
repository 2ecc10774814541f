//! Answers that come late, twice or with the bytes of another: hand-written cases.

use super::*;

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
    line.feed(time.pass(10), reply(&first, &[100, 100]), &[]);
    line.feed(time.pass(10), reply(&other, &[5, 5]), &[]);
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
    line.feed(time.pass(30), reply(&first, &[1, 1]), &[]);
    assert_eq!(ask(&mut line, &time), second.wire());
    line.feed(time.pass(5), reply(&first, &[1, 1]), &[]);
    line.feed(time.pass(25), reply(&second, &[2, 2]), &[]);
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
    line.feed(time.pass(30), reply(&first, &[1, 1]), &[]);
    assert_eq!(ask(&mut line, &time), second.wire());
    // the second's answer is lost; it is asked again before the first answer's horizon is over
    line.tick(time.pass(1_000));
    line.tick(time.pass(500));
    assert_eq!(ask(&mut line, &time), second.wire());
    line.feed(time.pass(900), reply(&first, &[1, 1]), &[]);
    line.feed(time.pass(5), reply(&second, &[2, 2]), &[]);
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
            line.feed(time.pass(30), reply(&first, &[0, 0]), &[]);
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
        line.feed(time.pass(10), reply(&read(1, 0), &[230, 230]), &[]);
        assert_eq!(only(done(&mut line)).reports[0].attempts, 1);
    }
    assert_eq!(time.now, Duration::from_secs(1));
}
