//! The front end's own bookkeeping: watermark, which slots have ended, sessions. With the `ingest` role.

use crate::base::ids::{DtuId, MeterId, ScheduleId};
use crate::port::field::Learned;
use crate::port::ledger::{EndedSlot, SessionRow, SlotLedger, StoreUnavailable};
use crate::port::outage::DatabaseCondition;
use crate::store::watch::patiently;
use crate::store::{Database, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// The cause of sessions that a previous process left open.
const SERVER_DOWN: &str = "server_down";

/// [`SlotLedger`] over PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgSlotLedger {
    pool: PgPool,
    condition: DatabaseCondition,
}

impl PgSlotLedger {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.ingest().clone(),
            condition: database.condition(),
        }
    }

    async fn ended(&self, since: DateTime<Utc>) -> Result<Vec<EndedSlot>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT meter_id AS "meter!", due_at AS "due_at!", schedule_id AS schedule
               FROM slot_ending WHERE due_at >= $1 AND version = 1
               UNION ALL
               SELECT meter_id, ts, NULL FROM reading_electricity WHERE ts >= $1 AND source = 0
               UNION ALL
               SELECT meter_id, ts, NULL FROM reading_fluid WHERE ts >= $1 AND source = 0"#,
            since
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| EndedSlot {
                meter: MeterId(row.meter),
                due_at: row.due_at,
                schedule: row.schedule.map(ScheduleId),
            })
            .collect())
    }

    async fn save(&self, row: &SessionRow) -> Result<(), StoreError> {
        let counters = serde_json::to_value(&row.stats).map_err(|error| StoreError::Internal(error.to_string()))?;
        let (ended_at, cause) = match &row.ended {
            Some((at, cause)) => (Some(*at), Some(cause.as_str())),
            None => (None, None),
        };
        // an end that came first stays: the beginning may be written late
        sqlx::query!(
            "INSERT INTO dtu_session AS s (id, dtu_id, account_id, peer, began_at, ended_at, cause, counters)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (id) DO UPDATE
             SET ended_at = excluded.ended_at, cause = excluded.cause, counters = excluded.counters
             WHERE s.ended_at IS NULL",
            row.session.0,
            row.dtu.0,
            row.account.0,
            row.peer,
            row.began_at,
            ended_at,
            cause,
            counters
        )
        .execute(&self.pool)
        .await?;
        self.learn(row.dtu, &row.stats.learned).await
    }

    /// What was learned of a DTU outlives its session.
    async fn learn(&self, dtu: DtuId, learned: &Learned) -> Result<(), StoreError> {
        if *learned == Learned::default() {
            return Ok(());
        }
        let learned = serde_json::to_value(learned).map_err(|error| StoreError::Internal(error.to_string()))?;
        sqlx::query!(
            "UPDATE dtu SET learned = $2 WHERE id = $1 AND learned IS DISTINCT FROM $2",
            dtu.0,
            learned
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

#[async_trait]
impl SlotLedger for PgSlotLedger {
    async fn watermark(&self) -> Result<Option<DateTime<Utc>>, StoreUnavailable> {
        let read = async {
            Ok(sqlx::query_scalar!("SELECT at FROM watermark")
                .fetch_optional(&self.pool)
                .await?)
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn set_watermark(&self, at: DateTime<Utc>) -> Result<(), StoreUnavailable> {
        let write = async {
            sqlx::query!(
                "INSERT INTO watermark AS w (at) VALUES ($1)
             ON CONFLICT (singleton) DO UPDATE SET at = excluded.at WHERE excluded.at > w.at",
                at
            )
            .execute(&self.pool)
            .await?;
            Ok(())
        };
        Ok(patiently(&self.condition, write).await?)
    }

    async fn ended_since(&self, since: DateTime<Utc>) -> Result<Vec<EndedSlot>, StoreUnavailable> {
        Ok(patiently(&self.condition, self.ended(since)).await?)
    }

    async fn save_session(&self, row: SessionRow) -> Result<(), StoreUnavailable> {
        Ok(patiently(&self.condition, self.save(&row)).await?)
    }

    async fn end_orphan_sessions(&self, at: DateTime<Utc>) -> Result<u64, StoreUnavailable> {
        let ended = sqlx::query!(
            "UPDATE dtu_session SET ended_at = greatest(began_at, $1), cause = $2 WHERE ended_at IS NULL",
            at,
            SERVER_DOWN
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::from)?;
        Ok(ended.rows_affected())
    }
}
