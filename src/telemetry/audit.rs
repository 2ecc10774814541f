//! Happenings of the audit: its checkpoints outside the database, and entries that could not be written.

use super::{counter, gauge};
use prometheus::{IntCounter, IntGauge};
use std::path::Path;
use std::sync::LazyLock;

static WRITTEN: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_audit_checkpoint_entry",
        "Audit entry of the latest checkpoint outside the database.",
    )
});
static FAILED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_audit_checkpoints_failed_total",
        "Checkpoints of the audit that were due and could not be written.",
    )
});
static UNWRITTEN: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_audit_unwritten_total",
        "Audit entries of what was refused that could not be written.",
    )
});
static CUT: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_audit_cut",
        "1 while the audit in the database is shorter than a checkpoint outside it.",
    )
});

pub(super) fn touch() {
    LazyLock::force(&WRITTEN);
    LazyLock::force(&FAILED);
    LazyLock::force(&UNWRITTEN);
    LazyLock::force(&CUT);
}

/// Something was refused, and the audit could not take it.
#[derive(Clone, Copy, Debug)]
pub struct AuditUnwritten<'a> {
    /// The action.
    pub what: &'static str,
    /// Why.
    pub error: &'a str,
}

impl AuditUnwritten<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::warn!(what = self.what, error = self.error, "an audit entry is not written");
        UNWRITTEN.inc();
    }
}

/// A checkpoint is written down.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointWritten {
    /// Of which entry.
    pub entry: i64,
}

impl CheckpointWritten {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::debug!(entry = self.entry, "checkpoint of the audit");
        WRITTEN.set(self.entry);
        CUT.set(0);
    }
}

/// A checkpoint could not be written; the next tick tries again.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointFailed<'a> {
    /// Where.
    pub path: &'a Path,
    /// Why.
    pub error: &'a str,
}

impl CheckpointFailed<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::error!(path = %self.path.display(), error = self.error, "a checkpoint of the audit is not written");
        FAILED.inc();
    }
}

/// The audit in the database is shorter than it was: its end was cut off, or an old backup was restored.
#[derive(Clone, Copy, Debug)]
pub struct AuditCut {
    /// Where it ends.
    pub entry: i64,
    /// The last entry that was written down outside.
    pub known: i64,
    /// Whether it has not been said yet.
    pub first: bool,
}

impl AuditCut {
    /// Logs once and counts.
    pub fn emit(self) {
        if self.first {
            tracing::error!(
                entry = self.entry,
                known = self.known,
                "the audit is shorter than it was, see audit verify"
            );
        }
        CUT.set(1);
    }
}
