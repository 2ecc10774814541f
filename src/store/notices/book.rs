//! Recipients, channels and routes of an account, as the API edits them. Recipients are here.

mod channels;
mod routes;

pub(super) use channels::find_channel;

use super::rows;
use super::to_json;
use crate::base::ids::{RecipientId, UserId};
use crate::port::notices::{RecipientSpec, StoredRecipient};
use crate::port::scope::StoreError;
use crate::store::handles::{AccountHandle, lock_versioned};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// The most recipients of an account.
const RECIPIENTS_MAX: i64 = 1000;

fn full(what: &str, most: i64) -> StoreError {
    StoreError::Conflict {
        field: None,
        message: format!("there can be at most {most} {what}; delete some first"),
    }
}

struct RecipientRow {
    id: i32,
    name: String,
    user_id: Option<i32>,
    language: String,
    time_zone: String,
    quiet: Option<Value>,
    digest: Option<Value>,
    per_hour: Option<i32>,
    enabled: bool,
    created_at: DateTime<Utc>,
    version: i32,
}

impl TryFrom<RecipientRow> for StoredRecipient {
    type Error = StoreError;

    fn try_from(row: RecipientRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: RecipientId(row.id),
            spec: RecipientSpec {
                name: row.name,
                user: row.user_id.map(UserId),
                language: rows::language(&row.language)?,
                zone: rows::zone(&row.time_zone)?,
                quiet: row.quiet.map(|quiet| rows::read(quiet, "quiet")).transpose()?,
                digest: row.digest.map(|digest| rows::read(digest, "digest")).transpose()?,
                per_hour: row.per_hour.and_then(|limit| u32::try_from(limit).ok()),
                enabled: row.enabled,
            },
            created_at: row.created_at,
            version: row.version,
        })
    }
}

/// The recipients behind `after`, or the one `only`.
async fn recipient_rows(
    tx: &mut PgConnection,
    only: Option<RecipientId>,
    after: Option<RecipientId>,
    limit: u32,
) -> Result<Vec<StoredRecipient>, StoreError> {
    sqlx::query_as!(
        RecipientRow,
        "SELECT id, name, user_id, language, time_zone, quiet, digest, per_hour, enabled, created_at, version
         FROM notice_recipient
         WHERE deleted_at IS NULL AND ($1::int IS NULL OR id = $1) AND ($2::int IS NULL OR id > $2)
         ORDER BY id LIMIT $3",
        only.map(|id| id.0),
        after.map(|id| id.0),
        i64::from(limit)
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(StoredRecipient::try_from)
    .collect()
}

async fn find_recipient(tx: &mut PgConnection, id: RecipientId) -> Result<StoredRecipient, StoreError> {
    let found = recipient_rows(tx, Some(id), None, 1).await?.pop();
    found.ok_or(StoreError::NotFound("recipient"))
}

/// What an audit entry says of a recipient.
fn audited(spec: &RecipientSpec) -> Value {
    json!({ "name": spec.name, "user_id": spec.user, "language": spec.language, "time_zone": spec.zone.name(),
            "quiet": spec.quiet, "digest": spec.digest, "per_hour": spec.per_hour, "enabled": spec.enabled })
}

async fn check_user(tx: &mut PgConnection, user: Option<UserId>) -> Result<(), StoreError> {
    let Some(user) = user else { return Ok(()) };
    let there = sqlx::query_scalar!("SELECT id FROM app_user WHERE id = $1", user.0)
        .fetch_optional(tx)
        .await?;
    there.map(|_| ()).ok_or_else(|| StoreError::Invalid {
        field: "user_id",
        message: format!("there is no user {user}"),
    })
}

/// Quiet hours, digest and limit of a recipient, as columns.
type Habits = (Option<Value>, Option<Value>, Option<i32>);

fn columns(spec: &RecipientSpec) -> Result<Habits, StoreError> {
    Ok((
        spec.quiet.as_ref().map(to_json).transpose()?,
        spec.digest.as_ref().map(to_json).transpose()?,
        spec.per_hour.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)),
    ))
}

impl AccountHandle {
    pub(super) async fn list_recipients(
        &self,
        after: Option<RecipientId>,
        limit: u32,
    ) -> Result<Vec<StoredRecipient>, StoreError> {
        let mut tx = self.begin().await?;
        recipient_rows(&mut tx, None, after, limit).await
    }

    pub(super) async fn get_recipient(&self, id: RecipientId) -> Result<StoredRecipient, StoreError> {
        let mut tx = self.begin().await?;
        find_recipient(&mut tx, id).await
    }

    pub(super) async fn insert_recipient(
        &self,
        spec: &RecipientSpec,
        now: DateTime<Utc>,
    ) -> Result<StoredRecipient, StoreError> {
        let mut tx = self.begin().await?;
        check_user(&mut tx, spec.user).await?;
        let present = sqlx::query_scalar!("SELECT count(*) FROM notice_recipient WHERE deleted_at IS NULL")
            .fetch_one(&mut *tx)
            .await?;
        if present.unwrap_or(0) >= RECIPIENTS_MAX {
            return Err(full("recipients", RECIPIENTS_MAX));
        }
        let (quiet, digest, per_hour) = columns(spec)?;
        let id = sqlx::query_scalar!(
            "INSERT INTO notice_recipient (account_id, name, user_id, language, time_zone, quiet, digest, per_hour, enabled,
                                           created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
            self.account.0,
            spec.name,
            spec.user.map(|user| user.0) as Option<i32>,
            spec.language.as_str(),
            spec.zone.name(),
            quiet,
            digest,
            per_hour as Option<i32>,
            spec.enabled,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        let made = find_recipient(&mut tx, RecipientId(id)).await?;
        self.commit_audited(tx, now, ("notice_recipient", "create", &id), audited(spec))
            .await?;
        Ok(made)
    }

    pub(super) async fn update_recipient(
        &self,
        id: RecipientId,
        spec: &RecipientSpec,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredRecipient, StoreError> {
        let mut tx = self.begin().await?;
        lock_recipient(&mut tx, id, version).await?;
        let before = find_recipient(&mut tx, id).await?;
        check_user(&mut tx, spec.user).await?;
        let (quiet, digest, per_hour) = columns(spec)?;
        sqlx::query!(
            "UPDATE notice_recipient SET name = $2, user_id = $3, language = $4, time_zone = $5, quiet = $6, digest = $7,
                    per_hour = $8, enabled = $9, version = version + 1
             WHERE id = $1",
            id.0,
            spec.name,
            spec.user.map(|user| user.0) as Option<i32>,
            spec.language.as_str(),
            spec.zone.name(),
            quiet,
            digest,
            per_hour as Option<i32>,
            spec.enabled
        )
        .execute(&mut *tx)
        .await?;
        let after = find_recipient(&mut tx, id).await?;
        let detail = json!({ "from": audited(&before.spec), "to": audited(spec) });
        self.commit_audited(tx, now, ("notice_recipient", "update", &id), detail)
            .await?;
        Ok(after)
    }

    pub(super) async fn delete_recipient(
        &self,
        id: RecipientId,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock_recipient(&mut tx, id, version).await?;
        sqlx::query!(
            "UPDATE notice_recipient SET deleted_at = $2, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE notice_channel SET deleted_at = $2, version = version + 1
             WHERE recipient_id = $1 AND deleted_at IS NULL",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE notice_item SET state = 'cancelled', reason = 'the recipient was deleted'
             WHERE recipient_id = $1 AND state = 'waiting'",
            id.0
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE notice_message SET state = 'dead', next_at = NULL, ended_at = $2, last_error = 'the recipient was deleted'
             WHERE recipient_id = $1 AND state = 'waiting'",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        self.commit_audited(tx, now, ("notice_recipient", "delete", &id), json!({}))
            .await
    }
}

async fn lock_recipient(tx: &mut PgConnection, id: RecipientId, version: Option<i32>) -> Result<(), StoreError> {
    lock_versioned!(tx, "notice_recipient", "recipient", id, version)
}
