//! What an answer says, read against its request and written for the simulator and for Modbus TCP.

use super::frame::{EXCEPTION_FLAG, FrameError, open, seal};
use super::request::{byte_count, pack_bits, registers, unpack_bits};
use super::{Body, Request, exception_name};

/// What a unit says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Coils or discrete inputs, as many as were asked for.
    Bits(Vec<bool>),
    /// Registers, as many as were asked for.
    Registers(Vec<u16>),
    /// A write is acknowledged.
    Written,
    /// It refuses, with an exception code.
    Exception(u8),
}

/// Why a frame is not the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Another unit's.
    #[error("the frame is of unit {found}, the request of unit {expected}")]
    Unit {
        /// In the frame.
        found: u8,
        /// In the request.
        expected: u8,
    },
    /// Another function's.
    #[error("the frame has function 0x{found:02X}, the request 0x{expected:02X}")]
    Function {
        /// In the frame.
        found: u8,
        /// In the request.
        expected: u8,
    },
    /// It acknowledges something else than what was written.
    #[error("the frame acknowledges another write")]
    OtherWrite,
    /// The reply is of a kind or length that the request did not ask for.
    #[error("the reply has {found} items of its kind, the request asks for {expected} of {kind}")]
    Mismatch {
        /// In the reply.
        found: usize,
        /// In the request.
        expected: usize,
        /// `bits`, `registers` or `an acknowledgement`.
        kind: &'static str,
    },
    /// The device refused.
    #[error("refused with exception {0} ({name})", name = exception_name(*.0))]
    Refused(u8),
}

impl Request {
    /// How many data bytes the answer to a read has; none for writes.
    fn data_len(&self) -> Option<usize> {
        match self.body() {
            Body::Read { function, count, .. } if function.is_bits() => Some(usize::from(*count).div_ceil(8)),
            Body::Read { count, .. } => Some(usize::from(*count) * 2),
            _ => None,
        }
    }

    /// The length of the answer frame in bytes, exceptions aside.
    pub fn answer_len(&self) -> usize {
        self.data_len().map_or(8, |data| data + 5)
    }

    /// The most bytes of an answer or exception frame.
    pub fn answer_len_max(&self) -> usize {
        self.answer_len()
    }

    /// The frame that acknowledges this write; none for reads, whose answers carry data.
    pub(super) fn acknowledgement(&self) -> Option<Vec<u8>> {
        let pdu = match self.body() {
            Body::Read { .. } => return None,
            Body::WriteCoil { .. } | Body::WriteRegister { .. } => self.pdu(),
            Body::WriteCoils { .. } | Body::WriteRegisters { .. } => {
                let mut pdu = self.pdu();
                pdu.truncate(5);
                pdu
            }
        };
        Some(seal(self.unit(), &pdu))
    }

    /// Reads an answer frame, whole and without anything around it.
    ///
    /// # Errors
    /// [`AnswerError`] when it is not the answer or the refusal of this request.
    pub fn reply(&self, frame: &[u8]) -> Result<Reply, AnswerError> {
        let (found, pdu) = open(frame)?;
        if found != self.unit() {
            return Err(AnswerError::Unit {
                found,
                expected: self.unit(),
            });
        }
        let expected = self.function().code();
        let short = |need| FrameError::Short {
            have: frame.len(),
            need,
        };
        let (found, data) = pdu.split_first().ok_or(short(super::FRAME_MIN))?;
        if *found == expected | EXCEPTION_FLAG {
            return match data {
                [code] => Ok(Reply::Exception(*code)),
                [] => Err(short(5).into()),
                [_, more @ ..] => Err(FrameError::Trailing { extra: more.len() }.into()),
            };
        }
        if *found != expected {
            return Err(AnswerError::Function {
                found: *found,
                expected,
            });
        }
        let Some(len) = self.data_len() else {
            return match self.acknowledgement() {
                Some(acknowledgement) if acknowledgement == frame => Ok(Reply::Written),
                _ => Err(AnswerError::OtherWrite),
            };
        };
        let (count, data) = data.split_first().ok_or(short(5))?;
        if usize::from(*count) != len {
            return Err(FrameError::ByteCount {
                found: *count,
                expected: len,
            }
            .into());
        }
        if data.len() != len {
            return Err(match data.len().checked_sub(len) {
                Some(extra) => FrameError::Trailing { extra },
                None => short(len + 5),
            }
            .into());
        }
        if self.function().is_bits() {
            let mut bits = unpack_bits(data);
            bits.truncate(self.count().into());
            return Ok(Reply::Bits(bits));
        }
        Ok(Reply::Registers(registers(data)))
    }

    /// The registers of an answer frame.
    ///
    /// # Errors
    /// [`AnswerError`], also when the device refused or the request reads no registers.
    pub fn answer_registers(&self, frame: &[u8]) -> Result<Vec<u16>, AnswerError> {
        match self.reply(frame)? {
            Reply::Registers(registers) => Ok(registers),
            Reply::Exception(code) => Err(AnswerError::Refused(code)),
            other => Err(self.mismatch(&other)),
        }
    }

    /// The bits of an answer frame.
    ///
    /// # Errors
    /// [`AnswerError`], also when the device refused or the request reads no bits.
    pub fn answer_bits(&self, frame: &[u8]) -> Result<Vec<bool>, AnswerError> {
        match self.reply(frame)? {
            Reply::Bits(bits) => Ok(bits),
            Reply::Exception(code) => Err(AnswerError::Refused(code)),
            other => Err(self.mismatch(&other)),
        }
    }

    fn mismatch(&self, reply: &Reply) -> AnswerError {
        let (expected, kind) = match self.body() {
            Body::Read { function, .. } if function.is_bits() => (self.count().into(), "bits"),
            Body::Read { .. } => (self.count().into(), "registers"),
            _ => (1, "an acknowledgement"),
        };
        let found = match reply {
            Reply::Bits(bits) => bits.len(),
            Reply::Registers(registers) => registers.len(),
            Reply::Written | Reply::Exception(_) => 1,
        };
        AnswerError::Mismatch { found, expected, kind }
    }

    /// Function code and data of a reply to this request.
    ///
    /// # Errors
    /// [`AnswerError::Mismatch`] when the reply is not of the kind and length that the request asks for.
    pub fn reply_pdu(&self, reply: &Reply) -> Result<Vec<u8>, AnswerError> {
        let function = self.function();
        let wanted = usize::from(self.count());
        let data = match reply {
            Reply::Exception(code) => return Ok(vec![function.code() | EXCEPTION_FLAG, *code]),
            Reply::Bits(bits) if function.is_read() && function.is_bits() && bits.len() == wanted => pack_bits(bits),
            Reply::Registers(registers) if function.is_read() && !function.is_bits() && registers.len() == wanted => {
                registers.iter().flat_map(|register| register.to_be_bytes()).collect()
            }
            Reply::Written if !function.is_read() => {
                let mut pdu = self.pdu();
                pdu.truncate(5);
                return Ok(pdu);
            }
            other => return Err(self.mismatch(other)),
        };
        let mut pdu = vec![function.code(), byte_count(data.len())];
        pdu.extend_from_slice(&data);
        Ok(pdu)
    }

    /// The RTU frame of a reply to this request: what a slave sends, and the form in which an answer that came over
    /// Modbus TCP is handed on.
    ///
    /// # Errors
    /// [`AnswerError::Mismatch`] when the reply is not of the kind and length that the request asks for.
    pub fn reply_frame(&self, reply: &Reply) -> Result<Vec<u8>, AnswerError> {
        Ok(seal(self.unit(), &self.reply_pdu(reply)?))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::modbus::request::tests::any_request;
    use proptest::prelude::*;

    /// A reply of the right kind and length for a request.
    pub(in crate::protocol::modbus) fn fitting(request: &Request, seed: u64) -> Reply {
        let mut state = seed | 1;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u16::try_from(state >> 48).unwrap()
        };
        let count = request.count();
        match request.body() {
            _ if seed.is_multiple_of(7) => Reply::Exception(u8::try_from(next() % 11 + 1).unwrap()),
            Body::Read { function, .. } if function.is_bits() => {
                Reply::Bits((0..count).map(|_| next() & 1 == 1).collect())
            }
            Body::Read { .. } => Reply::Registers((0..count).map(|_| next()).collect()),
            _ => Reply::Written,
        }
    }

    proptest! {
        #[test]
        fn a_reply_reads_back_as_itself(request in any_request(), seed in any::<u64>()) {
            let reply = fitting(&request, seed);
            let frame = request.reply_frame(&reply).unwrap();
            prop_assert!(frame.len() <= request.answer_len_max());
            prop_assert_eq!(request.reply(&frame), Ok(reply));
        }

        #[test]
        fn random_bytes_never_panic(request in any_request(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _unused = request.reply(&bytes);
        }
    }

    #[test]
    fn a_wrong_byte_count_is_no_answer() {
        let request = Request::read(1, super::super::Function::ReadHoldingRegisters, 0, 2).unwrap();
        let other = Request::read(1, super::super::Function::ReadHoldingRegisters, 0, 1).unwrap();
        let frame = other.reply_frame(&Reply::Registers(vec![7])).unwrap();
        assert_eq!(
            request.reply(&frame),
            Err(FrameError::ByteCount { found: 2, expected: 4 }.into())
        );
        assert_eq!(
            request.reply_frame(&Reply::Registers(vec![7])),
            Err(AnswerError::Mismatch {
                found: 1,
                expected: 2,
                kind: "registers"
            })
        );
        let refusal = request.reply_frame(&Reply::Exception(2)).unwrap();
        assert_eq!(refusal, [0x01, 0x83, 0x02, 0xC0, 0xF1]);
        assert_eq!(request.answer_registers(&refusal), Err(AnswerError::Refused(2)));
    }
}
