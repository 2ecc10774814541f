//! Imports in PostgreSQL: the jobs, what rows can name, and the one transaction that writes what a file asks for.

mod dtus;
mod groups;
mod meters;

use super::handles::{AccountHandle, PgStores, PlatformHandle};
use crate::base::ids::{DtuId, GroupId, MeterId, ScheduleId, UserId};
use crate::port::dtus::Dtu;
use crate::port::imports::{
    Applied, ImportAsk, ImportBook, ImportHouse, ImportJob, ImportPlan, ImportState, ImportTally, Known, KnownMeter,
};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::collections::BTreeSet;
use uuid::Uuid;

impl InAccount<dyn ImportBook> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn ImportBook> {
        Box::new(Book(self.account(scope)))
    }
}

impl AcrossAccounts<dyn ImportHouse> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn ImportHouse> {
        Box::new(House(self.platform(actor)))
    }
}

struct Book(AccountHandle);

struct House(PlatformHandle);

/// What the steps of a plan left behind.
#[derive(Default)]
struct Steps {
    /// DTUs that the front end has to load anew.
    dtus: BTreeSet<DtuId>,
    /// Entries of the audit: action, object, detail.
    audit: Vec<(&'static str, String, Value)>,
    /// Rows that cannot be written, by column.
    refused: Vec<(u32, &'static str, String)>,
    /// The plan was made from what is no longer so.
    moved: bool,
}

impl Steps {
    fn moved() -> Self {
        Self {
            moved: true,
            ..Self::default()
        }
    }

    /// Takes what a change of a single row came to.
    fn note(&mut self, row: u32, error: StoreError) -> Result<(), StoreError> {
        match error {
            StoreError::NotFound(_) | StoreError::Stale { .. } => self.moved = true,
            StoreError::Invalid { field, message } => self.refused.push((row, field, message)),
            StoreError::Conflict { field, message } => self.refused.push((row, field.unwrap_or_default(), message)),
            other => return Err(other),
        }
        Ok(())
    }
}

struct Row {
    id: Uuid,
    ask: Value,
    state: String,
    reason: Option<String>,
    tally: Value,
    requested_by: String,
    user_id: Option<i32>,
    created_at: DateTime<Utc>,
    began_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for ImportJob {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let wrong = |what: String| StoreError::Internal(format!("import_job {}: {what}", row.id));
        Ok(Self {
            id: row.id,
            ask: serde_json::from_value(row.ask).map_err(|error| wrong(error.to_string()))?,
            state: ImportState::by_name(&row.state).ok_or_else(|| wrong(format!("state is {:?}", row.state)))?,
            reason: row.reason,
            tally: serde_json::from_value(row.tally).map_err(|error| wrong(error.to_string()))?,
            requested_by: row.requested_by,
            user_id: row.user_id.map(UserId),
            created_at: row.created_at,
            began_at: row.began_at,
            ended_at: row.ended_at,
        })
    }
}

fn json_of(value: &impl serde::Serialize) -> Result<Value, StoreError> {
    serde_json::to_value(value).map_err(|error| StoreError::Internal(error.to_string()))
}

fn object(id: Uuid) -> String {
    format!("import/{id}")
}

async fn find(tx: &mut PgConnection, id: Uuid) -> Result<ImportJob, StoreError> {
    sqlx::query_as!(
        Row,
        "SELECT id, ask, state, reason, tally, requested_by, user_id, created_at, began_at, ended_at
         FROM import_job WHERE id = $1",
        id
    )
    .fetch_optional(tx)
    .await?
    .ok_or(StoreError::NotFound("import"))?
    .try_into()
}

/// Ends a job that has not ended; false: it had.
async fn end(
    tx: &mut PgConnection,
    id: Uuid,
    state: ImportState,
    reason: Option<&str>,
    tally: &ImportTally,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        "UPDATE import_job SET state = $2, reason = $3, tally = $4, ended_at = $5
         WHERE id = $1 AND state IN ('waiting', 'running')",
        id,
        state.as_str(),
        reason,
        json_of(tally)?,
        now
    )
    .execute(tx)
    .await?
    .rows_affected();
    Ok(ended == 1)
}

#[async_trait]
impl ImportBook for Book {
    async fn create(&self, id: Uuid, ask: &ImportAsk, now: DateTime<Utc>) -> Result<ImportJob, StoreError> {
        let detail = json_of(ask)?;
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "INSERT INTO import_job (id, account_id, kind, ask, tally, requested_by, user_id, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            id,
            self.0.account.0,
            ask.kind.as_str(),
            detail,
            json_of(&ImportTally::default())?,
            self.0.actor.name,
            self.0.actor.user.map(|user| user.0) as Option<i32>,
            now
        )
        .execute(&mut *tx)
        .await?;
        let job = find(&mut tx, id).await?;
        self.0.audit(&mut tx, now, "import.create", &object(id), detail).await?;
        tx.commit().await?;
        Ok(job)
    }

    async fn list(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<ImportJob>, StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query_as!(
            Row,
            r#"SELECT id, ask, state, reason, tally || '{"faults": [], "changes": []}' AS "tally!", requested_by, user_id,
                      created_at, began_at, ended_at
               FROM import_job WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2"#,
            before,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(ImportJob::try_from)
        .collect()
    }

    async fn get(&self, id: Uuid) -> Result<ImportJob, StoreError> {
        find(&mut *self.0.begin().await?, id).await
    }

    async fn progress(&self, id: Uuid, tally: &ImportTally, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "UPDATE import_job SET state = 'running', tally = $2, began_at = coalesce(began_at, $3)
             WHERE id = $1 AND state IN ('waiting', 'running')",
            id,
            json_of(tally)?,
            now
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn end(
        &self,
        id: Uuid,
        state: ImportState,
        reason: Option<&str>,
        tally: &ImportTally,
        now: DateTime<Utc>,
    ) -> Result<Option<ImportJob>, StoreError> {
        let mut tx = self.0.begin().await?;
        if !end(&mut tx, id, state, reason, tally, now).await? {
            return Ok(None);
        }
        let job = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(Some(job))
    }

    async fn known(&self) -> Result<Known, StoreError> {
        let mut tx = self.0.begin().await?;
        let dtus = sqlx::query!("SELECT id, sn, name FROM dtu WHERE deleted_at IS NULL ORDER BY id")
            .fetch_all(&mut *tx)
            .await?;
        let groups = sqlx::query!("SELECT id, name, parent_id FROM meter_group WHERE deleted_at IS NULL ORDER BY id")
            .fetch_all(&mut *tx)
            .await?;
        let schedules = sqlx::query!("SELECT id, name FROM schedule WHERE deleted_at IS NULL ORDER BY id")
            .fetch_all(&mut *tx)
            .await?;
        Ok(Known {
            dtus: dtus.into_iter().map(|row| (DtuId(row.id), row.sn, row.name)).collect(),
            groups: groups
                .into_iter()
                .map(|row| (GroupId(row.id), row.name, row.parent_id.map(GroupId)))
                .collect(),
            schedules: schedules
                .into_iter()
                .map(|row| (ScheduleId(row.id), row.name))
                .collect(),
        })
    }

    async fn dtus(&self, ids: &[DtuId], now: DateTime<Utc>) -> Result<Vec<Dtu>, StoreError> {
        let mut tx = self.0.begin().await?;
        let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
        super::dtus::rows(&mut tx, &ids, now).await
    }

    async fn meters(&self, dtus: &[DtuId]) -> Result<Vec<KnownMeter>, StoreError> {
        let ids: Vec<i32> = dtus.iter().map(|id| id.0).collect();
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query!(
            r#"SELECT m.id, m.version, m.dtu_id, m.protocol, m.address, m.model, m.name, m.comment, m.group_id,
                      coalesce(i.ct_ratio, 1) AS "ct_ratio!", coalesce(i.vt_ratio, 1) AS "vt_ratio!",
                      array(SELECT o.schedule_id FROM meter_own_schedule o WHERE o.meter_id = m.id
                            ORDER BY o.schedule_id) AS "schedules!"
               FROM meter m
               LEFT JOIN installation i ON i.meter_id = m.id AND i.valid_to IS NULL
               WHERE m.dtu_id = ANY ($1) AND m.deleted_at IS NULL ORDER BY m.id"#,
            &ids
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| KnownMeter {
                id: MeterId(row.id),
                version: row.version,
                dtu: DtuId(row.dtu_id),
                protocol: row.protocol,
                address: row.address,
                model: row.model,
                name: row.name,
                comment: row.comment,
                group: row.group_id.map(GroupId),
                ct_ratio: row.ct_ratio.normalize(),
                vt_ratio: row.vt_ratio.normalize(),
                schedules: row.schedules.into_iter().map(ScheduleId).collect(),
            })
            .collect())
    }

    async fn apply(
        &self,
        id: Uuid,
        plan: &ImportPlan,
        dry_run: bool,
        tally: &ImportTally,
        now: DateTime<Utc>,
    ) -> Result<Applied, StoreError> {
        let handle = &self.0;
        let mut tx = handle.begin().await?;
        let steps = match plan {
            ImportPlan::Dtus(steps) => dtus::apply(handle, &mut tx, steps, now).await?,
            ImportPlan::Meters(steps) => meters::apply(handle, &mut tx, steps, now).await?,
            ImportPlan::Groups(steps) => groups::apply(handle, &mut tx, steps, now).await?,
        };
        // the transaction goes out of scope, and with it everything that it did
        if steps.moved {
            return Ok(Applied::Moved);
        }
        if !steps.refused.is_empty() {
            return Ok(Applied::Refused(steps.refused));
        }
        if dry_run {
            return Ok(Applied::All(Vec::new()));
        }
        if !end(&mut tx, id, ImportState::Done, None, tally, now).await? {
            return Ok(Applied::Ended);
        }
        let summary = json!({ "rows": tally.rows, "made": tally.made, "changed": tally.changed,
                              "unchanged": tally.unchanged });
        handle.audit_all(&mut tx, now, &steps.audit).await?;
        handle.audit(&mut tx, now, "import.run", &object(id), summary).await?;
        tx.commit().await?;
        Ok(Applied::All(steps.dtus.into_iter().collect()))
    }
}

/// Holds what new things name until the end of the transaction; false: something of it is gone.
async fn hold(
    tx: &mut PgConnection,
    dtus: BTreeSet<DtuId>,
    groups: BTreeSet<GroupId>,
    schedules: BTreeSet<ScheduleId>,
) -> Result<bool, StoreError> {
    let ids: Vec<i32> = dtus.into_iter().map(|id| id.0).collect();
    let found = sqlx::query_scalar!(
        "SELECT id FROM dtu WHERE id = ANY ($1) AND deleted_at IS NULL ORDER BY id FOR SHARE",
        &ids
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut whole = found.len() == ids.len();
    let ids: Vec<i32> = groups.into_iter().map(|id| id.0).collect();
    let found = sqlx::query_scalar!(
        "SELECT id FROM meter_group WHERE id = ANY ($1) AND deleted_at IS NULL ORDER BY id FOR SHARE",
        &ids
    )
    .fetch_all(&mut *tx)
    .await?;
    whole &= found.len() == ids.len();
    let ids: Vec<i32> = schedules.into_iter().map(|id| id.0).collect();
    let found = sqlx::query_scalar!(
        "SELECT id FROM schedule WHERE id = ANY ($1) AND deleted_at IS NULL ORDER BY id FOR SHARE",
        &ids
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(whole && found.len() == ids.len())
}

#[async_trait]
impl ImportHouse for House {
    async fn abandon(&self, marker: Uuid, reason: &str, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut tx = self.0.begin().await?;
        let ended = sqlx::query!(
            "UPDATE import_job SET state = 'failed', reason = $2, ended_at = $3
             WHERE state IN ('waiting', 'running') AND id < $1",
            marker,
            reason,
            now
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(ended)
    }

    async fn sweep(&self, forget: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "DELETE FROM import_job WHERE created_at < $1 AND state NOT IN ('waiting', 'running')",
            forget
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}
