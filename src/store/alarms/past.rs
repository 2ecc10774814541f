//! Stored readings and endings once more: for what a process left unjudged, and for trying a rule on a meter's past.

use crate::base::ids::{AccountId, MeterId, ScheduleId};
use crate::domain::reading::Reading;
use crate::domain::slot::{MissReason, SlotEnding, SlotState};
use crate::port::ledger::PollRecord;
use crate::store::StoreError;
use crate::store::history::{Header, header};
use crate::store::wide::{self, SideRow, SideValue, Table};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::{BTreeMap, HashMap};

/// What is received is at most so much later than what it is about.
const LATEST: TimeDelta = TimeDelta::days(1);

/// Which rows are wanted.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// Of this meter; none: of all.
    pub(super) meter: Option<MeterId>,
    /// Time stamps from.
    pub(super) from: DateTime<Utc>,
    /// Time stamps until.
    pub(super) to: DateTime<Utc>,
    /// Received at or after.
    pub(super) received: DateTime<Utc>,
    /// At most so many of each kind.
    pub(super) max: u32,
}

/// What was received at or after `since`.
pub(super) async fn received(
    tx: &mut PgConnection,
    since: DateTime<Utc>,
    max: u32,
) -> Result<Vec<PollRecord>, StoreError> {
    let span = Span {
        meter: None,
        from: since - LATEST,
        to: DateTime::<Utc>::from_timestamp(253_402_300_799, 0).unwrap_or(since),
        received: since,
        max,
    };
    records(tx, span).await
}

/// Readings and endings, each in a record of its own, by the time when we got them.
pub(super) async fn records(tx: &mut PgConnection, span: Span) -> Result<Vec<PollRecord>, StoreError> {
    let mut headers = Vec::new();
    for table in Table::ALL {
        headers.extend(rows(tx, table, span).await?);
    }
    let readings = complete(tx, headers).await?;
    let mut records: BTreeMap<(DateTime<Utc>, usize), PollRecord> = BTreeMap::new();
    let endings = endings(tx, span).await?;
    let number = endings.len();
    // an ending and the reading it belongs to may have the same instant: the reading counts last
    for (place, ending) in endings.into_iter().enumerate() {
        let record = PollRecord {
            endings: vec![ending.clone()],
            ..PollRecord::default()
        };
        records.insert((ending.ended_at, place), record);
    }
    for (place, reading) in readings.into_iter().enumerate() {
        let key = (reading.read_at, number.saturating_add(place));
        let record = PollRecord {
            reading: Some(reading),
            ..PollRecord::default()
        };
        records.insert(key, record);
    }
    Ok(records.into_values().collect())
}

async fn rows(tx: &mut PgConnection, table: Table, span: Span) -> Result<Vec<Header>, StoreError> {
    let statement = format!(
        "SELECT {} FROM {} WHERE ts >= $1 AND ts < $2 AND read_at >= $3 AND ($4::int IS NULL OR meter_id = $4) \
         ORDER BY read_at, meter_id LIMIT $5",
        table.columns(),
        table.name()
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(span.from)
        .bind(span.to)
        .bind(span.received)
        .bind(span.meter.map(|meter| meter.0))
        .bind(i64::from(span.max))
        .fetch_all(tx)
        .await?
        .iter()
        .map(|row| header(row, table).map_err(|error| StoreError::Internal(error.to_string())))
        .collect()
}

/// Joins rows of many meters with what lies aside.
pub(in crate::store) async fn complete(
    tx: &mut PgConnection,
    headers: Vec<Header>,
) -> Result<Vec<Reading>, StoreError> {
    let meters: Vec<i32> = headers.iter().map(|header| header.reading.meter.0).collect();
    let times: Vec<DateTime<Utc>> = headers.iter().map(|header| header.reading.ts).collect();
    let sources: Vec<i16> = headers.iter().map(|header| header.source).collect();
    let (Some(first), Some(last)) = (times.iter().min().copied(), times.iter().max().copied()) else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query!(
        "SELECT s.meter_id, s.ts, s.source, s.quantity, s.quality, s.exact, s.approx
         FROM unnest($1::int[], $2::timestamptz[], $3::smallint[]) AS w (meter_id, ts, source)
         JOIN reading_side s ON s.ts = w.ts AND s.meter_id = w.meter_id AND s.source = w.source
         WHERE s.ts BETWEEN $4 AND $5",
        &meters,
        &times,
        &sources,
        first,
        last
    )
    .fetch_all(tx)
    .await?;
    let mut side: HashMap<(i32, DateTime<Utc>, i16), Vec<SideRow>> = HashMap::new();
    for row in rows {
        let value = match (row.exact, row.approx) {
            (Some(exact), _) => SideValue::Exact(exact),
            (None, Some(approx)) => SideValue::Approx(approx),
            (None, None) => continue,
        };
        side.entry((row.meter_id, row.ts, row.source))
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
            let key = (header.reading.meter.0, header.reading.ts, header.source);
            header.laid.side = side.remove(&key).unwrap_or_default();
            header.reading.items = wide::items(&header.laid);
            header.reading
        })
        .collect())
}

async fn endings(tx: &mut PgConnection, span: Span) -> Result<Vec<SlotEnding>, StoreError> {
    let rows = sqlx::query!(
        "SELECT due_at, ended_at, meter_id, schedule_id, account_id, attempts, state, reason, detail FROM slot_ending
         WHERE due_at >= $1 AND due_at < $2 AND ended_at >= $3 AND ($4::int IS NULL OR meter_id = $4)
         ORDER BY ended_at, meter_id LIMIT $5",
        span.from,
        span.to,
        span.received,
        span.meter.map(|meter| meter.0) as Option<i32>,
        i64::from(span.max)
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SlotEnding {
            account: AccountId(row.account_id),
            meter: MeterId(row.meter_id),
            schedule: ScheduleId(row.schedule_id),
            due_at: row.due_at,
            state: state(&row.state),
            reason: row.reason.as_deref().and_then(reason),
            detail: row.detail,
            attempts: u16::try_from(row.attempts).unwrap_or_default(),
            ended_at: row.ended_at,
        })
        .collect())
}

fn state(name: &str) -> SlotState {
    match name {
        "actual" => SlotState::Actual,
        "late" => SlotState::Late,
        "estimated" => SlotState::Estimated,
        _ => SlotState::Missing,
    }
}

fn reason(name: &str) -> Option<MissReason> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}
