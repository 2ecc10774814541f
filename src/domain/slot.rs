//! The slot ledger's words: a slot is (meter, schedule, due time), and every slot ends.
//!
//! Open slots are not written: what is due follows from the dated schedules. Only endings are recorded. A scheduled
//! reading is itself the `actual` ending of its slots; every other ending is a [`SlotEnding`]. Where a slot has both, the
//! [`SlotEnding`] outranks the reading: it says `late` of a reading begun after the window, or `missing`/`partial` of
//! one that lacks what the slot wanted. What is due is in [`plan`].

pub mod plan;

use crate::base::ids::{AccountId, MeterId, ScheduleId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How a slot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Read, and the read began within the window after the due time.
    Actual,
    /// Read, but begun after the window.
    Late,
    /// Filled by a named rule.
    Estimated,
    /// Not read; the reason says why.
    Missing,
}

/// What a slot is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotKind {
    /// An ordinary reading.
    #[default]
    Regular,
    /// The reading of a settlement day, which bills begin and end with.
    Settlement,
}

/// Why a slot is missing. A closed list: it is a metric label and a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissReason {
    /// The DTU had no session.
    DtuOffline,
    /// The meter did not answer.
    Timeout,
    /// The meter refused (`detail` has its words and its code).
    Exception,
    /// The line had no time left before the window ended.
    LineBusy,
    /// The meter's breaker was open.
    BreakerOpen,
    /// The session ended during the poll.
    SessionLost,
    /// This server was not running.
    ServerDown,
    /// A previous poll of the same meter was still under way, and the schedule's overlap policy had no room for it.
    Overlap,
    /// Replies arrived but could not be decoded.
    Undecodable,
    /// Some of the wanted quantities are missing; what arrived is stored.
    Partial,
    /// The meter's model is unknown to this server.
    NoModel,
    /// The reading could not be made durable.
    StorageRefused,
    /// The server was short of memory or of room in the spool and did what matters more (`detail` has the level).
    Overload,
    /// The server failed at it; the log has more.
    Internal,
    /// The meter was deleted or moved to another DTU before it could be read.
    MeterRemoved,
}

/// An ending of a slot that is not simply its on-time reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotEnding {
    /// The account that owns the meter.
    pub account: AccountId,
    /// The meter.
    pub meter: MeterId,
    /// The schedule.
    pub schedule: ScheduleId,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// How it ended.
    pub state: SlotState,
    /// Why, when it is missing.
    pub reason: Option<MissReason>,
    /// More about why, e.g. `illegal data address (exception 2)`. At most 64 bytes, printable.
    pub detail: Option<String>,
    /// How many attempts were made on the line.
    pub attempts: u16,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
}

impl SlotState {
    /// The name in the API, the database and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Actual => "actual",
            Self::Late => "late",
            Self::Estimated => "estimated",
            Self::Missing => "missing",
        }
    }
}

impl MissReason {
    /// The name in the API, the database and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DtuOffline => "dtu_offline",
            Self::Timeout => "timeout",
            Self::Exception => "exception",
            Self::LineBusy => "line_busy",
            Self::BreakerOpen => "breaker_open",
            Self::SessionLost => "session_lost",
            Self::ServerDown => "server_down",
            Self::Overlap => "overlap",
            Self::Undecodable => "undecodable",
            Self::Partial => "partial",
            Self::NoModel => "no_model",
            Self::StorageRefused => "storage_refused",
            Self::Overload => "overload",
            Self::Internal => "internal",
            Self::MeterRemoved => "meter_removed",
        }
    }
}
