//! What concentrators and terminals recorded of events: written with role ingest, each record once, however often it is told; shown within
//! an account.

use super::Database;
use super::handles::{AccountHandle, PgStores};
use crate::base::hex;
use crate::base::ids::{DtuId, TerminalEventId};
use crate::port::scope::{InAccount, Scope, StoreError};
use crate::port::terminal_events::{
    TerminalEvent, TerminalEventLog, TerminalEventStore, TerminalEventView, event_detail, event_name,
};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use sqlx::PgPool;
use std::time::Duration;

/// Records of one terminal that are kept; the oldest make way. A terminal has 256 of each kind itself, so that what made way
/// is not told again.
const KEPT_MAX: i64 = 10_000;
/// A terminal waits for its confirmation.
const PATIENCE: Duration = Duration::from_secs(10);

/// [`TerminalEventLog`] over PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgTerminalEvents {
    pool: PgPool,
}

impl PgTerminalEvents {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.ingest().clone(),
        }
    }

    async fn write(&self, dtu: DtuId, events: &[TerminalEvent], now: DateTime<Utc>) -> Result<u64, StoreError> {
        let codes: Vec<i16> = events
            .iter()
            .map(|event| i16::try_from(event.code).unwrap_or(i16::MAX))
            .collect();
        let data: Vec<Vec<u8>> = events.iter().map(|event| event.data.clone()).collect();
        let important: Vec<bool> = events.iter().map(|event| event.important).collect();
        let happened: Vec<Option<NaiveDateTime>> = events.iter().map(|event| event.happened_at).collect();
        let mut tx = self.pool.begin().await?;
        let fresh = sqlx::query!(
            "INSERT INTO terminal_event (dtu_id, account_id, code, data, important, happened_at, found_at)
             SELECT d.id, d.account_id, t.code, t.data, t.important, t.happened_at, $2
             FROM dtu d, unnest($3::smallint[], $4::bytea[], $5::bool[], $6::timestamp[])
                         AS t (code, data, important, happened_at)
             WHERE d.id = $1 AND d.deleted_at IS NULL
             ON CONFLICT DO NOTHING",
            dtu.0,
            now,
            &codes,
            &data,
            &important,
            &happened as &[Option<NaiveDateTime>],
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if fresh > 0 {
            sqlx::query!(
                "DELETE FROM terminal_event WHERE dtu_id = $1 AND id <= (
                     SELECT id FROM terminal_event WHERE dtu_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)",
                dtu.0,
                KEPT_MAX
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(fresh)
    }
}

#[async_trait]
impl TerminalEventLog for PgTerminalEvents {
    async fn keep(&self, dtu: DtuId, events: &[TerminalEvent], now: DateTime<Utc>) -> Result<u64, StoreError> {
        match tokio::time::timeout(PATIENCE, self.write(dtu, events, now)).await {
            Ok(kept) => kept,
            Err(_) => Err(StoreError::Unavailable(format!(
                "not kept within {} s",
                PATIENCE.as_secs()
            ))),
        }
    }
}

impl InAccount<dyn TerminalEventStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn TerminalEventStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl TerminalEventStore for AccountHandle {
    async fn list(
        &self,
        dtu: DtuId,
        before: Option<TerminalEventId>,
        limit: u32,
    ) -> Result<Vec<TerminalEventView>, StoreError> {
        let mut tx = self.begin().await?;
        super::mesh::check(&mut tx, dtu).await?;
        let rows = sqlx::query!(
            "SELECT id, code, important, happened_at, found_at, data FROM terminal_event
             WHERE dtu_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            dtu.0,
            before.map_or(i64::MAX, |before| before.0),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        let view = rows.into_iter().map(|row| {
            // the table holds no other codes
            let code = u16::try_from(row.code).unwrap_or_default();
            TerminalEventView {
                id: TerminalEventId(row.id),
                code,
                name: event_name(code).to_owned(),
                important: row.important,
                happened_at: row.happened_at,
                found_at: row.found_at,
                detail: event_detail(code, &row.data),
                data: hex::encode(&row.data),
            }
        });
        Ok(view.collect())
    }
}
