//! Happenings of the spool and the frame recorder.

use super::{counter, counters, gauge, gauges, histograms};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;
use std::time::Duration;

/// Records that wait for the spool's thread.
pub static SPOOL_QUEUE: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_spool_queue_records",
        "Records that wait for the spool's thread.",
    )
});
/// How many may wait.
pub static SPOOL_QUEUE_CAPACITY: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_spool_queue_capacity_records",
        "How many records may wait for the spool's thread.",
    )
});
/// Durable records that are not yet committed to the database.
pub static SPOOL_BACKLOG: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_spool_backlog_records",
        "Durable records that are not yet committed to the database.",
    )
});
/// Bytes of segments on the disk.
pub static SPOOL_BYTES: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_spool_bytes", "Bytes of spool segments on the disk."));
/// Bytes that segments may take.
pub static SPOOL_CAPACITY: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_spool_capacity_bytes", "Bytes that spool segments may take."));
/// Bytes free on the spool's disk.
pub static SPOOL_FREE: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_spool_disk_free_bytes",
        "Bytes free on the file system of the spool.",
    )
});
static SPOOL_STATE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "polyphase_spool_state",
        "1 for the spool's present state: normal, high, critical, full, failed, closed.",
        &["state"],
    )
});
static RECORDS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_spool_records_total",
        "Records made durable and acknowledged.",
    )
});
static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_spool_refused_total",
        "Records that were not made durable, by reason.",
        &["reason"],
    )
});
static FSYNC: LazyLock<HistogramVec> = LazyLock::new(|| {
    histograms(
        "polyphase_spool_fsync_seconds",
        "Duration of a group's write and fsync.",
        &[],
        &[
            0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
        ],
    )
});
static DAMAGE: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_spool_damage_bytes_total",
        "Bytes cut as a torn tail (torn) or skipped as damaged (bad).",
        &["kind"],
    )
});
static LOST: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_spool_lost_records_total",
        "Records missing in the spool's numbering, or unreadable.",
    )
});
static FRAMES: LazyLock<IntCounterVec> =
    LazyLock::new(|| counters("polyphase_frames_total", "Raw frames recorded or dropped.", &["fate"]));
/// Bytes of the frame ring on the disk.
pub static FRAMES_BYTES: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_frames_bytes", "Bytes of the frame ring on the disk."));

/// Every state of the spool that the gauge knows.
const STATES: [&str; 6] = ["normal", "high", "critical", "full", "failed", "closed"];

pub(super) fn touch() {
    for gauge in [
        &SPOOL_QUEUE,
        &SPOOL_QUEUE_CAPACITY,
        &SPOOL_BACKLOG,
        &SPOOL_BYTES,
        &SPOOL_CAPACITY,
        &SPOOL_FREE,
        &FRAMES_BYTES,
    ] {
        LazyLock::force(gauge);
    }
    for state in STATES {
        // a spool opens normal and tells when it is anything else
        SPOOL_STATE
            .with_label_values(&[state])
            .set(i64::from(state == "normal"));
    }
    for reason in ["full", "failed", "too_large"] {
        REFUSED.with_label_values(&[reason]);
    }
    for kind in ["torn", "bad"] {
        DAMAGE.with_label_values(&[kind]);
    }
    for fate in ["recorded", "dropped"] {
        FRAMES.with_label_values(&[fate]);
    }
    LazyLock::force(&RECORDS);
    LazyLock::force(&LOST);
    FSYNC.with_label_values::<&str>(&[]);
}

/// The spool was opened.
#[derive(Clone, Copy, Debug)]
pub struct SpoolOpened<'a> {
    /// Its folder.
    pub dir: &'a str,
    /// Segments found.
    pub segments: usize,
    /// Records not yet committed.
    pub backlog: u64,
}

impl SpoolOpened<'_> {
    /// Logs.
    pub fn emit(self) {
        tracing::info!(
            dir = self.dir,
            segments = self.segments,
            backlog = self.backlog,
            "spool opened"
        );
    }
}

/// A group of records is durable.
#[derive(Clone, Copy, Debug)]
pub struct GroupSynced {
    /// How many records.
    pub records: u64,
    /// Write and fsync took so long.
    pub took: Duration,
}

impl GroupSynced {
    /// Counts.
    pub fn emit(self) {
        RECORDS.inc_by(self.records);
        FSYNC.with_label_values::<&str>(&[]).observe(self.took.as_secs_f64());
    }
}

/// Records were refused.
#[derive(Clone, Copy, Debug)]
pub struct RecordsRefused {
    /// How many.
    pub records: u64,
    /// `full`, `failed` or `too_large`.
    pub reason: &'static str,
}

impl RecordsRefused {
    /// Counts; each refusal is also the caller's to report.
    pub fn emit(self) {
        REFUSED.with_label_values(&[self.reason]).inc_by(self.records);
    }
}

/// The spool's state changed.
#[derive(Clone, Copy, Debug)]
pub struct SpoolStateChanged<'a> {
    /// One of the gauge's labels.
    pub state: &'static str,
    /// Why.
    pub detail: &'a str,
}

impl SpoolStateChanged<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        for state in STATES {
            SPOOL_STATE
                .with_label_values(&[state])
                .set(i64::from(state == self.state));
        }
        if self.state == "failed" {
            tracing::error!(state = self.state, detail = self.detail, "spool state");
        } else if matches!(self.state, "full" | "critical") {
            tracing::warn!(state = self.state, detail = self.detail, "spool state");
        } else {
            tracing::info!(state = self.state, detail = self.detail, "spool state");
        }
    }
}

/// Bytes of a segment are no record.
#[derive(Clone, Copy, Debug)]
pub struct SpoolDamaged<'a> {
    /// `torn` or `bad`.
    pub kind: &'static str,
    /// The segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The file that keeps them, or why there is none.
    pub kept: &'a str,
}

impl SpoolDamaged<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        DAMAGE.with_label_values(&[self.kind]).inc_by(self.bytes);
        tracing::warn!(
            kind = self.kind,
            segment = self.segment,
            offset = self.offset,
            bytes = self.bytes,
            kept = self.kept,
            "damage in a log segment"
        );
    }
}

/// Records are missing or unreadable.
#[derive(Clone, Copy, Debug)]
pub struct SpoolRecordsLost<'a> {
    /// How many.
    pub records: u64,
    /// The first missing sequence.
    pub sequence: u64,
    /// What is known.
    pub detail: &'a str,
}

impl SpoolRecordsLost<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        LOST.inc_by(self.records);
        tracing::error!(
            records = self.records,
            sequence = self.sequence,
            detail = self.detail,
            "spool records lost"
        );
    }
}

/// Something beside the durable path failed; nothing is lost by it.
#[derive(Clone, Copy, Debug)]
pub struct SpoolTrouble<'a> {
    /// What was tried.
    pub what: &'static str,
    /// What came of it.
    pub error: &'a str,
}

impl SpoolTrouble<'_> {
    /// Logs.
    pub fn emit(self) {
        tracing::warn!(what = self.what, error = self.error, "spool housekeeping failed");
    }
}

/// Raw frames were written to the ring, or dropped.
#[derive(Clone, Copy, Debug)]
pub struct FramesPassed {
    /// Written.
    pub recorded: u64,
    /// Dropped.
    pub dropped: u64,
    /// Why they were dropped.
    pub reason: &'static str,
}

impl FramesPassed {
    /// Counts, and logs drops.
    pub fn emit(self) {
        FRAMES.with_label_values(&["recorded"]).inc_by(self.recorded);
        if self.dropped > 0 {
            FRAMES.with_label_values(&["dropped"]).inc_by(self.dropped);
            tracing::debug!(frames = self.dropped, reason = self.reason, "frames dropped");
        }
    }
}
