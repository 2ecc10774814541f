//! Happenings of control.

use super::{counter, counters, gauge};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use std::sync::LazyLock;

static STEPS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_commands_total",
        "Edges of control commands, by action and the state they led to.",
        &["action", "state"],
    )
});
static OPEN: LazyLock<IntGauge> = LazyLock::new(|| gauge("polyphase_commands_open", "Control commands that are open."));
static UNKNOWN: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_commands_unknown",
        "Control commands whose outcome has to be read back.",
    )
});
static TRIPS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_brake_trips",
        "Permitted disconnections within the brake's window.",
    )
});
static BRAKED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_brake_held_total",
        "Disconnections that the brake held for two people, by the limit they exceed.",
        &["limit"],
    )
});
static STOPPED: LazyLock<IntGauge> = LazyLock::new(|| gauge("polyphase_emergency_stops", "Emergency stops in force."));
static REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_control_unwritten_total",
        "Control actions refused because they could not be written down.",
    )
});
static CLOCK_STEPS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_control_clock_steps_total",
        "Steps back of the wall clock that expired every pending command.",
    )
});

pub(super) fn touch() {
    for metric in [&OPEN, &UNKNOWN, &TRIPS, &STOPPED] {
        LazyLock::force(metric);
    }
    LazyLock::force(&STEPS);
    LazyLock::force(&BRAKED);
    LazyLock::force(&REFUSED);
    LazyLock::force(&CLOCK_STEPS);
}

/// A command took an edge, and it is written down.
#[derive(Clone, Copy, Debug)]
pub struct CommandStepped {
    /// Which.
    pub command: i64,
    /// Its meter.
    pub meter: i32,
    /// Its action's name.
    pub action: &'static str,
    /// The state's name.
    pub state: &'static str,
}

impl CommandStepped {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::info!(
            command.id = self.command,
            meter.id = self.meter,
            action = self.action,
            state = self.state,
            "command stepped"
        );
        STEPS.with_label_values(&[self.action, self.state]).inc();
    }
}

/// The desk looked at its books.
#[derive(Clone, Copy, Debug)]
pub struct BooksCounted {
    /// Open commands.
    pub open: usize,
    /// Of them unknown.
    pub unknown: usize,
    /// Trips in the brake's window.
    pub trips: usize,
    /// Emergency stops in force.
    pub stops: usize,
}

impl BooksCounted {
    /// Sets the gauges.
    pub fn emit(self) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        OPEN.set(number(self.open));
        UNKNOWN.set(number(self.unknown));
        TRIPS.set(number(self.trips));
        STOPPED.set(number(self.stops));
    }
}

/// The brake holds commands.
#[derive(Clone, Copy, Debug)]
pub struct BrakeHeld {
    /// Whose.
    pub account: i32,
    /// Which limit.
    pub limit: &'static str,
    /// How many.
    pub commands: usize,
    /// The first of a row: worth a warning.
    pub first: bool,
}

impl BrakeHeld {
    /// Logs and counts.
    pub fn emit(self) {
        if self.first {
            tracing::warn!(
                account.id = self.account,
                limit = self.limit,
                commands = self.commands,
                "disconnections exceed the brake and wait for two people"
            );
        }
        BRAKED
            .with_label_values(&[self.limit])
            .inc_by(u64::try_from(self.commands).unwrap_or(u64::MAX));
    }
}

/// Something could not be written down, so it is not done.
pub struct ControlUnwritten<'a> {
    /// What.
    pub what: &'a str,
    /// Why.
    pub error: &'a dyn std::fmt::Display,
}

impl ControlUnwritten<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::error!(what = self.what, error = %self.error, "control is refused: it cannot be written down");
        REFUSED.inc();
    }
}

/// The wall clock was set back.
#[derive(Clone, Copy, Debug)]
pub struct ControlClockStepped {
    /// Commands that expire by it.
    pub pending: usize,
}

impl ControlClockStepped {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::error!(
            pending = self.pending,
            "the wall clock was set back, every pending command expires"
        );
        CLOCK_STEPS.inc();
    }
}
