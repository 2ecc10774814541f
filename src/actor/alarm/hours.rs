//! Deviations: whole hours of the roll-up against the profile, once each.
//!
//! Which hour a point has been judged up to is remembered here alone: after a restart the newest hour is judged once more,
//! which raises nothing that is open and nothing that its data have been judged for.

use super::judge::Engine;
use crate::base::ids::{AccountId, AlarmRuleId, PointId};
use crate::domain::alarm::deviation::{Comparison, Judgement};
use crate::domain::alarm::meter::plain;
use crate::domain::alarm::rule::{Check, DeviationCheck, Rule};
use crate::domain::alarm::{AlarmKind, Change, Detail, Key, Raise, Subject};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::parse_zone;
use crate::port::alarms::{HoursAsked, MeterFact};
use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Points that are asked for at once.
const POINTS_AT_ONCE: usize = 500;
/// An hour is looked for from so long after its end.
const SETTLES: TimeDelta = TimeDelta::seconds(30);

type Which = (Option<AlarmRuleId>, Quantity, PointId);

/// The last hour that was judged.
pub(super) type Judged = HashMap<Which, DateTime<Utc>>;

/// One rule and the meters at which it is in force.
struct Task {
    rule: Arc<Rule>,
    zone: Tz,
    last: DateTime<Utc>,
    meters: Vec<(PointId, MeterFact)>,
}

/// When the last whole hour of the zone's wall clock began.
fn last_hour(zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
    let wall = (now - SETTLES).with_timezone(&zone);
    let into = TimeDelta::minutes(wall.minute().into())
        + TimeDelta::seconds(wall.second().into())
        + TimeDelta::nanoseconds(wall.nanosecond().into());
    now - SETTLES - into - TimeDelta::hours(1)
}

fn check_of(rule: &Rule) -> Option<&DeviationCheck> {
    match &rule.check {
        Check::Deviation(check) => Some(check),
        _ => None,
    }
}

impl Engine {
    /// Judges every point whose last hour is there and has not been judged.
    pub(super) async fn deviations(&mut self, now: DateTime<Utc>) -> Vec<Change> {
        let mut changes = Vec::new();
        for task in self.tasks(now) {
            for chunk in task.meters.chunks(POINTS_AT_ONCE) {
                changes.extend(self.chunk(&task, chunk).await);
            }
        }
        changes
    }

    fn tasks(&mut self, now: DateTime<Utc>) -> Vec<Task> {
        let meters: Vec<MeterFact> = self.topology.meters.values().copied().collect();
        let zones: HashMap<AccountId, Tz> = self
            .topology
            .accounts
            .iter()
            .map(|(account, zone)| (*account, parse_zone(zone).unwrap_or(Tz::UTC)))
            .collect();
        // rules of one account are shared between its meters; built-in ones between accounts of several zones
        let mut tasks: HashMap<(AccountId, *const Rule), Task> = HashMap::new();
        for meter in meters {
            let (Some(point), Some(zone)) = (meter.point, zones.get(&meter.account)) else {
                continue;
            };
            for rule in self.rules_of(&meter).iter() {
                let Some(check) = check_of(rule) else { continue };
                let last = last_hour(*zone, now);
                if self.sweep.hours.get(&(rule.id, check.quantity, point)) == Some(&last) {
                    continue;
                }
                let task = tasks.entry((meter.account, Arc::as_ptr(rule))).or_insert_with(|| Task {
                    rule: Arc::clone(rule),
                    zone: *zone,
                    last,
                    meters: Vec::new(),
                });
                task.meters.push((point, meter));
            }
        }
        tasks.into_values().collect()
    }

    async fn chunk(&mut self, task: &Task, meters: &[(PointId, MeterFact)]) -> Vec<Change> {
        let Some(check) = check_of(&task.rule).cloned() else {
            return Vec::new();
        };
        let log = Arc::clone(&self.parts.log);
        // whose hour is there at all: most meters are read once an hour, some once a day
        let asked = HoursAsked {
            quantity: check.quantity,
            points: meters.iter().map(|(point, _)| *point).collect(),
            starts: vec![task.last],
        };
        let there = self.patiently(async || log.hours(&asked).await).await;
        let points: Vec<PointId> = there.into_keys().collect();
        if points.is_empty() {
            return Vec::new();
        }
        let none = BTreeSet::new();
        let holidays: BTreeSet<NaiveDate> = check
            .calendar_id
            .and_then(|calendar| self.topology.holidays.get(&calendar.0))
            .unwrap_or(&none)
            .clone();
        let comparison = Comparison::new(&check, task.zone, &holidays, task.last);
        let asked = HoursAsked {
            quantity: check.quantity,
            points,
            starts: comparison.starts().into_iter().collect(),
        };
        let hours = self.patiently(async || log.hours(&asked).await).await;
        let mut changes = Vec::new();
        for (point, meter) in meters {
            let Some(values) = hours.get(point) else { continue };
            let values: HashMap<DateTime<Utc>, f64> = values.iter().map(|hour| (hour.start, hour.value)).collect();
            self.sweep
                .hours
                .insert((task.rule.id, check.quantity, *point), task.last);
            let key = key_of(&task.rule, &check, meter);
            let open = self.open.contains_key(&(key.account, key.text.clone()));
            let said = comparison.judge(&check, open, |start| values.get(&start).copied());
            changes.extend(change(key, &task.rule, &check, meter, task.last, said));
        }
        changes
    }
}

fn subject(meter: &MeterFact) -> Subject {
    Subject::Meter {
        meter: meter.id,
        dtu: meter.dtu,
    }
}

/// The key of a meter's deviation.
fn key_of(rule: &Rule, check: &DeviationCheck, meter: &MeterFact) -> Key {
    let variant = match rule.id {
        Some(id) => format!("{id}.{}", check.quantity),
        None => check.quantity.to_string(),
    };
    Key::new(Some(meter.account), AlarmKind::Deviation, &variant, subject(meter))
}

fn change(
    key: Key,
    rule: &Rule,
    check: &DeviationCheck,
    meter: &MeterFact,
    last: DateTime<Utc>,
    said: Judgement,
) -> Option<Change> {
    // by the end of the hour: the next one is newer
    let at = last + TimeDelta::hours(1);
    match said {
        Judgement::Open => None,
        Judgement::Clear => Some(Change::Clear { key, at }),
        Judgement::Raise { value, expected, since } => Some(Change::Raise(Box::new(Raise {
            key,
            kind: AlarmKind::Deviation,
            severity: rule.severity,
            subject: subject(meter),
            rule: rule.id,
            cause_at: at,
            detail: Detail {
                quantity: Some(check.quantity.name().to_owned()),
                value: Some(plain(value)),
                expected: Some(plain(expected)),
                unit: Some(check.quantity.unit().symbol().to_owned()),
                since: Some(since),
                ..Detail::default()
            },
            victims: Vec::new(),
            parent: None,
        }))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hour_is_that_of_the_wall_clock() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let now = at("2026-02-24T10:20:00Z");
        assert_eq!(last_hour(Tz::UTC, now), at("2026-02-24T09:00:00Z"));
        assert_eq!(last_hour(chrono_tz::Asia::Kolkata, now), at("2026-02-24T08:30:00Z"));
        assert_eq!(
            last_hour(Tz::UTC, at("2026-02-24T10:00:10Z")),
            at("2026-02-24T08:00:00Z")
        );
    }
}
