//! Backups: everything that the database knows at one instant, and the files beside it, in one file that can be checked.
//!
//! [`archive`] is the file (parts, sums, compression), [`seal`] its encryption, [`dump`] writes the tables of one
//! snapshot, [`load`] fills an empty database and compares what is there then with what was written. Everything
//! streams: memory does not grow with the database. The work blocks: give it a thread of its own.

pub mod archive;
mod book;
pub mod dump;
pub mod load;
pub mod seal;
mod tables;

pub use archive::{ArchiveError, Manifest, PartKind, PartSum};

use super::StoreError;

/// Why there is no backup, or no restore.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database is not one that can be restored to; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// What is in the database is not what was in the file.
    #[error("after the restore {part} has {found}, the backup has {written}; nothing was kept")]
    Differs {
        /// Which table.
        part: String,
        /// What was found.
        found: String,
        /// What was written.
        written: String,
    },
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
