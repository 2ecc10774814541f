//! What a meter's answer says.

use super::find::frames;
use super::frame::FrameError;
use super::function::{Di, Edition, ErrorWord, Function};
use super::request::FOLLOW_UPS_MAX;
use super::{Address, Body, Control, Request, answer_frame};
use crate::protocol::Verdict;

/// An answer in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Data without their identifier, those of all follow-up frames joined. They are in clear, as on the wire.
    Data(Vec<u8>),
    /// The meter's address.
    Address(Address),
    /// Done as asked.
    Done,
}

/// Why frames are not the answer to a request, or no answer in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no whole frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It comes from another meter.
    #[error("the answer is of meter {found}, asked was {asked}")]
    Address {
        /// Whom we asked.
        asked: Address,
        /// Who answers.
        found: Address,
    },
    /// It answers another function, or is a question.
    #[error("control byte {found:02X} does not answer {asked:02X}")]
    Control {
        /// Of the question.
        asked: u8,
        /// Of the frame.
        found: u8,
    },
    /// It brings other data.
    #[error("the answer brings {found}, asked was {asked}")]
    Identifier {
        /// What we asked for.
        asked: Di,
        /// What came.
        found: Di,
    },
    /// The data do not fit the function.
    #[error("{len} bytes of data do not answer: {}", .function.name())]
    Data {
        /// Which function.
        function: Function,
        /// How many.
        len: usize,
    },
    /// A frame out of order.
    #[error("follow-up frame {wanted} was asked for, another came")]
    Sequence {
        /// Which was asked for.
        wanted: usize,
    },
    /// The meter says that more follows, and it did not come.
    #[error("the answer is not complete: more frames follow behind {have}")]
    Unfinished {
        /// How many there are.
        have: usize,
    },
    /// The meter refuses.
    #[error("the meter refuses: {0}")]
    Refused(ErrorWord),
}

impl Request {
    /// What the frames of the answer say, the first and its follow-ups one behind the other. Noise between them is skipped.
    ///
    /// # Errors
    /// [`AnswerError`] when they are not this request's answer, are not complete, or say no.
    pub fn reply(&self, answers: &[u8]) -> Result<Reply, AnswerError> {
        // nearly every answer: one frame, whole, nothing around it
        if let (Body::Read { di, .. }, Ok(view)) = (self.body(), super::open(answers))
            && !view.control.follows()
            && self.verdict(&view, answers) == Verdict::Answer
        {
            return Ok(Reply::Data(view.between(di.edition().di_len(), 0).collect()));
        }
        self.joined(answers)
    }

    /// The same of an answer in any number of frames.
    fn joined(&self, answers: &[u8]) -> Result<Reply, AnswerError> {
        let mut follow: Option<Self> = None;
        let mut joined = Vec::new();
        let (mut have, mut more) = (0usize, false);
        for (span, view) in frames(answers) {
            if have > 0 {
                if !more || have > FOLLOW_UPS_MAX {
                    return Err(AnswerError::Sequence { wanted: have });
                }
                follow = Some(self.following(have).ok_or(AnswerError::Sequence { wanted: have })?);
            }
            let asked = follow.as_ref().unwrap_or(self);
            match asked.verdict(&view, answers.get(span).unwrap_or_default()) {
                Verdict::Answer => {}
                Verdict::Refused(bits) => {
                    let edition = self.edition();
                    return Err(AnswerError::Refused(ErrorWord { edition, bits }));
                }
                Verdict::Echo | Verdict::Foreign => return Err(asked.why_not(&view, have)),
            }
            have += 1;
            more = view.control.follows();
            match self.body() {
                Body::ReadAddress => {
                    let address = view.head().map(Address::from_wire);
                    return address.map(Reply::Address).ok_or(AnswerError::Data {
                        function: Function::ReadAddress,
                        len: view.len(),
                    });
                }
                Body::Read { .. } | Body::Follow { .. } => {
                    let sequenced = matches!(asked.body(), Body::Follow { .. }) && self.edition() == Edition::E2007;
                    joined.reserve(view.len());
                    joined.extend(view.between(self.edition().di_len(), usize::from(sequenced)));
                }
                _ => return Ok(Reply::Done),
            }
        }
        match have {
            // says why there is no frame
            0 => Err(super::open(answers)
                .err()
                .unwrap_or(FrameError::Short { have: 0, need: 12 })
                .into()),
            _ if more => Err(AnswerError::Unfinished { have }),
            _ => Ok(Reply::Data(joined)),
        }
    }

    /// The request for the frame behind `answers`, all answer frames so far one behind the other; none when they are
    /// complete, when they are not this request's, and when there are too many.
    #[must_use]
    pub fn follow_up(&self, answers: &[u8]) -> Option<Self> {
        let have = match self.reply(answers) {
            Err(AnswerError::Unfinished { have }) => have,
            _ => return None,
        };
        (have <= FOLLOW_UPS_MAX).then(|| self.following(have)).flatten()
    }

    /// The request for follow-up frame `number`, from 1.
    fn following(&self, number: usize) -> Option<Self> {
        let (di, first) = match self.body() {
            Body::Read { di, .. } => (*di, 0),
            Body::Follow { di, seq } => (*di, *seq),
            _ => return None,
        };
        let seq = u8::try_from(number).ok()?.checked_add(first)?;
        let seq = match di.edition() {
            Edition::E1997 => 0,
            Edition::E2007 => seq,
        };
        let follow = Self::checked(di.edition(), self.address(), Body::Follow { di, seq }).ok()?;
        Some(follow.with_preambles(self.preambles()))
    }

    fn why_not(&self, view: &super::View<'_>, have: usize) -> AnswerError {
        let (asked, found) = (self.address(), view.address);
        if view.control.is_answer() && view.control.code() == self.code() {
            if !asked.covers(found) {
                return AnswerError::Address { asked, found };
            }
            if let (Some(asked), Some(found)) = (self.di(), view.di(self.edition())) {
                if asked != found {
                    return AnswerError::Identifier { asked, found };
                }
                if matches!(self.body(), Body::Follow { .. }) {
                    return AnswerError::Sequence { wanted: have };
                }
            }
            return AnswerError::Data {
                function: self.function(),
                len: view.len(),
            };
        }
        AnswerError::Control {
            asked: self.code(),
            found: view.control.0,
        }
    }

    /// The frame of a meter of this address that answers with `reply` in one frame, without preambles. Data that do not fit
    /// are cut off; a virtual meter that has more sends follow-up frames itself.
    pub fn reply_frame(&self, meter: Address, reply: &Reply) -> Vec<u8> {
        let mut data = Vec::new();
        match reply {
            Reply::Data(value) => {
                if let Some(di) = self.di() {
                    di.push_to(&mut data);
                }
                data.extend_from_slice(value);
                if let (Body::Follow { seq, .. }, Edition::E2007) = (self.body(), self.edition()) {
                    data.push(*seq);
                }
            }
            Reply::Address(address) => data.extend_from_slice(&address.wire()),
            Reply::Done => {}
        }
        answer_frame(meter, Control(self.code()), 0, &data)
    }

    /// The frame of a meter's refusal, without preambles.
    pub fn refusal_frame(&self, meter: Address, bits: u8) -> Vec<u8> {
        answer_frame(meter, Control(self.code() | Control::ABNORMAL), 0, &[bits])
    }
}
