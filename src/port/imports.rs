//! Imports: DTUs, meters and groups from a file that somebody sends, the job that does it, and what is wrong with the file.
//!
//! A [`SheetReader`] makes rows of text of a file, the API judges them by the same rules as single requests, and the
//! [`ImportBook`] writes what is left in one transaction, or nothing.

use crate::base::ids::{DtuId, GroupId, MeterId, ScheduleId, UserId};
use crate::port::dtus::{Dtu, DtuEdit, NewDtu};
use crate::port::meters::{MeterEdit, NewMeter};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportKind {
    /// DTUs.
    Dtus,
    /// Meters.
    Meters,
    /// Groups of meters.
    Groups,
}

impl ImportKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dtus, Self::Meters, Self::Groups];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dtus => "dtus",
            Self::Meters => "meters",
            Self::Groups => "groups",
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
pub enum ImportFormat {
    /// Text, its cells parted by commas, semicolons or tabs.
    Csv,
    /// A workbook; its first sheet is read.
    Xlsx,
}

impl ImportFormat {
    /// The name in the API and the database.
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
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// It waits for its turn.
    Waiting,
    /// It is being read, judged or written.
    Running,
    /// Everything is imported; of a dry run: everything could be.
    Done,
    /// The file has faults. Nothing was written.
    Faulty,
    /// It came to no end; `reason` says why. Nothing was written.
    Failed,
}

impl ImportState {
    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Faulty => "faulty",
            Self::Failed => "failed",
        }
    }

    /// Finds a state by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Running, Self::Done, Self::Faulty, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportAsk {
    /// What is in the file.
    pub kind: ImportKind,
    /// Its form.
    pub format: ImportFormat,
    /// Nothing is written; the job says what would be.
    pub dry_run: bool,
    /// Number cells of a workbook in columns of serial numbers and addresses are taken as they stand.
    pub numbers_as_text: bool,
    /// The character set of a CSV file, if it was named.
    pub charset: Option<String>,
    /// Bytes of the file.
    pub bytes: i64,
    /// SHA-256 of the file, as hex.
    pub sha256: String,
}

/// One wrong thing in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportFault {
    /// The row, as a spreadsheet program counts: the heading is row 1. Null: the file as a whole.
    #[schema(example = 17)]
    pub row: Option<u32>,
    /// The column, by its heading.
    #[schema(example = "ct_ratio")]
    pub column: Option<String>,
    /// What stands there, its first 100 characters.
    #[schema(example = "40,5")]
    pub value: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// One thing that the file changes: its columns with what they were and will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportChange {
    /// The row.
    pub row: u32,
    /// The id of the DTU or meter.
    pub id: i32,
    /// What it was and what it will be, by column.
    #[schema(value_type = std::collections::BTreeMap<String, Vec<String>>)]
    pub columns: BTreeMap<String, [String; 2]>,
}

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportTally {
    /// Rows with anything in them, without the heading.
    pub rows: i64,
    /// Of these, how many were looked at.
    pub rows_checked: i64,
    /// How many things are made; of a dry run: would be, were there no faults.
    pub made: i64,
    /// How many are changed.
    pub changed: i64,
    /// How many are left as they are.
    pub unchanged: i64,
    /// How many faults there are in all.
    pub faults_total: i64,
    /// The first of them by row; at most `imports.faults_max`.
    pub faults: Vec<ImportFault>,
    /// The first changes by row, at most 100.
    pub changes: Vec<ImportChange>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ImportJob {
    /// Its id; ids grow with time.
    #[schema(value_type = String, format = Uuid)]
    pub id: Uuid,
    /// What is wanted.
    pub ask: ImportAsk,
    /// How it stands.
    pub state: ImportState,
    /// Why it failed.
    pub reason: Option<String>,
    /// What was found. In lists without faults and changes.
    #[serde(flatten)]
    pub tally: ImportTally,
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
}

/// What a cell is besides its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// A text, as it stands.
    Text,
    /// A number of a workbook; zeros in front are lost, and digits behind the fifteenth.
    Number,
    /// A date or time of a workbook; the text is its number.
    Date,
    /// A truth value of a workbook.
    Bool,
    /// An error such as `#N/A`.
    Error,
    /// A formula whose value was not stored.
    Unvalued,
    /// A text with more characters than a cell may have; the text is its beginning.
    TooLong,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What stands there, without blanks around it.
    pub text: String,
    /// What it is.
    pub kind: CellKind,
}

impl Cell {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self {
            text: text.trim().to_owned(),
            kind: CellKind::Text,
        }
    }

    /// Nothing.
    pub fn empty() -> Self {
        Self::text("")
    }

    /// Whether nothing stands there.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.kind == CellKind::Text
    }
}

/// A row that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SheetRow {
    /// Its number as a spreadsheet program counts, from 1.
    pub number: u32,
    /// Its cells.
    pub cells: Vec<Cell>,
    /// A row of a CSV file has exactly as many cells as were written; a workbook leaves blank ones out.
    pub exact: bool,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// The first row that is not blank.
    pub heading: SheetRow,
    /// The others.
    pub rows: Vec<SheetRow>,
}

/// Makes rows of files. Bounded in bytes, rows, columns and lengths whatever the file is.
pub trait SheetReader: Send + Sync {
    /// Reads a file. Blocking: it takes as long as the file is long.
    ///
    /// # Errors
    /// What is wrong with the file as a whole.
    fn read(&self, file: &[u8], format: ImportFormat, charset: Option<&str>) -> Result<Sheet, ImportFault>;

    /// A workbook with a sheet of this name and these headings, its columns formatted as text.
    ///
    /// # Errors
    /// When it cannot be written; the text is for the log.
    fn template(&self, sheet: &str, columns: &[&str]) -> Result<Vec<u8>, String>;
}

/// A meter as it is known, for comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownMeter {
    /// Its id.
    pub id: MeterId,
    /// Its version.
    pub version: i32,
    /// Its DTU.
    pub dtu: DtuId,
    /// Protocol name.
    pub protocol: String,
    /// Address in its canonical form.
    pub address: String,
    /// Model name.
    pub model: String,
    /// Name.
    pub name: String,
    /// Remark.
    pub comment: String,
    /// Group.
    pub group: Option<GroupId>,
    /// Current transformer ratio.
    pub ct_ratio: Decimal,
    /// Voltage transformer ratio.
    pub vt_ratio: Decimal,
    /// Its own schedules.
    pub schedules: Vec<ScheduleId>,
}

/// What rows can name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// DTUs by id: serial number and name.
    pub dtus: Vec<(DtuId, Option<String>, String)>,
    /// Groups by id: name and parent.
    pub groups: Vec<(GroupId, String, Option<GroupId>)>,
    /// Schedules by id: name.
    pub schedules: Vec<(ScheduleId, String)>,
}

/// Where a new group is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupParent {
    /// Nowhere: it is a root.
    None,
    /// Below a group that is there.
    Known(GroupId),
    /// Below the group that this step of the plan makes.
    Step(usize),
}

/// A new group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGroup {
    /// Its name.
    pub name: String,
    /// Where it is put.
    pub parent: GroupParent,
}

/// What a row asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<I, N, E> {
    /// Something new.
    Make(N),
    /// A change of what has this id and this version.
    Change(I, i32, E),
}

/// The steps of a file, each with its row. Rows that change nothing are left out.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportPlan {
    /// DTUs.
    Dtus(Vec<(u32, Step<DtuId, NewDtu, DtuEdit>)>),
    /// Meters.
    Meters(Vec<(u32, Step<MeterId, NewMeter, MeterEdit>)>),
    /// Groups, parents before what is below them; what is there is not changed.
    Groups(Vec<(u32, NewGroup)>),
}

/// What became of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is written, and the job is done; or it could be written, of a dry run. The DTUs that the front end has to load
    /// anew.
    All(Vec<DtuId>),
    /// Rows that the database refuses, by column. Nothing is written.
    Refused(Vec<(u32, &'static str, String)>),
    /// What the plan was made from is not as it was. Nothing is written.
    Moved,
    /// The job has ended meanwhile. Nothing is written.
    Ended,
}

/// The jobs of one account, and what they write.
#[async_trait]
pub trait ImportBook: Send + Sync {
    /// Writes down a wish, and that somebody had it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn create(&self, id: Uuid, ask: &ImportAsk, now: DateTime<Utc>) -> Result<ImportJob, StoreError>;

    /// The newest first, older than `before`; without faults and changes.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<ImportJob>, StoreError>;

    /// One, with its faults and changes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: Uuid) -> Result<ImportJob, StoreError>;

    /// How far a run is; the first call begins it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn progress(&self, id: Uuid, tally: &ImportTally, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// The run ended without writing. None: the job had ended before, which stands.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn end(
        &self,
        id: Uuid,
        state: ImportState,
        reason: Option<&str>,
        tally: &ImportTally,
        now: DateTime<Utc>,
    ) -> Result<Option<ImportJob>, StoreError>;

    /// What rows can name.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn known(&self) -> Result<Known, StoreError>;

    /// The DTUs of these ids.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn dtus(&self, ids: &[DtuId], now: DateTime<Utc>) -> Result<Vec<Dtu>, StoreError>;

    /// The meters behind these DTUs.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn meters(&self, dtus: &[DtuId]) -> Result<Vec<KnownMeter>, StoreError>;

    /// Writes a plan in one transaction, with its audit and the end of the job; of a dry run everything is taken back
    /// again, so that it finds what a run would find.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    async fn apply(
        &self,
        id: Uuid,
        plan: &ImportPlan,
        dry_run: bool,
        tally: &ImportTally,
        now: DateTime<Utc>,
    ) -> Result<Applied, StoreError>;
}

/// All jobs, for the desk itself.
#[async_trait]
pub trait ImportHouse: Send + Sync {
    /// Ends jobs that a process before this one left behind: those that were asked for before `marker` was made. How
    /// many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn abandon(&self, marker: Uuid, reason: &str, now: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Forgets jobs that were asked for before `forget`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sweep(&self, forget: DateTime<Utc>) -> Result<(), StoreError>;
}
