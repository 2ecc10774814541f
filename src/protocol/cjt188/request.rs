//! One question to a meter, and what its answer says.

use super::frame::{Control, FRAME_MAX, Frame, FrameError, Function, OVERHEAD, PREAMBLE_MAX};
use super::value::{self, ValueError};
use super::{Address, DataId, DiOrder, MeterType};
use chrono::NaiveDateTime;
use serde::Serialize;

/// The most data bytes of a read's answer and of a write (CJ/T 188-2004, 5.2.4).
const READ_DATA_MAX: u8 = 0x64;
const WRITE_DATA_MAX: u8 = 0x32;
/// Data identifier and serial number.
const DI_SER: usize = 3;

/// Whom a question goes to, and what the meter there expects of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The meter type in the question.
    pub meter_type: MeterType,
    /// The meter, or wildcards.
    pub address: Address,
    /// Which byte of the data identifier comes first.
    pub order: DiOrder,
    /// The serial number SER of the question; a meter repeats it.
    pub ser: u8,
    /// FE bytes before the question, at most 16; battery meters wake up by them.
    pub preamble: u8,
    /// What of the question the answer need not repeat.
    pub lenient: Leniency,
}

/// What an answer need not repeat exactly, for meters that do not. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Leniency {
    /// Another serial number is taken.
    pub ser: bool,
    /// The data identifier's bytes may stand the other way round.
    pub di_order: bool,
    /// Another meter type is taken.
    pub meter_type: bool,
}

impl Target {
    /// A meter as the standard of 2004 has it: identifier high byte first, serial number 0, four FE.
    pub fn new(meter_type: MeterType, address: Address) -> Self {
        Self {
            meter_type,
            address,
            order: DiOrder::HighFirst,
            ser: 0,
            preamble: 4,
            lenient: Leniency::default(),
        }
    }

    /// Whether a meter of this type may answer.
    pub(super) fn takes(&self, theirs: MeterType) -> bool {
        self.meter_type == theirs
            || ((self.meter_type == MeterType::ANY || self.lenient.meter_type) && theirs.is_known())
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    target: Target,
    function: Function,
    di: DataId,
    data: Vec<u8>,
    longest: u8,
}

/// Why something cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too many data.
    #[error("{count} bytes to write; {max} at most")]
    Length {
        /// How many.
        count: usize,
        /// The most.
        max: usize,
    },
    /// The valve's identifier, in either byte order.
    #[error("{0} moves the valve; only the relay room makes such frames")]
    Valve(DataId),
    /// No frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame, but no question.
    #[error("control {0:02X} is no question that is asked")]
    NotAQuestion(u8),
    /// A clock cannot be set to it.
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// What a meter answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who says it is.
    pub meter_type: MeterType,
    /// Its own address, also where the question had wildcards.
    pub address: Address,
    /// What stands behind identifier and serial number.
    pub data: Vec<u8>,
}

/// Why a frame says nothing to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A valid frame that answers something else.
    #[error("a frame of meter {address} with control {control:02X}, which answers another question")]
    Foreign {
        /// Whose.
        address: Address,
        /// Its control byte.
        control: u8,
    },
    /// The meter refuses.
    #[error("the meter refuses with status {0:02X}")]
    Refused(u8),
}

impl Request {
    /// Reads a data identifier.
    pub fn read(target: Target, di: DataId) -> Self {
        let function = match di {
            DataId::KEY_VERSION => Function::ReadKeyVersion,
            _ => Function::Read,
        };
        Self {
            target,
            function,
            di,
            data: Vec::new(),
            longest: READ_DATA_MAX,
        }
    }

    /// Asks a meter for its address: with [`Address::ANY`] the only meter of a line.
    pub fn read_address(target: Target) -> Self {
        Self {
            target,
            function: Function::ReadAddress,
            di: DataId::READ_ADDRESS,
            data: Vec::new(),
            longest: READ_DATA_MAX,
        }
    }

    /// Writes a meter's address.
    pub fn write_address(target: Target, new: Address) -> Self {
        Self {
            target,
            function: Function::WriteAddress,
            di: DataId::WRITE_ADDRESS,
            data: new.0.to_vec(),
            longest: READ_DATA_MAX,
        }
    }

    /// Sets the meter's clock: local time, whole seconds.
    ///
    /// # Errors
    /// [`RequestError::Value`] for a year of other than four digits.
    pub fn write_clock(target: Target, local: NaiveDateTime) -> Result<Self, RequestError> {
        let data = value::to_time(local)?.to_vec();
        Self::write(target, DataId::WRITE_CLOCK, data)
    }

    /// Writes anything but the valve.
    ///
    /// # Errors
    /// [`RequestError`] for too many data, and for the valve's identifier.
    pub fn write(target: Target, di: DataId, data: Vec<u8>) -> Result<Self, RequestError> {
        if [di.0, di.0.swap_bytes()].contains(&DataId::VALVE.0) {
            return Err(RequestError::Valve(di));
        }
        let (count, max) = (data.len(), usize::from(WRITE_DATA_MAX) - DI_SER);
        if count > max {
            return Err(RequestError::Length { count, max });
        }
        Ok(Self {
            target,
            function: Function::Write,
            di,
            data,
            longest: READ_DATA_MAX,
        })
    }

    /// Any write, for [`super::valve`].
    pub(super) fn write_valve(target: Target, command: u8) -> Self {
        Self {
            target,
            function: Function::Write,
            di: DataId::VALVE,
            data: vec![command],
            longest: READ_DATA_MAX,
        }
    }

    /// Takes answers of at most so many data bytes (identifier and serial number among them); 100 otherwise, by the
    /// standard.
    #[must_use]
    pub fn with_longest(mut self, longest: u8) -> Self {
        self.longest = longest;
        self
    }

    /// Takes answers as leniently as a meter model wants it.
    #[must_use]
    pub fn with_lenient(mut self, lenient: Leniency) -> Self {
        self.target.lenient = lenient;
        self
    }

    /// Whom it goes to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What it does.
    pub fn function(&self) -> Function {
        self.function
    }

    /// What it asks for.
    pub fn di(&self) -> DataId {
        self.di
    }

    /// The bytes for a line, preamble and all.
    pub fn wire(&self) -> Vec<u8> {
        let mut data = self.di.wire(self.target.order).to_vec();
        data.push(self.target.ser);
        data.extend_from_slice(&self.data);
        // at most 50 bytes, see `write`
        Frame::new(
            self.target.meter_type,
            self.target.address,
            Control::ask(self.function),
            data,
        )
        .map(|frame| frame.wire(self.target.preamble))
        .unwrap_or_default()
    }

    /// The most bytes that the answer can have, with its preamble.
    pub fn answer_len_max(&self) -> usize {
        (PREAMBLE_MAX + OVERHEAD + usize::from(self.longest)).min(FRAME_MAX)
    }

    /// The most data bytes of the answer, identifier and serial number among them.
    pub fn longest(&self) -> u8 {
        self.longest
    }

    /// What every answer and every refusal repeats of the question: type, address, function and serial number, as one
    /// number. Questions with different ones may, rarely, have the same number; a meter that need not repeat the serial
    /// number is as if all its questions had the same.
    pub fn kin(&self) -> u64 {
        let ser = if self.target.lenient.ser { 0 } else { self.target.ser };
        let tail = [self.target.meter_type.0, self.function.code(), ser];
        // FNV-1a, 64 bits: kept by nobody, so any even spread will do
        self.target
            .address
            .0
            .iter()
            .chain(&tail)
            .fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
            })
    }

    /// What every answer, but no refusal, repeats besides: the identifier.
    pub fn subject(&self) -> u64 {
        self.di.0.into()
    }

    /// Reads a whole question, preamble and all, as it was recorded. Nothing is lenient.
    ///
    /// # Errors
    /// [`RequestError`]: no frame, an answer, a function that nobody asks for, or one that moves the valve.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let frame = Frame::parse(bytes)?;
        let not = RequestError::NotAQuestion(frame.control.0);
        let function = frame
            .control
            .function()
            .filter(|_| !frame.control.is_from_meter())
            .ok_or(not)?;
        let Some(([first, second, ser], data)) = frame.data().split_first_chunk::<DI_SER>() else {
            return Err(not);
        };
        let (di, order) = DataId::guess([*first, *second]);
        let preamble = u8::try_from(super::frame::preamble(bytes)).unwrap_or(u8::MAX);
        let target = Target {
            order,
            ser: *ser,
            preamble,
            ..Target::new(frame.meter_type, frame.address)
        };
        match function {
            Function::Write => Self::write(target, di, data.to_vec()),
            _ => Ok(Self {
                target,
                function,
                di,
                data: data.to_vec(),
                longest: READ_DATA_MAX,
            }),
        }
    }

    /// Reads a whole frame as the answer.
    ///
    /// # Errors
    /// [`AnswerError`]: no frame, another's, or a refusal.
    pub fn answer(&self, bytes: &[u8]) -> Result<Answer, AnswerError> {
        let frame = Frame::parse(bytes)?;
        let foreign = AnswerError::Foreign {
            address: frame.address,
            control: frame.control.0,
        };
        if !self.is_from_target(&frame) {
            return Err(foreign);
        }
        if frame.control == Control::refused(self.function) {
            return Err(self.refusal(frame.data()).map_or(foreign, AnswerError::Refused));
        }
        let repeats = frame
            .data()
            .split_first_chunk::<DI_SER>()
            .filter(|(head, _)| self.repeated_in(head.as_slice()));
        let Some((_, data)) = repeats.filter(|_| frame.control == Control::answered(self.function)) else {
            return Err(foreign);
        };
        if frame.data().len() > usize::from(self.longest) {
            return Err(foreign);
        }
        Ok(Answer {
            meter_type: frame.meter_type,
            address: frame.address,
            data: data.to_vec(),
        })
    }

    /// Whether type and address are those that were asked.
    fn is_from_target(&self, frame: &Frame) -> bool {
        self.target.takes(frame.meter_type) && self.target.address.calls(&frame.address)
    }

    /// Whether the beginning of an answer's data may be, or is, the identifier and serial number of the question.
    pub(super) fn repeated_in(&self, data: &[u8]) -> bool {
        let target = &self.target;
        let starts = |order: DiOrder| {
            let [first, second] = self.di.wire(order);
            let mut bytes = data.iter();
            bytes.next().is_none_or(|byte| *byte == first)
                && bytes.next().is_none_or(|byte| *byte == second)
                && bytes
                    .next()
                    .is_none_or(|byte| target.lenient.ser || *byte == target.ser)
        };
        starts(target.order) || (target.lenient.di_order && starts(target.order.other()))
    }

    /// The low status byte of a refusal's data; none where they belong to another question. The standard sends serial
    /// number and status; some meters repeat the identifier before them, with or without status, or send less.
    pub(super) fn refusal(&self, data: &[u8]) -> Option<u8> {
        match data {
            [] => Some(0),
            [status] => Some(*status),
            [ser, status, ..] if data.len() <= DI_SER && (self.target.lenient.ser || *ser == self.target.ser) => {
                Some(*status)
            }
            [_, _, _] if self.repeated_in(data) => Some(0),
            [_, _, _, status, ..] if data.len() <= 5 && self.repeated_in(data) => Some(*status),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
pub(super) mod tests;
