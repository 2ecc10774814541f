//! Happenings at the device port and on the lines.

use super::{counter, counters, gauge};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use std::sync::LazyLock;

static SESSIONS_ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_sessions_ended_total",
        "Sessions ended, by cause.",
        &["cause"],
    )
});
/// Open connections at the device port, registered or not.
pub static CONNECTIONS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_connections",
        "Open connections at the device port, registered or not.",
    )
});
static STRAYS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_stray_frames_total",
        "Valid frames that were nobody's answer.",
    )
});

static ACCEPT_PAUSES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_accept_pauses_total",
        "Times the device port paused because descriptors or socket memory ran out.",
    )
});
static ACCEPT_FAILURES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_accept_failures_total",
        "Accepts that failed for other reasons.",
    )
});
static NOISE: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_noise_bytes_total",
        "Bytes from devices that formed no frame.",
    )
});
static TRANSACTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_transactions_total",
        "Transactions on lines, by result.",
        &["result"],
    )
});
static ANSWERED: LazyLock<IntCounter> = LazyLock::new(|| TRANSACTIONS.with_label_values(&["answered"]));
static DIALS_FAILED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_dials_failed_total",
        "Dial-outs and serial ports that could not be opened.",
    )
});

pub(super) fn touch() {
    LazyLock::force(&ACCEPT_PAUSES);
    LazyLock::force(&ACCEPT_FAILURES);
    LazyLock::force(&NOISE);
    LazyLock::force(&DIALS_FAILED);
    for result in ["answered", "refused", "timeout", "deadline", "session_lost"] {
        TRANSACTIONS.with_label_values(&[result]).inc_by(0);
    }
    LazyLock::force(&SESSIONS_ENDED);
    LazyLock::force(&CONNECTIONS);
    LazyLock::force(&STRAYS);
}

/// A session ended.
#[derive(Clone, Copy, Debug)]
pub struct SessionEnded<'a> {
    /// The DTU's id, 0 when it never said who it is.
    pub dtu: i32,
    /// The peer.
    pub peer: &'a str,
    /// The cause's name.
    pub cause: &'static str,
}

impl SessionEnded<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        SESSIONS_ENDED.with_label_values(&[self.cause]).inc();
        tracing::info!(dtu.id = self.dtu, peer = self.peer, cause = self.cause, "session ended");
    }
}

/// A valid frame that was nobody's answer.
#[derive(Clone, Copy, Debug)]
pub struct FrameStrayed {
    /// The DTU.
    pub dtu: i32,
    /// How many bytes.
    pub bytes: usize,
}

impl FrameStrayed {
    /// Logs and counts.
    pub fn emit(self) {
        STRAYS.inc();
        tracing::debug!(dtu.id = self.dtu, bytes = self.bytes, "stray frame");
    }
}

/// Descriptors or socket memory ran out; the device port pauses until its reserve is full again.
#[derive(Clone, Copy, Debug)]
pub struct AcceptPaused<'a> {
    /// What the system said.
    pub error: &'a std::io::Error,
}

impl AcceptPaused<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        ACCEPT_PAUSES.inc();
        tracing::error!(error = %self.error, "accept paused, descriptors or socket memory ran out");
    }
}

/// An accept failed, as when the peer was gone before.
#[derive(Clone, Copy, Debug)]
pub struct AcceptFailed<'a> {
    /// What the system said.
    pub error: &'a std::io::Error,
}

impl AcceptFailed<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        ACCEPT_FAILURES.inc();
        tracing::debug!(error = %self.error, "accept failed");
    }
}

/// Bytes came that form no frame.
#[derive(Clone, Copy, Debug)]
pub struct NoiseHeard {
    /// The DTU, 0 when not known yet.
    pub dtu: i32,
    /// How many bytes.
    pub bytes: usize,
}

impl NoiseHeard {
    /// Logs and counts.
    pub fn emit(self) {
        NOISE.inc_by(u64::try_from(self.bytes).unwrap_or(u64::MAX));
        tracing::trace!(dtu.id = self.dtu, bytes = self.bytes, "noise");
    }
}

/// A transaction on a line ended.
#[derive(Clone, Copy, Debug)]
pub struct TransactionEnded {
    /// `answered`, `refused`, `timeout`, `deadline` or `session_lost`.
    pub result: &'static str,
}

impl TransactionEnded {
    /// Counts. The poll's own happening has the words.
    pub fn emit(self) {
        if self.result == "answered" {
            // nearly all of them: without a look at a map that all threads share
            ANSWERED.inc();
        } else {
            TRANSACTIONS.with_label_values(&[self.result]).inc();
        }
    }
}

/// A dial-out or a serial port could not be opened; it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct DialFailed<'a> {
    /// The DTU.
    pub dtu: i32,
    /// Where to.
    pub target: &'a str,
    /// What the system said.
    pub error: &'a std::io::Error,
    /// Wait before the next try.
    pub wait_ms: u64,
}

impl DialFailed<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        DIALS_FAILED.inc();
        tracing::warn!(dtu.id = self.dtu, target = self.target, error = %self.error, wait_ms = self.wait_ms, "dial failed");
    }
}
