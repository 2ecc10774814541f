//! Answers in parts: a part behind the first says nothing of the question, and its question is the same for every answer.

use super::tests::{Time, ask, done, job, line, only};
use crate::exchange::job::Priority;
use crate::protocol::Request;
use crate::protocol::dlt698::{
    self, Address, Answered, Apdu, CLIENT, Control, Data, Frame, GetResult, ItemResult, Oad, Piid, ValueResult, split,
};

const PARTS: usize = 4;

fn meter() -> Address {
    Address::parse("000000000042").unwrap()
}

fn question(oi: u16) -> dlt698::Request {
    dlt698::Request::get(meter(), Piid::new(1), &[Oad::new(oi, 2)]).unwrap()
}

/// A long answer about `oi`, whose value is so many of one number, in its frames.
fn answer(oi: u16, number: u64) -> Vec<Vec<u8>> {
    let result = ItemResult {
        oad: Oad::new(oi, 2),
        result: ValueResult::Data(Data::Array(vec![Data::UInt64(number); 40])),
    };
    let apdu = Apdu::GetAnswer(Answered::new(Piid::new(1), GetResult::Normal(result))).wire();
    let frames: Vec<Vec<u8>> = split(&apdu, apdu.len().div_ceil(PARTS))
        .iter()
        .map(|part| {
            Frame::new(Control::ANSWER.segmented(), meter(), CLIENT, part.wire())
                .unwrap()
                .wire()
        })
        .collect();
    assert_eq!(frames.len(), PARTS);
    frames
}

/// On a line that never misbehaved, each part of an answer to one question comes again as the same part of the next one's.
#[test]
fn a_part_said_again_is_not_joined_into_another_answer() {
    for repeated in 1..PARTS {
        let mut time = Time::new();
        let mut line = line(&time);
        let (first, second) = (question(0x0010), question(0x0020));
        let (old, new) = (answer(0x0010, 1), answer(0x0020, 2));
        let requests = vec![Request::Dlt698(first), Request::Dlt698(second)];
        line.submit(time.moment(), job(&time, 1, 1, Priority::Scheduled, requests))
            .unwrap();
        for part in &old {
            ask(&mut line, &time);
            line.feed(time.pass(30), part, &[]);
        }
        for (place, part) in new.iter().enumerate() {
            // behind the repeat the line waits for quiet
            while !line.wants_to_ask(time.moment()) {
                line.tick(time.pass(50));
            }
            ask(&mut line, &time);
            if place == repeated {
                line.feed(time.pass(5), &old[repeated], &[]);
            }
            line.feed(time.pass(25), part, &[]);
        }
        let outcome = only(done(&mut line));
        assert_eq!(outcome.reports[0].result, Ok(old.concat()), "part {repeated}");
        assert_eq!(outcome.reports[1].result, Ok(new.concat()), "part {repeated}");
        assert_eq!(line.stats().strays, 1);
    }
}

/// The same list read again and again has the same parts, and costs no wait.
#[test]
fn the_same_parts_of_the_same_answer_cost_nothing() {
    let mut time = Time::new();
    let mut line = line(&time);
    let requests = vec![Request::Dlt698(question(0x0010)); 3];
    line.submit(time.moment(), job(&time, 1, 1, Priority::Scheduled, requests))
        .unwrap();
    for _ in 0..3 {
        for part in answer(0x0010, 1) {
            ask(&mut line, &time);
            line.feed(time.pass(30), &part, &[]);
        }
    }
    let outcome = only(done(&mut line));
    assert_eq!(outcome.reports.len(), 3);
    assert!(
        outcome
            .reports
            .iter()
            .all(|report| report.result == Ok(answer(0x0010, 1).concat()))
    );
    assert_eq!(line.stats().strays, 0);
}
