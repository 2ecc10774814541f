//! What people see of alarms and do with them, within an account or across all.

use super::settle::row;
use super::{kind, steps};
use crate::base::ids::{AccountId, AlarmId, AlarmRuleId, DtuId, MeterId};
use crate::domain::alarm::{AlarmEdge, AlarmStep, Severity};
use crate::port::alarms::{AlarmDeed, AlarmFilter, AlarmState, AlarmStepView, AlarmStore, AlarmView, VictimView};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use crate::store::handles::{PgStores, Reach, check_version};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{PgConnection, Postgres, Transaction};

const STEPS_MAX: i64 = 1_000;

impl InAccount<dyn AlarmStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn AlarmStore> {
        let actor = scope.actor.clone();
        Box::new(Alarms(Reach::Account(self.account(scope)), actor))
    }
}

impl AcrossAccounts<dyn AlarmStore> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn AlarmStore> {
        Box::new(Alarms(Reach::Platform(self.platform(actor.clone())), actor))
    }
}

struct Alarms(Reach, Actor);

struct Shown {
    id: i64,
    account_id: Option<i32>,
    kind: String,
    severity: String,
    sentence: String,
    detail: serde_json::Value,
    dtu_id: Option<i32>,
    dtu_name: Option<String>,
    meter_id: Option<i32>,
    meter_name: Option<String>,
    rule_id: Option<i32>,
    parent_id: Option<i64>,
    victims: i64,
    victims_open: i64,
    occurrences: i32,
    raised_at: DateTime<Utc>,
    cause_at: DateTime<Utc>,
    acknowledged_at: Option<DateTime<Utc>>,
    acknowledged_by: Option<String>,
    shelved_until: Option<DateTime<Utc>>,
    shelved_by: Option<String>,
    cleared_at: Option<DateTime<Utc>>,
    cleared_by: Option<String>,
    version: i32,
}

fn view(shown: Shown, now: DateTime<Utc>) -> Result<AlarmView, StoreError> {
    let shelved = shown.shelved_until.is_some_and(|until| until > now);
    let state = if shown.cleared_at.is_some() {
        AlarmState::Cleared
    } else if shelved {
        AlarmState::Shelved
    } else if shown.acknowledged_at.is_some() {
        AlarmState::Acknowledged
    } else {
        AlarmState::Raised
    };
    Ok(AlarmView {
        id: AlarmId(shown.id),
        account_id: shown.account_id.map(AccountId),
        kind: kind(&shown.kind)?,
        severity: Severity::by_name(&shown.severity).unwrap_or_default(),
        state,
        sentence: shown.sentence,
        detail: serde_json::from_value(shown.detail).unwrap_or_default(),
        dtu_id: shown.dtu_id.map(DtuId),
        dtu_name: shown.dtu_name,
        meter_id: shown.meter_id.map(MeterId),
        meter_name: shown.meter_name,
        rule_id: shown.rule_id.map(AlarmRuleId),
        parent_id: shown.parent_id.map(AlarmId),
        victims: shown.victims,
        victims_open: shown.victims_open,
        occurrences: shown.occurrences,
        raised_at: shown.raised_at,
        cause_at: shown.cause_at,
        acknowledged_at: shown.acknowledged_at,
        acknowledged_by: shown.acknowledged_by,
        shelved_until: shown.shelved_until.filter(|_| shelved),
        shelved_by: shown.shelved_by.filter(|_| shelved),
        cleared_at: shown.cleared_at,
        cleared_by: shown.cleared_by,
        version: shown.version,
    })
}

fn state_name(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Raised => "raised",
        AlarmState::Acknowledged => "acknowledged",
        AlarmState::Shelved => "shelved",
        AlarmState::Cleared => "cleared",
    }
}

/// Those that fit the filter, the newest first; `only`: this one.
async fn find(
    tx: &mut PgConnection,
    filter: &AlarmFilter,
    (only, after): (Option<AlarmId>, Option<AlarmId>),
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<AlarmView>, StoreError> {
    let states: Vec<String> = filter
        .states
        .iter()
        .map(|state| state_name(*state).to_owned())
        .collect();
    let kinds: Vec<String> = filter.kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
    let least = filter.severity.unwrap_or(Severity::Info);
    let severities: Vec<String> = Severity::ALL
        .into_iter()
        .filter(|severity| *severity >= least)
        .map(|severity| severity.as_str().to_owned())
        .collect();
    let rows = sqlx::query_as!(
        Shown,
        r#"WITH RECURSIVE within AS (
               SELECT g.id FROM meter_group g WHERE g.id = $9
               UNION
               SELECT g.id FROM meter_group g JOIN within ON g.parent_id = within.id
           )
           SELECT a.id, a.account_id, a.kind, a.severity, a.sentence, a.detail, a.dtu_id, d.name AS "dtu_name?",
                  a.meter_id, m.name AS "meter_name?", a.rule_id, a.parent_id,
                  (SELECT count(*) FROM alarm_victim v WHERE v.alarm_id = a.id) AS "victims!",
                  (SELECT count(*) FROM alarm_victim v WHERE v.alarm_id = a.id AND v.back_at IS NULL) AS "victims_open!",
                  a.occurrences, a.raised_at, a.cause_at, a.acknowledged_at, a.acknowledged_by, a.shelved_until,
                  a.shelved_by, a.cleared_at, a.cleared_by, a.version
           FROM alarm a LEFT JOIN dtu d ON d.id = a.dtu_id LEFT JOIN meter m ON m.id = a.meter_id
           WHERE ($1::bigint IS NULL OR a.id = $1) AND ($2::bigint IS NULL OR a.id < $2)
             AND (cardinality($3::text[]) = 0 OR CASE WHEN a.cleared_at IS NOT NULL THEN 'cleared'
                      WHEN a.shelved_until > $14 THEN 'shelved' WHEN a.acknowledged_at IS NOT NULL THEN 'acknowledged'
                      ELSE 'raised' END = ANY($3))
             AND (cardinality($4::text[]) = 0 OR a.kind = ANY($4))
             AND a.severity = ANY($5)
             AND ($6::int IS NULL OR a.meter_id = $6)
             AND ($7::int IS NULL OR a.dtu_id = $7
                  OR EXISTS (SELECT FROM alarm_victim v WHERE v.alarm_id = a.id AND v.dtu_id = $7))
             AND ($8::bigint IS NULL OR a.parent_id = $8)
             AND ($9::int IS NULL OR m.group_id IN (SELECT id FROM within))
             AND (NOT $10 OR a.parent_id IS NULL)
             AND ($11::timestamptz IS NULL OR a.raised_at >= $11) AND ($12::timestamptz IS NULL OR a.raised_at < $12)
           ORDER BY a.id DESC LIMIT $13"#,
        only.map(|id| id.0) as Option<i64>,
        after.map(|id| id.0) as Option<i64>,
        &states,
        &kinds,
        &severities,
        filter.meter.map(|id| id.0) as Option<i32>,
        filter.dtu.map(|id| id.0) as Option<i32>,
        filter.parent.map(|id| id.0) as Option<i64>,
        filter.group.map(|id| id.0) as Option<i32>,
        filter.causes_only,
        filter.from as Option<DateTime<Utc>>,
        filter.to as Option<DateTime<Utc>>,
        limit,
        now
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(|shown| view(shown, now)).collect()
}

/// What a deed does to the row. None: it is so already.
async fn apply(
    tx: &mut PgConnection,
    id: AlarmId,
    deed: &AlarmDeed,
    who: &str,
    now: DateTime<Utc>,
) -> Result<(AlarmStep, bool), StoreError> {
    let (step, changed) = match deed {
        AlarmDeed::Acknowledge => {
            let done = sqlx::query!(
                "UPDATE alarm SET acknowledged_at = $2, acknowledged_by = $3, version = version + 1
                 WHERE id = $1 AND acknowledged_at IS NULL",
                id.0,
                now,
                who
            );
            (AlarmStep::Acknowledged, done.execute(tx).await?.rows_affected())
        }
        AlarmDeed::Comment => {
            let done = sqlx::query!("UPDATE alarm SET version = version + 1 WHERE id = $1", id.0);
            (AlarmStep::Commented, done.execute(tx).await?.rows_affected())
        }
        AlarmDeed::Shelve(until) => {
            let done = sqlx::query!(
                "UPDATE alarm SET shelved_until = $2, shelved_by = $3, version = version + 1
                 WHERE id = $1 AND shelved_until IS DISTINCT FROM $2",
                id.0,
                *until,
                who
            );
            (AlarmStep::Shelved, done.execute(tx).await?.rows_affected())
        }
        AlarmDeed::Unshelve => {
            let done = sqlx::query!(
                "UPDATE alarm SET shelved_until = NULL, shelved_by = NULL, version = version + 1
                 WHERE id = $1 AND shelved_until > $2",
                id.0,
                now
            );
            (AlarmStep::Unshelved, done.execute(tx).await?.rows_affected())
        }
        AlarmDeed::Clear => {
            let done = sqlx::query!(
                "UPDATE alarm SET cleared_at = greatest($2, raised_at), cleared_by = $3, version = version + 1 WHERE id = $1",
                id.0,
                now,
                who
            );
            (AlarmStep::Cleared, done.execute(tx).await?.rows_affected())
        }
    };
    Ok((step, changed > 0))
}

impl Alarms {
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.0.begin().await
    }
}

#[async_trait]
impl AlarmStore for Alarms {
    async fn list(
        &self,
        filter: &AlarmFilter,
        after: Option<AlarmId>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<AlarmView>, StoreError> {
        let mut tx = self.begin().await?;
        find(&mut tx, filter, (None, after), i64::from(limit), now).await
    }

    async fn get(&self, id: AlarmId, now: DateTime<Utc>) -> Result<AlarmView, StoreError> {
        let mut tx = self.begin().await?;
        let found = find(&mut tx, &AlarmFilter::default(), (Some(id), None), 1, now)
            .await?
            .pop();
        found.ok_or(StoreError::NotFound("alarm"))
    }

    async fn steps(&self, id: AlarmId) -> Result<Vec<AlarmStepView>, StoreError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query!(
            "SELECT * FROM (SELECT id, step, at, actor, note, quiet FROM alarm_edge WHERE alarm_id = $1
                            ORDER BY id DESC LIMIT $2) AS newest ORDER BY id",
            id.0,
            STEPS_MAX
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                Some(AlarmStepView {
                    step: AlarmStep::by_name(&row.step)?,
                    at: row.at,
                    actor: row.actor,
                    note: row.note,
                    quiet: row.quiet,
                })
            })
            .collect())
    }

    async fn victims(&self, id: AlarmId, after: Option<DtuId>, limit: u32) -> Result<Vec<VictimView>, StoreError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query!(
            "SELECT v.dtu_id, d.name, v.since, v.back_at FROM alarm_victim v JOIN dtu d ON d.id = v.dtu_id
             WHERE v.alarm_id = $1 AND ($2::int IS NULL OR v.dtu_id > $2) ORDER BY v.dtu_id LIMIT $3",
            id.0,
            after.map(|dtu| dtu.0) as Option<i32>,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| VictimView {
                dtu_id: DtuId(row.dtu_id),
                name: row.name,
                since: row.since,
                back_at: row.back_at,
            })
            .collect())
    }

    async fn open_count(&self) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        Ok(sqlx::query_scalar!(
            r#"SELECT count(*) AS "open!" FROM alarm WHERE cleared_at IS NULL AND parent_id IS NULL"#
        )
        .fetch_one(&mut *tx)
        .await?)
    }

    async fn act(
        &self,
        id: AlarmId,
        deed: &AlarmDeed,
        note: &str,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<AlarmEdge, StoreError> {
        let mut tx = self.begin().await?;
        let found = sqlx::query!(
            "SELECT version, account_id, cleared_at FROM alarm WHERE id = $1 FOR UPDATE",
            id.0
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound("alarm"))?;
        check_version("alarm", Some(found.version), version)?;
        if found.cleared_at.is_some() && !matches!(deed, AlarmDeed::Comment) {
            return Err(StoreError::Conflict {
                field: None,
                message: "the alarm is cleared; all that can be added is a comment".to_owned(),
            });
        }
        let (step, changed) = apply(&mut tx, id, deed, &self.1.name, now).await?;
        let edge = row(&mut tx, id.0)
            .await
            .and_then(|row| row.edge(step, &self.1.name, now))
            .map_err(StoreError::from)?;
        if changed {
            steps::write(&mut tx, &edge, note).await.map_err(StoreError::from)?;
            let action = format!("alarm.{}", step.as_str());
            let detail = json!({ "kind": edge.kind, "note": note });
            let account = found.account_id.map(AccountId);
            self.0
                .audit(&mut tx, account, now, &action, &format!("alarm/{id}"), detail)
                .await?;
            tx.commit().await?;
        }
        Ok(edge)
    }
}
