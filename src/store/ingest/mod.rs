//! The storage path: what the spool holds becomes rows, in one transaction a batch, idempotently.
//!
//! Readings go by binary COPY straight into the day's partition, sorted by key. When a key is there already, the stored
//! rows are fetched and compared, and the COPY is made again without them: equal ones are duplicates, others go to
//! `reading_conflict` and never over the first. Rows that the database refuses whatever we do are found by halving the
//! batch and go to `reading_rejected`, so that the good ones land and the spool's cursor moves on.

mod batch;
mod bisect;
mod partitions;
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
use batch::Batch;
use chrono::{DateTime, Utc};
use partitions::Partitions;
use sqlx::{Connection, PgConnection, PgPool};
use std::sync::Arc;

/// [`ReadingStore`] over PostgreSQL, with the `ingest` role. Made for one writer; a second one is not wrong, but slow.
#[derive(Debug)]
pub struct PgReadingStore {
    pool: PgPool,
    condition: DatabaseCondition,
    clock: Arc<dyn Clock>,
    partitions: Partitions,
}

impl PgReadingStore {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database, clock: Arc<dyn Clock>, retention: Retention) -> Self {
        Self {
            pool: database.ingest().clone(),
            condition: database.condition(),
            clock,
            partitions: Partitions::new(retention),
        }
    }

    async fn try_write(&self, records: &[PollRecord]) -> Result<WriteReport, StoreError> {
        let now = self.clock.now();
        let batch = Batch::new(records, self.partitions.window(now));
        let mut connection = self.pool.acquire().await?;
        let written = patiently(&self.condition, async {
            self.partitions.ensure(&mut connection, batch.days()).await?;
            let mut transaction = connection.begin().await?;
            let report = write_batch(&mut transaction, &batch, now).await?;
            transaction.commit().await?;
            Ok(report)
        })
        .await;
        if let Err(StoreError::Timeout(_)) = &written {
            // a pool would first ask it whether it is well, and wait for the answer
            drop(connection.detach());
        }
        written
    }
}

async fn write_batch(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    now: DateTime<Utc>,
) -> Result<WriteReport, StoreError> {
    let mut report = WriteReport::default();
    let mut rejects = batch.refused.clone();
    let outcome = readings::store(connection, &batch.readings).await?;
    report.inserted = outcome.inserted.len() as u64;
    report.duplicates = batch.duplicates.saturating_add(outcome.duplicates);
    let mut conflicts = batch.conflicts.clone();
    conflicts.extend(outcome.conflicts);
    report.conflicts = conflicts.len() as u64;
    rejects.extend(outcome.rejects);

    rest::latest(connection, &outcome.inserted).await?;
    rest::mark_hours(connection, &outcome.inserted, batch.endings.iter().flatten().copied()).await?;
    rest::feed(connection, &outcome.inserted).await?;
    rejects.extend(rest::endings(connection, &batch.endings).await?);
    rest::evidence(connection, &batch.evidence).await?;
    rest::conflicts(connection, &conflicts, now).await?;
    rest::rejects(connection, &rejects, now).await?;
    report.rejected = rejects.len() as u64;
    Ok(report)
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
