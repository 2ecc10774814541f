//! Exports in PostgreSQL: the jobs, not their files.

use super::handles::{AccountHandle, PgStores, PlatformHandle};
use crate::base::ids::{AccountId, UserId};
use crate::port::exports::{ExportAsk, ExportBook, ExportEnd, ExportHouse, ExportJob, ExportKind, ExportState};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

impl InAccount<dyn ExportBook> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn ExportBook> {
        Box::new(Book(self.account(scope)))
    }
}

impl AcrossAccounts<dyn ExportHouse> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn ExportHouse> {
        Box::new(House(self.platform(actor)))
    }
}

struct Book(AccountHandle);

struct House(PlatformHandle);

struct Row {
    id: Uuid,
    account_id: i32,
    ask: Value,
    state: String,
    rows: i64,
    bytes: i64,
    reason: Option<String>,
    sha256: Option<String>,
    requested_by: String,
    user_id: Option<i32>,
    created_at: DateTime<Utc>,
    began_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for ExportJob {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let wrong = |what: String| StoreError::Internal(format!("export_job {}: {what}", row.id));
        let ask: ExportAsk = serde_json::from_value(row.ask).map_err(|error| wrong(error.to_string()))?;
        let state = ExportState::by_name(&row.state).ok_or_else(|| wrong(format!("state is {:?}", row.state)))?;
        Ok(Self {
            id: row.id,
            ask,
            state,
            rows: row.rows,
            bytes: row.bytes,
            reason: row.reason,
            sha256: row.sha256,
            requested_by: row.requested_by,
            user_id: row.user_id.map(UserId),
            created_at: row.created_at,
            began_at: row.began_at,
            ended_at: row.ended_at,
            expires_at: row.expires_at,
        })
    }
}

async fn find(tx: &mut PgConnection, id: Uuid) -> Result<ExportJob, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, account_id, ask, state, rows, bytes, reason, sha256, requested_by, user_id, created_at, began_at,
                ended_at, expires_at
         FROM export_job WHERE id = $1",
        id
    )
    .fetch_optional(tx)
    .await?
    .ok_or(StoreError::NotFound("export"))?
    .try_into()
}

fn object(id: Uuid) -> String {
    format!("export/{id}")
}

#[async_trait]
impl ExportBook for Book {
    async fn create(&self, id: Uuid, ask: &ExportAsk, now: DateTime<Utc>) -> Result<ExportJob, StoreError> {
        let detail = serde_json::to_value(ask).map_err(|error| StoreError::Internal(error.to_string()))?;
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "INSERT INTO export_job (id, account_id, kind, format, ask, requested_by, user_id, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            id,
            self.0.account.0,
            ask.kind.as_str(),
            ask.format.as_str(),
            detail,
            self.0.actor.name,
            self.0.actor.user.map(|user| user.0) as Option<i32>,
            now
        )
        .execute(&mut *tx)
        .await?;
        let job = find(&mut tx, id).await?;
        self.0.audit(&mut tx, now, "export.create", &object(id), detail).await?;
        tx.commit().await?;
        Ok(job)
    }

    async fn list(&self, kinds: &[ExportKind], before: Option<Uuid>, limit: u32) -> Result<Vec<ExportJob>, StoreError> {
        let kinds: Vec<String> = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
        let mut tx = self.0.begin().await?;
        sqlx::query_as!(
            Row,
            "SELECT id, account_id, ask, state, rows, bytes, reason, sha256, requested_by, user_id, created_at,
                    began_at, ended_at, expires_at
             FROM export_job WHERE kind = ANY($1) AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
            &kinds,
            before,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(ExportJob::try_from)
        .collect()
    }

    async fn get(&self, id: Uuid) -> Result<ExportJob, StoreError> {
        find(&mut *self.0.begin().await?, id).await
    }

    async fn fetched(&self, id: Uuid, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let job = find(&mut tx, id).await?;
        let detail = json!({ "kind": job.ask.kind, "rows": job.rows, "bytes": job.bytes, "sha256": job.sha256 });
        self.0
            .audit(&mut tx, now, "export.download", &object(id), detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn give_up(&self, id: Uuid, now: DateTime<Utc>) -> Result<ExportJob, StoreError> {
        let mut tx = self.0.begin().await?;
        let changed = sqlx::query_scalar!(
            "UPDATE export_job
             SET state = CASE state WHEN 'done' THEN 'expired' ELSE 'cancelled' END, ended_at = coalesce(ended_at, $2),
                 expires_at = CASE state WHEN 'done' THEN $2 END, reason = $3
             WHERE id = $1 AND state IN ('waiting', 'running', 'done') RETURNING state",
            id,
            now,
            format!("by {}", self.0.actor.name)
        )
        .fetch_optional(&mut *tx)
        .await?;
        let job = find(&mut tx, id).await?;
        if let Some(state) = changed {
            self.0
                .audit(&mut tx, now, "export.delete", &object(id), json!({ "state": state }))
                .await?;
            tx.commit().await?;
        }
        Ok(job)
    }

    async fn begin(&self, id: Uuid, now: DateTime<Utc>) -> Result<Option<i16>, StoreError> {
        let mut tx = self.0.begin().await?;
        let attempts = sqlx::query_scalar!(
            "UPDATE export_job SET state = 'running', attempts = attempts + 1, began_at = $2, rows = 0, bytes = 0
             WHERE id = $1 AND state IN ('waiting', 'running') RETURNING attempts",
            id,
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(attempts)
    }

    async fn progress(&self, id: Uuid, rows: i64, bytes: i64) -> Result<bool, StoreError> {
        let mut tx = self.0.begin().await?;
        let found = sqlx::query!(
            "UPDATE export_job SET rows = $2, bytes = $3 WHERE id = $1 AND state = 'running'",
            id,
            rows,
            bytes
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(found == 1)
    }

    async fn end(&self, id: Uuid, end: &ExportEnd, now: DateTime<Utc>) -> Result<Option<ExportJob>, StoreError> {
        let mut tx = self.0.begin().await?;
        let found = sqlx::query!(
            "UPDATE export_job SET state = $2, reason = $3, rows = $4, bytes = $5, sha256 = $6, expires_at = $7, ended_at = $8
             WHERE id = $1 AND state IN ('waiting', 'running')",
            id,
            end.state.as_str(),
            end.reason,
            end.rows,
            end.bytes,
            end.sha256,
            end.expires_at,
            now
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if found == 0 {
            return Ok(None);
        }
        let job = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(Some(job))
    }
}

#[async_trait]
impl ExportHouse for House {
    async fn unfinished(&self) -> Result<Vec<(AccountId, ExportJob)>, StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query_as!(
            Row,
            "SELECT id, account_id, ask, state, rows, bytes, reason, sha256, requested_by, user_id, created_at, began_at,
                    ended_at, expires_at
             FROM export_job WHERE state IN ('waiting', 'running') ORDER BY id"
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| Ok((AccountId(row.account_id), ExportJob::try_from(row)?)))
        .collect()
    }

    async fn sweep(&self, now: DateTime<Utc>, forget: DateTime<Utc>) -> Result<Vec<(Uuid, i64)>, StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "UPDATE export_job SET state = 'expired', reason = 'its time is over' WHERE state = 'done' AND expires_at <= $1",
            now
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "DELETE FROM export_job WHERE created_at < $1 AND state IN ('failed', 'cancelled', 'expired')",
            forget
        )
        .execute(&mut *tx)
        .await?;
        let kept = sqlx::query!("SELECT id, bytes FROM export_job WHERE state = 'done'")
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(kept.into_iter().map(|row| (row.id, row.bytes)).collect())
    }
}
