//! What a line is told at its start, and what it says.

use crate::exchange::visit::{AnswerBounds, LineFrame, Ticket, VisitOutcome};
use std::time::Duration;

/// How a line behaves.
#[derive(Clone, Copy, Debug)]
pub struct LineSettings {
    /// The least quiet time after a time-out.
    pub guard: Duration,
    /// The most that it grows to.
    pub guard_max: Duration,
    /// How long an answer is owed, in time-outs of its attempt.
    pub owed_timeouts: u32,
    /// It is never owed longer.
    pub owed_max: Duration,
    /// Time-outs in a row, over all meters, that make the line dead.
    pub dead_timeouts: u32,
    /// Jobs that may wait.
    pub queue_jobs: usize,
    /// How long an answer in several frames may become.
    pub answer: AnswerBounds,
}

impl Default for LineSettings {
    fn default() -> Self {
        Self {
            guard: Duration::from_millis(100),
            guard_max: Duration::from_secs(2),
            owed_timeouts: 4,
            owed_max: Duration::from_secs(60),
            dead_timeouts: 30,
            queue_jobs: 256,
            answer: AnswerBounds::default(),
        }
    }
}

/// What the line has to say. Take all of it after every call.
#[derive(Debug)]
pub enum LineEvent {
    /// A job has ended.
    Done {
        /// Which.
        ticket: Ticket,
        /// With what.
        outcome: VisitOutcome,
    },
    /// Bytes came that belong to no visit.
    Unasked(LineFrame),
    /// Bytes that form no frame, wherever they came: the session may know them for a heartbeat. For the record they are
    /// also among a visit's frames or [`LineEvent::Unasked`].
    Noise(Vec<u8>),
    /// A transaction was answered; the bytes it took.
    Answered {
        /// Length of the answer.
        bytes: usize,
    },
    /// Too many time-outs in a row. Said once.
    Dead,
}

/// What a line counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineStats {
    /// Answered transactions, refusals included.
    pub answers: u64,
    /// Transactions without an answer.
    pub timeouts: u64,
    /// Valid frames that were nobody's answer.
    pub strays: u64,
    /// Smoothed round trip.
    pub round_trip: Option<Duration>,
}
