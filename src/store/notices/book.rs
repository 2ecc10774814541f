//! Recipients, channels and routes of an account, as the API edits them.

use super::rows;
use super::to_json;
use crate::base::ids::{ChannelId, RecipientId, RouteId, UserId};
use crate::domain::notice::ChannelKind;
use crate::domain::notice::plan::Rule;
use crate::port::notices::{RecipientSpec, StoredChannel, StoredRecipient, StoredRoute};
use crate::port::scope::StoreError;
use crate::store::handles::{AccountHandle, check_version};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

/// The most recipients of an account, channels of a recipient, and routes of an account.
const RECIPIENTS_MAX: i64 = 1000;
const CHANNELS_MAX: i64 = 20;
const ROUTES_MAX: i64 = 200;

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
        let object = format!("notice_recipient/{id}");
        self.audit(&mut tx, now, "notice_recipient.create", &object, audited(spec))
            .await?;
        tx.commit().await?;
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
        self.audit(
            &mut tx,
            now,
            "notice_recipient.update",
            &format!("notice_recipient/{id}"),
            detail,
        )
        .await?;
        tx.commit().await?;
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
        self.audit(
            &mut tx,
            now,
            "notice_recipient.delete",
            &format!("notice_recipient/{id}"),
            json!({}),
        )
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn lock_recipient(tx: &mut PgConnection, id: RecipientId, version: Option<i32>) -> Result<(), StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT version FROM notice_recipient WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        id.0
    )
    .fetch_optional(tx)
    .await?;
    check_version("recipient", found, version)
}

struct ChannelRow {
    id: i32,
    recipient_id: i32,
    kind: String,
    address: String,
    enabled: bool,
    salt: Uuid,
    created_at: DateTime<Utc>,
    version: i32,
}

impl TryFrom<ChannelRow> for StoredChannel {
    type Error = StoreError;

    fn try_from(row: ChannelRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ChannelId(row.id),
            recipient: RecipientId(row.recipient_id),
            kind: rows::kind(&row.kind)?,
            address: row.address,
            enabled: row.enabled,
            salt: row.salt,
            created_at: row.created_at,
            version: row.version,
        })
    }
}

async fn channel_rows(
    tx: &mut PgConnection,
    only: Option<ChannelId>,
    recipient: Option<RecipientId>,
    after: Option<ChannelId>,
    limit: u32,
) -> Result<Vec<StoredChannel>, StoreError> {
    sqlx::query_as!(
        ChannelRow,
        "SELECT id, recipient_id, kind, address, enabled, salt, created_at, version FROM notice_channel
         WHERE deleted_at IS NULL AND ($1::int IS NULL OR id = $1) AND ($2::int IS NULL OR recipient_id = $2)
           AND ($3::int IS NULL OR id > $3)
         ORDER BY id LIMIT $4",
        only.map(|id| id.0),
        recipient.map(|id| id.0),
        after.map(|id| id.0),
        i64::from(limit)
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(StoredChannel::try_from)
    .collect()
}

pub(super) async fn find_channel(tx: &mut PgConnection, id: ChannelId) -> Result<StoredChannel, StoreError> {
    let found = channel_rows(tx, Some(id), None, None, 1).await?.pop();
    found.ok_or(StoreError::NotFound("channel"))
}

async fn lock_channel(tx: &mut PgConnection, id: ChannelId, version: Option<i32>) -> Result<(), StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT version FROM notice_channel WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        id.0
    )
    .fetch_optional(tx)
    .await?;
    check_version("channel", found, version)
}

impl AccountHandle {
    pub(super) async fn list_channels(
        &self,
        recipient: Option<RecipientId>,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<StoredChannel>, StoreError> {
        let mut tx = self.begin().await?;
        channel_rows(&mut tx, None, recipient, after, limit).await
    }

    pub(super) async fn get_channel(&self, id: ChannelId) -> Result<StoredChannel, StoreError> {
        let mut tx = self.begin().await?;
        find_channel(&mut tx, id).await
    }

    pub(super) async fn insert_channel(
        &self,
        recipient: RecipientId,
        kind: ChannelKind,
        address: &str,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError> {
        let mut tx = self.begin().await?;
        lock_recipient(&mut tx, recipient, None)
            .await
            .map_err(|error| match error {
                StoreError::NotFound(_) => StoreError::Invalid {
                    field: "recipient_id",
                    message: format!("there is no recipient {recipient}"),
                },
                other => other,
            })?;
        let present = sqlx::query_scalar!(
            "SELECT count(*) FROM notice_channel WHERE recipient_id = $1 AND deleted_at IS NULL",
            recipient.0
        )
        .fetch_one(&mut *tx)
        .await?;
        if present.unwrap_or(0) >= CHANNELS_MAX {
            return Err(full("channels of one recipient", CHANNELS_MAX));
        }
        let id = sqlx::query_scalar!(
            "INSERT INTO notice_channel (account_id, recipient_id, kind, address, created_at)
             VALUES ($1, $2, $3, $4, $5) RETURNING id",
            self.account.0,
            recipient.0,
            kind.as_str(),
            address,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        let made = find_channel(&mut tx, ChannelId(id)).await?;
        // the address of a webhook may hold a key of the far side: it stays out of the audit
        let detail = json!({ "recipient_id": recipient, "kind": kind });
        self.audit(
            &mut tx,
            now,
            "notice_channel.create",
            &format!("notice_channel/{id}"),
            detail,
        )
        .await?;
        tx.commit().await?;
        Ok(made)
    }

    pub(super) async fn update_channel(
        &self,
        id: ChannelId,
        address: &str,
        enabled: bool,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError> {
        let mut tx = self.begin().await?;
        lock_channel(&mut tx, id, version).await?;
        let before = find_channel(&mut tx, id).await?;
        sqlx::query!(
            "UPDATE notice_channel SET address = $2, enabled = $3, version = version + 1 WHERE id = $1",
            id.0,
            address,
            enabled
        )
        .execute(&mut *tx)
        .await?;
        let after = find_channel(&mut tx, id).await?;
        let detail = json!({ "address_changed": before.address != address, "enabled": enabled });
        self.audit(
            &mut tx,
            now,
            "notice_channel.update",
            &format!("notice_channel/{id}"),
            detail,
        )
        .await?;
        tx.commit().await?;
        Ok(after)
    }

    pub(super) async fn change_salt(
        &self,
        id: ChannelId,
        old_until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError> {
        let mut tx = self.begin().await?;
        lock_channel(&mut tx, id, None).await?;
        sqlx::query!(
            "UPDATE notice_channel SET old_salt = salt, old_salt_until = $2, salt = $3, version = version + 1 WHERE id = $1",
            id.0,
            old_until,
            Uuid::new_v4()
        )
        .execute(&mut *tx)
        .await?;
        let after = find_channel(&mut tx, id).await?;
        self.audit(
            &mut tx,
            now,
            "notice_channel.secret",
            &format!("notice_channel/{id}"),
            json!({}),
        )
        .await?;
        tx.commit().await?;
        Ok(after)
    }

    pub(super) async fn delete_channel(
        &self,
        id: ChannelId,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock_channel(&mut tx, id, version).await?;
        sqlx::query!(
            "UPDATE notice_channel SET deleted_at = $2, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE notice_item SET state = 'cancelled', reason = 'the channel was deleted'
             WHERE channel_id = $1 AND state = 'waiting'",
            id.0
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE notice_message SET state = 'dead', next_at = NULL, ended_at = $2, last_error = 'the channel was deleted'
             WHERE channel_id = $1 AND state = 'waiting'",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        self.audit(
            &mut tx,
            now,
            "notice_channel.delete",
            &format!("notice_channel/{id}"),
            json!({}),
        )
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

struct RouteRow {
    id: i32,
    name: String,
    rule: Value,
    enabled: bool,
    created_at: DateTime<Utc>,
    version: i32,
}

impl TryFrom<RouteRow> for StoredRoute {
    type Error = StoreError;

    fn try_from(row: RouteRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: RouteId(row.id),
            name: row.name,
            rule: rows::read(row.rule, "rule")?,
            enabled: row.enabled,
            created_at: row.created_at,
            version: row.version,
        })
    }
}

async fn route_rows(
    tx: &mut PgConnection,
    only: Option<RouteId>,
    after: Option<RouteId>,
    limit: u32,
) -> Result<Vec<StoredRoute>, StoreError> {
    sqlx::query_as!(
        RouteRow,
        "SELECT id, name, rule, enabled, created_at, version FROM notice_route
         WHERE deleted_at IS NULL AND ($1::int IS NULL OR id = $1) AND ($2::int IS NULL OR id > $2)
         ORDER BY id LIMIT $3",
        only.map(|id| id.0),
        after.map(|id| id.0),
        i64::from(limit)
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(StoredRoute::try_from)
    .collect()
}

async fn find_route(tx: &mut PgConnection, id: RouteId) -> Result<StoredRoute, StoreError> {
    let found = route_rows(tx, Some(id), None, 1).await?.pop();
    found.ok_or(StoreError::NotFound("route"))
}

async fn lock_route(tx: &mut PgConnection, id: RouteId, version: Option<i32>) -> Result<(), StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT version FROM notice_route WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        id.0
    )
    .fetch_optional(tx)
    .await?;
    check_version("route", found, version)
}

/// What a rule refers to must be in the account.
async fn check_rule(tx: &mut PgConnection, rule: &Rule) -> Result<(), StoreError> {
    let people: Vec<i32> = rule
        .steps
        .iter()
        .flat_map(|step| &step.recipients)
        .map(|id| id.0)
        .collect();
    let missing = sqlx::query_scalar!(
        r#"SELECT wanted AS "wanted!" FROM unnest($1::int[]) AS wanted
           WHERE NOT EXISTS (SELECT FROM notice_recipient r WHERE r.id = wanted AND r.deleted_at IS NULL) LIMIT 1"#,
        &people
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(missing) = missing {
        return Err(StoreError::Invalid {
            field: "steps",
            message: format!("there is no recipient {missing}"),
        });
    }
    let groups: Vec<i32> = rule.groups.iter().map(|id| id.0).collect();
    let missing = sqlx::query_scalar!(
        r#"SELECT wanted AS "wanted!" FROM unnest($1::int[]) AS wanted
           WHERE NOT EXISTS (SELECT FROM meter_group g WHERE g.id = wanted AND g.deleted_at IS NULL) LIMIT 1"#,
        &groups
    )
    .fetch_optional(&mut *tx)
    .await?;
    match missing {
        Some(missing) => Err(StoreError::Invalid {
            field: "groups",
            message: format!("there is no group {missing}"),
        }),
        None => Ok(()),
    }
}

impl AccountHandle {
    pub(super) async fn list_routes(&self, after: Option<RouteId>, limit: u32) -> Result<Vec<StoredRoute>, StoreError> {
        let mut tx = self.begin().await?;
        route_rows(&mut tx, None, after, limit).await
    }

    pub(super) async fn get_route(&self, id: RouteId) -> Result<StoredRoute, StoreError> {
        let mut tx = self.begin().await?;
        find_route(&mut tx, id).await
    }

    pub(super) async fn insert_route(
        &self,
        name: &str,
        rule: &Rule,
        now: DateTime<Utc>,
    ) -> Result<StoredRoute, StoreError> {
        let mut tx = self.begin().await?;
        check_rule(&mut tx, rule).await?;
        let present = sqlx::query_scalar!("SELECT count(*) FROM notice_route WHERE deleted_at IS NULL")
            .fetch_one(&mut *tx)
            .await?;
        if present.unwrap_or(0) >= ROUTES_MAX {
            return Err(full("routes", ROUTES_MAX));
        }
        let id = sqlx::query_scalar!(
            "INSERT INTO notice_route (account_id, name, rule, created_at) VALUES ($1, $2, $3, $4) RETURNING id",
            self.account.0,
            name,
            to_json(rule)?,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        let made = find_route(&mut tx, RouteId(id)).await?;
        let detail = json!({ "name": name, "rule": rule });
        self.audit(
            &mut tx,
            now,
            "notice_route.create",
            &format!("notice_route/{id}"),
            detail,
        )
        .await?;
        tx.commit().await?;
        Ok(made)
    }

    pub(super) async fn update_route(
        &self,
        id: RouteId,
        (name, rule, enabled): (&str, &Rule, bool),
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredRoute, StoreError> {
        let mut tx = self.begin().await?;
        lock_route(&mut tx, id, version).await?;
        let before = find_route(&mut tx, id).await?;
        check_rule(&mut tx, rule).await?;
        sqlx::query!(
            "UPDATE notice_route SET name = $2, rule = $3, enabled = $4, version = version + 1 WHERE id = $1",
            id.0,
            name,
            to_json(rule)?,
            enabled
        )
        .execute(&mut *tx)
        .await?;
        let after = find_route(&mut tx, id).await?;
        let detail = json!({ "from": { "name": before.name, "rule": before.rule, "enabled": before.enabled },
                             "to": { "name": name, "rule": rule, "enabled": enabled } });
        self.audit(
            &mut tx,
            now,
            "notice_route.update",
            &format!("notice_route/{id}"),
            detail,
        )
        .await?;
        tx.commit().await?;
        Ok(after)
    }

    pub(super) async fn delete_route(
        &self,
        id: RouteId,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock_route(&mut tx, id, version).await?;
        sqlx::query!(
            "UPDATE notice_route SET deleted_at = $2, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        self.audit(
            &mut tx,
            now,
            "notice_route.delete",
            &format!("notice_route/{id}"),
            json!({}),
        )
        .await?;
        tx.commit().await?;
        Ok(())
    }
}
