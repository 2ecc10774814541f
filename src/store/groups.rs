//! Groups of meters of an account.

use super::handles::{AccountHandle, PgStores, lock_versioned};
use crate::base::ids::{GroupId, PointId};
use crate::port::groups::{Group, GroupStore};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

struct Row {
    id: i32,
    name: String,
    parent_id: Option<i32>,
    sum_point_id: Option<i32>,
    meters: i64,
    created_at: DateTime<Utc>,
    version: i32,
}

impl From<Row> for Group {
    fn from(row: Row) -> Self {
        Self {
            id: GroupId(row.id),
            name: row.name,
            parent_id: row.parent_id.map(GroupId),
            sum_point_id: row.sum_point_id.map(PointId),
            meters: row.meters,
            created_at: row.created_at,
            version: row.version,
        }
    }
}

async fn find(tx: &mut PgConnection, id: GroupId) -> Result<Group, StoreError> {
    sqlx::query_as!(
        Row,
        r#"SELECT g.id, g.name, g.parent_id, g.sum_point_id, g.created_at, g.version,
                  (SELECT count(*) FROM meter m WHERE m.group_id = g.id AND m.deleted_at IS NULL) AS "meters!"
           FROM meter_group g WHERE g.id = $1 AND g.deleted_at IS NULL"#,
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?
    .map(Group::from)
    .ok_or(StoreError::NotFound("group"))
}

async fn lock(tx: &mut PgConnection, id: GroupId, version: Option<i32>) -> Result<(), StoreError> {
    lock_versioned!(tx, "meter_group", "group", id, version)
}

/// Checks that a group is there; `field` is the API's name for where it was given.
pub(super) async fn check(tx: &mut PgConnection, id: GroupId, field: &'static str) -> Result<(), StoreError> {
    sqlx::query_scalar!(
        "SELECT id FROM meter_group WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?
    .map(|_| ())
    .ok_or_else(|| StoreError::Invalid {
        field,
        message: format!("there is no group {id}"),
    })
}

/// The sum meter of a group.
pub(super) async fn sum_point(tx: &mut PgConnection, id: GroupId) -> Result<Option<PointId>, StoreError> {
    Ok(find(tx, id).await?.sum_point_id)
}

/// Checks that the point of a sum meter is there.
async fn check_point(tx: &mut PgConnection, id: PointId) -> Result<(), StoreError> {
    sqlx::query_scalar!(
        "SELECT id FROM metering_point WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?
    .map(|_| ())
    .ok_or_else(|| StoreError::Invalid {
        field: "sum_point_id",
        message: format!("there is no metering point {id}"),
    })
}

/// Refuses a parent that lies below the group itself.
async fn check_ring(tx: &mut PgConnection, id: GroupId, parent: GroupId) -> Result<(), StoreError> {
    let ring = sqlx::query_scalar!(
        r#"WITH RECURSIVE above AS (
               SELECT g.id, g.parent_id FROM meter_group g WHERE g.id = $2
               UNION
               SELECT g.id, g.parent_id FROM meter_group g JOIN above ON g.id = above.parent_id
           )
           SELECT EXISTS (SELECT FROM above WHERE above.id = $1) AS "ring!""#,
        id.0,
        parent.0
    )
    .fetch_one(&mut *tx)
    .await?;
    if ring {
        return Err(StoreError::Invalid {
            field: "parent_id",
            message: format!("group {parent} lies below group {id}; groups cannot form a ring"),
        });
    }
    Ok(())
}

impl InAccount<dyn GroupStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn GroupStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl GroupStore for AccountHandle {
    async fn list(&self, after: Option<GroupId>, limit: u32) -> Result<Vec<Group>, StoreError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT g.id, g.name, g.parent_id, g.sum_point_id, g.created_at, g.version,
                      (SELECT count(*) FROM meter m WHERE m.group_id = g.id AND m.deleted_at IS NULL) AS "meters!"
               FROM meter_group g WHERE g.deleted_at IS NULL AND ($1::int IS NULL OR g.id > $1)
               ORDER BY g.id LIMIT $2"#,
            after.map(|id| id.0),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows.into_iter().map(Group::from).collect())
    }

    async fn get(&self, id: GroupId) -> Result<Group, StoreError> {
        let mut tx = self.begin().await?;
        find(&mut tx, id).await
    }

    async fn create(
        &self,
        name: &str,
        parent: Option<GroupId>,
        sum_point: Option<PointId>,
        now: DateTime<Utc>,
    ) -> Result<Group, StoreError> {
        let mut tx = self.begin().await?;
        if let Some(parent) = parent {
            check(&mut tx, parent, "parent_id").await?;
        }
        if let Some(point) = sum_point {
            check_point(&mut tx, point).await?;
        }
        let id = sqlx::query_scalar!(
            "INSERT INTO meter_group (account_id, name, parent_id, sum_point_id, created_at) VALUES ($1, $2, $3, $4, $5)
             RETURNING id",
            self.account.0,
            name,
            parent.map(|id| id.0),
            sum_point.map(|id| id.0),
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        let detail = json!({ "name": name, "parent_id": parent, "sum_point_id": sum_point });
        let group = find(&mut tx, GroupId(id)).await?;
        self.commit_audited(tx, now, ("group", "create", &id), detail).await?;
        Ok(group)
    }

    async fn update(
        &self,
        id: GroupId,
        name: Option<&str>,
        parent: Option<Option<GroupId>>,
        sum_point: Option<Option<PointId>>,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Group, StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        let before = find(&mut tx, id).await?;
        let new_parent = parent.unwrap_or(before.parent_id);
        if let Some(parent) = new_parent.filter(|_| new_parent != before.parent_id) {
            check(&mut tx, parent, "parent_id").await?;
            check_ring(&mut tx, id, parent).await?;
        }
        let new_sum = sum_point.unwrap_or(before.sum_point_id);
        if let Some(point) = new_sum.filter(|_| new_sum != before.sum_point_id) {
            check_point(&mut tx, point).await?;
        }
        let new_name = name.unwrap_or(&before.name);
        sqlx::query!(
            "UPDATE meter_group SET name = $2, parent_id = $3, sum_point_id = $4, version = version + 1 WHERE id = $1",
            id.0,
            new_name,
            new_parent.map(|id| id.0),
            new_sum.map(|id| id.0)
        )
        .execute(&mut *tx)
        .await?;
        let detail = json!({ "from": { "name": before.name, "parent_id": before.parent_id, "sum_point_id": before.sum_point_id },
                             "to": { "name": new_name, "parent_id": new_parent, "sum_point_id": new_sum } });
        let group = find(&mut tx, id).await?;
        self.commit_audited(tx, now, ("group", "update", &id), detail).await?;
        Ok(group)
    }

    async fn delete(&self, id: GroupId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        let before = find(&mut tx, id).await?;
        sqlx::query!(
            "UPDATE meter SET group_id = NULL, version = version + 1 WHERE group_id = $1",
            id.0
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE metering_point SET group_id = NULL, version = version + 1 WHERE group_id = $1",
            id.0
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE meter_group SET parent_id = NULL, version = version + 1 WHERE parent_id = $1",
            id.0
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE meter_group SET deleted_at = $2, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        self.commit_audited(tx, now, ("group", "delete", &id), json!({ "name": before.name }))
            .await
    }
}
