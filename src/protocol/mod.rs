//! Floor 1: one folder per standard. Pure codecs: bytes in, frames out. No domain, no I/O, no clock, no logging.
//!
//! What all protocols share is small: a [`Request`] that can be written to a line and that can tell its answer from
//! everything else a line may carry ([`Request::find`]).

pub mod cjt188;
pub mod dtu;
pub mod explain;
pub mod modbus;

use std::fmt;
use std::ops::Range;

/// The protocols, by the names that the command line, the API and meter models use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Modbus RTU on a line.
    ModbusRtu,
    /// Modbus TCP to a gateway or meter that we dial.
    ModbusTcp,
}

impl Protocol {
    /// Every protocol that is built in.
    pub const ALL: &'static [Self] = &[Self::ModbusRtu, Self::ModbusTcp];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ModbusRtu => "modbus-rtu",
            Self::ModbusTcp => "modbus-tcp",
        }
    }

    /// Finds a protocol by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|p| p.name() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One question for a line, with all that is needed to know its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Modbus, as an RTU frame on a line or as a PDU through a Modbus TCP client.
    Modbus(modbus::Request),
}

/// What a look into the bytes of a transaction's window found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No whole frame yet. The first `noise` bytes cannot begin one and may be dropped (recorded as noise).
    NeedMore {
        /// Bytes at the front that cannot belong to a frame.
        noise: usize,
    },
    /// A whole, valid frame; what stands before `span.start` is noise.
    Frame {
        /// Where it stands in the buffer.
        span: Range<usize>,
        /// What it is to this request.
        verdict: Verdict,
    },
}

/// What a valid frame is to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer.
    Answer,
    /// The device's refusal of this request (an exception); the code in the protocol's own numbering.
    Refused(u8),
    /// The request itself, as some RS-485 adapters echo it. Skipped once.
    Echo,
    /// A valid frame that answers something else: a stray.
    Foreign,
}

/// What the outside of an answer tells of its question. Two questions of one shape cannot be told apart by their
/// answers; a refusal tells no more than its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Device and function, as far as every answer and every refusal says them.
    pub kin: u64,
    /// Length of the answer, bytes.
    pub length: usize,
}

impl Request {
    /// The shape of this question's answer. For Modbus: unit, function and length.
    pub fn shape(&self) -> Shape {
        let kin = match self {
            Self::Modbus(request) => u64::from(request.unit()) << 8 | u64::from(request.function().code()),
        };
        Shape {
            kin,
            length: self.answer_len_max(),
        }
    }

    /// The protocol on the wire.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Modbus(_) => Protocol::ModbusRtu,
        }
    }

    /// The bytes for a line.
    pub fn wire(&self) -> Vec<u8> {
        match self {
            Self::Modbus(request) => request.wire(),
        }
    }

    /// Looks for the first whole frame in `buffer` and judges it. Never answers with a frame that does not match
    /// address, function or identifier, and length.
    pub fn find(&self, buffer: &[u8]) -> Finding {
        match self {
            Self::Modbus(request) => request.find(buffer),
        }
    }

    /// The same when nothing more will come (the deadline is past): what might have grown into an answer holds nothing
    /// back any more, so that strays behind it are named as such.
    pub fn find_last(&self, buffer: &[u8]) -> Finding {
        match self {
            Self::Modbus(request) => request.find_last(buffer),
        }
    }

    /// What has to be asked next to have the answer whole, given all answer frames so far, one behind the other. None
    /// when the answer is whole, or when `answers` cannot be read. The line asks it in the same visit, nobody else's
    /// question between, and gives all frames in order as the question's one answer. `self` is always the question that
    /// was planned, never a follow-up of it.
    pub fn follow_up(&self, answers: &[u8]) -> Option<Self> {
        match self {
            Self::Modbus(_) => {
                let _whole = answers;
                None
            }
        }
    }

    /// The most bytes that the answer frame can have, for time-out and buffer planning; 0 when the question has none (a
    /// broadcast): it is done when its bytes are out.
    pub fn answer_len_max(&self) -> usize {
        match self {
            Self::Modbus(request) => request.answer_len_max(),
        }
    }
}
