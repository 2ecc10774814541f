//! Second factors in PostgreSQL: salts, never secrets; hashes of recovery codes, never the codes.

use super::handles::{PgStores, Reach};
use crate::base::ids::{AccountId, UserId};
use crate::port::auth::TokenHash;
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use crate::port::second_factor::{SecondFactor, SecondFactorStore, WRONG_CODES_WINDOW};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

impl InAccount<dyn SecondFactorStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn SecondFactorStore> {
        Box::new(SecondFactors(Reach::Account(self.account(scope))))
    }
}

impl AcrossAccounts<dyn SecondFactorStore> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn SecondFactorStore> {
        Box::new(SecondFactors(Reach::Platform(self.platform(actor))))
    }
}

struct SecondFactors(Reach);

fn conflict(message: &str) -> StoreError {
    StoreError::Conflict {
        field: None,
        message: message.to_owned(),
    }
}

async fn set_recovery(tx: &mut PgConnection, user: UserId, codes: &[TokenHash]) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM recovery_code WHERE user_id = $1", user.0)
        .execute(&mut *tx)
        .await?;
    let hashes: Vec<Vec<u8>> = codes.iter().map(|hash| hash.to_vec()).collect();
    sqlx::query!(
        "INSERT INTO recovery_code (user_id, account_id, hash)
         SELECT f.user_id, f.account_id, h FROM second_factor f, unnest($2::bytea[]) AS h WHERE f.user_id = $1",
        user.0,
        &hashes
    )
    .execute(tx)
    .await?;
    Ok(())
}

#[async_trait]
impl SecondFactorStore for SecondFactors {
    async fn get(&self, user: UserId) -> Result<Option<SecondFactor>, StoreError> {
        let mut tx = self.0.begin().await?;
        let row = sqlx::query_as!(
            SecondFactor,
            r#"SELECT salt, enrolled_at, confirmed_at, last_step, wrong_codes, wrong_since,
                      (SELECT count(*) FROM recovery_code r WHERE r.user_id = f.user_id AND r.used_at IS NULL)
                          AS "recovery_left!"
               FROM second_factor f WHERE f.user_id = $1"#,
            user.0
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row)
    }

    async fn enrol(&self, user: UserId, salt: Uuid, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let account = sqlx::query_scalar!("SELECT account_id FROM app_user WHERE id = $1 FOR SHARE", user.0)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or(StoreError::NotFound("user"))?;
        let made = sqlx::query!(
            "INSERT INTO second_factor AS f (user_id, account_id, salt, enrolled_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (user_id) DO UPDATE SET salt = excluded.salt, enrolled_at = excluded.enrolled_at
             WHERE f.confirmed_at IS NULL",
            user.0,
            account,
            salt,
            now
        )
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 0 {
            return Err(conflict("a second factor is in use: take it away first"));
        }
        tx.commit().await?;
        Ok(())
    }

    async fn confirm(
        &self,
        user: UserId,
        salt: Uuid,
        step: i64,
        recovery: &[TokenHash],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let account = sqlx::query_scalar!(
            "UPDATE second_factor SET confirmed_at = $4, last_step = $3, wrong_codes = 0, wrong_since = NULL
             WHERE user_id = $1 AND salt = $2 AND confirmed_at IS NULL RETURNING account_id",
            user.0,
            salt,
            step,
            now
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| conflict("no enrolment is under way: begin one"))?;
        set_recovery(&mut tx, user, recovery).await?;
        let object = format!("user/{user}");
        self.0
            .audit(
                &mut tx,
                account.map(AccountId),
                now,
                "second_factor.enrol",
                &object,
                json!({}),
            )
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn take_step(&self, user: UserId, step: i64) -> Result<bool, StoreError> {
        let mut tx = self.0.begin().await?;
        let taken = sqlx::query!(
            "UPDATE second_factor SET last_step = $2, wrong_codes = 0, wrong_since = NULL
             WHERE user_id = $1 AND confirmed_at IS NOT NULL AND last_step < $2",
            user.0,
            step
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(taken.rows_affected() == 1)
    }

    async fn take_recovery(&self, user: UserId, code: &TokenHash, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut tx = self.0.begin().await?;
        let taken = sqlx::query!(
            "UPDATE recovery_code SET used_at = $3 WHERE user_id = $1 AND hash = $2 AND used_at IS NULL
             RETURNING account_id",
            user.0,
            code.as_slice(),
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(taken) = taken else { return Ok(false) };
        sqlx::query!(
            "UPDATE second_factor SET wrong_codes = 0, wrong_since = NULL WHERE user_id = $1",
            user.0
        )
        .execute(&mut *tx)
        .await?;
        let object = format!("user/{user}");
        self.0
            .audit(
                &mut tx,
                taken.account_id.map(AccountId),
                now,
                "second_factor.recovery",
                &object,
                json!({}),
            )
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn count_wrong(&self, user: UserId, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "UPDATE second_factor SET
                 wrong_codes = CASE WHEN wrong_since > $2 THEN least(wrong_codes, 1000000) + 1 ELSE 1 END,
                 wrong_since = CASE WHEN wrong_since > $2 THEN wrong_since ELSE $3 END
             WHERE user_id = $1",
            user.0,
            now - WRONG_CODES_WINDOW,
            now
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn replace_recovery(
        &self,
        user: UserId,
        recovery: &[TokenHash],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let account = sqlx::query_scalar!(
            "SELECT account_id FROM second_factor WHERE user_id = $1 AND confirmed_at IS NOT NULL FOR UPDATE",
            user.0
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| conflict("there is no second factor"))?;
        set_recovery(&mut tx, user, recovery).await?;
        let object = format!("user/{user}");
        self.0
            .audit(
                &mut tx,
                account.map(AccountId),
                now,
                "second_factor.new_recovery_codes",
                &object,
                json!({}),
            )
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn remove(&self, user: UserId, reset: bool, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut tx = self.0.begin().await?;
        let gone = sqlx::query!(
            "DELETE FROM second_factor WHERE user_id = $1 RETURNING account_id, confirmed_at",
            user.0
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(gone) = gone else { return Ok(false) };
        let action = if reset {
            sqlx::query!(
                "UPDATE app_user SET session_epoch = session_epoch + 1 WHERE id = $1",
                user.0
            )
            .execute(&mut *tx)
            .await?;
            "second_factor.reset"
        } else {
            "second_factor.remove"
        };
        let object = format!("user/{user}");
        let detail = json!({"was_confirmed": gone.confirmed_at.is_some()});
        self.0
            .audit(&mut tx, gone.account_id.map(AccountId), now, action, &object, detail)
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}
