//! Happenings of backups.

use super::{counters, gauge};
use chrono::{DateTime, Utc};
use prometheus::{IntCounterVec, IntGauge};
use std::sync::LazyLock;

static MADE: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_backups_total",
        "Backups of this process, by outcome: done or failed.",
        &["outcome"],
    )
});
static LAST: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_backup_last_success_timestamp_seconds",
        "When the newest backup in the folder was made, Unix time; 0: there is none.",
    )
});
static DUE: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_backup_due_timestamp_seconds",
        "When the next backup behind the newest one is due by backup.cron, Unix time; 0: none is scheduled.",
    )
});
static BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_backup_last_bytes",
        "Size of the newest backup in the folder.",
    )
});

pub(super) fn touch() {
    LazyLock::force(&MADE);
    for metric in [&LAST, &DUE, &BYTES] {
        LazyLock::force(metric);
    }
}

/// The newest backup is this one.
#[derive(Clone, Copy, Debug)]
pub struct NewestBackup {
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Its size.
    pub bytes: u64,
}

impl NewestBackup {
    /// Sets the gauges.
    pub fn emit(self) {
        LAST.set(self.made_at.timestamp());
        BYTES.set(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

/// By the schedule, the backup behind the newest one is due at this time. Long past: backups are not made.
#[derive(Clone, Copy, Debug)]
pub struct BackupDue {
    /// When; none: no backups are scheduled.
    pub at: Option<DateTime<Utc>>,
}

impl BackupDue {
    /// Sets the gauge.
    pub fn emit(self) {
        DUE.set(self.at.map_or(0, |at| at.timestamp()));
    }
}

/// A backup was made.
#[derive(Clone, Copy, Debug)]
pub struct BackupMade<'a> {
    /// Which.
    pub id: &'a str,
    /// Its size.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
}

impl BackupMade<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        MADE.with_label_values(&["done"]).inc();
        tracing::info!(backup.id = self.id, bytes = self.bytes, rows = self.rows, "backup made");
    }
}

/// There is no backup.
#[derive(Clone, Copy, Debug)]
pub struct BackupFailed<'a> {
    /// Which.
    pub id: &'a str,
    /// Why.
    pub cause: &'a str,
}

impl BackupFailed<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        MADE.with_label_values(&["failed"]).inc();
        tracing::error!(backup.id = self.id, cause = self.cause, "backup failed");
    }
}
