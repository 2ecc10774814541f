//! Happenings of the storage room: batches into PostgreSQL, what it would not take, roll-ups, the embedded cluster.

use super::{counter, counters, gauge, gauges, histograms};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;
use std::time::Duration;

static ROWS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_store_readings_total",
        "Readings handed to PostgreSQL, by outcome (inserted, duplicate, conflict, rejected).",
        &["outcome"],
    )
});
static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histograms(
        "polyphase_store_batch_seconds",
        "Time to write one batch to PostgreSQL.",
        &[],
        &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0],
    )
});
static REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_store_batches_failed_total",
        "Batches that PostgreSQL could not take now; they stay in the spool.",
    )
});
static ROLLED: LazyLock<IntCounter> =
    LazyLock::new(|| counter("polyphase_rollup_hours_total", "Hours of consumption computed."));
static GRAFANA_ENDED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_grafana_sessions_ended_total",
        "Database sessions of Grafana logins that the server ended because they ran too long or held locks.",
    )
});
/// 1 while the server's own PostgreSQL cluster runs.
pub static EMBEDDED: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_embedded_postgres_up",
        "1 while the server's own PostgreSQL cluster runs.",
    )
});

static STATE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "polyphase_database_state",
        "1 for the database's present state: up, absent, hung, full, crowded.",
        &["state"],
    )
});

/// Every state of the database that the gauge knows.
const STATES: [&str; 5] = ["up", "absent", "hung", "full", "crowded"];

pub(super) fn touch() {
    for state in STATES {
        STATE.with_label_values(&[state]).set(i64::from(state == "up"));
    }
    for outcome in ["inserted", "duplicate", "conflict", "rejected"] {
        ROWS.with_label_values(&[outcome]);
    }
    LazyLock::force(&SECONDS);
    LazyLock::force(&REFUSED);
    LazyLock::force(&ROLLED);
    LazyLock::force(&EMBEDDED);
    LazyLock::force(&GRAFANA_ENDED);
}

/// A batch is committed.
#[derive(Clone, Copy, Debug)]
pub struct BatchWritten {
    /// Poll records in it.
    pub records: usize,
    /// New readings.
    pub inserted: u64,
    /// Readings that were there already.
    pub duplicates: u64,
    /// Other values under a taken key.
    pub conflicts: u64,
    /// Parts that the database will not take.
    pub rejected: u64,
    /// From begin to commit.
    pub took: Duration,
}

impl BatchWritten {
    /// Logs and counts.
    pub fn emit(self) {
        ROWS.with_label_values(&["inserted"]).inc_by(self.inserted);
        ROWS.with_label_values(&["duplicate"]).inc_by(self.duplicates);
        ROWS.with_label_values(&["conflict"]).inc_by(self.conflicts);
        ROWS.with_label_values(&["rejected"]).inc_by(self.rejected);
        SECONDS.with_label_values::<&str>(&[]).observe(self.took.as_secs_f64());
        tracing::debug!(
            records = self.records,
            inserted = self.inserted,
            duplicates = self.duplicates,
            took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "batch written"
        );
    }
}

/// A batch could not be written now; nothing of it is committed.
#[derive(Clone, Copy, Debug)]
pub struct WriteRefused<'a> {
    /// Poll records in it.
    pub records: usize,
    /// Why.
    pub error: &'a str,
}

impl WriteRefused<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        REFUSED.inc();
        tracing::warn!(records = self.records, error = self.error, "batch not written");
    }
}

/// Another value came under a key that is taken; the first stays.
#[derive(Clone, Copy, Debug)]
pub struct ReadingConflicted {
    /// The meter.
    pub meter: i32,
    /// The source in the key, as its number in the tables.
    pub source: i16,
}

impl ReadingConflicted {
    /// Logs; the batch counts it.
    pub fn emit(self) {
        tracing::warn!(
            meter.id = self.meter,
            source = self.source,
            "another value under the same key, kept as a conflict"
        );
    }
}

/// A part of a record that the database will not take was set aside.
#[derive(Clone, Copy, Debug)]
pub struct RecordRejected<'a> {
    /// The meter.
    pub meter: i32,
    /// Why.
    pub reason: &'a str,
}

impl RecordRejected<'_> {
    /// Logs; the batch counts it.
    pub fn emit(self) {
        tracing::error!(meter.id = self.meter, reason = self.reason, "record set aside");
    }
}

/// A roll-up has run.
#[derive(Clone, Copy, Debug)]
pub struct RolledUp {
    /// Meters with new readings.
    pub meters: usize,
    /// Hours of consumption written.
    pub hours: u64,
}

impl RolledUp {
    /// Logs and counts.
    pub fn emit(self) {
        ROLLED.inc_by(self.hours);
        tracing::debug!(meters = self.meters, hours = self.hours, "consumption rolled up");
    }
}

/// Sessions of Grafana logins ran too long, or held locks, and were ended.
#[derive(Clone, Copy, Debug)]
pub struct GrafanaEnded {
    /// How many.
    pub sessions: i32,
}

impl GrafanaEnded {
    /// Logs and counts.
    pub fn emit(self) {
        GRAFANA_ENDED.inc_by(u64::try_from(self.sessions).unwrap_or(0));
        tracing::warn!(
            sessions = self.sessions,
            "grafana sessions ended, they ran too long or held locks"
        );
    }
}

/// The server's own PostgreSQL cluster runs.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedUp<'a> {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// It ran already, e.g. left by a killed server.
    pub adopted: bool,
    /// Its folder.
    pub folder: &'a str,
}

impl EmbeddedUp<'_> {
    /// Logs.
    pub fn emit(self) {
        tracing::info!(
            port = self.port,
            adopted = self.adopted,
            folder = self.folder,
            "embedded postgresql runs"
        );
    }
}

/// The database fares otherwise than before.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseStateChanged<'a> {
    /// One of the gauge's labels.
    pub state: &'static str,
    /// What it said.
    pub detail: &'a str,
}

impl DatabaseStateChanged<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        for state in STATES {
            STATE.with_label_values(&[state]).set(i64::from(state == self.state));
        }
        if self.state == "up" {
            tracing::info!(state = self.state, "database");
        } else {
            tracing::warn!(state = self.state, detail = self.detail, "database");
        }
    }
}
