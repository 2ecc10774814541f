//! The durable path: spool in front, PostgreSQL behind. A poll is answered with a receipt, and only the sink can make one.

use crate::base::ids::{AccountId, DtuId, MeterId, SessionId};
use crate::domain::reading::Reading;
use crate::domain::slot::SlotEnding;
use crate::port::frames::RecordedFrame;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What one poll leaves behind, durable in one piece.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PollRecord {
    /// The reading, if any value came.
    pub reading: Option<Reading>,
    /// Endings of slots that are not simply their on-time reading.
    pub endings: Vec<SlotEnding>,
    /// Frames that go to PostgreSQL as evidence (failures, strays).
    pub evidence: Vec<RecordedFrame>,
}

/// Why a record was not made durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The spool is at its capacity or the disk is full.
    #[error("the spool is full: {0}")]
    Full(String),
    /// The disk failed; nothing more is acknowledged until a restart.
    #[error("the spool failed: {0}")]
    Failed(String),
    /// The record is larger than a spool record can be; it will never fit.
    #[error("a record of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The server stops.
    #[error("the spool is closed")]
    Closed,
}

/// Where polls become durable.
pub trait ReadingSink: Send + Sync + 'static {
    /// Proof that a record is on stable storage. Only the implementation can make one.
    type Receipt: Send + Sync + 'static;

    /// Resolves after the fsync that covers the record.
    ///
    /// # Errors
    /// [`SinkError`]; the record is then not durable and must not be shown.
    fn append(&self, record: PollRecord) -> impl Future<Output = Result<Self::Receipt, SinkError>> + Send;
}

/// A position in the spool up to which everything is committed elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpoolPosition {
    /// Segment number.
    pub segment: u64,
    /// Byte offset behind the last covered record.
    pub offset: u64,
}

/// The drain side of the spool. One reader.
#[async_trait]
pub trait SpoolDrain: Send + 'static {
    /// The next durable records, oldest first, at most `records_max`; waits until there is at least one. None: closed
    /// and empty.
    ///
    /// # Errors
    /// [`SinkError::Failed`] when the disk cannot be read.
    async fn next(&mut self, records_max: usize) -> Result<Option<(Vec<PollRecord>, SpoolPosition)>, SinkError>;

    /// Everything before `position` is committed: persist the cursor, then delete covered segments.
    ///
    /// # Errors
    /// [`SinkError::Failed`] when the cursor cannot be persisted; the records will be replayed, which is harmless.
    async fn committed(&mut self, position: SpoolPosition) -> Result<(), SinkError>;

    /// Records not yet committed.
    fn backlog(&self) -> u64;
}

/// What writing a batch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteReport {
    /// New readings (rows).
    pub inserted: u64,
    /// Equal rows that were there already.
    pub duplicates: u64,
    /// Different values under an existing key, kept in `reading_conflict`.
    pub conflicts: u64,
    /// Rows that the database refuses whatever we do, kept in `reading_rejected` with the reason.
    pub rejected: u64,
}

/// Why a batch could not be written now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreUnavailable {
    /// What happened.
    pub message: String,
    /// The same can succeed later, unchanged.
    pub passing: bool,
    /// One of the rows is at fault, and not the database: it will not take that one whenever it is offered.
    pub of_rows: bool,
}

/// The storage actor's view of PostgreSQL, with the `ingest` role.
#[async_trait]
pub trait ReadingStore: Send + Sync + 'static {
    /// Writes all records, idempotently: readings by key, endings as versions, latest values. All but the latest values is one
    /// transaction.
    ///
    /// # Errors
    /// [`StoreUnavailable`]: nothing was committed, or nobody knows whether it was; give the same again later.
    async fn write(&self, records: &[PollRecord]) -> Result<WriteReport, StoreUnavailable>;

    /// Makes the partitions for the days around `now` and drops what retention has ended.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn maintain(&self, now: DateTime<Utc>) -> Result<(), StoreUnavailable>;

    /// Brings hourly and daily consumption up to date for points whose readings changed, in these hours.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn roll_up(&self, now: DateTime<Utc>, hours: Hours) -> Result<u64, StoreUnavailable>;
}

/// Which hours a roll-up is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// Every hour that changed.
    All,
    /// Those that have ended. The running one changes with every poll, and has no figures before it has ended.
    Ended,
}

/// A session's row in history.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
    /// The DTU.
    pub dtu: DtuId,
    /// Its account.
    pub account: AccountId,
    /// Where it came from.
    pub peer: String,
    /// Began.
    pub began_at: DateTime<Utc>,
    /// Ended, with the cause's name; none: open.
    pub ended: Option<(DateTime<Utc>, String)>,
    /// Counters at the end.
    pub stats: crate::port::field::LinkStats,
}

/// Which slots since the watermark have an ending already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSlot {
    /// The meter.
    pub meter: MeterId,
    /// The due time.
    pub due_at: DateTime<Utc>,
    /// The schedule, when the ending is a row of its own; none: the scheduled reading, which ends all slots of the
    /// meter at that instant.
    pub schedule: Option<crate::base::ids::ScheduleId>,
}

/// The front end's own bookkeeping in PostgreSQL.
#[async_trait]
pub trait SlotLedger: Send + Sync + 'static {
    /// The instant before which every slot has an ending; none on a fresh database.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn watermark(&self) -> Result<Option<DateTime<Utc>>, StoreUnavailable>;

    /// Moves the watermark forward (never back).
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn set_watermark(&self, at: DateTime<Utc>) -> Result<(), StoreUnavailable>;

    /// The endings of slots due at or after `since`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn ended_since(&self, since: DateTime<Utc>) -> Result<Vec<EndedSlot>, StoreUnavailable>;

    /// Writes or ends rows of sessions, all or none; an end that came first stays. What was learned of a DTU outlives them, as the last one says.
    /// Sessions left open by a killed server are ended at start with `server_down`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn save_sessions(&self, rows: &[SessionRow]) -> Result<(), StoreUnavailable>;

    /// Ends the sessions that a previous process left open.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn end_orphan_sessions(&self, at: DateTime<Utc>) -> Result<u64, StoreUnavailable>;
}

/// Where DTUs and meters are looked up, across accounts (the front end serves all of them).
#[async_trait]
pub trait DeviceDirectory: Send + Sync + 'static {
    /// Every DTU with its meters and their schedules.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn load_all(&self) -> Result<Vec<crate::domain::device::DtuRecord>, StoreUnavailable>;

    /// One DTU; none when it is gone.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn load(&self, dtu: DtuId) -> Result<Option<crate::domain::device::DtuRecord>, StoreUnavailable>;
}
