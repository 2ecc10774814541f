//! Accounts in PostgreSQL.

use super::handles::{PgStores, Reach, check_version, unique};
use super::schedules::{ScheduleTarget, assign_schedule};
use crate::base::ids::{AccountId, ScheduleId};
use crate::domain::access::Role;
use crate::port::accounts::{Account, AccountEdit, AccountStore, NewAccount};
use crate::port::meters::ScheduleChoice;
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

impl InAccount<dyn AccountStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn AccountStore> {
        Box::new(Accounts(Reach::Account(self.account(scope))))
    }
}

impl AcrossAccounts<dyn AccountStore> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn AccountStore> {
        Box::new(Accounts(Reach::Platform(self.platform(actor))))
    }
}

struct Accounts(Reach);

struct Row {
    id: i32,
    name: String,
    time_zone: String,
    currency: String,
    schedule_id: Option<i32>,
    disabled_at: Option<DateTime<Utc>>,
    second_factor_roles: Vec<String>,
    created_at: DateTime<Utc>,
    version: i32,
}

impl From<Row> for Account {
    fn from(row: Row) -> Self {
        Self {
            id: AccountId(row.id),
            name: row.name,
            time_zone: row.time_zone,
            currency: row.currency,
            schedule_id: row.schedule_id.map(ScheduleId),
            disabled: row.disabled_at.is_some(),
            // a check constraint keeps other names out
            second_factor_roles: row
                .second_factor_roles
                .iter()
                .filter_map(|name| Role::by_name(name))
                .collect(),
            created_at: row.created_at,
            version: row.version,
        }
    }
}

async fn find(tx: &mut PgConnection, id: AccountId) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        "SELECT id, name, time_zone, currency, schedule_id, disabled_at, second_factor_roles, created_at, version FROM account WHERE id = $1",
        id.0
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Account::from))
}

fn name_taken(error: sqlx::Error) -> StoreError {
    unique(error, "account_name_key", "name", "another account has this name")
}

#[async_trait]
impl AccountStore for Accounts {
    async fn list(&self, text: Option<&str>, after: Option<AccountId>, limit: u32) -> Result<Vec<Account>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, name, time_zone, currency, schedule_id, disabled_at, second_factor_roles, created_at, version FROM account
             WHERE ($1::text IS NULL OR strpos(lower(name), lower($1)) > 0) AND id > $2 ORDER BY id LIMIT $3",
            text,
            after.map_or(0, |id| id.0),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows.into_iter().map(Account::from).collect())
    }

    async fn get(&self, id: AccountId) -> Result<Account, StoreError> {
        let mut tx = self.0.begin().await?;
        find(&mut tx, id).await?.ok_or(StoreError::NotFound("account"))
    }

    async fn create(&self, account: &NewAccount, now: DateTime<Utc>) -> Result<Account, StoreError> {
        let mut tx = self.0.begin().await?;
        let row = sqlx::query_as!(
            Row,
            "INSERT INTO account (name, time_zone, currency, created_at) VALUES ($1, $2, $3, $4)
             RETURNING id, name, time_zone, currency, schedule_id, disabled_at, second_factor_roles, created_at, version",
            account.name,
            account.time_zone,
            account.currency,
            now
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(name_taken)?;
        let made = Account::from(row);
        let detail = json!({"name": made.name, "time_zone": made.time_zone, "currency": made.currency});
        let object = format!("account/{}", made.id);
        self.0
            .audit(&mut tx, Some(made.id), now, "account.create", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(made)
    }

    async fn update(
        &self,
        id: AccountId,
        edit: &AccountEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Account, StoreError> {
        let mut tx = self.0.begin().await?;
        let found = sqlx::query_scalar!("SELECT version FROM account WHERE id = $1 FOR UPDATE", id.0)
            .fetch_optional(&mut *tx)
            .await?;
        check_version("account", found, version)?;
        let roles: Option<Vec<String>> = edit
            .second_factor_roles
            .as_ref()
            .map(|roles| roles.iter().map(|role| role.as_str().to_owned()).collect());
        sqlx::query!(
            "UPDATE account SET name = coalesce($2, name), time_zone = coalesce($3, time_zone),
                    currency = coalesce($4, currency), version = version + 1,
                    second_factor_roles = coalesce($7, second_factor_roles),
                    disabled_at = CASE WHEN $5::boolean IS NULL THEN disabled_at
                                       WHEN $5 THEN coalesce(disabled_at, $6) END
             WHERE id = $1",
            id.0,
            edit.name,
            edit.time_zone,
            edit.currency,
            edit.disabled,
            now,
            roles.as_deref()
        )
        .execute(&mut *tx)
        .await
        .map_err(name_taken)?;
        if edit.disabled == Some(true) {
            sqlx::query!(
                "UPDATE login_session SET ended_at = $2 WHERE account_id = $1 AND ended_at IS NULL",
                id.0,
                now
            )
            .execute(&mut *tx)
            .await?;
        }
        if let Some(schedule) = edit.schedule {
            let choice = schedule.map(ScheduleChoice::Existing);
            assign_schedule(&mut tx, id, ScheduleTarget::Account, choice.as_ref(), now).await?;
        }
        let account = find(&mut tx, id).await?.ok_or(StoreError::NotFound("account"))?;
        let detail = json!({"name": edit.name, "time_zone": edit.time_zone, "currency": edit.currency,
                            "schedule_id": edit.schedule, "disabled": edit.disabled,
                            "second_factor_roles": edit.second_factor_roles});
        let object = format!("account/{id}");
        self.0
            .audit(&mut tx, Some(id), now, "account.update", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(account)
    }
}
