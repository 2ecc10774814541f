//! The metering half of the API over HTTP: real PostgreSQL, a real port, readings through the storage path.

mod areas;
mod calendars;
mod exports;
mod imports;
mod meters;
mod readings;
mod schedules;
mod stream;
mod terminal_events;

use crate::harness::api::{Api, Someone};
use crate::harness::http::Answer;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::base::ids::{FrameId, FrameRange, MeterId, PollId, ScheduleId};
use polyphase::domain::access::Role;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use polyphase::domain::slot::{MissReason, SlotEnding, SlotState};
use polyphase::port::ledger::{PollRecord, ReadingStore};
use polyphase::store::ingest::{PgReadingStore, Retention};
use serde_json::{Value as Json, json};

/// The model that these tests use.
const MODEL: &str = "eastron_sdm630";

/// An account with an operator.
struct House {
    api: Api,
    ann: Someone,
}

impl House {
    async fn new() -> Self {
        let api = Api::start().await;
        let ann = api.someone(Role::Operator, "Ann").await;
        Self { api, ann }
    }

    async fn get(&self, path: &str) -> Answer {
        self.api.call(&self.ann, "GET", path, None).await
    }

    async fn post(&self, path: &str, body: Json) -> Answer {
        self.api.call(&self.ann, "POST", path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Json) -> Answer {
        self.api
            .call_with(&self.ann, "PATCH", path, &[("If-Match", "*")], Some(body))
            .await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.api.call(&self.ann, "DELETE", path, None).await
    }

    /// Items of a list.
    async fn items(&self, path: &str) -> Vec<Json> {
        let answer = self.get(path).await.expect(200).json();
        answer["items"].as_array().expect("items").clone()
    }

    /// All items of a list, page by page.
    async fn walk(&self, path: &str, limit: usize) -> Vec<Json> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self
                .get(&format!("{path}{joint}limit={limit}{cursor}"))
                .await
                .expect(200)
                .json();
            let items = page["items"].as_array().expect("items");
            assert!(items.len() <= limit);
            all.extend(items.iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
            assert!(all.len() < 10_000, "the list does not end");
        }
    }

    async fn dtu(&self, sn: &str) -> i64 {
        let made = self
            .post("/dtus", json!({"sn": sn, "name": format!("dtu {sn}")}))
            .await
            .expect(201);
        made.json()["id"].as_i64().expect("an id")
    }

    fn meter_body(dtu: i64, address: u8) -> Json {
        json!({"dtu_id": dtu, "protocol": "modbus-rtu", "address": address, "model": MODEL, "name": format!("meter {address}")})
    }

    async fn meter(&self, dtu: i64, address: u8) -> Json {
        self.post("/meters", Self::meter_body(dtu, address))
            .await
            .expect(201)
            .json()
    }

    /// Stores poll records as the storage actor does.
    async fn store(&self, records: &[PollRecord]) {
        let store = PgReadingStore::new(self.api.db.database(), self.api.clock.clone(), Retention::default());
        let report = store.write(records).await.expect("write");
        assert_eq!((report.conflicts, report.rejected), (0, 0), "{report:?}");
    }

    fn reading(&self, meter: &Json, ts: DateTime<Utc>, source: Source, items: Vec<Item>) -> Reading {
        Reading {
            account: self.ann.account.expect("an account"),
            meter: meter_id(meter),
            ts,
            source,
            read_at: ts + TimeDelta::seconds(2),
            meter_time: None,
            poll: PollId(ts.timestamp()),
            frames: FrameRange {
                first: FrameId(700),
                count: 2,
            },
            items,
        }
    }

    fn read(&self, meter: &Json, ts: DateTime<Utc>, items: Vec<Item>) -> PollRecord {
        PollRecord {
            reading: Some(self.reading(meter, ts, Source::Scheduled, items)),
            ..PollRecord::default()
        }
    }

    fn ended(&self, meter: &Json, schedule: i64, due_at: DateTime<Utc>, state: SlotState) -> PollRecord {
        let ending = SlotEnding {
            account: self.ann.account.expect("an account"),
            meter: meter_id(meter),
            schedule: ScheduleId(i32::try_from(schedule).expect("small")),
            due_at,
            state,
            reason: (state == SlotState::Missing).then_some(MissReason::Timeout),
            detail: None,
            attempts: 3,
            ended_at: due_at + TimeDelta::seconds(90),
        };
        PollRecord {
            endings: vec![ending],
            ..PollRecord::default()
        }
    }
}

fn meter_id(meter: &Json) -> MeterId {
    MeterId(i32::try_from(meter["id"].as_i64().expect("an id")).expect("small"))
}

fn id(object: &Json) -> i64 {
    object["id"].as_i64().expect("an id")
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn energy(value: &str) -> Item {
    item(
        Quantity::ActiveEnergyImport,
        Value::Decimal(value.parse().expect("a decimal")),
    )
}

fn item(quantity: Quantity, value: Value) -> Item {
    Item {
        measurand: Measurand::Standard(quantity),
        value,
        quality: Quality::Measured,
    }
}
