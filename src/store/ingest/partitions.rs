//! Days: which are kept, which have partitions, which are closed and dropped.

use crate::store::StoreError;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::PgConnection;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Partitions are made this many days ahead.
const DAYS_AHEAD: i64 = 3;
/// A day gets its index by meter when it has ended for so long: by then the spool has usually brought all of it.
const CLOSE_AFTER: TimeDelta = TimeDelta::hours(3);
/// A meter keeps pointers to its newest readings of so many sets of quantities.
const SHAPES_MAX: i64 = 32;
/// Rows of evidence deleted in one statement.
const EVIDENCE_CHUNK: i64 = 10_000;

/// How long rows are kept, days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Readings. Also how far back a device's own time stamp is believed.
    pub readings_days: u32,
    /// Slot endings.
    pub endings_days: u32,
    /// Raw frames kept as evidence.
    pub evidence_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            readings_days: 3 * 366,
            endings_days: 366,
            evidence_days: 30,
        }
    }
}

/// The instants that have or may get a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Window {
    /// Whether `at` lies within it.
    pub(super) fn holds(self, at: DateTime<Utc>) -> bool {
        self.from <= at && at < self.to
    }
}

/// Why what lies outside of the window is refused.
pub(super) const OUTSIDE: &str = "its time lies outside of the days that are kept";

/// `days` before `at`; the earliest instant there is when that is before it.
fn before(at: DateTime<Utc>, days: u32) -> DateTime<Utc> {
    at.checked_sub_signed(TimeDelta::days(i64::from(days)))
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Keeps account of the days that have partitions, so that a batch need not ask.
#[derive(Debug)]
pub(super) struct Partitions {
    retention: Retention,
    made: Mutex<BTreeSet<NaiveDate>>,
}

impl Partitions {
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            retention,
            made: Mutex::new(BTreeSet::new()),
        }
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<NaiveDate>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the oldest kept day to tomorrow: a device's clock may be wrong by years, and must not make us partitions.
    pub(super) fn window(&self, now: DateTime<Utc>) -> Window {
        let days = self.retention.readings_days.max(self.retention.endings_days);
        Window {
            from: before(now, days),
            to: now + TimeDelta::days(2),
        }
    }

    /// Makes the missing ones, each in its own transaction.
    pub(super) async fn ensure(
        &self,
        connection: &mut PgConnection,
        days: BTreeSet<NaiveDate>,
    ) -> Result<(), StoreError> {
        for day in days {
            if self.made().contains(&day) {
                continue;
            }
            sqlx::query!("SELECT ensure_day($1)", day)
                .execute(&mut *connection)
                .await?;
            self.made().insert(day);
        }
        Ok(())
    }

    /// Looks again at the next batch.
    pub(super) fn forget(&self) {
        self.made().clear();
    }

    /// Makes days ahead, closes ended ones, drops what retention has ended.
    pub(super) async fn maintain(&self, connection: &mut PgConnection, now: DateTime<Utc>) -> Result<(), StoreError> {
        let ahead = (-1..=DAYS_AHEAD).map(|days| (now + TimeDelta::days(days)).date_naive());
        self.ensure(connection, ahead.collect()).await?;

        let open_from = (now - CLOSE_AFTER).date_naive();
        let days = sqlx::query_scalar!(r#"SELECT partition_days('reading_electricity') AS "day!""#)
            .fetch_all(&mut *connection)
            .await?;
        for day in days.into_iter().filter(|day| *day < open_from) {
            sqlx::query!("SELECT close_day($1)", day)
                .execute(&mut *connection)
                .await?;
        }
        for parent in ["reading_electricity", "reading_fluid", "reading_side"] {
            self.drop_before(connection, parent, now, self.retention.readings_days)
                .await?;
        }
        self.drop_before(connection, "slot_ending", now, self.retention.endings_days)
            .await?;
        self.trim(connection, now).await
    }

    async fn drop_before(
        &self,
        connection: &mut PgConnection,
        parent: &str,
        now: DateTime<Utc>,
        keep_days: u32,
    ) -> Result<(), StoreError> {
        // a day is dropped when its last instant is older than the window, so that `ensure` never makes it again
        let first_kept = before(now, keep_days.saturating_add(1)).date_naive();
        let days = sqlx::query_scalar!(r#"SELECT partition_days($1) AS "day!""#, parent)
            .fetch_all(&mut *connection)
            .await?;
        for day in days.into_iter().filter(|day| *day < first_kept) {
            sqlx::query!("SELECT drop_day($1, $2)", parent, day)
                .execute(&mut *connection)
                .await?;
            self.made().remove(&day);
        }
        Ok(())
    }

    async fn trim(&self, connection: &mut PgConnection, now: DateTime<Utc>) -> Result<(), StoreError> {
        let oldest = before(now, self.retention.evidence_days);
        loop {
            let gone = sqlx::query!(
                "DELETE FROM frame_evidence WHERE id IN (SELECT id FROM frame_evidence WHERE at < $1 LIMIT $2)",
                oldest,
                EVIDENCE_CHUNK
            )
            .execute(&mut *connection)
            .await?
            .rows_affected();
            if gone < EVIDENCE_CHUNK.cast_unsigned() {
                break;
            }
        }
        let readings_from = before(now, self.retention.readings_days);
        sqlx::query!("DELETE FROM latest_reading WHERE ts < $1", readings_from)
            .execute(&mut *connection)
            .await?;
        // partial readings make ever new sets; the oldest pointers beyond the bound are of no use
        sqlx::query!(
            "DELETE FROM latest_reading l USING (
                 SELECT meter_id, shape, row_number() OVER (PARTITION BY meter_id ORDER BY ts DESC) AS place
                 FROM latest_reading
             ) AS old
             WHERE old.place > $1 AND l.meter_id = old.meter_id AND l.shape = old.shape",
            SHAPES_MAX
        )
        .execute(&mut *connection)
        .await?;
        Ok(())
    }
}
