//! What is due: the dated schedules of a meter, compiled, and the slots that follow from them.
//!
//! A slot is due at `d` where the schedule's application and one of its rules are both in force at `d` (half-open spans)
//! and the rule comes due. A rule on a calendar's days is one rule for each version of the calendar, in force over that
//! version's span, so a changed calendar changes what is due from then on and never what was. The agenda that polls and the API that lists slots use the same plan, so
//! they cannot disagree about what was due.

use crate::base::ids::ScheduleId;
use crate::domain::device::{AppliedSchedule, MissedRun, Overlap, RetryPolicy, ScheduleRule, SlotPriority};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::{Recurrence, ScheduleError};
use crate::domain::slot::SlotKind;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::Arc;

/// A slot's key within its meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    /// When it is due.
    pub due_at: DateTime<Utc>,
    /// Its schedule.
    pub schedule: ScheduleId,
}

/// A rule with its timing and days compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRule {
    /// In force from.
    pub valid_from: DateTime<Utc>,
    /// In force until; none: still.
    pub valid_to: Option<DateTime<Utc>>,
    /// When it comes due.
    pub when: Recurrence,
    /// Wanted quantities, sorted; empty: all of the model.
    pub quantities: Vec<Quantity>,
    /// Polls are spread over this many seconds after the due time.
    pub spread_s: u32,
    /// A read that begins within this many seconds after the due time is `actual`.
    pub window_s: u32,
    /// Retries.
    pub retry: RetryPolicy,
    /// Missed runs.
    pub missed_run: MissedRun,
    /// Slots that run into each other.
    pub overlap: Overlap,
    /// The place in the line's queue.
    pub priority: SlotPriority,
    /// Of which kind its slots are.
    pub kind: SlotKind,
}

impl PlannedRule {
    fn compile(rule: &ScheduleRule) -> Result<Self, ScheduleError> {
        let mut quantities = rule.quantities.clone();
        quantities.sort_unstable();
        quantities.dedup();
        let window_s = rule.window_s.max(1);
        Ok(Self {
            valid_from: rule.valid_from,
            valid_to: rule.valid_to,
            when: Recurrence::compile(&rule.timing, &rule.time_zone, rule.days, rule.calendar.as_ref())?,
            quantities,
            spread_s: rule.spread_s.min(window_s),
            window_s,
            retry: RetryPolicy {
                attempts: rule.retry.attempts.max(1),
                backoff_s: rule.retry.backoff_s.max(1),
                deadline_s: rule.retry.deadline_s.clamp(1, window_s),
                budget: rule.retry.budget,
            },
            missed_run: rule.missed_run,
            overlap: rule.overlap,
            priority: rule.priority,
            kind: if rule.timing.is_settlement() {
                SlotKind::Settlement
            } else {
                SlotKind::Regular
            },
        })
    }
}

/// A rule of a dated schedule that could not be compiled; its slots cannot be known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schedule {schedule}, rule of {valid_from}: {error}")]
pub struct PlanFault {
    /// The schedule.
    pub schedule: ScheduleId,
    /// Which of its rules.
    pub valid_from: DateTime<Utc>,
    /// Why.
    pub error: ScheduleError,
}

/// The compiled rules of one schedule.
type SharedRules = Arc<[Arc<PlannedRule>]>;

/// Compiled schedules, shared between the meters that follow them. One per shard or request; what nobody uses any more
/// is dropped as it grows.
#[derive(Debug, Default)]
pub struct RuleShelf {
    kept: HashMap<ScheduleId, (Arc<Vec<ScheduleRule>>, SharedRules)>,
    purge_at: usize,
}

impl RuleShelf {
    /// The shelf is swept when it has doubled since, and never below this.
    const PURGE_MIN: usize = 256;

    fn rules(&mut self, applied: &AppliedSchedule, faults: &mut Vec<PlanFault>) -> SharedRules {
        if let Some((source, rules)) = self.kept.get(&applied.schedule)
            && (Arc::ptr_eq(source, &applied.rules) || **source == *applied.rules)
        {
            return Arc::clone(rules);
        }
        let mut whole = true;
        let rules: SharedRules = applied
            .rules
            .iter()
            .filter_map(|rule| match PlannedRule::compile(rule) {
                Ok(planned) => Some(Arc::new(planned)),
                Err(error) => {
                    whole = false;
                    faults.push(PlanFault {
                        schedule: applied.schedule,
                        valid_from: rule.valid_from,
                        error,
                    });
                    None
                }
            })
            .collect();
        if whole {
            self.keep(applied, &rules);
        }
        rules
    }

    fn keep(&mut self, applied: &AppliedSchedule, rules: &SharedRules) {
        if self.kept.len() >= self.purge_at.max(Self::PURGE_MIN) {
            self.kept.retain(|_, (_, rules)| Arc::strong_count(rules) > 1);
            self.purge_at = self.kept.len() * 2;
        }
        self.kept
            .insert(applied.schedule, (Arc::clone(&applied.rules), Arc::clone(rules)));
    }
}

/// A schedule applied to a meter, compiled.
#[derive(Clone, Debug)]
struct Application {
    schedule: ScheduleId,
    valid_from: DateTime<Utc>,
    valid_to: Option<DateTime<Utc>>,
    rules: SharedRules,
}

/// One due slot and the rule it is due by.
#[derive(Clone, Debug, PartialEq)]
pub struct DueSlot {
    /// The schedule.
    pub schedule: ScheduleId,
    /// When it is due.
    pub due_at: DateTime<Utc>,
    /// The rule in force at that time.
    pub rule: Arc<PlannedRule>,
}

impl DueSlot {
    /// Its key.
    pub fn key(&self) -> SlotKey {
        SlotKey {
            due_at: self.due_at,
            schedule: self.schedule,
        }
    }
}

/// All slots of a meter that fall on one instant; one poll serves them. Never empty, one slot per schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct DuePoll {
    /// The instant.
    pub due_at: DateTime<Utc>,
    /// The slots, by schedule.
    pub slots: Vec<DueSlot>,
}

/// What is due for one meter, whenever.
#[derive(Clone, Debug, Default)]
pub struct SlotPlan {
    applications: Vec<Application>,
}

impl SlotPlan {
    /// Compiles the dated schedules of a meter. Rules that cannot be compiled are left out and told.
    pub fn compile(applied: &[AppliedSchedule], shelf: &mut RuleShelf) -> (Self, Vec<PlanFault>) {
        let mut faults = Vec::new();
        let applications = applied
            .iter()
            .map(|applied| Application {
                schedule: applied.schedule,
                valid_from: applied.valid_from,
                valid_to: applied.valid_to,
                rules: shelf.rules(applied, &mut faults),
            })
            .collect();
        (Self { applications }, faults)
    }

    /// The first instant strictly after `after` at which slots are due, with all of them.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DuePoll> {
        let mut poll: Option<DuePoll> = None;
        for application in &self.applications {
            for rule in application.rules.iter() {
                let Some(due_at) = next_in(application, rule, after) else {
                    continue;
                };
                let slot = DueSlot {
                    schedule: application.schedule,
                    due_at,
                    rule: Arc::clone(rule),
                };
                match &mut poll {
                    Some(poll) if poll.due_at == due_at => merge(&mut poll.slots, slot),
                    Some(poll) if poll.due_at < due_at => {}
                    _ => {
                        let slots = vec![slot];
                        poll = Some(DuePoll { due_at, slots });
                    }
                }
            }
        }
        poll
    }

    /// The due instants in `[from, to)` with their slots, ascending. Lazy: as much work as is taken.
    pub fn due_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = DuePoll> + '_ {
        let mut next = from
            .checked_sub_signed(chrono::TimeDelta::nanoseconds(1))
            .and_then(|before| self.next_after(before));
        std::iter::from_fn(move || {
            let poll = next.take().filter(|poll| poll.due_at < to)?;
            next = self.next_after(poll.due_at);
            Some(poll)
        })
    }

    /// The instant from which the oldest application is in force; none without schedules.
    pub fn earliest(&self) -> Option<DateTime<Utc>> {
        self.applications.iter().map(|application| application.valid_from).min()
    }
}

/// The first due time of a rule strictly after `after`, where rule and application are both in force.
fn next_in(application: &Application, rule: &PlannedRule, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let from = application.valid_from.max(rule.valid_from);
    let to = match (application.valid_to, rule.valid_to) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    if to.is_some_and(|to| to <= from || to <= after) {
        return None;
    }
    let due = if from > after {
        rule.when.next_from(from)
    } else {
        rule.when.next_after(after)
    }?;
    to.is_none_or(|to| due < to).then_some(due)
}

/// One slot per schedule: where spans overlap by mistake, the younger rule counts.
fn merge(slots: &mut Vec<DueSlot>, slot: DueSlot) {
    match slots.iter_mut().find(|other| other.schedule == slot.schedule) {
        Some(other) if other.rule.valid_from < slot.rule.valid_from => *other = slot,
        Some(_) => {}
        None => {
            slots.push(slot);
            slots.sort_by_key(|slot| slot.schedule);
        }
    }
}

/// The slots of a meter that are due in `[from, to)`, ascending by due time, then schedule; at most `limit`. For lists;
/// whoever polls keeps a [`SlotPlan`].
pub fn due_slots(
    schedules: &[AppliedSchedule],
    shelf: &mut RuleShelf,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    limit: usize,
) -> Vec<DueSlot> {
    let (plan, _) = SlotPlan::compile(schedules, shelf);
    plan.due_between(from, to)
        .flat_map(|poll| poll.slots)
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::minutes(minutes)
    }

    fn rule(cron: &str, from: i64, to: Option<i64>) -> ScheduleRule {
        ScheduleRule {
            valid_to: to.map(at),
            window_s: 60,
            ..ScheduleRule::by_cron(cron, "UTC", at(from))
        }
    }

    fn applied(id: i32, from: i64, to: Option<i64>, rules: Vec<ScheduleRule>) -> AppliedSchedule {
        AppliedSchedule {
            schedule: ScheduleId(id),
            valid_from: at(from),
            valid_to: to.map(at),
            rules: Arc::new(rules),
        }
    }

    fn minutes(schedules: &[AppliedSchedule], from: i64, to: i64) -> Vec<(i32, i64)> {
        due_slots(schedules, &mut RuleShelf::default(), at(from), at(to), 1000)
            .iter()
            .map(|slot| (slot.schedule.0, (slot.due_at - at(0)).num_minutes()))
            .collect()
    }

    #[test]
    fn slots_are_due_where_application_and_rule_are_both_in_force() {
        let schedules = [applied(
            1,
            10,
            Some(50),
            vec![rule("*/10 * * * *", 0, Some(30)), rule("*/5 * * * *", 30, None)],
        )];
        assert_eq!(
            minutes(&schedules, -60, 120),
            [(1, 10), (1, 20), (1, 30), (1, 35), (1, 40), (1, 45)]
        );
        assert_eq!(minutes(&schedules, 20, 30), [(1, 20)]);
        assert!(minutes(&schedules, 50, 120).is_empty());
    }

    #[test]
    fn slots_of_one_instant_merge_into_one_poll() {
        let schedules = [
            applied(2, 0, None, vec![rule("*/15 * * * *", 0, None)]),
            applied(1, 0, None, vec![rule("0 * * * *", 0, None)]),
            applied(1, 0, None, vec![rule("0 * * * *", 0, None)]),
        ];
        let (plan, faults) = SlotPlan::compile(&schedules, &mut RuleShelf::default());
        assert!(faults.is_empty());
        let polls: Vec<(i64, usize)> = plan
            .due_between(at(0), at(61))
            .map(|poll| ((poll.due_at - at(0)).num_minutes(), poll.slots.len()))
            .collect();
        assert_eq!(polls, [(0, 2), (15, 1), (30, 1), (45, 1), (60, 2)]);
    }

    #[test]
    fn a_rule_that_does_not_compile_is_told_and_the_rest_stands() {
        let schedules = [applied(
            7,
            0,
            None,
            vec![rule("bad", 0, Some(30)), rule("*/30 * * * *", 30, None)],
        )];
        let (plan, faults) = SlotPlan::compile(&schedules, &mut RuleShelf::default());
        assert_eq!(faults.len(), 1);
        assert_eq!(plan.next_after(at(0)).unwrap().due_at, at(30));
    }

    #[test]
    fn compiled_rules_are_shared_and_swept() {
        let mut shelf = RuleShelf::default();
        let one = applied(1, 0, None, vec![rule("0 * * * *", 0, None)]);
        let (a, _) = SlotPlan::compile(std::slice::from_ref(&one), &mut shelf);
        let (b, _) = SlotPlan::compile(std::slice::from_ref(&one), &mut shelf);
        assert!(Arc::ptr_eq(&a.applications[0].rules, &b.applications[0].rules));
        for id in 2..2000 {
            let other = applied(id, 0, None, vec![rule("0 * * * *", 0, None)]);
            drop(SlotPlan::compile(&[other], &mut shelf));
        }
        assert!(shelf.kept.len() <= RuleShelf::PURGE_MIN + 1);
        assert!(shelf.kept.contains_key(&ScheduleId(1)));
    }
}
