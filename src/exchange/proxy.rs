//! The way to one terminal of DL/T 698.45, without a socket: the visits to the meters behind it, asked together.
//!
//! ```text
//! jobs ─▶ queue ─gather─▶ batch: one PROXY question for many meters ─▶ terminal
//!                           │  answered: each visit gets its own excerpt, written as its meter's answer to its own question
//!                           │  refused as a whole, or unfit: halved and asked again, until whoever spoils it stands alone
//!                           └─ all answered ─▶ outcomes of all its visits, with the frames that they share
//! ```
//!
//! What the [`trunk`](super::trunk) is for Q/GDW 1376.1: the same jobs, outcomes and order of priority. One question is under
//! way at a time, each with a number of its own, so that a late answer is nobody's. Long answers come in parts, each
//! confirmed. Questions to the terminal's own address go to it as they are. Knows no socket and no clock; moves no relay.

mod batch;
mod clock;
#[cfg(test)]
#[path = "proxy/event_tests.rs"]
mod event_tests;
mod excerpt;
mod hearing;
mod parts;
#[cfg(test)]
#[path = "proxy/property_tests.rs"]
mod property_tests;
mod question;
mod report;
#[cfg(test)]
#[path = "proxy/report_tests.rs"]
mod report_tests;
#[cfg(test)]
#[path = "proxy/tests.rs"]
mod tests;

use super::Moment;
use super::job::{PollJob, Priority, TransactionError};
use super::line::LineStats;
use super::members::{self, Settled};
use super::visit::{LineFrame, LineFrameKind, Queue, QueueFull, Ticket};
use crate::protocol::dlt698::{Address, Apdu, Auth, ConnectRequest, Parameters, Piid, Request, frames};
use batch::Batch;
use parts::Parts;
use question::Question;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use clock::ClockSaid;
pub use report::{Reported, ReportedRow};

/// Questions in a row without an answer behind which the rest of a batch is not asked.
const SILENT_MAX: u8 = 2;
/// Parts of one answer; an answer of the longest APDU in parts of a hundred and thirty bytes has no more.
const PARTS_MAX: u16 = 500;
/// What a frame needs beside its APDU, with the longest address.
const FRAME_HEAD: usize = 32;
/// The shortest question that a terminal may want: one meter with a list of attributes.
const QUESTION_MIN: usize = 128;
/// The most bytes of an answer to the association.
const CONNECT_MAX: usize = 4096;

/// How a way to a terminal behaves.
#[derive(Clone, Copy, Debug)]
pub struct ProxySettings {
    /// How long a job that can wait waits for others of its instant.
    pub gather: Duration,
    /// Jobs that may wait.
    pub queue_jobs: usize,
    /// Meters that one question asks for at most.
    pub meters_max: usize,
    /// The most bytes of a question's APDU; the terminal may say less.
    pub question_max: usize,
    /// What the terminal is given for each meter at least.
    pub meter_within: Duration,
    /// What it is given for a question at most.
    pub question_within: Duration,
    /// What the way to the terminal and its own thinking may take besides; also the time for each further part.
    pub way_within: Duration,
    /// Attempts in a row without an answer that make the connection dead.
    pub dead_timeouts: u32,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(500),
            queue_jobs: 4096,
            meters_max: 16,
            question_max: 960,
            meter_within: Duration::from_secs(5),
            question_within: Duration::from_secs(90),
            way_within: Duration::from_secs(20),
            dead_timeouts: 30,
        }
    }
}

/// What it has to say, in order. Take all of it after every call.
#[derive(Debug)]
pub enum ProxyEvent {
    /// To be written to the terminal.
    Write(Vec<u8>),
    /// Visits have ended.
    Done(Settled),
    /// A frame that belongs to no visit.
    Unasked(LineFrame),
    /// The terminal reports of its own accord; not confirmed until [`Proxy::kept`].
    Report(Box<Reported>),
    /// A report that was confirmed before came again; it was confirmed again.
    Replay,
    /// A question was answered.
    Answered,
    /// Too many attempts in a row without an answer. Said once.
    Dead,
}

/// Whether the terminal was asked for an association.
#[derive(Debug)]
enum Association {
    /// Not yet.
    No,
    /// It was, and may answer until then; with the parts of the answer so far and the confirmation of the last.
    Asked {
        request: Request,
        follow: Option<Request>,
        answers: Vec<u8>,
        until: Instant,
    },
    /// Whatever it said: it is asked from now on.
    Done,
}

/// What is under way.
#[derive(Debug)]
struct UnderWay {
    question: Question,
    /// What was asked.
    request: Request,
    /// The confirmation of a part, written last.
    follow: Option<Request>,
    answers: Vec<u8>,
    parts: u16,
    /// A part of the answer came before, for something else.
    doubtful: bool,
    until: Instant,
}

/// See the file's head.
#[derive(Debug)]
pub struct Proxy {
    settings: ProxySettings,
    terminal: Address,
    queue: Queue,
    association: Association,
    number: Piid,
    /// One a priority at most; the question under way is of one of them.
    batches: Vec<Batch>,
    under_way: Option<(Priority, UnderWay)>,
    /// Until then what can wait waits for others.
    gathering: Option<Instant>,
    in_a_row: u32,
    /// Parts of answers that came lately.
    parts: Parts,
    reports: report::Reports,
    events: VecDeque<ProxyEvent>,
    stats: LineStats,
}

impl Proxy {
    /// To a terminal, with nothing to ask.
    pub fn new(settings: ProxySettings, terminal: Address) -> Self {
        Self {
            terminal,
            queue: Queue::new(settings.queue_jobs),
            association: Association::No,
            number: Piid::new(0),
            batches: Vec::new(),
            under_way: None,
            gathering: None,
            in_a_row: 0,
            parts: Parts::default(),
            reports: report::Reports::default(),
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
    pub fn event(&mut self) -> Option<ProxyEvent> {
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

    /// When [`Proxy::tick`] wants to be called; none when nothing is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.queue.iter().map(|visit| visit.job.deadline).min();
        let gathering = self
            .gathering
            .filter(|_| !self.queue.is_empty() && self.batches.is_empty());
        let under_way = self.under_way.as_ref().map(|(_, way)| way.until);
        let associating = match &self.association {
            Association::Asked { until, .. } => Some(*until),
            _ => None,
        };
        [waiting, gathering, under_way, associating].into_iter().flatten().min()
    }

    /// Does what is due: time-outs, new questions. Call it after every [`Proxy::submit`] and [`Proxy::feed`], too.
    pub fn tick(&mut self, now: Moment) {
        if matches!(&self.association, Association::Asked { until, .. } if *until <= now.on) {
            self.stats.timeouts += 1;
            self.association = Association::Done;
        }
        if self.under_way.as_ref().is_some_and(|(_, way)| way.until <= now.on) {
            self.silent(now);
        }
        while let Some(ticket) = self.queue.expired(now.on, None) {
            if let Some(visit) = self.queue.remove(ticket) {
                let settled = members::unasked(visit, now, TransactionError::Deadline);
                self.events.push_back(ProxyEvent::Done(settled));
            }
        }
        self.gather(now);
        self.finish();
        while self.may_ask() && self.ask(now) {
            self.finish();
        }
    }

    /// Bytes of the terminal that say nothing about the link: whole frames.
    pub fn feed(&mut self, now: Moment, bytes: &[u8]) {
        for (span, frame) in frames(bytes) {
            self.heard(now, &frame, bytes.get(span).unwrap_or_default());
        }
    }

    /// The session has ended: every job ends.
    pub fn end(&mut self, now: Moment) {
        self.under_way = None;
        for mut batch in std::mem::take(&mut self.batches) {
            batch.lose(now);
            self.events.push_back(ProxyEvent::Done(batch.settled()));
        }
        while let Some(visit) = self.queue.any().and_then(|ticket| self.queue.remove(ticket)) {
            let settled = members::unasked(visit, now, TransactionError::SessionLost);
            self.events.push_back(ProxyEvent::Done(settled));
        }
    }

    // ---- asking

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
            let batch = Batch::gather(&mut self.queue, first, self.terminal, &self.settings, now);
            self.batches.extend(batch);
        }
    }

    fn may_ask(&self) -> bool {
        self.under_way.is_none() && !matches!(self.association, Association::Asked { .. })
    }

    /// Asks the next question of the highest priority; false when there is none, or it was for the association.
    fn ask(&mut self, now: Moment) -> bool {
        let ready = self.batches.iter_mut().filter(|batch| batch.has_question());
        let Some(batch) = ready.min_by_key(|batch| batch.priority) else {
            return false;
        };
        if matches!(self.association, Association::No) {
            self.associate(now);
            return false;
        }
        let priority = batch.priority;
        self.number = self.number.next();
        let Some((question, request)) = batch.next(now, self.number) else {
            return true;
        };
        let within = question.within(&self.settings);
        let way = UnderWay {
            until: now.on + within,
            request: request.clone(),
            question,
            follow: None,
            answers: Vec::new(),
            parts: 0,
            doubtful: false,
        };
        batch.wrote(now, &way.question);
        self.under_way = Some((priority, way));
        self.write(now, &request);
        true
    }

    /// Asks for an association once; terminals that need none say so, or nothing.
    fn associate(&mut self, now: Moment) {
        self.number = self.number.next();
        let connect = Apdu::ConnectRequest(Box::new(ConnectRequest {
            piid: self.number,
            parameters: Parameters::ALL,
            auth: Auth::None,
            time_tag: None,
        }));
        let Ok(request) = Request::new(self.terminal, connect) else {
            self.association = Association::Done;
            return;
        };
        self.association = Association::Asked {
            request: request.clone(),
            follow: None,
            answers: Vec::new(),
            until: now.on + self.settings.way_within,
        };
        self.write(now, &request);
    }

    fn write(&mut self, now: Moment, request: &Request) {
        let wire = request.wire();
        self.keep(now, LineFrameKind::Request, wire.clone());
        self.events.push_back(ProxyEvent::Write(wire));
    }

    /// Tells of the batches that have ended.
    fn finish(&mut self) {
        let under_way = self.under_way.as_ref().map(|(priority, _)| *priority);
        let over = |batch: &Batch| !batch.has_question() && under_way != Some(batch.priority);
        let (ended, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batches).into_iter().partition(over);
        self.batches = left;
        let done = ended.into_iter().map(|batch| ProxyEvent::Done(batch.settled()));
        self.events.extend(done);
    }
}

/// Whether somebody waits for a job, so that it does not wait for others.
fn is_urgent(job: &PollJob) -> bool {
    job.priority <= Priority::OnDemand
}
