//! Who is asked next: priorities, turns, bounds and deadlines of what waits.

use super::*;

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
    line.feed(time.pass(10), reply(&read(1, 0), &[1, 2]), &[]);
    line.tick(time.pass(100));
    assert_eq!(
        ask(&mut line, &time),
        read(3, 0).wire(),
        "then control, before the rest of the visit"
    );
    line.feed(time.pass(10), reply(&read(3, 0), &[3, 2]), &[]);
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
        line.feed(time.pass(10), reply(&read(wire[0], 0), &[n, n]), &[]);
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
