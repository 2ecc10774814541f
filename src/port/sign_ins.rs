//! Sign-ins of people: their open sessions, and the history of what was tried.

use crate::base::ids::UserId;
use crate::port::auth::TokenHash;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Open sessions of one person; a further one ends the one used longest ago.
pub const SESSIONS_MAX: i64 = 50;
/// Rows of history of one person that are kept: granted ones, and refused ones.
pub const GRANTED_MAX: i64 = 200;
/// See [`GRANTED_MAX`]; apart, so that a guesser cannot wash the others out.
pub const REFUSED_MAX: i64 = 300;
/// Characters of a client's name that are kept.
pub const AGENT_MAX: usize = 200;

/// From where and with what somebody comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visitor {
    /// The address.
    pub source: Option<String>,
    /// What the client calls itself, at most [`AGENT_MAX`] characters, without control characters.
    pub agent: String,
    /// Where the address is, if that is known.
    pub place: Option<String>,
}

/// How a sign-in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignInEnd {
    /// A session began.
    Granted,
    /// The password was wrong.
    WrongPassword,
    /// The password was right, and no code came with it.
    CodeRequired,
    /// The password was right, the code was not.
    WrongCode,
}

impl SignInEnd {
    /// Every end.
    pub const ALL: &'static [Self] = &[Self::Granted, Self::WrongPassword, Self::CodeRequired, Self::WrongCode];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::WrongPassword => "wrong_password",
            Self::CodeRequired => "code_required",
            Self::WrongCode => "wrong_code",
        }
    }

    /// Finds one by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|end| end.as_str() == name)
    }
}

/// A sign-in in the history; equal refusals within a minute are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SignInTold {
    /// Its id.
    pub id: i64,
    /// When; the first, if there were several.
    pub at: DateTime<Utc>,
    /// When the last of them was.
    pub last_at: DateTime<Utc>,
    /// How many.
    pub times: i32,
    /// How it ended.
    pub outcome: SignInEnd,
    /// From which address.
    #[schema(example = "203.0.113.7")]
    pub source: Option<String>,
    /// What the client called itself.
    pub agent: String,
    /// Where the address is, if the server has a file that tells.
    #[schema(example = "Berlin, DE")]
    pub place: Option<String>,
    /// Tries for the same person that were throttled before this one and are not listed.
    pub throttled_before: i32,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct OpenSession {
    /// Its id.
    pub id: i32,
    /// Began.
    pub created_at: DateTime<Utc>,
    /// Ends by itself.
    pub expires_at: DateTime<Utc>,
    /// Used last, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// From which address it was opened.
    pub source: Option<String>,
    /// What the client called itself.
    pub agent: String,
    /// Where the address is, if the server has a file that tells.
    pub place: Option<String>,
    /// Whether a second factor opened it.
    pub second_factor: bool,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// Sessions and sign-ins of the people that the handle reaches.
#[async_trait]
pub trait SignInBook: Send + Sync {
    /// A person's open sessions, the newest first. `present`: the one that asks.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sessions(
        &self,
        user: UserId,
        present: Option<&TokenHash>,
        now: DateTime<Utc>,
    ) -> Result<Vec<OpenSession>, StoreError>;

    /// Ends one of a person's sessions.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such open session of theirs.
    async fn end(&self, user: UserId, session: i32, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Ends all of a person's sessions but one; how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn end_all(&self, user: UserId, but: Option<&TokenHash>, now: DateTime<Utc>) -> Result<u64, StoreError>;

    /// A person's sign-ins, the newest first, before `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn history(&self, user: UserId, before: Option<i64>, limit: u32) -> Result<Vec<SignInTold>, StoreError>;
}
