//! The agenda against a model: random schedules, outages, outcomes, restarts and edits. The model keeps a ledger of what
//! was made durable and the whole dated history, and in the end compares: every slot that was due has exactly one first
//! ending, none early, none later than its window (plus the running attempt), each for a reason that was true.

use super::super::order::key_of;
use super::super::*;
use crate::base::ids::ScheduleId;
use crate::domain::device::{AppliedSchedule, MissedRun, Overlap, RetryPolicy, ScheduleRule};
use crate::domain::quantity::Quantity;
use crate::domain::slot::SlotState;
use crate::domain::slot::plan::RuleShelf;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A run of the line lasts at most so long, and a wake is at most so late, seconds.
const RUN_MAX: i64 = 40;
const LATE_MAX: i64 = 3;

fn at(seconds: i64) -> DateTime<Utc> {
    // half an hour before Berlin's clocks go forward in 2026
    "2026-03-29T00:30:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

/// The due time as seconds, for reading a failure.
fn seconds(at_: DateTime<Utc>) -> i64 {
    (at_ - at(0)).num_seconds()
}

#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    Session(bool),
    Restart { down_s: i64 },
    Edit { late_s: i64, rules: Vec<ScheduleRule> },
    Watermark,
}

/// What the line will do with a poll: how long it takes, when its first attempt begins, and what comes.
#[derive(Clone, Debug)]
struct Fate {
    wait_s: i64,
    run_s: i64,
    got: u8,
    late_wake_s: i64,
}

#[derive(Clone, Debug)]
struct Version {
    state: SlotState,
    reason: Option<MissReason>,
    ended_at: DateTime<Utc>,
}

struct World {
    now: DateTime<Utc>,
    online: bool,
    agenda: Agenda,
    history: Vec<AppliedSchedule>,
    watermark: DateTime<Utc>,
    running: Option<(PollOrder, DateTime<Utc>, PollVerdict)>,
    fates: Vec<Fate>,
    fate: usize,
    ledger: BTreeMap<SlotKey, Vec<Version>>,
    readings: BTreeSet<DateTime<Utc>>,
    down: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    offline: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    offline_since: Option<DateTime<Utc>>,
    edits: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    next_schedule: i32,
}

fn compile(history: &[AppliedSchedule]) -> SlotPlan {
    let (plan, faults) = SlotPlan::compile(history, &mut RuleShelf::default());
    assert!(faults.is_empty(), "{faults:?}");
    plan
}

impl World {
    fn new(rules: Vec<ScheduleRule>, fates: Vec<Fate>) -> Self {
        let mut world = Self {
            now: at(0),
            online: false,
            agenda: Agenda::new(AccountId(1), MeterId(7), SlotPlan::default(), at(0)),
            history: Vec::new(),
            watermark: at(0),
            running: None,
            fates,
            fate: 0,
            ledger: BTreeMap::new(),
            readings: BTreeSet::new(),
            down: Vec::new(),
            offline: Vec::new(),
            offline_since: Some(at(0)),
            edits: Vec::new(),
            next_schedule: 1,
        };
        world.apply(rules, at(0));
        world.agenda = Agenda::new(AccountId(1), MeterId(7), compile(&world.history), at(0));
        world
    }

    fn apply(&mut self, rules: Vec<ScheduleRule>, from: DateTime<Utc>) {
        for applied in &mut self.history {
            applied.valid_to = applied.valid_to.or(Some(from));
        }
        for rule in rules {
            self.history.push(AppliedSchedule {
                schedule: ScheduleId(self.next_schedule),
                valid_from: from,
                valid_to: None,
                rules: Arc::new(vec![rule]),
            });
            self.next_schedule += 1;
        }
    }

    fn fate(&mut self) -> Fate {
        self.fate += 1;
        self.fates[self.fate % self.fates.len()].clone()
    }

    fn write(&mut self, ended: &Ended) {
        for key in &ended.by_reading {
            self.put(*key, SlotState::Actual, None, self.now);
        }
        for ending in &ended.endings {
            self.put(key_of(ending), ending.state, ending.reason, ending.ended_at);
        }
        self.agenda.saved(ended);
    }

    fn put(&mut self, key: SlotKey, state: SlotState, reason: Option<MissReason>, ended_at: DateTime<Utc>) {
        self.ledger.entry(key).or_default().push(Version {
            state,
            reason,
            ended_at,
        });
    }

    /// Wakes until there is nothing to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            match self.agenda.wake(self.now, self.online) {
                Action::End(ended) => self.write(&ended),
                Action::Poll(order) => self.send(order),
                Action::Sleep => {
                    if self.agenda.next_wake().is_none_or(|wake| wake > self.now) {
                        return;
                    }
                }
            }
        }
        panic!("the agenda never sleeps at {}", seconds(self.now));
    }

    fn send(&mut self, order: PollOrder) {
        assert!(self.online && self.running.is_none());
        assert!(order.due_at <= self.now, "polled before it was due");
        assert!(order.deadline > self.now, "a poll without time");
        assert!(
            !self.readings.contains(&order.due_at),
            "{} is polled though its reading is stored",
            seconds(order.due_at)
        );
        let fate = self.fate();
        let began_at = self.now + TimeDelta::seconds(fate.wait_s);
        let ends_at = began_at + TimeDelta::seconds(fate.run_s);
        let failed = |reason| (Got::Nothing, Some(Failure::of(reason)));
        let (got, failure) = match fate.got {
            0..=4 => (Got::Everything, None),
            5 => (
                Got::Partly {
                    missing: vec![Quantity::Frequency],
                },
                Some(Failure::of(MissReason::Timeout)),
            ),
            6 => failed(MissReason::Timeout),
            7 => failed(MissReason::Exception),
            _ => failed(MissReason::LineBusy),
        };
        let verdict = if began_at >= order.deadline {
            PollVerdict {
                began_at: None,
                attempts: 0,
                got: Got::Nothing,
                failure: Some(Failure::of(MissReason::LineBusy)),
            }
        } else {
            PollVerdict {
                began_at: Some(began_at),
                attempts: 1,
                got,
                failure,
            }
        };
        self.running = Some((order, ends_at, verdict));
    }

    fn finish(&mut self) {
        let Some((order, _, verdict)) = self.running.take() else {
            return;
        };
        let began_at = verdict.began_at;
        let settled = self.agenda.outcome(self.now, order.serial, verdict);
        if settled.store {
            assert!(self.readings.insert(order.due_at), "two readings under one key");
        }
        for key in &settled.ended.by_reading {
            let window = i64::from(self.rule(*key).window_s);
            let began_at = began_at.unwrap();
            assert!(
                began_at <= key.due_at + TimeDelta::seconds(window),
                "actual, but begun after its window"
            );
        }
        self.write(&settled.ended);
        self.settle();
    }

    fn rule(&self, key: SlotKey) -> ScheduleRule {
        let applied = self
            .history
            .iter()
            .find(|applied| applied.schedule == key.schedule)
            .unwrap();
        applied.rules[0].clone()
    }

    fn run_until(&mut self, until: DateTime<Utc>) {
        loop {
            let outcome = self.running.as_ref().map(|(_, ends_at, _)| *ends_at);
            let late = TimeDelta::seconds(self.fate().late_wake_s);
            let wake = self.agenda.next_wake().map(|wake| (wake + late).max(self.now));
            let next = [outcome, wake]
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next <= until);
            let Some(next) = next else { break };
            self.now = next.max(self.now);
            if outcome.is_some_and(|at| at <= self.now) {
                self.finish();
            }
            self.settle();
        }
        self.now = until;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait(wait_s) => self.run_until(self.now + TimeDelta::seconds(wait_s)),
            Step::Session(online) => self.session(online),
            Step::Restart { down_s } => self.restart(down_s),
            Step::Edit { late_s, rules } => {
                let from = self.now;
                self.apply(rules, from);
                self.run_until(from + TimeDelta::seconds(late_s));
                self.edits.push((from, self.now));
                let ended = self.agenda.replace(self.now, compile(&self.history));
                self.write(&ended);
                self.settle();
            }
            Step::Watermark => self.watermark = self.watermark.max(self.agenda.settled_until(self.now)),
        }
    }

    fn session(&mut self, online: bool) {
        if online == self.online {
            return;
        }
        self.online = online;
        if online {
            self.offline.push((self.offline_since.take().unwrap(), self.now));
        } else {
            self.offline_since = Some(self.now);
            if let Some((_, _, verdict)) = &mut self.running {
                verdict.got = Got::Nothing;
                verdict.failure = Some(Failure::of(MissReason::SessionLost));
                if let Action::End(ended) = self.agenda.wake(self.now, false) {
                    self.write(&ended);
                }
                self.finish();
            }
        }
        self.settle();
    }

    /// The process dies: its memory and the running poll are gone, the ledger and the watermark stay.
    fn restart(&mut self, down_s: i64) {
        let died_at = self.now;
        self.running = None;
        if self.offline_since.is_none() {
            self.offline_since = Some(self.now);
        }
        self.online = false;
        self.now += TimeDelta::seconds(down_s);
        self.down.push((died_at, self.now));
        let rows = self
            .ledger
            .iter()
            .filter(|(_, versions)| versions.iter().any(|version| version.state != SlotState::Actual))
            .map(|(key, _)| (key.due_at, Some(key.schedule)));
        let ended: Vec<_> = self.readings.iter().map(|due_at| (*due_at, None)).chain(rows).collect();
        self.agenda = Agenda::recover(
            AccountId(1),
            MeterId(7),
            compile(&self.history),
            self.now,
            self.watermark,
            ended,
        );
        self.settle();
    }

    /// The verdict over the whole run. Slots due in the last hour may still be open.
    fn check(&self) {
        let (from, to) = (at(0), self.now - TimeDelta::hours(1));
        let expected: BTreeSet<SlotKey> = compile(&self.history)
            .due_between(from, to)
            .flat_map(|poll| poll.slots)
            .map(|slot| slot.key())
            .collect();
        for key in &expected {
            let versions = self.ledger.get(key).map_or(&[][..], Vec::as_slice);
            let Some(first) = versions.first() else {
                panic!("slot {} of {} has no ending", seconds(key.due_at), key.schedule);
            };
            self.check_first(*key, first);
            assert!(
                versions
                    .iter()
                    .skip(1)
                    .all(|version| version.state == SlotState::Late || version.reason == Some(MissReason::Partial)),
                "slot {} ended twice: {versions:?}",
                seconds(key.due_at)
            );
            assert!(versions.len() <= 2, "{versions:?}");
        }
        for key in self
            .ledger
            .keys()
            .filter(|key| key.due_at < to && !expected.contains(key))
        {
            let in_an_edit = self
                .edits
                .iter()
                .any(|(edit, learned)| (*edit..=*learned).contains(&key.due_at));
            assert!(
                in_an_edit,
                "slot {} of {} was never due",
                seconds(key.due_at),
                key.schedule
            );
        }
    }

    fn check_first(&self, key: SlotKey, first: &Version) {
        let rule = self.rule(key);
        let window_end = key.due_at + TimeDelta::seconds(i64::from(rule.window_s));
        let name = format!("slot {} of {}: {first:?}", seconds(key.due_at), key.schedule);
        assert!(first.ended_at >= key.due_at, "{name} ended before it was due");
        // a server that is away when the window ends says so when it is back
        let back = |end: DateTime<Utc>| {
            let down = self.down.iter().filter(|(from, to)| (*from..=*to).contains(&end));
            down.map(|(_, to)| *to).max().unwrap_or(end)
        };
        let slack = TimeDelta::seconds(RUN_MAX + LATE_MAX + 5);
        let mut latest = window_end + slack;
        for _ in 0..self.down.len() {
            latest = latest.max(back(latest) + slack).max(back(window_end) + slack);
        }
        assert!(
            first.ended_at <= latest,
            "{name} ended at {}, after {}",
            seconds(first.ended_at),
            seconds(latest)
        );
        match first.reason {
            Some(MissReason::ServerDown) => {
                let near = |(from, to): &(DateTime<Utc>, DateTime<Utc>)| {
                    *from <= window_end + TimeDelta::seconds(LATE_MAX + RUN_MAX)
                        && *to + TimeDelta::seconds(LATE_MAX) >= window_end
                };
                let late_edit = self
                    .edits
                    .iter()
                    .any(|(edit, learned)| (*edit..=*learned).contains(&key.due_at));
                assert!(self.down.iter().any(near) || late_edit, "{name}, but the server was up");
            }
            Some(MissReason::DtuOffline) => {
                // some moment of the window without a session
                let since = self.offline_since.map(|since| (since, self.now));
                let mut outages = self.offline.iter().copied().chain(since);
                assert!(
                    outages.any(|(from, to)| from < window_end && to > key.due_at),
                    "{name}, but the DTU was there"
                );
            }
            Some(_) => {}
            None => assert_ne!(first.state, SlotState::Missing, "{name}"),
        }
    }
}

fn rules() -> impl Strategy<Value = Vec<ScheduleRule>> {
    let cron = prop::sample::select(
        &[
            "* * * * *",
            "*/5 * * * *",
            "*/15 * * * *",
            "0 * * * *",
            "7,30 2-4 * * *",
            "30 */2 * * * *",
        ][..],
    );
    let quantities = prop::sample::select(vec![
        vec![],
        vec![Quantity::Frequency],
        vec![Quantity::ActiveEnergyImport, Quantity::Frequency],
        vec![Quantity::VoltageL1],
    ]);
    let missed_run = prop::sample::select(&[MissedRun::Skip, MissedRun::Once, MissedRun::All][..]);
    let rule = (
        cron,
        quantities,
        16..900_u32,
        0..100_u32,
        1..60_u32,
        1..=100_u32,
        missed_run,
        prop::sample::select(&[Overlap::Skip, Overlap::QueueOne][..]),
    )
        .prop_map(
            |(cron, quantities, window_s, spread, backoff_s, deadline, missed_run, overlap)| ScheduleRule {
                quantities,
                spread_s: window_s * spread / 100,
                window_s,
                retry: RetryPolicy {
                    attempts: 2,
                    backoff_s,
                    deadline_s: (window_s * deadline / 100).max(1),
                    budget: (backoff_s % 3 == 0).then_some(4),
                },
                missed_run,
                overlap,
                ..ScheduleRule::by_cron(cron, "Europe/Berlin", at(-86_400))
            },
        );
    prop::collection::vec(rule, 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..2000_i64).prop_map(Step::Wait),
        2 => any::<bool>().prop_map(Step::Session),
        1 => prop_oneof![1..30_i64, 30..4000_i64].prop_map(|down_s| Step::Restart { down_s }),
        1 => (0..5_i64, rules()).prop_map(|(late_s, rules)| Step::Edit { late_s, rules }),
        2 => Just(Step::Watermark),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    (0..10_i64, 0..RUN_MAX - 10, 0..10_u8, 0..=LATE_MAX).prop_map(|(wait_s, run_s, got, late_wake_s)| Fate {
        wait_s,
        run_s,
        got,
        late_wake_s,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn every_due_slot_ends_once_and_in_time(
        rules in rules(),
        steps in prop::collection::vec(step(), 1..40),
        fates in prop::collection::vec(fate(), 1..20),
    ) {
        let mut world = World::new(rules, fates);
        world.settle();
        for step in steps {
            world.step(step);
        }
        // long enough for every window and late read to end
        world.step(Step::Wait(2 * 3600));
        world.check();
    }
}
