//! Commands in PostgreSQL. The desk's side is [`PgCommandLog`], with role ingest: one transaction per edge, the audit
//! entry in it. The API's side ([`view`], [`schedules`]) reads commands and edits policy, protections and schedules.

mod admit;
mod facts;
mod schedules;
mod view;

use super::handles::append;
use super::{Database, StoreError as DatabaseError};
use crate::base::ids::{AccountId, CommandId, DtuId, MeterId, SessionId, UserId};
use crate::domain::command::brake::Trip;
use crate::domain::command::{Action, Approval, Command, State};
use crate::port::control::{Admitted, CommandLog, DueSchedule, FactSheet, NewBatch, Resumed, Step, Stop};
use crate::port::scope::{Actor, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use std::collections::HashMap;

/// [`CommandLog`] over PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgCommandLog {
    pool: PgPool,
}

impl PgCommandLog {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.ingest().clone(),
        }
    }
}

/// A row of `command` as far as the machine needs it.
struct Row {
    id: i64,
    account_id: i32,
    target: Value,
    action: Value,
    state: String,
    requested_by: i32,
    requested_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    holds: Value,
    needs: i16,
    sent_through: Option<i64>,
    version: i32,
}

fn broken(id: i64, what: &str) -> StoreError {
    StoreError::Internal(format!("command {id}: {what} cannot be read"))
}

/// The commands of these rows, with their approvals.
async fn commands(connection: &mut PgConnection, rows: Vec<Row>) -> Result<Vec<Command>, StoreError> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let found = sqlx::query!(
        "SELECT command_id, user_id, at, digest FROM command_approval WHERE command_id = ANY($1) ORDER BY at, user_id",
        &ids
    )
    .fetch_all(connection)
    .await?;
    let mut approvals: HashMap<i64, Vec<Approval>> = HashMap::new();
    for row in found {
        let digest = <[u8; 32]>::try_from(row.digest.as_slice()).map_err(|_| broken(row.command_id, "an approval"))?;
        approvals.entry(row.command_id).or_default().push(Approval {
            by: UserId(row.user_id),
            at: row.at,
            digest,
        });
    }
    rows.into_iter()
        .map(|row| {
            Ok(Command {
                id: CommandId(row.id),
                account: AccountId(row.account_id),
                target: serde_json::from_value(row.target).map_err(|_| broken(row.id, "its target"))?,
                action: action(row.id, row.action)?,
                state: State::by_name(&row.state).ok_or_else(|| broken(row.id, "its state"))?,
                requested_by: UserId(row.requested_by),
                requested_at: row.requested_at,
                expires_at: row.expires_at,
                holds: serde_json::from_value(row.holds).map_err(|_| broken(row.id, "what holds it"))?,
                needs: u8::try_from(row.needs).map_err(|_| broken(row.id, "how many it needs"))?,
                approvals: approvals.remove(&row.id).unwrap_or_default(),
                sent_through: row.sent_through.map(SessionId),
                version: row.version,
            })
        })
        .collect()
}

fn action(id: i64, value: Value) -> Result<Action, StoreError> {
    serde_json::from_value(value).map_err(|_| broken(id, "its action"))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Value, StoreError> {
    serde_json::to_value(value).map_err(|error| StoreError::Internal(error.to_string()))
}

/// The name of an edge in the audit.
fn audit_action(state: State) -> String {
    format!("command.{}", state.as_str())
}

fn object(id: CommandId) -> String {
    format!("command/{id}")
}

#[async_trait]
impl CommandLog for PgCommandLog {
    async fn resume(&self, since: DateTime<Utc>) -> Result<Resumed, StoreError> {
        let mut tx = self.pool.begin().await?;
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, account_id, target, action, state, requested_by, requested_at, expires_at, holds, needs,
                    sent_through, version
             FROM command WHERE state IN ('requested', 'held', 'approved', 'sent', 'unknown') ORDER BY id"
        )
        .fetch_all(&mut *tx)
        .await?;
        let open = commands(&mut tx, rows).await?;
        let mark = sqlx::query_scalar!(
            "SELECT greatest((SELECT mark FROM control_clock),
                             (SELECT max(e.at) FROM command_edge e
                              JOIN (SELECT id FROM command ORDER BY id DESC LIMIT 1000) c ON c.id = e.command_id))"
        )
        .fetch_one(&mut *tx)
        .await?;
        let trips = sqlx::query!(
            "SELECT account_id, dtu_id, at FROM trip WHERE at >= $1 ORDER BY at",
            since
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| Trip {
            at: row.at,
            account: AccountId(row.account_id),
            dtu: DtuId(row.dtu_id),
        })
        .collect();
        let stops = sqlx::query!(
            "SELECT account_id, reason, began_at, began_by FROM emergency_stop WHERE ended_at IS NULL ORDER BY id"
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| Stop {
            account_id: row.account_id.map(AccountId),
            reason: row.reason,
            began_at: row.began_at,
            began_by: row.began_by,
        })
        .collect();
        Ok(Resumed {
            mark,
            open,
            trips,
            stops,
        })
    }

    async fn facts(&self, account: AccountId, meters: &[MeterId], people: &[UserId]) -> Result<FactSheet, StoreError> {
        let mut tx = self.pool.begin().await?;
        facts::sheet(&mut tx, account, meters, people).await
    }

    async fn admit(&self, batch: NewBatch) -> Result<Admitted, StoreError> {
        let mut tx = self.pool.begin().await?;
        let admitted = admit::admit(&mut tx, batch).await?;
        tx.commit().await?;
        Ok(admitted)
    }

    async fn load(&self, command: CommandId) -> Result<Option<Command>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, account_id, target, action, state, requested_by, requested_at, expires_at, holds, needs,
                    sent_through, version
             FROM command WHERE id = $1 AND state IN ('requested', 'held', 'approved', 'sent', 'unknown')",
            command.0
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(commands(&mut tx, rows).await?.pop())
    }

    async fn step(&self, step: Step) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let after = &step.after;
        let ended = (!after.state.is_open()).then_some(step.wall_at);
        let sent = (after.state == State::Sent).then_some(step.wall_at);
        let changed = sqlx::query!(
            "UPDATE command SET state = $2, holds = $3, needs = $4, sent_through = $5,
                    sent_at = coalesce(sent_at, $6), ended_at = $7, outcome = $8, version = $9
             WHERE id = $1 AND version = $9 - 1",
            after.id.0,
            after.state.as_str(),
            to_json(&after.holds)?,
            i16::from(after.needs),
            after.sent_through.map(|session| session.0) as Option<i64>,
            sent as Option<DateTime<Utc>>,
            ended as Option<DateTime<Utc>>,
            step.detail,
            after.version
        )
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() != 1 {
            let current = sqlx::query_scalar!("SELECT version FROM command WHERE id = $1", after.id.0)
                .fetch_optional(&mut *tx)
                .await?;
            return Err(current.map_or(StoreError::NotFound("command"), |current| StoreError::Stale { current }));
        }
        edge(&mut tx, &step).await?;
        if let Some(approval) = &step.approval {
            sqlx::query!(
                "INSERT INTO command_approval (command_id, user_id, account_id, at, digest) VALUES ($1, $2, $3, $4, $5)",
                after.id.0,
                approval.by.0,
                after.account.0,
                approval.at,
                approval.digest.as_slice()
            )
            .execute(&mut *tx)
            .await?;
        }
        if let Some(trip) = &step.trip {
            sqlx::query!(
                "INSERT INTO trip (command_id, account_id, dtu_id, at) VALUES ($1, $2, $3, $4)",
                after.id.0,
                trip.account.0,
                trip.dtu.0,
                trip.at
            )
            .execute(&mut *tx)
            .await?;
        }
        keep_mark(&mut tx, step.at).await?;
        append(
            &mut tx,
            Some(after.account),
            &step.actor,
            step.wall_at,
            &audit_action(after.state),
            &object(after.id),
            json!({
                "meter_id": after.target.meter, "action": after.action, "at": step.at, "detail": step.detail,
            }),
        )
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn keep_mark(&self, mark: DateTime<Utc>) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        keep_mark(&mut connection, mark).await
    }

    async fn begin_stop(&self, stop: &Stop, actor: &Actor) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "INSERT INTO emergency_stop (account_id, reason, began_at, began_by) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
            stop.account_id.map(|account| account.0) as Option<i32>,
            stop.reason,
            stop.began_at,
            stop.began_by
        )
        .execute(&mut *tx)
        .await?;
        let detail = json!({ "reason": stop.reason });
        let (account, at) = (stop.account_id, stop.began_at);
        append(&mut tx, account, actor, at, "control.stop", &scope_of(account), detail).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn end_stop(
        &self,
        account: Option<AccountId>,
        actor: &Actor,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let ended = sqlx::query!(
            "UPDATE emergency_stop SET ended_at = $2, ended_by = $3
             WHERE ended_at IS NULL AND account_id IS NOT DISTINCT FROM $1",
            account.map(|account| account.0) as Option<i32>,
            now,
            actor.name
        )
        .execute(&mut *tx)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        append(
            &mut tx,
            account,
            actor,
            now,
            "control.resume",
            &scope_of(account),
            json!({}),
        )
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn schedules(&self) -> Result<Vec<DueSchedule>, StoreError> {
        let mut tx = self.pool.begin().await?;
        schedules::due(&mut tx).await
    }

    async fn schedule_done(&self, schedule: i32, until: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE control_schedule SET done_until = greatest(done_until, $2) WHERE id = $1",
            schedule,
            until
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn scope_of(account: Option<AccountId>) -> String {
    account.map_or_else(|| "server".to_owned(), |account| format!("account/{account}"))
}

async fn edge(connection: &mut PgConnection, step: &Step) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO command_edge (command_id, version, account_id, at, wall_at, state, actor, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        step.after.id.0,
        step.after.version,
        step.after.account.0,
        step.at,
        step.wall_at,
        step.after.state.as_str(),
        step.actor.name,
        step.detail
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn keep_mark(connection: &mut PgConnection, mark: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO control_clock (mark) VALUES ($1)
         ON CONFLICT (singleton) DO UPDATE SET mark = greatest(control_clock.mark, excluded.mark)",
        mark
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl From<DatabaseError> for crate::port::control::ControlError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}
