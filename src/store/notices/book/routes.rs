//! Routes of an account, as the API edits them.

use super::full;
use crate::base::ids::RouteId;
use crate::domain::notice::plan::Rule;
use crate::port::notices::StoredRoute;
use crate::port::scope::StoreError;
use crate::store::handles::{AccountHandle, lock_versioned};
use crate::store::notices::rows;
use crate::store::notices::to_json;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

const ROUTES_MAX: i64 = 200;

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
    lock_versioned!(tx, "notice_route", "route", id, version)
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
    pub(in crate::store::notices) async fn list_routes(
        &self,
        after: Option<RouteId>,
        limit: u32,
    ) -> Result<Vec<StoredRoute>, StoreError> {
        let mut tx = self.begin().await?;
        route_rows(&mut tx, None, after, limit).await
    }

    pub(in crate::store::notices) async fn get_route(&self, id: RouteId) -> Result<StoredRoute, StoreError> {
        let mut tx = self.begin().await?;
        find_route(&mut tx, id).await
    }

    pub(in crate::store::notices) async fn insert_route(
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
        self.commit_audited(tx, now, ("notice_route", "create", &id), detail)
            .await?;
        Ok(made)
    }

    pub(in crate::store::notices) async fn update_route(
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
        self.commit_audited(tx, now, ("notice_route", "update", &id), detail)
            .await?;
        Ok(after)
    }

    pub(in crate::store::notices) async fn delete_route(
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
        self.commit_audited(tx, now, ("notice_route", "delete", &id), json!({}))
            .await
    }
}
