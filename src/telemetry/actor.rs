//! Happenings of the actors: supervision, polls, slots, the registry.

use super::{counter, counters, gauge, gauges, histograms};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
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
        "Rows of session history dropped because the queue was full or the database refuses them for good.",
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
// nearly all slots and polls end so: without a look at a map that all threads share
static SLOTS_ACTUAL: LazyLock<IntCounter> = LazyLock::new(|| SLOTS_ENDED.with_label_values(&["actual", ""]));
static POLLS_READ: LazyLock<Histogram> = LazyLock::new(|| POLLS.with_label_values(&["read"]));
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

static FLAPPING: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_flap_bans_total",
        "Serial numbers that were banned for a while because they connected too often.",
    )
});
static FLAP_REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_flap_refused_total",
        "Connections refused because their serial number is banned for a while.",
    )
});
static FIRST_POLLS_HELD: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_first_polls_held_total",
        "Sessions whose first scheduled polls had to wait for their turn after a connect.",
    )
});
static SHED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_polls_shed_total",
        "Polls not made because the server was short of memory or of room in the spool, by priority.",
        &["priority"],
    )
});
static PRESSURE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "polyphase_pressure",
        "1 for the present level of load shedding: none, some, high, extreme.",
        &["level"],
    )
});
/// Resident memory of the process.
pub static MEMORY: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_memory_bytes", "Resident memory of the process."));
/// What it may take before load is shed.
pub static MEMORY_BUDGET: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_memory_budget_bytes",
        "Memory that the process may take; from 80 % of it load is shed.",
    )
});

/// Every priority and level that the metrics know.
const PRIORITIES: [&str; 7] = [
    "control",
    "money",
    "on_demand",
    "settlement",
    "scheduled",
    "back_fill",
    "discovery",
];
const LEVELS: [&str; 4] = ["none", "some", "high", "extreme"];

pub(super) fn touch() {
    for level in LEVELS {
        PRESSURE.with_label_values(&[level]).set(i64::from(level == "none"));
    }
    for priority in PRIORITIES {
        SHED.with_label_values(&[priority]);
    }
    for metric in [&FLAPPING, &FLAP_REFUSED, &FIRST_POLLS_HELD] {
        LazyLock::force(metric);
    }
    for metric in [&MEMORY, &MEMORY_BUDGET] {
        LazyLock::force(metric);
    }
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
    for kind in ["meter", "connection", "storage"] {
        RESTARTS.with_label_values(&[kind]);
    }
    LazyLock::force(&SLOTS_ENDED);
    LazyLock::force(&ACTORS);
    LazyLock::force(&POLLS);
}

/// A row of session history was dropped.
#[derive(Clone, Copy, Debug)]
pub struct SessionRowDropped<'a> {
    /// The session.
    pub session: i64,
    /// What was in its way.
    pub why: &'a str,
}

impl SessionRowDropped<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        SESSION_ROWS_DROPPED.inc();
        tracing::warn!(session.id = self.session, why = self.why, "session row dropped");
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
        match (self.state, self.reason) {
            ("actual", "") => SLOTS_ACTUAL.inc(),
            (state, reason) => SLOTS_ENDED.with_label_values(&[state, reason]).inc(),
        }
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
        match self.outcome {
            "read" => POLLS_READ.observe(self.seconds),
            outcome => POLLS.with_label_values(&[outcome]).observe(self.seconds),
        }
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

/// A connection was refused because its serial number connected too often.
#[derive(Clone, Copy, Debug)]
pub struct SessionRefusedFlapping {
    /// The DTU, if the serial number is known.
    pub dtu: Option<i32>,
    /// The ban begins with it.
    pub begun: bool,
}

impl SessionRefusedFlapping {
    /// Counts, and logs the begin of a ban.
    pub fn emit(self) {
        FLAP_REFUSED.inc();
        if self.begun {
            FLAPPING.inc();
            tracing::warn!(dtu.id = self.dtu, "connects again and again, refused for a while");
        }
    }
}

/// The first scheduled polls after a connect wait for their turn.
#[derive(Clone, Copy, Debug)]
pub struct FirstPollsHeld {
    /// The DTU.
    pub dtu: i32,
    /// For how long, milliseconds.
    pub wait_ms: u128,
}

impl FirstPollsHeld {
    /// Logs and counts.
    pub fn emit(self) {
        FIRST_POLLS_HELD.inc();
        tracing::debug!(dtu.id = self.dtu, wait_ms = %self.wait_ms, "first polls wait for their turn");
    }
}

/// A poll was not made, because something matters more.
#[derive(Clone, Copy, Debug)]
pub struct PollShed {
    /// One of the counter's labels.
    pub priority: &'static str,
}

impl PollShed {
    /// Counts; the slot's ending tells the rest.
    pub fn emit(self) {
        SHED.with_label_values(&[self.priority]).inc();
    }
}

/// The level of load shedding changed.
#[derive(Clone, Copy, Debug)]
pub struct PressureChanged<'a> {
    /// One of the gauge's labels.
    pub level: &'static str,
    /// By what.
    pub detail: &'a str,
}

impl PressureChanged<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        for level in LEVELS {
            PRESSURE.with_label_values(&[level]).set(i64::from(level == self.level));
        }
        tracing::warn!(level = self.level, detail = self.detail, "load shedding");
    }
}
