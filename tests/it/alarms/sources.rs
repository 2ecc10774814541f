//! What alarms come from beside readings: hours of consumption, commands, slots, conflicts; and rules that change.

use super::bench::Bench;
use chrono::TimeDelta;
use polyphase::base::clock::Clock;
use polyphase::base::ids::{AccountId, MeterId, ScheduleId};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::slot::{MissReason, SlotEnding, SlotState};
use polyphase::port::ledger::PollRecord;
use polyphase::simulator::physics::{Load, epoch};
use rust_decimal::Decimal;
use std::fmt::Write as _;

/// Issue 5 in its stored form: loads of the simulator over five weeks as the roll-up keeps them, two of twenty with three
/// times as much. Two alarms within two hours, none else, none again behind a restart, and both are over with the peaks.
#[actix::test]
async fn peaks_in_stored_hours_are_found_within_two_of_them() {
    let mut bench = Bench::new(20).await;
    let peak = bench.clock.now();
    let begin = peak - TimeDelta::weeks(5);
    let mut rows = String::new();
    for meter in 1..=20_u64 {
        let load = Load::new(meter * 31, 3);
        let shown = |hour: i64| load.at(begin + TimeDelta::hours(hour)).import_kwh;
        let mut before = shown(0);
        let hours = TimeDelta::weeks(5).num_hours() + 12;
        for hour in 0..hours {
            let start = begin + TimeDelta::hours(hour);
            let after = shown(hour + 1);
            let high = meter <= 2 && start >= peak && start < peak + TimeDelta::hours(4);
            let value = (after - before) * Decimal::from(if high { 3 } else { 1 });
            before = after;
            let comma = if rows.is_empty() { "" } else { "," };
            write!(
                rows,
                "{comma}('{start}', '{}', {meter}, 1, 0, false, false, 'active_energy_import', {value})",
                start + TimeDelta::hours(1)
            )
            .unwrap();
        }
    }
    assert!(begin > epoch());
    bench
        .db
        .sql(&format!(
            "INSERT INTO consumption_hour (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
             VALUES {rows}"
        ))
        .await;
    bench.pass(TimeDelta::minutes(61)).await;
    assert!(bench.steps().await.is_empty(), "one hour is life");
    bench.pass(TimeDelta::minutes(60)).await;
    let mut raised = bench.steps().await;
    raised.sort();
    let of = |step: &str, meter: i32| format!("{step} deviation:active_energy_import@meter/{meter}");
    assert_eq!(raised, [of("raised", 1), of("raised", 2)]);
    bench.restart().await;
    bench.minutes(2).await;
    bench.pass(TimeDelta::minutes(60)).await;
    assert_eq!(bench.steps().await.len(), 2);
    for _ in 0..6 {
        bench.pass(TimeDelta::minutes(60)).await;
    }
    let mut cleared = bench.steps().await.split_off(2);
    cleared.sort();
    assert_eq!(cleared, [of("cleared", 1), of("cleared", 2)]);
}

fn miss(bench: &Bench, meter: i32, reason: MissReason) -> PollRecord {
    let now = bench.clock.now();
    PollRecord {
        endings: vec![SlotEnding {
            account: AccountId(1),
            meter: MeterId(meter),
            schedule: ScheduleId(1),
            due_at: now - TimeDelta::minutes(5),
            state: SlotState::Missing,
            reason: Some(reason),
            detail: None,
            attempts: 3,
            ended_at: now,
        }],
        ..PollRecord::default()
    }
}

#[actix::test]
async fn a_silent_meter_is_told_and_one_behind_a_lost_dtu_is_not() {
    let mut bench = Bench::new(3).await;
    for round in 0..4 {
        bench
            .read(vec![
                miss(&bench, 1, MissReason::Timeout),
                miss(&bench, 2, MissReason::DtuOffline),
                miss(&bench, 3, MissReason::Exception),
            ])
            .await;
        if round == 1 {
            bench.restart().await;
        }
        bench.pass(TimeDelta::minutes(15)).await;
    }
    assert_eq!(
        bench.steps().await,
        ["raised meter_offline@meter/1", "raised missing_data@meter/3"]
    );
    let energy = [(Quantity::ActiveEnergyImport, "1")];
    bench
        .read((1..=3).map(|meter| bench.reading(meter, &energy)).collect())
        .await;
    assert_eq!(
        bench.steps().await[2..],
        ["cleared meter_offline@meter/1", "cleared missing_data@meter/3"]
    );
}

#[actix::test]
async fn braked_disconnections_are_one_alarm_and_an_unknown_outcome_is_one() {
    let bench = Bench::new(40).await;
    bench
        .db
        .sql(r#"INSERT INTO app_user (account_id, email, password_hash, roles, created_at) VALUES (1, 'a@x.org', 'h', '{admin}', now());
               INSERT INTO command_batch (id, account_id, request_hash, created_at)
               VALUES ('00000000-0000-0000-0000-000000000001', 1, '', now());
               INSERT INTO command (account_id, meter_id, dtu_id, target, action, claims_relay, state, reason, requested_by, requested_as,
                                    batch_id, requested_at, expires_at, holds, sent_at, version)
               SELECT 1, g, g, '{}', '{"action": "disconnect"}', true, CASE WHEN g = 40 THEN 'unknown' ELSE 'held' END, 'r', 1, 'a',
                      '00000000-0000-0000-0000-000000000001', '2026-03-03T12:00:00Z', '2026-03-03T18:00:00Z',
                      CASE WHEN g = 40 THEN '[]' WHEN g > 30 THEN '["four_eyes"]' ELSE '["four_eyes", {"brake": "account"}]' END::jsonb,
                      CASE WHEN g = 40 THEN '2026-03-03T12:00:00Z'::timestamptz END, 1
               FROM generate_series(1, 40) g"#)
        .await;
    bench.minutes(1).await;
    assert_eq!(bench.steps().await, ["raised brake_held@account"]);
    assert_eq!(bench.rows("SELECT detail ->> 'count' FROM alarm").await, ["30"]);
    bench.minutes(3).await;
    assert_eq!(bench.steps().await[1..], ["raised command_unknown@meter/40"]);
    bench
        .db
        .sql("UPDATE command SET state = 'cancelled', ended_at = '2026-03-03T12:04:00Z'")
        .await;
    bench.minutes(1).await;
    let mut over = bench.steps().await.split_off(2);
    over.sort();
    assert_eq!(over, ["cleared brake_held@account", "cleared command_unknown@meter/40"]);
}

#[actix::test]
async fn shares_of_slots_and_conflicts_are_looked_at() {
    let bench = Bench::new(2).await;
    bench
        .db
        .sql(
            "INSERT INTO meter_hour (hour, meter_id, account_id, reads, actual, late, estimated, missing)
              VALUES ('2026-03-03T10:00:00Z', 1, 1, 180, 180, 0, 0, 20);
              INSERT INTO reading_conflict (account_id, meter_id, ts, source, found_at, stored, offered, offered_hash)
              VALUES (1, 2, '2026-03-03T10:00:00Z', 0, '2026-03-03T11:59:00Z', '{}', '{}', '')",
        )
        .await;
    bench.minutes(2).await;
    let mut raised = bench.steps().await;
    raised.sort();
    assert_eq!(
        raised,
        ["raised collection_rate@account", "raised reading_conflict@meter/2"]
    );
    let said = bench
        .rows("SELECT sentence FROM alarm WHERE kind = 'collection_rate'")
        .await;
    assert_eq!(said, ["90.0 % of the slots are collected, 95.0 % are wanted"]);
    bench.db.sql("UPDATE meter_hour SET missing = 2").await;
    bench.minutes(3).await;
    assert_eq!(
        bench.steps().await[2..],
        ["cleared collection_rate@account"],
        "a conflict stays"
    );
}

#[actix::test]
async fn what_concentrators_record_is_told_until_somebody_clears_it() {
    let bench = Bench::new(2).await;
    let event = |dtu: i32, code: i16, important: bool, minute: i64, number: i64| {
        let found_at = bench.clock.now() - TimeDelta::minutes(minute);
        format!(
            "INSERT INTO terminal_event (dtu_id, account_id, code, data, important, happened_at, found_at)
             VALUES ({dtu}, 1, {code}, '{number}', {important}, '2026-03-03T20:0{number}', '{found_at}');"
        )
    };
    // two of one kind, one that is not important, and one that was found days ago
    let told = [
        event(1, 14, true, 2, 1),
        event(1, 14, true, 1, 2),
        event(1, 9, false, 1, 3),
        event(2, 37, true, 3 * 24 * 60, 4),
    ];
    bench.db.sql(&told.concat()).await;
    bench.minutes(2).await;
    assert_eq!(bench.steps().await, ["raised terminal_event:erc14@dtu/1"]);
    let said = "SELECT sentence || ' | ' || occurrences FROM alarm ORDER BY id";
    assert_eq!(
        bench.rows(said).await,
        [
            "the concentrator recorded 2 times: terminal lost or regained supply: ERC14, the last at 2026-03-03 20:02:00 by its \
             own clock | 1"
        ]
    );
    // one more of it is the same alarm; of another concentrator it is another one
    bench
        .db
        .sql(&[event(1, 14, true, 0, 5), event(2, 14, true, 0, 6)].concat())
        .await;
    bench.minutes(2).await;
    assert_eq!(bench.steps().await[1..], ["raised terminal_event:erc14@dtu/2"]);
    let shown = bench.rows(said).await;
    assert!(
        shown[0].starts_with("the concentrator recorded 3 times") && shown[0].ends_with("| 2"),
        "{shown:?}"
    );
    assert!(
        shown[1].starts_with("the concentrator recorded: terminal lost"),
        "{shown:?}"
    );
    // somebody clears it: what was told does not raise it again, what is new does
    bench
        .db
        .sql("UPDATE alarm SET cleared_at = '2026-03-03T12:05:00Z', cleared_by = 'ann' WHERE dtu_id = 1")
        .await;
    bench.minutes(2).await;
    assert_eq!(bench.steps().await.len(), 2);
    bench.db.sql(&event(1, 14, true, 0, 7)).await;
    bench.minutes(2).await;
    assert_eq!(bench.steps().await[2..], ["raised terminal_event:erc14@dtu/1"]);
}

#[actix::test]
async fn a_rule_that_goes_takes_its_alarms_along() {
    let bench = Bench::new(2).await;
    bench
        .db
        .sql(r#"INSERT INTO alarm_rule (account_id, name, enabled, severity, kind, judgement, created_at)
               VALUES (1, 'volts', true, 'info', 'threshold', '{"kind": "threshold", "quantity": "voltage_l1", "above": 250}', now())"#)
        .await;
    bench.minutes(1).await;
    bench
        .read(vec![bench.reading(1, &[(Quantity::VoltageL1, "251")])])
        .await;
    assert_eq!(bench.steps().await, ["raised threshold:1.above@meter/1"]);
    bench.db.sql("UPDATE alarm_rule SET deleted_at = now()").await;
    bench.minutes(1).await;
    assert_eq!(bench.steps().await[1..], ["cleared threshold:1.above@meter/1"]);
}
