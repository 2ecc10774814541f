//! A client's key for one effect: the same key with the same request gives the same answer, with another it is refused.

use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

/// A request that has not said after this many seconds how it ended has died with its server: the same one takes the key
/// anew. No request of the API lives as long. So an effect has to find what its first run left (a unique name, a row that
/// carries the key), because it may be tried again.
pub const LEASE_S: i64 = 120;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyState {
    /// It is new, and now taken for this request: go on, then [`IdempotencyStore::finish`] or
    /// [`IdempotencyStore::abandon`].
    Taken,
    /// The same request was answered so.
    Answered {
        /// The status.
        status: u16,
        /// The body.
        response: Value,
    },
    /// The same request is under way, or its server died before it was answered less than [`LEASE_S`] ago.
    UnderWay,
    /// Another request had this key.
    Mismatch,
}

/// Keys of one account. They are kept for a day.
#[async_trait]
pub trait IdempotencyStore: Send + Sync {
    /// Takes a key for a request.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn take(&self, key: &str, request: &[u8; 32], now: DateTime<Utc>) -> Result<KeyState, StoreError>;

    /// Keeps the answer of a taken key.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn finish(&self, key: &str, status: u16, response: &Value) -> Result<(), StoreError>;

    /// Gives a taken key back: nothing was done.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn abandon(&self, key: &str) -> Result<(), StoreError>;
}
