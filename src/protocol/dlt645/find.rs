//! Finding the answer to a request among noise, echoes and strays.
//!
//! A frame proves itself (two 68, control byte, length, checksum, 16), so every 68 is tried and the first whole frame is
//! reported, with two exceptions: a whole answer or refusal is reported even where a stray seems to overlap it; and a
//! whole stray or echo is held back while something before it may still become the answer. What is not whole at the
//! deadline holds nothing back ([`Request::find_last`]). Preambles right before a frame belong to it.

use super::frame::{Candidate, PREAMBLE, PREAMBLES_MAX, View, judge, preambles};
use super::function::Function;
use super::{Body, Edition, Request};
use crate::protocol::{Finding, Verdict};
use std::ops::Range;

impl Request {
    /// Looks for the first whole frame in `buffer`, which holds what arrived since the request was written. See the
    /// rules at the head of this file.
    pub fn find(&self, buffer: &[u8]) -> Finding {
        self.look(buffer, false)
    }

    /// The same when nothing more will come.
    pub fn find_last(&self, buffer: &[u8]) -> Finding {
        self.look(buffer, true)
    }

    fn look(&self, buffer: &[u8], last: bool) -> Finding {
        let mut begin: Option<usize> = None;
        let mut pending = false;
        let mut stray: Option<(Range<usize>, Verdict)> = None;
        let mut offset = 0;
        while let Some(rest) = buffer.get(offset..).filter(|rest| !rest.is_empty()) {
            if stray.as_ref().is_some_and(|(span, _)| offset >= span.end) {
                break;
            }
            let woken = preambles(rest);
            if woken == rest.len() {
                // a frame may follow them
                begin = begin.or(Some(buffer.len() - woken.min(PREAMBLES_MAX)));
                break;
            }
            let at = offset + woken;
            let from = at - woken.min(PREAMBLES_MAX);
            let body = buffer.get(at..).unwrap_or_default();
            match judge(body) {
                Candidate::Whole(view, len) => {
                    let verdict = self.verdict(&view, body.get(..len).unwrap_or_default());
                    let span = from..at + len;
                    if matches!(verdict, Verdict::Answer | Verdict::Refused(_)) {
                        return Finding::Frame { span, verdict };
                    }
                    if stray.is_none() {
                        begin = begin.or(Some(from));
                        stray = Some((span, verdict));
                    }
                }
                Candidate::Partial if stray.is_none() => {
                    begin = begin.or(Some(from));
                    pending |= !last && self.may_become_answer(body);
                }
                Candidate::Partial | Candidate::No => {}
            }
            offset = at + 1;
        }
        match stray {
            Some((span, verdict)) if !pending => Finding::Frame { span, verdict },
            _ => Finding::NeedMore {
                noise: begin.unwrap_or(buffer.len()),
            },
        }
    }

    /// Whether the head of a frame that is not whole fits the answer as far as it is there. A lone 68 fits anything, so
    /// that much is not enough to hold back a whole frame behind it.
    fn may_become_answer(&self, body: &[u8]) -> bool {
        let Some(address) = body.get(1..7).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()) else {
            return false;
        };
        let address = super::Address::from_wire(address);
        self.may_answer(address)
            && body.get(8).is_none_or(|control| {
                let control = super::Control(*control);
                control.is_answer() && self.code() == control.code()
            })
    }

    fn may_answer(&self, address: super::Address) -> bool {
        // a new address is confirmed from the old one by some meters, from the new one by others
        let renamed = matches!(self.body(), Body::WriteAddress(new) if *new == address);
        self.address().covers(address) || renamed
    }

    /// What a whole frame is to this request.
    pub(super) fn verdict(&self, view: &View<'_>, frame: &[u8]) -> Verdict {
        if !view.control.is_answer() {
            return match self.frame() == frame {
                true => Verdict::Echo,
                false => Verdict::Foreign,
            };
        }
        if !self.expects_answer() || view.control.code() != self.code() || !self.may_answer(view.address) {
            return Verdict::Foreign;
        }
        if view.control.is_refusal() {
            // one byte; the security function of 2007 has two on most meters, the low one first
            return match (view.at(0), view.len()) {
                (Some(word), 1) => Verdict::Refused(word),
                (Some(word), 2) if self.function() == Function::Security => Verdict::Refused(word),
                _ => Verdict::Foreign,
            };
        }
        if self.fits(view) {
            Verdict::Answer
        } else {
            Verdict::Foreign
        }
    }

    /// Whether the data of an answer are those that were asked for, as far as the protocol tells.
    fn fits(&self, view: &View<'_>) -> bool {
        let di_len = self.edition().di_len();
        match self.body() {
            Body::Read { di, .. } => view.di(di.edition()) == Some(*di),
            Body::Follow { di, seq } => {
                let sequenced = match di.edition() {
                    Edition::E1997 => true,
                    Edition::E2007 => view.len() > di_len && view.at(view.len() - 1) == Some(*seq),
                };
                view.di(di.edition()) == Some(*di) && sequenced
            }
            Body::ReadAddress => view.len() == 6,
            Body::Speed(speed) => {
                view.is_empty() || (view.len() == 1 && view.at(0) == Some(speed.word(self.edition())))
            }
            // some meters say the new address, or the new password, in their confirmation
            Body::WriteAddress(_) => matches!(view.len(), 0 | 6),
            Body::ChangePassword { .. } => matches!(view.len(), 0 | 4),
            Body::Write { di, .. } => view.is_empty() || (view.len() == di_len && view.di(di.edition()) == Some(*di)),
            Body::Freeze(_)
            | Body::BroadcastTime(_)
            | Body::ClearDemand(_)
            | Body::ClearMeter(_)
            | Body::ClearEvents { .. }
            | Body::Relay(_) => view.is_empty(),
        }
    }
}

/// Every whole frame in `buffer`, with its place, preambles included. What lies between is noise.
pub(super) fn frames(buffer: &[u8]) -> impl Iterator<Item = (Range<usize>, View<'_>)> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        while let Some(rest) = buffer.get(offset..).filter(|rest| !rest.is_empty()) {
            if rest.first() == Some(&PREAMBLE) && preambles(rest) == rest.len() {
                return None;
            }
            let woken = preambles(rest);
            let at = offset + woken;
            let body = buffer.get(at..).unwrap_or_default();
            if let Candidate::Whole(view, len) = judge(body) {
                offset = at + len;
                return Some((at - woken.min(PREAMBLES_MAX)..offset, view));
            }
            offset = at + 1;
        }
        None
    })
}

#[cfg(test)]
#[path = "find_tests.rs"]
pub(super) mod tests;
