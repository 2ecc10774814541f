//! The counters of an account's front page.

use super::handles::{AccountHandle, PgStores};
use crate::port::groups::{AccountCounts, CountStore};
use crate::port::scope::{InAccount, Scope, StoreError};
use crate::port::slots::SlotTally;
use async_trait::async_trait;
use chrono::{DateTime, Utc};

impl InAccount<dyn CountStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn CountStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl CountStore for AccountHandle {
    async fn counts(&self, midnight: DateTime<Utc>, now: DateTime<Utc>) -> Result<AccountCounts, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query!(
            r#"WITH ending AS (
                   SELECT DISTINCT ON (due_at, meter_id, schedule_id) due_at, meter_id, state FROM slot_ending
                   WHERE due_at >= $1 AND due_at <= $2
                   ORDER BY due_at, meter_id, schedule_id, version DESC
               ), reading AS (
                   SELECT ts, meter_id FROM reading_electricity WHERE source = 0 AND ts >= $1 AND ts <= $2
                   UNION ALL
                   SELECT ts, meter_id FROM reading_fluid WHERE source = 0 AND ts >= $1 AND ts <= $2
               )
               SELECT (SELECT count(*) FROM dtu WHERE deleted_at IS NULL) AS "dtus!",
                      (SELECT count(*) FROM meter WHERE deleted_at IS NULL) AS "meters!",
                      (SELECT count(*) FROM reading r WHERE NOT EXISTS
                          (SELECT FROM ending e WHERE e.due_at = r.ts AND e.meter_id = r.meter_id))
                      + (SELECT count(*) FROM ending WHERE state = 'actual') AS "actual!",
                      (SELECT count(*) FROM ending WHERE state = 'late') AS "late!",
                      (SELECT count(*) FROM ending WHERE state = 'estimated') AS "estimated!",
                      (SELECT count(*) FROM ending WHERE state = 'missing') AS "missing!""#,
            midnight,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(AccountCounts {
            dtus: row.dtus,
            meters: row.meters,
            slots_today: SlotTally::of(row.actual, row.late, row.estimated, row.missing),
        })
    }
}
