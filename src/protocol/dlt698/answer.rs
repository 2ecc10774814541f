//! Finding the answer to a question among noise, echoes and strays, and joining it where it comes in parts or blocks.
//!
//! A frame proves itself twice (HCS, FCS), so every 68 is tried and the first whole frame is reported. A whole stray or
//! echo is held back while something before it has a proven head of the asked device and is not whole yet; at the
//! deadline nothing is held back ([`Request::find_last`]). Preambles right before a frame belong to it.

use super::apdu::{Answered, Apdu, BlockContent, GetBody, GetResult, ItemResult, RecordResult, Rows};
use super::dar::Dar;
use super::frame::{Candidate, Frame, FrameError, PREAMBLES_MAX, frames, judge, open, preambles};
use super::matching::{self, Mismatch};
use super::request::{Body, Request};
use super::segment::{Joined, Joiner, Part, Segment, SegmentError};
use super::wire::{CodecError, ELEMENTS_MAX, Many};
use super::{Address, Control};
use crate::protocol::{Finding, Verdict};
use std::fmt;
use std::ops::Range;

/// The most parts and blocks of one answer; a month of quarter-hours in blocks of 1024 bytes needs 60.
pub const BLOCKS_MAX: usize = 512;

/// A device's no to the whole of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The result of the access.
    Dar(Dar),
    /// It could not do with the APDU at all.
    Error(u8),
    /// No association.
    Connect(u8),
}

impl Refusal {
    /// The reason as one byte: that of the standard's results, and F0 or more for what has none.
    pub fn code(self) -> u8 {
        match self {
            Self::Dar(dar) => dar.0,
            Self::Error(1) => 0xF1,
            Self::Error(2) => 0xF2,
            Self::Error(_) => 0xFE,
            Self::Connect(_) => 0xF3,
        }
    }

    /// The refusal behind such a byte, as far as it says.
    pub fn of_code(code: u8) -> Self {
        match code {
            0xF1 => Self::Error(1),
            0xF2 => Self::Error(2),
            0xF3 => Self::Connect(0xFF),
            0xFE => Self::Error(0xFE),
            dar => Self::Dar(Dar(dar)),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dar(dar) => write!(f, "{dar}"),
            Self::Error(kind) => f.write_str(super::apdu::error_name(*kind)),
            Self::Connect(result) => write!(f, "no association ({result})"),
        }
    }
}

/// Why frames are not the answer to a question, or no answer in good order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no whole frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It comes from another device.
    #[error("the answer is of device {found}, asked was {asked}")]
    Address {
        /// Whom we asked.
        asked: Address,
        /// Who answers.
        found: Address,
    },
    /// It is no answer, or goes to another head end.
    #[error("control byte {control:?} to client {client:02X} does not answer")]
    Control {
        /// What the frame is for.
        control: Control,
        /// For whom.
        client: u8,
    },
    /// What it says is not readable.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Its parts make no APDU.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// It says something else than was asked.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// More is to come, and did not.
    #[error("the answer is not complete: more follows behind {have} parts")]
    Unfinished {
        /// How many parts there are.
        have: usize,
    },
    /// More than is taken.
    #[error("an answer of more than {BLOCKS_MAX} parts, or of more than {ELEMENTS_MAX} values")]
    TooLong,
    /// The device refuses.
    #[error("the device refuses: {0}")]
    Refused(Refusal),
}

impl Request {
    /// Looks for the first whole frame in `buffer`, which holds what arrived since the question was written. See the rules
    /// at the head of this file.
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
            let at = offset + woken;
            let from = at - woken.min(PREAMBLES_MAX);
            let body = buffer.get(at..).unwrap_or_default();
            if body.is_empty() {
                // a frame may follow them
                begin = begin.or(Some(from));
                break;
            }
            match judge(body) {
                Candidate::Whole(frame, len) => {
                    let verdict = self.verdict(&frame, body.get(..len).unwrap_or_default());
                    let span = from..at + len;
                    if matches!(verdict, Verdict::Answer | Verdict::Refused(_)) {
                        return Finding::Frame { span, verdict };
                    }
                    if stray.is_none() {
                        begin = begin.or(Some(from));
                        stray = Some((span, verdict));
                    }
                }
                Candidate::Partial(head) if stray.is_none() => {
                    begin = begin.or(Some(from));
                    let fits =
                        head.is_some_and(|(control, address)| is_answer(control) && self.address.covers(&address));
                    pending |= !last && fits;
                }
                Candidate::Partial(_) | Candidate::No => {}
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

    /// What a frame is to this question; `bytes` are the frame's own.
    fn verdict(&self, frame: &Frame, bytes: &[u8]) -> Verdict {
        let own = self.wire();
        let own = own.get(preambles(&own)..).unwrap_or_default();
        if bytes == own {
            return Verdict::Echo;
        }
        match self.judged(frame) {
            Ok(None) => Verdict::Answer,
            Ok(Some(refusal)) => Verdict::Refused(refusal.code()),
            Err(_) => Verdict::Foreign,
        }
    }

    /// Whether a frame answers this question, as far as one frame tells.
    fn judged(&self, frame: &Frame) -> Result<Option<Refusal>, AnswerError> {
        let (asked, found) = (self.address, frame.address);
        if !asked.covers(&found) {
            return Err(AnswerError::Address { asked, found });
        }
        let control = frame.control;
        if !is_answer(control) || frame.client != self.client {
            let client = frame.client;
            return Err(AnswerError::Control { control, client });
        }
        match (control.is_segmented(), &self.body) {
            (true, body) => {
                let segment = Segment::parse(frame.data())?;
                part_answers(body, &segment).map(|()| None)
            }
            (false, Body::Apdu(apdu)) => Ok(matching::answers(apdu, &Apdu::parse(frame.data())?)?),
            (false, Body::Confirm(number)) => Err(AnswerError::Segment(SegmentError::Order {
                wanted: number + 1,
                found: 0,
            })),
        }
    }

    /// What the frames of the answer say, parts and blocks joined. Noise between them is skipped. A list's single refusals
    /// stand in it; a refusal of the whole is an error.
    ///
    /// # Errors
    /// [`AnswerError`] when they are not this question's answer, are not complete, or say no.
    pub fn reply(&self, answers: &[u8]) -> Result<Apdu, AnswerError> {
        match self.assemble(answers)? {
            Assembled::Whole(apdu) => Ok(apdu),
            Assembled::More { have, .. } => Err(AnswerError::Unfinished { have }),
        }
    }

    /// What has to be sent for the part or block behind `answers`, all answer frames so far one behind the other; none
    /// when they are complete, when they are not this question's, and when there are too many.
    #[must_use]
    pub fn follow_up(&self, answers: &[u8]) -> Option<Self> {
        match self.assemble(answers) {
            Ok(Assembled::More { follow, .. }) => Some(follow),
            _ => None,
        }
    }

    fn assemble(&self, answers: &[u8]) -> Result<Assembled, AnswerError> {
        let mut joiner = Joiner::default();
        let mut blocks = Blocks::default();
        let mut follow: Option<Self> = None;
        let mut have = 0;
        let mut frames = frames(answers);
        while let Some((_, frame)) = frames.next() {
            have += 1;
            if have > BLOCKS_MAX {
                return Err(AnswerError::TooLong);
            }
            let asked = follow.as_ref().unwrap_or(self);
            if let Some(refusal) = asked.judged(&frame)? {
                return Err(AnswerError::Refused(refusal));
            }
            let apdu = match frame.control.is_segmented() {
                false => Apdu::parse(frame.data())?,
                true => match joiner.take(&Segment::parse(frame.data())?)? {
                    Joined::Whole(bytes) => Apdu::parse(&bytes)?,
                    Joined::More { confirm } | Joined::Again { confirm } => {
                        follow = Some(self.confirm_part(confirm));
                        continue;
                    }
                },
            };
            // of an answer in parts only its beginning was judged before
            if let (Body::Apdu(question), Some(Body::Confirm(_))) = (&self.body, follow.as_ref().map(|f| &f.body)) {
                let question = blocks.question(question);
                if let Some(refusal) = matching::answers(&question, &apdu)? {
                    return Err(AnswerError::Refused(refusal));
                }
            }
            match blocks.take(apdu)? {
                Taken::Whole(apdu) => {
                    let complete = self.whole(*apdu)?;
                    return match frames.next() {
                        None => Ok(Assembled::Whole(complete)),
                        // something came behind the end
                        Some((_, frame)) => Err(AnswerError::Control {
                            control: frame.control,
                            client: frame.client,
                        }),
                    };
                }
                Taken::More { number } => {
                    let piid = self.piid().unwrap_or(super::Piid::new(0));
                    follow = Some(self.next_block(piid, number));
                }
            }
        }
        match follow {
            Some(follow) => Ok(Assembled::More { follow, have }),
            // says why there is no frame
            None => {
                let short = FrameError::Short { have: 0, need: 12 };
                Err(open(answers).err().unwrap_or(short).into())
            }
        }
    }

    /// The answer with its blocks joined, judged once more as a whole.
    fn whole(&self, apdu: Apdu) -> Result<Apdu, AnswerError> {
        if let Body::Apdu(question) = &self.body {
            let apdu = reshape(question, apdu);
            return match matching::answers(question, &apdu)? {
                None => Ok(apdu),
                Some(refusal) => Err(AnswerError::Refused(refusal)),
            };
        }
        Ok(apdu)
    }
}

fn is_answer(control: Control) -> bool {
    control.is_from_device() && control.is_of_ours() && control.is_service()
}

/// Whether a part may be the answer's next one. The first part holds the APDU's head: service, choice, number.
fn part_answers(asked: &Body, segment: &Segment<'_>) -> Result<(), AnswerError> {
    let found = segment.number;
    let order = |wanted| AnswerError::Segment(SegmentError::Order { wanted, found });
    match (asked, segment.part) {
        (_, Part::Confirmation) => Err(SegmentError::Data(Part::Confirmation, 0).into()),
        (Body::Confirm(before), Part::Between | Part::Last) if found == (before + 1) & 0x0FFF => Ok(()),
        (Body::Confirm(before), _) => Err(order(before + 1)),
        (Body::Apdu(apdu), Part::First) => {
            let number = match (apdu.as_ref(), segment.data) {
                // no choice stands between service and number
                (Apdu::ConnectRequest(_) | Apdu::ReleaseRequest(_), [_, number, ..]) => Some(*number),
                (_, [_, _, number, ..]) => Some(*number),
                _ => None,
            };
            let is_service = segment.data.first() == Some(&(apdu.service() | 0x80));
            match (is_service, apdu.piid(), number) {
                (true, Some(piid), Some(number)) if number & 0x3F == piid.number() => Ok(()),
                (true, Some(piid), Some(number)) => Err(Mismatch::Number {
                    asked: piid.number(),
                    found: number & 0x3F,
                }
                .into()),
                (true, None, _) => Ok(()),
                _ => Err(order(0)),
            }
        }
        (Body::Apdu(_), _) => Err(SegmentError::NoFirst(found).into()),
    }
}

enum Assembled {
    Whole(Apdu),
    More { follow: Request, have: usize },
}

enum Taken {
    Whole(Box<Apdu>),
    More { number: u16 },
}

/// The blocks of an answer, joined.
#[derive(Default)]
struct Blocks {
    items: Vec<ItemResult>,
    records: Vec<RecordResult>,
    /// The number of the last block, once there is one.
    last: Option<u16>,
}

impl Blocks {
    /// What was asked last: the question, or the block behind the last one.
    fn question(&self, question: &Apdu) -> Apdu {
        match (question, self.last) {
            (Apdu::Get(asked), Some(last)) => {
                let mut asked = asked.clone();
                asked.body = GetBody::Next(last);
                Apdu::Get(asked)
            }
            _ => question.clone(),
        }
    }

    fn take(&mut self, apdu: Apdu) -> Result<Taken, AnswerError> {
        let Apdu::GetAnswer(answered) = apdu else {
            return Ok(Taken::Whole(Box::new(apdu)));
        };
        let Answered {
            piid,
            body: GetResult::Next(block),
            follow,
            time_tag,
        } = answered
        else {
            return Ok(Taken::Whole(Box::new(Apdu::GetAnswer(answered))));
        };
        match block.content {
            BlockContent::Dar(dar) => return Err(AnswerError::Refused(Refusal::Dar(dar))),
            BlockContent::Items(list) => self.items.extend(list.into_inner()),
            BlockContent::Records(list) => list.into_inner().into_iter().for_each(|record| self.record(record)),
        }
        let values = self.records.iter().map(|record| match &record.rows {
            Rows::Dar(_) => 1,
            Rows::Rows(rows) => rows.len().saturating_mul(record.columns.len()),
        });
        if self.items.len() + values.sum::<usize>() > ELEMENTS_MAX {
            return Err(AnswerError::TooLong);
        }
        if !block.last {
            self.last = Some(block.number);
            return Ok(Taken::More { number: block.number });
        }
        let items = Many::new(std::mem::take(&mut self.items)).map(GetResult::List);
        let records = Many::new(std::mem::take(&mut self.records)).map(GetResult::RecordList);
        match items.or(records) {
            Some(body) => Ok(Taken::Whole(Box::new(Apdu::GetAnswer(Answered {
                piid,
                body,
                follow,
                time_tag,
            })))),
            // a block has one element at least
            None => Err(AnswerError::TooLong),
        }
    }

    /// A record goes on in the next block with the same columns.
    fn record(&mut self, record: RecordResult) {
        if let Some(before) = self.records.last_mut()
            && before.oad == record.oad
            && before.columns == record.columns
            && let (Rows::Rows(rows), Rows::Rows(more)) = (&mut before.rows, &record.rows)
        {
            rows.extend_from_slice(more);
            return;
        }
        self.records.push(record);
    }
}

/// Blocks bring lists; the answer to a question for one is one.
fn reshape(question: &Apdu, answer: Apdu) -> Apdu {
    match (question, answer) {
        (Apdu::Get(asked), Apdu::GetAnswer(mut answered)) => {
            answered.body = match (&asked.body, answered.body) {
                (GetBody::Normal(_), GetResult::List(list)) if list.len() == 1 => match list.into_inner().pop() {
                    Some(item) => GetResult::Normal(item),
                    None => return question.clone(),
                },
                (GetBody::Record(_), GetResult::RecordList(list)) if list.len() == 1 => match list.into_inner().pop() {
                    Some(record) => GetResult::Record(record),
                    None => return question.clone(),
                },
                (_, body) => body,
            };
            Apdu::GetAnswer(answered)
        }
        (_, answer) => answer,
    }
}
