//! The way to one concentrator of Q/GDW 1376.1, without a socket: the visits to its measuring points, asked together.
//!
//! ```text
//! jobs ─▶ queue ─gather─▶ batch: many points, one frame a function ─▶ dialogue ─▶ terminal
//!                           │  answered: each visit gets its own excerpt, written as the answer to its own question
//!                           │  denied or unfit: halved and asked again, until whoever is denied stands alone
//!                           └─ all answered ─▶ outcomes of all its visits, with the frames that they share
//! ```
//!
//! What a line is for meters on a cable this is for points behind a concentrator: the same jobs, the same outcomes, the
//! same order of priority. Only that here a frame asks for as many visits as fit into one answer. A batch is never cut
//! into; one of a higher priority goes before its next frame. A terminal that stays silent to a long question is asked
//! shorter ones.

mod batch;
mod events;
#[cfg(test)]
#[path = "trunk/tests.rs"]
mod tests;
mod values;
mod watch;

use super::Moment;
use super::dialogue::{self, Dialogue, DialogueError, DialogueEvent, DialogueSettings, Patience, Stray};
use super::job::{PollJob, Priority, TransactionError};
use super::line::LineStats;
use super::members::{self, Settled};
use super::visit::{LineFrame, LineFrameKind, Queue, QueueFull, Ticket};
use crate::protocol::Protocol;
use crate::protocol::gdw376::{Address, Advance, Answer, DENIED, Found, Message, Said, find};
use batch::{Batch, Question};
pub use events::{Recorded, UnreadEvents};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
pub use values::{PointRow, Values};

/// The number under which we ask; a terminal that speaks of its own accord uses 0.
const MASTER: u8 = 1;
/// The shortest answer that a terminal is asked for: a few points.
const ANSWER_MIN: usize = 256;
/// Questions in a row without an answer behind which the rest of a batch is not asked.
const SILENT_MAX: u8 = 2;

/// How a trunk behaves.
#[derive(Clone, Copy, Debug)]
pub struct TrunkSettings {
    /// How the terminal is spoken with.
    pub dialogue: DialogueSettings,
    /// How long a job that can wait waits for others of its instant.
    pub gather: Duration,
    /// Jobs that may wait.
    pub queue_jobs: usize,
    /// The most bytes of data that one answer is asked for, about.
    pub answer_max: usize,
    /// Attempts in a row without an answer that make the connection dead.
    pub dead_timeouts: u32,
}

impl Default for TrunkSettings {
    fn default() -> Self {
        Self {
            dialogue: DialogueSettings::default(),
            gather: Duration::from_millis(500),
            queue_jobs: 4096,
            answer_max: 4096,
            dead_timeouts: 30,
        }
    }
}

/// What a trunk has to say, in order. Take all of it after every call.
#[derive(Debug)]
pub enum TrunkEvent {
    /// To be written to the terminal.
    Write(Vec<u8>),
    /// Visits have ended.
    Done(Settled),
    /// A frame that belongs to no visit.
    Unasked(LineFrame),
    /// Why a frame, wherever it was recorded, is nobody's answer.
    Strayed(Stray),
    /// Records of events, to be kept.
    Recorded(Recorded),
    /// Records were asked for, and what came cannot be read; they are not asked for again.
    Unread(UnreadEvents),
    /// The terminal reports values of its own accord, to be kept.
    Values(Box<Values>),
    /// The terminal reports something else of its own accord; not confirmed until [`Trunk::confirm`].
    Report(Vec<Message>),
    /// A report that was confirmed before came again.
    Replay,
    /// Events were recorded, by the counters in a frame: the important ones and the ordinary ones.
    Events(Advance, Advance),
    /// A question was answered.
    Answered,
    /// Too many attempts in a row without an answer. Said once.
    Dead,
}

/// See the file's head.
#[derive(Debug)]
pub struct Trunk {
    settings: TrunkSettings,
    terminal: Address,
    queue: Queue,
    dialogue: Dialogue,
    /// One a priority at most.
    batches: Vec<Batch>,
    /// Until then what can wait waits for others.
    gathering: Option<Instant>,
    /// What the terminal was found to answer at once.
    answer_max: usize,
    in_a_row: u32,
    watch: watch::EventWatch,
    /// Whether somebody keeps records of events.
    keeps_events: bool,
    /// The trunk's own question that waits or runs.
    fetching: Option<(Ticket, watch::Span)>,
    events: VecDeque<TrunkEvent>,
    stats: LineStats,
}

impl Trunk {
    /// To a terminal, with nothing to ask.
    pub fn new(settings: TrunkSettings, terminal: Address) -> Self {
        Self {
            terminal: terminal.with_msa(MASTER),
            queue: Queue::new(settings.queue_jobs),
            dialogue: Dialogue::new(settings.dialogue),
            batches: Vec::new(),
            gathering: None,
            answer_max: settings.answer_max,
            in_a_row: 0,
            watch: watch::EventWatch::default(),
            keeps_events: false,
            fetching: None,
            events: VecDeque::new(),
            stats: LineStats::default(),
            settings,
        }
    }

    /// The counters.
    pub fn stats(&self) -> LineStats {
        self.stats
    }

    /// Jobs that wait or run.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.batches.iter().map(Batch::visits).sum::<usize>()
    }

    /// The next thing to say.
    pub fn event(&mut self) -> Option<TrunkEvent> {
        self.events.pop_front()
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn submit(&mut self, now: Moment, job: PollJob) -> Result<Ticket, QueueFull> {
        if self.queue.is_empty() && !is_urgent(&job) {
            self.gathering = Some(now.on + self.settings.gather);
        }
        self.queue.push(now, job)
    }

    /// When [`Trunk::tick`] wants to be called; none when nothing is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.queue.iter().map(|visit| visit.job.deadline).min();
        let gathering = self
            .gathering
            .filter(|_| !self.queue.is_empty() && self.batches.is_empty());
        let records = self.watch.next_deadline().filter(|_| self.may_ask_for_events());
        [self.dialogue.next_deadline(), waiting, gathering, records]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due: repeats, time-outs, new questions. Call it after every [`Trunk::submit`] and [`Trunk::feed`], too.
    pub fn tick(&mut self, now: Moment) {
        let events = self.dialogue.tick(now.on);
        self.hear(now, events);
        while let Some(ticket) = self.queue.expired(now.on, None) {
            if let Some(visit) = self.queue.remove(ticket) {
                self.settle(now, members::unasked(visit, now, TransactionError::Deadline));
            }
        }
        loop {
            self.finish(now);
            self.ask_for_events(now);
            let before = self.batches.len();
            self.gather(now);
            self.ask(now);
            if self.batches.len() == before && !self.batches.iter().any(Batch::is_over) {
                return;
            }
        }
    }

    /// Bytes of the terminal that say nothing about the link, as the session cut them: whole frames.
    pub fn feed(&mut self, now: Moment, bytes: &[u8]) {
        let mut rest = bytes;
        while let Found::Frame { span, .. } = find(rest) {
            let frame = rest.get(span.clone()).unwrap_or_default();
            self.feed_frame(now, frame);
            rest = rest.get(span.end..).unwrap_or_default();
        }
    }

    fn feed_frame(&mut self, now: Moment, frame: &[u8]) {
        let mut events = self.dialogue.feed(now.on, frame);
        if !self.take_values(now, &mut events, frame) {
            let kind = kind_of(&events);
            if kind == LineFrameKind::Stray {
                self.stats.strays += 1;
            }
            self.keep(now, kind, frame.to_vec());
        }
        self.hear(now, events);
    }

    /// A report is durable: it is confirmed.
    pub fn confirm(&mut self, now: Moment, report: &[Message]) {
        if let Some(wire) = self.dialogue.confirm(report) {
            self.keep(now, LineFrameKind::Request, wire.clone());
            self.events.push_back(TrunkEvent::Write(wire));
        }
    }

    /// A report could not be kept: it is told anew when the terminal repeats it.
    pub fn lost(&mut self, report: &[Message]) {
        self.dialogue.lost(report);
    }

    /// The session has ended: every job ends.
    pub fn end(&mut self, now: Moment) {
        // whatever was under way is lost, not silent
        let _failed = self.dialogue.end();
        for mut batch in std::mem::take(&mut self.batches) {
            batch.lose(now);
            self.settle(now, batch.settled());
        }
        while let Some(visit) = self.queue.any().and_then(|ticket| self.queue.remove(ticket)) {
            self.settle(now, members::unasked(visit, now, TransactionError::SessionLost));
        }
    }

    /// Makes a batch of what waits, if nothing of its priority or above is being asked.
    fn gather(&mut self, now: Moment) {
        let gathered = self.gathering.is_none_or(|until| until <= now.on);
        loop {
            let running = self.batches.iter().map(|batch| batch.priority).min();
            let before = |priority: Priority| running.is_none_or(|running| priority < running);
            let first = self
                .queue
                .pick(|visit| (gathered || is_urgent(&visit.job)) && before(visit.job.priority));
            let Some(first) = first else { return };
            self.queue.begin(first);
            let batch = Batch::gather(&mut self.queue, first, self.terminal, self.answer_max, now);
            self.batches.extend(batch);
        }
    }

    /// Asks as much as may be under way, the highest priority first.
    fn ask(&mut self, now: Moment) {
        while self.dialogue.load() < self.settings.dialogue.under_way.max(1) {
            let ready = self.batches.iter_mut().filter(|batch| batch.has_question());
            let Some(batch) = ready.min_by_key(|batch| batch.priority) else {
                return;
            };
            let Some(question) = batch.next(now) else { continue };
            let patience = batch.patience(&question);
            match self.dialogue.ask_with(now.on, question.request.clone(), patience) {
                Ok((ticket, events)) => {
                    batch.begin(ticket, question, now);
                    self.hear(now, events);
                }
                // the dialogue's own queue is never used
                Err(dialogue::Full(_)) => batch.conclude_all(&question, now, TransactionError::Deadline),
            }
        }
    }

    /// What the dialogue says.
    fn hear(&mut self, now: Moment, events: Vec<DialogueEvent>) {
        for event in events {
            match event {
                DialogueEvent::Send(wire) => {
                    if let Some(batch) = self.batches.iter_mut().find(|batch| batch.is_under_way()) {
                        batch.wrote(now);
                    }
                    self.keep(now, LineFrameKind::Request, wire.clone());
                    self.events.push_back(TrunkEvent::Write(wire));
                }
                DialogueEvent::Answered { ticket, answer } => self.answered(now, ticket, answer),
                DialogueEvent::Failed { ticket, error } => self.failed(now, ticket, &error),
                DialogueEvent::Report(report) => self.told(report),
                DialogueEvent::Replay => self.events.push_back(TrunkEvent::Replay),
                DialogueEvent::Stray(stray) => self.events.push_back(TrunkEvent::Strayed(stray)),
                DialogueEvent::Counters(counters) => self.watch.count(counters),
                DialogueEvent::Events { important, ordinary } => {
                    self.events.push_back(TrunkEvent::Events(important, ordinary));
                }
            }
        }
    }

    fn answered(&mut self, now: Moment, ticket: dialogue::Ticket, answer: Answer) {
        self.in_a_row = 0;
        self.stats.answers += 1;
        self.events.push_back(TrunkEvent::Answered);
        let Some((batch, question)) = self.taken(ticket) else {
            return;
        };
        batch.silent = 0;
        let took = question.asked().took(now);
        let grown = question.is_shared();
        match answer.said {
            Said::Data(units) => batch.answered(&question, now, &units),
            Said::Confirmed => batch.confirmed(&question, now),
            Said::Denied if batch.halve(&question) => {}
            Said::Denied => batch.conclude_all(&question, now, TransactionError::Refused(DENIED)),
            Said::Partly { denied, .. } => batch.denied(&question, now, &denied),
        }
        let trip = self.stats.round_trip.map_or(took, |known| (known * 7 + took) / 8);
        self.stats.round_trip = Some(trip);
        if grown {
            self.answer_max = (self.answer_max * 2).min(self.settings.answer_max);
        }
    }

    fn failed(&mut self, now: Moment, ticket: dialogue::Ticket, error: &DialogueError) {
        self.stats.timeouts += 1;
        let Some((batch, question)) = self.taken(ticket) else {
            return;
        };
        let attempts = question.attempts.max(1);
        match error {
            // a frame of its own came, so the terminal lives
            DialogueError::Unfit { .. } => {
                if !batch.halve(&question) {
                    batch.conclude_all(&question, now, TransactionError::Unfit);
                }
                self.in_a_row = 0;
                return;
            }
            DialogueError::Silence { .. } | DialogueError::Unknown => {
                batch.conclude_all(&question, now, TransactionError::Timeout);
                batch.silent = batch.silent.saturating_add(1);
                if batch.silent >= SILENT_MAX {
                    batch.give_up(now);
                }
            }
        }
        if question.is_shared() {
            self.answer_max = (self.answer_max / 2).max(ANSWER_MIN);
        }
        let before = self.in_a_row;
        self.in_a_row = before.saturating_add(attempts.into());
        if before < self.settings.dead_timeouts && self.in_a_row >= self.settings.dead_timeouts {
            self.events.push_back(TrunkEvent::Dead);
        }
    }

    /// The batch of a question under way, and the question.
    fn taken(&mut self, ticket: dialogue::Ticket) -> Option<(&mut Batch, Question)> {
        self.batches
            .iter_mut()
            .find_map(|batch| batch.take(ticket).map(|question| (batch, question)))
    }

    /// Keeps a frame with what is under way, else says that nobody asked.
    fn keep(&mut self, now: Moment, kind: LineFrameKind, bytes: Vec<u8>) {
        let frame = LineFrame {
            at: now.at,
            meter: None,
            poll: None,
            kind,
            protocol: Protocol::Gdw376.name(),
            bytes: bytes.into(),
            turn: None,
        };
        match self.batches.iter_mut().find(|batch| batch.is_under_way()) {
            Some(batch) => batch.keep(frame),
            None => self.events.push_back(TrunkEvent::Unasked(frame)),
        }
    }

    /// Tells of the batches that have ended.
    fn finish(&mut self, now: Moment) {
        let mut at = 0;
        while let Some(batch) = self.batches.get(at) {
            if batch.is_over() {
                let batch = self.batches.remove(at);
                self.settle(now, batch.settled());
            } else {
                at += 1;
            }
        }
    }

    fn settle(&mut self, now: Moment, mut settled: Settled) {
        self.take_own(now, &mut settled.outcomes);
        self.events.push_back(TrunkEvent::Done(settled));
    }
}

/// Whether somebody waits for a job, so that it does not wait for others.
fn is_urgent(job: &PollJob) -> bool {
    job.priority <= Priority::OnDemand
}

/// What a frame is, by what the dialogue made of it.
fn kind_of(events: &[DialogueEvent]) -> LineFrameKind {
    let mut kind = LineFrameKind::Answer;
    for event in events {
        match event {
            DialogueEvent::Stray(_) | DialogueEvent::Report(_) | DialogueEvent::Replay => return LineFrameKind::Stray,
            DialogueEvent::Answered { answer, .. } if !matches!(answer.said, Said::Data(_) | Said::Confirmed) => {
                kind = LineFrameKind::Refusal;
            }
            _ => {}
        }
    }
    kind
}

/// How long and how often: the most that any of the visits wants.
fn patience_of<'a>(jobs: impl Iterator<Item = &'a PollJob>) -> Patience {
    let none = Patience {
        answer_within: Duration::from_millis(1),
        attempts: 1,
    };
    jobs.fold(none, |most, job| Patience {
        answer_within: most.answer_within.max(job.timeout),
        attempts: most.attempts.max(job.attempts),
    })
}
