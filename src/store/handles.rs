//! The handles that the API works through, over PostgreSQL: one value that makes them all, and what they share.

use super::{Database, Platform, Scoped, StoreError as DatabaseError};
use crate::base::ids::AccountId;
use crate::port::scope::{Actor, Scope, StoreError, Stores};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, Transaction};
use std::fmt::Display;

/// Audit entries that are written by one statement.
const AUDIT_AT_ONCE: usize = 1_000;

/// Makes every handle of the API. Each resource's file implements `InAccount` or `AcrossAccounts` for it.
#[derive(Clone, Debug)]
pub struct PgStores {
    pub(super) database: Database,
}

impl PgStores {
    /// Over these pools.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// What a handle within an account is made of.
    pub(super) fn account(&self, scope: Scope) -> AccountHandle {
        AccountHandle {
            scoped: self.database.scoped(scope.account),
            account: scope.account,
            actor: scope.actor,
        }
    }

    /// What a handle across accounts is made of.
    pub(super) fn platform(&self, actor: Actor) -> PlatformHandle {
        PlatformHandle {
            platform: self.database.platform(),
            actor,
        }
    }
}

impl Stores for PgStores {}

/// One account, one actor: transactions see that account alone, changes are written down with that actor.
#[derive(Clone, Debug)]
pub(super) struct AccountHandle {
    scoped: Scoped,
    pub(super) account: AccountId,
    pub(super) actor: Actor,
}

impl AccountHandle {
    /// A transaction within the account. Dropping it rolls back.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.scoped.begin().await?)
    }

    /// Writes the audit row of a change, in the change's transaction.
    pub(super) async fn audit(
        &self,
        transaction: &mut PgConnection,
        now: DateTime<Utc>,
        action: &str,
        object: &str,
        detail: Value,
    ) -> Result<(), StoreError> {
        append(
            transaction,
            Some(self.account),
            &self.actor,
            now,
            action,
            object,
            detail,
        )
        .await
    }

    /// Writes the audit row of a change to one thing, named by its kind, what was done and its id, and commits: the entry comes
    /// last, because from there on others wait.
    pub(super) async fn commit_audited(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        now: DateTime<Utc>,
        (kind, done, id): (&str, &str, &(dyn Display + Sync)),
        detail: Value,
    ) -> Result<(), StoreError> {
        let (action, object) = (format!("{kind}.{done}"), format!("{kind}/{id}"));
        self.audit(&mut transaction, now, &action, &object, detail).await?;
        Ok(transaction.commit().await?)
    }

    /// Writes the audit rows of many changes, in the changes' transaction and in their order.
    pub(super) async fn audit_all(
        &self,
        transaction: &mut PgConnection,
        now: DateTime<Utc>,
        entries: &[(&'static str, String, Value)],
    ) -> Result<(), StoreError> {
        for part in entries.chunks(AUDIT_AT_ONCE) {
            let actions: Vec<String> = part.iter().map(|(action, ..)| (*action).to_owned()).collect();
            let objects: Vec<String> = part.iter().map(|(_, object, _)| object.clone()).collect();
            let details: Vec<Value> = part.iter().map(|(.., detail)| signed(&self.actor, detail)).collect();
            sqlx::query!(
                "SELECT count(audit_append($1, $2, $3, x.action, x.object, x.detail))
                 FROM (SELECT * FROM unnest($4::text[], $5::text[], $6::jsonb[])
                       WITH ORDINALITY AS u(action, object, detail, n) ORDER BY n) AS x",
                self.account.0,
                now,
                self.actor.name,
                &actions,
                &objects,
                &details
            )
            .fetch_one(&mut *transaction)
            .await?;
        }
        Ok(())
    }
}

/// Across accounts, one actor.
#[derive(Clone, Debug)]
pub(super) struct PlatformHandle {
    platform: Platform,
    pub(super) actor: Actor,
}

impl PlatformHandle {
    /// A transaction across accounts. Dropping it rolls back.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.platform.begin().await?)
    }

    /// Writes the audit row of a change, in the change's transaction.
    pub(super) async fn audit(
        &self,
        transaction: &mut PgConnection,
        account: Option<AccountId>,
        now: DateTime<Utc>,
        action: &str,
        object: &str,
        detail: Value,
    ) -> Result<(), StoreError> {
        append(transaction, account, &self.actor, now, action, object, detail).await
    }
}

/// One account or all of them, by who asks; the statements are the same, row policies make the difference.
#[derive(Clone, Debug)]
pub(super) enum Reach {
    /// One account.
    Account(AccountHandle),
    /// All.
    Platform(PlatformHandle),
}

impl Reach {
    /// A transaction. Dropping it rolls back.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        match self {
            Self::Account(handle) => handle.begin().await,
            Self::Platform(handle) => handle.begin().await,
        }
    }

    /// The account, when it is one.
    pub(super) fn account(&self) -> Option<AccountId> {
        match self {
            Self::Account(handle) => Some(handle.account),
            Self::Platform(_) => None,
        }
    }

    /// Writes the audit row of a change to a thing of `account`, in the change's transaction.
    pub(super) async fn audit(
        &self,
        transaction: &mut PgConnection,
        account: Option<AccountId>,
        now: DateTime<Utc>,
        action: &str,
        object: &str,
        detail: Value,
    ) -> Result<(), StoreError> {
        match self {
            Self::Account(handle) => handle.audit(transaction, now, action, object, detail).await,
            Self::Platform(handle) => handle.audit(transaction, account, now, action, object, detail).await,
        }
    }
}

/// Appends to the audit chain. `detail` says what changed; who and from where is added. Call it last in a transaction:
/// from here on others wait for the commit.
pub(super) async fn append(
    transaction: &mut PgConnection,
    account: Option<AccountId>,
    actor: &Actor,
    now: DateTime<Utc>,
    action: &str,
    object: &str,
    detail: Value,
) -> Result<(), StoreError> {
    let detail = signed(actor, &detail);
    sqlx::query_scalar!(
        "SELECT audit_append($1, $2, $3, $4, $5, $6)",
        account.map(|account| account.0) as Option<i32>,
        now,
        actor.name,
        action,
        object,
        detail
    )
    .fetch_one(transaction)
    .await?;
    Ok(())
}

/// What changed, with who did it and from where.
fn signed(actor: &Actor, detail: &Value) -> Value {
    json!({
        "change": detail,
        "user_id": actor.user,
        "api_key_id": actor.api_key,
        "source": actor.source,
        "request_id": actor.request_id,
    })
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unique { constraint } => Self::Conflict {
                field: None,
                message: format!("something like it exists already ({constraint})"),
            },
            DatabaseError::Reference { constraint } => Self::Conflict {
                field: referring(&constraint),
                message: "it refers to something that does not exist, or something else refers to it".to_owned(),
            },
            DatabaseError::Data { message, .. } => Self::Conflict {
                field: None,
                message: format!("the database cannot keep a value: {message}"),
            },
            retry if retry.may_retry() => Self::Unavailable(retry.to_string()),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

/// Names the field when a unique constraint is violated; other errors stay.
pub(super) fn unique(error: sqlx::Error, constraint: &str, field: &'static str, message: &str) -> StoreError {
    let error = DatabaseError::from(error);
    if error.unique() == Some(constraint) {
        StoreError::Conflict {
            field: Some(field),
            message: message.to_owned(),
        }
    } else {
        error.into()
    }
}

/// Holds the version of a locked row against the one the caller saw (none: any).
pub(super) fn check_version(what: &'static str, found: Option<i32>, seen: Option<i32>) -> Result<(), StoreError> {
    let current = found.ok_or(StoreError::NotFound(what))?;
    match seen {
        Some(seen) if seen != current => Err(StoreError::Stale { current }),
        _ => Ok(()),
    }
}

/// Locks a row that is edited, by its table and its id, and holds its version against the one the caller saw.
macro_rules! lock_versioned {
    ($tx:expr, $table:tt, $what:expr, $id:expr, $version:expr) => {{
        let found = sqlx::query_scalar!(
            "SELECT version FROM " + $table + " WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
            $id.0
        )
        .fetch_optional($tx)
        .await?;
        $crate::store::handles::check_version($what, found, $version)
    }};
}
pub(super) use lock_versioned;

/// The column that a foreign key is about, by the key's name (`TABLE_account_id_COLUMN_fkey`).
fn referring(constraint: &str) -> Option<&'static str> {
    const COLUMNS: [&str; 10] = [
        "calendar_id",
        "channel_id",
        "dtu_id",
        "group_id",
        "meter_id",
        "parent_id",
        "point_id",
        "recipient_id",
        "schedule_id",
        "user_id",
    ];
    let columns = constraint.strip_suffix("_fkey")?;
    COLUMNS.into_iter().find(|column| columns.ends_with(column))
}
