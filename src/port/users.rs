//! People who sign in.

use crate::base::ids::{AccountId, UserId};
use crate::domain::access::Role;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct User {
    /// Their id.
    #[schema(value_type = i32)]
    pub id: UserId,
    /// Their account; null for people of the platform alone.
    #[schema(value_type = Option<i32>)]
    pub account_id: Option<AccountId>,
    /// E-mail address; unique over the server, without regard to case.
    #[schema(example = "ann@example.org")]
    pub email: String,
    /// Name.
    pub name: String,
    /// Roles.
    pub roles: Vec<Role>,
    /// Disabled: cannot sign in, keys do not work.
    pub disabled: bool,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    pub version: i32,
}

/// A new person, checked.
#[derive(Clone)]
pub struct NewUser {
    /// E-mail address.
    pub email: String,
    /// Name.
    pub name: String,
    /// At least one role.
    pub roles: Vec<Role>,
    /// PHC string of the password.
    pub password_hash: String,
}

/// What to change of a person; none: as it is. New roles, a new password and disabling end every session.
#[derive(Clone, Default)]
pub struct UserEdit {
    /// Name.
    pub name: Option<String>,
    /// Roles.
    pub roles: Option<Vec<Role>>,
    /// PHC string of a new password.
    pub password_hash: Option<String>,
    /// Disable or enable.
    pub disabled: Option<bool>,
}

/// People that the handle reaches: those of its account, or all.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Whose address or name holds `text`, by id, behind `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, text: Option<&str>, after: Option<UserId>, limit: u32) -> Result<Vec<User>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: UserId) -> Result<User, StoreError>;

    /// Makes one: in the handle's account, or across accounts one of the platform alone.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the address is taken.
    async fn create(&self, user: &NewUser, now: DateTime<Utc>) -> Result<User, StoreError>;

    /// Changes one that has `version` (none: any).
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`]; [`StoreError::Conflict`] when the account would be left without
    /// an enabled admin.
    async fn update(
        &self,
        id: UserId,
        edit: &UserEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<User, StoreError>;

    /// Deletes one with their keys and sessions.
    ///
    /// # Errors
    /// As [`UserStore::update`].
    async fn delete(&self, id: UserId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;
}
