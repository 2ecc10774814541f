//! DTUs and meters as the directory knows them.

use crate::base::ids::{AccountId, DtuId, MeterId, ScheduleId};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::{Calendar, DayRule, Timing};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The longest serial number; registration texts of the field have up to 40 bytes (USR-M100), as hex 80 characters.
pub const SERIAL_NUMBER_MAX: usize = 80;

/// A DTU's serial number (SN): 1 to 80 characters of `A-Z a-z 0-9 . _ : -`, the first alphanumeric. Case is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SerialNumber(Arc<str>);

/// Why a text is not a serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialNumberError {
    /// Nothing there.
    #[error("a serial number has at least one character")]
    Empty,
    /// Over [`SERIAL_NUMBER_MAX`].
    #[error("a serial number has at most {SERIAL_NUMBER_MAX} characters, this has {0}")]
    TooLong(usize),
    /// A character outside the grammar.
    #[error(
        "character {found:?} at position {position} cannot stand in a serial number; allowed are A-Z a-z 0-9 . _ : - and the first must be a letter or digit"
    )]
    Character {
        /// The character.
        found: char,
        /// Its position, from 0.
        position: usize,
    },
}

impl SerialNumber {
    /// Checks the grammar.
    ///
    /// # Errors
    /// [`SerialNumberError`] names the first fault.
    pub fn parse(text: &str) -> Result<Self, SerialNumberError> {
        if text.is_empty() {
            return Err(SerialNumberError::Empty);
        }
        if text.len() > SERIAL_NUMBER_MAX {
            return Err(SerialNumberError::TooLong(text.len()));
        }
        for (position, found) in text.char_indices() {
            let inner = matches!(found, '.' | '_' | ':' | '-') && position > 0;
            if !found.is_ascii_alphanumeric() && !inner {
                return Err(SerialNumberError::Character { found, position });
            }
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SerialNumber {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Serial parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// None (8N1).
    None,
    /// Even (8E1).
    Even,
    /// Odd (8O1).
    Odd,
}

/// How a DTU is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Connect {
    /// It dials us and says its SN.
    Inbound,
    /// We dial a transparent converter; `HOST:PORT`.
    Dial {
        /// `HOST:PORT`.
        address: String,
    },
    /// We dial a Modbus TCP meter or gateway.
    ModbusTcp {
        /// `HOST:PORT`.
        address: String,
    },
    /// A serial port of this host.
    Serial {
        /// E.g. `/dev/ttyUSB0`.
        device: String,
        /// Bits per second, 300 to 921600.
        baud: u32,
        /// Parity.
        parity: Parity,
    },
}

/// A DTU as the front end needs it: identity, how to reach it, limits of its line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DtuRecord {
    /// Its id.
    pub id: DtuId,
    /// Who owns it.
    pub account: AccountId,
    /// Its serial number; dialled gateways and serial ports may have none.
    pub sn: Option<SerialNumber>,
    /// How it is reached.
    pub connect: Connect,
    /// A pinned registration profile by name, else the recogniser learns.
    pub profile: Option<String>,
    /// Silence after which the session is taken for dead, seconds.
    pub silence_s: u32,
    /// Reply time-out of the line, milliseconds, beside the time that question and answer take on it; a meter's model can
    /// ask for more.
    pub timeout_ms: u32,
    /// Pause between a reply and the next request, milliseconds.
    pub pause_ms: u32,
    /// Disabled DTUs are refused at the port.
    pub enabled: bool,
    /// Heartbeat packages that earlier sessions saw, at most 4: how its SN is told from a heartbeat that is glued to it.
    #[serde(default)]
    pub heartbeats: Vec<Vec<u8>>,
    /// Its meters.
    pub meters: Vec<MeterRecord>,
}

/// A meter as the front end needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeterRecord {
    /// Its id.
    pub id: MeterId,
    /// Who owns it.
    pub account: AccountId,
    /// The DTU behind which it hangs.
    pub dtu: DtuId,
    /// Protocol name, e.g. `modbus-rtu`.
    pub protocol: String,
    /// Address in the protocol's own form, e.g. `1` for a Modbus unit.
    pub address: String,
    /// Meter model name in the catalogue, e.g. `eastron_sdm630`.
    pub model: String,
    /// Current transformer ratio for billing consumption (readings are stored as the meter says them).
    pub ct_ratio: Decimal,
    /// Voltage transformer ratio.
    pub vt_ratio: Decimal,
    /// Which schedules apply, with their dated rules. Own, else the DTU's, else the account's.
    pub schedules: Vec<AppliedSchedule>,
}

/// What happens with slots that became due while nobody could read. A slot that a meter's own memory can serve is read
/// from there, with the meter's own time; else it takes a late live read, and of those there is one a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum MissedRun {
    /// They end as missing.
    Skip,
    /// The last one is caught up once (ends late), the others stay missing.
    #[default]
    Once,
    /// Each is caught up that the meter's memory can serve, by a read of its own; of the others the last one, once.
    All,
}

/// What happens with a slot that comes due while an earlier slot of its schedule is being read: its poll has begun and
/// has neither ended nor been given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It ends at once as missing, `overlap`.
    Skip,
    /// It waits, one at a time: when another comes due, the one that waited ends as missing, `overlap`.
    #[default]
    QueueOne,
}

/// A schedule's place in its line's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotPriority {
    /// Before ordinary schedules; what settlement schedules have unless told otherwise.
    Settlement,
    /// What all others have unless told otherwise.
    Scheduled,
    /// In the line's idle time.
    BackFill,
}

impl SlotPriority {
    /// What a timing has unless told otherwise.
    pub fn of(timing: &Timing) -> Self {
        if timing.is_settlement() {
            Self::Settlement
        } else {
            Self::Scheduled
        }
    }
}

/// How a poll is retried within its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts on the line per transaction, 1 to 10.
    pub attempts: u8,
    /// Wait before the poll is tried again, doubled each time, seconds.
    pub backoff_s: u32,
    /// No new attempt begins later than this after the due time, seconds; at most the window.
    pub deadline_s: u32,
    /// No new poll begins for a slot that has cost so many attempts on the line; none: the deadline alone ends it.
    pub budget: Option<u16>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff_s: 5,
            deadline_s: 300,
            budget: None,
        }
    }
}

/// One version of a schedule's rule, in force over `[valid_from, valid_to)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRule {
    /// In force from.
    pub valid_from: DateTime<Utc>,
    /// In force until; none: still.
    pub valid_to: Option<DateTime<Utc>>,
    /// When it comes due, as the user wrote it.
    pub timing: Timing,
    /// IANA zone name, e.g. `Europe/Berlin`.
    pub time_zone: String,
    /// On which days of the calendar.
    pub days: DayRule,
    /// The calendar as it stood over the rule's span: a calendar that changed makes several rules of one.
    pub calendar: Option<Arc<Calendar>>,
    /// Wanted quantities; empty: all of the model.
    pub quantities: Vec<Quantity>,
    /// Polls are spread over this many seconds after the due time, by hash of the meter.
    pub spread_s: u32,
    /// A read that begins within this many seconds after the due time is `actual`.
    pub window_s: u32,
    /// Retries.
    pub retry: RetryPolicy,
    /// Missed runs.
    pub missed_run: MissedRun,
    /// Slots that run into each other.
    pub overlap: Overlap,
    /// The place in the line's queue.
    pub priority: SlotPriority,
}

impl ScheduleRule {
    /// A cron rule with everything else as it is by default, in force from `valid_from`.
    pub fn by_cron(cron: &str, time_zone: &str, valid_from: DateTime<Utc>) -> Self {
        Self {
            valid_from,
            valid_to: None,
            timing: Timing::Cron(cron.to_owned()),
            time_zone: time_zone.to_owned(),
            days: DayRule::EveryDay,
            calendar: None,
            quantities: Vec::new(),
            spread_s: 0,
            window_s: 300,
            retry: RetryPolicy::default(),
            missed_run: MissedRun::default(),
            overlap: Overlap::default(),
            priority: SlotPriority::Scheduled,
        }
    }
}

/// A schedule applied to a meter over `[valid_from, valid_to)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppliedSchedule {
    /// The schedule.
    pub schedule: ScheduleId,
    /// Applied from.
    pub valid_from: DateTime<Utc>,
    /// Applied until; none: still.
    pub valid_to: Option<DateTime<Utc>>,
    /// Its dated rules, oldest first; shared between meters.
    pub rules: Arc<Vec<ScheduleRule>>,
}
