//! The half-duplex line: one question at a time, and no answer but the right one.
//!
//! ```text
//!            ask ──▶ writing ──written──▶ asking ──answer──▶ free
//!             ▲                             │ time-out, stray, doubt
//!             └──── free ◀── quiet ── holding ◀┘
//! ```
//!
//! - *Asking*: bytes are collected in a bounded window and shown to the request's own finder, as they are and with
//!   heartbeats taken out. What fits and is believed is the answer; all else is a stray or noise.
//! - *Holding*: after a time-out, a stray or a retry the line is let go quiet for the guard time before anything is
//!   asked. Bytes that come then, or while nothing is asked, are strays. The guard grows with the lateness seen.
//! - *Belief* is [`super::memory`]'s: a question waits while an answer of its shape is still owed to an earlier one;
//!   meanwhile other meters are asked. A frame that came before within the horizon is in doubt: it is recorded as a
//!   stray, the window closes after a few round trips more, and the question is asked again when the frame is in doubt
//!   no more. So two registers of one shape that hold the same bytes cost a wait, never a wrong value.
//! - A higher priority goes first at the next transaction; it never cuts into one.

mod breaker;
mod hearing;
mod kept;
mod said;
mod tongues;
mod turn;

use super::Moment;
use super::job::PollJob;
use super::memory::{HorizonSettings, Memory};
use super::visit::{LineFrameKind, Queue, QueueFull, Ticket};
use crate::base::bytes::FrameBytes;
use crate::base::ids::MeterId;
use breaker::LineBreaker;
use kept::guard_of;
pub use said::{LineEvent, LineSettings, LineStats};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tongues::Tongues;

/// Bytes in the window; the longest answer of a protocol on a line has 256, and there is room for noise around it.
const WINDOW_MAX: usize = 2_048;
/// Bytes that came unasked are taken for noise when no more come for this long.
const IDLE_QUIET: Duration = Duration::from_millis(100);
/// The bytes of one frame follow each other within this: a DTU packs them for 20 to 50 ms, a cellular link adds its own.
const BYTE_GAP: Duration = Duration::from_millis(250);
/// A frame that has begun at its deadline has at least this long to end.
const FINISH_MIN: Duration = Duration::from_millis(500);
/// Attempts of one question that may end in doubt.
const DOUBTS_MAX: u8 = 3;
/// The rest of a reply with a heartbeat inside follows within this: a DTU's packing timer is 20 to 50 ms.
const REST_OF_REPLY: Duration = Duration::from_millis(60);
/// The least time that is left to the true answer after a frame in doubt.
const SETTLE_MIN: Duration = Duration::from_millis(100);
/// A line that never falls quiet is asked again after this many guard times.
const GUARDS_MAX: u32 = 8;

#[derive(Debug)]
struct Asking {
    ticket: Ticket,
    /// The question's fingerprint (see [`Visit::mark`]).
    question: u64,
    /// Its bytes on the line.
    asked_bytes: usize,
    /// What an answer may take, line time included.
    timeout: Duration,
    written_at: Instant,
    until: Instant,
    /// A frame that is arriving at `until` may take until then.
    at_most: Instant,
    echoed: bool,
    /// A stray came into the window.
    disturbed: bool,
    /// A frame that may be a repeat.
    doubt: Option<u64>,
    /// A frame that may be half a reply and half a heartbeat stands in the window; believed from here on.
    settle_at: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Free,
    Writing {
        ticket: Ticket,
        wire: FrameBytes,
    },
    Asking(Box<Asking>),
    /// A question that has no answer is on its way until then.
    Passing {
        ticket: Ticket,
        until: Instant,
    },
    /// Until the line was quiet for the guard time, or at the latest.
    Holding {
        quiet_at: Instant,
        at_most: Instant,
    },
}

/// A half-duplex line. See the file's head.
#[derive(Debug)]
pub struct Line {
    settings: LineSettings,
    queue: Queue,
    memory: Memory,
    state: State,
    /// A visit amidst the attempts of one transaction: nobody else is asked.
    pinned: Option<Ticket>,
    window: Vec<u8>,
    heard_at: Instant,
    /// When the peer's bytes were surely all read last: before a question was written, or when some were read.
    emptied_at: Instant,
    /// What was read last may have come since then.
    heard_since: Instant,
    free_at: Instant,
    pause: Duration,
    /// Visits may wait for a doubt to be over.
    doubting: bool,
    /// Meters that want a rest, until when.
    resting: Vec<(MeterId, Instant)>,
    /// What was asked last: its finders know what a frame is.
    tongues: Tongues,
    lateness: Duration,
    in_a_row: u32,
    /// Whether the peer said anything at all in that row.
    heard_in_row: bool,
    breaker: LineBreaker,
    /// By how much answers of meters came too late, since their last visits.
    late: Vec<(MeterId, Duration)>,
    transactions: u64,
    events: VecDeque<LineEvent>,
    stats: LineStats,
}

impl Line {
    /// A free line.
    pub fn new(settings: LineSettings, now: Moment) -> Self {
        Self {
            settings,
            queue: Queue::new(settings.queue_jobs),
            memory: Memory::new(HorizonSettings {
                timeouts: settings.owed_timeouts,
                max: settings.owed_max,
            }),
            state: State::Free,
            pinned: None,
            window: Vec::new(),
            heard_at: now.on,
            emptied_at: now.on,
            heard_since: now.on,
            free_at: now.on,
            pause: Duration::ZERO,
            doubting: false,
            resting: Vec::new(),
            tongues: Tongues::default(),
            lateness: Duration::ZERO,
            in_a_row: 0,
            heard_in_row: false,
            breaker: LineBreaker::default(),
            late: Vec::new(),
            transactions: 0,
            events: VecDeque::new(),
            stats: LineStats::default(),
        }
    }

    /// Sets the pause between any answer and the next question.
    pub fn set_pause(&mut self, pause: Duration) {
        self.pause = pause;
    }

    /// The counters.
    pub fn stats(&self) -> LineStats {
        self.stats
    }

    /// Jobs that wait or run.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether the line has fallen silent and is probed only now and then.
    pub fn is_silent(&self) -> bool {
        self.breaker.is_open()
    }

    /// The peer said something, were it a heartbeat: it lives, whatever its meters do.
    pub fn peer_lives(&mut self) {
        self.heard_in_row = true;
    }

    /// Whether what arrives concerns the line at once: an answer is awaited, or quiet.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Free)
    }

    fn is_asking(&self) -> bool {
        matches!(self.state, State::Writing { .. } | State::Asking(_))
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn submit(&mut self, now: Moment, job: PollJob) -> Result<Ticket, QueueFull> {
        let priority = job.priority;
        let ticket = self.queue.push(now, job)?;
        if self.queue.get(ticket).is_some_and(|visit| visit.question().is_none()) {
            self.finish(ticket);
        } else if !self.breaker.lets(now.on, priority) {
            self.give_up(now, ticket);
        }
        Ok(ticket)
    }

    /// The next thing to say.
    pub fn event(&mut self) -> Option<LineEvent> {
        let event = self.events.pop_front();
        // an idle line keeps no room for them
        if self.events.is_empty() && self.events.capacity() > 0 && self.queue.is_empty() {
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`Line::tick`] wants to be called; none when nothing is due.
    pub fn next_deadline(&self, now: Moment) -> Option<Instant> {
        let own = match &self.state {
            State::Free => self.next_ask(now.on),
            State::Writing { .. } => None,
            State::Passing { until, .. } => Some(*until),
            State::Asking(asking) => [Some(asking.until), asking.settle_at].into_iter().flatten().min(),
            State::Holding { quiet_at, at_most } => Some(*quiet_at.min(at_most)),
        };
        let idle = (!self.is_asking() && !self.window.is_empty()).then(|| self.heard_at + IDLE_QUIET);
        let expiry = self.queue.next_expiry(now.on, self.running());
        [own, idle, expiry].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) {
        if let State::Asking(asking) = &mut self.state
            && asking.settle_at.take_if(|at| now.on >= *at).is_some()
        {
            // nothing came that would make another reply of it
            self.examine(now, &[]);
        }
        match &self.state {
            State::Asking(asking) if now.on >= asking.until => self.time_out_unless_arriving(now),
            State::Passing { ticket, until } if now.on >= *until => self.passed(now, *ticket),
            State::Holding { quiet_at, at_most } if now.on >= *quiet_at.min(at_most) => {
                self.flush(now);
                self.state = State::Free;
            }
            _ => {}
        }
        if !self.is_asking() && !self.window.is_empty() && now.on >= self.heard_at + IDLE_QUIET {
            self.flush(now);
        }
        while let Some(ticket) = self.queue.expired(now.on, self.running()) {
            if let Some(visit) = self.queue.get_mut(ticket) {
                visit.expire(now);
            }
            self.finish(ticket);
        }
    }

    /// Whether [`Line::ask`] would give a request now. Read what the socket holds before you ask: it is older than the
    /// question and must not be taken for its answer.
    pub fn wants_to_ask(&self, now: Moment) -> bool {
        self.choose(now.on).is_some()
    }

    /// Whether what came late before may meet the next question: then let the runtime look at the socket before it is read
    /// for the last time, for what it has not looked at yet it does not give.
    pub fn expects_strays(&self) -> bool {
        self.memory.expects_strays()
    }

    /// The request to write now, if the line is free for one. Say [`Line::written`] when it is.
    pub fn ask(&mut self, now: Moment) -> Option<Vec<u8>> {
        self.tick(now);
        let ticket = self.choose(now.on)?;
        self.flush(now);
        // the flush may have found a stray, which asks for quiet first
        if !matches!(self.state, State::Free) {
            return None;
        }
        self.emptied_at = now.on;
        self.queue.begin(ticket);
        let visit = self.queue.get_mut(ticket)?;
        let wire = visit.question()?.wire();
        if visit.transaction == 0 {
            self.transactions += 1;
            visit.transaction = self.transactions;
        }
        self.state = State::Writing {
            ticket,
            wire: FrameBytes::from_slice(&wire),
        };
        Some(wire)
    }

    /// The request has been written.
    pub fn written(&mut self, now: Moment) {
        let (ticket, wire) = match std::mem::replace(&mut self.state, State::Free) {
            State::Writing { ticket, wire } => (ticket, wire),
            other => {
                self.state = other;
                return;
            }
        };
        let Some(visit) = self.queue.get_mut(ticket) else {
            return;
        };
        let Some(request) = visit.question().cloned() else {
            return;
        };
        let (question, asked_bytes) = (visit.mark(&wire), wire.len());
        visit.wrote(now);
        visit.keep(now.at, LineFrameKind::Request, request.protocol().name(), wire);
        self.pinned = Some(ticket);
        if request.answer_len_max() == 0 {
            let takes = visit.job.line_time(asked_bytes);
            visit.held(takes);
            let until = now.on + takes;
            self.state = State::Passing { ticket, until };
            return;
        }
        let timeout = visit.job.answer_time(asked_bytes, request.answer_len_max());
        let longest = visit.job.line_time(request.answer_len_max()).max(FINISH_MIN);
        self.memory.wrote(
            now.on,
            (visit.transaction, question),
            visit.job.meter,
            &request,
            timeout,
        );
        self.tongues.spoke(request, timeout);
        self.state = State::Asking(Box::new(Asking {
            ticket,
            question,
            asked_bytes,
            timeout,
            written_at: now.on,
            until: now.on + timeout,
            at_most: now.on + timeout + longest,
            echoed: false,
            disturbed: false,
            doubt: None,
            settle_at: None,
        }));
    }

    /// Bytes of the line, heartbeats between them taken out already; `heartbeats` are the packages that may still stand
    /// inside.
    pub fn feed<'a>(&mut self, now: Moment, bytes: impl Into<Cow<'a, [u8]>>, heartbeats: &[Vec<u8>]) {
        self.tick(now);
        self.heard_at = now.on;
        // beyond the longest horizon nothing is in doubt any more
        let longest = now.on.checked_sub(self.settings.owed_max).unwrap_or(self.emptied_at);
        self.heard_since = self.emptied_at.max(longest);
        self.emptied_at = now.on;
        let bytes = bytes.into();
        if self.window.is_empty() {
            // most answers come in one piece, which is the window then and the answer in the end
            self.window = bytes.into_owned();
        } else {
            self.window.extend_from_slice(&bytes);
        }
        if let State::Holding { quiet_at, .. } = &mut self.state {
            *quiet_at = now.on + guard_of(&self.settings, self.lateness);
        }
        if let State::Asking(_) = self.state {
            self.examine(now, heartbeats);
        }
        if !matches!(self.state, State::Asking(_)) {
            self.extract(now, false, heartbeats);
        }
        self.trim(now);
    }

    /// The session has ended: every job ends.
    pub fn end(&mut self, now: Moment) {
        self.close_window(now);
        while let Some(ticket) = self.queue.any() {
            if let Some(visit) = self.queue.get_mut(ticket) {
                visit.lose(now);
            }
            self.finish(ticket);
        }
        self.state = State::Free;
    }
}

#[cfg(test)]
mod mixed_tests;
#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turn_tests;
