//! Notices: the outbox between what happens and who is told, the senders behind it, and what the API does with both.
//!
//! What happens is written down as a notice in the transaction of its cause. The notifier plans it, bundles what is due
//! into messages, and sends these. A message keeps its id through every attempt, so that a far side that looks at ids
//! can drop the second copy: at least once, and once where the channel can tell.

pub use crate::protocol::sms::{Alphabet, Segments, smpp};

use crate::base::ids::{AccountId, ChannelId, NoticeId, RecipientId, RouteId, UserId};
use crate::domain::notice::plan::Rule;
use crate::domain::notice::rate::Counted;
use crate::domain::notice::{
    ChannelKind, Digest, Earlier, Edge, Happening, Language, Plan, Quiet, Recipient, Route, Severity,
};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// A message on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its id, the same at every attempt.
    pub id: Uuid,
    /// Whose.
    pub account: AccountId,
    /// To whom.
    pub recipient: RecipientId,
    /// By which channel of theirs.
    pub channel: ChannelId,
    /// How.
    pub kind: ChannelKind,
    /// An e-mail address, a chat's id, a telephone number or a URL. Personal: not for logs.
    pub address: String,
    /// One line.
    pub subject: String,
    /// The whole text; of an SMS the short one.
    pub body: String,
    /// The same for machines.
    pub payload: Value,
    /// What the secrets of a webhook are derived from, the newest first; two while it is being changed.
    pub salts: Vec<Uuid>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Which attempt this is, from 1.
    pub attempt: u16,
    /// A test is tried once.
    pub test: bool,
    /// Whether an earlier attempt may have arrived.
    pub maybe_twice: bool,
}

/// A message is out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// What the far side calls it, if it says.
    pub reference: Option<String>,
}

/// Why a message is not out. Texts name no address and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may work later; nothing has arrived.
    #[error("{message}")]
    Passing {
        /// What happened.
        message: String,
        /// How long the far side asks us to wait.
        retry_after: Option<TimeDelta>,
    },
    /// It may have arrived and nobody said so.
    #[error("{0}")]
    Unsure(String),
    /// The far side will never take it.
    #[error("{0}")]
    Refused(String),
}

impl SendError {
    /// It may work later.
    pub fn passing(message: impl Into<String>) -> Self {
        Self::Passing {
            message: message.into(),
            retry_after: None,
        }
    }
}

/// Sends by one kind of channel.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Sends one message, within bounded time.
    ///
    /// # Errors
    /// [`SendError`] says whether to try again.
    async fn send(&self, message: &Outgoing) -> Result<Receipt, SendError>;
}

/// The senders that are configured.
pub type Senders = HashMap<ChannelKind, Arc<dyn Sender>>;

/// A notice that nobody has planned yet.
#[derive(Clone, Debug)]
pub struct Unplanned {
    /// Its id.
    pub id: NoticeId,
    /// What happened.
    pub happening: Happening,
}

/// What planning in an account goes by.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Its routes that are switched on.
    pub routes: Vec<Route>,
    /// Its recipients that are switched on, with their channels that are.
    pub recipients: Vec<Recipient>,
    /// Items that wait.
    pub waiting: u64,
}

/// An item that is due.
#[derive(Clone, Debug)]
pub struct DueItem {
    /// Its id.
    pub id: i64,
    /// What it tells.
    pub notice: NoticeId,
    /// What happened.
    pub happening: Happening,
    /// To whom, by what, how much it matters to rates.
    pub counted: Counted,
    /// The channel.
    pub channel: ChannelId,
    /// The person's language; none: the person or the channel is switched off or gone.
    pub reader: Option<Reader>,
}

/// How a person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Their language.
    pub language: Language,
    /// Their zone.
    pub zone: Tz,
    /// Their own limit of messages per hour, if they have one.
    pub per_hour: Option<u32>,
    /// The channel's address.
    pub address: String,
}

/// A message to be made of items.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its id.
    pub id: Uuid,
    /// To whom and by what.
    pub counted: Counted,
    /// The channel.
    pub channel: ChannelId,
    /// The address.
    pub address: String,
    /// One line.
    pub subject: String,
    /// The text.
    pub body: String,
    /// The same for machines.
    pub payload: Value,
    /// The items that it tells.
    pub items: Vec<i64>,
}

/// A message that is due, as far as the choice needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub account: AccountId,
    /// The channel.
    pub channel: ChannelId,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is out.
    Sent(Receipt),
    /// It is tried again then.
    Again {
        /// When.
        at: DateTime<Utc>,
        /// Why.
        error: String,
        /// Whether it may have arrived all the same.
        unsure: bool,
    },
    /// It is not tried again; it stays to be seen.
    Dead(String),
}

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Notices to be planned.
    pub unplanned: bool,
    /// Items that are due.
    pub items: bool,
    /// Kinds of channels with messages that are due.
    pub messages: Vec<ChannelKind>,
}

/// How full the outbox is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fill {
    /// Notices that nobody has planned.
    pub unplanned: u64,
    /// Items that wait.
    pub items: u64,
    /// Messages that wait or are being sent, by kind.
    pub messages: HashMap<ChannelKind, u64>,
    /// Messages that were given up within the last day.
    pub dead: u64,
    /// Since when the oldest message that is due waits.
    pub oldest_due: Option<DateTime<Utc>>,
}

/// The outbox, as the notifier works it.
#[async_trait]
pub trait NoticeOutbox: Send + Sync {
    /// Takes up what an earlier process was sending: nobody knows whether it arrived, so it is sent again and marked.
    /// Answers how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn resume(&self, now: DateTime<Utc>) -> Result<u64, StoreError>;

    /// The messages made since then, for counting.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn recent(&self, since: DateTime<Utc>) -> Result<Vec<(Counted, DateTime<Utc>)>, StoreError>;

    /// What there is to do.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn work(&self, now: DateTime<Utc>) -> Result<Work, StoreError>;

    /// The oldest notices that nobody has planned. The server's own are given to `server`, or to the only account; where
    /// there is none they end here.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn unplanned(
        &self,
        server: Option<AccountId>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<Unplanned>, StoreError>;

    /// What planning goes by.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn directory(&self, account: AccountId) -> Result<Directory, StoreError>;

    /// What was planned for a subject since it was last raised, before this notice.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn earlier(&self, account: AccountId, subject: &str, before: NoticeId) -> Result<Vec<Earlier>, StoreError>;

    /// Writes a plan down; the notice is planned with it. An item that was told meanwhile is not called off.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn planned(
        &self,
        notice: &Unplanned,
        plan: &Plan,
        outcome: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Items that are due, those of one channel together, the critical first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn due(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<DueItem>, StoreError>;

    /// Makes a message of items that still wait, in one transaction; false: none of them does.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn bundle(&self, message: NewMessage, now: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Items wait until then.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn defer(&self, items: &[i64], until: DateTime<Utc>) -> Result<(), StoreError>;

    /// Items are called off, with the reason.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn call_off(&self, items: &[i64], reason: &str) -> Result<(), StoreError>;

    /// Messages of a kind that are due, at most one of each channel, and none of a channel that is sending.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn candidates(&self, kind: ChannelKind, now: DateTime<Utc>, limit: u32)
    -> Result<Vec<Candidate>, StoreError>;

    /// Takes a message for sending: from here on nobody knows whether it arrived until the end is written down.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn claim(&self, message: Uuid, now: DateTime<Utc>) -> Result<Option<Outgoing>, StoreError>;

    /// Writes down what became of it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn ended(&self, message: Uuid, ending: &Ending, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// How full it is.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn fill(&self, now: DateTime<Utc>) -> Result<Fill, StoreError>;

    /// Deletes at most `limit` notices, and as many messages, from before then. Answers how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn prune(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError>;
}

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
