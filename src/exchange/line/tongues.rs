//! The protocols that a line speaks. A frame can be told from noise only by a finder of its protocol, and an answer that
//! comes late can be to a question of another protocol than the present one. So the last question of each protocol is
//! remembered, and its finder is asked about everything that is no answer.

use crate::protocol::{Finding, Protocol, Request, Verdict};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Protocols remembered; a line with more of them counts the frames of the one used least lately as noise.
const TONGUES_MAX: usize = 6;
/// A shorter frame (the single-byte acknowledgement of M-Bus) proves nothing among bytes of another protocol.
const FRAME_MIN: usize = 4;

#[derive(Debug)]
struct Tongue {
    question: Request,
    timeout: Duration,
}

/// A frame among bytes that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) span: Range<usize>,
    pub(super) verdict: Verdict,
    pub(super) protocol: Protocol,
    /// The reply time-out of that protocol's last question.
    pub(super) timeout: Duration,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Tongues {
    /// The latest first.
    spoken: VecDeque<Tongue>,
}

impl Tongues {
    /// A question was written.
    pub(super) fn spoke(&mut self, question: Request, timeout: Duration) {
        let protocol = question.protocol();
        self.spoken.retain(|tongue| tongue.question.protocol() != protocol);
        self.spoken.truncate(TONGUES_MAX - 1);
        self.spoken.push_front(Tongue { question, timeout });
    }

    /// The last question of each protocol, the latest first.
    pub(super) fn questions(&self) -> impl Iterator<Item = (&Request, Duration)> {
        self.spoken.iter().map(|tongue| (&tongue.question, tongue.timeout))
    }

    /// The first whole frame in `bytes`; of two that begin at one place the longer. With more bytes to come (not `last`)
    /// none where another protocol's frame may have begun before it.
    pub(super) fn first_frame(&self, bytes: &[u8], last: bool) -> Option<Heard> {
        let mut first: Option<Heard> = None;
        let mut begun = usize::MAX;
        for (place, tongue) in self.spoken.iter().enumerate() {
            let found = if last {
                tongue.question.find_last(bytes)
            } else {
                tongue.question.find(bytes)
            };
            match found {
                Finding::Frame { span, verdict } if place == 0 || span.len() >= FRAME_MIN => {
                    let sooner = first.as_ref().is_none_or(|known| {
                        (span.start, std::cmp::Reverse(span.end))
                            < (known.span.start, std::cmp::Reverse(known.span.end))
                    });
                    if sooner {
                        first = Some(Heard {
                            span,
                            verdict,
                            protocol: tongue.question.protocol(),
                            timeout: tongue.timeout,
                        });
                    }
                }
                Finding::NeedMore { noise } if noise < bytes.len() => begun = begun.min(noise),
                Finding::Frame { .. } | Finding::NeedMore { .. } => {}
            }
        }
        first.filter(|frame| last || frame.span.start <= begun)
    }
}
