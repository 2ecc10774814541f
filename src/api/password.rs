//! Passwords: argon2id, off the request threads, never more than a few at once, and as long for an unknown address as
//! for a known one.

use super::problem::{ApiError, Kind};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Shortest password, characters (NIST SP 800-63B §5.1.1.1).
pub const PASSWORD_MIN: usize = 8;
/// Longest password, bytes; longer ones only cost time.
pub const PASSWORD_MAX: usize = 512;
/// Hashes under way at once: each takes 19 MiB and some 20 ms of a core.
const AT_ONCE: usize = 2;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// A hash of a random text nobody knows, with our parameters: what is verified when the address is unknown.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short.
    #[error("must have at least {PASSWORD_MIN} characters")]
    Short,
    /// Too long.
    #[error("must have at most {PASSWORD_MAX} bytes")]
    Long,
    /// The hash function failed.
    #[error("the password could not be hashed")]
    Hash,
}

/// Checks length; says nothing about taste.
///
/// # Errors
/// [`PasswordError::Short`] or [`PasswordError::Long`].
pub fn check(password: &str) -> Result<(), PasswordError> {
    if password.chars().count() < PASSWORD_MIN {
        return Err(PasswordError::Short);
    }
    if password.len() > PASSWORD_MAX {
        return Err(PasswordError::Long);
    }
    Ok(())
}

/// Hashes a password (argon2id, 19 MiB, 2 passes) to a PHC string. Blocking, some 20 ms.
///
/// # Errors
/// [`PasswordError`].
pub fn hash_blocking(password: &str) -> Result<String, PasswordError> {
    check(password)?;
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Hash)
}

fn verify_blocking(password: &str, phc: &str) -> bool {
    PasswordHash::new(phc).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Where passwords are hashed and verified. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PasswordDesk {
    permits: Arc<Semaphore>,
}

impl Default for PasswordDesk {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl PasswordDesk {
    /// Hashes a new password.
    ///
    /// # Errors
    /// `busy` when too many are waiting; `internal` when hashing failed.
    pub async fn hash(&self, password: String) -> Result<String, ApiError> {
        self.run(move || hash_blocking(&password))
            .await?
            .map_err(|error| ApiError::invalid("password", error.to_string()))
    }

    /// Whether the password is the one behind `phc`; takes as long when there is none.
    ///
    /// # Errors
    /// `busy` when too many are waiting.
    pub async fn verify(&self, password: String, phc: Option<String>) -> Result<bool, ApiError> {
        self.run(move || {
            let known = phc.is_some();
            verify_blocking(&password, phc.as_deref().unwrap_or(NOBODY)) && known
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let busy = || ApiError::new(Kind::Busy, "too many sign-ins at once; try again").retry_after(2);
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        // the permit goes along: a caller that went away does not free the core
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
        .map_err(|_| ApiError::new(Kind::Internal, "the password could not be checked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_verifies() {
        let phc = hash_blocking("correct horse").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify_blocking("correct horse", &phc));
        assert!(!verify_blocking("correct hors", &phc));
        assert_eq!(hash_blocking("short"), Err(PasswordError::Short));
    }

    #[test]
    fn the_stand_in_has_our_cost_and_is_well_formed() {
        // else an unknown address would be answered sooner than a known one
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let ours = hash_blocking("correct horse").unwrap();
        let ours = PasswordHash::new(&ours).unwrap();
        assert_eq!(nobody.algorithm, ours.algorithm);
        assert_eq!(nobody.params.to_string(), ours.params.to_string());
        assert_eq!(nobody.hash.unwrap().len(), ours.hash.unwrap().len());
        assert!(!verify_blocking("", NOBODY));
    }

    #[tokio::test]
    async fn nobody_never_signs_in() {
        let desk = PasswordDesk::default();
        assert!(!desk.verify(String::new(), None).await.unwrap());
        let phc = desk.hash("correct horse".into()).await.unwrap();
        assert!(desk.verify("correct horse".into(), Some(phc)).await.unwrap());
    }
}
