//! What a storm of alarms costs the database.

use super::ingest::at;
use crate::harness::db::TestDb;
use chrono::TimeDelta;
use polyphase::base::ids::{AccountId, DtuId};
use polyphase::domain::alarm::{AlarmKind, Change, Detail, Key, Raise, Severity, Subject};
use polyphase::port::alarms::{AlarmLog, Settlement};
use polyphase::store::alarms::PgAlarmLog;

const ACCOUNT: AccountId = AccountId(1);
/// Alarms, one after another.
const STORM: i32 = 400;

fn raise(dtu: i32, parent: Option<Key>) -> Raise {
    let subject = Subject::Dtu { dtu: DtuId(dtu) };
    Raise {
        key: Key::new(Some(ACCOUNT), AlarmKind::DtuOffline, "", subject),
        kind: AlarmKind::DtuOffline,
        severity: Severity::Warning,
        subject,
        rule: None,
        cause_at: at("2026-11-21T08:00:00Z"),
        detail: Detail::default(),
        victims: Vec::new(),
        parent,
    }
}

/// Statements are planned once and kept. What is planned over a table of a few rows must not read a table of many as a whole.
#[tokio::test]
async fn an_alarm_of_a_storm_does_not_read_all_the_others() {
    let db = TestDb::new().await;
    db.sql("INSERT INTO account (name, created_at) VALUES ('a', now())")
        .await;
    db.sql(&format!(
        "INSERT INTO dtu (account_id, sn, name, created_at) SELECT 1, 'SN' || i, 'd', now() FROM generate_series(1, {STORM}) i"
    ))
    .await;
    let log = PgAlarmLog::new(db.database());
    let now = at("2026-11-21T08:00:05Z");
    let first = raise(1, None);
    for dtu in 1..=STORM {
        // a table that PostgreSQL knows to be of a page, when the statements are planned
        if dtu == 2 {
            db.sql("ANALYZE alarm, alarm_edge").await;
        }
        let one = raise(dtu, (dtu > 1).then(|| first.key.clone()));
        let mut changes = vec![Change::Raise(Box::new(one.clone()))];
        if dtu % 2 == 0 {
            changes.push(Change::Clear { key: one.key, at: now });
        }
        let settlement = Settlement {
            changes,
            ..Settlement::default()
        };
        let settled = log
            .settle(&settlement, now + TimeDelta::seconds(dtu.into()))
            .await
            .unwrap();
        assert_eq!(settled.edges.len(), if dtu % 2 == 0 { 2 } else { 1 });
    }
    // a session that ends has told what it read
    db.database().close().await;
    let (whole, rows): (i64, i64) =
        sqlx::query_as("SELECT seq_scan, seq_tup_read FROM pg_stat_user_tables WHERE relname = 'alarm'")
            .fetch_one(&mut db.superuser().await)
            .await
            .unwrap();
    // statements that read it whole come to STORM² / 2 rows each
    let limit = i64::from(20 * STORM);
    assert!(
        rows < limit,
        "{rows} rows of alarm read in {whole} scans of the whole table"
    );
}
