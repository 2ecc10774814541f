//! Happenings of exports. Never what is exported.

use super::{counter, counters, gauge};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use std::sync::LazyLock;
use uuid::Uuid;

static ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_exports_total",
        "Exports that ended, by kind, format and outcome: done, failed or cancelled.",
        &["kind", "format", "outcome"],
    )
});
static ROWS: LazyLock<IntCounter> =
    LazyLock::new(|| counter("polyphase_export_rows_total", "Rows written into exports."));
static OPEN: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_exports_open", "Exports that wait or are being written."));
static OPEN_LIMIT: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_exports_open_limit",
        "Exports that may wait or be written at once (exports.open_max).",
    )
});
static KEPT: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_export_kept_bytes", "Bytes of exports that can be fetched."));
static KEPT_LIMIT: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_export_kept_limit_bytes",
        "Bytes of exports that may be kept (exports.folder_bytes).",
    )
});

pub(super) fn touch() {
    LazyLock::force(&ENDED);
    LazyLock::force(&ROWS);
    for metric in [&OPEN, &OPEN_LIMIT, &KEPT, &KEPT_LIMIT] {
        LazyLock::force(metric);
    }
}

/// An export ended.
#[derive(Clone, Copy, Debug)]
pub struct ExportEnded<'a> {
    /// Which.
    pub id: Uuid,
    /// Of what.
    pub kind: &'static str,
    /// As what.
    pub format: &'static str,
    /// How.
    pub outcome: &'static str,
    /// Rows written.
    pub rows: i64,
    /// Bytes of the file.
    pub bytes: i64,
    /// Why, if it failed.
    pub reason: Option<&'a str>,
}

impl ExportEnded<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        let rows = u64::try_from(self.rows).unwrap_or(0);
        ROWS.inc_by(rows);
        ENDED.with_label_values(&[self.kind, self.format, self.outcome]).inc();
        tracing::info!(export.id = %self.id, kind = self.kind, format = self.format, outcome = self.outcome, rows,
            bytes = self.bytes, reason = self.reason, "export ended");
    }
}

/// How full the desk is.
#[derive(Clone, Copy, Debug)]
pub struct ExportsOpen {
    /// Jobs that have not ended.
    pub open: usize,
    /// How many there may be.
    pub limit: usize,
}

impl ExportsOpen {
    /// Sets the gauges.
    pub fn emit(self) {
        OPEN.set(i64::try_from(self.open).unwrap_or(i64::MAX));
        OPEN_LIMIT.set(i64::try_from(self.limit).unwrap_or(i64::MAX));
    }
}

/// How full the folder is.
#[derive(Clone, Copy, Debug)]
pub struct ExportsKept {
    /// Bytes of files that are kept.
    pub bytes: u64,
    /// How many there may be.
    pub limit: u64,
}

impl ExportsKept {
    /// Sets the gauges.
    pub fn emit(self) {
        KEPT.set(i64::try_from(self.bytes).unwrap_or(i64::MAX));
        KEPT_LIMIT.set(i64::try_from(self.limit).unwrap_or(i64::MAX));
    }
}

/// The house of exports could not be kept now.
#[derive(Clone, Copy, Debug)]
pub struct ExportSweepFailed<'a> {
    /// Why.
    pub cause: &'a str,
}

impl ExportSweepFailed<'_> {
    /// Logs.
    pub fn emit(self) {
        tracing::warn!(cause = self.cause, "exports are not swept now");
    }
}
