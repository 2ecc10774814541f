//! What alarms are judged by, beside readings: hours of consumption, shares of slots, commands, conflicts, registers.

use crate::base::ids::{AccountId, CommandId, DtuId, MeterId, PointId};
use crate::domain::quantity::Quantity;
use crate::port::alarms::{
    CommandFact, ConflictFact, HourValue, HoursAsked, LastRegister, SlotShare, TerminalEventFact,
};
use crate::store::StoreError;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use sqlx::PgConnection;
use std::collections::HashMap;

/// Commands that are looked at, at most.
const COMMANDS_MAX: i64 = 10_000;

/// One row's registers.
struct Row {
    meter_id: Option<i32>,
    read_at: Option<DateTime<Utc>>,
    active_energy_import: Option<Decimal>,
    active_energy_total: Option<Decimal>,
    active_energy_export: Option<Decimal>,
    volume_total: Option<Decimal>,
    heat_energy: Option<Decimal>,
    gas_volume: Option<Decimal>,
}

/// The registers that alarms compare with, of every meter: the newest that had been judged at `mark`. Where a newer one is
/// stored (it will be judged now) the one before it counts, as far as a day and two hours back.
pub(super) async fn registers(
    tx: &mut PgConnection,
    mark: Option<DateTime<Utc>>,
) -> Result<HashMap<MeterId, Vec<LastRegister>>, StoreError> {
    let mut found = HashMap::new();
    let newest = sqlx::query_as!(
        Row,
        r#"SELECT l.meter_id, l.read_at, e.active_energy_import, e.active_energy_total, e.active_energy_export,
                  NULL::numeric AS volume_total, NULL::numeric AS heat_energy, NULL::numeric AS gas_volume
           FROM latest_reading l
           JOIN reading_electricity e ON e.ts = l.ts AND e.meter_id = l.meter_id AND e.source = l.source
           WHERE l.family = 0 AND ($1::timestamptz IS NULL OR l.read_at <= $1)
           UNION ALL
           SELECT l.meter_id, l.read_at, NULL, NULL, NULL, f.volume_total, f.heat_energy, f.gas_volume
           FROM latest_reading l
           JOIN reading_fluid f ON f.ts = l.ts AND f.meter_id = l.meter_id AND f.source = l.source
           WHERE l.family = 1 AND ($1::timestamptz IS NULL OR l.read_at <= $1)"#,
        mark
    )
    .fetch_all(&mut *tx)
    .await?;
    newest.into_iter().for_each(|row| take(&mut found, row));
    let Some(mark) = mark else { return Ok(found) };
    let before = sqlx::query_as!(
        Row,
        r#"(SELECT DISTINCT ON (e.meter_id) e.meter_id, e.read_at, e.active_energy_import, e.active_energy_total,
                   e.active_energy_export, NULL::numeric AS volume_total, NULL::numeric AS heat_energy,
                   NULL::numeric AS gas_volume
            FROM reading_electricity e
            WHERE e.ts > $1::timestamptz - interval '26 hours' AND e.ts <= $1 AND e.read_at <= $1
              AND e.meter_id IN (SELECT meter_id FROM latest_reading WHERE read_at > $1)
              AND num_nonnulls(e.active_energy_import, e.active_energy_total, e.active_energy_export) > 0
            ORDER BY e.meter_id, e.ts DESC)
           UNION ALL
           (SELECT DISTINCT ON (f.meter_id) f.meter_id, f.read_at, NULL, NULL, NULL, f.volume_total, f.heat_energy, f.gas_volume
            FROM reading_fluid f
            WHERE f.ts > $1::timestamptz - interval '26 hours' AND f.ts <= $1 AND f.read_at <= $1
              AND f.meter_id IN (SELECT meter_id FROM latest_reading WHERE read_at > $1)
            ORDER BY f.meter_id, f.ts DESC)"#,
        mark
    )
    .fetch_all(&mut *tx)
    .await?;
    before.into_iter().for_each(|row| take(&mut found, row));
    Ok(found)
}

/// Keeps a row's registers; of several with the same register the newest.
fn take(found: &mut HashMap<MeterId, Vec<LastRegister>>, row: Row) {
    let (Some(meter), Some(at)) = (row.meter_id, row.read_at) else {
        return;
    };
    let list = found.entry(MeterId(meter)).or_default();
    let values: [(Quantity, Option<Decimal>); 6] = [
        (Quantity::ActiveEnergyImport, row.active_energy_import),
        (Quantity::ActiveEnergyTotal, row.active_energy_total),
        (Quantity::ActiveEnergyExport, row.active_energy_export),
        (Quantity::VolumeTotal, row.volume_total),
        (Quantity::HeatEnergy, row.heat_energy),
        (Quantity::GasVolume, row.gas_volume),
    ];
    for (quantity, value) in values {
        let Some(value) = value else { continue };
        match list.iter_mut().find(|last| last.quantity == quantity) {
            Some(last) if last.at < at => *last = LastRegister { quantity, at, value },
            Some(_) => {}
            None => list.push(LastRegister { quantity, at, value }),
        }
    }
}

/// Whole hours of these points that begin at these instants.
pub(super) async fn hours(
    tx: &mut PgConnection,
    asked: &HoursAsked,
) -> Result<HashMap<PointId, Vec<HourValue>>, StoreError> {
    let points: Vec<i32> = asked.points.iter().map(|point| point.0).collect();
    let rows = sqlx::query!(
        "SELECT point_id, start, value FROM consumption_hour
         WHERE point_id = ANY($1) AND quantity = $2 AND start = ANY($3) AND NOT incomplete AND quality < 2",
        &points,
        asked.quantity.name(),
        &asked.starts
    )
    .fetch_all(tx)
    .await?;
    let mut found: HashMap<PointId, Vec<HourValue>> = HashMap::new();
    for row in rows {
        let Some(value) = row.value.to_f64() else { continue };
        found.entry(PointId(row.point_id)).or_default().push(HourValue {
            start: row.start,
            value,
        });
    }
    Ok(found)
}

/// How the slots of an account ended, from the roll-up.
pub(super) async fn slots(
    tx: &mut PgConnection,
    account: AccountId,
    since: DateTime<Utc>,
) -> Result<SlotShare, StoreError> {
    let row = sqlx::query!(
        r#"SELECT coalesce(sum(actual + late + estimated + missing), 0)::bigint AS "slots!",
                  coalesce(sum(actual + late + estimated), 0)::bigint AS "collected!"
           FROM meter_hour WHERE account_id = $1 AND hour >= $2"#,
        account.0,
        since
    )
    .fetch_one(tx)
    .await?;
    Ok(SlotShare {
        slots: row.slots,
        collected: row.collected,
    })
}

/// Commands that somebody has to look at.
pub(super) async fn commands(tx: &mut PgConnection, since: DateTime<Utc>) -> Result<Vec<CommandFact>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT id, account_id, meter_id, dtu_id, action ->> 'action' AS action, state,
                  jsonb_path_exists(holds, '$[*].brake') AS "braked!",
                  coalesce(CASE WHEN state = 'unknown' THEN sent_at ELSE ended_at END, requested_at) AS "since!"
           FROM command
           WHERE state IN ('unknown', 'held')
              OR (action ->> 'action' = 'reconnect' AND state IN ('failed', 'expired') AND ended_at >= $1)
           ORDER BY id LIMIT $2"#,
        since,
        COMMANDS_MAX
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| CommandFact {
            id: CommandId(row.id),
            account: AccountId(row.account_id),
            meter: MeterId(row.meter_id),
            dtu: DtuId(row.dtu_id),
            action: row.action.unwrap_or_default(),
            state: row.state,
            braked: row.braked,
            since: row.since,
        })
        .collect())
}

/// Other values that came under taken keys.
pub(super) async fn conflicts(tx: &mut PgConnection, since: DateTime<Utc>) -> Result<Vec<ConflictFact>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT account_id, meter_id, count(*) AS "count!", max(found_at) AS "found_at!"
           FROM reading_conflict WHERE found_at >= $1 GROUP BY 1, 2"#,
        since
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ConflictFact {
            account: AccountId(row.account_id),
            meter: MeterId(row.meter_id),
            count: u64::try_from(row.count).unwrap_or_default(),
            found_at: row.found_at,
        })
        .collect())
}

/// Important events that concentrators recorded.
pub(super) async fn terminal_events(
    tx: &mut PgConnection,
    since: DateTime<Utc>,
) -> Result<Vec<TerminalEventFact>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT account_id, dtu_id, code, count(*) AS "count!", max(found_at) AS "found_at!", max(happened_at) AS happened_at
           FROM terminal_event WHERE found_at >= $1 AND important GROUP BY 1, 2, 3"#,
        since
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| TerminalEventFact {
            account: AccountId(row.account_id),
            dtu: DtuId(row.dtu_id),
            code: u16::try_from(row.code).unwrap_or_default(),
            count: u64::try_from(row.count).unwrap_or_default(),
            found_at: row.found_at,
            happened_at: row.happened_at,
        })
        .collect())
}
