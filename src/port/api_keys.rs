//! API keys: long-lived tokens of people, with their person's roles of the moment.

use crate::base::ids::{ApiKeyId, UserId};
use crate::domain::scope::KeyScope;
use crate::port::auth::TokenHash;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ApiKey {
    /// Its id.
    #[schema(value_type = i32)]
    pub id: ApiKeyId,
    /// Whose.
    #[schema(value_type = i32)]
    pub user_id: UserId,
    /// What it is for.
    #[schema(example = "billing export")]
    pub name: String,
    /// How it begins.
    #[schema(example = "ph_k_Ab3dE")]
    pub prefix: String,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Ends by itself; null: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Used last, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// What of its person's rights it has; null: all of them.
    #[schema(value_type = Option<Vec<String>>, example = json!(["read", "devices:write"]))]
    pub scopes: Option<Vec<KeyScope>>,
}

/// Keys of one person that are neither revoked nor due.
pub const KEYS_MAX: i64 = 100;

/// A new key, checked.
#[derive(Clone)]
pub struct NewApiKey {
    /// Whose.
    pub user: UserId,
    /// What it is for.
    pub name: String,
    /// Hash of the secret.
    pub hash: TokenHash,
    /// How the secret begins.
    pub prefix: String,
    /// Ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// What of its person's rights it has; none: all of them.
    pub scopes: Option<Vec<KeyScope>>,
}

/// Keys that the handle reaches: those of its account's people, or all.
#[async_trait]
pub trait ApiKeyStore: Send + Sync {
    /// Those not revoked, of one person if given, by id, behind `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, user: Option<UserId>, after: Option<ApiKeyId>, limit: u32) -> Result<Vec<ApiKey>, StoreError>;

    /// One that is not revoked.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: ApiKeyId) -> Result<ApiKey, StoreError>;

    /// Makes one.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when there is no such enabled person, [`StoreError::Conflict`] when they have
    /// [`KEYS_MAX`] keys.
    async fn create(&self, key: &NewApiKey, now: DateTime<Utc>) -> Result<ApiKey, StoreError>;

    /// Revokes one: it is worth nothing from the commit on.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn revoke(&self, id: ApiKeyId, now: DateTime<Utc>) -> Result<(), StoreError>;
}
