//! The storage actor: drains the spool into PostgreSQL in batches, then publishes what was committed.
//!
//! A batch that has been taken from the spool stays in [`Pending`] until its commit, so a writer that dies is built anew
//! with it. The database may be away for as long as the spool has room; polling does not notice.

use crate::actor::alarm::feed::AlarmFeed;
use crate::actor::supervise::{ExitGuard, RestartPolicy, Restarts};
use crate::base::clock::Clock;
use crate::base::ids::{DtuId, MeterId};
use crate::port::events::StoredPoll;
use crate::port::ledger::{PollRecord, ReadingStore, SinkError, SpoolDrain, SpoolPosition};
use crate::port::live::LiveFeed;
use crate::telemetry::actor::{ACTORS, ActorRestarted};
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;

/// Records of one batch. At most one reading row each.
const BATCH_RECORDS: usize = 4_000;
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
const CURSOR_RETRY: Duration = Duration::from_secs(1);
/// A batch that is not full begins so long behind the one before at the earliest: a transaction costs the same for few rows and
/// for many. What comes alone does not wait.
const GATHER: Duration = Duration::from_millis(100);

/// Which DTU a meter hangs behind, for the live stream. Written by the fleet's handle, read here.
#[derive(Debug, Default)]
pub struct MeterIndex(RwLock<Places>);

#[derive(Debug, Default)]
struct Places {
    dtus: HashMap<MeterId, DtuId>,
    meters: HashMap<DtuId, Vec<MeterId>>,
}

impl Places {
    fn put(&mut self, dtu: DtuId, meters: Vec<MeterId>) {
        for gone in self.meters.remove(&dtu).unwrap_or_default() {
            if self.dtus.get(&gone) == Some(&dtu) {
                self.dtus.remove(&gone);
            }
        }
        self.dtus.extend(meters.iter().map(|meter| (*meter, dtu)));
        if !meters.is_empty() {
            self.meters.insert(dtu, meters);
        }
    }
}

impl MeterIndex {
    /// The meter's DTU.
    pub fn dtu(&self, meter: MeterId) -> Option<DtuId> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .dtus
            .get(&meter)
            .copied()
    }

    /// Replaces all of it.
    pub fn replace(&self, all: impl Iterator<Item = (DtuId, Vec<MeterId>)>) {
        let mut places = Places::default();
        all.for_each(|(dtu, meters)| places.put(dtu, meters));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// Puts one DTU's meters in place of what it had.
    pub fn update(&self, dtu: DtuId, meters: Vec<MeterId>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).put(dtu, meters);
    }
}

/// The drain and the batch that was taken from it; survives the actor.
pub struct Pending {
    drain: Box<dyn SpoolDrain>,
    batch: Option<(Vec<PollRecord>, SpoolPosition)>,
    /// Committed up to here, which the spool could not keep: tried again when there is nothing else to do.
    unkept: Option<SpoolPosition>,
}

impl Pending {
    /// The next batch; while a cursor is not kept the wait for it is a short one. None: nothing has come.
    async fn next(&mut self) -> Option<Result<Option<(Vec<PollRecord>, SpoolPosition)>, SinkError>> {
        let next = self.drain.next(BATCH_RECORDS);
        match self.unkept {
            None => Some(next.await),
            Some(_) => tokio::time::timeout(CURSOR_RETRY, next).await.ok(),
        }
    }

    /// Tells the spool that all up to there is committed.
    async fn keep(&mut self, position: SpoolPosition) {
        self.unkept = None;
        if let Err(error) = self.drain.committed(position).await {
            // harmless but for a start that waits for it: the records would be replayed and found to be there
            tracing::error!(%error, "the spool's cursor cannot be kept");
            self.unkept = Some(position);
        }
    }
}

/// What the writer is built of; survives the actor.
#[derive(Clone)]
pub struct StorageParts {
    pending: Arc<Mutex<Pending>>,
    store: Arc<dyn ReadingStore>,
    live: Arc<dyn LiveFeed>,
    index: Arc<MeterIndex>,
    clock: Arc<dyn Clock>,
    alarms: Option<AlarmFeed>,
}

impl StorageParts {
    /// The parts of the one writer.
    pub fn new(
        drain: Box<dyn SpoolDrain>,
        store: Arc<dyn ReadingStore>,
        live: Arc<dyn LiveFeed>,
        index: Arc<MeterIndex>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let pending = Arc::new(Mutex::new(Pending {
            drain,
            batch: None,
            unkept: None,
        }));
        Self {
            pending,
            store,
            live,
            index,
            clock,
            alarms: None,
        }
    }

    /// What is committed is judged there.
    #[must_use]
    pub fn with_alarms(self, alarms: AlarmFeed) -> Self {
        Self {
            alarms: Some(alarms),
            ..self
        }
    }

    /// Runs until the spool is closed and empty.
    async fn write_all(self) {
        // one writer: a second one (after a death) waits here until the first one's guard is gone
        let mut pending = self.pending.lock().await;
        let mut began: Option<tokio::time::Instant> = None;
        loop {
            if pending.batch.is_none() {
                if let Some(began) = began.take() {
                    tokio::time::sleep_until(began + GATHER).await;
                }
                match pending.next().await {
                    None => {
                        if let Some(position) = pending.unkept {
                            pending.keep(position).await;
                        }
                        continue;
                    }
                    Some(Ok(Some(batch))) => pending.batch = Some(batch),
                    Some(Ok(None)) => return,
                    Some(Err(error)) => {
                        tracing::error!(%error, "the spool cannot be read");
                        tokio::time::sleep(RETRY_LONGEST).await;
                        continue;
                    }
                }
            }
            let Some((records, position)) = &pending.batch else {
                continue;
            };
            began = (records.len() < BATCH_RECORDS).then(tokio::time::Instant::now);
            self.commit(records).await;
            let position = *position;
            pending.keep(position).await;
            if let Some((records, _)) = pending.batch.take() {
                let stored: Vec<_> = records
                    .into_iter()
                    .map(|record| Arc::new(StoredPoll::new(record)))
                    .collect();
                self.publish(&stored);
                if let Some(alarms) = &self.alarms {
                    alarms.committed(stored);
                }
            }
        }
    }

    async fn commit(&self, records: &[PollRecord]) {
        let mut wait = RETRY_FIRST;
        loop {
            match self.store.write(records).await {
                Ok(_report) => return,
                Err(error) => {
                    tracing::warn!(
                        records = records.len(),
                        error = error.message,
                        "a batch waits for the database"
                    );
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_LONGEST);
                }
            }
        }
    }

    fn publish(&self, stored: &[Arc<StoredPoll>]) {
        for poll in stored {
            let record = poll.record();
            let whose = record
                .reading
                .as_ref()
                .map(|reading| (reading.account, reading.meter))
                .or_else(|| record.endings.first().map(|ending| (ending.account, ending.meter)));
            let Some((account, meter)) = whose else { continue };
            self.live
                .publish_stored(account, self.index.dtu(meter), meter, Arc::clone(poll));
        }
    }
}

/// The actor; its own supervisor's child.
struct Writer {
    parts: StorageParts,
    guard: ExitGuard,
}

impl Actor for Writer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["storage"]).inc();
        ctx.spawn(self.parts.clone().write_all().into_actor(self).map(|(), writer, ctx| {
            writer.guard.disarm();
            ctx.stop();
        }));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["storage"]).dec();
    }
}

/// Keeps one writer alive.
pub struct Storage {
    parts: StorageParts,
    restarts: Restarts,
    policy: RestartPolicy,
}

/// The writer is gone without having finished.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct WriterExited;

impl Storage {
    /// The actor; it writes from its start on and ends when the spool is closed and empty.
    pub fn new(parts: StorageParts, policy: RestartPolicy) -> Self {
        Self {
            parts,
            restarts: Restarts::default(),
            policy,
        }
    }

    fn start_writer(&mut self, ctx: &mut Context<Self>) {
        let parent = ctx.address();
        let guard = ExitGuard::new(move || parent.do_send(WriterExited));
        Writer {
            parts: self.parts.clone(),
            guard,
        }
        .start();
    }
}

impl Actor for Storage {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.start_writer(ctx);
    }
}

impl actix::Handler<WriterExited> for Storage {
    type Result = ();

    fn handle(&mut self, _: WriterExited, ctx: &mut Self::Context) {
        let restart = self.restarts.died(self.parts.clock.monotonic(), &self.policy);
        let intense = matches!(restart, crate::actor::supervise::Restart::Intense(_));
        ActorRestarted {
            kind: "storage",
            id: 0,
            wait_ms: restart.wait().as_millis(),
            intense,
        }
        .emit();
        ctx.run_later(restart.wait(), |storage, ctx| storage.start_writer(ctx));
    }
}
