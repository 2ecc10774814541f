//! What a frame says: application function, sequence, data units, and the auxiliary fields at its end
//! (Q/GDW 1376.1-2013, 6).
//!
//! ```text
//! AFN SEQ | DA DT data  DA DT data .. | PW (16, of a master that changes something)
//!                                     | EC (2, of a terminal whose ACD is set)   Tp (6, where TpV is set)
//! ```

use super::Address;
use super::afn::Afn;
use super::control::{Control, Seq};
use super::format::{Format, Moment, Value, ValueError};
use super::frame::{Dialect, Frame};
use super::items::{Edition, Way, layout};
use super::layout::{LayoutError, Reading};
use super::point::{Id, UnitId, UnitIdError};
use crate::base::bytes::{Reader, ShortRead};
use chrono::{NaiveDateTime, NaiveTime};
use std::fmt;

/// The most data units that one frame is read as.
pub const UNITS_MAX: usize = 16_384;

/// The message authentication PW: by scheme of the terminal a password, a sum or a MAC. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(pub [u8; 16]);

impl Password {
    /// Zeros, as terminals without authentication have it.
    pub const ZERO: Self = Self([0; 16]);
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// EC: how many events of each kind the terminal has counted, modulo 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventCounters {
    /// EC1.
    pub important: u8,
    /// EC2.
    pub ordinary: u8,
}

/// How a counter of events moved between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Not at all.
    None,
    /// By so many new events.
    By(u8),
    /// Backwards, or by more than half its range: the terminal was reset, or another one speaks. Its records are to be
    /// read anew, not counted on.
    Jump {
        /// It was.
        before: u8,
        /// It is.
        after: u8,
    },
}

/// How a counter moved.
pub fn advance(before: u8, after: u8) -> Advance {
    match after.wrapping_sub(before) {
        0 => Advance::None,
        by @ 1..=127 => Advance::By(by),
        _ => Advance::Jump { before, after },
    }
}

/// Tp: when the frame was sent, and how long it may have been under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeTag {
    /// PFC, the counter of frames that began a dialogue.
    pub counter: u8,
    sent: [u8; 4],
    /// How many minutes it may be old; 0: any age.
    pub delay_min: u8,
}

impl TimeTag {
    /// A tag; none for a time that the format does not hold.
    pub fn new(counter: u8, sent: NaiveDateTime, delay_min: u8) -> Option<Self> {
        use chrono::{Datelike, Timelike};
        let time = NaiveTime::from_hms_opt(sent.hour(), sent.minute(), sent.second())?;
        let day = u8::try_from(sent.day()).ok()?;
        let moment = Moment { month: None, day, time };
        let sent = Format::A16.write(&Value::Moment(moment))?.try_into().ok()?;
        Some(Self {
            counter,
            sent,
            delay_min,
        })
    }

    /// When the frame was sent: day of the month and time. No value where the sender left it empty.
    ///
    /// # Errors
    /// [`ValueError`] for digits that are no time.
    pub fn sent(&self) -> Result<Value, ValueError> {
        Format::A16.read(&self.sent)
    }

    fn wire(&self) -> [u8; 6] {
        let [ss, mm, hh, day] = self.sent;
        [self.counter, ss, mm, hh, day, self.delay_min]
    }

    fn from_wire([counter, ss, mm, hh, day, delay_min]: [u8; 6]) -> Self {
        Self {
            counter,
            sent: [ss, mm, hh, day],
            delay_min,
        }
    }
}

/// A frame, read as a message or as one part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The family of standards.
    pub dialect: Dialect,
    /// Control field.
    pub control: Control,
    /// Address field.
    pub address: Address,
    /// Application function.
    pub afn: Afn,
    /// Sequence field.
    pub seq: Seq,
    /// The data units, one behind the other.
    pub body: Vec<u8>,
    /// PW.
    pub password: Option<Password>,
    /// EC.
    pub events: Option<EventCounters>,
    /// Tp.
    pub tag: Option<TimeTag>,
}

/// Why a frame is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The auxiliary fields that its flags announce are more than there is.
    #[error("{have} bytes behind function and sequence; the auxiliary fields alone need {need}")]
    Auxiliary {
        /// How many there are.
        have: usize,
        /// How many the fields need.
        need: usize,
    },
    /// Not even function and sequence.
    #[error("{0} bytes of data; function and sequence are two")]
    Short(usize),
}

/// One data unit of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// What it is of.
    pub id: Id,
    /// Its bytes, the time stamp among them.
    pub data: Vec<u8>,
    /// The first of its bytes in the body.
    pub start: usize,
    /// Its values; none where the layout is not known.
    pub reading: Option<Reading>,
}

/// Why data cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The identifier is cut off.
    #[error("the identifier of a data unit is cut off: {0}")]
    Short(#[from] ShortRead),
    /// The identifier names nothing.
    #[error(transparent)]
    Id(#[from] UnitIdError),
    /// The data of an item are not as they should be.
    #[error("{id}: {error}")]
    Layout {
        /// Which.
        id: Id,
        /// What is wrong.
        error: LayoutError,
    },
    /// More follows behind an item whose length is not known.
    #[error("how long {0} is is not known, and more follows behind it")]
    Unknown(Id),
    /// More units than are read.
    #[error("more than {UNITS_MAX} data units in one frame")]
    Many,
}

impl Message {
    /// Reads a frame's data.
    ///
    /// # Errors
    /// [`MessageError`] where they are too few.
    pub fn of(frame: &Frame) -> Result<Self, MessageError> {
        let Some(([afn, seq], rest)) = frame.data().split_first_chunk::<2>() else {
            return Err(MessageError::Short(frame.data().len()));
        };
        let (afn, seq) = (Afn(*afn), Seq(*seq));
        let from_terminal = frame.control.is_from_terminal();
        let password = match frame.dialect {
            _ if from_terminal || !afn.has_password() => 0,
            // Q/GDW 130: two bytes, which stand in the first two of the sixteen
            Dialect::Gdw130 => 2,
            _ => 16,
        };
        let events = if frame.control.has_events() { 2 } else { 0 };
        let tag = if seq.has_time_tag() { 6 } else { 0 };
        let (have, need) = (rest.len(), password + events + tag);
        let (body, fields) = rest
            .split_at_checked(have.wrapping_sub(need))
            .ok_or(MessageError::Auxiliary { have, need })?;
        let mut reader = Reader::new(fields);
        let mut message = Self {
            dialect: frame.dialect,
            control: frame.control,
            address: frame.address,
            afn,
            seq,
            body: body.to_vec(),
            password: None,
            events: None,
            tag: None,
        };
        let short = |_: ShortRead| MessageError::Auxiliary { have, need };
        if password > 0 {
            let mut bytes = [0; 16];
            for (to, from) in bytes.iter_mut().zip(reader.take(password).map_err(short)?) {
                *to = *from;
            }
            message.password = Some(Password(bytes));
        }
        if events > 0 {
            let [important, ordinary] = reader.array().map_err(short)?;
            message.events = Some(EventCounters { important, ordinary });
        }
        if tag > 0 {
            message.tag = Some(TimeTag::from_wire(reader.array().map_err(short)?));
        }
        Ok(message)
    }

    /// The frame; none where the data are too many. Fields that the flags do not announce are left out, and fields that
    /// they announce and that are missing are zeros.
    pub fn frame(&self) -> Option<Frame> {
        let mut data = vec![self.afn.0, self.seq.0];
        data.extend_from_slice(&self.body);
        if !self.control.is_from_terminal() && self.afn.has_password() {
            let length = if self.dialect == Dialect::Gdw130 { 2 } else { 16 };
            let Password(bytes) = self.password.unwrap_or(Password::ZERO);
            data.extend_from_slice(bytes.get(..length).unwrap_or_default());
        }
        if self.control.has_events() {
            let events = self.events.map_or([0; 2], |events| [events.important, events.ordinary]);
            data.extend_from_slice(&events);
        }
        if self.seq.has_time_tag() {
            data.extend_from_slice(&self.tag.map_or([0; 6], |tag| tag.wire()));
        }
        Some(Frame::new(self.control, self.address, data)?.in_dialect(self.dialect))
    }

    /// Which way it goes.
    pub fn way(&self) -> Way {
        if self.control.is_from_terminal() {
            Way::Up
        } else {
            Way::Down
        }
    }

    /// Its data units in order, each with its values where the layout is known.
    ///
    /// # Errors
    /// [`UnitError`]: nothing is given then, for behind a fault no byte's place is sure.
    pub fn units(&self, edition: Edition) -> Result<Vec<Unit>, UnitError> {
        let mut reader = Reader::new(&self.body);
        let mut units = Vec::new();
        while !reader.is_empty() {
            let mut ids = UnitId::parse(reader.array()?)?.ids().peekable();
            while let Some(id) = ids.next() {
                if units.len() >= UNITS_MAX {
                    return Err(UnitError::Many);
                }
                let start = reader.offset();
                let layout = layout(self.afn, id.item, self.way(), edition);
                // a question for data of the past holds their stamp and nothing else
                let reading = match layout.and_then(|layout| layout.read(&mut reader)) {
                    Some(Ok(reading)) => Some(reading),
                    Some(Err(error)) => return Err(UnitError::Layout { id, error }),
                    None if ids.peek().is_some() => return Err(UnitError::Unknown(id)),
                    None => {
                        let left = reader.rest().len();
                        reader.take(left)?;
                        None
                    }
                };
                let data = self.body.get(start..reader.offset()).unwrap_or_default().to_vec();
                units.push(Unit {
                    id,
                    data,
                    start,
                    reading,
                });
            }
        }
        Ok(units)
    }

    /// The first identifier, for frames that have one only.
    pub fn first_id(&self) -> Option<Id> {
        let head = self.body.first_chunk::<4>()?;
        UnitId::parse(*head).ok()?.ids().next()
    }

    /// The bytes behind the first identifier.
    pub fn first_data(&self) -> &[u8] {
        self.body.get(4..).unwrap_or_default()
    }

    /// What a terminal says of its own accord about the link: login, logout, heartbeat.
    pub fn link(&self) -> Option<Link> {
        if self.afn != Afn::LINK || !self.control.is_from_terminal() || !self.control.is_primary() {
            return None;
        }
        match self.first_id()?.item.number() {
            1 => Some(Link::Login),
            2 => Some(Link::Logout),
            3 => Some(Link::Heartbeat),
            _ => None,
        }
    }
}

/// What a terminal says about the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// F1: it is there.
    Login,
    /// F2: it goes.
    Logout,
    /// F3: it still is.
    Heartbeat,
}

impl Link {
    /// Its item.
    pub(super) fn item(self) -> super::Fn {
        match self {
            Self::Login => super::Fn::F1,
            Self::Logout => super::Fn::F2,
            Self::Heartbeat => super::Fn::F3,
        }
    }
}
