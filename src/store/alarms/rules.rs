//! Rules of an account: edited by the API, every version kept, every change audited.

use super::past::{self, Span};
use crate::base::ids::{AlarmRuleId, GroupId, MeterId, PointId};
use crate::domain::alarm::Severity;
use crate::domain::alarm::rule::{Check, Scope};
use crate::port::alarms::{
    AlarmRuleForm, AlarmRuleStore, AlarmRuleVersion, AlarmRuleView, HourValue, MeterFact, Past, PastAsked,
};
use crate::port::scope::{InAccount, Scope as Account, StoreError};
use crate::store::handles::{AccountHandle, PgStores, lock_versioned};
use crate::store::{groups, meters};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Value, json};
use sqlx::PgConnection;

/// Rules that an account may have.
const RULES_MAX: i64 = 1_000;
const VERSIONS_MAX: i64 = 1_000;

impl InAccount<dyn AlarmRuleStore> for PgStores {
    fn in_account(&self, scope: Account) -> Box<dyn AlarmRuleStore> {
        Box::new(self.account(scope))
    }
}

fn columns(scope: Scope) -> (Option<i32>, Option<i32>) {
    match scope {
        Scope::Account => (None, None),
        Scope::Group(group) => (Some(group.0), None),
        Scope::Meter(meter) => (None, Some(meter.0)),
    }
}

fn check_of(id: i32, judgement: Value) -> Result<Check, StoreError> {
    serde_json::from_value(judgement)
        .map_err(|error| StoreError::Internal(format!("alarm rule {id}: its judgement cannot be read: {error}")))
}

fn to_json(check: &Check) -> Result<Value, StoreError> {
    serde_json::to_value(check).map_err(|error| StoreError::Internal(error.to_string()))
}

async fn find(
    tx: &mut PgConnection,
    only: Option<AlarmRuleId>,
    after: Option<AlarmRuleId>,
    limit: i64,
) -> Result<Vec<AlarmRuleView>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, name, group_id, meter_id, enabled, severity, judgement, created_at, version FROM alarm_rule
         WHERE deleted_at IS NULL AND ($1::int IS NULL OR id = $1) AND ($2::int IS NULL OR id > $2) ORDER BY id LIMIT $3",
        only.map(|id| id.0) as Option<i32>,
        after.map(|id| id.0) as Option<i32>,
        limit
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(AlarmRuleView {
                id: Some(AlarmRuleId(row.id)),
                name: row.name,
                group_id: row.group_id.map(GroupId),
                meter_id: row.meter_id.map(MeterId),
                enabled: row.enabled,
                severity: Severity::by_name(&row.severity).unwrap_or_default(),
                check: check_of(row.id, row.judgement)?,
                created_at: Some(row.created_at),
                version: row.version,
            })
        })
        .collect()
}

async fn one(tx: &mut PgConnection, id: AlarmRuleId) -> Result<AlarmRuleView, StoreError> {
    find(tx, Some(id), None, 1)
        .await?
        .pop()
        .ok_or(StoreError::NotFound("alarm rule"))
}

/// Checks that what a rule names is there.
async fn check_names(tx: &mut PgConnection, form: &AlarmRuleForm) -> Result<(), StoreError> {
    check_scope(tx, form.scope).await?;
    let calendar = match &form.check {
        Check::Deviation(check) => check.calendar_id,
        _ => None,
    };
    if let Some(calendar) = calendar {
        sqlx::query_scalar!(
            "SELECT id FROM calendar WHERE id = $1 AND deleted_at IS NULL",
            calendar.0
        )
        .fetch_optional(tx)
        .await?
        .ok_or_else(|| StoreError::Invalid {
            field: "check.calendar_id",
            message: format!("there is no calendar {calendar}"),
        })?;
    }
    Ok(())
}

async fn check_scope(tx: &mut PgConnection, scope: Scope) -> Result<(), StoreError> {
    match scope {
        Scope::Account => Ok(()),
        Scope::Group(group) => groups::check(tx, group, "group_id").await,
        Scope::Meter(meter) => meters::check(tx, meter).await.map_err(|_| StoreError::Invalid {
            field: "meter_id",
            message: format!("there is no meter {meter}"),
        }),
    }
}

impl AccountHandle {
    /// Keeps what the rule says from now on.
    async fn keep_version(
        &self,
        tx: &mut PgConnection,
        id: i32,
        form: &AlarmRuleForm,
        version: i32,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        end_version(tx, id, now).await?;
        let (group, meter) = columns(form.scope);
        sqlx::query!(
            "INSERT INTO alarm_rule_version (rule_id, version, account_id, valid_from, actor, name, group_id, meter_id, enabled,
                                             severity, judgement)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            id,
            version,
            self.account.0,
            now,
            self.actor.name,
            form.name,
            group,
            meter,
            form.enabled,
            form.severity.as_str(),
            to_json(&form.check)?
        )
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// What the rule said before is over now.
async fn end_version(tx: &mut PgConnection, id: i32, now: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE alarm_rule_version SET valid_to = greatest(valid_from, $2) WHERE rule_id = $1 AND valid_to IS NULL",
        id,
        now
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn lock(tx: &mut PgConnection, id: AlarmRuleId, version: Option<i32>) -> Result<(), StoreError> {
    lock_versioned!(tx, "alarm_rule", "alarm rule", id, version)
}

#[async_trait]
impl AlarmRuleStore for AccountHandle {
    async fn list(&self, after: Option<AlarmRuleId>, limit: u32) -> Result<Vec<AlarmRuleView>, StoreError> {
        let mut tx = self.begin().await?;
        find(&mut tx, None, after, i64::from(limit)).await
    }

    async fn get(&self, id: AlarmRuleId) -> Result<AlarmRuleView, StoreError> {
        let mut tx = self.begin().await?;
        one(&mut tx, id).await
    }

    async fn versions(&self, id: AlarmRuleId) -> Result<Vec<AlarmRuleVersion>, StoreError> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query!(
            "SELECT version, valid_from, valid_to, actor, name, group_id, meter_id, enabled, severity, judgement
             FROM alarm_rule_version WHERE rule_id = $1 ORDER BY version DESC LIMIT $2",
            id.0,
            VERSIONS_MAX
        )
        .fetch_all(&mut *tx)
        .await?;
        if rows.is_empty() {
            return Err(StoreError::NotFound("alarm rule"));
        }
        rows.into_iter()
            .map(|row| {
                Ok(AlarmRuleVersion {
                    version: row.version,
                    valid_from: row.valid_from,
                    valid_to: row.valid_to,
                    actor: row.actor,
                    name: row.name,
                    group_id: row.group_id.map(GroupId),
                    meter_id: row.meter_id.map(MeterId),
                    enabled: row.enabled,
                    severity: Severity::by_name(&row.severity).unwrap_or_default(),
                    check: check_of(id.0, row.judgement)?,
                })
            })
            .collect()
    }

    async fn create(&self, form: &AlarmRuleForm, now: DateTime<Utc>) -> Result<AlarmRuleView, StoreError> {
        let mut tx = self.begin().await?;
        check_names(&mut tx, form).await?;
        let rules = sqlx::query_scalar!(r#"SELECT count(*) AS "rules!" FROM alarm_rule WHERE deleted_at IS NULL"#)
            .fetch_one(&mut *tx)
            .await?;
        if rules >= RULES_MAX {
            return Err(StoreError::Conflict {
                field: None,
                message: format!("the account has {rules} alarm rules, which is the limit; use groups"),
            });
        }
        let (group, meter) = columns(form.scope);
        let id = sqlx::query_scalar!(
            "INSERT INTO alarm_rule (account_id, name, group_id, meter_id, enabled, severity, kind, judgement, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id",
            self.account.0,
            form.name,
            group,
            meter,
            form.enabled,
            form.severity.as_str(),
            form.check.kind().as_str(),
            to_json(&form.check)?,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        self.keep_version(&mut tx, id, form, 1, now).await?;
        let made = one(&mut tx, AlarmRuleId(id)).await?;
        let detail = json!({ "to": made });
        self.commit_audited(tx, now, ("alarm_rule", "create", &id), detail)
            .await?;
        Ok(made)
    }

    async fn update(
        &self,
        id: AlarmRuleId,
        form: &AlarmRuleForm,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<AlarmRuleView, StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        check_names(&mut tx, form).await?;
        let before = one(&mut tx, id).await?;
        let (group, meter) = columns(form.scope);
        sqlx::query!(
            "UPDATE alarm_rule SET name = $2, group_id = $3, meter_id = $4, enabled = $5, severity = $6, kind = $7,
                    judgement = $8, version = version + 1
             WHERE id = $1",
            id.0,
            form.name,
            group,
            meter,
            form.enabled,
            form.severity.as_str(),
            form.check.kind().as_str(),
            to_json(&form.check)?
        )
        .execute(&mut *tx)
        .await?;
        let written = one(&mut tx, id).await?;
        self.keep_version(&mut tx, id.0, form, written.version, now).await?;
        let detail = json!({ "from": before, "to": written });
        self.commit_audited(tx, now, ("alarm_rule", "update", &id), detail)
            .await?;
        Ok(written)
    }

    async fn delete(&self, id: AlarmRuleId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        let before = one(&mut tx, id).await?;
        sqlx::query!(
            "UPDATE alarm_rule SET deleted_at = $2, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        end_version(&mut tx, id.0, now).await?;
        let detail = json!({ "from": before });
        self.commit_audited(tx, now, ("alarm_rule", "delete", &id), detail)
            .await
    }

    async fn meters(&self, scope: Scope, max: u32) -> Result<Vec<MeterId>, StoreError> {
        let mut tx = self.begin().await?;
        check_scope(&mut tx, scope).await?;
        let (group, meter) = columns(scope);
        let found = sqlx::query_scalar!(
            "WITH RECURSIVE within AS (
                 SELECT g.id FROM meter_group g WHERE g.id = $1
                 UNION
                 SELECT g.id FROM meter_group g JOIN within ON g.parent_id = within.id
             )
             SELECT m.id FROM meter m
             WHERE m.deleted_at IS NULL AND ($2::int IS NULL OR m.id = $2)
               AND ($1::int IS NULL OR m.group_id IN (SELECT id FROM within))
             ORDER BY m.id LIMIT $3",
            group,
            meter,
            i64::from(max)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(found.into_iter().map(MeterId).collect())
    }

    async fn past(&self, asked: &PastAsked) -> Result<Past, StoreError> {
        let mut tx = self.begin().await?;
        let meter = sqlx::query!(
            r#"SELECT m.id, m.account_id, m.dtu_id, m.group_id, i.point_id AS "point_id?", a.time_zone
               FROM meter m JOIN account a ON a.id = m.account_id
               LEFT JOIN installation i ON i.meter_id = m.id AND i.valid_to IS NULL
               WHERE m.id = $1 AND m.deleted_at IS NULL"#,
            asked.meter.0
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound("meter"))?;
        let mut past = Past {
            fact: Some(MeterFact {
                id: MeterId(meter.id),
                account: crate::base::ids::AccountId(meter.account_id),
                dtu: crate::base::ids::DtuId(meter.dtu_id),
                group: meter.group_id.map(GroupId),
                point: meter.point_id.map(PointId),
            }),
            zone: meter.time_zone,
            ..Past::default()
        };
        if asked.records_max > 0 {
            let span = Span {
                meter: Some(asked.meter),
                from: asked.from,
                to: asked.to,
                received: DateTime::UNIX_EPOCH,
                max: asked.records_max,
            };
            past.records = past::records(&mut tx, span).await?;
        }
        if let (Some((quantity, back)), Some(point)) = (asked.hours_of, meter.point_id) {
            let begin = asked.from.checked_sub_signed(back).unwrap_or(asked.from);
            past.hours = sqlx::query!(
                "SELECT start, value FROM consumption_hour
                 WHERE point_id = $1 AND quantity = $2 AND start >= $3 AND start < $4 AND NOT incomplete AND quality < 2
                 ORDER BY start",
                point,
                quantity.name(),
                begin,
                asked.to
            )
            .fetch_all(&mut *tx)
            .await?
            .into_iter()
            .filter_map(|row| {
                Some(HourValue {
                    start: row.start,
                    value: row.value.to_f64()?,
                })
            })
            .collect();
        }
        if let Some(calendar) = asked.calendar {
            let dated = sqlx::query_scalar!(
                "SELECT holidays FROM calendar_version WHERE calendar_id = $1 AND valid_to IS NULL",
                calendar
            )
            .fetch_optional(&mut *tx)
            .await?;
            past.holidays = dated.unwrap_or_default().into_iter().collect();
        }
        Ok(past)
    }
}
