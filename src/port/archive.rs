//! The archives of concentrators as we want them, beside what the concentrators said last.

use super::scope::StoreError;
use crate::base::ids::DtuId;
use crate::domain::archive::{ArchiveChange, ArchiveComparison, ArchiveEntry};
use crate::port::mesh::MeshPlace;
use crate::port::scan::{ArchivePlace, FoundMeter, WrittenPlace};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// An archive from both sides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BothSides {
    /// As we want it, by point.
    pub here: Vec<ArchiveEntry>,
    /// As the concentrator said it, by point.
    pub there: Vec<ArchiveEntry>,
    /// When it said so, the oldest of its places; none: it was never read.
    pub read_at: Option<DateTime<Utc>>,
}

impl BothSides {
    /// What differs.
    pub fn comparison(&self) -> ArchiveComparison {
        crate::domain::archive::compare(&self.here, &self.there)
    }
}

fn entry(point: u16, archive: &ArchivePlace) -> ArchiveEntry {
    ArchiveEntry {
        point,
        place: archive.place,
        meter_address: archive.meter_address.clone(),
        meter_protocol: archive.meter_protocol.clone(),
        port: archive.port,
        collector: archive.collector.clone(),
        tariffs: archive.tariffs,
    }
}

impl MeshPlace {
    /// The place as it is compared.
    pub fn entry(&self) -> ArchiveEntry {
        entry(self.point, &self.archive)
    }
}

impl FoundMeter {
    /// The place as it is compared; none on a line.
    pub fn entry(&self) -> Option<ArchiveEntry> {
        Some(entry(self.point()?, self.archive.as_ref()?))
    }
}

/// The archives of one account.
#[async_trait]
pub trait ArchiveStore: Send + Sync {
    /// Both sides of a concentrator's archive.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a DTU of another account.
    async fn both(&self, dtu: DtuId) -> Result<BothSides, StoreError>;

    /// Says what we want: `entries` and nothing else.
    ///
    /// # Errors
    /// As above.
    async fn want(&self, dtu: DtuId, entries: &[ArchiveEntry], now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Wants what a concentrator has at some points, beside what we want of the others: their meters were adopted.
    ///
    /// # Errors
    /// As above.
    async fn adopt(&self, dtu: DtuId, entries: &[ArchiveEntry]) -> Result<(), StoreError>;

    /// Puts into the audit what is about to be written to a concentrator. Nothing is written before this is durable.
    ///
    /// # Errors
    /// As above.
    async fn begin_write(&self, dtu: DtuId, changes: &[ArchiveChange], now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Puts into the audit what became of it; `failure` where it came to no end.
    ///
    /// # Errors
    /// As above.
    async fn end_write(
        &self,
        dtu: DtuId,
        written: &[WrittenPlace],
        failure: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}
