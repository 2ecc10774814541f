//! Notices in PostgreSQL. [`tell`] writes one in the transaction of
//! its cause, a step of an alarm; [`PgOutbox`] is the notifier's side,
//! with role ingest; [`book`] and [`history`] are the API's.

mod alarm;
mod book;
mod history;
mod outbox;
mod rows;

pub(super) use alarm::tell;
pub use outbox::PgOutbox;

use crate::base::ids::NoticeId;
use crate::domain::notice::Happening;
use crate::port::scope::StoreError;
use crate::store::StoreError as DatabaseError;
use serde_json::Value;
use sqlx::PgConnection;

/// Writes down that people are to be told. In the transaction of the cause: both happen, or neither. The server's own has
/// no account; whoever plans it finds one.
///
/// # Errors
/// [`StoreError`].
pub async fn enqueue(
    transaction: &mut PgConnection,
    happening: Happening,
    servers_own: bool,
) -> Result<NoticeId, StoreError> {
    Ok(insert(transaction, happening, servers_own).await?)
}

async fn insert(
    transaction: &mut PgConnection,
    happening: Happening,
    servers_own: bool,
) -> Result<NoticeId, DatabaseError> {
    let happening = happening.bounded();
    let facts = serde_json::to_value(&happening.facts).map_err(|error| DatabaseError::Internal(error.to_string()))?;
    let groups: Vec<i32> = happening.groups.iter().map(|group| group.0).collect();
    let id = sqlx::query_scalar!(
        "INSERT INTO notice (account_id, subject, edge, severity, kind, facts, groups, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
        (!servers_own).then_some(happening.account.0) as Option<i32>,
        happening.subject,
        happening.edge.as_str(),
        happening.severity.as_str(),
        happening.kind,
        facts,
        &groups,
        happening.at
    )
    .fetch_one(transaction)
    .await?;
    Ok(NoticeId(id))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Value, StoreError> {
    serde_json::to_value(value).map_err(|error| StoreError::Internal(error.to_string()))
}
