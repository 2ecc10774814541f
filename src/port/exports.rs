//! Exports: what an account asks to have written into a file, the job that does it, and where the file is.
//!
//! The desk runs jobs; the books (`ExportBook`, `ExportHouse`) remember them over a restart.

use crate::base::ids::{AccountId, DtuId, GroupId, MeterId, UserId};
use crate::port::readings::Per;
use crate::port::scope::{Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use uuid::Uuid;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportKind {
    /// Values that meters read, one a row.
    Readings,
    /// Consumption per hour, day or month.
    Consumption,
    /// Due slots and how they ended.
    Slots,
    /// Alarms.
    Alarms,
    /// The audit.
    Audit,
}

impl ExportKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Readings,
        Self::Consumption,
        Self::Slots,
        Self::Alarms,
        Self::Audit,
    ];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Consumption => "consumption",
            Self::Slots => "slots",
            Self::Alarms => "alarms",
            Self::Audit => "audit",
        }
    }

    /// Finds a kind by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The form of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// Comma-separated values (RFC 4180), UTF-8.
    Csv,
    /// A workbook (ECMA-376).
    Xlsx,
}

impl ExportFormat {
    /// The name in the API and the database, and the ending of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
        }
    }

    /// Finds a format by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Csv, Self::Xlsx]
            .into_iter()
            .find(|format| format.as_str() == name)
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        }
    }
}

/// What is wanted, checked: nothing in it is a default any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExportAsk {
    /// What.
    pub kind: ExportKind,
    /// In which form.
    pub format: ExportFormat,
    /// From (included).
    pub from: DateTime<Utc>,
    /// To (excluded).
    pub to: DateTime<Utc>,
    /// The zone in which times are written.
    #[schema(value_type = String, example = "Europe/Berlin")]
    pub time_zone: Tz,
    /// Only of these meters; empty: all.
    #[schema(value_type = Vec<i32>)]
    pub meter_ids: Vec<MeterId>,
    /// Only of meters (consumption: points) directly in this group.
    #[schema(value_type = Option<i32>)]
    pub group_id: Option<GroupId>,
    /// Only behind this DTU.
    #[schema(value_type = Option<i32>)]
    pub dtu_id: Option<DtuId>,
    /// Only these quantities; empty: all.
    pub quantities: Vec<String>,
    /// The slices of a consumption.
    pub per: Per,
    /// A CSV file begins with a byte order mark, by which spreadsheet programs know UTF-8.
    pub bom: bool,
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportState {
    /// It waits for its turn.
    Waiting,
    /// It is written.
    Running,
    /// The file can be fetched.
    Done,
    /// It came to no end; `reason` says why.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// The file was there and is gone: too old, or deleted.
    Expired,
}

impl ExportState {
    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Finds a state by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        [
            Self::Waiting,
            Self::Running,
            Self::Done,
            Self::Failed,
            Self::Cancelled,
            Self::Expired,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
    }

    /// Whether nothing more comes of it.
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ExportJob {
    /// Its id; ids grow with time.
    #[schema(value_type = String, format = Uuid)]
    pub id: Uuid,
    /// What is wanted.
    pub ask: ExportAsk,
    /// How it stands.
    pub state: ExportState,
    /// Rows written, without headings.
    pub rows: i64,
    /// Bytes of the file; of a workbook known at its end.
    pub bytes: i64,
    /// Why it failed or is gone.
    pub reason: Option<String>,
    /// SHA-256 of the file, as hex.
    pub sha256: Option<String>,
    /// Who asked: an e-mail address.
    pub requested_by: String,
    /// Their id.
    #[schema(value_type = Option<i32>)]
    pub user_id: Option<UserId>,
    /// Asked for.
    pub created_at: DateTime<Utc>,
    /// Begun.
    pub began_at: Option<DateTime<Utc>>,
    /// Ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When the file is deleted.
    pub expires_at: Option<DateTime<Utc>>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportEnd {
    /// In which state.
    pub state: ExportState,
    /// Why, if not done.
    pub reason: Option<String>,
    /// Rows written.
    pub rows: i64,
    /// Bytes of the file.
    pub bytes: i64,
    /// SHA-256 of the file, as hex.
    pub sha256: Option<String>,
    /// When the file is deleted.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The jobs of one account.
#[async_trait]
pub trait ExportBook: Send + Sync {
    /// Writes down a wish, and that somebody had it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn create(&self, id: Uuid, ask: &ExportAsk, now: DateTime<Utc>) -> Result<ExportJob, StoreError>;

    /// The newest first, of these kinds, older than `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, kinds: &[ExportKind], before: Option<Uuid>, limit: u32) -> Result<Vec<ExportJob>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: Uuid) -> Result<ExportJob, StoreError>;

    /// Notes that the file was fetched.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn fetched(&self, id: Uuid, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Ends a job that has not ended (`cancelled`), or the life of its file (`expired`); the job as it is then. One
    /// that ended otherwise stays as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn give_up(&self, id: Uuid, now: DateTime<Utc>) -> Result<ExportJob, StoreError>;

    /// A run begins; how many there were with it. None: the job has ended meanwhile.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn begin(&self, id: Uuid, now: DateTime<Utc>) -> Result<Option<i16>, StoreError>;

    /// How far the run is; false: the job has ended meanwhile, and so shall the run.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn progress(&self, id: Uuid, rows: i64, bytes: i64) -> Result<bool, StoreError>;

    /// The run ended so. None: the job had ended before (somebody gave it up), which stands.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn end(&self, id: Uuid, end: &ExportEnd, now: DateTime<Utc>) -> Result<Option<ExportJob>, StoreError>;
}

/// All jobs, for the desk itself.
#[async_trait]
pub trait ExportHouse: Send + Sync {
    /// Jobs that have not ended, the oldest first: those of the process before.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn unfinished(&self) -> Result<Vec<(AccountId, ExportJob)>, StoreError>;

    /// Ends the life of files that are too old, and forgets jobs that were asked for before `forget`. The ids and
    /// sizes of files that are kept.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sweep(&self, now: DateTime<Utc>, forget: DateTime<Utc>) -> Result<Vec<(Uuid, i64)>, StoreError>;
}

/// Why the desk takes no job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportRefused {
    /// The account has as many as it may.
    #[error("{0} exports of this account are under way; wait for one to end, or cancel it")]
    AccountFull(usize),
    /// The server has as many as it takes.
    #[error("{0} exports are under way on this server")]
    ServerFull(usize),
    /// The files that are kept fill their share of the disk.
    #[error("the exports that are kept fill their {0} bytes; delete some, or wait until they expire")]
    FolderFull(u64),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs exports.
#[async_trait]
pub trait ExportDesk: Send + Sync {
    /// Takes a job; it runs when its turn comes.
    ///
    /// # Errors
    /// [`ExportRefused`].
    async fn ask(&self, scope: Scope, ask: ExportAsk) -> Result<ExportJob, ExportRefused>;

    /// Cancels a job, or deletes its file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn give_up(&self, scope: Scope, id: Uuid) -> Result<ExportJob, StoreError>;

    /// Where the file of a done job lies.
    fn file(&self, job: &ExportJob) -> PathBuf;
}
