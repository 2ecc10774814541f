//! What the live stream says of a stored poll, in the shapes of the API. `app` hands [`describe`] to the storage actor.

use crate::base::ids::{MeterId, ScheduleId};
use crate::domain::reading::{Item, Reading, Source};
use crate::domain::slot::{MissReason, SlotEnding};
use crate::port::ledger::PollRecord;
use crate::port::live::Topic;
use crate::port::readings::{ReadingItem, items_of};
use crate::port::slots::ShownState;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::sync::{Arc, OnceLock};

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

/// Bytes that an event of a reading takes when it is written, beside its items; of a slot likewise.
const EVENT_TEXT: usize = 200;
/// Bytes that an item takes in it.
const ITEM_TEXT: usize = 300;

/// A committed record as the live stream keeps it: the record, and its events' JSON from when somebody first wants them.
/// Nearly all events pass by unheard, and writing them cost more than everything else that follows a commit.
#[derive(Debug)]
pub struct StoredPoll {
    record: PollRecord,
    texts: OnceLock<Vec<Arc<str>>>,
}

impl StoredPoll {
    /// Of a record that the database has now. Its evidence is for the database alone and is let go.
    pub fn new(record: PollRecord) -> Self {
        let record = PollRecord {
            evidence: Vec::new(),
            ..record
        };
        Self {
            record,
            texts: OnceLock::new(),
        }
    }

    /// The record.
    pub fn record(&self) -> &PollRecord {
        &self.record
    }

    /// The topics of its events, in the order of [`describe`].
    pub fn topics(&self) -> impl Iterator<Item = Topic> + '_ {
        let PollRecord { reading, endings, .. } = &self.record;
        let actual = reading.as_ref().is_some_and(|reading| is_on_time(reading, endings));
        let slots = endings.len().saturating_add(usize::from(actual));
        let readings = usize::from(reading.is_some());
        std::iter::repeat_n(Topic::Readings, readings).chain(std::iter::repeat_n(Topic::Slots, slots))
    }

    /// The JSON of its event at this place.
    pub fn text(&self, place: usize) -> Option<Arc<str>> {
        let texts = self.texts.get_or_init(|| {
            describe(&self.record)
                .into_iter()
                .map(|(_, data)| data.to_string().into())
                .collect()
        });
        texts.get(place).map(Arc::clone)
    }

    /// What it takes in memory at most, its texts included, bytes.
    pub fn weight(&self) -> usize {
        let items = self.record.reading.as_ref().map_or(0, |reading| reading.items.len());
        let events = self.record.endings.len().saturating_add(2);
        size_of::<Self>()
            .saturating_add(items.saturating_mul(size_of::<Item>().saturating_add(ITEM_TEXT)))
            .saturating_add(events.saturating_mul(EVENT_TEXT.saturating_add(size_of::<SlotEnding>())))
    }
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
    is_on_time(reading, endings).then_some(SlotEvent {
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

fn is_on_time(reading: &Reading, endings: &[SlotEnding]) -> bool {
    reading.source == Source::Scheduled && !endings.iter().any(|ending| ending.due_at == reading.ts)
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
    fn what_is_written_later_is_what_is_written_now() {
        let endings = || vec![ending(SlotState::Missing), ending(SlotState::Late)];
        let elsewhere = |mut ending: SlotEnding| {
            ending.due_at += chrono::TimeDelta::hours(1);
            ending
        };
        let records = [
            record(Source::Scheduled, Vec::new()),
            record(Source::OnDemand, Vec::new()),
            record(Source::Scheduled, endings()),
            record(Source::Scheduled, endings().into_iter().map(elsewhere).collect()),
            PollRecord {
                reading: None,
                ..record(Source::Scheduled, endings())
            },
            PollRecord::default(),
        ];
        for record in records {
            let now = describe(&record);
            let stored = StoredPoll::new(record);
            assert_eq!(
                stored.topics().collect::<Vec<_>>(),
                now.iter().map(|(topic, _)| *topic).collect::<Vec<_>>()
            );
            let texts: Vec<_> = (0..now.len())
                .map(|place| stored.text(place).unwrap().to_string())
                .collect();
            assert_eq!(texts, now.iter().map(|(_, data)| data.to_string()).collect::<Vec<_>>());
            assert_eq!(stored.text(now.len()), None);
            // the bounds of the stream's memory count what could be written
            assert!(stored.weight() >= texts.iter().map(String::len).sum::<usize>());
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
