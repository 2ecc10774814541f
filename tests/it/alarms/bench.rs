//! A fleet in a database, and the alarm actor over it on a clock that is moved by hand. A test waits for what the actor
//! has done (looks and judgements are counted), never for a time.

use crate::harness::db::TestDb;
use actix::{Actor, Addr};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::actor::alarm::feed::{self, AlarmFeed};
use polyphase::actor::alarm::{AlarmParts, AlarmSettings, Alarms, StopAlarms};
use polyphase::actor::supervise::RestartPolicy;
use polyphase::base::clock::{Clock, ManualClock};
use polyphase::base::ids::{AccountId, DtuId, FrameId, FrameRange, MeterId, PointId, PollId};
use polyphase::domain::alarm::AlarmEdge;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use polyphase::port::alarms::{
    AlarmLog, CommandFact, ConflictFact, HourValue, HoursAsked, OpenAlarm, Resumed, Settled, Settlement, SlotShare,
    TerminalEventFact, Topology,
};
use polyphase::port::events::StoredPoll;
use polyphase::port::ledger::{PollRecord, ReadingStore, StoreUnavailable};
use polyphase::port::live::{LiveFeed, Topic};
use polyphase::store::alarms::PgAlarmLog;
use polyphase::store::ingest::{PgReadingStore, Retention};
use rust_decimal::Decimal;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The database's own alarm log, which counts what was asked of it, and once panics if it is told to.
pub struct Counted {
    inner: PgAlarmLog,
    looks: AtomicU64,
    judged: AtomicU64,
    pub panics: AtomicBool,
}

#[async_trait]
impl AlarmLog for Counted {
    async fn resume(&self) -> Result<Resumed, StoreUnavailable> {
        self.inner.resume().await
    }

    async fn topology(&self) -> Result<Topology, StoreUnavailable> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "the test wants it");
        self.inner.topology().await
    }

    async fn open(&self) -> Result<Vec<OpenAlarm>, StoreUnavailable> {
        self.inner.open().await
    }

    async fn settle(&self, settlement: &Settlement, now: DateTime<Utc>) -> Result<Settled, StoreUnavailable> {
        let settled = self.inner.settle(settlement, now).await?;
        if settlement.mark.is_some() {
            self.judged.fetch_add(1, Ordering::SeqCst);
        }
        Ok(settled)
    }

    /// The last thing of a look around.
    async fn remind(&self, before: DateTime<Utc>, now: DateTime<Utc>) -> Result<Vec<AlarmEdge>, StoreUnavailable> {
        let edges = self.inner.remind(before, now).await?;
        self.looks.fetch_add(1, Ordering::SeqCst);
        Ok(edges)
    }

    async fn judged_again(&self, since: DateTime<Utc>, max: u32) -> Result<Vec<PollRecord>, StoreUnavailable> {
        self.inner.judged_again(since, max).await
    }

    async fn hours(&self, asked: &HoursAsked) -> Result<HashMap<PointId, Vec<HourValue>>, StoreUnavailable> {
        self.inner.hours(asked).await
    }

    async fn slots(&self, account: AccountId, since: DateTime<Utc>) -> Result<SlotShare, StoreUnavailable> {
        self.inner.slots(account, since).await
    }

    async fn commands(&self, since: DateTime<Utc>) -> Result<Vec<CommandFact>, StoreUnavailable> {
        self.inner.commands(since).await
    }

    async fn conflicts(&self, since: DateTime<Utc>) -> Result<Vec<ConflictFact>, StoreUnavailable> {
        self.inner.conflicts(since).await
    }

    async fn terminal_events(&self, since: DateTime<Utc>) -> Result<Vec<TerminalEventFact>, StoreUnavailable> {
        self.inner.terminal_events(since).await
    }
}

/// Keeps what was told.
#[derive(Default)]
pub struct Heard(Mutex<Vec<serde_json::Value>>);

impl LiveFeed for Heard {
    fn publish(
        &self,
        _account: AccountId,
        topic: Topic,
        _dtu: Option<DtuId>,
        _meter: Option<MeterId>,
        data: serde_json::Value,
    ) {
        if topic == Topic::Alarms {
            self.0.lock().unwrap().push(data);
        }
    }
}

pub struct Bench {
    pub db: TestDb,
    pub clock: Arc<ManualClock>,
    pub log: Arc<Counted>,
    pub heard: Arc<Heard>,
    pub feed: AlarmFeed,
    store: PgReadingStore,
    actor: Addr<Alarms>,
    queue: usize,
}

/// Noon of a Tuesday.
pub fn noon() -> DateTime<Utc> {
    "2026-03-03T12:00:00Z".parse().unwrap()
}

/// One account with so many DTUs, each with one meter at a point of its own and a session since an hour ago.
pub async fn fleet(db: &TestDb, dtus: u32) {
    db.sql(&format!(
        "INSERT INTO account (name, time_zone, created_at) VALUES ('a', 'UTC', '2026-01-01');
         INSERT INTO dtu (account_id, sn, name, created_at) SELECT 1, 'SN-' || g, 'dtu ' || g, '2026-01-01' FROM generate_series(1, {dtus}) g;
         INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at)
         SELECT 1, g, 'modbus-rtu', '1', 'm', 'meter ' || g, '2026-01-01' FROM generate_series(1, {dtus}) g;
         INSERT INTO metering_point (account_id, name, created_at) SELECT 1, 'p' || g, '2026-01-01' FROM generate_series(1, {dtus}) g;
         INSERT INTO installation (account_id, point_id, meter_id, valid_from)
         SELECT 1, g, g, '2026-01-01' FROM generate_series(1, {dtus}) g;
         INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at)
         SELECT g, g, 1, '10.0.0.1:5', '2026-03-03T11:00:00Z' FROM generate_series(1, {dtus}) g"
    ))
    .await;
}

fn start(clock: &Arc<ManualClock>, log: &Arc<Counted>, heard: &Arc<Heard>, queue: usize) -> (AlarmFeed, Addr<Alarms>) {
    let (feed, inbox) = feed::queue(queue);
    let settings = AlarmSettings {
        every: Duration::from_millis(20),
        remind_after: Duration::from_secs(4 * 3600),
    };
    let parts = AlarmParts::new(
        Arc::clone(clock) as Arc<dyn Clock>,
        Arc::clone(log) as Arc<dyn AlarmLog>,
        Arc::clone(heard) as Arc<dyn LiveFeed>,
        Vec::new(),
        settings,
        inbox,
    );
    let policy = RestartPolicy {
        first: Duration::from_millis(10),
        ..RestartPolicy::default()
    };
    (feed, Alarms::new(parts, policy).start())
}

impl Bench {
    pub async fn new(dtus: u32) -> Self {
        Self::with_queue(dtus, 10_000).await
    }

    pub async fn with_queue(dtus: u32, queue: usize) -> Self {
        let db = TestDb::new().await;
        fleet(&db, dtus).await;
        let clock = Arc::new(ManualClock::new(noon()));
        let dynamic = Arc::clone(&clock) as Arc<dyn Clock>;
        let retention = Retention {
            readings_days: 1_000,
            endings_days: 1_000,
            evidence_days: 30,
        };
        let store = PgReadingStore::new(db.database(), dynamic, retention);
        store.maintain(clock.now()).await.unwrap();
        let log = Arc::new(Counted {
            inner: PgAlarmLog::new(db.database()),
            looks: AtomicU64::new(0),
            judged: AtomicU64::new(0),
            panics: AtomicBool::new(false),
        });
        let heard = Arc::new(Heard::default());
        let (feed, actor) = start(&clock, &log, &heard, queue);
        let bench = Self {
            db,
            clock,
            log,
            heard,
            feed,
            store,
            actor,
            queue,
        };
        bench.looked(0).await;
        bench
    }

    async fn looked(&self, before: u64) {
        let wait = async {
            while self.log.looks.load(Ordering::SeqCst) <= before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(120), wait).await;
        waited.expect("the actor looks around");
    }

    /// Time passes, and the actor has looked around.
    pub async fn pass(&self, span: TimeDelta) {
        let before = self.log.looks.load(Ordering::SeqCst);
        self.clock.advance(span.to_std().unwrap());
        self.looked(before).await;
    }

    /// So many minutes pass, with a look in each.
    pub async fn minutes(&self, minutes: u32) {
        for _ in 0..minutes {
            self.pass(TimeDelta::minutes(1)).await;
        }
    }

    /// The actor is gone, and another one with nothing but the database comes.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.begin().await;
    }

    pub async fn stop(&self) {
        self.actor.send(StopAlarms).await.unwrap();
        while self.actor.connected() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn begin(&mut self) {
        // the judge before goes on until nobody feeds it: a late look of its own must not be taken for one of the next
        self.feed = polyphase::actor::alarm::feed::queue(1).0;
        let gone = async {
            while Arc::strong_count(&self.log) > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(120), gone).await;
        waited.expect("the judge before ends");
        let before = self.log.looks.load(Ordering::SeqCst);
        (self.feed, self.actor) = start(&self.clock, &self.log, &self.heard, self.queue);
        self.looked(before).await;
    }

    /// Stores records as the storage actor does.
    pub async fn store(&self, records: &[PollRecord]) {
        self.store.write(records).await.unwrap();
    }

    /// Stores and feeds records, and waits until they are judged.
    pub async fn read(&self, records: Vec<PollRecord>) {
        self.store(&records).await;
        let before = self.log.judged.load(Ordering::SeqCst);
        let stored = records.into_iter().map(|record| Arc::new(StoredPoll::new(record)));
        self.feed.committed(stored.collect());
        self.judged(before).await;
    }

    async fn judged(&self, before: u64) {
        let wait = async {
            while self.log.judged.load(Ordering::SeqCst) <= before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(120), wait).await;
        waited.expect("what was committed is judged");
    }

    /// A reading of now.
    pub fn reading(&self, meter: i32, items: &[(Quantity, &str)]) -> PollRecord {
        record(self.clock.now(), meter, items)
    }

    /// One column of a statement.
    pub async fn rows(&self, statement: &'static str) -> Vec<String> {
        sqlx::query_scalar(statement)
            .fetch_all(&mut self.db.superuser().await)
            .await
            .unwrap()
    }

    /// Every step of every alarm, as `step key`, in order.
    pub async fn steps(&self) -> Vec<String> {
        self.rows("SELECT e.step || ' ' || a.key FROM alarm_edge e JOIN alarm a ON a.id = e.alarm_id ORDER BY e.id")
            .await
    }

    /// The steps that were told on the live stream.
    pub fn told(&self) -> usize {
        self.heard.0.lock().unwrap().len()
    }
}

/// A scheduled reading.
pub fn record(at: DateTime<Utc>, meter: i32, items: &[(Quantity, &str)]) -> PollRecord {
    let items = items.iter().map(|(quantity, value)| {
        let exact = matches!(quantity.kind(), polyphase::domain::quantity::Kind::Register);
        Item {
            measurand: Measurand::Standard(*quantity),
            value: if exact {
                Value::Decimal(value.parse::<Decimal>().unwrap())
            } else {
                Value::F32(value.parse().unwrap())
            },
            quality: Quality::Measured,
        }
    });
    PollRecord {
        reading: Some(Reading {
            account: AccountId(1),
            meter: MeterId(meter),
            ts: at,
            source: Source::Scheduled,
            read_at: at,
            meter_time: None,
            poll: PollId(1),
            frames: FrameRange {
                first: FrameId(77),
                count: 1,
            },
            items: items.collect(),
        }),
        ..PollRecord::default()
    }
}
