//! Groups of meters (sites) of an account, and the counters of a front page.

use crate::base::ids::{GroupId, PointId};
use crate::port::scope::StoreError;
use crate::port::slots::SlotTally;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Group {
    /// Its id.
    #[schema(value_type = i32)]
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// The group that it is part of.
    #[schema(value_type = Option<i32>)]
    pub parent_id: Option<GroupId>,
    /// The point whose meter counts what the group is supplied with: the sum meter of its line loss.
    #[schema(value_type = Option<i32>)]
    pub sum_point_id: Option<PointId>,
    /// Meters directly in it.
    pub meters: i64,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    pub version: i32,
}

/// The groups of one account.
#[async_trait]
pub trait GroupStore: Send + Sync {
    /// By id, behind `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, after: Option<GroupId>, limit: u32) -> Result<Vec<Group>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: GroupId) -> Result<Group, StoreError>;

    /// Makes one.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a parent or sum meter of another account.
    async fn create(
        &self,
        name: &str,
        parent: Option<GroupId>,
        sum_point: Option<PointId>,
        now: DateTime<Utc>,
    ) -> Result<Group, StoreError>;

    /// Renames it, moves it below another group, or names another sum meter.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Invalid`] for a ring of groups or a
    /// sum meter of another account.
    async fn update(
        &self,
        id: GroupId,
        name: Option<&str>,
        parent: Option<Option<GroupId>>,
        sum_point: Option<Option<PointId>>,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Group, StoreError>;

    /// Deletes it; meters and points in it then have no group, groups in it no parent.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn delete(&self, id: GroupId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;
}

/// What the database knows of an account's front page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountCounts {
    /// DTUs.
    pub dtus: i64,
    /// Meters.
    pub meters: i64,
    /// Slots due since the account's midnight, by ending.
    pub slots_today: SlotTally,
}

/// The counters of one account.
#[async_trait]
pub trait CountStore: Send + Sync {
    /// All counters; "today" begins at `midnight`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn counts(&self, midnight: DateTime<Utc>, now: DateTime<Utc>) -> Result<AccountCounts, StoreError>;
}
