//! Happenings of the actors: supervision, polls, slots, the registry.

use super::{counter, counters, gauge, gauges, histograms};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;

/// Rows of session history that wait for the database.
pub static SESSION_LOG_QUEUED: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_session_log_queued_rows",
        "Rows of session history that wait for the database.",
    )
});
static SESSION_ROWS_DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_session_log_dropped_rows_total",
        "Rows of session history dropped because the queue was full.",
    )
});
static RESTARTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_actor_restarts_total",
        "Actors built anew after they died, by kind.",
        &["kind"],
    )
});
/// Live actors, by kind.
pub static ACTORS: LazyLock<IntGaugeVec> =
    LazyLock::new(|| gauges("polyphase_actors", "Live actors, by kind.", &["kind"]));
/// DTUs of the directory.
pub static DTUS: LazyLock<IntGauge> = LazyLock::new(|| gauge("polyphase_dtus", "DTUs of the directory."));
/// DTUs with a session.
pub static DTUS_ONLINE: LazyLock<IntGauge> = LazyLock::new(|| gauge("polyphase_dtus_online", "DTUs with a session."));
/// Meters of the directory.
pub static METERS: LazyLock<IntGauge> = LazyLock::new(|| gauge("polyphase_meters", "Meters of the directory."));
/// SNs in quarantine.
pub static QUARANTINED: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_quarantined_dtus",
        "Unknown serial numbers that wait in quarantine.",
    )
});
/// Age of the oldest slot without an ending.
pub static SLOT_OLDEST_OPEN_SECONDS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_slot_oldest_open_seconds",
        "Age of the oldest due slot without an ending, seconds.",
    )
});
static SLOTS_ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_slots_ended_total",
        "Slots that were given an ending, by state and reason (empty unless missing).",
        &["state", "reason"],
    )
});
static POLLS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histograms(
        "polyphase_poll_duration_seconds",
        "Duration of visits to meters, by outcome, waiting for the line included.",
        &["outcome"],
        &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0],
    )
});
static TAKE_OVERS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_session_takeovers_total",
        "Sessions that took over a live session of the same serial number.",
    )
});
static CLONES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_clone_suspected_total",
        "Take-overs that looked like two devices with one serial number.",
    )
});
static QUARANTINE_REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_quarantine_refused_total",
        "Unknown serial numbers refused because quarantine was full.",
    )
});

pub(super) fn touch() {
    for metric in [
        &SESSION_LOG_QUEUED,
        &DTUS,
        &DTUS_ONLINE,
        &METERS,
        &QUARANTINED,
        &SLOT_OLDEST_OPEN_SECONDS,
    ] {
        LazyLock::force(metric);
    }
    for metric in [&SESSION_ROWS_DROPPED, &TAKE_OVERS, &CLONES, &QUARANTINE_REFUSED] {
        LazyLock::force(metric);
    }
    LazyLock::force(&RESTARTS);
    LazyLock::force(&SLOTS_ENDED);
    LazyLock::force(&ACTORS);
    LazyLock::force(&POLLS);
}

/// A row of session history was dropped.
#[derive(Clone, Copy, Debug)]
pub struct SessionRowDropped {
    /// The session.
    pub session: i64,
}

impl SessionRowDropped {
    /// Logs and counts.
    pub fn emit(self) {
        SESSION_ROWS_DROPPED.inc();
        tracing::warn!(session.id = self.session, "session row dropped, the queue is full");
    }
}

/// An actor died and is built anew.
#[derive(Clone, Copy, Debug)]
pub struct ActorRestarted {
    /// `meter`, `connection`, `storage`, `shard`, `registry`.
    pub kind: &'static str,
    /// Its id, 0 for a single one.
    pub id: i64,
    /// The wait before it is built, milliseconds.
    pub wait_ms: u128,
    /// It died more often than the policy bears.
    pub intense: bool,
}

impl ActorRestarted {
    /// Logs and counts.
    pub fn emit(self) {
        RESTARTS.with_label_values(&[self.kind]).inc();
        if self.intense {
            tracing::error!(actor.kind = self.kind, actor.id = self.id, wait_ms = %self.wait_ms, "actor keeps dying");
        } else {
            tracing::warn!(actor.kind = self.kind, actor.id = self.id, wait_ms = %self.wait_ms, "actor died, is built anew");
        }
    }
}

/// A slot was given an ending.
#[derive(Clone, Copy, Debug)]
pub struct SlotEnded {
    /// The meter.
    pub meter: i32,
    /// `actual`, `late`, `missing`.
    pub state: &'static str,
    /// Why, when missing; else empty.
    pub reason: &'static str,
}

impl SlotEnded {
    /// Logs and counts.
    pub fn emit(self) {
        SLOTS_ENDED.with_label_values(&[self.state, self.reason]).inc();
        tracing::debug!(
            meter.id = self.meter,
            state = self.state,
            reason = self.reason,
            "slot ended"
        );
    }
}

/// A visit to a meter is over.
#[derive(Clone, Copy, Debug)]
pub struct PollEnded {
    /// The meter.
    pub meter: i32,
    /// The poll.
    pub poll: i64,
    /// `read`, `partial`, or the reason's name.
    pub outcome: &'static str,
    /// How long it took, seconds.
    pub seconds: f64,
}

impl PollEnded {
    /// Logs and counts.
    pub fn emit(self) {
        POLLS.with_label_values(&[self.outcome]).observe(self.seconds);
        tracing::debug!(
            meter.id = self.meter,
            poll.id = self.poll,
            outcome = self.outcome,
            seconds = self.seconds,
            "poll ended"
        );
    }
}

/// A session took over a live one.
#[derive(Clone, Copy, Debug)]
pub struct SessionTakenOver {
    /// The DTU.
    pub dtu: i32,
    /// It happens again and again.
    pub clone_suspected: bool,
}

impl SessionTakenOver {
    /// Logs and counts.
    pub fn emit(self) {
        TAKE_OVERS.inc();
        if self.clone_suspected {
            CLONES.inc();
            tracing::warn!(dtu.id = self.dtu, "two devices seem to share one serial number");
        } else {
            tracing::info!(dtu.id = self.dtu, "a newer session took over");
        }
    }
}

/// An unknown serial number was refused because quarantine is full.
#[derive(Clone, Copy, Debug)]
pub struct QuarantineRefused;

impl QuarantineRefused {
    /// Logs and counts.
    pub fn emit(self) {
        QUARANTINE_REFUSED.inc();
        tracing::warn!("quarantine is full, an unknown serial number was refused");
    }
}
