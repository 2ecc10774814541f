//! Readings: what a meter said, when, and how far it can be trusted.

use crate::base::ids::{AccountId, FrameRange, MeterId, PollId};
use crate::domain::quantity::Quantity;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What was measured: a quantity of the closed list, or a vendor's own, named by its meter model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measurand {
    /// A quantity of the closed list.
    Standard(Quantity),
    /// A vendor quantity of a meter model.
    Vendor(Arc<str>),
}

/// A value in the quantity's canonical unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Registers (kWh, m³ …), counts, states and whatever came as an integer: exact.
    Decimal(Decimal),
    /// An instantaneous value that came as a 32-bit float.
    F32(f32),
    /// An instantaneous value that came as a 64-bit float.
    F64(f64),
}

/// How far a value can be trusted. It can only get worse, except by a named rule that writes a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// As the meter said it.
    Measured,
    /// Computed from neighbours by a named rule.
    Estimated,
    /// Entered in place of the meter's word.
    Substituted,
    /// Measured, but implausible; never billed unseen.
    Suspect,
}

/// Why a reading exists. Part of the reading's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A schedule's slot.
    Scheduled,
    /// Somebody asked now.
    OnDemand,
    /// Filled later from the meter's own memory.
    BackFill,
    /// The device sent it by itself.
    Pushed,
    /// Typed in by a person.
    Manual,
    /// From a file or another system.
    Imported,
}

/// One value of a reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// What.
    pub measurand: Measurand,
    /// How much, in the canonical unit.
    pub value: Value,
    /// How trustworthy.
    pub quality: Quality,
}

/// All values of one poll of one meter: one row, one key `(ts, meter, source)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The account that owns the meter.
    pub account: AccountId,
    /// The meter.
    pub meter: MeterId,
    /// The key instant: the due time for scheduled readings, the start for on-demand ones, the device's time stamp
    /// for pushed and back-filled ones. Fixed before the first request.
    pub ts: DateTime<Utc>,
    /// Why the reading exists. For [`Source::Scheduled`] `ts` is the slot's due time.
    pub source: Source,
    /// When we received the last reply, our clock.
    pub read_at: DateTime<Utc>,
    /// The meter's own time, if it has one and it was read.
    pub meter_time: Option<DateTime<Utc>>,
    /// The visit that brought it.
    pub poll: PollId,
    /// The raw frames it came from.
    pub frames: FrameRange,
    /// The values; at most one per measurand.
    pub items: Vec<Item>,
}
