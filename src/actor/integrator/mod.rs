//! The integrator: tells webhooks and brokers what is in the feed, each from a cursor of its own.
//!
//! Storage never waits for it: it reads what is committed. Plain futures under one kept worker: one looks up to where the
//! feed is settled ([`crate::domain::integration::horizon`]), one starts and stops a runner for each integration
//! ([`webhook`], [`broker`]), one drops and counts. A runner that dies is started again from its cursor; what was on its way
//! is sent again under the same id.

mod broker;
mod messages;
mod runner;
mod webhook;

use crate::actor::keep::Keeper;
use crate::actor::notifier::Chance;
use crate::actor::supervise::RestartPolicy;
use crate::base::clock::Clock;
use crate::base::ids::IntegrationId;
use crate::domain::integration::horizon::Horizon;
use crate::domain::notice::retry::RetryRule;
use crate::port::integrations::{Broker, FeedStore, IntegrationKind, Poster, StoredIntegration};
use crate::telemetry::integrations::{FeedCounted, RoundFailed, RunnerDied};
use chrono::TimeDelta;
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use runner::Runner;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// How often there is looked how far the feed is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often there is looked who is to be told.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// How often the feed is counted and pruned.
const HOUSE_EVERY: Duration = Duration::from_secs(15);
/// Rows that one round drops.
const PRUNE_MAX: u32 = 5_000;
/// How long runners get when the server stops.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Bounds of the integrator.
#[derive(Clone, Debug)]
pub struct IntegratorSettings {
    /// Integrations that are told at once, of the whole server; further ones wait until one is switched off.
    pub active_max: u32,
    /// Requests to webhooks under way at once.
    pub posts_max: usize,
    /// Bytes of one request's body, about.
    pub body_bytes_max: usize,
    /// When something is tried again.
    pub retry: RetryRule,
    /// After so long a failure it is stopped.
    pub stop_after: TimeDelta,
    /// What is older is dropped from the feed.
    pub keep: TimeDelta,
}

/// What the integrator is built of.
#[derive(Clone)]
pub struct IntegratorParts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The feed and the cursors.
    pub feed: Arc<dyn FeedStore>,
    /// Who posts.
    pub poster: Arc<dyn Poster>,
    /// Who connects to brokers.
    pub broker: Arc<dyn Broker>,
    /// Where jitter comes from.
    pub chance: Arc<dyn Chance>,
    /// Bounds.
    pub settings: IntegratorSettings,
}

/// The actor; it works from its start until `stop`.
pub fn integrator(parts: IntegratorParts, policy: RestartPolicy, stop: CancellationToken) -> Keeper {
    let (clock, token) = (Arc::clone(&parts.clock), stop.clone());
    let work = move || -> LocalBoxFuture<'static, ()> { Box::pin(run(parts.clone(), token.clone())) };
    Keeper::new("integrator", Arc::new(work), clock, policy, stop)
}

/// Tells everybody until `stop`.
pub async fn run(parts: IntegratorParts, stop: CancellationToken) {
    let (tell, settled) = watch::channel(0);
    futures::future::join3(
        look(&parts, tell, &stop),
        keep_house(&parts, &stop),
        Crew::new(parts.clone(), settled, stop.clone()).work(),
    )
    .await;
}

/// Sleeps, unless it is the end.
async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = stop.cancelled() => {}
    }
}

async fn look(parts: &IntegratorParts, tell: watch::Sender<i64>, stop: &CancellationToken) {
    let mut horizon = Horizon::default();
    while !stop.is_cancelled() {
        match parts.feed.look().await {
            Ok(look) => {
                let settled = horizon.look(look);
                tell.send_if_modified(|known| std::mem::replace(known, settled) != settled);
                pause(LOOK_EVERY, stop).await;
            }
            Err(error) => {
                RoundFailed {
                    what: "look",
                    error: &error,
                }
                .emit();
                pause(LIST_EVERY, stop).await;
            }
        }
    }
}

async fn keep_house(parts: &IntegratorParts, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let now = parts.clock.now();
        let mut dropped = PRUNE_MAX.into();
        while dropped >= u64::from(PRUNE_MAX) && !stop.is_cancelled() {
            dropped = parts
                .feed
                .prune(now - parts.settings.keep, PRUNE_MAX)
                .await
                .unwrap_or_else(|error| {
                    RoundFailed {
                        what: "prune",
                        error: &error,
                    }
                    .emit();
                    0
                });
        }
        match parts.feed.fill().await {
            Ok(fill) => FeedCounted {
                rows: fill.rows,
                integrations: fill
                    .integrations
                    .iter()
                    .map(|(kind, counts)| (kind.as_str(), *counts))
                    .collect(),
                oldest_s: IntegrationKind::ALL
                    .iter()
                    .map(|kind| {
                        let oldest = fill.oldest.iter().find(|(of, _)| of == kind);
                        let age = oldest.map_or(0, |(_, at)| (now - *at).num_seconds().max(0));
                        (kind.as_str(), age)
                    })
                    .collect(),
            }
            .emit(),
            Err(error) => RoundFailed {
                what: "count",
                error: &error,
            }
            .emit(),
        }
        pause(HOUSE_EVERY, stop).await;
    }
}

/// A runner under way.
struct Running {
    version: i32,
    stop: CancellationToken,
}

/// The runners.
struct Crew {
    parts: IntegratorParts,
    settled: watch::Receiver<i64>,
    stop: CancellationToken,
    posts: Arc<Semaphore>,
    running: HashMap<IntegrationId, Running>,
    work: FuturesUnordered<LocalBoxFuture<'static, IntegrationId>>,
}

impl Crew {
    fn new(parts: IntegratorParts, settled: watch::Receiver<i64>, stop: CancellationToken) -> Self {
        Self {
            posts: Arc::new(Semaphore::new(parts.settings.posts_max)),
            parts,
            settled,
            stop,
            running: HashMap::new(),
            work: FuturesUnordered::new(),
        }
    }

    async fn work(mut self) {
        let mut next = tokio::time::Instant::now();
        while !self.stop.is_cancelled() {
            if tokio::time::Instant::now() >= next {
                self.compare().await;
                next = tokio::time::Instant::now() + LIST_EVERY;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                Some(ended) = self.work.next(), if !self.work.is_empty() => {
                    self.running.remove(&ended);
                }
                () = self.stop.cancelled() => {}
            }
        }
        // each has a token below ours; what is cut off is sent again by the next process
        let rest = async { while self.work.next().await.is_some() {} };
        if tokio::time::timeout(STOP_WAIT, rest).await.is_err() {
            tracing::warn!("integrations are cut off; the next start takes them up");
        }
    }

    /// Starts who is new, and tells to stop who is gone or was edited. An edited one starts when its old self has ended.
    async fn compare(&mut self) {
        let (limit, now) = (self.parts.settings.active_max, self.parts.clock.now());
        let active = match self.parts.feed.active(limit, now).await {
            Ok(active) => active,
            Err(error) => {
                return RoundFailed {
                    what: "list",
                    error: &error,
                }
                .emit();
            }
        };
        let versions: HashMap<IntegrationId, i32> = active.iter().map(|one| (one.id, one.version)).collect();
        for (id, running) in &self.running {
            if versions.get(id) != Some(&running.version) {
                running.stop.cancel();
            }
        }
        for integration in active {
            if !self.running.contains_key(&integration.id) {
                self.begin(integration);
            }
        }
    }

    fn begin(&mut self, integration: StoredIntegration) {
        let (id, version) = (integration.id, integration.version);
        let stop = self.stop.child_token();
        let runner = Runner::new(
            self.parts.clone(),
            integration,
            self.settled.clone(),
            Arc::clone(&self.posts),
            stop.clone(),
        );
        self.running.insert(id, Running { version, stop });
        let work = async move {
            // one that dies must not take the others with it; it is started again from its cursor
            if AssertUnwindSafe(runner.run()).catch_unwind().await.is_err() {
                RunnerDied { integration: id.0 }.emit();
            }
            id
        };
        self.work.push(work.boxed_local());
    }
}
