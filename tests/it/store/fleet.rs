//! The directory, the dated history of schedules, sessions and the watermark.

use super::ingest::{at, now, reading, record, store};
use crate::harness::db::TestDb;
use polyphase::base::ids::{AccountId, DtuId, MeterId, ScheduleId, SessionId};
use polyphase::domain::device::{Connect, MissedRun};
use polyphase::domain::quantity::Quantity;
use polyphase::port::field::{Learned, LinkStats};
use polyphase::port::ledger::{DeviceDirectory, EndedSlot, ReadingStore, SessionRow, SlotLedger};
use polyphase::store::directory::PgDirectory;
use polyphase::store::ledger::PgSlotLedger;
use std::sync::Arc;

/// One account with schedules 1 (account), 2 (DTU), 3 and 4 (meter 1); DTU 1 with meters 1 and 2.
async fn fleet(db: &TestDb) {
    db.sql(
        "INSERT INTO account (name, created_at) VALUES ('a', now());
         INSERT INTO schedule (account_id, name, created_at) SELECT 1, 'schedule ' || g, now() FROM generate_series(1, 4) g;
         INSERT INTO schedule_rule (schedule_id, account_id, valid_from, cron, time_zone, quantities, spread_s, window_s,
                                    attempts, backoff_s, deadline_s, missed_run)
         SELECT id, 1, '2026-01-01', '*/15 * * * *', 'Europe/Berlin', '{voltage_l1}', 60, 600, 3, 5, 300, 'all'
         FROM schedule;
         INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, 'SN-1', 'd', now());
         INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at)
         VALUES (1, 1, 'modbus-rtu', '1', 'm', 'one', now()), (1, 1, 'modbus-rtu', '2', 'm', 'two', now());
         INSERT INTO metering_point (account_id, name, created_at) VALUES (1, 'p', now());
         INSERT INTO installation (account_id, point_id, meter_id, valid_from, ct_ratio) VALUES (1, 1, 1, '2026-01-01', 40)",
    )
    .await;
}

async fn refresh(db: &TestDb, when: &str) {
    let mut transaction = db.database().scoped(AccountId(1)).begin().await.unwrap();
    sqlx::query("SELECT refresh_meter_schedules(1, NULL, NULL, $1)")
        .bind(at(when))
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
}

async fn history(db: &TestDb, meter: i32) -> Vec<(i32, String)> {
    sqlx::query_as(
        "SELECT schedule_id, to_char(valid_from AT TIME ZONE 'UTC', 'HH24') || '-' ||
                coalesce(to_char(valid_to AT TIME ZONE 'UTC', 'HH24'), '')
         FROM meter_schedule WHERE meter_id = $1 ORDER BY valid_from, schedule_id",
    )
    .bind(meter)
    .fetch_all(&mut db.superuser().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn schedules_apply_from_the_meter_else_its_dtu_else_its_account_and_history_stays() {
    let db = TestDb::new().await;
    fleet(&db).await;
    refresh(&db, "2026-11-21T01:00:00Z").await;
    assert_eq!(history(&db, 1).await, []);
    db.sql("UPDATE account SET schedule_id = 1").await;
    refresh(&db, "2026-11-21T02:00:00Z").await;
    db.sql("UPDATE dtu SET schedule_id = 2").await;
    refresh(&db, "2026-11-21T03:00:00Z").await;
    db.sql("INSERT INTO meter_own_schedule (meter_id, schedule_id, account_id) VALUES (1, 3, 1), (1, 4, 1)")
        .await;
    refresh(&db, "2026-11-21T04:00:00Z").await;
    // nothing changed: nothing is written
    refresh(&db, "2026-11-21T05:00:00Z").await;
    db.sql("UPDATE schedule SET deleted_at = now() WHERE id = 4").await;
    refresh(&db, "2026-11-21T06:00:00Z").await;
    db.sql("UPDATE meter SET deleted_at = now() WHERE id = 2").await;
    refresh(&db, "2026-11-21T07:00:00Z").await;

    let expected = |rows: &[(i32, &str)]| {
        rows.iter()
            .map(|(id, range)| (*id, (*range).to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        history(&db, 1).await,
        expected(&[(1, "02-03"), (2, "03-04"), (3, "04-"), (4, "04-06")])
    );
    assert_eq!(history(&db, 2).await, expected(&[(1, "02-03"), (2, "03-07")]));
    // an edit that is undone within the same instant leaves no empty range
    db.sql("DELETE FROM meter_own_schedule").await;
    refresh(&db, "2026-11-21T08:00:00Z").await;
    db.sql("INSERT INTO meter_own_schedule (meter_id, schedule_id, account_id) VALUES (1, 3, 1)")
        .await;
    refresh(&db, "2026-11-21T08:00:00Z").await;
    assert_eq!(
        history(&db, 1).await,
        expected(&[(1, "02-03"), (2, "03-04"), (3, "04-08"), (4, "04-06"), (3, "08-")])
    );
}

#[tokio::test]
async fn the_directory_gives_dtus_with_meters_and_shared_rules() {
    let db = TestDb::new().await;
    fleet(&db).await;
    db.sql(
        "UPDATE dtu SET schedule_id = 2;
         INSERT INTO dtu (account_id, sn, name, connect, created_at)
         VALUES (1, NULL, 'tcp', '{\"kind\":\"modbus_tcp\",\"address\":\"10.0.0.1:502\"}', now()),
                (1, 'SN-3', 'broken', '{\"kind\":\"pigeon\"}', now());
         INSERT INTO dtu (account_id, sn, name, created_at, deleted_at) VALUES (1, 'SN-4', 'gone', now(), now())",
    )
    .await;
    refresh(&db, "2026-11-21T01:00:00Z").await;
    let directory = PgDirectory::new(db.database());
    let all = directory.load_all().await.unwrap();
    assert_eq!(all.iter().map(|dtu| dtu.id).collect::<Vec<_>>(), [DtuId(1), DtuId(2)]);
    assert_eq!(
        all[1].connect,
        Connect::ModbusTcp {
            address: "10.0.0.1:502".into()
        }
    );
    let dtu = directory.load(DtuId(1)).await.unwrap().unwrap();
    assert_eq!(dtu, all[0]);
    assert_eq!(dtu.sn.as_ref().unwrap().as_str(), "SN-1");
    assert!(dtu.enabled);
    let [one, two] = dtu.meters.as_slice() else {
        panic!("two meters: {dtu:?}")
    };
    assert_eq!(
        (one.id, one.address.as_str(), one.ct_ratio),
        (MeterId(1), "1", 40.into())
    );
    assert_eq!(two.ct_ratio, 1.into());
    let [applied] = one.schedules.as_slice() else {
        panic!("one schedule: {one:?}")
    };
    assert_eq!((applied.schedule, applied.valid_to), (ScheduleId(2), None));
    assert!(Arc::ptr_eq(&applied.rules, &two.schedules[0].rules));
    let rule = &applied.rules[0];
    assert_eq!(
        (rule.quantities.as_slice(), rule.missed_run),
        (&[Quantity::VoltageL1][..], MissedRun::All)
    );
    assert_eq!((rule.spread_s, rule.window_s, rule.retry.deadline_s), (60, 600, 300));

    db.sql("UPDATE account SET disabled_at = now()").await;
    assert!(!directory.load(DtuId(1)).await.unwrap().unwrap().enabled);
    assert_eq!(directory.load(DtuId(4)).await.unwrap(), None);
}

#[tokio::test]
async fn the_watermark_never_goes_back_and_endings_are_found_since() {
    let db = TestDb::new().await;
    let ledger = PgSlotLedger::new(db.database());
    assert_eq!(ledger.watermark().await.unwrap(), None);
    ledger.set_watermark(at("2026-11-21T10:00:00Z")).await.unwrap();
    ledger.set_watermark(at("2026-11-21T09:00:00Z")).await.unwrap();
    assert_eq!(ledger.watermark().await.unwrap(), Some(at("2026-11-21T10:00:00Z")));

    let store = store(&db).await;
    let (before, due) = (at("2026-11-21T09:45:00Z"), at("2026-11-21T10:00:00Z"));
    let mut on_demand = reading(3, due, "1");
    on_demand.source = polyphase::domain::reading::Source::OnDemand;
    let records = [
        record(reading(1, before, "1")),
        record(reading(2, due, "1")),
        record(on_demand),
    ];
    store.write(&records).await.unwrap();
    assert_eq!(
        ledger.ended_since(due).await.unwrap(),
        [EndedSlot {
            meter: MeterId(2),
            due_at: due,
            schedule: None
        }]
    );
}

#[tokio::test]
async fn sessions_are_kept_and_orphans_ended() {
    let db = TestDb::new().await;
    fleet(&db).await;
    let ledger = PgSlotLedger::new(db.database());
    let row = |id: i64, ended: Option<(chrono::DateTime<chrono::Utc>, String)>| SessionRow {
        session: SessionId(id),
        dtu: DtuId(1),
        account: AccountId(1),
        peer: "192.0.2.1:1".into(),
        began_at: at("2026-11-21T09:00:00Z"),
        ended,
        stats: LinkStats {
            learned: Learned {
                framing: "transparent".into(),
                ..Learned::default()
            },
            ..LinkStats::default()
        },
    };
    let ended = |cause: &str| Some((now(), cause.to_owned()));
    // one that began and ended within a statement, and one whose end comes in the next
    let rows = [row(1, None), row(3, None), row(3, ended("flood")), row(3, None)];
    ledger.save_sessions(&rows).await.unwrap();
    // the beginning, written late, does not open it again
    let rows = [row(1, ended("replaced")), row(1, None), row(2, None)];
    ledger.save_sessions(&rows).await.unwrap();
    ledger.save_sessions(&[row(1, None)]).await.unwrap();
    // a row that the database will never take is told from a database that is away
    let foreign = SessionRow {
        account: AccountId(2),
        ..row(4, None)
    };
    assert!(
        !ledger
            .save_sessions(&[row(5, None), foreign])
            .await
            .unwrap_err()
            .passing
    );
    assert_eq!(ledger.end_orphan_sessions(now()).await.unwrap(), 1);
    assert_eq!(ledger.end_orphan_sessions(now()).await.unwrap(), 0);
    let causes: Vec<Option<String>> = sqlx::query_scalar("SELECT cause FROM dtu_session ORDER BY id")
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap();
    assert_eq!(
        causes,
        ["replaced", "server_down", "flood"].map(|cause| Some(cause.to_owned()))
    );
    let learned: serde_json::Value = sqlx::query_scalar("SELECT learned FROM dtu WHERE id = 1")
        .fetch_one(&mut db.superuser().await)
        .await
        .unwrap();
    assert_eq!(learned["framing"], "transparent");
}
