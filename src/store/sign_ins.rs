//! Sessions and sign-ins of people in PostgreSQL. Bounded per person: what is too much goes as the next one is written.

use super::handles::{PgStores, Reach};
use crate::base::ids::{AccountId, UserId};
use crate::port::auth::TokenHash;
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use crate::port::sign_ins::{GRANTED_MAX, OpenSession, REFUSED_MAX, SignInBook, SignInEnd, SignInTold, Visitor};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

impl InAccount<dyn SignInBook> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn SignInBook> {
        Box::new(SignIns(Reach::Account(self.account(scope))))
    }
}

impl AcrossAccounts<dyn SignInBook> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn SignInBook> {
        Box::new(SignIns(Reach::Platform(self.platform(actor))))
    }
}

/// What is written down of a sign-in.
pub(super) struct Told<'a> {
    pub(super) user: UserId,
    pub(super) account: Option<AccountId>,
    pub(super) end: SignInEnd,
    pub(super) visitor: &'a Visitor,
    pub(super) throttled: u32,
    pub(super) now: DateTime<Utc>,
}

/// Writes a sign-in down; a refusal like one of the last minute is added to it.
pub(super) async fn write(tx: &mut PgConnection, told: &Told<'_>) -> Result<(), StoreError> {
    let throttled = i32::try_from(told.throttled).unwrap_or(i32::MAX);
    let granted = told.end == SignInEnd::Granted;
    if !granted {
        let merged = sqlx::query!(
            "UPDATE sign_in SET times = times + 1, last_at = $6,
                    throttled = least(throttled::bigint + $5, 2147483647)::int
             WHERE id = (SELECT id FROM sign_in WHERE user_id = $1 AND outcome = $2 AND source IS NOT DISTINCT FROM $3
                           AND agent = $4 AND at > $6::timestamptz - interval '1 minute' ORDER BY id DESC LIMIT 1)",
            told.user.0,
            told.end.as_str(),
            told.visitor.source,
            told.visitor.agent,
            i64::from(throttled),
            told.now
        )
        .execute(&mut *tx)
        .await?;
        if merged.rows_affected() > 0 {
            return Ok(());
        }
    }
    sqlx::query!(
        "INSERT INTO sign_in (account_id, user_id, at, last_at, outcome, source, agent, place, throttled)
         VALUES ($1, $2, $3, $3, $4, $5, $6, $7, $8)",
        told.account.map(|account| account.0) as Option<i32>,
        told.user.0,
        told.now,
        told.end.as_str(),
        told.visitor.source,
        told.visitor.agent,
        told.visitor.place,
        throttled
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "DELETE FROM sign_in WHERE user_id = $1 AND (outcome = 'granted') = $2 AND id IN
             (SELECT id FROM sign_in WHERE user_id = $1 AND (outcome = 'granted') = $2 ORDER BY id DESC OFFSET $3)",
        told.user.0,
        granted,
        if granted { GRANTED_MAX } else { REFUSED_MAX }
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets what was before an instant.
pub(super) async fn forget(tx: &mut PgConnection, user: UserId, before: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM sign_in WHERE user_id = $1 AND last_at < $2",
        user.0,
        before
    )
    .execute(tx)
    .await?;
    Ok(())
}

struct SignIns(Reach);

#[async_trait]
impl SignInBook for SignIns {
    async fn sessions(
        &self,
        user: UserId,
        present: Option<&TokenHash>,
        now: DateTime<Utc>,
    ) -> Result<Vec<OpenSession>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query!(
            r#"SELECT s.id, s.created_at, s.expires_at, s.last_used_at, s.source, s.agent, s.place, s.second_factor,
                      coalesce(s.token_hash = $2, false) AS "current!"
               FROM login_session s JOIN app_user u ON u.id = s.user_id AND u.session_epoch = s.session_epoch
               WHERE s.user_id = $1 AND s.ended_at IS NULL AND s.expires_at > $3 ORDER BY s.id DESC"#,
            user.0,
            present.map(|token| token.as_slice()) as Option<&[u8]>,
            now
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| OpenSession {
                id: row.id,
                created_at: row.created_at,
                expires_at: row.expires_at,
                last_used_at: row.last_used_at,
                source: row.source,
                agent: row.agent,
                place: row.place,
                second_factor: row.second_factor,
                current: row.current,
            })
            .collect())
    }

    async fn end(&self, user: UserId, session: i32, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let row = sqlx::query!(
            "UPDATE login_session SET ended_at = $3 WHERE id = $2 AND user_id = $1 AND ended_at IS NULL AND expires_at > $3
             RETURNING account_id",
            user.0,
            session,
            now
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound("session"))?;
        let account = row.account_id.map(AccountId);
        let object = format!("user/{user}");
        let detail = json!({"session": session});
        self.0
            .audit(&mut tx, account, now, "session.end", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn end_all(&self, user: UserId, but: Option<&TokenHash>, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query!(
            "UPDATE login_session SET ended_at = $3
             WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $3 AND token_hash IS DISTINCT FROM $2
             RETURNING account_id",
            user.0,
            but.map(|token| token.as_slice()) as Option<&[u8]>,
            now
        )
        .fetch_all(&mut *tx)
        .await?;
        let Some(first) = rows.first() else { return Ok(0) };
        let account = first.account_id.map(AccountId);
        let object = format!("user/{user}");
        let detail = json!({"sessions": rows.len()});
        self.0
            .audit(&mut tx, account, now, "session.end", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
    }

    async fn history(&self, user: UserId, before: Option<i64>, limit: u32) -> Result<Vec<SignInTold>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query!(
            "SELECT id, at, last_at, times, outcome, source, agent, place, throttled FROM sign_in
             WHERE user_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
            user.0,
            before,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                Some(SignInTold {
                    id: row.id,
                    at: row.at,
                    last_at: row.last_at,
                    times: row.times,
                    // a check constraint keeps other names out
                    outcome: SignInEnd::by_name(&row.outcome)?,
                    source: row.source,
                    agent: row.agent,
                    place: row.place,
                    throttled_before: row.throttled,
                })
            })
            .collect())
    }
}
