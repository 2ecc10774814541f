//! Integrations in PostgreSQL: [`book`] is the API's, under row level security; [`PgFeed`] is the pump's, with role
//! ingest: [`feed`] reads what happened, [`cursor`] keeps how far each is, [`places`] says what stands where, [`keep`]
//! drops and counts. What happens gets into the feed by the functions and triggers of migration 0020.

mod book;
mod cursor;
mod feed;
mod keep;
mod places;

use crate::base::ids::{AccountId, GroupId, IntegrationId};
use crate::domain::integration::horizon::Look;
use crate::domain::integration::{FeedTopic, Position};
use crate::port::integrations::{
    FeedFill, FeedPage, FeedQuery, FeedStore, IntegrationKind, IntegrationSpec, IntegrationStatus, Places,
    StoredIntegration,
};
use crate::port::scope::StoreError;
use crate::store::Database;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

/// [`FeedStore`] over PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgFeed {
    pool: PgPool,
}

impl PgFeed {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.ingest().clone(),
        }
    }
}

/// An integration with its state, as every query of it selects it.
struct Row {
    id: i32,
    account_id: i32,
    name: String,
    kind: String,
    target: String,
    login: String,
    sealed: Option<Vec<u8>>,
    topics: Vec<String>,
    group_id: Option<i32>,
    quantities: Vec<String>,
    options: Value,
    enabled: bool,
    salt: Uuid,
    old_salt: Option<Uuid>,
    old_salt_until: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    version: i32,
    seq: i64,
    part: i32,
    sending: Option<Uuid>,
    sending_seq: Option<i64>,
    sending_part: Option<i32>,
    delivered: i64,
    lost: i64,
    lost_untold: i64,
    attempts: i32,
    failing_since: Option<DateTime<Utc>>,
    next_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
    last_success_at: Option<DateTime<Utc>>,
    stopped_at: Option<DateTime<Utc>>,
    cleared_at: DateTime<Utc>,
}

fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Row {
    fn status(&self) -> IntegrationStatus {
        let sending = match (self.sending, self.sending_seq, self.sending_part) {
            (Some(id), Some(seq), Some(part)) => Some((id, Position { seq, part })),
            _ => None,
        };
        IntegrationStatus {
            position: Position {
                seq: self.seq,
                part: self.part,
            },
            sending,
            delivered: positive(self.delivered),
            lost: positive(self.lost),
            lost_untold: positive(self.lost_untold),
            attempts: u32::try_from(self.attempts).unwrap_or(0),
            failing_since: self.failing_since,
            next_at: self.next_at,
            last_error: self.last_error.clone(),
            last_success_at: self.last_success_at,
            stopped_at: self.stopped_at,
            cleared_at: self.cleared_at,
        }
    }

    /// `now`: whether the old secret still signs.
    fn stored(self, now: DateTime<Utc>) -> Result<StoredIntegration, StoreError> {
        let wrong = |column: &str, value: &dyn std::fmt::Debug| {
            StoreError::Internal(format!("integration.{column} is {value:?}"))
        };
        let status = self.status();
        let old = self
            .old_salt
            .filter(|_| self.old_salt_until.is_some_and(|until| until > now));
        let topics = self
            .topics
            .iter()
            .map(|name| FeedTopic::by_name(name).ok_or_else(|| wrong("topics", name)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(StoredIntegration {
            id: IntegrationId(self.id),
            account: AccountId(self.account_id),
            salts: std::iter::once(self.salt).chain(old).collect(),
            spec: IntegrationSpec {
                kind: IntegrationKind::by_name(&self.kind).ok_or_else(|| wrong("kind", &self.kind))?,
                topics,
                options: serde_json::from_value(self.options).map_err(|error| wrong("options", &error))?,
                name: self.name,
                target: self.target,
                login: self.login,
                group: self.group_id.map(GroupId),
                quantities: self.quantities,
                enabled: self.enabled,
            },
            sealed: self.sealed,
            status,
            created_at: self.created_at,
            version: self.version,
        })
    }
}

fn names(topics: &[FeedTopic]) -> Vec<String> {
    topics.iter().map(|topic| topic.as_str().to_owned()).collect()
}

#[async_trait]
impl FeedStore for PgFeed {
    async fn look(&self) -> Result<Look, StoreError> {
        self.read_look().await
    }

    async fn active(&self, limit: u32, now: DateTime<Utc>) -> Result<Vec<StoredIntegration>, StoreError> {
        self.read_active(limit, now).await
    }

    async fn page(&self, integration: &StoredIntegration, query: FeedQuery) -> Result<FeedPage, StoreError> {
        self.read_page(integration, query).await
    }

    async fn intend(&self, id: IntegrationId, sending: Uuid, to: Position) -> Result<(), StoreError> {
        self.write_intention(id, sending, to).await
    }

    async fn delivered(
        &self,
        id: IntegrationId,
        to: Position,
        items: u64,
        lost_told: u64,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        self.write_delivery(id, to, items, lost_told, now).await
    }

    async fn failed(
        &self,
        id: IntegrationId,
        error: &str,
        next: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.write_failure(id, error, next, now).await
    }

    async fn stop(&self, id: IntegrationId, now: DateTime<Utc>) -> Result<bool, StoreError> {
        self.write_stop(id, now).await
    }

    async fn places(&self, integration: &StoredIntegration) -> Result<Places, StoreError> {
        self.read_places(integration).await
    }

    async fn cleared(&self, id: IntegrationId, at: DateTime<Utc>) -> Result<(), StoreError> {
        self.write_cleared(id, at).await
    }

    async fn prune(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        self.drop_rows(before, limit).await
    }

    async fn fill(&self) -> Result<FeedFill, StoreError> {
        self.count().await
    }
}
