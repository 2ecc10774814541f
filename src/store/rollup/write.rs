//! Writes what a roll-up computed: hours as they are, days as the sums of their hours.

use super::Computed;
use super::load::Point;
use crate::domain::consumption::{IntervalReading, Per, boundaries};
use crate::store::StoreError;
use crate::store::wide::quality_code;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;

/// Writes the hours of one point; an hour of which nothing is known any more goes. Returns how many were written.
pub(super) async fn hours(
    connection: &mut PgConnection,
    point: &Point,
    computed: &[Computed],
) -> Result<u64, StoreError> {
    let mut written = 0u64;
    for register in computed {
        let known: Vec<(&IntervalReading, Decimal)> = register
            .intervals
            .iter()
            .filter_map(|interval| Some((interval, interval.value?)))
            .collect();
        let starts: Vec<DateTime<Utc>> = known.iter().map(|(interval, _)| interval.from).collect();
        let finishes: Vec<DateTime<Utc>> = known.iter().map(|(interval, _)| interval.to).collect();
        let values: Vec<Decimal> = known.iter().map(|(_, value)| *value).collect();
        let qualities: Vec<i16> = known
            .iter()
            .map(|(interval, _)| quality_code(interval.quality()))
            .collect();
        let interpolated: Vec<bool> = known.iter().map(|(interval, _)| interval.flags.interpolated).collect();
        let incomplete: Vec<bool> = known.iter().map(|(interval, _)| interval.flags.incomplete).collect();
        let done = sqlx::query!(
            "INSERT INTO consumption_hour AS c (point_id, account_id, quantity, start, finish, value, quality,
                                                interpolated, incomplete)
             SELECT $1, $2, $3, n.* FROM unnest($4::timestamptz[], $5::timestamptz[], $6::numeric[], $7::smallint[],
                                                $8::boolean[], $9::boolean[]) AS n
             ON CONFLICT (point_id, quantity, start) DO UPDATE
             SET finish = excluded.finish, value = excluded.value, quality = excluded.quality,
                 interpolated = excluded.interpolated, incomplete = excluded.incomplete
             WHERE (c.finish, c.value, c.quality, c.interpolated, c.incomplete)
                   IS DISTINCT FROM (excluded.finish, excluded.value, excluded.quality, excluded.interpolated,
                                     excluded.incomplete)",
            point.id.0,
            point.account.0,
            register.quantity.name(),
            &starts,
            &finishes,
            &values,
            &qualities,
            &interpolated,
            &incomplete
        )
        .execute(&mut *connection)
        .await?;
        written = written.saturating_add(done.rows_affected());
        let unknown: Vec<DateTime<Utc>> = register
            .intervals
            .iter()
            .filter(|interval| interval.value.is_none())
            .map(|interval| interval.from)
            .collect();
        if !unknown.is_empty() {
            sqlx::query!(
                "DELETE FROM consumption_hour WHERE point_id = $1 AND quantity = $2 AND start = ANY($3)",
                point.id.0,
                register.quantity.name(),
                &unknown
            )
            .execute(&mut *connection)
            .await?;
        }
    }
    Ok(written)
}

/// Sums the days that the hours lie in. The parts add up to the whole exactly, because they are differences of one curve.
pub(super) async fn days(
    connection: &mut PgConnection,
    point: &Point,
    computed: &[Computed],
) -> Result<(), StoreError> {
    for register in computed {
        let (Some(first), Some(last)) = (register.intervals.first(), register.intervals.last()) else {
            continue;
        };
        let edges = boundaries(point.zone, Per::Day, first.from, last.to)
            .map_err(|error| StoreError::Internal(error.to_string()))?;
        for pair in edges.windows(2) {
            let [from, to] = pair else { continue };
            day(connection, point, register, *from, *to).await?;
        }
    }
    Ok(())
}

async fn day(
    connection: &mut PgConnection,
    point: &Point,
    register: &Computed,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<(), StoreError> {
    // covered: the hours follow on each other from midnight to midnight
    sqlx::query!(
        "INSERT INTO consumption_day AS c (point_id, account_id, quantity, start, finish, value, quality, interpolated,
                                           incomplete)
         SELECT $1, $2, $3, $4::timestamptz, $5::timestamptz, h.value, greatest(h.quality, CASE WHEN h.incomplete THEN 1 ELSE 0 END)::smallint,
                h.interpolated, h.incomplete
         FROM (SELECT sum(value) AS value, max(quality) AS quality, bool_or(interpolated) AS interpolated,
                      bool_or(incomplete) OR sum(finish - start) < $5::timestamptz - $4::timestamptz AS incomplete
               FROM consumption_hour WHERE point_id = $1 AND quantity = $3 AND start >= $4 AND start < $5) AS h
         WHERE h.value IS NOT NULL
         ON CONFLICT (point_id, quantity, start) DO UPDATE
         SET finish = excluded.finish, value = excluded.value, quality = excluded.quality,
             interpolated = excluded.interpolated, incomplete = excluded.incomplete
         WHERE (c.finish, c.value, c.quality, c.interpolated, c.incomplete)
               IS DISTINCT FROM (excluded.finish, excluded.value, excluded.quality, excluded.interpolated,
                                 excluded.incomplete)",
        point.id.0,
        point.account.0,
        register.quantity.name(),
        from,
        to
    )
    .execute(connection)
    .await?;
    Ok(())
}
