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

pub(super) fn touch() {
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
