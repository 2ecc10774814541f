//! Summaries of slots: roll-ups and rows together say what the rows alone say, and long spans read no raw rows.

use super::ingest::{at, store};
use crate::harness::db::TestDb;
use chrono::{DateTime, Utc};
use polyphase::base::ids::{AccountId, DtuId, MeterId};
use polyphase::domain::schedule::parse_zone;
use polyphase::port::ledger::{Hours, ReadingStore};
use polyphase::port::scope::{Actor, InAccount, Scope};
use polyphase::port::slots::{SlotStore, SlotSummaryItem, SlotSummaryQuery, SummaryBy};
use polyphase::store::handles::PgStores;

/// Four days around the night in which Lord Howe's clock goes back by half an hour (4 April, 15:00 UTC): two DTUs with two
/// meters each, every twenty minutes; some missing, late, partial, corrected, and one whose other schedule overlapped.
async fn ledger(db: &TestDb) {
    db.sql(
        "INSERT INTO account (name, time_zone, created_at) VALUES ('a', 'Australia/Lord_Howe', now());
         INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, 'A', 'a', now()), (1, 'B', 'b', now());
         INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at)
         SELECT 1, 1 + g % 2, 'modbus-rtu', g, 'm', 'm', now() FROM generate_series(1, 4) g;
         SELECT ensure_day(d::date) FROM generate_series('2026-04-02'::date, '2026-04-07', '1 day') d;
         CREATE TABLE due AS
             SELECT t, m, row_number() OVER (ORDER BY t, m) AS n
             FROM generate_series('2026-04-02T10:10:00Z'::timestamptz, '2026-04-06T11:50:00Z', '20 min') t, generate_series(1, 4) m;
         INSERT INTO reading_electricity (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count)
             SELECT t, t, 1, 1, m, 1, 0, 1 FROM due WHERE n % 7 <> 0;
         INSERT INTO reading_electricity (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count)
             SELECT t + interval '1 min', t, 1, 1, m, 1, 1, 1 FROM due WHERE n % 9 = 0;
         INSERT INTO slot_ending (due_at, ended_at, meter_id, schedule_id, account_id, version, attempts, state, reason)
             SELECT t, t, m, 1, 1, 1, 1, 'missing', 'timeout' FROM due WHERE n % 7 = 0
             UNION ALL SELECT t, t, m, 1, 1, 2, 1, 'estimated', NULL FROM due WHERE n % 21 = 0
             UNION ALL SELECT t, t, m, 1, 1, 1, 1, 'late', NULL FROM due WHERE n % 11 = 0 AND n % 7 <> 0
             UNION ALL SELECT t, t, m, 1, 1, 1, 1, 'missing', 'partial' FROM due WHERE n % 13 = 0 AND n % 7 <> 0 AND n % 11 <> 0
             UNION ALL SELECT t, t, m, 2, 1, 1, 0, 'missing', 'overlap' FROM due WHERE n % 17 = 0 AND n % 7 <> 0;
         INSERT INTO hour_mark (hour, round, account_id, registers, polls, meters)
             SELECT date_trunc('hour', t, 'UTC'), 0, 1, false, true, array_agg(m) FROM due GROUP BY 1",
    )
    .await;
}

fn handle(db: &TestDb) -> Box<dyn SlotStore> {
    PgStores::new(db.database().clone()).in_account(Scope {
        account: AccountId(1),
        actor: Actor::command_line(),
    })
}

fn query(by: SummaryBy, from: &str, to: &str, zone: &str) -> SlotSummaryQuery {
    SlotSummaryQuery {
        by,
        from: at(from),
        to: at(to),
        dtu: None,
        meter: None,
        zone: parse_zone(zone).unwrap(),
        limit: 1000,
    }
}

/// Spans that begin and end within hours, at hours, at midnights, over the jump, of minutes and of all.
fn queries() -> Vec<SlotSummaryQuery> {
    let spans = [
        ("2026-04-02T10:00:00Z", "2026-04-07T00:00:00Z"),
        ("2026-04-02T13:10:01Z", "2026-04-06T10:05:00Z"),
        ("2026-04-02T13:00:00Z", "2026-04-05T13:30:00Z"),
        ("2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"),
        ("2026-04-04T14:10:00Z", "2026-04-04T15:40:00Z"),
        ("2026-04-04T14:50:00Z", "2026-04-04T15:15:00Z"),
        ("2026-04-03T05:10:00Z", "2026-04-03T05:11:00Z"),
        ("2026-04-03T05:40:00Z", "2026-04-04T02:20:00Z"),
        ("2025-04-03T05:40:00Z", "2026-04-02T10:00:00Z"),
    ];
    let mut queries = Vec::new();
    for (from, to) in spans {
        for by in [SummaryBy::Day, SummaryBy::Dtu, SummaryBy::Meter] {
            for zone in ["Australia/Lord_Howe", "Europe/Berlin"] {
                let all = query(by, from, to, zone);
                queries.push(SlotSummaryQuery {
                    dtu: Some(DtuId(2)),
                    ..all.clone()
                });
                queries.push(SlotSummaryQuery {
                    meter: Some(MeterId(3)),
                    ..all.clone()
                });
                queries.push(all);
            }
        }
    }
    queries
}

async fn answers(slots: &dyn SlotStore) -> Vec<Vec<SlotSummaryItem>> {
    let mut answers = Vec::new();
    for query in queries() {
        answers.push(slots.summary(&query).await.unwrap());
    }
    answers
}

fn same(before: &[Vec<SlotSummaryItem>], after: &[Vec<SlotSummaryItem>], when: &str) {
    for ((query, before), after) in queries().iter().zip(before).zip(after) {
        assert_eq!(before, after, "{when}: {query:?}");
    }
}

async fn rolled_up(db: &TestDb, now: DateTime<Utc>) {
    store(db).await.roll_up(now, Hours::All).await.unwrap();
}

#[tokio::test]
async fn roll_ups_and_rows_together_say_what_the_rows_say() {
    let db = TestDb::new().await;
    ledger(&db).await;
    let slots = handle(&db);
    // nothing is rolled up: all comes from the rows
    let by_rows = answers(&*slots).await;
    // and they say what a plain count of what was put in says
    let all = slots
        .summary(&query(
            SummaryBy::Meter,
            "2026-04-02T10:00:00Z",
            "2026-04-07T00:00:00Z",
            "UTC",
        ))
        .await
        .unwrap();
    let sum = |count: fn(&SlotSummaryItem) -> i64| all.iter().map(count).sum::<i64>();
    let plain: (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE n % 7 <> 0 AND n % 11 <> 0 AND n % 13 <> 0),
                count(*) FILTER (WHERE n % 7 <> 0 AND n % 11 = 0), count(*) FILTER (WHERE n % 21 = 0),
                count(*) FILTER (WHERE n % 7 = 0 AND n % 21 <> 0) + count(*) FILTER (WHERE n % 7 <> 0 AND n % 11 <> 0 AND n % 13 = 0)
                + count(*) FILTER (WHERE n % 7 <> 0 AND n % 17 = 0)
         FROM due",
    )
    .fetch_one(&mut db.superuser().await)
    .await
    .unwrap();
    assert_eq!(
        (
            sum(|item| item.tally.actual),
            sum(|item| item.tally.late),
            sum(|item| item.tally.estimated),
            sum(|item| item.tally.missing)
        ),
        plain
    );

    rolled_up(&db, at("2026-04-06T12:00:00Z")).await;
    same(&by_rows, &answers(&*slots).await, "rolled up");
    // hours that came in again are read from the rows until the next roll-up
    db.sql(
        "INSERT INTO hour_mark (hour, round, account_id, registers, polls, meters)
         VALUES ('2026-04-04T14:00:00Z', 100, 1, false, true, '{2,3}');
         UPDATE meter_hour SET actual = 999 WHERE hour >= '2026-04-04T14:00:00Z';
         UPDATE meter_day SET actual = 999 WHERE day >= '2026-04-04T13:00:00Z'",
    )
    .await;
    same(&by_rows, &answers(&*slots).await, "an hour is marked");
}

#[tokio::test]
async fn a_long_span_reads_no_rows_of_days_that_are_rolled_up() {
    let db = TestDb::new().await;
    ledger(&db).await;
    rolled_up(&db, at("2026-04-06T12:00:00Z")).await;
    let slots = handle(&db);
    let span = query(
        SummaryBy::Day,
        "2026-04-02T13:00:00Z",
        "2026-04-06T11:30:00Z",
        "Australia/Lord_Howe",
    );
    let before = slots.summary(&span).await.unwrap();
    assert_eq!(before.len(), 4);
    // what retention takes away is still counted
    db.sql(
        "SELECT drop_day(p, d) FROM unnest(ARRAY['reading_electricity', 'reading_fluid', 'slot_ending']) p,
                                    unnest(ARRAY['2026-04-03', '2026-04-04', '2026-04-05']::date[]) d",
    )
    .await;
    assert_eq!(slots.summary(&span).await.unwrap(), before);
}
