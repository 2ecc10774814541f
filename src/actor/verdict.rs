//! From the reports of a poll to values and a verdict: what came, what did not, and why. Plain functions.

use crate::base::ids::FrameRange;
use crate::device::decode::{Problem, decode, decode_past};
use crate::device::dlt645::history::Past;
use crate::device::model::MeterModel;
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Item, Measurand};
use crate::domain::slot::MissReason;
use crate::exchange::agenda::{Failure, Got};
use crate::exchange::evidence::Evidence;
use crate::exchange::job::{PollOutcome, TransactionError};
use crate::port::field::LinkError;
use crate::protocol::Request;
use chrono::{DateTime, NaiveDateTime, Utc};

const DETAIL_MAX: usize = 64;

/// What was heard of a meter in one visit.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The values.
    pub items: Vec<Item>,
    /// The meter's own time.
    pub meter_time: Option<DateTime<Utc>>,
    /// When the values were taken, by the local time of who keeps them; not judged yet.
    pub taken_local: Option<NaiveDateTime>,
    /// When the first attempt was written.
    pub began_at: Option<DateTime<Utc>>,
    /// When the last reply came.
    pub read_at: Option<DateTime<Utc>>,
    /// Attempts on the line.
    pub attempts: u16,
    /// Wanted quantities that did not come.
    pub missing: Vec<Quantity>,
    /// Why not all came.
    pub failure: Option<Failure>,
    /// The raw frames.
    pub frames: FrameRange,
    /// Those worth keeping.
    pub evidence: Vec<Evidence>,
    /// Of which moment the values are, in the meter's own local time, where a past state was asked for.
    pub past_at: Option<NaiveDateTime>,
}

/// A detail for the ledger: printable, at most 64 bytes.
pub fn detail(text: &str) -> String {
    let mut kept = String::with_capacity(DETAIL_MAX);
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if kept.len() + character.len_utf8() > DETAIL_MAX {
            break;
        }
        kept.push(character);
    }
    kept
}

/// A failure with detail.
pub fn failure(reason: MissReason, text: &str) -> Failure {
    Failure {
        reason,
        detail: Some(detail(text)),
    }
}

impl Heard {
    /// Nothing, for this reason.
    pub fn nothing(failure: Failure) -> Self {
        Self {
            items: Vec::new(),
            meter_time: None,
            taken_local: None,
            began_at: None,
            read_at: None,
            attempts: 0,
            missing: Vec::new(),
            failure: Some(failure),
            frames: FrameRange::EMPTY,
            evidence: Vec::new(),
            past_at: None,
        }
    }

    /// Only what was wanted counts (empty: all of the model): neighbours that a block brought along are left out.
    #[must_use]
    pub fn wanting(mut self, wanted: &[Quantity]) -> Self {
        if !wanted.is_empty() {
            self.items
                .retain(|item| matches!(&item.measurand, Measurand::Standard(q) if wanted.contains(q)));
            self.missing.retain(|quantity| wanted.contains(quantity));
        }
        if self.items.is_empty() && self.failure.is_none() {
            // answered in good order, and nothing of it is a value
            self.failure = Some(failure(MissReason::Undecodable, "no value"));
        }
        self
    }

    /// What was wanted and did not come counts as missing: a meter's memory keeps less than its model has.
    pub fn lacking(&mut self, wanted: &[Quantity]) {
        let came = |quantity: &Quantity| {
            let mut items = self.items.iter();
            items.any(|item| matches!(&item.measurand, Measurand::Standard(q) if q == quantity))
        };
        self.missing = wanted.iter().copied().filter(|quantity| !came(quantity)).collect();
        if !self.missing.is_empty() && self.failure.is_none() {
            self.failure = Some(failure(MissReason::Partial, "not in the meter's memory"));
        }
    }

    /// How much came.
    pub fn got(&self) -> Got {
        match (&self.failure, self.items.is_empty()) {
            (None, false) => Got::Everything,
            (_, true) => Got::Nothing,
            (Some(_), false) => Got::Partly {
                missing: self.missing.clone(),
            },
        }
    }

    /// The outcome as a metric label.
    pub fn outcome(&self) -> &'static str {
        match (&self.failure, self.items.is_empty()) {
            (None, false) => "read",
            (Some(_), false) => "partial",
            (Some(failure), true) => failure.reason.as_str(),
            (None, true) => MissReason::Undecodable.as_str(),
        }
    }
}

/// Why a question got no answer; a refusal in the words of its protocol.
fn reason(error: TransactionError, asked: Option<&Request>) -> Failure {
    match error {
        TransactionError::Timeout => Failure::of(MissReason::Timeout),
        TransactionError::Refused(code) => {
            let said = asked.map_or_else(|| format!("0x{code:02x}"), |request| request.refusal(code));
            failure(MissReason::Exception, &said)
        }
        TransactionError::Deadline => Failure::of(MissReason::LineBusy),
        TransactionError::SessionLost => Failure::of(MissReason::SessionLost),
        TransactionError::LineSilent => failure(MissReason::BreakerOpen, &error.to_string()),
        TransactionError::Endless | TransactionError::Unfit => failure(MissReason::Undecodable, &error.to_string()),
    }
}

/// What answers say.
struct Said {
    items: Vec<Item>,
    problems: Vec<Problem>,
    meter_time: Option<DateTime<Utc>>,
    taken_local: Option<NaiveDateTime>,
    past_at: Option<NaiveDateTime>,
}

/// Reads the outcome of a job.
pub fn hear(model: &MeterModel, requests: &[Request], outcome: Result<PollOutcome, LinkError>) -> Heard {
    hear_by(requests, outcome, |frames| {
        let decoded = decode(model, requests, frames);
        Said {
            items: decoded.items,
            problems: decoded.problems,
            meter_time: decoded.meter_time,
            taken_local: decoded.taken_local,
            past_at: None,
        }
    })
}

/// Reads the outcome of a job that asked for a past state; `now`: the meter's local time of today.
pub fn hear_past(
    model: &MeterModel,
    past: Past,
    now: NaiveDateTime,
    requests: &[Request],
    outcome: Result<PollOutcome, LinkError>,
) -> Heard {
    hear_by(requests, outcome, |frames| {
        let decoded = decode_past(model, past, now, requests, frames);
        Said {
            items: decoded.items,
            problems: decoded.problems,
            meter_time: None,
            taken_local: None,
            past_at: decoded.at,
        }
    })
}

fn hear_by(
    requests: &[Request],
    outcome: Result<PollOutcome, LinkError>,
    decode: impl FnOnce(&[Option<&[u8]>]) -> Said,
) -> Heard {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(LinkError::Closed) => return Heard::nothing(Failure::of(MissReason::SessionLost)),
        Err(LinkError::Busy) => return Heard::nothing(Failure::of(MissReason::LineBusy)),
    };
    let mut frames: Vec<Option<&[u8]>> = vec![None; requests.len()];
    for (slot, report) in frames.iter_mut().zip(&outcome.reports) {
        *slot = report.result.as_deref().ok();
    }
    let decoded = decode(&frames);
    let answered = outcome.reports.iter().filter(|report| report.result.is_ok());
    let errors = outcome.reports.iter().enumerate().rev();
    let mut failure = errors
        .filter_map(|(place, report)| Some((place, report.result.as_ref().err().copied()?)))
        .map(|(place, error)| reason(error, requests.get(place)))
        .next();
    let broken = decoded.problems.iter().find(|problem| !problem.kind.is_no_value());
    if failure.is_none() {
        if let Some(problem) = broken {
            failure = Some(self::failure(
                MissReason::Undecodable,
                crate::device::decode::name(&problem.measurand),
            ));
        } else if outcome.reports.len() < requests.len() {
            failure = Some(Failure::of(MissReason::LineBusy));
        }
    }
    let missing = decoded
        .problems
        .iter()
        .filter(|problem| !problem.kind.is_no_value())
        .filter_map(|problem| match &problem.measurand {
            Measurand::Standard(quantity) => Some(*quantity),
            Measurand::Vendor(_) => None,
        })
        .collect();
    Heard {
        meter_time: decoded.meter_time,
        taken_local: decoded.taken_local,
        began_at: outcome.began_at,
        read_at: answered.map(|report| report.ended_at).max(),
        attempts: outcome.reports.iter().map(|report| u16::from(report.attempts)).sum(),
        missing,
        failure,
        frames: outcome.frames,
        evidence: outcome.evidence,
        items: decoded.items,
        past_at: decoded.past_at,
    }
}
