//! A question of Q/GDW 1376.1 as one of a meter's visit: how its answer is known among bytes, and how what a terminal
//! says to many points at once is cut into answers of one meter each.
//!
//! A meter's record names its measuring point, not its terminal: its questions go to [`NO_TERMINAL`], and who owns the
//! connection asks the same of the terminal that is on it. What comes back is written anew as the answer to the meter's
//! own question ([`Request::excerpt`]), so that what reads it needs to know nothing of the others.

use super::afn::Afn;
use super::confirm::Confirmation;
use super::control::{Control, Seq};
use super::frame::{DATA_MAX, Found};
use super::items::{Edition, Way, layout};
use super::message::{Message, Unit};
use super::point::{Id, UnitId};
use super::request::{Ask, Request, RequestError};
use super::{Address, Frame, FrameError, MessageError, UnitError, find, find_last};
use crate::protocol::{Finding, Verdict};

/// Whom a meter's question goes to before the connection says it: nobody.
pub const NO_TERMINAL: Address = Address {
    region: 0,
    terminal: 0,
    msa: 0,
    group: false,
};

/// The whole question was denied (AFN 00, F2).
pub const DENIED: u8 = 0x01;
/// The terminal's answer does not have what was asked; no code of the standard, whose error bytes are small.
pub const ABSENT: u8 = 0xFF;

/// What an item whose layout is not known is taken to have, bytes.
const UNKNOWN_LEN: usize = 64;
/// Tariffs that an answer is taken to have.
const RATES: u8 = 4;

/// Why bytes are no question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Its data cannot be told apart.
    #[error(transparent)]
    Units(#[from] UnitError),
    /// A terminal's own frame.
    #[error("the frame is a terminal's")]
    Direction,
    /// Nothing that can be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl Request {
    /// Reads a master's frame.
    ///
    /// # Errors
    /// [`ParseError`]: it is no question, or one that this room does not make (a relay's).
    pub fn parse(bytes: &[u8], edition: Edition) -> Result<Self, ParseError> {
        let message = Message::of(&Frame::parse(bytes)?)?;
        if message.control.is_from_terminal() {
            return Err(ParseError::Direction);
        }
        let asks = message.units(edition)?.into_iter().map(|unit| Ask {
            id: unit.id,
            data: unit.data,
        });
        let request = Self::new(message.address, message.afn, asks)?;
        Ok(request.numbered(message.seq.number()).with_control(message.control))
    }

    /// Looks for the first frame and says what it is to this question; only its head is judged, what it holds by
    /// [`Request::answer`].
    pub fn find(&self, buffer: &[u8]) -> Finding {
        self.found(find(buffer))
    }

    /// The same when nothing more will come.
    pub fn find_last(&self, buffer: &[u8]) -> Finding {
        self.found(find_last(buffer))
    }

    fn found(&self, found: Found) -> Finding {
        let (span, frame) = match found {
            Found::NeedMore { noise } => return Finding::NeedMore { noise },
            Found::Frame { span, frame } => (span, frame),
        };
        let verdict = match Message::of(&frame) {
            Ok(message) if self.belongs(&message).is_err() => Verdict::Foreign,
            Ok(message) if message.afn == Afn::CONFIRM => match Confirmation::of(&message) {
                Ok(Confirmation::All) => Verdict::Answer,
                Ok(Confirmation::None) => Verdict::Refused(DENIED),
                Ok(each @ Confirmation::Each { .. }) => each
                    .denied()
                    .next()
                    .map_or(Verdict::Answer, |(_, code)| Verdict::Refused(code)),
                Err(_) => Verdict::Foreign,
            },
            Ok(_) => Verdict::Answer,
            Err(_) => Verdict::Foreign,
        };
        Finding::Frame { span, verdict }
    }

    /// Terminal and function, as every answer says them.
    pub fn kin(&self) -> u64 {
        let address = self.address();
        u64::from(address.region) << 32 | u64::from(address.terminal) << 16 | u64::from(self.afn().0)
    }

    /// What is asked, as every answer with data says it: the identifiers, mixed into one number.
    pub fn subject(&self) -> u64 {
        self.asks().fold(0, |mixed: u64, (id, _)| {
            let [a, b, c, d] = UnitId::of(id).wire();
            mixed
                .wrapping_mul(31)
                .wrapping_add(u64::from(u32::from_be_bytes([a, b, c, d])))
        })
    }

    /// About the most bytes of data that its answer has, with four tariffs.
    pub fn answer_len(&self, edition: Edition) -> usize {
        let units = self.asks().map(|(id, data)| ask_len(self.afn(), id, data, edition));
        (4 + units.sum::<usize>()).min(DATA_MAX)
    }

    /// What of a terminal's answer answers this question: a frame of its own, as if nothing else had been asked. None
    /// where nothing does.
    pub fn excerpt(&self, afn: Afn, units: &[Unit]) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        for unit in units.iter().filter(|unit| self.asks().any(|(id, _)| id == unit.id)) {
            body.extend_from_slice(&UnitId::of(unit.id).wire());
            body.extend_from_slice(&unit.data);
        }
        if body.is_empty() {
            return None;
        }
        self.told(Control::ANSWER, afn, body)
    }

    /// That everything was carried out, as the answer to this question.
    pub fn confirmed(&self) -> Option<Vec<u8>> {
        self.told(Control::CONFIRMED, Afn::CONFIRM, Confirmation::All.body())
    }

    fn told(&self, control: Control, afn: Afn, body: Vec<u8>) -> Option<Vec<u8>> {
        let message = Message {
            dialect: super::Dialect::Gdw376,
            control,
            address: self.address(),
            afn,
            seq: Seq::single(self.number()),
            body,
            password: None,
            events: None,
            tag: None,
        };
        Some(message.frame()?.wire())
    }
}

/// About how many bytes the answer to one thing has, without its identifier, which neighbours share.
pub fn ask_len(afn: Afn, id: Id, data: &[u8], edition: Edition) -> usize {
    let unknown = UNKNOWN_LEN;
    let of_layout = layout(afn, id.item, Way::Up, edition).filter(|layout| layout.parts.is_some());
    let points = data.last().copied().unwrap_or_default();
    of_layout.map_or(unknown, |layout| layout.size(RATES, points))
}

#[cfg(test)]
#[path = "question_tests.rs"]
mod tests;
