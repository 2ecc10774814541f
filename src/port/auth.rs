//! Who is calling: tokens and sign-ins, looked up across accounts by the server itself, before any scope is known.

use crate::base::ids::{AccountId, ApiKeyId, UserId};
use crate::domain::access::RoleSet;
use crate::domain::scope::Reach;
use crate::port::scope::{Actor, StoreError};
use crate::port::second_factor::SecondFactor;
use crate::port::sign_ins::{SignInEnd, Visitor};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// SHA-256 of a token; tokens themselves are never stored.
pub type TokenHash = [u8; 32];

/// What a token proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A person's sign-in; ends by itself.
    Session,
    /// An API key; lives until it is revoked or its person is disabled.
    ApiKey,
}

/// Who stands behind a valid token. Roles are those of this moment, not of the sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The person.
    pub user: UserId,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their own account; none for people of the platform alone.
    pub account: Option<AccountId>,
    /// Their roles.
    pub roles: RoleSet,
    /// The key, if the token is one.
    pub api_key: Option<ApiKeyId>,
    /// What of their person's rights the token reaches.
    pub reach: Reach,
    /// Whether their account asks people with their roles for a second factor.
    pub second_factor_wanted: bool,
    /// Whether a second factor of theirs counts.
    pub second_factor: bool,
    /// When the token ends; none: not by itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What signing in needs to know of a person.
#[derive(Clone)]
pub struct SignInRecord {
    /// The person.
    pub user: UserId,
    /// PHC string of their password.
    pub password_hash: String,
    /// Their name.
    pub name: String,
    /// Whether they have signed in from the source before.
    pub known_source: bool,
    /// Their second factor, if one counts.
    pub second_factor: Option<SecondFactor>,
}

/// A sign-in that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Whose address was tried, if it is somebody's.
    pub user: Option<UserId>,
    /// Why.
    pub end: SignInEnd,
    /// By whom.
    pub visitor: Visitor,
    /// Tries for the same person that were throttled before it.
    pub throttled: u32,
    /// Whether the audit gets a row, and how many refusals before this one got none, because there were too many.
    pub audited: Option<u32>,
    /// When.
    pub now: DateTime<Utc>,
}

/// A new session.
#[derive(Clone)]
pub struct NewSession {
    /// Hash of its token.
    pub token: TokenHash,
    /// Whose.
    pub user: UserId,
    /// Begins.
    pub now: DateTime<Utc>,
    /// Ends.
    pub expires_at: DateTime<Utc>,
    /// The password hash that was checked; a password changed meanwhile refuses the session.
    pub password_hash: String,
    /// By whom.
    pub visitor: Visitor,
    /// Whether a second factor was given.
    pub second_factor: bool,
    /// Tries for the person that were throttled before this one.
    pub throttled: u32,
    /// Until when history is forgotten.
    pub forget_before: DateTime<Utc>,
}

/// What a caller may know of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountBrief {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// IANA zone name.
    pub time_zone: String,
}

/// Tokens and sign-ins.
#[async_trait]
pub trait AuthStore: Send + Sync {
    /// Who holds this token, if it is valid at `now` and neither its person nor the account is disabled.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn identify(
        &self,
        kind: TokenKind,
        token: &TokenHash,
        now: DateTime<Utc>,
    ) -> Result<Option<Identity>, StoreError>;

    /// The enabled person with this e-mail address (compared without case). `source`: from where they come; known is one
    /// from which a sign-in was granted after `since`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn sign_in_record(
        &self,
        email: &str,
        source: Option<&str>,
        since: DateTime<Utc>,
    ) -> Result<Option<SignInRecord>, StoreError>;

    /// Sources from which sign-ins were granted after `since`, at most `limit`, the latest last.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn familiar_sources(&self, since: DateTime<Utc>, limit: u32) -> Result<Vec<String>, StoreError>;

    /// Opens a session, with a row of history and an audit row.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the person was disabled or got another password meanwhile.
    async fn open_session(&self, session: NewSession, actor: &Actor) -> Result<(), StoreError>;

    /// Writes down a refused sign-in: in the person's history, and in the audit.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn sign_in_refused(&self, refusal: Refusal, actor: &Actor) -> Result<(), StoreError>;

    /// Ends the session of this token, with an audit row; false: there was none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn end_session(&self, token: &TokenHash, now: DateTime<Utc>, actor: &Actor) -> Result<bool, StoreError>;

    /// What is known of an account; none: there is none or it is disabled.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn account(&self, id: AccountId) -> Result<Option<AccountBrief>, StoreError>;

    /// How many accounts there are; some rules are softer while there is one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn account_count(&self) -> Result<u64, StoreError>;
}
