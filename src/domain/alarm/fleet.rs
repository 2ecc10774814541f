//! DTUs without a session: one alarm for each that is lost alone, one for all that are lost together.
//!
//! Pure: what DTUs there are, what is open, and the time go in; changes come out. It is asked again and again, and asking
//! twice changes nothing, so a restart does not either. A DTU that never had a session is not lost.

use super::rule::OfflineCheck;
use super::{AlarmKind, Change, Detail, Key, Raise, Severity, Subject};
use crate::base::ids::{AccountId, AlarmRuleId, DtuId};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// A DTU now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dtu {
    /// Which.
    pub id: DtuId,
    /// Since when it has had a session.
    pub up_since: Option<DateTime<Utc>>,
    /// Since when it has had none.
    pub down_since: Option<DateTime<Utc>>,
}

/// What is open of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// DTUs with an alarm of their own.
    pub singles: BTreeSet<DtuId>,
    /// Those that the common alarm stands for and that are not back; none: there is no common alarm.
    pub group: Option<BTreeSet<DtuId>>,
}

/// By which rule.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// Whose DTUs.
    pub account: AccountId,
    /// Its rule's id.
    pub rule: Option<AlarmRuleId>,
    /// How much it matters.
    pub severity: Severity,
    /// The rule.
    pub check: &'a OfflineCheck,
}

/// The key of the common alarm.
pub fn group_key(account: AccountId) -> Key {
    Key::new(Some(account), AlarmKind::DtuOffline, "together", Subject::Account)
}

/// The key of one DTU's alarm.
pub fn single_key(account: AccountId, dtu: DtuId) -> Key {
    Key::new(Some(account), AlarmKind::DtuOffline, "", Subject::Dtu { dtu })
}

fn span(seconds: u32) -> TimeDelta {
    TimeDelta::seconds(seconds.into())
}

/// One account's judgement.
struct Judge<'a> {
    by: By<'a>,
    now: DateTime<Utc>,
    /// Down, by since when as it counts.
    down: BTreeMap<DtuId, DateTime<Utc>>,
    changes: Vec<Change>,
}

impl Judge<'_> {
    fn raise(&mut self, key: Key, subject: Subject, severity: Severity, since: DateTime<Utc>, victims: &[DtuId]) {
        let victims: Vec<_> = victims
            .iter()
            .filter_map(|dtu| Some((*dtu, *self.down.get(dtu)?)))
            .collect();
        self.changes.push(Change::Raise(Box::new(Raise {
            key,
            kind: AlarmKind::DtuOffline,
            severity,
            subject,
            rule: self.by.rule,
            cause_at: self.now,
            detail: Detail {
                since: Some(since),
                count: u64::try_from(victims.len()).ok().filter(|count| *count > 0),
                ..Detail::default()
            },
            victims,
            parent: None,
        })));
    }

    fn single(&mut self, dtu: DtuId, since: DateTime<Utc>) {
        let key = single_key(self.by.account, dtu);
        self.raise(key, Subject::Dtu { dtu }, self.by.severity, since, &[]);
    }

    /// Those that are due and nobody speaks for: together if they are many, else each for itself.
    fn lost(&mut self, spoken_for: &BTreeSet<DtuId>, group_open: bool) {
        let silent: BTreeMap<DtuId, DateTime<Utc>> = self
            .down
            .iter()
            .filter(|(dtu, _)| !spoken_for.contains(dtu))
            .map(|(dtu, since)| (*dtu, *since))
            .collect();
        let after = span(self.by.check.after_s);
        let due: Vec<(DtuId, DateTime<Utc>)> = silent
            .iter()
            .filter(|(_, since)| self.now.signed_duration_since(**since) >= after)
            .map(|(dtu, since)| (*dtu, *since))
            .collect();
        let together = span(self.by.check.together_s);
        let mut left: BTreeSet<DtuId> = due.iter().map(|(dtu, _)| *dtu).collect();
        for (dtu, since) in &due {
            if !left.contains(dtu) {
                continue;
            }
            // also those that are not due yet: they went with it
            let with: Vec<DtuId> = silent
                .iter()
                .filter(|(_, other)| since.signed_duration_since(**other).abs() <= together)
                .map(|(dtu, _)| *dtu)
                .collect();
            let many = with.len() >= usize::from(self.by.check.group_from.max(2));
            if many {
                left.retain(|dtu| !with.contains(dtu));
                if group_open || self.raised_group() {
                    self.join(&with);
                } else {
                    let begin = with.iter().filter_map(|dtu| silent.get(dtu)).min().copied();
                    let key = group_key(self.by.account);
                    self.raise(key, Subject::Account, self.by.severity, begin.unwrap_or(*since), &with);
                }
            }
        }
        for (dtu, since) in due.iter().filter(|(dtu, _)| left.contains(dtu)) {
            self.single(*dtu, *since);
        }
    }

    /// Whether the common alarm has just been raised.
    fn raised_group(&self) -> bool {
        let group = group_key(self.by.account);
        self.changes
            .iter()
            .any(|change| matches!(change, Change::Raise(raise) if raise.key == group))
    }

    fn join(&mut self, victims: &[DtuId]) {
        let joined = victims
            .iter()
            .filter_map(|dtu| Some((*dtu, *self.down.get(dtu)?)))
            .collect();
        self.changes.push(Change::Victims {
            key: group_key(self.by.account),
            joined,
            back: Vec::new(),
            at: self.now,
        });
    }
}

/// What follows for an account. Nothing that was down before `began` (when this process started to listen) counts as down
/// from before: a restart is no outage of the fleet.
pub fn judge(by: By<'_>, dtus: &[Dtu], open: &Open, began: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Change> {
    let down = dtus
        .iter()
        .filter(|dtu| dtu.up_since.is_none())
        .filter_map(|dtu| Some((dtu.id, dtu.down_since?.max(began))))
        .collect();
    let mut judge = Judge {
        by,
        now,
        down,
        changes: Vec::new(),
    };
    let steady = |dtu: DtuId| {
        let found = dtus.iter().find(|found| found.id == dtu);
        // one that is gone from the directory is not lost
        found.is_none_or(|found| {
            found
                .up_since
                .is_some_and(|since| now.signed_duration_since(since) >= span(by.check.clear_after_s))
        })
    };
    for dtu in open.singles.iter().filter(|dtu| steady(**dtu)) {
        let key = single_key(by.account, *dtu);
        judge.changes.push(Change::Clear { key, at: now });
    }
    let mut spoken_for = open.singles.clone();
    let mut group_open = false;
    if let Some(victims) = &open.group {
        let (back, still): (Vec<DtuId>, Vec<DtuId>) = victims.iter().copied().partition(|dtu| steady(*dtu));
        if still.len() < usize::from(by.check.group_from.max(2)) {
            // it is over as a common outage; who is still missing is so for himself
            let key = group_key(by.account);
            judge.changes.push(Change::Clear { key, at: now });
            for dtu in &still {
                if let Some(since) = judge.down.get(dtu).copied() {
                    judge.single(*dtu, since);
                }
            }
        } else {
            group_open = true;
            if !back.is_empty() {
                judge.changes.push(Change::Victims {
                    key: group_key(by.account),
                    joined: Vec::new(),
                    back,
                    at: now,
                });
            }
        }
        spoken_for.extend(still);
    }
    judge.lost(&spoken_for, group_open);
    judge.changes
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
