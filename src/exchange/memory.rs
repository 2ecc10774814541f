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
//! - **standing**: the last answer of a question, where that answer was in doubt once and then proven. Such a frame is
//!   believed at once: registers that stand still say the same again and again, and two of one shape that both hold
//!   zeros say the same bytes.
//!
//! A frame is judged by when it may have come at the earliest, not by when it was read: a process that the host let wait
//! reads late what came in time.
//!
//! Limits, honestly:
//!
//! - An answer later than the horizon, a repeat later than the horizon after its original, and more than [`SEEN_MAX`]
//!   different frames within one horizon are beyond what the lists know.
//! - A repeat can be taken for the same question's new answer: on a line that has not misbehaved lately, and for a standing
//!   answer. The value is then the question's own last one, at most one visit old, never another register's. On a line that
//!   has misbehaved the true answer stays owed; on one that had not until that moment it could meet another question of its
//!   shape, should it come later than the time-out besides.

use crate::base::ids::MeterId;
use crate::protocol::{Finding, Request, Shape, Verdict};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Frames remembered at most.
pub(super) const SEEN_MAX: usize = 128;
/// Unanswered attempts remembered at most; nothing is asked while it is full.
pub(super) const OWED_MAX: usize = 64;
/// Noise keeps an answer owed for at most this many horizons.
const GARBLED_HORIZONS: u32 = 3;
/// Questions whose answer stands still, remembered at most.
const STANDING_MAX: usize = 64;
/// How long a frame whose doubt is over is still known: what is read late is judged by when it may have come.
const READ_LATE: Duration = Duration::from_secs(5);
/// How often what was seen is gone through for what is over.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
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
    /// The question's fingerprint.
    question: u64,
    meter: MeterId,
    request: Request,
    /// Made when it is first asked for; most questions are answered before.
    shape: OnceCell<Shape>,
    written_at: Instant,
    timeout: Duration,
    /// Until then its like is not asked.
    until: Instant,
    /// Kept for learning until then.
    forget_at: Instant,
}

impl Owed {
    fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| self.request.shape())
    }
}

#[derive(Debug)]
struct Seen {
    /// The frame's fingerprint.
    frame: u64,
    question: u64,
    transaction: u64,
    until: Instant,
}

/// What was seen, oldest first, by its fingerprint. A part of each stands apart: every frame is looked for among all of them, and
/// few lines of memory are to be fetched for it.
#[derive(Debug, Default)]
struct SeenFrames {
    tags: VecDeque<u16>,
    facts: VecDeque<Seen>,
    swept_at: Option<Instant>,
}

/// The part of a fingerprint that is looked at first.
fn tag(frame: u64) -> u16 {
    (frame >> 48) as u16
}

impl SeenFrames {
    fn place(&self, frame: u64) -> Option<usize> {
        let tag = tag(frame);
        let (front, back) = self.tags.as_slices();
        // nearly every frame is new: whether its tag is there at all is seen many at a time
        let known = |tags: &[u16]| {
            let mut chunks = tags.chunks(32);
            chunks.any(|chunk| chunk.iter().fold(false, |known, other| known | (*other == tag)))
        };
        if !known(front) && !known(back) {
            return None;
        }
        self.facts.iter().position(|seen| seen.frame == frame)
    }

    fn get(&self, frame: u64) -> Option<&Seen> {
        self.facts.get(self.place(frame)?)
    }

    fn get_mut(&mut self, frame: u64) -> Option<&mut Seen> {
        let place = self.place(frame)?;
        self.facts.get_mut(place)
    }

    fn push(&mut self, seen: Seen) {
        if self.facts.len() >= SEEN_MAX {
            self.tags.pop_front();
            self.facts.pop_front();
        }
        self.tags.push_back(tag(seen.frame));
        self.facts.push_back(seen);
    }

    /// Forgets what is long over. Not at every call: what is over and still there is told by its time.
    fn sweep(&mut self, now: Instant) {
        if self.facts.is_empty() || self.swept_at.is_some_and(|at| now < at + SWEEP_EVERY) {
            return;
        }
        self.swept_at = Some(now);
        let before = self.facts.len();
        self.facts.retain(|seen| seen.until + READ_LATE > now);
        if self.facts.is_empty() {
            *self = Self::default();
        } else if self.facts.len() < before {
            self.tags.clear();
            self.tags.extend(self.facts.iter().map(|seen| tag(seen.frame)));
        }
    }
}

#[derive(Debug)]
struct Standing {
    question: u64,
    frame: u64,
}

/// Whether an answer that fits is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// It can only be the answer.
    Sure,
    /// It was said to this transaction before, or is what the question's register has long said: right, but a second one
    /// may follow.
    Again,
    /// It may be a repeat of what was said before, or another question's refusal.
    Doubtful,
}

/// An accepted answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub(super) transaction: u64,
    /// The question's fingerprint.
    pub(super) question: u64,
    /// The answer's fingerprint.
    pub(super) frame: u64,
    pub(super) timeout: Duration,
    /// It pays an attempt; one that may be a repeat does not.
    pub(super) paid: bool,
    /// It was in doubt before.
    pub(super) proven: bool,
}

/// What came as a stray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StrayNews {
    /// How much later than its time-out, when an unanswered attempt explains it.
    pub(super) late_by: Option<Duration>,
    /// Whose answer it was then.
    pub(super) meter: Option<MeterId>,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Memory {
    settings: HorizonSettings,
    owed: Vec<Owed>,
    seen: SeenFrames,
    standing: VecDeque<Standing>,
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

fn horizon(settings: HorizonSettings, latest: Duration, timeout: Duration) -> Duration {
    timeout
        .saturating_mul(settings.timeouts)
        .max(latest.saturating_add(latest / 2))
        .min(settings.max)
        // never less than one more time-out, whatever the settings say
        .max(timeout.saturating_mul(2))
}

impl Memory {
    pub(super) fn new(settings: HorizonSettings) -> Self {
        Self {
            settings,
            owed: Vec::new(),
            seen: SeenFrames::default(),
            standing: VecDeque::new(),
            latest: Duration::ZERO,
            wary: 0,
        }
    }

    fn horizon(&self, timeout: Duration) -> Duration {
        horizon(self.settings, self.latest, timeout)
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.owed.retain(|owed| owed.forget_at > now);
        self.seen.sweep(now);
    }

    /// An attempt was written.
    pub(super) fn wrote(
        &mut self,
        now: Instant,
        (transaction, question): (u64, u64),
        meter: MeterId,
        request: &Request,
        timeout: Duration,
    ) {
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
            question,
            meter,
            request: request.clone(),
            shape: OnceCell::new(),
            written_at: now,
            timeout,
            until: now + horizon,
            forget_at: now + horizon * 2,
        });
    }

    /// Bytes came that form no frame. They may be an answer that was owed, cut or mixed with something else, and a whole
    /// repeat of it may follow: what is owed stays owed a horizon longer, within a bound.
    pub(super) fn garbled(&mut self, now: Instant) {
        let latest = self.latest;
        let settings = self.settings;
        for owed in self.owed.iter_mut().filter(|owed| owed.until > now) {
            let horizon = horizon(settings, latest, owed.timeout);
            let longer = (now + horizon).min(owed.written_at + horizon * GARBLED_HORIZONS);
            owed.until = owed.until.max(longer);
            owed.forget_at = owed.forget_at.max(owed.until + horizon);
        }
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
            .filter(|owed| owed.transaction != transaction && *owed.shape() == shape)
            .map(|owed| owed.until)
            .max()
    }

    /// Until when a frame like this one would be in doubt.
    pub(super) fn doubted_until(&self, now: Instant, frame: u64) -> Option<Instant> {
        let seen = self.seen.get(frame)?;
        (seen.until > now).then_some(seen.until)
    }

    /// Whether anything may still come that belongs to no question to come: the socket is to be looked at closely before
    /// the next is asked.
    pub(super) fn expects_strays(&self) -> bool {
        self.wary > 0 || !self.owed.is_empty()
    }

    /// Judges a frame that fits the question of this transaction and came after `since`.
    pub(super) fn judge(&self, since: Instant, transaction: u64, question: u64, frame: u64) -> Belief {
        let Some(seen) = self.seen.get(frame).filter(|seen| seen.until > since) else {
            return Belief::Sure;
        };
        let stands = || {
            self.standing
                .iter()
                .any(|known| known.question == question && known.frame == frame)
        };
        if seen.transaction == transaction {
            Belief::Again
        } else if self.wary == 0 && (seen.question == question || stands()) {
            // on a line that behaves, the same answer to the same question is what a register that stands still says
            Belief::Sure
        } else if stands() {
            // on one that does not it is right as well, but may be a repeat, and the answer is still to come
            Belief::Again
        } else {
            Belief::Doubtful
        }
    }

    /// Whether a refusal that came after `since` may belong to an earlier question: refusals do not say their length.
    pub(super) fn owes_kin(&self, since: Instant, transaction: u64, shape: &Shape) -> bool {
        self.owed
            .iter()
            .any(|owed| owed.until > since && owed.transaction != transaction && owed.shape().kin == shape.kin)
    }

    /// An answer was accepted.
    pub(super) fn answered(&mut self, now: Instant, answer: Accepted) {
        let Accepted {
            transaction,
            question,
            frame,
            timeout,
            paid,
            proven,
        } = answer;
        if proven {
            self.stands(question, frame);
        } else if let Some(place) = self.standing.iter().position(|known| known.question == question)
            && self.standing.get(place).is_some_and(|known| known.frame != frame)
        {
            self.standing.remove(place);
        }
        if paid {
            // what goes is what would go first anyway, not what was asked first: of an attempt whose answer came garbled a
            // whole repeat may still follow
            let soonest = (0..self.owed.len())
                .filter(|&i| self.owed.get(i).is_some_and(|owed| owed.transaction == transaction))
                .min_by_key(|&i| self.owed.get(i).map(|owed| owed.until));
            if let Some(soonest) = soonest {
                self.owed.swap_remove(soonest);
            }
        }
        self.wary = self.wary.saturating_sub(1);
        if self.wary == 0 {
            self.latest = Duration::ZERO;
        }
        self.note(now, frame, question, transaction, timeout);
    }

    fn stands(&mut self, question: u64, frame: u64) {
        self.standing.retain(|known| known.question != question);
        if self.standing.len() >= STANDING_MAX {
            self.standing.pop_front();
        }
        self.standing.push_back(Standing { question, frame });
    }

    /// A frame came after `since` that fits but is in doubt: remembered anew, and the line is watched.
    pub(super) fn doubted(&mut self, now: Instant, since: Instant, frame: u64, timeout: Duration) {
        self.wary = WARY_TRANSACTIONS;
        self.renew(now, since, frame, timeout);
    }

    /// A valid frame came after `since` that answers nothing now. Finds what it was owed for, and learns how late it is.
    pub(super) fn stray(&mut self, now: Instant, since: Instant, bytes: &[u8], timeout: Duration) -> StrayNews {
        self.wary = WARY_TRANSACTIONS;
        let frame = fingerprint(bytes);
        let repeat = self.doubted_until(since, frame).is_some();
        let fits = |owed: &Owed| {
            matches!(
                owed.request.find(bytes),
                Finding::Frame {
                    verdict: Verdict::Answer | Verdict::Refused(_),
                    ..
                }
            )
        };
        let fitting = || self.owed.iter().enumerate().filter(|(_, owed)| fits(owed));
        // of several attempts it pays the one that is owed for the shortest time yet; but it teaches the least lateness that
        // explains it, or the horizon would feed on itself
        let first = fitting().min_by_key(|(_, owed)| owed.until).map(|(i, _)| i);
        let Some((_, last)) = fitting().max_by_key(|(_, owed)| owed.written_at) else {
            if !self.renew(now, since, frame, timeout) {
                self.note(now, frame, 0, 0, timeout);
            }
            return StrayNews::default();
        };
        let (after, meter) = (now.saturating_duration_since(last.written_at), last.meter);
        let late_by = after.saturating_sub(last.timeout);
        let (transaction, question, its_timeout) = (last.transaction, last.question, last.timeout);
        if repeat {
            // a repeat of what was said before pays no debt, the true answer may still come; and it teaches no lateness
            self.renew(now, since, frame, its_timeout);
            return StrayNews::default();
        }
        self.latest = self.latest.max(after).min(self.settings.max);
        if let Some(i) = first {
            self.owed.swap_remove(i);
        }
        self.note(now, frame, question, transaction, its_timeout);
        StrayNews {
            late_by: Some(late_by),
            meter: Some(meter),
        }
    }

    /// A frame that was said before was said again, by nobody knows whom: its doubt lasts longer, its origin stays.
    fn renew(&mut self, now: Instant, since: Instant, frame: u64, timeout: Duration) -> bool {
        let until = now + self.horizon(timeout);
        let known = self.seen.get_mut(frame).filter(|seen| seen.until > since);
        known.map(|seen| seen.until = seen.until.max(until)).is_some()
    }

    /// A frame that answered a question.
    fn note(&mut self, now: Instant, frame: u64, question: u64, transaction: u64, timeout: Duration) {
        let until = now + self.horizon(timeout);
        if let Some(known) = self.seen.get_mut(frame) {
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
        self.seen.push(Seen {
            frame,
            question,
            transaction,
            until,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many share the part that is looked at first; some come again, some are over.
    #[test]
    fn what_was_seen_is_found_as_in_a_plain_list() {
        let start = Instant::now();
        let (mut seen, mut plain) = (SeenFrames::default(), VecDeque::new());
        for n in 0..1_000u64 {
            let now = start + Duration::from_millis(n * 20);
            let frame = ((n % 5) << 48) | (n * 7 % 400);
            let until = now + Duration::from_millis(n % 3 * 1_000);
            assert_eq!(seen.get(frame).map(|seen| seen.transaction), plain_get(&plain, frame));
            if plain_get(&plain, frame).is_none() {
                seen.push(Seen {
                    frame,
                    question: 0,
                    transaction: n,
                    until,
                });
                plain.push_back((frame, n, until));
                if plain.len() > SEEN_MAX {
                    plain.pop_front();
                }
            }
            if n % 50 == 0 {
                seen.sweep(now);
                plain.retain(|(_, _, until)| *until + READ_LATE > now);
            }
        }
        assert!(plain.len() > SEEN_MAX / 2);
        seen.sweep(start + Duration::from_secs(60));
        assert!(
            seen.facts.capacity() == 0 && seen.tags.capacity() == 0,
            "an idle line keeps no room"
        );
    }

    fn plain_get(plain: &VecDeque<(u64, u64, Instant)>, frame: u64) -> Option<u64> {
        plain.iter().find(|known| known.0 == frame).map(|known| known.1)
    }
}
