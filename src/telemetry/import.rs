//! Happenings of imports. Never what is imported.

use super::{counter, counters, gauge};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use std::sync::LazyLock;
use uuid::Uuid;

static ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_imports_total",
        "Imports that ended, by kind, whether they were dry runs, and outcome: done, faulty or failed.",
        &["kind", "dry_run", "outcome"],
    )
});
static ROWS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_import_rows_total",
        "Rows of files that were imported or tried.",
    )
});
static OPEN: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_imports_open", "Imports that wait or are being run."));
static OPEN_LIMIT: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_imports_open_limit",
        "Imports that may wait or run at once (imports.open_max).",
    )
});

pub(super) fn touch() {
    LazyLock::force(&ENDED);
    LazyLock::force(&ROWS);
    for metric in [&OPEN, &OPEN_LIMIT] {
        LazyLock::force(metric);
    }
}

/// An import ended.
#[derive(Clone, Copy, Debug)]
pub struct ImportEnded<'a> {
    /// Which.
    pub id: Uuid,
    /// Of what.
    pub kind: &'static str,
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// How.
    pub outcome: &'static str,
    /// Rows of the file.
    pub rows: i64,
    /// Faults found.
    pub faults: i64,
    /// Why, if it failed.
    pub reason: Option<&'a str>,
}

impl ImportEnded<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        ROWS.inc_by(u64::try_from(self.rows).unwrap_or(0));
        let dry = if self.dry_run { "true" } else { "false" };
        ENDED.with_label_values(&[self.kind, dry, self.outcome]).inc();
        tracing::info!(import.id = %self.id, kind = self.kind, dry_run = self.dry_run, outcome = self.outcome,
            rows = self.rows, faults = self.faults, reason = self.reason, "import ended");
    }
}

/// How full the desk is.
#[derive(Clone, Copy, Debug)]
pub struct ImportsOpen {
    /// Jobs that have not ended.
    pub open: usize,
    /// How many there may be.
    pub limit: usize,
}

impl ImportsOpen {
    /// Sets the gauges.
    pub fn emit(self) {
        OPEN.set(i64::try_from(self.open).unwrap_or(i64::MAX));
        OPEN_LIMIT.set(i64::try_from(self.limit).unwrap_or(i64::MAX));
    }
}

/// Jobs of imports cannot be looked after now.
#[derive(Clone, Copy, Debug)]
pub struct ImportHouseFailed<'a> {
    /// Why.
    pub cause: &'a str,
}

impl ImportHouseFailed<'_> {
    /// Logs.
    pub fn emit(self) {
        tracing::warn!(cause = self.cause, "jobs of imports cannot be written down now");
    }
}
