//! Readings of an account as they are looked at: history, latest values, statistics for charts.
//!
//! A reading lies in one row of a wide table and, for what has no column there, in rows of `reading_side`; here it is
//! put together again. Statements are made of the closed list of columns and of nothing that a caller wrote.

use super::handles::{AccountHandle, PgStores};
use super::wide::{self, Cell, Laid, QualityExceptions, SideRow, SideValue, Table};
use super::{consumed, meters, points, sweep};
use crate::base::ids::{AccountId, FrameId, FrameRange, MeterId, PointId, PollId};
use crate::domain::quantity::{Kind, Quantity};
use crate::domain::reading::{Item, Measurand, Reading};
use crate::port::readings::{
    ConsumptionItem, ConsumptionQuery, ReadingHistory, ReadingItem, ReadingsQuery, SeriesBucket, SeriesQuery,
    SeriesSubject, SweepQuery, item_of,
};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::{BTreeMap, HashMap};

/// A reading's key within its meter.
type Key = (DateTime<Utc>, i16);

/// A header row of a wide table, not yet joined with its side rows.
pub(super) struct Header {
    pub(super) reading: Reading,
    pub(super) laid: Laid,
    pub(super) source: i16,
}

pub(super) fn header(row: &PgRow, table: Table) -> Result<Header, StoreError> {
    let source: i16 = row.try_get("source")?;
    let count: i16 = row.try_get("frame_count")?;
    let quality: Option<Json<QualityExceptions>> = row.try_get("quality")?;
    let mut cells = Vec::with_capacity(table.quantities().len());
    for quantity in table.quantities() {
        cells.push(match quantity.kind() {
            Kind::Register => row.try_get::<Option<Decimal>, _>(quantity.name())?.map(Cell::Numeric),
            Kind::Instant | Kind::State => row.try_get::<Option<f32>, _>(quantity.name())?.map(Cell::Real),
        });
    }
    Ok(Header {
        reading: Reading {
            account: AccountId(row.try_get("account_id")?),
            meter: MeterId(row.try_get("meter_id")?),
            ts: row.try_get("ts")?,
            source: wide::source_by_code(source)
                .ok_or_else(|| StoreError::Internal(format!("{}.source is {source}", table.name())))?,
            read_at: row.try_get("read_at")?,
            meter_time: row.try_get("meter_time")?,
            poll: PollId(row.try_get("poll_id")?),
            frames: FrameRange {
                first: FrameId(row.try_get("frame_first")?),
                count: u16::try_from(count).unwrap_or(0),
            },
            items: Vec::new(),
        },
        laid: Laid {
            table,
            cells,
            quality: quality.map(|json| json.0).unwrap_or_default(),
            side: Vec::new(),
        },
        source,
    })
}

/// Joins headers with their side rows.
async fn complete(tx: &mut PgConnection, meter: MeterId, headers: Vec<Header>) -> Result<Vec<Reading>, StoreError> {
    let instants: Vec<DateTime<Utc>> = headers.iter().map(|header| header.reading.ts).collect();
    let (Some(first), Some(last)) = (instants.iter().min(), instants.iter().max()) else {
        return Ok(Vec::new());
    };
    let mut side: HashMap<Key, Vec<SideRow>> = HashMap::new();
    for row in sqlx::query!(
        "SELECT ts, source, quantity, quality, exact, approx FROM reading_side
         WHERE meter_id = $1 AND ts = ANY($2) AND ts BETWEEN $3 AND $4 ORDER BY quantity",
        meter.0,
        &instants,
        *first,
        *last
    )
    .fetch_all(tx)
    .await?
    {
        let value = match (row.exact, row.approx) {
            (Some(exact), _) => SideValue::Exact(exact),
            (None, Some(approx)) => SideValue::Approx(approx),
            (None, None) => continue,
        };
        side.entry((row.ts, row.source)).or_default().push(SideRow {
            name: row.quantity,
            value,
            quality: wide::quality_by_code(row.quality),
        });
    }
    Ok(headers
        .into_iter()
        .map(|mut header| {
            header.laid.side = side.remove(&(header.reading.ts, header.source)).unwrap_or_default();
            header.reading.items = wide::items(&header.laid);
            header.reading
        })
        .collect())
}

/// The columns of `table` among `measurands`.
fn columns(table: Table, measurands: &[Measurand]) -> Vec<Quantity> {
    let wanted = |quantity: &Quantity| measurands.contains(&Measurand::Standard(*quantity));
    table.quantities().iter().copied().filter(wanted).collect()
}

/// Whether a row holds one of the wanted quantities: in a column, or aside under one of the names in `$7`.
pub(super) fn holds(table: Table, measurands: &[Measurand]) -> String {
    if measurands.is_empty() {
        return "cardinality($7::text[]) = 0".to_owned();
    }
    let mut any: Vec<String> = columns(table, measurands)
        .iter()
        .map(|quantity| format!("r.{} IS NOT NULL", quantity.name()))
        .collect();
    any.push(
        "EXISTS (SELECT FROM reading_side s WHERE s.ts = r.ts AND s.meter_id = r.meter_id \
         AND s.source = r.source AND s.quantity = ANY($7))"
            .to_owned(),
    );
    any.join(" OR ")
}

pub(super) fn names(measurands: &[Measurand]) -> Vec<String> {
    measurands.iter().map(|m| wide::measurand_name(m).to_owned()).collect()
}

async fn select(
    tx: &mut PgConnection,
    meter: MeterId,
    table: Table,
    query: &ReadingsQuery,
) -> Result<Vec<Header>, StoreError> {
    let statement = format!(
        "SELECT {} FROM {} r WHERE r.meter_id = $1 AND r.ts >= $2 AND r.ts < $3 \
         AND (r.ts, r.source) >= ($4::timestamptz, $5::smallint) AND ({}) ORDER BY r.ts, r.source LIMIT $6",
        table.columns(),
        table.name(),
        holds(table, &query.measurands),
    );
    // the place narrows the days that are looked into as well
    let begin = query.place.map_or(query.from, |place| place.ts.max(query.from));
    let source = query.place.map_or(0, |place| wide::source_code(place.source));
    sqlx::query(AssertSqlSafe(statement))
        .bind(meter.0)
        .bind(begin)
        .bind(query.to)
        .bind(begin)
        .bind(source)
        .bind(i64::from(query.limit))
        .bind(names(&query.measurands))
        .fetch_all(tx)
        .await?
        .iter()
        .map(|row| header(row, table))
        .collect()
}

/// The rows that `latest_reading` points at.
pub(super) async fn pointed(tx: &mut PgConnection, meter: MeterId) -> Result<Vec<Reading>, StoreError> {
    let pointers = sqlx::query!(
        "SELECT DISTINCT ts, source, family FROM latest_reading WHERE meter_id = $1",
        meter.0
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut headers = Vec::new();
    for pointer in pointers {
        let Some(table) = Table::by_code(pointer.family) else {
            return Err(StoreError::Internal(format!(
                "latest_reading.family is {}",
                pointer.family
            )));
        };
        let statement = format!(
            "SELECT {} FROM {} WHERE ts = $1 AND meter_id = $2 AND source = $3",
            table.columns(),
            table.name()
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(pointer.ts)
            .bind(meter.0)
            .bind(pointer.source)
            .fetch_optional(&mut *tx)
            .await?;
        // none: retention has dropped that day
        headers.extend(row.map(|row| header(&row, table)).transpose()?);
    }
    complete(tx, meter, headers).await
}

/// The newest item of each measurand, in the order of the list of quantities, then vendor quantities by name.
fn newest(readings: &[Reading]) -> Vec<ReadingItem> {
    let mut newest: BTreeMap<&Measurand, (&Reading, &Item)> = BTreeMap::new();
    for reading in readings {
        for item in &reading.items {
            newest
                .entry(&item.measurand)
                .and_modify(|kept| {
                    if (kept.0.read_at, kept.0.ts) < (reading.read_at, reading.ts) {
                        *kept = (reading, item);
                    }
                })
                .or_insert((reading, item));
        }
    }
    newest
        .into_values()
        .map(|(reading, item)| item_of(reading, item))
        .collect()
}

/// Whose readings a series shows, each over the time in which it counts.
struct Whose {
    meters: Vec<i32>,
    since: Vec<DateTime<Utc>>,
    until: Vec<DateTime<Utc>>,
}

async fn whose(tx: &mut PgConnection, query: &SeriesQuery) -> Result<Whose, StoreError> {
    let mut whose = Whose {
        meters: Vec::new(),
        since: Vec::new(),
        until: Vec::new(),
    };
    let mut add = |meter, since: DateTime<Utc>, until: DateTime<Utc>| {
        whose.meters.push(meter);
        whose.since.push(since.max(query.from));
        whose.until.push(until.min(query.to));
    };
    match query.subject {
        SeriesSubject::Meter(meter) => {
            meters::check(tx, meter).await?;
            add(meter.0, query.from, query.to);
        }
        SeriesSubject::Point(point) => {
            points::check(tx, point).await?;
            for (meter, since, until) in stands(tx, point).await? {
                add(meter.0, since, until.unwrap_or(query.to));
            }
        }
        SeriesSubject::Group(group) => {
            sqlx::query_scalar!(
                "SELECT id FROM meter_group WHERE id = $1 AND deleted_at IS NULL",
                group.0
            )
            .fetch_optional(&mut *tx)
            .await?
            .ok_or(StoreError::NotFound("group"))?;
            for meter in sqlx::query_scalar!(
                "SELECT id FROM meter WHERE group_id = $1 AND deleted_at IS NULL",
                group.0
            )
            .fetch_all(&mut *tx)
            .await?
            {
                add(meter, query.from, query.to);
            }
        }
    }
    Ok(whose)
}

type Stand = (MeterId, DateTime<Utc>, Option<DateTime<Utc>>);

/// Who stood at a point when.
async fn stands(tx: &mut PgConnection, point: PointId) -> Result<Vec<Stand>, StoreError> {
    let rows = sqlx::query!(
        "SELECT meter_id, valid_from, valid_to FROM installation WHERE point_id = $1 ORDER BY valid_from",
        point.0
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (MeterId(row.meter_id), row.valid_from, row.valid_to))
        .collect())
}

/// One source of values: `SELECT ts, v` of a table, restricted to whose values they are.
fn values(table: &str, value: &str, only: &str) -> String {
    format!(
        "SELECT r.ts, {value} AS v FROM unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) AS w (meter_id, since, until) \
         JOIN {table} r ON r.meter_id = w.meter_id AND r.ts >= w.since AND r.ts < w.until \
         WHERE r.ts >= $4 AND r.ts < $5 AND {only}"
    )
}

fn series_statement(measurand: &Measurand) -> String {
    let mut sources = vec![values(
        "reading_side",
        "coalesce(r.exact, r.approx::text::numeric)",
        "r.quantity = $7",
    )];
    if let Measurand::Standard(quantity) = measurand
        && let Some(table) = Table::of(*quantity)
    {
        let column = quantity.name();
        // by its text a float keeps the digits it was written with; a cast would keep six
        let value = match quantity.kind() {
            Kind::Register => format!("r.{column}"),
            Kind::Instant | Kind::State => format!("r.{column}::text::numeric"),
        };
        sources.push(values(table.name(), &value, &format!("r.{column} IS NOT NULL")));
    }
    format!(
        "SELECT date_bin(make_interval(secs => $6), ts, $4) AS at, count(*) AS count, min(v)::text AS min, \
                max(v)::text AS max, round(avg(v), 6)::text AS mean \
         FROM ({}) AS value GROUP BY 1 ORDER BY 1",
        sources.join(" UNION ALL ")
    )
}

fn bucket(row: &PgRow) -> Result<Option<SeriesBucket>, StoreError> {
    let count: i64 = row.try_get("count")?;
    let number = |column: &str| -> Result<Option<Decimal>, StoreError> {
        let text: Option<String> = row.try_get(column)?;
        // what is no finite decimal (NaN, infinity) makes no point of a chart
        Ok(text
            .and_then(|text| text.parse::<Decimal>().ok())
            .map(|number| number.normalize()))
    };
    let (Some(min), Some(max), Some(mean)) = (number("min")?, number("max")?, number("mean")?) else {
        return Ok(None);
    };
    Ok(Some(SeriesBucket {
        at: row.try_get("at")?,
        count: u64::try_from(count).unwrap_or(0),
        min,
        max,
        mean,
    }))
}

impl InAccount<dyn ReadingHistory> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn ReadingHistory> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl ReadingHistory for AccountHandle {
    async fn readings(&self, meter: MeterId, query: &ReadingsQuery) -> Result<Vec<Reading>, StoreError> {
        let mut tx = self.begin().await?;
        meters::check(&mut tx, meter).await?;
        let mut headers = Vec::new();
        for table in Table::ALL {
            headers.extend(select(&mut tx, meter, table, query).await?);
        }
        headers.sort_by_key(|header| (header.reading.ts, header.source));
        headers.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        let mut readings = complete(&mut tx, meter, headers).await?;
        if !query.measurands.is_empty() {
            for reading in &mut readings {
                reading.items.retain(|item| query.measurands.contains(&item.measurand));
            }
        }
        Ok(readings)
    }

    async fn sweep(&self, query: &SweepQuery) -> Result<Vec<Reading>, StoreError> {
        sweep::page(self, query).await
    }

    async fn latest(&self, meter: MeterId) -> Result<Vec<ReadingItem>, StoreError> {
        let mut tx = self.begin().await?;
        meters::check(&mut tx, meter).await?;
        Ok(newest(&pointed(&mut tx, meter).await?))
    }

    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesBucket>, StoreError> {
        let mut tx = self.begin().await?;
        let whose = whose(&mut tx, query).await?;
        let rows = sqlx::query(AssertSqlSafe(series_statement(&query.measurand)))
            .bind(whose.meters)
            .bind(whose.since)
            .bind(whose.until)
            .bind(query.from)
            .bind(query.to)
            .bind(f64::from(query.bucket_s))
            .bind(wide::measurand_name(&query.measurand))
            .fetch_all(&mut *tx)
            .await?;
        let buckets: Result<Vec<_>, _> = rows.iter().map(bucket).collect();
        Ok(buckets?.into_iter().flatten().collect())
    }
    async fn consumption(&self, query: &ConsumptionQuery) -> Result<Vec<ConsumptionItem>, StoreError> {
        let mut tx = self.begin().await?;
        consumed::consumption(&mut tx, query).await
    }
}
