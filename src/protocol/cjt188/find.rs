//! Finding the answer to a question among noise, echoes and strays.
//!
//! Only a 68 can begin a frame, and length, end byte and sum must agree, so a false one is rare (2^-24 a byte). The rules
//! are those of the Modbus finder:
//!
//! - An answer or refusal that is whole is reported at once, even where a stray seems to overlap it.
//! - Where an answer or refusal may still be coming, nothing after its first byte is reported or called noise.
//! - A whole stray or echo is held back only while an answer that begins inside it has its whole head right.
//! - A stray that is not whole holds nothing back; it is only not called noise.
//!
//! FE bytes before a frame are part of it.

use super::frame::{Candidate, Control, HEAD, PREAMBLE, PREAMBLE_MAX, START, judge};
use super::{MeterType, Request};
use crate::protocol::{Finding, Verdict};
use std::ops::Range;

/// Start, type, address and control: from then on an answer is taken seriously enough to hold back a whole stray.
const SERIOUS: usize = 10;

impl Request {
    /// Looks for the first whole frame in `buffer`, which holds what arrived since the question was written. See the
    /// rules at the head of this file.
    pub fn find(&self, buffer: &[u8]) -> Finding {
        self.look(buffer, false)
    }

    /// The same when nothing more will come: what might have grown into an answer holds nothing back any more.
    pub fn find_last(&self, buffer: &[u8]) -> Finding {
        self.look(buffer, true)
    }

    fn look(&self, buffer: &[u8], last: bool) -> Finding {
        let mut begin: Option<usize> = None;
        let mut stray: Option<(Range<usize>, Verdict)> = None;
        for offset in starts(buffer) {
            if stray.as_ref().is_some_and(|(span, _)| offset >= span.end) {
                break;
            }
            let rest = buffer.get(offset..).unwrap_or_default();
            let front = front(buffer, offset);
            match self.expected(rest) {
                (Candidate::Whole(len), verdict) => {
                    let span = front..offset + len;
                    return Finding::Frame { span, verdict };
                }
                (Candidate::Partial, _) if !last && (stray.is_none() || rest.len() >= SERIOUS) => {
                    return Finding::NeedMore {
                        noise: begin.unwrap_or(front),
                    };
                }
                _ => {}
            }
            if stray.is_some() {
                continue;
            }
            match self.unexpected(rest) {
                (Candidate::Whole(len), verdict) => {
                    begin = begin.or(Some(front));
                    stray = Some((front..offset + len, verdict));
                }
                (Candidate::Partial, _) => begin = begin.or(Some(front)),
                (Candidate::No, _) => {}
            }
        }
        match stray {
            Some((span, verdict)) => Finding::Frame { span, verdict },
            None => Finding::NeedMore {
                noise: begin.unwrap_or_else(|| front(buffer, buffer.len())),
            },
        }
    }

    /// The bytes, from a 68 on, seen as answer or refusal.
    fn expected(&self, bytes: &[u8]) -> (Candidate, Verdict) {
        let target = self.target();
        let meter_type = bytes.get(1).map(|byte| MeterType(*byte));
        let types_fit = meter_type.is_none_or(|theirs| target.takes(theirs));
        let called = bytes
            .get(2..HEAD - 2)
            .unwrap_or_else(|| bytes.get(2..).unwrap_or_default());
        let calls = called
            .iter()
            .zip(target.address.0)
            .all(|(theirs, mine)| mine == 0xAA || mine == *theirs);
        if !(types_fit && calls) {
            return (Candidate::No, Verdict::Foreign);
        }
        let control = bytes.get(HEAD - 2).copied();
        let data = bytes.get(HEAD..).unwrap_or_default();
        let len = bytes.get(HEAD - 1).copied();
        let data = data.get(..len.unwrap_or_default().into()).unwrap_or(data);
        if control == Some(Control::refused(self.function()).0) {
            return match judge(bytes) {
                Candidate::Whole(whole) => match self.refusal(data) {
                    Some(code) => (Candidate::Whole(whole), Verdict::Refused(code)),
                    None => (Candidate::No, Verdict::Foreign),
                },
                // no refusal is longer than identifier, serial number and status
                _ if len.is_some_and(|len| len > 5) => (Candidate::No, Verdict::Foreign),
                other => (other, Verdict::Foreign),
            };
        }
        let fits = control.is_none_or(|control| control == Control::answered(self.function()).0)
            && len.is_none_or(|len| (3..=self.longest()).contains(&len))
            && self.repeated_in(data);
        let candidate = if fits { judge(bytes) } else { Candidate::No };
        (candidate, Verdict::Answer)
    }

    /// The bytes, from a 68 on, seen as anything but answer and refusal.
    fn unexpected(&self, bytes: &[u8]) -> (Candidate, Verdict) {
        let types_fit = bytes.get(1).is_none_or(|byte| MeterType(*byte).is_known());
        let known = |control: Control| control.function().is_some() || control.code() & 0x20 != 0;
        let control_fits = bytes.get(HEAD - 2).is_none_or(|byte| known(Control(*byte)));
        if !(types_fit && control_fits) {
            return (Candidate::No, Verdict::Foreign);
        }
        let wire = self.wire();
        let bare = wire.get(super::frame::preamble(&wire)..).unwrap_or_default();
        let verdict = if bytes.starts_with(bare) {
            Verdict::Echo
        } else {
            Verdict::Foreign
        };
        (judge(bytes), verdict)
    }
}

/// Where a frame may begin, preamble left out.
pub(super) fn starts(buffer: &[u8]) -> impl Iterator<Item = usize> {
    buffer
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == START)
        .map(|(offset, _)| offset)
}

/// Where the preamble of a frame begins whose 68 stands, or is still to come, at `offset`.
pub(super) fn front(buffer: &[u8], offset: usize) -> usize {
    let before = buffer.get(..offset).unwrap_or_default();
    let preamble = before
        .iter()
        .rev()
        .take(PREAMBLE_MAX)
        .take_while(|byte| **byte == PREAMBLE)
        .count();
    offset - preamble
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
