//! The history that people search, test messages, and another life for dead ones; and the handle that the API works
//! through.

use super::book::find_channel;
use super::rows::{self, MessageRow};
use crate::base::ids::{ChannelId, NoticeId, RecipientId, RouteId};
use crate::domain::notice::plan::Rule;
use crate::domain::notice::{ChannelKind, Severity};
use crate::port::notices::{
    ItemView, MessageQuery, MessageView, NoticeBook, NoticeQuery, NoticeView, RecipientSpec, StoredChannel,
    StoredRecipient, StoredRoute, TestMessage,
};
use crate::port::scope::{InAccount, Scope, StoreError};
use crate::store::handles::{AccountHandle, PgStores};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use std::collections::HashMap;
use uuid::Uuid;

impl InAccount<dyn NoticeBook> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn NoticeBook> {
        Box::new(self.account(scope))
    }
}

/// The text as a pattern of LIKE that finds it anywhere.
fn anywhere(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

async fn message_rows(
    tx: &mut PgConnection,
    only: Option<Uuid>,
    query: &MessageQuery,
) -> Result<Vec<MessageView>, StoreError> {
    sqlx::query_as!(
        MessageRow,
        "SELECT id, recipient_id, channel_id, kind, address, subject, body, critical, test, state, attempts, next_at,
                last_error, reference, maybe_twice, created_at, ended_at
         FROM notice_message
         WHERE ($1::uuid IS NULL OR id = $1)
           AND ($2::timestamptz IS NULL OR created_at >= $2) AND ($3::timestamptz IS NULL OR created_at < $3)
           AND ($4::text IS NULL OR subject ILIKE $4 OR body ILIKE $4)
           AND ($5::int IS NULL OR recipient_id = $5) AND ($6::int IS NULL OR channel_id = $6)
           AND ($7::text IS NULL OR kind = $7) AND ($8::text IS NULL OR state = $8)
           AND ($9::timestamptz IS NULL OR (created_at, id) < ($9, $10))
         ORDER BY created_at DESC, id DESC LIMIT $11",
        only,
        query.from,
        query.to,
        query.text.as_deref().map(anywhere),
        query.recipient.map(|id| id.0),
        query.channel.map(|id| id.0),
        query.kind.map(ChannelKind::as_str),
        query.state.map(crate::port::notices::MessageState::as_str),
        query.after.map(|(at, _)| at),
        query.after.map(|(_, id)| id),
        i64::from(query.limit)
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(MessageView::try_from)
    .collect()
}

async fn find_message(tx: &mut PgConnection, id: Uuid) -> Result<MessageView, StoreError> {
    let query = MessageQuery {
        limit: 1,
        ..MessageQuery::default()
    };
    let found = message_rows(tx, Some(id), &query).await?.pop();
    found.ok_or(StoreError::NotFound("message"))
}

async fn items(tx: &mut PgConnection, notices: &[i64]) -> Result<HashMap<i64, Vec<ItemView>>, StoreError> {
    let mut items: HashMap<i64, Vec<ItemView>> = HashMap::new();
    for row in sqlx::query!(
        "SELECT notice_id, recipient_id, channel_id, route_id, step, due_at, state, reason, message_id
         FROM notice_item WHERE notice_id = ANY($1) ORDER BY id",
        notices
    )
    .fetch_all(tx)
    .await?
    {
        items.entry(row.notice_id).or_default().push(ItemView {
            recipient_id: RecipientId(row.recipient_id),
            channel_id: ChannelId(row.channel_id),
            route_id: RouteId(row.route_id),
            step: row.step,
            due_at: row.due_at,
            state: row.state,
            reason: row.reason,
            message_id: row.message_id,
        });
    }
    Ok(items)
}

#[async_trait]
impl NoticeBook for AccountHandle {
    async fn recipients(&self, after: Option<RecipientId>, limit: u32) -> Result<Vec<StoredRecipient>, StoreError> {
        self.list_recipients(after, limit).await
    }

    async fn recipient(&self, id: RecipientId) -> Result<StoredRecipient, StoreError> {
        self.get_recipient(id).await
    }

    async fn add_recipient(&self, spec: &RecipientSpec, now: DateTime<Utc>) -> Result<StoredRecipient, StoreError> {
        self.insert_recipient(spec, now).await
    }

    async fn set_recipient(
        &self,
        id: RecipientId,
        spec: &RecipientSpec,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredRecipient, StoreError> {
        self.update_recipient(id, spec, version, now).await
    }

    async fn remove_recipient(
        &self,
        id: RecipientId,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.delete_recipient(id, version, now).await
    }

    async fn channels(
        &self,
        recipient: Option<RecipientId>,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<StoredChannel>, StoreError> {
        self.list_channels(recipient, after, limit).await
    }

    async fn channel(&self, id: ChannelId) -> Result<StoredChannel, StoreError> {
        self.get_channel(id).await
    }

    async fn add_channel(
        &self,
        recipient: RecipientId,
        kind: ChannelKind,
        address: &str,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError> {
        self.insert_channel(recipient, kind, address, now).await
    }

    async fn set_channel(
        &self,
        id: ChannelId,
        address: &str,
        enabled: bool,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError> {
        self.update_channel(id, address, enabled, version, now).await
    }

    async fn new_salt(
        &self,
        id: ChannelId,
        old_until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError> {
        self.change_salt(id, old_until, now).await
    }

    async fn remove_channel(&self, id: ChannelId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.delete_channel(id, version, now).await
    }

    async fn routes(&self, after: Option<RouteId>, limit: u32) -> Result<Vec<StoredRoute>, StoreError> {
        self.list_routes(after, limit).await
    }

    async fn route(&self, id: RouteId) -> Result<StoredRoute, StoreError> {
        self.get_route(id).await
    }

    async fn add_route(&self, name: &str, rule: &Rule, now: DateTime<Utc>) -> Result<StoredRoute, StoreError> {
        self.insert_route(name, rule, now).await
    }

    async fn set_route(
        &self,
        id: RouteId,
        route: (&str, &Rule, bool),
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredRoute, StoreError> {
        self.update_route(id, route, version, now).await
    }

    async fn remove_route(&self, id: RouteId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.delete_route(id, version, now).await
    }

    async fn notices(&self, query: NoticeQuery) -> Result<Vec<NoticeView>, StoreError> {
        let mut tx = self.begin().await?;
        let least: Vec<String> = Severity::ALL
            .iter()
            .filter(|severity| query.severity.is_none_or(|least| **severity >= least))
            .map(|severity| severity.as_str().to_owned())
            .collect();
        let found = sqlx::query!(
            "SELECT id, subject, edge, severity, kind, facts, at, planned_at, outcome FROM notice
             WHERE account_id = $1 AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::timestamptz IS NULL OR at < $3)
               AND ($4::text IS NULL OR kind = $4) AND ($5::text IS NULL OR subject = $5) AND severity = ANY($6)
               AND ($7::bigint IS NULL OR id < $7)
             ORDER BY id DESC LIMIT $8",
            self.account.0,
            query.from,
            query.to,
            query.kind,
            query.subject,
            &least,
            query.after.map(|id| id.0),
            i64::from(query.limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        let ids: Vec<i64> = found.iter().map(|row| row.id).collect();
        let mut items = items(&mut tx, &ids).await?;
        found
            .into_iter()
            .map(|row| {
                Ok(NoticeView {
                    id: NoticeId(row.id),
                    subject: row.subject,
                    edge: rows::edge(&row.edge)?,
                    severity: rows::severity(&row.severity)?,
                    kind: row.kind,
                    facts: row.facts,
                    at: row.at,
                    planned_at: row.planned_at,
                    outcome: row.outcome,
                    items: items.remove(&row.id).unwrap_or_default(),
                })
            })
            .collect()
    }

    async fn messages(&self, query: MessageQuery) -> Result<Vec<MessageView>, StoreError> {
        let mut tx = self.begin().await?;
        message_rows(&mut tx, None, &query).await
    }

    async fn message(&self, id: Uuid) -> Result<MessageView, StoreError> {
        let mut tx = self.begin().await?;
        find_message(&mut tx, id).await
    }

    async fn test(
        &self,
        channel: ChannelId,
        message: TestMessage,
        now: DateTime<Utc>,
    ) -> Result<MessageView, StoreError> {
        let mut tx = self.begin().await?;
        let found = find_channel(&mut tx, channel).await?;
        sqlx::query!(
            "INSERT INTO notice_message (id, account_id, recipient_id, channel_id, kind, address, subject, body, payload,
                                         critical, test, born_at, next_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, true, true, $10, $10, $10)",
            message.id,
            self.account.0,
            found.recipient.0,
            channel.0,
            found.kind.as_str(),
            found.address,
            message.subject,
            message.body,
            message.payload,
            now
        )
        .execute(&mut *tx)
        .await?;
        let made = find_message(&mut tx, message.id).await?;
        let detail = json!({ "message_id": message.id });
        self.commit_audited(tx, now, ("notice_channel", "test", &channel), detail)
            .await?;
        Ok(made)
    }

    async fn resend(&self, id: Uuid, now: DateTime<Utc>) -> Result<MessageView, StoreError> {
        let mut tx = self.begin().await?;
        let before = find_message(&mut tx, id).await?;
        let done = sqlx::query!(
            "UPDATE notice_message SET state = 'waiting', spent = attempts, born_at = $2, next_at = $2, ended_at = NULL
             WHERE id = $1 AND state = 'dead'",
            id,
            now
        )
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Conflict {
                field: None,
                message: format!(
                    "the message is {}; only a dead one is sent again",
                    before.state.as_str()
                ),
            });
        }
        let after = find_message(&mut tx, id).await?;
        self.commit_audited(tx, now, ("notice_message", "resend", &id), json!({}))
            .await?;
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use super::anywhere;

    #[test]
    fn a_searched_text_is_no_pattern() {
        assert_eq!(anywhere("50 %_\\"), "%50 \\%\\_\\\\%");
    }
}
