//! The picture of a concentrator's mesh: which meters it has, and how it said that it reaches them, as read last.

use super::scan::ArchivePlace;
use super::scope::StoreError;
use crate::base::ids::{DtuId, MeterId};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A meter behind a concentrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct MeshPlace {
    /// The measuring point that serves it: the address of our meter.
    #[schema(example = 42)]
    pub point: u16,
    /// Our meter at this point; null where there is none.
    #[schema(value_type = Option<i32>)]
    pub meter_id: Option<MeterId>,
    /// When the concentrator said so.
    pub read_at: DateTime<Utc>,
    /// What it said.
    #[serde(flatten)]
    pub archive: ArchivePlace,
}

/// The meshes of one account.
#[async_trait]
pub trait MeshStore: Send + Sync {
    /// By point, behind `after`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a DTU of another account.
    async fn list(&self, dtu: DtuId, after: Option<u16>, limit: u32) -> Result<Vec<MeshPlace>, StoreError>;

    /// Keeps what a concentrator said at `read_at`, each place with its point. `whole`: the archive was read to its end,
    /// so that whatever is not in it is gone.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a DTU of another account.
    async fn keep(
        &self,
        dtu: DtuId,
        places: &[(u16, ArchivePlace)],
        whole: bool,
        read_at: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}
