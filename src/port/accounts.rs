//! Accounts: organisations that own fleets.

use crate::base::ids::{AccountId, ScheduleId};
use crate::domain::access::Role;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Account {
    /// Its id.
    #[schema(value_type = i32)]
    pub id: AccountId,
    /// Its name; unique.
    #[schema(example = "Stadtwerke Musterstadt")]
    pub name: String,
    /// IANA zone in which its days and months begin.
    #[schema(example = "Europe/Berlin")]
    pub time_zone: String,
    /// ISO 4217 code.
    #[schema(example = "EUR")]
    pub currency: String,
    /// The schedule of its meters that have none of their own or of their DTU.
    #[schema(value_type = Option<i32>)]
    pub schedule_id: Option<ScheduleId>,
    /// Disabled: nobody signs in, no key works. Its meters are still read.
    pub disabled: bool,
    /// People with one of these roles need a second factor to sign in.
    pub second_factor_roles: Vec<Role>,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    pub version: i32,
}

/// A new account, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// Its name.
    pub name: String,
    /// IANA zone name.
    pub time_zone: String,
    /// ISO 4217 code.
    pub currency: String,
}

/// What to change of an account; none: as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountEdit {
    /// Its name.
    pub name: Option<String>,
    /// IANA zone name.
    pub time_zone: Option<String>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// The default schedule; `Some(None)`: none from now on.
    pub schedule: Option<Option<ScheduleId>>,
    /// Disable or enable. Disabling ends every session of its people.
    pub disabled: Option<bool>,
    /// Roles whose people need a second factor.
    pub second_factor_roles: Option<Vec<Role>>,
}

/// Accounts that the handle reaches: its own, or all.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// Whose name holds `text`, by id, behind `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, text: Option<&str>, after: Option<AccountId>, limit: u32) -> Result<Vec<Account>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: AccountId) -> Result<Account, StoreError>;

    /// Makes one; across accounts only.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name is taken.
    async fn create(&self, account: &NewAccount, now: DateTime<Utc>) -> Result<Account, StoreError>;

    /// Changes one that has `version` (none: any).
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Conflict`], [`StoreError::Invalid`].
    async fn update(
        &self,
        id: AccountId,
        edit: &AccountEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Account, StoreError>;
}
