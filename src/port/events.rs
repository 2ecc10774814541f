//! What the live stream says of a stored poll, in the shapes of the API. `app` hands [`describe`] to the storage actor.

use crate::base::ids::{MeterId, ScheduleId};
use crate::domain::reading::{Reading, Source};
use crate::domain::slot::{MissReason, SlotEnding};
use crate::port::ledger::PollRecord;
use crate::port::live::Topic;
use crate::port::readings::{ReadingItem, items_of};
use crate::port::slots::ShownState;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A stored reading, topic `readings`.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ReadingEvent {
    /// The meter.
    #[schema(value_type = i32)]
    pub meter_id: MeterId,
    /// Its values, as `/meters/{id}/readings` shows them.
    pub items: Vec<ReadingItem>,
}

/// A slot that ended, topic `slots`.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SlotEvent {
    /// The meter.
    #[schema(value_type = i32)]
    pub meter_id: MeterId,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// The schedule; null: all slots of the meter at that instant that no other event names.
    #[schema(value_type = Option<i32>)]
    pub schedule_id: Option<ScheduleId>,
    /// How it ended.
    pub state: ShownState,
    /// Why it is missing.
    #[schema(value_type = Option<String>)]
    pub reason: Option<MissReason>,
    /// More about why.
    pub detail: Option<String>,
    /// Attempts on the line; null where the reading itself is the ending.
    pub attempts: Option<i32>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
}

/// The events of a committed record, in the order in which they happened.
pub fn describe(record: &PollRecord) -> Vec<(Topic, serde_json::Value)> {
    let mut events = Vec::new();
    if let Some(reading) = &record.reading {
        events.push((
            Topic::Readings,
            json(&ReadingEvent {
                meter_id: reading.meter,
                items: items_of(reading),
            }),
        ));
    }
    events.extend(record.endings.iter().map(|ending| (Topic::Slots, json(&ended(ending)))));
    if let Some(actual) = record
        .reading
        .as_ref()
        .and_then(|reading| on_time(reading, &record.endings))
    {
        events.push((Topic::Slots, json(&actual)));
    }
    events
}

fn json<T: Serialize>(event: &T) -> serde_json::Value {
    // numbers, texts and lists alone: it always serialises
    serde_json::to_value(event).unwrap_or_default()
}

fn ended(ending: &SlotEnding) -> SlotEvent {
    SlotEvent {
        meter_id: ending.meter,
        due_at: ending.due_at,
        schedule_id: Some(ending.schedule),
        state: ending.state.into(),
        reason: ending.reason,
        detail: ending.detail.clone(),
        attempts: Some(i32::from(ending.attempts)),
        ended_at: ending.ended_at,
    }
}

/// A scheduled reading is itself the ending of its slots, unless one of them ended in another way.
fn on_time(reading: &Reading, endings: &[SlotEnding]) -> Option<SlotEvent> {
    let other = endings.iter().any(|ending| ending.due_at == reading.ts);
    (reading.source == Source::Scheduled && !other).then_some(SlotEvent {
        meter_id: reading.meter,
        due_at: reading.ts,
        schedule_id: None,
        state: ShownState::Actual,
        reason: None,
        detail: None,
        attempts: None,
        ended_at: reading.read_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{AccountId, FrameRange, PollId};
    use crate::domain::quantity::Quantity;
    use crate::domain::reading::{Item, Measurand, Quality, Value};
    use crate::domain::slot::SlotState;
    use serde_json::json;

    fn record(source: Source, endings: Vec<SlotEnding>) -> PollRecord {
        PollRecord {
            reading: Some(Reading {
                account: AccountId(1),
                meter: MeterId(7),
                ts: DateTime::UNIX_EPOCH,
                source,
                read_at: DateTime::UNIX_EPOCH,
                meter_time: None,
                poll: PollId(1),
                frames: FrameRange::EMPTY,
                items: vec![Item {
                    measurand: Measurand::Standard(Quantity::VoltageL1),
                    value: Value::F32(230.1),
                    quality: Quality::Measured,
                }],
            }),
            endings,
            evidence: Vec::new(),
        }
    }

    fn ending(state: SlotState) -> SlotEnding {
        SlotEnding {
            account: AccountId(1),
            meter: MeterId(7),
            schedule: ScheduleId(3),
            due_at: DateTime::UNIX_EPOCH,
            state,
            reason: None,
            detail: None,
            attempts: 2,
            ended_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_scheduled_reading_ends_its_slots() {
        let events = describe(&record(Source::Scheduled, Vec::new()));
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].0, Topic::Readings);
        assert_eq!(events[0].1["items"][0]["value"], json!("230.1"));
        assert_eq!((events[1].0, &events[1].1["state"]), (Topic::Slots, &json!("actual")));
    }

    #[test]
    fn an_ending_of_its_own_outranks_the_reading() {
        let events = describe(&record(Source::Scheduled, vec![ending(SlotState::Late)]));
        let states: Vec<_> = events
            .iter()
            .filter(|(topic, _)| *topic == Topic::Slots)
            .map(|(_, data)| &data["state"])
            .collect();
        assert_eq!(states, [&json!("late")]);
    }

    #[test]
    fn an_on_demand_reading_ends_no_slot() {
        assert_eq!(describe(&record(Source::OnDemand, Vec::new())).len(), 1);
    }
}
