//! What both kinds of runners share: the place they have reached, failures and waits.

use super::{IntegratorParts, broker, pause, webhook};
use crate::domain::integration::Position;
use crate::port::integrations::{FeedPage, FeedQuery, IntegrationKind, StoredIntegration};
use crate::port::notices::SendError;
use crate::port::scope::StoreError;
use crate::telemetry::integrations::{DeliveryFailed, IntegrationStopped, ItemsDelivered, RoundFailed};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// The longest sleep in one piece: whether it is the end, or the clock was set, is looked at in between.
const NAP: Duration = Duration::from_secs(1);
/// The wait after a fault of the database.
const STORE_WAIT: Duration = Duration::from_secs(1);
/// How often a place is kept that moved without anything to tell.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Why a round ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// The far side.
    Send(SendError),
    /// The database.
    Store(StoreError),
}

impl From<SendError> for Fault {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Tells one integration.
pub(super) struct Runner {
    pub(super) parts: IntegratorParts,
    pub(super) integration: StoredIntegration,
    pub(super) settled: watch::Receiver<i64>,
    pub(super) posts: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    /// Everything up to here is done.
    pub(super) at: Position,
    /// Lost and not told yet.
    pub(super) lost: u64,
    attempts: u32,
    failing_since: Option<DateTime<Utc>>,
    next_at: Option<DateTime<Utc>>,
    saved: tokio::time::Instant,
}

impl Runner {
    pub(super) fn new(
        parts: IntegratorParts,
        integration: StoredIntegration,
        settled: watch::Receiver<i64>,
        posts: Arc<Semaphore>,
        stop: CancellationToken,
    ) -> Self {
        let status = &integration.status;
        Self {
            at: status.position,
            lost: status.lost_untold,
            attempts: status.attempts,
            failing_since: status.failing_since,
            next_at: status.next_at,
            saved: tokio::time::Instant::now(),
            parts,
            settled,
            posts,
            stop,
            integration,
        }
    }

    /// Until it is told to stop, or is stopped for its failures.
    pub(super) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            if self.waits().await {
                continue;
            }
            let round = match self.integration.spec.kind {
                IntegrationKind::Webhook => webhook::round(&mut self).await,
                IntegrationKind::Mqtt => broker::round(&mut self).await,
            };
            match round {
                Ok(()) => {}
                Err(Fault::Store(error)) => {
                    RoundFailed {
                        what: "deliver",
                        error: &error,
                    }
                    .emit();
                    pause(STORE_WAIT, &self.stop).await;
                }
                Err(Fault::Send(error)) => {
                    if self.failed(&error).await {
                        return;
                    }
                }
            }
        }
    }

    /// Naps while the next attempt is ahead.
    async fn waits(&self) -> bool {
        let Some(next) = self.next_at else { return false };
        let ahead = (next - self.parts.clock.now()).to_std().unwrap_or_default();
        if ahead.is_zero() {
            return false;
        }
        pause(ahead.min(NAP), &self.stop).await;
        true
    }

    /// Waits for something new, or a while.
    pub(super) async fn wait_for_more(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            changed = self.settled.changed() => {
                if changed.is_err() {
                    pause(time, &self.stop).await;
                }
            }
            () = self.stop.cancelled() => {}
        }
    }

    /// What comes next, up to `to` or else to where the feed is settled.
    pub(super) async fn page(&mut self, to: Option<Position>, limit: u32) -> Result<FeedPage, StoreError> {
        let settled = Position::behind(*self.settled.borrow_and_update());
        let query = FeedQuery {
            from: self.at,
            to: to.unwrap_or(settled),
            limit,
        };
        if query.to <= query.from {
            return Ok(FeedPage {
                reached: self.at,
                end: true,
                ..FeedPage::default()
            });
        }
        self.parts.feed.page(&self.integration, query).await
    }

    /// The far side has taken it. It is kept before anything else is sent, however long that takes: what is not kept would
    /// be sent again.
    pub(super) async fn delivered(&mut self, to: Position, items: usize, lost_told: u64) {
        let count = u64::try_from(items).unwrap_or(u64::MAX);
        self.at = self.at.max(to);
        let (id, now) = (self.integration.id, self.parts.clock.now());
        while !self.stop.is_cancelled() {
            match self.parts.feed.delivered(id, self.at, count, lost_told, now).await {
                Ok(lost) => {
                    self.lost = lost;
                    break;
                }
                Err(error) => {
                    RoundFailed {
                        what: "record",
                        error: &error,
                    }
                    .emit();
                    pause(STORE_WAIT, &self.stop).await;
                }
            }
        }
        self.attempts = 0;
        self.failing_since = None;
        self.next_at = None;
        self.saved = tokio::time::Instant::now();
        ItemsDelivered {
            kind: self.integration.spec.kind.as_str(),
            items: count,
        }
        .emit();
    }

    /// Nothing up to here is of interest. It is kept now and then.
    pub(super) async fn passed(&mut self, to: Position) -> Result<(), StoreError> {
        if to > self.at {
            self.at = to;
            if self.saved.elapsed() >= SAVE_EVERY {
                let now = self.parts.clock.now();
                self.parts.feed.delivered(self.integration.id, to, 0, 0, now).await?;
                self.saved = tokio::time::Instant::now();
            }
        }
        Ok(())
    }

    /// Writes a failure down. True: it has been stopped.
    async fn failed(&mut self, error: &SendError) -> bool {
        let (id, now) = (self.integration.id, self.parts.clock.now());
        let settings = &self.parts.settings;
        let since = *self.failing_since.get_or_insert(now);
        self.attempts = self.attempts.saturating_add(1);
        let asked = match error {
            SendError::Passing { retry_after, .. } => *retry_after,
            _ => None,
        };
        // waits grow with the attempts and have an end; attempts have none until it is stopped
        let attempt = u16::try_from(self.attempts)
            .unwrap_or(u16::MAX)
            .min(settings.retry.attempts.saturating_sub(1));
        let next = settings
            .retry
            .next(attempt, now, now, asked, self.parts.chance.chance())
            .unwrap_or(now);
        self.next_at = Some(next);
        let text = error.to_string();
        DeliveryFailed {
            integration: id.0,
            account: self.integration.account.0,
            kind: self.integration.spec.kind.as_str(),
            attempt: self.attempts,
        }
        .emit();
        if let Err(error) = self.parts.feed.failed(id, &text, next, now).await {
            RoundFailed {
                what: "record",
                error: &error,
            }
            .emit();
        }
        if now - since < settings.stop_after {
            return false;
        }
        match self.parts.feed.stop(id, now).await {
            Ok(_) => {
                IntegrationStopped {
                    integration: id.0,
                    account: self.integration.account.0,
                    kind: self.integration.spec.kind.as_str(),
                }
                .emit();
                true
            }
            Err(error) => {
                RoundFailed {
                    what: "stop",
                    error: &error,
                }
                .emit();
                false
            }
        }
    }
}
