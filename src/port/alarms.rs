//! The seams of alarms: what the alarm actor finds and writes down ([`AlarmLog`]), and what the API looks at and edits
//! within an account ([`AlarmStore`], [`AlarmRuleStore`]).

mod log;
mod rules;

pub use log::{
    AlarmLog, CommandFact, ConflictFact, DtuFact, HourValue, HoursAsked, LastRegister, MeterFact, OpenAlarm, Resumed,
    Settled, Settlement, SlotShare, TerminalEventFact, Topology, WatchState,
};
pub use rules::{AlarmRuleForm, AlarmRuleStore, AlarmRuleVersion, AlarmRuleView, Past, PastAsked};

use crate::base::ids::{AccountId, AlarmId, AlarmRuleId, DtuId, GroupId, MeterId};
use crate::domain::alarm::{AlarmEdge, AlarmKind, AlarmStep, Detail, Severity};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Where an alarm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// Open, and nobody has looked at it.
    Raised,
    /// Open, and somebody takes care of it.
    Acknowledged,
    /// Open, and put aside until a time.
    Shelved,
    /// Over.
    Cleared,
}

/// An alarm as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AlarmView {
    /// Its id.
    #[schema(value_type = i64)]
    pub id: AlarmId,
    /// Whose; null: the server's.
    #[schema(value_type = Option<i32>)]
    pub account_id: Option<AccountId>,
    /// What is wrong.
    pub kind: AlarmKind,
    /// How much it matters.
    pub severity: Severity,
    /// Where it stands.
    pub state: AlarmState,
    /// What is wrong, in an English sentence.
    pub sentence: String,
    /// What is known of the cause.
    pub detail: Detail,
    /// The DTU that it is about.
    #[schema(value_type = Option<i32>)]
    pub dtu_id: Option<DtuId>,
    /// Its name.
    pub dtu_name: Option<String>,
    /// The meter that it is about.
    #[schema(value_type = Option<i32>)]
    pub meter_id: Option<MeterId>,
    /// Its name.
    pub meter_name: Option<String>,
    /// The account's rule; null: a built-in one.
    #[schema(value_type = Option<i32>)]
    pub rule_id: Option<AlarmRuleId>,
    /// The alarm of which this one is a consequence.
    #[schema(value_type = Option<i64>)]
    pub parent_id: Option<AlarmId>,
    /// DTUs that this one alarm stands for.
    pub victims: i64,
    /// Of them not back.
    pub victims_open: i64,
    /// How often it came, counting those so soon after each other that they are one alarm.
    pub occurrences: i32,
    /// Raised.
    pub raised_at: DateTime<Utc>,
    /// The instant of the data that raised it.
    pub cause_at: DateTime<Utc>,
    /// Acknowledged.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// By whom.
    pub acknowledged_by: Option<String>,
    /// Put aside until.
    pub shelved_until: Option<DateTime<Utc>>,
    /// By whom.
    pub shelved_by: Option<String>,
    /// Over.
    pub cleared_at: Option<DateTime<Utc>>,
    /// By whom; `alarms`: it is right again.
    pub cleared_by: Option<String>,
    /// Grows with every step; also the `ETag`.
    pub version: i32,
}

/// A step of an alarm as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AlarmStepView {
    /// What happened.
    pub step: AlarmStep,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What they said.
    pub note: String,
    /// It was not forwarded.
    pub quiet: bool,
}

/// A DTU that an alarm stands for.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct VictimView {
    /// Which.
    #[schema(value_type = i32)]
    pub dtu_id: DtuId,
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it was over.
    pub back_at: Option<DateTime<Utc>>,
}

/// Which alarms are wanted. Empty: all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlarmFilter {
    /// In one of these states; `open` stands for all but cleared.
    pub states: Vec<AlarmState>,
    /// Of these kinds.
    pub kinds: Vec<AlarmKind>,
    /// At least this severe.
    pub severity: Option<Severity>,
    /// About this DTU or its meters.
    pub dtu: Option<DtuId>,
    /// About this meter.
    pub meter: Option<MeterId>,
    /// About meters of this group and the groups below it.
    pub group: Option<GroupId>,
    /// Consequences of this alarm.
    pub parent: Option<AlarmId>,
    /// Leave consequences of other alarms out.
    pub causes_only: bool,
    /// Raised at or after.
    pub from: Option<DateTime<Utc>>,
    /// Raised before.
    pub to: Option<DateTime<Utc>>,
}

/// What a person does with an alarm.
#[derive(Clone, Debug, PartialEq)]
pub enum AlarmDeed {
    /// Takes care of it.
    Acknowledge,
    /// Says something.
    Comment,
    /// Puts it aside until then.
    Shelve(DateTime<Utc>),
    /// Takes it back from there.
    Unshelve,
    /// Says that it is over.
    Clear,
}

/// Alarms of an account, or of all and the server's for role `platform`.
#[async_trait]
pub trait AlarmStore: Send + Sync {
    /// The newest first, behind `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(
        &self,
        filter: &AlarmFilter,
        after: Option<AlarmId>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<AlarmView>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: AlarmId, now: DateTime<Utc>) -> Result<AlarmView, StoreError>;

    /// Its steps, the oldest first, the last thousand of them.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn steps(&self, id: AlarmId) -> Result<Vec<AlarmStepView>, StoreError>;

    /// The DTUs that it stands for, behind `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn victims(&self, id: AlarmId, after: Option<DtuId>, limit: u32) -> Result<Vec<VictimView>, StoreError>;

    /// Open alarms that are no consequence of another one.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn open_count(&self) -> Result<i64, StoreError>;

    /// Does it, with a note. Doing again what is done changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`]; [`StoreError::Conflict`] when the alarm is cleared.
    async fn act(
        &self,
        id: AlarmId,
        deed: &AlarmDeed,
        note: &str,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<AlarmEdge, StoreError>;
}
