//! Second factors of people: one-time passwords and recovery codes.

use crate::base::ids::UserId;
use crate::port::auth::TokenHash;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// Wrong codes of a person that are taken within [`WRONG_CODES_WINDOW`] from clients that the person has not signed in from
/// before. A million codes, three of them right at a time: who has the password gets in with 0.07 % a day.
pub const WRONG_CODES_MAX: i32 = 10;
/// Over which wrong codes are counted.
pub const WRONG_CODES_WINDOW: TimeDelta = TimeDelta::hours(1);

/// A person's second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondFactor {
    /// From which, with the server's key, its secret follows.
    pub salt: Uuid,
    /// Enrolment began.
    pub enrolled_at: DateTime<Utc>,
    /// Confirmed by a code; none: it does not count yet.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// Time step of the code used last.
    pub last_step: i64,
    /// Wrong codes since `wrong_since`.
    pub wrong_codes: i32,
    /// When they began.
    pub wrong_since: Option<DateTime<Utc>>,
    /// Recovery codes not used yet.
    pub recovery_left: i64,
}

impl SecondFactor {
    /// Until when no further code of an unknown client is taken; none: one is.
    pub fn closed_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let until = self.wrong_since? + WRONG_CODES_WINDOW;
        (self.wrong_codes >= WRONG_CODES_MAX && now < until).then_some(until)
    }
}

/// Second factors of the people that the handle reaches.
#[async_trait]
pub trait SecondFactorStore: Send + Sync {
    /// One person's; none: they have none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, user: UserId) -> Result<Option<SecondFactor>, StoreError>;

    /// Begins an enrolment, in place of one that was not confirmed.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is a confirmed one; [`StoreError::NotFound`] without such a person.
    async fn enrol(&self, user: UserId, salt: Uuid, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Confirms the enrolment of this salt with the step of the code that was given; from now on it counts. Sets the
    /// recovery codes.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is no such enrolment under way.
    async fn confirm(
        &self,
        user: UserId,
        salt: Uuid,
        step: i64,
        recovery: &[TokenHash],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Takes the code of a step: true once, false when it or a later one was taken before.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn take_step(&self, user: UserId, step: i64) -> Result<bool, StoreError>;

    /// Takes a recovery code: true once.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn take_recovery(&self, user: UserId, code: &TokenHash, now: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Counts a wrong code.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn count_wrong(&self, user: UserId, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Puts new recovery codes in place of all others.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] without a confirmed second factor.
    async fn replace_recovery(
        &self,
        user: UserId,
        recovery: &[TokenHash],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Takes a person's second factor away. `reset`: by somebody else, which ends the person's sessions. False: there was
    /// none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn remove(&self, user: UserId, reset: bool, now: DateTime<Utc>) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_codes_close_the_door_for_an_hour_and_no_longer() {
        let start = DateTime::UNIX_EPOCH;
        let mut factor = SecondFactor {
            salt: Uuid::nil(),
            enrolled_at: start,
            confirmed_at: Some(start),
            last_step: 0,
            wrong_codes: WRONG_CODES_MAX - 1,
            wrong_since: Some(start),
            recovery_left: 10,
        };
        assert_eq!(factor.closed_until(start), None);
        factor.wrong_codes += 1;
        assert_eq!(factor.closed_until(start), Some(start + WRONG_CODES_WINDOW));
        assert_eq!(factor.closed_until(start + WRONG_CODES_WINDOW), None);
    }
}
