//! Meters of a file, written: new ones in a few statements for all of them, with their points and installations.

use super::{Steps, hold};
use crate::base::ids::{DtuId, GroupId, MeterId, PointId, ScheduleId};
use crate::port::imports::Step;
use crate::port::meters::{Meter, MeterEdit, MeterState, NewMeter, ScheduleChoice, ScheduleOrigin};
use crate::port::scope::StoreError;
use crate::store::handles::AccountHandle;
use crate::store::meters::{audited, object};
use crate::store::schedules::refresh;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use std::collections::HashMap;

pub(super) async fn apply(
    handle: &AccountHandle,
    tx: &mut PgConnection,
    steps: &[(u32, Step<MeterId, NewMeter, MeterEdit>)],
    now: DateTime<Utc>,
) -> Result<Steps, StoreError> {
    let mut done = Steps::default();
    let new: Vec<&NewMeter> = steps
        .iter()
        .filter_map(|(_, step)| match step {
            Step::Make(meter) => Some(meter),
            Step::Change(..) => None,
        })
        .collect();
    let dtus = new.iter().map(|meter| meter.dtu).collect();
    let groups = new.iter().filter_map(|meter| meter.group).collect();
    let schedules = new.iter().flat_map(|meter| own(meter)).collect();
    if !hold(tx, dtus, groups, schedules).await? {
        return Ok(Steps::moved());
    }
    if !new.is_empty() && !make(handle, tx, &new, now, &mut done).await? {
        return Ok(Steps::moved());
    }
    for (row, step) in steps {
        let Step::Change(id, version, edit) = step else {
            continue;
        };
        match handle.change_meter(tx, *id, edit, Some(*version), now).await {
            Ok((change, detail)) => {
                done.audit.push(("meter.update", object(*id), detail));
                done.dtus.extend(change.dtus);
            }
            Err(error) => {
                // what comes behind it cannot be tried any more
                done.note(*row, error)?;
                return Ok(done);
            }
        }
    }
    Ok(done)
}

/// The schedules of a new meter; imports make none in place.
fn own(meter: &NewMeter) -> Vec<ScheduleId> {
    let existing = |choice: &ScheduleChoice| match choice {
        ScheduleChoice::Existing(id) => Some(*id),
        ScheduleChoice::InPlace(_) => None,
    };
    meter.schedules.iter().filter_map(existing).collect()
}

/// Makes all of them; false: an address was taken meanwhile.
async fn make(
    handle: &AccountHandle,
    tx: &mut PgConnection,
    new: &[&NewMeter],
    now: DateTime<Utc>,
    done: &mut Steps,
) -> Result<bool, StoreError> {
    let account = handle.account;
    let ids = insert(handle, tx, new, now).await?;
    if ids.len() != new.len() {
        return Ok(false);
    }
    let points = points(handle, tx, new, now).await?;
    let numbers: Vec<i32> = ids.iter().map(|id| id.0).collect();
    let (mut of, mut schedules) = (Vec::new(), Vec::new());
    for (id, meter) in ids.iter().zip(new) {
        for schedule in own(meter) {
            of.push(id.0);
            schedules.push(schedule.0);
        }
    }
    sqlx::query!(
        "INSERT INTO meter_own_schedule (meter_id, schedule_id, account_id)
         SELECT x.meter_id, x.schedule_id, $1 FROM unnest($2::int[], $3::int[]) AS x(meter_id, schedule_id)",
        account.0,
        &of,
        &schedules
    )
    .execute(&mut *tx)
    .await?;
    let places: Vec<i32> = points.iter().map(|id| id.0).collect();
    let ct_ratios: Vec<Decimal> = new.iter().map(|meter| meter.ct_ratio).collect();
    let vt_ratios: Vec<Decimal> = new.iter().map(|meter| meter.vt_ratio).collect();
    sqlx::query!(
        "INSERT INTO installation (account_id, point_id, meter_id, valid_from, ct_ratio, vt_ratio)
         SELECT $1, x.point_id, x.meter_id, $6, x.ct_ratio, x.vt_ratio
         FROM unnest($2::int[], $3::int[], $4::numeric[], $5::numeric[]) AS x(point_id, meter_id, ct_ratio, vt_ratio)",
        account.0,
        &places,
        &numbers,
        &ct_ratios,
        &vt_ratios,
        now
    )
    .execute(&mut *tx)
    .await?;
    // once for all of them: what applies to the others stays as it is
    refresh(tx, account, None, None, now).await?;
    let mut applied = applied(tx, &numbers).await?;
    for ((meter, id), point) in new.iter().zip(&ids).zip(&points) {
        let made = shown(*id, *point, meter, applied.remove(&id.0).unwrap_or_default(), now);
        done.audit.push(("meter.create", object(*id), audited(&made)));
        done.dtus.insert(meter.dtu);
    }
    Ok(true)
}

/// The ids of new meters in their order; fewer than meters when addresses are taken.
async fn insert(
    handle: &AccountHandle,
    tx: &mut PgConnection,
    new: &[&NewMeter],
    now: DateTime<Utc>,
) -> Result<Vec<MeterId>, StoreError> {
    let dtus: Vec<i32> = new.iter().map(|meter| meter.dtu.0).collect();
    let text = |part: fn(&NewMeter) -> &String| new.iter().map(|meter| part(meter).clone()).collect::<Vec<_>>();
    let groups: Vec<Option<i32>> = new.iter().map(|meter| meter.group.map(|id| id.0)).collect();
    let rows = sqlx::query!(
        "INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, comment, group_id, created_at)
         SELECT $1, x.dtu_id, x.protocol, x.address, x.model, x.name, x.comment, x.group_id, $9
         FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[])
              WITH ORDINALITY AS x(dtu_id, protocol, address, model, name, comment, group_id, n)
         ORDER BY x.n
         ON CONFLICT DO NOTHING RETURNING id, dtu_id, protocol, address",
        handle.account.0,
        &dtus,
        &text(|meter| &meter.protocol),
        &text(|meter| &meter.address),
        &text(|meter| &meter.model),
        &text(|meter| &meter.name),
        &text(|meter| &meter.comment),
        &groups as &[Option<i32>],
        now
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut by_key: HashMap<(DtuId, String, String), MeterId> = rows
        .into_iter()
        .map(|row| ((DtuId(row.dtu_id), row.protocol, row.address), MeterId(row.id)))
        .collect();
    Ok(new
        .iter()
        .filter_map(|meter| by_key.remove(&(meter.dtu, meter.protocol.clone(), meter.address.clone())))
        .collect())
}

/// A new point for each. Points of one name and group are as good as each other until a meter stands there.
async fn points(
    handle: &AccountHandle,
    tx: &mut PgConnection,
    new: &[&NewMeter],
    now: DateTime<Utc>,
) -> Result<Vec<PointId>, StoreError> {
    let names: Vec<String> = new.iter().map(|meter| meter.name.clone()).collect();
    let groups: Vec<Option<i32>> = new.iter().map(|meter| meter.group.map(|id| id.0)).collect();
    let rows = sqlx::query!(
        "INSERT INTO metering_point (account_id, name, group_id, created_at)
         SELECT $1, x.name, x.group_id, $4
         FROM unnest($2::text[], $3::int[]) WITH ORDINALITY AS x(name, group_id, n) ORDER BY x.n
         RETURNING id, name, group_id",
        handle.account.0,
        &names,
        &groups as &[Option<i32>],
        now
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut free: HashMap<(String, Option<GroupId>), Vec<PointId>> = HashMap::new();
    for row in rows.into_iter().rev() {
        let key = (row.name, row.group_id.map(GroupId));
        free.entry(key).or_default().push(PointId(row.id));
    }
    new.iter()
        .map(|meter| {
            let points = free.get_mut(&(meter.name.clone(), meter.group));
            points
                .and_then(Vec::pop)
                .ok_or_else(|| StoreError::Internal("a new metering point did not come back".to_owned()))
        })
        .collect()
}

/// The schedules that apply now, by meter.
async fn applied(tx: &mut PgConnection, meters: &[i32]) -> Result<HashMap<i32, Vec<ScheduleId>>, StoreError> {
    let rows = sqlx::query!(
        "SELECT meter_id, schedule_id FROM meter_schedule WHERE meter_id = ANY ($1) AND valid_to IS NULL
         ORDER BY meter_id, schedule_id",
        meters
    )
    .fetch_all(tx)
    .await?;
    let mut found: HashMap<i32, Vec<ScheduleId>> = HashMap::new();
    for row in rows {
        found.entry(row.meter_id).or_default().push(ScheduleId(row.schedule_id));
    }
    Ok(found)
}

/// A new meter as the audit tells it.
fn shown(id: MeterId, point: PointId, meter: &NewMeter, schedules: Vec<ScheduleId>, now: DateTime<Utc>) -> Meter {
    Meter {
        id,
        dtu_id: meter.dtu,
        protocol: meter.protocol.clone(),
        address: meter.address.clone(),
        model: meter.model.clone(),
        name: meter.name.clone(),
        comment: meter.comment.clone(),
        group_id: meter.group,
        point_id: Some(point),
        ct_ratio: meter.ct_ratio.normalize(),
        vt_ratio: meter.vt_ratio.normalize(),
        schedules,
        schedules_from: ScheduleOrigin::None,
        state: MeterState::New,
        last_success_at: None,
        created_at: now,
        version: 1,
    }
}
