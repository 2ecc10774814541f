//! The storage path: what the spool holds becomes rows, in one transaction a batch, idempotently. The pointers to the latest
//! readings may go by a second one at the same time (`pointers`).
//!
//! Readings go by binary COPY straight into the day's partition, sorted by key. When a key is there already, the stored
//! rows are fetched and compared, and the COPY is made again without them: equal ones are duplicates, others go to
//! `reading_conflict` and never over the first. Rows that the database refuses whatever we do are found by halving the
//! batch and go to `reading_rejected`, so that the good ones land and the spool's cursor moves on.

mod batch;
mod bisect;
mod partitions;
mod pointers;
mod readings;
mod rest;

pub use partitions::Retention;

use crate::base::clock::Clock;
use crate::port::ledger::{Hours, PollRecord, ReadingStore, StoreUnavailable, WriteReport};
use crate::port::outage::DatabaseCondition;
use crate::store::watch::patiently;
use crate::store::{Database, StoreError};
use crate::telemetry::storage::{BatchWritten, WriteRefused};
use async_trait::async_trait;
use batch::{Batch, Prepared};
use chrono::{DateTime, Utc};
use partitions::Partitions;
use pointers::Pointers;
use readings::Outcome;
use sqlx::{Connection, PgConnection, PgPool};
use std::sync::Arc;
use std::time::Duration;

/// Fewer readings are written together with their pointers: a second commit would cost more than it saves.
const APART_MIN: usize = 1_000;

/// The second connection is waited for no longer.
const BESIDE_WAIT: Duration = Duration::from_secs(1);

/// [`ReadingStore`] over PostgreSQL, with the `ingest` role. Made for one writer; a second one is not wrong, but slow.
#[derive(Debug)]
pub struct PgReadingStore {
    pool: PgPool,
    beside: PgPool,
    condition: DatabaseCondition,
    clock: Arc<dyn Clock>,
    partitions: Partitions,
    pointers: Pointers,
}

impl PgReadingStore {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database, clock: Arc<dyn Clock>, retention: Retention) -> Self {
        Self {
            pool: database.ingest().clone(),
            beside: database.beside().clone(),
            condition: database.condition(),
            clock,
            partitions: Partitions::new(retention),
            pointers: Pointers::default(),
        }
    }

    async fn try_write(&self, records: &[PollRecord]) -> Result<WriteReport, StoreError> {
        let now = self.clock.now();
        let batch = Batch::new(records, self.partitions.window(now));
        let mut connection = self.pool.acquire().await?;
        let mut beside = if batch.readings.len() >= APART_MIN && self.pointers.may_go_apart() {
            // asked whether it lives, and not for long: without it the batch goes as well
            let asked = tokio::time::timeout(BESIDE_WAIT, self.beside.acquire()).await;
            asked.ok().and_then(Result::ok)
        } else {
            None
        };
        let written = patiently(&self.condition, async {
            self.partitions.ensure(&mut connection, batch.days()).await?;
            match beside.as_deref_mut() {
                Some(beside) => self.write_apart(&mut connection, beside, &batch, now).await,
                None => self.write_together(&mut connection, &batch, now).await,
            }
        })
        .await;
        if written.is_err() {
            self.pointers.doubt();
        }
        if let Err(StoreError::Timeout(_)) = &written {
            // a pool would first ask them whether they are well, and wait for the answer
            drop(connection.detach());
            drop(beside.map(sqlx::pool::PoolConnection::detach));
        }
        written
    }

    /// The batch and the pointers to it in one transaction.
    async fn write_together(
        &self,
        connection: &mut PgConnection,
        batch: &Batch<'_>,
        now: DateTime<Utc>,
    ) -> Result<WriteReport, StoreError> {
        let mut transaction = connection.begin().await?;
        let (report, outcome) = write_batch(&mut transaction, batch, now).await?;
        rest::latest(&mut transaction, &self.pointers.to_move(&outcome)).await?;
        transaction.commit().await?;
        self.pointers.wrote(&outcome, batch.readings.len());
        Ok(report)
    }

    /// The pointers at the same time by another connection, in the belief that all of the batch is new.
    async fn write_apart(
        &self,
        connection: &mut PgConnection,
        beside: &mut PgConnection,
        batch: &Batch<'_>,
        now: DateTime<Utc>,
    ) -> Result<WriteReport, StoreError> {
        let mut transaction = connection.begin().await?;
        let mut pointers = beside.begin().await?;
        let all: Vec<&Prepared<'_>> = batch.readings.iter().collect();
        let (written, moved) = tokio::join!(
            write_batch(&mut transaction, batch, now),
            rest::latest(&mut pointers, &all)
        );
        let (report, outcome) = written?;
        if outcome.inserted.len() == batch.readings.len() {
            moved?;
            // whoever stops us between the two
            self.pointers.doubt();
            // a pointer never points to what is not there yet
            transaction.commit().await?;
            pointers.commit().await?;
        } else {
            pointers.rollback().await?;
            rest::latest(&mut transaction, &self.pointers.to_move(&outcome)).await?;
            transaction.commit().await?;
        }
        self.pointers.wrote(&outcome, batch.readings.len());
        Ok(report)
    }
}

async fn write_batch<'p, 'a>(
    connection: &mut PgConnection,
    batch: &'p Batch<'a>,
    now: DateTime<Utc>,
) -> Result<(WriteReport, Outcome<'p, 'a>), StoreError> {
    let mut report = WriteReport::default();
    let mut rejects = batch.refused.clone();
    let mut outcome = readings::store(connection, &batch.readings).await?;
    report.inserted = outcome.inserted.len() as u64;
    report.duplicates = batch.duplicates.saturating_add(outcome.there.len() as u64);
    let mut conflicts = batch.conflicts.clone();
    conflicts.append(&mut outcome.conflicts);
    report.conflicts = conflicts.len() as u64;
    rejects.append(&mut outcome.rejects);

    rest::mark_hours(connection, &outcome.inserted, batch.endings.iter().flatten().copied()).await?;
    rest::feed(connection, &outcome.inserted).await?;
    rejects.extend(rest::endings(connection, &batch.endings).await?);
    rest::evidence(connection, &batch.evidence).await?;
    rest::conflicts(connection, &conflicts, now).await?;
    rest::rejects(connection, &rejects, now).await?;
    report.rejected = rejects.len() as u64;
    Ok((report, outcome))
}

#[async_trait]
impl ReadingStore for PgReadingStore {
    async fn write(&self, records: &[PollRecord]) -> Result<WriteReport, StoreUnavailable> {
        let began = self.clock.monotonic();
        let mut written = self.try_write(records).await;
        if let Err(StoreError::Internal(_)) = &written {
            // a partition that retention or a hand has dropped since we last looked
            self.partitions.forget();
            written = self.try_write(records).await;
        }
        let outage = written.as_ref().err().and_then(StoreError::outage);
        let detail = written.as_ref().err().map_or_else(String::new, ToString::to_string);
        self.condition.wrote(outage, &detail);
        match written {
            Ok(report) => {
                BatchWritten {
                    records: records.len(),
                    inserted: report.inserted,
                    duplicates: report.duplicates,
                    conflicts: report.conflicts,
                    rejected: report.rejected,
                    took: self.clock.monotonic().saturating_duration_since(began),
                }
                .emit();
                Ok(report)
            }
            Err(error) => {
                WriteRefused {
                    records: records.len(),
                    error: &error.to_string(),
                }
                .emit();
                Err(error.into())
            }
        }
    }

    async fn maintain(&self, now: DateTime<Utc>) -> Result<(), StoreUnavailable> {
        let work = async {
            let mut connection = self.pool.acquire().await?;
            self.partitions.maintain(&mut connection, now).await
        };
        Ok(patiently(&self.condition, work).await?)
    }

    async fn roll_up(&self, now: DateTime<Utc>, hours: Hours) -> Result<u64, StoreUnavailable> {
        let work = super::rollup::run(&self.pool, now, hours);
        let hours = patiently(&self.condition, work).await?;
        super::grafana::end_excess(&self.pool).await?;
        Ok(hours)
    }
}
