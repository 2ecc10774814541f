//! The pointers to the latest readings, whose transaction is another one than the readings': what becomes of them when one of the
//! two ends badly.

use super::ingest::{at, reading, record, store};
use crate::harness::db::TestDb;
use chrono::{DateTime, Utc};
use polyphase::port::ledger::{PollRecord, ReadingStore, WriteReport};
use std::ops::RangeInclusive;

fn batch(meters: RangeInclusive<i32>, ts: &str) -> Vec<PollRecord> {
    meters.map(|meter| record(reading(meter, at(ts), "1.5"))).collect()
}

/// Inserted and duplicates.
fn counts(report: &WriteReport) -> (u64, u64) {
    assert_eq!((report.conflicts, report.rejected), (0, 0));
    (report.inserted, report.duplicates)
}

/// Each meter's pointer, and whether it is there what it points to.
async fn pointers(db: &TestDb) -> Vec<(i32, DateTime<Utc>, bool)> {
    sqlx::query_as(
        "SELECT l.meter_id, l.ts, EXISTS (SELECT FROM reading_electricity r WHERE r.ts = l.ts AND r.meter_id = l.meter_id)
         FROM latest_reading l ORDER BY 1",
    )
    .fetch_all(&mut db.superuser().await)
    .await
    .unwrap()
}

fn all_at(meters: RangeInclusive<i32>, ts: &str) -> Vec<(i32, DateTime<Utc>, bool)> {
    meters.map(|meter| (meter, at(ts), true)).collect()
}

/// Enough that the pointers go beside them.
const ALL: RangeInclusive<i32> = 1..=1_200;
const HALF: RangeInclusive<i32> = 601..=1_200;
const T: [&str; 4] = [
    "2026-11-21T08:00:00Z",
    "2026-11-21T08:15:00Z",
    "2026-11-21T08:30:00Z",
    "2026-11-21T08:45:00Z",
];

#[tokio::test]
async fn a_batch_with_old_and_new_moves_pointers_as_one_of_new_alone() {
    let db = TestDb::new().await;
    let store = store(&db).await;
    for ts in &T[..3] {
        assert_eq!(counts(&store.write(&batch(ALL, ts)).await.unwrap()), (1_200, 0));
        assert_eq!(pointers(&db).await, all_at(ALL, ts));
    }
    // the belief that all is new was wrong for half of it, then for all of it
    let mut mixed = batch(HALF, T[2]);
    mixed.extend(batch(ALL, T[3]));
    assert_eq!(counts(&store.write(&mixed).await.unwrap()), (1_200, 600));
    assert_eq!(pointers(&db).await, all_at(ALL, T[3]));
    assert_eq!(counts(&store.write(&mixed).await.unwrap()), (0, 1_800));
    assert_eq!(pointers(&db).await, all_at(ALL, T[3]));
}

#[tokio::test]
async fn a_replay_behind_a_start_moves_pointers_that_a_crash_left_behind() {
    let db = TestDb::new().await;
    let before = store(&db).await;
    for ts in &T[..2] {
        before.write(&batch(ALL, ts)).await.unwrap();
    }
    // the process died between the two commits of the second batch
    db.sql("UPDATE latest_reading SET ts = '2026-11-21T08:00:00Z', read_at = '2026-11-21T08:00:02Z'")
        .await;
    drop(before);
    let behind = store(&db).await;
    assert_eq!(counts(&behind.write(&batch(ALL, T[1])).await.unwrap()), (0, 1_200));
    assert_eq!(pointers(&db).await, all_at(ALL, T[1]));
}

/// The database refuses the pointers at once, then at their commit.
#[tokio::test]
async fn what_ends_badly_is_made_good_when_it_comes_again() {
    for (deferred, stored) in [("", 0), ("DEFERRABLE INITIALLY DEFERRED", 1_200)] {
        let db = TestDb::new().await;
        let store = store(&db).await;
        for ts in &T[..2] {
            store.write(&batch(ALL, ts)).await.unwrap();
        }
        db.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
            .await;
        let trigger = format!(
            "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON latest_reading {deferred} FOR EACH ROW EXECUTE FUNCTION refuse()"
        );
        db.sql(&trigger).await;
        store.write(&batch(ALL, T[2])).await.unwrap_err();
        assert_eq!(pointers(&db).await, all_at(ALL, T[1]), "they are as they were");
        let there: i64 =
            sqlx::query_scalar("SELECT count(*) FROM reading_electricity WHERE ts = '2026-11-21T08:30:00Z'")
                .fetch_one(&mut db.superuser().await)
                .await
                .unwrap();
        assert_eq!(there, stored, "{deferred}");
        db.sql("DROP TRIGGER refuse ON latest_reading").await;
        let report = store.write(&batch(ALL, T[2])).await.unwrap();
        assert_eq!(counts(&report).0 + counts(&report).1, 1_200);
        assert_eq!(pointers(&db).await, all_at(ALL, T[2]));
        // and goes on as before
        assert_eq!(counts(&store.write(&batch(ALL, T[3])).await.unwrap()), (1_200, 0));
        assert_eq!(pointers(&db).await, all_at(ALL, T[3]));
    }
}
