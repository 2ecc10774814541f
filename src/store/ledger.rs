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
use std::collections::BTreeMap;

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

    async fn save(&self, rows: &[SessionRow]) -> Result<(), StoreError> {
        let json = |value| serde_json::to_value(value).map_err(|error| StoreError::Internal(error.to_string()));
        // a statement writes a row once: of a session that began and ended, its end
        let mut sessions: BTreeMap<i64, &SessionRow> = BTreeMap::new();
        for row in rows {
            let known = sessions.entry(row.session.0).or_insert(row);
            if known.ended.is_none() {
                *known = row;
            }
        }
        let (mut ids, mut dtus, mut accounts, mut peers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut began, mut ended, mut causes, mut counters) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in sessions.values() {
            ids.push(row.session.0);
            dtus.push(row.dtu.0);
            accounts.push(row.account.0);
            peers.push(row.peer.clone());
            began.push(row.began_at);
            ended.push(row.ended.as_ref().map(|(at, _)| *at));
            causes.push(row.ended.as_ref().map(|(_, cause)| cause.clone()));
            counters.push(json(&row.stats)?);
        }
        // an end that came first stays: the beginning may be written late
        sqlx::query!(
            "INSERT INTO dtu_session AS s (id, dtu_id, account_id, peer, began_at, ended_at, cause, counters)
             SELECT * FROM unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                                  $7::text[], $8::jsonb[])
             ON CONFLICT (id) DO UPDATE
             SET ended_at = excluded.ended_at, cause = excluded.cause, counters = excluded.counters
             WHERE s.ended_at IS NULL",
            &ids,
            &dtus,
            &accounts,
            &peers,
            &began,
            &ended as &[Option<DateTime<Utc>>],
            &causes as &[Option<String>],
            &counters
        )
        .execute(&self.pool)
        .await?;
        match self.learn(rows).await {
            // a help for the next session, which finds it out anew; the row is written
            Err(error) if error.is_data() => {
                tracing::warn!(%error, "what was learned of a DTU is not kept");
                Ok(())
            }
            learned => learned,
        }
    }

    /// What was learned of a DTU outlives its session.
    async fn learn(&self, rows: &[SessionRow]) -> Result<(), StoreError> {
        let learned: BTreeMap<DtuId, &Learned> = rows
            .iter()
            .map(|row| (row.dtu, &row.stats.learned))
            .filter(|(_, learned)| **learned != Learned::default())
            .collect();
        if learned.is_empty() {
            return Ok(());
        }
        let dtus: Vec<i32> = learned.keys().map(|dtu| dtu.0).collect();
        let learned: Vec<serde_json::Value> = learned
            .values()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()
            .map_err(|error| StoreError::Internal(error.to_string()))?;
        sqlx::query!(
            "UPDATE dtu d SET learned = n.learned FROM unnest($1::int[], $2::jsonb[]) AS n (id, learned)
             WHERE d.id = n.id AND d.learned IS DISTINCT FROM n.learned",
            &dtus,
            &learned
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

    async fn save_sessions(&self, rows: &[SessionRow]) -> Result<(), StoreUnavailable> {
        Ok(patiently(&self.condition, self.save(rows)).await?)
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
