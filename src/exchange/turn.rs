//! The turn that a written question had on its line: how long it waited, how long it held the line, what became of it. It
//! goes with the question's raw frame, so that the recorder's ring is also the list of a line's transactions.

use super::job::{Priority, TransactionError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a written question came to the line, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its place in the line's queue.
    pub priority: Priority,
    /// How long it waited for the line, milliseconds: since the visit was asked for or its question before was over.
    pub waited_ms: u32,
    /// How long it held the line, milliseconds.
    pub held_ms: u32,
    /// What became of it.
    pub ending: TurnEnding,
}

/// What became of a question that was written. A closed list: its names are in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnEnding {
    /// Nothing believable came in time.
    Timeout,
    /// An answer was taken.
    Answered,
    /// The device refused.
    Refused,
    /// The session ended.
    SessionLost,
    /// The answer does not end within all bounds.
    Endless,
    /// What came under the question's number answers something else.
    Unfit,
    /// It has no answer.
    Sent,
}

impl TurnEnding {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::SessionLost => "session_lost",
            Self::Endless => "endless",
            Self::Unfit => "unfit",
            Self::Sent => "sent",
        }
    }

    /// By what became of the whole question.
    pub(super) fn of(result: &Result<Vec<u8>, TransactionError>) -> Self {
        match result {
            Ok(answer) if answer.is_empty() => Self::Sent,
            Ok(_) => Self::Answered,
            Err(TransactionError::Refused(_)) => Self::Refused,
            Err(TransactionError::SessionLost) => Self::SessionLost,
            Err(TransactionError::Endless) => Self::Endless,
            Err(TransactionError::Unfit) => Self::Unfit,
            Err(TransactionError::Timeout | TransactionError::Deadline | TransactionError::LineSilent) => Self::Timeout,
        }
    }
}

/// Of a span, as turns have it.
pub(super) fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
