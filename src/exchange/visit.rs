//! A visit in progress, and the one order in which visits get a line.
//!
//! Order: priority first; within a priority a visit that has begun goes on before another begins; then meters take
//! turns, however many jobs one of them has waiting; then first come, first served.

use super::Moment;
use super::job::{PollJob, Priority, TransactionError, TransactionReport};
use super::memory::fingerprint;
use super::turn::{Turn, TurnEnding, milliseconds};
use crate::base::bytes::FrameBytes;
use crate::base::ids::{MeterId, PollId};
use crate::protocol::Request;
use chrono::{DateTime, Utc};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Raw frames kept of one visit; more are counted only. A storm of strays must not fill the memory.
pub const VISIT_FRAMES_MAX: usize = 1_000;

/// A job's number on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Direction and fate of bytes on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFrameKind {
    /// We wrote it.
    Request,
    /// The accepted answer.
    Answer,
    /// The device's refusal.
    Refusal,
    /// A valid frame that was nobody's answer.
    Stray,
    /// Bytes that form no frame.
    Noise,
}

/// Bytes on a line, as evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFrame {
    /// When, our clock.
    pub at: DateTime<Utc>,
    /// The meter that was asked, if any.
    pub meter: Option<MeterId>,
    /// The poll, if any.
    pub poll: Option<PollId>,
    /// What it is.
    pub kind: LineFrameKind,
    /// The protocol's name; empty for noise.
    pub protocol: &'static str,
    /// The bytes.
    pub bytes: FrameBytes,
    /// Of a question that was asked in its turn on a line.
    pub turn: Option<Turn>,
}

/// What became of a visit.
#[derive(Clone, Debug)]
pub struct VisitOutcome {
    /// When the first attempt was written; none when none began.
    pub began_at: Option<DateTime<Utc>>,
    /// See [`super::job::PollOutcome::reports`].
    pub reports: Vec<TransactionReport>,
    /// The raw frames, in order.
    pub frames: Vec<LineFrame>,
    /// See [`super::job::PollOutcome::late_by`].
    pub late_by: Option<Duration>,
}

/// How long an answer with its follow-ups may become.
#[derive(Clone, Copy, Debug)]
pub struct AnswerBounds {
    /// Follow-ups of one question.
    pub follow_ups: u16,
    /// No further follow-up is asked with so many bytes of answers.
    pub bytes: usize,
}

impl Default for AnswerBounds {
    fn default() -> Self {
        Self {
            follow_ups: 64,
            bytes: 32 * 1024,
        }
    }
}

/// How a visit goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The answer is not whole: the next thing to ask belongs to it.
    FollowUp,
    /// On to the next question.
    Next,
    /// All is done.
    Over,
}

impl Progress {
    fn of(over: bool) -> Self {
        if over { Self::Over } else { Self::Next }
    }
}

/// A job that waits for the line or is being run.
#[derive(Debug)]
pub struct Visit {
    /// Its number.
    pub ticket: Ticket,
    /// What is asked.
    pub job: PollJob,
    /// Not asked before this instant.
    pub not_before: Instant,
    /// The number of the transaction in progress.
    pub(super) transaction: u64,
    /// Attempts of the present question that got no answer.
    failed: u8,
    /// Attempts of the present question written.
    pub(super) written: u8,
    /// Attempts that ended in doubt, see [`super::line`].
    pub(super) doubts: u8,
    /// The frame that was in doubt.
    pub(super) doubt: Option<u64>,
    /// Asked instead of the question, whose answer is not whole yet.
    follow_up: Option<Request>,
    /// The answer frames that the question has so far.
    answers: Vec<u8>,
    follow_ups: u16,
    /// Attempts of what took the most of them, question or follow-up.
    written_most: u8,
    turn: u64,
    next: usize,
    began_at: Option<DateTime<Utc>>,
    sent_at: Option<DateTime<Utc>>,
    /// Since when the present attempt waits for the line, or was written.
    waits_since: Instant,
    /// How long the attempt that was written last had waited.
    waited: Duration,
    turnaround: Option<Duration>,
    held: Duration,
    answered_any: bool,
    failed_last: bool,
    reports: Vec<TransactionReport>,
    frames: Vec<LineFrame>,
}

impl Visit {
    /// What is to be asked: the present question or what follows it up; none when all are done.
    pub fn question(&self) -> Option<&Request> {
        self.follow_up.as_ref().or_else(|| self.planned())
    }

    /// A fingerprint of the question whose bytes are these. A follow-up has those of what it follows and its
    /// place behind that, too: what asks for the next part of an answer may be alike for all, and what it brings says nothing of
    /// where it belongs.
    pub(super) fn mark(&self, wire: &[u8]) -> u64 {
        match (&self.follow_up, self.planned()) {
            (Some(_), Some(first)) => fingerprint(&[&first.wire(), wire, &self.follow_ups.to_be_bytes()].concat()),
            _ => fingerprint(wire),
        }
    }

    fn planned(&self) -> Option<&Request> {
        self.job.requests.get(self.next)
    }

    /// Whether anything was written for it.
    pub fn has_begun(&self) -> bool {
        self.began_at.is_some()
    }

    /// An attempt was written.
    pub fn wrote(&mut self, now: Moment) {
        self.began_at.get_or_insert(now.at);
        self.sent_at = Some(now.at);
        self.waited = now.on.saturating_duration_since(self.waits_since);
        self.waits_since = now.on;
        self.written = self.written.saturating_add(1);
    }

    /// An attempt got no answer.
    pub fn fail(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }

    /// Whether the present question has had all its attempts, or no time for another.
    pub fn is_tried(&self, now: Instant) -> bool {
        self.failed >= self.job.attempts.max(1) || self.job.effect.is_some() || self.job.is_over(now)
    }

    /// An attempt held the line for so long.
    pub fn held(&mut self, time: Duration) {
        self.held = self.held.saturating_add(time);
        self.waits_since += time;
        if let Some(turn) = self.last_turn() {
            turn.held_ms = milliseconds(time);
        }
    }

    /// Of what was written last.
    fn last_turn(&mut self) -> Option<&mut Turn> {
        self.frames.iter_mut().rev().find_map(|frame| frame.turn.as_mut())
    }

    /// Says of what was written last what became of it.
    fn ended(&mut self, ending: TurnEnding) {
        if let Some(turn) = self.last_turn() {
            turn.ending = ending;
        }
    }

    /// An answer came after the meter had thought for so long.
    pub fn thought(&mut self, time: Duration) {
        self.turnaround = Some(self.turnaround.map_or(time, |most| most.max(time)));
    }

    /// Whether the meter has answered anything in this visit.
    pub fn is_answered(&self) -> bool {
        self.answered_any
    }

    /// Takes an answer in. Over, when it makes the question's answer whole (see [`Visit::conclude`]).
    pub fn answered(&mut self, now: Moment, frame: Vec<u8>, bounds: AnswerBounds) -> Progress {
        if self.answers.is_empty() {
            self.answers = frame;
        } else {
            self.answers.extend_from_slice(&frame);
        }
        let Some(next) = self.planned().and_then(|question| question.follow_up(&self.answers)) else {
            let whole = std::mem::take(&mut self.answers);
            return Progress::of(self.conclude(now, Ok(whole)));
        };
        if self.follow_ups >= bounds.follow_ups || self.answers.len() >= bounds.bytes {
            return Progress::of(self.conclude(now, Err(TransactionError::Endless)));
        }
        self.ended(TurnEnding::Answered);
        self.follow_ups += 1;
        self.follow_up = Some(next);
        (self.answered_any, self.failed_last) = (true, false);
        self.begin_anew();
        Progress::FollowUp
    }

    /// Takes a refusal in: it ends the question, whatever was answered before.
    pub fn refused(&mut self, now: Moment, code: u8) -> Progress {
        if let Some(instead) = self.job.instead.get_mut(self.next) {
            self.job.requests.append(instead);
        }
        Progress::of(self.conclude(now, Err(TransactionError::Refused(code))))
    }

    /// Forgets the attempts at what was asked.
    fn begin_anew(&mut self) {
        self.written_most = self.written_most.max(self.written);
        (self.failed, self.written, self.doubts, self.doubt) = (0, 0, 0, None);
        self.transaction = 0;
    }

    /// Ends the present question; whether the visit is over with it. A meter that answers nothing at all, or nothing
    /// any more, is not asked the rest.
    pub fn conclude(&mut self, now: Moment, result: Result<Vec<u8>, TransactionError>) -> bool {
        let silent = result == Err(TransactionError::Timeout);
        let dead = silent && (!self.answered_any || self.failed_last);
        self.answered_any |= !silent;
        self.failed_last = silent;
        self.report(now, result);
        self.next += 1;
        self.begin_anew();
        (self.follow_up, self.follow_ups, self.written_most) = (None, 0, 0);
        self.answers = Vec::new();
        self.sent_at = None;
        dead || self.question().is_none()
    }

    fn report(&mut self, now: Moment, result: Result<Vec<u8>, TransactionError>) {
        if self.written > 0 {
            self.ended(TurnEnding::of(&result));
        }
        self.waits_since = now.on;
        self.reports.push(TransactionReport {
            result,
            attempts: self.written.max(self.written_most),
            sent_at: self.sent_at.unwrap_or(now.at),
            ended_at: now.at,
            turnaround: self.turnaround.take(),
            held: std::mem::take(&mut self.held),
        });
    }

    /// The deadline passed: what is left fails. A question that was asked already has timed out.
    pub fn expire(&mut self, now: Moment) {
        let mut reason = if self.written > 0 || self.follow_up.is_some() {
            TransactionError::Timeout
        } else {
            TransactionError::Deadline
        };
        while self.question().is_some() {
            self.conclude(now, Err(reason));
            reason = TransactionError::Deadline;
        }
    }

    /// The line is silent: what is left is not asked.
    pub fn give_up(&mut self, now: Moment) {
        while self.question().is_some() {
            self.conclude(now, Err(TransactionError::LineSilent));
        }
    }

    /// The session ended: the present question is lost, the rest is left out.
    pub fn lose(&mut self, now: Moment) {
        if self.question().is_some() {
            self.report(now, Err(TransactionError::SessionLost));
        }
    }

    /// Keeps a raw frame of the visit.
    pub fn keep(&mut self, at: DateTime<Utc>, kind: LineFrameKind, protocol: &'static str, bytes: FrameBytes) {
        if self.frames.len() < VISIT_FRAMES_MAX {
            let turn = (kind == LineFrameKind::Request).then(|| Turn {
                priority: self.job.priority,
                waited_ms: milliseconds(self.waited),
                held_ms: 0,
                ending: TurnEnding::Timeout,
            });
            if self.frames.capacity() == 0 {
                // a question and its answer each, when nothing goes wrong
                let frames = self.job.requests.len().saturating_mul(2).min(VISIT_FRAMES_MAX);
                self.frames.reserve_exact(frames);
            }
            self.frames.push(LineFrame {
                at,
                meter: Some(self.job.meter),
                poll: Some(self.job.poll),
                kind,
                protocol,
                bytes,
                turn,
            });
        }
    }

    /// What became of it.
    pub fn finish(self) -> VisitOutcome {
        VisitOutcome {
            began_at: self.began_at,
            reports: self.reports,
            frames: self.frames,
            late_by: None,
        }
    }

    fn rank(&self) -> (Priority, bool, u64, Ticket) {
        (self.job.priority, !self.has_begun(), self.turn, self.ticket)
    }
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} jobs wait for the line already")]
pub struct QueueFull {
    /// How many wait.
    pub waiting: usize,
}

/// The visits of one line, in no particular place; [`Queue::pick`] knows the order.
#[derive(Debug)]
pub struct Queue {
    size: usize,
    visits: Vec<Visit>,
    /// No visit is over before this instant, unless it can be revoked.
    over_from: Option<Instant>,
    /// There may be visits that can be revoked at any time.
    revocable: bool,
    /// The turn of the visit that began last; new meters join here, not behind another's backlog.
    turn: u64,
    tickets: u64,
    /// The place of the visit that comes first in order, where that is known: the others are not looked at for every question.
    first: Cell<Option<usize>>,
}

impl Queue {
    /// Holds `size` jobs, and a quarter more of those that somebody waits for.
    pub fn new(size: usize) -> Self {
        Self {
            size: size.max(1),
            visits: Vec::new(),
            over_from: None,
            revocable: false,
            turn: 0,
            tickets: 0,
            first: Cell::new(None),
        }
    }

    /// How many visits wait or run.
    pub fn len(&self) -> usize {
        self.visits.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.visits.is_empty()
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// [`QueueFull`]; what somebody waits for (control, money, on demand) has room kept for it.
    pub fn push(&mut self, now: Moment, job: PollJob) -> Result<Ticket, QueueFull> {
        let room = if job.priority <= Priority::OnDemand {
            self.size + self.size.div_ceil(4)
        } else {
            self.size
        };
        let waiting = self.visits.len();
        if waiting >= room {
            return Err(QueueFull { waiting });
        }
        let of_meter = self.visits.iter().filter(|visit| visit.job.meter == job.meter);
        let turn = of_meter.map(|visit| visit.turn + 1).max().unwrap_or(0).max(self.turn);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.over_from = Some(self.over_from.map_or(job.deadline, |first| first.min(job.deadline)));
        self.revocable |= job.effect.is_some();
        self.visits.push(Visit {
            ticket,
            not_before: now.on,
            transaction: 0,
            failed: 0,
            written: 0,
            doubts: 0,
            doubt: None,
            follow_up: None,
            answers: Vec::new(),
            follow_ups: 0,
            written_most: 0,
            turn,
            next: 0,
            began_at: None,
            sent_at: None,
            waits_since: now.on,
            waited: Duration::ZERO,
            turnaround: None,
            held: Duration::ZERO,
            answered_any: false,
            failed_last: false,
            reports: Vec::with_capacity(job.requests.len()),
            frames: Vec::new(),
            job,
        });
        let (place, known) = (waiting, self.first.get());
        if let (Some(first), Some(new)) = (known.and_then(|first| self.visits.get(first)), self.visits.get(place))
            && new.rank() < first.rank()
        {
            self.first.set(Some(place));
        }
        Ok(ticket)
    }

    /// The first in order among those that may be asked.
    pub fn pick(&self, may_ask: impl Fn(&Visit) -> bool) -> Option<Ticket> {
        let first = self.first()?;
        if may_ask(first) {
            return Some(first.ticket);
        }
        self.visits
            .iter()
            .filter(|visit| may_ask(visit))
            .min_by_key(|visit| visit.rank())
            .map(|visit| visit.ticket)
    }

    /// The first in order, whether it may be asked or not.
    fn first(&self) -> Option<&Visit> {
        if self.first.get().is_none() {
            let places = self.visits.iter().enumerate();
            let first = places.min_by_key(|(_, visit)| visit.rank()).map(|(place, _)| place);
            self.first.set(first);
        }
        let first = self.visits.get(self.first.get()?)?;
        debug_assert!(self.visits.iter().all(|visit| first.rank() <= visit.rank()));
        Some(first)
    }

    /// Where a visit stands; mostly the first is meant.
    fn place(&self, ticket: Ticket) -> Option<usize> {
        let is_it = |place: &usize| self.visits.get(*place).is_some_and(|visit| visit.ticket == ticket);
        let first = self.first.get().filter(is_it);
        first.or_else(|| self.visits.iter().position(|visit| visit.ticket == ticket))
    }

    /// The visit begins or goes on.
    pub fn begin(&mut self, ticket: Ticket) {
        if let Some(turn) = self.get(ticket).map(|visit| visit.turn) {
            self.turn = self.turn.max(turn);
        }
    }

    /// A visit.
    pub fn get(&self, ticket: Ticket) -> Option<&Visit> {
        self.visits.get(self.place(ticket)?)
    }

    /// A visit, to change.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Visit> {
        let place = self.place(ticket)?;
        if self.first.get() != Some(place) {
            // a visit that begins moves forward in the order; the first stays where it is
            self.first.set(None);
        }
        self.visits.get_mut(place)
    }

    /// All visits.
    pub fn iter(&self) -> impl Iterator<Item = &Visit> {
        self.visits.iter()
    }

    /// Takes a visit out.
    pub fn remove(&mut self, ticket: Ticket) -> Option<Visit> {
        let place = self.place(ticket)?;
        let visit = self.visits.swap_remove(place);
        self.first.set(self.first.get().and_then(|first| match first {
            first if first == place => None,
            // the last one has taken the place of the one that went
            first if first == self.visits.len() => Some(place),
            first => Some(first),
        }));
        if self.visits.is_empty() {
            // an idle line holds no memory
            self.visits = Vec::new();
            (self.over_from, self.revocable) = (None, false);
        }
        Some(visit)
    }

    /// The first visit whose deadline has passed or which was revoked, other than `running`.
    pub fn expired(&mut self, now: Instant, running: Option<Ticket>) -> Option<Ticket> {
        // asked at every step of a line: most of the time no visit has to be looked at
        if !self.revocable && self.over_from.is_none_or(|first| now < first) {
            return None;
        }
        let over = self
            .visits
            .iter()
            .find(|visit| visit.job.is_over(now) && Some(visit.ticket) != running)
            .map(|visit| visit.ticket);
        if over.is_none() {
            self.over_from = self.visits.iter().map(|visit| visit.job.deadline).min();
            self.revocable = self.visits.iter().any(|visit| visit.job.effect.is_some());
        }
        over
    }

    /// When [`Queue::expired`] is to be asked at the latest.
    pub fn next_expiry(&self, now: Instant, running: Option<Ticket>) -> Option<Instant> {
        match self.over_from {
            Some(first) if now < first => Some(first),
            _ => self
                .visits
                .iter()
                .filter(|visit| Some(visit.ticket) != running)
                .map(|visit| visit.job.deadline)
                .min(),
        }
    }

    /// Any visit.
    pub fn any(&self) -> Option<Ticket> {
        self.visits.first().map(|visit| visit.ticket)
    }
}
