//! Readings into the day's partitions: binary COPY, comparison on collision.

use super::batch::{Conflict, Key, Prepared, Reject};
use super::bisect::{Rows, guarded, put_all};
use crate::base::ids::MeterId;
use crate::store::StoreError;
use crate::store::copy::CopyBuffer;
use crate::store::wide::{self, Cell, HEADER, Laid, SideRow, SideValue, Table};
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::{HashMap, HashSet};

/// Rows go to the database in parts of about so many bytes.
const PART_LEN: usize = 64 * 1024;
const SIDE_COLUMNS: &str = "ts, meter_id, account_id, approx, source, quality, quantity, exact";
const SIDE_FIELDS: usize = 8;
/// Fewer rows are fetched and compared here: a table to hold them costs more.
const STAGED_MIN: usize = 64;

/// What became of a batch's readings.
#[derive(Debug, Default)]
pub(super) struct Outcome<'p, 'a> {
    pub(super) inserted: Vec<&'p Prepared<'a>>,
    /// Duplicates: stored before, and equal.
    pub(super) there: Vec<&'p Prepared<'a>>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) rejects: Vec<Reject>,
}

/// Writes readings, sorted by key and each key once; a day at a time, because a partition is a table of its own.
pub(super) async fn store<'p, 'a>(
    connection: &mut PgConnection,
    readings: &'p [Prepared<'a>],
) -> Result<Outcome<'p, 'a>, StoreError> {
    let mut outcome = Outcome::default();
    for day in readings.chunk_by(|a, b| a.day() == b.day()) {
        let Some(date) = day.first().map(Prepared::day) else {
            continue;
        };
        let rows: Vec<&'p Prepared<'a>> = day.iter().collect();
        store_day(connection, Day { date }, rows, &mut outcome).await?;
    }
    Ok(outcome)
}

async fn store_day<'p, 'a>(
    connection: &mut PgConnection,
    day: Day,
    rows: Vec<&'p Prepared<'a>>,
    outcome: &mut Outcome<'p, 'a>,
) -> Result<(), StoreError> {
    let new = if begins_stored(connection, day, &rows).await? {
        settle(connection, day, rows, outcome).await?
    } else {
        let Err(error) = guarded(connection, &day, &rows).await? else {
            outcome.inserted.extend(rows);
            return Ok(());
        };
        match error {
            StoreError::Unique { .. } => settle(connection, day, rows, outcome).await?,
            _ => rows,
        }
    };
    let bad = put_all(connection, &day, &new).await?;
    let is_bad = |row: &Prepared<'_>| bad.iter().any(|(bad, _)| bad.key == row.key);
    outcome.inserted.extend(new.iter().filter(|row| !is_bad(row)));
    for (row, error) in bad {
        if matches!(error, StoreError::Unique { .. }) {
            // written by somebody else between our look and our COPY
            let left = settle(connection, day, vec![row], outcome).await?;
            if left.is_empty() {
                continue;
            }
        }
        let sqlstate = match &error {
            StoreError::Data { sqlstate, .. } => sqlstate.clone(),
            _ => "23000".to_owned(),
        };
        outcome
            .rejects
            .push(Reject::reading(row.reading, &sqlstate, &error.to_string()));
    }
    Ok(())
}

/// Whether the first of many rows is there already. Then this is a replay, most likely of all of them, and a COPY that
/// ends at the first taken key would be thrown away.
async fn begins_stored(connection: &mut PgConnection, day: Day, rows: &[&Prepared<'_>]) -> Result<bool, StoreError> {
    let Some(first) = rows.first().filter(|_| rows.len() >= STAGED_MIN) else {
        return Ok(false);
    };
    let statement = format!(
        "SELECT EXISTS (SELECT FROM {} WHERE ts = $1 AND meter_id = $2 AND source = $3)",
        day.partition(first.laid.table.name())
    );
    let (there,): (bool,) = sqlx::query_as(AssertSqlSafe(statement))
        .bind(first.key.0)
        .bind(first.key.1.0)
        .bind(first.key.2)
        .fetch_one(&mut *connection)
        .await?;
    Ok(there)
}

/// Takes out the rows whose key is there already, as duplicates or conflicts; returns the new ones.
async fn settle<'p, 'a>(
    connection: &mut PgConnection,
    day: Day,
    rows: Vec<&'p Prepared<'a>>,
    outcome: &mut Outcome<'p, 'a>,
) -> Result<Vec<&'p Prepared<'a>>, StoreError> {
    let rows = without_replayed(connection, day, rows, outcome).await?;
    if rows.is_empty() {
        return Ok(rows);
    }
    let stored = fetch(connection, day, &rows).await?;
    let mut new = Vec::new();
    for row in rows {
        match stored.get(&row.key) {
            None => new.push(row),
            Some(there) if row.says(there) => outcome.there.push(row),
            Some(there) => outcome.conflicts.push(Conflict {
                account: row.reading.account,
                key: row.key,
                stored: wide::items(there),
                offered: wide::items(&row.laid),
            }),
        }
    }
    Ok(new)
}

/// Takes out what is stored to the last bit, as a replay is: the database compares, without a row on its way back. What has
/// rare quantities beside its row is left to be compared in full.
async fn without_replayed<'p, 'a>(
    connection: &mut PgConnection,
    day: Day,
    rows: Vec<&'p Prepared<'a>>,
    outcome: &mut Outcome<'p, 'a>,
) -> Result<Vec<&'p Prepared<'a>>, StoreError> {
    let mut replayed: HashSet<Key> = HashSet::new();
    for table in Table::ALL {
        let plain: Vec<&Prepared<'_>> = rows
            .iter()
            .copied()
            .filter(|row| row.laid.table == table && row.laid.side.is_empty())
            .collect();
        if plain.len() < STAGED_MIN {
            continue;
        }
        let stage = format!("pg_temp.offered_{}", table.name());
        let question = format!(
            "SELECT to_regclass('{stage}') IS NOT NULL, has_database_privilege(current_database(), 'TEMPORARY')"
        );
        let (there, may): (bool, bool) = sqlx::query_as(AssertSqlSafe(question))
            .fetch_one(&mut *connection)
            .await?;
        if !may {
            // a database of somebody else's, closed to temporary tables
            break;
        }
        let clear = if there {
            format!("TRUNCATE {stage}")
        } else {
            format!(
                "CREATE TEMP TABLE offered_{} (LIKE {}) ON COMMIT DELETE ROWS",
                table.name(),
                table.name()
            )
        };
        sqlx::query(AssertSqlSafe(clear)).execute(&mut *connection).await?;
        let count = copy(connection, &stage, table.columns(), &plain, write_wide).await?;
        let same = format!(
            "FROM {stage} o JOIN {} r USING (ts, meter_id, source) \
             WHERE o *= r AND NOT EXISTS (SELECT FROM {} s WHERE s.ts = o.ts AND s.meter_id = o.meter_id \
             AND s.source = o.source)",
            day.partition(table.name()),
            day.partition("reading_side")
        );
        let (alike,): (i64,) = sqlx::query_as(AssertSqlSafe(format!("SELECT count(*) {same}")))
            .fetch_one(&mut *connection)
            .await?;
        if alike.cast_unsigned() == count {
            // as a replay is: all of it
            replayed.extend(plain.iter().map(|row| row.key));
            continue;
        }
        let statement = format!("SELECT o.ts, o.meter_id, o.source {same}");
        for row in &sqlx::query(AssertSqlSafe(statement))
            .fetch_all(&mut *connection)
            .await?
        {
            replayed.insert(key_of(row)?);
        }
    }
    let (there, rest) = rows.into_iter().partition(|row| replayed.contains(&row.key));
    outcome.there.extend::<Vec<_>>(there);
    Ok(rest)
}

/// A day's partitions.
#[derive(Clone, Copy)]
struct Day {
    date: NaiveDate,
}

impl Day {
    fn partition(self, parent: &str) -> String {
        format!("{parent}_{}", self.date.format("%Y%m%d"))
    }
}

impl<'p, 'a> Rows<&'p Prepared<'a>> for Day {
    async fn put(&self, connection: &mut PgConnection, rows: &[&'p Prepared<'a>]) -> Result<(), StoreError> {
        for table in Table::ALL {
            let partition = self.partition(table.name());
            let of_table: Vec<&Prepared<'_>> = rows.iter().copied().filter(|row| row.laid.table == table).collect();
            copy(connection, &partition, table.columns(), &of_table, write_wide).await?;
        }
        let with_sides: Vec<&Prepared<'_>> = rows.iter().copied().filter(|row| !row.laid.side.is_empty()).collect();
        let partition = self.partition("reading_side");
        copy(connection, &partition, SIDE_COLUMNS, &with_sides, write_sides).await?;
        Ok(())
    }
}

/// Puts what `write` makes of each row, and answers how many rows of the table that were. They go in parts, so that the database
/// has work while the next part is made.
async fn copy(
    connection: &mut PgConnection,
    partition: &str,
    columns: &str,
    rows: &[&Prepared<'_>],
    write: fn(&mut CopyBuffer, &Prepared<'_>) -> u64,
) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let statement = format!("COPY {partition} ({columns}) FROM STDIN WITH (FORMAT binary)");
    let mut copy = connection.copy_in_raw(&statement).await?;
    let (mut buffer, mut count) = (CopyBuffer::new(PART_LEN), 0);
    for row in rows {
        count += write(&mut buffer, row);
        if buffer.len() >= PART_LEN {
            copy.send(buffer.take()).await?;
        }
    }
    copy.send(buffer.finish()).await?;
    let written = copy.finish().await?;
    if written == count {
        Ok(count)
    } else {
        Err(StoreError::Internal(format!(
            "COPY took {written} of {count} rows of {partition}"
        )))
    }
}

fn write_wide(buffer: &mut CopyBuffer, row: &Prepared<'_>) -> u64 {
    let reading = row.reading;
    buffer.row(HEADER.len() + row.laid.cells.len());
    buffer.timestamp(row.key.0);
    buffer.timestamp(reading.read_at);
    match reading.meter_time {
        Some(at) => buffer.timestamp(at),
        None => buffer.null(),
    }
    buffer.i64(reading.poll.0);
    buffer.i64(reading.frames.first.0);
    buffer.i32(reading.meter.0);
    buffer.i32(reading.account.0);
    buffer.i16(row.key.2);
    buffer.i16(i16::try_from(reading.frames.count).unwrap_or(i16::MAX));
    if row.laid.quality.is_empty() {
        buffer.null();
    } else {
        buffer.jsonb(&super::batch::json(&row.laid.quality));
    }
    for cell in &row.laid.cells {
        match cell {
            None => buffer.null(),
            Some(Cell::Real(value)) => buffer.f32(*value),
            Some(Cell::Numeric(value)) => buffer.numeric(*value),
        }
    }
    1
}

fn write_sides(buffer: &mut CopyBuffer, row: &Prepared<'_>) -> u64 {
    for side in &row.laid.side {
        write_side(buffer, row, side);
    }
    row.laid.side.len() as u64
}

fn write_side(buffer: &mut CopyBuffer, row: &Prepared<'_>, side: &SideRow) {
    buffer.row(SIDE_FIELDS);
    buffer.timestamp(row.key.0);
    buffer.i32(row.reading.meter.0);
    buffer.i32(row.reading.account.0);
    match side.value {
        SideValue::Approx(value) => buffer.f64(value),
        SideValue::Exact(_) => buffer.null(),
    }
    buffer.i16(row.key.2);
    buffer.i16(wide::quality_code(side.quality));
    buffer.text(&side.name);
    match side.value {
        SideValue::Exact(value) => buffer.numeric(value),
        SideValue::Approx(_) => buffer.null(),
    }
}

/// The stored rows under the keys of `rows`.
async fn fetch(
    connection: &mut PgConnection,
    day: Day,
    rows: &[&Prepared<'_>],
) -> Result<HashMap<Key, Laid>, StoreError> {
    let ts: Vec<DateTime<Utc>> = rows.iter().map(|row| row.key.0).collect();
    let meters: Vec<i32> = rows.iter().map(|row| row.key.1.0).collect();
    let sources: Vec<i16> = rows.iter().map(|row| row.key.2).collect();
    let mut stored = HashMap::new();
    // electricity last: should a key be in both tables (a meter whose model changed family), the row that has most says
    for table in [Table::Fluid, Table::Electricity] {
        let statement = format!(
            "SELECT {} FROM {} JOIN unnest($1::timestamptz[], $2::int[], $3::smallint[]) AS k (ts, meter_id, source) \
             USING (ts, meter_id, source)",
            table.columns(),
            day.partition(table.name())
        );
        let found = sqlx::query(AssertSqlSafe(statement))
            .bind(&ts)
            .bind(&meters)
            .bind(&sources)
            .fetch_all(&mut *connection)
            .await?;
        for row in &found {
            stored.insert(key_of(row)?, wide::from_row(table, row)?);
        }
    }
    let statement = format!(
        "SELECT {SIDE_COLUMNS} FROM {} JOIN unnest($1::timestamptz[], $2::int[], $3::smallint[]) \
         AS k (ts, meter_id, source) USING (ts, meter_id, source) ORDER BY quantity",
        day.partition("reading_side")
    );
    let found = sqlx::query(AssertSqlSafe(statement))
        .bind(&ts)
        .bind(&meters)
        .bind(&sources)
        .fetch_all(&mut *connection)
        .await?;
    for row in &found {
        if let Some(laid) = stored.get_mut(&key_of(row)?) {
            laid.side.push(wide::side_from_row(row)?);
        }
    }
    Ok(stored)
}

fn key_of(row: &PgRow) -> Result<Key, StoreError> {
    Ok((
        row.try_get("ts")?,
        MeterId(row.try_get("meter_id")?),
        row.try_get("source")?,
    ))
}
