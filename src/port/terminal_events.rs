//! The seams of what concentrators record of events: through one a connection puts it away ([`TerminalEventLog`]; a report is
//! confirmed to the concentrator only behind it), through the other the API looks at it ([`TerminalEventStore`]).

pub use crate::protocol::gdw376::event::name as event_name;

use super::scope::StoreError;
use crate::base::ids::{DtuId, TerminalEventId};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Serialize;

/// A record of an event (Q/GDW 1376.1, ERC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalEvent {
    /// Whether it stands in the list of important ones.
    pub important: bool,
    /// ERC: what happened.
    pub code: u8,
    /// When, by the terminal's own clock; none where the record does not say.
    pub happened_at: Option<NaiveDateTime>,
    /// The whole record; 255 bytes at most.
    pub data: Vec<u8>,
}

/// Where records go.
#[async_trait]
pub trait TerminalEventLog: Send + Sync + 'static {
    /// Keeps records; what is there already is left alone. Durable when it answers: how many were new.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept.
    async fn keep(&self, dtu: DtuId, events: &[TerminalEvent], now: DateTime<Utc>) -> Result<u64, StoreError>;
}

/// A kept record, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TerminalEventView {
    /// Its id; a later one was learned of later.
    #[schema(value_type = i64)]
    pub id: TerminalEventId,
    /// ERC: what happened (Q/GDW 1376.1, annex D).
    #[schema(example = 14)]
    pub code: u8,
    /// The same in words.
    #[schema(example = "terminal lost or regained supply")]
    pub name: String,
    /// Whether the concentrator has it in its list of important ones, which raise alarms.
    pub important: bool,
    /// When, by the concentrator's own clock, whose zone it does not say; null where the record has no time.
    #[schema(example = "2026-03-01T11:45:00")]
    pub happened_at: Option<NaiveDateTime>,
    /// When we learned of it.
    pub found_at: DateTime<Utc>,
    /// The whole record behind its code and length, in hexadecimal digits.
    #[schema(example = "4511010326450103260112")]
    pub data: String,
}

/// What the concentrators of one account recorded.
#[async_trait]
pub trait TerminalEventStore: Send + Sync {
    /// What we learned of last first, of those before `before`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a DTU of another account.
    async fn list(
        &self,
        dtu: DtuId,
        before: Option<TerminalEventId>,
        limit: u32,
    ) -> Result<Vec<TerminalEventView>, StoreError>;
}

/// Keeps nothing and says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptNowhere;

#[async_trait]
impl TerminalEventLog for KeptNowhere {
    async fn keep(&self, _: DtuId, _: &[TerminalEvent], _: DateTime<Utc>) -> Result<u64, StoreError> {
        Err(StoreError::Unavailable("events are kept nowhere".to_owned()))
    }
}
