//! Settings of terminals: profiles of what is wanted, runs that read, compare and write, and what each terminal said last.
//!
//! A run reads and compares. It writes nothing until somebody who saw what differs says so; then it writes that and nothing else.

use crate::base::ids::DtuId;
pub use crate::device::parameter::{catalogue, find};
use crate::domain::parameter::{Parameter, ParameterAsk, ParameterOutcome, ParameterValue};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A wanted setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedParameter {
    /// Its name, as `/parameters` has it.
    #[schema(example = "events_important")]
    pub name: String,
    /// Of which measuring point or task; 0, or left out: of the terminal.
    #[serde(default)]
    #[schema(maximum = 2040)]
    pub number: u16,
    /// What is wanted.
    pub value: ParameterValue,
}

/// A terminal profile: settings that are wanted of many.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TerminalProfile {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Of which terminals.
    #[schema(example = "gdw376.1")]
    pub protocol: String,
    /// What is wanted.
    pub parameters: Vec<WantedParameter>,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Counts changes; the ETag.
    pub version: i32,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It reads and compares.
    Comparing,
    /// It has; what differs can be written.
    Compared,
    /// It writes what differed.
    Writing,
    /// Everything was written that could be.
    Done,
    /// Somebody ended it.
    Cancelled,
    /// The server was restarted meanwhile.
    Interrupted,
}

impl RunState {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Comparing => "comparing",
            Self::Compared => "compared",
            Self::Writing => "writing",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// Finds a state by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        [
            Self::Comparing,
            Self::Compared,
            Self::Writing,
            Self::Done,
            Self::Cancelled,
            Self::Interrupted,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
    }
}

/// How a terminal of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Its turn has not come.
    Waiting,
    /// It is asked, or written to.
    Running,
    /// It was read; nothing is wanted of it.
    Read,
    /// It is as wanted.
    Same,
    /// It is not as wanted.
    Differs,
    /// It does not have a setting that is wanted.
    Absent,
    /// A setting is another than it was compared; that one was not written.
    Changed,
    /// It was written, and read back it is as wanted.
    Written,
    /// It refused a setting.
    Refused,
    /// It did not refuse, and read back a setting is otherwise.
    Otherwise,
    /// A setting was written, and could not be read back.
    Unknown,
    /// It did not answer.
    NoAnswer,
    /// It has no session, or lost it; `reason` says what was open.
    Offline,
    /// It could not be asked: it is none, or of another protocol, or its line was never idle.
    Failed,
    /// Somebody ended the run before its turn.
    Cancelled,
    /// The server was restarted, or somebody ended the run, while it was asked. What was being written may be written.
    Interrupted,
}

impl EntryState {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Waiting,
        Self::Running,
        Self::Read,
        Self::Same,
        Self::Differs,
        Self::Absent,
        Self::Changed,
        Self::Written,
        Self::Refused,
        Self::Otherwise,
        Self::Unknown,
        Self::NoAnswer,
        Self::Offline,
        Self::Failed,
        Self::Cancelled,
        Self::Interrupted,
    ];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Read => "read",
            Self::Same => "same",
            Self::Differs => "differs",
            Self::Absent => "absent",
            Self::Changed => "changed",
            Self::Written => "written",
            Self::Refused => "refused",
            Self::Otherwise => "otherwise",
            Self::Unknown => "unknown",
            Self::NoAnswer => "no_answer",
            Self::Offline => "offline",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// Finds a state by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl From<ParameterOutcome> for EntryState {
    fn from(outcome: ParameterOutcome) -> Self {
        match outcome {
            ParameterOutcome::Read => Self::Read,
            ParameterOutcome::Same => Self::Same,
            ParameterOutcome::Differs => Self::Differs,
            ParameterOutcome::Absent => Self::Absent,
            ParameterOutcome::Silent => Self::NoAnswer,
            ParameterOutcome::Changed => Self::Changed,
            ParameterOutcome::Written => Self::Written,
            ParameterOutcome::Refused => Self::Refused,
            ParameterOutcome::Otherwise => Self::Otherwise,
            ParameterOutcome::Unknown => Self::Unknown,
        }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ParameterRun {
    /// Its id; ids grow with time.
    #[schema(value_type = String, format = Uuid)]
    pub id: Uuid,
    /// The protocol of its names.
    pub protocol: String,
    /// The profile that it is of, as it was when the run began; null: of one terminal, by name.
    pub profile_id: Option<i32>,
    /// How it stands.
    pub state: RunState,
    /// Terminals by how they stand.
    pub terminals: BTreeMap<String, i64>,
    /// Who began it.
    pub requested_by: String,
    /// Who had it written.
    pub written_by: Option<String>,
    /// Begun.
    pub created_at: DateTime<Utc>,
    /// When everything was read and compared.
    pub compared_at: Option<DateTime<Utc>>,
    /// Ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A terminal of a run.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RunEntry {
    /// The terminal.
    #[schema(value_type = i32)]
    pub dtu_id: DtuId,
    /// How it stands.
    pub state: EntryState,
    /// Why it came to no end.
    pub reason: Option<String>,
    /// Its settings, and what became of each.
    pub parameters: Vec<Parameter>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A setting as a terminal said it last.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct KnownParameter {
    /// Its name.
    pub name: String,
    /// Of which measuring point or task; 0: of the terminal.
    pub number: u16,
    /// What it was.
    pub value: ParameterValue,
    /// When it said so.
    pub read_at: DateTime<Utc>,
}

/// A run to be begun.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Its id.
    pub id: Uuid,
    /// The protocol of the names.
    pub protocol: String,
    /// The profile.
    pub profile: Option<i32>,
    /// What is asked.
    pub asks: Vec<ParameterAsk>,
    /// Of whom.
    pub dtus: Vec<DtuId>,
}

/// The profiles, runs and settings of one account.
#[async_trait]
pub trait ParameterStore: Send + Sync {
    /// Profiles by id, behind one.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn profiles(&self, after: Option<i32>, limit: u32) -> Result<Vec<TerminalProfile>, StoreError>;

    /// A profile.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn profile(&self, id: i32) -> Result<TerminalProfile, StoreError>;

    /// Makes a profile.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn create_profile(
        &self,
        name: &str,
        protocol: &str,
        parameters: &[WantedParameter],
        now: DateTime<Utc>,
    ) -> Result<TerminalProfile, StoreError>;

    /// Gives a profile another name and other settings.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn edit_profile(
        &self,
        id: i32,
        name: &str,
        parameters: &[WantedParameter],
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<TerminalProfile, StoreError>;

    /// Deletes a profile; its runs stay.
    ///
    /// # Errors
    /// As above.
    async fn delete_profile(&self, id: i32, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// What a terminal said last, by name and number, behind one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a DTU of another account.
    async fn known(
        &self,
        dtu: DtuId,
        after: Option<(String, u16)>,
        limit: u32,
    ) -> Result<Vec<KnownParameter>, StoreError>;

    /// Begins a run; its terminals wait.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a DTU that is not there.
    async fn create_run(&self, run: &NewRun, now: DateTime<Utc>) -> Result<ParameterRun, StoreError>;

    /// Runs, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn runs(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<ParameterRun>, StoreError>;

    /// A run.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn run(&self, id: Uuid) -> Result<ParameterRun, StoreError>;

    /// Terminals of a run by id, behind one, in one state or any.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn entries(
        &self,
        id: Uuid,
        state: Option<EntryState>,
        after: Option<DtuId>,
        limit: u32,
    ) -> Result<Vec<RunEntry>, StoreError>;

    /// What a run asks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn asks(&self, id: Uuid) -> Result<Vec<ParameterAsk>, StoreError>;

    /// A terminal's turn has come; false: it does not wait any more.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn begin_entry(&self, id: Uuid, dtu: DtuId) -> Result<bool, StoreError>;

    /// A terminal's turn is over. What was read is kept as what the terminal said last; what was written is in the audit.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn end_entry(&self, id: Uuid, entry: &RunEntry, wrote: bool, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Everything was read and compared, or written.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn end_phase(&self, id: Uuid, now: DateTime<Utc>) -> Result<ParameterRun, StoreError>;

    /// What differs is to be written: puts into the audit what exactly, before any of it is, and lets those terminals wait
    /// anew. They are given back.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a run that is not compared, or where nothing differs.
    async fn begin_write(&self, id: Uuid, now: DateTime<Utc>) -> Result<Vec<RunEntry>, StoreError>;

    /// Ends a run: whoever waits is cancelled, whoever is asked is interrupted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn cancel(&self, id: Uuid, now: DateTime<Utc>) -> Result<ParameterRun, StoreError>;
}

/// All runs, for the server itself.
#[async_trait]
pub trait ParameterHouse: Send + Sync {
    /// Tells of the runs that the process before left open that they were interrupted. How many there were.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn interrupt(&self, now: DateTime<Utc>) -> Result<u64, StoreError>;
}
