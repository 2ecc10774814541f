//! The audit: who changed what when, in one hash chain over the whole server. Entries are written by the stores
//! themselves, in the transaction of the change.

use crate::base::ids::AccountId;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// An entry.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Its number in the chain, without holes over the whole server.
    pub id: i64,
    /// Whose; null: the server's.
    #[schema(value_type = Option<i32>)]
    pub account_id: Option<AccountId>,
    /// When.
    pub at: DateTime<Utc>,
    /// Who: an e-mail address or `cli`.
    pub actor: String,
    /// What, e.g. `dtu.create`.
    #[schema(example = "dtu.create")]
    pub action: String,
    /// On what, e.g. `dtu/7`.
    #[schema(example = "dtu/7")]
    pub object: String,
    /// What changed, and from where.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// SHA-256 over the hash before and this entry, as hex.
    pub hash: String,
}

/// Which entries are wanted; none: does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// At or after.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// This actor.
    pub actor: Option<String>,
    /// Actions that begin so, e.g. `dtu.`.
    pub action: Option<String>,
    /// This object.
    pub object: Option<String>,
}

/// Entries that the handle reaches: those of its account, or all.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Newest first, older than `before`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, filter: &AuditFilter, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
}

/// The newest entry of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Its number.
    pub id: i64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Its hash, as hex.
    pub hash: String,
}

/// A head of the chain, written down outside the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Checkpoint {
    /// The entry.
    pub id: i64,
    /// Its hash, as hex.
    pub hash: String,
    /// When it was written down.
    pub at: DateTime<Utc>,
}

/// What is wrong with the chain: the first fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// An entry was changed.
    #[error("entry {id} was edited: it does not fit its hash, or not the entry before")]
    Edited {
        /// Which.
        id: i64,
    },
    /// An entry is gone.
    #[error("entry {id} was removed")]
    Removed {
        /// Which.
        id: i64,
    },
    /// The chain is shorter than it was.
    #[error("the chain ends at entry {id}, but entry {known} was there: entries were cut off")]
    Truncated {
        /// Where it ends.
        id: i64,
        /// The last that was written down outside.
        known: i64,
    },
    /// The chain holds, but it is another one than it was.
    #[error("entry {id} is another one than was written down outside: the chain was written anew")]
    Rewritten {
        /// Which.
        id: i64,
    },
}
