//! Settings of terminals in PostgreSQL: profiles, runs and their terminals, what each terminal said last, and the audit of what is
//! written to them.

mod profiles;

use super::handles::{AccountHandle, PgStores, PlatformHandle};
use super::mesh;
use crate::base::ids::DtuId;
use crate::domain::parameter::{Parameter, ParameterAsk, ParameterOutcome};
use crate::port::parameters::{
    EntryState, KnownParameter, NewRun, ParameterHouse, ParameterRun, ParameterStore, RunEntry, RunState,
    TerminalProfile, WantedParameter,
};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Days that runs are remembered.
const REMEMBERED_DAYS: i64 = 400;
/// Why a terminal that was asked when its run was ended is told so.
const WHILE_ASKED: &str = "the run was ended while the terminal was asked; compare it again";
const RESTARTED: &str = "the server was restarted while the terminal was asked; compare it again";

impl InAccount<dyn ParameterStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn ParameterStore> {
        Box::new(self.account(scope))
    }
}

impl AcrossAccounts<dyn ParameterHouse> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn ParameterHouse> {
        Box::new(House(self.platform(actor)))
    }
}

struct House(PlatformHandle);

fn internal(error: impl std::fmt::Display) -> StoreError {
    StoreError::Internal(error.to_string())
}

struct RunRow {
    id: Uuid,
    protocol: String,
    profile_id: Option<i32>,
    state: String,
    requested_by: String,
    written_by: Option<String>,
    created_at: DateTime<Utc>,
    compared_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    terminals: Value,
}

impl TryFrom<RunRow> for ParameterRun {
    type Error = StoreError;

    fn try_from(row: RunRow) -> Result<Self, StoreError> {
        let terminals: BTreeMap<String, i64> = serde_json::from_value(row.terminals).map_err(internal)?;
        Ok(Self {
            id: row.id,
            protocol: row.protocol,
            profile_id: row.profile_id,
            state: RunState::by_name(&row.state).ok_or_else(|| internal(&row.state))?,
            terminals,
            requested_by: row.requested_by,
            written_by: row.written_by,
            created_at: row.created_at,
            compared_at: row.compared_at,
            ended_at: row.ended_at,
        })
    }
}

struct EntryRow {
    dtu_id: i32,
    state: String,
    reason: Option<String>,
    parameters: Value,
    ended_at: Option<DateTime<Utc>>,
}

impl TryFrom<EntryRow> for RunEntry {
    type Error = StoreError;

    fn try_from(row: EntryRow) -> Result<Self, StoreError> {
        let parameters: Vec<Parameter> = serde_json::from_value(row.parameters).map_err(internal)?;
        Ok(Self {
            dtu_id: DtuId(row.dtu_id),
            state: EntryState::by_name(&row.state).ok_or_else(|| internal(&row.state))?,
            reason: row.reason,
            parameters,
            ended_at: row.ended_at,
        })
    }
}

async fn runs(
    tx: &mut PgConnection,
    id: Option<Uuid>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ParameterRun>, StoreError> {
    sqlx::query_as!(
        RunRow,
        r#"SELECT r.id, r.protocol, r.profile_id, r.state, r.requested_by, r.written_by, r.created_at, r.compared_at, r.ended_at,
                  coalesce((SELECT jsonb_object_agg(s.state, s.n) FROM
                      (SELECT e.state, count(*) AS n FROM parameter_run_entry e WHERE e.run_id = r.id GROUP BY e.state) s),
                      '{}') AS "terminals!"
           FROM parameter_run r
           WHERE ($1::uuid IS NULL OR r.id = $1) AND ($2::uuid IS NULL OR r.id < $2) ORDER BY r.id DESC LIMIT $3"#,
        id,
        before,
        limit
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(ParameterRun::try_from)
    .collect()
}

async fn find(tx: &mut PgConnection, id: Uuid) -> Result<ParameterRun, StoreError> {
    let found = runs(tx, Some(id), None, 1).await?.into_iter().next();
    found.ok_or(StoreError::NotFound("parameter run"))
}

async fn lock(tx: &mut PgConnection, id: Uuid) -> Result<RunState, StoreError> {
    let state = sqlx::query_scalar!("SELECT state FROM parameter_run WHERE id = $1 FOR UPDATE", id)
        .fetch_optional(tx)
        .await?
        .ok_or(StoreError::NotFound("parameter run"))?;
    RunState::by_name(&state).ok_or_else(|| internal(state))
}

async fn page(
    tx: &mut PgConnection,
    id: Uuid,
    state: Option<EntryState>,
    after: Option<DtuId>,
    limit: i64,
) -> Result<Vec<RunEntry>, StoreError> {
    sqlx::query_as!(
        EntryRow,
        "SELECT dtu_id, state, reason, parameters, ended_at FROM parameter_run_entry
         WHERE run_id = $1 AND ($2::text IS NULL OR state = $2) AND ($3::int IS NULL OR dtu_id > $3)
         ORDER BY dtu_id LIMIT $4",
        id,
        state.map(EntryState::as_str),
        after.map(|dtu| dtu.0),
        limit
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(RunEntry::try_from)
    .collect()
}

/// What was read is what the terminal said last.
async fn keep(tx: &mut PgConnection, account: i32, entry: &RunEntry, now: DateTime<Utc>) -> Result<(), StoreError> {
    let read = entry.parameters.iter().filter(|parameter| {
        let touched = !matches!(
            parameter.outcome,
            ParameterOutcome::Absent | ParameterOutcome::Silent | ParameterOutcome::Unknown
        );
        // a clock is another by the time anybody looks
        touched && parameter.present.is_some() && parameter.ahead_s.is_none()
    });
    let (mut names, mut numbers, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for parameter in read {
        names.push(parameter.name.clone());
        numbers.push(i32::from(parameter.number));
        values.push(serde_json::to_value(&parameter.present).map_err(internal)?);
    }
    sqlx::query!(
        "INSERT INTO terminal_parameter (dtu_id, account_id, name, number, value, read_at)
         SELECT DISTINCT ON (t.name, t.number) $1::int, $2::int, t.name, t.number, t.value, $3::timestamptz
         FROM unnest($4::text[], $5::int[], $6::jsonb[]) AS t (name, number, value)
         ON CONFLICT (dtu_id, name, number) DO UPDATE SET value = excluded.value, read_at = excluded.read_at",
        entry.dtu_id.0,
        account,
        now,
        &names,
        &numbers,
        &values
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What of a terminal is about to be written, as the audit has it.
fn changes(entry: &RunEntry) -> Value {
    let differs = entry
        .parameters
        .iter()
        .filter(|parameter| parameter.outcome == ParameterOutcome::Differs);
    let changes: Vec<Value> = differs
        .map(|of| json!({ "name": of.name, "number": of.number, "from": of.present, "to": of.wanted }))
        .collect();
    json!({ "changes": changes })
}

#[async_trait]
impl ParameterStore for AccountHandle {
    async fn profiles(&self, after: Option<i32>, limit: u32) -> Result<Vec<TerminalProfile>, StoreError> {
        profiles::list(self, after, limit).await
    }

    async fn profile(&self, id: i32) -> Result<TerminalProfile, StoreError> {
        profiles::find(&mut *self.begin().await?, id).await
    }

    async fn create_profile(
        &self,
        name: &str,
        protocol: &str,
        parameters: &[WantedParameter],
        now: DateTime<Utc>,
    ) -> Result<TerminalProfile, StoreError> {
        profiles::create(self, name, protocol, parameters, now).await
    }

    async fn edit_profile(
        &self,
        id: i32,
        name: &str,
        parameters: &[WantedParameter],
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<TerminalProfile, StoreError> {
        profiles::edit(self, id, name, parameters, version, now).await
    }

    async fn delete_profile(&self, id: i32, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        profiles::delete(self, id, version, now).await
    }

    async fn known(
        &self,
        dtu: DtuId,
        after: Option<(String, u16)>,
        limit: u32,
    ) -> Result<Vec<KnownParameter>, StoreError> {
        let mut tx = self.begin().await?;
        mesh::check(&mut tx, dtu).await?;
        let (name, number) = after.map_or((None, 0), |(name, number)| (Some(name), number));
        let rows = sqlx::query!(
            "SELECT name, number, value, read_at FROM terminal_parameter
             WHERE dtu_id = $1 AND ($2::text IS NULL OR (name, number) > ($2, $3)) ORDER BY name, number LIMIT $4",
            dtu.0,
            name,
            i32::from(number),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        let known = rows.into_iter().map(|row| {
            Ok(KnownParameter {
                name: row.name,
                number: u16::try_from(row.number).map_err(internal)?,
                value: serde_json::from_value(row.value).map_err(internal)?,
                read_at: row.read_at,
            })
        });
        known.collect()
    }

    async fn create_run(&self, run: &NewRun, now: DateTime<Utc>) -> Result<ParameterRun, StoreError> {
        let mut tx = self.begin().await?;
        let dtus: Vec<i32> = run.dtus.iter().map(|dtu| dtu.0).collect();
        let there = sqlx::query_scalar!(
            "SELECT id FROM dtu WHERE id = ANY($1) AND deleted_at IS NULL FOR SHARE",
            &dtus
        )
        .fetch_all(&mut *tx)
        .await?;
        if let Some(gone) = dtus.iter().find(|dtu| !there.contains(dtu)) {
            return Err(StoreError::Invalid {
                field: "dtu_ids",
                message: format!("there is no DTU {gone}"),
            });
        }
        sqlx::query!(
            "DELETE FROM parameter_run WHERE created_at < $1 AND state NOT IN ('comparing', 'writing')",
            now - chrono::TimeDelta::days(REMEMBERED_DAYS)
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "INSERT INTO parameter_run (id, account_id, protocol, profile_id, asks, state, requested_by, created_at)
             VALUES ($1, $2, $3, $4, $5, 'comparing', $6, $7)",
            run.id,
            self.account.0,
            run.protocol,
            run.profile,
            serde_json::to_value(&run.asks).map_err(internal)?,
            self.actor.name,
            now
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "INSERT INTO parameter_run_entry (run_id, dtu_id, account_id, state)
             SELECT DISTINCT $1::uuid, t.dtu, $2::int, 'waiting' FROM unnest($3::int[]) AS t (dtu)",
            run.id,
            self.account.0,
            &dtus
        )
        .execute(&mut *tx)
        .await?;
        let made = find(&mut tx, run.id).await?;
        let detail = json!({ "protocol": run.protocol, "profile_id": run.profile, "terminals": dtus.len() });
        self.commit_audited(tx, now, ("parameters", "compare", &run.id), detail)
            .await?;
        Ok(made)
    }

    async fn runs(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<ParameterRun>, StoreError> {
        runs(&mut *self.begin().await?, None, before, limit.into()).await
    }

    async fn run(&self, id: Uuid) -> Result<ParameterRun, StoreError> {
        find(&mut *self.begin().await?, id).await
    }

    async fn entries(
        &self,
        id: Uuid,
        state: Option<EntryState>,
        after: Option<DtuId>,
        limit: u32,
    ) -> Result<Vec<RunEntry>, StoreError> {
        let mut tx = self.begin().await?;
        find(&mut tx, id).await?;
        page(&mut tx, id, state, after, limit.into()).await
    }

    async fn asks(&self, id: Uuid) -> Result<Vec<ParameterAsk>, StoreError> {
        let mut tx = self.begin().await?;
        let asks = sqlx::query_scalar!("SELECT asks FROM parameter_run WHERE id = $1", id)
            .fetch_optional(&mut *tx)
            .await?
            .ok_or(StoreError::NotFound("parameter run"))?;
        serde_json::from_value(asks).map_err(internal)
    }

    async fn begin_entry(&self, id: Uuid, dtu: DtuId) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let begun = sqlx::query!(
            "UPDATE parameter_run_entry SET state = 'running' WHERE run_id = $1 AND dtu_id = $2 AND state = 'waiting'",
            id,
            dtu.0
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(begun == 1)
    }

    async fn end_entry(&self, id: Uuid, entry: &RunEntry, wrote: bool, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let parameters = serde_json::to_value(&entry.parameters).map_err(internal)?;
        sqlx::query!(
            "UPDATE parameter_run_entry SET state = $3, reason = $4, parameters = $5, ended_at = $6
             WHERE run_id = $1 AND dtu_id = $2 AND state IN ('waiting', 'running')",
            id,
            entry.dtu_id.0,
            entry.state.as_str(),
            entry.reason,
            parameters,
            now
        )
        .execute(&mut *tx)
        .await?;
        keep(&mut tx, self.account.0, entry, now).await?;
        if wrote {
            let detail = json!({
                "run": id, "state": entry.state, "reason": entry.reason, "parameters": parameters
            });
            let object = format!("dtu/{}", entry.dtu_id);
            self.audit(&mut tx, now, "parameters.written", &object, detail).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn end_phase(&self, id: Uuid, now: DateTime<Utc>) -> Result<ParameterRun, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query!(
            "UPDATE parameter_run SET state = CASE state WHEN 'comparing' THEN 'compared' ELSE 'done' END,
                    compared_at = coalesce(compared_at, $2), ended_at = CASE state WHEN 'writing' THEN $2 END
             WHERE id = $1 AND state IN ('comparing', 'writing')",
            id,
            now
        )
        .execute(&mut *tx)
        .await?;
        let run = find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(run)
    }

    async fn begin_write(&self, id: Uuid, now: DateTime<Utc>) -> Result<Vec<RunEntry>, StoreError> {
        let mut tx = self.begin().await?;
        let state = lock(&mut tx, id).await?;
        let conflict = |message: String| Err(StoreError::Conflict { field: None, message });
        if state != RunState::Compared {
            return conflict(format!(
                "the run is {}; only one that has compared can be written",
                state.as_str()
            ));
        }
        let differing = page(&mut tx, id, Some(EntryState::Differs), None, i64::MAX).await?;
        if differing.is_empty() {
            return conflict("nothing differs; there is nothing to be written".to_owned());
        }
        sqlx::query!(
            "UPDATE parameter_run_entry SET state = 'waiting', ended_at = NULL WHERE run_id = $1 AND state = 'differs'",
            id
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE parameter_run SET state = 'writing', written_by = $2 WHERE id = $1",
            id,
            self.actor.name
        )
        .execute(&mut *tx)
        .await?;
        let entries: Vec<(&'static str, String, Value)> = differing
            .iter()
            .map(|entry| ("parameters.write", format!("dtu/{}", entry.dtu_id), changes(entry)))
            .collect();
        self.audit_all(&mut tx, now, &entries).await?;
        tx.commit().await?;
        Ok(differing)
    }

    async fn cancel(&self, id: Uuid, now: DateTime<Utc>) -> Result<ParameterRun, StoreError> {
        let mut tx = self.begin().await?;
        let state = lock(&mut tx, id).await?;
        if !matches!(state, RunState::Comparing | RunState::Compared | RunState::Writing) {
            return find(&mut tx, id).await;
        }
        sqlx::query!(
            "UPDATE parameter_run_entry
             SET reason = CASE state WHEN 'running' THEN $2 END, ended_at = $3,
                 state = CASE state WHEN 'running' THEN 'interrupted' ELSE 'cancelled' END
             WHERE run_id = $1 AND state IN ('waiting', 'running')",
            id,
            WHILE_ASKED,
            now
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE parameter_run SET state = 'cancelled', ended_at = $2 WHERE id = $1",
            id,
            now
        )
        .execute(&mut *tx)
        .await?;
        let run = find(&mut tx, id).await?;
        self.commit_audited(tx, now, ("parameters", "cancel", &id), json!({ "was": state }))
            .await?;
        Ok(run)
    }
}

#[async_trait]
impl ParameterHouse for House {
    async fn interrupt(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut tx = self.0.begin().await?;
        sqlx::query!(
            "UPDATE parameter_run_entry e
             SET reason = CASE e.state WHEN 'running' THEN $1 ELSE 'the server was restarted before its turn' END,
                 ended_at = $2, state = 'interrupted'
             FROM parameter_run r
             WHERE r.id = e.run_id AND r.state IN ('comparing', 'writing') AND e.state IN ('waiting', 'running')",
            RESTARTED,
            now
        )
        .execute(&mut *tx)
        .await?;
        let open = sqlx::query!(
            "UPDATE parameter_run SET state = 'interrupted', ended_at = $1 WHERE state IN ('comparing', 'writing')",
            now
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(open)
    }
}
