//! Terminal profiles: settings that are wanted of many.

use super::internal;
use crate::port::parameters::{TerminalProfile, WantedParameter};
use crate::port::scope::StoreError;
use crate::store::handles::{AccountHandle, check_version};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

struct Row {
    id: i32,
    name: String,
    protocol: String,
    parameters: Value,
    version: i32,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for TerminalProfile {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            name: row.name,
            protocol: row.protocol,
            parameters: serde_json::from_value(row.parameters).map_err(internal)?,
            created_at: row.created_at,
            version: row.version,
        })
    }
}

fn stored(parameters: &[WantedParameter]) -> Result<Value, StoreError> {
    serde_json::to_value(parameters).map_err(internal)
}

pub(super) async fn list(
    handle: &AccountHandle,
    after: Option<i32>,
    limit: u32,
) -> Result<Vec<TerminalProfile>, StoreError> {
    let mut tx = handle.begin().await?;
    sqlx::query_as!(
        Row,
        "SELECT id, name, protocol, parameters, version, created_at FROM terminal_profile
         WHERE deleted_at IS NULL AND ($1::int IS NULL OR id > $1) ORDER BY id LIMIT $2",
        after,
        i64::from(limit)
    )
    .fetch_all(&mut *tx)
    .await?
    .into_iter()
    .map(TerminalProfile::try_from)
    .collect()
}

pub(super) async fn find(tx: &mut PgConnection, id: i32) -> Result<TerminalProfile, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, name, protocol, parameters, version, created_at FROM terminal_profile WHERE id = $1 AND deleted_at IS NULL",
        id
    )
    .fetch_optional(tx)
    .await?
    .ok_or(StoreError::NotFound("terminal profile"))?
    .try_into()
}

async fn lock(tx: &mut PgConnection, id: i32, version: Option<i32>) -> Result<(), StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT version FROM terminal_profile WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        id
    )
    .fetch_optional(tx)
    .await?;
    check_version("terminal profile", found, version)
}

pub(super) async fn create(
    handle: &AccountHandle,
    name: &str,
    protocol: &str,
    parameters: &[WantedParameter],
    now: DateTime<Utc>,
) -> Result<TerminalProfile, StoreError> {
    let mut tx = handle.begin().await?;
    let parameters = stored(parameters)?;
    let id = sqlx::query_scalar!(
        "INSERT INTO terminal_profile (account_id, name, protocol, parameters, created_at) VALUES ($1, $2, $3, $4, $5)
         RETURNING id",
        handle.account.0,
        name,
        protocol,
        parameters,
        now
    )
    .fetch_one(&mut *tx)
    .await?;
    let profile = find(&mut tx, id).await?;
    let detail = json!({ "name": name, "protocol": protocol, "parameters": parameters });
    handle
        .commit_audited(tx, now, ("terminal_profile", "create", &id), detail)
        .await?;
    Ok(profile)
}

pub(super) async fn edit(
    handle: &AccountHandle,
    id: i32,
    name: &str,
    parameters: &[WantedParameter],
    version: Option<i32>,
    now: DateTime<Utc>,
) -> Result<TerminalProfile, StoreError> {
    let mut tx = handle.begin().await?;
    lock(&mut tx, id, version).await?;
    let before = find(&mut tx, id).await?;
    let parameters = stored(parameters)?;
    sqlx::query!(
        "UPDATE terminal_profile SET name = $2, parameters = $3, version = version + 1 WHERE id = $1",
        id,
        name,
        parameters
    )
    .execute(&mut *tx)
    .await?;
    let profile = find(&mut tx, id).await?;
    let detail = json!({
        "from": { "name": before.name, "parameters": before.parameters },
        "to": { "name": name, "parameters": parameters }
    });
    handle
        .commit_audited(tx, now, ("terminal_profile", "edit", &id), detail)
        .await?;
    Ok(profile)
}

pub(super) async fn delete(
    handle: &AccountHandle,
    id: i32,
    version: Option<i32>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut tx = handle.begin().await?;
    lock(&mut tx, id, version).await?;
    sqlx::query!("UPDATE terminal_profile SET deleted_at = $2 WHERE id = $1", id, now)
        .execute(&mut *tx)
        .await?;
    handle
        .commit_audited(tx, now, ("terminal_profile", "delete", &id), json!({}))
        .await
}
