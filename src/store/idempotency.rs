//! Idempotency keys in PostgreSQL.

use super::handles::{AccountHandle, PgStores};
use crate::port::idempotency::{IdempotencyStore, KeyState};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

impl InAccount<dyn IdempotencyStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn IdempotencyStore> {
        Box::new(Keys(self.account(scope)))
    }
}

struct Keys(AccountHandle);

#[async_trait]
impl IdempotencyStore for Keys {
    async fn take(&self, key: &str, request: &[u8; 32], now: DateTime<Utc>) -> Result<KeyState, StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "DELETE FROM idempotency_key WHERE created_at < $1::timestamptz - interval '24 hours'",
            now
        )
        .execute(&mut *tx)
        .await?;
        // a concurrent twin waits here for our commit and then finds the row
        let made = sqlx::query!(
            "INSERT INTO idempotency_key (account_id, key, request_hash, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
            self.0.account.0,
            key,
            request.as_slice(),
            now
        )
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 1 {
            tx.commit().await?;
            return Ok(KeyState::Taken);
        }
        // who took it and never said how it ended has died over it: its twin may try again
        let taken_over = sqlx::query!(
            "UPDATE idempotency_key SET created_at = $3
             WHERE key = $1 AND request_hash = $2 AND status IS NULL AND created_at < $3::timestamptz - interval '120 seconds'",
            key,
            request.as_slice(),
            now
        )
        .execute(&mut *tx)
        .await?;
        if taken_over.rows_affected() == 1 {
            tx.commit().await?;
            return Ok(KeyState::Taken);
        }
        let row = sqlx::query!(
            "SELECT request_hash, status, response FROM idempotency_key WHERE key = $1",
            key
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(match (row.status, row.response) {
            _ if row.request_hash != request.as_slice() => KeyState::Mismatch,
            (Some(status), response) => KeyState::Answered {
                status: status.unsigned_abs(),
                response: response.unwrap_or(Value::Null),
            },
            (None, _) => KeyState::UnderWay,
        })
    }

    async fn finish(&self, key: &str, status: u16, response: &Value) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "UPDATE idempotency_key SET status = $2, response = $3 WHERE key = $1",
            key,
            i16::try_from(status).unwrap_or(i16::MAX),
            response
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn abandon(&self, key: &str) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!("DELETE FROM idempotency_key WHERE key = $1 AND status IS NULL", key)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
