//! From answer frames to reading items.

use super::RegisterProfile;
use super::raw::RawError;
use crate::device::decode::{DecodedPoll, Problem, ProblemKind};
use crate::device::plausible::{approximate, plausible};
use crate::domain::reading::{Item, Quality};
use crate::protocol::modbus::{AnswerError, Reply, Request};

/// Values for which room is made at once: what a meter of three phases gives.
const ITEMS_USUAL: usize = 16;

/// Decodes every point that the requests cover.
pub(in crate::device) fn decode<'a>(
    profile: &RegisterProfile,
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> DecodedPoll {
    let mut poll = DecodedPoll::default();
    let mut done = vec![false; profile.points.len()];
    poll.items.reserve_exact(profile.points.len().min(ITEMS_USUAL));
    for (request, frame) in answers {
        let registers = frame.map(|frame| registers(request, frame));
        for (point, done) in profile.points.iter().zip(&mut done) {
            if *done || !point.within(request.function(), request.address(), request.count()) {
                continue;
            }
            let start = usize::from(point.address - request.address());
            let value = match &registers {
                None => Err(ProblemKind::NotAnswered),
                Some(Err(error)) => Err(ProblemKind::Undecodable(error.to_string())),
                Some(Ok(registers)) => registers
                    .get(start..start + usize::from(point.data.count()))
                    .ok_or(ProblemKind::NotAnswered)
                    .and_then(|registers| point.value(registers).map_err(unusable)),
            };
            match value {
                Ok(value) => {
                    *done = true;
                    poll.items.push(Item {
                        measurand: point.measurand.clone(),
                        value,
                        quality: match point.quantity() {
                            Some(quantity) if !plausible(quantity, approximate(value)) => Quality::Suspect,
                            _ => Quality::Measured,
                        },
                    });
                }
                Err(kind) => poll.problems.push(Problem {
                    measurand: point.measurand.clone(),
                    kind,
                }),
            }
        }
    }
    poll
}

fn unusable(error: RawError) -> ProblemKind {
    match error {
        RawError::NoValue => ProblemKind::NoValue,
        other => ProblemKind::Unusable(other.to_string()),
    }
}

/// The registers of an answer; bits as 0 and 1.
fn registers(request: &Request, frame: &[u8]) -> Result<Vec<u16>, AnswerError> {
    match request.reply(frame)? {
        Reply::Registers(registers) => Ok(registers),
        Reply::Bits(bits) => Ok(bits.into_iter().map(u16::from).collect()),
        Reply::Exception(code) => Err(AnswerError::Refused(code)),
        Reply::Written => Ok(Vec::new()),
    }
}
