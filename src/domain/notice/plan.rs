//! Routes, and the plan that follows from them: which channel is told of a happening, and when.
//!
//! Raised: every step of every matching route, once per channel, at the earliest step that names it. Acknowledged: steps
//! that lie ahead are called off. Cleared: whatever has not been told yet is called off, and those who were told learn
//! that it is over, if their route says so. So nobody learns the end of what they never heard of.

use super::{ChannelKind, Edge, Happening, Recipient, Severity};
use crate::base::ids::{ChannelId, GroupId, RecipientId, RouteId};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most steps of a route, people of a step, and kinds or groups that a route names.
pub const STEPS_MAX: usize = 10;
/// The most recipients of one step.
pub const STEP_PEOPLE_MAX: usize = 50;
/// The most kinds or groups that a route names.
pub const MATCH_MAX: usize = 100;
/// The latest step, minutes after the happening.
pub const AFTER_MIN_MAX: u32 = 7 * 1440;

/// A rule of who is told what.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// What it says.
    pub rule: Rule,
}

/// What a route says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is at least so severe.
    #[serde(default = "warning")]
    pub min_severity: Severity,
    /// Kinds of happenings; empty: every kind.
    #[serde(default)]
    #[schema(example = json!(["deviation", "dtu_offline"]))]
    pub kinds: Vec<String>,
    /// Groups of meters that it must concern one of; empty: wherever it is.
    #[serde(default)]
    #[schema(value_type = Vec<i32>)]
    pub groups: Vec<GroupId>,
    /// Who is told, one step after the other while nobody acknowledges.
    pub steps: Vec<Step>,
    /// Whether those who were told are told that it is over.
    #[serde(default = "yes")]
    pub tell_cleared: bool,
}

fn warning() -> Severity {
    Severity::Warning
}

fn yes() -> bool {
    true
}

/// One step of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// So many minutes after the happening, if nobody has acknowledged it by then.
    #[serde(default)]
    pub after_min: u32,
    /// Who.
    #[schema(value_type = Vec<i32>)]
    pub recipients: Vec<RecipientId>,
    /// By which kinds of channels; empty: all that the person has.
    #[serde(default)]
    pub channels: Vec<ChannelKind>,
}

impl Rule {
    /// Whether a happening is for this route.
    pub fn matches(&self, happening: &Happening) -> bool {
        happening.severity >= self.min_severity
            && (self.kinds.is_empty() || self.kinds.contains(&happening.kind))
            && (self.groups.is_empty() || self.groups.iter().any(|group| happening.groups.contains(group)))
    }

    /// What is wrong with it, each with its field.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            found.push(("steps".to_owned(), format!("1 to {STEPS_MAX} steps are needed")));
        }
        for (name, count) in [("kinds", self.kinds.len()), ("groups", self.groups.len())] {
            if count > MATCH_MAX {
                found.push((name.to_owned(), format!("at most {MATCH_MAX}")));
            }
        }
        if self.kinds.iter().any(|kind| kind.is_empty() || kind.len() > 64) {
            found.push(("kinds".to_owned(), "a kind has 1 to 64 characters".to_owned()));
        }
        let mut before = None;
        for (index, step) in self.steps.iter().enumerate() {
            if step.recipients.is_empty() || step.recipients.len() > STEP_PEOPLE_MAX {
                found.push((
                    format!("steps[{index}].recipients"),
                    format!("1 to {STEP_PEOPLE_MAX} recipients are needed"),
                ));
            }
            if step.after_min > AFTER_MIN_MAX {
                found.push((
                    format!("steps[{index}].after_min"),
                    format!("at most {AFTER_MIN_MAX} minutes"),
                ));
            }
            if before.is_some_and(|before| step.after_min <= before) {
                found.push((
                    format!("steps[{index}].after_min"),
                    "a step comes later than the one before it".to_owned(),
                ));
            }
            before = Some(step.after_min);
        }
        found
    }
}

/// What an earlier happening of the same subject planned, since it was last raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The item.
    pub item: i64,
    /// Whom.
    pub recipient: RecipientId,
    /// By which channel.
    pub channel: ChannelId,
    /// By which route.
    pub route: RouteId,
    /// At which step.
    pub step: u16,
    /// Whether it was told, or waits.
    pub told: bool,
}

/// One channel to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedItem {
    /// Whom.
    pub recipient: RecipientId,
    /// By which channel.
    pub channel: ChannelId,
    /// By which route.
    pub route: RouteId,
    /// At which step.
    pub step: u16,
    /// When.
    pub due: DateTime<Utc>,
}

/// What follows from a happening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Who is told.
    pub items: Vec<PlannedItem>,
    /// Waiting items that are called off.
    pub cancel: Vec<i64>,
}

/// Plans a happening. `recipients` are those that are switched on; `earlier` are the items of the same subject since it
/// was last raised.
pub fn plan(
    happening: &Happening,
    now: DateTime<Utc>,
    routes: &[Route],
    recipients: &[Recipient],
    earlier: &[Earlier],
) -> Plan {
    let people: HashMap<RecipientId, &Recipient> = recipients.iter().map(|person| (person.id, person)).collect();
    match happening.edge {
        Edge::Raised => raised(happening, now, routes, &people, earlier),
        Edge::Reminded => Plan {
            items: again(happening, now, &people, earlier.iter()),
            cancel: Vec::new(),
        },
        Edge::Acknowledged => Plan {
            items: Vec::new(),
            cancel: earlier
                .iter()
                .filter(|item| !item.told && item.step > 0)
                .map(|item| item.item)
                .collect(),
        },
        Edge::Cleared => {
            let telling: BTreeSet<RouteId> = routes
                .iter()
                .filter(|route| route.rule.tell_cleared)
                .map(|route| route.id)
                .collect();
            Plan {
                items: again(
                    happening,
                    now,
                    &people,
                    earlier.iter().filter(|item| telling.contains(&item.route)),
                ),
                cancel: earlier.iter().filter(|item| !item.told).map(|item| item.item).collect(),
            }
        }
    }
}

fn raised(
    happening: &Happening,
    now: DateTime<Utc>,
    routes: &[Route],
    people: &HashMap<RecipientId, &Recipient>,
    earlier: &[Earlier],
) -> Plan {
    let waiting: BTreeSet<ChannelId> = earlier
        .iter()
        .filter(|item| !item.told)
        .map(|item| item.channel)
        .collect();
    let mut items: BTreeMap<ChannelId, PlannedItem> = BTreeMap::new();
    for route in routes.iter().filter(|route| route.rule.matches(happening)) {
        for (index, step) in route.rule.steps.iter().enumerate() {
            let from = now.max(happening.at + TimeDelta::minutes(step.after_min.into()));
            for person in step.recipients.iter().filter_map(|id| people.get(id)) {
                let wanted = |kind| step.channels.is_empty() || step.channels.contains(&kind);
                for channel in person.channels.iter().filter(|channel| wanted(channel.kind)) {
                    let item = PlannedItem {
                        recipient: person.id,
                        channel: channel.id,
                        route: route.id,
                        step: u16::try_from(index).unwrap_or(u16::MAX),
                        due: person.due(from, happening.severity),
                    };
                    let kept = items.entry(channel.id).or_insert(item);
                    if (item.due, item.step) < (kept.due, kept.step) {
                        *kept = item;
                    }
                }
            }
        }
    }
    items.retain(|channel, _| !waiting.contains(channel));
    Plan {
        items: items.into_values().collect(),
        cancel: Vec::new(),
    }
}

/// Tells those who were told before, once each.
fn again<'a>(
    happening: &Happening,
    now: DateTime<Utc>,
    people: &HashMap<RecipientId, &Recipient>,
    earlier: impl Iterator<Item = &'a Earlier>,
) -> Vec<PlannedItem> {
    let mut items: BTreeMap<ChannelId, PlannedItem> = BTreeMap::new();
    for item in earlier.filter(|item| item.told) {
        let Some(person) = people.get(&item.recipient) else {
            continue;
        };
        if person.channels.iter().any(|channel| channel.id == item.channel) {
            items.entry(item.channel).or_insert(PlannedItem {
                recipient: item.recipient,
                channel: item.channel,
                route: item.route,
                step: item.step,
                due: person.due(now, happening.severity),
            });
        }
    }
    items.into_values().collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
