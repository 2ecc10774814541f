//! What the API reads and writes of notices: recipients, their channels, routes, and what was told to whom.

use crate::base::ids::{ChannelId, NoticeId, RecipientId, RouteId, UserId};
use crate::domain::notice::plan::Rule;
use crate::domain::notice::{ChannelKind, Digest, Edge, Language, Quiet, Severity};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// What a recipient is set to.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipientSpec {
    /// Their name.
    pub name: String,
    /// The user that they are, if they are one.
    pub user: Option<UserId>,
    /// Their language.
    pub language: Language,
    /// Their zone.
    pub zone: Tz,
    /// When they rest.
    pub quiet: Option<Quiet>,
    /// How their happenings are gathered.
    pub digest: Option<Digest>,
    /// Their own limit of messages per hour.
    pub per_hour: Option<u32>,
    /// Whether they are told anything.
    pub enabled: bool,
}

/// A stored recipient.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecipient {
    /// Their id.
    pub id: RecipientId,
    /// What they are set to.
    pub spec: RecipientSpec,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit.
    pub version: i32,
}

/// A stored channel.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredChannel {
    /// Its id.
    pub id: ChannelId,
    /// Whose.
    pub recipient: RecipientId,
    /// How.
    pub kind: ChannelKind,
    /// Where to.
    pub address: String,
    /// Whether it is used.
    pub enabled: bool,
    /// What the webhook's secret is derived from.
    pub salt: Uuid,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit.
    pub version: i32,
}

/// A stored route.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRoute {
    /// Its id.
    pub id: RouteId,
    /// Its name.
    pub name: String,
    /// What it says.
    pub rule: Rule,
    /// Whether it is used.
    pub enabled: bool,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit.
    pub version: i32,
}

/// Which notices are looked for.
#[derive(Clone, Debug, Default)]
pub struct NoticeQuery {
    /// From then on.
    pub from: Option<DateTime<Utc>>,
    /// Before then.
    pub to: Option<DateTime<Utc>>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this subject.
    pub subject: Option<String>,
    /// At least so severe.
    pub severity: Option<Severity>,
    /// Behind this one (newest first).
    pub after: Option<NoticeId>,
    /// At most so many.
    pub limit: u32,
}

/// What became of a notice for one channel.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ItemView {
    /// Whom.
    #[schema(value_type = i32)]
    pub recipient_id: RecipientId,
    /// By which channel.
    #[schema(value_type = i32)]
    pub channel_id: ChannelId,
    /// By which route.
    #[schema(value_type = i32)]
    pub route_id: RouteId,
    /// At which step, from 0.
    pub step: i16,
    /// When.
    pub due_at: DateTime<Utc>,
    /// `waiting`, `bundled` (its message tells more) or `cancelled`.
    pub state: String,
    /// Why it was called off.
    pub reason: Option<String>,
    /// The message that tells it.
    pub message_id: Option<Uuid>,
}

/// A notice in the history.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct NoticeView {
    /// Its id.
    #[schema(value_type = i64)]
    pub id: NoticeId,
    /// What it is about, e.g. `alarm/17`.
    pub subject: String,
    /// What became of it.
    pub edge: Edge,
    /// How much it matters.
    pub severity: Severity,
    /// Its kind.
    pub kind: String,
    /// What was told.
    #[schema(value_type = Object)]
    pub facts: Value,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// When it was planned; null: not yet.
    pub planned_at: Option<DateTime<Utc>>,
    /// What came of the plan: `planned`, `nobody` (no route or recipient), `overflow` (the account's outbox was full).
    pub outcome: Option<String>,
    /// Who is told.
    pub items: Vec<ItemView>,
}

/// Which messages are looked for.
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    /// Made from then on.
    pub from: Option<DateTime<Utc>>,
    /// Made before then.
    pub to: Option<DateTime<Utc>>,
    /// With this text in subject or body, whatever its case.
    pub text: Option<String>,
    /// To this person.
    pub recipient: Option<RecipientId>,
    /// By this channel.
    pub channel: Option<ChannelId>,
    /// By this kind.
    pub kind: Option<ChannelKind>,
    /// In this state.
    pub state: Option<MessageState>,
    /// Behind this one (newest first).
    pub after: Option<(DateTime<Utc>, Uuid)>,
    /// At most so many.
    pub limit: u32,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// It waits for its (next) attempt.
    Waiting,
    /// An attempt is under way.
    Sending,
    /// The far side has taken it.
    Sent,
    /// It was given up.
    Dead,
}

impl MessageState {
    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Dead => "dead",
        }
    }

    /// Finds one by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Sending, Self::Sent, Self::Dead]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// A message in the history.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct MessageView {
    /// Its id, which the far side was given at every attempt.
    pub id: Uuid,
    /// To whom.
    #[schema(value_type = i32)]
    pub recipient_id: RecipientId,
    /// By which channel.
    #[schema(value_type = i32)]
    pub channel_id: ChannelId,
    /// How.
    pub kind: ChannelKind,
    /// Where to, as it was then; of a URL without its query.
    pub address: String,
    /// One line.
    pub subject: String,
    /// What was written.
    pub body: String,
    /// Whether it is critical.
    pub critical: bool,
    /// Whether it is a test.
    pub test: bool,
    /// Where it stands.
    pub state: MessageState,
    /// Attempts so far.
    pub attempts: i16,
    /// When the next one is due.
    pub next_at: Option<DateTime<Utc>>,
    /// What the last one failed of.
    pub last_error: Option<String>,
    /// What the far side calls it.
    pub reference: Option<String>,
    /// Whether it may have arrived more than once: the server or the line died between sending and its record.
    pub maybe_twice: bool,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Sent or given up.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A test message to be made.
#[derive(Clone, Debug)]
pub struct TestMessage {
    /// Its id.
    pub id: Uuid,
    /// One line.
    pub subject: String,
    /// The text.
    pub body: String,
    /// The same for machines.
    pub payload: Value,
}

/// Recipients, channels, routes and history of one account.
#[async_trait]
pub trait NoticeBook: Send + Sync {
    /// Recipients by id, behind `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn recipients(&self, after: Option<RecipientId>, limit: u32) -> Result<Vec<StoredRecipient>, StoreError>;

    /// One recipient.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn recipient(&self, id: RecipientId) -> Result<StoredRecipient, StoreError>;

    /// Makes a recipient.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a user who is not there, [`StoreError::Conflict`] when there are too many.
    async fn add_recipient(&self, spec: &RecipientSpec, now: DateTime<Utc>) -> Result<StoredRecipient, StoreError>;

    /// Sets a recipient.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn set_recipient(
        &self,
        id: RecipientId,
        spec: &RecipientSpec,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredRecipient, StoreError>;

    /// Deletes a recipient with their channels; what waits for them is called off.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn remove_recipient(
        &self,
        id: RecipientId,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Channels by id, of one recipient or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn channels(
        &self,
        recipient: Option<RecipientId>,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<StoredChannel>, StoreError>;

    /// One channel.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn channel(&self, id: ChannelId) -> Result<StoredChannel, StoreError>;

    /// Makes a channel.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a recipient who is not there, [`StoreError::Conflict`] when there are too many.
    async fn add_channel(
        &self,
        recipient: RecipientId,
        kind: ChannelKind,
        address: &str,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError>;

    /// Sets a channel's address and switch.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn set_channel(
        &self,
        id: ChannelId,
        address: &str,
        enabled: bool,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError>;

    /// Gives a webhook another secret; the old one signs beside it until then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn new_salt(
        &self,
        id: ChannelId,
        old_until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<StoredChannel, StoreError>;

    /// Deletes a channel.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn remove_channel(&self, id: ChannelId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Routes by id.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn routes(&self, after: Option<RouteId>, limit: u32) -> Result<Vec<StoredRoute>, StoreError>;

    /// One route.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn route(&self, id: RouteId) -> Result<StoredRoute, StoreError>;

    /// Makes a route.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for recipients or groups that are not there.
    async fn add_route(&self, name: &str, rule: &Rule, now: DateTime<Utc>) -> Result<StoredRoute, StoreError>;

    /// Sets a route.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Invalid`].
    async fn set_route(
        &self,
        id: RouteId,
        route: (&str, &Rule, bool),
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<StoredRoute, StoreError>;

    /// Deletes a route.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn remove_route(&self, id: RouteId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Notices, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn notices(&self, query: NoticeQuery) -> Result<Vec<NoticeView>, StoreError>;

    /// Messages, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn messages(&self, query: MessageQuery) -> Result<Vec<MessageView>, StoreError>;

    /// One message.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn message(&self, id: Uuid) -> Result<MessageView, StoreError>;

    /// Puts a test message into the outbox: it heeds neither routes nor quiet hours, and is tried once.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn test(
        &self,
        channel: ChannelId,
        message: TestMessage,
        now: DateTime<Utc>,
    ) -> Result<MessageView, StoreError>;

    /// Gives a dead message another life.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] when it is not dead.
    async fn resend(&self, id: Uuid, now: DateTime<Utc>) -> Result<MessageView, StoreError>;
}

/// What the API has to know of the senders.
pub trait NoticeDesk: Send + Sync {
    /// The kinds of channels that this server can send by.
    fn kinds(&self) -> Vec<ChannelKind>;

    /// The secret with which a webhook is signed, for showing it once.
    fn webhook_secret(&self, salt: Uuid) -> String;

    /// What is wrong with an address.
    ///
    /// # Errors
    /// Says what is wrong and what to give.
    fn check_address(&self, kind: ChannelKind, address: &str) -> Result<(), String>;
}
