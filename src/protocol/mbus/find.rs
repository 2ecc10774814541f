//! Finding the answer to a request among noise, echoes and strays.
//!
//! A telegram proves itself by its start, its checksum and its stop. The single character E5 proves nothing: it is one
//! byte, and noise can be E5. The rules:
//!
//! - The answer to a reading is a telegram of a slave at the asked address; at 253 the identification in its header must
//!   fit who was selected. Every other whole frame is a stray.
//! - Where a telegram may still be coming, nothing behind its first byte is reported or called noise.
//! - E5 answers what asks for an acknowledgement if it is the last byte that came and no frame has begun before it.
//! - E5 answers a reading ("nothing to tell") only when the deadline is past and nothing else came.

use super::answer::error_code;
use super::frame::{ACK, Candidate, FRAME_MAX, Frame, candidate, has_long_start};
use super::header::Header;
use super::request::is_response;
use super::{BROADCAST, Body, NETWORK, Request, TEST};
use crate::protocol::{Finding, Verdict};

impl Request {
    /// Looks for the first whole frame in `buffer`, which holds what arrived since the request was written. See the
    /// rules at the head of this file.
    pub fn find(&self, buffer: &[u8]) -> Finding {
        self.look(buffer, false)
    }

    /// The same when nothing more will come: what might have grown into an answer holds nothing back any more.
    pub fn find_last(&self, buffer: &[u8]) -> Finding {
        self.look(buffer, true)
    }

    /// The most bytes that the answer can have; none for a broadcast.
    pub fn answer_len_max(&self) -> usize {
        match self.address() {
            BROADCAST => 0,
            _ if self.reads() => FRAME_MAX,
            _ => 1,
        }
    }

    /// What every answer and refusal tells of this question: for a telegram who was asked, for an acknowledgement
    /// nothing.
    pub fn kin(&self) -> u64 {
        if self.reads() {
            u64::from(self.address()) << 8 | 0x08
        } else {
            u64::from(ACK)
        }
    }

    /// What every answer tells besides: of a selected meter its number.
    pub fn subject(&self) -> u64 {
        self.selected().map_or(0, |selection| u64::from(selection.id) + 1)
    }

    fn look(&self, buffer: &[u8], last: bool) -> Finding {
        // the first offset where something may begin
        let mut begin: Option<usize> = None;
        for offset in 0..buffer.len() {
            let rest = buffer.get(offset..).unwrap_or_default();
            match candidate(rest) {
                Candidate::Whole(len) => {
                    let span = offset..offset + len;
                    let frame = rest.get(..len).unwrap_or_default();
                    let verdict = self.judge(frame);
                    return Finding::Frame { span, verdict };
                }
                Candidate::Partial => {
                    if !last {
                        let noise = begin.unwrap_or(offset);
                        return Finding::NeedMore { noise };
                    }
                    // a start that only noise would fake has four bytes; an echo that broke off has the request's own
                    let believed = has_long_start(rest) || (rest.len() > 1 && self.wire().starts_with(rest));
                    if believed {
                        begin = begin.or(Some(offset));
                    }
                }
                Candidate::No if rest == [ACK] && begin.is_none() && self.takes_ack(buffer, last) => {
                    let span = offset..offset + 1;
                    let verdict = Verdict::Answer;
                    return Finding::Frame { span, verdict };
                }
                Candidate::No if rest == [ACK] && self.reads() => begin = begin.or(Some(offset)),
                Candidate::No => {}
            }
        }
        Finding::NeedMore {
            noise: begin.unwrap_or(buffer.len()),
        }
    }

    /// Whether an E5 at the end of `buffer` is the answer.
    fn takes_ack(&self, buffer: &[u8], last: bool) -> bool {
        if self.address() == BROADCAST {
            return false;
        }
        !self.reads() || (last && buffer == [ACK])
    }

    /// What a whole frame is to this request.
    fn judge(&self, bytes: &[u8]) -> Verdict {
        if bytes == self.wire() {
            return Verdict::Echo;
        }
        let Ok(Frame::Long {
            control,
            address,
            ci,
            data,
        }) = Frame::parse(bytes)
        else {
            return Verdict::Foreign;
        };
        if !self.reads() || !is_response(control) {
            return Verdict::Foreign;
        }
        let theirs = match self.address() {
            BROADCAST => false,
            TEST => true,
            NETWORK => self.fits_selected(address, ci, &data),
            asked => address == asked,
        };
        if !theirs {
            return Verdict::Foreign;
        }
        match error_code(ci, &data) {
            Some(code) if *self.body() == Body::ReadClass2 => Verdict::Refused(code),
            _ => Verdict::Answer,
        }
    }

    /// Whether a telegram comes from who was selected. A meter answers at 253 or at its primary address, so the header
    /// decides; one without an identification proves nothing, except that at 253 somebody refuses.
    fn fits_selected(&self, address: u8, ci: u8, data: &[u8]) -> bool {
        let Some(selection) = self.selected() else {
            return true;
        };
        match Header::parse(ci, data) {
            Ok((Header::Long { identification, .. }, _)) => selection.fits(&identification),
            Ok((Header::Fixed { id, .. }, _)) => selection.fits_id(id),
            _ => address == NETWORK && error_code(ci, data).is_some(),
        }
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
