//! Reading schedules of an account: made, edited by dated rules, assigned.

use crate::base::ids::{CalendarId, DtuId, ScheduleId};
use crate::domain::device::{MissedRun, Overlap, RetryPolicy, ScheduleRule, SlotPriority};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::{Calendar, DayRule, Recurrence, ScheduleError, Timing};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// What a schedule says, checked: the timing compiles, the zone exists, the numbers are within their limits. Whether the
/// calendar is there, the store says.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    /// Its name.
    pub name: String,
    /// When it comes due, as the user wrote it.
    pub timing: Timing,
    /// IANA zone name.
    pub time_zone: String,
    /// The calendar that it heeds.
    pub calendar: Option<CalendarId>,
    /// On which of the calendar's days.
    pub days: DayRule,
    /// Wanted quantities; empty: all of the model.
    pub quantities: Vec<Quantity>,
    /// Spread of polls after the due time, seconds.
    pub spread_s: u32,
    /// Window of an `actual` read, seconds.
    pub window_s: u32,
    /// Retries.
    pub retry: RetryPolicy,
    /// Missed runs.
    pub missed_run: MissedRun,
    /// Slots that run into each other.
    pub overlap: Overlap,
    /// The place in the line's queue.
    pub priority: SlotPriority,
}

impl ScheduleSpec {
    /// The rule in force from `valid_from`, with its calendar as it stands then.
    pub fn rule(&self, valid_from: DateTime<Utc>, calendar: Option<&Arc<Calendar>>) -> ScheduleRule {
        ScheduleRule {
            valid_from,
            valid_to: None,
            timing: self.timing.clone(),
            time_zone: self.time_zone.clone(),
            days: self.days,
            calendar: calendar.cloned(),
            quantities: self.quantities.clone(),
            spread_s: self.spread_s,
            window_s: self.window_s,
            retry: self.retry,
            missed_run: self.missed_run,
            overlap: self.overlap,
            priority: self.priority,
        }
    }
}

/// A stored schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// What it says now.
    pub spec: ScheduleSpec,
    /// The calendar that it heeds, as it stands now.
    pub calendar: Option<Arc<Calendar>>,
    /// Since when it says so.
    pub valid_from: DateTime<Utc>,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit.
    pub version: i32,
    /// Meters that it applies to now, by whatever way.
    pub meters: i64,
}

impl Schedule {
    /// When it comes due by what it and its calendar say now.
    ///
    /// # Errors
    /// [`ScheduleError`] for a stored rule that does not compile: a fault of ours.
    pub fn recurrence(&self) -> Result<Recurrence, ScheduleError> {
        let spec = &self.spec;
        Recurrence::compile(&spec.timing, &spec.time_zone, spec.days, self.calendar.as_ref())
    }
}

/// An edited or deleted schedule, and whom it concerns.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleChange {
    /// The schedule as it is now.
    pub schedule: Schedule,
    /// DTUs with meters that it applies to: the front end has to load them anew.
    pub dtus: Vec<DtuId>,
}

/// The schedules of one account.
#[async_trait]
pub trait ScheduleStore: Send + Sync {
    /// By id, behind `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, after: Option<ScheduleId>, limit: u32) -> Result<Vec<Schedule>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: ScheduleId) -> Result<Schedule, StoreError>;

    /// Makes one; its rule is in force from `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn create(&self, spec: &ScheduleSpec, now: DateTime<Utc>) -> Result<Schedule, StoreError>;

    /// Closes the rule in force at `now` and opens the new one, if it differs.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn update(
        &self,
        id: ScheduleId,
        spec: &ScheduleSpec,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<ScheduleChange, StoreError>;

    /// Deletes one that nothing is assigned to; its history stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Conflict`] while it is in use.
    async fn delete(&self, id: ScheduleId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;
}
