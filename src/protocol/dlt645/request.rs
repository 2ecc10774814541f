//! One question to a meter, valid by construction.

mod fields;
mod parse;

pub use fields::{FreezeAt, Speed};
pub(super) use fields::{clock, clock_of};

use super::frame::{DATA_MAX, FRAME_MAX, PREAMBLE, PREAMBLES_MAX, open, preambles, seal};
use super::function::{Control, Di, Edition, Function};
use super::relay::{self, RELAY_1997};
use super::{Address, FrameError, Operator, Password, Security, bcd, items};
use chrono::{Datelike, NaiveDateTime};

/// The most follow-up frames of one answer; the sequence byte of 2007 counts to 255, an answer of so many frames would hold
/// the line for minutes.
pub const FOLLOW_UPS_MAX: usize = 64;

/// Preambles before a question (2007, 5.2.1).
const WAKE_UP: usize = 4;

/// The most data of a write (2007, 5.2.5: 50 in a question; blocks of some meters take more).
const WRITE_MAX: usize = 200;

/// One question to one meter, or to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    edition: Edition,
    address: Address,
    preambles: usize,
    body: Body,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Read data.
    Read {
        /// Which.
        di: Di,
        /// What stands behind the identifier: for a load profile the number of blocks and the time of the first.
        tail: Vec<u8>,
    },
    /// Read what did not fit into the frame before.
    Follow {
        /// Which data.
        di: Di,
        /// Which frame, 1 for the first behind the answer; not on the wire in 1997.
        seq: u8,
    },
    /// Read the address of the only meter on the line.
    ReadAddress,
    /// Write data.
    Write {
        /// Which.
        di: Di,
        /// Password and operator.
        security: Security,
        /// The data in clear, as on the wire.
        value: Vec<u8>,
    },
    /// Write the address of the only meter on the line.
    WriteAddress(Address),
    /// Freeze data.
    Freeze(FreezeAt),
    /// Change the speed of the line.
    Speed(Speed),
    /// Change a password.
    ChangePassword {
        /// Which (2007: 04000C01 to 04000C0A); none in 1997.
        di: Option<Di>,
        /// What opens it, the level as well.
        old: Password,
        /// What will.
        new: Password,
    },
    /// Set the clock of all, or of one meter; nobody answers.
    BroadcastTime(NaiveDateTime),
    /// Clear the maximum demand.
    ClearDemand(Security),
    /// Clear the meter.
    ClearMeter(Security),
    /// Clear event records.
    ClearEvents {
        /// Password and operator.
        security: Security,
        /// Which; FFFFFFFF for all.
        di: Di,
    },
    /// Move the relay; made in [`relay`] only.
    Relay(relay::Command),
}

/// Why something cannot be asked, or bytes are no question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The identifier is of the other edition.
    #[error("identifier {di} is not of DL/T 645-{}", year(*.edition))]
    Identifier {
        /// Which.
        di: Di,
        /// Of the question.
        edition: Edition,
    },
    /// The function does not exist in the edition.
    #[error("DL/T 645-{} cannot {}", year(*.edition), .function.name())]
    Function {
        /// Which.
        function: Function,
        /// Of the question.
        edition: Edition,
    },
    /// It is no function that is spoken.
    #[error("control byte {0:02X} asks for nothing that is spoken")]
    Control(u8),
    /// The data do not fit the function.
    #[error("{len} bytes of data do not fit: {}", .function.name())]
    Data {
        /// Which.
        function: Function,
        /// How many.
        len: usize,
    },
    /// A command to open or close a relay would go to more than one meter.
    #[error("address {0} is not one meter's; a relay moves in one meter at a time")]
    NotOneMeter(Address),
    /// An address that no meter can have.
    #[error("address {0} cannot be a meter's")]
    NewAddress(Address),
    /// A relay is moved by the relay's commands only.
    #[error("{0} moves the relay; a plain write does not")]
    RelayByWrite(Di),
    /// A relay action that does not exist there.
    #[error("relay action {0:02X} is not known here")]
    Action(u8),
    /// A time that cannot be said or does not exist.
    #[error("not a time of the years 2000 to 2099: {0}")]
    Time(String),
    /// A speed that does not exist.
    #[error("speed word {0:02X} is not known")]
    Speed(u8),
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

fn year(edition: Edition) -> u16 {
    match edition {
        Edition::E1997 => 1997,
        Edition::E2007 => 2007,
    }
}

impl Request {
    /// A read of one identifier.
    pub fn read(address: Address, di: Di) -> Self {
        Self {
            edition: di.edition(),
            address,
            preambles: WAKE_UP,
            body: Body::Read { di, tail: Vec::new() },
        }
    }

    /// The question who is on the line; 2007 only.
    pub fn read_address() -> Self {
        Self {
            edition: Edition::E2007,
            address: Address::ANYONE,
            preambles: WAKE_UP,
            body: Body::ReadAddress,
        }
    }

    /// Any question.
    ///
    /// # Errors
    /// [`RequestError`] where the edition cannot say it or the values are not valid.
    pub fn checked(edition: Edition, address: Address, body: Body) -> Result<Self, RequestError> {
        let function = body.function();
        if function.code(edition).is_none() && !matches!((&body, edition), (Body::Relay(_), Edition::E1997)) {
            return Err(RequestError::Function { function, edition });
        }
        let di = match &body {
            Body::Read { di, .. } | Body::Follow { di, .. } | Body::Write { di, .. } | Body::ClearEvents { di, .. } => {
                Some(*di)
            }
            Body::ChangePassword { di, .. } => {
                if di.is_some() != (edition == Edition::E2007) {
                    return Err(RequestError::Data { function, len: 0 });
                }
                *di
            }
            _ => None,
        };
        if let Some(di) = di.filter(|di| di.edition() != edition) {
            return Err(RequestError::Identifier { di, edition });
        }
        match &body {
            Body::Write { di, .. } if *di == RELAY_1997 => return Err(RequestError::RelayByWrite(*di)),
            Body::Write { value, .. } if value.is_empty() || value.len() > WRITE_MAX => {
                let len = value.len();
                return Err(RequestError::Data { function, len });
            }
            Body::Read { tail, .. } if tail.len() > 6 => {
                let len = tail.len();
                return Err(RequestError::Data { function, len });
            }
            Body::WriteAddress(new) if !new.is_meter() => return Err(RequestError::NewAddress(*new)),
            Body::Speed(Speed::B19200) if edition == Edition::E1997 => {
                return Err(RequestError::Function { function, edition });
            }
            Body::BroadcastTime(time) if !(2000..2100).contains(&time.year()) => {
                return Err(RequestError::Time(time.to_string()));
            }
            Body::Freeze(at) => at.check()?,
            _ => {}
        }
        Ok(Self {
            edition,
            address,
            preambles: WAKE_UP,
            body,
        })
    }

    /// The same with another number of preambles, at most 16.
    #[must_use]
    pub fn with_preambles(mut self, preambles: usize) -> Self {
        self.preambles = preambles.min(PREAMBLES_MAX);
        self
    }

    /// The edition.
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// To whom.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What is asked.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// How many preambles go before it.
    pub fn preambles(&self) -> usize {
        self.preambles
    }

    /// The function.
    pub fn function(&self) -> Function {
        self.body.function()
    }

    /// Bits D4 to D0 of question and answer. The relay of 1997 is moved by a write.
    pub(super) fn code(&self) -> u8 {
        let function = match (self.function(), self.edition) {
            (Function::Relay, Edition::E1997) => Function::Write,
            (function, _) => function,
        };
        // checked at construction
        function.code(self.edition).unwrap_or_default()
    }

    /// The identifier of what is read or written.
    pub fn di(&self) -> Option<Di> {
        match &self.body {
            Body::Read { di, .. } | Body::Follow { di, .. } | Body::Write { di, .. } | Body::ClearEvents { di, .. } => {
                Some(*di)
            }
            _ => None,
        }
    }

    /// Address, edition and function: what every answer and every refusal says.
    pub fn kin(&self) -> u64 {
        let edition = match self.edition {
            Edition::E1997 => 0,
            Edition::E2007 => 1,
        };
        self.address.number() << 16 | edition << 8 | u64::from(self.code())
    }

    /// Identifier and sequence byte, which every answer of a read says.
    pub fn subject(&self) -> u64 {
        match &self.body {
            Body::Read { di, .. } => u64::from(di.number()),
            Body::Follow { di, seq } => u64::from(*seq) << 32 | u64::from(di.number()),
            _ => 0,
        }
    }

    /// Whether anybody answers: not to a broadcast, and not to a time.
    pub fn expects_answer(&self) -> bool {
        self.address != Address::BROADCAST && !matches!(self.body, Body::BroadcastTime(_))
    }

    /// The data in clear.
    pub fn data(&self) -> Vec<u8> {
        let mut data = Vec::new();
        match &self.body {
            Body::Read { di, tail } => {
                di.push_to(&mut data);
                data.extend_from_slice(tail);
            }
            Body::Follow { di, seq } => {
                di.push_to(&mut data);
                if self.edition == Edition::E2007 {
                    data.push(*seq);
                }
            }
            Body::ReadAddress => {}
            Body::Write { di, security, value } => {
                di.push_to(&mut data);
                self.push_security(&mut data, *security);
                data.extend_from_slice(value);
            }
            Body::WriteAddress(new) => data.extend_from_slice(&new.wire()),
            Body::Freeze(at) => data.extend_from_slice(&at.wire()),
            Body::Speed(speed) => data.push(speed.word(self.edition)),
            Body::ChangePassword { di, old, new } => {
                if let Some(di) = di {
                    di.push_to(&mut data);
                }
                data.extend_from_slice(&old.wire());
                data.extend_from_slice(&new.wire());
            }
            Body::BroadcastTime(time) => data.extend_from_slice(&clock(*time)),
            Body::ClearDemand(security) | Body::ClearMeter(security) => self.push_security(&mut data, *security),
            Body::ClearEvents { security, di } => {
                self.push_security(&mut data, *security);
                di.push_to(&mut data);
            }
            Body::Relay(command) => data = command.data(self.edition),
        }
        data
    }

    fn push_security(&self, data: &mut Vec<u8>, security: Security) {
        data.extend_from_slice(&security.password.wire());
        if self.edition == Edition::E2007 {
            data.extend_from_slice(&security.operator.wire());
        }
    }

    /// The frame without preambles.
    pub fn frame(&self) -> Vec<u8> {
        seal(self.address, Control(self.code()), &self.data())
    }

    /// The bytes for a line: preambles and frame.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire = vec![PREAMBLE; self.preambles];
        wire.extend(self.frame());
        wire
    }

    /// The most bytes that one frame of the answer can have.
    pub fn answer_len_max(&self) -> usize {
        let data = match &self.body {
            _ if !self.expects_answer() => return 0,
            // what is not in the table may be anything
            Body::Read { di, tail } if tail.is_empty() => {
                items::data_len(*di).map_or(DATA_MAX, |len| len + self.edition.di_len())
            }
            Body::Read { .. } | Body::Follow { .. } => DATA_MAX,
            _ => 8,
        };
        (FRAME_MAX - DATA_MAX) + data.min(DATA_MAX) + WAKE_UP
    }

    /// Takes a question apart, preambles allowed.
    ///
    /// # Errors
    /// [`RequestError`] when the bytes are no frame or no question of this edition that is spoken here.
    pub fn parse(edition: Edition, bytes: &[u8]) -> Result<Self, RequestError> {
        let view = open(bytes)?;
        let control = view.control;
        let function = Function::by_code(edition, control.code()).filter(|_| !control.is_answer());
        let function = function.ok_or(RequestError::Control(control.0))?;
        let body = parse::body(edition, function, &view.data())?;
        let request = match body {
            // its address was checked when it was made; on a line anything may be heard
            Body::Relay(_) => Self {
                edition,
                address: view.address,
                preambles: 0,
                body,
            },
            body => Self::checked(edition, view.address, body)?,
        };
        Ok(request.with_preambles(preambles(bytes)))
    }
}

impl Body {
    /// The function.
    pub fn function(&self) -> Function {
        match self {
            Self::Read { .. } => Function::Read,
            Self::Follow { .. } => Function::ReadFollow,
            Self::ReadAddress => Function::ReadAddress,
            Self::Write { .. } => Function::Write,
            Self::WriteAddress(_) => Function::WriteAddress,
            Self::Freeze(_) => Function::Freeze,
            Self::Speed(_) => Function::Speed,
            Self::ChangePassword { .. } => Function::Password,
            Self::BroadcastTime(_) => Function::BroadcastTime,
            Self::ClearDemand(_) => Function::ClearDemand,
            Self::ClearMeter(_) => Function::ClearMeter,
            Self::ClearEvents { .. } => Function::ClearEvents,
            Self::Relay(_) => Function::Relay,
        }
    }
}

impl Security {
    /// Takes password and operator of 2007 off the front.
    pub(super) fn split(data: &[u8]) -> Option<(Self, &[u8])> {
        let (password, rest) = data.split_first_chunk::<4>()?;
        let (operator, rest) = rest.split_first_chunk::<4>()?;
        let security = Self {
            password: Password::from_wire(*password),
            operator: Operator::from_wire(*operator),
        };
        Some((security, rest))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
pub(crate) mod tests;
