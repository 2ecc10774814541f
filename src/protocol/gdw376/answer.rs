//! What a terminal's answer says to a question, and how it is known to be that question's. What was not asked is not read.

use super::Address;
use super::afn::Afn;
use super::archive::{self, ArchiveMeter};
use super::confirm::{Confirmation, ConfirmationError};
use super::event::{self, EventError, Events};
use super::forward::{self, ForwardError};
use super::items::Edition;
use super::layout::Stamp;
use super::message::{EventCounters, Message, TimeTag, Unit, UnitError};
use super::point::{Fn, Id, Pn};
use super::request::Request;
use std::collections::BTreeSet;

/// A terminal's answer, all frames of it together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub said: Said,
    /// What was asked and is not in the answer: the terminal does not have it.
    pub missing: Vec<Id>,
    /// The event counters of the last frame that has them.
    pub events: Option<EventCounters>,
    /// The time tag of the first frame.
    pub tag: Option<TimeTag>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Data, all of them asked for.
    Data(Vec<Unit>),
    /// Everything was carried out.
    Confirmed,
    /// Nothing was carried out, or there are no such data.
    Denied,
    /// Some items were carried out and some were not.
    Partly {
        /// Those that were.
        confirmed: Vec<Id>,
        /// Those that were not, each with the terminal's error byte.
        denied: Vec<(Id, u8)>,
    },
}

/// Why a message is no answer to a question. Nothing of it may be taken for a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A master's frame, perhaps our own echoed.
    #[error("the frame was not sent by a terminal")]
    Direction,
    /// A report or a link test: it begins a dialogue of its own.
    #[error("the frame begins a dialogue of the terminal's own")]
    Report,
    /// Another terminal's.
    #[error("the frame is of terminal {0}")]
    Terminal(Address),
    /// For another master station.
    #[error("the frame answers master station {0}")]
    Master(u8),
    /// Of another dialogue.
    #[error("the frame answers sequence {found}, asked was {asked}")]
    Sequence {
        /// What was asked.
        asked: u8,
        /// What it answers.
        found: u8,
    },
    /// Another function.
    #[error("the frame answers function {found}, asked was {asked}")]
    Function {
        /// What was asked.
        asked: Afn,
        /// What it answers.
        found: Afn,
    },
    /// Points or items that were not asked for.
    #[error("the answer is of {} that nobody asked for", list(.0))]
    Unasked(Vec<Id>),
    /// The same point and item twice.
    #[error("the answer says {0} twice")]
    Twice(Id),
    /// Of another day, month or curve than asked.
    #[error("the answer for {0} is of another time than asked")]
    Time(Id),
    /// The data cannot be told apart.
    #[error(transparent)]
    Units(#[from] UnitError),
    /// A confirmation that cannot be read.
    #[error(transparent)]
    Confirmation(#[from] ConfirmationError),
    /// No frame at all.
    #[error("there is no frame")]
    Nothing,
}

fn list(ids: &[Id]) -> String {
    let named: Vec<String> = ids.iter().take(4).map(Id::to_string).collect();
    let more = ids.len().saturating_sub(named.len());
    let named = named.join(", ");
    if more > 0 {
        format!("{named} and {more} more")
    } else {
        named
    }
}

impl Request {
    /// The functions that may answer.
    fn answered_by(&self, afn: Afn) -> bool {
        match self.afn() {
            Afn::RESET | Afn::SET | Afn::CONTROL => afn == Afn::CONFIRM,
            // a task's data come as what they are
            Afn::TASK => matches!(afn, Afn::CONFIRM | Afn::TASK | Afn::REALTIME | Afn::HISTORY),
            own => afn == own || afn == Afn::CONFIRM,
        }
    }

    /// Whether a message belongs to this dialogue, as far as its head tells: direction, terminal, master station, sequence
    /// number of the first frame, function.
    ///
    /// # Errors
    /// [`Mismatch`]: it does not.
    pub fn belongs(&self, message: &Message) -> Result<(), Mismatch> {
        if !message.control.is_from_terminal() {
            return Err(Mismatch::Direction);
        }
        if message.control.is_primary() {
            return Err(Mismatch::Report);
        }
        if !message.address.is_terminal_of(self.address()) {
            return Err(Mismatch::Terminal(message.address));
        }
        if message.address.msa() != self.address().msa() {
            return Err(Mismatch::Master(message.address.msa()));
        }
        let (asked, found) = (self.number(), message.seq.number());
        // the frames behind the first count on; who joins them has checked it
        if message.seq.is_first() && asked != found {
            return Err(Mismatch::Sequence { asked, found });
        }
        if !self.answered_by(message.afn) {
            let (asked, found) = (self.afn(), message.afn);
            return Err(Mismatch::Function { asked, found });
        }
        Ok(())
    }

    /// Reads an answer: all its frames, in order, joined by [`super::Assembly`].
    ///
    /// # Errors
    /// [`Mismatch`]: it answers something else, or more than was asked. Nothing of it may be kept then.
    pub fn answer(&self, frames: &[Message], edition: Edition) -> Result<Answer, Mismatch> {
        let first = frames.first().ok_or(Mismatch::Nothing)?;
        frames.iter().try_for_each(|frame| self.belongs(frame))?;
        let asked: BTreeSet<Id> = self.asks.keys().copied().collect();
        let (said, answered) = if first.afn == Afn::CONFIRM {
            self.confirmation(&Confirmation::of(first)?, &asked)?
        } else {
            let mut units: Vec<Unit> = Vec::new();
            for frame in frames {
                units.extend(frame.units(edition)?);
            }
            let said: BTreeSet<Id> = self.checked(&units, first.afn)?;
            (Said::Data(units), said)
        };
        let all = asked.iter().any(|id| id.pn == Pn::ALL);
        let missing = if self.afn() == Afn::TASK || all {
            Vec::new()
        } else {
            asked.difference(&answered).copied().collect()
        };
        Ok(Answer {
            said,
            missing,
            events: frames.iter().rev().find_map(|frame| frame.events),
            tag: first.tag,
        })
    }

    /// What was asked of data that came: each unit once, of a point, item and time that were asked for.
    fn checked(&self, units: &[Unit], afn: Afn) -> Result<BTreeSet<Id>, Mismatch> {
        let mut said = BTreeSet::new();
        let mut unasked = Vec::new();
        for unit in units {
            let everywhere = Id { pn: Pn::ALL, ..unit.id };
            let asked = match (self.asks.get(&unit.id), self.asks.get(&everywhere)) {
                (Some(data), _) => Some(data),
                (None, Some(data)) if unit.id.pn != Pn::TERMINAL => Some(data),
                _ => None,
            };
            match asked {
                _ if self.afn() == Afn::TASK => {}
                None => unasked.push(unit.id),
                Some(data) if !same_time(afn, data, unit) => return Err(Mismatch::Time(unit.id)),
                Some(_) => {}
            }
            // a list that came in several frames is one item in several units
            if !said.insert(unit.id) && afn != Afn::QUERY {
                return Err(Mismatch::Twice(unit.id));
            }
        }
        if unasked.is_empty() {
            Ok(said)
        } else {
            Err(Mismatch::Unasked(unasked))
        }
    }

    fn confirmation(
        &self,
        confirmation: &Confirmation,
        asked: &BTreeSet<Id>,
    ) -> Result<(Said, BTreeSet<Id>), Mismatch> {
        Ok(match confirmation {
            Confirmation::All => (Said::Confirmed, asked.clone()),
            Confirmation::None => (Said::Denied, asked.clone()),
            Confirmation::Each { afn, items } => {
                if *afn != self.afn() {
                    let (asked, found) = (self.afn(), *afn);
                    return Err(Mismatch::Function { asked, found });
                }
                let named: BTreeSet<Id> = items.iter().map(|(id, _)| *id).collect();
                let unasked: Vec<Id> = named.difference(asked).copied().collect();
                if !unasked.is_empty() {
                    return Err(Mismatch::Unasked(unasked));
                }
                if let Some((id, _)) = items.iter().enumerate().find_map(|(at, (id, _))| {
                    items
                        .iter()
                        .skip(at + 1)
                        .any(|(other, _)| other == id)
                        .then_some((*id, ()))
                }) {
                    return Err(Mismatch::Twice(id));
                }
                let denied: Vec<(Id, u8)> = confirmation.denied().collect();
                let confirmed: Vec<Id> = items
                    .iter()
                    .filter(|(_, error)| *error == 0)
                    .map(|(id, _)| *id)
                    .collect();
                let said = match (confirmed.len() == asked.len(), denied.is_empty()) {
                    (true, _) => Said::Confirmed,
                    _ => Said::Partly { confirmed, denied },
                };
                (said, named)
            }
        })
    }
}

/// Whether a unit is of the time that was asked for. Of a curve the number of points may be less: the terminal keeps no
/// more.
fn same_time(afn: Afn, asked: &[u8], unit: &Unit) -> bool {
    if afn != Afn::HISTORY {
        return true;
    }
    let said = unit.data.get(..asked.len()).unwrap_or_default();
    if asked.len() == Stamp::Curve.size() {
        let (asked, said) = (asked.split_last(), said.split_last());
        return asked
            .zip(said)
            .is_some_and(|((most, head), (points, theirs))| head == theirs && points <= most);
    }
    said == asked
}

impl Answer {
    /// The meters of an archive that was asked for.
    ///
    /// # Errors
    /// [`archive::ArchiveError`] where a list is broken.
    pub fn archive(&self) -> Result<Vec<ArchiveMeter>, archive::ArchiveError> {
        let mut meters = Vec::new();
        for unit in self.units().filter(|unit| unit.id == Id::terminal(Fn::of(10))) {
            meters.extend(archive::read(&unit.data)?);
        }
        Ok(meters)
    }

    /// The records of events that were asked for.
    ///
    /// # Errors
    /// [`EventError`] where they are broken.
    pub fn event_records(&self) -> Result<Vec<Events>, EventError> {
        self.units().map(|unit| event::read(&unit.data)).collect()
    }

    /// What a meter said to a frame that was passed on.
    ///
    /// # Errors
    /// [`ForwardError`] where it is broken.
    pub fn forwarded(&self) -> Result<Option<forward::Answer>, ForwardError> {
        self.units()
            .next()
            .map(|unit| forward::Answer::read(&unit.data))
            .transpose()
    }

    /// Its data units; none of a confirmation.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        let units: &[Unit] = match &self.said {
            Said::Data(units) => units,
            _ => &[],
        };
        units.iter()
    }
}
