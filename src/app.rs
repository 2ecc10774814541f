//! Floor 7. Builds the parts; start order and stop order. One struct of built parts, used by `serve`, `demo` and the tests alike.
//!
//! Start: database → spool → actors → the spool of a previous process drained → directory → slots recovered → device
//! ports → HTTP. Stop: accept → schedules → commands → sessions → spool and storage flushed → HTTP last.

pub mod audit;
pub mod backup;
pub mod checks;
pub mod database;
pub mod field;
pub mod integrations;
pub mod lines;
pub mod notices;
mod parts;
pub mod places;
pub mod resources;
pub mod seams;
mod state;

use crate::actor::alarm::feed::AlarmTap;
use crate::actor::alarm::{Alarms, StopAlarms};
use crate::actor::control_desk::{CloseDesk, ControlDesk};
use crate::actor::handles::FleetHandle;
use crate::actor::live::LiveHub;
use crate::actor::messages::{BeginSchedules, CloseSessions, GetOpenSlots, StopSchedules};
use crate::actor::session_log::SessionLog;
use crate::actor::shard::Shard;
use crate::actor::storage::{MeterIndex, Storage, StorageParts};
use crate::actor::supervise::RestartPolicy;
use crate::api::RunningServer;
use crate::base::clock::{Clock, SystemClock};
use crate::base::ids::GrowingIds;
use crate::config::Config;
use crate::device::catalogue::Catalogue;
use crate::port::ledger::{DeviceDirectory, Hours, ReadingStore, SlotLedger, StoreUnavailable};
use crate::port::live::LiveFeed;
use crate::port::parameters::ParameterHouse;
use crate::port::scope::{AcrossAccounts, StoreError};
use crate::spool::SpoolHandle;
use crate::store::Database;
use crate::store::directory::PgDirectory;
use crate::store::ingest::{PgReadingStore, Retention};
use crate::store::ledger::PgSlotLedger;
use actix::{Actor, Addr, Arbiter};
use anyhow::Context;
use database::Opened;
use secrecy::SecretString;
use state::{Desks, api_state};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

const WATERMARK_EVERY: Duration = Duration::from_secs(10);
const ROLL_UP_EVERY: Duration = Duration::from_secs(10);
/// One roll-up of so many looks at the running hour, too: it changes with every poll and has no figures of consumption before it
/// has ended, but what it says of the hour before it has to come soon.
const RUNNING_HOUR_EVERY: u64 = 6;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(3);
const MAINTAIN_EVERY: Duration = Duration::from_secs(1800);
const STOP_SCHEDULES: Duration = Duration::from_secs(15);
const STOP_SESSIONS: Duration = Duration::from_secs(5);
const STOP_STORAGE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Running {
    /// Where the API listens.
    pub http: SocketAddr,
    /// Where DTUs dial in.
    pub devices: Vec<SocketAddr>,
    server: RunningServer,
    fleet: FleetHandle,
    desk: Addr<ControlDesk>,
    alarms: Addr<Alarms>,
    shards: Vec<Addr<Shard>>,
    arbiters: Vec<Arbiter>,
    spool: SpoolHandle,
    live: LiveHub,
    ledger: Arc<dyn SlotLedger>,
    sessions: SessionLog,
    database: Database,
    opened: Option<Opened>,
    stop_accept: CancellationToken,
    stop_connections: CancellationToken,
    stop_notices: CancellationToken,
    stop_exports: CancellationToken,
    closing: watch::Sender<bool>,
    /// Writes checkpoints of the audit until it is cancelled, and a last one then.
    checkpoints: (CancellationToken, tokio::task::JoinHandle<()>),
    field_up: watch::Sender<bool>,
}

/// Runs a future in an actix system of this thread, which the server's actors need.
pub fn block_on<F: Future>(work: F) -> F::Output {
    actix::System::new().block_on(work)
}

/// Loads the built-in meter models and the user's.
///
/// # Errors
/// Every fault of every file, with its line.
pub fn catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let own = &config.data.meter_models;
    let folders: Vec<&Path> = if own.as_os_str().is_empty() {
        Vec::new()
    } else {
        vec![own.as_path()]
    };
    Catalogue::load(&folders).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("meter models:\n{}", lines.join("\n"))
    })
}

/// Starts the server on the present actix system; nothing when `interrupted` resolves first.
///
/// # Errors
/// When a part cannot be started; says which and what to do. The database is closed again, so that no embedded cluster
/// is left running.
pub async fn start(config: &Config, interrupted: impl Future<Output = ()>) -> anyhow::Result<Option<Running>> {
    crate::telemetry::touch_all();
    let catalogue = Arc::new(catalogue(config)?);
    field::probe_ports(config)?;
    std::fs::create_dir_all(&config.data.folder)
        .with_context(|| format!("data.folder {}", config.data.folder.display()))?;
    tokio::pin!(interrupted);
    let mut opened = tokio::select! {
        opened = database::open_patiently(config) => opened?,
        () = &mut interrupted => return Ok(None),
    };
    opened.look_after();
    let begun = tokio::select! {
        begun = begin(config, catalogue, &opened.database, opened.url()) => begun.map(Some),
        () = &mut interrupted => Ok(None),
    };
    match begun {
        Ok(Some(running)) => Ok(Some(Running {
            opened: Some(opened),
            ..running
        })),
        ended => {
            opened.close().await;
            ended
        }
    }
}

/// Everything that stands on the database.
async fn begin(
    config: &Config,
    catalogue: Arc<Catalogue>,
    database: &Database,
    url: &SecretString,
) -> anyhow::Result<Running> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);

    let retention = Retention {
        readings_days: config.retention.readings_days,
        endings_days: config.retention.endings_days,
        evidence_days: config.retention.evidence_days,
    };
    let store: Arc<dyn ReadingStore> = Arc::new(PgReadingStore::new(database, Arc::clone(&clock), retention));
    let ledger: Arc<dyn SlotLedger> = Arc::new(PgSlotLedger::new(database));
    let directory: Arc<dyn DeviceDirectory> = Arc::new(PgDirectory::new(database));
    patiently(async || store.maintain(clock.now()).await).await?;

    let (spool, drain) = parts::open_spool(config, &clock)?;
    let recorder = Arc::new(parts::open_recorder(config, &clock)?);
    let live = LiveHub::new(&*clock, parts::live_limits(config));
    let (alarm_feed, alarm_inbox) = crate::actor::alarm::feed::queue(config.alarms.queue_records_max);
    // sessions and commands are told through it, so that alarms hear of them
    let tap: Arc<dyn LiveFeed> = Arc::new(AlarmTap::new(Arc::new(live.clone()), alarm_feed.clone()));
    let index = Arc::new(MeterIndex::default());

    let storage = StorageParts::new(
        Box::new(drain),
        Arc::clone(&store),
        Arc::new(live.clone()),
        Arc::clone(&index),
        Arc::clone(&clock),
    )
    .with_alarms(alarm_feed);
    Storage::new(storage, RestartPolicy::default()).start();

    let sockets = resources::share_sockets(config);
    let load = resources::Load::new(Arc::default(), spool.clone(), resources::memory_budget(config));
    let dialler = Arc::new(field::Dialler::default());
    let common = field::Common {
        clock: Arc::clone(&clock),
        log: Arc::new(spool.clone()),
        catalogue: Arc::clone(&catalogue),
        dialler: Arc::clone(&dialler),
        polls: Arc::new(GrowingIds::starting_at(clock.now())),
        first_polls: (config.limits.first_polls_per_s, config.limits.first_polls_burst),
        pressure: load.gauge(),
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let (arbiters, shards) = field::start_shards(cores, &common);
    let (closing, closed) = watch::channel(false);
    let (log, writer) = SessionLog::new(Arc::clone(&ledger), Arc::clone(&clock), closed);
    actix::spawn(writer);
    let registry = field::start_registry(
        Arc::clone(&clock),
        log.clone(),
        Arc::clone(&tap),
        shards.clone(),
        &config.limits,
    );
    let fleet = FleetHandle {
        registry,
        shards: shards.clone(),
        directory,
        index,
        reads: Arc::new(Semaphore::new(config.limits.reads_max)),
        clock: Arc::clone(&clock),
        behind: Arc::default(),
    };

    let stop_connections = CancellationToken::new();
    let stop_accept = CancellationToken::new();
    let deps = field::net_deps(
        &fleet,
        Arc::clone(&recorder) as Arc<dyn crate::port::frames::FrameRecorder>,
        Arc::new(live.clone()),
        Arc::new(crate::store::terminal_events::PgTerminalEvents::new(database)),
        field::net_settings(config, sockets.devices),
        stop_connections.clone(),
    );
    dialler.provide(deps.clone());

    recover(&spool, &fleet, &shards, &*ledger, &*clock).await?;
    let chain = crate::store::audit_chain::AuditChain::new(database);
    let keeper = audit::Keeper::open(chain, &config.data.folder, Arc::clone(&clock))?;
    let stop_checkpoints = CancellationToken::new();
    let checkpoints = actix::spawn(keep_checkpoints(keeper, stop_checkpoints.clone()));
    // before the device ports open: what may have been sent is known to be unknown when the first DTU comes back
    let desk = field::open_desk(config, database, &fleet, &common, tap).await?;
    let stop_notices = CancellationToken::new();
    let key = notices::key(config)?;
    let outbound = notices::outbound(&config.notify, key.clone().into(), &clock).map_err(anyhow::Error::msg)?;
    notices::start(config, database, &outbound, &clock, stop_notices.clone());
    let integrators = integrations::senders(config, key.clone().into(), &clock).map_err(anyhow::Error::msg)?;
    integrations::start(config, database, &integrators, &clock, stop_notices.clone());
    let devices = field::open_ports(config, &deps, &shards, &stop_accept)?;
    let (field_up, up) = watch::channel(true);
    interrupt_parameters(database, &clock).await?;
    let stop_exports = CancellationToken::new();
    let exports = parts::open_exports(config, database, &live, &clock, stop_exports.clone())?;
    let backups = backup::Backups::new(config, url.clone(), Arc::clone(&clock));
    actix::spawn(backups.clone().keep(stop_exports.clone()));
    let imports = parts::open_imports(config, database, &clock, stop_exports.clone());

    let mut state = api_state(
        config,
        database,
        Desks {
            fleet: &fleet,
            control: &desk,
            notices: outbound.desk,
            integrations: integrators.desk,
            key,
            exports,
            imports,
            backups,
        },
        &live,
        recorder,
        catalogue,
        &spool,
        up,
    )?;
    state.readiness.push(Arc::new(load.check()));
    actix::spawn(load.watch());
    let alarms = field::start_alarms(config, database, &fleet, live.clone(), &state.readiness, alarm_inbox);
    let server = crate::api::serve(state, parts::http_settings(config, sockets.http)).await?;
    let running = Running {
        http: server.address,
        devices,
        server,
        fleet,
        desk,
        alarms,
        shards,
        arbiters,
        spool,
        live,
        ledger,
        sessions: log,
        database: database.clone(),
        opened: None,
        stop_accept,
        stop_connections,
        stop_notices,
        stop_exports,
        closing,
        checkpoints: (stop_checkpoints, checkpoints),
        field_up,
    };
    running.keep_house(store, clock);
    Ok(running)
}

/// Runs of settings that the process before left open have ended: what was being written is told to be unknown.
async fn interrupt_parameters(database: &Database, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
    let stores = crate::store::PgStores::new(database.clone());
    let actor = crate::port::scope::Actor::parameter_desk();
    let house: Box<dyn ParameterHouse> = stores.across_accounts(actor);
    loop {
        match house.interrupt(clock.now()).await {
            Ok(0) => return Ok(()),
            Ok(runs) => {
                crate::telemetry::concentrator::ParameterRunsInterrupted { runs }.emit();
                return Ok(());
            }
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!(%why, "the start waits for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tries until the database has done it: it may go away again while the server starts.
async fn patiently<T>(work: impl AsyncFn() -> Result<T, StoreUnavailable>) -> Result<T, StoreUnavailable> {
    loop {
        match work().await {
            Err(error) if error.passing => {
                tracing::warn!(%error, "the start waits for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            done => return done,
        }
    }
}

/// Brings the world to where the previous process left it: its spool drained, its sessions ended, the directory loaded,
/// slots taken up again.
///
/// # Errors
/// When the database refuses for good, or a shard is gone.
pub async fn recover(
    spool: &SpoolHandle,
    fleet: &FleetHandle,
    shards: &[Addr<Shard>],
    ledger: &dyn SlotLedger,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    while spool.stats().backlog_records > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let orphans = patiently(async || ledger.end_orphan_sessions(clock.now()).await).await?;
    let dtus = patiently(async || fleet.load().await).await?;
    let watermark = match patiently(async || ledger.watermark().await).await? {
        Some(watermark) => watermark,
        // a fresh database: nothing was due before now. Kept before anything can end, or a kill before the first
        // regular save would make the next start take up what has ended already
        None => {
            let now = clock.now();
            patiently(async || ledger.set_watermark(now).await).await?;
            now
        }
    };
    let ended = patiently(async || ledger.ended_since(watermark).await).await?;
    tracing::info!(dtus, orphans, ended = ended.len(), %watermark, "recovered");
    let ended = Arc::new(ended);
    for shard in shards {
        shard
            .send(BeginSchedules {
                watermark,
                ended: Arc::clone(&ended),
            })
            .await
            .context("a shard is gone")?;
    }
    Ok(())
}

/// Writes checkpoints of the audit until the server stops, and the last one then.
async fn keep_checkpoints(mut keeper: audit::Keeper, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(CHECKPOINT_EVERY))
        .await
        .is_some()
    {
        keeper.tick(false).await;
    }
    keeper.tick(true).await;
}

impl Running {
    /// The work beside the main path: watermark, roll-ups, partitions, gauges.
    fn keep_house(&self, store: Arc<dyn ReadingStore>, clock: Arc<dyn Clock>) {
        let (shards, ledger, stop) = (self.shards.clone(), Arc::clone(&self.ledger), self.closing.subscribe());
        let watermark_clock = Arc::clone(&clock);
        actix::spawn(every(WATERMARK_EVERY, stop, move || {
            let (shards, ledger, clock) = (shards.clone(), Arc::clone(&ledger), Arc::clone(&watermark_clock));
            async move { move_watermark(&shards, &*ledger, &*clock).await }
        }));
        let (rollers, roll_clock) = (Arc::clone(&store), Arc::clone(&clock));
        let mut rounds = 0u64;
        actix::spawn(every(ROLL_UP_EVERY, self.closing.subscribe(), move || {
            let (store, clock) = (Arc::clone(&rollers), Arc::clone(&roll_clock));
            let hours = match rounds % RUNNING_HOUR_EVERY {
                0 => Hours::All,
                _ => Hours::Ended,
            };
            rounds = rounds.wrapping_add(1);
            async move {
                if let Err(error) = store.roll_up(clock.now(), hours).await {
                    tracing::warn!(%error, "consumption is not rolled up now");
                }
            }
        }));
        actix::spawn(every(MAINTAIN_EVERY, self.closing.subscribe(), move || {
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            async move {
                if let Err(error) = store.maintain(clock.now()).await {
                    tracing::warn!(%error, "partitions are not maintained now");
                }
            }
        }));
    }

    /// The database's pools.
    pub fn database(&self) -> Database {
        self.database.clone()
    }

    /// The running front end.
    pub fn fleet(&self) -> FleetHandle {
        self.fleet.clone()
    }

    /// Resolves when a part that cannot be rebuilt in place is gone (docs/decisions/0001).
    pub async fn broken(&self) {
        loop {
            let dead = |name: &str| tracing::error!(part = name, "a part of the server died");
            if !self.fleet.registry.connected() {
                return dead("registry");
            }
            if !self.desk.connected() {
                return dead("control desk");
            }
            if self.shards.iter().any(|shard| !shard.connected()) {
                return dead("shard");
            }
            // after a failed fsync nothing can be acknowledged any more; a new process replays what is durable
            if self.spool.state() == crate::spool::SpoolState::Failed {
                return dead("spool");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Stops in order. What is acknowledged is on disk in any case; this makes the end quick and clean.
    pub async fn stop(self) {
        tracing::info!("stopping");
        // nobody listens any more: fine
        let _unread = self.field_up.send(false);
        self.stop_accept.cancel();
        let idle = futures::future::join_all(self.shards.iter().map(|shard| shard.send(StopSchedules)));
        if tokio::time::timeout(STOP_SCHEDULES, idle).await.is_err() {
            tracing::warn!("polls are cut off");
        }
        if self.desk.send(CloseDesk).await.is_err() {
            tracing::error!("the control desk is gone");
        }
        // what happens from here on is told by the next process; what is on its way has until the spool is flushed
        self.stop_notices.cancel();
        self.stop_exports.cancel();
        let closed = self.fleet.registry.send(CloseSessions).await.unwrap_or(0);
        self.stop_connections.cancel();
        tracing::info!(sessions = closed, "sessions closed");
        self.spool.close().await;
        let drained = async {
            while self.spool.stats().backlog_records > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(STOP_STORAGE, drained).await.is_err() {
            tracing::warn!("the database did not take everything; the rest is in the spool for the next start");
        }
        move_watermark(&self.shards, &*self.ledger, &*self.fleet.clock).await;
        if tokio::time::timeout(STOP_SESSIONS, self.sessions.flush())
            .await
            .is_err()
        {
            tracing::warn!("not every end of a session is in the database; the next start ends the rest");
        }
        // what it has not judged yet the next process judges from the database
        if self.alarms.send(StopAlarms).await.is_err() {
            tracing::error!("the alarms are gone");
        }
        let _unread = self.closing.send(true);
        self.live.close();
        self.server.stop().await;
        // when nobody can add to the audit any more
        let (stop_checkpoints, checkpoints) = self.checkpoints;
        stop_checkpoints.cancel();
        if tokio::time::timeout(STOP_SESSIONS, checkpoints).await.is_err() {
            tracing::warn!("the last checkpoint of the audit is not written");
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        if let Some(opened) = self.opened {
            opened.close().await;
        }
        tracing::info!("stopped");
    }
}

/// Runs `work` at intervals, from the end of one to the beginning of the next, until told to stop.
async fn every<F: Future<Output = ()>>(
    interval: Duration,
    mut stop: watch::Receiver<bool>,
    mut work: impl FnMut() -> F,
) {
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = tokio::time::sleep(interval) => {}
        }
        work().await;
    }
}

/// Everything due before the watermark has a durable ending. It only moves forward, and only over what every shard says.
pub async fn move_watermark(shards: &[Addr<Shard>], ledger: &dyn SlotLedger, clock: &dyn Clock) {
    let mut settled = clock.now();
    let mut oldest = None;
    for shard in shards {
        let Ok(open) = shard.send(GetOpenSlots).await else {
            return;
        };
        settled = settled.min(open.settled_until);
        oldest = [oldest, open.oldest].into_iter().flatten().min();
    }
    let age = oldest.map_or(0, |oldest| (clock.now() - oldest).num_seconds());
    crate::telemetry::actor::SLOT_OLDEST_OPEN_SECONDS.set(age);
    if let Err(error) = ledger.set_watermark(settled).await {
        tracing::warn!(%error, "the watermark stays where it is");
    }
}
