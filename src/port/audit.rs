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
