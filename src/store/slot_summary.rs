//! Success rates over spans of time: whole hours and days from the roll-ups, what is at the edges and what came in since
//! the last roll-up from the rows themselves. Both count alike, so the split is not seen.

use crate::base::ids::{DtuId, MeterId};
use crate::port::scope::StoreError;
use crate::port::slots::{SlotSummaryItem, SlotSummaryQuery, SlotTally, SummaryBy};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// An hour of the wall clock lasts at most so long: where clocks go back by half an hour, an hour and a half.
const HOUR_MAX: TimeDelta = TimeDelta::hours(2);

/// What a row of a summary is of.
type Group = (Option<i32>, Option<i32>, Option<NaiveDate>);

struct Row {
    dtu_id: Option<i32>,
    meter_id: Option<i32>,
    day: Option<NaiveDate>,
    actual: i64,
    late: i64,
    estimated: i64,
    missing: i64,
}

/// How a span is divided. The hours are named by their beginning, as `date_trunc('hour', at, zone)` names them.
struct Parts {
    /// The account's zone, in which hours and days are rolled up.
    zone: String,
    /// Slots of this hour at the beginning of the span, which holds only a part of it.
    first: Option<DateTime<Utc>>,
    /// Hours behind `first` and before this one come from the roll-ups; from here on, from the rows.
    rest: DateTime<Utc>,
    /// Whole days within these hours; none when empty.
    days: (DateTime<Utc>, DateTime<Utc>),
}

/// The groups of a summary, in order, at most its limit.
pub(super) async fn summary(
    tx: &mut PgConnection,
    query: &SlotSummaryQuery,
) -> Result<Vec<SlotSummaryItem>, StoreError> {
    let parts = parts(tx, query).await?;
    let mut rows = Vec::new();
    // days of another zone do not end with hours of the account's
    if parts.rest <= query.from || (query.by == SummaryBy::Day && parts.zone != query.zone.name()) {
        rows.extend(counted(tx, query, &parts.zone, (query.from, query.to), None, None).await?);
    } else {
        if let Some(first) = parts.first {
            let span = (query.from, query.to.min(first + HOUR_MAX));
            rows.extend(counted(tx, query, &parts.zone, span, Some(first), None).await?);
        }
        rows.extend(rolled_up(tx, query, &parts).await?);
        let span = (parts.rest.max(query.from), query.to);
        rows.extend(counted(tx, query, &parts.zone, span, None, Some(parts.rest)).await?);
    }
    let mut groups: BTreeMap<Group, [i64; 4]> = BTreeMap::new();
    for row in rows {
        let sum = groups.entry((row.dtu_id, row.meter_id, row.day)).or_default();
        for (sum, more) in sum.iter_mut().zip([row.actual, row.late, row.estimated, row.missing]) {
            *sum = sum.saturating_add(more);
        }
    }
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let item = |((dtu, meter, day), [actual, late, estimated, missing]): (Group, [i64; 4])| SlotSummaryItem {
        dtu_id: dtu.map(DtuId),
        meter_id: meter.map(MeterId),
        day,
        tally: SlotTally::of(actual, late, estimated, missing),
    };
    let some = groups
        .into_iter()
        .filter(|(_, counts)| counts.iter().any(|count| *count > 0));
    Ok(some.take(limit).map(item).collect())
}

fn by(query: &SlotSummaryQuery) -> &'static str {
    match query.by {
        SummaryBy::Dtu => "dtu",
        SummaryBy::Meter => "meter",
        SummaryBy::Day => "day",
    }
}

async fn parts(tx: &mut PgConnection, query: &SlotSummaryQuery) -> Result<Parts, StoreError> {
    // a mark is an hour of UTC, in which rows came in that are not rolled up yet
    let row = sqlx::query!(
        r#"SELECT a.time_zone, b.first AS "first!", b.rest AS "rest!",
                  date_trunc('day', b.first + interval '26 hours', a.time_zone) AS "day_first!",
                  date_trunc('day', b.rest, a.time_zone) AS "day_last!"
           FROM account a CROSS JOIN LATERAL (
               SELECT date_trunc('hour', $1::timestamptz, a.time_zone) AS first,
                      date_trunc('hour', least($2::timestamptz, min(d.hour)), a.time_zone) AS rest
               FROM hour_mark d WHERE d.polls AND d.hour > $1::timestamptz - interval '1 hour' AND d.hour < $2
           ) b"#,
        query.from,
        query.to
    )
    .fetch_one(tx)
    .await?;
    Ok(Parts {
        zone: row.time_zone,
        first: (row.first < query.from).then_some(row.first),
        rest: row.rest,
        days: (row.day_first, row.day_last),
    })
}

/// Whole hours, those of whole days by the day.
async fn rolled_up(tx: &mut PgConnection, query: &SlotSummaryQuery, parts: &Parts) -> Result<Vec<Row>, StoreError> {
    let (day_first, day_last) = parts.days;
    let behind = parts.first.unwrap_or(query.from - TimeDelta::microseconds(1));
    Ok(sqlx::query_as!(
        Row,
        r#"WITH part AS (
               SELECT day AS at, meter_id, actual, late, estimated, missing FROM meter_day
               WHERE day >= $2 AND day < $3 AND ($5::int IS NULL OR meter_id = $5)
               UNION ALL
               SELECT hour, meter_id, actual, late, estimated, missing FROM meter_hour
               WHERE hour > $1 AND hour < least($2, $4::timestamptz) AND ($5::int IS NULL OR meter_id = $5)
               UNION ALL
               SELECT hour, meter_id, actual, late, estimated, missing FROM meter_hour
               WHERE hour >= greatest($2, $3) AND hour < $4 AND ($5::int IS NULL OR meter_id = $5)
           )
           SELECT CASE WHEN $7 = 'dtu' THEN m.dtu_id END AS dtu_id,
                  CASE WHEN $7 = 'meter' THEN m.id END AS meter_id,
                  CASE WHEN $7 = 'day' THEN (p.at AT TIME ZONE $8)::date END AS day,
                  sum(p.actual)::bigint AS "actual!", sum(p.late)::bigint AS "late!",
                  sum(p.estimated)::bigint AS "estimated!", sum(p.missing)::bigint AS "missing!"
           FROM part p JOIN meter m ON m.id = p.meter_id
           WHERE $6::int IS NULL OR m.dtu_id = $6
           GROUP BY 1, 2, 3"#,
        behind,
        day_first,
        day_last,
        parts.rest,
        query.meter.map(|meter| meter.0),
        query.dtu.map(|dtu| dtu.0),
        by(query),
        parts.zone
    )
    .fetch_all(tx)
    .await?)
}

/// Slots due in a span by their rows; of one hour alone, or of this hour and later ones. A reading whose slot has an
/// ending of its own is counted by that: looked up one by one by its key, and for those alone that can have a reading,
/// because an anti-join would sort all readings of the span. That the looked up lie in the span is said once more, so
/// that the planner leaves out the other days.
async fn counted(
    tx: &mut PgConnection,
    query: &SlotSummaryQuery,
    zone: &str,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    only: Option<DateTime<Utc>>,
    since: Option<DateTime<Utc>>,
) -> Result<Vec<Row>, StoreError> {
    if from >= to {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(
        Row,
        r#"WITH ending AS MATERIALIZED (
               SELECT DISTINCT ON (due_at, meter_id, schedule_id) due_at, meter_id, state, reason FROM slot_ending
               WHERE due_at >= $1 AND due_at < $2 AND ($4::int IS NULL OR meter_id = $4)
                 AND ($8::timestamptz IS NULL OR date_trunc('hour', due_at, $7) = $8)
                 AND ($9::timestamptz IS NULL OR date_trunc('hour', due_at, $7) >= $9)
               ORDER BY due_at, meter_id, schedule_id, version DESC
           ), slot AS (
               SELECT ts AS due_at, meter_id, 1 AS actual, 0 AS late, 0 AS estimated, 0 AS missing
               FROM reading_electricity
               WHERE source = 0 AND ts >= $1 AND ts < $2 AND ($4::int IS NULL OR meter_id = $4)
                 AND ($8::timestamptz IS NULL OR date_trunc('hour', ts, $7) = $8)
                 AND ($9::timestamptz IS NULL OR date_trunc('hour', ts, $7) >= $9)
               UNION ALL
               SELECT ts, meter_id, 1, 0, 0, 0 FROM reading_fluid
               WHERE source = 0 AND ts >= $1 AND ts < $2 AND ($4::int IS NULL OR meter_id = $4)
                 AND ($8::timestamptz IS NULL OR date_trunc('hour', ts, $7) = $8)
                 AND ($9::timestamptz IS NULL OR date_trunc('hour', ts, $7) >= $9)
               UNION ALL
               SELECT due_at, meter_id, (state = 'actual')::int, (state = 'late')::int, (state = 'estimated')::int,
                      (state = 'missing')::int
               FROM ending
               UNION ALL
               SELECT e.due_at, e.meter_id, -1, 0, 0, 0
               FROM (SELECT DISTINCT due_at, meter_id FROM ending WHERE state <> 'missing' OR reason = 'partial') e
               CROSS JOIN LATERAL (
                   (SELECT FROM reading_electricity r
                    WHERE r.ts = e.due_at AND r.meter_id = e.meter_id AND r.source = 0
                      AND r.ts >= $1 AND r.ts < $2 LIMIT 1)
                   UNION ALL
                   (SELECT FROM reading_fluid r
                    WHERE r.ts = e.due_at AND r.meter_id = e.meter_id AND r.source = 0
                      AND r.ts >= $1 AND r.ts < $2 LIMIT 1)
                   LIMIT 1) found
           )
           SELECT CASE WHEN $5 = 'dtu' THEN m.dtu_id END AS dtu_id,
                  CASE WHEN $5 = 'meter' THEN m.id END AS meter_id,
                  CASE WHEN $5 = 'day' THEN (s.due_at AT TIME ZONE $6)::date END AS day,
                  sum(s.actual)::bigint AS "actual!", sum(s.late)::bigint AS "late!",
                  sum(s.estimated)::bigint AS "estimated!", sum(s.missing)::bigint AS "missing!"
           FROM slot s JOIN meter m ON m.id = s.meter_id
           WHERE $3::int IS NULL OR m.dtu_id = $3
           GROUP BY 1, 2, 3"#,
        from,
        to,
        query.dtu.map(|dtu| dtu.0),
        query.meter.map(|meter| meter.0),
        by(query),
        query.zone.name(),
        zone,
        only,
        since
    )
    .fetch_all(tx)
    .await?)
}
