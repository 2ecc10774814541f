//! What is asked of a line: a visit to a meter, its questions, what became of them, and the one order of priority.

use super::evidence::Evidence;
use crate::base::ids::{FrameRange, MeterId, PollId};
use crate::protocol::Request;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Who goes first on a line. The smaller, the sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Relay commands and their read-back.
    Control,
    /// Credit writes.
    Money,
    /// Somebody waits for it.
    OnDemand,
    /// Settlement readings.
    Settlement,
    /// Ordinary schedules.
    Scheduled,
    /// Filling gaps.
    BackFill,
    /// Looking for meters.
    Discovery,
}

impl Priority {
    /// The name in metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Money => "money",
            Self::OnDemand => "on_demand",
            Self::Settlement => "settlement",
            Self::Scheduled => "scheduled",
            Self::BackFill => "back_fill",
            Self::Discovery => "discovery",
        }
    }
}

/// All requests of one visit to one meter. The connection runs them in order and answers once.
#[derive(Clone, Debug)]
pub struct PollJob {
    /// The visit.
    pub poll: PollId,
    /// The meter.
    pub meter: MeterId,
    /// Its place in the line's queue.
    pub priority: Priority,
    /// The questions, in order.
    pub requests: Vec<Request>,
    /// What is asked in the same visit, behind the other questions, in place of one that is refused; by the question's
    /// place, and nothing where there is nothing finer to ask. May be shorter than the questions.
    pub instead: Vec<Vec<Request>>,
    /// Attempts per question, 1 to 10.
    pub attempts: u8,
    /// How long an answer may take to come, beside the line time of question and answer.
    pub timeout: Duration,
    /// What one byte takes on the line; zero where there is no slow line.
    pub byte_time: Duration,
    /// Pause that this meter needs between a reply and the next request.
    pub pause: Duration,
    /// Its frames are wanted as evidence even when all goes well.
    pub evidence: bool,
    /// No attempt begins after this instant; what is left then fails with [`TransactionError::Deadline`].
    pub deadline: Instant,
    /// Set for questions that change something in the field; none for those that only read.
    pub effect: Option<Effect>,
}

impl PollJob {
    /// Whether nothing of it may begin any more.
    pub fn is_over(&self, now: Instant) -> bool {
        self.deadline <= now || self.effect.as_ref().is_some_and(Effect::is_revoked)
    }
}

/// What makes a job one that changes something: each of its questions is written once at most, whatever the line thinks
/// of the answer, and whoever holds a clone can still keep it from beginning.
#[derive(Clone, Debug, Default)]
pub struct Effect {
    revoked: Arc<AtomicBool>,
}

impl Effect {
    /// From now on nothing of the job begins.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
    }

    /// Whether it was revoked.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }
}

/// What one byte takes on a serial line: start bit, eight data bits, parity if there is one, stop bits.
pub fn byte_time(bits_per_s: u32, parity: bool, stop_bits: u8) -> Duration {
    let bits = 1 + 8 + u32::from(parity) + u32::from(stop_bits.clamp(1, 2));
    Duration::from_secs(1) * bits / bits_per_s.max(1)
}

impl PollJob {
    /// What so many bytes take on the line.
    pub fn line_time(&self, bytes: usize) -> Duration {
        self.byte_time.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// Until when an attempt at `request` may be answered, from the moment it was written: bytes out, turnaround, bytes in.
    pub fn reply_time(&self, request: &Request) -> Duration {
        self.answer_time(request.wire().len(), request.answer_len_max())
    }

    /// The same of a question of so many bytes whose answer has so many at most.
    pub fn answer_time(&self, asked_bytes: usize, answer_bytes: usize) -> Duration {
        let bytes = asked_bytes.saturating_add(answer_bytes);
        self.timeout.saturating_add(self.line_time(bytes))
    }
}

/// What became of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionReport {
    /// The answer frame (for Modbus the RTU frame with CRC), with those of its follow-ups behind it, or why there is none.
    /// Empty for a question that has no answer.
    pub result: Result<Vec<u8>, TransactionError>,
    /// Attempts made; of a question with follow-ups the most that one of them took.
    pub attempts: u8,
    /// When the last attempt was written, our clock.
    pub sent_at: DateTime<Utc>,
    /// When it ended, our clock.
    pub ended_at: DateTime<Utc>,
    /// How long the meter thought before it answered: the round trip without the line time of question and answer, with
    /// whatever the way to the line adds. None where it is not known for certain; of several frames the longest.
    pub turnaround: Option<Duration>,
    /// How long the question held the line, all attempts and frames.
    pub held: Duration,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// No answer within the time-out, in all attempts.
    #[error("no answer within the time-out")]
    Timeout,
    /// The device refused; the code in the protocol's numbering.
    #[error("refused with code 0x{0:02x}")]
    Refused(u8),
    /// The job's deadline passed before an attempt could begin.
    #[error("the deadline passed before the line was free")]
    Deadline,
    /// The session ended.
    #[error("the session ended")]
    SessionLost,
    /// The line has answered nobody for some time and is probed only now and then.
    #[error("the line is silent")]
    LineSilent,
    /// The device says after each frame that more follow, beyond all bounds.
    #[error("the answer does not end")]
    Endless,
    /// What came under the question's number answers something else.
    #[error("the answer does not fit the question")]
    Unfit,
}

/// What became of a job: one report per request, in order, until the first that makes going on pointless (a dead meter
/// or a lost session); the rest is left out.
#[derive(Clone, Debug)]
pub struct PollOutcome {
    /// When the first attempt was written, our clock; none when none began.
    pub began_at: Option<DateTime<Utc>>,
    /// One report per request that was tried; behind them those of what was asked instead of the refused ones, in their
    /// order.
    pub reports: Vec<TransactionReport>,
    /// The raw frames of the visit, in the recorder.
    pub frames: FrameRange,
    /// By how much an answer of this meter came later than its time-out, the most since its last visit.
    pub late_by: Option<Duration>,
    /// Those of them that are worth more than the recorder's ring, and strays that came while nothing was asked.
    pub evidence: Vec<Evidence>,
}
