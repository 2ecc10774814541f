//! Parts of the server as the configuration wants them.

use crate::actor::live::{LiveHub, LiveLimits};
use crate::api::imports::{ImportDesk, ImportSettings};
use crate::api::{HttpSettings, TlsFiles};
use crate::base::clock::Clock;
use crate::config::Config;
use crate::report::{ExportSettings, Exports, SheetBounds, Sheets};
use crate::spool::{OsDisk, Recorder, RecorderSettings, Spool, SpoolHandle, SpoolSettings};
use crate::store::{Database, PgStores};
use anyhow::Context;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The spool in its folder.
///
/// # Errors
/// [`crate::spool::SpoolError`].
pub(super) fn open_spool(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(SpoolHandle, crate::spool::Drain)> {
    let settings = SpoolSettings {
        capacity_bytes: config.limits.spool_bytes,
        reserve_bytes: config.limits.spool_reserve_bytes,
        segment_bytes: config.limits.spool_segment_bytes,
        ..SpoolSettings::default()
    };
    let folder = config.data.folder.join("spool");
    Ok(Spool::open(Arc::new(OsDisk), &folder, settings, Arc::clone(clock))?)
}

/// The recorder of frames in its folder.
///
/// # Errors
/// Where the folder cannot be used.
pub(super) fn open_recorder(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Recorder> {
    let settings = RecorderSettings {
        ring_bytes: config.limits.frames_bytes,
        age: Duration::from_secs(86_400 * u64::from(config.limits.frames_days)),
        ..RecorderSettings::default()
    };
    let folder = config.data.folder.join("frames");
    Ok(Recorder::open(Arc::new(OsDisk), &folder, settings, Arc::clone(clock))?)
}

/// The desk that writes exports.
///
/// # Errors
/// Where their folder cannot be used.
pub(super) fn open_exports(
    config: &Config,
    database: &Database,
    live: &LiveHub,
    clock: &Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<Exports> {
    let exports = &config.exports;
    let settings = ExportSettings {
        folder: config.data.folder.join("exports"),
        at_once: exports.at_once,
        account_open_max: exports.account_open_max,
        open_max: exports.open_max,
        rows_max: exports.rows_max,
        bytes_max: exports.bytes_max,
        folder_bytes: exports.folder_bytes,
        kept: chrono::TimeDelta::hours(exports.kept_h.into()),
    };
    let stores = Arc::new(PgStores::new(database.clone()));
    let place = settings.folder.display().to_string();
    Exports::open(stores, Arc::new(live.clone()), Arc::clone(clock), settings, stop).context(place)
}

/// The desk that takes imports in.
pub(super) fn open_imports(
    config: &Config,
    database: &Database,
    clock: &Arc<dyn Clock>,
    stop: CancellationToken,
) -> ImportDesk {
    let imports = &config.imports;
    let settings = ImportSettings {
        bytes_max: imports.bytes_max,
        arrival: Duration::from_secs(imports.arrival_s.into()),
        faults_max: imports.faults_max,
        at_once: imports.at_once,
        open_max: imports.open_max,
    };
    let sheets = Sheets(SheetBounds {
        unpacked_max: imports.unpacked_max,
        rows_max: imports.rows_max,
        columns_max: imports.columns_max,
        cell_chars_max: imports.cell_chars_max,
    });
    let stores = Arc::new(PgStores::new(database.clone()));
    ImportDesk::open(stores, Arc::new(sheets), Arc::clone(clock), settings, stop)
}

/// What the live stream keeps and whom it serves.
pub(super) fn live_limits(config: &Config) -> LiveLimits {
    LiveLimits {
        events_per_account: config.limits.stream_events_kept,
        listeners_total: config.limits.streams_max,
        ..LiveLimits::default()
    }
}

/// Where and how HTTP is served.
pub(super) fn http_settings(config: &Config, connections_max: usize) -> HttpSettings {
    let tls = (!config.http.tls_cert.as_os_str().is_empty()).then(|| TlsFiles {
        cert: config.http.tls_cert.clone(),
        key: config.http.tls_key.clone(),
    });
    HttpSettings {
        bind: config.http.bind,
        tls,
        tls_look_every: crate::api::server::TLS_LOOK_EVERY,
        workers: config.http.workers,
        connections_max,
    }
}
