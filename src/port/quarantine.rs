//! Claims: how an unknown serial number at the port becomes somebody's DTU.

use crate::base::ids::DtuId;
use crate::domain::device::SerialNumber;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// Codes that belong to serial numbers, as printed on their devices. Across accounts: a code is checked before it is
/// known whose the device will be.
#[async_trait]
pub trait ClaimCodeStore: Send + Sync {
    /// Gives a serial number a code, in place of an older one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the serial number is somebody's already.
    async fn set(&self, sn: &SerialNumber, hash: &[u8; 32], now: DateTime<Utc>) -> Result<(), StoreError>;
}

/// What proves that a caller may have a serial number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimProof {
    /// By the rule in force none is needed.
    NotNeeded,
    /// SHA-256 of the code; checked and used up in the same transaction.
    Code([u8; 32]),
}

/// Claims into the handle's account.
#[async_trait]
pub trait ClaimStore: Send + Sync {
    /// Makes the serial number a DTU of the account; none: the code is wrong, or the serial number has none. Whether
    /// it is somebody else's is not told apart from that.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when no proof is needed and the serial number is somebody's already.
    async fn claim(
        &self,
        sn: &SerialNumber,
        name: &str,
        proof: &ClaimProof,
        now: DateTime<Utc>,
    ) -> Result<Option<DtuId>, StoreError>;
}
