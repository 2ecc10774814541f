//! Meters that say nothing: slots in a row that ended without an answer, or with one that has no value in it.
//!
//! What is not the meter's doing does not count: a DTU without a session has an alarm of its own, and a server that was
//! down is no fault of a meter. Each due time counts once, whichever schedules ended with it, and only forwards in time.

use super::rule::{Check, Rule};
use super::{AlarmKind, Change, Detail, Key, Raise, Subject};
use crate::base::ids::AccountId;
use crate::domain::slot::{MissReason, SlotEnding, SlotState};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is known of a meter's silence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Silence {
    /// Slots in a row without an answer.
    pub no_answer: Run,
    /// Slots in a row without a value, though there was an answer or the line would have been there.
    pub no_value: Run,
    /// The newest due time that counted.
    pub counted: Option<DateTime<Utc>>,
    /// When the meter was heard last.
    pub heard: Option<DateTime<Utc>>,
}

/// Slots in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// How many.
    pub slots: u16,
    /// Since the first of them was due.
    pub since: Option<DateTime<Utc>>,
    /// Why.
    pub reasons: BTreeSet<MissReason>,
    /// An alarm was raised.
    pub raised: bool,
}

/// What a miss says of the meter.
enum Says {
    NoAnswer,
    NoValue,
    Nothing,
}

fn says(reason: Option<MissReason>) -> Says {
    match reason {
        Some(MissReason::Timeout | MissReason::BreakerOpen) => Says::NoAnswer,
        Some(
            MissReason::DtuOffline
            | MissReason::SessionLost
            | MissReason::ServerDown
            | MissReason::MeterRemoved
            | MissReason::Overlap,
        ) => Says::Nothing,
        _ => Says::NoValue,
    }
}

/// Whose silence it is, and by which rules.
#[derive(Clone, Copy)]
pub struct Listening<'a> {
    /// Whose meter.
    pub account: AccountId,
    /// Which.
    pub subject: Subject,
    /// What is in force there.
    pub rules: &'a [&'a Rule],
}

impl Silence {
    /// Whether there is nothing to remember over a restart.
    pub fn is_idle(&self) -> bool {
        let idle = |run: &Run| run.slots == 0 && !run.raised;
        idle(&self.no_answer) && idle(&self.no_value)
    }

    /// The meter was heard, by a reading received at `at`; `whole`: what the slot wanted is there.
    pub fn heard(&mut self, listening: Listening<'_>, at: DateTime<Utc>, whole: bool) -> Vec<Change> {
        if self.heard.is_some_and(|heard| at <= heard) {
            return Vec::new();
        }
        self.heard = Some(at);
        let mut changes = Vec::new();
        let mut over = |run: &mut Run, kind| {
            if std::mem::take(run).raised {
                let key = Key::new(Some(listening.account), kind, "", listening.subject);
                changes.push(Change::Clear { key, at });
            }
        };
        over(&mut self.no_answer, AlarmKind::MeterOffline);
        if whole {
            over(&mut self.no_value, AlarmKind::MissingData);
        }
        changes
    }

    /// A slot ended in another way than by its on-time reading.
    pub fn ended(&mut self, listening: Listening<'_>, ending: &SlotEnding) -> Vec<Change> {
        let old = self.counted.is_some_and(|counted| ending.due_at <= counted)
            || self.heard.is_some_and(|heard| ending.ended_at < heard);
        if ending.state != SlotState::Missing || old {
            return Vec::new();
        }
        let (run, kind) = match says(ending.reason) {
            Says::Nothing => return Vec::new(),
            Says::NoAnswer => (&mut self.no_answer, AlarmKind::MeterOffline),
            Says::NoValue => (&mut self.no_value, AlarmKind::MissingData),
        };
        self.counted = Some(ending.due_at);
        run.slots = run.slots.saturating_add(1);
        run.since.get_or_insert(ending.due_at);
        run.reasons.extend(ending.reason);
        let wanted = listening.rules.iter().find_map(|rule| match (&rule.check, kind) {
            (Check::MeterOffline(check), AlarmKind::MeterOffline)
            | (Check::MissingData(check), AlarmKind::MissingData) => Some((*rule, check.slots)),
            _ => None,
        });
        let Some((rule, slots)) = wanted.filter(|(_, slots)| run.slots >= *slots && !run.raised) else {
            return Vec::new();
        };
        run.raised = true;
        let detail = Detail {
            count: Some(u64::from(slots.max(run.slots))),
            since: run.since,
            names: run.reasons.iter().map(|reason| reason.as_str().to_owned()).collect(),
            ..Detail::default()
        };
        vec![Change::Raise(Box::new(Raise {
            key: Key::new(Some(listening.account), kind, "", listening.subject),
            kind,
            severity: rule.severity,
            subject: listening.subject,
            rule: rule.id,
            cause_at: ending.ended_at,
            detail,
            victims: Vec::new(),
            parent: None,
        }))]
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::defaults;
    use super::*;
    use crate::base::ids::{DtuId, MeterId, ScheduleId};
    use chrono::TimeDelta;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
    }

    fn ending(minute: i64, schedule: i32, reason: MissReason) -> SlotEnding {
        SlotEnding {
            account: AccountId(1),
            meter: MeterId(7),
            schedule: ScheduleId(schedule),
            due_at: at(minute),
            state: SlotState::Missing,
            reason: Some(reason),
            detail: None,
            attempts: 3,
            ended_at: at(minute + 5),
        }
    }

    fn listen<T>(work: impl FnOnce(Listening<'_>) -> T) -> T {
        let rules = defaults();
        let rules: Vec<&Rule> = rules.iter().collect();
        work(Listening {
            account: AccountId(1),
            subject: Subject::Meter {
                meter: MeterId(7),
                dtu: DtuId(3),
            },
            rules: &rules,
        })
    }

    fn kinds(changes: &[Change]) -> Vec<&str> {
        changes
            .iter()
            .map(|change| match change {
                Change::Raise(raise) => raise.kind.as_str(),
                Change::Clear { .. } => "clear",
                Change::Victims { .. } => "victims",
            })
            .collect()
    }

    #[test]
    fn three_slots_without_an_answer_are_one_alarm_until_it_is_heard() {
        listen(|listening| {
            let mut silence = Silence::default();
            let miss = |silence: &mut Silence, minute, reason| {
                kinds(&silence.ended(listening, &ending(minute, 1, reason)))
                    .iter()
                    .map(|kind| (*kind).to_owned())
                    .collect::<Vec<_>>()
            };
            assert!(miss(&mut silence, 0, MissReason::Timeout).is_empty());
            assert!(miss(&mut silence, 15, MissReason::BreakerOpen).is_empty());
            assert_eq!(miss(&mut silence, 30, MissReason::Timeout), ["meter_offline"]);
            assert!(miss(&mut silence, 45, MissReason::Timeout).is_empty());
            assert_eq!(kinds(&silence.heard(listening, at(61), true)), ["clear"]);
            assert!(silence.is_idle());
        });
    }

    #[test]
    fn what_is_not_the_meters_doing_does_not_count() {
        listen(|listening| {
            let mut silence = Silence::default();
            for (minute, reason) in [
                (0, MissReason::DtuOffline),
                (15, MissReason::ServerDown),
                (30, MissReason::SessionLost),
                (45, MissReason::DtuOffline),
            ] {
                assert!(silence.ended(listening, &ending(minute, 1, reason)).is_empty());
            }
            assert!(silence.is_idle());
        });
    }

    #[test]
    fn several_schedules_duplicates_and_late_endings_count_once() {
        listen(|listening| {
            let mut silence = Silence::default();
            for minute in [0, 15] {
                for schedule in 1..4 {
                    let miss = ending(minute, schedule, MissReason::Timeout);
                    assert!(silence.ended(listening, &miss).is_empty());
                    assert!(silence.ended(listening, &miss).is_empty());
                }
            }
            assert_eq!(silence.no_answer.slots, 2);
            // heard in between: an ending that was written before that says nothing any more
            assert!(silence.heard(listening, at(60), true).is_empty());
            assert!(silence.ended(listening, &ending(30, 1, MissReason::Timeout)).is_empty());
            assert_eq!(silence.no_answer.slots, 0);
        });
    }

    #[test]
    fn an_answer_without_values_is_missing_data_not_an_absent_meter() {
        listen(|listening| {
            let mut silence = Silence::default();
            for minute in [0, 15] {
                assert!(
                    silence
                        .ended(listening, &ending(minute, 1, MissReason::Partial))
                        .is_empty()
                );
                assert!(silence.heard(listening, at(minute + 1), false).is_empty());
            }
            let raised = silence.ended(listening, &ending(30, 1, MissReason::Exception));
            assert_eq!(kinds(&raised), ["missing_data"]);
            let Some(Change::Raise(raise)) = raised.first() else {
                panic!()
            };
            assert_eq!(raise.detail.names, ["exception", "partial"]);
            assert_eq!(kinds(&silence.heard(listening, at(46), true)), ["clear"]);
        });
    }
}
