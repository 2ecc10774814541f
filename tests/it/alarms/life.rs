//! Lost DTUs, restarts, duplicates, storms: no alarm twice, none lost, never a storm.

use super::bench::{Bench, record};
use chrono::TimeDelta;
use polyphase::base::clock::Clock;
use polyphase::domain::quantity::Quantity;
use std::sync::atomic::Ordering;

const TOGETHER: &str = "dtu_offline:together@account";

/// Issue 5: losing 500 DTUs at once raises one alarm; a restart raises none.
#[actix::test]
async fn five_hundred_lost_dtus_are_one_alarm_and_a_restart_raises_none() {
    let mut bench = Bench::new(520).await;
    bench.minutes(2).await;
    assert!(bench.steps().await.is_empty(), "all is well");
    // sockets break at once, silence is noticed within three minutes
    bench
        .db
        .sql(
            "UPDATE dtu_session SET ended_at = '2026-03-03T12:02:00Z'::timestamptz + (dtu_id % 180) * interval '1 s',
                     cause = 'silent' WHERE dtu_id <= 500",
        )
        .await;
    bench.minutes(20).await;
    assert_eq!(bench.steps().await, [format!("raised {TOGETHER}")]);
    let victims = bench
        .rows("SELECT count(*)::text FROM alarm_victim WHERE back_at IS NULL")
        .await;
    assert_eq!(victims, ["500"]);
    bench.restart().await;
    bench.minutes(20).await;
    // the server was down as well: every session ended, and the twenty others come back in time
    bench.stop().await;
    bench
        .db
        .sql("UPDATE dtu_session SET ended_at = '2026-03-03T12:42:00Z', cause = 'server_down' WHERE ended_at IS NULL")
        .await;
    bench.begin().await;
    bench.minutes(3).await;
    bench
        .db
        .sql(
            "INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at)
              SELECT 10000 + g, g, 1, '10.0.0.1:6', '2026-03-03T12:45:00Z' FROM generate_series(501, 520) g",
        )
        .await;
    bench.minutes(30).await;
    assert_eq!(bench.steps().await, [format!("raised {TOGETHER}")]);
    bench
        .db
        .sql(
            "INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at)
              SELECT 20000 + g, g, 1, '10.0.0.1:7', '2026-03-03T13:15:00Z' FROM generate_series(1, 500) g",
        )
        .await;
    bench.minutes(5).await;
    assert_eq!(
        bench.steps().await,
        [format!("raised {TOGETHER}"), format!("cleared {TOGETHER}")]
    );
    assert_eq!(bench.told(), 2);
}

#[actix::test]
async fn one_lost_dtu_is_told_by_its_name_and_flapping_is_one_alarm() {
    let bench = Bench::new(3).await;
    for round in 0..4 {
        let begin = bench.clock.now();
        bench
            .db
            .sql(&format!(
                "UPDATE dtu_session SET ended_at = '{begin}', cause = 'silent' WHERE dtu_id = 2 AND ended_at IS NULL"
            ))
            .await;
        bench.minutes(11).await;
        let back = bench.clock.now();
        bench
            .db
            .sql(&format!(
                "INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at) VALUES ({}, 2, 1, 'x', '{back}')",
                100 + round
            ))
            .await;
        bench.minutes(3).await;
    }
    let told = bench
        .rows("SELECT step || CASE WHEN quiet THEN ' quietly' ELSE '' END FROM alarm_edge ORDER BY id")
        .await;
    let flapping = ["reopened quietly", "cleared quietly"];
    let expected: Vec<&str> = ["raised", "cleared", "reopened", "cleared"]
        .into_iter()
        .chain(flapping.into_iter().cycle().take(4))
        .collect();
    assert_eq!(told, expected);
    let rows = bench.rows("SELECT key || ' ' || occurrences FROM alarm").await;
    assert_eq!(rows, ["dtu_offline@dtu/2 4"]);
}

/// A limit that has to last: begun before a restart, over behind it; duplicates and late readings in between.
#[actix::test]
async fn what_was_under_way_goes_on_behind_a_restart() {
    let mut bench = Bench::new(2).await;
    bench
        .db
        .sql(r#"INSERT INTO alarm_rule (account_id, name, enabled, severity, kind, judgement, created_at)
               VALUES (1, 'fuse', true, 'critical', 'threshold',
                       '{"kind": "threshold", "quantity": "current_l1", "above": 16, "hysteresis": 1, "for_s": 900}', now())"#)
        .await;
    bench.minutes(1).await;
    let amps = |bench: &Bench, value| bench.reading(1, &[(Quantity::CurrentL1, value)]);
    let first = amps(&bench, "17");
    bench.read(vec![first.clone()]).await;
    assert!(bench.steps().await.is_empty());
    bench.restart().await;
    bench.pass(TimeDelta::minutes(15)).await;
    bench.read(vec![amps(&bench, "18")]).await;
    assert_eq!(bench.steps().await, ["raised threshold:1.above@meter/1"]);
    // the same once more, what was before, and another restart
    bench.read(vec![first.clone(), amps(&bench, "18")]).await;
    bench.restart().await;
    bench.read(vec![first]).await;
    bench.pass(TimeDelta::minutes(15)).await;
    bench.read(vec![amps(&bench, "19")]).await;
    assert_eq!(bench.steps().await.len(), 1);
    for _ in 0..2 {
        bench.pass(TimeDelta::minutes(15)).await;
        bench.read(vec![amps(&bench, "3")]).await;
    }
    assert_eq!(bench.steps().await[1..], ["cleared threshold:1.above@meter/1"]);
    assert_eq!(bench.rows("SELECT count(*)::text FROM alarm_watch").await, ["0"]);
    let cause = bench.rows("SELECT detail ->> 'frames' FROM alarm").await;
    assert_eq!(cause, ["[77, 1]"]);
}

/// Committed, and then the process died before it was judged; or the queue was full.
#[actix::test]
async fn what_was_not_judged_is_judged_from_the_database() {
    let mut bench = Bench::with_queue(4, 3).await;
    let energy = |bench: &Bench, meter, value| bench.reading(meter, &[(Quantity::ActiveEnergyImport, value)]);
    bench
        .read((1..=3).map(|meter| energy(&bench, meter, "100")).collect())
        .await;
    bench.stop().await;
    bench.clock.advance(std::time::Duration::from_secs(900));
    bench.store(&[energy(&bench, 1, "50")]).await;
    bench.begin().await;
    assert_eq!(
        bench.steps().await,
        ["raised register_backward:active_energy_import@meter/1"]
    );
    bench.pass(TimeDelta::minutes(15)).await;
    // more than the queue takes at once
    let many: Vec<_> = (1..=4).map(|meter| energy(&bench, meter, "60")).collect();
    bench.read(many).await;
    assert_eq!(
        bench.steps().await[1..],
        [
            "raised register_backward:active_energy_import@meter/2",
            "raised register_backward:active_energy_import@meter/3"
        ]
    );
}

#[actix::test]
async fn a_hundred_meters_at_once_are_twenty_and_one_and_the_rest_is_quiet() {
    let bench = Bench::new(100).await;
    let volts = [
        (Quantity::VoltageL1, "230"),
        (Quantity::VoltageL2, "2"),
        (Quantity::VoltageL3, "231"),
    ];
    bench
        .read((1..=100).map(|meter| bench.reading(meter, &volts)).collect())
        .await;
    let count = |quiet: bool| {
        if quiet {
            "SELECT count(*)::text FROM alarm_edge WHERE quiet"
        } else {
            "SELECT count(*)::text FROM alarm_edge WHERE NOT quiet"
        }
    };
    assert_eq!(bench.rows(count(false)).await, ["21"]);
    assert_eq!(bench.rows(count(true)).await, ["80"]);
    let below = bench
        .rows("SELECT count(*)::text FROM alarm a JOIN alarm p ON p.id = a.parent_id WHERE p.key = 'phase_loss:many@account'")
        .await;
    assert_eq!(below, ["80"]);
    // it calms down, and each is over by itself
    bench.minutes(11).await;
    let good = [
        (Quantity::VoltageL1, "230"),
        (Quantity::VoltageL2, "232"),
        (Quantity::VoltageL3, "231"),
    ];
    bench
        .read((1..=100).map(|meter| bench.reading(meter, &good)).collect())
        .await;
    let open = bench.rows("SELECT key FROM alarm WHERE cleared_at IS NULL").await;
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(bench.rows(count(false)).await, ["42"]);
}

#[actix::test]
async fn a_judge_that_dies_is_built_anew_and_goes_on() {
    let bench = Bench::new(2).await;
    bench.log.panics.store(true, Ordering::SeqCst);
    // it dies in this look, and another one looks
    bench.pass(TimeDelta::minutes(1)).await;
    assert!(!bench.log.panics.load(Ordering::SeqCst));
    let at = bench.clock.now();
    bench
        .read(vec![record(at, 1, &[(Quantity::ActiveEnergyImport, "10")])])
        .await;
    bench.pass(TimeDelta::minutes(1)).await;
    let at = bench.clock.now();
    bench
        .read(vec![record(at, 1, &[(Quantity::ActiveEnergyImport, "5")])])
        .await;
    assert_eq!(
        bench.steps().await,
        ["raised register_backward:active_energy_import@meter/1"]
    );
}
