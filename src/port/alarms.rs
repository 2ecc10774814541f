//! The seams of alarms: what the alarm actor finds and writes down ([`AlarmLog`]), and what the API looks at and edits
//! within an account ([`AlarmStore`], [`AlarmRuleStore`]).

use crate::base::ids::{AccountId, AlarmId, AlarmRuleId, CommandId, DtuId, GroupId, MeterId, PointId};
use crate::domain::alarm::rule::{Check, Rule, Scope};
use crate::domain::alarm::{AlarmEdge, AlarmKind, AlarmStep, Change, Detail, Severity, Subject};
use crate::domain::quantity::Quantity;
use crate::port::ledger::{PollRecord, StoreUnavailable};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

// ---- the actor's side

/// An open alarm, as the actor has to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAlarm {
    /// Its id.
    pub id: AlarmId,
    /// Whose.
    pub account: Option<AccountId>,
    /// Its key's text.
    pub key: String,
    /// What is wrong.
    pub kind: AlarmKind,
    /// With what.
    pub subject: Subject,
    /// By which rule; none: a built-in one.
    pub rule: Option<AlarmRuleId>,
    /// Since when.
    pub raised_at: DateTime<Utc>,
    /// The DTUs that it stands for and that are not back.
    pub victims: BTreeSet<DtuId>,
}

/// What is under way of a meter's judgement: opaque to the store.
pub type WatchState = serde_json::Value;

/// What an earlier process left.
#[derive(Clone, Debug, Default)]
pub struct Resumed {
    /// Alarms that are open.
    pub open: Vec<OpenAlarm>,
    /// What is under way, by meter.
    pub watches: HashMap<MeterId, WatchState>,
    /// Readings received before this have been judged; none: a fresh database.
    pub mark: Option<DateTime<Utc>>,
    /// The registers of every meter as they were last judged.
    pub registers: HashMap<MeterId, Vec<LastRegister>>,
}

/// What a register showed last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastRegister {
    /// Which.
    pub quantity: Quantity,
    /// When it was read.
    pub at: DateTime<Utc>,
    /// What it showed.
    pub value: rust_decimal::Decimal,
}

/// A DTU as alarms see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DtuFact {
    /// Which.
    pub id: DtuId,
    /// Whose.
    pub account: AccountId,
    /// Since when it has had a session; none: it has none.
    pub up_since: Option<DateTime<Utc>>,
    /// Since when it has had none; none: it has one, or never had.
    pub down_since: Option<DateTime<Utc>>,
}

/// A meter as alarms see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeterFact {
    /// Which.
    pub id: MeterId,
    /// Whose.
    pub account: AccountId,
    /// Its DTU.
    pub dtu: DtuId,
    /// Its group.
    pub group: Option<GroupId>,
    /// Where it stands now.
    pub point: Option<PointId>,
}

/// Everything that rules apply to.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Accounts with their zones.
    pub accounts: BTreeMap<AccountId, String>,
    /// Groups with what they are part of.
    pub groups: HashMap<GroupId, Option<GroupId>>,
    /// DTUs that are enabled.
    pub dtus: Vec<DtuFact>,
    /// Meters.
    pub meters: HashMap<MeterId, MeterFact>,
    /// Holidays of calendars.
    pub holidays: HashMap<i32, BTreeSet<NaiveDate>>,
    /// Rules of accounts.
    pub rules: Vec<Rule>,
}

/// Consumption of one hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HourValue {
    /// When it began.
    pub start: DateTime<Utc>,
    /// In the register's unit.
    pub value: f64,
}

/// Which hours are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct HoursAsked {
    /// Of which register.
    pub quantity: Quantity,
    /// Of which points.
    pub points: Vec<PointId>,
    /// Which hours, by their starts.
    pub starts: Vec<DateTime<Utc>>,
}

/// How slots of a group of meters ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotShare {
    /// Slots.
    pub slots: i64,
    /// With a value.
    pub collected: i64,
}

/// A command that somebody has to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandFact {
    /// Which.
    pub id: CommandId,
    /// Whose.
    pub account: AccountId,
    /// Its meter.
    pub meter: MeterId,
    /// The meter's DTU.
    pub dtu: DtuId,
    /// What it does.
    pub action: String,
    /// Where it stands.
    pub state: String,
    /// Held by the brake.
    pub braked: bool,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Another value that came under a taken key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConflictFact {
    /// Whose.
    pub account: AccountId,
    /// Of which meter.
    pub meter: MeterId,
    /// How many.
    pub count: u64,
    /// The newest of them, when it was found.
    pub found_at: DateTime<Utc>,
}

/// What the actor writes down in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// What is under way now, of the meters where it changed; none: nothing any more.
    pub watches: Vec<(MeterId, AccountId, Option<WatchState>)>,
    /// The mark, if it moved.
    pub mark: Option<DateTime<Utc>>,
}

/// What it came to.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The steps, as they were written.
    pub edges: Vec<AlarmEdge>,
    /// Alarms that are open now and were not, by account and key.
    pub opened: Vec<OpenAlarm>,
    /// Alarms that are not open any more.
    pub closed: Vec<(Option<AccountId>, String)>,
}

/// The actor's view of PostgreSQL, with the `ingest` role.
#[async_trait]
pub trait AlarmLog: Send + Sync + 'static {
    /// What an earlier process left.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn resume(&self) -> Result<Resumed, StoreUnavailable>;

    /// Everything that rules apply to, as it is now.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn topology(&self) -> Result<Topology, StoreUnavailable>;

    /// The alarms that are open now: people clear some.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn open(&self) -> Result<Vec<OpenAlarm>, StoreUnavailable>;

    /// Writes changes and what is under way down, in one transaction. Raising what is open, or by data that have been
    /// judged for that key, does nothing; so does clearing what is not open.
    ///
    /// # Errors
    /// [`StoreUnavailable`]: nothing was written.
    async fn settle(&self, settlement: &Settlement, now: DateTime<Utc>) -> Result<Settled, StoreUnavailable>;

    /// Reminds of alarms of at least this severity that nobody has acknowledged or shelved since `before`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn remind(&self, before: DateTime<Utc>, now: DateTime<Utc>) -> Result<Vec<AlarmEdge>, StoreUnavailable>;

    /// Stored readings and slot endings received at or after `since`, the oldest first, at most so many.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn judged_again(&self, since: DateTime<Utc>, max: u32) -> Result<Vec<PollRecord>, StoreUnavailable>;

    /// Whole hours of consumption that are wanted and there.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn hours(&self, asked: &HoursAsked) -> Result<HashMap<PointId, Vec<HourValue>>, StoreUnavailable>;

    /// How the slots of an account due since `since` ended.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn slots(&self, account: AccountId, since: DateTime<Utc>) -> Result<SlotShare, StoreUnavailable>;

    /// Commands that are unknown or held by the brake, and reconnections that failed or expired since `since`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn commands(&self, since: DateTime<Utc>) -> Result<Vec<CommandFact>, StoreUnavailable>;

    /// Conflicts found since `since`.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    async fn conflicts(&self, since: DateTime<Utc>) -> Result<Vec<ConflictFact>, StoreUnavailable>;
}

// ---- what the API shows and edits

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

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmRuleForm {
    /// Its name.
    pub name: String,
    /// Where.
    pub scope: Scope,
    /// Whether it raises; off, it quiets.
    pub enabled: bool,
    /// How much its alarms matter.
    pub severity: Severity,
    /// What is judged.
    pub check: Check,
}

/// A rule as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AlarmRuleView {
    /// Its id; null: built in.
    #[schema(value_type = Option<i32>)]
    pub id: Option<AlarmRuleId>,
    /// Its name.
    pub name: String,
    /// Only for meters of this group and the groups below it.
    #[schema(value_type = Option<i32>)]
    pub group_id: Option<GroupId>,
    /// Only for this meter.
    #[schema(value_type = Option<i32>)]
    pub meter_id: Option<MeterId>,
    /// Whether it raises; off, it quiets what a less specific rule would say.
    pub enabled: bool,
    /// How much its alarms matter.
    pub severity: Severity,
    /// What is judged.
    pub check: Check,
    /// Made; null: built in.
    pub created_at: Option<DateTime<Utc>>,
    /// Grows with every edit; also the `ETag`. 0: built in.
    pub version: i32,
}

/// What a rule said when.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AlarmRuleVersion {
    /// Which version.
    pub version: i32,
    /// In force from.
    pub valid_from: DateTime<Utc>,
    /// In force until; null: still.
    pub valid_to: Option<DateTime<Utc>>,
    /// Who wrote it.
    pub actor: String,
    /// Its name.
    pub name: String,
    /// Only for meters of this group and the groups below it.
    #[schema(value_type = Option<i32>)]
    pub group_id: Option<GroupId>,
    /// Only for this meter.
    #[schema(value_type = Option<i32>)]
    pub meter_id: Option<MeterId>,
    /// Whether it raised.
    pub enabled: bool,
    /// How much its alarms mattered.
    pub severity: Severity,
    /// What was judged.
    pub check: Check,
}

/// What a rule is tried on: a meter's past.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The meter.
    pub fact: Option<MeterFact>,
    /// Its readings and slot endings, the oldest first.
    pub records: Vec<PollRecord>,
    /// Its whole hours of consumption, the oldest first.
    pub hours: Vec<HourValue>,
    /// The zone of its account.
    pub zone: String,
    /// The holidays of the calendar that was asked for.
    pub holidays: BTreeSet<NaiveDate>,
}

/// Which past is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct PastAsked {
    /// Of which meter.
    pub meter: MeterId,
    /// From when.
    pub from: DateTime<Utc>,
    /// Until when.
    pub to: DateTime<Utc>,
    /// With readings and endings, at most so many of each.
    pub records_max: u32,
    /// With hours of this register, from so much earlier on.
    pub hours_of: Option<(Quantity, chrono::TimeDelta)>,
    /// With the holidays of this calendar.
    pub calendar: Option<i32>,
}

/// Rules of an account.
#[async_trait]
pub trait AlarmRuleStore: Send + Sync {
    /// By id, behind `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, after: Option<AlarmRuleId>, limit: u32) -> Result<Vec<AlarmRuleView>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: AlarmRuleId) -> Result<AlarmRuleView, StoreError>;

    /// What it said when, the newest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn versions(&self, id: AlarmRuleId) -> Result<Vec<AlarmRuleVersion>, StoreError>;

    /// Makes one.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a group, meter or calendar that is not there; [`StoreError::Conflict`] when there
    /// are too many.
    async fn create(&self, form: &AlarmRuleForm, now: DateTime<Utc>) -> Result<AlarmRuleView, StoreError>;

    /// Writes it anew, whole.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Invalid`].
    async fn update(
        &self,
        id: AlarmRuleId,
        form: &AlarmRuleForm,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<AlarmRuleView, StoreError>;

    /// Deletes it; what it raised stays until it is right again or cleared.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn delete(&self, id: AlarmRuleId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// The meters of a group and the groups below it, or of the account; at most so many.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a group or meter that is not there.
    async fn meters(&self, scope: Scope, max: u32) -> Result<Vec<MeterId>, StoreError>;

    /// A meter's past.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a meter that is not there.
    async fn past(&self, asked: &PastAsked) -> Result<Past, StoreError>;
}
