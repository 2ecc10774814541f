//! Rows of notices as the domain knows them.

use crate::base::ids::{AccountId, ChannelId, GroupId, RecipientId};
use crate::domain::notice::{ChannelKind, Edge, Happening, Language, Severity};
use crate::port::notices::{MessageState, MessageView};
use crate::port::scope::StoreError;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::Value;
use uuid::Uuid;

pub(super) fn broken(what: &str, value: &str) -> StoreError {
    StoreError::Internal(format!("notices: {value:?} is no {what}"))
}

pub(super) fn kind(text: &str) -> Result<ChannelKind, StoreError> {
    ChannelKind::by_name(text).ok_or_else(|| broken("kind of channel", text))
}

pub(super) fn language(text: &str) -> Result<Language, StoreError> {
    Language::by_name(text).ok_or_else(|| broken("language", text))
}

pub(super) fn zone(text: &str) -> Result<Tz, StoreError> {
    text.parse().map_err(|_| broken("time zone", text))
}

pub(super) fn severity(text: &str) -> Result<Severity, StoreError> {
    Severity::by_name(text).ok_or_else(|| broken("severity", text))
}

pub(super) fn edge(text: &str) -> Result<Edge, StoreError> {
    Edge::by_name(text).ok_or_else(|| broken("edge", text))
}

/// JSON of ours, read back.
pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value, what: &str) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::Internal(format!("notices: {what}: {error}")))
}

/// The columns of a happening.
pub(super) struct HappeningRow {
    pub(super) account_id: i32,
    pub(super) subject: String,
    pub(super) edge: String,
    pub(super) severity: String,
    pub(super) kind: String,
    pub(super) facts: Value,
    pub(super) groups: Vec<i32>,
    pub(super) at: DateTime<Utc>,
}

impl TryFrom<HappeningRow> for Happening {
    type Error = StoreError;

    fn try_from(row: HappeningRow) -> Result<Self, StoreError> {
        Ok(Self {
            account: AccountId(row.account_id),
            edge: edge(&row.edge)?,
            severity: severity(&row.severity)?,
            facts: read(row.facts, "facts")?,
            subject: row.subject,
            kind: row.kind,
            groups: row.groups.into_iter().map(GroupId).collect(),
            at: row.at,
        })
    }
}

/// The columns of a message as the API shows it.
pub(super) struct MessageRow {
    pub(super) id: Uuid,
    pub(super) recipient_id: i32,
    pub(super) channel_id: i32,
    pub(super) kind: String,
    pub(super) address: String,
    pub(super) subject: String,
    pub(super) body: String,
    pub(super) critical: bool,
    pub(super) test: bool,
    pub(super) state: String,
    pub(super) attempts: i16,
    pub(super) next_at: Option<DateTime<Utc>>,
    pub(super) last_error: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) maybe_twice: bool,
    pub(super) created_at: DateTime<Utc>,
    pub(super) ended_at: Option<DateTime<Utc>>,
}

impl TryFrom<MessageRow> for MessageView {
    type Error = StoreError;

    fn try_from(row: MessageRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            recipient_id: RecipientId(row.recipient_id),
            channel_id: ChannelId(row.channel_id),
            kind: kind(&row.kind)?,
            address: row.address,
            subject: row.subject,
            body: row.body,
            critical: row.critical,
            test: row.test,
            state: MessageState::by_name(&row.state).ok_or_else(|| broken("state", &row.state))?,
            attempts: row.attempts,
            next_at: row.next_at,
            last_error: row.last_error,
            reference: row.reference,
            maybe_twice: row.maybe_twice,
            created_at: row.created_at,
            ended_at: row.ended_at,
        })
    }
}
