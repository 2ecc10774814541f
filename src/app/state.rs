//! What the API works with, put together.

use super::{backup, checks, places, seams};
use crate::actor::control_desk::{ControlDesk, ControlHandle};
use crate::actor::handles::FleetHandle;
use crate::actor::live::LiveHub;
use crate::api::imports::ImportDesk;
use crate::api::limits::{LimitSettings, Limits};
use crate::api::{ApiSettings, ApiState, ClaimRule};
use crate::base::server_key::ServerKey;
use crate::config::{Claims, Config};
use crate::device::catalogue::Catalogue;
use crate::port::integrations::IntegrationDesk;
use crate::port::notices::NoticeDesk;
use crate::report::Exports;
use crate::spool::{Recorder, SpoolHandle};
use crate::store::{Database, PgAuth, PgStores};
use actix::Addr;
use std::sync::Arc;
use tokio::sync::watch;

/// Whom the API asks.
pub(super) struct Desks<'a> {
    pub(super) fleet: &'a FleetHandle,
    pub(super) control: &'a Addr<ControlDesk>,
    pub(super) notices: Arc<dyn NoticeDesk>,
    pub(super) integrations: Arc<dyn IntegrationDesk>,
    pub(super) key: ServerKey,
    pub(super) exports: Exports,
    pub(super) imports: ImportDesk,
    pub(super) backups: backup::Backups,
}

/// What the API works with.
///
/// # Errors
/// Where trusted proxies or the file of places are not right.
pub(super) fn api_state(
    config: &Config,
    database: &Database,
    desks: Desks<'_>,
    live: &LiveHub,
    recorder: Arc<Recorder>,
    catalogue: Arc<Catalogue>,
    spool: &SpoolHandle,
    up: watch::Receiver<bool>,
) -> anyhow::Result<ApiState> {
    let bounds = &config.limits;
    let limits = LimitSettings {
        requests_per_s: bounds.requests_per_s,
        requests_burst: bounds.requests_burst,
        heavy_per_account: bounds.heavy_per_account,
        heavy_total: bounds.heavy_total,
        heavy_waiting_max: bounds.heavy_waiting_max,
    };
    Ok(ApiState {
        stores: Arc::new(PgStores::new(database.clone())),
        auth: Arc::new(PgAuth::new(database.clone())),
        fleet: Arc::new(desks.fleet.clone()),
        control: Arc::new(ControlHandle(desks.control.clone())),
        notices: desks.notices,
        integrations: desks.integrations,
        exports: Arc::new(desks.exports),
        imports: desks.imports,
        backups: Arc::new(desks.backups),
        frames: recorder,
        live: Arc::new(live.clone()),
        feed: Arc::new(live.clone()),
        scans: Arc::default(),
        parameters: Arc::default(),
        watches: Arc::default(),
        clock: Arc::clone(&desks.fleet.clock),
        database: database.condition(),
        readiness: vec![
            Arc::new(checks::DatabaseCheck(database.condition())),
            Arc::new(checks::SpoolCheck(spool.clone())),
            Arc::new(checks::FieldCheck(up)),
        ],
        settings: ApiSettings {
            session_hours: config.access.session_hours,
            secure_cookies: config.http.secure_cookies || !config.http.tls_cert.as_os_str().is_empty(),
            sign_ins_days: config.access.sign_ins_days,
            second_factor_platform: config.access.second_factor_platform,
            proxies: places::proxies(config).map_err(anyhow::Error::msg)?,
            claims: match config.access.claims {
                Claims::Code => ClaimRule::Code,
                Claims::Platform => ClaimRule::Platform,
                Claims::Open => ClaimRule::Open,
            },
            limits,
        },
        limits: Arc::new(Limits::new(limits)),
        passwords: Default::default(),
        throttle: Default::default(),
        explainer: Arc::new(seams::Explainer),
        check_profile: seams::check_profile,
        models: catalogue,
        reads: Arc::default(),
        places: places::open(config).map_err(anyhow::Error::msg)?,
        key: desks.key,
    })
}
