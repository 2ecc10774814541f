//! The seams of control: where the desk writes commands down ([`CommandLog`]), what the API asks of the desk
//! ([`Control`]), and what it may look at and edit within an account ([`CommandStore`]).

use crate::base::ids::{AccountId, CommandId, DtuId, GroupId, MeterId, UserId};
use crate::domain::command::brake::Trip;
use crate::domain::command::{Action, Approval, Command, Denied, Edge, Person, Policy, Site, State, Target};
use crate::port::scope::{Actor, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// The most meters of one request.
pub const BATCH_MAX: usize = 10_000;

// ---- what the desk writes down

/// What the desk takes up from an earlier process.
#[derive(Clone, Debug, Default)]
pub struct Resumed {
    /// The high-water mark of time: the stored one or the latest edge.
    pub mark: Option<DateTime<Utc>>,
    /// Commands that are open.
    pub open: Vec<Command>,
    /// Trips since the instant asked for.
    pub trips: Vec<Trip>,
    /// Emergency stops in force.
    pub stops: Vec<Stop>,
}

/// An emergency stop in force.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Stop {
    /// Whose; null: the whole server.
    #[schema(value_type = Option<i32>)]
    pub account_id: Option<AccountId>,
    /// Why.
    pub reason: String,
    /// Since when.
    pub began_at: DateTime<Utc>,
    /// Who.
    pub began_by: String,
}

/// What is known of the meters and people of a request, or of a command that is about to be sent.
#[derive(Clone, Debug, Default)]
pub struct FactSheet {
    /// The account's policy.
    pub policy: Policy,
    /// Its time zone.
    pub zone: String,
    /// That of the first meter's DTU, if it has its own.
    pub meter_zone: Option<String>,
    /// The meters that are there, as they stand now, with their places.
    pub meters: Vec<(Target, Site)>,
    /// The people asked for, as they stand now.
    pub people: Vec<Person>,
}

/// A command to be made, with the edge that it takes at once, if any.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// The meter as it stands.
    pub target: Target,
    /// Held or rejected from the start, and what is said of it.
    pub first: Option<(Edge, Value)>,
}

/// A request as it is written down.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Its id.
    pub id: Uuid,
    /// Whose meters.
    pub account: AccountId,
    /// Who asks.
    pub actor: Actor,
    /// Who asks.
    pub requested_by: UserId,
    /// The client's key.
    pub key: Option<String>,
    /// The schedule, if one asked.
    pub schedule: Option<i32>,
    /// What the key is compared by.
    pub request_hash: [u8; 32],
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// When, on the clock that never goes back.
    pub requested_at: DateTime<Utc>,
    /// Until when, on that clock.
    pub expires_at: DateTime<Utc>,
    /// Wall time.
    pub wall_at: DateTime<Utc>,
    /// The commands.
    pub commands: Vec<NewCommand>,
    /// Meters for which there is none, and why.
    pub refused: Vec<Refused>,
}

/// A meter of a request for which there is no command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Refused {
    /// Which.
    #[schema(value_type = i32)]
    pub meter_id: MeterId,
    /// A name for the reason: `unknown_meter`, `not_supported`, `relay_busy`, `invalid`.
    pub reason: String,
    /// In words.
    pub detail: String,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The request's id.
    pub batch: Uuid,
    /// Its commands as they stand.
    pub commands: Vec<Command>,
    /// Meters without one.
    pub refused: Vec<Refused>,
    /// The same request had come before under this key.
    pub repeated: bool,
}

/// An edge as it is written down.
#[derive(Clone, Debug)]
pub struct Step {
    /// The command behind the edge; its version is one more than the stored one's.
    pub after: Command,
    /// Who.
    pub actor: Actor,
    /// When, on the clock that never goes back.
    pub at: DateTime<Utc>,
    /// Wall time.
    pub wall_at: DateTime<Utc>,
    /// What is said of it in history and audit.
    pub detail: Value,
    /// The approval, if the edge is one.
    pub approval: Option<Approval>,
    /// The trip to be counted, if the edge permits one.
    pub trip: Option<Trip>,
}

/// A schedule of commands that the desk runs.
#[derive(Clone, Debug, PartialEq)]
pub struct DueSchedule {
    /// Its id.
    pub id: i32,
    /// Whose.
    pub account: AccountId,
    /// When.
    pub cron: String,
    /// In which zone.
    pub time_zone: String,
    /// What.
    pub action: Action,
    /// On which meters.
    pub meters: Vec<MeterId>,
    /// How long each command may wait.
    pub expires_in_s: u32,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub requested_by: UserId,
    /// How the audit names them.
    pub requested_as: String,
    /// Who else approved it.
    pub approved_by: Option<UserId>,
    /// Runs due up to here are over.
    pub done_until: DateTime<Utc>,
}

/// Where the desk writes commands down. Every method is one transaction, audited; what it returned `Ok` for is durable.
#[async_trait]
pub trait CommandLog: Send + Sync + 'static {
    /// What an earlier process left, with the trips since `since`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn resume(&self, since: DateTime<Utc>) -> Result<Resumed, StoreError>;

    /// What is known of meters and people now.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn facts(&self, account: AccountId, meters: &[MeterId], people: &[UserId]) -> Result<FactSheet, StoreError>;

    /// Makes the commands of a request. Meters whose relay has an open command are refused. A key that came before
    /// gives the commands of then.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Invalid`] at `Idempotency-Key` when the key came with another request.
    async fn admit(&self, batch: NewBatch) -> Result<Admitted, StoreError>;

    /// An open command as it is stored; none: it is not open.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load(&self, command: CommandId) -> Result<Option<Command>, StoreError>;

    /// Takes an edge.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Stale`] when the stored command has another version.
    async fn step(&self, step: Step) -> Result<(), StoreError>;

    /// Keeps the high-water mark of time; it only grows.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn keep_mark(&self, mark: DateTime<Utc>) -> Result<(), StoreError>;

    /// Begins an emergency stop; one that is in force stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn begin_stop(&self, stop: &Stop, actor: &Actor) -> Result<(), StoreError>;

    /// Ends an emergency stop; false: there was none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn end_stop(&self, account: Option<AccountId>, actor: &Actor, now: DateTime<Utc>)
    -> Result<bool, StoreError>;

    /// The schedules that are in force.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn schedules(&self) -> Result<Vec<DueSchedule>, StoreError>;

    /// Runs of a schedule due up to `until` are over. Call it before they begin: a run is lost rather than doubled.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn schedule_done(&self, schedule: i32, until: DateTime<Utc>) -> Result<(), StoreError>;
}

// ---- what the API asks of the desk

/// A request for commands.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandRequest {
    /// What to do.
    pub action: Action,
    /// On which meters.
    pub meters: Vec<MeterId>,
    /// How long a command may wait before it is sent, seconds.
    pub expires_in_s: u32,
    /// Why.
    pub reason: String,
    /// The client's key.
    pub key: Option<String>,
}

/// Why the desk did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Control is switched off in the configuration.
    #[error("control is switched off in this server's configuration")]
    Disabled,
    /// An emergency stop is in force.
    #[error("an emergency stop is in force")]
    Stopped,
    /// The person may not.
    #[error("{0}")]
    Denied(Denied),
    /// The command does not stand where this is possible.
    #[error("{0}")]
    NotNow(String),
    /// A wrong value.
    #[error("{field}: {message}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// Too much is under way.
    #[error("the desk is busy")]
    Busy,
    /// It could not be written down, so it was not done.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a person decides about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Approve,
    /// No.
    Reject,
    /// Who asked, or another who may, withdraws it.
    Cancel,
}

/// The desk.
#[async_trait]
pub trait Control: Send + Sync {
    /// Asks for commands.
    ///
    /// # Errors
    /// [`ControlError`]; then there are none.
    async fn request(&self, scope: Scope, request: CommandRequest) -> Result<Admitted, ControlError>;

    /// Decides about a command. `digest`: what the person saw ([`Command::digest`] as hex), if they say so.
    ///
    /// # Errors
    /// [`ControlError`]; then it stands where it stood.
    async fn decide(
        &self,
        scope: Scope,
        command: CommandId,
        decision: Decision,
        digest: Option<String>,
    ) -> Result<State, ControlError>;

    /// Stops everything of an account, or of the server: from the answer on no frame of a command begins.
    ///
    /// # Errors
    /// [`ControlError`]; the stop is in force all the same until the process ends, it is only not written down.
    async fn stop(&self, account: Option<AccountId>, actor: Actor, reason: String) -> Result<(), ControlError>;

    /// Ends an emergency stop; false: there was none.
    ///
    /// # Errors
    /// [`ControlError`].
    async fn resume(&self, account: Option<AccountId>, actor: Actor) -> Result<bool, ControlError>;

    /// The stops that concern an account; without an account: all.
    async fn stops(&self, account: Option<AccountId>) -> Vec<Stop>;
}

// ---- what is shown and edited within an account

/// One edge of a command's history.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct HistoryEdge {
    /// Where it led.
    pub state: State,
    /// When.
    pub at: DateTime<Utc>,
    /// Who: an e-mail address, or `control-desk`.
    pub actor: String,
    /// What is said of it.
    #[schema(value_type = Object)]
    pub detail: Value,
}

/// A command as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CommandView {
    /// Its id.
    #[schema(value_type = i64)]
    pub id: CommandId,
    /// The meter.
    #[schema(value_type = i32)]
    pub meter_id: MeterId,
    /// Its name.
    pub meter_name: String,
    /// Its DTU when the command was asked for.
    #[schema(value_type = i32)]
    pub dtu_id: DtuId,
    /// Its address when the command was asked for.
    pub address: String,
    /// What to do.
    pub action: String,
    /// The action's parameters, if it has any.
    #[schema(value_type = Object)]
    pub parameters: Value,
    /// Where it stands.
    pub state: State,
    /// Why it was asked for.
    pub reason: String,
    /// Who asked.
    pub requested_by: String,
    /// Id of the person who asked.
    #[schema(value_type = i32)]
    pub requested_by_id: UserId,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// It is not sent from then on.
    pub expires_at: DateTime<Utc>,
    /// When its frame was permitted.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it is held, if it was: `four_eyes`, `brake_account`, `brake_total`, `brake_dtu`.
    pub holds: Vec<String>,
    /// How many people have to approve it.
    pub approvals_needed: u8,
    /// How many have.
    pub approvals: u8,
    /// What the last edge said.
    #[schema(value_type = Option<Object>)]
    pub outcome: Value,
    /// The request that it came with.
    #[schema(value_type = String)]
    pub batch_id: Uuid,
    /// The schedule that asked for it.
    pub schedule_id: Option<i32>,
    /// What an approval is bound to, as hex: send it with `/approve` to approve exactly what you saw.
    pub digest: String,
    /// Its history, oldest first; with one command alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<HistoryEdge>>,
}

/// Which commands are wanted; none: does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandFilter {
    /// In one of these states.
    pub states: Vec<State>,
    /// Of this meter.
    pub meter: Option<MeterId>,
    /// Of this request.
    pub batch: Option<Uuid>,
}

/// A protection of a meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ProtectionView {
    /// The meter.
    #[schema(value_type = i32)]
    pub meter_id: MeterId,
    /// Why.
    pub kind: crate::domain::command::ProtectionKind,
    /// In words.
    pub note: String,
    /// Until when; null: until somebody ends it.
    pub until: Option<DateTime<Utc>>,
}

/// A schedule of commands.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ControlSchedule {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// When, as a cron expression.
    pub cron: String,
    /// In which zone.
    pub time_zone: String,
    /// What, with its parameters.
    #[schema(value_type = Object)]
    pub action: Action,
    /// On which meters.
    #[schema(value_type = Vec<i32>)]
    pub meter_ids: Vec<MeterId>,
    /// And on those of this group.
    #[schema(value_type = Option<i32>)]
    pub group_id: Option<GroupId>,
    /// How long each command may wait, seconds.
    pub expires_in_s: u32,
    /// Why.
    pub reason: String,
    /// Whether it runs.
    pub enabled: bool,
    /// Who answers for it: who wrote it last.
    pub requested_by: String,
    /// Id of who approved it; an edit needs a new approval.
    #[schema(value_type = Option<i32>)]
    pub approved_by_id: Option<UserId>,
    /// Its version.
    pub version: i32,
}

/// A schedule of commands to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlScheduleForm {
    /// Its name.
    pub name: String,
    /// When.
    pub cron: String,
    /// In which zone.
    pub time_zone: String,
    /// What.
    pub action: Action,
    /// On which meters.
    pub meters: Vec<MeterId>,
    /// And on those of this group.
    pub group: Option<GroupId>,
    /// How long each command may wait, seconds.
    pub expires_in_s: u32,
    /// Why.
    pub reason: String,
    /// Whether it runs.
    pub enabled: bool,
}

/// Commands, policy, protections and schedules of one account.
#[async_trait]
pub trait CommandStore: Send + Sync {
    /// Newest first, older than `before`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(
        &self,
        filter: &CommandFilter,
        before: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<CommandView>, StoreError>;

    /// One command with its history.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, command: CommandId) -> Result<CommandView, StoreError>;

    /// How many commands wait for people.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn pending_approvals(&self) -> Result<i64, StoreError>;

    /// The policy and its version; the default has version 0.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn policy(&self) -> Result<(Policy, i32), StoreError>;

    /// Writes the policy.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Stale`] when it has another version.
    async fn set_policy(&self, policy: &Policy, version: Option<i32>, now: DateTime<Utc>) -> Result<i32, StoreError>;

    /// Tells the outside temperature, °C.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn set_celsius(&self, celsius: rust_decimal::Decimal, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Protected meters.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn protections(&self) -> Result<Vec<ProtectionView>, StoreError>;

    /// Protects a meter.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn protect(&self, protection: &ProtectionView, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Ends a protection.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn unprotect(&self, meter: MeterId, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Meters of a group and of the groups below it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn meters_of_group(&self, group: GroupId) -> Result<Vec<MeterId>, StoreError>;

    /// Schedules of commands, or one of them.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn schedules(&self, only: Option<i32>) -> Result<Vec<ControlSchedule>, StoreError>;

    /// Writes a schedule: a new one, or that one with this version. Its approval is void then.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn write_schedule(
        &self,
        id: Option<(i32, i32)>,
        form: &ControlScheduleForm,
        now: DateTime<Utc>,
    ) -> Result<i32, StoreError>;

    /// Another person approves a schedule as it stands.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Conflict`] for who wrote it.
    async fn approve_schedule(&self, id: i32, version: i32, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Deletes a schedule.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn delete_schedule(&self, id: i32, now: DateTime<Utc>) -> Result<(), StoreError>;
}
