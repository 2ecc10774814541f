//! The front end's actors, put together: shards on their arbiters, registry, storage; and the device ports in front.

use crate::actor::alarm::feed::AlarmInbox;
use crate::actor::alarm::{AlarmParts, AlarmSettings, Alarms};
use crate::actor::control_desk::{ControlDesk, DeskParts, DeskSettings};
use crate::actor::durable::PollLog;
use crate::actor::handles::{FleetHandle, RegistrarHandle};
use crate::actor::live::LiveHub;
use crate::actor::messages::{ConnectionTask, RunConnection};
use crate::actor::registry::{Registry, RegistryParts};
use crate::actor::shard::{Connector, Shard, ShardParts};
use crate::actor::supervise::RestartPolicy;
use crate::base::clock::Clock;
use crate::base::ids::GrowingIds;
use crate::config::{Config, Limits};
use crate::device::catalogue::Catalogue;
use crate::domain::command::BrakeLimits;
use crate::domain::device::DtuRecord;
use crate::exchange::admission::FlapLimits;
use crate::exchange::pace::Pace;
use crate::exchange::shed::PressureGauge;
use crate::net::{Accepted, Gate, Listener, NetDeps, NetSettings};
use crate::port::frames::FrameRecorder;
use crate::port::live::LiveFeed;
use crate::port::readiness::ReadinessCheck;
use crate::port::terminal_events::TerminalEventLog;
use crate::protocol::dlt645::{Operator, Password, Security};
use crate::protocol::dtu::Profile;
use crate::store::Database;
use crate::store::alarms::PgAlarmLog;
use crate::store::commands::PgCommandLog;
use actix::{Actor, Addr, Arbiter};
use anyhow::Context;
use chrono::TimeDelta;
use futures::FutureExt;
use secrecy::ExposeSecret;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

/// Limits of the device port from the configuration; `connections_max` is what it got of the process's descriptors.
pub fn net_settings(config: &Config, connections_max: usize) -> NetSettings {
    let limits = &config.limits;
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    NetSettings {
        connections_max,
        accepts_per_s: limits.accept_per_s,
        descriptors_reserved: usize::try_from(limits.reserved_descriptors).unwrap_or(usize::MAX),
        registration_s: narrow(limits.registration_timeout_s),
        flood_bytes_per_s: limits.session_bytes_per_s,
        flood_burst_bytes: limits.session_burst_bytes,
        queue_jobs: limits.line_queue_max,
        dead_line_timeouts: limits.dead_line_timeouts,
        follow_ups: limits.answer_frames_max.saturating_sub(1),
        answer_bytes: limits.answer_bytes_max,
        ..NetSettings::default()
    }
}

/// Dials for shards. The registry is made after the shards, so the rest of what a connection needs comes in later.
#[derive(Default)]
pub struct Dialler {
    deps: OnceCell<NetDeps>,
}

impl Dialler {
    /// What connections need, once it is all there.
    pub fn provide(&self, deps: NetDeps) {
        if self.deps.set(deps).is_err() {
            tracing::error!("the dialler was provided twice");
        }
    }
}

impl Connector for Dialler {
    fn dial(&self, dtu: DtuRecord) -> ConnectionTask {
        let deps = self.deps.get().cloned();
        Box::new(move || {
            Box::pin(async move {
                if let Some(deps) = deps {
                    let stop = deps.stop.child_token();
                    let _ends_with_the_task = stop.clone().drop_guard();
                    crate::net::run_dialled(dtu, deps, stop).await;
                }
            })
        })
    }
}

/// What the shards share, without what differs.
#[derive(Clone)]
pub struct Common {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where polls become durable.
    pub log: Arc<dyn PollLog>,
    /// Meter models.
    pub catalogue: Arc<Catalogue>,
    /// How dialled DTUs are reached.
    pub dialler: Arc<Dialler>,
    /// Ids of polls.
    pub polls: Arc<GrowingIds>,
    /// Sessions whose schedules may begin per second after a connect, and the burst, over all shards.
    pub first_polls: (u32, u32),
    /// What is shed.
    pub pressure: Arc<PressureGauge>,
}

impl Common {
    /// One of `count` shards.
    fn shard(self, count: usize) -> Shard {
        let share = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let (per_s, burst) = self.first_polls;
        Shard::new(ShardParts {
            clock: self.clock,
            log: self.log,
            catalogue: self.catalogue,
            connector: self.dialler,
            polls: self.polls,
            restarts: RestartPolicy::default(),
            shelf: RefCell::default(),
            first_polls: Pace::new(per_s.div_ceil(share), burst.div_ceil(share)),
            pressure: self.pressure,
        })
    }
}

/// Starts shards, one arbiter each.
pub fn start_shards(count: usize, common: &Common) -> (Vec<Arbiter>, Vec<Addr<Shard>>) {
    let count = count.max(1);
    (0..count)
        .map(|_| {
            let arbiter = Arbiter::new();
            let common = common.clone();
            let shard = Shard::start_in_arbiter(&arbiter.handle(), move |_| common.shard(count));
            (arbiter, shard)
        })
        .unzip()
}

/// Starts shards on the present arbiter, where a simulation has all of the server.
pub fn start_shards_here(count: usize, common: &Common) -> Vec<Addr<Shard>> {
    let count = count.max(1);
    (0..count).map(|_| common.clone().shard(count).start()).collect()
}

/// Starts the registry on the present arbiter.
pub fn start_registry(
    clock: Arc<dyn Clock>,
    log: crate::actor::session_log::SessionLog,
    live: Arc<dyn LiveFeed>,
    shards: Vec<Addr<Shard>>,
    limits: &Limits,
) -> Addr<Registry> {
    Registry::new(RegistryParts {
        clock,
        log,
        live,
        shards,
        quarantine_max: limits.quarantine_max,
        flap: FlapLimits {
            connects_per_min: limits.flap_connects_per_min,
            ban_s: limits.flap_ban_s,
        },
    })
    .start()
}

/// Opens the control desk on the present arbiter, with what an earlier process left.
///
/// # Errors
/// When its books cannot be read.
pub async fn open_desk(
    config: &Config,
    database: &Database,
    fleet: &FleetHandle,
    common: &Common,
    live: Arc<dyn LiveFeed>,
) -> anyhow::Result<Addr<ControlDesk>> {
    let control = &config.control;
    let settings = DeskSettings {
        enabled: control.enabled,
        limits: BrakeLimits {
            account: control.disconnects_per_account,
            total: control.disconnects_total,
            window: TimeDelta::seconds(control.disconnects_window_s.into()),
            dtu_percent: control.disconnects_dtu_percent,
            dtu_window: TimeDelta::seconds(control.disconnects_dtu_window_s.into()),
        },
        visits_max: control.visits_max,
        open_max: control.open_max,
        security: Security {
            password: Password::new(control.dlt645_level, control.dlt645_password.expose_secret())
                .context("control.dlt645_password")?,
            operator: Operator::new(&control.dlt645_operator).context("control.dlt645_operator")?,
        },
    };
    let parts = DeskParts {
        clock: Arc::clone(&common.clock),
        log: Arc::new(PgCommandLog::new(database)),
        lines: Rc::new(fleet.registry.clone()),
        catalogue: Arc::clone(&common.catalogue),
        live,
        polls: Arc::clone(&common.polls),
        frames: Arc::clone(&common.log),
        settings,
    };
    ControlDesk::open(parts).await.context("the control desk")
}

/// Starts the alarms on the present arbiter.
pub fn start_alarms(
    config: &Config,
    database: &Database,
    fleet: &FleetHandle,
    live: LiveHub,
    checks: &[Arc<dyn ReadinessCheck>],
    inbox: AlarmInbox,
) -> Addr<Alarms> {
    let settings = AlarmSettings {
        every: Duration::from_secs(config.alarms.look_every_s.into()),
        remind_after: Duration::from_secs(60 * u64::from(config.alarms.remind_after_min)),
    };
    let parts = AlarmParts::new(
        Arc::clone(&fleet.clock),
        Arc::new(PgAlarmLog::new(database)),
        Arc::new(live),
        checks.to_vec(),
        settings,
        inbox,
    );
    Alarms::new(parts, RestartPolicy::default()).start()
}

/// What the ports need.
pub fn net_deps(
    fleet: &FleetHandle,
    recorder: Arc<dyn FrameRecorder>,
    live: Arc<dyn LiveFeed>,
    terminal_events: Arc<dyn TerminalEventLog>,
    settings: NetSettings,
    stop: CancellationToken,
) -> NetDeps {
    NetDeps {
        clock: Arc::clone(&fleet.clock),
        registrar: Arc::new(RegistrarHandle(fleet.registry.clone())),
        recorder,
        live,
        terminal_events,
        settings: Arc::new(settings),
        stop,
    }
}

/// Says early and clearly that a port is taken, before a database is made or touched.
///
/// # Errors
/// Names the setting and the address.
pub fn probe_ports(config: &Config) -> anyhow::Result<()> {
    let devices = config.listeners.iter().map(|listener| ("[[listener]]", listener.bind));
    for (section, address) in std::iter::once(("[http]", config.http.bind)).chain(devices) {
        std::net::TcpListener::bind(address).with_context(|| {
            format!("cannot listen on {address}; does another polyphase run? Else set `bind` in {section}")
        })?;
    }
    Ok(())
}

/// Binds the device ports and accepts on the present runtime until `stop`; answers where they listen.
///
/// # Errors
/// When a port cannot be bound or a profile is unknown; says which.
pub fn open_ports(
    config: &Config,
    deps: &NetDeps,
    shards: &[Addr<Shard>],
    stop: &CancellationToken,
) -> anyhow::Result<Vec<SocketAddr>> {
    let gate = Gate::new(&deps.settings);
    let mut addresses = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        let profile = Profile::parse(&listener.profile)
            .with_context(|| format!("listener {}: profile {:?}", listener.bind, listener.profile))?;
        let bound = Listener::bind(listener.bind, profile, &deps.settings)?;
        addresses.push(bound.address()?);
        let (deps, shards) = (deps.clone(), shards.to_vec());
        let on_accept = move |accepted: Accepted| hand_over(accepted, &deps, &shards);
        actix::spawn(crate::net::accept_loop(
            bound,
            Arc::clone(&gate),
            stop.clone(),
            on_accept,
        ));
    }
    Ok(addresses)
}

/// Gives a connection to a shard; which one is all the same before it has said who it is.
fn hand_over(accepted: Accepted, deps: &NetDeps, shards: &[Addr<Shard>]) {
    let connection = accepted.connection;
    let turn = usize::try_from(connection.0)
        .unwrap_or(0)
        .checked_rem(shards.len())
        .unwrap_or(0);
    let Some(shard) = shards.get(turn) else { return };
    let deps = deps.clone();
    let task: ConnectionTask = Box::new(move || {
        // no async block: that would keep room for what it takes as long as the connection lives
        Box::pin(crate::net::run_connection(accepted, deps).map(|_cause| ()))
    });
    shard.do_send(RunConnection { connection, task });
}
