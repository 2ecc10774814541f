//! Schedules of commands.

use super::super::handles::AccountHandle;
use super::{action, to_json};
use crate::base::ids::{AccountId, MeterId, UserId};
use crate::port::control::{ControlScheduleForm, DueSchedule};
use crate::port::scope::StoreError;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

/// Schedules that the desk runs in all accounts.
const SCHEDULES_MAX: i64 = 10_000;

/// The schedules in force, their groups as they stand.
pub(super) async fn due(connection: &mut PgConnection) -> Result<Vec<DueSchedule>, StoreError> {
    let rows = sqlx::query!(
        "SELECT s.id, s.account_id, s.cron, s.time_zone, s.action, s.meters, s.group_id, s.expires_in_s, s.reason,
                s.requested_by, s.requested_as, s.approved_by, s.done_until
         FROM control_schedule s JOIN account a ON a.id = s.account_id AND a.disabled_at IS NULL
         WHERE s.deleted_at IS NULL AND s.enabled ORDER BY s.id LIMIT $1",
        SCHEDULES_MAX
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut schedules = Vec::with_capacity(rows.len());
    for row in rows {
        let mut meters: Vec<MeterId> = row.meters.into_iter().map(MeterId).collect();
        if let Some(group) = row.group_id {
            meters.extend(meters_of_group(connection, group).await?);
        }
        meters.sort_unstable();
        meters.dedup();
        schedules.push(DueSchedule {
            id: row.id,
            account: AccountId(row.account_id),
            cron: row.cron,
            time_zone: row.time_zone,
            action: action(row.id.into(), row.action)?,
            meters,
            expires_in_s: row.expires_in_s.unsigned_abs(),
            reason: row.reason,
            requested_by: UserId(row.requested_by),
            requested_as: row.requested_as,
            approved_by: row.approved_by.map(UserId),
            done_until: row.done_until,
        });
    }
    Ok(schedules)
}

pub(super) async fn meters_of_group(connection: &mut PgConnection, group: i32) -> Result<Vec<MeterId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"WITH RECURSIVE below AS (
               SELECT id FROM meter_group WHERE id = $1 AND deleted_at IS NULL
               UNION
               SELECT g.id FROM meter_group g JOIN below b ON g.parent_id = b.id WHERE g.deleted_at IS NULL
           )
           SELECT m.id AS "id!" FROM meter m JOIN below b ON m.group_id = b.id
           WHERE m.deleted_at IS NULL ORDER BY m.id"#,
        group
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(MeterId).collect())
}

fn person(handle: &AccountHandle) -> Result<i32, StoreError> {
    handle
        .actor
        .user
        .map(|user| user.0)
        .ok_or_else(|| StoreError::Internal("a schedule of commands needs a person who answers for it".to_owned()))
}

pub(super) async fn write(
    handle: &AccountHandle,
    id: Option<(i32, i32)>,
    form: &ControlScheduleForm,
    now: DateTime<Utc>,
) -> Result<i32, StoreError> {
    let user = person(handle)?;
    let mut tx = handle.begin().await?;
    let meters: Vec<i32> = form.meters.iter().map(|meter| meter.0).collect();
    let known = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM meter WHERE id = ANY($1) AND deleted_at IS NULL"#,
        &meters
    )
    .fetch_one(&mut *tx)
    .await?;
    if usize::try_from(known).unwrap_or_default() != meters.len() {
        return Err(StoreError::Invalid {
            field: "meter_ids",
            message: "names a meter that does not exist, or one twice".to_owned(),
        });
    }
    let expires = i32::try_from(form.expires_in_s).unwrap_or(i32::MAX);
    let (action, group) = (to_json(&form.action)?, form.group.map(|group| group.0));
    let written = match id {
        None => {
            sqlx::query_scalar!(
                "INSERT INTO control_schedule (account_id, name, cron, time_zone, action, meters, group_id,
                        expires_in_s, reason, enabled, requested_by, requested_as, done_until, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13) RETURNING id",
                handle.account.0,
                form.name,
                form.cron,
                form.time_zone,
                action,
                &meters,
                group,
                expires,
                form.reason,
                form.enabled,
                user,
                handle.actor.name,
                now
            )
            .fetch_one(&mut *tx)
            .await?
        }
        Some((id, version)) => {
            let changed = sqlx::query_scalar!(
                "UPDATE control_schedule SET name = $3, cron = $4, time_zone = $5, action = $6, meters = $7,
                        group_id = $8, expires_in_s = $9, reason = $10, enabled = $11, requested_by = $12,
                        requested_as = $13, done_until = $14, approved_by = NULL, approved_at = NULL,
                        version = version + 1
                 WHERE id = $1 AND version = $2 AND deleted_at IS NULL RETURNING id",
                id,
                version,
                form.name,
                form.cron,
                form.time_zone,
                action,
                &meters,
                group,
                expires,
                form.reason,
                form.enabled,
                user,
                handle.actor.name,
                now
            )
            .fetch_optional(&mut *tx)
            .await?;
            match changed {
                Some(id) => id,
                None => return Err(stale(&mut tx, id).await?),
            }
        }
    };
    let detail = json!({
        "name": form.name, "cron": form.cron, "time_zone": form.time_zone, "action": form.action,
        "meter_ids": form.meters, "group_id": form.group, "expires_in_s": form.expires_in_s, "reason": form.reason,
        "enabled": form.enabled,
    });
    let object = format!("control_schedule/{written}");
    handle
        .audit(&mut tx, now, "control_schedule.write", &object, detail)
        .await?;
    tx.commit().await?;
    Ok(written)
}

async fn stale(connection: &mut PgConnection, id: i32) -> Result<StoreError, StoreError> {
    let current = sqlx::query_scalar!(
        "SELECT version FROM control_schedule WHERE id = $1 AND deleted_at IS NULL",
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(
        current.map_or(StoreError::NotFound("control schedule"), |current| StoreError::Stale {
            current,
        }),
    )
}

pub(super) async fn approve(
    handle: &AccountHandle,
    id: i32,
    version: i32,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let user = person(handle)?;
    let mut tx = handle.begin().await?;
    let own = sqlx::query_scalar!(
        "SELECT requested_by FROM control_schedule WHERE id = $1 AND deleted_at IS NULL",
        id
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(StoreError::NotFound("control schedule"))?;
    if own == user {
        return Err(StoreError::Conflict {
            field: None,
            message: "who wrote a schedule cannot approve it".to_owned(),
        });
    }
    let changed = sqlx::query!(
        "UPDATE control_schedule SET approved_by = $3, approved_at = $4 WHERE id = $1 AND version = $2",
        id,
        version,
        user,
        now
    )
    .execute(&mut *tx)
    .await?;
    if changed.rows_affected() == 0 {
        return Err(stale(&mut tx, id).await?);
    }
    let object = format!("control_schedule/{id}");
    let detail = json!({ "version": version });
    handle
        .audit(&mut tx, now, "control_schedule.approve", &object, detail)
        .await?;
    tx.commit().await?;
    Ok(())
}

pub(super) async fn delete(handle: &AccountHandle, id: i32, now: DateTime<Utc>) -> Result<(), StoreError> {
    let mut tx = handle.begin().await?;
    let gone = sqlx::query!(
        "UPDATE control_schedule SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
        id,
        now
    )
    .execute(&mut *tx)
    .await?;
    if gone.rows_affected() == 0 {
        return Err(StoreError::NotFound("control schedule"));
    }
    let object = format!("control_schedule/{id}");
    handle
        .audit(&mut tx, now, "control_schedule.delete", &object, json!({}))
        .await?;
    tx.commit().await?;
    Ok(())
}
