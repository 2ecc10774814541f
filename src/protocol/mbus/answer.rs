//! What answers say: telegrams, and a readout of one or more of them.

use super::address::Identification;
use super::fixed;
use super::frame::{Frame, FrameError};
use super::header::{
    CI_ALARM, CI_ERROR, CI_FIXED, CI_FIXED_HIGH, CI_LONG, CI_LONG_HIGH, CI_NONE, CI_SHORT, high_first,
};
use super::header::{Header, Status};
use super::record::{Record, Records};
use super::request::is_response;
use super::{Request, medium_name};
use crate::base::bytes::ShortRead;
use crate::protocol::{Finding, Verdict};

/// One answer with data, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telegram {
    /// The A field: the meter's primary address, or 253.
    pub address: u8,
    /// The C field.
    pub control: u8,
    /// The CI field.
    pub ci: u8,
    /// What stands in front of the records.
    pub header: Header,
    /// What it carries.
    pub body: Body,
}

/// What a telegram carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Records or counters.
    Records(Records),
    /// The meter's application refuses (CI 70); the code, if it tells one.
    Error(Option<u8>),
    /// Alarms (CI 71), the maker's own bits.
    Alarm(u8),
    /// Records that nobody without the key can read.
    Encrypted {
        /// The security mode.
        mode: u8,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A CI field that we do not know; the bytes behind it.
    Unknown(Vec<u8>),
}

/// Why bytes are not the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame is not one of a slave with data.
    #[error("control 0x{0:02X} is not that of an answer")]
    Control(u8),
    /// The frame answers another question.
    #[error("the frame is not the answer to its request")]
    Foreign,
    /// The header breaks off.
    #[error("the header breaks off: {0}")]
    Header(#[from] ShortRead),
    /// The meter has nothing to tell: it answered with the single character.
    #[error("the meter has nothing to tell")]
    Nothing,
    /// The meter refused.
    #[error("refused with application error {0} ({name})", name = error_name(*.0))]
    Refused(u8),
    /// The records are encrypted.
    #[error("the records are encrypted with security mode {0}")]
    Encrypted(u8),
    /// A CI field whose data we cannot read.
    #[error("ci 0x{0:02X} is not one that this reads")]
    Ci(u8),
    /// Telegrams of different meters.
    #[error("the telegrams are of different meters")]
    Mixed,
}

/// The application error of an answer, if it is one; 0 where the meter tells no code.
pub(super) fn error_code(ci: u8, data: &[u8]) -> Option<u8> {
    (ci == CI_ERROR).then(|| data.first().copied().unwrap_or_default())
}

/// The name of an application error (EN 13757-3, 5.2).
pub fn error_name(code: u8) -> &'static str {
    match code {
        0 => "unspecified",
        1 => "unknown ci field",
        2 => "buffer too long",
        3 => "too many records",
        4 => "premature end of record",
        5 => "more than 10 dife",
        6 => "more than 10 vife",
        8 => "application busy",
        9 => "too many readouts",
        _ => "reserved",
    }
}

impl Telegram {
    /// Takes a frame of a slave apart.
    ///
    /// # Errors
    /// [`AnswerError`] when it is none, or its header breaks off.
    pub fn of_frame(frame: &Frame) -> Result<Self, AnswerError> {
        let (control, address, ci, data) = match frame {
            Frame::Ack => return Err(AnswerError::Nothing),
            Frame::Short { control, .. } => return Err(AnswerError::Control(*control)),
            Frame::Long {
                control,
                address,
                ci,
                data,
            } => (*control, *address, *ci, data.as_slice()),
        };
        if !is_response(control) {
            return Err(AnswerError::Control(control));
        }
        let (header, rest) = Header::parse(ci, data)?;
        let body = match ci {
            CI_ERROR => Body::Error(data.first().copied()),
            CI_ALARM => Body::Alarm(data.first().copied().unwrap_or_default()),
            CI_LONG | CI_LONG_HIGH | CI_SHORT | CI_NONE => match header.encrypted(rest) {
                Some(mode) => Body::Encrypted {
                    mode,
                    data: rest.to_vec(),
                },
                None => Body::Records(Records::parse(rest, high_first(ci))),
            },
            CI_FIXED | CI_FIXED_HIGH => match header {
                Header::Fixed { status, units, .. } => {
                    Body::Records(fixed::records(status, units, rest, high_first(ci)))
                }
                _ => Body::Unknown(data.to_vec()),
            },
            _ => Body::Unknown(data.to_vec()),
        };
        Ok(Self {
            address,
            control,
            ci,
            header,
            body,
        })
    }

    /// Reads a telegram, whole and without anything around it.
    ///
    /// # Errors
    /// [`AnswerError`] when it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        Self::of_frame(&Frame::parse(bytes)?)
    }

    /// Whether the meter has more records in another telegram.
    pub fn more_follow(&self) -> bool {
        matches!(&self.body, Body::Records(records) if records.more)
    }

    /// What the meter measures, as the code of the variable structure.
    pub fn medium(&self) -> Option<u8> {
        match self.header {
            Header::Long { identification, .. } => Some(identification.medium),
            Header::Fixed { units, .. } => Some(fixed::medium(units)),
            _ => None,
        }
    }

    /// The same in words.
    pub fn medium_name(&self) -> Option<&'static str> {
        self.medium().map(medium_name)
    }
}

/// All telegrams of one readout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readout {
    /// At least one.
    pub telegrams: Vec<Telegram>,
}

impl Readout {
    /// Every record, in the order in which the meter told them.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.telegrams.iter().flat_map(|telegram| match &telegram.body {
            Body::Records(records) => records.list.as_slice(),
            _ => &[],
        })
    }

    /// Who answered, if a header says it.
    pub fn identification(&self) -> Option<Identification> {
        self.telegrams
            .first()
            .and_then(|telegram| telegram.header.identification())
    }

    /// The status byte of the last telegram.
    pub fn status(&self) -> Option<Status> {
        self.telegrams.last().and_then(|telegram| telegram.header.status())
    }

    /// Whether the meter said that more follows and it was not fetched.
    pub fn is_cut(&self) -> bool {
        self.telegrams.last().is_some_and(Telegram::more_follow)
    }
}

impl Request {
    /// Reads the answers to a reading: its frames one behind the other, as many as [`Request::follow_up`] asked for. A
    /// telegram that repeats the one before it is dropped.
    ///
    /// # Errors
    /// [`AnswerError`] when a frame is not this request's answer, when the meter refused or has nothing to tell, or when
    /// the first telegram cannot be read.
    pub fn readout(&self, answers: &[u8]) -> Result<Readout, AnswerError> {
        let frames = Frame::split(answers)?;
        let mut telegrams: Vec<Telegram> = Vec::new();
        for frame in &frames {
            if *frame == Frame::Ack {
                // the end of a readout whose last telegram promised more
                if telegrams.is_empty() {
                    return Err(AnswerError::Nothing);
                }
                break;
            }
            let wire = frame.wire()?;
            match self.find(&wire) {
                Finding::Frame {
                    verdict: Verdict::Answer,
                    ..
                } => {}
                Finding::Frame {
                    verdict: Verdict::Refused(code),
                    ..
                } => return Err(AnswerError::Refused(code)),
                _ => return Err(AnswerError::Foreign),
            }
            let telegram = Telegram::of_frame(frame)?;
            match (&telegram.body, telegrams.last()) {
                (_, Some(before)) if before.header.identification() != telegram.header.identification() => {
                    return Err(AnswerError::Mixed);
                }
                (_, Some(before)) if *before == telegram => break,
                (Body::Encrypted { mode, .. }, None) => return Err(AnswerError::Encrypted(*mode)),
                (Body::Unknown(_), None) => return Err(AnswerError::Ci(telegram.ci)),
                _ => telegrams.push(telegram),
            }
        }
        if telegrams.is_empty() {
            return Err(FrameError::Short { have: 0, need: 1 }.into());
        }
        Ok(Readout { telegrams })
    }

    /// Whether `answer` acknowledges this request.
    pub fn is_acknowledged(&self, answer: &[u8]) -> bool {
        !self.reads() && answer == [super::ACK]
    }
}
