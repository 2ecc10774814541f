//! The seams of what concentrators and terminals record of events: through one a connection puts it away ([`TerminalEventLog`]; a report is
//! confirmed to the concentrator only behind it), through the other the API looks at it ([`TerminalEventStore`]).

use super::scope::StoreError;
use crate::base::ids::{DtuId, TerminalEventId};
use crate::protocol::{dlt698, gdw376};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Serialize;

/// The most bytes of a record that is kept.
pub const EVENT_MAX: usize = 8192;

/// What an event is, in words: below 256 an ERC of Q/GDW 1376.1, above the number of an object of DL/T 698.45.
pub fn event_name(code: u16) -> &'static str {
    match u8::try_from(code) {
        Ok(erc) => gdw376::event::name(erc),
        Err(_) => dlt698::event::name(code),
    }
}

/// How an event is called by those who know its standard: `ERC14`, `OI 3106`.
pub fn event_label(code: u16) -> String {
    match u8::try_from(code) {
        Ok(erc) => format!("ERC{erc}"),
        Err(_) => format!("OI {code:04X}"),
    }
}

/// A record of an event (Q/GDW 1376.1, ERC; DL/T 698.45, objects 3000 to 32FF).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalEvent {
    /// Whether it stands in the list of important ones, or was reported by a terminal of DL/T 698.45.
    pub important: bool,
    /// What happened, as [`event_name`] has it.
    pub code: u16,
    /// When, by the terminal's own clock; none where the record does not say.
    pub happened_at: Option<NaiveDateTime>,
    /// The whole record; [`EVENT_MAX`] bytes at most.
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
    /// What happened: below 256 an ERC of Q/GDW 1376.1 (annex D), above the number of an object of DL/T 698.45 (annex E; 12550 is
    /// 3106).
    #[schema(example = 14)]
    pub code: u16,
    /// The same in words.
    #[schema(example = "terminal lost or regained supply")]
    pub name: String,
    /// Whether the concentrator has it in its list of important ones, which raise alarms; always so of what a DL/T 698.45
    /// terminal reports.
    pub important: bool,
    /// When, by the concentrator's own clock, whose zone it does not say; null where the record has no time.
    #[schema(example = "2026-03-01T11:45:00")]
    pub happened_at: Option<NaiveDateTime>,
    /// When we learned of it.
    pub found_at: DateTime<Utc>,
    /// The whole record behind its code and length, in hexadecimal digits.
    #[schema(example = "4511010326450103260112")]
    pub data: String,
    /// What is understood of it besides.
    pub detail: EventDetail,
}

/// What a record of an event says besides what happened and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct EventDetail {
    /// The measuring point of the concentrator (Pn) that it is of; null where it is of the concentrator itself, or does not say.
    #[schema(example = json!(null))]
    pub point: Option<u16>,
    /// The address of the meter that it is of; null where it is of the terminal itself, or does not say.
    #[schema(example = json!(null))]
    pub device: Option<String>,
    /// The attribute whose record it is, eight hexadecimal digits (DL/T 698.45): events that are recorded in several tables have one
    /// each.
    #[schema(example = json!(null))]
    pub object: Option<String>,
    /// The number that the terminal gave the record.
    #[schema(example = json!(null))]
    pub number: Option<u32>,
    /// Whether it began (true) or ended; null where the record does not say it in so many words.
    #[schema(example = json!(null))]
    pub began: Option<bool>,
    /// When it ended, by the terminal's own clock.
    #[schema(example = "2026-03-01T12:01:00")]
    pub ended_at: Option<NaiveDateTime>,
    /// What was recorded with it.
    pub values: Vec<EventValue>,
}

/// A value that was recorded with an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct EventValue {
    /// What it is.
    #[schema(example = "voltage, phase A")]
    pub name: String,
    /// The value as text, in its unit.
    #[schema(example = "187.3")]
    pub value: String,
    /// The unit; empty where there is none, or none is known.
    #[schema(example = "V")]
    pub unit: String,
}

/// What is understood of a record.
pub fn event_detail(code: u16, data: &[u8]) -> EventDetail {
    match u8::try_from(code) {
        Ok(erc) => of_concentrator(gdw376::event_detail::detail(erc, data)),
        Err(_) => {
            dlt698::event::Event::parse(data).map_or_else(|_| EventDetail::default(), |event| of_terminal(&event))
        }
    }
}

fn of_concentrator(detail: gdw376::event_detail::Detail) -> EventDetail {
    let values = detail.fields.into_iter().map(|said| EventValue {
        name: said.name.to_owned(),
        value: said.text(),
        unit: said.unit.to_owned(),
    });
    EventDetail {
        point: detail.point,
        began: detail.began,
        values: values.collect(),
        ..EventDetail::default()
    }
}

fn of_terminal(event: &dlt698::event::Event) -> EventDetail {
    let values = event.values().flat_map(|cell| {
        dlt698::objects::values(cell.oad, &cell.data)
            .into_iter()
            .map(|value| EventValue {
                name: value.item.to_string(),
                value: value
                    .number
                    .map_or_else(|| value.data.to_string(), |number| number.to_string()),
                unit: value.number.map_or("", |_| value.item.unit).to_owned(),
            })
    });
    EventDetail {
        point: None,
        device: event.device(),
        object: Some(event.oad.to_string()),
        number: event.number(),
        began: None,
        ended_at: event.ended_at(),
        values: values.collect(),
    }
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
