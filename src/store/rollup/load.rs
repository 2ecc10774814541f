//! What a roll-up needs to know: marks, the points behind them, registers around them.

use crate::base::ids::{AccountId, MeterId, PointId};
use crate::domain::consumption::{Installation, RegisterReading};
use crate::domain::quantity::{Kind, Quantity};
use crate::domain::reading::Quality;
use crate::store::StoreError;
use crate::store::wide::{QualityExceptions, Table};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use futures::TryStreamExt;
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Registers so far beside the marked hours are loaded at once; most meters are read more often than that.
const BESIDE: TimeDelta = TimeDelta::hours(3);
/// Neighbours beyond are looked for so far.
const REACH: TimeDelta = TimeDelta::days(40);
/// An hour of the wall clock lasts up to an hour and a half, where the clock jumps by half an hour.
const HOUR_MAX: TimeDelta = TimeDelta::minutes(90);
/// How often a meter's neighbours are looked for in one direction.
const LOOKS: usize = 3;
/// Marks of one meter that lie closer than this are worked off as one span.
const NEAR: TimeDelta = TimeDelta::hours(6);

/// An hour of a meter whose registers changed.
pub(super) struct Mark {
    pub(super) meter: i32,
    pub(super) hour: DateTime<Utc>,
}

/// A meter at a point.
pub(super) struct Stand {
    meter: MeterId,
    from: DateTime<Utc>,
    to: Option<DateTime<Utc>>,
    ratio: Decimal,
    opening: BTreeMap<String, Decimal>,
    closing: BTreeMap<String, Decimal>,
}

impl Stand {
    /// As the domain wants it, for one register.
    pub(super) fn installation(&self, quantity: Quantity) -> Installation {
        Installation {
            meter: self.meter,
            from: self.from,
            to: self.to,
            opening: self.opening.get(quantity.name()).copied(),
            closing: self.closing.get(quantity.name()).copied(),
            ratio: self.ratio,
            roll_over: None,
        }
    }
}

/// A point with a span whose consumption is to be computed anew.
pub(super) struct Point {
    pub(super) id: PointId,
    pub(super) account: AccountId,
    pub(super) zone: Tz,
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    pub(super) stands: Vec<Stand>,
}

/// Registers by meter and quantity, in the order of time.
pub(super) struct Registers {
    by_meter: BTreeMap<MeterId, BTreeMap<Quantity, Vec<RegisterReading>>>,
}

impl Registers {
    /// Those of a point's meters within reach of its span.
    pub(super) fn of(&self, point: &Point) -> BTreeMap<Quantity, Vec<RegisterReading>> {
        let mut found: BTreeMap<Quantity, Vec<RegisterReading>> = BTreeMap::new();
        let meters: BTreeSet<MeterId> = point.stands.iter().map(|stand| stand.meter).collect();
        for (quantity, readings) in meters.iter().filter_map(|meter| self.by_meter.get(meter)).flatten() {
            found.entry(*quantity).or_default().extend(readings.iter().cloned());
        }
        for readings in found.values_mut() {
            // a row that was loaded twice, for two spans or with a neighbour, stands beside itself then
            readings.sort_by_key(|reading| (reading.at, reading.meter, reading.value, reading.quality));
            readings.dedup();
        }
        found
    }

    /// Loads what meters' registers showed in a span.
    async fn load(
        &mut self,
        connection: &mut PgConnection,
        meters: &[i32],
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        for (table, columns) in Table::ALL.into_iter().zip(COLUMNS.iter()) {
            let statement = format!(
                "SELECT meter_id, read_at, meter_time, quality{} FROM {} WHERE meter_id = ANY($1) AND ts >= $2 AND ts < $3",
                columns.list,
                table.name()
            );
            // row by row: a meter that is read every second has thousands of them
            let mut rows = sqlx::query(AssertSqlSafe(statement))
                .bind(meters)
                .bind(from)
                .bind(to)
                .fetch(&mut *connection);
            while let Some(row) = rows.try_next().await? {
                self.take(&row, &columns.quantities)?;
            }
        }
        Ok(())
    }

    /// Takes a row of [`Registers::load`].
    fn take(&mut self, row: &PgRow, quantities: &[Quantity]) -> Result<(), StoreError> {
        let meter = MeterId(row.try_get(0)?);
        let read_at: DateTime<Utc> = row.try_get(1)?;
        let at = row.try_get::<Option<DateTime<Utc>>, _>(2)?.unwrap_or(read_at);
        let exceptions: Option<Json<QualityExceptions>> = row.try_get(3)?;
        let registers = self.by_meter.entry(meter).or_default();
        for (place, quantity) in quantities.iter().enumerate() {
            let Some(value) = row.try_get::<Option<Decimal>, _>(place + 4)? else {
                continue;
            };
            let exception = exceptions.as_ref().and_then(|named| named.0.get(quantity.name()));
            registers.entry(*quantity).or_default().push(RegisterReading {
                meter,
                at,
                value,
                quality: exception.copied().unwrap_or(Quality::Measured),
            });
        }
        Ok(())
    }

    /// Whether the hours beside a span can be computed whole: a span changes the hour that its neighbour reading lies
    /// in, and for that hour's other edge there must be one more reading beyond.
    fn rest(&self, meter: MeterId, edge: DateTime<Utc>, side: Side) -> bool {
        let Some(registers) = self.by_meter.get(&meter) else {
            return false;
        };
        registers.values().all(|readings| {
            let times = readings.iter().map(|reading| reading.at);
            let beside = match side {
                Side::Before => times.clone().filter(|at| *at < edge).max(),
                Side::After => times.clone().filter(|at| *at >= edge).min(),
            };
            beside.is_some_and(|beside| {
                times.clone().any(|at| match side {
                    Side::Before => at <= beside - HOUR_MAX,
                    Side::After => at >= beside + HOUR_MAX,
                })
            })
        })
    }
}

/// Which way to look for neighbours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// Registers that only grow and are the meter's own count: a frozen value is a copy, and a net register also falls.
fn consumes(quantity: Quantity) -> bool {
    let other = matches!(
        quantity,
        Quantity::ActiveEnergyNet
            | Quantity::VolumeSettlement
            | Quantity::HeatEnergySettlement
            | Quantity::OperatingHours
    );
    quantity.kind() == Kind::Register && !other
}

/// The columns of a wide table that a roll-up reads.
struct Columns {
    /// As a statement has them behind others.
    list: String,
    quantities: Vec<Quantity>,
}

static COLUMNS: LazyLock<[Columns; 2]> = LazyLock::new(|| {
    Table::ALL.map(|table| {
        let quantities: Vec<Quantity> = table
            .quantities()
            .iter()
            .copied()
            .filter(|quantity| consumes(*quantity))
            .collect();
        let list = quantities
            .iter()
            .map(|quantity| format!(", {}", quantity.name()))
            .collect();
        Columns { list, quantities }
    })
});

/// Spreads the oldest marks made before `round`, of hours that began before `running`, over the two work lists; returns their ids,
/// none when there are none left.
pub(super) async fn spread(
    connection: &mut PgConnection,
    round: i64,
    running: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"WITH step AS MATERIALIZED (
               SELECT id, hour, round, account_id, registers, polls, meters FROM hour_mark
               WHERE round < $1 AND hour < $3
               ORDER BY hour, id LIMIT $2
           ), consumption AS (
               INSERT INTO consumption_dirty (meter_id, hour, round, account_id)
               SELECT DISTINCT m.meter, s.hour, s.round, s.account_id
               FROM step s CROSS JOIN LATERAL unnest(s.meters) AS m (meter) WHERE s.registers
               ON CONFLICT DO NOTHING
           ), polls AS (
               INSERT INTO meter_hour_dirty (meter_id, hour, round, account_id)
               SELECT DISTINCT m.meter, s.hour, s.round, s.account_id
               FROM step s CROSS JOIN LATERAL unnest(s.meters) AS m (meter) WHERE s.polls
               ON CONFLICT DO NOTHING
           )
           SELECT id FROM step"#,
        round,
        limit,
        running
    )
    .fetch_all(connection)
    .await?)
}

/// The same for hours that began at `running` or later. Of their registers those are looked at that nobody looked at in that hour: a
/// meter's first reading in an hour ends the hour before, and the others say nothing of any hour that has ended. What somebody edited is
/// looked at always.
pub(super) async fn spread_running(
    connection: &mut PgConnection,
    round: i64,
    running: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"WITH fresh AS MATERIALIZED (
               SELECT id, hour, round, account_id, registers, polls, meters FROM hour_mark
               WHERE round < $1 AND hour >= $3 AND NOT looked
               ORDER BY hour, id LIMIT $2
           ), looked AS MATERIALIZED (
               SELECT id, hour, account_id, meters FROM hour_mark k
               WHERE hour >= $3 AND looked AND EXISTS (
                   SELECT FROM fresh f WHERE f.registers AND f.hour = k.hour AND f.account_id = k.account_id)
           ), seen AS MATERIALIZED (
               SELECT k.hour, k.account_id, m.meter FROM looked k CROSS JOIN LATERAL unnest(k.meters) AS m (meter)
           ), consumption AS (
               INSERT INTO consumption_dirty (meter_id, hour, round, account_id)
               SELECT DISTINCT m.meter, f.hour, f.round, f.account_id
               FROM fresh f CROSS JOIN LATERAL unnest(f.meters) AS m (meter)
               LEFT JOIN seen s ON s.hour = f.hour AND s.account_id = f.account_id AND s.meter = m.meter AND f.polls
               WHERE f.registers AND s.meter IS NULL
               ON CONFLICT DO NOTHING
           ), polls AS (
               INSERT INTO meter_hour_dirty (meter_id, hour, round, account_id)
               SELECT DISTINCT m.meter, f.hour, f.round, f.account_id
               FROM fresh f CROSS JOIN LATERAL unnest(f.meters) AS m (meter) WHERE f.polls
               ON CONFLICT DO NOTHING
           )
           SELECT id AS "id!" FROM fresh UNION ALL SELECT id FROM looked WHERE EXISTS (SELECT FROM fresh)"#,
        round,
        limit,
        running
    )
    .fetch_all(connection)
    .await?)
}

/// Takes away marks of running hours that are worked off; one an hour stays, for when it has ended, with the meters that were looked at.
pub(super) async fn keep_running(connection: &mut PgConnection, round: i64, step: &[i64]) -> Result<(), StoreError> {
    sqlx::query!(
        "WITH gone AS (DELETE FROM hour_mark WHERE id = ANY($1) RETURNING hour, account_id, registers, meters)
         INSERT INTO hour_mark (hour, round, account_id, registers, polls, looked, meters)
         SELECT g.hour, $2, g.account_id, true, false, true, array_agg(DISTINCT m.meter)
         FROM gone g CROSS JOIN LATERAL unnest(g.meters) AS m (meter) WHERE g.registers GROUP BY g.hour, g.account_id",
        step,
        round
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes away marks whose hours are computed.
pub(super) async fn forget_step(connection: &mut PgConnection, step: &[i64]) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM hour_mark WHERE id = ANY($1)", step)
        .execute(connection)
        .await?;
    Ok(())
}

/// The oldest entries of the list of registers' hours, from marks made before `round`.
pub(super) async fn marks(connection: &mut PgConnection, round: i64, limit: i64) -> Result<Vec<Mark>, StoreError> {
    Ok(sqlx::query_as!(
        Mark,
        r#"SELECT meter_id AS meter, hour FROM consumption_dirty WHERE round < $1
           GROUP BY meter_id, hour ORDER BY hour, meter_id LIMIT $2"#,
        round,
        limit
    )
    .fetch_all(connection)
    .await?)
}

/// Takes the entries away.
pub(super) async fn forget(connection: &mut PgConnection, round: i64, marks: &[Mark]) -> Result<(), StoreError> {
    let meters: Vec<i32> = marks.iter().map(|mark| mark.meter).collect();
    let hours: Vec<DateTime<Utc>> = marks.iter().map(|mark| mark.hour).collect();
    sqlx::query!(
        "DELETE FROM consumption_dirty d USING unnest($2::int[], $3::timestamptz[]) AS m (meter_id, hour)
         WHERE d.meter_id = m.meter_id AND d.hour = m.hour AND d.round < $1",
        round,
        &meters,
        &hours
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The points where the marked meters stood in the marked hours, each with the span to compute; one that has marks far
/// apart comes several times.
pub(super) async fn points(connection: &mut PgConnection, marks: &[Mark]) -> Result<Vec<Point>, StoreError> {
    let meters: Vec<i32> = marks.iter().map(|mark| mark.meter).collect();
    let hours: Vec<DateTime<Utc>> = marks.iter().map(|mark| mark.hour).collect();
    // a read of the old meter may come after the exchange by a moment: the hours beside count as well
    let rows = sqlx::query!(
        r#"SELECT DISTINCT i.point_id, m.hour AS "hour!" FROM unnest($1::int[], $2::timestamptz[]) AS m (meter_id, hour)
           JOIN installation i ON i.meter_id = m.meter_id
            AND i.valid_from < m.hour + interval '2 hours'
            AND coalesce(i.valid_to, 'infinity') > m.hour - interval '2 hours'
           ORDER BY i.point_id, m.hour"#,
        &meters,
        &hours
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut spans: Vec<(i32, DateTime<Utc>, DateTime<Utc>)> = Vec::new();
    for row in &rows {
        let to = row.hour + TimeDelta::hours(1);
        match spans.last_mut() {
            Some((point, _, end)) if *point == row.point_id && row.hour - *end < NEAR => *end = to,
            _ => spans.push((row.point_id, row.hour, to)),
        }
    }
    let ids: Vec<i32> = spans.iter().map(|span| span.0).collect();
    let rows = sqlx::query!(
        "SELECT i.point_id, i.account_id, a.time_zone, i.meter_id, i.valid_from, i.valid_to,
                i.ct_ratio, i.vt_ratio, i.opening, i.closing
         FROM installation i JOIN account a ON a.id = i.account_id
         WHERE i.point_id = ANY($1) ORDER BY i.point_id, i.valid_from",
        &ids
    )
    .fetch_all(connection)
    .await?;
    let mut points = Vec::new();
    for (id, from, to) in spans {
        let mut stands = Vec::new();
        let mut account = None;
        let first = rows.partition_point(|row| row.point_id < id);
        for row in rows.iter().skip(first).take_while(|row| row.point_id == id) {
            account = Some((row.account_id, row.time_zone.as_str()));
            stands.push(Stand {
                meter: MeterId(row.meter_id),
                from: row.valid_from,
                to: row.valid_to,
                ratio: row.ct_ratio.saturating_mul(row.vt_ratio),
                opening: registers_of(&row.opening),
                closing: registers_of(&row.closing),
            });
        }
        if let Some((account, zone)) = account {
            points.push(Point {
                id: PointId(id),
                account: AccountId(account),
                zone: zone.parse().unwrap_or(Tz::UTC),
                from,
                to,
                stands,
            });
        }
    }
    Ok(points)
}

/// `{"active_energy_import": "1234.56"}`
fn registers_of(json: &serde_json::Value) -> BTreeMap<String, Decimal> {
    let entries = json.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.parse().ok()?)))
        .collect()
}

/// The registers within and beside the points' spans, and the neighbours where none is beside.
pub(super) async fn registers(connection: &mut PgConnection, points: &[Point]) -> Result<Registers, StoreError> {
    let mut registers = Registers {
        by_meter: BTreeMap::new(),
    };
    // most points of a chunk share one span: one query for all of them
    let mut by_span: BTreeMap<(DateTime<Utc>, DateTime<Utc>), BTreeSet<MeterId>> = BTreeMap::new();
    for point in points {
        let meters = by_span.entry((point.from, point.to)).or_default();
        meters.extend(
            point
                .stands
                .iter()
                .filter(|stand| near(stand, point))
                .map(|stand| stand.meter),
        );
    }
    for ((from, to), meters) in by_span {
        let all: Vec<i32> = meters.iter().map(|meter| meter.0).collect();
        registers.load(connection, &all, from - BESIDE, to + BESIDE).await?;
        widen(connection, &mut registers, &meters, from, Side::Before).await?;
        widen(connection, &mut registers, &meters, to, Side::After).await?;
    }
    Ok(registers)
}

/// Looks further, meter by meter, where what lies beside a span is not enough.
async fn widen(
    connection: &mut PgConnection,
    registers: &mut Registers,
    meters: &BTreeSet<MeterId>,
    edge: DateTime<Utc>,
    side: Side,
) -> Result<(), StoreError> {
    let begin = match side {
        Side::Before => edge - BESIDE,
        Side::After => edge + BESIDE,
    };
    let mut cursors: BTreeMap<MeterId, DateTime<Utc>> = meters.iter().map(|meter| (*meter, begin)).collect();
    for _ in 0..LOOKS {
        cursors.retain(|meter, _| !registers.rest(*meter, edge, side));
        let found = neighbours(connection, &cursors, edge, side).await?;
        cursors.retain(|meter, _| found.contains_key(meter));
        for (meter, ts) in found {
            let (from, to, cursor) = match side {
                Side::Before => (ts - BESIDE, ts + TimeDelta::microseconds(1), ts - BESIDE),
                Side::After => (ts, ts + BESIDE, ts + BESIDE),
            };
            registers.load(connection, &[meter.0], from, to).await?;
            cursors.insert(meter, cursor);
        }
    }
    Ok(())
}

fn near(stand: &Stand, point: &Point) -> bool {
    stand.from < point.to + REACH && stand.to.is_none_or(|to| to > point.from - REACH)
}

/// Each meter's nearest reading beyond its cursor, within reach of the edge.
async fn neighbours(
    connection: &mut PgConnection,
    cursors: &BTreeMap<MeterId, DateTime<Utc>>,
    edge: DateTime<Utc>,
    side: Side,
) -> Result<BTreeMap<MeterId, DateTime<Utc>>, StoreError> {
    let mut found: BTreeMap<MeterId, DateTime<Utc>> = BTreeMap::new();
    if cursors.is_empty() {
        return Ok(found);
    }
    let meters: Vec<i32> = cursors.keys().map(|meter| meter.0).collect();
    let (from, to): (Vec<_>, Vec<_>) = cursors
        .values()
        .map(|cursor| match side {
            Side::Before => (edge - REACH, *cursor),
            Side::After => (*cursor, edge + REACH),
        })
        .unzip();
    let order = match side {
        Side::Before => "DESC",
        Side::After => "ASC",
    };
    for table in Table::ALL {
        let statement = format!(
            "SELECT m.id, n.ts FROM unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) AS m (id, since, until), \
             LATERAL (SELECT r.ts FROM {} r WHERE r.meter_id = m.id AND r.ts >= m.since AND r.ts < m.until \
                      ORDER BY r.ts {order} LIMIT 1) AS n",
            table.name()
        );
        let rows: Vec<(i32, DateTime<Utc>)> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(&meters)
            .bind(&from)
            .bind(&to)
            .fetch_all(&mut *connection)
            .await?;
        for (meter, ts) in rows {
            let place = found.entry(MeterId(meter)).or_insert(ts);
            *place = match side {
                Side::Before => ts.max(*place),
                Side::After => ts.min(*place),
            };
        }
    }
    Ok(found)
}
