//! A trunk's own questions: for records of events that the counters tell of and nobody kept, between the visits of others.

use super::watch::{Became, Span};
use super::{Moment, Trunk, TrunkEvent};
use crate::base::ids::{MeterId, PollId};
use crate::exchange::job::{PollJob, Priority, TransactionError};
use crate::exchange::visit::{Ticket, VisitOutcome};
use crate::protocol;
use crate::protocol::gdw376::event::{self, EventError, Events, Record};
use crate::protocol::gdw376::{Afn, Edition, Fn, Found, Id, Message, Pn, Request, find};
use std::time::Duration;

/// The question waits so long for the line.
const DEADLINE: Duration = Duration::from_secs(300);

/// Records, with whether they are important ones.
type Records = Vec<(bool, Record)>;

/// Records that a terminal told, to be kept: [`Trunk::kept`] or [`Trunk::not_kept`] is said of each.
#[derive(Debug)]
pub struct Recorded {
    /// The records, with whether they are important ones.
    pub records: Vec<(bool, Record)>,
    by: By,
}

/// How they came.
#[derive(Debug)]
enum By {
    /// Asked for.
    Asked(Span),
    /// Reported: these frames wait for their confirmation.
    Report(Vec<Message>, Vec<Span>),
}

/// Why the answer to an own question says nothing of its records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadEvents {
    /// There is no list in it.
    #[error("no list of events")]
    Nothing,
    /// It does not fit the question.
    #[error("{0}")]
    Answer(String),
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] EventError),
    /// It begins elsewhere.
    #[error("asked from record {asked}, told from record {found}")]
    Place {
        /// The first that was asked for.
        asked: u8,
        /// The first that is told.
        found: u8,
    },
}

/// Of which kind a list of records is.
fn is_important(id: Id) -> Option<bool> {
    (id.pn == Pn::TERMINAL).then_some(id.item).and_then(|item| match item {
        Fn::F1 => Some(true),
        Fn::F2 => Some(false),
        _ => None,
    })
}

fn of(important: bool, events: Events) -> (Span, Records) {
    let span = Span {
        important,
        from: events.from,
        to: events.to,
    };
    (
        span,
        events.records.into_iter().map(|record| (important, record)).collect(),
    )
}

/// The records of a report; none where it is of something else or cannot be read.
fn reported(report: &[Message]) -> Option<(Vec<Span>, Records)> {
    let (mut spans, mut records) = (Vec::new(), Vec::new());
    for message in report.iter() {
        if message.afn != Afn::EVENTS {
            return None;
        }
        for unit in message.units(Edition::default()).ok()? {
            let (span, more) = of(is_important(unit.id)?, event::read(&unit.data).ok()?);
            spans.push(span);
            records.extend(more);
        }
    }
    Some((spans, records))
}

impl Trunk {
    /// A report came.
    pub(super) fn told(&mut self, report: Vec<Message>) {
        self.events.push_back(match reported(&report) {
            Some((spans, records)) => TrunkEvent::Recorded(Recorded {
                records,
                by: By::Report(report, spans),
            }),
            None => TrunkEvent::Report(report),
        });
    }

    /// From now on somebody keeps records: they are asked for.
    pub fn keep_events(&mut self) {
        self.keeps_events = true;
    }

    /// Whether nobody else wants anything.
    pub(super) fn may_ask_for_events(&self) -> bool {
        self.keeps_events && self.queue.is_empty() && self.batches.is_empty() && self.fetching.is_none()
    }

    /// Asks for records, if nobody else wants anything.
    pub(super) fn ask_for_events(&mut self, now: Moment) {
        if !self.may_ask_for_events() {
            return;
        }
        let Some(span) = self.watch.next(now.on) else { return };
        let request = Request::events(self.terminal, span.important, span.from, span.to);
        let pushed = request.ok().and_then(|request| {
            let job = PollJob {
                poll: PollId(0),
                meter: MeterId(0),
                priority: Priority::BackFill,
                requests: vec![protocol::Request::Gdw376(request)],
                instead: vec![Vec::new()],
                attempts: 2,
                timeout: self.settings.dialogue.answer_within,
                byte_time: Duration::ZERO,
                pause: Duration::ZERO,
                deadline: now.on + DEADLINE,
                evidence: false,
                effect: None,
            };
            self.queue.push(now, job).ok()
        });
        match pushed {
            Some(ticket) => self.fetching = Some((ticket, span)),
            None => self.watch.ended(span, Became::Nothing, now.on),
        }
    }

    /// Takes the outcome of an own question out of what is told.
    pub(super) fn take_own(&mut self, now: Moment, outcomes: &mut Vec<(Ticket, VisitOutcome)>) {
        let Some((ticket, span)) = self.fetching else { return };
        let Some(place) = outcomes.iter().position(|(theirs, _)| *theirs == ticket) else {
            return;
        };
        let (_, outcome) = outcomes.swap_remove(place);
        self.fetching = None;
        let report = outcome.reports.into_iter().next();
        match report.map(|report| report.result) {
            Some(Ok(bytes)) => match self.read(span, &bytes) {
                Ok((told, records)) => self.events.push_back(TrunkEvent::Recorded(Recorded {
                    records,
                    by: By::Asked(told),
                })),
                // it would say the same again
                Err(why) => {
                    self.events.push_back(TrunkEvent::Unread(why));
                    self.watch.ended(span, Became::Over, now.on);
                }
            },
            // it has them no longer, or never had them
            Some(Err(TransactionError::Refused(_))) => self.watch.ended(span, Became::Over, now.on),
            _ => self.watch.ended(span, Became::Nothing, now.on),
        }
    }

    /// The records of an answer, and which of the span asked for they are: a terminal may answer with the beginning of it
    /// only, and what it did not say is asked for next. An answer that comes no further ends the whole span.
    fn read(&self, span: Span, bytes: &[u8]) -> Result<(Span, Records), UnreadEvents> {
        let Found::Frame { frame, .. } = find(bytes) else {
            return Err(UnreadEvents::Nothing);
        };
        let request = Request::events(self.terminal, span.important, span.from, span.to)
            .map_err(|error| UnreadEvents::Answer(error.to_string()))?;
        let answer = Message::of(&frame)
            .map_err(|error| UnreadEvents::Answer(error.to_string()))
            .and_then(|message| {
                let answer = request.answer(&[message], Edition::default());
                answer.map_err(|error| UnreadEvents::Answer(error.to_string()))
            })?;
        let events = answer
            .event_records()?
            .into_iter()
            .next()
            .ok_or(UnreadEvents::Nothing)?;
        if events.from != span.from {
            let (asked, found) = (span.from, events.from);
            return Err(UnreadEvents::Place { asked, found });
        }
        let (asked, told) = (span.to.wrapping_sub(span.from), events.to.wrapping_sub(span.from));
        let to = if (1..=asked).contains(&told) {
            events.to
        } else {
            span.to
        };
        Ok((Span { to, ..span }, of(span.important, events).1))
    }

    /// Records are durable: a report of them is confirmed.
    pub fn kept(&mut self, now: Moment, recorded: &Recorded) {
        match &recorded.by {
            By::Asked(span) => self.watch.ended(*span, Became::Over, now.on),
            By::Report(report, spans) => {
                spans.iter().for_each(|span| self.watch.reported(*span));
                self.confirm(now, report);
            }
        }
    }

    /// Records could not be kept: they are asked for again, or reported again.
    pub fn not_kept(&mut self, now: Moment, recorded: &Recorded) {
        match &recorded.by {
            By::Asked(span) => self.watch.ended(*span, Became::Nothing, now.on),
            By::Report(report, _) => self.lost(report),
        }
    }
}
