//! What the API asks of the running front end. `actor/` implements it; ids are checked against the account by the
//! caller's scoped store handle before they come here.

use crate::base::ids::{AccountId, DtuId, MeterId, SessionId};
use crate::domain::device::SerialNumber;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Reading;
use crate::domain::slot::MissReason;
pub use crate::exchange::feasible::LinePlan;
use crate::port::field::LinkStats;
use crate::port::scan::{ScanFailure, ScanPlan, ScanTeller};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Live state of a DTU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DtuLive {
    /// Whether it has a session.
    pub online: bool,
    /// Since when it is in that state (none: since the server started).
    pub since: Option<DateTime<Utc>>,
    /// The session.
    pub session: Option<SessionId>,
    /// Peer address.
    pub peer: Option<String>,
    /// Counters of the session.
    pub stats: Option<LinkStats>,
    /// It was taken over again and again from more than one address: two devices seem to share its SN.
    pub clone_suspected: bool,
    /// It connected again and again and is refused until then.
    pub banned_until: Option<DateTime<Utc>>,
}

/// An unknown SN that waits at the port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineEntry {
    /// The SN.
    pub sn: SerialNumber,
    /// First seen.
    pub first_seen: DateTime<Utc>,
    /// Last seen.
    pub last_seen: DateTime<Utc>,
    /// How many connections it made.
    pub connections: u32,
    /// Whether a socket is open now.
    pub connected: bool,
    /// Where it came from last.
    pub peer: String,
    /// First bytes, as hex.
    pub first_bytes_hex: String,
}

/// Why an on-demand read brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The slot-ledger reason, with detail.
    #[error("{}{}", .reason.as_str(), .detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
    Missed {
        /// Why.
        reason: MissReason,
        /// More.
        detail: Option<String>,
    },
    /// The front end does not know the meter (yet).
    #[error("the front end does not know this meter")]
    UnknownMeter,
    /// Too many reads wait already.
    #[error("too many reads are waiting; try again later")]
    Busy,
}

/// What `/metrics`, `/readyz` and `/summary` want to know at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetCounts {
    /// DTUs known.
    pub dtus: u64,
    /// DTUs online.
    pub online: u64,
    /// Meters known.
    pub meters: u64,
    /// SNs in quarantine.
    pub quarantine: u64,
}

/// A meter as its line knows it now.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterOnLine {
    /// The meter.
    pub meter: MeterId,
    /// Its breaker is open: it has not answered lately, and is only probed.
    pub breaker_open: bool,
    /// When the next probe may go.
    pub probe_at: Option<DateTime<Utc>>,
    /// The time-out it is asked with, beside the line time of question and answer.
    pub timeout: Duration,
    /// Whether that is longer than what is configured, because the meter needs it.
    pub timeout_learned: bool,
    /// How long it thinks before it answers, smoothed, with the way to the line.
    pub turnaround: Option<Duration>,
    /// The rest it gets behind its answers.
    pub rest: Duration,
    /// The part of the last hour for which its questions held the line, 0 to 1.
    pub share: f64,
    /// What one visit for all of its model takes.
    pub visit: Option<Duration>,
    /// How far its clock was ahead of ours (negative: behind), and when that was seen.
    pub clock: Option<(TimeDelta, DateTime<Utc>)>,
}

/// A line: its meters, and the time that their schedules need.
#[derive(Clone, Debug, PartialEq)]
pub struct LineState {
    /// Its meters, by id.
    pub meters: Vec<MeterOnLine>,
    /// What their schedules need in the coming day.
    pub plan: LinePlan,
}

/// The running front end.
#[async_trait]
pub trait Fleet: Send + Sync + 'static {
    /// Live state of these DTUs, in the same order.
    async fn live(&self, dtus: &[DtuId]) -> Vec<DtuLive>;

    /// The quarantine, newest first, at most 10,000.
    async fn quarantine(&self) -> Vec<QuarantineEntry>;

    /// The directory changed for this DTU (made, edited, claimed, deleted, meters or schedules changed): load it anew.
    /// A waiting quarantined connection with its SN is adopted. Returns when the change is in force.
    async fn reload(&self, dtu: DtuId);

    /// The directory changed at large (an account's schedule, a rule): load all anew.
    async fn reload_all(&self);

    /// Reads a meter now, ahead of schedules; empty `quantities`: all of its model. The reading is durable when this
    /// returns.
    ///
    /// # Errors
    /// [`ReadFailure`] with the reason.
    async fn read(&self, meter: MeterId, quantities: Vec<Quantity>, deadline: Duration)
    -> Result<Reading, ReadFailure>;

    /// Looks for meters on the DTU's line, in its idle time; `tell` hears often how far it is. Dropping the future ends
    /// the scan.
    ///
    /// # Errors
    /// [`ScanFailure`]; what was found by then has been told.
    async fn scan(&self, dtu: DtuId, plan: ScanPlan, tell: ScanTeller) -> Result<(), ScanFailure>;

    /// The line of a DTU; none where the front end does not know it (yet).
    async fn line(&self, dtu: DtuId) -> Option<LineState>;

    /// Counts over the whole server or one account.
    async fn counts(&self, account: Option<AccountId>) -> FleetCounts;
}
