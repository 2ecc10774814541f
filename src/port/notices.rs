//! Notices: the outbox between what happens and who is told, the senders behind it, and what the API does with both.
//!
//! What happens is written down as a notice in the transaction of its cause. The notifier plans it, bundles what is due
//! into messages, and sends these. A message keeps its id through every attempt, so that a far side that looks at ids
//! can drop the second copy: at least once, and once where the channel can tell.

pub use crate::protocol::sms::{Alphabet, Segments, smpp};

mod book;

pub use book::*;

use crate::base::ids::{AccountId, ChannelId, NoticeId, RecipientId};
use crate::domain::notice::rate::Counted;
use crate::domain::notice::{ChannelKind, Earlier, Happening, Language, Plan, Recipient, Route};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
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
