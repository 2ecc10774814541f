//! Roll-ups: hourly and daily consumption per metering point, computed anew where registers came in.
//!
//! The storage path marks hours ([`super::ingest`]), edits of installations mark more. A run takes the marks
//! made before it began, oldest hour first, spreads them over work lists, finds the points whose meters they are, loads the registers around the
//! marked hours (as far as the neighbouring readings: what lies between two readings changes with either), has
//! [`crate::domain::consumption`] compute the hours and sums days from hours. A list's entries go in the transaction that writes, a mark when its
//! entries are gone. Of an hour that still runs, each meter is looked at once, and its mark stays until the hour has ended (docs/decisions/0015).
//! Hours and days of meters' polls (slots by ending, voltages, power) need no look beside the hour: the database rolls
//! them up itself (migration 0006), by the same rounds.

mod load;
mod write;

use super::StoreError;
use crate::domain::consumption::{self, Installation, IntervalReading, Per, boundaries};
use crate::domain::quantity::Quantity;
use crate::port::ledger::Hours;
use crate::telemetry::storage::RolledUp;
use chrono::{DateTime, TimeDelta, Utc};
use load::{Point, Registers};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use std::collections::BTreeSet;

/// Interpolation over a longer gap is flagged as estimated: a meter that is read once a day has none.
pub(crate) const GAP_MAX: TimeDelta = TimeDelta::hours(25);
/// Marks (each of an account's hour, with all meters of a batch) that are spread and worked off in one go. What they say is
/// forgotten only then: a run that is cut off does so much again.
const STEP: i64 = 200;
/// The same of running hours, whose marks are many and alike.
const STEP_RUNNING: i64 = 1_000;
/// Meters' hours that one transaction works off.
const CHUNK: i64 = 2_000;
/// The same for hours of meters' polls, which the database computes itself.
const METER_HOURS: i32 = 5_000;

/// Works off every mark of such hours made so far; returns how many hours of consumption were written.
pub(super) async fn run(pool: &PgPool, now: DateTime<Utc>, which: Hours) -> Result<u64, StoreError> {
    let mut connection = pool.acquire().await?;
    // The lists are empty most of the time and hold all meters of a fleet behind a restart or an outage. A plan that was made in
    // a quiet hour and kept compares each of their rows with each: 10 s a call instead of 0.1. A connection that keeps this setting
    // because the run was cut off plans too often, no more.
    connection.execute("SET plan_cache_mode = force_custom_plan").await?;
    let worked = work(&mut connection, now, which).await;
    connection.execute("RESET plan_cache_mode").await?;
    worked
}

async fn work(connection: &mut PgConnection, now: DateTime<Utc>, which: Hours) -> Result<u64, StoreError> {
    let any = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM hour_mark) AS "any!""#)
        .fetch_one(&mut *connection)
        .await?;
    if !any {
        return Ok(0);
    }
    // waits for marks under way; later ones carry the new number and are for the next run
    let round = sqlx::query_scalar!("UPDATE consumption_round SET round = round + 1 RETURNING round")
        .fetch_one(&mut *connection)
        .await?;
    // hours that began since then run
    let running = now - TimeDelta::hours(1) + TimeDelta::microseconds(1);
    let mut done = Done::default();
    loop {
        let step = load::spread(connection, round, running, STEP).await?;
        if step.is_empty() {
            break;
        }
        work_off(connection, round, now, &mut done).await?;
        load::forget_step(connection, &step).await?;
    }
    if which == Hours::All {
        look_at_running(connection, round, now, running, &mut done).await?;
    }
    let Done { meters, hours } = done;
    RolledUp { meters, hours }.emit();
    Ok(hours)
}

/// What was done.
#[derive(Default)]
struct Done {
    meters: usize,
    hours: u64,
}

/// Works off what hours that run say of those that have ended.
async fn look_at_running(
    connection: &mut PgConnection,
    round: i64,
    now: DateTime<Utc>,
    running: DateTime<Utc>,
    done: &mut Done,
) -> Result<(), StoreError> {
    loop {
        let step = load::spread_running(connection, round, running, STEP_RUNNING).await?;
        if step.is_empty() {
            return Ok(());
        }
        work_off(connection, round, now, done).await?;
        load::keep_running(connection, round, &step).await?;
    }
}

/// Works off the two lists.
async fn work_off(
    connection: &mut PgConnection,
    round: i64,
    now: DateTime<Utc>,
    done: &mut Done,
) -> Result<(), StoreError> {
    consumption_of(connection, round, now, done).await?;
    // each call is a transaction of its own
    while sqlx::query_scalar!(r#"SELECT roll_up_meters($1, $2) AS "marks!""#, round, METER_HOURS)
        .fetch_one(&mut *connection)
        .await?
        > 0
    {}
    Ok(())
}

/// Works off the list of hours of registers.
async fn consumption_of(
    connection: &mut PgConnection,
    round: i64,
    now: DateTime<Utc>,
    done: &mut Done,
) -> Result<(), StoreError> {
    loop {
        let mut transaction = connection.begin().await?;
        let marks = load::marks(&mut transaction, round, CHUNK).await?;
        if marks.is_empty() {
            return Ok(());
        }
        let meters = marks.iter().map(|mark| mark.meter).collect::<BTreeSet<_>>().len();
        done.meters = done.meters.saturating_add(meters);
        let points = load::points(&mut transaction, &marks).await?;
        let registers = load::registers(&mut transaction, &points).await?;
        let mut sheet = write::Sheet::default();
        for point in &points {
            sheet.add(point, &compute(point, &registers, now)?)?;
        }
        let hours = sheet.write(&mut transaction).await?;
        done.hours = done.hours.saturating_add(hours);
        load::forget(&mut transaction, round, &marks).await?;
        transaction.commit().await?;
    }
}

/// The hours of one register at one point.
struct Computed {
    quantity: Quantity,
    intervals: Vec<IntervalReading>,
}

fn compute(point: &Point, registers: &Registers, now: DateTime<Utc>) -> Result<Vec<Computed>, StoreError> {
    let mut computed = Vec::new();
    for (quantity, readings) in registers.of(point) {
        // what lies between the neighbours of the marked hours depends on the marked readings
        let before = readings
            .iter()
            .map(|reading| reading.at)
            .filter(|at| *at < point.from)
            .max();
        let after = readings
            .iter()
            .map(|reading| reading.at)
            .filter(|at| *at >= point.to)
            .min();
        let newest = readings.iter().map(|reading| reading.at).max().unwrap_or(point.to);
        let from = before.unwrap_or(point.from);
        // an hour is written when it has ended, and as far as readings go
        let to = after.unwrap_or(point.to).min(newest.max(point.from)).min(now);
        let edges =
            boundaries(point.zone, Per::Hour, from, to).map_err(|error| StoreError::Internal(error.to_string()))?;
        let installations: Vec<Installation> = point.stands.iter().map(|stand| stand.installation(quantity)).collect();
        let mut intervals = consumption::consumption(&readings, &installations, &edges, GAP_MAX);
        intervals.retain(|interval| interval.to <= now);
        computed.push(Computed { quantity, intervals });
    }
    Ok(computed)
}
