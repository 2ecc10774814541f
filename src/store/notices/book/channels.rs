//! Channels of a recipient, as the API edits them.

use super::{full, lock_recipient};
use crate::base::ids::{ChannelId, RecipientId};
use crate::domain::notice::ChannelKind;
use crate::port::notices::StoredChannel;
use crate::port::scope::StoreError;
use crate::store::handles::{AccountHandle, lock_versioned};
use crate::store::notices::rows;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

const CHANNELS_MAX: i64 = 20;

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

pub(in crate::store::notices) async fn find_channel(
    tx: &mut PgConnection,
    id: ChannelId,
) -> Result<StoredChannel, StoreError> {
    let found = channel_rows(tx, Some(id), None, None, 1).await?.pop();
    found.ok_or(StoreError::NotFound("channel"))
}

async fn lock_channel(tx: &mut PgConnection, id: ChannelId, version: Option<i32>) -> Result<(), StoreError> {
    lock_versioned!(tx, "notice_channel", "channel", id, version)
}

impl AccountHandle {
    pub(in crate::store::notices) async fn list_channels(
        &self,
        recipient: Option<RecipientId>,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<StoredChannel>, StoreError> {
        let mut tx = self.begin().await?;
        channel_rows(&mut tx, None, recipient, after, limit).await
    }

    pub(in crate::store::notices) async fn get_channel(&self, id: ChannelId) -> Result<StoredChannel, StoreError> {
        let mut tx = self.begin().await?;
        find_channel(&mut tx, id).await
    }

    pub(in crate::store::notices) async fn insert_channel(
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
        self.commit_audited(tx, now, ("notice_channel", "create", &id), detail)
            .await?;
        Ok(made)
    }

    pub(in crate::store::notices) async fn update_channel(
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
        self.commit_audited(tx, now, ("notice_channel", "update", &id), detail)
            .await?;
        Ok(after)
    }

    pub(in crate::store::notices) async fn change_salt(
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
        self.commit_audited(tx, now, ("notice_channel", "secret", &id), json!({}))
            .await?;
        Ok(after)
    }

    pub(in crate::store::notices) async fn delete_channel(
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
        self.commit_audited(tx, now, ("notice_channel", "delete", &id), json!({}))
            .await
    }
}
