//! An account with meters, the API over it, the storage path in front of it, and an integrator behind it that can be
//! killed.

use crate::harness::api::{Api, Someone};
use crate::harness::notices::senders;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::actor::integrator::{IntegratorParts, IntegratorSettings, run};
use polyphase::actor::notifier::Chance;
use polyphase::base::clock::{Clock, SystemClock};
use polyphase::base::ids::{AccountId, FrameRange, MeterId, PollId};
use polyphase::domain::access::Role;
use polyphase::domain::notice::retry::RetryRule;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use polyphase::port::integrations::FeedStore;
use polyphase::port::ledger::{PollRecord, ReadingStore};
use polyphase::store::ingest::{PgReadingStore, Retention};
use polyphase::store::integrations::PgFeed;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Takes off nothing: waits are whole.
struct NoChance;

impl Chance for NoChance {
    fn chance(&self) -> f64 {
        0.0
    }
}

/// Waits until it holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The time of the integrator, which is not the API's here.
pub fn now() -> DateTime<Utc> {
    SystemClock.now()
}

pub struct World {
    pub api: Api,
    pub admin: Someone,
    store: PgReadingStore,
}

/// An integrator under way.
pub struct Integrator {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Integrator {
    /// Ends it between two instructions, as a kill does.
    pub async fn kill(self) {
        self.task.abort();
        let _cut_off = self.task.await;
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub fn settings() -> IntegratorSettings {
    IntegratorSettings {
        active_max: 50,
        posts_max: 8,
        body_bytes_max: 1 << 20,
        retry: RetryRule {
            first_s: 1,
            longest_s: 1,
            attempts: 30,
            age_h: 1,
        },
        stop_after: TimeDelta::days(5),
        keep: TimeDelta::days(7),
    }
}

/// A reading of a meter, `second` seconds after an hour that is kept.
pub fn reading(meter: i32, second: i64, energy: i64) -> Reading {
    let hour = SystemClock.now().timestamp() / 3600 * 3600 - 7200;
    let ts = DateTime::<Utc>::from_timestamp(hour + second, 0).unwrap();
    let item = |quantity, value| Item {
        measurand: Measurand::Standard(quantity),
        value,
        quality: Quality::Measured,
    };
    Reading {
        account: AccountId(1),
        meter: MeterId(meter),
        ts,
        source: Source::Scheduled,
        read_at: ts + TimeDelta::seconds(1),
        meter_time: None,
        poll: PollId(7),
        frames: FrameRange::EMPTY,
        items: vec![
            item(Quantity::VoltageL1, Value::F32(230.5)),
            item(Quantity::ActiveEnergyImport, Value::Decimal(energy.into())),
        ],
    }
}

impl World {
    /// One DTU, `SN-1`, with four meters; the first two are of group 1.
    pub async fn new() -> Self {
        let api = Api::start().await;
        let admin = api.someone(Role::Admin, "a").await;
        api.db
            .sql(
                "INSERT INTO meter_group (account_id, name, created_at) VALUES (1, 'house', now());
                 INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, 'SN-1', 'cellar', now());
                 INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, group_id, created_at)
                 SELECT 1, 1, 'modbus-rtu', n::text, 'acme', 'meter ' || n, CASE WHEN n < 3 THEN 1 END, now()
                 FROM generate_series(1, 4) n",
            )
            .await;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = PgReadingStore::new(api.db.database(), clock, Retention::default());
        store.maintain(SystemClock.now()).await.unwrap();
        Self { api, admin, store }
    }

    /// What the storage actor does with a batch.
    pub async fn stored(&self, readings: Vec<Reading>) {
        let records: Vec<PollRecord> = readings
            .into_iter()
            .map(|reading| PollRecord {
                reading: Some(reading),
                ..PollRecord::default()
            })
            .collect();
        self.store.write(&records).await.unwrap();
    }

    pub fn feed(&self) -> PgFeed {
        PgFeed::new(self.api.db.database())
    }

    /// Starts an integrator; an attempt takes at most `timeout`.
    pub fn integrator(&self, settings: IntegratorSettings, timeout: Duration) -> Integrator {
        let stop = CancellationToken::new();
        let (poster, broker) = senders(timeout);
        let parts = IntegratorParts {
            clock: Arc::new(SystemClock),
            feed: Arc::new(self.feed()),
            poster,
            broker,
            chance: Arc::new(NoChance),
            settings,
        };
        Integrator {
            task: actix_web::rt::spawn(run(parts, stop.clone())),
            stop,
        }
    }

    /// Makes an integration; the answer.
    pub async fn add(&self, body: Json) -> Json {
        let made = self.api.call(&self.admin, "POST", "/integrations", Some(body)).await;
        made.expect(201).json()
    }

    /// Makes a webhook of readings to this address.
    pub async fn webhook(&self, address: std::net::SocketAddr, more: Json) -> Json {
        let mut body = json!({ "name": "hook", "kind": "webhook", "target": format!("http://{address}/hook"),
                               "batch_wait_s": 0 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.add(body).await
    }

    pub async fn look(&self, id: &Json) -> Json {
        let path = format!("/integrations/{id}");
        self.api.call(&self.admin, "GET", &path, None).await.expect(200).json()
    }

    pub async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement)
            .fetch_one(&mut self.api.db.superuser().await)
            .await
            .unwrap()
    }

    /// The feed is read once more: how many rows it has.
    pub async fn rows(&self) -> u64 {
        self.feed().fill().await.unwrap().rows
    }
}
