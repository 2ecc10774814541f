//! Tokens and sign-ins in PostgreSQL, across accounts: before a token is known, no account is.

use super::Database;
use super::handles::append;
use crate::base::ids::{AccountId, ApiKeyId, UserId};
use crate::domain::access::Role;
use crate::port::auth::{AccountBrief, AuthStore, Identity, NewSession, SignInRecord, TokenHash, TokenKind};
use crate::port::scope::{Actor, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;

/// The implementation.
#[derive(Clone, Debug)]
pub struct PgAuth {
    database: Database,
}

impl PgAuth {
    /// Over these pools.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    async fn by_session(&self, token: &TokenHash, now: DateTime<Utc>) -> Result<Option<Identity>, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let row = sqlx::query!(
            "SELECT u.id, u.account_id, u.email, u.name, u.roles, s.expires_at
             FROM login_session s
             JOIN app_user u ON u.id = s.user_id AND u.session_epoch = s.session_epoch AND u.disabled_at IS NULL
             LEFT JOIN account a ON a.id = u.account_id
             WHERE s.token_hash = $1 AND s.ended_at IS NULL AND s.expires_at > $2 AND a.disabled_at IS NULL",
            token.as_slice(),
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row.map(|row| Identity {
            user: UserId(row.id),
            email: row.email,
            name: row.name,
            account: row.account_id.map(AccountId),
            roles: row.roles.iter().filter_map(|name| Role::by_name(name)).collect(),
            api_key: None,
            expires_at: Some(row.expires_at),
        }))
    }

    async fn by_key(&self, token: &TokenHash, now: DateTime<Utc>) -> Result<Option<Identity>, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let row = sqlx::query!(
            r#"SELECT u.id, u.account_id, u.email, u.name, u.roles, k.id AS key_id, k.expires_at,
                      (k.last_used_at IS NULL OR k.last_used_at < $2::timestamptz - interval '1 minute') AS "touch!"
               FROM api_key k
               JOIN app_user u ON u.id = k.user_id AND u.disabled_at IS NULL
               LEFT JOIN account a ON a.id = u.account_id
               WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
                 AND a.disabled_at IS NULL"#,
            token.as_slice(),
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.touch {
            // to the minute: a busy key must not write a row per request
            sqlx::query!("UPDATE api_key SET last_used_at = $2 WHERE id = $1", row.key_id, now)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
        }
        Ok(Some(Identity {
            user: UserId(row.id),
            email: row.email,
            name: row.name,
            account: row.account_id.map(AccountId),
            roles: row.roles.iter().filter_map(|name| Role::by_name(name)).collect(),
            api_key: Some(ApiKeyId(row.key_id)),
            expires_at: row.expires_at,
        }))
    }
}

#[async_trait]
impl AuthStore for PgAuth {
    async fn identify(
        &self,
        kind: TokenKind,
        token: &TokenHash,
        now: DateTime<Utc>,
    ) -> Result<Option<Identity>, StoreError> {
        match kind {
            TokenKind::Session => self.by_session(token, now).await,
            TokenKind::ApiKey => self.by_key(token, now).await,
        }
    }

    async fn sign_in_record(&self, email: &str) -> Result<Option<SignInRecord>, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let row = sqlx::query!(
            "SELECT u.id, u.password_hash FROM app_user u LEFT JOIN account a ON a.id = u.account_id
             WHERE lower(u.email) = lower($1) AND u.disabled_at IS NULL AND a.disabled_at IS NULL",
            email
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row.map(|row| SignInRecord {
            user: UserId(row.id),
            password_hash: row.password_hash,
        }))
    }

    async fn open_session(&self, session: NewSession, actor: &Actor) -> Result<(), StoreError> {
        let mut tx = self.database.platform().begin().await?;
        // ended sessions are history of the audit, not of this table
        sqlx::query!(
            "DELETE FROM login_session WHERE user_id = $1 AND (ended_at IS NOT NULL OR expires_at <= $2)",
            session.user.0,
            session.now
        )
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query!(
            "INSERT INTO login_session (account_id, user_id, token_hash, session_epoch, created_at, expires_at)
             SELECT account_id, id, $2, session_epoch, $3, $4 FROM app_user
             WHERE id = $1 AND disabled_at IS NULL AND password_hash = $5 FOR SHARE
             RETURNING account_id",
            session.user.0,
            session.token.as_slice(),
            session.now,
            session.expires_at,
            session.password_hash
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound("user"))?;
        let object = format!("user/{}", session.user);
        let account = row.account_id.map(AccountId);
        append(&mut tx, account, actor, session.now, "session.open", &object, json!({})).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn sign_in_refused(
        &self,
        user: Option<UserId>,
        unwritten: u32,
        now: DateTime<Utc>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let mut account = None;
        if let Some(user) = user {
            account = sqlx::query_scalar!("SELECT account_id FROM app_user WHERE id = $1", user.0)
                .fetch_optional(&mut *tx)
                .await?
                .flatten();
        }
        let object = user.map_or_else(|| "user/unknown".to_owned(), |user| format!("user/{user}"));
        let detail = json!({ "unwritten_before": unwritten });
        let account = account.map(AccountId);
        append(&mut tx, account, actor, now, "session.refused", &object, detail).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn end_session(&self, token: &TokenHash, now: DateTime<Utc>, actor: &Actor) -> Result<bool, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let row = sqlx::query!(
            "UPDATE login_session SET ended_at = $2 WHERE token_hash = $1 AND ended_at IS NULL RETURNING account_id, user_id",
            token.as_slice(),
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(false) };
        let object = format!("user/{}", row.user_id);
        let account = row.account_id.map(AccountId);
        append(&mut tx, account, actor, now, "session.end", &object, json!({})).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn account(&self, id: AccountId) -> Result<Option<AccountBrief>, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let row = sqlx::query!(
            "SELECT id, name, time_zone FROM account WHERE id = $1 AND disabled_at IS NULL",
            id.0
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row.map(|row| AccountBrief {
            id: AccountId(row.id),
            name: row.name,
            time_zone: row.time_zone,
        }))
    }

    async fn account_count(&self) -> Result<u64, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM account"#)
            .fetch_one(&mut *tx)
            .await?;
        Ok(count.unsigned_abs())
    }
}
