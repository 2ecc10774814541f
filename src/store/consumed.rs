//! Consumption of a metering point or a meter, per hour, day or month of a zone.
//!
//! Slices that are covered exactly by hours of the roll-up, all of them whole and clean, are summed from
//! `consumption_hour`; the others (the running one, fresh readings, another zone off the hour) are computed from the readings by [`crate::domain::consumption`],
//! which the roll-up uses too, so both ways give the same.

use super::rollup::GAP_MAX;
use super::wide::{self, Table};
use super::{history, meters, points};
use crate::base::ids::{MeterId, PointId};
use crate::domain::consumption::{self, Installation, IntervalReading, RegisterReading, boundaries};
use crate::domain::quantity::{Family, Kind, Quantity};
use crate::domain::reading::{Measurand, Quality};
use crate::port::meters::Registers;
use crate::port::readings::{ConsumptionItem, ConsumptionQuery, ConsumptionSubject, Per};
use crate::port::scope::StoreError;
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet};

/// How far beyond a span its neighbouring readings are looked for.
const REACH: TimeDelta = TimeDelta::days(35);
/// Neighbours that are fetched on each side: read late, the nearest by due time is not always the nearest by time.
const NEIGHBOURS: i64 = 4;

/// A meter at a point, with its registers at both ends.
struct Stand {
    point: PointId,
    meter: MeterId,
    from: DateTime<Utc>,
    to: Option<DateTime<Utc>>,
    ratio: Decimal,
    opening: Registers,
    closing: Registers,
}

async fn stands(tx: &mut PgConnection, subject: ConsumptionSubject) -> Result<Vec<Stand>, StoreError> {
    let (point, meter) = match subject {
        ConsumptionSubject::Point(point) => {
            points::check(tx, point).await?;
            (Some(point.0), None)
        }
        ConsumptionSubject::Meter(meter) => {
            meters::check(tx, meter).await?;
            (None, Some(meter.0))
        }
    };
    let rows = sqlx::query!(
        "SELECT point_id, meter_id, valid_from, valid_to, ct_ratio, vt_ratio, opening, closing FROM installation
         WHERE ($1::int IS NULL OR point_id = $1) AND ($2::int IS NULL OR meter_id = $2) ORDER BY valid_from",
        point,
        meter
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Stand {
            point: PointId(row.point_id),
            meter: MeterId(row.meter_id),
            from: row.valid_from,
            to: row.valid_to,
            ratio: row.ct_ratio.checked_mul(row.vt_ratio).unwrap_or(row.ct_ratio),
            opening: points::registers_of(&row.opening),
            closing: points::registers_of(&row.closing),
        })
        .collect())
}

/// The point whose roll-up answers the question: the point itself, or the only one of a meter that nobody else stood at.
async fn rolled_point(
    tx: &mut PgConnection,
    subject: ConsumptionSubject,
    stands: &[Stand],
) -> Result<Option<PointId>, StoreError> {
    let ConsumptionSubject::Meter(meter) = subject else {
        return Ok(stands.first().map(|stand| stand.point));
    };
    let points: BTreeSet<PointId> = stands.iter().map(|stand| stand.point).collect();
    let (Some(point), 1) = (points.first().copied(), points.len()) else {
        return Ok(None);
    };
    let shared = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM installation WHERE point_id = $1 AND meter_id <> $2) AS "shared!""#,
        point.0,
        meter.0
    )
    .fetch_one(tx)
    .await?;
    Ok((!shared).then_some(point))
}

/// Registers that only grow; of a register that also falls there is no consumption in this sense.
fn consumes(quantity: Quantity) -> bool {
    let frozen = matches!(
        quantity,
        Quantity::ActiveEnergyNet | Quantity::VolumeSettlement | Quantity::HeatEnergySettlement
    );
    quantity.kind() == Kind::Register && quantity.family() != Family::Other && !frozen
}

/// The registers that are rolled up for the span, or stand in the newest readings.
async fn quantities(
    tx: &mut PgConnection,
    query: &ConsumptionQuery,
    stands: &[Stand],
    rolled: Option<PointId>,
) -> Result<Vec<Quantity>, StoreError> {
    if !query.quantities.is_empty() {
        return Ok(query.quantities.clone());
    }
    let mut found = BTreeSet::new();
    let names = sqlx::query_scalar!(
        "SELECT DISTINCT quantity FROM consumption_hour WHERE point_id = $1 AND start >= $2 AND start < $3",
        rolled.map_or(0, |point| point.0),
        query.from,
        query.to
    )
    .fetch_all(&mut *tx)
    .await?;
    found.extend(names.iter().filter_map(|name| Quantity::by_name(name)));
    let meters: BTreeSet<MeterId> = stands.iter().map(|stand| stand.meter).collect();
    for meter in meters {
        for reading in history::pointed(tx, meter).await? {
            found.extend(reading.items.iter().filter_map(|item| match item.measurand {
                Measurand::Standard(quantity) if consumes(quantity) => Some(quantity),
                _ => None,
            }));
        }
    }
    Ok(found.into_iter().collect())
}

/// One slice as the roll-up has it.
struct Rolled {
    value: Decimal,
    begins: DateTime<Utc>,
    ends: DateTime<Utc>,
    seconds: i64,
    quality: Quality,
    interpolated: bool,
}

/// The clean hours of the roll-up, summed by slice. Slices count from 1, as `width_bucket` does.
async fn rolled(
    tx: &mut PgConnection,
    point: PointId,
    stands: &[Stand],
    edges: &[DateTime<Utc>],
    quantities: &[Quantity],
) -> Result<BTreeMap<(Quantity, usize), Rolled>, StoreError> {
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else {
        return Ok(BTreeMap::new());
    };
    let names: Vec<String> = quantities.iter().map(|quantity| quantity.name().to_owned()).collect();
    let meters: Vec<i32> = stands.iter().map(|stand| stand.meter.0).collect();
    let rows = sqlx::query!(
        r#"WITH behind AS MATERIALIZED (
               SELECT DISTINCT d.hour FROM hour_mark d
               WHERE d.registers AND d.hour > $4::timestamptz - interval '2 hours' AND d.hour < $5 AND d.meters && $6::int[]
           )
           SELECT h.quantity, width_bucket(h.start, $3::timestamptz[]) AS "slice!", sum(h.value) AS "value!",
                  min(h.start) AS "begins!", max(h.finish) AS "ends!",
                  sum(extract(epoch FROM h.finish - h.start))::bigint AS "seconds!",
                  max(h.quality) AS "quality!", bool_or(h.interpolated) AS "interpolated!"
           FROM consumption_hour h
           WHERE h.point_id = $1 AND h.quantity = ANY($2) AND h.start >= $4 AND h.start < $5 AND NOT h.incomplete
             AND NOT EXISTS (SELECT FROM behind d WHERE d.hour < h.finish AND d.hour + interval '1 hour' > h.start)
           GROUP BY 1, 2"#,
        point.0,
        &names,
        edges,
        *first,
        *last,
        &meters
    )
    .fetch_all(tx)
    .await?;
    let mut slices = BTreeMap::new();
    for row in rows {
        let (Some(quantity), Ok(slice)) = (Quantity::by_name(&row.quantity), usize::try_from(row.slice)) else {
            continue;
        };
        let rolled = Rolled {
            value: row.value,
            begins: row.begins,
            ends: row.ends,
            seconds: row.seconds,
            quality: wide::quality_by_code(row.quality),
            interpolated: row.interpolated,
        };
        slices.insert((quantity, slice), rolled);
    }
    Ok(slices)
}

impl Rolled {
    /// Whether the hours make up the slice, from edge to edge and without a hole.
    fn covers(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        (self.begins, self.ends, self.seconds) == (from, to, (to - from).num_seconds())
    }
}

/// Rows of one register: `meter_id, ts, at, value, quality` (its name, or its number aside).
fn register_rows(quantity: Quantity) -> String {
    let name = quantity.name();
    match Table::of(quantity) {
        Some(table) => format!(
            "SELECT meter_id, ts, coalesce(meter_time, read_at) AS at, {name} AS value, quality->>'{name}' AS quality \
             FROM {} WHERE {name} IS NOT NULL",
            table.name()
        ),
        None => format!(
            "SELECT s.meter_id, s.ts, coalesce(e.meter_time, e.read_at, f.meter_time, f.read_at, s.ts) AS at, \
                    s.exact AS value, CASE s.quality WHEN 0 THEN NULL WHEN 1 THEN 'estimated' \
                    WHEN 2 THEN 'substituted' ELSE 'suspect' END AS quality \
             FROM reading_side s \
             LEFT JOIN reading_electricity e ON e.ts = s.ts AND e.meter_id = s.meter_id AND e.source = s.source \
             LEFT JOIN reading_fluid f ON f.ts = s.ts AND f.meter_id = s.meter_id AND f.source = s.source \
             WHERE s.quantity = '{name}' AND s.exact IS NOT NULL"
        ),
    }
}

/// A register's readings within `[from, to)`, and each meter's neighbours outside.
async fn register(
    tx: &mut PgConnection,
    quantity: Quantity,
    meters: &[i32],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<RegisterReading>, StoreError> {
    let rows = register_rows(quantity);
    let columns = "r.meter_id, r.at, r.value, r.quality";
    let statement = format!(
        "SELECT {columns} FROM ({rows}) r WHERE r.meter_id = ANY($1) AND r.ts >= $2 AND r.ts < $3 \
         UNION ALL SELECT n.* FROM unnest($1::int[]) AS m (id), LATERAL (SELECT {columns} FROM ({rows}) r \
            WHERE r.meter_id = m.id AND r.ts >= $4 AND r.ts < $2 ORDER BY r.ts DESC LIMIT $6) n \
         UNION ALL SELECT n.* FROM unnest($1::int[]) AS m (id), LATERAL (SELECT {columns} FROM ({rows}) r \
            WHERE r.meter_id = m.id AND r.ts >= $3 AND r.ts < $5 ORDER BY r.ts LIMIT $6) n"
    );
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(meters)
        .bind(from)
        .bind(to)
        .bind(from - REACH)
        .bind(to + REACH)
        .bind(NEIGHBOURS)
        .fetch_all(tx)
        .await?;
    rows.iter()
        .map(|row| {
            let quality: Option<String> = row.try_get("quality")?;
            Ok(RegisterReading {
                meter: MeterId(row.try_get("meter_id")?),
                at: row.try_get("at")?,
                value: row.try_get("value")?,
                quality: match quality.as_deref() {
                    None | Some("measured") => Quality::Measured,
                    Some("estimated") => Quality::Estimated,
                    Some("substituted") => Quality::Substituted,
                    Some(_) => Quality::Suspect,
                },
            })
        })
        .collect()
}

/// Computes slices from the readings.
async fn live(
    tx: &mut PgConnection,
    quantity: Quantity,
    stands: &[Stand],
    edges: &[DateTime<Utc>],
) -> Result<Vec<IntervalReading>, StoreError> {
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else {
        return Ok(Vec::new());
    };
    let mut meters: Vec<i32> = stands.iter().map(|stand| stand.meter.0).collect();
    meters.sort_unstable();
    meters.dedup();
    let readings = register(tx, quantity, &meters, *first, *last).await?;
    let installations: Vec<Installation> = stands
        .iter()
        .map(|stand| Installation {
            meter: stand.meter,
            from: stand.from,
            to: stand.to,
            opening: stand.opening.get(&quantity).copied(),
            closing: stand.closing.get(&quantity).copied(),
            ratio: stand.ratio,
            roll_over: None,
        })
        .collect();
    Ok(consumption::consumption(&readings, &installations, edges, GAP_MAX))
}

fn per(per: Per) -> consumption::Per {
    match per {
        Per::Hour => consumption::Per::Hour,
        Per::Day => consumption::Per::Day,
        Per::Month => consumption::Per::Month,
    }
}

fn item(quantity: Quantity, from: DateTime<Utc>, to: DateTime<Utc>) -> ConsumptionItem {
    ConsumptionItem {
        quantity: quantity.name(),
        obis: quantity.obis(),
        unit: quantity.unit().symbol(),
        from,
        to,
        value: None,
        quality: None,
        interpolated: false,
        complete: false,
    }
}

fn of_roll_up(quantity: Quantity, from: DateTime<Utc>, to: DateTime<Utc>, rolled: &Rolled) -> ConsumptionItem {
    ConsumptionItem {
        value: Some(rolled.value.normalize()),
        quality: Some(rolled.quality),
        interpolated: rolled.interpolated,
        complete: true,
        ..item(quantity, from, to)
    }
}

fn of_readings(quantity: Quantity, interval: &IntervalReading) -> ConsumptionItem {
    ConsumptionItem {
        value: interval.value.map(|value| value.normalize()),
        quality: interval.value.map(|_| interval.quality()),
        interpolated: interval.value.is_some() && interval.flags.interpolated,
        complete: interval.value.is_some() && !interval.flags.incomplete,
        ..item(quantity, interval.from, interval.to)
    }
}

/// Consumption by register, then slice; slices of which nothing is known are there without a value.
pub(super) async fn consumption(
    tx: &mut PgConnection,
    query: &ConsumptionQuery,
) -> Result<Vec<ConsumptionItem>, StoreError> {
    let stands = stands(tx, query.subject).await?;
    let edges = boundaries(query.zone, per(query.per), query.from, query.to)
        .map_err(|error| StoreError::Internal(error.to_string()))?;
    let point = rolled_point(tx, query.subject, &stands).await?;
    let quantities = quantities(tx, query, &stands, point).await?;
    let known = match point {
        Some(point) => rolled(tx, point, &stands, &edges, &quantities).await?,
        None => BTreeMap::new(),
    };
    let mut items = Vec::new();
    for quantity in quantities {
        let slices: Vec<(DateTime<Utc>, DateTime<Utc>)> =
            edges.iter().copied().zip(edges.iter().copied().skip(1)).collect();
        let whole = |slice: usize, from, to| known.get(&(quantity, slice)).filter(|rolled| rolled.covers(from, to));
        let open: Vec<usize> = (1..)
            .zip(&slices)
            .filter(|(slice, (from, to))| whole(*slice, *from, *to).is_none())
            .map(|(slice, _)| slice)
            .collect();
        // from the first slice that is not rolled up to the last; the running one is usually all there is
        let computed = match (open.first(), open.last()) {
            (Some(first), Some(last)) => {
                let span = edges.get(first.saturating_sub(1)..=*last).unwrap_or_default();
                live(tx, quantity, &stands, span).await?
            }
            _ => Vec::new(),
        };
        let first = open.first().copied().unwrap_or(1);
        for (slice, (from, to)) in (1..).zip(slices) {
            items.push(match whole(slice, from, to) {
                Some(rolled) => of_roll_up(quantity, from, to, rolled),
                None => computed
                    .get(slice.saturating_sub(first))
                    .map_or_else(|| item(quantity, from, to), |interval| of_readings(quantity, interval)),
            });
        }
    }
    Ok(items)
}
