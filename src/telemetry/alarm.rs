//! Happenings of alarms.

use super::{counter, counters, gauge, gauges};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;

static STEPS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_alarm_steps_total",
        "Steps of alarms that the rules took, by kind and step.",
        &["kind", "step"],
    )
});
static OPEN: LazyLock<IntGaugeVec> =
    LazyLock::new(|| gauges("polyphase_alarms_open", "Alarms that are open, by kind.", &["kind"]));
static QUEUED: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_alarm_queued_records",
        "Committed records that wait to be judged.",
    )
});
static QUEUE_MAX: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_alarm_queue_max_records",
        "Committed records that may wait to be judged.",
    )
});
static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_alarm_dropped_records_total",
        "Committed records that found the queue full; they are read again from the database.",
    )
});
static JUDGED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_alarm_judged_records_total",
        "Committed records that were judged.",
    )
});
static WAITS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_alarm_database_waits_total",
        "Times that alarms had to wait for the database.",
    )
});

pub(super) fn touch() {
    LazyLock::force(&STEPS);
    LazyLock::force(&OPEN);
    for metric in [&QUEUED, &QUEUE_MAX] {
        LazyLock::force(metric);
    }
    for metric in [&DROPPED, &JUDGED, &WAITS] {
        LazyLock::force(metric);
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An alarm took a step, and it is written down.
pub struct AlarmStepped<'a> {
    /// Which.
    pub alarm: i64,
    /// Whose; none: the server's.
    pub account: Option<i32>,
    /// Its kind's name.
    pub kind: &'static str,
    /// The step's name.
    pub step: &'static str,
    /// What is wrong.
    pub sentence: &'a str,
    /// It is not forwarded.
    pub quiet: bool,
}

impl AlarmStepped<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::info!(
            alarm.id = self.alarm,
            account.id = self.account,
            kind = self.kind,
            step = self.step,
            quiet = self.quiet,
            sentence = self.sentence,
            "alarm stepped"
        );
        STEPS.with_label_values(&[self.kind, self.step]).inc();
    }
}

/// The open alarms were counted: each kind with its number, zeros as well.
pub struct AlarmsCounted<'a> {
    /// By the kind's name.
    pub open: &'a [(&'static str, usize)],
}

impl AlarmsCounted<'_> {
    /// Sets the gauges.
    pub fn emit(self) {
        for (kind, open) in self.open {
            OPEN.with_label_values(&[kind]).set(number(*open));
        }
    }
}

/// The queue in front of the judgement changed.
#[derive(Clone, Copy, Debug)]
pub struct QueueFilled {
    /// Records in it.
    pub records: usize,
    /// Records that it takes.
    pub records_max: usize,
}

impl QueueFilled {
    /// Sets the gauges.
    pub fn emit(self) {
        QUEUED.set(number(self.records));
        QUEUE_MAX.set(number(self.records_max));
    }
}

/// Records found the queue full.
#[derive(Clone, Copy, Debug)]
pub struct RecordsDropped {
    /// How many.
    pub records: usize,
    /// The first of a row: worth a warning.
    pub first: bool,
}

impl RecordsDropped {
    /// Logs and counts.
    pub fn emit(self) {
        if self.first {
            tracing::warn!(
                records = self.records,
                "alarms are behind the readings; they will be read again from the database"
            );
        }
        DROPPED.inc_by(u64::try_from(self.records).unwrap_or(u64::MAX));
    }
}

/// Records were judged.
#[derive(Clone, Copy, Debug)]
pub struct RecordsJudged {
    /// How many.
    pub records: usize,
    /// Read again from the database, because they were missed.
    pub again: bool,
}

impl RecordsJudged {
    /// Logs and counts.
    pub fn emit(self) {
        if self.again {
            tracing::info!(records = self.records, "readings judged from the database");
        }
        JUDGED.inc_by(u64::try_from(self.records).unwrap_or(u64::MAX));
    }
}

/// The database did not answer.
pub struct AlarmsWait<'a> {
    /// What it said.
    pub error: &'a dyn std::fmt::Display,
    /// The first time in a row: worth a warning.
    pub first: bool,
}

impl AlarmsWait<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        if self.first {
            tracing::warn!(error = %self.error, "alarms wait for the database");
        }
        WAITS.inc();
    }
}
