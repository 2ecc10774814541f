//! Passwords: argon2id, off the request threads, in three lanes with one hash at a time and a bounded queue each; and as
//! long for an unknown address as for a known one.

use super::problem::{ApiError, Kind};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Shortest password, characters (NIST SP 800-63B §5.1.1.1).
pub const PASSWORD_MIN: usize = 8;
/// Longest password, bytes; longer ones only cost time.
pub const PASSWORD_MAX: usize = 512;
/// A password has to stand so many guesses of somebody who tries the likely ones first: at ten a minute, ten weeks.
const GUESSES_MIN: u64 = 1_000_000;
/// So much of a password is looked at for that; the rest makes it better.
const GUESSED_CHARS: usize = 64;
/// Requests of a lane that wait or work; each hash takes 19 MiB and some 20 ms of a core.
pub const LANE_MAX: usize = 32;
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
    /// Too easy.
    #[error(
        "is too easily guessed: it is one of the commonest, or close to the name or address; some words in a row do better"
    )]
    Easy,
    /// The hash function failed.
    #[error("the password could not be hashed")]
    Hash,
}

/// Checks length and how soon it would be guessed by somebody who knows `of` (address and name) and the passwords and
/// words that people take. Asks for no kinds of characters. Some milliseconds.
///
/// # Errors
/// [`PasswordError`].
pub fn check(password: &str, of: &[&str]) -> Result<(), PasswordError> {
    if password.chars().count() < PASSWORD_MIN {
        return Err(PasswordError::Short);
    }
    if password.len() > PASSWORD_MAX {
        return Err(PasswordError::Long);
    }
    let mut known = vec!["polyphase".to_owned()];
    for text in of {
        // the part before an address's @ is a name as well
        for whole in [Some(*text), text.split_once('@').map(|(local, _)| local)]
            .into_iter()
            .flatten()
        {
            let parts: Vec<&str> = whole
                .split(['@', '.', ' ', '-', '_'])
                .filter(|part| part.len() > 2)
                .collect();
            known.push(whole.to_owned());
            known.push(parts.concat());
            known.push(parts.iter().rev().copied().collect());
            known.extend(parts.iter().map(|part| (*part).to_owned()));
        }
    }
    let known: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
        .collect();
    let begin: String = password.chars().take(GUESSED_CHARS).collect();
    if zxcvbn::zxcvbn(&begin, &known).guesses() < GUESSES_MIN {
        return Err(PasswordError::Easy);
    }
    Ok(())
}

/// Checks a password of somebody and hashes it (argon2id, 19 MiB, 2 passes) to a PHC string. Blocking, some 20 ms.
///
/// # Errors
/// [`PasswordError`].
pub fn hash_blocking(password: &str, of: &[&str]) -> Result<String, PasswordError> {
    check(password, of)?;
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Hash)
}

fn verify_blocking(password: &str, phc: &str) -> bool {
    PasswordHash::new(phc).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Who comes to the desk; nobody waits behind those of another lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Nobody knows.
    Stranger,
    /// Somebody at a source from which anybody has signed in before.
    Familiar,
    /// A session, or a browser with which the person has signed in before.
    Known,
}

/// One at a time, and few that wait.
#[derive(Debug)]
struct Queue {
    places: Arc<Semaphore>,
    hash: Arc<Semaphore>,
    lookup: Semaphore,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(LANE_MAX)),
            hash: Arc::new(Semaphore::new(1)),
            lookup: Semaphore::new(1),
        }
    }
}

/// Where passwords are hashed and verified. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PasswordDesk {
    strangers: Arc<Queue>,
    familiar: Arc<Queue>,
    known: Arc<Queue>,
}

/// A place at the desk, for as long as a request has to do with passwords.
#[derive(Debug)]
pub struct Turn {
    queue: Arc<Queue>,
    _place: OwnedSemaphorePermit,
}

fn busy() -> ApiError {
    ApiError::new(Kind::Busy, "too many sign-ins at once; try again").retry_after(2)
}

impl PasswordDesk {
    /// A place in a lane.
    ///
    /// # Errors
    /// `busy` when [`LANE_MAX`] others have one.
    pub fn enter(&self, lane: Lane) -> Result<Turn, ApiError> {
        let queue = Arc::clone(match lane {
            Lane::Stranger => &self.strangers,
            Lane::Familiar => &self.familiar,
            Lane::Known => &self.known,
        });
        let place = Arc::clone(&queue.places).try_acquire_owned().map_err(|_| busy())?;
        Ok(Turn { queue, _place: place })
    }

    /// Checks and hashes a new password of somebody with this address and name.
    ///
    /// # Errors
    /// `busy` when too many are waiting; `invalid`, naming `field`, when it does not do.
    pub async fn hash(&self, field: &str, password: String, email: &str, name: &str) -> Result<String, ApiError> {
        let of = [email.to_owned(), name.to_owned()];
        self.enter(Lane::Known)?
            .run(move || hash_blocking(&password, &of.each_ref().map(String::as_str)))
            .await?
            .map_err(|error| ApiError::invalid(field, error.to_string()))
    }
}

impl Turn {
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

    /// The lane's one look into the database at a time: sign-ins leave its connections to others.
    ///
    /// # Errors
    /// `busy` when it takes too long.
    pub async fn lookup(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        tokio::time::timeout(PATIENCE, self.queue.lookup.acquire())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.queue.hash).acquire_owned())
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
        let phc = hash_blocking("correct horse", &[]).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify_blocking("correct horse", &phc));
        assert!(!verify_blocking("correct hors", &phc));
        assert_eq!(hash_blocking("short", &[]), Err(PasswordError::Short));
    }

    #[test]
    fn what_everybody_takes_is_refused_and_no_kinds_of_characters_are_asked_for() {
        let of = ["ann.smith@waterworks.example", "Ann Smith"];
        for easy in [
            "password",
            "Password1!",
            "12345678",
            "qwertyuiop",
            "Berlin2023",
            "iloveyou2",
            "ann.smith@waterworks.example",
            "annsmith",
            "AnnSmith1",
            "waterworks",
            "polyphase",
            "polyphase1",
            "aaaaaaaaaaaa",
        ] {
            assert_eq!(check(easy, &of), Err(PasswordError::Easy), "{easy}");
        }
        for good in ["correct horse", "a long pass phrase", "vqkxwmzr", "用户密码很长很长"] {
            assert_eq!(check(good, &of), Ok(()), "{good}");
        }
        // long ones are taken, and take no longer
        assert_eq!(check(&"correct horse ".repeat(36), &of), Ok(()));
        assert_eq!(check(&"x".repeat(PASSWORD_MAX + 1), &of), Err(PasswordError::Long));
    }

    #[test]
    fn the_stand_in_has_our_cost_and_is_well_formed() {
        // else an unknown address would be answered sooner than a known one
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let ours = hash_blocking("correct horse", &[]).unwrap();
        let ours = PasswordHash::new(&ours).unwrap();
        assert_eq!(nobody.algorithm, ours.algorithm);
        assert_eq!(nobody.params.to_string(), ours.params.to_string());
        assert_eq!(nobody.hash.unwrap().len(), ours.hash.unwrap().len());
        assert!(!verify_blocking("", NOBODY));
    }

    #[tokio::test]
    async fn nobody_never_signs_in() {
        let desk = PasswordDesk::default();
        let turn = desk.enter(Lane::Stranger).unwrap();
        assert!(!turn.verify(String::new(), None).await.unwrap());
        let phc = desk.hash("password", "correct horse".into(), "a@b", "").await.unwrap();
        assert!(turn.verify("correct horse".into(), Some(phc)).await.unwrap());
    }

    #[tokio::test]
    async fn strangers_that_fill_their_lane_leave_the_others_free() {
        let desk = PasswordDesk::default();
        let turns: Vec<Turn> = (0..LANE_MAX).map(|_| desk.enter(Lane::Stranger).unwrap()).collect();
        assert_eq!(desk.enter(Lane::Stranger).unwrap_err().kind(), Kind::Busy);
        assert!(desk.enter(Lane::Familiar).is_ok() && desk.enter(Lane::Known).is_ok());
        drop(turns);
        assert!(desk.enter(Lane::Stranger).is_ok());
    }
}
