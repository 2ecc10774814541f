//! Floor 1: one folder per standard. Pure codecs: bytes in, frames out. No domain, no I/O, no clock, no logging.
//!
//! What all protocols share is small: a [`Request`] that can be written to a line and that can tell its answer from
//! everything else a line may carry ([`Request::find`]).

pub mod cjt188;
pub mod dlt645;
pub mod dlt698;
pub mod dtu;
pub mod explain;
pub mod gdw376;
pub mod mbus;
pub mod modbus;
pub mod sms;

use std::fmt;
use std::ops::Range;

/// The protocols, by the names that the command line, the API and meter models use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Modbus RTU on a line.
    ModbusRtu,
    /// Modbus TCP to a gateway or meter that we dial.
    ModbusTcp,
    /// DL/T 645-2007 on a line.
    Dlt645_2007,
    /// DL/T 645-1997 on a line.
    Dlt645_1997,
    /// Wired M-Bus, EN 13757-2 and -3.
    Mbus,
    /// CJ/T 188-2004 and -2018 on a line: water, heat and gas meters.
    Cjt188,
    /// Q/GDW 1376.1 of concentrators: not of a line, spoken on the connection itself.
    Gdw376,
    /// DL/T 698.45 of concentrators and meters.
    Dlt698,
}

impl Protocol {
    /// Every protocol that is built in.
    pub const ALL: &'static [Self] = &[
        Self::ModbusRtu,
        Self::ModbusTcp,
        Self::Dlt645_2007,
        Self::Dlt645_1997,
        Self::Mbus,
        Self::Cjt188,
        Self::Gdw376,
        Self::Dlt698,
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ModbusRtu => "modbus-rtu",
            Self::ModbusTcp => "modbus-tcp",
            Self::Dlt645_2007 => "dlt645-2007",
            Self::Dlt645_1997 => "dlt645-1997",
            Self::Mbus => "mbus",
            Self::Cjt188 => "cjt188",
            Self::Gdw376 => "gdw376.1",
            Self::Dlt698 => "dlt698.45",
        }
    }

    /// What a refusal ([`Verdict::Refused`]) says, in the protocol's words and with its code.
    pub fn refusal(self, code: u8) -> String {
        let word = |edition| dlt645::ErrorWord { edition, bits: code }.to_string();
        match self {
            Self::ModbusRtu | Self::ModbusTcp => format!("{} (exception {code})", modbus::exception_name(code)),
            Self::Dlt645_2007 => word(dlt645::Edition::E2007),
            Self::Dlt645_1997 => word(dlt645::Edition::E1997),
            Self::Mbus => format!("{} (application error {code})", mbus::error_name(code)),
            Self::Cjt188 => format!("not done (status {code:02X})"),
            Self::Gdw376 if code == gdw376::ABSENT => "not in the concentrator's answer".to_owned(),
            Self::Gdw376 => format!("denied (code {code:02X})"),
            Self::Dlt698 => dlt698::Refusal::of_code(code).to_string(),
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
    /// DL/T 645 of either edition.
    Dlt645(dlt645::Request),
    /// M-Bus.
    Mbus(mbus::Request),
    /// CJ/T 188.
    Cjt188(cjt188::Request),
    /// Q/GDW 1376.1: of one measuring point behind a concentrator; for the connection, not for a line.
    Gdw376(gdw376::Request),
    /// DL/T 698.45: of a meter, on a line or behind a terminal that passes it on.
    Dlt698(dlt698::Request),
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
    /// What every answer, but no refusal, says of its question besides; 0 where it says nothing. For DL/T 645 and
    /// CJ/T 188 the data identifier and, of a follow-up, its sequence byte.
    pub subject: u64,
}

impl Request {
    /// The shape of this question's answer. For Modbus: unit, function and length. For DL/T 645: address, function and
    /// identifier. For M-Bus: address, and of a selected meter its number. For CJ/T 188: type, address, function, serial
    /// number and identifier.
    pub fn shape(&self) -> Shape {
        let (kin, subject) = match self {
            Self::Modbus(request) => {
                let kin = u64::from(request.unit()) << 8 | u64::from(request.function().code());
                (kin, 0)
            }
            Self::Dlt645(request) => (request.kin(), request.subject()),
            Self::Mbus(request) => (request.kin(), request.subject()),
            Self::Cjt188(request) => (request.kin(), request.subject()),
            Self::Gdw376(request) => (request.kin(), request.subject()),
            Self::Dlt698(request) => (request.kin(), request.subject()),
        };
        Shape {
            kin,
            length: self.answer_len_max(),
            subject,
        }
    }

    /// The protocol on the wire.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Modbus(_) => Protocol::ModbusRtu,
            Self::Dlt645(request) => match request.edition() {
                dlt645::Edition::E1997 => Protocol::Dlt645_1997,
                dlt645::Edition::E2007 => Protocol::Dlt645_2007,
            },
            Self::Mbus(_) => Protocol::Mbus,
            Self::Cjt188(_) => Protocol::Cjt188,
            Self::Gdw376(_) => Protocol::Gdw376,
            Self::Dlt698(_) => Protocol::Dlt698,
        }
    }

    /// The bytes for a line.
    pub fn wire(&self) -> Vec<u8> {
        match self {
            Self::Modbus(request) => request.wire(),
            Self::Dlt645(request) => request.wire(),
            Self::Mbus(request) => request.wire(),
            Self::Cjt188(request) => request.wire(),
            Self::Gdw376(request) => request.wire(),
            Self::Dlt698(request) => request.wire(),
        }
    }

    /// Looks for the first whole frame in `buffer` and judges it. Never answers with a frame that does not match
    /// address, function or identifier, and length.
    pub fn find(&self, buffer: &[u8]) -> Finding {
        match self {
            Self::Modbus(request) => request.find(buffer),
            Self::Dlt645(request) => request.find(buffer),
            Self::Mbus(request) => request.find(buffer),
            Self::Cjt188(request) => request.find(buffer),
            Self::Gdw376(request) => request.find(buffer),
            Self::Dlt698(request) => request.find(buffer),
        }
    }

    /// The same when nothing more will come (the deadline is past): what might have grown into an answer holds nothing
    /// back any more, so that strays behind it are named as such.
    pub fn find_last(&self, buffer: &[u8]) -> Finding {
        match self {
            Self::Modbus(request) => request.find_last(buffer),
            Self::Dlt645(request) => request.find_last(buffer),
            Self::Mbus(request) => request.find_last(buffer),
            Self::Cjt188(request) => request.find_last(buffer),
            Self::Gdw376(request) => request.find_last(buffer),
            Self::Dlt698(request) => request.find_last(buffer),
        }
    }

    /// What has to be asked next to have the answer whole, given all answer frames so far, one behind the other. None
    /// when the answer is whole, or when `answers` cannot be read. The line asks it in the same visit, nobody else's
    /// question between, and gives all frames in order as the question's one answer. `self` is always the question that
    /// was planned, never a follow-up of it.
    pub fn follow_up(&self, answers: &[u8]) -> Option<Self> {
        match self {
            Self::Modbus(_) | Self::Cjt188(_) | Self::Gdw376(_) => None,
            Self::Dlt645(request) => request.follow_up(answers).map(Self::Dlt645),
            Self::Mbus(request) => request.follow_up(answers).map(Self::Mbus),
            Self::Dlt698(request) => request.follow_up(answers).map(Self::Dlt698),
        }
    }

    /// What a refusal ([`Verdict::Refused`]) of this question says, in words and with its code.
    pub fn refusal(&self, code: u8) -> String {
        self.protocol().refusal(code)
    }

    /// The most bytes that the answer frame can have, for time-out and buffer planning; 0 when the question has none (a
    /// broadcast): it is done when its bytes are out.
    pub fn answer_len_max(&self) -> usize {
        match self {
            Self::Modbus(request) => request.answer_len_max(),
            Self::Dlt645(request) => request.answer_len_max(),
            Self::Mbus(request) => request.answer_len_max(),
            Self::Cjt188(request) => request.answer_len_max(),
            Self::Gdw376(request) => request.answer_len(gdw376::Edition::E2013),
            Self::Dlt698(request) => request.answer_len_max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_speak_in_the_words_of_their_protocol() {
        let modbus = modbus::Request::read(1, modbus::Function::ReadHoldingRegisters, 0, 2).unwrap();
        let modbus = Request::Modbus(modbus);
        assert_eq!(modbus.refusal(2), "illegal data address (exception 2)");
        let address = dlt645::Address::parse("202611210837").unwrap();
        let read = |di| Request::Dlt645(dlt645::Request::read(address, di));
        let (newer, older) = (dlt645::Di::E2007(0x0001_0000), dlt645::Di::E1997(0x9010));
        assert_eq!(
            read(newer).refusal(0x04),
            "wrong password or not authorised (error word 04)"
        );
        assert_eq!(
            read(older).refusal(0x06),
            "wrong data identifier, wrong password (error word 06)"
        );
    }
}
