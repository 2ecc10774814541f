//! The visits of a batch that is asked through one peer: which of their questions have ended and how, and what became of
//! each visit in the end. How questions are joined and answers are cut apart is the batch's own matter.

use super::Moment;
use super::job::{PollJob, TransactionError, TransactionReport};
use super::visit::{LineFrame, Queue, Ticket, VISIT_FRAMES_MAX, Visit, VisitOutcome};
use crate::protocol::Request;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// Visits that were asked together, and the frames of all of them.
#[derive(Debug)]
pub struct Settled {
    /// What became of each; their own frames are empty.
    pub outcomes: Vec<(Ticket, VisitOutcome)>,
    /// The frames, in order.
    pub frames: Vec<LineFrame>,
}

/// One question of one visit, as a part of what the peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Which visit of the batch.
    member: usize,
    /// Which of its questions.
    place: usize,
}

/// How the question was asked that a part stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// How often.
    pub(super) attempts: u8,
    /// When, the last time; none when it never was.
    pub(super) sent_at: Option<Moment>,
    /// How many parts it has, which share the time.
    pub(super) sharers: usize,
}

/// A visit in a batch.
#[derive(Debug)]
struct Member {
    ticket: Ticket,
    job: PollJob,
    began_at: Option<DateTime<Utc>>,
    reports: Vec<Option<TransactionReport>>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Members {
    visits: Vec<Member>,
    frames: Vec<LineFrame>,
}

impl Asked {
    /// Of a question that was never asked.
    pub(super) const NEVER: Self = Self {
        attempts: 0,
        sent_at: None,
        sharers: 1,
    };

    /// How long it was under way.
    pub(super) fn took(self, now: Moment) -> Duration {
        let sent = self.sent_at.map_or(now.on, |sent| sent.on);
        now.on.saturating_duration_since(sent)
    }

    /// What one part of it is told.
    fn report(self, now: Moment, result: Result<Vec<u8>, TransactionError>) -> TransactionReport {
        let sharers = u32::try_from(self.sharers.max(1)).unwrap_or(u32::MAX);
        TransactionReport {
            result,
            attempts: self.attempts,
            sent_at: self.sent_at.map_or(now.at, |sent| sent.at),
            ended_at: now.at,
            // how long the peer thinks says nothing of the meter
            turnaround: None,
            held: self.took(now) / sharers,
        }
    }
}

impl Member {
    fn of(visit: Visit) -> Self {
        Self {
            ticket: visit.ticket,
            began_at: None,
            reports: vec![None; visit.job.requests.len()],
            job: visit.job,
        }
    }
}

/// A visit that ends without being asked.
pub(super) fn unasked(visit: Visit, now: Moment, error: TransactionError) -> Settled {
    let mut member = Member::of(visit);
    // a session that is lost ends the visit with its first question
    if error == TransactionError::SessionLost {
        member.reports.truncate(1);
    }
    for report in &mut member.reports {
        *report = Some(Asked::NEVER.report(now, Err(error)));
    }
    let members = Members {
        visits: vec![member],
        frames: Vec::new(),
    };
    members.settled()
}

impl Members {
    /// Takes these visits out of the queue; those that are gone from it are left out.
    pub(super) fn of(queue: &mut Queue, tickets: impl IntoIterator<Item = Ticket>) -> Self {
        let visits = tickets.into_iter().filter_map(|ticket| queue.remove(ticket));
        Self {
            visits: visits.map(Member::of).collect(),
            frames: Vec::new(),
        }
    }

    /// How many visits.
    pub(super) fn len(&self) -> usize {
        self.visits.len()
    }

    /// Every question of every visit.
    pub(super) fn parts(&self) -> Vec<Part> {
        let of =
            |(member, visit): (usize, &Member)| (0..visit.job.requests.len()).map(move |place| Part { member, place });
        self.visits.iter().enumerate().flat_map(of).collect()
    }

    /// The job that a part belongs to.
    pub(super) fn job(&self, part: Part) -> Option<&PollJob> {
        self.visits.get(part.member).map(|member| &member.job)
    }

    /// The jobs that parts belong to, once for each part.
    pub(super) fn jobs(&self, parts: &[Part]) -> impl Iterator<Item = &PollJob> {
        parts.iter().filter_map(|part| self.job(*part))
    }

    /// What a part asks.
    pub(super) fn request(&self, part: Part) -> Option<&Request> {
        self.job(part)?.requests.get(part.place)
    }

    /// Whether the time of a part's visit is over.
    pub(super) fn is_over(&self, part: Part, now: Moment) -> bool {
        self.job(part).is_none_or(|job| job.is_over(now.on))
    }

    /// Parts are being asked, the first time or again.
    pub(super) fn began(&mut self, parts: &[Part], now: Moment) {
        for part in parts {
            if let Some(member) = self.visits.get_mut(part.member) {
                member.began_at.get_or_insert(now.at);
            }
        }
    }

    /// A frame of the batch, as long as there are not too many.
    pub(super) fn keep(&mut self, frame: LineFrame) {
        if self.frames.len() < VISIT_FRAMES_MAX {
            self.frames.push(frame);
        }
    }

    /// A part has ended; what it ended with first stays.
    pub(super) fn conclude(
        &mut self,
        part: Part,
        now: Moment,
        asked: Asked,
        result: Result<Vec<u8>, TransactionError>,
    ) {
        let member = self.visits.get_mut(part.member);
        if let Some(slot) = member.and_then(|member| member.reports.get_mut(part.place)) {
            slot.get_or_insert_with(|| asked.report(now, result));
        }
    }

    /// What is asked in place of a refused part, put behind the visit's other questions.
    pub(super) fn instead_of(&mut self, part: Part) -> Vec<Part> {
        let Some(member) = self.visits.get_mut(part.member) else {
            return Vec::new();
        };
        let instead = member.job.instead.get_mut(part.place).map(std::mem::take);
        let first = member.job.requests.len();
        member.job.requests.extend(instead.unwrap_or_default());
        member.reports.resize(member.job.requests.len(), None);
        let places = first..member.job.requests.len();
        let behind = places.map(|place| Part { place, ..part });
        behind.collect()
    }

    /// The session is gone: each visit ends with its first open question.
    pub(super) fn lose(&mut self, now: Moment) {
        for member in &mut self.visits {
            let Some(open) = member.reports.iter().position(Option::is_none) else {
                continue;
            };
            // what was answered behind it cannot be told without the one before
            member.reports.truncate(open);
            let lost = Asked::NEVER.report(now, Err(TransactionError::SessionLost));
            member.reports.push(Some(lost));
        }
    }

    /// What became of each visit.
    pub(super) fn settled(self) -> Settled {
        let outcomes = self.visits.into_iter().map(|member| {
            let outcome = VisitOutcome {
                began_at: member.began_at,
                reports: member.reports.into_iter().map_while(|report| report).collect(),
                frames: Vec::new(),
                late_by: None,
            };
            (member.ticket, outcome)
        });
        Settled {
            outcomes: outcomes.collect(),
            frames: self.frames,
        }
    }
}
