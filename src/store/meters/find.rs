//! Meters as they are shown, by filter: with their state, their place and the schedules that apply.

use crate::base::ids::{DtuId, GroupId, MeterId, PointId, ScheduleId};
use crate::port::meters::{Meter, MeterQuery, MeterState, ScheduleOrigin};
use crate::port::scope::StoreError;
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;

/// A missing slot makes a meter `failing` for at most this long; older misses are history.
pub(super) const MISS_LOOKBACK: TimeDelta = TimeDelta::days(7);

pub(super) struct Row {
    id: i32,
    dtu_id: i32,
    protocol: String,
    address: String,
    model: String,
    name: String,
    comment: String,
    group_id: Option<i32>,
    point_id: Option<i32>,
    ct_ratio: Decimal,
    vt_ratio: Decimal,
    schedules: Vec<i32>,
    schedules_from: String,
    state: String,
    last_success_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    version: i32,
    pub(super) total: i64,
}

impl TryFrom<Row> for Meter {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let state = MeterState::by_name(&row.state)
            .ok_or_else(|| StoreError::Internal(format!("meter state {:?}", row.state)))?;
        let schedules_from = match row.schedules_from.as_str() {
            "meter" => ScheduleOrigin::Meter,
            "dtu" => ScheduleOrigin::Dtu,
            "account" => ScheduleOrigin::Account,
            _ => ScheduleOrigin::None,
        };
        Ok(Self {
            id: MeterId(row.id),
            dtu_id: DtuId(row.dtu_id),
            protocol: row.protocol,
            address: row.address,
            model: row.model,
            name: row.name,
            comment: row.comment,
            group_id: row.group_id.map(GroupId),
            point_id: row.point_id.map(PointId),
            ct_ratio: row.ct_ratio.normalize(),
            vt_ratio: row.vt_ratio.normalize(),
            schedules: row.schedules.into_iter().map(ScheduleId).collect(),
            schedules_from,
            state,
            last_success_at: row.last_success_at,
            created_at: row.created_at,
            version: row.version,
        })
    }
}

/// `%text%` for ILIKE, with its wildcards taken literally.
pub(in crate::store) fn like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Meters by filter, and their total; `only` is one meter's id. Exchanged meters are kept visible for their history.
pub(super) async fn select(
    tx: &mut PgConnection,
    query: &MeterQuery,
    only: Option<MeterId>,
    since: DateTime<Utc>,
) -> Result<Vec<Row>, StoreError> {
    sqlx::query_as!(
        Row,
        r#"WITH last AS (
               SELECT l.meter_id, max(l.read_at) AS read_at FROM latest_reading l GROUP BY l.meter_id
           ), miss AS (
               SELECT e.meter_id, max(e.due_at) AS due_at FROM slot_ending e
               WHERE e.state = 'missing' AND e.due_at >= $8 GROUP BY e.meter_id
           ), found AS MATERIALIZED (
               SELECT m.id, last.read_at,
                      CASE WHEN m.deleted_at IS NOT NULL THEN 'removed'
                           WHEN last.read_at IS NULL AND miss.due_at IS NULL THEN 'new'
                           WHEN last.read_at IS NULL OR miss.due_at > last.read_at THEN 'failing'
                           ELSE 'ok' END AS state
               FROM meter m
               JOIN dtu d ON d.id = m.dtu_id
               LEFT JOIN last ON last.meter_id = m.id
               LEFT JOIN miss ON miss.meter_id = m.id
               WHERE ($1::int IS NULL OR m.id = $1)
                 AND ($2::text IS NULL OR m.name ILIKE $2 OR m.comment ILIKE $2 OR m.address ILIKE $2
                      OR m.model ILIKE $2 OR d.sn ILIKE $2)
                 AND ($3::int IS NULL OR m.dtu_id = $3)
                 AND ($4::int IS NULL OR m.group_id = $4)
                 AND (m.deleted_at IS NULL
                      OR (($1::int IS NOT NULL OR $5::text = 'removed')
                          AND EXISTS (SELECT FROM installation x WHERE x.meter_id = m.id AND x.closing <> '{}')))
           ), wanted AS MATERIALIZED (
               SELECT * FROM found WHERE $5::text IS NULL OR found.state = $5
           )
           SELECT m.id, m.dtu_id, m.protocol, m.address, m.model, m.name, m.comment, m.group_id,
                  i.point_id AS "point_id?", coalesce(i.ct_ratio, 1) AS "ct_ratio!", coalesce(i.vt_ratio, 1) AS "vt_ratio!",
                  coalesce((SELECT array_agg(ms.schedule_id ORDER BY ms.schedule_id) FROM meter_schedule ms
                            WHERE ms.meter_id = m.id AND ms.valid_to IS NULL), '{}') AS "schedules!",
                  CASE WHEN EXISTS (SELECT FROM meter_own_schedule o WHERE o.meter_id = m.id) THEN 'meter'
                       WHEN d.schedule_id IS NOT NULL THEN 'dtu'
                       WHEN a.schedule_id IS NOT NULL THEN 'account' ELSE 'none' END AS "schedules_from!",
                  w.state AS "state!", w.read_at AS "last_success_at?", m.created_at, m.version,
                  (SELECT count(*) FROM wanted) AS "total!"
           FROM wanted w
           JOIN meter m ON m.id = w.id
           JOIN dtu d ON d.id = m.dtu_id
           JOIN account a ON a.id = m.account_id
           LEFT JOIN LATERAL (SELECT x.point_id, x.ct_ratio, x.vt_ratio FROM installation x
                              WHERE x.meter_id = m.id ORDER BY x.valid_from DESC LIMIT 1) i ON true
           WHERE $6::int IS NULL OR w.id > $6
           ORDER BY m.id LIMIT $7"#,
        only.map(|id| id.0),
        query.text.as_deref().map(like),
        query.dtu.map(|id| id.0),
        query.group.map(|id| id.0),
        query.state.map(MeterState::as_str),
        query.after.map(|id| id.0),
        i64::from(query.limit),
        since,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::from)
}

pub(super) async fn find(tx: &mut PgConnection, id: MeterId, now: DateTime<Utc>) -> Result<Meter, StoreError> {
    let query = MeterQuery {
        limit: 1,
        ..MeterQuery::default()
    };
    let rows = select(tx, &query, Some(id), now - MISS_LOOKBACK).await?;
    rows.into_iter().next().ok_or(StoreError::NotFound("meter"))?.try_into()
}

/// Checks that a meter is the account's and still shown.
pub(in crate::store) async fn check(tx: &mut PgConnection, id: MeterId) -> Result<(), StoreError> {
    sqlx::query_scalar!(
        "SELECT m.id FROM meter m WHERE m.id = $1 AND (m.deleted_at IS NULL
             OR EXISTS (SELECT FROM installation x WHERE x.meter_id = m.id AND x.closing <> '{}'))",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?
    .map(|_| ())
    .ok_or(StoreError::NotFound("meter"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn wildcards_are_taken_literally() {
        assert_eq!(super::like(r"50%_a\b"), r"%50\%\_a\\b%");
    }
}
