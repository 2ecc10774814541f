//! Finding the answer to a request among noise, echoes and strays.
//!
//! RTU has neither a start byte nor a transaction id, so every offset is tried. Two kinds of candidate are told apart:
//! *expected* frames (the answer, the refusal, the echo of this very request) and *strays* (any other frame of the
//! functions we speak). The rules:
//!
//! - An answer or refusal whose CRC is right is reported at once, even where a stray seems to overlap it: the chance of
//!   a false one is 2^-40, of a false stray 2^-20.
//! - Where an answer or refusal may still be coming, nothing after its first byte is reported or called noise. It holds
//!   no longer than its own length.
//! - A whole stray or echo is held back only while an answer that begins inside it has its whole head (unit, function,
//!   byte count) right.
//! - A stray that is not whole holds nothing back; it is only not called noise.

use super::frame::{Candidate, EXCEPTION_FLAG, EXCEPTION_LEN, Shape, request_shape, response_shape};
use super::{Body, Request};
use crate::protocol::{Finding, Verdict};
use std::ops::Range;

/// From this many matching bytes on an expected frame is taken seriously enough to hold back a whole stray.
const HEAD: usize = 3;

impl Request {
    /// Looks for the first whole frame in `buffer`, which holds what arrived since the request was written. See the
    /// rules at the head of this file.
    pub fn find(&self, buffer: &[u8]) -> Finding {
        self.look(buffer, false)
    }

    /// The same when nothing more will come, for example at the deadline: what might have grown into an answer holds
    /// nothing back any more.
    pub fn find_last(&self, buffer: &[u8]) -> Finding {
        self.look(buffer, true)
    }

    fn look(&self, buffer: &[u8], last: bool) -> Finding {
        // the first offset where something may begin
        let mut begin: Option<usize> = None;
        // the first whole stray or echo
        let mut stray: Option<(Range<usize>, Verdict)> = None;
        for offset in 0..buffer.len() {
            if stray.as_ref().is_some_and(|(span, _)| offset >= span.end) {
                break;
            }
            let rest = buffer.get(offset..).unwrap_or_default();
            let expected = self.expected(rest);
            if let Some((len, verdict)) = expected.whole {
                let span = offset..offset + len;
                return Finding::Frame { span, verdict };
            }
            let serious = stray.is_none() || rest.len() >= HEAD;
            if expected.pending && !last && serious {
                let noise = begin.unwrap_or(offset);
                return Finding::NeedMore { noise };
            }
            if stray.is_some() {
                continue;
            }
            match self.unexpected(rest) {
                (Candidate::Whole(len), verdict) => {
                    begin = begin.or(Some(offset));
                    stray = Some((offset..offset + len, verdict));
                }
                (Candidate::Partial, _) => begin = begin.or(Some(offset)),
                (Candidate::No, _) => {}
            }
        }
        match stray {
            Some((span, verdict)) => Finding::Frame { span, verdict },
            None => Finding::NeedMore {
                noise: begin.unwrap_or(buffer.len()),
            },
        }
    }

    /// The bytes seen as answer or refusal.
    fn expected(&self, bytes: &[u8]) -> Expected {
        let answer = self.answer_candidate(bytes);
        let refusal = self.refusal_shape(bytes).judge(bytes);
        let whole = match (answer, refusal) {
            (Candidate::Whole(len), _) => Some((len, Verdict::Answer)),
            (_, Candidate::Whole(len)) => Some((len, Verdict::Refused(bytes.get(2).copied().unwrap_or_default()))),
            _ => None,
        };
        Expected {
            whole,
            pending: answer == Candidate::Partial || refusal == Candidate::Partial,
        }
    }

    fn answer_candidate(&self, bytes: &[u8]) -> Candidate {
        if let Some(acknowledgement) = self.acknowledgement() {
            // every byte of it is known
            return prefix(&acknowledgement, bytes);
        }
        let len = self.answer_len();
        // at most 250, see REGISTERS_READ_MAX and BITS_READ_MAX
        let data = u8::try_from(len - 5).unwrap_or(u8::MAX);
        let head = [self.unit(), self.function().code(), data];
        match prefix(&head, bytes) {
            Candidate::Whole(_) => match Shape::Len(len).judge(bytes) {
                Candidate::Whole(8) | Candidate::Partial if self.is_echo(bytes) => Candidate::No,
                other => other,
            },
            other => other,
        }
    }

    fn refusal_shape(&self, bytes: &[u8]) -> Shape {
        let head = [self.unit(), self.function().code() | EXCEPTION_FLAG];
        match prefix(&head, bytes) {
            Candidate::No => Shape::None,
            Candidate::Partial => Shape::Open,
            Candidate::Whole(_) => Shape::Len(EXCEPTION_LEN),
        }
    }

    /// Whether the request itself stands here, whole. Never for functions 5 and 6, whose answer has the same bytes. A
    /// read of 17 to 24 bits at address 0x0300 to 0x03FF has an answer of the same length; the request's own bytes are
    /// taken for its echo there.
    fn is_echo(&self, bytes: &[u8]) -> bool {
        !matches!(self.body(), Body::WriteCoil { .. } | Body::WriteRegister { .. }) && bytes.starts_with(&self.wire())
    }

    /// The bytes seen as anything but answer and refusal.
    fn unexpected(&self, bytes: &[u8]) -> (Candidate, Verdict) {
        if self.is_echo(bytes) {
            return (Candidate::Whole(self.wire().len()), Verdict::Echo);
        }
        let response = response_shape(bytes).judge(bytes);
        let request = request_shape(bytes).judge(bytes);
        let candidate = match (response, request) {
            (Candidate::Whole(len), _) | (_, Candidate::Whole(len)) => Candidate::Whole(len),
            (Candidate::Partial, _) | (_, Candidate::Partial) => Candidate::Partial,
            _ => Candidate::No,
        };
        (candidate, Verdict::Foreign)
    }
}

/// What the bytes at one offset are to the request.
struct Expected {
    /// A whole answer or refusal.
    whole: Option<(usize, Verdict)>,
    /// It may still become one.
    pending: bool,
}

/// Whether `bytes` begin with `wanted`, may still, or cannot.
fn prefix(wanted: &[u8], bytes: &[u8]) -> Candidate {
    if bytes.starts_with(wanted) {
        Candidate::Whole(wanted.len())
    } else if wanted.starts_with(bytes) {
        Candidate::Partial
    } else {
        Candidate::No
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
