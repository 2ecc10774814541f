//! The storage path: replay, collision, conflict, poison, versions of endings, under the `ingest` role.

use crate::harness::db::TestDb;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::base::clock::ManualClock;
use polyphase::base::ids::{AccountId, ConnectionId, DtuId, FrameId, FrameRange, MeterId, PollId, ScheduleId};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use polyphase::domain::slot::{MissReason, SlotEnding, SlotState};
use polyphase::port::frames::{FrameKind, RawFrame, RecordedFrame};
use polyphase::port::ledger::{PollRecord, ReadingStore, WriteReport};
use polyphase::store::ingest::{PgReadingStore, Retention};
use sqlx::Row;
use std::sync::Arc;

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(super) fn now() -> DateTime<Utc> {
    at("2026-11-21T10:00:10Z")
}

pub(super) async fn store(db: &TestDb) -> PgReadingStore {
    let store = PgReadingStore::new(db.database(), Arc::new(ManualClock::new(now())), Retention::default());
    store.maintain(now()).await.unwrap();
    store
}

fn standard(quantity: Quantity, value: Value) -> Item {
    Item {
        measurand: Measurand::Standard(quantity),
        value,
        quality: Quality::Measured,
    }
}

pub(super) fn reading(meter: i32, ts: DateTime<Utc>, energy: &str) -> Reading {
    Reading {
        account: AccountId(1),
        meter: MeterId(meter),
        ts,
        source: Source::Scheduled,
        read_at: ts + TimeDelta::seconds(2),
        meter_time: None,
        poll: PollId(7),
        frames: FrameRange {
            first: FrameId(100),
            count: 2,
        },
        items: vec![
            standard(Quantity::VoltageL1, Value::F32(230.5)),
            standard(Quantity::ActiveEnergyImport, Value::Decimal(energy.parse().unwrap())),
            Item {
                measurand: Measurand::Vendor("firmware".into()),
                value: Value::Decimal(12.into()),
                quality: Quality::Suspect,
            },
        ],
    }
}

pub(super) fn record(reading: Reading) -> PollRecord {
    PollRecord {
        reading: Some(reading),
        ..PollRecord::default()
    }
}

fn report(inserted: u64, duplicates: u64, conflicts: u64, rejected: u64) -> WriteReport {
    WriteReport {
        inserted,
        duplicates,
        conflicts,
        rejected,
    }
}

async fn count(db: &TestDb, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(&mut db.superuser().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn values_arrive_in_their_columns_and_a_replay_changes_nothing() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    let ts = at("2026-11-21T10:00:00Z");
    let records: Vec<PollRecord> = (1..=50).map(|meter| record(reading(meter, ts, "1234.560"))).collect();
    assert_eq!(store.write(&records).await.unwrap(), report(50, 0, 0, 0));
    assert_eq!(store.write(&records).await.unwrap(), report(0, 50, 0, 0));

    let row = sqlx::query(
        "SELECT voltage_l1::text, active_energy_import::text, read_at, poll_id, frame_first, frame_count, account_id,
                quality, (SELECT string_agg(quantity || '=' || exact || '/' || quality, ',') FROM reading_side s
                          WHERE s.meter_id = r.meter_id)
         FROM reading_electricity r WHERE meter_id = 17",
    )
    .fetch_one(&mut db.superuser().await)
    .await
    .unwrap();
    assert_eq!(row.get::<String, _>(0), "230.5");
    assert_eq!(row.get::<String, _>(1), "1234.560", "a register keeps its digits");
    assert_eq!(row.get::<DateTime<Utc>, _>(2), ts + TimeDelta::seconds(2));
    assert_eq!(
        (row.get::<i64, _>(3), row.get::<i64, _>(4), row.get::<i16, _>(5)),
        (7, 100, 2)
    );
    assert_eq!(row.get::<i32, _>(6), 1);
    assert_eq!(
        row.get::<Option<String>, _>("quality"),
        None,
        "only exceptions are kept"
    );
    assert_eq!(row.get::<String, _>(8), "firmware=12/3");
    assert_eq!(count(&db, "SELECT count(*) FROM latest_reading").await, 50);
    // one row, whatever the number of meters
    assert_eq!(
        count(&db, "SELECT count(*) FROM hour_mark WHERE registers AND polls").await,
        1
    );
    assert_eq!(
        count(&db, "SELECT cardinality(meters)::bigint FROM hour_mark").await,
        50
    );
}

#[tokio::test]
async fn a_collision_keeps_the_first_value_and_lets_the_new_rows_land() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    let ts = at("2026-11-21T10:00:00Z");
    store
        .write(&[record(reading(1, ts, "1")), record(reading(2, ts, "2"))])
        .await
        .unwrap();

    let mixed = [
        record(reading(1, ts, "1")),    // equal
        record(reading(2, ts, "2.5")),  // another value
        record(reading(3, ts, "3")),    // new
        record(reading(3, ts, "3.00")), // equal within the batch
        record(reading(3, ts, "4")),    // another one within the batch
    ];
    assert_eq!(store.write(&mixed).await.unwrap(), report(1, 2, 2, 0));
    assert_eq!(store.write(&mixed).await.unwrap(), report(0, 3, 2, 0));
    let energies: Vec<String> =
        sqlx::query_scalar("SELECT active_energy_import::text FROM reading_electricity ORDER BY meter_id")
            .fetch_all(&mut db.superuser().await)
            .await
            .unwrap();
    assert_eq!(energies, ["1", "2", "3"]);
    // the replay found its own conflicts again
    assert_eq!(count(&db, "SELECT count(*) FROM reading_conflict").await, 2);
    let offered: serde_json::Value = sqlx::query_scalar("SELECT offered FROM reading_conflict WHERE meter_id = 2")
        .fetch_one(&mut db.superuser().await)
        .await
        .unwrap();
    assert!(offered.to_string().contains("2.5"), "{offered}");
}

#[tokio::test]
async fn poison_is_set_aside_and_the_others_land() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    let ts = at("2026-11-21T10:00:00Z");
    let mut records: Vec<PollRecord> = (1..=100).map(|meter| record(reading(meter, ts, "1"))).collect();
    for bad in [13, 14, 77] {
        let reading = records[bad].reading.as_mut().unwrap();
        reading.items[2].measurand = Measurand::Vendor("nul\0".into());
    }
    // a device whose clock is broken
    records.push(record(reading(500, at("1970-01-02T00:00:00Z"), "1")));
    records.push(record(reading(501, at("2106-02-07T06:28:15Z"), "1")));
    assert_eq!(store.write(&records).await.unwrap(), report(97, 0, 0, 5));
    assert_eq!(store.write(&records).await.unwrap(), report(0, 97, 0, 5));
    assert_eq!(count(&db, "SELECT count(*) FROM reading_electricity").await, 97);
    assert_eq!(count(&db, "SELECT count(*) FROM reading_rejected").await, 5);
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM reading_rejected WHERE sqlstate = '22021' AND meter_id IN (14, 15, 78)"
        )
        .await,
        3
    );
    let days = count(&db, "SELECT count(*) FROM partition_days('reading_side')").await;
    assert_eq!(days, 5, "a broken clock makes no partitions");
}

#[tokio::test]
async fn late_data_gets_its_partition() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    let old = at("2026-08-03T04:05:06Z");
    assert_eq!(
        store.write(&[record(reading(1, old, "1"))]).await.unwrap(),
        report(1, 0, 0, 0)
    );
    assert_eq!(count(&db, "SELECT count(*) FROM reading_electricity_20260803").await, 1);
}

fn ending(state: SlotState, reason: Option<MissReason>, ended_at: &str) -> PollRecord {
    PollRecord {
        endings: vec![SlotEnding {
            account: AccountId(1),
            meter: MeterId(1),
            schedule: ScheduleId(4),
            due_at: at("2026-11-21T09:45:00Z"),
            state,
            reason,
            detail: Some("0x02\0".into()),
            attempts: 3,
            ended_at: at(ended_at),
        }],
        ..PollRecord::default()
    }
}

/// So many that the database compares them itself.
#[tokio::test]
async fn a_large_replay_is_told_from_new_rows_and_from_other_values() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    let ts = at("2026-11-21T10:00:00Z");
    let plain = |meter: i32, energy: &str| {
        let mut reading = reading(meter, ts, energy);
        reading
            .items
            .retain(|item| matches!(item.measurand, Measurand::Standard(_)));
        record(reading)
    };
    let mut first: Vec<PollRecord> = (1..=200).map(|meter| plain(meter, "1.50")).collect();
    // one that has a rare quantity beside its row
    first[199] = record(reading(200, ts, "1.50"));
    assert_eq!(store.write(&first).await.unwrap(), report(200, 0, 0, 0));
    for _ in 0..2 {
        assert_eq!(store.write(&first).await.unwrap(), report(0, 200, 0, 0));
    }
    // as stored, with another value, without the rare quantity, and new
    let mixed: Vec<PollRecord> = (1..=100)
        .map(|meter| plain(meter, "1.50"))
        .chain((101..=150).map(|meter| plain(meter, "1.51")))
        .chain([plain(200, "1.50")])
        .chain((201..=280).map(|meter| plain(meter, "1.50")))
        .collect();
    assert_eq!(store.write(&mixed).await.unwrap(), report(80, 100, 51, 0));
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM reading_electricity WHERE active_energy_import = 1.50"
        )
        .await,
        280
    );
    assert_eq!(count(&db, "SELECT count(*) FROM reading_conflict").await, 51);
    assert_eq!(store.write(&mixed).await.unwrap(), report(0, 180, 51, 0));
    assert_eq!(count(&db, "SELECT count(*) FROM reading_conflict").await, 51);
}

#[tokio::test]
async fn a_later_ending_is_a_version_and_a_replay_is_none() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    let missed = ending(SlotState::Missing, Some(MissReason::Timeout), "2026-11-21T09:50:00Z");
    let late = ending(SlotState::Late, None, "2026-11-21T09:59:00Z");
    store.write(std::slice::from_ref(&missed)).await.unwrap();
    // a replay of the first, the second, both again, all in one batch
    let batch = [missed.clone(), late.clone(), missed.clone(), late.clone()];
    store.write(&batch).await.unwrap();
    store.write(&batch).await.unwrap();
    let rows: Vec<(i16, String, Option<String>, Option<String>)> =
        sqlx::query_as("SELECT version, state, reason, detail FROM slot_ending ORDER BY version")
            .fetch_all(&mut db.superuser().await)
            .await
            .unwrap();
    assert_eq!(
        rows,
        [
            (1, "missing".into(), Some("timeout".into()), Some("0x02".into())),
            (2, "late".into(), None, Some("0x02".into()))
        ]
    );
}

#[tokio::test]
async fn the_pointer_to_the_latest_never_goes_back() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    let (new, old) = (at("2026-11-21T10:00:00Z"), at("2026-11-21T09:45:00Z"));
    store.write(&[record(reading(1, new, "2"))]).await.unwrap();
    store.write(&[record(reading(1, old, "1"))]).await.unwrap();
    let latest: Vec<DateTime<Utc>> = sqlx::query_scalar("SELECT ts FROM latest_reading")
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap();
    assert_eq!(latest, [new]);
}

#[tokio::test]
async fn evidence_belongs_to_the_account_of_its_dtu() {
    let db = TestDb::new().await;
    super::two_accounts(&db).await;
    let store = store(&db).await;
    let frame = |id: i64, dtu: Option<i32>| RecordedFrame {
        id: FrameId(id),
        frame: RawFrame {
            at: now(),
            dtu: dtu.map(DtuId),
            connection: ConnectionId(u64::MAX),
            meter: None,
            poll: None,
            kind: FrameKind::Stray,
            protocol: "modbus-rtu".into(),
            bytes: vec![1, 3, 0].into(),
            turn: None,
        },
    };
    let records = [PollRecord {
        evidence: vec![frame(1, Some(2)), frame(2, None), frame(1, Some(2))],
        ..PollRecord::default()
    }];
    store.write(&records).await.unwrap();
    store.write(&records).await.unwrap();
    let rows: Vec<(i64, Option<i32>)> = sqlx::query_as("SELECT id, account_id FROM frame_evidence ORDER BY id")
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap();
    assert_eq!(rows, [(1, Some(2)), (2, None)]);
}

#[tokio::test]
async fn a_database_that_is_away_commits_nothing_and_recovers() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    let records = [record(reading(1, at("2026-11-21T10:00:00Z"), "1"))];
    db.outside(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", db.name))
        .await;
    db.outside(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
        db.name
    ))
    .await;
    let refused = store.write(&records).await.unwrap_err();
    assert!(!refused.message.is_empty());
    db.outside(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", db.name))
        .await;
    assert_eq!(store.write(&records).await.unwrap(), report(1, 0, 0, 0));
}

#[tokio::test]
async fn retention_drops_days_and_a_closed_day_has_its_index() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    store
        .write(&[record(reading(1, at("2026-11-01T00:00:00Z"), "1"))])
        .await
        .unwrap();
    store.maintain(now()).await.unwrap();
    let index = "SELECT count(*) FROM pg_indexes WHERE indexname = 'reading_electricity_20261101_meter'";
    assert_eq!(count(&db, index).await, 1);
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM pg_indexes WHERE indexname = 'reading_electricity_20261121_meter'"
        )
        .await,
        0,
        "the open day has none"
    );

    let short = Retention {
        readings_days: 10,
        endings_days: 400,
        evidence_days: 1,
    };
    let store = PgReadingStore::new(db.database(), Arc::new(ManualClock::new(now())), short);
    store.maintain(now()).await.unwrap();
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM partition_days('reading_electricity') d WHERE d = '2026-11-01'"
        )
        .await,
        0
    );
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM partition_days('slot_ending') d WHERE d = '2026-11-01'"
        )
        .await,
        1
    );
    assert_eq!(count(&db, "SELECT count(*) FROM latest_reading").await, 0);
}
