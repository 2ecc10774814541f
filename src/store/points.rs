//! Metering points of an account, and which meters stood there.

use super::groups;
use super::handles::{AccountHandle, PgStores};
use super::meters::like;
use crate::base::ids::{GroupId, MeterId, PointId};
use crate::domain::quantity::Quantity;
use crate::port::meters::{Installation, Point, PointStore, Registers};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

struct Row {
    id: i32,
    name: String,
    group_id: Option<i32>,
    meter_id: Option<i32>,
    created_at: DateTime<Utc>,
    version: i32,
}

impl From<Row> for Point {
    fn from(row: Row) -> Self {
        Self {
            id: PointId(row.id),
            name: row.name,
            group_id: row.group_id.map(GroupId),
            meter_id: row.meter_id.map(MeterId),
            created_at: row.created_at,
            version: row.version,
        }
    }
}

async fn find(tx: &mut PgConnection, id: PointId) -> Result<Point, StoreError> {
    sqlx::query_as!(
        Row,
        r#"SELECT p.id, p.name, p.group_id, i.meter_id AS "meter_id?", p.created_at, p.version
           FROM metering_point p LEFT JOIN installation i ON i.point_id = p.id AND i.valid_to IS NULL
           WHERE p.id = $1 AND p.deleted_at IS NULL"#,
        id.0
    )
    .fetch_optional(tx)
    .await?
    .map(Point::from)
    .ok_or(StoreError::NotFound("metering point"))
}

/// Checks that a point is the account's.
pub(super) async fn check(tx: &mut PgConnection, id: PointId) -> Result<(), StoreError> {
    find(tx, id).await.map(|_| ())
}

/// Registers as they stand in an installation.
pub(super) fn registers_of(stored: &Value) -> Registers {
    stored
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((Quantity::by_name(name)?, value.as_str()?.parse().ok()?)))
        .collect()
}

impl InAccount<dyn PointStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn PointStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl PointStore for AccountHandle {
    async fn list(
        &self,
        text: Option<&str>,
        group: Option<GroupId>,
        after: Option<PointId>,
        limit: u32,
    ) -> Result<(Vec<Point>, i64), StoreError> {
        let mut tx = self.begin().await?;
        let text = text.map(like);
        let group = group.map(|id| id.0);
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT p.id, p.name, p.group_id, i.meter_id AS "meter_id?", p.created_at, p.version
               FROM metering_point p LEFT JOIN installation i ON i.point_id = p.id AND i.valid_to IS NULL
               WHERE p.deleted_at IS NULL AND ($1::text IS NULL OR p.name ILIKE $1)
                 AND ($2::int IS NULL OR p.group_id = $2) AND ($3::int IS NULL OR p.id > $3)
               ORDER BY p.id LIMIT $4"#,
            text,
            group,
            after.map(|id| id.0),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        let total = sqlx::query_scalar!(
            r#"SELECT count(*) AS "total!" FROM metering_point p
               WHERE p.deleted_at IS NULL AND ($1::text IS NULL OR p.name ILIKE $1)
                 AND ($2::int IS NULL OR p.group_id = $2)"#,
            text,
            group
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok((rows.into_iter().map(Point::from).collect(), total))
    }

    async fn get(&self, id: PointId) -> Result<(Point, Vec<Installation>), StoreError> {
        let mut tx = self.begin().await?;
        let point = find(&mut tx, id).await?;
        let rows = sqlx::query!(
            "SELECT meter_id, valid_from, valid_to, ct_ratio, vt_ratio, opening, closing FROM installation
             WHERE point_id = $1 ORDER BY valid_from",
            id.0
        )
        .fetch_all(&mut *tx)
        .await?;
        let installations = rows
            .into_iter()
            .map(|row| Installation {
                meter_id: MeterId(row.meter_id),
                valid_from: row.valid_from,
                valid_to: row.valid_to,
                ct_ratio: row.ct_ratio.normalize(),
                vt_ratio: row.vt_ratio.normalize(),
                opening: registers_of(&row.opening),
                closing: registers_of(&row.closing),
            })
            .collect();
        Ok((point, installations))
    }

    async fn update(
        &self,
        id: PointId,
        name: Option<&str>,
        group: Option<Option<GroupId>>,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Point, StoreError> {
        let mut tx = self.begin().await?;
        let current = sqlx::query_scalar!(
            "SELECT version FROM metering_point WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
            id.0
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound("metering point"))?;
        if version.is_some_and(|seen| seen != current) {
            return Err(StoreError::Stale { current });
        }
        let before = find(&mut tx, id).await?;
        let new_group = group.unwrap_or(before.group_id);
        if let Some(group) = new_group.filter(|_| new_group != before.group_id) {
            groups::check(&mut tx, group, "group_id").await?;
        }
        let new_name = name.unwrap_or(&before.name);
        sqlx::query!(
            "UPDATE metering_point SET name = $2, group_id = $3, version = version + 1 WHERE id = $1",
            id.0,
            new_name,
            new_group.map(|id| id.0)
        )
        .execute(&mut *tx)
        .await?;
        let point = find(&mut tx, id).await?;
        let change = json!({ "from": { "name": before.name, "group_id": before.group_id },
                             "to": { "name": new_name, "group_id": new_group } });
        self.commit_audited(tx, now, ("point", "update", &id), change).await?;
        Ok(point)
    }
}
