//! The last dam: when very many alarms of one kind come in an account within a short time, whatever they are, one alarm
//! says so and stands for the rest. The rest is listed below it and not forwarded.

use super::{AlarmKind, Change, Detail, Key, Raise, Subject};
use crate::base::ids::AccountId;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, VecDeque};

/// So many of one kind within [`WITHIN`] are news of their own; more are one alarm.
pub const FROM: usize = 20;
/// See there.
pub const WITHIN: TimeDelta = TimeDelta::minutes(10);

/// Counts what is raised, by account and kind. Bounded: each count keeps [`FROM`] instants.
#[derive(Clone, Debug, Default)]
pub struct Storms {
    lately: BTreeMap<(AccountId, AlarmKind), VecDeque<DateTime<Utc>>>,
    running: BTreeMap<(AccountId, AlarmKind), DateTime<Utc>>,
}

/// The key of the alarm that stands for many of a kind.
pub fn key(account: AccountId, kind: AlarmKind) -> Key {
    Key::new(Some(account), kind, "many", Subject::Account)
}

impl Storms {
    /// Takes up a storm that an earlier process found.
    pub fn resume(&mut self, account: AccountId, kind: AlarmKind, since: DateTime<Utc>) {
        self.running.insert((account, kind), since);
    }

    /// Puts what is too much below a common alarm, which is put in front of the first of them.
    pub fn dam(&mut self, changes: Vec<Change>, now: DateTime<Utc>) -> Vec<Change> {
        let mut dammed = Vec::with_capacity(changes.len());
        for change in changes {
            let Change::Raise(mut raise) = change else {
                dammed.push(change);
                continue;
            };
            let meters = matches!(raise.subject, Subject::Meter { .. });
            if let Some(account) = raise.key.account.filter(|_| meters && raise.parent.is_none()) {
                let many = self.count(account, raise.kind, now);
                if many {
                    let common = key(account, raise.kind);
                    if self.running.insert((account, raise.kind), now).is_none() {
                        dammed.push(Change::Raise(Box::new(begin(&raise, common.clone(), now))));
                    }
                    raise.parent = Some(common);
                }
            }
            dammed.push(Change::Raise(raise));
        }
        dammed
    }

    fn count(&mut self, account: AccountId, kind: AlarmKind, now: DateTime<Utc>) -> bool {
        let lately = self.lately.entry((account, kind)).or_default();
        while lately
            .front()
            .is_some_and(|at| now.signed_duration_since(*at) >= WITHIN)
        {
            lately.pop_front();
        }
        if lately.len() >= FROM {
            // the oldest makes room, so that a storm that goes on stays one
            lately.pop_front();
            lately.push_back(now);
            return true;
        }
        lately.push_back(now);
        false
    }

    /// Ends the storms in which nothing has come for a while.
    pub fn calm(&mut self, now: DateTime<Utc>) -> Vec<Change> {
        let over: Vec<_> = self
            .running
            .iter()
            .filter(|(_, last)| now.signed_duration_since(**last) >= WITHIN)
            .map(|(which, _)| *which)
            .collect();
        over.into_iter()
            .map(|which| {
                self.running.remove(&which);
                self.lately.remove(&which);
                Change::Clear {
                    key: key(which.0, which.1),
                    at: now,
                }
            })
            .collect()
    }
}

fn begin(first: &Raise, key: Key, now: DateTime<Utc>) -> Raise {
    Raise {
        key,
        kind: first.kind,
        severity: first.severity,
        subject: Subject::Account,
        rule: None,
        cause_at: now,
        detail: Detail {
            note: Some(format!(
                "more than {FROM} alarms of this kind within {} minutes; the others are listed below this one",
                WITHIN.num_minutes()
            )),
            ..first.detail.clone()
        },
        victims: Vec::new(),
        parent: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;
    use crate::base::ids::{DtuId, MeterId};

    fn raise(meter: i32, now: DateTime<Utc>) -> Change {
        let subject = Subject::Meter {
            meter: MeterId(meter),
            dtu: DtuId(1),
        };
        Change::Raise(Box::new(Raise {
            key: Key::new(Some(AccountId(1)), AlarmKind::VoltageQuality, "", subject),
            kind: AlarmKind::VoltageQuality,
            severity: Severity::Warning,
            subject,
            rule: None,
            cause_at: now,
            detail: Detail::default(),
            victims: Vec::new(),
            parent: None,
        }))
    }

    #[test]
    fn a_thousand_of_a_kind_are_twenty_and_one() {
        let now = DateTime::UNIX_EPOCH;
        let mut storms = Storms::default();
        let mut news = Vec::new();
        for batch in 0..10 {
            let batch = (0..100).map(|meter| raise(batch * 100 + meter, now)).collect();
            news.extend(storms.dam(batch, now).into_iter().filter_map(|change| match change {
                Change::Raise(raise) if raise.parent.is_none() => Some(raise.key.text),
                _ => None,
            }));
        }
        assert_eq!(news.len(), FROM + 1);
        assert_eq!(news.last().map(String::as_str), Some("voltage_quality:many@account"));
        assert!(storms.calm(now + TimeDelta::minutes(9)).is_empty());
        let over = storms.calm(now + TimeDelta::minutes(10));
        assert_eq!(over.len(), 1);
        assert_eq!(
            storms
                .dam(
                    vec![raise(5_000, now + TimeDelta::minutes(11))],
                    now + TimeDelta::minutes(11)
                )
                .len(),
            1
        );
    }

    #[test]
    fn a_steady_trickle_is_no_storm() {
        let mut storms = Storms::default();
        for minute in 0..1_000 {
            let now = DateTime::UNIX_EPOCH + TimeDelta::minutes(minute);
            assert_eq!(storms.dam(vec![raise(1, now)], now), [raise(1, now)]);
        }
    }
}
