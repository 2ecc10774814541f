//! Calendars of an account, in dated versions: what was due in the past follows from them and does not change.

use super::handles::{AccountHandle, PgStores, lock_versioned};
use super::rules::calendar_of;
use crate::base::ids::{AccountId, CalendarId, DtuId};
use crate::port::calendars::{CalendarChange, CalendarSpec, CalendarStore, StoredCalendar};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::json;
use sqlx::PgConnection;
use std::sync::Arc;

struct Row {
    id: i32,
    name: String,
    created_at: DateTime<Utc>,
    version: i32,
    valid_from: DateTime<Utc>,
    time_zone: String,
    weekdays: Vec<i16>,
    holidays: Vec<NaiveDate>,
    holiday_names: Vec<String>,
    working_days: Vec<NaiveDate>,
    schedules: i64,
}

impl TryFrom<Row> for StoredCalendar {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let days = calendar_of(
            &row.time_zone,
            &row.weekdays,
            &row.holidays,
            row.holiday_names,
            row.working_days,
        )
        .map_err(|fault| StoreError::Internal(format!("calendar {}: {fault}", row.id)))?;
        Ok(Self {
            id: CalendarId(row.id),
            spec: CalendarSpec {
                name: row.name,
                days: Arc::new(days),
            },
            valid_from: row.valid_from,
            created_at: row.created_at,
            version: row.version,
            schedules: row.schedules,
        })
    }
}

/// The calendars behind `after`, or the one `only`; as they stand now.
async fn rows(
    tx: &mut PgConnection,
    only: Option<CalendarId>,
    after: Option<CalendarId>,
    limit: u32,
) -> Result<Vec<StoredCalendar>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"SELECT c.id, c.name, c.created_at, c.version, v.valid_from, v.time_zone, v.weekdays, v.holidays,
                  v.holiday_names, v.working_days,
                  (SELECT count(*) FROM schedule_rule r JOIN schedule s ON s.id = r.schedule_id AND s.deleted_at IS NULL
                   WHERE r.calendar_id = c.id AND r.valid_to IS NULL) AS "schedules!"
           FROM calendar c JOIN calendar_version v ON v.calendar_id = c.id AND v.valid_to IS NULL
           WHERE c.deleted_at IS NULL AND ($1::int IS NULL OR c.id = $1) AND ($2::int IS NULL OR c.id > $2)
           ORDER BY c.id LIMIT $3"#,
        only.map(|id| id.0),
        after.map(|id| id.0),
        i64::from(limit)
    )
    .fetch_all(tx)
    .await?
    .into_iter()
    .map(StoredCalendar::try_from)
    .collect()
}

async fn find(tx: &mut PgConnection, id: CalendarId) -> Result<StoredCalendar, StoreError> {
    rows(tx, Some(id), None, 1)
        .await?
        .pop()
        .ok_or(StoreError::NotFound("calendar"))
}

/// Holds a calendar that a schedule shall heed, so that nobody deletes it meanwhile; it must be in the account.
pub(super) async fn hold(tx: &mut PgConnection, id: CalendarId, field: &'static str) -> Result<(), StoreError> {
    sqlx::query_scalar!(
        "SELECT id FROM calendar WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
        id.0
    )
    .fetch_optional(tx)
    .await?
    .map(|_| ())
    .ok_or_else(|| StoreError::Invalid {
        field,
        message: format!("there is no calendar {id}"),
    })
}

/// Locks a calendar for an edit and checks its version.
async fn lock(tx: &mut PgConnection, id: CalendarId, version: Option<i32>) -> Result<(), StoreError> {
    lock_versioned!(tx, "calendar", "calendar", id, version)
}

async fn insert_version(
    tx: &mut PgConnection,
    account: AccountId,
    id: CalendarId,
    spec: &CalendarSpec,
    valid_from: DateTime<Utc>,
) -> Result<(), StoreError> {
    let days = &spec.days;
    let weekdays: Vec<i16> = days
        .weekdays()
        .iter()
        .map(|day| i16::try_from(day.number_from_monday()).unwrap_or(i16::MAX))
        .collect();
    let holidays: Vec<NaiveDate> = days.holidays().iter().map(|holiday| holiday.date).collect();
    let names: Vec<String> = days.holidays().iter().map(|holiday| holiday.name.clone()).collect();
    sqlx::query!(
        "INSERT INTO calendar_version (calendar_id, account_id, valid_from, time_zone, weekdays, holidays, holiday_names,
                                       working_days)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        id.0,
        account.0,
        valid_from,
        days.zone().name(),
        &weekdays,
        &holidays,
        &names,
        days.working_days()
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// DTUs with meters that a schedule on the calendar's days applies to now.
async fn dtus_of(tx: &mut PgConnection, id: CalendarId) -> Result<Vec<DtuId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT m.dtu_id
         FROM schedule_rule r
         JOIN meter_schedule ms ON ms.schedule_id = r.schedule_id AND ms.valid_to IS NULL
         JOIN meter m ON m.id = ms.meter_id AND m.deleted_at IS NULL
         WHERE r.calendar_id = $1 AND r.valid_to IS NULL AND r.days <> 'every_day' ORDER BY 1",
        id.0
    )
    .fetch_all(tx)
    .await?;
    Ok(ids.into_iter().map(DtuId).collect())
}

fn audited(spec: &CalendarSpec) -> serde_json::Value {
    let days = &spec.days;
    let holidays: Vec<NaiveDate> = days.holidays().iter().map(|holiday| holiday.date).collect();
    let weekdays: Vec<String> = days.weekdays().iter().map(|day| day.to_string()).collect();
    json!({
        "name": spec.name, "time_zone": days.zone().name(), "working_weekdays": weekdays, "holidays": holidays,
        "working_days": days.working_days(),
    })
}

impl InAccount<dyn CalendarStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn CalendarStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl CalendarStore for AccountHandle {
    async fn list(&self, after: Option<CalendarId>, limit: u32) -> Result<Vec<StoredCalendar>, StoreError> {
        let mut tx = self.begin().await?;
        rows(&mut tx, None, after, limit).await
    }

    async fn get(&self, id: CalendarId) -> Result<StoredCalendar, StoreError> {
        let mut tx = self.begin().await?;
        find(&mut tx, id).await
    }

    async fn create(&self, spec: &CalendarSpec, now: DateTime<Utc>) -> Result<StoredCalendar, StoreError> {
        let mut tx = self.begin().await?;
        let id = sqlx::query_scalar!(
            "INSERT INTO calendar (account_id, name, created_at) VALUES ($1, $2, $3) RETURNING id",
            self.account.0,
            spec.name,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        let id = CalendarId(id);
        insert_version(&mut tx, self.account, id, spec, now).await?;
        let made = find(&mut tx, id).await?;
        self.commit_audited(tx, now, ("calendar", "create", &id), audited(spec))
            .await?;
        Ok(made)
    }

    async fn update(
        &self,
        id: CalendarId,
        spec: &CalendarSpec,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<CalendarChange, StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        let before = find(&mut tx, id).await?;
        if before.spec == *spec {
            return Ok(CalendarChange {
                calendar: before,
                dtus: Vec::new(),
            });
        }
        sqlx::query!(
            "UPDATE calendar SET name = $2, version = version + 1 WHERE id = $1",
            id.0,
            spec.name
        )
        .execute(&mut *tx)
        .await?;
        let mut dtus = Vec::new();
        if before.spec.days != spec.days {
            // a version that would be closed at or before its beginning (a clock set back) was never in force
            sqlx::query!(
                "DELETE FROM calendar_version WHERE calendar_id = $1 AND valid_to IS NULL AND valid_from >= $2",
                id.0,
                now
            )
            .execute(&mut *tx)
            .await?;
            sqlx::query!(
                "UPDATE calendar_version SET valid_to = $2 WHERE calendar_id = $1 AND valid_to IS NULL",
                id.0,
                now
            )
            .execute(&mut *tx)
            .await?;
            insert_version(&mut tx, self.account, id, spec, now).await?;
            dtus = dtus_of(&mut tx, id).await?;
        }
        let calendar = find(&mut tx, id).await?;
        let detail = json!({ "from": audited(&before.spec), "to": audited(spec) });
        self.commit_audited(tx, now, ("calendar", "update", &id), detail)
            .await?;
        Ok(CalendarChange { calendar, dtus })
    }

    async fn delete(&self, id: CalendarId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        let used = find(&mut tx, id).await?.schedules;
        if used > 0 {
            return Err(StoreError::Conflict {
                field: None,
                message: format!("{used} schedules refer to the calendar; give them another first"),
            });
        }
        sqlx::query!(
            "UPDATE calendar SET deleted_at = $2, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        self.commit_audited(tx, now, ("calendar", "delete", &id), json!({}))
            .await
    }
}
