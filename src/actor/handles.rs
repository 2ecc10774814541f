//! Actix-free ways to the actors: they implement the ports that `net/` and `api/` hold.

use crate::actor::messages::{
    Connected, Ended, GetCounts, GetLine, GetLive, GetQuarantine, Introduce, KeepReport, LineOfDtu, ReadMeter,
    ReplaceDirectory, ScanDtu, UpdateDtu,
};
use crate::actor::registry::{Registry, shard_of};
use crate::actor::shard::Shard;
use crate::actor::storage::MeterIndex;
use crate::base::clock::Clock;
use crate::base::ids::{AccountId, ConnectionId, DtuId, MeterId};
use crate::domain::device::DtuRecord;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Reading;
use crate::domain::slot::MissReason;
use crate::exchange::feasible::judge;
use crate::port::field::{Admission, EndCause, FieldReport, Hello, Link, LinkStats, Registrar, ReportKept, ReportLost};
use crate::port::fleet::{DtuLive, Fleet, FleetCounts, LineState, QuarantineEntry, ReadFailure};
use crate::port::ledger::DeviceDirectory;
use crate::port::scan::{ScanFailure, ScanPlan, ScanTeller};
use actix::Addr;
use async_trait::async_trait;
use chrono::TimeDelta;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// The registry for `net/`.
#[derive(Clone)]
pub struct RegistrarHandle(pub Addr<Registry>);

#[async_trait]
impl Registrar for RegistrarHandle {
    async fn introduce(&self, hello: Hello) -> Admission {
        self.0
            .send(Introduce(hello))
            .await
            .unwrap_or(Admission::Refused(EndCause::Shutdown))
    }

    async fn connected(
        &self,
        connection: ConnectionId,
        dtu: DtuId,
        peer: Option<SocketAddr>,
        link: Arc<dyn Link>,
    ) -> Admission {
        let up = Connected {
            connection,
            dtu,
            peer,
            link,
        };
        self.0.send(up).await.unwrap_or(Admission::Refused(EndCause::Shutdown))
    }

    async fn reported(&self, report: FieldReport) -> Result<ReportKept, ReportLost> {
        match self.0.send(KeepReport(report)).await {
            Ok(kept) => kept,
            Err(error) => Err(ReportLost(error.to_string())),
        }
    }

    fn ended(&self, connection: ConnectionId, cause: EndCause, stats: LinkStats) {
        self.0.do_send(Ended {
            connection,
            cause,
            stats,
        });
    }
}

/// The running front end for `api/`.
#[derive(Clone)]
pub struct FleetHandle {
    /// The registry.
    pub registry: Addr<Registry>,
    /// The shards.
    pub shards: Vec<Addr<Shard>>,
    /// The directory.
    pub directory: Arc<dyn DeviceDirectory>,
    /// Meter → DTU.
    pub index: Arc<MeterIndex>,
    /// Bounds reads on demand.
    pub reads: Arc<Semaphore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Changes that could not be loaded are being caught up.
    pub behind: Arc<AtomicBool>,
}

/// Between two tries to load what changed while the database went away.
const CATCH_UP_EVERY: Duration = Duration::from_secs(2);

impl FleetHandle {
    /// Takes the whole directory in; the start of the server waits for it.
    ///
    /// # Errors
    /// When the directory cannot be loaded.
    pub async fn load(&self) -> Result<usize, crate::port::ledger::StoreUnavailable> {
        let dtus = self.directory.load_all().await?;
        let count = dtus.len();
        self.index.replace(
            dtus.iter()
                .map(|dtu| (dtu.id, dtu.meters.iter().map(|meter| meter.id).collect())),
        );
        let (done, placed) = oneshot::channel();
        self.registry.do_send(ReplaceDirectory { dtus, done });
        if placed.await.is_err() {
            tracing::error!("the registry is gone");
        }
        Ok(count)
    }

    /// Loads the directory as soon as the database gives it: what was changed in it comes into force late, not never.
    fn catch_up(&self) {
        if self.behind.swap(true, Ordering::AcqRel) {
            return;
        }
        let fleet = self.clone();
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(CATCH_UP_EVERY).await;
                // before the load, so that a change that comes meanwhile is not taken for loaded
                fleet.behind.store(false, Ordering::Release);
                match fleet.load().await {
                    Ok(dtus) => break tracing::info!(dtus, "the directory is caught up"),
                    Err(_still_away) if fleet.behind.swap(true, Ordering::AcqRel) => break,
                    Err(_still_away) => {}
                }
            }
        });
    }

    async fn update(&self, dtu: DtuId, record: Option<DtuRecord>) {
        let meters = record
            .as_ref()
            .map(|record| record.meters.iter().map(|meter| meter.id).collect::<Vec<_>>());
        self.index.update(dtu, meters.unwrap_or_default());
        let (done, placed) = oneshot::channel();
        self.registry.do_send(UpdateDtu { dtu, record, done });
        if placed.await.is_err() {
            tracing::error!("the registry is gone");
        }
    }
}

#[async_trait]
impl Fleet for FleetHandle {
    async fn live(&self, dtus: &[DtuId]) -> Vec<DtuLive> {
        self.registry.send(GetLive(dtus.to_vec())).await.unwrap_or_default()
    }

    async fn quarantine(&self) -> Vec<QuarantineEntry> {
        self.registry.send(GetQuarantine).await.unwrap_or_default()
    }

    async fn reload(&self, dtu: DtuId) {
        match self.directory.load(dtu).await {
            Ok(record) => self.update(dtu, record).await,
            Err(error) => {
                tracing::warn!(dtu.id = dtu.0, %error, "the changed DTU cannot be loaded now, the old one stays in force");
                self.catch_up();
            }
        }
    }

    async fn reload_all(&self) {
        if let Err(error) = self.load().await {
            tracing::warn!(%error, "the directory cannot be loaded now, the old one stays in force");
            self.catch_up();
        }
    }

    async fn read(
        &self,
        meter: MeterId,
        quantities: Vec<Quantity>,
        deadline: Duration,
    ) -> Result<Reading, ReadFailure> {
        let _permit = self.reads.try_acquire().map_err(|_| ReadFailure::Busy)?;
        let shard = self
            .index
            .dtu(meter)
            .and_then(|dtu| self.shards.get(shard_of(dtu, self.shards.len())))
            .ok_or(ReadFailure::UnknownMeter)?;
        let (answer, answered) = oneshot::channel();
        let deadline = self.clock.monotonic() + deadline;
        shard.do_send(ReadMeter {
            meter,
            quantities,
            deadline,
            answer,
        });
        // the asker's answer is dropped when the meter's actor dies
        answered.await.unwrap_or(Err(ReadFailure::Missed {
            reason: MissReason::Internal,
            detail: None,
        }))
    }

    async fn scan(&self, dtu: DtuId, plan: ScanPlan, tell: ScanTeller) -> Result<(), ScanFailure> {
        let shard = self.shards.get(shard_of(dtu, self.shards.len()));
        let shard = shard.ok_or(ScanFailure::Offline)?;
        let (answer, answered) = oneshot::channel();
        shard.do_send(ScanDtu {
            dtu,
            plan,
            tell,
            answer,
        });
        answered.await.unwrap_or(Err(ScanFailure::Offline))
    }

    async fn line(&self, dtu: DtuId) -> Option<LineState> {
        let shard = self.shards.get(shard_of(dtu, self.shards.len()))?;
        let LineOfDtu { meters, loads, now } = shard.send(GetLine(dtu)).await.ok().flatten()?;
        // up to a day of slots of many meters: not on a thread that others wait for
        let judged = tokio::task::spawn_blocking(move || judge(&loads, now, TimeDelta::days(1)));
        let plan = judged.await.ok()?;
        Some(LineState { meters, plan })
    }

    async fn counts(&self, account: Option<AccountId>) -> FleetCounts {
        self.registry.send(GetCounts(account)).await.unwrap_or_default()
    }
}
