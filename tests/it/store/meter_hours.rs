//! Roll-ups of meters' polls: hours and days of the account's wall clock against a plain count over the rows, as readings
//! and endings come in, late ones and second versions too.

use super::ingest::{at, reading, record, store};
use crate::harness::db::TestDb;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::base::ids::{AccountId, MeterId, ScheduleId};
use polyphase::domain::slot::{MissReason, SlotEnding, SlotState};
use polyphase::port::ledger::{Hours, PollRecord, ReadingStore};
use polyphase::store::ingest::PgReadingStore;

/// Meter 1 in a zone with half an hour and without a changing clock, meter 2 where the clock goes back in that night.
async fn accounts(db: &TestDb) {
    db.sql(
        "INSERT INTO account (name, time_zone, created_at) VALUES ('a', 'Asia/Kolkata', now()), ('b', 'Europe/Berlin', now());
         INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, 'A', 'a', now()), (2, 'B', 'b', now());
         INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at)
         VALUES (1, 1, 'modbus-rtu', '1', 'm', 'm', now()), (2, 2, 'modbus-rtu', '1', 'm', 'm', now())",
    )
    .await;
}

fn missed(meter: i32, due_at: DateTime<Utc>, reason: MissReason) -> SlotEnding {
    SlotEnding {
        account: AccountId(meter),
        meter: MeterId(meter),
        schedule: ScheduleId(1),
        due_at,
        ended_at: due_at + TimeDelta::minutes(10),
        state: SlotState::Missing,
        reason: Some(reason),
        attempts: 2,
        detail: None,
    }
}

fn ended(ending: SlotEnding) -> PollRecord {
    PollRecord {
        endings: vec![ending],
        ..PollRecord::default()
    }
}

/// Rows of hours or days, as one text each.
async fn rolled(db: &TestDb, table: &'static str) -> Vec<String> {
    let statement = match table {
        "hour" => {
            "SELECT format('%s %s reads=%s actual=%s late=%s missing=%s %s v=%s..%s', meter_id, hour AT TIME ZONE 'UTC', reads,
                    actual, late, missing, reasons, voltage_l1_min, voltage_l1_max) FROM meter_hour ORDER BY meter_id, hour"
        }
        _ => {
            "SELECT format('%s %s reads=%s actual=%s late=%s missing=%s %s v=%s..%s', meter_id, day AT TIME ZONE 'UTC', reads,
                    actual, late, missing, reasons, voltage_l1_min, voltage_l1_max) FROM meter_day ORDER BY meter_id, day"
        }
    };
    sqlx::query_scalar(statement)
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap()
}

async fn counted(db: &TestDb, per: &str) -> Vec<String> {
    // a plain count over the rows, hour by hour of the wall clock: no mark, no round, no difference
    let statement = format!(
        "WITH n AS (SELECT DISTINCT ON (s.due_at, s.meter_id, s.schedule_id) s.*,
                           date_trunc('{per}', s.due_at, a.time_zone) AS b
                    FROM slot_ending s JOIN account a ON a.id = s.account_id
                    ORDER BY s.due_at, s.meter_id, s.schedule_id, s.version DESC),
              r AS (SELECT e.*, date_trunc('{per}', e.ts, a.time_zone) AS b
                    FROM reading_electricity e JOIN account a ON a.id = e.account_id),
              k AS (SELECT meter_id, b FROM n UNION SELECT meter_id, b FROM r)
         SELECT format('%s %s reads=%s actual=%s late=%s missing=%s %s v=%s..%s', k.meter_id, k.b AT TIME ZONE 'UTC',
                    (SELECT count(*) FROM r WHERE (r.meter_id, r.b) = (k.meter_id, k.b)),
                    (SELECT count(*) FROM r WHERE (r.meter_id, r.b) = (k.meter_id, k.b) AND source = 0 AND NOT EXISTS (
                        SELECT FROM n WHERE n.due_at = r.ts AND n.meter_id = r.meter_id
                                        AND (n.state <> 'missing' OR n.reason = 'partial')))
                    + (SELECT count(*) FROM n WHERE (n.meter_id, n.b) = (k.meter_id, k.b) AND state = 'actual'),
                    (SELECT count(*) FROM n WHERE (n.meter_id, n.b) = (k.meter_id, k.b) AND state = 'late'),
                    (SELECT count(*) FROM n WHERE (n.meter_id, n.b) = (k.meter_id, k.b) AND state = 'missing'),
                    (SELECT jsonb_object_agg(reason, c) FROM (
                        SELECT reason, count(*) AS c FROM n
                        WHERE (n.meter_id, n.b) = (k.meter_id, k.b) AND state = 'missing' GROUP BY reason) AS why),
                    (SELECT min(voltage_l1) FROM r WHERE (r.meter_id, r.b) = (k.meter_id, k.b)),
                    (SELECT max(voltage_l1) FROM r WHERE (r.meter_id, r.b) = (k.meter_id, k.b)))
         FROM k ORDER BY k.meter_id, k.b"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap()
}

async fn agree(db: &TestDb, storage: &PgReadingStore) {
    storage.roll_up(at("2026-11-21T10:00:10Z"), Hours::All).await.unwrap();
    for per in ["hour", "day"] {
        assert_eq!(rolled(db, per).await, counted(db, per).await, "by {per}");
    }
}

#[tokio::test]
async fn hours_and_days_are_what_a_plain_count_says() {
    let db = TestDb::new().await;
    accounts(&db).await;
    let storage = store(&db).await;
    let start = at("2026-10-24T20:00:00Z");
    let mut records = Vec::new();
    // two days of quarters around the night in which the clock goes back; every ninth is missed
    for quarter in 0..192 {
        let due = start + TimeDelta::minutes(15 * quarter);
        for meter in [1, 2] {
            if quarter % 9 == 4 {
                let reason = if quarter % 2 == 0 {
                    MissReason::Timeout
                } else {
                    MissReason::DtuOffline
                };
                records.push(ended(missed(meter, due, reason)));
                continue;
            }
            let mut reading = reading(meter, due, &quarter.to_string());
            reading.account = AccountId(meter);
            records.push(record(reading));
        }
    }
    storage.write(&records).await.unwrap();
    agree(&db, &storage).await;
    let days = rolled(&db, "day").await;
    // Kolkata's day begins at 18:30, Berlin's at 22:00, then at 23:00 after 25 hours
    assert!(
        days.iter().any(|day| day.starts_with("1 2026-10-25 18:30:00")),
        "{days:?}"
    );
    assert!(
        days.iter()
            .any(|day| day.starts_with("2 2026-10-24 22:00:00 reads=89 ")),
        "{days:?}"
    );
    assert!(
        days.iter().any(|day| day.starts_with("2 2026-10-25 23:00:00")),
        "{days:?}"
    );

    // a late reading turns a miss into another version; a replay of it all changes nothing
    let due = start + TimeDelta::minutes(15 * 4);
    let mut late = reading(1, due, "4");
    late.read_at = due + TimeDelta::hours(30);
    let mut version = missed(1, due, MissReason::Timeout);
    version.state = SlotState::Late;
    version.reason = None;
    version.ended_at = late.read_at;
    let both = PollRecord {
        reading: Some(late),
        endings: vec![version],
        ..PollRecord::default()
    };
    storage.write(&[both]).await.unwrap();
    agree(&db, &storage).await;
    assert!(rolled(&db, "hour").await.iter().any(|hour| hour.contains("late=1")));
    storage.write(&records).await.unwrap();
    agree(&db, &storage).await;
    let left: i64 =
        sqlx::query_scalar("SELECT (SELECT count(*) FROM hour_mark) + (SELECT count(*) FROM meter_hour_dirty)")
            .fetch_one(&mut db.superuser().await)
            .await
            .unwrap();
    assert_eq!(left, 0);
}
