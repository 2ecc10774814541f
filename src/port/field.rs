//! The field's seam: how polls reach a line, and how sessions are admitted. `net/` implements [`Link`], `actor/`
//! implements [`Registrar`]; neither knows the other.

use crate::base::ids::{AccountId, ConnectionId, DtuId, FrameRange, SessionId};
use crate::domain::device::{DtuRecord, SerialNumber};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use crate::exchange::job::{Effect, PollJob, PollOutcome, Priority, TransactionError, TransactionReport};
pub use crate::exchange::proxy::ReportedRow;
pub use crate::exchange::trunk::PointRow;

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The session ended before the job began.
    #[error("the session has ended")]
    Closed,
    /// The line's queue is full.
    #[error("the line's queue is full")]
    Busy,
}

/// Why a session ended. A closed list: it is a metric label and a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The peer closed.
    PeerClosed,
    /// The socket failed.
    SocketError,
    /// Nothing came within the silence limit.
    Silence,
    /// No registration in time.
    NoRegistration,
    /// The registration was not acceptable.
    BadRegistration,
    /// A newer session with the same SN took over.
    Replaced,
    /// The DTU was disabled or deleted.
    Disabled,
    /// Quarantine is full.
    QuarantineFull,
    /// It connected again and again within a minute and is refused for a while.
    Flapping,
    /// Too many time-outs in a row.
    DeadLine,
    /// The peer sends more than its budget.
    Flood,
    /// The peer does not read.
    WriteStalled,
    /// The server stops.
    Shutdown,
    /// The connection's owner failed; the log has more.
    Internal,
}

impl EndCause {
    /// The name in the API, the database and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::SocketError => "socket_error",
            Self::Silence => "silence",
            Self::NoRegistration => "no_registration",
            Self::BadRegistration => "bad_registration",
            Self::Replaced => "replaced",
            Self::Disabled => "disabled",
            Self::QuarantineFull => "quarantine_full",
            Self::Flapping => "flapping",
            Self::DeadLine => "dead_line",
            Self::Flood => "flood",
            Self::WriteStalled => "write_stalled",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }
}

/// What the recogniser and the session learned of a DTU; shown in the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// Framing: `transparent`, `hongdian_ddp`, `four_faith_prot`.
    pub framing: String,
    /// How the SN was said, e.g. `ascii_once`, `ascii_every_packet`, `hex_once`, `imei`, `iccid`, `mac`, `custom`.
    pub registration: String,
    /// The registration package as hex.
    pub registration_hex: String,
    /// Heartbeat packages seen, as hex; at most 4.
    pub heartbeats_hex: Vec<String>,
    /// Observed heartbeat interval, seconds.
    pub heartbeat_interval_s: Option<u32>,
}

/// Live counters of a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkStats {
    /// Bytes received and sent.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Answered transactions.
    pub answers: u64,
    /// Transactions without an answer.
    pub timeouts: u64,
    /// Frames that were nobody's answer.
    pub strays: u64,
    /// Noise bytes.
    pub noise_bytes: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Smoothed round trip, milliseconds.
    pub round_trip_ms: Option<u32>,
    /// When the last byte came.
    pub last_heard_at: Option<DateTime<Utc>>,
    /// Jobs waiting for the line.
    pub queued: usize,
    /// What was learned.
    pub learned: Learned,
}

/// The way to one connection. Cheap to clone behind an `Arc`.
#[async_trait]
pub trait Link: Send + Sync {
    /// Runs a job; resolves exactly once. Waits for its turn; refuses when the bounded queue is full.
    ///
    /// # Errors
    /// [`LinkError`] when the job was not begun.
    async fn poll(&self, job: PollJob) -> Result<PollOutcome, LinkError>;

    /// Tells a quarantined connection that its SN now belongs to a DTU: from now on it takes jobs.
    fn adopt(&self, owner: Owner);

    /// Ends the connection with a cause; idempotent.
    fn close(&self, cause: EndCause);

    /// The counters now.
    fn stats(&self) -> LinkStats;
}

/// What a connection may do.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The session's id.
    pub session: SessionId,
    /// The DTU.
    pub dtu: DtuId,
    /// Its account.
    pub account: AccountId,
    /// Silence limit.
    pub silence: Duration,
    /// Default pause between a reply and the next request.
    pub pause: Duration,
    /// The registration profile that the directory pins; none: that of the listener, or what was learned.
    pub profile: Option<String>,
}

/// A connection that has said who it is.
#[derive(Clone)]
pub struct Hello {
    /// The connection.
    pub connection: ConnectionId,
    /// Its SN.
    pub sn: SerialNumber,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The first bytes, at most 64.
    pub first_bytes: Vec<u8>,
    /// What the recogniser learned.
    pub learned: Learned,
    /// The way to it.
    pub link: Arc<dyn Link>,
}

/// The registry's verdict.
#[derive(Clone, Debug)]
pub enum Admission {
    /// It is the DTU's session now; an older one is being closed.
    Owner(Owner),
    /// Unknown SN: wait, visible and claimable, until adopted or closed.
    Quarantined {
        /// How long the socket may stay silent.
        silence: Duration,
    },
    /// Close it with this cause.
    Refused(EndCause),
}

/// What a terminal reported of its own accord of meters behind it.
#[derive(Clone, Debug)]
pub struct FieldReport {
    /// The terminal.
    pub dtu: DtuId,
    /// What it says of which meter.
    pub rows: Vec<ReportedRow>,
    /// What it says of measuring points, where it is a concentrator of Q/GDW 1376.1.
    pub points: Vec<PointRow>,
    /// When it came, our clock.
    pub read_at: DateTime<Utc>,
    /// The raw frame.
    pub frames: FrameRange,
}

/// What became of a report. Durable when it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportKept {
    /// Readings that it made.
    pub readings: usize,
    /// Rows that are of no meter of the terminal's, of no possible moment, or hold nothing that the meter's model has.
    pub left: usize,
}

/// Nothing, or not all, of a report could be made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the report is not kept: {0}")]
pub struct ReportLost(pub String);

/// Who decides about sessions.
#[async_trait]
pub trait Registrar: Send + Sync {
    /// A connection said its SN.
    async fn introduce(&self, hello: Hello) -> Admission;

    /// A connection that we made ourselves (dialled, Modbus TCP, serial) is up for this DTU.
    async fn connected(
        &self,
        connection: ConnectionId,
        dtu: DtuId,
        peer: Option<SocketAddr>,
        link: Arc<dyn Link>,
    ) -> Admission;

    /// The owner of a session reported something of its own accord. It is confirmed to it behind the answer, when nothing of
    /// it was left.
    ///
    /// # Errors
    /// [`ReportLost`]: some of it may be durable; the same report again makes no second reading of that.
    async fn reported(&self, report: FieldReport) -> Result<ReportKept, ReportLost>;

    /// The connection is gone.
    fn ended(&self, connection: ConnectionId, cause: EndCause, stats: LinkStats);
}

/// A DTU that we have to reach ourselves, for `net`'s dialler.
pub type DialTarget = DtuRecord;
