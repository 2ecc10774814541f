//! What a line remembers so that one meter's late answer is never taken for another's.
//!
//! Modbus RTU has no transaction number: an answer says its unit, its function and its length, not its question. So the
//! line keeps two lists, both bounded in number and in time:
//!
//! - **owed**: each attempt that was written and not answered. Its answer can still come for the *horizon* (a multiple
//!   of its time-out, or more where later ones were seen). As long as it can, no other question is asked whose answer
//!   would look the same ([`Shape`]).
//! - **seen**: each frame that came within the horizon. A frame that comes again, byte for byte, may be a repeat by the
//!   network of what was said before and is not believed at once.
//!
//! Limits, honestly: an answer later than the horizon, a repeat later than the horizon after its original, and more
//! than [`SEEN_MAX`] different frames within one horizon are beyond what the lists know.

use crate::protocol::{Finding, Request, Shape, Verdict};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Frames remembered at most.
pub(super) const SEEN_MAX: usize = 128;
/// Unanswered attempts remembered at most; nothing is asked while it is full.
pub(super) const OWED_MAX: usize = 64;
/// Clean transactions after which a line that misbehaved is trusted again.
const WARY_TRANSACTIONS: u32 = 1_000;

/// The horizon's bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct HorizonSettings {
    /// In time-outs of the attempt.
    pub(super) timeouts: u32,
    /// Never longer.
    pub(super) max: Duration,
}

#[derive(Debug)]
struct Owed {
    transaction: u64,
    request: Request,
    shape: Shape,
    written_at: Instant,
    timeout: Duration,
    /// Until then its like is not asked.
    until: Instant,
    /// Kept for learning until then.
    forget_at: Instant,
}

#[derive(Debug)]
struct Seen {
    frame: u64,
    question: u64,
    transaction: u64,
    until: Instant,
}

/// Whether an answer that fits is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// It can only be the answer.
    Sure,
    /// It was said to this transaction before: right, but a second one may follow.
    Again,
    /// It may be a repeat, or the refusal of an earlier question.
    Doubtful,
}

/// What came as a stray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StrayNews {
    /// How much later than its time-out, when an unanswered attempt explains it.
    pub(super) late_by: Option<Duration>,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Memory {
    settings: HorizonSettings,
    owed: Vec<Owed>,
    seen: VecDeque<Seen>,
    /// The latest that an answer came after it was asked for.
    latest: Duration,
    wary: u32,
}

/// A frame's or question's fingerprint.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Memory {
    pub(super) fn new(settings: HorizonSettings) -> Self {
        Self {
            settings,
            owed: Vec::new(),
            seen: VecDeque::new(),
            latest: Duration::ZERO,
            wary: 0,
        }
    }

    fn horizon(&self, timeout: Duration) -> Duration {
        let learned = self.latest.saturating_add(self.latest / 2);
        timeout
            .saturating_mul(self.settings.timeouts)
            .max(learned)
            .min(self.settings.max)
            // never less than one more time-out, whatever the settings say
            .max(timeout.saturating_mul(2))
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.owed.retain(|owed| owed.forget_at > now);
        self.seen.retain(|seen| seen.until > now);
        if self.seen.is_empty() {
            self.seen = VecDeque::new();
        }
    }

    /// An attempt was written.
    pub(super) fn wrote(&mut self, now: Instant, transaction: u64, request: &Request, timeout: Duration) {
        let horizon = self.horizon(timeout);
        self.sweep(now);
        if self.owed.len() >= OWED_MAX {
            // `asks_at` let nothing through while all were alive, so a faded one goes
            if let Some(oldest) = (0..self.owed.len()).min_by_key(|&i| self.owed.get(i).map(|owed| owed.until)) {
                self.owed.swap_remove(oldest);
            }
        }
        self.owed.push(Owed {
            transaction,
            request: request.clone(),
            shape: request.shape(),
            written_at: now,
            timeout,
            until: now + horizon,
            forget_at: now + horizon * 2,
        });
    }

    /// From when on a question may be asked; none when at once.
    pub(super) fn asks_at(&self, now: Instant, transaction: u64, request: &Request) -> Option<Instant> {
        if self.owed.is_empty() {
            return None;
        }
        let shape = request.shape();
        let alive = self.owed.iter().filter(|owed| owed.until > now);
        if alive.clone().count() >= OWED_MAX {
            return alive.map(|owed| owed.until).min();
        }
        alive
            .filter(|owed| owed.transaction != transaction && owed.shape == shape)
            .map(|owed| owed.until)
            .max()
    }

    /// Until when a frame like this one would be in doubt.
    pub(super) fn doubted_until(&self, now: Instant, frame: u64) -> Option<Instant> {
        let seen = self.seen.iter().find(|seen| seen.frame == frame)?;
        (seen.until > now).then_some(seen.until)
    }

    /// Judges a frame that fits the question of this transaction.
    pub(super) fn judge(&self, now: Instant, transaction: u64, question: u64, frame: u64) -> Belief {
        let seen = self.seen.iter().find(|seen| seen.frame == frame && seen.until > now);
        if let Some(seen) = seen {
            if seen.transaction == transaction {
                return Belief::Again;
            }
            // on a line that behaves, the same answer to the same question is what a register that stands still says
            if seen.question != question || self.wary > 0 {
                return Belief::Doubtful;
            }
        }
        Belief::Sure
    }

    /// Whether a refusal may belong to an earlier question: refusals do not say their length.
    pub(super) fn owes_kin(&self, now: Instant, transaction: u64, shape: &Shape) -> bool {
        self.owed
            .iter()
            .any(|owed| owed.until > now && owed.transaction != transaction && owed.shape.kin == shape.kin)
    }

    /// An answer was accepted. `again`: it may be a repeat, so the attempt stays owed.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        transaction: u64,
        question: u64,
        frame: u64,
        timeout: Duration,
        again: bool,
    ) {
        if !again {
            // the earliest goes: what is left is owed longest
            let earliest = (0..self.owed.len())
                .filter(|&i| self.owed.get(i).is_some_and(|owed| owed.transaction == transaction))
                .min_by_key(|&i| self.owed.get(i).map(|owed| owed.written_at));
            if let Some(earliest) = earliest {
                self.owed.swap_remove(earliest);
            }
        }
        self.wary = self.wary.saturating_sub(1);
        if self.wary == 0 {
            self.latest = Duration::ZERO;
        }
        self.note(now, frame, question, transaction, timeout);
    }

    /// A frame came that fits but is in doubt: remembered anew, and the line is watched.
    pub(super) fn doubted(&mut self, now: Instant, frame: u64, timeout: Duration) {
        self.wary = WARY_TRANSACTIONS;
        self.renew(now, frame, timeout);
    }

    /// A valid frame came that answers nothing now. Finds what it was owed for, and learns how late it is.
    pub(super) fn stray(&mut self, now: Instant, bytes: &[u8], timeout: Duration) -> StrayNews {
        self.wary = WARY_TRANSACTIONS;
        let frame = fingerprint(bytes);
        let repeat = self.doubted_until(now, frame).is_some();
        let fits = |owed: &Owed| {
            matches!(
                owed.request.find(bytes),
                Finding::Frame {
                    verdict: Verdict::Answer | Verdict::Refused(_),
                    ..
                }
            )
        };
        let explained = (0..self.owed.len())
            .filter(|&i| self.owed.get(i).is_some_and(fits))
            .min_by_key(|&i| self.owed.get(i).map(|owed| owed.written_at));
        let Some(owed) = explained.and_then(|i| self.owed.get(i)) else {
            if !self.renew(now, frame, timeout) {
                self.note(now, frame, 0, 0, timeout);
            }
            return StrayNews { late_by: None };
        };
        let after = now.saturating_duration_since(owed.written_at);
        let late_by = after.saturating_sub(owed.timeout);
        let (transaction, question, its_timeout) = (owed.transaction, fingerprint(&owed.request.wire()), owed.timeout);
        self.latest = self.latest.max(after).min(self.settings.max);
        // a repeat of an answer that was believed pays no debt: the true one may still come
        if !repeat && let Some(i) = explained {
            self.owed.swap_remove(i);
        }
        if repeat {
            self.renew(now, frame, its_timeout);
        } else {
            self.note(now, frame, question, transaction, its_timeout);
        }
        StrayNews { late_by: Some(late_by) }
    }

    /// A frame that was said before was said again, by nobody knows whom: its doubt lasts longer, its origin stays.
    fn renew(&mut self, now: Instant, frame: u64, timeout: Duration) -> bool {
        let until = now + self.horizon(timeout);
        let known = self
            .seen
            .iter_mut()
            .find(|seen| seen.frame == frame && seen.until > now);
        known.map(|seen| seen.until = seen.until.max(until)).is_some()
    }

    /// A frame that answered a question.
    fn note(&mut self, now: Instant, frame: u64, question: u64, transaction: u64, timeout: Duration) {
        let until = now + self.horizon(timeout);
        if let Some(known) = self.seen.iter_mut().find(|seen| seen.frame == frame) {
            // one frame that answered two questions is doubtful to both
            if known.until > now && known.question != question {
                known.question = 0;
            } else {
                known.question = question;
            }
            known.transaction = transaction;
            known.until = known.until.max(until);
            return;
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen {
            frame,
            question,
            transaction,
            until,
        });
    }
}
