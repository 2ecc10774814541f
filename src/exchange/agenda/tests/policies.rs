//! What a schedule's policies do: overlap, budget, priority.

use super::*;
use crate::domain::device::{Overlap, SlotPriority};
use crate::domain::schedule::{SettlementDay, SettlementTime, Timing};

/// Due each minute, windows of five: slots can run into each other.
fn minutely(overlap: Overlap) -> ScheduleRule {
    ScheduleRule {
        overlap,
        retry: RetryPolicy {
            deadline_s: 300,
            backoff_s: 200,
            ..RetryPolicy::default()
        },
        ..rule("* * * * *", 300)
    }
}

#[test]
fn skip_ends_what_comes_due_while_a_poll_runs() {
    let mut agenda = agenda(&[applied(1, minutely(Overlap::Skip))]);
    let order = poll(&mut agenda, 0);
    // the first poll takes more than a minute
    assert_eq!(end(&mut agenda, 60, true), [(60, MissReason::Overlap)]);
    let read = agenda.outcome(at(70), order.serial, good(1));
    assert_eq!(read.ended.by_reading.len(), 1);
    agenda.saved(&read.ended);
    // nothing of it is left to be read
    assert_eq!(agenda.wake(at(71), true), Action::Sleep);
    assert_eq!(poll(&mut agenda, 120).due_at, at(120));
}

#[test]
fn a_poll_between_two_tries_is_in_the_way_as_well() {
    let mut agenda = agenda(&[applied(1, minutely(Overlap::Skip))]);
    let order = poll(&mut agenda, 0);
    let failed = agenda.outcome(at(10), order.serial, bad(MissReason::Timeout));
    assert_eq!(failed.retry_at, Some(at(210)));
    assert_eq!(end(&mut agenda, 60, true), [(60, MissReason::Overlap)]);
    // one that lost its line waits for it and is in nobody's way
    let mut waits = self::agenda(&[applied(1, minutely(Overlap::Skip))]);
    let order = poll(&mut waits, 0);
    waits.outcome(at(10), order.serial, bad(MissReason::SessionLost));
    assert_eq!(waits.wake(at(60), false), Action::Sleep);
    assert_eq!(poll(&mut waits, 61).due_at, at(0));
}

#[test]
fn queue_one_keeps_the_newest_that_waits() {
    let mut agenda = agenda(&[applied(1, minutely(Overlap::QueueOne))]);
    let order = poll(&mut agenda, 0);
    assert_eq!(agenda.wake(at(60), true), Action::Sleep);
    assert_eq!(end(&mut agenda, 120, true), [(60, MissReason::Overlap)]);
    let read = agenda.outcome(at(130), order.serial, good(1));
    agenda.saved(&read.ended);
    assert_eq!(poll(&mut agenda, 131).due_at, at(120));
}

#[test]
fn slots_that_wait_for_the_line_do_not_overlap() {
    let mut agenda = agenda(&[applied(1, minutely(Overlap::Skip))]);
    assert_eq!(agenda.wake(at(200), false), Action::Sleep);
    let due: Vec<i64> = (0..4)
        .map(|n| {
            let order = poll(&mut agenda, 201 + n);
            let read = agenda.outcome(at(201 + n), order.serial, good(201 + n));
            agenda.saved(&read.ended);
            (order.due_at - at(0)).num_seconds()
        })
        .collect();
    assert_eq!(due, [0, 60, 120, 180]);
}

#[test]
fn another_schedule_is_not_in_the_way() {
    let fast = minutely(Overlap::Skip);
    let slow = ScheduleRule {
        overlap: Overlap::Skip,
        ..rule("1 * * * *", 300)
    };
    let mut agenda = agenda(&[applied(1, fast), applied(2, slow)]);
    let order = poll(&mut agenda, 0);
    assert_eq!(end(&mut agenda, 60, true), [(60, MissReason::Overlap)]);
    let read = agenda.outcome(at(70), order.serial, good(1));
    agenda.saved(&read.ended);
    let order = poll(&mut agenda, 71);
    assert_eq!(
        order.slots,
        [SlotKey {
            due_at: at(60),
            schedule: ScheduleId(2)
        }]
    );
}

#[test]
fn the_budget_ends_the_tries_before_the_deadline() {
    let frugal = |budget| {
        let mut frugal = rule("0 * * * *", 300);
        frugal.retry.budget = budget;
        frugal
    };
    // each failed poll costs three attempts
    for (budget, polls) in [(Some(1), 1), (Some(3), 1), (Some(4), 2), (Some(6), 2), (None, 4)] {
        let mut agenda = agenda(&[applied(1, frugal(budget))]);
        let (mut now, mut sent) = (0, 0);
        while let Action::Poll(order) = agenda.wake(at(now), true) {
            sent += 1;
            let failed = agenda.outcome(at(now + 1), order.serial, bad(MissReason::Undecodable));
            match failed.retry_at {
                Some(again) => now = (again - at(0)).num_seconds(),
                None => {
                    assert_eq!(reasons(&failed.ended), [(0, MissReason::Undecodable)]);
                    break;
                }
            }
        }
        assert_eq!(sent, polls, "{budget:?}");
    }
}

#[test]
fn a_settlement_goes_first_and_says_so_to_the_line() {
    let settlement = ScheduleRule {
        timing: Timing::Settlement(SettlementTime {
            day: SettlementDay::Day(1),
            hour: 0,
            minute: 1,
        }),
        priority: SlotPriority::Settlement,
        ..rule("", 3600)
    };
    let idle = ScheduleRule {
        priority: SlotPriority::BackFill,
        ..rule("0 * * * *", 3600)
    };
    let mut agenda = agenda(&[
        applied(1, rule("0 * * * *", 3600)),
        applied(2, settlement),
        applied(3, idle),
    ]);
    assert_eq!(agenda.wake(at(100), false), Action::Sleep);
    let order = poll(&mut agenda, 101);
    assert_eq!((order.due_at, order.priority), (at(60), Priority::Settlement));
    let read = agenda.outcome(at(102), order.serial, good(101));
    agenda.saved(&read.ended);
    // slots of one instant go by the first priority among them
    let order = poll(&mut agenda, 103);
    assert_eq!(
        (order.due_at, order.priority, order.slots.len()),
        (at(0), Priority::Scheduled, 2)
    );
}
