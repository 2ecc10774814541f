//! What durable storage costs against the least that PostgreSQL can do, and what a reading takes of disk and log.
//!
//! `cargo bench --bench storage -- [--rounds N] [--meters N] [--sweeps N] [--aged N]`: starts a cluster of its own with the
//! server's settings (fsync on). A round writes so many sweeps by the storage path in the batches of the storage actor, gives it the same
//! batches again, and puts the very rows by bare binary COPY, in the same batches, into a table of the same shape with
//! the same key: before and behind, so that a drift of the machine falls on both. Then the day's table is aged with
//! `--aged` sweeps, and four more are written, each behind a checkpoint. One line of JSON a round, one for disk and log.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench talks on standard output and stops at the first fault"
)]

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use polyphase::base::clock::ManualClock;
use polyphase::base::ids::{AccountId, FrameId, FrameRange, MeterId, PollId};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use polyphase::port::ledger::{PollRecord, ReadingStore, WriteReport};
use polyphase::store::embedded::{Embedded, EmbeddedSettings};
use polyphase::store::ingest::{PgReadingStore, Retention};
use polyphase::store::{Database, DatabaseSettings};
use rust_decimal::Decimal;
use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records of a batch, as the storage actor takes them.
const BATCH: usize = 4_000;
const QUANTITIES: usize = 12;
const DAY: &str = "20261121";

#[derive(Clone, Copy, Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

struct Bench {
    store: PgReadingStore,
    admin: PgConnection,
    meters: i32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, otherwise: u32| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok())
            .unwrap_or(otherwise)
    };
    let (rounds, meters, sweeps) = (number("--rounds", 1), number("--meters", 2_000), number("--sweeps", 4));
    let aged = number("--aged", 8);
    let folder = tempfile::Builder::new().prefix("polyphase-bench-").tempdir().unwrap();
    let open: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let settings = EmbeddedSettings {
        data: folder.path().to_path_buf(),
        bin: None,
        port: None,
    };
    let embedded = Embedded::attach_or_start(&settings).await.unwrap();
    Database::migrate(&embedded.superuser_url()).await.unwrap();
    let database = Database::connect(&DatabaseSettings::new(embedded.url().expose_secret().into()))
        .await
        .unwrap();
    let begin = at(0);
    let store = PgReadingStore::new(&database, Arc::new(ManualClock::new(begin)), Retention::default());
    store.maintain(begin).await.unwrap();
    let mut admin = PgConnection::connect(embedded.superuser_url().expose_secret())
        .await
        .unwrap();
    let columns = format!("CREATE TABLE bench_copy (LIKE reading_electricity_{DAY} INCLUDING ALL)");
    admin.execute(AssertSqlSafe(columns)).await.unwrap();
    let mut bench = Bench {
        store,
        admin,
        meters: i32::try_from(meters).unwrap(),
    };
    let mut sweep = 0;
    // the first rows of all, for the first bare COPY
    bench.empty().await;
    bench.write(&bench.sweeps(&mut sweep, sweeps), false).await;
    let mut rows = bench.dump().await;
    for round in 0..rounds {
        bench.empty().await;
        let before = bench.copy(&rows).await;
        let records = bench.sweeps(&mut sweep, sweeps);
        let new = bench.write(&records, false).await;
        let replay = bench.write(&records, true).await;
        rows = bench.dump().await;
        let behind = bench.copy(&rows).await;
        let count = records.iter().map(Vec::len).sum::<usize>() as f64;
        let each = |spent: Spent| (count / spent.wall.as_secs_f64(), spent.cpu.as_secs_f64() * 1e6 / count);
        let copy = Spent {
            wall: (before.wall + behind.wall) / 2,
            cpu: (before.cpu + behind.cpu) / 2,
        };
        println!(
            "{{\"round\":{round},\"rows\":{count},\"copy_rows_s\":{:.0},\"copy_cpu_us\":{:.2},\"new_rows_s\":{:.0},\
             \"new_cpu_us\":{:.2},\"replay_rows_s\":{:.0},\"replay_cpu_us\":{:.2},\"new_ratio\":{:.3},\"replay_ratio\":{:.3}}}",
            each(copy).0,
            each(copy).1,
            each(new).0,
            each(new).1,
            each(replay).0,
            each(replay).1,
            copy.wall.as_secs_f64() / new.wall.as_secs_f64(),
            copy.wall.as_secs_f64() / replay.wall.as_secs_f64(),
        );
    }
    bench.empty().await;
    bench.age(aged).await;
    bench.admin.close().await.unwrap();
    drop(database);
    embedded.release().await.unwrap();
}

/// The instant of a sweep: every quarter of an hour of one day, again and again, but each a little later than all before.
fn at(sweep: u32) -> DateTime<Utc> {
    let midnight: DateTime<Utc> = "2026-11-21T00:00:00Z".parse().unwrap();
    midnight + TimeDelta::minutes(i64::from(sweep % 96) * 15) + TimeDelta::milliseconds(i64::from(sweep))
}

/// The process' CPU time so far, user and system.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

/// Twelve quantities: eight as real, four registers.
fn record(meter: i32, sweep: u32) -> PollRecord {
    use Quantity::*;
    let real = [
        VoltageL1,
        VoltageL2,
        VoltageL3,
        CurrentL1,
        CurrentL2,
        CurrentL3,
        ActivePowerTotal,
        Frequency,
    ];
    let registers = [
        ActiveEnergyImport,
        ActiveEnergyExport,
        ReactiveEnergyImport,
        ReactiveEnergyExport,
    ];
    let mixed = i64::from(meter) * 7919 + i64::from(sweep) * 31;
    let item = |quantity, value| Item {
        measurand: Measurand::Standard(quantity),
        value,
        quality: Quality::Measured,
    };
    let reals = real
        .iter()
        .enumerate()
        .map(|(n, quantity)| item(*quantity, Value::F32((mixed % 400) as f32 / 10.0 + n as f32 + 210.0)));
    let sums = registers.iter().enumerate().map(|(n, quantity)| {
        item(
            *quantity,
            Value::Decimal(Decimal::new(mixed * 3 + n as i64 + 100_000, 2)),
        )
    });
    let ts = at(sweep);
    let poll = i64::from(sweep) * 1_000_000 + i64::from(meter);
    PollRecord {
        reading: Some(Reading {
            account: AccountId(1 + meter / 1_000),
            meter: MeterId(meter),
            ts,
            source: Source::Scheduled,
            read_at: ts + TimeDelta::milliseconds(mixed % 9_000),
            meter_time: None,
            poll: PollId(poll),
            frames: FrameRange {
                first: FrameId(poll * 4),
                count: 2,
            },
            items: reals.chain(sums).collect(),
        }),
        ..PollRecord::default()
    }
}

impl Bench {
    /// Batches of so many sweeps. Meters answer in no order.
    fn sweeps(&self, sweep: &mut u32, count: u32) -> Vec<Vec<PollRecord>> {
        let mut batches = Vec::new();
        for _ in 0..count {
            *sweep += 1;
            let mut order: Vec<i32> = (1..=self.meters).collect();
            order.sort_by_key(|meter| (i64::from(*meter) * 48_271 + i64::from(*sweep)) % 65_537);
            batches.extend(
                order
                    .chunks(BATCH)
                    .map(|meters| meters.iter().map(|meter| record(*meter, *sweep)).collect()),
            );
        }
        batches
    }

    async fn empty(&mut self) {
        let statement = format!("TRUNCATE reading_electricity_{DAY}, reading_side_{DAY}, hour_mark; CHECKPOINT");
        // CHECKPOINT takes no transaction
        for statement in statement.split("; ") {
            self.admin.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        }
    }

    async fn write(&self, batches: &[Vec<PollRecord>], again: bool) -> Spent {
        let (began, spent) = (Instant::now(), cpu());
        let mut report = WriteReport::default();
        for batch in batches {
            let one = self.store.write(batch).await.unwrap();
            report.inserted += one.inserted;
            report.duplicates += one.duplicates;
        }
        let took = Spent {
            wall: began.elapsed(),
            cpu: cpu() - spent,
        };
        let count = batches.iter().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(
            (report.inserted, report.duplicates),
            if again { (0, count) } else { (count, 0) }
        );
        took
    }

    /// The stored rows as binary COPY gives them, in batches, in the order of the key.
    async fn dump(&mut self) -> Vec<Vec<u8>> {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM reading_electricity_{DAY}")))
            .fetch_one(&mut self.admin)
            .await
            .unwrap();
        let mut batches = Vec::new();
        for first in (0..count).step_by(BATCH) {
            let statement = format!(
                "COPY (SELECT * FROM reading_electricity_{DAY} ORDER BY ts, meter_id, source LIMIT {BATCH} OFFSET {first}) \
                 TO STDOUT WITH (FORMAT binary)"
            );
            let mut bytes = Vec::new();
            let mut stream = self.admin.copy_out_raw(&statement).await.unwrap();
            while let Some(part) = stream.try_next().await.unwrap() {
                bytes.extend_from_slice(&part);
            }
            drop(stream);
            batches.push(bytes);
        }
        batches
    }

    async fn copy(&mut self, batches: &[Vec<u8>]) -> Spent {
        self.admin.execute("TRUNCATE bench_copy").await.unwrap();
        self.admin.execute("CHECKPOINT").await.unwrap();
        let (began, spent) = (Instant::now(), cpu());
        for batch in batches {
            let mut copy = self
                .admin
                .copy_in_raw("COPY bench_copy FROM STDIN WITH (FORMAT binary)")
                .await
                .unwrap();
            copy.send(batch.as_slice()).await.unwrap();
            copy.finish().await.unwrap();
        }
        Spent {
            wall: began.elapsed(),
            cpu: cpu() - spent,
        }
    }

    async fn age(&mut self, sweeps: u32) {
        let empty = self.size().await;
        // from a day's first sweep on
        let mut sweep = 9_600 - 1;
        for _ in 0..sweeps {
            let batches = self.sweeps(&mut sweep, 1);
            self.write(&batches, false).await;
        }
        self.admin.execute("VACUUM ANALYZE").await.unwrap();
        let disk = self.size().await - empty;
        let readings = f64::from(self.meters) * QUANTITIES as f64;
        let mut logs = Vec::new();
        for _ in 0..4 {
            let batches = self.sweeps(&mut sweep, 1);
            self.admin.execute("CHECKPOINT").await.unwrap();
            let before: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
                .fetch_one(&mut self.admin)
                .await
                .unwrap();
            self.write(&batches, false).await;
            let log: f64 =
                sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::float8")
                    .bind(before)
                    .fetch_one(&mut self.admin)
                    .await
                    .unwrap();
            logs.push(log / readings);
        }
        let tables: Vec<(String, i64)> = sqlx::query_as(
            "SELECT relname::text, pg_total_relation_size(oid) FROM pg_class
             WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_total_relation_size(oid) > 1000000 ORDER BY 2 DESC",
        )
        .fetch_all(&mut self.admin)
        .await
        .unwrap();
        let tables: Vec<String> = tables
            .iter()
            .map(|(name, bytes)| format!("\"{name}\":{bytes}"))
            .collect();
        let tables = tables.join(",");
        let largest = logs.iter().copied().fold(0.0, f64::max);
        println!(
            "{{\"meters\":{},\"sweeps\":{sweeps},\"disk_per_reading\":{:.1},\"log_per_reading\":{:.1},\"log_each\":{logs:.1?},\
             \"tables\":{{{tables}}}}}",
            self.meters,
            disk as f64 / readings / f64::from(sweeps),
            largest,
        );
    }

    /// Bytes of all tables and indexes.
    async fn size(&mut self) -> i64 {
        sqlx::query_scalar(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
             WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        )
        .fetch_one(&mut self.admin)
        .await
        .unwrap()
    }
}
