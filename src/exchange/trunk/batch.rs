//! Visits that are asked together: their questions joined into the fewest frames, and the answers cut apart again.

use super::patience_of;
use crate::exchange::Moment;
use crate::exchange::dialogue::{self, Patience};
use crate::exchange::job::{PollJob, Priority, TransactionError};
use crate::exchange::members::{Asked, Members, Part, Settled};
use crate::exchange::visit::{LineFrame, Queue, Ticket};
use crate::protocol::gdw376::{ABSENT, Address, Afn, Ask, Edition, Id, Pn, Request, Unit, ask_len, plan};
use crate::protocol::{self, Protocol};
use std::collections::{BTreeMap, VecDeque};

/// Visits of one batch.
const VISITS_MAX: usize = 512;
/// Halvings of one batch: enough to find six points among five hundred that spoil the rest.
const HALVINGS_MAX: u16 = 64;
/// What a thing costs beside its data: its share of an identifier, rounded up.
const ID_SHARE: usize = 1;

/// What a frame asks for, and the bytes that go with each thing.
type Asks = BTreeMap<Id, Vec<u8>>;

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

    /// How it was asked.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            attempts: self.attempts,
            sent_at: self.sent_at,
            sharers: self.parts.len(),
        }
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
    members: Members,
    questions: VecDeque<Question>,
    under_way: Vec<(dialogue::Ticket, Question)>,
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
        let mut batch = Self {
            priority,
            silent: 0,
            terminal,
            answer_max,
            members: Members::of(queue, tickets),
            questions: VecDeque::new(),
            under_way: Vec::new(),
            halvings: HALVINGS_MAX,
        };
        batch.plan(now);
        Some(batch)
    }

    /// The frames that ask for everything.
    fn plan(&mut self, now: Moment) {
        // what is asked twice with different data (two days of a point) cannot stand in one frame
        let mut rounds: Vec<(Afn, Asks, Vec<Part>)> = Vec::new();
        let (mut foreign, mut alone) = (Vec::new(), Vec::new());
        for part in self.members.parts() {
            let Some(request) = self.request_of(part) else {
                foreign.push(part);
                continue;
            };
            let changes = self.members.job(part).is_some_and(|job| job.effect.is_some());
            if !is_data(request.afn()) || changes {
                alone.push((request.clone().to_terminal(self.terminal), part));
                continue;
            }
            let fits = |asks: &Asks| {
                let clash = |(id, data): (Id, &[u8])| asks.get(&id).is_some_and(|there| there != data);
                !request.asks().any(clash)
            };
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
        for part in foreign {
            self.members
                .conclude(part, now, Asked::NEVER, Err(TransactionError::Unfit));
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
                self.members
                    .conclude(part, now, Asked::NEVER, Err(TransactionError::Unfit));
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
        match self.members.request(part)? {
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
        let is_over = |part: &Part| self.members.is_over(*part, now);
        let (over, left): (Vec<_>, Vec<_>) = question.parts.iter().copied().partition(is_over);
        if over.is_empty() {
            return Some(question);
        }
        for part in over {
            self.members
                .conclude(part, now, Asked::NEVER, Err(TransactionError::Deadline));
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
        patience_of(self.members.jobs(&question.parts))
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
            self.members.began(&question.parts, now);
        }
    }

    pub(super) fn keep(&mut self, frame: LineFrame) {
        self.members.keep(frame);
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
            self.members.conclude(*part, now, question.asked(), result);
        }
    }

    /// Everything was carried out.
    pub(super) fn confirmed(&mut self, question: &Question, now: Moment) {
        for part in &question.parts {
            let told = self.request_of(*part).and_then(Request::confirmed);
            let result = told.ok_or(TransactionError::Unfit);
            self.members.conclude(*part, now, question.asked(), result);
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
            self.members.conclude(*part, now, question.asked(), result);
        }
    }

    /// All of a question ends the same way.
    pub(super) fn conclude_all(&mut self, question: &Question, now: Moment, error: TransactionError) {
        for part in &question.parts {
            self.members.conclude(*part, now, question.asked(), Err(error));
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
        self.members.lose(now);
    }

    /// What became of each visit.
    pub(super) fn settled(self) -> Settled {
        self.members.settled()
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
