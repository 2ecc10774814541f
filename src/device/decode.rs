//! From answer frames to reading items.

use super::modbus;
use super::model::{MeterModel, Profile};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Item, Measurand};
use crate::protocol::Request;
use chrono::{DateTime, Utc};

/// What the answers of one visit say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedPoll {
    /// The values, in canonical units; at most one per measurand. Everything that the answers hold: a read that runs
    /// across an unwanted value brings that as well, see [`DecodedPoll::only`].
    pub items: Vec<Item>,
    /// The meter's own time, if it was read.
    pub meter_time: Option<DateTime<Utc>>,
    /// What was asked for and did not come to a value.
    pub problems: Vec<Problem>,
}

/// A value that was asked for and is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind}", name(measurand))]
pub struct Problem {
    /// Which.
    pub measurand: Measurand,
    /// Why.
    pub kind: ProblemKind,
}

/// Why a value is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The request for it has no answer.
    #[error("not answered")]
    NotAnswered,
    /// The frame is not the answer to its request; why, in the protocol's words.
    #[error("{0}")]
    Undecodable(String),
    /// The meter itself says that it has no such value.
    #[error("the meter says that it has no value")]
    NoValue,
    /// The answer holds no usable number; why, with the bytes in question.
    #[error("{0}")]
    Unusable(String),
}

impl ProblemKind {
    /// Whether the meter answered in good order that it has no such value.
    pub fn is_no_value(&self) -> bool {
        *self == Self::NoValue
    }
}

impl DecodedPoll {
    /// Keeps the wanted quantities only; empty `wanted`: everything.
    #[must_use]
    pub fn only(mut self, wanted: &[Quantity]) -> Self {
        if !wanted.is_empty() {
            let keep = |measurand: &Measurand| matches!(measurand, Measurand::Standard(q) if wanted.contains(q));
            self.items.retain(|item| keep(&item.measurand));
            self.problems.retain(|problem| keep(&problem.measurand));
        }
        self
    }
}

/// Decodes the answers of a plan: one frame per request, none where there is no answer; missing ones at the end count as
/// none.
pub fn decode(model: &MeterModel, requests: &[Request], frames: &[Option<&[u8]>]) -> DecodedPoll {
    let frames = frames.iter().copied().chain(std::iter::repeat(None));
    match &model.profile {
        Profile::Modbus(profile) => {
            let answers = requests
                .iter()
                .zip(frames)
                .filter_map(|(request, frame)| match request {
                    Request::Modbus(request) => Some((request, frame)),
                    _ => None,
                });
            modbus::decode::decode(profile, answers)
        }
    }
}

/// The name of a measurand.
pub fn name(measurand: &Measurand) -> &str {
    match measurand {
        Measurand::Standard(quantity) => quantity.name(),
        Measurand::Vendor(name) => name,
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
