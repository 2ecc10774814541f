//! One question of a master station, and what its answer says.

use super::afn::Afn;
use super::archive::{self, ArchiveMeter};
use super::confirm::{Confirmation, ConfirmationError};
use super::control::{Control, Seq};
use super::event::{self, EventError, Events};
use super::format::{Format, Value};
use super::forward::{self, ForwardError, Kind};
use super::frame::DATA_MAX;
use super::items::Edition;
use super::layout::{Curve, Stamp};
use super::message::{EventCounters, Message, Password, TimeTag, Unit, UnitError};
use super::point::{Fn, Id, Pn, UnitId};
use super::{Address, Frame};
use chrono::{NaiveDate, NaiveDateTime};
use std::collections::{BTreeMap, BTreeSet};

/// AFN, SEQ and the longest auxiliary fields.
const FIELDS: usize = 2 + 16 + 6;

/// One thing that is asked for or written: an item of a point, and the bytes that go with it (a time stamp, a parameter).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// What.
    pub id: Id,
    /// The bytes behind its identifier.
    pub data: Vec<u8>,
}

impl Ask {
    /// Without data.
    pub fn plain(id: Id) -> Self {
        Self { id, data: Vec::new() }
    }

    /// An item of a day; none for a year before 2000.
    pub fn of_day(id: Id, day: NaiveDate) -> Option<Self> {
        let data = Format::A20.write(&Value::Date(day))?;
        Some(Self { id, data })
    }

    /// An item of the month in which a day lies.
    pub fn of_month(id: Id, month: NaiveDate) -> Option<Self> {
        let data = Format::A21.write(&Value::Month(month))?;
        Some(Self { id, data })
    }

    /// A curve.
    pub fn of_curve(id: Id, curve: Curve) -> Option<Self> {
        let data = curve.wire()?;
        Some(Self { id, data })
    }
}

/// Why something cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing is asked.
    #[error("nothing is asked")]
    Empty,
    /// The same thing twice, with different data.
    #[error("{0} is asked twice")]
    Twice(Id),
    /// All points and single ones in one question.
    #[error("all points and single points cannot be asked together")]
    AllAndOne,
    /// It does not fit into a frame.
    #[error("{0} bytes do not fit into one frame")]
    Long(usize),
    /// It moves a relay.
    #[error("{0} moves a relay; only the relay room makes such frames")]
    Relay(Id),
    /// It forwards a frame of which it cannot be told what it does.
    #[error("the frame to be forwarded is no question of DL/T 645 or CJ/T 188")]
    Unknown,
    /// A form that forwarding does not take.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// An archive that does not fit.
    #[error(transparent)]
    Archive(#[from] archive::ArchiveError),
    /// A time that the format does not hold.
    #[error("{0} cannot be written as a terminal's clock")]
    Clock(NaiveDateTime),
}

/// One question to one terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    address: Address,
    control: Control,
    afn: Afn,
    number: u8,
    confirm: bool,
    asks: BTreeMap<Id, Vec<u8>>,
    password: Password,
    tag: Option<TimeTag>,
}

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
    if more > 0 { format!("{named} and {more} more") } else { named }
}

impl Request {
    /// A question of any function that moves no relay.
    ///
    /// # Errors
    /// [`RequestError`]: nothing asked, the same twice, too long, or a relay.
    pub fn new(address: Address, afn: Afn, asks: impl IntoIterator<Item = Ask>) -> Result<Self, RequestError> {
        let request = Self::any(address, afn, asks)?;
        for (id, data) in &request.asks {
            match (afn, id.item.number()) {
                (Afn::CONTROL, 1 | 2) | (Afn::FORWARD, 10) => return Err(RequestError::Relay(*id)),
                (Afn::FORWARD, 1) => match forward::Question::read(data)?.kind() {
                    Kind::Plain => {}
                    Kind::Relay => return Err(RequestError::Relay(*id)),
                    Kind::Unknown => return Err(RequestError::Unknown),
                },
                // the other forwardings hold frames of makers' own forms
                (Afn::FORWARD, _) => return Err(RequestError::Unknown),
                _ => {}
            }
        }
        Ok(request)
    }

    /// A question of any function at all, for [`super::relay`].
    pub(super) fn any(
        address: Address,
        afn: Afn,
        asks: impl IntoIterator<Item = Ask>,
    ) -> Result<Self, RequestError> {
        let mut kept: BTreeMap<Id, Vec<u8>> = BTreeMap::new();
        for Ask { id, data } in asks {
            if kept.insert(id, data.clone()).is_some_and(|before| before != data) {
                return Err(RequestError::Twice(id));
            }
        }
        if kept.is_empty() {
            return Err(RequestError::Empty);
        }
        let all = kept.keys().filter(|id| id.pn == Pn::ALL).count();
        if all > 0 && all < kept.len() {
            return Err(RequestError::AllAndOne);
        }
        let control = match afn {
            Afn::RESET => Control::RESET,
            Afn::SET | Afn::CONTROL => Control::ASK_1,
            _ => Control::ASK_2,
        };
        let request = Self {
            address,
            control,
            afn,
            number: 0,
            confirm: false,
            asks: kept,
            password: Password::ZERO,
            tag: None,
        };
        let length = request.body().len() + FIELDS;
        if length > DATA_MAX {
            return Err(RequestError::Long(length));
        }
        Ok(request)
    }

    /// The terminal's archive at these places; all of it is asked place by place.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn read_archive(address: Address, places: &[u16]) -> Result<Self, RequestError> {
        let data = archive::places(places)?;
        let id = Id::terminal(Fn::of(10));
        Self::new(address, Afn::QUERY, [Ask { id, data }])
    }

    /// Writes meters into the archive; what stood at their places is overwritten.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn write_archive(address: Address, meters: &[ArchiveMeter]) -> Result<Self, RequestError> {
        let data = archive::write(meters)?;
        let id = Id::terminal(Fn::of(10));
        Self::new(address, Afn::SET, [Ask { id, data }])
    }

    /// Sets the terminal's clock: its own local time.
    ///
    /// # Errors
    /// [`RequestError::Clock`] for a year that two digits do not hold.
    pub fn set_clock(address: Address, local: NaiveDateTime) -> Result<Self, RequestError> {
        let data = Format::A1.write(&Value::Time(local)).ok_or(RequestError::Clock(local))?;
        let id = Id::terminal(Fn::of(31));
        Self::new(address, Afn::CONTROL, [Ask { id, data }])
    }

    /// Passes a meter's own frame on.
    ///
    /// # Errors
    /// [`RequestError`]: the frame moves a relay, or is none that is known here.
    pub fn forward(address: Address, question: &forward::Question) -> Result<Self, RequestError> {
        let data = question.write()?;
        Self::new(address, Afn::FORWARD, [Ask { id: Id::terminal(Fn::F1), data }])
    }

    /// The records of events from one pointer to before another.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn events(address: Address, important: bool, from: u8, to: u8) -> Result<Self, RequestError> {
        let id = Id::terminal(if important { Fn::F1 } else { Fn::F2 });
        let data = vec![from, to];
        Self::new(address, Afn::EVENTS, [Ask { id, data }])
    }

    /// The same question under a sequence number, 0 to 15.
    #[must_use]
    pub fn numbered(self, number: u8) -> Self {
        Self {
            number: number & 0x0F,
            ..self
        }
    }

    /// The same with the message authentication; used where the function has one.
    #[must_use]
    pub fn with_password(self, password: Password) -> Self {
        Self { password, ..self }
    }

    /// The same with a time tag.
    #[must_use]
    pub fn with_tag(self, tag: TimeTag) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// The same with another control field; some terminals want class 1 data asked by 4A, some by 4B.
    #[must_use]
    pub fn with_control(self, control: Control) -> Self {
        Self { control, ..self }
    }

    /// The same, and the terminal shall confirm at once what it will answer later.
    #[must_use]
    pub fn to_confirm(self) -> Self {
        Self { confirm: true, ..self }
    }

    /// Whom it goes to.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What it does.
    pub fn afn(&self) -> Afn {
        self.afn
    }

    /// PSEQ.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// What it asks for, in the order of the wire's identifiers.
    pub fn asks(&self) -> impl Iterator<Item = (Id, &[u8])> {
        self.asks.iter().map(|(id, data)| (*id, data.as_slice()))
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for unit in UnitId::covering(self.asks.keys().copied()) {
            body.extend_from_slice(&unit.wire());
            for id in unit.ids() {
                body.extend_from_slice(self.asks.get(&id).map(Vec::as_slice).unwrap_or_default());
            }
        }
        body
    }

    /// As a message.
    pub fn message(&self) -> Message {
        let mut seq = Seq::single(self.number);
        if self.confirm {
            seq = seq.to_confirm();
        }
        if self.tag.is_some() {
            seq = seq.with_time_tag();
        }
        Message {
            dialect: super::Dialect::Gdw376,
            control: self.control,
            address: self.address,
            afn: self.afn,
            seq,
            body: self.body(),
            password: self.afn.has_password().then_some(self.password),
            events: None,
            tag: self.tag,
        }
    }

    /// The bytes.
    pub fn wire(&self) -> Vec<u8> {
        // its length was checked when it was made
        self.message().frame().as_ref().map(Frame::wire).unwrap_or_default()
    }

    /// The functions that may answer.
    fn answered_by(&self, afn: Afn) -> bool {
        match self.afn {
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
        if !message.address.is_terminal_of(self.address) {
            return Err(Mismatch::Terminal(message.address));
        }
        if message.address.msa() != self.address.msa() {
            return Err(Mismatch::Master(message.address.msa()));
        }
        let (asked, found) = (self.number, message.seq.number());
        // the frames behind the first count on; who joins them has checked it
        if message.seq.is_first() && asked != found {
            return Err(Mismatch::Sequence { asked, found });
        }
        if !self.answered_by(message.afn) {
            let (asked, found) = (self.afn, message.afn);
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
        let missing = if self.afn == Afn::TASK || all {
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
                _ if self.afn == Afn::TASK => {}
                None => unasked.push(unit.id),
                Some(data) if !same_time(afn, data, unit) => return Err(Mismatch::Time(unit.id)),
                Some(_) => {}
            }
            // a list that came in several frames is one item in several units
            if !said.insert(unit.id) && afn != Afn::QUERY {
                return Err(Mismatch::Twice(unit.id));
            }
        }
        if unasked.is_empty() { Ok(said) } else { Err(Mismatch::Unasked(unasked)) }
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
                if *afn != self.afn {
                    let (asked, found) = (self.afn, *afn);
                    return Err(Mismatch::Function { asked, found });
                }
                let named: BTreeSet<Id> = items.iter().map(|(id, _)| *id).collect();
                let unasked: Vec<Id> = named.difference(asked).copied().collect();
                if !unasked.is_empty() {
                    return Err(Mismatch::Unasked(unasked));
                }
                if let Some((id, _)) = items.iter().enumerate().find_map(|(at, (id, _))| {
                    items.iter().skip(at + 1).any(|(other, _)| other == id).then_some((*id, ()))
                }) {
                    return Err(Mismatch::Twice(id));
                }
                let denied: Vec<(Id, u8)> = confirmation.denied().collect();
                let confirmed: Vec<Id> = items.iter().filter(|(_, error)| *error == 0).map(|(id, _)| *id).collect();
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
        return asked.zip(said).is_some_and(|((most, head), (points, theirs))| head == theirs && points <= most);
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
        self.units().next().map(|unit| forward::Answer::read(&unit.data)).transpose()
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

#[cfg(test)]
#[path = "request_tests.rs"]
pub(super) mod tests;
