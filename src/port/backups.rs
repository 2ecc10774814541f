//! Backups as the API shows them: those in the folder, the one that is made now.

use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::path::PathBuf;

/// How a backup stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// It is written.
    Running,
    /// It can be fetched.
    Done,
    /// It came to no end; `reason` says why. The last one is remembered until the server stops.
    Failed,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Backup {
    /// Its id: the name of its file without the ending.
    #[schema(example = "polyphase-20260301T020000Z")]
    pub id: String,
    /// How it stands.
    pub state: BackupState,
    /// What is committed at this instant is in it.
    pub made_at: DateTime<Utc>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Why it failed.
    pub reason: Option<String>,
}

/// Why no backup is begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupRefused {
    /// One at a time.
    #[error("a backup is being written; wait for its end")]
    UnderWay,
    /// It cannot be begun.
    #[error("{0}")]
    Failed(String),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes backups and knows those that are kept.
#[async_trait]
pub trait BackupDesk: Send + Sync {
    /// The newest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    async fn list(&self) -> std::io::Result<Vec<Backup>>;

    /// Begins one.
    ///
    /// # Errors
    /// [`BackupRefused`].
    async fn begin(&self) -> Result<Backup, BackupRefused>;

    /// Where the file of a backup lies that can be fetched.
    fn file(&self, id: &str) -> Option<PathBuf>;
}

/// Writes down in the audit what is done with backups.
#[async_trait]
pub trait BackupBook: Send + Sync {
    /// `action` is done with a backup.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn note(
        &self,
        action: &str,
        id: &str,
        detail: serde_json::Value,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}
