//! What each written question tells of its turn: how long it waited, how long it held the line, how it ended.

use super::tests::{T, Time, ask, done, job, line, only, read, refusal, reply};
use super::*;
use crate::exchange::job::Priority;
use crate::exchange::turn::{Turn, TurnEnding};
use crate::exchange::visit::VisitOutcome;

fn turns(outcome: &VisitOutcome) -> Vec<(u32, u32, TurnEnding)> {
    let of_requests = |turn: Turn| (turn.waited_ms, turn.held_ms, turn.ending);
    outcome
        .frames
        .iter()
        .filter_map(|frame| frame.turn)
        .map(of_requests)
        .collect()
}

#[test]
fn answered_and_refused_questions_tell_their_wait_and_their_time_on_the_line() {
    let mut time = Time::new();
    let mut line = line(&time);
    let (later, sooner, next) = (read(1, 0), read(2, 0), read(2, 8));
    let jobs = [
        job(&time, 1, 1, Priority::Scheduled, vec![later.clone()]),
        job(&time, 2, 2, Priority::OnDemand, vec![sooner.clone(), next.clone()]),
    ];
    for job in jobs {
        line.submit(time.moment(), job).unwrap();
    }
    time.pass(10);
    assert_eq!(ask(&mut line, &time), sooner.wire());
    line.feed(time.pass(30), reply(&sooner, &[1, 2]), &[]);
    time.pass(5);
    assert_eq!(ask(&mut line, &time), next.wire());
    line.feed(time.pass(40), refusal(&next, 2), &[]);
    let outcome = only(done(&mut line));
    assert_eq!(
        turns(&outcome),
        [(10, 30, TurnEnding::Answered), (5, 40, TurnEnding::Refused)]
    );
    let first = outcome.frames.first().unwrap();
    assert_eq!(first.turn.unwrap().priority, Priority::OnDemand);
    assert!(
        outcome
            .frames
            .iter()
            .all(|frame| frame.turn.is_some() == (frame.kind == LineFrameKind::Request))
    );
    assert_eq!(ask(&mut line, &time), later.wire());
    line.feed(time.pass(25), reply(&later, &[3, 4]), &[]);
    assert_eq!(turns(&only(done(&mut line))), [(85, 25, TurnEnding::Answered)]);
}

#[test]
fn every_attempt_is_a_question_of_its_own_and_one_that_is_cut_says_so() {
    let mut time = Time::new();
    let mut line = line(&time);
    let question = read(1, 0);
    let twice = PollJob {
        attempts: 2,
        ..job(&time, 1, 1, Priority::Scheduled, vec![question.clone()])
    };
    line.submit(time.moment(), twice).unwrap();
    ask(&mut line, &time);
    line.tick(time.pass(1_000));
    let mut waited = 0;
    while line.ask(time.moment()).is_none() {
        waited += 10;
        time.pass(10);
        assert!(waited < 60_000, "the second attempt is never made");
    }
    line.written(time.moment());
    let end = line.next_deadline(time.moment()).unwrap();
    let left = end.duration_since(time.moment().on);
    assert_eq!(left, T);
    line.tick(time.pass(1_000));
    assert_eq!(
        turns(&only(done(&mut line))),
        [(0, 1_000, TurnEnding::Timeout), (waited, 1_000, TurnEnding::Timeout)]
    );
    let cut = job(&time, 2, 2, Priority::Scheduled, vec![read(2, 0), read(2, 8)]);
    line.submit(time.moment(), cut).unwrap();
    while line.ask(time.moment()).is_none() {
        time.pass(10);
    }
    line.written(time.moment());
    line.end(time.pass(7));
    let outcome = only(done(&mut line));
    assert_eq!(turns(&outcome).first().unwrap().2, TurnEnding::SessionLost);
}
