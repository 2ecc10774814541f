//! Looking for meters on a line: what a scan tells while it runs, and what it proposes when it is over.

use crate::domain::parameter::Parameter;
pub use crate::exchange::scan::ScanPlan;
pub use crate::protocol::Protocol;
use chrono::NaiveDateTime;
use serde::Serialize;
use std::sync::Arc;

/// A meter that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FoundMeter {
    /// What it speaks.
    #[schema(example = "dlt645-2007")]
    pub protocol: String,
    /// Its address, as `/meters` takes it.
    #[schema(example = "123456789012")]
    pub address: String,
    /// The model that fits best; null when none does, or it was not tried yet.
    pub model: Option<String>,
    /// Other models that fit, too, the better ones first.
    pub others: Vec<String>,
    /// What it says by that model: quantity, value and unit, to hold against its display.
    pub values: Vec<FoundValue>,
    /// Where it stands in the archive of its concentrator; null on a line.
    pub archive: Option<ArchivePlace>,
}

impl FoundMeter {
    /// Under which number its concentrator has it: the measuring point, where meters are asked by it (Q/GDW 1376.1), else
    /// its number in the archive. None on a line.
    pub fn point(&self) -> Option<u16> {
        let archive = self.archive.as_ref()?;
        match self.protocol == Protocol::Gdw376.name() {
            true => self.address.parse().ok(),
            false => Some(archive.place),
        }
    }
}

/// A meter's place in the archive of a concentrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ArchivePlace {
    /// The place; of a DL/T 698.45 terminal the meter's number, which is its measuring point, too.
    pub place: u16,
    /// The meter's own address, as it is printed on it.
    #[schema(example = "000010000042")]
    pub meter_address: String,
    /// What the concentrator speaks with it.
    #[schema(example = "DL/T 645-2007")]
    pub meter_protocol: String,
    /// The concentrator's port; 31 is the carrier's, 0 one that has no number.
    pub port: u8,
    /// The collector that it hangs on; empty where there is none.
    pub collector: String,
    /// Tariffs that are kept of it.
    pub tariffs: u8,
    /// How the concentrator reaches it; null where it does not say.
    pub route: Option<Route>,
}

/// How a concentrator reaches a meter over its mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Route {
    /// Other meters that relay.
    pub relays: Option<u8>,
    /// The byte of the phase, as the concentrator has it.
    pub phase_bits: Option<u8>,
    /// The byte of the signal's quality, as the concentrator has it.
    pub signal_bits: Option<u8>,
    /// Readings that failed since the last success.
    pub failures: Option<u8>,
    /// The last success, by the concentrator's own clock.
    pub last_success: Option<NaiveDateTime>,
}

/// A value by which a person recognises a meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FoundValue {
    /// Which.
    #[schema(example = "active_energy_import")]
    pub quantity: String,
    /// A decimal string.
    #[schema(example = "1234.56")]
    pub value: String,
    /// Its unit.
    #[schema(example = "kWh")]
    pub unit: String,
}

/// How far a scan is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanProgress {
    /// Questions asked.
    pub asked: u32,
    /// Questions left, as far as can be told.
    pub left: u32,
    /// What is searched now; none while models are recognised and when it is over.
    pub searching: Option<String>,
    /// Who answered by now.
    pub found: Vec<FoundMeter>,
    /// What became of what was written into a concentrator's archive, place by place.
    pub written: Vec<WrittenPlace>,
    /// What became of the settings that a terminal was asked for.
    pub settings: Vec<Parameter>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// What became of a place that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteOutcome {
    /// Read back, it is as it was written.
    Written,
    /// The concentrator denied it; `code` says how.
    Denied,
    /// It was not denied, and read back it is otherwise.
    Otherwise,
    /// It could not be read back.
    Unknown,
}

/// A place of an archive that was written, and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct WrittenPlace {
    /// The place.
    pub place: u16,
    /// The measuring point.
    pub point: u16,
    /// Whether it was taken out.
    pub removed: bool,
    /// What became of it.
    pub outcome: WriteOutcome,
    /// The concentrator's error byte, where it denied it.
    pub code: Option<u8>,
}

/// Why a scan came to no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanFailure {
    /// The DTU has no session.
    #[error("the DTU is offline")]
    Offline,
    /// Its session ended for longer than a scan waits.
    #[error("the DTU went offline while its line was scanned")]
    Lost,
    /// A concentrator was to be written to, and it is none.
    #[error("the DTU is no concentrator")]
    NoConcentrator,
    /// A terminal's archive was to be written, which is only read.
    #[error("the archive of a DL/T 698.45 terminal is read, and not written")]
    ReadOnly,
    /// Settings were asked for by the names of another protocol.
    #[error("the terminal speaks another protocol than these settings are of")]
    OtherProtocol,
    /// Other work kept the line for longer than a scan waits.
    #[error("the line was never idle")]
    LineBusy,
}

/// Is told how far a scan is, often; must not block.
pub type ScanTeller = Arc<dyn Fn(ScanProgress) + Send + Sync>;
