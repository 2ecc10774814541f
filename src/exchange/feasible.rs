//! Whether the schedules of a line fit into its time: from what each visit takes, the line time that a day needs and has,
//! the slots that would begin behind their windows, and which schedules to drop so that the rest fits. Pure.
//!
//! The line is taken as one machine that serves the visit whose window ends first among those that are due; no visit is
//! cut into. That is the best any order can do, nearly, so what does not fit here fits nowhere.

use super::agenda::start_delay;
use crate::base::ids::{MeterId, ScheduleId};
use crate::domain::quantity::Quantity;
use crate::domain::slot::plan::{DuePoll, SlotPlan};
use crate::protocol::{Protocol, Request};
use chrono::{DateTime, TimeDelta, Utc};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// Visits that are looked at; a line with more of them in a day is judged by the part of the day that they fill.
pub const VISITS_MAX: usize = 20_000;
/// Schedules named for dropping at most.
const DROPS_MAX: usize = 8;
/// What a meter takes before it answers, until it is known.
pub const TURNAROUND_GUESS: Duration = Duration::from_millis(150);
/// Bytes of an answer of which only the most is known, until it is known better.
const ANSWER_GUESS: usize = 40;

/// A meter on the line, with what its visits take.
#[derive(Clone, Debug)]
pub struct LoadOfMeter {
    /// The meter.
    pub meter: MeterId,
    /// Its schedules.
    pub plan: SlotPlan,
    /// What a visit takes, by the quantities that it asks for (as the schedules have them; empty: all).
    pub visits: Vec<(Vec<Quantity>, Duration)>,
}

/// What a schedule takes of the line.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOfSchedule {
    /// The schedule.
    pub schedule: ScheduleId,
    /// Its slots in the time looked at.
    pub slots: u64,
    /// The line time of its slots.
    pub takes: Duration,
    /// Slots that begin behind their window.
    pub behind: u64,
}

/// What the schedules of a line need and have.
#[derive(Clone, Debug, PartialEq)]
pub struct LinePlan {
    /// Looked at from here on.
    pub from: DateTime<Utc>,
    /// Until here.
    pub to: DateTime<Utc>,
    /// The line time that all visits take.
    pub needs: Duration,
    /// The fullest hour's share, 0 to 1 and above.
    pub fullest_hour: f64,
    /// Slots looked at.
    pub slots: u64,
    /// Slots that begin behind their windows.
    pub behind: u64,
    /// By schedule, the one that takes most first.
    pub schedules: Vec<LoadOfSchedule>,
    /// Schedules without which the rest fits, or as many as are named at most; empty when all fit.
    pub drop: Vec<ScheduleId>,
}

impl LinePlan {
    /// Whether every slot begins within its window.
    pub fn fits(&self) -> bool {
        self.behind == 0
    }

    /// The part of the time that the line is busy, 0 to 1 and above.
    pub fn share(&self) -> f64 {
        let has = (self.to - self.from).to_std().unwrap_or_default().as_secs_f64();
        if has > 0.0 { self.needs.as_secs_f64() / has } else { 0.0 }
    }
}

/// What a visit with these questions takes: bytes out, turnaround, bytes in, rest. `answer_bytes` is what was learned of
/// the meter's answers.
pub fn visit_time(
    requests: &[Request],
    byte_time: Duration,
    turnaround: Duration,
    pause: Duration,
    answer_bytes: Option<u32>,
) -> Duration {
    let one = |request: &Request| {
        let most = request.answer_len_max();
        let answer = match request.protocol() {
            // the length follows from the question
            Protocol::ModbusRtu | Protocol::ModbusTcp => most,
            _ => most.min(answer_bytes.map_or(ANSWER_GUESS, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))),
        };
        let bytes = u32::try_from(request.wire().len().saturating_add(answer)).unwrap_or(u32::MAX);
        turnaround + pause + byte_time.saturating_mul(bytes)
    };
    requests.iter().map(one).sum()
}

struct Visit {
    ready: DateTime<Utc>,
    takes: Duration,
    due_at: DateTime<Utc>,
    /// Its slots, with the latest begin of each.
    slots: Vec<(ScheduleId, DateTime<Utc>)>,
}

impl Visit {
    /// The slots that are left when some schedules are dropped.
    fn left<'a>(&'a self, dropped: &'a [ScheduleId]) -> impl Iterator<Item = &'a (ScheduleId, DateTime<Utc>)> {
        self.slots.iter().filter(|(schedule, _)| !dropped.contains(schedule))
    }
}

/// Judges the schedules of a line over `[from, from + span)`.
pub fn judge(loads: &[LoadOfMeter], from: DateTime<Utc>, span: TimeDelta) -> LinePlan {
    let (visits, to) = visits(loads, from, from + span);
    let mut plan = run(&visits, &[], from, to);
    let mut dropped = Vec::new();
    let mut left = plan.clone();
    while !left.fits() && dropped.len() < DROPS_MAX {
        let Some(most) = left.schedules.first() else { break };
        dropped.push(most.schedule);
        left = run(&visits, &dropped, from, to);
    }
    plan.drop = dropped;
    plan
}

fn visits(loads: &[LoadOfMeter], from: DateTime<Utc>, to: DateTime<Utc>) -> (Vec<Visit>, DateTime<Utc>) {
    let mut found = Vec::new();
    let each = VISITS_MAX / loads.len().max(1);
    let mut until = to;
    for load in loads {
        for (count, poll) in load.plan.due_between(from, until).enumerate() {
            if count >= each {
                until = poll.due_at;
                break;
            }
            found.push(visit(load, &poll));
        }
    }
    found.retain(|visit: &Visit| visit.due_at < until);
    found.sort_by_key(|visit| visit.ready);
    (found, until)
}

fn visit(load: &LoadOfMeter, poll: &DuePoll) -> Visit {
    let delay = TimeDelta::seconds(i64::from(start_delay(load.meter, poll)));
    let window = |slot: &crate::domain::slot::plan::DueSlot| TimeDelta::seconds(i64::from(slot.rule.window_s));
    Visit {
        ready: poll.due_at + delay,
        takes: takes(load, poll),
        due_at: poll.due_at,
        slots: poll
            .slots
            .iter()
            .map(|slot| (slot.schedule, slot.due_at + window(slot)))
            .collect(),
    }
}

/// What the one visit for all slots of an instant takes: never more than reading everything.
fn takes(load: &LoadOfMeter, poll: &DuePoll) -> Duration {
    let of = |wanted: &[Quantity]| {
        let known = load.visits.iter().find(|(set, _)| set.as_slice() == wanted);
        known.map(|(_, takes)| *takes)
    };
    let all = of(&[]).unwrap_or_default();
    let mut sets: Vec<&[Quantity]> = poll.slots.iter().map(|slot| &*slot.rule.quantities).collect();
    sets.sort_unstable();
    sets.dedup();
    let sum = sets.iter().map(|set| of(set).unwrap_or(all)).sum::<Duration>();
    if all.is_zero() { sum } else { sum.min(all) }
}

/// Lets the line serve the visits, those of `dropped` schedules left out.
fn run(visits: &[Visit], dropped: &[ScheduleId], from: DateTime<Utc>, to: DateTime<Utc>) -> LinePlan {
    let mut by_schedule: BTreeMap<ScheduleId, LoadOfSchedule> = BTreeMap::new();
    let mut hours: BTreeMap<i64, Duration> = BTreeMap::new();
    let (mut needs, mut slots, mut behind) = (Duration::ZERO, 0, 0);
    let mut coming = visits.iter().peekable();
    let mut ready: BinaryHeap<Reverse<(DateTime<Utc>, usize)>> = BinaryHeap::new();
    let mut held: Vec<&Visit> = Vec::new();
    let mut now = from;
    loop {
        while let Some(visit) = coming.next_if(|visit| visit.ready <= now || ready.is_empty()) {
            let Some(first) = visit.left(dropped).map(|(_, latest)| *latest).min() else {
                continue;
            };
            now = now.max(visit.ready);
            ready.push(Reverse((first, held.len())));
            held.push(visit);
        }
        let Some(Reverse((_, place))) = ready.pop() else {
            break;
        };
        let Some(visit) = held.get(place) else { break };
        let shares = u32::try_from(visit.left(dropped).count()).unwrap_or(1).max(1);
        for (schedule, latest) in visit.left(dropped) {
            let late = now > *latest;
            let load = by_schedule.entry(*schedule).or_insert(LoadOfSchedule {
                schedule: *schedule,
                slots: 0,
                takes: Duration::ZERO,
                behind: 0,
            });
            load.slots += 1;
            load.takes += visit.takes / shares;
            load.behind += u64::from(late);
            slots += 1;
            behind += u64::from(late);
        }
        *hours.entry(now.timestamp().div_euclid(3_600)).or_default() += visit.takes;
        needs += visit.takes;
        now += TimeDelta::from_std(visit.takes).unwrap_or_default();
    }
    let mut schedules: Vec<LoadOfSchedule> = by_schedule.into_values().collect();
    schedules.sort_by_key(|load| Reverse(load.takes));
    let fullest = hours.values().max().copied().unwrap_or_default();
    LinePlan {
        from,
        to,
        needs,
        fullest_hour: fullest.as_secs_f64() / 3_600.0,
        slots,
        behind,
        schedules,
        drop: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::device::{AppliedSchedule, ScheduleRule};
    use crate::domain::slot::plan::RuleShelf;
    use crate::exchange::job::byte_time;
    use crate::protocol::modbus::{self, Function};
    use std::sync::Arc;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    fn applied(id: i32, cron: &str, window_s: u32) -> AppliedSchedule {
        let rule = ScheduleRule {
            window_s,
            spread_s: 0,
            ..ScheduleRule::by_cron(cron, "UTC", at(-86_400))
        };
        AppliedSchedule {
            schedule: ScheduleId(id),
            valid_from: rule.valid_from,
            valid_to: None,
            rules: Arc::new(vec![rule]),
        }
    }

    fn loads(meters: i32, schedules: &[AppliedSchedule], takes_ms: u64) -> Vec<LoadOfMeter> {
        let mut shelf = RuleShelf::default();
        let load = |meter| LoadOfMeter {
            meter: MeterId(meter),
            plan: SlotPlan::compile(schedules, &mut shelf).0,
            visits: vec![(Vec::new(), Duration::from_millis(takes_ms))],
        };
        (1..=meters).map(load).collect()
    }

    #[test]
    fn a_day_that_fits_says_what_it_takes() {
        // 20 meters, 1.5 s each, every 15 minutes
        let plan = judge(
            &loads(20, &[applied(1, "*/15 * * * *", 300)], 1_500),
            at(0),
            TimeDelta::days(1),
        );
        assert!(plan.fits() && plan.drop.is_empty());
        assert_eq!(
            (plan.slots, plan.needs),
            (20 * 96, Duration::from_secs(20 * 96 * 3 / 2))
        );
        assert!((plan.share() - 1.5 * 20.0 / 900.0).abs() < 1e-9, "{}", plan.share());
        assert!((plan.fullest_hour - 1.5 * 20.0 / 900.0).abs() < 1e-3);
        assert_eq!(plan.to, at(86_400));
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_to_drop() {
        // every minute 40 visits of 2 s: 80 s of line time in 60 s; and an hourly one that fits well
        let schedules = [applied(1, "* * * * *", 50), applied(2, "0 * * * *", 1_800)];
        let plan = judge(&loads(40, &schedules, 2_000), at(0), TimeDelta::hours(4));
        assert!(
            !plan.fits() && plan.share() > 1.3 && plan.fullest_hour > 0.99,
            "{plan:?}"
        );
        assert_eq!(plan.drop, [ScheduleId(1)]);
        assert_eq!(plan.schedules[0].schedule, ScheduleId(1));
        assert!(plan.behind > 1_000 && plan.schedules[0].behind > 1_000);
        let left = judge(&loads(40, &schedules[1..], 2_000), at(0), TimeDelta::hours(4));
        assert!(left.fits());
        // half of the time is enough in all, but not within ten seconds
        let tight = judge(
            &loads(40, &[applied(3, "*/3 * * * *", 10)], 2_000),
            at(0),
            TimeDelta::hours(1),
        );
        assert!(tight.share() < 0.5 && tight.behind > 0);
        let wide = judge(
            &loads(40, &[applied(3, "*/3 * * * *", 90)], 2_000),
            at(0),
            TimeDelta::hours(1),
        );
        assert!(wide.fits(), "{wide:?}");
    }

    #[test]
    fn slots_of_one_instant_share_a_visit_and_the_work_is_bounded() {
        let both = [applied(1, "0 * * * *", 300), applied(2, "*/30 * * * *", 300)];
        let plan = judge(&loads(1, &both, 3_000), at(0), TimeDelta::hours(10));
        assert_eq!((plan.slots, plan.needs), (10 + 20, Duration::from_secs(20 * 3)));
        let busy = judge(
            &loads(250, &[applied(1, "* * * * *", 50)], 10),
            at(0),
            TimeDelta::days(1),
        );
        assert!(
            busy.slots <= u64::try_from(VISITS_MAX).unwrap() && busy.to < at(86_400),
            "{busy:?}"
        );
        assert!((busy.share() - 250.0 * 0.01 / 60.0).abs() < 1e-3, "{}", busy.share());
        assert_eq!(judge(&[], at(0), TimeDelta::days(1)).share(), 0.0);
    }

    #[test]
    fn a_visit_takes_its_bytes_turnarounds_and_rests() {
        let request = modbus::Request::read(1, Function::ReadHoldingRegisters, 0, 10).unwrap();
        let requests = [Request::Modbus(request.clone()), Request::Modbus(request)];
        let byte = byte_time(9_600, false, 1);
        let takes = visit_time(
            &requests,
            byte,
            Duration::from_millis(100),
            Duration::from_millis(20),
            None,
        );
        assert_eq!(takes, (byte * (8 + 25) + Duration::from_millis(120)) * 2);
    }
}
