//! DTUs of an account, as people edit them, and the history of their sessions.

use crate::base::ids::{AccountId, DtuId, FrameId, ScheduleId, SessionId};
use crate::domain::device::{Connect, SerialNumber};
use crate::port::frames::RecordedFrame;
use crate::port::meters::ScheduleChoice;
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

/// A DTU as stored; what is live comes from [`crate::port::fleet::Fleet`].
#[derive(Clone, Debug, PartialEq)]
pub struct Dtu {
    /// Its id.
    pub id: DtuId,
    /// Its account.
    pub account: AccountId,
    /// Its serial number.
    pub sn: Option<SerialNumber>,
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub connect: Connect,
    /// A pinned registration profile.
    pub profile: Option<String>,
    /// IANA zone; none: the account's.
    pub time_zone: Option<String>,
    /// The schedule of its meters that have none of their own.
    pub schedule: Option<ScheduleId>,
    /// Silence after which a session is dead, seconds.
    pub silence_s: u32,
    /// Reply time-out, milliseconds.
    pub timeout_ms: u32,
    /// Pause before the next request, milliseconds.
    pub pause_ms: u32,
    /// Disabled DTUs are refused at the port.
    pub enabled: bool,
    /// What the recogniser learned, as last stored.
    pub learned: Option<Value>,
    /// How many meters it has.
    pub meters: i64,
    /// Share of the last 24 hours (or of its life, if shorter) with a session, 0 to 1.
    pub online_share: f64,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit.
    pub version: i32,
}

/// A new DTU, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDtu {
    /// Its serial number.
    pub sn: Option<SerialNumber>,
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub connect: Connect,
    /// A pinned registration profile.
    pub profile: Option<String>,
    /// IANA zone.
    pub time_zone: Option<String>,
    /// The schedule of its meters that have none of their own.
    pub schedule: Option<ScheduleChoice>,
    /// Silence limit; none: the default.
    pub silence_s: Option<u32>,
    /// Reply time-out; none: the default.
    pub timeout_ms: Option<u32>,
    /// Pause; none: the default.
    pub pause_ms: Option<u32>,
}

/// What to change of a DTU; none: as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DtuEdit {
    /// Its serial number.
    pub sn: Option<Option<SerialNumber>>,
    /// Its name.
    pub name: Option<String>,
    /// How it is reached.
    pub connect: Option<Connect>,
    /// A pinned registration profile.
    pub profile: Option<Option<String>>,
    /// IANA zone.
    pub time_zone: Option<Option<String>>,
    /// The schedule of its meters that have none of their own.
    pub schedule: Option<Option<ScheduleChoice>>,
    /// Silence limit.
    pub silence_s: Option<u32>,
    /// Reply time-out.
    pub timeout_ms: Option<u32>,
    /// Pause.
    pub pause_ms: Option<u32>,
    /// Whether it is let in.
    pub enabled: Option<bool>,
}

/// A session in history.
#[derive(Clone, Debug, PartialEq)]
pub struct PastSession {
    /// Its id.
    pub id: SessionId,
    /// Where it came from.
    pub peer: String,
    /// Began.
    pub began_at: DateTime<Utc>,
    /// Ended; none: open.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it ended.
    pub cause: Option<String>,
    /// Its counters.
    pub counters: Value,
}

/// DTUs that the handle reaches: those of its account, or all.
#[async_trait]
pub trait DtuStore: Send + Sync {
    /// Whose name or serial number holds `text`, by id, behind `after`, at most `limit`; and how many there are in all.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(
        &self,
        text: Option<&str>,
        after: Option<DtuId>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Dtu>, u64), StoreError>;

    /// One.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn get(&self, id: DtuId, now: DateTime<Utc>) -> Result<Dtu, StoreError>;

    /// Whether the DTU is, or was before it was deleted, within reach.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn owns(&self, id: DtuId) -> Result<bool, StoreError>;

    /// Makes one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the serial number is in use; [`StoreError::Invalid`] for a schedule that is not
    /// there.
    async fn create(&self, dtu: &NewDtu, now: DateTime<Utc>) -> Result<Dtu, StoreError>;

    /// Changes one that has `version` (none: any).
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Conflict`], [`StoreError::Invalid`].
    async fn update(
        &self,
        id: DtuId,
        edit: &DtuEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Dtu, StoreError>;

    /// Deletes one that has no meters; its history stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`], [`StoreError::Conflict`] while it has meters.
    async fn delete(&self, id: DtuId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError>;

    /// Its sessions, newest first, behind `before` (beginning and id of the last one seen); at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sessions(
        &self,
        id: DtuId,
        before: Option<(DateTime<Utc>, SessionId)>,
        limit: u32,
    ) -> Result<Vec<PastSession>, StoreError>;

    /// A frame that was kept as evidence.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn evidence(&self, id: FrameId) -> Result<Option<RecordedFrame>, StoreError>;
}
