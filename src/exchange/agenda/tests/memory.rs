//! Missed slots that the meter's own memory answers.

use super::*;
use crate::domain::schedule::{SettlementDay, SettlementTime, Timing};

const DAY: i64 = 86_400;

/// Due at two in the night, an hour long.
fn nightly(missed_run: MissedRun) -> ScheduleRule {
    ScheduleRule {
        missed_run,
        ..rule("0 2 * * *", 3600)
    }
}

fn with_memory(rule: ScheduleRule, days: u8, settlements: u8) -> Agenda {
    let mut agenda = agenda(&[applied(1, rule)]);
    agenda.set_memory(MeterMemory { days, settlements });
    agenda
}

/// Lets the line be away until `until`: everything due by then ends as missing.
fn away(agenda: &mut Agenda, until: i64) {
    while let Action::End(ended) = agenda.wake(at(until), false) {
        agenda.saved(&ended);
    }
}

/// The next poll once the line is back; late reads are spread over a minute.
fn back(agenda: &mut Agenda, now: i64) -> PollOrder {
    assert_eq!(agenda.wake(at(now), true), Action::Sleep);
    poll(agenda, now + 61)
}

fn asked(order: &PollOrder) -> (PastKind, u8) {
    let past = order.past.expect("a past state");
    assert_eq!((order.priority, order.catch_up), (Priority::BackFill, true));
    (past.kind, past.back)
}

fn lates(ended: &Ended) -> Vec<i64> {
    assert!(ended.by_reading.is_empty());
    ended
        .endings
        .iter()
        .map(|ending| {
            assert_eq!(ending.state, SlotState::Late);
            (ending.due_at - at(0)).num_seconds()
        })
        .collect()
}

#[test]
fn a_daily_slot_missed_during_a_cut_is_filled_from_the_freeze() {
    let mut agenda = with_memory(nightly(MissedRun::Once), 62, 0);
    away(&mut agenda, 2 * DAY + 20_000);
    // two nights were missed; `once` catches up the newest, and not by a live read
    let order = back(&mut agenda, 2 * DAY + 30_000);
    assert_eq!(asked(&order), (PastKind::Daily, 1));
    assert_eq!(order.slots.len(), 1);
    let filled = agenda.past_outcome(
        at(2 * DAY + 30_070),
        order.serial,
        good(2 * DAY + 30_065),
        Some(at(2 * DAY)),
    );
    assert!(filled.store);
    assert_eq!(lates(&filled.ended), [2 * DAY + 7200]);
    agenda.saved(&filled.ended);
    assert_eq!(agenda.wake(at(2 * DAY + 40_000), true), Action::Sleep);
}

#[test]
fn all_fills_each_missed_day_the_newest_first() {
    let mut agenda = with_memory(nightly(MissedRun::All), 62, 0);
    away(&mut agenda, 3 * DAY + 20_000);
    let mut now = 3 * DAY + 30_000;
    let mut order = back(&mut agenda, now);
    for (n, day) in [3, 2, 1, 0].into_iter().enumerate() {
        now += 100;
        assert_eq!(asked(&order), (PastKind::Daily, u8::try_from(n + 1).unwrap()));
        let filled = agenda.past_outcome(at(now), order.serial, good(now), Some(at(day * DAY)));
        assert_eq!(lates(&filled.ended), [day * DAY + 7200]);
        agenda.saved(&filled.ended);
        if day > 0 {
            order = poll(&mut agenda, now + 1);
        }
    }
    assert_eq!(agenda.wake(at(now + 500), true), Action::Sleep);
}

#[test]
fn a_meter_without_power_at_midnight_has_one_freeze_less() {
    let mut agenda = with_memory(nightly(MissedRun::All), 62, 0);
    away(&mut agenda, DAY + 20_000);
    let order = back(&mut agenda, DAY + 30_000);
    assert_eq!(asked(&order), (PastKind::Daily, 1));
    // its last freeze is that of the day before: there is none of this midnight, and the slot takes a late live read
    let other = agenda.past_outcome(at(DAY + 30_100), order.serial, good(DAY + 30_100), Some(at(0)));
    assert!(!other.store && other.ended.is_empty());
    // the other slot asks for the last but one, which is a day too old, and finds its own as the last
    let order = poll(&mut agenda, DAY + 30_101);
    assert_eq!((asked(&order), order.due_at), ((PastKind::Daily, 2), at(7200)));
    let older = agenda.past_outcome(at(DAY + 30_102), order.serial, good(DAY + 30_102), Some(at(-DAY)));
    assert!(!older.store);
    let order = poll(&mut agenda, DAY + 30_103);
    assert_eq!((asked(&order), order.due_at), ((PastKind::Daily, 1), at(7200)));
    let filled = agenda.past_outcome(at(DAY + 30_104), order.serial, good(DAY + 30_104), Some(at(0)));
    assert_eq!(lates(&filled.ended), [7200]);
    agenda.saved(&filled.ended);
    let live = poll(&mut agenda, DAY + 30_200);
    assert_eq!((live.past, live.due_at), (None, at(DAY + 7200)));
}

#[test]
fn what_the_memory_does_not_hold_is_read_live_and_late() {
    // past the next midnight the freeze is number 2, and the meter keeps 1
    let mut agenda = with_memory(nightly(MissedRun::Once), 1, 0);
    away(&mut agenda, 20_000);
    assert_eq!(agenda.wake(at(DAY + 3_000), true), Action::Sleep);
    assert_eq!(agenda.wake(at(DAY + 3_061), true), Action::Sleep);
    let live = poll(&mut agenda, DAY + 3_130);
    assert_eq!((live.past, live.due_at), (None, at(7200)));
    // the meter refuses, or does not say of which day its freeze is
    for (verdict, time) in [(bad(MissReason::Exception), None), (good(30_070), None)] {
        let mut agenda = with_memory(nightly(MissedRun::Once), 62, 0);
        away(&mut agenda, 20_000);
        let order = back(&mut agenda, 30_000);
        asked(&order);
        assert!(!agenda.past_outcome(at(30_070), order.serial, verdict, time).store);
        let live = poll(&mut agenda, 30_200);
        assert_eq!((live.past, live.due_at), (None, at(7200)));
    }
}

#[test]
fn quarters_ask_for_midnight_alone_and_skip_for_nothing() {
    let quarters = ScheduleRule {
        missed_run: MissedRun::All,
        ..rule("*/15 * * * *", 600)
    };
    let mut agenda = with_memory(quarters, 62, 0);
    away(&mut agenda, 5_110);
    // the newest of the others is read live first
    let live = back(&mut agenda, 5_120);
    assert_eq!((live.past, live.due_at), (None, at(4_500)));
    let read = agenda.outcome(at(5_190), live.serial, good(5_185));
    agenda.saved(&read.ended);
    let order = poll(&mut agenda, 5_191);
    assert_eq!((asked(&order), order.due_at), ((PastKind::Daily, 1), at(0)));

    let mut skips = with_memory(nightly(MissedRun::Skip), 62, 12);
    away(&mut skips, 20_000);
    assert_eq!(skips.wake(at(20_100), true), Action::Sleep);
    assert_eq!(skips.wake(at(20_200), true), Action::Sleep);
}

#[test]
fn a_settlement_asks_for_the_settlement_and_then_for_the_freeze() {
    let monthly = ScheduleRule {
        timing: Timing::Settlement(SettlementTime {
            day: SettlementDay::Day(1),
            hour: 0,
            minute: 0,
        }),
        missed_run: MissedRun::All,
        ..rule("", 3600)
    };
    let mut agenda = with_memory(monthly, 62, 12);
    // 1 January and 1 February are missed
    away(&mut agenda, 35 * DAY);
    let order = back(&mut agenda, 36 * DAY);
    assert_eq!(asked(&order), (PastKind::Settlement, 1));
    let filled = agenda.past_outcome(
        at(36 * DAY + 70),
        order.serial,
        good(36 * DAY + 70),
        Some(at(31 * DAY + 600)),
    );
    assert_eq!(lates(&filled.ended), [31 * DAY]);
    agenda.saved(&filled.ended);
    let order = poll(&mut agenda, 36 * DAY + 100);
    assert_eq!(asked(&order), (PastKind::Settlement, 2));
    agenda.past_outcome(at(36 * DAY + 110), order.serial, bad(MissReason::Exception), None);
    let order = poll(&mut agenda, 36 * DAY + 200);
    assert_eq!(asked(&order), (PastKind::Daily, 37));
}

#[test]
fn a_lost_line_is_waited_for_and_a_silent_meter_given_up() {
    let mut agenda = with_memory(nightly(MissedRun::Once), 62, 0);
    away(&mut agenda, 20_000);
    let order = back(&mut agenda, 30_000);
    let lost = agenda.past_outcome(at(30_070), order.serial, bad(MissReason::SessionLost), None);
    assert!(lost.retry_at.is_some());
    let mut order = poll(&mut agenda, 30_200);
    asked(&order);
    let mut now = 30_300;
    for _ in 0..2 {
        let failed = agenda.past_outcome(at(now), order.serial, bad(MissReason::LineBusy), None);
        now = (failed.retry_at.unwrap() - at(0)).num_seconds();
        order = poll(&mut agenda, now);
        asked(&order);
    }
    let failed = agenda.past_outcome(at(now + 1), order.serial, bad(MissReason::LineBusy), None);
    assert_eq!(failed.retry_at, None);
    assert_eq!(poll(&mut agenda, now + 200).past, None);
}
