//! Writes what a roll-up computed: hours as they are, days as the sums of their hours. Many points go in one statement.

use super::Computed;
use super::load::Point;
use crate::base::ids::{AccountId, PointId};
use crate::domain::consumption::{Flags, IntervalReading, Per, boundaries};
use crate::domain::quantity::Quantity;
use crate::store::StoreError;
use crate::store::wide::quality_code;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of one statement, at most.
const ROWS: usize = 10_000;

/// An hour of one register at one point.
type Key = (PointId, Quantity, DateTime<Utc>);
/// A day of one register at one point, from and to.
type Day = (PointId, AccountId, Quantity, DateTime<Utc>, DateTime<Utc>);

/// What is to be written of several points, each hour once: of two spans of a point that reach into each other the later word counts.
#[derive(Default)]
pub(super) struct Sheet {
    hours: BTreeMap<Key, Hour>,
    days: BTreeSet<Day>,
}

struct Hour {
    account: AccountId,
    finish: DateTime<Utc>,
    /// None: nothing is known of it any more.
    value: Option<Decimal>,
    quality: i16,
    flags: Flags,
}

impl Sheet {
    /// Takes in what was computed of a point, and the days that it lies in.
    pub(super) fn add(&mut self, point: &Point, computed: &[Computed]) -> Result<(), StoreError> {
        for Computed { quantity, intervals } in computed {
            for interval in intervals {
                self.hours
                    .insert((point.id, *quantity, interval.from), Hour::of(point, interval));
            }
            let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else {
                continue;
            };
            let edges = boundaries(point.zone, Per::Day, first.from, last.to)
                .map_err(|error| StoreError::Internal(error.to_string()))?;
            for pair in edges.windows(2) {
                let [from, to] = pair else { continue };
                self.days.insert((point.id, point.account, *quantity, *from, *to));
            }
        }
        Ok(())
    }

    /// Writes all of it; an hour of which nothing is known any more goes. Returns how many hours changed.
    pub(super) async fn write(self, connection: &mut PgConnection) -> Result<u64, StoreError> {
        let (known, unknown): (Vec<_>, Vec<_>) = self.hours.iter().partition(|(_, hour)| hour.value.is_some());
        let mut written = 0u64;
        for some in known.chunks(ROWS) {
            written = written.saturating_add(put_hours(connection, some).await?);
        }
        for some in unknown.chunks(ROWS) {
            drop_hours(connection, some).await?;
        }
        // behind the hours, which they sum
        for some in self.days.into_iter().collect::<Vec<_>>().chunks(ROWS) {
            put_days(connection, some).await?;
        }
        Ok(written)
    }
}

impl Hour {
    fn of(point: &Point, interval: &IntervalReading) -> Self {
        Self {
            account: point.account,
            finish: interval.to,
            value: interval.value,
            quality: quality_code(interval.quality()),
            flags: interval.flags,
        }
    }
}

async fn put_hours(connection: &mut PgConnection, hours: &[(&Key, &Hour)]) -> Result<u64, StoreError> {
    let points: Vec<i32> = hours.iter().map(|(key, _)| key.0.0).collect();
    let accounts: Vec<i32> = hours.iter().map(|(_, hour)| hour.account.0).collect();
    let quantities: Vec<&str> = hours.iter().map(|(key, _)| key.1.name()).collect();
    let starts: Vec<DateTime<Utc>> = hours.iter().map(|(key, _)| key.2).collect();
    let finishes: Vec<DateTime<Utc>> = hours.iter().map(|(_, hour)| hour.finish).collect();
    let values: Vec<Option<Decimal>> = hours.iter().map(|(_, hour)| hour.value).collect();
    let qualities: Vec<i16> = hours.iter().map(|(_, hour)| hour.quality).collect();
    let interpolated: Vec<bool> = hours.iter().map(|(_, hour)| hour.flags.interpolated).collect();
    let incomplete: Vec<bool> = hours.iter().map(|(_, hour)| hour.flags.incomplete).collect();
    let done = sqlx::query!(
        "INSERT INTO consumption_hour AS c (point_id, account_id, quantity, start, finish, value, quality, interpolated, incomplete)
         SELECT * FROM unnest($1::int[], $2::int[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::numeric[],
                              $7::smallint[], $8::boolean[], $9::boolean[])
         ON CONFLICT (point_id, quantity, start) DO UPDATE
         SET finish = excluded.finish, value = excluded.value, quality = excluded.quality,
             interpolated = excluded.interpolated, incomplete = excluded.incomplete
         WHERE (c.finish, c.value, c.quality, c.interpolated, c.incomplete)
               IS DISTINCT FROM (excluded.finish, excluded.value, excluded.quality, excluded.interpolated,
                                 excluded.incomplete)",
        &points,
        &accounts,
        &quantities as &[&str],
        &starts,
        &finishes,
        &values as &[Option<Decimal>],
        &qualities,
        &interpolated,
        &incomplete
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn drop_hours(connection: &mut PgConnection, hours: &[(&Key, &Hour)]) -> Result<(), StoreError> {
    let points: Vec<i32> = hours.iter().map(|(key, _)| key.0.0).collect();
    let quantities: Vec<&str> = hours.iter().map(|(key, _)| key.1.name()).collect();
    let starts: Vec<DateTime<Utc>> = hours.iter().map(|(key, _)| key.2).collect();
    sqlx::query!(
        "DELETE FROM consumption_hour c USING unnest($1::int[], $2::text[], $3::timestamptz[]) AS u (point_id, quantity, start)
         WHERE c.point_id = u.point_id AND c.quantity = u.quantity AND c.start = u.start",
        &points,
        &quantities as &[&str],
        &starts
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Sums days. The parts add up to the whole exactly, because they are differences of one curve.
async fn put_days(connection: &mut PgConnection, days: &[Day]) -> Result<(), StoreError> {
    let points: Vec<i32> = days.iter().map(|day| day.0.0).collect();
    let accounts: Vec<i32> = days.iter().map(|day| day.1.0).collect();
    let quantities: Vec<&str> = days.iter().map(|day| day.2.name()).collect();
    let starts: Vec<DateTime<Utc>> = days.iter().map(|day| day.3).collect();
    let finishes: Vec<DateTime<Utc>> = days.iter().map(|day| day.4).collect();
    // covered: the hours follow on each other from midnight to midnight
    sqlx::query!(
        "INSERT INTO consumption_day AS c (point_id, account_id, quantity, start, finish, value, quality, interpolated,
                                           incomplete)
         SELECT d.point_id, d.account_id, d.quantity, d.start, d.finish, h.value,
                greatest(h.quality, CASE WHEN h.incomplete THEN 1 ELSE 0 END)::smallint, h.interpolated, h.incomplete
         FROM unnest($1::int[], $2::int[], $3::text[], $4::timestamptz[], $5::timestamptz[])
              AS d (point_id, account_id, quantity, start, finish)
         CROSS JOIN LATERAL (
             SELECT sum(e.value) AS value, max(e.quality) AS quality, bool_or(e.interpolated) AS interpolated,
                    bool_or(e.incomplete) OR sum(e.finish - e.start) < d.finish - d.start AS incomplete
             FROM consumption_hour e
             WHERE e.point_id = d.point_id AND e.quantity = d.quantity AND e.start >= d.start AND e.start < d.finish) AS h
         WHERE h.value IS NOT NULL
         ON CONFLICT (point_id, quantity, start) DO UPDATE
         SET finish = excluded.finish, value = excluded.value, quality = excluded.quality,
             interpolated = excluded.interpolated, incomplete = excluded.incomplete
         WHERE (c.finish, c.value, c.quality, c.interpolated, c.incomplete)
               IS DISTINCT FROM (excluded.finish, excluded.value, excluded.quality, excluded.interpolated,
                                 excluded.incomplete)",
        &points,
        &accounts,
        &quantities as &[&str],
        &starts,
        &finishes
    )
    .execute(connection)
    .await?;
    Ok(())
}
