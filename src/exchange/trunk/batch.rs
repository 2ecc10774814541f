//! Visits that are asked together: their questions joined into the fewest frames, and the answers cut apart again.

use super::{Settled, patience_of};
use crate::exchange::Moment;
use crate::exchange::dialogue::{self, Patience};
use crate::exchange::job::{PollJob, Priority, TransactionError, TransactionReport};
use crate::exchange::visit::{LineFrame, Queue, Ticket, VISIT_FRAMES_MAX, Visit, VisitOutcome};
use crate::protocol::gdw376::{ABSENT, Address, Afn, Ask, Edition, Id, Pn, Request, Unit, ask_len, plan};
use crate::protocol::{self, Protocol};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Visits of one batch.
const VISITS_MAX: usize = 512;
/// Halvings of one batch: enough to find six points among five hundred that spoil the rest.
const HALVINGS_MAX: u16 = 64;
/// What a thing costs beside its data: its share of an identifier, rounded up.
const ID_SHARE: usize = 1;

/// What a frame asks for, and the bytes that go with each thing.
type Asks = BTreeMap<Id, Vec<u8>>;

/// A visit in a batch.
#[derive(Debug)]
struct Member {
    ticket: Ticket,
    job: PollJob,
    began_at: Option<DateTime<Utc>>,
    reports: Vec<Option<TransactionReport>>,
}

/// One question of one visit, as a part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    member: usize,
    place: usize,
}

/// What one frame asks.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) attempts: u8,
    parts: Vec<Part>,
    sent_at: Option<Moment>,
}

impl Question {
    /// Whether it asks for more than one thing.
    pub(super) fn is_shared(&self) -> bool {
        self.parts.len() > 1
    }

    /// How long it was under way.
    pub(super) fn took(&self, now: Moment) -> Duration {
        let sent = self.sent_at.map_or(now.on, |sent| sent.on);
        now.on.saturating_duration_since(sent)
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) priority: Priority,
    /// Questions in a row without an answer.
    pub(super) silent: u8,
    terminal: Address,
    answer_max: usize,
    members: Vec<Member>,
    questions: VecDeque<Question>,
    under_way: Vec<(dialogue::Ticket, Question)>,
    frames: Vec<LineFrame>,
    halvings: u16,
}

impl Batch {
    /// Takes `first` out of the queue and, where it may share frames, all that may share them with it and fit into one
    /// answer: of the same priority, by measuring point, so that neighbours share identifiers.
    pub(super) fn gather(
        queue: &mut Queue,
        first: Ticket,
        terminal: Address,
        answer_max: usize,
        now: Moment,
    ) -> Option<Self> {
        let lead = queue.get(first)?;
        let priority = lead.job.priority;
        let mut tickets = vec![first];
        if may_share(&lead.job) {
            let from = point_of(&lead.job);
            let kin = queue
                .iter()
                .filter(|visit| visit.ticket != first && visit.job.priority == priority && may_share(&visit.job));
            // round from the one whose turn it is, so that no point is always the last
            let mut others: Vec<_> = kin
                .map(|visit| {
                    let point = point_of(&visit.job);
                    (point < from, point, visit.ticket, size_of(&visit.job))
                })
                .collect();
            others.sort_unstable();
            let mut size = size_of(&lead.job);
            let fitting = others.into_iter().take(VISITS_MAX - 1).take_while(|(.., bytes)| {
                size += bytes;
                size <= answer_max
            });
            tickets.extend(fitting.map(|(_, _, ticket, _)| ticket));
        }
        let visits = tickets.into_iter().filter_map(|ticket| queue.remove(ticket));
        let members: Vec<Member> = visits.map(Member::of).collect();
        let mut batch = Self::empty(priority, terminal, answer_max);
        batch.members = members;
        batch.plan(now);
        Some(batch)
    }

    fn empty(priority: Priority, terminal: Address, answer_max: usize) -> Self {
        Self {
            priority,
            silent: 0,
            terminal,
            answer_max,
            members: Vec::new(),
            questions: VecDeque::new(),
            under_way: Vec::new(),
            frames: Vec::new(),
            halvings: HALVINGS_MAX,
        }
    }

    /// A visit that ends without being asked.
    pub(super) fn unasked(visit: Visit, now: Moment, error: TransactionError) -> Self {
        let mut batch = Self::empty(visit.job.priority, crate::protocol::gdw376::NO_TERMINAL, 0);
        let mut member = Member::of(visit);
        // a session that is lost ends the visit with its first question
        if error == TransactionError::SessionLost {
            member.reports.truncate(1);
        }
        for report in &mut member.reports {
            *report = Some(report_of(Err(error), now, now.at, 0, Duration::ZERO));
        }
        batch.members.push(member);
        batch
    }

    /// The frames that ask for everything.
    fn plan(&mut self, now: Moment) {
        // what is asked twice with different data (two days of a point) cannot stand in one frame
        let mut rounds: Vec<(Afn, Asks, Vec<Part>)> = Vec::new();
        let (mut foreign, mut alone) = (Vec::new(), Vec::new());
        for (member, kept) in self.members.iter().enumerate() {
            for (place, request) in kept.job.requests.iter().enumerate() {
                let part = Part { member, place };
                let protocol::Request::Gdw376(request) = request else {
                    foreign.push(part);
                    continue;
                };
                let fits = |asks: &Asks| {
                    let clash = |(id, data): (Id, &[u8])| asks.get(&id).is_some_and(|there| there != data);
                    !request.asks().any(clash)
                };
                if !is_data(request.afn()) || kept.job.effect.is_some() {
                    alone.push((request.clone().to_terminal(self.terminal), part));
                    continue;
                }
                let round = rounds
                    .iter_mut()
                    .find(|(afn, asks, _)| *afn == request.afn() && fits(asks));
                let asks = request.asks().map(|(id, data)| (id, data.to_vec()));
                match round {
                    Some((_, kept, parts)) => {
                        kept.extend(asks);
                        parts.push(part);
                    }
                    None => rounds.push((request.afn(), asks.collect(), vec![part])),
                }
            }
        }
        for part in foreign {
            self.conclude(part, now, None, 1, Err(TransactionError::Unfit));
        }
        for (afn, asks, parts) in rounds {
            self.frames_of(afn, asks, parts, now);
        }
        // as they are: what changes something was made once, with a permit, and nobody makes it anew
        for (request, part) in alone {
            self.questions.push_back(Question {
                request,
                attempts: 0,
                parts: vec![part],
                sent_at: None,
            });
        }
    }

    fn frames_of(&mut self, afn: Afn, asks: Asks, mut parts: Vec<Part>, now: Moment) {
        let limits = plan::Limits {
            answer_max: self.answer_max,
            ..plan::Limits::default()
        };
        let asks = asks.into_iter().map(|(id, data)| Ask { id, data });
        let Ok(requests) = plan::questions(self.terminal, afn, asks, limits) else {
            for part in parts {
                self.conclude(part, now, None, 1, Err(TransactionError::Unfit));
            }
            return;
        };
        let last = requests.len().saturating_sub(1);
        for (index, request) in requests.into_iter().enumerate() {
            let asked = |part: &Part| {
                let wanted = self.request_of(*part).into_iter().flat_map(Request::asks);
                wanted
                    .map(|(id, _)| id)
                    .any(|id| request.asks().any(|(asked, _)| asked == id))
            };
            let (own, rest): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| index == last || asked(part));
            parts = rest;
            self.questions.push_back(Question {
                request,
                attempts: 0,
                parts: own,
                sent_at: None,
            });
        }
    }

    fn request_of(&self, part: Part) -> Option<&Request> {
        match self.members.get(part.member)?.job.requests.get(part.place)? {
            protocol::Request::Gdw376(request) => Some(request),
            _ => None,
        }
    }

    pub(super) fn visits(&self) -> usize {
        self.members.len()
    }

    pub(super) fn has_question(&self) -> bool {
        !self.questions.is_empty()
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        self.questions.is_empty() && self.under_way.is_empty()
    }

    /// The next frame, without the visits whose time is over; none when that leaves nothing.
    pub(super) fn next(&mut self, now: Moment) -> Option<Question> {
        let mut question = self.questions.pop_front()?;
        let is_over = |part: &Part| {
            let member = self.members.get(part.member);
            member.is_none_or(|member| member.job.is_over(now.on))
        };
        let (over, left): (Vec<_>, Vec<_>) = question.parts.iter().copied().partition(is_over);
        if over.is_empty() {
            return Some(question);
        }
        for part in over {
            self.conclude(part, now, None, 1, Err(TransactionError::Deadline));
        }
        question.parts = left;
        self.rebuilt(&question)
    }

    /// A question with the asks of its parts only.
    fn rebuilt(&self, question: &Question) -> Option<Question> {
        let requests = question.parts.iter().filter_map(|part| self.request_of(*part));
        let asks: Asks = requests
            .flat_map(Request::asks)
            .map(|(id, data)| (id, data.to_vec()))
            .collect();
        let asks = asks.into_iter().map(|(id, data)| Ask { id, data });
        let request = Request::new(self.terminal, question.request.afn(), asks).ok()?;
        Some(Question {
            request,
            attempts: 0,
            sent_at: None,
            parts: question.parts.clone(),
        })
    }

    pub(super) fn patience(&self, question: &Question) -> Patience {
        let members = question.parts.iter().filter_map(|part| self.members.get(part.member));
        patience_of(members.map(|member| &member.job))
    }

    /// A frame is about to be written.
    pub(super) fn begin(&mut self, ticket: dialogue::Ticket, mut question: Question, now: Moment) {
        question.sent_at = Some(now);
        self.under_way.push((ticket, question));
    }

    /// A frame of the question under way was written, the first time or again.
    pub(super) fn wrote(&mut self, now: Moment) {
        for (_, question) in &mut self.under_way {
            question.attempts = question.attempts.saturating_add(1);
            for part in &question.parts {
                if let Some(member) = self.members.get_mut(part.member) {
                    member.began_at.get_or_insert(now.at);
                }
            }
        }
    }

    pub(super) fn keep(&mut self, frame: LineFrame) {
        if self.frames.len() < VISIT_FRAMES_MAX {
            self.frames.push(frame);
        }
    }

    pub(super) fn take(&mut self, ticket: dialogue::Ticket) -> Option<Question> {
        let at = self.under_way.iter().position(|(theirs, _)| *theirs == ticket)?;
        Some(self.under_way.remove(at).1)
    }

    /// Data came: each visit gets what it asked for.
    pub(super) fn answered(&mut self, question: &Question, now: Moment, units: &[Unit]) {
        let by_id: BTreeMap<Id, &Unit> = units.iter().map(|unit| (unit.id, unit)).collect();
        let afn = question.request.afn();
        for part in &question.parts {
            let excerpt = self.request_of(*part).and_then(|request| {
                if !question.is_shared() {
                    // a list in several frames is one thing in several units
                    return request.excerpt(afn, units);
                }
                let own = request.asks().filter_map(|(id, _)| by_id.get(&id).copied().cloned());
                request.excerpt(afn, &own.collect::<Vec<Unit>>())
            });
            let result = excerpt.ok_or(TransactionError::Refused(ABSENT));
            self.conclude(*part, now, Some(question), question.parts.len(), result);
        }
    }

    /// Everything was carried out.
    pub(super) fn confirmed(&mut self, question: &Question, now: Moment) {
        for part in &question.parts {
            let told = self.request_of(*part).and_then(Request::confirmed);
            let result = told.ok_or(TransactionError::Unfit);
            self.conclude(*part, now, Some(question), question.parts.len(), result);
        }
    }

    /// Some items were denied by name, and the others are not in the answer.
    pub(super) fn denied(&mut self, question: &Question, now: Moment, denied: &[(Id, u8)]) {
        for part in &question.parts {
            let asks = |id: &Id| {
                let own = self.request_of(*part).into_iter().flat_map(Request::asks);
                own.map(|(asked, _)| asked).any(|asked| asked == *id)
            };
            let code = denied.iter().find(|(id, _)| asks(id)).map_or(ABSENT, |(_, code)| *code);
            let result = Err(TransactionError::Refused(code));
            self.conclude(*part, now, Some(question), question.parts.len(), result);
        }
    }

    /// All of a question ends the same way.
    pub(super) fn conclude_all(&mut self, question: &Question, now: Moment, error: TransactionError) {
        for part in &question.parts {
            self.conclude(*part, now, Some(question), question.parts.len(), Err(error));
        }
    }

    /// Asks a question again in two halves; false when it is of one thing, or there were too many halvings already.
    pub(super) fn halve(&mut self, question: &Question) -> bool {
        if !question.is_shared() || self.halvings == 0 {
            return false;
        }
        self.halvings -= 1;
        let (front, back) = question.parts.split_at(question.parts.len() / 2);
        for half in [back, front] {
            let half = Question {
                parts: half.to_vec(),
                ..question.clone()
            };
            if let Some(half) = self.rebuilt(&half) {
                self.questions.push_front(half);
            }
        }
        true
    }

    /// Nothing answers: what is left is not asked.
    pub(super) fn give_up(&mut self, now: Moment) {
        for question in std::mem::take(&mut self.questions) {
            self.conclude_all(&question, now, TransactionError::Timeout);
        }
    }

    /// The session is gone.
    pub(super) fn lose(&mut self, now: Moment) {
        self.questions.clear();
        self.under_way.clear();
        for member in &mut self.members {
            let open = member.reports.iter().position(Option::is_none);
            let Some(open) = open else { continue };
            let error = Err(TransactionError::SessionLost);
            let report = report_of(error, now, now.at, 0, Duration::ZERO);
            // what was answered behind it cannot be told without the one before
            member.reports.truncate(open);
            member.reports.push(Some(report));
        }
    }

    fn conclude(
        &mut self,
        part: Part,
        now: Moment,
        question: Option<&Question>,
        sharers: usize,
        result: Result<Vec<u8>, TransactionError>,
    ) {
        let sharers = u32::try_from(sharers.max(1)).unwrap_or(u32::MAX);
        let held = question.map_or(Duration::ZERO, |question| question.took(now) / sharers);
        let sent_at = question
            .and_then(|question| question.sent_at)
            .map_or(now.at, |sent| sent.at);
        let attempts = question.map_or(0, |question| question.attempts);
        let report = report_of(result, now, sent_at, attempts, held);
        let member = self.members.get_mut(part.member);
        if let Some(slot) = member.and_then(|member| member.reports.get_mut(part.place)) {
            slot.get_or_insert(report);
        }
    }

    /// What became of each visit.
    pub(super) fn settled(self) -> Settled {
        let outcomes = self.members.into_iter().map(|member| {
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

fn report_of(
    result: Result<Vec<u8>, TransactionError>,
    now: Moment,
    sent_at: DateTime<Utc>,
    attempts: u8,
    held: Duration,
) -> TransactionReport {
    TransactionReport {
        result,
        attempts,
        sent_at,
        ended_at: now.at,
        // how long the terminal thinks says nothing of the meter
        turnaround: None,
        held,
    }
}

/// Whether a function only brings data, of any points in one frame.
fn is_data(afn: Afn) -> bool {
    matches!(afn, Afn::REALTIME | Afn::HISTORY)
}

/// Whether a job's questions may stand in a frame with those of others.
fn may_share(job: &PollJob) -> bool {
    job.effect.is_none()
        && job.requests.iter().all(|request| match request {
            protocol::Request::Gdw376(request) => is_data(request.afn()),
            other => other.protocol() == Protocol::Gdw376,
        })
}

/// The measuring point that a job asks first.
fn point_of(job: &PollJob) -> Option<u16> {
    let mut points = job.requests.iter().filter_map(|request| match request {
        protocol::Request::Gdw376(request) => request.asks().filter_map(|(id, _)| id.pn.number()).max(),
        _ => None,
    });
    points.next()
}

/// About the bytes of data that a job adds to an answer; what is of the terminal itself is shared by all.
fn size_of(job: &PollJob) -> usize {
    let requests = job.requests.iter().filter_map(|request| match request {
        protocol::Request::Gdw376(request) => Some(request),
        _ => None,
    });
    let sizes = requests.flat_map(|request| {
        let own = request.asks().filter(|(id, _)| id.pn != Pn::TERMINAL);
        own.map(|(id, data)| ID_SHARE + ask_len(request.afn(), id, data, Edition::default()))
    });
    sizes.sum::<usize>().max(ID_SHARE)
}
