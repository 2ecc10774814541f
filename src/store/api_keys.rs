//! API keys in PostgreSQL: their hashes, never the keys.

use super::handles::{PgStores, Reach};
use crate::base::ids::{AccountId, ApiKeyId, UserId};
use crate::domain::scope::KeyScope;
use crate::port::api_keys::{ApiKey, ApiKeyStore, KEYS_MAX, NewApiKey};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;

impl InAccount<dyn ApiKeyStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn ApiKeyStore> {
        Box::new(ApiKeys(Reach::Account(self.account(scope))))
    }
}

impl AcrossAccounts<dyn ApiKeyStore> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn ApiKeyStore> {
        Box::new(ApiKeys(Reach::Platform(self.platform(actor))))
    }
}

struct ApiKeys(Reach);

struct Row {
    id: i32,
    user_id: i32,
    name: String,
    prefix: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    scopes: Option<Vec<String>>,
}

impl From<Row> for ApiKey {
    fn from(row: Row) -> Self {
        Self {
            id: ApiKeyId(row.id),
            user_id: UserId(row.user_id),
            name: row.name,
            prefix: row.prefix,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            scopes: row.scopes.map(|scopes| read_scopes(&scopes)),
        }
    }
}

/// Scopes as they are stored. One that nobody knows any more reaches nothing, which is less than it did.
pub(super) fn read_scopes(scopes: &[String]) -> Vec<KeyScope> {
    scopes.iter().filter_map(|scope| scope.parse().ok()).collect()
}

#[async_trait]
impl ApiKeyStore for ApiKeys {
    async fn list(&self, user: Option<UserId>, after: Option<ApiKeyId>, limit: u32) -> Result<Vec<ApiKey>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, user_id, name, prefix, created_at, expires_at, last_used_at, scopes FROM api_key
             WHERE revoked_at IS NULL AND ($1::int IS NULL OR user_id = $1) AND id > $2 ORDER BY id LIMIT $3",
            user.map(|user| user.0) as Option<i32>,
            after.map_or(0, |id| id.0),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows.into_iter().map(ApiKey::from).collect())
    }

    async fn get(&self, id: ApiKeyId) -> Result<ApiKey, StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query_as!(
            Row,
            "SELECT id, user_id, name, prefix, created_at, expires_at, last_used_at, scopes FROM api_key
             WHERE id = $1 AND revoked_at IS NULL",
            id.0
        )
        .fetch_optional(&mut *tx)
        .await?
        .map(ApiKey::from)
        .ok_or(StoreError::NotFound("API key"))
    }

    async fn create(&self, key: &NewApiKey, now: DateTime<Utc>) -> Result<ApiKey, StoreError> {
        let mut tx = self.0.begin().await?;
        let scopes: Option<Vec<String>> = key
            .scopes
            .as_ref()
            .map(|scopes| scopes.iter().map(ToString::to_string).collect());
        // one at a time for a person, so that two at once do not exceed the limit together
        sqlx::query!("SELECT id FROM app_user WHERE id = $1 FOR UPDATE", key.user.0)
            .fetch_optional(&mut *tx)
            .await?;
        let have = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM api_key
               WHERE user_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)"#,
            key.user.0,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        if have >= KEYS_MAX {
            return Err(StoreError::Conflict {
                field: None,
                message: format!("{have} keys are enough for one person: revoke one that is not used"),
            });
        }
        let row = sqlx::query!(
            "INSERT INTO api_key (account_id, user_id, name, hash, prefix, created_at, expires_at, scopes)
             SELECT account_id, id, $2, $3, $4, $5, $6, $7 FROM app_user WHERE id = $1 AND disabled_at IS NULL
             RETURNING id, account_id",
            key.user.0,
            key.name,
            key.hash.as_slice(),
            key.prefix,
            now,
            key.expires_at,
            scopes.as_deref()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::Invalid {
            field: "user_id",
            message: "there is no such enabled user".to_owned(),
        })?;
        let detail = json!({"user_id": key.user, "name": key.name, "prefix": key.prefix,
                            "expires_at": key.expires_at, "scopes": key.scopes});
        let object = format!("api-key/{}", row.id);
        let account = row.account_id.map(AccountId);
        self.0
            .audit(&mut tx, account, now, "api_key.create", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(ApiKey {
            id: ApiKeyId(row.id),
            user_id: key.user,
            name: key.name.clone(),
            prefix: key.prefix.clone(),
            created_at: now,
            expires_at: key.expires_at,
            last_used_at: None,
            scopes: key.scopes.clone(),
        })
    }

    async fn revoke(&self, id: ApiKeyId, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let row = sqlx::query!(
            "UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING account_id, user_id, prefix",
            id.0,
            now
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound("API key"))?;
        let detail = json!({"user_id": row.user_id, "prefix": row.prefix});
        let object = format!("api-key/{id}");
        let account = row.account_id.map(AccountId);
        self.0
            .audit(&mut tx, account, now, "api_key.revoke", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
