//! Readings over many meters, in the order of the tables' key: by instant, then meter, then source.

use super::handles::AccountHandle;
use super::history::{Header, header, holds, names};
use super::wide::{self, SideRow, SideValue, Table};
use crate::domain::reading::Reading;
use crate::port::readings::SweepQuery;
use crate::port::scope::StoreError;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::HashMap;

/// A reading's key.
type Key = (DateTime<Utc>, i32, i16);

/// A page.
pub(super) async fn page(handle: &AccountHandle, query: &SweepQuery) -> Result<Vec<Reading>, StoreError> {
    let mut tx = handle.begin().await?;
    let mut headers = Vec::new();
    for table in Table::ALL {
        headers.extend(select(&mut tx, table, query).await?);
    }
    headers.sort_by_key(key);
    headers.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
    let mut readings = complete(&mut tx, headers).await?;
    if !query.measurands.is_empty() {
        for reading in &mut readings {
            reading.items.retain(|item| query.measurands.contains(&item.measurand));
        }
    }
    Ok(readings)
}

fn key(header: &Header) -> Key {
    (header.reading.ts, header.reading.meter.0, header.source)
}

async fn select(tx: &mut PgConnection, table: Table, query: &SweepQuery) -> Result<Vec<Header>, StoreError> {
    let whose = if query.meters.is_empty() {
        "cardinality($6::int[]) = 0"
    } else {
        "r.meter_id = ANY($6)"
    };
    let statement = format!(
        "SELECT {} FROM {} r WHERE r.ts >= $1 AND r.ts < $2 \
         AND (r.ts, r.meter_id, r.source) > ($3::timestamptz, $4::int, $5::smallint) AND {whose} AND ({}) \
         ORDER BY r.ts, r.meter_id, r.source LIMIT $8",
        table.columns(),
        table.name(),
        holds(table, &query.measurands),
    );
    // ids of meters and codes of sources are never negative: nothing lies before this place at `from`
    let (ts, meter, source) = query.after.map_or((query.from, -1, -1), |(ts, meter, source)| {
        (ts, meter.0, wide::source_code(source))
    });
    let meters: Vec<i32> = query.meters.iter().map(|meter| meter.0).collect();
    sqlx::query(AssertSqlSafe(statement))
        .bind(ts.max(query.from))
        .bind(query.to)
        .bind(ts)
        .bind(meter)
        .bind(source)
        .bind(meters)
        .bind(names(&query.measurands))
        .bind(i64::from(query.limit))
        .fetch_all(tx)
        .await?
        .iter()
        .map(|row| header(row, table))
        .collect()
}

/// Joins headers with their side rows.
async fn complete(tx: &mut PgConnection, headers: Vec<Header>) -> Result<Vec<Reading>, StoreError> {
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
        return Ok(Vec::new());
    };
    let (first, last) = (first.reading.ts, last.reading.ts);
    let mut instants = Vec::with_capacity(headers.len());
    let mut meters = Vec::with_capacity(headers.len());
    let mut sources = Vec::with_capacity(headers.len());
    for (ts, meter, source) in headers.iter().map(key) {
        instants.push(ts);
        meters.push(meter);
        sources.push(source);
    }
    let rows = sqlx::query!(
        "SELECT s.ts, s.meter_id, s.source, s.quantity, s.quality, s.exact, s.approx
         FROM unnest($1::timestamptz[], $2::int[], $3::smallint[]) AS k (ts, meter_id, source)
         JOIN reading_side s ON s.ts = k.ts AND s.meter_id = k.meter_id AND s.source = k.source
         WHERE s.ts BETWEEN $4 AND $5 ORDER BY s.quantity",
        &instants,
        &meters,
        &sources,
        first,
        last
    )
    .fetch_all(tx)
    .await?;
    let mut side: HashMap<Key, Vec<SideRow>> = HashMap::new();
    for row in rows {
        let value = match (row.exact, row.approx) {
            (Some(exact), _) => SideValue::Exact(exact),
            (None, Some(approx)) => SideValue::Approx(approx),
            (None, None) => continue,
        };
        side.entry((row.ts, row.meter_id, row.source))
            .or_default()
            .push(SideRow {
                name: row.quantity,
                value,
                quality: wide::quality_by_code(row.quality),
            });
    }
    Ok(headers
        .into_iter()
        .map(|mut header| {
            header.laid.side = side.remove(&key(&header)).unwrap_or_default();
            header.reading.items = wide::items(&header.laid);
            header.reading
        })
        .collect())
}
