//! Integrations: webhooks and MQTT brokers that are told of what is stored, each from a durable cursor of its own.
//!
//! Outside effects with an outbox (promises, 9): what happens stands in the feed in the transaction of its cause; what is
//! on its way is written down with its id first, and sent again under it; the cursor moves when the far side has taken
//! it. So nothing that was committed is missing there, and what comes twice has the same id.

use crate::base::ids::{AccountId, DtuId, GroupId, IntegrationId, MeterId};
use crate::domain::integration::horizon::Look;
use crate::domain::integration::{FeedTopic, Position, Shape};
use crate::domain::reading::Reading;
use crate::port::notices::SendError;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// What is at the far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntegrationKind {
    /// An HTTP endpoint that takes batches.
    Webhook,
    /// An MQTT 5 broker.
    Mqtt,
}

impl IntegrationKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Mqtt];

    /// The name in the API, in the database and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mqtt => "mqtt",
        }
    }

    /// Finds a kind by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How it is told. What concerns the other kind is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Webhook: items of one request at most.
    pub batch_max: u32,
    /// Webhook: seconds that an item waits for others.
    pub batch_wait_s: u32,
    /// MQTT: the first levels of every topic.
    pub prefix: String,
    /// MQTT: how readings are told.
    pub shape: Shape,
    /// MQTT: seconds after which a broker drops a value; 0: never.
    pub expiry_s: u32,
    /// MQTT: the prefix of Home Assistant's discovery; none: it is not told.
    pub discovery: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_max: 100,
            batch_wait_s: 1,
            prefix: "polyphase".to_owned(),
            shape: Shape::Values,
            expiry_s: 0,
            discovery: None,
        }
    }
}

/// What people set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegrationSpec {
    /// What people call it.
    pub name: String,
    /// What is at the far side.
    pub kind: IntegrationKind,
    /// The URL: `https://` or `mqtts://`; plain ones into allowed private networks only.
    pub target: String,
    /// MQTT: the user name; empty: none.
    pub login: String,
    /// What is heard of.
    pub topics: Vec<FeedTopic>,
    /// Only about meters of this group and those below it.
    pub group: Option<GroupId>,
    /// Only these quantities of readings, by name; empty: all.
    pub quantities: Vec<String>,
    /// How.
    pub options: Options,
    /// Whether it is told.
    pub enabled: bool,
}

/// How an integration fares.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegrationStatus {
    /// Everything up to here has been taken by the far side.
    pub position: Position,
    /// What is on its way, and up to where it goes.
    pub sending: Option<(Uuid, Position)>,
    /// Items that were taken, ever.
    pub delivered: u64,
    /// Rows of the feed that went before they were delivered, ever.
    pub lost: u64,
    /// And since the last delivery.
    pub lost_untold: u64,
    /// Failures in a row.
    pub attempts: u32,
    /// Since when.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it is tried again.
    pub next_at: Option<DateTime<Utc>>,
    /// What the last failure was.
    pub last_error: Option<String>,
    /// When the far side last took something.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Since when the server has stopped telling it, after days of failure.
    pub stopped_at: Option<DateTime<Utc>>,
    /// What was removed before this is gone at the broker too.
    pub cleared_at: DateTime<Utc>,
}

/// An integration as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredIntegration {
    /// Its id.
    pub id: IntegrationId,
    /// Whose.
    pub account: AccountId,
    /// What people set.
    pub spec: IntegrationSpec,
    /// The password, sealed.
    pub sealed: Option<Vec<u8>>,
    /// What the secrets of a webhook are derived from, the newest first; two while it is being changed.
    pub salts: Vec<Uuid>,
    /// How it fares.
    pub status: IntegrationStatus,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit.
    pub version: i32,
}

/// What waits for an integration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Items of the feed behind its place, whether its filter lets them through or not.
    pub items: u64,
    /// When the oldest of them was stored.
    pub oldest: Option<DateTime<Utc>>,
}

/// A password that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPassword {
    /// As it is.
    Keep,
    /// None any more.
    Remove,
    /// This one, sealed.
    Sealed(Vec<u8>),
}

/// Integrations of an account, as the API edits them. Changes are audited, without secrets.
#[async_trait]
pub trait IntegrationBook: Send + Sync {
    /// By id, behind `after`, with what waits for each.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(
        &self,
        after: Option<IntegrationId>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<(StoredIntegration, Lag)>, StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: IntegrationId, now: DateTime<Utc>) -> Result<(StoredIntegration, Lag), StoreError>;

    /// Makes one. It is told of what is stored from now on.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a group that is not there, [`StoreError::Conflict`] when there are too many.
    async fn add(
        &self,
        spec: &IntegrationSpec,
        sealed: Option<Vec<u8>>,
        now: DateTime<Utc>,
    ) -> Result<StoredIntegration, StoreError>;

    /// Sets one. What was on its way is put together anew.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Invalid`].
    async fn set(
        &self,
        id: IntegrationId,
        spec: &IntegrationSpec,
        password: NewPassword,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Gives a webhook another secret; the old one signs beside it until then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn new_salt(&self, id: IntegrationId, old_until: DateTime<Utc>, now: DateTime<Utc>)
    -> Result<(), StoreError>;

    /// Tries again at once, also what the server has stopped.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn resume(&self, id: IntegrationId, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Deletes one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    async fn remove(&self, id: IntegrationId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;
}

/// What an item is about.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedData {
    /// A stored reading, of the quantities that are wanted.
    Reading {
        /// The reading.
        reading: Box<Reading>,
        /// Whether nothing newer of its kind is stored.
        newest: bool,
    },
    /// An event, as it is told.
    Event(Value),
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedItem {
    /// Behind it.
    pub place: Position,
    /// The same whenever it is told.
    pub id: String,
    /// Of which topic.
    pub topic: FeedTopic,
    /// Which meter it is about.
    pub meter: Option<MeterId>,
    /// Which DTU it is about.
    pub dtu: Option<DtuId>,
    /// What.
    pub data: FeedData,
}

/// A part of the feed, seen through an integration's filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedPage {
    /// What passed it, in order.
    pub items: Vec<FeedItem>,
    /// Up to here everything has been looked at.
    pub reached: Position,
    /// Whether nothing more was settled behind it.
    pub end: bool,
}

/// Which part of the feed.
#[derive(Clone, Copy, Debug)]
pub struct FeedQuery {
    /// Behind this.
    pub from: Position,
    /// Up to and with this.
    pub to: Position,
    /// Items at most.
    pub limit: u32,
}

/// A meter and where it hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterPlace {
    /// Which.
    pub id: MeterId,
    /// Behind which DTU.
    pub dtu: DtuId,
    /// Its name.
    pub name: String,
    /// Its model.
    pub model: String,
}

/// A DTU as a broker is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtuPlace {
    /// Its serial number.
    pub sn: Option<String>,
    /// Whether it has a session.
    pub online: bool,
}

/// A meter that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneMeter {
    /// Which.
    pub id: MeterId,
    /// Behind which DTU it was.
    pub dtu: DtuId,
    /// The quantities that were ever stored last of it.
    pub quantities: Vec<String>,
}

/// The meters and DTUs that a broker is told of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// Meters by id.
    pub meters: HashMap<MeterId, MeterPlace>,
    /// DTUs by id, also those that are gone and had a meter that is.
    pub dtus: HashMap<DtuId, DtuPlace>,
    /// Meters that were deleted since it was last cleared.
    pub gone: Vec<GoneMeter>,
    /// DTUs that were deleted since.
    pub gone_dtus: Vec<DtuId>,
}

/// What is counted of all integrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedFill {
    /// Rows of the feed.
    pub rows: u64,
    /// By kind: working, failing, stopped by the server, switched off.
    pub integrations: Vec<(IntegrationKind, [u64; 4])>,
    /// By kind: when the oldest thing that waits for a working or failing one was stored.
    pub oldest: Vec<(IntegrationKind, DateTime<Utc>)>,
}

/// The feed and the cursors, across accounts: the pump's side.
#[async_trait]
pub trait FeedStore: Send + Sync + 'static {
    /// One look at how far the feed is.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn look(&self) -> Result<Look, StoreError>;

    /// Everything that is to be told now: switched on and not stopped, at most `limit`, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn active(&self, limit: u32, now: DateTime<Utc>) -> Result<Vec<StoredIntegration>, StoreError>;

    /// A part of the feed through an integration's filter.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn page(&self, integration: &StoredIntegration, query: FeedQuery) -> Result<FeedPage, StoreError>;

    /// Writes down what is about to be sent, before it is.
    ///
    /// # Errors
    /// [`StoreError`]; then it must not be sent.
    async fn intend(&self, id: IntegrationId, sending: Uuid, to: Position) -> Result<(), StoreError>;

    /// The far side has taken everything up to here, so many items of it now, and has been told of so many lost ones. Returns
    /// how many were lost since and are still to be told.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn delivered(
        &self,
        id: IntegrationId,
        to: Position,
        items: u64,
        lost_told: u64,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError>;

    /// It failed, and is tried again then.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn failed(
        &self,
        id: IntegrationId,
        error: &str,
        next: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Stops telling it, tells people so by a notice, and writes it into the audit: one transaction. False: it is stopped
    /// already, or gone.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn stop(&self, id: IntegrationId, now: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Meters and DTUs that a broker is told of.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn places(&self, integration: &StoredIntegration) -> Result<Places, StoreError>;

    /// What was removed before this is gone at the broker.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn cleared(&self, id: IntegrationId, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Drops rows that everybody has, and those stored before `before` whoever lacks them, which is counted as lost. At
    /// most `limit` rows; how many it were.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn prune(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError>;

    /// Counts.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn fill(&self) -> Result<FeedFill, StoreError>;
}

/// A request to a webhook, the same at every attempt.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    /// Where to.
    pub target: &'a str,
    /// Its id.
    pub id: Uuid,
    /// What its signatures are derived from.
    pub salts: &'a [Uuid],
    /// JSON.
    pub body: String,
}

/// Who posts.
#[async_trait]
pub trait Poster: Send + Sync + 'static {
    /// Posts it, within a bounded time; returns when the far side has taken it.
    ///
    /// # Errors
    /// [`SendError`].
    async fn post(&self, post: Post<'_>) -> Result<(), SendError>;
}

/// A message to a broker, at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where.
    pub topic: String,
    /// What; nothing and retained: it is cleared.
    pub payload: Bytes,
    /// Whether who comes later gets it too.
    pub retain: bool,
    /// Seconds after which the broker drops it; 0: never.
    pub expiry_s: u32,
    /// `application/json`, if it is.
    pub json: bool,
    /// User properties.
    pub properties: Vec<(String, String)>,
}

/// Where a broker is and who connects.
#[derive(Clone, Debug)]
pub struct BrokerTarget {
    /// The URL.
    pub target: String,
    /// The user name; empty: none.
    pub login: String,
    /// The password, sealed, if there is one.
    pub sealed: Option<Vec<u8>>,
    /// The client's id, its own among all of this broker.
    pub client: String,
    /// What is told when the connection is lost, retained.
    pub will: Option<(String, String)>,
}

/// Who connects to brokers.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Connects, within a bounded time.
    ///
    /// # Errors
    /// [`SendError`].
    async fn connect(&self, target: BrokerTarget) -> Result<Box<dyn BrokerSession>, SendError>;
}

/// A connection to a broker. Dropping it cuts it: the broker tells the will.
#[async_trait]
pub trait BrokerSession: Send {
    /// Publishes in order, as many at once as the broker takes; returns when it has confirmed every one.
    ///
    /// # Errors
    /// [`SendError`]; some may have arrived. The connection is of no use any more.
    async fn publish(&mut self, batch: Vec<Publication>) -> Result<(), SendError>;

    /// Keeps the connection alive for so long.
    ///
    /// # Errors
    /// [`SendError`] when it is lost.
    async fn idle(&mut self, time: Duration) -> Result<(), SendError>;

    /// Says goodbye: the will is not told.
    async fn close(&mut self);
}

/// What the API has to know of the senders.
#[async_trait]
pub trait IntegrationDesk: Send + Sync {
    /// Whether this server tells anybody.
    fn enabled(&self) -> bool;

    /// What is wrong with a target.
    ///
    /// # Errors
    /// Says what is wrong and what to give.
    fn check_target(&self, kind: IntegrationKind, target: &str) -> Result<(), String>;

    /// The secret with which a webhook is signed, for showing it once.
    fn secret(&self, salt: Uuid) -> String;

    /// Makes a password unreadable for whoever has the database alone.
    ///
    /// # Errors
    /// When the system has no chance to give.
    fn seal(&self, password: &SecretString) -> Result<Vec<u8>, String>;

    /// Sends a test now, once. It is bounded in time.
    ///
    /// # Errors
    /// [`SendError`].
    async fn test(&self, integration: &StoredIntegration, id: Uuid, now: DateTime<Utc>) -> Result<(), SendError>;
}
