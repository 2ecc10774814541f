//! Happenings of the live stream.

use super::{counter, counters, gauge};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use std::sync::LazyLock;

static EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_live_events_total",
        "Events published to the live stream, by topic.",
        &["topic"],
    )
});
static BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_live_window_bytes",
        "Bytes of recent events kept for resuming streams.",
    )
});
static LISTENERS: LazyLock<IntGauge> = LazyLock::new(|| gauge("polyphase_live_listeners", "Open live streams."));
static MISSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_live_missed_events_total",
        "Events that passed listeners by because they were too slow.",
    )
});

pub(super) fn touch() {
    LazyLock::force(&EVENTS);
    LazyLock::force(&BYTES);
    LazyLock::force(&LISTENERS);
    LazyLock::force(&MISSED);
}

/// An event was published. Counted only: there are thousands a second.
#[derive(Clone, Copy, Debug)]
pub struct EventPublished {
    /// The topic's name.
    pub topic: &'static str,
    /// Bytes kept now, over all accounts.
    pub bytes: usize,
}

impl EventPublished {
    /// Counts.
    pub fn emit(self) {
        EVENTS.with_label_values(&[self.topic]).inc();
        BYTES.set(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

/// A listener came or went.
#[derive(Clone, Copy, Debug)]
pub struct ListenersChanged {
    /// How many there are now.
    pub listeners: usize,
}

impl ListenersChanged {
    /// Counts.
    pub fn emit(self) {
        LISTENERS.set(i64::try_from(self.listeners).unwrap_or(i64::MAX));
    }
}

/// A listener was too slow.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLagged {
    /// Events that passed it by.
    pub events: u64,
}

impl ListenerLagged {
    /// Logs and counts.
    pub fn emit(self) {
        MISSED.inc_by(self.events);
        tracing::debug!(events = self.events, "a live stream is too slow and missed events");
    }
}
