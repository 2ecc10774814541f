//! What the API shows and edits within an account.

use super::super::handles::{AccountHandle, PgStores};
use super::facts::kind_by_name;
use super::schedules;
use super::{Row, action, commands, to_json};
use crate::base::hex;
use crate::base::ids::{CommandId, DtuId, GroupId, MeterId, UserId};
use crate::domain::command::{BrakeLimit, Command, Hold, Policy, ProtectionKind, State};
use crate::port::control::{
    CommandFilter, CommandStore, CommandView, ControlSchedule, ControlScheduleForm, HistoryEdge, ProtectionView,
};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::collections::HashMap;
use uuid::Uuid;

impl InAccount<dyn CommandStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn CommandStore> {
        Box::new(Commands(self.account(scope)))
    }
}

struct Commands(AccountHandle);

struct Shown {
    id: i64,
    meter_id: i32,
    meter_name: String,
    dtu_id: i32,
    reason: String,
    requested_as: String,
    sent_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    outcome: Option<Value>,
    batch_id: Uuid,
    schedule_id: Option<i32>,
}

fn hold_name(hold: &Hold) -> &'static str {
    match hold {
        Hold::FourEyes => "four_eyes",
        Hold::Brake(BrakeLimit::Account) => "brake_account",
        Hold::Brake(BrakeLimit::Total) => "brake_total",
        Hold::Brake(BrakeLimit::Dtu) => "brake_dtu",
    }
}

fn view(shown: Shown, command: &Command) -> CommandView {
    let mut parameters = serde_json::to_value(&command.action).unwrap_or_default();
    if let Some(fields) = parameters.as_object_mut() {
        fields.remove("action");
    }
    CommandView {
        id: command.id,
        meter_id: MeterId(shown.meter_id),
        meter_name: shown.meter_name,
        dtu_id: DtuId(shown.dtu_id),
        address: command.target.address.clone(),
        action: command.action.name().to_owned(),
        parameters,
        state: command.state,
        reason: shown.reason,
        requested_by: shown.requested_as,
        requested_by_id: command.requested_by,
        requested_at: command.requested_at,
        expires_at: command.expires_at,
        sent_at: shown.sent_at,
        ended_at: shown.ended_at,
        holds: command.holds.iter().map(|hold| hold_name(hold).to_owned()).collect(),
        approvals_needed: command.needs,
        approvals: u8::try_from(command.approvals.len()).unwrap_or(u8::MAX),
        outcome: shown.outcome.unwrap_or(Value::Null),
        batch_id: shown.batch_id,
        schedule_id: shown.schedule_id,
        digest: hex::encode(&command.digest()).to_lowercase(),
        history: None,
    }
}

/// The commands of these ids, newest first.
async fn show(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<CommandView>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, account_id, target, action, state, requested_by, requested_at, expires_at, holds, needs,
                sent_through, version
         FROM command WHERE id = ANY($1)",
        ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let commands: HashMap<i64, Command> = commands(connection, rows)
        .await?
        .into_iter()
        .map(|command| (command.id.0, command))
        .collect();
    let shown = sqlx::query_as!(
        Shown,
        "SELECT c.id, c.meter_id, m.name AS meter_name, c.dtu_id, c.reason, c.requested_as, c.sent_at, c.ended_at,
                c.outcome, c.batch_id, c.schedule_id
         FROM command c JOIN meter m ON m.id = c.meter_id WHERE c.id = ANY($1) ORDER BY c.id DESC",
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(shown
        .into_iter()
        .filter_map(|shown| {
            let command = commands.get(&shown.id)?;
            Some(view(shown, command))
        })
        .collect())
}

#[async_trait]
impl CommandStore for Commands {
    async fn list(
        &self,
        filter: &CommandFilter,
        before: Option<CommandId>,
        limit: u32,
    ) -> Result<Vec<CommandView>, StoreError> {
        let mut tx = self.0.begin().await?;
        let states: Vec<String> = filter.states.iter().map(|state| state.as_str().to_owned()).collect();
        let ids = sqlx::query_scalar!(
            "SELECT id FROM command
             WHERE account_id = $1 AND ($2::text[] = '{}' OR state = ANY($2))
               AND ($3::int IS NULL OR meter_id = $3) AND ($4::uuid IS NULL OR batch_id = $4)
               AND ($5::bigint IS NULL OR id < $5)
             ORDER BY id DESC LIMIT $6",
            self.0.account.0,
            &states,
            filter.meter.map(|meter| meter.0) as Option<i32>,
            filter.batch as Option<Uuid>,
            before.map(|id| id.0) as Option<i64>,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        show(&mut tx, &ids).await
    }

    async fn get(&self, command: CommandId) -> Result<CommandView, StoreError> {
        let mut tx = self.0.begin().await?;
        let mut view = show(&mut tx, &[command.0])
            .await?
            .pop()
            .ok_or(StoreError::NotFound("command"))?;
        let edges = sqlx::query!(
            "SELECT state, at, actor, detail FROM command_edge WHERE command_id = $1 ORDER BY version",
            command.0
        )
        .fetch_all(&mut *tx)
        .await?;
        view.history = Some(
            edges
                .into_iter()
                .filter_map(|edge| {
                    Some(HistoryEdge {
                        state: State::by_name(&edge.state)?,
                        at: edge.at,
                        actor: edge.actor,
                        detail: edge.detail,
                    })
                })
                .collect(),
        );
        Ok(view)
    }

    async fn pending_approvals(&self) -> Result<i64, StoreError> {
        let mut tx = self.0.begin().await?;
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM command
               WHERE account_id = $1 AND state = 'held'
                 AND state IN ('requested', 'held', 'approved', 'sent', 'unknown')"#,
            self.0.account.0
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(count)
    }

    async fn policy(&self) -> Result<(Policy, i32), StoreError> {
        let mut tx = self.0.begin().await?;
        let row = sqlx::query!(
            "SELECT policy, version FROM control_policy WHERE account_id = $1",
            self.0.account.0
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            return Ok((Policy::default(), 0));
        };
        let policy = serde_json::from_value(row.policy)
            .map_err(|error| StoreError::Internal(format!("the policy cannot be read: {error}")))?;
        Ok((policy, row.version))
    }

    async fn set_policy(&self, policy: &Policy, version: Option<i32>, now: DateTime<Utc>) -> Result<i32, StoreError> {
        let mut tx = self.0.begin().await?;
        // two first edits at once are put in order
        sqlx::query!("SELECT id FROM account WHERE id = $1 FOR UPDATE", self.0.account.0)
            .fetch_one(&mut *tx)
            .await?;
        let before = sqlx::query!(
            "SELECT policy, version FROM control_policy WHERE account_id = $1",
            self.0.account.0
        )
        .fetch_optional(&mut *tx)
        .await?;
        let current = before.as_ref().map_or(0, |row| row.version);
        if version.is_some_and(|version| version != current) {
            return Err(StoreError::Stale { current });
        }
        let text = to_json(policy)?;
        sqlx::query!(
            "INSERT INTO control_policy (account_id, policy, version) VALUES ($1, $2, $3)
             ON CONFLICT (account_id) DO UPDATE SET policy = excluded.policy, version = excluded.version",
            self.0.account.0,
            text,
            current + 1
        )
        .execute(&mut *tx)
        .await?;
        let detail = json!({ "from": before.map(|row| row.policy), "to": text });
        let object = format!("account/{}", self.0.account);
        self.0.audit(&mut tx, now, "control.policy", &object, detail).await?;
        tx.commit().await?;
        Ok(current + 1)
    }

    async fn set_celsius(&self, celsius: Decimal, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "INSERT INTO control_policy (account_id, policy, celsius, celsius_at, version) VALUES ($1, $2, $3, $4, 1)
             ON CONFLICT (account_id) DO UPDATE SET celsius = excluded.celsius, celsius_at = excluded.celsius_at",
            self.0.account.0,
            to_json(&Policy::default())?,
            celsius,
            now
        )
        .execute(&mut *tx)
        .await?;
        let object = format!("account/{}", self.0.account);
        let detail = json!({ "celsius": celsius });
        self.0
            .audit(&mut tx, now, "control.temperature", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn protections(&self) -> Result<Vec<ProtectionView>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query!("SELECT meter_id, kind, note, until FROM meter_protection ORDER BY meter_id")
            .fetch_all(&mut *tx)
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| ProtectionView {
                meter_id: MeterId(row.meter_id),
                kind: kind_by_name(&row.kind).unwrap_or(ProtectionKind::Protected),
                note: row.note,
                until: row.until,
            })
            .collect())
    }

    async fn protect(&self, protection: &ProtectionView, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let meter = protection.meter_id;
        let known = sqlx::query_scalar!("SELECT id FROM meter WHERE id = $1 AND deleted_at IS NULL", meter.0)
            .fetch_optional(&mut *tx)
            .await?;
        if known.is_none() {
            return Err(StoreError::NotFound("meter"));
        }
        let kind = match protection.kind {
            ProtectionKind::LifeSupport => "life_support",
            ProtectionKind::Protected => "protected",
        };
        sqlx::query!(
            "INSERT INTO meter_protection (meter_id, account_id, kind, note, until, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (meter_id) DO UPDATE SET kind = excluded.kind, note = excluded.note, until = excluded.until",
            meter.0,
            self.0.account.0,
            kind,
            protection.note,
            protection.until,
            now
        )
        .execute(&mut *tx)
        .await?;
        let detail = to_json(protection)?;
        self.0
            .audit(&mut tx, now, "meter.protect", &format!("meter/{meter}"), detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn unprotect(&self, meter: MeterId, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let gone = sqlx::query!("DELETE FROM meter_protection WHERE meter_id = $1", meter.0)
            .execute(&mut *tx)
            .await?;
        if gone.rows_affected() == 0 {
            return Err(StoreError::NotFound("protection"));
        }
        let object = format!("meter/{meter}");
        self.0
            .audit(&mut tx, now, "meter.unprotect", &object, json!({}))
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn meters_of_group(&self, group: GroupId) -> Result<Vec<MeterId>, StoreError> {
        let mut tx = self.0.begin().await?;
        let known = sqlx::query_scalar!(
            "SELECT id FROM meter_group WHERE id = $1 AND deleted_at IS NULL",
            group.0
        )
        .fetch_optional(&mut *tx)
        .await?;
        if known.is_none() {
            return Err(StoreError::NotFound("group"));
        }
        schedules::meters_of_group(&mut tx, group.0).await
    }

    async fn schedules(&self, only: Option<i32>) -> Result<Vec<ControlSchedule>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query!(
            "SELECT id, name, cron, time_zone, action, meters, group_id, expires_in_s, reason, enabled, requested_as,
                    approved_by, version
             FROM control_schedule WHERE deleted_at IS NULL AND ($1::int IS NULL OR id = $1) ORDER BY id",
            only
        )
        .fetch_all(&mut *tx)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(ControlSchedule {
                    id: row.id,
                    name: row.name,
                    cron: row.cron,
                    time_zone: row.time_zone,
                    action: action(row.id.into(), row.action)?,
                    meter_ids: row.meters.into_iter().map(MeterId).collect(),
                    group_id: row.group_id.map(GroupId),
                    expires_in_s: row.expires_in_s.unsigned_abs(),
                    reason: row.reason,
                    enabled: row.enabled,
                    requested_by: row.requested_as,
                    approved_by_id: row.approved_by.map(UserId),
                    version: row.version,
                })
            })
            .collect()
    }

    async fn write_schedule(
        &self,
        id: Option<(i32, i32)>,
        form: &ControlScheduleForm,
        now: DateTime<Utc>,
    ) -> Result<i32, StoreError> {
        schedules::write(&self.0, id, form, now).await
    }

    async fn approve_schedule(&self, id: i32, version: i32, now: DateTime<Utc>) -> Result<(), StoreError> {
        schedules::approve(&self.0, id, version, now).await
    }

    async fn delete_schedule(&self, id: i32, now: DateTime<Utc>) -> Result<(), StoreError> {
        schedules::delete(&self.0, id, now).await
    }
}
