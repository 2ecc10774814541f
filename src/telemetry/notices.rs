//! Happenings of notices. No address, no name and no text of a message: these are people's.

use super::{counter, counters, gauge, gauges};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::LazyLock;

static PLANNED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_notices_total",
        "Notices that were planned, by what came of it: planned, nobody or overflow.",
        &["outcome"],
    )
});
static ATTEMPTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_notice_attempts_total",
        "Attempts to send a message, by channel and outcome: sent, again, unsure or dead.",
        &["channel", "outcome"],
    )
});
static DEFERRED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_notice_items_deferred_total",
        "Items that wait because a person, an account or a channel has had its messages of the hour.",
    )
});
static RESUMED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_notice_resumed_total",
        "Messages that were being sent when the server or the notifier ended; they are sent again.",
    )
});
static ROUNDS_FAILED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_notice_rounds_failed_total",
        "Rounds of the notifier that the database did not allow.",
    )
});
static UNPLANNED: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_notices_unplanned", "Notices that nobody has planned yet."));
static ITEMS: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("polyphase_notice_items_waiting", "Items that wait for their time."));
static MESSAGES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "polyphase_notice_messages_waiting",
        "Messages that wait or are being sent, by channel.",
        &["channel"],
    )
});
static DEAD: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_notice_messages_dead",
        "Messages of the last day that were given up.",
    )
});
static OLDEST: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_notice_oldest_due_seconds",
        "For how long the oldest message that is due waits.",
    )
});
static LIMIT: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "polyphase_notice_items_limit",
        "Items that may wait in one account (notify.waiting_max).",
    )
});
static SENT_IN_HOUR: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "polyphase_notice_messages_hour",
        "Messages of the last hour, by channel.",
        &["channel"],
    )
});

pub(super) fn touch() {
    for metric in [&UNPLANNED, &ITEMS, &DEAD, &OLDEST, &LIMIT] {
        LazyLock::force(metric);
    }
    for metric in [&DEFERRED, &RESUMED, &ROUNDS_FAILED] {
        LazyLock::force(metric);
    }
    LazyLock::force(&PLANNED);
    LazyLock::force(&ATTEMPTS);
    LazyLock::force(&MESSAGES);
    LazyLock::force(&SENT_IN_HOUR);
}

/// A notice was planned.
#[derive(Clone, Copy, Debug)]
pub struct NoticePlanned {
    /// Which.
    pub notice: i64,
    /// Whose.
    pub account: i32,
    /// Channels that are to be told.
    pub items: usize,
    /// What came of it.
    pub outcome: &'static str,
}

impl NoticePlanned {
    /// Logs and counts.
    pub fn emit(self) {
        if self.outcome == "overflow" {
            tracing::warn!(
                notice.id = self.notice,
                account.id = self.account,
                "a notice is not told: the account's outbox is full"
            );
        } else {
            tracing::debug!(
                notice.id = self.notice,
                account.id = self.account,
                items = self.items,
                outcome = self.outcome,
                "notice planned"
            );
        }
        PLANNED.with_label_values(&[self.outcome]).inc();
    }
}

/// An attempt to send ended.
#[derive(Clone, Copy)]
pub struct MessageAttempted<'a> {
    /// Which message.
    pub message: &'a dyn std::fmt::Display,
    /// Whose.
    pub account: i32,
    /// By what.
    pub channel: &'static str,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// `sent`, `again`, `unsure` or `dead`.
    pub outcome: &'static str,
}

impl MessageAttempted<'_> {
    /// Logs and counts. Why it failed stands in the history: the far side's words may name people.
    pub fn emit(self) {
        let (message, account, channel) = (self.message, self.account, self.channel);
        match self.outcome {
            "sent" => {
                tracing::info!(message.id = %message, account.id = account, channel, attempt = self.attempt, "notice sent");
            }
            "dead" => {
                tracing::error!(message.id = %message, account.id = account, channel, attempt = self.attempt, "notice given up");
            }
            outcome => {
                tracing::warn!(message.id = %message, account.id = account, channel, attempt = self.attempt, outcome, "notice not sent yet");
            }
        }
        ATTEMPTS.with_label_values(&[channel, self.outcome]).inc();
    }
}

/// Items wait for the hour to pass.
#[derive(Clone, Copy, Debug)]
pub struct ItemsDeferred {
    /// Whose.
    pub account: i32,
    /// By what.
    pub channel: &'static str,
    /// How many.
    pub items: usize,
}

impl ItemsDeferred {
    /// Logs and counts.
    pub fn emit(self) {
        tracing::info!(
            account.id = self.account,
            channel = self.channel,
            items = self.items,
            "notices wait: enough messages went this hour"
        );
        DEFERRED.inc_by(u64::try_from(self.items).unwrap_or(u64::MAX));
    }
}

/// An earlier process or notifier ended while it was sending.
#[derive(Clone, Copy, Debug)]
pub struct MessagesResumed {
    /// How many messages.
    pub messages: u64,
}

impl MessagesResumed {
    /// Logs and counts.
    pub fn emit(self) {
        if self.messages > 0 {
            tracing::warn!(
                messages = self.messages,
                "notices were being sent when their sender ended; they are sent again and may arrive twice"
            );
        }
        RESUMED.inc_by(self.messages);
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
        tracing::warn!(what = self.what, error = %self.error, "notices wait for the database");
        ROUNDS_FAILED.inc();
    }
}

/// The outbox was counted.
#[derive(Clone, Debug, Default)]
pub struct OutboxCounted {
    /// Notices without a plan.
    pub unplanned: u64,
    /// Items that wait.
    pub items: u64,
    /// Items that may wait in one account.
    pub limit: u64,
    /// By channel: messages under way, messages of the last hour.
    pub channels: Vec<(&'static str, u64, usize)>,
    /// Dead of the last day.
    pub dead: u64,
    /// Age of the oldest that is due, seconds.
    pub oldest_s: i64,
}

impl OutboxCounted {
    /// Sets the gauges.
    pub fn emit(self) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        UNPLANNED.set(number(self.unplanned));
        ITEMS.set(number(self.items));
        LIMIT.set(number(self.limit));
        DEAD.set(number(self.dead));
        OLDEST.set(self.oldest_s);
        for (channel, waiting, hour) in self.channels {
            MESSAGES.with_label_values(&[channel]).set(number(waiting));
            SENT_IN_HOUR
                .with_label_values(&[channel])
                .set(i64::try_from(hour).unwrap_or(i64::MAX));
        }
    }
}
