//! Happenings of integrations. No target and no content: these are the account's.

use super::{counter, counters, gauge, gauges};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;

static ITEMS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_integration_items_total",
        "Readings and events that webhooks and brokers have taken, by kind.",
        &["kind"],
    )
});
static DELIVERIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_integration_deliveries_total",
        "Batches by kind and outcome: delivered or failed.",
        &["kind", "outcome"],
    )
});
static STOPPED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_integration_stops_total",
        "Integrations that the server has stopped after days of failure, by kind.",
        &["kind"],
    )
});
static ROUNDS_FAILED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_integration_rounds_failed_total",
        "Rounds of the integrator that the database did not allow.",
    )
});
static STATES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "polyphase_integrations",
        "Integrations by kind and state: working, failing, stopped (by the server) or off.",
        &["kind", "state"],
    )
});
static LAG: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "polyphase_integration_lag_seconds",
        "Age of the oldest thing that a working or failing integration of the kind has not taken.",
        &["kind"],
    )
});
static ROWS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_integration_feed_rows",
        "Rows of the feed that integrations are told from; a row has up to 500 readings.",
    )
});

/// The states of an integration, as the metric names them.
const STATE_NAMES: [&str; 4] = ["working", "failing", "stopped", "off"];

pub(super) fn touch() {
    LazyLock::force(&ROUNDS_FAILED);
    LazyLock::force(&ROWS);
    for kind in ["webhook", "mqtt"] {
        ITEMS.with_label_values(&[kind]);
        STOPPED.with_label_values(&[kind]);
        LAG.with_label_values(&[kind]);
        for outcome in ["delivered", "failed"] {
            DELIVERIES.with_label_values(&[kind, outcome]);
        }
        for state in STATE_NAMES {
            STATES.with_label_values(&[kind, state]);
        }
    }
}

/// The far side has taken something.
#[derive(Clone, Copy, Debug)]
pub struct ItemsDelivered {
    /// `webhook` or `mqtt`.
    pub kind: &'static str,
    /// How many items.
    pub items: u64,
}

impl ItemsDelivered {
    /// Counts.
    pub fn emit(self) {
        if self.items > 0 {
            ITEMS.with_label_values(&[self.kind]).inc_by(self.items);
            DELIVERIES.with_label_values(&[self.kind, "delivered"]).inc();
        }
    }
}

/// The far side did not take it. Why stands with the integration: its words are not ours.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryFailed {
    /// Which.
    pub integration: i32,
    /// Whose.
    pub account: i32,
    /// `webhook` or `mqtt`.
    pub kind: &'static str,
    /// How many times in a row.
    pub attempt: u32,
}

impl DeliveryFailed {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::warn!(
            integration.id = self.integration,
            account.id = self.account,
            kind = self.kind,
            attempt = self.attempt,
            "an integration did not take what it was told"
        );
        DELIVERIES.with_label_values(&[self.kind, "failed"]).inc();
    }
}

/// An integration is not told any more.
#[derive(Clone, Copy, Debug)]
pub struct IntegrationStopped {
    /// Which.
    pub integration: i32,
    /// Whose.
    pub account: i32,
    /// `webhook` or `mqtt`.
    pub kind: &'static str,
}

impl IntegrationStopped {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::error!(
            integration.id = self.integration,
            account.id = self.account,
            kind = self.kind,
            "an integration is stopped after days of failure"
        );
        STOPPED.with_label_values(&[self.kind]).inc();
    }
}

/// A runner died; it is started again.
#[derive(Clone, Copy, Debug)]
pub struct RunnerDied {
    /// Of which integration.
    pub integration: i32,
}

impl RunnerDied {
    /// Logs.
    pub fn emit(self) {
        tracing::error!(integration.id = self.integration, "the runner of an integration died");
    }
}

/// The database did not allow a round.
pub struct RoundFailed<'a> {
    /// Which part of it.
    pub what: &'static str,
    /// Why.
    pub error: &'a dyn std::fmt::Display,
}

impl RoundFailed<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::warn!(what = self.what, error = %self.error, "integrations wait for the database");
        ROUNDS_FAILED.inc();
    }
}

/// The feed was counted.
#[derive(Clone, Debug, Default)]
pub struct FeedCounted {
    /// Its rows.
    pub rows: u64,
    /// By kind: working, failing, stopped, off.
    pub integrations: Vec<(&'static str, [u64; 4])>,
    /// By kind: the age of the oldest thing that is not taken, seconds.
    pub oldest_s: Vec<(&'static str, i64)>,
}

impl FeedCounted {
    /// Sets the gauges.
    pub fn emit(self) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        ROWS.set(number(self.rows));
        for (kind, counts) in self.integrations {
            for (state, count) in STATE_NAMES.iter().zip(counts) {
                STATES.with_label_values(&[kind, state]).set(number(count));
            }
        }
        for (kind, age) in self.oldest_s {
            LAG.with_label_values(&[kind]).set(age);
        }
    }
}
