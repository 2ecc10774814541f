//! Which column goes first in the key of a reading? `docs/decisions/0002-reading-key.md` rests on this.
//!
//! `cargo bench --bench reading_key -- [METERS] [SWEEPS]`: starts a cluster of its own with the server's settings, ages
//! three tables with so many sweeps over so many meters (12 quantities a row, one partition), then for each writes a
//! checkpoint and one more sweep by COPY in batches of 1,000, and prints log, time and disk per reading. The log is the
//! cluster's: nothing else runs on it.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench talks on standard output and stops at the first fault"
)]

use polyphase::store::embedded::{Embedded, EmbeddedSettings};
use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const QUANTITIES: u32 = 12;
const BATCH: u32 = 1_000;
const VARIANTS: [(&str, &str, &str); 3] = [
    ("time first", "PRIMARY KEY (ts, meter_id, source)", ""),
    ("meter first", "PRIMARY KEY (meter_id, ts, source)", ""),
    (
        "time first, and an index by meter",
        "PRIMARY KEY (ts, meter_id, source)",
        "CREATE INDEX ON reading (meter_id, ts)",
    ),
];

#[tokio::main]
async fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let meters = numbers.first().copied().unwrap_or(2_000);
    let sweeps = numbers.get(1).copied().unwrap_or(300);
    let folder = tempfile::Builder::new().prefix("polyphase-bench-").tempdir().unwrap();
    let open: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let embedded = Embedded::attach_or_start(&EmbeddedSettings {
        data: folder.path().to_path_buf(),
        bin: None,
        port: None,
    })
    .await
    .unwrap();
    let mut admin = superuser(folder.path(), embedded.port()).await;
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    println!(
        "PostgreSQL {version}, {meters} meters, {sweeps} sweeps before, {QUANTITIES} quantities a row, batches of {BATCH}"
    );
    println!(
        "| key | log, bytes per reading | of it whole pages | time per 1,000 rows, ms | heap, bytes per reading | indexes, bytes per reading |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, key, index) in VARIANTS {
        measure(&mut admin, name, key, index, meters, sweeps).await;
    }
    admin.close().await.unwrap();
    embedded.release().await.unwrap();
}

async fn superuser(data: &std::path::Path, port: u16) -> PgConnection {
    let secret = std::fs::read_to_string(data.join("postgres.secret")).unwrap();
    let password: secrecy::SecretString = secret
        .lines()
        .find_map(|line| line.strip_prefix("superuser="))
        .unwrap()
        .into();
    let url = format!(
        "postgres://postgres:{}@127.0.0.1:{port}/polyphase",
        password.expose_secret()
    );
    PgConnection::connect(&url).await.unwrap()
}

async fn measure(admin: &mut PgConnection, name: &str, key: &str, index: &str, meters: u32, sweeps: u32) {
    let columns: String = (0..QUANTITIES - 2).fold(String::new(), |mut text, n| {
        write!(text, "v{n} real, ").unwrap();
        text
    });
    let table = format!(
        "DROP TABLE IF EXISTS reading;
         CREATE TABLE reading (ts timestamptz NOT NULL, read_at timestamptz NOT NULL, meter_time timestamptz,
             poll_id bigint NOT NULL, frame_first bigint NOT NULL, meter_id int NOT NULL, account_id int NOT NULL,
             source smallint NOT NULL, frame_count smallint NOT NULL, quality jsonb, {columns} e0 numeric, e1 numeric,
             {key});
         {index}"
    );
    admin.execute(AssertSqlSafe(table)).await.unwrap();
    // the meters' order in a sweep is that of the storage path: sorted by key, whatever order they answered in
    for sweep in 0..sweeps {
        write_sweep(admin, sweep, meters).await;
    }
    admin.execute("VACUUM ANALYZE reading").await.unwrap();
    admin.execute("CHECKPOINT").await.unwrap();
    let before: (String, i64) = position(admin).await;
    let began = Instant::now();
    write_sweep(admin, sweeps, meters).await;
    let took = began.elapsed();
    let (log, whole_pages) = since(admin, &before).await;
    let (heap, indexes): (i64, i64) = sqlx::query_as("SELECT pg_relation_size('reading'), pg_indexes_size('reading')")
        .fetch_one(&mut *admin)
        .await
        .unwrap();
    let written = f64::from(meters) * f64::from(QUANTITIES);
    let all = written * f64::from(sweeps + 1);
    println!(
        "| {name} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
        log / written,
        whole_pages / written,
        per_thousand(took, meters),
        heap as f64 / all,
        indexes as f64 / all
    );
}

fn per_thousand(took: Duration, rows: u32) -> f64 {
    took.as_secs_f64() * 1_000.0 / (f64::from(rows) / 1_000.0)
}

async fn position(admin: &mut PgConnection) -> (String, i64) {
    sqlx::query_as("SELECT pg_current_wal_insert_lsn()::text, wal_fpi FROM pg_stat_wal")
        .fetch_one(admin)
        .await
        .unwrap()
}

/// Bytes of log since a position, and how many of them are whole pages (an upper bound: a page may be logged compressed).
async fn since(admin: &mut PgConnection, before: &(String, i64)) -> (f64, f64) {
    // statistics arrive with the end of the transaction, at most once a second
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let log: f64 = sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::float8")
        .bind(&before.0)
        .fetch_one(&mut *admin)
        .await
        .unwrap();
    let pages: i64 = sqlx::query_scalar("SELECT wal_fpi FROM pg_stat_wal")
        .fetch_one(admin)
        .await
        .unwrap();
    (log, (pages - before.1) as f64 * 8192.0)
}

async fn write_sweep(admin: &mut PgConnection, sweep: u32, meters: u32) {
    let minutes = u64::from(sweep) * 15;
    let ts = chrono::DateTime::from_timestamp(1_763_720_000, 0).unwrap() + chrono::TimeDelta::minutes(minutes as i64);
    for first in (0..meters).step_by(BATCH as usize) {
        let mut rows = String::new();
        for meter in first..(first + BATCH).min(meters) {
            write!(
                rows,
                "{ts}\t{ts}\t\\N\t{}\t{}\t{meter}\t{}\t0\t2\t\\N",
                u64::from(sweep) * u64::from(meters) + u64::from(meter),
                u64::from(sweep) * 2_000_000 + u64::from(meter) * 2,
                meter / 100
            )
            .unwrap();
            for n in 0..QUANTITIES - 2 {
                write!(rows, "\t{}.{}", 200 + (meter + n) % 40, (sweep * 7 + meter) % 10).unwrap();
            }
            writeln!(
                rows,
                "\t{}.{:02}\t{}.{:02}",
                sweep * 3 + meter,
                meter % 100,
                sweep + meter,
                sweep % 100
            )
            .unwrap();
        }
        let mut copy = admin.copy_in_raw("COPY reading FROM STDIN").await.unwrap();
        copy.send(rows.as_bytes()).await.unwrap();
        copy.finish().await.unwrap();
    }
}
