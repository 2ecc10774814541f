//! Meters of an account: made with their metering point and installation, edited, exchanged, deleted. Every change that
//! touches what is due derives the dated schedules anew in its own transaction.

mod find;
mod place;

pub(super) use find::{check, like};

use super::groups;
use super::handles::{AccountHandle, PgStores};
use super::schedules::{refresh, resolve};
use crate::base::ids::{AccountId, DtuId, MeterId};
use crate::port::meters::{
    Communication, Meter, MeterChange, MeterEdit, MeterExchange, MeterQuery, MeterStore, NewMeter, Registers,
    ScheduleChoice,
};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use find::{MISS_LOOKBACK, find, select};
use place::{Stand, close_stand, insert_installation, open_stand, place, placed};
use serde_json::{Value, json};
use sqlx::PgConnection;

struct Locked {
    dtu: DtuId,
}

/// Locks a meter for an edit and checks its version.
async fn lock(tx: &mut PgConnection, id: MeterId, version: Option<i32>) -> Result<Locked, StoreError> {
    let row = sqlx::query!(
        "SELECT version, dtu_id FROM meter WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(StoreError::NotFound("meter"))?;
    match version {
        Some(seen) if seen != row.version => Err(StoreError::Stale { current: row.version }),
        _ => Ok(Locked { dtu: DtuId(row.dtu_id) }),
    }
}

async fn check_dtu(tx: &mut PgConnection, id: DtuId) -> Result<(), StoreError> {
    sqlx::query_scalar!(
        "SELECT id FROM dtu WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?
    .map(|_| ())
    .ok_or_else(|| StoreError::Invalid {
        field: "dtu_id",
        message: format!("there is no DTU {id}"),
    })
}

async fn insert_meter(
    tx: &mut PgConnection,
    account: AccountId,
    meter: &NewMeter,
    now: DateTime<Utc>,
) -> Result<MeterId, StoreError> {
    check_dtu(tx, meter.dtu).await?;
    if let Some(group) = meter.group {
        groups::check(tx, group, "group_id").await?;
    }
    let id = sqlx::query_scalar!(
        "INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, comment, group_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id",
        account.0,
        meter.dtu.0,
        meter.protocol,
        meter.address,
        meter.model,
        meter.name,
        meter.comment,
        meter.group.map(|id| id.0),
        now
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(placed)?;
    set_schedules(tx, account, MeterId(id), &meter.schedules, now).await?;
    Ok(MeterId(id))
}

/// Replaces a meter's own schedules. The caller refreshes.
async fn set_schedules(
    tx: &mut PgConnection,
    account: AccountId,
    meter: MeterId,
    choices: &[ScheduleChoice],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM meter_own_schedule WHERE meter_id = $1", meter.0)
        .execute(&mut *tx)
        .await?;
    for choice in choices {
        let schedule = resolve(tx, account, choice, now).await?;
        sqlx::query!(
            "INSERT INTO meter_own_schedule (meter_id, schedule_id, account_id) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
            meter.0,
            schedule.0,
            account.0
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Has the consumption of a meter computed anew from `from` on.
async fn make_dirty(
    tx: &mut PgConnection,
    account: AccountId,
    meter: MeterId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!("SELECT mark_consumption($1, $2, $3, $4)", account.0, meter.0, from, to)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

fn registers(values: &Registers) -> Value {
    values
        .iter()
        .map(|(quantity, value)| (quantity.name().to_owned(), Value::String(value.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

pub(super) fn audited(meter: &Meter) -> Value {
    json!({
        "dtu_id": meter.dtu_id, "protocol": meter.protocol, "address": meter.address, "model": meter.model,
        "name": meter.name, "comment": meter.comment, "group_id": meter.group_id, "point_id": meter.point_id,
        "ct_ratio": meter.ct_ratio, "vt_ratio": meter.vt_ratio, "schedules": meter.schedules,
    })
}

pub(super) fn object(id: MeterId) -> String {
    format!("meter/{id}")
}

impl AccountHandle {
    /// Changes the ratios from `now` on: the same meter at the same point, in a new installation.
    async fn set_ratios(
        &self,
        tx: &mut PgConnection,
        id: MeterId,
        edit: &MeterEdit,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let Some(stand) = open_stand(tx, id).await? else {
            return Ok(());
        };
        let ct_ratio = edit.ct_ratio.unwrap_or(stand.ct_ratio);
        let vt_ratio = edit.vt_ratio.unwrap_or(stand.vt_ratio);
        if (ct_ratio, vt_ratio) == (stand.ct_ratio, stand.vt_ratio) {
            return Ok(());
        }
        close_stand(tx, &stand, now, &json!({})).await?;
        let stand = Stand {
            point: stand.point,
            meter: id,
            // an installation that never was gives its beginning to the one that replaces it
            from: now.max(stand.from),
            ct_ratio,
            vt_ratio,
            opening: json!({}),
        };
        insert_installation(tx, self.account, &stand).await?;
        make_dirty(tx, self.account, id, now, now).await
    }

    /// Edits a meter within a transaction; the meter as it is then, and what the audit says of it.
    pub(super) async fn change_meter(
        &self,
        tx: &mut PgConnection,
        id: MeterId,
        edit: &MeterEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<(MeterChange, Value), StoreError> {
        let account = self.account;
        let locked = lock(tx, id, version).await?;
        let before = find(tx, id, now).await?;
        let dtu = edit.dtu.unwrap_or(locked.dtu);
        if dtu != locked.dtu {
            check_dtu(tx, dtu).await?;
        }
        let group = edit.group.unwrap_or(before.group_id);
        if let Some(group) = group.filter(|group| Some(*group) != before.group_id) {
            groups::check(tx, group, "group_id").await?;
        }
        sqlx::query!(
            "UPDATE meter SET dtu_id = $2, protocol = $3, address = $4, model = $5, name = $6, comment = $7,
                              group_id = $8, version = version + 1 WHERE id = $1",
            id.0,
            dtu.0,
            edit.protocol.as_ref().unwrap_or(&before.protocol),
            edit.address.as_ref().unwrap_or(&before.address),
            edit.model.as_ref().unwrap_or(&before.model),
            edit.name.as_ref().unwrap_or(&before.name),
            edit.comment.as_ref().unwrap_or(&before.comment),
            group.map(|id| id.0)
        )
        .execute(&mut *tx)
        .await
        .map_err(placed)?;
        if edit.ct_ratio.is_some() || edit.vt_ratio.is_some() {
            self.set_ratios(tx, id, edit, now).await?;
        }
        if let Some(schedules) = &edit.schedules {
            set_schedules(tx, account, id, schedules, now).await?;
        }
        refresh(tx, account, None, Some(id), now).await?;
        let meter = find(tx, id, now).await?;
        let detail = json!({ "from": audited(&before), "to": audited(&meter) });
        let mut dtus = vec![locked.dtu, dtu];
        dtus.dedup();
        Ok((MeterChange { meter, dtus }, detail))
    }
}

impl InAccount<dyn MeterStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn MeterStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl MeterStore for AccountHandle {
    async fn list(&self, query: &MeterQuery, now: DateTime<Utc>) -> Result<(Vec<Meter>, i64), StoreError> {
        let mut tx = self.begin().await?;
        let since = now - MISS_LOOKBACK;
        let rows = select(&mut tx, query, None, since).await?;
        let total = match rows.first() {
            Some(row) => row.total,
            None if query.after.is_none() => 0,
            // behind the last meter: the total stands in no row
            None => {
                let first = MeterQuery {
                    after: None,
                    limit: 1,
                    ..query.clone()
                };
                select(&mut tx, &first, None, since)
                    .await?
                    .first()
                    .map_or(0, |row| row.total)
            }
        };
        let meters: Result<Vec<_>, _> = rows.into_iter().map(Meter::try_from).collect();
        Ok((meters?, total))
    }

    async fn get(&self, id: MeterId, now: DateTime<Utc>) -> Result<Meter, StoreError> {
        let mut tx = self.begin().await?;
        find(&mut tx, id, now).await
    }

    async fn create(&self, meter: &NewMeter, now: DateTime<Utc>) -> Result<MeterChange, StoreError> {
        let account = self.account;
        let mut tx = self.begin().await?;
        let id = insert_meter(&mut tx, account, meter, now).await?;
        let point = place(&mut tx, account, meter, now).await?;
        let stand = Stand {
            point,
            meter: id,
            from: now,
            ct_ratio: meter.ct_ratio,
            vt_ratio: meter.vt_ratio,
            opening: json!({}),
        };
        insert_installation(&mut tx, account, &stand).await?;
        refresh(&mut tx, account, Some(meter.dtu), Some(id), now).await?;
        let made = find(&mut tx, id, now).await?;
        self.audit(&mut tx, now, "meter.create", &object(id), audited(&made))
            .await?;
        tx.commit().await?;
        Ok(MeterChange {
            meter: made,
            dtus: vec![meter.dtu],
        })
    }

    async fn update(
        &self,
        id: MeterId,
        edit: &MeterEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<MeterChange, StoreError> {
        let mut tx = self.begin().await?;
        let (change, detail) = self.change_meter(&mut tx, id, edit, version, now).await?;
        self.audit(&mut tx, now, "meter.update", &object(id), detail).await?;
        tx.commit().await?;
        Ok(change)
    }

    async fn delete(&self, id: MeterId, version: Option<i32>, now: DateTime<Utc>) -> Result<Vec<DtuId>, StoreError> {
        let mut tx = self.begin().await?;
        let locked = lock(&mut tx, id, version).await?;
        let before = find(&mut tx, id, now).await?;
        if let Some(stand) = open_stand(&mut tx, id).await? {
            close_stand(&mut tx, &stand, now, &json!({})).await?;
        }
        retire(&mut tx, self.account, id, now).await?;
        self.audit(&mut tx, now, "meter.delete", &object(id), audited(&before))
            .await?;
        tx.commit().await?;
        Ok(vec![locked.dtu])
    }

    async fn exchange(
        &self,
        id: MeterId,
        exchange: &MeterExchange,
        now: DateTime<Utc>,
    ) -> Result<MeterChange, StoreError> {
        let account = self.account;
        let mut tx = self.begin().await?;
        let old = lock(&mut tx, id, None).await?;
        let stand = open_stand(&mut tx, id).await?.ok_or_else(|| StoreError::Conflict {
            field: None,
            message: "the meter stands at no metering point".to_owned(),
        })?;
        if exchange.at <= stand.from {
            return Err(StoreError::Invalid {
                field: "at",
                message: format!("lies before the meter was put in place ({})", stand.from.to_rfc3339()),
            });
        }
        close_stand(&mut tx, &stand, exchange.at, &registers(&exchange.closing)).await?;
        retire(&mut tx, account, id, now).await?;
        let new = insert_meter(&mut tx, account, &exchange.new_meter, now).await?;
        if exchange.keep_schedules {
            sqlx::query!(
                "INSERT INTO meter_own_schedule (meter_id, schedule_id, account_id)
                 SELECT $2, schedule_id, account_id FROM meter_own_schedule WHERE meter_id = $1",
                id.0,
                new.0
            )
            .execute(&mut *tx)
            .await?;
        }
        let next = Stand {
            point: stand.point,
            meter: new,
            from: exchange.at,
            ct_ratio: exchange.new_meter.ct_ratio,
            vt_ratio: exchange.new_meter.vt_ratio,
            opening: registers(&exchange.opening),
        };
        insert_installation(&mut tx, account, &next).await?;
        refresh(&mut tx, account, None, Some(new), now).await?;
        make_dirty(&mut tx, account, id, exchange.at, now).await?;
        make_dirty(&mut tx, account, new, exchange.at, now).await?;
        let meter = find(&mut tx, new, now).await?;
        let change = json!({
            "at": exchange.at, "closing": registers(&exchange.closing), "opening": registers(&exchange.opening),
            "new_meter_id": new, "new_meter": audited(&meter),
        });
        self.audit(&mut tx, now, "meter.exchange", &object(id), change).await?;
        tx.commit().await?;
        let mut dtus = vec![old.dtu, exchange.new_meter.dtu];
        dtus.dedup();
        Ok(MeterChange { meter, dtus })
    }

    async fn communication(&self, id: MeterId, now: DateTime<Utc>) -> Result<Communication, StoreError> {
        let mut tx = self.begin().await?;
        let meter = find(&mut tx, id, now).await?;
        let miss = sqlx::query!(
            "SELECT due_at, reason FROM slot_ending WHERE meter_id = $1 AND state = 'missing' AND due_at >= $2
             ORDER BY due_at DESC LIMIT 1",
            id.0,
            now - MISS_LOOKBACK
        )
        .fetch_optional(&mut *tx)
        .await?;
        let [slots_24h, slots_7d] = super::slots::tallies(&mut tx, id, now).await?;
        Ok(Communication {
            last_success_at: meter.last_success_at,
            last_miss_at: miss.as_ref().map(|miss| miss.due_at),
            last_miss_reason: miss.and_then(|miss| miss.reason),
            slots_24h,
            slots_7d,
        })
    }
}

/// Takes a meter out of service; its address is free again and nothing is due any more.
async fn retire(tx: &mut PgConnection, account: AccountId, id: MeterId, now: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE meter SET deleted_at = $2, version = version + 1 WHERE id = $1",
        id.0,
        now
    )
    .execute(&mut *tx)
    .await?;
    refresh(tx, account, None, Some(id), now).await
}
