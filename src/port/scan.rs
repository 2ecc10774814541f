//! Looking for meters on a line: what a scan tells while it runs, and what it proposes when it is over.

pub use crate::exchange::scan::ScanPlan;
pub use crate::protocol::Protocol;
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
    /// What a person should know.
    pub notes: Vec<String>,
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
    /// Other work kept the line for longer than a scan waits.
    #[error("the line was never idle")]
    LineBusy,
}

/// Is told how far a scan is, often; must not block.
pub type ScanTeller = Arc<dyn Fn(ScanProgress) + Send + Sync>;
