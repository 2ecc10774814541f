//! Tokens and sign-ins in PostgreSQL, across accounts: before a token is known, no account is.

use super::Database;
use super::api_keys::read_scopes;
use super::handles::append;
use super::sign_ins::{self, Told};
use crate::base::ids::{AccountId, ApiKeyId, UserId};
use crate::domain::access::Role;
use crate::domain::scope::Reach;
use crate::port::auth::{AccountBrief, AuthStore, Identity, NewSession, Refusal, SignInRecord, TokenHash, TokenKind};
use crate::port::scope::{Actor, StoreError};
use crate::port::second_factor::SecondFactor;
use crate::port::sign_ins::{SESSIONS_MAX, SignInEnd};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{Postgres, Transaction};

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
            r#"SELECT u.id, u.account_id, u.email, u.name, u.roles, s.expires_at, s.id AS session_id,
                      (s.last_used_at IS NULL OR s.last_used_at < $2::timestamptz - interval '1 minute') AS "touch!",
                      (f.user_id IS NOT NULL) AS "second_factor!",
                      coalesce(a.second_factor_roles && u.roles, false) AS "wanted!"
               FROM login_session s
               JOIN app_user u ON u.id = s.user_id AND u.session_epoch = s.session_epoch AND u.disabled_at IS NULL
               LEFT JOIN account a ON a.id = u.account_id
               LEFT JOIN second_factor f ON f.user_id = u.id AND f.confirmed_at IS NOT NULL
               WHERE s.token_hash = $1 AND s.ended_at IS NULL AND s.expires_at > $2 AND a.disabled_at IS NULL"#,
            token.as_slice(),
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.touch {
            let touch = sqlx::query!(
                "UPDATE login_session SET last_used_at = $2 WHERE id = $1",
                row.session_id,
                now
            );
            touched(touch.execute(&mut *tx).await.map(|_| ()), tx).await;
        }
        Ok(Some(Identity {
            user: UserId(row.id),
            email: row.email,
            name: row.name,
            account: row.account_id.map(AccountId),
            roles: row.roles.iter().filter_map(|name| Role::by_name(name)).collect(),
            api_key: None,
            reach: Reach::Whole,
            second_factor_wanted: row.wanted,
            second_factor: row.second_factor,
            expires_at: Some(row.expires_at),
        }))
    }

    async fn by_key(&self, token: &TokenHash, now: DateTime<Utc>) -> Result<Option<Identity>, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let row = sqlx::query!(
            r#"SELECT u.id, u.account_id, u.email, u.name, u.roles, k.id AS key_id, k.expires_at, k.scopes,
                      (k.last_used_at IS NULL OR k.last_used_at < $2::timestamptz - interval '1 minute') AS "touch!",
                      (f.user_id IS NOT NULL) AS "second_factor!",
                      coalesce(a.second_factor_roles && u.roles, false) AS "wanted!"
               FROM api_key k
               JOIN app_user u ON u.id = k.user_id AND u.disabled_at IS NULL
               LEFT JOIN account a ON a.id = u.account_id
               LEFT JOIN second_factor f ON f.user_id = u.id AND f.confirmed_at IS NOT NULL
               WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
                 AND a.disabled_at IS NULL"#,
            token.as_slice(),
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.touch {
            let touch = sqlx::query!("UPDATE api_key SET last_used_at = $2 WHERE id = $1", row.key_id, now);
            touched(touch.execute(&mut *tx).await.map(|_| ()), tx).await;
        }
        Ok(Some(Identity {
            user: UserId(row.id),
            email: row.email,
            name: row.name,
            account: row.account_id.map(AccountId),
            roles: row.roles.iter().filter_map(|name| Role::by_name(name)).collect(),
            api_key: Some(ApiKeyId(row.key_id)),
            reach: row
                .scopes
                .map_or(Reach::Whole, |scopes| Reach::Only(read_scopes(&scopes))),
            second_factor_wanted: row.wanted,
            second_factor: row.second_factor,
            expires_at: row.expires_at,
        }))
    }
}

/// Commits a note of last use. It is written once a minute, not with each request; where it cannot be (a full disk), the
/// request goes on without.
async fn touched(done: Result<(), sqlx::Error>, tx: Transaction<'static, Postgres>) {
    let done = match done {
        Ok(()) => tx.commit().await,
        failed => failed,
    };
    if let Err(error) = done {
        tracing::debug!(%error, "the last use of a token is not noted");
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

    async fn sign_in_record(
        &self,
        email: &str,
        source: Option<&str>,
        since: DateTime<Utc>,
    ) -> Result<Option<SignInRecord>, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let row = sqlx::query!(
            r#"SELECT u.id, u.password_hash, u.name,
                      EXISTS (SELECT FROM sign_in h WHERE h.user_id = u.id AND h.source = $2 AND h.outcome = 'granted'
                              AND h.last_at > $3) AS "known_source!",
                      f.salt AS "salt?", f.enrolled_at AS "enrolled_at?", f.confirmed_at,
                      f.last_step AS "last_step?", f.wrong_codes AS "wrong_codes?", f.wrong_since,
                      (SELECT count(*) FROM recovery_code r WHERE r.user_id = u.id AND r.used_at IS NULL)
                          AS "recovery_left!"
               FROM app_user u
               LEFT JOIN account a ON a.id = u.account_id
               LEFT JOIN second_factor f ON f.user_id = u.id AND f.confirmed_at IS NOT NULL
               WHERE lower(u.email) = lower($1) AND u.disabled_at IS NULL AND a.disabled_at IS NULL"#,
            email,
            source,
            since
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row.map(|row| {
            let second_factor = row.salt.zip(row.enrolled_at).map(|(salt, enrolled_at)| SecondFactor {
                salt,
                enrolled_at,
                confirmed_at: row.confirmed_at,
                last_step: row.last_step.unwrap_or(0),
                wrong_codes: row.wrong_codes.unwrap_or(0),
                wrong_since: row.wrong_since,
                recovery_left: row.recovery_left,
            });
            SignInRecord {
                user: UserId(row.id),
                password_hash: row.password_hash,
                name: row.name,
                known_source: row.known_source,
                second_factor,
            }
        }))
    }

    async fn familiar_sources(&self, since: DateTime<Utc>, limit: u32) -> Result<Vec<String>, StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let mut sources = sqlx::query_scalar!(
            r#"SELECT source AS "source!" FROM sign_in
               WHERE outcome = 'granted' AND last_at > $1 AND source IS NOT NULL
               GROUP BY source ORDER BY max(last_at) DESC LIMIT $2"#,
            since,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        sources.reverse();
        Ok(sources)
    }

    async fn open_session(&self, session: NewSession, actor: &Actor) -> Result<(), StoreError> {
        let mut tx = self.database.platform().begin().await?;
        // ended sessions are history of the audit and of sign_in, not of this table
        sqlx::query!(
            "DELETE FROM login_session WHERE user_id = $1 AND (ended_at IS NOT NULL OR expires_at <= $2
                 OR id IN (SELECT id FROM login_session WHERE user_id = $1
                           ORDER BY coalesce(last_used_at, created_at) DESC, id DESC OFFSET $3))",
            session.user.0,
            session.now,
            SESSIONS_MAX - 1
        )
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query!(
            "INSERT INTO login_session
                 (account_id, user_id, token_hash, session_epoch, created_at, expires_at, source, agent, place, second_factor)
             SELECT account_id, id, $2, session_epoch, $3, $4, $6, $7, $8, $9 FROM app_user
             WHERE id = $1 AND disabled_at IS NULL AND password_hash = $5 FOR SHARE
             RETURNING account_id",
            session.user.0,
            session.token.as_slice(),
            session.now,
            session.expires_at,
            session.password_hash,
            session.visitor.source,
            session.visitor.agent,
            session.visitor.place,
            session.second_factor
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound("user"))?;
        let account = row.account_id.map(AccountId);
        let told = Told {
            user: session.user,
            account,
            end: SignInEnd::Granted,
            visitor: &session.visitor,
            throttled: session.throttled,
            now: session.now,
        };
        sign_ins::write(&mut tx, &told).await?;
        sign_ins::forget(&mut tx, session.user, session.forget_before).await?;
        let object = format!("user/{}", session.user);
        let detail = json!({"second_factor": session.second_factor});
        append(&mut tx, account, actor, session.now, "session.open", &object, detail).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn sign_in_refused(&self, refusal: Refusal, actor: &Actor) -> Result<(), StoreError> {
        let mut tx = self.database.platform().begin().await?;
        let mut account = None;
        if let Some(user) = refusal.user {
            let found = sqlx::query_scalar!("SELECT account_id FROM app_user WHERE id = $1", user.0)
                .fetch_optional(&mut *tx)
                .await?;
            // deleted meanwhile: the audit alone has it
            if let Some(found) = found {
                account = found.map(AccountId);
                let told = Told {
                    user,
                    account,
                    end: refusal.end,
                    visitor: &refusal.visitor,
                    throttled: refusal.throttled,
                    now: refusal.now,
                };
                sign_ins::write(&mut tx, &told).await?;
            }
        }
        if let Some(unwritten) = refusal.audited {
            let object = refusal
                .user
                .map_or_else(|| "user/unknown".to_owned(), |user| format!("user/{user}"));
            let detail = json!({"why": refusal.end, "unwritten_before": unwritten});
            append(&mut tx, account, actor, refusal.now, "session.refused", &object, detail).await?;
        }
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
