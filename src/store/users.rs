//! People in PostgreSQL.

use super::handles::{PgStores, Reach, check_version, unique};
use crate::base::ids::{AccountId, UserId};
use crate::domain::access::Role;
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use crate::port::users::{NewUser, User, UserEdit, UserStore};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

impl InAccount<dyn UserStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn UserStore> {
        Box::new(Users(Reach::Account(self.account(scope))))
    }
}

impl AcrossAccounts<dyn UserStore> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn UserStore> {
        Box::new(Users(Reach::Platform(self.platform(actor))))
    }
}

struct Users(Reach);

struct Row {
    id: i32,
    account_id: Option<i32>,
    email: String,
    name: String,
    roles: Vec<String>,
    disabled_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    version: i32,
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self {
            id: UserId(row.id),
            account_id: row.account_id.map(AccountId),
            email: row.email,
            name: row.name,
            // a check constraint keeps other names out
            roles: row.roles.iter().filter_map(|name| Role::by_name(name)).collect(),
            disabled: row.disabled_at.is_some(),
            created_at: row.created_at,
            version: row.version,
        }
    }
}

fn names(roles: &[Role]) -> Vec<String> {
    roles.iter().map(|role| role.as_str().to_owned()).collect()
}

/// Locks the person's account first, so that two edits cannot each take away the other's last admin.
async fn lock(tx: &mut PgConnection, id: UserId, version: Option<i32>) -> Result<(), StoreError> {
    sqlx::query!(
        "SELECT id FROM account WHERE id = (SELECT account_id FROM app_user WHERE id = $1) FOR UPDATE",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    let found = sqlx::query_scalar!("SELECT version FROM app_user WHERE id = $1 FOR UPDATE", id.0)
        .fetch_optional(tx)
        .await?;
    check_version("user", found, version)
}

async fn find(tx: &mut PgConnection, id: UserId) -> Result<User, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, account_id, email, name, roles, disabled_at, created_at, version FROM app_user WHERE id = $1",
        id.0
    )
    .fetch_optional(tx)
    .await?
    .map(User::from)
    .ok_or(StoreError::NotFound("user"))
}

async fn admins(tx: &mut PgConnection, account: Option<AccountId>) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM app_user
           WHERE account_id IS NOT DISTINCT FROM $1 AND disabled_at IS NULL
             AND CASE WHEN $1::int IS NULL THEN 'platform' ELSE 'admin' END = ANY (roles)"#,
        account.map(|account| account.0)
    )
    .fetch_one(tx)
    .await?)
}

fn last_admin() -> StoreError {
    StoreError::Conflict {
        field: None,
        message: "this would leave nobody who can manage people: make somebody else an admin first".to_owned(),
    }
}

#[async_trait]
impl UserStore for Users {
    async fn list(&self, text: Option<&str>, after: Option<UserId>, limit: u32) -> Result<Vec<User>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, account_id, email, name, roles, disabled_at, created_at, version FROM app_user
             WHERE ($1::text IS NULL OR strpos(lower(email), lower($1)) > 0 OR strpos(lower(name), lower($1)) > 0)
               AND id > $2 ORDER BY id LIMIT $3",
            text,
            after.map_or(0, |id| id.0),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows.into_iter().map(User::from).collect())
    }

    async fn get(&self, id: UserId) -> Result<User, StoreError> {
        let mut tx = self.0.begin().await?;
        find(&mut tx, id).await
    }

    async fn create(&self, user: &NewUser, now: DateTime<Utc>) -> Result<User, StoreError> {
        let mut tx = self.0.begin().await?;
        let account = self.0.account();
        let row = sqlx::query_as!(
            Row,
            "INSERT INTO app_user (account_id, email, name, roles, password_hash, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             RETURNING id, account_id, email, name, roles, disabled_at, created_at, version",
            account.map(|account| account.0) as Option<i32>,
            user.email,
            user.name,
            &names(&user.roles),
            user.password_hash,
            now
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| {
            unique(
                error,
                "app_user_email",
                "email",
                "somebody has this e-mail address already",
            )
        })?;
        let made = User::from(row);
        let detail = json!({"email": made.email, "name": made.name, "roles": made.roles});
        let object = format!("user/{}", made.id);
        self.0
            .audit(&mut tx, account, now, "user.create", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(made)
    }

    async fn update(
        &self,
        id: UserId,
        edit: &UserEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<User, StoreError> {
        let mut tx = self.0.begin().await?;
        lock(&mut tx, id, version).await?;
        let before = find(&mut tx, id).await?;
        let admins_before = admins(&mut tx, before.account_id).await?;
        let roles = edit.roles.as_deref().filter(|roles| *roles != before.roles);
        let role_names = roles.map(names);
        let ends_sessions = roles.is_some() || edit.password_hash.is_some() || edit.disabled == Some(true);
        sqlx::query!(
            "UPDATE app_user SET name = coalesce($2, name), roles = coalesce($3, roles),
                    password_hash = coalesce($4, password_hash), version = version + 1,
                    session_epoch = session_epoch + CASE WHEN $7::boolean THEN 1 ELSE 0 END,
                    disabled_at = CASE WHEN $5::boolean IS NULL THEN disabled_at
                                       WHEN $5 THEN coalesce(disabled_at, $6) END
             WHERE id = $1",
            id.0,
            edit.name,
            role_names.as_deref(),
            edit.password_hash,
            edit.disabled,
            now,
            ends_sessions
        )
        .execute(&mut *tx)
        .await?;
        if admins_before > 0 && admins(&mut tx, before.account_id).await? == 0 {
            return Err(last_admin());
        }
        let user = find(&mut tx, id).await?;
        let detail = json!({"name": edit.name, "roles": edit.roles, "disabled": edit.disabled,
                            "password": edit.password_hash.is_some()});
        let object = format!("user/{id}");
        self.0
            .audit(&mut tx, user.account_id, now, "user.update", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(user)
    }

    async fn delete(&self, id: UserId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        lock(&mut tx, id, version).await?;
        let before = find(&mut tx, id).await?;
        let admins_before = admins(&mut tx, before.account_id).await?;
        sqlx::query!("DELETE FROM api_key WHERE user_id = $1", id.0)
            .execute(&mut *tx)
            .await?;
        sqlx::query!("DELETE FROM login_session WHERE user_id = $1", id.0)
            .execute(&mut *tx)
            .await?;
        sqlx::query!("DELETE FROM app_user WHERE id = $1", id.0)
            .execute(&mut *tx)
            .await?;
        if admins_before > 0 && admins(&mut tx, before.account_id).await? == 0 {
            return Err(last_admin());
        }
        let object = format!("user/{id}");
        let detail = json!({"email": before.email, "roles": before.roles});
        self.0
            .audit(&mut tx, before.account_id, now, "user.delete", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
