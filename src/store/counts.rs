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
            r#"SELECT (SELECT count(*) FROM dtu WHERE deleted_at IS NULL) AS "dtus!",
                      (SELECT count(*) FROM meter WHERE deleted_at IS NULL) AS "meters!",
                      (SELECT count(*) FROM reading_electricity WHERE source = 0 AND ts >= $1 AND ts <= $2)
                      + (SELECT count(*) FROM reading_fluid WHERE source = 0 AND ts >= $1 AND ts <= $2) AS "read!""#,
            midnight,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        // a reading whose slot has an ending of its own is counted by that; looked up one by one by its key, and for
        // those alone that can have a reading: an anti-join would sort the whole day
        let ended = sqlx::query!(
            r#"WITH ending AS (
                   SELECT DISTINCT ON (due_at, meter_id, schedule_id) due_at, meter_id, state, reason FROM slot_ending
                   WHERE due_at >= $1 AND due_at <= $2
                   ORDER BY due_at, meter_id, schedule_id, version DESC
               )
               SELECT count(*) FILTER (WHERE state = 'actual') AS "actual!",
                      count(*) FILTER (WHERE state = 'late') AS "late!",
                      count(*) FILTER (WHERE state = 'estimated') AS "estimated!",
                      count(*) FILTER (WHERE state = 'missing') AS "missing!",
                      (SELECT count(*)
                       FROM (SELECT DISTINCT due_at, meter_id FROM ending
                             WHERE state <> 'missing' OR reason = 'partial') e
                       CROSS JOIN LATERAL (
                           (SELECT FROM reading_electricity r
                            WHERE r.ts = e.due_at AND r.meter_id = e.meter_id AND r.source = 0 LIMIT 1)
                           UNION ALL
                           (SELECT FROM reading_fluid r
                            WHERE r.ts = e.due_at AND r.meter_id = e.meter_id AND r.source = 0 LIMIT 1)
                           LIMIT 1) found) AS "both!"
               FROM ending"#,
            midnight,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        let actual = row.read.saturating_sub(ended.both).saturating_add(ended.actual);
        Ok(AccountCounts {
            dtus: row.dtus,
            meters: row.meters,
            slots_today: SlotTally::of(actual, ended.late, ended.estimated, ended.missing),
        })
    }
}
