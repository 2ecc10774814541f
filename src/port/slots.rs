//! The slot ledger as people look at it: what was due, and how it ended.

use crate::base::ids::{DtuId, MeterId, ScheduleId};
use crate::domain::slot::{MissReason, SlotKind, SlotState};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// A slot's state as the API shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShownState {
    /// Due, and not ended yet.
    Open,
    /// Read within the window.
    Actual,
    /// Read after the window.
    Late,
    /// Filled by a named rule.
    Estimated,
    /// Not read.
    Missing,
}

impl From<SlotState> for ShownState {
    fn from(state: SlotState) -> Self {
        match state {
            SlotState::Actual => Self::Actual,
            SlotState::Late => Self::Late,
            SlotState::Estimated => Self::Estimated,
            SlotState::Missing => Self::Missing,
        }
    }
}

/// One due slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SlotItem {
    /// The meter.
    #[schema(value_type = i32)]
    pub meter_id: MeterId,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// The schedule.
    #[schema(value_type = i32)]
    pub schedule_id: ScheduleId,
    /// What it is for: `regular`, or `settlement` for that of a settlement day.
    #[schema(value_type = String, example = "regular")]
    pub kind: SlotKind,
    /// How it stands.
    pub state: ShownState,
    /// Why it is missing.
    #[schema(value_type = Option<String>, example = "timeout")]
    pub reason: Option<MissReason>,
    /// More about why, e.g. the code of an exception.
    pub detail: Option<String>,
    /// Attempts on the line; null where the reading itself is the ending (it does not count them).
    pub attempts: Option<i32>,
    /// When it ended; null while open.
    pub ended_at: Option<DateTime<Utc>>,
    /// Which ending this is: 1 the first, more after a correction; 0 while open.
    pub version: i32,
}

/// Counts of slots by how they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SlotTally {
    /// Ended as actual.
    pub actual: i64,
    /// Ended as late.
    pub late: i64,
    /// Ended as estimated.
    pub estimated: i64,
    /// Ended as missing.
    pub missing: i64,
    /// Share of ended slots that were read (actual or late), 0 to 1; null when none has ended.
    pub success: Option<f64>,
}

impl SlotTally {
    /// A tally of these counts.
    pub fn of(actual: i64, late: i64, estimated: i64, missing: i64) -> Self {
        let read = actual.saturating_add(late);
        let ended = read.saturating_add(estimated).saturating_add(missing);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share for people; counts stay far below 2^52"
        )]
        let success = (ended > 0).then(|| (read as f64 / ended as f64 * 10_000.0).round() / 10_000.0);
        Self {
            actual,
            late,
            estimated,
            missing,
            success,
        }
    }
}

/// Which slots. Without a meter those of all meters of the account, in order of meter and due time.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotQuery {
    /// Of this meter.
    pub meter: Option<MeterId>,
    /// Due from (included).
    pub from: DateTime<Utc>,
    /// Due to (excluded).
    pub to: DateTime<Utc>,
    /// In this state.
    pub state: Option<ShownState>,
    /// Behind this slot.
    pub after: Option<(MeterId, DateTime<Utc>, ScheduleId)>,
    /// At most so many.
    pub limit: usize,
}

/// A page of slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotPage {
    /// The slots.
    pub items: Vec<SlotItem>,
    /// The last slot that was looked at, if there may be more.
    pub next: Option<(MeterId, DateTime<Utc>, ScheduleId)>,
}

/// By what a summary is grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SummaryBy {
    /// By DTU.
    Dtu,
    /// By meter.
    Meter,
    /// By day of the zone.
    Day,
}

/// Which summary.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotSummaryQuery {
    /// By what.
    pub by: SummaryBy,
    /// Due from (included).
    pub from: DateTime<Utc>,
    /// Due to (excluded).
    pub to: DateTime<Utc>,
    /// Only behind this DTU.
    pub dtu: Option<DtuId>,
    /// Only of this meter.
    pub meter: Option<MeterId>,
    /// Whose days.
    pub zone: Tz,
    /// At most so many rows.
    pub limit: u32,
}

/// One row of a summary.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SlotSummaryItem {
    /// The DTU, when grouped by DTU.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i32>)]
    pub dtu_id: Option<DtuId>,
    /// The meter, when grouped by meter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i32>)]
    pub meter_id: Option<MeterId>,
    /// The day, when grouped by day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Date)]
    pub day: Option<NaiveDate>,
    /// The counts.
    #[serde(flatten)]
    pub tally: SlotTally,
}

/// The slot ledger of one account.
#[async_trait]
pub trait SlotStore: Send + Sync {
    /// A page of slots. What is due up to `now` follows from the dated schedules; how it ended from readings and
    /// endings.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a meter of another account.
    async fn slots(&self, query: &SlotQuery, now: DateTime<Utc>) -> Result<SlotPage, StoreError>;

    /// Success rates.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a meter or DTU of another account.
    async fn summary(&self, query: &SlotSummaryQuery) -> Result<Vec<SlotSummaryItem>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_the_share_of_ended_slots_that_were_read() {
        assert_eq!(SlotTally::of(97, 1, 1, 1).success, Some(0.98));
        assert_eq!(SlotTally::of(0, 0, 0, 0).success, None);
        assert_eq!(SlotTally::of(1, 0, 0, 2).success, Some(0.3333));
    }
}
