//! DTUs of a file, written.

use super::{Steps, hold};
use crate::base::ids::{DtuId, ScheduleId};
use crate::domain::device::SerialNumber;
use crate::port::dtus::{DtuEdit, NewDtu};
use crate::port::imports::Step;
use crate::port::meters::ScheduleChoice;
use crate::port::scope::StoreError;
use crate::store::dtus::{audited, change, connect_json, int, object, rows};
use crate::store::handles::AccountHandle;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeSet, HashSet};

pub(super) async fn apply(
    handle: &AccountHandle,
    tx: &mut PgConnection,
    steps: &[(u32, Step<DtuId, NewDtu, DtuEdit>)],
    now: DateTime<Utc>,
) -> Result<Steps, StoreError> {
    let mut done = Steps::default();
    let new: Vec<(u32, &NewDtu)> = steps
        .iter()
        .filter_map(|(row, step)| match step {
            Step::Make(dtu) => Some((*row, dtu)),
            Step::Change(..) => None,
        })
        .collect();
    let schedules = new.iter().filter_map(|(_, dtu)| schedule(dtu)).collect();
    if !hold(tx, BTreeSet::new(), BTreeSet::new(), schedules).await? {
        return Ok(Steps::moved());
    }
    make(handle, tx, &new, now, &mut done).await?;
    for (row, step) in steps {
        let Step::Change(id, version, edit) = step else {
            continue;
        };
        match change(tx, *id, edit, Some(*version), now).await {
            Ok((_, _, detail)) => {
                done.audit.push(("dtu.update", object(*id), detail));
                done.dtus.insert(*id);
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

fn schedule(dtu: &NewDtu) -> Option<ScheduleId> {
    match dtu.schedule {
        Some(ScheduleChoice::Existing(id)) => Some(id),
        _ => None,
    }
}

async fn make(
    handle: &AccountHandle,
    tx: &mut PgConnection,
    new: &[(u32, &NewDtu)],
    now: DateTime<Utc>,
    done: &mut Steps,
) -> Result<(), StoreError> {
    let mut connects = Vec::with_capacity(new.len());
    for (_, dtu) in new {
        connects.push(connect_json(&dtu.connect)?);
    }
    let sns: Vec<Option<String>> = new.iter().map(|(_, dtu)| sn(dtu).map(str::to_owned)).collect();
    let names: Vec<String> = new.iter().map(|(_, dtu)| dtu.name.clone()).collect();
    let profiles: Vec<Option<String>> = new.iter().map(|(_, dtu)| dtu.profile.clone()).collect();
    let zones: Vec<Option<String>> = new.iter().map(|(_, dtu)| dtu.time_zone.clone()).collect();
    let silences: Vec<Option<i32>> = new.iter().map(|(_, dtu)| dtu.silence_s.map(int)).collect();
    let timeouts: Vec<Option<i32>> = new.iter().map(|(_, dtu)| dtu.timeout_ms.map(int)).collect();
    let pauses: Vec<Option<i32>> = new.iter().map(|(_, dtu)| dtu.pause_ms.map(int)).collect();
    let schedules: Vec<Option<i32>> = new.iter().map(|(_, dtu)| schedule(dtu).map(|id| id.0)).collect();
    // a serial number that is in use anywhere on the server is left out, and so found
    let made = sqlx::query!(
        "INSERT INTO dtu (account_id, sn, name, connect, profile, time_zone, silence_s, timeout_ms, pause_ms, schedule_id,
                          created_at)
         SELECT $1, x.sn, x.name, x.connect, x.profile, x.time_zone, coalesce(x.silence_s, 180),
                coalesce(x.timeout_ms, 2000), coalesce(x.pause_ms, 50), x.schedule_id, $11
         FROM unnest($2::text[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::int[], $8::int[], $9::int[],
                     $10::int[])
              WITH ORDINALITY AS x(sn, name, connect, profile, time_zone, silence_s, timeout_ms, pause_ms, schedule_id, n)
         ORDER BY x.n
         ON CONFLICT DO NOTHING RETURNING id, sn",
        handle.account.0,
        &sns as &[Option<String>],
        &names,
        &connects,
        &profiles as &[Option<String>],
        &zones as &[Option<String>],
        &silences as &[Option<i32>],
        &timeouts as &[Option<i32>],
        &pauses as &[Option<i32>],
        &schedules as &[Option<i32>],
        now
    )
    .fetch_all(&mut *tx)
    .await?;
    let known: HashSet<&str> = made.iter().filter_map(|row| row.sn.as_deref()).collect();
    for (row, dtu) in new {
        if sn(dtu).is_some_and(|sn| !known.contains(sn)) {
            let taken = "a DTU with this serial number exists already on this server".to_owned();
            done.refused.push((*row, "sn", taken));
        }
    }
    let ids: Vec<i32> = made.iter().map(|row| row.id).collect();
    for dtu in rows(tx, &ids, now).await? {
        done.audit.push(("dtu.create", object(dtu.id), audited(&dtu)));
        done.dtus.insert(dtu.id);
    }
    Ok(())
}

fn sn(dtu: &NewDtu) -> Option<&str> {
    dtu.sn.as_ref().map(SerialNumber::as_str)
}
