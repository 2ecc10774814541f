//! Meters and metering points of an account: the directory as people edit it.

use crate::base::ids::{DtuId, GroupId, MeterId, PointId, ScheduleId};
use crate::domain::quantity::Quantity;
use crate::port::schedules::ScheduleSpec;
use crate::port::scope::StoreError;
use crate::port::slots::SlotTally;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a meter does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeterState {
    /// Never read yet.
    New,
    /// Its newest slot or read brought values.
    Ok,
    /// Its newest slot is missing.
    Failing,
    /// It was replaced by another meter; its history stays.
    Removed,
}

impl MeterState {
    /// The name in the API and in the store's queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Removed => "removed",
        }
    }

    /// Finds a state by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::New, Self::Ok, Self::Failing, Self::Removed]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// Where a meter's schedules come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleOrigin {
    /// Its own.
    Meter,
    /// Its DTU's.
    Dtu,
    /// Its account's.
    Account,
    /// None: it is read on demand only.
    None,
}

/// A meter.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Meter {
    /// Its id.
    #[schema(value_type = i32)]
    pub id: MeterId,
    /// The DTU behind which it hangs.
    #[schema(value_type = i32)]
    pub dtu_id: DtuId,
    /// The protocol's name.
    #[schema(example = "modbus-rtu")]
    pub protocol: String,
    /// Its address in the protocol's own form.
    #[schema(example = "1")]
    pub address: String,
    /// Its model in the catalogue.
    pub model: String,
    /// Its name.
    pub name: String,
    /// A remark.
    pub comment: String,
    /// Its group.
    #[schema(value_type = Option<i32>)]
    pub group_id: Option<GroupId>,
    /// The metering point where it stands (or stood last).
    #[schema(value_type = Option<i32>)]
    pub point_id: Option<PointId>,
    /// Current transformer ratio, a decimal string.
    #[schema(value_type = String, example = "1")]
    pub ct_ratio: Decimal,
    /// Voltage transformer ratio, a decimal string.
    #[schema(value_type = String, example = "1")]
    pub vt_ratio: Decimal,
    /// The schedules that apply to it now.
    #[schema(value_type = Vec<i32>)]
    pub schedules: Vec<ScheduleId>,
    /// Where they come from.
    pub schedules_from: ScheduleOrigin,
    /// How it does.
    pub state: MeterState,
    /// When values came last.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    pub version: i32,
}

/// A schedule of a meter or DTU as it is given: one that exists, or one made in place.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleChoice {
    /// One that exists.
    Existing(ScheduleId),
    /// One to be made in the same transaction.
    InPlace(ScheduleSpec),
}

/// A new meter, checked against the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMeter {
    /// The DTU.
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
    /// Its own schedules; empty: those of its DTU or account.
    pub schedules: Vec<ScheduleChoice>,
    /// Current transformer ratio.
    pub ct_ratio: Decimal,
    /// Voltage transformer ratio.
    pub vt_ratio: Decimal,
    /// The point where it stands; none: a new one is made with the meter's name.
    pub point: Option<PointId>,
}

/// What an edit changes; what is none stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeterEdit {
    /// Another DTU.
    pub dtu: Option<DtuId>,
    /// Another protocol.
    pub protocol: Option<String>,
    /// Another address.
    pub address: Option<String>,
    /// Another model.
    pub model: Option<String>,
    /// Another name.
    pub name: Option<String>,
    /// Another remark.
    pub comment: Option<String>,
    /// Another group, or none.
    pub group: Option<Option<GroupId>>,
    /// Other schedules of its own; empty: those of its DTU or account.
    pub schedules: Option<Vec<ScheduleChoice>>,
    /// Another current transformer ratio, from now on (a new installation of the same meter at the same point).
    pub ct_ratio: Option<Decimal>,
    /// Another voltage transformer ratio, from now on.
    pub vt_ratio: Option<Decimal>,
}

/// Registers by quantity, as they were read off at an instant.
pub type Registers = BTreeMap<Quantity, Decimal>;

/// A meter that takes another's place.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterExchange {
    /// When.
    pub at: DateTime<Utc>,
    /// The registers of the old meter at that instant.
    pub closing: Registers,
    /// The new meter; its point is the old one's.
    pub new_meter: NewMeter,
    /// The new meter takes over the old one's own schedules, and has none of its own.
    pub keep_schedules: bool,
    /// The registers of the new meter at that instant.
    pub opening: Registers,
}

/// Which meters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeterQuery {
    /// In name, comment, address, model or the DTU's SN, without regard to case.
    pub text: Option<String>,
    /// Behind this DTU.
    pub dtu: Option<DtuId>,
    /// In this group.
    pub group: Option<GroupId>,
    /// In this state; none: all but removed ones.
    pub state: Option<MeterState>,
    /// Behind this id.
    pub after: Option<MeterId>,
    /// At most so many.
    pub limit: u32,
}

/// What an edit of the directory left behind, and which DTUs the front end has to load anew.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterChange {
    /// The meter as it is now.
    pub meter: Meter,
    /// The DTUs concerned.
    pub dtus: Vec<DtuId>,
}

/// How communication with a meter goes.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Communication {
    /// When values came last.
    pub last_success_at: Option<DateTime<Utc>>,
    /// The due time of the newest slot that is missing.
    pub last_miss_at: Option<DateTime<Utc>>,
    /// Its reason.
    pub last_miss_reason: Option<String>,
    /// Slots due in the last 24 hours.
    pub slots_24h: SlotTally,
    /// Slots due in the last 7 days.
    pub slots_7d: SlotTally,
}

/// A metering point.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Point {
    /// Its id.
    #[schema(value_type = i32)]
    pub id: PointId,
    /// Its name.
    pub name: String,
    /// Its group.
    #[schema(value_type = Option<i32>)]
    pub group_id: Option<GroupId>,
    /// The meter that stands there now.
    #[schema(value_type = Option<i32>)]
    pub meter_id: Option<MeterId>,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    pub version: i32,
}

/// Which meter stood at a point from when to when.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Installation {
    /// The meter.
    #[schema(value_type = i32)]
    pub meter_id: MeterId,
    /// From (included).
    pub valid_from: DateTime<Utc>,
    /// To (excluded); null: still.
    pub valid_to: Option<DateTime<Utc>>,
    /// Current transformer ratio.
    #[schema(value_type = String)]
    pub ct_ratio: Decimal,
    /// Voltage transformer ratio.
    #[schema(value_type = String)]
    pub vt_ratio: Decimal,
    /// Registers at its beginning, by quantity, decimal strings.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub opening: Registers,
    /// Registers at its end.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub closing: Registers,
}

/// The meters of one account.
#[async_trait]
pub trait MeterStore: Send + Sync {
    /// By id, and how many there are in all (without the place and the limit).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, query: &MeterQuery, now: DateTime<Utc>) -> Result<(Vec<Meter>, i64), StoreError>;

    /// One, removed ones included.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: MeterId, now: DateTime<Utc>) -> Result<Meter, StoreError>;

    /// Makes meter, metering point (unless one is named), installation and schedules in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a DTU, group, point or schedule of another account; [`StoreError::Conflict`] when
    /// the address is taken on that line or the point has a meter.
    async fn create(&self, meter: &NewMeter, now: DateTime<Utc>) -> Result<MeterChange, StoreError>;

    /// Edits one.
    ///
    /// # Errors
    /// As [`MeterStore::create`], and [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn update(
        &self,
        id: MeterId,
        edit: &MeterEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<MeterChange, StoreError>;

    /// Deletes one: it is polled no more and its installation ends; what it read stays at its point.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn delete(&self, id: MeterId, version: Option<i32>, now: DateTime<Utc>) -> Result<Vec<DtuId>, StoreError>;

    /// Puts another meter in its place.
    ///
    /// # Errors
    /// As [`MeterStore::create`], and [`StoreError::NotFound`]; [`StoreError::Invalid`] when `at` is before the
    /// installation began.
    async fn exchange(
        &self,
        id: MeterId,
        exchange: &MeterExchange,
        now: DateTime<Utc>,
    ) -> Result<MeterChange, StoreError>;

    /// How communication goes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn communication(&self, id: MeterId, now: DateTime<Utc>) -> Result<Communication, StoreError>;
}

/// The metering points of one account.
#[async_trait]
pub trait PointStore: Send + Sync {
    /// By id, behind `after`, of a group if given; and how many there are in all.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(
        &self,
        text: Option<&str>,
        group: Option<GroupId>,
        after: Option<PointId>,
        limit: u32,
    ) -> Result<(Vec<Point>, i64), StoreError>;

    /// One, with its installations, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: PointId) -> Result<(Point, Vec<Installation>), StoreError>;

    /// Renames it or moves it to another group.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Invalid`].
    async fn update(
        &self,
        id: PointId,
        name: Option<&str>,
        group: Option<Option<GroupId>>,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Point, StoreError>;
}
