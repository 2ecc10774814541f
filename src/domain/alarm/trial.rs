//! A rule tried on a meter's past: what it would have said, by the same judgement as the present one.

use super::deviation::{Judgement, judge};
use super::meter::{Ground, MeterWatch, judge as judge_reading, judge_ending, plain};
use super::rule::{Check, DeviationCheck, Rule};
use super::{AlarmKind, Change, Detail, Subject};
use crate::base::ids::AccountId;
use crate::domain::reading::Reading;
use crate::domain::slot::SlotEnding;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One alarm that would have been.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Told {
    /// What would have been wrong.
    pub kind: AlarmKind,
    /// When it would have been raised.
    pub raised_at: DateTime<Utc>,
    /// When it would have been right again; null: not within the span.
    pub cleared_at: Option<DateTime<Utc>>,
    /// In an English sentence.
    pub sentence: String,
    /// What was known of the cause.
    pub detail: Detail,
}

/// Something of the past.
#[derive(Clone, Copy, Debug)]
pub enum Happened<'a> {
    /// A reading; whether something of it was missing.
    Reading(&'a Reading, bool),
    /// A slot that ended otherwise.
    Ending(&'a SlotEnding),
}

/// Tries a rule that judges readings and slots.
pub fn of_readings<'a>(
    rule: &Rule,
    account: AccountId,
    subject: Subject,
    past: impl IntoIterator<Item = Happened<'a>>,
) -> Vec<Told> {
    let rules = [rule];
    let ground = Ground {
        account,
        subject,
        rules: &rules,
    };
    let mut watch = MeterWatch::default();
    let mut told: Vec<Told> = Vec::new();
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for happened in past {
        let changes = match happened {
            Happened::Reading(reading, partial) => judge_reading(ground, reading, partial, &mut watch),
            Happened::Ending(ending) => judge_ending(ground, ending, &mut watch),
        };
        for change in changes {
            match change {
                // of what a person has to clear each occurrence is shown
                Change::Raise(raise) => {
                    open.insert(raise.key.text.clone(), told.len());
                    told.push(Told {
                        kind: raise.kind,
                        raised_at: raise.cause_at,
                        cleared_at: None,
                        sentence: raise.detail.sentence(raise.kind),
                        detail: raise.detail,
                    });
                }
                Change::Clear { key, at } => {
                    let place = open.remove(&key.text);
                    if let Some(alarm) = place.and_then(|place| told.get_mut(place)) {
                        alarm.cleared_at = Some(at);
                    }
                }
                Change::Victims { .. } => {}
            }
        }
    }
    told
}

/// Tries a rule on hours of consumption, each from `from` on; earlier hours are what they are compared with.
pub fn of_hours(
    check: &DeviationCheck,
    zone: Tz,
    holidays: &BTreeSet<NaiveDate>,
    hours: &HashMap<DateTime<Utc>, f64>,
    from: DateTime<Utc>,
) -> Vec<Told> {
    let mut starts: Vec<DateTime<Utc>> = hours.keys().copied().filter(|start| *start >= from).collect();
    starts.sort_unstable();
    let mut told: Vec<Told> = Vec::new();
    let mut open = false;
    for start in starts {
        let at = start + TimeDelta::hours(1);
        match judge(check, zone, holidays, hours, start) {
            Judgement::Raise { value, expected, since } if !open => {
                open = true;
                let detail = Detail {
                    quantity: Some(check.quantity.name().to_owned()),
                    value: Some(plain(value)),
                    expected: Some(plain(expected)),
                    unit: Some(check.quantity.unit().symbol().to_owned()),
                    since: Some(since),
                    ..Detail::default()
                };
                told.push(Told {
                    kind: AlarmKind::Deviation,
                    raised_at: at,
                    cleared_at: None,
                    sentence: detail.sentence(AlarmKind::Deviation),
                    detail,
                });
            }
            Judgement::Clear if open => {
                open = false;
                if let Some(alarm) = told.last_mut() {
                    alarm.cleared_at = Some(at);
                }
            }
            _ => {}
        }
    }
    told
}

/// Whether a rule can be tried on the past of a single meter.
pub fn can_try(check: &Check) -> bool {
    check.is_of_readings()
        || matches!(
            check,
            Check::Deviation(_) | Check::MissingData(_) | Check::MeterOffline(_)
        )
}
