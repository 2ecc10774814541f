//! Schedules of an account: dated rules, and the one way to assign a schedule to an account, a DTU or a meter.

use super::handles::{AccountHandle, PgStores, lock_versioned};
use super::{calendars, rules};
use crate::base::ids::{AccountId, CalendarId, DtuId, MeterId, ScheduleId};
use crate::domain::device::{MissedRun, Overlap, RetryPolicy, SlotPriority};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::{SettlementDay, Timing};
use crate::port::meters::ScheduleChoice;
use crate::port::schedules::{Schedule, ScheduleChange, ScheduleSpec, ScheduleStore};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use std::sync::Arc;

/// What a schedule is assigned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScheduleTarget {
    /// All meters of the account that have no nearer one.
    Account,
    /// The DTU's meters that have none of their own.
    Dtu(DtuId),
}

struct Row {
    id: i32,
    name: String,
    created_at: DateTime<Utc>,
    version: i32,
    valid_from: DateTime<Utc>,
    cron: Option<String>,
    every_min: Option<i16>,
    settlement_day: Option<i16>,
    settlement_hour: Option<i16>,
    settlement_minute: Option<i16>,
    time_zone: String,
    calendar_id: Option<i32>,
    days: String,
    quantities: Vec<String>,
    spread_s: i32,
    window_s: i32,
    attempts: i16,
    backoff_s: i32,
    deadline_s: i32,
    budget: Option<i16>,
    missed_run: String,
    overlap: String,
    priority: String,
    meters: i64,
}

impl TryFrom<Row> for Schedule {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let timing = rules::timing_of(
            row.cron,
            row.every_min,
            row.settlement_day,
            row.settlement_hour,
            row.settlement_minute,
        );
        Ok(Self {
            id: ScheduleId(row.id),
            spec: ScheduleSpec {
                name: row.name,
                timing: timing.ok_or_else(|| out_of_range("cron"))?,
                time_zone: row.time_zone,
                calendar: row.calendar_id.map(CalendarId),
                days: rules::days_of(&row.days),
                quantities: quantities_of(&row.quantities)?,
                spread_s: unsigned(row.spread_s)?,
                window_s: unsigned(row.window_s)?,
                retry: RetryPolicy {
                    attempts: u8::try_from(row.attempts).map_err(|_| out_of_range("attempts"))?,
                    backoff_s: unsigned(row.backoff_s)?,
                    deadline_s: unsigned(row.deadline_s)?,
                    budget: row.budget.map(i16::unsigned_abs),
                },
                missed_run: rules::missed_run_of(&row.missed_run),
                overlap: rules::overlap_of(&row.overlap),
                priority: rules::priority_of(&row.priority),
            },
            calendar: None,
            valid_from: row.valid_from,
            created_at: row.created_at,
            version: row.version,
            meters: row.meters,
        })
    }
}

fn out_of_range(column: &str) -> StoreError {
    StoreError::Internal(format!("schedule_rule.{column} is out of range"))
}

fn unsigned(value: i32) -> Result<u32, StoreError> {
    u32::try_from(value).map_err(|_| out_of_range("a duration"))
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn quantities_of(names: &[String]) -> Result<Vec<Quantity>, StoreError> {
    names
        .iter()
        .map(|name| {
            Quantity::by_name(name)
                .ok_or_else(|| StoreError::Internal(format!("schedule_rule.quantities holds {name:?}")))
        })
        .collect()
}

fn missed_run_name(missed_run: MissedRun) -> &'static str {
    match missed_run {
        MissedRun::Skip => "skip",
        MissedRun::Once => "once",
        MissedRun::All => "all",
    }
}

fn overlap_name(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Skip => "skip",
        Overlap::QueueOne => "queue_one",
    }
}

fn priority_name(priority: SlotPriority) -> &'static str {
    match priority {
        SlotPriority::Settlement => "settlement",
        SlotPriority::Scheduled => "scheduled",
        SlotPriority::BackFill => "back_fill",
    }
}

/// The schedules behind `after`, or the one `only`; with the rule in force and its calendar as it stands now.
async fn rows(
    tx: &mut PgConnection,
    only: Option<ScheduleId>,
    after: Option<ScheduleId>,
    limit: u32,
) -> Result<Vec<Schedule>, StoreError> {
    let mut schedules = sqlx::query_as!(
        Row,
        r#"SELECT s.id, s.name, s.created_at, s.version, r.valid_from, r.cron, r.every_min, r.settlement_day,
                  r.settlement_hour, r.settlement_minute, r.time_zone, r.calendar_id, r.days, r.quantities, r.spread_s,
                  r.window_s, r.attempts, r.backoff_s, r.deadline_s, r.budget, r.missed_run, r.overlap, r.priority,
                  (SELECT count(*) FROM meter_schedule ms WHERE ms.schedule_id = s.id AND ms.valid_to IS NULL) AS "meters!"
           FROM schedule s JOIN schedule_rule r ON r.schedule_id = s.id AND r.valid_to IS NULL
           WHERE s.deleted_at IS NULL AND ($1::int IS NULL OR s.id = $1) AND ($2::int IS NULL OR s.id > $2)
           ORDER BY s.id LIMIT $3"#,
        only.map(|id| id.0),
        after.map(|id| id.0),
        i64::from(limit)
    )
    .fetch_all(&mut *tx)
    .await?
    .into_iter()
    .map(Schedule::try_from)
    .collect::<Result<Vec<_>, _>>()?;
    let ids = schedules.iter().filter_map(|schedule| schedule.spec.calendar);
    let calendars = rules::versions(tx, ids.map(|id| id.0).collect(), None).await?;
    for schedule in &mut schedules {
        let versions = schedule.spec.calendar.and_then(|id| calendars.get(&id));
        schedule.calendar = versions
            .and_then(|versions| versions.iter().find(|version| version.valid_to.is_none()))
            .map(|version| Arc::clone(&version.calendar));
    }
    Ok(schedules)
}

async fn find(tx: &mut PgConnection, id: ScheduleId) -> Result<Schedule, StoreError> {
    rows(tx, Some(id), None, 1)
        .await?
        .pop()
        .ok_or(StoreError::NotFound("schedule"))
}

/// Locks a schedule for an edit and checks its version.
async fn lock(tx: &mut PgConnection, id: ScheduleId, version: Option<i32>) -> Result<(), StoreError> {
    lock_versioned!(tx, "schedule", "schedule", id, version)
}

async fn insert_rule(
    tx: &mut PgConnection,
    account: AccountId,
    id: ScheduleId,
    spec: &ScheduleSpec,
    valid_from: DateTime<Utc>,
) -> Result<(), StoreError> {
    let quantities: Vec<String> = spec.quantities.iter().map(|q| q.name().to_owned()).collect();
    let small = |value: u16| i16::try_from(value).unwrap_or(i16::MAX);
    let (cron, every_min, settlement) = match &spec.timing {
        Timing::Cron(text) => (Some(text), None, None),
        Timing::EveryMinutes(minutes) => (None, Some(small(*minutes)), None),
        Timing::Settlement(at) => (None, None, Some(at)),
    };
    let day = settlement.map(|at| match at.day {
        SettlementDay::Day(day) => i16::from(day),
        SettlementDay::Last => 0,
    });
    sqlx::query!(
        "INSERT INTO schedule_rule (schedule_id, account_id, valid_from, cron, every_min, settlement_day,
                                    settlement_hour, settlement_minute, time_zone, calendar_id, days, quantities,
                                    spread_s, window_s, attempts, backoff_s, deadline_s, budget, missed_run, overlap,
                                    priority)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
        id.0,
        account.0,
        valid_from,
        cron,
        every_min,
        day,
        settlement.map(|at| i16::from(at.hour)),
        settlement.map(|at| i16::from(at.minute)),
        spec.time_zone,
        spec.calendar.map(|id| id.0),
        spec.days.as_str(),
        &quantities,
        signed(spec.spread_s),
        signed(spec.window_s),
        i16::from(spec.retry.attempts),
        signed(spec.retry.backoff_s),
        signed(spec.retry.deadline_s),
        spec.retry.budget.map(small),
        missed_run_name(spec.missed_run),
        overlap_name(spec.overlap),
        priority_name(spec.priority),
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Makes a schedule within a transaction; the caller audits. `calendar` is the field that names its calendar.
async fn insert(
    tx: &mut PgConnection,
    account: AccountId,
    spec: &ScheduleSpec,
    calendar: &'static str,
    now: DateTime<Utc>,
) -> Result<ScheduleId, StoreError> {
    if let Some(id) = spec.calendar {
        calendars::hold(tx, id, calendar).await?;
    }
    let id = sqlx::query_scalar!(
        "INSERT INTO schedule (account_id, name, created_at) VALUES ($1, $2, $3) RETURNING id",
        account.0,
        spec.name,
        now
    )
    .fetch_one(&mut *tx)
    .await?;
    insert_rule(tx, account, ScheduleId(id), spec, now).await?;
    Ok(ScheduleId(id))
}

/// The id behind a choice: of one that exists in the account, or of one that is made now.
pub(super) async fn resolve(
    tx: &mut PgConnection,
    account: AccountId,
    choice: &ScheduleChoice,
    now: DateTime<Utc>,
) -> Result<ScheduleId, StoreError> {
    match choice {
        ScheduleChoice::InPlace(spec) => insert(tx, account, spec, "schedule.calendar", now).await,
        ScheduleChoice::Existing(id) => sqlx::query_scalar!(
            "SELECT id FROM schedule WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
            id.0
        )
        .fetch_optional(&mut *tx)
        .await?
        .map(ScheduleId)
        .ok_or_else(|| StoreError::Invalid {
            field: "schedule",
            message: format!("there is no schedule {id}"),
        }),
    }
}

/// Assigns a schedule (or none) at account or DTU level and derives anew what applies to the meters below. The caller
/// audits, and loads the DTUs anew after its commit (`Fleet::reload` or `reload_all`).
pub(super) async fn assign_schedule(
    tx: &mut PgConnection,
    account: AccountId,
    target: ScheduleTarget,
    choice: Option<&ScheduleChoice>,
    now: DateTime<Utc>,
) -> Result<Option<ScheduleId>, StoreError> {
    let id = match choice {
        Some(choice) => Some(resolve(tx, account, choice, now).await?),
        None => None,
    };
    let raw = id.map(|id| id.0);
    match target {
        ScheduleTarget::Account => {
            sqlx::query!("UPDATE account SET schedule_id = $2 WHERE id = $1", account.0, raw)
                .execute(&mut *tx)
                .await?;
            refresh(tx, account, None, None, now).await?;
        }
        ScheduleTarget::Dtu(dtu) => {
            sqlx::query!("UPDATE dtu SET schedule_id = $2 WHERE id = $1", dtu.0, raw)
                .execute(&mut *tx)
                .await?;
            refresh(tx, account, Some(dtu), None, now).await?;
        }
    }
    Ok(id)
}

/// Derives what applies to the meters of an account, a DTU or one meter anew.
pub(super) async fn refresh(
    tx: &mut PgConnection,
    account: AccountId,
    dtu: Option<DtuId>,
    meter: Option<MeterId>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query_scalar!(
        "SELECT refresh_meter_schedules($1, $2, $3, $4)",
        account.0,
        dtu.map(|dtu| dtu.0),
        meter.map(|meter| meter.0),
        now
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok(())
}

/// DTUs with meters that a schedule applies to now.
async fn dtus_of(tx: &mut PgConnection, id: ScheduleId) -> Result<Vec<DtuId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT m.dtu_id FROM meter_schedule ms JOIN meter m ON m.id = ms.meter_id
         WHERE ms.schedule_id = $1 AND ms.valid_to IS NULL AND m.deleted_at IS NULL ORDER BY 1",
        id.0
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(ids.into_iter().map(DtuId).collect())
}

/// Where a schedule is assigned, in words; none: nowhere.
async fn in_use(tx: &mut PgConnection, id: ScheduleId) -> Result<Option<String>, StoreError> {
    let used = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM account WHERE schedule_id = $1) AS "account!",
                  (SELECT count(*) FROM dtu WHERE schedule_id = $1 AND deleted_at IS NULL) AS "dtus!",
                  (SELECT count(*) FROM meter_own_schedule o JOIN meter m ON m.id = o.meter_id
                   WHERE o.schedule_id = $1 AND m.deleted_at IS NULL) AS "meters!""#,
        id.0
    )
    .fetch_one(&mut *tx)
    .await?;
    let mut places = Vec::new();
    if used.account {
        places.push("the account".to_owned());
    }
    if used.dtus > 0 {
        places.push(format!("{} DTUs", used.dtus));
    }
    if used.meters > 0 {
        places.push(format!("{} meters", used.meters));
    }
    Ok((!places.is_empty()).then(|| places.join(", ")))
}

fn audited(spec: &ScheduleSpec) -> serde_json::Value {
    json!({
        "name": spec.name, "timing": spec.timing, "time_zone": spec.time_zone, "calendar": spec.calendar,
        "days": spec.days, "quantities": spec.quantities, "spread_s": spec.spread_s, "window_s": spec.window_s,
        "retry": spec.retry, "missed_run": spec.missed_run, "overlap": spec.overlap, "priority": spec.priority,
    })
}

impl InAccount<dyn ScheduleStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn ScheduleStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl ScheduleStore for AccountHandle {
    async fn list(&self, after: Option<ScheduleId>, limit: u32) -> Result<Vec<Schedule>, StoreError> {
        let mut tx = self.begin().await?;
        rows(&mut tx, None, after, limit).await
    }

    async fn get(&self, id: ScheduleId) -> Result<Schedule, StoreError> {
        let mut tx = self.begin().await?;
        find(&mut tx, id).await
    }

    async fn create(&self, spec: &ScheduleSpec, now: DateTime<Utc>) -> Result<Schedule, StoreError> {
        let mut tx = self.begin().await?;
        let id = insert(&mut tx, self.account, spec, "calendar", now).await?;
        let schedule = find(&mut tx, id).await?;
        self.commit_audited(tx, now, ("schedule", "create", &id), audited(spec))
            .await?;
        Ok(schedule)
    }

    async fn update(
        &self,
        id: ScheduleId,
        spec: &ScheduleSpec,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<ScheduleChange, StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        let before = find(&mut tx, id).await?;
        if before.spec == *spec {
            return Ok(ScheduleChange {
                schedule: before,
                dtus: Vec::new(),
            });
        }
        sqlx::query!(
            "UPDATE schedule SET name = $2, version = version + 1 WHERE id = $1",
            id.0,
            spec.name
        )
        .execute(&mut *tx)
        .await?;
        let same_rule = spec.rule(now, None) == before.spec.rule(now, None) && spec.calendar == before.spec.calendar;
        if !same_rule {
            if let Some(calendar) = spec.calendar {
                calendars::hold(&mut tx, calendar, "calendar").await?;
            }
            // a rule that would be closed at or before its beginning (a clock set back) was never in force
            sqlx::query!(
                "DELETE FROM schedule_rule WHERE schedule_id = $1 AND valid_to IS NULL AND valid_from >= $2",
                id.0,
                now
            )
            .execute(&mut *tx)
            .await?;
            sqlx::query!(
                "UPDATE schedule_rule SET valid_to = $2 WHERE schedule_id = $1 AND valid_to IS NULL",
                id.0,
                now
            )
            .execute(&mut *tx)
            .await?;
            insert_rule(&mut tx, self.account, id, spec, now).await?;
        }
        let detail = json!({ "from": audited(&before.spec), "to": audited(spec) });
        let dtus = if same_rule {
            Vec::new()
        } else {
            dtus_of(&mut tx, id).await?
        };
        let schedule = find(&mut tx, id).await?;
        self.commit_audited(tx, now, ("schedule", "update", &id), detail)
            .await?;
        Ok(ScheduleChange { schedule, dtus })
    }

    async fn delete(&self, id: ScheduleId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        if let Some(places) = in_use(&mut tx, id).await? {
            return Err(StoreError::Conflict {
                field: None,
                message: format!("the schedule is assigned to {places}; assign another there first"),
            });
        }
        sqlx::query!(
            "UPDATE schedule SET deleted_at = $2, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        self.commit_audited(tx, now, ("schedule", "delete", &id), json!({}))
            .await
    }
}
