//! What the API looks at and edits of an account's rules ([`AlarmRuleStore`]), and the past that a rule is tried on.

use super::{HourValue, MeterFact};
use crate::base::ids::{AlarmRuleId, GroupId, MeterId};
use crate::domain::alarm::Severity;
use crate::domain::alarm::rule::{Check, Scope};
use crate::domain::quantity::Quantity;
use crate::port::ledger::PollRecord;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use std::collections::BTreeSet;

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
