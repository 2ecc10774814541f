//! Visits that are asked together through a terminal: their questions joined into the fewest, and the answers cut apart.

use super::ProxySettings;
use super::excerpt::{body_of, excerpt, is_own, oads_of, set_of};
use super::question::Question;
use crate::exchange::Moment;
use crate::exchange::job::{Priority, TransactionError};
use crate::exchange::members::{Asked, Members, Part, Settled};
use crate::exchange::visit::{LineFrame, Queue, Ticket};
use crate::protocol;
use crate::protocol::dlt698::{Address, Apdu, GetBody, Oad, Piid, Request};
use std::collections::VecDeque;
use std::num::NonZeroU16;

/// Visits of one batch.
const VISITS_MAX: usize = 512;
/// Halvings of one batch: enough to find six meters among five hundred that spoil the rest.
const HALVINGS_MAX: u16 = 64;
/// What a meter costs in a question beside its attributes: its address, time-out and count; and what an attribute costs.
const METER_COST: usize = 12;
const OAD_COST: usize = 4;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) priority: Priority,
    /// Questions in a row without an answer.
    pub(super) silent: u8,
    terminal: Address,
    settings: ProxySettings,
    members: Members,
    questions: VecDeque<Question>,
    halvings: u16,
}

impl Batch {
    /// Takes `first` out of the queue and all that may share questions with it: of the same priority, changing nothing.
    pub(super) fn gather(
        queue: &mut Queue,
        first: Ticket,
        terminal: Address,
        settings: &ProxySettings,
        now: Moment,
    ) -> Option<Self> {
        let lead = queue.get(first)?;
        let priority = lead.job.priority;
        let mut tickets = vec![first];
        if lead.job.effect.is_none() {
            let kin = queue
                .iter()
                .filter(|visit| visit.ticket != first && visit.job.priority == priority && visit.job.effect.is_none());
            tickets.extend(kin.map(|visit| visit.ticket).take(VISITS_MAX - 1));
        }
        let mut batch = Self {
            priority,
            silent: 0,
            terminal,
            settings: *settings,
            members: Members::of(queue, tickets),
            questions: VecDeque::new(),
            halvings: HALVINGS_MAX,
        };
        batch.group(batch.members.parts(), now);
        Some(batch)
    }

    /// Makes questions of parts: attributes of as many meters as one holds, everything else alone.
    fn group(&mut self, parts: Vec<Part>, now: Moment) {
        let mut shared: Vec<Part> = Vec::new();
        let mut single: Vec<Part> = Vec::new();
        for part in parts {
            match self
                .request_of(part)
                .filter(|request| request.address().is_device() || is_own(self.terminal, request))
                .map(|request| (is_own(self.terminal, request), body_of(request)))
            {
                Some((false, Some(GetBody::Normal(_) | GetBody::List(_)))) if self.shares(part) => shared.push(part),
                Some((_, Some(_))) => single.push(part),
                // a setting of the terminal itself; meters are set by nobody but the control of relays and clocks
                Some((true, None)) if self.sets(part) => single.push(part),
                _ => self
                    .members
                    .conclude(part, now, Asked::NEVER, Err(TransactionError::Unfit)),
            }
        }
        let mut group: Vec<Part> = Vec::new();
        for part in shared {
            let mut grown = group.clone();
            grown.push(part);
            if !group.is_empty() && !self.fits(&grown) {
                self.push(std::mem::take(&mut group));
                grown = vec![part];
            }
            group = grown;
        }
        if !group.is_empty() {
            self.push(group);
        }
        for part in single {
            self.push(vec![part]);
        }
    }

    fn shares(&self, part: Part) -> bool {
        self.members.job(part).is_some_and(|job| job.effect.is_none())
    }

    fn sets(&self, part: Part) -> bool {
        self.request_of(part).and_then(set_of).is_some()
    }

    /// Whether parts go into one question.
    fn fits(&self, parts: &[Part]) -> bool {
        let targets = self.targets(parts);
        let oads: usize = targets.iter().map(|(_, oads)| oads.len()).sum();
        targets.len() <= self.settings.meters_max.max(1)
            && targets.len() * METER_COST + oads * OAD_COST <= self.settings.question_max
    }

    fn push(&mut self, parts: Vec<Part>) {
        let jobs = || self.members.jobs(&parts);
        let meters = u16::try_from(self.targets(&parts).len().max(1)).unwrap_or(u16::MAX);
        let once = jobs().any(|job| job.effect.is_some()) || parts.iter().any(|part| self.sets(*part));
        let question = Question {
            attempts: 0,
            attempts_max: match once {
                true => 1,
                false => jobs().map(|job| job.attempts).max().unwrap_or(1).max(1),
            },
            once,
            doubts: 0,
            doubted: None,
            meters,
            each: jobs().map(|job| job.timeout).max().unwrap_or_default(),
            sent_at: None,
            parts,
        };
        self.questions.push_back(question);
    }

    /// Whom parts ask for which attributes, each meter and each of its attributes once.
    fn targets(&self, parts: &[Part]) -> Vec<(Address, Vec<Oad>)> {
        let mut targets: Vec<(Address, Vec<Oad>)> = Vec::new();
        for part in parts {
            let Some(request) = self.request_of(*part) else {
                continue;
            };
            let (address, wanted) = (request.address(), oads_of(request));
            let place = targets.iter().position(|(known, _)| *known == address);
            let place = place.unwrap_or_else(|| {
                targets.push((address, Vec::new()));
                targets.len() - 1
            });
            if let Some((_, oads)) = targets.get_mut(place) {
                for oad in wanted {
                    if !oads.contains(&oad) {
                        oads.push(oad);
                    }
                }
            }
        }
        targets
    }

    fn request_of(&self, part: Part) -> Option<&Request> {
        match self.members.request(part)? {
            protocol::Request::Dlt698(request) => Some(request),
            _ => None,
        }
    }

    pub(super) fn visits(&self) -> usize {
        self.members.len()
    }

    pub(super) fn has_question(&self) -> bool {
        !self.questions.is_empty()
    }

    /// The next question under this number, without the visits whose time is over; none when that leaves nothing.
    pub(super) fn next(&mut self, now: Moment, number: Piid) -> Option<(Question, Request)> {
        let mut question = self.questions.pop_front()?;
        let is_over = |part: &Part| self.members.is_over(*part, now);
        let (over, left): (Vec<_>, Vec<_>) = question.parts.iter().copied().partition(is_over);
        for part in over {
            // what was asked before has timed out, and has no time for another attempt
            let error = match question.attempts {
                0 => TransactionError::Deadline,
                _ => TransactionError::Timeout,
            };
            self.members.conclude(part, now, question.asked(), Err(error));
        }
        if left.is_empty() {
            return None;
        }
        question.parts = left;
        let Some(request) = self.request(&question, number) else {
            self.conclude_all(&question, now, TransactionError::Unfit);
            return None;
        };
        question.sent_at = Some(now);
        question.attempts = question.attempts.saturating_add(1);
        Some((question, request))
    }

    /// The terminal's question for some parts.
    fn request(&self, question: &Question, number: Piid) -> Option<Request> {
        let seconds = question.for_meters(&self.settings).as_secs();
        let timeout = NonZeroU16::new(u16::try_from(seconds).unwrap_or(u16::MAX).max(1))?;
        let first = self.request_of(*question.parts.first()?)?;
        if let Some(set) = set_of(first).filter(|_| is_own(self.terminal, first)) {
            let asked = protocol::dlt698::Asked::new(number, set.clone());
            return Request::new(self.terminal, Apdu::Set(asked)).ok();
        }
        let body = body_of(first)?;
        if is_own(self.terminal, first) {
            let asked = protocol::dlt698::Asked::new(number, body.clone());
            return Request::new(self.terminal, Apdu::Get(asked)).ok();
        }
        match body {
            GetBody::Normal(_) | GetBody::List(_) => {
                let targets = self.targets(&question.parts);
                Request::proxy_get(self.terminal, number, timeout, &targets).ok()
            }
            GetBody::Record(record) => {
                Request::proxy_record(self.terminal, number, timeout, &first.address(), record.clone()).ok()
            }
            _ => None,
        }
    }

    /// A question was written, the first time or again.
    pub(super) fn wrote(&mut self, now: Moment, question: &Question) {
        self.members.began(&question.parts, now);
    }

    pub(super) fn keep(&mut self, frame: LineFrame) {
        self.members.keep(frame);
    }

    /// An answer came that matches the question: each visit gets what it asked for.
    pub(super) fn answered(&mut self, question: &Question, now: Moment, answer: &Apdu) {
        for part in &question.parts {
            let excerpt = self.request_of(*part).map_or(Err(TransactionError::Unfit), |request| {
                excerpt(self.terminal, request, answer)
            });
            self.members.conclude(*part, now, question.asked(), excerpt);
        }
    }

    /// All of a question ends the same way. What is refused is asked finer, where the visit says how.
    pub(super) fn conclude_all(&mut self, question: &Question, now: Moment, error: TransactionError) {
        for part in &question.parts {
            self.members.conclude(*part, now, question.asked(), Err(error));
            if matches!(error, TransactionError::Refused(_)) {
                let finer = self.members.instead_of(*part);
                self.group(finer, now);
            }
        }
    }

    /// Asks a question that got no answer once more; false when it had all its attempts.
    pub(super) fn again(&mut self, question: &Question) -> bool {
        let may = question.attempts < question.attempts_max;
        if may {
            self.questions.push_front(question.clone());
        }
        may
    }

    /// Asks a question again in two halves; false when it is of one meter, or there were too many halvings already.
    pub(super) fn halve(&mut self, question: &Question) -> bool {
        if question.parts.len() < 2 || self.halvings == 0 {
            return false;
        }
        self.halvings -= 1;
        let (front, back) = question.parts.split_at(question.parts.len() / 2);
        for half in [back, front] {
            self.push(half.to_vec());
            self.questions.rotate_right(1);
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
        self.members.lose(now);
    }

    /// What became of each visit.
    pub(super) fn settled(self) -> Settled {
        self.members.settled()
    }
}
