//! The agenda's words: what it asks of its actor and what it is told.

use super::back_fill::PastOrder;
use crate::domain::quantity::Quantity;
use crate::domain::slot::plan::SlotKey;
use crate::domain::slot::{MissReason, SlotEnding};
use crate::exchange::job::Priority;
use chrono::{DateTime, Utc};

/// A poll that shall go to the meter now. Answer it with [`super::Agenda::outcome`], whatever happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollOrder {
    /// To be handed back with the outcome.
    pub serial: u64,
    /// The slots' due time: the reading's `ts`, its source being `scheduled`.
    pub due_at: DateTime<Utc>,
    /// The union of what the slots want, sorted; empty: all of the model.
    pub quantities: Vec<Quantity>,
    /// Its place in the line's queue.
    pub priority: Priority,
    /// Attempts per transaction.
    pub attempts: u8,
    /// No attempt begins at or after this instant.
    pub deadline: DateTime<Utc>,
    /// Its slots have ended as missing already; a reading makes them `late`.
    pub catch_up: bool,
    /// The past state that is asked for instead of the present one; answer it with [`super::Agenda::past_outcome`].
    pub past: Option<PastOrder>,
    /// The slots that it serves.
    pub slots: Vec<SlotKey>,
}

/// What came of the wanted quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// All that was asked for.
    Everything,
    /// Some; these of the wanted ones did not come.
    Partly {
        /// What did not come.
        missing: Vec<Quantity>,
    },
    /// No value at all.
    Nothing,
}

/// Why a poll or a part of it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The ledger's reason.
    pub reason: MissReason,
    /// More, at most 64 printable bytes, e.g. `0x02`.
    pub detail: Option<String>,
}

impl Failure {
    /// A failure without detail.
    pub fn of(reason: MissReason) -> Self {
        Self { reason, detail: None }
    }
}

/// What became of a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollVerdict {
    /// When its first attempt was written, our clock; none when none was.
    pub began_at: Option<DateTime<Utc>>,
    /// Attempts made on the line.
    pub attempts: u16,
    /// What came.
    pub got: Got,
    /// Why not everything came; the last failure where there were several.
    pub failure: Option<Failure>,
}

/// Slots that have ended. Make it durable together with the reading, then call [`super::Agenda::saved`] or
/// [`super::Agenda::refused`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Endings that are rows of their own.
    pub endings: Vec<SlotEnding>,
    /// Slots that the scheduled reading itself ends as `actual`.
    pub by_reading: Vec<SlotKey>,
    /// Those of `endings` whose slots had ended before: later versions.
    pub(super) again: Vec<SlotKey>,
}

impl Ended {
    /// Whether nothing ended.
    pub fn is_empty(&self) -> bool {
        self.endings.is_empty() && self.by_reading.is_empty()
    }

    /// The keys of all slots in it.
    pub fn keys(&self) -> impl Iterator<Item = SlotKey> + '_ {
        self.by_reading.iter().copied().chain(self.endings.iter().map(key_of))
    }
}

pub(super) fn key_of(ending: &SlotEnding) -> SlotKey {
    SlotKey {
        due_at: ending.due_at,
        schedule: ending.schedule,
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this poll, then wake again.
    Poll(PollOrder),
    /// Make these endings durable, then wake again.
    End(Ended),
    /// Nothing until [`super::Agenda::next_wake`].
    Sleep,
}

/// What follows from an outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// The reading is to be stored, in one record with `ended`. False also for an outcome that came too late to count:
    /// then nothing of it may be stored.
    pub store: bool,
    /// What ended.
    pub ended: Ended,
    /// The poll is tried again at this instant, if the line is there.
    pub retry_at: Option<DateTime<Utc>>,
    /// The meter's breaker opened now.
    pub breaker_opened: bool,
}
