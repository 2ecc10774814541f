//! One question of a master station. What its answer says is read in `answer.rs`.

use super::afn::Afn;
use super::archive::{self, ArchiveMeter};
use super::control::{Control, Seq};
use super::format::{Format, Value};
use super::forward::{self, ForwardError, Kind};
use super::frame::DATA_MAX;
use super::layout::Curve;
use super::message::{Message, Password, TimeTag};
use super::point::{Fn, Id, Pn, UnitId};
use super::{Address, Frame};
use chrono::{NaiveDate, NaiveDateTime};
use std::collections::BTreeMap;

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
    pub(super) asks: BTreeMap<Id, Vec<u8>>,
    password: Password,
    tag: Option<TimeTag>,
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
    pub(super) fn any(address: Address, afn: Afn, asks: impl IntoIterator<Item = Ask>) -> Result<Self, RequestError> {
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
        let data = Format::A1
            .write(&Value::Time(local))
            .ok_or(RequestError::Clock(local))?;
        let id = Id::terminal(Fn::of(31));
        Self::new(address, Afn::CONTROL, [Ask { id, data }])
    }

    /// Passes a meter's own frame on.
    ///
    /// # Errors
    /// [`RequestError`]: the frame moves a relay, or is none that is known here.
    pub fn forward(address: Address, question: &forward::Question) -> Result<Self, RequestError> {
        let data = question.write()?;
        Self::new(
            address,
            Afn::FORWARD,
            [Ask {
                id: Id::terminal(Fn::F1),
                data,
            }],
        )
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

    /// The same question to another terminal.
    #[must_use]
    pub fn to_terminal(self, address: Address) -> Self {
        Self { address, ..self }
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
}

#[cfg(test)]
#[path = "request_tests.rs"]
pub(super) mod tests;
