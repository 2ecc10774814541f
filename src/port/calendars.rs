//! Calendars of an account: made, edited by dated versions.

use crate::base::ids::{CalendarId, DtuId};
use crate::domain::schedule::Calendar;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// What a calendar says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct CalendarSpec {
    /// Its name.
    pub name: String,
    /// Its days.
    pub days: Arc<Calendar>,
}

/// A stored calendar.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCalendar {
    /// Its id.
    pub id: CalendarId,
    /// What it says now.
    pub spec: CalendarSpec,
    /// Since when it says so.
    pub valid_from: DateTime<Utc>,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit.
    pub version: i32,
    /// Schedules that heed it now.
    pub schedules: i64,
}

/// An edited calendar, and whom it concerns.
#[derive(Clone, Debug, PartialEq)]
pub struct CalendarChange {
    /// The calendar as it is now.
    pub calendar: StoredCalendar,
    /// DTUs with meters whose schedules heed it: the front end has to load them anew.
    pub dtus: Vec<DtuId>,
}

/// The calendars of one account.
#[async_trait]
pub trait CalendarStore: Send + Sync {
    /// By id, behind `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, after: Option<CalendarId>, limit: u32) -> Result<Vec<StoredCalendar>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: CalendarId) -> Result<StoredCalendar, StoreError>;

    /// Makes one, in force from `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn create(&self, spec: &CalendarSpec, now: DateTime<Utc>) -> Result<StoredCalendar, StoreError>;

    /// Closes the version in force at `now` and opens the new one, if its days differ.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn update(
        &self,
        id: CalendarId,
        spec: &CalendarSpec,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<CalendarChange, StoreError>;

    /// Deletes one that no schedule refers to; its history stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Conflict`] while it is in use.
    async fn delete(&self, id: CalendarId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;
}
